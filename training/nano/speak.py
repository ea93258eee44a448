"""The second stage: the language model learns to find what a sentence names, and to write where.

The vision tower is finished by then and its visual tokens are kept. Besides the answers
themselves it is taught, without weights that would be needed at run time: what kind of thing the
sentence names and where in the pictures that is (by small heads on hidden states), of which frame
each visual token is, and that two attention heads of each of three layers look there, from the
noun on to the coordinates. Several questions about the same pictures are read together, each as
if it were alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface

from training.nano.network import Sight
from training.nano.optimizing import Schedule, Score, Tell, optimize
from training.nano.plans import TAUGHT
from training.nano.pool import Pool
from training.nano.rows import HOLDERS, N_CELLS, WEIGHTS, Asked, Batch, Look
from training.nano.team import ALONE, Team
from training.nano.truth import ALL_SHAPES, COLORS, SIDES

KIND_LAYER = 0
"""Behind which the noun's own words are understood."""
FRAME_LAYER = 0
"""In which the tokens of a picture look at the number that is written before it."""
HELD_LAYER = 0
"""Behind which visual tokens know what holds their thing."""
NOUN_LAYER, PLACE_LAYER, NUMBER_LAYER = 1, 2, 3
"""In which the noun, the place where the answer begins, and coordinates look at the thing; where
the noun stands before the pictures, the answer looks back at it in the first of these."""
MOST_FRAMES = 8
_LOOKING_HEADS, _BACK_HEADS, _FRAME_HEADS = slice(0, 2), slice(2, 4), slice(4, 5)


@dataclass(frozen=True)
class Gaze:
    """What looks where, and with which heads; ``evenly``: alike at each of the places."""

    name: str
    looks: list[Look]
    heads: slice
    evenly: bool = False


def gazes(batch: Batch) -> dict[int, list[Gaze]]:
    """By layer."""
    return {
        FRAME_LAYER: [Gaze("label looked", batch.labels, _FRAME_HEADS)],
        NOUN_LAYER: [
            Gaze("noun looked", there(batch.nouns), _LOOKING_HEADS),
            Gaze("looked back", batch.asks, _BACK_HEADS),
            Gaze("looked back at other", batch.other_nouns, _LOOKING_HEADS),
        ],
        PLACE_LAYER: [
            Gaze("place looked", there(batch.places), _LOOKING_HEADS),
            Gaze("other looked", batch.others, _BACK_HEADS),
        ],
        NUMBER_LAYER: [
            Gaze("looked", batch.looks, _LOOKING_HEADS),
            Gaze("counted", batch.counted, _BACK_HEADS, evenly=True),
        ],
    }


# --- attention ------------------------------------------------------------------------------------

_TRUNK_FIRST = "trunk_first"


