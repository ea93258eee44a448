"""Rigid transforms, and a transform tree that can be asked about the past.

`TransformBuffer` answers strictly *at* a stamp: it interpolates between the two samples around
it and never extrapolates, so that a pose is never older or newer than its picture.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from threading import RLock

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pyquaternion import Quaternion as Rotation

from rynn_brain_ros.values import (
    Matrix3,
    Quaternion,
    Refusal,
    RefusalCode,
    RigidTransform,
    TransformError,
    Vector3,
)

Floats = NDArray[np.float64]

_MIN_QUATERNION_NORM = 1e-6
_SAME_AXES_RAD = math.radians(1.0)


# --- one transform -------------------------------------------------------------------------------


def _unit(T_a_b: RigidTransform) -> Quaternion:
    """Its quaternion with length 1."""
    x, y, z, w = T_a_b.rotation_xyzw
    norm = math.sqrt(x * x + y * y + z * z + w * w)
    if not all(map(math.isfinite, (norm, *T_a_b.translation_m))):
        raise TransformError(f"'{T_a_b.parent}' → '{T_a_b.child}' holds NaN or infinity")
    if norm < _MIN_QUATERNION_NORM:
        raise TransformError(f"'{T_a_b.parent}' → '{T_a_b.child}' has a quaternion of no length")
    return (x / norm, y / norm, z / norm, w / norm)


# Poses are chained dozens of times for every picture: plain numbers are 20 times faster here than
# arrays of three.


def _times(p: Quaternion, q: Quaternion) -> Quaternion:
    """Hamilton's product: first ``q``, then ``p``."""
    (a, b, c, d), (e, f, g, h) = p, q
    return (
        d * e + a * h + b * g - c * f,
        d * f - a * g + b * h + c * e,
        d * g + a * f - b * e + c * h,
        d * h - a * e - b * f - c * g,
    )


def _turned(q: Quaternion, point: Vector3) -> Vector3:
    """``point`` rotated by the unit quaternion ``q``: p + w·t + q × t with t = 2·q × p."""
    (a, b, c, w), (x, y, z) = q, point
    i, j, k = 2 * (b * z - c * y), 2 * (c * x - a * z), 2 * (a * y - b * x)
    return (x + w * i + b * k - c * j, y + w * j + c * i - a * k, z + w * k + a * j - b * i)


def _rotation(T_a_b: RigidTransform) -> Rotation:
    x, y, z, w = _unit(T_a_b)
    return Rotation(w, x, y, z)


def _xyzw(rotation: Rotation) -> Quaternion:
    w, x, y, z = map(float, rotation.normalised.elements)
    return (x, y, z, w)


def _rotation_matrix(T_a_b: RigidTransform) -> Floats:
    """[3, 3], float64."""
    q = _unit(T_a_b)
    axes = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    return np.asarray(np.array([_turned(q, axis) for axis in axes]).T, np.float64)


def _vector(values: Floats) -> Vector3:
    x, y, z = map(float, values)
    return (x, y, z)


def normalized(T_a_b: RigidTransform) -> RigidTransform:
    """With a quaternion of length 1; `TransformError` where that is impossible."""
    unit = _unit(T_a_b)
    return T_a_b if unit == T_a_b.rotation_xyzw else replace(T_a_b, rotation_xyzw=unit)


def compose(T_a_b: RigidTransform, T_b_c: RigidTransform) -> RigidTransform:
    """``T_a_c``, with the later of both stamps. `TransformError` if the inner frames differ."""
    if T_a_b.child != T_b_c.parent:
        raise TransformError(
            f"cannot chain '{T_a_b.parent}' → '{T_a_b.child}' with "
            f"'{T_b_c.parent}' → '{T_b_c.child}': the inner frames differ"
        )
    q = _unit(T_a_b)
    (x, y, z), (dx, dy, dz) = T_a_b.translation_m, _turned(q, T_b_c.translation_m)
    return RigidTransform(
        T_a_b.parent,
        T_b_c.child,
        (x + dx, y + dy, z + dz),
        _times(q, _unit(T_b_c)),
        max(T_a_b.stamp_ns, T_b_c.stamp_ns),
    )


