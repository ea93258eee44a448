"""What is drawn for each grounding, decided once for pixels (`overlay`) and vectors (`svg`).

Everything here is in pixels of the picture that is drawn on, u to the right and v down, with
pixel centres at integers. Sizes grow with the picture: one *unit* is a pixel in a picture whose
long side is 640.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from rynn_brain_ros.values import (
    Affordance,
    Area,
    Box,
    ContactPoint,
    GraspRectangle,
    LiftedGrounding,
    NoGrounding,
    Point2,
    RefusalCode,
    SelectedFrame,
    Trajectory,
)
from rynn_brain_ros.view.colors import Color, color_of, is_unusable

Rect = tuple[float, float, float, float]
"""Left, top, right, bottom."""
_FAR_PX = 1e6


@dataclass(frozen=True)
class Line:
    """A polyline, ``width`` pixels thick."""

    points: tuple[Point2, ...]
    width: float
    closed: bool = False


@dataclass(frozen=True)
class Disc:
    """A filled circle, or a ring where ``width`` is not zero."""

    center: Point2
    radius: float
    width: float = 0.0


@dataclass(frozen=True)
class Polygon:
    """A filled polygon: an arrowhead, a stroke that grows thicker."""

    points: tuple[Point2, ...]


@dataclass(frozen=True)
class Patch:
    """A translucent convex region, grown by ``radius`` so that its outline is soft."""

    points: tuple[Point2, ...]
    radius: float


Primitive = Line | Disc | Polygon | Patch


@dataclass(frozen=True)
class Shape:
    """One grounding, ready to be drawn.

    ``index`` is its place in the answer, ``keep_clear`` the points that no label may cover,
    ``anchor`` the region that its label belongs to, and ``texts`` the label from its full to its
    shortest wording. Refused shapes are drawn dashed.
    """

    index: int
    color: Color
    refused: bool
    primitives: tuple[Primitive, ...]
    keep_clear: tuple[Point2, ...]
    anchor: Rect
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Label:
    """A text and where its background's top left corner is."""

    shape: Shape
    text: str
    left: float
    top: float
    width: float
    height: float

    @property
    def rect(self) -> Rect:
        return (self.left, self.top, self.left + self.width, self.top + self.height)


def unit_of(width: int, height: int) -> float:
    """Pixels per unit of a picture of this size."""
    return max(0.5, max(width, height) / 640)


def shapes_of(
    lifted: Sequence[LiftedGrounding],
    frame: SelectedFrame,
    width: int,
    height: int,
    first_index: int = 0,
) -> tuple[Shape, ...]:
    """The shapes of the groundings in ``frame``, for a picture of it of ``width`` × ``height``.

    Groundings in other frames, in none, or without coordinates are left out; the rest keep the
    index that they have in ``lifted`` (plus ``first_index``), hence their colour.
    """
    return tuple(
        _shape(item, index, width, height)
        for index, item in enumerate(lifted, first_index)
        if item.frame is not None
        and item.frame.frame.key == frame.frame.key
        and any(_drawable(point) for point in item.points_px)
    )


def label_texts(item: LiftedGrounding, index: int) -> tuple[str, str, str]:
    """``1 affordance 0.87 · 1.243 m``, and the same shorter twice."""
    short = f"{index + 1} {_kind(item)}"
    long = short
    if isinstance(item.grounding, ContactPoint) and math.isfinite(item.grounding.angle_deg):
        long += f" {item.grounding.angle_deg:.0f} deg"
    if math.isfinite(item.confidence):
        long += f" {item.confidence:.2f}"
    if item.refusal is not None:
        long += f" · {item.refusal.code.value}"
    elif item.target is not None:
        long += f" · {math.dist((0.0, 0.0, 0.0), item.target.point_camera_m):.3f} m"
    return (long, short, str(index + 1))


