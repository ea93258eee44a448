"""Demonstrations → a policy that moves: flow matching around a RynnBrain checkpoint.

    python -m training.train training/configs/sim_table_nano.yaml data.sets=[my_set] out=runs/policy
    accelerate launch -m training.train CONFIG [key=value …]        # several GPUs
    torchrun --nproc-per-node 2 -m training.train CONFIG [key=value …]

``out`` gets config.yaml, statistics.json, curve.jsonl, a picture of every evaluation, the newest
``step-NNNNNN`` to go on from, and at the end ``policy-NNNNNN``, which `vla.checkpoint.load_policy`
opens. The same command goes on with a run that was stopped, to the same numbers: what is drawn at
random depends on the seed and the step alone, not on how many processes share the work. (A GPU adds
up in varying order: there, to the same numbers but for rounding.)

Reads from top to bottom: settings, what learns, loss, schedule, evaluation, checkpoints, the loop.
Shapes: B samples, H actions of a chunk, D numbers of an action, S of the state.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import importlib.util
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader

from rynn_brain_ros.config import configure, setting
from rynn_brain_ros.files import flush, remedy, write_whole
from rynn_brain_ros.models.local.checkpoint import inspect
from rynn_brain_ros.values import ConfigError, OutputError, RynnBrainError
from rynn_brain_ros.vla.actions import PartKind, matrix_from_rot6d
from rynn_brain_ros.vla.checkpoint import LoadedPolicy, new_policy, save_policy
from rynn_brain_ros.vla.demonstrations import (
    Collator,
    Demonstrations,
    Key,
    Sample,
    Shown,
    without_brain,
)
from rynn_brain_ros.vla.flow import sample, sample_times, squared_errors
from rynn_brain_ros.vla.network import ChunkNetwork, SingleStream
from rynn_brain_ros.vla.normalization import load_statistics
from rynn_brain_ros.vla.values import ExpertSize, Floats, PolicyError, PolicySpec, Variant
from training.keeping import KeptSeeing
from training.policy_pictures import draw_chunks

STATISTICS, _UNTOLD = "statistics.json", "untold_losses.json"

# --- settings ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DataConfig:
    sets: tuple[str, ...] = setting((), "folders of LeRobot v3.0 data sets of one contract")
    contract: str = setting("", "name or file; empty: the one that the data sets hold")
    target: str = setting(
        "none", "how the brain's point is told", choices=("none", "image", "metres")
    )
    target_frame: str = setting("", "metres: the frame they are told in, the robot's base")
    withhold: float = setting(0.1, "share of samples without the brain's step and point", 0.0, 1.0)
    held_out: float = setting(0.1, "share of episodes to evaluate with", 0.0, 0.9)
    held_out_episodes: tuple[int, ...] = setting((), "these, by number, and not a share of them")
    stride: int = setting(1, "learn from every such frame of an episode", 1, 1000)
    state_noise: float = setting(
        0.0,
        "most noise on the measured state, in its standard deviations: learns to come back",
        0.0,
        1.0,
    )
    learn_padding: bool = setting(False, "learn the last action, repeated past the episode's end")
    stay_after_step: bool = setting(
        False, "learn to stay where the brain's step ends, until it tells the next"
    )
    workers: int = setting(0, "processes that read pictures, for each that trains", 0, 128)
    cache_mib: int = setting(0, "pictures kept in memory by each process that reads", 0, 1 << 20)
    seen_mib: int = setting(
        0, "small_expert: what the backbone saw, kept in memory by each process", 0, 1 << 24
    )


@dataclass(frozen=True)
class PolicyConfig:
    variant: str = setting("small_expert", "", choices=tuple(v.value for v in Variant))
    horizon: int = setting(32, "actions of a chunk", 1, 1000)
    image_size: tuple[int, ...] = setting((224, 320), "height and width that pictures are shown in")
    told_step: bool = setting(True, "the brain's current step is part of the instruction")
    expert_layers: int = setting(6, "small_expert", 1, 100)
    expert_width: int = setting(512, "small_expert", 8, 8192)
    expert_heads: int = setting(8, "small_expert", 1, 128)


@dataclass(frozen=True)
class OptimizerConfig:
    lr: float = setting(3e-4, "of the head", 0.0, 1.0)
    backbone_lr: float = setting(2e-5, "of what learns in the backbone", 0.0, 1.0)
    warmup: int = setting(100, "steps until the rate is reached", 1, 10**6)
    last: float = setting(0.05, "share of the rate at the end of the cosine", 0.0, 1.0)
    weight_decay: float = setting(0.01, "of matrices", 0.0, 10.0)
    clip: float = setting(1.0, "the gradient's largest norm", 0.0, 1e6)
    ema: float = setting(0.999, "of the averaged weights, which are evaluated and kept", 0.0, 1.0)


@dataclass(frozen=True)
class LoraConfig:
    rank: int = setting(16, "of the adapters", 1, 1024)
    alpha: float = setting(32.0, "their scale is alpha / rank", 0.0, 1e6)


@dataclass(frozen=True)
class Config:
    backbone: str = setting("", "checkpoint directory of the vision-language model")
    out: str = setting("runs/policy", "the run's folder")
    backbone_learns: str = setting(
        "nothing", "beside the head", choices=("nothing", "lora", "language", "everything")
    )
    steps: int = setting(20000, "optimizer steps", 1, 10**9)
    batch: int = setting(64, "samples of an optimizer step, over all processes", 1, 10**6)
    accumulate: int = setting(1, "backward passes that a process divides them into", 1, 10**6)
    draws: int = setting(1, "small_expert: times and noises for each sample, seen once", 1, 1024)
    precision: str = setting("fp32", "of the computation", choices=("fp32", "bf16"))
    gradient_checkpointing: bool = setting(False, "single_stream: less memory, more time")
    device: str = setting("", "cpu, cuda; empty: a GPU where there is one")
    seed: int = setting(0, "of everything that is drawn", 0, 2**31)
    log_every: int = setting(20, "steps", 1, 10**9)
    evaluate_every: int = setting(500, "steps", 1, 10**9)
    evaluate_samples: int = setting(64, "held-out chunks", 1, 10**6)
    save_every: int = setting(500, "steps", 1, 10**9)
    wandb: str = setting("", "project at Weights & Biases; empty: none")
    data: DataConfig = setting(DataConfig(), "")  # noqa: RUF009  # frozen
    policy: PolicyConfig = setting(PolicyConfig(), "")  # noqa: RUF009  # frozen
    optimizer: OptimizerConfig = setting(OptimizerConfig(), "")  # noqa: RUF009  # frozen
    lora: LoraConfig = setting(LoraConfig(), "")  # noqa: RUF009  # frozen


_MAY_CHANGE = {
    *("steps", "out", "device", "accumulate", "log_every", "evaluate_every", "evaluate_samples"),
    *("save_every", "wandb", "data.workers", "data.cache_mib"),
}
"""Settings that a run may be gone on with otherwise than it began."""


def read_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """The YAML file, then ``key=value``. Raises `ConfigError`."""
    try:
        told = flat(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
        for override in overrides:
            key, equals, value = override.partition("=")
            if not equals:
                raise ConfigError(f"{override!r} is no setting: write key=value")
            told[key] = yaml.safe_load(value)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} and its overrides cannot be read: {error}") from error
    config: Config = config_of(told)
    return config


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """{"optimizer": {"lr": 1}} → {"optimizer.lr": 1}"""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{prefix or 'the file'} is {values!r}; write settings as key: value")
    found: dict[str, Any] = {}
    for key, value in values.items():
        inner = isinstance(value, Mapping)
        found |= flat(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return found


def config_of(told: Mapping[str, Any], kind: Any = Config, prefix: str = "") -> Any:
    """An instance of ``kind`` of flat settings. Raises `ConfigError` for those that are unknown."""
    if not prefix:
        known = flat(dataclasses.asdict(Config()))
        for key in set(told) - set(known):
            near = [name for name in known if name.rpartition(".")[2] == key.rpartition(".")[2]]
            near += difflib.get_close_matches(key, known, n=1, cutoff=0.0)
            raise ConfigError(f"unknown setting {key!r}: did you mean {near[0]!r}?")
    values: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        key = f"{prefix}{field.name}"
        if dataclasses.is_dataclass(field.default):
            values[field.name] = config_of(told, type(field.default), f"{key}.")
        elif key in told:
            values[field.name] = _as_meant(told[key], type(field.default))
            _check_items(key, values[field.name], kind)
    try:
        return configure(kind, values)
    except ConfigError as error:
        raise ConfigError(f"{prefix}{error}" if prefix else str(error)) from error


def _check_items(key: str, value: Any, kind: type) -> None:
    """What a list holds. Raises `ConfigError`."""
    items = get_args(get_type_hints(kind)[key.rpartition(".")[2]])
    if items and isinstance(value, tuple) and any(type(item) is not items[0] for item in value):
        raise ConfigError(
            f"setting {key!r} is {list(value)}; it must hold values of type {items[0].__name__}"
        )


def _as_meant(value: Any, kind: type) -> Any:
    if kind is tuple and isinstance(value, (list, str)):
        return tuple(value) if isinstance(value, list) else (value,)
    if kind is float and isinstance(value, str):  # YAML 1.1 takes 1e-4 for a word
        with contextlib.suppress(ValueError):
            return float(value)
    return value


# --- one process or several ----------------------------------------------------------------------


class Processes:
    """This one alone, or one of those that ``accelerate launch`` or torchrun started."""

    def __init__(self, device: str) -> None:
        self.n = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = 0
        self.device = chosen_device(device)
        self._accelerator: Any = None
        if self.n > 1:
            _need("accelerate", "several processes", "accelerate")
            from accelerate import (  # noqa: PLC0415
                Accelerator,
                DistributedDataParallelKwargs,
                InitProcessGroupKwargs,
            )

            _refuse_sharding()
            patient = InitProcessGroupKwargs(timeout=_LONGEST_WAIT)
            once = DistributedDataParallelKwargs(gradient_as_bucket_view=True)  # each gradient
            # Left out, the environment would choose the precision, and not `computing`.
            self._accelerator = Accelerator(
                cpu=self.device.type == "cpu", mixed_precision="no", kwargs_handlers=[patient, once]
            )
            self.rank, self.device = self._accelerator.process_index, self._accelerator.device

    def share(self, model: nn.Module) -> nn.Module:
        """The model, with gradients that are averaged over the processes."""
        return self._accelerator.prepare(model) if self._accelerator else model

    def no_sync(self, model: nn.Module) -> contextlib.AbstractContextManager[Any]:
        """Gradients stay in this process until the last backward pass of a step."""
        accelerator = self._accelerator
        return accelerator.no_sync(model) if accelerator else contextlib.nullcontext()

    def total(self, value: Tensor) -> float:
        accelerator = self._accelerator
        return float(accelerator.reduce(value, "sum") if accelerator else value)

    def wait(self) -> None:
        if self._accelerator:
            self._accelerator.wait_for_everyone()

    def end(self) -> None:
        if self._accelerator:
            self._accelerator.end_training()


def _refuse_sharding() -> None:
    """``accelerate launch`` reads what ``accelerate config`` once saved. Of weights that are shared
    out among processes neither the average nor what is kept would be whole."""
    for kind in ("FSDP", "DEEPSPEED", "MEGATRON_LM", "PARALLELISM_CONFIG"):
        if os.environ.get(f"ACCELERATE_USE_{kind}", "").lower() in ("true", "1"):
            raise ConfigError(
                f"accelerate is configured for {kind}, which divides the weights among processes: "
                "every process holds all of them here; launch with --multi_gpu, or with torchrun"
            )


_LONGEST_WAIT = timedelta(hours=4)
"""Of the others while the first computes statistics, evaluates or writes: more than NCCL's ten
minutes."""


def chosen_device(name: str) -> torch.device:
    """Raises `ConfigError` where it is not there."""
    n_gpus = torch.cuda.device_count()
    known = ["cpu", "cuda", *(f"cuda:{i}" for i in range(n_gpus))] if n_gpus else ["cpu"]
    if name and name not in known:
        raise ConfigError(f"device={name} is not there: this torch has {', '.join(known)}")
    return torch.device(name or ("cuda" if n_gpus else "cpu"))


def _need(module: str, what: str, package: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise ConfigError(f"{what} needs {package}: pip install {package}")


# --- what learns ---------------------------------------------------------------------------------


def choose_what_learns(network: ChunkNetwork, config: Config) -> None:
    """The head, and of the backbone what the settings say."""
    learns, text = config.backbone_learns, network.vlm.model.language_model
    single = isinstance(network, SingleStream)
    if not single and (learns != "nothing" or config.gradient_checkpointing):
        raise ConfigError(
            "no gradient reaches the backbone of a small_expert: set backbone_learns=nothing and "
            "gradient_checkpointing=false, or policy.variant=single_stream"
        )
    if single and config.data.seen_mib:
        raise ConfigError("what a single_stream sees changes as it learns: set data.seen_mib=0")
    if single and config.draws > 1:
        raise ConfigError("a single_stream sees everything anew for each draw: set draws=1")
    network.requires_grad_(False)
    for weight in network.head().values():
        weight.requires_grad_(True)
    if config.gradient_checkpointing:
        # transformers 5.23 calls the older one deprecated, 5.10 has no other
        enable = getattr(text, "activation_checkpointing_enable", None)
        (enable or text.gradient_checkpointing_enable)()
    if learns == "everything":
        network.vlm.model.requires_grad_(True)
    elif learns == "language":
        text.requires_grad_(True)
    elif learns == "lora":
        _need("peft", "backbone_learns=lora", "peft")
        from peft import LoraConfig as Adapters  # noqa: PLC0415
        from peft import get_peft_model  # noqa: PLC0415

        adapters = Adapters(
            r=config.lora.rank, lora_alpha=config.lora.alpha, target_modules="all-linear"
        )
        network.vlm.model.language_model = get_peft_model(text, adapters)


def merge_adapters(network: ChunkNetwork) -> None:
    """Adds what adapters learned to the weights beneath, so that an ordinary checkpoint is left."""
    text = network.vlm.model.language_model
    if hasattr(text, "merge_and_unload"):
        network.vlm.model.language_model = text.merge_and_unload()


def parameter_groups(weights: Mapping[str, nn.Parameter], config: OptimizerConfig) -> list[Any]:
    """Head and backbone with their rates; only matrices decay."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, weight in weights.items():
        lr = config.backbone_lr if name.startswith("vlm.") else config.lr
        decay = config.weight_decay if weight.ndim > 1 else 0.0
        groups.setdefault((lr, decay), []).append(weight)
    return [
        {"params": group, "lr": lr, "base_lr": lr, "weight_decay": decay}
        for (lr, decay), group in groups.items()
    ]


