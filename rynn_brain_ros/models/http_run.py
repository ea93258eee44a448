"""One question to a server while it is being answered, and how it is cut off."""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rynn_brain_ros.models.completion import Completion
from rynn_brain_ros.models.http_stream import Piece
from rynn_brain_ros.models.wire import Told
from rynn_brain_ros.values import (
    Answer,
    Cancel,
    EngineInfo,
    FinishReason,
    Query,
    Timings,
    TokenProbability,
)

_WHOLE = frozenset({"", "stop", "eos", "eos_token", "stop_sequence", "end_turn"})
"""Why an answer is over that was said to its end, "" where it was ended here. Any other reason cut
it, and what is cut is acted on as little as what ran out of tokens."""
_USAGE_S = 1.0
"""What a server gets, after it said why an answer is over, to count its tokens and end its stream:
not all of them do."""
LOOK_S = 0.02
"""How often a running answer is checked for cancellation and budget."""


@dataclass
class Run:
    """One answer while it is being written.

    ``ends_early``: the rest is not wanted once what was asked for is complete. Our own server ends
    there by itself, and then says more about its answer.

    ``known``, ``logprobs`` and ``switches_thinking`` are what its next request says: a refusal is
    about what was sent, whatever other questions have learned of the server meanwhile.
    """

    query: Query
    on_text: Callable[[str], None] | None
    cancel: Cancel | None
    ends_early: bool = True
    known: frozenset[str] = frozenset()
    logprobs: bool = False
    switches_thinking: bool = False
    started: float = field(default_factory=time.monotonic)
    text: str = ""
    finish_reason: str = ""
    finished_s: float = math.inf
    first_s: float = math.nan
    prompt_tokens: int = -1
    completion_tokens: int = -1
    probabilities: list[TokenProbability] = field(default_factory=list)
    told: Told | None = None

    def __post_init__(self) -> None:
        self._completion = Completion(self.query)
        self._is_thinking = False

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.started

    @property
    def left_s(self) -> float:
        """Until its connection is cut. An answer that is over needs little more."""
        until_s = min(self.query.budget.timeout_s, self.finished_s + _USAGE_S)
        return max(0.0, until_s - self.elapsed_s)

    @property
    def cancelled(self) -> bool:
        return self.cancel is not None and self.cancel.is_set()

    @property
    def ended_early(self) -> bool:
        """Nothing that may still come is wanted."""
        return (self.ends_early and self._completion.reached) or self.cancelled

    @property
    def ended(self) -> bool:
        return self.ended_early or bool(self.finish_reason)

    def pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        waiter = threading.Event()
        while not self.cancelled and time.monotonic() < until:
            waiter.wait(min(LOOK_S, seconds))

    def take(self, piece: Piece) -> None:
        self.prompt_tokens = piece.prompt_tokens if piece.prompt_tokens >= 0 else self.prompt_tokens
        if piece.completion_tokens >= 0:
            self.completion_tokens = piece.completion_tokens
        if piece.finish_reason:
            self.finish_reason = piece.finish_reason
            self.finished_s = min(self.finished_s, self.elapsed_s)
        self.told = piece.told or self.told
        text = self._as_written(piece)
        start = len(self.text) + len(text) - len(piece.text or piece.thought)
        for token, probability in piece.tokens:
            end = start + len(token)  # tokens follow each other; those of a piece come with it
            if not math.isnan(probability):
                self.probabilities.append(TokenProbability(start, end, probability))
            start = end
        if text:
            self._write(text)

    def _as_written(self, piece: Piece) -> str:
        """With a thought that was told apart where the model wrote it."""
        text = ""
        if piece.thought:
            text = piece.thought if self._is_thinking else f"<think>{piece.thought}"
            self._is_thinking = True
        if piece.text and self._is_thinking:
            text += "</think>"
            self._is_thinking = False
        return text + piece.text

    def _write(self, text: str) -> None:
        if not self.text:
            self.first_s = self.elapsed_s
        self.text += text
        if self.on_text is not None:
            self.on_text(text)
        self._completion.feed(text)

    def answer(self, info: EngineInfo) -> Answer:
        reason = FinishReason.STOP if self.finish_reason in _WHOLE else FinishReason.LENGTH
        told = self.told
        probabilities = told.token_probabilities if told is not None else self.probabilities
        return Answer(
            query_id=self.query.query_id,
            text=self.text,
            finish_reason=FinishReason.CANCELLED if self.cancelled else reason,
            engine=info.name,
            model=info.model,
            revision=told.revision if told is not None else info.revision,
            quantization=told.quantization if told is not None else info.quantization,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            timings=self._timings(),
            token_probabilities=tuple(t for t in probabilities if t.end <= len(self.text)),
        )

    def _timings(self) -> Timings:
        """The stages as the server tells them; the total is the time waited here."""
        total_s = self.elapsed_s
        if self.told is None:
            return Timings(prefill_s=self.first_s, decode_s=total_s - self.first_s, total_s=total_s)
        stages = self.told.timings
        return Timings(
            stages.queue_s, stages.encode_s, stages.prefill_s, stages.decode_s, total_s=total_s
        )


class Scissors:
    """Cuts a question's connection when it is cancelled or its budget used up, even while the
    server is silent. That, and nothing less, stops the server's work.

    ``trace`` is for httpcore, which tells it the connection (its "trace" extension).
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._socket: socket.socket | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="http-watch", daemon=True)

    def __enter__(self) -> Scissors:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._socket = info["return_value"].get_extra_info("socket")

    @property
    def has_connection(self) -> bool:
        return self._socket is not None

    def _watch(self) -> None:
        while not self._done.wait(LOOK_S):
            if (self._run.cancelled or self._run.left_s <= 0) and self._socket is not None:
                with contextlib.suppress(OSError):
                    # Closing would leave a reader waiting; TLS's own way of it would wait itself.
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
