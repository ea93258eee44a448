"""Subscriptions that nobody is called for, and the one thread that takes their messages.

Serialised messages wait in the middleware's bounded queues until the worker takes them, a bunch at
a time: rclpy's executor, which goes through all that its nodes wait for with each message, never
hears of them. The worker decodes headers (pixels stay untouched), feeds `Perception` and wakes
whoever waits for frames.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_msgs.msg import TFMessage

from rynn_brain_ros import messages
from rynn_brain_ros.bags import claims_registered, typestore
from rynn_brain_ros.bags.types import DECODE_ERRORS
from rynn_brain_ros.config import CameraConfig, SeeingConfig
from rynn_brain_ros.memory import AssemblyConfig, AssemblyStats, BufferLimits, DropReason
from rynn_brain_ros.planning import Perception, PerceptionConfig
from rynn_brain_ros.planning.intake import Input, image_input, info_input, transforms_input
from rynn_brain_ros.planning.problems import Problem
from rynn_brain_ros.ros.qos import crowds, fitting, mismatches
from rynn_brain_ros.values import ConfigError, InputError, RynnBrainError

_LOOK_S, _AWAIT_S = 0.1, 0.005
"""How often the worker looks while nobody waits for a frame, one wake-up for several messages, and
while somebody does."""
_AFTER_STAMP = 12
"""Where a serialised message goes on behind its header's stamp: CDR's 4 bytes, then 2 × 4."""
_IMAGE_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
_INFO_QOS = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
_TF_QOS = QoSProfile(depth=1000)
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
    """What was met since `Eyes.start`: a copy that any thread may read. ``cameras`` are counts by
    colour topic, ``dropped`` is of messages that cannot be used and of images that never became
    frames."""

    cameras: Mapping[str, AssemblyStats]
    problems: tuple[Problem, ...] = ()
    dropped: int = 0


class _Taken(CallbackGroup):
    """Of subscriptions whose messages somebody takes: no executor waits for them."""

    def can_execute(self, entity: Any) -> bool:
        return False

    beginning_execution = can_execute

    def ending_execution(self, entity: Any) -> None: ...


class _Stream:
    """One topic's messages, on their way to the worker. ``camera`` is empty for transforms."""

    def __init__(self, topic: str, subscription: Any, take: Input, camera: str) -> None:
        self.topic, self.take, self.camera = topic, take, camera
        self.typename = _TYPES[subscription.msg_type]
        self.subscription = subscription
        self.last = b""
        """The message before, of a kind that repeats itself."""
        self.heard: tuple[float, int] | None = None
        """When its first message was looked at: by a clock that always goes [s], and ROS's [ns]."""

    def emptied(self) -> list[tuple[int, _Stream, bytes]]:
        """(when it was published [ns], this stream, serialised message): what has arrived."""
        end = self.subscription.handle
        with end:
            found = iter(lambda: end.take_message(self.subscription.msg_type, True), None)
            some = itertools.islice(found, self.subscription.qos_profile.depth)  # more may come
            return [(info["source_timestamp"], self, raw) for raw, info in some]


