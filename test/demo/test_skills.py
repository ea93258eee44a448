"""Pushing, pouring, handing over and pulling, each carried out in physics and confirmed by a later
look, or ended by name."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

pytest.importorskip("mujoco")

from skill_hands import do, drag, give, pick, pour, push, thing
from stage_hands import Result, act, at

from rynn_brain_ros.demo import Stage, StageConfig
from rynn_brain_ros.sim.arm import ArmActuator
from rynn_brain_ros.sim.table import TableWorld
from rynn_brain_ros.sim.table_scene import TableScene
from rynn_brain_ros.values import Cause, Motion, Skill, Status, Step
from rynn_brain_ros.values import Stage as MotionStageName


def causes(result: Result) -> list[tuple[Skill, Cause | None]]:
    moves = [move for turn in result.episode.turns for move in turn.moves]
    return [(m.motion.skill, m.outcome.cause if m.outcome else None) for m in moves]


def yes(step: Step | None, motion: Motion) -> bool:
    return True


def no(step: Step | None, motion: Motion) -> bool:
    return False


# --- push -----------------------------------------------------------------------------------------

AWAY = (-0.05, 0.1)


def way_m(stage: Stage, shape: str) -> tuple[float, float]:
    first, now = (
        stage.world.scene.thing(thing(stage, shape)).xy_m,
        stage.world.things()[thing(stage, shape)].translation_m,
    )
    return (now[0] - first[0], now[1] - first[1])


def test_a_thing_is_pushed_to_where_it_was_told_and_is_seen_there():
    stage, result = do("push", push("cube", AWAY), seed=7)
    assert causes(result) == [(Skill.PUSH, Cause.DONE)]
    assert math.dist(way_m(stage, "cube"), AWAY) < 0.015
    assert result.episode.confirmed
    (check,) = result.episode.turns[-1].confirmation.checks
    assert "it has moved by 0.1" in check.found
    assert (result.measured.violations, result.measured.collisions) == (0, 0)


def test_a_thing_that_was_not_where_it_was_pushed_is_not_confirmed():
    def meddle(stage: Stage):
        name = thing(stage, "cube")
        x, y = stage.world.scene.thing(name).xy_m
        moved = (x + 0.1, y + 0.05, 0.03)
        return at(MotionStageName.ACT, lambda: stage.world.move_thing(name, moved))

    _, result = do("push", push("cube", AWAY), seed=7, meddle=meddle)
    assert (result.episode.status, result.episode.cause) == (Status.REFUSED, "unconfirmed")
    assert "thing moved by" in result.episode.text


def test_a_push_into_something_else_is_refused_and_nothing_moves():
    def towards(stage: Stage, frame: int) -> str:
        places = stage.world.things()
        (x, y, _), (u, v, _) = (
            places[thing(stage, shape)].translation_m for shape in ("cube", "bowl")
        )
        return push("cube", (u - x, v - y))(stage, frame)

    _, result = do("push", towards, seed=1)
    assert result.codes[0] == "obstacle"
    assert not result.moved


# --- pour -----------------------------------------------------------------------------------------


def test_what_was_in_the_mug_is_poured_into_the_bowl_and_seen_there():
    stage, result = do("pour", pick("mug"), pour())
    assert causes(result) == [(Skill.PICK, Cause.DONE), (Skill.POUR, Cause.DONE)]
    assert stage.world.filled(thing(stage, "bowl")) == 8
    assert result.episode.confirmed
    assert result.measured.done
    assert (result.measured.violations, result.measured.collisions) == (0, 0)


def on(stage: Stage, scene: TableScene) -> Stage:
    """The same with another table."""
    stage.close()
    world = TableWorld(scene)
    return replace(stage, world=world, actuator=ArmActuator(world))


def empty(stage: Stage) -> Stage:
    return on(stage, replace(stage.world.scene, fillings=()))


def test_of_a_pour_that_shows_nothing_only_the_tilting_is_known():
    _, result = do("pour", pick("mug"), pour(), prepare=empty)
    assert causes(result)[-1] == (Skill.POUR, Cause.DONE)
    assert (result.episode.status, result.episode.cause) == (Status.REFUSED, "unconfirmed")
    assert "all that is known is that it was tilted over it" in result.episode.text


def test_nothing_is_poured_from_an_empty_hand_or_onto_a_cube():
    _, result = do("pour", pour(), pick("mug"), *[pour("cube")] * 3)
    assert result.codes == ["out_of_order", *["no_free_space"] * 3]
    assert causes(result) == [(Skill.PICK, Cause.DONE)]


# --- hand over ------------------------------------------------------------------------------------


def test_a_thing_is_handed_over_after_a_yes():
    _, result = do("hand_over", pick("cube"), give(), approve=yes)
    assert causes(result) == [
        (Skill.PICK, Cause.DONE),
        (Skill.HAND_OVER, Cause.DONE),
        (Skill.HAND_OVER, Cause.DONE),
    ]
    assert result.episode.confirmed
    assert result.measured.done


def test_after_a_no_the_hand_stays_closed_and_nothing_is_claimed():
    stage, result = do("hand_over", pick("cube"), *[give()] * 3, approve=no)
    assert result.codes == ["not_approved"] * 3
    offered, denied, taken_back = Cause.DONE, None, Cause.DONE
    assert [cause for _, cause in causes(result)[1:]] == [offered, denied, taken_back] * 3
    assert stage.world.held_thing() == thing(stage, "cube")
    assert (result.episode.status, result.episode.confirmed) == (Status.REFUSED, False)


def test_with_nobody_to_ask_nothing_is_carried_to_a_person():
    _, result = do("hand_over", pick("cube"), *[give()] * 3)
    assert result.codes == ["not_approved"] * 3
    assert causes(result) == [(Skill.PICK, Cause.DONE)]


def test_a_thing_that_nobody_caught_is_seen_lying_there():
    def absent(stage: Stage) -> Stage:
        return replace(stage, take=lambda: None)

    _, result = do("hand_over", pick("cube"), give(), approve=yes, prepare=absent)
    assert (result.episode.status, result.episode.cause) == (Status.REFUSED, "unconfirmed")
    assert "thing handed over" in result.episode.text


# --- a drawer -------------------------------------------------------------------------------------


def already_out(stage: Stage) -> Stage:
    drawer = replace(stage.world.scene.drawer, out_m=0.1)
    return on(stage, replace(stage.world.scene, drawer=drawer))


def test_a_drawer_is_pulled_open_by_its_handle():
    stage, result = do("drawer", drag("Pull", 0.1))
    assert causes(result) == [(Skill.OPEN, Cause.DONE)]
    assert stage.world.drawer_out_m() == pytest.approx(0.1, abs=0.01)
    assert result.episode.confirmed
    assert result.measured.done
    assert (result.measured.violations, result.measured.collisions) == (0, 0)


def test_a_drawer_that_the_hand_still_holds_is_not_pulled_open_yet():
    held: list[tuple[str | None, bool | None]] = []

    def look(stage: Stage):
        def note() -> None:
            held.append((stage.world.held_thing(), stage.measure().done))

        return at(MotionStageName.RELEASE, note)

    _, result = do("drawer", drag("Pull", 0.1), meddle=look)
    assert held == [("drawer", False)]
    assert result.measured.done


def test_a_drawer_is_pushed_shut_by_its_handle():
    stage, result = do("drawer", drag("Close", -0.1), prepare=already_out)
    assert causes(result) == [(Skill.CLOSE, Cause.DONE)]
    assert stage.world.drawer_out_m() == pytest.approx(0.0, abs=0.01)
    assert result.episode.confirmed


def test_a_drawer_that_is_pulled_beyond_its_end_stops_the_arm_and_is_not_confirmed():
    _, result = do("drawer", drag("Pull", 0.2))
    assert causes(result)[0] == (Skill.OPEN, Cause.ABORTED)
    assert "collision reflex" in result.episode.turns[0].moves[0].outcome.text
    assert not result.episode.confirmed


# --- the colour engine ----------------------------------------------------------------------------


def test_the_colour_engine_pushes_where_it_is_told():
    result = act(StageConfig(kind="push"))
    assert causes(result) == [(Skill.PUSH, Cause.DONE)]
    assert result.episode.confirmed
    assert result.measured.done
    assert (result.measured.misplaced, result.measured.collisions) == ((), 0)


def test_the_colour_engine_offers_nothing_that_nobody_may_take():
    result = act(StageConfig(task="hand me the red cube"))
    assert result.codes == ["not_approved"] * 3
    assert not result.episode.confirmed


def test_words_about_a_pour_bring_a_mug_to_the_table():
    result = act(StageConfig(task="pour the grey mug into the bowl", seed=3))
    assert result.episode.cause == "no_grounding"
    assert "gray mug" in result.episode.text
