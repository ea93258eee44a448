"""Pictures of random tables, with what is seen where: the raw material of every lesson.

A table is set far more wildly than an episode's: more things, closer together, in one another and
in the hand, under lamps, on table tops and from places that vary more. Colours and shapes are the
simulator's own.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.geometry import DepthNoise
from rynn_brain_ros.sim.objects import PAINT, SHAPES, foot_radius_m, paint_name
from rynn_brain_ros.sim.panda import FINGERS, JOINTS, READY, TCP_SITE
from rynn_brain_ros.sim.rendering import SceneRenderer, load_mujoco, with_grain
from rynn_brain_ros.sim.table import TableWorld
from rynn_brain_ros.sim.table_furnishing import Drawer, Filling
from rynn_brain_ros.sim.table_scene import (
    FRONT_EYE_M,
    FRONT_TARGET_M,
    TABLE_TOP,
    Look,
    TableScene,
    look_at,
    ready_data,
    scene_spec,
)
from rynn_brain_ros.sim.tabletop import Thing
from rynn_brain_ros.values import Point2, RigidTransform, Vector3
from training.nano.camera import (
    CAMERA_PX,
    SEEN_PX,
    as_jpeg,
    as_png,
    exposed,
    opened,
    table_at,
)
from training.nano.spots import free_spot, spots_beside

MIN_SEEN_PX = 24
"""Of `SEEN_PX`: a thing of which less is seen is neither there nor not there."""

_X_M, _Y_M = (0.27, 0.74), (-0.45, 0.45)
_SOLID = ("cube", "ball", "cylinder")
_AWAY_M = (0.0, 0.0, -20.0)
_SPOTS = 40
PROBE = Thing("to be put down", "red", "cube", (0.0, 0.0), (0.044, 0.044, 0.044))
"""What a spot beside a thing is free for, where nothing is in the hand."""


@dataclass(frozen=True)
class Seen:
    """One thing in a picture: ``number`` is its value in the map, ``holder`` the number of what
    it lies in or on (0 the table, −1 the hand). ``beside`` is where one would put something next
    to it, x and y in 0…1000; ``None`` where there is no room, or where that is not seen."""

    number: int
    color: str
    shape: str
    holder: int
    beside: Point2 | None = None
    way: str = ""

    @property
    def kind(self) -> tuple[str, str]:
        """Colour and shape."""
        return self.color, self.shape

    @property
    def noun(self) -> str:
        return " ".join(self.kind)


@dataclass(frozen=True)
class Ground:
    """The table under a picture: what stands on it, by number, and the camera's place."""

    standing: Mapping[int, Thing]
    T_base_front: RigidTransform

    def at(self, x: float, y: float) -> Point2:
        """Where on the table, in metres of the base frame, the picture's x and y in 0…1000 are."""
        return table_at(x, y, self.T_base_front)


@dataclass(frozen=True)
class Picture:
    """``jpeg`` as the camera sends it, `CAMERA_PX`; ``map_png`` says which thing each pixel of
    `SEEN_PX` shows (uint8, 0 none); ``things`` are all that are in the scene, seen or not."""

    jpeg: bytes
    map_png: bytes
    things: tuple[Seen, ...]

    def pixels(self) -> NDArray[np.uint8]:
        """RGB as the model is shown it, uint8 [240, 320, 3]."""
        bgr = opened(self.jpeg, cv2.IMREAD_COLOR)
        small = cv2.resize(bgr[..., ::-1], SEEN_PX, interpolation=cv2.INTER_AREA)
        return np.ascontiguousarray(small)

    def numbers(self) -> NDArray[np.uint8]:
        """Which thing each pixel shows, uint8 [240, 320]."""
        return opened(self.map_png, cv2.IMREAD_UNCHANGED)


@dataclass(frozen=True)
class TablePicture(Picture):
    """A picture of a table."""

    ground: Ground


