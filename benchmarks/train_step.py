"""What a step of the policy's training costs, and what it is made of.

    python benchmarks/train_step.py [--rounds 5] [--batch 16]

Needs ``pip install '.[model,training]'``. RynnBrain-nano as the backbone, two cameras
of 208 x 160 pixels, chunks of 16, a small expert of five layers of width 192; forward, backward and
AdamW of one batch that is in memory. One thread; seconds of processor time,
the best of some rounds, so that whoever else uses the machine does not count.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "test" / "vla")]
import tiny_policies  # noqa: E402  # demonstrations are made where the tests make them

import rynn_brain_ros  # noqa: E402
from rynn_brain_ros.vla import ExpertSize, PolicySpec, Variant  # noqa: E402
from rynn_brain_ros.vla.checkpoint import new_policy  # noqa: E402
from rynn_brain_ros.vla.demonstrations import Shown  # noqa: E402
from rynn_brain_ros.vla.expert import SmallExpert  # noqa: E402
from rynn_brain_ros.vla.flow import sample_times  # noqa: E402
from training.train import Config, FlowLoss, choose_what_learns, config_of  # noqa: E402

NANO = Path(rynn_brain_ros.__file__).parent / "models/nano/RynnBrain-nano"
HORIZON, SIZE, EXPERT = 16, (160, 208), ExpertSize(5, 192, 6)
SEEN_BEFORE = "small_expert, 8 draws, seen before"
WAYS = {
    "small_expert": {},
    "small_expert, 8 draws": {"draws": 8},
    SEEN_BEFORE: {"draws": 8},
    "single_stream": {"policy.variant": "single_stream"},
    "single_stream, language learns": {
        "policy.variant": "single_stream",
        "backbone_learns": "language",
    },
    "the same, checkpointed": {
        "policy.variant": "single_stream",
        "backbone_learns": "language",
        "gradient_checkpointing": True,
    },
}


def step(config: Config, batch: int, *, seen_before: bool) -> tuple[Callable[[], None], int]:
    """(one step, how many weights it learns)."""
    variant = Variant(config.policy.variant)
    spec = PolicySpec(variant, HORIZON, 4, 4, tiny_policies.CAMERAS, SIZE, 3, expert=EXPERT)
    torch.manual_seed(0)
    policy = new_policy(NANO, spec, tiny_policies.statistics(HORIZON), dtype="F32")
    network = policy.network
    choose_what_learns(network, config)
    network.train(config.gradient_checkpointing)
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    optimizer, loss = torch.optim.AdamW(weights), FlowLoss(network)

    target = (0.5, 0.0, 0.1)
    seen = [tiny_policies.observation(i, step="Pick it up.", target=target) for i in range(batch)]
    chunk = torch.randn(batch, HORIZON, spec.n_dims)
    shown = Shown(
        policy.reader.batch(seen), policy.reader.states(seen), chunk, chunk[..., :1] * 0 + 1
    )
    if seen_before:
        assert isinstance(network, SmallExpert)
        shown = Shown(network.see(shown.seen), shown.state, shown.chunk, shown.counts)
    t, noise = sample_times(batch * config.draws), torch.randn(batch * config.draws, HORIZON, 4)

    def run() -> None:
        (loss(shown, t, noise) / noise.numel()).backward()
        optimizer.step()
        optimizer.zero_grad()

    return run, sum(weight.numel() for weight in weights)


def best_ms(runs: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Of processor time; the first round only warms up."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            began = time.process_time()
            run()
            found[name].append(1000 * (time.process_time() - began))
    return {name: min(times[1:]) for name, times in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=16)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    made = {
        name: step(config_of(told), arguments.batch, seen_before=name == SEEN_BEFORE)
        for name, told in WAYS.items()
    }
    ms = best_ms({name: run for name, (run, _) in made.items()}, arguments.rounds)
    for name, value in ms.items():
        print(f"{name:36}{value:9.0f} ms   {made[name][1]:>9,} weights learn")
    draws, kept = "small_expert, 8 draws", SEEN_BEFORE
    ratio = {
        "eight draws over one": ms[draws] / ms["small_expert"],
        "seen anew over seen before": ms[draws] / ms[kept],
        "checkpointed over not": ms["the same, checkpointed"]
        / ms["single_stream, language learns"],
    }
    for name, value in ratio.items():
        print(f"{name}: {value:.1f} times")
    print(
        json.dumps(
            {
                "name": "train_step",
                "ratio": {name: round(value, 2) for name, value in ratio.items()},
                "batch": arguments.batch,
                "horizon": HORIZON,
                "image_size": SIZE,
                "machine": f"{platform.machine()}, 1 thread, torch {torch.__version__}",
            }
        )
    )


if __name__ == "__main__":
    main()
