"""How well nano sees, asked as users ask it: through the ``local`` engine, greedily, on tables
that it never saw.

    python -m training.nano.evaluate CHECKPOINT [--questions 300] [--seed 900000]

Three kinds of pictures: ``episode`` is a table as the demo and `rynn-brain evaluate` set it,
``wild`` one as in training (crowded, stacked, in the hand, other lamps and colours), ``film`` the
newest frames of a table on which things come, go and are moved. Plans are judged turn by turn, and
free places, ways, counts, and rooms with the way through them by themselves, whether the profile
says that it knows them or not. Two
controls show that it looks: the same questions with the picture of another table, and answers
scored on another thing than the one asked for. No grammar holds the answers: their form is nano's
own.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from rynn_brain_ros.language import parse
from rynn_brain_ros.models.local.engine import LocalEngine
from rynn_brain_ros.models.local.loading import Loaded, load
from rynn_brain_ros.models.profiles import NANO
from rynn_brain_ros.sim.furnishing import KINDS as FURNITURE
from rynn_brain_ros.sim.objects import SHAPES
from rynn_brain_ros.sim.table import TableWorld
from rynn_brain_ros.sim.table_layout import random_scene
from rynn_brain_ros.values import (
    Box,
    Engine,
    FrameSet,
    NoGrounding,
    Query,
    Task,
)
from training.nano.camera import SEEN_PX
from training.nano.evaluate_plans import evaluate_plans
from training.nano.evaluate_routes import evaluate_routes
from training.nano.evaluate_tasks import TAUGHT, evaluate_tasks
from training.nano.films import PER_FILM, film_pictures
from training.nano.judging import FORMS, as_frame, median, overlap, share
from training.nano.lessons import Exchange, Lesson
from training.nano.pictures import Picture, picture_of, table_pictures
from training.nano.rooms import room_pictures
from training.nano.save import PROVENANCE
from training.nano.teacher import Teacher
from training.nano.truth import SeenThing, Truth, truth_of

HELD_OUT_SEED = 900_000
KINDS = ("episode", "wild", "film")
ROOM, ROUTES = "room", "routes"
QUANTIZED = ("none", "int8", "nf4")
"""``none`` is in 16 bits, as it is stored. Layers of its widths cannot be computed in nf4 on a
processor: their weights are rounded to it, and computed in 16 bits as a GPU does."""
_NF4_BLOCK = 64


@dataclass(frozen=True)
class Asked:
    """A question about known pictures with its right answer: ``other`` is another thing of the same
    picture."""

    query: Query
    answer: str
    truths: tuple[Truth, ...]
    place: tuple[int, int] | None
    other: int | None


@dataclass(frozen=True)
class Result:
    """Of one question: was the form right, was it a right abstention or none, the right frame, a
    point inside of the thing (or a box that meets it by half), and how far off in 1/1000."""

    task: Task
    absent: bool
    valid: bool
    abstained: bool
    frame_right: bool
    inside: bool
    off: float


# --- questions ------------------------------------------------------------------------------------


def held_out(kind: str, seed: int, count: int) -> list[Asked]:
    """``count`` questions about fresh tables of a kind, every fifth about what is not there."""
    pictures, n_frames = _SOURCES[kind](seed), NANO.most_frames if kind == "film" else 1
    shapes = FURNITURE if kind == ROOM else SHAPES
    teacher = Teacher(np.random.default_rng((seed, 1)), shapes=shapes)
    rng = np.random.default_rng((seed, 2))
    asked: list[Asked] = []
    while len(asked) < count:
        some = list(islice(pictures, PER_FILM if kind == "film" else 1))[-n_frames:]
        truths = [truth_of(picture.numbers(), picture.things) for picture in some]
        lesson = teacher.lesson([(n, False) for n in range(n_frames)], truths, 2)
        frames = FrameSet(tuple(as_frame(picture, n) for n, picture in enumerate(some)), 10240)
        asked += _asked(lesson, truths, frames, rng)
    return asked[:count]


def _episode_pictures(seed: int) -> Iterator[Picture]:
    """What the demo's camera sees before anything is moved."""
    while True:
        scene = random_scene(seed)
        world = TableWorld(scene)
        try:
            yield picture_of(world)
        finally:
            world.close()
        seed += 1


