"""In bfloat16, too, the answers are those of stock transformers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tiny_models import KINDS, build, question, stock_answer, teach  # noqa: E402

from rynn_brain_ros.models.local.engine import LocalEngine  # noqa: E402
from rynn_brain_ros.models.local.loading import load  # noqa: E402
from rynn_brain_ros.values import Task, Turn  # noqa: E402

PLAN_NAMES = {
    "qwen3_vl": "RynnBrain-Plan-8B-tiny",
    "qwen3_vl_moe": "RynnBrain-Plan-30B-A3B-tiny",
    "qwen3_5": "RynnBrain1.1-Plan-2B-tiny",
    "qwen3_5_moe": "RynnBrain1.1-Plan-122B-tiny",
}
TOKENS = 24
MAX_OTHERS = {"qwen3_vl": 1, "qwen3_vl_moe": 3, "qwen3_5": 1, "qwen3_5_moe": 1}
"""Of 192 tokens. Which of two experts is as good as even is rounding's, and rounding the
processor's: 1 without bfloat16 instructions, 2 with them."""
MAX_UNITS = 2
"""Of 1000: how far a coordinate may be off."""


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def open_16_bits(directory: Path) -> LocalEngine:
    return LocalEngine(load(directory, dtype="BF16"), constrain=False)


@pytest.mark.parametrize("kind", KINDS)
def test_a_conversation_in_16_bits_has_the_tokens_of_stock_generate(kind, tmp_path):
    """Random weights: nothing is harder, since their next tokens are all about as probable."""
    directory = build(kind, tmp_path, PLAN_NAMES[kind])
    engine = open_16_bits(directory)
    same = total = 0
    for words in ("clear the table", "put the cup into the bowl"):
        history: tuple[Turn, ...] = ()
        for seeds in ((1,), (2, 3), (4,), (5, 6, 7)):
            query = question(*seeds, task=Task.PLAN, words=words, tokens=TOKENS, history=history)
            stock = stock_answer(directory, query, "bfloat16")
            ours = engine.follow(query, stock.tokens)
            same += sum(a == b for a, b in zip(ours, stock.tokens, strict=True))
            total += len(stock.tokens)
            history = (*history, Turn(query.frames, stock.text))
    assert total > 180
    assert total - same <= MAX_OTHERS[kind]


def test_coordinates_in_16_bits_are_those_of_stock_generate(tmp_path):
    """Of a model that has learned where things are in a few pictures, in others too."""
    places = {(1,): (120, 640), (2,): (880, 75), (3, 4): (455, 500), (5, 6): (303, 912)}
    lessons = [
        (question(*seeds, tokens=32), f"<affordance> <frame {len(seeds) - 1}>: {at} </affordance>")
        for seeds, at in places.items()
    ]
    directory = teach(build("qwen3_vl", tmp_path / "a"), lessons, tmp_path / "b", n_rounds=60)
    engine = open_16_bits(directory)
    for seeds in [*places, (7,), (8,), (9, 10), (11, 12), (2, 3), (3, 4, 5)]:
        query = question(*seeds, tokens=32)
        stock = stock_answer(directory, query, "bfloat16").text
        expected = stock[: stock.index("</affordance>") + len("</affordance>")]
        for ours, theirs in zip(numbers(engine.ask(query).text), numbers(expected), strict=True):
            assert abs(ours - theirs) <= MAX_UNITS


def numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall("[0-9]+", text)]
