"""Outlines of flat tops and rims on their own level: rectangles, circles and rings."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import cv2
import numpy as np

from rynn_brain_ros.geometry.camera import Floats
from rynn_brain_ros.geometry.heights import CLEAR_SIGMAS, Indices, Patch
from rynn_brain_ros.geometry.surfaces import Mask
from rynn_brain_ros.values import Point2

_MIN_BORDER = 8
_ROUNDS = 5
_OFF_CORNER = 0.85
_TRIALS = 80
_MAX_RING_M = 0.5
_RING_SHARE = 0.65
_SECTORS = 8


@dataclass(frozen=True, eq=False)
class Outline:
    """The border of a flat top: points [N, 2] on its level, and how far the true border is off.

    A border pixel's centre lies up to a pixel inside; ``pixel_m`` [2, 2] are the steps of one
    column and one row on the level. On a side that faces the camera (``toward`` [2]) the upright
    face below still counts as top for the first ``overlap_m`` as seen on the level. ``walls``
    [M, 2] are what is seen of the upright faces themselves, with a noise of ``wall_sigma_m``.
    """

    points: Floats = field(repr=False)
    walls: Floats = field(repr=False)
    wall_sigma_m: float
    pixel_m: Floats
    toward: Floats
    overlap_m: float

    def outset_m(self, normals: Floats) -> Floats:
        """From border pixels to the border, along outward ``normals`` [N, 2]."""
        inset = 0.5 * np.abs(normals @ self.pixel_m.T).max(axis=-1)
        overlap = self.overlap_m * np.maximum(normals @ self.toward, 0.0)
        return np.asarray(inset - overlap, np.float64)

    @property
    def step_m(self) -> float:
        return float(np.linalg.norm(self.pixel_m, axis=1).max())


def outline_of(patch: Patch, mask: Mask, face: Mask, top_z: float) -> Outline | None:
    """Of the largest piece of the flat top ``face`` of the segment ``mask``, both [h, w]; small
    holes are closed."""
    shape = np.ones((3, 3), np.uint8)
    closed = cv2.morphologyEx(face.astype(np.uint8), cv2.MORPH_CLOSE, shape)
    borders, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    border = max(borders, key=cv2.contourArea, default=np.empty((0, 1, 2)))[:, 0]
    if len(border) < _MIN_BORDER:
        return None
    columns, rows = np.asarray(border, np.int64).T
    sine, toward = patch.slope
    overlap = CLEAR_SIGMAS * patch.sigma_height_m * math.sqrt(1 - sine**2) / sine
    below = patch.points_m[mask & ~face]
    walls = below[below[:, 2] < top_z - CLEAR_SIGMAS * patch.sigma_height_m, :2]
    points = patch.at_height(rows, columns, top_z)
    steps = _pixel_steps(patch, rows, columns, top_z)
    wall_sigma = patch.sigma_m * patch.noise.correlation_px
    return Outline(points, walls, wall_sigma, steps, toward, overlap)


def _pixel_steps(patch: Patch, rows: Indices, columns: Indices, top_z: float) -> Floats:
    height, width = patch.valid.shape
    row = max(0, min(int(np.median(rows)), height - 2))
    column = max(0, min(int(np.median(columns)), width - 2))
    corner, right, below = patch.at_height(
        np.array([row, row, row + 1]), np.array([column, column + 1, column]), top_z
    )
    return np.array([right - corner, below - corner])


@dataclass(frozen=True)
class Circle:
    center_m: Point2
    radius_m: float
    rms_m: float

    def distance_m(self, xy: Floats) -> Floats:
        """Of points [N, 2] from the circle, positive outside."""
        return np.asarray(np.hypot(*(xy - self.center_m).T) - self.radius_m, np.float64)


@dataclass(frozen=True)
class Rectangle:
    """``yaw_rad`` is the direction of the long side, ``sides_m`` are long and short."""

    center_m: Point2
    yaw_rad: float
    sides_m: tuple[float, float]
    rms_m: float

    def distance_m(self, xy: Floats) -> Floats:
        """Of points [N, 2] from the nearest side's line, positive outside."""
        local = np.abs((xy - self.center_m) @ turn(self.yaw_rad))
        return np.asarray((local - np.array(self.sides_m) / 2).max(axis=1), np.float64)


