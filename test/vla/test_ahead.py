"""What the runner tells of the steps to come is what it commands then, to the end and to rest."""

from __future__ import annotations

import numpy as np
import pytest
from policy_parts import (
    CONTRACT,
    HOME,
    HORIZON,
    RATE_HZ,
    DrivenClock,
    DrivenThread,
    ScriptedPolicy,
    ramp,
    seeing,
)

pytest.importorskip("ruckig", reason="the extra policy is not installed")

from rynn_brain_ros.vla.limits import MotionLimits
from rynn_brain_ros.vla.runner import STATE, Command, Runner, RunnerConfig

GENTLE = MotionLimits((2.0,) * 3, (4.0,) * 3, (40.0,) * 3)
"""Coming to rest takes several steps."""


class Loop:
    """A robot that follows exactly."""

    def __init__(self, step_rad: float = 0.1, **config: float) -> None:
        self.policy = ScriptedPolicy(lambda seen: ramp(seen.state, step_rad))
        self.clock, self.thread = DrivenClock(), DrivenThread()
        now_ns = self.clock.now_ns
        self.state = HOME
        settings = RunnerConfig(**{"replan_steps": 100, **config})
        self.runner = Runner(
            self.policy, CONTRACT, GENTLE, thread=self.thread, now_ns=now_ns, config=settings
        )

    def tick(self, *, camera: bool = True) -> Command:
        self.clock.pass_s(1 / RATE_HZ)
        seen = seeing(self.state) if camera else seeing(self.state, images={})
        command = self.runner.tick(seen, {"wrist": self.clock.ns, STATE: self.clock.ns})
        self.state = command.positions[-1]
        self.thread.work()
        return command


@pytest.mark.parametrize("camera", [True, False])
def test_what_is_told_ahead_is_what_is_commanded_then(camera: bool):
    loop = Loop()
    loop.tick()
    for _ in range(3):
        loop.tick()
    if not camera:
        assert loop.tick(camera=False).renewed
    ahead = loop.runner.ahead()
    n = len(ahead) // 7
    assert n > 2
    loop.policy.answer = _fails
    told = np.concatenate([loop.tick(camera=camera).positions for _ in range(n)])
    np.testing.assert_allclose(told, ahead, atol=1e-9)


def test_it_ends_at_rest_at_the_last_action():
    loop = Loop()
    loop.tick()
    loop.tick()
    ahead = loop.runner.ahead()
    np.testing.assert_allclose(ahead[-1], ramp(step_rad=0.1)[-1], atol=1e-6)
    assert np.abs(np.diff(ahead[-3:], axis=0)).max() < 1e-3


def test_telling_ahead_changes_nothing():
    told, silent = Loop(), Loop()
    for _ in range(HORIZON):
        np.testing.assert_array_equal(told.tick().positions, silent.tick().positions)
        told.runner.ahead()


def test_only_a_new_chunk_and_a_given_up_one_are_news():
    loop = Loop(replan_steps=4)
    renewed = [loop.tick().renewed for _ in range(7)]
    assert renewed == [False, True, False, False, False, False, True]
    assert loop.tick(camera=False).renewed
    assert not loop.tick(camera=False).renewed


def _fails(seen: object) -> np.ndarray:
    raise RuntimeError("no more")
