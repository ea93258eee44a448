"""The control loop's step, without ROS: what is measured goes in, a command or a named hold comes
out. The clock and the thread that asks the policy are given, so that a test can drive both.

Whatever goes wrong has the same consequence: what was planned is given up, the robot comes to rest
within its limits, and the loop begins anew with a fresh observation. After too many failed requests
in a row, and where the robot does not follow, it stays at rest until a person says `Runner.reset`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import zip_longest

import numpy as np

from rynn_brain_ros.config import setting
from rynn_brain_ros.data.contract import Contract
from rynn_brain_ros.values import ConfigError
from rynn_brain_ros.vla.actions import PartKind
from rynn_brain_ros.vla.chunks import ActionQueue, Chunk, Joining, Policy, Request
from rynn_brain_ros.vla.limits import (
    Hold,
    HoldCause,
    MotionLimits,
    Shaper,
    broken_chunk,
    unusual_state,
    unusual_target,
)
from rynn_brain_ros.vla.normalization import provenance_of
from rynn_brain_ros.vla.values import Floats, Observation, PolicyError

STATE = "state"
"""Its key among the stamps, beside the cameras."""
_SAME_OPENING = 0.05
"""A hand whose opening changed less, of all that it opens, did nothing meanwhile."""


@dataclass(frozen=True)
class RunnerConfig:
    """When the loop asks, and when it holds."""

    replan_steps: int = setting(5, "ask for a new chunk after so many steps", 1, 1000)
    samples_per_step: int = setting(7, "commands for each step of a chunk", 1, 100)
    answer_budget_s: float = setting(1.0, "longest time that an answer may take [s]", 0.01, 60.0)
    max_age_s: float = setting(0.3, "oldest picture or state that is acted on [s]", 0.01, 60.0)
    max_z: float = setting(
        6.0,
        "how far the state and the target point may be from training, in standard deviations",
        0.1,
        1000.0,
    )
    max_action_z: float = setting(
        15.0, "how far an action may be from training, in standard deviations", 0.1, 1000.0
    )
    max_lag: float = setting(
        0.2,
        "how far the robot may be from where it is commanded to be, in each number's unit, "
        "grippers aside",
        0.001,
        1000.0,
    )
    max_failures: int = setting(5, "failed requests in a row that stop the loop", 1, 1000)
    retry_s: float = setting(0.5, "wait after a failed request [s]", 0.0, 60.0)


@dataclass(frozen=True, eq=False)
class Command:
    """``positions`` [n, D] for the step that begins now, evenly spaced, the last at its end; none,
    [0, D], before the robot's state was known. ``action`` [D] is what the policy wants at the end
    of the step; without one, ``hold`` says why the positions only bring it to rest.
    ``renewed``: this step and those after it are others than `Runner.ahead` told before."""

    positions: Floats = field(repr=False)
    hold: Hold | None = None
    renewed: bool = False
    action: Floats | None = field(default=None, repr=False)


@dataclass(eq=False)
class _Pending:
    """A request under way; ``over`` where nobody wants its answer any more."""

    request: Request
    state: Floats
    chunk: Future[Chunk]
    asked_ns: int
    over: bool = False


class Runner:
    """Call `tick` once for each step of a chunk, at the policy's rate. Of one thread.

    ``contract`` is that of the robot: a policy that was trained with another one is a
    `PolicyError` that names the differences. ``thread`` asks the policy, one request at a time.
    Raises `ConfigError` where limits or measurements do not cover an action's dimensions.
    """

    def __init__(
        self,
        policy: Policy,
        contract: Contract,
        limits: MotionLimits,
        *,
        thread: Executor,
        now_ns: Callable[[], int],
        config: RunnerConfig | None = None,
        joining: Joining | None = None,
    ) -> None:
        spec = policy.spec
        spec.statistics.provenance.check_same(provenance_of(contract), "the policy")
        self._policy, self._spec, self._thread = policy, spec, thread
        self._now_ns, self._config = now_ns, config or RunnerConfig()
        self._measured = _places(spec.action_names, spec.state_names)
        space = spec.statistics.provenance.action_space
        if space.is_part(PartKind.DELTA).any():
            raise PolicyError(
                f"{contract.robot_type}'s actions are deltas: a policy that moves a robot is "
                "trained with absolute ones; record them with representation: absolute"
            )
        self._is_gripper = space.is_part(PartKind.GRIPPER)
        if len(limits.velocity) != spec.n_dims:
            raise ConfigError(
                f"motion limits of {len(limits.velocity)} dimensions for a policy of "
                f"{spec.n_dims}: {', '.join(spec.action_names)}"
            )
        self._shaper = Shaper(limits, 1 / spec.rate_hz, self._config.samples_per_step)
        self._queue = ActionQueue(joining)
        self._pending: _Pending | None = None
        self._why: Hold | None = Hold(HoldCause.WAITING, "nothing was asked yet")
        self._stopped: Hold | None = None
        self._before: Floats | None = None
        self._obeyed: tuple[Floats, Floats] | None = None
        """Commanded and measured [D] at the end of the last step that reached the robot."""
        self._started, self._renewed = False, False
        self._n_failures, self._asked_step, self._not_before_ns = 0, 0, 0

    def tick(
        self,
        observation: Observation,
        stamps_ns: Mapping[str, int],
        fault: Hold | None = None,
        *,
        obeyed: bool = True,
    ) -> Command:
        """``stamps_ns``: when each picture of ``observation`` was taken, by camera, and the state
        (`STATE`), on the clock of ``now_ns``. ``fault``: why it must not be acted on, where its
        maker knows. ``obeyed`` is false where the commands do not reach the robot."""
        now_ns = self._now_ns()
        self._collect(now_ns)
        fault = self._stopped or fault or self._fault_of(observation, stamps_ns, now_ns)
        fault = fault or self._start(observation.state, obeyed)
        if fault is not None:
            self._give_up(fault)
        elif self._may_ask(now_ns):
            self._ask(observation, now_ns)
        command, self._renewed = replace(self._command(), renewed=self._renewed), False
        if obeyed and len(command.positions) and self._is_known(observation.state):
            self._obeyed = command.positions[-1], observation.state[self._measured]
        return command

    def ahead(self) -> Floats:
        """[m, D], spaced as a command's: what the steps after the last `tick` command if nothing
        new happens, to the last action and on until the robot is at rest."""
        shaper, before, told = self._shaper.branch(), self._before, [self._nothing()]
        actions = self._queue.planned()
        with suppress(PolicyError):  # `tick` holds there too, and says why
            for action, after in zip_longest(actions, actions[1:]):
                told.append(shaper.towards(action, self._velocity(before, action, after)))
                before = action
        while not shaper.at_rest:
            told.append(shaper.rest())
        return np.concatenate(told)

    def reset(self) -> None:
        """A person has looked: forgets failures and begins from wherever the robot is. What
        `ahead` told is void."""
        self._n_failures, self._not_before_ns = 0, 0
        self._stopped, self._started = None, False
        self._give_up(Hold(HoldCause.WAITING, "the loop was reset"))
        self._renewed = False

    # --- asking ----------------------------------------------------------------------------------

    def _may_ask(self, now_ns: int) -> bool:
        steps = self._queue.step - self._asked_step
        due = not self._queue.n_ahead or steps >= self._config.replan_steps
        return due and self._pending is None and now_ns >= self._not_before_ns

    def _ask(self, observation: Observation, now_ns: int) -> None:
        request = self._queue.request()
        chunk = self._thread.submit(self._policy.infer, observation, request.leftover)
        self._pending = _Pending(request, observation.state, chunk, now_ns)
        self._asked_step = request.step
        if self._why is not None:
            self._why = Hold(HoldCause.WAITING, "a chunk is being computed")

    def _collect(self, now_ns: int) -> None:
        """What became of the request under way."""
        pending = self._pending
        if pending is None:
            return
        if not pending.chunk.done():
            waited_s = (now_ns - pending.asked_ns) / 1e9
            if waited_s > self._config.answer_budget_s:
                text = f"no answer for {waited_s:.2f} s; {self._config.answer_budget_s:g} s allowed"
                self._why = Hold(HoldCause.POLICY_SILENT, text)  # after a reset too
                if not pending.over:
                    pending.over = True
                    self._fail(self._why, now_ns)
            return
        self._pending = None
        if not pending.over:
            failure = self._joined(pending)
            if failure is not None:
                self._fail(failure, now_ns)

    def _joined(self, pending: _Pending) -> Hold | None:
        """The chunk is queued, unless the motion that it continues was given up. Why not."""
        try:
            chunk = np.asarray(pending.chunk.result(), np.float64)
            fault = broken_chunk(self._spec, chunk, pending.state, self._config.max_action_z)
        except Exception as error:  # noqa: BLE001  (the policy is anybody's, and the robot moves)
            return Hold(HoldCause.POLICY_FAILED, str(error) or type(error).__name__)
        if fault is not None:
            return fault
        joined = self._queue.join(pending.request, chunk)
        if joined is not None:
            self._n_failures, self._why = 0, None
            self._renewed |= joined.n_new > 0
        return None

    def _fail(self, hold: Hold, now_ns: int) -> None:
        self._n_failures += 1
        self._not_before_ns = now_ns + round(self._config.retry_s * 1e9)
        if self._n_failures >= self._config.max_failures:
            self._stopped = Hold(
                HoldCause.TOO_MANY_FAILURES,
                f"{self._n_failures} requests failed in a row, the last so: {hold}; find the cause "
                "and reset the loop",
            )
        self._give_up(hold)

    # --- holding ---------------------------------------------------------------------------------

    def _give_up(self, hold: Hold) -> None:
        self._renewed |= self._queue.n_ahead > 0
        self._queue.clear()
        self._why = hold

    def _fault_of(
        self, observation: Observation, stamps_ns: Mapping[str, int], now_ns: int
    ) -> Hold | None:
        for camera in self._spec.cameras:
            if camera not in observation.images:
                return Hold(
                    HoldCause.CAMERA_MISSING,
                    f"no picture of {camera}; the policy was trained with "
                    f"{', '.join(self._spec.cameras)}",
                )
        for name in (*self._spec.cameras, STATE):
            age_s = (now_ns - stamps_ns[name]) / 1e9 if name in stamps_ns else math.inf
            if abs(age_s) > self._config.max_age_s:
                text = f"{name} is {age_s:.3f} s old; {self._config.max_age_s:g} s are allowed"
                return Hold(HoldCause.STALE_OBSERVATION, text)
        max_z = self._config.max_z
        return unusual_state(self._spec, observation.state, max_z) or unusual_target(
            self._spec, observation.target_point, max_z
        )

    # --- moving ----------------------------------------------------------------------------------

    def _start(self, state: Floats, obeyed: bool) -> Hold | None:
        """Motion begins where the robot is. Why not, where it is not where it was commanded to be.

        A gripper that holds something never is; it goes on with what it was told.
        """
        measured = state[self._measured]
        if not self._started:
            self._shaper.start(self._beginning(measured))
            self._started = True
        commanded = self._shaper.position
        far = (np.abs(measured - commanded) > self._config.max_lag) & ~self._is_gripper
        if not far.any():
            return None
        if self._shaper.at_rest and not self._queue.n_ahead:
            self._shaper.start(np.where(self._is_gripper, commanded, measured))
            return None
        if not obeyed:
            return None
        told = [
            f"{self._spec.action_names[i]} is at {measured[i]:.4g} and was commanded to "
            f"{commanded[i]:.4g}"
            for i in np.flatnonzero(far)
        ]
        # Tried again, it would push at whatever holds it, and move by itself when that lets go.
        self._stopped = Hold(
            HoldCause.NOT_FOLLOWED,
            f"{'; '.join(told)}: more than max_lag={self._config.max_lag:g} apart; see what holds "
            "the robot, or lower its limits, and reset the loop",
        )
        return self._stopped

    def _is_known(self, state: Floats) -> bool:
        return state.shape == (len(self._spec.state_names),) and bool(np.isfinite(state).all())

    def _beginning(self, measured: Floats) -> Floats:
        """[D]: where the robot is. A hand that is as it was goes on with what it was told, which
        what it holds may keep it from: told where it is, it would let go."""
        if self._obeyed is None:
            return measured
        told, then = self._obeyed
        goes_on = self._is_gripper & (np.abs(measured - then) < _SAME_OPENING)
        return np.where(goes_on, told, measured)

    def _command(self) -> Command:
        if not self._started:
            return Command(self._nothing(), self._why)
        action = self._queue.pop()
        if action is None:
            return self._at_rest(self._why or Hold(HoldCause.OUT_OF_ACTIONS, "no action is left"))
        try:
            velocity = self._velocity(self._before, action, self._queue.peek())
            positions = self._shaper.towards(action, velocity)
        except PolicyError as error:
            self._give_up(Hold(HoldCause.NO_MOTION, str(error)))
            return self._at_rest(self._why)
        self._before = action
        return Command(positions, action=action)

    def _at_rest(self, hold: Hold | None) -> Command:
        self._before = None
        return Command(self._shaper.rest(), hold)

    def _velocity(self, before: Floats | None, action: Floats, after: Floats | None) -> Floats:
        """[D]: by central difference; 0 at the last action that is known."""
        if after is None:
            return np.zeros_like(action)
        before = action if before is None else before
        return (after - before) * self._spec.rate_hz / 2

    def _nothing(self) -> Floats:
        return np.zeros((0, self._spec.n_dims))


def _places(action_names: tuple[str, ...], state_names: tuple[str, ...]) -> list[int]:
    """Where in the state each dimension of an action is measured."""
    missing = [name for name in action_names if name not in state_names]
    if missing:
        raise ConfigError(
            f"{', '.join(missing)} would be commanded and {'is' if len(missing) == 1 else 'are'} "
            "not measured: motion begins at the measured state; add it to the contract's "
            "observation.state"
        )
    return [state_names.index(name) for name in action_names]
