"""Free places on the table: where a thing is put down that goes next to another."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rynn_brain_ros.sim.objects import foot_radius_m
from rynn_brain_ros.sim.table_tasks import NEXT_TO_M
from rynn_brain_ros.sim.tabletop import Thing
from rynn_brain_ros.values import Point2, Vector3

_BESIDE_M, _ROOM_M = 0.028, 0.03
"""From a thing to what it is put next to, and to all else. The first is about the middle of what
counts as next to."""
_OUTWARDS_M, _SIDES_M = (0.35, 0.70), (-0.36, 0.36)
"""Where what is put down next to something stands: hardly farther out than things in episodes, so
that the edge seldom decides."""
_MIDDLE_M: Point2 = (0.5, 0.0)
"""Of the table, where things stand."""


def free_spot(thing: Thing, place: Thing, others: Sequence[Thing], eye_m: Vector3) -> Point2 | None:
    """Beside ``place``: towards the camera at ``eye_m`` where there is room, else as near to that
    as there is, on the table's middle side first. Each is what it is in a mirrored picture too.
    (The freest spot was tried: a little difference far away decides then, and answers were in
    doubt.)"""
    reach = foot_radius_m(thing) + foot_radius_m(place) + _BESIDE_M
    to_eye, to_middle = (_heading(place.xy_m, end) for end in (eye_m, _MIDDLE_M))
    inwards = 1 if math.sin(to_middle - to_eye) > 0 else -1
    for turn in (0, 1, -1, 2, -2, 3, -3, 4):
        angle = to_eye + inwards * turn * math.pi / 4
        x = place.xy_m[0] + reach * math.cos(angle)
        y = place.xy_m[1] + reach * math.sin(angle)
        within = _OUTWARDS_M[0] < x < _OUTWARDS_M[1] and _SIDES_M[0] < y < _SIDES_M[1]
        if within and _room_m((x, y), thing, others) > _ROOM_M:
            return x, y
    return None


def is_beside(spot: Point2, thing: Thing, place: Thing, others: Sequence[Thing]) -> bool:
    """Whether ``thing`` would stand next to ``place`` there, touching nothing."""
    return 0 < _room_m(spot, thing, [place]) < NEXT_TO_M and _room_m(spot, thing, others) > 0


def _heading(start: Point2, end: Sequence[float]) -> float:
    return math.atan2(end[1] - start[1], end[0] - start[0])


def _room_m(spot: Point2, thing: Thing, others: Sequence[Thing]) -> float:
    gaps = [math.dist(spot, o.xy_m) - foot_radius_m(o) - foot_radius_m(thing) for o in others]
    return min(gaps, default=1.0)
