"""The smaller policy: a transformer of its own that looks at what the backbone sees.

Each of its layers looks at the hidden states of one of the backbone's layers, evenly spread, the
last among them: low ones tell where things are, high ones what they are. They are detached, so the
backbone keeps what it knows (knowledge insulation, arXiv 2505.23705), and any of the four
architectures will do, linear attention included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rynn_brain_ros.vla.network import Batch, ChunkNetwork, Prefix
from rynn_brain_ros.vla.values import PolicySpec


@dataclass(frozen=True)
class Seen:
    """What the backbone made of B observations: ``hidden`` [B, L, hidden] for each of the expert's
    layers; the rest as in `Batch`. It is the same whatever the expert has learned."""

    hidden: tuple[Tensor, ...]
    told: Tensor
    next_position: Tensor
    target: Tensor

    def to(self, device: torch.device | str) -> Seen:
        hidden = tuple(layer.to(device) for layer in self.hidden)
        rest = (self.told, self.next_position, self.target)
        return Seen(hidden, *(part.to(device) for part in rest))


class SmallExpert(ChunkNetwork):
    """``spec.expert`` says how small. Only the head learns from the flow's loss."""

    def __init__(self, vlm: Any, spec: PolicySpec) -> None:
        size, text = spec.expert, vlm.config.get_text_config()
        super().__init__(vlm, spec, size.width)
        self.place = nn.Parameter(torch.randn(1 + spec.horizon, size.width) * 0.02)
        self.layers = nn.ModuleList(
            ExpertLayer(size.width, size.n_heads, text.hidden_size) for _ in range(size.n_layers)
        )
        self.norm = nn.RMSNorm(size.width)

    def see(self, batch: Batch) -> Seen:
        """All that the backbone has to do."""
        seen = self._hidden(batch)
        depths = torch.linspace(len(seen) - 1, 0, len(self.layers) + 1)[:-1].flip(0)
        hidden = tuple(seen[round(depth)] for depth in depths.tolist())
        return Seen(hidden, batch.told, batch.next_position, batch.target)

    def prefix(self, batch: Batch | Seen) -> Prefix:
        seen = batch if isinstance(batch, Seen) else self.see(batch)
        looks = [
            layer.look(hidden.to(self.place.dtype))
            for layer, hidden in zip(self.layers, seen.hidden, strict=True)
        ]
        keys, values = zip(*looks, strict=True)
        return Prefix(keys, values, seen.told, seen.next_position, seen.target)

    def _behind(self, prefix: Prefix, suffix: Tensor) -> Tensor:
        n = suffix.shape[1]
        sees = torch.cat([prefix.told, prefix.told.new_ones(len(suffix), n)], dim=1)
        x = suffix + self.place
        for layer, keys, values in zip(self.layers, prefix.keys, prefix.values, strict=True):
            x = layer(x, keys, values, sees[:, None, None])
        hidden: Tensor = self.norm(x)
        return hidden

    def _hidden(self, batch: Batch) -> tuple[Tensor, ...]:
        """[B, L, hidden] before the first layer and behind each of the backbone's, detached."""
        with torch.no_grad():
            embeds, deepstack = self._seen(batch)
            out = self._text(
                inputs_embeds=embeds,
                position_ids=batch.positions,
                use_cache=False,
                output_hidden_states=True,
                **deepstack,
            )
        return tuple(out.hidden_states)


class ExpertLayer(nn.Module):  # type: ignore[misc]
    """One attention over [what the backbone saw, the chunk], not causal, then an MLP."""

    def __init__(self, width: int, n_heads: int, seen_width: int) -> None:
        super().__init__()
        self._heads = (n_heads, width // n_heads)
        self.seen_norm = nn.RMSNorm(seen_width)
        self.seen_in = nn.Linear(seen_width, 2 * width, bias=False)
        self.attention_norm = nn.RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.mlp = nn.Sequential(
            nn.RMSNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def look(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [B, heads, L, width / heads] of the backbone's ``seen`` [B, L, …]."""
        key, value = self.seen_in(self.seen_norm(seen)).chunk(2, dim=-1)
        return self._split(key), self._split(value)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, sees: Tensor) -> Tensor:
        query, key, value = (
            self._split(part) for part in self.qkv(self.attention_norm(x)).chunk(3, dim=-1)
        )
        found = functional.scaled_dot_product_attention(
            query, torch.cat([keys, key], dim=2), torch.cat([values, value], dim=2), sees
        )
        x = x + self.out(found.transpose(1, 2).flatten(2))
        grown: Tensor = x + self.mlp(x)
        return grown

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, self._heads).transpose(1, 2)
