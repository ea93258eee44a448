"""A furnished room as plain values: what stands where, how far it is, and rooms drawn by a seed.

The map's origin is the middle of the floor, x and y along the walls, z up. Everything that is
named has a colour of its own, and what is not named (walls, floor, partition) is grey.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.sim.grid import FREE, OCCUPIED, UNKNOWN, Grid
from rynn_brain_ros.values import InputError, Point2, Quaternion, Vector3

Floats = NDArray[np.float64]

BASE_RADIUS_M = 0.22
"""Of the robot's round foot."""
WALL_M = 0.1
"""How thick walls are."""


@dataclass(frozen=True)
class BasePose:
    """Where the base stands on the map: metres, and radians from x towards y, in −π…π."""

    x_m: float
    y_m: float
    yaw_rad: float = 0.0

    @property
    def xy_m(self) -> Point2:
        return (self.x_m, self.y_m)

    @property
    def rotation_xyzw(self) -> Quaternion:
        return (0.0, 0.0, math.sin(self.yaw_rad / 2), math.cos(self.yaw_rad / 2))


@dataclass(frozen=True)
class Block:
    """Something solid from the floor up to ``size_m[2]``, seen from above a rectangle of
    ``size_m`` turned by ``yaw_rad`` about its middle, or a disc of diameter ``size_m[0]``.
    A piece of furniture faces along its own x."""

    xy_m: Point2
    size_m: Vector3
    yaw_rad: float = 0.0
    is_round: bool = False

    def distance_m(self, xy_m: Floats) -> Floats:
        """From points [..., 2] to the outline, negative inside, [...]."""
        local = self._to_local(xy_m)
        if self.is_round:
            return np.asarray(np.linalg.norm(local, axis=-1) - self.size_m[0] / 2)
        over = np.abs(local) - np.array(self.size_m[:2]) / 2
        outside = np.linalg.norm(np.maximum(over, 0.0), axis=-1)
        return np.asarray(outside + np.minimum(over.max(axis=-1), 0.0))

    def clearance_m(self, xy_m: Point2) -> float:
        """`distance_m` of one place, much faster: a driving base asks all the time."""
        c, s = math.cos(self.yaw_rad), math.sin(self.yaw_rad)
        dx, dy = xy_m[0] - self.xy_m[0], xy_m[1] - self.xy_m[1]
        if self.is_round:
            return math.hypot(dx, dy) - self.size_m[0] / 2
        over_x = abs(c * dx + s * dy) - self.size_m[0] / 2
        over_y = abs(c * dy - s * dx) - self.size_m[1] / 2
        return math.hypot(max(over_x, 0.0), max(over_y, 0.0)) + min(max(over_x, over_y), 0.0)

    def nearest_to(self, xy_m: Point2) -> Point2:
        """The nearest place on or in the outline."""
        local = self._to_local(np.array(xy_m))
        if self.is_round:
            nearest = local * min(1.0, self.size_m[0] / 2 / max(float(np.hypot(*local)), 1e-9))
        else:
            half = np.array(self.size_m[:2]) / 2
            nearest = np.clip(local, -half, half)
        x, y = nearest @ self._axes() + self.xy_m
        return (float(x), float(y))

    def outline(self, step_m: float = 0.1) -> Floats:
        """Points [N, 2] around the outline, not farther apart than ``step_m``."""
        if self.is_round:
            n = math.ceil(math.pi * self.size_m[0] / step_m)
            angles = np.linspace(0.0, 2 * math.pi, n, endpoint=False)
            local = np.stack([np.cos(angles), np.sin(angles)], axis=1) * self.size_m[0] / 2
        else:
            local = _rectangle_outline(self.size_m[0] / 2, self.size_m[1] / 2, step_m)
        return np.asarray(local @ self._axes() + self.xy_m)

    def _to_local(self, xy_m: Floats) -> Floats:
        return np.asarray((xy_m - np.array(self.xy_m)) @ self._axes().T)

    def _axes(self) -> Floats:
        """The block's own axes on the map, as rows [2, 2]."""
        c, s = math.cos(self.yaw_rad), math.sin(self.yaw_rad)
        return np.array([[c, s], [-s, c]])


