"""A trained network as an ordinary checkpoint directory, with where it comes from."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import torch

from training.nano.network import MAX_PIXELS, PATCH_PX, TOKEN_PX

MIN_PIXELS = 64 * TOKEN_PX**2
PROVENANCE, BEGAN_WITH = "provenance.json", "began with"


def save_checkpoint(model: Any, tokenizer: Any, path: Path, provenance: dict[str, Any]) -> None:
    """Weights in bf16, tokenizer, image settings and `PROVENANCE`: whole or not at all."""
    unfinished = path.with_name(f".{path.name}.partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    model.to(torch.bfloat16).save_pretrained(unfinished)
    model.to(torch.float32).load_state_dict(weights)  # training may go on in full precision
    tokenizer.save_pretrained(unfinished)
    _write(unfinished / "preprocessor_config.json", _image_settings())
    _write(unfinished / PROVENANCE, provenance)
    if path.exists():
        shutil.rmtree(path)
    unfinished.rename(path)


def load_checkpoint(
    model: Any, tokenizer: Any, path: Path
) -> tuple[dict[str, Any], tuple[int, ...]]:
    """An earlier nano's weights into ``model``; its provenance, and the tokens that it has not:
    they are begun as the means of their pieces. Raises `SystemExit` for a network of another shape,
    and for one that reads other tokens than ``tokenizer``'s."""
    knew = type(tokenizer).from_pretrained(path)
    if not knew.get_vocab().items() <= tokenizer.get_vocab().items():
        raise SystemExit(f"error: {path} was made of other words than are taught here")
    earlier = type(model).from_pretrained(path, dtype=torch.float32)
    try:
        model.load_state_dict(earlier.state_dict())
    except RuntimeError as error:
        raise SystemExit(
            f"error: {path} is another network than is trained here: {error}"
        ) from None
    embedding = model.get_input_embeddings().weight
    new = tuple(range(len(knew), len(tokenizer)))
    with torch.no_grad():
        for token in new:
            word = tokenizer.convert_ids_to_tokens(token)
            pieces = knew(word, add_special_tokens=False)["input_ids"]
            embedding[token] = embedding[pieces].mean(0)
    told: dict[str, Any] = json.loads((path / PROVENANCE).read_text(encoding="utf-8"))
    return told, new


def provenance(recipe: dict[str, Any], minutes: float, workers: int) -> dict[str, Any]:
    """What the weights come from: code, recipe with seeds, time and machine."""
    return {
        "code": _commit(),
        "recipe": recipe,
        "minutes": round(minutes, 1),
        "machine": f"{platform.machine()}, {workers} × {torch.get_num_threads()} threads, no GPU",
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    here = Path(__file__).parent
    found = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def _image_settings() -> dict[str, Any]:
    return {
        "image_processor_type": "Qwen2VLImageProcessorFast",
        "processor_class": "Qwen3VLProcessor",
        "patch_size": PATCH_PX,
        "merge_size": 2,
        "temporal_patch_size": 2,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "size": {"shortest_edge": MIN_PIXELS, "longest_edge": MAX_PIXELS},
    }


def _write(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
