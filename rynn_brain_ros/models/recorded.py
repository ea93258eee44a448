"""The recorded engine: real answers, given again to exactly the question they were given to.

The file is JSON Lines, one answer a line, readable and diffable::

    {"model": "RynnBrain-8B", "generation": "1.0",
     "messages": [{"role": "user", "content": ["<frame 0>: ", {"image": "sha256:9f…"}, "Where …"]}],
     "text": "The affordance is at …", "finish_reason": "stop", "latency_s": 0.4}

The key is ``model`` and ``messages``: the words and the pictures, nothing else. A question that
the file does not hold is an error that says what was asked and what comes nearest. An answer comes
as it was written: token by token where the tokens were recorded, else word by word.
"""

from __future__ import annotations

import difflib
import json
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from rynn_brain_ros.files import write_whole
from rynn_brain_ros.language import compose
from rynn_brain_ros.values import (
    Answer,
    Cancel,
    EngineInfo,
    FinishReason,
    Generation,
    ImagePart,
    InputError,
    Message,
    Query,
    RecordedAnswerMissingError,
    TextPart,
    Timings,
    TokenProbability,
)

_MAX_LATENCY_S = 1e6
_WORD = re.compile(r"\S+\s*|\s+")

PlainMessage = Mapping[str, Any]
"""``{"role": str, "content": [str | {"image": "sha256:…"}, …]}``"""


@dataclass(frozen=True)
class RecordedAnswer:
    """One line of the file. ``latency_s`` is −1 where it was not measured."""

    model: str
    messages: tuple[PlainMessage, ...] = field(repr=False)
    text: str
    finish_reason: FinishReason = FinishReason.STOP
    generation: Generation = Generation.V1_0
    revision: str = ""
    quantization: str = "none"
    latency_s: float = -1.0
    token_probabilities: tuple[TokenProbability, ...] = ()

    @property
    def key(self) -> str:
        return _key(self.model, self.messages)

    @property
    def question(self) -> str:
        """The last words of the conversation."""
        return next(reversed(_words(self.messages)), "")

    def pieces(self) -> tuple[str, ...]:
        """The text as it was written, as far as that is known: by tokens, else by words."""
        ends = {token.end for token in self.token_probabilities}
        ends = ends or {found.end() for found in _WORD.finditer(self.text)}
        cuts = sorted({0, len(self.text), *(end for end in ends if 0 < end < len(self.text))})
        return tuple(self.text[start:end] for start, end in pairwise(cuts))

    def to_json(self) -> str:
        record: dict[str, Any] = {
            "model": self.model,
            "generation": self.generation.value,
            "revision": self.revision,
            "quantization": self.quantization,
            "messages": list(self.messages),
            "text": self.text,
            "finish_reason": self.finish_reason.value,
            "latency_s": self.latency_s,
        }
        if self.token_probabilities:
            record["token_probabilities"] = [
                [t.start, t.end, t.probability] for t in self.token_probabilities
            ]
        return json.dumps(record, ensure_ascii=False)


def plain_messages(messages: Iterable[Message]) -> tuple[PlainMessage, ...]:
    """Chat messages as JSON: pictures by the digest of the bytes that were shown."""
    return tuple(
        {"role": message.role, "content": [_plain_part(part) for part in message.parts]}
        for message in messages
    )


def _plain_part(part: TextPart | ImagePart) -> str | dict[str, str]:
    if isinstance(part, ImagePart):
        return {"image": f"sha256:{part.image.sha256}"}
    return part.text


def _key(model: str, messages: Iterable[PlainMessage]) -> str:
    return json.dumps([model, *messages], ensure_ascii=False, sort_keys=True)


def _words(messages: Iterable[PlainMessage]) -> list[str]:
    return [part for m in messages for part in m["content"] if isinstance(part, str)]


def save_recorded(path: Path, answers: Iterable[RecordedAnswer]) -> None:
    """Writes a recorded-answers file, whole or not at all. Raises `OutputError`."""
    write_whole(path, "".join(answer.to_json() + "\n" for answer in answers).encode())


def load_recorded(path: Path) -> tuple[RecordedAnswer, ...]:
    """Reads a recorded-answers file. Raises `InputError` with the line that is wrong."""
    try:
        # splitlines() would also split at U+2028 and U+0085, which JSON may hold inside a string.
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read recorded answers from {path}: {error}") from error
    return tuple(
        parse_recorded(path, number, line) for number, line in enumerate(lines, 1) if line.strip()
    )


