"""An `Actuator` whose robot is somewhere behind a `Wire`: one goal in flight, from calls to events.

It belongs to the thread that moves the robot, and owns no clock: whoever polls it lets time pass.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from rynn_brain_ros.actuators.arm import ArmBody
from rynn_brain_ros.actuators.base import BaseBody
from rynn_brain_ros.actuators.calls import (
    Call,
    GoalFailed,
    Plan,
    Publication,
    Reply,
    Values,
    Wire,
    rejected,
    somebody_elses,
)
from rynn_brain_ros.actuators.profile import RobotProfile
from rynn_brain_ros.values import Goal, GoalEvent, GoalEventKind, Motion, MotionStage

HEARTBEAT_NS = 500_000_000
"""A server that is there and does not talk while it works is reported as working so often."""


class Body(Protocol):
    """What a robot's goals ask of its servers."""

    @property
    def name(self) -> str: ...

    @property
    def goals(self) -> frozenset[type[Goal]]: ...

    @property
    def servers(self) -> Mapping[str, str]: ...

    @property
    def watched(self) -> Mapping[str, str]: ...

    @property
    def stop(self) -> Publication | None: ...

    @property
    def needs_stop(self) -> bool: ...

    def rivals(self, call: Call) -> tuple[str, ...]: ...

    def outlives_cancel(self, call: Call) -> bool: ...

    def before(self, stage: MotionStage, motion: Motion) -> None: ...

    def previews(self, motion: Motion) -> tuple[Call, ...]: ...

    def plan(self, goal: Goal) -> Plan: ...

    def heard(self, feedback: Any) -> None: ...


def body_of(profile: RobotProfile, wire: Wire) -> Body:
    return ArmBody(profile, wire.lacks) if profile.arm is not None else BaseBody(profile)


_MOST_ASTRAY = 8
"""Of a server that never comes back nothing is heard any more."""
_STOP_EVERY_NS = 50_000_000
_STOP_FOR_NS = 1_500_000_000
"""A stop may meet what is not moving yet, or be outvoted: Nav2's velocity smoother repeats the last
command for a second."""
_HALT_FOR_NS = 30_000_000_000
"""No motion of an arm takes longer."""


@dataclass
class _Job:
    """The goal in flight and the call that it is at."""

    goal_id: str
    plan: Plan
    call: Call
    call_id: str
    told_ns: int
    accepted: bool = False
    cancelled: bool = False


@dataclass
class _Astray:
    """A call that was given up before it ended, and whether its server was there when last looked
    at. Until ``until_ns`` it may still move the robot."""

    call_id: str
    call: Call
    is_there: bool
    until_ns: int


