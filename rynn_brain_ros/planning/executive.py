"""The loop around every task: turn after turn, until it is confirmed, refused or stopped.

What a turn is differs (a step of a plan, a few arrows of a drive) and is a `TurnTaker`. What is
common is here: looking, asking, deciding when it is over, and telling. The loop owns no thread and
no clock: time passes only in `Sight.tick`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from rynn_brain_ros.config import setting
from rynn_brain_ros.geometry import LiftLimits, apart
from rynn_brain_ros.memory import OpenFrames
from rynn_brain_ros.planning.asking import Question, ask, make_query
from rynn_brain_ros.planning.episode import (
    Answered,
    Episode,
    EpisodeEnded,
    Looked,
    Tell,
    TurnEnded,
    TurnRecord,
)
from rynn_brain_ros.planning.holding import Doings, Hand
from rynn_brain_ros.planning.moving import Moving
from rynn_brain_ros.planning.sight import Sight
from rynn_brain_ros.safety import EngineIdentity, Gate, Proposal, Situation
from rynn_brain_ros.values import (
    Cancel,
    Cause,
    Check,
    Decision,
    Engine,
    EngineError,
    FrameSet,
    GripGoal,
    Motion,
    PostureGoal,
    Query,
    Refusal,
    RefusalCode,
    Response,
    RigidTransform,
    SelectedFrame,
    Status,
    Step,
    Task,
    Turn,
)

EngineFor = Callable[[Query], Engine]
"""The engine for a question: roles are mapped outside."""
Approve = Callable[[Step | None, Motion], bool]
"""Asks a person; returns their yes or no."""

_STILL_M, _STILL_RAD = 0.02, math.radians(1.0)
"""A base may seem to move so far while it stands."""

_OF_JOINTS = (PostureGoal, GripGoal)
"""Goals that are the same wherever the base stands."""

_FINAL = frozenset(
    {Cause.CANCELLED, Cause.STALE, Cause.DISARMED, Cause.PREEMPTED, Cause.LOST_SERVER}
)
"""After these nothing is tried again."""


@dataclass(frozen=True)
class ExecutiveConfig:
    """How long and how often the loop tries."""

    max_turns: int = setting(24, "turns of one task, asked again ones included", 1, 500)
    max_reasks: int = setting(2, "how often in a row a turn is asked again after a no", 0, 20)
    max_failures: int = setting(3, "motions of one task that may fail", 0, 50)
    frames: int = setting(2, "frames shown in a later turn, spread over what was done", 1, 32)
    look_timeout_s: float = setting(2.0, "how long a new image is waited for [s]", 0.05, 60.0)
    settle_s: float = setting(0.4, "how long the scene rests before a look [s]", 0.0, 10.0)
    tick_s: float = setting(0.04, "how often arriving images are taken in [s]", 0.005, 1.0)


@dataclass
class Run:
    """What changes while one task runs. ``since_ns`` is when the newest motion began,
    ``answered_ns`` from when on the answer's age counts: when it came, and later by the time in
    which a person was asked about it."""

    task: str
    start_ns: int
    since_ns: int
    cancel: Cancel | None = None
    turns: list[TurnRecord] = field(default_factory=list)
    history: tuple[Turn, ...] = ()
    doings: Doings = field(default_factory=Doings)
    reasks: int = 0
    failures: int = 0
    engine: str = ""
    answered_by: EngineIdentity | None = None
    answered_ns: int = 0

    @property
    def cancelled(self) -> bool:
        return self.cancel is not None and self.cancel.is_set()


@dataclass(frozen=True)
class Brain:
    """Everything that a turn needs and that outlasts it."""

    engine_for: EngineFor
    sight: Sight
    mover: Moving
    gate: Gate
    tell: Tell
    config: ExecutiveConfig = field(default_factory=ExecutiveConfig)
    lift: LiftLimits = field(default_factory=LiftLimits)
    approve: Approve | None = None
    opened: OpenFrames = field(default_factory=OpenFrames)
    hand: Hand = field(default_factory=Hand)

    def now_ns(self) -> int:
        return self.sight.clock.now_ns()

    def look(self, run: Run, number: int, at_most: int) -> FrameSet | Refusal:
        """Lets the scene rest and shows it as it is now, with up to ``at_most`` frames since the
        newest motion began."""
        self.sight.tick(self.config.settle_s)
        refusal = self.wait_for_new_frame(run)
        if refusal is not None:
            return refusal
        frames = self.sight.show(run.since_ns, at_most)
        if isinstance(frames, Refusal):
            return frames
        self.tell(Looked(number, self.now_ns(), frames))
        return frames

    def wait_for_new_frame(self, run: Run) -> Refusal | None:
        timeout_s, tick_s = self.config.look_timeout_s, self.config.tick_s
        return self.sight.wait_for_frame(self.now_ns(), timeout_s, tick_s, run.cancel)

    def ask(self, run: Run, query: Query, number: int) -> Response | Refusal:
        """The engine's answer, read and lifted, or why there is none."""
        self.sight.watchdog.engine_started(self.now_ns())
        try:
            engine = self.engine_for(query)
            run.engine = engine.info.name
            response = ask(engine, query, self.lift, cancel=run.cancel, opened=self.opened)
        except EngineError as error:
            return Refusal(RefusalCode.ENGINE_FAILED, str(error))
        finally:
            self.sight.watchdog.engine_ended()
        run.answered_by = EngineIdentity.of(response.answer)
        run.answered_ns = self.sight.tick(0.0)  # an engine thinks while pictures come
        self.tell(Answered(number, run.answered_ns, response))
        return response

    def query(self, run: Run, task: Task, frames: FrameSet, number: int) -> Query:
        return replace(
            make_query(number + 1, Question(run.task, task), frames), history=run.history
        )

    def judge(self, run: Run, proposal: Proposal, situation: Situation) -> Decision:
        """The gate's word; a person is asked only about what nothing else forbids, and what they
        allow is judged once more as things are by then. While they think, the answer grows no
        older: how things are by then is what is looked at."""
        decision = self._judged(proposal, situation)
        refusal = decision.refusal
        if self.approve is None or refusal is None:
            return decision
        if refusal.code is not RefusalCode.NOT_APPROVED or situation.approved is not None:
            return decision
        asked_ns = self.now_ns()
        said = self.approve(proposal.step, proposal.motion)
        now_ns, seen = self.sight.tick(0.0), situation.newest
        thought_ns = max(0, now_ns - asked_ns)
        run.answered_ns += thought_ns
        proposal = replace(proposal, answered_ns=proposal.answered_ns + thought_ns)
        newest = None if seen is None else self.newest(seen)
        now = replace(
            situation,
            now_ns=now_ns,
            newest=newest,
            armed=self.mover.is_armed(now_ns),
            approved=said,
        )
        return self._judged(proposal, now)

    def _judged(self, proposal: Proposal, situation: Situation) -> Decision:
        """The gate's word on a motion whose base stands where the motion was told from."""
        decision = self.gate.judge(proposal, situation)
        told, newest = situation.T_base_fixed, situation.newest
        if told is None or newest is None or situation.approved is False:
            return decision
        if all(isinstance(stage.goal, _OF_JOINTS) for stage in proposal.motion.stages):
            return decision
        moved = self.base_moved(told, newest)
        if moved is None:
            return decision
        still = Check("base_still", False, moved.text)
        return replace(decision, checks=(*decision.checks, still), refusal=moved)

    def base_moved(self, told: RigidTransform, now: SelectedFrame) -> Refusal | None:
        """SCENE_CHANGED where the base stands elsewhere in ``now`` than where it was ``told`` to
        stand (``T_base_fixed``): what is told from there would be done beside it."""
        sight, stamp_ns = self.sight, now.frame.stamp_ns
        stands = sight.wait_for_pose(told.parent, told.child, stamp_ns, self.config.tick_s)
        if isinstance(stands, Refusal):
            return stands
        moved_m, turned_rad = apart(told, stands)
        if moved_m <= _STILL_M and turned_rad <= _STILL_RAD:
            return None
        return Refusal(
            RefusalCode.SCENE_CHANGED,
            f"{told.parent} moved {moved_m:.2f} m and turned {math.degrees(turned_rad):.1f}° "
            "since the picture that the motion was told from: look and ask again",
        )

    def newest(self, shown: SelectedFrame) -> SelectedFrame:
        """The newest frame of the camera, which may be the one shown."""
        return self.sight.newest_or(shown)


