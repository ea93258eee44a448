"""Joint trajectories of others are checked before the arm moves, and run as they are written."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rynn_brain_ros.sim.motions import point_to_point
from rynn_brain_ros.sim.panda import JOINTS, READY
from rynn_brain_ros.sim.trajectories import (
    BadTrajectory,
    SampledPath,
    TrajectoryFault,
    read_trajectory,
    trajectory_fields,
)

START = np.array(READY)


def point(joints: Any, seconds: float, velocities: Any = ()) -> Any:
    duration = SimpleNamespace(sec=int(seconds), nanosec=round(seconds % 1 * 1e9))
    return SimpleNamespace(positions=joints, velocities=velocities, time_from_start=duration)


def written(*points: Any, names: Any = JOINTS) -> Any:
    return SimpleNamespace(joint_names=list(names), points=list(points))


def test_velocities_make_a_cubic_through_the_points() -> None:
    still = np.zeros(7)
    path = read_trajectory(written(point(START + 0.4, 2.0, still)), START)
    assert isinstance(path, SampledPath)
    assert np.allclose(path.position(0.0), START)
    assert np.allclose(path.position(1.0), START + 0.2)
    assert np.allclose(path.velocity(1.0), 1.5 * 0.4 / 2.0)
    assert np.allclose(path.derivatives(5.0), [START + 0.4, still, still, still])


def test_without_velocities_the_way_is_straight() -> None:
    path = read_trajectory(written(point(START + 0.1, 1.0), point(START, 2.0)), START)
    assert isinstance(path, SampledPath)
    assert np.allclose(path.position(0.5), START + 0.05)
    assert np.allclose(path.velocity(1.5), -0.1)


def test_joints_may_come_in_any_order() -> None:
    goal = START + 0.01 * np.arange(7)
    path = read_trajectory(written(point(goal[::-1], 1.0), names=JOINTS[::-1]), START)
    assert isinstance(path, SampledPath)
    assert np.allclose(path.position(1.0), goal)


@pytest.mark.parametrize(
    ("trajectory", "words"),
    [
        (written(), "no points"),
        (written(point(START[:3], 1.0)), "7 positions"),
        (written(point(START, 1.0), point(START, 1.0)), "must grow"),
        (written(point(START + 0.2, 0.0), point(START, 1.0)), "plan from the current state"),
        (written(point(START + 3.0, 60.0)), "leave its range"),
        (written(point(START + 0.4, 0.01)), "times its limit"),
        (written(point(START * np.nan, 1.0)), "finite"),
    ],
)
def test_what_the_arm_cannot_do_is_refused_in_words(trajectory: Any, words: str) -> None:
    refused = read_trajectory(trajectory, START)
    assert isinstance(refused, BadTrajectory)
    assert refused.fault is TrajectoryFault.INVALID_GOAL
    assert words in refused.text


def test_other_joints_are_another_fault() -> None:
    refused = read_trajectory(written(point(START, 1.0), names=["a"] * 7), START)
    assert isinstance(refused, BadTrajectory)
    assert refused.fault is TrajectoryFault.INVALID_JOINTS


def test_a_planned_motion_written_down_and_read_again_is_the_same() -> None:
    motion = point_to_point(START, START + 0.5, 1.0)
    fields = trajectory_fields(motion, "panda_link0")
    points = [
        SimpleNamespace(**p | {"time_from_start": SimpleNamespace(**p["time_from_start"])})
        for p in fields["points"]
    ]
    path = read_trajectory(written(*points), START)
    assert isinstance(path, SampledPath)
    for time_s in np.linspace(0.0, motion.duration_s, 50):
        assert np.allclose(path.position(time_s), motion.position(time_s), atol=1e-4)


def test_no_motion_is_a_trajectory_without_points() -> None:
    assert trajectory_fields(None, "")["points"] == []
