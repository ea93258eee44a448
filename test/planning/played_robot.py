"""Robots without physics, for whole episodes in a moment: a ray-cast table, an arm and a base.

Time passes only in ``wait``; then the camera brings noisy pictures of the things as they stand.
An actuator carries out goals at the times that a script says, and what it does moves the things.
The world's own truth is in ``things``; the brain sees none of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from rynn_brain_ros.geometry import DepthNoise, PinholeCamera, apply, compose, from_matrix, invert
from rynn_brain_ros.language import compose as compose_chat
from rynn_brain_ros.memory import AssemblyConfig
from rynn_brain_ros.planning import Perception, PerceptionConfig
from rynn_brain_ros.planning.arming import Arming
from rynn_brain_ros.planning.episode import Episode, EpisodeEvent, StageBegan
from rynn_brain_ros.planning.executive import Approve, Brain, TurnTaker, carry_out
from rynn_brain_ros.planning.holding import Hand
from rynn_brain_ros.planning.robots import Robot, assemble, panda, rover
from rynn_brain_ros.sim.tabletop import Tabletop, Thing, add_depth_noise
from rynn_brain_ros.values import (
    Answer,
    Cancel,
    DriveGoal,
    EncodedImage,
    EngineError,
    EngineInfo,
    FinishReason,
    FollowGoal,
    Generation,
    Goal,
    GoalEvent,
    GoalEventKind,
    GripGoal,
    Message,
    NavigateGoal,
    PostureGoal,
    Query,
    ReachGoal,
    RigidTransform,
    SpinGoal,
    Stage,
    Vector3,
)

START_NS = 1_000_000_000_000
CAMERA, OPTICAL = "/camera/image", "camera_optical_frame"
PERIOD_NS = 100_000_000

CUBE = Thing("red cube", "red", "cube", (0.45, 0.15), (0.05, 0.05, 0.05), 0.3)
BALL = Thing("blue ball", "blue", "ball", (0.50, -0.20), (0.06, 0.06, 0.06))
PLATE = Thing("yellow plate", "yellow", "plate", (0.60, 0.0), (0.16, 0.16, 0.012))
HOME: Vector3 = (0.30, 0.0, 0.50)
"""Of the hand in the arm's base frame, out of the picture's way."""
T_WORLD_ARM = RigidTransform(
    "world", "panda_link0", (0.06, -0.04, 0.0), (0.0, 0.0, math.sin(0.1), math.cos(0.1))
)
"""The arm stands neither at the world's origin nor straight: poses that are mixed up show."""


def looking(parent: str, eye: Vector3, at: Vector3) -> RigidTransform:
    """``T_parent_camera`` of an optical frame at ``eye`` that looks ``at`` a place, upright."""
    forward = np.subtract(at, eye) / math.dist(at, eye)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    matrix[:3, 3] = eye
    return from_matrix(matrix, parent, OPTICAL)


@lru_cache(maxsize=64)
def _rendered(scene: Tabletop, pose: RigidTransform) -> Any:
    return scene.render(pose)


# --- the worlds -----------------------------------------------------------------------------------


