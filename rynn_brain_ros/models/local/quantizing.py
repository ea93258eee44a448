"""Writing a quantized directory, once, so that it need not be quantized whenever it is loaded."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from rynn_brain_ros.files import remedy
from rynn_brain_ros.models.local.checkpoint import PROVENANCE, Checkpoint, inspect
from rynn_brain_ros.models.local.loading import make_request, read_model, telling
from rynn_brain_ros.models.local.memory import Request, gib
from rynn_brain_ros.models.local.quantization import QUANTIZATIONS, check_word
from rynn_brain_ros.models.local.weights import weight_files
from rynn_brain_ros.models.progress import Progress, untold
from rynn_brain_ros.values import InputError, OutputError

_COPIED = (
    *("tokenizer*", "vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json"),
    *("chat_template*", "preprocessor_config.json", "processor_config.json"),
    *("video_preprocessor_config.json", "LICENSE*"),
)
"""What belongs to a model beside its weights and their configuration."""
_LIBRARIES = ("rynn_brain_ros", "torch", "transformers", "bitsandbytes")
_SHARD = "4GB"
_CHUNK_BYTES = 1 << 24


@dataclass(frozen=True)
class Quantized:
    """What was written: the checkpoint it was made of, the new one, and bytes of weights."""

    source: Checkpoint
    written: Checkpoint


def quantize(
    source: Path, target: Path, to: str, *, device: str = "", progress: Progress = untold
) -> Quantized:
    """Writes ``source`` quantized ``to`` (int8, nf4, fp8) into the new directory ``target``.

    The whole directory or nothing. Loaded, it answers as the source does when it is quantized at
    load on the same kind of device. Raises `InputError`, `EngineError` for what cannot be loaded
    or quantized here, and `OutputError`.
    """
    _check_target(source, target, to)
    request = make_request(source, device, quantization=to)
    if request.checkpoint.quantization != "none":
        raise InputError(f"{source} is quantized to {to} already: use local:{source}")
    _check_disk(request, target)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        model = read_model(request, progress)
        temporary.mkdir(parents=True)
        with telling(progress, "writing"):
            model.save_pretrained(temporary, max_shard_size=_SHARD)
        del model
        _copy_companions(source, temporary)
        record = _provenance(request, progress)
        (temporary / PROVENANCE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        written = inspect(temporary)
        temporary.replace(target)
    except SafetensorError as error:
        raise OutputError(f"cannot write {target}: {error}; free some disk space") from error
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror}; {remedy(error)}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Quantized(request.checkpoint, written)


def _check_target(source: Path, target: Path, to: str) -> None:
    check_word(to, f"to quantize {source} to")
    if to == "none":
        raise InputError(f"nothing to do: choose one of {', '.join(QUANTIZATIONS[1:])}")
    if not target.name:
        raise InputError(f"{target} is no name of a folder: name a new one")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"{target} exists and is not an empty folder: choose another")


def _check_disk(request: Request, target: Path) -> None:
    needed = request.need.weights
    there = next(folder for folder in target.absolute().parents if folder.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise OutputError(
            f"cannot write {target}: it needs {gib(needed)} and {gib(free)} of disk are free in "
            f"{there}; free some space or choose another folder"
        )


def _copy_companions(source: Path, target: Path) -> None:
    for pattern in _COPIED:
        for file in source.glob(pattern):
            if file.is_file():
                shutil.copyfile(file, target / file.name)


def _provenance(request: Request, progress: Progress) -> dict[str, Any]:
    checkpoint = request.checkpoint
    files = [checkpoint.path / "config.json", *weight_files(checkpoint.path)]
    return {
        "source": checkpoint.name,
        "revision": checkpoint.revision,
        "sha256": _hashes(files, progress),
        "quantization": request.quantization,
        "kept_in": request.dtype,
        "device": request.device,
        "versions": {name: _version(name) for name in _LIBRARIES},
    }


def _hashes(files: list[Path], progress: Progress) -> dict[str, str]:
    """Of whole files, as model hubs show them."""
    total, done, hashes = sum(file.stat().st_size for file in files), 0, {}
    for file in files:
        digest = hashlib.sha256()
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
                done += len(chunk)
                progress("hashing the source", done, total)
        hashes[file.name] = digest.hexdigest()
    return hashes


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
