"""The view node under real rclpy: what it shows of an answer that it only heard of."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

pytestmark = pytest.mark.ros
rclpy = pytest.importorskip("rclpy", reason="rclpy is not importable")

from lifecycle_msgs.msg import Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rynn_brain_ros.msg import BrainStatus, GroundingArray, Plan, PlanStep  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image  # noqa: E402
from visualization_msgs.msg import Marker, MarkerArray  # noqa: E402

from rynn_brain_ros import messages  # noqa: E402
from rynn_brain_ros.ros.conversion import to_ros  # noqa: E402
from rynn_brain_ros.ros.view_node import ViewNode  # noqa: E402
from rynn_brain_ros.values import (  # noqa: E402
    Affordance,
    Area,
    EncodedImage,
    Frame,
    LiftedGrounding,
    LiftedPoint,
    Refusal,
    RefusalCode,
    SelectedFrame,
)
from rynn_brain_ros.view import PALETTE, REFUSED  # noqa: E402

CAMERA, FRAME_ID = "/camera/color/image_raw", "camera_color_optical_frame"
STAMP_NS = 1_700_000_000_123_456_789
SIZE = (320, 240)
COVARIANCE = (1e-6, 0.0, 0.0, 0.0, 1e-6, 0.0, 0.0, 0.0, 4e-6)
PATIENCE_S = 20.0


@pytest.fixture(scope="module", autouse=True)
def ros() -> Iterator[None]:
    rclpy.init()
    yield
    rclpy.try_shutdown()


class Audience:
    """A view node and somebody who tells it things and looks at what it shows."""

    def __init__(self, **parameters: Any) -> None:
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        self.view = ViewNode(parameter_overrides=overrides)
        self.teller = Node("teller")
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.view)
        self.executor.add_node(self.teller)
        self.publishers: dict[str, Any] = {}
        self.markers = self.look(MarkerArray, "/view/markers")
        self.annotated = self.look(Image, "/view/annotated")
        self.packed = self.look(CompressedImage, "/view/annotated/compressed")
        self.panel = self.look(Image, "/view/panel")
        self.change = self.teller.create_client(ChangeState, "/view/change_state")

    def look(self, type_: Any, topic: str) -> list[Any]:
        got: list[Any] = []
        self.teller.create_subscription(type_, topic, got.append, 10)
        return got

    def tell(self, topic: str, message: Any) -> None:
        if topic not in self.publishers:
            self.publishers[topic] = self.teller.create_publisher(type(message), topic, 10)
        publisher = self.publishers[topic]
        self.wait_until(lambda: publisher.get_subscription_count() > 0, f"a listener to {topic}")
        publisher.publish(message)

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"waited {PATIENCE_S} s for {what}"
            self.executor.spin_once(timeout_sec=0.05)

    def transition(self, transition_id: int) -> bool:
        self.wait_until(self.change.service_is_ready, "the node")
        request = ChangeState.Request(transition=Transition(id=transition_id))
        future = self.change.call_async(request)
        self.wait_until(future.done, "the transition")
        return bool(future.result().success)

    def bring_up(self) -> None:
        assert self.transition(Transition.TRANSITION_CONFIGURE)
        assert self.transition(Transition.TRANSITION_ACTIVATE)

    def close(self) -> None:
        self.executor.shutdown()
        self.view.destroy_node()
        self.teller.destroy_node()


@pytest.fixture
def audience() -> Iterator[Audience]:
    made = Audience()
    made.bring_up()
    yield made
    made.close()


def picture(stamp_ns: int = STAMP_NS) -> Image:
    width, height = SIZE
    pixels = np.full((height, width, 3), 90, np.uint8)
    image = EncodedImage("rgb8", pixels.tobytes(), width, height, step=3 * width)
    return to_ros(Image, messages.image(image, stamp_ns, FRAME_ID)[1])


def frame() -> SelectedFrame:
    seen = Frame(CAMERA, STAMP_NS, FRAME_ID, EncodedImage("rgb8", b""))
    return SelectedFrame(seen, b"", "", "", *SIZE)


def point() -> LiftedGrounding:
    spot = LiftedPoint((160.0, 120.0), (0.0, 0.0, 1.0), COVARIANCE, (1.0, 0.0, 0.5), COVARIANCE)
    told = Affordance(0, ((500.0, 500.0),), (0, 1), "affordance")
    return LiftedGrounding(told, frame(), ((160.0, 120.0),), (spot,), spot, "odom")


def refused_area() -> LiftedGrounding:
    places = ((32.0, 24.0), (64.0, 30.0))
    spots = tuple(
        LiftedPoint(px, (0.1, 0.2, 1.0), COVARIANCE, (1.0, 0.3 * i, 0.5), COVARIANCE)
        for i, px in enumerate(places)
    )
    told = Area(0, ((100.0, 100.0), (200.0, 125.0)), (0, 1), "area")
    refusal = Refusal(RefusalCode.LOW_CONFIDENCE, "nobody is sure of it")
    return LiftedGrounding(told, frame(), places, spots, spots[0], "odom", refusal=refusal)


def answer(*lifted: LiftedGrounding) -> GroundingArray:
    fields = {
        "header": messages.header(STAMP_NS, FRAME_ID),
        "query_id": "q7",
        "task": "affordance",
        "question": "the red cube",
        "groundings": [messages.grounding(item, "q7", False) for item in lifted],
    }
    return to_ros(GroundingArray, fields)


def rgb(marker: Marker) -> tuple[int, ...]:
    return tuple(round(255 * c) for c in (marker.color.r, marker.color.g, marker.color.b))


def test_markers_have_the_answers_id_its_colours_and_an_end(audience: Audience) -> None:
    audience.tell("/brain/groundings", answer(point(), refused_area()))
    audience.wait_until(lambda: bool(audience.markers), "markers")
    before, *markers = audience.markers[0].markers
    assert before.action == Marker.DELETEALL
    assert {m.ns for m in markers} == {"q7/affordance", "q7/area"}
    assert {m.header.frame_id for m in markers} == {"odom"}
    assert {messages.stamp_ns_of(m.header.stamp) for m in markers} == {STAMP_NS}
    assert all(m.lifetime.sec == 10 for m in markers)
    found = next(m for m in markers if m.ns == "q7/affordance" and m.type == Marker.SPHERE)
    assert rgb(found) == PALETTE[0]
    ellipsoid = [m for m in markers if m.ns == "q7/affordance" and m.type == Marker.SPHERE][1]
    assert ellipsoid.scale.z == pytest.approx(2 * (7.8147 * 4e-6) ** 0.5, rel=1e-3)
    refused = [m for m in markers if m.ns == "q7/area"]
    assert {rgb(m) for m in refused} == {REFUSED}
    spots = next(m for m in refused if m.type == Marker.SPHERE_LIST)
    assert [round(p.y, 6) for p in spots.points] == [0.0, 0.3]
    text = next(m for m in refused if m.type == Marker.TEXT_VIEW_FACING)
    assert "low_confidence" in text.text


def test_an_answer_that_finds_nothing_takes_away_what_the_one_before_showed(
    audience: Audience,
) -> None:
    audience.tell("/brain/groundings", answer(point()))
    audience.tell("/brain/groundings", answer())
    audience.wait_until(lambda: len(audience.markers) == 2, "markers")
    assert [m.action for m in audience.markers[-1].markers] == [Marker.DELETEALL]


def test_what_only_a_newer_brain_knows_is_shown_and_it_goes_on(audience: Audience) -> None:
    newer = answer(point(), refused_area())
    newer.groundings[0].kind, newer.groundings[1].refusal_code = 99, "too_hot"
    step = PlanStep(index=0, text="Fold it.", state=99)
    audience.tell("/brain/status", BrainStatus(state=99, engine="newer"))
    audience.tell("/act/plan", Plan(task="tidy up", steps=[step]))
    audience.tell("/brain/groundings", newer)
    audience.tell("/brain/groundings", answer(point()))
    audience.wait_until(lambda: len(audience.markers) == 2, "markers")
    texts = [marker.text for marker in audience.markers[0].markers if marker.text]
    assert texts[0].startswith("1 unknown kind 99")
    assert "unknown" in texts[1]


def test_the_picture_that_was_asked_about_is_drawn_into(audience: Audience) -> None:
    audience.tell(CAMERA, picture())
    audience.tell("/brain/groundings", answer(point()))
    audience.wait_until(lambda: bool(audience.annotated and audience.packed), "pictures")
    shown = audience.annotated[0]
    assert messages.stamp_ns_of(shown.header.stamp) == STAMP_NS
    assert shown.header.frame_id == FRAME_ID
    pixels = np.frombuffer(bytes(shown.data), np.uint8).reshape(240, 320, 3)
    near = pixels[105:136, 145:176].reshape(-1, 3)
    assert (np.abs(near.astype(int) - PALETTE[0]).sum(axis=1) < 30).any()
    data = np.frombuffer(bytes(audience.packed[0].data), np.uint8)
    assert cv2.imdecode(data, cv2.IMREAD_COLOR).shape == (240, 320, 3)


def test_a_picture_of_a_camera_without_a_frame_id_is_drawn_into(audience: Audience) -> None:
    seen = frame()
    unnamed = replace(seen, frame=replace(seen.frame, frame_id=""))
    spot = LiftedPoint((160.0, 120.0), (0.0, 0.0, 1.0), COVARIANCE)
    item = replace(point(), frame=unnamed, points=(spot,), target=spot, fixed_frame_id="")
    audience.tell(CAMERA, picture())
    audience.tell("/brain/groundings", answer(item))
    audience.wait_until(lambda: bool(audience.annotated and audience.markers), "the picture")
    assert [m.action for m in audience.markers[0].markers] == [Marker.DELETEALL]


def test_a_picture_that_comes_after_its_answer_is_drawn_into_all_the_same(
    audience: Audience,
) -> None:
    audience.tell("/brain/groundings", answer(point()))
    audience.wait_until(lambda: bool(audience.markers), "markers")
    assert not audience.annotated
    audience.tell(CAMERA, picture())
    audience.wait_until(lambda: bool(audience.annotated), "the picture")


def test_a_picture_that_comes_again_is_drawn_into_again(audience: Audience) -> None:
    """A bag that is played from its beginning again."""
    for shown in (1, 2):
        audience.tell(CAMERA, picture())
        audience.tell(CAMERA, picture(STAMP_NS + 10**9))
        audience.tell("/brain/groundings", answer(point()))
        audience.wait_until(lambda shown=shown: len(audience.annotated) == shown, "the picture")
    assert {messages.stamp_ns_of(p.header.stamp) for p in audience.annotated} == {STAMP_NS}


def test_the_panel_tells_state_answer_and_plan(audience: Audience) -> None:
    audience.tell("/brain/status", BrainStatus(state=1, engine="color-baseline", dry_run=True))
    step = PlanStep(index=0, text="Pick up the cube.", state=PlanStep.STATE_REFUSED)
    step.reason_text = "it is out of reach"
    audience.tell("/act/plan", Plan(task="tidy up", steps=[step]))
    audience.tell("/act/groundings", answer(point()))
    audience.wait_until(lambda: len(audience.panel) >= 3, "the panel")
    shown = audience.panel[-1]
    pixels = np.frombuffer(bytes(shown.data), np.uint8).reshape(shown.height, shown.width, 3)
    for color in ((235, 235, 235), PALETTE[0], PALETTE[4]):
        assert (np.abs(pixels.astype(int) - color).sum(axis=2) < 60).any(), color


def test_the_panel_tells_when_a_node_falls_silent(audience: Audience) -> None:
    """Nothing comes any more, and it is drawn again all the same."""
    audience.tell("/act/status", BrainStatus(state=1, engine="color-baseline", armed=True))

    def warned() -> bool:
        shown = np.frombuffer(bytes(audience.panel[-1].data), np.uint8).reshape(-1, 3)
        return bool((np.abs(shown.astype(int) - PALETTE[4]).sum(axis=1) < 60).any())

    audience.wait_until(lambda: bool(audience.panel), "the panel")
    assert not warned()
    audience.wait_until(warned, "the panel to tell of the silence")


def test_what_was_shown_is_taken_away_when_it_is_deactivated(audience: Audience) -> None:
    audience.tell("/brain/groundings", answer(point()))
    audience.wait_until(lambda: bool(audience.markers), "markers")
    assert audience.transition(Transition.TRANSITION_DEACTIVATE)
    audience.wait_until(lambda: len(audience.markers) > 1, "the last word")
    assert audience.markers[-1].markers[0].action == Marker.DELETEALL
    assert audience.view.count_subscribers(CAMERA) == 0


def test_without_a_topic_to_draw_into_it_does_not_configure() -> None:
    audience = Audience(color_topics=" ")
    assert not audience.transition(Transition.TRANSITION_CONFIGURE)
    audience.close()
