"""What a simulated scene leaves behind when it is closed."""

from __future__ import annotations

import gc
import weakref

import pytest

pytest.importorskip("mujoco")

from rynn_brain_ros.demo.stages import StageConfig, make_stage


@pytest.mark.parametrize("world", ["table", "room"])
def test_a_closed_world_is_gone_without_the_garbage_collector(world: str):
    """Its model lies in MuJoCo's memory, of which Python's collector knows nothing."""
    gc.collect()
    gc.disable()
    try:
        stage = make_stage(StageConfig(world=world))
        gone = weakref.ref(stage.world)
        stage.close()
        del stage
        assert gone() is None
    finally:
        gc.enable()
