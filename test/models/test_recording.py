"""Keeping answers: whole ones, word for word, and none that was cancelled or never came."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from recordings import ScriptedEngine, ask_bag

from rynn_brain_ros.language import compose
from rynn_brain_ros.models import RecordedAnswer, RecordedEngine, RecordingEngine, plain_messages
from rynn_brain_ros.models.check import check_engine
from rynn_brain_ros.values import (
    Answer,
    EngineError,
    EngineInfo,
    FinishReason,
    Generation,
    Query,
    Timings,
    TokenProbability,
)

TEXT = "  Größe → 3\n<affordance> <frame 0>: (1, 2) </affordance> \u2028"


@pytest.fixture(scope="module")
def query(small_bag: Path, tmp_path_factory: pytest.TempPathFactory) -> Query:
    engine = ScriptedEngine("Nothing.")
    ask_bag(small_bag, tmp_path_factory.mktemp("asked"), engine)
    return engine.queries[0]


class Engine:
    """Says ``answer``, or raises it; streams it in two pieces."""

    info = EngineInfo("real", "RynnBrain-8B", generation=Generation.V1_1)

    def __init__(self, answer: Answer | EngineError) -> None:
        self.answer, self.closed = answer, 0

    def ask(self, query, on_text=None, cancel=None):
        if isinstance(self.answer, EngineError):
            raise self.answer
        if cancel is not None and cancel.is_set():
            return Answer(query.query_id, "I sa", FinishReason.CANCELLED, "real", "RynnBrain-8B")
        if on_text is not None:
            on_text(self.answer.text[:3])
            on_text(self.answer.text[3:])
        return replace(self.answer, query_id=query.query_id)

    def close(self) -> None:
        self.closed += 1


def whole(**fields) -> Answer:
    return Answer(
        "", TEXT, fields.pop("finish", FinishReason.STOP), "real", "RynnBrain-8B", **fields
    )


def test_an_answer_is_kept_word_for_word_with_its_question(query: Query):
    kept: list[RecordedAnswer] = []
    answer = RecordingEngine(Engine(whole()), lambda _, answer: kept.append(answer)).ask(query)
    (recorded,) = kept
    assert recorded.text == answer.text == TEXT
    assert recorded.messages == plain_messages(compose(query, Generation.V1_1))
    assert (recorded.model, recorded.generation) == ("RynnBrain-8B", Generation.V1_1)


def test_everything_about_an_answer_is_kept(query: Query):
    kept: list[RecordedAnswer] = []
    tokens = (TokenProbability(2, 5, 0.75),)
    given = whole(
        finish=FinishReason.LENGTH,
        revision="abc",
        quantization="nf4",
        timings=Timings(total_s=0.25),
        token_probabilities=tokens,
    )
    RecordingEngine(Engine(given), lambda _, answer: kept.append(answer)).ask(query)
    (recorded,) = kept
    assert recorded.finish_reason is FinishReason.LENGTH
    assert (recorded.revision, recorded.quantization) == ("abc", "nf4")
    assert (recorded.latency_s, recorded.token_probabilities) == (0.25, tokens)


def test_a_time_that_nobody_measured_stays_unknown(query: Query):
    kept: list[RecordedAnswer] = []
    RecordingEngine(Engine(whole()), lambda _, answer: kept.append(answer)).ask(query)
    assert kept[0].latency_s == -1.0


def test_what_was_kept_is_answered_again(query: Query):
    kept: list[RecordedAnswer] = []
    RecordingEngine(Engine(whole()), lambda _, answer: kept.append(answer)).ask(query)
    assert RecordedEngine(kept).ask(query).text == TEXT


def test_a_cancelled_answer_is_given_and_not_kept(query: Query):
    kept: list[RecordedAnswer] = []
    cancel = threading.Event()
    cancel.set()
    answer = RecordingEngine(Engine(whole()), lambda _, answer: kept.append(answer)).ask(
        query, cancel=cancel
    )
    assert answer.finish_reason is FinishReason.CANCELLED
    assert kept == []


def test_a_whole_answer_is_kept_also_where_the_stop_came_just_after_it(query: Query):
    kept: list[RecordedAnswer] = []
    cancel = threading.Event()
    recording = RecordingEngine(Engine(whole()), lambda _, answer: kept.append(answer))
    recording.ask(query, on_text=lambda piece: cancel.set(), cancel=cancel)
    assert [answer.text for answer in kept] == [TEXT]


def test_a_failure_passes_and_nothing_is_kept(query: Query):
    kept: list[RecordedAnswer] = []
    with pytest.raises(EngineError, match="the server is gone"):
        RecordingEngine(
            Engine(EngineError("the server is gone")), lambda _, answer: kept.append(answer)
        ).ask(query)
    assert kept == []


def test_text_streams_through_and_closing_reaches_the_engine(query: Query):
    engine, pieces = Engine(whole()), []
    recording = RecordingEngine(engine, lambda query, answer: None)
    recording.ask(query, on_text=pieces.append)
    recording.close()
    assert "".join(pieces) == TEXT
    assert engine.closed == 1


def test_it_is_a_whole_engine(query: Query):
    assert check_engine(RecordingEngine(Engine(whole()), lambda query, answer: None), query) == ()


def test_a_recorded_engine_that_is_stopped_needs_no_answer(query: Query):
    kept: list[RecordedAnswer] = []
    RecordingEngine(Engine(whole()), lambda _, answer: kept.append(answer)).ask(query)
    cancel = threading.Event()
    cancel.set()
    never_asked = replace(query, instruction="Something else")
    answer = RecordedEngine(kept).ask(never_asked, cancel=cancel)
    assert (answer.text, answer.finish_reason) == ("", FinishReason.CANCELLED)
