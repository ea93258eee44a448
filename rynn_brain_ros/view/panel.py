"""What a person wants to read while watching: state, question, answer and plan, as one picture.

RViz and every other image viewer show it without a plugin. Messages are any objects with the
fields of their ``.msg``.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from rynn_brain_ros.messages import GOES_WELL, StepState, groundings_of
from rynn_brain_ros.view.colors import PALETTE, Color, color_of, is_unusable
from rynn_brain_ros.view.colors import REFUSED as GREY
from rynn_brain_ros.view.overlay import Image, ascii_of
from rynn_brain_ros.view.shapes import label_texts

WIDTH, HEIGHT = 640, 360
_FONT, _SCALE = cv2.FONT_HERSHEY_DUPLEX, 0.45
_LINE_PX, _MARGIN_PX = 19, 10
_COLUMNS = 74
_PAPER, _INK, _BAD = (20, 22, 24), (235, 235, 235), PALETTE[4]
_SILENT_S = 3.0
"""A node that is active tells its status once a second."""
_STATES = {1: "ready", 2: "answering", 3: "degraded"}  # BrainStatus.STATE_*


@dataclass(frozen=True)
class Row:
    text: str
    color: Color = _INK


@dataclass(frozen=True)
class Heard:
    """A node's newest BrainStatus, and how long ago it came, by the hearer's own clock."""

    status: Any
    age_s: float = 0.0


def panel_rows(statuses: Mapping[str, Heard], answer: Any | None, plan: Any | None) -> list[Row]:
    """From what was heard of each node, and the newest GroundingArray and Plan, or ``None``. A
    grounding has the colour that it has in pictures."""
    rows = [row for name, heard in sorted(statuses.items()) for row in _status(name, heard)]
    if answer is not None:
        rows += _answer(answer)
    if plan is not None:
        rows += _plan(plan)
    return rows or [Row("nothing has been heard yet")]


def draw_panel(rows: list[Row]) -> Image:
    """uint8 [HEIGHT, WIDTH, 3], RGB. What does not fit is counted in the last line."""
    lines = [
        Row(part, row.color)
        for row in rows
        for part in textwrap.wrap(ascii_of(row.text), _COLUMNS, subsequent_indent="    ") or [""]
    ]
    fitting = (HEIGHT - 2 * _MARGIN_PX) // _LINE_PX
    if len(lines) > fitting:
        lines = [*lines[: fitting - 1], Row(f"... and {len(lines) - fitting + 1} lines more", GREY)]
    picture: Image = np.full((HEIGHT, WIDTH, 3), _PAPER, np.uint8)
    for number, line in enumerate(lines, start=1):
        place = (_MARGIN_PX, _MARGIN_PX + number * _LINE_PX - 5)
        cv2.putText(picture, line.text, place, _FONT, _SCALE, line.color, 1, cv2.LINE_AA)
    return picture


def _status(name: str, heard: Heard) -> Iterator[Row]:
    status = heard.status
    motion = "armed" if status.armed else "not armed"
    motion += ", dry run" if status.dry_run else ""
    state = _STATES.get(int(status.state), f"unknown state {status.state}")
    told = f"{state} | {motion} | {status.frames} frames, engine {status.engine}"
    if heard.age_s > _SILENT_S:
        yield Row(f"{name}: silent for {heard.age_s:.0f} s; it was {told}", _BAD)
    else:
        yield Row(f"{name}: {told}")
    for problem in status.problems:
        yield Row(f"  {problem}", _BAD)


def _answer(answer: Any) -> Iterator[Row]:
    yield Row("")
    yield Row(f"{answer.query_id} ({answer.task}): {answer.question}")
    for index, item in enumerate(groundings_of(answer)):
        words = label_texts(item, index)[0].replace(" · ", ", ")
        why = f": {item.refusal.text}" if item.refusal is not None else ""
        yield Row(f"  {words}{why}", color_of(index, refused=is_unusable(item)))


def _plan(plan: Any) -> Iterator[Row]:
    yield Row("")
    yield Row(f"plan: {plan.task}" + (" (said to be done)" if plan.done else ""))
    for step in plan.steps:
        state = _step_state(int(step.state))
        reason = f" ({step.reason_text})" if step.reason_text else ""
        color = _INK if step.state in GOES_WELL else _BAD
        yield Row(f"  {step.index + 1} {state}: {step.text}{reason}", color)


def _step_state(number: int) -> str:
    """A newer brain may know more than these."""
    known = {state.value: state.name.lower() for state in StepState}
    return known.get(number, f"unknown state {number}")
