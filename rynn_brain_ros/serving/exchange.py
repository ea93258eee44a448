"""One chat completion over one connection: read, ask, write, and notice when nobody listens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from rynn_brain_ros.serving.desk import Desk, Event, Job
from rynn_brain_ros.serving.kept_frames import KeptFrames
from rynn_brain_ros.serving.limits import Limits
from rynn_brain_ros.serving.metrics import Metrics
from rynn_brain_ros.serving.questions import ChatRequest, read_request
from rynn_brain_ros.serving.refusals import RequestError, busy, refusal_of, stopping
from rynn_brain_ros.serving.replies import Reply
from rynn_brain_ros.values import Answer, FinishReason

_JSON = "application/json"


class ChatExchange:
    """The ASGI application behind ``/v1/chat/completions``."""

    def __init__(self, desk: Desk, limits: Limits, metrics: Metrics) -> None:
        self._desk, self._limits, self._metrics = desk, limits, metrics
        self._kept = KeptFrames(limits.kept_bytes)
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        if self._inside > self._limits.waiting:
            raise busy(
                f"{self._inside} questions are in the house already", self._desk.retry_after_s
            )
        self._inside += 1
        try:
            asked = await self._read(request)
            client = f"{request.client.host if request.client else ''} {asked.user}"
            job = self._desk.ask(client, asked.query)
            try:
                await self._until_gone(receive, self._write(asked, job, send))
            finally:
                self._desk.leave(job)
        except ClientDisconnect:
            self._metrics.cancelled.inc()
        finally:
            self._inside -= 1

    # --- reading ---------------------------------------------------------------------------------

    async def _read(self, request: Request) -> ChatRequest:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != _JSON:  # also keeps out what a web page may send without being asked
            raise RequestError(f"send {_JSON}, not {kind or 'nothing named'}", status=415)
        try:
            body = await asyncio.wait_for(self._body(request), self._limits.body_s)
        except asyncio.TimeoutError as error:
            raise RequestError(
                f"the request was not sent within {self._limits.body_s:g} s", status=408
            ) from error
        info = self._desk.engine.info
        return await asyncio.to_thread(read_request, body, info, self._limits, self._kept)

    async def _body(self, request: Request) -> bytes:
        told = request.headers.get("content-length", "")
        body = bytearray()
        if not told.isdecimal() or int(told) <= self._limits.body_bytes:
            async for piece in request.stream():
                body += piece
                if len(body) > self._limits.body_bytes:
                    break
            else:
                return bytes(body)
        raise RequestError(
            f"the request is larger than {self._limits.body_bytes >> 20} MiB: send fewer or "
            "smaller images",
            status=413,
            code="request_too_large",
        )

    # --- writing ---------------------------------------------------------------------------------

    async def _until_gone(self, receive: Receive, writing: asyncio.Future[None]) -> None:
        """Raises `ClientDisconnect` when the client hangs up before the end."""
        leaving = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({writing, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not writing.done():
                raise ClientDisconnect
            writing.result()
        finally:
            leaving.cancel()
            writing.cancel()

    def _write(self, asked: ChatRequest, job: Job, send: Send) -> asyncio.Future[None]:
        reply = Reply(asked, self._desk.engine.info.model)
        write = self._stream if asked.stream else self._whole
        return asyncio.ensure_future(write(reply, job, send))

    async def _whole(self, reply: Reply, job: Job, send: Send) -> None:
        async for event in self._events(job):
            if isinstance(event, Answer):
                await _begin(send, _JSON)
                await _send(send, reply.whole(event), last=True)

    async def _stream(self, reply: Reply, job: Job, send: Send) -> None:
        """The status waits for the first text: until then a failure gets a status of its own."""
        started = False
        try:
            async for event in self._events(job):
                if not started:
                    started = True
                    await _begin(send, "text/event-stream")
                    await _send(send, reply.first())
                if isinstance(event, str):
                    await _send(send, reply.piece(event))
                else:
                    await _send(send, reply.last(event), last=True)
        except RequestError as error:
            if not started:
                raise
            await _send(send, reply.failed(error), last=True)

    async def _events(self, job: Job) -> AsyncIterator[str | Answer]:
        """Pieces of text and then the answer. Raises `RequestError` where there is none."""
        started_s, first = time.monotonic(), True
        while True:
            event = _sound(await job.event())
            if first:
                first = False
                self._metrics.first_text_seconds.observe(time.monotonic() - started_s)
            if isinstance(event, Answer):
                self._metrics.answered(event)
                self._metrics.answer_seconds.observe(time.monotonic() - started_s)
            yield event
            if isinstance(event, Answer):
                return


def _sound(event: Event) -> str | Answer:
    if isinstance(event, BaseException):
        raise refusal_of(event) from event
    if isinstance(event, Answer) and event.finish_reason is FinishReason.CANCELLED:
        raise stopping()
    return event


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _begin(send: Send, kind: str) -> None:
    headers = [(b"content-type", kind.encode()), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _send(send: Send, data: bytes, last: bool = False) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": not last})