class TurnTaker(Protocol):
    """One kind of turn. It fills a record as far as it comes, and never raises because an engine
    or a robot misbehaves."""

    def turn(self, run: Run) -> TurnRecord: ...


@dataclass(frozen=True)
class _End:
    status: Status
    cause: str
    text: str
    confirmed: bool = False


def carry_out(task: str, taker: TurnTaker, brain: Brain, cancel: Cancel | None = None) -> Episode:
    """Works on ``task`` until it is confirmed, refused, stopped, or out of turns. What the hand
    held at the end of the task before, on the same ``brain.hand``, it still holds."""
    now_ns = brain.now_ns()
    run = Run(task, now_ns, now_ns - 1, cancel, doings=brain.hand.begin())
    end = _before_turn(run, brain.config)
    while end is None:
        try:
            record = taker.turn(run)
        finally:
            brain.hand.held = run.doings.held
        run.turns.append(record)
        brain.tell(TurnEnded(record))
        end = _after_turn(run, record, brain.config) or _before_turn(run, brain.config)
    episode = Episode(
        task=task,
        engine=run.engine,
        turns=tuple(run.turns),
        status=end.status,
        cause=end.cause,
        text=end.text,
        confirmed=end.confirmed,
        start_ns=run.start_ns,
        end_ns=brain.now_ns(),
    )
    brain.tell(EpisodeEnded(episode))
    return episode


def _before_turn(run: Run, config: ExecutiveConfig) -> _End | None:
    if run.cancelled:
        return _End(Status.CANCELLED, Cause.CANCELLED.value, "a person stopped it")
    if len(run.turns) >= config.max_turns:
        return _End(Status.FAILED, "too_many_turns", f"not done after {config.max_turns} turns")
    return None


def _after_turn(run: Run, record: TurnRecord, config: ExecutiveConfig) -> _End | None:
    """Whether the turn ended the task; keeps the counts that decide it."""
    if record.confirmation is not None and record.confirmation.confirmed:
        return _End(Status.SUCCEEDED, Cause.DONE.value, record.confirmation.text, True)
    outcome = next((m.outcome for m in reversed(record.moves) if m.outcome is not None), None)
    if outcome is not None and outcome.cause is not Cause.DONE:
        run.failures += 1
        if outcome.cause in _FINAL or run.failures > config.max_failures:
            return _End(outcome.status, outcome.cause.value, outcome.text)
    denied = record.refusal is not None and record.refusal.code is RefusalCode.NOT_APPROVED
    if record.refusal is None or (record.moved and not denied):
        run.reasks = 0
        return None
    run.reasks += 1
    if run.reasks <= config.max_reasks or run.cancelled:  # who stopped it has said the last word
        return None
    return _End(Status.REFUSED, record.refusal.code.value, record.refusal.text)


class Laps:
    """Wall time between calls: told in the report, and decides nothing."""

    def __init__(self) -> None:
        self._last = time.perf_counter()

    def lap(self) -> float:
        before, self._last = self._last, time.perf_counter()
        return self._last - before
