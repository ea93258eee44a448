"""A policy's directory: its backbone, its head and all that its numbers mean.

    backbone/          an ordinary checkpoint of the vision-language model
    head.safetensors   the weights that are not the backbone's
    policy.json        the network's `PolicySpec` and the `Statistics` with their provenance

The head carries the hash of policy.json, and the backbone's files the identity in it: a head
beside statistics or a backbone that it was not saved with is refused. (Policies that were saved
before there were identities have none.)
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from rynn_brain_ros.files import remedy
from rynn_brain_ros.models.local import gpu
from rynn_brain_ros.models.local.loading import Loaded, load
from rynn_brain_ros.models.local.patch_embedding import settle
from rynn_brain_ros.values import OutputError
from rynn_brain_ros.vla.binding import IDENTITY, mark
from rynn_brain_ros.vla.expert import SmallExpert
from rynn_brain_ros.vla.flow import N_STEPS, Guidance, sample
from rynn_brain_ros.vla.graphed import Graphed
from rynn_brain_ros.vla.network import ChunkNetwork, SingleStream
from rynn_brain_ros.vla.normalization import Provenance, Statistics, statistics_from
from rynn_brain_ros.vla.reading import Reader
from rynn_brain_ros.vla.values import (
    ExpertSize,
    Floats,
    Observation,
    PolicyError,
    PolicySpec,
    Variant,
)

_LOG = logging.getLogger(__name__)
FORMAT = 1
BACKBONE, HEAD, POLICY = "backbone", "head.safetensors", "policy.json"
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json")
"""What ``save_pretrained`` writes itself; the rest of a checkpoint is copied."""
_COMPANIONS = ("*.json", "*.jinja", "*.txt", "LICENSE*")
_BOUND_TO = "policy_sha256"
_VARIANTS: Mapping[Variant, Callable[[Any, PolicySpec], ChunkNetwork]] = {
    Variant.SINGLE_STREAM: SingleStream,
    Variant.SMALL_EXPERT: SmallExpert,
}


@dataclass(frozen=True)
class LoadedPolicy:
    """A network, what it is shown through, and what its numbers mean."""

    network: ChunkNetwork
    reader: Reader
    graphed: Graphed | None = None
    """Asked in place of the network, where there is one."""

    @property
    def spec(self) -> PolicySpec:
        return self.network.spec

    @property
    def statistics(self) -> Statistics:
        return self.reader.statistics

    @property
    def chooses_experts(self) -> bool:
        """Whether each step of the flow goes through a mixture of experts."""
        is_mixture = str(self.network.vlm.config.model_type).endswith("_moe")
        return is_mixture and self.spec.variant is Variant.SINGLE_STREAM

    def sampled(
        self,
        observations: Sequence[Observation],
        noise: torch.Tensor,
        guidance: Guidance | None = None,
        n_steps: int = N_STEPS,
    ) -> Floats:
        """Absolute actions [B, H, D] of B observations, from ``noise`` of that shape."""
        network, device = self.network, self.network.vlm.device
        with torch.no_grad(), gpu.current(device):
            prefix = network.prefix(self.reader.batch(observations).to(device))
            state = self.reader.states(observations).to(device)
            model = self.graphed or network
            chunk = sample(model, prefix, state, noise.to(device), n_steps, guidance=guidance)
        states = np.stack([each.state for each in observations])  # [B, S]
        return self.statistics.chunk_out(chunk.double().cpu().numpy(), states)


def new_policy(
    backbone: Path, spec: PolicySpec, statistics: Statistics, *, device: str = "", dtype: str = ""
) -> LoadedPolicy:
    """An untrained head on the checkpoint directory ``backbone``; ``device`` and ``dtype`` as
    `models.local.loading.load` takes them. Raises `PolicyError` and `EngineError`."""
    return _policy(load(backbone, device, dtype), spec, statistics)


def save_policy(policy: LoadedPolicy, companions: Path, target: Path) -> None:
    """Writes ``target``, a new directory, whole or not at all.

    ``companions``: the checkpoint directory that tokenizer and image settings are copied from.
    Raises `PolicyError` where ``target`` exists, and `OutputError`.
    """
    if target.exists():
        raise PolicyError(f"{target} exists: give a policy a folder of its own")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.partial")
    with _written(target, temporary):
        (temporary / BACKBONE).mkdir(parents=True)
        _copy(companions, temporary / BACKBONE)
        policy.network.vlm.save_pretrained(temporary / BACKBONE)
        identity = uuid.uuid4().hex
        for file in (temporary / BACKBONE).glob("*.safetensors"):
            mark(file, identity)
        told = json.dumps({IDENTITY: identity, **_record(policy)}, indent=1).encode()
        (temporary / POLICY).write_bytes(told)
        head = {name: v.detach().contiguous() for name, v in policy.network.head().items()}
        save_file(head, temporary / HEAD, metadata={_BOUND_TO: hashlib.sha256(told).hexdigest()})
        temporary.replace(target)


def with_cuda_graphs(policy: LoadedPolicy) -> LoadedPolicy:
    """Its steps are replayed. Raises `PolicyError` where it is not on a GPU, and for experts."""
    device = policy.network.vlm.device
    if policy.chooses_experts:
        raise PolicyError(
            "a single-stream policy of a mixture of experts cannot be recorded as a CUDA graph: "
            "which experts compute is decided on the processor; go on without CUDA graphs, or use "
            "the variant small_expert"
        )
    if device.type != "cuda":
        raise PolicyError(f"CUDA graphs need an NVIDIA GPU; the policy is on {device.type}")
    return replace(policy, graphed=Graphed(policy.network))


def load_policy(
    path: Path, expected: Provenance | None = None, *, device: str = "", dtype: str = ""
) -> LoadedPolicy:
    """Raises `PolicyError` for a directory that is no policy, or not one for ``expected``."""
    try:
        told = (path / POLICY).read_bytes()
        record = json.loads(told)
    except (OSError, ValueError) as error:
        raise PolicyError(
            f"{path} holds no readable {POLICY}: it is no policy ({error})"
        ) from error
    spec = _spec(record, path)
    _check_backbone(path, str(record.get(IDENTITY, "")))
    statistics = statistics_from(record.get("statistics"), str(path / POLICY), expected)
    policy = _policy(load(path / BACKBONE, device, dtype), spec, statistics)
    _read_head(policy.network, path, hashlib.sha256(told).hexdigest())
    policy.network.eval()
    return policy


def _policy(loaded: Loaded, spec: PolicySpec, statistics: Statistics) -> LoadedPolicy:
    told, target = statistics.provenance, statistics.target
    pairs = {
        "numbers of an action": (spec.n_dims, told.action_space.size),
        "numbers of the state": (spec.n_state, len(told.state_names)),
        "numbers of the target point": (spec.n_target, len(target.mean) if target else 0),
        "cameras": (sorted(spec.cameras), sorted(told.cameras)),
    }
    for what, (ours, theirs) in pairs.items():
        if ours != theirs:
            raise PolicyError(
                f"the statistics are of another policy: {what} {theirs}, the network has {ours}"
            )
    model = loaded.model
    for note in settle(model.model.visual.patch_embed.proj):
        _LOG.warning(note)
    network = _VARIANTS[spec.variant](model, spec)
    for weight in network.head().values():
        weight.data = weight.data.to(model.device)
    reader = Reader(
        spec, statistics, loaded.chat.tokenizer, loaded.patcher, int(model.config.image_token_id)
    )
    return LoadedPolicy(network, reader)


def _record(policy: LoadedPolicy) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "spec": {**asdict(policy.spec), "variant": policy.spec.variant.value},
        "statistics": policy.statistics.record(),
    }


def _spec(record: Any, path: Path) -> PolicySpec:
    if not isinstance(record, Mapping) or record.get("format") != FORMAT:
        raise PolicyError(f"{path / POLICY} is not of format {FORMAT}: save the policy again")
    try:
        told = dict(record["spec"])
        return PolicySpec(
            **{
                **told,
                "variant": Variant(told["variant"]),
                "cameras": tuple(told["cameras"]),
                "image_size": tuple(told["image_size"]),
                "expert": ExpertSize(**told["expert"]),
            }
        )
    except (KeyError, TypeError, ValueError) as error:
        raise PolicyError(f"{path / POLICY} tells no network ({error!r}): save it again") from error


def _check_backbone(path: Path, identity: str) -> None:
    for file in sorted((path / BACKBONE).glob("*.safetensors")):
        try:
            with safe_open(file, "pt") as opened:
                found = (opened.metadata() or {}).get(IDENTITY, "")
        except (OSError, SafetensorError) as error:
            raise PolicyError(f"{file} cannot be read: {error}") from error
        if found != identity:
            raise PolicyError(
                f"{file} was not saved with this {POLICY}: it is another policy's backbone; copy "
                "the whole directory again"
            )


def _read_head(network: ChunkNetwork, path: Path, policy_sha256: str) -> None:
    try:
        with safe_open(path / HEAD, "pt") as file:
            bound_to = (file.metadata() or {}).get(_BOUND_TO)
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise PolicyError(f"{path / HEAD} cannot be read: {error}") from error
    if bound_to != policy_sha256:
        raise PolicyError(
            f"{path / HEAD} was not saved with this {POLICY}: its statistics are foreign to it; "
            "copy the whole directory again"
        )
    head = network.head()
    wrong = {n for n in {*head, *stored} if n not in head or n not in stored}
    wrong |= {n for n in {*head} - wrong if head[n].shape != stored[n].shape}
    if wrong:
        raise PolicyError(
            f"{path / HEAD} does not fit the network: {', '.join(sorted(wrong)[:5])}; the backbone "
            "or the specification is another one"
        )
    with torch.no_grad():
        for name, weight in head.items():
            weight.copy_(stored[name])


def _copy(source: Path, target: Path) -> None:
    for pattern in _COMPANIONS:
        for file in source.glob(pattern):
            if file.is_file() and not any(file.match(own) for own in _WEIGHTS):
                shutil.copyfile(file, target / file.name)


@contextlib.contextmanager
def _written(target: Path, temporary: Path) -> Iterator[None]:
    try:
        yield
    except SafetensorError as error:
        raise OutputError(f"cannot write {target}: {error}; free some disk space") from error
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror}; {remedy(error)}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
