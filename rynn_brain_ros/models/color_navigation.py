"""Navigation turns of the ``color-baseline`` engine: find a colour, go to it, stop before it.

It sees pictures and knows what was driven and refused between them. How near a thing is it tells
by where its foot is in the picture. Far things it points at; nearer ones it drives to by arrows,
and so it does where pointing was refused. What is not in view is looked for all around, where it
was seen last at first, then from the far end of the floor; then it says that it is not there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from rynn_brain_ros.language import format_actions, format_grounding, parse
from rynn_brain_ros.memory import decode_color
from rynn_brain_ros.models.color_questions import read_question
from rynn_brain_ros.models.color_vision import Blob, far_floor, find_blobs
from rynn_brain_ros.models.color_words import NotUnderstood, Noun
from rynn_brain_ros.values import (
    Box,
    Point2,
    Query,
    SelectedFrame,
    Task,
    Turn,
)

_HALF_VIEW_DEG = 39.5
"""RynnBrain-Nav's camera sees 79° from side to side."""
_TURN_DEG = 15.0
_CHUNK = 4
_NOTHING = "<no object>"
_MIN_AREA_PX = 100
_AT_FEET, _CLOSE, _MIDDLING = 0.9, 0.8, 0.66
"""How far down the picture, 0…1, a thing's foot is when it is before the robot's own, when one
step is enough, and when two are."""
_CAME_FROM_DEG = 120.0
"""What lies so far behind is where the robot was before."""
_SAME_WAY_DEG = 25.0
_AHEAD = (0.3, 0.7)
"""The columns of the picture that lie before the robot."""
_FAR_END = 0.5
"""How far down the picture, 0…1, a floor may end that is gone on on: 1.9 m away."""
_STRAIGHT_ON = 3
"""After so many turns straight on it is time to look around."""
_RATHER_AHEAD = 0.05
"""So much farther down the picture may a floor end that is in view than one that is not."""
_ENOUGH_VIEWS = 7
"""So many old views, beside the recent ones, are of several places that were looked around at."""


def navigate(query: Query) -> str:
    """Up to four arrows, STOP, a place to go to, or a sentence without any where it gives up."""
    named = read_question(query.instruction, Task.NAVIGATE)
    if isinstance(named, NotUnderstood):
        return f"{named.text} {_NOTHING}"
    if named[0].color is None:
        return f"I find things by their colour only, and the task names none. {_NOTHING}"
    target = _seen(query.frames[-1], named[0])
    return _approach(query, target) if target is not None else _search(query, named[0])


# --- what is in view ------------------------------------------------------------------------------


def _approach(query: Query, target: Blob) -> str:
    turns, foot = round(_bearing_deg(target) / _TURN_DEG), target.bounds()[3]
    refused, is_far = _refused_here(query), foot < _AT_FEET
    if turns and _is_cut(target) and not _would_turn_back(query, turns):
        return _turning(turns)
    if is_far and not refused:
        (x0, y0, x1, y1), frame = target.bounds(), len(query.frames) - 1
        box = Box(frame, (_norm((x0, y0)), _norm((x1, y1))), (0, 0), "object")
        return f"I go there: {format_grounding(box, with_frame=frame > 0)}"
    if abs(turns) > 1:
        return _turning(turns)
    if not is_far and "STOP" not in refused:
        return format_actions(["STOP"])
    if "FORWARD" in refused:
        return _aside(query, target)
    away = _way_around(query.frames[-1], target)
    if away and foot < _CLOSE:
        return format_actions([away, away, "FORWARD", "FORWARD"])
    steps = 1 if foot >= _CLOSE else 2 if foot >= _MIDDLING else _CHUNK
    return format_actions(["FORWARD"] * steps)