def invert(T_a_b: RigidTransform) -> RigidTransform:
    """``T_b_a``, same stamp."""
    x, y, z, w = _unit(T_a_b)
    inverse = (-x, -y, -z, w)
    dx, dy, dz = _turned(inverse, T_a_b.translation_m)
    return RigidTransform(T_a_b.child, T_a_b.parent, (-dx, -dy, -dz), inverse, T_a_b.stamp_ns)


def apply(T_a_b: RigidTransform, points_b: ArrayLike) -> Floats:
    """Points [N, 3] of frame b in frame a, metres."""
    points = np.asarray(points_b, np.float64).reshape(-1, 3)
    return np.asarray(points @ _rotation_matrix(T_a_b).T + T_a_b.translation_m, np.float64)


def rotate_covariance(T_a_b: RigidTransform, covariance_b: Matrix3) -> Matrix3:
    """A 3×3 covariance of frame b in frame a, row-major."""
    R = _rotation_matrix(T_a_b)
    rotated = R @ np.reshape(covariance_b, (3, 3)) @ R.T
    a, b, c, d, e, f, g, h, i = map(float, ((rotated + rotated.T) / 2).ravel())
    return (a, b, c, d, e, f, g, h, i)


def to_matrix(T_a_b: RigidTransform) -> Floats:
    """Homogeneous matrix [4, 4]."""
    matrix = np.eye(4)
    matrix[:3, :3] = _rotation_matrix(T_a_b)
    matrix[:3, 3] = T_a_b.translation_m
    return matrix


def from_matrix(matrix: ArrayLike, parent: str, child: str, stamp_ns: int = 0) -> RigidTransform:
    """From a homogeneous matrix [4, 4]; `TransformError` unless it is a rigid motion (to 1e-5)."""
    H = np.asarray(matrix, np.float64)
    where = f"the matrix of '{parent}' → '{child}'"
    if H.shape != (4, 4) or not np.isfinite(H).all():
        raise TransformError(f"{where} is not a finite 4×4 matrix")
    R = H[:3, :3]
    rigid = np.allclose(R @ R.T, np.eye(3), atol=1e-5) and np.linalg.det(R) > 0
    if not rigid or not np.allclose(H[3], (0, 0, 0, 1), atol=1e-9):
        raise TransformError(f"{where} is not a rotation and a translation")
    rotation = Rotation(matrix=R, rtol=1e-4, atol=1e-4)
    return RigidTransform(parent, child, _vector(H[:3, 3]), _xyzw(rotation), stamp_ns)


def apart(a: RigidTransform, b: RigidTransform) -> tuple[float, float]:
    """How far apart two poses between the same frames are, told in the parent's: metres and
    radians."""
    way = to_matrix(b) @ np.linalg.inv(to_matrix(a))
    cosine = (float(np.trace(way[:3, :3])) - 1) / 2
    return float(np.linalg.norm(way[:3, 3])), math.acos(min(1.0, max(-1.0, cosine)))


def interpolate(a: RigidTransform, b: RigidTransform, stamp_ns: int) -> RigidTransform:
    """Between two samples of one edge: linear translation, slerp the short way round.

    `TransformError` if the edges differ or the stamp is not between theirs.
    """
    if (a.parent, a.child) != (b.parent, b.child):
        raise TransformError(f"'{a.child}' and '{b.child}' are samples of different edges")
    if not a.stamp_ns <= stamp_ns <= b.stamp_ns:
        raise TransformError(f"{stamp_ns} is not between {a.stamp_ns} and {b.stamp_ns}")
    if a.stamp_ns == b.stamp_ns:
        return a
    fraction = (stamp_ns - a.stamp_ns) / (b.stamp_ns - a.stamp_ns)
    start, end = np.array(a.translation_m), np.array(b.translation_m)
    rotation = Rotation.slerp(_rotation(a), _rotation(b), fraction)
    return RigidTransform(
        a.parent, a.child, _vector(start + fraction * (end - start)), _xyzw(rotation), stamp_ns
    )


