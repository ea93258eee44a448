"""What goes wrong around a robot, each an episode of its own: refused by name, or handled."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("mujoco")

from stage_hands import DEMO, ScriptedEngine, Switch, act, at

from rynn_brain_ros.demo import StageConfig
from rynn_brain_ros.values import Cause, Stage, Status

PICK_AT = "Pick up <affordance> <frame {frame}>: {point} </affordance>."


def test_a_thing_that_is_not_there_is_refused_and_nothing_moves():
    result = act(StageConfig(kind="absent"))
    assert (result.episode.status, result.episode.cause) == (Status.REFUSED, "no_grounding")
    assert not result.moved


def test_two_things_that_fit_the_words_are_refused_and_nothing_moves():
    result = act(StageConfig(kind="ambiguous"))
    assert (result.episode.status, result.episode.cause) == (Status.REFUSED, "no_grounding")
    assert "2 " in result.episode.text
    assert not result.moved


def test_a_thing_moved_between_look_and_grasp_is_left_alone_then_found_again():
    def meddle(stage):
        return at(Stage.PRE, lambda: stage.world.move_thing("red cube", (0.42, -0.30, 0.025)))

    result = act(meddle=meddle)
    first = result.episode.turns[0].moves[0].outcome
    assert first is not None
    assert first.cause is Cause.SCENE_CHANGED
    assert result.measured.done
    assert result.episode.confirmed


def test_a_camera_that_freezes_stops_the_motion():
    def meddle(stage):
        return at(Stage.PRE, lambda: stage.world.freeze_camera("front"))

    result = act(meddle=meddle)
    assert (result.episode.status, result.episode.cause) == (Status.FAILED, "stale")
    assert "no new image" in result.episode.text or "newer stamp" in result.episode.text


def test_a_camera_that_is_frozen_from_the_start_is_refused():
    def meddle(stage):
        stage.world.freeze_camera("front")

    result = act(meddle=meddle)
    assert result.codes == ["stale"] * 3
    assert not result.moved


def test_a_target_without_depth_is_refused_and_nothing_moves():
    def meddle(stage):
        stage.world.set_depth_hole("red cube")

    result = act(meddle=meddle)
    assert result.episode.cause in ("no_depth", "too_few_valid", "depth_edge", "no_grasp")
    assert not result.moved


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("", "unknown_skill"),
        ("I like cubes.", "unknown_skill"),
        (PICK_AT.format(frame=99, point="(500, 700)"), "incomplete_step"),
        (PICK_AT.format(frame=0, point="(1500, 700)"), "out_of_range"),
        (PICK_AT.format(frame=0, point="(390, 400)"), "on_robot"),
        (PICK_AT.format(frame=0, point="(20, 900)"), "no_grasp"),
        ("Dance with <object> <frame 0>: (10, 10), (90, 90) </object>.", "unknown_skill"),
        ("Place <area> <frame 0>: (500, 700) </area>.", "out_of_order"),
    ],
)
def test_nonsense_is_refused_by_name_asked_again_and_does_no_harm(answer: str, code: str):
    engine = ScriptedEngine([answer])
    result = act(engine=engine)
    assert result.codes[0] == code
    assert not result.episode.turns[0].moved
    assert result.measured.done


def test_an_engine_that_only_talks_nonsense_ends_in_a_refusal():
    result = act(engine=ScriptedEngine(["♥ ♥ ♥"] * 10))
    assert result.codes == ["unknown_skill"] * 3
    assert result.episode.status is Status.REFUSED
    assert not result.moved


def test_a_claim_without_a_deed_is_not_believed():
    result = act(engine=ScriptedEngine(["Done."] * 10))
    assert (result.episode.status, result.episode.cause) == (Status.REFUSED, "unconfirmed")
    assert not result.episode.confirmed


def test_a_gripper_that_closes_on_nothing_is_noticed_and_the_thing_is_picked_again():
    def meddle(stage):
        return at(Stage.GRIP, lambda: stage.world.move_thing("red cube", (0.42, -0.30, 0.025)))

    result = act(meddle=meddle)
    first = result.episode.turns[0].moves[0].outcome
    assert first is not None
    assert first.cause is Cause.NOTHING_GRIPPED
    assert result.measured.done


def test_a_person_stops_it_in_the_middle_of_a_motion():
    switch = Switch()

    def meddle(stage):
        def stop():
            switch.on = True

        return at(Stage.APPROACH, stop)

    result = act(meddle=meddle, cancel=switch)
    assert (result.episode.status, result.episode.cause) == (Status.CANCELLED, "cancelled")
    assert not result.episode.confirmed


def test_a_dry_run_decides_everything_and_moves_nothing():
    result = act(replace(DEMO, dry_run=True))
    assert result.codes[0] == "dry_run"
    assert not result.moved
    turn = result.episode.turns[0]
    assert [check.name for check in turn.moves[0].decision.checks if not check.passed] == [
        "dry_run"
    ]


def test_the_workspace_is_a_limit():
    def meddle(stage):
        limits = replace(stage.robot.limits, workspace_x_max_m=0.3)
        object.__setattr__(stage, "robot", replace(stage.robot, limits=limits))

    result = act(meddle=meddle)
    assert result.codes[0] == "outside_workspace"
    assert not result.moved
