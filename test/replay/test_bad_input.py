"""Bad input ends in one clear sentence and the right exit code, and leaves nothing half-written."""

from __future__ import annotations

import errno
import json
import math
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from recordings import (
    CUBE,
    Item,
    answers,
    changed,
    final_names,
    items,
    record_answer,
    replay,
    small_scene,
    without,
    write_items,
)

from rynn_brain_ros.bags import BagInfo, BagReader, CameraTopics, TopicInfo, find_cameras
from rynn_brain_ros.cli import main
from rynn_brain_ros.models import ENGINE_SPELLINGS
from rynn_brain_ros.replay import choose_camera
from rynn_brain_ros.replay.inputs import assembly_of, transform_topics
from rynn_brain_ros.sim.tabletop import (
    COLOR_TOPIC,
    DEPTH_TOPIC,
    FIXED_FRAME,
    INFO_TOPIC,
    OPTICAL_FRAME,
    START_NS,
)
from rynn_brain_ros.values import BagError, Task

HALF_S = 500_000_000
IMAGE = "sensor_msgs/msg/Image"
Change = Callable[[Item], Item | None]


@pytest.fixture
def complaint(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """What the command said on standard error: one line."""

    def read() -> str:
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("rynn-brain: ")
        return line.removeprefix("rynn-brain: ")

    return read


def only(out: Path) -> dict:
    (answer,) = answers(out)
    (grounding,) = answer["groundings"]
    return grounding


# --- bags that cannot be asked -------------------------------------------------------------------


def test_a_path_that_does_not_exist(tmp_path: Path, complaint):
    out = tmp_path / "out"
    assert replay(tmp_path / "none.mcap", out) == 2
    text = complaint()
    assert "no recording at" in text and "none.mcap" in text
    assert not out.exists()


def test_a_text_file(tmp_path: Path, complaint):
    file = tmp_path / "notes.txt"
    file.write_text("not a bag\n")
    assert replay(file, tmp_path / "out") == 2
    assert "is not a rosbag2 recording" in complaint()


def test_an_empty_file(tmp_path: Path, complaint):
    file = tmp_path / "empty.mcap"
    file.touch()
    assert replay(file, tmp_path / "out") == 2
    assert "empty.mcap" in complaint()


def test_an_empty_folder(tmp_path: Path, complaint):
    (tmp_path / "bag").mkdir()
    assert replay(tmp_path / "bag", tmp_path / "out") == 2
    assert str(tmp_path / "bag") in complaint()


def test_a_bag_without_images(small_bag: Path, tmp_path: Path, complaint):
    tf_only = changed(small_bag, tmp_path / "tf.mcap", lambda i: i if i.topic == "/tf" else None)
    assert replay(tf_only, tmp_path / "out") == 2
    text = complaint()
    assert "has no camera" in text and "tf2_msgs/msg/TFMessage" in text
    assert final_names(tmp_path / "out") == []


def test_an_unknown_camera(small_bag: Path, tmp_path: Path, complaint):
    assert replay(small_bag, tmp_path / "out", "--camera", "/wrist") == 2
    text = complaint()
    assert "no camera '/wrist'" in text and COLOR_TOPIC in text


def test_several_cameras_without_a_choice(small_bag: Path, tmp_path: Path, complaint):
    both = items(small_bag)
    for item in items(small_bag):
        if item.topic != "/tf":
            item.topic = item.topic.replace("/camera/", "/wrist/")
            both.append(item)
    bag = write_items(tmp_path / "two.mcap", both)
    assert replay(bag, tmp_path / "out") == 2
    text = complaint()
    assert "--camera" in text
    assert "/wrist/color/image_raw/compressed" in text and COLOR_TOPIC in text


@pytest.mark.parametrize("name", ["camera", "/camera", COLOR_TOPIC, COLOR_TOPIC.lstrip("/")])
def test_a_camera_may_be_chosen_by_name(name: str, small_bag: Path, tmp_path: Path):
    assert replay(small_bag, tmp_path / "out", "--camera", name) == 0


def test_a_camera_may_be_seen_through_another_of_its_topics(small_bag: Path, tmp_path: Path):
    both = items(small_bag)
    for item in items(small_bag):
        if item.topic == COLOR_TOPIC:
            item.topic = "/camera/color/image_rect_color/compressed"
            both.append(item)
    bag = write_items(tmp_path / "two.mcap", both)
    for topic in (COLOR_TOPIC, "/camera/color/image_rect_color/compressed"):
        assert replay(bag, tmp_path / "out", "--camera", topic) == 0
        assert only(tmp_path / "out")["camera"] == topic


def test_a_camera_without_messages_is_no_choice():
    empty, full = "/a/image_raw", "/b/image_raw"
    rows = (TopicInfo(empty, IMAGE, 0), TopicInfo(full, IMAGE, 3))
    info = BagInfo(Path("x"), "mcap", 0, 1, 3, None, rows)
    assert choose_camera(info, find_cameras(info)).color_topic == full
    info = BagInfo(Path("x"), "mcap", 0, 1, 0, None, rows[:1])
    for wanted in ("", empty):
        with pytest.raises(BagError, match=f"no image was recorded on {empty}"):
            choose_camera(info, find_cameras(info), wanted)


# --- arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--at", "60"), "ends after 1.05 s"),
        (("--at", "-1"), "cannot ask at -1.0 s"),
        (("--at", "nan"), "cannot ask at nan s"),
        (("--at", "inf"), "cannot ask at inf s"),
        (("--every", "0"), "cannot ask every 0.0 s"),
        (("--every", "-2"), "cannot ask every -2.0 s"),
        (("--every", "nan"), "cannot ask every nan s"),
        (("--every", "1e-12"), "give 0.001 s or more"),
        (("--at", "1e300"), "ends after 1.05 s"),
        (("--every", "1e300"), "cannot ask every 1e+300 s"),
        (("--expect", "answers.jsonl", "--tol-px", "nan"), "a tolerance of nan px"),
        (("--expect", "answers.jsonl", "--tol-m", "-1"), "a tolerance of -1.0 m"),
        (("--frames", "0"), "--frames 0: show 1…512 frames"),
        (("--frames", "100000"), "1…512"),
        (("--engine", "gpt"), f"unknown engine 'gpt': use {ENGINE_SPELLINGS}"),
        (("--engine", "recorded:"), "unknown engine 'recorded:'"),
        (("--ask", ""), "--ask is empty: say it in words"),
        (("--ask", "\udcff"), "no UTF-8"),
    ],
)
def test_an_argument_that_cannot_be(
    arguments: tuple[str, ...], words: str, small_bag: Path, tmp_path: Path, complaint
):
    assert replay(small_bag, tmp_path / "out", *arguments) == 2
    assert words in complaint()
    assert final_names(tmp_path / "out") == []


