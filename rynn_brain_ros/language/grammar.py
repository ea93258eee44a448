"""The grammar of RynnBrain's answers: tags, frames, points, and the scanner that finds them.

Every regular expression here is bounded or a run of single characters, so that reading stays
linear in the text whatever it holds: answers come from a model, and prompts from pictures.

Source: reference rynnbrain.md §3.1 (EBNF) and §3.2 (spellings that models really wrote).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from rynn_brain_ros.values import Point2

OBJECT, AREA, AFFORDANCE, TRAJECTORY = "object", "area", "affordance", "trajectory"
GRASP, COUNTING, BOX_3D = "grasp pose", "counting", "3D Grounding"

_CANONICAL = {
    "object": OBJECT,
    "bbox": OBJECT,
    "segment": OBJECT,
    "area": AREA,
    "affordance": AFFORDANCE,
    "trajectory": TRAJECTORY,
    "traj": TRAJECTORY,
    "grasp pose": GRASP,
    "counting": COUNTING,
    "count": COUNTING,
    "3d grounding": BOX_3D,
}
JSON_TAGS = {
    "bbox": OBJECT,
    "trajectory": TRAJECTORY,
    "point": AFFORDANCE,
    "polygon": AREA,
    "box_3d": BOX_3D,
    "bbox_3d": BOX_3D,
}
"""Keys of the 1.1 JSON protocol (§2.2) and of its 3D fallback (§2.4)."""

_MAX_WAYPOINTS = 10
SHAPES: dict[str, tuple[tuple[int, float, int], ...]] = {
    OBJECT: ((2, 2, 0),),
    AREA: ((1, math.inf, 0),),
    AFFORDANCE: ((1, 1, 0),),
    TRAJECTORY: ((1, _MAX_WAYPOINTS, 0),),
    GRASP: ((4, 4, 0), (1, 1, 1)),
    COUNTING: ((0, 0, 1),),
    BOX_3D: ((0, 0, 9),),
}
"""Per tag, the legal (least points, most points, bare numbers). Of the two grasps the first is
generation 1.0's, the second 1.1's."""

ACTION_SYMBOLS = {"FORWARD": "↑", "LEFT": "←", "RIGHT": "→", "STOP": "STOP"}

# Twelve digits before the point are far beyond any coordinate, and keep arithmetic finite.
MAX_DIGITS = 12
# The longest answer that a budget allows holds a few hundred tags. More is no answer, and is
# rejected whole instead of being read at length.
MAX_TAGS = 5000
NUMBER = rf"[+-]?[0-9]{{1,{MAX_DIGITS}}}(?:\.[0-9]{{1,24}})?(?![0-9])"
_COMMA = r"\s{0,9},\s{0,9}"

TOKEN = re.compile(
    r"<\s{0,3}(/?)\s{0,3}"
    r"(object|bbox|segment|area|affordance|trajectory|traj|grasp[ _]pose|counting|count"
    r"|3d[ _]grounding|think|answer)\s{0,3}>|####",
    re.IGNORECASE | re.ASCII,
)
FRAME = re.compile(r"<\s{0,3}frame[ _]{0,3}([0-9]{1,64})\s{0,3}>", re.IGNORECASE | re.ASCII)
NUMBER_LIST = re.compile(rf"[(\[]\s{{0,9}}{NUMBER}(?:{_COMMA}{NUMBER})+\s{{0,9}}[)\]]")
NINE_NUMBERS = re.compile(rf"<\s{{0,9}}{NUMBER}(?:{_COMMA}{NUMBER}){{8}}\s{{0,9}}>")

_POINT = re.compile(rf"[(\[]\s{{0,9}}({NUMBER}){_COMMA}({NUMBER})\s{{0,9}}[)\]]")
_NUMBER = re.compile(NUMBER)
# A full stop before a digit is a decimal point: skipping it would read ".5" as 5.
_SEPARATOR = re.compile(r"(?:[\s:;,]|\.(?![0-9]))*")
_LONGEST_TOKEN = 32
_PARTIAL_TOKEN = re.compile(rf"(?:<[^<>]{{0,{_LONGEST_TOKEN}}}|#{{1,3}})\Z")
_SENTENCE_END = re.compile(r"[.!?](?=\s)|\n")


def number(text: str) -> float:
    """An ``int`` where the model wrote one, else a ``float``."""
    return float(text) if "." in text else int(text)


# --- what a tag holds ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Payload:
    """The content of one tag. ``rest`` is what could not be read, stripped."""

    frame: int | None
    points: tuple[Point2, ...]
    numbers: tuple[float, ...]
    rest: str


def read_payload(text: str) -> Payload:
    """Read ``[frame] [separators] points [numbers]`` from left to right, never going back.

    One pair of brackets around the whole is tolerated: prompts ask for "a list of tuples".
    """
    position = _skip(text, 0)
    frame = FRAME.match(text, position)
    if frame is not None:
        position = _skip(text, frame.end())
    wrapped = text[position : position + 1] in ("(", "[") and not _POINT.match(text, position)
    if wrapped:
        position = _skip(text, position + 1)
    points: list[Point2] = []
    while (point := _POINT.match(text, position)) is not None:
        points.append((number(point[1]), number(point[2])))
        position = _skip(text, point.end())
    numbers: list[float] = []
    while (found := _NUMBER.match(text, position)) is not None:
        numbers.append(number(found[0]))
        position = _skip(text, found.end())
    if wrapped and text[position : position + 1] in (")", "]"):
        position = _skip(text, position + 1)
    index = None if frame is None else int(frame[1])
    return Payload(index, tuple(points), tuple(numbers), text[position:].strip())


def _skip(text: str, position: int) -> int:
    found = _SEPARATOR.match(text, position)
    return position if found is None else found.end()


# --- where the tags are --------------------------------------------------------------------------


class Ending(Enum):
    """How a tag ended."""

    CLOSED = "closed"
    ANSWER = "answer"
    """`</answer>` came instead of the closing tag."""
    TEXT = "text"
    """The text ended."""
    BROKEN = "broken"
    """Another tag came in between."""


# Named tuples, not dataclasses: hostile answers make a hundred thousand of them.
class Item(NamedTuple):
    """One opened tag: its canonical spelling, its place, what is in it, the words before it."""

    tag: str
    start: int
    end: int
    text: str
    payload: str
    label: str
    ending: Ending


class Mark(NamedTuple):
    """A boundary of the reasoning or of the answer: ``think``, ``/think``, …, ``####``."""

    name: str
    start: int
    end: int


