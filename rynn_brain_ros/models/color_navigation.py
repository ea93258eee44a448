"""Navigation turns of the ``color-baseline`` engine: turn to a colour, drive to it, stop before it.

It sees one picture and knows the arrows that were driven. A thing that is not in view is looked
for by turning on the spot, once around; then it says that it is not there.
"""

from __future__ import annotations

import math

from rynn_brain_ros.language import format_actions, parse
from rynn_brain_ros.memory import decode_color
from rynn_brain_ros.models.color_vision import Blob, find_blobs
from rynn_brain_ros.models.color_words import nouns
from rynn_brain_ros.values import Query, Task

_HALF_VIEW_DEG = 39.5
"""RynnBrain-Nav's camera sees 79° from side to side."""
_TURN_DEG = 15.0
_CHUNK = 4
_MIN_AREA_PX = 40
_FOOT_NEAR = 0.93
"""A thing whose foot is this far down the picture, 0…1, is as near as a step allows."""
_WIDE = 0.55


def navigate(query: Query) -> str:
    """Up to four arrows, STOP, or a sentence without any where it gives up."""
    named = nouns(query.instruction)
    if not named or named[-1].color is None:
        return "I find things by their colour only, and the task names none. <no object>"
    noun = named[-1]
    blobs = find_blobs(decode_color(query.frames[-1].frame.color), noun.color)
    target = next((blob for blob in blobs if blob.area_px >= _MIN_AREA_PX), None)
    if target is None:
        return _search(query, str(noun))
    x0, _, x1, y1 = target.bounds()
    turns = round(_bearing_deg((x0 + x1) / 2) / _TURN_DEG)
    if _is_near(target):
        return format_actions(["STOP"])
    if turns:
        return format_actions(["LEFT" if turns > 0 else "RIGHT"] * min(abs(turns), _CHUNK))
    return format_actions(["FORWARD"] * (1 if y1 > 0.75 else 2 if y1 > 0.6 else _CHUNK))


def _bearing_deg(x: float) -> float:
    """Of a column 0…1, to the left positive."""
    half = math.tan(math.radians(_HALF_VIEW_DEG))
    return math.degrees(math.atan((0.5 - x) * 2 * half))


def _is_near(target: Blob) -> bool:
    x0, _, x1, y1 = target.bounds()
    return y1 >= _FOOT_NEAR or x1 - x0 >= _WIDE


def _search(query: Query, name: str) -> str:
    turned = 0
    for turn in reversed(query.history):
        actions = parse(turn.answer, len(turn.frames), task=Task.NAVIGATE).actions
        if "FORWARD" in actions:
            break
        turned += len(actions)
    if turned * _TURN_DEG >= 360:
        return f"I looked all around and see no {name}. <no object>"
    return format_actions(["LEFT"] * _CHUNK)
