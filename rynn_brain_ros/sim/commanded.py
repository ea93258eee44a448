"""The simulated arm as its servos are told directly: joint positions, as a policy streams them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.sim.panda import FINGERS, HAND, JOINTS
from rynn_brain_ros.sim.table import TableWorld
from rynn_brain_ros.values import InputError

GRIP_N = 40.0


class CommandedArm:
    """Takes positions by joint: panda_joint1…7 [rad] and panda_finger_joint1 [m], any of them.

    The servos are led to each in a straight line within a control period, and hold the last. The
    fingers close with at most `GRIP_N`. The world's ``streamed`` counts what is beyond the arm's
    limits. Nobody else may move the arm meanwhile.
    """

    def __init__(self, world: TableWorld) -> None:
        model, data = world.model, world.data
        self._data = data
        self._ids = np.array([model.actuator(name).id for name in JOINTS])
        self._ramps = np.array([model.actuator(f"{name}_ramp").id for name in JOINTS])
        self._states = model.actuator_actadr[self._ramps]
        self._fingers = [data.joint(name) for name in FINGERS]
        self._hand = data.actuator(HAND)
        model.actuator(HAND).forcerange[:] = (-GRIP_N, GRIP_N)
        self._begun = self._wanted = np.array(data.ctrl[self._ids])
        self._account = world.streamed
        self._account.begin(self._wanted)
        world.add_controller(self._control)

    @property
    def commanded(self) -> NDArray[np.float64]:
        """[8]: the joints [rad] and one finger [m], as last told."""
        return np.append(self._wanted, self._hand.ctrl[0] / len(FINGERS))

    @property
    def width_m(self) -> float:
        """Between the fingers, as measured."""
        return float(sum(finger.qpos[0] for finger in self._fingers))

    def command(self, positions: Mapping[str, float]) -> None:
        """Raises `InputError` for a joint that the arm does not have."""
        wanted = self._wanted.copy()
        for name, position in positions.items():
            if name in JOINTS:
                wanted[JOINTS.index(name)] = position
            elif name == FINGERS[0]:
                self._hand.ctrl[0] = position * len(FINGERS)
            else:
                known = ", ".join((*JOINTS, FINGERS[0]))
                raise InputError(f"the arm has no joint {name!r}; it has {known}")
        self._wanted = wanted

    def _control(self, dt_s: float) -> None:
        self._account.add(self._wanted, dt_s)
        self._data.act[self._states] = 0.0
        self._data.ctrl[self._ids] = self._begun
        self._data.ctrl[self._ramps] = (self._wanted - self._begun) / dt_s
        self._begun = self._wanted
