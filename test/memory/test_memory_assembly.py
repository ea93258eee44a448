"""Separate streams become frames: exact, bounded, in order, and never later than allowed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_examples import TINY, raw

from rynn_brain_ros.memory import AssemblyConfig, FrameAssembler
from rynn_brain_ros.values import (
    CameraInfo,
    ConfigError,
    Frame,
    Refusal,
    RefusalCode,
    RigidTransform,
)

MS = 1_000_000
DEPTH = raw("16UC1", np.ones((2, 2), np.uint16))
INFO = CameraInfo(2, 2, (2.0, 0.0, 0.5, 0.0, 2.0, 0.5, 0.0, 0.0, 1.0))
OTHER_INFO = replace(INFO, k=(3.0, 0.0, 0.5, 0.0, 3.0, 0.5, 0.0, 0.0, 1.0))
DISTORTED_INFO = replace(INFO, d=(0.1, -0.2, 0.0, 0.0, 0.1, 0.0, 0.0, 0.0))
UNKNOWN = Refusal(RefusalCode.NO_TRANSFORM, "not yet")


@dataclass
class Poses:
    """A transform tree that knows every stamp up to ``until_ns``."""

    until_ns: int = 10**18
    relative_known: bool = True
    asked: list[tuple[str, int]] = field(default_factory=list)

    def camera_pose(self, frame_id: str, stamp_ns: int) -> RigidTransform | Refusal:
        self.asked.append((frame_id, stamp_ns))
        known = stamp_ns <= self.until_ns
        return RigidTransform("odom", frame_id, stamp_ns=stamp_ns) if known else UNKNOWN

    def relative(
        self, color_frame: str, depth_frame: str, stamp_ns: int
    ) -> RigidTransform | Refusal:
        transform = RigidTransform(color_frame, depth_frame, (0.015, 0.0, 0.0), stamp_ns=stamp_ns)
        return transform if self.relative_known else UNKNOWN


def assembler(poses: Poses | None = None, **settings: object) -> FrameAssembler:
    config = AssemblyConfig("head", **settings)  # type: ignore[arg-type]
    made = FrameAssembler(config, poses or Poses())
    made.add_color_info(INFO, 0)
    return made


def color(made: FrameAssembler, *stamps_ms: float) -> None:
    for stamp in stamps_ms:
        made.add_color(round(stamp * MS), "optical", TINY)


def depth(made: FrameAssembler, *stamps_ms: float, frame_id: str = "optical") -> None:
    for stamp in stamps_ms:
        made.add_depth(round(stamp * MS), frame_id, replace(DEPTH, step=4 + round(stamp)))


def depth_stamp_ms(frame: Frame) -> int | None:
    """Which depth it is, told by its step."""
    return None if frame.depth is None else frame.depth.step - 4


def test_color_alone_is_a_frame_at_once_when_no_depth_is_expected() -> None:
    made = assembler(expects_depth=False)
    color(made, 100)
    (frame,) = made.poll(100 * MS)
    assert frame.key == ("head", 100 * MS)
    assert frame.camera_info == INFO
    assert frame.T_fixed_camera == RigidTransform("odom", "optical", stamp_ns=100 * MS)


def test_frame_waits_for_its_depth_and_goes_with_it() -> None:
    made = assembler()
    color(made, 100)
    assert made.poll(110 * MS) == ()
    depth(made, 100)
    (frame,) = made.poll(120 * MS)
    assert frame.depth is not None
    assert frame.depth_info is None


def test_nearest_depth_wins_even_if_it_comes_last() -> None:
    made = assembler()
    color(made, 100)
    depth(made, 90)
    assert made.poll(101 * MS) == ()
    depth(made, 104)
    assert [depth_stamp_ms(f) for f in made.poll(105 * MS)] == [104]


def test_depth_beyond_the_tolerance_is_not_taken() -> None:
    made = assembler(sync_tolerance_s=0.02)
    color(made, 100)
    depth(made, 79, 121)
    (frame,) = made.poll(125 * MS)
    assert frame.depth is None
    assert made.stats.missing == {"depth": 1}


@given(st.lists(st.integers(0, 400), min_size=1, max_size=30, unique=True), st.integers(0, 400))
def test_match_is_the_nearest_of_all_depths(stamps: list[int], at: int) -> None:
    made = assembler(sync_tolerance_s=0.05)
    depth(made, *sorted(stamps))
    color(made, at)
    (frame,) = made.flush()
    distance = min(abs(stamp - at) for stamp in stamps)
    found = depth_stamp_ms(frame)
    assert (found is None) == (distance > 50)
    assert found is None or abs(found - at) == distance


def test_frame_goes_without_depth_when_the_wait_is_over() -> None:
    made = assembler(max_wait_s=0.3)
    color(made, 100)
    assert made.poll(120 * MS) == ()
    assert made.poll(419 * MS) == ()
    (frame,) = made.poll(420 * MS)
    assert frame.depth is None


def test_pose_that_arrives_after_the_image_is_waited_for() -> None:
    poses = Poses(until_ns=0)
    made = assembler(poses, expects_depth=False)
    color(made, 100)
    assert made.poll(100 * MS) == ()
    poses.until_ns = 100 * MS
    (frame,) = made.poll(150 * MS)
    assert frame.T_fixed_camera is not None
    assert frame.pose_refusal is None


def test_missing_pose_is_named_after_the_wait() -> None:
    made = assembler(Poses(until_ns=-1), expects_depth=False)
    color(made, 100)
    made.poll(100 * MS)
    (frame,) = made.poll(400 * MS)
    assert frame.T_fixed_camera is None
    assert frame.pose_refusal == UNKNOWN
    assert made.stats.missing == {"pose": 1}


def test_pose_is_asked_at_the_images_stamp() -> None:
    poses = Poses()
    made = assembler(poses, expects_depth=False)
    color(made, 100)
    made.poll(900 * MS)
    assert set(poses.asked) == {("optical", 100 * MS)}


def test_images_that_arrive_out_of_order_leave_in_order() -> None:
    made = assembler(expects_depth=False)
    color(made, 133, 100)
    assert [f.stamp_ns // MS for f in made.poll(140 * MS)] == [100, 133]


def test_ready_frame_waits_behind_an_earlier_one() -> None:
    made = assembler(Poses(relative_known=False))
    made.add_depth_info(INFO, 0)
    color(made, 100, 133)
    depth(made, 100, frame_id="depth_optical")
    depth(made, 133)
    assert made.poll(140 * MS) == ()
    assert [depth_stamp_ms(f) for f in made.poll(440 * MS)] == [None, 133]


def test_flush_gives_what_still_waits() -> None:
    made = assembler()
    color(made, 100, 133)
    depth(made, 95)
    assert [depth_stamp_ms(f) for f in made.flush()] == [95, None]


# --- registered or not


def test_same_frame_id_and_lens_means_registered() -> None:
    made = assembler()
    made.add_depth_info(INFO, 0)
    color(made, 100)
    depth(made, 100)
    (frame,) = made.poll(100 * MS)
    assert frame.depth is not None
    assert (frame.depth_info, frame.T_color_depth) == (None, None)


def test_same_frame_id_and_another_lens_is_placed_at_the_same_centre() -> None:
    made = assembler()
    made.add_depth_info(OTHER_INFO, 0)
    color(made, 100)
    depth(made, 100)
    (frame,) = made.poll(100 * MS)
    assert frame.depth_info == OTHER_INFO
    assert frame.T_color_depth == RigidTransform("optical", "optical", stamp_ns=100 * MS)


def test_depth_without_distortion_is_placed_under_a_picture_with_it() -> None:
    """As an OAK-D's: one frame and one K, but colour is distorted and depth rectified."""
    made = FrameAssembler(AssemblyConfig("oak/rgb/image_raw"), Poses())
    rectified = replace(DISTORTED_INFO, d=(0.0,) * 8)
    made.add_color_info(DISTORTED_INFO, 0)
    made.add_depth_info(rectified, 0)
    color(made, 100)
    depth(made, 100)
    (frame,) = made.poll(100 * MS)
    assert frame.depth_info == rectified
    assert frame.T_color_depth == RigidTransform("optical", "optical", stamp_ns=100 * MS)


