"""From pixels to metres: points, boxes, trajectories and areas lifted on segments of depth.

A point's depth is never one pixel's. The surface that the point lies on is found first, then a
robust plane through its neighbourhood is intersected with the point's ray. Where it is not clear
which surface is meant, the answer is a `Refusal` that names the reason.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.geometry.camera import Floats, PinholeCamera, ray_grid
from rynn_brain_ros.geometry.depth import Depth, DepthNoise, DepthView
from rynn_brain_ros.geometry.surfaces import (
    Labels,
    LocalPlane,
    Mask,
    dominant_plane,
    fit_local_plane,
    label_surfaces,
    link_limit_m,
    plane_height_m,
    valid_depth,
)
from rynn_brain_ros.geometry.transforms import apply, rotate_covariance
from rynn_brain_ros.values import (
    LiftedPoint,
    Matrix3,
    Point2,
    Refusal,
    RefusalCode,
    RigidTransform,
    Vector3,
)

Bounds = tuple[float, float, float, float]


@dataclass(frozen=True)
class LiftLimits:
    """What lifting may assume and what it must refuse. Pixels are those of a 640 wide image.

    ``min_range_m`` … ``max_range_m`` is where the sensor is trusted. ``window_px`` and ``fit_px``
    are the radii in which surfaces are told apart and in which the plane is fitted.
    ``min_valid`` pixels make a surface. ``min_share`` of the depth around the point must agree
    on one surface, else it is an edge. ``sigma_px`` is the camera's own error (calibration,
    registration), if known; the rounding of coordinates to 0…1000 is always added. ``rise_m`` is
    how far a thing must stand out of its surroundings to be separated from them.
    """

    min_range_m: float = 0.15
    max_range_m: float = 6.0
    window_px: float = 10.0
    fit_px: float = 5.0
    min_valid: int = 12
    min_share: float = 0.8
    sigma_px: float = 0.0
    rise_m: float = 0.005
    noise: DepthNoise = field(default_factory=DepthNoise)


@dataclass(frozen=True, eq=False)
class Segment:
    """The visible surface of one thing.

    ``points_m`` [N, 3] in the colour camera's optical frame, ``pixels`` [N, 2] their (u, v).
    """

    points_m: Floats = field(repr=False)
    pixels: NDArray[np.int64] = field(repr=False)

    @property
    def bounds_px(self) -> tuple[int, int, int, int]:
        """(u_min, v_min, u_max, v_max), inclusive."""
        (u0, v0), (u1, v1) = self.pixels.min(axis=0), self.pixels.max(axis=0)
        return (int(u0), int(v0), int(u1), int(v1))


@dataclass(frozen=True)
class LiftedArea:
    """An area's points in their order, each lifted or refused, and the one to act on."""

    target: LiftedPoint
    points: tuple[LiftedPoint | Refusal, ...]


# --- a point -------------------------------------------------------------------------------------


def lift_point(
    uv: Point2, view: DepthView, limits: LiftLimits = LiftLimits()
) -> LiftedPoint | Refusal:
    """The surface point seen at pixel ``uv``, in the camera's optical frame.

    Refuses with OUT_OF_RANGE (outside the image), DEPTH_SIZE, NO_DEPTH, TOO_FEW_VALID,
    DEPTH_EDGE, DEPTH_OUT_OF_RANGE, or NO_INTRINSICS where the lens model has no ray for ``uv``.
    A hole in the depth is filled when one surface surrounds it.
    """
    refusal = view.size_refusal or _outside(uv, view.camera)
    if refusal is not None:
        return refusal
    window = _Window.around(uv, view, limits)
    found = _surface_at(window, limits)
    if isinstance(found, Refusal):
        return found
    label, hole_px = found
    return _lift_on(window, window.labels == label, hole_px, view.camera, limits)


def lift_points(
    points_px: Sequence[Point2], view: DepthView, limits: LiftLimits = LiftLimits()
) -> tuple[LiftedPoint | Refusal, ...]:
    """`lift_point` for each, in order."""
    return tuple(lift_point(uv, view, limits) for uv in points_px)


