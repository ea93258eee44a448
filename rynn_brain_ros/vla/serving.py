"""A policy on its own endpoint, for openpi's client and ours. See `wire` for the bytes.

One thread asks the policy, one request after the other; everything else happens in an event loop
beside it, so that a slow request keeps nobody from connecting. Needs the extra ``policy``.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from http import HTTPStatus

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed, ConnectionClosedError
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from rynn_brain_ros.config import setting
from rynn_brain_ros.listening import ThreadServer
from rynn_brain_ros.values import RynnBrainError
from rynn_brain_ros.vla.chunks import Chunk, Leftover, Policy
from rynn_brain_ros.vla.values import Observation, PolicyError
from rynn_brain_ros.vla.wire import MAX_BYTES, metadata_of, pack, request_from, unpack

_log = logging.getLogger(__name__)
_MOST_WORDS = 500
_CLOSING_S = 5.0
"""What the connections get to end, and then the policy to finish what it is at."""
_SCHEMES = frozenset({"api-key", "bearer"})
"""openpi's client shows a key as ``Authorization: Api-Key …``."""


@dataclass(frozen=True)
class PolicyLimits:
    """What the clients may cost the server."""

    clients: int = setting(4, "connections at a time", 1, 1000)
    message_bytes: int = setting(MAX_BYTES, "of one observation", 1, 1 << 30)
    ping_s: float = setting(
        5.0, "a client that does not answer pings for so long is gone [s]", 0.1, 600.0
    )


class PolicyServer(ThreadServer):
    """Serves ``policy`` from its making until `stop`; the policy remains its owner's.

    Browsers are turned away: whatever page is open here could reach a loopback address.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        host: str = "127.0.0.1",
        port: int = 8100,
        token: str = "",
        limits: PolicyLimits | None = None,
    ) -> None:
        super().__init__("ws://{}", host, port, token)
        self._policy, self._token, self._limits = policy, token, limits or PolicyLimits()
        self._n_clients = 0
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="policy")
        self._last: Future[bool] | None = None
        self._loop = asyncio.new_event_loop()
        self._server: Server | None = None
        self._start()

    @property
    def n_clients(self) -> int:
        return self._n_clients

    def stop(self) -> bool:
        """Closes every connection; what the policy is at is finished, for nobody.

        False where a connection or the policy would not end: this process cannot end by itself
        then, since Python waits for the policy's thread.
        """
        if self._server is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._server.close)
        self._thread.join(_CLOSING_S)
        return self._policy_ends() and not self._thread.is_alive()

    def _policy_ends(self) -> bool:
        if self._last is None:
            self._last = self._worker.submit(bool)
            self._worker.shutdown(wait=False)
        return bool(wait([self._last], _CLOSING_S).done)

    # --- the event loop's ------------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            self._loop.run_until_complete(self._served())
        finally:
            self._loop.close()

    async def _served(self) -> None:
        async with serve(
            self._converse,
            sock=self._socket,
            process_request=self._admit,
            origins=[None],
            compression=None,
            max_size=self._limits.message_bytes,
            max_queue=1,  # a client that sends before it has read is not kept in memory
            ping_interval=self._limits.ping_s,
            ping_timeout=self._limits.ping_s,
            close_timeout=1.0,
        ) as self._server:
            self._ready.set()
            await self._server.wait_closed()

    def _admit(self, client: ServerConnection, request: Request) -> Response | None:
        """None: go on with the handshake."""
        if request.path == "/healthz":
            return client.respond(HTTPStatus.OK, "OK\n")
        if self._token and not _shows(request, self._token):
            return client.respond(HTTPStatus.UNAUTHORIZED, "show the server's token\n")
        return None

    async def _converse(self, client: ServerConnection) -> None:
        if self._n_clients >= self._limits.clients:
            await client.close(CloseCode.TRY_AGAIN_LATER, "too many clients are here already")
            return
        self._n_clients += 1
        try:
            await client.send(pack(metadata_of(self._policy.spec)))
            last_s: float | None = None
            async for frame in client:
                started_s = time.monotonic()
                await client.send(await self._answer(client, frame, last_s))
                last_s = time.monotonic() - started_s
        except ConnectionClosed:
            _log.info("a client went away in the middle of its request")
        finally:
            self._n_clients -= 1

    async def _answer(
        self, client: ServerConnection, frame: str | bytes, last_s: float | None
    ) -> str | bytes:
        """A text frame says in one line what was wrong; the client may go on asking."""
        try:
            return await self._asked(client, frame, last_s)
        except ConnectionClosed:
            raise
        except RynnBrainError as error:
            return _one_line(str(error))
        except Exception as error:  # noqa: BLE001  (the policy is anybody's)
            _log.exception("the policy failed")
            return _one_line(f"the policy failed: {type(error).__name__}: {error}")

    async def _asked(
        self, client: ServerConnection, frame: str | bytes, last_s: float | None
    ) -> bytes:
        if isinstance(frame, str):
            raise PolicyError("an observation is a binary frame of msgpack; this one is text")
        observation, previous = request_from(unpack(frame), self._policy.spec)
        arrived_s = time.monotonic()
        chunk, started_s, ended_s = await self._inferred(client, observation, previous)
        timing = {
            "infer_ms": (ended_s - started_s) * 1e3,
            "waited_ms": (started_s - arrived_s) * 1e3,
        }
        if last_s is not None:
            timing["prev_total_ms"] = last_s * 1e3
        return pack(
            {
                "actions": chunk.astype("float32"),
                "server_timing": timing,
                "policy_timing": {"infer_ms": timing["infer_ms"]},
            }
        )

    async def _inferred(
        self, client: ServerConnection, observation: Observation, previous: Leftover | None
    ) -> tuple[Chunk, float, float]:
        """The chunk, when it was begun and when ended. A client that dies while it waits is out of
        the line; a chunk that was begun for it is finished, for nobody."""

        def infer() -> tuple[Chunk, float, float]:
            started_s = time.monotonic()
            chunk = self._policy.infer(observation, previous)
            return chunk, started_s, time.monotonic()

        asked = self._loop.run_in_executor(self._worker, infer)
        gone = asyncio.ensure_future(client.wait_closed())
        gone.add_done_callback(lambda _: asked.cancel())
        try:
            return await asked
        except asyncio.CancelledError:
            if not gone.done():
                raise
            raise ConnectionClosedError(None, None) from None
        finally:
            gone.cancel()


def _shows(request: Request, token: str) -> bool:
    scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
    known = hmac.compare_digest(shown.strip().encode(), token.encode())
    return scheme.lower() in _SCHEMES and known


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_MOST_WORDS]