class RemoteActuator:
    """See `values.Actuator`. A server that is not there, and one that goes away, end a goal as
    LOST; one that hangs is left to the limits of `planning.GoalTracker`."""

    def __init__(self, body: Body, wire: Wire, now_ns: Callable[[], int]) -> None:
        self._body, self._wire, self._now_ns = body, wire, now_ns
        self._events: list[GoalEvent] = []
        self._job: _Job | None = None
        self._calls = 0
        self._has_moved = False
        self._astray: deque[_Astray] = deque(maxlen=_MOST_ASTRAY)
        self._stop_until_ns = self._stopped_ns = 0

    @property
    def name(self) -> str:
        return self._body.name

    @property
    def goals(self) -> frozenset[type[Goal]]:
        return self._body.goals

    def send(self, goal_id: str, goal: Goal) -> None:
        try:
            if self._job is not None:
                raise rejected(f"goal '{self._job.goal_id}' is still in flight; cancel it first")
            if self._is_halting():
                raise rejected("a motion that was stopped may go on: its end is not told yet")
            plan = self._body.plan(goal)
            call = next(plan)
        except GoalFailed as no:
            self._tell(goal_id, no.kind, no.text, no.values)
            return
        self._job = _Job(goal_id, plan, call, "", self._now_ns())
        self._begin(self._job, call)

    def cancel(self, goal_id: str) -> None:
        job = self._job
        if job is None or job.goal_id != goal_id:
            return
        job.cancelled = True
        if job.call.is_service:  # nothing moves yet, and a service cannot be cancelled
            self._end(job, GoalEventKind.CANCELLED, "cancelled before anything moved")
        else:
            self._wire.cancel(job.call_id)
            self._stop_again()

    def poll(self) -> tuple[GoalEvent, ...]:
        for call_id, reply in self._wire.replies():
            self._hear_astray(call_id, reply)
            if self._job is not None and call_id == self._job.call_id:
                self._hear(self._job, reply)
            elif reply.kind is GoalEventKind.ACCEPTED:
                self._wire.cancel(call_id)  # taken after it was given up
        if self._job is not None:
            self._look_after(self._job)
        self._call_back()
        self._stop_again()
        events, self._events = tuple(self._events), []
        return events

    def stop(self) -> None:
        """Cancels what is in flight and publishes the declared stop, and for a while again with
        every `poll`; nothing is published before the first goal has been sent. The goal is given
        up: more replies to it are not waited for."""
        if self._job is not None:
            self._give_up(self._job)
            self._job.plan.close()
            self._job = None
        if self._has_moved:
            self._publish_stop()
            self._stop_until_ns = self._stopped_ns + _STOP_FOR_NS

    @property
    def is_stopping(self) -> bool:
        """Whether `poll` is still to publish the declared stop."""
        if self._body.stop is None:
            return False
        left_ns = self._stop_until_ns - self._now_ns()
        return 0 < left_ns <= _STOP_FOR_NS or self._is_halting()

    # --- the declared stop -----------------------------------------------------------------------

    def _stop_again(self) -> None:
        since_ns = self._now_ns() - self._stopped_ns
        if self.is_stopping and not 0 <= since_ns < _STOP_EVERY_NS:
            self._publish_stop()

    def _is_halting(self) -> bool:
        """Whether something was cancelled that a cancel alone does not end."""
        job, now_ns = self._job, self._now_ns()
        if job is not None and job.cancelled and self._body.outlives_cancel(job.call):
            return True
        return any(
            given_up.is_there
            and 0 < given_up.until_ns - now_ns <= _HALT_FOR_NS
            and self._body.outlives_cancel(given_up.call)
            for given_up in self._astray
        )

    def _publish_stop(self) -> None:
        self._stopped_ns = self._now_ns()
        if self._body.stop is not None:
            self._wire.publish(self._body.stop)

    # --- one call after the other ----------------------------------------------------------------

    def _begin(self, job: _Job, call: Call) -> None:
        if not self._wire.is_there(call):
            kind = "service" if call.is_service else "action"
            text = f"there is no {kind} server at {call.server} ({call.type}): is it running?"
            self._end(job, GoalEventKind.LOST, text)
            return
        if taken := [name for name in self._body.rivals(call) if self._wire.is_taken(name)]:
            self._end(job, GoalEventKind.PREEMPTED, somebody_elses(taken[0]))
            return
        self._calls += 1
        job.call, job.call_id = call, f"{job.goal_id}/{self._calls}"
        self._has_moved |= not call.is_service
        self._stop_until_ns = 0  # or it would stop this one
        self._wire.call(job.call_id, call)
        if call.is_service:
            self._accepted(job)

    def _hear(self, job: _Job, reply: Reply) -> None:
        if reply.kind is GoalEventKind.ACCEPTED:
            self._accepted(job)
        elif reply.kind is GoalEventKind.FEEDBACK:
            self._body.heard(reply.message)
            self._feedback(job, *told(reply.message))
        else:
            self._ended(job, reply)

    def _ended(self, job: _Job, reply: Reply) -> None:
        """The plan's next call, or its end."""
        try:
            call = job.plan.send(reply)
        except StopIteration as done:
            self._end(job, GoalEventKind.SUCCEEDED, "", done.value)
        except GoalFailed as end:
            self._end(job, end.kind, end.text, end.values)
        else:
            if job.cancelled:
                self._end(job, GoalEventKind.CANCELLED, "cancelled on the way")
            else:
                self._begin(job, call)

    def _look_after(self, job: _Job) -> None:
        if not self._wire.is_there(job.call):
            text = f"the server at {job.call.server} is gone: did it crash, or is the network down?"
            self._give_up(job)
            self._end(job, GoalEventKind.LOST, text)
        elif job.accepted and not job.call.talks and self._silent_ns(job) >= HEARTBEAT_NS:
            self._feedback(job, "", ())

    def _silent_ns(self, job: _Job) -> int:
        return self._now_ns() - job.told_ns

    # --- what was given up -----------------------------------------------------------------------

    def _give_up(self, job: _Job) -> None:
        """Its end is not waited for; that it is cancelled is seen to."""
        self._wire.cancel(job.call_id)
        if not job.call.is_service:
            is_there, until_ns = self._wire.is_there(job.call), self._now_ns() + _HALT_FOR_NS
            self._astray.append(_Astray(job.call_id, job.call, is_there, until_ns))

    def _hear_astray(self, call_id: str, reply: Reply) -> None:
        if reply.kind not in (GoalEventKind.ACCEPTED, GoalEventKind.FEEDBACK):
            for given_up in [each for each in self._astray if each.call_id == call_id]:
                self._astray.remove(given_up)

    def _call_back(self) -> None:
        """A cancel that was sent while its server was out of reach is lost, and the server goes on:
        it is told again as soon as it is back. One that was started anew knows of nothing, and
        tells no end."""
        for given_up in self._astray:
            was_there, given_up.is_there = given_up.is_there, self._wire.is_there(given_up.call)
            if given_up.is_there and not was_there:
                self._wire.cancel(given_up.call_id)
                given_up.until_ns = min(given_up.until_ns, self._now_ns() + _STOP_FOR_NS)

    # --- events ----------------------------------------------------------------------------------

    def _accepted(self, job: _Job) -> None:
        job.told_ns = self._now_ns()
        if not job.accepted:
            job.accepted = True
            self._tell(job.goal_id, GoalEventKind.ACCEPTED)

    def _feedback(self, job: _Job, text: str, values: Values) -> None:
        job.told_ns = self._now_ns()
        if job.accepted:
            self._tell(job.goal_id, GoalEventKind.FEEDBACK, text, values)

    def _end(self, job: _Job, kind: GoalEventKind, text: str, values: Values = ()) -> None:
        self._job = None
        job.plan.close()
        self._tell(job.goal_id, kind, text, values)

    def _tell(self, goal_id: str, kind: GoalEventKind, text: str = "", values: Values = ()) -> None:
        fraction = float(kind is GoalEventKind.SUCCEEDED)
        event = GoalEvent(goal_id, kind, self._now_ns(), fraction, text, values)
        self._events.append(event)


_NUMBERS = (
    *("distance_remaining", "distance_to_goal", "distance_traveled"),
    *("angular_distance_traveled", "current_width"),
)


def told(feedback: Any) -> tuple[str, Values]:
    """What feedback of any of the servers says: MoveIt's state, and Nav2's and a hand's numbers."""
    feedback = getattr(feedback, "tracking_feedback", feedback)  # FollowPath's, since Lyrical
    numbers = ((name, getattr(feedback, name, None)) for name in _NUMBERS)
    values = tuple((name, float(value)) for name, value in numbers if value is not None)
    state = getattr(feedback, "state", "")
    return state if isinstance(state, str) else "", values
