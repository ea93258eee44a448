"""A turn as a plain record: the same bytes for the same decisions, every time.

This is what a replay of an episode compares. Wall times are left out; everything that was seen,
said, decided and done is in it, with every number as it was.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

from rynn_brain_ros.planning.episode import Confirmation, Episode, Move, TurnRecord
from rynn_brain_ros.replay.answers import answer_record
from rynn_brain_ros.values import Decision, Goal, Motion, Outcome, Refusal, Step


def turn_record(turn: TurnRecord) -> dict[str, Any]:
    response = turn.response
    return {
        "turn": turn.number,
        "stamp_ns": turn.stamp_ns,
        "frames": [
            {"camera": f.frame.camera, "stamp_ns": f.frame.stamp_ns, "sha256": f.sha256}
            for f in turn.frames
        ],
        "text": response.answer.text if response else None,
        "groundings": answer_record(response)["groundings"] if response else [],
        "step": _step(turn.step) if turn.step else None,
        "moves": [_move(move) for move in turn.moves],
        "refusal": _refusal(turn.refusal),
        "confirmation": _confirmation(turn.confirmation) if turn.confirmation else None,
    }


def turn_line(turn: TurnRecord) -> str:
    """One JSON line, ending in a newline."""
    return as_line(turn_record(turn))


def as_line(record: Mapping[str, Any]) -> str:
    return json.dumps(plain(record), ensure_ascii=False, allow_nan=False) + "\n"


def episode_record(episode: Episode) -> dict[str, Any]:
    """How a task ended, for programs."""
    return {
        "task": episode.task,
        "engine": episode.engine,
        "status": episode.status.value,
        "cause": episode.cause,
        "text": episode.text,
        "confirmed": episode.confirmed,
        "turns": len(episode.turns),
        "refusals": [refusal.code.value for refusal in episode.refusals],
        "robot_s": (episode.end_ns - episode.start_ns) / 1e9,
    }


def goal_record(goal: Goal) -> dict[str, Any]:
    return {"goal": type(goal).__name__, **dataclasses.asdict(goal)}


def _step(step: Step) -> dict[str, Any]:
    named = {
        part: lifted.grounding.kind
        for part in ("grasp", "thing", "area", "path")
        if (lifted := getattr(step, part)) is not None
    }
    return {"skill": step.skill.value, "parts": named, "preposition": step.preposition}


def _move(move: Move) -> dict[str, Any]:
    return {
        "motion": _motion(move.motion),
        "decision": _decision(move.decision),
        "outcome": _outcome(move.outcome) if move.outcome else None,
    }


def _motion(motion: Motion) -> dict[str, Any]:
    return {
        "skill": motion.skill.value,
        "base_frame": motion.base_frame,
        "target_m": motion.target_m,
        "grip_width_m": motion.grip_width_m,
        "support_z_m": motion.support_z_m,
        "stages": [{"stage": item.stage.value, **goal_record(item.goal)} for item in motion.stages],
    }


def _decision(decision: Decision) -> dict[str, Any]:
    return {
        "stamp_ns": decision.stamp_ns,
        "approved": decision.approved,
        "refusal": _refusal(decision.refusal),
        "checks": [dataclasses.asdict(check) for check in decision.checks],
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "status": outcome.status.value,
        "cause": outcome.cause.value,
        "text": outcome.text,
        "start_ns": outcome.start_ns,
        "end_ns": outcome.end_ns,
        "stages_done": outcome.stages_done,
        "gripper_width_m": outcome.gripper_width_m,
    }


def _confirmation(confirmation: Confirmation) -> dict[str, Any]:
    return dataclasses.asdict(confirmation)


def _refusal(refusal: Refusal | None) -> dict[str, str] | None:
    return {"code": refusal.code.value, "text": refusal.text} if refusal else None


def plain(value: Any) -> Any:
    """JSON knows no NaN: what is unknown is ``null``."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
