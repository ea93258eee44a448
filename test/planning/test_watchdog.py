"""Silence is noticed: of a camera, of the transforms, of the engine."""

from __future__ import annotations

import pytest

from rynn_brain_ros.planning.watchdog import Watchdog, WatchdogLimits
from rynn_brain_ros.values import RefusalCode

S = 1_000_000_000
START = 5_000 * S
CAMERA, WRIST = "/camera/image", "/wrist/image"
LIMITS = WatchdogLimits(max_frame_age_s=1.0, max_transform_age_s=2.0, max_engine_silence_s=10.0)


@pytest.fixture
def dog() -> Watchdog:
    return Watchdog(LIMITS)


def test_what_is_not_watched_is_never_stale(dog: Watchdog):
    assert dog.check(START) is None
    assert dog.check(START + 3600 * S) is None


def test_a_camera_may_be_silent_up_to_the_limit(dog: Watchdog):
    dog.saw_frame(CAMERA, 7, START)
    assert dog.check(START + S) is None
    assert dog.check(START + S + 1).code is RefusalCode.STALE


def test_a_stale_camera_is_told_with_its_age_and_the_limit(dog: Watchdog):
    dog.saw_frame(CAMERA, 7, START)
    text = dog.check(START + 3 * S // 2).text
    assert text.startswith("/camera/image: no new image for 1.50 s (limit 1 s)")


def test_a_camera_that_comes_back_is_fresh_again(dog: Watchdog):
    dog.saw_frame(CAMERA, 7, START)
    assert dog.check(START + 5 * S) is not None
    dog.saw_frame(CAMERA, 8, START + 5 * S)
    assert dog.check(START + 5 * S) is None


def test_a_camera_that_never_came_is_stale_once_it_is_watched(dog: Watchdog):
    dog.watch_camera(CAMERA, START)
    assert dog.check(START + S) is None
    assert CAMERA in dog.check(START + 2 * S).text


def test_each_camera_has_its_own_age(dog: Watchdog):
    dog.watch_camera(WRIST, START)
    dog.watch_camera(CAMERA, START)
    for i in range(5):
        dog.saw_frame(CAMERA, i, START + i * S // 2)
    assert dog.check(START + 2 * S).text.startswith(WRIST)


def test_a_frozen_camera_is_stale_though_it_keeps_sending(dog: Watchdog):
    for i in range(4):
        dog.saw_frame(CAMERA, 7, START + i * S // 2)
    text = dog.check(START + 3 * S // 2).text
    assert "3 images and none with a newer stamp for 1.50 s" in text


def test_an_image_out_of_order_is_nothing_new(dog: Watchdog):
    dog.saw_frame(CAMERA, 7, START)
    dog.saw_frame(CAMERA, 6, START + S)
    assert dog.check(START + 3 * S // 2) is not None


def test_a_restarted_camera_counts_on_from_its_new_stamps(dog: Watchdog):
    dog.saw_frame(CAMERA, 1_000_000, START)
    dog.saw_frame(CAMERA, 1, START + S)
    dog.saw_frame(CAMERA, 2, START + 2 * S)
    assert dog.check(START + 2 * S) is None


def test_stamps_are_not_compared_with_the_clock(dog: Watchdog):
    dog.saw_frame(CAMERA, START - 1000 * S, START)
    assert dog.check(START) is None


def test_silent_transforms_are_stale_at_their_own_limit(dog: Watchdog):
    dog.saw_transform(START)
    assert dog.check(START + 2 * S) is None
    text = dog.check(START + 3 * S).text
    assert text.startswith("the camera's pose is not known for 3.00 s (limit 2 s)")


def test_transforms_that_never_came_are_stale_once_they_are_watched(dog: Watchdog):
    dog.watch_transforms(START)
    assert dog.check(START + 3 * S) is not None


def test_a_running_engine_has_to_say_something(dog: Watchdog):
    dog.engine_started(START)
    assert dog.check(START + 10 * S) is None
    dog.engine_alive(START + 10 * S)
    assert dog.check(START + 20 * S) is None
    assert "the engine says nothing for 11.00 s" in dog.check(START + 21 * S).text


def test_an_engine_without_a_question_may_be_silent(dog: Watchdog):
    dog.engine_started(START)
    dog.engine_ended()
    dog.engine_alive(START + S)
    assert dog.check(START + 60 * S) is None


def test_a_clock_that_jumps_back_is_told_once(dog: Watchdog):
    dog.saw_frame(CAMERA, 7, START)
    refusal = dog.check(START - 4 * S)
    assert refusal.code is RefusalCode.STALE
    assert "jumped back by 4 s" in refusal.text
    assert dog.check(START - 4 * S) is None


def test_a_jump_that_an_image_brought_is_told_by_the_next_check(dog: Watchdog):
    dog.saw_frame(CAMERA, 7, START)
    dog.saw_frame(CAMERA, 3, START - 4 * S)
    dog.saw_frame(CAMERA, 4, START - 3 * S)
    assert "jumped back by 4 s" in dog.check(START - 3 * S).text
    assert dog.check(START - 3 * S) is None


def test_after_a_jump_every_age_counts_from_the_new_time(dog: Watchdog):
    dog.saw_frame(CAMERA, 7, START)
    dog.saw_transform(START)
    dog.engine_started(START)
    back = START - 100 * S
    dog.check(back)
    assert dog.check(back + S) is None
    assert dog.check(back + 3 * S // 2).text.startswith(CAMERA)
    dog.saw_frame(CAMERA, 1, back + 3 * S)
    assert dog.check(back + 3 * S).text.startswith("the camera's pose")
    dog.saw_transform(back + 11 * S)
    dog.saw_frame(CAMERA, 2, back + 11 * S)
    assert dog.check(back + 11 * S).text.startswith("the engine")