class _Open(NamedTuple):
    tag: str
    start: int
    written: str
    label: str


class Scanner:
    """Finds items and marks in a text that may arrive in pieces of any size.

    Only what could be the beginning of a tag is looked at twice, and the text since the last tag
    is joined once, when the next one comes: the work is linear in the text for any split.
    """

    def __init__(self) -> None:
        self._tail = ""
        self._tail_start = 0
        self._since: list[str] = []
        self._open: _Open | None = None
        self._tags = 0

    @property
    def flooded(self) -> bool:
        """More than `MAX_TAGS` tags: the scanner has stopped looking."""
        return self._tags > MAX_TAGS

    def feed(self, piece: str) -> list[Item | Mark]:
        """Items and marks that ``piece`` completes, in order."""
        return self._advance(self._tail + piece, final=False)

    def end(self) -> list[Item | Mark]:
        """What the end of the text completes: at most one item without a closing tag."""
        found = self._advance(self._tail, final=True)
        if self._open is not None:
            payload = "".join(self._since)
            found.append(self._close(payload, "", self._tail_start, Ending.TEXT))
        return found

    def _advance(self, text: str, *, final: bool) -> list[Item | Mark]:
        found: list[Item | Mark] = []
        cursor = 0
        for token in () if self.flooded else TOKEN.finditer(text):
            self._tags += 1
            if self.flooded:
                break
            since = text[cursor : token.start()]
            if self._since:
                since = "".join([*self._since, since])
                self._since.clear()
            self._take(token, since, found)
            cursor = token.end()
        partial = _PARTIAL_TOKEN.search(text, max(cursor, len(text) - _LONGEST_TOKEN - 1))
        hold = len(text) if final or partial is None else partial.start()
        if hold > cursor:
            self._since.append(text[cursor:hold])
        self._tail = text[hold:]
        self._tail_start += hold
        return found

    def _take(self, token: re.Match[str], since: str, found: list[Item | Mark]) -> None:
        """Close what is open, then open or mark what ``token`` says."""
        written, slash, word = token.group(0, 1, 2)
        slash = slash or ""
        name = (word or written).lower().replace("_", " ")
        tag = _CANONICAL.get(name)
        start = self._tail_start + token.start()
        label = _label(since) if self._open is None and not slash else ""
        if self._open is not None:
            if slash and tag == self._open.tag:
                found.append(self._close(since, written, start, Ending.CLOSED))
            else:
                ending = Ending.ANSWER if slash and name == "answer" else Ending.BROKEN
                found.append(self._close(since, "", start, ending))
        if tag is None:
            found.append(Mark(slash + name, start, start + len(written)))
        elif not slash:
            self._open = _Open(tag, start, written, label)

    def _close(self, payload: str, closing: str, position: int, ending: Ending) -> Item:
        opened, self._open = self._open, None
        assert opened is not None
        end = position + len(closing)
        text = f"{opened.written}{payload}{closing}"
        return Item(opened.tag, opened.start, end, text, payload, opened.label, ending)


def _label(words: str) -> str:
    """The words of the current sentence before a tag."""
    return _SENTENCE_END.split(words)[-1].strip(" \t:,;`*-")
