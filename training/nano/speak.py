"""The second stage: the language model learns to find what a sentence names, and to write where.

The vision tower is finished by then and its visual tokens are kept. Besides the answers
themselves it is taught, without weights that would be needed at run time: what kind of thing the
sentence names and where in the pictures that is (by small heads on hidden states), and that two
attention heads of each of three layers look there, from the noun on to the coordinates. Several
questions about the same pictures are read together, each as if it were alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from rynn_brain_ros.models.local.prompt import ImageSpan, Prompt
from rynn_brain_ros.sim.objects import SHAPES
from training.nano.lessons import Exchange, Lesson, Mark, frame_label
from training.nano.network import TOKEN_PX, Sight
from training.nano.optimizing import Schedule, Score, Tell, optimize
from training.nano.pictures import SEEN_PX
from training.nano.pool import Pool
from training.nano.truth import COLORS, Truth
from training.nano.words import number_tokens

ROWS, COLUMNS = SEEN_PX[1] // TOKEN_PX, SEEN_PX[0] // TOKEN_PX
N_CELLS = ROWS * COLUMNS
KIND_LAYER = 0
"""Behind which the noun's own words are understood."""
NOUN_LAYER, PLACE_LAYER, NUMBER_LAYER = 1, 2, 3
"""In which the noun, the place where the answer begins, and coordinates look at the thing."""
_LOOKING_HEADS = 2
_PLAIN_WEIGHT = 0.15
"""Of what is the same in every answer."""


Look = tuple[int, int, NDArray[np.bool_]]
"""Row, position, and the positions [L] of the visual tokens that show the thing."""
Asked = tuple[int, int, "NDArray[np.bool_] | None"]
"""The same; none where the thing is absent."""


@dataclass
class Branch:
    """One question with its answer behind the pictures: token ids, where the answer begins, and
    the places of its numbers."""

    ids: list[int]
    answer_at: int
    noun_at: int
    kind: tuple[int, int]
    numbers: list[tuple[int, Mark]]
    place: tuple[int, int] | None


class Scribe:
    """Lessons as token ids."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, list[int]] = {}
        self.numbers = number_tokens(tokenizer)
        self._is_number = set(self.numbers)
        self.image = int(tokenizer.convert_tokens_to_ids("<|image_pad|>"))
        self.pad = int(tokenizer.pad_token_id)

    def ids(self, text: str) -> list[int]:
        if text not in self._known:
            self._known[text] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return self._known[text]

    def opening(self, n_frames: int) -> tuple[list[int], list[int]]:
        """Everything up to the last picture, and where each picture's tokens begin."""
        ids, starts = list(self.ids("<|im_start|>user\n")), []
        for index in range(n_frames):
            ids += self.ids(frame_label(index, n_frames)) + self.ids("<|vision_start|>")
            starts.append(len(ids))
            ids += [self.image] * N_CELLS + self.ids("<|vision_end|>")
        return ids, starts

    def branch(self, exchange: Exchange) -> Branch:
        before = exchange.instruction[: exchange.instruction.index(exchange.noun)]
        rest = exchange.rest + "<|im_end|>\n<|im_start|>assistant\n"
        ids = self.ids(exchange.instruction) + self.ids(rest)
        color, shape = exchange.kind
        answer = self._tokenizer(exchange.answer + "<|im_end|>", add_special_tokens=False)
        at = [n for n, token in enumerate(answer["input_ids"]) if token in self._is_number]
        assert len(at) == len(exchange.marks), exchange.answer
        return Branch(
            ids + answer["input_ids"],
            len(ids),
            len(self.ids(before + exchange.noun)) - 1,
            (COLORS.index(color) + 1 if color else 0, SHAPES.index(shape) + 1 if shape else 0),
            [(len(ids) + n, mark) for n, mark in zip(at, exchange.marks, strict=True)],
            exchange.place,
        )


@dataclass
class Batch:
    """Lessons read together, padded to one length."""

    ids: torch.Tensor  # [B, L]
    positions: torch.Tensor  # [3, B, L]
    mask: torch.Tensor  # [B, 1, L, L], true where it may look
    visual: torch.Tensor  # [B, L], true at visual tokens
    frames: list[tuple[int, bool]] = field(default_factory=list)
    targets: list[tuple[int, int, int, float]] = field(default_factory=list)  # b, at, token, weight
    coordinates: list[tuple[int, int, float]] = field(default_factory=list)  # b, at, value
    kinds: list[tuple[int, int, int, int]] = field(default_factory=list)  # b, at, colour, shape
    looks: list[Look] = field(default_factory=list)
    nouns: list[Asked] = field(default_factory=list)
    places: list[Asked] = field(default_factory=list)

    def looking(self) -> dict[int, tuple[str, list[Look]]]:
        """By layer, what looks at its thing there."""
        return {
            NOUN_LAYER: ("noun looked", there(self.nouns)),
            PLACE_LAYER: ("place looked", there(self.places)),
            NUMBER_LAYER: ("looked", self.looks),
        }


