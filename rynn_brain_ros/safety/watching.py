"""The checks that look at the newest image: the scene at the targets, and the way of a drive."""

from __future__ import annotations

import math

import numpy as np

from rynn_brain_ros.geometry import apply, compose, from_matrix, invert
from rynn_brain_ros.safety.corridor import Strip, free_ahead_m
from rynn_brain_ros.safety.limits import SafetyLimits
from rynn_brain_ros.safety.obstacles import SEEN_SHARE
from rynn_brain_ros.safety.proposal import Finding, Judgement, passed, refused
from rynn_brain_ros.safety.scene import scene_unchanged
from rynn_brain_ros.safety.seeing import SeenFrame
from rynn_brain_ros.values import (
    DriveGoal,
    FollowGoal,
    Motion,
    NavigateGoal,
    RefusalCode,
    RigidTransform,
    Skill,
    SpinGoal,
    Vector3,
)

_MAX_LOOKS = 250
"""Along one push: a look at every centimetre of the longest that an arm reaches."""


def scene(j: Judgement) -> Finding:
    """Each target that is gone to still looks as it did in the frame it was found in; and so do the
    spot itself that a thing is put on, and the way that one is pushed."""
    newest, worst = j.situation.newest, "nothing is pointed at"
    allowed = f"the same within {j.limits.scene_radius_m:g} m around each target"
    for target in j.acted_on:
        point = None if target.target is None else target.target.point_fixed_m
        if newest is None or target.frame is None or point is None:
            found = "a target or the image of now cannot be compared"
            return refused("scene", RefusalCode.SCENE_CHANGED, found, allowed, "look again")
        look = scene_unchanged(target.frame, newest, point, j.limits, j.seen)
        refusal = look.refusal()
        found = f"around the {target.grounding.kind}: {look.text}"
        if refusal is not None:
            return refused("scene", refusal.code, found, allowed, "look and ask again")
        worst = found
    if newest is None or not j.acted_on:
        return passed("scene", worst, allowed)
    then = j.acted_on[-1].frame
    for what, place_m in touched(j.motion, j.limits.scene_radius_m):
        if then is None:
            break  # what is pointed at without a frame was refused above
        look = scene_unchanged(then, newest, j.in_fixed(place_m), j.limits, j.seen)
        refusal = look.refusal()
        if refusal is not None:
            found = f"{what}: {look.text}"
            return refused("scene", refusal.code, found, allowed, "look and ask again")
    return passed("scene", worst, allowed)


def touched(motion: Motion, step_m: float) -> list[tuple[str, Vector3]]:
    """Places in the motion's base frame that were chosen beside what was pointed at: where a thing
    is put down, and the way of a push, every ``step_m``.

    A path without poses or of numbers that are none has no way; `goals` and `finite` refuse it.
    """
    if motion.skill is Skill.PLACE:
        return [("around the spot it is put on", motion.target_m)]
    if motion.skill is not Skill.PUSH:
        return []
    paths = [stage.goal.path for stage in motion.stages if isinstance(stage.goal, FollowGoal)]
    places: list[tuple[str, Vector3]] = []
    for path in paths:
        if not path:
            continue
        (x0, y0, _), (x1, y1, _) = path[0].translation_m, path[-1].translation_m
        way_m = math.dist((x0, y0), (x1, y1))
        if not math.isfinite(way_m):
            continue
        n_steps = max(1, math.ceil(min(way_m / step_m, _MAX_LOOKS)))
        for share in np.linspace(0, 1, n_steps + 1).tolist():
            x, y = x0 + share * (x1 - x0), y0 + share * (y1 - y0)
            places.append(("on the way of the push", (x, y, motion.support_z_m)))
    return places


def drive(j: Judgement) -> Finding:
    """No straight drive and no turn is longer than allowed."""
    far_m, far_rad = j.limits.max_drive_m, j.limits.max_spin_rad
    allowed = f"drives up to {far_m:g} m, turns up to {far_rad:g} rad"
    for stage in j.stages:
        goal = stage.goal
        if isinstance(goal, DriveGoal) and not abs(goal.distance_m) <= far_m:
            found = f"a drive of {goal.distance_m:g} m"
            return refused("drive", RefusalCode.OUT_OF_REACH, found, allowed)
        if isinstance(goal, SpinGoal) and not abs(goal.angle_rad) <= far_rad:
            found = f"a turn of {goal.angle_rad:g} rad"
            return refused("drive", RefusalCode.OUT_OF_REACH, found, allowed)
    return passed("drive", "within limits" if j.drives else "nothing drives", allowed)


