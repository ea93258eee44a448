"""The error of the chain from the fixed frame to the camera, at one point whose place is known."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rynn_brain_ros.checking.recorded_camera import CalibrationLimits, Recorded
from rynn_brain_ros.geometry import apply, invert, lift_point, optical_frame_refusal
from rynn_brain_ros.memory import depth_view, select
from rynn_brain_ros.values import Frame, InputError, Point2, Refusal, RigidTransform, Vector3


@dataclass(frozen=True)
class KnownPoint:
    """A point at ``place_m`` in the fixed frame, seen at ``pixel``."""

    place_m: Vector3
    pixel: Point2


@dataclass(frozen=True)
class PointCheck:
    """``measured_m`` in ``fixed_frame``; ``angle_deg`` is between where the camera sees the point
    and where it would have to, ``depth_mm`` how much too far it is seen."""

    camera: str
    fixed_frame: str
    stamp_ns: int
    point: KnownPoint
    measured_m: Vector3
    angle_deg: float
    depth_mm: float
    problems: tuple[str, ...]

    @property
    def off_mm(self) -> Vector3:
        x, y, z = (1e3 * (m - p) for m, p in zip(self.measured_m, self.point.place_m, strict=True))
        return (x, y, z)

    @property
    def distance_mm(self) -> float:
        return math.hypot(*self.off_mm)


def check_point(
    bag: Path,
    point: KnownPoint,
    limits: CalibrationLimits,
    *,
    at_s: float = 0.0,
    camera: str = "",
    fixed_frame: str = "",
) -> PointCheck:
    """In the first picture that is ``at_s`` seconds or more after the first.

    Raises `InputError` where it cannot be lifted, with the refusal.
    """
    with Recorded(bag, camera) as recorded:
        frame = _frame_at(recorded, at_s)
        fixed = fixed_frame or recorded.fixed_frame(frame.frame_id)
        refusal = optical_frame_refusal(recorded.transforms, frame.frame_id, frame.stamp_ns)
        T_fixed_camera = refusal or recorded.transforms.lookup(
            fixed, frame.frame_id, frame.stamp_ns
        )
    view = depth_view(select(frame))
    lifted = view if isinstance(view, Refusal) else lift_point(point.pixel, view)
    for found in (T_fixed_camera, lifted):
        if isinstance(found, Refusal):
            raise InputError(f"{bag}, {frame.camera} at {frame.stamp_ns / 1e9:.3f} s: {found}")
    assert isinstance(T_fixed_camera, RigidTransform) and not isinstance(lifted, Refusal)
    (measured,) = apply(T_fixed_camera, [lifted.point_camera_m]).tolist()
    (wanted,) = apply(invert(T_fixed_camera), [point.place_m])
    seen = np.asarray(lifted.point_camera_m)
    cosine = float(seen @ wanted / np.linalg.norm(seen) / np.linalg.norm(wanted))
    angle_deg = math.degrees(math.acos(max(-1.0, min(1.0, cosine))))
    distance_mm = float(np.linalg.norm(seen - wanted) * 1e3)
    return PointCheck(
        frame.camera,
        fixed,
        frame.stamp_ns,
        point,
        (measured[0], measured[1], measured[2]),
        angle_deg,
        float((np.linalg.norm(seen) - np.linalg.norm(wanted)) * 1e3),
        tuple(_point_problems(distance_mm, angle_deg, limits, fixed, frame.frame_id)),
    )


def _frame_at(recorded: Recorded, at_s: float) -> Frame:
    first_ns: int | None = None
    for frame in recorded.frames():
        first_ns = frame.stamp_ns if first_ns is None else first_ns
        if frame.stamp_ns - first_ns >= at_s * 1e9:
            return frame
    raise InputError(f"{recorded.topic} has no picture {at_s:g} s after its first")


def _point_problems(
    distance_mm: float, angle_deg: float, limits: CalibrationLimits, fixed: str, camera: str
) -> Iterator[str]:
    near = distance_mm <= limits.max_mm and angle_deg <= limits.max_deg
    if not near:  # so that NaN is not
        yield (
            f"the chain {fixed!r} → {camera!r} puts the point {distance_mm:.1f} mm and "
            f"{angle_deg:.2f}° away from where it is (allowed: {limits.max_mm:g} mm, "
            f"{limits.max_deg:g}°); one point cannot tell a shift from a turn: measure with a "
            "board (--board) to correct it"
        )
