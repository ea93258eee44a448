"""The Panda as its maker shaped it, drawn in the place of our own capsules and boxes.

The surfaces come with the package ``rtb-data`` (``pip install '.[meshes]'``; MIT): ten
STL files in metres, each in the frame of its link. They are only looked at. What collides, what
has mass and so every motion are the same with them and without, bit for bit.
"""

from __future__ import annotations

import importlib.resources
from pathlib import Path
from typing import Any

from rynn_brain_ros.extras import pip_install
from rynn_brain_ros.sim.objects import HIDDEN_GROUP
from rynn_brain_ros.sim.panda import FINGER_BODIES, HAND, ROBOT_GROUP
from rynn_brain_ros.sim.rendering import load_mujoco
from rynn_brain_ros.values import InputError

PLAIN, MESHES = "plain", "meshes"
ARM_LOOKS = (PLAIN, MESHES)
"""What can be drawn of the arm: our own shapes, which need nothing installed, or its maker's."""

_FOLDER = "meshes/FRANKA-EMIKA/Panda"
_LINKS = {f"panda_link{number}": (f"link{number}", "panda white") for number in range(8)}
_FINGERS = dict.fromkeys(FINGER_BODIES, ("finger", "panda dark"))
_WORN = {**_LINKS, HAND: ("hand", "panda white"), **_FINGERS}
"""By body: its file and its paint."""


def check_meshes() -> None:
    """`InputError` where ``rtb-data`` is not installed or does not hold them."""
    _files()


def wear_meshes(spec: Any) -> None:
    """Hides what `panda.panda_spec` draws, and draws the meshes there; errors as `check_meshes`."""
    mj, files = load_mujoco(), _files()
    for geom in spec.geoms:
        if geom.group == ROBOT_GROUP:
            geom.group = HIDDEN_GROUP
    shell = mj.mjtMeshInertia.mjMESH_INERTIA_SHELL  # the surfaces are not closed
    for name, path in files.items():
        spec.add_mesh(name=f"panda {name}", file=str(path), inertia=shell)
    for body, (name, paint) in _WORN.items():
        spec.body(body).add_geom(
            type=mj.mjtGeom.mjGEOM_MESH,
            meshname=f"panda {name}",
            material=paint,
            mass=0.0,
            contype=0,
            conaffinity=0,
            group=ROBOT_GROUP,
        )


def _files() -> dict[str, Path]:
    try:
        package = Path(str(importlib.resources.files("rtbdata")))
    except ModuleNotFoundError as error:
        raise InputError(
            "the arm's real shapes come with the package rtb-data, which is not installed; "
            f"install it: {pip_install('meshes')}"
        ) from error
    files = {name: package / _FOLDER / f"{name}.stl" for name, _ in _WORN.values()}
    for path in files.values():
        if not path.is_file():
            raise InputError(f"{path} is missing; install it: {pip_install('meshes')}")
    return files
