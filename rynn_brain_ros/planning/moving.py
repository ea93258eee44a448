"""Carrying out one approved motion, goal after goal, and saying how it ended.

The motion ends at the first goal that does not succeed. What may still be done then depends on
why: after an empty grip the hand opens and goes back up; what was gripped is held on to; after a
stop by a person or the watchdog nothing moves any more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from rynn_brain_ros.config import setting
from rynn_brain_ros.planning.arming import Arming
from rynn_brain_ros.planning.episode import StageBegan, Tell
from rynn_brain_ros.planning.goals import GoalEnd, GoalTracker
from rynn_brain_ros.planning.sight import Sight
from rynn_brain_ros.planning.watchdog import Watchdog
from rynn_brain_ros.values import (
    Cancel,
    Cause,
    FollowGoal,
    GripGoal,
    Motion,
    MotionStage,
    Outcome,
    ReachGoal,
    Refusal,
    Skill,
    Stage,
)

_RECOVERABLE = frozenset(
    {Cause.NOTHING_GRIPPED, Cause.DROPPED, Cause.SCENE_CHANGED, Cause.ABORTED, Cause.REJECTED}
)
_WAY_BACK = (Stage.LIFT, Stage.RETREAT)
_HOLDING = (Stage.GRIP, Stage.LIFT, Stage.RETREAT)
_EMPTY = (Cause.NOTHING_GRIPPED, Cause.DROPPED)

Guard = Callable[[MotionStage], Refusal | None]
"""Looks once more before a stage begins; a refusal ends the motion as SCENE_CHANGED."""


@dataclass(frozen=True)
class MovingConfig:
    """How motions are watched."""

    tick_s: float = setting(0.04, "how often a running goal is looked at [s]", 0.005, 1.0)
    min_grip_m: float = setting(0.004, "fingers closer than this hold nothing [m]", 0.0, 0.05)


def is_held(motion: Motion, stages_done: int, cause: Cause) -> bool:
    """Whether a pick that ended so, this far into it, has its thing in the hand."""
    gripped = any(s.stage is Stage.GRIP for s in motion.stages[:stages_done])
    return motion.skill is Skill.PICK and gripped and cause not in _EMPTY


def why_stop(
    now_ns: int, cancel: Cancel | None, arming: Arming, watchdog: Watchdog
) -> tuple[Cause, str] | None:
    """Why nothing may move now; None where it may."""
    if cancel is not None and cancel.is_set():
        return Cause.CANCELLED, "a person stopped it"
    if not arming.is_armed(now_ns):
        return Cause.DISARMED, "motion is no longer armed"
    stale = watchdog.check(now_ns)
    return None if stale is None else (Cause.STALE, stale.text)


class Moving(Protocol):
    """Who carries out approved motions, one at a time: a `Mover`, or whoever knows a way to do
    what a motion is for."""

    @property
    def in_flight(self) -> bool: ...

    def is_armed(self, now_ns: int) -> bool: ...

    def run(
        self, motion: Motion, number: int, guard: Guard, cancel: Cancel | None = None
    ) -> Outcome:
        """Carries out ``motion`` of turn ``number``; never raises because a robot misbehaves."""
        ...


class Mover:
    """Motions goal after goal, on one actuator."""

    def __init__(
        self,
        tracker: GoalTracker,
        sight: Sight,
        arming: Arming,
        tell: Tell,
        config: MovingConfig,
    ) -> None:
        self._tracker, self._sight, self._arming = tracker, sight, arming
        self._tell, self._config = tell, config

    @property
    def in_flight(self) -> bool:
        return self._tracker.in_flight

    def is_armed(self, now_ns: int) -> bool:
        return self._arming.is_armed(now_ns)

    def run(
        self, motion: Motion, number: int, guard: Guard, cancel: Cancel | None = None
    ) -> Outcome:
        start_ns = self._sight.clock.now_ns()
        width_m, done = math.nan, 0
        cause, text = Cause.DONE, ""
        for stage in motion.stages:
            cause, text, reached_m = self._stage(stage, motion, number, guard, cancel)
            width_m = reached_m if math.isfinite(reached_m) else width_m
            if cause is not Cause.DONE:
                text = f"{stage.stage.value}: {text}"
                break
            done += 1
        if cause is Cause.DONE:
            text = "every stage succeeded"
        if cause in _RECOVERABLE:
            holds = is_held(motion, done, cause)
            text += self._go_back(motion, done, number, cancel, keep_closed=holds)
        end_ns = self._sight.clock.now_ns()
        return Outcome(cause, text, start_ns, end_ns, done, width_m)

    def _stage(
        self,
        stage: MotionStage,
        motion: Motion,
        number: int,
        guard: Guard,
        cancel: Cancel | None,
    ) -> tuple[Cause, str, float]:
        """Cause, text, and the width between the fingers where the stage told one."""
        changed = guard(stage)
        if changed is not None:
            return Cause.SCENE_CHANGED, changed.text, math.nan
        end = self._goal(stage, number, cancel)
        width_m = end.value("width_m")
        if end.cause is not Cause.DONE:
            return end.cause, end.text, width_m
        closed = isinstance(stage.goal, GripGoal) and stage.stage in _HOLDING
        if not closed or not math.isfinite(motion.grip_width_m):
            return Cause.DONE, end.text, width_m
        if not math.isfinite(width_m):
            return Cause.ABORTED, "nobody tells how far the fingers closed", width_m
        if width_m < self._config.min_grip_m:
            cause = Cause.NOTHING_GRIPPED if stage.stage is Stage.GRIP else Cause.DROPPED
            return cause, f"the fingers closed to {1000 * width_m:.1f} mm", width_m
        return Cause.DONE, end.text, width_m

    def _goal(self, stage: MotionStage, number: int, cancel: Cancel | None) -> GoalEnd:
        now_ns = self._sight.clock.now_ns()
        stop = self._why_stop(now_ns, cancel)
        if stop is not None:
            return GoalEnd("", *stop, now_ns, now_ns)
        self._tell(StageBegan(number, now_ns, stage))
        started = self._tracker.start(stage.goal, now_ns)
        if isinstance(started, Refusal):
            return GoalEnd("", Cause.REJECTED, started.text, now_ns, now_ns)
        while True:
            now_ns = self._sight.tick(self._config.tick_s)
            stop = self._why_stop(now_ns, cancel)
            if stop is not None:  # asking twice changes nothing
                self._tracker.cancel(stop[0], now_ns, stop[1])
            end = self._tracker.update(now_ns)
            if end is not None:
                return end

    def _why_stop(self, now_ns: int, cancel: Cancel | None) -> tuple[Cause, str] | None:
        return why_stop(now_ns, cancel, self._arming, self._sight.watchdog)

    def _go_back(
        self, motion: Motion, done: int, number: int, cancel: Cancel | None, *, keep_closed: bool
    ) -> str:
        """The rest of the approved way: hand open where it holds nothing, up, and away."""
        if done == 0:
            return "; nothing had moved yet"
        begun = any(s.stage is Stage.APPROACH for s in motion.stages[: done + 1])
        way = _WAY_BACK if begun else (Stage.RETREAT,)
        back = [s for s in motion.stages[done:] if s.stage in way]
        if begun and any(isinstance(s.goal, FollowGoal) for s in motion.stages[done:]):
            # The approved way up begins where the path ends: from anywhere before that, it would
            # lead through the thing that the path goes along.
            up = self._straight_up(motion, done)
            if up is None:
                return "; the hand stays where it is: where that is, is unknown"
            back = [up, *(s for s in back if s.stage is Stage.RETREAT)]
        openings = [s for s in motion.stages if s.stage is Stage.OPEN_HAND and not keep_closed]
        for stage in (*openings, *(s for s in back if not isinstance(s.goal, GripGoal))):
            end = self._goal(stage, number, cancel)
            if end.cause is not Cause.DONE:
                return f"; on the way back {stage.stage.value}: {end.text}"
        return "; the hand went back"

    def _straight_up(self, motion: Motion, done: int) -> MotionStage | None:
        """From where the tool is now to the height of the way up, turned as it is; ``None`` where
        its place is unknown."""
        lift = next((s.goal for s in motion.stages[done:] if s.stage is Stage.LIFT), None)
        if not isinstance(lift, ReachGoal):
            return None
        up, stopped_ns = lift.T_base_tcp, self._sight.clock.now_ns()
        tool = self._sight.wait_for_pose(up.parent, up.child, stopped_ns, self._config.tick_s)
        if isinstance(tool, Refusal):
            return None
        (x, y, z), (*_, top_m) = tool.translation_m, up.translation_m
        pose = replace(tool, translation_m=(x, y, max(z, top_m)))
        return MotionStage(Stage.LIFT, ReachGoal(pose, straight=True, speed=lift.speed))
