"""The brain's life: up and down many times, and every way to end it, twice in a row too."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.ros
rclpy = pytest.importorskip("rclpy", reason="rclpy is not importable")

from ament_index_python.packages import get_package_prefix  # noqa: E402
from brain_graph import Graph, now_ns  # noqa: E402
from launched import Launched  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState, GetState  # noqa: E402
from rcl_interfaces.srv import GetParameters  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402

from rynn_brain_ros.planning import Perception  # noqa: E402
from rynn_brain_ros.ros.spinning import execute  # noqa: E402

_PAGE = os.sysconf("SC_PAGE_SIZE")
PATIENCE_S = 60.0


@pytest.fixture(scope="module", autouse=True)
def ros() -> Iterator[None]:
    rclpy.init()
    yield
    rclpy.try_shutdown()


@pytest.fixture
def graph() -> Iterator[Graph]:
    made = Graph()
    yield made
    made.close()


def resident_bytes() -> int:
    """Without what glibc keeps for later, of which each new thread's arena has some."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE


def perceptions() -> int:
    gc.collect()
    return sum(isinstance(thing, Perception) for thing in gc.get_objects())


def test_fifty_times_up_and_down_leave_nothing_behind(graph: Graph) -> None:
    def cycle() -> None:
        graph.bring_up()
        graph.show(now_ns())
        assert graph.ask("the red cube").success
        assert graph.transition(Transition.TRANSITION_DEACTIVATE)
        assert graph.transition(Transition.TRANSITION_CLEANUP)

    def counts() -> tuple[int, ...]:
        brain = graph.brain
        kept = (brain.subscriptions, brain.publishers, brain.timers, brain.services)
        return (threading.active_count(), perceptions(), *(len(list(each)) for each in kept))

    for _ in range(10):
        cycle()
    before, before_bytes = counts(), resident_bytes()
    for _ in range(40):
        cycle()
    (n_threads, *kept), (n_threads_before, *kept_before) = counts(), before
    assert kept == kept_before
    assert n_threads <= n_threads_before  # fewer where those of an earlier test have ended
    # A frame is 1.5 MB: forty of them kept would be 60.
    assert resident_bytes() - before_bytes < 20 << 20


def test_a_transition_that_its_state_does_not_have_is_refused_and_harms_nothing(
    graph: Graph,
) -> None:
    assert not graph.transition(Transition.TRANSITION_ACTIVATE)
    graph.bring_up()
    assert not graph.transition(Transition.TRANSITION_CONFIGURE)
    graph.show(now_ns())
    assert graph.ask("the red cube").success


def test_it_is_shut_down_by_lifecycle_twice_in_a_row(graph: Graph) -> None:
    graph.bring_up()
    assert graph.transition(Transition.TRANSITION_ACTIVE_SHUTDOWN)
    assert not graph.transition(Transition.TRANSITION_ACTIVE_SHUTDOWN)
    graph.brain.release()
    assert "not active" in graph.ask("the red cube").message


class Onlooker:
    """Sees and changes the state of a brain in another process."""

    def __init__(self, brain: str) -> None:
        self.node = Node("onlooker")
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self._state = self.node.create_client(GetState, f"{brain}/get_state")
        self._change = self.node.create_client(ChangeState, f"{brain}/change_state")

    def change(self, transition: int) -> None:
        assert self._change.wait_for_service(timeout_sec=PATIENCE_S)
        request = ChangeState.Request(transition=Transition(id=transition))
        future = self._change.call_async(request)
        self.executor.spin_until_future_complete(future, timeout_sec=PATIENCE_S)
        assert future.result().success

    def wait_until_active(self) -> None:
        deadline, label = time.monotonic() + PATIENCE_S, ""
        while label != "active":
            assert time.monotonic() < deadline, f"it is {label or 'not there'}"
            if self._state.wait_for_service(timeout_sec=0.2):
                future = self._state.call_async(GetState.Request())
                self.executor.spin_until_future_complete(future, timeout_sec=2.0)
                label = future.result().current_state.label if future.done() else ""

    def parameter(self, node: str, name: str) -> Any:
        client = self.node.create_client(GetParameters, f"{node}/get_parameters")
        assert client.wait_for_service(timeout_sec=PATIENCE_S)
        future = client.call_async(GetParameters.Request(names=[name]))
        self.executor.spin_until_future_complete(future, timeout_sec=PATIENCE_S)
        return future.result().values[0]

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("times", [1, 2])
def test_a_signal_ends_an_active_brain_without_a_word(number: int, times: int) -> None:
    name = f"signalled_{int(number)}_{times}"
    command = Path(get_package_prefix("rynn_brain_ros")) / "lib/rynn_brain_ros/brain"
    process = subprocess.Popen(
        [command, "--ros-args", "-r", f"__ns:=/{name}"], stderr=subprocess.PIPE, text=True
    )
    onlooker = Onlooker(f"/{name}/brain")
    try:
        onlooker.change(Transition.TRANSITION_CONFIGURE)
        onlooker.change(Transition.TRANSITION_ACTIVATE)
        for _ in range(times):
            process.send_signal(number)
        _, said = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        onlooker.close()
    assert process.returncode == 0, said
    assert "Traceback" not in said
    assert "rror" not in said