# --- the tree ------------------------------------------------------------------------------------


def _seconds(stamp_ns: int) -> str:
    return f"{stamp_ns // 10**9}.{stamp_ns % 10**9:09d}"


def _clean(frame_id: str) -> str:
    """tf2 knows no leading slash, recordings from before 2013 do."""
    return frame_id.lstrip("/")


def _no_transform(text: str) -> Refusal:
    return Refusal(RefusalCode.NO_TRANSFORM, text)


_BLOCKS = 8
"""A history is trimmed in blocks of this part of it."""


@dataclass
class _Edge:
    """What is known about one child: its parent never changes, its samples are sorted by stamp."""

    parent: str
    child: str
    static: bool
    stamps: list[int] = field(default_factory=list)
    samples: list[RigidTransform] = field(default_factory=list)
    heard: int = 0
    trimmed: int = -1
    """The rounds of its buffer in which it was added to and trimmed last."""

    @property
    def name(self) -> str:
        return f"'{self.parent}' → '{self.child}'"

    def add(self, sample: RigidTransform, history_ns: int) -> bool:
        """Whether older ones were trimmed, which is once in ``history_ns / _BLOCKS``."""
        if self.static:
            self.stamps, self.samples = [sample.stamp_ns], [sample]
            return False
        index = bisect_left(self.stamps, sample.stamp_ns)
        if index < len(self.stamps) and self.stamps[index] == sample.stamp_ns:
            return False  # a repeated sample, as tf2 ignores it
        self.stamps.insert(index, sample.stamp_ns)
        self.samples.insert(index, sample)
        # In blocks: deleting from a list's head on each arrival would move the whole history.
        if self.stamps[0] >= self.stamps[-1] - history_ns - history_ns // _BLOCKS:
            return False
        self._keep(bisect_left(self.stamps, self.stamps[-1] - history_ns))
        return True

    def keep_newest(self) -> None:
        self._keep(len(self.stamps) - 1)

    def _keep(self, first: int) -> None:
        del self.stamps[:first], self.samples[:first]

    def at(self, stamp_ns: int, max_gap_ns: int) -> RigidTransform | Refusal:
        if self.static:
            return self.samples[-1]
        index = bisect_left(self.stamps, stamp_ns)
        if index < len(self.stamps) and self.stamps[index] == stamp_ns:
            return self.samples[index]
        if index in (0, len(self.stamps)):
            edge_ns = self.stamps[0] if index == 0 else self.stamps[-1]
            side = "before the oldest" if index == 0 else "after the newest"
            return _no_transform(
                f"{self.name} at {_seconds(stamp_ns)}: {_secs_before(stamp_ns, edge_ns)} {side} "
                f"sample; known is {_seconds(self.stamps[0])} … {_seconds(self.stamps[-1])} "
                f"({len(self.stamps)} samples)"
            )
        before, after = self.samples[index - 1], self.samples[index]
        gap_ns = after.stamp_ns - before.stamp_ns
        if gap_ns > max_gap_ns:
            return Refusal(
                RefusalCode.STALE,
                f"{self.name} at {_seconds(stamp_ns)}: the samples around it, "
                f"{_seconds(before.stamp_ns)} and {_seconds(after.stamp_ns)}, are "
                f"{gap_ns / 1e9:.3f} s apart (limit {max_gap_ns / 1e9:.3f} s)",
            )
        return interpolate(before, after, stamp_ns)


def _secs_before(a_ns: int, b_ns: int) -> str:
    return f"{abs(a_ns - b_ns) / 1e9:.6f} s"


