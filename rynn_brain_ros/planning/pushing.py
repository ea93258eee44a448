"""A push: what it acts on, whether its way is free, and where the thing should be after it.

A push goes straight, along the table, with closed fingers: things slide before them and are not
held. So its way must be seen to be free for hand and thing, and to go on as table to its end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.geometry import (
    Capsule,
    DepthView,
    GraspLimits,
    Solid,
    SolidKind,
    StandingThing,
    apply,
    fit_solid,
    invert,
    ray_grid,
    thing_at,
)
from rynn_brain_ros.planning import motions
from rynn_brain_ros.planning.appearance import Appearance
from rynn_brain_ros.planning.arm import Scene, Target, bounds_of
from rynn_brain_ros.planning.remeasuring import Shift, remember
from rynn_brain_ros.values import (
    LiftedPoint,
    Refusal,
    RefusalCode,
    RigidTransform,
    SelectedFrame,
    Step,
    Vector3,
)

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_MIN_PUSH_M = 0.03
"""Less could not be told from standing still."""
_MAX_BEND_M = 0.04
"""How far a drawn path may leave the straight line between its ends."""
_LOW_M = 0.02
"""Of the closed fingertips' middle over the support: low, so that things slide and do not tip."""
_UNDER_PALM_M = 0.005
_UNDER_RIM_M = 0.01
_TIPS_OVER = 0.4
"""A thing that is pushed higher than this share of its width may fall over (friction up to 1.2)."""
_ROLLING = (SolidKind.BALL, SolidKind.ROLL)
_BESIDE_M = 0.01
"""Free on both sides of what moves."""
_OBSTACLE_M = 0.012
_COMES_FROM_M = 0.2
"""What is higher over the palm is the robot itself, or nothing that stands on the table."""
_BLOCKING_PIXELS = 12
_LEVEL_M = 0.015
_CELL_M = 0.005
_WINDOW_CELLS = 6
_SEEN_SHARE = 0.5
"""Of every square of so many cells on the way: depth ends before the edges of things."""
_HOLE_PX = 4
"""Depth has holes this wide along edges, and here and there: nothing stands in them."""


@dataclass(frozen=True)
class _Pushed:
    """A thing on its way: its solid, what it stands on, and the line of its middle [2] each."""

    solid: Solid
    support_z_m: float
    start: Floats
    end: Floats

    @property
    def length_m(self) -> float:
        return float(np.linalg.norm(self.end - self.start))

    @property
    def along(self) -> Floats:
        return np.asarray((self.end - self.start) / self.length_m)

    @property
    def half_m(self) -> float:
        """From its middle to its side, once that lies flat on the fingers."""
        if self.solid.is_round:
            return self.solid.width_m / 2
        cosine, _ = self._turn
        return (self.solid.length_m if cosine > math.sqrt(0.5) else self.solid.width_m) / 2

    @property
    def reach_m(self) -> float:
        """From its middle to its farthest point along the line."""
        cosine, sine = self._turn
        return self._extent_m(cosine, sine)

    @property
    def across_m(self) -> float:
        """From the line to its farthest point beside it."""
        cosine, sine = self._turn
        return self._extent_m(sine, cosine)

    def _extent_m(self, long: float, short: float) -> float:
        """Half of what its sides take up of a direction that they have these shares of."""
        if self.solid.is_round:
            return self.solid.width_m / 2
        return (long * self.solid.length_m + short * self.solid.width_m) / 2

    @property
    def _turn(self) -> tuple[float, float]:
        """Of its long side against the line."""
        angle = self.solid.yaw_rad - math.atan2(self.along[1], self.along[0])
        return abs(math.cos(angle)), abs(math.sin(angle))


def push(step: Step, scene: Scene) -> Target | Refusal:
    """Refuses as `thing_at` does; with INCOMPLETE_STEP (no end, no way to go, a bent path),
    UNSUPPORTED_SKILL (too tall for the hand), APPROACH_BLOCKED, OBSTACLE (something stands on the
    way, or it is not seen to be free) and NO_FREE_SPACE (no table where it would end)."""
    where = step.grasp or step.thing or step.path
    if where is None or where.frame is None or where.target is None:
        return Refusal(RefusalCode.INCOMPLETE_STEP, f"nothing to push is named: {step.text!r}")
    seen = scene.seen(where.frame)
    if isinstance(seen, Refusal):
        return seen
    view, camera = seen
    thing = thing_at(
        where.target.pixel, bounds_of(step.thing, where.frame), view, camera, scene.lift,
        max_tilt_rad=scene.arm.grasp.max_tilt_rad, exclude=scene.body,
    )  # fmt: skip
    if isinstance(thing, Refusal):
        return thing
    pushed = _on_its_way(step, thing, scene)
    if isinstance(pushed, Refusal):
        return pushed
    tool_z_m = _tool_height(pushed, scene.arm.grasp)
    if isinstance(tool_z_m, Refusal):
        return tool_z_m
    refusal = _Way(pushed, tool_z_m, scene.arm.grasp).refusal(view, camera, scene.body)
    return refusal or _target(pushed, tool_z_m, thing, where.frame, scene)