@pytest.mark.parametrize(
    ("color_info", "depth_info"),
    [
        (DISTORTED_INFO, replace(DISTORTED_INFO, frame_id="depth")),
        (INFO, replace(INFO, d=(0.0,) * 5)),
        (replace(INFO, d=(0.0,) * 8, distortion_model="rational_polynomial"), INFO),
    ],
)
def test_lenses_that_bend_alike_are_the_same(
    color_info: CameraInfo, depth_info: CameraInfo
) -> None:
    made = FrameAssembler(AssemblyConfig("head"), Poses())
    made.add_color_info(color_info, 0)
    made.add_depth_info(depth_info, 0)
    color(made, 100)
    depth(made, 100)
    (frame,) = made.poll(100 * MS)
    assert frame.depth is not None and frame.depth_info is None


def test_the_same_coefficients_of_another_model_are_another_lens() -> None:
    made = FrameAssembler(AssemblyConfig("head"), Poses())
    fisheye = replace(INFO, d=(0.1, 0.0, 0.0, 0.0), distortion_model="equidistant")
    made.add_color_info(fisheye, 0)
    made.add_depth_info(replace(fisheye, distortion_model="plumb_bob"), 0)
    color(made, 100)
    depth(made, 100)
    (frame,) = made.poll(100 * MS)
    assert frame.depth_info is not None


