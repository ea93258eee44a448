"""How a test waits for nodes that spin in other threads, and asks one for its transitions."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState


class Asking:
    """``change`` is the client of the node's ``change_state``."""

    patience_s = 40.0
    change: Any

    def wait_until(self, condition: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + self.patience_s
        while not condition():
            assert time.monotonic() < deadline, f"waited {self.patience_s} s for {what}"
            time.sleep(0.005)  # another thread spins: look again

    def result_of(self, future: Any, what: str = "an answer") -> Any:
        self.wait_until(future.done, what)
        return future.result()

    def call(self, client: Any, request: Any) -> Any:
        self.wait_until(client.service_is_ready, client.srv_name)
        return self.result_of(client.call_async(request), client.srv_name)

    def transition(self, transition_id: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition_id))
        return bool(self.call(self.change, request).success)
