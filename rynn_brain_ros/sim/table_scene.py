"""A table in front of a Franka arm: what stands on it, how it is lit, where the camera hangs.

A `TableScene` is plain data; `scene_spec` turns it into a MuJoCo model. The arm's base frame
``panda_link0`` is the world, z = 0 the table's top.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rynn_brain_ros.geometry import DepthNoise, from_matrix
from rynn_brain_ros.sim.objects import HIDDEN_GROUP, add_paints, add_thing
from rynn_brain_ros.sim.panda import (
    BASE_FRAME,
    FINGER_BODIES,
    FINGERS,
    HAND,
    JOINTS,
    MAX_WIDTH_M,
    READY,
    panda_spec,
)
from rynn_brain_ros.sim.panda_meshes import MESHES, PLAIN, wear_meshes
from rynn_brain_ros.sim.rendering import load_mujoco
from rynn_brain_ros.sim.table_furnishing import Drawer, Filling, add_drawer, add_filling
from rynn_brain_ros.sim.tabletop import Thing
from rynn_brain_ros.values import InputError, Point2, RigidTransform, Vector3

FRONT_FRAME = "front_color_optical_frame"
WRIST_FRAME = "wrist_color_optical_frame"
TABLE_TOP = "table top"
"""The geom that is seen of the table."""
FRONT_EYE_M: Vector3 = (1.28, -0.36, 0.74)
FRONT_TARGET_M: Vector3 = (0.40, -0.01, 0.19)
FOVY_DEG: Mapping[str, float] = {"front": 45.0, "wrist": 70.0}

_WOOD: tuple[Vector3, Vector3] = ((0.62, 0.56, 0.49), (0.57, 0.51, 0.45))

_TABLE_HALF_M: Point2 = (0.575, 0.7)
_TABLE_CENTER_M: Point2 = (0.375, 0.0)
_SKY: Vector3 = (0.72, 0.74, 0.76)


def look_at(eye_m: Vector3, target_m: Vector3, roll_rad: float = 0.0) -> RigidTransform:
    """``T_base_camera`` of an optical frame at ``eye_m`` whose z axis meets ``target_m``; the
    picture's horizon is level but for ``roll_rad``."""
    forward = np.subtract(target_m, eye_m)
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    level = np.stack([right, np.cross(forward, right), forward], axis=1)
    c, s = math.cos(roll_rad), math.sin(roll_rad)
    matrix = np.eye(4)
    matrix[:3, :3] = level @ np.array([(c, -s, 0), (s, c, 0), (0, 0, 1)])
    matrix[:3, 3] = eye_m
    return from_matrix(matrix, BASE_FRAME, FRONT_FRAME)


def _front() -> RigidTransform:
    return look_at(FRONT_EYE_M, FRONT_TARGET_M)


def wrist_mount() -> RigidTransform:
    """``T_hand_camera``: beside the hand, tilted so that the fingertips are in the picture."""
    tilt = math.radians(12)
    down = np.array((-math.cos(tilt), 0.0, -math.sin(tilt)))
    forward = np.array((-math.sin(tilt), 0.0, math.cos(tilt)))
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([np.cross(down, forward), down, forward], axis=1)
    matrix[:3, 3] = (0.075, 0.0, 0.02)
    return from_matrix(matrix, HAND, WRIST_FRAME)


@dataclass(frozen=True)
class Look:
    """What differs from one table to the next though the same things stand on it: the two
    colours and the pattern of its top (``flat``, ``checker``, ``gradient``), where the lamp is,
    how bright lamp and room are, 0…1, and what is drawn of the arm, one of
    `panda_meshes.ARM_LOOKS`."""

    table_rgb: tuple[Vector3, Vector3] = _WOOD
    pattern: str = "checker"
    lamp_m: Vector3 = (0.6, -0.6, 2.2)
    lamp: float = 0.5
    room: float = 0.4
    arm: str = PLAIN


@dataclass(frozen=True)
class TableScene:
    """Everything that a `TableWorld` is made from. ``seed`` is that of its sensors' noise;
    ``fillings`` are in hollow things, and a ``drawer`` stands where there is one."""

    things: tuple[Thing, ...]
    T_base_front: RigidTransform = field(default_factory=_front)
    look: Look = Look()
    noise: DepthNoise = field(default_factory=DepthNoise)
    seed: int = 0
    fillings: tuple[Filling, ...] = ()
    drawer: Drawer | None = None

    def thing(self, name: str) -> Thing:
        """`InputError` where there is none of that name."""
        for thing in self.things:
            if thing.name == name:
                return thing
        names = ", ".join(thing.name for thing in self.things)
        raise InputError(f"nothing on the table is called '{name}'; there are: {names}")


def scene_spec(scene: TableScene, width: int, height: int) -> Any:
    """The ``mjSpec`` of arm, table, cameras and things, for pictures of up to this size."""
    mj = load_mujoco()
    spec = panda_spec()
    _add_finger_sides(mj, spec)
    _set_pictures(spec, width, height)
    if scene.look.arm == MESHES:
        wear_meshes(spec)
    add_paints(spec)
    _add_room(mj, spec, scene.look)
    _add_cameras(mj, spec, scene)
    for thing in scene.things:
        add_thing(spec, thing)
    for filling in scene.fillings:
        add_filling(spec, filling, scene.thing(filling.vessel))
    if scene.drawer is not None:
        add_drawer(spec, scene.drawer)
    return spec


