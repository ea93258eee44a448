"""Where a held thing goes: a free spot of a surface, the middle of a container, the top of a thing.

Found in the depth around the area that was pointed at, as a map of heights seen from above; a spot
that no camera sees is not free.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

import cv2
import numpy as np

from rynn_brain_ros.geometry.camera import Floats
from rynn_brain_ros.geometry.depth import DepthView
from rynn_brain_ros.geometry.grasping import Closing, Grasp, GraspLimits, in_the_way
from rynn_brain_ros.geometry.heightmap import HeightMap, free_height_map
from rynn_brain_ros.geometry.heights import (
    Capsule,
    Level,
    Patch,
    labels_near,
    patch_around,
    standing,
    support_level,
)
from rynn_brain_ros.geometry.lifting import LiftLimits, lift_area
from rynn_brain_ros.geometry.solids import Solid, SolidKind, fit_solid
from rynn_brain_ros.geometry.surfaces import Labels, Mask
from rynn_brain_ros.geometry.transforms import apply, to_matrix
from rynn_brain_ros.values import Point2, Refusal, RefusalCode, RigidTransform, Vector3

_HAND = GraspLimits()
_LIFT = LiftLimits()
_REACH_M = 0.25
_CELL_M = 0.005
_FLAT_M = 0.005
_OBSTACLE_M = 0.012
"""Over the support; fingertips are higher than this when they let go."""
_FARTHEST_M = 0.15
_MOST_TRIED, _TRY_EVERY_M = 60, 0.015
"""Spots, and from one to the next, where the hand has no room at the nearest."""
_NEAR_M = 0.02
_RELEASE_M = 0.006
_OVER_RIM_M = 0.01
_DEEP_M = 0.02
"""A rim this high over what it surrounds makes a container; a lower one is a plate's."""
_RIM_SLACK_M = 0.004
_STACK_SIZE = 2.0
"""A raised top up to this many footprints wide is built on in its middle."""
_STACK_SHARE = 0.5
_STACK_HEIGHT_M = 0.02
"""What stands out less is ground, not a thing to build on."""


class PlaceKind(str, Enum):
    SURFACE = "surface"
    CONTAINER = "container"
    STACK = "stack"


@dataclass(frozen=True)
class Opening:
    """That of a container: its middle (x, y), how far its wall is from there on the inside and on
    the outside, and the height of its rim; metres, in the base frame."""

    center_m: Point2
    radius_m: float
    outer_m: float
    rim_z_m: float


@dataclass(frozen=True)
class Placement:
    """Where to let go of a thing.

    Its middle goes over ``position_m`` (x, y, and the z of what it comes to rest on), its bottom
    ``release_above_m`` higher when the fingers open. ``radius_m`` is how far from there it may come
    to rest: the opening of a container, else the thing's own footprint. ``clearance_m`` is what is
    free around the footprint. ``opening`` is the container's, where it goes into one.
    """

    position_m: Vector3
    release_above_m: float
    kind: PlaceKind
    radius_m: float
    clearance_m: float
    opening: Opening | None = None


def placement_at(  # noqa: PLR0917
    points_px: Sequence[Point2],
    view: DepthView,
    T_base_camera: RigidTransform,
    size_m: Vector3,
    limits: GraspLimits = _HAND,
    lift: LiftLimits = _LIFT,
    *,
    container: bool | None = None,
    exclude: Sequence[Capsule] = (),
    grasp: Grasp | None = None,
) -> Placement | Refusal:
    """Where a thing of ``size_m`` (long, short, height) goes that is to be put at ``points_px``.

    ``container`` says whether it goes into something, where that is known. ``exclude`` is the robot
    with what it holds: its depth is ignored. With ``grasp``, how the thing is held, the hand has
    room to come down, too. Refuses as `lift_area` does, with ON_ROBOT, with NO_FREE_SPACE where the
    thing does not fit, and with APPROACH_BLOCKED where the hand does not.
    """
    area = lift_area(points_px, view, lift)
    if isinstance(area, Refusal):
        return area
    target = apply(T_base_camera, area.target.point_camera_m)[0]
    robot = on_robot(target, exclude)
    if robot is not None:
        return robot
    uv, depth = area.target.pixel, area.target.point_camera_m[2]
    patch = patch_around(uv, depth, _REACH_M, view, T_base_camera, limits=lift, exclude=exclude)
    level = support_level(patch, target, _REACH_M)
    if level is None or level.tilt_rad > limits.max_tilt_rad:
        return _no_space(target, "no level support is seen around it")
    held = Held(size_m, grasp)
    labels = patch.surfaces(standing(patch, level, lift.rise_m)[1])
    if container is not False:
        into = _into_container(patch, labels, level, target, held)
        if into is not None:
            return _with_room(into, patch, held, limits)
    if container:
        return _no_space(target, "nothing with a rim around an opening is seen there")
    here = labels_near(patch, labels, uv)
    if here and level.heights(target) > _STACK_HEIGHT_M:
        onto = _onto_thing(patch, labels == here[0], target, held, limits)
        if onto is not None:
            return _with_room(onto, patch, held, limits)
    return _on_surface(patch, target, held, limits)


