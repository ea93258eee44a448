"""Motions of the arm in time: smooth, straight where asked, and always within the limits."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mujoco")

from arm_world import ArmOnTable, hand_down

from rynn_brain_ros.actuators import Reply, read_profile
from rynn_brain_ros.actuators.moveit import cartesian_request, checked_path
from rynn_brain_ros.actuators.scene import Scene
from rynn_brain_ros.geometry import to_matrix
from rynn_brain_ros.sim.kinematics import Kinematics
from rynn_brain_ros.sim.motions import (
    JointPath,
    PartialPath,
    Timed,
    braking,
    point_to_point,
    straight,
)
from rynn_brain_ros.sim.moveit import MoveItPlanner
from rynn_brain_ros.sim.panda import (
    BASE_FRAME,
    LOWER,
    MAX_ACCELERATION,
    MAX_JERK,
    MAX_VELOCITY,
    READY,
    TCP_FRAME,
    UPPER,
)
from rynn_brain_ros.sim.trajectories import trajectory_fields
from rynn_brain_ros.values import FollowGoal, GoalEventKind, RigidTransform

Floats = np.ndarray[Any, np.dtype[np.float64]]
LIMITS = (MAX_VELOCITY, MAX_ACCELERATION, MAX_JERK)


@pytest.fixture(scope="module")
def kinematics() -> Kinematics:
    return Kinematics(ArmOnTable().model)


def sampled(motion: Timed, n: int = 400) -> Floats:
    """[4, n, 7]"""
    times = np.linspace(0, motion.duration_s, n)
    return np.stack([motion.derivatives(float(t)) for t in times], axis=1)


def shares(motion: Timed) -> list[float]:
    """The most of velocity, acceleration and jerk, as shares of the limits."""
    states = sampled(motion)[1:]
    return [float((abs(s) / limit).max()) for s, limit in zip(states, LIMITS, strict=True)]


def straight_path(kinematics: Kinematics, *places: Any, speed: float = 1.0) -> JointPath:
    path = straight(kinematics, READY, [hand_down(*place) for place in places], speed)
    assert isinstance(path, JointPath), path
    return path


@pytest.mark.parametrize("seed", range(20))
def test_a_motion_between_any_two_postures_keeps_the_limits(seed: int):
    rng = np.random.default_rng(seed)
    start, end = rng.uniform(LOWER, UPPER, (2, 7))
    speed = float(rng.uniform(0.05, 1.0))
    assert max(shares(point_to_point(start, end, speed))) <= speed


def test_a_motion_uses_what_it_may():
    assert max(shares(point_to_point(READY, np.array(READY) + 0.5))) > 0.85


@pytest.mark.parametrize("seed", range(5))
def test_a_straight_motion_keeps_the_limits(kinematics: Kinematics, seed: int):
    rng = np.random.default_rng(seed)
    place = (*rng.uniform((0.35, -0.25, 0.05), (0.6, 0.25, 0.4)), float(rng.uniform(-0.7, 0.7)))
    assert max(shares(straight_path(kinematics, place, speed=0.7))) <= 0.7


def test_velocity_and_acceleration_are_the_derivatives(kinematics: Kinematics):
    path = straight_path(kinematics, (0.5, 0.2, 0.2, 0.3))
    q, v, a, _ = sampled(path, 4001)
    dt = path.duration_s / 4000
    np.testing.assert_allclose(np.gradient(q, dt, axis=0)[1:-1], v[1:-1], atol=1e-4)
    np.testing.assert_allclose(np.gradient(v, dt, axis=0)[1:-1], a[1:-1], atol=0.05)


def test_a_motion_begins_and_ends_at_rest_where_it_should():
    end = np.array(READY) + 0.4
    path = point_to_point(READY, end)
    np.testing.assert_allclose(path.position(0.0), READY)
    np.testing.assert_allclose(path.position(path.duration_s + 1), end)
    np.testing.assert_allclose(path.velocity(0.0), 0)
    np.testing.assert_allclose(path.velocity(path.duration_s), 0, atol=1e-9)


def test_a_slower_motion_takes_longer_on_the_same_way():
    end = np.array(READY) + 0.4
    fast, slow = point_to_point(READY, end, 1.0), point_to_point(READY, end, 0.25)
    assert slow.duration_s > 1.9 * fast.duration_s
    half = slow.position(slow.duration_s / 2)
    np.testing.assert_allclose(fast.position(fast.duration_s / 2), half, atol=1e-9)


def test_the_tool_stays_on_the_straight_line(kinematics: Kinematics):
    begin, end = kinematics.forward(READY), hand_down(0.55, 0.25, 0.08, 0.6)
    path = straight(kinematics, READY, [end])
    assert isinstance(path, JointPath)
    a, b = np.array(begin.translation_m), np.array(end.translation_m)
    along = (b - a) / np.linalg.norm(b - a)
    for joints in sampled(path, 60)[0]:
        off = np.array(kinematics.forward(joints).translation_m) - a
        assert np.linalg.norm(off - along * (off @ along)) < 2e-4


def test_a_followed_path_goes_through_every_pose(kinematics: Kinematics):
    places = ((0.5, 0.2, 0.2), (0.5, -0.2, 0.2), (0.4, -0.2, 0.1))
    path = straight_path(kinematics, *places)
    time_s = 0.0
    for piece, place in zip(path.pieces, places, strict=True):
        time_s += piece.duration_s
        pose = kinematics.forward(path.position(time_s))
        np.testing.assert_allclose(to_matrix(pose), to_matrix(hand_down(*place)), atol=1e-3)


def test_a_straight_path_out_of_reach_tells_how_far_it_gets(kinematics: Kinematics):
    path = straight(kinematics, READY, [hand_down(1.4, -0.2, 0.0)])
    assert isinstance(path, PartialPath)
    assert 0.3 < path.fraction < 0.9
    assert "misses by" in path.text


def test_a_straight_path_into_the_table_ends_at_it(kinematics: Kinematics):
    path = straight(kinematics, READY, [hand_down(0.4, 0.0, -0.1)])
    assert isinstance(path, PartialPath)
    assert "inside table" in path.text


def test_a_jump_of_a_joint_ends_a_straight_path(kinematics: Kinematics):
    """Where the elbow becomes straight, it turns ever faster for each centimetre."""
    path = straight(kinematics, READY, [hand_down(1.1, 0.0, 0.4)])
    assert isinstance(path, PartialPath)
    assert "joint 4 would turn by" in path.text


@pytest.mark.parametrize("share", [0.05, 0.2, 0.4, 0.5, 0.7, 0.9])
def test_braking_anywhere_keeps_the_limits_and_ends_at_rest(kinematics: Kinematics, share: float):
    path = straight_path(kinematics, (0.5, 0.2, 0.2, 0.3))
    stop = braking(path, share * path.duration_s)
    assert max(shares(stop)) <= 1.0
    np.testing.assert_allclose(stop.velocity(stop.duration_s), 0, atol=1e-9)


def test_braking_begins_as_the_motion_goes():
    path = point_to_point(READY, np.array(READY) + 0.8)
    at = 0.4 * path.duration_s
    stop = braking(path, at)
    np.testing.assert_allclose(stop.derivatives(0.0)[:2], path.derivatives(at)[:2])


def test_braking_is_shorter_than_going_on():
    path = point_to_point(READY, np.array(READY) + 0.8, 0.3)
    stop = braking(path, 0.3 * path.duration_s)
    assert stop.duration_s < 0.4 * path.duration_s
    assert not math.isclose(stop.position(9.0)[0], path.position(9.0)[0], abs_tol=0.1)


def as_message(fields: Any) -> Any:
    return json.loads(json.dumps(fields), object_hook=lambda inner: SimpleNamespace(**inner))


@pytest.mark.parametrize("y_m", [-0.3, 0.0, 0.3])
def test_a_straight_path_is_planned_as_act_asks_for_it_and_is_one_that_act_takes(
    kinematics: Kinematics, y_m: float
) -> None:
    arm = read_profile("franka_panda").arm
    assert arm is not None
    goal = FollowGoal((hand_down(0.5, y_m, 0.3), hand_down(0.5, -y_m, 0.1)))
    state = {"joint_state": {"name": [], "position": []}}
    kinds = ("joint", "position", "orientation", "visibility")
    more = {"start_state": state, "path_constraints": {f"{kind}_constraints": [] for kind in kinds}}
    request = as_message({**cartesian_request(goal, arm, Scene()).request, **more})
    planner = MoveItPlanner(kinematics, {BASE_FRAME: RigidTransform(BASE_FRAME, TCP_FRAME)}.get)
    plan = planner.cartesian(request, np.array(READY))
    solution = {"joint_trajectory": trajectory_fields(plan.path, BASE_FRAME)}
    answer = {"solution": solution, "fraction": plan.fraction, "error_code": {"val": 1}}
    checked_path(Reply(GoalEventKind.SUCCEEDED, as_message(answer)), arm)
