"""MoveIt 2 without moveit_py: goals as nested dicts, and what its results mean.

Field names are those of Jazzy. Built as MoveIt's own C++ client builds them
(``constructGoalConstraints``, ``MoveGroupInterface``).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from rynn_brain_ros.actuators.calls import (
    Call,
    GoalFailed,
    Reply,
    finite,
    pose_in,
    rejected,
    scaling,
    succeeded,
)
from rynn_brain_ros.actuators.profile import ArmProfile
from rynn_brain_ros.actuators.scene import UPRIGHT, Scene
from rynn_brain_ros.geometry import compose, invert
from rynn_brain_ros.messages import MessageDict, point
from rynn_brain_ros.safety import SafetyLimits
from rynn_brain_ros.values import (
    FollowGoal,
    GoalEventKind,
    PostureGoal,
    ReachGoal,
    RigidTransform,
)

MOVE_GROUP = "moveit_msgs/action/MoveGroup"
CARTESIAN_PATH = "moveit_msgs/srv/GetCartesianPath"
EXECUTE_TRAJECTORY = "moveit_msgs/action/ExecuteTrajectory"

_SPHERE = 2  # shape_msgs/SolidPrimitive.SPHERE
_ROTATION_VECTOR = 1  # moveit_msgs/OrientationConstraint.ROTATION_VECTOR
_SUCCESS = 1
_CODES = {
    1: "SUCCESS",
    0: "UNDEFINED",
    99999: "FAILURE",
    -1: "PLANNING_FAILED",
    -2: "INVALID_MOTION_PLAN",
    -3: "MOTION_PLAN_INVALIDATED_BY_ENVIRONMENT_CHANGE",
    -4: "CONTROL_FAILED",
    -5: "UNABLE_TO_AQUIRE_SENSOR_DATA",
    -6: "TIMED_OUT",
    -7: "PREEMPTED",
    -10: "START_STATE_IN_COLLISION",
    -11: "START_STATE_VIOLATES_PATH_CONSTRAINTS",
    -12: "GOAL_IN_COLLISION",
    -13: "GOAL_VIOLATES_PATH_CONSTRAINTS",
    -14: "GOAL_CONSTRAINTS_VIOLATED",
    -15: "INVALID_GROUP_NAME",
    -16: "INVALID_GOAL_CONSTRAINTS",
    -17: "INVALID_ROBOT_STATE",
    -18: "INVALID_LINK_NAME",
    -19: "INVALID_OBJECT_NAME",
    -21: "FRAME_TRANSFORM_FAILURE",
    -22: "COLLISION_CHECKING_UNAVAILABLE",
    -23: "ROBOT_STATE_STALE",
    -24: "SENSOR_INFO_STALE",
    -25: "COMMUNICATION_FAILURE",
    -26: "START_STATE_INVALID",
    -27: "GOAL_STATE_INVALID",
    -28: "UNRECOGNIZED_GOAL_TYPE",
    -29: "CRASH",
    -30: "ABORT",
    -31: "NO_IK_SOLUTION",
}
"""moveit_msgs/MoveItErrorCodes."""
_BEFORE_MOTION = frozenset((-1, -2, *range(-22, -9), -26, -27, -28, -31))
"""Codes of a goal that there is no plan for."""
_PREEMPTED = -7
"""What ExecuteTrajectory says after a stop, whoever asked for it, and where another goal took the
joints' controller."""
_ENDS = (GoalEventKind.SUCCEEDED, GoalEventKind.ABORTED)
_JUMP_FACTOR = 5.0
"""Points of a straight path that are so many times as far apart in the joints as they are on
average end it. Of its thresholds MoveIt's service reads only this one, from Humble to Kilted
(cartesian_path_service_capability.cpp, CartesianInterpolator::checkRelativeJointSpaceJump); it must
be above 1, and 0 is off."""
_MOST_TURN_RAD = 3.0
"""About the most that a joint turns through on straight lines in a Panda's reach, up to 3 m there
and back, or while a vessel is tilted: none of 430 such paths at random places needed 3.2. An arm
that turns over on its way turns one of its joints by about π more."""


# --- goals ----------------------------------------------------------------------------------------


def pose_goal(goal: ReachGoal, arm: ArmProfile, limits: SafetyLimits, scene: Scene) -> Call:
    """MoveGroup to a pose of the tool."""
    link = _link_pose(goal.T_base_tcp, arm)
    head = {"frame_id": arm.base_frame}
    position = {
        "header": head,
        "link_name": arm.link,
        "constraint_region": {
            "primitives": [{"type": _SPHERE, "dimensions": [arm.position_tolerance_m]}],
            "primitive_poses": [{"position": link["position"], "orientation": dict(UPRIGHT)}],
        },
        "weight": 1.0,
    }
    orientation = {
        "header": head,
        "orientation": link["orientation"],
        "link_name": arm.link,
        **{f"absolute_{axis}_axis_tolerance": arm.orientation_tolerance_rad for axis in "xyz"},
        "parameterization": _ROTATION_VECTOR,
        "weight": 1.0,
    }
    wanted = {"position_constraints": [position], "orientation_constraints": [orientation]}
    return _move_group(wanted, goal.speed, arm, limits, scene)


