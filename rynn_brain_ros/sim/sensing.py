"""A world's sensors as messages: what a real robot would publish, at the rates it would.

The live loop and the recording get the same values, so that a replay sees exactly what was seen
live. `WorldClock` is the one who lets a world's time pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros import messages
from rynn_brain_ros.bags.types import message, typestore
from rynn_brain_ros.sim.world import Picture, World
from rynn_brain_ros.values import EncodedImage

JOINT_STATE = "sensor_msgs/msg/JointState"
_JPEG_QUALITY = 92
_PNG_LEVEL = 1
_DEPTH_HEADER = b"\0" * 12
"""compressed_depth_image_transport's header: unused for 16UC1."""

Sink = Callable[[str, str, Any, int], None]
"""Takes topic, type, message and the time it was received, ns."""
Watcher = Callable[[Picture], None]
"""Sees every picture of the cameras with depth before it is encoded: for a film."""


@dataclass(frozen=True)
class CameraStream:
    """One camera's topics, as image_transport names them. Depth is aligned to colour, in whole
    millimetres: ``depth_topic`` has it raw, ``packed_depth_topic`` as PNG without loss."""

    name: str
    with_depth: bool = True
    rate_hz: float = 5.0

    @property
    def color_topic(self) -> str:
        return f"/{self.name}/color/image_raw/compressed"

    @property
    def raw_color_topic(self) -> str:
        return f"/{self.name}/color/image_raw"

    @property
    def info_topic(self) -> str:
        return f"/{self.name}/color/camera_info"

    @property
    def depth_topic(self) -> str:
        return f"/{self.name}/aligned_depth_to_color/image_raw"

    @property
    def packed_depth_topic(self) -> str:
        return f"{self.depth_topic}/compressedDepth"


class WorldClock:
    """Lets a world's time pass, and publishes what its sensors see while it does.

    Transforms and joint states come every ``state_every_s``, before pictures of the same moment;
    where a rate does not fit into whole control periods, at the first period after they are due.
    Everything is published once at the start. ``recorders`` get packed depth where ``sinks`` get
    it raw: packing costs more than all the rest, and is done only for them.
    """

    def __init__(
        self,
        world: World,
        streams: Sequence[CameraStream],
        sinks: Sequence[Sink],
        *,
        state_every_s: float = 0.04,
        watch: Watcher | None = None,
        recorders: Sequence[Sink] = (),
    ) -> None:
        self._world, self._streams = world, tuple(streams)
        self._sinks, self._recorders = tuple(sinks), tuple(recorders)
        self._watch = watch
        self._store = typestore()
        self._state_hz = 1 / state_every_s
        self._n_states, self._n_pictures = 0, dict.fromkeys(self._streams, 0)
        self._start_ns = world.now_ns
        self._ahead_s = 0.0
        self._publish_static()
        self._publish_due()

    def now_ns(self) -> int:
        return self._world.now_ns

    def wait(self, seconds: float) -> None:
        """Whole control periods only; what is left over is waited the next time."""
        period_s = self._world.control_period_s
        self._ahead_s += seconds
        while self._ahead_s >= period_s * (1 - 1e-9):
            self._ahead_s -= period_s
            self._world.step(period_s)
            self._publish_due()

    # --- publishing ------------------------------------------------------------------------------

    def _publish_due(self) -> None:
        due = self._n_due(self._state_hz)
        if due > self._n_states:
            self._n_states = due
            self._publish_state()
        for stream in self._streams:
            due = self._n_due(stream.rate_hz)
            if due > self._n_pictures[stream]:
                self._n_pictures[stream] = due
                self._publish_picture(stream)

    def _n_due(self, rate_hz: float) -> int:
        """How many times should have been published by now; the slack is for sums of floats."""
        passed_s = (self._world.now_ns - self._start_ns) / 1e9
        return 1 + math.floor(passed_s * rate_hz + 1e-6)

    def _send(self, topic: str, typename: str, data: messages.MessageDict) -> None:
        self._send_to((*self._recorders, *self._sinks), topic, typename, data)

    def _send_to(
        self, sinks: Sequence[Sink], topic: str, typename: str, data: messages.MessageDict
    ) -> None:
        value, now_ns = message(typename, data, self._store), self._world.now_ns
        for sink in sinks:
            sink(topic, typename, value, now_ns)

    def _publish_static(self) -> None:
        data = messages.tf_message(self._world.static_transforms())
        self._send("/tf_static", messages.TF_MESSAGE, data)

    def _publish_state(self) -> None:
        self._send("/tf", messages.TF_MESSAGE, messages.tf_message(self._world.transforms()))
        state = self._world.joint_state()
        data = {
            "header": messages.header(state.stamp_ns, ""),
            "name": list(state.names),
            "position": list(state.positions),
            "velocity": list(state.velocities),
            "effort": list(state.efforts),
        }
        self._send("/joint_states", JOINT_STATE, data)

    def _publish_picture(self, stream: CameraStream) -> None:
        picture = self._world.render(stream.name)
        info = self._world.camera_info(stream.name)
        if self._watch is not None and stream.with_depth:
            self._watch(picture)
        stamp_ns, frame_id = picture.stamp_ns, info.frame_id
        self._send(stream.info_topic, messages.CAMERA_INFO, messages.camera_info(info, stamp_ns))
        if stream.with_depth:
            self._publish_depth(stream, picture.depth_m, stamp_ns, frame_id)
        color = messages.compressed_image(
            _encoded_color(picture.rgb), "rgb8; jpeg compressed bgr8", stamp_ns, frame_id
        )
        self._send(stream.color_topic, messages.COMPRESSED_IMAGE, color)

    def _publish_depth(
        self, stream: CameraStream, depth_m: NDArray[np.float32], stamp_ns: int, frame_id: str
    ) -> None:
        depth_mm = np.clip(np.round(depth_m * 1000), 0, 65535).astype("<u2")
        height, width = depth_mm.shape
        raw = EncodedImage("16UC1", depth_mm.tobytes(), width, height, step=2 * width)
        self._send_to(self._sinks, stream.depth_topic, *messages.image(raw, stamp_ns, frame_id))
        if self._recorders:
            packed = messages.compressed_image(
                _packed_depth(depth_mm), "16UC1; compressedDepth png", stamp_ns, frame_id
            )
            self._send_to(
                self._recorders, stream.packed_depth_topic, messages.COMPRESSED_IMAGE, packed
            )


def _encoded_color(rgb: NDArray[np.uint8]) -> bytes:
    quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    return cv2.imencode(".jpg", rgb[..., ::-1], quality)[1].tobytes()


def _packed_depth(depth_mm: NDArray[np.uint16]) -> bytes:
    """A 16-bit PNG behind compressed_depth_image_transport's header."""
    level = [cv2.IMWRITE_PNG_COMPRESSION, _PNG_LEVEL]
    return _DEPTH_HEADER + cv2.imencode(".png", depth_mm, level)[1].tobytes()
