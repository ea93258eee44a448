"""The simulated robots as the `sim` node runs them: a world, its actuators, and what they are asked
for over ROS. Everything but the settings is for the world's own thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.config import setting
from rynn_brain_ros.geometry import TransformBuffer, compose
from rynn_brain_ros.sim.arm import ArmActuator
from rynn_brain_ros.sim.base import BaseActuator
from rynn_brain_ros.sim.kinematics import Kinematics
from rynn_brain_ros.sim.live import Lane, Running
from rynn_brain_ros.sim.motions import Timed
from rynn_brain_ros.sim.moveit import CartesianPlan, MoveItPlanner
from rynn_brain_ros.sim.moveit_scene import PlanningScene
from rynn_brain_ros.sim.objects import PAINT, SHAPES
from rynn_brain_ros.sim.room import RoomWorld
from rynn_brain_ros.sim.room_tasks import absent as absent_in_room
from rynn_brain_ros.sim.room_tasks import go_to
from rynn_brain_ros.sim.sensing import CameraStream, Sink, Watcher, WorldClock
from rynn_brain_ros.sim.table import TableWorld
from rynn_brain_ros.sim.table_layout import random_scene
from rynn_brain_ros.sim.table_scene import TableScene, scene_spec
from rynn_brain_ros.sim.table_tasks import TableTask, absent, ambiguous, many_steps, one_step
from rynn_brain_ros.sim.world import World
from rynn_brain_ros.values import (
    GripGoal,
    InputError,
    Point2,
    Refusal,
    RigidTransform,
    TransformError,
)

Floats = NDArray[np.float64]

DEMO = "red cube, blue ball, green cylinder, yellow bowl, purple plate"
_STATE_S = 0.02


@dataclass(frozen=True)
class SimConfig:
    """The sim node's settings."""

    world: str = setting(
        "table",
        "what is simulated: an arm at a table, or a base in a room",
        choices=("table", "room"),
    )
    scene: str = setting(
        "demo",
        "what stands there: demo, or the things of a task of kind one, many, absent or ambiguous "
        "(in the room: demo or absent)",
    )
    objects: str = setting(
        "", "things on the table instead of the scene's, as in 'red cube, yellow bowl'"
    )
    seed: int = setting(0, "which of the scenes of this kind", 0, 1_000_000)
    picture_rate: float = setting(5.0, "pictures of each camera per second [Hz]", 0.1, 30.0)
    realtime_factor: float = setting(
        1.0, "how much faster than the wall clock the world goes", 0.05, 10.0
    )
    publish_clock: bool = setting(
        True,
        "publish /clock and stamp with the world's own time, for nodes with use_sim_time; "
        "otherwise stamps are the wall clock's",
    )


class TableRobot:
    """The Panda: ``arm`` and ``hand`` take one goal each."""

    def __init__(self, config: SimConfig, sinks: Sequence[Sink], watch: Watcher) -> None:
        self.scene = table_scene(config)
        self.world = TableWorld(self.scene)
        self.arm, self.hand = ArmActuator(self.world), ArmActuator(self.world)
        self.planning_scene = PlanningScene(self._spec, self._frame)
        self._free = MoveItPlanner(Kinematics(self.world.model), self._frame)
        self._planner = self._free
        self.streams = _streams(self.world, config)
        lanes = {
            "arm": Lane("arm", self.arm, lambda: self.world.now_ns),
            "hand": Lane("hand", self.hand, lambda: self.world.now_ns),
        }
        clock = WorldClock(self.world, self.streams, sinks, state_every_s=_STATE_S, watch=watch)
        self.running = Running(self.world, clock, lanes)

    def plan(self, request: Any, difference: Any = None) -> Timed:
        """For a moveit_msgs/MotionPlanRequest; raises `PlanError`, and `InputError` for what the
        ``difference`` holds: a moveit_msgs/PlanningScene that counts for this plan alone."""
        planner = self._planner
        if difference is not None:
            scene = self.planning_scene.copy()
            scene.apply(difference)
            planner = self._planner_of(scene)
        return planner.plan(request, self.arm.commanded)

    def cartesian(self, request: Any) -> CartesianPlan:
        """For a GetCartesianPath request; raises `PlanError`. Without ``avoid_collisions`` only
        what truly is there is in the way, not what was told to be."""
        planner = self._planner if request.avoid_collisions else self._free
        return planner.cartesian(request, self.arm.commanded)

    def apply_scene(self, scene: Any) -> None:
        """A moveit_msgs/PlanningScene; raises `InputError`."""
        self.planning_scene.apply(scene)
        self._planner = self._planner_of(self.planning_scene)

    def _planner_of(self, scene: PlanningScene) -> MoveItPlanner:
        if not scene.obstacles:
            return self._free
        return MoveItPlanner(Kinematics(scene.model()), self._frame)

    def grip(self, goal_id: str, width_m: float, force_n: float) -> None:
        self.hand.send(goal_id, GripGoal(width_m, force_n))

    def _spec(self) -> Any:
        return scene_spec(self.scene, self.world.width, self.world.height)

    def _frame(self, name: str) -> RigidTransform | None:
        return frame_in(self.world, name)