class FlowLoss(nn.Module):  # type: ignore[misc]
    """The squared errors of the velocity, summed over what counts."""

    def __init__(self, network: ChunkNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, shown: Shown[Any], t: Tensor, noise: Tensor) -> Tensor:
        """``t`` [B · draws], ``noise`` [B · draws, H, D], a sample's draws in a row → a number.
        See `vla.flow.flow_loss`."""
        draws = len(t) // len(shown.state)
        told = (shown.state, shown.chunk, shown.counts)
        state, chunk, counts = (part.repeat_interleave(draws, 0) for part in told)
        velocity = partial(self.network.velocity_at_once, shown.seen, state)
        return (squared_errors(velocity, chunk, t, noise) * counts).sum()


# --- what is shown at which step -----------------------------------------------------------------


class Plan:
    """Which samples, times and noise each step is made of. Depends on seed and step alone."""

    def __init__(self, config: Config, keys: Sequence[Key], chunk: tuple[int, int]) -> None:
        self._config, self._keys, self._chunk = config, keys, chunk
        self._order = lru_cache(maxsize=2)(self._shuffled)

    def keys(self, step: int) -> list[Key]:
        """Of the whole step, [batch]."""
        n, batch, share = len(self._keys), self._config.batch, self._config.data.withhold
        dice = np.random.default_rng((self._config.seed, 1, step))
        withheld = dice.random(batch) < share
        jitter = dice.integers(1, 2**62, batch) if self._config.data.state_noise else [0] * batch
        places = [divmod(step * batch + i, n) for i in range(batch)]
        keys = [self._keys[self._order(epoch)[place]] for epoch, place in places]
        return [
            dataclasses.replace(key, withheld=bool(without), jitter=int(seed))
            for key, without, seed in zip(keys, withheld, jitter, strict=True)
        ]

    def noise(self, step: int) -> tuple[Tensor, Tensor]:
        """t [batch, draws] and noise [batch, draws, H, D], as `vla.flow.flow_loss` draws them."""
        dice = torch.Generator().manual_seed((self._config.seed << 32) + step)
        batch, draws = self._config.batch, self._config.draws
        times = sample_times(batch * draws, generator=dice).unflatten(0, (batch, draws))
        return times, torch.randn((batch, draws, *self._chunk), generator=dice)

    def shares(self, processes: Processes) -> list[slice]:
        """This process's parts of a step, one for each backward pass."""
        n_passes, batch = self._config.accumulate, self._config.batch
        size, left = divmod(batch, n_passes * processes.n)
        if left:
            raise ConfigError(
                f"batch={batch} cannot be divided into {n_passes} passes (accumulate) of "
                f"{processes.n} processes"
            )
        firsts = [(i * processes.n + processes.rank) * size for i in range(n_passes)]
        return [slice(first, first + size) for first in firsts]

    def _shuffled(self, epoch: int) -> list[int]:
        dice = np.random.default_rng((self._config.seed, 0, epoch))
        return [int(i) for i in dice.permutation(len(self._keys))]


