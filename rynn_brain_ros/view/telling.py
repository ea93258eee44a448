"""Short words for what happened, the same in the plan, the story, its map and its timeline."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rynn_brain_ros.planning.episode import Episode, TurnRecord
from rynn_brain_ros.values import (
    Cause,
    DriveGoal,
    Motion,
    MotionStage,
    NavigateGoal,
    SpinGoal,
    Status,
    Step,
    Task,
)

_VERDICTS = {
    Status.SUCCEEDED: ("ok", "Succeeded"),
    Status.FAILED: ("no", "Failed"),
    Status.CANCELLED: ("halt", "Stopped"),
    Status.REFUSED: ("halt", "Refused"),
}


@dataclass(frozen=True)
class Verdict:
    """``mark`` is ``ok``, ``no``, ``halt`` (nothing went wrong, but it is not done) or empty;
    ``word`` says it in a word or two, ``because`` in a sentence."""

    mark: str
    word: str
    because: str = ""


def verdict(episode: Episode) -> Verdict:
    """How the whole task ended."""
    mark, word = _VERDICTS[episode.status]
    if episode.status is Status.SUCCEEDED:
        word += " and confirmed" if episode.confirmed else ", not confirmed"
    return Verdict(mark, word, episode.text or plain(episode.cause))


def ended(turn: TurnRecord) -> Verdict:
    """How a turn ended: its refusal, else its last motion, else its confirmation."""
    if turn.refusal is not None:
        return Verdict("halt", f"refused: {turn.refusal.code.value}", turn.refusal.text)
    outcomes = [move.outcome for move in turn.moves if move.outcome is not None]
    if turn.confirmation is not None:
        sure = turn.confirmation.confirmed
        return Verdict("ok" if sure else "no", _confirmed(sure), turn.confirmation.text)
    if outcomes:
        last = outcomes[-1]
        mark = "ok" if last.cause is Cause.DONE else "no"
        if last.status is Status.CANCELLED:
            mark = "halt"
        return Verdict(mark, plain(last.cause.value), last.text)
    return Verdict("", "nothing moved")


def _confirmed(sure: bool) -> str:
    return "confirmed" if sure else "not confirmed"


def asked_again(before: TurnRecord | None) -> str:
    """Why the turn after ``before`` asks again for what ``before`` was about; empty where it goes
    on from a success."""
    if before is None:
        return ""
    end = ended(before)
    if end.mark in ("ok", ""):
        return ""
    return f"{name(before)} {'was' if before.refusal is not None else 'ended with'} {end.word}"


def name(turn: TurnRecord) -> str:
    """``turn 1`` for the first."""
    return f"turn {turn.number + 1}"


def doing(turn: TurnRecord) -> str:
    """``place into``: what a turn is about, as far as it came."""
    if turn.step is not None:
        return _step(turn.step)
    if turn.response is None:
        return "no answer"
    reading = turn.response.reading
    if reading.actions:
        return ", ".join(action.lower() for action in reading.actions)
    if turn.response.query.task is Task.NAVIGATE and reading.groundings:
        return "go there"
    return "done" if reading.done else "no step"


def _step(step: Step) -> str:
    """The planner's sentences point and do not name: the words around a tag are its verb."""
    told = plain(step.skill.value)
    return f"{told} {step.preposition}" if step.area is not None and step.preposition else told


def does(motion: Motion) -> str:
    """In a few words: ``drive +0.25 m``, or the stages of an arm's motion."""
    return ", ".join(dict.fromkeys(_stage_does(stage) for stage in motion.stages))


def _stage_does(stage: MotionStage) -> str:
    goal = stage.goal
    if isinstance(goal, DriveGoal):
        return f"drive {goal.distance_m:+.2f} m"
    if isinstance(goal, SpinGoal):
        return f"turn {math.degrees(goal.angle_rad):+.0f}°"
    if isinstance(goal, NavigateGoal):
        x, y, _ = goal.T_map_base.translation_m
        return f"go to ({x:.2f}, {y:.2f}) in {goal.T_map_base.parent}"
    return plain(stage.stage.value)


def plain(code: str) -> str:
    """``nothing gripped`` for ``nothing_gripped``."""
    return code.replace("_", " ")


def seconds(duration_s: float) -> str:
    """``12 ms``, ``1.4 s`` or a dash."""
    if not math.isfinite(duration_s):
        return "–"
    return f"{duration_s:.1f} s" if duration_s >= 0.9995 else f"{1000 * duration_s:.0f} ms"


def percent(share: float) -> str:
    """``97%``; never 0% or 100% of what is not none or all: ``99.5%``, ``>99.9%``."""
    if not 0 < share < 1 or 0.005 < share < 0.995:
        return f"{share:.0%}"
    if 0.001 <= share <= 0.999:
        return f"{share:.1%}"
    return "<0.1%" if share < 0.5 else ">99.9%"


def drives(episode: Episode) -> bool:
    """Whether it is a base that moves, not an arm."""
    goals = [stage.goal for t in episode.turns for m in t.moves for stage in m.motion.stages]
    return any(isinstance(goal, DriveGoal | SpinGoal | NavigateGoal) for goal in goals)