def _refuse(code: RefusalCode, uv: Point2, text: str) -> Refusal:
    return Refusal(code, f"pixel ({uv[0]:.1f}, {uv[1]:.1f}): {text}")


def _outside(uv: Point2, camera: PinholeCamera) -> Refusal | None:
    if camera.contains(*uv):
        return None
    size = f"{camera.width}×{camera.height}"
    return _refuse(RefusalCode.OUT_OF_RANGE, uv, f"outside the image of {size}")


def _scale(camera: PinholeCamera) -> float:
    return max(1.0, camera.width / 640)


@dataclass(frozen=True, eq=False)
class _Window:
    """A patch of depth around a pixel: offsets to it in pixels, depth, and surface labels."""

    uv: Point2
    du: Floats
    dv: Floats
    distance: Floats
    z: Depth
    labels: Labels
    sizes: NDArray[np.int64]
    scale: float

    @classmethod
    def around(cls, uv: Point2, view: DepthView, limits: LiftLimits) -> _Window:
        scale = _scale(view.camera)
        radius = math.ceil(limits.window_px * scale)
        column, row = round(uv[0]), round(uv[1])
        top, left = max(0, row - radius), max(0, column - radius)
        z = view.depth_m[top : row + radius + 1, left : column + radius + 1]
        du = np.arange(left, left + z.shape[1]) - uv[0]
        dv = (np.arange(top, top + z.shape[0]) - uv[1])[:, None]
        labels, sizes = label_surfaces(z, valid_depth(z), view.camera.fx, limits.noise)
        return cls(uv, du, dv, np.hypot(du, dv), z, labels, sizes, scale)


def _surface_at(window: _Window, limits: LiftLimits) -> tuple[int, float] | Refusal:
    """The label of the surface at the window's centre, and how far it is away if in a hole."""
    if not window.sizes.any():
        return _refuse(RefusalCode.NO_DEPTH, window.uv, "no valid depth around it")
    known = (window.sizes >= limits.min_valid)[window.labels]
    if not known.any():
        text = f"no surface of {limits.min_valid} valid depth pixels around it"
        return _refuse(RefusalCode.TOO_FEW_VALID, window.uv, text)
    near = known & (window.distance <= 1.5 * window.scale)
    if near.any():
        return _surface_by_vote(window, near, limits)
    return _surface_around_hole(window, known)


def _surface_by_vote(
    window: _Window, near: Mask, limits: LiftLimits
) -> tuple[int, float] | Refusal:
    weights = _closeness(window.distance[near], window.scale)
    labels, z = window.labels[near], window.z[near]
    votes = np.bincount(labels, weights=weights)
    best = int(votes.argmax())
    if votes[best] >= limits.min_share * votes.sum():
        return best, 0.0
    depths = sorted(float(np.median(z[labels == label])) for label in np.unique(labels))
    text = f"on an edge between surfaces at {depths[0]:.3f} m and {depths[-1]:.3f} m"
    return _refuse(RefusalCode.DEPTH_EDGE, window.uv, text)


_SECTORS = 8


def _surface_around_hole(window: _Window, known: Mask) -> tuple[int, float] | Refusal:
    """One surface must be the nearest one in three quarters of all directions."""
    distance, labels = window.distance[known], window.labels[known]
    angle = np.broadcast_to(np.arctan2(window.dv, window.du), known.shape)[known]
    sector = ((angle / math.tau + 0.5) * _SECTORS).astype(int) % _SECTORS
    order = np.argsort(distance, kind="stable")
    _, first = np.unique(sector[order], return_index=True)
    votes = np.bincount(labels[order][first])
    best = int(votes.argmax())
    hole_px = float(distance[labels == best].min())
    if 4 * votes[best] >= 3 * _SECTORS:
        return best, hole_px
    if np.count_nonzero(votes) > 1:
        text = "in a hole of the depth image between two surfaces"
        return _refuse(RefusalCode.DEPTH_EDGE, window.uv, text)
    if hole_px <= 3 * window.scale:
        return best, hole_px
    text = f"in a hole of the depth image, {hole_px:.0f} px beside the nearest surface"
    return _refuse(RefusalCode.NO_DEPTH, window.uv, text)


