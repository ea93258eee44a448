"""One goal at a time on one actuator: from sending it to exactly one end.

`transition` is the whole state machine, pure: a goal's run, what happened and the time go in, the
new run and what to tell the actuator come out. `GoalTracker` holds the run and talks.

    IDLE ─start─► SENT ─accepted─► ACTIVE ─final event─► ENDED
                    │                 │                    ▲
                    └──── cancel, timeout ─► CANCELLING ───┘ (final event, or unanswered: stop)
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace
from enum import Enum

from rynn_brain_ros.config import setting
from rynn_brain_ros.values import (
    Actuator,
    Cause,
    DriveGoal,
    Goal,
    GoalEvent,
    GoalEventKind,
    GripGoal,
    NavigateGoal,
    Refusal,
    RefusalCode,
    SpinGoal,
)


@dataclass(frozen=True)
class GoalTimeouts:
    """How long each part of a goal may take."""

    accept_s: float = setting(2.0, "until the actuator takes a goal [s]", 0.05, 60.0)
    silence_s: float = setting(
        5.0,
        "between two reports of a running goal; after that its server is gone [s]",
        0.1,
        600.0,
    )
    cancel_s: float = setting(3.0, "until a cancelled goal ends; then stop [s]", 0.05, 60.0)
    arm_s: float = setting(30.0, "for one motion of the arm [s]", 1.0, 600.0)
    grip_s: float = setting(10.0, "for one motion of the gripper [s]", 0.5, 120.0)
    drive_s: float = setting(30.0, "for one drive or turn [s]", 1.0, 600.0)
    navigate_s: float = setting(300.0, "for one navigation goal [s]", 1.0, 7200.0)

    def goal_s(self, goal: Goal) -> float:
        """How long ``goal`` may take from sending to its end."""
        if isinstance(goal, GripGoal):
            return self.grip_s
        if isinstance(goal, DriveGoal | SpinGoal):
            return self.drive_s
        return self.navigate_s if isinstance(goal, NavigateGoal) else self.arm_s


class GoalState(str, Enum):
    IDLE = "idle"
    SENT = "sent"
    ACTIVE = "active"
    CANCELLING = "cancelling"
    ENDED = "ended"

    @property
    def in_flight(self) -> bool:
        return self not in (GoalState.IDLE, GoalState.ENDED)


class GoalAction(str, Enum):
    """What a transition asks the tracker to tell the actuator."""

    NONE = "none"
    CANCEL = "cancel"
    STOP = "stop"
    """Cancel the goal, then the actuator's own safe action."""


@dataclass(frozen=True)
class GoalEnd:
    """How one goal ended. ``values`` are the result's numbers by name, such as ``width_m``."""

    goal_id: str
    cause: Cause
    text: str
    start_ns: int
    end_ns: int
    values: tuple[tuple[str, float], ...] = ()

    def value(self, name: str) -> float:
        """NaN where it was not told."""
        return dict(self.values).get(name, math.nan)


@dataclass(frozen=True)
class CancelRequest:
    """Somebody wants the goal to end: why, for programs and for people."""

    cause: Cause
    text: str = ""


@dataclass(frozen=True)
class GoalRun:
    """One goal on its way. ``limit_s`` is how long it may take, ``heard_ns`` when the actuator
    last spoke of it, ``seen_ns`` the latest time known, ``request`` why it is being cancelled
    since ``cancel_ns``; ``end`` is there once it has ended."""

    goal_id: str
    state: GoalState
    start_ns: int
    limit_s: float
    heard_ns: int
    seen_ns: int
    fraction: float = 0.0
    request: CancelRequest | None = None
    cancel_ns: int = 0
    end: GoalEnd | None = None


NextRun = tuple[GoalRun, GoalAction]

_FINAL_CAUSES = {
    GoalEventKind.SUCCEEDED: Cause.DONE,
    GoalEventKind.REJECTED: Cause.REJECTED,
    GoalEventKind.ABORTED: Cause.ABORTED,
    GoalEventKind.CANCELLED: Cause.CANCELLED,
    GoalEventKind.LOST: Cause.LOST_SERVER,
    GoalEventKind.PREEMPTED: Cause.PREEMPTED,
}


def transition(
    run: GoalRun, happened: GoalEvent | CancelRequest | None, now_ns: int, timeouts: GoalTimeouts
) -> NextRun:
    """What ``happened`` makes of ``run``; ``None``: only time has passed.

    An ended run stays as it is. One that speaks of going on after its end is cancelled again.
    """
    if isinstance(happened, GoalEvent):
        return _heard(run, happened, now_ns)
    if not run.state.in_flight:
        return run, GoalAction.NONE
    if isinstance(happened, CancelRequest):
        return _cancelled(run, happened, now_ns)
    return _passed(run, now_ns, timeouts)


