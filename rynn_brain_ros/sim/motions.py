"""Joint motions in time that stay within the Panda's published limits.

A motion is a smooth curve through joint space that is run along with a minimum-jerk profile
(Flash and Hogan 1985), so slowly that every joint keeps its velocity, acceleration and jerk.
Joint vectors are float64 [7] in the order of `JOINTS`; rad, rad/s, rad/s², rad/s³.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rynn_brain_ros.geometry.transforms import interpolate
from rynn_brain_ros.sim.kinematics import Kinematics
from rynn_brain_ros.sim.panda import MAX_ACCELERATION, MAX_JERK, MAX_VELOCITY
from rynn_brain_ros.values import Refusal, RigidTransform

Floats = NDArray[np.float64]

STEP_M = 0.01
STEP_RAD = math.radians(2.0)
"""A straight path is solved at least this densely."""
JUMP_RAD = 0.2
"""No joint may turn further from one of these places to the next."""

_LIMITS = (np.array(MAX_VELOCITY), np.array(MAX_ACCELERATION), np.array(MAX_JERK))
_SHARE = 0.9
"""Of the limits, in planning: the rest is for braking in the middle of a motion."""
_SHORTEST_S = 0.02
_SAMPLES = 200


class Timed(ABC):
    """Joints over time, from 0 to ``duration_s``; at rest before and after."""

    @property
    @abstractmethod
    def duration_s(self) -> float: ...

    @abstractmethod
    def derivatives(self, time_s: float) -> Floats:
        """[4, 7]: position, velocity, acceleration, jerk."""

    def position(self, time_s: float) -> Floats:
        return np.asarray(self.derivatives(time_s)[0])

    def velocity(self, time_s: float) -> Floats:
        return np.asarray(self.derivatives(time_s)[1])


@dataclass(frozen=True, eq=False)
class Piece:
    """From rest to rest along a natural cubic spline through ``knots`` [N, 7], equally far apart
    in the spline's parameter 0…1; ``bends`` [N, 7] are its second derivatives there."""

    knots: Floats = field(repr=False)
    bends: Floats = field(repr=False)
    duration_s: float

    def derivatives(self, times_s: Floats) -> Floats:
        """[4, K, 7]: position to jerk at each time [K]."""
        u = np.clip(times_s / self.duration_s, 0.0, 1.0)[:, None]
        s0 = u**3 * (10 - 15 * u + 6 * u**2)
        s1 = 30 * u**2 * (1 - u) ** 2 / self.duration_s
        s2 = 60 * u * (1 - u) * (1 - 2 * u) / self.duration_s**2
        s3 = 60 * (1 - 6 * u + 6 * u**2) / self.duration_s**3
        q0, q1, q2, q3 = _spline(self.knots, self.bends, s0)
        return np.stack(
            [q0, q1 * s1, q2 * s1**2 + q1 * s2, q3 * s1**3 + 3 * q2 * s1 * s2 + q1 * s3]
        )


@dataclass(frozen=True, eq=False)
class JointPath(Timed):
    """Pieces one after the other, at rest between them."""

    pieces: tuple[Piece, ...]

    @property
    def duration_s(self) -> float:
        return sum(piece.duration_s for piece in self.pieces)

    @property
    def end(self) -> Floats:
        return np.asarray(self.pieces[-1].knots[-1])

    def derivatives(self, time_s: float) -> Floats:
        for piece in self.pieces[:-1]:
            if time_s <= piece.duration_s:
                return piece.derivatives(np.array([time_s]))[:, 0]
            time_s -= piece.duration_s
        return self.pieces[-1].derivatives(np.array([time_s]))[:, 0]


@dataclass(frozen=True, eq=False)
class Braking(Timed):
    """Comes to rest on the way of ``path``, begun ``start_s`` into it: the path's own time runs
    ever slower, and stops after ``length_s``."""

    path: Timed
    start_s: float
    length_s: float

    @property
    def duration_s(self) -> float:
        return self.length_s

    def derivatives(self, time_s: float) -> Floats:
        u = min(max(time_s / self.duration_s, 0.0), 1.0)
        passed_s = self.duration_s * (u - u**3 + u**4 / 2)
        rate = 1 - 3 * u**2 + 2 * u**3
        slope = -6 * u * (1 - u) / self.duration_s
        curve = -6 * (1 - 2 * u) / self.duration_s**2
        q, v, a, j = self.path.derivatives(self.start_s + passed_s)
        return np.stack(
            [
                q,
                v * rate,
                a * rate**2 + v * slope,
                j * rate**3 + 3 * a * rate * slope + v * curve,
            ]
        )


def point_to_point(start: ArrayLike, end: ArrayLike, speed: float = 1.0) -> JointPath:
    """All joints at once, each the shortest way. ``speed`` scales all limits, 0 < speed ≤ 1."""
    return JointPath((_timed(np.array([start, end], np.float64), speed),))


@dataclass(frozen=True)
class PartialPath:
    """A straight path that ends before its goal: after ``fraction`` of it, and why. ``path`` is
    the part that can be done."""

    fraction: float
    text: str
    path: JointPath | None = None


