"""Policies around tiny random models, for a robot of three numbers and a gripper."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from rynn_brain_ros.vla import ExpertSize, Observation, PolicySpec, Variant
from rynn_brain_ros.vla.actions import ActionSpace, Part, PartKind
from rynn_brain_ros.vla.aiming import Aim
from rynn_brain_ros.vla.normalization import Provenance, Statistics, compute

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "models"))

CAMERAS = ("front", "wrist")
SPACE = ActionSpace(
    (
        Part(PartKind.POSITION, ("x", "y", "z"), "m"),
        Part(PartKind.GRIPPER, ("gripper",), "1 open, 0 closed"),
    )
)
PROVENANCE = Provenance("toy", "0" * 64, CAMERAS, 30.0, SPACE, SPACE.names)
HORIZON = 6
EVERY = [
    ("qwen3_vl", Variant.SINGLE_STREAM),
    ("qwen3_vl_moe", Variant.SINGLE_STREAM),
    ("qwen3_vl", Variant.SMALL_EXPERT),
    ("qwen3_5", Variant.SMALL_EXPERT),
    ("qwen3_5_moe", Variant.SMALL_EXPERT),
]
"""Kinds of backbone, and what can be made of each."""


def spec(variant: Variant, horizon: int = HORIZON, n_target: int = 3) -> PolicySpec:
    size = ExpertSize(n_layers=3, width=64, n_heads=4)
    return PolicySpec(variant, horizon, 4, 4, CAMERAS, (64, 96), n_target, expert=size)


def demonstrations(
    n: int, seed: int = 0, horizon: int = HORIZON
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """States [n, 4], actions [n, horizon, 4] and target points [n, 3] of straight lines to them;
    the hand closes at the end."""
    rng = np.random.default_rng(seed)
    start = rng.uniform([0.3, -0.3, 0.2], [0.7, 0.3, 0.5], (n, 3))
    target = rng.uniform([0.3, -0.3, 0.0], [0.7, 0.3, 0.1], (n, 3))
    way = (np.arange(1, horizon + 1) / horizon)[:, None]
    places = start[:, None] + way * (target - start)[:, None]
    gripper = np.broadcast_to((way < 0.9).astype(float), (n, horizon, 1))
    states = np.concatenate([start, np.ones((n, 1))], axis=1)
    return states, np.concatenate([places, gripper], axis=2), target


def statistics(horizon: int = HORIZON, pointed: bool = True) -> Statistics:
    states, actions, targets = demonstrations(500, seed=1, horizon=horizon)
    aim = Aim(3, frame="base") if pointed else Aim()
    points = [tuple(point) if pointed else () for point in targets]
    return compute(zip(states, actions, points, strict=True), PROVENANCE, aim)


def observation(seed: int, *, step: str = "", target: tuple[float, ...] = ()) -> Observation:
    rng = np.random.default_rng(seed)
    images = {camera: rng.integers(0, 255, (48, 64, 3), dtype=np.uint8) for camera in CAMERAS}
    return Observation(images, rng.normal(size=4), "pick up the red cube", step, target)