_HOLE_BULGE = 0.15
"""How far a surface may bulge inside a hole, per distance to the hole's rim."""


def _lift_on(
    window: _Window, surface: Mask, hole_px: float, camera: PinholeCamera, limits: LiftLimits
) -> LiftedPoint | Refusal:
    uv = window.uv
    patch = surface & (window.distance <= limits.fit_px * window.scale)
    if hole_px > 0 or patch.sum() < limits.min_valid:
        patch = surface
    rows, columns = np.nonzero(patch)
    z_patch = window.z[patch].astype(np.float64)
    plane = fit_local_plane(
        window.du[columns], window.dv[rows, 0], z_patch, camera.fx, limits.noise
    )
    low, high = float(z_patch.min()), float(z_patch.max())
    slack = float(link_limit_m(np.float32(high), camera.fx, limits.noise)) * (1 + hole_px)
    if plane.inverse <= 0 or not low - slack <= 1 / plane.inverse <= high + slack:
        text = f"the surface at {low:.3f} … {high:.3f} m is too steep to be met there"
        return _refuse(RefusalCode.DEPTH_EDGE, uv, text)
    z = 1 / plane.inverse
    if hole_px == 0 and not _agrees(window, plane, camera, limits):
        text = f"beside a step in the surface at {z:.3f} m"
        return _refuse(RefusalCode.DEPTH_EDGE, uv, text)
    if not limits.min_range_m <= z <= limits.max_range_m:
        text = f"depth {z:.3f} m is outside {limits.min_range_m} … {limits.max_range_m} m"
        return _refuse(RefusalCode.DEPTH_OUT_OF_RANGE, uv, text)
    rays = camera.pixel_to_ray([uv, (uv[0] + 1, uv[1]), (uv[0], uv[1] + 1)])
    if not np.isfinite(rays).all():
        return _refuse(RefusalCode.NO_INTRINSICS, uv, "the distortion model has no ray there")
    bulge_m = _HOLE_BULGE * hole_px * z / camera.fx
    variance_z = z**4 * plane.variance + bulge_m**2
    slopes = (plane.slope_u, plane.slope_v)
    covariance = _point_covariance(rays, z, slopes, variance_z, _pixel_variance(camera, limits))
    return LiftedPoint(uv, _vector(rays[0] * z), covariance, n_valid=plane.n_inliers)


def _agrees(window: _Window, plane: LocalPlane, camera: PinholeCamera, limits: LiftLimits) -> bool:
    """Whether the plane holds at the pixels next to the point, one stray pixel aside.

    Here show the steps that labels do not: a face seen so flatly that it fell into single
    pixels, and two surfaces that touch elsewhere in the window.
    """
    rows, columns = np.nonzero((window.labels > 0) & (window.distance <= 1.5 * window.scale))
    du, dv = window.du[columns], window.dv[rows, 0]
    z = window.z[rows, columns]
    off = z * np.abs(z * (plane.inverse + plane.slope_u * du + plane.slope_v * dv) - 1)
    strays = off >= link_limit_m(z, camera.fx, limits.noise)
    if strays.sum() < 2:
        return True
    weights = _closeness(window.distance[rows, columns], window.scale)
    return bool(weights[~strays].sum() >= limits.min_share * weights.sum())


def _closeness(distance_px: Floats, scale: float) -> Floats:
    """Weights of pixels beside a point: the spread covers its rounding and ragged edges."""
    return np.asarray(np.exp(-0.5 * (distance_px / (0.75 * scale)) ** 2), np.float64)


def _pixel_variance(camera: PinholeCamera, limits: LiftLimits) -> Point2:
    """Of u and v, px²: the rounding to 0…1000 and the camera's own error."""
    own = limits.sigma_px**2
    step_u, step_v = camera.quantum_px
    return (step_u**2 / 12 + own, step_v**2 / 12 + own)


