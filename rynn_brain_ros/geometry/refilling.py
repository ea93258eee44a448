"""Into a container that holds something by now: its rim was found when it was empty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rynn_brain_ros.geometry.camera import Floats
from rynn_brain_ros.geometry.depth import DepthView
from rynn_brain_ros.geometry.heights import Capsule, patch_around
from rynn_brain_ros.geometry.lifting import LiftLimits, lift_area
from rynn_brain_ros.geometry.placing import Placement
from rynn_brain_ros.geometry.transforms import apply
from rynn_brain_ros.values import Point2, Refusal, RigidTransform, Vector3

_WALL_M = 0.03
"""How far beyond its opening a container may be pointed at."""
_OVER_M = 0.015
"""Between what is in it and what is let go above."""
_REACH_M = 0.2
_SPOTS = 8
_OUT = 0.8
"""How far out from the middle a thing may go, of what its opening leaves."""
_ALIKE_M = 0.008


def placement_again(
    earlier: Placement,
    points_px: Sequence[Point2],
    view: DepthView,
    T_base_camera: RigidTransform,
    size_m: Vector3,
    *,
    lift: LiftLimits,
    exclude: Sequence[Capsule] = (),
) -> Placement | None:
    """Another thing of ``size_m`` into the container of ``earlier``; ``None`` where ``points_px``
    mean another place.

    What is in it hides the rim's inside, so its place is remembered and only the contents are
    looked at: the thing goes over their lowest part, and is let go above all of them.
    """
    area = lift_area(points_px, view, lift)
    if isinstance(area, Refusal):
        return None
    x, y, floor_z = earlier.position_m
    target = apply(T_base_camera, area.target.point_camera_m)[0]
    if math.dist(target[:2], (x, y)) > earlier.radius_m + _WALL_M:
        return None
    uv, z = area.target.pixel, area.target.point_camera_m[2]
    patch = patch_around(uv, z, _REACH_M, view, T_base_camera, limits=lift, exclude=exclude)
    points = patch.points_m[patch.valid]
    held_m = math.hypot(size_m[0], size_m[1]) / 2
    spots = _spots((x, y), _OUT * max(0.0, earlier.radius_m - held_m))
    tops = [_top_z(points, spot, held_m / 2, floor_z) for spot in spots]
    best = min(range(len(spots)), key=lambda i: (round(tops[i] / _ALIKE_M), i))
    highest = _top_z(points, (x, y), earlier.radius_m, floor_z)
    return replace(
        earlier,
        position_m=(*spots[best], floor_z),
        release_above_m=max(earlier.release_above_m, highest - floor_z + _OVER_M),
        radius_m=earlier.radius_m + math.dist(spots[best], (x, y)),
    )


def _spots(middle: Point2, offset_m: float) -> list[Point2]:
    around = (i * math.tau / _SPOTS for i in range(_SPOTS))
    x, y = middle
    return [middle, *((x + offset_m * math.cos(a), y + offset_m * math.sin(a)) for a in around)]


def _top_z(points: Floats, spot: Point2, radius_m: float, floor_z: float) -> float:
    near = points[np.hypot(points[:, 0] - spot[0], points[:, 1] - spot[1]) < radius_m]
    return float(np.quantile(near[:, 2], 0.95)) if len(near) >= 6 else floor_z