def test_a_run_is_never_replayed_over_itself(small_bag: Path, tmp_path: Path, complaint):
    replay(small_bag, tmp_path)
    size = (tmp_path / "run.mcap").stat().st_size
    assert replay(tmp_path / "run.mcap", tmp_path) == 2
    assert "would replace it: give another --out" in complaint()
    assert (tmp_path / "run.mcap").stat().st_size == size


def test_a_bag_may_lie_in_the_folder_of_an_earlier_replay(small_bag: Path, tmp_path: Path):
    replay(small_bag, tmp_path)
    bag = Path(shutil.copy(small_bag, tmp_path / "x.mcap"))
    assert replay(bag, tmp_path) == 0
    assert bag.read_bytes() == small_bag.read_bytes()


def test_the_time_before_the_first_image(small_bag: Path, tmp_path: Path, complaint):
    def begin_late(item: Item) -> Item | None:
        return None if item.topic != "/tf" and item.log_ns < START_NS + HALF_S else item

    bag = changed(small_bag, tmp_path / "late.mcap", begin_late)
    assert replay(bag, tmp_path / "out", "--at", "0.2") == 2
    assert complaint().endswith("had arrived by 0.20 s")
    assert final_names(tmp_path / "out") == []


# --- calibration and depth -----------------------------------------------------------------------


def spoil(topic: str, change: Callable[[Item], object]) -> Change:
    def apply(item: Item) -> Item:
        if item.topic == topic:
            change(item)
        return item

    return apply


