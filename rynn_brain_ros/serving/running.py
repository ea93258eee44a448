"""A server that runs in a thread of this process, from its socket to its last answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType

import uvicorn
from starlette.applications import Starlette

from rynn_brain_ros.listening import check_reach, listen
from rynn_brain_ros.serving.app import build_app
from rynn_brain_ros.serving.desk import Desk
from rynn_brain_ros.serving.limits import Limits
from rynn_brain_ros.values import Engine

_CLOSING_S = 5.0
"""What connections get to end after their questions were given up, and the engine to notice."""
_KEEP_ALIVE_S = 15


class RunningServer:
    """Serves ``engine`` from its making until `stop`; the engine remains its owner's.

    Raises `InputError` where it may not, or cannot, listen: addresses beyond this machine need a
    ``token``. Port 0 takes any that is free; ``url`` says which.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        token: str = "",
        limits: Limits | None = None,
    ) -> None:
        check_reach(host, token)
        limits = limits or Limits()
        self._socket = listen(host, port)
        self._desk = Desk(engine, limits.per_client)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server = uvicorn.Server(
            uvicorn.Config(
                build_app(self._desk, limits, token, self._lifespan),
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
            )
        )
        name = f"[{host}]" if ":" in host else host
        self.url = f"http://{name}:{self._socket.getsockname()[1]}/v1"
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="server", daemon=True)
        self._thread.start()
        self._ready.wait()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def stop(self, grace_s: float = 10.0) -> bool:
        """Takes no more questions, lets those inside end within ``grace_s`` and then gives them up.

        False where something would not end even so.
        """
        self._server.should_exit = True
        self._thread.join(grace_s)
        if self._thread.is_alive() and self._loop is not None:
            self._loop.call_soon_threadsafe(self._desk.stop)
            self._thread.join(_CLOSING_S)
        return not self._thread.is_alive() and self._desk.close(_CLOSING_S)

    def __enter__(self) -> RunningServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._ready.set()
            self._socket.close()

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self._loop = asyncio.get_running_loop()
        self._ready.set()
        yield