def corridor(j: Judgement) -> Finding:
    """Every straight drive is seen to be free, with room for the base itself and its clearance;
    and so is every place to navigate to. The way there is the navigation's own business.

    Turns before a drive are counted in: the way is looked for where the robot will then head. Where
    it turns, nothing may be known to stand within the circle that it sweeps; where it has driven to
    before, that drive looked after it.
    """
    navigations = [s.goal for s in j.stages if isinstance(s.goal, NavigateGoal)]
    if navigations and len(j.stages) > 1:
        return _blocked("the way after a navigation cannot be seen yet")
    if navigations:
        return _place_to_stand(j, navigations[0])
    in_the_way_m = _beside_turn_m(j)
    if not in_the_way_m >= j.limits.robot_width_m / 2:
        return _blocked(f"something was seen {in_the_way_m:.2f} m from the base's middle: no turn")
    if not any(isinstance(stage.goal, DriveGoal) for stage in j.stages):
        return passed("corridor", "no straight drive")
    newest = j.situation.newest
    if newest is None:
        return _blocked("there is no image of now")
    seen = j.seen.of(newest)
    if not isinstance(seen, SeenFrame):
        return _blocked(f"the way cannot be seen: {seen}")
    if j.situation.T_base_fixed is None:
        return _blocked("where the driving base is at this image is unknown")
    return _along_the_way(j, seen, compose(j.situation.T_base_fixed, seen.T_fixed_camera))


def _along_the_way(j: Judgement, seen: SeenFrame, T_base_camera: RigidTransform) -> Finding:
    x = y = heading_rad = 0.0
    needs_m = room_m(j.limits)
    found = ""
    for stage in j.stages:
        goal = stage.goal
        if isinstance(goal, SpinGoal):
            heading_rad += goal.angle_rad
        if not isinstance(goal, DriveGoal):
            continue
        if not goal.distance_m >= 0:
            return _blocked(
                f"nothing is seen behind the robot, and it would drive {goal.distance_m:g} m"
            )
        T_at_base = invert(_planar(T_base_camera.parent, x, y, heading_rad))
        strip, need_m = strip_of(j.limits), goal.distance_m + needs_m
        free_m = free_ahead_m(seen.view, compose(T_at_base, T_base_camera), strip)
        found = f"{free_m:.2f} m ahead are seen free, the drive needs {need_m:.2f} m"
        if not free_m >= need_m:
            return _blocked(found)
        known_m = _remembered_m(j, T_at_base, strip.width_m)
        if not known_m >= need_m:
            return _blocked(f"something was seen {known_m:.2f} m ahead on the way here")
        x += goal.distance_m * math.cos(heading_rad)
        y += goal.distance_m * math.sin(heading_rad)
    return passed("corridor", found)


def _place_to_stand(j: Judgement, goal: NavigateGoal) -> Finding:
    ground, T_map_fixed = j.situation.ground, j.situation.T_base_fixed
    if ground is None or T_map_fixed is None:
        return _blocked("nothing is known of the ground where the robot would stand")
    x, y, _ = map(float, apply(invert(T_map_fixed), goal.T_map_base.translation_m)[0])
    need_m = room_m(j.limits)
    free_m, share = ground.clearance_m((x, y)), ground.seen_share((x, y), need_m)
    found = (
        f"something stands or the ground ends {free_m:.2f} m from the place and {share:.0%} of it "
        f"was seen to be ground, the robot needs {need_m:.2f} m and {SEEN_SHARE:.0%}"
    )
    free = free_m >= need_m and share >= SEEN_SHARE
    return passed("corridor", found) if free else _blocked(found)


def room_m(limits: SafetyLimits) -> float:
    """From the base's middle to what it may come near to."""
    return limits.robot_width_m / 2 + limits.clearance_m


def _remembered_m(j: Judgement, T_at_base: RigidTransform, width_m: float) -> float:
    ground, T_base_fixed = j.situation.ground, j.situation.T_base_fixed
    if ground is None or T_base_fixed is None:
        return math.inf
    return ground.ahead_m(compose(T_at_base, T_base_fixed), width_m)


def _beside_turn_m(j: Judgement) -> float:
    """How near to the middle of a base that is to turn something is known to stand."""
    ground, T_base_fixed = j.situation.ground, j.situation.T_base_fixed
    turns = any(isinstance(stage.goal, SpinGoal) for stage in j.stages)
    if not turns or ground is None or T_base_fixed is None:
        return math.inf
    return ground.around_m(T_base_fixed)


def _blocked(found: str) -> Finding:
    return refused("corridor", RefusalCode.OBSTACLE, found, "a way that is seen to be free")


def _planar(base: str, x: float, y: float, heading_rad: float) -> RigidTransform:
    """``T_base_at``: where the base will be, on the ground."""
    c, s = math.cos(heading_rad), math.sin(heading_rad)
    matrix = np.array([[c, -s, 0, x], [s, c, 0, y], [0, 0, 1, 0], [0, 0, 0, 1]], np.float64)
    return from_matrix(matrix, base, "ahead")


def strip_of(limits: SafetyLimits) -> Strip:
    """What the limits' robot sweeps, with its clearance on both sides."""
    return Strip(
        width_m=limits.robot_width_m + 2 * limits.clearance_m,
        height_m=limits.robot_height_m,
        ground_z_m=limits.ground_z_m,
        tolerance_m=limits.ground_tolerance_m,
        blind_m=limits.max_blind_m,
    )
