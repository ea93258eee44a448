"""A world with its robot and a task: what an episode is played on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from rynn_brain_ros.models import Engines
from rynn_brain_ros.planning.episode import Episode
from rynn_brain_ros.planning.robots import Robot, panda, rover
from rynn_brain_ros.safety import read_verdicts
from rynn_brain_ros.sim.arm import ArmActuator
from rynn_brain_ros.sim.base import BaseActuator
from rynn_brain_ros.sim.panda_meshes import MESHES, PLAIN, check_meshes
from rynn_brain_ros.sim.rendering import load_mujoco
from rynn_brain_ros.sim.room import RoomScene, RoomWorld
from rynn_brain_ros.sim.room_model import CEILING_GROUP
from rynn_brain_ros.sim.room_tasks import RoomTask, go_to
from rynn_brain_ros.sim.room_tasks import absent as absent_in_room
from rynn_brain_ros.sim.sensing import CameraStream
from rynn_brain_ros.sim.skill_tasks import hand_over, open_drawer, pour, push_towards
from rynn_brain_ros.sim.table import TableWorld
from rynn_brain_ros.sim.table_furnishing import DRAWER
from rynn_brain_ros.sim.table_layout import random_scene
from rynn_brain_ros.sim.table_tasks import (
    Relation,
    TableTask,
    TaskGoal,
    absent,
    ambiguous,
    either,
    many_steps,
    one_step,
)
from rynn_brain_ros.sim.viewing import Viewpoint, Window, check_screen
from rynn_brain_ros.sim.world import World
from rynn_brain_ros.values import Actuator, InputError, RefusalCode, Task
from rynn_brain_ros.view.plane import Background

T = TypeVar("T")
_ASKED = {"table": Task.PLAN, "room": Task.NAVIGATE}
"""What an episode of each world asks its engine."""
WORLDS = tuple(_ASKED)


@dataclass(frozen=True)
class Measured:
    """What the world's own truth says at the end; the brain never sees any of it.

    ``done`` is ``None`` where nobody knows what the words wanted. ``misplaced`` are things that
    moved and were not part of the task; ``peaks`` are the largest shares of the robot's limits
    that any command took, by limit.
    """

    done: bool | None
    misplaced: tuple[str, ...] = ()
    collisions: int = 0
    violations: int = 0


@dataclass(frozen=True)
class Stage:
    """Everything of one episode but the brain. ``take`` is a person taking what the hand holds."""

    world: World
    actuator: Actuator
    robot: Robot
    camera: CameraStream
    task: str
    contents: str
    measure: Callable[[], Measured]
    others: tuple[CameraStream, ...] = ()
    traced_frame: str = ""
    answerable: bool = True
    looks_around: bool = False
    take: Callable[[], None] = lambda: None
    from_above: Callable[[], Background | None] = lambda: None
    window: Window | None = None

    def judge(self, episode: Episode, measured: Measured) -> bool | None:
        """Whether the right thing happened: the task is truly done and said to be, or, where it
        cannot be done, the engine said so, and nothing moved but to look around. ``None`` where
        nobody knows what the words wanted."""
        if self.answerable:
            return None if measured.done is None else episode.confirmed and measured.done
        moved = any(turn.moved for turn in episode.turns)
        declined = episode.cause == RefusalCode.NO_GROUNDING.value
        return declined and (self.looks_around or not moved)

    def close(self) -> None:
        if self.window is not None:
            self.window.close()
        self.world.close()


@dataclass(frozen=True)
class StageConfig:
    """Which stage. ``kind`` chooses the sort of task where ``task`` is empty: ``one``, ``many``,
    ``push``, ``pour``, ``hand_over``, ``drawer``, ``either``, ``absent`` or ``ambiguous``;
    ``demo`` is one scene that has a bit of everything. With ``engine_verdict``, a
    ``verdict.json``, nothing moves for an engine that did not pass its check, as on a robot; a
    simulator needs none. ``arm_look`` is one of `ARM_LOOKS`."""

    world: str = "table"
    seed: int = 0
    task: str = ""
    kind: str = "demo"
    picture_hz: float = 5.0
    dry_run: bool = False
    view: bool = False
    require_approval: bool = False
    engine_verdict: Path | None = None
    arm_look: str = PLAIN


def check_stage(config: StageConfig) -> None:
    """`InputError` where `make_stage` would fail on what is known at once: an unknown world, no
    simulator, no screen, no meshes. Cheap, so ask it before anything large is loaded."""
    if config.seed < 0:
        raise InputError(f"there is no scene {config.seed}: give a seed of 0 or more")
    if config.world not in WORLDS:
        raise InputError(f"unknown world {config.world!r}: use {' or '.join(WORLDS)}")
    load_mujoco()
    if config.arm_look == MESHES:
        if config.world != "table":
            raise InputError(f"there is no arm in the {config.world}: leave --arm-look out")
        check_meshes()
    if config.view:
        check_screen()


def check_engines(config: StageConfig, engines: Engines) -> None:
    """`EngineError` where none of them can decide what to do in this world."""
    engines.for_task(_ASKED[config.world])


def make_stage(config: StageConfig) -> Stage:
    """Raises `InputError` as `check_stage`, and for an unknown kind of task."""
    check_stage(config)
    return _table(config) if config.world == "table" else _room(config)


def make_stage_at(config: StageConfig, rate_hz: float) -> Stage:
    """With pictures of all cameras as often as a data set's frames."""
    stage = make_stage(replace(config, picture_hz=rate_hz))
    return replace(stage, others=tuple(replace(s, rate_hz=rate_hz) for s in stage.others))


