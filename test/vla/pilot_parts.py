"""A robot that keeps what it is told, and a pilot of it over a clock that moves when told to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from policy_parts import (
    CONTRACT_TEXT,
    HOME,
    RATE_HZ,
    DrivenClock,
    DrivenThread,
    ScriptedPolicy,
    spec_for,
)

from rynn_brain_ros import messages
from rynn_brain_ros.bags import message
from rynn_brain_ros.data import contract_from
from rynn_brain_ros.data.commands import Command
from rynn_brain_ros.planning.arming import Arming
from rynn_brain_ros.values import EncodedImage
from rynn_brain_ros.vla.aiming import NOT_AIMED, Aim
from rynn_brain_ros.vla.piloting import Pilot
from rynn_brain_ros.vla.runner import RunnerConfig
from rynn_brain_ros.vla.settings import PolicyConfig

JOINTS = ("b", "a", "finger")
"""In another order than the contract's."""
FAST = {"max_velocity": "2", "max_acceleration": "20", "max_jerk": "400"}


class KeptRobot:
    """What was sent and previewed, in its order."""

    def __init__(self) -> None:
        self.sent: list[Command] = []
        self.previewed: list[Command] = []
        self.n_cancels = 0
        self.failing: list[str] = []
        self.missing: list[str] = []
        self.busy: list[str] = []

    def send(self, message: Command) -> None:
        self.sent.append(message)

    def preview(self, message: Command) -> None:
        self.previewed.append(message)

    def cancel(self) -> None:
        self.n_cancels += 1

    def failures(self) -> tuple[str, ...]:
        found, self.failing = tuple(self.failing), []
        return found

    def absent(self) -> tuple[str, ...]:
        return tuple(self.missing)

    def taken(self) -> tuple[str, ...]:
        return tuple(self.busy)


class Flight:
    """A pilot, and everything around it that a test may change. The robot stands at ``state``."""

    def __init__(
        self,
        answer: Callable[[Any], Any] | None = None,
        more: str = "",
        runner: RunnerConfig | None = None,
        aim: Aim = NOT_AIMED,
        **settings: Any,
    ) -> None:
        self.policy, self.clock, self.thread = ScriptedPolicy(answer), DrivenClock(), DrivenThread()
        self.robot, self.arming = KeptRobot(), Arming(10.0)
        contract = contract_from(CONTRACT_TEXT + more)
        self.policy.spec = spec_for(contract, aim)
        self.pilot = Pilot(
            self.policy,
            contract,
            PolicyConfig(**{"task": "pick up the cup", "dry_run": False, **FAST, **settings}),
            self.robot,
            self.arming,
            thread=self.thread,
            now_ns=self.clock.now_ns,
            runner=runner,
        )
        self.state, self.camera, self.joints, self.pixels = HOME, True, True, picture(90)
        self.pilot.begin()

    def hear(self, topic: str, type_: str, data: dict[str, Any]) -> None:
        self.pilot.receive(topic, message(type_, data), self.clock.ns)

    def see(self) -> None:
        """Everything is published once, now."""
        if self.camera:
            image = messages.image(self.pixels, self.clock.ns, "wrist")[1]
            self.hear("/wrist", "sensor_msgs/msg/Image", image)
        if self.joints:
            a, b, opening = self.state
            position = [b, a, 0.04 * opening]
            data = {"header": messages.header(self.clock.ns, ""), "name": list(JOINTS)}
            self.hear("/joint_states", "sensor_msgs/msg/JointState", {**data, "position": position})

    def fly(self, steps: int = 1, *, ticks: int = 7, work: bool = True) -> Flight:
        """``ticks`` in each step; unless told otherwise the policy keeps up."""
        for _ in range(steps):
            self.see()
            for _ in range(ticks):
                self.pilot.tick()
                self.clock.pass_s(1 / RATE_HZ / ticks)
            if work:
                self.thread.work()
        return self

    def moving(self) -> Flight:
        assert self.pilot.arm() == ""
        self.fly(3)
        assert self.cause is None
        return self

    @property
    def cause(self) -> str | None:
        return None if self.pilot.hold is None else self.pilot.hold.cause.value


def picture(grey: int) -> EncodedImage:
    return EncodedImage("rgb8", np.full((4, 6, 3), grey, np.uint8).tobytes(), 6, 4, 18)
