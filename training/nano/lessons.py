"""Questions about pictures with their right answers, in RynnBrain's own words.

A `Lesson` is some frames and several questions about them. The questions' wording comes from
`language.compose`, so nano is asked in the very words that any RynnBrain is asked in. A thing is
looked for in the newest frame that shows it; a thing that no frame shows is answered by
``<no object>``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from rynn_brain_ros.language import compose, format_grounding
from rynn_brain_ros.sim.objects import PAINT, SHAPES
from rynn_brain_ros.values import (
    Affordance,
    Box,
    EncodedImage,
    Frame,
    FrameSet,
    Generation,
    ImagePart,
    NoGrounding,
    Query,
    SelectedFrame,
    Task,
    TextPart,
)
from training.nano.truth import SeenThing, Truth

GENERATION = Generation.V1_0
ABSTENTION = format_grounding(NoGrounding(None, (), (0, 0), "", abstained=True))
COLOR_WORDS = {"purple": ("violet",)}
SHAPE_WORDS = {
    "cube": ("block", "box"),
    "ball": ("sphere",),
    "cylinder": ("can",),
    "plate": ("dish",),
    "mug": ("cup",),
}
ANY_SHAPE = ("thing", "object", "one")
POINT_WORDS = (
    "Point to the {}.",
    "Point to the {}",
    "Where is the {}?",
    "Where can I grasp the {}?",
    "Pick up the {}.",
    "Grasp the {}",
    "Locate the {}.",
    "Find the {}.",
    "the {}",
    "{}",
    "Touch the {}.",
    "Show me the {}",
)
BOX_WORDS = (
    "Locate the {}.",
    "Where is the {}?",
    "Detect the {}.",
    "Find the {}",
    "Draw a box around the {}.",
    "the {}",
    "{}",
    "Point out the {}.",
    "Which one is the {}?",
)


@dataclass(frozen=True)
class Mark:
    """What one number of an answer is: ``place`` is (frame, thing's number) that it tells of, and
    ``exact`` numbers are those of frames, the others coordinates that may be a little off."""

    value: float
    place: tuple[int, int]
    exact: bool


@dataclass(frozen=True)
class Exchange:
    """``instruction`` is the user's sentence, of which ``noun`` names ``kind`` (a colour, a shape,
    or both; "" where it does not say), and ``rest`` the words about the format; ``marks`` are the
    numbers in ``answer``, in their order. An absent thing has none."""

    task: Task
    abstain: bool
    instruction: str
    noun: str
    kind: tuple[str, str]
    rest: str
    answer: str
    marks: tuple[Mark, ...]
    place: tuple[int, int] | None


@dataclass(frozen=True)
class Lesson:
    """``frames`` are pictures of the pool and whether they are mirrored, the newest last."""

    frames: tuple[tuple[int, bool], ...]
    exchanges: tuple[Exchange, ...]

    @property
    def named(self) -> bool:
        """Whether frames are told by number, as they are where there are several."""
        return len(self.frames) > 1


# --- making them ----------------------------------------------------------------------------------


class Teacher:
    """Asks about pictures at random."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def lesson(
        self,
        frames: Sequence[tuple[int, bool]],
        truths: Sequence[Truth],
        n_questions: int,
        p_absent: float = 0.2,
    ) -> Lesson:
        """``truths`` are those of ``frames``, not mirrored."""
        asked = []
        for _ in range(n_questions):
            sighting = None
            if self._rng.random() >= p_absent:
                sighting = self._sighting(truths)
            asked.append(self._exchange(frames, truths, sighting))
        return Lesson(tuple(frames), tuple(asked))

    def _sighting(self, truths: Sequence[Truth]) -> tuple[int, SeenThing] | None:
        """Any thing of its kind alone in the newest frame that shows one; of any frame alike."""
        for index in self._rng.permutation(len(truths)):
            later = [kind for truth in truths[index + 1 :] for kind in kinds_in(truth)]
            here = kinds_in(truths[index])
            found = [
                seen
                for seen in truths[index].seen
                if seen.kind not in later and here.count(seen.kind) == 1
            ]
            if found:
                return int(index), found[int(self._rng.integers(len(found)))]
        return None

    def _exchange(
        self,
        frames: Sequence[tuple[int, bool]],
        truths: Sequence[Truth],
        sighting: tuple[int, SeenThing] | None,
    ) -> Exchange:
        task = Task.AFFORDANCE if self._rng.random() < 0.6 else Task.OBJECT
        words = POINT_WORDS if task is Task.AFFORDANCE else BOX_WORDS
        template = str(self._rng.choice(words))
        abstain = bool(self._rng.random() < 0.5)
        if sighting is None:
            noun, kind = self._absent_noun(truths)
        else:
            noun, kind = self._noun(*sighting, truths)
        instruction = template.format(noun)
        rest = format_words(task, instruction, len(frames), abstain)
        said = (task, abstain, instruction, noun, kind, rest)
        if sighting is None:
            return Exchange(*said, ABSTENTION, (), None)
        index, seen = sighting
        numbers = seen.mirrored(frames[index][1])
        place = (index, seen.thing.number)
        answer, marks = _answer(task, index, numbers, place, named=len(frames) > 1)
        return Exchange(*said, answer, marks, place)

    def _noun(
        self, index: int, seen: SeenThing, truths: Sequence[Truth]
    ) -> tuple[str, tuple[str, str]]:
        """Its colour and shape; where one alone says it, now and then only that."""
        color, shape = seen.thing.color, seen.thing.shape
        others = [kind for truth in truths[index:] for kind in kinds_in(truth)]
        others.remove((color, shape))
        draw = self._rng.random()
        if draw < 0.1 and all(shape != other for _, other in others):
            return self._said(SHAPE_WORDS, shape), ("", shape)
        if draw > 0.9 and all(color != other for other, _ in others):
            return f"{self._said(COLOR_WORDS, color)} {self._rng.choice(ANY_SHAPE)}", (color, "")
        return self._full(color, shape)

    def _full(self, color: str, shape: str) -> tuple[str, tuple[str, str]]:
        noun = f"{self._said(COLOR_WORDS, color)} {self._said(SHAPE_WORDS, shape)}"
        return noun, (color, shape)

    def _said(self, synonyms: Mapping[str, tuple[str, ...]], word: str) -> str:
        others = synonyms.get(word, ())
        return str(self._rng.choice(others)) if others and self._rng.random() < 0.15 else word

    def _absent_noun(self, truths: Sequence[Truth]) -> tuple[str, tuple[str, str]]:
        """Nothing like it is in any frame; mostly its colour or its shape is."""
        there = {kind for truth in truths for kind in kinds_in(truth)}
        free = [(c, s) for c in PAINT for s in SHAPES if (c, s) not in there]
        colors, shapes = {c for c, _ in there}, {s for _, s in there}
        near = [(c, s) for c, s in free if c in colors or s in shapes]
        pool = near if near and self._rng.random() < 0.75 else free
        return self._full(*pool[int(self._rng.integers(len(pool)))])


