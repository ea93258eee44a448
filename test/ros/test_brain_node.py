"""The real brain node under real rclpy: an RGB-D publisher → question → grounding in space."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytestmark = pytest.mark.ros
rclpy = pytest.importorskip("rclpy", reason="rclpy is not importable")

from geometry_msgs.msg import PoseStamped  # noqa: E402
from lifecycle_msgs.msg import State, Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState, GetState  # noqa: E402
from rclpy.executors import MultiThreadedExecutor, SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile  # noqa: E402
from rynn_brain_ros.msg import BrainStatus, GroundingArray  # noqa: E402
from rynn_brain_ros.srv import Ask, Ground  # noqa: E402
from sensor_msgs.msg import CameraInfo, CompressedImage, Image  # noqa: E402
from tf2_msgs.msg import TFMessage  # noqa: E402
from visualization_msgs.msg import MarkerArray  # noqa: E402

from rynn_brain_ros import messages  # noqa: E402
from rynn_brain_ros.models import ColorBaselineEngine, Engines  # noqa: E402
from rynn_brain_ros.ros.brain_node import BrainNode  # noqa: E402
from rynn_brain_ros.ros.conversion import to_ros  # noqa: E402
from rynn_brain_ros.sim.tabletop import FIXED_FRAME, OPTICAL_FRAME, example_scene  # noqa: E402

COLOR, DEPTH, INFO = (
    "/camera/color/image_raw",
    "/camera/depth/image_raw",
    "/camera/color/camera_info",
)
PATIENCE_S = 20.0
SECOND_NS = 1_000_000_000


def now_ns() -> int:
    return time.time_ns()


class Robot(Node):
    """What a robot's drivers publish: one camera on a moving arm, and the questions of a user."""

    def __init__(self) -> None:
        super().__init__("robot")
        self.scene = example_scene()
        self.color = self.create_publisher(Image, COLOR, 10)
        self.depth = self.create_publisher(Image, DEPTH, 10)
        self.info = self.create_publisher(CameraInfo, INFO, 10)
        self.tf = self.create_publisher(TFMessage, "/tf", 100)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.tf_static = self.create_publisher(TFMessage, "/tf_static", latched)
        self.received: dict[str, list[Any]] = {}
        for type_, name in (
            (GroundingArray, "groundings"),
            (MarkerArray, "markers"),
            (PoseStamped, "target"),
            (CompressedImage, "annotated/compressed"),
            (BrainStatus, "status"),
        ):
            got = self.received.setdefault(name, [])
            self.create_subscription(type_, f"/brain/{name}", got.append, 10)

    def publish_frame(self, stamp_ns: int, with_tf: bool = True, with_depth: bool = True) -> None:
        pose = self.scene.pose_at(stamp_ns)
        rgb, z_m = self.scene.render(pose)
        head = messages.header(stamp_ns, OPTICAL_FRAME)
        size = {"height": rgb.shape[0], "width": rgb.shape[1], "is_bigendian": 0}
        depth_mm = np.round(z_m * 1000).astype(np.uint16)
        info = messages.camera_info(self.scene.camera_info, stamp_ns)
        self.info.publish(to_ros(CameraInfo, info))
        if with_tf:
            self.publish_tf(stamp_ns)
        if with_depth:
            data = {"encoding": "16UC1", "step": 2 * rgb.shape[1], "data": depth_mm.tobytes()}
            self.depth.publish(to_ros(Image, {"header": head, **size, **data}))
        data = {"encoding": "rgb8", "step": 3 * rgb.shape[1], "data": rgb.tobytes()}
        self.color.publish(to_ros(Image, {"header": head, **size, **data}))

    def publish_tf(self, stamp_ns: int) -> None:
        """Samples on both sides of the stamp, as a driver's stream has."""
        for offset_ns in (-20_000_000, 20_000_000):
            pose = self.scene.pose_at(stamp_ns + offset_ns)
            self.tf.publish(to_ros(TFMessage, messages.tf_message([pose])))


