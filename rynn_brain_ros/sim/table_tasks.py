"""Tasks on the table with known truth: an instruction, the scene, and what must be true after.

Sentences come from a closed set. Tasks are unambiguous (each kind of each colour once) but for
`ambiguous` and `absent`, whose right answer is to refuse.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from rynn_brain_ros.geometry import to_matrix
from rynn_brain_ros.sim.objects import PAINT, WALL_M, foot_radius_m, is_hollow
from rynn_brain_ros.sim.table import TableWorld
from rynn_brain_ros.sim.table_layout import Kind, random_scene
from rynn_brain_ros.sim.table_scene import TableScene
from rynn_brain_ros.values import RigidTransform

MOVED_M = 0.03
"""Less is not a move: a neighbour that was brushed."""
LIFTED_M = 0.04
NEXT_TO_M = 0.06
"""Largest gap between two things that stand next to each other."""
_REST_M = 0.01
_ASIDE_M, _ASIDE_JITTER_M, _ASIDE_SIZE_M = (0.48, 0.05), 0.005, 0.04
"""Where things stand that are as good as each other, and how much that varies."""
_UPRIGHT = 0.8
"""Cosine of the tilt up to which a bowl or a plate still counts as standing."""
_GRIPPABLE = ("cube", "ball", "cylinder")


class Relation(str, Enum):
    IN = "in"
    ON = "on"
    NEXT_TO = "next_to"
    HELD = "held"
    NEARER = "nearer"
    """It is at least `MOVED_M` nearer to the reference than it was at first, and never was
    `LIFTED_M` higher."""
    POURED = "poured"
    """Most of what was in it is in the reference, and nothing beside."""
    GIVEN = "given"
    """A person has it."""
    OUT = "out"
    """The drawer is out."""


@dataclass(frozen=True)
class TaskGoal:
    """What must be true of a thing; ``reference`` is empty where it is about nothing else."""

    thing: str
    relation: Relation
    reference: str = ""

    def is_true(self, world: TableWorld) -> bool:
        """By true poses. All but HELD also need that the robot has let go."""
        if self.relation is Relation.HELD:
            return world.held_thing() == self.thing and _bottom_m(world, self.thing) > LIFTED_M
        if self.relation is Relation.POURED:
            return _is_poured(world, self.thing, self.reference)
        if any(touched == self.thing for _, touched in world.touched()):
            return False
        return _TESTS[self.relation](world, self.thing, self.reference)


@dataclass(frozen=True)
class TableTask:
    """``answerable`` is false where the right thing to do is to refuse, and nothing may move;
    with ``either``, one of the goals will do."""

    instruction: str
    scene: TableScene
    goals: tuple[TaskGoal, ...]
    answerable: bool = True
    either: bool = False

    def is_done(self, world: TableWorld) -> bool:
        enough = any if self.either else all
        return self.answerable and enough(goal.is_true(world) for goal in self.goals)

    def misplaced(self, world: TableWorld, start: Mapping[str, RigidTransform]) -> tuple[str, ...]:
        """Things that the task does not move and that are farther than `MOVED_M` from where they
        were in ``start``, which is `TableWorld.things` of before: a bowl is not to be carried off
        with what is put into it."""
        moved = {goal.thing for goal in self.goals}
        return tuple(
            name
            for name, pose in world.things().items()
            if name not in moved and _distance_m(pose, start[name]) > MOVED_M
        )


# --- what the relations mean ----------------------------------------------------------------------


def _is_in(world: TableWorld, thing: str, reference: str) -> bool:
    """Inside the rim as seen from above, over the bottom, no higher than if it lay on others."""
    _, _, height = world.thing_size(reference)
    top = world.things()[reference].translation_m[2] + height / 2
    return (
        _is_upright(world, reference)
        and _horizontal_m(world, thing, reference) < _radius_m(world, reference) - WALL_M
        and top - height < world.things()[thing].translation_m[2]
        and _bottom_m(world, thing) < top + 0.5 * max(world.thing_size(thing))
    )


def _is_on(world: TableWorld, thing: str, reference: str) -> bool:
    """Over it as seen from above, and standing on its top (in a plate: on its floor)."""
    _, _, height = world.thing_size(reference)
    top = world.things()[reference].translation_m[2] + height / 2
    low = top - height if world.scene.thing(reference).shape == "plate" else top - _REST_M
    return (
        _is_upright(world, reference)
        and _horizontal_m(world, thing, reference) < _radius_m(world, reference)
        and low < _bottom_m(world, thing) < top + _REST_M
    )


def _is_next_to(world: TableWorld, thing: str, reference: str) -> bool:
    """On the table, too, and neither in nor under the other."""
    feet = sum(foot_radius_m(world.scene.thing(name)) for name in (thing, reference))
    wider_m = max(_radius_m(world, name) for name in (thing, reference))
    return (
        wider_m < _horizontal_m(world, thing, reference) < feet + NEXT_TO_M
        and abs(_bottom_m(world, thing) - _bottom_m(world, reference)) < _REST_M
    )


def _is_nearer(world: TableWorld, thing: str, reference: str) -> bool:
    first = math.dist(world.scene.thing(thing).xy_m, world.scene.thing(reference).xy_m)
    nearer_m = first - _horizontal_m(world, thing, reference)
    was_lifted = world.risen_m(thing) > LIFTED_M
    return nearer_m > MOVED_M and abs(_bottom_m(world, thing)) < _REST_M and not was_lifted


def _is_poured(world: TableWorld, thing: str, reference: str) -> bool:
    beads = sum(each.count for each in world.scene.fillings if each.vessel == thing)
    inside, left = world.filled(reference), world.filled(thing)
    return 0 < beads == inside + left and inside > left


def _is_given(world: TableWorld, thing: str, _: str) -> bool:
    return thing in world.given


def _is_out(world: TableWorld, _: str, __: str) -> bool:
    return world.drawer_out_m() > MOVED_M


_TESTS: Mapping[Relation, Callable[[TableWorld, str, str], bool]] = {
    Relation.IN: _is_in,
    Relation.ON: _is_on,
    Relation.NEXT_TO: _is_next_to,
    Relation.NEARER: _is_nearer,
    Relation.GIVEN: _is_given,
    Relation.OUT: _is_out,
}


def _bottom_m(world: TableWorld, name: str) -> float:
    """Height of its lowest point, however it lies."""
    pose, size = world.things()[name], np.array(world.thing_size(name))
    tilt = np.abs(to_matrix(pose)[2, :3])
    shape = world.scene.thing(name).shape
    if shape == "ball":
        half = size[0] / 2
    elif shape == "cube":
        half = float(tilt @ size) / 2
    else:
        half = float(np.hypot(tilt[0], tilt[1]) * size[0] + tilt[2] * size[2]) / 2
    return float(pose.translation_m[2] - half)


def _is_upright(world: TableWorld, name: str) -> bool:
    thing = world.scene.thing(name)
    if not is_hollow(thing.shape) and thing.shape != "plate":
        return True
    return float(to_matrix(world.things()[name])[2, 2]) > _UPRIGHT


def _radius_m(world: TableWorld, name: str) -> float:
    return world.thing_size(name)[0] / 2


def _horizontal_m(world: TableWorld, a: str, b: str) -> float:
    poses = world.things()
    gap = np.subtract(poses[a].translation_m, poses[b].translation_m)
    return float(np.hypot(gap[0], gap[1]))


def _distance_m(a: RigidTransform, b: RigidTransform) -> float:
    return float(np.linalg.norm(np.subtract(a.translation_m, b.translation_m)))


# --- the tasks ------------------------------------------------------------------------------------


PICK_AND_PLACE = (Relation.IN, Relation.ON, Relation.NEXT_TO, Relation.HELD)


def one_step(seed: int, relations: Sequence[Relation] = PICK_AND_PLACE) -> TableTask:
    """One thing, one sentence; ``relations`` are those to choose from."""
    rng = np.random.default_rng((seed, 1))
    relation = relations[int(rng.integers(len(relations)))]
    return _ONE_STEP[relation](seed, rng)


def many_steps(seed: int) -> TableTask:
    """Two or three things, in one sentence."""
    rng = np.random.default_rng((seed, 2))
    makers = (_two_places, _all_cubes, _two_into_one, _stack_then_put)
    return makers[int(rng.integers(len(makers)))](seed, rng)


def ambiguous(seed: int) -> TableTask:
    """Two things fit the words."""
    rng = np.random.default_rng((seed, 3))
    color, other = _colors(rng)[:2]
    shape = _one_of(rng, _GRIPPABLE)
    scene = random_scene(seed, ((color, shape), (color, shape), (other, "bowl")), 1)
    return TableTask(_transfer(rng, f"{color} {shape}", f"{other} bowl"), scene, (), False)


def either(seed: int) -> TableTask:
    """Two cubes of 4 cm, square to the arm, 10 cm from each other, each within `_ASIDE_JITTER_M` of
    the same place on every table: whoever moves has to decide, and nothing tells them how. Between
    the cubes there is no room for open fingers."""
    rng = np.random.default_rng((seed, 5))
    kinds = [(color, "cube") for color in _colors(rng)[:2]]
    scene = random_scene(seed, kinds, n_clutter=0)
    size_m = (_ASIDE_SIZE_M,) * 3
    things = tuple(
        replace(
            thing,
            xy_m=_about(rng, (_ASIDE_M[0], side * _ASIDE_M[1])),
            size_m=size_m,
            yaw_rad=0.0,
        )
        for thing, side in zip(scene.things, (1, -1), strict=True)
    )
    goals = tuple(TaskGoal(thing.name, Relation.HELD) for thing in things)
    return TableTask("pick up either cube", replace(scene, things=things), goals, either=True)


def _about(rng: np.random.Generator, xy_m: tuple[float, float]) -> tuple[float, float]:
    x, y = rng.uniform(-_ASIDE_JITTER_M, _ASIDE_JITTER_M, 2)
    return (xy_m[0] + float(x), xy_m[1] + float(y))


def absent(seed: int) -> TableTask:
    """What is named is not there; something of the same shape in another colour is."""
    rng = np.random.default_rng((seed, 4))
    missing, there, bowl, spare = _colors(rng)[:4]
    shape = _one_of(rng, _GRIPPABLE)
    kinds = ((there, shape), (bowl, "bowl"), (spare, "mug"))
    scene = random_scene(seed, kinds, n_clutter=0)
    return TableTask(_transfer(rng, f"{missing} {shape}", f"{bowl} bowl"), scene, (), False)


def _put_in(seed: int, rng: np.random.Generator) -> TableTask:
    thing, bowl = _kinds(rng, _one_of(rng, _GRIPPABLE), "bowl")
    goal = TaskGoal(_name(thing), Relation.IN, _name(bowl))
    return TableTask(
        _transfer(rng, goal.thing, goal.reference), random_scene(seed, (thing, bowl)), (goal,)
    )


def _put_on(seed: int, rng: np.random.Generator) -> TableTask:
    shape = _one_of(rng, (*_GRIPPABLE, "stack"))
    if shape == "stack":
        return _stack(seed, rng)
    thing, plate = _kinds(rng, shape, "plate")
    goal = TaskGoal(_name(thing), Relation.ON, _name(plate))
    text = f"{_one_of(rng, ('put', 'place'))} the {goal.thing} onto the {goal.reference}"
    return TableTask(text, random_scene(seed, (thing, plate)), (goal,))


def _stack(seed: int, rng: np.random.Generator) -> TableTask:
    top, below = _kinds(rng, "cube", "cube")
    goal = TaskGoal(_name(top), Relation.ON, _name(below))
    text = f"stack the {goal.thing} on the {goal.reference}"
    return TableTask(text, random_scene(seed, (top, below)), (goal,))


def _put_next_to(seed: int, rng: np.random.Generator) -> TableTask:
    thing, other = _kinds(rng, _one_of(rng, ("cube", "cylinder")), _one_of(rng, _GRIPPABLE))
    goal = TaskGoal(_name(thing), Relation.NEXT_TO, _name(other))
    text = f"move the {goal.thing} next to the {goal.reference}"
    return TableTask(text, random_scene(seed, (thing, other)), (goal,))


def _pick_up(seed: int, rng: np.random.Generator) -> TableTask:
    (thing,) = _kinds(rng, _one_of(rng, _GRIPPABLE))
    goal = TaskGoal(_name(thing), Relation.HELD)
    return TableTask(f"pick up the {goal.thing}", random_scene(seed, (thing,), 3), (goal,))


def _two_places(seed: int, rng: np.random.Generator) -> TableTask:
    shapes = (_one_of(rng, _GRIPPABLE), _one_of(rng, _GRIPPABLE), "bowl", "plate")
    first, second, bowl, plate = _kinds(rng, *shapes)
    goals = (
        TaskGoal(_name(first), Relation.IN, _name(bowl)),
        TaskGoal(_name(second), Relation.ON, _name(plate)),
    )
    text = (
        f"first put the {_name(first)} into the bowl, then put the {_name(second)} onto the plate"
    )
    return TableTask(text, random_scene(seed, (first, second, bowl, plate), 1), goals)


def _all_cubes(seed: int, rng: np.random.Generator) -> TableTask:
    *cubes, bowl = _kinds(rng, *["cube"] * int(rng.integers(2, 4)), "bowl")
    goals = tuple(TaskGoal(_name(cube), Relation.IN, _name(bowl)) for cube in cubes)
    scene = random_scene(seed, (*cubes, bowl), 1, ("ball", "cylinder", "mug"), small=True)
    return TableTask("put all cubes into the bowl", scene, goals)


def _two_into_one(seed: int, rng: np.random.Generator) -> TableTask:
    a, b, bowl = _kinds(rng, _one_of(rng, _GRIPPABLE), "cube", "bowl")
    goals = tuple(TaskGoal(_name(kind), Relation.IN, _name(bowl)) for kind in (a, b))
    text = f"put the {_name(a)} and the {_name(b)} into the {_name(bowl)}"
    return TableTask(text, random_scene(seed, (a, b, bowl), 1, small=True), goals)


def _stack_then_put(seed: int, rng: np.random.Generator) -> TableTask:
    top, below, other, bowl = _kinds(
        rng, "cube", "cube", _one_of(rng, ("ball", "cylinder")), "bowl"
    )
    goals = (
        TaskGoal(_name(top), Relation.ON, _name(below)),
        TaskGoal(_name(other), Relation.IN, _name(bowl)),
    )
    text = (
        f"stack the {_name(top)} on the {_name(below)}, "
        f"then put the {_name(other)} into the {_name(bowl)}"
    )
    return TableTask(text, random_scene(seed, (top, below, other, bowl), 1), goals)


_ONE_STEP: Mapping[Relation, Callable[[int, np.random.Generator], TableTask]] = {
    Relation.IN: _put_in,
    Relation.ON: _put_on,
    Relation.NEXT_TO: _put_next_to,
    Relation.HELD: _pick_up,
}


def _transfer(rng: np.random.Generator, thing: str, bowl: str) -> str:
    return f"{_one_of(rng, ('put', 'place', 'move'))} the {thing} into the {bowl}"


def _colors(rng: np.random.Generator) -> list[str]:
    return [str(color) for color in rng.permutation(list(PAINT))]


def _kinds(rng: np.random.Generator, *shapes: str) -> list[Kind]:
    """Shapes in colours that differ."""
    return list(zip(_colors(rng), shapes, strict=False))


def _name(kind: Kind) -> str:
    return " ".join(kind)


def _one_of(rng: np.random.Generator, choices: Sequence[str]) -> str:
    return choices[int(rng.integers(len(choices)))]