def _point_covariance(
    rays: Floats, z: float, slopes: Point2, variance_z: float, variance_px: Point2
) -> Matrix3:
    """A pixel's error moves the point along the surface, the depth's along its ray [3, 3].

    ``rays`` [3, 3] are those of the pixel and of its right and lower neighbour.
    """
    ray = rays[0]
    covariance = variance_z * np.outer(ray, ray)
    for neighbour, slope, variance in zip(rays[1:], slopes, variance_px, strict=True):
        along = z * (neighbour - ray) - ray * z**2 * slope
        covariance += variance * np.outer(along, along)
    return _matrix(covariance)


def _vector(values: Floats) -> Vector3:
    x, y, z = map(float, values)
    return (x, y, z)


def _matrix(values: Floats) -> Matrix3:
    a, b, c, d, e, f, g, h, i = map(float, values.ravel())
    return (a, b, c, d, e, f, g, h, i)


# --- a box, and the segment behind it -----------------------------------------------------------

_CROP_PIXELS = 90_000
"""Larger boxes are looked at with a stride: surfaces do not need more."""
_MIN_KNOWN = 0.5
"""Of a box's middle, as a share, where nothing stands out: a flat thing has depth, a glass none."""


@dataclass(frozen=True, eq=False)
class _Crop:
    """A box and its surroundings, thinned by ``stride``; surfaces are labelled inside the box.

    ``stands_out`` tells whether they are only those that stand out of the surroundings.
    """

    left: int
    top: int
    stride: int
    z: Depth
    labels: Labels
    sizes: NDArray[np.int64]
    stands_out: bool

    def pixels(self, mask: Mask) -> NDArray[np.int64]:
        rows, columns = np.nonzero(mask)
        return np.column_stack([columns, rows]) * self.stride + (self.left, self.top)


def _crop(bounds_px: Bounds, core_px: Bounds, view: DepthView, limits: LiftLimits) -> _Crop:
    """Surfaces in the box that stand out of the planes around it (table, wall).

    All of its surfaces where hardly anything in the core stands out: a sheet, or the table itself.
    """
    u0, v0, u1, v1 = bounds_px
    margin = max(8.0, 0.25 * max(u1 - u0, v1 - v0))
    left, top = max(0, math.floor(u0 - margin)), max(0, math.floor(v0 - margin))
    right, bottom = math.ceil(u1 + margin) + 1, math.ceil(v1 + margin) + 1
    stride = max(1, math.ceil(math.sqrt((right - left) * (bottom - top) / _CROP_PIXELS)))
    area = (slice(top, bottom, stride), slice(left, right, stride))
    z, rays = view.depth_m[area], ray_grid(view.camera)[area]
    valid = valid_depth(z) & np.isfinite(rays[..., 0])
    u, v = left + stride * np.arange(z.shape[1]), top + stride * np.arange(z.shape[0])[:, None]
    inside, core = (
        valid & (u >= box[0]) & (u <= box[2]) & (v >= box[1]) & (v <= box[3])
        for box in (bounds_px, core_px)
    )
    standing = inside & _stands_out(rays, z, valid, inside, limits)
    stands_out = bool((standing & core).sum() >= 0.15 * core.sum())
    shown = standing if stands_out else inside
    labels, sizes = label_surfaces(z, shown, view.camera.fx / stride, limits.noise)
    return _Crop(left, top, stride, z, labels, sizes, stands_out)


def _stands_out(rays: Floats, z: Depth, valid: Mask, inside: Mask, limits: LiftLimits) -> Mask:
    """What is nearer than the (up to two) planes that the box's surroundings consist of."""
    points = (rays * z[..., None]).reshape(-1, 3)
    around = (valid & ~inside).ravel()
    n_around, standing = int(around.sum()), np.ones(z.size, bool)
    for _ in range(2):
        share = 0.25 * n_around / max(1, around.sum())
        plane = dominant_plane(rays.reshape(-1, 3)[around], points[around, 2], limits.noise, share)
        if plane is None:
            break
        height = plane_height_m(plane[None], points)[0]
        tilt = abs(plane[2]) / float(np.linalg.norm(plane))
        noise_m = 3 * float(limits.noise.sigma_m(np.median(points[around, 2]))) * tilt
        rise = max(limits.rise_m, noise_m)
        standing &= height > rise
        around &= np.abs(height) > rise
    return standing.reshape(z.shape)


