"""From pixels to rays and back: the pinhole camera with ROS's distortion models.

Rays and points are in the camera's optical frame (x right, y down, z forward), pixels have
integer centres. Distortion is OpenCV's, as REP 104 and sensor_msgs/CameraInfo prescribe;
``equidistant`` is OpenCV's fisheye model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from rynn_brain_ros.values import CameraInfo, InputError, Point2, Refusal, RefusalCode

Floats = NDArray[np.float64]

COEFFICIENTS = {
    "plumb_bob": (4, 5),
    "rational_polynomial": (8, 12, 14),
    "equidistant": (4,),
}
"""Distortion models and how many coefficients each may have."""

_FOCAL_PER_SIZE = (0.05, 1000.0)
"""Focal length over the image's longer side: from wider than any fisheye to a telescope."""
_CENTER_PER_SIZE = (-1.0, 2.0)
"""The principal point in image sizes: it leaves the image where a driver crops it."""
_MAX_COEFFICIENT = 1e3

_ROUND_TRIP_PX = 1e-3
_REFINEMENTS = 40
_BESIDE = 1.05
"""So much farther off the axis than the image shows, a lens's formula still holds."""


class IntrinsicsError(InputError):
    """A CameraInfo does not describe a usable camera."""


@dataclass(frozen=True)
class PinholeCamera:
    """Intrinsics of one image stream, in pixels; hashable, so that ray grids can be cached.

    ``distortion`` is empty where the image has none; ``distortion_model`` is a key of
    `COEFFICIENTS`.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, ...] = ()
    distortion_model: str = "plumb_bob"

    def __post_init__(self) -> None:
        if self.width <= 0 or self.height <= 0:
            raise IntrinsicsError(f"the image size is {self.width}×{self.height}")
        values = (self.fx, self.fy, self.cx, self.cy, *self.distortion)
        if not all(map(math.isfinite, values)):
            raise IntrinsicsError(f"the intrinsics hold NaN or infinity: {values}")
        if self.fx <= 0 or self.fy <= 0:
            raise IntrinsicsError(
                f"focal lengths fx={self.fx}, fy={self.fy} are not positive: "
                "the camera is not calibrated"
            )
        self._check_plausible()
        if self.distortion:
            self._check_distortion()

    def _check_plausible(self) -> None:
        """Numbers that no lens has overflow later, far from where they came from."""
        width, height = self.width, self.height
        for name, value, size, limits in (
            ("focal length fx", self.fx, max(width, height), _FOCAL_PER_SIZE),
            ("focal length fy", self.fy, max(width, height), _FOCAL_PER_SIZE),
            ("principal point cx", self.cx, width, _CENTER_PER_SIZE),
            ("principal point cy", self.cy, height, _CENTER_PER_SIZE),
        ):
            low, high = (limit * size for limit in limits)
            if not low <= value <= high:
                raise IntrinsicsError(
                    f"the {name}={value:g} is impossible for an image of {width}×{height}: "
                    f"it must be {low:g} … {high:g} pixels"
                )
        for value in self.distortion:
            if abs(value) >= _MAX_COEFFICIENT:
                raise IntrinsicsError(
                    f"the distortion coefficient {value:g} is impossible: "
                    f"it must be below {_MAX_COEFFICIENT:g}"
                )

    def _check_distortion(self) -> None:
        counts = COEFFICIENTS.get(self.distortion_model)
        if counts is None:
            raise IntrinsicsError(
                f"unknown distortion model '{self.distortion_model}'; "
                f"known are {', '.join(COEFFICIENTS)}"
            )
        if len(self.distortion) not in counts:
            raise IntrinsicsError(
                f"{self.distortion_model} has {' or '.join(map(str, counts))} coefficients, "
                f"not {len(self.distortion)}"
            )

    @classmethod
    def from_info(cls, info: CameraInfo, *, rectified: bool = False) -> PinholeCamera:
        """The camera that made the image which ``info`` accompanies.

        An image as the driver gave it uses K and d; so does what most RGB-D drivers call
        rectified, since they publish K = P and d = 0. ``rectified`` is for image_proc's
        ``image_rect*`` topics: the info beside them still describes the raw image, and the
        rectified pixels obey P without distortion (sensor_msgs/CameraInfo, field P).

        Eight coefficients of ``plumb_bob`` or ``equidistant`` are read as `_in_their_order` says.

        Raises `IntrinsicsError` for a matrix that is zero, NaN, skewed or of no real lens, a size
        of 0, and distortion that is unknown, incomplete or absurdly large.
        """
        matrix: tuple[float, ...] = info.k
        model, distortion = _in_their_order(info.distortion_model, info.d)
        if rectified:
            matrix, distortion = (*info.p[0:3], *info.p[4:7], *info.p[8:11]), ()
        if len(matrix) != 9:
            name, want = ("P", 12) if rectified else ("K", 9)
            raise IntrinsicsError(f"{name} does not have {want} values")
        fx, skew, cx, k10, fy, cy, *last_row = matrix
        camera = cls(info.width, info.height, fx, fy, cx, cy, distortion, model)
        if skew != 0 or k10 != 0 or last_row != [0, 0, 1]:
            raise IntrinsicsError(f"{matrix} is not a pinhole matrix without skew")
        return camera

    @property
    def matrix(self) -> Floats:
        """K, [3, 3]."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], np.float64)

    @property
    def quantum_px(self) -> Point2:
        """Width in pixels of one step of a normalized 0…1000 coordinate, (u, v)."""
        return ((self.width - 1) / 1000, (self.height - 1) / 1000)

    def contains(self, u: float, v: float) -> bool:
        """Whether (u, v) lies on a pixel's area; false for NaN."""
        return -0.5 <= u <= self.width - 0.5 and -0.5 <= v <= self.height - 0.5

    def pixel_to_ray(self, uv: ArrayLike) -> Floats:
        """Rays [N, 3] with z = 1 through the pixels ``uv`` [N, 2].

        NaN where the distortion model cannot be inverted: outside its valid disc, or 90° and
        more off the axis.
        """
        pixels = np.asarray(uv, np.float64).reshape(-1, 2)
        ideal: Floats = (pixels - (self.cx, self.cy)) / (self.fx, self.fy)
        if self.distortion and len(pixels):
            ideal = self._undistort(pixels, ideal)
        return np.column_stack([ideal, np.ones(len(ideal))])

    @np.errstate(over="ignore", invalid="ignore")  # what diverges is NaN in the end
    def _undistort(self, pixels: Floats, ideal: Floats) -> Floats:
        """Fixed-point inversion of `project`: OpenCV's own stops after a fixed few steps."""
        fisheye = self.distortion_model == "equidistant"
        invert = cv2.fisheye.undistortPoints if fisheye else cv2.undistortPoints
        guess = invert(pixels[:, None], self.matrix, np.array(self.distortion)).reshape(-1, 2)
        # OpenCV marks a failed point with -1e6; start again from the undistorted pixel.
        ideal = np.asarray(np.where(np.abs(guess) < 1e3, guess, ideal), np.float64)
        pending = np.arange(len(pixels))
        for _ in range(_REFINEMENTS):
            at = ideal[pending]
            error = self._project_ideal(at) - pixels[pending]
            off = ~(np.abs(error).max(axis=1) < _ROUND_TRIP_PX / 10)
            if not off.any():
                break
            pending, at, error = pending[off], at[off], error[off]
            # A fisheye squeezes its rim, so a pixel there is a longer step.
            stretch = 1 + np.sum(at**2, axis=1, keepdims=True) if fisheye else 1.0
            ideal[pending] = at - stretch * error / (self.fx, self.fy)
        error = np.abs(self._project_ideal(ideal) - pixels).max(axis=1)
        return np.where((error < _ROUND_TRIP_PX)[:, None], ideal, np.nan)

    def project(self, points: ArrayLike) -> Floats:
        """Pixels [N, 2] of ``points`` [N, 3] in the optical frame; NaN at and behind z = 0, and
        where a lens with distortion sees nothing: farther off the axis than all of the image.

        A pixel a little outside the image is returned as it is.
        """
        ideal = _ideal(points)
        if self.distortion and len(ideal):
            ideal[np.hypot(*ideal.T) > _widest(self)] = np.nan
        return self._project_ideal(ideal)

    def project_unlimited(self, points: ArrayLike) -> Floats:
        """As `project`, but by the lens's formula alone: smooth, for fits that begin beside the
        image. It folds what is far off the axis back into the image: never ask it what is seen."""
        return self._project_ideal(_ideal(points))

    def _project_ideal(self, ideal: Floats) -> Floats:
        if not self.distortion or not len(ideal):
            return ideal * (self.fx, self.fy) + (self.cx, self.cy)
        zero, coefficients = np.zeros(3), np.array(self.distortion)
        if self.distortion_model == "equidistant":
            pixels, _ = cv2.fisheye.projectPoints(
                np.column_stack([ideal, np.ones(len(ideal))])[:, None],
                zero, zero, self.matrix, coefficients,
            )  # fmt: skip
        else:
            pixels, _ = cv2.projectPoints(
                np.column_stack([ideal, np.ones(len(ideal))]), zero, zero, self.matrix, coefficients
            )
        return np.asarray(pixels, np.float64).reshape(-1, 2)


