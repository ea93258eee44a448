"""The real brain node under real rclpy: an RGB-D publisher → question → grounding in space."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = pytest.mark.ros
rclpy = pytest.importorskip("rclpy", reason="rclpy is not importable")

from brain_graph import SECOND_NS, Graph, now_ns  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402
from rynn_brain_ros.msg import BrainStatus, Grounding, PlanStep  # noqa: E402
from rynn_brain_ros.srv import Ask, Ground  # noqa: E402

from rynn_brain_ros import messages  # noqa: E402
from rynn_brain_ros.models import ColorBaselineEngine  # noqa: E402
from rynn_brain_ros.sim.tabletop import FIXED_FRAME, OPTICAL_FRAME  # noqa: E402


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


def test_a_question_is_answered_with_the_frames_stamp_and_a_point_on_the_true_surface(
    graph: Graph,
) -> None:
    graph.bring_up()
    now = now_ns()
    stamps = [now - k * SECOND_NS // 2 for k in (2, 1, 0)]
    for stamp_ns in stamps:
        graph.show(stamp_ns)
    request = Ask.Request(question="Pick up the red cube", task="affordance")
    response = graph.call(graph.ask_client, request)
    assert response.success, response.message
    (grounding,) = response.groundings.groundings
    assert messages.stamp_ns_of(grounding.header.stamp) == stamps[-1]
    assert grounding.header.frame_id == OPTICAL_FRAME
    assert grounding.frame_index == 2
    place = (grounding.point.x, grounding.point.y, grounding.point.z)
    pixel = (grounding.points_px[0].x, grounding.points_px[0].y)
    truth, name = graph.robot.scene.surface_at(pixel, graph.robot.scene.pose_at(stamps[-1]))
    assert name == "red cube"
    assert math.dist(place, truth) < 0.005
    assert grounding.fixed
    assert grounding.fixed_frame_id == FIXED_FRAME


def test_an_answer_is_published_with_its_query_id_and_its_target(graph: Graph) -> None:
    graph.bring_up()
    graph.show(now_ns())
    response = graph.call(graph.ask_client, Ask.Request(question="the blue ball", task="object"))
    got = graph.robot.received
    graph.wait_until(lambda: all(got[k] for k in ("groundings", "target")), "all publications")
    assert got["groundings"][0].query_id == response.query_id
    assert got["target"][0].header.frame_id == FIXED_FRAME


def test_a_planning_question_publishes_the_step_that_it_proposes(graph: Graph) -> None:
    graph.bring_up()
    graph.show(now_ns())
    response = graph.ask("put the red cube on the green cylinder", task="plan")
    assert response.success, response.message
    graph.wait_until(lambda: graph.robot.received["plan"], "the plan")
    (plan,) = graph.robot.received["plan"]
    assert (plan.query_id, plan.task) == (
        response.query_id,
        "put the red cube on the green cylinder",
    )
    (step,) = plan.steps
    assert (step.skill, step.state, plan.done) == ("pick", PlanStep.STATE_PROPOSED, False)
    assert [target.kind for target in step.targets] == [
        Grounding.KIND_AFFORDANCE,
        Grounding.KIND_OBJECT,
    ]
    assert step.text == response.answer


def test_ground_gives_one_target_or_says_why_not(graph: Graph) -> None:
    graph.bring_up()
    graph.show(now_ns())
    found = graph.call(graph.ground_client, Ground.Request(target="the green cylinder"))
    assert found.success, found.message
    assert found.target.header.frame_id == FIXED_FRAME
    absent = graph.call(graph.ground_client, Ground.Request(target="the purple cube"))
    assert not absent.success
    assert absent.refusal_code == "no_grounding"


def test_a_late_transform_is_waited_for(graph: Graph) -> None:
    graph.bring_up()
    stamp_ns = now_ns()
    graph.robot.publish_frame(stamp_ns, with_tf=False)
    newest = graph.eyes.perception.newest_stamp_ns
    camera = graph.eyes.camera
    graph.wait_until(lambda: newest(camera) == stamp_ns, "the image")
    graph.robot.publish_tf(stamp_ns)
    response = graph.call(graph.ask_client, Ask.Request(question="the red cube", task="object"))
    assert response.groundings.groundings[0].fixed


def test_without_depth_the_point_stays_in_the_image_and_says_why(graph: Graph) -> None:
    graph.bring_up()
    graph.show(now_ns(), with_depth=False)
    request = Ask.Request(question="the red cube", task="affordance")
    (grounding,) = graph.call(graph.ask_client, request).groundings.groundings
    assert not grounding.lifted
    assert grounding.refusal_code == "no_depth"
    assert grounding.points_px


def test_a_target_in_the_cameras_own_frame_says_why(graph: Graph) -> None:
    graph.bring_up()
    graph.show(now_ns(), with_tf=False)
    response = graph.call(graph.ground_client, Ground.Request(target="the red cube"))
    assert response.success
    assert response.target.header.frame_id == OPTICAL_FRAME
    own = f"it is told in the camera's own frame, {OPTICAL_FRAME}: no fixed frame is known"
    assert response.message.startswith(own)


def test_without_images_or_when_inactive_a_question_is_refused_in_a_sentence(graph: Graph) -> None:
    assert graph.transition(Transition.TRANSITION_CONFIGURE)
    response = graph.call(graph.ask_client, Ask.Request(question="the red cube"))
    assert not response.success
    assert "not active" in response.message
    assert graph.transition(Transition.TRANSITION_ACTIVATE)
    response = graph.call(graph.ask_client, Ask.Request(question="the red cube"))
    assert not response.success
    assert "no image has arrived" in response.message


def test_an_unknown_task_is_refused_with_the_known_ones(graph: Graph) -> None:
    graph.bring_up()
    response = graph.call(graph.ask_client, Ask.Request(question="x", task="dance"))
    assert not response.success
    assert "affordance" in response.message


def test_a_wrong_engine_fails_configuration() -> None:
    graph = Graph(engine="telepathy")
    assert not graph.transition(Transition.TRANSITION_CONFIGURE)
    graph.close()


def test_a_clock_that_jumps_back_forgets_the_old_frames(graph: Graph) -> None:
    graph.bring_up()
    now = now_ns()
    graph.show(now)
    earlier = now - 5 * SECOND_NS
    second = earlier + SECOND_NS // 10
    graph.robot.publish_frame(earlier)  # alone it might be an odd stamp
    graph.robot.publish_frame(second)
    eyes, seen = graph.eyes, [earlier, second]
    graph.wait_until(
        lambda: [f.stamp_ns for f in eyes.perception.buffer.frames(eyes.camera)] == seen,
        "the reset",
    )


def test_an_image_that_is_too_old_is_refused_as_stale() -> None:
    graph = Graph(max_frame_age_s=5.0)
    graph.bring_up()
    graph.show(now_ns() - 10 * SECOND_NS)
    response = graph.call(graph.ground_client, Ground.Request(target="the red cube"))
    assert not response.success
    assert response.refusal_code == "stale"
    assert "max_frame_age_s" in response.message
    graph.close()


def test_an_image_that_is_ahead_of_time_is_refused_and_told() -> None:
    graph = Graph(max_frame_age_s=2.0)
    graph.bring_up()
    graph.show(now_ns() + 60 * SECOND_NS)
    response = graph.ask("the red cube")
    assert not response.success
    assert "ahead of this node's time" in response.message
    said = graph.robot.received["status"]
    graph.wait_until(
        lambda: any("ahead of this node's time" in p for s in said for p in s.problems), "status"
    )
    assert said[-1].state == BrainStatus.STATE_DEGRADED
    graph.close()


def test_what_was_seen_before_a_pause_is_not_now(graph: Graph) -> None:
    graph.bring_up()
    graph.show(now_ns())
    assert graph.transition(Transition.TRANSITION_DEACTIVATE)
    assert graph.transition(Transition.TRANSITION_ACTIVATE)
    response = graph.call(graph.ask_client, Ask.Request(question="the red cube"))
    assert "no image has arrived" in response.message


@pytest.mark.parametrize("kind", ["describe", "count", "plan"])
def test_ground_refuses_kinds_that_name_no_place(graph: Graph, kind: str) -> None:
    graph.bring_up()
    graph.show(now_ns())
    response = graph.call(graph.ground_client, Ground.Request(target="the red cube", kind=kind))
    assert not response.success
    assert "names no place" in response.message


class SlowEngine(ColorBaselineEngine):
    """Thinks until it is cancelled."""

    def __init__(self) -> None:
        self.thinking = threading.Event()

    def ask(self, query: Any, on_text: Any = None, cancel: Any = None) -> Any:
        self.thinking.set()
        while not cancel.is_set():
            time.sleep(0.005)
        return super().ask(query, on_text, cancel)


def test_cleaning_up_ends_the_question_being_answered(graph: Graph) -> None:
    engine = SlowEngine()
    graph.bring_up(engine)
    graph.show(now_ns())
    future = graph.ask_client.call_async(Ask.Request(question="the red cube", task="object"))
    graph.wait_until(engine.thinking.is_set, "the engine")
    assert graph.transition(Transition.TRANSITION_DEACTIVATE)
    assert graph.transition(Transition.TRANSITION_CLEANUP)
    graph.wait_until(future.done, "the answer")
    assert graph.transition(Transition.TRANSITION_CONFIGURE)


def test_a_wrong_topic_name_fails_configuration_with_a_reason() -> None:
    graph = Graph(color_topic="bad topic")
    assert not graph.transition(Transition.TRANSITION_CONFIGURE)
    graph.close()


def test_the_status_tells_what_is_wrong_and_what_is_remembered(graph: Graph) -> None:
    graph.bring_up()
    status = graph.robot.received["status"]
    graph.wait_until(
        lambda: status and any("no image" in text for text in status[-1].problems), "the status"
    )
    assert status[-1].state == BrainStatus.STATE_DEGRADED
    graph.show(now_ns())
    graph.wait_until(lambda: status[-1].frames == 1, "a frame in the status")
    assert not status[-1].armed
