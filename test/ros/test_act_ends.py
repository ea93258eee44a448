"""How what the act node does ends: failures by their own cause, stops, and its own end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.ros
rclpy = pytest.importorskip("rclpy", reason="rclpy is not importable")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "planning"))

from act_graph import (  # noqa: E402
    GRIPPER,
    Graph,
    first_pick,
    making_graphs,
    profile,
)
from builtin_interfaces.msg import Time  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402
from lifecycle_msgs.srv import GetState  # noqa: E402
from mortal import mortal_server  # noqa: E402
from moveit_msgs.action import ExecuteTrajectory  # noqa: E402
from played_robot import ScriptedEngine  # noqa: E402
from rclpy.action import ActionClient  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from rynn_brain_ros.action import ExecuteTask  # noqa: E402

from rynn_brain_ros.models import Engines  # noqa: E402
from rynn_brain_ros.planning.goals import GoalTimeouts  # noqa: E402
from rynn_brain_ros.ros import acting  # noqa: E402
from rynn_brain_ros.values import (  # noqa: E402
    EngineError,
)


@pytest.fixture(scope="module", autouse=True)
def ros() -> Iterator[None]:
    rclpy.init()
    yield
    rclpy.try_shutdown()


@pytest.fixture
def graphs() -> Iterator[Callable[..., Graph]]:
    yield from making_graphs()


# --- what goes wrong ------------------------------------------------------------------------------


def ended_by(graph: Graph, server: str, behaviour: str) -> Any:
    graph.robot.does[server].name = behaviour
    graph.bring_up(first_pick(graph))
    graph.arm()
    return graph.carry_out(max_turns=1)


def why(graph: Graph) -> str:
    return str(graph.plans[-1].steps[-1].reason_text)


@pytest.mark.parametrize(
    ("server", "behaviour", "cause", "told"),
    [
        ("move_action", "abort", "aborted", "PLANNING_FAILED"),
        ("move_action", "reject", "rejected", "the server does not take the goal"),
        ("move_action", "hang", "timeout", "not done within 3 s"),
        ("move_action", "deaf", "lost_server", "the cancel was not answered within 1 s"),
        ("execute_trajectory", "abort", "aborted", "execute_trajectory aborted"),
        ("execute_trajectory", "hang", "timeout", "not done within 3 s"),
        (GRIPPER, "abort", "aborted", "gripper_cmd aborted"),
        (GRIPPER, "reject", "rejected", "does not take the goal"),
    ],
)
def test_every_failure_ends_with_its_own_cause(
    graphs: Callable[..., Graph], server: str, behaviour: str, cause: str, told: str
) -> None:
    graph = graphs()
    ended_by(graph, server, behaviour)
    graph.wait_until(lambda: graph.plans and graph.plans[-1].steps[-1].reason_code == cause, cause)
    assert told in why(graph)
    if behaviour in ("hang", "deaf"):
        graph.wait_until(lambda: graph.robot.stops, "the declared stop")


def test_a_path_that_is_not_whole_is_not_begun(graphs: Callable[..., Graph]) -> None:
    graph = graphs()
    graph.robot.fraction = 0.5
    graph.bring_up(first_pick(graph))
    graph.arm()
    graph.carry_out(max_turns=1)
    graph.wait_until(lambda: graph.plans and "only 50 %" in why(graph), "the plan")
    assert graph.robot.order.count("execute_trajectory") == 1, "the way to before the path"


def test_an_arm_that_moves_for_somebody_else_is_left_to_them(graphs: Callable[..., Graph]) -> None:
    """As by *Plan & Execute* in RViz."""
    graph = graphs()
    graph.robot.does["execute_trajectory"].name = "hang"
    person = ActionClient(graph.user, ExecuteTrajectory, "execute_trajectory")
    graph.wait_until(person.server_is_ready, "the server")
    graph.result_of(person.send_goal_async(ExecuteTrajectory.Goal()))
    graph.bring_up(first_pick(graph))
    graph.arm()
    result = graph.carry_out()
    assert result.cause == "preempted"
    assert "execute_trajectory carries out somebody else's goal" in result.message
    assert graph.robot.order == ["execute_trajectory"]


MORTAL = mortal_server("moveit_msgs/MoveGroup", "mortal/move_action")


def test_a_server_whose_process_dies_is_lost_and_the_stop_is_published(
    graphs: Callable[..., Graph], tmp_path: Path
) -> None:
    graph = graphs(robot=profile(tmp_path, move_action="mortal/move_action"))
    command = [sys.executable, "-c", MORTAL]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as mortal:
        try:
            graph.bring_up(first_pick(graph), timeouts=GoalTimeouts())
            graph.arm()
            ending = graph.send().get_result_async()
            assert mortal.stdout is not None
            assert mortal.stdout.readline() == "taken\n"
        finally:
            mortal.kill()
    result = graph.result_of(ending, "the end").result
    assert (result.status, result.cause) == (ExecuteTask.Result.STATUS_FAILED, "lost_server")
    assert "mortal/move_action is gone" in result.message
    graph.wait_until(lambda: graph.robot.stops, "the declared stop")
    graph.wait_until(
        lambda: any("stopped: lost_server" in p for p in graph.status[-1].problems), "the reason"
    )


def test_without_servers_there_are_previews_only(
    graphs: Callable[..., Graph], tmp_path: Path
) -> None:
    graph = graphs(robot=profile(tmp_path, move_action="nobody/move_action"))
    graph.bring_up(first_pick(graph))
    graph.arm()
    result = graph.carry_out()
    assert result.cause == "lost_server"
    assert "there is no action server at nobody/move_action" in result.message
    graph.wait_until(lambda: graph.texts, "previews")
    missing = "no server at nobody/move_action: previews only"
    graph.wait_until(lambda: graph.status and missing in graph.status[-1].problems, "the status")


def test_a_cancelled_task_stops_the_arm(graphs: Callable[..., Graph]) -> None:
    graph = graphs()
    graph.robot.does["execute_trajectory"].name = "hang"
    graph.bring_up(first_pick(graph), timeouts=GoalTimeouts())
    graph.arm()
    handle = graph.send()
    ending = handle.get_result_async()
    graph.wait_until(lambda: graph.goals("execute_trajectory"), "the goal")
    graph.result_of(handle.cancel_goal_async())
    response = graph.result_of(ending, "the end")
    assert response.status == 5  # action_msgs/GoalStatus.STATUS_CANCELED
    assert response.result.cause == "cancelled"
    assert graph.robot.stops, "MoveIt goes on in spite of a cancel"


def test_deactivation_stops_what_is_in_flight(graphs: Callable[..., Graph]) -> None:
    graph = graphs()
    graph.robot.does["execute_trajectory"].name = "hang"
    graph.bring_up(first_pick(graph), timeouts=GoalTimeouts())
    graph.arm()
    ending = graph.send().get_result_async()
    graph.wait_until(lambda: graph.goals("execute_trajectory"), "the goal")
    assert graph.transition(Transition.TRANSITION_DEACTIVATE)
    assert graph.robot.stops
    assert graph.result_of(ending, "the end").result.status == ExecuteTask.Result.STATUS_CANCELLED
    assert graph.act.acting.armed_for_s == 0.0
    assert not graph.send().accepted


@pytest.mark.parametrize("word", ["disarm", "cancel"])
def test_an_arm_is_stopped_though_the_clock_has_fallen_silent(
    graphs: Callable[..., Graph], word: str
) -> None:
    """A simulator's /clock may die before its controllers do."""
    graph = graphs(use_sim_time=True)
    clock = graph.user.create_publisher(Clock, "/clock", 10)
    ticking = graph.user.create_timer(0.02, lambda: clock.publish(Clock(clock=of_the_wall())))
    graph.robot.does["execute_trajectory"].name = "hang"
    graph.bring_up(first_pick(graph), timeouts=GoalTimeouts())
    graph.wait_until(lambda: graph.arm().success, "a clock")
    handle = graph.send()
    graph.wait_until(lambda: graph.goals("execute_trajectory"), "the goal")
    ticking.cancel()
    if word == "disarm":
        graph.arm(False)
    else:
        graph.result_of(handle.cancel_goal_async())
    graph.wait_until(lambda: graph.robot.stops, "a stop")


