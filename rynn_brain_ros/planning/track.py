"""The way so far, as a navigation model is told it: views, and what was driven from each.

As in the authors' evaluation: 32 recent steps by fours with their arrows, and at most 8 older
views without.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from rynn_brain_ros.memory.selection import VISUAL_TOKENS
from rynn_brain_ros.values import FrameSet, SelectedFrame, Turn

_RECENT_TURNS = 8
_OLDER_FRAMES = 8


@dataclass(frozen=True)
class _Chunk:
    view: SelectedFrame
    driven: str
    refused: str

    @property
    def turn(self) -> Turn:
        return Turn(FrameSet((self.view,), VISUAL_TOKENS), self.driven, self.refused)


class Track:
    """Pairs of a view and what was driven from it stay exact, also where it was not all that was
    said."""

    def __init__(self) -> None:
        self._chunks: list[_Chunk] = []
        self._older: list[SelectedFrame] = []

    @property
    def history(self) -> tuple[Turn, ...]:
        return tuple(chunk.turn for chunk in self._chunks[-_RECENT_TURNS:])

    def frames(self, current: SelectedFrame) -> FrameSet:
        """A few old views, oldest first, and the one now."""
        every = max(1, math.ceil(len(self._older) / _OLDER_FRAMES))
        shown = (*self._older[::every], current)
        return FrameSet(shown, VISUAL_TOKENS // len(shown))

    def add(self, view: SelectedFrame, said: str, driven: str, why: str) -> None:
        """``driven`` is how ``said`` begins; ``why`` says what became of the rest. What was refused
        is told with its reason: without it the next answer would be the same."""
        rest = said.removeprefix(driven)
        refused = f"{rest}: {why}" if rest and why else ""
        if not driven and not refused:
            return
        self._chunks.append(_Chunk(view, driven, refused))
        left = self._chunks[-_RECENT_TURNS - 1 : -_RECENT_TURNS]
        self._older += [chunk.view for chunk in left if chunk.driven]
