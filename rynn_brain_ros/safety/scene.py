"""Whether a place still looks as it did in the frame that an answer was computed from.

The surroundings of the target, as the old frame's depth shows them, are looked for in the newest
frame, with both camera poses. Three things can be told apart: something is gone (the new camera
sees farther than where it was), something is new (the old camera saw through where it is now), and
what merely cannot be seen from the new place. Colours are compared where depth agrees, and where
the new camera has none: a black glove, chrome or glass may cover the target there.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

import cv2
import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.geometry import DepthNoise, DepthView, apply, compose, invert
from rynn_brain_ros.safety.limits import SafetyLimits
from rynn_brain_ros.safety.seeing import SeenFrame, SeenFrames
from rynn_brain_ros.values import Refusal, RefusalCode, RigidTransform, SelectedFrame, Vector3

Floats = NDArray[np.float64]
Depths = NDArray[np.float32]
Mask = NDArray[np.bool_]
Own = Callable[[Floats], Mask]
"""Which of points [N, 3] of the fixed frame are the robot's own, or what it holds."""

_MAX_POINTS = 30_000
"""A larger patch is looked at with a stride."""
_MIN_POINTS = 50
_MIN_DIFFERENT = 15
"""Fewer points that differ are noise at an edge, whatever their share."""
_NOISE = DepthNoise()
_NOISE_SIGMAS = 2.0
_SOLID_PX = 5
"""Differences count where they fill a square of this side: a rim that is a pixel off does not."""
_SOLID_SHARE = 0.6
_NEARBY = 2 / 640
"""Seen from elsewhere, noise of the old depth moves a point by as much, per width of the image."""
_ON_THE_RAY = 20
"""So many places on a ray are asked for the robot itself where nothing has depth."""
_SHADE = (0.55, 1.8)
"""Brightness may change by this factor and is still light or shadow, not another thing."""


class Verdict(str, Enum):
    UNCHANGED = "unchanged"
    CHANGED = "changed"
    """Something of it is gone, or has other colours."""
    OCCLUDED = "occluded"
    """Something new stands in front of it or on it."""
    UNKNOWN = "unknown"
    """Depth, intrinsics or a pose are missing, or it is no longer in view."""


@dataclass(frozen=True)
class SceneLook:
    """What a comparison found. Shares are of all points that the old frame shows near the target:
    gone, of another colour, hidden by something new, seen at all. ``shift_m`` is the median
    difference in depth of those that are seen, positive where it is farther now."""

    verdict: Verdict
    text: str
    n_points: int = 0
    gone_share: float = math.nan
    color_share: float = math.nan
    hidden_share: float = math.nan
    seen_share: float = math.nan
    shift_m: float = math.nan

    def refusal(self) -> Refusal | None:
        """SCENE_CHANGED unless it is unchanged."""
        if self.verdict is Verdict.UNCHANGED:
            return None
        return Refusal(RefusalCode.SCENE_CHANGED, f"{self.text}: look and ask again")


def scene_unchanged(
    then: SelectedFrame,
    now: SelectedFrame,
    target_fixed_m: Vector3,
    limits: SafetyLimits,
    seen: SeenFrames | None = None,
    *,
    own: Own | None = None,
) -> SceneLook:
    """Compares the target's surroundings within ``limits.scene_radius_m``.

    Both frames need depth and a pose in the same fixed frame, in which ``target_fixed_m`` is
    told. ``seen`` keeps decoded frames for several targets. What ``own`` says may hide the target.
    """
    if (then.frame.key, then.sha256) == (now.frame.key, now.sha256):
        return SceneLook(Verdict.UNCHANGED, "it is the same image")
    seen = seen or SeenFrames()
    before, after = seen.of(then), seen.of(now)
    for when, found in (("then", before), ("now", after)):
        if isinstance(found, Refusal):
            return SceneLook(Verdict.UNKNOWN, f"the frame of {when} cannot be compared: {found}")
    assert isinstance(before, SeenFrame) and isinstance(after, SeenFrame)
    if before.T_fixed_camera.parent != after.T_fixed_camera.parent:
        frames = f"{before.T_fixed_camera.parent!r} and {after.T_fixed_camera.parent!r}"
        return SceneLook(Verdict.UNKNOWN, f"the poses are told in {frames}")
    patch = _patch(before, target_fixed_m, limits.scene_radius_m)
    if patch is None:
        return SceneLook(Verdict.UNKNOWN, "the target has no depth around it in the frame of then")
    return _judged(_compare(patch, before, after, limits, own), limits)


# --- the patch of then ----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Patch:
    """Pixels of the old frame around the target: ``known`` [h, w] where depth is valid and within
    the radius, and of those ``points_m`` [N, 3] in the old camera and ``uv`` [N, 2]."""

    points_m: Floats = field(repr=False)
    known: Mask = field(repr=False)
    uv: NDArray[np.int64] = field(repr=False)