@dataclass(frozen=True)
class RoomThing(Block):
    """A named block: ``color`` is found on nothing else in the room, ``kind`` is door, cabinet,
    sofa, table, chair, shelf or box."""

    color: str = "red"
    kind: str = "box"

    @property
    def name(self) -> str:
        return f"{self.color} {self.kind}"


@dataclass(frozen=True)
class RoomLight:
    """A lamp's direction (pointing down, any length), its strength, and that of the light from
    all around. A sum near 1 leaves no colour black and clips none."""

    direction: Vector3 = (0.3, 0.4, -1.0)
    diffuse: float = 0.45
    ambient: float = 0.45


@dataclass(frozen=True)
class RoomScene:
    """Everything that a room is. ``size_m`` is the floor between the walls; ``partitions`` are
    walls that stand inside; the greys are 0…1."""

    seed: int
    size_m: Point2
    things: tuple[RoomThing, ...]
    partitions: tuple[Block, ...] = ()
    start: BasePose = BasePose(0.0, 0.0)
    light: RoomLight = RoomLight()
    wall_height_m: float = 2.6
    wall_gray: float = 0.8
    floor_gray: float = 0.55
    tile_m: float = 0.5

    @property
    def walls(self) -> tuple[Block, ...]:
        """The four outer walls, then the partitions."""
        (x, y), t, h = self.size_m, WALL_M, self.wall_height_m
        along_x = (Block((0.0, s * (y + t) / 2), (x + 2 * t, t, h)) for s in (-1, 1))
        along_y = (Block((s * (x + t) / 2, 0.0), (t, y, h)) for s in (-1, 1))
        return (*along_x, *along_y, *self.partitions)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """All that a robot can bump into."""
        return (*self.walls, *self.things)

    def thing(self, name: str) -> RoomThing:
        """By its name, such as ``red door``; `InputError` where there is none."""
        for thing in self.things:
            if thing.name == name:
                return thing
        known = ", ".join(thing.name for thing in self.things)
        raise InputError(f"there is no {name} in room {self.seed}; it holds: {known}")

    def clearance_m(self, xy_m: Point2) -> float:
        """From a place to the nearest outline, negative inside."""
        return min(block.clearance_m(xy_m) for block in self.blocks)

    def is_behind_wall(self, a_m: Point2, b_m: Point2) -> bool:
        """Whether a partition stands between two places."""
        steps = np.linspace(0.0, 1.0, max(2, math.ceil(math.dist(a_m, b_m) / 0.02)))[:, None]
        points = np.array(a_m) * (1 - steps) + np.array(b_m) * steps
        return any(bool((wall.distance_m(points) < 0).any()) for wall in self.partitions)

    def occupancy(self, resolution_m: float = 0.05) -> Grid:
        """The floor plan: a cell is occupied where a block touches it, unknown outside the room."""
        extent = np.array(self.size_m) / 2 + WALL_M
        origin = -np.ceil(extent / resolution_m) * resolution_m
        columns, rows = (int(n) for n in np.round(-2 * origin / resolution_m))
        y, x = np.mgrid[0:rows, 0:columns]
        centers = np.stack([x, y], axis=-1) * resolution_m + resolution_m / 2 + origin
        data = np.full((rows, columns), FREE, np.int8)
        data[(np.abs(centers) > np.array(self.size_m) / 2).any(axis=-1)] = UNKNOWN
        for block in self.blocks:
            data[block.distance_m(centers) < resolution_m * math.sqrt(0.5)] = OCCUPIED
        return Grid(resolution_m, (float(origin[0]), float(origin[1])), data)


def gap_m(a: Block, b: Block) -> float:
    """Between two outlines, good to a few centimetres; negative where they overlap."""
    near_b = float(b.distance_m(np.vstack([a.outline(), [a.xy_m]])).min())
    near_a = float(a.distance_m(np.vstack([b.outline(), [b.xy_m]])).min())
    return min(near_a, near_b)


def smallest_gap_m(block: Block, others: Iterable[Block]) -> float:
    return min((gap_m(block, other) for other in others), default=math.inf)


def _rectangle_outline(half_x: float, half_y: float, step_m: float) -> Floats:
    corners = np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)]) * (half_x, half_y)
    sides = []
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        n = max(1, math.ceil(float(np.linalg.norm(end - start)) / step_m))
        sides.append(start + (end - start) * (np.arange(n) / n)[:, None])
    return np.concatenate(sides)
