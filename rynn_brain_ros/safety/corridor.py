"""The way ahead of a driving robot: how far the ground that it would sweep is seen to be free."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.geometry import DepthView, PinholeCamera, apply, ray_grid, to_matrix
from rynn_brain_ros.values import RigidTransform

Mask = NDArray[np.bool_]

_CELL_M = 0.1
"""Side of a cell of ground along the way; a lane is about as wide."""
_MIN_POINTS = 3
"""Depth pixels that make a cell seen, or something in it an obstacle: one alone may be noise."""
BLANK_SHARE = 0.25
"""Of the rays to a cell that may have no depth: real floors miss less, a thing that is black,
chrome, glass or too near misses more, even where it fills only a part of the cell."""
_COLUMN_STRIDE = 2
_LOOK_M = 5.0
"""Nothing beyond is looked at."""
_BORDER_SHARE = 1 / 8
"""Of the picture's width, on both sides: as far as depth may end before colour does."""
_NEARER = 1.05
"""Rays that would meet the ground nearer than this times the nearest ground that was measured may
be too near for the sensor."""


@dataclass(frozen=True)
class Strip:
    """What a robot sweeps on its way along x, in its base frame.

    ``ground_z_m`` is the ground's height; points from ``tolerance_m`` above it up to
    ``height_m`` are obstacles, those as far below it are holes. Before the first seen ground
    ``blind_m`` from the base's centre may be unseen, below the camera.
    """

    width_m: float
    height_m: float
    ground_z_m: float = 0.0
    tolerance_m: float = 0.03
    blind_m: float = 0.0


