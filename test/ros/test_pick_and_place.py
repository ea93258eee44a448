"""A whole task through the launched graph: the simulated robot behind a real one's interfaces, the
brain, and the act node that a person arms."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.ros
rclpy = pytest.importorskip("rclpy", reason="rclpy is not importable")
pytest.importorskip("mujoco", reason="the simulator needs MuJoCo: pip install mujoco")
pytest.importorskip("moveit_msgs", reason="moveit_msgs is not installed")
pytest.importorskip("nav2_msgs", reason="nav2_msgs is not installed")

from rclpy.action import ActionClient  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rynn_brain_ros.action import ExecuteTask  # noqa: E402
from std_srvs.srv import SetBool  # noqa: E402

PATIENCE_S = 240.0
TASK = "put the red cube into the bowl"


class Person:
    """Who stands beside the robot: a node of their own, spun while they wait."""

    def __init__(self) -> None:
        self.node = Node("person")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._deadline = time.monotonic() + PATIENCE_S

    def wait_for(self, future: Any) -> Any:
        self._executor.spin_until_future_complete(future, self._deadline - time.monotonic())
        assert future.done(), "waited too long"
        return future.result()

    def arm(self) -> bool:
        """Asks until the node is active."""
        client = self.node.create_client(SetBool, "/act/arm")
        while time.monotonic() < self._deadline:
            if client.wait_for_service(timeout_sec=0.5):
                answer = self.wait_for(client.call_async(SetBool.Request(data=True)))
                if answer.success:
                    return True
        return False

    def ask_for(self, task: str) -> tuple[Any, list[str]]:
        """The result, and the states that were told on the way."""
        client, states = ActionClient(self.node, ExecuteTask, "/act/execute_task"), []

        def hear(message: Any) -> None:
            states.append(message.feedback.state)

        assert client.wait_for_server(timeout_sec=30.0)
        handle = self.wait_for(client.send_goal_async(ExecuteTask.Goal(task=task), hear))
        assert handle.accepted
        return self.wait_for(handle.get_result_async()).result, states


@pytest.fixture
def launched(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = ["ros2", "launch", "rynn_brain_ros", "sim.launch.py", "act:=true"]
    environment = {**os.environ, "ROS_LOG_DIR": str(tmp_path)}
    process = subprocess.Popen(command, env=environment, stdout=sys.stderr, start_new_session=True)
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=60) == 0


def test_the_launched_robot_picks_and_places_and_looks_whether_it_is_done(
    launched: subprocess.Popen[bytes],
) -> None:
    rclpy.init()
    try:
        person = Person()
        assert person.arm()
        result, states = person.ask_for(TASK)
    finally:
        rclpy.try_shutdown()
    assert (result.status, result.cause) == (ExecuteTask.Result.STATUS_SUCCEEDED, "done")
    assert result.task_confirmed, result.message
    assert [step.skill for step in result.plan.steps] == ["pick", "place", "done"]
    assert "moving" in states
