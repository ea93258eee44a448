"""Opened frames: each once, and never one for another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from memory_examples import TINY, raw

from rynn_brain_ros.geometry import DepthView
from rynn_brain_ros.memory import OpenFrames, select
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
