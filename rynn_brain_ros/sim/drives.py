"""Ways to drive: straight ahead, on the spot, along a path. Each gives velocities for one control
period after the other, from the pose alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Protocol

from rynn_brain_ros.sim.grid import Grid, path_length_m
from rynn_brain_ros.sim.room_scene import BasePose
from rynn_brain_ros.values import Point2, RigidTransform

Values = tuple[tuple[str, float], ...]

_LOOKAHEAD_M = 0.35
_LOOKAHEAD_STEPS = 14
_ARRIVED_M = 0.02
_TURN_FIRST_RAD = 0.6
"""A target farther to the side than this is turned to before driving on."""
_CLOSE_ENOUGH = 1e-4
"""Metres or radians that count as nothing."""
_M_PER_RAD = 0.2
"""What a radian of the last turn counts beside metres of the way."""


@dataclass(frozen=True)
class BaseLimits:
    """The most that the base does at speed 1. A goal's speed scales the velocities."""

    linear_m_s: float = 0.5
    angular_rad_s: float = 1.2
    linear_m_s2: float = 0.8
    angular_rad_s2: float = 2.5

    def at_speed(self, speed: float) -> BaseLimits:
        return replace(
            self,
            linear_m_s=self.linear_m_s * speed,
            angular_rad_s=self.angular_rad_s * speed,
        )


@dataclass(frozen=True)
class Command:
    """Velocities for one control period, and how much was left to do before it: metres or
    radians, or both added up."""

    linear_m_s: float
    angular_rad_s: float
    left: float
    is_done: bool = False


class Drive(Protocol):
    """One goal on its way; ``command`` is called once in each control period."""

    def command(self, pose: BasePose, dt_s: float) -> Command: ...

    def result(self, pose: BasePose) -> Values: ...


@dataclass
class Straight:
    """Along the heading at the start, by a signed distance."""

    distance_m: float
    start: BasePose
    limits: BaseLimits
    speed_m_s: float = 0.0

    def command(self, pose: BasePose, dt_s: float) -> Command:
        left_m = self.distance_m - self._driven_m(pose)
        self.speed_m_s = _towards(
            left_m, self.speed_m_s, self.limits.linear_m_s, self.limits.linear_m_s2, dt_s
        )
        return Command(self.speed_m_s, 0.0, abs(left_m), abs(left_m) < _CLOSE_ENOUGH)

    def result(self, pose: BasePose) -> Values:
        return (("distance_m", self._driven_m(pose)),)

    def _driven_m(self, pose: BasePose) -> float:
        dx, dy = pose.x_m - self.start.x_m, pose.y_m - self.start.y_m
        return dx * math.cos(self.start.yaw_rad) + dy * math.sin(self.start.yaw_rad)


@dataclass
class Spin:
    """On the spot, by a signed angle that may be more than a turn."""

    angle_rad: float
    start: BasePose
    limits: BaseLimits
    speed_rad_s: float = 0.0
    turned_rad: float = 0.0
    last_yaw_rad: float = field(init=False)

    def __post_init__(self) -> None:
        self.last_yaw_rad = self.start.yaw_rad

    def command(self, pose: BasePose, dt_s: float) -> Command:
        self._follow(pose)
        left_rad = self.angle_rad - self.turned_rad
        self.speed_rad_s = _towards(
            left_rad, self.speed_rad_s, self.limits.angular_rad_s, self.limits.angular_rad_s2, dt_s
        )
        return Command(0.0, self.speed_rad_s, abs(left_rad), abs(left_rad) < _CLOSE_ENOUGH)

    def result(self, pose: BasePose) -> Values:
        self._follow(pose)
        return (("angle_rad", self.turned_rad),)

    def _follow(self, pose: BasePose) -> None:
        self.turned_rad += wrapped(pose.yaw_rad - self.last_yaw_rad)
        self.last_yaw_rad = pose.yaw_rad


