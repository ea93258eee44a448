"""A window onto a world, where there is a screen.

It shows a copy of the world: what a person does in the window changes nothing, and an episode goes
as it goes when nobody watches.
"""

from __future__ import annotations

import copy
import importlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from rynn_brain_ros.sim.rendering import load_mujoco
from rynn_brain_ros.values import InputError, Vector3

SPEED = 2.0
"""How much faster than the robot's own time one watches."""

Rgba = tuple[float, float, float, float]
TARGET: Rgba = (0.1, 0.9, 0.9, 0.5)
ALLOWED: Rgba = (0.2, 0.9, 0.3, 0.6)
REFUSED: Rgba = (0.9, 0.1, 0.1, 0.6)

_INSTEAD = "leave --view out, and watch the film and the report in the run's folder afterwards"
_TRY_S, _CLOSE_S = 20, 10
_TRY = """
import glfw
glfw.ERROR_REPORTING = "exception"
glfw.init()
glfw.window_hint(glfw.VISIBLE, glfw.FALSE)
glfw.create_window(64, 64, "", None, None)
"""
_TARGET_SHARE, _PATH_SHARE = 0.015, 0.003
"""Radii of what is marked, over the distance from which one looks."""


class Watched(Protocol):
    """A world that can be shown. Its fixed frame is that of its MuJoCo model."""

    @property
    def model(self) -> Any: ...

    def copy_state(self, data: Any) -> None:
        """Puts everything in ``data``, an ``mjData`` of ``model``, where it is now."""
        ...


@dataclass(frozen=True)
class Viewpoint:
    """From where one looks at first, as MuJoCo's free camera has it, and the geom groups that one
    looks through."""

    middle_m: Vector3
    distance_m: float
    azimuth_deg: float
    elevation_deg: float
    hidden: tuple[int, ...] = ()


def check_screen() -> None:
    """`InputError` where no window can be opened; MuJoCo's viewer itself would wait forever."""
    screens = (os.environ.get("DISPLAY", ""), os.environ.get("WAYLAND_DISPLAY", ""))
    if sys.platform.startswith("linux") and not any(screens):
        raise InputError(
            "there is no screen to show a window on (neither DISPLAY nor WAYLAND_DISPLAY is set): "
            + _INSTEAD
        )
    _try_window(screens)


@cache
def _try_window(screens: tuple[str, str]) -> None:
    """In a process of its own, because libraries for windows end the one that they fail in.
    ``screens`` are those of the environment."""
    try:
        tried = subprocess.run(
            [sys.executable, "-c", _TRY],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TRY_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(f"the screen does not answer within {_TRY_S} s: {_INSTEAD}") from error
    if tried.returncode != 0:
        why = (tried.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        raise InputError(f"no window can be opened ({why}): {_INSTEAD}")


class Window:
    """MuJoCo's viewer, kept in step with a world. A `Controller`.

    Closing the window closes only the window. `InputError` where none can be opened.
    """

    def __init__(self, world: Watched, view: Viewpoint) -> None:
        check_screen()
        self._mj, self._world, self._view = load_mujoco(), world, view
        self._model = copy.copy(world.model)
        self._data = self._mj.MjData(self._model)
        self._move()
        viewer = importlib.import_module("mujoco.viewer")
        others = threading.enumerate()
        try:
            self._viewer = viewer.launch_passive(
                self._model, self._data, show_left_ui=False, show_right_ui=False
            )
        except RuntimeError as error:
            raise InputError(f"no window could be opened ({error}): {_INSTEAD}") from error
        self._threads = [thread for thread in threading.enumerate() if thread not in others]
        with self._viewer.lock():
            self._look()
        self._due = time.monotonic()

    def __call__(self, period_s: float) -> None:
        if not self._viewer.is_running():
            return
        self._move()
        self._viewer.sync()
        self._due = max(self._due + period_s / SPEED, time.monotonic() - period_s)
        time.sleep(max(0.0, self._due - time.monotonic()))

    def mark(
        self, places_m: Sequence[Vector3], path_m: Sequence[Vector3] = (), color: Rgba = TARGET
    ) -> None:
        """Shows balls at places and a line along a path, in the world's fixed frame, instead of
        what was marked before."""
        if not self._viewer.is_running():
            return
        distance_m = self._view.distance_m
        with self._viewer.lock():
            self._viewer.user_scn.ngeom = 0
            for place_m in places_m:
                self._ball(place_m, _TARGET_SHARE * distance_m, color)
            for a_m, b_m in pairwise(path_m):
                self._line(a_m, b_m, _PATH_SHARE * distance_m, color)
        self._viewer.sync()

    def close(self) -> None:
        """Returns when all of it is gone: a process that ends before crashes."""
        self._viewer.close()
        for thread in self._threads:
            thread.join(_CLOSE_S)

    def _move(self) -> None:
        self._world.copy_state(self._data)
        self._mj.mj_kinematics(self._model, self._data)
        self._mj.mj_comPos(self._model, self._data)
        self._mj.mj_camlight(self._model, self._data)

    def _look(self) -> None:
        camera, view = self._viewer.cam, self._view
        camera.lookat[:], camera.distance = view.middle_m, view.distance_m
        camera.azimuth, camera.elevation = view.azimuth_deg, view.elevation_deg
        self._viewer.opt.geomgroup[list(view.hidden)] = 0

    def _new_geom(self, kind: Any, size: Sequence[float], at_m: Vector3, color: Rgba) -> Any:
        scene = self._viewer.user_scn
        geom = scene.geoms[scene.ngeom]
        rgba = np.array(color, np.float32)
        self._mj.mjv_initGeom(geom, kind, np.array(size), np.array(at_m), np.eye(3).ravel(), rgba)
        scene.ngeom += 1
        return geom

    def _ball(self, at_m: Vector3, radius_m: float, color: Rgba) -> None:
        self._new_geom(self._mj.mjtGeom.mjGEOM_SPHERE, (radius_m, 0, 0), at_m, color)

    def _line(self, a_m: Vector3, b_m: Vector3, radius_m: float, color: Rgba) -> None:
        capsule = self._mj.mjtGeom.mjGEOM_CAPSULE
        geom = self._new_geom(capsule, (radius_m, 0, 0), a_m, color)
        self._mj.mjv_connector(geom, capsule, radius_m, np.array(a_m), np.array(b_m))
