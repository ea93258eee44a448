"""Where a thing is now, measured in two pictures in the same way.

What is seen of a thing is not its middle; but seen from the same place before and after, its
visible surface moves as the thing does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.geometry import Capsule, DepthView, apply, ray_grid
from rynn_brain_ros.planning.appearance import Appearance, Picture
from rynn_brain_ros.planning.arm import Scene
from rynn_brain_ros.planning.holding import Shifted, Surface
from rynn_brain_ros.values import Refusal, RefusalCode, RigidTransform, SelectedFrame, Vector3

_MIN_PIXELS = 12
_CLEAR_M = 0.004
"""Lower over the support, what has the thing's colours may be its reflection or its support."""


@dataclass(frozen=True)
class Shown:
    """A picture, its depth, and ``T_base_camera``."""

    view: DepthView
    rgb: Picture
    T_base_camera: RigidTransform

    def places(self, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Where the pixels of ``mask`` [H, W] that have a depth are, [N, 3] in the base frame."""
        rows, columns = np.nonzero(mask & (self.view.depth_m > 0))
        rays = ray_grid(self.view.camera)[rows, columns]
        return apply(self.T_base_camera, rays * self.view.depth_m[rows, columns, None])


def surface_of(
    looks: Appearance, within: Capsule, support_z_m: float, shown: Shown
) -> Surface | None:
    """The visible surface of what has the colours ``looks`` and stands ``within`` a part of the
    base frame; None where next to nothing is seen of it."""
    points = shown.places(looks.found_in(shown.rgb))
    own = points[within.holds(points) & (points[:, 2] > support_z_m + _CLEAR_M)]
    if len(own) < _MIN_PIXELS:
        return None
    x, y, z = (float(value) for value in np.median(own, axis=0))
    return Surface((x, y, z), len(own))


@dataclass(frozen=True)
class Shift:
    """What a push or a pull is to do: a thing's middle from one place to another, its size, and
    the height of what it stands on; base frame."""

    from_m: Vector3
    to_m: Vector3
    size_m: Vector3
    support_z_m: float


def remember(
    shift: Shift, looks: Appearance, frame: SelectedFrame, scene: Scene
) -> Shifted | Refusal:
    """What is needed to see later whether the thing that ``frame`` shows in the colours ``looks``
    has moved; TOO_FEW_VALID where too little of it is seen."""
    seen = scene.seen(frame)
    if isinstance(seen, Refusal):
        return seen
    rgb = scene.opened.color(frame)
    within = Capsule(shift.from_m, shift.to_m, max(shift.size_m))
    surface = surface_of(looks, within, shift.support_z_m, Shown(seen[0], rgb, seen[1]))
    if surface is None:
        text = "too little is seen of what would be moved to know it again"
        return Refusal(RefusalCode.TOO_FEW_VALID, text)
    return Shifted(looks, shift.size_m, shift.from_m, shift.to_m, shift.support_z_m, surface)
