"""Colour and depth pictures of a MuJoCo model, without a screen.

The OpenGL library is chosen here, so nobody has to set an environment variable before importing
anything. Depth comes out of the same pass as colour: half the time of `mujoco.Renderer`, which
draws everything twice.
"""

from __future__ import annotations

import ctypes.util
import importlib
import logging
import math
import os
import sys
import threading
from collections.abc import Iterable
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.extras import pip_install
from rynn_brain_ros.geometry import DepthNoise
from rynn_brain_ros.sim.tabletop import add_depth_noise
from rynn_brain_ros.values import CameraInfo, InputError

_LOG = logging.getLogger(__name__)

RGB = NDArray[np.uint8]
Depth = NDArray[np.float32]

MAX_DEPTH_M = 6.0
"""Beyond, a depth camera of this kind measures nothing."""
_MAX_GEOMS = 2000
_GRAIN = 3
"""Colour values wander by up to this much from frame to frame."""
_BACKENDS = (("egl", "EGL"), ("osmesa", "OSMesa"))
_NO_GL = (
    "no OpenGL library to draw pictures with{why}; "
    "install one: sudo apt install libegl1 libegl-mesa0 libgl1-mesa-dri"
)


@cache
def load_mujoco() -> Any:
    """The module ``mujoco``; `InputError` where it is not installed."""
    try:
        mujoco = importlib.import_module("mujoco")
    except ImportError as error:
        raise InputError(
            f"the simulator needs MuJoCo, which cannot be imported ({error}); "
            f"install it: {pip_install('sim')}"
        ) from error
    # MuJoCo's own way is a file MUJOCO_LOG.TXT in whatever folder one happens to be in.
    mujoco.set_mju_user_warning(_LOG.warning)
    return mujoco


def _backend() -> str:
    """MUJOCO_GL if it is set, else the first library that is installed."""
    chosen = os.environ.get("MUJOCO_GL", "").strip().lower()
    if chosen or not sys.platform.startswith("linux"):
        return chosen
    installed = [name for name, library in _BACKENDS if ctypes.util.find_library(library)]
    if not installed:
        raise InputError(_NO_GL.format(why=""))
    return installed[0]


@cache
def _open_context(backend: str, thread_id: int) -> Any:
    """One for each thread and kept: a driver compiles its shaders anew for every context, which
    takes longer than all else about opening a world."""
    mj = load_mujoco()
    try:
        module = importlib.import_module(f"mujoco.{backend}") if backend else mj
        return module.GLContext(1, 1)
    except (ImportError, AttributeError, RuntimeError, OSError, mj.FatalError) as error:
        raise InputError(_NO_GL.format(why=f" ({error})")) from error


