"""What the model has read already, kept between questions.

A question usually begins as the one before did: the same frames, perhaps one more, and other words
last. Keys and values of the common beginning stay; the rest is cut off. Layers with linear
attention cannot be cut back: their small state is copied near the end of the last picture, and
a question that goes on from there starts with the copy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rynn_brain_ros.models.local.prompt import Prompt

CHUNK_TOKENS = 64
"""Linear attention reads in chunks of so many (transformers' and flash-linear-attention's own
default). Going on in the middle of one would round sums otherwise than reading all at once."""
_LEAST_SHARE = 0.25
"""Of a prompt, below which its beginning is read again. Behind kept tokens attention needs a mask,
with which GPUs have no flash kernel: it costs about twice as much, for the whole prompt."""
_EMPTY = Prompt(np.empty(0, dtype=np.int64))
_States = list[tuple[torch.Tensor, torch.Tensor] | None]


@dataclass(frozen=True)
class _Snapshot:
    """Copies of the linear layers' states after ``length`` tokens."""

    length: int
    states: _States


class Prefix:
    """The cache of one conversation. ``reuses`` false: every prompt is read from its beginning.

    ``cache`` holds the tokens of ``read``, except between `begin` and `took`: then a part of
    more may be in it, and `settle` throws that part away.
    """

    def __init__(self, new_cache: Callable[[], Any], *, reuses: bool = True) -> None:
        self._new_cache, self.reuses = new_cache, reuses
        self.clear()

    def clear(self) -> None:
        self.cache = self._new_cache()
        self.read = _EMPTY
        self._n_prompt = 0
        self._snapshots: list[_Snapshot] = []
        self._reading = False

    @property
    def is_linear(self) -> bool:
        return any(_is_linear(layer) for layer in self.cache.layers)

    def keep(self, prompt: Prompt) -> int:
        """Cuts back to what ``prompt`` shares, and returns how many of its tokens are read.

        At least its last token is left to be read, since its logits are wanted. A small share is
        read again, and so is an answer that was written: token by token, 16 bits rounded it
        otherwise than in a prompt.
        """
        most = min(self._n_prompt, len(prompt) - 1) if self.reuses else 0
        common = min(self.read.common_prefix(prompt), most)
        if self.is_linear and common < len(self.read):
            usable = [s for s in self._snapshots if s.length <= common]
            self._snapshots = usable
            common = usable[-1].length if usable else 0
        if common < _LEAST_SHARE * len(prompt):
            common = 0
        if common < len(self.read):
            self._back_to(common)
        return common

    def pause(self, prompt: Prompt) -> int:
        """How much of ``prompt`` is to be read before `remember`; 0 where that is not needed."""
        if not (self.is_linear and self.reuses):
            return 0
        return prompt.images_end // CHUNK_TOKENS * CHUNK_TOKENS

    def begin(self) -> None:
        """The model starts to read on."""
        self._reading = True

    def took(self, prompt: Prompt) -> None:
        """The cache now holds all of ``prompt``."""
        self.read, self._n_prompt, self._reading = prompt, len(prompt), False

    def wrote(self, prompt: Prompt) -> None:
        """The cache now also holds what was written behind the prompt."""
        self.read, self._reading = prompt, False

    def settle(self) -> None:
        """Makes ``cache`` and ``read`` agree again after reading was given up."""
        if self._reading:
            last = self._snapshots[-1].length if self._snapshots else 0
            self._back_to(last if self.is_linear else len(self.read))

    def remember(self) -> None:
        """Copies the linear layers' states as they stand after ``read``."""
        states = [_copy(layer) for layer in self.cache.layers]
        self._snapshots = [*self._snapshots[-1:], _Snapshot(len(self.read), states)]

    def _back_to(self, length: int) -> None:
        """For linear attention ``length`` is that of the last snapshot, or 0."""
        if length == 0:
            self.clear()
            return
        with torch.inference_mode():
            for index, layer in enumerate(self.cache.layers):
                if _is_linear(layer):
                    _restore(layer, self._snapshots[-1].states[index])
                elif (surplus := layer.get_seq_length() - length) > 0:
                    layer.crop(-surplus)  # of nothing would empty it, in transformers of 5.10
        self.read, self._n_prompt = self.read.first(length), min(self._n_prompt, length)
        self._reading = False


def _is_linear(layer: Any) -> bool:
    return hasattr(layer, "recurrent_states")


def _tensors(layer: Any) -> list[torch.Tensor]:
    if _is_linear(layer):
        return [layer.conv_states[0], layer.recurrent_states[0]]
    keys = getattr(layer, "keys", None)
    return [] if keys is None else [keys, layer.values]


def _copy(layer: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
    if not _is_linear(layer):
        return None
    conv, recurrent = _tensors(layer)
    return conv.clone(), recurrent.clone()


def _restore(layer: Any, state: tuple[torch.Tensor, torch.Tensor] | None) -> None:
    assert state is not None
    conv, recurrent = _tensors(layer)
    conv.copy_(state[0])
    recurrent.copy_(state[1])