def turn(yaw_rad: float) -> Floats:
    """[2, 2] whose columns are x and y turned by ``yaw_rad``."""
    c, s = math.cos(yaw_rad), math.sin(yaw_rad)
    return np.array([[c, -s], [s, c]])


# --- circles --------------------------------------------------------------------------------------


def fit_circle(outline: Outline) -> Circle | None:
    """Least squares, the border moved to where it truly is, outliers left out."""
    points = outline.points
    circle = circle_through(points)
    if circle is None:
        return None
    normals = points - circle.center_m
    normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    points = points + outline.outset_m(normals)[:, None] * normals
    for _ in range(2):
        circle = circle_through(points)
        if circle is None:
            return None
        off = np.abs(circle.distance_m(points))
        kept = off <= max(outline.step_m, 2.5 * float(np.median(off)))
        if kept.sum() < _MIN_BORDER:
            return None
        rms = float(np.sqrt((off[kept] ** 2).mean()))
        points = points[kept]
    return Circle(circle.center_m, circle.radius_m, rms)


def circle_through(points: Floats) -> Circle | None:
    """Through points [N ≥ 3, 2], algebraic least squares; None where they are on a line."""
    middle = points.mean(axis=0)
    local = points - middle
    design = np.column_stack([2 * local, np.ones(len(local))])
    (x, y, k), _, rank, _ = np.linalg.lstsq(design, (local**2).sum(axis=1), rcond=None)
    if rank < 3:
        return None
    center = (float(middle[0] + x), float(middle[1] + y))
    radius = math.sqrt(max(0.0, float(k + x * x + y * y)))
    return Circle(center, radius, 0.0)


def fit_ring(
    patch: Patch, rows: Indices, columns: Indices, top_z: float
) -> tuple[Circle, float] | None:
    """The outer circle of a ring of pixels, and the ring's thickness, metres.

    Robust against what sticks out inside the ring. None where most pixels are on no circle, or
    less than three quarters of it are seen.
    """
    points = patch.at_height(rows, columns, top_z)
    pixel = _pixel_steps(patch, rows, columns, top_z)
    step = float(np.linalg.norm(pixel, axis=1).max())
    reach = max(0.005, 1.5 * step)
    circle = _likely_circle(points, reach)
    near = np.ones(len(points), np.bool_)
    for _ in range(3):
        if circle is None:
            return None
        near = np.abs(circle.distance_m(points)) <= reach
        if near.sum() < _RING_SHARE * len(points):
            return None
        circle = circle_through(points[near])
    if circle is None:
        return None
    off = circle.distance_m(points[near])
    around = points[near] - circle.center_m
    sectors = np.floor((np.arctan2(around[:, 1], around[:, 0]) / math.tau + 0.5) * _SECTORS)
    if len(np.unique(sectors)) < 0.75 * _SECTORS:
        return None
    rms = float(np.sqrt((off**2).mean()))
    wall = math.sqrt(max(12 * rms**2 - step**2, 0.002**2))
    return Circle(circle.center_m, circle.radius_m + wall / 2, rms), wall


def _likely_circle(points: Floats, reach_m: float) -> Circle | None:
    """That most points are near, of circles through three; the same points, the same circle."""
    chance = np.random.default_rng(0)
    triples = points[chance.integers(0, len(points), (_TRIALS, 3))]
    centers, radii = _through_three(triples)
    with np.errstate(invalid="ignore"):
        off = np.linalg.norm(points - centers[:, None], axis=2) - radii[:, None]
    counts = np.where(radii <= _MAX_RING_M, (np.abs(off) <= reach_m).sum(axis=1), 0)
    best = int(np.argmax(counts))
    if not counts[best]:
        return None
    x, y = map(float, centers[best])
    return Circle((x, y), float(radii[best]), 0.0)