def _on_its_way(step: Step, thing: StandingThing, scene: Scene) -> _Pushed | Refusal:
    solid = fit_solid(thing.patch, thing.mask)
    if solid is None:
        return Refusal(RefusalCode.NO_GRASP, f"too little is seen of what to push: {step.text!r}")
    if solid.kind in _ROLLING:
        text = f"it is a {solid.kind.value} and would roll on: pick it and place it"
        return Refusal(RefusalCode.UNSUPPORTED_SKILL, text)
    last = _end_of(step)
    if isinstance(last, Refusal):
        return last
    end = np.array(scene.in_base(last)[:2])
    pushed = _Pushed(solid, thing.support_z_m, np.array(solid.center_m), end)
    return _no_push(pushed, step, scene) or pushed


def _no_push(pushed: _Pushed, step: Step, scene: Scene) -> Refusal | None:
    """Where it is no way at all, or not a straight one."""
    if not math.isfinite(pushed.length_m):
        return Refusal(RefusalCode.NO_TRANSFORM, "where the push ends is unknown in the base frame")
    if pushed.length_m < _MIN_PUSH_M:
        text = f"it is already there, {pushed.length_m:.3f} m away (a push has {_MIN_PUSH_M} m)"
        return Refusal(RefusalCode.INCOMPLETE_STEP, f"{text}: {step.text!r}")
    path = [] if step.path is None else scene.on_level(step.path, pushed.support_z_m)
    if isinstance(path, Refusal):
        return path
    inner = (np.array(point[:2]) for point in path[1:-1])
    bend_m = max((_aside_m(point, pushed.start, pushed.end) for point in inner), default=0.0)
    if bend_m <= _MAX_BEND_M:
        return None
    return Refusal(
        RefusalCode.INCOMPLETE_STEP,
        f"the path leaves the straight line by {bend_m:.3f} m and a push goes straight (up to "
        f"{_MAX_BEND_M} m): push in several straight pieces",
    )


def _end_of(step: Step) -> LiftedPoint | Refusal:
    if step.path is not None and step.path.points:
        return step.path.points[-1]
    if step.area is not None and step.area.target is not None:
        return step.area.target
    return Refusal(RefusalCode.INCOMPLETE_STEP, f"no end of the push is named: {step.text!r}")


def _aside_m(point: Floats, start: Floats, end: Floats) -> float:
    along = end - start
    share = float(np.clip((point - start) @ along / (along @ along), 0.0, 1.0))
    return float(np.linalg.norm(start + share * along - point))


def _tool_height(pushed: _Pushed, hand: GraspLimits) -> float | Refusal:
    """Low, but with the palm over the thing; refused where it would be pushed over. A wide rim is
    pushed itself: below it the wall may lean away."""
    support_z_m, top_z_m = pushed.support_z_m, pushed.solid.top_z_m
    safe_m = max(_TIPS_OVER * 2 * pushed.half_m, _LOW_M - hand.tip_below_tcp_m)
    highest_z_m = support_z_m + safe_m + hand.tip_below_tcp_m
    tool_z_m = max(support_z_m + _LOW_M, top_z_m - hand.palm_above_tcp_m + _UNDER_PALM_M)
    if pushed.solid.kind is SolidKind.RIM and top_z_m - _UNDER_RIM_M <= highest_z_m:
        tool_z_m = max(tool_z_m, top_z_m - _UNDER_RIM_M)
    touches_m = tool_z_m - hand.tip_below_tcp_m - support_z_m
    if tool_z_m <= highest_z_m:
        return tool_z_m
    return Refusal(
        RefusalCode.UNSUPPORTED_SKILL,
        f"it is {top_z_m - support_z_m:.3f} m high and {2 * pushed.half_m:.3f} m deep: with the "
        f"hand over it the fingers would touch it {touches_m:.3f} m high and push it over",
    )


