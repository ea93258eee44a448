"""Conversations of several turns with their right answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from rynn_brain_ros.language import compose
from rynn_brain_ros.values import FrameSet, Message, Query, Task, TextPart, Turn
from training.nano.lessons import GENERATION, NO_PICTURE, Mark, Shot


@dataclass(frozen=True)
class TalkTurn:
    """``place`` is where the thing is: (frame of all that the talk shows, thing's number);
    ``beside`` where that is seen which it is to go into, onto or beside. ``missing`` is the thing
    of which the answer says that it is not there. In an answer ``of_arrows`` each of them is
    decided."""

    frames: tuple[Shot, ...]
    answer: str
    marks: tuple[Mark, ...]
    place: tuple[int, int] | None
    beside: tuple[int, int] | None = None
    missing: int | None = None
    of_arrows: bool = False


@dataclass(frozen=True)
class Talk:
    """``nouns`` with their kinds by the number of their thing; ``older`` is shown before the first
    turn, and it is not told what was done then."""

    task: ClassVar[Task]

    instruction: str
    nouns: Mapping[int, tuple[str, tuple[str, str]]]
    turns: tuple[TalkTurn, ...]
    older: tuple[Shot, ...] = ()

    @property
    def wanted(self) -> int | None:
        """What the instruction wants, of `plans.TAUGHT` and last of all anything else; ``None``
        where that is always the same."""
        return None

    @property
    def frames(self) -> tuple[Shot, ...]:
        """In the order in which they are shown."""
        return (*self.older, *(frame for turn in self.turns for frame in turn.frames))

    def messages(self) -> tuple[Message, ...]:
        """All, with the last answer; pictures are stand-ins."""
        *before, last = self.turns
        past = tuple(Turn(_stand_ins(len(turn.frames)), turn.answer) for turn in before)
        shown = _stand_ins(len(self.older) + len(last.frames))
        query = Query("q", self.task, self.instruction, shown, history=past)
        return (*compose(query, GENERATION), Message("assistant", (TextPart(last.answer),)))


def _stand_ins(count: int) -> FrameSet:
    return FrameSet((NO_PICTURE,) * count, 10240)
