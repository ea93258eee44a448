"""The pictures of one answer, with everything that it points at."""

from __future__ import annotations

from collections.abc import Sequence

from rynn_brain_ros.memory import decode_color
from rynn_brain_ros.values import LiftedGrounding, Response, SelectedFrame
from rynn_brain_ros.view.overlay import Image, draw

AnnotatedFrame = tuple[int, SelectedFrame, Image]
"""(index in the question, frame, uint8 RGB picture [H, W, 3])"""


def annotated_frames(
    response: Response, beside: Sequence[LiftedGrounding] = ()
) -> tuple[AnnotatedFrame, ...]:
    """One picture for each frame that a grounding names, with those of other answers ``beside``
    that name it, too; they come first."""
    named = {lifted.grounding.frame for lifted in response.lifted if lifted.frame is not None}
    shown = (*beside, *response.lifted)
    return tuple(
        (index, selected, draw(decode_color(selected.frame.color), shown, selected))
        for index, selected in enumerate(response.query.frames)
        if index in named
    )
