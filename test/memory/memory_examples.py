"""Frames and images that the tests of this room share."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.values import EncodedImage, Frame

SECOND = 1_000_000_000


def scene(width: int = 64, height: int = 48, seed: int = 0) -> NDArray[np.uint8]:
    """A smooth colour picture, RGB uint8 [H, W, 3], different for every seed."""
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


def raw(encoding: str, pixels: NDArray[np.generic], padding: int = 0) -> EncodedImage:
    """Rows of ``pixels`` [H, W, …] as a sensor_msgs/Image would hold them."""
    height, width = pixels.shape[:2]
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(height, -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    return EncodedImage(encoding, padded.tobytes(), width, height, padded.shape[1])


def jpeg(rgb: NDArray[np.uint8], encoding: str = "jpeg") -> EncodedImage:
    data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1].tobytes()
    return EncodedImage(encoding, data, compressed=True)


def png(pixels: NDArray[np.generic], encoding: str = "png") -> EncodedImage:
    """Grey as it is; three channels are RGB."""
    bgr = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return EncodedImage(encoding, cv2.imencode(".png", bgr)[1].tobytes(), compressed=True)


TINY = raw("mono8", np.zeros((2, 2), np.uint8))


def frame(stamp_ns: int, camera: str = "head", color: EncodedImage = TINY) -> Frame:
    return Frame(camera, stamp_ns, camera, color)


def sized(stamp_ns: int, n_bytes: int, camera: str = "head") -> Frame:
    """A frame of exactly ``n_bytes``."""
    return frame(stamp_ns, camera, EncodedImage("mono8", bytes(n_bytes), n_bytes, 1, n_bytes))
