"""Replay: a bag through the whole brain, the folder that a run leaves, and comparing two runs."""

from rynn_brain_ros.replay.answers import (
    Tolerance,
    answer_record,
    compare_answers,
    grounding_record,
    read_answers,
    rejected_records,
)
from rynn_brain_ros.replay.inputs import choose_camera
from rynn_brain_ros.replay.replaying import ReplayConfig, ReplayResult, replay
from rynn_brain_ros.replay.run_folder import RunFolder

__all__ = [
    "ReplayConfig",
    "ReplayResult",
    "RunFolder",
    "Tolerance",
    "answer_record",
    "choose_camera",
    "compare_answers",
    "grounding_record",
    "read_answers",
    "rejected_records",
    "replay",
]
