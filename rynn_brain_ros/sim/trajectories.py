"""Joint trajectories as control_msgs/FollowJointTrajectory has them: read, checked, and run.

A message is any object with the fields of its ``.msg``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.sim.motions import Timed
from rynn_brain_ros.sim.panda import JOINTS, LOWER, MAX_VELOCITY, UPPER

Floats = NDArray[np.float64]

START_RAD = 0.05
"""A trajectory may begin this far from where the arm is."""
_TOO_FAST = 1.05
"""Of the joints' limits: what was planned at the limit may be written down a little faster."""
_SAMPLE_S = 0.05


class TrajectoryFault(str, Enum):
    """By the names of FollowJointTrajectory's error codes."""

    INVALID_GOAL = "INVALID_GOAL"
    INVALID_JOINTS = "INVALID_JOINTS"


@dataclass(frozen=True)
class BadTrajectory:
    fault: TrajectoryFault
    text: str


@dataclass(frozen=True, eq=False)
class SampledPath(Timed):
    """Joints [N, 7] at N increasing times [s] from 0, with their velocities [N, 7].

    Between two of them a cubic, as ros2_controllers' joint_trajectory_controller has it where
    velocities are given; a straight line where ``velocities`` is ``None``.
    """

    times_s: Floats
    joints: Floats = field(repr=False)
    velocities: Floats | None = field(default=None, repr=False)

    @property
    def duration_s(self) -> float:
        return float(self.times_s[-1])

    def derivatives(self, time_s: float) -> Floats:
        if time_s >= self.duration_s:
            return np.stack([self.joints[-1], *np.zeros((3, len(JOINTS)))])
        i = int(np.searchsorted(self.times_s, time_s, side="right")) - 1
        h, s = self.times_s[i + 1] - self.times_s[i], max(time_s - self.times_s[i], 0.0)
        slope = (self.joints[i + 1] - self.joints[i]) / h
        v0, v1 = (slope, slope) if self.velocities is None else self.velocities[i : i + 2]
        square, cube = (3 * slope - 2 * v0 - v1) / h, (v0 + v1 - 2 * slope) / h**2
        return np.stack(
            [
                self.joints[i] + s * (v0 + s * (square + s * cube)),
                v0 + s * (2 * square + 3 * s * cube),
                2 * square + 6 * s * cube,
                6 * cube,
            ]
        )


def read_trajectory(message: Any, start: Floats) -> SampledPath | BadTrajectory:
    """A trajectory_msgs/JointTrajectory for all of `JOINTS` in any order, from ``start`` [7]."""
    names = [str(name) for name in message.joint_names]
    if sorted(names) != sorted(JOINTS):
        return BadTrajectory(
            TrajectoryFault.INVALID_JOINTS,
            f"the trajectory is for {', '.join(names) or 'no joints'}; it must be for "
            f"{', '.join(JOINTS)}",
        )
    points, order = list(message.points), [names.index(name) for name in JOINTS]
    if not points:
        return _invalid("the trajectory has no points")
    if any(len(point.positions) != len(JOINTS) for point in points):
        return _invalid(f"each point needs {len(JOINTS)} positions")
    times = np.array([_seconds(point.time_from_start) for point in points])
    joints = np.array([list(point.positions) for point in points], np.float64)[:, order]
    velocities = None
    if all(len(point.velocities) == len(JOINTS) for point in points):
        velocities = np.array([list(point.velocities) for point in points], np.float64)[:, order]
    return _checked(times, joints, velocities, np.asarray(start))


def _checked(
    times: Floats, joints: Floats, velocities: Floats | None, start: Floats
) -> SampledPath | BadTrajectory:
    if times[0] < 0 or (np.diff(times) <= 0).any():
        return _invalid("the points' time_from_start must grow from point to point")
    if (
        not np.isfinite(joints).all()
        or not np.isfinite(0.0 if velocities is None else velocities).all()
    ):
        return _invalid("a position or velocity is not a finite number")
    away = np.abs(joints[0] - start)
    if times[0] == 0 and away.max() > START_RAD:
        worst = int(away.argmax())
        return _invalid(
            f"it begins {away[worst]:.3f} rad from where {JOINTS[worst]} is; plan from the "
            "current state"
        )
    if times[0] > 0:
        times, joints = np.r_[0.0, times], np.vstack([start, joints])
        velocities = None if velocities is None else np.vstack([np.zeros(len(JOINTS)), velocities])
    if len(times) == 1:
        times, joints = np.array([0.0, _SAMPLE_S]), np.vstack([start, joints])
        velocities = None
    outside = (joints < np.array(LOWER) - 1e-6) | (joints > np.array(UPPER) + 1e-6)
    if outside.any():
        return _invalid(f"{JOINTS[int(outside.any(axis=0).argmax())]} would leave its range")
    path = SampledPath(times, joints, velocities)
    shares = [np.abs(path.velocity(t)) / MAX_VELOCITY for t in _looks(path)]
    worst = int(np.max(shares, axis=0).argmax())
    if (share := float(np.max(shares))) > _TOO_FAST:
        return _invalid(f"{JOINTS[worst]} would move at {share:.1f} times its limit")
    return path


def _looks(path: SampledPath) -> Sequence[float]:
    return [float(t) for t in np.linspace(0.0, path.duration_s, 10 * len(path.times_s))]


def _invalid(text: str) -> BadTrajectory:
    return BadTrajectory(TrajectoryFault.INVALID_GOAL, text)


def _seconds(duration: Any) -> float:
    return int(duration.sec) + int(duration.nanosec) / 1e9


def trajectory_fields(path: Timed | None, frame_id: str) -> dict[str, Any]:
    """A trajectory_msgs/JointTrajectory of a motion, a point at least every 0.05 s; no points
    without a motion."""
    points = []
    if path is not None:
        n = max(2, 1 + math.ceil(path.duration_s / _SAMPLE_S))
        points = [_point(path, float(t)) for t in np.linspace(0.0, path.duration_s, n)]
    return {"header": {"frame_id": frame_id}, "joint_names": list(JOINTS), "points": points}


def _point(path: Timed, time_s: float) -> dict[str, Any]:
    position, velocity, acceleration, _ = path.derivatives(time_s)
    sec, nanosec = divmod(round(time_s * 1e9), 1_000_000_000)
    return {
        "positions": position.tolist(),
        "velocities": velocity.tolist(),
        "accelerations": acceleration.tolist(),
        "time_from_start": {"sec": sec, "nanosec": nanosec},
    }