def table_pictures(seed: int, per_table: int = 2) -> Iterator[TablePicture]:
    """Pictures without end, the same for the same seed; ``per_table`` of each set of things."""
    rng = np.random.default_rng(seed)
    while True:
        scene = random_table(rng)
        yield from pictures_of(scene, [Pose()] * per_table, rng)


def picture_of(world: TableWorld) -> TablePicture:
    """What a world's front camera shows now, of `CAMERA_PX`."""
    things = [
        Seen(number, thing.color, thing.shape, 0)
        for number, thing in enumerate(world.scene.things, start=1)
    ]
    width, height = SEEN_PX
    numbers = np.zeros((height, width), np.uint8)
    for seen, thing in zip(things, world.scene.things, strict=True):
        mask = world.mask("front", thing.name).astype(np.uint8)
        numbers[cv2.resize(mask, SEEN_PX, interpolation=cv2.INTER_NEAREST) > 0] = seen.number
    picture = world.render("front")
    packed = as_png(numbers)
    ground = Ground(dict(enumerate(world.scene.things, start=1)), world.scene.T_base_front)
    return TablePicture(as_jpeg(picture.rgb), packed, tuple(things), ground)


# --- a table --------------------------------------------------------------------------------------


def random_table(rng: np.random.Generator) -> TableScene:
    count = int(rng.integers(3, 11)) if rng.random() < 0.8 else int(rng.integers(0, 4))
    things: list[Thing] = []
    for number, (color, shape) in enumerate(_kinds(rng, count)):
        size = _size(rng, shape)
        spot = _spot(rng, Thing(f"{number} {color} {shape}", color, shape, (0, 0), size), things)
        if spot is not None:
            things.append(spot)
    vessels = [thing for thing in things if thing.shape == "mug"]
    fillings = []
    if vessels and rng.random() < 0.15:
        fillings.append(Filling(vessels[0].name, str(rng.choice(list(PAINT)))))
    drawer = None
    if rng.random() < 0.05:
        drawer = Drawer(
            xy_m=(float(rng.uniform(0.4, 0.6)), float(rng.uniform(0.28, 0.36))),
            color=str(rng.choice(list(PAINT))),
            handle_color=str(rng.choice(list(PAINT))),
        )
    front = look_at(
        _around(rng, FRONT_EYE_M, 0.07),
        _around(rng, FRONT_TARGET_M, 0.06),
        float(rng.normal(0, 0.03)),
    )
    return TableScene(tuple(things), front, _look(rng), DepthNoise(), 0, tuple(fillings), drawer)


def _kinds(rng: np.random.Generator, count: int) -> list[tuple[str, str]]:
    """Colours and shapes at random; every third table has no two alike in colour, as episodes
    have, and every third several of one colour or one shape, which takes looking at both."""
    colors, manner = list(PAINT), int(rng.integers(3))
    if manner == 0:
        palette = [str(color) for color in rng.permutation(colors)]
        return [(color, str(rng.choice(SHAPES))) for color in palette[:count]]
    if manner == 1:
        color, shape = str(rng.choice(colors)), str(rng.choice(SHAPES))
        return [
            (color, str(rng.choice(SHAPES)))
            if rng.random() < 0.5
            else (str(rng.choice(colors)), shape)
            for _ in range(count)
        ]
    return [(str(rng.choice(colors)), str(rng.choice(SHAPES))) for _ in range(count)]


def _size(rng: np.random.Generator, shape: str) -> Vector3:
    if shape in _SOLID:
        width = float(rng.uniform(0.032, 0.056))
        return (width, width, float(rng.uniform(0.05, 0.08)) if shape == "cylinder" else width)
    if shape == "mug":
        width = float(rng.uniform(0.06, 0.076))
        return (width, width, float(rng.uniform(0.062, 0.088)))
    width = float(rng.uniform(0.13, 0.18))
    return (width, width, float(rng.uniform(0.042, 0.058)) if shape == "bowl" else 0.014)


