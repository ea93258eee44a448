"""A world that goes on by itself, in step with the wall clock: in a thread of its own, which alone
touches the world, its actuators and its pictures.

Others hand in errands, one queue of them for each actuator, and never wait here: what becomes of
an errand is told by its own callbacks, in the world's thread.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, TypeVar

from rynn_brain_ros.sim.world import World
from rynn_brain_ros.values import GoalEvent, GoalEventKind, InputError

T = TypeVar("T")

LATEST_S = 0.25
"""A world that is later than this is not hurried any more: it is slower than it was asked to be."""
_COMING_TO_REST_S = 3.0
_CLOSED = "the simulator is closed"


class Cause(str, Enum):
    """Why an errand ended."""

    DONE = "done"
    REJECTED = "rejected"
    ABORTED = "aborted"
    CANCELLED = "cancelled"
    PREEMPTED = "preempted"
    TIMED_OUT = "timed_out"
    STOPPED = "stopped"
    """The robot was switched off."""


@dataclass(frozen=True)
class Ending:
    """``values`` are those of the actuator's last event. ``detail`` is whatever the one who began
    the errand wants to hand to the one who ends it."""

    cause: Cause
    text: str = ""
    values: tuple[tuple[str, float], ...] = ()
    detail: Any = None

    def value(self, name: str) -> float:
        """NaN where it was not told."""
        return dict(self.values).get(name, math.nan)


@dataclass(frozen=True, eq=False)
class Errand:
    """``begin`` sends one goal under the id that it is given, or returns how it ended already.
    ``is_cancelled`` is asked again and again. ``allowed_s`` is in the world's own time."""

    begin: Callable[[str], Ending | None]
    end: Callable[[Ending], None]
    report: Callable[[float], None] = lambda _: None
    is_cancelled: Callable[[], bool] = lambda: False
    allowed_s: float = math.inf


class Mover(Protocol):
    """The part of an `Actuator` that is needed here."""

    def cancel(self, goal_id: str) -> None: ...

    def poll(self) -> tuple[GoalEvent, ...]: ...

    def stop(self) -> None: ...


_FINAL = {
    GoalEventKind.SUCCEEDED: Cause.DONE,
    GoalEventKind.REJECTED: Cause.REJECTED,
    GoalEventKind.CANCELLED: Cause.CANCELLED,
}


class Lane:
    """One actuator's errands, one at a time: a new one takes the place of the old one, which comes
    to rest first. All but `submit` is for the world's thread."""

    def __init__(self, name: str, mover: Mover, now_ns: Callable[[], int]) -> None:
        self._name, self._mover, self._now_ns = name, mover, now_ns
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._next: Errand | None = None
        self._current: Errand | None = None
        self._goal_id, self._begun_ns = "", 0
        self._cancelled_for: Cause | None = None
        self._stopped_by = ""

    @property
    def is_idle(self) -> bool:
        return self._current is None and self._next is None

    def submit(self, errand: Errand) -> None:
        with self._lock:
            replaced, self._next = self._next, errand
        if replaced is not None:
            replaced.end(Ending(Cause.PREEMPTED, "a newer goal came before it began"))

    def advance(self) -> None:
        for event in self._mover.poll():
            if self._current is not None and event.goal_id == self._goal_id:
                self._hear(event, self._current)
        if self._current is not None and self._cancelled_for is None:
            self._cancelled_for = self._reason_to_cancel(self._current)
            if self._cancelled_for is not None:
                self._mover.cancel(self._goal_id)
        if self._current is None:
            self._begin_next()

    def stop(self, text: str) -> None:
        """Whatever moves comes to rest; what has not begun never will."""
        with self._lock:
            waiting, self._next = self._next, None
        if waiting is not None:
            waiting.end(Ending(Cause.STOPPED, text))
        if self._current is not None:
            self._cancelled_for, self._stopped_by = Cause.STOPPED, text
        self._mover.stop()

    def abandon(self, text: str) -> None:
        """Nobody moves any more: ends what has not ended."""
        self.stop(text)
        if self._current is not None:
            self._end(self._current, Ending(Cause.STOPPED, text))

    def _reason_to_cancel(self, errand: Errand) -> Cause | None:
        if errand.is_cancelled():
            return Cause.CANCELLED
        if self._next is not None:
            return Cause.PREEMPTED
        if (self._now_ns() - self._begun_ns) / 1e9 > errand.allowed_s:
            return Cause.TIMED_OUT
        return None

    def _hear(self, event: GoalEvent, errand: Errand) -> None:
        if event.kind is GoalEventKind.FEEDBACK:
            errand.report(event.fraction)
        if not event.kind.is_final:
            return
        cause = _FINAL.get(event.kind, Cause.ABORTED)
        if cause is Cause.CANCELLED and self._cancelled_for is not None:
            cause = self._cancelled_for
        text = self._stopped_by if cause is Cause.STOPPED else event.text
        self._end(errand, Ending(cause, text, event.values))

    def _begin_next(self) -> None:
        with self._lock:
            errand, self._next = self._next, None
        if errand is None:
            return
        if errand.is_cancelled():
            errand.end(Ending(Cause.CANCELLED, "cancelled before it began"))
            return
        self._goal_id = f"{self._name} {next(self._numbers)}"
        self._current, self._begun_ns, self._cancelled_for = errand, self._now_ns(), None
        try:
            ended = errand.begin(self._goal_id)
        except Exception as error:  # noqa: BLE001  # one goal may not break the world
            ended = Ending(Cause.ABORTED, f"internal error: {type(error).__name__}: {error}")
        if ended is not None:
            self._end(errand, ended)

    def _end(self, errand: Errand, ending: Ending) -> None:
        self._current = None
        errand.end(ending)


