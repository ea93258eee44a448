"""What a frozen backbone saw of each sample, kept: a small expert looks at nothing else.

The backbone is most of what a small expert's training costs, and it sees the same in every epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from rynn_brain_ros.vla.demonstrations import Collator, Demonstrations, Key, Shown
from rynn_brain_ros.vla.expert import Seen, SmallExpert


class KeptSeeing:
    """Samples as `FlowLoss` is shown them, their pictures seen once as long as ``mib`` MiB of
    memory hold what was seen; the others are seen anew.

    Every sample is seen by itself and kept in 16 bits, so that it is the same, bit for bit, in
    whichever batch and run it is shown.
    """

    def __init__(
        self, network: SmallExpert, data: Demonstrations, collate: Collator, mib: float
    ) -> None:
        self._network, self._data, self._collate = network, data, collate
        self._kept: dict[Key, Seen] = {}
        self._left_bytes = mib * 2**20

    @property
    def n_kept(self) -> int:
        return len(self._kept)

    def shown(self, keys: Sequence[Key]) -> Shown[Seen]:
        """[B, …] of B keys, on the processor."""
        numbers = self._collate.numbers([self._data.without_pictures(key) for key in keys])
        return Shown(_together([self._seen(replace(key, jitter=0)) for key in keys]), *numbers)

    def _seen(self, key: Key) -> Seen:
        return self._kept.get(key) or self._see(key)

    def _see(self, key: Key) -> Seen:
        batch = self._collate([self._data[key]]).seen
        seen = self._network.see(batch.to(self._network.vlm.device)).to("cpu")
        found = replace(seen, hidden=tuple(_in_16_bits(layer) for layer in seen.hidden))
        n_bytes = sum(layer.nbytes for layer in found.hidden)
        if n_bytes <= self._left_bytes:
            self._left_bytes -= n_bytes
            self._kept[key] = found
        return found


def _in_16_bits(hidden: Tensor) -> Tensor:
    """A large backbone has a few states beyond half precision's 65504."""
    if hidden.dtype is not torch.float32:
        return hidden
    half = hidden.half()
    return half if torch.isfinite(half).all() else hidden.bfloat16()


def _together(seen: Sequence[Seen]) -> Seen:
    """Of one sample each, shorter ones padded at their end."""
    layers = zip(*(each.hidden for each in seen), strict=True)
    return Seen(
        tuple(_padded(layer) for layer in layers),
        _padded([each.told for each in seen]),
        torch.cat([each.next_position for each in seen]),
        torch.cat([each.target for each in seen]),
    )


def _padded(rows: Sequence[Tensor]) -> Tensor:
    """[1, L, …] each → [B, longest L, …], with zeros behind; in 32 bits where they differ."""
    alike = len({row.dtype for row in rows}) == 1
    return pad_sequence([row[0] if alike else row[0].float() for row in rows], batch_first=True)
