"""A pour: from the vessel in the hand into one that stands open, and what must be seen of it.

Whether anything came out is told by what is new within the rim of the vessel below. Where nothing
new can be seen there, all that is known is that the one was tilted over the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.geometry import Capsule, Placement, SolidKind, placement_at, to_matrix
from rynn_brain_ros.planning import motions
from rynn_brain_ros.planning.appearance import Appearance
from rynn_brain_ros.planning.arm import Scene, Target
from rynn_brain_ros.planning.holding import Doings, Poured, Taken
from rynn_brain_ros.planning.remeasuring import Shown
from rynn_brain_ros.values import Check, Refusal, RefusalCode, Step

_STREAM_M = 0.03
"""How wide what is poured may fall."""
_OVER_RIM_M = 0.06
"""Of the lip: hand and wrist, tilted beside it, stay clear of the rim."""
_NEAREST_M, _FARTHEST_M = 0.38, 0.66
"""From the base's axis to the vessel: nearer or farther the wrist has no room to turn."""
_HIGHEST_M = 0.3
_WRIST_M = 0.35
"""The tilted hand and wrist reach as far to one side of the lip, …"""
_WRIST_HALF_M = 0.1
_WRIST_OVER_M = 0.07
"""… and what stands there may come as near to the lip's height as this."""
_BLOCKING_PIXELS = 12
_INSIDE = 0.75
"""Share of a vessel's radius in which its inside is looked at."""
_MIN_INSIDE = 40
_MIN_NEW = 25
_MIN_NEW_SHARE = 0.01


def pour(step: Step, doings: Doings, scene: Scene) -> Target | Refusal:
    """Refuses as `placement_at` does for a container; with OUT_OF_ORDER (nothing is held, or no
    open vessel), OUT_OF_REACH (too near, too far, too high) and APPROACH_BLOCKED."""
    if doings.held is None:
        return Refusal(RefusalCode.OUT_OF_ORDER, "there is nothing in the hand to pour from")
    held = doings.held.grasp
    if held.kind is not SolidKind.RIM:
        text = f"what the hand holds is no open vessel but a {held.kind.value}: nothing to pour"
        return Refusal(RefusalCode.OUT_OF_ORDER, text)
    if step.area is None or step.area.frame is None:
        return Refusal(RefusalCode.INCOMPLETE_STEP, f"no place to pour is named: {step.text!r}")
    seen = scene.seen(step.area.frame)
    if isinstance(seen, Refusal):
        return seen
    where = placement_at(
        step.area.points_px, *seen, (_STREAM_M, _STREAM_M, _STREAM_M),
        scene.arm.grasp, scene.lift, container=True, exclude=scene.body,
    )  # fmt: skip
    if isinstance(where, Refusal):
        return where
    shown = Shown(seen[0], scene.opened.color(step.area.frame), seen[1])
    side = _side(where, shown, scene)
    if isinstance(side, Refusal):
        return side
    poured = _before(where, shown)
    if isinstance(poured, Refusal):
        return poured
    motion = motions.pour(_spout(doings.held, where, side), held, where, scene.arm.motion)
    return Target(motion, poured=poured)


@dataclass(frozen=True)
class _Side:
    """Where the tool's z axis is tilted to, and whether its x axis points away from there: a
    Panda's wrist turns that way."""

    heading_rad: float
    against: bool


def _lip_z_m(where: Placement) -> float:
    return where.position_m[2] + where.release_above_m + _OVER_RIM_M


