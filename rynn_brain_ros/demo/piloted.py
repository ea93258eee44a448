"""A trained policy in the place of planned motions: the brain says what and where, the gate allows
it, and the policy moves the simulated arm until it has come to rest.

As with the ``policy`` node on a robot, the brain's words reach the policy as messages of the
contract's topics, and its commands leave as such.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from rynn_brain_ros.bags import message, typestore
from rynn_brain_ros.config import setting
from rynn_brain_ros.data import Contract
from rynn_brain_ros.data.commands import Command
from rynn_brain_ros.data.known_contracts import find_contract
from rynn_brain_ros.demo.stages import Stage
from rynn_brain_ros.demo.words import BrainWords
from rynn_brain_ros.messages import MessageDict
from rynn_brain_ros.models.local import require_packages
from rynn_brain_ros.planning.arming import Arming
from rynn_brain_ros.planning.episode import EpisodeEvent
from rynn_brain_ros.planning.moving import Guard, why_stop
from rynn_brain_ros.planning.sight import Sight
from rynn_brain_ros.sim.commanded import CommandedArm
from rynn_brain_ros.sim.sensing import WorldClock
from rynn_brain_ros.sim.table import TableWorld
from rynn_brain_ros.values import Cancel, Cause, InputError, Motion, Outcome, Skill
from rynn_brain_ros.vla.chunks import Policy
from rynn_brain_ros.vla.guidance import CheckpointPolicy, Chunking
from rynn_brain_ros.vla.limits import HoldCause
from rynn_brain_ros.vla.piloting import Pilot
from rynn_brain_ros.vla.runner import RunnerConfig
from rynn_brain_ros.vla.settings import TOKEN_VARIABLE, PolicyConfig

_STILL_RAD, _STILL_M = 0.02, 0.002
"""What is commanded within this is rest."""
TICK_S = 0.04
_ANSWER_S = 60.0
"""Nobody's robot waits: the world stands still meanwhile."""
NO_DELAY = Chunking(execution_horizon=1)
"""The world stands still while a policy thinks, so there is no delay to be bridged: a new chunk may
be another one, and begins where the arm is."""
Tick = Callable[[], int]
"""Lets time pass, and returns it, ns."""
WhyStop = Callable[[int], "tuple[Cause, str] | None"]
"""Of the time, ns: why nothing may move now."""


@dataclass(frozen=True)
class Piloting:
    """How a policy is let act, and when a step counts as done."""

    rest_s: float = setting(1.5, "at rest for so long, the step is over [s]", 0.1, 60.0)
    max_step_s: float = setting(30.0, "longest time of a step [s]", 1.0, 600.0)
    min_grip_m: float = setting(0.004, "fingers closer than this hold nothing [m]", 0.0, 0.05)
    replan_steps: int = setting(5, "ask for a new chunk after so many steps", 1, 1000)
    limits: PolicyConfig = PolicyConfig(  # noqa: RUF009  # frozen
        dry_run=False,
        max_velocity="2,2,2,2,2.5,2.5,2.5,8",
        max_acceleration="12,7,10,12,15,20,20,60",
        max_jerk="500,300,400,500,600,800,800,2000",
        armed_s=3600.0,
    )


@dataclass(frozen=True)
class Driver:
    """Who moves the arm, by which contract. `make_stage_at` gives a stage with its rate."""

    policy: Policy
    contract: Contract
    config: Piloting = Piloting()


def open_driver(policy: str, contract: str) -> Driver:
    """``policy`` is the folder of a trained one, or the ws:// address of one that is served
    (`TOKEN_VARIABLE` has its token), which joins chunks as it was started to; ``contract`` a name
    or a file.

    Raises `InputError`, `PolicyError` for a folder that is none, `EngineError` for a server.
    """
    chosen = find_contract(contract)
    if not is_folder(policy):
        from rynn_brain_ros.vla.client import PolicyClient  # noqa: PLC0415  (optional packages)

        token = os.environ.get(TOKEN_VARIABLE, "")
        return Driver(PolicyClient(policy, token=token, timeout_s=_ANSWER_S), chosen)
    return Driver(CheckpointPolicy(_loaded(policy), NO_DELAY), chosen)


