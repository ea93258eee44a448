"""Tasks in the room: what they promise is true."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from rynn_brain_ros.sim.room import BasePose, RoomScene, RoomThing, RoomWorld
from rynn_brain_ros.sim.room_scene import BASE_RADIUS_M, Block
from rynn_brain_ros.sim.room_tasks import RoomTask, absent, go_to, standing_place

DOOR = RoomThing((3.0, 0.0), (0.06, 0.95, 2.05), math.pi, color="red", kind="door")
SCENE = RoomScene(0, (6.0, 5.0), (DOOR,))
TO_THE_DOOR = RoomTask("go to the red door", "red door", SCENE)


def world_at(x_m: float, y_m: float, scene: RoomScene = SCENE) -> RoomWorld:
    return RoomWorld(replace(scene, start=BasePose(x_m, y_m)))


@pytest.mark.parametrize(("x_m", "done"), [(1.96, False), (1.98, True)])
def test_it_is_done_within_a_metre_of_the_outline(x_m: float, done: bool):
    assert TO_THE_DOOR.is_done(world_at(x_m, 0.0)) is done


def test_the_radius_can_be_another_one():
    assert replace(TO_THE_DOOR, success_radius_m=3.0).is_done(world_at(0.0, 0.0))


def test_near_but_behind_a_wall_is_not_done():
    wall = Block((2.5, 0.0), (0.1, 2.0, 2.6))
    assert not TO_THE_DOOR.is_done(world_at(2.2, 0.0, replace(SCENE, partitions=(wall,))))


@pytest.mark.parametrize("seed", range(8))
def test_a_thing_to_go_to_is_there_can_be_reached_and_is_not_near_yet(seed: int):
    task = go_to(seed)
    world = RoomWorld(task.scene)
    grid = world.occupancy().inflated(BASE_RADIUS_M)
    assert task.answerable
    assert task.instruction == f"go to the {task.target}"
    assert not task.is_done(world)
    place = standing_place(task.scene, task.scene.thing(task.target), grid)
    assert place is not None
    assert task.is_done(RoomWorld(replace(task.scene, start=BasePose(*place))))


@pytest.mark.parametrize("seed", range(8))
def test_what_is_absent_has_a_colour_that_nothing_has(seed: int):
    task = absent(seed)
    assert not task.answerable
    assert task.target.split()[0] not in {thing.color for thing in task.scene.things}
    assert not task.is_done(RoomWorld(task.scene))


def test_a_seed_gives_one_task_and_another_seed_another():
    assert go_to(3) == go_to(3)
    assert absent(3) == absent(3)
    assert go_to(3) != go_to(4)


def test_a_thing_shut_in_has_no_standing_place():
    wall = Block((0.0, 0.0), (0.1, 5.0, 2.6))
    scene = replace(SCENE, partitions=(wall,), start=BasePose(-1.5, 0.0))
    grid = scene.occupancy().inflated(BASE_RADIUS_M)
    assert standing_place(scene, DOOR, grid) is None
