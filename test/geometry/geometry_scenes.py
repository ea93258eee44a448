"""Scenes with exact truth: planes, boxes and spheres that rays are intersected with."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from pyquaternion import Quaternion

from rynn_brain_ros.geometry import DepthNoise, DepthView, PinholeCamera, ray_grid

Floats = NDArray[np.float64]

NOISE = DepthNoise()

VGA = PinholeCamera(640, 480, 525.0, 525.0, 319.5, 239.5)


@dataclass(frozen=True)
class Plane:
    """Through ``point``, facing along ``normal``."""

    point: tuple[float, float, float]
    normal: tuple[float, float, float]

    def depth(self, rays: Floats) -> Floats:
        with np.errstate(divide="ignore"):
            z = np.dot(self.point, self.normal) / (rays @ np.array(self.normal))
        return np.where(z > 0, z, np.inf)


@dataclass(frozen=True)
class Sphere:
    center: tuple[float, float, float]
    radius: float

    def depth(self, rays: Floats) -> Floats:
        a = (rays**2).sum(axis=-1)
        b = rays @ np.array(self.center)
        c = float(np.dot(self.center, self.center)) - self.radius**2
        root = b**2 - a * c
        with np.errstate(invalid="ignore"):
            return np.where(root > 0, (b - np.sqrt(root)) / a, np.inf)


@dataclass(frozen=True)
class Box:
    """Oriented: ``rotation`` turns box axes into camera axes; ``half`` are half lengths."""

    center: tuple[float, float, float]
    half: tuple[float, float, float]
    rotation: Quaternion

    def depth(self, rays: Floats) -> Floats:
        R = self.rotation.rotation_matrix
        origin, directions = -np.array(self.center) @ R, rays @ R
        with np.errstate(divide="ignore"):
            one, other = (
                (-np.array(self.half) - origin) / directions,
                (self.half - origin) / directions,
            )
        near = np.minimum(one, other).max(axis=-1)
        far = np.maximum(one, other).min(axis=-1)
        return np.where((near < far) & (near > 0), near, np.inf)


Scene = list[Plane | Sphere | Box]


def scene_depth(scene: Scene, rays: Floats) -> Floats:
    return np.min([shape.depth(rays) for shape in scene], axis=0)


def render(scene: Scene, camera: PinholeCamera = VGA) -> NDArray[np.float32]:
    depth_m = scene_depth(scene, np.asarray(ray_grid(camera))).astype(np.float32)
    depth_m[~np.isfinite(depth_m)] = np.nan
    return depth_m


def with_noise(
    depth_m: NDArray[np.float32],
    rng: np.random.Generator,
    noise: DepthNoise = NOISE,
    patch_px: int = 1,
    hole_share: float = 0.0,
) -> NDArray[np.float32]:
    """Noise of the model's size, equal within patches, rounded to its quantum, with holes."""
    height, width = depth_m.shape
    coarse = rng.standard_normal((-(-height // patch_px), -(-width // patch_px)))
    unit = np.kron(coarse, np.ones((patch_px, patch_px)))[:height, :width]
    grown = np.maximum(depth_m - noise.nearest_m, 0)
    noisy = depth_m + unit * (noise.floor_m + noise.growth_per_m * grown**2)
    noisy = np.round(noisy / noise.quantum_m) * noise.quantum_m
    holes = rng.random((height, width)) < hole_share
    blobs = (rng.random((height, width)) < hole_share / 100).astype(np.uint8)
    holes |= cv2.dilate(blobs, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))) > 0
    noisy[holes] = np.nan
    return noisy.astype(np.float32)


def random_scene(rng: np.random.Generator) -> Scene:
    """A table seen at an angle, with boxes and balls in the air and on it."""
    tilt = np.radians(rng.uniform(0, 60))
    turn = rng.uniform(0, 2 * np.pi)
    normal = (np.sin(tilt) * np.cos(turn), np.sin(tilt) * np.sin(turn), -np.cos(tilt))
    scene: Scene = [Plane((0, 0, float(rng.uniform(0.7, 1.5))), normal)]
    for _ in range(rng.integers(0, 4)):
        z = rng.uniform(0.45, 1.0)
        center = (float(rng.uniform(-0.4, 0.4) * z), float(rng.uniform(-0.3, 0.3) * z), float(z))
        if rng.random() < 0.5:
            scene.append(Sphere(center, float(rng.uniform(0.03, 0.15))))
        else:
            half = tuple(float(x) for x in rng.uniform(0.02, 0.15, 3))
            scene.append(Box(center, half, Quaternion(rng.standard_normal(4)).normalised))
    return scene


def view_of(depth_m: NDArray[np.float32], camera: PinholeCamera = VGA) -> DepthView:
    return DepthView(depth_m, camera)
