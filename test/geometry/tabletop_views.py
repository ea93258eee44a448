"""Depth views of the rendered table, with shapes that it does not have: cups and rolls."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.geometry import (
    DepthNoise,
    DepthView,
    PinholeCamera,
    apply,
    from_matrix,
    invert,
    ray_grid,
    to_matrix,
)
from rynn_brain_ros.sim.tabletop import START_NS, Tabletop, Thing, add_depth_noise
from rynn_brain_ros.values import Point2, RigidTransform, Vector3

Floats = NDArray[np.float64]
CAMERA = PinholeCamera.from_info(Tabletop(()).camera_info)


def cube(x: float, y: float, side_m: float = 0.05, yaw: float = 0.0, **size: float) -> Thing:
    width, height = size.get("width_m", side_m), size.get("height_m", side_m)
    return Thing("cube", "red", "cube", (x, y), (side_m, width, height), yaw)


def round_thing(shape: str, x: float, y: float, diameter_m: float, height_m: float) -> Thing:
    return Thing(shape, "blue", shape, (x, y), (diameter_m, diameter_m, height_m))


def camera_at(eye_m: Vector3, elevation_deg: float = 90.0, turn_deg: float = 0.0) -> RigidTransform:
    """A camera that looks down by so much, towards the base turned by ``turn_deg``."""
    down, turn = math.radians(elevation_deg), math.radians(turn_deg)
    forward = np.array([-math.cos(turn) * math.cos(down), -math.sin(turn) * math.cos(down), 0.0])
    forward[2] = -math.sin(down)
    right = np.array([-math.sin(turn), math.cos(turn), 0.0])
    matrix = np.eye(4)
    matrix[:3, :3] = np.column_stack([right, np.cross(forward, right), forward])
    matrix[:3, 3] = eye_m
    return from_matrix(matrix, "base_link", "optical")


class TableView:
    """What the moving camera of the table sees at ``seconds``, or one that is held still,
    measured or exact."""

    def __init__(
        self,
        things: Sequence[Thing],
        seconds: float = 1.0,
        T_base_camera: RigidTransform | None = None,
    ) -> None:
        bare = Tabletop(())
        self.T_base_camera = T_base_camera or bare.pose_at(START_NS + round(seconds * 1e9))
        self.z_m = bare.render(self.T_base_camera)[1]
        for thing in things:
            self._add(thing)

    def pixel(self, point_m: Vector3) -> Point2:
        ((u, v),) = CAMERA.project(apply(invert(self.T_base_camera), [point_m]))
        return (float(u), float(v))

    def box(self, thing: Thing) -> tuple[float, float, float, float]:
        """Around a thing's eight corners."""
        half = np.array(thing.size_m) / 2
        signs = np.array(np.meshgrid(*[(-1, 1)] * 3)).reshape(3, -1).T
        corners = apply(invert(thing.to_local()), signs * half)
        u, v = CAMERA.project(apply(invert(self.T_base_camera), corners)).T
        return (float(u.min()), float(v.min()), float(u.max()), float(v.max()))

    def add_cup(self, x: float, y: float, radius_m: float, height_m: float, wall_m: float) -> None:
        """A cup with upright walls and its opening above; its floor is as thick as its wall."""
        inner = radius_m - wall_m
        for radius, side in ((radius_m, 0), (inner, 1)):
            t, at = self._tube(x, y, radius, side)
            self._draw(t, (at[..., 2] > (wall_m if side else 0)) & (at[..., 2] < height_m))
        for level, low, high in ((height_m, inner, radius_m), (wall_m, 0.0, inner)):
            t = (level - self._eye[2]) / self._rays[..., 2]
            at = self._eye + t[..., None] * self._rays
            away = np.hypot(at[..., 0] - x, at[..., 1] - y)
            self._draw(t, (away >= low) & (away <= high))

    def add_roll(self, x: float, y: float, diameter_m: float, length_m: float, yaw: float) -> None:
        """A cylinder that lies on its side, without end caps."""
        axis = np.array([math.cos(yaw), math.sin(yaw), 0.0])
        radius = diameter_m / 2
        start = self._eye - (x, y, radius)
        t = _first_hit(start - (start @ axis) * axis, self._rays, axis, radius)
        at = start + t[..., None] * self._rays
        self._draw(t, np.abs(at @ axis) <= length_m / 2)

    def measured(self, seed: int = 0) -> DepthView:
        depth_mm = add_depth_noise(self.z_m, DepthNoise(), np.random.default_rng(seed))
        depth_m = np.where(depth_mm > 0, depth_mm * 1e-3, np.nan).astype(np.float32)
        return DepthView(depth_m, CAMERA)

    def _add(self, thing: Thing) -> None:
        """Cast where it is seen only: many tests draw many things."""
        left, top, right, bottom = (round(value) for value in self.box(thing))
        rows = slice(max(0, top - 2), max(0, bottom + 3))
        columns = slice(max(0, left - 2), max(0, right + 3))
        window = self.z_m[rows, columns]
        v, u = np.mgrid[rows, columns][:, : window.shape[0], : window.shape[1]]
        pixels = np.column_stack([u.ravel(), v.ravel()]).astype(np.float64)
        _, z = Tabletop((thing,))._see(pixels, self.T_base_camera)
        self.z_m[rows, columns] = z.reshape(window.shape).clip(0, window)

    @property
    def _eye(self) -> Floats:
        return np.array(self.T_base_camera.translation_m)

    @property
    def _rays(self) -> Floats:
        return np.asarray(ray_grid(CAMERA) @ to_matrix(self.T_base_camera)[:3, :3].T)

    def _tube(self, x: float, y: float, radius: float, side: int) -> tuple[Floats, Floats]:
        axis = np.array([0.0, 0.0, 1.0])
        start = self._eye - (x, y, 0.0)
        t = _first_hit(start * (1, 1, 0), self._rays, axis, radius, far=bool(side))
        return t, self._eye + t[..., None] * self._rays

    def _draw(self, t: Floats, where: NDArray[np.bool_]) -> None:
        nearer = where & (t > 0) & ((t < self.z_m) | (self.z_m <= 0))
        self.z_m = np.where(nearer, t, self.z_m)


def _first_hit(
    start: Floats, rays: Floats, axis: Floats, radius: float, far: bool = False
) -> Floats:
    """Depth at which rays meet an endless cylinder; NaN where they miss."""
    across = rays - (rays @ axis)[..., None] * axis
    a, b = (across**2).sum(axis=-1), across @ start
    root = b**2 - a * (start @ start - radius**2)
    with np.errstate(invalid="ignore"):
        return np.asarray((-b + (1 if far else -1) * np.sqrt(root)) / a)
