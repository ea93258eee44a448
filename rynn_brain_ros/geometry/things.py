"""What is meant by a pixel: the thing that stands out of its support there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from rynn_brain_ros.geometry.camera import Floats
from rynn_brain_ros.geometry.depth import Depth, DepthView
from rynn_brain_ros.geometry.heights import (
    LOWER_M,
    Capsule,
    Indices,
    Patch,
    labels_near,
    patch_around,
    standing,
    support_level,
)
from rynn_brain_ros.geometry.lifting import Bounds, LiftLimits, lift_point
from rynn_brain_ros.geometry.surfaces import Mask, valid_depth
from rynn_brain_ros.values import Point2, Refusal, RefusalCode, RigidTransform

_REACH_M = 0.2
_SEEN_PX = 6
_SEEN_SHARE = 0.3
_BOX_MARGIN_PX = 2.0
_SIDE_SHIFT_PX = 3
_CONTACT_M = 0.02
_LEVEL_SLOPE = 0.5
_RAISED_M = 0.015
_TRAY_REACH_M = 0.12
_TRAY_TILT_RAD = math.radians(10)
_LOW_QUANTILE = 0.05
_MIN_CONTACTS = 4


@dataclass(frozen=True, eq=False)
class StandingThing:
    """The pixels ``mask`` [h, w] of ``patch`` that show it, the point ``anchor_m`` [3] that was
    meant, and the height of what it stands on; base frame."""

    patch: Patch = field(repr=False)
    mask: Mask = field(repr=False)
    anchor_m: Floats
    support_z_m: float

    @property
    def elevation_rad(self) -> float:
        """How far above its horizon the camera is."""
        x, y, z = self.patch.eye_m - self.anchor_m
        return math.atan2(z, math.hypot(x, y))

    @property
    def pixels(self) -> Indices:
        """(u, v) [N, 2] of the picture that show it, the ones that the patch left out included."""
        rows, columns = np.nonzero(self.mask)
        stride, corner = self.patch.stride, (self.patch.left, self.patch.top)
        first = np.column_stack([columns, rows]) * stride + corner
        steps = np.indices((stride, stride)).reshape(2, -1).T
        return np.asarray((first[:, None] + steps).reshape(-1, 2), np.int64)


def thing_at(
    uv: Point2,
    bounds_px: Bounds | None,
    view: DepthView,
    T_base_camera: RigidTransform,
    lift: LiftLimits,
    *,
    max_tilt_rad: float,
    exclude: Sequence[Capsule] = (),
) -> StandingThing | Refusal:
    """What stands out of its support at ``uv``, cut to the box ``bounds_px`` where there is one.

    Refuses as `lift_point` does (a point on an edge is taken to mean what stands out), with
    AMBIGUOUS (``uv`` outside the box), ON_ROBOT, and NO_GRASP where nothing stands there.
    """
    seen = _look(uv, bounds_px, view, T_base_camera, lift=lift, exclude=exclude)
    if isinstance(seen, Refusal):
        return seen
    patch, anchor = seen
    thing = _cut_out(uv, bounds_px, patch, anchor, max_tilt_rad=max_tilt_rad, lift=lift)
    if isinstance(thing, StandingThing) and _cut_off(thing.mask, patch, view):
        return refuse_at(RefusalCode.NO_GRASP, uv, "the thing reaches out of the picture")
    return thing


def refuse_at(code: RefusalCode, uv: Point2, text: str) -> Refusal:
    return Refusal(code, f"pixel ({uv[0]:.1f}, {uv[1]:.1f}): {text}")


def _look(
    uv: Point2,
    bounds_px: Bounds | None,
    view: DepthView,
    T_base_camera: RigidTransform,
    *,
    lift: LiftLimits,
    exclude: Sequence[Capsule],
) -> tuple[Patch, Floats] | Refusal:
    """The depth around the pixel, and the point there in the base frame [3]."""
    if bounds_px is not None and not _in_box(uv, bounds_px):
        box = ", ".join(f"{value:.0f}" for value in bounds_px)
        return refuse_at(
            RefusalCode.AMBIGUOUS, uv, f"the grasp lies outside its thing's box ({box})"
        )
    lifted = lift_point(uv, view, lift)
    if isinstance(lifted, Refusal) and lifted.code is not RefusalCode.DEPTH_EDGE:
        return lifted
    near = _depth_near(uv, view)
    share = float(valid_depth(near).mean())
    if share < _SEEN_SHARE:
        code = RefusalCode.TOO_FEW_VALID if share else RefusalCode.NO_DEPTH
        text = f"only {share:.0%} of the depth around it is valid, {_SEEN_SHARE:.0%} are needed"
        return refuse_at(code, uv, text)
    z_m = float(np.quantile(near[valid_depth(near)], 0.25))
    patch = patch_around(uv, z_m, _REACH_M, view, T_base_camera, limits=lift)
    row, column = patch.at(uv)
    ray = patch.rays[row, column]
    anchor = patch.eye_m + ray * z_m
    if any(capsule.holds(anchor[None])[0] for capsule in exclude):
        return refuse_at(RefusalCode.ON_ROBOT, uv, "the robot itself is seen there")
    return patch.without(exclude), anchor


def _in_box(uv: Point2, bounds_px: Bounds) -> bool:
    u0, v0, u1, v1 = bounds_px
    margin = _BOX_MARGIN_PX
    return u0 - margin <= uv[0] <= u1 + margin and v0 - margin <= uv[1] <= v1 + margin


def _depth_near(uv: Point2, view: DepthView) -> Depth:
    radius = round(_SEEN_PX * max(1.0, view.camera.width / 640))
    row, column = round(uv[1]), round(uv[0])
    area = slice(max(0, row - radius), row + radius + 1)
    return view.depth_m[area, max(0, column - radius) : column + radius + 1]


def _cut_out(
    uv: Point2,
    bounds_px: Bounds | None,
    patch: Patch,
    anchor: Floats,
    *,
    max_tilt_rad: float,
    lift: LiftLimits,
) -> StandingThing | Refusal:
    level = support_level(patch, anchor, _REACH_M)
    if level is None or level.tilt_rad > max_tilt_rad:
        text = "no level support is seen around it"
        if level is not None:
            text += f": the surface there is tilted by {math.degrees(level.tilt_rad):.0f}°"
        return refuse_at(RefusalCode.NO_GRASP, uv, text)
    heights, stands = standing(patch, level, lift.rise_m)
    if bounds_px is not None:
        stands &= patch.inside(bounds_px, _BOX_MARGIN_PX)
    labels = patch.surfaces(stands)
    here = labels_near(patch, labels, uv)
    if not here:
        text = f"nothing stands out of the support at z = {level.at(anchor[0], anchor[1]):.3f} m"
        return refuse_at(RefusalCode.NO_GRASP, uv, text)
    mask = _on_its_own(patch, labels == here[0], uv, anchor, lift)
    if mask.sum() * patch.stride**2 < lift.min_valid:
        text = f"only {int(mask.sum())} depth pixels stand out of the support there"
        return refuse_at(RefusalCode.TOO_FEW_VALID, uv, text)
    x, y = np.median(patch.points_m[mask][:, :2], axis=0)
    contact = _contact_height(patch, mask, heights)
    raised = contact if contact > lift.rise_m else 0.0
    return StandingThing(patch, mask, anchor, level.at(float(x), float(y)) + raised)


def _on_its_own(patch: Patch, mask: Mask, uv: Point2, anchor: Floats, lift: LiftLimits) -> Mask:
    """Without the plate or tray under it: a level part of the segment, below the point meant."""
    below = anchor - (0.0, 0.0, _RAISED_M + LOWER_M)
    ground = support_level(patch, below, _TRAY_REACH_M, mask)
    if ground is None or ground.tilt_rad > _TRAY_TILT_RAD:
        return mask
    labels = patch.surfaces(mask & standing(patch, ground, lift.rise_m)[1])
    here = labels_near(patch, labels, uv)
    return labels == here[0] if here else mask


def _contact_height(patch: Patch, mask: Mask, heights: Floats) -> float:
    """Height over the level of what the segment stands on, by the pixels just below its border.

    Only what is level counts: seen from steeply above, the segment may end halfway down the thing,
    and the pixels below are its own wall. 0 where too few of them are known: hidden by something
    nearer, or out of the picture.
    """
    step = _SIDE_SHIFT_PX
    at, next_, last = slice(None, -2 * step), slice(step, -step), slice(2 * step, None)
    pairs = mask[at] & ~mask[next_] & patch.valid[next_] & patch.valid[last]
    upper, lower, further = (patch.points_m[rows][pairs] for rows in (at, next_, last))
    stood_on = np.hypot(*(upper - lower)[:, :2].T) <= _CONTACT_M
    stood_on &= _are_level(lower, further, patch.sigma_height_m)
    low = float(np.quantile(heights[mask], _LOW_QUANTILE)) + _RAISED_M
    found = heights[next_][pairs][stood_on]
    found = found[found <= low]
    return float(np.median(found)) if len(found) >= _MIN_CONTACTS else 0.0


def _are_level(points: Floats, others: Floats, sigma_m: float) -> Mask:
    """Whether the way from each point to the other, [N, 3], rises by less than a wall or noise."""
    away = np.abs(others - points)
    rise = _LEVEL_SLOPE * np.hypot(away[:, 0], away[:, 1])
    return np.asarray(away[:, 2] <= np.maximum(rise, 3 * sigma_m))


def _cut_off(mask: Mask, patch: Patch, view: DepthView) -> bool:
    rows, columns = np.nonzero(mask)
    u, v = patch.left + patch.stride * columns, patch.top + patch.stride * rows
    edge = patch.stride
    on_border = (u < edge) | (v < edge)
    on_border |= (u >= view.camera.width - edge) | (v >= view.camera.height - edge)
    return bool(on_border.any())
