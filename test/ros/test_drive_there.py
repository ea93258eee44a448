"""A whole task of the simulated base through the launched graph: from the words to where it stands
in the end."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ros, pytest.mark.slow]
rclpy = pytest.importorskip("rclpy", reason="rclpy is not importable")
pytest.importorskip("mujoco", reason="the simulator needs MuJoCo: pip install mujoco")
pytest.importorskip("moveit_msgs", reason="moveit_msgs is not installed")
pytest.importorskip("nav2_msgs", reason="nav2_msgs is not installed")

from action_msgs.msg import GoalStatus, GoalStatusArray  # noqa: E402
from launched import Launched  # noqa: E402
from nav_msgs.msg import Odometry  # noqa: E402
from person import Person  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile  # noqa: E402
from rynn_brain_ros.action import ExecuteTask  # noqa: E402

from rynn_brain_ros.sim.room_tasks import SUCCESS_RADIUS_M, go_to  # noqa: E402

PATIENCE_S = 600.0
SERVERS = ("navigate_to_pose", "navigate_through_poses", "follow_path", "spin", "drive_on_heading")
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@pytest.fixture(scope="module", autouse=True)
def ros() -> Iterator[None]:
    rclpy.init()
    yield
    rclpy.try_shutdown()


def test_the_launched_base_drives_to_what_is_named_and_says_that_it_is_there(
    tmp_path: Path,
) -> None:
    task, places, done = go_to(seed=0), [], {}
    with Launched(tmp_path, "sim.launch.py", "world:=room", "act:=true", "view:=false"):
        person = Person(PATIENCE_S)
        person.node.create_subscription(Odometry, "/odom", places.append, 10)
        for server in SERVERS:
            told = done.setdefault(server, [])
            topic = f"/{server}/_action/status"
            person.node.create_subscription(GoalStatusArray, topic, told.append, LATCHED)
        person.arm()
        result, states = person.ask_for(task.instruction)
    assert (result.status, result.cause) == (ExecuteTask.Result.STATUS_SUCCEEDED, "done")
    assert result.task_confirmed, result.message
    assert "moving" in states
    driven = {server: goals_that_succeeded(told) for server, told in done.items()}
    assert sum(driven.values()) > 0, driven
    place = places[-1].pose.pose.position
    nearest = task.scene.thing(task.target).nearest_to((place.x, place.y))
    assert math.dist((place.x, place.y), nearest) < SUCCESS_RADIUS_M


def goals_that_succeeded(told: list[GoalStatusArray]) -> int:
    ends = (status for message in told for status in message.status_list)
    ids = {bytes(s.goal_info.goal_id.uuid) for s in ends if s.status == GoalStatus.STATUS_SUCCEEDED}
    return len(ids)