_SOURCES: Mapping[str, Callable[[int], Iterator[Picture]]] = {
    "episode": _episode_pictures,
    "wild": table_pictures,
    "film": film_pictures,
    ROOM: room_pictures,
}


def _asked(
    lesson: Lesson, truths: Sequence[Truth], frames: FrameSet, rng: np.random.Generator
) -> Iterator[Asked]:
    for number, exchange in enumerate(lesson.exchanges):
        query = _query(exchange, frames, number)
        other = _other(exchange, truths, rng)
        yield Asked(query, exchange.answer, tuple(truths), exchange.place, other)


def _query(exchange: Exchange, frames: FrameSet, number: int) -> Query:
    return Query(
        f"q{number}", exchange.task, exchange.instruction, frames, abstain=exchange.abstain
    )


def _other(exchange: Exchange, truths: Sequence[Truth], rng: np.random.Generator) -> int | None:
    if exchange.place is None:
        return None
    frame, number = exchange.place
    others = [s.thing.number for s in truths[frame].seen if s.thing.number != number]
    return int(rng.choice(others)) if others else None


# --- answers --------------------------------------------------------------------------------------


def ask_all(engine: Engine, asked: Sequence[Asked]) -> list[Result]:
    return judged(asked, texts(engine, asked))


def texts(engine: Engine, asked: Sequence[Asked]) -> list[str]:
    return [engine.ask(each.query).text for each in asked]


def judged(asked: Sequence[Asked], answers: Sequence[str]) -> list[Result]:
    return [_judged(each, text) for each, text in zip(asked, answers, strict=True)]


def _judged(asked: Asked, text: str) -> Result:
    query = asked.query
    reading = parse(text, len(query.frames), task=query.task)
    absent = asked.place is None
    result = Result(query.task, absent, False, False, False, False, float("nan"))
    if len(reading.groundings) != 1:
        return result
    grounding = reading.groundings[0]
    if isinstance(grounding, NoGrounding):
        return replace(result, valid=grounding.abstained, abstained=grounding.abstained)
    valid = isinstance(grounding, FORMS[query.task]) and not grounding.flags
    result = replace(result, valid=valid)
    if asked.place is None or not valid:
        return result
    frame, number = asked.place
    seen = asked.truths[frame].number(number)
    assert seen is not None
    right = (grounding.frame or 0) == frame
    inside, off = _inside(grounding.points, isinstance(grounding, Box), seen, asked.truths[frame])
    return replace(result, frame_right=right, inside=right and inside, off=off)


def _inside(
    points: Sequence[tuple[float, float]], is_box: bool, seen: SeenThing, truth: Truth
) -> tuple[bool, float]:
    if is_box:
        told = (*points[0], *points[1])
        off = float(np.mean(np.abs(np.subtract(told, seen.box))))
        return overlap(told, seen.box) >= 0.5, off
    x, y = points[0]
    off = float(np.hypot(x - seen.point[0], (y - seen.point[1]) * SEEN_PX[1] / SEEN_PX[0]))
    return truth.shows(x, y) == seen.thing.number, off


def summary(results: Sequence[Result]) -> dict[str, float]:
    """Shares; ``off`` is the median in 1/1000 of the picture's width. A point in another frame is
    not inside; ``inside_of_right_frame`` leaves those aside."""
    there = [r for r in results if not r.absent]
    points = [r for r in there if r.task is Task.AFFORDANCE]
    boxes = [r for r in there if r.task is Task.OBJECT]
    absent = [r for r in results if r.absent]
    return {
        "questions": len(results),
        "valid": share(r.valid for r in results),
        "point_inside": share(r.inside for r in points),
        "point_off": median(r.off for r in points),
        "box_half": share(r.inside for r in boxes),
        "box_off": median(r.off for r in boxes),
        "inside_of_right_frame": share(r.inside for r in points if r.frame_right),
        "frame_right": share(r.frame_right for r in there),
        "abstained_right": share(r.abstained for r in absent),
        "abstained_wrong": share(r.abstained for r in there),
    }


