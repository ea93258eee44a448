"""An episode in lines for people, turn by turn, as it happens."""

from __future__ import annotations

from collections.abc import Callable

from rynn_brain_ros.planning.episode import (
    Answered,
    Decided,
    EpisodeEnded,
    EpisodeEvent,
    Looked,
    Tell,
    TurnEnded,
    TurnRecord,
)
from rynn_brain_ros.values import Decision, LiftedGrounding, Motion, Outcome, Task
from rynn_brain_ros.view.telling import ended, seconds, verdict

_SIGNS = {"ok": "✓", "no": "✗", "halt": "■", "": "·"}
_LABEL = 8


def narrate(say: Callable[[str], None]) -> Tell:
    """Tells each event to ``say``, a line at a time."""

    def tell(event: EpisodeEvent) -> None:
        for line in _lines(event):
            say(line)

    return tell


def _lines(event: EpisodeEvent) -> tuple[str, ...]:
    if isinstance(event, Looked):
        return ("", f"turn {event.number + 1}", _saw(event))
    if isinstance(event, Answered):
        return _answered(event)
    if isinstance(event, Decided):
        return (_line("gate", _gate(event.decision, event.motion)),)
    if isinstance(event, TurnEnded):
        return _turn_ended(event.record)
    if isinstance(event, EpisodeEnded):
        end = verdict(event.episode)
        return ("", f"{_SIGNS[end.mark]} {end.word}: {end.because}")
    return ()


def _line(label: str, text: str) -> str:
    return f"  {label:<{_LABEL}}{text}"


def _saw(event: Looked) -> str:
    newest = event.frames[-1].frame
    age_s = (event.stamp_ns - newest.stamp_ns) / 1e9
    frames = f"{len(event.frames)} frame{'s' if len(event.frames) > 1 else ''}"
    return _line("saw", f"{frames} of {newest.camera}, the newest {seconds(age_s)} old")


def _answered(event: Answered) -> tuple[str, ...]:
    response = event.response
    looked_again = response.query.task is Task.OBJECT
    said = _line("looks" if looked_again else "said", " ".join(response.answer.text.split()))
    places = (_place(lifted) for lifted in response.lifted)
    return (said, *(_line("where", place) for place in places if place))


def _place(lifted: LiftedGrounding) -> str:
    kind = lifted.grounding.kind.replace("_", " ")
    if lifted.refusal is not None:
        return f"{kind}: {lifted.refusal}"
    if lifted.target is None or lifted.target.point_fixed_m is None:
        return ""
    x, y, z = lifted.target.point_fixed_m
    sigma_mm = 1000 * lifted.target.sigma_m
    return f"{kind} at ({x:.3f}, {y:.3f}, {z:.3f}) m in {lifted.fixed_frame_id}, ±{sigma_mm:.0f} mm"


def _gate(decision: Decision, motion: Motion) -> str:
    passed = sum(check.passed for check in decision.checks)
    counted = f"{passed} of {len(decision.checks)} checks passed"
    what = motion.skill.value.replace("_", " ")
    if decision.refusal is None:
        return f"✓ {what}: {counted}"
    return f"■ {what}: {decision.refusal} ({counted})"


def _turn_ended(turn: TurnRecord) -> tuple[str, ...]:
    end = ended(turn)
    moves = [_line("moved", _outcome(m.outcome)) for m in turn.moves if m.outcome is not None]
    told_by_gate = any(move.decision.refusal is not None for move in turn.moves)
    if (turn.refusal is not None and not told_by_gate) or turn.confirmation is not None:
        label = "checked" if turn.confirmation is not None else "refused"
        text = end.because if turn.confirmation is not None else str(turn.refusal)
        return (*moves, _line(label, f"{_SIGNS[end.mark]} {text}"))
    return tuple(moves)


def _outcome(outcome: Outcome) -> str:
    lasted = seconds((outcome.end_ns - outcome.start_ns) / 1e9)
    if outcome.cause.value == "done":
        return f"✓ {outcome.stages_done} stages in {lasted} of the robot's time"
    return f"✗ {outcome.cause.value.replace('_', ' ')} after {lasted}: {outcome.text}"
