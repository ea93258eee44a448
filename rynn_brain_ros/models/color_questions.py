"""What a question to the ``color-baseline`` engine is about, word for word.

A wrong thing pointed at is worse than none. So every word has to be one that is known where it
stands: before the thing, after it or, of two things, between them. Orders are read as the planning
turns read them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from rynn_brain_ros.models.color_words import (
    ARTICLES,
    COLORS,
    EITHER,
    GIVE,
    PUSH,
    PUT,
    SHAPES,
    TAKE,
    NotUnderstood,
    Noun,
    Order,
    Relation,
    noun_at,
    read_orders,
    words_of,
)
from rynn_brain_ros.values import Task

_IDLE = re.compile(
    r"\b(?:(?:on|off|from) the table|in the (?:picture|image|frame|scene|view|room)|in view"
    r"|bounding box(?:es)?|can(?= (?:i|we|be)\b))\b",
    re.IGNORECASE,
)
"""What leaves nothing out, and the can that is no thing."""
_ASKING = frozenset(
    {"where", "where's", "what", "what's", "which", "how", "is", "are", "was", "do", "does", "i"}
    | {"we", "you", "should", "there", "there's", "see", "me", "at", "to", "for", "up", "over"}
    | {"find", "locate", "show", "point", "detect", "mark", "identify", "look", "search", "any"}
    | {"describe", "tell"}
)
_GOING = {"go", "drive", "walk", "navigate", "approach", "move"}
_DOING = frozenset({*TAKE, *PUT, *PUSH, *GIVE, "grip", "hold", "touch", "reach", "pour"} | _GOING)
_BEFORE = {
    Task.NAVIGATE: _GOING,
    Task.AREA: {*TAKE, "free", "empty", "space", "room", "spot", "area"}
    | {"on", "onto", "in", "into", "inside", "top"},
    Task.TRAJECTORY: {*_DOING, "from", "draw", "path", "trajectory", "way"},
    Task.COUNT: {*_DOING, "many", "count", "number", "all"},
}
_WAYS_TO = frozenset({"to", "towards", "toward", "onto", "into", "on", "in", "inside", "top"})
_JOINING = frozenset({"and", "or"})
_AFTER = frozenset(
    {"is", "are", "was", "do", "you", "i", "we", "see", "there", "here", "now", "be", "found", "up"}
    | {"located", "lie", "lies", "stand", "stands", "visible", "over"}
)
_RELATIONS = frozenset(
    {"that", "not", "no", "never", "without", "except", "but", "other", "than", "instead", "don't"}
    | {"left", "right", "behind", "front", "between", "near", "nearest", "close", "closest", "far"}
    | {"above", "below", "under", "over", "beside", "next", "by", "with", "from", "away", "off"}
    | {"in", "on", "inside", "onto", "into", "outside", "top", "to", "all", "every", "each", "both"}
)
"""Words whose sense is known and cannot be seen in a patch of colour."""


def read_question(instruction: str, task: Task) -> tuple[Noun, ...] | NotUnderstood:
    """The thing that is asked for or to be gone to, of a trajectory and an order also those after
    it."""
    orders = read_orders(instruction)
    if not isinstance(orders, NotUnderstood):
        return _ordered(orders, task)
    words = words_of(_IDLE.sub(" ", instruction))
    things = _things(words)
    wrong = _misplaced(words, things, task)
    if wrong:
        return _not_understood(words, wrong)
    named = tuple(noun for noun, _, _ in things)
    if len(named) > (2 if task is Task.TRAJECTORY else 1):
        listed = " and ".join(f"the {noun}" for noun in named)
        return NotUnderstood(f"I look for one thing at a time, and this names {listed}.")
    return _plain(named)


def _ordered(orders: Sequence[Order], task: Task) -> tuple[Noun, ...] | NotUnderstood:
    if task is Task.NAVIGATE:
        return NotUnderstood("I go to a thing, and do nothing with it.")
    first = orders[0]
    reference = () if first.reference is None else (first.reference.noun,)
    if task is Task.AREA and first.relation is not Relation.HELD:
        if first.relation in (Relation.IN, Relation.ON, Relation.POURED):
            return _plain(reference)
        return NotUnderstood(f"I know no area for {first.preposition or 'this'!r}.")
    return _plain((*(phrase.noun for phrase in first.things), *reference))


def _plain(named: tuple[Noun, ...]) -> tuple[Noun, ...] | NotUnderstood:
    if named and (named[0].color or named[0].shape):
        return tuple(noun for noun in named if noun.color or noun.shape)
    return NotUnderstood(f"{_KNOWN}, and the question names none of them.")


def _things(words: Sequence[str]) -> list[tuple[Noun, int, int]]:
    """Each thing that is named, with where its words begin and end."""
    found, at = [], 0
    while at < len(words):
        noun, end = noun_at(words, at)
        if noun is not None:
            found.append((noun, at, end))
        at = max(end, at + 1)
    return found


def _misplaced(
    words: Sequence[str], things: Sequence[tuple[Noun, int, int]], task: Task
) -> list[int]:
    """Which words are not known where they stand."""
    first, last = (things[0][1], things[-1][2]) if things else (len(words), len(words))
    named = {at for _, start, end in things for at in range(start, end)}
    before = ARTICLES | _ASKING | set(EITHER) | _BEFORE.get(task, _DOING)
    between = ARTICLES | (_WAYS_TO if task is Task.TRAJECTORY else _JOINING)
    places = {at: before if at < first else between for at in range(last)}
    return [
        at
        for at, word in enumerate(words)
        if at not in named and word[0].isalnum() and word not in places.get(at, _AFTER)
    ]


def _not_understood(words: Sequence[str], wrong: Sequence[int]) -> NotUnderstood:
    known = _RELATIONS | _ASKING | _DOING | _AFTER | _JOINING | ARTICLES | set(EITHER)
    known |= {word for more in _BEFORE.values() for word in more}
    strange = [words[at] for at in wrong if words[at] not in known]
    if strange:
        return NotUnderstood(f"{_KNOWN}, not {_listed(strange)}.")
    told = _listed(_with_of(words, at) for at in wrong)
    return NotUnderstood(f"I do not understand {told} here: I find things by colour and shape.")


def _with_of(words: Sequence[str], at: int) -> str:
    """ "left of", not "left"."""
    more = words[at + 1 : at + 2]
    return f"{words[at]} of" if tuple(more) == ("of",) else words[at]


def _listed(words: Iterable[str]) -> str:
    return ", ".join(repr(word) for word in dict.fromkeys(words))


_KNOWN = f"I only know colours ({', '.join(COLORS)}) and simple shapes ({', '.join(SHAPES)})"
