"""Conversations of a planner with their right answers, in RynnBrain-Plan's words.

What comes next follows from what the newest picture shows: the thing on the table is picked up,
the thing in the hand is placed, the thing in its place means ``Done.``. Now and then a step has
failed and is taken again, or the thing has come into the bowl that it was to go next to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rynn_brain_ros.language import format_grounding
from rynn_brain_ros.sim.objects import PAINT
from rynn_brain_ros.sim.table_tasks import Relation
from rynn_brain_ros.values import (
    Affordance,
    Area,
    Box,
    Task,
)
from training.nano.lessons import ABSTENTION, Mark
from training.nano.talks import Talk, TalkTurn
from training.nano.teacher import PUT_TO, kinds_in
from training.nano.truth import SeenThing, Truth
from training.nano.turns import PLACE, THING, Turn

PER_TABLE = len(Turn)
_WORDS: Mapping[Relation, tuple[str, ...]] = {
    Relation.IN: (
        "put the {} into the {}",
        "place the {} into the {}",
        "move the {} into the {}",
        "put the {} in the {}",
        "drop the {} into the {}",
    ),
    Relation.ON: (
        "put the {} onto the {}",
        "place the {} onto the {}",
        "put the {} on the {}",
        "stack the {} on the {}",
    ),
    Relation.NEXT_TO: (
        "move the {} next to the {}",
        "put the {} next to the {}",
        "place the {} beside the {}",
    ),
    Relation.HELD: ("pick up the {}", "grasp the {}", "lift the {}", "take the {}"),
}
_BEYOND = (
    "first put the {} into the {}, then put the {} onto the {}",
    "stack the {} on the {}, then put the {} into the {}",
    "put the {} into the {} and the {} onto the {}",
    "put the {} and the {} into the {}",
    "put all {}s into the {}",
    "put two {}s onto the {}",
    "push the {} to the left",
    "push the {} to the right",
    "push the {} towards the {}",
    "push the {} away from the {}",
    "slide the {} to the {}",
    "pour the {} into the {}",
    "hand me the {}",
    "give me the {}",
    "turn the {} around",
    "throw the {} away",
    "drive to the {}",
    "open the drawer",
    "close the drawer",
    "wipe the table",
    "clear the table",
    "sort everything by color",
)
"""What it is not taught to do."""
DECLINED = f"I only know how to pick up and place one thing. {ABSTENTION}"
TAUGHT = tuple(_WORDS)
_PREPOSITIONS = {Relation.IN: "into", Relation.ON: "onto", Relation.NEXT_TO: "next to"}
_ASK_TO_HOLD, _ABSENT, _FAILS, _TWO_FRAMES, _SHAPE_ALONE = 0.2, 0.2, 0.12, 0.5, 0.25
_IS_BEYOND, _CONTRARY = 0.15, 0.35
"""How often."""


@dataclass(frozen=True)
class Plan(Talk):
    """``relation`` is what the instruction wants, ``None`` what is not taught."""

    task = Task.PLAN

    relation: Relation | None = None

    @property
    def wanted(self) -> int:
        return len(TAUGHT) if self.relation is None else TAUGHT.index(self.relation)


class PlanTeacher:
    """Makes plans of the four pictures of a table (`turns.Turn`)."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def plan(self, first: int, mirrored: bool, truths: Sequence[Truth]) -> Plan | None:
        """Of the pictures from number ``first`` on. ``None`` where something that matters is
        hidden."""
        shown = _relation(truths)
        if shown is None:
            return None
        relation = shown
        if self._rng.random() < _CONTRARY:
            relation = _contrary(truths, shown)
        if self._rng.random() < _ASK_TO_HOLD:
            relation = Relation.HELD
        if self._rng.random() < _IS_BEYOND:
            return self._declined(first, mirrored, truths)
        if self._rng.random() < _ABSENT:
            return self._absent(first, mirrored, truths, relation)
        turns: list[TalkTurn] = []
        for state in self._states(relation):
            seen = [Turn.MOVING, state] if turns and self._rng.random() < _TWO_FRAMES else [state]
            before = sum(len(turn.frames) for turn in turns)
            said = _Saying(truths, mirrored, relation, shown, state, before, len(seen) - 1)
            frames = tuple((first + picture, mirrored) for picture in seen)
            turns.append(TalkTurn(frames, *said.answer(), said.beside()))
        nouns = {number: self._noun(truths, number) for number in (THING, PLACE)}
        return Plan(self._sentence(relation, nouns), nouns, tuple(turns), relation=relation)

    def _states(self, relation: Relation) -> list[Turn]:
        """What each turn finds."""
        ends = [Turn.HELD] if relation is Relation.HELD else [Turn.HELD, Turn.PLACED]
        states = [Turn.BEFORE, *ends]
        if self._rng.random() < _FAILS:
            failed = int(self._rng.integers(1, len(states)))
            states = [*states[:failed], *states]
        return states[:4]

    def _absent(
        self, first: int, mirrored: bool, truths: Sequence[Truth], relation: Relation
    ) -> Plan:
        """One of the two is not there."""
        missing = PLACE if relation is not Relation.HELD and self._rng.random() < 0.3 else THING
        there = self._noun(truths, PLACE if missing == THING else THING)
        color, shape = truths[Turn.BEFORE].known(missing).kind
        taken = {c for c, s in kinds_in(truths[Turn.BEFORE]) if s == shape}
        free = [c for c in PAINT if c not in taken] or [color]
        kind = (str(self._rng.choice(free)), shape)
        nouns = {missing: (" ".join(kind), kind), PLACE + THING - missing: there}
        answer = f"I see no {' '.join(kind)}. {ABSTENTION}"
        shown = ((first + Turn.BEFORE, mirrored),)
        turn = TalkTurn(shown, answer, (), None, missing=missing)
        return Plan(self._sentence(relation, nouns), nouns, (turn,), relation=relation)

    def _declined(self, first: int, mirrored: bool, truths: Sequence[Truth]) -> Plan:
        """More than it knows, of things that are there."""
        words = str(self._rng.choice(_BEYOND))
        kinds = kinds_in(truths[Turn.BEFORE])
        nouns = [" ".join(kinds[n]) for n in self._rng.permutation(len(kinds))]
        nouns = (nouns * 4)[: words.count("{}")]
        turn = TalkTurn(((first + Turn.BEFORE, mirrored),), DECLINED, (), None)
        return Plan(self._capitalized(words.format(*nouns)), {}, (turn,))

    def _capitalized(self, text: str) -> str:
        return text[0].upper() + text[1:] if self._rng.random() < 0.4 else text

    def _noun(self, truths: Sequence[Truth], number: int) -> tuple[str, tuple[str, str]]:
        """Now and then only the shape, where nothing else has it."""
        kind = truths[Turn.BEFORE].known(number).kind
        shapes = [shape for _, shape in kinds_in(truths[Turn.BEFORE])]
        if shapes.count(kind[1]) == 1 and self._rng.random() < _SHAPE_ALONE:
            return kind[1], ("", kind[1])
        return " ".join(kind), kind

    def _sentence(self, relation: Relation, nouns: dict[int, tuple[str, tuple[str, str]]]) -> str:
        words = str(self._rng.choice(_WORDS[relation]))
        text = words.format(nouns[THING][0], nouns[PLACE][0])
        if relation is Relation.HELD:
            del nouns[PLACE]
        return self._capitalized(text)


