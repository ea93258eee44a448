"""The executive's eyes: one camera, and time that passes while looking."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from played_robot import CAMERA, PERIOD_NS, START_NS, T_WORLD_ARM, PlayedTable, Switch

from rynn_brain_ros.planning.sight import Sight
from rynn_brain_ros.planning.watchdog import Watchdog, WatchdogLimits
from rynn_brain_ros.values import EncodedImage, FrameSet, Refusal, RefusalCode, RigidTransform

MS = 1_000_000


@pytest.fixture
def table() -> PlayedTable:
    return PlayedTable((), width=32)


@pytest.fixture
def sight(table: PlayedTable) -> Sight:
    limits = WatchdogLimits(max_frame_age_s=1.0, max_transform_age_s=2.0)
    return Sight(table.perception, CAMERA, table, Watchdog(limits))


def newest_ns(sight: Sight) -> int:
    frame = sight.newest
    assert frame is not None
    return frame.stamp_ns


def wait(sight: Sight, after_ns: int, timeout_s: float = 1.0) -> Refusal | None:
    return sight.wait_for_frame(after_ns, timeout_s, tick_s=0.04)


# --- time -----------------------------------------------------------------------------------------


def test_a_tick_lets_time_pass_and_takes_in_what_came(sight: Sight, table: PlayedTable):
    assert sight.newest is None
    assert sight.tick(0.25) == table.now_ns() == START_NS + 250 * MS
    assert newest_ns(sight) == START_NS + 200 * MS


def test_a_tick_of_no_time_takes_in_what_came_meanwhile(sight: Sight, table: PlayedTable):
    table.wait(0.5)
    assert sight.tick(0.0) == START_NS + 500 * MS
    assert newest_ns(sight) == START_NS + 500 * MS


def test_pictures_that_come_keep_the_watchdog_calm(sight: Sight):
    for _ in range(40):
        assert sight.watchdog.check(sight.tick(0.1)) is None


def test_a_camera_that_went_silent_is_stale(sight: Sight, table: PlayedTable):
    sight.tick(0.5)
    table.camera_on = False
    now_ns = sight.tick(1.2)
    stale = sight.watchdog.check(now_ns)
    assert stale is not None
    assert CAMERA in stale.text


def test_pictures_without_a_pose_do_not_count_as_transforms(sight: Sight, table: PlayedTable):
    sight.tick(0.5)
    table.with_pose = False
    for _ in range(30):
        now_ns = sight.tick(0.1)
    stale = sight.watchdog.check(now_ns)
    assert stale is not None
    assert "pose" in stale.text


def test_another_cameras_pictures_do_not_stand_for_this_ones(sight: Sight, table: PlayedTable):
    watching_another = Sight(table.perception, "/other", table, Watchdog())
    watching_another.tick(0.5)
    table.camera_on = False
    assert watching_another.watchdog.check(watching_another.tick(5.0)) is None
    assert watching_another.newest is None


# --- waiting for a picture ------------------------------------------------------------------------


def test_only_a_picture_taken_later_ends_the_waiting(sight: Sight, table: PlayedTable):
    sight.tick(0.25)
    after_ns = table.now_ns()
    assert wait(sight, after_ns) is None
    assert newest_ns(sight) == START_NS + 300 * MS


def test_a_picture_taken_at_that_very_moment_is_not_later(sight: Sight, table: PlayedTable):
    sight.tick(0.3)
    assert newest_ns(sight) == table.now_ns()
    assert wait(sight, table.now_ns()) is None
    assert newest_ns(sight) == START_NS + 400 * MS


def test_no_time_passes_where_a_later_picture_is_there_already(sight: Sight, table: PlayedTable):
    now_ns = sight.tick(0.25)
    assert wait(sight, START_NS) is None
    assert table.now_ns() == now_ns


def test_a_silent_camera_is_stale_after_the_timeout_and_not_much_later(
    sight: Sight, table: PlayedTable
):
    sight.tick(0.25)
    table.camera_on = False
    begin_ns = table.now_ns()
    refusal = wait(sight, begin_ns, timeout_s=1.0)
    assert refusal is not None
    assert refusal.code is RefusalCode.STALE
    assert "the newest is 1.0" in refusal.text
    assert 1.0 <= (table.now_ns() - begin_ns) / 1e9 <= 1.05


def test_a_camera_that_never_spoke_is_told_so(table: PlayedTable):
    table.camera_on = False
    silent = Sight(table.perception, "/nothing", table, Watchdog())
    refusal = wait(silent, 0)
    assert refusal is not None
    assert refusal.code is RefusalCode.STALE
    assert "/nothing" in refusal.text
    assert "none ever came" in refusal.text


class JumpingTable(PlayedTable):
    """Its clock is set back by ``back_s`` at the tick that ``ticks`` counts down to."""

    back_s, ticks = 0.0, 0

    def wait(self, seconds: float) -> None:
        self.ticks -= 1
        if self.ticks == 0:
            self.reset(self.back_s)
        super().wait(seconds)


def test_a_clock_that_jumps_back_ends_the_waiting():
    table = JumpingTable((), width=32)
    sight = Sight(table.perception, CAMERA, table, Watchdog())
    sight.tick(0.25)
    table.back_s, table.ticks = 300.0, 2
    refusal = wait(sight, table.now_ns() + 10**9, timeout_s=2.0)
    assert refusal is not None
    assert refusal.code is RefusalCode.STALE
    assert "the clock jumped back by 300 s" in refusal.text
    assert table.ticks == 0


def test_a_cancel_ends_the_waiting(sight: Sight, table: PlayedTable):
    sight.tick(0.25)
    cancel, now_ns = Switch(), table.now_ns()
    cancel.on = True
    refusal = sight.wait_for_frame(now_ns, 60.0, 0.04, cancel)
    assert refusal is not None
    assert "a person stopped" in refusal.text
    assert table.now_ns() == now_ns


# --- what is shown --------------------------------------------------------------------------------


def shown(sight: Sight, since_ns: int, at_most: int) -> list[int]:
    """Which of the pictures, counted from the start."""
    frames = sight.show(since_ns, at_most)
    assert isinstance(frames, FrameSet)
    return [(frame.frame.stamp_ns - START_NS) // PERIOD_NS for frame in frames]


@pytest.fixture
def after_a_second(sight: Sight) -> Sight:
    sight.tick(1.0)
    return sight


def test_one_picture_shown_is_the_newest(after_a_second: Sight):
    assert shown(after_a_second, 0, 1) == [10]


def test_several_are_spread_evenly_and_the_last_is_now(after_a_second: Sight):
    assert shown(after_a_second, START_NS, 2) == [5, 10]
    assert shown(after_a_second, START_NS, 5) == [2, 4, 6, 8, 10]


def test_nothing_taken_before_is_shown(after_a_second: Sight):
    assert shown(after_a_second, START_NS + 8 * PERIOD_NS, 8) == [9, 10]


def test_no_picture_is_shown_twice(after_a_second: Sight):
    stamps = shown(after_a_second, START_NS + 3 * PERIOD_NS, 6)
    assert len(set(stamps)) == len(stamps) == 6


def test_without_a_picture_there_is_nothing_to_show(after_a_second: Sight):
    refusal = after_a_second.show(START_NS + 10 * PERIOD_NS, 2)
    assert isinstance(refusal, Refusal)
    assert refusal.code is RefusalCode.STALE
    assert "no image since the newest motion began" in refusal.text


def test_where_the_clock_jumped_back_behind_the_last_motion_that_is_told(after_a_second: Sight):
    refusal = after_a_second.show(START_NS + 300_000 * MS, 2)
    assert isinstance(refusal, Refusal)
    assert "the clock jumped back by more than 299 s" in refusal.text


# --- the robot ------------------------------------------------------------------------------------


def test_links_are_told_in_the_base_frame(sight: Sight, table: PlayedTable):
    chain = sight.robot("panda_link0", ("panda_link0", "panda_tcp"), table.now_ns())
    assert chain == ((0.0, 0.0, 0.0), pytest.approx(table.hand_m))


def test_a_chain_with_a_gap_is_refused_and_the_missing_links_named(
    sight: Sight, table: PlayedTable
):
    links = ("panda_link0", "robot1/panda_link7", "panda_tcp", "wrist")
    refusal = sight.robot("panda_link0", links, table.now_ns())
    assert isinstance(refusal, Refusal)
    assert refusal.code is RefusalCode.NO_TRANSFORM
    assert "no transform of its links robot1/panda_link7, wrist;" in refusal.text


def test_links_that_are_told_after_their_stamp_are_waited_for(sight: Sight, table: PlayedTable):
    stamp_ns, links = table.now_ns() + 50 * MS, ("panda_link0", "panda_tcp")
    assert isinstance(sight.robot("panda_link0", links, stamp_ns), Refusal)
    chain = sight.wait_for_robot("panda_link0", links, stamp_ns, 0.04)
    assert chain == ((0.0, 0.0, 0.0), pytest.approx(table.hand_m))


def test_a_pose_is_that_of_the_stamp(sight: Sight, table: PlayedTable):
    pose = sight.pose("world", "panda_link0", table.now_ns())
    assert isinstance(pose, RigidTransform)
    assert pose.translation_m == pytest.approx(T_WORLD_ARM.translation_m)
    assert math.isclose(pose.rotation_xyzw[2], T_WORLD_ARM.rotation_xyzw[2])


def test_a_pose_that_comes_after_its_stamp_is_waited_for(sight: Sight, table: PlayedTable):
    stamp_ns = table.now_ns() + 50 * MS
    assert isinstance(sight.pose("world", "panda_link0", stamp_ns), Refusal)
    assert isinstance(sight.wait_for_pose("world", "panda_link0", stamp_ns, 0.04), RigidTransform)


def test_a_clock_that_jumps_back_ends_the_waiting_for_a_pose():
    table = JumpingTable((), width=32)
    sight = Sight(table.perception, CAMERA, table, Watchdog())
    stamp_ns = table.now_ns() + 10**9
    table.back_s, table.ticks = 300.0, 2
    assert isinstance(sight.wait_for_pose("world", "panda_link0", stamp_ns, 0.04), Refusal)
    assert table.ticks == 0


def test_an_unknown_frame_has_no_pose(sight: Sight, table: PlayedTable):
    refusal = sight.pose("world", "panda_link99", table.now_ns())
    assert isinstance(refusal, Refusal)
    assert refusal.code is RefusalCode.NO_TRANSFORM


def test_a_picture_that_is_damaged_inside_is_neither_shown_nor_compared_with(sight: Sight):
    pytest.importorskip("simplejpeg")
    sight.tick(0.5)
    newest = sight.newest
    assert newest is not None
    (shown,) = sight.perception.show([newest])
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    whole = cv2.imencode(".jpg", noise)[1].tobytes()
    color = EncodedImage("jpeg", whole[:-1000] + whole[-2:], compressed=True)
    for late_ns in (1, 2):
        stamp_ns = newest.stamp_ns + late_ns
        sight.perception.buffer.append(replace(newest, stamp_ns=stamp_ns, color=color))
        if late_ns == 1:
            assert sight.newest_or(shown) is shown
    frames = sight.show(START_NS, at_most=2)
    assert isinstance(frames, FrameSet)
    assert frames[-1].frame is newest
