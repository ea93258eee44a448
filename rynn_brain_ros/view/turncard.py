"""One turn of a task as a card: seen, said, where, step, gate, motion, and how it ended."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from rynn_brain_ros.planning.episode import Confirmation, Move, TurnRecord
from rynn_brain_ros.values import (
    Cause,
    Check,
    Decision,
    DriveGoal,
    FollowGoal,
    Goal,
    GripGoal,
    LiftedGrounding,
    NavigateGoal,
    Outcome,
    PostureGoal,
    ReachGoal,
    Refusal,
    SpinGoal,
    Step,
)
from rynn_brain_ros.view.parts import Shown, answer, looks, metres, no, still, strip, tint
from rynn_brain_ros.view.pictures import Pictures
from rynn_brain_ros.view.telling import asked_again, doing, ended, plain, seconds


def turn_card(
    turn: TurnRecord, before: TurnRecord | None, shown: Shown | None, pictures: Pictures
) -> str:
    """A section of the story. ``before`` is the turn before it, ``shown`` its answer if it has
    one."""
    end, number = ended(turn), turn.number + 1
    again = asked_again(before)
    notes = f'<span class="chip halt">asked again: {escape(again)}</span>' if again else ""
    said = "" if shown is None else answer(shown)
    return (
        f'<section class="query turn t{turn.number % 7}" id="t{number}">'
        f'<div class="eyebrow"><span class="badge t{turn.number % 7}">{number}</span>'
        f'<span>turn {number}</span>{notes}<a href="#">top</a></div>'
        f'<h2 dir="auto">{escape(doing(turn))}'
        f' <span class="chip {end.mark}">{escape(end.word)}</span></h2>'
        f"{_refused(turn.refusal)}{'' if shown is None else strip(shown)}"
        f'<div class="look"><div class="keys">{_seen(turn, shown, pictures)}</div>'
        f"<div>{said}{_step(turn.step, shown)}</div></div>"
        f"{_moves(turn)}{_confirmation(turn.confirmation)}{_times(turn)}</section>\n"
    )


def _refused(refusal: Refusal | None) -> str:
    return "" if refusal is None else f'<div class="problems">{no(refusal)}</div>'


def _seen(turn: TurnRecord, shown: Shown | None, pictures: Pictures) -> str:
    return still(pictures, turn.frames) if shown is None else looks(shown)


# --- the step ------------------------------------------------------------------------------------


def _step(step: Step | None, shown: Shown | None) -> str:
    """What the answer was understood as, and where that is."""
    lifted = () if shown is None else shown.response.lifted
    roles = {} if step is None else _roles(step)
    rows = "".join(
        _place(i, item, roles.get(item.grounding.span, ""), shown.key if shown else "")
        for i, item in enumerate(lifted)
    )
    table = f'<table class="where"><tbody>{rows}</tbody></table>' if rows else ""
    typed = ""
    if step is not None:
        word = escape(plain(step.skill.value))
        typed = f'<p class="soft">understood as <span class="chip">{word}</span></p>'
    return f"<h3>Step and place</h3>{typed}{table}" if typed or table else ""


def _roles(step: Step) -> dict[tuple[int, int], str]:
    named = (
        ("where to act", step.grasp),
        ("the thing", step.thing),
        (f"the place ({step.preposition})" if step.preposition else "the place", step.area),
        ("the path", step.path),
    )
    return {item.grounding.span: role for role, item in named if item is not None}


def _place(index: int, item: LiftedGrounding, role: str, key: str) -> str:
    grounding = item.grounding
    what = escape(role or grounding.kind.replace("_", " "))
    return (
        f'<tr class="{tint(index, item)}" data-g="{key}{index}" tabindex="0">'
        f'<td><span class="dot {tint(index, item)}">{index + 1}</span>{what}</td>'
        f"<td>{_where(item)}</td></tr>"
    )


def _where(item: LiftedGrounding) -> str:
    if item.refusal is not None:
        return no(item.refusal)
    if item.target is None:
        return '<span class="soft">not lifted</span>'
    point, frame = item.target.point_fixed_m, item.fixed_frame_id
    if point is None:
        point = item.target.point_camera_m
        frame = "" if item.frame is None else item.frame.frame.frame_id
    sure = f" · confidence {item.confidence:.2f}" if math.isfinite(item.confidence) else ""
    return (
        f'<span class="mono">{metres(point)} m</span><br><span class="soft">'
        f"± {1000 * item.target.sigma_m:.1f} mm · {escape(frame)}{sure}</span>"
    )


# --- the gate and the motion ---------------------------------------------------------------------


def _moves(turn: TurnRecord) -> str:
    if len(turn.moves) > 1:
        return _many(turn)
    return "".join(_move(move, turn.refusal) for move in turn.moves)


def _move(move: Move, told: Refusal | None) -> str:
    """The gate beside the motion; a refusal that the card has ``told`` is only named here."""
    motion, target = move.motion, ""
    if all(math.isfinite(value) for value in motion.target_m):
        place = f'<span class="mono">{metres(motion.target_m)} m</span>'
        target = f"{place} in {escape(motion.base_frame)}"
    return (
        f'<div class="look move"><div><h3>Gate <span class="soft">· {_passed(move)}</span></h3>'
        f"<p>{_gate(move.decision, told)}</p>{_checks(move.decision.checks)}</div>"
        f"<div><h3>Motion · {escape(plain(motion.skill.value))}</h3>"
        f'<p class="soft">{target}{_grip(motion.grip_width_m)}</p>{_stages(move)}'
        f"{_outcome(move.outcome)}</div></div>"
    )


def _many(turn: TurnRecord) -> str:
    """Several motions, a line each; what the gate found of them is folded away below."""
    rows = "".join(
        f"<tr><td>{i}</td><td>{_stages(move)}</td><td>{_gate(move.decision, turn.refusal)}</td>"
        f"<td>{_outcome(move.outcome)}</td></tr>"
        for i, move in enumerate(turn.moves, 1)
    )
    gates = "".join(
        f"<h3>Gate of motion {i} · {_passed(move)}</h3>{_checks(move.decision.checks)}"
        for i, move in enumerate(turn.moves, 1)
    )
    still_open = "" if all(move.decision.approved for move in turn.moves) else " open"
    return (
        f'<h3>Motions</h3><table class="moves"><tbody>{rows}</tbody></table>'
        f"<details{still_open}><summary>What the gate found</summary>{gates}</details>"
    )


def _passed(move: Move) -> str:
    checks = move.decision.checks
    return f"{sum(check.passed for check in checks)} of {len(checks)} checks passed"


def _gate(decision: Decision, told: Refusal | None) -> str:
    if decision.refusal is None:
        return '<span class="chip ok">approved</span>'
    if decision.refusal == told:
        return f'<span class="chip no">refused: {told.code.value}</span>'
    return no(decision.refusal)


def _grip(width_m: float) -> str:
    return f", {1000 * width_m:.0f} mm between the fingers" if math.isfinite(width_m) else ""


def _checks(checks: Sequence[Check]) -> str:
    if not checks:
        return ""
    rows = "".join(
        f"<tr{'' if check.passed else ' class=failed'}><td>{_sign(check.passed)}</td>"
        f"<td>{escape(check.name)}</td><td>{escape(check.found)}</td>"
        f"<td>{escape(check.allowed)}</td></tr>"
        for check in checks
    )
    head = "<th></th><th>Check</th><th>Found</th><th>Allowed</th>"
    return f'<table class="checks"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _sign(passed: bool) -> str:
    mark, text, said = ("ok", "✓", "passed") if passed else ("no", "✕", "failed")
    return f'<span class="sign {mark}" role="img" aria-label="{said}">{text}</span>'


def _stages(move: Move) -> str:
    """Every stage in order: done, where it ended, or never begun."""
    done = 0 if move.outcome is None else move.outcome.stages_done
    items = []
    for i, stage in enumerate(move.motion.stages):
        style = "done" if i < done else "broke" if i == done and move.outcome else "never"
        items.append(
            f'<li class="{style}"><b>{escape(plain(stage.stage.value))}</b> '
            f"<span>{_goal(stage.goal)}</span></li>"
        )
    return f'<ol class="stages">{"".join(items)}</ol>'


def _goal(goal: Goal) -> str:
    match goal:
        case ReachGoal(T_base_tcp=pose, straight=straight):
            return f"to {metres(pose.translation_m)}{', straight' if straight else ''}"
        case FollowGoal(path=path):
            return f"through {len(path)} poses"
        case PostureGoal(name=name):
            return f"posture {escape(name)}"
        case GripGoal(width_m=width_m):
            return f"{1000 * width_m:.0f} mm apart"
        case DriveGoal(distance_m=distance_m):
            return f"{distance_m:+.2f} m".replace("-", "−")
        case SpinGoal(angle_rad=angle_rad):
            return f"{math.degrees(angle_rad):+.0f}°".replace("-", "−")
        case NavigateGoal(T_map_base=pose):
            return f"to {metres(pose.translation_m)}"


def _outcome(outcome: Outcome | None) -> str:
    if outcome is None:
        return '<p class="soft">Nothing moved.</p>'
    mark = "ok" if outcome.cause is Cause.DONE else "no"
    width = ""
    if math.isfinite(outcome.gripper_width_m):
        width = f" · fingers {1000 * outcome.gripper_width_m:.1f} mm apart"
    took = seconds((outcome.end_ns - outcome.start_ns) / 1e9)
    return (
        f'<p><span class="chip {mark}">{outcome.status.value}: {plain(outcome.cause.value)}</span> '
        f'{escape(outcome.text)}</p><p class="soft">{took} of robot\'s time{width}</p>'
    )


# --- afterwards ----------------------------------------------------------------------------------


def _confirmation(confirmation: Confirmation | None) -> str:
    if confirmation is None:
        return ""
    mark, word = ("ok", "confirmed") if confirmation.confirmed else ("no", "not confirmed")
    return (
        f'<h3>A separate look</h3><p><span class="chip {mark}">{word}</span> '
        f"{escape(confirmation.text)}</p>{_checks(confirmation.checks)}"
    )


def _times(turn: TurnRecord) -> str:
    times = turn.times
    named = (("look", times.look_s), ("ask", times.ask_s), ("plan", times.plan_s))
    known = [f"{n} {seconds(s)}" for n, s in (*named, ("gate", times.gate_s)) if math.isfinite(s)]
    return f'<p class="times">Wall time: {" · ".join(known)}</p>' if known else ""