def kinds_in(truth: Truth) -> list[tuple[str, str]]:
    """Colours and shapes of everything in the scene, hidden things too."""
    return [thing.kind for thing in (*(seen.thing for seen in truth.seen), *truth.hidden)]


def _answer(
    task: Task, index: int, numbers: tuple[float, ...], place: tuple[int, int], named: bool
) -> tuple[str, tuple[Mark, ...]]:
    whole = tuple(min(1000, max(0, round(number))) for number in numbers)
    x, y, x0, y0, x1, y1 = whole
    if task is Task.AFFORDANCE:
        told = numbers[:2]
        text = format_grounding(
            Affordance(index, ((x, y),), (0, 0), "affordance"), with_frame=named
        )
    else:
        told = numbers[2:]
        box = Box(index, ((x0, y0), (x1, y1)), (0, 0), "object")
        text = format_grounding(box, with_frame=named)
    frame = (Mark(index, place, exact=True),) if named else ()
    return text, (*frame, *(Mark(number, place, exact=False) for number in told))


# --- the words ------------------------------------------------------------------------------------


def format_words(task: Task, instruction: str, n_frames: int, abstain: bool) -> str:
    """What is said behind the instruction."""
    frames = FrameSet((NO_PICTURE,) * n_frames, 10240)
    query = Query("q", task, instruction, frames, abstain=abstain)
    (message,) = compose(query, GENERATION)
    *_, last = message.parts
    assert isinstance(last, TextPart) and last.text.startswith(instruction)
    return last.text[len(instruction) :]


@lru_cache
def frame_label(index: int, n_frames: int) -> str:
    """The words before a picture of a question with ``n_frames``."""
    query = Query("q", Task.OBJECT, "x", FrameSet((NO_PICTURE,) * n_frames, 10240))
    (message,) = compose(query, GENERATION)
    pictures = [n for n, part in enumerate(message.parts) if isinstance(part, ImagePart)]
    before = message.parts[pictures[index] - 1] if pictures[index] else None
    return before.text if isinstance(before, TextPart) else ""


NO_PICTURE = SelectedFrame(
    Frame("front", 0, "front", EncodedImage("jpeg", b"", 1, 1)), b"", "image/jpeg", "", 640, 480
)


def sentences() -> Iterator[str]:
    """Everything that nano reads and writes, for its tokenizer: each form once or more."""
    nouns = [f"{color} {shape}" for color in PAINT for shape in SHAPES]
    nouns += [f"{c} {s}" for words in COLOR_WORDS.values() for c in words for s in ANY_SHAPE]
    nouns += [f"{c} {s}" for c in PAINT for words in SHAPE_WORDS.values() for s in words]
    for task, templates in ((Task.AFFORDANCE, POINT_WORDS), (Task.OBJECT, BOX_WORDS)):
        for template in templates:
            for noun in nouns:
                yield template.format(noun)
        for n_frames in (1, 2):
            for abstain in (False, True):
                yield from (format_words(task, "x", n_frames, abstain) for _ in range(20))
    for task in (Task.AREA, Task.TRAJECTORY, Task.COUNT):
        yield from (format_words(task, "x", n, True) for n in (1, 2) for _ in range(20))
    plan = compose(
        Query(
            "q", Task.PLAN, "Put the red cube into the blue bowl", FrameSet((NO_PICTURE,), 10240)
        ),
        GENERATION,
    )
    for part in plan[0].parts * 20:
        if isinstance(part, TextPart):
            yield part.text
    for words in ("Pick up", "Place", "into", "onto", "next to", "Done.", "of", "push", "pour"):
        yield from (f"{words} the {noun}" for noun in nouns)
    yield from (ABSTENTION for _ in range(20))
    for tag in ("affordance", "object", "area", "trajectory"):
        yield from (f"<{tag}> <frame 0>: (1, 2) </{tag}>" for _ in range(40))
    yield from ("user\nassistant\nsystem\n" for _ in range(20))
