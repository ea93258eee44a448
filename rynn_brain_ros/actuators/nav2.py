"""Nav2: places, paths, drives and turns as its goals, and what its error codes mean.

Field names are those of Jazzy. NavigateToPose's goal is the same on every distribution; results
are read with getattr, and the action's status comes first.
"""

from __future__ import annotations

import math
from typing import Any

from rynn_brain_ros.actuators.calls import (
    Call,
    GoalFailed,
    Reply,
    finite,
    pose_in,
    scaling,
    succeeded,
)
from rynn_brain_ros.actuators.profile import BaseProfile
from rynn_brain_ros.messages import MessageDict, point
from rynn_brain_ros.values import (
    DriveGoal,
    FollowGoal,
    GoalEventKind,
    NavigateGoal,
    RigidTransform,
    SpinGoal,
)

NAVIGATE = "nav2_msgs/action/NavigateToPose"
THROUGH_POSES = "nav2_msgs/action/NavigateThroughPoses"
FOLLOW_PATH = "nav2_msgs/action/FollowPath"
SPIN = "nav2_msgs/action/Spin"
DRIVE = "nav2_msgs/action/DriveOnHeading"
BACK_UP = "nav2_msgs/action/BackUp"

_PATIENCE = 3.0
"""A drive or turn may take so many times as long as it would at its speed, and two seconds."""
_FOLLOW = (
    *("UNKNOWN", "INVALID_CONTROLLER", "TF_ERROR", "INVALID_PATH", "PATIENCE_EXCEEDED"),
    *("FAILED_TO_MAKE_PROGRESS", "NO_VALID_CONTROL", "CONTROLLER_TIMED_OUT", "TIMEOUT"),
)
_PLAN = (
    *("UNKNOWN", "INVALID_PLANNER", "TF_ERROR", "START_OUTSIDE_MAP", "GOAL_OUTSIDE_MAP"),
    *("START_OCCUPIED", "GOAL_OCCUPIED", "TIMEOUT", "NO_VALID_PATH"),
)
_SMOOTH = (
    *("UNKNOWN", "INVALID_SMOOTHER", "TIMEOUT", "SMOOTHED_PATH_IN_COLLISION"),
    *("FAILED_TO_SMOOTH_PATH", "INVALID_PATH"),
)
_NAVIGATE = ("UNKNOWN", "FAILED_TO_LOAD_BEHAVIOR_TREE", "TF_ERROR", "TIMEOUT")
_TURN = ("UNKNOWN", "TIMEOUT", "TF_ERROR", "COLLISION_AHEAD")
_BACK_UP = ("UNKNOWN", "TIMEOUT", "TF_ERROR", "INVALID_INPUT", "COLLISION_AHEAD")
_RANGES: tuple[tuple[int, tuple[str, ...]], ...] = (
    (100, _FOLLOW),
    (200, _PLAN),
    (300, (*_PLAN, "NO_VIAPOINTS_GIVEN")),
    (500, _SMOOTH),
    (700, _TURN),
    (710, _BACK_UP),
    (720, (*_TURN, "INVALID_INPUT")),
    (9000, _NAVIGATE),
    (9100, _NAVIGATE),
)
_CODES = {1: "GOAL_REJECTED", 2: "SEND_GOAL_FAILURE"} | {
    first + i: name for first, names in _RANGES for i, name in enumerate(names)
}
"""The same number means the same on every distribution that knows it."""
_TAKEN = (
    "aborted without a reason: another goal took its place, or Nav2 could not begin (is the robot "
    "localised? is there such a behavior tree?), which its own log tells"
)
_HUMBLE = (
    "aborted, and Nav2 on Humble never tells a reason: another goal may have taken its place, "
    "or it failed; Nav2's own log has it"
)


def navigate_call(goal: NavigateGoal, base: BaseProfile) -> Call:
    _checked_speed(goal.speed)
    request: MessageDict = {
        "pose": _stamped(goal.T_map_base, base),
        "behavior_tree": base.behavior_tree,
    }
    return Call(base.navigate_action, NAVIGATE, request, talks=True)


def follow_call(goal: FollowGoal, base: BaseProfile) -> Call:
    """A path on the floor, poses ``T_map_base``: kept to, or gone along with detours."""
    _checked_speed(goal.speed)
    poses = [_stamped(pose, base) for pose in goal.path]
    if base.follow == "through_poses":
        request: MessageDict = {"poses": poses, "behavior_tree": base.behavior_tree}
        return Call(base.through_poses_action, THROUGH_POSES, request, talks=True)
    path = {"header": {"frame_id": base.map_frame}, "poses": poses}
    request = {"path": path, "controller_id": base.controller_id}
    return Call(base.follow_action, FOLLOW_PATH, request, talks=True)


def drive_call(goal: DriveGoal, base: BaseProfile) -> Call:
    """Straight on, or back: Nav2 looks ahead for collisions in its local costmap."""
    distance_m = finite("the distance", goal.distance_m)
    speed_m_s = base.speed_m_s * scaling(goal.speed, 1.0)
    # BackUp takes lengths and makes them backward by itself.
    request = {
        "target": point((abs(distance_m), 0.0, 0.0)),
        "speed": speed_m_s,
        "time_allowance": _allowance(abs(distance_m) / speed_m_s),
    }
    if distance_m < 0:
        return Call(base.back_up_action, BACK_UP, request)
    return Call(base.drive_action, DRIVE, request)


def spin_call(goal: SpinGoal, base: BaseProfile) -> Call:
    """Counter-clockwise positive. Nav2's Spin looks no farther ahead than it has turned already, so
    at first nowhere: what stands beside the base is for the gate to know."""
    angle_rad = finite("the angle", goal.angle_rad)
    turning_s = abs(angle_rad) / (base.turn_rad_s * scaling(goal.speed, 1.0))
    request = {"target_yaw": angle_rad, "time_allowance": _allowance(turning_s)}
    return Call(base.spin_action, SPIN, request)


def arrived(reply: Reply, server: str) -> None:
    """Raises `GoalFailed` unless the goal succeeded, with Nav2's own reason.

    Nav2 ends a goal whose place another one takes as ABORTED, with an empty result. Nothing may
    then be asked again: it would take the base back from whoever took it.
    """
    reason = error_of(reply.message)
    if reply.kind is GoalEventKind.ABORTED and not reason:
        told = _TAKEN if hasattr(reply.message, "error_code") else _HUMBLE
        raise GoalFailed(GoalEventKind.PREEMPTED, f"{server} {told}")
    succeeded(reply, server, reason)


def error_of(result: Any) -> str:
    """What a result says went wrong; empty for nothing, and on Humble, which tells nothing."""
    code, text = int(getattr(result, "error_code", 0)), str(getattr(result, "error_msg", ""))
    name = _CODES.get(code, f"error {code}") if code else ""
    return ": ".join(filter(None, (name, text)))


def _stamped(pose: RigidTransform, base: BaseProfile) -> MessageDict:
    """geometry_msgs/PoseStamped at stamp 0, which is: as the map lies now."""
    return {"header": {"frame_id": base.map_frame}, "pose": pose_in(base.map_frame, pose)}


def _checked_speed(speed: float) -> None:
    scaling(speed, 1.0)


def _allowance(least_s: float) -> MessageDict:
    whole_s = math.ceil(2.0 + _PATIENCE * least_s)
    return {"sec": whole_s, "nanosec": 0}
