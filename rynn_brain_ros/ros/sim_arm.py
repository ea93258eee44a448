"""The simulated arm's ROS interfaces: MoveIt's move_group, a joint trajectory controller and a
gripper, each with the names that a robot with MoveIt's Panda configuration has."""

from __future__ import annotations

import math
import time
from functools import partial
from typing import Any

from control_msgs.action import FollowJointTrajectory, GripperCommand
from moveit_msgs.action import ExecuteTrajectory, MoveGroup
from moveit_msgs.msg import MoveItErrorCodes, RobotState, RobotTrajectory
from moveit_msgs.srv import ApplyPlanningScene, GetCartesianPath
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectoryPoint

from rynn_brain_ros.ros.conversion import to_ros
from rynn_brain_ros.ros.sim_goals import GoalServers, Job, Publish
from rynn_brain_ros.sim.live import Cause, Ending
from rynn_brain_ros.sim.motions import Timed
from rynn_brain_ros.sim.moveit import PlanError
from rynn_brain_ros.sim.panda import BASE_FRAME, JOINTS, MAX_GRIP_N, MAX_WIDTH_M
from rynn_brain_ros.sim.robots import TableRobot
from rynn_brain_ros.sim.trajectories import (
    BadTrajectory,
    SampledPath,
    TrajectoryFault,
    read_trajectory,
    trajectory_fields,
)
from rynn_brain_ros.values import InputError

CONTROLLER = "panda_arm_controller/follow_joint_trajectory"
GRIPPER = "panda_hand_controller/gripper_cmd"
STOP = "trajectory_execution_event"
_USUAL_GRIP_N = 20.0
_OPENED_M = 0.001
_CODES = {
    Cause.DONE: MoveItErrorCodes.SUCCESS,
    Cause.REJECTED: MoveItErrorCodes.CONTROL_FAILED,
    Cause.ABORTED: MoveItErrorCodes.CONTROL_FAILED,
    Cause.CANCELLED: MoveItErrorCodes.PREEMPTED,
    Cause.PREEMPTED: MoveItErrorCodes.PREEMPTED,
    Cause.TIMED_OUT: MoveItErrorCodes.TIMED_OUT,
    Cause.STOPPED: MoveItErrorCodes.ABORT,
}


def serve_arm(servers: GoalServers, robot: TableRobot) -> None:
    """Opens everything that a client of this robot may ask for."""
    servers.action(MoveGroup, "move_action", "arm", lambda *goal: _MoveGroup(robot, *goal))
    stops = _Stops()
    make = partial(_Execute, robot, stops)
    servers.action(ExecuteTrajectory, "execute_trajectory", "arm", make)
    servers.action(FollowJointTrajectory, CONTROLLER, "arm", lambda *goal: _Follow(robot, *goal))
    servers.action(GripperCommand, GRIPPER, "hand", lambda *goal: _Grip(robot, *goal))

    def cartesian(request: Any, response: Any) -> Any:
        response.start_state = _state(robot)
        try:
            plan = robot.cartesian(request)
        except PlanError as failure:
            response.error_code = _error(failure.code, str(failure))
            return response
        response.solution = _trajectory(plan.path)
        response.fraction = plan.fraction
        response.error_code = _error("SUCCESS", plan.text)
        return response

    def apply_scene(request: Any, response: Any) -> Any:
        try:
            robot.apply_scene(request.scene)
        except InputError:
            return response
        response.success = True
        return response

    def hear(event: String) -> None:
        stops.n += event.data == "stop"

    servers.listen(String, STOP, hear)
    servers.service(GetCartesianPath, "compute_cartesian_path", cartesian)
    servers.service(ApplyPlanningScene, "apply_planning_scene", apply_scene)


class _MoveGroup(Job):
    """Plans, and moves unless ``plan_only``. A start state counts for ``plan_only`` alone: motion
    begins where the arm is, as with move_group itself."""

    def __init__(self, robot: TableRobot, goal: Any, publish: Publish) -> None:
        self._robot, self._goal, self._publish = robot, goal, publish
        self._path: Timed | None = None
        self._start = RobotState()
        self._took_s = 0.0

    def begin(self, goal_id: str) -> Ending | None:
        options, request = self._goal.planning_options, self._goal.request
        self._start = _state(self._robot)
        if not options.plan_only:
            request.start_state = RobotState(is_diff=True)
        self._publish(MoveGroup.Feedback(state="PLANNING"))
        began_s = time.monotonic()
        try:
            # It holds for this plan only, as with move_group itself.
            difference = options.planning_scene_diff
            changes = difference.world.collision_objects or (
                difference.robot_state.attached_collision_objects
            )
            self._path = self._robot.plan(request, difference if changes else None)
        except PlanError as failure:
            return Ending(Cause.REJECTED, str(failure), detail=failure.code)
        except InputError as error:
            return Ending(Cause.REJECTED, str(error), detail="INVALID_OBJECT_NAME")
        finally:
            self._took_s = time.monotonic() - began_s
        if options.plan_only:
            return Ending(Cause.DONE)
        self._publish(MoveGroup.Feedback(state="MONITOR"))
        self._robot.arm.follow(goal_id, self._path)
        return None

    def result(self, ending: Ending) -> Any:
        result = MoveGroup.Result(
            trajectory_start=self._start,
            planned_trajectory=_trajectory(self._path),
            planning_time=self._took_s,
            error_code=_code(ending),
        )
        if ending.cause is Cause.DONE and not self._goal.planning_options.plan_only:
            result.executed_trajectory = result.planned_trajectory
        return result


class _Stops:
    """How many there were."""

    n = 0