class ClockReset(str):
    """The sentence about a clock that jumped back: told, and over."""


class TransformBuffer:
    """The last ``history_s`` seconds of /tf, and all of /tf_static. Safe from any thread.

    A dynamic edge keeps up to an eighth more than ``history_s``, and one that fell silent its
    newest sample alone. Samples farther apart than
    ``max_gap_s`` are not interpolated. A sample up to ``max_backward_skew_s`` before its edge's
    newest is sorted in; one further back means that the clock jumped back (a simulation was
    reset, a bag loops), and everything that moves is learned anew.

    A frame keeps its first parent: a message that re-parents it, closes a loop or makes a
    dynamic edge static is left out and reported, because a recording with one bad message must
    still replay. So the edges always form a forest, and no lookup can run in circles.
    """

    def __init__(
        self, history_s: float = 60.0, max_gap_s: float = 0.5, max_backward_skew_s: float = 0.5
    ) -> None:
        self._history_ns = round(history_s * 1e9)
        self._max_gap_ns = round(max_gap_s * 1e9)
        self._skew_ns = round(max_backward_skew_s * 1e9)
        self._edges: dict[str, _Edge] = {}
        self._round = 0
        self._lock = RLock()

    def add(self, transforms: Iterable[RigidTransform], static: bool = False) -> tuple[str, ...]:
        """Take one /tf (or /tf_static) message.

        Returns a sentence per transform left out, and a `ClockReset` when the clock jumped back.
        """
        with self._lock:
            problems = (self._add_one(each, static) for each in transforms)
            return tuple(problem for problem in problems if problem is not None)

    def _add_one(self, T_parent_child: RigidTransform, static: bool) -> str | None:
        parent, child = _clean(T_parent_child.parent), _clean(T_parent_child.child)
        if (parent, child) != (T_parent_child.parent, T_parent_child.child):
            T_parent_child = replace(T_parent_child, parent=parent, child=child)
        try:
            sample = normalized(T_parent_child)
        except TransformError as error:
            return str(error)
        edge = self._edges.get(child)
        if edge is None:
            problem = self._new_edge_problem(parent, child)
            if problem is not None:
                return problem
            edge = self._edges[child] = _Edge(parent, child, static)
        elif edge.parent != parent:
            return f"'{child}' has the parent '{edge.parent}'; its second parent '{parent}' ignored"
        elif edge.static != static:
            known, new = ("static", "dynamic") if edge.static else ("dynamic", "static")
            return f"{edge.name} is known as {known}; its {new} sample was ignored"
        elif not static and sample.stamp_ns < edge.stamps[-1] - self._skew_ns:
            return self._start_over(edge, sample)
        edge.heard = self._round
        if edge.add(sample, self._history_ns):
            self._trimmed(edge)
        return None

    def _trimmed(self, edge: _Edge) -> None:
        """A round is over when an edge is trimmed twice in it. Stamps of different edges, which may
        come from clocks that do not agree, are not compared."""
        if edge.trimmed == self._round:
            self._round += 1
            for other in self._edges.values():
                if not other.static and self._round - other.heard > _BLOCKS + 1:
                    other.keep_newest()
        edge.trimmed = self._round

    def _start_over(self, edge: _Edge, sample: RigidTransform) -> ClockReset:
        """Samples of two runs must neither hide each other nor be interpolated between."""
        back = _secs_before(sample.stamp_ns, edge.stamps[-1])
        self.clear_dynamic()
        self._add_one(sample, static=False)
        return ClockReset(
            f"{edge.name}: the clock jumped back by {back}; all moving transforms start over"
        )

    def _new_edge_problem(self, parent: str, child: str) -> str | None:
        if not parent or not child:
            return f"a transform without a frame name: parent '{parent}', child '{child}'"
        if parent == child:
            return f"'{child}' is its own parent; ignored"
        if child in self._chain(parent):
            loop = " → ".join((child, *self._chain(parent)[: self._chain(parent).index(child) + 1]))
            return f"'{parent}' → '{child}' would close a loop ({loop}); ignored"
        return None

    def _chain(self, frame_id: str) -> tuple[str, ...]:
        """The frame and its ancestors, root last."""
        chain = [frame_id]
        while chain[-1] in self._edges:
            chain.append(self._edges[chain[-1]].parent)
        return tuple(chain)

    def clear(self) -> None:
        """Forget everything, static edges too: the clock was reset or another bag begins."""
        with self._lock:
            self._edges.clear()

    def clear_dynamic(self, after_ns: int | None = None) -> None:
        """Forget what moves and keep what is static: the clock jumped back.

        Moving edges are forgotten whole, so that the new run may connect its frames otherwise;
        with ``after_ns`` only those that reach beyond it, which are the old run's.
        """
        with self._lock:
            self._edges = {
                child: edge
                for child, edge in self._edges.items()
                if edge.static or (after_ns is not None and edge.stamps[-1] <= after_ns)
            }

    @property
    def known_frames(self) -> tuple[str, ...]:
        """Every frame's name, sorted."""
        with self._lock:
            return tuple(sorted({*self._edges, *(edge.parent for edge in self._edges.values())}))

    def ancestors(self, frame_id: str) -> tuple[str, ...]:
        """Parents of a frame, nearest first; empty for a root and for an unknown frame."""
        with self._lock:
            return self._chain(_clean(frame_id))[1:]

    def children(self, frame_id: str) -> tuple[str, ...]:
        """Frames whose parent this is, sorted."""
        parent = _clean(frame_id)
        with self._lock:
            return tuple(sorted(e.child for e in self._edges.values() if e.parent == parent))

    def is_static(self, frame_id: str) -> bool:
        """Whether the edge above this frame is static; false for a root."""
        with self._lock:
            edge = self._edges.get(_clean(frame_id))
            return edge is not None and edge.static

    def lookup(self, target: str, source: str, stamp_ns: int) -> RigidTransform | Refusal:
        """``T_target_source`` exactly at ``stamp_ns``.

        Refuses with NO_TRANSFORM (unknown frame, other tree, stamp outside an edge's history) or
        STALE (the samples around the stamp are too far apart).
        """
        target, source = _clean(target), _clean(source)
        with self._lock:
            for frame_id in (target, source):
                if not self._knows(frame_id):
                    names = ", ".join(self.known_frames) or "none"
                    return _no_transform(f"frame '{frame_id}' is unknown; known are: {names}")
            up, down = self._chain(target), self._chain(source)
            common = next((name for name in up if name in down), None)
            if common is None:
                return _no_transform(
                    f"'{target}' and '{source}' are not connected: "
                    f"their trees end in '{up[-1]}' and '{down[-1]}'"
                )
            T_common_target = self._climb(common, up[: up.index(common)], stamp_ns)
            T_common_source = self._climb(common, down[: down.index(common)], stamp_ns)
        if isinstance(T_common_target, Refusal):
            return T_common_target
        if isinstance(T_common_source, Refusal):
            return T_common_source
        return replace(compose(invert(T_common_target), T_common_source), stamp_ns=stamp_ns)

    def _knows(self, frame_id: str) -> bool:
        return frame_id in self._edges or any(e.parent == frame_id for e in self._edges.values())

    def _climb(self, root: str, frames: Sequence[str], stamp_ns: int) -> RigidTransform | Refusal:
        """``T_root_frames[0]``; ``frames`` run upwards and end below ``root``."""
        steps: list[RigidTransform] = [RigidTransform(root, root)]
        for frame_id in reversed(frames):
            step = self._edges[frame_id].at(stamp_ns, self._max_gap_ns)
            if isinstance(step, Refusal):
                return step
            steps.append(step)
        return reduce(compose, steps)


