"""What comes over the wire from a server: bounded text, events, pieces of an answer."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from rynn_brain_ros.models.wire import FIELD, Told, read_answer
from rynn_brain_ros.values import EngineError

WRONG_SHAPE = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)
MOST_BYTES = 4 << 20
"""Of one event, or of a reply that is no stream: no server has more to say."""


@dataclass(frozen=True)
class Piece:
    """What one event of the stream brings: text, its tokens with probabilities (NaN: not told), an
    ending. Counts are -1 where they are not told, be it in words (``null``).
    ``thought``: what the server tells apart from the answer (vLLM's and SGLang's reasoning
    parsers)."""

    text: str
    tokens: tuple[tuple[str, float], ...] = ()
    finish_reason: str = ""
    prompt_tokens: int = -1
    completion_tokens: int = -1
    told: Told | None = None
    thought: str = ""

    @classmethod
    def read(cls, chunk: dict[str, Any]) -> Piece:
        """Raises one of `WRONG_SHAPE` for another shape."""
        usage = chunk.get("usage") or {}
        choice: dict[str, Any] = next(iter(chunk.get("choices") or ()), {})
        delta = choice.get("delta") or {}
        text = delta.get("content") or ""
        thought = delta.get("reasoning") or delta.get("reasoning_content") or ""
        if not (isinstance(text, str) and isinstance(thought, str)):
            raise TypeError("content is no text")
        tokens = (choice.get("logprobs") or {}).get("content") or ()
        return cls(
            text,
            tuple((str(token["token"]), _probability(token["logprob"])) for token in tokens),
            str(choice.get("finish_reason") or ""),
            _count(usage.get("prompt_tokens")),
            _count(usage.get("completion_tokens")),
            read_answer(chunk[FIELD]) if FIELD in chunk else None,
            thought,
        )


def _count(told: Any) -> int:
    return -1 if told is None else int(told)


def _probability(logprob: Any) -> float:
    """NaN stays what it is: the least of it and 1 would be 1, which is sure."""
    probability = math.nan if logprob is None else math.exp(logprob)
    return probability if math.isnan(probability) else min(1.0, probability)


def events(reply: httpx.Response) -> Iterator[str]:
    """The data of server-sent events, until ``[DONE]``. Raises `EngineError` for an endless one.

    https://html.spec.whatwg.org/multipage/server-sent-events.html
    """
    for line in _lines(reply):
        name, _, value = line.partition(":")
        if name != "data":
            continue
        value = value.removeprefix(" ")
        if value.strip() == "[DONE]":
            return
        yield value


def _lines(reply: httpx.Response) -> Iterator[str]:
    pending = bytearray()
    for chunk in reply.iter_bytes():
        pending += chunk
        if b"\n" in chunk:
            *lines, rest = bytes(pending).split(b"\n")
            pending = bytearray(rest)
            yield from (line.decode("utf-8", "replace").rstrip("\r") for line in lines)
        if len(pending) > MOST_BYTES:
            raise EngineError(f"{reply.url} streamed a line of more than {MOST_BYTES >> 20} MiB")
    if pending:
        yield pending.decode("utf-8", "replace")


def text_of(reply: httpx.Response, until: float = math.inf) -> str:
    """A reply that is no stream, as far as it may go. Raises `httpx.ReadTimeout` for one that is
    not over at ``until`` (`time.monotonic`)."""
    data = bytearray()
    for chunk in reply.iter_bytes():
        data += chunk
        if len(data) > MOST_BYTES:
            break
        if time.monotonic() > until:
            raise httpx.ReadTimeout("its reply does not end")
    return data.decode("utf-8", "replace")


def short(text: str, most: int = 120) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= most else f"{plain[: most - 1]}…"
