"""What the robot touches: who is between the fingers, and what was hit by accident."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np

from rynn_brain_ros.sim.panda import FINGER_BODIES
from rynn_brain_ros.sim.rendering import load_mujoco
from rynn_brain_ros.sim.table_furnishing import CHEST

Touch = tuple[str, str]
"""The robot's body and what it presses on, both by name."""

TABLE = "table"
MIN_FORCE_N = 1.0
"""Less is grazing."""


class ContactWatch:
    """Looks at the contacts of one model once in every control period, and counts."""

    def __init__(self, model: Any, things: Iterable[str]) -> None:
        self._mj = load_mujoco()
        self._model = model
        names = frozenset(things)
        self._owner = [self._owner_of(geom, names) for geom in range(model.ngeom)]
        self._is_robot = np.array([name.startswith("panda_") for name in self._owner])
        self._is_other = np.array([bool(name) for name in self._owner]) & ~self._is_robot
        self._periods: Counter[frozenset[Touch]] = Counter()

    def touches(self, data: Any) -> frozenset[Touch]:
        """Now, with at least `MIN_FORCE_N`."""
        pairs = data.contact.geom.reshape(-1, 2)
        robot, other = self._is_robot[pairs], self._is_other[pairs]
        wanted = np.nonzero((robot & other[:, ::-1]).any(axis=1))[0]
        return frozenset(
            self._names(pairs[i]) for i in wanted if self._force_n(data, int(i)) >= MIN_FORCE_N
        )

    def count(self, data: Any) -> None:
        self._periods[self.touches(data)] += 1

    def held(self, data: Any) -> str | None:
        """The thing that both fingers press on."""
        by_finger = [{b for a, b in self.touches(data) if a == finger} for finger in FINGER_BODIES]
        return min(set.intersection(*by_finger) - {TABLE, CHEST}, default=None)

    def collisions(self, targets: Collection[str]) -> int:
        """Control periods so far in which the robot pressed on anything but with its fingers on
        one of the ``targets``."""
        return sum(
            periods
            for touches, periods in self._periods.items()
            if any(a not in FINGER_BODIES or b not in targets for a, b in touches)
        )

    def _owner_of(self, geom: int, things: frozenset[str]) -> str:
        """The thing, the robot's body, the table or the chest that a geom belongs to; empty for
        the room."""
        body = str(self._model.body(self._model.geom_bodyid[geom]).name)
        if body in things or body.startswith("panda_"):
            return body
        name = str(self._model.geom(geom).name)
        return CHEST if name.startswith(CHEST) else TABLE if name == TABLE else ""

    def _names(self, pair: Any) -> Touch:
        a, b = (self._owner[int(geom)] for geom in pair)
        return (a, b) if self._is_robot[pair[0]] else (b, a)

    def _force_n(self, data: Any, contact: int) -> float:
        wrench = np.zeros(6)
        self._mj.mj_contactForce(self._model, data, contact, wrench)
        return float(np.linalg.norm(wrench[:3]))
