"""Replay: a bag through the whole brain, the folder that a run leaves, and comparing two runs."""

from rynn_brain_ros.replay.actuators import HeardActuator, PlayedActuator
from rynn_brain_ros.replay.answers import (
    Tolerance,
    answer_record,
    compare_answers,
    grounding_record,
    read_answers,
    rejected_records,
)
from rynn_brain_ros.replay.claiming import RunKind, check_run_folder, claim_run_folder
from rynn_brain_ros.replay.episode_folder import EpisodeFolder, EpisodeHead
from rynn_brain_ros.replay.episode_replay import (
    EpisodeReplay,
    is_episode,
    recorded_engines,
    replay_episode,
)
from rynn_brain_ros.replay.inputs import assembly_of, bag_inputs, choose_camera
from rynn_brain_ros.replay.replaying import ReplayConfig, ReplayResult, check_out, replay
from rynn_brain_ros.replay.run_folder import RunFolder
from rynn_brain_ros.replay.turns import episode_record, turn_record

__all__ = [
    "EpisodeFolder",
    "EpisodeHead",
    "EpisodeReplay",
    "HeardActuator",
    "PlayedActuator",
    "ReplayConfig",
    "ReplayResult",
    "RunFolder",
    "RunKind",
    "Tolerance",
    "answer_record",
    "assembly_of",
    "bag_inputs",
    "check_out",
    "check_run_folder",
    "choose_camera",
    "claim_run_folder",
    "compare_answers",
    "episode_record",
    "grounding_record",
    "is_episode",
    "read_answers",
    "recorded_engines",
    "rejected_records",
    "replay",
    "replay_episode",
    "turn_record",
]
