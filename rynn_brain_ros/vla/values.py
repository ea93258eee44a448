"""What a policy is, what it sees and what can be wrong with it: frozen values, numpy only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.values import EngineError

Floats = NDArray[np.float64]


class PolicyError(EngineError):
    """A policy cannot be loaded, made or asked as it is."""


class Variant(str, Enum):
    """How actions are computed from what the backbone sees."""

    SINGLE_STREAM = "single_stream"
    """Actions are tokens of the backbone itself (RynnBrain-VLA)."""
    SMALL_EXPERT = "small_expert"
    """A small transformer of its own looks at the backbone's hidden states, which stay as they
    are: no gradient reaches the backbone."""


@dataclass(frozen=True)
class ExpertSize:
    """Of a `Variant.SMALL_EXPERT`: layers, width of a token and attention heads."""

    n_layers: int = 6
    width: int = 512
    n_heads: int = 8


@dataclass(frozen=True)
class PolicySpec:
    """Everything about a policy's network but its weights and its backbone.

    A chunk has ``horizon`` actions of ``n_dims`` numbers; the robot's state has ``n_state``.
    ``n_target`` is how many numbers tell the target point that the brain grounded: 0 not told,
    2 (x, y) in 0…1000 of the first camera's image, 3 (x, y, z) in metres in the robot's base.
    ``told_step``: the brain's current step is part of the instruction. ``cameras`` are shown in
    this order, each resized to ``image_size`` (height, width) in pixels.
    """

    variant: Variant
    horizon: int
    n_dims: int
    n_state: int
    cameras: tuple[str, ...]
    image_size: tuple[int, int]
    n_target: int = 0
    told_step: bool = True
    expert: ExpertSize = ExpertSize()

    def __post_init__(self) -> None:
        counts = {"horizon": self.horizon, "n_dims": self.n_dims, "n_state": self.n_state}
        for name, count in counts.items():
            if count < 1:
                raise PolicyError(f"a policy's {name} is {count}; it must be at least 1")
        if self.n_target not in (0, 2, 3):
            raise PolicyError(
                f"a target point of {self.n_target} numbers: give 0 (none), 2 (image) or 3 (metres)"
            )
        if not self.cameras:
            raise PolicyError("a policy without cameras sees nothing; name at least one")
        if self.expert.width % (2 * self.expert.n_heads):
            raise PolicyError(
                f"an expert of width {self.expert.width} cannot have {self.expert.n_heads} heads: "
                "the width must be a multiple of twice the heads"
            )


@dataclass(frozen=True)
class Observation:
    """What a policy is shown once, for one chunk.

    ``images`` are RGB, uint8 [height, width, 3] of any size, by camera. ``step`` is the brain's
    current step with its tags, verbatim (``annotation.plan`` of a data set), empty before it has
    said anything. ``target_point`` is the point it grounded, as `PolicySpec.n_target` says, and
    empty where none is known. ``state`` [n_state] is measured, in the units of the contract.
    """

    images: Mapping[str, NDArray[np.uint8]] = field(repr=False)
    state: Floats
    instruction: str
    step: str = ""
    target_point: tuple[float, ...] = ()
