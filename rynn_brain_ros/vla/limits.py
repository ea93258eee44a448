"""What stands between a policy's numbers and a robot: smooth motion within limits, and guards.

Every guard has a name (`HoldCause`), and the declared safe action is the same for all: hold, that
is, come to rest as fast as the limits allow and stay there.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from rynn_brain_ros.data.fields import GRIPPER_OUTSIDE
from rynn_brain_ros.extras import pip_install
from rynn_brain_ros.values import ConfigError, InputError
from rynn_brain_ros.vla.actions import PartKind
from rynn_brain_ros.vla.chunks import Chunk, RuntimeSpec
from rynn_brain_ros.vla.normalization import CONSTANT_BELOW, Moments
from rynn_brain_ros.vla.values import Floats, PolicyError


class HoldCause(str, Enum):
    """Why the robot holds. The names are part of the interface."""

    WAITING = "waiting"
    """The first chunk, or the one after a hold, is being computed."""
    CAMERA_MISSING = "camera_missing"
    """A camera that the policy was trained with gives no picture."""
    STALE_OBSERVATION = "stale_observation"
    """A picture or the state is older than allowed."""
    STATE_UNUSABLE = "state_unusable"
    """The measured state holds NaN or infinity, or has another length than in training."""
    OUT_OF_RANGE = "out_of_range"
    """The state lies outside what the policy was trained with."""
    NO_TASK = "no_task"
    """Nobody has said what is to be done."""
    TARGET_UNUSABLE = "target_unusable"
    """The brain's point is told in another frame than in training, or lies outside it."""
    OUT_OF_ACTIONS = "out_of_actions"
    """The chunk was played to its end before the next one came."""
    POLICY_SILENT = "policy_silent"
    """The policy has not answered within its budget."""
    POLICY_FAILED = "policy_failed"
    """The policy, or the way to it, gave an error instead of a chunk."""
    NOT_FINITE = "not_finite"
    """The chunk holds NaN or infinity."""
    NOT_FOLLOWED = "not_followed"
    """The robot is not where it was commanded to be: a person must look, `Runner.reset`."""
    NO_MOTION = "no_motion"
    """No motion to the next action was found within the limits."""
    TOO_MANY_FAILURES = "too_many_failures"
    """So many requests failed one after the other that a person must look: `Runner.reset`."""
    ROBOT_FAILED = "robot_failed"
    """The robot's controller is not there, or does not do what it is sent."""


@dataclass(frozen=True)
class Hold:
    """The code is for programs, the text for people (what, where, what to do)."""

    cause: HoldCause
    text: str

    def __str__(self) -> str:
        return f"{self.cause.value}: {self.text}"


# --- guards --------------------------------------------------------------------------------------

_LEAST_STD = 0.01
"""A number that never changed in training may still be measured a little differently."""
_PICTURE = 1000.0
"""Points of a picture are told in thousandths of it."""


def unusual_state(spec: RuntimeSpec, state: Floats, max_z: float) -> Hold | None:
    """``state`` [S] against the training data: each number within ``max_z`` standard deviations of
    its mean; a standard deviation counts for at least 0.01 of the number's unit."""
    if state.shape != (len(spec.state_names),) or not np.all(np.isfinite(state)):
        return Hold(
            HoldCause.STATE_UNUSABLE,
            f"the state is {np.round(state, 4).tolist()}; the policy needs {len(spec.state_names)} "
            f"finite numbers: {', '.join(spec.state_names)}",
        )
    outside = _outside(spec.state_names, state, spec.statistics.state, _LEAST_STD, max_z)
    if not outside:
        return None
    return Hold(HoldCause.OUT_OF_RANGE, f"{outside}; bring the robot back, or train there")


def unusual_target(spec: RuntimeSpec, point: Sequence[float], max_z: float) -> Hold | None:
    """The same of the target point, where one is told; a standard deviation counts for at least
    1 cm, or a hundredth of the picture."""
    trained, aim = spec.statistics.target, spec.statistics.aim
    if not len(point):
        return None
    if trained is None or len(point) != aim.n or not np.all(np.isfinite(point)):
        return Hold(
            HoldCause.TARGET_UNUSABLE,
            f"the target point {tuple(point)} has {len(point)} numbers; the policy was trained "
            f"with {f'{aim.n} in {aim.place}, finite numbers' if aim.n else 'none'}",
        )
    least = _LEAST_STD * (_PICTURE if aim.n == 2 else 1.0)
    outside = _outside("xyz"[: aim.n], np.asarray(point), trained, least, max_z)
    if not outside:
        return None
    text = f"of the target point {outside}; the brain is mistaken, or train there"
    return Hold(HoldCause.TARGET_UNUSABLE, text)


