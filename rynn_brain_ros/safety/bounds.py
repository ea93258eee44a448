"""The checks of what a motion asks for: places, widths, forces and speeds.

Every comparison is written so that NaN fails it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np

from rynn_brain_ros.safety.proposal import (
    Finding,
    Floats,
    Judgement,
    called,
    passed,
    poses_of,
    refused,
)
from rynn_brain_ros.values import (
    DriveGoal,
    FollowGoal,
    Goal,
    GripGoal,
    NavigateGoal,
    PostureGoal,
    ReachGoal,
    RefusalCode,
    Skill,
    SpinGoal,
    Stage,
    Vector3,
)

_KNOWN_GOALS = (
    *(ReachGoal, FollowGoal, PostureGoal, GripGoal),
    *(DriveGoal, SpinGoal, NavigateGoal),
)


def goals(j: Judgement) -> Finding:
    """There is something to do, and nothing that the gate does not know how to check."""
    allowed = "goals of a known kind"
    if not j.stages:
        return refused("goals", RefusalCode.INCOMPLETE_STEP, "the motion has no stages", allowed)
    for stage in j.stages:
        goal = stage.goal
        if type(goal) not in _KNOWN_GOALS:
            found = f"stage {stage.stage.value} holds a {type(goal).__name__}"
            return refused("goals", RefusalCode.UNSUPPORTED_SKILL, found, allowed)
        if isinstance(goal, FollowGoal) and not goal.path:
            found = f"stage {stage.stage.value} follows a path without poses"
            return refused("goals", RefusalCode.INCOMPLETE_STEP, found, "one pose or more")
    return passed("goals", f"{len(j.stages)} stages", allowed)


# --- where it goes ------------------------------------------------------------------------------


def finite(j: Judgement) -> Finding:
    """No NaN and no infinity in any place or pose; quaternions of length 1."""
    for what, numbers in _places(j):
        if not np.isfinite(numbers).all():
            found = f"{what} is {_told(numbers)}"
            return refused("finite", RefusalCode.OUTSIDE_WORKSPACE, found, "numbers only")
    for stage, pose in j.poses:
        length = float(np.linalg.norm(pose.rotation_xyzw))
        if not abs(length - 1) < 1e-3:
            found = f"the quaternion of stage {stage.stage.value} has the length {length:g}"
            return refused("finite", RefusalCode.OUTSIDE_WORKSPACE, found, "length 1")
    return passed("finite", "all numbers are finite")


def _places(j: Judgement) -> Iterator[tuple[str, Floats]]:
    """Every place of the proposal that must be finite."""
    yield "the motion's target", np.array(j.motion.target_m)
    for stage, pose in j.poses:
        numbers = np.array((*pose.translation_m, *pose.rotation_xyzw))
        yield f"the pose of stage {stage.stage.value}", numbers
    for target in j.proposal.groundings:
        yield called(target), np.array((*target.grounding.points, *target.points_px)).ravel()
        points = target.points if target.target is None else (target.target, *target.points)
        for point in points:
            fixed = point.point_fixed_m or ()
            yield called(target), np.array((*point.pixel, *point.point_camera_m, *fixed))


def _told(numbers: Iterable[float]) -> str:
    return "(" + ", ".join(f"{number:.3f}" for number in numbers) + ")"


def workspace(j: Judgement) -> Finding:
    """The target and every pose lie in the box, and are told in its frame.

    Straight drives and turns alone name no place: they are measured from where the base is, and
    `drive` and `corridor` bound them.
    """
    low, high = j.limits.workspace_min_m, j.limits.workspace_max_m
    base = j.motion.base_frame
    allowed = f"{_told(low)} … {_told(high)} m in {base!r}"
    if all(isinstance(stage.goal, DriveGoal | SpinGoal) for stage in j.stages):
        return passed("workspace", "drives and turns name no place", allowed)
    for stage, pose in j.poses:
        if pose.parent != base:
            found = f"the pose of stage {stage.stage.value} is told in {pose.parent!r}"
            return refused("workspace", RefusalCode.OUTSIDE_WORKSPACE, found, allowed)
    for what, place in _goal_places(j):
        if not all(a <= v <= b for a, v, b in zip(low, place, high, strict=True)):
            found = f"{what} is at {_told(place)} m"
            return refused("workspace", RefusalCode.OUTSIDE_WORKSPACE, found, allowed)
    return passed("workspace", f"target at {_told(j.motion.target_m)} m", allowed)


def _goal_places(j: Judgement) -> Iterator[tuple[str, Vector3]]:
    yield "the target", j.motion.target_m
    for stage, pose in j.poses:
        yield f"stage {stage.stage.value}", pose.translation_m


def reach(j: Judgement) -> Finding:
    """Neither under the arm's own shoulder nor beyond its hand, on straight lines too."""
    low, high = j.limits.reach_min_m, j.limits.reach_max_m
    allowed = f"{low:.3f} … {high:.3f} m from the base's axis"
    if not j.reaches:
        return passed("reach", "no arm moves to a pose", allowed)
    for what, place in _goal_places(j):
        distance_m = math.hypot(place[0], place[1])
        if not low <= distance_m <= high:
            found = f"{what} is {distance_m:.3f} m away"
            return refused("reach", RefusalCode.OUT_OF_REACH, found, allowed)
    nearest_m = _nearest_of_straight(j)
    if not nearest_m >= low:
        found = f"a straight line passes at {nearest_m:.3f} m"
        return refused("reach", RefusalCode.OUT_OF_REACH, found, allowed)
    distance_m = math.hypot(*j.motion.target_m[:2])
    return passed("reach", f"target {distance_m:.3f} m away", allowed)


