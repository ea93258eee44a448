"""The real act node under real rclpy: a task in words → goals of the servers' types → its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.ros
rclpy = pytest.importorskip("rclpy", reason="rclpy is not importable")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "planning"))

from gated_python import GatedPython  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState, GetState  # noqa: E402
from moveit_msgs.action import MoveGroup  # noqa: E402
from nav_msgs.msg import Path as PathMessage  # noqa: E402
from played_robot import CUBE, T_WORLD_ARM, ScriptedEngine, pick, place  # noqa: E402
from rclpy.action import ActionClient  # noqa: E402
from rclpy.executors import MultiThreadedExecutor, SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from robot_servers import COLOR, DEPTH, RobotServers, tool_at  # noqa: E402
from rynn_brain_ros.action import ExecuteTask  # noqa: E402
from rynn_brain_ros.msg import BrainStatus, GroundingArray, Plan  # noqa: E402
from rynn_brain_ros.srv import Approve  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from std_srvs.srv import SetBool  # noqa: E402

from rynn_brain_ros.geometry import apply  # noqa: E402
from rynn_brain_ros.models import Engines  # noqa: E402
from rynn_brain_ros.planning.goals import GoalTimeouts  # noqa: E402
from rynn_brain_ros.planning.watchdog import WatchdogLimits  # noqa: E402
from rynn_brain_ros.ros.act_node import ActNode  # noqa: E402
from rynn_brain_ros.values import (  # noqa: E402
    DriveGoal,
    EngineError,
    FollowGoal,
    Goal,
    GoalEventKind,
    NavigateGoal,
    RigidTransform,
    SpinGoal,
)

PATIENCE_S = 40.0
GRIPPER = "panda_hand_controller/gripper_cmd"
TASK = "put the red cube on the table"
PATIENT = WatchdogLimits(max_frame_age_s=6.0, max_transform_age_s=6.0)
"""A busy machine may need seconds between two pictures."""
QUICK = GoalTimeouts(accept_s=2.0, silence_s=2.0, cancel_s=1.0, arm_s=3.0)


def profile(folder: Path, **changes: str) -> str:
    """The Panda's profile with other names of its servers."""
    text = yaml.safe_dump(
        {"name": "changed", "arm": changes, "gripper": {"kind": "gripper_command"}}
    )
    path = folder / "changed.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


class Graph:
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
        self.spinner = threading.Thread(target=self.executor.spin, daemon=True)
        self.spinner.start()
        self.change = self.user.create_client(ChangeState, "/act/change_state")
        self.arm_client = self.user.create_client(SetBool, "/act/arm")
        self.approve_client = self.user.create_client(Approve, "/act/approve")
        self.tasks = ActionClient(self.user, ExecuteTask, "/act/execute_task")

    def wait_until(self, condition: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"waited {PATIENCE_S} s for {what}"
            time.sleep(0.005)  # another thread spins: look again

    def call(self, client: Any, request: Any) -> Any:
        self.wait_until(client.service_is_ready, client.srv_name)
        return self.result(client.call_async(request), client.srv_name)

    def result(self, future: Any, what: str = "an answer") -> Any:
        self.wait_until(future.done, what)
        return future.result()

    def transition(self, transition_id: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition_id))
        return bool(self.call(self.change, request).success)

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
        return self.result(self.tasks.send_goal_async(request, keep))

    def carry_out(self, **goal: Any) -> Any:
        """The task's result."""
        return self.result(self.send(**goal).get_result_async(), "the end of the task").result

    def goals(self, server: str) -> list[Any]:
        return self.robot.does[server].goals

    def close(self) -> None:
        self.robot.close()
        self.act.release()
        self.executor.shutdown()
        self.spinner.join()
        for node in (self.act, self.user, self.robot):
            node.destroy_node()


@pytest.fixture(scope="module", autouse=True)
def ros() -> Iterator[None]:
    rclpy.init()
    yield
    rclpy.try_shutdown()


@pytest.fixture
def graphs() -> Iterator[Callable[..., Graph]]:
    made: list[Graph] = []

    def make(**parameters: Any) -> Graph:
        made.append(Graph(**parameters))
        return made[-1]

    yield make
    for graph in made:
        graph.close()


def first_pick(graph: Graph) -> Any:
    return pick(graph.robot.world, "red cube")


