"""A policy's action step and vision tower as ONNX graphs.

An exported folder is the policy's own folder, which `checkpoint.load_policy` still reads, with

    onnx.json                             precisions, and the hash of the policy.json they belong to
    action_step.fp32.onnx, ….int8.onnx    one velocity behind a prefix of any length
    vision.fp32.onnx, ….int8.onnx         one picture of the policy's size → its visual tokens

Each graph carries the identity in that policy.json; those above 2 GiB keep their weights in a file
``….data`` beside them.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn

from rynn_brain_ros.files import remedy
from rynn_brain_ros.models.progress import Progress, untold
from rynn_brain_ros.values import OutputError
from rynn_brain_ros.vla.binding import IDENTITY
from rynn_brain_ros.vla.checkpoint import BACKBONE, HEAD, POLICY, LoadedPolicy
from rynn_brain_ros.vla.export_checks import (
    Check,
    compared,
    first_picture,
    loaded_for_graphs,
    seen_example,
)
from rynn_brain_ros.vla.network import ChunkNetwork, Prefix
from rynn_brain_ros.vla.onnx_policy import (
    ACTION_STEP,
    FORMAT,
    GRAPHS,
    VISION,
    Precision,
    Provider,
    graph_file,
    policy_sha256,
    require_packages,
    step_inputs,
)
from rynn_brain_ros.vla.values import PolicyError

_LONGEST_PREFIX = 1 << 18


def export(
    source: Path,
    target: Path,
    precisions: Sequence[Precision] = tuple(Precision),
    verify_on: Provider | None = None,
    progress: Progress = untold,
) -> tuple[Check, ...]:
    """Writes the policy in ``source`` with its graphs into the new folder ``target``, whole or
    not at all; with ``verify_on`` only where all the checks that are returned passed.

    Raises `PolicyError` for what is no policy or cannot be exported, and `OutputError`.
    """
    require_packages("onnx", "onnxscript", "onnxruntime")
    if target.exists():
        raise PolicyError(f"{target} exists: give the export a folder of its own")
    progress("loading", 0, 1)
    policy = loaded_for_graphs(source)
    _refuse_experts(policy)
    with _written(target) as folder:
        _copy(source, folder)
        _write_graphs(policy, folder, precisions, progress)
        checks = compared(policy, folder, precisions, verify_on, progress) if verify_on else ()
        if all(check.passed for check in checks):
            folder.replace(target)
    return checks


def _refuse_experts(policy: LoadedPolicy) -> None:
    if policy.chooses_experts:
        raise PolicyError(
            "a single-stream policy of a mixture of experts cannot be exported: which experts "
            "compute depends on the numbers, and a graph would copy their weights for every token; "
            "use the variant small_expert"
        )


# --- torch → ONNX ------------------------------------------------------------------------------


class _ActionStep(nn.Module):  # type: ignore[misc]
    """One velocity behind the prefix of one observation, whose length the graph leaves open."""

    def __init__(self, network: ChunkNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(  # noqa: PLR0917  # the exporter passes them by place
        self,
        keys: list[Tensor],
        values: list[Tensor],
        next_position: Tensor,
        target: Tensor,
        state: Tensor,
        x_t: Tensor,
        t: Tensor,
    ) -> Tensor:
        told = torch.ones((1, keys[0].shape[2]), dtype=torch.bool)
        prefix = Prefix(tuple(keys), tuple(values), told, next_position, target)
        return self.network.velocity(prefix, state, x_t, t)


class _VisionTower(nn.Module):  # type: ignore[misc]
    """The library's tower for one picture of one size.

    Its positions are computed beforehand, and the only picture's bounds are told in a numpy array:
    a graph must not depend on values, and the tower reads them from a tensor's.
    """

    def __init__(self, tower: Any, grid: Tensor) -> None:
        super().__init__()
        try:
            from transformers.vision_utils import (  # noqa: PLC0415
                get_vision_interpolation_indices_and_weights,
                get_vision_position_ids,
            )
        except ImportError as error:
            raise PolicyError(
                f"the vision tower of transformers {transformers.__version__} cannot be exported: "
                "pip install 'transformers>=5.23'"
            ) from error
        indices, weights = get_vision_interpolation_indices_and_weights(
            grid,
            num_grid_per_side=tower.num_grid_per_side,
            mode=tower.interpolation_mode,
            align_corners=tower.interpolation_align_corners,
            spatial_merge_size=tower.spatial_merge_size,
        )
        self.tower = tower
        self.register_buffer("grid", grid)
        self.register_buffer("indices", indices)
        self.register_buffer("weights", weights)
        self.register_buffer("places", get_vision_position_ids(grid, tower.spatial_merge_size))
        self._bounds = np.array([0, int(grid.prod())])

    def forward(self, patches: Tensor) -> tuple[Tensor, ...]:
        seen = self.tower(
            patches,
            grid_thw=self.grid,
            cu_seqlens=self._bounds,
            position_ids=self.places,
            interp_indices=self.indices,
            interp_weights=self.weights,
        )
        return (seen.pooler_output, *(getattr(seen, "deepstack_features", None) or ()))


def _write_graphs(
    policy: LoadedPolicy, folder: Path, precisions: Sequence[Precision], progress: Progress
) -> None:
    batch, state, prefix = seen_example(policy)
    fp32 = {name: folder / graph_file(name, Precision.FP32) for name in (ACTION_STEP, VISION)}
    progress("exporting", 0, 2)
    _export_step(policy.network, prefix, state, fp32[ACTION_STEP])
    progress("exporting", 1, 2)
    grid, patches = first_picture(batch)
    _save(
        _VisionTower(policy.network.vlm.model.visual, grid), (patches,), ["patches"], fp32[VISION]
    )
    progress("exporting", 2, 2)
    for done, (name, path) in enumerate(fp32.items()):
        progress("quantizing", done, len(fp32))
        if Precision.INT8 in precisions:
            _quantize(path, folder / graph_file(name, Precision.INT8))
        if Precision.FP32 not in precisions:
            path.unlink()
            _weights_of(path).unlink(missing_ok=True)
    record = {
        "format": FORMAT,
        "policy_sha256": policy_sha256(folder),
        "precisions": [precision.value for precision in precisions],
        "made_with": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    (folder / GRAPHS).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _export_step(network: ChunkNetwork, prefix: Prefix, state: Tensor, path: Path) -> None:
    n = len(prefix.keys)
    x_t, t = torch.zeros(1, network.horizon, network.n_dims), torch.ones(1)
    length = torch.export.Dim("prefix", min=2, max=_LONGEST_PREFIX)
    layers = [{2: length}] * n
    names = [*step_inputs(prefix, state), "x_t", "t"]
    inputs = (list(prefix.keys), list(prefix.values), prefix.next_position, prefix.target, state)
    shapes = (layers, layers, None, None, None, None, None)
    _save(_ActionStep(network), (*inputs, x_t, t), names, path, shapes)


def _save(
    module: nn.Module,
    inputs: tuple[Any, ...],
    names: Sequence[str],
    path: Path,
    dynamic_shapes: tuple[Any, ...] | None = None,
) -> None:
    with _quiet(), torch.no_grad():
        try:
            program = torch.onnx.export(
                module.eval(),
                inputs,
                dynamo=True,
                input_names=names,
                dynamic_shapes=dynamic_shapes,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            cause = next((line for line in str(error.__cause__ or error).splitlines() if line), "")
            raise PolicyError(
                f"torch {torch.__version__} cannot export {path.name.split('.')[0]}: {cause[:300]}"
            ) from error
    # policy.json is copied before
    identity = json.loads((path.parent / POLICY).read_bytes()).get(IDENTITY, "")
    program.model.metadata_props[IDENTITY] = str(identity)
    program.save(path)


def _quantize(source: Path, target: Path) -> None:
    import onnx  # noqa: PLC0415
    from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415

    model = onnx.load(source)
    del model.graph.value_info[:]  # the quantizer's own shapes contradict torch's, and it gives up
    with _quiet():
        quantize_dynamic(
            model,
            target,
            per_channel=True,
            weight_type=QuantType.QUInt8,  # sums of signed ones overflow where there is no VNNI
            use_external_data_format=_weights_of(source).exists(),
        )


def _weights_of(path: Path) -> Path:
    """Where weights lie that are too large for the graph's own file."""
    return path.with_name(f"{path.name}.data")


# --- files -------------------------------------------------------------------------------------


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source / BACKBONE, target / BACKBONE)
    for name in (HEAD, POLICY):
        shutil.copyfile(source / name, target / name)


@contextlib.contextmanager
def _written(target: Path) -> Iterator[Path]:
    """A folder beside ``target``, to be moved there; nothing of it is left otherwise."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        temporary.mkdir(parents=True)
        yield temporary
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror}; {remedy(error)}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter and the quantizer warn of what is none of the user's business."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
