"""How far an exported policy's graphs are from torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rynn_brain_ros.models.progress import Progress, untold
from rynn_brain_ros.vla.checkpoint import LoadedPolicy, load_policy
from rynn_brain_ros.vla.network import Batch, ChunkNetwork, Prefix
from rynn_brain_ros.vla.onnx_policy import (
    ACTION_STEP,
    VISION,
    Array,
    Graph,
    Precision,
    Provider,
    check_graphs,
    graphs_of,
    velocity_of,
)
from rynn_brain_ros.vla.values import Observation, PolicyError

FP32_ERROR = 1e-4
"""The most that any number of a graph in 32 bits may differ from torch."""
INT8_COSINE = 0.995
"""The least cosine between the outputs of a graph in 8 bits and torch's."""
_TIMES = (1.0, 0.5, 0.1)


@dataclass(frozen=True)
class Check:
    """One graph on one kind of input: ``error`` is the largest absolute difference from torch,
    ``cosine`` the lowest of its outputs."""

    graph: str
    precision: Precision
    inputs: str
    error: float
    cosine: float

    @property
    def passed(self) -> bool:
        """A NaN does not pass."""
        if self.precision is Precision.FP32:
            return self.error <= FP32_ERROR
        return self.cosine >= INT8_COSINE


def verify(
    path: Path, provider: Provider = Provider.CPU, progress: Progress = untold
) -> tuple[Check, ...]:
    """Compares the exported folder ``path`` with torch on this machine. Raises `PolicyError`."""
    precisions = check_graphs(path)
    return compared(loaded_for_graphs(path), path, precisions, provider, progress)


def compared(
    policy: LoadedPolicy,
    folder: Path,
    precisions: Sequence[Precision],
    provider: Provider,
    progress: Progress,
) -> tuple[Check, ...]:
    checks: list[Check] = []
    batch, state, prefix = seen_example(policy)
    torch.manual_seed(0)
    for done, precision in enumerate(precisions):
        progress("verifying", done, len(precisions))
        step, vision = graphs_of(folder, precision, provider)
        checks += _step_checks(policy.network, step, precision, prefix, state)
        checks += _vision_checks(policy, vision, precision, batch)
    return tuple(checks)


def _step_checks(
    network: ChunkNetwork, step: Graph, precision: Precision, real: Prefix, state: Tensor
) -> Iterator[Check]:
    length = real.told.shape[1]
    prefixes = {
        f"prefix of {length}": real,
        **{f"random prefix of {n}": _random(real, n) for n in (length // 2, 2 * length + 1)},
    }
    for inputs, prefix in prefixes.items():
        ours, theirs = [], []
        velocity = velocity_of(step, prefix, state)
        for t in _TIMES:
            x_t = torch.randn(1, network.horizon, network.n_dims)
            with torch.no_grad():
                theirs.append(network.velocity(prefix, state, x_t, torch.tensor([t])).numpy())
            ours.append(velocity(x_t.numpy(), t))
        yield _check(ACTION_STEP, precision, inputs, ours, theirs)


def _vision_checks(
    policy: LoadedPolicy, vision: Graph, precision: Precision, batch: Batch
) -> Iterator[Check]:
    grid, picture = first_picture(batch)
    kinds = {"picture": picture, "random patches": torch.randn_like(picture)}
    height, width = policy.spec.image_size
    for kind, patches in kinds.items():
        with torch.no_grad():
            seen = policy.network.vlm.model.visual(patches, grid_thw=grid)
        levels = getattr(seen, "deepstack_features", None) or ()
        theirs = [level.numpy() for level in (seen.pooler_output, *levels)]
        ours = vision(vision.placed({"patches": patches.numpy()}))
        yield _check(VISION, precision, f"{kind} of {height}x{width}", ours, theirs)


def _check(
    graph: str, precision: Precision, inputs: str, ours: Sequence[Array], theirs: Sequence[Array]
) -> Check:
    pairs = [
        (a.astype(np.float64).ravel(), b.astype(np.float64).ravel())
        for a, b in zip(ours, theirs, strict=True)
    ]
    error = np.max([np.abs(a - b).max() for a, b in pairs])
    cosine = np.min([a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) for a, b in pairs])
    return Check(graph, precision, inputs, float(error), float(cosine))


def seen_example(policy: LoadedPolicy) -> tuple[Batch, Tensor, Prefix]:
    """(batch, state, prefix) of an observation of the policy's own shape: noise for pictures, the
    mean state and target point."""
    height, width = policy.spec.image_size
    rng = np.random.default_rng(0)
    statistics = policy.statistics
    observation = Observation(
        {
            camera: rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            for camera in policy.spec.cameras
        },
        np.asarray(statistics.state.mean),
        "pick up the red cube and put it into the bowl",
        target_point=statistics.target.mean if statistics.target else (),
    )
    batch = policy.reader.batch([observation])
    with torch.no_grad():
        return batch, policy.reader.states([observation]), policy.network.prefix(batch)


def first_picture(batch: Batch) -> tuple[Tensor, Tensor]:
    """(its grid [1, 3], its patches)."""
    grid = batch.grids[:1]
    return grid, batch.patches[: int(grid.prod())]


def _random(like: Prefix, length: int) -> Prefix:
    """Normal keys and values of ``length`` tokens, as large as those of ``like``."""

    def drawn(layers: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(
            torch.randn(*layer.shape[:2], length, layer.shape[3]) * layer.std() for layer in layers
        )

    told = torch.ones((1, length), dtype=torch.bool)
    return Prefix(drawn(like.keys), drawn(like.values), told, like.next_position, like.target)


def loaded_for_graphs(path: Path) -> LoadedPolicy:
    """In 32 bits on the processor: graphs are made of that, and compared with it."""
    policy = load_policy(path, device="cpu", dtype="F32")
    if getattr(policy.network.vlm.config, "quantization_config", None) is not None:
        raise PolicyError(f"the backbone in {path} is quantized: export a policy in 16 or 32 bits")
    return policy
