"""A server that runs in a thread of this process, from its socket to its last answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette

from rynn_brain_ros.listening import ThreadServer
from rynn_brain_ros.serving.app import build_app
from rynn_brain_ros.serving.desk import Desk
from rynn_brain_ros.serving.limits import Limits
from rynn_brain_ros.values import Engine

_CLOSING_S = 5.0
"""What connections get to end after their questions were given up, and the engine to notice."""
_KEEP_ALIVE_S = 15


class RunningServer(ThreadServer):
    """Serves ``engine`` from its making until `stop`; the engine remains its owner's."""

    def __init__(
        self,
        engine: Engine,
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        token: str = "",
        limits: Limits | None = None,
    ) -> None:
        super().__init__("http://{}/v1", host, port, token)
        limits = limits or Limits()
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
        self._start()

    @property
    def trouble(self) -> str:
        """Why the engine cannot answer, where it knows of such a thing; else empty."""
        return self._desk.trouble

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

    def _serve(self) -> None:
        self._server.run(sockets=[self._socket])

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self._loop = asyncio.get_running_loop()
        self._ready.set()
        yield
