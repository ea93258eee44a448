"""The arm as a policy streams to it: it goes where it is told, and what is beyond limits counts."""

from __future__ import annotations

import pytest

pytest.importorskip("mujoco")

from rynn_brain_ros.demo.stages import StageConfig, make_stage
from rynn_brain_ros.sim.commanded import CommandedArm
from rynn_brain_ros.sim.panda import JOINTS, LOWER, READY
from rynn_brain_ros.sim.table import TableWorld

PERIOD_S = TableWorld.control_period_s


@pytest.mark.parametrize(
    ("told", "is_beyond"),
    [
        ([READY[0] + 0.0005 * k for k in range(5)], False),
        ([READY[0], READY[0] + 0.3], True),
        ([LOWER[0] - 0.1], True),
    ],
    ids=["gentle", "jump", "beyond"],
)
def test_streamed_commands_beyond_the_limits_are_measured(told: list[float], is_beyond: bool):
    stage = make_stage(StageConfig())
    try:
        assert isinstance(stage.world, TableWorld)
        arm = CommandedArm(stage.world)
        for position in told:
            arm.command({JOINTS[0]: float(position)})
            stage.world.step(PERIOD_S)
        assert (stage.measure().violations > 0) is is_beyond
    finally:
        stage.close()