@pytest.mark.parametrize(("depth_info", "registered"), [(INFO, False), (OTHER_INFO, True)])
def test_of_a_rectified_picture_the_lens_is_p(depth_info: CameraInfo, registered: bool) -> None:
    """As an OAK-D's image_rect: the info beside it describes the distorted picture."""
    made = FrameAssembler(AssemblyConfig("oak/rgb/image_rect"), Poses())
    p = (3.0, 0.0, 0.5, 0.0, 0.0, 3.0, 0.5, 0.0, 0.0, 0.0, 1.0, 0.0)
    made.add_color_info(replace(DISTORTED_INFO, p=p), 0)
    made.add_depth_info(depth_info, 0)
    color(made, 100)
    depth(made, 100)
    (frame,) = made.poll(100 * MS)
    assert frame.depth is not None
    assert (frame.depth_info is None) == registered


def test_depth_whose_own_lens_is_to_come_waits_for_it() -> None:
    made = assembler(expects_depth_info=True)
    color(made, 100)
    depth(made, 100)
    assert made.poll(100 * MS) == ()
    made.add_depth_info(OTHER_INFO, 100 * MS)
    (frame,) = made.poll(110 * MS)
    assert frame.depth is not None
    assert frame.depth_info == OTHER_INFO


def test_depth_whose_own_lens_never_comes_is_refused_after_the_wait() -> None:
    made = assembler(expects_depth_info=True)
    color(made, 100)
    depth(made, 100)
    made.poll(100 * MS)
    (frame,) = made.poll(400 * MS)
    assert frame.depth is None
    assert frame.depth_refusal is not None
    assert frame.depth_refusal.code is RefusalCode.NO_INTRINSICS
    assert made.stats.missing == {"depth_info": 1}


def test_depth_waits_for_a_lens_from_when_it_is_known_to_come() -> None:
    made = assembler()
    color(made, 100)
    depth(made, 100)
    made.expect_depth_info(True)
    assert made.poll(100 * MS) == ()
    made.expect_depth_info(False)
    (frame,) = made.poll(110 * MS)
    assert frame.depth is not None


def test_depth_that_is_declared_registered_waits_for_no_lens() -> None:
    made = assembler(expects_depth_info=True, depth_registered=True)
    color(made, 100)
    depth(made, 100)
    (frame,) = made.poll(100 * MS)
    assert frame.depth is not None
    assert frame.depth_info is None


def test_another_frame_id_is_placed_by_the_transform_tree() -> None:
    made = assembler()
    made.add_depth_info(INFO, 0)
    color(made, 100)
    depth(made, 100, frame_id="depth_optical")
    (frame,) = made.poll(100 * MS)
    assert frame.depth_info == INFO
    assert frame.T_color_depth is not None
    assert frame.T_color_depth.translation_m == (0.015, 0.0, 0.0)


@pytest.mark.parametrize(
    ("knows_info", "missing"), [(False, "depth_info"), (True, "depth_transform")]
)
def test_unregistered_depth_that_cannot_be_placed_is_left_out(
    knows_info: bool, missing: str
) -> None:
    made = assembler(Poses(relative_known=False))
    if knows_info:
        made.add_depth_info(INFO, 0)
    color(made, 100)
    depth(made, 100, frame_id="depth_optical")
    assert made.poll(100 * MS) == ()
    (frame,) = made.poll(400 * MS)
    assert (frame.depth, frame.depth_info) == (None, None)
    assert made.stats.missing == {missing: 1}


def test_configuration_may_declare_depth_registered() -> None:
    made = assembler(depth_registered=True)
    color(made, 100)
    depth(made, 100, frame_id="depth_optical")
    (frame,) = made.poll(100 * MS)
    assert frame.depth is not None
    assert frame.depth_info is None


