"""Tasks on the table that take more than to pick and to place."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from rynn_brain_ros.sim.objects import PAINT
from rynn_brain_ros.sim.table_furnishing import DRAWER, Drawer, Filling
from rynn_brain_ros.sim.table_layout import Kind, random_scene
from rynn_brain_ros.sim.table_scene import TableScene
from rynn_brain_ros.sim.table_tasks import Relation, TableTask, TaskGoal
from rynn_brain_ros.values import InputError

_WAY_M = 0.3
_TRIES, _NEXT = 40, 100_003


def push_towards(seed: int) -> TableTask:
    """A cube, and a bowl to push it to, with a way between them."""
    cube, bowl, other = _colors(seed, 5)[:3]
    kinds = ((cube, "cube"), (bowl, "bowl"), (other, "plate"))

    def apart(scene: TableScene) -> bool:
        start, end, third = (thing.xy_m for thing in scene.things)
        middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        return math.dist(start, end) > _WAY_M and math.dist(middle, third) > _WAY_M / 2

    scene = _scene(seed, kinds, apart)
    goal = TaskGoal(f"{cube} cube", Relation.NEARER, f"{bowl} bowl")
    return TableTask(f"push the {goal.thing} towards the bowl", scene, (goal,))


def pour(seed: int) -> TableTask:
    """A mug full of beads, and a bowl where the wrist can be tilted."""
    mug, bowl, beads, other = _colors(seed, 6)[:4]
    kinds = ((mug, "mug"), (bowl, "bowl"), (other, "cube"))
    scene = _scene(seed, kinds, lambda scene: 0.4 < math.hypot(*scene.things[1].xy_m) < 0.64)
    goal = TaskGoal(f"{mug} mug", Relation.POURED, f"{bowl} bowl")
    scene = replace(scene, fillings=(Filling(goal.thing, beads),))
    return TableTask(f"pour the {goal.thing} into the bowl", scene, (goal,))


def hand_over(seed: int) -> TableTask:
    """A cube that somebody wants to have."""
    cube, other = _colors(seed, 7)[:2]
    scene = random_scene(seed, ((cube, "cube"), (other, "ball")), 1)
    goal = TaskGoal(f"{cube} cube", Relation.GIVEN)
    return TableTask(f"hand me the {goal.thing}", scene, (goal,))


def open_drawer(seed: int) -> TableTask:
    """A drawer, and nothing in its way."""
    chest, handle, cube = _colors(seed, 8)[:3]
    scene = random_scene(seed, ((cube, "cube"),), 0)
    aside = tuple(replace(thing, xy_m=(0.45, -0.22)) for thing in scene.things)
    scene = replace(scene, things=aside, drawer=Drawer(color=chest, handle_color=handle))
    return TableTask("open the drawer", scene, (TaskGoal(DRAWER, Relation.OUT),))


def _scene(seed: int, kinds: Sequence[Kind], fits: Callable[[TableScene], bool]) -> TableScene:
    """The first table of a few that fits."""
    tables = (random_scene(seed + _NEXT * number, kinds, 0) for number in range(_TRIES))
    for scene in tables:
        if fits(scene):
            return scene
    raise InputError(f"of {_TRIES} tables for seed {seed} none fits the task: take another seed")


def _colors(seed: int, kind: int) -> list[str]:
    rng = np.random.default_rng((seed, kind))
    return [str(color) for color in rng.permutation(list(PAINT))]