def _through_three(triples: Floats) -> tuple[Floats, Floats]:
    """Centres [N, 2] and radii [N] of the circles through ``triples`` [N, 3, 2]; infinite or NaN
    where they are on a line. A centre is equally far from all three: two linear equations."""
    to_second, to_third = triples[:, 1] - triples[:, 0], triples[:, 2] - triples[:, 0]
    twice_area = 2 * (to_second[:, 0] * to_third[:, 1] - to_second[:, 1] * to_third[:, 0])
    second2, third2 = (to_second**2).sum(axis=1), (to_third**2).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        x = (to_third[:, 1] * second2 - to_second[:, 1] * third2) / twice_area
        y = (to_second[:, 0] * third2 - to_third[:, 0] * second2) / twice_area
    return triples[:, 0] + np.column_stack([x, y]), np.hypot(x, y)


# --- rectangles -----------------------------------------------------------------------------------


def fit_rectangle(outline: Outline) -> Rectangle:
    """From the smallest rectangle around the outline, its sides moved onto the border's points."""
    (x, y), sides, angle = cv2.minAreaRect((outline.points * 1e3).astype(np.float32))
    center, half = np.array([x, y]) / 1e3, np.array(sides) / 2e3
    yaw = math.radians(angle)
    rms = outline.step_m
    for _ in range(_ROUNDS):
        fit = _SideFit(outline, center, half, yaw)
        center, half, yaw, rms = fit.moved()
    if half[1] > half[0]:
        half, yaw = half[::-1], yaw + math.pi / 2
    where = (float(center[0]), float(center[1]))
    return Rectangle(where, yaw, (2 * float(half[0]), 2 * float(half[1])), rms)


_FACING = 0.3
"""Cosine of the angle to the camera up to which an upright face is seen well."""


class _SideFit:
    """One round: each point of border and walls belongs to the side that it is nearest to."""

    def __init__(self, outline: Outline, center: Floats, half: Floats, yaw: float) -> None:
        self._center, self._half, self._yaw = center, half, yaw
        self._axes = axes = turn(yaw)
        points = np.concatenate([outline.points, outline.walls])
        is_wall = np.arange(len(points)) >= len(outline.points)
        local = (points - center) @ axes
        axis = np.argmin(half - np.abs(local), axis=1)
        index = np.arange(len(local))
        sign = np.where(local[index, axis] >= 0, 1.0, -1.0)
        normals = sign[:, None] * axes.T[axis]
        out = local[index, axis] + np.where(is_wall, 0.0, sign * outline.outset_m(normals))
        along = local[index, 1 - axis]
        reach = np.where(is_wall, CLEAR_SIGMAS * outline.wall_sigma_m, 3 * outline.step_m)
        kept = np.abs(along) <= _OFF_CORNER * half[1 - axis]
        kept &= np.abs(np.abs(out) - half[axis]) <= reach
        kept &= ~is_wall | (normals @ outline.toward > _FACING)
        self._axis, self._sign, self._out, self._along = (
            axis[kept],
            sign[kept],
            out[kept],
            along[kept],
        )
        weight = np.where(is_wall, (0.5 * outline.step_m / outline.wall_sigma_m) ** 2, 1.0)
        self._weight = weight[kept]

    def moved(self) -> tuple[Floats, Floats, float, float]:
        """Middle, half sides, yaw, and the rms of what is left."""
        ends = np.array([-self._half, self._half])
        tilt, spread, left, total = 0.0, 1e-12, 0.0, 1e-12
        for axis, end in np.ndindex(2, 2):
            of_side = (self._axis == axis) & (self._sign == 2 * end - 1)
            if of_side.sum() < 3:
                continue
            out, along, weight = (a[of_side] for a in (self._out, self._along, self._weight))
            ends[end, axis] = np.average(out, weights=weight)
            out, along = out - ends[end, axis], along - np.average(along, weights=weight)
            tilt += (2 * axis - 1) * float(weight * out @ along)
            spread += float(weight * along @ along)
            left, total = left + float(weight * out @ out), total + float(weight.sum())
        middle = self._center + self._axes @ ends.mean(axis=0)
        return middle, (ends[1] - ends[0]) / 2, self._yaw + tilt / spread, math.sqrt(left / total)
