"""How hard the arm pushes against something: what stops a real one by reflex."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.sim.panda import FINGER_BODIES, HAND
from rynn_brain_ros.sim.rendering import load_mujoco

THRESHOLD_N = 60.0
_SMOOTHING_S = 0.01
"""Time constant: the first millisecond of a touch says little."""


class PushMeter:
    """The net force from outside on each link, smoothed. Hand and fingers count as one, so that
    the two sides of a grip cancel and only what pushes the whole hand remains."""

    def __init__(self, model: Any) -> None:
        self._mj, self._model = load_mujoco(), model
        names = [self._part(geom) for geom in range(model.ngeom)]
        self.parts = tuple(sorted(set(names) - {""}))
        self._part_of = np.array([self.parts.index(n) if n else -1 for n in names])
        self._force = np.zeros((len(self.parts), 3))

    def update(self, data: Any, dt_s: float) -> None:
        share = 1.0 - math.exp(-dt_s / _SMOOTHING_S)
        self._force += share * (self._net(data) - self._force)

    def hardest(self) -> tuple[str, float]:
        """The link that is pushed most, and newtons."""
        newtons = np.linalg.norm(self._force, axis=1)
        return self.parts[int(newtons.argmax())], float(newtons.max())

    def _net(self, data: Any) -> NDArray[np.float64]:
        """[parts, 3] newtons in the base frame."""
        net = np.zeros((len(self.parts), 3))
        sides = self._part_of[data.contact.geom.reshape(-1, 2)]
        for i in np.nonzero(sides[:, 0] != sides[:, 1])[0]:
            wrench = np.zeros(6)
            self._mj.mj_contactForce(self._model, data, int(i), wrench)
            force = data.contact.frame[i].reshape(3, 3).T @ wrench[:3]
            for part, sign in zip(sides[i], (-1.0, 1.0), strict=True):
                if part >= 0:
                    net[part] += sign * force
        return net

    def _part(self, geom: int) -> str:
        body = str(self._model.body(self._model.geom_bodyid[geom]).name)
        return HAND if body in FINGER_BODIES else body if body.startswith("panda_") else ""
