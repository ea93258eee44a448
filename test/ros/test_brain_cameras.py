"""What the brain sees: several cameras, packed images, publishers that do not fit, lost ones."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import pytest

pytestmark = pytest.mark.ros
rclpy = pytest.importorskip("rclpy", reason="rclpy is not importable")

from asking import Asking  # noqa: E402
from brain_graph import SECOND_NS, Camera, Graph, Robot, now_ns  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from rynn_brain_ros.msg import BrainStatus  # noqa: E402
from rynn_brain_ros.srv import Ground  # noqa: E402
from sensor_msgs.msg import CameraInfo, CompressedImage, Image  # noqa: E402
from tf2_msgs.msg import TFMessage  # noqa: E402

from rynn_brain_ros import messages  # noqa: E402
from rynn_brain_ros.config import BrainConfig  # noqa: E402
from rynn_brain_ros.ros.conversion import to_ros  # noqa: E402
from rynn_brain_ros.ros.eyes import Eyes  # noqa: E402
from rynn_brain_ros.sim.tabletop import FIXED_FRAME  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def ros() -> Iterator[None]:
    rclpy.init()
    yield
    rclpy.try_shutdown()


G = TypeVar("G", bound=Graph)


class Kept:
    """Closes graphs when their test is over, however it ends."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def __call__(self, graph: G) -> G:
        self._stack.callback(graph.close)
        return graph


@pytest.fixture
def kept() -> Iterator[Kept]:
    with ExitStack() as stack:
        yield Kept(stack)


def test_what_comes_is_taken_without_an_executor() -> None:
    robot, node = Robot(), Node("watching")
    camera = robot.camera
    eyes = Eyes(node, BrainConfig(color_topic=camera.color_topic, depth_topic=camera.depth_topic))
    eyes.start()
    patient = Asking()
    for publisher in (camera.color, camera.depth, camera.info, robot.tf):
        patient.wait_until(publisher.get_subscription_count, publisher.topic_name)
    stamp_ns = now_ns()
    robot.publish_frame(stamp_ns)
    buffer = eyes.perception.buffer
    patient.wait_until(lambda: buffer.latest(eyes.camera) is not None, "the frame")
    frame = buffer.latest(eyes.camera)
    assert frame is not None and frame.stamp_ns == stamp_ns
    assert frame.depth is not None and frame.T_fixed_camera is not None
    eyes.stop()
    for each in (robot, node):
        each.destroy_node()


class Cameras(Graph):
    """A brain that watches cameras by name."""

    def __init__(self, *names: str, **parameters: Any) -> None:
        topics = {
            f"{name}.{kind}_topic": f"/{name}/{kind}/image_raw"
            for name in names
            for kind in ("color", "depth")
        }
        super().__init__(cameras=", ".join(names), **{**topics, **parameters})
        self.named = {name: Camera(self.robot, name) for name in names}

    def bring_up(self, *_: Any) -> None:
        assert self.transition(Transition.TRANSITION_CONFIGURE)
        assert self.transition(Transition.TRANSITION_ACTIVATE)
        for camera in self.named.values():
            for publisher in (camera.color, camera.depth, camera.info, self.robot.tf):
                self.wait_until(publisher.get_subscription_count, publisher.topic_name)

    def show_in(self, name: str, stamp_ns: int) -> None:
        self.robot.publish_tf(stamp_ns)
        self.named[name].publish(stamp_ns, self.robot.scene.pose_at(stamp_ns))
        self.wait_for_frame(self.named[name].color_topic, stamp_ns)


def test_a_question_names_its_camera_by_name_or_by_topic_and_else_means_the_first(
    kept: Kept,
) -> None:
    graph = kept(Cameras("front", "wrist"))
    graph.bring_up()
    now = now_ns()
    graph.show_in("front", now)
    graph.show_in("wrist", now)
    for camera, seen in (
        ("wrist", "/wrist/color/image_raw"),
        ("/wrist/color/image_raw", "/wrist/color/image_raw"),
        ("", "/front/color/image_raw"),
    ):
        response = graph.ask("the red cube", camera=camera)
        assert response.success, response.message
        assert response.groundings.groundings[0].camera == seen
        assert response.groundings.groundings[0].fixed


def test_an_unknown_camera_is_refused_with_the_known_ones(kept: Kept) -> None:
    graph = kept(Cameras("front", "wrist"))
    graph.bring_up()
    response = graph.ask("the red cube", camera="tail")
    assert not response.success
    assert "front (/front/color/image_raw), wrist (/wrist/color/image_raw)" in response.message


