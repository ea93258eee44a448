"""The buffer keeps its bounds whatever arrives, and says what it let go."""

from __future__ import annotations

import threading
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_examples import SECOND, frame, jpeg, raw, scene, sized

from rynn_brain_ros.memory import BufferLimits, DropReason, FrameBuffer, FrameLook
from rynn_brain_ros.values import ConfigError, EncodedImage, Frame

HZ30 = SECOND // 30


def stamps_s(buffer: FrameBuffer, camera: str | None = None) -> list[float]:
    return [f.stamp_ns / SECOND for f in buffer.frames(camera)]


def dropped(buffer: FrameBuffer, reason: DropReason, camera: str = "head") -> int:
    (stats,) = [c for c in buffer.stats().cameras if c.camera == camera]
    return stats.dropped.get(reason, 0)


def test_frames_come_back_as_they_went_in() -> None:
    buffer = FrameBuffer()
    first, second = frame(1), frame(2)
    assert buffer.append(first) == ()
    buffer.append(second)
    assert buffer.frames("head") == (first, second)
    assert buffer.latest() is second


def test_snapshot_of_all_cameras_is_in_stamp_order() -> None:
    buffer = FrameBuffer()
    for stamp, camera in [(3, "b"), (1, "a"), (2, "b"), (3, "a")]:
        buffer.append(frame(stamp, camera))
    assert [f.key for f in buffer.frames()] == [("a", 1), ("b", 2), ("a", 3), ("b", 3)]


def test_snapshot_ends_at_until() -> None:
    buffer = FrameBuffer()
    for stamp in (1, 2, 3):
        buffer.append(frame(stamp))
    assert [f.stamp_ns for f in buffer.frames(until_ns=2)] == [1, 2]


def test_snapshot_does_not_change_when_frames_arrive() -> None:
    buffer = FrameBuffer()
    buffer.append(frame(1))
    snapshot = buffer.frames()
    buffer.append(frame(2))
    assert len(snapshot) == 1


def test_unknown_camera_has_no_frames() -> None:
    assert FrameBuffer().frames("tail") == ()
    assert FrameBuffer().latest("tail") is None


def test_frames_older_than_the_horizon_leave() -> None:
    buffer = FrameBuffer(BufferLimits(horizon_s=10))
    for second in range(30):
        buffer.append(frame(second * SECOND))
    assert stamps_s(buffer) == list(range(19, 30))
    assert dropped(buffer, DropReason.EXPIRED) == 19


def test_camera_with_a_clock_an_hour_ahead_does_not_silence_the_others() -> None:
    buffer = FrameBuffer(BufferLimits(horizon_s=10))
    for second in range(15):
        assert buffer.append(frame((3600 + second) * SECOND, "head")) == ()
        assert buffer.append(frame(second * SECOND, "wrist")) == ()
    assert stamps_s(buffer, "wrist") == list(range(4, 15))
    assert stamps_s(buffer, "head") == list(range(3604, 3615))


def test_camera_with_a_clock_an_hour_ahead_does_not_take_the_room_of_the_others() -> None:
    buffer = FrameBuffer(BufferLimits(max_bytes=1000, sparse_hz=1000))
    for second in range(50):
        buffer.append(sized((3600 + second) * SECOND, 100, "head"))
        buffer.append(sized(second * SECOND, 100, "wrist"))
    assert stamps_s(buffer, "wrist") == list(range(45, 50))
    assert stamps_s(buffer, "head") == list(range(3645, 3650))


def test_frame_that_lags_its_own_camera_beyond_the_horizon_is_refused_by_name() -> None:
    buffer = FrameBuffer(BufferLimits(horizon_s=1, max_backward_skew_s=5))
    buffer.append(frame(100 * SECOND, "wrist"))
    (event,) = buffer.append(frame(98 * SECOND, "wrist"))
    assert event.reason is DropReason.TOO_OLD
    assert "wrist" in event.text and "2.000 s" in event.text


def test_newest_seconds_keep_everything_and_older_ones_thin_out() -> None:
    buffer = FrameBuffer()
    for i in range(60 * 30):
        buffer.append(frame(i * HZ30))
    stamps = np.array(stamps_s(buffer))
    assert stamps[-1] - stamps[0] > 59
    assert np.diff(stamps).max() <= 0.5
    assert (stamps >= stamps[-1] - 2).sum() == 61
    assert len(stamps) < 2.5 * 60 + 61


