"""The ground that a driving robot has seen: where something stood, and where it was free.

A camera that looks ahead does not see the ground at the robot's own feet, nor what it has turned
away from. Both are therefore remembered on a grid in the fixed frame; what is seen last counts, at
the height that it is seen at: floor under a table top says nothing about the top. Where the camera
looks through the ground's level there is none: stairs down, a ditch, the strip behind their edge.
Where it looks and has no depth, something black, of chrome or of glass may stand.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.geometry import DepthView, apply, compose, invert, ray_grid
from rynn_brain_ros.safety.corridor import BLANK_SHARE, Strip, blank_crossings
from rynn_brain_ros.values import Point2, RigidTransform, TransformError

Cells = NDArray[np.int64]
Places = NDArray[np.float64]
Depths = NDArray[np.float64]
_Span = tuple[float, float]
"""From the lowest to the highest that was seen, in metres over the ground."""

_CELL_M = 0.05
_STRIDE = 2
_LOOK_M = 4.5
_MIN_POINTS = 3
"""Depth pixels that make an obstacle: fewer may be noise."""
_MIN_BLANKS = 8
"""Rays without depth that make a cell unseen: few rays meet a cell far away, where edges and noise
take the depth of many."""
_THROUGH_M = 0.05
"""So much farther than where a thing was must be seen for it to be gone: about a cell."""
_LOW_M = 0.12
"""What reaches no higher is also gone where the ground is seen: nothing is seen beneath it."""
_FAR_SCALE = 100_000
"""Cells are numbered as x · this + y: rooms up to 5 km wide."""
SEEN_SHARE = 0.6
"""Of the cells around a free place: rows of depth meet far ground in stripes."""


class GroundMemory:
    """Cells of ground, 5 cm wide: those that something was seen to stand on, those where there is
    no ground, those that were looked at and have no depth, and the free ones."""

    def __init__(self) -> None:
        self._solid: dict[int, _Span] = {}
        self._drops: set[int] = set()
        self._blank: set[int] = set()
        self._free: set[int] = set()
        self._fixed: str | None = None

    def see(
        self,
        view: DepthView,
        T_base_camera: RigidTransform,
        T_fixed_base: RigidTransform,
        strip: Strip,
    ) -> None:
        """Takes in one depth image; ``strip`` says what is ground and how high the robot is. What
        was remembered in another fixed frame is forgotten: nobody knows where it is in this one."""
        if T_fixed_base.parent != self._fixed:
            self._fixed = T_fixed_base.parent
            for remembered in (self._solid, self._drops, self._blank, self._free):
                remembered.clear()
        z = view.depth_m[::_STRIDE, ::_STRIDE].astype(np.float64)
        rays = ray_grid(view.camera)[::_STRIDE, ::_STRIDE]
        seen = np.isfinite(z) & (z > 0)
        known = seen & (z < _LOOK_M)
        points = rays[known] * z[known][:, None]
        above_m = apply(T_base_camera, points)[:, 2] - strip.ground_z_m
        cells = _numbers(apply(compose(T_fixed_base, T_base_camera), points))
        stands = (above_m > strip.tolerance_m) & (above_m < strip.height_m)
        solid = _spans(cells[stands], above_m[stands])
        T_fixed_camera = compose(T_fixed_base, T_base_camera)
        sides = np.ascontiguousarray(np.moveaxis(rays[..., :2], 2, 0))
        crossings = blank_crossings(z, sides, T_base_camera, strip)
        on_ground = cells[np.abs(above_m) <= strip.tolerance_m]
        blank = _blank(crossings[crossings[:, 2] < _LOOK_M], on_ground, T_fixed_camera)
        ground = set(np.unique(on_ground).tolist()) - blank
        for number in self._gone(view, T_base_camera, T_fixed_base, strip, ground):
            if number not in solid:
                del self._solid[number]
        for number, (low_m, high_m) in solid.items():
            before = self._solid.get(number, (low_m, high_m))
            self._solid[number] = (min(low_m, before[0]), max(high_m, before[1]))
        drops = _drops(rays[seen] * z[seen][:, None], T_base_camera, T_fixed_base, strip)
        self._drops = (self._drops - ground) | drops
        self._blank = (self._blank - ground) | blank
        self._free = (self._free | ground) - self._unfit

    @property
    def _barred(self) -> set[int]:
        """Where something was seen that a robot cannot stand on."""
        return self._solid.keys() | self._drops

    @property
    def _unfit(self) -> set[int]:
        """Where no robot is sent to: it cannot stand there, or nobody knows what does. A way is not
        barred by the latter: edges lose their depth, too, and may never be seen again."""
        return self._barred | self._blank

    def _gone(
        self,
        view: DepthView,
        T_base_camera: RigidTransform,
        T_fixed_base: RigidTransform,
        strip: Strip,
        ground: set[int],
    ) -> list[int]:
        """Remembered cells where the image sees through the thing at its bottom, and through its
        top or nothing there: far walls have no depth."""
        numbers = sorted(self._solid)
        if not numbers:
            return []
        spans = np.array([self._solid[number] for number in numbers])
        in_base = apply(
            invert(T_fixed_base), np.column_stack([_centers(self._solid), np.zeros(len(numbers))])
        )
        bottom, top = (
            _depth_beyond(view, apply(invert(T_base_camera), np.column_stack([in_base[:, :2], z])))
            for z in strip.ground_z_m + spans.T
        )
        through = (bottom > _THROUGH_M) & ((top > _THROUGH_M) | np.isnan(top))
        low = spans[:, 1] <= _LOW_M
        return [
            number
            for number, gone, is_low in zip(numbers, through, low, strict=True)
            if gone or (is_low and number in ground)
        ]

    def ahead_m(self, T_base_fixed: RigidTransform, width_m: float) -> float:
        """How far along the base's x axis the nearest remembered obstacle or drop is within a strip
        of ``width_m``; infinite where there is none. Raises `TransformError` where it is told in
        another fixed frame."""
        x, y = self._barred_in_base(T_base_fixed).T
        return float(np.min(x[(x > 0) & (np.abs(y) < width_m / 2)], initial=math.inf))

    def around_m(self, T_base_fixed: RigidTransform) -> float:
        """How far from the base's middle the nearest remembered obstacle or drop may begin, on any
        side; infinite where there is none. Raises `TransformError` as `ahead_m`."""
        barred = self._barred_from(T_base_fixed)
        x, y, _ = invert(T_base_fixed).translation_m
        return _gap_m(barred, (x, y))

    def _barred_from(self, T_base_fixed: RigidTransform) -> set[int]:
        barred = self._barred
        if barred and T_base_fixed.child != self._fixed:
            raise TransformError(
                f"the ground is remembered in {self._fixed!r}, the base's pose is told in "
                f"{T_base_fixed.child!r}: look again"
            )
        return barred

    def _barred_in_base(self, T_base_fixed: RigidTransform) -> Places:
        """[N, 2]"""
        places = _centers(self._barred_from(T_base_fixed))
        return apply(T_base_fixed, np.column_stack([places, np.zeros(len(places))]))[:, :2]

    def clearance_m(self, xy_fixed_m: Point2) -> float:
        """From a place to the nearest remembered obstacle or drop, or ground that has no depth;
        infinite where there is none."""
        return _gap_m(self._unfit, xy_fixed_m)

    def seen_share(self, xy_fixed_m: Point2, radius_m: float) -> float:
        """How much of a disc, 0…1, was seen to be free ground."""
        offsets = np.argwhere(_disc(radius_m)) - _disc(radius_m).shape[0] // 2
        numbers = _numbers(np.asarray(xy_fixed_m) + offsets * _CELL_M).tolist()
        return sum(number in self._free for number in numbers) / len(numbers)

    def free_places(self, radius_m: float) -> Places:
        """Places [N, 2] in the fixed frame around which a disc of ``radius_m`` meets nothing that
        was seen to stand there, no drop and nothing without depth, on ground that was seen."""
        if not self._free:
            return np.empty((0, 2))
        border = math.ceil(radius_m / _CELL_M) + 1
        unfit = self._unfit
        cells = _cells(self._free | unfit)
        low = cells.min(axis=0) - border
        free, taken = np.zeros((2, *(cells.max(axis=0) - low + border + 1)), np.uint8)
        free[tuple((_cells(self._free) - low).T)] = 1
        taken[tuple((_cells(unfit) - low).T)] = 1
        disc = _disc(radius_m)
        share = cv2.filter2D(free, cv2.CV_32F, disc.astype(np.float32) / disc.sum())
        places = (free > 0) & (cv2.dilate(taken, disc) == 0) & (share >= SEEN_SHARE)
        return np.asarray((np.argwhere(places) + low + 0.5) * _CELL_M)

    def is_between(self, a_fixed_m: Point2, b_fixed_m: Point2) -> bool:
        """Whether something was seen to stand on the straight line from a to b. A drop does not:
        it hides nothing."""
        n = max(2, math.ceil(math.dist(a_fixed_m, b_fixed_m) / (_CELL_M / 2)))
        on_the_way = np.linspace(a_fixed_m, b_fixed_m, n)
        return not self._solid.keys().isdisjoint(_numbers(on_the_way).tolist())


def _spans(cells: Cells, above_m: NDArray[np.float64]) -> dict[int, _Span]:
    """Of the cells with enough points, how high their lowest and highest are."""
    numbers, of_cell, counts = np.unique(cells, return_inverse=True, return_counts=True)
    low, high = np.full(len(numbers), np.inf), np.full(len(numbers), -np.inf)
    np.minimum.at(low, of_cell, above_m)
    np.maximum.at(high, of_cell, above_m)
    enough = counts >= _MIN_POINTS
    spans = zip(low[enough].tolist(), high[enough].tolist(), strict=True)
    return dict(zip(numbers[enough].tolist(), spans, strict=True))


def _drops(
    points_m: Places, T_base_camera: RigidTransform, T_fixed_base: RigidTransform, strip: Strip
) -> set[int]:
    """Cells where enough rays to ``points_m`` [N, 3], in the camera's frame, go on below the
    ground. They are where the ray meets the ground's level, not where the bottom is seen: so the
    strip behind an edge counts, that the camera cannot see the bottom of."""
    eye_m = T_base_camera.translation_m[2] - strip.ground_z_m
    down_m = eye_m - (apply(T_base_camera, points_m)[:, 2] - strip.ground_z_m)
    below = down_m > eye_m + strip.tolerance_m
    if eye_m <= 0 or not below.any():
        return set()
    crossing = points_m[below] * (eye_m / down_m[below])[:, None]
    crossing = crossing[crossing[:, 2] < _LOOK_M]
    cells = _numbers(apply(compose(T_fixed_base, T_base_camera), crossing))
    numbers, counts = np.unique(cells, return_counts=True)
    return set(numbers[counts >= _MIN_POINTS].tolist())


def _blank(crossings_m: Places, on_ground: Cells, T_fixed_camera: RigidTransform) -> set[int]:
    """Cells where too many rays have no depth: ``crossings_m`` [N, 3], in the camera's frame, is
    where those meet the ground, ``on_ground`` the cell of each that was measured there."""
    numbers, counts = np.unique(_numbers(apply(T_fixed_camera, crossings_m)), return_counts=True)
    enough = counts >= _MIN_BLANKS
    numbers, counts = numbers[enough], counts[enough]
    measured, n_measured = np.unique(on_ground, return_counts=True)
    n_ground = dict(zip(measured.tolist(), n_measured.tolist(), strict=True))
    n_all = counts + [n_ground.get(number, 0) for number in numbers.tolist()]
    return set(numbers[counts > BLANK_SHARE * n_all].tolist())


def _depth_beyond(view: DepthView, points_camera_m: NDArray[np.float64]) -> Depths:
    """How much farther the image sees than each of the points [N, 3]: NaN where it has no depth
    there, −∞ where that is not in the image."""
    camera, z_m = view.camera, points_camera_m[:, 2]
    beyond = np.full(len(z_m), -np.inf)
    ahead = np.flatnonzero(z_m > _THROUGH_M)
    uv = np.rint(camera.project(points_camera_m[ahead]))
    inside = ((uv >= 0) & (uv < (camera.width, camera.height))).all(axis=1)
    u, v = uv[inside].astype(np.int64).T
    depth_m = view.depth_m[v, u].astype(np.float64)
    at = ahead[inside]
    beyond[at] = np.where(depth_m > 0, depth_m, np.nan) - z_m[at]
    return beyond


def _numbers(points: NDArray[np.float64]) -> Cells:
    cells = np.floor(points[:, :2] / _CELL_M).astype(np.int64)
    return np.asarray(cells[:, 0] * _FAR_SCALE + cells[:, 1], np.int64)


def _cells(numbers: Iterable[int]) -> Cells:
    """(x, y) in cells, [N, 2], in the order of their numbers: a set has none of its own."""
    ordered = np.array(sorted(numbers), np.int64)
    x, y = np.divmod(ordered + _FAR_SCALE // 2, _FAR_SCALE)
    return np.column_stack([x, y - _FAR_SCALE // 2])


def _centers(numbers: Iterable[int]) -> Places:
    return np.asarray((_cells(numbers) + 0.5) * _CELL_M)


def _gap_m(numbers: Iterable[int], xy_fixed_m: Point2) -> float:
    """From a place to the nearest side of these cells; infinite where there are none."""
    gaps = np.abs(_centers(numbers) - xy_fixed_m) - _CELL_M / 2
    return float(np.min(np.hypot(*np.maximum(gaps, 0.0).T), initial=math.inf))


def _disc(radius_m: float) -> NDArray[np.uint8]:
    """The cells that a disc around a cell's centre touches, as a square mask."""
    reach = math.ceil(radius_m / _CELL_M)
    gap = np.maximum(np.abs(np.arange(-reach, reach + 1)) - 0.5, 0.0) * _CELL_M
    return (np.hypot(gap[:, None], gap[None, :]) < radius_m).astype(np.uint8)
