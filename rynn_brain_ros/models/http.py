"""The ``http`` engine: RynnBrain behind any OpenAI-compatible server.

vLLM, SGLang, TensorRT-LLM, llama-server and our own ``rynn-brain serve`` all speak chat
completions; the model stays out of ROS's Python, on this machine or another. The question's
prompt, frames and budget are ours: the server only continues the text.

Grounding drifts between servers and their versions: ``notes`` says what is known of this one.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, wait
from typing import Any

import httpx

from rynn_brain_ros.models.http_request import request_body
from rynn_brain_ros.models.http_run import LOOK_S, Run, Scissors
from rynn_brain_ros.models.http_stream import WRONG_SHAPE, Piece, events, short, text_of
from rynn_brain_ros.models.profiles import profile_for, tells_generation
from rynn_brain_ros.models.servers import server_notes
from rynn_brain_ros.models.wire import FIELD, FORGOTTEN, read_info
from rynn_brain_ros.values import (
    Answer,
    Cancel,
    EngineError,
    EngineInfo,
    EngineLostError,
    Generation,
    InputError,
    Query,
    UnreadableQuestionError,
    UnsupportedTaskError,
)

TOKEN_VARIABLE = "RYNN_BRAIN_API_KEY"
_LOG = logging.getLogger(__name__)
_CONNECT_S = 5.0
_BUSY = frozenset({429, 503})
_GAVE_UP = frozenset({"abort", "error"})
"""Reasons of servers that were stopped or broke in the middle of an answer."""
_UNREADABLE = frozenset({400, 413, 422})


class HttpEngine:
    """Asks one model of one server. Raises `EngineError` when the server is not to be had and
    `InputError` when it has no such model.

    ``token`` is sent as a bearer token (default: the environment's ``RYNN_BRAIN_API_KEY``). The
    engine is called ``name``, by which verdicts know it; empty: what a server of ours calls it.
    """

    def __init__(
        self, url: str, model: str = "", token: str | None = None, name: str = "http"
    ) -> None:
        token = os.environ.get(TOKEN_VARIABLE, "") if token is None else token
        if not token.isascii():
            raise InputError(f"{TOKEN_VARIABLE} holds characters that no server can be sent")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._url = url.rstrip("/")
        # Each question has a connection of its own: cutting it ends the server's work on this one
        # question, and none is ever reused that the server has closed.
        self._client = httpx.Client(
            headers=headers,
            timeout=_CONNECT_S,
            trust_env=False,
            limits=httpx.Limits(max_keepalive_connections=0),
        )
        self._logprobs, self._switches_thinking = True, False
        self._known: frozenset[str] = frozenset()
        self._user = uuid.uuid4().hex
        try:
            entry = self._find(model)
            self._ours = FIELD in entry
            self._info = _info(self._url, entry, name)
            self.notes = server_notes(str(entry.get("owned_by", "")), self._page)
            if not self._ours:
                self._suppose()
        except BaseException:
            self._client.close()
            raise
        for note in self.notes:
            _LOG.warning("%s: %s", self._url, note)

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
        and when the one grounding that was asked for is complete.

        Raises `EngineLostError` where the server goes away meanwhile, `UnreadableQuestionError`
        for what it does not take, and `EngineError` for all other trouble with it.
        """
        if query.task not in self._info.tasks:
            raise UnsupportedTaskError(
                f"{self._info.model} at {self._url} cannot answer task {query.task.value}"
            )
        run = Run(
            query,
            on_text,
            cancel,
            ends_early=not self._ours,
            known=self._known,
            logprobs=self._logprobs and not self._ours,
            switches_thinking=self._switches_thinking,
        )
        while not run.ended:
            with contextlib.closing(self._pieces(run)) as pieces:
                for piece in pieces:
                    run.take(piece)
                    if run.ended_early:
                        break
        return run.answer(self._info)

    def is_there(self, within_s: float) -> bool:
        """Whether a server of ours says anything about its health in time, good or bad."""
        try:
            self._client.get(self._url.removesuffix("/v1") + "/healthz", timeout=within_s)
        except (httpx.HTTPError, OSError):
            return False
        return True

    def close(self) -> None:
        self._client.close()

    # --- what the server has -----------------------------------------------------------------

    def _find(self, wanted: str) -> dict[str, Any]:
        """The model's entry in the server's list."""
        record = self._get(f"{self._url}/models")
        try:
            entries = {str(entry["id"]): dict(entry) for entry in record["data"]}
        except WRONG_SHAPE as error:
            raise EngineError(
                f"{self._url}/models lists no models: {short(json.dumps(record))}"
            ) from error
        return entries[_choose(self._url, list(entries), wanted)]

    def _suppose(self) -> None:
        """What a server does not tell of its model, its name does, or it is said what is supposed.
        A model that may think is told not to: a point that it rejects while it thinks would be
        taken for its answer."""
        told = tells_generation(self._info.model)
        self._switches_thinking = not told or self._info.generation is Generation.V1_1
        if not told:
            self.notes += (
                f"{self._info.model!r} does not say which RynnBrain it is: asked as RynnBrain 1.0, "
                "without thinking; serve it under its checkpoint's name",
            )

    def _page(self, path: str) -> Any:
        """A page beside the protocol, which not every server has."""
        try:
            return self._get(self._url.removesuffix("/v1") + path)
        except EngineError:
            return None

    def _get(self, url: str) -> dict[str, Any]:
        until = time.monotonic() + 2 * _CONNECT_S
        try:
            with self._client.stream("GET", url) as reply:
                return self._json(reply, text_of(reply, until))
        except (httpx.InvalidURL, UnicodeError) as error:
            raise InputError(f"{self._url} is no address of a server: {error}") from error
        except (httpx.HTTPError, OSError) as error:
            raise EngineError(_unreachable(self._url, error)) from error

    # --- one question ------------------------------------------------------------------------

    def _pieces(self, run: Run) -> Generator[Piece, None, None]:
        """One request. Brings nothing where it should be made again."""
        body = request_body(
            run.query,
            self._info,
            ours=self._ours,
            known=run.known,
            switches_thinking=run.switches_thinking,
        )
        if self._ours:
            body["user"] = self._user
        elif run.logprobs:
            body["logprobs"] = True
        try:
            with (
                Scissors(run) as scissors,
                contextlib.closing(self._open(run, scissors, body)) as reply,
            ):
                yield from self._read(reply, run)
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            if not run.cancelled:
                raise self._trouble(run, error) from error
        except RuntimeError as error:  # httpx's word for it, in whichever thread `close` came first
            if not self._client.is_closed:
                raise
            raise EngineLostError(
                f"the connection to {self._url} was closed on this side"
            ) from error

    def _open(self, run: Run, scissors: Scissors, body: dict[str, Any]) -> httpx.Response:
        """The beginning of a reply. Opened in a thread of its own: while a name is looked up and an
        address is silent there is nothing yet to cut."""
        request = self._client.build_request(
            "POST",
            f"{self._url}/chat/completions",
            json=body,
            timeout=httpx.Timeout(run.left_s, connect=min(_CONNECT_S, run.left_s)),
            extensions={"trace": scissors.trace},
        )
        opened: Future[httpx.Response] = Future()

        def send() -> None:
            try:
                reply = self._client.send(request, stream=True)
            except BaseException as error:  # noqa: BLE001  # of the one who waits
                if opened.set_running_or_notify_cancel():
                    opened.set_exception(error)
            else:
                if opened.set_running_or_notify_cancel():
                    opened.set_result(reply)
                else:
                    reply.close()

        threading.Thread(target=send, name="http-open", daemon=True).start()
        while not wait([opened], LOOK_S).done:
            over = run.cancelled or run.left_s <= 0
            if over and not scissors.has_connection and opened.cancel():
                raise httpx.ConnectTimeout("no connection in time")
        return opened.result()

    def _trouble(self, run: Run, error: Exception) -> EngineError:
        if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)):
            return EngineError(_unreachable(self._url, error))
        if run.left_s <= 0 or isinstance(error, httpx.TimeoutException):
            return EngineError(_too_slow(self._url, run))
        where = f"in the middle of an answer, after {short(run.text)!r}" if run.text else "silently"
        return EngineLostError(f"{self._url} closed the connection {where}: did the server die?")

    def _read(self, reply: httpx.Response, run: Run) -> Iterator[Piece]:
        kind = reply.headers.get("content-type", "")
        if reply.status_code in _BUSY:
            self._wait(reply, run)
        elif reply.status_code != 200 or "text/event-stream" not in kind:
            self._refused(reply, text_of(reply), run)
        else:
            self._known = _digests(run.query) if self._ours else frozenset()
            yield from self._streamed(reply, run)
            if not run.finish_reason and not run.cancelled:
                if run.left_s <= 0:
                    raise EngineError(_too_slow(self._url, run))
                raise EngineLostError(
                    f"{self._url} ended its stream without finishing the answer {short(run.text)!r}"
                )
            if run.finish_reason in _GAVE_UP and not run.cancelled:
                raise EngineLostError(
                    f"{self._url} gave up ({run.finish_reason}) in the middle of the answer "
                    f"{short(run.text)!r}"
                )

    def _streamed(self, reply: httpx.Response, run: Run) -> Iterator[Piece]:
        try:
            yield from (self._piece(event) for event in events(reply))
        except (httpx.HTTPError, httpx.StreamError, OSError, EngineError):
            if not run.finish_reason:  # what it still had to say is not the answer
                raise

    def _refused(self, reply: httpx.Response, said: str, run: Run) -> None:
        """Raises, except where another request may do."""
        if reply.status_code == 400 and run.logprobs and "logprob" in said:
            # Not every server gives them: then confidence is unknown.
            self._logprobs = run.logprobs = False
            return
        supposed = run.switches_thinking and self._info.generation is not Generation.V1_1
        if reply.status_code == 400 and supposed and "chat_template" in said:
            self._switches_thinking = run.switches_thinking = False
            _LOG.warning("%s: its model may think, it cannot be told not to", self._url)
            return
        if reply.status_code == FORGOTTEN and run.known:
            self._known = run.known = frozenset()
            return
        if reply.status_code != 200:
            self._json(reply, said)
        kind = reply.headers.get("content-type", "")
        raise EngineError(
            f"{self._url} answered {kind or 'without a content type'} instead of a stream: "
            f"{short(said)!r}; is this an OpenAI-compatible server?"
        )

    def _wait(self, reply: httpx.Response, run: Run) -> None:
        """A busy server is asked again while the budget lasts: nothing was answered yet."""
        wait_s = _retry_after_s(reply)
        if wait_s >= run.left_s:
            raise EngineError(
                f"{self._url} is busy (HTTP {reply.status_code}: {short(text_of(reply))}) and the "
                f"question's {run.query.budget.timeout_s:g} s do not allow to ask again"
            )
        run.pause(wait_s)

    def _piece(self, event: str) -> Piece:
        try:
            chunk = json.loads(event)
            if not isinstance(chunk, dict):
                raise TypeError("not an object")
            if chunk.get("error"):
                raise EngineError(f"{self._url} failed while answering: {_message(chunk)}")
            return Piece.read(chunk)
        except WRONG_SHAPE as error:
            raise EngineError(f"{self._url} streamed {short(event)!r}: {error}") from error

    def _json(self, reply: httpx.Response, text: str) -> dict[str, Any]:
        """The reply's JSON object. Raises `EngineError` for anything else."""
        try:
            record = json.loads(text)
        except (ValueError, RecursionError):
            record = None
        if reply.status_code == 200 and isinstance(record, dict):
            return record
        said = _message(record) if isinstance(record, dict) else short(text)
        hint = ""
        if reply.status_code in (401, 403):
            hint = f"; set {TOKEN_VARIABLE} to the server's token"
        elif reply.status_code == 404 and "model" not in said.lower():
            hint = "; does the URL end in /v1?"
        kind = UnreadableQuestionError if reply.status_code in _UNREADABLE else EngineError
        raise kind(f"{self._url} answered HTTP {reply.status_code}: {said}{hint}")


def _info(url: str, entry: dict[str, Any], name: str) -> EngineInfo:
    """What the server tells of a model; of one that tells nothing, what its name says."""
    model = str(entry["id"])
    if FIELD not in entry:
        return EngineInfo(name=name, model=model, generation=profile_for(model).generation)
    try:
        return read_info(entry[FIELD], name, model)
    except WRONG_SHAPE as error:
        raise EngineError(
            f"{url} speaks another version of this package: {error}; update the older one"
        ) from error


def _digests(query: Query) -> frozenset[str]:
    """Of all pictures that the question shows."""
    windows = (*(turn.frames for turn in query.history), query.frames)
    return frozenset(frame.sha256 for window in windows for frame in window)


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


def _too_slow(url: str, run: Run) -> str:
    return (
        f"{url} did not finish its answer within {run.query.budget.timeout_s:g} s"
        f" (it had written {short(run.text)!r})"
    )


def _message(record: dict[str, Any]) -> str:
    error = record.get("error", record)
    said = error.get("message", error) if isinstance(error, dict) else error
    return short(str(said), 400)