# --- a task from the words to the goals -----------------------------------------------------------


def test_a_pick_and_place_is_carried_out_and_confirmed(graphs: Callable[..., Graph]) -> None:
    graph = graphs()
    world = graph.robot.world
    graph.bring_up(pick(world, "red cube"), place(world, (0.45, -0.05)), "Done.")
    graph.arm()
    result = graph.carry_out()
    assert result.status == ExecuteTask.Result.STATUS_SUCCEEDED, result.message
    assert (result.cause, result.task_confirmed) == ("done", True)
    assert [step.skill for step in result.plan.steps] == ["pick", "place", "done"]
    x, y = world.things["red cube"].xy_m
    assert (x, y) == (pytest.approx(0.45, abs=0.02), pytest.approx(-0.05, abs=0.02))
    assert graph.robot.order[:6] == [
        GRIPPER,
        "move_action",
        "compute_cartesian_path",
        "execute_trajectory",
        GRIPPER,
        "compute_cartesian_path",
    ]


def test_the_servers_receive_the_goal_as_it_was_meant(graphs: Callable[..., Graph]) -> None:
    graph = graphs()
    graph.bring_up(first_pick(graph))
    graph.arm()
    graph.carry_out(max_turns=1)
    sent = graph.goals("move_action")[0]
    request, (wanted,) = sent.request, sent.request.goal_constraints
    (position,), (orientation,) = wanted.position_constraints, wanted.orientation_constraints
    tool = tool_at(position.constraint_region.primitive_poses[0].position, orientation.orientation)
    above = apply(T_WORLD_ARM, tool.translation_m)[0]
    assert above[:2] == pytest.approx(CUBE.xy_m, abs=0.01)
    assert above[2] == pytest.approx(0.12 + 0.03, abs=0.04)
    assert (request.group_name, position.link_name) == ("panda_arm", "panda_link8")
    assert request.max_velocity_scaling_factor == pytest.approx(0.6 * 0.3)
    assert request.start_state.is_diff
    scene = sent.planning_options.planning_scene_diff
    assert scene.is_diff
    assert [box.id for box in scene.world.collision_objects] == ["rynn_brain_target"]
    first, second = graph.goals(GRIPPER)[:2]
    assert first.command.position > 0.025  # half of an opening wider than the cube
    assert (second.command.position, second.command.max_effort) == (0.0, 30.0)
    held = graph.goals("move_action")[-1].planning_options.planning_scene_diff.robot_state
    assert [body.link_name for body in held.attached_collision_objects] == ["panda_link8"]


def test_feedback_tells_what_is_done_and_what_was_said(graphs: Callable[..., Graph]) -> None:
    graph = graphs()
    graph.bring_up(first_pick(graph))
    graph.arm()
    graph.carry_out(max_turns=1)
    states = [feedback.state for feedback in graph.feedback]
    assert list(dict.fromkeys(states)) == ["asking", "checking", "moving", "looking"]
    assert "Pick up the red cube" in graph.feedback[-1].partial_text
    assert graph.feedback[-1].step.skill == "pick"


@pytest.mark.parametrize(
    ("goal", "server", "check"),
    [
        (
            NavigateGoal(RigidTransform("map", "base_link", (2.0, 1.0, 0.0))),
            "navigate_to_pose",
            lambda g: (g.pose.header.frame_id, g.pose.pose.position.x) == ("map", 2.0),
        ),
        (
            FollowGoal((RigidTransform("map", "base_link", (1.0, 0.5, 0.0)),)),
            "follow_path",
            lambda g: [p.pose.position.y for p in g.path.poses] == [0.5],
        ),
        (SpinGoal(0.5), "spin", lambda g: g.target_yaw == 0.5),
        (DriveGoal(0.25), "drive_on_heading", lambda g: g.target.x == 0.25),
        (DriveGoal(-0.25), "backup", lambda g: g.target.x == 0.25),
    ],
)
def test_a_base_sends_nav2_what_it_is_asked(
    graphs: Callable[..., Graph], goal: Goal, server: str, check: Callable[[Any], bool]
) -> None:
    graph = graphs(robot="mobile_base")
    assert graph.transition(Transition.TRANSITION_CONFIGURE)
    acting = graph.act.acting
    graph.wait_until(lambda: not acting.wire.absent(), "servers")
    acting.actuator.send("a", goal)
    events: list[Any] = []

    def ended() -> bool:
        events.extend(acting.actuator.poll())
        return bool(events) and events[-1].kind.is_final

    graph.wait_until(ended, "the end")
    assert [events[0].kind, events[-1].kind] == [GoalEventKind.ACCEPTED, GoalEventKind.SUCCEEDED]
    assert check(graph.goals(server)[0])