def set_field(name: str, value: object) -> Callable[[Item], None]:
    return lambda item: setattr(item.value, name, value)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (spoil(INFO_TOPIC, set_field("k", np.full(9, np.nan))), "no_intrinsics"),
        (spoil(INFO_TOPIC, set_field("k", np.zeros(9))), "no_intrinsics"),
        (spoil(INFO_TOPIC, set_field("width", 640)), "no_intrinsics"),
        (spoil(DEPTH_TOPIC, set_field("encoding", "rgb8")), "no_depth"),
        (spoil(DEPTH_TOPIC, set_field("data", np.zeros(160 * 120 * 2, np.uint8))), "no_depth"),
        (spoil(DEPTH_TOPIC, set_field("data", np.zeros(100, np.uint8))), "no_depth"),
        (lambda item: None if item.topic == INFO_TOPIC else item, "no_intrinsics"),
        (lambda item: None if item.topic == DEPTH_TOPIC else item, "no_depth"),
    ],
    ids=[
        *("nan_intrinsics", "zero_intrinsics", "info_of_another_size", "depth_is_rgb"),
        *("depth_all_zero", "depth_cut", "no_camera_info", "no_depth"),
    ],
)
def test_a_point_that_cannot_be_lifted_is_refused_by_name(
    change: Change, code: str, small_bag: Path, tmp_path: Path
):
    bag = changed(small_bag, tmp_path / "spoilt.mcap", change)
    assert replay(bag, tmp_path / "out") == 0
    grounding = only(tmp_path / "out")
    assert grounding["refusal"]["code"] == code
    assert grounding["point_camera_m"] is None
    assert grounding["points_px"]


def test_depth_of_another_size_is_refused(small_bag: Path, tmp_path: Path):
    def halve(item: Item) -> None:
        depth = item.value.data.view(np.uint16).reshape(120, 160)[::2, ::2]
        item.value.width, item.value.height, item.value.step = 80, 60, 160
        item.value.data = np.ascontiguousarray(depth).view(np.uint8).ravel()

    bag = changed(small_bag, tmp_path / "half.mcap", spoil(DEPTH_TOPIC, halve))
    assert replay(bag, tmp_path / "out") == 0
    assert only(tmp_path / "out")["refusal"]["code"] == "depth_size"


def test_depth_that_only_its_topics_name_calls_registered_is_not_taken_for_it(
    small_bag: Path, tmp_path: Path
):
    messages = items(small_bag)
    for item in items(small_bag):
        if item.topic == INFO_TOPIC:
            item.topic = DEPTH_TOPIC.replace("image_raw", "camera_info")
            item.value.k = 0.5 * item.value.k
            messages.append(item)
    for item in messages:
        if item.topic.startswith(DEPTH_TOPIC.rpartition("/")[0]):
            item.value.header.frame_id = "another_lens"
    bag = write_items(tmp_path / "claimed.mcap", messages)
    assert replay(bag, tmp_path / "out") == 0
    refusal = only(tmp_path / "out")["refusal"]
    assert refusal["code"] == "no_transform" and "another_lens" in refusal["text"]


def test_camera_info_that_comes_too_late_is_named(small_bag: Path, tmp_path: Path, capsys):
    def late(item: Item) -> Item | None:
        return None if item.topic == INFO_TOPIC and item.log_ns < START_NS + 2 * HALF_S else item

    bag = changed(small_bag, tmp_path / "late.mcap", late)
    assert replay(bag, tmp_path / "out", "--at", "0.5") == 0
    assert only(tmp_path / "out")["refusal"]["code"] == "no_intrinsics"
    assert "frames came without camera_info" in capsys.readouterr().out


# --- transforms ----------------------------------------------------------------------------------


def test_without_tf_the_point_stays_in_the_cameras_frame(small_bag: Path, tmp_path: Path, capsys):
    assert replay(without(small_bag, tmp_path / "no_tf.mcap", "/tf"), tmp_path / "out") == 0
    grounding = only(tmp_path / "out")
    assert grounding["point_camera_m"] is not None
    assert grounding["point_fixed_m"] is None
    assert grounding["pose_refusal"]["code"] == "no_transform"
    assert f"m in {OPTICAL_FRAME}" in capsys.readouterr().out