def _patch(then: SeenFrame, target_fixed_m: Vector3, radius_m: float) -> _Patch | None:
    target = apply(then.T_camera_fixed, target_fixed_m)[0]
    camera = then.view.camera
    u, v = camera.project(target)[0]
    if not camera.contains(u, v):
        return None
    near_m = max(target[2] - radius_m, target[2] / 4)
    half = math.ceil(max(camera.fx, camera.fy) * radius_m / near_m)
    left, right = max(0, int(u) - half), min(camera.width, int(u) + half + 1)
    top, bottom = max(0, int(v) - half), min(camera.height, int(v) + half + 1)
    stride = math.ceil(math.sqrt((right - left) * (bottom - top) / _MAX_POINTS))
    z = then.view.depth_m[top:bottom:stride, left:right:stride].astype(np.float64)
    known = np.abs(z - target[2]) <= radius_m  # NaN is not
    rows, columns = np.nonzero(known)
    uv = np.column_stack([left + stride * columns, top + stride * rows])
    points = camera.pixel_to_ray(uv) * z[known][:, None]
    near = ((points - target) ** 2).sum(axis=1) <= radius_m**2
    known[rows[~near], columns[~near]] = False
    return _Patch(points[near], known, uv[near]) if near.sum() >= _MIN_POINTS else None


# --- the comparison -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Sides:
    """Points as another frame shows them, one value each: ``seen`` where it has depth there,
    ``farther`` and ``nearer`` where that is not theirs, ``blank`` where it looks and has none;
    ``dz_m`` is measured less expected depth, ``uv`` the nearest pixel, any inside where it is
    outside."""

    seen: Mask
    blank: Mask
    farther: Mask
    nearer: Mask
    dz_m: Floats
    uv: NDArray[np.int64]


def _sides(points_m: Floats, view: DepthView, tolerance_m: float) -> _Sides:
    """``points_m`` [N, 3] in the camera of ``view``. The eight pixels around count as well."""
    camera = view.camera
    pixels = camera.project(points_m)
    inside = (
        (np.abs(pixels[:, 0] - (camera.width - 1) / 2) <= camera.width / 2 - 0.5)
        & (np.abs(pixels[:, 1] - (camera.height - 1) / 2) <= camera.height / 2 - 0.5)
    )  # fmt: skip
    if not inside.any():
        no, n = np.zeros(len(points_m), bool), len(points_m)
        return _Sides(no, no, no, no, np.full(n, np.nan), np.zeros((n, 2), np.int64))
    uv = np.rint(np.nan_to_num(pixels)).astype(np.int64)
    uv = np.clip(uv, uv[inside].min(axis=0), uv[inside].max(axis=0))
    low, high, middle = _around(view, uv)
    z = points_m[:, 2]
    slack = tolerance_m + _NOISE_SIGMAS * math.sqrt(2) * _NOISE.sigma_m(z)
    seen, blank = inside & np.isfinite(low), inside & ~np.isfinite(low)
    farther, nearer = seen & (z < low - slack), seen & (z > high + slack)
    return _Sides(seen, blank, farther, nearer, middle - z, uv)


def _around(view: DepthView, uv: NDArray[np.int64]) -> tuple[Depths, Depths, Depths]:
    """At pixels ``uv`` [N, 2]: the smallest and the largest depth of the 3×3 pixels, infinite
    where there is none, and the pixel's own, NaN where there is none."""
    (u0, v0), (u1, v1) = np.maximum(uv.min(axis=0) - 1, 0), uv.max(axis=0) + 2
    z, kernel = view.depth_m[v0:v1, u0:u1], np.ones((3, 3), np.uint8)
    at = (uv[:, 1] - v0, uv[:, 0] - u0)
    valid = z > 0
    low = cv2.erode(np.where(valid, z, np.float32(np.inf)), kernel)
    high = cv2.dilate(np.where(valid, z, np.float32(-np.inf)), kernel)
    return low[at], high[at], np.where(valid, z, np.float32(np.nan))[at]


@dataclass(frozen=True)
class _Shares:
    n_points: int
    gone: float
    color: float
    hidden: float
    seen: float
    shift_m: float


def _compare(
    patch: _Patch, then: SeenFrame, now: SeenFrame, limits: SafetyLimits, own: Own | None
) -> _Shares:
    T_now_then = compose(now.T_camera_fixed, then.T_fixed_camera)
    points_m = patch.points_m
    tolerance_m = limits.scene_depth_tolerance_m
    points_now_m = apply(T_now_then, points_m)
    sides = _sides(points_now_m, now.view, tolerance_m)
    new = _is_new(sides, T_now_then, then, now, tolerance_m)
    seen = sides.seen & (~sides.nearer | new)  # not: what another side of the thing hides
    same = sides.seen & ~sides.farther & ~sides.nearer
    other = _other_color(patch, sides.uv, then, now, limits.scene_color_tolerance)
    behind = _behind_own(points_now_m, sides.blank & other, now, own)
    mine = _shown_as_own(sides, new, now, own) | behind
    foreign = new & ~mine
    gone, hidden = (_solid_count(m, seen, patch) for m in (sides.farther, foreign))
    color = _solid_count((same | sides.blank) & other & ~mine, seen | sides.blank, patch)
    n = len(points_m)
    shift = sides.dz_m[seen & ~new]
    shift_m = float(np.nanmedian(shift)) if np.isfinite(shift).any() else math.nan
    if mine.any() and math.isnan(shift_m):
        shift_m = 0.0  # all of it is behind the robot
    return _Shares(n, gone / n, color / n, hidden / n, float(seen.mean()), shift_m)


