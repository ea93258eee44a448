"""An actuator for a driving base: straight ahead, on the spot, and to a place on the map.

Nothing here knows how the base is simulated: it sends velocities, one per control period, and
looks at the pose that results.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rynn_brain_ros.sim.drives import BaseLimits, Drive, Spin, Straight, Way, wrapped, yaw_of
from rynn_brain_ros.sim.grid import Grid, plan_path
from rynn_brain_ros.sim.room_scene import BasePose
from rynn_brain_ros.sim.world import World
from rynn_brain_ros.values import (
    DriveGoal,
    Goal,
    GoalEvent,
    GoalEventKind,
    InputError,
    NavigateGoal,
    Point2,
    Refusal,
    SpinGoal,
)

FEEDBACK_PERIOD_S = 0.2
STUCK_AFTER_S = 4.0
"""Without moving for this long, a goal is given up."""

_MARGIN_M = 0.06
"""Kept free around the base's foot when a way is planned."""
_STILL_M, _STILL_RAD = 0.001, 0.001
"""What does not count as moving."""
_ROUNDING = 1e-6


class DrivingWorld(World, Protocol):
    """A world with a base that takes velocities."""

    base_radius_m: float

    def base_pose(self) -> BasePose: ...

    def command_velocity(self, linear_m_s: float, angular_rad_s: float) -> None: ...

    def collisions(self) -> int: ...


@dataclass
class _Progress:
    """A goal in flight and how it has come along."""

    goal_id: str
    drive: Drive
    collisions: int
    last: BasePose
    start_left: float = math.nan
    best_left: float = math.inf
    still_s: float = 0.0
    since_feedback_s: float = 0.0

    def note(self, left: float, pose: BasePose, dt_s: float) -> None:
        if math.isnan(self.start_left):
            self.start_left = max(left, 1e-9)
        self.best_left = min(left, self.best_left)
        self.since_feedback_s += dt_s
        self.still_s += dt_s
        turned_rad = abs(wrapped(pose.yaw_rad - self.last.yaw_rad))
        if math.dist(pose.xy_m, self.last.xy_m) > _STILL_M or turned_rad > _STILL_RAD:
            self.last, self.still_s = pose, 0.0

    @property
    def fraction(self) -> float:
        """0 before anything was done."""
        if math.isnan(self.start_left):
            return 0.0
        return 1.0 - self.best_left / self.start_left