# --- is the way free? -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Way:
    """Everything that a push sweeps: the hand from behind the thing, and the thing to its end."""

    pushed: _Pushed
    tool_z_m: float
    hand: GraspLimits

    def refusal(
        self, view: DepthView, T_base_camera: RigidTransform, body: tuple[Capsule, ...]
    ) -> Refusal | None:
        points = _points(view, T_base_camera, body)
        local = self._along_and_aside(points)
        own = self._is_own(points)
        high = points[:, 2] - self.pushed.support_z_m > _OBSTACLE_M
        high &= points[:, 2] < self.tool_z_m + self.hand.palm_above_tcp_m + _COMES_FROM_M
        for code, what, mask in (
            (RefusalCode.APPROACH_BLOCKED, "where the fingers come down", self._behind(local)),
            (RefusalCode.OBSTACLE, "on the way of the thing", self._ahead(local)),
            (RefusalCode.OBSTACLE, "beside it, in the way of the hand", self._palm(local, points)),
        ):
            if (blocking := mask & high & ~own).sum() >= _BLOCKING_PIXELS:
                x, y, z = np.median(points[blocking], axis=0)
                text = f"something at ({x:.2f}, {y:.2f}, {z:.2f}) m stands {what}"
                return Refusal(code, text)
        return self._no_table(points) or self._not_seen(view, T_base_camera)

    @property
    def behind_m(self) -> float:
        """Of the tool from the thing's middle, before it moves."""
        return self.pushed.reach_m + self.hand.finger_width_m / 2 + motions.BEHIND_M

    @property
    def _own_radius_m(self) -> float:
        return math.hypot(self.pushed.solid.length_m, self.pushed.solid.width_m) / 2 + _BESIDE_M

    def _along_and_aside(self, points: Floats) -> Floats:
        """[N, 2]: from where the thing is along the push, and beside it either way."""
        x, y = self.pushed.along
        away = points[:, :2] - self.pushed.start
        return np.column_stack([away @ (x, y), np.abs(away @ (-y, x))])

    def _behind(self, local: Floats) -> Mask:
        half_m = self.hand.finger_width_m / 2 + _BESIDE_M
        near = np.abs(local[:, 0] + self.behind_m) <= half_m
        return np.asarray(near & (local[:, 1] <= self.hand.finger_thickness_m + _BESIDE_M))

    def _ahead(self, local: Floats) -> Mask:
        far = self.pushed.length_m + self.pushed.reach_m + _BESIDE_M
        on_it = (local[:, 0] >= 0) & (local[:, 0] <= far)
        return np.asarray(on_it & (local[:, 1] <= self.pushed.across_m + _BESIDE_M))

    def _palm(self, local: Floats, points: Floats) -> Mask:
        half_m = self.hand.hand_width_m / 2
        last = self.pushed.length_m - self.pushed.half_m
        on_it = (local[:, 0] >= -self.behind_m - half_m) & (local[:, 0] <= last + half_m)
        on_it &= points[:, 2] > self.tool_z_m + self.hand.palm_above_tcp_m - _UNDER_PALM_M
        return np.asarray(on_it & (local[:, 1] <= self.hand.hand_length_m / 2))

    def _no_table(self, points: Floats) -> Refusal | None:
        level = np.abs(points[:, 2] - self.pushed.support_z_m) <= _LEVEL_M
        near = np.linalg.norm(points[:, :2] - self.pushed.end, axis=1) <= self.pushed.half_m
        if (level & near).sum() >= _BLOCKING_PIXELS:
            return None
        x, y = self.pushed.end
        text = f"where the push ends, at ({x:.2f}, {y:.2f}) m, no table is seen that it stands on"
        return Refusal(RefusalCode.NO_FREE_SPACE, text)

    def _not_seen(self, view: DepthView, T_base_camera: RigidTransform) -> Refusal | None:
        """Where the table has no depth, or is hidden by something but the thing itself: what has no
        depth of its own (glass, black and shiny) may stand there. The fingers may come down where
        the picture ends: things are pushed from its border to its middle."""
        half_m = self.hand.finger_width_m / 2 + _BESIDE_M
        fingers = -self.behind_m - half_m, -self.behind_m + half_m
        thing = 0.0, self.pushed.length_m + self.pushed.reach_m + _BESIDE_M
        for (first_m, last_m), aside_m, in_picture in (
            (fingers, self.hand.finger_thickness_m + _BESIDE_M, False),
            (thing, self.pushed.across_m + _BESIDE_M, True),
        ):
            places = self._places(first_m, last_m, aside_m)
            seen = self._is_seen(places.reshape(-1, 3), view, T_base_camera, in_picture)
            window = (_WINDOW_CELLS, _WINDOW_CELLS)
            share = cv2.blur(seen.reshape(places.shape[:2]).astype(np.float32), window)
            if share.min() < _SEEN_SHARE:
                x, y, _ = places[np.unravel_index(share.argmin(), share.shape)]
                text = f"the way is not seen to be free at ({x:.2f}, {y:.2f}) m: no table has depth"
                return Refusal(RefusalCode.OBSTACLE, f"{text} there")
        return None

    def _places(self, first_m: float, last_m: float, aside_m: float) -> Floats:
        """A grid [N, M, 3] on the support, along the push and ``aside_m`` to both of its sides."""
        ahead = np.arange(first_m, last_m + _CELL_M, _CELL_M)[:, None, None]
        aside = np.arange(-aside_m, aside_m + _CELL_M, _CELL_M)[None, :, None]
        x, y = self.pushed.along
        flat = self.pushed.start + ahead * (x, y) + aside * (-y, x)
        height = np.full((*flat.shape[:2], 1), self.pushed.support_z_m)
        return np.concatenate([flat, height], axis=2)

    def _is_seen(
        self, places: Floats, view: DepthView, T_base_camera: RigidTransform, in_picture: bool
    ) -> Mask:
        """Of places [N, 3] on the support: whether depth shows the table there or, in front of it
        or around it, the thing itself. Those that are not in the picture count as seen unless they
        must be."""
        uv = view.camera.project(apply(invert(T_base_camera), places))
        inside = ((uv > -0.5) & (uv < np.array(view.depth_m.shape[::-1]) - 0.5)).all(axis=1)
        u, v = np.rint(uv[inside]).astype(np.int64).T
        seen = self._is_own(places) | (~inside & (not in_picture))
        seen[inside] |= self._shown(view, T_base_camera)[v, u]
        return seen

    def _shown(self, view: DepthView, T_base_camera: RigidTransform) -> Mask:
        """The pixels [H, W] of the table and of the thing itself, without holes that are small."""
        known = view.depth_m > 0
        points = apply(T_base_camera, ray_grid(view.camera)[known] * view.depth_m[known, None])
        level = np.abs(points[:, 2] - self.pushed.support_z_m) <= _LEVEL_M
        shown = np.zeros(known.shape, np.uint8)
        shown[known] = level | self._is_own(points)
        kernel = np.ones((_HOLE_PX + 1, _HOLE_PX + 1), np.uint8)
        return np.asarray(cv2.morphologyEx(shown, cv2.MORPH_CLOSE, kernel) > 0)

    def _is_own(self, points: Floats) -> Mask:
        away_m = np.linalg.norm(points[:, :2] - self.pushed.start, axis=1)
        return np.asarray(away_m <= self._own_radius_m)