def _outside(
    names: Sequence[str], values: Floats, trained: Moments, least_std: float, max_z: float
) -> str:
    """Which of the numbers are where the policy was not trained; empty where none is."""
    z = np.abs(values - np.array(trained.mean)) / np.maximum(trained.std, least_std)
    told = zip(names, values, trained.mean, trained.std, z, strict=True)
    outside = [
        f"{name} is {value:.4g} (trained {mean:.4g} ± {std:.4g})"
        for name, value, mean, std, at in told
        if at > max_z
    ]
    if not outside:
        return ""
    return (
        f"{'; '.join(outside)}: more than {max_z:g} standard deviations from what the policy was "
        "trained with"
    )


def broken_chunk(spec: RuntimeSpec, chunk: Chunk, state: Floats, max_z: float) -> Hold | None:
    """``chunk`` must be [H, D] and finite, each number within ``max_z`` standard deviations of
    training as the network sees it from ``state`` [S], and its grippers about between 0 and 1.

    A number that never changed counts for `_LEAST_STD`. Raises `PolicyError` where a rotation is
    none."""
    wanted = (spec.horizon, spec.n_dims)
    if chunk.shape != wanted:
        text = f"the policy gave a chunk of shape {chunk.shape} instead of {wanted}"
        return Hold(HoldCause.POLICY_FAILED, text)
    bad = ~np.isfinite(chunk)
    if not bad.any():
        return _broken_gripper(spec, chunk) or _unusual_chunk(spec, chunk, state, max_z)
    step, dim = np.argwhere(bad)[0]
    return Hold(
        HoldCause.NOT_FINITE,
        f"{int(bad.sum())} numbers of the chunk are NaN or infinite, the first is "
        f"{spec.action_names[dim]} of step {step}",
    )


def _broken_gripper(spec: RuntimeSpec, chunk: Chunk) -> Hold | None:
    is_gripper = spec.statistics.provenance.action_space.is_part(PartKind.GRIPPER)
    outside = (np.abs(chunk - 0.5) > 0.5 + GRIPPER_OUTSIDE) & is_gripper
    if not outside.any():
        return None
    step, dim = np.argwhere(outside)[0]
    return Hold(
        HoldCause.POLICY_FAILED,
        f"{spec.action_names[dim]} of step {step} is {chunk[step, dim]:.2f}; a gripper is 1 open "
        "and 0 closed",
    )


def _unusual_chunk(spec: RuntimeSpec, chunk: Chunk, state: Floats, max_z: float) -> Hold | None:
    constant = np.array(spec.statistics.chunk.std) < CONSTANT_BELOW
    z = np.abs(spec.statistics.chunk_in(chunk, state)) / np.where(constant, _LEAST_STD, 1.0)
    if z.max() <= max_z:
        return None
    step, dim = np.unravel_index(z.argmax(), z.shape)
    return Hold(
        HoldCause.POLICY_FAILED,
        f"{spec.action_names[dim]} of step {step} is {chunk[step, dim]:.4g}; from where the robot "
        f"is, that is more than {max_z:g} standard deviations from what the policy was trained "
        f"with ({z[step, dim]:.3g})",
    )


# --- motion --------------------------------------------------------------------------------------

_STANDS = 1e-6
"""Velocity and acceleration below which a dimension is at rest."""
_NUDGE = 1e-7
_LATE = 1.001
"""Of a step: what lasts longer is not there in time."""


@dataclass(frozen=True)
class MotionLimits:
    """For each dimension of an action, per second, second² and second³ of its own unit. For the
    six numbers of a rotation they are per second of each number; whoever executes them makes a
    rotation of them again."""

    velocity: tuple[float, ...]
    acceleration: tuple[float, ...]
    jerk: tuple[float, ...]

    def __post_init__(self) -> None:
        counts = {len(self.velocity), len(self.acceleration), len(self.jerk)}
        every = np.array([*self.velocity, *self.acceleration, *self.jerk])
        if len(counts) > 1 or not len(every) or not np.all((every > 0) & np.isfinite(every)):
            raise ConfigError(
                "motion limits need a velocity, an acceleration and a jerk above 0 for each "
                f"dimension; they are {self.velocity}, {self.acceleration}, {self.jerk}"
            )


