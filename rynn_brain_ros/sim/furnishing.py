"""Rooms drawn by a seed: walls, doors, furniture and light, with room to drive between them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from rynn_brain_ros.sim.objects import PAINT
from rynn_brain_ros.sim.room_scene import (
    WALL_M,
    BasePose,
    Block,
    RoomLight,
    RoomScene,
    RoomThing,
    smallest_gap_m,
)
from rynn_brain_ros.values import Point2, Vector3

COLORS = tuple(PAINT)
KINDS = ("door", "cabinet", "sofa", "table", "chair", "shelf", "box")

_PASSAGE_M = 0.85
"""Free width between any two things that stand apart."""
_BEFORE_DOOR_M = 1.1
_DOOR_M: Vector3 = (0.06, 0.95, 2.05)
_START_CLEARANCE_M = 0.55
_TRIES = 200
"""Per thing, before the whole room is drawn again."""
_PARTITION_SHARE = 0.6

# Smallest and largest depth, width and height in metres.
_SIZES: dict[str, tuple[Vector3, Vector3]] = {
    "cabinet": ((0.40, 0.70, 0.85), (0.50, 1.10, 1.30)),
    "sofa": ((0.80, 1.50, 0.75), (0.90, 1.90, 0.85)),
    "shelf": ((0.30, 0.70, 1.40), (0.36, 1.00, 1.90)),
    "table": ((0.75, 0.75, 0.70), (0.85, 1.20, 0.76)),
    "chair": ((0.45, 0.45, 0.85), (0.50, 0.50, 0.95)),
    "box": ((0.40, 0.40, 0.40), (0.60, 0.60, 0.65)),
}
_BY_WALL = ("cabinet", "sofa", "shelf")

_Rng = np.random.Generator


def random_room(seed: int) -> RoomScene:
    """A room of four or five things, each of its own colour; the same one for the same seed.

    One or two doors in the walls; the rest stands by a wall or freely. Two of three rooms hold a
    partition to look and drive around. At least one colour of `COLORS` is on nothing.
    """
    rng = np.random.default_rng(seed)
    while True:
        scene = _furnished(seed, rng)
        if scene is not None:
            return scene


def _furnished(seed: int, rng: _Rng) -> RoomScene | None:
    """``None`` where something found no place."""
    size = _uniform_pair(rng, (6.0, 5.0), (7.6, 6.2))
    partitions = (_partition(rng, size),) if rng.random() < _PARTITION_SHARE else ()
    room = RoomScene(
        seed,
        size,
        things=(),
        partitions=partitions,
        light=_light(rng),
        wall_gray=float(rng.uniform(0.82, 0.92)),
        floor_gray=float(rng.uniform(0.58, 0.74)),
        tile_m=float(rng.uniform(0.35, 0.7)),
    )
    colors = iter(rng.permutation(COLORS).tolist())
    for kind in _kinds(rng):
        thing = _placed(rng, room, kind, next(colors))
        if thing is None:
            return None
        room = replace(room, things=(*room.things, thing))
    start = _start(rng, room)
    return None if start is None else replace(room, start=start)


def _kinds(rng: _Rng) -> tuple[str, ...]:
    doors = int(rng.integers(1, 3))
    others = rng.permutation(KINDS[1:])[: int(rng.integers(4, 6)) - doors]
    return ("door",) * doors + tuple(others.tolist())


def _light(rng: _Rng) -> RoomLight:
    around = float(rng.uniform(0.0, 2 * math.pi))
    lean = float(rng.uniform(0.4, 0.9))
    diffuse, ambient = (float(v) for v in rng.uniform((0.40, 0.45), (0.55, 0.58)))
    return RoomLight((lean * math.cos(around), lean * math.sin(around), -1.0), diffuse, ambient)


def _partition(rng: _Rng, size: Point2) -> Block:
    """A wall across the room that leaves at least two metres open at one end."""
    length = float(rng.uniform(0.35, min(0.55, 1.0 - 2.0 / size[1]))) * size[1]
    x = float(rng.uniform(-0.12, 0.12)) * size[0]
    end = float(rng.choice((-1.0, 1.0)))
    return Block((x, end * (size[1] - length) / 2), (WALL_M, length, RoomScene.wall_height_m))


def _placed(rng: _Rng, room: RoomScene, kind: str, color: str) -> RoomThing | None:
    """A place with free passages around it; by a wall, one side needs none."""
    low, high = (_DOOR_M, _DOOR_M) if kind == "door" else _SIZES[kind]
    x, y, z = (float(v) for v in rng.uniform(low, high))
    for _ in range(_TRIES):
        if kind == "door" or kind in _BY_WALL:
            xy, yaw = _by_wall(rng, room.size_m, y, 0.0 if kind == "door" else x / 2 + 0.02)
        else:
            xy, yaw = _anywhere(rng, room.size_m)
        is_round = kind == "table" and rng.random() < 0.5
        size = (x, x, z) if is_round else (x, y, z)
        thing = RoomThing(xy, size, yaw, is_round, color, kind)
        if _fits(thing, room):
            return thing
    return None


def _by_wall(rng: _Rng, size: Point2, width_m: float, offset_m: float) -> tuple[Point2, float]:
    """With its back to a wall: its middle ``offset_m`` before it, facing into the room."""
    side = int(rng.integers(4))
    yaw = side * math.pi / 2 - math.pi
    across, along = (size[0], size[1]) if side % 2 == 0 else (size[1], size[0])
    reach = along / 2 - width_m / 2 - 0.15
    forward = (round(math.cos(yaw)), round(math.sin(yaw)))
    depth, shift = offset_m - across / 2, float(rng.uniform(-reach, reach))
    x = forward[0] * depth - forward[1] * shift
    y = forward[1] * depth + forward[0] * shift
    return (x, y), yaw


def _anywhere(rng: _Rng, size: Point2) -> tuple[Point2, float]:
    margin = 1.1
    half = (size[0] / 2 - margin, size[1] / 2 - margin)
    xy = _uniform_pair(rng, (-half[0], -half[1]), half)
    return xy, float(rng.uniform(-math.pi, math.pi))


def _fits(thing: RoomThing, room: RoomScene) -> bool:
    apart = list(room.partitions)
    if thing.kind != "door" and thing.kind not in _BY_WALL:
        apart = list(room.walls)
    return smallest_gap_m(thing, apart) >= _PASSAGE_M and all(
        smallest_gap_m(thing, [other]) >= _wanted_gap_m(thing, other) for other in room.things
    )


def _wanted_gap_m(a: RoomThing, b: RoomThing) -> float:
    return _BEFORE_DOOR_M if "door" in (a.kind, b.kind) else _PASSAGE_M


def _start(rng: _Rng, room: RoomScene) -> BasePose | None:
    for _ in range(_TRIES):
        (x, y), yaw = _anywhere(rng, room.size_m)
        if room.clearance_m((x, y)) >= _START_CLEARANCE_M:
            return BasePose(x, y, yaw)
    return None


def _uniform_pair(rng: _Rng, low: Point2, high: Point2) -> Point2:
    x, y = rng.uniform(low, high)
    return (float(x), float(y))