def _heard(run: GoalRun, event: GoalEvent, now_ns: int) -> NextRun:
    if not run.state.in_flight:
        return run, GoalAction.NONE if event.kind.is_final else GoalAction.CANCEL
    if event.kind.is_final:
        return _final(run, event, now_ns)
    cancelling = run.state is GoalState.CANCELLING
    state = run.state if cancelling else GoalState.ACTIVE
    fraction = max(run.fraction, event.fraction)
    run = replace(run, state=state, heard_ns=now_ns, fraction=fraction)
    # A cancel that came before the goal was taken may have met nobody.
    again = cancelling and event.kind is GoalEventKind.ACCEPTED
    return run, GoalAction.CANCEL if again else GoalAction.NONE


def _final(run: GoalRun, event: GoalEvent, now_ns: int) -> NextRun:
    """A cancelled goal keeps the reason it was cancelled for, even if it succeeded meanwhile."""
    told = event.text or f"the actuator reports: {event.kind.value}"
    cause = _FINAL_CAUSES[event.kind]
    if run.request is not None:
        cause, told = run.request.cause, f"{run.request.text} ({told})"
    elif event.kind is GoalEventKind.CANCELLED and not event.text:
        told = "cancelled on the robot's side, not by this program"
    lost = event.kind is GoalEventKind.LOST
    return _ended(run, cause, told, now_ns, event.values), (
        GoalAction.STOP if lost else GoalAction.NONE
    )


def _cancelled(run: GoalRun, request: CancelRequest, now_ns: int) -> NextRun:
    """The first reason stays: asking again changes nothing."""
    if run.state is GoalState.CANCELLING:
        return run, GoalAction.NONE
    request = replace(request, text=request.text or request.cause.value)
    cancelling = replace(run, state=GoalState.CANCELLING, request=request, cancel_ns=now_ns)
    return cancelling, GoalAction.CANCEL


def _passed(run: GoalRun, now_ns: int, timeouts: GoalTimeouts) -> NextRun:
    back_s, run = (run.seen_ns - now_ns) / 1e9, replace(run, seen_ns=now_ns)
    if run.request is not None:
        return _waiting_for_cancel(run, run.request, back_s, timeouts)
    if back_s > 0:
        text = f"the clock jumped back by {back_s:.3g} s: how long it takes is not known any more"
        return _cancelled(run, CancelRequest(Cause.STALE, text), now_ns)
    taken_s, silent_s = (now_ns - run.start_ns) / 1e9, (now_ns - run.heard_ns) / 1e9
    if run.state is GoalState.SENT and taken_s > timeouts.accept_s:
        text = f"the actuator did not take the goal within {timeouts.accept_s:g} s"
        return _cancelled(run, CancelRequest(Cause.TIMEOUT, text), now_ns)
    if run.state is GoalState.ACTIVE and silent_s > timeouts.silence_s:
        text = f"nothing was heard for {silent_s:.2f} s (limit {timeouts.silence_s:g} s); stopped"
        return _ended(run, Cause.LOST_SERVER, text, now_ns), GoalAction.STOP
    if taken_s > run.limit_s:
        text = f"not done within {run.limit_s:g} s, {100 * run.fraction:.0f} % of it by then"
        return _cancelled(run, CancelRequest(Cause.TIMEOUT, text), now_ns)
    return run, GoalAction.NONE


def _waiting_for_cancel(
    run: GoalRun, request: CancelRequest, back_s: float, timeouts: GoalTimeouts
) -> NextRun:
    waited_s = (run.seen_ns - run.cancel_ns) / 1e9
    if back_s <= 0 and waited_s <= timeouts.cancel_s:
        return run, GoalAction.NONE
    text = f"{request.text} (the cancel was not answered within {timeouts.cancel_s:g} s; stopped)"
    # Nobody knows what the server does now: after a timeout that ended well another try may follow.
    cause = Cause.LOST_SERVER if request.cause is Cause.TIMEOUT else request.cause
    return _ended(run, cause, text, run.seen_ns), GoalAction.STOP


def _ended(
    run: GoalRun,
    cause: Cause,
    text: str,
    now_ns: int,
    values: tuple[tuple[str, float], ...] = (),
) -> GoalRun:
    end = GoalEnd(run.goal_id, cause, text, min(run.start_ns, now_ns), now_ns, values)
    return replace(run, state=GoalState.ENDED, end=end)


