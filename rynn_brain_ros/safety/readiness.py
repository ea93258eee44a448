"""The checks of whether it is a motion's turn: the hand, the actuator, and the people."""

from __future__ import annotations

from rynn_brain_ros.safety.engine_verdict import EngineIdentity, EngineVerdict
from rynn_brain_ros.safety.proposal import Finding, Judgement, passed, refused
from rynn_brain_ros.values import (
    Motion,
    RefusalCode,
    Skill,
    Stage,
    Task,
)

_WITH_FULL_HAND = frozenset({Skill.PLACE, Skill.POUR, Skill.HAND_OVER})


def order(j: Judgement) -> Finding:
    """A place needs something in the hand and a pick nothing, and the hand is as it was seen."""
    skill, holding, held = j.motion.skill, j.situation.holding, j.proposal.held
    state = "full" if holding else "empty"
    needs = {Skill.PICK: False}.get(skill, True if skill in _WITH_FULL_HAND else holding)
    allowed = f"{'a full' if needs else 'an empty'} hand"
    if needs != holding:
        found = f"{skill.value} with a hand that is {state}"
        return refused("order", RefusalCode.OUT_OF_ORDER, found, allowed)
    if held is not None and held != holding:
        found = f"the hand is {state} and was not when the frames were taken"
        return refused("order", RefusalCode.OUT_OF_ORDER, found, "no change", "look again")
    return passed("order", f"{skill.value}, hand {state}", allowed)


def busy(j: Judgement) -> Finding:
    if j.situation.goal_in_flight:
        found = "another goal is in flight"
        return refused("busy", RefusalCode.BUSY, found, "one at a time", "wait or cancel it")
    return passed("busy", "nothing is in flight", "one at a time")


def engine(j: Judgement) -> Finding:
    """The engine that answered has passed its check, with this model in this quantization; where
    its answer is a plan, with plans among the cases."""
    if j.limits.engine_verdict == "not_required" or j.limits.dry_run:
        return passed("engine", "dry run" if j.limits.dry_run else "no verdict is required")
    answered = j.proposal.engine
    if answered is None:
        found = "nobody knows which engine answered"
    else:
        own = sorted((v for v in j.verdicts if v.identity == answered), key=lambda v: v.passed)
        verdict = own[0] if own else None  # one that failed counts more
        if verdict is not None and verdict.passed and _tells(verdict, j):
            return passed("engine", f"{answered}: passed {verdict.cases} cases on {verdict.when}")
        found = _unchecked(answered, verdict, j.verdicts)
    todo = (
        "run rynn-brain check-engine ENGINE --cases FILE, with plans among the cases for an arm, "
        "and name its verdict.json"
    )
    return refused(
        "engine", RefusalCode.ENGINE_UNCHECKED, found, "an engine that passed its check", todo
    )


def _tells(verdict: EngineVerdict, j: Judgement) -> bool:
    """A base's ways cannot be asked of a recording: nothing is said of them."""
    return j.proposal.step is None or Task.PLAN.value in verdict.tasks


def _unchecked(
    answered: EngineIdentity, own: EngineVerdict | None, others: tuple[EngineVerdict, ...]
) -> str:
    """What is wrong with the verdicts, as far as this engine is concerned."""
    if own is not None and own.passed:
        asked = ", ".join(own.tasks) or "nothing"
        return f"{answered} passed its check on {own.when}, asked for {asked} and no plan"
    if own is not None:
        return f"{answered} failed its check on {own.when}: {own.reason}"
    if not others:
        return f"{answered} has no verdict"
    known = "; ".join(str(verdict.identity) for verdict in others)
    return f"{answered} has no verdict: there is one of {known}"


def armed(j: Judgement) -> Finding:
    if j.limits.dry_run or j.situation.armed:
        return passed("armed", "dry run" if j.limits.dry_run else "armed")
    return refused("armed", RefusalCode.NOT_ARMED, "motion is not armed", "armed", "arm it")


def dry_run(j: Judgement) -> Finding:
    if j.limits.dry_run:
        found = "dry run: all else was checked and nothing moves"
        return refused("dry_run", RefusalCode.DRY_RUN, found, "", "set dry_run to false to move")
    return passed("dry_run", "off")


def gives(motion: Motion) -> bool:
    """Whether it opens the hand for a person to take what is in it."""
    opens = any(stage.stage is Stage.RELEASE for stage in motion.stages)
    return motion.skill is Skill.HAND_OVER and opens


def approval(j: Judgement) -> Finding:
    """A no always counts; a yes is needed where ``require_approval`` says so, and wherever a hand
    is opened to hand a thing over: only the person knows whether they hold it."""
    said, needed = j.situation.approved, j.limits.require_approval or gives(j.motion)
    allowed = "a person's yes" if needed else "no person's no"
    if said is False:
        return refused("approval", RefusalCode.NOT_APPROVED, "a person said no", allowed)
    if needed and said is not True:
        return refused("approval", RefusalCode.NOT_APPROVED, "nobody said yes yet", allowed)
    return passed("approval", "yes" if said else "not asked", allowed)