def test_a_loop_in_tf_is_named(small_bag: Path, tmp_path: Path, capsys):
    def loop(item: Item) -> None:
        (there,) = item.value.transforms
        back = type(there)(
            header=type(there.header)(there.header.stamp, there.child_frame_id),
            child_frame_id=there.header.frame_id,
            transform=there.transform,
        )
        item.value.transforms = [there, back]

    bag = changed(small_bag, tmp_path / "loop.mcap", spoil("/tf", loop))
    assert replay(bag, tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "loop" in said
    assert said.count(FIXED_FRAME) < 10


def test_a_transform_of_nan_is_named_and_ignored(small_bag: Path, tmp_path: Path, capsys):
    def poison(item: Item) -> None:
        item.value.transforms[0].transform.translation.x = math.nan

    bag = changed(small_bag, tmp_path / "nan.mcap", spoil("/tf", poison))
    assert replay(bag, tmp_path / "out") == 0
    assert only(tmp_path / "out")["point_fixed_m"] is None
    assert "NaN" in capsys.readouterr().out


def test_tf_that_arrives_within_the_wait_is_used(small_bag: Path, tmp_path: Path):
    def delay(item: Item) -> Item:
        item.log_ns += 250_000_000 if item.topic == "/tf" else 0
        return item

    bag = changed(small_bag, tmp_path / "late.mcap", delay)
    assert replay(bag, tmp_path / "out", "--at", "0.5") == 0
    assert only(tmp_path / "out")["point_fixed_m"] is not None


def test_tf_that_arrives_after_the_wait_is_refused(small_bag: Path, tmp_path: Path):
    def delay(item: Item) -> Item:
        item.log_ns += 900_000_000 if item.topic == "/tf" else 0
        return item

    bag = changed(small_bag, tmp_path / "late.mcap", delay)
    assert replay(bag, tmp_path / "out", "--at", "0.5") == 0
    grounding = only(tmp_path / "out")
    assert grounding["point_camera_m"] is not None
    assert grounding["pose_refusal"]["code"] == "no_transform"


def test_an_unknown_fixed_frame_is_refused_with_those_that_there_are(
    small_bag: Path, tmp_path: Path, complaint
):
    assert replay(small_bag, tmp_path, "--fixed-frame", "moon") == 2
    text = complaint()
    assert "has no frame 'moon' for --fixed-frame; it has: " in text and FIXED_FRAME in text
    assert not list(tmp_path.iterdir())


def test_no_frame_is_known_where_there_are_no_transforms(
    small_bag: Path, tmp_path: Path, complaint
):
    bag = without(small_bag, tmp_path / "still.mcap", "/tf")
    assert replay(bag, tmp_path / "out", "--fixed-frame", FIXED_FRAME) == 2
    assert "it has: no transforms" in complaint()


def test_a_known_fixed_frame_may_be_spelled_as_it_was_long_ago(small_bag: Path, tmp_path: Path):
    assert replay(small_bag, tmp_path, "--fixed-frame", f"/{FIXED_FRAME}") == 0
    assert only(tmp_path)["point_fixed_m"] is not None


def test_a_frame_of_the_tree_that_is_not_the_cameras_is_told(
    small_bag: Path, tmp_path: Path, capsys
):
    def cut(item: Item) -> Item:
        for transform in item.value.transforms if item.topic == "/tf" else ():
            transform.child_frame_id = "elsewhere"
        return item

    bag = changed(small_bag, tmp_path / "cut.mcap", cut)
    assert replay(bag, tmp_path / "out", "--fixed-frame", "elsewhere") == 0
    assert "3 of 3 frames came without pose: " in capsys.readouterr().out
    assert only(tmp_path / "out")["pose_refusal"]["code"] == "no_transform"


def with_robots(small_bag: Path, path: Path, *namespaces: str) -> Path:
    """Robots with the same frame names, the first one with the camera, each other one elsewhere."""
    own, *others = namespaces
    result = items(small_bag)
    for item in result:
        item.topic = f"{own}{item.topic}"
    for number, namespace in enumerate(others, 1):
        for item in items(small_bag):
            if item.topic == "/tf":
                item.topic = f"{namespace}/tf"
                item.value.transforms[0].transform.translation.x += number
                item.log_ns += 1000
                result.append(item)
    return write_items(path, result)


@pytest.mark.parametrize("others", [("/robot2",), ("/robot", "/robot12"), ("", "/robot2")])
def test_the_transforms_of_another_robot_are_not_read(
    others: tuple[str, ...], small_bag: Path, tmp_path: Path, capsys
):
    assert replay(small_bag, tmp_path / "alone") == 0
    capsys.readouterr()
    bag = with_robots(small_bag, tmp_path / "bag.mcap", "/robot1", *others)
    assert replay(bag, tmp_path / "out") == 0
    where = only(tmp_path / "alone")["point_fixed_m"]
    assert only(tmp_path / "out")["point_fixed_m"] == pytest.approx(where, abs=1e-6)
    (note,) = [n for n in capsys.readouterr().out.splitlines() if "not read" in n]
    assert all(f"{other}/tf" in note for other in others) and "those of /robot1/tf" in note


@pytest.mark.parametrize(
    ("recorded", "camera", "used"),
    [
        (["/tf", "/tf_static"], "/camera/image", ["/tf", "/tf_static"]),
        (["tf", "tf_static"], "/camera/image", ["tf", "tf_static"]),
        (["/r1/tf", "/r1/tf_static"], "/camera/image", ["/r1/tf", "/r1/tf_static"]),
        (["/r1/tf", "/r2/tf"], "/camera/image", []),
        (["/r1/tf", "/r1/arm/tf", "/tf"], "/r1/arm/camera/image", ["/r1/arm/tf"]),
        (["/r1/tf", "/tf"], "/r2/image", ["/tf"]),
        (["/tf", "/tf_old"], "/camera/image", ["/tf"]),
    ],
)
def test_one_transform_tree_is_read(recorded: list[str], camera: str, used: list[str]):
    rows = tuple(TopicInfo(topic, "tf2_msgs/msg/TFMessage", 1) for topic in recorded)
    info = BagInfo(Path("x"), "mcap", 0, 1, len(rows), None, rows)
    ignored = [topic for topic in recorded if topic not in used]
    assert transform_topics(info, camera) == (tuple(used), tuple(ignored))


@pytest.mark.parametrize(
    ("depth_info", "expected"),
    [("/camera/depth/camera_info", True), ("/camera/color/camera_info", False), (None, False)],
)
def test_a_depth_lens_that_was_recorded_is_waited_for(depth_info: str | None, expected: bool):
    color = {"color_topic": "/camera/color/image", "color_info_topic": "/camera/color/camera_info"}
    topics = CameraTopics(
        "camera", **color, depth_topic="/camera/depth/image", depth_info_topic=depth_info
    )
    assert assembly_of(topics).expects_depth_info is expected


# --- clocks --------------------------------------------------------------------------------------


def looping(small_bag: Path, path: Path) -> Path:
    """The bag twice, as `ros2 bag play --loop` gives it: stamps jump back, log time goes on."""
    second = items(small_bag)
    for item in second:
        item.log_ns += 2_000_000_000
    return write_items(path, [*items(small_bag), *second])


def test_a_looping_bag_is_answered_from_its_last_round(small_bag: Path, tmp_path: Path, capsys):
    bag = looping(small_bag, tmp_path / "loop.mcap")
    assert replay(bag, tmp_path / "out") == 0
    (answer,) = answers(tmp_path / "out")
    stamps = [frame["stamp_ns"] for frame in answer["frames"]]
    assert stamps == [START_NS, START_NS + HALF_S, START_NS + 2 * HALF_S]
    assert "the clock went back" in capsys.readouterr().out


def test_a_looping_bag_is_asked_every_so_often(small_bag: Path, tmp_path: Path):
    bag = looping(small_bag, tmp_path / "loop.mcap")
    assert replay(bag, tmp_path / "out", "--every", "0.5") == 0
    assert len(answers(tmp_path / "out")) == 7


def test_an_old_image_is_told(small_bag: Path, tmp_path: Path, capsys):
    more = items(small_bag)
    last = next(item for item in reversed(items(small_bag)) if item.topic == "/tf")
    last.log_ns += 3_950_000_000  # 1.05 s into the bag before
    bag = write_items(tmp_path / "stalled.mcap", [*more, last])
    assert replay(bag, tmp_path / "out") == 0
    assert "the newest image shown had been received 4.0 s before" in capsys.readouterr().out
    assert replay(bag, tmp_path / "out", "--at", "1.5") == 0
    assert "newest image shown" not in capsys.readouterr().out


def test_images_that_were_left_out_are_counted(small_bag: Path, tmp_path: Path, capsys):
    twice = items(small_bag)
    for item in items(small_bag):
        if item.topic == COLOR_TOPIC:
            item.log_ns += 1000
            twice.append(item)
    assert replay(write_items(tmp_path / "twice.mcap", twice), tmp_path / "out") == 0
    assert "3 images were left out: their stamp had been seen" in capsys.readouterr().out


# --- damaged pictures ----------------------------------------------------------------------------


def test_a_cut_picture_is_left_out_and_told(small_bag: Path, tmp_path: Path, capsys):
    def cut(item: Item) -> Item:
        if item.topic == COLOR_TOPIC and item.log_ns == START_NS + 2 * HALF_S:
            item.value.data = item.value.data[: len(item.value.data) // 2]
        return item

    assert replay(changed(small_bag, tmp_path / "cut.mcap", cut), tmp_path / "out") == 0
    (answer,) = answers(tmp_path / "out")
    assert [f["stamp_ns"] for f in answer["frames"]] == [START_NS, START_NS + HALF_S]
    assert "the end of the picture is missing" in capsys.readouterr().out


def test_a_bag_of_damaged_pictures(small_bag: Path, tmp_path: Path, complaint):
    cut = spoil(COLOR_TOPIC, set_field("data", np.zeros(50, np.uint8)))
    assert replay(changed(small_bag, tmp_path / "cut.mcap", cut), tmp_path / "out") == 2
    text = complaint()
    assert f"no usable image of {COLOR_TOPIC}" in text and "damaged" in text
    assert final_names(tmp_path / "out") == []


def test_a_moment_without_an_image_is_passed_over(small_bag: Path, tmp_path: Path):
    def cut(item: Item) -> None:
        item.value.data = item.value.data[: 100 if item.log_ns == START_NS else None]

    bag = changed(small_bag, tmp_path / "cut.mcap", spoil(COLOR_TOPIC, cut))
    assert replay(bag, tmp_path / "out", "--every", "0.5") == 0
    stamps = [answer["stamp_ns"] for answer in answers(tmp_path / "out")]
    assert stamps == [START_NS + HALF_S, START_NS + 2 * HALF_S]


def test_a_moment_whose_only_image_is_damaged_inside_is_passed_over(
    small_bag: Path, tmp_path: Path
):
    pytest.importorskip("simplejpeg")

    def lose_bytes(item: Item) -> None:
        if item.log_ns == START_NS:
            jpeg = as_jpeg(item.value.data)
            item.value.data = np.concatenate([jpeg[:-400], jpeg[-2:]])

    bag = changed(small_bag, tmp_path / "lost.mcap", spoil(COLOR_TOPIC, lose_bytes))
    assert replay(bag, tmp_path / "out", "--every", "0.5") == 0
    told = answers(tmp_path / "out")
    assert [answer["stamp_ns"] for answer in told] == [START_NS + HALF_S, START_NS + 2 * HALF_S]
    assert [len(answer["frames"]) for answer in told] == [1, 2]


def as_jpeg(picture: Any) -> NDArray[np.uint8]:
    return cv2.imencode(".jpg", cv2.imdecode(picture, cv2.IMREAD_COLOR))[1].ravel()


def test_a_picture_with_noise_inside_never_ends_in_a_traceback(small_bag: Path, tmp_path: Path):
    def scramble(item: Item) -> None:
        data = item.value.data.copy()
        data[700:-2] = np.random.default_rng(0).integers(0, 255, len(data) - 702)
        item.value.data = data

    bag = changed(small_bag, tmp_path / "noise.mcap", spoil(COLOR_TOPIC, scramble))
    assert replay(bag, tmp_path / "out") in (0, 2, 3)


# --- answers -------------------------------------------------------------------------------------


def ask_recorded(bag: Path, tmp_path: Path, text: str) -> int:
    file = record_answer(bag, tmp_path / "recorded.jsonl", text)
    return replay(bag, tmp_path / "out", "--engine", f"recorded:{file}")


@pytest.mark.parametrize("text", ["", "   ", "I cannot say.", "x" * 100_000, "<affordance>" * 8000])
def test_an_answer_without_a_grounding_is_refused(text: str, small_bag: Path, tmp_path: Path):
    assert ask_recorded(small_bag, tmp_path, text) == 0
    (answer,) = answers(tmp_path / "out")
    assert answer["text"] == text
    assert answer["groundings"][0]["refusal"]["code"] in ("no_grounding", "incomplete")


@pytest.mark.parametrize("point", ["(1001, 500)", "(-5, 500)", "(500, 99999999)"])
def test_a_coordinate_out_of_range_never_becomes_a_place(
    point: str, small_bag: Path, tmp_path: Path
):
    text = f"<affordance> <frame 2>: {point} </affordance>"
    assert ask_recorded(small_bag, tmp_path, text) == 0
    grounding = only(tmp_path / "out")
    assert grounding["refusal"]["code"] == "out_of_range"
    assert grounding["point_camera_m"] is None


def test_a_frame_that_was_not_shown_is_no_place(small_bag: Path, tmp_path: Path):
    text = "<affordance> <frame 99>: (500, 500) </affordance>"
    assert ask_recorded(small_bag, tmp_path, text) == 0
    (answer,) = answers(tmp_path / "out")
    assert answer["rejected"][0]["reason"] == "frame_out_of_range"
    assert all(grounding["point_camera_m"] is None for grounding in answer["groundings"])


def test_an_answer_with_html_in_it_stays_text_in_the_report(small_bag: Path, tmp_path: Path):
    assert ask_recorded(small_bag, tmp_path, "<script>alert(1)</script>") == 0
    assert "<script>alert" not in (tmp_path / "out/report.html").read_text(encoding="utf-8")


def test_a_question_that_was_not_recorded(small_bag: Path, tmp_path: Path, complaint):
    file = record_answer(small_bag, tmp_path / "recorded.jsonl", "Here.")
    code = replay(small_bag, tmp_path / "out", "--engine", f"recorded:{file}", ask="the green can")
    assert code == 3
    text = complaint()
    assert "'the green can'" in text and CUBE in text
    assert final_names(tmp_path / "out") == []


@pytest.mark.parametrize("line", ['{"model": ', "[1, 2]", '{"text": "x"}', "null"])
def test_recorded_answers_that_are_no_json_name_the_line(
    line: str, small_bag: Path, tmp_path: Path, complaint
):
    file = record_answer(small_bag, tmp_path / "recorded.jsonl", "Here.")
    file.write_text(file.read_text() + line + "\n")
    assert replay(small_bag, tmp_path / "out", "--engine", f"recorded:{file}") == 2
    assert "recorded.jsonl, line 2 is not a recorded answer" in complaint()


def test_a_replays_own_answers_become_recorded_ones_as_the_error_says(
    small_bag: Path, tmp_path: Path, complaint, monkeypatch
):
    run = tmp_path / "the run"
    replay(small_bag, run)
    assert replay(small_bag, tmp_path / "out", "--engine", f"recorded:{run}/answers.jsonl") == 2
    told, _, command = complaint().partition(": rynn-brain ")
    assert "answers.jsonl, line 1 is an answer of a replay" in told
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(command)) == 0
    assert replay(small_bag, tmp_path / "out", "--engine", "recorded:recorded.jsonl") == 0
    assert [a["groundings"] for a in answers(tmp_path / "out")] == [
        a["groundings"] for a in answers(run)
    ]


def test_a_replays_answers_without_their_run_name_what_is_needed(
    small_bag: Path, tmp_path: Path, complaint
):
    replay(small_bag, tmp_path / "run")
    copied = shutil.copy(tmp_path / "run" / "answers.jsonl", tmp_path)
    assert replay(small_bag, tmp_path / "out", "--engine", f"recorded:{copied}") == 2
    assert "rynn-brain record-answers RUN_FOLDER --out " in complaint()


def test_recorded_answers_that_do_not_exist(small_bag: Path, tmp_path: Path, complaint):
    assert replay(small_bag, tmp_path / "out", "--engine", f"recorded:{tmp_path}/none") == 2
    assert "cannot read recorded answers" in complaint()


@pytest.mark.parametrize(
    "line",
    [
        '{"query_id": ',
        "[]",
        "7",
        '{"query_id": "q", "text": ""}',
        '{"query_id": "q", "text": "", "groundings": 3}',
        '{"query_id": "q", "text": "", "groundings": [{}]}',
        '{"query_id": "q", "text": "", "groundings": [{"kind": "object", "points_px": 4}]}',
    ],
)
def test_expected_answers_that_are_none_name_the_line(
    line: str, small_bag: Path, tmp_path: Path, complaint
):
    expect = tmp_path / "expect.jsonl"
    expect.write_text(line + "\n")
    assert replay(small_bag, tmp_path / "out", "--expect", str(expect)) == 2
    assert "expect.jsonl, line 1 is no answer" in complaint()


def test_expected_answers_that_do_not_exist(small_bag: Path, tmp_path: Path, complaint):
    assert replay(small_bag, tmp_path / "out", "--expect", str(tmp_path / "none")) == 2
    assert "cannot read expected answers" in complaint()


# --- disks ---------------------------------------------------------------------------------------


def test_a_folder_below_a_file_cannot_be_written(small_bag: Path, tmp_path: Path, complaint):
    (tmp_path / "file").touch()
    assert replay(small_bag, tmp_path / "file" / "out") == 4
    assert f"{tmp_path / 'file'} is a file, not a folder" in complaint()


def test_a_file_in_the_folders_place(small_bag: Path, tmp_path: Path, complaint):
    (tmp_path / "out").touch()
    assert replay(small_bag, tmp_path / "out") == 4
    assert f"{tmp_path / 'out'} is a file, not a folder" in complaint()


def _fails(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode != 0


@pytest.fixture
def tiny_disk(tmp_path: Path):
    """A folder on a disk of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or _fails(mount):
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_nothing_that_looks_whole(small_bag: Path, tiny_disk: Path, complaint):
    assert replay(small_bag, tiny_disk / "out") == 4
    text = complaint()
    assert os.strerror(errno.ENOSPC) in text and "free" in text
    assert final_names(tiny_disk / "out") == []


def run_command(
    arguments: list[str], limit_bytes: int | None = None
) -> subprocess.CompletedProcess[str]:
    def limit() -> None:
        if limit_bytes is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    command = [sys.executable, "-m", "rynn_brain_ros.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, preexec_fn=limit, check=False)


def test_a_file_size_limit_is_one_sentence(small_bag: Path, tmp_path: Path):
    arguments = ["replay", str(small_bag), "--ask", CUBE, "--out", str(tmp_path / "out")]
    done = run_command(arguments, limit_bytes=20_000)
    assert done.returncode == 4
    assert len(done.stderr.splitlines()) == 1
    assert final_names(tmp_path / "out") == []


# --- killed --------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from recordings import ScriptedEngine, ask_bag

class Killer(ScriptedEngine):
    def ask(self, query, on_text=None, cancel=None):
        if self.queries:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().ask(query, on_text, cancel)

from pathlib import Path
ask_bag(Path(sys.argv[1]), Path(sys.argv[2]), Killer("Nothing."), every_s=0.5)
"""


@pytest.fixture
def killed(small_bag: Path, tmp_path: Path) -> Path:
    """What a run leaves that was killed at its second question."""
    out = tmp_path / "out"
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", KILLED, str(small_bag), str(out)]
    assert subprocess.run(command, env=here, check=False).returncode == -signal.SIGKILL
    return out


def test_a_killed_run_has_no_final_names(killed: Path):
    assert final_names(killed) == []


def test_a_killed_run_can_be_read_up_to_there(killed: Path):
    with BagReader(killed / "run.partial.mcap") as bag:
        topics = {message.topic for message, _ in bag.decoded()}
    assert {COLOR_TOPIC, DEPTH_TOPIC, "/rynn_brain/groundings"} <= topics
    (line,) = (killed / "answers.partial.jsonl").read_text().splitlines()
    assert json.loads(line)["text"] == "Nothing."


def test_a_killed_run_can_be_replayed(killed: Path, tmp_path: Path):
    assert replay(killed / "run.partial.mcap", tmp_path / "again") == 0
    assert only(tmp_path / "again")["point_camera_m"] is not None


def test_a_run_may_follow_a_killed_one_in_the_same_folder(killed: Path, small_bag: Path):
    assert replay(small_bag, killed) == 0
    assert final_names(killed) == ["answers.jsonl", "report.html", "run.mcap"]
    assert not list(killed.glob("*partial*"))


def test_the_recorded_task_counts(small_bag: Path, tmp_path: Path):
    """A recorded answer is found for the task that it was recorded for, and no other."""
    file = record_answer(small_bag, tmp_path / "recorded.jsonl", "A box.", Task.OBJECT)
    assert replay(small_bag, tmp_path / "out", "--engine", f"recorded:{file}") == 3


def test_the_small_scene_is_what_the_bag_says(small_bag: Path):
    info = next(item.value for item in items(small_bag) if item.topic == INFO_TOPIC)
    assert (info.width, info.height) == (small_scene().width, small_scene().height)
