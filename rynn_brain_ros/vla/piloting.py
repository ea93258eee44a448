"""A policy at the wheel, without ROS: messages come in, messages for the robot go out, and a person
allows it for a while.

Whatever ends a motion (disarming, an arming that expires, a robot that fails or does not follow, a
loop that stood still) ends it in the same way: goals in flight are cancelled, the declared safe
action is sent, and a person must arm anew. What the runner holds for by itself (see `limits`) keeps
the arming, and motion goes on when the cause is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, Protocol

import numpy as np

from rynn_brain_ros.data.commands import Command as Message
from rynn_brain_ros.data.contract import Contract
from rynn_brain_ros.data.faults import Fault
from rynn_brain_ros.data.live import Observer
from rynn_brain_ros.values import RynnBrainError
from rynn_brain_ros.vla.chunks import Joining, Policy
from rynn_brain_ros.vla.limits import Hold, HoldCause
from rynn_brain_ros.vla.observing import Presenter, Shown
from rynn_brain_ros.vla.runner import Command, Runner, RunnerConfig
from rynn_brain_ros.vla.sending import Sending, sending_of
from rynn_brain_ros.vla.settings import PolicyConfig
from rynn_brain_ros.vla.values import Floats

_IDLE = Hold(HoldCause.WAITING, "nothing was seen yet")
_FOR_A_PERSON = (HoldCause.TOO_MANY_FAILURES, HoldCause.NOT_FOLLOWED)
_STOOD_STILL_S = 0.5


class Arming(Protocol):
    """`planning.arming.Arming`."""

    def arm(self, now_ns: int) -> object: ...

    def disarm(self, why: str) -> None: ...

    def check(self, now_ns: int) -> object | None:
        """Why motion is not allowed; None where it is."""
        ...


class Robot(Protocol):
    """The way to the robot. Nothing here blocks or raises because a server misbehaves."""

    def send(self, message: Message) -> None: ...

    def preview(self, message: Message) -> None:
        """Where everybody can see it and nothing obeys."""
        ...

    def cancel(self) -> None:
        """Every goal in flight."""
        ...

    def failures(self) -> Sequence[str]:
        """What became of the newest goals against their purpose, each told once."""
        ...

    def absent(self) -> Sequence[str]:
        """Servers that are not there now."""
        ...

    def taken(self) -> Sequence[str]:
        """One sentence for each server that carries out somebody else's goal now."""
        ...