def _nearest_of_straight(j: Judgement) -> float:
    """How near the tool's straight lines come to the base's axis; infinity where there are none."""
    nearest_m, last = math.inf, None
    for stage in j.stages:
        goal = stage.goal
        straight = isinstance(goal, FollowGoal) or (isinstance(goal, ReachGoal) and goal.straight)
        for pose in poses_of(stage):
            here = np.array(pose.translation_m[:2])
            if straight and last is not None:
                nearest_m = min(nearest_m, segment_distance_m(np.zeros(2), last, here))
            last = here
        if isinstance(goal, PostureGoal):
            last = None
    return nearest_m


def segment_distance_m(point: Floats, start: Floats, end: Floats) -> float:
    """From ``point`` to the line from ``start`` to ``end``, in any number of dimensions."""
    along = end - start
    length2 = float(along @ along)
    share = 0.0 if length2 == 0 else float(np.clip((point - start) @ along / length2, 0.0, 1.0))
    return float(np.linalg.norm(start + share * along - point))


def support(j: Judgement) -> Finding:
    """The tool stays above the floor, and above the thing's own support but for the way out."""
    clearance_m, support_z_m = j.limits.support_clearance_m, j.motion.support_z_m
    floor_m = j.limits.floor_z_m + clearance_m
    lowest_m, allowed = math.inf, f"{floor_m:.3f} m and more"
    if not j.reaches:
        return passed("support", "no arm moves to a pose", allowed)
    for stage, pose in j.poses:
        above = not math.isnan(support_z_m) and stage.stage is not Stage.RETREAT
        low_m = max(floor_m, support_z_m + clearance_m) if above else floor_m
        z_m = pose.translation_m[2]
        if not z_m >= low_m:
            found = f"stage {stage.stage.value} brings the tool to z = {z_m:.3f} m"
            allowed = f"{low_m:.3f} m and more"
            return refused("support", RefusalCode.BELOW_SUPPORT, found, allowed)
        lowest_m = min(lowest_m, z_m)
    return passed("support", f"the tool's lowest z is {lowest_m:.3f} m", allowed)


def robot(j: Judgement) -> Finding:
    """Nothing that is gone to lies on the robot itself, whose place is known."""
    chain, radius_m = j.situation.robot, j.limits.robot_radius_m
    allowed = f"{radius_m:.3f} m and more from the robot"
    if not j.reaches:
        return passed("robot", "not checked: no arm moves to a pose", allowed)
    if len(chain) < 2:
        found = f"the robot's own place is unknown: {len(chain)} of its links are known"
        return refused("robot", RefusalCode.NO_TRANSFORM, found, "two links and more")
    places = [("the target", np.array(j.motion.target_m))]
    for target in j.acted_on:
        if target.target is not None and target.target.point_fixed_m is not None:
            places.append((called(target), j.in_base(target.target.point_fixed_m)))
    distances = [(_chain_distance_m(place, chain), what) for what, place in places]
    distance_m, what = min(distances)
    found = f"{what} is {distance_m:.3f} m from the robot's links"
    if not all(d >= radius_m for d, _ in distances):
        return refused("robot", RefusalCode.ON_ROBOT, found, allowed)
    return passed("robot", found, allowed)


def _chain_distance_m(place: Floats, chain: tuple[Vector3, ...]) -> float:
    links = np.array(chain)
    if not np.isfinite(links).all():
        return math.nan
    return min(segment_distance_m(place, start, end) for start, end in pairwise(links))


# --- what the actuator is asked for ---------------------------------------------------------------


def grip_width(j: Judgement) -> Finding:
    """The thing fits between the fingers, and they are asked for nothing impossible."""
    limit_m, width_m = j.limits.max_grip_width_m, j.motion.grip_width_m
    allowed = f"0 … {limit_m:.3f} m"
    grips = any(stage.stage is Stage.GRIP for stage in j.stages) or j.motion.skill is Skill.PICK
    if (grips or not math.isnan(width_m)) and not 0 < width_m <= limit_m:
        found = f"the thing is {width_m:.3f} m wide"
        return refused("grip_width", RefusalCode.TOO_WIDE, found, allowed)
    for stage, goal in _grips(j):
        if not 0 <= goal.width_m <= limit_m:
            found = f"stage {stage} opens the fingers to {goal.width_m:.3f} m"
            return refused("grip_width", RefusalCode.TOO_WIDE, found, allowed)
    return passed("grip_width", f"{width_m:.3f} m", allowed)


def force(j: Judgement) -> Finding:
    limit_n = j.limits.max_force_n
    allowed = f"above 0, up to {limit_n:g} N"
    for stage, goal in _grips(j):
        if not 0 < goal.force_n <= limit_n:
            found = f"stage {stage} presses with {goal.force_n:g} N"
            return refused("force", RefusalCode.TOO_STRONG, found, allowed)
    strongest_n = max((goal.force_n for _, goal in _grips(j)), default=0.0)
    return passed("force", f"{strongest_n:g} N at most", allowed)


def _grips(j: Judgement) -> Iterator[tuple[str, GripGoal]]:
    for stage in j.stages:
        if isinstance(stage.goal, GripGoal):
            yield stage.stage.value, stage.goal


def speed(j: Judgement) -> Finding:
    limit = j.limits.max_speed
    allowed = f"above 0, up to {limit:g}"
    for stage in j.stages:
        value = _speed(stage.goal)
        if value is not None and not 0 < value <= limit:
            found = f"stage {stage.stage.value} has the speed {value:g}"
            return refused("speed", RefusalCode.TOO_FAST, found, allowed)
    fastest = max((_speed(stage.goal) or 0.0 for stage in j.stages), default=0.0)
    return passed("speed", f"{fastest:g} at most", allowed)


def _speed(goal: Goal) -> float | None:
    return None if isinstance(goal, GripGoal) else getattr(goal, "speed", None)
