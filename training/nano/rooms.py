"""Pictures of rooms as a driving base sees them, and what is right to do to come to something.

`PER_DRIVE` pictures of each room, one after the other: of a drive to one thing, or of several where
it ends earlier, each from another place. That thing is number `TARGET`, and `Seen.way` of it is the
right answer: up to four arrows, ``STOP``, or nothing where it was looked for all around. A target
that is in no picture stands in the list of things all the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.language import format_actions
from rynn_brain_ros.sim.furnishing import COLORS, KINDS, random_room
from rynn_brain_ros.sim.grid import Grid, path_length_m, plan_path
from rynn_brain_ros.sim.rendering import SceneRenderer, load_mujoco, with_grain
from rynn_brain_ros.sim.room_model import FORWARD_CAMERA, room_xml
from rynn_brain_ros.sim.room_scene import BASE_RADIUS_M, BasePose, RoomScene, RoomThing
from rynn_brain_ros.values import Point2, Refusal
from training.nano.camera import CAMERA_PX, SEEN_PX, as_jpeg, as_png, exposed
from training.nano.pictures import MIN_SEEN_PX, Picture, Seen

PER_DRIVE = 10
TARGET = 1
AROUND = "←←←←"
"""What is done where the target has not been seen yet."""
VIEWS_AROUND = 6
"""So many, one such turn apart, show all that can be seen from a place."""
TURN_RAD, STEP_M, MOST_ARROWS = math.radians(15.0), 0.25, 4
"""What an arrow is, and how many an answer has."""
STOP_M = 0.8
"""How near to its outline it is arrived: within the metre that counts."""
ENDS = ("STOP", "")
_FACING = 1
"""Arrived, the target may be so many turns to the side."""
_ABSENT, _TOWARDS = 0.15, 0.4
"""How often the target is not there, and how often a drive begins with it about ahead."""
_ROOM_M, _LEAST_ROOM_M = BASE_RADIUS_M + 0.14, BASE_RADIUS_M + 0.06
"""From the base's middle to what stands around: on a path, and at the very least."""
_STAND_M = BASE_RADIUS_M + 0.2
_PLACES, _LOOKED_AT, _TRIES = 12, 3, 100
"""Around a thing, those to which paths are looked for, and tries for a place to begin."""


@dataclass(frozen=True)
class Guide:
    """Knows the room: where a base in it should go."""

    scene: RoomScene
    grid: Grid
    narrow: Grid

    @staticmethod
    def to(scene: RoomScene) -> Guide:
        plan = scene.occupancy()
        return Guide(scene, plan.inflated(_ROOM_M), plan.inflated(_LEAST_ROOM_M))

    def way(self, pose: BasePose, thing: RoomThing) -> str | None:
        """Arrows or STOP; ``None`` where there is no way."""
        nearest = thing.nearest_to(pose.xy_m)
        if thing.clearance_m(pose.xy_m) <= STOP_M and not self.scene.is_behind_wall(
            pose.xy_m, nearest
        ):
            turns = _turns(pose, nearest)
            return _turning(turns) if abs(turns) > _FACING else "STOP"
        path = self._path(pose.xy_m, thing)
        return None if path is None else self._along(pose, path, thing)

    def free_place(self, rng: np.random.Generator) -> Point2 | None:
        half = np.array(self.scene.size_m) / 2
        for _ in range(_TRIES):
            x, y = map(float, rng.uniform(-half, half))
            if self.grid.is_free(self.grid.cell_of((x, y))):
                return x, y
        return None

    def _path(self, start_m: Point2, thing: RoomThing) -> tuple[Point2, ...] | None:
        """The shortest of those to the nearest places before it."""
        places = sorted(self._places(thing), key=lambda place: math.dist(place, start_m))
        ways = (plan_path(self.grid, start_m, place) for place in places[:_LOOKED_AT])
        paths = [way for way in ways if not isinstance(way, Refusal)]
        return min(paths, key=path_length_m, default=None)

    def _places(self, thing: RoomThing) -> Iterator[Point2]:
        for n in range(_PLACES):
            angle = n * 2 * math.pi / _PLACES
            far = np.array((math.cos(angle), math.sin(angle)))
            edge = np.array(thing.nearest_to(tuple(far * 3 + thing.xy_m)))
            x, y = edge + far * _STAND_M
            is_free = self.grid.is_free(self.grid.cell_of((x, y)))
            if is_free and not self.scene.is_behind_wall((x, y), thing.xy_m):
                yield float(x), float(y)

    def _along(self, pose: BasePose, path: Sequence[Point2], thing: RoomThing) -> str | None:
        """To the path's next corner, as far as four arrows reach and the floor is free."""
        corner = next((c for c in path[1:] if math.dist(c, pose.xy_m) > STEP_M / 2), path[-1])
        turns = _turns(pose, corner)
        if abs(turns) >= MOST_ARROWS:
            return _turning(turns)
        left = min(MOST_ARROWS - abs(turns), max(1, round(math.dist(corner, pose.xy_m) / STEP_M)))
        here, steps = turned(pose, turns), 0
        while steps < left and thing.clearance_m(here.xy_m) > STOP_M:
            there = moved(here)
            if not self.narrow.line_is_free(here.xy_m, there.xy_m):
                break
            here, steps = there, steps + 1
        return _turning(turns) + format_actions(["FORWARD"] * steps) if turns or steps else None


def turned(pose: BasePose, turns: int) -> BasePose:
    """To the left positive."""
    yaw = math.remainder(pose.yaw_rad + turns * TURN_RAD, 2 * math.pi)
    return replace(pose, yaw_rad=yaw)


