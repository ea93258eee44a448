"""How long a robot waits for a chunk on a GPU: the prefix, and ten steps with and without a graph.

    python benchmarks/chunk_latency.py [--shape 2b] [--rounds 20] [--horizon 32]

Needs ``pip install '.[model]'``. Random weights in the shape of RynnBrain-2B (without
its vocabulary; ``--shape tiny``: three million parameters, which also runs without a GPU), in
bfloat16 on a GPU: a single-stream policy, and one with a small expert of 300 million parameters;
two cameras of 320 x 224 pixels. Median milliseconds of the clock, the GPU's work awaited. ``ratio``
is ten steps launched kernel by kernel over replayed ones; there is none without a GPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

from rynn_brain_ros.vla import PolicySpec, Variant
from rynn_brain_ros.vla.checkpoint import LoadedPolicy, new_policy
from rynn_brain_ros.vla.flow import sample
from rynn_brain_ros.vla.graphed import Graphed
from rynn_brain_ros.vla.values import ExpertSize

TESTS = Path(__file__).resolve().parent.parent / "test"
sys.path[:0] = [str(TESTS / "vla"), str(TESTS / "models")]
import tiny_models  # noqa: E402  # random models are made where the tests make them
import tiny_policies  # noqa: E402

SIZE = (224, 320)
EXPERTS = {"2b": ExpertSize(n_layers=24, width=1024, n_heads=16), "tiny": ExpertSize(3, 64, 4)}
# Qwen3-VL-2B's published configuration.
TEXT_2B = {
    **{"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28},
    **{"num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128},
    "initializer_range": 0.02,
    "rope_parameters": {
        **{"rope_type": "default", "rope_theta": 5e6},
        **{"mrope_section": [24, 20, 20], "mrope_interleaved": True},
    },
}
VISION_2B = {
    **{"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16},
    **{"out_hidden_size": 2048, "deepstack_visual_indexes": [5, 11, 17]},
    **{"num_position_embeddings": 2304, "initializer_range": 0.02},
}


def build(shape: str, folder: Path) -> Path:
    if shape == "tiny":
        return tiny_models.build("qwen3_vl", folder)
    return tiny_models.build("qwen3_vl", folder, vision=VISION_2B, **TEXT_2B)


def waited_ms(work: Callable[[], object], rounds: int) -> float:
    """Of the clock, the median; the first two rounds only warm up."""
    found = list[float]()
    for _ in range(rounds + 2):
        began = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        found.append(1000 * (time.perf_counter() - began))
    return statistics.median(found[2:])


def measured(policy: LoadedPolicy, rounds: int) -> dict[str, float]:
    network, device = policy.network, policy.network.vlm.device
    seen = [tiny_policies.observation(1, step="Pick it up.", target=(0.5, 0.0, 0.1))]
    batch, state = policy.reader.batch(seen).to(device), policy.reader.states(seen).to(device)
    noise = torch.randn(1, network.horizon, network.n_dims, device=device)
    prefix = network.prefix(batch)
    work: dict[str, Callable[[], object]] = {
        "prefix": lambda: network.prefix(batch),
        "ten steps": lambda: sample(network, prefix, state, noise),
    }
    if device.type == "cuda":
        graphed = Graphed(network)
        work["ten steps, CUDA graph"] = lambda: sample(graphed, prefix, state, noise)
    return {name: waited_ms(each, rounds) for name, each in work.items()}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", choices=("2b", "tiny"), default="2b")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--horizon", type=int, default=32)
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    on_gpu = torch.cuda.is_available()
    shape = arguments.shape
    told: dict[str, Any] = {"name": "chunk_latency", "shape": shape, "ratio": {}, "ms": {}}
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        backbone = build(shape, Path(folder))
        for variant in Variant:
            horizon, cameras = arguments.horizon, tiny_policies.CAMERAS
            spec = PolicySpec(variant, horizon, 4, 4, cameras, SIZE, 3, expert=EXPERTS[shape])
            statistic = tiny_policies.statistics(horizon)
            policy = new_policy(backbone, spec, statistic, dtype="BF16" if on_gpu else "F32")
            ms = measured(policy, arguments.rounds)
            for name, value in ms.items():
                print(f"{variant.value:15}{name:24}{value:9.2f} ms")
            told["ms"][variant.value] = {name: round(value, 2) for name, value in ms.items()}
            if on_gpu:
                ratio = ms["ten steps"] / ms["ten steps, CUDA graph"]
                told["ratio"][variant.value] = round(ratio, 2)
            told["parameters"] = sum(each.numel() for each in policy.network.vlm.parameters())
            del policy
    told["machine"] = torch.cuda.get_device_name() if on_gpu else "no GPU"
    print(json.dumps(told))


if __name__ == "__main__":
    main()
