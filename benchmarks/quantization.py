"""What quantization costs and gives: nf4 and int8 against 16 bits on the same model.

    python benchmarks/quantization.py [--kind qwen3_5] [--tokens 32]

For each: how long loading takes (quantizing at load, and from a directory that `rynn-brain
quantize` wrote), memory of the weights, time to read the prompt and to write a token, and drift.
Drift is measured on the same words: behind the same prompt and the same given tokens, how often
the most probable next token is another, and how far the logits are apart.

Needs ``pip install '.[model,quantization]'``. The model is random, 150 million
parameters in RynnBrain-2B's proportions; random weights have no outliers and many near ties, so
compare the drift of methods, and measure your checkpoint's with `rynn-brain check-engine`. One
thread. A few minutes.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import transformers

from rynn_brain_ros.language import compose
from rynn_brain_ros.models.local.backbone import Backbone
from rynn_brain_ros.models.local.loading import Loaded, load
from rynn_brain_ros.models.local.pictures import pixels
from rynn_brain_ros.models.local.quantizing import quantize

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "test" / "models"))
import tiny_models  # random checkpoints are made where the tests make them

TEXT = {
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "initializer_range": 0.03,
}
VISION = {
    "depth": 6,
    "hidden_size": 320,
    "num_heads": 5,
    "intermediate_size": 1280,
    "out_hidden_size": 1024,
    "num_position_embeddings": 2304,
}
METHODS = ("none", "int8", "nf4")


@dataclass(frozen=True)
class Measured:
    """Of one method; ``loaded_s`` from a directory quantized before, ``equal_tokens`` a share."""

    quantization: str
    load_s: float
    loaded_s: float
    weights_mib: float
    read_s: float
    token_ms: float
    equal_tokens: float = 1.0
    largest_logit_difference: float = 0.0
    logit_spread: float = 0.0


def opened(directory: Path, method: str) -> tuple[Loaded, float]:
    start = time.perf_counter()
    loaded = load(directory, "cpu", "BF16", method)
    return loaded, time.perf_counter() - start


def measure(source: Path, method: str, n_tokens: int) -> tuple[Measured, torch.Tensor]:
    """Also the logits [tokens, vocabulary] behind the prompt and each of the given tokens."""
    loaded, load_s = opened(source, method)
    loaded_s = load_s
    if method != "none":
        with tempfile.TemporaryDirectory() as folder:
            quantize(source, Path(folder) / "small", method, device="cpu")
            loaded, loaded_s = opened(Path(folder) / "small", method)
    logits, read_s, token_s = answer(loaded, n_tokens)
    weights = loaded.model.get_memory_footprint() / 2**20
    return Measured(method, load_s, loaded_s, weights, read_s, 1000 * token_s), logits


def answer(loaded: Loaded, n_tokens: int) -> tuple[torch.Tensor, float, float]:
    """(logits, seconds to read the prompt, median seconds of a token)."""
    backbone, query = Backbone(loaded.model), tiny_models.question(1, 2)
    prompt, pictures = loaded.chat.prompt(compose(query, loaded.profile.generation), 10240)
    given = np.random.default_rng(0).integers(0, 256, n_tokens)
    with torch.inference_mode():
        seen = {
            span: backbone.see(*loaded.patcher.cut(pixels(picture.frame, picture.size)))
            for span, picture in zip(prompt.images, pictures, strict=True)
        }
        backbone.read(prompt, 0, len(prompt), seen, backbone.new_cache())  # warm
        cache, start = backbone.new_cache(), time.perf_counter()
        logits = [backbone.read(prompt, 0, len(prompt), seen, cache)]
        read_s, times = time.perf_counter() - start, []
        for n, token in enumerate(given):
            start = time.perf_counter()
            logits.append(backbone.step(int(token), prompt.next_position() + n, cache))
            times.append(time.perf_counter() - start)
    return torch.stack(logits), read_s, statistics.median(times)


def compared(measured: Measured, logits: torch.Tensor, reference: torch.Tensor) -> Measured:
    return replace(
        measured,
        equal_tokens=float((logits.argmax(-1) == reference.argmax(-1)).float().mean()),
        largest_logit_difference=float((logits - reference).abs().max()),
        logit_spread=float(reference.std()),
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kind", choices=("qwen3_vl", "qwen3_5"), default="qwen3_vl")
    parser.add_argument("--tokens", type=int, default=32)
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        source = tiny_models.build(arguments.kind, Path(folder), vision=VISION, **TEXT)
        results = [measure(source, method, arguments.tokens) for method in METHODS]
    reference = results[0][1]
    rows = [compared(measured, logits, reference) for measured, logits in results]
    titles = ("load s", "written s", "MiB", "read s", "ms/token", "equal", "logits")
    print(" " * 6 + "".join(f"{title:>11}" for title in titles))
    for row in rows:
        print(
            f"{row.quantization:6}{row.load_s:11.1f}{row.loaded_s:11.1f}{row.weights_mib:11.0f}"
            f"{row.read_s:11.2f}{row.token_ms:11.1f}{row.equal_tokens:11.3f}"
            f"{row.largest_logit_difference:11.2f}"
        )
    print(
        json.dumps(
            {
                "name": "quantization",
                "kind": arguments.kind,
                "machine": f"{platform.machine()}, 1 thread, torch {torch.__version__}",
                "methods": [
                    {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(row).items()}
                    for row in rows
                ],
            }
        )
    )


if __name__ == "__main__":
    main()
