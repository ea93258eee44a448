"""Questions about pictures with their right answers.

A thing is looked for in the newest frame that shows it; a thing that no frame shows is answered by
``<no object>``. Things are counted in the newest frame.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeVar

import numpy as np

from rynn_brain_ros.language import format_grounding
from rynn_brain_ros.sim.objects import PAINT, SHAPES
from rynn_brain_ros.sim.table_tasks import Relation
from rynn_brain_ros.values import (
    Affordance,
    Area,
    Box,
    Count,
    Point2,
    Task,
    Trajectory,
)
from training.nano.lessons import (
    ABSTENTION,
    POINTING,
    Exchange,
    Lesson,
    Manner,
    Mark,
    Named,
    Place,
    format_words,
)
from training.nano.pictures import Seen
from training.nano.truth import SeenThing, Truth
from training.nano.vocabulary import (
    ANY_SHAPE,
    AREA_WORDS,
    BOX_WORDS,
    COLOR_WORDS,
    COUNT_WORDS,
    FURNITURE_WORDS,
    POINT_WORDS,
    SHAPE_WORDS,
    TRAJECTORY_WORDS,
)

T = TypeVar("T")
Kind = tuple[str, str]
"""Colour and shape, "" where it does not matter."""
FIND_AND_BOX: Mapping[Task, float] = {Task.AFFORDANCE: 0.6, Task.OBJECT: 0.4}
EVERYTHING: Mapping[Task, float] = {
    Task.AFFORDANCE: 0.36,
    Task.OBJECT: 0.22,
    Task.AREA: 0.22,
    Task.TRAJECTORY: 0.20,
}
"""How often each is asked for."""
THOUGHTS = tuple(Manner(task, thinking=True) for task in (*EVERYTHING, Task.COUNT))
PUT_TO = {"bowl": Relation.IN, "plate": Relation.ON, "cube": Relation.ON}
"""How something is put to a thing of this shape; next to it, whatever it is."""
_GRIPPABLE = ("cube", "ball", "cylinder")
_NEXT_TO, _NONE = 0.5, 0.15
"""How often a place is next to something, and how often things are counted that are not there."""
_MOST_TOLD = 5
"""So many are found one by one before they are counted."""
RISE = 120
"""How far above its ends the way of a thing is, in 1/1000 of the height: about 10 cm."""
_OTHER_WORDS = SHAPE_WORDS | FURNITURE_WORDS
_TAGS = {Affordance: "affordance", Box: "object", Area: "area"}
_UNSEEN = "I do not see it."


@dataclass(frozen=True)
class _Written:
    """Text with the numbers in it."""

    text: str
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True)
class _Sighting:
    """A thing in frame ``index``; ``flipped``: that is shown mirrored."""

    index: int
    seen: SeenThing
    flipped: bool

    @property
    def place(self) -> Place:
        return self.index, self.seen.thing.number

    def box(self) -> tuple[Point2, Point2]:
        _, _, x0, y0, x1, y1 = self.seen.mirrored(self.flipped)
        return (x0, y0), (x1, y1)

    def point(self) -> Point2:
        x, y, *_ = self.seen.mirrored(self.flipped)
        return x, y

    def spot(self, relation: Relation) -> Point2 | None:
        """The free place beside it, where it is one that is asked for."""
        return self.seen.beside(self.flipped) if relation is Relation.NEXT_TO else None

    def side(self, relation: Relation) -> int | None:
        """On which of its sides that is."""
        return self.seen.side(self.flipped) if relation is Relation.NEXT_TO else None


@dataclass(frozen=True)
class _Missing:
    """What is asked for and in no frame, of one of these shapes: those that could be there, or the
    words alone would tell."""

    shapes: Sequence[str]


class Teacher:
    """Asks about pictures at random; ``shares`` are those of tasks where a lesson has several."""

    def __init__(
        self,
        rng: np.random.Generator,
        shares: Mapping[Task, float] = FIND_AND_BOX,
        shapes: Sequence[str] = SHAPES,
    ) -> None:
        """``shapes`` are those that there may be."""
        self._rng, self._shares, self._shapes = rng, shares, shapes

    def lesson(
        self,
        frames: Sequence[tuple[int, bool]],
        truths: Sequence[Truth],
        n_questions: int,
        p_absent: float = 0.2,
        manner: Manner = POINTING,
    ) -> Lesson:
        """``truths`` are those of ``frames``, not mirrored."""
        asked = []
        for _ in range(n_questions):
            there = self._rng.random() >= p_absent
            about = _About(self._rng, frames, truths, manner, self._shapes)
            asked.append(about.exchange(self._task(manner), there))
        return Lesson(tuple(frames), tuple(asked), manner)

    def _task(self, manner: Manner) -> Task:
        tasks = [task for task in self._shares if manner.asks(task)]
        if manner.thinking or not tasks:
            return manner.task
        bounds = np.cumsum([self._shares[task] for task in tasks])
        return tasks[int(np.searchsorted(bounds, self._rng.random() * bounds[-1], side="right"))]


class _About:
    """One question about some pictures."""

    def __init__(
        self,
        rng: np.random.Generator,
        frames: Sequence[tuple[int, bool]],
        truths: Sequence[Truth],
        manner: Manner,
        shapes: Sequence[str],
    ) -> None:
        self._rng, self._frames, self._truths = rng, frames, truths
        self._shapes = shapes
        self._thinking = manner.thinking
        self._named = manner.thinking or len(frames) > 1

    def exchange(self, task: Task, there: bool) -> Exchange:
        """About something that is ``there``, where anything suitable is."""
        if task is Task.COUNT:
            return self._count()
        if task is Task.AREA:
            return self._area(there)
        if task is Task.TRAJECTORY:
            return self._trajectory(there)
        return self._find(task, there)

    # --- each task ------------------------------------------------------------------------------

    def _find(self, task: Task, there: bool) -> Exchange:
        words = POINT_WORDS if task is Task.AFFORDANCE else BOX_WORDS
        found = self._sighting(lambda _: True) if there else None
        template = self._one_of(words)
        if found is None:
            return self._absent(task, template, [_Missing(self._shapes)])
        if task is Task.AFFORDANCE:
            said = self._told(Affordance, found, [found.point()])
        else:
            said = self._told(Box, found, found.box())
        return self._exchange(task, template, [found], self._thought([found], said))

    def _area(self, there: bool) -> Exchange:
        relation, found = self._destination()
        template = self._one_of(AREA_WORDS[relation])
        if found is None or not there:
            return self._absent(Task.AREA, template, [_Missing(_holding(relation))], relation)
        spot = found.spot(relation)
        said = self._told(Area, found, [spot or found.point()], found.side(relation))
        thought = self._thought([found], said)
        return self._exchange(Task.AREA, template, [found], thought, relation)

    def _trajectory(self, there: bool) -> Exchange:
        relation, end = self._destination()
        start = None if end is None else self._movable(end)
        template = self._one_of(TRAJECTORY_WORDS[relation])
        if start is None or end is None or not there:
            no_start, no_end = _Missing(_GRIPPABLE), _Missing(_holding(relation))
            keeps_end = self._rng.random() < 0.5
            found = [no_start, end or no_end] if keeps_end else [start or no_start, no_end]
            return self._absent(Task.TRAJECTORY, template, found, relation)
        thought = self._thought([start, end], self._way(start, end, relation))
        return self._exchange(Task.TRAJECTORY, template, [start, end], thought, relation)

    def _way(self, start: _Sighting, end: _Sighting, relation: Relation) -> _Written:
        """Up from where the thing is, over to its destination and down."""
        spot = end.spot(relation)
        (x0, y0), (x1, y1) = start.point(), spot or end.point()
        points = ((x0, y0), (x0, y0 - RISE), (x1, y1 - RISE), (x1, y1))
        whole = tuple(_whole(point) for point in points)
        side = end.side(relation)
        told = ((start, None), (start, None), (end, side), (end, side))
        marks = [
            Mark(min(1000.0, max(0.0, value)), of.place, exact=False, side=where)
            for (of, where), point in zip(told, points, strict=True)
            for value in point
        ]
        way = Trajectory(start.index, whole, (0, 0), "trajectory")
        text = format_grounding(way, with_frame=self._named)
        return _Written(text, (*self._frame_mark(start), *marks))

    def _count(self) -> Exchange:
        """Of one colour, one shape, or both; every number that there is alike."""
        index = len(self._frames) - 1
        truth, flipped = self._truths[index], self._frames[index][1]
        counts = _counts(truth)
        most = _MOST_TOLD if self._thinking else len(truth.seen)
        there = sorted({n for n in counts.values() if n <= most})
        if there and self._rng.random() > _NONE:
            wanted = self._one_of(there)
            kinds = [kind for kind, n in counts.items() if n == wanted]
        else:
            kinds = _not_in(truth)
        kind = self._one_of(kinds)
        found = [_Sighting(index, seen, flipped) for seen in truth.seen if _is_of(seen.kind, kind)]
        found.sort(key=lambda each: each.box())
        said = _Written(str(len(found)), (Mark(len(found), None, exact=True),))
        if self._thinking:
            count = format_grounding(Count(None, (), (0, 0), "counting", count=len(found)))
            said = self._thought(found, _Written(count, said.marks))
        color, shape = kind
        noun = " ".join(word for word in (color, f"{shape or 'thing'}s") if word)
        template = self._one_of(COUNT_WORDS)
        named = Named(template.index("{}") + len(noun), kind, tuple(each.place for each in found))
        return self._asked(Task.COUNT, template.format(noun), [named], said, None)

    def _absent(
        self,
        task: Task,
        template: str,
        found: Sequence[_Sighting | _Missing],
        relation: Relation | None = None,
    ) -> Exchange:
        said = self._thought([], _Written(ABSTENTION))
        return self._exchange(task, template, found, said, relation)

    def _exchange(
        self,
        task: Task,
        template: str,
        found: Sequence[_Sighting | _Missing],
        said: _Written,
        relation: Relation | None = None,
    ) -> Exchange:
        """``found`` are what the nouns of ``template`` name."""
        before, *rest = template.split("{}")
        text, nouns = before, []
        for each, words in zip(found, rest, strict=True):
            places: tuple[Place, ...] = ()
            if isinstance(each, _Missing):
                noun, kind = self._absent_noun(each.shapes)
            else:
                (noun, kind), places = self._noun(each), (each.place,)
            text += noun
            nouns.append(Named(len(text), kind, places))
            text += words
        return self._asked(task, text, nouns, said, relation)

    def _asked(
        self,
        task: Task,
        instruction: str,
        nouns: Sequence[Named],
        said: _Written,
        relation: Relation | None,
    ) -> Exchange:
        abstain = task is not Task.COUNT and bool(self._rng.random() < 0.5)
        rest = format_words(task, instruction, len(self._frames), abstain, self._thinking)
        return Exchange(
            task, abstain, instruction, tuple(nouns), rest, said.text, said.marks, relation
        )

    # --- what is told ---------------------------------------------------------------------------

    def _told(
        self,
        form: type[Affordance] | type[Box] | type[Area],
        found: _Sighting,
        points: Sequence[Point2],
        side: int | None = None,
    ) -> _Written:
        whole = tuple(_whole(point) for point in points)
        grounding = form(found.index, whole, (0, 0), _TAGS[form])
        numbers = (value for point in points for value in point)
        marks = (Mark(value, found.place, exact=False, side=side) for value in numbers)
        text = format_grounding(grounding, with_frame=self._named)
        return _Written(text, (*self._frame_mark(found), *marks))

    def _frame_mark(self, found: _Sighting) -> tuple[Mark, ...]:
        return (Mark(found.index, found.place, exact=True),) if self._named else ()

    def _thought(self, found: Sequence[_Sighting], said: _Written) -> _Written:
        """``said``, after a look at all that it depends on where it is to be thought about."""
        if not self._thinking:
            return said
        boxes = [self._told(Box, each, each.box()) for each in found]
        seen = f"I see {', '.join(box.text for box in boxes)}." if boxes else _UNSEEN
        marks = [mark for box in boxes for mark in box.marks]
        text = f"<think>{seen}</think>#### <answer>{said.text}</answer>"
        return _Written(text, (*marks, *said.marks))

    # --- what is asked about --------------------------------------------------------------------

    def _sighting(self, fits: Callable[[SeenThing], bool]) -> _Sighting | None:
        """Any thing of its kind alone in the newest frame that shows one; of any frame alike."""
        for index in map(int, self._rng.permutation(len(self._truths))):
            found = [seen for seen in self._alone(index) if fits(seen)]
            if found:
                return _Sighting(index, self._one_of(found), self._frames[index][1])
        return None

    def _alone(self, index: int) -> list[SeenThing]:
        """In a frame, and not later."""
        later = {kind for truth in self._truths[index + 1 :] for kind in kinds_in(truth)}
        here = Counter(kinds_in(self._truths[index]))
        seen = self._truths[index].seen
        return [each for each in seen if each.kind not in later and here[each.kind] == 1]

    def _destination(self) -> tuple[Relation, _Sighting | None]:
        """What something can be put into or onto, or next to."""
        if self._rng.random() >= _NEXT_TO:
            relation = self._one_of((Relation.IN, Relation.ON))
            shapes = _holding(relation)
            found = self._sighting(lambda s: s.thing.shape in shapes and self._is_free(s))
            if found is not None:
                return relation, found
        return Relation.NEXT_TO, self._sighting(lambda seen: seen.thing.beside is not None)

    def _is_free(self, seen: SeenThing) -> bool:
        """Does it stand on the table, with room? In a bowl or on a plate there always is."""
        if seen.thing.shape != "cube":
            return seen.thing.holder == 0
        things = (thing for truth in self._truths for thing in things_in(truth))
        return seen.thing.holder == 0 and all(t.holder != seen.thing.number for t in things)

    def _movable(self, end: _Sighting) -> _Sighting | None:
        """Something else in the same frame, which is not there already."""
        goal = end.seen.thing
        found = [
            seen
            for seen in self._alone(end.index)
            if seen is not end.seen
            and seen.thing.shape in _GRIPPABLE
            and seen.thing.holder != goal.number
            and goal.holder != seen.thing.number
        ]
        if not found:
            return None
        return _Sighting(end.index, self._one_of(found), end.flipped)

    # --- nouns ----------------------------------------------------------------------------------

    def _noun(self, found: _Sighting) -> tuple[str, Kind]:
        """Its colour and shape; where one alone says it, now and then only that."""
        color, shape = found.seen.kind
        others = [kind for truth in self._truths[found.index :] for kind in kinds_in(truth)]
        others.remove((color, shape))
        draw = self._rng.random()
        if draw < 0.1 and all(shape != other for _, other in others):
            return self._said(_OTHER_WORDS, shape), ("", shape)
        if draw > 0.9 and all(color != other for other, _ in others):
            return f"{self._said(COLOR_WORDS, color)} {self._one_of(ANY_SHAPE)}", (color, "")
        return self._full(color, shape)

    def _full(self, color: str, shape: str) -> tuple[str, Kind]:
        noun = f"{self._said(COLOR_WORDS, color)} {self._said(_OTHER_WORDS, shape)}"
        return noun, (color, shape)

    def _said(self, synonyms: Mapping[str, tuple[str, ...]], word: str) -> str:
        others = synonyms.get(word, ())
        return self._one_of(others) if others and self._rng.random() < 0.15 else word

    def _absent_noun(self, shapes: Sequence[str]) -> tuple[str, Kind]:
        """Nothing like it is in any frame; mostly its colour or its shape is."""
        there = {kind for truth in self._truths for kind in kinds_in(truth)}
        free = [kind for kind in product(PAINT, shapes) if kind not in there]
        if not free:  # one of each is there
            return self._absent_noun(self._shapes)
        colors, forms = {c for c, _ in there}, {s for _, s in there}
        near = [(c, s) for c, s in free if c in colors or s in forms]
        return self._full(*self._one_of(near if near and self._rng.random() < 0.75 else free))

    def _one_of(self, choices: Sequence[T]) -> T:
        return choices[int(self._rng.integers(len(choices)))]


def kinds_in(truth: Truth) -> list[Kind]:
    """Colours and shapes of everything in the scene, hidden things too."""
    return [thing.kind for thing in things_in(truth)]


def things_in(truth: Truth) -> tuple[Seen, ...]:
    return (*(seen.thing for seen in truth.seen), *truth.hidden)


def _holding(relation: Relation) -> tuple[str, ...]:
    """The shapes that something can be put to in this way."""
    if relation is Relation.NEXT_TO:
        return SHAPES
    return tuple(shape for shape, way in PUT_TO.items() if way is relation)


def _is_of(kind: Kind, wanted: Kind) -> bool:
    return all(not want or want == own for own, want in zip(kind, wanted, strict=True))


def _counts(truth: Truth) -> dict[Kind, int]:
    """How many are seen of each kind of which nothing is hidden or in the hand."""
    unclear = [thing.kind for thing in truth.hidden]
    unclear += [seen.kind for seen in truth.seen if seen.thing.holder < 0]
    counts: Counter[Kind] = Counter()
    for seen in truth.seen:
        color, shape = seen.kind
        counts.update([(color, shape), (color, ""), ("", shape)])
    clear = (kind for kind in counts if not any(_is_of(other, kind) for other in unclear))
    return {kind: counts[kind] for kind in sorted(clear)}


def _not_in(truth: Truth) -> list[Kind]:
    there = kinds_in(truth)
    kinds = [*product(PAINT, SHAPES), *((color, "") for color in PAINT), *(("", s) for s in SHAPES)]
    return [kind for kind in kinds if not any(_is_of(other, kind) for other in there)]


def _whole(point: Point2) -> tuple[int, int]:
    x, y = (min(1000, max(0, round(value))) for value in point)
    return x, y