@pytest.mark.parametrize(
    "parameters",
    [
        {"cameras": "two words"},
        {"cameras": "a, b", "b.color_topic": "/a", "a.color_topic": "/a"},
    ],
)
def test_cameras_that_cannot_be_told_apart_fail_configuration(
    parameters: dict[str, str], kept: Kept
) -> None:
    graph = kept(Graph(**parameters))
    assert not graph.transition(Transition.TRANSITION_CONFIGURE)


def test_packed_colour_and_depth_give_a_point_on_the_true_surface(kept: Kept) -> None:
    graph = kept(Graph(packed=True))
    graph.bring_up()
    now = now_ns()
    graph.show(now)
    (grounding,) = graph.ask("Pick up the red cube", "affordance").groundings.groundings
    place = (grounding.point.x, grounding.point.y, grounding.point.z)
    pixel = (grounding.points_px[0].x, grounding.points_px[0].y)
    truth, name = graph.robot.scene.surface_at(pixel, graph.robot.scene.pose_at(now))
    assert name == "red cube"
    assert math.dist(place, truth) < 0.005


def test_depth_of_another_lens_is_placed_by_the_camera_info_beside_it(kept: Kept) -> None:
    graph = kept(Graph())
    scene = graph.robot.scene
    wide = replace(scene, focal_px=0.7 * scene.focal_px)
    graph.robot.camera.depth_scene = wide
    lens = graph.robot.create_publisher(CameraInfo, "/camera/depth/camera_info", 10)
    graph.bring_up()
    graph.wait_until(lens.get_subscription_count, lens.topic_name)
    now = now_ns()
    graph.robot.publish_frame(now)  # the lens is told after the first picture
    lens.publish(to_ros(CameraInfo, messages.camera_info(wide.camera_info, now)))
    graph.wait_for_frame(graph.eyes.camera, now)
    (grounding,) = graph.ask("the red cube", "affordance").groundings.groundings
    assert not grounding.refusal_code
    place = (grounding.point.x, grounding.point.y, grounding.point.z)
    pixel = (grounding.points_px[0].x, grounding.points_px[0].y)
    truth, _ = scene.surface_at(pixel, scene.pose_at(now))
    assert math.dist(place, truth) < 0.005


def test_depth_whose_announced_camera_info_does_not_come_is_refused(kept: Kept) -> None:
    graph = kept(Graph())
    graph.bring_up()
    graph.robot.create_publisher(CameraInfo, "/camera/depth/camera_info", 10)
    graph.show(now_ns())
    refused = graph.call(graph.ground_client, Ground.Request(target="the red cube"))
    assert (refused.success, refused.refusal_code) == (False, "no_intrinsics")


def test_a_publisher_whose_profile_does_not_fit_is_told_with_both_when_it_comes(kept: Kept) -> None:
    graph = kept(Graph())
    graph.bring_up()
    status, diagnostics = graph.robot.received["status"], graph.robot.received["diagnostics"]
    graph.wait_until(lambda: status, "a status")
    assert not any("/tf_static" in problem for problem in status[-1].problems)
    # Not latched: whoever comes later never learns where the camera sits.
    volatile = graph.robot.create_publisher(TFMessage, "/tf_static", 10)
    told = (
        "/tf_static: nothing comes from /robot: it offers reliable, volatile, no deadline, "
        "and this node asks for reliable, transient_local, no deadline"
    )
    graph.wait_until(lambda: told in status[-1].problems, "the mismatch in the status")

    def shown() -> Any:
        parts = {part.name: part for part in diagnostics[-1].status}
        return parts["/brain: topics"].message == told

    graph.wait_until(shown, "the mismatch in the diagnostics")
    assert {part.name: part.level for part in diagnostics[-1].status}["/brain: topics"] == b"\x02"
    graph.robot.destroy_publisher(volatile)
    graph.wait_until(lambda: told not in status[-1].problems, "the end of the mismatch")


