"""From messages to features: which sample stands for a time, and that live and bag agree."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from demonstrations import (
    CAMERA,
    COMMANDS,
    JOINTS,
    Sent,
    camera,
    contract,
    decoded,
    hand,
    joints,
    ns,
    record,
    sent,
    with_position,
)

from rynn_brain_ros.bags import BagReader, message
from rynn_brain_ros.data import Dataset, FaultKind, Streams, contract_from, convert, sample
from rynn_brain_ros.memory import decode_color
from rynn_brain_ros.messages import compressed_image_of


def fed(items: list[Sent], until_s: float = 1e9, kind=None) -> Streams:
    streams = Streams(kind or contract())
    for one in items:
        if one.received_ns <= ns(until_s):
            streams.receive(one.topic, decoded(one), one.received_ns)
    return streams


def test_joints_are_taken_by_name_and_interpolated_to_the_tick():
    values = sample(contract(), fed(sent(), 1.0), ns(1.0)).values
    t = 0.98  # the contract looks 20 ms back, where both sides are known
    assert values["observation.state"] == pytest.approx([t * t, -t, 0.0], abs=1e-4)
    assert values["observation.state"].dtype == np.float32


def test_what_was_received_later_changes_nothing():
    """The live path has not got it yet; the converter must not look at it."""
    kind, now = contract(), ns(1.0)
    live, ahead = sample(kind, fed(sent(), 1.0), now), sample(kind, fed(sent(), 1.4), now)
    for key, value in live.values.items():
        assert np.array_equal(value, ahead.values[key]), key


def test_an_image_that_is_still_on_its_way_is_not_seen():
    """Taken at 1.00 s and received at 1.015 s."""
    kind = contract()
    before, after = (
        sample(kind, fed(sent(), 1.2), ns(1.01)),
        sample(kind, fed(sent(), 1.2), ns(1.02)),
    )
    assert before.ages_s[CAMERA] == pytest.approx(0.06)
    assert after.ages_s[CAMERA] == pytest.approx(0.02)
    assert not np.array_equal(*(f.values["observation.images.main"] for f in (before, after)))


def test_a_late_message_takes_its_place_in_time():
    items = sent()
    late = replace(items[40], late_s=0.2)
    items = sorted([*items[:40], *items[41:], late], key=lambda one: one.received_ns)
    whole, mixed = sample(contract(), fed(sent()), ns(2.0)), sample(contract(), fed(items), ns(2.0))
    for key, value in whole.values.items():
        assert np.array_equal(value, mixed.values[key])


def test_a_grippers_sense_and_unit_do_not_matter():
    """The same hand in millimetres from closed, and as how far it is shut."""
    kind = contract(lambda t: t.replace("{open: 0.04, closed: 0.0}", "{open: 0.0, closed: 100.0}"))

    def shut(one: Sent) -> Sent:
        if one.topic == CAMERA:
            return one
        at = one.data["name"].index("finger")
        return with_position(one, finger=100 - one.data["position"][at] / 0.04 * 100)

    for at_s in (0.3, 0.8):
        plain = sample(contract(), fed(sent(), at_s), ns(at_s)).values
        other = sample(kind, fed([shut(one) for one in sent()], at_s, kind), ns(at_s)).values
        assert plain["action"][2] == other["action"][2] == (1.0 if hand(at_s) else 0.0)


def test_a_delta_is_told_against_the_observation():
    kind = contract(
        lambda text: text.replace(
            "select: [position.a, position.b]\n    - channel: {topic: /joint_commands",
            "select: [position.a, position.b]\n      representation: delta\n"
            "    - channel: {topic: /joint_commands",
        )
    )
    values = sample(kind, fed(sent(), 1.0, kind), ns(1.0)).values
    absolute = sample(contract(), fed(sent(), 1.0), ns(1.0)).values
    moved = absolute["action"][:2] - absolute["observation.state"][:2]
    assert values["action"][:2] == pytest.approx(moved, abs=1e-6)
    assert values["action"][2] == absolute["action"][2]


def test_a_missing_and_a_stale_topic_are_faults_and_no_numbers():
    quiet = [one for one in sent() if one.topic != COMMANDS and one.received_ns < ns(1.0)]
    features = sample(contract(), fed(quiet), ns(2.0))
    assert {(f.kind, f.where) for f in features.faults} == {
        (FaultKind.NO_SAMPLE, COMMANDS),
        (FaultKind.STALE, JOINTS),
        (FaultKind.STALE, CAMERA),
    }
    assert not features.values


def test_nan_is_refused_where_it_comes_in():
    streams = Streams(contract())
    faults = streams.receive(
        JOINTS, decoded(joints(JOINTS, 0.0, {"a": math.nan, "b": 0.0, "finger": 0.0})), ns(0.0)
    )
    assert [f.kind for f in faults] == [FaultKind.NOT_FINITE]
    assert "position.a" in faults[0].text


def test_what_the_contract_makes_infinite_is_refused_where_it_comes_in():
    streams = Streams(contract(lambda text: text.replace("units: rad", "apply: [scale: 1.0e+308]")))
    sent = joints(JOINTS, 0.0, {"a": 10.0, "b": 0.0, "finger": 0.0})
    with np.errstate(over="ignore"):
        faults = streams.receive(JOINTS, decoded(sent), ns(0.0))
    assert [f.kind for f in faults] == [FaultKind.NOT_FINITE]


def test_the_streams_forget_what_is_long_past():
    streams = fed(sent(6.0))
    assert max(len(series.samples) for series in streams.series.values()) < 70


def test_a_clock_that_jumps_back_begins_anew():
    streams = fed(sent(1.0))
    faults = streams.receive(CAMERA, decoded(camera(0, -9.0)), ns(-9.0))
    assert [fault.kind for fault in faults] == [FaultKind.CLOCK_JUMP]
    (series,) = (s for s in streams.series.values() if s.source.channel.topic == CAMERA)
    assert len(series.samples) == 1


ROTATION = """
robot_type: tiny
robot_interface: ros2
fps: 10
observations:
  observation.rotation:
    channel: {topic: /pose, type: geometry_msgs/msg/PoseStamped, dtype: float64}
    align: {strategy: slerp, timeline: receive, delay_ms: 50}
    select: [pose.orientation.x, pose.orientation.y, pose.orientation.z, pose.orientation.w]
    kind: quaternion
