"""What the status says of a camera, from counts at two looks."""

from __future__ import annotations

from collections import Counter

from rynn_brain_ros.memory import AssemblyStats, CameraStats, DropReason
from rynn_brain_ros.view.health import CameraWatch, camera_part

TOPIC, SECOND_NS, MAX_AGE_S = "/head/image", 1_000_000_000, 2.0


def stats(emitted: int = 0, **dropped: int) -> AssemblyStats:
    return AssemblyStats(emitted, 0, {}, dropped, 0)


def track(newest_ns: int | None, unreadable: int = 0) -> CameraStats:
    frames = 0 if newest_ns is None else 1
    dropped = Counter({DropReason.UNREADABLE: unreadable})
    return CameraStats(TOPIC, frames, 100, newest_ns, newest_ns, dropped, 0)


def told(watch: CameraWatch, now_ns: int = 100 * SECOND_NS) -> tuple[str, ...]:
    return camera_part(watch, now_ns, MAX_AGE_S).problems


def silent(since_s: float, publishers: int = 0) -> CameraWatch:
    return CameraWatch(TOPIC, stats(), stats(), None, 1.0, since_s, publishers)


def test_a_camera_has_two_seconds_to_be_found():
    assert told(silent(1.0)) == ()
    assert told(silent(2.5)) == (f"no image has arrived on {TOPIC}: is the camera publishing?",)


def test_images_that_are_published_and_do_not_come_are_said_to_be_lost_on_the_way():
    (problem,) = told(silent(2.5, publishers=1))
    assert "though somebody publishes it" in problem
    assert "net.core.rmem_max" in problem


def test_images_that_came_and_cannot_be_used_are_not_said_to_be_missing():
    watch = CameraWatch(TOPIC, stats(3), stats(9), track(None, unreadable=9), 1.0, 60.0, 1)
    assert told(watch) == (f"none of the images on {TOPIC} can be used: 9 were refused",)


def test_stamps_that_stand_still_are_named_instead_of_the_age_that_follows_from_them():
    before, now = stats(1, duplicate=5), stats(1, duplicate=35)
    (problem,) = told(CameraWatch(TOPIC, before, now, track(0), 1.0, 60.0, 1))
    assert "the stamps on /head/image do not advance: 30 images" in problem


def test_stamps_that_stand_still_are_named_from_the_first_look_on():
    (problem,) = told(CameraWatch(TOPIC, stats(), stats(1, duplicate=3), track(0), 1.0, 1.0, 1))
    assert "do not advance: 3 images" in problem


def test_a_stamp_that_came_twice_among_others_is_no_problem():
    before, now = stats(1, duplicate=5), stats(30, duplicate=6)
    assert told(CameraWatch(TOPIC, before, now, track(100 * SECOND_NS), 1.0, 60.0, 1)) == ()
