"""What a thing looks like, to know it again: its colours, wherever it is put.

A histogram of hue and saturation, back-projected onto a later picture (Swain and Ballard, "Color
Indexing", IJCV 1991). Brightness is left out: it changes with the light.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

_BINS = (32, 16)
_RANGES = (0.0, 180.0, 0.0, 256.0)
_ALIKE = 0.4
_LIKELY = 0.1
"""A colour belongs to the thing if it is at least this frequent, relative to its commonest."""


@dataclass(frozen=True, eq=False)
class Appearance:
    """The colours of ``n_pixels`` pixels: a histogram [32, 16] over hue and saturation, its
    highest bin 1."""

    histogram: NDArray[np.float32] = field(repr=False)
    n_pixels: int

    @classmethod
    def of(cls, rgb: Picture, pixels: NDArray[np.int64]) -> Appearance:
        """Of ``pixels`` [N, 2] (u, v) in ``rgb`` uint8 [H, W, 3]."""
        mask = np.zeros(rgb.shape[:2], np.uint8)
        mask[pixels[:, 1], pixels[:, 0]] = 255
        hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)
        histogram = cv2.calcHist([hsv], [0, 1], mask, list(_BINS), list(_RANGES))
        smooth = cv2.GaussianBlur(np.asarray(histogram, np.float32), (3, 3), 0.0)
        return cls(np.asarray(smooth / max(float(smooth.max()), 1e-9), np.float32), len(pixels))

    def is_like(self, other: Appearance) -> bool:
        """Whether both may be of one thing, seen at two places."""
        correlation = cv2.compareHist(self.histogram, other.histogram, cv2.HISTCMP_CORREL)
        return correlation >= _ALIKE

    def found_in(self, rgb: Picture) -> NDArray[np.bool_]:
        """Where a picture has the thing's colours, [H, W]."""
        hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)
        back = cv2.calcBackProject([hsv], [0, 1], self.histogram, list(_RANGES), 255)
        return np.asarray(back) >= 255 * _LIKELY
