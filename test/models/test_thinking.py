"""The role ``think`` with a local model: thoughts with groundings first, then the answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tiny_models import build, question, stock_answer, teach  # noqa: E402

from rynn_brain_ros.language import StreamParser, compose, parse  # noqa: E402
from rynn_brain_ros.models import Engines, Role  # noqa: E402
from rynn_brain_ros.models.local.engine import LocalEngine  # noqa: E402
from rynn_brain_ros.models.local.loading import load  # noqa: E402
from rynn_brain_ros.values import (  # noqa: E402
    Answer,
    EngineError,
    FinishReason,
    Query,
    QueryBudget,
    Task,
)

NAMES = {"qwen3_vl": "RynnBrain-CoP-8B-tiny", "qwen3_5": "RynnBrain1.1-CoP-2B-tiny"}
THOUGHT = (
    "The cube is <object> <frame 0>: (100, 200), (300, 400) </object> first,"
    " <object> <frame 1>: (150, 200), (350, 400) </object> now.</think>"
)
ANSWER = "#### <answer><affordance><frame 1>, (250, 300)</affordance></answer>"
POINTING = question(1, 2, tokens=240, thinking=True)
WONDERING = question(1, 2, task=Task.THINK, words="What happened?", tokens=240)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=NAMES)
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a model that has learned to think. Generation 1.1's template opens the thought itself."""
    built = build(request.param, tmp_path_factory.mktemp("tiny"), NAMES[request.param])
    opening = "<think>" if request.param == "qwen3_vl" else ""
    lessons = [
        (POINTING, opening + THOUGHT + ANSWER),
        (WONDERING, f"{opening}{THOUGHT}#### It was moved to the right."),
    ]
    return teach(built, lessons, tmp_path_factory.mktemp("taught"), n_rounds=50)


@pytest.fixture(scope="module")
def engine(directory: Path) -> LocalEngine:
    return LocalEngine.open(directory)


def heard(engine: LocalEngine, query: Query) -> tuple[Answer, list[tuple[str, int | None, bool]]]:
    """The answer, and what was pointed at while it was written: (kind, frame, in the thought)."""
    parser = StreamParser(len(query.frames), query.task, thinking=query.thinking)
    found: list[tuple[str, int | None, bool]] = []

    def take(piece: str) -> None:
        for item in parser.feed(piece):
            found.append((item.grounding.kind, item.grounding.frame, item.is_reasoning))

    return engine.ask(query, take), found


def test_thoughts_point_before_the_answer_does(engine):
    answer, found = heard(engine, POINTING)
    assert found == [("object", 0, True), ("object", 1, True), ("affordance", 1, False)]
    reading = parse(answer.text, 2, task=POINTING.task, thinking=True)
    assert [grounding.frame for grounding in reading.reasoning] == [0, 1]
    assert [grounding.points for grounding in reading.groundings] == [((250, 300),)]


def test_a_thought_is_no_reason_to_stop_early(engine):
    """A box in the thought is not what was asked for; behind the answer nothing is."""
    answer, _ = heard(engine, POINTING)
    assert answer.text.endswith("<affordance><frame 1>, (250, 300)</affordance>")
    assert answer.finish_reason is FinishReason.STOP


def test_a_free_question_is_answered_behind_the_thought(engine):
    answer, found = heard(engine, WONDERING)
    assert found == [("object", 0, True), ("object", 1, True)]
    reading = parse(answer.text, 2, task=Task.THINK)
    assert reading.answer_text == "It was moved to the right."


def test_the_answers_are_those_of_stock_generate(directory):
    free = LocalEngine(load(directory), constrain=False)
    assert free.ask(WONDERING).text == stock_answer(directory, WONDERING).text


def test_a_thought_has_its_own_budget(engine):
    cut = engine.ask(replace(WONDERING, budget=QueryBudget(20)))
    assert cut.finish_reason is FinishReason.LENGTH
    assert parse(cut.text, 2, task=Task.THINK, finish_reason=cut.finish_reason).answer_text == ""


def test_the_switch_of_the_template_follows_the_question(engine):
    chat = engine._loaded.chat
    opened = "1.1" in engine.info.model

    def ending(query: Query) -> str:
        messages = compose(query, engine.info.generation)
        prompt, _ = chat.prompt(messages, 1024, thinks=query.thinks)
        return chat.tokenizer.decode(prompt.ids[-24:].tolist())

    assert ending(POINTING).endswith("assistant\n<think>\n" if opened else "assistant\n")
    plain = replace(POINTING, thinking=False)
    closed = "assistant\n<think>\n\n</think>\n\n"
    assert ending(plain).endswith(closed if opened else "assistant\n")


def test_the_role_is_served_by_the_model_that_thinks(engine):
    engines = Engines({Role.THINK: engine})
    assert engines.select(WONDERING) is engine
    assert engines.select(POINTING) is engine
    with pytest.raises(EngineError, match="'ground'"):
        engines.select(replace(POINTING, thinking=False))
