"""The policy's network around a loaded vision-language model: what it sees, and actions as tokens.

`SingleStream` puts state and actions behind the picture and the words, as tokens of the backbone
itself. The prefix is causal and never sees the suffix, so its keys and values are computed once;
the suffix sees the prefix and all of itself. `expert.SmallExpert` is the other variant.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from rynn_brain_ros.vla.values import PolicyError, PolicySpec

_PERIODS = (0.004, 4.0)
"""Shortest and longest of the sinusoids that tell the flow's time, as in π0 and RynnBrain-VLA."""


@dataclass(frozen=True)
class Batch:
    """Prompts and pictures of B observations of L tokens, shorter ones padded at their end.

    ``ids`` int64, ``told`` (no padding) and ``visual`` (a picture's token) bool, all [B, L];
    ``positions`` int64 [3, B, L]; ``next_position`` int64 [B]. ``patches`` [N, values] are those of
    all pictures in their order, ``grids`` int64 [pictures, 3]. ``target`` [B, n_target + 1] is the
    normalized target point and 1, or only zeros where none is known; [B, 0] without.
    """

    ids: Tensor
    told: Tensor
    visual: Tensor
    positions: Tensor
    next_position: Tensor
    patches: Tensor
    grids: Tensor
    target: Tensor

    def to(self, device: torch.device | str) -> Batch:
        return replace(self, **{name: value.to(device) for name, value in vars(self).items()})


