"""What goes between a goal and the servers that carry it out: calls, replies, and the wire.

A goal is one or several calls, one after the other, written as a generator (`Plan`): it yields a
`Call`, is sent the `Reply` that ended it, and returns the numbers of the result, or raises
`GoalFailed`.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Protocol

from rynn_brain_ros.messages import MessageDict
from rynn_brain_ros.values import GoalEventKind, RigidTransform, RynnBrainError

Values = tuple[tuple[str, float], ...]


class GoalFailed(RynnBrainError):  # noqa: N818  # how a goal ended, as an event tells it
    """The goal ends here: the kind of event, the sentence, and the numbers by name."""

    def __init__(self, kind: GoalEventKind, text: str, values: Values = ()) -> None:
        super().__init__(text)
        self.kind, self.text, self.values = kind, text, values


@dataclass(frozen=True)
class Call:
    """One request to one action or service. ``type`` is the interface's full name, as in
    ``nav2_msgs/action/Spin``. A server that ``talks`` sends feedback all the time: where it falls
    silent it is gone."""

    server: str
    type: str
    request: MessageDict
    talks: bool = False

    @property
    def is_service(self) -> bool:
        return "/srv/" in self.type


@dataclass(frozen=True)
class Reply:
    """What was heard of a call. ``message`` is the feedback, the result or the response: any object
    with the fields of its definition. A service's response is SUCCEEDED."""

    kind: GoalEventKind
    message: Any = None
    text: str = ""


@dataclass(frozen=True)
class Publication:
    """One message on one topic."""

    topic: str
    type: str
    message: MessageDict


Plan = Generator[Call, Reply, Values]


class Wire(Protocol):
    """The way to the servers. Nothing here blocks or raises because a server misbehaves.

    ``call`` is told by ``replies`` what becomes of it, in order, each reply once, as (id, reply).
    ``cancel`` of a call that has not been accepted yet is kept until it is. A ``server`` is taken
    where it is at work on a goal that did not come from here. ``lacks`` are the fields of
    ``call``'s request that this distribution's interface does not have.
    """

    def call(self, call_id: str, call: Call) -> None: ...

    def cancel(self, call_id: str) -> None: ...

    def replies(self) -> tuple[tuple[str, Reply], ...]: ...

    def is_there(self, call: Call) -> bool: ...

    def is_taken(self, server: str) -> bool: ...

    def lacks(self, call: Call) -> tuple[str, ...]: ...

    def publish(self, publication: Publication) -> None: ...


# --- numbers that may become motion ---------------------------------------------------------------


def rejected(text: str, values: Values = ()) -> GoalFailed:
    return GoalFailed(GoalEventKind.REJECTED, text, values)


def somebody_elses(server: str) -> str:
    return f"{server} carries out somebody else's goal: wait for its end, or stop it"


def finite(name: str, value: float) -> float:
    """Raises `GoalFailed` for NaN and infinity."""
    if not math.isfinite(value):
        raise rejected(f"{name} is {value:g}, not a finite number")
    return float(value)


def within(name: str, value: float, low: float, high: float) -> float:
    """Raises `GoalFailed` for what is not a number from ``low`` to ``high``."""
    if not low <= value <= high:
        raise rejected(f"{name} is {value:g}; it must be within {low:g} to {high:g}")
    return float(value)


def scaling(speed: float, share: float) -> float:
    """``speed`` of a goal as a part of the ``share`` that the profile allows: 0 < … ≤ 1, since a
    server reads 0 as full speed. Raises `GoalFailed` for any other speed."""
    if not 0.0 < speed <= 1.0:
        raise rejected(f"a speed of {speed:g} is not above 0 and at most 1")
    return max(1e-3, min(1.0, speed * share))


def pose_in(frame: str, pose: RigidTransform) -> MessageDict:
    """geometry_msgs/Pose. Raises `GoalFailed` where the pose is told in another frame, holds a
    number that is none, or turns by nothing that is a rotation."""
    if pose.parent != frame:
        raise rejected(f"the pose is in '{pose.parent}'; it must be in '{frame}'")
    x, y, z = (finite("a coordinate of the pose", v) for v in pose.translation_m)
    turn = [finite("a part of the rotation", v) for v in pose.rotation_xyzw]
    length = math.hypot(*turn)
    if not 0.99 < length < 1.01:
        raise rejected(f"the rotation's quaternion has length {length:.3g}; it must have 1")
    qx, qy, qz, qw = (v / length for v in turn)
    return {
        "position": {"x": x, "y": y, "z": z},
        "orientation": {"x": qx, "y": qy, "z": qz, "w": qw},
    }


def succeeded(reply: Reply, server: str, said: str = "") -> Any:
    """The result of a call that went well; `GoalFailed` with its own kind for any other end."""
    if reply.kind is GoalEventKind.SUCCEEDED:
        return reply.message
    told = "; ".join(filter(None, (said, reply.text)))
    raise GoalFailed(reply.kind, f"{server} {reply.kind.value}{f': {told}' if told else ''}")
