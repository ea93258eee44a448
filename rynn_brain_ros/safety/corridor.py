"""The way ahead of a driving robot: how far the ground that it would sweep is seen to be free."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.geometry import DepthView, PinholeCamera, ray_grid, to_matrix
from rynn_brain_ros.values import RigidTransform

Mask = NDArray[np.bool_]

_CELL_M = 0.1
"""Side of a cell of ground along the way; a lane is about as wide."""
_MIN_POINTS = 3
"""Depth pixels that make a cell seen, or something in it an obstacle: one alone may be noise."""
_COLUMN_STRIDE = 2
_LOOK_M = 5.0
"""Nothing beyond is looked at."""


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
    point, ground that is not seen or is a hole at the last ground before it.
    """
    if view.size_refusal is not None:
        return 0.0
    x, lane, above_m, n_lanes = _points_in(view, T_base_camera, strip)
    shape = (math.ceil(_LOOK_M / _CELL_M), n_lanes)
    cell = (x / _CELL_M).astype(np.int64) * n_lanes + lane
    high, low = above_m > strip.tolerance_m, above_m < -strip.tolerance_m
    flat = ~high & ~low

    def cells(mask: Mask) -> Mask:
        counts = np.bincount(cell[mask], minlength=shape[0] * shape[1])
        return counts.reshape(shape) >= _MIN_POINTS

    in_way = high & cells(high).ravel()[cell]
    obstacle_m = float(x[in_way].min()) if in_way.any() else math.inf
    farthest_m = np.zeros(shape[0] * shape[1], np.float32)
    np.maximum.at(farthest_m, cell[flat], x[flat])
    hole = cells(low)
    ground_m = np.where(cells(flat) & ~hole, farthest_m.reshape(shape), 0.0)
    return min(obstacle_m, _ground_end_m(ground_m, hole, strip.blind_m))


def _points_in(
    view: DepthView, T_base_camera: RigidTransform, strip: Strip
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32], int]:
    """Of all points over the strip: x, lane, height above the ground; and the number of lanes."""
    R, t = to_matrix(T_base_camera).astype(np.float32)[:3, :3], T_base_camera.translation_m
    z, rays = view.depth_m[:, ::_COLUMN_STRIDE], _rays(view.camera)
    x, y, up = (
        z * (R[i, 0] * rays[0] + R[i, 1] * rays[1] + R[i, 2]) + np.float32(t[i]) for i in range(3)
    )
    above_m = up - np.float32(strip.ground_z_m)
    half_m = strip.width_m / 2
    inside = (z > 0) & (x >= 0) & (x < _LOOK_M)  # NaN is not
    inside &= (np.abs(y) < half_m) & (above_m < strip.height_m)
    n_lanes = max(1, math.ceil(strip.width_m / _CELL_M))
    lane = ((y[inside] + half_m) / strip.width_m * n_lanes).astype(np.int64)
    return x[inside], np.clip(lane, 0, n_lanes - 1), above_m[inside], n_lanes


@lru_cache(maxsize=4)
def _rays(camera: PinholeCamera) -> NDArray[np.float32]:
    """x and y of the rays with z = 1, [2, H, W'], as thinned out as depth is."""
    grid = ray_grid(camera)[:, ::_COLUMN_STRIDE, :2]
    return np.ascontiguousarray(np.moveaxis(grid, 2, 0), np.float32)


def _ground_end_m(ground_m: NDArray[np.float32], hole: Mask, blind_m: float) -> float:
    """How far the ground goes on in every lane, after a blind beginning. ``ground_m``
    [cells, lanes] is the farthest ground seen in a cell, 0 where there is none; ``hole`` says
    where less than ground was seen: that is not blind."""
    seen = ground_m > 0
    first = seen.argmax(axis=0)
    if not seen.any(axis=0).all() or first.max() * _CELL_M > blind_m:
        return 0.0
    begun = np.arange(len(seen))[:, None] >= first
    if (hole & ~begun).any():
        return 0.0
    whole = np.logical_and.accumulate(seen | ~begun, axis=0)
    return float(np.where(whole, ground_m, 0.0).max(axis=0).min())
