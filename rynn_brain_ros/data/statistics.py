"""Per-feature statistics, as LeRobot keeps them for normalization.

``min, max, mean, std, count`` and the quantiles ``q01 … q99``. Images are told in 0…1 per channel,
of shape [3, 1, 1], from every frame at about a hundred pixels a side. Over several episodes the
quantiles are means weighted by count, as in LeRobot's ``compute_stats.py``: an approximation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Stats = dict[str, NDArray[Any]]

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
_LOOKED_AT_PX = 100


def number_stats(values: NDArray[Any]) -> Stats:
    """Of ``values`` [frames, n], over the frames."""
    numbers = np.asarray(values, np.float64)
    return {
        "min": np.min(values, axis=0),
        "max": np.max(values, axis=0),
        "mean": numbers.mean(axis=0),
        "std": numbers.std(axis=0),
        "count": np.array([len(values)]),
        **{name: np.quantile(numbers, q, axis=0) for name, q in QUANTILES.items()},
    }


class ImageStats:
    """A histogram of each channel; takes one frame after the other."""

    def __init__(self) -> None:
        self._histogram = np.zeros((3, 256), np.int64)
        self._frames = 0

    def add(self, rgb: NDArray[np.uint8]) -> None:
        every = max(1, min(rgb.shape[:2]) // _LOOKED_AT_PX)
        seen = rgb[::every, ::every]
        for channel in range(3):
            counts = np.bincount(seen[..., channel].ravel(), minlength=256)
            self._histogram[channel] += counts
        self._frames += 1

    def stats(self) -> Stats:
        levels = np.arange(256) / 255
        total = self._histogram.sum(axis=1, keepdims=True)
        share = self._histogram / total
        mean = share @ levels
        present = self._histogram > 0
        cumulative = np.cumsum(share, axis=1)
        found = {
            "min": levels[present.argmax(axis=1)],
            "max": levels[255 - present[:, ::-1].argmax(axis=1)],
            "mean": mean,
            "std": np.sqrt(np.maximum(0.0, share @ levels**2 - mean**2)),
            **{
                name: levels[(cumulative >= q - 1e-12).argmax(axis=1)]
                for name, q in QUANTILES.items()
            },
        }
        shaped = {name: values.reshape(3, 1, 1) for name, values in found.items()}
        return {**shaped, "count": np.array([self._frames])}


def together(stats: Sequence[Stats]) -> Stats:
    """Of several episodes."""
    counts = np.array([float(part["count"][0]) for part in stats])
    weights = counts / counts.sum()

    def weighted(values: Sequence[NDArray[Any]]) -> NDArray[Any]:
        return np.tensordot(weights, np.stack(values), axes=1)

    mean = weighted([part["mean"] for part in stats])
    spread = weighted([part["std"] ** 2 + (part["mean"] - mean) ** 2 for part in stats])
    return {
        "min": np.min([part["min"] for part in stats], axis=0),
        "max": np.max([part["max"] for part in stats], axis=0),
        "mean": mean,
        "std": np.sqrt(spread),
        "count": np.array([int(counts.sum())]),
        **{
            name: weighted([part[name] for part in stats])
            for name in QUANTILES
            if all(name in part for part in stats)
        },
    }


def as_lists(stats: Mapping[str, Stats]) -> dict[str, dict[str, Any]]:
    """For JSON."""
    return {key: {n: v.tolist() for n, v in part.items()} for key, part in stats.items()}


def as_arrays(record: Mapping[str, Mapping[str, Any]]) -> dict[str, Stats]:
    return {key: {n: np.asarray(v) for n, v in part.items()} for key, part in record.items()}
