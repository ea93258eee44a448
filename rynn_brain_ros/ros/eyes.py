"""Subscriptions that store bytes, and the one thread that looks at them.

A callback only puts the serialised message into a bounded queue. The worker decodes headers
(pixels stay untouched), feeds `Perception` and wakes whoever waits for frames.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_msgs.msg import TFMessage

from rynn_brain_ros import messages
from rynn_brain_ros.bags import typestore
from rynn_brain_ros.config import BrainConfig
from rynn_brain_ros.memory import AssemblyConfig, BufferLimits
from rynn_brain_ros.planning import Perception, PerceptionConfig
from rynn_brain_ros.planning.intake import Input, image_input, info_input, transforms_input
from rynn_brain_ros.values import RynnBrainError

_QUEUE = 256
_TF_QOS = QoSProfile(depth=100)
_TF_STATIC_QOS = QoSProfile(
    depth=100,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
    reliability=ReliabilityPolicy.RELIABLE,
)
_TYPES = {
    Image: messages.IMAGE,
    CompressedImage: messages.COMPRESSED_IMAGE,
    CameraInfo: messages.CAMERA_INFO,
    TFMessage: messages.TF_MESSAGE,
}


@dataclass(frozen=True)
class Seen:
    """What the worker has met since `Eyes.start`: a copy that any thread may read."""

    missing: tuple[tuple[str, int], ...] = ()
    problems: tuple[str, ...] = ()
    dropped: int = 0


class Eyes:
    """Receives one camera and the transforms, from `start` until `stop`."""

    def __init__(self, node: Node, config: BrainConfig) -> None:
        self._node, self._config = node, config
        self.camera = node.resolve_topic_name(config.color_topic)
        assembly = AssemblyConfig(
            self.camera, expects_depth=bool(config.depth_topic), max_wait_s=config.max_wait_s
        )
        limits = BufferLimits(horizon_s=config.horizon_s, max_bytes=config.buffer_mib << 20)
        self._perception_config = PerceptionConfig((assembly,), limits, config.fixed_frame)
        self.perception = Perception(self._perception_config)
        self.seen = Seen()
        self._dropped = 0
        self._store = typestore()
        self._inbox: deque[tuple[str, str, Input, bytes]] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._group = MutuallyExclusiveCallbackGroup()
        self._subscriptions: list[Any] = []
        self._worker: threading.Thread | None = None

    def start(self) -> None:
        """Begins with empty memory: what was seen before a pause is not "now" any more."""
        config = self._config
        self.perception = perception = Perception(self._perception_config)
        self.seen, self._dropped, self._stopping = Seen(), 0, False
        self._inbox.clear()
        self._subscribe_image(config.color_topic, perception.add_color)
        self._subscribe_info(config.color_info, perception.add_color_info)
        if config.depth_topic:
            self._subscribe_image(config.depth_topic, perception.add_depth)
        if config.depth_info_topic:
            self._subscribe_info(config.depth_info_topic, perception.add_depth_info)
        self._subscribe(TFMessage, "/tf", transforms_input(perception, static=False), _TF_QOS)
        self._subscribe(
            TFMessage, "/tf_static", transforms_input(perception, static=True), _TF_STATIC_QOS
        )
        self._worker = threading.Thread(target=self._work, name="eyes", daemon=True)
        self._worker.start()

    def stop(self) -> None:
        """May be called twice."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._worker is not None:
            self._worker.join()
            self._worker = None

    def wait_for_newest(self, timeout_s: float) -> int | None:
        """Stamp of the newest image received by now, once it is in the buffer with its depth and
        pose (or has waited long enough for them). ``None`` when no image came."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._stopping or self.perception.newest_stamp_ns(self.camera) is not None,
                timeout_s,
            )
            until_ns = self.perception.newest_stamp_ns(self.camera)
            if until_ns is not None:
                self._changed.wait_for(lambda: self._stopping or self._seen(until_ns), timeout_s)
        return until_ns

    def _seen(self, stamp_ns: int) -> bool:
        newest = self.perception.buffer.latest(self.camera)
        return newest is not None and newest.stamp_ns >= stamp_ns

    def _subscribe_image(self, topic: str, add: Callable[..., None]) -> None:
        compressed = topic.endswith(("/compressed", "/compressedDepth"))
        take = image_input(add, self.camera, compressed)
        type_ = CompressedImage if compressed else Image
        self._subscribe(type_, topic, take, qos_profile_sensor_data)

    def _subscribe_info(self, topic: str, add: Callable[..., None]) -> None:
        self._subscribe(CameraInfo, topic, info_input(add, self.camera), qos_profile_sensor_data)

    def _subscribe(self, type_: type, topic: str, take: Input, qos: QoSProfile) -> None:
        def store(raw: bytes) -> None:
            with self._changed:
                if len(self._inbox) >= _QUEUE:
                    self._inbox.popleft()
                    self._dropped += 1
                self._inbox.append((topic, _TYPES[type_], take, raw))
                self._changed.notify_all()

        subscription = self._node.create_subscription(
            type_, topic, store, qos, callback_group=self._group, raw=True
        )
        self._subscriptions.append(subscription)

    def _work(self) -> None:
        """The worker: everything that touches `Perception` but the buffer happens here."""
        while True:
            with self._changed:
                # Wakes without a message too: an image's wait for depth or transform runs out.
                self._changed.wait_for(lambda: self._inbox or self._stopping, timeout=0.05)
                if self._stopping:
                    return
                batch = tuple(self._inbox)
                self._inbox.clear()
            for topic, typename, take, raw in batch:
                self._take(topic, typename, take, raw)
            self.perception.poll(self._node.get_clock().now().nanoseconds)
            stats = self.perception.stats(self.camera)
            missing = tuple(sorted(stats.missing.items()))
            with self._changed:
                dropped = self._dropped + sum(stats.dropped.values())
                self.seen = Seen(missing, tuple(self.perception.problems), dropped)
                self._changed.notify_all()

    def _take(self, topic: str, typename: str, take: Input, raw: bytes) -> None:
        try:
            take(self._store.deserialize_cdr(raw, typename))
        except (RynnBrainError, ValueError, IndexError) as error:
            with self._changed:
                self._dropped += 1
            self._node.get_logger().warning(
                f"{topic}: a message cannot be used: {error}", throttle_duration_sec=5.0
            )
