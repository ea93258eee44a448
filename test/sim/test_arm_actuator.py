"""The simulated arm as an actuator: goals, events, reflexes, and a thing that is really lifted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("mujoco")

from arm_world import ArmOnTable, hand_down, rest_of, succeeds, until_done

from rynn_brain_ros.sim.arm import ArmActuator
from rynn_brain_ros.values import (
    DriveGoal,
    FollowGoal,
    GoalEvent,
    GoalEventKind,
    GripGoal,
    PostureGoal,
    ReachGoal,
    RigidTransform,
)

Kind = GoalEventKind


@pytest.fixture
def world() -> ArmOnTable:
    return ArmOnTable()


@pytest.fixture
def arm(world: ArmOnTable) -> ArmActuator:
    return ArmActuator(world)


def rejected(arm: ArmActuator, goal: object) -> GoalEvent:
    arm.send("goal", goal)  # type: ignore[arg-type]
    (event,) = arm.poll()
    assert event.kind is Kind.REJECTED
    return event


def test_a_goal_is_accepted_told_of_and_succeeds(world: ArmOnTable, arm: ArmActuator):
    events = until_done(world, arm, ReachGoal(hand_down(0.5, -0.2, 0.2)))
    kinds = [event.kind for event in events]
    assert kinds[0] is Kind.ACCEPTED and kinds[-1] is Kind.SUCCEEDED
    assert kinds[1:-1] == [Kind.FEEDBACK] * len(kinds[1:-1]) and len(kinds) > 4


def test_feedback_comes_ten_times_a_second_and_grows(world: ArmOnTable, arm: ArmActuator):
    events = until_done(world, arm, ReachGoal(hand_down(0.5, -0.2, 0.2)))[1:-1]
    stamps = [event.stamp_ns for event in events]
    assert set(np.diff(stamps)) == {100_000_000}
    fractions = [event.fraction for event in events]
    assert fractions == sorted(fractions) and 0 < fractions[0] < fractions[-1] <= 1


@pytest.mark.parametrize("period_s", [0.002, 0.02])
@pytest.mark.parametrize("straight", [False, True])
def test_the_tool_ends_within_a_millimetre(straight: bool, period_s: float):
    world = ArmOnTable(control_period_s=period_s)
    succeeds(world, ArmActuator(world), ReachGoal(hand_down(0.55, 0.15, 0.1, 0.5), straight))
    np.testing.assert_allclose(world.tcp_m, (0.55, 0.15, 0.1), atol=1e-3)


def test_on_a_straight_goal_the_real_tool_keeps_to_the_line(world: ArmOnTable, arm: ArmActuator):
    succeeds(world, arm, ReachGoal(hand_down(0.5, -0.2, 0.3)))
    arm.send("goal", ReachGoal(hand_down(0.5, -0.2, 0.05), straight=True))
    for _ in range(100):
        world.step(0.02)
        assert np.abs(world.tcp_m[:2] - (0.5, -0.2)).max() < 2e-3


def test_the_joints_do_not_trail_behind_their_commands(world: ArmOnTable, arm: ArmActuator):
    arm.send("goal", ReachGoal(hand_down(0.5, -0.3, 0.2)))
    for _ in range(50):
        world.step(0.02)
        assert np.abs(world.joints - arm._servos._account.position).max() < 3e-3


def test_a_path_is_followed_to_its_end(world: ArmOnTable, arm: ArmActuator):
    path = (hand_down(0.4, -0.2, 0.2), hand_down(0.5, -0.2, 0.2), hand_down(0.5, -0.1, 0.3))
    succeeds(world, arm, FollowGoal(path, 0.5))
    np.testing.assert_allclose(world.tcp_m, (0.5, -0.1, 0.3), atol=1e-3)


def test_the_same_goals_make_the_same_motion():
    ends = []
    for _ in range(2):
        world = ArmOnTable()
        arm = ArmActuator(world)
        succeeds(world, arm, ReachGoal(hand_down(0.5, 0.1, 0.1)), GripGoal(0.0), PostureGoal())
        ends.append((world.now_ns, *world.data.qpos))
    assert ends[0] == ends[1]


def test_no_command_leaves_the_limits(world: ArmOnTable, arm: ArmActuator):
    for x, y, z in ((0.6, 0.3, 0.1), (0.35, -0.3, 0.3), (0.5, 0.0, 0.05)):
        succeeds(world, arm, ReachGoal(hand_down(x, y, z)))
        arm.send("goal", PostureGoal())
        world.step(0.3)
        arm.stop()
        rest_of(world, arm)
    assert arm.peaks.violations == 0
    assert 0.5 < max(arm.peaks.velocity, arm.peaks.acceleration) <= 1.0
    assert arm.peaks.margin_rad > 0 and arm.peaks.commands > 100


def test_a_jump_in_the_commands_is_counted(world: ArmOnTable, arm: ArmActuator):
    arm._servos.send(np.stack([world.joints + 0.3, *np.zeros((3, 7))]), 0.02)
    assert arm.peaks.violations == 1 and arm.peaks.velocity > 5


def test_measured_joints_keep_the_published_velocities(world: ArmOnTable, arm: ArmActuator):
    arm.send("goal", ReachGoal(hand_down(0.45, -0.45, 0.1)))
    fastest = 0.0
    for _ in range(100):
        world.step(0.02)
        fastest = max(fastest, arm._servos.speed_rad_s)
    assert 0.5 < fastest < 2.175


# --- rejected -------------------------------------------------------------------------------------


def test_a_place_out_of_reach_is_rejected_by_name(arm: ArmActuator):
    assert "out_of_reach" in rejected(arm, ReachGoal(hand_down(1.2, 0.0, 0.2))).text


def test_a_straight_path_that_cannot_be_whole_is_rejected_with_its_share(arm: ArmActuator):
    event = rejected(arm, ReachGoal(hand_down(1.1, 0.0, 0.4), straight=True))
    assert 0.3 < event.value("fraction") < 0.9 and "straight path" in event.text


def test_a_place_within_the_table_is_rejected(arm: ArmActuator):
    assert "inside table" in rejected(arm, ReachGoal(hand_down(0.5, 0.0, -0.03))).text


@pytest.mark.parametrize("speed", [0.0, -0.5, 1.01, float("nan")])
def test_an_impossible_speed_is_rejected(arm: ArmActuator, speed: float):
    assert "speed" in rejected(arm, PostureGoal("ready", speed)).text


def test_an_unknown_posture_is_rejected_and_the_known_named(arm: ArmActuator):
    assert "no posture 'sit'; there are: ready" in rejected(arm, PostureGoal("sit")).text


def test_a_pose_in_another_frame_is_rejected(arm: ArmActuator):
    pose = replace(hand_down(0.5, 0.0, 0.2), parent="map")
    assert "'map'" in rejected(arm, ReachGoal(pose)).text


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_pose_that_is_not_finite_is_rejected(arm: ArmActuator, value: float):
    pose = replace(hand_down(0.5, 0.0, 0.2), translation_m=(0.5, value, 0.2))
    assert "finite" in rejected(arm, FollowGoal((pose,))).text


def test_a_quaternion_of_no_length_is_rejected(arm: ArmActuator):
    pose = RigidTransform("panda_link0", "panda_tcp", (0.5, 0, 0.2), (0.0, 0.0, 0.0, 0.0))
    rejected(arm, ReachGoal(pose))


def test_a_path_without_poses_is_rejected(arm: ArmActuator):
    rejected(arm, FollowGoal(()))


@pytest.mark.parametrize("goal", [GripGoal(0.2), GripGoal(-0.01), GripGoal(0.0, force_n=500.0)])
def test_a_grip_that_the_hand_cannot_do_is_rejected(arm: ArmActuator, goal: GripGoal):
    rejected(arm, goal)


def test_a_drive_is_rejected(arm: ArmActuator):
    assert "DriveGoal" in rejected(arm, DriveGoal(1.0)).text


def test_a_second_goal_is_rejected_and_the_first_goes_on(world: ArmOnTable, arm: ArmActuator):
    arm.send("first", PostureGoal())
    arm.send("second", GripGoal(0.0))
    events = rest_of(world, arm)
    assert [(e.goal_id, e.kind) for e in events[:2]] == [
        ("first", Kind.ACCEPTED),
        ("second", Kind.REJECTED),
    ]


# --- stopped --------------------------------------------------------------------------------------


def test_a_cancelled_motion_comes_to_rest_on_its_way(world: ArmOnTable, arm: ArmActuator):
    arm.send("goal", ReachGoal(hand_down(0.6, 0.3, 0.1), straight=True))
    world.step(0.4)
    arm.cancel("goal")
    last = rest_of(world, arm)[-1]
    assert last.kind is Kind.CANCELLED and 0 < last.fraction < 1
    world.step(0.5)
    assert arm._servos.speed_rad_s < 1e-3
    held = world.joints
    world.step(0.5)
    np.testing.assert_allclose(world.joints, held, atol=1e-4)


def test_stop_is_a_cancel_of_whatever_moves(world: ArmOnTable, arm: ArmActuator):
    arm.send("goal", PostureGoal())
    arm.stop()
    assert rest_of(world, arm)[-1].kind is Kind.CANCELLED


def test_after_a_cancel_the_next_goal_begins_where_it_stopped(world: ArmOnTable, arm: ArmActuator):
    arm.send("goal", ReachGoal(hand_down(0.6, 0.3, 0.1)))
    world.step(0.4)
    arm.stop()
    rest_of(world, arm)
    succeeds(world, arm, PostureGoal())
    assert arm.peaks.violations == 0


def test_cancelling_something_else_does_nothing(world: ArmOnTable, arm: ArmActuator):
    arm.send("goal", ReachGoal(hand_down(0.5, 0.0, 0.3)))
    arm.cancel("another")
    assert rest_of(world, arm)[-1].kind is Kind.SUCCEEDED


def test_a_finished_goal_says_nothing_more(world: ArmOnTable, arm: ArmActuator):
    succeeds(world, arm, GripGoal(0.05))
    arm.cancel("goal")
    arm.stop()
    world.step(0.5)
    assert arm.poll() == ()


# --- contact --------------------------------------------------------------------------------------


def test_pushing_onto_a_thing_stops_by_reflex_and_backs_off(world: ArmOnTable, arm: ArmActuator):
    succeeds(world, arm, GripGoal(0.0), ReachGoal(hand_down(0.5, 0.1, 0.12)))
    last = until_done(world, arm, ReachGoal(hand_down(0.5, 0.1, 0.02), True, 0.3))[-1]
    assert last.kind is Kind.ABORTED
    assert "collision reflex" in last.text and "panda_hand" in last.text
    assert last.value("force_n") > 60
    assert world.tcp_m[2] > 0.05
    assert arm.peaks.violations == 0


def test_after_a_reflex_the_arm_takes_goals_again(world: ArmOnTable, arm: ArmActuator):
    succeeds(world, arm, GripGoal(0.0), ReachGoal(hand_down(0.5, 0.1, 0.12)))
    until_done(world, arm, ReachGoal(hand_down(0.5, 0.1, 0.02), True, 0.3))
    succeeds(world, arm, PostureGoal())


def test_fingers_close_on_nothing_to_nothing(world: ArmOnTable, arm: ArmActuator):
    assert succeeds(world, arm, GripGoal(0.0)).value("width_m") == pytest.approx(0, abs=1e-3)


def test_fingers_open_to_a_width(world: ArmOnTable, arm: ArmActuator):
    end = succeeds(world, arm, GripGoal(0.0), GripGoal(0.055))
    assert end.value("width_m") == pytest.approx(0.055, abs=1e-3)


def test_fingers_stop_at_a_thing_and_tell_its_width(world: ArmOnTable, arm: ArmActuator):
    succeeds(world, arm, ReachGoal(hand_down(0.5, 0.1, 0.12)))
    end = succeeds(world, arm, ReachGoal(hand_down(0.5, 0.1, 0.02), True, 0.3), GripGoal(0.0, 30.0))
    assert end.value("width_m") == pytest.approx(0.04, abs=2e-3)


def test_fingers_press_with_no_more_than_asked(world: ArmOnTable, arm: ArmActuator):
    succeeds(world, arm, ReachGoal(hand_down(0.5, 0.1, 0.12)))
    succeeds(world, arm, ReachGoal(hand_down(0.5, 0.1, 0.02), True, 0.3), GripGoal(0.0, 15.0))
    assert abs(world.data.actuator("panda_hand").force[0]) == pytest.approx(15.0, rel=0.01)


def test_closing_again_on_what_is_held_never_lets_it_go(world: ArmOnTable, arm: ArmActuator):
    succeeds(world, arm, ReachGoal(hand_down(0.5, 0.1, 0.12)))
    succeeds(world, arm, ReachGoal(hand_down(0.5, 0.1, 0.02), True, 0.3), GripGoal(0.0, 30.0))
    arm.send("goal", GripGoal(0.0, 30.0))
    for _ in range(5):
        world.step(0.02)
        assert world.data.actuator("panda_hand").force[0] < -29


@pytest.mark.parametrize("xy", [(0.5, 0.1), (0.38, -0.25), (0.62, 0.2)])
def test_a_cube_is_picked_lifted_held_and_put_elsewhere(xy: tuple[float, float]):
    world = ArmOnTable(cube_xy=xy)
    arm = ArmActuator(world)
    succeeds(world, arm, GripGoal(0.07), ReachGoal(hand_down(*xy, 0.14)))
    succeeds(world, arm, ReachGoal(hand_down(*xy, 0.02), True, 0.3), GripGoal(0.0, 30.0))
    succeeds(world, arm, ReachGoal(hand_down(*xy, 0.2), True, 0.3))
    assert world.cube_m[2] > 0.18
    held = succeeds(world, arm, PostureGoal(), GripGoal(0.0, 30.0))
    assert held.value("width_m") > 0.035
    succeeds(world, arm, ReachGoal(hand_down(0.5, -0.05, 0.15)))
    succeeds(world, arm, ReachGoal(hand_down(0.5, -0.05, 0.022), True, 0.3), GripGoal(0.07))
    succeeds(world, arm, ReachGoal(hand_down(0.5, -0.05, 0.15), True, 0.3))
    np.testing.assert_allclose(world.cube_m, (0.5, -0.05, 0.02), atol=4e-3)
    assert arm.peaks.violations == 0