def _spot(rng: np.random.Generator, thing: Thing, others: Sequence[Thing]) -> Thing | None:
    gap_m = float(rng.choice((0.005, 0.02, 0.05)))
    for _ in range(_SPOTS):
        xy = (float(rng.uniform(*_X_M)), float(rng.uniform(*_Y_M)))
        here = replace(thing, xy_m=xy, yaw_rad=float(rng.uniform(-math.pi, math.pi)))
        if all(
            math.dist(xy, other.xy_m) > foot_radius_m(here) + foot_radius_m(other) + gap_m
            for other in others
        ):
            return here
    return None


def _look(rng: np.random.Generator) -> Look:
    """Table tops of any dull colour, lamps from anywhere above."""
    tone = rng.uniform(0.25, 0.85) * rng.uniform(0.85, 1.1, 3)
    other = np.clip(tone * rng.uniform(0.8, 1.2), 0, 1)
    lamp = (rng.uniform(-0.3, 1.5), rng.uniform(-1.5, 1.5), rng.uniform(1.5, 2.8))
    return Look(
        (_vector(np.clip(tone, 0, 1)), _vector(other)),
        str(rng.choice(("flat", "checker", "gradient"))),
        _vector(lamp),
        lamp=float(rng.uniform(0.25, 0.7)),
        room=float(rng.uniform(0.25, 0.5)),
    )


def _around(rng: np.random.Generator, middle: Vector3, reach: float) -> Vector3:
    return _vector(np.add(middle, rng.uniform(-reach, reach, 3)))


def _vector(values: Any) -> Vector3:
    x, y, z = map(float, values)
    return (x, y, z)


# --- its pictures ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pose:
    """How a table is before a picture. ``held`` is in the hand, ``moved`` things stand elsewhere
    (place of their middle in metres, and the number of what holds them); with ``mixed``, by
    chance some are in the hand, in others or on others, and the arm is elsewhere;
    ``arm_moves``: it surely is. ``gone`` are not in the scene at all."""

    held: Thing | None = None
    gone: frozenset[str] = frozenset()
    moved: Mapping[str, tuple[Vector3, int]] = field(default_factory=dict)
    mixed: bool = True
    arm_moves: bool = False


def pictures_of(
    scene: TableScene, poses: Sequence[Pose], rng: np.random.Generator
) -> Iterator[TablePicture]:
    """One of each pose, in the same light."""
    model = scene_spec(scene, *CAMERA_PX).compile()
    _repaint(model, rng)
    large, small = SceneRenderer(model, *CAMERA_PX), SceneRenderer(model, *SEEN_PX)
    table = model.geom(TABLE_TOP).id
    try:
        for pose in poses:
            data, holders = _posed(model, scene, pose, rng)
            rgb, _ = large.color_and_depth(data, "front")
            geoms = small.geoms_seen(data, "front")
            elsewhere = {*pose.gone, *(name for name, holder in holders.items() if holder)}
            ground = Ground(_standing(data, scene, elsewhere), scene.T_base_front)
            beside = _beside(ground, pose.held or PROBE, geoms == table)
            yield TablePicture(
                as_jpeg(with_grain(exposed(rgb, rng), rng)),
                as_png(_numbers(model, scene, geoms)),
                tuple(
                    Seen(
                        number,
                        thing.color,
                        thing.shape,
                        holders.get(thing.name, 0),
                        beside.get(number),
                    )
                    for number, thing in enumerate(scene.things, start=1)
                    if thing.name not in pose.gone
                ),
                ground,
            )
    finally:
        large.close()
        small.close()