"""


def test_a_rotation_between_two_is_found_by_slerp():
    kind = contract_from(ROTATION)
    streams = Streams(kind)
    for at_s, angle in ((0.0, 0.0), (0.1, math.pi / 2)):
        half = angle / 2
        pose = {"orientation": {"x": 0.0, "y": 0.0, "z": math.sin(half), "w": math.cos(half)}}
        value = message("geometry_msgs/msg/PoseStamped", {"pose": pose})
        streams.receive("/pose", value, ns(at_s))
    turned = sample(kind, streams, ns(0.1)).values["observation.rotation"]
    half = math.pi / 8  # the middle of a quarter turn
    assert turned == pytest.approx([0.0, 0.0, math.sin(half), math.cos(half)], abs=1e-12)


def test_live_and_converted_agree_in_numbers_and_pixels(tmp_path: Path):
    """Live: fed message by message, asked at each tick. Converted: the data set of the bag."""
    pytest.importorskip("pyarrow")
    kind, items = contract(), sent()
    bag = record(tmp_path / "demo.mcap", items)
    report = convert([bag], kind, tmp_path / "set").reports[0]
    dataset = Dataset(tmp_path / "set")
    episode = dataset.episodes[0]
    columns = dataset.columns(episode)
    shown = list(dataset.images(episode, "observation.images.main"))

    streams, waiting = Streams(kind), list(items)
    first_ns = report["start_ns"] + round(report["waited_s"] * 1e9)
    assert episode.length == 20
    for row in range(episode.length):
        now_ns = first_ns + round(row * 1e9 / kind.fps)
        while waiting and waiting[0].received_ns <= now_ns:
            one = waiting.pop(0)
            streams.receive(one.topic, decoded(one), one.received_ns)
        live = sample(kind, streams, now_ns)
        for key in ("observation.state", "action"):
            assert np.array_equal(live.values[key], columns[key][row]), (key, row)
        pixels = live.values["observation.images.main"]
        assert np.array_equal(pixels, newest_image(bag, now_ns))
        assert np.abs(pixels.astype(int) - shown[row]).max() <= 4, "more than the codec loses"


def newest_image(bag: Path, now_ns: int) -> np.ndarray:
    """By the simplest means: every image of the bag, the newest that had come."""
    with BagReader(bag) as reader:
        images = [value for m, value in reader.decoded([CAMERA]) if m.log_time_ns <= now_ns]
    return decode_color(compressed_image_of(images[-1]))
