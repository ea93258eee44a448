"""What is in a checkpoint directory, read without torch and without running anything in it.

Only JSON and the headers of safetensors files are opened. Pickle files are never read, and a
configuration that asks for code of its own is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rynn_brain_ros.models.local.weights import (
    Tensor,
    count_parameters,
    main_dtype,
    read_json,
    read_tensors,
)
from rynn_brain_ros.values import EngineError

KINDS = ("qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe")
"""``model_type`` of RynnBrain's checkpoints: generation 1.0 dense and sparse, then 1.1."""
PROVENANCE = "quantized_from.json"
"""In a directory that ``rynn-brain quantize`` wrote: what it was made of, and how."""
_ADAPTER = "adapter_config.json"
_CODE_KEYS = ("auto_map", "trust_remote_code")
_CONFIGS = (
    *("config.json", "tokenizer_config.json", "preprocessor_config.json"),
    *("processor_config.json", "video_preprocessor_config.json", "generation_config.json"),
)


@dataclass(frozen=True)
class Checkpoint:
    """A directory that passed every check that needs no weights.

    ``name`` and ``revision`` are the directory's own name and empty, or, in a Hugging Face cache,
    the repository's name and the commit; a directory that ``rynn-brain quantize`` wrote has those
    of its source. ``quantization`` is ``none`` or how its layers are stored. ``dtype`` is the one
    that most other bytes are stored in, as safetensors spells it (``BF16``, ``F32``).
    """

    path: Path
    name: str
    revision: str
    kind: str
    quantization: str
    tensors: tuple[Tensor, ...] = field(repr=False)
    config: Mapping[str, Any] = field(repr=False)

    @property
    def dtype(self) -> str:
        return main_dtype(self.tensors, self.quantization != "none")

    @property
    def n_parameters(self) -> int:
        """Before any quantization."""
        return count_parameters(self.tensors)

    @property
    def n_bytes(self) -> int:
        return sum(tensor.n_bytes for tensor in self.tensors)

    @property
    def is_sparse(self) -> bool:
        """A mixture of experts."""
        return self.kind.endswith("_moe")

    @property
    def is_linear(self) -> bool:
        """Most layers keep a recurrent state instead of keys and values (Qwen3.5)."""
        return self.kind.startswith("qwen3_5")

    @property
    def kv_bytes_per_token(self) -> int:
        """Of keys and values in 16 bits, summed over the layers with full attention."""
        text = "text_config"
        layers = self.number(text, "num_hidden_layers")
        if self.is_linear:
            layers //= max(1, self.number(text, "full_attention_interval", 4))
        heads = max(1, self.number(text, "num_attention_heads", 1))
        head_dim = self.number(text, "head_dim") or self.number(text, "hidden_size") // heads
        return layers * 2 * self.number(text, "num_key_value_heads") * head_dim * 2

    def number(self, part: str, key: str, default: int = 0) -> int:
        """A number of a part of the configuration. Raises `EngineError` for what is none."""
        value = self.config[part].get(key, default)
        try:
            return int(value or 0)
        except (TypeError, ValueError) as error:
            raise EngineError(
                f"{self.path / 'config.json'} has {key} {value!r}, which is no number; download "
                "it again"
            ) from error


def inspect(path: Path) -> Checkpoint:
    """Raises `EngineError` for a directory that cannot be, or may not be, loaded."""
    if not path.is_dir():
        raise EngineError(
            f"no model directory {path}: give the folder that holds config.json and *.safetensors"
        )
    config = read_json(path / "config.json")
    _refuse_remote_code(path)
    kind = _kind(path, config)
    _check_tokenizer(path)
    name, revision = _identity(path)
    return Checkpoint(
        path, name, revision, kind, _quantization(path, config), read_tensors(path), config
    )


def _identity(path: Path) -> tuple[str, str]:
    """(name, revision); the Hugging Face cache is ``models--OWNER--NAME/snapshots/COMMIT``."""
    if (path / PROVENANCE).exists():
        made_of = read_json(path / PROVENANCE)
        if isinstance(made_of.get("source"), str) and isinstance(made_of.get("revision"), str):
            return made_of["source"], made_of["revision"]
        raise EngineError(f"{path / PROVENANCE} does not name its source; quantize it again")
    resolved = path.absolute()
    repository = resolved.parent.parent.name
    if resolved.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.rpartition("--")[2], resolved.name
    return path.resolve().name, ""


# --- configuration -------------------------------------------------------------------------------


def _refuse_remote_code(path: Path) -> None:
    if (path / _ADAPTER).exists():  # transformers would load the model that this file names
        raise EngineError(
            f"{path} holds an adapter ({_ADAPTER}), which names another model to load: merge it "
            "into that model (peft: merge_and_unload) and give the result"
        )
    for name in _CONFIGS:
        asked = _asks_for_code(read_json(path / name)) if (path / name).exists() else ""
        if asked:
            raise EngineError(
                f"{path / name} asks for code of its own ({asked}), which is never run; "
                "RynnBrain's checkpoints need none: use the original ones"
            )


def _asks_for_code(value: Any) -> str:
    """The key with which it does."""
    if isinstance(value, dict):
        own = next((key for key in _CODE_KEYS if value.get(key, False) is not False), "")
        return own or next(filter(None, map(_asks_for_code, value.values())), "")
    return next(filter(None, map(_asks_for_code, value)), "") if isinstance(value, list) else ""


def _kind(path: Path, config: Mapping[str, Any]) -> str:
    kind = config.get("model_type")
    if kind not in KINDS:
        raise EngineError(
            f"{path / 'config.json'} describes a model of type {kind!r}; this engine runs "
            f"{', '.join(KINDS)} (RynnBrain 1.0 and 1.1)"
        )
    for part in ("text_config", "vision_config"):
        if not isinstance(config.get(part), dict):
            raise EngineError(f"{path / 'config.json'} has no {part}; download it again")
    return str(kind)


def _quantization(path: Path, config: Mapping[str, Any]) -> str:
    """How the layers are stored, by the words of `quantization.QUANTIZATIONS`."""
    settings = config.get("quantization_config")
    if settings is None:
        return "none"
    settings = settings if isinstance(settings, dict) else {}
    method = settings.get("quant_method")
    if method == "fp8":
        return "fp8"
    if method == "bitsandbytes" and settings.get("load_in_8bit"):
        return "int8"
    if method == "bitsandbytes" and settings.get("bnb_4bit_quant_type") == "nf4":
        return "nf4"
    raise EngineError(
        f"{path} is quantized with {method!r}, which this engine does not run; give the original "
        "weights and choose int8, nf4 or fp8 here, or serve it with vLLM and use http://…"
    )


def _check_tokenizer(path: Path) -> None:
    """Without these files transformers goes on with a tokenizer that knows no words."""
    old = ("vocab.json", "merges.txt")
    if not (path / "tokenizer.json").exists() and not all((path / name).exists() for name in old):
        raise EngineError(f"{path} lacks tokenizer.json; finish the download")