def _in_their_order(model: str, d: tuple[float, ...]) -> tuple[str, tuple[float, ...]]:
    """The model and its coefficients, none where all are 0.

    Orbbec's driver always writes k1 k2 p1 p2 k3 k4 k5 k6. As ``plumb_bob`` that is
    ``rational_polynomial``, which adds k4 to k6 to it; an ``equidistant`` lens has k1 to k4 alone.
    """
    if not any(d):
        return model, ()
    if len(d) == 8 and model == "plumb_bob":
        return "rational_polynomial", d
    if len(d) == 8 and model == "equidistant" and not any((*d[2:4], *d[6:8])):
        return model, (*d[0:2], *d[4:6])
    return model, d


def _ideal(points: ArrayLike) -> Floats:
    """(x/z, y/z) [N, 2] of ``points`` [N, 3]; NaN at and behind z = 0."""
    xyz = np.asarray(points, np.float64).reshape(-1, 3)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(xyz[:, 2:] > 0, xyz[:, :2] / xyz[:, 2:], np.nan)


@lru_cache(maxsize=16)
def _widest(camera: PinholeCamera) -> float:
    """The largest tan(angle off the axis) that belongs to the image, and a little beyond it.

    A lens bends outwards or inwards, but in order, as far as its image reaches: so the image's
    border shows it. Where the border has no rays, as a fisheye's, all pixels are asked.
    """
    u, v = np.arange(camera.width + 1) - 0.5, np.arange(camera.height + 1) - 0.5
    rows = [np.column_stack([u, np.full(len(u), edge)]) for edge in (v[0], v[-1])]
    columns = [np.column_stack([np.full(len(v), edge), v]) for edge in (u[0], u[-1])]
    rays = camera.pixel_to_ray(np.concatenate([*rows, *columns]))
    if not np.isfinite(rays).all():
        rays = ray_grid(camera).reshape(-1, 3)
    tangents = np.hypot(rays[:, 0], rays[:, 1])
    known = np.isfinite(tangents)
    angle = _BESIDE * math.atan(float(tangents.max(initial=0.0, where=known)))
    return math.tan(angle) if angle < math.pi / 2 else math.inf


