"""What our own server and our own client tell each other beyond the OpenAI protocol.

Everything is in one field, ``rynn_brain``, of a model in ``/v1/models``, of a request and of the
last piece of an answer. Other clients leave it out and lose nothing that they know of; other
servers never see it, since the client sends it only where the list of models shows it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rynn_brain_ros.values import (
    Answer,
    EngineInfo,
    Generation,
    Query,
    Task,
    Timings,
    TokenProbability,
)

FIELD = "rynn_brain"
KNOWN = "sha256:"
"""Begins the URL of a picture that was shown before: the digest of its bytes follows. A server that
has forgotten it answers with status `FORGOTTEN`, and the bytes are sent again."""
FORGOTTEN = 409
_STAGES = ("queue_s", "encode_s", "prefill_s", "decode_s", "total_s")


# --- what is served ------------------------------------------------------------------------------


def info_record(info: EngineInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "generation": info.generation.value,
        "revision": info.revision,
        "quantization": info.quantization,
        "tasks": sorted(task.value for task in info.tasks),
    }


def read_info(record: Mapping[str, Any], name: str, model: str) -> EngineInfo:
    """``name`` is what the client calls the engine; empty: what the server does. Raises KeyError,
    TypeError or ValueError for another shape. Tasks that this client does not know are left out:
    the server may be newer."""
    known = {task.value for task in Task}
    return EngineInfo(
        name=name or str(record["name"]),
        model=model,
        generation=Generation(record["generation"]),
        revision=str(record["revision"]),
        quantization=str(record["quantization"]),
        tasks=frozenset(Task(word) for word in record["tasks"] if word in known),
    )


# --- what is asked -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """What a question's messages do not say: what they are meant to be."""

    task: Task
    instruction: str
    thinking: bool
    abstain: bool
    max_visual_tokens: int
    timeout_s: float


def question_record(query: Query) -> dict[str, Any]:
    return {
        "task": query.task.value,
        "instruction": query.instruction,
        "thinking": query.thinking,
        "abstain": query.abstain,
        "max_visual_tokens": query.frames.max_visual_tokens,
        "timeout_s": query.budget.timeout_s,
    }


def read_question(record: Mapping[str, Any]) -> Asked:
    """Raises KeyError, TypeError or ValueError for anything that `question_record` never says."""
    asked = Asked(
        Task(record["task"]),
        _typed(record, "instruction", str),
        _typed(record, "thinking", bool),
        _typed(record, "abstain", bool),
        _typed(record, "max_visual_tokens", int),
        float(record["timeout_s"]),
    )
    if asked.max_visual_tokens < 1 or not 0 < asked.timeout_s < math.inf:
        raise ValueError("max_visual_tokens and timeout_s are above 0")
    return asked


def _typed(record: Mapping[str, Any], name: str, kind: type) -> Any:
    value = record[name]
    if type(value) is not kind:
        raise TypeError(f"{name} is no {kind.__name__}")
    return value


# --- what is answered ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Told:
    """What an answer's text does not say."""

    revision: str
    quantization: str
    timings: Timings
    token_probabilities: tuple[TokenProbability, ...]


def answer_record(answer: Answer) -> dict[str, Any]:
    stages = {stage: getattr(answer.timings, stage) for stage in _STAGES}
    return {
        "revision": answer.revision,
        "quantization": answer.quantization,
        "timings": {name: value for name, value in stages.items() if math.isfinite(value)},
        "token_probabilities": [
            [token.start, token.end, token.probability] for token in answer.token_probabilities
        ],
    }


def read_answer(record: Mapping[str, Any]) -> Told:
    """Raises KeyError, TypeError, ValueError or AttributeError for another shape."""
    stages = record["timings"].items()
    return Told(
        str(record["revision"]),
        str(record["quantization"]),
        Timings(**{name: float(value) for name, value in stages if name in _STAGES}),
        tuple(
            TokenProbability(int(start), int(end), float(probability))
            for start, end, probability in record["token_probabilities"]
        ),
    )
