"""The real policy node under real rclpy: a robot publishes, a policy is served over a socket, and a
controller keeps what it is told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.ros
rclpy = pytest.importorskip("rclpy", reason="rclpy is not importable")
for package in ("websockets", "msgpack", "ruckig"):
    pytest.importorskip(package, reason="the extra policy is not installed")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "vla"))

from launched import Launched  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402
from mortal import mortal_server  # noqa: E402
from policy_graph import LEFT, STEP_RAD, Graph, a_of  # noqa: E402
from policy_parts import CONTRACT_TEXT, HOME, HORIZON  # noqa: E402
from rclpy.clock import ClockType  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data  # noqa: E402
from rynn_brain_ros.msg import Plan, PlanStep  # noqa: E402
from std_msgs.msg import String  # noqa: E402

TOPIC = {"output": "trajectory_topic", "controller": "arm"}
GOALS = {"output": "trajectory_action", "controller": "arm"}
WORDS = "conditioning: {plan: /rynn_brain/plan}\n"
TASKS = "tasks: {task: {channel: {topic: /task_prompt, type: std_msgs/msg/String, qos: {QOS}}}}\n"
TRANSIENT_LOCAL = DurabilityPolicy.TRANSIENT_LOCAL

MORTAL = mortal_server("control_msgs/FollowJointTrajectory", "mortal/follow_joint_trajectory")


@pytest.fixture(scope="module", autouse=True)
def ros() -> Iterator[None]:
    rclpy.init()
    yield
    rclpy.try_shutdown()


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[Callable[..., Graph]]:
    graphs: list[Graph] = []

    def make(**parameters: Any) -> Graph:
        graphs.append(Graph(tmp_path, **parameters))
        return graphs[-1]

    yield make
    for each in graphs:
        each.close()


# --- dry run and arming --------------------------------------------------------------------------


def test_a_dry_run_previews_and_commands_nothing(graph: Callable[..., Graph]) -> None:
    running = graph().bring_up()
    running.wait_until(lambda: running.goes(running.previews), "a preview that moves")
    answer = running.arm()
    assert (answer.success, answer.message) == (
        True,
        "armed for 60 s; dry_run is on: nothing moves",
    )
    running.previews.clear()
    running.wait_until(lambda: running.goes(running.previews), "another")
    assert running.robot.commands == []
    assert running.status[-1].dry_run


def test_armed_it_follows_the_policy_in_the_contracts_messages(graph: Callable[..., Graph]) -> None:
    running = graph(dry_run=False).bring_up()
    running.wait_until(lambda: running.goes(running.previews), "a preview that moves")
    assert running.robot.commands == []
    running.moving()
    commands = running.robot.commands
    assert a_of(commands[0]) == pytest.approx(HOME[0])
    assert max(map(a_of, commands)) <= HOME[0] + STEP_RAD * HORIZON + 1e-6
    running.wait_until(lambda: running.status[-1].armed, "a status that says so")
    assert 0 < running.status[-1].armed_for <= 60.0


def test_what_is_disarmed_moves_no_more(graph: Callable[..., Graph]) -> None:
    running = graph(dry_run=False).bring_up().moving()
    assert running.arm(False).message == "disarmed"
    running.problem("stopped: a person disarmed it")
    n = len(running.robot.commands)
    running.previews.clear()
    running.wait_until(lambda: running.goes(running.previews), "a preview that moves")
    assert len(running.robot.commands) == n


def test_an_arming_expires(graph: Callable[..., Graph]) -> None:
    running = graph(dry_run=False, armed_s=1.0).bring_up()
    assert running.arm().success
    running.problem("arming has expired after 1 s")
    assert not running.status[-1].armed


def test_a_system_clock_that_is_set_back_silences_no_timer(graph: Callable[..., Graph]) -> None:
    running = graph(dry_run=False).bring_up().moving()
    assert {timer.clock.clock_type for timer in running.node.timers} == {ClockType.STEADY_TIME}


# --- what it holds for ---------------------------------------------------------------------------


def test_a_policy_that_dies_in_the_middle_of_a_chunk_holds_and_says_so(
    graph: Callable[..., Graph],
) -> None:
    running = graph(dry_run=False, max_failures=1000).bring_up().moving()
    running.endpoint.stop()
    running.problem("policy_failed: ")
    running.robot.commands.clear()
    running.wait_until(lambda: len(running.robot.commands) > 40, "commands to stay")
    told = [a_of(command) for command in running.robot.commands[20:]]
    assert max(told) - min(told) < 1e-6


def test_a_policy_that_is_gone_for_good_disarms(graph: Callable[..., Graph]) -> None:
    running = graph(dry_run=False, max_failures=2, retry_s=0.1).bring_up().moving()
    running.endpoint.stop()
    running.problem("stopped: too_many_failures: 2 requests failed in a row")
    assert not running.status[-1].armed


def test_a_camera_that_is_missing_is_named(graph: Callable[..., Graph]) -> None:
    running = graph()
    running.robot.has_camera = False
    running.bring_up().problem("camera_missing: no picture of wrist: /wrist: nothing usable has")
    running.robot.has_camera = True
    running.wait_until(lambda: running.goes(running.previews), "a preview that moves")


# --- trajectories --------------------------------------------------------------------------------


def test_a_controllers_topic_gets_whole_plans_and_a_hold(graph: Callable[..., Graph]) -> None:
    running = graph(dry_run=False, **TOPIC).bring_up()
    running.wait_until(lambda: running.previews, "a preview")
    assert running.robot.trajectories == []
    assert running.arm().success
    running.wait_until(lambda: running.robot.trajectories, "a trajectory")
    told = running.robot.trajectories[0]
    assert list(told.joint_names) == ["a", "b", "finger"]
    assert list(told.points[-1].velocities) == [0.0] * 3
    assert told.points[-1].positions[0] > HOME[0] + STEP_RAD
    running.arm(False)
    running.wait_until(lambda: len(running.robot.trajectories[-1].points) == 1, "the hold")
    assert running.robot.trajectories[-1].points[0].positions[0] == pytest.approx(HOME[0])


def test_a_controllers_goal_is_replaced_and_at_the_end_cancelled(
    graph: Callable[..., Graph],
) -> None:
    running = graph(dry_run=False, **GOALS)
    running.bring_up()
    assert "no server at arm/follow_joint_trajectory" in running.arm().message
    running.robot.serve()
    running.wait_until(lambda: running.arm().success, "the server")
    running.wait_until(lambda: len(running.robot.goals) >= 3, "newer goals")
    assert running.robot.n_cancels == 0
    assert running.transition(Transition.TRANSITION_DEACTIVATE)
    assert running.robot.n_cancels >= 1
    n = len(running.robot.goals)
    assert running.transition(Transition.TRANSITION_ACTIVATE)
    running.wait_until(lambda: not running.status[-1].armed, "a status")
    assert len(running.robot.goals) == n


@pytest.mark.parametrize("kind", ["gripper_command", "parallel_gripper"])
def test_fingers_that_hold_something_are_no_failure(graph: Callable[..., Graph], kind: str) -> None:
    hand = {"gripper_action": "hand/gripper_action", "gripper_kind": kind}
    running = graph(dry_run=False, **hand, **GOALS)
    running.policy.answer = lambda seen: np.tile([*HOME[:2], 0.0], (HORIZON, 1))
    running.robot.serve()
    running.robot.serve_hand(kind)
    running.bring_up()
    running.wait_until(lambda: running.arm().success, "the servers")
    running.wait_until(lambda: running.robot.grips, "a goal of the hand")
    n = len(running.robot.goals)
    running.wait_until(lambda: len(running.robot.goals) > n, "motion that goes on")
    assert running.robot.grips == [0.0]
    assert running.status[-1].armed


def test_a_controller_that_dies_disarms(graph: Callable[..., Graph]) -> None:
    running = graph(dry_run=False, **{**GOALS, "controller": "mortal"})
    command = [sys.executable, "-c", MORTAL]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as mortal:
        try:
            running.bring_up()
            running.wait_until(lambda: running.arm().success, "the server")
            assert mortal.stdout is not None
            assert mortal.stdout.readline() == "taken\n"
        finally:
            mortal.kill()
    running.problem("stopped: robot_failed: no server at mortal/follow_joint_trajectory")
    assert not running.status[-1].armed


def test_a_process_that_is_ended_cancels_what_is_in_flight(
    graph: Callable[..., Graph], tmp_path: Path
) -> None:
    running = graph(launched=True, **{**GOALS, "controller": "/arm"})
    running.robot.serve()
    arguments = (f"params_file:={running.file}", f"namespace:={LEFT}", "dry_run:=false")
    with Launched(tmp_path / "log", "policy.launch.py", *arguments, "max_velocity:=2"):
        running.wait_until(lambda: running.status, "an active node")
        running.wait_until(lambda: running.arm().success, "the server")
        running.wait_until(lambda: len(running.robot.goals) > 1, "goals")
        assert running.robot.n_cancels == 0
    assert running.robot.n_cancels >= 1


# --- what must fit -------------------------------------------------------------------------------


def test_a_policy_of_another_contract_is_refused_with_the_difference(
    graph: Callable[..., Graph], capfd: pytest.CaptureFixture[str]
) -> None:
    running = graph(trained=CONTRACT_TEXT.replace("fps: 10", "fps: 30"))
    assert not running.transition(Transition.TRANSITION_CONFIGURE)
    assert "rate_hz is 30.0, here it is 10.0" in capfd.readouterr().err


def test_an_endpoint_that_is_not_there_is_told(
    graph: Callable[..., Graph], capfd: pytest.CaptureFixture[str]
) -> None:
    running = graph(url="ws://127.0.0.1:9")
    assert not running.transition(Transition.TRANSITION_CONFIGURE)
    assert "no policy answers at ws://127.0.0.1:9" in capfd.readouterr().err


def test_a_task_that_was_said_before_the_node_is_active_is_done_first(
    graph: Callable[..., Graph],
) -> None:
    running = graph(task="")
    words = running.operator.create_publisher(String, "/policy/task", 10)
    running.wait_until(lambda: words.get_subscription_count() == 1, "the node's subscription")
    words.publish(String(data="wipe the table"))
    words.publish(String(data="stack the plates"))
    running.bring_up()
    running.wait_until(lambda: running.policy.asked, "a policy that is asked")
    assert {seen.instruction for seen, _ in running.policy.asked} == {"stack the plates"}


@pytest.mark.parametrize(
    ("asked", "offered"),
    [
        ("durability: transient_local", QoSProfile(depth=1, durability=TRANSIENT_LOCAL)),
        ("reliability: best_effort", qos_profile_sensor_data),
    ],
)
def test_a_task_is_heard_with_the_contracts_quality_of_service(
    graph: Callable[..., Graph], asked: str, offered: QoSProfile
) -> None:
    running = graph(task="", text=CONTRACT_TEXT + TASKS.replace("QOS", asked))
    words = running.operator.create_publisher(String, "/task_prompt", offered)
    words.publish(String(data="stack the plates"))
    running.bring_up()

    def heard() -> bool:
        if "best_effort" in asked:  # what is latched was said before
            words.publish(String(data="stack the plates"))
        return any(seen.instruction == "stack the plates" for seen, _ in running.policy.asked)

    running.wait_until(heard, "a policy that is told the task")


def test_the_brains_step_comes_from_the_topic_that_is_named(graph: Callable[..., Graph]) -> None:
    running = graph(text=CONTRACT_TEXT + WORDS, plan_topic="/left/brain/plan").bring_up()
    text = "Pick up the <object> cup </object>."

    def told() -> bool:
        running.plans.publish(Plan(steps=[PlanStep(text=text)]))
        return any(seen.step == text for seen, _ in running.policy.asked)

    running.wait_until(told, "a policy that is told the step")
