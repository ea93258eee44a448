"""From a planner's answer to one typed step of the closed skill set, with all that it needs.

Words inside of pictures, tags and quotations are data: nothing that is read can add a skill.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rynn_brain_ros.planning.sentences import (
    AWAY,
    Order,
    denied,
    left_open,
    quoted,
    read_order,
    said_against,
    unreadable,
)
from rynn_brain_ros.values import (
    Affordance,
    AnyGrounding,
    Area,
    Box,
    ContactPoint,
    FinishReason,
    GraspRectangle,
    LiftedGrounding,
    NoGrounding,
    Reading,
    Refusal,
    RefusalCode,
    Response,
    Skill,
    Step,
    Trajectory,
)

_ABSTENTION = re.compile(r"<\s{0,3}no(?:ne|t found|[ _-][a-z_ ]{1,20})>", re.IGNORECASE)
_PREPOSITION = re.compile(
    r"\b(into|onto|inside|in front of|in|on top of|on|next to|beside|under|below|over|above|behind"
    r"|between|near|against|along|towards?|at|to)\b",
    re.IGNORECASE,
)
_FROM = re.compile(r"\b(?:from|off(?!-)|out\s+of)\b", re.IGNORECASE)
"""Begins where a thing comes from, unless a preposition after it tells where it goes."""


_ALIKE = (
    ("into", "in", "inside"),
    ("onto", "on", "on top of"),
    ("next to", "beside"),
    ("under", "below"),
    ("above", "over"),
    ("to", "towards", "toward"),
)
"""Prepositions that name the same place, the one that is told first."""
_DIRECTION = re.compile(
    r"\b(?:(away\b)|(towards?\s+(?:you|me|us|yourself|the\s+robot)\b|closer\b)"
    r"|(forwards?\b)|(backwards?\b|back\b)"
    r"|(left(?:wards?)?)(?=\W*$|\s+(?:along|to)\b)|(right(?:wards?)?)(?=\W*$|\s+(?:along|to)\b))",
    re.IGNORECASE,
)
_DIRECTIONS = ("away", "closer", "forward", "back", "left", "right")
"""What the groups of `_DIRECTION` mean, in their order."""


_SLOTS: dict[type[AnyGrounding], str] = {
    Affordance: "grasp",
    GraspRectangle: "grasp",
    ContactPoint: "grasp",
    Box: "thing",
    Area: "area",
    Trajectory: "path",
}
_SLOT_WORDS = {
    "grasp": "a grasp point (<affordance>)",
    "thing": "the thing's box (<object>)",
    "area": "a destination (<area>)",
    "path": "a drawn path (<trajectory>)",
}
_NEEDS: dict[Skill, tuple[tuple[str, ...], ...]] = {
    Skill.PICK: (("grasp",), ("thing",)),
    Skill.PLACE: (("area",),),
    Skill.PUSH: (("path",), ("thing", "area")),
    Skill.OPEN: (("grasp",),),
    Skill.CLOSE: (("grasp",),),
    Skill.POUR: (("area",),),
    Skill.HAND_OVER: (("area",), ("thing",)),
    Skill.MOVE_TO: (("area",), ("thing",), ("grasp",)),
    Skill.LOOK_AT: (("thing",), ("area",), ("grasp",), ("path",)),
}
"""Per skill, the sets of slots of which one is needed, the best first; the others are extra."""
_EITHER = frozenset({Skill.PICK, Skill.LOOK_AT})
"""Skills whose slots all mean the same thing: one that can be used stands in for another. To go
to the thing because its area cannot be used would be another order."""
_GOES_THERE = frozenset({Skill.PLACE, Skill.PUSH, Skill.POUR, Skill.MOVE_TO, Skill.LOOK_AT})
"""Skills that are done at the area, where no path is drawn."""
_DRAWN_ONLY = frozenset({"move"})
"""Verbs that are a push only along a drawn path: to "move" a thing may as well be to carry it."""


@dataclass(frozen=True)
class ToldOrder:
    """What the words of an answer order, without where: two that are equal mean the same deed at
    the same places. ``preposition`` is before the area, ``direction`` a push's in words."""

    skill: Skill
    preposition: str = ""
    direction: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.skill.value, self.direction, self.preposition)))


def told_order(reading: Reading) -> ToldOrder | None:
    """``None`` where the words are not plainly one order, which nothing is done for."""
    order = None if reading.done else read_order(reading)
    if order is None or isinstance(order, Refusal) or _led_away(order, reading) is not None:
        return None
    areas = (g for g in reading.groundings if isinstance(g, Area))
    said = _preposition(order, next(areas, None))
    alike = next((words[0] for words in _ALIKE if said in words), said)
    return ToldOrder(order.skill, alike, _direction(order))


def different_orders(expected: Reading, got: Reading) -> tuple[str, str] | None:
    """Both in words, where a robot would not do for one what it would do for the other."""
    a, b = told_order(expected), told_order(got)
    if a == b and expected.done == got.done:
        return None
    return _in_words(expected, a), _in_words(got, b)


def _in_words(reading: Reading, order: ToldOrder | None) -> str:
    if reading.done:
        return Skill.DONE.value
    return "none" if order is None else str(order)


def _direction(order: Order) -> str:
    found = _DIRECTION.search(order.words_after_verb) if order.skill is Skill.PUSH else None
    return "" if found is None or found.lastindex is None else _DIRECTIONS[found.lastindex - 1]


