"""LeRobot's batches as what a policy is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from lerobot.utils.constants import OBS_IMAGES, OBS_STATE
from numpy.typing import NDArray
from torch import Tensor

from rynn_brain_ros.vla.values import Observation, PolicyError

STEP = "observation.step"
"""Where the brain speaks beside LeRobot's loop: its current step, a text for each row; "" before it
has said anything."""
TARGET_POINT = "observation.target_point"
"""And its point [B, n]; a row of NaN where none is known."""


def observations_of(batch: Mapping[str, Any]) -> list[Observation]:
    """Of each row. Pictures [B, 3, height, width] are uint8, or float in 0…1; the state is [B, S];
    ``task`` is one text for each row. A camera's role is the last word of its key.

    Raises `PolicyError` for what is missing.
    """
    missing = [key for key in (OBS_STATE, "task") if batch.get(key) is None]
    if missing:
        raise PolicyError(f"the observation has no {', '.join(missing)}")
    states = _array(batch[OBS_STATE])
    tasks = _texts(batch, "task", len(states))
    steps = _texts(batch, STEP, len(states)) if STEP in batch else [""] * len(states)
    points = _array(batch[TARGET_POINT]) if TARGET_POINT in batch else np.zeros((len(states), 0))
    images = {
        key.rpartition(".")[2]: _pictures(value)
        for key, value in batch.items()
        if key.startswith(f"{OBS_IMAGES}.") and isinstance(value, Tensor)
    }
    return [
        Observation(
            images={camera: pictures[row] for camera, pictures in images.items()},
            state=states[row],
            instruction=tasks[row],
            step=steps[row],
            target_point=tuple(points[row].tolist()) if np.isfinite(points[row]).all() else (),
        )
        for row in range(len(states))
    ]


def _texts(batch: Mapping[str, Any], key: str, n: int) -> Sequence[str]:
    texts = [batch[key]] if isinstance(batch[key], str) else list(batch[key])
    if len(texts) != n:
        raise PolicyError(f"{n} rows and {len(texts)} texts of {key}: give one for each")
    return texts


def _array(values: Tensor) -> NDArray[np.float64]:
    return np.asarray(values.detach().cpu().double().numpy(), np.float64)


def _pictures(values: Tensor) -> NDArray[np.uint8]:
    """[B, height, width, 3], the very pixels that LeRobot had divided by 255."""
    pixels = values.detach()
    if pixels.is_floating_point():
        pixels = (pixels * 255).round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(pixels.permute(0, 2, 3, 1).cpu().numpy())
