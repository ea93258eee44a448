"""The headers of a checkpoint's safetensors files: which tensors there are, and how they are kept.

Pickle files are never opened. Nothing of the weights themselves is read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rynn_brain_ros.values import EngineError

DTYPE_BYTES = {
    **dict.fromkeys(("F64", "I64", "U64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "I8", "U8", "BOOL"), 1),
}
_FLOATS = ("BF16", "F16", "F32")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_INDEX = "model.safetensors.index.json"
_MAX_HEADER_BYTES = 100_000_000
"""The limit of the safetensors library itself."""
_STATE = ".quant_state.bitsandbytes__nf4"
_SCALES = (
    *(_STATE, ".absmax", ".nested_absmax", ".quant_map", ".nested_quant_map"),
    *(".SCB", ".weight_format", "_scale_inv", ".activation_scale"),
)
"""Ends of the names under which bitsandbytes and transformers keep what undoes a quantization."""


@dataclass(frozen=True)
class Tensor:
    """One entry of a header; ``dtype`` as safetensors spells it (``BF16``, ``U8``)."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    n_bytes: int

    @property
    def n_elements(self) -> int:
        return math.prod(self.shape)


def read_tensors(path: Path) -> tuple[Tensor, ...]:
    """Of all weight files of a checkpoint directory. Raises `EngineError`."""
    return tuple(tensor for file in weight_files(path) for tensor in _tensors(file))


def count_parameters(tensors: Sequence[Tensor]) -> int:
    """As many as before they were quantized: two share a byte in 4 bits, and scales are none."""
    halves = {t.name.removesuffix(_STATE) for t in tensors if t.name.endswith(_STATE)}
    return sum(
        tensor.n_elements * (2 if tensor.name in halves else 1)
        for tensor in tensors
        if not tensor.name.endswith(_SCALES)
    )


def main_dtype(tensors: Sequence[Tensor], quantized: bool = False) -> str:
    """The one that most bytes are in; of a quantized model, of what was left in floats."""
    n_bytes: dict[str, int] = {}
    for tensor in tensors:
        if not quantized or (tensor.dtype in _FLOATS and not tensor.name.endswith(_SCALES)):
            n_bytes[tensor.dtype] = n_bytes.get(tensor.dtype, 0) + tensor.n_bytes
    return max(n_bytes, key=lambda dtype: n_bytes[dtype], default="")


def read_json(path: Path) -> dict[str, Any]:
    """Raises `EngineError` for a file that is missing or holds no JSON object."""
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


def weight_files(path: Path) -> list[Path]:
    """The safetensors files of a checkpoint directory, all there. Raises `EngineError`."""
    index = path / _INDEX
    if index.exists():
        shards = read_json(index).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise EngineError(f"{index} names no files; download it again")
        files = [path / Path(str(name)).name for name in sorted(set(map(str, shards.values())))]
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


def _tensors(file: Path) -> Iterator[Tensor]:
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
            dtype, shape = str(entry["dtype"]), tuple(int(n) for n in entry["shape"])
        except (KeyError, TypeError, ValueError) as error:
            raise EngineError(
                f"{file} has a broken header at {name!r}; download it again"
            ) from error
        end = max(end, start + last)
        yield Tensor(name, dtype, shape, last - first)
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
