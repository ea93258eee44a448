"""The first stage: the vision tower learns to tell what each visual token shows, and where.

Heads that exist in training only ask every token for colour and shape of its thing, for the thing's
point and box and the free spot beside it as waves of their coordinates, and whether the token is
the one with its middle. Parts of pictures are shown first, which carry the positions they have in
the whole: most of a picture is table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from training.nano.network import TOKEN_PX, Sight, waves
from training.nano.optimizing import Schedule, Score, Tell, optimize
from training.nano.pool import Pool
from training.nano.team import ALONE, Team
from training.nano.truth import ALL_SHAPES, COLORS, SIDES, Truth, truth_of

_CODE = 64
_N_NUMBERS = 8
_NO_NUMBER = -100
_SHARP = 8.0
_KEEP = 1.0
"""What it costs when visual tokens are no longer what they were, as a share of their variance."""


class Heads(nn.Module):  # type: ignore[misc]
    """What is asked of every visual token, in training only."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.kinds = nn.Linear(width, len(COLORS) + 1 + len(ALL_SHAPES) + 1)
        self.sides = nn.Linear(width, len(SIDES) + 1)
        self.middles = nn.Linear(width, 1)
        self.places = nn.Linear(width, _N_NUMBERS * _CODE)
        codes = waves(np.arange(1001) / 1000, _CODE, 40.0)
        self.register_buffer("codes", torch.from_numpy(codes.astype(np.float32)))

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits of colour and of shape [n, what there are and none]; codes [n, 8, 64]."""
        kinds = self.kinds(tokens)
        n_colors = len(COLORS) + 1
        places = self.places(tokens).view(-1, _N_NUMBERS, _CODE)
        return kinds[:, :n_colors], kinds[:, n_colors:], places

    def read(self, places: torch.Tensor) -> torch.Tensor:
        """The numbers 0…1000 that codes [..., 64] stand for."""
        return (places @ self.codes.T).argmax(-1).float()


@dataclass(frozen=True)
class Labels:
    """Of visual tokens, flat: colour and shape (0 none), on which side of the thing something can
    be put (0 none), whether the token is that of its middle, and point, box and that spot [n, 8].
    """

    color: torch.Tensor
    shape: torch.Tensor
    side: torch.Tensor
    is_middle: torch.Tensor
    numbers: torch.Tensor


def sight_loss(heads: Heads, tokens: torch.Tensor, labels: Labels) -> tuple[torch.Tensor, Score]:
    """Scores are of tokens that show a thing: shares, and medians in 1/1000."""
    tokens = tokens.reshape(-1, tokens.shape[-1])
    color, shape, places = heads(tokens)
    shows = labels.color > 0
    sides, middles = heads.sides(tokens[shows]), heads.middles(tokens[shows])[:, 0]
    side, is_middle, truth = labels.side[shows], labels.is_middle[shows], labels.numbers[shows]
    index = truth.round().long().clamp(0, 1000)
    index[side == 0, 6:] = _NO_NUMBER
    loss = _balanced(color, labels.color, shows) + _balanced(shape, labels.shape, shows)
    logits = _SHARP * (places[shows] @ heads.codes.T) / _CODE**0.5  # [m, 8, 1001]
    loss = loss + 0.35 * functional.cross_entropy(
        logits.flatten(0, 1), index.flatten(), ignore_index=_NO_NUMBER
    )
    loss = loss + 0.3 * functional.cross_entropy(sides, side)
    loss = loss + 0.3 * functional.binary_cross_entropy_with_logits(middles, is_middle)
    with torch.no_grad():
        off = (logits.argmax(-1).float() - truth).abs()
        score = {
            "color": _share(color[shows].argmax(-1) == labels.color[shows]),
            "shape": _share(shape[shows].argmax(-1) == labels.shape[shows]),
            "side": _share(sides.argmax(-1) == side),
            "middle": _share((middles > 0) == (is_middle > 0.5)),
            "point": float(off[:, :2].median()),
            "box": float(off[:, 2:6].median()),
            "spot": float(off[side > 0, 6:].median()),
        }
    return loss, score


def _balanced(logits: torch.Tensor, target: torch.Tensor, shows: torch.Tensor) -> torch.Tensor:
    """Most tokens show no thing: these count for less than half."""
    there = functional.cross_entropy(logits[shows], target[shows])
    nothing = functional.cross_entropy(logits[~shows], target[~shows])
    return 0.6 * there + 0.4 * nothing


def _share(right: torch.Tensor) -> float:
    return float(right.float().mean())


class Truths:
    """The truth of each picture of a pool, found out once."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._known: dict[int, Truth] = {}

    def __getitem__(self, index: int) -> Truth:
        if index not in self._known:
            self._known[index] = truth_of(self._pool.numbers(index), self._pool.things(index))
        return self._known[index]