def on_robot(target: Floats, exclude: Sequence[Capsule]) -> Refusal | None:
    """Where what is pointed at, ``target`` [3], is the robot or what it holds."""
    if not any(capsule.holds(target[None])[0] for capsule in exclude):
        return None
    x, y, z = target
    text = f"the place at ({x:.2f}, {y:.2f}, {z:.2f}) m shows the robot itself"
    return Refusal(RefusalCode.ON_ROBOT, text)


def _no_space(target: Floats, text: str) -> Refusal:
    x, y, z = target
    where = f"the place at ({x:.3f}, {y:.3f}, {z:.3f}) m"
    return Refusal(RefusalCode.NO_FREE_SPACE, f"{where}: {text}")


@dataclass(frozen=True)
class Held:
    """A thing in the hand: its size (long side, short side, height), and how it is held, where
    that is known."""

    size_m: Vector3
    grasp: Grasp | None

    @property
    def radius_m(self) -> float:
        """Of the circle around its footprint."""
        return math.hypot(self.size_m[0], self.size_m[1]) / 2


def _with_room(
    found: Placement | Refusal, patch: Patch, held: Held, limits: GraspLimits
) -> Placement | Refusal:
    """The same, refused where the hand has no room to come down in what ``patch`` shows."""
    if isinstance(found, Refusal):
        return found
    x, y, z = found.position_m
    blocked = _hand_blocked((x, y, z + found.release_above_m), patch, held, limits)
    if blocked is None:
        return found
    where = f"the place at ({x:.3f}, {y:.3f}, {z:.3f}) m"
    return Refusal(RefusalCode.APPROACH_BLOCKED, f"{where}: {blocked}")


def first_with_room(
    spots: Iterable[Placement], patch: Patch, held: Held, limits: GraspLimits
) -> Placement | Refusal:
    """The first of ``spots``, one at least, where the hand has room; else why not at the first."""
    first: Placement | Refusal | None = None
    for spot in spots:
        found = _with_room(spot, patch, held, limits)
        if isinstance(found, Placement):
            return found
        first = first or found
    assert first is not None  # there is one
    return first


def _hand_blocked(bottom_m: Vector3, patch: Patch, held: Held, limits: GraspLimits) -> str | None:
    """What is in the way of the hand that puts the thing's bottom there, turned as it gripped."""
    grasp = held.grasp
    if grasp is None:
        return None
    (x, y, z), (dx, dy) = bottom_m, grasp.middle_offset_m
    closing_x, closing_y, _ = to_matrix(grasp.T_base_tcp)[:3, 1]
    closing = Closing((x - dx, y - dy), math.atan2(closing_y, closing_x), grasp.width_m)
    return in_the_way(closing, z + grasp.bottom_below_tcp_m, patch, limits)


# --- containers -----------------------------------------------------------------------------------


