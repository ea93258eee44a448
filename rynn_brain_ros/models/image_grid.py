"""Pictures as Qwen's vision tower wants them: sides in whole visual tokens, within the budget.

Servers resize too, each a little differently, and grounding drifts with it. A picture that is
already on the grid is left alone by all of them.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from rynn_brain_ros.memory import decode_color
from rynn_brain_ros.values import SelectedFrame

TOKEN_PX = 32
"""Side of one visual token in pixels: patches of 16, merged 2 × 2 (Qwen3-VL and Qwen3.5)."""
MIN_TOKENS = 64
"""Fewer, and the processor enlarges the picture by itself (``shortest_edge`` 65536 pixels)."""
_JPEG_QUALITY = 95


def grid_size(width: int, height: int, max_tokens: int) -> tuple[int, int]:
    """(width, height) on the grid, with nearly the same aspect ratio, worth `MIN_TOKENS` to
    ``max_tokens`` visual tokens (the least wins where both cannot be).

    The rule of Qwen's ``smart_resize``: round both sides to the grid; if that is too much or too
    little, scale both by the square root of the excess first.
    """
    columns, rows = max(1, round(width / TOKEN_PX)), max(1, round(height / TOKEN_PX))
    exact = width * height / TOKEN_PX**2
    if columns * rows > max_tokens:
        shrink = math.sqrt(exact / max_tokens)
        columns = max(1, math.floor(width / shrink / TOKEN_PX))
        rows = max(1, math.floor(height / shrink / TOKEN_PX))
    if columns * rows < MIN_TOKENS:
        grow = math.sqrt(MIN_TOKENS / exact)
        columns = math.ceil(width * grow / TOKEN_PX)
        rows = math.ceil(height * grow / TOKEN_PX)
    return columns * TOKEN_PX, rows * TOKEN_PX


def _is_deep(selected: SelectedFrame) -> bool:
    """A PNG of 16 bits, which servers show white; its IHDR tells the depth in byte 24."""
    return selected.mime == "image/png" and selected.image[24] > 8


def on_grid(selected: SelectedFrame, max_tokens: int) -> tuple[bytes, str]:
    """(encoded picture, mime type) on the grid; the canonical bytes where they fit already."""
    size = grid_size(selected.width, selected.height, max_tokens)
    if size == (selected.width, selected.height) and not _is_deep(selected):
        return selected.image, selected.mime
    rgb = decode_color(selected.frame.color)
    shrinks = size[0] * size[1] < selected.width * selected.height
    resized = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    bgr = np.ascontiguousarray(resized[..., ::-1])
    if selected.mime == "image/png":
        return cv2.imencode(".png", bgr)[1].tobytes(), selected.mime
    quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    return cv2.imencode(".jpg", bgr, quality)[1].tobytes(), "image/jpeg"