def _center_weights(bounds_px: Bounds, crop: _Crop) -> Floats:
    """A bell over the box, whose corners are mostly background; 0 outside of it."""
    u0, v0, u1, v1 = bounds_px
    u = crop.left + crop.stride * np.arange(crop.z.shape[1])
    v = crop.top + crop.stride * np.arange(crop.z.shape[0])[:, None]
    du = (u - (u0 + u1) / 2) / max(1.0, 0.3 * (u1 - u0))
    dv = (v - (v0 + v1) / 2) / max(1.0, 0.3 * (v1 - v0))
    inside = (u >= u0) & (u <= u1) & (v >= v0) & (v <= v1)
    return np.asarray(np.exp(-0.5 * (du**2 + dv**2)) * inside, np.float64)


def _foreground(bounds_px: Bounds, crop: _Crop) -> int:
    """The nearest of the surfaces that cover the box's middle about equally well."""
    weights = _center_weights(bounds_px, crop)
    cover = np.bincount(crop.labels.ravel(), weights=weights.ravel(), minlength=len(crop.sizes))
    cover[0] = 0
    rivals = np.flatnonzero(cover >= 0.5 * cover.max())
    return int(min(rivals, key=lambda label: float(np.median(crop.z[crop.labels == label]))))


def lift_box(
    bounds_px: Bounds, view: DepthView, limits: LiftLimits = LiftLimits()
) -> tuple[LiftedPoint, Segment] | Refusal:
    """The middle of the visible surface of the thing in a box, and that surface.

    ``bounds_px`` is (u_min, v_min, u_max, v_max). The middle is a point *on* the surface, also
    where the thing has a hole. A box thinner than a pixel is grown to one around its middle.
    Refuses as `lift_point` does.
    """
    corners = ((bounds_px[0], bounds_px[1]), (bounds_px[2], bounds_px[3]))
    refusal = view.size_refusal or _outside(corners[0], view.camera)
    refusal = refusal or _outside(corners[1], view.camera)
    if refusal is not None:
        return refusal
    if bounds_px[2] <= bounds_px[0] or bounds_px[3] <= bounds_px[1]:
        return _refuse(RefusalCode.INCOMPLETE, corners[0], f"the box {bounds_px} has no area")
    bounds_px = _at_least_a_pixel(bounds_px)
    crop = _crop(bounds_px, bounds_px, view, limits)
    refusal = _too_little(crop, corners[0], limits) or _unseen(bounds_px, crop)
    if refusal is not None:
        return refusal
    mask = crop.labels == _foreground(bounds_px, crop)
    return _lift_segment(crop, mask, _middle(crop, mask), view, limits)


def _at_least_a_pixel(bounds_px: Bounds) -> Bounds:
    """Between two pixel centres lies no depth: one pixel wide, a box always holds a centre."""
    u0, v0, u1, v1 = bounds_px
    du, dv = max(0.0, 1 - (u1 - u0)) / 2, max(0.0, 1 - (v1 - v0)) / 2
    return (u0 - du, v0 - dv, u1 + du, v1 + dv)


def _too_little(crop: _Crop, uv: Point2, limits: LiftLimits) -> Refusal | None:
    most = int(crop.sizes.max())
    if most == 0:
        return _refuse(RefusalCode.NO_DEPTH, uv, "no valid depth in the box")
    if most * crop.stride**2 < limits.min_valid:
        return _refuse(RefusalCode.TOO_FEW_VALID, uv, f"no surface of {limits.min_valid} pixels")
    return None


def _unseen(bounds_px: Bounds, crop: _Crop) -> Refusal | None:
    """Where the thing has no depth (glass, chrome, black), what is known is the table beside it."""
    weights = _center_weights(bounds_px, crop)
    if crop.stands_out or weights[crop.labels > 0].sum() >= _MIN_KNOWN * weights.sum():
        return None
    middle = ((bounds_px[0] + bounds_px[2]) / 2, (bounds_px[1] + bounds_px[3]) / 2)
    text = "the middle of the box has no depth, and nothing in it stands out of its surroundings"
    return _refuse(RefusalCode.NO_DEPTH, middle, text)