class Eyes:
    """Receives cameras and the transforms, from `start` until `stop`.

    ``cameras`` are by the names that questions may use, the default one first; without, it is the
    one of ``config``. Raises `ConfigError` where two of them are the same.
    """

    def __init__(
        self, node: Node, config: SeeingConfig, cameras: Mapping[str, CameraConfig] | None = None
    ) -> None:
        self._node, self._config = node, config
        named = cameras or {"": config}
        self._named = {
            node.resolve_topic_name(camera.color_topic): camera for camera in named.values()
        }
        if len(self._named) < len(named):
            raise ConfigError(f"two of the cameras {', '.join(named)} have the same color_topic")
        self.cameras = dict(zip(named, self._named, strict=True))
        """Colour topics by name: a frame's camera is its colour topic."""
        self.camera = next(iter(self._named))
        assemblies = tuple(
            AssemblyConfig(
                topic,
                expects_depth=bool(camera.depth_topic),
                expects_depth_info=bool(camera.depth_info_topic),
                named_registered=_is_named_registered(camera),
                sync_tolerance_s=config.sync_tolerance_s,
                max_wait_s=config.max_wait_s,
            )
            for topic, camera in self._named.items()
        )
        limits = BufferLimits(horizon_s=config.horizon_s, max_bytes=config.buffer_mib << 20)
        self._perception_config = PerceptionConfig(assemblies, limits, config.fixed_frame)
        self.perception = Perception(self._perception_config)
        self._store = typestore()
        self._streams: list[_Stream] = []
        self._beside: dict[str, tuple[_Stream, _Stream]] = {}
        self._unusable = 0
        self._awaited = 0
        self._begun = self._ended = 0
        self.seen = self._look_back()
        self._changed = threading.Condition()
        self._bell = threading.Event()
        self._stopping = threading.Event()
        self._group = _Taken()
        self._subscriptions: list[Any] = []
        self._worker: threading.Thread | None = None

    def camera_of(self, name: str) -> str:
        """The colour topic of a camera by its name, or by that topic; empty: the default one."""
        if not name:
            return self.camera
        topic = self.cameras.get(name) or self._node.resolve_topic_name(name)
        if topic not in self._named:
            known = ", ".join(f"{n} ({t})" if n else t for n, t in self.cameras.items())
            raise InputError(f"no camera {name!r}: this node watches {known}")
        return topic

    def start(self, with_worker: bool = True) -> None:
        """Begins with empty memory: what was seen before a pause is not "now" any more. Without a
        worker, `perception` belongs to the caller's thread, which calls `take_in` and polls."""
        self.perception = Perception(self._perception_config)
        self._streams, self._beside, self._unusable = [], {}, 0
        self.seen = self._look_back()
        self._stopping.clear()
        for topic, camera in self._named.items():
            self._watch(topic, camera)
        transforms = ("/tf", False, _TF_QOS), ("/tf_static", True, _TF_STATIC_QOS)
        for name, static, qos in transforms:
            self._subscribe(TFMessage, name, transforms_input(self.perception, static), qos)
        if with_worker:
            self._worker = threading.Thread(target=self._work, name="eyes", daemon=True)
            self._worker.start()

    def stop(self) -> None:
        """May be called twice."""
        self._stopping.set()
        self._bell.set()
        with self._changed:
            self._changed.notify_all()
        if self._worker is not None:
            self._worker.join()
            self._worker = None
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()

    def wait_for_newest(self, timeout_s: float, camera: str = "") -> int | None:
        """Stamp of the newest image received by now of ``camera`` (empty: the default one), once
        it is in the buffer with its depth and pose (or has waited long enough for them). ``None``
        when no image came."""
        camera = camera or self.camera
        with self._changed:
            self._awaited += 1
            self._bell.set()
            try:
                return self._newest(timeout_s, camera)
            finally:
                self._awaited -= 1

    def _newest(self, timeout_s: float, camera: str) -> int | None:
        begun = self._begun  # a look that is under way may have missed what has just come

        def received() -> bool:
            arrived = self.perception.newest_stamp_ns(camera) is not None
            return arrived and self._ended > begun

        def seen() -> bool:
            newest = self.perception.buffer.latest(camera)
            return newest is not None and until_ns is not None and newest.stamp_ns >= until_ns

        self._changed.wait_for(lambda: self._stopping.is_set() or received(), timeout_s)
        until_ns = self.perception.newest_stamp_ns(camera)
        if until_ns is not None:
            self._changed.wait_for(lambda: self._stopping.is_set() or seen(), timeout_s)
        return until_ns

    def mismatches(self) -> tuple[str, ...]:
        """Publishers that are there and whose messages do not come, as sentences."""
        return mismatches(self._node, self._subscriptions)

    def publishers(self, topic: str) -> int:
        """How many there are that this node should hear."""
        return fitting(self._node, self._subscriptions, topic)

    def crowds(self, camera: str = "") -> tuple[str, ...]:
        """Topics of ``camera`` (empty: of all) that several publish, as sentences: two robots'
        pictures, depths or lenses would be taken for one's."""
        streams = (s for s in self._streams if s.camera and s.camera == (camera or s.camera))
        return crowds(self._node, ((stream.topic, stream.typename) for stream in streams))

    # --- subscriptions ---------------------------------------------------------------------------

    def _watch(self, name: str, camera: CameraConfig) -> None:
        seen = self.perception
        self._see(camera.color_topic, seen.add_color, name)
        self._read_info(camera.color_info, seen.add_color_info, name)
        if not camera.depth_topic:
            return
        depth = self._see(camera.depth_topic, seen.add_depth, name)
        resolve = self._node.resolve_topic_name
        if resolve(camera.depth_info) == resolve(camera.color_info) and not camera.depth_info_topic:
            return  # one for both
        info = self._read_info(camera.depth_info, seen.add_depth_info, name)
        if not camera.depth_info_topic:
            self._beside[name] = depth, info

    def _see(self, topic: str, add: Callable[..., None], name: str) -> _Stream:
        compressed = topic.endswith(("/compressed", "/compressedDepth"))
        type_ = CompressedImage if compressed else Image
        take = image_input(add, name, compressed)
        return self._subscribe(type_, topic, take, _IMAGE_QOS, name)

    def _read_info(self, topic: str, add: Callable[..., None], name: str) -> _Stream:
        take = info_input(add, name)
        return self._subscribe(CameraInfo, topic, take, _INFO_QOS, name)

    def _subscribe(
        self, type_: type, topic: str, take: Input, qos: QoSProfile, camera: str = ""
    ) -> _Stream:
        subscription = self._node.create_subscription(
            type_, topic, lambda _: None, qos, callback_group=self._group, raw=True
        )
        self._subscriptions.append(subscription)
        self._streams.append(stream := _Stream(topic, subscription, take, camera))
        return stream

    # --- the worker: everything that touches `Perception` but the buffer --------------------------

    def _work(self) -> None:
        while not self._stopping.is_set():
            self._bell.wait(_AWAIT_S if self._awaited else _LOOK_S)
            self._bell.clear()
            self._begun += 1
            self._taken_in()
            self.perception.poll(self._node.get_clock().now().nanoseconds)
            with self._changed:
                self._ended = self._begun
                self.seen = self._look_back()
                self._changed.notify_all()

    def take_in(self) -> None:
        """Gives what has arrived to `perception`, in the order in which it was published, and
        tells what was met until then."""
        if self._taken_in():
            self.seen = self._look_back()

    def _taken_in(self) -> bool:
        arrived = [stream.emptied() for stream in self._streams]
        for _, stream, raw in heapq.merge(*arrived, key=itemgetter(0)):
            self._take(stream, raw)
        self._expect_depth_infos()
        return any(arrived)

    def _expect_depth_infos(self) -> None:
        """Depth waits for the camera_info beside it where somebody publishes one, and its first
        images a moment: a driver's publishers are not all found at once."""
        for camera, (depth, info) in self._beside.items():
            is_found = info.heard is not None or self._node.count_publishers(info.topic) > 0
            self.perception.expect_depth_info(camera, is_found or self._is_new(depth))

    def _is_new(self, stream: _Stream) -> bool:
        """For half as long as an image waits. Either clock may stand still, or fly."""
        if stream.heard is None:
            return False
        heard_s, heard_ns = stream.heard
        passed_s = (self._node.get_clock().now().nanoseconds - heard_ns) / 1e9
        return max(time.monotonic() - heard_s, passed_s) < self._config.max_wait_s / 2

    def _take(self, stream: _Stream, raw: bytes) -> None:
        if stream.heard is None:
            stream.heard = time.monotonic(), self._node.get_clock().now().nanoseconds
        if stream.typename == messages.CAMERA_INFO:
            # A lens hardly changes, and reading it costs as much as reading the image.
            same = raw[_AFTER_STAMP:] == stream.last[_AFTER_STAMP:]
            stream.last = raw
            if same:
                return
        try:
            # A view: rosbags cuts off CDR's first bytes, which would copy the whole image.
            stream.take(self._store.deserialize_cdr(memoryview(raw), stream.typename))
        except (RynnBrainError, *DECODE_ERRORS) as error:
            self._unusable += 1
            self._node.get_logger().warning(
                f"{stream.topic}: a message cannot be used: {error}", throttle_duration_sec=5.0
            )

    def _look_back(self) -> Seen:
        perception = self.perception
        cameras = {camera: perception.stats(camera) for camera in self._named}
        lost = sum(sum(stats.dropped.values()) for stats in cameras.values())
        lost += sum(
            track.dropped.get(reason, 0)
            for track in perception.buffer.stats().cameras
            for reason in (DropReason.UNREADABLE, DropReason.OVERSIZE)
        )
        lost += self._unusable
        return Seen(cameras, perception.lasting_problems, lost)


def _is_named_registered(camera: CameraConfig) -> bool:
    """Who names a camera_info for the depth says that the topic's name does not tell."""
    return claims_registered(camera.depth_topic) and not camera.depth_info_topic
