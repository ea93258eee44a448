"""The demo and the evaluation: simulated robots, the real brain, and the truth to compare with."""

from rynn_brain_ros.demo.demonstrating import DemoOutcome, run_demo
from rynn_brain_ros.demo.evaluating import (
    Evaluation,
    check_out,
    evaluate,
    play_and_score,
    tell_evaluation,
    write_evaluation,
)
from rynn_brain_ros.demo.running import Ears, Played, play
from rynn_brain_ros.demo.stages import WORLDS, Measured, Stage, StageConfig, check_stage, make_stage
from rynn_brain_ros.sim.panda_meshes import ARM_LOOKS

__all__ = [
    "ARM_LOOKS",
    "WORLDS",
    "DemoOutcome",
    "Ears",
    "Evaluation",
    "Measured",
    "Played",
    "Stage",
    "StageConfig",
    "check_out",
    "check_stage",
    "evaluate",
    "make_stage",
    "play",
    "play_and_score",
    "run_demo",
    "tell_evaluation",
    "write_evaluation",
]