def _kind(item: LiftedGrounding) -> str:
    """``grasp rectangle``, or ``unknown kind 12`` of one that a newer brain told."""
    grounding, refusal = item.grounding, item.refusal
    unknown = refusal is not None and refusal.code is RefusalCode.UNKNOWN
    if isinstance(grounding, NoGrounding) and unknown and grounding.reason:
        return grounding.reason
    return grounding.kind.replace("_", " ")


def place_labels(
    shapes: Sequence[Shape],
    width: float,
    height: float,
    measure: Callable[[str], tuple[float, float]],
    unit: float,
) -> tuple[Label, ...]:
    """Labels inside ``width`` × ``height`` that cover no point and, where possible, no label.

    ``measure`` gives the outer size of a label in pixels. A picture too small for a label's
    shortest text gets none.
    """
    margin = 3 * unit
    reach = 9 * unit
    obstacles = [_bounds([point], reach) for shape in shapes for point in shape.keep_clear]
    labels: list[Label] = []
    room = (width - 2 * margin, height - 2 * margin)
    for shape, text, (w, h) in _wordings(shapes, *room, measure):
        best = (math.inf, shape.anchor)
        for order, (u, v) in enumerate(_candidates(shape.anchor, w, h, margin)):
            left, top = _within(u, margin, room[0] - w), _within(v, margin, room[1] - h)
            rect = (left, top, left + w, top + h)
            covered = sum(_overlap(rect, other) for other in obstacles)
            hidden = sum(_overlap(rect, label.rect) for label in labels)
            near = sum(_overlap(rect, s.anchor) for s in shapes if s is not shape)
            price = 8 * covered + 4 * hidden + 0.5 * near + order * unit * unit
            best = min(best, (price, rect))
        labels.append(Label(shape, text, *best[1][:2], w, h))
    return tuple(labels)


def _wordings(
    shapes: Sequence[Shape],
    width: float,
    height: float,
    measure: Callable[[str], tuple[float, float]],
) -> list[tuple[Shape, str, tuple[float, float]]]:
    """The fullest wording with which several labels leave most of the picture free."""
    fitting: list[tuple[Shape, str, tuple[float, float]]] = []
    for texts in zip(*(shape.texts for shape in shapes), strict=True):
        sized = [(shape, t, measure(t)) for shape, t in zip(shapes, texts, strict=True)]
        fitting = [part for part in sized if part[2][0] <= width and part[2][1] <= height]
        covered = sum(w * h for _, _, (w, h) in fitting)
        if len(fitting) == len(shapes) and (len(shapes) == 1 or covered < width * height / 6):
            break
    return fitting


def _candidates(anchor: Rect, w: float, h: float, gap: float) -> Iterable[Point2]:
    left, top, right, bottom = anchor
    middle = (top + bottom - h) / 2
    yield (left, top - gap - h)
    yield (right + gap, middle)
    yield (left, bottom + gap)
    yield (left - gap - w, middle)
    yield (right - w, top - gap - h)
    yield (right - w, bottom + gap)
    for step in range(1, 9):
        yield (left, top - gap - h - step * (h + gap / 2))
        yield (left, bottom + gap + step * (h + gap / 2))
    yield (left + gap, top + gap)


def _within(value: float, least: float, span: float) -> float:
    return min(max(value, least), least + span)


def _overlap(a: Rect, b: Rect) -> float:
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    return w * h if w > 0 and h > 0 else 0.0