def _is_new(
    sides: _Sides, T_now_then: RigidTransform, then: SeenFrame, now: SeenFrame, tolerance_m: float
) -> Mask:
    """Of what is nearer than expected: that which the old camera would have seen, and did not."""
    new = np.zeros_like(sides.nearer)
    at = np.flatnonzero(sides.nearer & np.isfinite(sides.dz_m))
    if len(at):
        uv = sides.uv[at]
        points = now.view.camera.pixel_to_ray(uv) * now.view.depth_m[uv[:, 1], uv[:, 0], None]
        back = _sides(apply(invert(T_now_then), points), then.view, tolerance_m)
        new[at] = back.farther | ~back.seen
    return new


def _shown_as_own(sides: _Sides, new: Mask, now: SeenFrame, own: Own | None) -> Mask:
    """Of what is new, that which is the robot's own."""
    mine = np.zeros_like(new)
    at = np.flatnonzero(new)
    if own is not None and len(at):
        uv = sides.uv[at]
        depth_m = now.view.depth_m[uv[:, 1], uv[:, 0], None]
        mine[at] = own(apply(now.T_fixed_camera, now.view.camera.pixel_to_ray(uv) * depth_m))
    return mine


def _behind_own(points_m: Floats, where: Mask, now: SeenFrame, own: Own | None) -> Mask:
    """Of ``points_m`` [N, 3] in the camera of ``now``, at ``where``: those that it sees through the
    robot's own, which may have no depth either."""
    behind = np.zeros_like(where)
    at = np.flatnonzero(where)
    if own is not None and len(at):
        shares = np.linspace(0.0, 1.0, _ON_THE_RAY + 1)[1:]
        on_ray = points_m[at] * shares[:, None, None]
        found = own(apply(now.T_fixed_camera, on_ray.reshape(-1, 3)))
        behind[at] = found.reshape(_ON_THE_RAY, -1).any(axis=0)
    return behind


def _other_color(
    patch: _Patch, uv_now: NDArray[np.int64], then: SeenFrame, now: SeenFrame, tolerance: float
) -> Mask:
    """Where no pixel nearby has the colour of then, but for light and shadow: brightness is first
    made equal, within `_SHADE`."""
    old, pending = then.colors(patch.uv), np.arange(len(patch.uv))
    step = max(1, round(_NEARBY * now.view.camera.width))
    for offset in itertools.product((0, -step, step), repeat=2):
        difference = _color_difference(old[pending], now.colors(uv_now[pending] + offset))
        pending = pending[difference > 255 * tolerance]
    other = np.zeros(len(old), bool)
    other[pending] = True
    return other


def _color_difference(old: Depths, new: Depths) -> Depths:
    """[N], of the channel that differs most, 0…255."""
    shade = (new.sum(axis=1) + 1) / (old.sum(axis=1) + 1)
    lit = old * np.clip(shade, *_SHADE)[:, None]
    return np.asarray(np.abs(new - lit).max(axis=1), np.float32)


def _solid_count(mask: Mask, seen: Mask, patch: _Patch) -> int:
    """How many of the points [N] of ``mask`` lie among their like in the old frame's pixels."""
    images = np.zeros((2, *patch.known.shape), np.float32)
    images[0][patch.known], images[1][patch.known] = mask, seen
    ours, all_ = (
        cv2.boxFilter(
            image, -1, (_SOLID_PX, _SOLID_PX), normalize=False, borderType=cv2.BORDER_CONSTANT
        )
        for image in images
    )
    solid = (images[0] > 0) & (ours >= _SOLID_SHARE * all_) & (ours >= _SOLID_PX)
    count = int(solid.sum())
    return count if count >= _MIN_DIFFERENT else 0


def _judged(shares: _Shares, limits: SafetyLimits) -> SceneLook:
    gone, color, hidden = (round(100 * s) for s in (shares.gone, shares.color, shares.hidden))
    verdict, text = Verdict.UNCHANGED, "it looks as it did"
    if max(shares.gone, shares.color) > limits.scene_changed_share:
        verdict, text = Verdict.CHANGED, f"{gone} % of it is gone, {color} % has other colours"
    elif shares.hidden > limits.scene_hidden_share:
        verdict, text = Verdict.OCCLUDED, f"{hidden} % of it is behind something new"
    elif shares.seen < limits.scene_seen_share:
        verdict, text = Verdict.UNKNOWN, f"only {shares.seen:.0%} of it can still be seen"
    elif not abs(shares.shift_m) <= limits.scene_depth_tolerance_m:
        verdict, text = Verdict.CHANGED, f"its depth has shifted by {shares.shift_m * 1e3:.1f} mm"
    return SceneLook(
        verdict, text, shares.n_points, shares.gone, shares.color, shares.hidden, shares.seen,
        shares.shift_m,
    )  # fmt: skip
