"""What a table may have besides the things to grip: beads in a mug, and a drawer with a handle."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rynn_brain_ros.sim.objects import THING_GROUP, WALL_M, paint_name
from rynn_brain_ros.sim.rendering import load_mujoco
from rynn_brain_ros.sim.tabletop import Thing
from rynn_brain_ros.values import Point2, Vector3

_BEAD_KG = 0.003
_GRIPPY = (1.2, 0.01, 0.0005)
_BEAD_FRICTION = (0.4, 0.001, 0.0001)


@dataclass(frozen=True)
class Filling:
    """Beads of one colour in the vessel of that name."""

    vessel: str
    color: str
    count: int = 8
    diameter_m: float = 0.016


def bead_name(filling: Filling, number: int) -> str:
    return f"{filling.vessel} bead {number}"


def add_filling(spec: Any, filling: Filling, vessel: Thing) -> None:
    """Adds free balls to an ``mjSpec``, in layers within the vessel as it stands on z = 0."""
    mj = load_mujoco()
    for number, place in zip(range(filling.count), _layers(filling, vessel), strict=False):
        body = spec.worldbody.add_body(name=bead_name(filling, number), pos=place)
        body.add_freejoint(name=bead_name(filling, number))
        body.add_geom(
            type=mj.mjtGeom.mjGEOM_SPHERE,
            size=(filling.diameter_m / 2, 0, 0),
            mass=_BEAD_KG,
            friction=_BEAD_FRICTION,
            priority=1,
            condim=3,
            solref=(0.005, 1.0),
            group=THING_GROUP,
            material=paint_name(filling.color),
        )


@dataclass(frozen=True)
class Drawer:
    """A low chest with one drawer that is pulled out along −y by a block in front of it, which a
    hand can grip from above. ``xy_m`` is the middle of its front, ``out_m`` how far it is out."""

    xy_m: Point2 = (0.5, 0.30)
    color: str = "purple"
    handle_color: str = "orange"
    out_m: float = 0.0


DRAWER, CHEST = "drawer", "chest"
TRAVEL_M = 0.12
_CHEST_M: Vector3 = (0.20, 0.16, 0.075)
"""Width, depth, height."""
_BOARD_M = 0.006
_TRAY_M: Vector3 = (0.17, 0.14, 0.05)
_HANDLE_M: Vector3 = (0.02, 0.03, 0.05)
_GAP_M = 0.05
"""Between the drawer's front and its handle: room for a finger."""
_FRICTION_N, _DAMPING = 1.5, 4.0


def add_drawer(spec: Any, drawer: Drawer) -> None:
    """Adds a fixed chest and the body `DRAWER`, which slides on a joint of that name."""
    box = load_mujoco().mjtGeom.mjGEOM_BOX
    x, y = drawer.xy_m
    width, depth, height = _CHEST_M
    wood = {"type": box, "material": paint_name(drawer.color), "solref": (0.005, 1.0)}
    boards: dict[str, tuple[Vector3, Vector3]] = {
        f"{CHEST} top": ((0, depth / 2, height - _BOARD_M / 2), (width, depth, _BOARD_M)),
        f"{CHEST} back": ((0, depth, height / 2), (width, _BOARD_M, height)),
        f"{CHEST} left": ((-width / 2, depth / 2, height / 2), (_BOARD_M, depth, height)),
        f"{CHEST} right": ((width / 2, depth / 2, height / 2), (_BOARD_M, depth, height)),
    }
    for name, (middle, size) in boards.items():
        place = (x + middle[0], y + middle[1], middle[2])
        spec.worldbody.add_geom(name=name, pos=place, size=_half(size), **wood)
    body = spec.worldbody.add_body(name=DRAWER, pos=(x, y, 0.004))
    body.add_joint(
        name=DRAWER,
        type=load_mujoco().mjtJoint.mjJNT_SLIDE,
        axis=(0, -1, 0),
        range=(0.0, TRAVEL_M),
        limited=True,
        frictionloss=_FRICTION_N,
        damping=_DAMPING,
    )
    w, d, h = _TRAY_M
    for middle, size in (
        ((0, 0, h / 2), (w, _BOARD_M, h)),
        ((0, d / 2, _BOARD_M / 2), (w, d, _BOARD_M)),
        ((0, d, h / 4), (w, _BOARD_M, h / 2)),
        ((0, -_GAP_M / 2, 0.015), (0.01, _GAP_M, 0.01)),
    ):
        body.add_geom(pos=middle, size=_half(size), mass=0.05, contype=0, conaffinity=0, **wood)
    handle = {**wood, "material": paint_name(drawer.handle_color)}
    place = (0, -_GAP_M - _HANDLE_M[1] / 2, _HANDLE_M[2] / 2)
    body.add_geom(pos=place, size=_half(_HANDLE_M), mass=0.05, friction=_GRIPPY, **handle)


def handle_m(drawer: Drawer, out_m: float) -> Vector3:
    """The middle of the handle's top, with the drawer so far out."""
    x, y = drawer.xy_m
    return (x, y - out_m - _GAP_M - _HANDLE_M[1] / 2, 0.004 + _HANDLE_M[2])


def _half(size: Vector3) -> Vector3:
    return (size[0] / 2, size[1] / 2, size[2] / 2)


def _layers(filling: Filling, vessel: Thing) -> Iterator[Vector3]:
    """Rings of places, one over the other, that do not touch."""
    x, y = vessel.xy_m
    size_m = filling.diameter_m
    ring_m = vessel.size_m[0] / 2 - WALL_M - 0.6 * size_m
    n = max(1, int(math.tau * ring_m / (1.1 * size_m)))
    z = WALL_M + 0.6 * size_m
    while True:
        for k in range(n):
            angle = math.tau * k / n
            yield (x + ring_m * math.cos(angle), y + ring_m * math.sin(angle), z)
        z += 1.1 * size_m
