"""How many bits the language model's weights take, in one word, and where that word works.

Only the linear layers of the language model are quantized. The vision tower, the embeddings, the
head and the small gates (of experts, of linear attention's state) keep their 16 bits: coordinates
suffer most from the first three, and the gates are too small to be worth it.

``int8`` and ``nf4`` are bitsandbytes' (LLM.int8(), arXiv 2208.07339; NF4 with double
quantization, arXiv 2305.14314) and run on CPUs and GPUs. ``fp8`` is transformers' own: E4M3 in
blocks of 128 × 128, on GPUs that multiply in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rynn_brain_ros.extras import pip_install
from rynn_brain_ros.models.local.checkpoint import Checkpoint
from rynn_brain_ros.models.local.weights import DTYPE_BYTES, Tensor
from rynn_brain_ros.values import EngineError, InputError

QUANTIZATIONS = ("none", "int8", "nf4", "fp8")
_FP8_BLOCK = 128
_NF4_BLOCK, _NF4_NESTED_BLOCK = 64, 256
_NF4_ROWS = 32
"""bitsandbytes' CPU kernel reads as many rows at once."""
_FP8_CAPABILITY = (8, 9)
_KEPT = ("embed_tokens", "lm_head", "in_proj_a", "in_proj_b", "shared_expert_gate", "gate")
"""Names of modules of the language model that stay as they are."""
_NOT_CONVERTED = ["model.visual", "lm_head", "in_proj_a", "in_proj_b", "shared_expert_gate"]
"""The same in transformers' settings, which look at linear modules only."""


@dataclass(frozen=True)
class Machine:
    """Where a model is to run: ``capability`` of its GPU (None: a CPU), and which of the packages
    that quantizations need can be used there."""

    capability: tuple[int, int] | None
    packages: frozenset[str]


def chosen(checkpoint: Checkpoint, word: str) -> str:
    """The quantization to load ``checkpoint`` in: ``word``, or where empty the stored one.

    Raises `InputError` for an unknown word and `EngineError` for a checkpoint that was quantized
    to another one before.
    """
    check_word(word or "none", f"of {checkpoint.path}")
    stored = checkpoint.quantization
    if stored != "none" and word not in ("", stored):
        raise EngineError(
            f"{checkpoint.path} is quantized to {stored} already and cannot become {word}: use "
            f"local:{checkpoint.path}, or give the original weights"
        )
    return word or stored


def check_word(word: str, where: str) -> None:
    if word not in QUANTIZATIONS:
        raise InputError(f"unknown quantization {word!r} {where}: use {_or(QUANTIZATIONS)}")


def check_possible(checkpoint: Checkpoint, quantization: str, machine: Machine) -> None:
    """Raises `EngineError` that names what is missing for ``quantization``, and what to do."""
    reason = ""
    if quantization == "fp8":
        reason = _no_fp8(checkpoint, machine) or _odd_layer(checkpoint, _FP8_BLOCK, _FP8_BLOCK)
    elif quantization != "none":
        reason = _no_bitsandbytes(checkpoint, machine)
        if quantization == "nf4" and not reason:
            reason = _odd_layer(checkpoint, _NF4_ROWS, _NF4_BLOCK)
    if reason:
        raise EngineError(f"{checkpoint.name} cannot run in {quantization} here: {reason}")


def possible(checkpoint: Checkpoint, machine: Machine) -> tuple[str, ...]:
    """The quantizations that ``checkpoint`` can be loaded in."""
    found = []
    for word in QUANTIZATIONS if checkpoint.quantization == "none" else (checkpoint.quantization,):
        try:
            check_possible(checkpoint, word, machine)
        except EngineError:
            continue
        found.append(word)
    return tuple(found)


