"""A robot with a controller, a policy behind its endpoint, an operator, and the policy node."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import yaml
from asking import Asking
from control_msgs.action import FollowJointTrajectory, GripperCommand, ParallelGripperCommand
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from policy_parts import CONTRACT_TEXT, HOME, ScriptedPolicy, ramp, spec_for
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import MultiThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from rynn_brain_ros.msg import BrainStatus, Plan
from sensor_msgs.msg import Image, JointState
from std_srvs.srv import SetBool
from trajectory_msgs.msg import JointTrajectory

from rynn_brain_ros.data import contract_from
from rynn_brain_ros.ros.policy_node import PolicyNode
from rynn_brain_ros.ros.spinning import keep_spinning
from rynn_brain_ros.vla.serving import PolicyServer

STEP_RAD = 0.02
LEFT = "/left"
"""Where a node is launched: one that was here before still has its services in rclpy's memory."""
_MANY = 1000
_FAST = {"max_velocity": "2", "max_acceleration": "20", "max_jerk": "400"}
_BUSY = {"max_age_s": 2.0, "answer_budget_s": 5.0}
_LATE = "limits: {max_staleness_s: 2.0}\n"
"""Freshness is tested where clocks are driven: this machine may be busy."""


class Robot(Node):
    """Two joints and a hand that stand still, a camera, and a controller that plays its goals until
    they are cancelled or replaced."""

    def __init__(self) -> None:
        super().__init__("robot")
        self.has_camera = True
        self.commands: list[JointState] = []
        self.trajectories: list[JointTrajectory] = []
        self.goals: list[Any] = []
        self.grips: list[float] = []
        self.n_cancels, self._newest, self._ending = 0, None, threading.Event()
        self._servers: list[ActionServer] = []
        self._joints = self.create_publisher(JointState, "/joint_states", 10)
        self._images = self.create_publisher(Image, "/wrist", qos_profile_sensor_data)
        self.create_subscription(JointState, "/commands", self.commands.append, _MANY)
        topic = "/arm/joint_trajectory"
        self.create_subscription(JointTrajectory, topic, self.trajectories.append, 10)
        self.create_timer(0.02, self._move)

    def serve(self) -> None:
        server = ActionServer(
            self,
            FollowJointTrajectory,
            "/arm/follow_joint_trajectory",
            self._execute,
            goal_callback=self._take,
            cancel_callback=self._cancel,
            callback_group=ReentrantCallbackGroup(),
        )
        self._servers.append(server)

    def serve_hand(self, kind: str = "gripper_command") -> None:
        """Fingers that something keeps apart, told as franka_gripper or ros2_controllers do."""
        type_, grip = (
            (GripperCommand, self._grip)
            if kind == "gripper_command"
            else (ParallelGripperCommand, self._grip_parallel)
        )
        self._servers.append(ActionServer(self, type_, "/hand/gripper_action", grip))

    def destroy_node(self) -> None:
        """With its servers, or who comes later is told of their goals."""
        for server in self._servers:
            server.destroy()
        super().destroy_node()

    def _grip(self, handle: Any) -> Any:
        self.grips.append(handle.request.command.position)
        handle.abort()
        return GripperCommand.Result(position=0.02)

    def _grip_parallel(self, handle: Any) -> Any:
        (position,) = handle.request.command.position
        self.grips.append(position)
        handle.abort()
        return ParallelGripperCommand.Result(state=JointState(position=[0.02]), stalled=True)

    def close(self) -> None:
        self._ending.set()

    def _take(self, goal: Any) -> GoalResponse:
        self.goals.append(goal)
        return GoalResponse.ACCEPT

    def _cancel(self, handle: Any) -> CancelResponse:
        self.n_cancels += 1
        return CancelResponse.ACCEPT

    def _execute(self, handle: Any) -> Any:
        self._newest = handle
        while not self._ending.is_set() and self._newest is handle:
            if handle.is_cancel_requested:
                handle.canceled()
                return FollowJointTrajectory.Result()
            time.sleep(0.01)  # another thread brings the cancel or the newer goal
        handle.abort()
        return FollowJointTrajectory.Result(error_string="a newer goal came")

    def _move(self) -> None:
        stamp = self.get_clock().now().to_msg()
        a, b, opening = HOME
        joints = JointState(name=["b", "a", "finger"], position=[b, a, 0.04 * opening])
        joints.header.stamp = stamp
        self._joints.publish(joints)
        if self.has_camera:
            image = Image(height=4, width=6, encoding="rgb8", step=18, data=bytes(72))
            image.header.stamp = stamp
            self._images.publish(image)