class Shaper:
    """Commands within `MotionLimits`, whatever is asked for. Of one thread.

    Each dimension is a jerk-limited trajectory of its own, computed by ruckig (the extra
    ``policy``): time-optimal, or as long as a step where the limits leave it the choice. It keeps
    its limits from the state it is in, so a target may change at any time.
    """

    def __init__(self, limits: MotionLimits, period_s: float, n_samples: int) -> None:
        """A step lasts ``period_s`` and is told in ``n_samples`` commands, evenly spaced."""
        if importlib.util.find_spec("ruckig") is None:
            raise InputError(
                "motion within limits needs ruckig, not installed in this Python: "
                f"{pip_install('policy')}"
            )
        self._limits, self._period_s, self._n_samples = limits, period_s, n_samples
        self._times_s = [period_s * (i + 1) / n_samples for i in range(n_samples)]
        self._axes = [
            _Axis(*limit)
            for limit in zip(limits.velocity, limits.acceleration, limits.jerk, strict=True)
        ]

    @property
    def at_rest(self) -> bool:
        return all(axis.at_rest for axis in self._axes)

    @property
    def position(self) -> Floats:
        """[D]: where the last command ends."""
        return np.array([axis.position for axis in self._axes])

    def branch(self) -> Shaper:
        """Another one in the state of this one, which changes no more with it."""
        other = Shaper(self._limits, self._period_s, self._n_samples)
        for axis, from_axis in zip(other._axes, self._axes, strict=True):
            axis.go_on_as(from_axis)
        return other

    def start(self, position: Floats) -> None:
        """At rest at the measured ``position`` [D]."""
        for axis, at in zip(self._axes, position, strict=True):
            axis.start(float(at))

    def towards(self, target: Floats, velocity: Floats) -> Floats:
        """[n_samples, D]: the next step, to be at ``target`` [D] with ``velocity`` [D] at its end
        where the limits allow; otherwise on the way there, to stop at it. Raises `PolicyError`
        where no motion is found, and then nothing has changed."""
        most = np.array(self._limits.velocity)
        aims = zip(self._axes, target, np.clip(velocity, -most, most), strict=True)
        return self._sampled(
            [axis.towards(float(p), float(v), self._period_s) for axis, p, v in aims]
        )

    def rest(self) -> Floats:
        """[n_samples, D]: the next step of coming to rest as soon as may be."""
        return self._sampled([axis.rest() for axis in self._axes])

    def _sampled(self, trajectories: Sequence[Any]) -> Floats:
        told = [
            axis.follow(trajectory, self._times_s)
            for axis, trajectory in zip(self._axes, trajectories, strict=True)
        ]
        positions: Floats = np.array(told).T
        return positions


class _Axis:
    """One dimension. Waypoints between are never given to ruckig: its community version would ask
    a server in the internet for those."""

    def __init__(self, velocity: float, acceleration: float, jerk: float) -> None:
        import ruckig  # noqa: PLC0415  (optional, in the extra "policy")

        self._ruckig = ruckig
        self._solver, self._input = ruckig.Ruckig(1), ruckig.InputParameter(1)
        self._input.max_velocity = [velocity]
        self._input.max_acceleration = [acceleration]
        self._input.max_jerk = [jerk]

    @property
    def at_rest(self) -> bool:
        now = self._input
        return bool(abs(now.current_velocity[0]) + abs(now.current_acceleration[0]) < _STANDS)

    @property
    def position(self) -> float:
        return float(self._input.current_position[0])

    def go_on_as(self, other: _Axis) -> None:
        state = other._input
        self._go_on_from(state.current_position, state.current_velocity, state.current_acceleration)

    def start(self, position: float) -> None:
        self._go_on_from([position], [0.0], [0.0])

    def towards(self, position: float, velocity: float, period_s: float) -> Any:
        found = self._reaching(position, velocity, period_s)
        if velocity and found.duration > period_s * _LATE:
            # To have that velocity there, it would first run back for a run-up, in each step anew.
            found = self._reaching(position, 0.0, period_s)
        return found

    def _reaching(self, position: float, velocity: float, period_s: float) -> Any:
        self._input.control_interface = self._ruckig.ControlInterface.Position
        self._input.target_position = [position]
        self._input.target_velocity = [velocity]
        self._input.minimum_duration = period_s
        try:
            return self._solved()
        except PolicyError:
            # On the very seam between two of its cases ruckig finds none, and beside it it does.
            self._input.target_position = [position + _NUDGE]
            return self._solved()

    def rest(self) -> Any:
        self._input.control_interface = self._ruckig.ControlInterface.Velocity
        self._input.target_velocity = [0.0]
        self._input.minimum_duration = None
        return self._solved()

    def follow(self, trajectory: Any, times_s: Sequence[float]) -> list[float]:
        """Positions at ``times_s``; the last is where the next trajectory begins."""
        states = [trajectory.at_time(time_s) for time_s in times_s]
        self._go_on_from(*states[-1])
        return [float(position[0]) for position, _, _ in states]

    def _go_on_from(self, position: Any, velocity: Any, acceleration: Any) -> None:
        self._input.current_position = position
        self._input.current_velocity = velocity
        self._input.current_acceleration = acceleration

    def _solved(self) -> Any:
        trajectory = self._ruckig.Trajectory(1)
        try:
            result = self._solver.calculate(self._input, trajectory)
        except (self._ruckig.RuckigError, ValueError) as error:  # its binding knows no -101
            raise PolicyError(f"no motion within the limits: {error}") from error
        if result not in (self._ruckig.Result.Working, self._ruckig.Result.Finished):
            raise PolicyError(f"no motion within the limits: ruckig says {result}")
        return trajectory
