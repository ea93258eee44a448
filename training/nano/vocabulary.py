"""The words of things and questions, and the sentences that nano's tokens come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rynn_brain_ros.language import compose
from rynn_brain_ros.sim.objects import PAINT, SHAPES
from rynn_brain_ros.sim.table_tasks import Relation
from rynn_brain_ros.values import FrameSet, Query, Task, TextPart
from training.nano.lessons import ABSTENTION, GENERATION, NO_PICTURE, format_words

COLOR_WORDS = {"purple": ("violet",)}
SHAPE_WORDS = {
    "cube": ("block", "box"),
    "ball": ("sphere",),
    "cylinder": ("can",),
    "plate": ("dish",),
    "mug": ("cup",),
}
FURNITURE_WORDS = {"sofa": ("couch",), "cabinet": ("cupboard",), "shelf": ("bookshelf",)}
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
AREA_WORDS: Mapping[Relation, tuple[str, ...]] = {
    Relation.IN: (
        "Find a free place in the {}.",
        "Where can I put something into the {}?",
        "the free area in the {}",
        "the area inside the {}",
    ),
    Relation.ON: (
        "Find a free place on the {}.",
        "Where can I put something onto the {}?",
        "the free area on the {}",
        "the area on top of the {}",
    ),
    Relation.NEXT_TO: (
        "Find a free place next to the {}.",
        "Where can I put something next to the {}?",
        "the free area next to the {}",
        "the area beside the {}",
    ),
}
TRAJECTORY_WORDS: Mapping[Relation, tuple[str, ...]] = {
    Relation.IN: (
        "Move the {} into the {}.",
        "Put the {} into the {}",
        "Draw the trajectory of the {} into the {}.",
    ),
    Relation.ON: (
        "Move the {} onto the {}.",
        "Put the {} on the {}",
        "Draw the trajectory of the {} onto the {}.",
    ),
    Relation.NEXT_TO: (
        "Move the {} next to the {}.",
        "Put the {} beside the {}",
        "Draw the trajectory of the {} next to the {}.",
    ),
}
COUNT_WORDS = (
    "How many {} are there?",
    "How many {} do you see?",
    "How many {} are on the table?",
    "Count the {}.",
)


def sentences() -> Iterator[str]:
    """What the tokens are made from. These are the tokens of every nano that learns on from an
    earlier one: words of later lessons are not among them, and are spelt in smaller pieces."""
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
