"""What an engine may write: the strict half of the grammar, as regular expressions.

The parser reads every spelling; an engine that can choose its tokens is held to this subset, which
the parser always understands. Tags and numbers of points are `grammar`'s, the spellings in between
those of recorded answers (reference rynnbrain.md §3.2): words before the tag, ``:;`` after a frame,
no space between two numbers. Everything is bounded, so that an answer can be ended in time.
"""

from __future__ import annotations

from dataclasses import dataclass

from rynn_brain_ros.language import grammar
from rynn_brain_ros.values import Generation, Query, Task

_TAGS = {
    Task.OBJECT: grammar.OBJECT,
    Task.AREA: grammar.AREA,
    Task.AFFORDANCE: grammar.AFFORDANCE,
    Task.TRAJECTORY: grammar.TRAJECTORY,
    Task.GRASP: grammar.GRASP,
}
_COORDINATE = "(?:0|[1-9][0-9]{0,2}|1000)"
_POINT = rf"\({_COORDINATE}, ?{_COORDINATE}\)"
_NEXT = ", ?"
_ANGLE = r"(?:180|1[0-7][0-9]|[1-9]?[0-9])(?:\.[0-9])?"
_SEPARATOR = "(?: ?[:;,]){0,2} ?"
_MAX_WORDS = 64
_WORDS = rf"[ -;=-~]{{0,{_MAX_WORDS}}}"
"""Printable ASCII without ``<``: "The area is at "."""
_ABSTENTION = "<no object>"
_ANSWER, _ANSWER_ENDS = "<answer>", "</answer>"
_CUT = "\n#### "
_MAX_POINTS = 16
"""Of an area, which the parser does not bound; recorded ones have 5."""
_LONGEST_POINT = len("(1000, 1000), ")
_LONGEST_ANGLE = len("179.9")


@dataclass(frozen=True)
class StrictAnswer:
    """The answers that one question allows: ``words`` and then `answer`.

    ``words`` matches what may stand before; ``None`` for Chain-of-Point, where anything may be
    thought until ``####`` and an ``<answer>``. Words and thoughts that must come to an end are cut
    short by ``cut``. An answer has ``least`` … ``most`` points between ``opening`` and ``closing``,
    unless it is ``instead``, where that is allowed (not empty).
    """

    words: str | None
    cut: str
    opening: str
    closing: str
    least: int
    most: int
    instead: str
    n_around: int
    """Characters that the longest cut, opening and closing have together."""

    def answer(self, most: int | None = None) -> str:
        """With ``most`` points, but at least ``least``; default: as many as are allowed."""
        most = self.most if most is None else max(self.least, min(self.most, most))
        points = rf"{_POINT}(?:{_NEXT}{_POINT}){{{self.least - 1},{most - 1}}}"
        return f"(?:{self.opening}{points}{self.closing}{self.instead and '|' + self.instead})"

    def room(self, n_points: int) -> int:
        """Characters that the longest cut and answer with so many points have, and so the most
        tokens that they can cost."""
        return self.n_around + n_points * _LONGEST_POINT


def strict_answer(query: Query, generation: Generation) -> StrictAnswer | None:
    """The grammar of answers to ``query``; ``None`` where the task's answers are free text."""
    tag = _TAGS.get(query.task)
    if tag is None:
        return None
    n_frames = len(query.frames)
    least, most, numbers = _shape(tag, generation)
    opening = f"<{tag}> {{0,2}}{_frame(n_frames)}"
    closing = f"{(_NEXT + _ANGLE) * numbers} ?</{tag}>"
    instead = _ABSTENTION if query.abstain else ""
    around = f"<{tag}>  <frame {n_frames}> : ;  </{tag}>{' ' * _LONGEST_ANGLE * numbers}"
    if not query.thinking:
        return StrictAnswer(_WORDS, "", opening, closing, least, most, instead, len(around))
    opening, closing = _ANSWER + opening, closing + _ANSWER_ENDS
    instead = instead and f"{_ANSWER}{instead}{_ANSWER_ENDS}"
    around += _CUT + _ANSWER + _ANSWER_ENDS
    return StrictAnswer(None, _CUT, opening, closing, least, most, instead, len(around))


def _shape(tag: str, generation: Generation) -> tuple[int, int, int]:
    """(least points, most points, bare numbers) of what this generation was trained to write."""
    shapes = grammar.SHAPES[tag]
    least, most, numbers = shapes[-1 if generation is Generation.V1_1 else 0]
    return least, int(min(most, _MAX_POINTS)), numbers


def _frame(n_frames: int) -> str:
    """The one that is meant; needless where only one was shown."""
    indices = "|".join(map(str, range(n_frames)))
    frame = f"<frame ?(?:{indices})>{_SEPARATOR}"
    return f"(?:{frame})?" if n_frames == 1 else frame