def rate(step: int, config: Config) -> float:
    """What learning rates are multiplied by: a warm-up, then half a cosine."""
    fallen = 0.5 * (1 + math.cos(math.pi * min(1.0, step / config.steps)))
    last = config.optimizer.last
    return min(1.0, (step + 1) / config.optimizer.warmup) * (last + (1 - last) * fallen)


# --- evaluation ----------------------------------------------------------------------------------


def evaluate(
    policy: LoadedPolicy, data: Demonstrations, keys: Sequence[Key], config: Config, picture: Path
) -> dict[str, float]:
    """Where sampled chunks end: median error of the last action, with the brain's step and point,
    with both ``withheld``, and of standing ``still``; of several arms the worse one's. A low loss
    would be no evidence."""
    network, statistics = policy.network.eval(), policy.statistics
    space, names = statistics.provenance.action_space, statistics.provenance.state_names
    dice = torch.Generator().manual_seed(config.seed)
    noise = torch.randn((len(keys), network.horizon, network.n_dims), generator=dice)
    samples = [data[key] for key in keys]
    states = np.stack([each.observation.state for each in samples])  # [n, S]
    true = np.stack([each.actions for each in samples])  # [n, H, D]
    without = [data.without_pictures(dataclasses.replace(key, withheld=True)) for key in keys]
    # Who is not told where the step ends goes on behind it.
    true_untold = np.stack([each.actions for each in without])
    n_real = [data.demonstrations[k.episode].n_real(k.row, network.horizon) for k in keys]

    def predicted(asked: Sequence[Sample]) -> Floats:
        """[n, H, D]"""
        collate, made = Collator(policy.reader, statistics), []
        for first in range(0, len(keys), size := max(1, config.batch // config.accumulate)):
            part = slice(first, first + size)
            shown = collate(asked[part]).to(network.vlm.device)
            start = noise[part].to(network.vlm.device)
            prefix = network.prefix(shown.seen)
            made.append(sample(network, prefix, shown.state, start).double().cpu().numpy())
        return statistics.chunk_out(np.concatenate(made), states)

    with torch.no_grad(), computing(config, network.vlm.device):
        told, withheld = predicted(samples), predicted([without_brain(each) for each in samples])
    measured = np.array([name in names for name in space.names])
    columns = [names.index(name) if name in names else 0 for name in space.names]
    stays = np.where(measured, states[:, columns], true[:, 0])
    stays = np.where(space.is_part(PartKind.DELTA), 0.0, stays)  # [n, D]
    still = stays[:, None].repeat(true.shape[1], 1)

    draw_chunks(picture, true, told, withheld, n_real=n_real, space=space)
    last, scores = (np.arange(len(keys)), np.array(n_real) - 1), dict[str, float]()
    judged = (("told", told, true), ("withheld", withheld, true_untold), ("still", still, true))
    for name, made, wanted in judged:
        for part, (kind, at) in zip(space.parts, space.slices, strict=True):
            errors = distance(kind, made[last][:, at], wanted[last][:, at])
            told_as = f"{_UNIT.get(kind, f'delta_{part.units}')}/{name}"
            scores[told_as] = max(scores.get(told_as, 0.0), float(np.median(errors)))
    return scores


_UNIT = {
    PartKind.JOINTS: "joints_rad",
    PartKind.POSITION: "position_m",
    PartKind.ROT6D: "rotation_deg",
    PartKind.GRIPPER: "gripper",
}


def distance(kind: PartKind, made: Floats, true: Floats) -> Floats:
    """[n, numbers of the part] each → [n]: the largest joint's, the straight line, the angle."""
    if kind == PartKind.ROT6D:
        turn = np.swapaxes(matrix_from_rot6d(made), 1, 2) @ matrix_from_rot6d(true)  # [n, 3, 3]
        cosine = (np.trace(turn, axis1=1, axis2=2) - 1) / 2
        return np.asarray(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
    apart = made - true
    return np.asarray(
        np.linalg.norm(apart, axis=1) if kind == PartKind.POSITION else np.abs(apart).max(axis=1)
    )


def computing(config: Config, device: torch.device) -> Any:
    return torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")


# --- checkpoints and curves ----------------------------------------------------------------------


def save_state(
    out: Path,
    step: int,
    state: Mapping[str, Mapping[str, Tensor]],
    optimizer: Any,
    untold: Sequence[float] = (),
) -> None:
    """``step-NNNNNN``, whole or not at all; older ones go when it is there. ``untold``: the losses
    since the last line of the curve. Raises `PolicyError` for numbers that are not finite, and
    `OutputError`."""
    for name, tensors in state.items():
        for key, tensor in tensors.items():
            if not torch.isfinite(tensor).all():
                raise PolicyError(
                    f"{name}/{key} is not finite at step {step}: lower optimizer.lr and go on from "
                    f"{kept_step(out) or 'the beginning'}"
                )
    target, partial = out / f"step-{step:06d}", out / f".step-{step:06d}.partial"
    try:
        for unfinished in out.glob(".step-*.partial"):
            shutil.rmtree(unfinished)
        partial.mkdir()
        for name, tensors in state.items():
            held = {key: tensor.detach().contiguous() for key, tensor in tensors.items()}
            save_file(held, partial / f"{name}.safetensors")
        torch.save(optimizer.state_dict(), partial / "optimizer.pt")
        (partial / _UNTOLD).write_text(json.dumps(list(untold)), encoding="utf-8")
        flush(*partial.iterdir(), partial)
        partial.replace(target)
        flush(out)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        advice = remedy(error) if isinstance(error, OSError) else "free some disk space"
        raise OutputError(f"cannot write {target}: {error}; {advice}") from error
    for old in set(out.glob("step-*")) - {target}:
        shutil.rmtree(old)


def load_state(
    out: Path, state: Mapping[str, Mapping[str, Tensor]], optimizer: Any
) -> tuple[int, list[float]]:
    """The step to go on from, and the losses that no line of the curve has told; 0 and none where
    nothing was kept."""
    path = kept_step(out)
    if path is None:
        return 0, []
    for name, tensors in state.items():
        kept = load_file(path / f"{name}.safetensors")
        if kept.keys() != tensors.keys():
            raise PolicyError(f"{path} is of another network: choose another out")
        for key, tensor in tensors.items():
            tensor.detach().copy_(kept[key])
    moments = _moments(
        path / "optimizer.pt", on_gpu=any(w.is_cuda for w in state["weights"].values())
    )
    optimizer.load_state_dict(moments)  # onto each weight's own device
    untold = path / _UNTOLD  # an older version wrote none
    return _step_of(path), json.loads(untold.read_text()) if untold.exists() else []


def _moments(path: Path, on_gpu: bool) -> Any:
    """An optimizer's state. Every process of a machine reads it: those with GPUs share one copy in
    memory meanwhile. Nothing of the file is held on to, for it goes with the next step."""
    moments = torch.load(path, map_location="cpu", weights_only=True, mmap=on_gpu)
    for of_weight in moments["state"].values():  # what counts the steps may stay where it is
        of_weight["step"] = of_weight["step"].clone()
    return moments


def kept_step(out: Path) -> Path | None:
    """The newest ``step-NNNNNN``."""
    return max(out.glob("step-*"), key=_step_of, default=None)


def _step_of(path: Path) -> int:
    return int(path.name.rpartition("-")[2])


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"out={out} cannot be made: {error.strerror}; name a folder") from error


def claim(out: Path, config: Config, n_frames: int) -> None:
    """The folder is this run's, from now on or, with a step in it, already. Raises
    `ConfigError`."""
    told = {**dataclasses.asdict(config), "n_frames": n_frames}
    path, now = out / "config.yaml", flat(json.loads(json.dumps(told)))
    if kept_step(out):
        default = flat(json.loads(json.dumps(dataclasses.asdict(Config()))))
        then = default | flat(yaml.safe_load(path.read_text(encoding="utf-8")))
        other = [k for k in now if k not in _MAY_CHANGE and then[k] != now[k]]
        if other:
            raise ConfigError(
                f"{out} was begun with {', '.join(f'{k}={then[k]}' for k in other)}, not "
                f"{', '.join(f'{k}={now[k]}' for k in other)}: choose another out"
            )
    elif any(out.glob("policy-*")):
        raise ConfigError(f"{out} holds the policy of an earlier run: choose another out")
    write_whole(path, yaml.safe_dump(json.loads(json.dumps(told)), sort_keys=False).encode())


@contextlib.contextmanager
def averaged(weights: Mapping[str, nn.Parameter], average: Mapping[str, Tensor]) -> Iterator[None]:
    """The averaged weights in place of the newest."""
    newest = {name: weight.data for name, weight in weights.items()}
    for name, weight in weights.items():
        weight.data = average[name]
    try:
        yield
    finally:
        for name, weight in weights.items():
            weight.data = newest[name]


@contextlib.contextmanager
def stored_as(backbone: nn.Module, dtype: torch.dtype | None) -> Iterator[None]:
    """What it holds in 32 bits, in ``dtype``; None: as it is."""
    wide = [weight for weight in backbone.parameters() if dtype and weight.dtype is torch.float32]
    held = [weight.data for weight in wide]
    for weight in wide:
        weight.data = weight.data.to(dtype)
    try:
        yield
    finally:
        for weight, data in zip(wide, held, strict=True):
            weight.data = data


def backbone_dtype(config: Config) -> torch.dtype | None:
    """Of a policy's file: 32 bits are for what learns and for computing, and take twice the disk,
    and of the memory of whoever serves it."""
    if config.backbone_learns == "nothing":
        return _OF_16_BITS.get(inspect(Path(config.backbone)).dtype)
    return torch.bfloat16 if config.precision == "bf16" else None


_OF_16_BITS = {"BF16": torch.bfloat16, "F16": torch.float16}


class Curves:
    """Lines for people, curve.jsonl, TensorBoard where it is installed, W&B where it is wanted.
    What was told of steps behind ``first``, which a run that goes on there takes again, is
    forgotten."""

    def __init__(self, out: Path, wandb_project: str, first: int = 0) -> None:
        self._file, self._board, self._wandb = out / "curve.jsonl", None, None
        if self._file.exists():
            told = self._file.read_text(encoding="utf-8").splitlines(keepends=True)
            write_whole(self._file, "".join(_up_to(told, first)).encode())
        if wandb_project:
            _need("wandb", f"wandb={wandb_project}", "wandb")
            import wandb  # noqa: PLC0415

            self._wandb = wandb.init(project=wandb_project, dir=str(out), name=out.name)
        if importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415

            self._board = SummaryWriter(str(out / "tensorboard"))

    def add(self, step: int, scores: Mapping[str, float], line: str) -> None:
        print(line, flush=True)
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **scores}) + "\n")
        if self._board is not None:
            for name, value in scores.items():
                self._board.add_scalar(name, value, step)
            self._board.flush()
        if self._wandb is not None:
            self._wandb.log(dict(scores), step=step)