# --- which frame ---------------------------------------------------------------------------------

ROBOT_BASES = ("base_link", "base_footprint", "base", "panda_link0", "fr3_link0", "link0")
"""Names of a robot's own base, in the order in which they are tried."""

_JUMPING_FRAMES = frozenset({"map", "earth"})


def _short(frame_id: str) -> str:
    """Without the namespace: 'robot1/odom' → 'odom'."""
    return frame_id.rsplit("/", 1)[-1]


def continuous_frame(
    buffer: TransformBuffer, frame_id: str, preferred: Sequence[str] = ("odom",)
) -> str | None:
    """The fixed frame for poses of camera ``frame_id``: an ancestor in which nothing jumps.

    The first of: ``preferred`` in its order, odom, a robot base (`ROBOT_BASES`) that nothing
    moves, the tree's root if there is no robot base. Names match with or without a namespace.

    A base with a moving edge anywhere above it, in the tree known so far, drives around and is
    passed over. If all bases do, the root is not taken instead: without odom, map → base_link is
    all there is, and it may jump.
    REP 105 lets map and earth jump whenever the robot is localized anew, so they are only taken
    when preferred by name or when every edge from them to the camera is static. None if the frame
    has no ancestor that qualifies.
    """
    ancestors = buffer.ancestors(frame_id)
    fixed = next(_named((*preferred, "odom"), ancestors), None)
    if fixed is not None or not ancestors:
        return fixed
    static = [buffer.is_static(name) for name in (frame_id, *ancestors[:-1])]
    bases = tuple(_named(ROBOT_BASES, ancestors))
    if bases:
        still = (base for base in bases if all(static[ancestors.index(base) + 1 :]))
        return next(still, None)
    root = ancestors[-1]
    return root if all(static) or _short(root) not in _JUMPING_FRAMES else None