class SceneRenderer:
    """Draws one model, in pictures of one size. Use it from one thread and close it.

    The model's offscreen buffer (``vis.global_.offwidth``, ``offheight``) must be large enough.
    No shadows and no multisampling: they cost two to four times as much as all the rest.
    `InputError` where there is no OpenGL.
    """

    def __init__(self, model: Any, width: int, height: int) -> None:
        self._mj = mj = load_mujoco()
        self._model, self.width, self.height = model, width, height
        self._gl = _open_context(_backend(), threading.get_ident())
        self._gl.make_current()
        self._context = mj.MjrContext(model, mj.mjtFontScale.mjFONTSCALE_100.value)
        self._context.readDepthMap = mj.mjtDepthMap.mjDEPTH_ZEROFAR
        self._rect = mj.MjrRect(0, 0, width, height)
        self._scene = mj.MjvScene(model, _MAX_GEOMS)
        for flag in (mj.mjtRndFlag.mjRND_SHADOW, mj.mjtRndFlag.mjRND_REFLECTION):
            self._scene.flags[flag] = 0

    def color_and_depth(
        self, data: Any, camera: str, groups: Iterable[int] | None = None
    ) -> tuple[RGB, Depth]:
        """uint8 [H, W, 3] and float32 metres along the optical axis [H, W], 0 where nothing is
        or where it is beyond `MAX_DEPTH_M`: exact, without a sensor's noise. ``groups`` draws
        only geoms of these groups, as if nothing else were there."""
        self._update(data, camera, groups)
        rgb, buffer = self._draw()
        return rgb, self._metres(buffer)

    def geoms_seen(
        self, data: Any, camera: str, groups: Iterable[int] | None = None
    ) -> NDArray[np.int32]:
        """The id of the geom that each pixel shows [H, W], −1 where none; ``groups`` as above."""
        mj = self._mj
        self._update(data, camera, groups)
        flags = (mj.mjtRndFlag.mjRND_SEGMENT, mj.mjtRndFlag.mjRND_IDCOLOR)
        for flag in flags:
            self._scene.flags[flag] = 1
        rgb, _ = self._draw()
        for flag in flags:
            self._scene.flags[flag] = 0
        segment = rgb.astype(np.int32) @ np.array([1, 1 << 8, 1 << 16], np.int32)
        return np.asarray(self._geom_of_segment()[segment], np.int32)

    def close(self) -> None:
        if self._context is None:
            return
        self._gl.make_current()
        self._context.free()
        self._context = None

    def _update(self, data: Any, camera: str, groups: Iterable[int] | None = None) -> None:
        mj = self._mj
        option = mj.MjvOption()
        if groups is not None:
            option.geomgroup[:] = 0
            option.geomgroup[list(groups)] = 1
        view = mj.MjvCamera()
        view.type = mj.mjtCamera.mjCAMERA_FIXED
        view.fixedcamid = self._model.camera(camera).id
        everything = mj.mjtCatBit.mjCAT_ALL.value
        mj.mjv_updateScene(self._model, data, option, None, view, everything, self._scene)

    def _draw(self) -> tuple[RGB, Depth]:
        """OpenGL's rows begin at the bottom: both come out flipped to begin at the top."""
        rgb = np.empty((self.height, self.width, 3), np.uint8)
        buffer = np.empty((self.height, self.width), np.float32)
        self._gl.make_current()
        # Every time: another world in this thread may have drawn into its own in between.
        self._mj.mjr_setBuffer(self._mj.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self._mj.mjr_render(self._rect, self._scene, self._context)
        self._mj.mjr_readPixels(rgb, buffer, self._rect, self._context)
        return np.ascontiguousarray(rgb[::-1]), buffer[::-1]

    def _metres(self, buffer: Depth) -> Depth:
        """From the reversed depth buffer: 1 at the near plane, 0 at the far plane."""
        near = self._model.vis.map.znear * self._model.stat.extent
        far = self._model.vis.map.zfar * self._model.stat.extent
        z_m = near * far / (near + buffer.astype(np.float64) * (far - near))
        return np.asarray(np.where(z_m < MAX_DEPTH_M, z_m, 0.0), np.float32)

    def _geom_of_segment(self) -> NDArray[np.int32]:
        geoms = self._scene.geoms[: self._scene.ngeom]
        lookup = np.full(self._scene.ngeom + 1, -1, np.int32)
        is_geom = self._mj.mjtObj.mjOBJ_GEOM.value
        for geom in geoms:
            if geom.segid >= 0 and geom.objtype == is_geom:
                lookup[geom.segid + 1] = geom.objid
        return lookup


def pinhole_info(width: int, height: int, fovy_deg: float, frame_id: str) -> CameraInfo:
    """Intrinsics of a MuJoCo camera: square pixels, no distortion, the optical axis through the
    middle of the picture, which is (width − 1) / 2 when pixel centres are whole numbers."""
    f = height / 2 / math.tan(math.radians(fovy_deg) / 2)
    cx, cy = (width - 1) / 2, (height - 1) / 2
    return CameraInfo(
        width,
        height,
        (f, 0.0, cx, 0.0, f, cy, 0.0, 0.0, 1.0),
        d=(0.0,) * 5,
        p=(f, 0.0, cx, 0.0, 0.0, f, cy, 0.0, 0.0, 0.0, 1.0, 0.0),
        frame_id=frame_id,
    )


def as_measured(z_m: Depth, noise: DepthNoise, rng: np.random.Generator) -> Depth:
    """Exact depth [H, W] as a depth camera gives it: noise, whole millimetres, holes (0)."""
    depth_mm = add_depth_noise(z_m.astype(np.float64), noise, rng)
    return np.asarray(depth_mm * np.float32(1e-3), np.float32)


def with_grain(rgb: RGB, rng: np.random.Generator) -> RGB:
    """The small restlessness of a real colour camera, in whole colour values."""
    grain = rng.integers(0, 2 * _GRAIN + 1, rgb.shape, np.uint8)
    return np.asarray(cv2.subtract(cv2.add(rgb, grain), np.full_like(rgb, _GRAIN)), np.uint8)
