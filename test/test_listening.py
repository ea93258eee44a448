"""Servers in a thread of this process."""

from __future__ import annotations

import pytest

from rynn_brain_ros.listening import ThreadServer
from rynn_brain_ros.values import InputError


class Failing(ThreadServer):
    """Dies before it serves."""

    def __init__(self, token: str = "", host: str = "127.0.0.1") -> None:
        super().__init__("tcp://{}", host, 0, token)
        self._start()

    def stop(self) -> bool:
        return True

    def _serve(self) -> None:
        raise RuntimeError("no memory for the event loop")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_server_that_dies_at_its_start_is_not_returned():
    with pytest.raises(InputError, match="did not start: no memory for the event loop"):
        Failing()


def test_other_machines_are_let_in_with_a_token_only():
    with pytest.raises(InputError, match="give a token"):
        Failing(host="0.0.0.0")
