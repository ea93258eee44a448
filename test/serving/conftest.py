from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from rynn_brain_ros.serving import Limits
from rynn_brain_ros.values import Engine

Serve = Callable[..., Any]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts real servers on free ports of this machine, and stops them."""
    pytest.importorskip("starlette", reason="the extra serve is not installed")
    pytest.importorskip("uvicorn", reason="the extra serve is not installed")
    pytest.importorskip("prometheus_client", reason="the extra serve is not installed")
    from rynn_brain_ros.serving.running import RunningServer  # noqa: PLC0415

    with ExitStack() as running:

        def start(engine: Engine, token: str = "", **limits: Any) -> RunningServer:
            server = RunningServer(engine, port=0, token=token, limits=Limits(**limits))
            running.callback(server.stop, 0.0)
            return server

        yield start
