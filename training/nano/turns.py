"""Pictures of a task's turns: before it, with the thing in the hand, with the thing in its place.

Four pictures of each table, in the order of `Turn`. Thing 1 is to be moved, thing 2 is what it
goes into, onto or beside. Between turns the arm stands where the brain parks it, out of the way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from enum import IntEnum

import numpy as np

from rynn_brain_ros.sim.objects import PAINT
from rynn_brain_ros.sim.table_layout import Kind, random_scene
from rynn_brain_ros.sim.table_scene import TableScene
from rynn_brain_ros.values import InputError, Vector3
from training.nano.pictures import Pose, TablePicture, pictures_of, random_table, upon
from training.nano.spots import free_spot, spots_beside

THING, PLACE = 1, 2
"""Their numbers."""
_GRIPPABLE = ("cube", "ball", "cylinder")
_PLACES = ("bowl", "bowl", "plate", "plate", "cube", "cube", "cube", "ball", "cylinder", "mug")
_VESSELS = ("bowl", "plate")
_PUT_INTO, _STACKED = 0.7, 0.7
"""How often something is put into or onto one of these, or a block onto a block; else beside it."""
_EPISODES = 0.7
"""How many tables are set as episodes set them, the others wildly."""


class Turn(IntEnum):
    """What a picture shows; ``MOVING`` is on the way from one to another."""

    BEFORE = 0
    HELD = 1
    PLACED = 2
    MOVING = 3


def turn_pictures(seed: int) -> Iterator[TablePicture]:
    """Without end, the same for the same seed."""
    rng = np.random.default_rng(seed)
    while True:
        scene = _table(rng)
        if scene is not None:
            end = _end(scene, rng)
            if end is not None:
                yield from pictures_of(scene, _poses(scene, end, rng), rng)


def _poses(
    scene: TableScene, end: tuple[Vector3, int], rng: np.random.Generator
) -> tuple[Pose, ...]:
    thing = scene.things[THING - 1]
    before, placed = Pose(mixed=False), Pose(moved={thing.name: end}, mixed=False)
    held = Pose(held=thing, mixed=False)
    on_the_way = thing if rng.random() < 0.5 else None
    moving = Pose(held=on_the_way, mixed=False, arm_moves=True)
    return before, held, placed, moving


def _table(rng: np.random.Generator) -> TableScene | None:
    """With a thing to move and a place for it as its first two things."""
    thing, place = _kinds(rng)
    if rng.random() < _EPISODES:
        try:
            seed, n_clutter = int(rng.integers(1 << 30)), int(rng.integers(1, 4))
            return random_scene(seed, (thing, place), n_clutter)
        except InputError:  # no room for so many
            return None
    scene = random_table(rng)
    things = list(scene.things)
    kinds = [(each.color, each.shape) for each in things]
    movable = [n for n, kind in enumerate(kinds) if kind[1] in _GRIPPABLE and kinds.count(kind) < 2]
    places = [n for n, kind in enumerate(kinds) if kinds.count(kind) < 2]
    pairs = [(a, b) for a in movable for b in places if a != b]
    if not pairs:
        return None
    a, b = pairs[int(rng.integers(len(pairs)))]
    others = [each for n, each in enumerate(things) if n not in (a, b)]
    return replace(scene, things=(things[a], things[b], *others))


def _kinds(rng: np.random.Generator) -> tuple[Kind, Kind]:
    color, other = (str(c) for c in rng.permutation(list(PAINT))[:2])
    place = str(rng.choice(_PLACES))
    shapes = ("cube",) if place == "cube" and rng.random() < 0.6 else _GRIPPABLE
    return (color, str(rng.choice(shapes))), (other, place)


def _end(scene: TableScene, rng: np.random.Generator) -> tuple[Vector3, int] | None:
    """Where the thing's middle will be, and what will hold it: the place, or the table (0)."""
    thing, place = scene.things[THING - 1], scene.things[PLACE - 1]
    stacks = thing.shape == place.shape == "cube"
    if rng.random() < (_STACKED if stacks else _PUT_INTO if place.shape in _VESSELS else 0.0):
        return upon(place, thing, rng), PLACE
    spot = free_spot(spots_beside(place, thing, scene.things[PLACE:], scene.T_base_front))
    return None if spot is None else ((*spot.xy_m, thing.size_m[2] / 2), 0)