def camera_or_refusal(
    info: CameraInfo | None, *, rectified: bool = False
) -> PinholeCamera | Refusal:
    """`PinholeCamera.from_info` for those who pass a "no" on instead of raising."""
    if info is None:
        return Refusal(RefusalCode.NO_INTRINSICS, "no camera_info has arrived for this frame")
    try:
        return PinholeCamera.from_info(info, rectified=rectified)
    except IntrinsicsError as error:
        where = f" of '{info.frame_id}'" if info.frame_id else ""
        return Refusal(RefusalCode.NO_INTRINSICS, f"camera_info{where}: {error}")


@lru_cache(maxsize=4)
def ray_grid(camera: PinholeCamera) -> Floats:
    """The ray of every pixel, [H, W, 3], read-only; kept for the last few cameras."""
    grid = np.ones((camera.height, camera.width, 3))
    if camera.distortion:
        v, u = np.mgrid[0 : camera.height, 0 : camera.width]
        rays = camera.pixel_to_ray(np.column_stack([u.ravel(), v.ravel()]))
        grid[...] = rays.reshape(grid.shape)
    else:  # each column has one x, each row one y
        grid[..., 0] = (np.arange(camera.width) - camera.cx) / camera.fx
        grid[..., 1] = ((np.arange(camera.height) - camera.cy) / camera.fy)[:, None]
    grid.flags.writeable = False
    return grid


def norm_to_pixel(points: Iterable[Point2], width: int, height: int) -> tuple[Point2, ...]:
    """0…1000 to pixels: 1000 is the centre of the last column or row. Nothing is clamped."""
    return tuple((x / 1000 * (width - 1), y / 1000 * (height - 1)) for x, y in points)


def pixel_to_norm(points: Iterable[Point2], width: int, height: int) -> tuple[Point2, ...]:
    """The inverse of `norm_to_pixel`, not rounded. A side of one pixel maps to 0."""
    return tuple((u / max(width - 1, 1) * 1000, v / max(height - 1, 1) * 1000) for u, v in points)