class Pilot:
    """One robot, one policy. Of one thread; ``thread`` asks the policy.

    `begin`, then `receive` every message of ``topics`` and `tick` ``samples_per_step`` times in
    each step; `disarm` before it is let go. Raises `RynnBrainError` where policy, contract and
    settings do not fit each other.
    """

    def __init__(
        self,
        policy: Policy,
        contract: Contract,
        config: PolicyConfig,
        robot: Robot,
        arming: Arming,
        *,
        thread: Executor,
        now_ns: Callable[[], int],
        runner: RunnerConfig | None = None,
        joining: Joining | None = None,
    ) -> None:
        self._spec, self._contract, self._config = policy.spec, contract, config
        self._robot, self._arming, self._now_ns = robot, arming, now_ns
        self._runner = Runner(
            policy,
            contract,
            config.limits(policy.spec.action_names),
            thread=thread,
            now_ns=now_ns,
            config=runner,
            joining=joining,
        )
        self._presenter = Presenter(contract, policy.spec)
        names = list(policy.spec.state_names)
        self._measured_at = [names.index(name) for name in policy.spec.action_names]
        self._period_ns = round(1e9 / policy.spec.rate_hz)
        samples = (runner or RunnerConfig()).samples_per_step
        self._early_ns = self._period_ns // (2 * samples)
        """A tick this close to the next step is its own: the one after would be late."""
        self._task, self.stopped_why = config.task, ""
        self.hold: Hold | None = _IDLE
        self._sending: Sending = sending_of(config, contract, policy.spec)
        self._observer = Observer(contract)
        self.topics = self._observer.topics
        self._broken: dict[str, Fault] = {}
        self._moving, self._next_ns, self._latest_ns = False, 0, 0
        self._is_aimed = False

    @property
    def task(self) -> str:
        """What is to be done, in words. Another one begins without the step and the point of the
        one before, unless the brain told them for this very task."""
        return self._task

    @task.setter
    def task(self, task: str) -> None:
        if task != self._task:
            self._observer.forget_words(but_for=task)
        self._task = task

    @property
    def unaimed(self) -> str:
        """Where the policy was trained with target points: that none is told. Else empty."""
        aim = self._spec.statistics.aim
        if not aim.n or self._is_aimed:
            return ""
        return (
            f"no target point is told, and the policy was trained with points in {aim.place}: ask "
            "the brain what to do (task plan), and see that it answers on the topics listened to"
        )

    def begin(self, task: str | None = None) -> None:
        """Forgets what was seen and said before. ``task``: in the place of the settings'."""
        self._observer, self._broken = Observer(self._contract), {}
        self._runner.reset()
        self.hold, self.stopped_why, self._next_ns, self._latest_ns = _IDLE, "", 0, 0
        self._task = self._config.task if task is None else task

    def receive(self, topic: str, message: Any, received_ns: int) -> None:
        faults = self._observer.receive(topic, message, received_ns)
        told = self._contract.task
        if told is not None and topic == told.topic:
            self.task = str(message.data).strip()  # whoever spoke last means it
        self._broken.pop(topic, None)
        if faults:
            self._broken[topic] = faults[0]

    def tick(self) -> None:
        now_ns = self._now_ns()
        try:
            gap_ns = now_ns - self._latest_ns
            self._follow_clock(now_ns)
            self._watch(now_ns)
            self._make_up(now_ns, gap_ns)
            if now_ns >= self._next_ns - self._early_ns:
                self._step(now_ns)
            self._give(self._sending.due(now_ns))
        except RynnBrainError as error:
            self._stop(f"a command could not be made: {error}")

    # --- a person's word -------------------------------------------------------------------------

    def arm(self) -> str:
        """Why it cannot be armed; empty where it is now. Motion begins anew from where the robot
        is then, and failures before are forgotten."""
        if not self._config.dry_run and (danger := self._danger()):
            return danger
        if self._moving:
            self._arming.arm(self._now_ns())
            return ""
        self._robot.failures()  # of motions before
        self._runner.reset()
        self._sending = sending_of(self._config, self._contract, self._spec)
        self.stopped_why = ""
        self._arming.arm(self._now_ns())
        self._moving = not self._config.dry_run
        return ""

    def _danger(self) -> str:
        if absent := self._robot.absent():
            return f"no server at {', '.join(absent)}: start the robot's controllers first"
        return "; ".join(self._robot.taken())

    def disarm(self, why: str) -> None:
        if self._moving:
            self._stop(why)
        else:
            self._arming.disarm(why)

    # --- the loop --------------------------------------------------------------------------------

    def _follow_clock(self, now_ns: int) -> None:
        """A clock that jumps back forgets what was seen, before what moves is stopped: an old
        state would pass for where the robot is now. The arming disarms by itself then."""
        if now_ns < self._latest_ns:
            self._observer, self._broken, self._next_ns = Observer(self._contract), {}, 0
            if not self._moving:
                self._runner.reset()
        self._latest_ns = now_ns

    def _watch(self, now_ns: int) -> None:
        refusal = self._arming.check(now_ns)
        if not self._moving:
            return
        failures = self._robot.failures()
        if refusal is not None:
            self._stop(str(refusal))
        elif failures:
            self._stop(str(Hold(HoldCause.ROBOT_FAILED, "; ".join(failures))))

    def _make_up(self, now_ns: int, gap_ns: int) -> None:
        """For ``gap_ns`` since the last tick, as far as what is sent allows. After half a second
        nobody knows any more what the robot did meanwhile."""
        late_ns = now_ns - self._next_ns if self._next_ns else 0
        if late_ns > _STOOD_STILL_S * 1e9:
            if self._moving:
                self._stop(f"the loop stood still for {late_ns / 1e9:.2f} s")
            self._next_ns = 0
        elif self._next_ns:
            self._next_ns += self._sending.postpone(gap_ns)

    def _step(self, now_ns: int) -> None:
        """As many steps as have begun since the last one: what is commanded keeps to its time."""
        self._next_ns = self._next_ns or now_ns
        shown = self._look(now_ns)
        self._is_aimed = len(shown.observation.target_point) > 0
        while now_ns >= self._next_ns - self._early_ns:
            command = self._advance(shown)
            self._give(self._sending.begin(command, self._runner.ahead, self._next_ns))
            self._next_ns += self._period_ns

    def _advance(self, shown: Shown) -> Command:
        command = self._runner.tick(
            shown.observation, shown.stamps_ns, shown.fault, obeyed=self._moving
        )
        self.hold = command.hold
        if command.hold is not None and command.hold.cause in _FOR_A_PERSON:
            self._stop(str(command.hold), follows=command.hold.cause is not HoldCause.NOT_FOLLOWED)
        return command

    def _look(self, now_ns: int) -> Shown:
        seen = self._observer.at(now_ns, decoded=False)
        return self._presenter.shown(seen, self._task, self._broken)

    def _measured(self, now_ns: int) -> Floats | None:
        """[D], in the order of an action."""
        state = self._look(now_ns).observation.state
        return state[self._measured_at] if np.all(np.isfinite(state)) else None

    def _give(self, messages: Sequence[Message]) -> None:
        for message in messages:
            if self._moving:
                self._robot.send(message)
            else:
                self._robot.preview(message)

    def _stop(self, why: str, *, follows: bool = True) -> None:
        """The safe action."""
        self.stopped_why = why
        self._arming.disarm(why)
        if not self._moving:
            return
        self._robot.cancel()
        now_ns = self._now_ns()
        for message in self._sending.stop(self._measured(now_ns), now_ns, follows=follows):
            self._robot.send(message)
        self._moving = False
        self._runner.reset()