def test_what_two_publish_is_told_and_asked_about_in_vain(kept: Kept) -> None:
    graph = kept(Graph())
    graph.bring_up()
    graph.show(now_ns())
    second = graph.robot.create_publisher(Image, graph.robot.camera.depth_topic, 10)
    told = f"{graph.robot.camera.depth_topic}: 2 publish it, /robot and /robot, and nothing tells"
    graph.wait_until(lambda: any(told in each for each in graph.eyes.crowds()), "both")
    refused = graph.call(graph.ground_client, Ground.Request(target="the red cube"))
    assert not refused.success
    assert told in refused.message
    status = graph.robot.received["status"]
    graph.wait_until(
        lambda: bool(status) and any(told in each for each in status[-1].problems), "the status"
    )
    graph.robot.destroy_publisher(second)
    graph.wait_until(lambda: not graph.eyes.crowds(), "the end of it")
    graph.show(now_ns())
    assert graph.ask("the red cube").success


def test_a_publisher_of_another_type_is_told_at_activation(kept: Kept) -> None:
    graph = kept(Graph(depth_topic="/packed/depth"))
    packed = graph.robot.create_publisher(CompressedImage, "/packed/depth", 10)
    assert graph.transition(Transition.TRANSITION_CONFIGURE)
    assert graph.transition(Transition.TRANSITION_ACTIVATE)
    wanted = "publishes sensor_msgs/msg/CompressedImage, and sensor_msgs/msg/Image is wanted"
    graph.wait_until(
        lambda: any(wanted in text for text in graph.eyes.mismatches()), "the mismatch"
    )
    graph.robot.destroy_publisher(packed)


def test_a_clock_that_jumps_back_forgets_and_answers_in_the_new_time(kept: Kept) -> None:
    graph = kept(Graph())
    graph.bring_up()
    now = now_ns()
    graph.show(now)
    earlier = [now - 5 * SECOND_NS, now - 4 * SECOND_NS]  # one alone may be an odd stamp
    for stamp_ns in earlier:
        graph.robot.publish_frame(stamp_ns)
    buffer, camera = graph.eyes.perception.buffer, graph.eyes.camera
    graph.wait_until(
        lambda: [frame.stamp_ns for frame in buffer.frames(camera)] == earlier, "the reset"
    )
    (grounding,) = graph.ask("the red cube").groundings.groundings
    assert messages.stamp_ns_of(grounding.header.stamp) == earlier[-1]
    assert grounding.fixed_frame_id == FIXED_FRAME


class Clocked(Graph):
    """The brain's time is what the test says."""

    def __init__(self) -> None:
        super().__init__(use_sim_time=True, max_frame_age_s=2.0)
        self.clock = self.robot.create_publisher(Clock, "/clock", 10)

    def set_time(self, stamp_ns: int) -> None:
        message = to_ros(Clock, {"clock": messages.stamp(stamp_ns)})

        def is_set() -> bool:
            self.clock.publish(message)
            return bool(self.brain.get_clock().now().nanoseconds == stamp_ns)

        self.wait_until(is_set, "/clock")


def test_a_camera_that_is_unplugged_is_stale_and_one_that_is_back_is_seen_again(kept: Kept) -> None:
    graph = kept(Clocked())
    start = 1000 * SECOND_NS
    graph.set_time(start)
    graph.bring_up()
    graph.show(start)
    assert graph.ask("the red cube").success

    old = graph.robot.camera
    for publisher in (old.color, old.depth, old.info):
        graph.robot.destroy_publisher(publisher)
    later = start + 10 * SECOND_NS
    graph.set_time(later)
    refused = graph.call(graph.ground_client, Ground.Request(target="the red cube"))
    assert refused.refusal_code == "stale"
    status = graph.robot.received["status"]
    silent = "the newest image on /camera/color/image_raw is 10.0 s old"
    graph.wait_until(lambda: status and silent in status[-1].problems, "the status")

    graph.robot.camera = back = Camera(graph.robot, "camera")
    for publisher in (back.color, back.depth, back.info):
        graph.wait_until(publisher.get_subscription_count, publisher.topic_name)
    graph.show(later)
    found = graph.call(graph.ground_client, Ground.Request(target="the red cube"))
    assert found.success, found.message


def publish_unreadable(graph: Graph, stamp_ns: int) -> None:
    """What a camera of 16 bits without a debayering node gives."""
    picture = Image(height=6, width=8, encoding="bayer_rggb16", step=16, data=bytes(96))
    picture.header.stamp.sec, picture.header.stamp.nanosec = divmod(stamp_ns, SECOND_NS)
    graph.robot.camera.color.publish(picture)