def read_step(response: Response) -> Step | Refusal:
    """The one step that an answer asks for; never raises.

    Refusals: NO_GROUNDING (the planner abstained), UNKNOWN_SKILL (no known verb where the verb
    belongs, or words for what is not to be done), INCOMPLETE_STEP (cut off, parts missing, or more
    than one step), AMBIGUOUS (two things for one part), or the refusal of a part that the skill
    needs.
    """
    reading, cut = response.reading, cut_off(response)
    if cut is not None:
        return cut
    if reading.done:
        return Step(Skill.DONE, reading.answer_text)
    order = _abstained(response) or read_order(reading)
    return order if isinstance(order, Refusal) else _step(response, order)


def read_place(response: Response) -> LiftedGrounding | Refusal:
    """The one place that an answer without an order points at; whether it can be used is not looked
    at. Refused as in a plan (`read_step`): what was cut off, declined, denied, partly unreadable
    (INCOMPLETE_STEP), or points at more than one thing (AMBIGUOUS)."""
    reading = response.reading
    refusal = cut_off(response) or _abstained(response) or denied(reading)
    if refusal is not None:
        return refusal
    said = quoted(reading.answer_text)
    if reading.rejected or not response.lifted:
        text = f"a part of the answer cannot be used: {said}{unreadable(reading)}"
        return Refusal(RefusalCode.INCOMPLETE_STEP, text)
    if len(response.lifted) > 1:
        text = f"{len(response.lifted)} things are pointed at, and one can be gone to: {said}"
        return Refusal(RefusalCode.AMBIGUOUS, text)
    return response.lifted[0]


def cut_off(response: Response) -> Refusal | None:
    """INCOMPLETE_STEP, where the end of the answer is missing."""
    reason = response.answer.finish_reason
    if reason is FinishReason.STOP:
        return None
    text = f"the answer was cut off ({reason.value}): {quoted(response.reading.answer_text)}"
    return Refusal(RefusalCode.INCOMPLETE_STEP, text)


def _abstained(response: Response) -> Refusal | None:
    reading = response.reading
    named = _ABSTENTION.search(reading.answer_text)
    nothing = any(isinstance(g, NoGrounding) for g in reading.groundings)
    if named is None and not nothing:
        return None
    told = (g.refusal.text for g in response.lifted if g.refusal and named is None)
    why = next(told, "there is no step to take")
    return Refusal(RefusalCode.NO_GROUNDING, f"{why}: {quoted(reading.answer_text)}")


def _step(response: Response, order: Order) -> Step | Refusal:
    written = _written(response)
    if isinstance(written, Refusal):
        return written
    away = _led_away(order, response.reading)
    if away is not None:
        return away
    usable = {slot: lifted for slot, lifted in written.items() if _part_refusal(lifted) is None}
    needs = (("path",),) if order.verb.lower() in _DRAWN_ONLY else _NEEDS[order.skill]
    given = [slots for slots in needs if written.keys() >= set(slots)]
    meant = given if order.skill in _EITHER else given[:1]
    if not any(usable.keys() >= set(slots) for slots in meant):
        return _incomplete(response.reading, order.verb, meant or needs, written)
    area = usable.get("area")
    return Step(
        skill=order.skill,
        text=order.text,
        grasp=usable.get("grasp"),
        thing=usable.get("thing"),
        area=area,
        path=usable.get("path"),
        preposition=_preposition(order, area.grounding if area is not None else None),
    )


def _written(response: Response) -> dict[str, LiftedGrounding] | Refusal:
    """What the sentence points at, by slot, usable or not."""
    found: dict[str, LiftedGrounding] = {}
    for lifted in response.lifted:
        slot = _SLOTS.get(type(lifted.grounding))
        if slot is None:
            continue
        if slot in found:
            text = f"{_SLOT_WORDS[slot]} is given twice: {quoted(response.reading.answer_text)}"
            return Refusal(RefusalCode.AMBIGUOUS, text)
        found[slot] = lifted
    return found


def _part_refusal(lifted: LiftedGrounding) -> Refusal | None:
    if lifted.refusal is not None:
        return lifted.refusal
    if lifted.grounding.actionable and lifted.target is not None:
        return None
    flags = ", ".join(sorted(flag.value for flag in lifted.grounding.flags)) or "no place in space"
    return Refusal(RefusalCode.INCOMPLETE, f"it cannot be acted on: {flags}")


def _incomplete(
    reading: Reading,
    verb: str,
    needs: Sequence[tuple[str, ...]],
    written: dict[str, LiftedGrounding],
) -> Refusal:
    """The refusal of a part that was given and is needed, else what is missing."""
    for slot in (slot for slots in needs for slot in slots if slot in written):
        refusal = _part_refusal(written[slot])
        if refusal is not None:
            return Refusal(refusal.code, f"{_SLOT_WORDS[slot]} to {verb}: {refusal.text}")
    wanted = " or ".join(" with ".join(_SLOT_WORDS[slot] for slot in slots) for slots in needs)
    return Refusal(
        RefusalCode.INCOMPLETE_STEP,
        f"{verb!r} needs {wanted}: {quoted(reading.answer_text)}{unreadable(reading)}",
    )


def _preposition(order: Order, area: AnyGrounding | None) -> str:
    """The first one between the area and what stands before it."""
    if area is None:
        return ""
    found = _PREPOSITION.search(order.words_before(area.span[0]))
    return "" if found is None else found[0].lower()


def _led_away(order: Order, reading: Reading) -> Refusal | None:
    """Of an order whose area is where nothing is to go: "push it away from …", "place it off …"."""
    drawn = any(isinstance(g, Trajectory) for g in reading.groundings)
    area = next((g for g in reading.groundings if isinstance(g, Area)), None)
    if area is None or drawn or order.skill not in _GOES_THERE:
        return None
    words = order.words_before(area.span[0])
    said = left_open(words, *AWAY) or left_open(words, _FROM, _PREPOSITION)
    return said_against(said, order.text) if said else None