def test_the_launch_file_brings_up_an_active_brain_and_ctrl_c_ends_it(tmp_path: Path) -> None:
    with (
        Launched(tmp_path, "brain.launch.py", "namespace:=launched"),
        closing(Onlooker("/launched/brain")) as onlooker,
    ):
        onlooker.wait_until_active()


def test_several_nodes_live_in_one_process_and_end_by_ctrl_c() -> None:
    name = f"together_{os.getpid()}"
    command = Path(get_package_prefix("rynn_brain_ros")) / "lib/rynn_brain_ros/together"
    arguments = ["brain", "view", "--ros-args", "-r", f"__ns:=/{name}", "-p", "autostart:=true"]
    with subprocess.Popen([command, *arguments], stderr=subprocess.PIPE, text=True) as process:
        try:
            for node in ("brain", "view"):
                with closing(Onlooker(f"/{name}/{node}")) as onlooker:
                    onlooker.wait_until_active()
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    assert process.returncode == 0, said
    assert "Traceback" not in said


_ENDING = """
import os, signal, threading
from rclpy.node import Node
from rynn_brain_ros.ros import together

def class_of(name):
    class Ends(Node):
        def __init__(self):
            super().__init__(f"{name}_{os.getpid()}")
        def release(self):
            print(name, flush=True)
            if name == "act":
                raise ValueError("it does not end well")
    return Ends

together._class_of = class_of
threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
raise SystemExit(together.main(["view", "brain", "policy", "act"]))
"""


def test_what_moves_a_robot_ends_first_and_who_fails_at_it_keeps_nobody() -> None:
    command = [sys.executable, "-c", _ENDING]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.stdout.split() == ["policy", "act", "view", "brain"]
    assert "it does not end well" in ended.stderr
    assert ended.returncode == 1


class Cancelled:
    """A goal whose cancel comes between the two things that beginning it does."""

    is_cancel_requested = False
    begun = 0

    def execute(self) -> None:
        if not self.is_cancel_requested:
            self.is_cancel_requested = True
            raise RuntimeError("goal_handle attempted invalid transition")
        self.begun += 1


def test_a_goal_that_is_cancelled_while_it_begins_is_begun() -> None:
    goal = Cancelled()
    execute(goal)
    assert goal.begun == 1


@pytest.mark.parametrize("names", [[], ["brian"], ["brain", "brain"]])
def test_nodes_that_are_not_there_are_named(names: list[str]) -> None:
    command = Path(get_package_prefix("rynn_brain_ros")) / "lib/rynn_brain_ros/together"
    ended = subprocess.run([command, *names], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "ros2 run rynn_brain_ros together brain act policy view record sim" in ended.stderr


def test_every_node_can_be_brought_up_and_down_many_times() -> None:
    script = Path(__file__).resolve().parents[2] / "scripts" / "lifecycle_rounds.py"
    command = [sys.executable, script, "brian"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "{brain,act,policy,view,record,sim}" in ended.stderr


def test_without_autostart_it_waits_for_a_manager(tmp_path: Path) -> None:
    with (
        Launched(
            tmp_path, *("brain.launch.py", "namespace:=managed", "view:=false"), "autostart:=false"
        ),
        closing(Onlooker("/managed/brain")) as onlooker,
    ):
        onlooker.change(Transition.TRANSITION_CONFIGURE)  # which only an unconfigured node takes
        onlooker.change(Transition.TRANSITION_ACTIVATE)
        onlooker.wait_until_active()


def test_two_robots_on_one_network_have_brains_and_cameras_of_their_own(tmp_path: Path) -> None:
    brain = ("brain.launch.py", "view:=false")
    with (
        Launched(tmp_path / "a", *brain, "namespace:=left", "camera:=front,wrist"),
        Launched(tmp_path / "b", *brain, "namespace:=right", "camera:=front"),
        closing(Onlooker("/left/brain")) as left,
        closing(Onlooker("/right/brain")) as right,
    ):
        left.wait_until_active()
        right.wait_until_active()
        for topic, brain in (
            ("/left/wrist/color/image_raw", "/left"),
            ("/left/front/aligned_depth_to_color/image_raw", "/left"),
            ("/right/front/color/image_raw", "/right"),
            ("/left/tf", "/left"),
            ("/right/tf_static", "/right"),
        ):
            listeners = left.node.get_subscriptions_info_by_topic(topic)
            assert [listener.node_namespace for listener in listeners] == [brain], topic


def test_with_a_robot_act_is_brought_up_and_previews_only(tmp_path: Path) -> None:
    with (
        Launched(
            tmp_path,
            *("brain.launch.py", "namespace:=robot", "camera:=front,wrist"),
            *("robot:=franka_panda", f"engine_python:={sys.executable}", "view:=false"),
        ),
        closing(Onlooker("/robot/act")) as act,
    ):
        act.wait_until_active()
        assert act.parameter("/robot/act", "dry_run").bool_value
        wrist = act.parameter("/robot/act", "wrist.color_topic").string_value
        assert wrist == "wrist/color/image_raw"
        assert act.parameter("/robot/act", "engine_python").string_value == sys.executable
