"""Demonstrations that the project's own writer wrote: a hand that goes in a straight line to the
point that the brain told."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tiny_models import build

from rynn_brain_ros.data import DatasetSpec, DatasetWriter, EpisodeWriter, FeatureSpec
from training.train import Config, config_of

NAMES = ("position.x", "position.y", "position.z", "position.hand")
PART = """
    - channel: {{topic: {topic}, type: sensor_msgs/msg/JointState{more}}}
      align: {{strategy: hold, timeline: header}}
      select: [position.x, position.y, position.z]
      units: m
    - channel: {{topic: {topic}, type: sensor_msgs/msg/JointState{more}}}
      align: {{strategy: hold, timeline: header}}
      select: [position.hand]
      gripper: {{open: 1.0, closed: 0.0}}"""
CONTRACT = f"""
robot_type: pointer
robot_interface: ros2
fps: 10
observations:
  observation.images.front:
    channel: {{topic: /front/image_raw, type: sensor_msgs/msg/Image}}
    align: {{strategy: hold, timeline: header}}
    apply: [resize: [32, 48]]
  observation.state:{PART.format(topic="/states", more="")}
actions:
  action:{PART.format(topic="/commands", more=", safety: hold")}
conditioning: {{plan: /brain/plan, groundings: /brain/groundings}}
"""
LENGTH, HORIZON = 9, 6
Way = tuple[np.ndarray, np.ndarray]
"""From where to where, (x, y, z) in metres."""
SMALL = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}


def grounding(point: np.ndarray, **changes: Any) -> str:
    told = {"label": "Pick up", "kind": 3, "camera": "/front/image_raw", "points": [[500, 250]]}
    place = {"frame": "base", "point_m": [float(v) for v in point]}
    return json.dumps([{**told, **place, **changes}])


def anywhere(dice: np.random.Generator) -> Way:
    return (
        dice.uniform([0.3, -0.3, 0.2], [0.7, 0.3, 0.5]),
        dice.uniform([0.3, -0.3, 0.0], [0.7, 0.3, 0.1]),
    )


def demonstrate(
    root: Path,
    n: int,
    contract: str = CONTRACT,
    *,
    seed: int = 0,
    frame: str = "base",
    way_of: Callable[[np.random.Generator], Way] = anywhere,
) -> Path:
    """A data set of ``n`` straight ways, drawn by ``way_of``."""
    numbers = FeatureSpec("float32", (4,), NAMES)
    spec = DatasetSpec(
        "pointer",
        10,
        {
            "observation.images.front": FeatureSpec("video", (32, 48, 3)),
            "observation.state": numbers,
            "action": numbers,
            "annotation.plan": FeatureSpec("string", (1,)),
            "annotation.groundings": FeatureSpec("string", (1,)),
        },
    )
    dice, writer = np.random.default_rng(seed), DatasetWriter(root, spec)
    for i in range(n):
        episode = EpisodeWriter(root.parent / f"episode-{i}", spec)
        start, target = way_of(dice)
        way = np.linspace(0, 1, LENGTH + 1)
        for row in range(LENGTH):
            here, there = (start + way[row + k] * (target - start) for k in (0, 1))
            episode.add(
                {
                    "observation.images.front": dice.integers(0, 255, (32, 48, 3), np.uint8),
                    "observation.state": np.append(here, 1.0),
                    "action": np.append(there, float(row < LENGTH - 2)),
                    "annotation.plan": "Pick up the cube." if row else "",
                    "annotation.groundings": grounding(target, frame=frame) if row else "",
                }
            )
        writer.add(episode.close("pick up the red cube", {}))
    (root / "meta/rynn_brain").mkdir(exist_ok=True)
    (root / "meta/rynn_brain/contract.yaml").write_text(contract)
    return root


def settings(out: Path, backbone: Path, demonstrated: Path, **changes: Any) -> Config:
    """``changes`` with a double underscore for a dot."""
    told: Mapping[str, Any] = {
        "backbone": str(backbone),
        "out": str(out),
        **{"steps": 6, "batch": 8, "seed": 3, "save_every": 3, "device": "cpu", "log_every": 2},
        **{"data.sets": (str(demonstrated),), "data.target": "metres", "data.target_frame": "base"},
        **{"data.held_out": 0.34, "data.cache_mib": 64, "evaluate_samples": 5},
        **{"policy.horizon": HORIZON, "policy.image_size": (32, 64), "policy.expert_layers": 2},
        **{"policy.expert_width": 64, "policy.expert_heads": 4, "optimizer.warmup": 3},
    }
    return config_of({**told, **{key.replace("__", "."): v for key, v in changes.items()}})


def small_backbone(folder: Path) -> Path:
    """A tiny random Qwen3-VL."""
    vision = {"out_hidden_size": 64, "hidden_size": 48, "intermediate_size": 64, "depth": 2}
    return build("qwen3_vl", folder, vision=vision, num_attention_heads=2, **SMALL)
