"""What is in a checkpoint directory, read without torch and without running anything in it.

Only JSON and the headers of safetensors files are opened. Pickle files are never read, and a
configuration that asks for code of its own is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rynn_brain_ros.values import EngineError

KINDS = ("qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe")
"""``model_type`` of RynnBrain's checkpoints: generation 1.0 dense and sparse, then 1.1."""
DTYPE_BYTES = {
    **dict.fromkeys(("F64", "I64", "U64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "I8", "U8", "BOOL"), 1),
}
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_INDEX = "model.safetensors.index.json"
_CONFIGS = (
    *("config.json", "tokenizer_config.json", "preprocessor_config.json"),
    *("processor_config.json", "video_preprocessor_config.json", "generation_config.json"),
)
_MAX_HEADER_BYTES = 100_000_000
"""The limit of the safetensors library itself."""


@dataclass(frozen=True)
class Checkpoint:
    """A directory that passed every check that needs no weights.

    ``name`` and ``revision`` are the directory's own name and empty, or, in a Hugging Face cache,
    the repository's name and the commit. ``dtype`` is the one that most bytes are stored in, as
    safetensors spells it (``BF16``, ``F32``).
    """

    path: Path
    name: str
    revision: str
    kind: str
    dtype: str
    n_parameters: int
    n_bytes: int
    config: Mapping[str, Any] = field(repr=False)

    @property
    def is_linear(self) -> bool:
        """Most layers keep a recurrent state instead of keys and values (Qwen3.5)."""
        return self.kind.startswith("qwen3_5")

    @property
    def kv_bytes_per_token(self) -> int:
        """Of keys and values in 16 bits, summed over the layers with full attention."""
        text = self.config.get("text_config", {})
        layers = int(text.get("num_hidden_layers", 0))
        if self.is_linear:
            layers //= int(text.get("full_attention_interval", 4))
        return layers * 2 * int(text.get("num_key_value_heads", 0)) * _head_dim(text) * 2


def inspect(path: Path) -> Checkpoint:
    """Raises `EngineError` for a directory that cannot be, or may not be, loaded."""
    if not path.is_dir():
        raise EngineError(
            f"no model directory {path}: give the folder that holds config.json and *.safetensors"
        )
    config = _read_json(path / "config.json")
    _refuse_remote_code(path)
    kind = _kind(path, config)
    _check_tokenizer(path)
    tensors = [tensor for file in _weight_files(path) for tensor in _tensors(file)]
    name, revision = _identity(path)
    return Checkpoint(
        path=path,
        name=name,
        revision=revision,
        kind=kind,
        dtype=_main_dtype(tensors),
        n_parameters=sum(tensor.n_elements for tensor in tensors),
        n_bytes=sum(tensor.n_bytes for tensor in tensors),
        config=config,
    )


def _head_dim(text: Mapping[str, Any]) -> int:
    heads = max(1, int(text.get("num_attention_heads", 1)))
    return int(text.get("head_dim") or int(text.get("hidden_size", 0)) // heads)


def _identity(path: Path) -> tuple[str, str]:
    """(name, revision); the Hugging Face cache is ``models--OWNER--NAME/snapshots/COMMIT``."""
    resolved = path.absolute()
    repository = resolved.parent.parent.name
    if resolved.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.rpartition("--")[2], resolved.name
    return path.resolve().name, ""


# --- configuration -------------------------------------------------------------------------------


def _read_json(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise EngineError(
            f"{path.parent} holds no {path.name}: it is no model directory, or its download is "
            "not complete"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise EngineError(f"cannot read {path}: {error}; download it again") from error
    if not isinstance(record, dict):
        raise EngineError(f"{path} holds no JSON object; download it again")
    return record


def _refuse_remote_code(path: Path) -> None:
    for name in _CONFIGS:
        if (path / name).exists() and _asks_for_code(_read_json(path / name)):
            raise EngineError(
                f"{path / name} asks for code of its own (auto_map), which is never run; "
                "RynnBrain's checkpoints need none: use the original ones"
            )


def _asks_for_code(value: Any) -> bool:
    if isinstance(value, dict):
        return "auto_map" in value or any(_asks_for_code(v) for v in value.values())
    return isinstance(value, list) and any(_asks_for_code(v) for v in value)


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


def _check_tokenizer(path: Path) -> None:
    """Without these files transformers goes on with a tokenizer that knows no words."""
    old = ("vocab.json", "merges.txt")
    if not (path / "tokenizer.json").exists() and not all((path / name).exists() for name in old):
        raise EngineError(f"{path} lacks tokenizer.json; finish the download")


# --- weights -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Tensor:
    dtype: str
    n_elements: int
    n_bytes: int


def _weight_files(path: Path) -> list[Path]:
    index = path / _INDEX
    if index.exists():
        shards = _read_json(index).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise EngineError(f"{index} names no files; download it again")
        files = [path / Path(str(name)).name for name in sorted(set(shards.values()))]
    else:
        files = [path / "model.safetensors"]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise EngineError(_no_weights(path, missing))
    return files


def _no_weights(path: Path, missing: list[str]) -> str:
    pickles = sorted(file.name for pattern in _PICKLES for file in path.glob(pattern))
    if pickles:
        return (
            f"{path} holds {pickles[0]} and no safetensors; pickle files can run code and are "
            "never opened: convert it, or download the safetensors version"
        )
    return f"{path} lacks {', '.join(missing[:3])}; finish the download"


def _tensors(file: Path) -> Iterator[_Tensor]:
    """Of one safetensors file: 8 bytes of header length, JSON, data.

    https://huggingface.co/docs/safetensors#format
    """
    size = file.stat().st_size
    header, start = _header(file, size)
    end = start
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        try:
            first, last = (int(offset) for offset in entry["data_offsets"])
            dtype, n_elements = str(entry["dtype"]), math.prod(int(n) for n in entry["shape"])
        except (KeyError, TypeError, ValueError) as error:
            raise EngineError(
                f"{file} has a broken header at {name!r}; download it again"
            ) from error
        end = max(end, start + last)
        yield _Tensor(dtype, n_elements, last - first)
    if end != size:
        raise EngineError(
            f"{file} is {size:,} bytes long and its header says {end:,}: the download was cut off; "
            "download it again"
        )


def _header(file: Path, size: int) -> tuple[dict[str, Any], int]:
    """(the header, the offset of the data)."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > min(_MAX_HEADER_BYTES, size - 8):
            raise EngineError(
                f"{file} ({size:,} bytes) is cut off inside its header, or is no safetensors file; "
                "download it again"
            )
        try:
            header = json.loads(stream.read(length))
        except (ValueError, RecursionError) as error:
            raise EngineError(f"{file} has an unreadable header; download it again") from error
    if not isinstance(header, dict):
        raise EngineError(f"{file} has an unreadable header; download it again")
    return header, 8 + length


def _main_dtype(tensors: list[_Tensor]) -> str:
    n_bytes: dict[str, int] = {}
    for tensor in tensors:
        n_bytes[tensor.dtype] = n_bytes.get(tensor.dtype, 0) + tensor.n_bytes
    return max(n_bytes, key=lambda dtype: n_bytes[dtype], default="")
