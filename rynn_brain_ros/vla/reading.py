"""An observation as the backbone reads it: pictures, then the instruction, the step, the target.

Training and the live policy read through the same `Reader`, so both show the same tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rynn_brain_ros.models.local.patches import Patcher
from rynn_brain_ros.models.local.prompt import Prompt, expand
from rynn_brain_ros.vla.network import Batch
from rynn_brain_ros.vla.normalization import Statistics
from rynn_brain_ros.vla.values import Observation, PolicyError, PolicySpec


@dataclass(frozen=True)
class Reader:
    """``tokenizer`` and ``patcher`` are the backbone's, ``image_token`` the id of a picture's."""

    spec: PolicySpec
    statistics: Statistics
    tokenizer: Any
    patcher: Patcher
    image_token: int

    def __post_init__(self) -> None:
        side = self.patcher.token_px
        if any(size < 1 or size % side for size in self.spec.image_size):
            raise PolicyError(
                f"pictures of {self.spec.image_size} (height, width) pixels: both sides must be "
                f"whole visual tokens of {side} pixels"
            )

    def batch(self, observations: Sequence[Observation]) -> Batch:
        """Raises `PolicyError` for a camera that is missing and for words that are no words."""
        prompts = [self._prompt(observation) for observation in observations]
        cut = [self.patcher.cut(picture) for each in observations for picture in self._shown(each)]
        length = max(map(len, prompts))
        targets = [self.statistics.target_in(each.target_point) for each in observations]
        return Batch(
            ids=_stacked([prompt.ids for prompt in prompts], length),
            told=torch.arange(length) < torch.tensor([[len(prompt)] for prompt in prompts]),
            visual=_stacked([prompt.ids == self.image_token for prompt in prompts], length),
            positions=_stacked([prompt.positions() for prompt in prompts], length).transpose(0, 1),
            next_position=torch.tensor([prompt.next_position() for prompt in prompts]),
            patches=torch.from_numpy(np.concatenate([patches for patches, _ in cut])),
            grids=torch.tensor([grid for _, grid in cut]),
            target=torch.from_numpy(np.stack(targets).astype(np.float32)),
        )

    def states(self, observations: Sequence[Observation]) -> Tensor:
        """Normalized, float32 [B, S]."""
        measured = np.stack([np.asarray(each.state, np.float64) for each in observations])
        return torch.from_numpy(self.statistics.state.normalized(measured).astype(np.float32))

    def _shown(self, observation: Observation) -> list[NDArray[np.uint8]]:
        missing = [name for name in self.spec.cameras if name not in observation.images]
        if missing:
            raise PolicyError(
                f"no picture of {', '.join(missing)}: this policy was trained with "
                f"{', '.join(self.spec.cameras)}"
            )
        height, width = self.spec.image_size
        return [resized(observation.images[name], (width, height)) for name in self.spec.cameras]

    def _prompt(self, observation: Observation) -> Prompt:
        content: list[dict[str, str]] = []
        for camera in self.spec.cameras:
            content += [{"type": "text", "text": f"{camera}: "}, {"type": "image"}]
        content.append({"type": "text", "text": self._words(observation)})
        text = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        side = self.patcher.token_px
        rows, columns = (size // side for size in self.spec.image_size)
        images = [((camera, 0, 0), rows, columns) for camera in self.spec.cameras]
        ids = self.tokenizer.encode(text, add_special_tokens=False)
        return expand(ids, self.image_token, images)

    def _words(self, observation: Observation) -> str:
        lines = [f"\nINSTRUCTION: {observation.instruction}"]
        if self.spec.told_step:
            lines.append(f"STEP: {observation.step or 'not known'}")
        if self.spec.n_target:
            lines.append(f"TARGET: {_point_words(observation.target_point)}")
        words = "\n".join((*lines, "What action should the robot take?"))
        control = [str(t) for t in self.tokenizer.added_tokens_decoder.values() if t.special]
        found = next((token for token in control if token in words), None)
        if found is not None:
            raise PolicyError(
                f"the words {words[:60]!r} hold {found}, which the model reads as a control token; "
                "leave it out"
            )
        return words


def resized(rgb: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """``rgb`` [height, width, 3] in this ``size`` (width, height)."""
    if rgb.shape[1::-1] == size:
        return rgb
    shrinks = size[0] * size[1] < rgb.shape[0] * rgb.shape[1]
    made = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return np.asarray(made, dtype=np.uint8)


def _point_words(point: Sequence[float]) -> str:
    """As the brain writes points of a picture; metres to the millimetre."""
    if not point:
        return "not known"
    return f"({', '.join(f'{v:.0f}' if len(point) == 2 else f'{v:.3f}' for v in point)})"


def _stacked(rows: Sequence[NDArray[Any]], length: int) -> Tensor:
    """[..., n] each, padded with zeros at the end → [B, ..., length]."""
    made = np.zeros((len(rows), *rows[0].shape[:-1], length), rows[0].dtype)
    for place, row in zip(made, rows, strict=True):
        place[..., : row.shape[-1]] = row
    return torch.from_numpy(made)