def _up_to(lines: Sequence[str], last: int) -> Iterator[str]:
    """Those of steps up to ``last``; a process that died may have left half of one."""
    for line in lines:
        if line.endswith("\n") and json.loads(line)["step"] <= last:
            yield line


# --- the run -------------------------------------------------------------------------------------


def open_data(config: Config) -> Demonstrations:
    data, policy = config.data, config.policy
    if len(policy.image_size) != 2:
        raise ConfigError(f"policy.image_size is {policy.image_size}; give [height, width]")
    return Demonstrations(
        [Path(root) for root in data.sets],
        policy.horizon,
        (policy.image_size[0], policy.image_size[1]),
        contract=data.contract,
        target=data.target,
        target_frame=data.target_frame,
        learn_padding=data.learn_padding,
        stay_after_step=data.stay_after_step,
        cache_mib=data.cache_mib,
    )


def new_network(config: Config, data: Demonstrations, device: torch.device) -> LoadedPolicy:
    """An untrained policy for what the data sets hold."""
    told, policy = data.provenance, config.policy
    spec = PolicySpec(
        Variant(policy.variant),
        policy.horizon,
        told.action_space.size,
        len(told.state_names),
        told.cameras,
        (policy.image_size[0], policy.image_size[1]),
        data.aim.n,
        policy.told_step,
        ExpertSize(policy.expert_layers, policy.expert_width, policy.expert_heads),
    )
    statistics = load_statistics(Path(config.out) / STATISTICS, told)
    as_stored = config.precision == "bf16" and config.backbone_learns in ("nothing", "lora")
    dtype = "" if as_stored else "F32"  # what learns is kept in 32 bits
    torch.manual_seed(config.seed)
    backbone = Path(config.backbone)
    return new_policy(backbone, spec, statistics, device=str(device), dtype=dtype)