def settings(quantization: str, dtype: str) -> dict[str, Any]:
    """transformers' ``quantization_config`` of int8, nf4 or fp8; ``dtype`` is torch's name of the
    one to compute in."""
    if quantization == "fp8":
        return {
            "quant_method": "fp8",
            "activation_scheme": "dynamic",
            "weight_block_size": [_FP8_BLOCK, _FP8_BLOCK],
            "modules_to_not_convert": _NOT_CONVERTED,
        }
    method = {"quant_method": "bitsandbytes", "llm_int8_skip_modules": _NOT_CONVERTED}
    if quantization == "int8":
        return {**method, "load_in_8bit": True}
    return {
        **method,
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": dtype,
    }


def weight_bytes(checkpoint: Checkpoint, quantization: str, dtype: str) -> int:
    """What the weights take when loaded, from the headers; ``dtype`` (safetensors' spelling) is
    that of everything that is not quantized."""
    if checkpoint.quantization != "none":
        return checkpoint.n_bytes
    return sum(
        _layer_bytes(tensor, quantization)
        if quantization != "none" and is_layer(tensor)
        else tensor.n_elements * DTYPE_BYTES[dtype]
        for tensor in checkpoint.tensors
    )


def is_layer(tensor: Tensor) -> bool:
    """Whether a quantization changes it: a linear layer's, or all experts' in one."""
    parts = tensor.name.split(".")
    if "language_model" not in parts:
        return False
    if "experts" in parts:
        return len(tensor.shape) >= 2
    return parts[-1] == "weight" and len(tensor.shape) == 2 and parts[-2] not in _KEPT


def largest_layer(tensors: Iterable[Tensor]) -> int:
    """Elements of the largest tensor that a quantization changes; 0 where there is none."""
    return max((tensor.n_elements for tensor in tensors if is_layer(tensor)), default=0)


def _layer_bytes(tensor: Tensor, quantization: str) -> int:
    n = tensor.n_elements
    if quantization == "int8":
        return n + 4 * tensor.shape[0]
    if quantization == "fp8":
        return n + 4 * n // _FP8_BLOCK**2
    blocks = n // _NF4_BLOCK
    return n // 2 + blocks + 4 * blocks // _NF4_NESTED_BLOCK


def _no_bitsandbytes(checkpoint: Checkpoint, machine: Machine) -> str:
    if "bitsandbytes" not in machine.packages:
        return f"bitsandbytes is not installed in this Python: {pip_install('quantization')}"
    if checkpoint.is_sparse:
        layers = [tensor for tensor in checkpoint.tensors if is_layer(tensor)]
        experts = sum(tensor.n_elements for tensor in layers if ".experts." in tensor.name)
        return (
            "bitsandbytes quantizes linear layers, and "
            f"{100 * experts / max(1, checkpoint.n_parameters):.0f} % of this model are experts "
            "kept in one tensor. Use fp8 (NVIDIA GPU of capability 8.9 or newer), or serve a 4-bit "
            "version with vLLM and use http://…"
        )
    return ""


def _no_fp8(checkpoint: Checkpoint, machine: Machine) -> str:
    wanted = "it needs an NVIDIA GPU of compute capability 8.9 or newer (Ada, Hopper, Blackwell)"
    instead = "" if checkpoint.is_sparse else ". Use nf4 or int8"
    if machine.capability is None:
        return f"{wanted}, and this is a CPU{instead}"
    if machine.capability < _FP8_CAPABILITY:
        major, minor = machine.capability
        return f"{wanted}, and this one has {major}.{minor}{instead}"
    if "kernels" not in machine.packages:
        return (
            "it needs the package kernels, which loads the GPU's code, in a version that "
            "transformers takes: pip install 'transformers[kernels]'"
        )
    return ""


def _odd_layer(checkpoint: Checkpoint, rows: int, columns: int) -> str:
    """Why its layers cannot be cut into blocks; empty where they can, or have been."""
    if checkpoint.quantization != "none":
        return ""
    for tensor in filter(is_layer, checkpoint.tensors):
        if tensor.shape[-2] % rows or tensor.shape[-1] % columns:
            return (
                f"{tensor.name} has the shape {list(tensor.shape)}, no multiple of "
                f"[{rows}, {columns}]. Use int8"
            )
    return ""


def _or(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}"