def assemble(scribe: Scribe, lessons: Sequence[Lesson], truths: Sequence[Sequence[Truth]]) -> Batch:
    """``truths`` are those of each lesson's frames, not mirrored."""
    rows = [_Row(scribe, lesson, known) for lesson, known in zip(lessons, truths, strict=True)]
    length = (max(len(row.ids) for row in rows) + 7) // 8 * 8
    ids = torch.full((len(rows), length), scribe.pad)
    positions = torch.zeros(3, len(rows), length, dtype=torch.long)
    branch = torch.full((len(rows), length), -1)
    for b, row in enumerate(rows):
        ids[b, : len(row.ids)] = torch.tensor(row.ids)
        positions[:, b, : len(row.ids)] = torch.from_numpy(row.positions)
        branch[b, : len(row.ids)] = torch.tensor(row.branch)
    before = torch.ones(length, length, dtype=torch.bool).tril()
    shared = (branch == 0)[:, None, :]
    same = branch[:, :, None] == branch[:, None, :]
    batch = Batch(ids, positions, (before & (shared | same))[:, None], ids == scribe.image)
    for b, row in enumerate(rows):
        row.tell(b, length, batch)
    return batch


class _Row:
    def __init__(self, scribe: Scribe, lesson: Lesson, truths: Sequence[Truth]) -> None:
        self.frames, self._truths = lesson.frames, truths
        self.ids, self._starts = scribe.opening(len(lesson.frames))
        self.branch = [0] * len(self.ids)
        spans = [ImageSpan(("", 0, 0), start, ROWS, COLUMNS) for start in self._starts]
        opening = Prompt(np.array(self.ids, np.int64), tuple(spans))
        following, positions = opening.next_position(), [opening.positions()]
        self._branches = []
        for number, exchange in enumerate(lesson.exchanges, start=1):
            branch = scribe.branch(exchange)
            self._branches.append((len(self.ids), branch))
            positions.append(np.tile(following + np.arange(len(branch.ids)), (3, 1)))
            self.ids = self.ids + branch.ids
            self.branch += [number] * len(branch.ids)
        self.positions = np.concatenate(positions, 1)

    def tell(self, b: int, length: int, batch: Batch) -> None:
        """Adds what is to be learned from it."""
        batch.frames += self.frames
        for start, branch in self._branches:
            where = None if branch.place is None else self._where(*branch.place, length)
            batch.kinds.append((b, start + branch.noun_at, *branch.kind))
            batch.nouns.append((b, start + branch.noun_at, where))
            batch.places.append((b, start + branch.answer_at - 1, where))
            marks = dict(branch.numbers)
            for at in range(branch.answer_at, len(branch.ids)):
                mark = marks.get(at)
                if mark is not None and where is not None:
                    batch.looks.append((b, start + at - 1, where))
                if mark is not None and not mark.exact:
                    batch.coordinates.append((b, start + at - 1, mark.value))
                    continue
                decides = at == branch.answer_at or mark is not None
                weight = 1.0 if decides else _PLAIN_WEIGHT
                batch.targets.append((b, start + at - 1, branch.ids[at], weight))

    def _where(self, frame: int, number: int, length: int) -> NDArray[np.bool_]:
        cells = self._truths[frame].cells == number
        cells = cells[:, ::-1] if self.frames[frame][1] else cells
        where = np.zeros(length, np.bool_)
        where[self._starts[frame] : self._starts[frame] + N_CELLS] = cells.ravel()
        return where


# --- the losses -----------------------------------------------------------------------------------


