"""Tasks in the room with known truth: an instruction, the scene, and when it is fulfilled."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rynn_brain_ros.sim.furnishing import COLORS, KINDS
from rynn_brain_ros.sim.grid import Grid, plan_path
from rynn_brain_ros.sim.room import RoomWorld, random_room
from rynn_brain_ros.sim.room_scene import BASE_RADIUS_M, RoomScene, RoomThing
from rynn_brain_ros.values import Point2, Refusal

SUCCESS_RADIUS_M = 1.0
"""RynnBrain-Nav counts 3 m, in houses; in one room that would be half the way."""

_ROOMS_PER_SEED = 1000
"""A task's seed ``s`` draws its rooms from the seeds that begin at 1000·s."""
_STAND_M = BASE_RADIUS_M + 0.25
"""From a thing's outline to where a robot can stand before it."""


@dataclass(frozen=True)
class RoomTask:
    """``target`` is the name of what to drive to, whether it is there or not. ``answerable`` is
    false where nothing of that name is there: then the right thing to do is to say so."""

    instruction: str
    target: str
    scene: RoomScene
    success_radius_m: float = SUCCESS_RADIUS_M
    answerable: bool = True

    def is_done(self, world: RoomWorld) -> bool:
        """The base's middle is near the target's outline, with no wall between them. Never where
        the target is not there."""
        if not self.answerable or world.distance_to(self.target) > self.success_radius_m:
            return False
        xy = world.base_pose().xy_m
        return not world.scene.is_behind_wall(xy, world.scene.thing(self.target).nearest_to(xy))


def go_to(seed: int) -> RoomTask:
    """Drive to one of the things. There is a way, it is not done at the start, and the target
    need not be in view there."""
    rng = np.random.default_rng((seed, 1))
    room_seed = _ROOMS_PER_SEED * seed
    while True:
        scene = random_room(room_seed)
        far = [thing for thing in scene.things if _is_worth_a_drive(scene, thing)]
        if far:
            return _go_to(scene, far[int(rng.integers(len(far)))].name)
        room_seed += 1


def absent(seed: int) -> RoomTask:
    """Drive to a thing that is not there, of a colour that nothing in the room has."""
    rng = np.random.default_rng((seed, 2))
    scene = random_room(_ROOMS_PER_SEED * seed)
    unused = sorted(set(COLORS) - {thing.color for thing in scene.things})
    name = f"{rng.choice(unused)} {rng.choice(KINDS)}"
    return RoomTask(f"go to the {name}", name, scene, answerable=False)


def standing_place(scene: RoomScene, thing: RoomThing, grid: Grid) -> Point2 | None:
    """Where a robot that comes from the start can stand before a thing; ``grid`` is inflated.
    In front of it where possible, ``None`` where there is no way to any place around it."""
    for turn in np.arange(12) * (math.pi / 6):
        place = _before(thing, thing.yaw_rad + float(turn))
        if grid.is_free(grid.cell_of(place)) and not scene.is_behind_wall(place, thing.xy_m):
            path = plan_path(grid, scene.start.xy_m, place)
            if not isinstance(path, Refusal):
                return place
    return None


def _go_to(scene: RoomScene, name: str) -> RoomTask:
    return RoomTask(f"go to the {name}", name, scene)


def _is_worth_a_drive(scene: RoomScene, thing: RoomThing) -> bool:
    if thing.clearance_m(scene.start.xy_m) < SUCCESS_RADIUS_M + 0.5:
        return False
    grid = scene.occupancy().inflated(BASE_RADIUS_M + 0.06)
    return standing_place(scene, thing, grid) is not None


def _before(thing: RoomThing, direction_rad: float) -> Point2:
    """The place `_STAND_M` off the outline, seen from the thing's middle in a direction."""
    along = (math.cos(direction_rad), math.sin(direction_rad))
    reach_m = max(thing.size_m[:2])
    far = (thing.xy_m[0] + along[0] * reach_m, thing.xy_m[1] + along[1] * reach_m)
    edge = thing.nearest_to(far)
    return (edge[0] + along[0] * _STAND_M, edge[1] + along[1] * _STAND_M)
