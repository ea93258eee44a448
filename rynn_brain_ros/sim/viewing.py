"""A window onto a world, where there is a screen."""

from __future__ import annotations

import importlib
import os
import sys
import time
from typing import Any

from rynn_brain_ros.sim.rendering import load_mujoco
from rynn_brain_ros.values import InputError

SPEED = 2.0
"""How much faster than the robot's own time one watches."""


class Window:
    """MuJoCo's viewer, kept in step with a world of ``model`` and ``data``. A `Controller`.

    Closing the window closes only the window. Raises `InputError` without a screen.
    """

    def __init__(self, model: Any, data: Any) -> None:
        on_linux = sys.platform.startswith("linux")
        if on_linux and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise InputError("there is no screen to show a window on: leave --view out")
        load_mujoco()
        viewer = importlib.import_module("mujoco.viewer")
        try:
            self._viewer = viewer.launch_passive(model, data)
        except RuntimeError as error:
            raise InputError(f"no window could be opened ({error}): leave --view out") from error
        self._due = time.monotonic()

    def __call__(self, period_s: float) -> None:
        if not self._viewer.is_running():
            return
        self._viewer.sync()
        self._due = max(self._due + period_s / SPEED, time.monotonic() - period_s)
        time.sleep(max(0.0, self._due - time.monotonic()))
