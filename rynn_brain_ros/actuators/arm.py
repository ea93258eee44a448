"""An arm with a gripper: what each of its goals asks of MoveIt and of the hand."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from rynn_brain_ros.actuators import moveit
from rynn_brain_ros.actuators.calls import Call, Plan, Publication, Reply, rejected, succeeded
from rynn_brain_ros.actuators.grippers import Gripper
from rynn_brain_ros.actuators.profile import RobotProfile
from rynn_brain_ros.actuators.scene import Scene, table_box
from rynn_brain_ros.values import (
    FollowGoal,
    Goal,
    GoalEventKind,
    GripGoal,
    Motion,
    MotionStage,
    PostureGoal,
    ReachGoal,
)

ERROR_RECOVERY = "franka_msgs/action/ErrorRecovery"
STRING = "std_msgs/msg/String"


class ArmBody:
    """Plans for one arm. ``lacks`` tells what a request's interface does not have here."""

    goals: frozenset[type[Goal]] = frozenset({ReachGoal, FollowGoal, PostureGoal, GripGoal})
    needs_stop = True
    """Nothing else ends what `outlives_cancel`."""

    def __init__(self, profile: RobotProfile, lacks: Callable[[Call], tuple[str, ...]]) -> None:
        assert profile.arm is not None and profile.gripper is not None
        self.name = profile.name
        self._arm, self._limits, self._lacks = profile.arm, profile.limits, lacks
        self._gripper = Gripper(profile.gripper)
        self._scene = Scene(table_box(profile.arm.table_m))
        self._failed = False

    def before(self, stage: MotionStage, motion: Motion) -> None:
        """``stage`` is about to begin: what is around it when it is planned."""
        self._scene = self._scene.before(stage, motion, self._arm.tool_offset_m)

    def previews(self, motion: Motion) -> tuple[Call, ...]:
        """The call that each stage begins with. Raises `GoalFailed`."""
        scene, calls = self._scene, []
        for stage in motion.stages:
            scene = scene.before(stage, motion, self._arm.tool_offset_m)
            calls.append(self._first_call(stage.goal, scene))
        return tuple(calls)

    def plan(self, goal: Goal) -> Plan:
        if isinstance(goal, GripGoal):
            return self._gripper.plan(goal)
        return self._move(goal)

    def heard(self, feedback: Any) -> None:
        self._gripper.heard(feedback)

    @property
    def servers(self) -> dict[str, str]:
        """Type by name of everything that a goal may call."""
        arm = self._arm
        names = {
            arm.move_action: moveit.MOVE_GROUP,
            arm.cartesian_service: moveit.CARTESIAN_PATH,
            arm.execute_action: moveit.EXECUTE_TRAJECTORY,
            arm.recovery_action: ERROR_RECOVERY,
        }
        return {name: type_ for name, type_ in names.items() if name} | self._gripper.servers

    @property
    def watched(self) -> dict[str, str]:
        """None beside these."""
        return {}

    @property
    def stop(self) -> Publication:
        """The declared stop, beside cancelling what is in flight."""
        return Publication(self._arm.stop_topic, STRING, {"data": "stop"})

    def rivals(self, call: Call) -> tuple[str, ...]:
        """Servers for whose goals it would be wrong: a hand may not open on another's way. While
        somebody else moves the arm its own way may be planned."""
        is_plan = call.is_service or call.type == moveit.MOVE_GROUP
        return () if is_plan else tuple(self.servers)

    def outlives_cancel(self, call: Call) -> bool:
        """MoveIt's execute_trajectory takes a cancel and carries on, on every distribution
        (execute_trajectory_action_capability.cpp); only the stop ends it."""
        return call.type == moveit.EXECUTE_TRAJECTORY

    def _first_call(self, goal: Goal, scene: Scene) -> Call:
        arm, limits = self._arm, self._limits
        if isinstance(goal, GripGoal):
            return self._gripper.first_call(goal)
        if isinstance(goal, PostureGoal):
            return moveit.posture_goal(goal, arm, limits, scene)
        if isinstance(goal, FollowGoal) or (isinstance(goal, ReachGoal) and goal.straight):
            return moveit.cartesian_request(goal, arm, scene)
        if isinstance(goal, ReachGoal):
            return moveit.pose_goal(goal, arm, limits, scene)
        raise rejected(f"an arm cannot do a {type(goal).__name__}")

    def _move(self, goal: Goal) -> Plan:
        call = self._first_call(goal, self._scene)
        yield from self._recover()
        reply = yield call
        trajectory = self._trajectory(call, reply)
        reply = yield moveit.execute_goal(trajectory, self._arm)
        self._moved(reply, self._arm.execute_action)
        return (("fraction", 1.0),) if call.is_service else ()

    def _trajectory(self, call: Call, reply: Reply) -> Any:
        """What was planned. Raises `GoalFailed`."""
        if call.type == moveit.MOVE_GROUP:
            return moveit.planned(reply, call.server, self._arm)
        trajectory = moveit.checked_path(reply, self._arm)
        if self._lacks(call):
            moveit.slow_down(trajectory, call.request["max_velocity_scaling_factor"])
        return trajectory

    def _recover(self) -> Generator[Call, Reply, None]:
        """After a motion that the robot broke off; where this does not succeed nothing moves. A
        robot that has nothing to recover from may refuse, too: once it has, the next goal goes
        without, and shows which it was."""
        server = self._arm.recovery_action
        if not (self._failed and server):
            return
        reply = yield Call(server, ERROR_RECOVERY, {})
        self._failed = reply.kind is GoalEventKind.CANCELLED
        succeeded(reply, server)

    def _moved(self, reply: Reply, server: str) -> None:
        """Raises `GoalFailed` unless the motion succeeded; notes one that the robot broke off."""
        self._failed = moveit.broke_off(reply)
        moveit.moved(reply, server)
