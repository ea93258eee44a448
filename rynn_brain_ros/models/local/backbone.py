"""The four architectures behind one small surface: see a picture, read tokens, predict the next.

The parts of transformers' own classes are called directly (vision tower, language model, head), as
their ``forward`` does; so nothing is kept inside the model between calls and any part of a prompt
can be read alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache

from rynn_brain_ros.models.local import gpu, patch_embedding
from rynn_brain_ros.models.local.prompt import ImageSpan, Prompt

_TOLERANCE = 0.1
"""Of the largest logit; rounding in 16 bits stays far below, a lost state far above."""


@dataclass(frozen=True)
class ImageFeatures:
    """One picture as the language model sees it: ``tokens`` [n, hidden], and one such tensor for
    each deepstack level (none in Qwen3.5), which is added behind one of the first layers."""

    tokens: torch.Tensor
    deepstack: tuple[torch.Tensor, ...] = ()

    @property
    def n_bytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in (self.tokens, *self.deepstack))

    def part(self, first: int, last: int) -> ImageFeatures:
        """Its visual tokens ``first:last``."""
        return ImageFeatures(
            self.tokens[first:last], tuple(level[first:last] for level in self.deepstack)
        )


class Backbone:
    """Wraps a loaded ``…ForConditionalGeneration``; ``notes`` say what it does otherwise.

    While `watched` is active, ``look`` is called before every layer and may raise: a question
    can be given up within one layer's time, however long its prompt. A GPU, which would be given
    all layers within a moment, is waited for then; not between the layers of a single token.
    """

    def __init__(self, model: Any) -> None:
        self.model = model.eval()
        self._visual = model.model.visual
        self._text = model.model.language_model
        self._embed = model.get_input_embeddings()
        self._head = model.lm_head
        self.notes = patch_embedding.settle(self._visual.patch_embed.proj)
        self._look: Callable[[], None] | None = None
        self._waits = False
        for layer in (*self._visual.blocks, *self._text.layers):
            layer.register_forward_pre_hook(self._before_layer)

    @property
    def device(self) -> torch.device:
        return self._embed.weight.device

    def new_cache(self) -> Any:
        """An empty cache with a layer for each of the language model's."""
        return DynamicCache(config=self.model.config.get_text_config())

    def resumes(self) -> bool:
        """Whether reading in two pieces gives the same as reading at once, tried on a few tokens.

        Some versions of transformers restart the state of linear attention with each piece.
        """
        prompt = Prompt(np.arange(16, dtype=np.int64))
        with torch.inference_mode():
            whole = self.read(prompt, 0, 16, {}, self.new_cache())
            cache = self.new_cache()
            self.read(prompt, 0, 9, {}, cache)
            pieces = self.read(prompt, 9, 16, {}, cache)
        return bool((whole - pieces).abs().max() <= _TOLERANCE * whole.abs().max())

    @contextlib.contextmanager
    def watched(self, look: Callable[[], None]) -> Iterator[None]:
        self._look = look
        try:
            yield
        finally:
            self._look = None

    def see(self, patches: NDArray[np.float32], grid: tuple[int, int, int]) -> ImageFeatures:
        """One picture through the vision tower: ``patches`` [n, values] on a ``grid`` (time, rows,
        columns)."""
        self._waits = True
        values = torch.from_numpy(patches).to(self.device, self._visual.dtype)
        seen = self._visual(values, grid_thw=torch.tensor([grid], device=self.device))
        return ImageFeatures(seen.pooler_output, tuple(getattr(seen, "deepstack_features", ())))

    def read(
        self,
        prompt: Prompt,
        start: int,
        end: int,
        features: Mapping[ImageSpan, ImageFeatures],
        cache: Any,
    ) -> torch.Tensor:
        """Reads tokens ``start:end`` of ``prompt`` behind those in ``cache``, which grows.

        ``features`` has those images of which a part lies within ``start:end``. Returns the logits
        after the last token, float32 [vocabulary].
        """
        self._waits = True
        ids = torch.from_numpy(prompt.ids[None, start:end]).to(self.device)
        embeds = self._embed(ids)
        visual = {}
        spans = [image for image in prompt.images if image.start < end and start < image.end]
        if spans:
            mask = self._mask(spans, start, end)
            seen = [
                features[span].part(max(start - span.start, 0), end - span.start) for span in spans
            ]
            tokens = torch.cat([image.tokens for image in seen])
            embeds = embeds.masked_scatter(mask[..., None], tokens.to(embeds.dtype))
            visual = _deepstack(mask, seen)
        positions = prompt.positions()[:, start:end]
        return self._forward(embeds, positions, cache, **visual)

    def step(self, token: int, position: int, cache: Any) -> torch.Tensor:
        """Reads one written token. Returns the logits after it, float32 [vocabulary]."""
        self._waits = False
        embeds = self._embed(torch.tensor([[token]], device=self.device))
        return self._forward(embeds, np.full((3, 1), position, dtype=np.int64), cache)

    def _forward(
        self, embeds: torch.Tensor, positions: NDArray[np.int64], cache: Any, **visual: Any
    ) -> torch.Tensor:
        out = self._text(
            inputs_embeds=embeds,
            position_ids=torch.from_numpy(positions[:, None, :]).to(self.device),
            past_key_values=cache,
            use_cache=True,
            **visual,
        )
        logits: torch.Tensor = self._head(out.last_hidden_state[0, -1]).float()
        return logits

    def _mask(self, spans: Sequence[ImageSpan], start: int, end: int) -> torch.Tensor:
        """Bool [1, end − start]: true at visual tokens."""
        mask = torch.zeros((1, end - start), dtype=torch.bool)
        for span in spans:
            mask[0, max(span.start - start, 0) : span.end - start] = True
        return mask.to(self.device)

    def _before_layer(self, *_: object) -> None:
        if self._look is not None:
            if self._waits:
                gpu.finish(self.device)
            self._look()


def _deepstack(mask: torch.Tensor, features: Sequence[ImageFeatures]) -> dict[str, Any]:
    levels = [torch.cat(level) for level in zip(*(f.deepstack for f in features), strict=True)]
    return {"visual_pos_masks": mask, "deepstack_visual_embeds": levels} if levels else {}
