"""The ``http`` engine: RynnBrain behind any OpenAI-compatible server.

vLLM, SGLang, TensorRT-LLM and llama-server all speak chat completions; the model stays out of
ROS's Python, on this machine or another. The question's prompt, frames and budget are ours: the
server only continues the text.

Grounding drifts between servers and their versions (vLLM 0.11.1 to 0.12 shifted Qwen3-VL's boxes,
llama.cpp needs a build after July 2026 and ``--image-min-tokens 1024``): compare with answers
recorded on a server that you trust (``rynn-brain replay --expect``) before you rely on one.
"""

from __future__ import annotations

import base64
import contextlib
import difflib
import json
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from rynn_brain_ros.language import StreamParser, compose
from rynn_brain_ros.models.image_grid import on_grid
from rynn_brain_ros.values import (
    Answer,
    Cancel,
    EngineError,
    EngineInfo,
    FinishReason,
    Generation,
    ImagePart,
    InputError,
    Message,
    Query,
    TextPart,
    Timings,
    TokenProbability,
)

TOKEN_VARIABLE = "RYNN_BRAIN_API_KEY"
_CONNECT_S = 5.0
_LOOK_S = 0.02
"""How often a running answer is checked for cancellation and budget."""
_BUSY = frozenset({429, 503})
_MAX_SIDE_PX, _MAX_ASPECT = 16384, 200
_WRONG_SHAPE = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)


class HttpEngine:
    """Asks one model of one server. Raises `EngineError` when the server is not to be had and
    `InputError` when it has no such model.

    ``token`` is sent as a bearer token (default: the environment's ``RYNN_BRAIN_API_KEY``).
    """

    def __init__(self, url: str, model: str = "", token: str | None = None) -> None:
        token = os.environ.get(TOKEN_VARIABLE, "") if token is None else token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._url = url.rstrip("/")
        self._client = httpx.Client(headers=headers, timeout=_CONNECT_S, trust_env=False)
        self._logprobs = True
        try:
            found = _choose(self._url, self._models(), model)
        except BaseException:
            self._client.close()
            raise
        self._info = EngineInfo(name="http", model=found, generation=generation_of(found))

    @property
    def info(self) -> EngineInfo:
        return self._info

    def ask(
        self,
        query: Query,
        on_text: Callable[[str], None] | None = None,
        cancel: Cancel | None = None,
    ) -> Answer:
        """Streams the answer; stops the server's work when cancelled, when the budget is used up
        and when the one grounding that was asked for is complete."""
        run = _Run(query, on_text, cancel, time.monotonic())
        body = self._body(query)
        while not run.cancelled:
            if self._attempt(body, run):
                break
        return run.answer(self._info)

    def close(self) -> None:
        self._client.close()

    # --- talking -----------------------------------------------------------------------------

    def _models(self) -> list[str]:
        try:
            reply = self._client.get(f"{self._url}/models")
        except httpx.HTTPError as error:
            raise EngineError(_unreachable(self._url, error)) from error
        record = self._json(reply)
        try:
            return [str(model["id"]) for model in record["data"]]
        except (KeyError, TypeError) as error:
            raise EngineError(
                f"{self._url}/models lists no models: {_short(reply.text)}"
            ) from error

    def _body(self, query: Query) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._info.model,
            "messages": _messages(query, self._info.generation),
            "max_tokens": query.budget.max_new_tokens,
            "temperature": 0.0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if self._info.generation is Generation.V1_1:
            body["chat_template_kwargs"] = {"enable_thinking": False}
        return body

    def _attempt(self, body: dict[str, Any], run: _Run) -> bool:
        """One request; false when it may be made again (nothing had been answered yet)."""
        if self._logprobs:
            body = {**body, "logprobs": True}
        timeout = httpx.Timeout(run.left_s, connect=min(_CONNECT_S, run.left_s))
        try:
            with (
                self._client.stream(
                    "POST", f"{self._url}/chat/completions", json=body, timeout=timeout
                ) as reply,
                _Watch(run, reply),
            ):
                return self._read(reply, run)
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            if run.cancelled or run.finished:
                return True
            if run.left_s <= 0 or isinstance(error, httpx.TimeoutException):
                raise EngineError(_too_slow(self._url, run)) from error
            if run.text:
                raise EngineError(
                    f"{self._url} closed the connection in the middle of an answer, after "
                    f"{_short(run.text)!r}: did the server die?"
                ) from error
            raise EngineError(_unreachable(self._url, error)) from error

    def _read(self, reply: httpx.Response, run: _Run) -> bool:
        if reply.status_code in _BUSY:
            return self._wait(reply, run)
        if reply.status_code == 400 and self._logprobs and "logprob" in reply.read().decode():
            self._logprobs = False  # not every server gives them: then confidence is unknown
            return False
        if reply.status_code != 200:
            reply.read()
            self._json(reply)
        kind = reply.headers.get("content-type", "")
        if "text/event-stream" not in kind:
            reply.read()
            raise EngineError(
                f"{self._url} answered {kind or 'without a content type'} instead of a stream: "
                f"{_short(reply.text)!r}; is this an OpenAI-compatible server?"
            )
        for event in _events(reply):
            run.take(self._piece(event))
            if run.finished:
                return True
        if not run.finish_reason and not run.cancelled:
            if run.left_s <= 0:
                raise EngineError(_too_slow(self._url, run))
            raise EngineError(
                f"{self._url} ended its stream without finishing the answer {_short(run.text)!r}"
            )
        return True

    def _wait(self, reply: httpx.Response, run: _Run) -> bool:
        """A busy server is asked again while the budget lasts: nothing was answered yet."""
        wait_s = _retry_after_s(reply)
        if wait_s >= run.left_s:
            raise EngineError(
                f"{self._url} is busy (HTTP {reply.status_code}) and the question's "
                f"{run.query.budget.timeout_s:g} s do not allow to ask again"
            )
        run.pause(wait_s)
        return False

    def _piece(self, event: str) -> _Piece:
        try:
            chunk = json.loads(event)
            if not isinstance(chunk, dict):
                raise TypeError("not an object")
            if "error" in chunk:
                raise EngineError(f"{self._url} failed while answering: {_message(chunk)}")
            return _Piece.read(chunk)
        except _WRONG_SHAPE as error:
            raise EngineError(f"{self._url} streamed {_short(event)!r}: {error}") from error

    def _json(self, reply: httpx.Response) -> dict[str, Any]:
        """The reply's JSON object. Raises `EngineError` for anything else."""
        try:
            record = reply.json()
        except (ValueError, RecursionError):
            record = None
        if reply.status_code == 200 and isinstance(record, dict):
            return record
        said = _message(record) if isinstance(record, dict) else _short(reply.text)
        hint = ""
        if reply.status_code in (401, 403):
            hint = f"; set {TOKEN_VARIABLE} to the server's token"
        elif reply.status_code == 404:
            hint = "; does the URL end in /v1?"
        raise EngineError(f"{self._url} answered HTTP {reply.status_code}: {said!r}{hint}")