def _middle(crop: _Crop, mask: Mask) -> Point2:
    """The surface's pixel nearest to its middle, off the rim where depth is mixed."""
    inner = cv2.erode(mask.astype(np.uint8), np.ones((5, 5), np.uint8), borderValue=0) > 0
    if 4 * inner.sum() < mask.sum():
        inner = mask
    pixels = crop.pixels(inner)
    away = pixels - np.median(crop.pixels(mask), axis=0)
    u, v = pixels[int(np.argmin((away**2).sum(axis=1)))]
    return (float(u), float(v))


def _lift_segment(
    crop: _Crop, mask: Mask, uv: Point2, view: DepthView, limits: LiftLimits
) -> tuple[LiftedPoint, Segment] | Refusal:
    window = _Window.around(uv, view, limits)
    surface = _on_segment(window, crop, mask, limits)
    lifted = _lift_on(window, surface, 0.0, view.camera, limits)
    if isinstance(lifted, Refusal):
        return lifted
    pixels = crop.pixels(mask)
    rays = ray_grid(view.camera)[pixels[:, 1], pixels[:, 0]]
    return lifted, Segment(rays * crop.z[mask][:, None].astype(np.float64), pixels)


def _on_segment(window: _Window, crop: _Crop, mask: Mask, limits: LiftLimits) -> Mask:
    """The window's pixels that belong to the segment; it was labelled with a stride."""
    rows = (np.rint(window.dv[:, 0] + window.uv[1]).astype(int) - crop.top) // crop.stride
    columns = (np.rint(window.du + window.uv[0]).astype(int) - crop.left) // crop.stride
    rows = np.clip(rows, 0, mask.shape[0] - 1)
    columns = np.clip(columns, 0, mask.shape[1] - 1)
    valid = valid_depth(window.z)
    surface = mask[np.ix_(rows, columns)] & valid
    return surface if surface.sum() >= limits.min_valid else valid


def segment_at(
    uv: Point2, view: DepthView, limits: LiftLimits = LiftLimits(), reach_m: float = 0.15
) -> tuple[LiftedPoint, Segment] | Refusal:
    """The point at ``uv``, and the surface of the thing it lies on within ``reach_m`` of it.

    The thing is what stands out of the plane around it (the cube, not the table); on the plane
    itself it is the plane. Refuses as `lift_point` does.
    """
    lifted = lift_point(uv, view, limits)
    if isinstance(lifted, Refusal):
        return lifted
    camera, z = view.camera, lifted.point_camera_m[2]
    across, down = camera.fx * reach_m / z, camera.fy * reach_m / z
    bounds = (
        max(0.0, uv[0] - across),
        max(0.0, uv[1] - down),
        min(camera.width - 1.0, uv[0] + across),
        min(camera.height - 1.0, uv[1] + down),
    )
    near = 2 * _scale(camera)
    core = (uv[0] - near, uv[1] - near, uv[0] + near, uv[1] + near)
    crop = _crop(bounds, core, view, limits)
    known = (crop.sizes * crop.stride**2 >= limits.min_valid)[crop.labels]
    if not known.any():
        return _refuse(RefusalCode.TOO_FEW_VALID, uv, "no surface around the point")
    pixels = crop.pixels(known)
    nearest = int(np.argmin(((pixels - uv) ** 2).sum(axis=1)))
    mask = crop.labels == crop.labels[known][nearest]
    pixels = crop.pixels(mask)
    points = ray_grid(camera)[pixels[:, 1], pixels[:, 0]] * crop.z[mask][:, None]
    reached = np.linalg.norm(points - lifted.point_camera_m, axis=1) <= reach_m
    return lifted, Segment(points[reached], pixels[reached])


# --- trajectories and areas ----------------------------------------------------------------------

_BOW = 0.25
"""How far a motion may leave the straight line between its anchors, per length of that line."""