def _shape(item: LiftedGrounding, index: int, width: int, height: int) -> Shape:
    unit = unit_of(width, height)
    frame = item.frame
    assert frame is not None  # shapes_of selected it
    scale = (width / max(1, frame.width), height / max(1, frame.height))
    exact = [_scaled(point, scale) for point in item.points_px if _drawable(point)]
    shown = [(_within(u, 0.0, width - 1.0), _within(v, 0.0, height - 1.0)) for u, v in exact]
    primitives = _primitives(item, shown, unit)
    if isinstance(item.grounding, Affordance) and shown != exact:
        primitives = []  # nothing at the border may look like the point itself
    for inner, outer in zip(shown, exact, strict=True):
        if inner != outer:
            primitives += _outside(inner, outer, unit)
    target = None if item.target is None else _scaled(item.target.pixel, scale)
    keep_clear, anchored = shown, shown
    if isinstance(item.grounding, Box):
        keep_clear = [_between(shown[0], shown[-1], 0.5)]
        if target is not None and _drawable(target):
            primitives.append(Disc(target, 3.5 * unit))
            keep_clear = [target]
    elif isinstance(item.grounding, Trajectory):
        anchored = shown[:1]
        keep_clear = [
            _between(a, b, share)
            for a, b in zip(shown, [*shown[1:], shown[-1]], strict=True)
            for share in (0.0, 0.25, 0.5, 0.75)
        ]
    else:
        keep_clear = anchored = [*shown, *(p for part in primitives for p in _ends(part))]
    refused = item.refusal is not None
    return Shape(
        index=index,
        color=color_of(index, refused=is_unusable(item)),
        refused=refused,
        primitives=tuple(primitives),
        keep_clear=tuple(keep_clear),
        anchor=_bounds(anchored, 0.0 if isinstance(item.grounding, Box) else 9 * unit),
        texts=label_texts(item, index),
    )


def _drawable(point: Point2) -> bool:
    return not (math.isnan(point[0]) or math.isnan(point[1]))


def _scaled(point: Point2, scale: Point2) -> Point2:
    """The same place in a picture resized by ``scale``; kept finite for the drawing code."""
    u, v = (_within(value, -_FAR_PX, 2 * _FAR_PX) for value in point)
    return ((u + 0.5) * scale[0] - 0.5, (v + 0.5) * scale[1] - 0.5)


def _ends(part: Primitive) -> tuple[Point2, ...]:
    """The ends of open lines: they carry a direction, so labels stay off them."""
    return (part.points[0], part.points[-1]) if isinstance(part, Line) and not part.closed else ()


def _bounds(points: Sequence[Point2], reach: float) -> Rect:
    us, vs = zip(*points, strict=True)
    return (min(us) - reach, min(vs) - reach, max(us) + reach, max(vs) + reach)


def _primitives(item: LiftedGrounding, points: list[Point2], unit: float) -> list[Primitive]:
    match item.grounding:
        case Box() if len(points) == 2:
            return _box(points, unit)
        case Area():
            return _area(points, unit)
        case Affordance():
            return [part for point in points for part in _crosshair(point, unit)]
        case Trajectory():
            lifted = item.points if len(item.points) == len(points) else ()
            in_air = [point.interpolated for point in lifted]
            return _trajectory(points, in_air, item.refusal is not None, unit)
        case GraspRectangle() if len(points) == 4:
            return _grasp(points, unit)
        case ContactPoint(angle_deg=angle_deg) if points and math.isfinite(angle_deg):
            return _contact(points[0], angle_deg, unit)
        case _:  # degenerate: show at least where it points
            return [Disc(point, 4 * unit) for point in points]


def _box(points: Sequence[Point2], unit: float) -> list[Primitive]:
    (ua, va), (ub, vb) = points
    return [Line(((ua, va), (ub, va), (ub, vb), (ua, vb)), 2.4 * unit, closed=True)]


def _area(points: Sequence[Point2], unit: float) -> list[Primitive]:
    hull = cv2.convexHull(np.array(points, dtype=np.float32)).reshape(-1, 2)
    outline = tuple((float(u), float(v)) for u, v in hull)
    return [Patch(outline, 12 * unit), *(Disc(point, 3 * unit) for point in points)]


def _crosshair(point: Point2, unit: float) -> list[Primitive]:
    (u, v), near, far = point, 12 * unit, 17 * unit
    arms = [
        Line(((u + du * near, v + dv * near), (u + du * far, v + dv * far)), 2.2 * unit)
        for du, dv in ((1, 0), (-1, 0), (0, 1), (0, -1))
    ]
    return [*arms, Disc(point, 9 * unit, 2.4 * unit), Disc(point, 2.5 * unit)]


