"""A world's clock publishes what its sensors see, when they see it, at the rates asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("mujoco")

from rynn_brain_ros.memory import decode_color, decode_depth
from rynn_brain_ros.messages import image_of
from rynn_brain_ros.sim.sensing import CameraStream, WorldClock
from rynn_brain_ros.sim.table import TableWorld
from rynn_brain_ros.sim.table_layout import random_scene
from rynn_brain_ros.sim.world import START_NS
from rynn_brain_ros.values import EncodedImage

FRONT, WRIST = CameraStream("front", rate_hz=5.0), CameraStream("wrist", False, rate_hz=2.5)
SCENE = random_scene(0, (("red", "cube"), ("blue", "ball")), n_clutter=0)


class Listener:
    """Keeps (topic, type, message, time)."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str, Any, int]] = []

    def __call__(self, topic: str, typename: str, message: Any, now_ns: int) -> None:
        self.heard.append((topic, typename, message, now_ns))

    def of(self, topic: str) -> list[Any]:
        return [message for name, _, message, _ in self.heard if name == topic]

    def times_ms(self, topic: str) -> list[int]:
        return [(t - START_NS) // 1_000_000 for name, _, _, t in self.heard if name == topic]


@pytest.fixture
def world():
    world = TableWorld(SCENE, 64, 48)
    yield world
    world.close()


def watched(
    world: TableWorld, streams: Sequence[CameraStream], **how: Any
) -> tuple[WorldClock, Listener]:
    listener = Listener()
    return WorldClock(world, streams, (listener,), **how), listener


def stamp_ns(header: Any) -> int:
    return header.stamp.sec * 1_000_000_000 + header.stamp.nanosec


def test_everything_is_published_once_at_the_start_states_before_pictures(world: TableWorld):
    _, listener = watched(world, (FRONT, WRIST))
    assert [topic for topic, *_ in listener.heard] == [
        "/tf_static",
        "/tf",
        "/joint_states",
        FRONT.info_topic,
        FRONT.depth_topic,
        FRONT.color_topic,
        WRIST.info_topic,
        WRIST.color_topic,
    ]


def test_states_come_before_the_pictures_of_their_moment(world: TableWorld):
    clock, listener = watched(world, (FRONT,))
    clock.wait(1.0)
    order = [(now_ns, topic) for topic, _, _, now_ns in listener.heard]
    for now_ns, topic in order:
        if topic == FRONT.color_topic:
            assert order.index((now_ns, "/tf")) < order.index((now_ns, topic))


def test_each_topic_comes_at_exactly_its_rate(world: TableWorld):
    clock, listener = watched(world, (FRONT, WRIST))
    clock.wait(2.0)
    assert listener.times_ms("/tf") == list(range(0, 2001, 40))
    assert listener.times_ms(FRONT.color_topic) == list(range(0, 2001, 200))
    assert listener.times_ms(WRIST.color_topic) == list(range(0, 2001, 400))
    assert Counter(topic for topic, *_ in listener.heard)["/tf_static"] == 1


@pytest.mark.parametrize("rate_hz", [3.0, 7.0, 12.5, 30.0])
def test_a_rate_that_fits_into_no_period_is_right_on_average(world: TableWorld, rate_hz: float):
    clock, listener = watched(world, (CameraStream("front", False, rate_hz),))
    clock.wait(2.0)
    times_ms = listener.times_ms(FRONT.color_topic)
    assert len(times_ms) == 1 + int(2 * rate_hz)
    due_ms = 1000 * np.arange(len(times_ms)) / rate_hz
    late_ms = np.array(times_ms) - due_ms
    assert late_ms.min() >= -1e-6 and late_ms.max() < 20


def test_waiting_lets_whole_control_periods_pass_and_keeps_what_is_left(world: TableWorld):
    clock, _ = watched(world, ())
    waited = []
    for _ in range(4):
        clock.wait(0.015)
        waited.append((clock.now_ns() - START_NS) // 1_000_000)
    assert waited == [0, 20, 40, 60]


def test_many_short_waits_lose_no_time(world: TableWorld):
    clock, _ = watched(world, ())
    for _ in range(1000):
        clock.wait(0.001)
    assert clock.now_ns() - START_NS == 1_000_000_000


def test_every_stamp_is_the_worlds_time(world: TableWorld):
    clock, listener = watched(world, (FRONT, WRIST))
    clock.wait(0.4)
    for topic, _, message, now_ns in listener.heard:
        if topic == "/tf":
            assert {stamp_ns(t.header) for t in message.transforms} == {now_ns}
        elif topic != "/tf_static":
            assert stamp_ns(message.header) == now_ns


def test_a_frozen_camera_keeps_the_stamp_of_its_picture(world: TableWorld):
    clock, listener = watched(world, (FRONT,))
    world.freeze_camera("front")
    clock.wait(0.4)
    stamps = {stamp_ns(m.header) for topic in (FRONT.color_topic, FRONT.depth_topic)
              for m in listener.of(topic)}  # fmt: skip
    assert stamps == {START_NS}


def test_depth_is_read_back_as_whole_millimetres_raw_and_packed(world: TableWorld):
    pictures, recorder = [], Listener()
    _, listener = watched(world, (FRONT,), watch=pictures.append, recorders=(recorder,))
    (raw,) = listener.of(FRONT.depth_topic)
    (packed,) = recorder.of(FRONT.packed_depth_topic)
    assert (raw.encoding, packed.format) == ("16UC1", "16UC1; compressedDepth png")
    expected_mm = np.round(pictures[0].depth_m * 1000).astype(int)
    assert expected_mm.max() > 500
    data = bytes(packed.data)
    for image in (image_of(raw), EncodedImage(packed.format, data, compressed=True)):
        read_mm = np.round(np.nan_to_num(decode_depth(image)) * 1000).astype(int)
        assert np.array_equal(read_mm, expected_mm)
    assert np.array_equal(cv2.imdecode(np.frombuffer(data[12:], np.uint8), -1), expected_mm)


def test_recorders_get_what_sinks_get_but_for_packed_depth(world: TableWorld):
    recorder = Listener()
    clock, listener = watched(world, (FRONT, WRIST), recorders=(recorder,))
    clock.wait(0.4)
    packed = {FRONT.depth_topic: FRONT.packed_depth_topic}
    live = [(packed.get(topic, topic), now_ns) for topic, _, _, now_ns in listener.heard]
    assert [(topic, now_ns) for topic, _, _, now_ns in recorder.heard] == live


def test_colours_are_read_back_as_they_were(world: TableWorld):
    pictures = []
    _, listener = watched(world, (FRONT,), watch=pictures.append)
    (message,) = listener.of(FRONT.color_topic)
    rgb = decode_color(EncodedImage(message.format, bytes(message.data), compressed=True))
    assert np.abs(rgb.astype(int) - pictures[0].rgb).mean() < 6
    # Red and blue are not swapped.
    red, blue = (np.abs(rgb[..., c].astype(int) - pictures[0].rgb[..., 0]).mean() for c in (0, 2))
    assert red < blue


def test_only_pictures_of_cameras_with_depth_are_watched(world: TableWorld):
    pictures = []
    watched(world, (FRONT, WRIST), watch=pictures.append)
    assert [picture.camera for picture in pictures] == ["front"]
