"""What a question shows: sorted, ending with now, within the token budget, append-stable."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_examples import SECOND, frame

from rynn_brain_ros.memory import (
    FrameBuffer,
    FrameLook,
    KeyframeWindow,
    SelectionKind,
    SelectionPolicy,
    latest_k,
    select_frames,
    uniform,
)
from rynn_brain_ros.values import ConfigError, Frame, FrameSet, InputError

KEYFRAMES = SelectionPolicy(SelectionKind.KEYFRAMES, n=16)


def at(*seconds: float, camera: str = "head") -> list[Frame]:
    return [frame(round(s * SECOND), camera) for s in seconds]


def seconds(frames: tuple[Frame, ...] | FrameSet) -> list[float]:
    plain = [s.frame for s in frames.frames] if isinstance(frames, FrameSet) else frames
    return [f.stamp_ns / SECOND for f in plain]


def test_latest_walks_back_from_now_at_the_training_rate() -> None:
    frames = at(*(i / 30 for i in range(301)))
    assert seconds(latest_k(frames, 4)) == [8.5, 9.0, 9.5, 10.0]


def test_latest_gives_every_frame_of_a_jittering_two_hertz_bag() -> None:
    jitter = np.random.default_rng(1).uniform(-0.1, 0.1, 40)
    frames = at(*(i / 2 + jitter[i] for i in range(40)))
    assert list(latest_k(frames, 40)) == frames


def test_latest_gives_every_frame_of_a_slow_camera() -> None:
    frames = at(0, 3, 6, 9)
    assert list(latest_k(frames, 4)) == frames


def test_latest_skips_a_gap_and_goes_on_behind_it() -> None:
    assert seconds(latest_k(at(0, 0.5, 1, 100.1, 100.6), 4)) == [0.5, 1, 100.1, 100.6]


def test_latest_follows_the_rate_it_is_given() -> None:
    frames = at(*(i / 10 for i in range(101)))
    assert seconds(latest_k(frames, 3, fps=1)) == [8.0, 9.0, 10.0]


def test_uniform_spreads_over_time_and_ends_now() -> None:
    frames = at(0, 10, 20, 30, *(30 + i / 10 for i in range(1, 101)))
    assert seconds(uniform(frames, 5)) == [0, 10, 20, 30, 40]


def test_uniform_gives_all_when_there_are_few() -> None:
    frames = at(0, 1, 5)
    assert list(uniform(frames, 8)) == frames


@given(st.lists(st.integers(0, 10**11), min_size=1, max_size=50, unique=True), st.integers(1, 20))
def test_every_policy_ends_with_now_in_order_and_within_n(stamps: list[int], n: int) -> None:
    frames = [frame(stamp) for stamp in sorted(stamps)]
    for kind in SelectionKind:
        chosen = select_frames(frames, SelectionPolicy(kind, n))
        order = [s.frame.stamp_ns for s in chosen.frames]
        assert order == sorted(set(order))
        assert order[-1] == max(stamps)
        assert 1 <= len(order) <= n
        assert len(order) * chosen.max_visual_tokens <= 10240


def test_images_share_the_training_budget() -> None:
    chosen = select_frames(at(*range(8)), SelectionPolicy(n=8, fps=1))
    assert chosen.max_visual_tokens == 1280


def test_few_images_share_the_budget_among_themselves() -> None:
    assert select_frames(at(0), SelectionPolicy(n=8)).max_visual_tokens == 10240


def test_keyframe_window_keeps_its_image_size_as_it_grows() -> None:
    assert select_frames(at(0), KEYFRAMES).max_visual_tokens == 640


@pytest.mark.parametrize("bad", [{"n": 0}, {"n": 513}, {"fps": 0.0}, {"fps": float("nan")}])
def test_impossible_policy_is_a_config_error(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="SelectionPolicy"):
        SelectionPolicy(**bad)  # type: ignore[arg-type]


def test_nothing_seen_is_an_input_error_that_names_what_is_known() -> None:
    buffer = FrameBuffer()
    buffer.append(frame(0, "wrist"))
    with pytest.raises(InputError, match=r"'head'.*wrist"):
        select_frames(buffer, SelectionPolicy(), "head")


def test_nothing_seen_yet_at_that_time_is_an_input_error() -> None:
    with pytest.raises(InputError, match="up to 5 ns"):
        select_frames(at(1), SelectionPolicy(), now_ns=5)


def test_frames_after_now_are_not_shown() -> None:
    chosen = select_frames(at(0, 1, 2, 3), SelectionPolicy(n=2, fps=1), now_ns=2 * SECOND)
    assert seconds(chosen) == [1, 2]


def test_one_camera_is_chosen_by_name() -> None:
    frames = at(0, 1, camera="a") + at(0.5, 1.5, camera="b")
    assert seconds(select_frames(frames, SelectionPolicy(fps=1), "a")) == [0, 1]


def test_all_cameras_share_equally_in_stamp_order() -> None:
    frames = at(0, 1, 2, 3, camera="a") + at(0.5, 1.5, 2.5, 3.5, camera="b")
    chosen = select_frames(frames, SelectionPolicy(n=4, fps=1))
    assert [s.frame.key for s in chosen.frames] == [
        ("a", 2 * SECOND), ("b", 2.5 * SECOND), ("a", 3 * SECOND), ("b", 3.5 * SECOND),
    ]  # fmt: skip


def test_more_cameras_than_n_shows_the_newest() -> None:
    frames = at(0, camera="a") + at(1, camera="b") + at(2, camera="c")
    assert seconds(select_frames(frames, SelectionPolicy(n=2))) == [1, 2]


def test_selection_from_a_buffer_makes_each_image_once() -> None:
    buffer = FrameBuffer()
    for f in at(0, 0.5):
        buffer.append(f)
    first, second = (select_frames(buffer, SelectionPolicy()) for _ in range(2))
    assert first.frames[0] is second.frames[0]


# --- the keyframe window


def test_window_grows_to_n_and_then_drops_half() -> None:
    window = KeyframeWindow(16)
    frames = at(*range(40))
    sizes = [len(window.show(frames[: i + 1], frames[i])) for i in range(25)]
    assert sizes == [*range(1, 16), *range(8, 16), 8, 9]


def test_now_rides_behind_the_window_and_does_not_stay() -> None:
    window = KeyframeWindow(16)
    keyframes = at(0, 1, 2)
    first = window.show(keyframes, frame(3 * SECOND))
    second = window.show(keyframes, frame(4 * SECOND))
    assert seconds(first) == [0, 1, 2, 3]
    assert seconds(second) == [0, 1, 2, 4]


def test_now_that_is_a_keyframe_is_shown_once() -> None:
    keyframes = at(0, 1)
    assert seconds(KeyframeWindow(16).show(keyframes, keyframes[-1])) == [0, 1]


def test_window_of_one_shows_only_now() -> None:
    assert seconds(KeyframeWindow(1).show(at(0, 1), frame(2 * SECOND))) == [2]


def test_window_forgets_another_clock() -> None:
    window = KeyframeWindow(16)
    old = at(60, 61)
    window.show(old, old[-1])
    new = at(0, 1)
    assert seconds(window.show(new, new[-1])) == [0, 1]


def test_window_shows_nothing_that_the_buffer_has_let_go() -> None:
    window = KeyframeWindow(16)
    frames = at(*range(10))
    window.show(frames, frames[-1])
    shown = window.show(frames[1:], frames[-1])
    assert seconds(shown) == [5, 6, 7, 8, 9]


def test_late_keyframe_does_not_move_what_was_shown() -> None:
    window = KeyframeWindow(16)
    first, second, late = at(0, 1, 0.95)
    window.show([first, second], second)
    assert seconds(window.show([first, late, second], second)) == [0, 1]


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=120), st.integers(2, 20))
def test_windows_share_their_beginning_or_drop_a_whole_block(
    arrivals: list[tuple[bool, bool]], n: int
) -> None:
    buffer, window = FrameBuffer(), KeyframeWindow(n)
    policy = SelectionPolicy(SelectionKind.KEYFRAMES, n)
    before: tuple[Frame, ...] = ()
    breaks = 0
    for i, (keyframe, asked) in enumerate(arrivals):
        now = frame(i * SECOND // 4)
        buffer.append(now, FrameLook(keyframe=keyframe))
        if not asked:
            continue
        shown = tuple(s.frame for s in select_frames(buffer, policy, window=window).frames)
        assert shown[-1] is now
        assert len(shown) <= n
        stable = shown if keyframe else shown[:-1]
        lost = next(k for k in range(len(before) + 1) if stable[: len(before) - k] == before[k:])
        assert lost % (n // 2) == 0 or lost == len(before)
        breaks += lost > 0
        before = stable
    assert breaks <= sum(keyframe for keyframe, _ in arrivals) // (n // 2)