class RoomRobot:
    """The base that drives through a room."""

    def __init__(self, config: SimConfig, sinks: Sequence[Sink], watch: Watcher) -> None:
        if config.objects:
            raise InputError("things can be chosen for the table only: leave objects out")
        kinds = {"demo": go_to, "one": go_to, "absent": absent_in_room}
        self.task = _of_kind(kinds, config)(config.seed)
        self.world = RoomWorld(self.task.scene)
        self.grid = self.world.occupancy()
        self.base = BaseActuator(self.world, self.grid)
        self.streams = _streams(self.world, config)
        lanes = {"base": Lane("base", self.base, lambda: self.world.now_ns)}
        clock = WorldClock(self.world, self.streams, sinks, state_every_s=_STATE_S, watch=watch)
        self.running = Running(self.world, clock, lanes)

    def way_through(self, places: Sequence[Point2]) -> tuple[Point2, ...]:
        """The corners of a way from where the base is. Raises `InputError` where there is none."""
        return self.base.way_through(places)


def frame_in(world: World, name: str) -> RigidTransform | None:
    """Where a frame is in the world's ``base_frame`` now; ``None`` for one that nobody knows."""
    buffer = TransformBuffer()
    buffer.add(world.static_transforms(), static=True)
    buffer.add(world.transforms())
    found = buffer.lookup(world.base_frame, name.lstrip("/"), world.now_ns)
    return None if isinstance(found, Refusal) else found


def pose_on_map(world: World, pose: Any) -> RigidTransform:
    """A geometry_msgs/PoseStamped in the world's ``base_frame``. Raises `TransformError` for a
    frame that nobody knows or a quaternion of no length."""
    T_map_frame = frame_in(world, pose.header.frame_id)
    if T_map_frame is None:
        raise TransformError(f"nothing is known of frame '{pose.header.frame_id}'")
    p, q = pose.pose.position, pose.pose.orientation
    T_frame_pose = RigidTransform(
        T_map_frame.child,
        "goal",
        (float(p.x), float(p.y), float(p.z)),
        (float(q.x), float(q.y), float(q.z), float(q.w)),
    )
    return compose(T_map_frame, T_frame_pose)


def table_scene(config: SimConfig) -> TableScene:
    """Raises `InputError` for things that there are none of."""
    kinds = {"one": one_step, "many": many_steps, "absent": absent, "ambiguous": ambiguous}
    if config.objects or config.scene == "demo":
        return random_scene(config.seed, things_named(config.objects or DEMO), n_clutter=0)
    task: TableTask = _of_kind(kinds, config, "demo")(config.seed)
    return task.scene


def things_named(text: str) -> list[tuple[str, str]]:
    """(colour, shape) of 'red cube, yellow bowl'. Raises `InputError`."""
    things = [tuple(name.split()) for name in text.split(",")]
    for words in things:
        if len(words) != 2 or words[0] not in PAINT or words[1] not in SHAPES:
            raise InputError(
                f"there is no '{' '.join(words)}' to put on the table: name a colour "
                f"({', '.join(PAINT)}) and a shape ({', '.join(SHAPES)})"
            )
    return [(words[0], words[1]) for words in things]


def _of_kind(kinds: dict[str, Any], config: SimConfig, *more: str) -> Any:
    if config.scene not in kinds:
        known = ", ".join((*more, *kinds))
        raise InputError(f"the {config.world} has no scene {config.scene!r}: use {known}")
    return kinds[config.scene]


def _streams(world: World, config: SimConfig) -> tuple[CameraStream, ...]:
    return tuple(CameraStream(name, rate_hz=config.picture_rate) for name in world.cameras)
