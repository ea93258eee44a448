"""How well nano drives: one answer of each held-out drive, asked as the brain asks.

The way so far is the true one, so that every answer is judged by itself. Arrows that are driven
one after the other where they lead are `rynn-brain evaluate --world room`'s business.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from rynn_brain_ros.values import Engine, FrameSet, Query, Task, Turn
from training.nano.judging import as_frame, share
from training.nano.rooms import PER_DRIVE, room_pictures
from training.nano.routes import RouteTeacher
from training.nano.truth import truth_of

_STOP = "STOP"


@dataclass(frozen=True)
class AskedWay:
    """A question with the right answer."""

    query: Query
    answer: str

    @property
    def declines(self) -> bool:
        """Nothing of that name is anywhere around."""
        return self.answer.startswith("I ")


def held_out_ways(seed: int, count: int) -> Iterator[AskedWay]:
    """``count`` questions on fresh drives."""
    pictures, teacher = room_pictures(seed), RouteTeacher(np.random.default_rng((seed, 1)))
    for _ in range(count):
        some = list(islice(pictures, PER_DRIVE))
        truths = [truth_of(picture.numbers(), picture.things) for picture in some]
        route = teacher.route(0, truths)
        shown = {n: as_frame(some[n], n) for n, _ in route.frames}
        *past, now = route.turns
        history = tuple(Turn(FrameSet((shown[t.frames[0][0]],), 1024), t.answer) for t in past)
        frames = tuple(shown[n] for n, _ in (*route.older, *now.frames))
        query = Query(
            *("q", Task.NAVIGATE, route.instruction, FrameSet(frames, 10240)), history=history
        )
        yield AskedWay(query, now.answer)


def evaluate_routes(engine: Engine, seed: int, count: int) -> dict[str, float]:
    """Shares of right answers: their first arrow, all of it, STOP where it is right and nowhere
    else, and that the thing is not there."""
    asked = list(held_out_ways(seed, count))
    pairs = [(each, engine.ask(each.query).text) for each in asked]
    return {
        "ways": len(pairs),
        "first_right": share(text[:1] == each.answer[:1] for each, text in pairs),
        "all_right": share(text == each.answer for each, text in pairs),
        "stop_right": share(text == _STOP for each, text in pairs if each.answer == _STOP),
        "stop_wrong": share(text == _STOP for each, text in pairs if each.answer != _STOP),
        "declined_right": share(text == each.answer for each, text in pairs if each.declines),
        "declined_wrong": share(text[:2] == "I " for each, text in pairs if not each.declines),
    }
