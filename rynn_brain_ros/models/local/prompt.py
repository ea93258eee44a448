"""A chat as the model reads it: token ids, where the images are, and the 3D positions of both.

Numpy only. Positions follow Qwen3-VL's interleaved M-RoPE: text advances all three axes by one;
an image keeps its start on the time axis, spreads its rows and columns over the other two, and
what follows begins behind the larger side of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

ImageKey = tuple[str, int, int]
"""(sha256 of the canonical bytes, width, height in pixels as shown to the vision tower)."""


@dataclass(frozen=True)
class ImageSpan:
    """``rows`` × ``columns`` visual tokens, the first of them at index ``start``."""

    key: ImageKey
    start: int
    rows: int
    columns: int

    @property
    def end(self) -> int:
        return self.start + self.rows * self.columns


@dataclass(frozen=True)
class Prompt:
    """``ids`` int64 [N] with one id per visual token; ``images`` in their order."""

    ids: NDArray[np.int64] = field(repr=False)
    images: tuple[ImageSpan, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def images_end(self) -> int:
        """Index behind the last image and the token that closes it; 0 without images."""
        return self.images[-1].end + 1 if self.images else 0

    def positions(self) -> NDArray[np.int64]:
        """int64 [3, N]: time, row and column of each token."""
        return _positions(len(self), self.images)[0]

    def next_position(self) -> int:
        """Of the first token that is written behind it, on all axes."""
        return _positions(len(self), self.images)[1]

    def common_prefix(self, other: Prompt) -> int:
        """How many tokens both begin with, the pictures included."""
        shortest = min(len(self), len(other))
        differs = np.flatnonzero(self.ids[:shortest] != other.ids[:shortest])
        common = int(differs[0]) if len(differs) else shortest
        for mine, theirs in zip(self.images, other.images, strict=False):
            if mine.start >= common:
                break
            if mine != theirs:
                return mine.start
        return common

    def first(self, length: int) -> Prompt:
        """Its first tokens. A picture that goes on behind them is still told whole."""
        return Prompt(self.ids[:length], tuple(i for i in self.images if i.start < length))

    def written(self, tokens: Sequence[int]) -> Prompt:
        """This, continued by text tokens."""
        return Prompt(np.concatenate([self.ids, np.array(tokens, dtype=np.int64)]), self.images)


def expand(
    ids: Sequence[int], image_token: int, images: Sequence[tuple[ImageKey, int, int]]
) -> Prompt:
    """Puts each image's tokens where its one placeholder stands in ``ids``.

    ``images`` are (key, rows, columns), as many as there are placeholders.
    """
    pieces: list[NDArray[np.int64]] = []
    spans: list[ImageSpan] = []
    length, rest = 0, iter(images)
    for piece in _split(np.array(ids, dtype=np.int64), image_token):
        if piece[0] == image_token:
            key, rows, columns = next(rest)
            spans.append(ImageSpan(key, length, rows, columns))
            pieces.append(np.full(rows * columns, image_token))
        else:
            pieces.append(piece)
        length += len(pieces[-1])
    return Prompt(np.concatenate(pieces), tuple(spans))


def _split(ids: NDArray[np.int64], image_token: int) -> list[NDArray[np.int64]]:
    """Runs without a placeholder, and each placeholder alone."""
    at = np.flatnonzero(ids == image_token)
    return [piece for piece in np.split(ids, np.sort(np.concatenate([at, at + 1]))) if len(piece)]


def _positions(length: int, images: Sequence[ImageSpan]) -> tuple[NDArray[np.int64], int]:
    positions = np.empty((3, length), dtype=np.int64)
    index = place = 0
    for image in images:
        text = image.start - index
        positions[:, index : image.start] = place + np.arange(text)
        place += text
        rows, columns = np.divmod(np.arange(image.rows * image.columns), image.columns)
        positions[:, image.start : image.end] = place + np.stack([rows * 0, rows, columns])
        place += max(image.rows, image.columns)
        index = image.end
    positions[:, index:] = place + np.arange(length - index)
    return positions, place + length - index
