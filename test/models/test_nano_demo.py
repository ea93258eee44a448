"""The demo as a stranger runs it: the model that comes with the package moves the simulated arm."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("mujoco")

from rynn_brain_ros.cli import main
from rynn_brain_ros.demo import StageConfig
from rynn_brain_ros.demo.running import play
from rynn_brain_ros.demo.stages import make_stage
from rynn_brain_ros.models import Engines, open_engine
from rynn_brain_ros.sim.table_tasks import Relation, TaskGoal
from rynn_brain_ros.values import Engine

DEMO = "rynn-brain demo "
COLOR = f"{DEMO}--engine color-baseline"
README = Path(__file__).parent.parent.parent / "README.md"


@pytest.fixture(scope="module")
def nano() -> Engine:
    engine = open_engine("nano")
    yield engine
    engine.close()


@pytest.mark.slow
def test_the_readme_shows_what_the_demo_prints(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["demo"]) == 0
    printed = capsys.readouterr().out.strip()
    # Numbers differ a little between graphics drivers and versions of the image codecs.
    assert _without_numbers(printed) in _without_numbers(README.read_text(encoding="utf-8"))


def _shown() -> list[list[str]]:
    """Words of the README's demos that are told a task and ask nobody."""
    lines = README.read_text(encoding="utf-8").replace("\ncolor ", f"\n{COLOR} ").splitlines()
    commands = (shlex.split(line, comments=True) for line in lines if line.startswith(DEMO))
    return [words[1:] for words in commands if " " in words[-1]]


@pytest.mark.slow
@pytest.mark.parametrize("words", _shown(), ids=lambda words: words[-1])
def test_what_the_readme_asks_for_is_done_and_else_refused_with_nothing_moved(
    words: list[str], tmp_path: Path, capsys
):
    code = main([*words, "--out", str(tmp_path), "--json"])
    summary = json.loads(capsys.readouterr().out)
    if "banana" in words[-1]:  # of which the README says that it is refused
        assert (code, summary["cause"]) == (1, "no_grounding")
        turns = (tmp_path / "turns.jsonl").read_text(encoding="utf-8").splitlines()
        assert not any(json.loads(turn)["moves"] for turn in turns)
    else:
        assert (code, summary["confirmed"], summary["misplaced"]) == (0, True, [])


def _without_numbers(text: str) -> str:
    return re.sub(r"\d+(\.\d+)?", "#", text)


@pytest.mark.slow
def test_it_does_what_is_asked_on_tables_that_it_never_saw(nano: Engine):
    done = 0
    for seed in range(77_000, 77_004):
        stage = make_stage(StageConfig(kind="one", seed=seed))
        try:
            episode = play(stage, Engines.one(nano)).episode
            measured = stage.measure()
            done += stage.judge(episode, measured)
            assert not measured.misplaced and not measured.collisions
        finally:
            stage.close()
    assert done >= 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "relation"), [("next to", Relation.NEXT_TO), ("into", Relation.IN)]
)
def test_the_words_decide_whether_it_goes_into_the_bowl(
    nano: Engine, words: str, relation: Relation
):
    stage = make_stage(StageConfig(seed=0, task=f"put the red cube {words} the yellow bowl"))
    try:
        episode = play(stage, Engines.one(nano)).episode
        goal = TaskGoal("red cube", relation, "yellow bowl")
        assert episode.confirmed and goal.is_true(stage.world)
    finally:
        stage.close()


@pytest.mark.slow
def test_what_it_cannot_do_it_says_and_nothing_moves(nano: Engine):
    stage = make_stage(StageConfig(seed=0, task="push the red cube to the left"))
    try:
        episode = play(stage, Engines.one(nano)).episode
        assert (
            "I only know how to pick up and place one thing"
            in episode.turns[-1].response.answer.text
        )
        assert not any(turn.moved for turn in episode.turns)
    finally:
        stage.close()