@pytest.mark.parametrize(
    ("info", "frame_id", "registered"),
    [
        (OTHER_INFO, "depth_optical", False),
        (INFO, "depth_optical", True),
        (OTHER_INFO, "optical", False),
        (DISTORTED_INFO, "optical", False),
    ],
)
def test_a_name_that_claims_registered_depth_holds_unless_the_lenses_differ(
    info: CameraInfo, frame_id: str, registered: bool
) -> None:
    made = assembler(named_registered=True)
    made.add_depth_info(info, 0)
    color(made, 100)
    depth(made, 100, frame_id=frame_id)
    (frame,) = made.poll(100 * MS)
    assert frame.depth is not None
    assert (frame.depth_info is None) == registered


def test_a_name_is_believed_when_the_info_that_could_contradict_it_does_not_come() -> None:
    made = assembler(named_registered=True, max_wait_s=0.3)
    color(made, 100)
    depth(made, 100, frame_id="depth_optical")
    assert made.poll(100 * MS) == ()
    (frame,) = made.poll(400 * MS)
    assert frame.depth is not None and frame.depth_info is None


# --- camera_info


def test_latest_info_at_or_before_the_image_is_taken() -> None:
    made = assembler(expects_depth=False)
    made.add_color_info(OTHER_INFO, 200 * MS)
    color(made, 150, 200)
    assert [f.camera_info for f in made.poll(200 * MS)] == [INFO, OTHER_INFO]


@pytest.mark.parametrize("only_changes", [True, False])
def test_after_a_reset_the_lens_that_arrived_last_is_taken(only_changes: bool) -> None:
    made = FrameAssembler(AssemblyConfig("head", expects_depth=False), Poses())
    lenses: list[CameraInfo | None] = []
    last: CameraInfo | None = None
    for _ in range(2):
        for stamp_ms in range(0, 1000, 100):
            info = INFO if stamp_ms < 500 else OTHER_INFO
            if info != last or not only_changes:
                made.add_color_info(info, stamp_ms * MS)
            last = info
            color(made, stamp_ms)
            lenses += [frame.camera_info for frame in made.poll(1000 * MS)]
    half = [OTHER_INFO] * 5
    assert lenses == ([INFO] * 5 + half) * 2


def test_first_info_may_arrive_within_the_wait() -> None:
    made = FrameAssembler(AssemblyConfig("head", expects_depth=False), Poses())
    color(made, 100)
    assert made.poll(100 * MS) == ()
    made.add_color_info(INFO, 110 * MS)
    assert [f.camera_info for f in made.poll(120 * MS)] == [INFO]


def test_frame_goes_without_info_when_the_wait_is_over() -> None:
    made = FrameAssembler(AssemblyConfig("head", expects_depth=False), Poses())
    color(made, 100)
    made.poll(100 * MS)
    (frame,) = made.poll(400 * MS)
    assert frame.camera_info is None
    assert made.stats.missing == {"camera_info": 1}


# --- bounds and clocks


