"""What a sensor_msgs/CameraInfo says of the picture that is published beside it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from rynn_brain_ros import messages
from rynn_brain_ros.bags import message
from rynn_brain_ros.values import CameraInfo

FULL = CameraInfo(
    width=1280,
    height=960,
    k=(900.0, 0.0, 640.0, 0.0, 880.0, 480.0, 0.0, 0.0, 1.0),
    d=(0.1, -0.2, 0.0, 0.0, 0.0),
    distortion_model="plumb_bob",
    p=(900.0, 0.0, 640.0, -90.0, 0.0, 880.0, 480.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    frame_id="optical",
)


def heard(**changes: Any) -> CameraInfo:
    told = {**messages.camera_info(FULL, 1), **changes}
    return messages.camera_info_of(message(messages.CAMERA_INFO, told))


def roi(**values: Any) -> dict[str, Any]:
    zero = {"x_offset": 0, "y_offset": 0, "width": 0, "height": 0, "do_rectify": False}
    return {**zero, **values}


@pytest.mark.parametrize("bins", [0, 1])
def test_a_picture_of_the_whole_sensor_is_as_the_message_says(bins: int):
    assert asdict(heard(binning_x=bins, binning_y=bins, roi=roi())) == asdict(FULL)


def test_a_binned_picture_is_seen_by_a_shorter_lens():
    binned = heard(binning_x=2, binning_y=4)
    assert (binned.width, binned.height) == (640, 240)
    assert binned.k == (450.0, 0.0, 320.0, 0.0, 220.0, 120.0, 0.0, 0.0, 1.0)
    assert binned.p[:4] == (450.0, 0.0, 320.0, -45.0)
    assert binned.d == FULL.d


def test_a_part_of_the_sensor_has_its_middle_elsewhere():
    part = heard(roi=roi(x_offset=200, y_offset=100, width=640, height=480), binning_x=2)
    assert (part.width, part.height) == (320, 480)
    assert part.k == (450.0, 0.0, 220.0, 0.0, 880.0, 380.0, 0.0, 0.0, 1.0)
