"""The driving base: it does what it is asked, exactly, or says why not."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from rynn_brain_ros.sim.base import STUCK_AFTER_S, BaseActuator
from rynn_brain_ros.sim.drives import BaseLimits
from rynn_brain_ros.sim.room import BasePose, RoomScene, RoomThing, RoomWorld, random_room
from rynn_brain_ros.values import (
    DriveGoal,
    Goal,
    GoalEvent,
    GoalEventKind,
    GripGoal,
    NavigateGoal,
    RigidTransform,
    SpinGoal,
)

EMPTY = RoomScene(0, (8.0, 8.0), ())
WITH_BOX = replace(EMPTY, things=(RoomThing((1.5, 0.0), (0.6, 0.6, 0.5), 0.3),))


def robot(scene: RoomScene = EMPTY) -> tuple[RoomWorld, BaseActuator]:
    world = RoomWorld(scene)
    return world, BaseActuator(world, world.occupancy())


def run(
    world: RoomWorld, base: BaseActuator, goal: Goal, limit_s: float = 120.0
) -> tuple[GoalEvent, ...]:
    base.send("goal", goal)
    events = base.poll()
    end_ns = world.now_ns + limit_s * 1e9
    while not events[-1].kind.is_final and world.now_ns < end_ns:
        world.step(world.control_period_s)
        events += base.poll()
    return events


def pose_goal(x_m: float, y_m: float, yaw_rad: float = 0.0, frame: str = "map") -> NavigateGoal:
    rotation = BasePose(x_m, y_m, yaw_rad).rotation_xyzw
    return NavigateGoal(RigidTransform(frame, "base_link", (x_m, y_m, 0.0), rotation))


def test_50_random_drives_stop_within_a_centimetre():
    rng = np.random.default_rng(5)
    for _ in range(50):
        yaw, distance_m = float(rng.uniform(-3, 3)), float(rng.uniform(-2, 2))
        world, base = robot(replace(EMPTY, start=BasePose(0.3, -0.2, yaw)))
        events = run(world, base, DriveGoal(distance_m, float(rng.uniform(0.1, 1.0))))
        wanted = (0.3 + distance_m * math.cos(yaw), -0.2 + distance_m * math.sin(yaw))
        assert events[-1].kind is GoalEventKind.SUCCEEDED
        assert math.dist(world.base_pose().xy_m, wanted) < 0.01
        assert world.base_pose().yaw_rad == pytest.approx(yaw)


def test_50_random_spins_stop_within_half_a_degree():
    rng = np.random.default_rng(6)
    world, base = robot()
    for _ in range(50):
        angle, before = float(rng.uniform(-7, 7)), world.base_pose().yaw_rad
        events = run(world, base, SpinGoal(angle, float(rng.uniform(0.2, 1.0))))
        error = math.remainder(world.base_pose().yaw_rad - before - angle, 2 * math.pi)
        assert events[-1].kind is GoalEventKind.SUCCEEDED
        assert events[-1].value("angle_rad") == pytest.approx(angle, abs=math.radians(0.5))
        assert abs(math.degrees(error)) < 0.5


def test_steps_of_25_cm_and_15_degrees_do_not_add_up_errors():
    world, base = robot()
    for _ in range(24):
        run(world, base, DriveGoal(0.25))
        run(world, base, SpinGoal(math.radians(15)))
    assert math.dist(world.base_pose().xy_m, (0.0, 0.0)) < 0.01
    assert abs(math.degrees(world.base_pose().yaw_rad)) < 0.5


@pytest.mark.parametrize("seed", range(4))
def test_it_finds_its_way_between_furniture_without_touching_it(seed: int):
    scene = random_room(seed)
    world, base = robot(scene)
    rng = np.random.default_rng(seed)
    reached = 0
    while reached < 2:
        x, y = (float(v) for v in rng.uniform(-0.45, 0.45, 2) * scene.size_m)
        if scene.clearance_m((x, y)) < 0.4:
            continue
        events = run(world, base, pose_goal(x, y, 1.0))
        assert events[-1].kind is GoalEventKind.SUCCEEDED, events[-1].text
        assert math.dist(world.base_pose().xy_m, (x, y)) < 0.03
        assert world.base_pose().yaw_rad == pytest.approx(1.0, abs=0.01)
        reached += 1
    assert world.collisions() == 0


def test_velocities_and_accelerations_stay_within_limits():
    world, base = robot(WITH_BOX)
    limits, velocities = BaseLimits(), [0.0]
    world.add_controller(lambda _: velocities.append(_speed_m_s(world)))
    run(world, base, pose_goal(3.0, 0.2, 2.0))
    run(world, base, DriveGoal(-1.0))
    assert max(np.abs(velocities)) <= limits.linear_m_s + 1e-9
    change = np.abs(np.diff(velocities)) / world.control_period_s
    assert max(change) <= 1.1 * limits.linear_m_s2
    assert base.violations == 0


def test_a_base_that_is_pushed_faster_than_its_limits_is_counted():
    world, base = robot()
    world.command_velocity(2 * BaseLimits().linear_m_s, 0.0)
    world.step(3 * world.control_period_s)
    world.command_velocity(0.0, 0.0)
    world.step(world.control_period_s)
    assert base.violations == 3


def _speed_m_s(world: RoomWorld) -> float:
    left, right = world.joint_state().velocities
    return (left + right) / 2 * 0.08


def test_a_lower_speed_takes_longer():
    def seconds(speed: float) -> float:
        world, base = robot()
        events = run(world, base, DriveGoal(1.0, speed))
        return (events[-1].stamp_ns - events[0].stamp_ns) / 1e9

    assert seconds(0.25) > 3 * seconds(1.0)


def test_a_goal_is_told_from_beginning_to_end():
    world, base = robot()
    events = run(world, base, DriveGoal(1.0))
    kinds = [event.kind for event in events]
    fractions = [event.fraction for event in events]
    assert kinds[0] is GoalEventKind.ACCEPTED
    assert set(kinds[1:-1]) == {GoalEventKind.FEEDBACK}
    assert fractions == sorted(fractions)
    assert events[-1].value("distance_m") == pytest.approx(1.0, abs=1e-3)


def test_driving_into_something_is_aborted_and_told_where():
    world, base = robot(WITH_BOX)
    events = run(world, base, DriveGoal(2.0))
    assert events[-1].kind is GoalEventKind.ABORTED
    assert events[-1].text.startswith("bumped into something at (")
    assert world.collisions() == 1


def test_it_can_back_away_after_a_bump():
    world, base = robot(WITH_BOX)
    run(world, base, DriveGoal(2.0))
    assert run(world, base, DriveGoal(-0.5))[-1].kind is GoalEventKind.SUCCEEDED
    assert world.collisions() == 1


def test_a_base_that_does_not_move_gives_up():
    world, base = robot()
    world.add_controller(lambda _: world.command_velocity(0.0, 0.0))
    events = run(world, base, DriveGoal(1.0))
    assert events[-1].kind is GoalEventKind.ABORTED
    assert "stuck" in events[-1].text
    assert events[-1].stamp_ns - events[0].stamp_ns <= (STUCK_AFTER_S + 0.1) * 1e9


@pytest.mark.parametrize(
    ("goal", "reason"),
    [
        (DriveGoal(1.0, speed=0.0), "speed 0.0"),
        (DriveGoal(1.0, speed=1.5), "speed 1.5"),
        (SpinGoal(1.0, speed=math.nan), "speed nan"),
        (DriveGoal(math.nan), "nan is no distance"),
        (pose_goal(1.0, 0.0, frame="odom"), "frame 'odom'"),
        (pose_goal(30.0, 0.0), "no way from"),
        (GripGoal(0.04), "cannot do a GripGoal"),
        (
            NavigateGoal(RigidTransform("map", "base_link", rotation_xyzw=(0.0, 0.0, 0.0, 0.0))),
            "has no length",
        ),
    ],
)
def test_a_goal_that_cannot_be_meant_is_rejected_with_a_reason(goal: Goal, reason: str):
    _, base = robot()
    base.send("goal", goal)
    (event,) = base.poll()
    assert event.kind is GoalEventKind.REJECTED
    assert reason in event.text


def test_a_second_goal_is_rejected_while_the_first_goes_on():
    world, base = robot()
    base.send("first", DriveGoal(1.0))
    base.send("second", SpinGoal(1.0))
    world.step(10.0)
    final = {event.goal_id: event.kind for event in base.poll() if event.kind.is_final}
    assert final == {"second": GoalEventKind.REJECTED, "first": GoalEventKind.SUCCEEDED}


def test_a_cancelled_goal_stands_still_at_once():
    world, base = robot()
    base.send("goal", DriveGoal(2.0))
    world.step(1.0)
    base.cancel("goal")
    where = world.base_pose()
    world.step(1.0)
    last = base.poll()[-1]
    assert last.kind is GoalEventKind.CANCELLED
    assert 0.0 < last.fraction < 1.0
    assert world.base_pose() == where


def test_cancelling_another_goal_does_nothing():
    world, base = robot()
    base.send("goal", DriveGoal(0.2))
    base.cancel("other")
    world.step(5.0)
    assert base.poll()[-1].kind is GoalEventKind.SUCCEEDED


def test_stop_ends_what_is_in_flight_and_holds():
    world, base = robot()
    base.send("goal", SpinGoal(3.0))
    world.step(0.5)
    base.stop()
    where = world.base_pose()
    world.step(1.0)
    assert base.poll()[-1].kind is GoalEventKind.CANCELLED
    assert world.base_pose() == where


def test_the_same_goals_give_the_same_events_and_poses():
    def drive() -> tuple[tuple[GoalEvent, ...], BasePose]:
        world, base = robot(random_room(1))
        return run(world, base, pose_goal(0.0, -1.0, 0.5)), world.base_pose()

    assert drive() == drive()
