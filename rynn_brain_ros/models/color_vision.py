"""Finding plain coloured things in a picture: thresholds, components, shapes.

This is the eye of the ``color-baseline`` engine. It knows a closed list of colours and shapes,
looks at pixels only, and knows nothing about what it was not told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.models.color_words import ACHROMATIC, CHROMATIC, Noun, with_article

Mask = NDArray[np.bool_]
Bounds = tuple[float, float, float, float]

MASK_WIDTH = 640
"""Pictures are looked at in this width, in which a cube of 4 cm a metre away covers 20 pixels."""
MIN_AREA_PX = 96
"""Smallest thing worth naming, in pixels at `MASK_WIDTH`: about 10 × 10."""
_OPENING_PX = 3

# Hue ranges of OpenCV's HSV (0…179), chosen so that neighbours meet without a gap: each colour
# goes from its number to the next one's, red around the end.
_FIRST_HUES = (0, 9, 20, 35, 85, 99, 129, 150, 171)
_MIN_SATURATION = 90
_MIN_VALUE = 45

# Outlines and light of 600 things of the simulated table, seen at a slant of about 30°.
_ROUND, _DISC = 0.96, 0.835
_FLAT = 1.15
_EVEN = 0.093
"""Spread of a plate's brightness at most, per mean: up to 0.05 were seen at the simulated table and
0.088 in drawn ones, bowls from 0.098 on in small pictures, from 0.12 on in others."""
_LIT_TOP = _LIT_RIM = 1.08
"""Brighter than the side below it: tops of solid things from 1.14 on. Brighter than what is below
it: the far rim of mugs, never the far edge of a solid top, up to 1.02."""
_SLENDER = 0.128
_LONG = 1.455
_MARGIN_PX = 5
"""Colours mix at an outline; more, in a smaller picture that was made larger."""
_LEAST_WIDTH_PX = 12
"""The shape of anything narrower is not told, here or in a smaller picture's own pixels."""
_TAKEN_FOR = {"cube": "cylinder", "cylinder": "cube"}
"""Shapes that are as good for whoever grips them, where an outline may deceive."""


@dataclass(frozen=True)
class Blob:
    """One connected patch of a colour. ``mask`` is at `MASK_WIDTH`; coordinates are 0…1.

    ``shape`` is what it looks like, empty where it is too small to tell or goes on outside.
    """

    color: str
    mask: Mask = field(repr=False)
    area_px: int
    shape: str = ""

    def bounds(self) -> Bounds:
        """(x_min, y_min, x_max, y_max) in 0…1 of the picture."""
        ys, xs = np.nonzero(self.mask)
        x0, y0 = self._unit(float(xs.min()), float(ys.min()))
        return (x0, y0, *self._unit(float(xs.max()), float(ys.max())))

    def inmost(self) -> tuple[float, float]:
        """The point farthest from the outline, in 0…1: inside even when the shape is hollow."""
        distance = self._depths()
        y, x = np.unravel_index(int(np.argmax(distance)), distance.shape)
        return self._unit(float(x), float(y))

    def spread(self, count: int) -> tuple[tuple[float, float], ...]:
        """``count`` points well inside, far from each other, in 0…1 (farthest-point sampling)."""
        distance = self._depths()
        ys, xs = np.nonzero(distance >= 0.4 * distance.max())
        candidates = np.stack([xs, ys], axis=1).astype(np.float64)
        center = np.array(np.unravel_index(int(np.argmax(distance)), distance.shape))[::-1]
        chosen = [center.astype(np.float64)]
        while len(chosen) < min(count, len(candidates)):
            gaps = np.min([np.linalg.norm(candidates - c, axis=1) for c in chosen], axis=0)
            chosen.append(candidates[int(np.argmax(gaps))])
        return tuple(self._unit(float(x), float(y)) for x, y in chosen)

    def rectangle(self) -> tuple[tuple[float, float], ...]:
        """Corners of the smallest rotated rectangle around the blob, in 0…1."""
        ys, xs = np.nonzero(self.mask)
        corners = cv2.boxPoints(cv2.minAreaRect(np.stack([xs, ys], axis=1).astype(np.float32)))
        return tuple(self._unit(float(x), float(y)) for x, y in corners)

    def _depths(self) -> NDArray[np.float32]:
        """Distance of each pixel inside from the outline or the picture's edge."""
        padded = np.pad(self.mask.astype(np.uint8), 1)
        return np.asarray(cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1], np.float32)

    def _unit(self, x: float, y: float) -> tuple[float, float]:
        h, w = self.mask.shape
        return (min(max(x / (w - 1), 0.0), 1.0), min(max(y / (h - 1), 0.0), 1.0))


