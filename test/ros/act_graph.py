"""The act node among a robot's servers and a user, all in one process."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

rclpy = pytest.importorskip("rclpy", reason="rclpy is not importable")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "planning"))

from asking import Asking  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState  # noqa: E402
from played_robot import ScriptedEngine, pick  # noqa: E402
from rclpy.action import ActionClient  # noqa: E402
from rclpy.executors import MultiThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from robot_servers import COLOR, DEPTH, RobotServers  # noqa: E402
from rynn_brain_ros.action import ExecuteTask  # noqa: E402
from rynn_brain_ros.msg import BrainStatus, Plan  # noqa: E402
from rynn_brain_ros.srv import Approve  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from std_srvs.srv import SetBool  # noqa: E402

from rynn_brain_ros.actuators import read_profile  # noqa: E402
from rynn_brain_ros.models import Engines  # noqa: E402
from rynn_brain_ros.planning.goals import GoalTimeouts  # noqa: E402
from rynn_brain_ros.planning.watchdog import WatchdogLimits  # noqa: E402
from rynn_brain_ros.ros.act_node import ActNode  # noqa: E402
from rynn_brain_ros.ros.spinning import keep_spinning  # noqa: E402

GRIPPER = "panda_hand_controller/gripper_cmd"
TASK = "put the red cube on the table"
PATIENT = WatchdogLimits(max_frame_age_s=6.0, max_transform_age_s=6.0)
"""A busy machine may need seconds between two pictures."""
QUICK = GoalTimeouts(accept_s=2.0, silence_s=2.0, cancel_s=1.0, arm_s=3.0)


def profile(folder: Path, **changes: str) -> str:
    """The Panda's profile with other names of its servers."""
    panda = read_profile("franka_panda").arm
    assert panda is not None
    arm = {"links": list(panda.links), **changes}
    text = yaml.safe_dump({"name": "changed", "arm": arm, "gripper": {"kind": "gripper_command"}})
    path = folder / "changed.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


class Graph(Asking):
    """A robot, its servers and act in one process, on an executor of their own."""

    def __init__(self, **parameters: Any) -> None:
        values = {
            "color_topic": COLOR,
            "color_info_topic": "/camera/color/camera_info",
            "depth_topic": DEPTH,
            "fixed_frame": "world",
            "dry_run": False,
            "engine_verdict": "not_required",
            **parameters,
        }
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        self.robot = RobotServers()
        self.act = ActNode(parameter_overrides=overrides)
        self.user = Node("user")
        self.status: list[Any] = []
        self.plans: list[Any] = []
        self.texts: list[Any] = []
        self.feedback: list[Any] = []
        self.user.create_subscription(BrainStatus, "/act/status", self.status.append, 10)
        self.user.create_subscription(Plan, "/act/plan", self.plans.append, 10)
        self.user.create_subscription(String, "/act/preview/text", self.texts.append, 10)
        self.executor = MultiThreadedExecutor(num_threads=10)
        for node in (self.robot, self.act, self.user):
            self.executor.add_node(node)
        self.spinner = threading.Thread(target=keep_spinning, args=(self.executor,), daemon=True)
        self.spinner.start()
        self.change = self.user.create_client(ChangeState, "/act/change_state")
        self.arm_client = self.user.create_client(SetBool, "/act/arm")
        self.approve_client = self.user.create_client(Approve, "/act/approve")
        self.tasks = ActionClient(self.user, ExecuteTask, "/act/execute_task")

    def bring_up(self, *lines: Any, timeouts: GoalTimeouts = QUICK) -> ScriptedEngine:
        """Active, with an engine that says ``lines``, seeing pictures and knowing the servers."""
        assert self.transition(Transition.TRANSITION_CONFIGURE)
        engine = ScriptedEngine(*lines, forever="Nothing more to say.")
        self.act.acting._engines = Engines.one(engine)
        robot = self.act.acting.robot
        limits = replace(robot.limits, max_frame_age_s=PATIENT.max_frame_age_s)
        self.act.acting.robot = replace(robot, timeouts=timeouts, watchdog=PATIENT, limits=limits)
        self.wake()
        return engine

    def wake(self) -> None:
        assert self.transition(Transition.TRANSITION_ACTIVATE)
        seen = self.act.acting.eyes.perception.buffer
        self.wait_until(lambda: seen.latest(COLOR) is not None, "a picture")
        absent = self.act.acting.wire.absent
        self.wait_until(lambda: all(name.startswith("nobody/") for name in absent()), "servers")

    def arm(self, on: bool = True) -> Any:
        return self.call(self.arm_client, SetBool.Request(data=on))

    def send(self, **goal: Any) -> Any:
        """The handle of a task that is being done."""
        self.wait_until(self.tasks.server_is_ready, "act")
        request = ExecuteTask.Goal(**{"task": TASK, **goal})
        keep = lambda message: self.feedback.append(message.feedback)  # noqa: E731
        return self.result_of(self.tasks.send_goal_async(request, keep))

    def carry_out(self, **goal: Any) -> Any:
        """The task's result."""
        return self.result_of(self.send(**goal).get_result_async(), "the end of the task").result

    def goals(self, server: str) -> list[Any]:
        return self.robot.does[server].goals

    def close(self) -> None:
        self.robot.close()
        self.act.release()
        self.executor.shutdown()
        self.spinner.join()
        for node in (self.act, self.user, self.robot):
            node.destroy_node()


def making_graphs() -> Iterator[Callable[..., Graph]]:
    """What makes them, and closes all that were made."""
    made: list[Graph] = []

    def make(**parameters: Any) -> Graph:
        made.append(Graph(**parameters))
        return made[-1]

    yield make
    for graph in made:
        graph.close()


def first_pick(graph: Graph) -> Any:
    return pick(graph.robot.world, "red cube")