class Pointers(nn.Module):  # type: ignore[misc]
    """In training only: hidden states must tell which visual tokens show the named thing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.asking = nn.ModuleList(nn.Linear(width, 64) for _ in range(2))
        self.showing = nn.ModuleList(nn.Linear(width, 64) for _ in range(2))
        self.nothing = nn.Parameter(torch.zeros(2, 64))
        self.kinds = nn.Linear(width, len(COLORS) + 1 + len(SHAPES) + 1)

    def kind_loss(
        self, hidden: torch.Tensor, asked: list[tuple[int, int, int, int]]
    ) -> torch.Tensor:
        """Of colour and shape that the noun says, 0 where it does not say."""
        b, at, color, shape = torch.tensor(asked).T
        logits, n_colors = self.kinds(hidden[b, at]), len(COLORS) + 1
        loss: torch.Tensor = functional.cross_entropy(logits[:, :n_colors], color)
        return loss + functional.cross_entropy(logits[:, n_colors:], shape)

    def loss(
        self,
        which: int,
        hidden: torch.Tensor,
        visual: torch.Tensor,
        asked: Sequence[Asked],
    ) -> torch.Tensor:
        """Of [B, L, hidden]; "nothing" is right for what is absent."""
        b, at = torch.tensor([a[0] for a in asked]), torch.tensor([a[1] for a in asked])
        query = self.asking[which](hidden[b, at])
        keys = self.showing[which](hidden)
        logits = torch.einsum("nd,nld->nl", query, keys[b]) / 8
        logits = logits.masked_fill(~visual[b], -1e9)
        nothing = (query @ self.nothing[which])[:, None] / 8
        spread = torch.cat([logits, nothing], 1).log_softmax(-1)
        right = torch.zeros_like(spread, dtype=torch.bool)
        for n, (_, _, where) in enumerate(asked):
            if where is None:
                right[n, -1] = True
            else:
                right[n, :-1] = torch.from_numpy(where)
        return -spread.masked_fill(~right, -1e9).logsumexp(-1).mean()


class Speaker:
    """The language model in batches, with what is taught besides the answers."""

    def __init__(self, model: Any, numbers: list[int]) -> None:
        self.model, self.text = model, model.model.language_model
        self.numbers = torch.tensor(numbers)
        self.pointers = Pointers(self.text.config.hidden_size)

    def loss(
        self,
        batch: Batch,
        tokens: torch.Tensor,
        blur: float = 8.0,
        hints: float = 1.0,
    ) -> tuple[torch.Tensor, Score]:
        """``tokens`` [frames, cells, hidden] in the order of ``batch.frames``;
        ``blur`` is how far a coordinate may be off, one sigma in 1/1000; ``hints`` weighs what is
        taught besides. Scores: ``near`` is the share of coordinates within 20/1000, ``decided``
        that of first words (a tag or an abstention) and of frames that are right; all others how
        much of each hint falls on the right kind or thing."""
        hinted: dict[str, torch.Tensor] = {}
        x = self.read(batch, tokens, hinted if hints else None)
        plain, decided = self._plain(x, batch)
        soft, near = self._soft(x, batch, blur)
        loss = soft + plain
        score = {"near": near, "decided": decided}
        if batch.coordinates:
            score["soft"] = float(soft.detach())
        if hints:
            loss = loss + hints * sum(hinted.values())
            score |= {name: float(torch.exp(-hint.detach())) for name, hint in hinted.items()}
        return loss, score

    def read(
        self,
        batch: Batch,
        tokens: torch.Tensor,
        hinted: dict[str, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Last hidden states [B, L, hidden]; losses of the hints are put into ``hinted``."""
        text = self.text
        x = text.embed_tokens(batch.ids)
        x = x.masked_scatter(batch.visual[..., None], tokens.reshape(-1, tokens.shape[-1]))
        turn = text.rotary_emb(x, batch.positions)
        for number, layer in enumerate(text.layers):
            if hinted is not None and number in batch.looking():
                name, looks = batch.looking()[number]
                hinted[name] = self._looking(layer, x, turn, batch.mask, looks)
            x = layer(x, attention_mask=batch.mask, position_embeddings=turn)
            if hinted is not None:
                self._hint_pointing(number, x, batch, hinted)
        last: torch.Tensor = text.norm(x)
        return last

    def _hint_pointing(
        self, number: int, x: torch.Tensor, batch: Batch, hinted: dict[str, torch.Tensor]
    ) -> None:
        if number == KIND_LAYER:
            hinted["understood"] = self.pointers.kind_loss(x, batch.kinds)
        if number == NOUN_LAYER:
            hinted["named"] = self.pointers.loss(0, x, batch.visual, batch.nouns)
        if number == PLACE_LAYER:
            hinted["pointed"] = self.pointers.loss(1, x, batch.visual, batch.places)

    def _plain(self, x: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, float]:
        b, at, token = (torch.tensor([t[n] for t in batch.targets]) for n in range(3))
        weight = torch.tensor([t[3] for t in batch.targets])
        logits = self.model.lm_head(x[b, at])
        each = functional.cross_entropy(logits, token, reduction="none")
        heavy = weight == 1
        right = float((logits.argmax(-1) == token)[heavy].float().mean())
        loss = each[heavy].mean() + _PLAIN_WEIGHT * each[~heavy].mean()
        return loss, right

    def _soft(self, x: torch.Tensor, batch: Batch, blur: float) -> tuple[torch.Tensor, float]:
        if not batch.coordinates:
            return torch.zeros(()), float("nan")
        b, at = (torch.tensor([c[n] for c in batch.coordinates]) for n in range(2))
        value = torch.tensor([c[2] for c in batch.coordinates])
        logits = self.model.lm_head(x[b, at])
        near = torch.exp(-0.5 * ((torch.arange(1001) - value[:, None]) / blur) ** 2)
        near = near / near.sum(-1, keepdim=True)
        spread = logits.log_softmax(-1)[:, self.numbers]
        # Less the entropy that no model can be without, so that 0 is perfect.
        perfect = -(near * near.clamp_min(1e-12).log()).sum(-1).mean()
        loss = -(near * spread).sum(-1).mean() - perfect
        off = (logits[:, self.numbers].argmax(-1) - value).abs()
        return loss, float((off <= 20).float().mean())

    def _looking(
        self,
        layer: Any,
        x: torch.Tensor,
        turn: tuple[torch.Tensor, ...],
        mask: torch.Tensor,
        looks: Sequence[Look],
    ) -> torch.Tensor:
        """Minus the log of the attention that lies on the thing, from each of ``looks``."""
        if not looks:
            return torch.zeros(())
        attention = layer.self_attn
        h = layer.input_layernorm(x)
        n, length, _ = h.shape
        cos, sin = turn
        b, at = (torch.tensor([look[i] for look in looks]) for i in range(2))
        heads = slice(0, _LOOKING_HEADS)
        q = attention.q_norm(attention.q_proj(h[b, at]).view(len(b), -1, attention.head_dim))
        q = _turned(q[:, heads], cos[b, at][:, None], sin[b, at][:, None])
        k = attention.k_norm(attention.k_proj(h).view(n, length, -1, attention.head_dim))
        k = _turned(k[:, :, heads], cos[:, :, None], sin[:, :, None])
        scores = torch.einsum("nhd,nlhd->nhl", q, k[b]) * attention.scaling
        scores = scores.masked_fill(~mask[b, 0, at][:, None], -1e9).log_softmax(-1)
        where = torch.from_numpy(np.stack([look[2] for look in looks]))
        return -scores.masked_fill(~where[:, None], -1e9).logsumexp(-1).mean()


