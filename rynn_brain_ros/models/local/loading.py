"""From a checked directory to a model in memory, through transformers' ordinary classes."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers.cache_utils
from transformers import AutoModelForImageTextToText, AutoTokenizer

from rynn_brain_ros.models.image_grid import TOKEN_PX
from rynn_brain_ros.models.local.chat import MAX_PROMPT_TOKENS, Chat
from rynn_brain_ros.models.local.checkpoint import Checkpoint, inspect
from rynn_brain_ros.models.local.memory import available_bytes, check_fits
from rynn_brain_ros.models.local.patches import Patcher, read_patcher
from rynn_brain_ros.models.profiles import Profile, profile_for
from rynn_brain_ros.values import EngineError

_LOG = logging.getLogger(__name__)
_IMAGE = "<|image_pad|>"
_SAFE = {"local_files_only": True, "trust_remote_code": False}
_TORCH_DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
_BROKEN = (
    *(OSError, ValueError, TypeError, KeyError, AttributeError, IndexError),
    *(RuntimeError, ImportError, AssertionError, ZeroDivisionError),
)
"""What transformers raises, depending on what is wrong with a directory."""


@dataclass(frozen=True)
class Loaded:
    checkpoint: Checkpoint
    profile: Profile
    model: Any
    patcher: Patcher
    chat: Chat
    stop_tokens: frozenset[int]


def load(path: Path, device: str = "", dtype: str = "") -> Loaded:
    """Loads a checkpoint directory onto ``device`` (default: a GPU where there is one).

    ``dtype`` is ``BF16``, ``F16`` or ``F32``; by default the weights stay as they are stored.
    Safetensors only, nothing from the network, no code of the checkpoint. Raises `EngineError`.
    """
    checkpoint = inspect(path)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = dtype or checkpoint.dtype
    if dtype not in _TORCH_DTYPES:
        raise EngineError(
            f"{checkpoint.name} stores its weights in {dtype}; this engine computes in "
            f"{', '.join(_TORCH_DTYPES)}: convert the checkpoint"
        )
    patcher = read_patcher(path)
    _check_version(checkpoint)
    check_fits(checkpoint, dtype, *_room(device))
    profile = profile_for(checkpoint.name, checkpoint.kind, checkpoint.n_parameters / 1e9)
    _LOG.info("loading %s (%s) onto %s in %s", checkpoint.name, profile.name, device, dtype)
    try:
        model = _model(checkpoint, device, getattr(torch, _TORCH_DTYPES[dtype]))
        tokenizer = _tokenizer(path)
        chat = _chat(checkpoint, profile, tokenizer, patcher)
        stop = _stop_tokens(model, tokenizer)
    except _BROKEN as error:
        said = str(error).splitlines() or [type(error).__name__]
        raise EngineError(f"transformers cannot load {path}: {said[0]}") from error
    return Loaded(checkpoint, profile, model, patcher, chat, stop)


def _check_version(checkpoint: Checkpoint) -> None:
    """The shared cache learned about linear attention after these models had come."""
    if checkpoint.is_linear and not hasattr(transformers.cache_utils, "LinearAttentionLayer"):
        raise EngineError(
            f"transformers {transformers.__version__} is too old for {checkpoint.kind} here; "
            "pip install 'transformers>=5.10'"
        )


def _room(device: str) -> tuple[int | None, str]:
    """(free bytes, what they are of)."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0]), f"the memory of {device}"
    return available_bytes(), "main memory"


def _model(checkpoint: Checkpoint, device: str, dtype: torch.dtype) -> Any:
    model, info = AutoModelForImageTextToText.from_pretrained(
        checkpoint.path,
        dtype=dtype,
        use_safetensors=True,
        attn_implementation="sdpa",
        output_loading_info=True,
        **({} if device == "cpu" else {"device_map": {"": device}}),
        **_SAFE,
    )
    missing = sorted(info["missing_keys"])
    if missing:  # transformers would go on with random numbers in their place
        raise EngineError(
            f"{checkpoint.path} lacks {len(missing)} of the model's weights, first {missing[0]}; "
            "download it again"
        )
    return model.eval().requires_grad_(False)


def _tokenizer(path: Path) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(path, **_SAFE)
    if not tokenizer.chat_template:
        tokenizer.chat_template = _old_template(path)
    return tokenizer


def _old_template(path: Path) -> str:
    """transformers 4.57 wrote the processor's template into a file of its own."""
    file = path / "chat_template.json"
    if not file.exists():
        raise EngineError(f"{path} has no chat template (chat_template.jinja); download it again")
    return str(json.loads(file.read_text(encoding="utf-8"))["chat_template"])


def _chat(checkpoint: Checkpoint, profile: Profile, tokenizer: Any, patcher: Patcher) -> Chat:
    side = patcher.token_px
    if TOKEN_PX % side:
        raise EngineError(
            f"{checkpoint.path} cuts pictures into visual tokens of {side} pixels; this engine "
            f"draws them on a grid of {TOKEN_PX}"
        )
    image_token = int(checkpoint.config["image_token_id"])
    known = tokenizer.encode(_IMAGE, add_special_tokens=False)
    if known != [image_token]:
        raise EngineError(
            f"the tokenizer in {checkpoint.path} reads {_IMAGE} as {known} and config.json says "
            f"{image_token}: they are of different models; download both again"
        )
    return Chat(
        tokenizer,
        image_token,
        token_px=side,
        max_image_tokens=patcher.max_tokens,
        max_tokens=min(
            MAX_PROMPT_TOKENS,
            int(checkpoint.config["text_config"].get("max_position_embeddings", MAX_PROMPT_TOKENS)),
        ),
        enable_thinking=profile.enable_thinking,
    )


def _stop_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    told = model.generation_config.eos_token_id
    listed = told if isinstance(told, list) else [told]
    return frozenset(t for t in [*listed, tokenizer.eos_token_id] if t is not None)
