"""What a question with its right answer is, and the words around both.

A `Lesson` is some frames and several questions about them (`teacher.Teacher` makes them). The
wording comes from `language.compose`, so nano is asked in the very words that any RynnBrain is
asked in.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from rynn_brain_ros.language import compose, format_grounding
from rynn_brain_ros.sim.table_tasks import Relation
from rynn_brain_ros.values import (
    EncodedImage,
    Frame,
    FrameSet,
    Generation,
    ImagePart,
    Message,
    NoGrounding,
    Query,
    SelectedFrame,
    Task,
    TextPart,
)

GENERATION = Generation.V1_0
ABSTENTION = format_grounding(NoGrounding(None, (), (0, 0), "", abstained=True))
Shot = tuple[int, bool]
"""A picture of the pool, and whether it is shown mirrored."""
Place = tuple[int, int]
"""A frame, and a thing's number."""


@dataclass(frozen=True)
class Mark:
    """What one number of an answer is: ``place`` is what it tells of (``None``: of no one thing),
    and ``exact`` numbers are those of frames and counts, the others coordinates that may be a
    little off. ``side`` is on which side of that thing it lies, of `truth.SIDES`, where it is next
    to it."""

    value: float
    place: Place | None
    exact: bool
    side: int | None = None


@dataclass(frozen=True)
class Named:
    """A noun in an instruction, up to character ``end`` of it. It says ``kind`` (a colour, a shape,
    or both; "" where it does not say), and all that is meant is at ``places``: none where nothing
    like it is there."""

    end: int
    kind: tuple[str, str]
    places: tuple[Place, ...]


@dataclass(frozen=True)
class Manner:
    """How a lesson's questions are asked: ``task`` is that of all of them, where the words before
    the pictures depend on it. ``thinking`` is Chain-of-Point."""

    task: Task = Task.AFFORDANCE
    thinking: bool = False

    def asks(self, task: Task) -> bool:
        """Whether a question of ``task`` begins with the same words and pictures."""
        if self.thinking or Task.COUNT in (task, self.task):
            return task is self.task
        return task.needs_grounding


POINTING = Manner()


@dataclass(frozen=True)
class Exchange:
    """``instruction`` is the user's sentence, whose ``nouns`` are what is asked for and, after
    that, what it is to go into, onto or next to; ``relation`` is which of these. ``rest`` are the
    words about the format; ``marks`` are the numbers in ``answer``, in their order."""

    task: Task
    abstain: bool
    instruction: str
    nouns: tuple[Named, ...]
    rest: str
    answer: str
    marks: tuple[Mark, ...]
    relation: Relation | None = None

    @property
    def place(self) -> Place | None:
        """Of what is asked for; ``None`` where it, or what it depends on, is not there."""
        return self.nouns[0].places[0] if all(noun.places for noun in self.nouns) else None


@dataclass(frozen=True)
class Lesson:
    """``frames`` are pictures of the pool and whether they are mirrored, the newest last."""

    frames: tuple[tuple[int, bool], ...]
    exchanges: tuple[Exchange, ...]
    manner: Manner = POINTING


# --- the words ------------------------------------------------------------------------------------


def format_words(
    task: Task, instruction: str, n_frames: int, abstain: bool, thinking: bool = False
) -> str:
    """What is said behind the instruction."""
    (*_, last) = _composed(task, instruction, n_frames, abstain, thinking)[-1].parts
    assert isinstance(last, TextPart) and last.text.startswith(instruction)
    return last.text[len(instruction) :]


@lru_cache
def opening(manner: Manner, n_frames: int) -> tuple[str, ...]:
    """The chat's words before each picture of a question with ``n_frames``."""
    before, text = [], ""
    for message in _composed(manner.task, "x", n_frames, False, manner.thinking):
        text += f"<|im_start|>{message.role}\n"
        for part in message.parts:
            if isinstance(part, ImagePart):
                before.append(text)
                text = ""
            else:
                text += part.text
        text += "<|im_end|>\n"
    return tuple(before)


def _composed(
    task: Task, instruction: str, n_frames: int, abstain: bool, thinking: bool
) -> tuple[Message, ...]:
    frames = FrameSet((NO_PICTURE,) * n_frames, 10240)
    query = Query("q", task, instruction, frames, abstain=abstain, thinking=thinking)
    return compose(query, GENERATION)


NO_PICTURE = SelectedFrame(
    Frame("front", 0, "front", EncodedImage("jpeg", b"", 1, 1)), b"", "image/jpeg", "", 640, 480
)
