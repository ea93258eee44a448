"""Free places on the table: where a thing is put down that goes next to another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rynn_brain_ros.sim.objects import foot_radius_m
from rynn_brain_ros.sim.table_tasks import NEXT_TO_M
from rynn_brain_ros.sim.tabletop import Thing
from rynn_brain_ros.values import Point2, RigidTransform
from training.nano.camera import seen_at

_BESIDE_M, _ROOM_M = 0.028, 0.012
"""From a thing to what it is put next to, and to all else. The first is about the middle of what
counts as next to."""
_SIDES, _LOWEST = (40, 960), 950
"""Of the picture, 1/1000 of its width and height: what is put down next to something goes where it
is seen whole, and where the arm reaches."""


@dataclass(frozen=True)
class Spot:
    """Beside a thing: on the table in metres of the base frame, in the picture in 0…1000, and
    whether there is room."""

    xy_m: Point2
    seen: Point2
    is_free: bool


def spots_beside(
    place: Thing, thing: Thing, others: Sequence[Thing], T_base_front: RigidTransform
) -> tuple[Spot, Spot, Spot]:
    """For ``thing``, beside ``place``: towards the camera, and to its left and right as it sees
    them."""
    reach_m = foot_radius_m(thing) + foot_radius_m(place) + _BESIDE_M
    eye_m = T_base_front.translation_m
    to_eye = math.atan2(eye_m[1] - place.xy_m[1], eye_m[0] - place.xy_m[0])
    found = []
    for turn in (0.0, -math.pi / 2, math.pi / 2):
        xy_m = (
            place.xy_m[0] + reach_m * math.cos(to_eye + turn),
            place.xy_m[1] + reach_m * math.sin(to_eye + turn),
        )
        x, y = seen_at((*xy_m, 0.0), T_base_front)
        is_shown = _SIDES[0] < x < _SIDES[1] and y < _LOWEST
        found.append(Spot(xy_m, (x, y), is_shown and _room_m(xy_m, thing, others) > _ROOM_M))
    ahead, left, right = found
    return ahead, left, right


def free_spot(spots: Sequence[Spot]) -> Spot | None:
    """Of `spots_beside` that towards the camera where there is room, else that at the side of the
    picture's middle, else that at the other: each is what it is in a mirrored picture, too. What
    decides is to be seen: where places farther round the thing and beyond what the arm reaches
    decided, answers were in doubt."""
    ahead, *sides = spots
    inwards = sorted(sides, key=lambda spot: abs(spot.seen[0] - 500))
    return next((spot for spot in (ahead, *inwards) if spot.is_free), None)


def is_beside(spot: Point2, thing: Thing, place: Thing, others: Sequence[Thing]) -> bool:
    """Whether ``thing`` would stand next to ``place`` there, touching nothing."""
    return 0 < _room_m(spot, thing, [place]) < NEXT_TO_M and _room_m(spot, thing, others) > 0


def _room_m(spot: Point2, thing: Thing, others: Sequence[Thing]) -> float:
    gaps = [math.dist(spot, o.xy_m) - foot_radius_m(o) - foot_radius_m(thing) for o in others]
    return min(gaps, default=1.0)