def _aside(query: Query, target: Blob) -> str:
    """The way ahead was refused: past it, where there is more floor."""
    away = _way_around(query.frames[-1], target)
    if not away:
        rgb = decode_color(query.frames[-1].frame.color)
        left, right = (far_floor(rgb, side) for side in ((0.0, 0.4), (0.6, 1.0)))
        away = "LEFT" if right is None or (left and left[1] < right[1]) else "RIGHT"
    return format_actions([away] * 3 + ["FORWARD"])


def _would_turn_back(query: Query, turns: int) -> bool:
    """One step of 15° too far is better than one back and forth for ever."""
    last = _actions(query.history[-1]) if query.history else ()
    return bool(last) and last[-1] == ("RIGHT" if turns > 0 else "LEFT")


def _way_around(frame: SelectedFrame, target: Blob) -> str:
    """The side to pass something on that stands before the robot and is not the target."""
    for blob in find_blobs(decode_color(frame.frame.color)):
        x0, _, x1, y1 = blob.bounds()
        if blob.color != target.color and y1 >= _CLOSE and x0 < 0.7 and x1 > 0.3:
            return "LEFT" if 1 - x1 < x0 else "RIGHT"
    return ""


def _seen(frame: SelectedFrame, noun: Noun) -> Blob | None:
    blobs = find_blobs(decode_color(frame.frame.color), noun.color)
    return next((blob for blob in blobs if blob.area_px >= _MIN_AREA_PX), None)


def _is_cut(target: Blob) -> bool:
    """By the left or the right side of the picture, and not by both."""
    x0, _, x1, _ = target.bounds()
    return (x0 <= 0.0) != (x1 >= 1.0)


def _bearing_deg(target: Blob) -> float:
    """Of its middle, to the left positive."""
    x0, _, x1, _ = target.bounds()
    return _direction_deg((x0 + x1) / 2)


def _direction_deg(x: float) -> float:
    """Of a column of the picture, 0…1."""
    return math.degrees(math.atan((0.5 - x) * 2 * math.tan(math.radians(_HALF_VIEW_DEG))))


# --- what is not ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Past:
    """An earlier view, and where it looked, from the heading now to the left."""

    frame: SelectedFrame
    heading_deg: float
    refused: bool = False


@dataclass(frozen=True)
class _Way:
    """What is known of the way, newest first: the views ``here``, on the spot where the robot is,
    and those ``before`` it drove by arrows; and where it came to be ``going`` then."""

    here: tuple[_Past, ...]
    before: tuple[_Past, ...]
    going_deg: float | None


def _search(query: Query, noun: Noun) -> str:
    if query.history and _NOTHING in query.history[-1].refused:
        return _gave_up(noun)  # asked again, it has seen nothing new
    way = _way(query)
    turns = _turns_to_last_seen((*way.here, *way.before), noun)
    if abs(turns) * _TURN_DEG > _HALF_VIEW_DEG:
        return _turning(turns)
    if _goes_on(query):
        return format_actions(["FORWARD"] * _CHUNK)
    around = [0.0, *(view.heading_deg for view in way.here)]
    seen = (any(_apart(a, _TURN_DEG * i) <= _HALF_VIEW_DEG for a in around) for i in range(24))
    return _explore(query, noun, way) if all(seen) else _turning(_CHUNK)


def _turns_to_last_seen(past: tuple[_Past, ...], noun: Noun) -> int:
    """To the left positive; 0 where it was not seen, or not again."""
    looked = [0.0]
    for view in past:
        target = _seen(view.frame, noun)
        if target is not None:
            bearing = math.remainder(view.heading_deg + _bearing_deg(target), 360.0)
            again = any(_apart(bearing, heading) < _SAME_WAY_DEG for heading in looked)
            return 0 if again else round(bearing / _TURN_DEG)
        looked.append(view.heading_deg)
    return 0


