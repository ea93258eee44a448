"""A patch of depth as heights over what things stand on, in a base frame whose z points up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.geometry.camera import Floats, ray_grid
from rynn_brain_ros.geometry.depth import Depth, DepthNoise, DepthView
from rynn_brain_ros.geometry.lifting import LiftLimits
from rynn_brain_ros.geometry.surfaces import Labels, Mask, dominant_plane, label_surfaces
from rynn_brain_ros.geometry.transforms import to_matrix
from rynn_brain_ros.values import Point2, RigidTransform, Vector3

Indices = NDArray[np.int64]

_PATCH_PIXELS = 70_000
"""Larger patches are looked at with a stride."""
_PLANE_SHARE = 0.25
_PLANE_PIXELS = 5000
_NEAR_PX = 3
CLEAR_SIGMAS = 2.5
"""Two heights that differ by less are the same height."""


@dataclass(frozen=True)
class Capsule:
    """Everything within ``radius_m`` of the line from ``a_m`` to ``b_m``: a link of the robot."""

    a_m: Vector3
    b_m: Vector3
    radius_m: float

    @property
    def bounds_m(self) -> tuple[Floats, Floats]:
        """The corners of the box around it, [3] each."""
        low = np.minimum(self.a_m, self.b_m) - self.radius_m
        return low, np.maximum(self.a_m, self.b_m) + self.radius_m

    def touches(self, low_m: Floats, high_m: Floats) -> bool:
        """Whether the box around it and the one from ``low_m`` to ``high_m`` [3] overlap."""
        low, high = self.bounds_m
        return bool((low <= high_m).all() and (high >= low_m).all())

    def holds(self, points_m: Floats) -> Mask:
        """Which of ``points_m`` [..., 3] lie in it."""
        start, along = np.array(self.a_m), np.subtract(self.b_m, self.a_m)
        length2 = float(along @ along)
        share = np.clip((points_m - start) @ along / max(length2, 1e-12), 0.0, 1.0)
        away = points_m - start - share[..., None] * along
        return np.asarray((away**2).sum(axis=-1) <= self.radius_m**2)


@dataclass(frozen=True, eq=False)
class Patch:
    """Depth around a pixel, thinned by ``stride``, [h, w] with its pixel (0, 0) at (left, top).

    ``points_m`` [h, w, 3] are in the base frame, NaN where not ``valid``. ``rays`` [h, w, 3] are
    the pixels' rays in base axes, of depth 1, from ``eye_m`` [3]. ``pitch_px`` is the focal
    length over the stride; ``sigma_m`` the noise of one pixel's depth.
    """

    left: int
    top: int
    stride: int
    depth_m: Depth = field(repr=False)
    points_m: Floats = field(repr=False)
    valid: Mask = field(repr=False)
    rays: Floats = field(repr=False)
    eye_m: Floats
    pitch_px: float
    sigma_m: float
    noise: DepthNoise

    def at(self, uv: Point2) -> tuple[int, int]:
        """Row and column nearest to a pixel of the image."""
        height, width = self.valid.shape
        row, column = (uv[1] - self.top) / self.stride, (uv[0] - self.left) / self.stride
        return min(max(round(row), 0), height - 1), min(max(round(column), 0), width - 1)

    def inside(self, bounds_px: tuple[float, float, float, float], margin_px: float) -> Mask:
        """Which pixels lie in a box of the image (u_min, v_min, u_max, v_max), grown."""
        u0, v0, u1, v1 = bounds_px
        u = self.left + self.stride * np.arange(self.valid.shape[1])
        v = (self.top + self.stride * np.arange(self.valid.shape[0]))[:, None]
        across = (u >= u0 - margin_px) & (u <= u1 + margin_px)
        return np.asarray(across & (v >= v0 - margin_px) & (v <= v1 + margin_px))

    def at_height(self, rows: Indices, columns: Indices, z_m: float) -> Floats:
        """Where the rays of pixels meet the level ``z_m``, (x, y) [N, 2]: free of depth noise."""
        rays = self.rays[rows, columns]
        reach = (z_m - self.eye_m[2]) / rays[:, 2]
        return np.asarray(self.eye_m[:2] + reach[:, None] * rays[:, :2], np.float64)

    def surfaces(self, mask: Mask) -> Labels:
        """Labels [h, w] of what hangs together in the mask, 0 outside."""
        return label_surfaces(self.depth_m, mask, self.pitch_px, self.noise)[0]

    @property
    def slope(self) -> tuple[float, Floats]:
        """How steeply the camera looks down here: the sine, and the way back to it [2]."""
        ray = self.rays[self.rays.shape[0] // 2, self.rays.shape[1] // 2]
        level = float(np.hypot(ray[0], ray[1]))
        toward = -ray[:2] / max(level, 1e-9)
        return float(np.clip(-ray[2] / np.linalg.norm(ray), 0.05, 1.0)), toward

    def without(self, exclude: Sequence[Capsule]) -> Patch:
        """The same, and what lies in one of the capsules counts as not seen."""
        if not exclude or not self.valid.any():
            return self
        at = np.flatnonzero(self.valid)
        seen = self.points_m.reshape(-1, 3)[at]
        # Axis by axis: NumPy is ten times slower along the long side of [N, 3].
        low = np.array([values.min() for values in seen.T])
        high = np.array([values.max() for values in seen.T])
        near = [capsule for capsule in exclude if capsule.touches(low, high)]
        inside = np.concatenate([np.empty(0, np.int64), *(_held_by(each, seen) for each in near)])
        if not len(inside):
            return self
        valid, points = self.valid.copy(), self.points_m.copy()
        valid.reshape(-1)[at[inside]] = False
        points.reshape(-1, 3)[at[inside]] = np.nan
        return replace(self, valid=valid, points_m=points)

    @property
    def sigma_height_m(self) -> float:
        """Noise of one pixel's height."""
        return self.sigma_m * self.slope[0]


