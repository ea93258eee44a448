"""What the executive remembers of its own doing: what it took, from where, and where it went.

It is what a claim of being done is compared with, and what makes a place possible.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from rynn_brain_ros.geometry import Grasp, Placement
from rynn_brain_ros.planning.appearance import Appearance
from rynn_brain_ros.values import Vector3


@dataclass(frozen=True)
class Taken:
    """A thing that was gripped: how, what it looks like, and where it stood (its middle)."""

    grasp: Grasp
    looks: Appearance
    from_m: Vector3


@dataclass(frozen=True)
class Put:
    """A thing that was let go: what it was, and where it should be now. ``seen`` once a look
    after that has found it there."""

    taken: Taken
    place: Placement
    seen: bool = False

    @property
    def middle_m(self) -> Vector3:
        """Where the thing's middle is if it went as planned; in a container, over its floor."""
        x, y, z = self.place.position_m
        return (x, y, z + self.taken.grasp.size_m[2] / 2)


@dataclass(frozen=True)
class Doings:
    """What was done in this task so far. ``held`` is what the hand holds now."""

    held: Taken | None = None
    put: tuple[Put, ...] = ()

    def took(self, taken: Taken) -> Doings:
        """A thing taken again is no longer where it had been put."""
        kept = tuple(put for put in self.put if not _is_near(put, taken))
        return Doings(taken, kept)

    def let_go(self, place: Placement) -> Doings:
        if self.held is None:
            return self
        return Doings(None, (*self.put, Put(self.held, place)))

    def is_under_another(self, put: Put) -> bool:
        """Whether something was put over it, or into the same container, later."""
        later = self.put[self.put.index(put) + 1 :]
        x, y, _ = put.place.position_m
        return any(
            math.dist((x, y), other.place.position_m[:2]) <= put.place.radius_m for other in later
        )

    def lost(self) -> Doings:
        return replace(self, held=None)


def _is_near(put: Put, taken: Taken) -> bool:
    reach_m = put.place.radius_m + max(taken.grasp.size_m)
    apart_m = math.dist(put.middle_m, taken.from_m)
    return apart_m < reach_m