class Graph(Asking):
    """A robot, a policy behind its endpoint, an operator, and the policy node, unless it is
    ``launched`` with the parameters of ``file``."""

    def __init__(self, folder: Path, *, launched: bool = False, **parameters: Any) -> None:
        self.policy = ScriptedPolicy(lambda seen: ramp(seen.state, STEP_RAD))
        text = parameters.pop("text", CONTRACT_TEXT) + _LATE
        trained = parameters.pop("trained", text)
        self.policy.spec = spec_for(contract_from(trained))
        self.endpoint = PolicyServer(self.policy, port=0)
        (folder / "mine.yaml").write_text(text, encoding="utf-8")
        told = {
            "contract": str(folder / "mine.yaml"),
            "url": self.endpoint.url,
            "task": "pick up the cup",
            **_FAST,
            **_BUSY,
            **parameters,
        }
        overrides = [Parameter(name, value=value) for name, value in told.items()]
        self.node = None if launched else PolicyNode(parameter_overrides=overrides)
        self.file = folder / "policy.yaml"
        self.file.write_text(yaml.dump({"/**/policy": {"ros__parameters": told}}), encoding="utf-8")
        name = f"{LEFT if launched else ''}/policy"
        self.robot, self.operator = Robot(), Node("operator")
        self.status: list[BrainStatus] = []
        self.previews: list[Any] = []
        user = self.operator
        user.create_subscription(BrainStatus, f"{name}/status", self.status.append, 10)
        user.create_subscription(
            JointState, "/policy/preview/commands", self.previews.append, _MANY
        )
        user.create_subscription(
            JointTrajectory, "/policy/preview/arm/joint_trajectory", self.previews.append, 10
        )
        self.plans = user.create_publisher(Plan, "/left/brain/plan", 10)
        self.change = user.create_client(ChangeState, f"{name}/change_state")
        self.arming = user.create_client(SetBool, f"{name}/arm")
        self.executor = MultiThreadedExecutor(num_threads=6)
        self.nodes = [node for node in (self.node, self.robot, user) if node is not None]
        for node in self.nodes:
            self.executor.add_node(node)
        self.spinner = threading.Thread(target=keep_spinning, args=(self.executor,), daemon=True)
        self.spinner.start()

    def bring_up(self) -> Graph:
        assert self.transition(Transition.TRANSITION_CONFIGURE)
        assert self.transition(Transition.TRANSITION_ACTIVATE)
        return self

    def arm(self, yes: bool = True) -> Any:
        return self.call(self.arming, SetBool.Request(data=yes))

    def moving(self) -> Graph:
        """Armed, and beyond where the robot stands."""
        assert self.arm().success
        self.wait_until(lambda: self.goes(self.robot.commands), "commands that move")
        return self

    def goes(self, commands: list[JointState]) -> bool:
        return bool(commands) and a_of(commands[-1]) > HOME[0] + STEP_RAD

    def problem(self, words: str) -> None:
        """Waits for a status that says so."""

        def said() -> bool:
            return any(words in text for status in self.status[-1:] for text in status.problems)

        self.wait_until(said, f"a status with {words!r}, not {self.status[-1:]}")

    def close(self) -> None:
        if self.node is not None:
            self.node.release()
        self.endpoint.stop()
        self.robot.close()
        self.executor.shutdown()
        self.spinner.join()
        for node in self.nodes:
            node.destroy_node()


def a_of(command: JointState) -> float:
    return float(command.position[list(command.name).index("a")])
