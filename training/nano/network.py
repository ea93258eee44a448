"""The network: transformers' own Qwen3-VL, small, begun so that it learns from nothing.

What makes it learn is in how it begins: positions are waves in x and y, so are the numbers that
coordinates are written with, and the language model starts wide. The picture's second way into
the language model (DeepStack) is left out: untrained, it drowns the first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import GenerationConfig, Qwen3VLConfig, Qwen3VLForConditionalGeneration

from training.nano.words import number_tokens

PATCH_PX = 8
TOKEN_PX = 2 * PATCH_PX
MAX_PIXELS = 320 * 240
_POSITIONS = 40
"""A side of the table of positions, which is stretched over any picture."""
VISION = {
    "depth": 4,
    "hidden_size": 96,
    "num_heads": 3,
    "intermediate_size": 256,
    "patch_size": PATCH_PX,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "out_hidden_size": 160,
    "num_position_embeddings": _POSITIONS**2,
    "deepstack_visual_indexes": [],
    "initializer_range": 0.05,
}
TEXT = {
    "hidden_size": 160,
    "intermediate_size": 400,
    "num_hidden_layers": 5,
    "num_attention_heads": 5,
    "num_key_value_heads": 5,
    "head_dim": 32,
    "max_position_embeddings": 32768,
    "initializer_range": 0.08,
    "tie_word_embeddings": True,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "mrope_section": [8, 4, 4],
        "mrope_interleaved": True,
    },
}


def build_network(tokenizer: Any, seed: int = 0) -> Any:
    """A ``Qwen3VLForConditionalGeneration`` that has learned nothing yet."""
    torch.manual_seed(seed)
    token = tokenizer.convert_tokens_to_ids
    config = Qwen3VLConfig(
        text_config={
            **TEXT,
            "vocab_size": (len(tokenizer) + 63) // 64 * 64,
            "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": token("<|im_end|>"),
        },
        vision_config=VISION,
        tie_word_embeddings=True,
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
    )
    model = Qwen3VLForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        do_sample=False, pad_token_id=tokenizer.pad_token_id, eos_token_id=token("<|im_end|>")
    )
    with torch.no_grad():
        _set_waves(model, number_tokens(tokenizer))
    return model


def _set_waves(model: Any, numbers: list[int]) -> None:
    visual = model.model.visual
    width = visual.pos_embed.weight.shape[1]
    along = waves((np.arange(_POSITIONS) + 0.5) / _POSITIONS, width // 2, _POSITIONS / 4)
    across = np.broadcast_to(along[None], (_POSITIONS, _POSITIONS, width // 2))
    down = np.broadcast_to(along[:, None], (_POSITIONS, _POSITIONS, width // 2))
    table = np.concatenate([across, down], -1).reshape(_POSITIONS**2, width)
    visual.pos_embed.weight.copy_(0.5 * torch.from_numpy(table.astype(np.float32)))
    embedding = model.get_input_embeddings().weight
    codes = waves(np.arange(1001) / 1000, embedding.shape[1], 40.0)
    embedding[torch.tensor(numbers)] = 0.08 * torch.from_numpy(codes.astype(np.float32)) * 2**0.5
    # Frames have such numbers too, and there the next one is as wrong as any.
    digits = torch.tensor(numbers[:10])
    embedding[digits] += 0.08 * torch.randn(10, embedding.shape[1])


def waves(values: NDArray[np.float64], width: int, fastest: float) -> NDArray[np.float64]:
    """Sines and cosines [n, width] of ``values`` in 0…1, from half a wave up to ``fastest``."""
    speeds = 2 * np.pi * np.geomspace(0.25, fastest, width // 2)
    angles = values[:, None] * speeds
    return np.concatenate([np.sin(angles), np.cos(angles)], -1)


# --- the vision tower in batches ------------------------------------------------------------------


class Sight:
    """The vision tower's mathematics for a batch of pictures of one size, or of parts of them.

    transformers goes through pictures one by one; this is what it computes, in one go. A part is
    given with its place (in patches), so that it carries the positions it has in the whole.
    """

    def __init__(self, model: Any) -> None:
        self.tower = model.model.visual

    def __call__(
        self,
        images: torch.Tensor,
        corners: torch.Tensor | None = None,
        whole: tuple[int, int] = (240, 320),
    ) -> torch.Tensor:
        """Visual tokens [B, rows · columns, hidden], of pictures (0…255)
        [B, H, W, 3]; ``corners`` [B, 2] is where in a picture of ``whole`` (height, width) each
        part begins, in patches (row, column)."""
        tower = self.tower
        rows, columns = images.shape[1] // PATCH_PX, images.shape[2] // PATCH_PX
        weight = tower.patch_embed.proj.weight.sum(2).flatten(1)  # both frames of its film are one
        x = nn.functional.linear(_patches(images), weight, tower.patch_embed.proj.bias)
        table = self._positions(whole[0] // PATCH_PX, whole[1] // PATCH_PX)
        places = _merge_order(rows, columns)  # [n, 2]
        if corners is None:
            corners = torch.zeros(len(images), 2, dtype=torch.long)
        at = corners[:, None] + places[None]
        x = x + table[at[..., 0], at[..., 1]]
        cos, sin = tower.rotary_pos_emb(x[0], places)
        for block in tower.blocks:
            x = x + _attend(block.attn, block.norm1(x), cos, sin)
            x = x + block.mlp(block.norm2(x))
        tokens: torch.Tensor = tower.merger(x).view(len(images), rows * columns // 4, -1)
        return tokens

    def _positions(self, rows: int, columns: int) -> torch.Tensor:
        """The learned table, stretched to the whole picture's patches [rows, columns, hidden]."""
        table = self.tower.pos_embed.weight.view(1, _POSITIONS, _POSITIONS, -1).permute(0, 3, 1, 2)
        stretched = nn.functional.interpolate(
            table, (rows, columns), mode="bilinear", align_corners=True
        )
        return stretched[0].permute(1, 2, 0)


def _patches(images: torch.Tensor) -> torch.Tensor:
    """[B, patches in merge order, 3 · 8 · 8], from −1 to 1."""
    b, height, width, _ = images.shape
    x = images.permute(0, 3, 1, 2).float().div(127.5).sub(1)
    x = x.reshape(b, 3, height // TOKEN_PX, 2, PATCH_PX, width // TOKEN_PX, 2, PATCH_PX)
    x = x.permute(0, 2, 5, 3, 6, 1, 4, 7)
    return x.reshape(b, -1, 3 * PATCH_PX**2)


def _merge_order(rows: int, columns: int) -> torch.Tensor:
    """(row, column) of each patch [n, 2]: four neighbours that become one token stand together."""
    grid = torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"), -1)
    grid = grid.reshape(rows // 2, 2, columns // 2, 2, 2).transpose(1, 2)
    return grid.reshape(-1, 2)


def _attend(attention: Any, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    b, n, _ = x.shape
    q, k, v = attention.qkv(x).view(b, n, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    mixed = nn.functional.scaled_dot_product_attention(_turn(q, cos, sin), _turn(k, cos, sin), v)
    out: torch.Tensor = attention.proj(mixed.transpose(1, 2).reshape(b, n, -1))
    return out


def _turn(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat((-second, first), -1) * sin
