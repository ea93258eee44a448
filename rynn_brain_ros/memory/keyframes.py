"""Which frames are worth remembering: decided once, on arrival, at reduced size.

A keyframe is sharp for its camera and shows something that the last keyframe did not. Everything
here depends on the pixels and stamps alone, in the order they came, so that a replay decides as
the robot did.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.memory.images import thumbnail
from rynn_brain_ros.values import Frame

_NOVELTY_SIZE = (32, 24)  # (width, height): coarse enough that sensor noise averages out
_MIN_CONTRAST = 8.0  # grey levels; below it a dark or blank image would be noise blown up


@dataclass(frozen=True)
class KeyframeConfig:
    """When a frame becomes a keyframe.

    ``min_novelty`` is a mean absolute difference of pictures normalized to mean 0 and standard
    deviation 1 (unrelated pictures reach about 1). ``min_sharpness`` is a share of the median of
    the camera's last ``sharpness_memory`` frames. No two keyframes are nearer than
    ``min_interval_s``; after ``max_interval_s`` the next frame is one whatever it shows. A stamp
    more than ``max_backward_skew_s`` before the camera's newest starts it afresh. Frames nearer
    than ``look_interval_s`` to the last one that was looked at are not: at 30 Hz most of the time
    went into JPEGs that could not become keyframes.
    """

    min_novelty: float = 0.2
    min_sharpness: float = 0.6
    sharpness_memory: int = 30
    look_interval_s: float = 0.18
    min_interval_s: float = 0.4
    max_interval_s: float = 5.0
    max_backward_skew_s: float = 0.1


@dataclass(frozen=True)
class FrameLook:
    """What one look at a frame told.

    ``sharpness`` is the variance of the thumbnail's Laplacian (grey levels², comparable only
    within one camera), ``novelty`` the difference to the camera's last keyframe, infinite for
    the first.
    """

    sharpness: float = 0.0
    novelty: float = math.inf
    keyframe: bool = False


@dataclass
class _CameraState:
    sharpness: deque[float]
    newest_ns: int
    looked_ns: int | None = None
    keyframe_ns: int | None = None
    keyframe: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))


class KeyframeDetector:
    """Looks at a frame once, or not. Belongs to the one thread that feeds the buffer."""

    def __init__(self, config: KeyframeConfig | None = None) -> None:
        self._config = config or KeyframeConfig()
        self._pause_ns = round(self._config.look_interval_s * 1e9)
        self._cameras: dict[str, _CameraState] = {}

    def look(self, frame: Frame) -> FrameLook:
        """Judge a frame by its thumbnail, or let it pass unseen soon after another one. Raises
        `ImageError` for one that cannot be read."""
        state = self._state(frame)
        if state.looked_ns is not None and frame.stamp_ns < state.looked_ns + self._pause_ns:
            return FrameLook()
        grey = thumbnail(frame.color)
        state.looked_ns = frame.stamp_ns
        edges = cv2.Laplacian(grey, cv2.CV_32F).astype(np.float32, copy=False)
        sharpness = _mean_and_deviation(edges)[1] ** 2
        state.sharpness.append(sharpness)
        picture = _normalized(grey)
        if state.keyframe_ns is None:
            novelty = math.inf
        else:
            novelty = cv2.norm(picture, state.keyframe, cv2.NORM_L1) / picture.size
        keyframe = self._decide(state, frame.stamp_ns, sharpness, novelty)
        if keyframe:
            state.keyframe_ns, state.keyframe = frame.stamp_ns, picture
        return FrameLook(sharpness, novelty, keyframe)

    def _state(self, frame: Frame) -> _CameraState:
        state = self._cameras.get(frame.camera)
        skew_ns = round(self._config.max_backward_skew_s * 1e9)
        if state is None or frame.stamp_ns < state.newest_ns - skew_ns:
            memory: deque[float] = deque(maxlen=self._config.sharpness_memory)
            state = self._cameras[frame.camera] = _CameraState(memory, frame.stamp_ns)
        state.newest_ns = max(state.newest_ns, frame.stamp_ns)
        return state

    def _decide(self, state: _CameraState, stamp_ns: int, sharpness: float, novelty: float) -> bool:
        if state.keyframe_ns is None:
            return True
        elapsed_s = (stamp_ns - state.keyframe_ns) / 1e9
        if elapsed_s >= self._config.max_interval_s:
            return True
        if elapsed_s < self._config.min_interval_s or novelty < self._config.min_novelty:
            return False
        median = float(np.median(list(state.sharpness)))  # for few frames: it takes its time
        return sharpness >= self._config.min_sharpness * median


def _normalized(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Coarse picture with mean 0 and standard deviation 1, float32 [24, 32]."""
    small = cv2.resize(grey, _NOVELTY_SIZE, interpolation=cv2.INTER_AREA).astype(np.float32)
    mean, deviation = _mean_and_deviation(small)
    normalized: NDArray[np.float32] = (small - mean) / max(deviation, _MIN_CONTRAST)
    return normalized


def _mean_and_deviation(picture: NDArray[np.float32]) -> tuple[float, float]:
    """Many times faster than numpy's for pictures as small as these."""
    mean, deviation = cv2.meanStdDev(picture)
    return float(mean[0, 0]), float(deviation[0, 0])