def is_folder(policy: str) -> bool:
    """That is opened in this process, and not served elsewhere."""
    return bool(policy) and not policy.startswith(("ws://", "wss://"))


def has_gpu() -> bool:
    """Which a policy is then opened on. Raises `EngineError` where torch is missing."""
    require_packages()
    import torch  # noqa: PLC0415  (optional)

    return bool(torch.cuda.is_available())


@lru_cache(maxsize=1)
def _loaded(policy: str) -> Any:
    """A `vla.checkpoint.LoadedPolicy`, once for all episodes of a process."""
    require_packages()
    from rynn_brain_ros.vla.checkpoint import load_policy  # noqa: PLC0415  (imports torch)

    return load_policy(Path(policy).expanduser())


class PilotedArm:
    """The policy of ``driver`` on the arm of ``stage``, from `arm` on until it rests. `receive` is
    a sink of everything that is published.

    Raises `InputError` for a world without an arm, and what `Pilot` raises where policy and
    contract do not fit.
    """

    def __init__(self, driver: Driver, stage: Stage, now_ns: Callable[[], int]) -> None:
        world = stage.world
        if not isinstance(world, TableWorld):
            raise InputError("a policy moves the arm at the table: there is none in this world")
        policy, self._config = driver.policy, driver.config
        self._now_ns, self._arm = now_ns, CommandedArm(world)
        self._pilot = Pilot(
            policy,
            driver.contract,
            replace(self._config.limits, task=stage.task),
            self,
            Arming(self._config.limits.armed_s),
            thread=_AtOnce(),
            now_ns=now_ns,
            runner=RunnerConfig(
                replan_steps=driver.config.replan_steps,
                samples_per_step=max(1, round(1 / (policy.spec.rate_hz * world.control_period_s))),
            ),
        )
        world.add_controller(lambda _: self._pilot.tick())

    def receive(self, topic: str, typename: str, value: Any, now_ns: int) -> None:
        if topic in self._pilot.topics:
            self._pilot.receive(topic, value, now_ns)

    @property
    def width_m(self) -> float:
        """Between the fingers, as measured."""
        return self._arm.width_m

    @property
    def holds(self) -> bool:
        """By the hand's own measure: it was told to close and something keeps it from that."""
        told_m = 2 * float(self._arm.commanded[-1])
        return self.width_m > self._config.min_grip_m and told_m < self.width_m - _STILL_M

    def act(self, tick: Tick, why: WhyStop = lambda now_ns: None) -> tuple[Cause, str]:
        """Until the policy has come to rest, or there is a reason to stop. ``tick`` lets
        `TICK_S` pass."""
        self._pilot.arm()
        start_ns = since_ns = self._now_ns()
        there = self._arm.commanded
        while True:
            now_ns = tick()
            stop = why(now_ns)
            if stop is not None:
                self._pilot.disarm(stop[1])
                return stop
            if self._pilot.stopped_why:
                return Cause.ABORTED, self._pilot.stopped_why
            if (now_ns - start_ns) / 1e9 > self._config.max_step_s:
                self._pilot.disarm("the step took too long")
                return Cause.TIMEOUT, f"no rest within {self._config.max_step_s:g} s"
            if _apart(self._arm.commanded, there):
                there, since_ns = self._arm.commanded, now_ns
            elif (now_ns - since_ns) / 1e9 >= self._config.rest_s:
                return self._rested()

    def _rested(self) -> tuple[Cause, str]:
        hold = self._pilot.hold
        if hold is not None and hold.cause is not HoldCause.WAITING:
            return Cause.ABORTED, str(hold)
        return Cause.DONE, ""

    # --- vla.piloting.Robot ----------------------------------------------------------------------

    def send(self, command: Command) -> None:
        told = command.message
        self._arm.command(dict(zip(told["name"], told["position"], strict=True)))

    def preview(self, command: Command) -> None:
        """Before the first step, and after a stop."""

    def cancel(self) -> None:
        """Streamed positions end by themselves."""

    def failures(self) -> Sequence[str]:
        return ()

    def absent(self) -> Sequence[str]:
        return ()

    def taken(self) -> Sequence[str]:
        return ()