@dataclass
class Way:
    """Along a path by pure pursuit (Coulter, "Implementation of the Pure Pursuit Path Tracking
    Algorithm", CMU-RI-TR-92-01, 1992), then a turn to the goal's heading. The point ahead is
    never behind a corner: the straight line to it is free."""

    path: tuple[Point2, ...]
    goal: BasePose
    grid: Grid
    limits: BaseLimits
    along_m: float = 0.0
    linear_m_s: float = 0.0
    angular_rad_s: float = 0.0
    is_arrived: bool = False
    last_turn: Spin | None = None

    def command(self, pose: BasePose, dt_s: float) -> Command:
        turn_rad = wrapped(self.goal.yaw_rad - pose.yaw_rad)
        self.is_arrived |= math.dist(pose.xy_m, self.path[-1]) < _ARRIVED_M
        if self.is_arrived and self.last_turn is None and self.linear_m_s == 0.0:
            self.last_turn = Spin(turn_rad, pose, self.limits, self.angular_rad_s)
        left = _M_PER_RAD * abs(turn_rad)
        if self.last_turn is not None:
            return replace(self.last_turn.command(pose, dt_s), left=left)
        self.along_m = _nearest_along_m(self.path, pose.xy_m, self.along_m)
        if self.is_arrived:
            self._brake(dt_s)
        else:
            self._steer(pose, dt_s)
        return Command(self.linear_m_s, self.angular_rad_s, self._left_m() + left)

    def result(self, pose: BasePose) -> Values:
        return (
            ("position_error_m", math.dist(pose.xy_m, self.goal.xy_m)),
            ("heading_error_rad", abs(wrapped(self.goal.yaw_rad - pose.yaw_rad))),
        )

    def _left_m(self) -> float:
        return path_length_m(self.path) - self.along_m

    def _target(self, pose: BasePose) -> Point2:
        """The farthest point ahead on the path that a free line leads to."""
        for share in (1.0, 0.75, 0.5, 0.25):
            target = _point_at(self.path, self.along_m + share * _LOOKAHEAD_M)
            if self.grid.line_is_free(pose.xy_m, target):
                return target
        return _point_at(self.path, self.along_m + 0.1 * _LOOKAHEAD_M)

    def _brake(self, dt_s: float) -> None:
        self.linear_m_s = _stepped(self.linear_m_s, 0.0, self.limits.linear_m_s2 * dt_s)
        self.angular_rad_s = _stepped(self.angular_rad_s, 0.0, self.limits.angular_rad_s2 * dt_s)

    def _steer(self, pose: BasePose, dt_s: float) -> None:
        """On the circle through the target, the slower the farther it is aside; on the spot
        when it is too far aside."""
        target, limits = self._target(pose), self.limits
        reach_m = max(math.dist(pose.xy_m, target), _ARRIVED_M)
        bearing = wrapped(math.atan2(target[1] - pose.y_m, target[0] - pose.x_m) - pose.yaw_rad)
        curvature = 2 * math.sin(bearing) / reach_m
        fastest = min(
            limits.linear_m_s * max(0.0, 1.0 - abs(bearing) / _TURN_FIRST_RAD),
            limits.angular_rad_s / max(abs(curvature), 1e-9),
        )
        ramp = limits.linear_m_s2 * dt_s
        left_m = math.dist(pose.xy_m, self.path[-1]) if self._left_m() < _LOOKAHEAD_M else math.inf
        wanted = _towards(left_m, self.linear_m_s, fastest, limits.linear_m_s2, dt_s)
        self.linear_m_s = _stepped(self.linear_m_s, wanted, ramp)
        self.angular_rad_s = (
            _towards(bearing, self.angular_rad_s, limits.angular_rad_s, limits.angular_rad_s2, dt_s)
            if abs(bearing) > _TURN_FIRST_RAD
            else _stepped(
                self.angular_rad_s, self.linear_m_s * curvature, limits.angular_rad_s2 * dt_s
            )
        )


def _towards(left: float, speed: float, fastest: float, acceleration: float, dt_s: float) -> float:
    """The speed for the next period on the way to a rest at distance ``left`` (signed): as fast
    as allowed and still able to brake in time, v·dt + v² / 2a ≤ left, ending exactly there."""
    ramp = acceleration * dt_s
    braking = math.sqrt(ramp**2 + 2 * acceleration * abs(left)) - ramp
    wanted = math.copysign(min(fastest, braking, abs(left) / dt_s), left)
    if wanted * speed >= 0.0 and abs(wanted) < abs(speed):
        return wanted
    return _stepped(speed, wanted, ramp)


def _stepped(value: float, wanted: float, step: float) -> float:
    return value + min(max(wanted - value, -step), step)


def _nearest_along_m(path: tuple[Point2, ...], xy_m: Point2, from_m: float) -> float:
    """How far along the path the point nearest to a place is, not behind ``from_m`` and not
    farther ahead of it than the lookahead."""
    step_m = _LOOKAHEAD_M / _LOOKAHEAD_STEPS
    ahead = [from_m + step_m * k for k in range(_LOOKAHEAD_STEPS + 1)]
    nearest_m = min(ahead, key=lambda s: math.dist(_point_at(path, s), xy_m))
    return min(nearest_m, path_length_m(path))


def _point_at(path: tuple[Point2, ...], along_m: float) -> Point2:
    for (xa, ya), (xb, yb) in pairwise(path):
        length = math.dist((xa, ya), (xb, yb))
        if along_m <= length and length > 0:
            share = along_m / length
            return (xa + share * (xb - xa), ya + share * (yb - ya))
        along_m -= length
    return path[-1]


def yaw_of(pose: RigidTransform) -> float:
    """About z; NaN for a quaternion of no length."""
    x, y, z, w = pose.rotation_xyzw
    norm = x * x + y * y + z * z + w * w
    if not math.isfinite(norm) or norm < 1e-12:
        return math.nan
    return math.atan2(2 * (w * z + x * y) / norm, 1 - 2 * (y * y + z * z) / norm)


def wrapped(angle_rad: float) -> float:
    return math.remainder(angle_rad, 2 * math.pi)