class Ticking(Protocol):
    """Lets a world's time pass: `sensing.WorldClock`."""

    def wait(self, seconds: float) -> None: ...


@dataclass(frozen=True)
class Running:
    """A world with everything that goes with it, made in the thread that runs it."""

    world: World
    clock: Ticking
    lanes: Mapping[str, Lane]


class LiveWorld:
    """Runs what ``make`` gives, ``factor`` times as fast as the wall clock, while it is resumed.

    Raises whatever ``make`` raises. `close` it. A world that breaks later tells ``on_failure``, in
    its own thread, and is closed then.
    """

    def __init__(
        self,
        make: Callable[[], Running],
        factor: float = 1.0,
        on_failure: Callable[[Exception], None] = lambda _: None,
    ) -> None:
        self._factor, self._on_failure = factor, on_failure
        self._changed = threading.Condition()
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._is_going = self._is_closing = False
        self._shift_ns = 0
        self._behind_s = 0.0
        made: Future[Running] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(make, made), name="world", daemon=True
        )
        self._thread.start()
        self._running = made.result()

    @property
    def running(self) -> Running:
        """For what never changes: anything else is the world's thread's own."""
        return self._running

    @property
    def shift_ns(self) -> int:
        """What to add to the world's time for the wall clock's, at factor 1. It grows when the
        world is late."""
        return self._shift_ns

    @property
    def behind_s(self) -> float:
        """By how much the world has fallen behind for good since it was last resumed."""
        return self._behind_s

    def submit(self, lane: str, errand: Errand) -> None:
        """Ends it as stopped, at once, where the world is closed."""
        with self._changed:
            if not self._is_closing:
                self._running.lanes[lane].submit(errand)
                return
        errand.end(Ending(Cause.STOPPED, _CLOSED))

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Done in the world's thread, between two steps. Raises `InputError` once it is closed, and
        so does the future where that happens first."""
        future: Future[T] = Future()
        with self._changed:
            if self._is_closing:
                raise InputError(_CLOSED)
            self._calls.append((function, future))
            self._changed.notify_all()
        return future

    def resume(self) -> None:
        with self._changed:
            self._is_going = True
            self._changed.notify_all()

    def pause(self, text: str) -> None:
        """What moves comes to rest, every errand ends with ``text`` as its reason, and time stops.
        Waits for that."""
        with suppress(InputError):  # in a world that is closed nothing moves
            self.call(lambda: self._come_to_rest(text)).result()

    def close(self) -> None:
        """May be called twice."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._thread.join()

    # --- in the world's thread --------------------------------------------------------------------

    def _run(self, make: Callable[[], Running], made: Future[Running]) -> None:
        try:
            running = make()
        except BaseException as error:  # noqa: BLE001  # told to the one who asked for a world
            made.set_exception(error)
            return
        self._running = running
        made.set_result(running)
        try:
            self._go_on(running)
        except Exception as error:  # noqa: BLE001  # whatever it is, nobody may wait forever
            self._on_failure(error)
        finally:
            with self._changed:
                self._is_closing = True
            for _, future in self._calls:
                future.set_exception(InputError(_CLOSED))
            for lane in running.lanes.values():
                lane.abandon(_CLOSED)
            running.world.close()

    def _go_on(self, running: Running) -> None:
        due_s, was_going = 0.0, False
        while self._wait_for_work():
            self._answer_calls()
            if self._is_going and not was_going:
                period_s = running.world.control_period_s
                due_s, self._behind_s = time.monotonic() + period_s / self._factor, 0.0
                self._shift_ns = time.time_ns() - running.world.now_ns
            was_going = self._is_going
            if was_going:
                due_s = self._pass_time(running, due_s)

    def _wait_for_work(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._is_going or self._is_closing or self._calls)
            return not self._is_closing

    def _answer_calls(self) -> None:
        while self._calls:
            function, future = self._calls.popleft()
            try:
                future.set_result(function())
            except BaseException as error:  # noqa: BLE001  # told where it is asked for
                future.set_exception(error)

    def _pass_time(self, running: Running, due_s: float) -> float:
        """One control period where it is due. Returns when the next one is."""
        late_s = time.monotonic() - due_s
        if late_s < 0:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closing or self._calls, -late_s)
            return due_s
        if late_s > LATEST_S:
            self._shift_ns += round(late_s * 1e9)
            self._behind_s += late_s
            due_s += late_s
        for lane in running.lanes.values():
            lane.advance()
        running.clock.wait(running.world.control_period_s)
        return due_s + running.world.control_period_s / self._factor

    def _come_to_rest(self, text: str) -> None:
        running = self._running
        for lane in running.lanes.values():
            lane.stop(text)
        period_s = running.world.control_period_s
        for _ in range(round(_COMING_TO_REST_S / period_s)):
            if not self._is_going or all(lane.is_idle for lane in running.lanes.values()):
                break
            running.clock.wait(period_s)
            for lane in running.lanes.values():
                lane.advance()
        for lane in running.lanes.values():
            lane.abandon(text)
        self._is_going = False
