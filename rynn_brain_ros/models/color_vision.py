"""Finding plain coloured things in a picture: thresholds, components, shapes.

This is the eye of the ``color-baseline`` engine. It knows a closed list of colours and shapes,
looks at pixels only, and knows nothing about what it was not told.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

MASK_WIDTH = 320
"""Pictures are looked at in this width: colour blobs do not need more."""
MIN_AREA_PX = 24
"""Smallest thing worth naming, in pixels at `MASK_WIDTH`: about 5 × 5."""

# Hue ranges of OpenCV's HSV (0…179), chosen so that neighbours meet without a gap.
_HUES: dict[str, tuple[tuple[int, int], ...]] = {
    "red": ((0, 8), (171, 179)),
    "orange": ((9, 19),),
    "yellow": ((20, 34),),
    "green": ((35, 84),),
    "cyan": ((85, 98),),
    "blue": ((99, 128),),
    "purple": ((129, 149),),
    "pink": ((150, 170),),
}
_MIN_SATURATION = 90
_MIN_VALUE = 45
_ACHROMATIC = ("white", "gray", "black")
COLORS = (*_HUES, *_ACHROMATIC)
_COLOR_SYNONYMS = {"grey": "gray", "violet": "purple", "magenta": "pink", "turquoise": "cyan"}

SHAPES = ("cube", "ball", "cylinder", "bowl", "plate", "mug")
_SHAPE_SYNONYMS = {
    "block": "cube",
    "box": "cube",
    "sphere": "ball",
    "can": "cylinder",
    "dish": "plate",
    "cup": "mug",
}
_ANY_SHAPE = ("object", "thing", "item", "one")


@dataclass(frozen=True)
class Noun:
    """A thing that an instruction names: a colour, a shape or both; ``None`` means any."""

    color: str | None
    shape: str | None
    start: int = 0

    def __str__(self) -> str:
        return f"{self.color or 'coloured'} {self.shape or 'thing'}"


_WORDS = re.compile(
    r"\b(?:(?P<color>{c})\s+)?(?P<shape>{s})s?\b|\b(?P<lone>{c})\b".format(
        c="|".join((*COLORS, *_COLOR_SYNONYMS)),
        s="|".join((*SHAPES, *_SHAPE_SYNONYMS, *_ANY_SHAPE)),
    ),
    re.IGNORECASE,
)


def nouns(instruction: str) -> tuple[Noun, ...]:
    """The coloured things that an instruction names, in its order."""
    found = []
    for match in _WORDS.finditer(instruction):
        color = (match["color"] or match["lone"] or "").lower()
        shape = (match["shape"] or "").lower()
        shape = _SHAPE_SYNONYMS.get(shape, shape)
        noun = Noun(
            _COLOR_SYNONYMS.get(color, color) or None,
            None if shape in _ANY_SHAPE else shape or None,
            match.start(),
        )
        if noun.color or noun.shape:
            found.append(noun)
    return tuple(found)


@dataclass(frozen=True)
class Blob:
    """One connected patch of a colour. ``mask`` is at `MASK_WIDTH`; coordinates are 0…1."""

    color: str
    mask: NDArray[np.bool_] = field(repr=False)
    area_px: int
    circularity: float

    def shape_match(self, shape: str | None) -> float:
        """How well the outline fits a shape, 0…1. One picture cannot tell all of them apart."""
        if shape in ("ball", "bowl", "plate"):
            return min(1.0, self.circularity / 0.85)
        if shape == "cube":
            return 1.0 if self.circularity < 0.88 else 0.7
        return 1.0

    def bounds(self) -> tuple[float, float, float, float]:
        """(x_min, y_min, x_max, y_max) in 0…1 of the picture."""
        ys, xs = np.nonzero(self.mask)
        h, w = self.mask.shape
        return (
            float(xs.min()) / (w - 1),
            float(ys.min()) / (h - 1),
            float(xs.max()) / (w - 1),
            float(ys.max()) / (h - 1),
        )

    def inmost(self) -> tuple[float, float]:
        """The point farthest from the outline, in 0…1: inside even when the shape is hollow."""
        padded = np.pad(self.mask.astype(np.uint8), 1)
        distance = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
        y, x = np.unravel_index(int(np.argmax(distance)), distance.shape)
        return self._unit(float(x), float(y))

    def spread(self, count: int) -> tuple[tuple[float, float], ...]:
        """``count`` points well inside, far from each other, in 0…1 (farthest-point sampling)."""
        padded = np.pad(self.mask.astype(np.uint8), 1)
        distance = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
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
    colors = _HUES if color is None else (color,)
    blobs = [blob for name in colors for blob in _components(_color_mask(hsv, name), name)]
    return tuple(sorted(blobs, key=lambda blob: -blob.area_px))


def _color_mask(hsv: NDArray[np.uint8], color: str) -> NDArray[np.uint8]:
    if color == "white":
        mask = cv2.inRange(hsv, (0, 0, 190), (179, 40, 255))
    elif color == "gray":
        mask = cv2.inRange(hsv, (0, 0, 70), (179, 40, 189))
    elif color == "black":
        mask = cv2.inRange(hsv, (0, 0, 0), (179, 255, _MIN_VALUE))
    else:
        ranges = [
            cv2.inRange(hsv, (low, _MIN_SATURATION, _MIN_VALUE), (high, 255, 255))
            for low, high in _HUES[color]
        ]
        mask = np.bitwise_or.reduce(ranges)
    kernel = np.ones((3, 3), np.uint8)
    return np.asarray(cv2.morphologyEx(mask, cv2.MORPH_OPEN, kernel), np.uint8)


def _components(mask: NDArray[np.uint8], color: str) -> list[Blob]:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    height, width = mask.shape
    blobs = []
    for index in range(1, count):
        x, y, w, h, area = (int(v) for v in stats[index])
        touches_border = x == 0 or y == 0 or x + w == width or y + h == height
        is_background = color in _ACHROMATIC and (touches_border or area > mask.size / 4)
        if area < MIN_AREA_PX or is_background:
            continue
        component = labels == index
        blobs.append(Blob(color, component, area, _circularity(component)))
    return blobs


def _circularity(component: NDArray[np.bool_]) -> float:
    """4π·area / perimeter² of the convex hull: 1 for a disc, 0.785 for a square."""
    contours, _ = cv2.findContours(
        component.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    hull = cv2.convexHull(np.concatenate(contours))
    perimeter = cv2.arcLength(hull, True)
    return float(4 * np.pi * cv2.contourArea(hull) / perimeter**2) if perimeter > 0 else 0.0