def find_blobs(rgb: NDArray[np.uint8], color: str | None = None) -> tuple[Blob, ...]:
    """Patches of one colour (or of every chromatic colour), largest first.

    ``rgb`` is uint8 [H, W, 3]. Patches of white, grey or black that touch the border or cover a
    quarter of the picture are background: walls, floors and tables.
    """
    height, width = rgb.shape[:2]
    scale = MASK_WIDTH / width
    size = (MASK_WIDTH, max(2, round(height * scale)))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
    hsv = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2HSV), np.uint8)
    least_px = _LEAST_WIDTH_PX * max(1.0, scale)
    names = _color_numbers(hsv)
    blobs = []
    for name in CHROMATIC if color is None else (color,):
        is_named = name in CHROMATIC
        mask = names == CHROMATIC.index(name) + 1 if is_named else _achromatic(hsv, name)
        blobs += _components(mask.astype(np.uint8), name, hsv[..., 2], least_px)
    return tuple(sorted(blobs, key=lambda blob: -blob.area_px))


def fitting(blobs: Sequence[Blob], noun: Noun) -> tuple[Blob, ...]:
    """Patches of the noun's colour and shape."""
    named = [blob for blob in blobs if noun.color in (None, blob.color)]
    if noun.shape is None:
        return tuple(named)
    exact = [blob for blob in named if blob.shape == noun.shape]
    if exact or noun.color is None:
        return tuple(exact)
    alike = ("", _TAKEN_FOR.get(noun.shape))
    return tuple(blob for blob in named if blob.shape in alike)


def none_of(blobs: Sequence[Blob], noun: Noun) -> str:
    """A sentence for where nothing is `fitting`, with what else has that colour."""
    others = {blob.shape for blob in blobs if blob.color == noun.color and blob.shape}
    listed = " and ".join(with_article(Noun(noun.color, shape)) for shape in sorted(others))
    return f"I see no {noun}; I see {listed}." if others else f"I see no {noun}."