# --- what it sees and answers with ----------------------------------------------------------------

TWO_CAMERAS = {
    "cameras": "tail, front",
    "tail.color_topic": "/tail/color/image_raw",
    "front.color_topic": COLOR,
    "front.color_info_topic": "/camera/color/camera_info",
    "front.depth_topic": DEPTH,
}


@pytest.mark.parametrize("camera", ["front", COLOR])
def test_a_task_names_its_camera_by_name_or_by_topic(
    graphs: Callable[..., Graph], camera: str
) -> None:
    graph = graphs(**TWO_CAMERAS)
    engine = graph.bring_up(first_pick(graph))
    graph.arm()
    graph.carry_out(max_turns=1, camera=camera)
    assert {frame.frame.camera for frame in engine.queries[0].frames} == {COLOR}
    assert graph.robot.order


def test_a_task_that_names_no_camera_means_the_first(graphs: Callable[..., Graph]) -> None:
    graph = graphs(**TWO_CAMERAS)
    engine = graph.bring_up(first_pick(graph))
    graph.arm()
    result = graph.carry_out()
    assert (result.cause, engine.queries) == ("stale", [])
    assert "/tail/color/image_raw: no new image" in result.message
    missing = "no image has arrived on /tail/color/image_raw: is the camera publishing?"
    graph.wait_until(lambda: graph.status and missing in graph.status[-1].problems, "the status")


def test_a_task_for_an_unknown_camera_is_not_taken(graphs: Callable[..., Graph]) -> None:
    graph = graphs(**TWO_CAMERAS)
    graph.bring_up()
    assert not graph.send(camera="nose").accepted


def test_an_engine_in_its_own_process_is_waited_for_by_name(
    graphs: Callable[..., Graph], tmp_path: Path
) -> None:
    python = GatedPython(tmp_path)
    graph = graphs(engine_python=str(python.path), dry_run=True)
    assert graph.transition(Transition.TRANSITION_CONFIGURE)
    graph.wake()
    starting = "color-baseline is being started"
    graph.wait_until(lambda: graph.status and starting in graph.status[-1].problems, "the status")
    result = graph.carry_out()
    assert (result.cause, starting in result.message) == ("engine_failed", True)
    python.open()
    graph.wait_until(lambda: starting not in graph.status[-1].problems, "the engine")
    assert graph.carry_out(task="pick up the red cube").cause == "dry_run"
    graph.wait_until(lambda: graph.status[-1].last_answer_latency > 0, "the latency in the status")


def test_a_local_model_needs_a_python_of_its_own(graphs: Callable[..., Graph]) -> None:
    assert not graphs(engine="local:/models/x").transition(Transition.TRANSITION_CONFIGURE)


def test_an_answer_is_published_once_and_its_markers_are_left_to_view(
    graphs: Callable[..., Graph],
) -> None:
    graph = graphs(dry_run=True)
    told: list[Any] = []
    graph.user.create_subscription(GroundingArray, "/act/groundings", told.append, 10)
    graph.bring_up(first_pick(graph))
    graph.wait_until(lambda: graph.user.count_publishers("/act/groundings"), "groundings")
    graph.carry_out(max_turns=1)
    graph.wait_until(lambda: told, "the groundings")
    assert len(told) == 1
    assert graph.user.count_publishers("/act/markers") == 0


# --- what keeps it from moving --------------------------------------------------------------------


