"""Commands to the arm's position servos, and the account of whether they kept the limits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.sim.panda import (
    JOINTS,
    LOWER,
    MAX_ACCELERATION,
    MAX_VELOCITY,
    SERVO_LAG_S,
    STIFFNESS,
    UPPER,
)
from rynn_brain_ros.sim.rendering import load_mujoco

Floats = NDArray[np.float64]
_ROUNDING = 1e-6
"""Who keeps to a limit exactly does not violate it."""


@dataclass(frozen=True)
class Peaks:
    """The most that was ever commanded, as shares of the published limits: joint velocities and
    accelerations by differences of the commands as sent; ``margin_rad`` is the least distance to
    a joint's end. ``violations`` counts commands beyond any of them."""

    velocity: float = 0.0
    acceleration: float = 0.0
    margin_rad: float = math.inf
    commands: int = 0
    violations: int = 0


class Account:
    """What was commanded of the arm's joints, control period by control period."""

    def __init__(self) -> None:
        self.peaks = Peaks()

    def begin(self, position: Floats) -> None:
        """The arm is at rest there."""
        self.position, self._velocity = np.array(position), np.zeros(len(JOINTS))

    def add(self, position: Floats, dt_s: float) -> None:
        """Call `begin` before."""
        velocity = (position - self.position) / dt_s
        acceleration = (velocity - self._velocity) / dt_s
        self.position, self._velocity = np.array(position), velocity
        fast = float((np.abs(velocity) / MAX_VELOCITY).max())
        hard = float((np.abs(acceleration) / MAX_ACCELERATION).max())
        margin = float(np.minimum(position - LOWER, UPPER - position).min())
        self.peaks = Peaks(
            max(self.peaks.velocity, fast),
            max(self.peaks.acceleration, hard),
            min(self.peaks.margin_rad, margin),
            self.peaks.commands + 1,
            self.peaks.violations + (max(fast, hard) > 1 + _ROUNDING or margin < 0),
        )


class Servos:
    """Sends joint commands to the model's position servos and keeps account of them.

    Between two commands the servos' ramps lead them straight from one to the next.
    """

    def __init__(self, model: Any, data: Any) -> None:
        self._mj, self._model, self._data = load_mujoco(), model, data
        self._ids = np.array([model.actuator(name).id for name in JOINTS])
        self._ramps = np.array([model.actuator(f"{name}_ramp").id for name in JOINTS])
        self._states = model.actuator_actadr[self._ramps]
        self._dofs = np.array([model.joint(name).dofadr[0] for name in JOINTS])
        self._account = Account()
        self.begin()

    @property
    def peaks(self) -> Peaks:
        return self._account.peaks

    @property
    def commanded(self) -> Floats:
        """At rest, where nothing is fed forward."""
        return np.array(self._data.ctrl[self._ids])

    @property
    def speed_rad_s(self) -> float:
        """Of the fastest joint, as measured."""
        return float(np.abs(self._data.qvel[self._dofs]).max())

    def begin(self) -> None:
        """The arm is at rest, wherever somebody else may have commanded it meanwhile."""
        self._lead = self.commanded
        self._account.begin(self._lead)

    def send(self, state: Floats, dt_s: float) -> None:
        """``state`` [4, 7]: position to jerk, to be reached in ``dt_s``. Damping and inertia are
        fed forward, so that the servos do not trail behind."""
        position, velocity, acceleration, _ = state
        self._account.add(position, dt_s)
        force, motion = np.zeros(self._model.nv), np.zeros(self._model.nv)
        motion[self._dofs] = acceleration
        self._mj.mj_mulM(self._model, self._data, force, motion)
        lead = position + SERVO_LAG_S * velocity + force[self._dofs] / STIFFNESS
        self._data.act[self._states] = 0.0
        self._data.ctrl[self._ids] = self._lead
        self._data.ctrl[self._ramps] = (lead - self._lead) / dt_s
        self._lead = lead
