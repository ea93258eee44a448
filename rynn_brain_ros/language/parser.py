"""From an answer's text to its meaning: a tolerant reader behind a strict acceptor.

Every spelling is read; only what is complete, in range and explicit about its frame comes out
actionable. Nothing is clamped, rescaled or guessed into something plausible.

Source: reference rynnbrain.md §3.4 (the normative rules; numbers in comments refer to them).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rynn_brain_ros.language import grammar
from rynn_brain_ros.language.grammar import Ending, Item, Mark
from rynn_brain_ros.values import (
    Affordance,
    AnyGrounding,
    Area,
    Box,
    Box3D,
    ContactPoint,
    Count,
    FinishReason,
    Flag,
    GraspRectangle,
    NoGrounding,
    Point2,
    Reading,
    Rejected,
    Task,
    Trajectory,
)

_MIN_AREA = 1.0  # (0…1000)² units
_MIN_TRAVEL = 5.0  # 0…1000 units
_ABSTENTION = re.compile(
    r"<\s{0,3}no[ _-]?(?:object|area|affordance|trajectory|grasp[ _]pose|target)\s{0,3}>",
    re.IGNORECASE,
)
_PARTIAL_END = re.compile(r"(?:[(\[][0-9+\-.,\s]*)?(?:<[/\w ]{0,24})?")
_PARTIAL_CLOSING = re.compile(r"<(?:\s{0,3}/[\w ]{0,16})?")
_DONE = re.compile(r"done\s{0,3}[.!]?", re.IGNORECASE)
_ACTIONS = re.compile(r"(?:[\s,]*(?:STOP|[↑←→]))+[\s,.]*")
_ACTION = re.compile(r"STOP|[↑←→]")
_ACTION_NAMES = {symbol: name for name, symbol in grammar.ACTION_SYMBOLS.items()}
_FENCE = re.compile(r"```(?:json)?", re.IGNORECASE)
_JSON_START = re.compile(r"\s*(?:\[\s*)?(?=\{)")
_JSON_NEXT = re.compile(r"[\s,]*(?=\{)")
_JSON_KEY = re.compile('"(?:' + "|".join(grammar.JSON_TAGS) + ')"')


def parse(
    text: str,
    n_frames: int,
    *,
    task: Task | None = None,
    finish_reason: FinishReason = FinishReason.STOP,
    thinking: bool = False,
) -> Reading:
    """Read an answer about ``n_frames`` images; never raises, whatever ``text`` holds.

    ``task`` tells what was asked: a task that needs a grounding gets one `NoGrounding` when
    the answer holds none. ``thinking`` says that reasoning was asked for, as `Task.THINK` does:
    when such an answer was cut before its final part began, all of it is reasoning and nothing of
    it an answer.
    """
    scanner = grammar.Scanner()
    parts = scanner.feed(text) + scanner.end()
    if scanner.flooded:
        return _flooded(text, task)
    marks = [part for part in parts if isinstance(part, Mark)]
    items = [part for part in parts if isinstance(part, Item)]
    cut = finish_reason is not FinishReason.STOP
    thinks = thinking or task is Task.THINK
    start, end = _answer_region(marks, len(text), all_reasoning=thinks and cut)
    answer_text = text[start:end].strip()
    own = [item for item in items if start <= item.start < end]
    read = [accept(item, n_frames, cut=cut) for item in own]
    evidence = (accept(item, n_frames, cut=cut) for item in items if not start <= item.start < end)
    if not own:
        read = _without_tags(text, start, end, n_frames, cut=cut)
    groundings = [part for part in read if not isinstance(part, Rejected)]
    rejected = [part for part in read if isinstance(part, Rejected)]
    if not read and (task in (None, Task.PLAN) or task.needs_grounding):
        rejected += _untagged_coordinates(text, start, end)
    actions, unreadable = _actions(answer_text, task, (start, end))
    if not groundings:  # a place that is pointed at tells the way without arrows
        rejected += unreadable
        groundings += _no_grounding(answer_text, task, rejected, (start, end))
    return Reading(
        text=text,
        answer_text=answer_text,
        reasoning_text=_reasoning_text(text, marks, (start, end)),
        groundings=tuple(groundings),
        reasoning=tuple(part for part in evidence if not isinstance(part, Rejected)),
        rejected=tuple(rejected),
        actions=actions,
        done=not cut and task in (None, Task.PLAN) and bool(_DONE.fullmatch(answer_text)),
        answer_start=end - len(text[start:end].lstrip()),
    )


def _flooded(text: str, task: Task | None) -> Reading:
    span = (0, len(text))
    detail = f"The answer holds more than {grammar.MAX_TAGS} tags: it is not read."
    rejected = [Rejected("too_many_tags", detail, span, text)]
    groundings = tuple(_no_grounding(text, task, rejected, span))
    return Reading(text, text, groundings=groundings, rejected=tuple(rejected))


# --- rule 1: reasoning and answer ----------------------------------------------------------------


def _answer_region(marks: Sequence[Mark], length: int, *, all_reasoning: bool) -> tuple[int, int]:
    """Where the answer proper is: after `</think>`, in the last `<answer>`, after `####`."""
    start = max((mark.end for mark in marks if mark.name == "/think"), default=0)
    later = [mark for mark in marks if mark.start >= start]
    answers = [mark.end for mark in later if mark.name == "answer"]
    if answers:
        ends = (m.start for m in later if m.name == "/answer" and m.start >= answers[-1])
        return answers[-1], next(ends, length)
    hashes = [mark.end for mark in later if mark.name == "####"]
    if hashes:
        return hashes[-1], length
    # A thought that was opened and not finished is no answer.
    unfinished = next((mark.start for mark in later if mark.name == "think"), None)
    if unfinished is not None:
        return start, unfinished
    if all_reasoning and start == 0:
        return length, length
    return start, length


def _reasoning_text(text: str, marks: Sequence[Mark], region: tuple[int, int]) -> str:
    """Everything outside of the answer, without the marks."""
    pieces, cursor = [], 0
    for start, end in sorted([*((mark.start, mark.end) for mark in marks), region]):
        pieces.append(text[cursor:start])
        cursor = max(cursor, end)
    return "".join([*pieces, text[cursor:]]).strip()


# --- rules 2 to 6: one item ----------------------------------------------------------------------


@dataclass(frozen=True)
class _Candidate:
    """Something written in a legal form, before it is judged."""

    tag: str
    frame: int | None
    points: tuple[Point2, ...]
    numbers: tuple[float, ...]
    span: tuple[int, int]
    text: str
    label: str = ""
    flags: frozenset[Flag] = frozenset()


def accept(item: Item, n_frames: int, *, cut: bool) -> AnyGrounding | Rejected:
    """Judge one tag. ``cut``: the end of the text is missing (token budget or cancelled)."""
    span = (item.start, item.end)
    if item.ending is Ending.BROKEN:
        return Rejected("unclosed", f"<{item.tag}> was not closed.", span, item.text)
    truncated = cut and item.ending is Ending.TEXT
    if truncated and item.tag not in (grammar.AREA, grammar.TRAJECTORY):
        return Rejected("truncated", f"The answer was cut inside <{item.tag}>.", span, item.text)
    payload = grammar.read_payload(item.payload)
    flags: set[Flag] = set()
    if item.ending is not Ending.CLOSED:
        flags.add(Flag.TRUNCATED if truncated else Flag.UNCLOSED)
    if truncated and not payload.points:
        return Rejected("truncated", "The answer was cut before any point.", span, item.text)
    if item.ending is Ending.TEXT and not truncated and item.payload.rstrip().endswith(","):
        detail = "The answer ended after a comma: more was to come."
        return Rejected("truncated", detail, span, item.text)
    partial = _PARTIAL_END if truncated else _PARTIAL_CLOSING
    ended_early = item.ending is Ending.TEXT and partial.fullmatch(payload.rest) is not None
    if payload.rest and not ended_early:
        detail = f"<{item.tag}> holds something that is no frame, point or number."
        return Rejected("unreadable", detail, span, item.text)
    candidate = _Candidate(
        tag=item.tag,
        frame=payload.frame,
        points=payload.points,
        numbers=payload.numbers,
        span=span,
        text=item.text,
        label=item.label,
        flags=frozenset(flags),
    )
    return _judge(candidate, n_frames)


def _judge(candidate: _Candidate, n_frames: int) -> AnyGrounding | Rejected:
    problem = _problem(candidate, n_frames)
    if problem is not None:
        return Rejected(*problem, candidate.span, candidate.text)
    return _ground(_bind(candidate, n_frames))


def _problem(candidate: _Candidate, n_frames: int) -> tuple[str, str] | None:
    """(reason, sentence) why ``candidate`` may not be used at all."""
    tag, frame = candidate.tag, candidate.frame
    points, numbers = candidate.points, candidate.numbers
    if frame is not None and not 0 <= frame < n_frames:  # rule 3
        return "frame_out_of_range", f"It names frame {frame}; {n_frames} were shown."
    shapes = grammar.SHAPES[tag]
    if not any(
        least <= len(points) <= most and len(numbers) == bare for least, most, bare in shapes
    ):
        counted = f"{len(points)} points and {len(numbers)} bare numbers"
        return "wrong_number_of_points", f"<{tag}> may not hold {counted}."
    if tag in (grammar.OBJECT, grammar.GRASP) and len(points) > 1:  # rule 5
        size = abs(_area(points))
        if size < _MIN_AREA:
            return "degenerate", f"Its area is {size:g} square units of 0…1000."
    if tag == grammar.BOX_3D and min(numbers[3:6]) <= 0:
        return "degenerate", "A side of the 3D box is not positive."
    if tag == grammar.COUNTING and (numbers[0] < 0 or not isinstance(numbers[0], int)):
        return "unreadable", f"{numbers[0]} is not a count."
    return None


def _area(points: Sequence[Point2]) -> float:
    """Area between two opposite corners, or enclosed by a polygon (shoelace)."""
    if len(points) == 2:
        (xa, ya), (xb, yb) = points
        return (xb - xa) * (yb - ya)
    following = (*points[1:], points[0])
    return sum(xa * yb - xb * ya for (xa, ya), (xb, yb) in zip(points, following, strict=True)) / 2


def _bind(candidate: _Candidate, n_frames: int) -> _Candidate:
    """Resolve the frame (rule 2) and flag what forbids motion (rules 4 and 5)."""
    flags, frame, points = set(candidate.flags), candidate.frame, candidate.points
    if frame is None and n_frames == 1:
        frame = 0
    elif frame is None and candidate.tag != grammar.COUNTING:
        flags.add(Flag.FRAME_IMPLICIT)
    if any(not 0 <= value <= 1000 for point in points for value in point):
        flags.add(Flag.OUT_OF_RANGE)
    if _are_fractions(points):  # rule 4: not rescaled, and no place in the picture's first pixel
        flags.add(Flag.FRACTIONS)
    if candidate.tag == grammar.OBJECT and (
        points[0][0] > points[1][0] or points[0][1] > points[1][1]
    ):
        flags.add(Flag.CORNERS_REORDERED)
    if candidate.tag == grammar.TRAJECTORY and not _travels(points):
        flags.add(Flag.DEGENERATE)
    return replace(candidate, frame=frame, flags=frozenset(flags))


def _are_fractions(points: Sequence[Point2]) -> bool:
    values = [value for point in points for value in point]
    return all(0 <= value <= 1 for value in values) and any(value % 1 for value in values)


def _travels(points: Sequence[Point2]) -> bool:
    return any(math.dist(a, b) > _MIN_TRAVEL for a in points for b in points)


def _ground(candidate: _Candidate) -> AnyGrounding:
    tag, numbers = candidate.tag, candidate.numbers
    common: dict[str, Any] = {
        "frame": candidate.frame,
        "points": candidate.points,
        "span": candidate.span,
        "tag": tag,
        "flags": candidate.flags,
        "label": candidate.label,
    }
    if tag == grammar.GRASP and numbers:
        if abs(numbers[0]) > 360:
            common["flags"] |= {Flag.OUT_OF_RANGE}
        return ContactPoint(**common, angle_deg=float(numbers[0]))
    if tag == grammar.COUNTING:
        return Count(**common, count=int(numbers[0]))
    if tag == grammar.BOX_3D:
        return _box_3d(common, numbers)
    return _PLAIN[tag](**common)


_PLAIN: dict[str, type[Box | Area | Affordance | Trajectory | GraspRectangle]] = {
    grammar.OBJECT: Box,
    grammar.AREA: Area,
    grammar.AFFORDANCE: Affordance,
    grammar.TRAJECTORY: Trajectory,
    grammar.GRASP: GraspRectangle,
}


def _box_3d(common: dict[str, Any], numbers: Sequence[float]) -> Box3D:
    """Centre and size in metres; angles come as −1…1 for −180°…180° (§2.4)."""
    cx, cy, cz, sx, sy, sz, *angles = numbers
    common["flags"] |= {Flag.PRIOR_ONLY}
    if any(abs(angle) > 1 for angle in angles):
        common["flags"] |= {Flag.OUT_OF_RANGE}
    pitch, yaw, roll = (angle * 180.0 for angle in angles)
    return Box3D(
        **common, center_m=(cx, cy, cz), size_m=(sx, sy, sz), pitch_yaw_roll_deg=(pitch, yaw, roll)
    )


# --- answers without tags ------------------------------------------------------------------------


def _without_tags(
    text: str, start: int, end: int, n_frames: int, *, cut: bool
) -> list[AnyGrounding | Rejected]:
    """The 1.1 JSON protocol (§2.2), else the 3D form ``<v,v,…>`` of exactly nine numbers (§2.4)."""
    found = _json_items(text, start, end, n_frames, cut=cut)
    if found:
        return found
    return [
        _judge(_three_d_candidate(match), n_frames)
        for match in grammar.NINE_NUMBERS.finditer(text, start, end)
    ]


def _three_d_candidate(match: re.Match[str]) -> _Candidate:
    numbers = tuple(grammar.number(part.strip()) for part in match[0][1:-1].split(","))
    return _Candidate(grammar.BOX_3D, None, (), numbers, match.span(), match[0])


def _json_items(
    text: str, start: int, end: int, n_frames: int, *, cut: bool
) -> list[AnyGrounding | Rejected]:
    """Objects of a JSON object or list, fenced or bare. Each one's span is its braces."""
    fence = _FENCE.search(text, start, end)
    body = _JSON_START.match(text, fence.end() if fence is not None else start, end)
    found: list[AnyGrounding | Rejected] = []
    while body is not None:
        position = body.end()
        if len(found) > grammar.MAX_TAGS:
            detail = f"The answer holds more than {grammar.MAX_TAGS} JSON objects: it is not read."
            return [Rejected("too_many_tags", detail, (start, end), text[start:end])]
        try:
            value, stop = _JSON.raw_decode(text, position)
        except (ValueError, RecursionError):
            if _JSON_KEY.search(text, position, end):
                reason = "truncated" if cut else "unreadable"
                detail = "The JSON object cannot be read."
                found.append(Rejected(reason, detail, (position, end), text[position:end]))
            break
        key = next((key for key in grammar.JSON_TAGS if key in value), None)
        if key is not None:
            found.append(_json_item(value, key, (position, stop), text, n_frames))
        body = _JSON_NEXT.match(text, stop, end)
    return found