def _color_numbers(hsv: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Per pixel 0 for no plain colour, else 1 + its index in `CHROMATIC`."""
    numbers = np.searchsorted(_FIRST_HUES, np.arange(256), side="right")
    numbers[numbers > len(CHROMATIC)] = 1
    named = np.asarray(cv2.LUT(hsv[..., 0], numbers.astype(np.uint8)), np.uint8)
    plain = cv2.inRange(hsv, (0, _MIN_SATURATION, _MIN_VALUE), (255, 255, 255))
    return np.asarray(cv2.bitwise_and(named, plain), np.uint8)


def _achromatic(hsv: NDArray[np.uint8], color: str) -> NDArray[np.uint8]:
    if color == "white":
        return np.asarray(cv2.inRange(hsv, (0, 0, 190), (179, 40, 255)), np.uint8)
    if color == "gray":
        return np.asarray(cv2.inRange(hsv, (0, 0, 70), (179, 40, 189)), np.uint8)
    return np.asarray(cv2.inRange(hsv, (0, 0, 0), (179, 255, _MIN_VALUE)), np.uint8)


def _components(
    mask: NDArray[np.uint8], color: str, value: NDArray[np.uint8], least_px: float
) -> list[Blob]:
    if cv2.countNonZero(mask) < MIN_AREA_PX:
        return []
    mask = np.asarray(
        cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((_OPENING_PX, _OPENING_PX), np.uint8)),
        np.uint8,
    )
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    height, width = mask.shape
    blobs = []
    for index in range(1, count):
        x, y, w, h, area = (int(v) for v in stats[index])
        touches_border = x == 0 or y == 0 or x + w == width or y + h == height
        is_background = color in ACHROMATIC and (touches_border or area > mask.size / 4)
        if area < MIN_AREA_PX or is_background:
            continue
        component = labels == index
        part = np.s_[y : y + h, x : x + w]
        is_told = w >= least_px and not touches_border
        margin = round(_MARGIN_PX * least_px / _LEAST_WIDTH_PX)
        shape = _shape(component[part], value[part], margin) if is_told else ""
        blobs.append(Blob(color, component, area, shape))
    return blobs


# --- the floor ------------------------------------------------------------------------------------

_FLOOR_WIDTH = 160
"""Pictures are looked at in this width."""
_FLOOR_EVEN = (40, 18, 18)
"""How much a floor may differ from where the robot stands, of 255, as `_tinted`."""
_FLOOR_SEEDS = (0.5, 0.25, 0.75, 0.1, 0.9)
_PASSAGE = 0.08
"""A floor's far end is at least this wide, of the picture."""


def far_floor(
    rgb: NDArray[np.uint8], columns: tuple[float, float] = (0.0, 1.0)
) -> tuple[float, float] | None:
    """The far end of the floor, in 0…1; ``None`` where there is no floor.

    Floor is what goes on evenly from the picture's lower edge; ``columns`` of it are looked at.
    """
    height, width = rgb.shape[:2]
    size = (_FLOOR_WIDTH, max(2, round(height * _FLOOR_WIDTH / width)))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    floor = _floor(np.asarray(small, np.uint8))
    left, right = (round(share * _FLOOR_WIDTH) for share in columns)
    row_of = np.ones((1, round(_PASSAGE * _FLOOR_WIDTH)), np.uint8)
    wide = cv2.erode(np.ascontiguousarray(floor[:, left:right]), row_of)
    rows, xs = np.nonzero(wide)
    if not len(rows):
        return None
    middle = float(np.median(xs[rows == rows[0]])) + left
    return (middle / (_FLOOR_WIDTH - 1), float(rows[0]) / (size[1] - 1))


def _floor(small: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """1 where the floor is: from several places at the lower edge that have no colour. What goes on
    up to the upper edge is a wall."""
    smooth = np.asarray(cv2.GaussianBlur(cv2.medianBlur(small, 5), (5, 5), 0), np.uint8)
    plain = _color_numbers(np.asarray(cv2.cvtColor(smooth, cv2.COLOR_RGB2HSV), np.uint8)) == 0
    tinted, (height, width) = _tinted(smooth), plain.shape
    floor = np.zeros((height, width), np.uint8)
    flags = 4 | cv2.FLOODFILL_MASK_ONLY | cv2.FLOODFILL_FIXED_RANGE | (1 << 8)
    for share in _FLOOR_SEEDS:
        column, filled = round(share * (width - 1)), np.zeros((height + 2, width + 2), np.uint8)
        if plain[-1, column] and not floor[-1, column]:
            seed = (column, height - 1)
            cv2.floodFill(tinted, filled, seed, 0, _FLOOR_EVEN, _FLOOR_EVEN, flags)
            region = filled[1:-1, 1:-1]  # around it OpenCV keeps a border of its own
            floor |= region * (not region[0].any())
    return floor


def _tinted(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Brightness, and eight times what red and blue differ from green: light changes the one, a
    floor's own colour is the other."""
    red, green, blue = np.moveaxis(rgb.astype(np.int32), 2, 0)
    tints = np.stack([green, 128 + 8 * (red - green), 128 + 8 * (blue - green)], axis=2)
    return np.asarray(np.clip(tints, 0, 255), np.uint8)


# --- shapes ---------------------------------------------------------------------------------------


def _hull(part: Mask) -> NDArray[np.int32]:
    contours, _ = cv2.findContours(part.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.convexHull(np.concatenate(contours)), np.int32)


def _circularity(hull: NDArray[np.int32]) -> float:
    """4π·area / perimeter²: 1 for a disc, 0.785 for a square."""
    perimeter = cv2.arcLength(hull, True)
    return float(4 * np.pi * cv2.contourArea(hull) / perimeter**2) if perimeter > 0 else 0.0


def _shape(part: Mask, value: NDArray[np.uint8], margin: int) -> str:
    """What a blob looks like from above at a slant, in a light from above.

    ``part`` is its mask within its bounds, ``value`` the brightness there. Balls are round. What
    is flat and wide is a plate if it is evenly lit within ``margin`` pixels of its outline, else a
    bowl. Solid things have a top brighter than their sides, mugs a rim and a hole there. A cylinder
    is rounder than a cube as slender as it.
    """
    height, width = part.shape
    hull = _hull(part)
    round_ness = _circularity(hull)
    radius = cv2.minEnclosingCircle(hull)[1] + 0.5
    if round_ness >= _ROUND and part.sum() >= _DISC * np.pi * radius**2:
        return "ball"
    if width / height >= _FLAT:
        inner = value[cv2.erode(part.astype(np.uint8), np.ones((margin, margin), np.uint8)) > 0]
        evenly = inner.size > 0 and float(inner.std()) < _EVEN * float(inner.mean())
        return "plate" if evenly else "bowl"
    rim, top = _brightness(part, value, 0.0, 0.08), _brightness(part, value, 0.08, 0.25)
    if rim > _LIT_RIM * top or top < _LIT_TOP * _brightness(part, value, 0.55, 0.9):
        return "mug"
    slender = width / height < round_ness - _SLENDER
    return "cylinder" if slender and _is_long(hull) else "cube"


def _is_long(hull: NDArray[np.int32]) -> bool:
    """Longer than a cube seen over its edge: up to 1.42 times its width, cylinders from 1.49."""
    sides = cv2.minAreaRect(hull)[1]
    return float(max(sides) + 1) >= _LONG * float(min(sides) + 1)


def _brightness(part: Mask, value: NDArray[np.uint8], top: float, bottom: float) -> float:
    """Median in the middle columns between two heights, 0…1 from the top."""
    height, width = part.shape
    rows = slice(int(top * height), max(int(top * height) + 1, int(bottom * height)))
    zone = np.s_[rows, int(0.3 * width) : max(int(0.7 * width), int(0.3 * width) + 1)]
    inside = value[zone][part[zone]]
    return float(np.median(inside)) if inside.size else 0.0
