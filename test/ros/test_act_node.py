"""The real act node under real rclpy: a task in words → goals of the servers' types."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.ros
rclpy = pytest.importorskip("rclpy", reason="rclpy is not importable")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "planning"))

from act_graph import GRIPPER, Graph, first_pick, making_graphs, profile  # noqa: E402
from gated_python import GatedPython  # noqa: E402
from geometry_msgs.msg import TwistStamped  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402
from moveit_msgs.action import MoveGroup  # noqa: E402
from nav_msgs.msg import Path as PathMessage  # noqa: E402
from played_robot import (  # noqa: E402
    CUBE,
    T_WORLD_ARM,
    PlayedFloor,
    ScriptedEngine,
    pick,
    place,
    played,
    tag,
)
from rclpy.node import Node  # noqa: E402
from robot_servers import COLOR, DEPTH, tool_at  # noqa: E402
from rynn_brain_ros.action import ExecuteTask  # noqa: E402
from rynn_brain_ros.msg import GroundingArray, PlanStep  # noqa: E402
from rynn_brain_ros.srv import Approve  # noqa: E402
from sensor_msgs.msg import CompressedImage  # noqa: E402
from std_msgs.msg import String  # noqa: E402

from rynn_brain_ros.geometry import apply  # noqa: E402
from rynn_brain_ros.planning.robots import rover  # noqa: E402
from rynn_brain_ros.ros.telling import Previews, Telling  # noqa: E402
from rynn_brain_ros.values import (  # noqa: E402
    DriveGoal,
    FollowGoal,
    Goal,
    GoalEventKind,
    NavigateGoal,
    RigidTransform,
    SpinGoal,
)


@pytest.fixture(scope="module", autouse=True)
def ros() -> Iterator[None]:
    rclpy.init()
    yield
    rclpy.try_shutdown()


@pytest.fixture
def graphs() -> Iterator[Callable[..., Graph]]:
    yield from making_graphs()


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
        "execute_trajectory",
        "compute_cartesian_path",
        "execute_trajectory",
        GRIPPER,
    ]


def test_by_a_camera_that_two_publish_nothing_moves(graphs: Callable[..., Graph]) -> None:
    graph = graphs()
    graph.bring_up(first_pick(graph))
    assert graph.arm().success
    second = graph.user.create_publisher(CompressedImage, COLOR, 10)
    told = f"{COLOR}: 2 publish it, "
    graph.wait_until(lambda: graph.act.acting.armed_for_s == 0, "the disarming")
    graph.carry_out()
    assert graph.robot.order == []
    again = graph.arm()
    assert not again.success
    assert told in again.message
    graph.user.destroy_publisher(second)
    graph.wait_until(lambda: graph.arm().success, "a camera of one's own")


def test_where_nobody_would_hear_it_stop_nothing_moves(
    graphs: Callable[..., Graph], tmp_path: Path
) -> None:
    graph = graphs(robot=profile(tmp_path, stop_topic="halt"))
    graph.bring_up()
    graph.user.create_subscription(TwistStamped, "halt", lambda _: None, 10)
    graph.wait_until(lambda: graph.act.acting.dangers, "a listener of another type")
    told = graph.arm()
    assert not told.success
    assert told.message == (
        "a stop would not be heard: halt: /user takes geometry_msgs/msg/TwistStamped, and nobody "
        "hears std_msgs/msg/String (the robot profile's stop_topic)"
    )
    graph.wait_until(
        lambda: any(told.message in each.problems for each in graph.status), "its status"
    )
    recorder = Node("rosbag2_recorder")
    recorder.create_subscription(String, "halt", lambda _: None, 10)
    graph.wait_until(lambda: graph.user.count_subscribers("halt") == 2, "one that only looks")
    assert graph.arm().message == told.message
    hears = graph.user.create_subscription(String, "halt", lambda _: None, 10)
    graph.wait_until(lambda: not graph.act.acting.dangers, "one that hears it")
    assert graph.arm().success
    recorder.destroy_node()
    graph.user.destroy_subscription(hears)
    graph.wait_until(lambda: not graph.act.acting.armed_for_s, "the end of its arming")


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


def test_links_that_nobody_tells_are_in_the_status_and_nothing_moves(
    graphs: Callable[..., Graph],
) -> None:
    graph = graphs()
    graph.robot.world.silent = ("panda_link3", "panda_hand")
    picks = [pick(graph.robot.world, "red cube")] * 3
    graph.bring_up(*picks)
    graph.arm()
    missing = "not on /tf, so that the arm goes nowhere: panda_link3, panda_hand"
    graph.wait_until(lambda: graph.status and missing in graph.status[-1].problems, "the status")
    assert graph.carry_out().cause == "no_transform"
    assert graph.robot.order == []


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
    graph.result_of(ending, "the end")
    assert bool(graph.robot.order) is yes


def waiting_step(graph: Graph, after: tuple[str, int] | None = None) -> tuple[str, int]:
    """Question and index of the step that waits for a person's word, as the plan tells them."""

    def asked() -> tuple[str, int] | None:
        if not graph.plans or not graph.plans[-1].steps:
            return None
        plan, step = graph.plans[-1], graph.plans[-1].steps[-1]
        waits = step.state == PlanStep.STATE_PROPOSED
        return (plan.query_id, step.index) if waits else None

    graph.wait_until(lambda: asked() not in (None, after), "a question")
    found = asked()
    assert found is not None
    return found


