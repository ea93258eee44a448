"""What lifting costs: time per point and per box at 640×480, on a scene with noise and holes.

    python benchmarks/lift.py

The ratio compares a point lifted on its surface with what one would do without segments: turn the
whole image into a point cloud (as depth_image_proc does) and read one entry.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import numpy as np

from rynn_brain_ros.geometry import (
    DepthView,
    PinholeCamera,
    lift_box,
    lift_point,
    lift_points,
    ray_grid,
    segment_at,
)
from rynn_brain_ros.values import LiftedPoint, Point2

CAMERA = PinholeCamera(640, 480, 525.0, 525.0, 319.5, 239.5)
DISTORTED = PinholeCamera(
    640, 480, 525.0, 525.0, 319.5, 239.5, (0.05, -0.1, 0.001, -0.001, 0.02), "plumb_bob"
)


def desk(camera: PinholeCamera) -> DepthView:
    """A slanted table at about 0.9 m, a block on it, sensor noise and 5 % holes."""
    rng = np.random.default_rng(0)
    rows = np.arange(camera.height)[:, None] * np.ones(camera.width)
    depth_m = 1 / (0.8 + 0.0012 * rows)
    depth_m[180:300, 250:390] = 0.75
    depth_m += 0.0015 * rng.standard_normal(depth_m.shape)
    depth_m[rng.random(depth_m.shape) < 0.05] = np.nan
    return DepthView(depth_m.astype(np.float32), camera)


def milliseconds(work: Callable[[], object], repeats: int) -> float:
    """The fastest of five rounds, per repeat."""
    rounds = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(repeats):
            work()
        rounds.append((time.perf_counter() - start) / repeats * 1e3)
    return min(rounds)


def whole_cloud(view: DepthView, uv: Point2) -> object:
    cloud = ray_grid(view.camera) * view.depth_m[..., None]
    return cloud[round(uv[1]), round(uv[0])]


def main() -> None:
    view = desk(CAMERA)
    rng = np.random.default_rng(1)
    points = [(float(u), float(v)) for u, v in rng.uniform((15, 15), (625, 465), (200, 2))]
    lifted = sum(isinstance(p, LiftedPoint) for p in lift_points(points, view))
    box = (240.0, 170.0, 400.0, 310.0)
    lens = desk(DISTORTED)
    per_point = milliseconds(lambda: lift_points(points, view), 1) / len(points)
    rows = [
        ("lift_point", per_point),
        ("lift_point, distorted lens", milliseconds(lambda: lift_point(points[0], lens), 50)),
        ("lift_box, 160×140 px", milliseconds(lambda: lift_box(box, view), 10)),
        ("segment_at", milliseconds(lambda: segment_at((320.0, 240.0), view), 10)),
        ("baseline: whole cloud", milliseconds(lambda: whole_cloud(view, points[0]), 5)),
    ]
    print(f"{lifted} of {len(points)} points lifted\n\n{'':30}{'ms':>8}")
    for name, ms in rows:
        print(f"{name:30}{ms:8.3f}")
    baseline = rows[-1][1]
    figures = {
        "name": "lift",
        "ms_per_point": round(per_point, 4),
        "ms_per_box": round(rows[2][1], 3),
        "baseline": "whole_image_reprojection",
        "ratio": round(baseline / per_point, 2),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