class Run:
    """Everything that is set up before the first step, and one step after the other."""

    def __init__(self, config: Config) -> None:
        if not config.backbone:
            raise ConfigError("backbone=FOLDER: name a checkpoint of the vision-language model")
        self.config, self.out = config, Path(config.out)
        self.processes = Processes(config.device)
        self.data = open_data(config)
        self.learned, self.held_out = self.data.division(
            config.data.held_out, config.seed, config.data.held_out_episodes
        )
        self.learned = [key for key in self.learned if not key.row % config.data.stride]
        every = max(1, len(self.held_out) // config.evaluate_samples)
        self.judged = self.held_out[::every][: config.evaluate_samples]
        if self.first_process:
            _make_folder(self.out)
            claim(self.out, config, len(self.learned) + len(self.held_out))
            if not kept_step(self.out):
                self.data.statistics(self.learned).save(self.out / STATISTICS)
        self.processes.wait()

        self.policy = new_network(config, self.data, self.processes.device)
        network = self.policy.network
        choose_what_learns(network, config)
        self.weights = {name: w for name, w in network.named_parameters() if w.requires_grad}
        self.average = {name: w.detach().clone() for name, w in self.weights.items()}
        groups = parameter_groups(self.weights, config.optimizer)
        on_gpu = self.processes.device.type == "cuda"
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), fused=on_gpu or None)
        self.first, self.untold = load_state(self.out, self._state(), self.optimizer)
        if self.first > config.steps:
            raise ConfigError(f"{self.out} is at step {self.first}, behind steps={config.steps}")
        self.model = self.processes.share(FlowLoss(network))
        self.plan = Plan(config, self.learned, (network.horizon, network.n_dims))
        self.shares = self.plan.shares(self.processes)

    @property
    def first_process(self) -> bool:
        """That writes and tells."""
        return self.processes.rank == 0

    def train(self, until: int | None = None) -> Path | None:
        """The policy's folder. ``until``: stops behind that step as if it was killed there."""
        config, end = self.config, self.config.steps if until is None else until
        curves = Curves(self.out, config.wandb, self.first) if self.first_process else None
        if curves:
            self._introduce()
        batches, stopwatch = self.batches(end), Stopwatch(config, self.untold)
        for step in range(self.first, end):
            loss, norm = self._step(step, batches, stopwatch)
            done = step + 1
            stopwatch.add(self.processes.total(loss))
            if _is_due(done, config.log_every, config):
                scores = stopwatch.scores()
                scores |= {"gradient": norm, "lr": config.optimizer.lr * rate(step, config)}
                if curves:
                    curves.add(done, scores, _progress(done, config, scores))
            if curves and self.judged and _is_due(done, config.evaluate_every, config):
                with averaged(self.weights, self.average):
                    picture = self.out / f"chunks-{done:06d}.png"
                    verdict = evaluate(self.policy, self.data, self.judged, config, picture)
                curves.add(done, verdict, _verdict(verdict, len(self.judged)))
            if curves and _is_due(done, config.save_every, config):
                save_state(self.out, done, self._state(), self.optimizer, stopwatch.losses)
        self.processes.end()
        return self._policy() if curves and end == config.steps else None

    def _step(
        self, step: int, batches: Iterator[Shown[Any]], stopwatch: Stopwatch
    ) -> tuple[Tensor, float]:
        """This process's share of the loss, and the gradient's norm."""
        processes, device = self.processes, self.processes.device
        times, noise = self.plan.noise(step)  # [batch, draws], [batch, draws, H, D]
        n_counting = sum(map(self.data.n_counting, self.plan.keys(step))) * noise.shape[-1]
        n_counting *= self.config.draws
        loss = torch.zeros((), device=device)
        self.policy.network.train(self.config.gradient_checkpointing)
        for part in self.shares:
            with stopwatch.waiting():
                shown = next(batches).to(device)
            t, start = (drawn[part].flatten(0, 1).to(device) for drawn in (times, noise))
            last = part == self.shares[-1]
            with contextlib.nullcontext() if last else processes.no_sync(self.model):
                with computing(self.config, device):
                    errors = self.model(shown, t, start) / n_counting
                (errors * processes.n).backward()  # they are averaged, and shall be summed
            loss += errors.detach()
        optimizer, settings = self.optimizer, self.config.optimizer
        norm = nn.utils.clip_grad_norm_(list(self.weights.values()), settings.clip)
        if not torch.isfinite(norm):
            raise PolicyError(f"the gradient of step {step + 1} is {float(norm)}: {_DIVERGED}")
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * rate(step, self.config)
        optimizer.step()
        # Given back, gradients would be made anew beside the room that processes share them in.
        optimizer.zero_grad(set_to_none=processes.n == 1)
        decay = min(settings.ema, (1 + step) / (10 + step))  # forgets the beginning sooner
        for name, weight in self.weights.items():
            self.average[name].lerp_(weight.detach(), 1 - decay)
        return loss, float(norm)

    def batches(self, end: int) -> Iterator[Shown[Any]]:
        """This process's, one for each backward pass of the steps up to ``end``."""
        data = self.config.data
        steps = (self.plan.keys(step) for step in range(self.first, end))
        batches = (keys[part] for keys in steps for part in self.shares)
        collate = Collator(self.policy.reader, self.policy.statistics, data.state_noise)
        if data.seen_mib:
            kept = KeptSeeing(self.policy.network, self.data, collate, data.seen_mib)
            return map(kept.shown, batches)
        loader = DataLoader(
            self.data,
            batch_sampler=batches,
            collate_fn=collate,
            num_workers=data.workers,
            multiprocessing_context="spawn" if data.workers else None,
        )
        return iter(loader)

    def _state(self) -> dict[str, Mapping[str, Tensor]]:
        return {"weights": self.weights, "average": self.average}

    def _policy(self) -> Path:
        made = self.out / f"policy-{self.config.steps:06d}"
        for unfinished in self.out.glob(".policy-*.partial"):  # of a process that was killed
            shutil.rmtree(unfinished)
        if not made.exists():
            with averaged(self.weights, self.average):
                merge_adapters(self.policy.network)
                with stored_as(self.policy.network.vlm, backbone_dtype(self.config)):
                    save_policy(self.policy, Path(self.config.backbone), made)
        return made

    def _introduce(self) -> None:
        data, n_held_out = self.data, len(self.held_out)
        n_weights = sum(weight.numel() for weight in self.weights.values())
        print(
            f"{len(data.demonstrations)} episodes of {data.provenance.contract}, "
            f"{len(self.learned)} frames to learn from and {n_held_out} held out; the target point "
            f"is known in {data.share_aimed:.0%}; {n_weights:,} weights learn"
            + ("" if n_held_out else "; nothing is held out, so nothing is evaluated")
            + (f"; going on behind step {self.first}" if self.first else ""),
            flush=True,
        )


