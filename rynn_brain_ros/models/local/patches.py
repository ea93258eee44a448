"""Pixels → patches, as Qwen's image processor cuts them, with the checkpoint's own settings.

The same arithmetic as transformers' Pillow processor, once for each byte that there is, so the
numbers are the same bits. It needs neither Pillow nor torchvision, which that processor needs in
some versions.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.values import EngineError

_FILES = (("preprocessor_config.json", ()), ("processor_config.json", ("image_processor",)))
"""Where transformers 4.57 and 5 write the settings."""


@dataclass(frozen=True)
class Patcher:
    """``patch_size`` pixels a side; ``merge_size`` × ``merge_size`` patches make one visual token;
    an image is repeated ``temporal_patch_size`` times, since the tower reads short films."""

    patch_size: int
    merge_size: int
    temporal_patch_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    rescale_factor: float = 1 / 255
    max_pixels: int = 16777216

    @property
    def token_px(self) -> int:
        """Side of a visual token in pixels."""
        return self.patch_size * self.merge_size

    @property
    def max_tokens(self) -> int:
        """The most visual tokens that the checkpoint wants to spend on one image."""
        return self.max_pixels // self.token_px**2

    def cut(self, rgb: NDArray[np.uint8]) -> tuple[NDArray[np.float32], tuple[int, int, int]]:
        """Patches [rows · columns, 3 · time · size · size] of an image [height, width, 3] that is
        on the grid, in groups of one visual token, and the grid (1, rows, columns) in patches."""
        size, merge = self.patch_size, self.merge_size
        rows, columns = rgb.shape[0] // size, rgb.shape[1] // size
        tiles = rgb.reshape(rows // merge, merge, size, columns // merge, merge, size, 3)
        tiles = tiles.transpose(6, 0, 3, 1, 4, 2, 5).reshape(3, rows * columns, 1, size, size)
        shape = (rows * columns, 3, self.temporal_patch_size, size, size)
        patches = np.empty(shape, np.float32)
        for channel, (values, tile) in enumerate(zip(self._values, tiles, strict=True)):
            patches[:, channel] = values[tile]
        return patches.reshape(rows * columns, -1), (1, rows, columns)

    @functools.cached_property
    def _values(self) -> NDArray[np.float32]:
        """What each byte becomes, [channel, 256]: there are no others to compute."""
        scaled = (np.arange(256, dtype=np.float64) * self.rescale_factor).astype(np.float32)
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        values: NDArray[np.float32] = (scaled - mean[:, None]) / std[:, None]
        return values


def read_patcher(path: Path) -> Patcher:
    """The settings of a checkpoint directory. Raises `EngineError`."""
    for name, keys in _FILES:
        if (path / name).exists():
            settings = json.loads((path / name).read_text(encoding="utf-8"))
            for key in keys:
                settings = settings.get(key, {})
            if "patch_size" in settings:
                return _patcher(path / name, settings)
    raise EngineError(f"{path} has no preprocessor_config.json; finish the download")


def _patcher(file: Path, settings: Mapping[str, Any]) -> Patcher:
    try:
        (r, g, b), (sr, sg, sb) = settings["image_mean"], settings["image_std"]
        return Patcher(
            int(settings["patch_size"]),
            int(settings["merge_size"]),
            int(settings["temporal_patch_size"]),
            (float(r), float(g), float(b)),
            (float(sr), float(sg), float(sb)),
            float(settings.get("rescale_factor", 1 / 255)),
            int(settings["size"]["longest_edge"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise EngineError(f"{file} lacks a setting ({error!r}); download it again") from error