def _into_container(
    patch: Patch, labels: Labels, level: Level, target: Floats, held: Held
) -> Placement | Refusal | None:
    """Over the middle of the container that the target lies in or on; None where there is none."""
    rim = _rim_around(patch, labels, target)
    if rim is None:
        return None
    floor_z = _floor_height(patch, rim, level)
    if rim.top_z_m - floor_z < _DEEP_M:
        return None
    outer = rim.width_m / 2
    opening = Opening(rim.center_m, outer - rim.wall_m, outer, rim.top_z_m)
    narrow = too_narrow(opening, target, held)
    if narrow is not None:
        return narrow
    release = rim.top_z_m + _OVER_RIM_M - floor_z
    where = (*rim.center_m, floor_z)
    clearance = max(0.0, opening.radius_m - held.radius_m)
    return Placement(where, release, PlaceKind.CONTAINER, opening.radius_m, clearance, opening)


def too_narrow(opening: Opening, target: Floats, held: Held) -> Refusal | None:
    """Where the thing does not fit through the opening, however it is turned."""
    if opening.radius_m - held.radius_m >= -_RIM_SLACK_M:
        return None
    text = f"an opening of radius {opening.radius_m:.3f} m, the thing needs {held.radius_m:.3f} m"
    return _no_space(target, text)


def _rim_around(patch: Patch, labels: Labels, target: Floats) -> Solid | None:
    """The rim that has the target within its outer circle."""
    for mask in _pieces(patch, labels, target):
        solid = fit_solid(patch, mask)
        if solid is None or solid.kind is not SolidKind.RIM:
            continue
        if math.dist(solid.center_m, target[:2]) <= solid.width_m / 2:
            return solid
    return None


def _pieces(patch: Patch, labels: Labels, target: Floats) -> Iterator[Mask]:
    """What stands around the target, as seen from above, the largest first."""
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    for label in np.argsort(-sizes, kind="stable")[:8]:
        if sizes[label] < 40:
            return
        mask = labels == label
        points = patch.points_m[mask]
        low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
        if (low <= target[:2]).all() and (target[:2] <= high).all():
            yield mask


def _floor_height(patch: Patch, rim: Solid, level: Level) -> float:
    """The lowest that is seen around the middle; the support's own where that is hidden."""
    x, y, z = np.moveaxis(patch.points_m, 2, 0)
    with np.errstate(invalid="ignore"):
        away2 = (x - rim.center_m[0]) ** 2 + (y - rim.center_m[1]) ** 2
        inside = patch.valid & (away2 < (rim.width_m / 4) ** 2)
    support = level.at(*rim.center_m)
    if inside.sum() < 12:
        return support
    return max(support, float(np.quantile(z[inside], 0.2)))


# --- on top of a thing ----------------------------------------------------------------------------


def _onto_thing(
    patch: Patch,
    mask: Mask,
    target: Floats,
    held: Held,
    limits: GraspLimits,
) -> Placement | Refusal | None:
    """The middle of a top that is not much larger than the held thing; None where it is larger."""
    solid = fit_solid(patch, mask)
    if solid is None or solid.kind is SolidKind.RIM:
        return None
    if solid.width_m > _STACK_SIZE * 2 * held.radius_m:
        return None
    if solid.kind not in (SolidKind.BOX, SolidKind.CYLINDER):
        return _no_space(target, f"the top of a {solid.kind.value} is round: nothing stays on it")
    if solid.explained < limits.min_explained or solid.width_m < _STACK_SHARE * held.size_m[1]:
        text = f"a top {solid.width_m:.3f} m wide for a thing {held.size_m[1]:.3f} m wide"
        return _no_space(target, text)
    around = _room_m(patch, solid, mask, limits)
    if around < _finger_room_m(held, limits):
        text = (
            f"something stands {around:.3f} m from its middle, thing and fingers need "
            f"{_finger_room_m(held, limits):.3f} m"
        )
        return _no_space(target, text)
    clearance = around - held.radius_m
    where = (*solid.center_m, solid.top_z_m)
    return Placement(where, _RELEASE_M, PlaceKind.STACK, held.radius_m, clearance)


def _room_m(patch: Patch, solid: Solid, mask: Mask, limits: GraspLimits) -> float:
    """From the middle of a top to the nearest other thing that is higher."""
    with np.errstate(invalid="ignore"):
        higher = patch.valid & ~mask & (patch.points_m[..., 2] > solid.top_z_m + _OBSTACLE_M)
    if higher.sum() < 4:
        return _REACH_M
    away = np.hypot(*(patch.points_m[higher][:, :2] - solid.center_m).T)
    return float(np.sort(away)[3])


