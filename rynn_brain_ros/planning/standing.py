"""Where a driving robot stands before a thing: on free ground that was seen, near and in view."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.config import setting
from rynn_brain_ros.safety import GroundMemory
from rynn_brain_ros.values import Point2, Refusal, RefusalCode, RigidTransform

Floats = NDArray[np.float64]

_AT_IT_M = 0.2
"""What stands this near to a thing's surface is the thing itself."""
_FARTHER = 0.15
"""A metre of way counts as this much distance from the thing."""
_TRIES = 400


@dataclass(frozen=True)
class StandingConfig:
    """How near a robot is sent to what it is sent to."""

    standoff_m: float = setting(
        0.75, "from the base's middle to the thing it is sent to [m]", 0.1, 10.0
    )
    gain_m: float = setting(
        0.3, "how much nearer it must get for a drive to be worth it [m]", 0.0, 10.0
    )
    leg_m: float = setting(4.0, "how far away it is sent at once [m]", 0.5, 100.0)


def standing_place(
    surface_m: Floats,
    from_m: Point2,
    ground: GroundMemory,
    room_m: float,
    config: StandingConfig,
) -> Point2 | Refusal:
    """The place to be sent to, in the fixed frame.

    ``surface_m`` [N, 2] are places of the thing on the floor plan, ``from_m`` is where the base is,
    ``room_m`` what it needs around its middle. OBSTACLE where no free place gets it nearer.
    """
    places = ground.free_places(room_m)
    away_m = _distances(places, surface_m)
    legs_m = np.hypot(*(places - from_m).T)
    now_m = float(_distances(np.array([from_m]), surface_m)[0])
    allowed = (away_m >= config.standoff_m) & (legs_m <= config.leg_m)
    allowed &= away_m <= now_m - config.gain_m
    cost = away_m + _FARTHER * legs_m
    for index in np.flatnonzero(allowed)[np.argsort(cost[allowed], kind="stable")][:_TRIES]:
        place = (float(places[index, 0]), float(places[index, 1]))
        if not ground.is_between(place, _before(surface_m, place)):
            return place
    return Refusal(
        RefusalCode.OBSTACLE,
        f"no place seen to be free within {config.leg_m:g} m is {config.gain_m:g} m nearer to it "
        f"than here, {now_m:.2f} m away, and no nearer than {config.standoff_m:g} m",
    )


def facing(place_m: Point2, surface_m: Floats, frame: str, base_frame: str) -> RigidTransform:
    """The pose of a base that stands at a place and looks at what it was sent to."""
    x, y = np.mean(surface_m, axis=0) - place_m
    half = math.atan2(y, x) / 2
    turned = (0.0, 0.0, math.sin(half), math.cos(half))
    return RigidTransform(frame, base_frame, (*place_m, 0.0), turned)


def _distances(places: Floats, surface_m: Floats) -> Floats:
    """From each place to the nearest of the surface, [M]."""
    nearest = np.full(len(places), math.inf)
    for point in surface_m:
        nearest = np.minimum(nearest, np.hypot(*(places - point).T))
    return nearest


def _before(surface_m: Floats, place_m: Point2) -> Point2:
    """On the straight line to the surface, as far as the thing itself is not in the way."""
    gaps = surface_m - place_m
    distances = np.hypot(*gaps.T)
    nearest = int(np.argmin(distances))
    share = max(0.0, 1.0 - _AT_IT_M / max(float(distances[nearest]), 1e-9))
    x, y = place_m + share * gaps[nearest]
    return (float(x), float(y))