def _bounded_int(digits: str) -> float:
    """Absurd integers become infinite, which no rule accepts."""
    return int(digits) if len(digits) <= grammar.MAX_DIGITS else math.inf


_JSON = json.JSONDecoder(parse_int=_bounded_int)


def _json_item(
    value: dict[str, Any], key: str, span: tuple[int, int], text: str, n_frames: int
) -> AnyGrounding | Rejected:
    written = text[span[0] : span[1]]
    numbers = _json_numbers(value[key])
    frame = value.get("frame_idx")
    tag = grammar.JSON_TAGS[key]
    flat = tag == grammar.BOX_3D
    if (
        numbers is None
        or not (frame is None or type(frame) is int)
        or (len(numbers) % 2 and not flat)
    ):
        detail = f"The JSON value of {key} or frame_idx is not what the protocol allows."
        return Rejected("unreadable", detail, span, written)
    points = () if flat else tuple(zip(numbers[::2], numbers[1::2], strict=True))
    bare = tuple(numbers) if flat else ()
    label = value.get("label")
    return _judge(
        _Candidate(
            tag,
            frame,
            points,
            bare,
            span,
            written,
            label if type(label) is str else "",
            frozenset({Flag.OUTLINE}) if key == "polygon" else frozenset(),
        ),
        n_frames,
    )