def _window(world: TableWorld | RoomWorld, view: Viewpoint) -> Window:
    window = Window(world, view)
    world.add_controller(window)
    return window


def _checked(make: Callable[[bool, bool, str], Robot], config: StageConfig) -> Robot:
    """The robot, moved by any engine or by those only that have passed."""
    path = config.engine_verdict
    if path is None:
        return make(config.dry_run, config.require_approval, "not_required")
    robot = make(config.dry_run, config.require_approval, "required")
    return replace(robot, verdicts=read_verdicts(path))


# --- the table ------------------------------------------------------------------------------------

_TABLE_VIEW = Viewpoint((0.35, 0.0, 0.2), 1.7, 150.0, -25.0)
_DEMO_KINDS = (
    ("red", "cube"),
    ("blue", "ball"),
    ("green", "cylinder"),
    ("yellow", "bowl"),
    ("purple", "plate"),
)


def _demo_task(seed: int) -> TableTask:
    goal = TaskGoal("red cube", Relation.IN, "yellow bowl")
    scene = random_scene(seed, _DEMO_KINDS, n_clutter=0)
    return TableTask("put the red cube into the bowl", scene, (goal,))


_TABLE_TASKS: Mapping[str, Callable[[int], TableTask]] = {
    "demo": _demo_task,
    "one": one_step,
    "many": many_steps,
    "absent": absent,
    "ambiguous": ambiguous,
    "either": either,
    "push": push_towards,
    "pour": pour,
    "hand_over": hand_over,
    "drawer": open_drawer,
}


_SCENE_FOR = (("pour", "pour"), ("drawer", "drawer"))
"""Words of a demo's task, and the kind of scene that has what they are about."""


def _table(config: StageConfig) -> Stage:
    if config.kind == "demo":
        kinds = (kind for word, kind in _SCENE_FOR if word in config.task.lower())
        config = replace(config, kind=next(kinds, "demo"))
    task = _of_kind(_TABLE_TASKS, config)(config.seed)
    look = replace(task.scene.look, arm=config.arm_look)
    world = TableWorld(replace(task.scene, look=look))
    arm = ArmActuator(world)
    start = world.things()
    asked = config.task or task.instruction
    known = asked == task.instruction
    named = {name for goal in task.goals for name in (goal.thing, goal.reference)} - {""}
    # Nobody knows which things other words mean: fingers may touch any.
    targets = tuple(named) if known else (*start, DRAWER)

    def measure() -> Measured:
        return Measured(
            done=task.is_done(world) if known else None,
            misplaced=task.misplaced(world, start) if known else (),
            collisions=world.collisions(*targets),
            violations=arm.peaks.violations + world.streamed.peaks.violations,
        )

    return Stage(
        world=world,
        actuator=arm,
        robot=_checked(panda, config),
        camera=CameraStream("front", rate_hz=config.picture_hz),
        others=(CameraStream("wrist", with_depth=False, rate_hz=1.0),),
        task=asked,
        contents=_listed("On the table", [thing.name for thing in task.scene.things]),
        measure=measure,
        traced_frame="panda_tcp",
        answerable=task.answerable or not known,
        take=world.take_from_hand,
        window=_window(world, _TABLE_VIEW) if config.view else None,
    )


# --- the room -------------------------------------------------------------------------------------

_ROOM_TASKS: Mapping[str, Callable[[int], RoomTask]] = {
    "demo": go_to,
    "one": go_to,
    "absent": absent_in_room,
}


def _room(config: StageConfig) -> Stage:
    task = _of_kind(_ROOM_TASKS, config)(config.seed)
    world = RoomWorld(task.scene)
    base = BaseActuator(world, world.occupancy())
    asked = config.task or task.instruction
    known = asked == task.instruction

    def measure() -> Measured:
        done = task.is_done(world) if known else None
        return Measured(done=done, collisions=world.collisions(), violations=base.violations)

    return Stage(
        world=world,
        actuator=base,
        robot=_checked(rover, config),
        camera=CameraStream("forward", rate_hz=config.picture_hz),
        task=asked,
        contents=_listed("In the room", sorted(world.things())),
        measure=measure,
        traced_frame="base_link",
        answerable=task.answerable or not known,
        looks_around=True,
        from_above=lambda: _from_above(world),
        window=_window(world, _room_view(task.scene)) if config.view else None,
    )


def _room_view(scene: RoomScene) -> Viewpoint:
    """Over the wall in the south, through the ceiling."""
    return Viewpoint((0.0, 0.0, 0.0), 1.4 * max(scene.size_m), 90.0, -60.0, (CEILING_GROUP,))


def _from_above(world: RoomWorld) -> Background:
    """Turned so that x goes up and y to the left, as a map of the way is drawn."""
    top = world.render_top()
    x0, y0, x1, y1 = top.bounds_m
    return Background(np.ascontiguousarray(np.rot90(top.rgb)), (x0, x1, y0, y1))


def _of_kind(makers: Mapping[str, T], config: StageConfig) -> T:
    if config.kind not in makers:
        raise InputError(
            f"the {config.world} has no tasks of kind {config.kind!r}: use {', '.join(makers)}"
        )
    return makers[config.kind]


def _listed(where: str, names: list[str]) -> str:
    articles = ("an" if name[0] in "aeiou" else "a" for name in names)
    return f"{where}: {', '.join(f'{a} {name}' for a, name in zip(articles, names, strict=True))}."
