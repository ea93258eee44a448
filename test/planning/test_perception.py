"""What the brain sees: streams in any order, a buffer of whole frames out, driven by a clock."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from rynn_brain_ros.memory import AssemblyConfig, DropReason, SelectionKind, SelectionPolicy
from rynn_brain_ros.memory.images import image_size
from rynn_brain_ros.planning import Perception, PerceptionConfig
from rynn_brain_ros.values import (
    CameraInfo,
    EncodedImage,
    InputError,
    RefusalCode,
    RigidTransform,
)

CAMERA, OPTICAL = "/camera/image", "camera_optical_frame"
INFO = CameraInfo(8, 6, (8.0, 0.0, 3.5, 0.0, 8.0, 2.5, 0.0, 0.0, 1.0), frame_id=OPTICAL)
MS = 1_000_000
# An optical frame that looks along base x: x right is −y, y down is −z.
LOOKING_AHEAD = (-0.5, 0.5, -0.5, 0.5)


def picture(value: int = 100) -> EncodedImage:
    png = cv2.imencode(".png", np.full((6, 8, 3), value, np.uint8))[1].tobytes()
    return EncodedImage("rgb8; png compressed", png, compressed=True)


def depth() -> EncodedImage:
    return EncodedImage("16UC1", np.full((6, 8), 1000, np.uint16).tobytes(), 8, 6, 16)


def pose(stamp_ns: int, parent: str = "base_link", child: str = OPTICAL) -> RigidTransform:
    return RigidTransform(parent, child, (stamp_ns / 1e9, 0.0, 1.0), LOOKING_AHEAD, stamp_ns)


@pytest.fixture
def perception() -> Perception:
    return Perception(PerceptionConfig((AssemblyConfig(CAMERA),)))


def see(perception: Perception, stamp_ns: int) -> None:
    perception.add_transforms([pose(stamp_ns)], static=False)
    perception.add_color_info(CAMERA, INFO, stamp_ns)
    perception.add_depth(CAMERA, stamp_ns, OPTICAL, depth())
    perception.add_color(CAMERA, stamp_ns, OPTICAL, picture())


def lasting(perception: Perception) -> tuple[str, ...]:
    return tuple(problem.text for problem in perception.lasting_problems)


def news(perception: Perception, now_ns: int) -> tuple[str, ...]:
    """What the status tells."""
    return tuple(p.told(now_ns) for p in perception.lasting_problems if p.is_news(now_ns))


def test_a_whole_frame_is_remembered_at_once(perception: Perception):
    see(perception, 100 * MS)
    (frame,) = perception.poll(100 * MS)
    assert perception.buffer.latest(CAMERA) is frame
    assert frame.depth is not None and frame.camera_info == INFO
    assert frame.T_fixed_camera == pose(100 * MS)


def test_a_frame_waits_for_its_transform(perception: Perception):
    see(perception, 100 * MS)
    perception.poll(100 * MS)
    perception.add_color(CAMERA, 200 * MS, OPTICAL, picture())
    perception.add_depth(CAMERA, 200 * MS, OPTICAL, depth())
    assert perception.poll(200 * MS) == ()
    perception.add_transforms([pose(220 * MS)], static=False)
    (frame,) = perception.poll(230 * MS)
    assert frame.T_fixed_camera.translation_m[0] == pytest.approx(0.2)


def test_a_frame_goes_without_when_it_has_waited_long_enough(perception: Perception):
    perception.add_color(CAMERA, 100 * MS, OPTICAL, picture())
    assert perception.poll(100 * MS) == ()
    assert perception.poll(399 * MS) == ()
    (frame,) = perception.poll(400 * MS)
    assert frame.pose_refusal.code is RefusalCode.NO_TRANSFORM
    assert OPTICAL in frame.pose_refusal.text
    assert perception.stats(CAMERA).missing == {"camera_info": 1, "depth": 1, "pose": 1}


def test_an_empty_frame_id_is_named_as_what_a_frame_lacks(perception: Perception):
    perception.add_transforms([pose(100 * MS)], static=True)
    perception.add_color(CAMERA, 100 * MS, "", picture())
    perception.poll(100 * MS)
    (frame,) = perception.poll(400 * MS)
    assert frame.pose_refusal.code is RefusalCode.NO_TRANSFORM
    assert "frame_id is empty" in frame.pose_refusal.text
    assert perception.stats(CAMERA).missing["frame_id"] == 1


def test_at_the_end_nothing_more_is_waited_for(perception: Perception):
    perception.add_color(CAMERA, 100 * MS, OPTICAL, picture())
    perception.flush()
    assert perception.buffer.latest(CAMERA).stamp_ns == 100 * MS


def test_the_fixed_frame_may_be_chosen():
    config = PerceptionConfig((AssemblyConfig(CAMERA),), fixed_frame="odom")
    perception = Perception(config)
    perception.add_transforms([RigidTransform("odom", "base_link")], static=True)
    see(perception, 100 * MS)
    (frame,) = perception.poll(100 * MS)
    assert frame.T_fixed_camera.parent == "odom"


def test_a_frame_that_is_not_optical_is_refused(perception: Perception):
    upright = RigidTransform("base_link", OPTICAL, (0.0, 0.0, 1.0), stamp_ns=100 * MS)
    perception.add_color_info(CAMERA, INFO, 100 * MS)
    perception.add_transforms([upright], static=True)
    perception.add_color(CAMERA, 100 * MS, OPTICAL, picture())
    perception.flush()
    refusal = perception.buffer.latest(CAMERA).pose_refusal
    assert refusal is None or refusal.code is RefusalCode.NOT_OPTICAL


def test_a_problem_of_the_transforms_is_told_once(perception: Perception):
    for stamp_ns in (100 * MS, 200 * MS):
        loop = [pose(stamp_ns), pose(stamp_ns, OPTICAL, "base_link")]
        perception.add_transforms(loop, static=False)
    assert len(perception.problems) == 1


def test_a_clock_that_jumps_back_is_told_and_is_no_lasting_problem(perception: Perception):
    for stamp_ns in (9000 * MS, 100 * MS, 133 * MS):
        see(perception, stamp_ns)
        perception.flush()
    assert len(perception.problems) == 2, "of the transforms and of the pictures"
    assert perception.lasting_problems == ()
    perception.add_transforms([pose(100 * MS, OPTICAL, "base_link")], static=False)
    assert lasting(perception) == perception.problems[2:] != ()


def test_what_is_wrong_beside_a_clock_that_jumps_back_lasts(perception: Perception):
    perception.add_transforms([pose(9000 * MS)], static=False)
    perception.add_transforms([pose(100 * MS), pose(100 * MS, OPTICAL, OPTICAL)], static=False)
    assert len(perception.problems) == 2
    assert lasting(perception) == perception.problems[1:]


def test_a_bag_that_loops_leaves_room_for_lasting_problems(perception: Perception):
    for round_ in range(30):
        for stamp_ns in ((9000 + round_) * MS, 100 * MS):
            perception.add_transforms([pose(stamp_ns)], static=False)
    perception.add_transforms([pose(100 * MS, OPTICAL, "base_link")], static=False)
    assert len(perception.lasting_problems) == 1


def test_a_damaged_picture_is_told_and_not_remembered(perception: Perception):
    broken = EncodedImage("rgb8; jpeg compressed", b"\xff\xd8 and no more", compressed=True)
    perception.add_color(CAMERA, 100 * MS, OPTICAL, broken)
    perception.flush()
    assert perception.buffer.latest(CAMERA) is None
    (problem,) = perception.problems
    assert "the data is neither JPEG nor PNG" in problem


def test_a_picture_whose_header_is_whole_and_whose_pixels_do_not_decode_is_no_frame(
    perception: Perception,
):
    jpeg = bytearray(cv2.imencode(".jpg", np.full((6, 8, 3), 100, np.uint8))[1].tobytes())
    jpeg[jpeg.find(b"\xff\xc4") + 4] = 0xFF  # in a Huffman table
    broken = EncodedImage("rgb8; jpeg compressed", bytes(jpeg), compressed=True)
    assert image_size(broken) == (8, 6)
    see(perception, 100 * MS)
    perception.add_color(CAMERA, 300 * MS, OPTICAL, broken)
    (frame,) = perception.poll(300 * MS)
    assert perception.poll(700 * MS) == ()
    assert perception.buffer.latest(CAMERA) is frame
    (camera,) = perception.buffer.stats().cameras
    assert camera.dropped[DropReason.UNREADABLE] == 1
    (problem,) = perception.problems
    assert "its pixels do not decode" in problem


CUT_OFF = EncodedImage("bgr8", bytes(100), 8, 6, 24)


def fail(perception: Perception, stamp_ns: int, image: EncodedImage = CUT_OFF) -> None:
    perception.add_color(CAMERA, stamp_ns, OPTICAL, image)
    perception.poll(stamp_ns)
    perception.poll(stamp_ns + 400 * MS)


def test_a_problem_of_many_images_is_one_sentence_that_counts_them(perception: Perception):
    for index in range(30):
        fail(perception, index * 1000 * MS)
    (told,) = news(perception, 31_400 * MS)
    assert told.endswith("the message was cut off: drop it (30 times, the last 2 s ago)")


def test_the_same_defect_of_jpegs_of_different_lengths_is_one_problem(perception: Perception):
    for index in range(30):
        data = b"\xff\xd8 and no more" + bytes(index)
        fail(perception, index * 1000 * MS, EncodedImage("rgb8; jpeg", data, compressed=True))
    assert len(perception.problems) == 1


def test_another_defect_is_told_after_many_of_one_kind(perception: Perception):
    for index in range(30):
        fail(perception, index * 1000 * MS)
    fail(perception, 30_000 * MS, EncodedImage("weird", bytes(144), 8, 6, 24))
    assert "not a known colour encoding" in news(perception, 30_500 * MS)[-1]


def test_a_problem_is_over_some_seconds_after_it_was_met_last(perception: Perception):
    fail(perception, 1000 * MS)
    assert len(news(perception, 10_000 * MS)) == 1
    assert news(perception, 12_000 * MS) == ()
    fail(perception, 20_000 * MS)
    assert len(news(perception, 21_000 * MS)) == 1


def test_a_problem_from_before_the_first_look_at_the_clock_is_over_too(perception: Perception):
    perception.add_transforms([pose(100 * MS, OPTICAL, OPTICAL)], static=False)
    perception.poll(1_800_000_000_000 * MS)
    assert len(news(perception, 1_800_000_000_000 * MS)) == 1
    assert news(perception, 1_800_000_011_000 * MS) == ()


def test_a_static_transform_that_was_left_out_stays_a_problem(perception: Perception):
    perception.poll(0)
    perception.add_transforms([pose(0, OPTICAL, OPTICAL)], static=True)
    assert len(news(perception, 3_600_000 * MS)) == 1


def test_kinds_of_problems_do_not_pile_up(perception: Perception):
    for index in range(200):
        loop = pose(100 * MS, f"link_{index}", f"link_{index}")
        perception.add_transforms([loop], static=False)
        perception.poll(index * 10 * MS)
    assert len(perception.problems) == 20
    perception.poll(60_000 * MS)
    fail(perception, 60_000 * MS)
    assert len(perception.problems) == 20
    assert "cut off" in perception.problems[-1], "what is no news made room"


def test_who_asks_where_every_image_is_refused_hears_why(perception: Perception):
    fail(perception, 1000 * MS, EncodedImage("bayer_rggb16", bytes(96), 8, 6, 16))
    with pytest.raises(InputError, match="not a known colour encoding"):
        perception.select(SelectionPolicy(), CAMERA, 1000 * MS)


@pytest.mark.parametrize("kind", list(SelectionKind))
def test_a_damaged_picture_that_nobody_looked_at_is_left_out_when_it_would_be_shown(
    perception: Perception, kind: SelectionKind
):
    for stamp_ns in (0, 600 * MS):
        see(perception, stamp_ns)
        perception.poll(stamp_ns)
    perception.add_color(CAMERA, 700 * MS, OPTICAL, lost_bytes())
    perception.poll(700 * MS)
    perception.poll(1100 * MS)
    assert perception.buffer.latest(CAMERA).stamp_ns == 700 * MS
    shown = perception.select(SelectionPolicy(kind), CAMERA, 700 * MS)
    assert shown[-1].frame.stamp_ns == 600 * MS
    assert perception.buffer.latest(CAMERA).stamp_ns == 600 * MS
    (camera,) = perception.buffer.stats().cameras
    assert camera.dropped[DropReason.UNREADABLE] == 1
    assert "damaged inside" in news(perception, 1100 * MS)[0]


def lost_bytes() -> EncodedImage:
    pytest.importorskip("simplejpeg")
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    whole = cv2.imencode(".jpg", noise)[1].tobytes()
    return EncodedImage("jpeg", whole[:-1000] + whole[-2:], compressed=True)


@pytest.mark.parametrize(
    ("info", "told"),
    [
        (replace(INFO, k=(0.0,) * 9), "not positive"),
        (replace(INFO, width=0), "the image size is 0×6"),
        (replace(INFO, d=(0.1,), distortion_model="odd"), "unknown distortion model 'odd'"),
        (replace(INFO, width=80), "the camera_info of another stream?"),
    ],
)
def test_a_lens_that_cannot_be_used_is_told_before_anybody_asks(
    perception: Perception, info: CameraInfo, told: str
):
    perception.add_color_info(CAMERA, info, 0)
    see_with(perception, 1000 * MS, depth())
    (problem,) = news(perception, 3_600_000 * MS)
    assert told in problem
    perception.add_color_info(CAMERA, INFO, 1500 * MS)
    see_with(perception, 2000 * MS, depth())
    assert news(perception, 2000 * MS) == ()


@pytest.mark.parametrize(
    "image",
    [
        EncodedImage("8UC1", bytes(48), 8, 6, 8),
        EncodedImage("16UC1", bytes(10), 8, 6, 16),
        EncodedImage("16UC1; compressedDepth png", bytes(40), compressed=True),
    ],
    ids=["encoding", "cut_off", "no_png"],
)
def test_depth_that_cannot_be_read_is_told_before_anybody_asks(
    perception: Perception, image: EncodedImage
):
    perception.add_color_info(CAMERA, INFO, 0)
    see_with(perception, 1000 * MS, image)
    (problem,) = news(perception, 1000 * MS)
    assert "depth of /camera/image at 1.000 s cannot be read" in problem


def see_with(perception: Perception, stamp_ns: int, image: EncodedImage) -> None:
    perception.add_transforms([pose(stamp_ns)], static=False)
    perception.add_depth(CAMERA, stamp_ns, OPTICAL, image)
    perception.add_color(CAMERA, stamp_ns, OPTICAL, picture())
    perception.poll(stamp_ns)


def test_the_newest_stamp_counts_before_the_frame_is_whole(perception: Perception):
    assert perception.newest_stamp_ns(CAMERA) is None
    perception.add_color(CAMERA, 100 * MS, OPTICAL, picture())
    assert perception.newest_stamp_ns(CAMERA) == 100 * MS


def test_an_image_out_of_order_is_not_the_newest(perception: Perception):
    perception.add_color(CAMERA, 100 * MS, OPTICAL, picture())
    perception.add_color(CAMERA, 60 * MS, OPTICAL, picture())
    assert perception.newest_stamp_ns(CAMERA) == 100 * MS


def test_after_a_reset_the_newest_stamp_is_of_the_new_clock(perception: Perception):
    perception.add_color(CAMERA, 5000 * MS, OPTICAL, picture())
    perception.add_color(CAMERA, 100 * MS, OPTICAL, picture())
    perception.add_color(CAMERA, 133 * MS, OPTICAL, picture())
    assert perception.newest_stamp_ns(CAMERA) == 133 * MS


def test_no_image_of_before_a_reset_passes_for_one_that_is_not_whole_yet(perception: Perception):
    for stamp_ns in range(0, 9000 * MS, 500 * MS):
        see(perception, stamp_ns)
        perception.poll(stamp_ns)
    for stamp_ns in (100 * MS, 133 * MS):  # depth and transforms come later
        perception.add_color(CAMERA, stamp_ns, OPTICAL, picture())
        perception.poll(9000 * MS)
    assert perception.newest_stamp_ns(CAMERA) == 133 * MS
    assert perception.buffer.latest(CAMERA) is None


def test_an_image_with_an_odd_stamp_costs_itself_alone():
    cameras = ("/head", "/wrist")
    configs = tuple(AssemblyConfig(camera, expects_depth=False) for camera in cameras)
    perception = Perception(PerceptionConfig(configs))
    perception.add_transforms([RigidTransform("base_link", OPTICAL, (0, 0, 1))], static=True)
    for index in range(4):
        stamp_ns = 9000 * MS + index * 100 * MS
        base = RigidTransform("odom", "base_link", stamp_ns=stamp_ns)
        perception.add_transforms([base], static=False)
        for camera in cameras:
            is_odd = camera == "/head" and index == 2
            perception.add_color_info(camera, INFO, stamp_ns)
            perception.add_color(camera, 0 if is_odd else stamp_ns, OPTICAL, picture())
        perception.poll(stamp_ns)
    frames = perception.buffer.frames()
    kept = {c: [f.stamp_ns // MS for f in frames if f.camera == c] for c in cameras}
    assert kept == {"/head": [9000, 9100, 9300], "/wrist": [9000, 9100, 9200, 9300]}
    assert isinstance(perception.transforms.lookup("odom", OPTICAL, 9000 * MS), RigidTransform)
    assert perception.stats("/head").dropped == {"late": 1}
    assert perception.problems == ()


def test_a_second_camera_starts_over_without_the_frames_of_the_first():
    cameras = ("/head", "/wrist")
    configs = tuple(AssemblyConfig(camera, expects_depth=False) for camera in cameras)
    perception = Perception(PerceptionConfig(configs))
    for stamp_ns in (0, 9000 * MS, 100 * MS, 133 * MS, 600 * MS):
        perception.add_color("/head", stamp_ns, OPTICAL, picture())
        perception.flush()
        perception.add_color("/wrist", max(0, stamp_ns - 200 * MS), OPTICAL, picture())
        perception.flush()
    stamps = [[f.stamp_ns // MS for f in perception.buffer.frames(c)] for c in cameras]
    assert stamps == [[100, 133, 600], [0, 400]]


def test_nothing_after_the_time_asked_is_shown(perception: Perception):
    for index in range(4):
        see(perception, index * 500 * MS)
        perception.poll(index * 500 * MS)
    frames = perception.select(SelectionPolicy(), CAMERA, 1000 * MS)
    assert [frame.frame.stamp_ns for frame in frames] == [0, 500 * MS, 1000 * MS]


def test_keyframes_keep_their_places_from_question_to_question(perception: Perception):
    policy = SelectionPolicy(SelectionKind.KEYFRAMES, n=4)
    shown = []
    for index in range(4):
        see(perception, index * 500 * MS)
        perception.poll(index * 500 * MS)
        frames = perception.select(policy, CAMERA, index * 500 * MS)
        shown.append([frame.frame.stamp_ns for frame in frames])
    assert all(stamps[0] == 0 for stamps in shown)
    assert [stamps[-1] for stamps in shown] == [i * 500 * MS for i in range(4)]


def test_without_an_image_there_is_no_question(perception: Perception):
    with pytest.raises(InputError, match="no frame of camera '/camera/image'"):
        perception.select(SelectionPolicy(), CAMERA, 0)


def test_without_a_camera_there_is_nothing_to_see():
    with pytest.raises(InputError, match="name at least one colour topic"):
        Perception(PerceptionConfig(()))


def test_transforms_of_the_run_before_a_clock_reset_are_not_used_for_the_new_one():
    perception = Perception(PerceptionConfig((AssemblyConfig("/camera", expects_depth=False),)))

    def drive(stamp_ns: int, x_m: float) -> None:
        for offset_ns in (-10_000_000, 10_000_000):
            pose = RigidTransform("odom", "camera", (x_m, 0, 0), stamp_ns=stamp_ns + offset_ns)
            perception.add_transforms([pose], static=False)

    def look(stamp_ns: int) -> None:
        perception.add_color("/camera", stamp_ns, "camera", picture())
        perception.poll(stamp_ns)

    for stamp_ns in (1_000_000_000, 60_000_000_000):
        drive(stamp_ns, 0.0)
        look(stamp_ns)
    look(1_166_000_000)  # the simulation starts again; its first images are here before its /tf
    look(1_200_000_000)
    drive(1_200_000_000, 5.0)
    perception.flush()
    (selected,) = perception.select(SelectionPolicy(n=1), "/camera", 1_200_000_000)
    assert selected.frame.T_fixed_camera.translation_m == (5.0, 0.0, 0.0)


def test_a_robot_base_is_no_fixed_frame_any_more_once_odom_moves_it():
    perception = Perception(PerceptionConfig((AssemblyConfig("/camera", expects_depth=False),)))
    mount = RigidTransform("base_link", "camera", (0, 0, 1))
    perception.add_transforms([mount], static=True)
    perception.add_color("/camera", 1_000_000_000, "camera", picture())
    perception.flush()
    for stamp_ns in (900_000_000, 1_100_000_000):
        base = RigidTransform("odom", "base_link", (3, 0, 0), stamp_ns=stamp_ns)
        perception.add_transforms([base], static=False)
    (selected,) = perception.select(SelectionPolicy(n=1), "/camera", 1_000_000_000)
    assert selected.frame.T_fixed_camera.parent == "odom"
    assert selected.frame.T_fixed_camera.translation_m == (3.0, 0.0, 1.0)
