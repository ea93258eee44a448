"""Frames opened for measuring: the colours, and the depth in the colour image's pixels.

Opening costs milliseconds, and one answer is looked at by several: lifting, grasping, the gate.
`OpenFrames` opens each frame once.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.geometry import DepthView, PinholeCamera, camera_or_refusal, register_depth
from rynn_brain_ros.memory.images import (
    check_depth,
    decode_color,
    decode_depth,
    image_size,
    is_rectified,
)
from rynn_brain_ros.values import Frame, ImageError, Refusal, RefusalCode, SelectedFrame

_Key = tuple[tuple[str, int], str]
_Parts = tuple[object, ...]


class OpenFrames:
    """The last ``n`` frames that were opened. Serves one thread.

    A clock that is set back repeats stamps, and a simulator pictures too: a depth view is given
    again for the same depth and lenses alone, whatever else of their frame was told anew since.
    """

    def __init__(self, n: int = 8) -> None:
        self._n = n
        self._depth: OrderedDict[_Key, tuple[_Parts, DepthView | Refusal]] = OrderedDict()
        self._color: OrderedDict[_Key, NDArray[np.uint8]] = OrderedDict()

    def depth(self, selected: SelectedFrame) -> DepthView | Refusal:
        """As `depth_view`."""
        key = (selected.frame.key, selected.sha256)
        parts, kept = _depth_parts(selected.frame), self._depth.get(key)
        if kept is None or any(a is not b for a, b in zip(parts, kept[0], strict=True)):
            kept = self._depth[key] = parts, depth_view(selected)
            if len(self._depth) > self._n:
                self._depth.popitem(last=False)
        return kept[1]

    def color(self, selected: SelectedFrame) -> NDArray[np.uint8]:
        """uint8 RGB [H, W, 3], not to be written to. Raises `ImageError`."""
        key = (selected.frame.key, selected.sha256)
        if key not in self._color:
            self._color[key] = decode_color(selected.frame.color)
            if len(self._color) > self._n:
                self._color.popitem(last=False)
        return self._color[key]


def _depth_parts(frame: Frame) -> _Parts:
    """All that `depth_view` reads but the colours: compared by identity, which costs nothing."""
    lenses = frame.camera_info, frame.depth_info, frame.T_color_depth
    return frame.depth, frame.depth_refusal, *lenses


def depth_view(selected: SelectedFrame) -> DepthView | Refusal:
    """The frame's depth in its colour image's pixels.

    Refuses with NO_DEPTH, NO_INTRINSICS or DEPTH_SIZE.
    """
    frame = selected.frame
    if frame.depth is None:
        no_depth = Refusal(RefusalCode.NO_DEPTH, "this camera has no depth images")
        refusal = frame.depth_refusal or no_depth
        return replace(refusal, text=f"{_named(frame)}: {refusal.text}")
    camera = _lens_of(frame, selected.width, selected.height)
    if isinstance(camera, Refusal):
        return camera
    try:
        depth_m = decode_depth(frame.depth)
    except ImageError as error:
        return _unreadable_depth(frame, error)
    return _under_color(DepthView(depth_m, camera), frame)


def frame_defects(frame: Frame) -> tuple[str, ...]:
    """Why its depth will be refused, as far as headers tell: lenses that are there and describe no
    camera, or another stream's, and depth of no known encoding or without all of its data. What
    has not come is no defect of the frame."""
    found: list[Refusal] = []
    if frame.camera_info is not None:
        try:
            lens = _lens_of(frame, *image_size(frame.color))
        except ImageError:  # told on its own
            return ()
        found += [lens] if isinstance(lens, Refusal) else []
    if frame.depth_info is not None:
        lens = camera_or_refusal(frame.depth_info)
        found += [lens] if isinstance(lens, Refusal) else []
    if frame.depth is not None:
        try:
            check_depth(frame.depth)
        except ImageError as error:
            found.append(_unreadable_depth(frame, error))
    return tuple(dict.fromkeys(refusal.text for refusal in found))


def _lens_of(frame: Frame, width: int, height: int) -> PinholeCamera | Refusal:
    """That of its colour image, whose size is given."""
    camera = color_camera(frame)
    if isinstance(camera, Refusal) or (camera.width, camera.height) == (width, height):
        return camera
    return Refusal(
        RefusalCode.NO_INTRINSICS,
        f"camera_info of {_named(frame)} is for {camera.width}×{camera.height} pixels, the image "
        f"has {width}×{height}: is it the camera_info of another stream?",
    )


def _unreadable_depth(frame: Frame, error: ImageError) -> Refusal:
    return Refusal(RefusalCode.NO_DEPTH, f"depth of {_named(frame)} cannot be read: {error}")


def _named(frame: Frame) -> str:
    return f"{frame.camera} at {frame.stamp_ns / 1e9:.3f} s"


def color_camera(frame: Frame) -> PinholeCamera | Refusal:
    """The lens of the frame's colour image; NO_INTRINSICS where it is not known."""
    if frame.camera_info is None:
        return Refusal(RefusalCode.NO_INTRINSICS, f"no camera_info had arrived for {_named(frame)}")
    return camera_or_refusal(frame.camera_info, rectified=is_rectified(frame.camera))


def _under_color(view: DepthView, frame: Frame) -> DepthView | Refusal:
    """The same where the driver registered it; else registered with the depth camera's lens."""
    if frame.depth_info is None or frame.T_color_depth is None:
        return view.size_refusal or view
    depth_camera = camera_or_refusal(frame.depth_info)
    if isinstance(depth_camera, Refusal):
        return depth_camera
    registered = register_depth(view.depth_m, depth_camera, view.camera, frame.T_color_depth)
    return registered if isinstance(registered, Refusal) else DepthView(registered, view.camera)