def free_ahead_m(view: DepthView, T_base_camera: RigidTransform, strip: Strip) -> float:
    """How far from the base's centre along its x axis all of ``strip`` is seen free, metres.

    0 where its beginning is not seen, or is seen to be a hole. An obstacle ends it at its nearest
    point, ground that is not seen or is a hole at the last ground before it. What has no depth
    though the camera looks there is not seen, wherever it is.
    """
    if view.size_refusal is not None:
        return 0.0
    x, cell, above_m = _points_in(view, T_base_camera, strip)
    n_lanes = _n_lanes(strip)
    shape = (math.ceil(_LOOK_M / _CELL_M), n_lanes)
    high, low = above_m > strip.tolerance_m, above_m < -strip.tolerance_m
    flat = ~high & ~low

    def counts(cells: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.bincount(cells, minlength=shape[0] * shape[1])

    in_way = high & (counts(cell[high]) >= _MIN_POINTS)[cell]
    obstacle_m = float(x[in_way].min()) if in_way.any() else math.inf
    farthest_m = np.zeros(shape[0] * shape[1], np.float32)
    np.maximum.at(farthest_m, cell[flat], x[flat])
    n_blank, n_flat = counts(_blank_cells(view, T_base_camera, strip)), counts(cell[flat])
    blank = (n_blank >= _MIN_POINTS) & (n_blank > BLANK_SHARE * (n_blank + n_flat))
    no_ground = (counts(cell[low]) >= _MIN_POINTS) | blank
    ground_m = np.where((n_flat >= _MIN_POINTS) & ~no_ground, farthest_m, 0.0)
    ends_m = _ground_end_m(ground_m.reshape(shape), no_ground.reshape(shape), strip.blind_m)
    return min(obstacle_m, ends_m)


def blank_crossings(
    depth_m: NDArray[np.floating],
    rays: NDArray[np.floating],
    T_base_camera: RigidTransform,
    strip: Strip,
) -> NDArray[np.float64]:
    """Where rays without depth would meet the ground, [N, 3] in the camera's frame.

    ``depth_m`` [H, W], of any stride, and ``rays`` [2, H, W], x and y of the rays with z = 1. Left
    out are those on which nothing can be expected to be measured: of a border of the picture that
    depth does not reach, and nearer to the camera than all ground that was measured.
    """
    R, eye_m = to_matrix(T_base_camera), T_base_camera.translation_m[2] - strip.ground_z_m
    falls = -(R[2, 0] * rays[0] + R[2, 1] * rays[1] + R[2, 2])
    meets = (falls > 0) & (eye_m > 0)
    level_m = eye_m / np.where(meets, falls, 1.0)
    known = depth_m > 0  # NaN is not
    ground = known & meets & (np.abs(level_m - depth_m) * falls <= strip.tolerance_m)
    nearest_m = level_m[ground].min() if ground.any() else 0.0
    blank = ~known & meets & _looked_at(known) & (level_m > _NEARER * nearest_m)
    v, u = np.nonzero(blank)
    return np.column_stack([rays[0, v, u], rays[1, v, u], np.ones(len(v))]) * level_m[v, u, None]


def _looked_at(known: Mask) -> Mask:
    """Where depth can be expected, [H, W]: not in rows at the border that have none, nor beyond a
    row's outermost near a side."""
    after = np.logical_or.accumulate(known, axis=1)
    before = np.logical_or.accumulate(known[:, ::-1], axis=1)[:, ::-1]
    column, width = np.arange(known.shape[1]), known.shape[1]
    side = np.minimum(column, width - 1 - column) < _BORDER_SHARE * width
    rows = after[:, -1]
    above, below = np.logical_or.accumulate(rows), np.logical_or.accumulate(rows[::-1])[::-1]
    return np.asarray((above & below)[:, None] & (~side | (after & before)))


def _blank_cells(view: DepthView, T_base_camera: RigidTransform, strip: Strip) -> NDArray[np.int64]:
    """The cell of the strip in which each ray without depth would meet the ground."""
    z, rays = view.depth_m[:, ::_COLUMN_STRIDE], _rays(view.camera)
    x, y, _ = apply(T_base_camera, blank_crossings(z, rays, T_base_camera, strip)).T
    inside = (x >= 0) & (x < _LOOK_M) & (np.abs(y) < strip.width_m / 2)
    return _cell_numbers(x[inside], y[inside], strip)


def _n_lanes(strip: Strip) -> int:
    return max(1, math.ceil(strip.width_m / _CELL_M))


def _cell_numbers(
    x: NDArray[np.floating], y: NDArray[np.floating], strip: Strip
) -> NDArray[np.int64]:
    """Lane by lane, then farther ahead."""
    n_lanes = _n_lanes(strip)
    lane = ((y + strip.width_m / 2) / strip.width_m * n_lanes).astype(np.int64)
    return (x / _CELL_M).astype(np.int64) * n_lanes + np.clip(lane, 0, n_lanes - 1)


def _points_in(
    view: DepthView, T_base_camera: RigidTransform, strip: Strip
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
    """Of all points over the strip: x, cell, height above the ground."""
    R, t = to_matrix(T_base_camera).astype(np.float32)[:3, :3], T_base_camera.translation_m
    z, rays = view.depth_m[:, ::_COLUMN_STRIDE], _rays(view.camera)
    x, y, up = (
        z * (R[i, 0] * rays[0] + R[i, 1] * rays[1] + R[i, 2]) + np.float32(t[i]) for i in range(3)
    )
    above_m = up - np.float32(strip.ground_z_m)
    inside = (z > 0) & (x >= 0) & (x < _LOOK_M)  # NaN is not
    inside &= (np.abs(y) < strip.width_m / 2) & (above_m < strip.height_m)
    return x[inside], _cell_numbers(x[inside], y[inside], strip), above_m[inside]


@lru_cache(maxsize=4)
def _rays(camera: PinholeCamera) -> NDArray[np.float32]:
    """x and y of the rays with z = 1, [2, H, W'], as thinned out as depth is."""
    grid = ray_grid(camera)[:, ::_COLUMN_STRIDE, :2]
    return np.ascontiguousarray(np.moveaxis(grid, 2, 0), np.float32)


def _ground_end_m(ground_m: NDArray[np.float32], hole: Mask, blind_m: float) -> float:
    """How far the ground goes on in every lane, after a blind beginning. ``ground_m``
    [cells, lanes] is the farthest ground seen in a cell, 0 where there is none; ``hole`` says
    where the camera looks and sees less than ground: that is not blind."""
    seen = ground_m > 0
    first = seen.argmax(axis=0)
    if not seen.any(axis=0).all() or first.max() * _CELL_M > blind_m:
        return 0.0
    begun = np.arange(len(seen))[:, None] >= first
    if (hole & ~begun).any():
        return 0.0
    whole = np.logical_and.accumulate(seen | ~begun, axis=0)
    return float(np.where(whole, ground_m, 0.0).max(axis=0).min())