def _goes_on(query: Query) -> bool:
    """Whether the robot is on its way to the floor's far end and may go on."""
    ahead = far_floor(decode_color(query.frames[-1].frame.color), _AHEAD)
    if ahead is None or ahead[1] > _FAR_END:
        return False
    recent = query.history[-_STRAIGHT_ON:]
    drove = [_actions(turn)[-1:] == ("FORWARD",) and not turn.refused for turn in recent]
    return bool(drove) and drove[-1] and not (len(drove) == _STRAIGHT_ON and all(drove))


def _explore(query: Query, noun: Noun, way: _Way) -> str:
    """Towards the far end of the floor, but not back to where the robot came from."""
    ends = tuple(_ends(query.frames[-1], way))
    if not ends or len(query.frames) > _ENOUGH_VIEWS:
        return _gave_up(noun)
    turns = min(ends)[1]
    if abs(turns) > 1:
        return _turning(turns)
    turn = ["LEFT" if turns > 0 else "RIGHT"] * abs(turns)
    return format_actions(turn + ["FORWARD"] * (_CHUNK - len(turn)))


def _gave_up(noun: Noun) -> str:
    return f"I looked all around and see no {noun}. {_NOTHING}"


def _ends(now: SelectedFrame, way: _Way) -> Iterator[tuple[float, int]]:
    """Where the floor goes on: how near its end is, as a row of the picture, and the turns to
    face it."""
    views = (_Past(now, 0.0), *way.here)
    ends = [(view, *_far_end(view)) for view in views]
    closed = [bearing for view, bearing, _ in ends if view.refused]
    for view, bearing, row in ends:
        is_back = way.going_deg is not None and _apart(bearing, way.going_deg) > _CAME_FROM_DEG
        is_closed = any(_apart(bearing, other) < _SAME_WAY_DEG for other in closed)
        if not (is_back or is_closed or row > _MIDDLING):
            turns = round(math.remainder(bearing, 360.0) / _TURN_DEG)
            yield row - _RATHER_AHEAD * (view is views[0]), turns


def _far_end(view: _Past) -> tuple[float, float]:
    """Of the floor in a view: its bearing from the heading now, and its row in the picture, which
    is the lowest one where no floor is seen."""
    x, row = far_floor(decode_color(view.frame.frame.color)) or (0.5, 1.0)
    return view.heading_deg + _direction_deg(x), row


def _way(query: Query) -> _Way:
    heading_deg, going_deg = 0.0, None
    here: list[_Past] = []
    before: list[_Past] = []
    for turn in reversed(query.history):
        actions = _actions(turn)
        drove, was_sent = "FORWARD" in actions, bool(turn.answer and not actions)
        if going_deg is None and (drove or was_sent):
            going_deg = heading_deg
        if was_sent:
            break
        heading_deg -= _TURN_DEG * (actions.count("LEFT") - actions.count("RIGHT"))
        view = _Past(turn.frames[-1], heading_deg, bool(turn.refused))
        (here if going_deg is None else before).append(view)
    return _Way(tuple(here), tuple(before), going_deg)


def _apart(a_deg: float, b_deg: float) -> float:
    return abs(math.remainder(a_deg - b_deg, 360.0))


# --- words ----------------------------------------------------------------------------------------


def _refused_here(query: Query) -> set[str]:
    """What was refused since the robot last moved: FORWARD, STOP, or a place to go to."""
    refused: set[str] = set()
    for turn in reversed(query.history):
        what = turn.refused.partition(":")[0]
        actions = parse(what, 1, task=Task.NAVIGATE).actions
        refused |= {actions[0] if actions else "place"} if what else set()
        if turn.answer:
            break
    return refused


def _turning(turns: int) -> str:
    return format_actions(["LEFT" if turns > 0 else "RIGHT"] * min(abs(turns), _CHUNK))


def _norm(unit: Point2) -> Point2:
    return (round(unit[0] * 1000), round(unit[1] * 1000))


def _actions(turn: Turn) -> tuple[str, ...]:
    return parse(turn.answer, len(turn.frames), task=Task.NAVIGATE).actions
