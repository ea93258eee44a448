"""What a policy learns from a few real episodes, measured on those that it has not seen.

    python -m training.bridge FILE --out runs/bridge [key=value …]

FILE holds episodes of BridgeData V2 (RLDS). It is imported; then every episode is judged once, by a
policy that was trained without it (cross-validation); last, a larger one learns two episodes by
heart, which shows that nothing stands in its way. ``key=value`` are settings of `training.train`.

The **error** is the mean absolute difference between a predicted chunk and what was done, each
number in units of its standard deviation over the frames that were learned from. What lies past an
episode's end does not count. Predicted is the mean of `N_SAMPLES` sampled chunks; ``one sample`` is
what a robot would be sent. A policy sees one picture, the state and the instruction; no earlier
action is told.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rynn_brain_ros.data import Dataset
from rynn_brain_ros.data.importing import import_bridge
from rynn_brain_ros.files import write_whole
from rynn_brain_ros.values import RynnBrainError
from rynn_brain_ros.vla.checkpoint import LoadedPolicy, load_policy
from rynn_brain_ros.vla.demonstrations import Collator, Demonstrations, Sample, Shown
from rynn_brain_ros.vla.flow import sample
from rynn_brain_ros.vla.network import Batch
from rynn_brain_ros.vla.values import Floats, PolicyError
from training.train import Config, Run, read_config

N_FOLDS = 5
N_CHOSEN_WITH = 2
"""Of the folds: the settings of bridge_nano.yaml were chosen by the error on these two, learning
from the others. What the other three (``fresh``) say was not looked at until then."""
N_SAMPLES = 16
CONFIG = Path(__file__).parent / "configs" / "bridge_nano.yaml"
BY_HEART = (
    *("steps=600", "batch=10", "draws=16", "log_every=100", "evaluate_samples=1"),
    *("policy.expert_layers=2", "optimizer.lr=4e-3", "optimizer.weight_decay=0"),
)

Errors = Mapping[str, Floats]
"""[actions that count, numbers of an action] by who predicted."""


@dataclass(frozen=True)
class Judged:
    """An episode, by a policy that has not seen it."""

    episode: int
    fold: int
    errors: Errors


# --- one policy ----------------------------------------------------------------------------------


def learned(config: Config, root: Path, out: Path, held_out: Sequence[int]) -> Run:
    """Trained to its end without these episodes."""
    data = replace(config.data, sets=(str(root),), held_out_episodes=tuple(held_out))
    run = Run(replace(config, out=str(out), data=data))
    run.train()
    return run


def trained_policy(run: Run) -> LoadedPolicy:
    """As anyone loads it."""
    made = Path(run.config.out) / f"policy-{run.config.steps:06d}"
    return load_policy(made, run.data.provenance, device=run.config.device)


def sampled(policy: LoadedPolicy, shown: Shown[Batch]) -> Tensor:
    """Normalized chunks [B, N_SAMPLES, H, D]."""
    network = policy.network
    dice = torch.Generator().manual_seed(0)
    noise = torch.randn((N_SAMPLES * len(shown.chunk), *shown.chunk.shape[1:]), generator=dice)
    with torch.no_grad():
        prefix = network.prefix(shown.seen).repeated(N_SAMPLES)
        state = shown.state.repeat_interleave(N_SAMPLES, 0)
        chunks: Tensor = sample(network, prefix, state, noise.to(state.device))
    return chunks.unflatten(0, (-1, N_SAMPLES))


def counting(shown: Shown[Batch], values: Tensor) -> Floats:
    """Of [B, H, D] the actions that count, [n, D]."""
    return np.asarray(values[shown.counts[..., 0] > 0].double().cpu())


# --- every episode once --------------------------------------------------------------------------


def folds(n_episodes: int) -> list[list[int]]:
    """Which episodes are held out together: the same for every seed of the training."""
    if n_episodes < 2 * N_FOLDS:
        raise PolicyError(f"{n_episodes} episodes: {2 * N_FOLDS} are the least to divide")
    order = np.random.default_rng(0).permutation(n_episodes).tolist()
    return [sorted(order[i::N_FOLDS]) for i in range(N_FOLDS)]


def judged(run: Run, fold: int) -> Iterator[Judged]:
    """The held-out episodes: by the policy, by one of its samples alone, by the policy with
    pictures of the episode before, and by the mean and the median of what was learned from."""
    policy = trained_policy(run)
    collate, device = Collator(policy.reader, policy.statistics), policy.network.vlm.device
    known = collate([run.data[key] for key in run.learned])
    median = torch.from_numpy(np.median(counting(known, known.chunk), axis=0)).float()
    held_out = sorted({key.episode for key in run.held_out})
    for episode, before in zip(held_out, [held_out[-1], *held_out[:-1]], strict=True):
        samples = episode_samples(run, episode)
        shown = collate(samples).to(device)
        elsewhere = collate(with_pictures(samples, episode_samples(run, before))).to(device)
        chunks = sampled(policy, shown)
        made = {
            "policy": chunks.mean(1),
            "one sample": chunks[:, 0],
            "other pictures": sampled(policy, elsewhere).mean(1),
            "mean": torch.zeros_like(shown.chunk),
            "median": median.to(device).expand_as(shown.chunk),
        }
        errors = {name: counting(shown, (m - shown.chunk).abs()) for name, m in made.items()}
        yield Judged(episode, fold, errors)


def episode_samples(run: Run, episode: int) -> list[Sample]:
    return [run.data[key] for key in (*run.learned, *run.held_out) if key.episode == episode]


def with_pictures(samples: Sequence[Sample], others: Sequence[Sample]) -> list[Sample]:
    """Row by row; past the end of ``others`` their last."""
    images = [others[min(row, len(others) - 1)].observation.images for row in range(len(samples))]
    return [
        replace(each, observation=replace(each.observation, images=image))
        for each, image in zip(samples, images, strict=True)
    ]


# --- by heart ------------------------------------------------------------------------------------


def by_heart(config: Config, root: Path, out: Path, n: int = 2) -> dict[str, float]:
    """The errors on the first ``n`` episodes of a policy that has seen nothing else, and of their
    mean."""
    run = learned(config, root, out, range(n, len(Dataset(root).episodes)))
    policy = trained_policy(run)
    shown = Collator(policy.reader, policy.statistics)([run.data[key] for key in run.learned])
    shown = shown.to(policy.network.vlm.device)
    apart = {"policy": sampled(policy, shown).mean(1) - shown.chunk, "mean": shown.chunk}
    return {name: float(counting(shown, each.abs()).mean()) for name, each in apart.items()}


# --- the report ----------------------------------------------------------------------------------


def report(data: Demonstrations, episodes: Sequence[Judged]) -> dict[str, Any]:
    """For JSON. How large the set is stands first."""
    n_frames = sum(len(each.states) for each in data.demonstrations)
    names, fresh = episodes[0].errors, [each for each in episodes if each.fold >= N_CHOSEN_WITH]
    better = [e.errors["policy"].mean() < e.errors["mean"].mean() for e in episodes]
    return {
        "episodes": len(data.demonstrations),
        "frames": n_frames,
        "seconds": n_frames / data.contract.fps,
        "instructions": sorted({task for each in data.demonstrations for task in each.tasks}),
        "chunk": data.horizon,
        "numbers": list(data.provenance.action_space.names),
        "error": {name: error(episodes, name).tolist() for name in names},
        "error_all": {name: float(error(episodes, name).mean()) for name in names},
        "error_fresh": {name: float(error(fresh, name).mean()) for name in names},
        "better_than_mean": sum(map(bool, better)),
    }


def error(episodes: Sequence[Judged], name: str) -> Floats:
    """Of each number, [D], over all actions of these episodes."""
    return np.asarray(np.concatenate([each.errors[name] for each in episodes]).mean(axis=0))


def table(told: Mapping[str, Any]) -> str:
    numbers = told["numbers"]
    lines = [
        f"{told['episodes']} episodes, {told['frames']} frames, {told['seconds']:.0f} s of one "
        f"robot, {len(told['instructions'])} instructions: far too few for a policy that works",
        f"{'held-out error':16}{'all':>7}{'fresh':>7}" + "".join(f"{n:>9}" for n in numbers),
    ]
    for name, each in told["error"].items():
        whole = f"{told['error_all'][name]:7.3f}{told['error_fresh'][name]:7.3f}"
        lines.append(f"{name:16}{whole}" + "".join(f"{value:9.3f}" for value in each))
    lines.append(f"better than the mean in {told['better_than_mean']} of {told['episodes']}")
    return "\n".join(lines)


def measure(file: Path, out: Path, settings: Sequence[str]) -> dict[str, Any]:
    """Everything; what was finished before is not done again. Raises `RynnBrainError`."""
    began, root = time.monotonic(), out / "set"
    if not root.exists():
        partial = out / ".set.partial"
        shutil.rmtree(partial, ignore_errors=True)
        import_bridge([file], partial)
        partial.rename(root)
    config, episodes = read_config(CONFIG, settings), list[Judged]()
    for fold, held_out in enumerate(folds(len(Dataset(root).episodes))):
        run = learned(config, root, out / f"fold-{fold}", held_out)
        episodes += judged(run, fold)
    told = report(run.data, episodes)
    heart = read_config(CONFIG, [*settings, *BY_HEART])
    told["error_by_heart"] = by_heart(heart, root, out / "by-heart")
    told["minutes"] = (time.monotonic() - began) / 60
    write_whole(out / "report.json", (json.dumps(told, indent=1) + "\n").encode())
    return told


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("settings", nargs="*", metavar="key=value")
    parser.add_argument("--out", type=Path, default=Path("runs/bridge"))
    options = parser.parse_intermixed_args(arguments)  # settings may stand behind --out
    try:
        told = measure(options.file, options.out, options.settings)
    except RynnBrainError as error_told:
        raise SystemExit(f"error: {error_told}") from error_told
    print(table(told))
    heart, mean = (told["error_by_heart"][name] for name in ("policy", "mean"))
    print(f"two episodes by heart: {heart:.3f} (their mean {mean:.3f})")
    print(f"{told['minutes']:.1f} minutes this time; all of it in {options.out / 'report.json'}")


if __name__ == "__main__":
    main()
