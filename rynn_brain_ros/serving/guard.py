"""Who may use the server, and how they are told that they may not."""

from __future__ import annotations

import asyncio
import hmac
import re

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rynn_brain_ros.serving.limits import Limits, Rate
from rynn_brain_ros.serving.metrics import Metrics
from rynn_brain_ros.serving.refusals import RequestError
from rynn_brain_ros.serving.replies import to_json

_OPEN = frozenset({"/healthz"})
_HERE = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?", re.IGNORECASE)
_DRAIN_S = 2.0


class Guard:
    """Lets those in who show the ``token``, at a bounded rate, and turns refusals into replies.

    Without a token only requests are answered that were addressed to this machine by name: a web
    page that somebody opens here can make its own name point to this machine.
    """

    def __init__(
        self, app: ASGIApp, token: str, limits: Limits, metrics: Metrics, paths: frozenset[str]
    ) -> None:
        self._app, self._token, self._limits = app, token, limits
        self._metrics, self._paths = metrics, paths
        self._rate = Rate(limits.rate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(receive)
        try:
            self._check(Request(scope))
            await self._app(scope, body.receive, self._counted(scope, send))
        except RequestError as error:
            if error.status != 408:
                await body.drain(self._limits.body_bytes)
            await error_response(error)(scope, receive, self._counted(scope, send))

    def _check(self, request: Request) -> None:
        # The path of the request's own line: a URL is put together with whatever Host says.
        if request.scope["path"] in _OPEN:
            return
        if self._token:
            scheme, _, shown = request.headers.get("authorization", "").partition(" ")
            known = hmac.compare_digest(shown.strip().encode(), self._token.encode())
            if scheme.lower() != "bearer" or not known:
                raise RequestError(
                    "show the server's token: Authorization: Bearer …",
                    status=401,
                    code="invalid_api_key",
                )
        elif not _HERE.fullmatch(request.headers.get("host", "")):
            raise RequestError(
                "this server answers on its own machine only; address it as 127.0.0.1 or localhost",
                status=403,
                code="wrong_host",
            )
        if request.method == "POST":
            self._rate.take(request.client.host if request.client else "")

    def _counted(self, scope: Scope, send: Send) -> Send:
        path = scope["path"] if scope["path"] in self._paths else "other"

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.requests.labels(path, str(message["status"])).inc()
            await send(message)

        return counted


class _Body:
    """A request's body on its way in."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._over = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._over = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def drain(self, most: int) -> None:
        """Reads the rest, within bounds: who is cut off while sending may never see the reply."""

        async def rest() -> None:
            read = 0
            while not self._over and read <= most:
                read += len((await self.receive()).get("body", b""))

        try:
            await asyncio.wait_for(rest(), _DRAIN_S)
        except asyncio.TimeoutError:
            return


def error_response(error: RequestError) -> Response:
    return Response(
        to_json(error.record),
        status_code=error.status,
        headers=error.headers,
        media_type="application/json",
    )
