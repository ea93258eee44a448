"""What a task was, from the first look to the end: frozen records, made as they happen.

The executive makes them, and everybody else only reads: the command line tells them, the report
draws them, the recorder keeps them, a replay compares them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from rynn_brain_ros.values import (
    Check,
    Decision,
    FrameSet,
    Motion,
    MotionStage,
    Outcome,
    Refusal,
    Response,
    Status,
    Step,
)


@dataclass(frozen=True)
class Confirmation:
    """A separate look at whether a claimed end is true: what was compared, and the verdict."""

    confirmed: bool
    text: str
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True)
class Move:
    """One motion that was proposed: what the gate said and, if it moved, how it ended."""

    motion: Motion
    decision: Decision
    outcome: Outcome | None = None


@dataclass(frozen=True)
class StageTimes:
    """Seconds of wall time that the brain spent on one turn, by stage; motion is not in it."""

    look_s: float = math.nan
    ask_s: float = math.nan
    plan_s: float = math.nan
    gate_s: float = math.nan


@dataclass(frozen=True)
class TurnRecord:
    """One turn: a look, a question, an answer, and what came of it.

    ``number`` counts from 0 and includes turns that were asked again; ``refusal`` is why nothing
    moved, wherever that was decided (no answer, no step, no grasp, the gate). A navigation turn
    has up to four moves, a manipulation turn one.
    """

    number: int
    stamp_ns: int
    frames: FrameSet
    response: Response | None = None
    step: Step | None = None
    moves: tuple[Move, ...] = ()
    refusal: Refusal | None = None
    confirmation: Confirmation | None = None
    times: StageTimes = StageTimes()

    @property
    def moved(self) -> bool:
        return any(move.outcome is not None for move in self.moves)


@dataclass(frozen=True)
class Episode:
    """A whole task. ``cause`` is a short name of why it ended: ``done``, a refusal's code, a
    motion's cause, or ``too_many_turns``; ``confirmed`` whether a separate look found the task
    done. ``status`` is SUCCEEDED only when it is."""

    task: str
    engine: str
    turns: tuple[TurnRecord, ...]
    status: Status
    cause: str
    text: str
    confirmed: bool
    start_ns: int
    end_ns: int

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        return tuple(turn.refusal for turn in self.turns if turn.refusal is not None)


# --- told while it happens ------------------------------------------------------------------------


@dataclass(frozen=True)
class Looked:
    number: int
    stamp_ns: int
    frames: FrameSet


@dataclass(frozen=True)
class Answered:
    number: int
    stamp_ns: int
    response: Response


@dataclass(frozen=True)
class Decided:
    """The gate has spoken; ``step`` is what it spoke about (``None`` for a navigation arrow)."""

    number: int
    step: Step | None
    motion: Motion
    decision: Decision


@dataclass(frozen=True)
class StageBegan:
    number: int
    stamp_ns: int
    stage: MotionStage


@dataclass(frozen=True)
class TurnEnded:
    record: TurnRecord


@dataclass(frozen=True)
class EpisodeEnded:
    episode: Episode


EpisodeEvent = Looked | Answered | Decided | StageBegan | TurnEnded | EpisodeEnded
Tell = Callable[[EpisodeEvent], None]
