"""The checks of whether it is a motion's turn: the hand, the actuator, and the people."""

from __future__ import annotations

from rynn_brain_ros.safety.proposal import Finding, Judgement, passed, refused
from rynn_brain_ros.values import (
    RefusalCode,
    Skill,
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


def armed(j: Judgement) -> Finding:
    if j.limits.dry_run or j.situation.armed:
        return passed("armed", "dry run" if j.limits.dry_run else "armed")
    return refused("armed", RefusalCode.NOT_ARMED, "motion is not armed", "armed", "arm it")


def dry_run(j: Judgement) -> Finding:
    if j.limits.dry_run:
        found = "dry run: all else was checked and nothing moves"
        return refused("dry_run", RefusalCode.DRY_RUN, found, "", "set dry_run to false to move")
    return passed("dry_run", "off")


def approval(j: Judgement) -> Finding:
    """A no always counts; a yes is needed where ``require_approval`` says so."""
    said, needed = j.situation.approved, j.limits.require_approval
    allowed = "a person's yes" if needed else "no person's no"
    if said is False:
        return refused("approval", RefusalCode.NOT_APPROVED, "a person said no", allowed)
    if needed and said is not True:
        return refused("approval", RefusalCode.NOT_APPROVED, "nobody said yes yet", allowed)
    return passed("approval", "yes" if said else "not asked", allowed)
