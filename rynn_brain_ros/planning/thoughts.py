"""An answer as it is being written, as messages for those who follow it."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence

from rynn_brain_ros import messages
from rynn_brain_ros.language import StreamParser
from rynn_brain_ros.messages import MessageDict
from rynn_brain_ros.values import LiftedGrounding, Query

_PERIOD_S = 0.05
"""Pieces that come faster are told together: a burst of tokens overruns a subscriber's queue."""


class Thoughts:
    """Makes rynn_brain_ros/Thought messages of an answer: its text, groundings as soon as their
    tag closes, and a final one at the `end`. `text` and `grounding` are for `ask`."""

    def __init__(
        self,
        query: Query,
        publish: Callable[[MessageDict], None],
        now_ns: Callable[[], int],
        *,
        elapsed_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._query_id, self._publish, self._now_ns = query.query_id, publish, now_ns
        self._elapsed_s = elapsed_s
        self._told_s = -math.inf
        self._numbers = itertools.count()
        self._parser = StreamParser(len(query.frames), query.task, thinking=query.thinking)
        self._kept = ""
        self._reasoning = self._parser.is_reasoning

    def text(self, piece: str) -> None:
        self._kept += piece
        self._parser.feed(piece)
        turned = self._parser.is_reasoning is not self._reasoning
        if turned or self._elapsed_s() - self._told_s >= _PERIOD_S:
            self._tell()
        self._reasoning = self._parser.is_reasoning

    def grounding(self, lifted: LiftedGrounding, is_reasoning: bool) -> None:
        self._tell([messages.grounding(lifted, self._query_id, is_reasoning)])

    def end(self) -> None:
        self._tell(final=True)

    def _tell(self, groundings: Sequence[MessageDict] = (), final: bool = False) -> None:
        text, self._kept = self._kept, ""
        self._told_s = self._elapsed_s()
        self._publish(
            messages.thought(
                self._query_id,
                next(self._numbers),
                self._now_ns(),
                text=text,
                reasoning=self._reasoning,
                groundings=groundings,
                final=final,
            )
        )