def ready_data(model: Any) -> Any:
    """``mjData`` with the arm at READY, commanded to stay there, and the hand open."""
    mj = load_mujoco()
    data = mj.MjData(model)
    for name, angle in zip(JOINTS, READY, strict=True):
        data.joint(name).qpos[0] = angle
        data.actuator(name).ctrl[0] = angle
    for name in FINGERS:
        data.joint(name).qpos[0] = MAX_WIDTH_M / 2
    data.actuator(HAND).ctrl[0] = MAX_WIDTH_M
    mj.mj_forward(model, data)
    return data


def _add_finger_sides(mj: Any, spec: Any) -> None:
    """Bare metal on the sides of the fingertips, as on the real ones, whose rubber is on the inner
    faces only: what is pushed with rubber jams on the table. Nothing gripped touches them."""
    for name in FINGER_BODIES:
        for side in (-1.0, 1.0):
            spec.body(name).add_geom(
                type=mj.mjtGeom.mjGEOM_BOX,
                pos=(side * 0.011, 0.0072, 0.0275),
                size=(0.0005, 0.0053, 0.0265),
                mass=0.0,
                friction=(0.25, 0.005, 0.0001),
                priority=1,
                condim=4,
                solref=(0.005, 1.0),
                group=HIDDEN_GROUP,
            )


def _set_pictures(spec: Any, width: int, height: int) -> None:
    spec.stat.extent = 1.0
    spec.visual.map.znear, spec.visual.map.zfar = 0.02, 20.0
    spec.visual.quality.offsamples = 0
    spec.visual.quality.shadowsize = 0
    spec.visual.global_.offwidth, spec.visual.global_.offheight = width, height


def _add_room(mj: Any, spec: Any, look: Look) -> None:
    room = spec.worldbody
    spec.visual.headlight.ambient = [look.room] * 3
    spec.visual.headlight.diffuse = [0.15] * 3
    spec.visual.headlight.specular = [0.0] * 3
    aim = np.subtract((0.45, 0.0, 0.0), look.lamp_m)
    room.add_light(
        pos=look.lamp_m,
        dir=aim,
        cutoff=90,
        exponent=1,
        castshadow=False,
        diffuse=[look.lamp] * 3,
        specular=[0.2] * 3,
    )
    spec.add_texture(
        name="sky",
        type=mj.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mj.mjtBuiltin.mjBUILTIN_FLAT,
        rgb1=_SKY,
        rgb2=_SKY,
        width=16,
        height=96,
    )
    _add_table_top(mj, spec, look)
    box, grey = mj.mjtGeom.mjGEOM_BOX, (0.45, 0.45, 0.46, 1)
    room.add_geom(
        name="floor",
        type=mj.mjtGeom.mjGEOM_PLANE,
        size=(6, 6, 0.1),
        pos=(0.4, 0, -0.75),
        rgba=(0.40, 0.41, 0.43, 1),
    )
    room.add_geom(
        name="wall", type=box, size=(0.05, 6, 1.6), pos=(-1.6, 0, 0.8), rgba=(0.78, 0.79, 0.80, 1)
    )
    for number, (x, y) in enumerate([(-0.17, -0.66), (-0.17, 0.66), (0.91, -0.66), (0.91, 0.66)]):
        room.add_geom(
            name=f"leg {number}",
            type=box,
            size=(0.025, 0.025, 0.355),
            pos=(x, y, -0.395),
            rgba=grey,
        )


def _add_table_top(mj: Any, spec: Any, look: Look) -> None:
    patterns = {
        "flat": mj.mjtBuiltin.mjBUILTIN_FLAT,
        "checker": mj.mjtBuiltin.mjBUILTIN_CHECKER,
        "gradient": mj.mjtBuiltin.mjBUILTIN_GRADIENT,
    }
    spec.add_texture(
        name="table",
        type=mj.mjtTexture.mjTEXTURE_2D,
        builtin=patterns[look.pattern],
        rgb1=look.table_rgb[0],
        rgb2=look.table_rgb[1],
        width=256,
        height=256,
    )
    material = spec.add_material(name="table", specular=0.1, shininess=0.1)
    material.textures[mj.mjtTextureRole.mjTEXROLE_RGB] = "table"
    material.texrepeat = [5, 7] if look.pattern == "checker" else [1, 1]
    box = mj.mjtGeom.mjGEOM_BOX
    spec.worldbody.add_geom(
        name=TABLE_TOP,
        type=box,
        size=(*_TABLE_HALF_M, 0.02),
        pos=(*_TABLE_CENTER_M, -0.02),
        material="table",
        contype=0,
        conaffinity=0,
    )
    # What collides is thicker than what is seen: a hand that comes down hard must not get through.
    spec.worldbody.add_geom(
        name="table",
        type=box,
        size=(*_TABLE_HALF_M, 0.2),
        pos=(*_TABLE_CENTER_M, -0.2),
        friction=(1.0, 0.01, 0.0005),
        condim=4,
        solref=(0.005, 1.0),
        group=HIDDEN_GROUP,
    )


def _add_cameras(mj: Any, spec: Any, scene: TableScene) -> None:
    for name, body, pose in (
        ("front", spec.worldbody, scene.T_base_front),
        ("wrist", spec.body(HAND), wrist_mount()),
    ):
        x, y, z, w = pose.rotation_xyzw
        quat = np.zeros(4)
        # A MuJoCo camera looks along −z with y up: half a turn about x from the optical frame.
        mj.mju_mulQuat(quat, np.array([w, x, y, z]), np.array([0.0, 1.0, 0.0, 0.0]))
        body.add_camera(name=name, pos=pose.translation_m, quat=quat, fovy=FOVY_DEG[name])
