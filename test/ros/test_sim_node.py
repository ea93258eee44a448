"""The sim node under real rclpy: how it comes up and goes down."""

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

from lifecycle_msgs.msg import Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState, GetState  # noqa: E402
from moveit_msgs.srv import ApplyPlanningScene  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from rynn_brain_ros.srv import Ground  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from sim_graph import LATCHED, SimGraph  # noqa: E402
from tf2_msgs.msg import TFMessage  # noqa: E402

from rynn_brain_ros import messages  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def ros() -> Iterator[None]:
    rclpy.init()
    yield
    rclpy.try_shutdown()


def test_without_a_clock_stamps_are_the_wall_clocks() -> None:
    graph = SimGraph(objects="red cube", publish_clock=False, picture_rate=1.0)
    states = graph.listen(JointState, "/joint_states")
    clock = graph.listen(Clock, "/clock")
    frames = graph.listen(TFMessage, "/tf")
    graph.bring_up()
    graph.wait_until(lambda: len(states) > 20 and bool(frames), "joint states and transforms")
    for header in (states[-1].header, frames[-1].transforms[0].header):
        assert 0 <= (time.time_ns() - messages.stamp_ns_of(header.stamp)) / 1e9 < 2.0
    assert not clock
    graph.close()


def test_a_second_clock_on_the_network_is_told_with_its_publisher(capfd: Any) -> None:
    other = Node("other")
    other.create_publisher(Clock, "/clock", 1)
    graph = SimGraph(other, objects="red cube", picture_rate=1.0)
    said = []

    def told() -> bool:
        said.append(capfd.readouterr().err)
        return "/other publishes /clock too" in "".join(said)

    assert graph.transition(Transition.TRANSITION_CONFIGURE)
    graph.wait_until(lambda: graph.sim.count_publishers("/clock") == 2, "the other clock")
    assert graph.transition(Transition.TRANSITION_ACTIVATE)
    graph.wait_until(told, "the sentence")
    graph.close()


def test_it_goes_up_and_down_again_and_again() -> None:
    graph = SimGraph(objects="red cube", picture_rate=1.0)
    for _ in range(10):
        graph.bring_up()
        assert graph.transition(Transition.TRANSITION_DEACTIVATE)
        assert graph.transition(Transition.TRANSITION_CLEANUP)
    graph.close()


def test_transforms_are_those_of_the_world_that_is_active() -> None:
    graph = SimGraph(objects="red cube", picture_rate=1.0)
    moving = graph.listen(TFMessage, "/tf")
    for seed in (1, 2):
        graph.sim.set_parameters([Parameter("seed", value=seed)])
        graph.bring_up()
        late = graph.listen(TFMessage, "/tf_static", LATCHED)
        graph.wait_until(lambda late=late: bool(late), "/tf_static")
        assert graph.sim.robot is not None
        world = graph.sim.robot.world
        assert messages.transforms_of(late[-1]) == world.static_transforms()
        graph.wait_until(lambda: bool(moving), "/tf")
        names = [(each.parent, each.child) for each in messages.transforms_of(moving[-1])]
        assert names == [(each.parent, each.child) for each in world.transforms()]
        assert graph.transition(Transition.TRANSITION_DEACTIVATE)
        assert graph.transition(Transition.TRANSITION_CLEANUP)
        moving.clear()
    assert graph.sim.count_publishers("/tf") == graph.sim.count_publishers("/tf_static") == 1
    graph.close()


def test_services_of_a_world_that_broke_answer_and_it_can_be_made_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(seconds: float) -> None:
        raise ZeroDivisionError("oh")

    graph = SimGraph(objects="red cube", picture_rate=1.0)
    graph.bring_up()
    assert graph.sim.robot is not None
    monkeypatch.setattr(graph.sim.robot.world, "step", broken)
    graph.wait_until(lambda: not graph.sim._is_active, "the end of the world")
    client = graph.client.create_client(ApplyPlanningScene, "apply_planning_scene")
    assert not graph.call(client, ApplyPlanningScene.Request()).success
    assert graph.transition(Transition.TRANSITION_DEACTIVATE)
    assert graph.transition(Transition.TRANSITION_CLEANUP)
    graph.bring_up()
    assert graph.call(client, ApplyPlanningScene.Request()).success
    graph.close()


