"""Groundings drawn into the picture that they were found in."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.values import ImageError, LiftedGrounding, Point2, SelectedFrame
from rynn_brain_ros.view.colors import Color, rim_of
from rynn_brain_ros.view.shapes import (
    Disc,
    Label,
    Line,
    Patch,
    Polygon,
    Primitive,
    Shape,
    place_labels,
    shapes_of,
    unit_of,
)

Image = NDArray[np.uint8]
_FONT = cv2.FONT_HERSHEY_DUPLEX
_SHIFT = 4  # OpenCV draws at sixteenths of a pixel
_PAPER = (20, 22, 24)
_INK = (255, 255, 255)
_SPELT = (
    {"…": "...", "±": "+/-", "°": " deg", "×": "x", "²": "2", "³": "3", "·": "."}
    | {"→": "->", "←": "<-", "↑": "^", "↓": "v", "≤": "<=", "≥": ">="}
    | {"−": "-", "–": "-", "—": "-", "“": '"', "”": '"', "‘": "'", "’": "'"}
)


def draw(
    image_rgb: Image, lifted: Sequence[LiftedGrounding], frame: SelectedFrame, *, caption: str = ""
) -> Image:
    """A copy of ``image_rgb`` with the groundings of ``frame`` drawn into it.

    ``image_rgb`` is uint8 [H, W, 3], RGB, and shows ``frame``, possibly resized. Groundings in
    other frames are left out; a colour is the grounding's place in ``lifted`` (see `colors`).
    Refused ones are grey and dashed and carry the refusal's code. ``caption`` is one line along
    the lower edge, under what is drawn there. Its letters are those of `ascii_of`.

    Raises `ImageError` where the array is not such a picture.
    """
    if image_rgb.ndim != 3 or image_rgb.shape[2] != 3 or image_rgb.dtype != np.uint8:
        raise ImageError(
            f"cannot draw on an array of shape {image_rgb.shape} and type {image_rgb.dtype}; "
            "give RGB pixels as uint8 [H, W, 3]"
        )
    image: Image = np.array(image_rgb, order="C")
    height, width = image.shape[:2]
    if not width or not height:
        return image
    writer = _Writer(unit_of(width, height))
    shapes = shapes_of(lifted, frame, width, height)
    # Before the shapes: what is pointed at near the lower edge shows on the strip.
    strip = writer.strip(image, caption) if caption else 0
    for shape in shapes:
        _draw_shape(image, shape, writer.unit)
    for label in place_labels(shapes, width, height - strip, writer.measure, writer.unit):
        writer.label(image, label)
    return image


def _draw_shape(image: Image, shape: Shape, unit: float) -> None:
    """First the soft regions, then everything in the rim's colour and wider, then in its own."""
    for primitive in shape.primitives:
        if isinstance(primitive, Patch):
            _blend(image, primitive, shape.color)
    dash = max(4.0, 7 * unit) if shape.refused else 0.0
    grow = max(1, round(1.2 * unit))
    for primitive in shape.primitives:
        _stroke(image, primitive, rim_of(shape.color), grow=grow, dash=0.0, refused=shape.refused)
    for primitive in shape.primitives:
        _stroke(image, primitive, shape.color, grow=0, dash=dash, refused=shape.refused)


def _stroke(
    image: Image, primitive: Primitive, color: Color, *, grow: int, dash: float, refused: bool
) -> None:
    match primitive:
        case Line(points, width, closed):
            _polyline(image, points, color, _pixels(width) + 2 * grow, closed=closed, dash=dash)
        case Disc(center, radius, width) if width > 0:
            ring = tuple(
                (center[0] + radius * math.cos(a), center[1] + radius * math.sin(a))
                for a in np.linspace(0, 2 * math.pi, 48, endpoint=False).tolist()
            )
            _polyline(image, ring, color, _pixels(width) + 2 * grow, closed=True, dash=dash)
        case Disc(center, radius):
            _disc(image, center, radius + grow, color)
        case Polygon(points):
            cv2.fillPoly(image, [_fixed_point(points)], color, cv2.LINE_AA, _SHIFT)
            if grow:
                _polyline(image, points, color, 2 * grow, closed=True)
        case Patch(points) if refused:
            _polyline(image, points, color, 2 + 2 * grow, closed=True, dash=dash)
        case Patch():
            pass


def _polyline(
    image: Image,
    points: Sequence[Point2],
    color: Color,
    width: int,
    *,
    closed: bool = False,
    dash: float = 0.0,
) -> None:
    if dash:
        # A thick line's round ends reach into the gaps.
        for piece in _dashes([*points, *points[: int(closed)]], dash, dash + 0.6 * width):
            _polyline(image, piece, color, width)
        return
    cv2.polylines(image, [_fixed_point(points)], closed, color, width, cv2.LINE_AA, _SHIFT)


def _pixels(width: float) -> int:
    return max(1, round(width))


def _dashes(points: Sequence[Point2], dash: float, gap: float) -> Iterator[tuple[Point2, Point2]]:
    """The straight pieces of a dashed line along ``points``."""
    at = 0.0  # where the next dash begins, from the start of this segment
    for (ua, va), (ub, vb) in pairwise(points):
        length = math.hypot(ub - ua, vb - va)
        if not length:
            continue  # a side of a thing that lies wholly beyond one border
        while at < length:
            s, e = max(0.0, at / length), min(1.0, (at + dash) / length)
            if e > s:
                yield (
                    (ua + (ub - ua) * s, va + (vb - va) * s),
                    (ua + (ub - ua) * e, va + (vb - va) * e),
                )
            if at + dash > length:
                break  # the rest of this dash belongs to the next segment
            at += dash + gap
        at -= length


