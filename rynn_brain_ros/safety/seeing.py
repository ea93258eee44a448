"""Frames opened for measuring: depth under colour, colour, and the camera's pose."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.geometry import DepthView, invert
from rynn_brain_ros.memory import OpenFrames
from rynn_brain_ros.values import (
    Frame,
    ImageError,
    Refusal,
    RefusalCode,
    RigidTransform,
    SelectedFrame,
    TransformError,
)


@dataclass(frozen=True, eq=False)
class SeenFrame:
    """A frame with all that a measurement needs. ``rgb`` uint8 [H, W, 3] is slightly blurred."""

    view: DepthView
    T_fixed_camera: RigidTransform
    T_camera_fixed: RigidTransform
    rgb: NDArray[np.uint8] = field(repr=False)

    def colors(self, uv: NDArray[np.int64]) -> NDArray[np.float32]:
        """[N, 3], 0…255, at pixels ``uv`` [N, 2]; beyond the border the border's."""
        height, width = self.rgb.shape[:2]
        v, u = np.clip(uv[:, 1], 0, height - 1), np.clip(uv[:, 0], 0, width - 1)
        return self.rgb[v, u].astype(np.float32)


class SeenFrames:
    """Prepares each frame once, for several looks at it."""

    def __init__(self, opened: OpenFrames | None = None) -> None:
        self._opened = opened or OpenFrames()
        self._seen: dict[tuple[tuple[str, int], str], SeenFrame | Refusal] = {}

    def of(self, selected: SelectedFrame) -> SeenFrame | Refusal:
        """Refuses as `memory.depth_view` does, and with NO_TRANSFORM where the pose is unknown."""
        key = (selected.frame.key, selected.sha256)
        if key not in self._seen:
            self._seen[key] = _seen(selected, self._opened)
        return self._seen[key]


def _seen(selected: SelectedFrame, opened: OpenFrames) -> SeenFrame | Refusal:
    frame = selected.frame
    pose = frame.T_fixed_camera
    if pose is None:
        unknown = Refusal(RefusalCode.NO_TRANSFORM, "the camera's pose at its stamp is unknown")
        return frame.pose_refusal or unknown
    view = opened.depth(selected)
    if isinstance(view, Refusal):
        return view
    try:
        T_camera_fixed = invert(pose)
    except TransformError as error:
        return Refusal(RefusalCode.NO_TRANSFORM, str(error))
    try:
        rgb = cv2.blur(opened.color(selected), (3, 3))
    except ImageError as error:
        return Refusal(RefusalCode.NO_DEPTH, f"the image of {_where(frame)} is unreadable: {error}")
    return SeenFrame(view, pose, T_camera_fixed, np.asarray(rgb, np.uint8))


def _where(frame: Frame) -> str:
    return f"{frame.camera} at {frame.stamp_ns / 1e9:.3f} s"