def test_a_service_that_fails_says_no_and_the_simulator_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph = SimGraph(objects="red cube", picture_rate=1.0)
    graph.bring_up()
    assert graph.sim.robot is not None

    def fails(_: object) -> None:
        raise ZeroDivisionError("oh")

    client = graph.client.create_client(ApplyPlanningScene, "apply_planning_scene")
    with monkeypatch.context() as broken:
        broken.setattr(graph.sim.robot, "apply_scene", fails)
        assert not graph.call(client, ApplyPlanningScene.Request()).success
    assert graph.call(client, ApplyPlanningScene.Request()).success
    graph.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"objects": "red unicorn"},
        {"scene": "moonlight"},
        {"world": "room", "objects": "red cube"},
        {"publish_clock": False, "realtime_factor": 2.0},
    ],
)
def test_wrong_settings_fail_configuration(wrong: dict[str, Any]) -> None:
    graph = SimGraph(**wrong)
    assert not graph.transition(Transition.TRANSITION_CONFIGURE)
    graph.close()


def running(command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "ROS_LOG_DIR": str(folder)}
    return subprocess.Popen(command, env=environment, stdout=sys.stderr, start_new_session=True)


def asked(node: Node, type_: Any, name: str, request: Any, is_good: Any) -> Any:
    """The first answer that is good, or ``None`` after some patience."""
    client = node.create_client(type_, name)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        if client.wait_for_service(timeout_sec=0.2):
            future = client.call_async(request)
            executor.spin_until_future_complete(future, timeout_sec=5.0)
            if future.done() and is_good(future.result()):
                return future.result()
    return None


def test_the_launch_file_brings_up_a_robot_that_the_brain_sees_and_ctrl_c_ends_it(
    tmp_path: Path,
) -> None:
    command = ["ros2", "launch", "rynn_brain_ros", "sim.launch.py", "objects:=red cube"]
    command.append("namespace:=launched")  # nobody here was ever called so
    node = Node("onlooker")
    process = running(command, tmp_path)
    try:
        request = Ground.Request(target="the red cube")
        answer = asked(node, Ground, "/launched/brain/ground", request, lambda got: got.success)
        shown = asked(
            node,
            GetState,
            "/launched/view/get_state",
            GetState.Request(),
            lambda got: got.current_state.label == "active",
        )
    finally:
        os.killpg(process.pid, signal.SIGINT)
        code = process.wait(timeout=60)
        node.destroy_node()
    assert answer is not None
    assert answer.target.header.frame_id == "panda_link0"
    assert shown is not None
    assert code == 0


@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_node_cleanly_while_its_world_goes_on(
    tmp_path: Path, signal_: signal.Signals
) -> None:
    script = "import sys; from rynn_brain_ros.ros.sim_node import main; sys.exit(main())"
    name = f"sim_{signal_.name.lower()}"
    command = [sys.executable, "-c", script, "--ros-args", "-p", "objects:=red cube"]
    command += ["-r", f"__node:={name}"]
    node = Node("onlooker")
    process = running(command, tmp_path)
    try:
        for step in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            request = ChangeState.Request(transition=Transition(id=step))
            assert asked(
                node, ChangeState, f"/{name}/change_state", request, lambda got: got.success
            )
    finally:
        process.send_signal(signal_)
        time.sleep(0.1)  # a terminal's Ctrl-C comes from the terminal and from ros2 launch
        process.send_signal(signal_)
        code = process.wait(timeout=60)
        node.destroy_node()
    assert code == 0
