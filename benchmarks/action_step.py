"""What a chunk of actions costs: the prefix seen once, or with every step; torch, or onnxruntime.

    python benchmarks/action_step.py [--rounds 7] [--horizon 16] [--expert]

Needs ``pip install '.[model,onnx]'``. A single-stream policy of random weights around
a random Qwen3-VL of three million parameters (the size is printed), two cameras of 320 x 224
pixels, ten steps. With ``--expert`` the actions are those of a small expert of 300 million
parameters beside that backbone (π0's has as many). One thread; seconds of processor time, the best
of some rounds, so that whoever else uses the machine does not count. ``ratio`` is recomputing over
keeping the prefix, in torch.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
import transformers

from rynn_brain_ros.vla import PolicySpec, Variant
from rynn_brain_ros.vla.checkpoint import LoadedPolicy, load_policy, new_policy, save_policy
from rynn_brain_ros.vla.export import export
from rynn_brain_ros.vla.flow import N_STEPS, sample
from rynn_brain_ros.vla.onnx_policy import (
    ACTION_STEP,
    VISION,
    Graph,
    Precision,
    VisionGraph,
    euler,
    graph_file,
    velocity_of,
)
from rynn_brain_ros.vla.values import ExpertSize

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "test" / "vla"))
import tiny_policies  # random policies are made where the tests make them

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "test" / "models"))
import tiny_models

SIZE = (224, 320)
EXPERT = ExpertSize(n_layers=24, width=1024, n_heads=16)


def make(folder: Path, horizon: int, variant: Variant) -> Path:
    """A saved policy of random weights."""
    backbone = tiny_models.build("qwen3_vl", folder)
    cameras = tiny_policies.CAMERAS
    spec = PolicySpec(variant, horizon, 4, 4, cameras, SIZE, 3, expert=EXPERT)
    torch.manual_seed(1)
    policy = new_policy(backbone, spec, tiny_policies.statistics(horizon))
    save_policy(policy, backbone, folder / "policy")
    return folder / "policy"


def tasks(source: Path, exported: Path) -> tuple[dict[str, Callable[[], object]], dict[str, int]]:
    """What is timed, by name, and the sizes."""
    policy = load_policy(source)
    network, reader = policy.network, policy.reader
    seen = [tiny_policies.observation(1, step="Pick it up.", target=(0.5, 0.0, 0.1))]
    batch, state = reader.batch(seen), reader.states(seen)
    noise = torch.randn(1, network.horizon, network.n_dims)
    prefix = network.prefix(batch)

    def recomputed() -> object:
        x_t = noise
        for step in range(N_STEPS):
            t = torch.tensor([1 - step / N_STEPS])
            x_t = x_t - network.velocity_at_once(batch, state, x_t, t) / N_STEPS
        return x_t

    timed: dict[str, Callable[[], object]] = {
        "recomputed": recomputed,
        "prefix, torch": lambda: network.prefix(batch),
        "steps, torch": lambda: sample(network, prefix, state, noise),
    }
    for precision in Precision:
        seer, step = with_graphs(exported, precision)
        name = f"onnxruntime {precision.value}"
        timed[f"prefix, {name}"] = lambda seer=seer: seer.network.prefix(batch)
        timed[f"steps, {name}"] = lambda step=step: euler(
            velocity_of(step, prefix, state), noise.numpy()
        )
    n_parameters = sum(weight.numel() for weight in network.parameters())
    sizes = {"parameters": n_parameters, "prefix": batch.ids.shape[1], "horizon": network.horizon}
    return timed, sizes


def with_graphs(exported: Path, precision: Precision) -> tuple[LoadedPolicy, Graph]:
    """(the policy with the vision tower as a graph, its action step)."""
    policy = load_policy(exported)
    policy.network.vlm.model.visual = VisionGraph(Graph(exported / graph_file(VISION, precision)))
    return policy, Graph(exported / graph_file(ACTION_STEP, precision))


def best_ms(timed: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Of processor time; the first round only warms up."""
    found: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(rounds + 1):
        for name, run in timed.items():
            began = time.process_time()
            run()
            found[name].append(1000 * (time.process_time() - began))
    return {name: float(np.min(times[1:])) for name, times in found.items()}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--horizon", type=int, default=16)
    parser.add_argument("--expert", action="store_true", help="a small expert of 300 M parameters")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        variant = Variant.SMALL_EXPERT if arguments.expert else Variant.SINGLE_STREAM
        source = make(Path(folder), arguments.horizon, variant)
        exported = Path(folder) / "exported"
        export(source, exported)
        timed, sizes = tasks(source, exported)
        ms = best_ms(timed, arguments.rounds)
    for name, value in ms.items():
        print(f"{name:28}{value:9.2f} ms")
    kept = ms["prefix, torch"] + ms["steps, torch"]
    ratios = {
        f"{part}_{precision.value}": round(
            ms[f"{part}, torch"] / ms[f"{part}, onnxruntime {precision.value}"], 2
        )
        for part in ("prefix", "steps")
        for precision in Precision
    }
    print(f"the prefix kept: {ms['recomputed'] / kept:.1f} times as fast as with every step")
    for name, ratio in ratios.items():
        print(f"{name}: onnxruntime {ratio:.1f} times as fast as torch")
    print(
        json.dumps(
            {
                "name": "action_step",
                "ratio": round(ms["recomputed"] / kept, 2),
                "onnxruntime": ratios,
                **sizes,
                "machine": f"{platform.machine()}, 1 thread, torch {torch.__version__}, "
                f"onnxruntime {onnxruntime.__version__}",
                "ms": {name: round(value, 2) for name, value in ms.items()},
            }
        )
    )


if __name__ == "__main__":
    main()
