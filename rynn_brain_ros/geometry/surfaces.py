"""Surfaces in a depth image: which pixels hang together, and the plane through a patch of them.

A pinhole camera sees a plane as 1/z linear in the pixel coordinates, so planes are fitted in
inverse depth; steep ones are then as easy as frontal ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.geometry.camera import Floats
from rynn_brain_ros.geometry.depth import Depth, DepthNoise

Labels = NDArray[np.int32]
Mask = NDArray[np.bool_]

STEEPEST_TAN = math.tan(math.radians(75))
"""A surface turned away from the camera by more than 75° falls into pieces."""

_LINK_SIGMAS = 3.0
_OUTLIER_SIGMAS = 3.0
_FIT_ROUNDS = 2
_PLANE_TRIALS = 64
_PLANE_SAMPLES = 500


def valid_depth(depth_m: Depth) -> Mask:
    """Where depth is known: finite and positive."""
    return np.asarray((depth_m > 0) & (depth_m < np.inf))


def link_limit_m(z_m: Depth, focal_px: float, noise: DepthNoise) -> Depth:
    """The largest step in depth, metres, that two neighbouring pixels of one surface may make."""
    step = _LINK_SIGMAS * math.sqrt(2) * noise.sigma_m(z_m) + STEEPEST_TAN / focal_px * z_m
    return np.asarray(step, np.float32)


def label_surfaces(
    depth_m: Depth, valid: Mask, focal_px: float, noise: DepthNoise
) -> tuple[Labels, NDArray[np.int64]]:
    """Labels [h, w] of connected surfaces (0 where not valid), and the pixel count per label.

    Neighbours belong together when their depths differ by less than `link_limit_m`. Pixels and
    the links between them are drawn into one picture of twice the size, whose connected
    components OpenCV finds in one pass.
    """
    height, width = depth_m.shape
    limit = link_limit_m(depth_m, focal_px, noise)
    links = np.zeros((2 * height - 1, 2 * width - 1), np.uint8)
    links[::2, ::2] = valid
    with np.errstate(invalid="ignore"):  # infinite depth; what is not valid links to nothing below
        links[::2, 1::2] = np.abs(depth_m[:, 1:] - depth_m[:, :-1]) < limit[:, 1:]
        links[1::2, ::2] = np.abs(depth_m[1:] - depth_m[:-1]) < limit[1:]
    links[::2, 1::2] &= links[::2, :-1:2] & links[::2, 2::2]
    links[1::2, ::2] &= links[:-1:2, ::2] & links[2::2, ::2]
    count, labels = cv2.connectedComponents(links, connectivity=4, ltype=cv2.CV_32S)
    pixels = np.asarray(labels[::2, ::2], np.int32)
    sizes = np.bincount(pixels.ravel(), minlength=count)
    sizes[0] = 0
    return pixels, sizes


@dataclass(frozen=True)
class LocalPlane:
    """1/z = ``inverse`` + ``slope_u`` · du + ``slope_v`` · dv around a pixel, in 1/m and 1/(m·px).

    ``variance`` is that of ``inverse``; ``n_inliers`` pixels support it.
    """

    inverse: float
    slope_u: float
    slope_v: float
    variance: float
    n_inliers: int


def fit_local_plane(
    du: Floats, dv: Floats, z_m: Floats, focal_px: float, noise: DepthNoise
) -> LocalPlane:
    """A plane through pixels at offsets ``du``, ``dv`` [N] with depths ``z_m`` [N], N ≥ 1.

    Least squares with outliers (beyond 3 robust deviations) removed twice. The prior that slopes
    stay below some 60° keeps a thin row of pixels solvable. The variance takes the larger of the
    noise model and the spread found, counts neighbours as correlated, and adds the bend that a
    curved surface shows beyond its noise.
    """
    design = np.column_stack([np.ones_like(du), du, dv])
    rho = 1.0 / z_m
    middle = float(np.median(rho))
    sigma = float(noise.sigma_m(1.0 / middle)) * middle**2
    prior = np.diag([0.0, 1.0, 1.0]) * (sigma * focal_px / (1.7 * middle)) ** 2
    thinning = noise.correlation_px**2
    kept = np.ones(len(rho), bool)
    for _ in range(_FIT_ROUNDS + 1):
        rows = design[kept]
        inverse_normal = np.linalg.inv(rows.T @ rows / thinning + prior)
        solution = inverse_normal @ (rows.T @ rho[kept]) / thinning
        residual = rho - design @ solution
        size = np.abs(residual)
        spread = max(1.4826 * float(np.median(size)), sigma)
        inliers = size <= _OUTLIER_SIGMAS * spread
        if not inliers.any() or (inliers == kept).all():
            break
        kept = inliers
    residual = residual[kept]
    level = max(sigma**2, float(residual @ residual) / max(1, len(residual) - 3))
    variance = level * float(inverse_normal[0, 0])
    variance += _bend_variance(du[kept], dv[kept], residual, level * thinning)
    c, a, b = map(float, solution)
    return LocalPlane(c, a, b, variance, int(kept.sum()))


def _bend_variance(du: Floats, dv: Floats, residual: Floats, level: float) -> float:
    """Squared offset at the centre caused by curvature, less what noise alone would feign."""
    radius2 = du * du + dv * dv
    mean = float(radius2.mean())
    shape = radius2 - mean
    power = float(shape @ shape)
    if len(residual) < 8 or power <= 0:
        return 0.0
    bend = mean * float(shape @ residual) / power
    return max(0.0, bend**2 - mean**2 * level / power)


def dominant_plane(rays: Floats, z_m: Floats, noise: DepthNoise, share: float) -> Floats | None:
    """The plane m (m · p = 1, [3], 1/m) that most points ``rays · z`` lie on, by RANSAC.

    None where it holds less than ``share`` of the points. The same input gives the same plane.
    """
    if len(z_m) < 12:
        return None
    chance = np.random.default_rng(0)
    some = chance.choice(len(z_m), min(_PLANE_SAMPLES, len(z_m)), replace=False)
    rays, z_m = rays[some], z_m[some]
    points = rays * z_m[:, None]
    triples = points[chance.integers(0, len(points), (_PLANE_TRIALS, 3))]
    solvable = np.abs(np.linalg.det(triples)) > 1e-9
    if not solvable.any():
        return None
    ones = np.ones((int(solvable.sum()), 3, 1))
    planes = np.linalg.solve(triples[solvable], ones)[:, :, 0]
    tolerance = 3 * noise.sigma_m(z_m)
    counts = (np.abs(plane_height_m(planes, points)) < tolerance).sum(axis=1)
    best = planes[int(counts.argmax())]
    for _ in range(_FIT_ROUNDS):
        near = np.abs(plane_height_m(best[None], points)[0]) < tolerance
        if near.sum() < max(12, share * len(points)):
            return None
        # Weighted by 1/z: least squares in inverse depth.
        best = np.linalg.lstsq(rays[near], 1 / z_m[near], rcond=None)[0]
    return np.asarray(best, np.float64)


def plane_height_m(planes: Floats, points: Floats) -> Floats:
    """Distances [P, N] of ``points`` [N, 3] from ``planes`` [P, 3], positive in front of them."""
    lengths = np.linalg.norm(planes, axis=1, keepdims=True)
    return np.asarray((1 - planes @ points.T) / lengths, np.float64)
