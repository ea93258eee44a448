"""The model that comes with the package: an ordinary checkpoint that really looks."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("mujoco")

from rynn_brain_ros.models import check_engine, open_engine
from rynn_brain_ros.models.local.checkpoint import inspect
from rynn_brain_ros.models.nano import CHECKPOINT
from rynn_brain_ros.values import (
    Engine,
    FrameSet,
    Task,
    UnsupportedTaskError,
)
from training.nano.evaluate import ask_all, controls, held_out, summary
from training.nano.evaluate_plans import evaluate_plans

SEED = 77_000
"""Neither trained on nor used to choose anything."""


@pytest.fixture(scope="module")
def nano() -> Engine:
    engine = open_engine("nano")
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def asked():
    return held_out("episode", SEED, 80)


def test_it_points_into_the_named_thing_on_tables_it_never_saw(nano: Engine, asked):
    found = summary(ask_all(nano, asked))
    assert found["valid"] >= 0.95
    assert found["point_inside"] >= 0.9
    assert found["point_off"] <= 8.0
    assert found["box_half"] >= 0.8


def test_it_chooses_the_newest_frame_that_shows_the_thing(nano: Engine):
    found = summary(ask_all(nano, held_out("film", SEED, 24)))
    assert found["valid"] >= 0.95
    assert found["frame_right"] >= 0.85
    assert found["point_inside"] >= 0.85


def test_it_takes_the_right_step_on_tables_it_never_saw(nano: Engine):
    found = evaluate_plans(nano, SEED, 40)
    assert found["step_right"] >= 0.75
    assert found["point_inside"] >= 0.9


def test_it_looks_at_the_picture_and_at_the_words(nano: Engine, asked):
    found = controls(nano, asked)
    assert found["other_picture"] <= 0.1
    assert found["other_thing"] <= 0.1


def test_it_is_an_engine_like_any_other(nano: Engine, asked):
    assert check_engine(nano, asked[0].query) == ()
    assert nano.info.model == "RynnBrain-nano"


def test_it_refuses_what_it_never_learned(nano: Engine, asked):
    with pytest.raises(UnsupportedTaskError, match="was not trained to answer task trajectory"):
        nano.ask(replace(asked[0].query, task=Task.TRAJECTORY))


def test_it_refuses_more_frames_than_it_learned_to_read(nano: Engine, asked):
    frames = FrameSet(tuple(each.query.frames[0] for each in asked[:9]))
    with pytest.raises(UnsupportedTaskError, match=r"to be shown up to 8 frame\(s\) and not 9"):
        nano.ask(replace(asked[0].query, frames=frames))


def test_it_is_small_and_says_where_it_comes_from():
    checkpoint = inspect(CHECKPOINT)
    assert (checkpoint.kind, checkpoint.dtype) == ("qwen3_vl", "BF16")
    assert sum(file.stat().st_size for file in CHECKPOINT.iterdir()) < 8_000_000
    told = json.loads((CHECKPOINT / "provenance.json").read_text(encoding="utf-8"))
    assert {"code", "recipe", "minutes", "machine"} <= set(told)
    card = (CHECKPOINT / "README.md").read_text(encoding="utf-8")
    measured = json.loads((CHECKPOINT / "evaluation.json").read_text(encoding="utf-8"))
    assert f"{100 * measured['episode']['point_inside']:.1f} %" in card
