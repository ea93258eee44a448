"""Servers that answer as a test says, behind a `Wire`; every request goes through the real type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from interfaces import filled, part

from rynn_brain_ros.actuators import Call, Publication, RemoteActuator, Reply, body_of, read_profile
from rynn_brain_ros.actuators.moveit import CARTESIAN_PATH
from rynn_brain_ros.values import Goal, GoalEvent, GoalEventKind, RigidTransform

ACCEPTED = Reply(GoalEventKind.ACCEPTED)
DOWN = (1.0, 0.0, 0.0, 0.0)
"""The tool's z axis points down."""


def tcp(x: float = 0.5, y: float = 0.1, z: float = 0.2, frame: str = "panda_link0") -> Any:
    return RigidTransform(frame, "panda_tcp", (x, y, z), DOWN)


def place(x: float = 2.0, y: float = 1.0, frame: str = "map") -> RigidTransform:
    return RigidTransform(frame, "base_link", (x, y, 0.0), (0.0, 0.0, 0.6, 0.8))


def result(call: Call, **fields: Any) -> Any:
    return part(call.type, "Response" if call.is_service else "Result", fields)


def straight_path(fraction: float = 1.0, code: int = 1, positions: float = 0.1) -> Any:
    points = [
        {"positions": [positions * k] * 7, "time_from_start": {"sec": k, "nanosec": 0}}
        for k in range(3)
    ]
    return {
        "solution": {"joint_trajectory": {"points": points}},
        "fraction": fraction,
        "error_code": {"val": code},
    }


@dataclass
class PlayedWire:
    """``there`` are the servers that run (``None``: all), ``taken`` those at work for others;
    ``said`` is all that was told to them."""

    there: set[str] | None = None
    taken: tuple[str, ...] = ()
    absent_fields: tuple[str, ...] = ()
    calls: list[tuple[str, Call]] = field(default_factory=list)
    requests: list[Any] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    published: list[Publication] = field(default_factory=list)
    inbox: list[tuple[str, Reply]] = field(default_factory=list)

    def call(self, call_id: str, call: Call) -> None:
        self.calls.append((call_id, call))
        self.requests.append(filled(call))

    def cancel(self, call_id: str) -> None:
        self.cancelled.append(call_id)

    def replies(self) -> tuple[tuple[str, Reply], ...]:
        replies, self.inbox = tuple(self.inbox), []
        return replies

    def is_there(self, call: Call) -> bool:
        return self.there is None or call.server in self.there

    def is_taken(self, server: str) -> bool:
        return server in self.taken

    def lacks(self, call: Call) -> tuple[str, ...]:
        return self.absent_fields if call.type == CARTESIAN_PATH else ()

    def publish(self, publication: Publication) -> None:
        self.published.append(publication)

    @property
    def servers(self) -> list[str]:
        return [call.server for _, call in self.calls]

    def say(self, *replies: Reply) -> None:
        """Of the newest call."""
        self.inbox += [(self.calls[-1][0], reply) for reply in replies]

    def end(self, kind: GoalEventKind = GoalEventKind.SUCCEEDED, **fields: Any) -> None:
        self.say(Reply(kind, result(self.calls[-1][1], **fields)))


class Played:
    """A real actuator of a profile on a played wire, with a clock that a test moves."""

    def __init__(self, robot: str = "franka_panda", **wire: Any) -> None:
        self.wire, self.now_ns = PlayedWire(**wire), 1_000_000_000
        self.profile = read_profile(robot)
        self.body = body_of(self.profile, self.wire)
        self.actuator = RemoteActuator(self.body, self.wire, lambda: self.now_ns)

    def send(self, goal: Goal, goal_id: str = "g") -> None:
        self.actuator.send(goal_id, goal)

    def poll(self) -> tuple[GoalEvent, ...]:
        return self.actuator.poll()

    def kinds(self) -> list[GoalEventKind]:
        return [event.kind for event in self.poll()]

    def last(self) -> GoalEvent:
        return self.poll()[-1]

    def carry_out(self, goal: Goal, *ends: Callable[[PlayedWire], None]) -> GoalEvent:
        """Sends a goal, lets each of its calls end, and gives the last event."""
        self.send(goal)
        events = list(self.poll())
        for end in ends:
            self.wire.say(ACCEPTED)
            end(self.wire)
            events += self.poll()
        return events[-1]


def ok(**fields: Any) -> Callable[[PlayedWire], None]:
    return lambda wire: wire.end(**fields)


def ends(kind: GoalEventKind, **fields: Any) -> Callable[[PlayedWire], None]:
    return lambda wire: wire.end(kind, **fields)


SUCCESS = {"error_code": {"val": 1}}
PLANNED = {**SUCCESS, "planned_trajectory": straight_path()["solution"]}