def _named(wanted: Iterable[str], frame_ids: Sequence[str]) -> Iterator[str]:
    """Those of ``frame_ids`` that carry a wanted name, in the order of the wanted ones."""
    for name in wanted:
        yield from (each for each in frame_ids if _clean(name) in (each, _short(each)))


def _stem(frame_id: str) -> frozenset[str]:
    """The words of a frame's name that tell which camera it is."""
    return frozenset(_words(frame_id)) - {"optical", "frame", "link"}


def _words(frame_id: str) -> Iterator[str]:
    return iter(_clean(frame_id).replace("/", "_").lower().split("_"))


def _same_axes(T_a_b: RigidTransform) -> bool:
    return bool(abs(_rotation(T_a_b).angle) < _SAME_AXES_RAD)


def optical_frame_refusal(buffer: TransformBuffer, frame_id: str, stamp_ns: int) -> Refusal | None:
    """NOT_OPTICAL where an image's ``frame_id`` is known to be the camera's body frame.

    No tree tells which way a camera looks. What it can tell: this frame is not called optical,
    while a child of it is (``camera_color_frame`` → ``camera_color_optical_frame``), or a sibling
    of otherwise the same name, and that one's axes differ. A frame without such a neighbour is
    believed, and so is one whose neighbour has the same axes.
    """
    if "optical" in frame_id.lower():
        return None
    children = buffer.children(frame_id)
    parents = buffer.ancestors(frame_id)[:1]
    siblings = [name for parent in parents for name in buffer.children(parent)]
    candidates = [
        *(name for name in children if "optical" in name.lower()),
        *(n for n in siblings if "optical" in n.lower() and _stem(n) == _stem(frame_id)),
    ]
    for optical in candidates:
        T_body_optical = buffer.lookup(frame_id, optical, stamp_ns)
        if isinstance(T_body_optical, RigidTransform) and _same_axes(T_body_optical):
            continue
        return Refusal(
            RefusalCode.NOT_OPTICAL,
            f"the image's frame '{frame_id}' looks like the camera's body (x forward), since "
            f"'{optical}' stands beside it; the driver should stamp its images with '{optical}'",
        )
    return None
