"""Answers held to their grammar: always readable, on time, and otherwise the model's own."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("llguidance")

from tiny_models import KINDS, build, question, teach  # noqa: E402

from rynn_brain_ros.language import coordinate_confidence, parse, strict_answer  # noqa: E402
from rynn_brain_ros.models.local.engine import LocalEngine  # noqa: E402
from rynn_brain_ros.models.local.loading import load  # noqa: E402
from rynn_brain_ros.values import (  # noqa: E402
    Affordance,
    Answer,
    Area,
    Box,
    ContactPoint,
    EngineError,
    FinishReason,
    Flag,
    GraspRectangle,
    NoGrounding,
    Query,
    QueryBudget,
    Reading,
    Task,
    Trajectory,
)

ASKED = {
    Task.OBJECT: (Box,),
    Task.AREA: (Area,),
    Task.AFFORDANCE: (Affordance,),
    Task.TRAJECTORY: (Trajectory,),
    Task.GRASP: (GraspRectangle, ContactPoint),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=KINDS)
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(request.param, tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def engine(directory: Path) -> LocalEngine:
    return LocalEngine.open(directory)


@pytest.fixture(scope="module")
def small_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("qwen3_vl", tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def taught(
    small_directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Callable[..., Answer]]:
    """Opens a model that has learned one answer and returns how to ask it, held or not."""

    def make(query: Query, text: str) -> Callable[..., Answer]:
        folder = teach(small_directory, [(query, text)], tmp_path_factory.mktemp("taught"))
        loaded = load(folder)
        engines = {held: LocalEngine(loaded, constrain=held) for held in (True, False)}
        return lambda held, asked=query, **more: engines[held].ask(asked, **more)

    return make


def read(answer: Answer, query: Query) -> Reading:
    return parse(
        answer.text,
        len(query.frames),
        task=query.task,
        finish_reason=answer.finish_reason,
        thinking=query.thinking,
    )


def assert_readable(answer: Answer, query: Query) -> None:
    """What was asked for, or a `<no object>`; a box without any area is refused by its name."""
    assert answer.finish_reason is FinishReason.STOP
    assert answer.completion_tokens <= query.budget.max_new_tokens
    reading = read(answer, query)
    if [rejected.reason for rejected in reading.rejected] == ["degenerate"]:
        assert query.task in (Task.OBJECT, Task.GRASP)
        return
    (grounding,) = reading.groundings
    if isinstance(grounding, NoGrounding):
        assert grounding.abstained
        assert query.abstain
        return
    assert isinstance(grounding, ASKED[query.task])
    assert grounding.frame in range(len(query.frames))
    assert grounding.flags <= {Flag.CORNERS_REORDERED, Flag.DEGENERATE}


# --- always readable -----------------------------------------------------------------------------


@pytest.mark.parametrize("task", ASKED, ids=str)
def test_a_random_model_answers_readably(engine, task):
    for seeds, abstain in (((1,), False), ((2,), True), ((1, 2, 3), False)):
        query = question(*seeds, task=task, tokens=128, abstain=abstain)
        assert_readable(engine.ask(query), query)


@pytest.mark.parametrize("task", [Task.AFFORDANCE, Task.TRAJECTORY], ids=str)
def test_a_random_model_that_thinks_for_ever_answers_in_time(engine, task):
    query = question(1, 2, task=task, tokens=240, thinking=True)
    assert_readable(engine.ask(query), query)


@pytest.mark.parametrize("task", ASKED, ids=str)
def test_the_smallest_budget_that_can_hold_an_answer_does(engine, task):
    query = question(4, 5, task=task)
    strict = strict_answer(query, engine.info.generation)
    query = replace(query, budget=QueryBudget(strict.room(strict.least)))
    assert_readable(engine.ask(query), query)


def test_a_budget_that_is_too_small_is_told_as_such(engine):
    query = question(4, 5, tokens=5)
    assert engine.ask(query).finish_reason is FinishReason.LENGTH


def test_free_answers_are_not_held(engine, directory):
    query = question(1, task=Task.DESCRIBE)
    free = LocalEngine.open(directory, constrain=False)
    assert engine.ask(query).text == free.ask(query).text


# --- what the caches and the listener notice -----------------------------------------------------


def test_a_rolling_window_is_answered_as_by_a_model_that_remembers_nothing(directory):
    quick = LocalEngine(load(directory))
    slow = LocalEngine(load(directory), frame_cache_bytes=0, reuse_prefix=False)
    for seeds in ((1, 2), (1, 2, 3), (1, 2, 3), (2, 3, 4)):
        query = question(*seeds, tokens=128)
        assert quick.ask(query).text == slow.ask(query).text
    assert quick.stats.tokens_reused > 0


def test_pieces_are_streamed_and_each_token_has_its_probability(engine):
    pieces: list[str] = []
    answer = engine.ask(question(1, 2, tokens=128), pieces.append)
    assert "".join(pieces) == answer.text
    assert len(answer.token_probabilities) == answer.completion_tokens


def test_it_is_cancelled_within_one_token(engine):
    cancel = threading.Event()
    pieces: list[str] = []

    def take(piece: str) -> None:
        pieces.append(piece)
        cancel.set()

    answer = engine.ask(question(1, 2, tokens=128), take, cancel)
    assert answer.finish_reason is FinishReason.CANCELLED
    assert answer.text == pieces[0]


# --- the model's own wish ------------------------------------------------------------------------

POINTED = "The point is <affordance> <frame 1>:; (512, 304) </affordance>"


def test_a_model_that_keeps_to_the_format_writes_what_it_would_have_written(taught):
    ask = taught(question(1, 2, tokens=99), POINTED)
    assert ask(True).text == ask(False).text == POINTED
    assert ask(True).token_probabilities == ask(False).token_probabilities


def test_a_model_that_abstains_where_it_may_is_heard(taught):
    query = question(1, 2, tokens=99, abstain=True)
    ask = taught(query, "<no object>")
    (grounding,) = read(ask(True), query).groundings
    assert grounding.abstained


def test_what_a_model_was_held_to_carries_its_own_small_probability(taught):
    """Frame 7 was not shown. Two tokens later the model is on its own again."""
    query = question(1, 2, tokens=99)
    ask = taught(query, POINTED.replace("frame 1", "frame 7"))
    held = ask(True)
    assert_readable(held, query)
    assert min(token.probability for token in held.token_probabilities) < 0.1
    (point,) = read(held, query).groundings
    free = read(ask(False), query)
    assert [rejected.reason for rejected in free.rejected] == ["frame_out_of_range"]
    assert coordinate_confidence(point, held.text, held.token_probabilities) > 0.5


def test_words_that_never_come_to_the_point_are_cut_short(taught):
    """And what is written then is visibly not what the model believes."""
    query = question(1, 2, tokens=128)
    ask = taught(query, "I cannot see any red cube in these pictures.")
    assert ask(False).text == "I cannot see any red cube in these pictures."
    held = ask(True)
    assert held.text.startswith("I cannot see any red cube in these pictures.<affordance>")
    assert_readable(held, query)
    assert min(token.probability for token in held.token_probabilities) < 0.01


# --- behind a thought ----------------------------------------------------------------------------

THOUGHT = "<think>It is <object> <frame 0>:; (1, 2), (30, 40) </object>.</think>"
THINKING = question(1, 2, tokens=400, thinking=True)


def test_the_answer_behind_a_thought_is_held_too(taught):
    """Behind the thought's own `<answer>`: frame 7 was not shown."""
    ask = taught(THINKING, f"{THOUGHT}#### <answer><affordance><frame 7>, (5, 6)</affordance>")
    held = ask(True)
    assert held.text.startswith(f"{THOUGHT}#### <answer><affordance><frame ")
    assert_readable(held, THINKING)


def test_a_thought_without_an_answer_is_followed_by_one(taught):
    ask = taught(THINKING, THOUGHT)
    held = ask(True)
    assert held.text.startswith(f"{THOUGHT}\n#### <answer><affordance>")
    assert_readable(held, THINKING)


def test_a_thinker_that_answers_in_its_own_way_may_stop(taught):
    query = replace(THINKING, abstain=True)
    ask = taught(query, f"{THOUGHT}#### <no object>")
    assert ask(True).text == f"{THOUGHT}#### <no object>"


# --- without the library -------------------------------------------------------------------------


def test_without_llguidance_only_the_wish_for_it_is_refused(small_directory, monkeypatch):
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(EngineError, match=r"llguidance.*pip install.*constrain=False"):
        LocalEngine.open(small_directory)
    assert LocalEngine.open(small_directory, constrain=False).ask(question(1)).text