def parse_recorded(path: Path, number: int, line: str) -> RecordedAnswer:
    """One line of the file, its ``number`` from 1. Raises `InputError`."""
    try:
        record = json.loads(line)
        if _is_of_a_replay(record):
            raise InputError(_of_a_replay(path, number))
        return RecordedAnswer(
            model=str(record["model"]),
            generation=Generation(record.get("generation", Generation.V1_0.value)),
            revision=str(record.get("revision", "")),
            quantization=str(record.get("quantization", "none")),
            messages=tuple(_plain_message(message) for message in record["messages"]),
            text=_plain_text(record["text"]),
            finish_reason=FinishReason(record.get("finish_reason", "stop")),
            latency_s=_plain_latency(record.get("latency_s", -1.0)),
            token_probabilities=tuple(
                TokenProbability(int(a), int(b), float(p))
                for a, b, p in record.get("token_probabilities", ())
            ),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path}, line {number} is not a recorded answer ({type(error).__name__}: {error}); "
            "each line is one JSON object with model, messages and text"
        ) from error


def _is_of_a_replay(record: Any) -> bool:
    """A line of a run's answers.jsonl: what was answered, and not what was shown and said."""
    return isinstance(record, dict) and "groundings" in record and "messages" not in record


def _of_a_replay(path: Path, number: int) -> str:
    run = str(path.parent) if (path.parent / "run.mcap").is_file() else "RUN_FOLDER"
    return (
        f"{path}, line {number} is an answer of a replay, which does not hold the question as it "
        "was asked; make recorded answers of the run's folder: rynn-brain record-answers "
        f"{shlex.quote(run)} --out recorded.jsonl"
    )


def _plain_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    value.encode()  # JSON may spell half a character, which no file can hold
    return value


def _plain_message(value: Any) -> PlainMessage:
    content = [
        {"image": _plain_text(part["image"])} if isinstance(part, dict) else _plain_text(part)
        for part in value["content"]
    ]
    return {"role": _plain_text(value["role"]), "content": content}


def _plain_latency(value: Any) -> float:
    latency_s = float(value)
    if not latency_s < _MAX_LATENCY_S:
        raise ValueError(f"a latency of {latency_s} s")
    return latency_s


class RecordedEngine:
    """Answers from a file of recorded answers. See the module's docstring for the format."""

    def __init__(self, answers: Iterable[RecordedAnswer], source: str = "memory") -> None:
        self._answers = tuple(answers)
        self._source = source
        if not self._answers:
            raise InputError(f"{source} holds no recorded answers")
        self._by_key = {answer.key: answer for answer in self._answers}
        self._models = {
            answer.model: answer for answer in reversed(self._answers)
        }  # the first answer of each model says which prompts it was asked with
        first = self._answers[0]
        self._info = EngineInfo(
            name="recorded",
            model=", ".join(sorted(self._models)),
            generation=first.generation,
            revision=first.revision if len(self._models) == 1 else "",
            quantization=first.quantization if len(self._models) == 1 else "",
        )

    @classmethod
    def open(cls, path: Path) -> RecordedEngine:
        return cls(load_recorded(path), str(path))

    @property
    def info(self) -> EngineInfo:
        return self._info

    def ask(
        self,
        query: Query,
        on_text: Callable[[str], None] | None = None,
        cancel: Cancel | None = None,
    ) -> Answer:
        """Raises `RecordedAnswerMissingError` when this was never asked, unless it is cancelled:
        what was cancelled then was not recorded either."""
        if cancel is not None and cancel.is_set():
            return Answer(
                query.query_id, "", FinishReason.CANCELLED, self._info.name, self._info.model
            )
        recorded = self._find(query)
        text, reason = "", recorded.finish_reason
        for piece in recorded.pieces():
            if cancel is not None and cancel.is_set():
                reason = FinishReason.CANCELLED
                break
            text += piece
            if on_text is not None:
                on_text(piece)
        latency = {"total_s": recorded.latency_s} if recorded.latency_s >= 0 else {}
        return Answer(
            query_id=query.query_id,
            text=text,
            finish_reason=reason,
            engine=self._info.name,
            model=recorded.model,
            revision=recorded.revision,
            quantization=recorded.quantization,
            timings=Timings(**latency),
            token_probabilities=tuple(
                token for token in recorded.token_probabilities if token.end <= len(text)
            ),
        )

    def close(self) -> None:
        """Nothing to release."""

    def _find(self, query: Query) -> RecordedAnswer:
        for model, sample in self._models.items():
            found = self._by_key.get(_key(model, plain_messages(compose(query, sample.generation))))
            if found is not None:
                return found
        raise RecordedAnswerMissingError(self._explain_miss(query))

    def _explain_miss(self, query: Query) -> str:
        words = _words(plain_messages(compose(query, self._info.generation)))
        same_words = any(_words(answer.messages) == words for answer in self._answers)
        if same_words:
            hint = (
                "the same words were recorded with other pictures: check --camera, --frames and "
                "--at, and that the pictures were not re-encoded"
            )
        else:
            known = sorted({answer.question for answer in self._answers})
            near = difflib.get_close_matches(words[-1], known, n=1, cutoff=0.0)
            hint = f"the nearest question it holds is {near[0]!r}"
        digests = ", ".join(f.sha256[:12] for f in query.frames) or "no frames"
        return (
            f"{self._source} holds no answer to task {query.task.value}, {query.instruction!r}, "
            f"{len(query.frames)} frames ({digests}); {hint}"
        )