class PolicyMover:
    """A `planning.moving.Moving` by the policy of ``driver`` on the arm of ``stage``. Of one
    episode: `receive` is a sink of everything that is published, `hear` of its events.

    Raises what `PilotedArm` raises.
    """

    def __init__(self, driver: Driver, stage: Stage, sight: Sight, arming: Arming) -> None:
        self._sight, self._arming, self._store = sight, arming, typestore()
        self._arm = PilotedArm(driver, stage, sight.clock.now_ns)
        self.receive = self._arm.receive
        self._words = BrainWords(stage.task, self._say, sight.clock.now_ns)
        self._in_flight = False

    # --- what it is told -------------------------------------------------------------------------

    def hear(self, event: EpisodeEvent) -> None:
        self._words.hear(event)

    def _say(self, topic: str, typename: str, data: MessageDict, now_ns: int) -> None:
        self.receive(topic, typename, message(typename, data, self._store), now_ns)

    # --- planning.moving.Moving ------------------------------------------------------------------

    @property
    def in_flight(self) -> bool:
        return self._in_flight

    def is_armed(self, now_ns: int) -> bool:
        return self._arming.is_armed(now_ns)

    def run(
        self, motion: Motion, number: int, guard: Guard, cancel: Cancel | None = None
    ) -> Outcome:
        """Lets the policy act on the step that the brain has just told."""
        start_ns = self._sight.clock.now_ns()
        changed = guard(motion.stages[0])
        if changed is not None:
            return Outcome(Cause.SCENE_CHANGED, changed.text, start_ns, start_ns, 0)
        self._in_flight = True
        cause, text = self._arm.act(
            lambda: self._sight.tick(TICK_S),
            lambda now_ns: why_stop(now_ns, cancel, self._arming, self._sight.watchdog),
        )
        self._in_flight = False
        if cause is Cause.DONE:
            cause, text = self._judged(motion.skill)
        done = len(motion.stages) if cause is Cause.DONE else 0
        end_ns = self._sight.clock.now_ns()
        return Outcome(cause, text, start_ns, end_ns, done, self._arm.width_m)

    def _judged(self, skill: Skill) -> tuple[Cause, str]:
        """Whether the hand holds what it should."""
        width_mm = 1000 * self._arm.width_m
        text = f"the policy came to rest with the fingers {width_mm:.0f} mm apart"
        if skill is Skill.PICK and not self._arm.holds:
            return Cause.NOTHING_GRIPPED, f"{text}, and they hold nothing"
        if skill is Skill.PLACE and self._arm.holds:
            return Cause.ABORTED, f"{text}, and they hold something still"
        return Cause.DONE, text


def act_alone(driver: Driver, stage: Stage) -> Outcome:
    """Without the brain: the policy knows the task, and looks, until it has come to rest. Raises
    what `PilotedArm` raises."""
    arms: list[PilotedArm] = []

    def receive(topic: str, typename: str, value: Any, now_ns: int) -> None:
        for arm in arms:
            arm.receive(topic, typename, value, now_ns)

    clock = WorldClock(stage.world, (stage.camera, *stage.others), (receive,))
    arms.append(PilotedArm(driver, stage, clock.now_ns))

    def tick() -> int:
        clock.wait(TICK_S)
        return clock.now_ns()

    start_ns = clock.now_ns()
    cause, text = arms[0].act(tick)
    return Outcome(cause, text, start_ns, clock.now_ns(), 0, arms[0].width_m)


class _AtOnce(Executor):
    """Does what it is given before it returns: the world's time stands still meanwhile."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001  # for who asks for the result
            future.set_exception(error)
        return future


def _apart(a: Any, b: Any) -> bool:
    return bool(np.abs(a[:-1] - b[:-1]).max() > _STILL_RAD or abs(a[-1] - b[-1]) > _STILL_M)
