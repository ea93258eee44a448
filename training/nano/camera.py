"""The camera: where it shows what of the table, and what it makes of a drawn picture."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.geometry import apply, invert
from rynn_brain_ros.sim.rendering import pinhole_info
from rynn_brain_ros.sim.table_scene import FOVY_DEG
from rynn_brain_ros.values import Point2, RigidTransform, Vector3

CAMERA_PX = (640, 480)
"""What the simulator's camera gives."""
SEEN_PX = (320, 240)
"""What the model looks at: whole visual tokens of 16 pixels."""
_JPEG_QUALITY = 92


def seen_at(point_m: Vector3, T_base_front: RigidTransform) -> Point2:
    """Where a point of the base frame is in the picture, x and y in 0…1000."""
    x, y, z = apply(invert(T_base_front), np.array([point_m]))[0]
    fx, fy, cx, cy = _pinhole()
    width, height = SEEN_PX
    column, row = fx * x / z + cx + 0.5, fy * y / z + cy + 0.5
    return float(column / width * 1000), float(row / height * 1000)


def table_at(x: float, y: float, T_base_front: RigidTransform) -> Point2:
    """Where on the table, in metres of the base frame, the picture's x and y in 0…1000 are."""
    fx, fy, cx, cy = _pinhole()
    width, height = SEEN_PX
    column, row = x / 1000 * width - 0.5, y / 1000 * height - 0.5
    ray = ((column - cx) / fx, (row - cy) / fy, 1.0)
    eye, beyond = apply(T_base_front, np.array([(0.0, 0.0, 0.0), ray]))
    reach = eye[2] / (eye[2] - beyond[2])
    x_m, y_m, _ = eye + reach * (beyond - eye)
    return float(x_m), float(y_m)


def _pinhole() -> tuple[float, float, float, float]:
    fx, _, cx, _, fy, cy, *_ = pinhole_info(*SEEN_PX, FOVY_DEG["front"], "front").k
    return fx, fy, cx, cy


# --- as a camera gives it -------------------------------------------------------------------------


def exposed(rgb: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Brightness, contrast and white balance of another camera; now and then out of focus."""
    gain = rng.uniform(0.85, 1.15) * rng.uniform(0.96, 1.04, 3)
    out = np.clip(rgb * gain + rng.uniform(-10, 10), 0, 255).astype(np.uint8)
    if rng.random() < 0.2:
        blurred = cv2.GaussianBlur(out, (0, 0), float(rng.uniform(0.4, 1.2)))
        return np.ascontiguousarray(blurred, np.uint8)
    return np.ascontiguousarray(out)


def as_jpeg(rgb: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[
        1
    ].tobytes()


def as_png(numbers: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".png", numbers)[1].tobytes()


def opened(encoded: bytes, flags: int) -> NDArray[np.uint8]:
    pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
    assert pixels is not None  # we encoded it
    return np.asarray(pixels, np.uint8)