class BaseActuator:
    """An `Actuator` for a `DrivingWorld`, moved by that world's time.

    ``grid`` is the floor plan, not inflated. A goal is rejected while another one is in flight,
    with a speed outside 0…1, a number that is none, a pose in a frame other than the world's
    ``base_frame``, or without a way to it. It is aborted when the base runs into something or
    does not move any more. Results tell ``distance_m``, ``angle_rad``, or
    ``position_error_m`` and ``heading_error_rad``.
    """

    name = "base"
    goals: frozenset[type[Goal]] = frozenset({DriveGoal, SpinGoal, NavigateGoal})

    def __init__(self, world: DrivingWorld, grid: Grid, limits: BaseLimits | None = None) -> None:
        self._world = world
        self._grid = grid.inflated(world.base_radius_m + _MARGIN_M)
        self._limits = limits or BaseLimits()
        self._current: _Progress | None = None
        self._events: list[GoalEvent] = []
        self._last = world.base_pose()
        self._violations = 0
        world.add_controller(self._control)

    @property
    def limits(self) -> BaseLimits:
        return self._limits

    @property
    def violations(self) -> int:
        """Control periods in which the base, whoever moved it, was faster than its limits."""
        return self._violations

    def send(self, goal_id: str, goal: Goal) -> None:
        self._take(goal_id, self._begin(goal))

    def follow(
        self, goal_id: str, path: Sequence[Point2], yaw_rad: float, speed: float = 1.0
    ) -> None:
        """As `send`, along a path on the map that somebody else has planned. It is driven from
        where the base is, and rejected where it comes too near to something."""
        self._take(goal_id, self._begin_path(tuple(path), yaw_rad, speed))

    def way_through(self, places: Sequence[Point2]) -> tuple[Point2, ...]:
        """The corners of a way through places on the map, from where the base is; for `follow`.
        `InputError` where there is none."""
        way: list[Point2] = []
        for start, place in itertools.pairwise((self._world.base_pose().xy_m, *places)):
            leg = plan_path(self._grid, start, place)
            if isinstance(leg, Refusal):
                raise InputError(leg.text)
            way += leg[1:]
        return tuple(way)

    def _take(self, goal_id: str, drive: Drive | str) -> None:
        if isinstance(drive, str):
            self._tell(goal_id, GoalEventKind.REJECTED, text=drive)
            return
        world = self._world
        self._current = _Progress(goal_id, drive, world.collisions(), world.base_pose())
        self._tell(goal_id, GoalEventKind.ACCEPTED)

    def cancel(self, goal_id: str) -> None:
        """The base stands still from now on."""
        if self._current is not None and self._current.goal_id == goal_id:
            self._end(GoalEventKind.CANCELLED, "cancelled")

    def poll(self) -> tuple[GoalEvent, ...]:
        events, self._events = tuple(self._events), []
        return events

    def stop(self) -> None:
        """The base stands still from now on; a goal in flight is cancelled."""
        self._world.command_velocity(0.0, 0.0)
        if self._current is not None:
            self._end(GoalEventKind.CANCELLED, "stopped")

    def _begin(self, goal: Goal) -> Drive | str:
        """The goal on its way, or why it is not taken."""
        if not isinstance(goal, DriveGoal | SpinGoal | NavigateGoal):
            return f"a base cannot do a {type(goal).__name__}"
        if self._current is not None:
            return f"goal {self._current.goal_id} is still in flight; cancel it or wait"
        if not 0.0 < goal.speed <= 1.0:
            return f"speed {goal.speed} is not above 0 and at most 1"
        if isinstance(goal, NavigateGoal):
            return self._begin_way(goal)
        amount = goal.distance_m if isinstance(goal, DriveGoal) else goal.angle_rad
        if not math.isfinite(amount):
            return f"{amount} is no distance to drive and no angle to turn by"
        kind = Straight if isinstance(goal, DriveGoal) else Spin
        return kind(amount, self._world.base_pose(), self._limits.at_speed(goal.speed))

    def _begin_way(self, goal: NavigateGoal) -> Drive | str:
        T_map_base, frame = goal.T_map_base, self._world.base_frame
        if T_map_base.parent != frame:
            return f"the pose is in frame '{T_map_base.parent}'; give it in '{frame}'"
        x, y, _ = T_map_base.translation_m
        yaw_rad = yaw_of(T_map_base)
        if not math.isfinite(yaw_rad):
            return "the pose's rotation is not a number or has no length"
        path = plan_path(self._grid, self._world.base_pose().xy_m, (x, y))
        if isinstance(path, Refusal):
            return path.text
        return Way(path, BasePose(x, y, yaw_rad), self._grid, self._limits.at_speed(goal.speed))

    def _begin_path(self, path: tuple[Point2, ...], yaw_rad: float, speed: float) -> Drive | str:
        if self._current is not None:
            return f"goal {self._current.goal_id} is still in flight; cancel it or wait"
        if not path or not all(map(math.isfinite, (yaw_rad, *itertools.chain(*path)))):
            return "a path needs places, and each of them numbers"
        way = (self._world.base_pose().xy_m, *path)
        for a, b in itertools.pairwise(way[1:]):
            if not self._grid.line_is_free(a, b):
                ends = "({:.2f}, {:.2f}) to ({:.2f}, {:.2f})".format(*a, *b)
                return f"the path from {ends} m on the map comes too near to something"
        goal = BasePose(*path[-1], yaw_rad)
        return Way(way, goal, self._grid, self._limits.at_speed(speed))

    def _control(self, dt_s: float) -> None:
        current, pose = self._current, self._world.base_pose()
        self._violations += self._is_too_fast(pose, dt_s)
        self._last = pose
        if current is None:
            return
        command = current.drive.command(pose, dt_s)
        current.note(command.left, pose, dt_s)
        if self._world.collisions() > current.collisions:
            self._end(GoalEventKind.ABORTED, _at("bumped into something", pose))
        elif command.is_done:
            self._end(GoalEventKind.SUCCEEDED, "")
        elif current.still_s > STUCK_AFTER_S:
            self._end(GoalEventKind.ABORTED, _at(f"stuck for {STUCK_AFTER_S:.0f} s", pose))
        else:
            self._world.command_velocity(command.linear_m_s, command.angular_rad_s)
            self._feed_back(current)

    def _is_too_fast(self, pose: BasePose, dt_s: float) -> bool:
        moved_m = math.dist(pose.xy_m, self._last.xy_m)
        turned_rad = abs(wrapped(pose.yaw_rad - self._last.yaw_rad))
        most = (1.0 + _ROUNDING) * dt_s
        return moved_m > self._limits.linear_m_s * most or (
            turned_rad > self._limits.angular_rad_s * most
        )

    def _feed_back(self, current: _Progress) -> None:
        if current.since_feedback_s >= FEEDBACK_PERIOD_S:
            current.since_feedback_s = 0.0
            self._tell(current.goal_id, GoalEventKind.FEEDBACK, current.fraction)

    def _end(self, kind: GoalEventKind, text: str) -> None:
        current, self._current = self._current, None
        self._world.command_velocity(0.0, 0.0)
        if current is not None:
            fraction = 1.0 if kind is GoalEventKind.SUCCEEDED else current.fraction
            values = current.drive.result(self._world.base_pose())
            self._tell(current.goal_id, kind, fraction, text, values)

    def _tell(
        self,
        goal_id: str,
        kind: GoalEventKind,
        fraction: float = 0.0,
        text: str = "",
        values: tuple[tuple[str, float], ...] = (),
    ) -> None:
        event = GoalEvent(goal_id, kind, self._world.now_ns, fraction, text, values)
        self._events.append(event)


def _at(what: str, pose: BasePose) -> str:
    return f"{what} at ({pose.x_m:.2f}, {pose.y_m:.2f}) m on the map"
