"""A policy whose vision tower and action steps are ONNX graphs, run by onnxruntime.

What `export` wrote. The words and the language model's prefix are still computed by torch, once
for each chunk; the pictures and the ten steps of a chunk, where the time goes, are graphs.

A graph gives no gradient: of real-time chunking only the approximation with the Jacobian taken for
the identity is possible (`guidance.approximately_guided`), not the published method.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Callable, Mapping
from enum import Enum
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rynn_brain_ros.extras import pip_install
from rynn_brain_ros.vla.binding import IDENTITY
from rynn_brain_ros.vla.checkpoint import POLICY, LoadedPolicy, load_policy
from rynn_brain_ros.vla.chunks import Chunk, Leftover, RuntimeSpec
from rynn_brain_ros.vla.flow import N_STEPS
from rynn_brain_ros.vla.guidance import Chunking, Target, approximately_guided
from rynn_brain_ros.vla.network import Prefix
from rynn_brain_ros.vla.normalization import Provenance
from rynn_brain_ros.vla.values import Observation, PolicyError

FORMAT = 1
GRAPHS = "onnx.json"
ACTION_STEP, VISION = "action_step", "vision"
Array = NDArray[Any]
Velocity = Callable[[Array, float], Array]
"""(x_t [1, H, D] float32, time) → velocity of that shape."""


class Precision(str, Enum):
    FP32 = "fp32"
    INT8 = "int8"
    """Weights in 8 bits, activations as they come (dynamic quantization). For processors."""


class Provider(str, Enum):
    """Where onnxruntime computes."""

    CPU = "cpu"
    CUDA = "cuda"
    TENSORRT = "tensorrt"


_PROVIDERS = {
    Provider.TENSORRT: "TensorrtExecutionProvider",
    Provider.CUDA: "CUDAExecutionProvider",
    Provider.CPU: "CPUExecutionProvider",
}
"""Each leaves what it cannot compute to those behind it."""
_OPTIONS = {"CUDAExecutionProvider": {"use_tf32": "0"}}
"""Or 32 bits would be multiplied as TF32, with 10 bits of mantissa."""
_NO_TF32 = "NVIDIA_TF32_OVERRIDE"
"""The same for TensorRT, which has no option for it."""


def require_packages(*names: str) -> None:
    """Raises `PolicyError` with the command that installs what graphs need."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise PolicyError(
            f"ONNX graphs need {', '.join(missing)}, not installed in this Python: "
            f"{pip_install('model', 'onnx')} (on a machine with an NVIDIA GPU replace "
            "onnxruntime by onnxruntime-gpu, never both)"
        )


def graph_file(graph: str, precision: Precision) -> str:
    return f"{graph}.{precision.value}.onnx"


