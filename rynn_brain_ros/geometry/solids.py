"""What solid a segment is the visible side of: a box, an upright or lying cylinder, a ball, a rim.

Depth shows one side only, so a middle is never a mean of points. Flat tops are outlined in the
picture and the outline's rays are met with the top's own level, which leaves the depth's noise
out of x and y; round things are fitted. The solid that explains the segment best is it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

import cv2
import numpy as np

from rynn_brain_ros.geometry.camera import Floats
from rynn_brain_ros.geometry.heights import CLEAR_SIGMAS, Patch
from rynn_brain_ros.geometry.outlines import (
    Circle,
    Outline,
    Rectangle,
    fit_circle,
    fit_rectangle,
    fit_ring,
    outline_of,
)
from rynn_brain_ros.geometry.surfaces import Mask
from rynn_brain_ros.values import Point2

_ROUNDS = 4
_TOP_QUANTILE = 0.97
_HOLLOW_FILL = 0.6
_MIN_POINTS = 12
_RIDGE = 1.8
"""How much longer than wide the highest strip of a lying cylinder must be."""
_LARGEST_M = 0.3


class SolidKind(str, Enum):
    BOX = "box"
    CYLINDER = "cylinder"
    """Standing upright."""
    BALL = "ball"
    ROLL = "roll"
    """A cylinder that lies."""
    RIM = "rim"
    """Hollow, open at the top: what is known is the ring around the opening."""


@dataclass(frozen=True)
class Solid:
    """A solid on its support, in the base frame.

    ``yaw_rad`` is the direction of the long side (any, where round); ``length_m`` ≥ ``width_m``,
    both the outer diameter of what is round. ``wall_m`` is a rim's thickness. ``explained``
    is how well the segment's points lie on the solid, 0…1, some 0.9 where noise is all that is
    between them; ``sigma_m`` is the standard deviation of its middle, each way.
    """

    kind: SolidKind
    center_m: Point2
    yaw_rad: float
    length_m: float
    width_m: float
    top_z_m: float
    explained: float
    sigma_m: float
    wall_m: float = math.nan

    @property
    def is_round(self) -> bool:
        return self.kind in (SolidKind.CYLINDER, SolidKind.BALL, SolidKind.RIM)


def fit_solid(patch: Patch, mask: Mask) -> Solid | None:
    """The solid that the masked pixels [h, w] show; None where they show too little of any."""
    points = patch.points_m[mask]
    if len(points) < _MIN_POINTS:
        return None
    top_z, face = top_face(patch, mask)
    rim = _as_rim(patch, face, top_z)
    if rim is not None:
        return rim
    fits = (
        *_as_prisms(patch, mask, face, top_z),
        _as_ball(patch, points),
        _as_roll(patch, points, face, top_z),
    )
    found = [fit for fit in fits if fit is not None]
    return max(found, key=lambda solid: solid.explained, default=None)


def top_face(patch: Patch, mask: Mask) -> tuple[float, Mask]:
    """Height of the highest level that a good part of the segment lies on, and its pixels."""
    z = patch.points_m[..., 2]
    band = CLEAR_SIGMAS * patch.sigma_height_m
    inside = z[mask]
    top = float(np.quantile(inside, _TOP_QUANTILE))
    for _ in range(_ROUNDS):
        top = float(inside[np.abs(inside - top) <= band].mean())
    with np.errstate(invalid="ignore"):
        return top, np.asarray(mask & (np.abs(z - top) <= band))


def _as_prisms(patch: Patch, mask: Mask, face: Mask, top_z: float) -> Iterator[Solid]:
    """Upright solids under a flat top: a box, and a cylinder."""
    outline = outline_of(patch, mask, face, top_z)
    if outline is None:
        return
    box, disc = fit_rectangle(outline), fit_circle(outline)
    yield _prism(
        patch, mask, outline, box, top_z,
        kind=SolidKind.BOX, yaw_rad=box.yaw_rad, sides_m=box.sides_m,
    )  # fmt: skip
    if disc is not None:
        size = 2 * disc.radius_m
        yield _prism(
            patch, mask, outline, disc, top_z,
            kind=SolidKind.CYLINDER, yaw_rad=0.0, sides_m=(size, size),
        )  # fmt: skip


def _prism(
    patch: Patch,
    mask: Mask,
    outline: Outline,
    shape: Rectangle | Circle,
    top_z: float,
    *,
    kind: SolidKind,
    yaw_rad: float,
    sides_m: tuple[float, float],
) -> Solid:
    points = patch.points_m[mask]
    above = points[:, 2] - top_z
    aside = np.where(above <= 0, np.abs(shape.distance_m(points[:, :2])), np.inf)
    nearest = np.minimum(np.abs(above), aside)
    explained = _explained(nearest, CLEAR_SIGMAS * patch.sigma_m)
    sigma = math.hypot(shape.rms_m / math.sqrt(len(outline.points) / 4), outline.step_m / 4)
    return Solid(kind, shape.center_m, yaw_rad, *sides_m, top_z, explained, sigma)


def _as_ball(patch: Patch, points: Floats) -> Solid | None:
    fit = _round_fit(points, patch.sigma_m)
    if fit is None:
        return None
    center, radius, explained, rms = fit
    sigma = rms / math.sqrt(len(points) / 16)
    middle = (float(center[0]), float(center[1]))
    size, top = 2 * radius, float(center[2]) + radius
    return Solid(SolidKind.BALL, middle, 0.0, size, size, top, explained, sigma)


def _as_roll(patch: Patch, points: Floats, face: Mask, top_z: float) -> Solid | None:
    """A cylinder along the ridge that its highest pixels form; round in the section across it."""
    rows, columns = np.nonzero(face)
    if len(rows) < _MIN_POINTS:
        return None
    ridge = patch.at_height(rows, columns, top_z)
    spread, axes = np.linalg.eigh(np.cov(ridge.T))
    if spread[1] < _RIDGE**2 * spread[0]:
        return None
    along, across = axes[:, 1], np.array([-axes[1, 1], axes[0, 1]])
    section = np.column_stack([points[:, :2] @ across, points[:, 2]])
    fit = _round_fit(section, patch.sigma_m)
    if fit is None:
        return None
    center, radius, explained, rms = fit
    low, high = np.quantile(points[:, :2] @ along, (0.01, 0.99))
    middle = along * (low + high) / 2 + across * center[0]
    yaw = math.atan2(along[1], along[0])
    sigma = math.hypot(rms / math.sqrt(len(points) / 16), 0.5 * patch.sigma_m)
    size, top = 2 * radius, float(center[1]) + radius
    xy = (float(middle[0]), float(middle[1]))
    return Solid(SolidKind.ROLL, xy, yaw, float(high - low), size, top, explained, sigma)


def _round_fit(points: Floats, sigma_m: float) -> tuple[Floats, float, float, float] | None:
    """Sphere (or circle) through ``points`` [N, d]: middle [d], radius, how much it explains, and
    the rms of what it does.

    An algebraic start, then geometric least squares (Gauss–Newton), trimmed.
    """
    middle = points.mean(axis=0)
    local = points - middle
    design = np.column_stack([2 * local, np.ones(len(local))])
    solution = np.linalg.lstsq(design, (local**2).sum(axis=1), rcond=None)[0]
    center = solution[:-1]
    radius = math.sqrt(max(1e-12, float(solution[-1] + center @ center)))
    reach = CLEAR_SIGMAS * sigma_m
    for _ in range(_ROUNDS):
        away = local - center
        distance = np.maximum(np.linalg.norm(away, axis=1), 1e-9)
        near = np.abs(distance - radius) <= 2 * reach
        if near.sum() < _MIN_POINTS or radius > _LARGEST_M:
            return None
        jacobian = np.column_stack([-away[near] / distance[near, None], -np.ones(near.sum())])
        step = np.linalg.lstsq(jacobian, distance[near] - radius, rcond=None)[0]
        center, radius = center - step[:-1], radius - float(step[-1])
    residual = np.abs(np.linalg.norm(local - center, axis=1) - radius)
    inliers = residual <= reach
    if not inliers.any():
        return None
    rms = float(np.sqrt((residual[inliers] ** 2).mean()))
    return np.asarray(middle + center), radius, _explained(residual, reach), rms


def _explained(distance_m: Floats, reach_m: float) -> float:
    """1 where all points lie on a surface, 0 where all are ``reach_m`` and more away from it.

    The score of MSAC (Torr and Zisserman, "MLESAC", CVIU 2000), turned around.
    """
    return float(1 - np.minimum((distance_m / reach_m) ** 2, 1.0).mean())


def _as_rim(patch: Patch, face: Mask, top_z: float) -> Solid | None:
    """A ring where the highest pixels leave their middle open."""
    rows, columns = np.nonzero(face)
    if len(rows) < 2 * _MIN_POINTS:
        return None
    hull = cv2.convexHull(np.column_stack([columns, rows]).astype(np.float32))
    if len(rows) > _HOLLOW_FILL * cv2.contourArea(hull):
        return None
    ring = fit_ring(patch, rows, columns, top_z)
    if ring is None:
        return None
    circle, wall = ring
    size = 2 * circle.radius_m
    sigma = math.hypot(circle.rms_m / math.sqrt(len(rows) / 16), patch.sigma_m / 2)
    return Solid(SolidKind.RIM, circle.center_m, 0.0, size, size, top_z, 1.0, sigma, wall)