def of_the_wall() -> Time:
    seconds, nanosec = divmod(time.time_ns(), 1_000_000_000)
    return Time(sec=seconds, nanosec=nanosec)


def moving(graph: Graph) -> None:
    graph.robot.does["execute_trajectory"].name = "hang"
    graph.bring_up(first_pick(graph), timeouts=GoalTimeouts())
    graph.arm()
    graph.send()
    graph.wait_until(lambda: graph.goals("execute_trajectory"), "the goal")


def test_it_is_not_activated_anew_while_its_thread_goes_on(
    graphs: Callable[..., Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two would move one robot."""
    graph = graphs()
    moving(graph)
    monkeypatch.setattr(acting, "_END_S", 0.01)
    assert graph.transition(Transition.TRANSITION_DEACTIVATE)
    assert not graph.transition(Transition.TRANSITION_ACTIVATE)
    graph.wait_until(lambda: not graph.act.acting.is_alive, "its end")
    assert graph.transition(Transition.TRANSITION_ACTIVATE)


def test_two_may_end_it_at_the_same_time(graphs: Callable[..., Graph]) -> None:
    """As Ctrl-C does while it is being deactivated."""
    graph = graphs()
    moving(graph)
    with ThreadPoolExecutor(2) as both:
        ends = [both.submit(graph.act.acting.stop, "it ends") for _ in range(2)]
        assert [end.result(30.0) for end in ends] == [None, None]
    assert graph.robot.stops
    assert not graph.act.acting.is_alive


@pytest.mark.parametrize("gone", ["camera_on", "with_pose"])
def test_a_camera_or_transforms_that_stop_stop_the_robot(
    graphs: Callable[..., Graph], gone: str
) -> None:
    graph = graphs()
    graph.robot.does["execute_trajectory"].name = "hang"
    graph.bring_up(first_pick(graph), timeouts=GoalTimeouts())
    graph.arm()
    ending = graph.send().get_result_async()
    graph.wait_until(lambda: graph.goals("execute_trajectory"), "the goal")
    setattr(graph.robot.world, gone, False)
    result = graph.result_of(ending, "the end").result
    assert result.cause == "stale"
    assert graph.robot.stops


def test_an_engine_that_fails_is_told_and_moves_nothing(graphs: Callable[..., Graph]) -> None:
    graph = graphs()
    graph.bring_up(*[EngineError("the server is gone")] * 4)
    graph.arm()
    result = graph.carry_out()
    assert (result.cause, "the server is gone" in result.message) == ("engine_failed", True)


class SlowEngine(ScriptedEngine):
    """Thinks until it is cancelled."""

    def ask(self, query: Any, on_text: Any = None, cancel: Any = None) -> Any:
        self.queries.append(query)
        while not cancel.is_set():
            time.sleep(0.005)
        return super().ask(query, on_text, cancel)


def test_an_engine_that_thinks_blocks_nobody_and_is_cancelled(
    graphs: Callable[..., Graph],
) -> None:
    graph = graphs()
    graph.bring_up()
    engine = SlowEngine(forever="Done.")
    graph.act.acting._engines = Engines.one(engine)
    handle = graph.send()
    ending = handle.get_result_async()
    graph.wait_until(lambda: engine.queries, "the question")
    frames = graph.act.acting.eyes.perception.buffer.stats().frames
    grown = graph.act.acting.eyes.perception.buffer.stats
    graph.wait_until(lambda: grown().frames > frames + 3, "pictures meanwhile")
    assert graph.arm().success
    graph.result_of(handle.cancel_goal_async())
    assert graph.result_of(ending, "the end").result.cause == "cancelled"


def test_one_task_at_a_time(graphs: Callable[..., Graph]) -> None:
    graph = graphs()
    graph.bring_up()
    engine = SlowEngine(forever="Done.")
    graph.act.acting._engines = Engines.one(engine)
    first = graph.send()
    graph.wait_until(lambda: engine.queries, "the question")
    assert not graph.send().accepted
    ending = first.get_result_async()
    graph.result_of(first.cancel_goal_async())
    graph.result_of(ending, "the end")


# --- life -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parameters",
    [{"robot": "r2d2"}, {"engine": "telepathy"}, {"engine_verdict": "/nowhere/verdict.json"}],
)
def test_what_cannot_be_configured_fails_configuration(
    graphs: Callable[..., Graph], parameters: dict[str, str]
) -> None:
    assert not graphs(**parameters).transition(Transition.TRANSITION_CONFIGURE)


def test_it_goes_up_and_down_and_still_moves(graphs: Callable[..., Graph]) -> None:
    graph = graphs()
    for _ in range(10):
        assert graph.transition(Transition.TRANSITION_CONFIGURE)
        assert graph.transition(Transition.TRANSITION_ACTIVATE)
        assert graph.transition(Transition.TRANSITION_DEACTIVATE)
        assert graph.transition(Transition.TRANSITION_CLEANUP)
    graph.bring_up(first_pick(graph))
    graph.arm()
    graph.carry_out(max_turns=1)
    assert graph.robot.order


@pytest.mark.parametrize("impatient", [False, True])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_launch_file_brings_it_up_and_a_signal_ends_it(
    number: signal.Signals, impatient: bool, tmp_path: Path
) -> None:
    """As a terminal sends it, to launch and to act. An impatient person does it twice, of which act
    alone is told here: launch itself now and then hangs after its own second one."""
    onlooker = Node("onlooker")
    client = onlooker.create_client(GetState, "/launched/act/get_state")
    executor = SingleThreadedExecutor()
    executor.add_node(onlooker)
    command = ["ros2", "launch", "rynn_brain_ros", "act.launch.py", "namespace:=launched"]
    environment = {**os.environ, "ROS_LOG_DIR": str(tmp_path)}
    told = tmp_path / "told.txt"
    with told.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        deadline, label = time.monotonic() + 60, ""
        while label != "active" and time.monotonic() < deadline:
            if client.wait_for_service(timeout_sec=0.2):
                future = client.call_async(GetState.Request())
                executor.spin_until_future_complete(future, timeout_sec=2.0)
                state = future.result().current_state if future.done() else None
                label = state.label if state else ""
        assert label == "active", told.read_text()
        (act,) = re.findall(r"\[act-1\]: process started with pid \[(\d+)\]", told.read_text())
        os.killpg(process.pid, number)
        if impatient:
            os.kill(int(act), number)
        code = process.wait(timeout=30)
        deadline = time.monotonic() + 30
        while is_running(act) and time.monotonic() < deadline:
            time.sleep(0.01)  # a SIGTERM ends launch before it
        assert not is_running(act)
    finally:
        onlooker.destroy_node()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what is left where something failed
        process.wait()
    assert "Traceback" not in told.read_text(), told.read_text()
    if number is signal.SIGINT:
        assert "[act-1]: process has finished cleanly" in told.read_text(), told.read_text()
        assert code == 0


def is_running(pid: str) -> bool:
    """A zombie is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
