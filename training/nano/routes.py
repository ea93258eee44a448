"""Conversations of a driving base with their right answers, in RynnBrain-Nav's words.

It looks around for what it is to go to, says so where that is nowhere, and else drives there by
arrows up to ``STOP``. Left and right are not the same here: pictures are never mirrored.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rynn_brain_ros.values import Task
from training.nano.lessons import ABSTENTION
from training.nano.rooms import ENDS, TARGET
from training.nano.talks import Talk, TalkTurn
from training.nano.truth import Truth
from training.nano.vocabulary import FURNITURE_WORDS

_WORDS = ("go to the {}", "drive to the {}", "move to the {}", "go over to the {}", "find the {}")
_OTHER_WORD, _KIND_ALONE, _FORGETS = 0.15, 0.1, 0.3
"""How often a thing is called by another word and by its kind alone, and how often of the first
views only the pictures are left."""
_MOST_OLDER = 3


class Route(Talk):
    """Its older views are some of the way so far."""

    task = Task.NAVIGATE


class RouteTeacher:
    """Makes routes of the pictures of a drive (`rooms.room_pictures`)."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def route(self, first: int, truths: Sequence[Truth]) -> Route:
        """Of the pictures from number ``first`` on: one drive to its end, or a part of it."""
        ways = [truth.known(TARGET).way for truth in truths]
        last = int(self._rng.integers(len(ways)))
        begin = max((n + 1 for n in range(last) if ways[n] in ENDS), default=0)
        shown = range(begin, last + 1)
        noun, kind = self._noun(truths)
        turns: list[TalkTurn] = []
        for number in shown:
            sights = [n for n in shown if n <= number and truths[n].number(TARGET) is not None]
            place = (sights[-1] - begin, TARGET) if sights else None
            answer = ways[number] or f"I see no {noun}. {ABSTENTION}"
            missing = None if ways[number] else TARGET
            shot, of_arrows = (first + number, False), missing is None
            turns.append(TalkTurn((shot,), answer, (), place, missing=missing, of_arrows=of_arrows))
        n_older = self._forgotten(len(turns))
        older = tuple(frame for turn in turns[:n_older] for frame in turn.frames)
        text = str(self._rng.choice(_WORDS)).format(noun)
        return Route(text, {TARGET: (noun, kind)}, tuple(turns[n_older:]), older)

    def _forgotten(self, n_turns: int) -> int:
        if n_turns < 2 or self._rng.random() > _FORGETS:
            return 0
        return int(self._rng.integers(1, min(n_turns, _MOST_OLDER + 1)))

    def _noun(self, truths: Sequence[Truth]) -> tuple[str, tuple[str, str]]:
        color, kind = truths[0].known(TARGET).kind
        words = FURNITURE_WORDS.get(kind, ())
        other = bool(words) and self._rng.random() < _OTHER_WORD
        word = str(self._rng.choice(words)) if other else kind
        kinds = [thing.shape for thing in (*(s.thing for s in truths[0].seen), *truths[0].hidden)]
        if kinds.count(kind) == 1 and self._rng.random() < _KIND_ALONE:
            return word, ("", kind)
        return f"{color} {word}", (color, kind)