def straight(
    kinematics: Kinematics,
    start: ArrayLike,
    poses: Sequence[RigidTransform],
    speed: float = 1.0,
) -> JointPath | PartialPath:
    """The tool goes in straight lines through the poses and rests at each, turning evenly.

    The joints are found at least every `STEP_M` and `STEP_RAD`, each time from the ones before.
    It ends where there are none, where a joint would turn by more than `JUMP_RAD` at once, or
    where the arm would hit itself or what does not move.
    """
    at = kinematics.forward(start)
    joints = np.array(start, np.float64)
    lines = [_between(a, b) for a, b in zip((at, *poses[:-1]), poses, strict=True)]
    total, done, pieces = sum(map(len, lines)), 0, []
    for line in lines:
        knots = [joints]
        for pose in line:
            found = _next(kinematics, joints, pose)
            if isinstance(found, str):
                if len(knots) > 1:
                    pieces.append(_timed(np.stack(knots), speed))
                part = JointPath(tuple(pieces)) if pieces else None
                return PartialPath(done / total, found, part)
            joints, done = found, done + 1
            knots.append(joints)
        pieces.append(_timed(np.stack(knots), speed))
    return JointPath(tuple(pieces))


def _next(kinematics: Kinematics, joints: Floats, pose: RigidTransform) -> Floats | str:
    found = kinematics.inverse(pose, joints, pull=0.0)
    if isinstance(found, Refusal):
        return found.text
    turn = np.abs(found - joints)
    if turn.max() > JUMP_RAD:
        return (
            f"joint {int(turn.argmax()) + 1} would turn by {turn.max():.2f} rad within "
            f"{STEP_M * 1e3:.0f} mm; the most is {JUMP_RAD:.2f} rad"
        )
    return kinematics.collision(found) or found


def _between(a: RigidTransform, b: RigidTransform) -> list[RigidTransform]:
    """Poses from after ``a`` to ``b``, evenly spaced."""
    length = float(np.linalg.norm(np.subtract(b.translation_m, a.translation_m)))
    cosine = abs(float(np.dot(_unit(a.rotation_xyzw), _unit(b.rotation_xyzw))))
    angle = 2 * math.acos(min(1.0, cosine))
    n = max(2, math.ceil(length / STEP_M), math.ceil(angle / STEP_RAD))
    first = RigidTransform(b.parent, b.child, a.translation_m, a.rotation_xyzw, stamp_ns=0)
    last = RigidTransform(b.parent, b.child, b.translation_m, b.rotation_xyzw, stamp_ns=n)
    return [interpolate(first, last, step) for step in range(1, n + 1)]


def braking(path: Timed, start_s: float) -> Braking:
    """The shortest braking that keeps the limits; as a motion runs out, no later than its end
    would have been."""
    duration_s = 0.05
    longest_s = 2 * max(path.duration_s - start_s, 0.05)
    while duration_s < longest_s:
        candidate = Braking(path, start_s, duration_s)
        if _within_limits(candidate):
            return candidate
        duration_s *= 1.15
    return Braking(path, start_s, longest_s)


def _within_limits(motion: Braking) -> bool:
    times = np.linspace(0.0, motion.duration_s, 40)
    states = np.stack([motion.derivatives(float(t)) for t in times], axis=1)
    return all(
        bool((np.abs(state) <= limit).all())
        for state, limit in zip(states[1:], _LIMITS, strict=True)
    )


def _timed(knots: Floats, speed: float) -> Piece:
    """As fast as the limits times ``speed`` allow. With a duration T, velocities go as 1/T,
    accelerations as 1/T² and jerks as 1/T³."""
    bends = _bends(knots)
    states = Piece(knots, bends, 1.0).derivatives(np.linspace(0.0, 1.0, _SAMPLES))
    duration_s = _SHORTEST_S
    for order, limit in enumerate(_LIMITS, start=1):
        excess = float((np.abs(states[order]).max(axis=0) / (limit * _SHARE * speed)).max())
        duration_s = max(duration_s, excess ** (1 / order))
    return Piece(knots, bends, duration_s)


def _bends(knots: Floats) -> Floats:
    """Second derivatives [N, 7] of the natural cubic spline through N knots."""
    n = len(knots) - 1
    bends = np.zeros_like(knots)
    if n > 1:
        system = 4 * np.eye(n - 1) + np.eye(n - 1, k=1) + np.eye(n - 1, k=-1)
        bends[1:-1] = np.linalg.solve(system, 6 * n**2 * np.diff(knots, 2, axis=0))
    return bends


def _spline(knots: Floats, bends: Floats, s: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Value and three derivatives by the parameter, [K, 7] each, at s [K, 1] in 0…1."""
    n = len(knots) - 1
    i = np.minimum((s[:, 0] * n).astype(int), n - 1)
    b = s * n - i[:, None]
    a = 1 - b
    low, high, bend_low, bend_high = knots[i], knots[i + 1], bends[i], bends[i + 1]
    value = a * low + b * high + ((a**3 - a) * bend_low + (b**3 - b) * bend_high) / (6 * n**2)
    first = n * (high - low) + ((3 * b**2 - 1) * bend_high - (3 * a**2 - 1) * bend_low) / (6 * n)
    return value, first, a * bend_low + b * bend_high, n * (bend_high - bend_low)


def _unit(quaternion: Sequence[float]) -> Floats:
    array = np.array(quaternion, np.float64)
    return np.asarray(array / np.linalg.norm(array))