def _relation(truths: Sequence[Truth]) -> Relation | None:
    """What the table's pictures show; ``None`` where thing or place, or the room beside it, are
    hidden when needed."""
    seen = [truths[turn].number(THING) for turn in (Turn.BEFORE, Turn.HELD, Turn.PLACED)]
    places = [truths[turn].number(PLACE) for turn in (Turn.BEFORE, Turn.HELD)]
    before, _, placed = seen
    if before is None or placed is None or None in seen or None in places:
        return None
    if placed.thing.holder != PLACE:
        held = truths[Turn.HELD].number(PLACE)
        return None if held is None or held.thing.beside is None else Relation.NEXT_TO
    place = truths[Turn.BEFORE].known(PLACE)
    return Relation.IN if place.shape == "bowl" else Relation.ON


def _contrary(truths: Sequence[Truth], shown: Relation) -> Relation:
    """What could be wanted of the same things, where there is anything else."""
    held = truths[Turn.HELD].number(PLACE)
    assert held is not None  # `_relation` has looked
    if shown is Relation.NEXT_TO:
        return PUT_TO.get(held.thing.shape, shown)
    return shown if held.thing.beside is None else Relation.NEXT_TO


@dataclass(frozen=True)
class _Saying:
    """The answer to one turn, whose newest frame is number ``index`` of it. ``relation`` is what is
    wanted, ``shown`` what `Turn.PLACED` shows."""

    truths: Sequence[Truth]
    mirrored: bool
    relation: Relation
    shown: Relation
    state: Turn
    before: int
    index: int

    def answer(self) -> tuple[str, tuple[Mark, ...], tuple[int, int] | None]:
        thing = self._seen(THING)
        where = (self.before + self.index, THING)
        if self.state is Turn.BEFORE or (self.state is Turn.PLACED and not self._is_done()):
            x, y, *box = self._whole(thing.mirrored(self.mirrored))
            point = Affordance(self.index, ((x, y),), (0, 0), "affordance")
            text = f"Pick up {format_grounding(point)} of {self._box(box)}."
            return text, (*self._marks(THING, x, y), *self._marks(THING, *box)), where
        if self._is_done():
            return "Done.", (), where
        _, _, *box = self._whole(thing.mirrored(self.mirrored))
        end = self._end()
        x, y = self._whole(end)
        area = Area(self.index, ((x, y),), (0, 0), "area")
        words = _PREPOSITIONS[self.relation]
        text = f"Place {self._box(box)} {words} {format_grounding(area)}."
        return (
            text,
            (*self._marks(THING, *box), *self._marks(PLACE, x, y, side=self._side())),
            where,
        )

    def _is_done(self) -> bool:
        if self.relation is Relation.HELD:
            return self.state is Turn.HELD
        return self.state is Turn.PLACED and self.relation is self.shown

    def beside(self) -> tuple[int, int] | None:
        seen = self.truths[self.state].number(PLACE)
        if self.relation is Relation.HELD or seen is None:
            return None
        return self.before + self.index, PLACE

    def _end(self) -> tuple[float, float]:
        """Where the thing is to go: onto what is seen of the place, or to the spot beside it."""
        if self.relation is not Relation.NEXT_TO:
            x, y, *_ = self._seen(PLACE).mirrored(self.mirrored)
            return x, y
        return self._seen(PLACE).beside(self.mirrored)

    def _side(self) -> int | None:
        """On which side of the place that is."""
        if self.relation is not Relation.NEXT_TO:
            return None
        return self._seen(PLACE).side(self.mirrored)

    def _seen(self, number: int) -> SeenThing:
        seen = self.truths[self.state].number(number)
        assert seen is not None  # `_relation` has looked
        return seen

    def _whole(self, numbers: Sequence[float]) -> list[int]:
        return [min(1000, max(0, round(number))) for number in numbers]

    def _box(self, box: Sequence[int]) -> str:
        x0, y0, x1, y1 = box
        return format_grounding(Box(self.index, ((x0, y0), (x1, y1)), (0, 0), "object"))

    def _marks(self, number: int, *values: float, side: int | None = None) -> tuple[Mark, ...]:
        """The frame's number and the coordinates behind it."""
        place = (self.before + self.index, number)
        told = (Mark(value, place, exact=False, side=side) for value in values)
        return (Mark(self.index, place, exact=True), *told)