def _trajectory(
    points: Sequence[Point2], interpolated: Sequence[bool], refused: bool, unit: float
) -> list[Primitive]:
    """Thin at the start, thick at the end, with an arrowhead there and in long segments."""
    pairs = [(a, b, math.dist(a, b)) for a, b in pairwise(points) if a != b]
    total, done, parts = sum(length for *_, length in pairs), 0.0, list[Primitive]()
    for start, end, length in pairs:
        direction = ((end[0] - start[0]) / length, (end[1] - start[1]) / length)
        widths = [(1.8 + 3.6 * way / total) * unit for way in (done, done + length)]
        done += length
        if refused:  # drawn dashed
            parts.append(Line((start, end), sum(widths) / 2))
        else:
            parts.append(_taper(start, end, direction, widths))
        if length > 70 * unit:
            parts.append(_head(_between(start, end, 0.55), direction, 11 * unit))
        if done >= total:
            parts.append(_head(end, direction, 17 * unit))
    flags = interpolated or [False] * len(points)
    parts += [
        Disc(point, 3.4 * unit, 1.6 * unit if in_air else 0.0)
        for point, in_air in list(zip(points, flags, strict=True))[1:-1]
    ]
    return [*parts, Disc(points[0], 6 * unit, 2.4 * unit), Disc(points[0], 2.5 * unit)]


def _taper(start: Point2, end: Point2, direction: Point2, widths: Sequence[float]) -> Polygon:
    du, dv = direction
    (ua, va), (ub, vb), a, b = start, end, widths[0] / 2, widths[1] / 2
    return Polygon(
        (
            (ua - dv * a, va + du * a),
            (ub - dv * b, vb + du * b),
            (ub + dv * b, vb - du * b),
            (ua + dv * a, va - du * a),
        )
    )


def _head(tip: Point2, direction: Point2, size: float) -> Polygon:
    """An arrowhead with its ``tip`` in ``direction`` (unit vector)."""
    (u, v), (du, dv), half = tip, direction, 0.45 * size
    base_u, base_v = u - du * size, v - dv * size
    return Polygon(
        (tip, (base_u - dv * half, base_v + du * half), (base_u + dv * half, base_v - du * half))
    )


def _grasp(points: Sequence[Point2], unit: float) -> list[Primitive]:
    """The first side is the opening, as in the Cornell tools; the fingers close along it."""
    a, b, c, d = points
    center = ((a[0] + c[0]) / 2, (a[1] + c[1]) / 2)
    return [
        Line((a, b), 1.6 * unit),
        Line((c, d), 1.6 * unit),
        Line((b, c), 5 * unit),
        Line((d, a), 5 * unit),
        Disc(center, 3 * unit),
    ]


def _contact(point: Point2, angle_deg: float, unit: float) -> list[Primitive]:
    angle, reach = math.radians(angle_deg), 34 * unit
    du, dv = math.cos(angle) * reach, math.sin(angle) * reach
    ends = ((point[0] - du, point[1] - dv), (point[0] + du, point[1] + dv))
    return [Line(ends, 2.6 * unit), Disc(point, 7 * unit, 2.4 * unit), Disc(point, 2.5 * unit)]


def _outside(inner: Point2, outer: Point2, unit: float) -> list[Primitive]:
    """An arrow that ends at the border and points to where the coordinate really lies."""
    length = math.dist(inner, outer)
    direction = ((outer[0] - inner[0]) / length, (outer[1] - inner[1]) / length)
    tail = (inner[0] - direction[0] * 38 * unit, inner[1] - direction[1] * 38 * unit)
    neck = (inner[0] - direction[0] * 9 * unit, inner[1] - direction[1] * 9 * unit)
    return [Line((tail, neck), 3 * unit), _head(inner, direction, 18 * unit)]


def _between(a: Point2, b: Point2, share: float) -> Point2:
    return (a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share)