def test_images_that_cannot_be_read_are_named_in_the_answer_and_the_status(kept: Kept) -> None:
    graph = kept(Graph())
    graph.bring_up()
    publish_unreadable(graph, now_ns())
    refused = graph.call(graph.ground_client, Ground.Request(target="the red cube"))
    assert refused.refusal_code == "stale"
    assert "'bayer_rggb16'" in refused.message
    assert "not a known colour encoding" in refused.message
    status = graph.robot.received["status"]
    told = "none of the images on /camera/color/image_raw can be used: 1 were refused"
    graph.wait_until(lambda: status and told in status[-1].problems, "the status")
    assert status[-1].frames_dropped == 1
    assert any("not a known colour encoding" in problem for problem in status[-1].problems)


def test_a_good_image_is_not_shown_as_now_once_those_after_it_are_refused(kept: Kept) -> None:
    graph = kept(Clocked())
    start = 1000 * SECOND_NS
    graph.set_time(start)
    graph.bring_up()
    graph.show(start)
    later = start + 10 * SECOND_NS
    graph.set_time(later)
    publish_unreadable(graph, later)
    seen = graph.eyes.perception
    graph.wait_until(lambda: seen.newest_stamp_ns(graph.eyes.camera) == later, "the image")
    graph.set_time(later + SECOND_NS)  # it has waited long enough for its depth
    refused = graph.call(graph.ground_client, Ground.Request(target="the red cube"))
    assert refused.refusal_code == "stale"
    assert "11.0 s old" in refused.message
    assert "the newest was refused: " in refused.message


def test_a_camera_that_is_there_and_whose_images_do_not_come_is_told_so(kept: Kept) -> None:
    graph = kept(Graph())
    graph.bring_up()
    status, camera = graph.robot.received["status"], graph.robot.camera
    silent = "no image has arrived on /camera/color/image_raw"

    def told(what: str) -> bool:
        return bool(status) and any(text.startswith(silent + what) for text in status[-1].problems)

    graph.wait_until(lambda: told(", though somebody publishes it"), "images lost on the way")
    graph.robot.destroy_publisher(camera.color)
    graph.wait_until(lambda: told(": is the camera publishing?"), "a camera that is gone")


def test_a_bag_that_begins_again_is_told_and_then_all_is_well(kept: Kept) -> None:
    graph = kept(Clocked())
    start = 1000 * SECOND_NS
    graph.set_time(start + 60 * SECOND_NS)
    graph.bring_up()
    graph.show(start + 60 * SECOND_NS)
    graph.set_time(start)
    graph.show(start)
    status = graph.robot.received["status"]
    told = "the clock of /camera/color/image_raw went back: what was seen before is forgotten"
    graph.wait_until(lambda: any(told in each.problems for each in status), "the word of it")
    graph.wait_until(lambda: status[-1].state == BrainStatus.STATE_READY, "a brain that is ready")
    assert not status[-1].problems


def test_status_comes_while_the_clock_stands_still(kept: Kept) -> None:
    graph = kept(Clocked())
    graph.set_time(1000 * SECOND_NS)
    graph.bring_up()
    graph.wait_until(lambda: len(graph.robot.received["status"]) > 2, "the status, again and again")


def test_four_cameras_at_thirty_hertz_are_all_seen_and_what_is_lost_is_counted(kept: Kept) -> None:
    names = ("front", "back", "left", "right")
    graph = kept(Cameras(*names, buffer_mib=64))
    graph.bring_up()
    begin, rounds = now_ns(), 45
    pose = graph.robot.scene.pose_at(begin)
    rgb, _ = graph.robot.scene.render(pose)
    height, width = rgb.shape[:2]
    picture = Image(height=height, width=width, encoding="rgb8", step=3 * width)
    picture.data = np.ascontiguousarray(rgb).tobytes()
    picture.header.frame_id = "camera_color_optical_frame"
    for number in range(rounds):
        stamp_ns = begin + number * SECOND_NS // 30
        graph.robot.publish_tf(stamp_ns)
        picture.header.stamp.sec, picture.header.stamp.nanosec = divmod(stamp_ns, SECOND_NS)
        for camera in graph.named.values():
            camera.color.publish(picture)
        time.sleep(max(0.0, (stamp_ns - now_ns()) / 1e9))  # a camera's own pace
    for name in names:
        graph.show_in(name, now_ns())
        response = graph.ask("the red cube", camera=name)
        assert response.success, response.message
    stats = graph.eyes.perception.buffer.stats()
    assert stats.n_bytes <= 64 << 20
    for topic, seen in graph.eyes.seen.cameras.items():
        assert seen.emitted + sum(seen.dropped.values()) > rounds // 2, topic
