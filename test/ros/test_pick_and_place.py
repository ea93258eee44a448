"""A whole task through the launched graph: the simulated robot behind a real one's interfaces, the
brain, and the act node that a person arms."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.ros
rclpy = pytest.importorskip("rclpy", reason="rclpy is not importable")
pytest.importorskip("mujoco", reason="the simulator needs MuJoCo: pip install mujoco")
pytest.importorskip("moveit_msgs", reason="moveit_msgs is not installed")
pytest.importorskip("nav2_msgs", reason="nav2_msgs is not installed")

from launched import Launched  # noqa: E402
from person import Person  # noqa: E402
from rynn_brain_ros.action import ExecuteTask  # noqa: E402

PATIENCE_S = 600.0
TASK = "put the red cube into the bowl"


@pytest.fixture(scope="module", autouse=True)
def ros() -> Iterator[None]:
    rclpy.init()
    yield
    rclpy.try_shutdown()


def test_the_launched_robot_picks_and_places_and_looks_whether_it_is_done(tmp_path: Path) -> None:
    with Launched(tmp_path, "sim.launch.py", "act:=true"):
        person = Person(PATIENCE_S)
        person.arm()
        result, states = person.ask_for(TASK)
    assert (result.status, result.cause) == (ExecuteTask.Result.STATUS_SUCCEEDED, "done")
    assert result.task_confirmed, result.message
    assert [step.skill for step in result.plan.steps] == ["pick", "place", "done"]
    assert "moving" in states