def test_source_at_the_sparse_rate_loses_nothing() -> None:
    buffer = FrameBuffer()
    jitter = np.random.default_rng(0).integers(-SECOND // 50, SECOND // 50, 100)
    for i in range(100):
        buffer.append(frame(i * SECOND // 2 + int(jitter[i])))
    assert dropped(buffer, DropReason.THINNED) == 0


def test_thinning_keeps_the_sharper_frame() -> None:
    buffer = FrameBuffer()
    for i in range(150):
        buffer.append(frame(i * HZ30), FrameLook(sharpness=float(i == 10)))
    assert 10 * HZ30 in [f.stamp_ns for f in buffer.frames()]


def test_thinning_keeps_every_keyframe() -> None:
    buffer = FrameBuffer()
    keyframes = {4, 7, 40}
    for i in range(300):
        buffer.append(frame(i * HZ30), FrameLook(keyframe=i in keyframes))
    assert [f.stamp_ns // HZ30 for f in buffer.keyframes()] == sorted(keyframes)


def test_byte_pressure_shortens_the_dense_seconds_before_the_memory() -> None:
    buffer = FrameBuffer(BufferLimits(max_bytes=60_000))
    for i in range(600):
        buffer.append(sized(i * HZ30, 1000))
    stamps = stamps_s(buffer)
    assert stamps[-1] - stamps[0] > 19
    assert buffer.stats().n_bytes <= 60_000


def test_oldest_frame_of_any_camera_makes_room() -> None:
    buffer = FrameBuffer(BufferLimits(max_bytes=300, sparse_hz=1000))
    for stamp, camera in [(1, "a"), (2, "b"), (3, "b"), (4, "a")]:
        buffer.append(sized(stamp * SECOND, 100, camera))
    assert [f.key for f in buffer.frames()] == [("b", 2e9), ("b", 3e9), ("a", 4e9)]
    assert dropped(buffer, DropReason.BYTES, "a") == 1


def test_frame_bigger_than_the_bound_is_refused_and_nothing_is_lost_for_it() -> None:
    buffer = FrameBuffer(BufferLimits(max_bytes=100))
    buffer.append(sized(1, 60))
    (event,) = buffer.append(sized(2, 101))
    assert event.reason is DropReason.OVERSIZE
    assert len(buffer.frames()) == 1


def test_depth_counts_towards_the_bound() -> None:
    buffer = FrameBuffer(BufferLimits(max_bytes=100))
    depth = EncodedImage("16UC1", bytes(80), 40, 1, 80)
    whole = Frame("head", 1, "head", sized(1, 60).color, depth)
    assert buffer.append(whole)[0].reason is DropReason.OVERSIZE


def test_unreadable_frame_is_refused_with_its_reason() -> None:
    buffer = FrameBuffer()
    (event,) = buffer.append(frame(1, color=EncodedImage("rgb8", b"123", 640, 480, 1920)))
    assert event.reason is DropReason.UNREADABLE
    assert "921600" in event.text
    assert dropped(buffer, DropReason.UNREADABLE) == 1


def test_duplicate_stamp_of_a_camera_is_ignored_and_counted() -> None:
    buffer = FrameBuffer()
    first = frame(5)
    buffer.append(first)
    (event,) = buffer.append(frame(5, color=raw("mono8", np.ones((2, 2), np.uint8))))
    assert event.reason is DropReason.DUPLICATE
    assert buffer.frames() == (first,)
    assert dropped(buffer, DropReason.DUPLICATE) == 1


def test_same_stamp_of_two_cameras_is_no_duplicate() -> None:
    buffer = FrameBuffer()
    buffer.append(frame(5, "a"))
    assert buffer.append(frame(5, "b")) == ()


def test_small_backward_skew_is_sorted_in() -> None:
    buffer = FrameBuffer()
    for stamp in (SECOND, 2 * SECOND, 2 * SECOND - SECOND // 20):
        assert buffer.append(frame(stamp)) == ()
    assert stamps_s(buffer) == [1.0, 1.95, 2.0]


def test_clock_that_jumps_back_clears_the_camera_and_says_so() -> None:
    buffer = FrameBuffer()
    buffer.append(frame(60 * SECOND))
    (event,) = buffer.append(frame(0))
    assert event.reason is DropReason.RESET
    assert "60.000 s" in event.text
    assert stamps_s(buffer) == [0.0]
    assert buffer.stats().cameras[0].resets == 1


def test_memory_of_the_old_time_is_cleared_as_soon_as_the_jump_is_known() -> None:
    buffer = FrameBuffer()
    for stamp in (5, 60):
        buffer.append(frame(stamp * SECOND))
        buffer.append(frame(stamp * SECOND, "wrist"))
    (event,) = buffer.start_over("head", 10 * SECOND)
    assert event.reason is DropReason.RESET
    assert stamps_s(buffer, "head") == []
    assert stamps_s(buffer, "wrist") == [5.0]
    assert buffer.append(frame(10 * SECOND)) == ()


def test_camera_that_starts_over_later_leaves_what_others_have_seen_since() -> None:
    buffer = FrameBuffer()
    for camera in ("head", "wrist"):
        buffer.append(frame(60 * SECOND, camera))
    buffer.start_over("head", 10 * SECOND)
    buffer.append(frame(11 * SECOND))
    assert buffer.start_over("wrist", 10 * SECOND) == ()
    assert stamps_s(buffer, "head") == [11.0]


def test_clock_that_jumps_back_takes_the_future_of_other_cameras_too() -> None:
    buffer = FrameBuffer()
    for stamp in (5, 60):
        buffer.append(frame(stamp * SECOND, "wrist"))
    buffer.append(frame(61 * SECOND, "head"))
    buffer.append(frame(10 * SECOND, "head"))
    assert stamps_s(buffer, "wrist") == [5.0]


def test_looping_bag_fills_the_buffer_again() -> None:
    buffer = FrameBuffer()
    for _ in range(3):
        for i in range(90):
            buffer.append(frame(i * HZ30))
    assert stamps_s(buffer)[-1] == pytest.approx(89 / 30)
    assert buffer.stats().cameras[0].resets == 2


def test_stats_account_for_every_frame_that_arrived() -> None:
    buffer = FrameBuffer(BufferLimits(max_bytes=2000, horizon_s=5))
    for i in range(500):
        buffer.append(sized(i * HZ30, 100))
        buffer.append(sized(i * HZ30, 100))
    (head,) = buffer.stats().cameras
    assert head.frames + sum(head.dropped.values()) == 1000
    assert head.n_bytes == 100 * head.frames


@pytest.mark.parametrize("bad", [{"horizon_s": 0}, {"max_bytes": -1}, {"sparse_hz": float("nan")}])
def test_impossible_limits_are_a_config_error(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="BufferLimits"):
        BufferLimits(**bad)  # type: ignore[arg-type]


def test_selected_frame_is_made_once() -> None:
    buffer = FrameBuffer()
    chosen = frame(1)
    buffer.append(chosen)
    assert buffer.select(chosen) is buffer.select(chosen)


def test_frame_of_a_new_clock_is_not_taken_for_the_old_one_of_its_stamp() -> None:
    buffer = FrameBuffer()
    old, new = frame(1), frame(1, color=jpeg(scene()))
    buffer.select(old)
    assert buffer.select(new).frame is new


def test_selections_stay_within_their_own_bound() -> None:
    buffer = FrameBuffer(BufferLimits(max_selected_bytes=20_000))
    for i in range(20):
        buffer.select(frame(i, color=raw("rgb8", scene(seed=i))))
        assert buffer.stats().selected_bytes <= 20_000


ARRIVALS = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 3000), st.integers(-400, 400)),  # ms since the last one
        st.integers(1, 700),
        st.sampled_from("ab"),
        st.booleans(),
    ),
    max_size=80,
)


@given(ARRIVALS, st.integers(1, 4000), st.floats(0.2, 20))
def test_no_sequence_of_frames_breaks_a_bound_or_the_order(
    arrivals: list[tuple[int, int, str, bool]], max_bytes: int, horizon_s: float
) -> None:
    buffer = FrameBuffer(BufferLimits(horizon_s=horizon_s, max_bytes=max_bytes, dense_s=0.5))
    now_ms = 0
    for step_ms, n_bytes, camera, keyframe in arrivals:
        now_ms += step_ms
        buffer.append(sized(now_ms * 1_000_000, n_bytes, camera), FrameLook(keyframe=keyframe))
        frames, stats = buffer.frames(), buffer.stats()
        assert sum(f.n_bytes for f in frames) == stats.n_bytes <= max_bytes
        stamps = [f.stamp_ns for f in frames]
        assert stamps == sorted(stamps)
        for each in stats.cameras:
            if each.oldest_ns is not None and each.newest_ns is not None:
                assert each.newest_ns - each.oldest_ns <= round(horizon_s * 1e9)
        assert len({f.key for f in frames}) == len(frames)


@given(st.lists(st.integers(1, 900), min_size=1, max_size=200))
def test_thinning_never_opens_a_gap_wider_than_the_sparse_period(steps_ms: list[int]) -> None:
    buffer = FrameBuffer(BufferLimits(dense_s=1.0))
    arrived = np.cumsum(steps_ms)
    for stamp_ms in arrived:
        buffer.append(frame(int(stamp_ms) * 1_000_000))
    kept = np.array([f.stamp_ns for f in buffer.frames()]) // 1_000_000
    for a, b in pairwise(kept):
        assert b - a <= 500 or not ((arrived > a) & (arrived < b)).any()


def test_readers_see_whole_sorted_bounded_snapshots_while_one_thread_writes() -> None:
    buffer = FrameBuffer(BufferLimits(max_bytes=20_000, horizon_s=5))
    broken: list[str] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            frames = buffer.frames()
            stamps = [f.stamp_ns for f in frames]
            if stamps != sorted(set(stamps)):
                broken.append("order")
            if sum(f.n_bytes for f in frames) > 20_000 or buffer.stats().n_bytes > 20_000:
                broken.append("bytes")
            if any(set(f.color.data) - {f.stamp_ns // HZ30 % 256} for f in frames):
                broken.append("torn")
            if frames and buffer.select(frames[-1]).frame is not frames[-1]:
                broken.append("selection")

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for i in range(600):
        pixels = np.full((1, 300), i % 256, np.uint8)
        buffer.append(frame(i * HZ30, color=raw("mono8", pixels)))
    done.set()
    for reader in readers:
        reader.join()
    assert broken == []
