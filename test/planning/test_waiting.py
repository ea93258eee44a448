"""Waiting for engines and people while time goes on."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from played_robot import ScriptedEngine

from rynn_brain_ros.planning import waiting
from rynn_brain_ros.planning.waiting import Approvals, PatientEngine
from rynn_brain_ros.values import EngineError, FrameSet, Query, Task

QUERY = Query("q1", Task.PLAN, "tidy up", FrameSet())


class Slow(ScriptedEngine):
    """Answers once it is let go, whatever it is told."""

    def __init__(self, *lines: Any) -> None:
        super().__init__(*lines)
        self.go = threading.Event()

    def ask(self, query: Query, on_text: Any = None, cancel: Any = None) -> Any:
        self.go.wait()
        on_text("half ")
        on_text("whole")
        return super().ask(query, on_text, cancel)


def test_time_goes_on_until_the_answer_is_there():
    engine, ticks, heard = Slow("Done."), [], []

    def tick() -> None:
        ticks.append(1)
        if len(ticks) == 5:
            engine.go.set()

    answer = PatientEngine(engine, tick, heard.append).ask(QUERY)
    assert answer.text == "Done."
    assert len(ticks) >= 5
    assert heard == ["half ", "whole"]


def test_text_goes_to_who_asked_too():
    engine, heard = Slow("Done."), []
    engine.go.set()
    PatientEngine(engine, lambda: None, lambda _: None).ask(QUERY, heard.append)
    assert heard == ["half ", "whole"]


def test_what_the_engine_raises_is_raised_where_it_was_asked():
    engine = ScriptedEngine(EngineError("gone"))
    with pytest.raises(EngineError, match="gone"):
        PatientEngine(engine, lambda: None, lambda _: None).ask(QUERY)


def test_an_engine_that_goes_on_after_a_cancel_is_left(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(waiting, "_GRACE_S", 0.0)
    engine, cancel = Slow("Done."), threading.Event()
    cancel.set()
    with pytest.raises(EngineError, match="told to stop and goes on"):
        PatientEngine(engine, lambda: None, lambda _: None).ask(QUERY, cancel=cancel)
    engine.go.set()


def nothing() -> None:
    """Nobody says a word."""


@pytest.mark.parametrize("yes", [True, False])
def test_a_persons_word_is_given_to_who_waits(yes: bool):
    desk, said = Approvals(), []

    def tick() -> None:
        said.append(desk.answer("q1", 2, yes))

    assert desk.wait("q1", 2, nothing, tick, lambda: False) is yes
    assert said[0] == ""


@pytest.mark.parametrize("yes", [True, False])
def test_a_word_that_comes_at_once_is_taken(yes: bool):
    desk, said = Approvals(), []

    def tell() -> None:
        said.append(desk.answer("q1", 2, yes))

    assert desk.wait("q1", 2, tell, nothing, lambda: False) is yes
    assert said == [""]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((False, True), ["", "somebody has said no already"]),
        ((True, False), ["", ""]),
        ((True, True, False), ["", "somebody has said yes already", ""]),
    ],
)
def test_of_several_words_at_once_a_no_counts(words: tuple[bool, ...], told: list[str]):
    desk, said = Approvals(), []

    def tick() -> None:
        said.extend(desk.answer("q1", 2, word) for word in words)

    assert desk.wait("q1", 2, nothing, tick, lambda: False) is False
    assert said == told


def test_a_yes_that_comes_with_a_cancel_is_no_yes():
    desk, cancel = Approvals(), threading.Event()

    def tick() -> None:
        cancel.set()
        desk.answer("q1", 2, True)

    assert desk.wait("q1", 2, nothing, tick, cancel.is_set) is False


def test_a_word_about_another_step_counts_for_nothing():
    desk, said = Approvals(), []

    def tick() -> None:
        said.append(desk.answer("q0", 2, True))

    assert desk.wait("q1", 2, nothing, tick, lambda: len(said) > 1) is False
    assert "does not wait: it is step 2 of question 'q1'" in said[0]


def test_a_word_that_nobody_waits_for_is_refused():
    assert Approvals().answer("q1", 0, True) == "no step waits for a yes or no"


def test_who_waits_no_longer_takes_no_word():
    desk = Approvals()
    assert desk.wait("q1", 0, nothing, nothing, lambda: True) is False
    assert desk.answer("q1", 0, True) == "no step waits for a yes or no"