def _posed(
    model: Any, scene: TableScene, pose: Pose, rng: np.random.Generator
) -> tuple[Any, dict[str, int]]:
    """The arm somewhere, some things in or on others or in the hand."""
    data = ready_data(model)
    mj, holders = load_mujoco(), {}
    if pose.arm_moves or (pose.mixed and rng.random() < 0.4):
        for name, ready in zip(JOINTS, READY, strict=True):
            data.joint(name).qpos[0] = ready + rng.normal(0, 0.35)
    width_m = float(rng.uniform(0.0, 0.08)) if pose.mixed else 0.08
    mj.mj_forward(model, data)
    tcp = np.array(data.site(TCP_SITE).xpos)
    loose = [thing for thing in scene.things if thing.shape in (*_SOLID, "mug")] * pose.mixed
    held = pose.held
    if loose and tcp[2] > 0.05 and rng.random() < 0.25:
        held = loose.pop(int(rng.integers(len(loose))))
    if held is not None:
        data.joint(held.name).qpos[:3] = tcp
        holders[held.name], width_m = -1, held.size_m[0]
    for name in FINGERS:
        data.joint(name).qpos[0] = min(width_m, 0.08) / 2
    for name, (place_m, holder) in pose.moved.items():
        data.joint(name).qpos[:3] = place_m
        holders[name] = holder
    for name in pose.gone:
        data.joint(name).qpos[:3] = _AWAY_M
    for number, under in enumerate(scene.things, start=1):
        if loose and under.shape in ("bowl", "plate", "cube") and rng.random() < 0.25:
            top = loose[int(rng.integers(len(loose)))]
            if top.name != under.name and under.name not in holders:
                loose.remove(top)
                data.joint(top.name).qpos[:3] = upon(under, top, rng)
                holders[top.name] = number
    mj.mj_forward(model, data)
    return data, holders


def _standing(data: Any, scene: TableScene, elsewhere: Collection[str]) -> dict[int, Thing]:
    """What stands on the table, where it does now."""
    found = {}
    for number, thing in enumerate(scene.things, start=1):
        if thing.name not in elsewhere:
            x, y, _ = map(float, data.body(thing.name).xpos)
            found[number] = replace(thing, xy_m=(x, y))
    return found


def _beside(ground: Ground, thing: Thing, shows_table: NDArray[np.bool_]) -> dict[int, Point2]:
    """By the numbers of what stands on the table, as `Seen` has them, with room for ``thing``.
    ``shows_table`` [240, 320]: which pixels do."""
    found = {}
    for number, place in ground.standing.items():
        others = [other for other in ground.standing.values() if other is not place]
        spot = free_spot(spots_beside(place, thing, others, ground.T_base_front))
        if spot is not None and _shows(shows_table, *spot.seen):
            found[number] = spot.seen
    return found


def _shows(mask: NDArray[np.bool_], x: float, y: float) -> bool:
    height, width = mask.shape
    column, row = int(x / 1000 * width), int(y / 1000 * height)
    return 0 <= column < width and 0 <= row < height and bool(mask[row, column])


def upon(under: Thing, top: Thing, rng: np.random.Generator) -> Vector3:
    """Where the middle of ``top`` is when it lies in or on ``under``, in metres."""
    slack = max(0.0, under.size_m[0] / 2 - 0.04) * 0.8
    floor = under.size_m[2] if under.shape == "cube" else 0.006
    x, y = np.add(under.xy_m, rng.uniform(-slack, slack, 2))
    return (float(x), float(y), floor + top.size_m[2] / 2)


def _repaint(model: Any, rng: np.random.Generator) -> None:
    """No two cans of one paint are quite alike."""
    for color in PAINT:
        material = model.material(paint_name(color))
        factor = rng.uniform(0.88, 1.12) * rng.uniform(0.94, 1.06, 3)
        material.rgba[:3] = np.clip(
            material.rgba[:3] * factor + rng.uniform(-0.015, 0.015, 3), 0, 1
        )
    for name in ("floor", "wall"):
        model.geom(name).rgba[:3] = rng.uniform(0.25, 0.9) * rng.uniform(0.9, 1.1, 3)


def _numbers(model: Any, scene: TableScene, geoms: NDArray[np.int32]) -> NDArray[np.uint8]:
    of_body = np.zeros(model.nbody, np.uint8)
    for number, thing in enumerate(scene.things, start=1):
        of_body[model.body(thing.name).id] = number
    owner = np.append(of_body[model.geom_bodyid], np.uint8(0))  # −1, no geom, is nobody's
    return np.asarray(owner[geoms], np.uint8)