def test_images_that_nobody_polls_for_are_bounded_and_the_oldest_go() -> None:
    made = assembler(max_pending=2)
    color(made, 10, 20, 30, 40, 50, 60)
    assert [f.stamp_ns // MS for f in made.flush()] == [30, 40, 50, 60]
    assert made.stats.dropped == {"overflow": 2}


def test_fast_camera_without_transforms_still_gives_every_frame() -> None:
    made = assembler(Poses(until_ns=-1), max_pending=30, max_wait_s=1.0)
    frames: list[Frame] = []
    for i in range(240):
        depth(made, 8 * i)
        color(made, 8 * i)
        frames += made.poll(8 * i * MS)
    assert [f.stamp_ns // MS for f in frames] == [8 * i for i in range(210)]
    assert [depth_stamp_ms(f) for f in frames] == [8 * i for i in range(210)]
    assert made.stats.missing == {"pose": 210}
    assert made.stats.dropped == {}


def test_duplicate_image_is_dropped_and_counted() -> None:
    made = assembler(expects_depth=False)
    color(made, 100, 100)
    made.poll(100 * MS)
    color(made, 100)
    assert made.poll(101 * MS) == ()
    assert made.stats.dropped == {"duplicate": 2}


def test_image_older_than_an_emitted_one_is_dropped_and_counted() -> None:
    made = assembler(expects_depth=False)
    color(made, 100)
    made.poll(100 * MS)
    color(made, 90)
    assert made.poll(101 * MS) == ()
    assert made.stats.dropped == {"late": 1}


@pytest.mark.parametrize("stream", ["color", "now"])
def test_any_clock_that_jumps_back_clears_what_waits(stream: str) -> None:
    made = assembler()
    made.poll(60_000 * MS)
    color(made, 60_000)
    depth(made, 59_990)
    if stream == "color":
        color(made, 0, 33)
    else:
        made.poll(0)
    assert made.stats.resets == 1
    assert made.stats.dropped == {"reset": 1}
    assert made.stats.pending == (2 if stream == "color" else 0)


def test_depth_that_jumps_back_is_no_depth_of_the_image_that_waits() -> None:
    made = assembler()
    color(made, 60_000)
    depth(made, 59_990, 0)
    assert [depth_stamp_ms(f) for f in made.flush()] == [None]


@pytest.mark.parametrize("odd_ms", [(0,), (0, 0, 0), (59_800,)])
def test_stamps_that_jump_back_and_do_not_go_on_cost_their_own_images_alone(
    odd_ms: tuple[int, ...],
) -> None:
    made = assembler(expects_depth=False)
    frames: list[Frame] = []
    for stamp in (59_967, 60_000, *odd_ms, 60_033, *odd_ms, 60_067):
        color(made, stamp)
        frames += made.poll(stamp * MS if stamp > 59_900 else 60_033 * MS)
    assert [f.stamp_ns // MS for f in frames] == [59_967, 60_000, 60_033, 60_067]
    assert made.stats.dropped == {"late": 2 * len(odd_ms)}
    assert made.stats.resets == 0


def test_slow_camera_of_a_clock_that_was_set_back_is_seen_again_with_its_second_image() -> None:
    made = assembler(expects_depth=False)
    color(made, 60_000)
    made.poll(60_000 * MS)
    color(made, 0, 3000)
    assert [f.stamp_ns // MS for f in made.poll(60_100 * MS)] == [0, 3000]


def test_first_image_counts_where_the_clock_itself_was_seen_to_jump_back() -> None:
    made = assembler(expects_depth=False)
    color(made, 60_000)
    made.poll(60_000 * MS)
    made.poll(0)
    color(made, 5)
    assert [f.stamp_ns // MS for f in made.poll(10 * MS)] == [5]
    assert made.stats.dropped == {}


def test_depth_that_arrived_before_the_image_that_tells_of_the_reset_is_kept() -> None:
    made = assembler()
    for stamp in (60_000, 0, 33):
        depth(made, stamp)
        color(made, stamp)
        frames = made.poll(60_000 * MS)
    assert [(f.stamp_ns // MS, depth_stamp_ms(f)) for f in frames] == [(0, 0), (33, 33)]


def test_looping_bag_is_assembled_again_and_keeps_its_lens() -> None:
    made = FrameAssembler(AssemblyConfig("head"), Poses())
    made.add_color_info(INFO, 5000 * MS)
    frames: list[Frame] = []
    for _ in range(2):
        for stamp in (5000, 5033, 5066, 5500):
            depth(made, stamp)
            color(made, stamp)
            frames += made.poll(10_000 * MS)
    assert {frame.camera_info for frame in frames} == {INFO}
    stamps = [(frame.stamp_ns // MS, depth_stamp_ms(frame)) for frame in frames]
    assert stamps == [(s, s) for s in (5000, 5033, 5066, 5500) * 2]
    assert made.stats.dropped == {}


@given(
    st.lists(
        st.tuples(st.sampled_from(["color", "depth", "poll"]), st.integers(-150, 200)),
        max_size=80,
    )
)
def test_any_order_of_arrivals_gives_sorted_frames_and_no_lost_count(
    arrivals: list[tuple[str, int]],
) -> None:
    made = assembler(max_pending=5)
    now_ms = n_color = resets = 0
    last = -(10**18)
    for stream, step in arrivals:
        now_ms += step
        if stream == "color":
            n_color += 1
            color(made, now_ms)
        elif stream == "depth":
            depth(made, max(0, now_ms))
        else:
            emitted = made.poll(now_ms * MS)
            assert made.stats.pending <= 5 + 1, "and one whose stamp is back"
            for frame in emitted:
                last = -(10**18) if made.stats.resets > resets else last
                resets = made.stats.resets
                assert frame.stamp_ns > last
                last = frame.stamp_ns
        stats = made.stats
        assert stats.pending <= 10 + 1
        assert stats.emitted + stats.pending + sum(stats.dropped.values()) == n_color


@pytest.mark.parametrize("bad", [{"max_wait_s": -1.0}, {"max_pending": 0}])
def test_impossible_settings_are_a_config_error(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="'head'"):
        AssemblyConfig("head", **bad)  # type: ignore[arg-type]