def _disc(image: Image, center: Point2, radius: float, color: Color) -> None:
    u, v = _fixed_point([center])[0]
    r = max(1, round(radius * (1 << _SHIFT)))
    cv2.circle(image, (int(u), int(v)), r, color, cv2.FILLED, cv2.LINE_AA, _SHIFT)


def _blend(image: Image, patch: Patch, color: Color) -> None:
    """A third of the colour inside the grown hull, fading at its edge."""
    reach = math.ceil(2 * patch.radius)
    (left, top), (right, bottom) = np.min(patch.points, axis=0), np.max(patch.points, axis=0)
    u, v = max(0, math.floor(left) - reach), max(0, math.floor(top) - reach)
    region = image[v : math.ceil(bottom) + reach + 1, u : math.ceil(right) + reach + 1]
    outline = _fixed_point([(pu - u, pv - v) for pu, pv in patch.points])
    mask = np.zeros(region.shape[:2], dtype=np.float32)
    cv2.fillPoly(mask, [outline], 0.33, cv2.LINE_8, _SHIFT)
    cv2.polylines(mask, [outline], True, 0.33, _pixels(2 * patch.radius), cv2.LINE_8, _SHIFT)
    weight = cv2.GaussianBlur(mask, (0, 0), max(0.5, patch.radius / 4))
    region[:] = cv2.blendLinear(_filled(region, color), region.copy(), weight, 1 - weight)


def _fixed_point(points: Sequence[Point2]) -> NDArray[np.int32]:
    fixed: NDArray[np.int32] = np.rint(np.array(points) * (1 << _SHIFT)).astype(np.int32)
    return fixed


class _Writer:
    """Writes labels; letters stay legible in small pictures and grow with large ones."""

    def __init__(self, unit: float) -> None:
        self.unit = unit
        self._scale = 0.42 * max(unit**0.85, 0.85)
        self._thickness = max(1, round(0.7 * unit))
        (_, self._ascent), self._descent = self._size("Ag")
        self._pad = 0.45 * self._ascent

    def measure(self, text: str) -> tuple[float, float]:
        return (self._width(text) + 3.5 * self._pad, self._line_height + 2 * self._pad)

    def label(self, image: Image, label: Label) -> None:
        """White on a dark plate, with a bar in the grounding's colour: legible on any picture."""
        left, top, right, bottom = (round(value) for value in label.rect)
        _shade(image, left, top, right, bottom)
        bar = max(2, round(0.8 * self._pad))
        cv2.rectangle(image, (left, top), (left + bar, bottom), label.shape.color, cv2.FILLED)
        self._write(image, left + 2.2 * self._pad, top + self._pad + self._ascent, label.text)

    def strip(self, image: Image, text: str) -> int:
        """Writes ``text`` over the lower edge and returns the strip's height in pixels."""
        height, width = image.shape[:2]
        strip: int = min(height, round(self._line_height + 2.4 * self._pad))
        while text and self._width(text) > width - 3 * self._pad:
            text = text.removesuffix("...")[:-1].rstrip() + "..." if len(text) > 4 else ""
        _shade(image, 0, height - strip, width - 1, height - 1)
        self._write(image, 1.5 * self._pad, height - strip + 1.2 * self._pad + self._ascent, text)
        return strip

    @property
    def _line_height(self) -> float:
        return self._ascent + 0.6 * self._descent

    def _size(self, text: str) -> tuple[tuple[int, int], int]:
        (width, height), below = cv2.getTextSize(text, _FONT, self._scale, self._thickness)
        return (width, height), below

    def _width(self, text: str) -> float:
        parts = text.split(" · ")
        words = sum(self._size(ascii_of(part))[0][0] for part in parts)
        return words + self._gap * (len(parts) - 1)

    @property
    def _gap(self) -> float:
        return 1.3 * self._ascent

    def _write(self, image: Image, left: float, baseline: float, text: str) -> None:
        """Draws the middle dots itself: they are not in the font."""
        for i, part in enumerate(text.split(" · ")):
            if i:
                middle = (left + self._gap / 2, baseline - 0.4 * self._ascent)
                _disc(image, middle, max(1.3, 0.14 * self._ascent), _INK)
                left += self._gap
            words = ascii_of(part)
            origin = (round(left), round(baseline))
            cv2.putText(
                image, words, origin, _FONT, self._scale, _INK, self._thickness, cv2.LINE_AA
            )
            left += self._size(words)[0][0]


def ascii_of(text: str) -> str:
    """``text`` in the letters of OpenCV's fonts: the signs that this package's own sentences hold
    are spelt out, others are ``?``."""
    return "".join(c if " " <= c <= "~" else _SPELT.get(c, "?") for c in text)


def _shade(image: Image, left: int, top: int, right: int, bottom: int) -> None:
    region = image[max(0, top) : bottom + 1, max(0, left) : right + 1]
    region[:] = cv2.addWeighted(region, 0.2, _filled(region, _PAPER), 0.8, 0)


def _filled(region: Image, color: Color) -> Image:
    return np.full(region.shape, color, np.uint8)
