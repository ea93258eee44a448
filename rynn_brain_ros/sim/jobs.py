"""Goals on their way: the arm moving, the hand gripping. Advanced once in every control period."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.sim.motions import Timed, braking, point_to_point
from rynn_brain_ros.sim.panda import FINGERS, HAND, MAX_GRIP_N, MAX_WIDTH_M
from rynn_brain_ros.sim.reflex import THRESHOLD_N, PushMeter
from rynn_brain_ros.sim.servos import Servos
from rynn_brain_ros.values import GoalEventKind, GripGoal

Floats = NDArray[np.float64]
Report = tuple[GoalEventKind, str, tuple[tuple[str, float], ...]]
"""How a goal ended: kind, text, values."""

SETTLED_M = 0.001
SETTLED_RAD = math.radians(0.5)
"""Success: the tool is this near to where it was to go, and still."""
_STILL_RAD_S = 0.02
_SETTLING_S = 1.5
_BACK_OFF_S = 0.1
"""After a collision the arm goes back to where it was this long before."""

FINGER_SPEED_M_S = 0.1
"""Of the width: each finger moves half as fast, as the real ones."""
_STILL_M_S = 0.001
_STILL_S = 0.1
_TREMBLE_M, _TREMBLE_S = 0.0003, 0.3
"""Fingers that move no farther for so long press on something that trembles, as a thin wall."""
_REACHED_M = 0.0005
_LONGEST_S = 3.0


class Job(Protocol):
    """A goal on its way. ``advance`` gives the next command and, at the end, the report."""

    @property
    def fraction(self) -> float: ...

    def advance(self, dt_s: float) -> Report | None: ...

    def cancel(self) -> None:
        """It comes to rest within the limits, and then reports CANCELLED."""


class MoveJob:
    """The arm along a path: it moves and settles; or brakes; or brakes and backs off.

    ``miss`` measures by how many metres and radians the tool is off its goal now.
    """

    def __init__(
        self,
        model: Any,
        data: Any,
        servos: Servos,
        path: Timed,
        miss: Callable[[], tuple[float, float]],
    ) -> None:
        self._data, self._servos, self._path, self._miss = data, servos, path, miss
        self._pushes = PushMeter(model)
        self._motion: Timed = path
        self._back_off: Floats | None = None
        self._ending: Report | None = None
        self._time_s = 0.0
        self.fraction = 0.0
        servos.begin()

    def cancel(self) -> None:
        self._back_off = None
        if self._ending is None:
            self._brake((GoalEventKind.CANCELLED, "stopped and holding", ()))

    def advance(self, dt_s: float) -> Report | None:
        self._pushes.update(self._data, dt_s)
        if self._ending is None:
            self._watch()
        self._time_s += dt_s
        self._servos.send(self._motion.derivatives(self._time_s), dt_s)
        if self._ending is None:
            self.fraction = min(1.0, self._time_s / self._path.duration_s)
        if self._time_s - dt_s < self._motion.duration_s:
            return None
        return self._at_rest()

    def _at_rest(self) -> Report | None:
        if self._ending is None:
            return self._settled()
        if self._back_off is None:
            return self._ending
        here = self._motion.position(self._time_s)
        self._motion, self._time_s = point_to_point(here, self._back_off, 0.5), 0.0
        self._back_off = None
        return None

    def _watch(self) -> None:
        part, newtons = self._pushes.hardest()
        if newtons > THRESHOLD_N:
            self._back_off = self._path.position(max(0.0, self._time_s - _BACK_OFF_S))
            text = f"collision reflex: {newtons:.0f} N on {part}"
            self._brake((GoalEventKind.ABORTED, text, (("force_n", newtons),)))

    def _brake(self, ending: Report) -> None:
        self._motion = braking(self._path, min(self._time_s, self._path.duration_s))
        self._ending, self._time_s = ending, 0.0

    def _settled(self) -> Report | None:
        position_m, rotation_rad = self._miss()
        near = position_m < SETTLED_M and rotation_rad < SETTLED_RAD
        values = (("position_error_m", position_m), ("rotation_error_rad", rotation_rad))
        if near and self._servos.speed_rad_s < _STILL_RAD_S:
            return (GoalEventKind.SUCCEEDED, "", values)
        if self._time_s < self._motion.duration_s + _SETTLING_S:
            return None
        text = (
            f"did not settle: after {_SETTLING_S:.1f} s still {position_m * 1e3:.1f} mm and "
            f"{math.degrees(rotation_rad):.2f}° off"
        )
        return (GoalEventKind.ABORTED, text, values)


def grip_problem(goal: GripGoal) -> str:
    """What is wrong with it, in words; empty if nothing."""
    if not 0.0 <= goal.width_m <= MAX_WIDTH_M:
        return f"a width of {goal.width_m:.3f} m is not within 0 and {MAX_WIDTH_M:.3f} m"
    if not 0.0 < goal.force_n <= MAX_GRIP_N:
        return f"a force of {goal.force_n:.1f} N is not above 0 and at most {MAX_GRIP_N:.0f} N"
    return ""


class GripJob:
    """One `GripGoal` on its way."""

    def __init__(self, model: Any, data: Any, goal: GripGoal) -> None:
        self._goal = goal
        self._fingers = [data.joint(name) for name in FINGERS]
        self._hand = data.actuator(HAND)
        self._start_m = self.width_m
        commanded = float(self._hand.ctrl[0])
        # What is held stays pressed: a command to close begins where the last one ended.
        closing = goal.width_m <= self.width_m
        self._command_m = min(commanded, self.width_m) if closing else self.width_m
        self._still_s = self._time_s = self._around_s = 0.0
        self._around_m = self._start_m
        self._cancelled = False
        self._force_n = goal.force_n
        model.actuator(HAND).forcerange[:] = (-goal.force_n, goal.force_n)

    @property
    def width_m(self) -> float:
        return float(sum(finger.qpos[0] for finger in self._fingers))

    @property
    def fraction(self) -> float:
        way = self._goal.width_m - self._start_m
        return (
            float(np.clip((self.width_m - self._start_m) / way, 0, 1)) if abs(way) > 1e-6 else 1.0
        )

    def cancel(self) -> None:
        self._cancelled = True

    def advance(self, dt_s: float) -> Report | None:
        if self._cancelled:
            return (GoalEventKind.CANCELLED, "the fingers hold where they are", self._values())
        self._time_s += dt_s
        step = FINGER_SPEED_M_S * dt_s
        self._command_m += float(np.clip(self._goal.width_m - self._command_m, -step, step))
        self._hand.ctrl[0] = self._command_m
        speed = abs(float(sum(finger.qvel[0] for finger in self._fingers)))
        self._still_s = self._still_s + dt_s if speed < _STILL_M_S else 0.0
        if abs(self.width_m - self._around_m) > _TREMBLE_M:
            self._around_m, self._around_s = self.width_m, 0.0
        self._around_s += dt_s
        return self._report()

    def _report(self) -> Report | None:
        missing_m = self._goal.width_m - self.width_m
        pressing = abs(float(self._hand.force[0])) > 0.9 * self._force_n
        at_rest = self._still_s >= _STILL_S or self._around_s >= _TREMBLE_S
        if self._still_s >= _STILL_S and abs(missing_m) < _REACHED_M:
            return (GoalEventKind.SUCCEEDED, f"{self.width_m * 1e3:.1f} mm apart", self._values())
        if at_rest and pressing and missing_m < 0:
            self._hand.ctrl[0] = self._goal.width_m
            text = f"closed on something {self.width_m * 1e3:.1f} mm wide"
            return (GoalEventKind.SUCCEEDED, text, self._values())
        if self._time_s < _LONGEST_S:
            return None
        text = (
            f"the fingers stopped at {self.width_m:.4f} m on the way to {self._goal.width_m:.4f} m"
        )
        return (GoalEventKind.ABORTED, text, self._values())

    def _values(self) -> tuple[tuple[str, float], ...]:
        return (("width_m", self.width_m),)