def _finger_room_m(held: Held, limits: GraspLimits) -> float:
    return held.radius_m + limits.finger_thickness_m + limits.side_clearance_m


# --- on a surface ---------------------------------------------------------------------------------


def _on_surface(
    patch: Patch, target: Floats, held: Held, limits: GraspLimits
) -> Placement | Refusal:
    """The spot nearest to the target whose whole footprint is on the target's own flat ground."""
    heights = free_height_map(patch.points_m[patch.valid], target[:2], _REACH_M, _CELL_M)
    level, flat = _flat_ground(heights, target)
    ground = cv2.distanceTransform(np.pad(flat, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    clear = (~(heights.top_m > level + _OBSTACLE_M)).astype(np.uint8)
    aside = cv2.distanceTransform(clear, cv2.DIST_L2, 5) * _CELL_M
    room = _finger_room_m(held, limits)
    fits = (ground * _CELL_M > held.radius_m) & (aside > room)
    rows, columns = np.nonzero(fits)
    places = heights.place(rows, columns)
    away = np.hypot(*(places - target[:2]).T)
    if not len(away) or away.min() > _FARTHEST_M:
        return _no_space(
            target, _why_full(np.asarray(ground * _CELL_M), np.asarray(aside), flat, held, room)
        )
    spots = (
        Placement(
            _resting(heights, places[i], held),
            _RELEASE_M,
            PlaceKind.SURFACE,
            held.radius_m,
            float(aside[rows[i], columns[i]]) - held.radius_m,
        )
        for i in _tries(places, away)
    )
    return first_with_room(spots, patch, held, limits)


def _resting(heights: HeightMap, place: Floats, held: Held) -> Vector3:
    x, y = map(float, place)
    return (x, y, _height_under(heights, place, held.radius_m))


def _tries(places: Floats, away: Floats) -> Iterator[int]:
    """Some of the places [N, 2], apart from one another, the nearest first."""
    tried: list[Floats] = []
    for best in np.argsort(away, kind="stable"):
        if away[best] > _FARTHEST_M or len(tried) >= _MOST_TRIED:
            return
        if all(math.dist(places[best], other) >= _TRY_EVERY_M for other in tried):
            tried.append(places[best])
            yield int(best)


def _flat_ground(heights: HeightMap, target: Floats) -> tuple[float, Mask]:
    """The ground's height at the target, and the connected cells that lie on it."""
    n = heights.mean_m.shape[0]
    rows, columns = np.mgrid[0:n, 0:n]
    away = np.hypot(rows - n // 2, columns - n // 2) * heights.cell_m
    near = (away <= _NEAR_M) & np.isfinite(heights.mean_m)
    near &= ~(np.abs(heights.mean_m - target[2]) > 2 * _FLAT_M)
    level = float(np.median(heights.mean_m[near])) if near.any() else float(target[2])
    flat = np.abs(heights.mean_m - level) <= _FLAT_M
    _, labels = cv2.connectedComponents(flat.astype(np.uint8), connectivity=4)
    here = labels[flat & (away <= _NEAR_M)]
    if not len(here):
        return level, np.zeros_like(flat)
    return level, np.asarray(flat & (labels == np.bincount(here).argmax()))


def _height_under(heights: HeightMap, middle: Floats, radius_m: float) -> float:
    n = heights.mean_m.shape[0]
    rows, columns = np.mgrid[0:n, 0:n]
    places = heights.place(rows.ravel(), columns.ravel())
    under = np.hypot(*(places - middle).T) <= radius_m
    return float(np.nanmean(heights.mean_m.ravel()[under]))


def _why_full(ground: Floats, aside: Floats, flat: Mask, held: Held, room: float) -> str:
    largest = float(ground.max()) if flat.any() else 0.0
    farthest = float(aside[flat].max()) if flat.any() else 0.0
    return (
        f"the thing needs flat ground of radius {held.radius_m:.3f} m and {room:.3f} m from other "
        f"things; at most {largest:.3f} m and {farthest:.3f} m are free"
    )
