"""Frames as the vision tower takes them: decoded, on the pixel grid, within the token budget."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.memory import decode_color
from rynn_brain_ros.models.image_grid import TOKEN_PX, grid_size
from rynn_brain_ros.values import SelectedFrame, UnreadableQuestionError

MAX_SIDE_PX, MAX_ASPECT = 16384, 200
"""The longest side worth decoding, and the longest shape that Qwen's processor takes."""


def shown_size(
    selected: SelectedFrame, max_tokens: int, token_px: int = TOKEN_PX
) -> tuple[int, int]:
    """(width, height) in pixels that the picture gets, in whole visual tokens of ``token_px``.

    Raises `UnreadableQuestionError` for one that cannot be shown; nothing is decoded."""
    width, height = selected.width, selected.height
    shortest, longest = sorted((width, height))
    if longest > MAX_SIDE_PX or longest > MAX_ASPECT * shortest or shortest < 1:
        raise UnreadableQuestionError(
            f"an image of {width}×{height} pixels (camera {selected.frame.camera!r}) cannot be "
            f"shown to the model: sides from 1 to {MAX_SIDE_PX} pixels, one at most {MAX_ASPECT} "
            "times the other; let the camera publish a smaller image"
        )
    finer = TOKEN_PX // token_px
    columns_px, rows_px = grid_size(width * finer, height * finer, max_tokens)
    return columns_px // finer, rows_px // finer


def pixels(selected: SelectedFrame, size: tuple[int, int]) -> NDArray[np.uint8]:
    """RGB, uint8 [height, width, 3] of this ``size`` (width, height)."""
    rgb = decode_color(selected.frame.color)
    if size == (selected.width, selected.height):
        return rgb
    shrinks = size[0] * size[1] < selected.width * selected.height
    resized = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return np.asarray(resized, dtype=np.uint8)