def trunk_first(  # noqa: PLR0917  # transformers' order
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    dropout: float = 0.0,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """An attention for transformers' layers, of heads [B, heads, L, head_dim]: up to where
    ``attention_mask`` [B, 1, n, L] begins it is causal, which costs half. Most of a lesson is
    pictures, and comes before."""
    trunk = key.shape[2] - attention_mask.shape[2]
    parts = [
        functional.scaled_dot_product_attention(
            query[:, :, :trunk],
            key[:, :, :trunk],
            value[:, :, :trunk],
            is_causal=True,
            scale=scaling,
        )
    ]
    if attention_mask.shape[2]:
        behind = functional.scaled_dot_product_attention(
            query[:, :, trunk:], key, value, attn_mask=attention_mask, scale=scaling
        )
        parts.append(behind)
    return torch.cat(parts, 2).transpose(1, 2), None


AttentionInterface.register(_TRUNK_FIRST, trunk_first)


@contextmanager
def _attending(config: Any) -> Iterator[None]:
    """In training only: whoever asks the model meanwhile finds it as it was."""
    usual, config._attn_implementation = config._attn_implementation, _TRUNK_FIRST
    try:
        yield
    finally:
        config._attn_implementation = usual


# --- the losses -----------------------------------------------------------------------------------


class Pointers(nn.Module):  # type: ignore[misc]
    """In training only: hidden states must tell which visual tokens show the named thing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.asking = nn.ModuleList(nn.Linear(width, 64) for _ in range(2))
        self.showing = nn.ModuleList(nn.Linear(width, 64) for _ in range(2))
        self.nothing = nn.Parameter(torch.zeros(2, 64))
        self.kinds = nn.Linear(width, len(COLORS) + 1 + len(ALL_SHAPES) + 1)
        self.frames = nn.Linear(width, MOST_FRAMES)
        self.holders = nn.Linear(width, len(HOLDERS))
        self.wanted = nn.Linear(width, len(TAUGHT) + 1)
        self.sides = nn.Linear(width, len(SIDES))

    def frame_loss(
        self, hidden: torch.Tensor, numbered: Sequence[tuple[int, int, int]]
    ) -> torch.Tensor:
        """Visual tokens must tell which frame they are of."""
        if not numbered:
            return torch.zeros(())
        tokens = torch.stack([hidden[b, start : start + N_CELLS] for b, start, _ in numbered])
        right = torch.tensor([number for *_, number in numbered])[:, None].expand(-1, N_CELLS)
        loss: torch.Tensor = functional.cross_entropy(
            self.frames(tokens).flatten(0, 1), right.flatten()
        )
        return loss

    def held_loss(self, hidden: torch.Tensor, held: Sequence[tuple[int, int, int]]) -> torch.Tensor:
        """Visual tokens must tell what holds their thing; each holder counts alike."""
        if not held:
            return torch.zeros(())
        b, at, holder = torch.tensor(held).T
        losses = functional.cross_entropy(self.holders(hidden[b, at]), holder, reduction="none")
        loss: torch.Tensor = torch.stack([losses[holder == n].mean() for n in holder.unique()])
        return loss.mean()

    def wanted_loss(
        self, hidden: torch.Tensor, wanted: Sequence[tuple[int, int, int]]
    ) -> torch.Tensor:
        """Where an answer is decided it must be told what the instruction wants."""
        return _told_at(self.wanted, hidden, wanted)

    def side_loss(
        self, hidden: torch.Tensor, sides: Sequence[tuple[int, int, int]]
    ) -> torch.Tensor:
        """Coordinates next to a thing must tell on which side of it."""
        return _told_at(self.sides, hidden, sides)

    def kind_loss(
        self, hidden: torch.Tensor, asked: list[tuple[int, int, int, int]]
    ) -> torch.Tensor:
        """Of colour and shape that the noun says, 0 where it does not say."""
        if not asked:
            return torch.zeros(())
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
        if not asked:
            return torch.zeros(())
        b, at = torch.tensor([a[0] for a in asked]), torch.tensor([a[1] for a in asked])
        query = self.asking[which](hidden[b, at])
        keys = self.showing[which](hidden)
        logits = _compared(query[:, None], keys[:, :, None], b)[:, 0] / 8
        before = torch.arange(visual.shape[1]) < at[:, None]
        logits = logits.masked_fill(~(visual[b] & before), -1e9)
        nothing = (query @ self.nothing[which])[:, None] / 8
        spread = torch.cat([logits, nothing], 1).log_softmax(-1)
        right = torch.zeros_like(spread, dtype=torch.bool)
        for n, (_, _, where) in enumerate(asked):
            if where is None:
                right[n, -1] = True
            else:
                right[n, :-1] = torch.from_numpy(where)
        return -spread.masked_fill(~right, -1e9).logsumexp(-1).mean()


def _told_at(
    head: nn.Linear, hidden: torch.Tensor, told: Sequence[tuple[int, int, int]]
) -> torch.Tensor:
    """Of each b, at and what is right there."""
    if not told:
        return torch.zeros(())
    b, at, right = torch.tensor(told).T
    loss: torch.Tensor = functional.cross_entropy(head(hidden[b, at]), right)
    return loss


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
    ) -> tuple[torch.Tensor, Score]:
        """``tokens`` [frames, cells, hidden] in the order of ``batch.frames``; ``blur`` is how far
        a coordinate may be off, one sigma in 1/1000. Scores: ``near`` is the share of coordinates
        within 20/1000, ``decided`` that of deciding words (a tag, a verb, an abstention) that are
        right, ``frame`` and ``count`` of such numbers, ``plain`` of all else but coordinates; all
        others how much of each hint falls on the right kind or thing."""
        hinted: dict[str, torch.Tensor] = {}
        x = self.read(batch, tokens, hinted)
        plain, score = self._plain(x, batch)
        soft, near = self._soft(x, batch, blur)
        loss = soft + plain + sum(hinted.values())
        looked = {n: float(torch.exp(-h.detach())) for n, h in hinted.items() if h.requires_grad}
        return loss, {"near": near, **score, **looked}

    def read(
        self,
        batch: Batch,
        tokens: torch.Tensor,
        hinted: dict[str, torch.Tensor],
    ) -> torch.Tensor:
        """Last hidden states [B, L, hidden]; losses of the hints are put into ``hinted``."""
        text, looking, mask = self.text, gazes(batch), batch.after_trunk()
        x = text.embed_tokens(batch.ids)
        x = x.masked_scatter(batch.visual[..., None], tokens.reshape(-1, tokens.shape[-1]))
        turn = text.rotary_emb(x, batch.positions)
        for number, layer in enumerate(text.layers):
            for gaze in looking.get(number, []):
                hinted[gaze.name] = self._looking(layer, x, turn, batch, gaze)
            with _attending(text.config):
                x = layer(x, attention_mask=mask, position_embeddings=turn)
            self._hint_pointing(number, x, batch, hinted)
        last: torch.Tensor = text.norm(x)
        return last

    def _hint_pointing(
        self, number: int, x: torch.Tensor, batch: Batch, hinted: dict[str, torch.Tensor]
    ) -> None:
        if number == KIND_LAYER:
            hinted["understood"] = self.pointers.kind_loss(x, batch.kinds)
        if number == FRAME_LAYER:
            hinted["framed"] = self.pointers.frame_loss(x, batch.numbered)
        if number == HELD_LAYER:
            hinted["held"] = self.pointers.held_loss(x, batch.held)
        if number == NOUN_LAYER:
            hinted["named"] = self.pointers.loss(0, x, batch.visual, batch.nouns)
        if number == PLACE_LAYER:
            hinted["pointed"] = self.pointers.loss(1, x, batch.visual, batch.places)
            hinted["wanted"] = self.pointers.wanted_loss(x, batch.wanted)
        if number == NUMBER_LAYER:
            hinted["side"] = self.pointers.side_loss(x, batch.sides)

    def _plain(self, x: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, Score]:
        loss, score = torch.zeros(()), {}
        for what, targets in batch.targets.items():
            if targets:
                b, at, token = torch.tensor(targets).T
                logits = self.model.lm_head(x[b, at])
                loss = loss + WEIGHTS[what] * functional.cross_entropy(logits, token)
                score[what] = float((logits.argmax(-1) == token).float().mean())
        return loss, score

    def _soft(self, x: torch.Tensor, batch: Batch, blur: float) -> tuple[torch.Tensor, float]:
        if not batch.coordinates:
            return torch.zeros(()), float("nan")
        b, at = (torch.tensor([c[n] for c in batch.coordinates]) for n in range(2))
        return self.coordinate_loss(x[b, at], torch.tensor([c[2] for c in batch.coordinates]), blur)

    def coordinate_loss(
        self, x: torch.Tensor, values: torch.Tensor, blur: float
    ) -> tuple[torch.Tensor, float]:
        """Of last hidden states [n, hidden] where ``values`` [n] in 0…1000 are told; with the share
        of those that are within 20/1000."""
        logits = self.model.lm_head(x)
        near = torch.exp(-0.5 * ((torch.arange(1001) - values[:, None]) / blur) ** 2)
        near = near / near.sum(-1, keepdim=True)
        spread = logits.log_softmax(-1)[:, self.numbers]
        # Less the entropy that no model can be without, so that 0 is perfect.
        perfect = -(near * near.clamp_min(1e-12).log()).sum(-1).mean()
        loss = -(near * spread).sum(-1).mean() - perfect
        off = (logits[:, self.numbers].argmax(-1) - values).abs()
        return loss, float((off <= 20).float().mean())

    def _looking(
        self,
        layer: Any,
        x: torch.Tensor,
        turn: tuple[torch.Tensor, ...],
        batch: Batch,
        gaze: Gaze,
    ) -> torch.Tensor:
        """Minus the log of the attention that lies on the thing, from each of the looks."""
        looks, heads = gaze.looks, gaze.heads
        if not looks:
            return torch.zeros(())
        attention = layer.self_attn
        h = layer.input_layernorm(x)
        n, length, _ = h.shape
        cos, sin = turn
        b, at = (torch.tensor([look[i] for look in looks]) for i in range(2))
        q = attention.q_norm(attention.q_proj(h[b, at]).view(len(b), -1, attention.head_dim))
        q = _turned(q[:, heads], cos[b, at][:, None], sin[b, at][:, None])
        k = attention.k_norm(attention.k_proj(h).view(n, length, -1, attention.head_dim))
        k = _turned(k[:, :, heads], cos[:, :, None], sin[:, :, None])
        scores = _compared(q, k, b) * attention.scaling
        scores = scores.masked_fill(~batch.sees(b, at)[:, None], -1e9).log_softmax(-1)
        where = torch.from_numpy(np.stack([look[2] for look in looks]))
        if gaze.evenly:
            return unevenness(scores, where)
        return -scores.masked_fill(~where[:, None], -1e9).logsumexp(-1).mean()


def _compared(q: torch.Tensor, k: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Products [n, heads, L] of ``q`` [n, heads, d] with ``k`` [B, L, heads, d], each with those of
    its row ``b`` [n], in rows' order: keys are not copied for each."""
    parts = q.split(b.bincount(minlength=len(k)).tolist())
    products = [torch.einsum("nhd,lhd->nhl", q, k) for q, k in zip(parts, k, strict=True)]
    return torch.cat(products)


def unevenness(scores: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """How far attention is from being alike at each of some places and none elsewhere, from its
    logs [n, heads, L] and the places [n, L]: the divergence of Kullback and Leibler, 0 where it
    is so."""
    n_places = where.sum(1)[:, None]
    mean = scores.masked_fill(~where[:, None], 0.0).sum(-1) / n_places
    return -(mean + n_places.log()).mean()


def there(
    asked: Sequence[Asked],
) -> list[Look]:
    """Those of things that are there."""
    return [(b, at, where) for b, at, where in asked if where is not None]


def _turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat((-second, first), -1) * sin


# --- the stage ------------------------------------------------------------------------------------


def _sixteen_bits() -> torch.autocast:
    """Products in bfloat16 where the processor has instructions for them."""
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # of newer torch
    return torch.autocast("cpu", torch.bfloat16, enabled=bool(known.get("avx512_bf16")))


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
    lessons: Callable[[int], tuple[Batch, torch.Tensor]],
    schedule: Schedule,
    tell: Tell,
    *,
    blur: tuple[float, float] = (15.0, 5.0),
    kept: Path | None = None,
    team: Team = ALONE,
) -> float:
    """Trains the language model on ``lessons`` (with the visual tokens of their frames) of a step;
    what counts as near narrows from the first ``blur`` to the second. The seconds that it took."""

    def lesson(step: int) -> tuple[torch.Tensor, Score]:
        batch, tokens = lessons(step)
        width = blur[0] * (blur[1] / blur[0]) ** (step / schedule.steps)
        with _sixteen_bits():
            return speaker.loss(batch, tokens, blur=width)

    learning = [*speaker.text.parameters(), *speaker.pointers.parameters()]
    return optimize(learning, schedule, lesson, tell, kept=kept, team=team)


def learn_hints(
    speaker: Speaker,
    lessons: Callable[[int], tuple[Batch, torch.Tensor]],
    schedule: Schedule,
    tell: Tell,
    new_words: Sequence[int],
    *,
    team: Team = ALONE,
) -> float:
    """Trains only what a checkpoint has not: what the hints are read with, and the tokens
    ``new_words``. Begun anew beside a language model that has learned, the first would teach that
    nonsense; at the rate that is good for that model, the others would take hundreds of steps.
    The seconds that it took."""
    words = speaker.text.embed_tokens.weight
    known = torch.ones(len(words), dtype=torch.bool)
    known[list(new_words)] = False
    before = words.detach().clone()

    def lesson(step: int) -> tuple[torch.Tensor, Score]:
        batch, tokens = lessons(step)
        with _sixteen_bits():
            return speaker.loss(batch, tokens)

    speaker.text.requires_grad_(False)
    words.requires_grad_(True)
    only_new = words.register_hook(lambda gradient: gradient.masked_fill(known[:, None], 0.0))
    try:
        learning = [words, *speaker.pointers.parameters()]
        return optimize(learning, schedule, lesson, tell, team=team)
    finally:
        only_new.remove()
        speaker.text.requires_grad_(True)
        with torch.no_grad():
            words[known] = before[known]  # weights decay without a gradient, too