@dataclass(frozen=True)
class _Piece:
    """What one event of the stream brings: text, its tokens with probabilities, an ending."""

    text: str
    tokens: tuple[tuple[str, float], ...] = ()
    finish_reason: str = ""
    prompt_tokens: int = -1
    completion_tokens: int = -1

    @classmethod
    def read(cls, chunk: dict[str, Any]) -> _Piece:
        """Raises KeyError, TypeError, ValueError or AttributeError for another shape."""
        usage = chunk.get("usage") or {}
        choice: dict[str, Any] = next(iter(chunk.get("choices") or ()), {})
        text = (choice.get("delta") or {}).get("content") or ""
        if not isinstance(text, str):
            raise TypeError("content is no text")
        tokens = (choice.get("logprobs") or {}).get("content") or ()
        return cls(
            text,
            tuple((str(t["token"]), min(1.0, math.exp(t["logprob"]))) for t in tokens),
            str(choice.get("finish_reason") or ""),
            int(usage.get("prompt_tokens", -1)),
            int(usage.get("completion_tokens", -1)),
        )


@dataclass
class _Run:
    """One answer while it is being written."""

    query: Query
    on_text: Callable[[str], None] | None
    cancel: Cancel | None
    started: float
    text: str = ""
    finish_reason: str = ""
    first_s: float = math.nan
    prompt_tokens: int = -1
    completion_tokens: int = -1
    probabilities: list[TokenProbability] = field(default_factory=list)
    complete: bool = False

    def __post_init__(self) -> None:
        query = self.query
        self._parser = StreamParser(len(query.frames), query.task, thinking=query.thinking)

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.started

    @property
    def left_s(self) -> float:
        return max(0.0, self.query.budget.timeout_s - self.elapsed_s)

    @property
    def cancelled(self) -> bool:
        return self.cancel is not None and self.cancel.is_set()

    @property
    def finished(self) -> bool:
        """Nothing that may still come is wanted."""
        return self.complete or self.cancelled

    def pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        waiter = threading.Event()
        while not self.cancelled and time.monotonic() < until:
            waiter.wait(min(_LOOK_S, seconds))

    def take(self, piece: _Piece) -> None:
        self.prompt_tokens = piece.prompt_tokens if piece.prompt_tokens >= 0 else self.prompt_tokens
        if piece.completion_tokens >= 0:
            self.completion_tokens = piece.completion_tokens
        self.finish_reason = piece.finish_reason or self.finish_reason
        start = len(self.text)
        for token, probability in piece.tokens:
            end = start + len(token)  # tokens follow each other; those of a piece come with it
            self.probabilities.append(TokenProbability(start, end, probability))
            start = end
        if piece.text:
            self._write(piece.text)

    def _write(self, text: str) -> None:
        if not self.text:
            self.first_s = self.elapsed_s
        self.text += text
        if self.on_text is not None:
            self.on_text(text)
        closed = [g for g in self._parser.feed(text) if not g.is_reasoning]
        self.complete = bool(closed) and self.query.task.needs_grounding

    def answer(self, info: EngineInfo) -> Answer:
        reason = FinishReason.LENGTH if self.finish_reason == "length" else FinishReason.STOP
        total_s = self.elapsed_s
        return Answer(
            query_id=self.query.query_id,
            text=self.text,
            finish_reason=FinishReason.CANCELLED if self.cancelled else reason,
            engine=info.name,
            model=info.model,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            timings=Timings(
                prefill_s=self.first_s, decode_s=total_s - self.first_s, total_s=total_s
            ),
            token_probabilities=tuple(t for t in self.probabilities if t.end <= len(self.text)),
        )


