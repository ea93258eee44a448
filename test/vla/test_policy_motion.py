"""The whole loop with the limits that the node comes with: it gets where it is asked to go."""

from __future__ import annotations

import numpy as np
import pytest
from policy_parts import (
    CONTRACT_TEXT,
    HOME,
    HORIZON,
    DrivenClock,
    DrivenThread,
    ScriptedPolicy,
    seeing,
    spec_for,
)

pytest.importorskip("ruckig", reason="the extra policy is not installed")

from rynn_brain_ros.data import contract_from
from rynn_brain_ros.vla.runner import STATE, Runner, RunnerConfig
from rynn_brain_ros.vla.settings import PolicyConfig

CONTRACT = contract_from(CONTRACT_TEXT.replace("fps: 10", "fps: 30"))
SPEC = spec_for(CONTRACT)
GOAL = 0.5
"""[rad] of joint a."""


def straight(speed: float):
    """A policy that goes to the goal with ``speed`` [rad/s] and stops there at once."""

    def answer(seen):
        chunk = np.tile(seen.state, (HORIZON, 1))
        way = speed / SPEC.rate_hz * np.arange(1, HORIZON + 1)
        chunk[:, 0] = np.minimum(GOAL, seen.state[0] + way)
        return chunk

    return answer


@pytest.mark.parametrize(("speed", "within_s"), [(0.2, 4.5), (0.5, 2.5), (1.0, 2.0)])
def test_with_the_limits_of_the_node_it_goes_straight_to_its_goal(speed, within_s):
    policy, clock, thread = ScriptedPolicy(straight(speed)), DrivenClock(), DrivenThread()
    policy.spec = SPEC
    limits, config = PolicyConfig().limits(SPEC.action_names), RunnerConfig()
    runner = Runner(policy, CONTRACT, limits, thread=thread, now_ns=clock.now_ns, config=config)
    state, path, ahead = HOME, [], np.zeros((0, 3))
    for _ in range(round(within_s * SPEC.rate_hz)):
        clock.pass_s(1 / SPEC.rate_hz)
        command = runner.tick(seeing(state), {"wrist": clock.ns, STATE: clock.ns})
        if not command.renewed and len(path) > 1:
            np.testing.assert_allclose(command.positions, ahead[:7], atol=1e-9)
        ahead = np.concatenate([runner.ahead(), np.tile(command.positions[-1], (7, 1))])
        state = command.positions[-1]
        path.append(command.positions[:, 0])
        thread.work()
    every = np.concatenate(path)
    assert every.min() >= HOME[0] - 1e-9
    assert every.max() <= GOAL + 1e-3
    assert every[-1] == pytest.approx(GOAL, abs=5e-3)
