"""Navigation turns of the ``color-baseline`` engine: turn to a colour, drive to it, stop before it.

It sees one picture and knows the arrows that were driven. How near a thing is it tells by where
its foot is in the picture. A thing that is not in view is looked for by turning on the spot, once
around; then it says that it is not there.
"""

from __future__ import annotations

import math

from rynn_brain_ros.language import format_actions, parse
from rynn_brain_ros.memory import decode_color
from rynn_brain_ros.models.color_vision import Blob, find_blobs
from rynn_brain_ros.models.color_words import Noun, nouns
from rynn_brain_ros.values import Query, SelectedFrame, Task, Turn

_HALF_VIEW_DEG = 39.5
"""RynnBrain-Nav's camera sees 79° from side to side."""
_TURN_DEG = 15.0
_CHUNK = 4
_MIN_AREA_PX = 100
_UP = 1
_AT_FEET, _CLOSE, _MIDDLING = 0.985, 0.8, 0.66
"""How far down the picture, 0…1, a thing's foot is when it is before the robot's own, when one
step is enough, and when two are."""


def navigate(query: Query) -> str:
    """Up to four arrows, STOP, or a sentence without any where it gives up."""
    named = nouns(query.instruction)
    if not named or named[-1].color is None:
        return "I find things by their colour only, and the task names none. <no object>"
    target = _seen(query.frames[-1], named[-1])
    if target is None:
        return _search(query, named[-1])
    turns = round(_bearing_deg(target) / _TURN_DEG)
    foot = target.bounds()[3]
    if turns and not (abs(turns) == 1 and (foot >= _AT_FEET or _would_turn_back(query, turns))):
        return format_actions(["LEFT" if turns > 0 else "RIGHT"] * min(abs(turns), _CHUNK))
    away = _way_around(query.frames[-1], target)
    if away and foot < _AT_FEET:
        return format_actions([away, away, "FORWARD", "FORWARD"])
    if foot >= _AT_FEET:
        # Its foot is leaving the picture: a little more, and no further.
        return format_actions(["STOP" if _steps_up(query, named[-1]) >= _UP else "FORWARD"])
    steps = 1 if foot >= _CLOSE else 2 if foot >= _MIDDLING else _CHUNK
    return format_actions(["FORWARD"] * steps)


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


def _bearing_deg(target: Blob) -> float:
    """Of its middle, to the left positive."""
    x0, _, x1, _ = target.bounds()
    half = math.tan(math.radians(_HALF_VIEW_DEG))
    return math.degrees(math.atan((0.5 - (x0 + x1) / 2) * 2 * half))


def _steps_up(query: Query, noun: Noun) -> int:
    """How many of the last turns went on with its foot already at the picture's lower edge."""
    count = 0
    for turn in reversed(query.history):
        before = _seen(turn.frames[-1], noun)
        if before is None or before.bounds()[3] < _AT_FEET or "FORWARD" not in _actions(turn):
            break
        count += 1
    return count


def _search(query: Query, noun: Noun) -> str:
    turned = 0
    for turn in reversed(query.history):
        actions = _actions(turn)
        if "FORWARD" in actions:
            break
        turned += len(actions)
    if turned * _TURN_DEG >= 360:
        return f"I looked all around and see no {noun}. <no object>"
    return format_actions(["LEFT"] * _CHUNK)


def _actions(turn: Turn) -> tuple[str, ...]:
    return parse(turn.answer, len(turn.frames), task=Task.NAVIGATE).actions