def test_a_dry_run_previews_the_same_goals_and_sends_none(graphs: Callable[..., Graph]) -> None:
    graph = graphs(dry_run=True)
    engine = graph.bring_up(*[first_pick(graph)] * 4)
    previews: list[Any] = []
    paths: list[Any] = []
    graph.user.create_subscription(MoveGroup.Goal, "/act/preview/move_action", previews.append, 10)
    graph.user.create_subscription(PathMessage, "/act/preview/path", paths.append, 10)
    graph.wait_until(lambda: graph.user.count_publishers("/act/preview/path"), "previews")
    result = graph.carry_out()
    assert (result.status, result.cause) == (ExecuteTask.Result.STATUS_REFUSED, "dry_run")
    graph.wait_until(lambda: previews and paths, "previews")
    (wanted,) = previews[0].request.goal_constraints
    assert wanted.position_constraints or wanted.joint_constraints
    assert paths[0].header.frame_id == "panda_link0"
    assert any("server: move_action" in text.data for text in graph.texts)
    assert graph.robot.order == []
    assert graph.robot.stops == []
    assert engine.queries


def test_a_task_may_ask_for_a_dry_run(graphs: Callable[..., Graph]) -> None:
    graph = graphs()
    graph.bring_up(*[first_pick(graph)] * 4)
    graph.arm()
    assert graph.carry_out(dry_run=True).cause == "dry_run"
    assert graph.robot.order == []


def test_nothing_moves_before_it_is_armed(graphs: Callable[..., Graph]) -> None:
    graph = graphs()
    graph.bring_up(*[first_pick(graph)] * 4)
    assert graph.carry_out().cause == "not_armed"
    assert graph.robot.order == []


def test_arming_is_seen_in_the_status_and_expires(graphs: Callable[..., Graph]) -> None:
    graph = graphs(armed_s=3.0)
    graph.bring_up(*[first_pick(graph)] * 4)
    assert graph.arm().message == "armed for 3 s"
    graph.wait_until(lambda: any(s.armed and 0 < s.armed_for <= 3 for s in graph.status), "armed")
    graph.wait_until(lambda: not graph.status[-1].armed, "expiry")
    assert graph.carry_out().cause == "not_armed"


def test_disarming_holds_at_once(graphs: Callable[..., Graph]) -> None:
    graph = graphs()
    graph.bring_up(*[first_pick(graph)] * 4)
    graph.arm()
    assert graph.arm(on=False).success
    assert graph.carry_out().cause == "not_armed"


def test_an_engine_without_a_verdict_moves_nothing(graphs: Callable[..., Graph]) -> None:
    graph = graphs(engine_verdict="")
    graph.bring_up(*[first_pick(graph)] * 4)
    graph.arm()
    assert graph.carry_out().cause == "engine_unchecked"
    assert graph.robot.order == []


@pytest.mark.parametrize("yes", [True, False])
def test_a_person_is_asked_and_their_word_counts(graphs: Callable[..., Graph], yes: bool) -> None:
    graph = graphs(require_approval=True)
    graph.bring_up(*[first_pick(graph)] * 4)
    graph.arm()
    ending = graph.send(max_turns=1).get_result_async()
    waiting = "waiting_for_approval"
    graph.wait_until(lambda: graph.feedback and graph.feedback[-1].state == waiting, "a question")
    wrong = graph.call(graph.approve_client, Approve.Request(query_id="nobody", approve=True))
    assert not wrong.success
    assert "does not wait" in wrong.message
    graph.wait_until(lambda: graph.plans, "the plan")
    plan = graph.plans[-1]
    word = Approve.Request(query_id=plan.query_id, step_index=plan.steps[-1].index, approve=yes)
    assert graph.robot.order == []
    assert graph.call(graph.approve_client, word).success
    graph.result(ending, "the end")
    assert bool(graph.robot.order) is yes


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
        ("move_action", "deaf", "timeout", "the cancel was not answered within 1 s"),
        ("execute_trajectory", "abort", "aborted", "execute_trajectory aborted"),
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
    if cause == "timeout":
        graph.wait_until(lambda: graph.robot.stops, "the declared stop")


def test_a_path_that_is_not_whole_is_not_begun(graphs: Callable[..., Graph]) -> None:
    graph = graphs()
    graph.robot.fraction = 0.5
    graph.bring_up(first_pick(graph))
    graph.arm()
    graph.carry_out(max_turns=1)
    graph.wait_until(lambda: graph.plans and "only 50 %" in why(graph), "the plan")
    assert "execute_trajectory" not in graph.robot.order


