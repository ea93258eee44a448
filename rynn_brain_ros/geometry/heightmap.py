"""Heights as seen from above."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import cv2
import numpy as np

from rynn_brain_ros.geometry.camera import Floats
from rynn_brain_ros.geometry.heights import Indices


@dataclass(frozen=True, eq=False)
class HeightMap:
    """Heights as seen from above: cells [n, n] of ``cell_m``, y in rows and x in columns.

    ``mean_m`` and ``top_m`` are each cell's mean and highest z in the base frame, NaN where
    nothing was seen. Cell (0, 0) has its middle at ``corner_m``.
    """

    corner_m: Floats
    cell_m: float
    mean_m: Floats = field(repr=False)
    top_m: Floats = field(repr=False)

    def place(self, rows: Indices, columns: Indices) -> Floats:
        """Middles (x, y) [N, 2] of cells."""
        return np.asarray(self.corner_m + np.column_stack([columns, rows]) * self.cell_m)


def free_height_map(points_m: Floats, middle_m: Floats, reach_m: float, cell_m: float) -> HeightMap:
    """Of ``points_m`` [N, 3] within ``reach_m`` of ``middle_m`` [2]. Single empty cells between
    seen ones are filled with their neighbours' mean."""
    n = 2 * math.ceil(reach_m / cell_m) + 1
    corner = np.asarray(middle_m[:2]) - (n // 2) * cell_m
    cells = np.rint((points_m[:, :2] - corner) / cell_m).astype(np.int64)
    kept = ((cells >= 0) & (cells < n)).all(axis=1)
    index, z = cells[kept, 1] * n + cells[kept, 0], points_m[kept, 2]
    count = np.bincount(index, minlength=n * n).reshape(n, n)
    total = np.bincount(index, weights=z, minlength=n * n).reshape(n, n)
    highest = np.full(n * n, -np.inf)
    np.maximum.at(highest, index, z)
    seen, box = count > 0, np.ones((3, 3))
    mean = np.where(seen, total / np.maximum(count, 1), 0.0)
    around = cv2.filter2D(seen.astype(np.float64), -1, box)
    filled = cv2.filter2D(mean, -1, box) / np.maximum(around, 1)
    mean = np.where(seen, mean, np.where(around >= 4, filled, np.nan))
    top = np.where(seen, highest.reshape(n, n), mean)
    return HeightMap(corner, cell_m, mean, top)
