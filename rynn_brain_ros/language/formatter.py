"""Writing RynnBrain's grammar: labels for training, references in questions, texts for people."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rynn_brain_ros.language.grammar import ACTION_SYMBOLS
from rynn_brain_ros.values import (
    AnyGrounding,
    Box,
    Box3D,
    ContactPoint,
    Count,
    InputError,
    NoGrounding,
    Point2,
)


def format_number(value: float) -> str:
    """Integers as such, everything else with a decimal point and never with an exponent."""
    if not math.isfinite(value):
        raise InputError(f"{value} cannot be written in an answer; give a finite number.")
    return str(value) if isinstance(value, int) else np.format_float_positional(value, trim="0")


def format_points(points: Sequence[Point2]) -> str:
    """``(12, 34), (56, 78)``."""
    return ", ".join(f"({format_number(x)}, {format_number(y)})" for x, y in points)


def format_frame(index: int) -> str:
    """``<frame 3>``, as before an image and inside an answer's tag."""
    return f"<frame {index}>"


def format_grounding(grounding: AnyGrounding, *, with_frame: bool = True) -> str:
    """``<affordance> <frame 3>: (12, 34) </affordance>``; without the frame for one image.

    Flags and label are not part of the grammar. A count names no frame. An abstention is
    ``<no object>``; any other `NoGrounding` has no spelling and raises `InputError`.
    """
    if isinstance(grounding, NoGrounding):
        if not grounding.abstained:
            raise InputError(f"There is no way to write an unusable answer: {grounding.reason}.")
        return "<no object>"
    if isinstance(grounding, Count):
        return f"<counting>{grounding.count}</counting>"
    frame = ""
    if with_frame and grounding.frame is not None:
        frame = f" {format_frame(grounding.frame)}:"
    return f"<{grounding.tag}>{frame} {_payload(grounding)} </{grounding.tag}>"


def _payload(grounding: AnyGrounding) -> str:
    if isinstance(grounding, Box3D):
        angles = (angle / 180.0 for angle in grounding.pitch_yaw_roll_deg)
        numbers = (*grounding.center_m, *grounding.size_m, *angles)
        return ", ".join(map(format_number, numbers))
    points = format_points(grounding.points)
    if isinstance(grounding, ContactPoint):
        return f"{points}, {format_number(grounding.angle_deg)}"
    return points


def format_reference(box: Box) -> str:
    """A region as a question names it: ``<object> <frame3>; (146, 556), (328, 834) </object>``.

    The spelling without a space in the frame is the cookbooks' and the benchmark's (§2.1).
    """
    frame = "" if box.frame is None else f"<frame{box.frame}>; "
    return f"<object> {frame}{format_points(box.points)} </object>"


def format_actions(names: Sequence[str]) -> str:
    """Navigation symbols of FORWARD, LEFT, RIGHT and STOP: the answer of a `Turn` driven."""
    unknown = [name for name in names if name not in ACTION_SYMBOLS]
    if unknown:
        known = ", ".join(ACTION_SYMBOLS)
        raise InputError(f"Unknown navigation action {unknown[0]!r}; the actions are {known}.")
    return "".join(ACTION_SYMBOLS[name] for name in names)