MORTAL = """
import time, rclpy
from moveit_msgs.action import MoveGroup
from rclpy.action import ActionServer

def work(goal):
    print("taken", flush=True)
    time.sleep(1e4)

rclpy.init()
node = rclpy.create_node("mortal")
server = ActionServer(node, MoveGroup, "mortal/move_action", work)
rclpy.spin(node)
"""


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
    result = graph.result(ending, "the end").result
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


def test_a_cancelled_task_cancels_the_goal(graphs: Callable[..., Graph]) -> None:
    graph = graphs()
    graph.robot.does["move_action"].name = "hang"
    graph.bring_up(first_pick(graph), timeouts=GoalTimeouts())
    graph.arm()
    handle = graph.send()
    ending = handle.get_result_async()
    graph.wait_until(lambda: graph.goals("move_action"), "the goal")
    graph.result(handle.cancel_goal_async())
    response = graph.result(ending, "the end")
    assert response.status == 5  # action_msgs/GoalStatus.STATUS_CANCELED
    assert response.result.cause == "cancelled"
    assert graph.robot.does["move_action"].cancels == 1


def test_deactivation_cancels_what_is_in_flight(graphs: Callable[..., Graph]) -> None:
    graph = graphs()
    graph.robot.does["move_action"].name = "hang"
    graph.bring_up(first_pick(graph), timeouts=GoalTimeouts())
    graph.arm()
    ending = graph.send().get_result_async()
    graph.wait_until(lambda: graph.goals("move_action"), "the goal")
    assert graph.transition(Transition.TRANSITION_DEACTIVATE)
    assert graph.robot.does["move_action"].cancels == 1
    assert graph.result(ending, "the end").result.status == ExecuteTask.Result.STATUS_CANCELLED
    assert graph.act.acting.armed_for_s == 0.0
    assert not graph.send().accepted


@pytest.mark.parametrize("gone", ["camera_on", "with_pose"])
def test_a_camera_or_transforms_that_stop_stop_the_robot(
    graphs: Callable[..., Graph], gone: str
) -> None:
    graph = graphs()
    graph.robot.does["move_action"].name = "hang"
    graph.bring_up(first_pick(graph), timeouts=GoalTimeouts())
    graph.arm()
    ending = graph.send().get_result_async()
    graph.wait_until(lambda: graph.goals("move_action"), "the goal")
    setattr(graph.robot.world, gone, False)
    result = graph.result(ending, "the end").result
    assert result.cause == "stale"
    assert graph.robot.does["move_action"].cancels == 1
    graph.wait_until(lambda: graph.robot.stops, "the declared stop")


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
    graph.result(handle.cancel_goal_async())
    assert graph.result(ending, "the end").result.cause == "cancelled"


def test_one_task_at_a_time(graphs: Callable[..., Graph]) -> None:
    graph = graphs()
    graph.bring_up()
    engine = SlowEngine(forever="Done.")
    graph.act.acting._engines = Engines.one(engine)
    first = graph.send()
    graph.wait_until(lambda: engine.queries, "the question")
    assert not graph.send().accepted
    ending = first.get_result_async()
    graph.result(first.cancel_goal_async())
    graph.result(ending, "the end")


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_launch_file_brings_it_up_and_a_signal_ends_it(
    number: signal.Signals, tmp_path: Path
) -> None:
    onlooker = Node("onlooker")
    client = onlooker.create_client(GetState, "/launched/act/get_state")
    executor = SingleThreadedExecutor()
    executor.add_node(onlooker)
    command = ["ros2", "launch", "rynn_brain_ros", "act.launch.py", "namespace:=launched"]
    environment = {**os.environ, "ROS_LOG_DIR": str(tmp_path)}
    process = subprocess.Popen(command, env=environment, stdout=sys.stderr, start_new_session=True)
    try:
        deadline, label = time.monotonic() + 60, ""
        while label != "active" and time.monotonic() < deadline:
            if client.wait_for_service(timeout_sec=0.2):
                future = client.call_async(GetState.Request())
                executor.spin_until_future_complete(future, timeout_sec=2.0)
                state = future.result().current_state if future.done() else None
                label = state.label if state else ""
        assert label == "active"
    finally:
        os.killpg(process.pid, number)
        os.killpg(process.pid, number)  # an impatient person does it twice
        code = process.wait(timeout=30)
        onlooker.destroy_node()
    assert code == 0 if number is signal.SIGINT else code in (0, -number, 1)
