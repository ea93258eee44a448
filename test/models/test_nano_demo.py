"""The model that comes with the package moves the simulated arm."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("mujoco")

from rynn_brain_ros.demo import StageConfig
from rynn_brain_ros.demo.running import play
from rynn_brain_ros.demo.stages import make_stage
from rynn_brain_ros.models import Engines, open_engine
from rynn_brain_ros.values import Engine

TWO_STEPS = "first put the blue ball onto the plate, then put the red cube into the bowl"


@pytest.fixture(scope="module")
def nano() -> Engine:
    engine = open_engine("nano")
    yield engine
    engine.close()


@pytest.mark.slow
def test_it_does_what_is_asked_on_tables_that_it_never_saw(nano: Engine):
    done = 0
    for seed in range(77_000, 77_006):
        stage = make_stage(StageConfig(kind="one", seed=seed))
        try:
            episode = play(stage, Engines.one(nano)).episode
            measured = stage.measure()
            done += stage.judge(episode, measured)
            assert not measured.misplaced and not measured.collisions
        finally:
            stage.close()
    assert done >= 4


@pytest.mark.slow
def test_what_it_cannot_do_it_says_and_nothing_moves(nano: Engine):
    stage = make_stage(StageConfig(seed=0, task=TWO_STEPS))
    try:
        episode = play(stage, Engines.one(nano)).episode
        assert (
            "I only know how to pick up and place one thing"
            in episode.turns[-1].response.answer.text
        )
        assert not any(turn.moved for turn in episode.turns)
    finally:
        stage.close()