def posture_goal(goal: PostureGoal, arm: ArmProfile, limits: SafetyLimits, scene: Scene) -> Call:
    """MoveGroup to a posture of the profile, joint by joint."""
    postures = dict(arm.postures)
    if goal.name not in postures:
        raise rejected(f"no posture '{goal.name}'; there are: {', '.join(postures) or 'none'}")
    joints = [
        {
            "joint_name": joint,
            "position": position_rad,
            "tolerance_above": arm.joint_tolerance_rad,
            "tolerance_below": arm.joint_tolerance_rad,
            "weight": 1.0,
        }
        for joint, position_rad in zip(arm.joints, postures[goal.name], strict=True)
    ]
    return _move_group({"joint_constraints": joints}, goal.speed, arm, limits, scene)


def _move_group(
    wanted: MessageDict, speed: float, arm: ArmProfile, limits: SafetyLimits, scene: Scene
) -> Call:
    request = {
        "workspace_parameters": {
            "header": {"frame_id": arm.base_frame},
            "min_corner": point(limits.workspace_min_m),
            "max_corner": point(limits.workspace_max_m),
        },
        "start_state": {"is_diff": True},
        "goal_constraints": [wanted],
        "pipeline_id": arm.pipeline_id,
        "planner_id": arm.planner_id,
        "group_name": arm.group,
        "num_planning_attempts": arm.planning_attempts,
        "allowed_planning_time": arm.planning_time_s,
        **_scaled(speed, arm),
    }
    difference = {
        "is_diff": True,
        "robot_state": {
            "is_diff": True,
            "attached_collision_objects": scene.attached(arm.link, arm.touch_links),
        },
        "world": {"collision_objects": scene.around(arm.base_frame)},
    }
    # A goal that MoveIt carries out itself loses what is attached in the difference, and on Humble
    # cannot be cancelled (move_group_capability.cpp, clearSceneRobotState;
    # move_action_capability.cpp).
    options = {"planning_scene_diff": difference, "plan_only": True}
    return Call(arm.move_action, MOVE_GROUP, {"request": request, "planning_options": options})


def cartesian_request(goal: ReachGoal | FollowGoal, arm: ArmProfile, scene: Scene) -> Call:
    """GetCartesianPath through the goal's poses, in straight lines from where the tool is."""
    poses = goal.path if isinstance(goal, FollowGoal) else (goal.T_base_tcp,)
    if not poses:
        raise rejected("a path without poses")
    state = {
        "is_diff": True,
        "attached_collision_objects": scene.attached(arm.link, arm.touch_links),
    }
    request = {
        "header": {"frame_id": arm.base_frame},
        "start_state": state,
        "group_name": arm.group,
        "link_name": arm.link,
        "waypoints": [_link_pose(pose, arm) for pose in poses],
        "max_step": arm.max_step_m,
        "jump_threshold": _JUMP_FACTOR if arm.max_joint_jump_rad else 0.0,
        "revolute_jump_threshold": arm.max_joint_jump_rad,
        "avoid_collisions": True,
        **_scaled(goal.speed, arm),
    }
    return Call(arm.cartesian_service, CARTESIAN_PATH, request)


def execute_goal(trajectory: Any, arm: ArmProfile) -> Call:
    """ExecuteTrajectory of a moveit_msgs/RobotTrajectory, which may be a message."""
    return Call(arm.execute_action, EXECUTE_TRAJECTORY, {"trajectory": trajectory})


def _scaled(speed: float, arm: ArmProfile) -> MessageDict:
    return {
        "max_velocity_scaling_factor": scaling(speed, arm.velocity_scale),
        "max_acceleration_scaling_factor": scaling(speed, arm.acceleration_scale),
    }


def _link_pose(T_base_tcp: RigidTransform, arm: ArmProfile) -> MessageDict:
    """geometry_msgs/Pose of the planner's link where the tool is at ``T_base_tcp``."""
    pose_in(arm.base_frame, T_base_tcp)  # refuses what is no pose before anything is computed
    tcp = RigidTransform(
        T_base_tcp.parent, arm.tool_frame, T_base_tcp.translation_m, T_base_tcp.rotation_xyzw
    )
    return pose_in(arm.base_frame, compose(tcp, invert(arm.T_link_tcp)))


# --- results --------------------------------------------------------------------------------------


def code_name(code: int) -> str:
    return _CODES.get(code, f"error {code}")


