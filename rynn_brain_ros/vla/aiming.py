"""What a policy's target point is told in, and which of the things that the brain pointed at it is:
in training and live alike."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from rynn_brain_ros.vla.values import PolicyError

_OBJECT, _AREA, _AFFORDANCE, _TRAJECTORY, _CONTACT = 1, 2, 3, 4, 6
_AIMS = (_AFFORDANCE, _CONTACT, _AREA, _TRAJECTORY, _OBJECT)
"""Kinds of rynn_brain_ros/Grounding that a hand goes to, the surest first: what is held while it
is placed is an object too."""


@dataclass(frozen=True)
class Aim:
    """Which numbers tell the target point: ``n`` is 0 (none), 2 (x, y in 0…1000 of the pictures of
    the topic ``camera``) or 3 (metres in the frame ``frame``)."""

    n: int = 0
    frame: str = ""
    camera: str = ""

    @property
    def place(self) -> str:
        """What the numbers are told in; empty where that is not known."""
        return {0: "nothing", 2: self.camera, 3: self.frame}.get(self.n, "")

    def check_same(self, expected: Aim, where: str) -> None:
        """Raises `PolicyError` where ``expected`` is another."""
        if self != expected:
            raise PolicyError(
                f"{where} was trained with target points of {self.n} numbers in {self.place}, here "
                f"they are {expected.n} in {expected.place}: tell them alike, or train a new one"
            )

    def point(self, groundings: str, advice: str = "set data.target_frame={}") -> tuple[float, ...]:
        """Where a hand goes, of what ``annotation.groundings`` holds; empty where it is not told.

        Raises `PolicyError` for metres in another frame {}, with ``advice``.
        """
        told = json.loads(groundings) if groundings and self.n else []
        for kind in _AIMS:
            found = [g for g in told if g["kind"] == kind and g["points"]]
            if found:
                return self._place(found[-1], advice)
        return ()

    def _place(self, grounding: dict[str, Any], advice: str) -> tuple[float, ...]:
        if self.n == 2:
            points, kind = np.asarray(grounding["points"]), grounding["kind"]
            x, y = points[-1] if kind == _TRAJECTORY else points.mean(axis=0)
            return (float(x), float(y)) if grounding["camera"] == self.camera else ()
        if "point_m" not in grounding:
            return ()
        if grounding["frame"] != self.frame:
            raise PolicyError(
                f"the brain's points are told in {grounding['frame']}, not in {self.frame!r}: "
                + advice.format(grounding["frame"])
            )
        return tuple(map(float, grounding["point_m"]))


NOT_AIMED = Aim()
