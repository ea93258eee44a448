"""How well nano answers what is more than a point or a box: free places, ways, counts, and whatever
is thought about first (Chain-of-Point).

Half of the questions show a crowded table, half `FRAMES` frames of a film. A place in or on a thing
is right anywhere on it, one next to a thing wherever on the table a block would touch nothing and
count as next to it; a way is right where both of its ends are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import numpy as np

from rynn_brain_ros.language import default_budget, parse
from rynn_brain_ros.sim.table_tasks import Relation
from rynn_brain_ros.sim.tabletop import Thing
from rynn_brain_ros.values import (
    AnyGrounding,
    Box,
    Count,
    Engine,
    FrameSet,
    NoGrounding,
    Point2,
    Query,
    Reading,
    Task,
)
from training.nano.films import PER_FILM, film_pictures
from training.nano.judging import FORMS, as_frame, overlap, share
from training.nano.lessons import POINTING, Exchange, Manner, Place
from training.nano.pictures import PROBE, Ground, table_pictures
from training.nano.spots import is_beside
from training.nano.teacher import EVERYTHING, THOUGHTS, Teacher
from training.nano.truth import Truth, truth_of

FRAMES = 4
KINDS: Mapping[str, tuple[tuple[Manner, ...], Mapping[Task, float]]] = {
    "areas": ((POINTING,), {Task.AREA: 1.0}),
    "trajectories": ((POINTING,), {Task.TRAJECTORY: 1.0}),
    "counts": ((Manner(Task.COUNT),), {Task.COUNT: 1.0}),
    "thoughts": (THOUGHTS, EVERYTHING),
}
TAUGHT = frozenset({*EVERYTHING, Task.COUNT})


@dataclass(frozen=True)
class AskedTask:
    """A question about known pictures, with its right answer."""

    query: Query
    exchange: Exchange
    truths: tuple[Truth, ...]
    grounds: tuple[Ground, ...]


@dataclass(frozen=True)
class TaskResult:
    """Of one question: was the form right, and the answer; ``grounded``: a box in the reasoning is
    right. ``relation`` is where the place is that was asked for."""

    relation: Relation | None
    absent: bool
    valid: bool
    right: bool
    grounded: bool


def held_out_tasks(kind: str, seed: int, count: int) -> list[AskedTask]:
    """``count`` questions of a kind (`KINDS`), two about each table or film."""
    manners, shares = KINDS[kind]
    teacher = Teacher(np.random.default_rng((seed, 1)), shares)
    tables, films = table_pictures(seed, per_table=1), film_pictures(seed)
    asked: list[AskedTask] = []
    while len(asked) < count:
        number = len(asked) // 2
        n_frames = FRAMES if number % 2 else 1
        some = list(islice(films, PER_FILM))[-FRAMES:] if number % 2 else [next(tables)]
        truths = tuple(truth_of(picture.numbers(), picture.things) for picture in some)
        grounds = tuple(picture.ground for picture in some)
        frames = FrameSet(tuple(as_frame(picture, n) for n, picture in enumerate(some)), 10240)
        manner = manners[number // 2 % len(manners)]
        shown = [(n, False) for n in range(n_frames)]
        lesson = teacher.lesson(shown, truths, 2, manner=manner)
        asked += [
            AskedTask(_query(exchange, frames, manner.thinking), exchange, truths, grounds)
            for exchange in lesson.exchanges
        ]
    return asked[:count]


def _query(exchange: Exchange, frames: FrameSet, thinking: bool) -> Query:
    task = exchange.task
    return Query(
        *("q", task, exchange.instruction, frames, default_budget(task, thinking)),
        thinking=thinking,
        abstain=exchange.abstain,
    )


def judge_task(asked: AskedTask, text: str) -> TaskResult:
    query, exchange = asked.query, asked.exchange
    reading = parse(text, len(query.frames), task=query.task, thinking=query.thinking)
    absent = exchange.place is None
    grounded = any(_is_seen(asked, thought) for thought in reading.reasoning)
    if query.task is Task.COUNT:
        told = _count(reading)
        right = told == len(exchange.nouns[0].places)
        return TaskResult(None, absent, told is not None, right, grounded)
    relation = exchange.relation
    if len(reading.groundings) != 1:
        return TaskResult(relation, absent, False, False, grounded)
    (told_at,) = reading.groundings
    if isinstance(told_at, NoGrounding):
        right = absent and told_at.abstained
        return TaskResult(relation, absent, told_at.abstained, right, grounded)
    valid = isinstance(told_at, FORMS[query.task]) and not told_at.flags
    right = valid and not absent and _is_right(asked, told_at)
    return TaskResult(relation, absent, valid, right, grounded)


def _count(reading: Reading) -> int | None:
    counts = [told.count for told in reading.groundings if isinstance(told, Count)]
    if counts:
        return counts[0]
    return int(reading.answer_text) if reading.answer_text.isdecimal() else None


def _is_seen(asked: AskedTask, thought: AnyGrounding) -> bool:
    """Is it the box of something that the answer depends on?"""
    places = [place for noun in asked.exchange.nouns for place in noun.places]
    return isinstance(thought, Box) and any(_is_box_of(asked, thought, place) for place in places)


def _is_box_of(asked: AskedTask, box: Box, place: Place) -> bool:
    frame, number = place
    seen = asked.truths[frame].number(number)
    assert seen is not None  # it was asked for
    (x0, y0), (x1, y1) = box.points
    return (box.frame or 0) == frame and overlap((x0, y0, x1, y1), seen.box) >= 0.5


def _is_right(asked: AskedTask, told: AnyGrounding) -> bool:
    exchange, place = asked.exchange, asked.exchange.place
    assert place is not None  # something is there
    if isinstance(told, Box):
        return _is_box_of(asked, told, place)
    if (told.frame or 0) != place[0]:
        return False
    first, last = told.points[0], told.points[-1]
    if exchange.task is Task.AFFORDANCE:
        return _is_on(asked, first, place)
    if exchange.task is Task.AREA:
        return _is_free(asked, first, PROBE)
    thing = asked.grounds[place[0]].standing.get(place[1], PROBE)
    return _is_on(asked, first, place) and _is_free(asked, last, thing)


def _is_on(asked: AskedTask, point: Point2, place: Place) -> bool:
    frame, number = place
    return asked.truths[frame].shows(*point) == number


def _is_free(asked: AskedTask, point: Point2, thing: Thing) -> bool:
    """Can ``thing`` be put there?"""
    exchange = asked.exchange
    ((frame, number),) = exchange.nouns[-1].places
    truth = asked.truths[frame]
    shown = truth.shows(*point)
    if exchange.relation is not Relation.NEXT_TO:
        upon = {seen.thing.number for seen in truth.seen if seen.thing.holder == number}
        return shown in {number, *upon}
    ground = asked.grounds[frame]
    place = ground.standing[number]
    others = [each for each in ground.standing.values() if each not in (place, thing)]
    return shown == 0 and is_beside(ground.at(*point), thing, place, others)


def evaluate_tasks(engine: Engine, seed: int, count: int) -> dict[str, dict[str, float]]:
    """Shares, by kind."""
    return {
        kind: _summary(list(_results(engine, kind, seed, count)), manners[0].thinking)
        for kind, (manners, _) in KINDS.items()
    }


def _results(engine: Engine, kind: str, seed: int, count: int) -> Iterator[TaskResult]:
    for asked in held_out_tasks(kind, seed, count):
        yield judge_task(asked, engine.ask(asked.query).text)


def _summary(results: list[TaskResult], thinking: bool) -> dict[str, float]:
    there = [result for result in results if not result.absent]
    found = {
        "questions": len(results),
        "valid": share(r.valid for r in results),
        "right": share(r.right for r in there),
        "abstained_right": share(r.right for r in results if r.absent),
    }
    places = [result for result in there if result.relation is not None]
    if places and not thinking:
        beside = [r for r in places if r.relation is Relation.NEXT_TO]
        found["right_next_to"] = share(r.right for r in beside)
        found["right_in_or_on"] = share(
            r.right for r in places if r.relation is not Relation.NEXT_TO
        )
    return {**found, "grounded": share(r.grounded for r in there)} if thinking else found