class GoalTracker:
    """Sends goals to ``actuator``, one in flight, and tells how each of them ended, once."""

    def __init__(self, actuator: Actuator, timeouts: GoalTimeouts | None = None) -> None:
        self._actuator = actuator
        self._timeouts = timeouts or GoalTimeouts()
        self._run: GoalRun | None = None
        self._next: tuple[str, Goal] | None = None
        self._ends: deque[GoalEnd] = deque()
        self._old: deque[GoalRun] = deque(maxlen=32)
        self._sent = 0

    @property
    def state(self) -> GoalState:
        return GoalState.IDLE if self._run is None else self._run.state

    @property
    def in_flight(self) -> bool:
        """A goal is being carried out, or waits for the one before it to end."""
        return self.state.in_flight or self._next is not None

    def start(self, goal: Goal, now_ns: int, preempt: bool = False) -> str | Refusal:
        """The goal's id, or BUSY or UNSUPPORTED_SKILL. ``preempt``: a goal in flight is cancelled
        (PREEMPTED), and this one is sent when that one has ended."""
        refusal = self._refusal(goal, preempt)
        if refusal is not None:
            return refusal
        self._sent += 1
        # The time makes it unlike the ids of a tracker that had this actuator before.
        goal_id = f"{self._actuator.name}-{self._sent}-{now_ns}"
        if self.in_flight:
            self.cancel(Cause.PREEMPTED, now_ns, f"goal {goal_id} was wanted instead")
            self._next = (goal_id, goal)
        else:
            self._send(goal_id, goal, now_ns)
        return goal_id

    def cancel(self, cause: Cause, now_ns: int, text: str = "") -> None:
        """Asks what is in flight to end with ``cause``; again, or with nothing in flight, it does
        nothing. The end itself comes from `update`."""
        self._drop_next(CancelRequest(cause, text or cause.value), now_ns)
        if self._run is not None:
            self._apply(self._run, CancelRequest(cause, text), now_ns)

    def update(self, now_ns: int) -> GoalEnd | None:
        """Takes in what the actuator reports and what the time says; one end per call."""
        for event in self._actuator.poll():
            run = self._run_of(event.goal_id)
            if run is not None:
                self._apply(run, event, now_ns)
        if self._run is not None:
            self._apply(self._run, None, now_ns)
        return self._ends.popleft() if self._ends else None

    def _refusal(self, goal: Goal, preempt: bool) -> Refusal | None:
        name = self._actuator.name
        if type(goal) not in self._actuator.goals:
            known = ", ".join(sorted(kind.__name__ for kind in self._actuator.goals)) or "nothing"
            return Refusal(
                RefusalCode.UNSUPPORTED_SKILL,
                f"{name} has no motion for a {type(goal).__name__}; it can do {known}",
            )
        if not self.in_flight or preempt or self._run is None:
            return None
        return Refusal(
            RefusalCode.BUSY,
            f"goal {self._run.goal_id} is still {self.state.value} on {name}: wait for its end, "
            "cancel it, or preempt it",
        )

    def _run_of(self, goal_id: str) -> GoalRun | None:
        runs = (*self._old, self._run) if self._run is not None else tuple(self._old)
        return next((run for run in runs if run.goal_id == goal_id), None)

    def _send(self, goal_id: str, goal: Goal, now_ns: int) -> None:
        if self._run is not None:
            self._old.append(self._run)
        limit_s = self._timeouts.goal_s(goal)
        self._run = GoalRun(goal_id, GoalState.SENT, now_ns, limit_s, now_ns, now_ns)
        self._actuator.send(goal_id, goal)

    def _apply(self, run: GoalRun, happened: GoalEvent | CancelRequest | None, now_ns: int) -> None:
        new, action = transition(run, happened, now_ns, self._timeouts)
        try:
            if action is not GoalAction.NONE:
                self._actuator.cancel(run.goal_id)
        finally:  # a cancel that fails keeps no stop from the robot
            if action is GoalAction.STOP:
                self._actuator.stop()
        if run is not self._run:
            return
        self._run = new
        if new.end is not None and run.end is None:
            self._ends.append(new.end)
            self._follow(stopped=action is GoalAction.STOP, now_ns=now_ns)

    def _follow(self, *, stopped: bool, now_ns: int) -> None:
        """The goal that waited; not to an actuator that had to be stopped, which may still be
        busy with the old one."""
        if stopped:
            text = "not sent: the goal before it did not end by itself"
            self._drop_next(CancelRequest(Cause.REJECTED, text), now_ns)
        if self._next is not None:
            (goal_id, goal), self._next = self._next, None
            self._send(goal_id, goal, now_ns)

    def _drop_next(self, request: CancelRequest, now_ns: int) -> None:
        if self._next is not None:
            goal_id, self._next = self._next[0], None
            self._ends.append(GoalEnd(goal_id, request.cause, request.text, now_ns, now_ns))