@dataclass(frozen=True)
class Prefix:
    """What was seen: ``keys`` and ``values`` [B, heads, L, width] for each layer that looks back
    at it; the rest as in `Batch`. Not to be changed."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    told: Tensor
    next_position: Tensor
    target: Tensor

    def repeated(self, n: int) -> Prefix:
        """Each observation ``n`` times in a row, for several noises or times of each."""
        told, place, target = (
            part.repeat_interleave(n, 0) for part in (self.told, self.next_position, self.target)
        )
        keys = tuple(key.repeat_interleave(n, 0) for key in self.keys)
        values = tuple(value.repeat_interleave(n, 0) for value in self.values)
        return Prefix(keys, values, told, place, target)


class ActionTokens(nn.Module):  # type: ignore[misc]
    """Numbers ↔ tokens of the given ``width``; the same for both variants, in float32.

    Token 0 is the state with the target point, the others are the chunk's actions, each joined
    with the flow's time.
    """

    def __init__(self, spec: PolicySpec, width: int) -> None:
        super().__init__()
        n_target = spec.n_target + 1 if spec.n_target else 0
        self.state_in = nn.Linear(spec.n_state + n_target, width)
        self.action_in = nn.Linear(spec.n_dims, width)
        self.time_mlp = nn.Sequential(
            nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.action_out = nn.Linear(width, spec.n_dims)

    def forward(self, state: Tensor, target: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """[B, 1 + H, width]."""
        first = self.state_in(torch.cat([state, target.to(state.dtype)], dim=-1))
        actions = self.action_in(x_t)
        time = sinusoids(t, actions.shape[-1])[:, None].expand_as(actions)
        timed = self.time_mlp(torch.cat([actions, time.to(actions.dtype)], dim=-1))
        return torch.cat([first[:, None], timed], dim=1)

    def velocity(self, hidden: Tensor) -> Tensor:
        """[B, 1 + H, width] → [B, H, D]."""
        out: Tensor = self.action_out(hidden[:, 1:].to(self.action_out.weight.dtype))
        return out


def sinusoids(t: Tensor, width: int) -> Tensor:
    """``t`` [B] → [B, width]: sines, then cosines, of periods from 0.004 to 4."""
    shortest, longest = _PERIODS
    fraction = torch.linspace(0, 1, width // 2, device=t.device)
    angle = t[:, None] * (2 * math.pi / (shortest * (longest / shortest) ** fraction))
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


class ChunkNetwork(nn.Module, ABC):  # type: ignore[misc]
    """What both variants share. ``vlm`` is a loaded ``…ForConditionalGeneration``."""

    def __init__(self, vlm: Any, spec: PolicySpec, width: int) -> None:
        super().__init__()
        self.spec, self.horizon, self.n_dims = spec, spec.horizon, spec.n_dims
        self.vlm = vlm
        self.tokens = ActionTokens(spec, width)

    @abstractmethod
    def prefix(self, batch: Batch) -> Prefix:
        """Sees and reads everything but state and actions."""

    @abstractmethod
    def _behind(self, prefix: Prefix, suffix: Tensor) -> Tensor:
        """Hidden states [B, 1 + H, width] of the suffix's tokens of that shape."""

    def velocity(self, prefix: Prefix, state: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """``state`` [B, S], ``x_t`` [B, H, D], ``t`` [B] → [B, H, D]; all of it normalized."""
        suffix = self.tokens(state, prefix.target, x_t, t)
        return self.tokens.velocity(self._behind(prefix, suffix))

    def velocity_at_once(self, batch: Batch, state: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The same as ``velocity`` behind ``prefix``, for training. What was seen stands for
        several rows in a row where there are more of ``state`` than of ``batch``."""
        prefix = self.prefix(batch)
        return self.velocity(prefix.repeated(len(state) // len(batch.told)), state, x_t, t)

    def head(self) -> dict[str, nn.Parameter]:
        """The weights that are not the backbone's, by name."""
        return {k: v for k, v in self.named_parameters() if not k.startswith("vlm.")}

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """``backbone`` (without its language head, which actions do not use) and ``head``.

        A loaded backbone is frozen; a trainer switches on what shall learn, or adds adapters.
        """
        return {"backbone": list(self.vlm.model.parameters()), "head": list(self.head().values())}

    # --- the backbone's parts, called as transformers' own ``forward`` calls them ----------------

    @property
    def _text(self) -> Any:
        return self.vlm.model.language_model

    def _seen(self, batch: Batch) -> tuple[Tensor, dict[str, Any]]:
        """Embeddings [B, L, hidden], and what deepstack adds behind the first layers."""
        visual = self.vlm.model.visual
        seen = visual(batch.patches.to(visual.dtype), grid_thw=batch.grids)
        embeds = self.vlm.get_input_embeddings()(batch.ids)
        pictures = seen.pooler_output.to(embeds.dtype)
        embeds = embeds.masked_scatter(batch.visual[..., None], pictures)
        levels = list(getattr(seen, "deepstack_features", None) or ())
        if not levels:
            return embeds, {}
        return embeds, {"visual_pos_masks": batch.visual, "deepstack_visual_embeds": levels}


class SingleStream(ChunkNetwork):
    """Actions as tokens of the backbone: all of its layers, and gradients into it."""

    def __init__(self, vlm: Any, spec: PolicySpec) -> None:
        kind = str(vlm.config.model_type)
        if kind not in ("qwen3_vl", "qwen3_vl_moe"):
            raise PolicyError(
                f"a single-stream policy cannot be made of a {kind} model: some of its layers are "
                "no attention and read in one direction only; use the variant small_expert"
            )
        super().__init__(vlm, spec, vlm.config.get_text_config().hidden_size)

    def prefix(self, batch: Batch) -> Prefix:
        cache = DynamicCache(config=self.vlm.config.get_text_config())
        self._refuse_checkpointing()
        embeds, deepstack = self._seen(batch)
        self._text(
            inputs_embeds=embeds,
            position_ids=batch.positions,
            past_key_values=cache,
            use_cache=True,
            **deepstack,
        )
        keys, values = zip(*((layer.keys, layer.values) for layer in cache.layers), strict=True)
        return Prefix(keys, values, batch.told, batch.next_position, batch.target)

    def _behind(self, prefix: Prefix, suffix: Tensor) -> Tensor:
        self._refuse_checkpointing()
        n = suffix.shape[1]
        sees = torch.cat([prefix.told, prefix.told.new_ones(len(suffix), n)], dim=1)
        suffix = suffix.to(self._text.dtype)
        out = self._text(
            inputs_embeds=suffix,
            position_ids=_positions_behind(prefix.next_position, n),
            attention_mask=_additive(sees[:, None].expand(-1, n, -1), suffix.dtype),
            past_key_values=_KeptCache(prefix),
        )
        hidden: Tensor = out.last_hidden_state
        return hidden

    def velocity_at_once(self, batch: Batch, state: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The same as ``velocity`` behind ``prefix``, in one pass over one packed sequence.

        Nothing is cached, so that it can be trained with gradient checkpointing.
        """
        embeds, deepstack = self._seen(batch)
        suffix = self.tokens(state, batch.target, x_t, t).to(embeds.dtype)
        n = suffix.shape[1]
        own = batch.told.new_ones(len(suffix), n)
        if deepstack:
            masks = torch.cat([batch.visual, ~own], dim=1)
            deepstack = {**deepstack, "visual_pos_masks": masks}
        behind = _positions_behind(batch.next_position, n)
        out = self._text(
            inputs_embeds=torch.cat([embeds, suffix], dim=1),
            position_ids=torch.cat([batch.positions, behind], dim=2),
            attention_mask=_additive(_packed(batch.told, n), embeds.dtype),
            use_cache=False,
            **deepstack,
        )
        return self.tokens.velocity(out.last_hidden_state[:, -n:])

    def _refuse_checkpointing(self) -> None:
        """transformers then drops the cache without a word, and the suffix would see nothing."""
        layers = self._text.layers
        if self.training and any(getattr(x, "gradient_checkpointing", False) for x in layers):
            raise PolicyError(
                "with gradient checkpointing nothing is cached: train with velocity_at_once"
            )


class _KeptCache:
    """The prefix's keys and values as transformers' attention asks for them; it keeps nothing."""

    def __init__(self, prefix: Prefix) -> None:
        self._prefix = prefix

    def get_seq_length(self, *_: object) -> int:
        return int(self._prefix.keys[0].shape[2])

    def update(self, key: Tensor, value: Tensor, layer: int, *_: object) -> tuple[Tensor, Tensor]:
        return (
            torch.cat([self._prefix.keys[layer], key], dim=2),
            torch.cat([self._prefix.values[layer], value], dim=2),
        )


def _positions_behind(next_position: Tensor, n: int) -> Tensor:
    """int64 [3, B, n]: on all three axes alike, from each row's own next position."""
    steps = torch.arange(n, device=next_position.device)
    return (next_position[:, None] + steps).expand(3, -1, -1)


def _packed(told: Tensor, n: int) -> Tensor:
    """Who sees whom in [prefix, suffix of ``n``]: bool [B, L + n, L + n], rows see columns."""
    length = told.shape[1]
    sees = torch.ones(length + n, length + n, dtype=torch.bool, device=told.device).tril()
    sees[length:] = True
    there = torch.cat([told, told.new_ones(len(told), n)], dim=1)
    # Padding sees itself, so that no row is empty: softmax over nothing is NaN.
    alone = torch.eye(length + n, dtype=torch.bool, device=told.device)
    return (sees & there[:, None]) | alone


def _additive(sees: Tensor, dtype: torch.dtype) -> Tensor:
    """bool [B, rows, columns] → [B, 1, rows, columns]: 0 where it sees, else the lowest number.
    Unlike a boolean mask every one of transformers' attentions takes it."""
    mask = torch.zeros(sees.shape, dtype=dtype, device=sees.device)
    return mask.masked_fill(~sees, torch.finfo(dtype).min)[:, None]