def lift_trajectory(
    points_px: Sequence[Point2], view: DepthView, limits: LiftLimits = LiftLimits()
) -> tuple[LiftedPoint, ...] | Refusal:
    """Waypoints anchored on the surfaces at both ends; those between are in mid-air.

    A mid-air pixel shows the background, so its depth is drawn between the anchors: inverse depth
    linear along the path in the image, which is a straight line in space for a straight path.
    Such points are ``interpolated``, with a variance that grows to the middle. Refuses when an
    anchor cannot be lifted, a point lies outside the image or the lens model has no ray for it.
    """
    if not points_px:
        return Refusal(RefusalCode.INCOMPLETE, "the trajectory has no points")
    for uv in points_px:
        refusal = _outside(uv, view.camera)
        if refusal is not None:
            return refusal
    start = lift_point(points_px[0], view, limits)
    end = lift_point(points_px[-1], view, limits)
    if isinstance(start, Refusal):
        return Refusal(start.code, f"the trajectory's start: {start.text}")
    if isinstance(end, Refusal):
        return Refusal(end.code, f"the trajectory's end: {end.text}")
    if len(points_px) == 1:
        return (start,)
    steps = np.hypot(*np.diff(np.array(points_px, np.float64), axis=0).T)
    path = np.cumsum(steps) / max(float(steps.sum()), 1e-9)
    between: list[LiftedPoint] = []
    for uv, fraction in zip(points_px[1:-1], path[:-1], strict=True):
        point = _mid_air(uv, float(fraction), (start, end), view.camera, limits)
        if isinstance(point, Refusal):
            return point
        between.append(point)
    return (start, *between, end)


def _mid_air(
    uv: Point2,
    fraction: float,
    anchors: tuple[LiftedPoint, LiftedPoint],
    camera: PinholeCamera,
    limits: LiftLimits,
) -> LiftedPoint | Refusal:
    rays = camera.pixel_to_ray([uv, (uv[0] + 1, uv[1]), (uv[0], uv[1] + 1)])
    if not np.isfinite(rays).all():
        return _refuse(RefusalCode.NO_INTRINSICS, uv, "the distortion model has no ray there")
    start, end = anchors
    z_start, z_end = start.point_camera_m[2], end.point_camera_m[2]
    z = 1 / ((1 - fraction) / z_start + fraction / z_end)
    bow_m = _BOW * math.dist(start.point_camera_m, end.point_camera_m)
    variance = (
        (1 - fraction) ** 2 * start.covariance_camera_m2[8]
        + fraction**2 * end.covariance_camera_m2[8]
        + (4 * fraction * (1 - fraction) * bow_m) ** 2
    )
    covariance = _point_covariance(rays, z, (0.0, 0.0), variance, _pixel_variance(camera, limits))
    return LiftedPoint(uv, _vector(rays[0] * z), covariance, interpolated=True)


def lift_area(
    points_px: Sequence[Point2], view: DepthView, limits: LiftLimits = LiftLimits()
) -> LiftedArea | Refusal:
    """Each point of an area lifted, and the best supported one as target.

    Best supported: of the points with nearly the most depth pixels behind them the one nearest
    to the median of all, so that a stray point is never it. Refuses when no point can be lifted.
    """
    points = lift_points(points_px, view, limits)
    lifted = [point for point in points if isinstance(point, LiftedPoint)]
    if not lifted:
        first = next((p for p in points if isinstance(p, Refusal)), None)
        if first is None:
            return Refusal(RefusalCode.INCOMPLETE, "the area has no points")
        return Refusal(first.code, f"none of {len(points)} points could be lifted; {first.text}")
    median = _vector(np.median([point.point_camera_m for point in lifted], axis=0))
    enough = 0.9 * max(point.n_valid for point in lifted)
    target = min(
        (point for point in lifted if point.n_valid >= enough),
        key=lambda point: math.dist(point.point_camera_m, median),
    )
    return LiftedArea(target, points)


def to_fixed(lifted: LiftedPoint, T_fixed_camera: RigidTransform) -> LiftedPoint:
    """The same point with its place and covariance in the fixed frame added.

    The camera pose's own uncertainty is not part of the covariance: TF does not tell it.
    """
    return replace(
        lifted,
        point_fixed_m=_vector(apply(T_fixed_camera, lifted.point_camera_m)[0]),
        covariance_fixed_m2=rotate_covariance(T_fixed_camera, lifted.covariance_camera_m2),
    )
