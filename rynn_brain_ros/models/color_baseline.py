"""The ``color-baseline`` engine: an honest colour-and-shape segmenter.

It is no language model and does not pretend to be one: every answer names it. It finds plain
coloured things (see `color_vision`), answers in RynnBrain's grammar, and says so when a question
is outside its world. It is there so that the whole path from a bag to metres runs without a model
download, and as a baseline that a real model has to beat.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from rynn_brain_ros.language import format_grounding
from rynn_brain_ros.memory import decode_color
from rynn_brain_ros.models.color_navigation import navigate
from rynn_brain_ros.models.color_planning import plan
from rynn_brain_ros.models.color_questions import read_question
from rynn_brain_ros.models.color_vision import Blob, find_blobs, fitting, none_of
from rynn_brain_ros.models.color_words import NotUnderstood, Noun, nouns, with_article
from rynn_brain_ros.values import (
    Affordance,
    Answer,
    AnyGrounding,
    Area,
    Box,
    Cancel,
    EngineInfo,
    FinishReason,
    FrameSet,
    GraspRectangle,
    Point2,
    Query,
    SelectedFrame,
    Task,
    Timings,
    Trajectory,
)

NAME = "color-baseline"
_TRAJECTORY_LIFT = 0.12
"""How far a trajectory's middle rises above the straight line, in picture heights."""


@dataclass(frozen=True)
class _Sighting:
    """A thing found in a frame."""

    noun: Noun
    blob: Blob
    frame: int


class ColorBaselineEngine:
    """Answers from pixels alone: same frames and words, same answer, always."""

    info = EngineInfo(name=NAME, model=NAME)

    def ask(
        self,
        query: Query,
        on_text: Callable[[str], None] | None = None,
        cancel: Cancel | None = None,
    ) -> Answer:
        started = time.perf_counter()
        cancelled = cancel is not None and cancel.is_set()
        text = "" if cancelled else _answer_text(query)
        if on_text is not None and text:
            on_text(text)
        return Answer(
            query_id=query.query_id,
            text=text,
            finish_reason=FinishReason.CANCELLED if cancelled else FinishReason.STOP,
            engine=NAME,
            model=NAME,
            timings=Timings(total_s=time.perf_counter() - started),
        )

    def close(self) -> None:
        """Nothing to release."""


def _answer_text(query: Query) -> str:
    if not len(query.frames):
        return "I was shown no picture. <no object>"
    if query.task is Task.PLAN:
        return plan(query)
    if query.task is Task.NAVIGATE:
        return navigate(query)
    if query.task in (Task.DESCRIBE, Task.THINK) and not nouns(query.instruction):
        return _describe(query.frames)
    named = read_question(query.instruction, query.task)
    if isinstance(named, NotUnderstood):
        return f"{named.text} <no object>"
    if query.task is Task.COUNT:
        return _count(query, named[0])
    return _point(query, named)


def _point(query: Query, named: tuple[Noun, ...]) -> str:
    noun = named[0]
    sighting = _find(query.frames, noun)
    if sighting is None:
        return f"{none_of(_blobs(query.frames[-1], noun), noun)} <no object>"
    with_frame = len(query.frames) > 1
    if query.task is Task.DESCRIBE:
        return f"I see {with_article(noun)} in frame {sighting.frame}."
    if query.task is Task.THINK:
        return _think(sighting, _box(sighting), with_frame)
    grounding = _ground(query, named, sighting)
    if grounding is None:
        return f"I see the {noun} but do not know where to move it. <no object>"
    if query.thinking:
        return _think(sighting, grounding, with_frame)
    return f"The {noun} is at {format_grounding(grounding, with_frame=with_frame)}"


def _ground(query: Query, named: tuple[Noun, ...], sighting: _Sighting) -> AnyGrounding | None:
    blob, frame = sighting.blob, sighting.frame
    span, task = (0, 0), query.task
    if task is Task.OBJECT:
        return _box(sighting)
    if task is Task.AREA:
        return Area(frame, tuple(_norm(p) for p in blob.spread(5)), span, "area")
    if task is Task.GRASP:
        corners = tuple(_norm(p) for p in blob.rectangle())
        return GraspRectangle(frame, corners, span, "grasp pose")
    if task is Task.TRAJECTORY:
        return _trajectory(query.frames, named, sighting)
    return Affordance(frame, (_norm(blob.inmost()),), span, "affordance")


def _box(sighting: _Sighting) -> Box:
    x0, y0, x1, y1 = sighting.blob.bounds()
    return Box(sighting.frame, (_norm((x0, y0)), _norm((x1, y1))), (0, 0), "object")


def _trajectory(frames: FrameSet, named: tuple[Noun, ...], start: _Sighting) -> Trajectory | None:
    """From the first thing to the last one, in one frame that shows both, in a shallow arc."""
    if len(named) < 2:
        return None
    end = _best_blob(frames[start.frame], named[-1])
    if end is None:
        return None
    (xa, ya), (xb, yb) = start.blob.inmost(), end.inmost()
    points = []
    for step in range(5):
        s = step / 4
        rise = 4 * s * (1 - s) * _TRAJECTORY_LIFT
        points.append(_norm((xa + s * (xb - xa), max(0.0, ya + s * (yb - ya) - rise))))
    return Trajectory(start.frame, tuple(points), (0, 0), "trajectory")


def _think(sighting: _Sighting, grounding: AnyGrounding, with_frame: bool) -> str:
    seen = format_grounding(_box(sighting), with_frame=with_frame)
    answer = format_grounding(grounding, with_frame=with_frame)
    return (
        f"<think>The largest patch that fits a {sighting.noun} is {seen}.</think>"
        f"#### <answer>{answer}</answer>"
    )


def _count(query: Query, noun: Noun) -> str:
    blobs = _fitting(query.frames[-1], noun)
    if query.thinking:
        count = f"<counting>{len(blobs)}</counting>"
        return f"<think>I count patches of this colour.</think>#### <answer>{count}</answer>"
    return str(len(blobs))


def _describe(frames: FrameSet) -> str:
    blobs = find_blobs(decode_color(frames[-1].frame.color))
    if not blobs:
        return "I see no plainly coloured things."
    counts: dict[str, int] = {}
    for blob in blobs:
        counts[blob.color] = counts.get(blob.color, 0) + 1
    listed = ", ".join(f"{n} {color}" for color, n in counts.items())
    return f"I see coloured patches: {listed}."


def _find(frames: FrameSet, noun: Noun) -> _Sighting | None:
    """Newest frame first: where the thing is now matters more than where it was."""
    for index in range(len(frames) - 1, -1, -1):
        blob = _best_blob(frames[index], noun)
        if blob is not None:
            return _Sighting(noun, blob, index)
    return None


def _best_blob(frame: SelectedFrame, noun: Noun) -> Blob | None:
    return max(_fitting(frame, noun), key=lambda blob: blob.area_px, default=None)


def _fitting(frame: SelectedFrame, noun: Noun) -> tuple[Blob, ...]:
    return fitting(_blobs(frame, noun), noun)


def _blobs(frame: SelectedFrame, noun: Noun) -> tuple[Blob, ...]:
    return find_blobs(decode_color(frame.frame.color), noun.color)


def _norm(unit: Point2) -> Point2:
    return (round(unit[0] * 1000), round(unit[1] * 1000))