class _Execute(Job):
    """As with move_group itself it takes a cancel and carries on; a "stop" that is published while
    it moves ends it."""

    heeds_cancel = False

    def __init__(self, robot: TableRobot, stops: _Stops, goal: Any, publish: Publish) -> None:
        self._robot, self._stops, self._goal, self._publish = robot, stops, goal, publish
        self._stops_before = stops.n

    def is_stopped(self) -> bool:
        return self._stops.n > self._stops_before

    def begin(self, goal_id: str) -> Ending | None:
        self._stops_before = self._stops.n
        trajectory = self._goal.trajectory.joint_trajectory
        path = read_trajectory(trajectory, self._robot.arm.commanded)
        if isinstance(path, BadTrajectory):
            return Ending(Cause.REJECTED, path.text, detail="INVALID_MOTION_PLAN")
        self._publish(ExecuteTrajectory.Feedback(state="MONITOR"))
        self._robot.arm.follow(goal_id, path)
        return None

    def result(self, ending: Ending) -> Any:
        return ExecuteTrajectory.Result(error_code=_code(ending))


class _Follow(Job):
    def __init__(self, robot: TableRobot, goal: Any, publish: Publish) -> None:
        self._robot, self._goal, self._publish = robot, goal, publish
        self._path: SampledPath | None = None

    def begin(self, goal_id: str) -> Ending | None:
        path = read_trajectory(self._goal.trajectory, self._robot.arm.commanded)
        if isinstance(path, BadTrajectory):
            return Ending(Cause.REJECTED, path.text, detail=path.fault)
        self._path = path
        self._robot.arm.follow(goal_id, path)
        return None

    def report(self, fraction: float) -> None:
        assert self._path is not None, "what was not begun reports nothing"
        state = self._robot.world.joint_state()
        desired = self._path.derivatives(fraction * self._path.duration_s)
        feedback = FollowJointTrajectory.Feedback(joint_names=list(JOINTS))
        feedback.desired = JointTrajectoryPoint(
            positions=desired[0].tolist(), velocities=desired[1].tolist()
        )
        n = len(JOINTS)
        feedback.actual = JointTrajectoryPoint(
            positions=list(state.positions[:n]), velocities=list(state.velocities[:n])
        )
        off = [d - a for d, a in zip(desired[0].tolist(), state.positions[:n], strict=True)]
        feedback.error = JointTrajectoryPoint(positions=off)
        self._publish(feedback)

    def result(self, ending: Ending) -> Any:
        return FollowJointTrajectory.Result(
            error_code=_controller_code(ending), error_string=_reason(ending)
        )


class _Grip(Job):
    """``position`` is that of one finger's joint, half of what is between them, as franka_ros2 and
    ros2_controllers have it for this hand. To stop on something is success (``allow_stalling``)."""

    def __init__(self, robot: TableRobot, goal: Any, publish: Publish) -> None:
        self._robot, self._command, self._publish = robot, goal.command, publish
        self._width_m = 2 * float(goal.command.position)
        self._force_n = min(float(goal.command.max_effort) or _USUAL_GRIP_N, MAX_GRIP_N)

    def begin(self, goal_id: str) -> Ending | None:
        if not -_OPENED_M <= self._width_m <= MAX_WIDTH_M + _OPENED_M:
            text = f"a finger cannot be at {self._command.position:.3f} m"
            return Ending(Cause.REJECTED, text)
        self._robot.grip(goal_id, min(max(self._width_m, 0.0), MAX_WIDTH_M), self._force_n)
        return None

    def report(self, fraction: float) -> None:
        self._publish(GripperCommand.Feedback(position=self._opening_m() / 2))

    def result(self, ending: Ending) -> Any:
        width_m = ending.value("width_m")
        is_there = abs(width_m - self._width_m) < _OPENED_M
        done = ending.cause is Cause.DONE
        return GripperCommand.Result(
            position=width_m / 2,
            effort=0.0 if is_there else self._force_n,
            reached_goal=done and is_there,
            stalled=done and not is_there,
        )

    def _opening_m(self) -> float:
        return float(sum(self._robot.world.joint_state().positions[len(JOINTS) :]))


def _state(robot: TableRobot) -> RobotState:
    state = robot.world.joint_state()
    joints = {"name": list(state.names), "position": list(state.positions)}
    return to_ros(RobotState, {"joint_state": {"header": {"frame_id": BASE_FRAME}, **joints}})


def _trajectory(path: Timed | None) -> RobotTrajectory:
    return to_ros(RobotTrajectory, {"joint_trajectory": trajectory_fields(path, BASE_FRAME)})


def _code(ending: Ending) -> MoveItErrorCodes:
    if ending.detail is not None:
        return _error(ending.detail, ending.text)
    error = MoveItErrorCodes(val=_CODES[ending.cause])
    return _with_message(error, ending.text)


def _error(name: str, text: str) -> MoveItErrorCodes:
    return _with_message(MoveItErrorCodes(val=getattr(MoveItErrorCodes, name)), text)


def _with_message(error: MoveItErrorCodes, text: str) -> MoveItErrorCodes:
    if hasattr(error, "message"):  # not on Humble
        error.message, error.source = text, "rynn_brain_ros sim"
    return error


def _controller_code(ending: Ending) -> int:
    result = FollowJointTrajectory.Result
    if ending.cause is Cause.DONE:
        return int(result.SUCCESSFUL)
    if isinstance(ending.detail, TrajectoryFault):
        return int(getattr(result, ending.detail.value))
    missed = ending.cause is Cause.ABORTED and not math.isnan(ending.value("position_error_m"))
    return int(result.GOAL_TOLERANCE_VIOLATED if missed else result.PATH_TOLERANCE_VIOLATED)


def _reason(ending: Ending) -> str:
    return "" if ending.cause is Cause.DONE else f"{ending.cause.value}: {ending.text}"
