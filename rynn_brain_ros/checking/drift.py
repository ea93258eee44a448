"""How far one answer is from another to the same question: pure measures on parsed answers.

Coordinates are RynnBrain's own 0…1000 of the frame that they are told in, so a distance is in
*units* of a thousandth of that frame's sides; it is measured only where both answers name the same
frame. Measures of paths and point sets follow the authors' benchmark and rewards (reference
rynnbrain.md §4.1, §4.2).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.config import checked, setting, settings
from rynn_brain_ros.geometry.grasping import angle_between
from rynn_brain_ros.planning.steps import different_orders, told_order
from rynn_brain_ros.values import (
    AnyGrounding,
    Area,
    Box,
    ContactPoint,
    Count,
    FinishReason,
    GraspRectangle,
    NoGrounding,
    Point2,
    Reading,
    Task,
    Trajectory,
)

Points = NDArray[np.float64]
_PATH_POINTS = 15  # §4.1: paths are compared at 15 points, evenly spaced along them


@dataclass(frozen=True)
class DriftLimits:
    """What still counts as the same answer, and how many answers may differ.

    Raises `ConfigError` for a value that means nothing.
    """

    min_iou: float = setting(0.9, "smallest overlap of two boxes (rynnbrain.md §10.2)", 0.0, 1.0)
    max_units: float = setting(
        15.0, "largest distance of points and paths, of 1000 (rynnbrain.md §10.2)", 0.0, 1500.0
    )
    max_angle_deg: float = setting(
        10.0, "largest turn of a grasp [deg]; our own choice, none is published", 0.0, 90.0
    )
    min_share: float = setting(
        0.95,
        "share of the cases that must pass; sound engines differ in 1 to 4 % (rynnbrain.md §8)",
        0.0,
        1.0,
    )
    min_cases: int = setting(
        5, "cases that tell something about motion, at least; our own choice", 1, 1_000_000
    )

    def __post_init__(self) -> None:
        for item in settings(type(self)):
            checked(item, getattr(self, item.name))


@dataclass(frozen=True)
class Drift:
    """How far an answer drifted from the expected one.

    ``ious`` are of boxes, ``units`` of everything else with points, ``angles_deg`` of grasps: one
    for each pair told in the same frame, 1, 0 and 0 for answers that say the same. ``frames`` is
    (pairs that name the same frame, pairs). ``valid`` and ``abstained`` say whether format and
    abstention agree, ``decided`` whether counts, arrows, `Done.` and a plan's order do; ``None``
    where the expected answer holds nothing of the kind. ``orders`` are the expected one and the
    other in words, where they differ. ``telling``: it says something that a motion could stand on.
    ``missing`` and ``extra`` count groundings without partner.
    """

    ious: tuple[float, ...] = ()
    units: tuple[float, ...] = ()
    angles_deg: tuple[float, ...] = ()
    frames: tuple[int, int] = (0, 0)
    valid: bool | None = None
    abstained: bool | None = None
    decided: bool | None = None
    orders: tuple[str, str] | None = None
    missing: int = 0
    extra: int = 0
    same_words: bool = True
    telling: bool = False

    def failures(self, limits: DriftLimits) -> Iterator[str]:
        """What is beyond ``limits``, as sentences."""
        if self.valid is False:
            yield "the answer is not in the format"
        if self.abstained is False:
            yield "one says that it is not there, the other does not"
        if self.orders is not None:
            yield f"expected the order {self.orders[0]!r}, got {self.orders[1]!r}"
        elif self.decided is False:
            yield "counts, arrows or the end differ"
        if self.missing or self.extra:
            yield f"groundings: {self.missing} missing, {self.extra} not expected"
        same, pairs = self.frames
        if same < pairs:
            yield f"{pairs - same} of {pairs} groundings are told in another frame"
        if min(self.ious, default=1.0) < limits.min_iou:
            yield f"overlap {min(self.ious):.3f}, at least {limits.min_iou:g} is needed"
        if max(self.units, default=0.0) > limits.max_units:
            yield f"{max(self.units):.1f} of 1000 off, allowed are {limits.max_units:g}"
        if max(self.angles_deg, default=0.0) > limits.max_angle_deg:
            yield f"turned by {max(self.angles_deg):.1f}°, allowed are {limits.max_angle_deg:g}°"


def measure(
    expected: Reading,
    got: Reading,
    expected_finish: FinishReason = FinishReason.STOP,
    got_finish: FinishReason = FinishReason.STOP,
    task: Task | None = None,
) -> Drift:
    """How far ``got`` is from ``expected``. Groundings are matched by kind, in their order; of a
    ``task`` plan also what the words order, since it is what a robot does."""
    pairs, missing, extra = _matched(_pointing(expected), _pointing(got))
    here = [(a, b) for a, b in pairs if a.frame == b.frame]
    boxes = [(a, b) for a, b in here if isinstance(a, Box) and isinstance(b, Box)]
    points = [(a, b) for a, b in here if not isinstance(a, Box) and a.points and b.points]
    grasps = [
        (a, b) for a, b in here if isinstance(a, ContactPoint) and isinstance(b, ContactPoint)
    ]
    was_valid, absent = is_valid(expected, expected_finish), _abstains(expected)
    decisions = (_decisions(expected), _decisions(got))
    orders = different_orders(expected, got) if task is Task.PLAN else None
    ordered = task is Task.PLAN and (orders is not None or told_order(expected) is not None)
    return Drift(
        ious=tuple(iou(a.bounds, b.bounds) for a, b in boxes),
        units=tuple(distance(a, b) for a, b in points),
        angles_deg=tuple(angle_between(a.angle_deg, b.angle_deg) for a, b in grasps),
        frames=(len(here), len(pairs)),
        valid=is_valid(got, got_finish) if was_valid else None,
        abstained=absent == _abstains(got) if absent or _pointing(expected) else None,
        decided=decisions[0] == decisions[1] and orders is None
        if ordered or any(map(any, decisions))
        else None,
        orders=orders,
        missing=missing,
        extra=extra,
        same_words=_words(expected.answer_text) == _words(got.answer_text),
        telling=bool(absent or _pointing(expected) or any(decisions[0])),
    )


def is_valid(reading: Reading, finish: FinishReason = FinishReason.STOP) -> bool:
    """Whether all of an answer is in the format: whole, in range, explicit about its frames, with
    a grounding or an abstention where one was asked for."""
    if reading.rejected or finish is FinishReason.LENGTH:
        return False
    return all(
        g.abstained if isinstance(g, NoGrounding) else not any(f.blocks_motion for f in g.flags)
        for g in reading.groundings
    )


def _pointing(reading: Reading) -> list[AnyGrounding]:
    return [g for g in reading.groundings if not isinstance(g, NoGrounding | Count)]


def _abstains(reading: Reading) -> bool:
    return any(isinstance(g, NoGrounding) and g.abstained for g in reading.groundings)


def _decisions(reading: Reading) -> tuple[tuple[int, ...], tuple[str, ...], bool]:
    counts = tuple(g.count for g in reading.groundings if isinstance(g, Count))
    return counts, reading.actions, reading.done


def _words(text: str) -> list[str]:
    return text.casefold().replace(".", " ").split()


def _matched(
    expected: Sequence[AnyGrounding], got: Sequence[AnyGrounding]
) -> tuple[list[tuple[AnyGrounding, AnyGrounding]], int, int]:
    """Pairs, and how many of each side found no partner."""
    pairs = []
    for kind in dict.fromkeys(g.kind for g in expected):
        mine, theirs = ([g for g in side if g.kind == kind] for side in (expected, got))
        pairs += list(zip(mine, theirs, strict=False))
    return pairs, len(expected) - len(pairs), len(got) - len(pairs)


# --- the measures ---------------------------------------------------------------------------------


def iou(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    """Intersection over union of two boxes (x_min, y_min, x_max, y_max), 0…1; equal boxes give 1
    even where they have no area."""
    if a == b:
        return 1.0
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    inside = w * h if w > 0 and h > 0 else 0.0
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inside
    return min(1.0, inside / union) if union > 0 else 0.0


def distance(a: AnyGrounding, b: AnyGrounding) -> float:
    """Units between two groundings of one kind that have points: of paths, of sets, of corners,
    or of single points."""
    if isinstance(a, Trajectory):
        return path_distance(a.points, b.points)
    if isinstance(a, Area):
        return set_distance(a.points, b.points)
    if isinstance(a, GraspRectangle):
        return corner_distance(a.points, b.points)
    return math.dist(a.points[0], b.points[0])


def path_distance(a: Sequence[Point2], b: Sequence[Point2]) -> float:
    """Discrete Fréchet distance of two paths, each resampled to 15 points (§4.1).

    Eiter, Mannila: Computing discrete Fréchet distance, 1994.
    """
    gaps = np.linalg.norm(_resampled(a)[:, None] - _resampled(b)[None], axis=2)
    reach = np.empty_like(gaps)
    for i, j in np.ndindex(*gaps.shape):
        before = [reach[i - di, j - dj] for di, dj in _STEPS if i >= di and j >= dj]
        reach[i, j] = max(gaps[i, j], min(before, default=0.0))
    return float(reach[-1, -1])


_STEPS = ((1, 0), (0, 1), (1, 1))


def _resampled(points: Sequence[Point2]) -> Points:
    """[15, 2], evenly along the path."""
    path = np.array(points, np.float64)
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    at = np.linspace(0.0, along[-1], _PATH_POINTS)
    return np.stack([np.interp(at, along, path[:, axis]) for axis in range(2)], axis=1)


def set_distance(a: Sequence[Point2], b: Sequence[Point2]) -> float:
    """Mean distance to the other set's nearest point, both ways (§4.2, affordance)."""
    gaps = np.linalg.norm(np.array(a)[:, None] - np.array(b)[None], axis=2)
    return float((gaps.min(axis=0).mean() + gaps.min(axis=1).mean()) / 2)


def corner_distance(a: Sequence[Point2], b: Sequence[Point2]) -> float:
    """The worst corner of two rectangles, wherever and whichever way round each list begins."""
    mine = np.array(a)
    turns = (np.roll(np.array(b)[::way], shift, axis=0) for way in (1, -1) for shift in range(4))
    return min(float(np.linalg.norm(mine - turned, axis=1).max()) for turned in turns)