def say_yes(graph: Graph, question: tuple[str, int]) -> Any:
    word = Approve.Request(query_id=question[0], step_index=question[1], approve=True)
    return graph.call(graph.approve_client, word)


def test_a_yes_to_what_is_carried_to_a_person_opens_no_hand(graphs: Callable[..., Graph]) -> None:
    graph = graphs(require_approval=True)
    world = graph.robot.world

    def give(query: Any) -> str:
        return f"Hand it over at {tag('area', query, world.pixel((*CUBE.xy_m, 0.0)))}."

    graph.bring_up(pick(world, "red cube"), give)
    graph.arm()
    ending = graph.send(max_turns=2).get_result_async()
    picking = waiting_step(graph)
    assert say_yes(graph, picking).success
    carrying = waiting_step(graph, picking)
    assert say_yes(graph, carrying).success
    opening = waiting_step(graph, carrying)
    closed = len(graph.goals(GRIPPER))
    late = say_yes(graph, carrying)
    assert not late.success
    assert f"it is step {opening[1]}" in late.message
    assert "(release, lift, retreat)" in graph.plans[-1].steps[-1].text
    assert len(graph.goals(GRIPPER)) == closed
    assert say_yes(graph, opening).success
    graph.result_of(ending, "the end")
    assert len(graph.goals(GRIPPER)) > closed


def test_each_arrow_that_a_person_is_asked_about_is_a_step_of_its_own(
    graphs: Callable[..., Graph],
) -> None:
    graph, floor = graphs(robot="mobile_base"), PlayedFloor()
    assert graph.transition(Transition.TRANSITION_CONFIGURE)
    acting, shown, asked = graph.act.acting, [], []

    def show(name: str, message: Any) -> None:
        shown.append((name, message))

    previews = Previews(acting.body, acting.wire, show)
    telling = Telling("go on", lambda feedback: None, show, previews, lambda why: None)

    def approve(step: Any, motion: Any) -> bool:
        asked.append(telling.question(step, motion, floor.now_ns()))
        telling.ask_person(motion)
        plan = [message for name, message in shown if name == "plan"][-1]
        assert (plan["query_id"], plan["steps"][-1]["index"]) == asked[-1]
        return True

    robot = rover(dry_run=False, require_approval=True, engine_verdict="not_required")
    robot = replace(robot, executive=replace(robot.executive, max_turns=1))
    engine = ScriptedEngine("↑←")
    played(floor, engine, robot, hear=telling.tell, approve=approve).carry_out("go on")
    assert [index for _, index in asked] == [0, 1]
    plans = [message["steps"] for name, message in shown if name == "plan"]
    both = next(steps for steps in plans if len(steps) == 2)
    assert [step["text"] for step in both] == ["drive +0.25 m", "turn +15°"]
    assert plans[-1] == []