class PlayedWorld:
    """A `Clock` whose time brings pictures of ``things`` to ``perception``.

    ``camera_on``, ``with_depth`` and ``with_pose`` may be taken away, and from the thing ``glassy``
    its depth. ``fixed`` is the frame that things are told in.
    """

    fixed = "world"
    table_m = (1.6, 1.6)
    glassy = ""

    def __init__(self, things: Sequence[Thing], width: int = 320) -> None:
        self.things = {thing.name: thing for thing in things}
        self.size = (width, width * 3 // 4, width * 0.82)
        self.perception = Perception(
            PerceptionConfig((AssemblyConfig(CAMERA),), fixed_frame=self.fixed)
        )
        self.camera_on = self.with_depth = self.with_pose = True
        self._now_ns = self._next_ns = START_NS
        self._rng = np.random.default_rng(7)

    def now_ns(self) -> int:
        return self._now_ns

    def wait(self, seconds: float) -> None:
        end_ns = self._now_ns + round(seconds * 1e9)
        while self._next_ns <= end_ns:
            self._now_ns = self._next_ns
            self._next_ns += PERIOD_NS
            self._publish()
        self._now_ns = end_ns

    def reset(self, back_s: float) -> None:
        """The clock jumps back, as a simulator's does that begins anew."""
        self._now_ns -= round(back_s * 1e9)
        self._next_ns = self._now_ns + 1

    @property
    def scene(self) -> Tabletop:
        width, height, focal_px = self.size
        return Tabletop(tuple(self.things.values()), width, height, focal_px, self.table_m)

    @property
    def T_fixed_camera(self) -> RigidTransform:
        raise NotImplementedError

    def transforms(self) -> list[RigidTransform]:
        """All that is published with a picture, but for its own stamps."""
        raise NotImplementedError

    def encoded(self, rgb: np.ndarray) -> bytes:
        """The picture as the camera sends it, a JPEG."""
        return cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()

    def move(self, name: str, xy_m: tuple[float, float]) -> None:
        self.things[name] = replace(self.things[name], xy_m=xy_m)

    # --- what the engine may look up to write its answers ---------------------------------------

    def pixel(self, place: Vector3) -> tuple[int, int]:
        """Where a place is in the picture now, 0…1000."""
        info = self.scene.camera_info
        seen = apply(invert(self.T_fixed_camera), [place])
        ((u, v),) = PinholeCamera.from_info(info).project(seen)
        return round(1000 * u / (info.width - 1)), round(1000 * v / (info.height - 1))

    def box(self, name: str) -> tuple[tuple[int, int], tuple[int, int]]:
        """Around the eight corners of a thing's own box, 0…1000, cut at the picture's border."""
        thing = self.things[name]
        signs = np.array(np.meshgrid(*[(-1, 1)] * 3)).reshape(3, -1).T
        corners = apply(invert(thing.to_local()), signs * np.array(thing.size_m) / 2)
        x, y = zip(*(self.pixel(tuple(corner)) for corner in corners), strict=True)
        low, high = (max(0, min(x)), max(0, min(y))), (min(1000, max(x)), min(1000, max(y)))
        return low, high

    def top(self, name: str) -> Vector3:
        thing = self.things[name]
        return (*thing.xy_m, thing.size_m[2])

    def _publish(self) -> None:
        stamp_ns, eyes = self._now_ns, self.perception
        if self.with_pose:
            stamped = [replace(pose, stamp_ns=stamp_ns) for pose in self.transforms()]
            eyes.add_transforms(stamped, static=False)
        if not self.camera_on:
            return
        scene = self.scene
        rgb, z_m = _rendered(scene, self.T_fixed_camera)
        eyes.add_color_info(CAMERA, replace(scene.camera_info, frame_id=OPTICAL), stamp_ns)
        if self.glassy:
            others = tuple(thing for thing in scene.things if thing.name != self.glassy)
            _, behind_m = _rendered(replace(scene, things=others), self.T_fixed_camera)
            z_m = np.where(z_m == behind_m, z_m, 0.0)
        if self.with_depth:
            depth = add_depth_noise(z_m, DepthNoise(), self._rng)
            encoded = EncodedImage(
                "16UC1", depth.tobytes(), scene.width, scene.height, 2 * scene.width
            )
            eyes.add_depth(CAMERA, stamp_ns, OPTICAL, encoded)
        color = EncodedImage("rgb8; jpeg compressed bgr8", self.encoded(rgb), compressed=True)
        eyes.add_color(CAMERA, stamp_ns, OPTICAL, color)


class PlayedTable(PlayedWorld):
    """A table before an arm. What the hand holds is out of the picture.

    ``released`` are the heights of things' bottoms over the table when the hand let them go.
    ``slippery`` things are never held. The arm's ``silent`` links are not told on /tf.
    """

    silent: tuple[str, ...] = ()

    goals: frozenset[type[Goal]] = frozenset({ReachGoal, FollowGoal, PostureGoal, GripGoal})

    def __init__(self, things: Sequence[Thing] = (CUBE, BALL, PLATE), width: int = 320) -> None:
        super().__init__(things, width)
        self.hand_m, self.fingers_m = HOME, 0.08
        self.held: Thing | None = None
        self.slippery = False
        self.released: list[float] = []
        self._gripped_z_m = 0.0
        self.wait(0.0)

    @property
    def T_fixed_camera(self) -> RigidTransform:
        return looking("world", (1.15, 0.1, 0.55), (0.5, 0.0, 0.0))

    def transforms(self) -> list[RigidTransform]:
        return [T_WORLD_ARM, self.T_fixed_camera, *self.links()]

    def links(self) -> list[RigidTransform]:
        """A straight arm from the base to the hand."""
        named = [f"panda_link{number}" for number in range(1, 9)]
        upper = [RigidTransform("panda_link0", name) for name in named]
        ends = ("panda_hand", "panda_tcp")
        whole = [*upper, *(RigidTransform("panda_link0", end, self.hand_m) for end in ends)]
        return [pose for pose in whole if pose.child not in self.silent]

    @property
    def hand_fixed_m(self) -> Vector3:
        x, y, z = apply(T_WORLD_ARM, self.hand_m)[0]
        return (float(x), float(y), float(z))

    def do(self, goal: Goal) -> dict[str, float]:
        """Carries out a goal; the numbers of its result."""
        if isinstance(goal, GripGoal):
            return {"width_m": self._grip(goal.width_m)}
        if isinstance(goal, FollowGoal):
            self._follow(goal)
        self.hand_m = goal.T_base_tcp.translation_m if isinstance(goal, ReachGoal) else self.hand_m
        self.hand_m = HOME if isinstance(goal, PostureGoal) else self.hand_m
        return {}

    def drop(self) -> None:
        """What is held falls out of the hand, straight down."""
        if self.held is not None:
            self.things[self.held.name] = replace(self.held, xy_m=self.hand_fixed_m[:2])
        self.held, self.fingers_m = None, 0.0

    def _grip(self, width_m: float) -> float:
        if self.held is None:
            self.held = None if self.slippery else self._between_fingers(width_m)
            if self.held is not None:
                del self.things[self.held.name]
                self._gripped_z_m = self.hand_m[2]
        elif width_m > min(self.held.size_m[:2]):
            self.released.append(self.hand_m[2] - self._gripped_z_m)
            self.drop()
        held_m = 0.0 if self.held is None else min(self.held.size_m[:2])
        self.fingers_m = max(width_m, held_m)
        return self.fingers_m

    def _between_fingers(self, width_m: float) -> Thing | None:
        x, y, z = self.hand_fixed_m
        for thing in self.things.values():
            narrow = width_m < min(thing.size_m[:2]) <= self.fingers_m
            if narrow and math.dist(thing.xy_m, (x, y)) < 0.02 and z < thing.size_m[2]:
                return thing
        return None

    def _follow(self, goal: FollowGoal) -> None:
        """Closed fingers push what stands before them."""
        for pose in goal.path:
            start = np.array(self.hand_fixed_m[:2])
            self.hand_m = pose.translation_m
            end = np.array(self.hand_fixed_m[:2])
            for thing in list(self.things.values()) if self.held is None else []:
                self._push(thing, start, end)

    def _push(self, thing: Thing, start: np.ndarray, end: np.ndarray) -> None:
        length_m = max(float(np.linalg.norm(end - start)), 1e-9)
        along, away = (end - start) / length_m, thing.xy_m - start
        ahead_m, aside_m = float(away @ along), float(abs(away @ (-along[1], along[0])))
        radius_m = max(thing.size_m[:2]) / 2
        if aside_m < radius_m and 0 < ahead_m < length_m + radius_m:
            x, y = thing.xy_m + along * (length_m + radius_m - ahead_m)
            self.move(thing.name, (float(x), float(y)))


class PlayedFloor(PlayedWorld):
    """A floor with things on it, and a base that drives there with a camera looking ahead."""

    fixed = "odom"
    table_m = (20.0, 20.0)
    goals: frozenset[type[Goal]] = frozenset({DriveGoal, SpinGoal, NavigateGoal})
    T_map_odom = RigidTransform("map", "odom", (4.0, 3.0, 0.0), (0.0, 0.0, 1.0, 0.0))
    """The robot began elsewhere on the map, and looked the other way: frames mixed up show."""
    T_base_camera = looking("base_link", (0.1, 0.0, 0.5), (1.5, 0.0, 0.1))

    def __init__(
        self,
        things: Sequence[Thing] = (),
        xy_m: tuple[float, float] = (0.5, -0.5),
        yaw: float = 0.4,
    ) -> None:
        super().__init__(things, 160)
        self.xy_m, self.yaw_rad = xy_m, yaw
        self.wait(0.0)

    @property
    def T_odom_base(self) -> RigidTransform:
        half = self.yaw_rad / 2
        turn = (0.0, 0.0, math.sin(half), math.cos(half))
        return RigidTransform("odom", "base_link", (*self.xy_m, 0.0), turn)

    @property
    def T_fixed_camera(self) -> RigidTransform:
        return compose(self.T_odom_base, self.T_base_camera)

    def transforms(self) -> list[RigidTransform]:
        return [self.T_map_odom, self.T_odom_base, self.T_base_camera]

    def ahead(self, along_m: float, aside_m: float = 0.0) -> tuple[float, float]:
        """A place on the floor, told from the base as it stands now: ahead, and to its left."""
        x, y, _ = apply(self.T_odom_base, (along_m, aside_m, 0.0))[0]
        return (float(x), float(y))

    def do(self, goal: Goal) -> dict[str, float]:
        if isinstance(goal, DriveGoal):
            self.xy_m = self.ahead(goal.distance_m)
        if isinstance(goal, SpinGoal):
            self.yaw_rad += goal.angle_rad
        if isinstance(goal, NavigateGoal):
            T_odom_base = compose(invert(self.T_map_odom), goal.T_map_base)
            self.xy_m = T_odom_base.translation_m[:2]
            self.yaw_rad = 2 * math.atan2(*T_odom_base.rotation_xyzw[2:])
        return {}


# --- the actuator and the engine ------------------------------------------------------------------

Script = tuple[tuple[float, GoalEventKind], ...]
"""What an actuator reports of a goal, each so many seconds after it was sent."""
ACCEPTED = (0.0, GoalEventKind.ACCEPTED)
WELL: Script = (ACCEPTED, (0.1, GoalEventKind.SUCCEEDED))
SLOW: Script = (ACCEPTED, *((i / 2, GoalEventKind.FEEDBACK) for i in range(1, 200)))
"""It goes on and on."""
SILENT: Script = (ACCEPTED,)
DEAF: Script = ()


def ending(kind: GoalEventKind) -> Script:
    """Taken, and then this."""
    return (ACCEPTED, (0.1, kind))


class TimedActuator:
    """Carries out goals in ``world`` at the times of a script: those in ``scripts`` for the goals
    to come, then all goes `WELL`. ``said`` is what it was told: goals, and "cancel" or "stop"."""

    name = "played"

    def __init__(self, world: PlayedTable | PlayedFloor) -> None:
        self.goals = world.goals
        self.scripts: list[Script] = []
        self.said: list[Goal | str] = []
        self._world = world
        self._goals: dict[str, Goal] = {}
        self._due: list[tuple[int, str, GoalEventKind]] = []

    @property
    def sent(self) -> list[Goal]:
        return [said for said in self.said if not isinstance(said, str)]

    def send(self, goal_id: str, goal: Goal) -> None:
        self.said.append(goal)
        self._goals[goal_id] = goal
        now_ns, script = self._world.now_ns(), self.scripts.pop(0) if self.scripts else WELL
        self._due += [(now_ns + round(after_s * 1e9), goal_id, kind) for after_s, kind in script]

    def cancel(self, goal_id: str) -> None:
        """Answered at once, unless it never took the goal."""
        self.said.append("cancel")
        taken = any(due[1] == goal_id for due in self._due)
        self._due = [due for due in self._due if due[1] != goal_id]
        if taken:
            self._due.append((self._world.now_ns(), goal_id, GoalEventKind.CANCELLED))

    def stop(self) -> None:
        self.said.append("stop")
        self._due = []

    def poll(self) -> tuple[GoalEvent, ...]:
        now_ns = self._world.now_ns()
        due = [each for each in self._due if each[0] <= now_ns]
        self._due = [each for each in self._due if each[0] > now_ns]
        return tuple(self._event(*each) for each in due)

    def _event(self, stamp_ns: int, goal_id: str, kind: GoalEventKind) -> GoalEvent:
        done = kind is GoalEventKind.SUCCEEDED
        values = self._world.do(self._goals[goal_id]) if done else {}
        return GoalEvent(goal_id, kind, stamp_ns, values=tuple(values.items()))


Line = str | Callable[[Query], str] | EngineError


class ScriptedEngine:
    """Says its lines, one a question; ``forever`` what is said after them. A line may be made from
    the question at the moment it is asked, or be an error."""

    info = EngineInfo(name="scripted", model="RynnBrain-test")

    def __init__(self, *lines: Line, forever: Line | None = None) -> None:
        self.lines, self._forever = list(lines), forever
        self.queries: list[Query] = []

    def ask(
        self,
        query: Query,
        on_text: Callable[[str], None] | None = None,
        cancel: Cancel | None = None,
    ) -> Answer:
        self.queries.append(query)
        line = self.lines.pop(0) if self.lines else self._forever
        assert line is not None, f"question {len(self.queries)} has no line in the script"
        if isinstance(line, EngineError):
            raise line
        text = line if isinstance(line, str) else line(query)
        return Answer(query.query_id, text, FinishReason.STOP, self.info.name, self.info.model)

    def close(self) -> None:
        """Nothing to release."""

    def chat(self, number: int) -> tuple[Message, ...]:
        """Question ``number`` as a model gets it."""
        return compose_chat(self.queries[number], Generation.V1_0)


def tag(kind: str, query: Query, *points: tuple[int, int]) -> str:
    """Points in the newest frame of a question, as RynnBrain writes them."""
    told = ", ".join(f"({x}, {y})" for x, y in points)
    return f"<{kind}> <frame {len(query.frames) - 1}>: {told} </{kind}>"


def pick(world: PlayedWorld, name: str) -> Line:
    """A planner's sentence that picks a thing where it is by then."""

    def say(query: Query) -> str:
        grasp = tag("affordance", query, world.pixel(world.top(name)))
        return f"Pick up the {name} {tag('object', query, *world.box(name))} at {grasp}."

    return say


def place(world: PlayedWorld, xy_m: tuple[float, float], z_m: float = 0.0) -> Line:
    """A planner's sentence that places what is held."""
    return lambda query: f"Place it on {tag('area', query, world.pixel((*xy_m, z_m)))}."


def box_of(world: PlayedWorld, name: str) -> Line:
    """An answer to where a thing is."""
    return lambda query: tag("object", query, *world.box(name))


# --- everything put together ----------------------------------------------------------------------


class Switch:
    """A person's hand on the stop."""

    def __init__(self) -> None:
        self.on = False

    def is_set(self) -> bool:
        return self.on


Listener = Callable[[EpisodeEvent], None]


def at(stage: Stage, do: Callable[[], object]) -> Listener:
    """``do``, once, when a motion first comes to ``stage``."""
    done: list[bool] = []

    def hear(event: EpisodeEvent) -> None:
        if isinstance(event, StageBegan) and event.stage.stage is stage and not done:
            done.append(True)
            do()

    return hear


@dataclass
class Played:
    """A robot put together on a played world."""

    world: PlayedTable | PlayedFloor
    actuator: TimedActuator
    engine: ScriptedEngine
    brain: Brain
    taker: TurnTaker
    arming: Arming
    events: list[EpisodeEvent] = field(default_factory=list)

    def carry_out(self, task: str = "tidy up.", cancel: Cancel | None = None) -> Episode:
        return carry_out(task, self.taker, self.brain, cancel)


def played(
    world: PlayedTable | PlayedFloor,
    engine: ScriptedEngine,
    robot: Robot | None = None,
    *,
    hear: Listener | None = None,
    approve: Approve | None = None,
    actuator: TimedActuator | None = None,
    hand: Hand | None = None,
) -> Played:
    """The real loop of a robot on ``world``: an arm at a table, a base on a floor. Armed."""
    make = panda if isinstance(world, PlayedTable) else rover
    actuator = actuator or TimedActuator(world)
    events: list[EpisodeEvent] = []

    def tell(event: EpisodeEvent) -> None:
        events.append(event)
        if hear is not None:
            hear(event)

    brain, taker, arming = assemble(
        robot or make(dry_run=False),
        world.perception,
        world,
        actuator,
        lambda query: engine,
        tell=tell,
        approve=approve,
        hand=hand,
    )
    arming.arm(world.now_ns())
    return Played(world, actuator, engine, brain, taker, arming, events)
