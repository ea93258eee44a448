"""Opened frames: each once, and never one for another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from memory_examples import TINY, raw

from rynn_brain_ros.geometry import DepthView, PinholeCamera
from rynn_brain_ros.memory import OpenFrames, depth_view, select
from rynn_brain_ros.memory.opening import color_camera
from rynn_brain_ros.values import CameraInfo, Frame, Refusal, RefusalCode, RigidTransform


def lens(focal_px: float) -> CameraInfo:
    return CameraInfo(2, 2, (focal_px, 0.0, 0.5, 0.0, focal_px, 0.5, 0.0, 0.0, 1.0))


def frame(depth_mm: int, focal_px: float) -> Frame:
    depth = raw("16UC1", np.full((2, 2), depth_mm, np.uint16))
    return Frame("head", 5, "optical", TINY, depth, lens(focal_px))


@pytest.mark.parametrize(("depth_mm", "focal_px"), [(2000, 50.0), (1000, 80.0)])
def test_same_picture_at_the_same_stamp_of_another_run_keeps_its_own_depth_and_lens(
    depth_mm: int, focal_px: float
) -> None:
    opened = OpenFrames()
    opened.depth(select(frame(1000, 50.0)))
    view = opened.depth(select(frame(depth_mm, focal_px)))
    assert isinstance(view, DepthView)
    assert (view.depth_m[0, 0], view.camera.fx) == (depth_mm / 1000, focal_px)


def test_depth_that_one_run_lacked_is_not_refused_in_the_next() -> None:
    opened, whole = OpenFrames(), frame(1000, 50.0)
    none = Refusal(RefusalCode.NO_DEPTH, "no depth image within 0.02 s")
    assert isinstance(opened.depth(select(replace(whole, depth=None, depth_refusal=none))), Refusal)
    assert isinstance(opened.depth(select(whole)), DepthView)


def test_frame_that_is_posed_anew_is_not_opened_again() -> None:
    opened, seen = OpenFrames(), select(frame(1000, 50.0))
    posed = replace(seen.frame, T_fixed_camera=RigidTransform("odom", "optical"))
    assert opened.depth(replace(seen, frame=posed)) is opened.depth(seen)


@pytest.mark.parametrize(
    ("topic", "focal_px"),
    [
        ("c/image_raw", 50.0),
        ("c/image", 50.0),
        ("c/raw/image", 50.0),
        ("c/image_rect_color/compressed", 80.0),
        ("zed/rgb/color/rect/image", 80.0),
        ("zed/rgb/color/rect/image/compressed", 80.0),
    ],
)
def test_lens_of_a_picture_whose_name_says_rectified_is_p(topic: str, focal_px: float) -> None:
    p = (80.0, 0.0, 0.5, 0.0, 0.0, 80.0, 0.5, 0.0, 0.0, 0.0, 1.0, 0.0)
    whole = frame(1000, 50.0)
    seen = replace(whole, camera=topic, camera_info=replace(lens(50.0), p=p))
    camera = color_camera(seen)
    assert isinstance(camera, PinholeCamera) and camera.fx == focal_px


def test_depth_of_a_lens_without_distortion_is_drawn_where_the_distorted_picture_shows_it() -> None:
    """A wall's edge, seen by both from one place: a pixel of one is no pixel of the other."""
    k = (100.0, 0.0, 79.5, 0.0, 100.0, 59.5, 0.0, 0.0, 1.0)
    bent = CameraInfo(160, 120, k, (-0.3, 0.05, 0.0, 0.0), "plumb_bob")
    depth_mm = np.full((120, 160), 2000, np.uint16)
    depth_mm[:, 140:] = 1000
    pictured = raw("rgb8", np.zeros((120, 160, 3), np.uint8))
    seen = Frame("head", 5, "optical", pictured, raw("16UC1", depth_mm), bent)
    straight = replace(bent, d=())
    placed = replace(seen, depth_info=straight, T_color_depth=RigidTransform("optical", "optical"))
    view = depth_view(select(placed))
    assert isinstance(view, DepthView)
    edge = PinholeCamera.from_info(bent).project([((140 - 79.5) / 100, 0.0, 1.0)])[0, 0]
    assert edge < 135
    assert view.depth_m[60, round(edge) - 3] == 2.0
    assert view.depth_m[60, round(edge) + 3] == 1.0