def moved(pose: BasePose) -> BasePose:
    x = pose.x_m + STEP_M * math.cos(pose.yaw_rad)
    y = pose.y_m + STEP_M * math.sin(pose.yaw_rad)
    return replace(pose, x_m=x, y_m=y)


def driven(pose: BasePose, arrows: str) -> BasePose:
    for arrow in arrows:
        pose = moved(pose) if arrow == "↑" else turned(pose, 1 if arrow == "←" else -1)
    return pose


def _turns(pose: BasePose, place_m: Point2) -> int:
    bearing = math.atan2(place_m[1] - pose.y_m, place_m[0] - pose.x_m) - pose.yaw_rad
    return round(math.remainder(bearing, 2 * math.pi) / TURN_RAD)


def _turning(turns: int) -> str:
    return format_actions(["LEFT" if turns > 0 else "RIGHT"] * min(abs(turns), MOST_ARROWS))


# --- pictures -------------------------------------------------------------------------------------


def room_pictures(seed: int) -> Iterator[Picture]:
    """Without end, the same for the same seed."""
    rng = np.random.default_rng(seed)
    while True:
        pictures = list(_drive(random_room(int(rng.integers(1 << 30))), rng))
        if len(pictures) == PER_DRIVE:
            yield from pictures


def _drive(scene: RoomScene, rng: np.random.Generator) -> Iterator[Picture]:
    """Fewer than `PER_DRIVE` where there is no way."""
    order = [scene.things[n] for n in rng.permutation(len(scene.things))]
    is_absent = rng.random() < _ABSENT
    things = dict(enumerate(order, start=TARGET + is_absent))
    known = [Seen(number, thing.color, thing.kind, 0) for number, thing in things.items()]
    known = [_nobody(scene, rng)] * is_absent + known
    camera, guide = _Camera(scene, things, rng), Guide.to(scene)
    try:
        pose, views, has_seen = _start(guide, things.get(TARGET), rng), 0, False
        for _ in range(PER_DRIVE):
            if pose is None:
                return
            picture = camera.picture(pose, known, rng)
            has_seen |= int((picture.numbers() == TARGET).sum()) >= MIN_SEEN_PX
            views += 1
            way: str | None = AROUND if views < VIEWS_AROUND else ""
            if has_seen:
                way = guide.way(pose, things[TARGET])
            if way is None:
                return
            target, *others = picture.things
            yield replace(picture, things=(replace(target, way=way), *others))
            pose = driven(pose, way)
            if way in ENDS:
                pose, views, has_seen = _start(guide, things.get(TARGET), rng), 0, False
    finally:
        camera.close()


def _nobody(scene: RoomScene, rng: np.random.Generator) -> Seen:
    """What is not there; mostly its colour or its kind is."""
    there = {(thing.color, thing.kind) for thing in scene.things}
    free = [kind for kind in product(COLORS, KINDS) if kind not in there]
    colors, kinds = ({kind[n] for kind in there} for n in range(2))
    near = [(color, kind) for color, kind in free if color in colors or kind in kinds]
    color, kind = (near if rng.random() < 0.75 else free)[int(rng.integers(len(near)))]
    return Seen(TARGET, color, kind, 0)


def _start(guide: Guide, target: RoomThing | None, rng: np.random.Generator) -> BasePose | None:
    place = guide.free_place(rng)
    if place is None:
        return None
    pose = BasePose(*place, float(rng.uniform(-math.pi, math.pi)))
    if target is None or rng.random() > _TOWARDS:
        return pose
    x, y = np.subtract(target.xy_m, place)
    return replace(pose, yaw_rad=math.atan2(y, x) + float(rng.uniform(-0.6, 0.6)))


class _Camera:
    """The base's, in one room and one light; ``things`` by number."""

    def __init__(
        self, scene: RoomScene, things: Mapping[int, RoomThing], rng: np.random.Generator
    ) -> None:
        self._mj = load_mujoco()
        self._model = self._mj.MjModel.from_xml_string(room_xml(scene))
        self._data = self._mj.MjData(self._model)
        self._numbers = self._painted(things, rng)
        self._large = SceneRenderer(self._model, *CAMERA_PX)
        self._small = SceneRenderer(self._model, *SEEN_PX)

    def picture(self, pose: BasePose, known: Sequence[Seen], rng: np.random.Generator) -> Picture:
        self._data.qpos[:] = (pose.x_m, pose.y_m, pose.yaw_rad)
        self._mj.mj_forward(self._model, self._data)
        rgb, _ = self._large.color_and_depth(self._data, FORWARD_CAMERA)
        geoms = self._small.geoms_seen(self._data, FORWARD_CAMERA)
        jpeg = as_jpeg(with_grain(exposed(rgb, rng), rng))
        return Picture(jpeg, as_png(self._numbers[geoms]), tuple(known))

    def close(self) -> None:
        self._large.close()
        self._small.close()

    def _painted(
        self, things: Mapping[int, RoomThing], rng: np.random.Generator
    ) -> NDArray[np.uint8]:
        """No two cans of one paint are quite alike. Each geom's number, and 0 for −1, no geom."""
        numbers = np.zeros(self._model.ngeom + 1, np.uint8)
        for number, thing in things.items():
            body, tint = self._model.body(thing.name).id, rng.uniform(0.85, 1.1, 3)
            for geom in np.flatnonzero(self._model.geom_bodyid == body):
                rgba = self._model.geom_rgba[geom]
                if rgba[3] == 1.0:  # not its shade on the floor
                    rgba[:3] = np.clip(rgba[:3] * tint, 0, 1)
                    numbers[geom] = number
        return numbers
