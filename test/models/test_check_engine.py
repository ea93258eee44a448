"""The checker finds each way in which an engine can break the protocol."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from recordings import ScriptedEngine

from rynn_brain_ros.models import check_engine
from rynn_brain_ros.values import (
    Answer,
    EngineError,
    FinishReason,
    FrameSet,
    Query,
    Task,
    Timings,
    TokenProbability,
)

QUERY = Query("q0001", Task.DESCRIBE, "What is there?", FrameSet())
Twist = Callable[[Answer], Answer]


class Sound(ScriptedEngine):
    """Does everything right; tests bend one thing each."""

    def __init__(self, twist: Twist = lambda answer: answer, **info: object) -> None:
        super().__init__("A cup.")
        self.info = replace(self.info, **info)
        self.twist = twist

    def ask(self, query, on_text=None, cancel=None) -> Answer:
        answer = super().ask(query, on_text, cancel)
        if cancel is not None and cancel.is_set():
            return replace(answer, text="", finish_reason=FinishReason.CANCELLED)
        return self.twist(answer)


class Stuttering(Sound):
    def ask(self, query, on_text=None, cancel=None) -> Answer:
        if on_text is not None:
            on_text("A ")
        return super().ask(query, on_text, cancel)


class Moody(Sound):
    def ask(self, query, on_text=None, cancel=None) -> Answer:
        answer = super().ask(query, on_text, cancel)
        return replace(answer, text=answer.text if on_text else f"{answer.text} Or not.")


class Deaf(Sound):
    def ask(self, query, on_text=None, cancel=None) -> Answer:
        return super().ask(query, on_text)


class Lost(Sound):
    def ask(self, query, on_text=None, cancel=None) -> Answer:
        raise EngineError("no server")


def test_a_sound_engine_passes():
    assert check_engine(Sound(), QUERY) == ()


class Counting(Sound):
    closed = 0

    def close(self) -> None:
        self.closed += 1


def test_the_engine_is_closed_twice_since_closing_is_idempotent():
    engine = Counting()
    check_engine(engine, QUERY)
    assert engine.closed == 2


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        (Stuttering(), "streamed pieces joined differ"),
        (Moody(), "answered differently when streamed"),
        (Deaf(), "cancelled before it began"),
        (Lost(), "ask raised EngineError for a question it should know: no server"),
        (Sound(lambda a: replace(a, query_id="q9")), "Answer.query_id is 'q9'"),
        (
            Sound(lambda a: replace(a, finish_reason=FinishReason.CANCELLED)),
            "nobody cancelled",
        ),
        (Sound(lambda a: replace(a, model="")), "Answer.engine and Answer.model"),
        (
            Sound(lambda a: replace(a, token_probabilities=(TokenProbability(0, 99, 0.5),))),
            "token probability out of the text",
        ),
        (
            Sound(lambda a: replace(a, token_probabilities=(TokenProbability(0, 1, 1.5),))),
            "token probability out of the text or of 0…1",
        ),
        (Sound(lambda a: replace(a, timings=Timings(total_s=-1.0))), "total_s is negative"),
        (Sound(name=""), "info.name and info.model"),
        (Sound(tasks=frozenset()), "info.tasks must name"),
        (Sound(tasks=frozenset({Task.DESCRIBE})), "is not in info.tasks, yet asking it raised"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_defect_is_found(engine: Sound, words: str):
    problems = check_engine(engine, QUERY)
    assert any(words in problem for problem in problems), problems