# --- what a person reads -------------------------------------------------------------------------


def _is_due(done: int, every: int, config: Config) -> bool:
    return done % every == 0 or done == config.steps


_DIVERGED = "lower optimizer.lr; what was kept is finite, and from before"


class Stopwatch:
    """What the steps since the last look cost, and their ``losses``; ``untold`` ones are of an
    earlier process."""

    def __init__(self, config: Config, untold: Sequence[float] = ()) -> None:
        self._batch = config.batch
        self._reset()
        self.losses.extend(untold)

    def add(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise PolicyError(f"the loss is {loss}: {_DIVERGED}")
        self.losses.append(loss)
        self._n += 1

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """For data."""
        began = time.monotonic()
        yield
        self._waited += time.monotonic() - began

    def scores(self) -> dict[str, float]:
        seconds = time.monotonic() - self._began
        found = {
            "loss": sum(self.losses) / len(self.losses),
            "samples_per_s": self._n * self._batch / seconds,
            "waited_for_data": self._waited / seconds,
        }
        self._reset()
        return found

    def _reset(self) -> None:
        self._began, self._waited, self._n = time.monotonic(), 0.0, 0
        self.losses: list[float] = []


def _progress(done: int, config: Config, scores: Mapping[str, float]) -> str:
    left = round((config.steps - done) * config.batch / scores["samples_per_s"])
    return (
        f"step {done}/{config.steps}  loss {scores['loss']:.4f}  gradient {scores['gradient']:.2f}"
        f"  lr {scores['lr']:.1e}  {scores['samples_per_s']:.1f} samples/s "
        f"({scores['waited_for_data']:.0%} waiting for data)"
        f"  ETA {left // 3600}:{left // 60 % 60:02d}:{left % 60:02d}"
    )


def _verdict(scores: Mapping[str, float], n: int) -> str:
    lines = [f"  where {n} held-out chunks end, median error:"]
    for unit in dict.fromkeys(name.partition("/")[0] for name in scores):
        told, withheld, still = (scores[f"{unit}/{n}"] for n in ("told", "withheld", "still"))
        lines.append(
            f"    {unit:13} {told:.4f}   step and point withheld {withheld:.4f}   "
            f"standing still {still:.4f}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    told = list(sys.argv[1:] if arguments is None else arguments)
    if not told or told[0].startswith("-"):
        raise SystemExit(__doc__)
    try:
        made = Run(read_config(Path(told[0]), told[1:])).train()
    except RynnBrainError as error:
        raise SystemExit(f"error: {error}") from error
    if made:
        print(made)


if __name__ == "__main__":
    main()
