"""What stood in the way and is below the camera's view by now.

A camera that looks ahead does not see the ground at the robot's own feet. Obstacles are therefore
remembered on a grid in the fixed frame, and forgotten where the ground is seen free again.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.geometry import DepthView, apply, compose, ray_grid
from rynn_brain_ros.safety.corridor import Strip
from rynn_brain_ros.values import RigidTransform

Cells = NDArray[np.int64]

_CELL_M = 0.05
_STRIDE = 4
_LOOK_M = 2.5
_MIN_POINTS = 3
"""Depth pixels that make an obstacle: fewer may be noise."""
_FAR_SCALE = 100_000
"""Cells are numbered as x · this + y: rooms up to 5 km wide."""


class ObstacleMemory:
    """Cells of ground, 5 cm wide, that something was seen to stand on."""

    def __init__(self) -> None:
        self._cells: set[int] = set()

    def see(
        self,
        view: DepthView,
        T_base_camera: RigidTransform,
        T_fixed_base: RigidTransform,
        strip: Strip,
    ) -> None:
        """Takes in one depth image; ``strip`` says what is ground and how high the robot is."""
        z = view.depth_m[::_STRIDE, ::_STRIDE].astype(np.float64)
        rays = ray_grid(view.camera)[::_STRIDE, ::_STRIDE]
        known = np.isfinite(z) & (z > 0) & (z < _LOOK_M)
        points = rays[known] * z[known][:, None]
        above_m = apply(T_base_camera, points)[:, 2] - strip.ground_z_m
        cells = _numbers(apply(compose(T_fixed_base, T_base_camera), points))
        high = (above_m > strip.tolerance_m) & (above_m < strip.height_m)
        flat = np.abs(above_m) <= strip.tolerance_m
        self._cells -= set(cells[flat].tolist())
        numbers, counts = np.unique(cells[high], return_counts=True)
        self._cells |= set(numbers[counts >= _MIN_POINTS].tolist())

    def ahead_m(self, T_base_fixed: RigidTransform, width_m: float) -> float:
        """How far along the base's x axis the nearest remembered obstacle is within a strip of
        ``width_m``; infinite where there is none."""
        if not self._cells:
            return math.inf
        numbers = np.fromiter(self._cells, np.int64, len(self._cells))
        x, y = np.divmod(numbers + _FAR_SCALE // 2, _FAR_SCALE)
        places = np.column_stack([x + 0.5, y - _FAR_SCALE // 2 + 0.5, np.zeros(len(x))])
        in_base = apply(T_base_fixed, places * _CELL_M)
        ahead = in_base[(in_base[:, 0] > 0) & (np.abs(in_base[:, 1]) < width_m / 2), 0]
        return float(ahead.min()) if len(ahead) else math.inf


def _numbers(points: NDArray[np.float64]) -> Cells:
    cells = np.floor(points[:, :2] / _CELL_M).astype(np.int64)
    return np.asarray(cells[:, 0] * _FAR_SCALE + cells[:, 1], np.int64)