def labels_of(
    truth: Truth,
    flipped: bool,
    corner: tuple[int, int] = (0, 0),
    size: tuple[int, int] | None = None,
) -> NDArray[np.float32]:
    """[rows · columns, 12] (colour, shape, side, is it the middle, point, box, spot) of ``size``
    tokens from ``corner`` on."""
    cells = truth.cells[:, ::-1] if flipped else truth.cells
    table = np.zeros((256, 12), np.float32)
    middles = np.zeros(cells.shape, np.float32)
    for item in truth.seen:
        kind = (COLORS.index(item.thing.color) + 1, ALL_SHAPES.index(item.thing.shape) + 1)
        side, spot = 0, (0.0, 0.0)
        if item.thing.beside is not None:
            side, spot = item.side(flipped) + 1, item.beside(flipped)
        table[item.thing.number] = (*kind, side, 0, *item.mirrored(flipped), *spot)
        middles[truth.middle(item.thing.number, flipped)] = 1
    labels = table[cells]
    labels[..., 3] = middles
    (row, column), (rows, columns) = corner, size or cells.shape
    return labels[row : row + rows, column : column + columns].reshape(-1, 12)


class Parts:
    """Batches of parts of pictures with their labels; each shows at least one thing if any."""

    def __init__(self, pool: Pool, truths: Truths, rng: np.random.Generator) -> None:
        self._pool, self._truths, self._rng = pool, truths, rng

    def batch(
        self, count: int, rows: int, columns: int
    ) -> tuple[torch.Tensor, torch.Tensor, Labels]:
        """float32 [count, H, W, 3], corners in patches [count, 2], labels; parts of ``rows`` ×
        ``columns`` visual tokens."""
        images, corners, labels = [], [], []
        for index in self._rng.integers(len(self._pool), size=count):
            truth, flipped = self._truths[int(index)], bool(self._rng.random() < 0.5)
            image = self._pool.image(int(index))
            image = image[:, ::-1] if flipped else image
            corner = self._corner(truth, flipped, rows, columns)
            (top, left), px = corner, TOKEN_PX
            images.append(image[top * px : (top + rows) * px, left * px : (left + columns) * px])
            corners.append((2 * top, 2 * left))
            labels.append(labels_of(truth, flipped, corner, (rows, columns)))
        relit = jitter(torch.from_numpy(np.stack(images)), self._rng)
        return relit, torch.tensor(corners), as_labels(labels)

    def _corner(self, truth: Truth, flipped: bool, rows: int, columns: int) -> tuple[int, int]:
        height, width = truth.cells.shape
        spare = (height - rows, width - columns)
        if not truth.seen or spare == (0, 0):
            row, column = (int(self._rng.integers(n + 1)) for n in spare)
            return row, column
        x, y, *_ = truth.seen[int(self._rng.integers(len(truth.seen)))].mirrored(flipped)
        top = int(y / 1000 * height - self._rng.uniform(0.15, 0.85) * rows)
        left = int(x / 1000 * width - self._rng.uniform(0.15, 0.85) * columns)
        return min(max(top, 0), spare[0]), min(max(left, 0), spare[1])


def as_labels(tables: Sequence[NDArray[np.float32]]) -> Labels:
    flat = torch.from_numpy(np.concatenate(tables))
    color, shape, side = (flat[:, n].long() for n in range(3))
    return Labels(color, shape, side, flat[:, 3], flat[:, 4:])


def jitter(images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Another lamp for each picture: uint8 → float32 [B, H, W, 3] within 0…255."""
    n = len(images)
    gain = rng.uniform(0.85, 1.15, (n, 1, 1, 1)) * rng.uniform(0.95, 1.05, (n, 1, 1, 3))
    shift = rng.uniform(-12, 12, (n, 1, 1, 1))
    changed = images.float() * torch.from_numpy(gain).float() + torch.from_numpy(shift).float()
    return changed.clamp(0, 255)


def learn_to_see(
    sight: Sight,
    heads: Heads,
    parts: Callable[[int], Parts],
    schedule: Schedule,
    tell: Tell,
    *,
    size: tuple[int, int],
    batch: int,
    earlier: Sight | None = None,
    kept: Path | None = None,
    team: Team = ALONE,
) -> float:
    """Trains the vision tower on ``parts`` (of a step) of ``size`` (rows, columns) in visual
    tokens; where a language model has learned on those of an ``earlier`` tower, they shall tell
    more and stay about what they were. The seconds that it took."""

    def lesson(step: int) -> tuple[torch.Tensor, Score]:
        images, corners, labels = parts(step).batch(batch, *size)
        tokens = sight(images, corners)
        loss, score = sight_loss(heads, tokens, labels)
        if earlier is None:
            return loss, score
        with torch.no_grad():
            were = earlier(images, corners)
        changed = (tokens - were).square().mean() / were.var()
        return loss + _KEEP * changed, {**score, "changed": float(changed.detach())}

    learning = [*sight.tower.parameters(), *heads.parameters()]
    return optimize(learning, schedule, lesson, tell, kept=kept, team=team)


def learn_heads(
    sight: Sight,
    heads: Heads,
    parts: Callable[[int], Parts],
    schedule: Schedule,
    tell: Tell,
    *,
    size: tuple[int, int],
    batch: int,
    team: Team = ALONE,
) -> float:
    """Trains what a checkpoint has not: begun anew beside a tower that sees, it would teach that
    nonsense. The seconds that it took."""

    def lesson(step: int) -> tuple[torch.Tensor, Score]:
        images, corners, labels = parts(step).batch(batch, *size)
        with torch.no_grad():
            tokens = sight(images, corners)
        return sight_loss(heads, tokens, labels)

    return optimize([*heads.parameters()], schedule, lesson, tell, team=team)
