"""The ``view`` lifecycle node: what the brain points at, for people.

    ros2 run rynn_brain_ros view --ros-args -p color_topics:=/camera/color/image_raw

It hears answers, plans and status and publishes ``~/markers``, ``~/annotated`` and ``~/panel``,
the pictures raw and compressed. An answer has one query id and each of its groundings one colour
in all of them. Callbacks of images only keep bytes; a picture is decoded when an answer names it.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from cv_bridge import CvBridge
from message_filters import Subscriber
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import NameValidationException
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.qos import qos_profile_sensor_data
from rclpy.timer import Timer
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from rynn_brain_ros import messages
from rynn_brain_ros.bags import typestore
from rynn_brain_ros.bags.types import DECODE_ERRORS
from rynn_brain_ros.config import ViewConfig
from rynn_brain_ros.msg import BrainStatus, GroundingArray, Plan
from rynn_brain_ros.ros.conversion import to_ros
from rynn_brain_ros.ros.lifecycle import ManagedNode
from rynn_brain_ros.ros.parameters import declare, read, refuse_unknown
from rynn_brain_ros.ros.raw_images import RawImages
from rynn_brain_ros.ros.spinning import spin
from rynn_brain_ros.values import (
    EncodedImage,
    ImageError,
    InputError,
    LiftedGrounding,
    RynnBrainError,
    SelectedFrame,
)
from rynn_brain_ros.view import delete_all, marker_array
from rynn_brain_ros.view.overlay import Image as Pixels
from rynn_brain_ros.view.panel import Heard, draw_panel, panel_rows
from rynn_brain_ros.view.publications import jpeg_message
from rynn_brain_ros.view.redrawing import frames_of, redrawn

_PATIENCE_S = 0.5
"""An answer may come before a picture that it names."""
_REDRAW_S = 1.0
"""The panel tells of silence, too."""


class ViewNode(ManagedNode):
    """See the module's docstring. Parameters are the fields of `ViewConfig`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("view", **kwargs)
        declare(self, ViewConfig)
        self._config = ViewConfig()
        self._store, self._bridge = typestore(), CvBridge()
        self._raw = RawImages(0, self._refuse)
        self._types: dict[str, str] = {}
        self._heard: list[Any] = []
        self._redraw: Timer | None = None
        self._forget()
        self._markers = self.create_lifecycle_publisher(MarkerArray, "~/markers", 10)
        self._pictures = {
            name: (
                self.create_lifecycle_publisher(Image, f"~/{name}", 2),
                self.create_lifecycle_publisher(CompressedImage, f"~/{name}/compressed", 2),
            )
            for name in ("annotated", "panel")
        }

    # --- life --------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            refuse_unknown(self)
            self._config = read(self, ViewConfig)
            self._types = self._image_types()
        except (RynnBrainError, NameValidationException) as error:
            self.get_logger().error(f"cannot configure: {error}")
            return TransitionCallbackReturn.FAILURE
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = super().on_activate(state)
        self._raw = RawImages(self._config.image_mib << 20, self._refuse)
        for camera, typename in self._types.items():
            type_ = Image if typename == messages.IMAGE else CompressedImage
            images = Subscriber(self, type_, camera, qos_profile=qos_profile_sensor_data, raw=True)
            self._raw.listen(camera, images)
            self._heard.append(images.sub)
        for source in _listed(self._config.sources):
            self._hear(GroundingArray, f"{source}/groundings", self._on_answer)
            self._hear(Plan, f"{source}/plan", self._on_plan)
            self._hear(BrainStatus, f"{source}/status", partial(self._on_status, source))
        self._show_panel()
        # Whatever /clock says: it may be silent itself.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._redraw = self.create_timer(_REDRAW_S, self._show_panel, clock=steady)
        return result

    def _rest(self, why: str) -> None:
        for heard in self._heard:
            self.destroy_subscription(heard)
        self._heard.clear()
        if self._redraw is not None:
            self.destroy_timer(self._redraw)
            self._redraw = None
        self._markers.publish(to_ros(MarkerArray, delete_all()))
        self._forget()

    def _forget(self) -> None:
        self._raw.clear()
        self._statuses: dict[str, tuple[float, BrainStatus]] = {}
        self._answer: GroundingArray | None = None
        self._plan: Plan | None = None

    def _image_types(self) -> dict[str, str]:
        """Message type by the topic's full name."""
        topics = _listed(self._config.color_topics)
        if not topics:
            raise InputError("color_topics names no topic: there is nothing to draw into")
        return {
            self.resolve_topic_name(topic): messages.COMPRESSED_IMAGE
            if topic.endswith("/compressed")
            else messages.IMAGE
            for topic in topics
        }

    def _hear(self, type_: Any, topic: str, callback: Any) -> None:
        self._heard.append(self.create_subscription(type_, topic, callback, 10))

    # --- heard ---------------------------------------------------------------------------------

    def _refuse(self, camera: str, error: ImageError) -> None:
        self.get_logger().warning(f"{camera}: {error}", throttle_duration_sec=5.0)

    def _on_status(self, source: str, status: BrainStatus) -> None:
        self._statuses[source] = time.monotonic(), status
        self._show_panel()

    def _on_plan(self, plan: Plan) -> None:
        self._plan = plan
        self._show_panel()

    def _on_answer(self, answer: GroundingArray) -> None:
        self._answer = answer
        lifted = messages.groundings_of(answer)
        lifetime_s = self._config.marker_lifetime_s
        markers = marker_array(answer.query_id, lifted, lifetime_s=lifetime_s)
        self._markers.publish(to_ros(MarkerArray, markers))
        for frame in frames_of(lifted):
            self._annotate(answer, lifted, frame)
        self._show_panel()

    def _annotate(
        self, answer: GroundingArray, lifted: tuple[LiftedGrounding, ...], frame: SelectedFrame
    ) -> None:
        """Now, or in a moment where the picture has not come yet."""
        if self._show_annotated(answer, lifted, frame):
            return

        def again() -> None:
            self.destroy_timer(timer)
            if not self._show_annotated(answer, lifted, frame):
                camera, _ = frame.frame.key
                self.get_logger().warning(
                    f"{answer.query_id}: its picture from {camera} is not here to be drawn into: "
                    "is that one of color_topics, and image_mib large enough?"
                )

        timer = self.create_timer(_PATIENCE_S, again)

    def _show_annotated(
        self, answer: GroundingArray, lifted: tuple[LiftedGrounding, ...], frame: SelectedFrame
    ) -> bool:
        image = self._image_of(frame)
        if image is None:
            return False
        try:
            caption = f"{answer.query_id} · {answer.question}"
            picture = redrawn(image, lifted, frame, caption)
        except ImageError as error:
            self.get_logger().warning(f"{answer.query_id}: cannot draw into its picture: {error}")
            return True
        self._show("annotated", picture, frame.frame.stamp_ns, frame.frame.frame_id)
        return True

    def _image_of(self, frame: SelectedFrame) -> EncodedImage | None:
        camera, stamp_ns = frame.frame.key
        raw, typename = self._raw.find(camera, stamp_ns), self._types.get(camera)
        if raw is None or typename is None:
            return None
        read = messages.image_of if typename == messages.IMAGE else messages.compressed_image_of
        try:
            return read(self._store.deserialize_cdr(raw, typename))
        except (RynnBrainError, *DECODE_ERRORS) as error:
            self.get_logger().warning(
                f"{camera}: an image cannot be used: {error}", throttle_duration_sec=5.0
            )
            return None

    # --- shown ---------------------------------------------------------------------------------

    def _show_panel(self) -> None:
        now_s = time.monotonic()
        statuses = {name: Heard(told, now_s - s) for name, (s, told) in self._statuses.items()}
        rows = panel_rows(statuses, self._answer, self._plan)
        self._show("panel", draw_panel(rows), self.get_clock().now().nanoseconds, "")

    def _show(self, name: str, picture: Pixels, stamp_ns: int, frame_id: str) -> None:
        """Raw and compressed, each for those who listen to it."""
        raw, packed = self._pictures[name]
        if raw.get_subscription_count():
            header = to_ros(Header, messages.header(stamp_ns, frame_id))
            raw.publish(self._bridge.cv2_to_imgmsg(picture, "rgb8", header))
        if packed.get_subscription_count():
            packed.publish(to_ros(CompressedImage, jpeg_message(picture, stamp_ns, frame_id)))


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def main(arguments: list[str] | None = None) -> int:
    return spin(ViewNode, SingleThreadedExecutor, arguments=arguments)
