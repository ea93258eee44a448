"""What the executive remembers of its own doing: what it took, from where, and where it went.

It is what a claim of being done is compared with, and what makes a place possible.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from rynn_brain_ros.geometry import Capsule, Grasp, Placement
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
class Surface:
    """What a picture shows of a thing: the middle of its visible surface in the base frame, and
    in how many pixels it is seen."""

    middle_m: Vector3
    n_pixels: int


@dataclass(frozen=True)
class Shifted:
    """A thing that was pushed or pulled along its support: what it looks like, its size (long
    side, short side, height), where its middle was and where it should be now. ``seen`` is its
    surface as the picture before showed it."""

    looks: Appearance
    size_m: Vector3
    from_m: Vector3
    to_m: Vector3
    support_z_m: float
    seen: Surface

    @property
    def by_m(self) -> float:
        return math.dist(self.from_m, self.to_m)

    @property
    def way(self) -> Capsule:
        """Wherever it may be after that, with as much room around as the thing itself takes."""
        return Capsule(self.from_m, self.to_m, max(self.size_m))


@dataclass(frozen=True)
class Poured:
    """A vessel that was tilted over another, which is ``into``. ``inside`` are the colours that
    were seen within its rim before, and ``strange`` how many pixels there had none of them."""

    into: Placement
    inside: Appearance
    strange: int


@dataclass(frozen=True)
class Handed:
    """A thing that was offered to a person at ``at_m``; they have it once the hand ``let_go``."""

    taken: Taken
    at_m: Vector3
    let_go: bool = False


@dataclass(frozen=True)
class Doings:
    """What was done in this task so far. ``held`` is what the hand holds now, ``brought`` from an
    earlier task; ``fallen`` are things that fell out of it and were not taken again."""

    held: Taken | None = None
    put: tuple[Put, ...] = ()
    shifted: tuple[Shifted, ...] = ()
    poured: tuple[Poured, ...] = ()
    handed: tuple[Handed, ...] = ()
    fallen: tuple[Taken, ...] = ()
    brought: bool = False

    @property
    def is_nothing(self) -> bool:
        """Nothing was moved, or all of it was lost again."""
        done = (*self.put, *self.shifted, *self.poured, *self.handed)
        return (self.held is None or self.brought) and not done

    def took(self, taken: Taken) -> Doings:
        """A thing taken again is no longer where it had been put, pushed or dropped."""
        before = self._without(taken.from_m, taken.grasp.size_m)
        fallen = tuple(each for each in self.fallen if not each.looks.is_like(taken.looks))
        return replace(before, held=taken, fallen=fallen, brought=False)

    def let_go(self, place: Placement) -> Doings:
        if self.held is None:
            return self
        put = (*self.put, Put(self.held, place))
        return replace(self, held=None, put=put, handed=self._given, brought=False)

    def shoved(self, shifted: Shifted) -> Doings:
        """Pushed again, only where it went last counts."""
        before = self._without(shifted.from_m, shifted.size_m)
        return replace(before, shifted=(*before.shifted, shifted))

    def tilted(self, poured: Poured) -> Doings:
        return replace(self, poured=(*self.poured, poured))

    def offered(self, handed: Handed) -> Doings:
        """Whoever offers a thing wants to be rid of it: until then nothing is done."""
        return replace(self, handed=(*self._given, handed))

    def gave(self, handed: Handed) -> Doings:
        return replace(self.offered(replace(handed, let_go=True)), held=None)

    @property
    def _given(self) -> tuple[Handed, ...]:
        return tuple(each for each in self.handed if each.let_go)

    def _without(self, middle_m: Vector3, size_m: Vector3) -> Doings:
        """Without what was done to the thing that was found at ``middle_m``."""
        put = tuple(put for put in self.put if not _is_near(put, middle_m, size_m))
        here = np.array(middle_m)[None]
        shifted = tuple(each for each in self.shifted if not each.way.holds(here)[0])
        return replace(self, put=put, shifted=shifted)

    def is_under_another(self, put: Put) -> bool:
        """Whether something was put over it, or into the same container, later."""
        later = self.put[self.put.index(put) + 1 :]
        x, y, _ = put.place.position_m
        return any(
            math.dist((x, y), other.place.position_m[:2]) <= put.place.radius_m for other in later
        )

    def dropped(self, taken: Taken) -> Doings:
        """It was gripped, and lies nobody knows where."""
        fallen = (*self.fallen, taken)
        return replace(self, held=None, handed=self._given, fallen=fallen, brought=False)


@dataclass
class Hand:
    """What the hand holds between two tasks: it outlasts them as the hand does."""

    held: Taken | None = None

    def begin(self) -> Doings:
        """Of a new task."""
        return Doings(held=self.held, brought=self.held is not None)


def _is_near(put: Put, middle_m: Vector3, size_m: Vector3) -> bool:
    """Whether what stands there, as large as ``size_m``, may be what was put: it overlaps where
    that may have come to rest."""
    gap_m = math.dist(put.middle_m[:2], middle_m[:2]) - put.place.radius_m
    return gap_m < math.hypot(*size_m[:2]) / 2
