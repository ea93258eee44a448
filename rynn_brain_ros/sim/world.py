"""What every simulated world is: time, cameras, transforms, joints. No ROS in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.values import CameraInfo, RigidTransform

START_NS = 1_700_000_000_000_000_000
"""Every world's clock begins here: the same seed gives the same stamps."""

Controller = Callable[[float], None]
"""Called before each control period of a world with its length in seconds."""


@dataclass(frozen=True, eq=False)
class Picture:
    """What a camera sees at ``stamp_ns``: ``rgb`` uint8 [H, W, 3] and ``depth_m`` float32 [H, W],
    metres along the optical axis as a depth camera measures them, 0 where it has no value."""

    camera: str
    stamp_ns: int
    rgb: NDArray[np.uint8] = field(repr=False)
    depth_m: NDArray[np.float32] = field(repr=False)


@dataclass(frozen=True)
class JointState:
    """As sensor_msgs/JointState: radians and metres, per second, newton metres and newtons."""

    stamp_ns: int
    names: tuple[str, ...]
    positions: tuple[float, ...]
    velocities: tuple[float, ...]
    efforts: tuple[float, ...]


class World(Protocol):
    """A simulated robot in its surroundings.

    ``step`` lets whole control periods pass: in each, every controller is called once and may set
    commands, then the physics move on. Nothing else moves time. The same seed and the same
    commands give the same pictures, bit for bit, on one machine.
    """

    control_period_s: float
    base_frame: str
    """The frame that goals are told in: the arm's base, or the map of a driving robot."""

    @property
    def now_ns(self) -> int: ...

    @property
    def cameras(self) -> tuple[str, ...]: ...

    def step(self, seconds: float) -> None: ...

    def add_controller(self, controller: Controller) -> None: ...

    def render(self, camera: str) -> Picture: ...

    def camera_info(self, camera: str) -> CameraInfo:
        """Its ``frame_id`` is the camera's optical frame."""
        ...

    def static_transforms(self) -> tuple[RigidTransform, ...]: ...

    def transforms(self) -> tuple[RigidTransform, ...]:
        """The moving part of the tree, now."""
        ...

    def joint_state(self) -> JointState: ...

    def close(self) -> None: ...
