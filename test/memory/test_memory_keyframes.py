"""Keyframes are sharp and new, at any brightness, and the same in every replay."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from memory_examples import SECOND, frame, jpeg, raw, scene
from numpy.typing import NDArray

from rynn_brain_ros.memory import FrameLook, KeyframeConfig, KeyframeDetector
from rynn_brain_ros.values import EncodedImage, Frame, ImageError

SCENES = [scene(640, 480, seed) for seed in range(4)]


def textured(seed: int) -> NDArray[np.uint8]:
    return scene(640, 480, seed) // 2 + np.random.default_rng(seed).integers(
        0, 120, (480, 640, 3), dtype=np.uint8
    )


def shown(second: float, rgb: NDArray[np.uint8], camera: str = "head") -> Frame:
    return frame(round(second * SECOND), camera, raw("rgb8", rgb))


def test_first_frame_of_each_camera_is_a_keyframe() -> None:
    detector = KeyframeDetector()
    assert detector.look(shown(0, SCENES[0], "a")).keyframe
    assert detector.look(shown(0, SCENES[0], "b")).keyframe


def test_unchanged_scene_is_no_keyframe() -> None:
    detector = KeyframeDetector()
    detector.look(shown(0, SCENES[0]))
    look = detector.look(shown(1, SCENES[0]))
    assert look.novelty < 0.01
    assert not look.keyframe


def test_new_scene_is_a_keyframe() -> None:
    detector = KeyframeDetector()
    detector.look(shown(0, SCENES[0]))
    assert detector.look(shown(1, SCENES[1])).keyframe


def test_change_of_brightness_is_not_novel() -> None:
    detector = KeyframeDetector()
    detector.look(shown(0, SCENES[0]))
    darker = (SCENES[0] * 0.5 + 20).astype(np.uint8)
    assert detector.look(shown(1, darker)).novelty < 0.05


def test_noise_in_the_dark_is_not_novel() -> None:
    detector = KeyframeDetector()
    rng = np.random.default_rng(0)
    looks = [
        detector.look(shown(i, rng.integers(0, 4, (480, 640, 3), dtype=np.uint8))) for i in range(3)
    ]
    assert not looks[-1].keyframe


def test_blurred_view_of_something_new_waits_for_a_sharp_one() -> None:
    detector = KeyframeDetector()
    for i in range(5):
        detector.look(shown(i / 5, textured(0)))
    blurred = cv2.GaussianBlur(textured(1), (0, 0), 12)
    assert not detector.look(shown(1, blurred)).keyframe
    assert detector.look(shown(1.2, textured(1))).keyframe


def test_a_fast_camera_is_looked_at_five_times_a_second_and_misses_nothing_new() -> None:
    detector = KeyframeDetector()
    unread = EncodedImage("jpeg", b"not a picture", compressed=True)
    found = []
    for i in range(60):
        second, at = i // 30, i / 30
        picture = (
            shown(at, SCENES[second]) if i % 6 == 0 else frame(round(at * SECOND), color=unread)
        )
        found += [i] if detector.look(picture).keyframe else []
    assert found == [0, 30], "five of six were not opened"


def test_keyframes_keep_their_least_distance() -> None:
    detector = KeyframeDetector(KeyframeConfig(min_interval_s=0.4))
    detector.look(shown(0, SCENES[0]))
    assert not detector.look(shown(0.2, SCENES[1])).keyframe
    assert detector.look(shown(0.4, SCENES[1])).keyframe


def test_still_scene_gets_a_keyframe_after_the_longest_interval() -> None:
    detector = KeyframeDetector(KeyframeConfig(max_interval_s=5))
    looks = [detector.look(shown(second, SCENES[0])).keyframe for second in range(11)]
    assert [i for i, keyframe in enumerate(looks) if keyframe] == [0, 5, 10]


def test_clock_that_jumps_back_starts_afresh() -> None:
    detector = KeyframeDetector()
    detector.look(shown(60, SCENES[0]))
    assert detector.look(shown(0, SCENES[0])).keyframe


def test_small_backward_skew_does_not_start_afresh() -> None:
    detector = KeyframeDetector()
    detector.look(shown(1, SCENES[0]))
    assert not detector.look(shown(0.95, SCENES[0])).keyframe


def test_the_same_frames_give_the_same_looks() -> None:
    frames = [shown(i / 3, SCENES[i % 4]) for i in range(12)]

    def looks() -> list[FrameLook]:
        detector = KeyframeDetector()
        return [detector.look(f) for f in frames]

    assert looks() == looks()


def test_novelty_of_raw_and_jpeg_agree() -> None:
    detector = KeyframeDetector()
    detector.look(shown(0, SCENES[0]))
    grey = np.repeat(SCENES[0][..., 1:2], 3, axis=2)
    detector.look(shown(6, grey))
    assert detector.look(frame(7 * SECOND, color=jpeg(grey))).novelty < 0.05


def test_unreadable_frame_is_an_image_error() -> None:
    with pytest.raises(ImageError):
        KeyframeDetector().look(frame(0, color=EncodedImage("jpeg", b"", compressed=True)))


@pytest.mark.shared
def test_real_walk_at_two_frames_a_second_is_new_at_every_step(shared_data: Path) -> None:
    folder = shared_data / "cookbook/assets/object_location/videos/0"
    detector = KeyframeDetector()
    looks = [
        detector.look(
            frame(i * SECOND // 2, color=EncodedImage("jpeg", path.read_bytes(), compressed=True))
        )
        for i, path in enumerate(sorted(folder.glob("*.jpg")))
    ]
    assert len(looks) == 8
    assert all(look.keyframe for look in looks)
