"""A policy behind a `serving.PolicyServer`, asked as if it were here.

Needs the extra ``policy``.
"""

from __future__ import annotations

import math
import socket
import struct
import threading
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI, WebSocketException
from websockets.sync.client import ClientConnection, connect

from rynn_brain_ros.values import EngineError, EngineLostError
from rynn_brain_ros.vla.chunks import Chunk, Leftover, RuntimeSpec
from rynn_brain_ros.vla.values import Observation, PolicyError
from rynn_brain_ros.vla.wire import MAX_BYTES, chunk_from, pack, request_of, spec_from, unpack


@dataclass(frozen=True)
class _Link:
    """An open connection and the policy at its other end."""

    connection: ClientConnection
    spec: RuntimeSpec
    opened: ExitStack

    def close(self) -> None:
        with suppress(OSError, WebSocketException):
            self.opened.close()


class PolicyClient:
    """A `chunks.Policy`. Of one thread at a time; `close` may come from any, and is for good.

    ``url`` is ``ws://host:port``, or ``wss://`` where a proxy in front adds TLS: a token and the
    pictures go over ``ws://`` as they are. Connects at once, and raises `EngineError` where it
    cannot or where the server has no policy of ours.
    """

    def __init__(self, url: str, *, token: str = "", timeout_s: float = 2.0) -> None:
        self._url, self._token, self._timeout_s = url, token, timeout_s
        self._lock = threading.Lock()
        """Held while the two below change."""
        self._is_closed = False
        self._link: _Link | None = self._connected()
        self.spec = self._link.spec

    def infer(self, observation: Observation, previous: Leftover | None = None) -> Chunk:
        """Raises `EngineLostError` where the server goes away in the middle, `EngineError` where
        it does not answer in time, and `PolicyError` where it says no. After the first two the
        next call connects anew."""
        connection = self._at_hand().connection
        try:
            connection.send(pack(request_of(observation, previous)))
            answer = connection.recv(self._timeout_s)
        except TimeoutError as error:
            # What is still to come would be taken for the answer to the next question.
            self._drop()
            raise EngineError(
                f"the policy at {self._url} did not answer within {self._timeout_s:g} s"
            ) from error
        except ConnectionClosed as error:
            self._drop()
            raise EngineLostError(
                f"the policy server at {self._url} went away before its answer: {error}"
            ) from error
        if isinstance(answer, str):
            raise PolicyError(f"the policy at {self._url} says: {answer}")
        return chunk_from(unpack(answer), self.spec)

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
        self._drop()

    def _drop(self) -> None:
        with self._lock:
            link, self._link = self._link, None
        if link is not None:
            link.close()

    def _at_hand(self) -> _Link:
        link = self._link  # `close` may come at any moment
        if link is None:
            link = self._connected()
            if link.spec != self.spec:
                link.close()
                raise PolicyError(
                    f"another policy is served at {self._url} than before: start anew with it"
                )
            self._keep(link)
        return link

    def _keep(self, link: _Link) -> None:
        """Raises `EngineError` where `close` came meanwhile: nobody else would close this one."""
        with self._lock:
            if not self._is_closed:
                self._link = link
                return
        link.close()
        raise EngineError(f"the client of the policy at {self._url} was closed")

    def _connected(self) -> _Link:
        with ExitStack() as opened:
            try:
                connection = opened.enter_context(self._opening())
            except (OSError, WebSocketException, ValueError) as error:
                raise EngineError(_why(self._url, error)) from error
            try:
                first = connection.recv(self._timeout_s)
                # A server that is frozen reads nothing: pictures would wait in `send` for ever.
                connection.socket.setsockopt(
                    socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(self._timeout_s)
                )
            except (OSError, ConnectionClosed) as error:  # OSError: TimeoutError too
                raise EngineError(
                    f"the server at {self._url} does not tell its policy: {error}"
                ) from error
            if isinstance(first, str):
                raise PolicyError(f"the server at {self._url} begins with text; it is not ours")
            return _Link(connection, spec_from(unpack(first)), opened.pop_all())

    def _opening(self) -> AbstractContextManager[ClientConnection]:
        return connect(
            self._url,
            additional_headers={"Authorization": f"Bearer {self._token}"} if self._token else None,
            compression=None,
            proxy=None,  # a robot's loop goes through no proxy of its environment
            max_size=MAX_BYTES,
            open_timeout=self._timeout_s,
            close_timeout=0.2,
        )


def _timeval(seconds: float) -> bytes:
    """As the C interface of sockets wants it: whole seconds and microseconds."""
    whole = math.floor(seconds)
    return struct.pack("ll", whole, round((seconds - whole) * 1e6))


def _why(url: str, error: Exception) -> str:
    if isinstance(error, InvalidURI):
        return f"{url!r} is not the address of a policy: it must be ws://host:port"
    if isinstance(error, InvalidHandshake):
        return f"the server at {url} does not let this client in: {error}"
    return f"no policy answers at {url}: {error}; start it, or correct the address"