def _held_by(capsule: Capsule, points_m: Floats) -> Indices:
    """Which of ``points_m`` [N, 3] lie in it. Most do not come near: axis after axis is asked of
    those only that are left."""
    low, high = capsule.bounds_m
    left = np.arange(len(points_m))
    for axis in (2, 0, 1):
        values = points_m[left, axis]
        left = left[(values >= low[axis]) & (values <= high[axis])]
    return left[capsule.holds(points_m[left])]


def patch_around(
    uv: Point2,
    z_m: float,
    reach_m: float,
    view: DepthView,
    T_base_camera: RigidTransform,
    *,
    limits: LiftLimits,
    exclude: Sequence[Capsule] = (),
) -> Patch:
    """What is seen within ``reach_m`` of pixel ``uv`` at depth ``z_m``, but for the ``exclude``."""
    camera = view.camera
    across, down = (math.ceil(f * reach_m / z_m) for f in (camera.fx, camera.fy))
    left, top = max(0, round(uv[0]) - across), max(0, round(uv[1]) - down)
    right = min(camera.width, round(uv[0]) + across + 1)
    bottom = min(camera.height, round(uv[1]) + down + 1)
    stride = max(1, math.ceil(math.sqrt((right - left) * (bottom - top) / _PATCH_PIXELS)))
    area = (slice(top, bottom, stride), slice(left, right, stride))
    depth = view.depth_m[area]
    T_matrix = to_matrix(T_base_camera)
    rays = ray_grid(camera)[area] @ T_matrix[:3, :3].T
    seen = (depth >= limits.min_range_m) & (depth <= limits.max_range_m) & np.isfinite(rays[..., 0])
    points = T_matrix[:3, 3] + rays * np.where(seen, depth, np.nan)[..., None].astype(np.float64)
    sigma = float(limits.noise.sigma_m(z_m))
    patch = Patch(
        left, top, stride, depth, points, seen, rays, T_matrix[:3, 3], camera.fx / stride, sigma,
        limits.noise,
    )  # fmt: skip
    return patch.without(exclude)


@dataclass(frozen=True)
class Level:
    """A nearly horizontal plane: z = ``z_m`` + ``slope_x`` · x + ``slope_y`` · y."""

    z_m: float
    slope_x: float
    slope_y: float

    def at(self, x_m: float, y_m: float) -> float:
        return self.z_m + self.slope_x * x_m + self.slope_y * y_m

    def heights(self, points_m: Floats) -> Floats:
        """Of ``points_m`` [..., 3] over it, along z."""
        level = self.z_m + points_m[..., 0] * self.slope_x + points_m[..., 1] * self.slope_y
        return np.asarray(points_m[..., 2] - level, np.float64)

    @property
    def tilt_rad(self) -> float:
        return math.atan(math.hypot(self.slope_x, self.slope_y))


LOWER_M = 0.01
"""What is this much higher than a point may still be its own support: depth is noisy."""


def support_level(
    patch: Patch, anchor_m: Floats, reach_m: float, within: Mask | None = None
) -> Level | None:
    """The plane that most of what lies around and no higher than ``anchor_m`` [3] is on.

    ``within`` [h, w] are the pixels that count. None where no plane holds a quarter of it, or the
    plane is upright.
    """
    thin = math.ceil(math.sqrt(patch.valid.size / _PLANE_PIXELS))
    some = (slice(None, None, thin), slice(None, None, thin))
    away = patch.points_m[some] - anchor_m
    with np.errstate(invalid="ignore"):
        around = (patch.valid if within is None else patch.valid & within)[some] & (
            away[..., 2] <= LOWER_M
        )
        around &= (np.abs(away[..., :2]) <= reach_m).all(axis=-1)
    rays, depth = patch.rays[some][around], patch.depth_m[some][around].astype(np.float64)
    plane = dominant_plane(rays, depth, patch.noise, _PLANE_SHARE)
    if plane is None or abs(plane[2]) < 0.5 * np.linalg.norm(plane):
        return None
    x, y = -plane[:2] / plane[2]
    z = patch.eye_m[2] + 1 / plane[2] - x * patch.eye_m[0] - y * patch.eye_m[1]
    return Level(float(z), float(x), float(y))


def standing(patch: Patch, level: Level, rise_m: float) -> tuple[Floats, Mask]:
    """Heights over the level [h, w], and what stands out of it by more than noise."""
    heights = level.heights(patch.points_m)
    rise = max(rise_m, 3 * patch.sigma_height_m)
    with np.errstate(invalid="ignore"):
        return heights, np.asarray(patch.valid & (heights > rise))


def labels_near(patch: Patch, labels: Labels, uv: Point2) -> list[int]:
    """Labels within a few pixels of ``uv``, the nearest first."""
    row, column = patch.at(uv)
    top, left = max(0, row - _NEAR_PX), max(0, column - _NEAR_PX)
    near = labels[top : row + _NEAR_PX + 1, left : column + _NEAR_PX + 1]
    rows, columns = np.nonzero(near)
    away = (rows + top - row) ** 2 + (columns + left - column) ** 2
    order = near[rows, columns][np.argsort(away, kind="stable")]
    return list(dict.fromkeys(order.tolist()))
