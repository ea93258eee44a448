"""Pushes of the ``color-baseline`` engine: where one ends, and whether it has come there.

Directions are those of the picture: left and right as they are seen, away from the robot, which
looks at the camera, is down. Places are (x, y) of the picture's width and height, 0…1.
"""

from __future__ import annotations

import math

from rynn_brain_ros.models.color_vision import Blob
from rynn_brain_ros.values import Point2

_FAR = 0.12
"""How far a push goes that has only a direction, per picture width."""
_FARTHEST = 0.25
_ROOM = 0.04
"""What is left before the thing that it goes towards."""
_MARGIN = 0.05
_DIRECTIONS = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "away": (0.0, 1.0)}


def push_end(thing: Blob, place: Blob | None, direction: str) -> Point2 | None:
    """Where the foot of ``thing`` goes in that direction, or towards ``place``; None where there
    is no room for it."""
    (x, y), aspect = _foot(thing), thing.mask.shape[1] / thing.mask.shape[0]
    if place is None:
        (dx, dy), far = _DIRECTIONS[direction], _FAR
    else:
        px, py = _foot(place)
        dx, dy = px - x, (py - y) / aspect
        length = max(math.hypot(dx, dy), 1e-9)
        dx, dy = dx / length, dy / length
        far = min(_FARTHEST, length - (_width(thing) + _width(place)) / 2 - _ROOM)
    end = (x + far * dx, y + far * dy * aspect)
    inside = all(_MARGIN < value < 1 - _MARGIN for value in end)
    return end if inside and far > _ROOM else None


def has_come(first: Blob, now: Blob, end: Point2) -> bool:
    """It is nearer to the end than to where it stood first."""
    return math.dist(_foot(now), end) < math.dist(_foot(now), _foot(first))


def _foot(blob: Blob) -> Point2:
    x0, y0, x1, y1 = blob.bounds()
    return ((x0 + x1) / 2, y1 - 0.25 * (y1 - y0))


def _width(blob: Blob) -> float:
    x0, _, x1, _ = blob.bounds()
    return x1 - x0
