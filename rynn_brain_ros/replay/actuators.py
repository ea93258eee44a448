"""An actuator that is listened to, and one that plays what was heard.

Everything that passes between the executive and the robot is kept as it passed: goals, cancels and
stops one way, events the other. A replay gives the events again at their times, and says where the
executive asked for something else than it did then.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any

from rynn_brain_ros.replay.turns import as_line, goal_record
from rynn_brain_ros.values import (
    Actuator,
    Clock,
    DriveGoal,
    FollowGoal,
    Goal,
    GoalEvent,
    GoalEventKind,
    GripGoal,
    NavigateGoal,
    PostureGoal,
    ReachGoal,
    SpinGoal,
)

GOAL_KINDS: dict[str, type[Goal]] = {
    kind.__name__: kind
    for kind in (
        ReachGoal,
        FollowGoal,
        PostureGoal,
        GripGoal,
        DriveGoal,
        SpinGoal,
        NavigateGoal,
    )
}
Keep = Callable[[dict[str, Any]], None]


class HeardActuator:
    """Passes everything on to ``actuator`` and tells ``keep`` of it.

    Where ``keep`` fails (the disk is full) nothing more is begun, and cancels and stops still reach
    the robot before the error is raised.
    """

    def __init__(self, actuator: Actuator, clock: Clock, keep: Keep) -> None:
        self._actuator, self._clock, self._keep = actuator, clock, keep

    @property
    def name(self) -> str:
        return self._actuator.name

    @property
    def goals(self) -> frozenset[type[Goal]]:
        return self._actuator.goals

    def send(self, goal_id: str, goal: Goal) -> None:
        self._keep({"said": "send", "goal_id": goal_id, **goal_record(goal)})
        self._actuator.send(goal_id, goal)

    def cancel(self, goal_id: str) -> None:
        try:
            self._keep({"said": "cancel", "goal_id": goal_id})
        finally:
            self._actuator.cancel(goal_id)

    def stop(self) -> None:
        try:
            self._keep({"said": "stop"})
        finally:
            self._actuator.stop()

    def poll(self) -> tuple[GoalEvent, ...]:
        events = self._actuator.poll()
        for event in events:
            heard = {item.name: getattr(event, item.name) for item in fields(event)}
            self._keep({"heard": heard, "at_ns": self._clock.now_ns()})
        return events


class PlayedActuator:
    """Says nothing of its own: the events of a recording, at the times they were heard.

    ``drifts`` collects what the executive said otherwise than in the recording.
    """

    def __init__(
        self,
        name: str,
        goals: frozenset[type[Goal]],
        kept: Iterable[Mapping[str, Any]],
        clock: Clock,
    ) -> None:
        self.name, self.goals, self._clock = name, goals, clock
        self._said: deque[Mapping[str, Any]] = deque()
        self._events: deque[tuple[int, GoalEvent]] = deque()
        self.drifts: list[str] = []
        for record in kept:
            if "said" in record:
                self._said.append(record)
            else:
                self._events.append((int(record["at_ns"]), event_of(record["heard"])))

    def send(self, goal_id: str, goal: Goal) -> None:
        self._say({"said": "send", "goal_id": goal_id, **goal_record(goal)})

    def cancel(self, goal_id: str) -> None:
        self._say({"said": "cancel", "goal_id": goal_id})

    def stop(self) -> None:
        self._say({"said": "stop"})

    def poll(self) -> tuple[GoalEvent, ...]:
        due = []
        while self._events and self._events[0][0] <= self._clock.now_ns():
            due.append(self._events.popleft()[1])
        return tuple(due)

    def _say(self, record: Mapping[str, Any]) -> None:
        said = json.loads(as_line(record))
        recorded = self._said.popleft() if self._said else None
        if said != recorded:
            self.drifts.append(f"told the robot {said}, and in the recording {recorded}")


def event_of(record: Mapping[str, Any]) -> GoalEvent:
    values = tuple((str(name), float("nan" if v is None else v)) for name, v in record["values"])
    return GoalEvent(
        goal_id=str(record["goal_id"]),
        kind=GoalEventKind(record["kind"]),
        stamp_ns=int(record["stamp_ns"]),
        fraction=float(record["fraction"]),
        text=str(record["text"]),
        values=values,
    )