class Graph:
    """A robot and a brain in one process, on an executor of their own."""

    def __init__(self, **parameters: Any) -> None:
        # A busy machine may need seconds between a picture and its question.
        patient = {"max_frame_age_s": 120.0}
        values = {"color_topic": COLOR, "depth_topic": DEPTH, **patient, **parameters}
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        self.robot = Robot()
        self.brain = BrainNode(parameter_overrides=overrides)
        self.executor = MultiThreadedExecutor(num_threads=4)
        self.executor.add_node(self.robot)
        self.executor.add_node(self.brain)
        self.spinner = threading.Thread(target=self.executor.spin, daemon=True)
        self.spinner.start()
        self.change = self.robot.create_client(ChangeState, "/brain/change_state")
        self.ask_client = self.robot.create_client(Ask, "/brain/ask")
        self.ground_client = self.robot.create_client(Ground, "/brain/ground")

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"waited {PATIENCE_S} s for {what}"
            time.sleep(0.005)  # another thread spins: look again

    def call(self, client: Any, request: Any) -> Any:
        self.wait_until(client.service_is_ready, client.srv_name)
        future = client.call_async(request)
        self.wait_until(future.done, client.srv_name)
        return future.result()

    def transition(self, transition_id: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition_id))
        return bool(self.call(self.change, request).success)

    def bring_up(self) -> None:
        assert self.transition(Transition.TRANSITION_CONFIGURE)
        assert self.transition(Transition.TRANSITION_ACTIVATE)
        self.wait_until(lambda: self.robot.color.get_subscription_count() > 0, "subscription")
        self.wait_until(lambda: self.robot.tf.get_subscription_count() > 0, "tf subscription")

    def show(self, stamp_ns: int, **kwargs: bool) -> None:
        self.robot.publish_frame(stamp_ns, **kwargs)
        assert self.brain.eyes is not None
        buffer, camera = self.brain.eyes.perception.buffer, self.brain.eyes.camera

        def seen() -> bool:
            newest = buffer.latest(camera)
            return newest is not None and newest.stamp_ns >= stamp_ns

        self.wait_until(seen, "the frame in the buffer")

    def close(self) -> None:
        self.executor.shutdown()
        self.spinner.join()
        self.brain.release()
        self.brain.destroy_node()
        self.robot.destroy_node()


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


def test_an_answer_is_published_with_one_query_id_everywhere(graph: Graph) -> None:
    graph.bring_up()
    graph.show(now_ns())
    response = graph.call(graph.ask_client, Ask.Request(question="the blue ball", task="object"))
    got = graph.robot.received
    graph.wait_until(
        lambda: all(got[k] for k in ("groundings", "markers", "target", "annotated/compressed")),
        "all publications",
    )
    assert got["groundings"][0].query_id == response.query_id
    assert all(m.ns.startswith(response.query_id) for m in got["markers"][0].markers)
    assert got["target"][0].header.frame_id == FIXED_FRAME
    picture = cv2.imdecode(
        np.frombuffer(bytes(got["annotated/compressed"][0].data), np.uint8), cv2.IMREAD_COLOR
    )
    assert picture.shape == (480, 640, 3)


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
    assert graph.brain.eyes is not None
    newest = graph.brain.eyes.perception.newest_stamp_ns
    camera = graph.brain.eyes.camera
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
    graph.robot.publish_frame(earlier)
    assert graph.brain.eyes is not None
    eyes = graph.brain.eyes
    graph.wait_until(
        lambda: [f.stamp_ns for f in eyes.perception.buffer.frames(eyes.camera)] == [earlier],
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
    graph.bring_up()
    graph.show(now_ns())
    engine = SlowEngine()
    graph.brain._engines = Engines.one(engine)
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


def test_it_goes_up_and_down_fifty_times(graph: Graph) -> None:
    for _ in range(50):
        assert graph.transition(Transition.TRANSITION_CONFIGURE)
        assert graph.transition(Transition.TRANSITION_ACTIVATE)
        assert graph.transition(Transition.TRANSITION_DEACTIVATE)
        assert graph.transition(Transition.TRANSITION_CLEANUP)
    graph.bring_up()
    graph.show(now_ns())
    assert graph.call(graph.ask_client, Ask.Request(question="the red cube", task="object")).success


def test_the_status_tells_what_is_wrong_and_what_is_remembered(graph: Graph) -> None:
    graph.bring_up()
    status = graph.robot.received["status"]
    graph.wait_until(lambda: bool(status), "status")
    assert status[0].state == BrainStatus.STATE_DEGRADED
    assert any("no image" in problem for problem in status[0].problems)
    graph.show(now_ns())
    graph.wait_until(lambda: status[-1].frames == 1, "a frame in the status")
    assert not status[-1].armed


def test_the_launch_file_brings_up_an_active_brain_and_ctrl_c_ends_it(tmp_path: Path) -> None:
    node = Node("onlooker")
    client = node.create_client(GetState, "/launched/brain/get_state")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    command = ["ros2", "launch", "rynn_brain_ros", "brain.launch.py", "namespace:=launched"]
    environment = {**os.environ, "ROS_LOG_DIR": str(tmp_path)}
    process = subprocess.Popen(command, env=environment, stdout=sys.stderr, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        label = ""
        while label != "active" and time.monotonic() < deadline:
            if client.wait_for_service(timeout_sec=0.2):
                future = client.call_async(GetState.Request())
                executor.spin_until_future_complete(future, timeout_sec=2.0)
                state: State | None = future.result().current_state if future.done() else None
                label = state.label if state else ""
        assert label == "active"
    finally:
        os.killpg(process.pid, signal.SIGINT)
        code = process.wait(timeout=30)
        node.destroy_node()
    assert code == 0
