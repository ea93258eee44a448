"""Into a container that holds something by now: its rim was found when it was empty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rynn_brain_ros.geometry.camera import Floats
from rynn_brain_ros.geometry.depth import DepthView
from rynn_brain_ros.geometry.grasping import Grasp, GraspLimits
from rynn_brain_ros.geometry.heights import Capsule, Patch, patch_around
from rynn_brain_ros.geometry.lifting import LiftLimits, lift_area
from rynn_brain_ros.geometry.placing import (
    Held,
    Opening,
    Placement,
    first_with_room,
    on_robot,
    placement_at,
    too_narrow,
)
from rynn_brain_ros.geometry.transforms import apply
from rynn_brain_ros.values import Point2, Refusal, RigidTransform, Vector3

_WALL_M = 0.03
"""How far beyond its opening a container may be pointed at."""
_OVER_M = 0.015
"""Between what is in it and what is let go above."""
_REACH_M = 0.25
_SPOTS = 8
_OUT = 0.8
"""How far out from the middle a thing may go, of what its opening leaves."""
_ALIKE_M = 0.008
_DIRECTIONS = 24
_RIM_SHARE = 0.5
"""Of the directions around the middle, in which the rim must be seen where it was."""
_RIM_M = 0.01
"""How far off its place, beside the wall or in height, a rim's depth may lie."""
_MOVED_M = 0.006
"""A rim whose middle is farther than this from where it was has been moved."""


def placement_again(  # noqa: PLR0917
    earlier: Placement,
    points_px: Sequence[Point2],
    view: DepthView,
    T_base_camera: RigidTransform,
    size_m: Vector3,
    limits: GraspLimits,
    lift: LiftLimits,
    *,
    exclude: Sequence[Capsule] = (),
    grasp: Grasp | None = None,
) -> Placement | Refusal | None:
    """Another thing of ``size_m`` into the container of ``earlier``; ``None`` where ``points_px``
    mean another place.

    What is in it hides the rim's inside, so its place is remembered as long as its rim is seen
    there, and only the contents are looked at: the thing goes over their lowest part, and is let
    go above all of them. A rim that is no longer there is looked for anew. Refuses as
    `placement_at` does for a container.
    """
    area = lift_area(points_px, view, lift)
    if isinstance(area, Refusal) or earlier.opening is None:
        return None
    target = apply(T_base_camera, area.target.point_camera_m)[0]
    if math.dist(target[:2], earlier.opening.center_m) > earlier.opening.radius_m + _WALL_M:
        return None
    robot = on_robot(target, exclude)
    if robot is not None:
        return robot
    uv, z = area.target.pixel, area.target.point_camera_m[2]
    patch = patch_around(uv, z, _REACH_M, view, T_base_camera, limits=lift, exclude=exclude)
    there: Placement | Refusal = earlier
    if not _is_there(earlier.opening, patch):
        there = placement_at(
            points_px,
            view,
            T_base_camera,
            size_m,
            limits,
            lift,
            container=True,
            exclude=exclude,
            grasp=grasp,
        )
    if isinstance(there, Refusal):
        return there
    opening, held = there.opening or earlier.opening, Held(size_m, grasp)
    narrow = too_narrow(opening, target, held)
    return narrow or _over_contents(there, opening, patch, held, limits)


def _is_there(opening: Opening, patch: Patch) -> bool:
    """Whether the rim is seen around most of where it was, and no nearer on one side."""
    points = patch.points_m[patch.valid]
    away = points[:, :2] - opening.center_m
    out = np.hypot(away[:, 0], away[:, 1])
    rim = (out > opening.radius_m - _RIM_M) & (out < opening.outer_m + _RIM_M)
    rim &= np.abs(points[:, 2] - opening.rim_z_m) < _RIM_M
    turns = np.arctan2(away[rim, 1], away[rim, 0]) / math.tau
    sectors = np.floor(turns * _DIRECTIONS).astype(int) % _DIRECTIONS
    directions = np.unique(sectors)
    if len(directions) < _RIM_SHARE * _DIRECTIONS:
        return False
    farther = np.array([np.median(out[rim][sectors == each]) for each in directions])
    farther -= (opening.radius_m + opening.outer_m) / 2
    angles = (directions + 0.5) / _DIRECTIONS * math.tau
    # A circle moved by d is d · cos farther away in each direction: that has a mean of d / 2.
    moved = 2 * np.mean([farther * np.cos(angles), farther * np.sin(angles)], axis=1)
    return math.hypot(*moved) < _MOVED_M


def _over_contents(
    earlier: Placement, opening: Opening, patch: Patch, held: Held, limits: GraspLimits
) -> Placement | Refusal:
    """Over the lowest part of what is in it that leaves room for the hand."""
    points, floor_z = patch.points_m[patch.valid], earlier.position_m[2]
    middle, held_m = opening.center_m, held.radius_m
    spots = _spots(middle, _OUT * max(0.0, opening.radius_m - held_m))
    tops = [_top_z(points, spot, held_m / 2, floor_z) for spot in spots]
    highest = _top_z(points, middle, opening.radius_m, floor_z)
    release_m = max(earlier.release_above_m, highest - floor_z + _OVER_M)
    lowest = sorted(range(len(spots)), key=lambda i: (round(tops[i] / _ALIKE_M), i))
    over = (
        replace(
            earlier,
            position_m=(*spots[i], floor_z),
            release_above_m=release_m,
            radius_m=opening.radius_m + math.dist(spots[i], middle),
        )
        for i in lowest
    )
    return first_with_room(over, patch, held, limits)


def _spots(middle: Point2, offset_m: float) -> list[Point2]:
    around = (i * math.tau / _SPOTS for i in range(_SPOTS))
    x, y = middle
    return [middle, *((x + offset_m * math.cos(a), y + offset_m * math.sin(a)) for a in around)]


def _top_z(points: Floats, spot: Point2, radius_m: float, floor_z: float) -> float:
    near = points[np.hypot(points[:, 0] - spot[0], points[:, 1] - spot[1]) < radius_m]
    return float(np.quantile(near[:, 2], 0.95)) if len(near) >= 6 else floor_z
