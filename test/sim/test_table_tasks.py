"""Tasks on the table: their words name what is there, and their truth is the physics'."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from rynn_brain_ros.models.color_words import nouns
from rynn_brain_ros.sim.tabletop import Thing

pytest.importorskip("mujoco")

from rynn_brain_ros.sim.panda import HAND, TCP_SITE
from rynn_brain_ros.sim.table import TableWorld
from rynn_brain_ros.sim.table_scene import TableScene
from rynn_brain_ros.sim.table_tasks import (
    MOVED_M,
    PICK_AND_PLACE,
    Relation,
    TableTask,
    TaskGoal,
    absent,
    ambiguous,
    either,
    many_steps,
    one_step,
)

SCENE = TableScene(
    (
        Thing("red cube", "red", "cube", (0.42, -0.22), (0.04, 0.04, 0.04)),
        Thing("blue cube", "blue", "cube", (0.60, -0.20), (0.045, 0.045, 0.045)),
        Thing("green ball", "green", "ball", (0.40, 0.0), (0.045, 0.045, 0.045)),
        Thing("orange cylinder", "orange", "cylinder", (0.60, 0.0), (0.04, 0.04, 0.07)),
        Thing("yellow bowl", "yellow", "bowl", (0.42, 0.22), (0.16, 0.16, 0.05)),
        Thing("purple plate", "purple", "plate", (0.60, 0.23), (0.16, 0.16, 0.014)),
    )
)


@pytest.fixture
def world() -> Iterator[TableWorld]:
    made = TableWorld(SCENE)
    yield made
    made.close()


def drop(world: TableWorld, thing: str, onto: str, dx_m: float = 0.0, dz_m: float = 0.06) -> None:
    """Lets the thing fall from ``dz_m`` above the middle of another, and waits."""
    x, y, z = world.things()[onto].translation_m
    world.move_thing(thing, (x + dx_m, y, z + dz_m))
    world.step(1.5)


def holds(world: TableWorld, thing: str, relation: Relation, reference: str = "") -> bool:
    return TaskGoal(thing, relation, reference).is_true(world)


def grip(world: TableWorld, thing: str) -> None:
    """The thing floats between the fingers until they have it."""

    def carry(_: float) -> None:
        if world.held_thing() is None:
            x, y, z = world.data.site(TCP_SITE).xpos
            world.move_thing(thing, (x, y, z))

    world.add_controller(carry)
    world.data.actuator(HAND).ctrl[0] = 0.0
    world.step(0.8)


# --- what must be true ----------------------------------------------------------------------------


@pytest.mark.parametrize("thing", ["red cube", "green ball", "orange cylinder"])
def test_what_fell_into_the_bowl_is_in_it(world: TableWorld, thing: str):
    assert not holds(world, thing, Relation.IN, "yellow bowl")
    drop(world, thing, "yellow bowl", dz_m=0.08)
    assert holds(world, thing, Relation.IN, "yellow bowl")


def test_two_cubes_are_both_in_the_bowl(world: TableWorld):
    drop(world, "red cube", "yellow bowl", -0.02, 0.08)
    drop(world, "blue cube", "yellow bowl", 0.03, 0.09)
    assert holds(world, "red cube", Relation.IN, "yellow bowl")
    assert holds(world, "blue cube", Relation.IN, "yellow bowl")


def test_beside_the_bowl_is_not_in_it(world: TableWorld):
    drop(world, "red cube", "yellow bowl", dx_m=-0.115, dz_m=0.0)
    assert not holds(world, "red cube", Relation.IN, "yellow bowl")


def test_high_above_the_bowl_is_not_in_it(world: TableWorld):
    x, y, z = world.things()["yellow bowl"].translation_m
    world.move_thing("red cube", (x, y, z + 0.15))
    assert not holds(world, "red cube", Relation.IN, "yellow bowl")


@pytest.mark.parametrize("thing", ["red cube", "green ball", "orange cylinder"])
def test_what_fell_onto_the_plate_is_on_it(world: TableWorld, thing: str):
    assert not holds(world, thing, Relation.ON, "purple plate")
    drop(world, thing, "purple plate")
    assert holds(world, thing, Relation.ON, "purple plate")


def test_hovering_over_the_plate_is_not_on_it(world: TableWorld):
    x, y, z = world.things()["purple plate"].translation_m
    world.move_thing("red cube", (x, y, z + 0.06))
    assert not holds(world, "red cube", Relation.ON, "purple plate")


def test_a_stacked_cube_is_on_the_other_and_not_the_other_way_round(world: TableWorld):
    drop(world, "red cube", "blue cube", dz_m=0.045)
    assert holds(world, "red cube", Relation.ON, "blue cube")
    assert not holds(world, "blue cube", Relation.ON, "red cube")


def test_a_cube_that_fell_off_is_not_on_the_other(world: TableWorld):
    drop(world, "red cube", "blue cube", dx_m=-0.04, dz_m=0.05)
    assert not holds(world, "red cube", Relation.ON, "blue cube")


def test_near_on_the_table_is_next_to_and_far_is_not(world: TableWorld):
    assert not holds(world, "red cube", Relation.NEXT_TO, "orange cylinder")
    drop(world, "red cube", "orange cylinder", dx_m=-0.08, dz_m=-0.013)
    assert holds(world, "red cube", Relation.NEXT_TO, "orange cylinder")


def test_on_top_is_not_next_to(world: TableWorld):
    drop(world, "red cube", "blue cube", dz_m=0.045)
    assert not holds(world, "red cube", Relation.NEXT_TO, "blue cube")


@pytest.mark.parametrize("vessel", ["yellow bowl", "purple plate"])
def test_in_a_vessel_is_not_next_to_it(world: TableWorld, vessel: str):
    drop(world, "red cube", vessel, dz_m=0.06)
    assert not holds(world, "red cube", Relation.NEXT_TO, vessel)
    assert not holds(world, vessel, Relation.NEXT_TO, "red cube")


def test_nearer_is_what_was_moved_along_the_table_and_not_carried(world: TableWorld):
    x, y, z = world.things()["red cube"].translation_m
    world.move_thing("red cube", (x, y + 0.1, z))
    world.step(0.2)
    assert holds(world, "red cube", Relation.NEARER, "yellow bowl")
    world.move_thing("red cube", (x, y + 0.1, z + 0.1))
    world.step(1.0)
    assert not holds(world, "red cube", Relation.NEARER, "yellow bowl")


def test_between_the_fingers_in_the_air_is_held(world: TableWorld):
    assert not holds(world, "red cube", Relation.HELD)
    grip(world, "red cube")
    assert holds(world, "red cube", Relation.HELD)
    assert not holds(world, "green ball", Relation.HELD)


def test_what_the_hand_still_holds_is_not_put_down(world: TableWorld):
    grip(world, "red cube")
    x, y, z = world.things()["red cube"].translation_m
    world.move_thing("blue cube", (x, y, z - 0.043))
    assert not holds(world, "red cube", Relation.ON, "blue cube")


# --- tasks ----------------------------------------------------------------------------------------


def test_a_task_is_done_when_all_its_goals_are(world: TableWorld):
    goals = (
        TaskGoal("red cube", Relation.IN, "yellow bowl"),
        TaskGoal("green ball", Relation.ON, "purple plate"),
    )
    task = TableTask("put them away", SCENE, goals)
    drop(world, "red cube", "yellow bowl", dz_m=0.08)
    assert not task.is_done(world)
    drop(world, "green ball", "purple plate")
    assert task.is_done(world)


def test_only_what_the_task_did_not_name_is_misplaced(world: TableWorld):
    task = TableTask("", SCENE, (TaskGoal("red cube", Relation.ON, "blue cube"),))
    start = world.things()
    for name in ("red cube", "orange cylinder"):
        x, y, z = start[name].translation_m
        world.move_thing(name, (x - 2 * MOVED_M, y, z))
    x, y, z = start["green ball"].translation_m
    world.move_thing("green ball", (x + MOVED_M / 2, y, z))
    assert task.misplaced(world, start) == ("orange cylinder",)


def test_a_bowl_that_went_off_with_what_was_put_into_it_is_misplaced(world: TableWorld):
    task = TableTask("", SCENE, (TaskGoal("red cube", Relation.IN, "yellow bowl"),))
    start = world.things()
    drop(world, "red cube", "yellow bowl", dz_m=0.08)
    assert task.is_done(world) and task.misplaced(world, start) == ()
    x, y, z = start["yellow bowl"].translation_m
    world.move_thing("yellow bowl", (x, y - 2 * MOVED_M, z))
    assert task.misplaced(world, start) == ("yellow bowl",)


def color_shapes(task: TableTask) -> list[tuple[str, str]]:
    return [(thing.color, thing.shape) for thing in task.scene.things]


@pytest.mark.parametrize("make", [one_step, many_steps])
@pytest.mark.parametrize("seed", range(6))
def test_the_words_name_what_the_goals_are_about(make: Callable[[int], TableTask], seed: int):
    task = make(seed)
    said = [(noun.color, noun.shape) for noun in nouns(task.instruction)]
    meant = {name for goal in task.goals for name in (goal.thing, goal.reference) if name}
    for name in meant:
        thing = task.scene.thing(name)
        assert {(thing.color, thing.shape), (None, thing.shape)} & set(said)
    for color, shape in said:
        assert any((color or c, shape) == (c, s) for c, s in color_shapes(task))


@pytest.mark.parametrize("make", [one_step, many_steps])
@pytest.mark.parametrize("seed", range(6))
def test_every_colour_is_there_once_and_nothing_is_done_yet(
    make: Callable[[int], TableTask], seed: int
):
    task = make(seed)
    colors = [thing.color for thing in task.scene.things]
    assert len(set(colors)) == len(colors)
    world = TableWorld(task.scene)
    assert task.answerable
    assert not any(goal.is_true(world) for goal in task.goals)


@pytest.mark.parametrize("relation", PICK_AND_PLACE)
def test_the_relation_of_a_single_step_can_be_chosen(relation: Relation):
    (goal,) = one_step(3, (relation,)).goals
    assert goal.relation is relation


def test_all_cubes_means_every_cube_on_the_table():
    tasks = [task for task in map(many_steps, range(12)) if "all cubes" in task.instruction]
    assert tasks
    for task in tasks:
        cubes = {thing.name for thing in task.scene.things if thing.shape == "cube"}
        assert {goal.thing for goal in task.goals} == cubes


@pytest.mark.parametrize("seed", range(3))
def test_ambiguous_words_fit_two_things(seed: int):
    task = ambiguous(seed)
    first = nouns(task.instruction)[0]
    assert color_shapes(task).count((first.color, first.shape)) == 2
    assert not task.answerable


@pytest.mark.parametrize("seed", range(3))
def test_what_is_absent_is_not_there_but_its_shape_is(seed: int):
    task = absent(seed)
    first = nouns(task.instruction)[0]
    assert first.color not in {color for color, _ in color_shapes(task)}
    assert first.shape in {shape for _, shape in color_shapes(task)}


def test_what_cannot_be_done_is_never_done(world: TableWorld):
    task = absent(0)
    assert not task.is_done(TableWorld(task.scene))


@pytest.mark.parametrize("seed", range(3))
def test_either_of_two_equal_targets_will_do(seed: int):
    task = either(seed)
    left, right = task.scene.things
    assert (left.shape, left.size_m) == (right.shape, right.size_m)
    assert np.subtract(left.xy_m, right.xy_m) == pytest.approx((0, 0.1), abs=0.02)
    for thing in (left, right):
        world = TableWorld(task.scene)
        assert not task.is_done(world)
        grip(world, thing.name)
        assert task.is_done(world)


@pytest.mark.parametrize("make", [one_step, many_steps, ambiguous, absent, either])
def test_a_seed_gives_the_same_task(make: Callable[[int], TableTask]):
    assert make(5) == make(5)
    assert make(5) != make(6)


def test_a_scene_of_small_cubes_fits_its_bowl():
    """Three cubes, let go where a hand would, lie in the bowl."""
    task = next(t for t in map(many_steps, range(40)) if len(t.goals) == 3)
    world = TableWorld(task.scene)
    for number, goal in enumerate(task.goals):
        angle = 2 * np.pi * number / 3
        x, y, z = world.things()[goal.reference].translation_m
        world.move_thing(goal.thing, (x + 0.02 * np.cos(angle), y + 0.02 * np.sin(angle), z + 0.08))
        world.step(1.0)
    assert task.is_done(world)
