"""How well nano plans: each turn of held-out conversations, asked as the brain asks.

The history is the true one, so that every turn is judged by itself. Steps that are carried out one
after the other on what they lead to are `rynn-brain evaluate`'s business.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np

from rynn_brain_ros.language import parse
from rynn_brain_ros.values import (
    Affordance,
    AnyGrounding,
    Area,
    Box,
    Engine,
    FrameSet,
    Query,
    Task,
)
from rynn_brain_ros.values import Turn as Past
from training.nano.judging import as_frame, median, overlap, share
from training.nano.lessons import ABSTENTION
from training.nano.plans import PER_TABLE, Plan, PlanTeacher
from training.nano.truth import Truth, truth_of
from training.nano.turns import THING, turn_pictures

_PREPOSITION = re.compile("> (into|onto|next to) <")


@dataclass(frozen=True)
class AskedTurn:
    """A question with the right answer, and what its newest picture shows."""

    query: Query
    answer: str
    truth: Truth


@dataclass(frozen=True)
class TurnResult:
    """Is the step the right one, with the right places? ``nan`` where there are none to tell.
    ``nothing``: no step is, what is asked for is not there or not known."""

    first: bool
    nothing: bool
    step: bool
    point: float
    box: float
    area_off: float


def held_out_turns(seed: int, count: int) -> list[AskedTurn]:
    """``count`` turns on fresh tables."""
    pictures, teacher = turn_pictures(seed), PlanTeacher(np.random.default_rng((seed, 1)))
    asked: list[AskedTurn] = []
    while len(asked) < count:
        some = list(islice(pictures, PER_TABLE))
        truths = [truth_of(picture.numbers(), picture.things) for picture in some]
        plan = teacher.plan(0, False, truths)
        if plan is not None:
            frames = [as_frame(picture, n) for n, picture in enumerate(some)]
            shown = [FrameSet(tuple(frames[n] for n, _ in t.frames), 10240) for t in plan.turns]
            asked += _turns(plan, shown, truths)
    return asked[:count]


def _turns(plan: Plan, shown: Sequence[FrameSet], truths: Sequence[Truth]) -> Iterator[AskedTurn]:
    history: tuple[Past, ...] = ()
    for number, (turn, frames) in enumerate(zip(plan.turns, shown, strict=True)):
        query = Query(f"t{number}", Task.PLAN, plan.instruction, frames, history=history)
        yield AskedTurn(query, turn.answer, truths[turn.frames[-1][0]])
        history = (*history, Past(frames, turn.answer))


def judge(asked: AskedTurn, text: str) -> TurnResult:
    """The true answer's first word and preposition must be the answer's, and places be right."""
    told, true = (_places(asked, answer) for answer in (text, asked.answer))
    step = _words(text) == _words(asked.answer) and told.keys() == true.keys()
    point = box = area = float("nan")
    if step and Affordance in told:
        point = float(asked.truth.shows(*told[Affordance].points[0]) == THING)
    if step and Box in told:
        first, second = ([*chain(*places[Box].points)] for places in (told, true))
        box = float(overlap(first, second) >= 0.5)
    if step and Area in told:
        area = float(np.linalg.norm(np.subtract(told[Area].points[0], true[Area].points[0])))
    nothing = asked.answer.endswith(ABSTENTION)
    return TurnResult(not asked.query.history, nothing, step, point, box, area)


def _words(answer: str) -> list[str]:
    """What is to be done, and whether into, onto or next to."""
    return [*answer.split()[:1], *_PREPOSITION.findall(answer)]


def _places(asked: AskedTurn, answer: str) -> dict[type[AnyGrounding], AnyGrounding]:
    """By kind; those of another frame than the newest are none."""
    reading = parse(answer, len(asked.query.frames), task=Task.PLAN)
    newest = len(asked.query.frames) - 1
    return {type(g): g for g in reading.groundings if getattr(g, "frame", newest) == newest}


def evaluate_plans(engine: Engine, seed: int, count: int) -> dict[str, float]:
    """Shares; ``area_off`` is the median in 1/1000."""
    asked = held_out_turns(seed, count)
    results = [judge(each, engine.ask(each.query).text) for each in asked]
    return {
        "turns": len(results),
        "step_right": share(r.step for r in results),
        "first_step_right": share(r.step for r in results if r.first),
        "declined_right": share(r.step for r in results if r.nothing),
        "point_inside": share(r.point > 0 for r in results if not np.isnan(r.point)),
        "box_half": share(r.box > 0 for r in results if not np.isnan(r.box)),
        "area_off": median(r.area_off for r in results),
    }