def _json_numbers(value: object) -> list[float] | None:
    """``[x, y, x, y]`` and ``[[x, y], [x, y]]`` as one flat list; ``None`` for anything else."""
    if not isinstance(value, list):
        return None
    if value and all(isinstance(part, list) and len(part) == 2 for part in value):
        value = [number for part in value for number in part]
    if all(type(n) in (int, float) and math.isfinite(n) and abs(n) < 1e12 for n in value):
        return value
    return None


def _untagged_coordinates(text: str, start: int, end: int) -> list[Rejected]:
    found = grammar.NUMBER_LIST.search(text, start, end)
    if found is None:
        return []
    detail = "Numbers in brackets outside of any tag: what they mean is not guessed."
    return [Rejected("untagged_coordinates", detail, found.span(), found[0])]


def _actions(
    answer: str, task: Task | None, span: tuple[int, int]
) -> tuple[tuple[str, ...], list[Rejected]]:
    """Navigation symbols, where the answer holds nothing else: prose that mentions an arrow is
    not an order to move."""
    if task not in (None, Task.NAVIGATE):
        return (), []
    if _ACTIONS.fullmatch(answer):
        return tuple(_ACTION_NAMES[symbol] for symbol in _ACTION.findall(answer)), []
    if task is None:
        return (), []
    detail = "A navigation answer holds ↑, ←, → and STOP and nothing else."
    return (), [Rejected("unreadable_actions", detail, span, answer)]


def _no_grounding(
    answer: str, task: Task | None, rejected: Sequence[Rejected], span: tuple[int, int]
) -> list[AnyGrounding]:
    """Rule 7: a named result where a grounding was needed and none can be used."""
    abstained = _ABSTENTION.search(answer) is not None
    alone = _ABSTENTION.fullmatch(answer.rstrip(". ")) is not None
    needed = task is not None and task.needs_grounding
    if not (needed or (alone and task is None)):
        return []
    reason = rejected[0].reason if rejected else "no_item" if answer else "empty_answer"
    reason = "abstained" if abstained else reason
    return [NoGrounding(None, (), span, "", abstained=abstained, reason=reason)]
