"""Things that stand on a table and can be gripped, put into or put onto, as MuJoCo bodies.

A thing's frame is at its middle, z up, as in `rynn_brain_ros.sim.tabletop.Thing`; hollow ones are
drawn as smooth surfaces of revolution and collide as rings of flat panels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.sim.rendering import load_mujoco
from rynn_brain_ros.sim.tabletop import Thing
from rynn_brain_ros.values import InputError, Vector3

Floats = NDArray[np.float64]
Profile = Sequence[tuple[float, float]]
"""(radius, z) of a closed outline, counter-clockwise as seen with z up and the radius to the
right, which is turned about z."""

PAINT: dict[str, Vector3] = {
    "red": (0.80, 0.05, 0.06),
    "green": (0.08, 0.55, 0.14),
    "blue": (0.06, 0.20, 0.78),
    "yellow": (0.88, 0.76, 0.05),
    "purple": (0.42, 0.12, 0.62),
    "orange": (0.92, 0.42, 0.03),
}
SHAPES = ("cube", "ball", "cylinder", "bowl", "plate", "mug")
THING_GROUP = 2
HIDDEN_GROUP = 4
"""Geom groups: what is drawn of the things, and what only collides (by default not drawn)."""

WALL_M = 0.006
_CLEAR_M = 0.002
_MASS_KG = {"cube": 0.06, "ball": 0.05, "cylinder": 0.07, "bowl": 0.35, "plate": 0.35, "mug": 0.2}
_FRICTION = (1.2, 0.01, 0.0005)
_ROLLING = (1.2, 0.02, 0.003)
_TURNS = 40
_PANELS = 16


def is_hollow(shape: str) -> bool:
    return shape in ("bowl", "mug")


def foot_radius_m(thing: Thing) -> float:
    """Of the circle on the table around everything that belongs to the thing."""
    if thing.shape == "cube":
        return math.hypot(thing.size_m[0], thing.size_m[1]) / 2
    return thing.size_m[0] / 2 + (0.025 if thing.shape == "mug" else 0.0)


def add_thing(spec: Any, thing: Thing) -> None:
    """Adds the thing as a free body of its name to an ``mjSpec``, standing on z = 0."""
    if thing.shape not in SHAPES or thing.color not in PAINT:
        raise InputError(
            f"'{thing.name}' cannot be built: shapes are {', '.join(SHAPES)}, "
            f"colours are {', '.join(PAINT)}"
        )
    half = (math.cos(thing.yaw_rad / 2), 0.0, 0.0, math.sin(thing.yaw_rad / 2))
    position = (*thing.xy_m, thing.size_m[2] / 2 + 0.0005)
    body = spec.worldbody.add_body(name=thing.name, pos=position, quat=half)
    body.add_freejoint(name=thing.name)
    build = _Builder(spec, body, thing)
    getattr(build, thing.shape)()


class _Builder:
    """Adds the geoms of one thing to its body."""

    def __init__(self, spec: Any, body: Any, thing: Thing) -> None:
        self.mj = load_mujoco()
        self.spec, self.body, self.thing = spec, body, thing
        self.radius_m, self.height_m = thing.size_m[0] / 2, thing.size_m[2]
        self.mass_kg = _MASS_KG[thing.shape]

    def cube(self) -> None:
        x, y, z = self.thing.size_m
        self._solid(self.mj.mjtGeom.mjGEOM_BOX, (x / 2, y / 2, z / 2))

    def ball(self) -> None:
        self._solid(self.mj.mjtGeom.mjGEOM_SPHERE, (self.radius_m, 0, 0), _ROLLING, condim=6)

    def cylinder(self) -> None:
        size = (self.radius_m, self.height_m / 2, 0)
        self._solid(self.mj.mjtGeom.mjGEOM_CYLINDER, size)

    def bowl(self) -> None:
        top, foot = self.height_m / 2, 0.6 * self.radius_m
        self._turned(_cup(foot, self.radius_m, self.height_m))
        self._floor(foot)
        self._ring(foot, self.radius_m, -top, top)

    def plate(self) -> None:
        top, foot = self.height_m / 2, 0.75 * self.radius_m
        self._turned(_cup(foot, self.radius_m, self.height_m))
        self._floor(foot)
        self._ring(foot, self.radius_m, -top, top)

    def mug(self) -> None:
        top = self.height_m / 2
        self._turned(_cup(self.radius_m, self.radius_m, self.height_m))
        self._floor(self.radius_m)
        self._ring(self.radius_m, self.radius_m, -top, top)
        out, grip = self.radius_m - WALL_M / 2, 0.5 * self.height_m / 2
        corners = [(out, grip), (out + 0.02, grip), (out + 0.02, -grip), (out, -grip)]
        for (xa, za), (xb, zb) in pairwise(corners):
            self._bar((xa, 0.0, za), (xb, 0.0, zb))

    def _solid(
        self,
        kind: Any,
        size: Vector3,
        friction: Vector3 = _FRICTION,
        condim: int = 4,
    ) -> None:
        self._collide(
            type=kind,
            size=size,
            mass=self.mass_kg,
            friction=friction,
            condim=condim,
            group=THING_GROUP,
            material=paint_name(self.thing.color),
        )

    def _collide(self, **settings: Any) -> None:
        defaults = {"friction": _FRICTION, "condim": 4, "solref": (0.005, 1.0)}
        self.body.add_geom(**{**defaults, **settings})

    def _turned(self, profile: Profile) -> None:
        """What is seen of a hollow thing; it weighs nothing and touches nothing."""
        vertices, faces = turned_surface(profile, _TURNS)
        mesh = self.spec.add_mesh(name=self.thing.name)
        mesh.uservert, mesh.userface = vertices.ravel(), faces.ravel()
        mesh.inertia = self.mj.mjtMeshInertia.mjMESH_INERTIA_SHELL
        self.body.add_geom(
            type=self.mj.mjtGeom.mjGEOM_MESH,
            meshname=self.thing.name,
            material=paint_name(self.thing.color),
            mass=0.0,
            contype=0,
            conaffinity=0,
            group=THING_GROUP,
        )

    def _floor(self, radius_m: float) -> None:
        self._collide(
            type=self.mj.mjtGeom.mjGEOM_CYLINDER,
            size=(radius_m, WALL_M / 2, 0),
            pos=(0.0, 0.0, -self.height_m / 2 + WALL_M / 2),
            mass=0.5 * self.mass_kg,
            group=HIDDEN_GROUP,
        )

    def _ring(self, foot_m: float, rim_m: float, low_m: float, high_m: float) -> None:
        """Panels that lean outwards from radius ``foot_m`` at the bottom to ``rim_m``; their
        outer faces meet the outline. They end above the table: the floor alone stands on it."""
        foot_m += (rim_m - foot_m) * _CLEAR_M / (high_m - low_m)
        low_m += _CLEAR_M
        lean = math.atan2(rim_m - foot_m, high_m - low_m)
        length = math.hypot(rim_m - foot_m, high_m - low_m)
        middle = (foot_m + rim_m) / 2 - WALL_M / 2 * math.cos(lean)
        height = (low_m + high_m) / 2 + WALL_M / 2 * math.sin(lean)
        for k in range(_PANELS):
            angle = 2 * math.pi * k / _PANELS
            turn = _product(
                (math.cos(angle / 2), 0.0, 0.0, math.sin(angle / 2)),
                (math.cos(lean / 2), 0.0, math.sin(lean / 2), 0.0),
            )
            self._collide(
                type=self.mj.mjtGeom.mjGEOM_BOX,
                size=(WALL_M / 2, rim_m * math.tan(math.pi / _PANELS), length / 2),
                pos=(middle * math.cos(angle), middle * math.sin(angle), height),
                quat=turn,
                mass=0.5 * self.mass_kg / _PANELS,
                group=HIDDEN_GROUP,
            )

    def _bar(self, start: Vector3, end: Vector3) -> None:
        self._collide(
            type=self.mj.mjtGeom.mjGEOM_CAPSULE,
            fromto=(*start, *end),
            size=(0.004, 0, 0),
            mass=0.005,
            group=THING_GROUP,
            material=paint_name(self.thing.color),
        )


def paint_name(color: str) -> str:
    return f"paint {color}"


def add_paints(spec: Any) -> None:
    """One dull material for each named colour: a shine would bleach it."""
    for color, rgb in PAINT.items():
        spec.add_material(name=paint_name(color), rgba=(*rgb, 1.0), specular=0.1, shininess=0.2)


def _cup(foot_m: float, rim_m: float, height_m: float) -> Profile:
    """Outline of a cup with walls of `WALL_M`, middle of its height at z = 0."""
    top, floor = height_m / 2, -height_m / 2 + WALL_M
    inner_foot = foot_m - WALL_M
    return [
        (0.0, -top),
        (foot_m, -top),
        (rim_m, top),
        (rim_m - WALL_M, top),
        (inner_foot + (rim_m - foot_m) * WALL_M / height_m, floor),
        (0.0, floor),
    ]


def turned_surface(profile: Profile, turns: int) -> tuple[Floats, NDArray[np.int32]]:
    """Vertices [N, 3] and triangles [M, 3], outside counter-clockwise, of an outline that
    begins and ends on the axis and is turned about z in ``turns`` flat steps."""
    angles = np.arange(turns) * 2 * np.pi / turns
    radius, z = np.array(profile[1:-1], np.float64).T
    rings = np.stack(
        [
            radius[:, None] * np.cos(angles),
            radius[:, None] * np.sin(angles),
            np.repeat(z[:, None], turns, axis=1),
        ],
        axis=2,
    )
    ends = np.array([(0.0, 0.0, profile[0][1]), (0.0, 0.0, profile[-1][1])])
    vertices = np.concatenate([rings.reshape(-1, 3), ends])
    here = np.arange(turns)
    after = (here + 1) % turns
    first, last = len(vertices) - 2, len(vertices) - 1
    faces = [np.stack([np.full(turns, first), after, here], axis=1)]
    for low in range(0, (len(radius) - 1) * turns, turns):
        a, b, c, d = here + low, after + low, after + low + turns, here + low + turns
        faces += [np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)]
    top = (len(radius) - 1) * turns
    faces.append(np.stack([np.full(turns, last), here + top, after + top], axis=1))
    return vertices, np.concatenate(faces).astype(np.int32)


def _product(
    a: tuple[float, float, float, float], b: tuple[float, float, float, float]
) -> tuple[float, float, float, float]:
    """Of two quaternions in MuJoCo's order (w, x, y, z)."""
    aw, ax, ay, az = a
    bw, bx, by, bz = b
    return (
        aw * bw - ax * bx - ay * by - az * bz,
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
    )
