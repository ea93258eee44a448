"""What every evaluation needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from rynn_brain_ros.memory import select
from rynn_brain_ros.values import (
    Affordance,
    AnyGrounding,
    Area,
    Box,
    EncodedImage,
    Frame,
    SelectedFrame,
    Task,
    Trajectory,
)
from training.nano.pictures import Picture

FORMS: Mapping[Task, type[AnyGrounding]] = {
    Task.AFFORDANCE: Affordance,
    Task.OBJECT: Box,
    Task.AREA: Area,
    Task.TRAJECTORY: Trajectory,
}
"""Of answers."""


def as_frame(picture: Picture, number: int) -> SelectedFrame:
    color = EncodedImage("rgb8; jpeg compressed bgr8", picture.jpeg, compressed=True)
    return select(Frame("front", number, "front", color))


def overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def share(values: Iterable[bool]) -> float:
    found = [bool(value) for value in values]
    return round(sum(found) / len(found), 4) if found else float("nan")


def median(values: Iterable[float]) -> float:
    found = [value for value in values if not np.isnan(value)]
    return round(float(np.median(found)), 1) if found else float("nan")