def controls(engine: Engine, asked: Sequence[Asked]) -> dict[str, float]:
    """Points that still hit: with another table's picture, and on another thing than asked for."""
    there = [a for a in asked if a.place is not None and a.query.task is Task.AFFORDANCE]
    swapped = [
        replace(a, query=replace(a.query, frames=b.query.frames))
        for a, b in zip(there, [*there[len(there) // 2 :], *there[: len(there) // 2]], strict=True)
    ]
    elsewhere = [
        replace(a, place=(a.place[0], a.other))
        for a in there
        if a.place is not None and a.other is not None
    ]
    return {
        "other_picture": share(r.inside for r in ask_all(engine, swapped)),
        "other_thing": share(r.inside for r in ask_all(engine, elsewhere)),
    }


def evaluate(path: Path, count: int, seed: int = HELD_OUT_SEED) -> dict[str, dict[str, float]]:
    """Everything, by kind of picture and task, and what quantization changes."""
    found, answers = {}, list[str]()
    with closing(LocalEngine(as_taught(load(path, dtype="F32")), constrain=False)) as engine:
        for kind in KINDS:
            asked = held_out(kind, seed, count)
            said = texts(engine, asked)
            found[kind] = summary(judged(asked, said))
            if kind == "episode":
                answers = said
                found["controls"] = controls(engine, asked)
        found["plans"] = evaluate_plans(engine, seed, count)
        found |= evaluate_tasks(engine, seed, count)
        if _was_taught_rooms(path):
            found[ROOM] = summary(ask_all(engine, held_out(ROOM, seed, count)))
            found[ROUTES] = evaluate_routes(engine, seed, count)
    asked = held_out("episode", seed, count)
    return {**found, **{how: quantized(path, how, asked, answers) for how in QUANTIZED}}


def _was_taught_rooms(path: Path) -> bool:
    told = json.loads((path / PROVENANCE).read_text(encoding="utf-8"))
    return bool(told["recipe"].get("route_share"))


def as_taught(loaded: Loaded) -> Loaded:
    """It can be asked all that it is taught, be it good enough to be known or not."""
    knows = loaded.profile.knows | TAUGHT | {Task.NAVIGATE}
    return replace(loaded, profile=replace(loaded.profile, knows=knows))


def quantized(
    path: Path, how: str, asked: Sequence[Asked], answers: Sequence[str]
) -> dict[str, float]:
    """As `summary`, with the share of answers that are word for word those in 32 bits."""
    loaded = load(path, quantization="none" if how == "nf4" else how)
    if how == "nf4":
        _round_to_nf4(loaded.model)
    with closing(LocalEngine(loaded, constrain=False)) as engine:
        said = texts(engine, asked)
    same = share(one == other for one, other in zip(said, answers, strict=True))
    return {**summary(judged(asked, said)), "same": same}


def _round_to_nf4(model: Any) -> None:
    """The linear layers of the language model, in bitsandbytes' blocks of 64 with double
    quantization. A layer is one row of blocks to it, as on a GPU: its processor kernel would begin
    each row with a new block, and reads back other numbers where the last is not full."""
    bits = import_module("bitsandbytes.functional")  # of an extra of its own
    for module in model.model.language_model.modules():
        if isinstance(module, nn.Linear):
            blocks = module.weight.data.view(-1, _NF4_BLOCK)
            packed, state = bits.quantize_4bit(blocks, quant_type="nf4", compress_statistics=True)
            module.weight.data = bits.dequantize_4bit(packed, state).view_as(module.weight)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--seed", type=int, default=HELD_OUT_SEED)
    options = parser.parse_args(arguments)
    for kind, values in evaluate(options.checkpoint, options.questions, options.seed).items():
        print(kind, json.dumps(values))


if __name__ == "__main__":
    main()
