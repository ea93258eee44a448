"""A turn as the messages that others see: the plan so far, and every decision with its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rynn_brain_ros import messages
from rynn_brain_ros.messages import MessageDict, StepState
from rynn_brain_ros.planning.episode import Move, TurnRecord
from rynn_brain_ros.values import (
    Check,
    Outcome,
    Refusal,
    RefusalCode,
    Response,
    Skill,
    Status,
    Step,
)
from rynn_brain_ros.view.telling import name

PLAN, DECISIONS = "plan", "decisions"
TURN_TYPES = {
    PLAN: "rynn_brain_ros/msg/Plan",
    DECISIONS: "diagnostic_msgs/msg/DiagnosticArray",
}
"""Message type by topic name, relative to the brain."""

_OK, _WARN, _ERROR = 0, 1, 2
_STATES = {
    Status.SUCCEEDED: StepState.DONE,
    Status.REFUSED: StepState.REFUSED,
    Status.FAILED: StepState.FAILED,
    Status.CANCELLED: StepState.CANCELLED,
}


def turn_publications(
    task: str, turns: Sequence[TurnRecord], stamp_ns: int
) -> Iterator[tuple[str, MessageDict]]:
    """(topic name, message) of what the newest of ``turns`` gives to see."""
    newest = turns[-1]
    yield DECISIONS, _decisions(newest, stamp_ns)
    taken = [(turn, turn.step) for turn in turns if turn.step is not None]
    steps = [
        _plan_step(index, _query_id(turn), step, _state(turn))
        for index, (turn, step) in enumerate(taken)
    ]
    asked = taken[-1][0] if taken else newest
    yield PLAN, _plan(task, _query_id(asked), steps, _claims_done(asked), stamp_ns)


def proposal(response: Response, step: Step, stamp_ns: int) -> MessageDict:
    """rynn_brain_ros/Plan of the one ``step`` that a planning question was answered by, which
    nobody carries out."""
    query, done = response.query, step.skill is Skill.DONE
    steps = [_plan_step(0, query.query_id, step, (StepState.PROPOSED, "", ""))]
    return _plan(query.instruction, query.query_id, steps, done, stamp_ns)


def _plan(
    task: str, query_id: str, steps: list[MessageDict], done: bool, stamp_ns: int
) -> MessageDict:
    return {
        "header": messages.header(stamp_ns, ""),
        "query_id": query_id,
        "task": task,
        "steps": steps,
        "done": done,
    }


def _query_id(turn: TurnRecord) -> str:
    return turn.response.query.query_id if turn.response else ""


def _claims_done(turn: TurnRecord) -> bool:
    """And a look has not found it untrue."""
    denied = turn.refusal is not None and turn.refusal.code is RefusalCode.UNCONFIRMED
    return turn.step is not None and turn.step.skill is Skill.DONE and not denied


def _plan_step(
    index: int, query_id: str, step: Step, how: tuple[StepState, str, str]
) -> MessageDict:
    """``how`` is its state with code and text of the reason."""
    state, code, text = how
    return {
        "index": index,
        "skill": step.skill.value,
        "text": step.text,
        "targets": [messages.grounding(g, query_id, False) for g in step.groundings],
        "state": int(state),
        "reason_code": code,
        "reason_text": text,
    }


def _state(turn: TurnRecord) -> tuple[StepState, str, str]:
    if turn.refusal is not None:
        return StepState.REFUSED, turn.refusal.code.value, turn.refusal.text
    outcome = next((m.outcome for m in reversed(turn.moves) if m.outcome is not None), None)
    if outcome is not None:
        done = outcome.status is Status.SUCCEEDED
        return _STATES[outcome.status], "" if done else outcome.cause.value, outcome.text
    if turn.confirmation is not None and turn.confirmation.confirmed:
        return StepState.DONE, "", ""
    return (StepState.APPROVED if turn.moves else StepState.PROPOSED), "", ""


def _decisions(turn: TurnRecord, stamp_ns: int) -> MessageDict:
    statuses = [status for move in turn.moves for status in _move_statuses(turn, move)]
    if turn.refusal is not None and not any(m.decision.refusal for m in turn.moves):
        statuses.append(_refusal(turn, turn.refusal))
    if turn.confirmation is not None:
        level = _OK if turn.confirmation.confirmed else _WARN
        values = _values(turn.confirmation.checks)
        statuses.append(
            _status(level, f"{name(turn)}: confirmation", turn.confirmation.text, values)
        )
    return {"header": messages.header(stamp_ns, ""), "status": statuses}


def _move_statuses(turn: TurnRecord, move: Move) -> Iterator[MessageDict]:
    what, decision = f"{name(turn)}: {move.motion.skill.value}", move.decision
    text = "approved" if decision.refusal is None else str(decision.refusal)
    level = _OK if decision.approved else _ERROR
    yield _status(level, f"{what}: gate", text, _values(decision.checks))
    if move.outcome is not None:
        yield _outcome(f"{what}: motion", move.outcome)


def _outcome(name: str, outcome: Outcome) -> MessageDict:
    level = _OK if outcome.status is Status.SUCCEEDED else _WARN
    values = {
        "stages_done": str(outcome.stages_done),
        "seconds": f"{(outcome.end_ns - outcome.start_ns) / 1e9:.3f}",
        "gripper_width_m": f"{outcome.gripper_width_m:.4f}",
    }
    return _status(level, name, f"{outcome.cause.value}: {outcome.text}", values)


def _refusal(turn: TurnRecord, refusal: Refusal) -> MessageDict:
    return _status(_WARN, f"{name(turn)}: refused", str(refusal), {})


def _values(checks: Sequence[Check]) -> dict[str, str]:
    return {
        check.name: ("" if check.passed else "NO: ")
        + check.found
        + (f" (allowed: {check.allowed})" if check.allowed else "")
        for check in checks
    }


def _status(level: int, name: str, message: str, values: dict[str, str]) -> MessageDict:
    return {
        "level": level,
        "name": name,
        "message": message,
        "hardware_id": "rynn_brain",
        "values": [{"key": key, "value": value} for key, value in values.items()],
    }