def _points(view: DepthView, T_base_camera: RigidTransform, body: tuple[Capsule, ...]) -> Floats:
    """All that depth shows but the robot, [N, 3] in the base frame."""
    known = view.depth_m > 0
    points = apply(T_base_camera, ray_grid(view.camera)[known] * view.depth_m[known, None])
    for capsule in body:
        points = points[~capsule.holds(points)]
    return np.asarray(points, np.float64)


# --- the motion -----------------------------------------------------------------------------------


def _target(
    pushed: _Pushed, tool_z_m: float, thing: StandingThing, frame: SelectedFrame, scene: Scene
) -> Target | Refusal:
    arm, solid = scene.arm, pushed.solid
    touch_m = arm.grasp.finger_width_m / 2
    middle_z_m = (solid.top_z_m + pushed.support_z_m) / 2
    start, end = (_vector(xy, middle_z_m) for xy in (pushed.start, pushed.end))
    line = motions.PushLine(
        start, end, pushed.reach_m + touch_m, pushed.half_m + touch_m, tool_z_m, pushed.support_z_m
    )
    size_m = (solid.length_m, solid.width_m, solid.top_z_m - pushed.support_z_m)
    shift = Shift(start, end, size_m, pushed.support_z_m)
    looks = Appearance.of(scene.opened.color(frame), thing.pixels)
    shifted = remember(shift, looks, frame, scene)
    if isinstance(shifted, Refusal):
        return shifted
    return Target(motions.push(line, arm.frames, arm.motion), shifted=shifted)


def _vector(xy: Floats, z: float) -> Vector3:
    return (float(xy[0]), float(xy[1]), z)