class _Watch:
    """Closes a reply when its question is cancelled or its budget used up, even while the server
    is silent. Closing the connection is what stops the server's work."""

    def __init__(self, run: _Run, reply: httpx.Response) -> None:
        self._run, self._reply = run, reply
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="http-watch", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(_LOOK_S):
            if self._run.cancelled or self._run.left_s <= 0:
                _shut(self._reply)
                return


def _shut(reply: httpx.Response) -> None:
    """Ends a read that another thread is blocked in: closing alone would leave it waiting."""
    stream = reply.extensions.get("network_stream")
    sock = stream.get_extra_info("socket") if stream is not None else None
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def _events(reply: httpx.Response) -> Iterator[str]:
    """The data of server-sent events, until ``[DONE]``.

    https://html.spec.whatwg.org/multipage/server-sent-events.html
    """
    for line in reply.iter_lines():
        name, _, value = line.partition(":")
        if name != "data":
            continue
        value = value.removeprefix(" ")
        if value.strip() == "[DONE]":
            return
        yield value


def _messages(query: Query, generation: Generation) -> list[dict[str, Any]]:
    pictures: dict[str, str] = {}
    return [
        {
            "role": message.role,
            "content": [
                _part(part, query.frames.max_visual_tokens, pictures) for part in message.parts
            ],
        }
        for message in _checked(compose(query, generation))
    ]


def _checked(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    for message in messages:
        for part in message.parts:
            if not isinstance(part, ImagePart):
                continue
            width, height = part.image.width, part.image.height
            if max(width, height) > _MAX_SIDE_PX or max(width, height) > 200 * min(width, height):
                raise InputError(
                    f"an image of {width}×{height} pixels ({part.image.frame.camera}) cannot be "
                    f"shown to the model: sides up to {_MAX_SIDE_PX} pixels, aspect ratio up to "
                    f"{_MAX_ASPECT}"
                )
    return messages


def _part(part: TextPart | ImagePart, max_tokens: int, pictures: dict[str, str]) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    digest = part.image.sha256
    if digest not in pictures:
        data, mime = on_grid(part.image, max_tokens)
        pictures[digest] = f"data:{mime};base64,{base64.b64encode(data).decode()}"
    return {"type": "image_url", "image_url": {"url": pictures[digest]}}


def generation_of(model: str) -> Generation:
    """1.1 checkpoints carry it in their name (RynnBrain1.1-2B); all others are of 1.0."""
    return Generation.V1_1 if "1.1" in model.replace("_", ".") else Generation.V1_0


def _choose(url: str, models: list[str], wanted: str) -> str:
    if wanted in models:
        return wanted
    listed = ", ".join(models) or "none"
    if wanted:
        near = difflib.get_close_matches(wanted, models, n=1, cutoff=0.3)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(f"{url} serves no model {wanted!r}; {hint}it serves: {listed}")
    if len(models) != 1:
        raise InputError(f"{url} serves {listed}: choose one as {url}#MODEL")
    return models[0]


def _retry_after_s(reply: httpx.Response) -> float:
    try:
        return max(0.1, float(reply.headers.get("retry-after", "1")))
    except ValueError:
        return 1.0


def _unreachable(url: str, error: Exception) -> str:
    said = str(error) or type(error).__name__
    return f"no answer from {url} ({said}): is the server running, and is the URL right?"


def _too_slow(url: str, run: _Run) -> str:
    return (
        f"{url} did not finish its answer within {run.query.budget.timeout_s:g} s"
        f" (it had written {_short(run.text)!r})"
    )


def _message(record: dict[str, Any]) -> str:
    error = record.get("error", record)
    said = error.get("message", error) if isinstance(error, dict) else error
    return _short(str(said))


def _short(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= 120 else f"{plain[:117]}…"