def _side(where: Placement, shown: Shown, scene: Scene) -> _Side | Refusal:
    """To which side the hand is tilted: to the left, if there is room for hand and wrist on the
    right of the lip, else to the right."""
    x, y, _ = where.position_m
    away_m, lip_z_m = math.hypot(x, y), _lip_z_m(where)
    if not (_NEAREST_M <= away_m <= _FARTHEST_M and lip_z_m <= _HIGHEST_M):
        return Refusal(
            RefusalCode.OUT_OF_REACH,
            f"the vessel is {away_m:.3f} m from the base's axis and the lip would be at z = "
            f"{lip_z_m:.3f} m: the wrist can be tilted from {_NEAREST_M} to {_FARTHEST_M} m, up to "
            f"z = {_HIGHEST_M} m",
        )
    points = shown.places(np.ones(shown.view.depth_m.shape, bool))
    for capsule in scene.body:
        points = points[~capsule.holds(points)]
    bearing = math.atan2(y, x)
    for side in (_Side(bearing + math.pi / 2, False), _Side(bearing - math.pi / 2, True)):
        if _in_the_way(points, where, side.heading_rad) < _BLOCKING_PIXELS:
            return side
    text = f"on both sides something stands higher than {lip_z_m - _WRIST_OVER_M:.3f} m"
    return Refusal(RefusalCode.APPROACH_BLOCKED, f"{text}, where the tilted hand would be")


def _in_the_way(points: NDArray[np.float64], where: Placement, heading: float) -> int:
    x, y = math.cos(heading), math.sin(heading)
    away = points[:, :2] - where.position_m[:2]
    back, aside = -away @ (x, y), np.abs(away @ (-y, x))
    there = (back > where.radius_m + 0.02) & (back < _WRIST_M) & (aside < _WRIST_HALF_M)
    lip_z_m = _lip_z_m(where)
    there &= (points[:, 2] > lip_z_m - _WRIST_OVER_M) & (points[:, 2] < lip_z_m + 2 * _WRIST_M)
    return int(there.sum())


def _spout(held: Taken, where: Placement, side: _Side) -> motions.Spout:
    grasp = held.grasp
    along_y_m = float(to_matrix(grasp.T_base_tcp)[:2, 1] @ grasp.middle_offset_m)
    x, y, _ = where.position_m
    return motions.Spout(
        lip_m=(x, y, _lip_z_m(where)),
        heading_rad=side.heading_rad,
        against=side.against,
        radius_m=grasp.size_m[1] / 2,
        aside_m=along_y_m if side.against else -along_y_m,
        above_m=grasp.depth_m,
    )


# --- what is seen of it ---------------------------------------------------------------------------


def _inside_of(where: Placement, shown: Shown) -> NDArray[np.int64]:
    """The pixels that show what lies within a vessel, [N, 2] (u, v)."""
    x, y, z = where.position_m
    radius_m, top_z_m = _INSIDE * where.radius_m, z + where.release_above_m
    near = Capsule((x, y, z), (x, y, top_z_m), radius_m)
    rows, columns = np.nonzero(shown.view.depth_m > 0)
    points = shown.places(np.ones(shown.view.depth_m.shape, bool))
    inside = near.holds(points)
    return np.column_stack([columns[inside], rows[inside]])


def _before(where: Placement, shown: Shown) -> Poured | Refusal:
    pixels = _inside_of(where, shown)
    if len(pixels) < _MIN_INSIDE:
        text = "too little is seen of the vessel's inside to know later whether something is in it"
        return Refusal(RefusalCode.TOO_FEW_VALID, text)
    inside = Appearance.of(shown.rgb, pixels)
    return Poured(where, inside, _strange(inside, pixels, shown))


def _strange(inside: Appearance, pixels: NDArray[np.int64], shown: Shown) -> int:
    return int((~inside.found_in(shown.rgb)[pixels[:, 1], pixels[:, 0]]).sum())


def pour_check(poured: Poured, shown: Shown) -> Check:
    """Something is seen in the vessel whose colours were not there before."""
    pixels = _inside_of(poured.into, shown)
    new = _strange(poured.inside, pixels, shown) - poured.strange
    need = max(_MIN_NEW, round(_MIN_NEW_SHARE * len(pixels)))
    x, y, _ = poured.into.position_m
    found = f"{max(0, new)} of {len(pixels)} pixels within its rim are new"
    if new < need:
        found = f"all that is known is that it was tilted over it: {found}"
    return Check(f"poured at ({x:.2f}, {y:.2f}) m", new >= need, found, f"at least {need}")