def moved(reply: Reply, server: str) -> None:
    """Raises `GoalFailed` unless MoveGroup or ExecuteTrajectory says SUCCESS. An arm that somebody
    stopped is left to them: nothing may then be tried again."""
    code = getattr(reply.message, "error_code", None)
    said = "" if code is None else _told(code)
    if reply.kind is GoalEventKind.ABORTED and code is not None and code.val == _PREEMPTED:
        text = f"{server} aborted: {said}: the arm was stopped, or its controller got another goal"
        raise GoalFailed(GoalEventKind.PREEMPTED, text)
    succeeded(reply, server, said)
    if code is None or code.val != _SUCCESS:
        text = f"{server} ended well and yet says {said or 'no error code'}"
        raise GoalFailed(GoalEventKind.ABORTED, text)


def broke_off(reply: Reply) -> bool:
    """Whether a motion that began, or may have, was not carried to its end by the robot."""
    code = getattr(getattr(reply.message, "error_code", None), "val", None)
    ended = reply.kind is GoalEventKind.SUCCEEDED and code == _SUCCESS
    return reply.kind in _ENDS and not ended and code not in (*_BEFORE_MOTION, _PREEMPTED)


def _told(code: Any) -> str:
    more = str(getattr(code, "message", ""))
    return f"{code_name(code.val)}{f' ({more})' if more else ''}"


def planned(reply: Reply, server: str, arm: ArmProfile) -> Any:
    """The moveit_msgs/RobotTrajectory of a MoveGroup result. Raises `GoalFailed`."""
    moved(reply, server)
    trajectory = reply.message.planned_trajectory
    _check_trajectory(trajectory.joint_trajectory, arm, "planned")
    return trajectory


def checked_path(reply: Reply, arm: ArmProfile) -> Any:
    """The moveit_msgs/RobotTrajectory of a GetCartesianPath response that goes all the way.
    Raises `GoalFailed`, with the ``fraction`` of it that can be done."""
    response = succeeded(reply, arm.cartesian_service)
    fraction, code = float(response.fraction), response.error_code
    values = (("fraction", fraction),)
    if code.val != _SUCCESS:
        raise rejected(f"no straight path: {_told(code)}", values)
    if not fraction >= arm.min_fraction:
        text = f"only {100 * fraction:.0f} % of the straight path can be done"
        raise rejected(f"{text}; at least {100 * arm.min_fraction:.0f} % are needed", values)
    _check_trajectory(response.solution.joint_trajectory, arm, "straight")
    if arm.max_joint_jump_rad:
        _check_turns(response.solution.joint_trajectory, arm)
    return response.solution


def _check_trajectory(trajectory: Any, arm: ArmProfile, kind: str) -> None:
    """Refuses a path that a controller could not follow: no points, times that do not grow, a
    number that is none, joints left out. Velocities and accelerations need not be told."""
    points: Sequence[Any] = trajectory.points
    if not points:
        raise rejected(f"the {kind} path has no points")
    joints = len(trajectory.joint_names or arm.joints)
    for p in points:
        _check_joints(kind, "positions", p.positions, (joints,))
        _check_joints(kind, "velocities", p.velocities, (0, joints))
        _check_joints(kind, "accelerations", p.accelerations, (0, joints))
    times = [seconds(p.time_from_start) for p in points]
    if any(not later > earlier for earlier, later in itertools.pairwise(times)):
        raise rejected(f"the times of the {kind} path do not grow from point to point")


def _check_turns(trajectory: Any, arm: ArmProfile) -> None:
    """Refuses a path on which the inverse kinematics must have jumped: a joint turns through more
    than straight lines need. MoveIt spreads the points evenly in time afterwards, so that no two
    neighbours show it. Between what is lowest and highest, not all the way back and forth: that
    grows with the path, whose beginning is not known here."""
    most_rad = _MOST_TURN_RAD + arm.max_joint_jump_rad
    turns = zip(*(p.positions for p in trajectory.points), strict=True)
    for joint, angles in zip(trajectory.joint_names or arm.joints, turns, strict=True):
        turn_rad = max(angles) - min(angles)
        if turn_rad > most_rad:
            raise rejected(
                f"{joint} would turn through {turn_rad:.2f} rad on the straight path, as where the "
                f"arm turns over on its way; the most is {most_rad:.2f} rad"
            )


def _check_joints(kind: str, name: str, values: Sequence[float], sizes: tuple[int, ...]) -> None:
    if len(values) not in sizes:
        text = f"a point of the {kind} path has {len(values)} {name} for {max(sizes)} joints"
        raise rejected(text)
    for value in values:
        finite(f"one of the {name} of the {kind} path", value)


def seconds(duration: Any) -> float:
    return float(duration.sec) + float(duration.nanosec) * 1e-9


def slow_down(trajectory: Any, factor: float) -> None:
    """Stretches a trajectory in time, in place: for a planner whose GetCartesianPath knows no
    scaling and plans at full speed (Humble). ``factor`` in (0, 1]."""
    for p in trajectory.joint_trajectory.points:
        time_ns = math.ceil(seconds(p.time_from_start) / factor * 1e9)
        p.time_from_start.sec, p.time_from_start.nanosec = divmod(time_ns, 1_000_000_000)
        for values, share in ((p.velocities, factor), (p.accelerations, factor**2)):
            for i, value in enumerate(values):
                values[i] = value * share