def there(
    asked: Sequence[Asked],
) -> list[Look]:
    """Those of things that are there."""
    return [(b, at, where) for b, at, where in asked if where is not None]


def _turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat((-second, first), -1) * sin


# --- the stage ------------------------------------------------------------------------------------


class SeenBefore:
    """Visual tokens of the pool's pictures, found out once, in 16 bits."""

    def __init__(self, pool: Pool, sight: Sight) -> None:
        self._pool, self._sight = pool, sight
        self._known: dict[tuple[int, bool], torch.Tensor] = {}

    def __call__(self, frames: Sequence[tuple[int, bool]]) -> torch.Tensor:
        new = [frame for frame in dict.fromkeys(frames) if frame not in self._known]
        for first in range(0, len(new), 8):
            some = new[first : first + 8]
            with torch.no_grad():
                tokens = self._sight(picture_batch(self._pool, some))
            self._known.update(zip(some, tokens.half(), strict=True))
        return torch.stack([self._known[frame] for frame in frames]).float()


def picture_batch(pool: Pool, frames: Sequence[tuple[int, bool]]) -> torch.Tensor:
    images = [pool.image(index) for index, _ in frames]
    turned = [im[:, ::-1] if flip else im for im, (_, flip) in zip(images, frames, strict=True)]
    return torch.from_numpy(np.stack(turned))


def learn_to_speak(
    speaker: Speaker,
    seen: Callable[[Sequence[tuple[int, bool]]], torch.Tensor],
    lessons: Callable[[float], Batch],
    schedule: Schedule,
    tell: Tell,
    *,
    blur: tuple[float, float] = (15.0, 5.0),
) -> None:
    """Trains the language model on ``lessons`` of how far it has come (0…1); what counts as
    near narrows from the first ``blur`` to the second."""

    def lesson(fraction: float) -> tuple[torch.Tensor, Score]:
        batch = lessons(fraction)
        width = blur[0] * (blur[1] / blur[0]) ** fraction
        return speaker.loss(batch, seen(batch.frames), blur=width)

    optimize([*speaker.text.parameters(), *speaker.pointers.parameters()], schedule, lesson, tell)