class Graph:
    """One ONNX file, ready to run with as many threads as torch uses."""

    def __init__(self, path: Path, provider: Provider = Provider.CPU) -> None:
        """Raises `PolicyError` for a file or a provider that does not work here."""
        require_packages("onnxruntime")
        import onnxruntime  # noqa: PLC0415

        there, every = onnxruntime.get_available_providers(), list(_PROVIDERS.values())
        wanted = _PROVIDERS[provider]
        if wanted not in there:
            raise PolicyError(
                f"this onnxruntime computes on {', '.join(there)}, not on {provider.value}: "
                "pip uninstall onnxruntime && pip install onnxruntime-gpu"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        names = [name for name in every[every.index(wanted) :] if name in there]
        providers = [(name, _OPTIONS.get(name, {})) for name in names]
        if provider is Provider.TENSORRT:
            os.environ.setdefault(_NO_TF32, "0")
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # onnxruntime's errors have no root of their own
            raise PolicyError(f"onnxruntime cannot read {path}: {error}") from error
        if wanted not in self._session.get_providers():  # it goes on without a word
            raise PolicyError(
                f"onnxruntime cannot compute on {provider.value} here: install the CUDA libraries "
                "of its version, or choose cpu"
            )
        self._value = onnxruntime.OrtValue.ortvalue_from_numpy
        self._device = "cpu" if provider is Provider.CPU else "cuda"

    @property
    def identity(self) -> str:
        """Of the policy that it was exported with; empty for older ones."""
        return str(self._session.get_modelmeta().custom_metadata_map.get(IDENTITY, ""))

    def placed(self, inputs: Mapping[str, Array]) -> dict[str, Any]:
        """``inputs`` where the graph computes, for all calls that are alike in them."""
        return {
            name: self._value(np.ascontiguousarray(array), self._device)
            for name, array in inputs.items()
        }

    def __call__(self, inputs: Mapping[str, Any]) -> list[Array]:
        """``inputs`` are `placed`. The outputs in the graph's order."""
        outputs = self._session.run_with_ort_values(None, inputs)
        return [output.numpy() for output in outputs]


def graphs_of(path: Path, precision: Precision, provider: Provider) -> tuple[Graph, Graph]:
    """The action step and the vision tower in the exported folder ``path``. Raises `PolicyError`,
    also for a graph that was not exported with the policy beside it."""
    identity = str(json.loads((path / POLICY).read_bytes()).get(IDENTITY, ""))
    found = []
    for name in (ACTION_STEP, VISION):
        file = path / graph_file(name, precision)
        found.append(Graph(file, provider))
        if found[-1].identity != identity:
            raise PolicyError(f"{file} was not exported with this {POLICY}: export it again")
    return found[0], found[1]


def step_inputs(prefix: Prefix, state: Tensor) -> dict[str, Array]:
    """What all steps of a chunk share, by the names of the graph's inputs.

    ``key_i`` and ``value_i`` float32 [1, heads, L, width] for each layer that looks back,
    ``next_position`` int64 [1], ``target`` float32 [1, n_target + 1 or 0], ``state`` float32
    [1, S]. The prefix is that of one observation: no padding.
    """
    layers = {"key": prefix.keys, "value": prefix.values}
    inputs = {
        f"{name}_{i}": _float32(layer)
        for name, found in layers.items()
        for i, layer in enumerate(found)
    }
    inputs["next_position"] = prefix.next_position.cpu().numpy()
    return {**inputs, "target": _float32(prefix.target), "state": _float32(state)}


def velocity_of(step: Graph, prefix: Prefix, state: Tensor) -> Velocity:
    """The exported network behind what was seen; ``prefix`` is copied to its device once."""
    shared = step.placed(step_inputs(prefix, state))

    def velocity(x_t: Array, t: float) -> Array:
        moving = {"x_t": x_t.astype(np.float32), "t": np.array([t], np.float32)}
        return step({**shared, **step.placed(moving)})[0]

    return velocity


def euler(
    velocity: Velocity,
    noise: Array,
    guidance: Callable[[Array, Array, float], Array] | None = None,
    n_steps: int = N_STEPS,
) -> Array:
    """As `flow.sample`: a normalized chunk [1, H, D] from ``noise`` of that shape."""
    x_t = noise
    for step in range(n_steps):
        t = 1 - step / n_steps
        v = velocity(x_t, t)
        if guidance is not None:
            v = guidance(x_t, v, t)
        x_t = x_t - v / n_steps
    return x_t


class VisionGraph(nn.Module):  # type: ignore[misc]
    """In the place of a backbone's vision tower, for pictures of the size it was exported for."""

    dtype = torch.float32

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self._graph = graph

    def forward(self, patches: Tensor, grid_thw: Tensor) -> SimpleNamespace:
        pictures = patches.split(grid_thw.prod(-1).tolist())
        seen = [self._graph(self._graph.placed({"patches": _float32(each)})) for each in pictures]
        pooled, *levels = (
            torch.from_numpy(np.concatenate(parts)).to(patches.device)
            for parts in zip(*seen, strict=True)
        )
        return SimpleNamespace(pooler_output=pooled, deepstack_features=levels)


class OnnxPolicy:
    """A `chunks.Policy` of an exported folder. Of one thread.

    With the same ``seed`` it draws the noise that `guidance.CheckpointPolicy` draws. ``loaded`` is
    given away: its vision tower is replaced by the graph.
    """

    def __init__(
        self,
        loaded: LoadedPolicy,
        step: Graph,
        vision: Graph,
        chunking: Chunking | None = None,
        seed: int = 0,
    ) -> None:
        """Raises `PolicyError` for a ``chunking`` that is not ``approximate``."""
        self._chunking = chunking or Chunking(approximate=True)
        if not self._chunking.approximate:
            raise PolicyError(
                "the published real-time chunking needs gradients, and a graph gives none: choose "
                "approximate, or run the checkpoint itself"
            )
        self._loaded, self._step = loaded, step
        loaded.network.vlm.model.visual = VisionGraph(vision)
        self._noise = torch.Generator().manual_seed(seed)
        self.spec = RuntimeSpec(loaded.spec.horizon, loaded.statistics)

    def infer(self, observation: Observation, previous: Leftover | None = None) -> Chunk:
        """Raises `PolicyError` for an observation that the policy cannot read."""
        network, reader = self._loaded.network, self._loaded.reader
        noise = torch.randn((1, network.horizon, network.n_dims), generator=self._noise).numpy()
        guidance = None if previous is None else self._guidance(observation, previous)
        with torch.no_grad():
            prefix = network.prefix(reader.batch([observation]).to(network.vlm.device))
        velocity = velocity_of(self._step, prefix, reader.states([observation]))
        chunk = euler(velocity, noise, guidance)
        return self.spec.statistics.chunk_out(chunk[0].astype(np.float64), observation.state)

    def _guidance(
        self, observation: Observation, previous: Leftover
    ) -> Callable[[Array, Array, float], Array]:
        told = self.spec.statistics.chunk_in(previous.actions, observation.state)
        target = Target.of(told, previous.delay_steps, self.spec.horizon, self._chunking)
        return partial(approximately_guided, target=target, max_weight=self._chunking.max_weight)


def open_policy(
    path: Path,
    expected: Provenance | None = None,
    *,
    precision: Precision = Precision.FP32,
    provider: Provider = Provider.CPU,
    chunking: Chunking | None = None,
    seed: int = 0,
    device: str = "",
) -> OnnxPolicy:
    """Of a folder that `export.export` wrote; ``expected`` and ``device``, of what is no graph, as
    for `checkpoint.load_policy`.

    Raises `PolicyError`, also for a precision that was not exported and a provider that is not
    there.
    """
    check_graphs(path, precision)
    step, vision = graphs_of(path, precision, provider)
    return OnnxPolicy(load_policy(path, expected, device=device), step, vision, chunking, seed)


def check_graphs(path: Path, *precisions: Precision) -> tuple[Precision, ...]:
    """The precisions of an exported folder. Raises `PolicyError` where graphs of one of
    ``precisions`` are not in it, or belong to another policy."""
    try:
        record = json.loads((path / GRAPHS).read_text(encoding="utf-8"))
        there = tuple(Precision(each) for each in record["precisions"])
        is_its_own = (record["policy_sha256"], record["format"]) == (policy_sha256(path), FORMAT)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PolicyError(
            f"{path} holds no readable {GRAPHS}: it is no exported policy; write one with "
            f"rynn-brain export ({error!r})"
        ) from error
    if not is_its_own:
        raise PolicyError(
            f"the graphs in {path} are not of this {POLICY} and format {FORMAT}: export it again"
        )
    missing = [each.value for each in precisions if each not in there]
    if missing:
        raise PolicyError(
            f"{path} holds no graphs in {', '.join(missing)}, only in "
            f"{', '.join(each.value for each in there)}: export it again"
        )
    return there


def policy_sha256(path: Path) -> str:
    """Of the policy.json in ``path``."""
    return hashlib.sha256((path / POLICY).read_bytes()).hexdigest()


def _float32(tensor: Tensor) -> Array:
    return np.asarray(tensor.detach().float().cpu().numpy())
