"""A Franka Panda arm with its hand, built in code as a MuJoCo model: nothing to download.

The chain is Franka's published one (Franka Control Interface documentation, "Denavit–Hartenberg
parameters", Craig's convention), and so are the limits ("Limits for Panda"). Names are those of
MoveIt's Panda. The shapes are our own capsules, cylinders and boxes.

``panda_link0`` is at the world's origin, z up, standing on z = 0.
"""

from __future__ import annotations

import math
from typing import Any

from rynn_brain_ros.sim.rendering import load_mujoco
from rynn_brain_ros.values import Vector3

BASE_FRAME = "panda_link0"
TCP_FRAME = "panda_tcp"
TCP_SITE = "tcp"
HAND = "panda_hand"
"""Name of the hand's body and of the actuator that moves both fingers."""
JOINTS = (
    *("panda_joint1", "panda_joint2", "panda_joint3", "panda_joint4"),
    *("panda_joint5", "panda_joint6", "panda_joint7"),
)
FINGERS = ("panda_finger_joint1", "panda_finger_joint2")
FINGER_BODIES = ("panda_leftfinger", "panda_rightfinger")
ROBOT_GROUP = 1
"""Geom group of everything that is drawn of the robot."""

READY = (0.0, -math.pi / 4, 0.0, -3 * math.pi / 4, 0.0, math.pi / 2, math.pi / 4)
"""MoveIt's posture of that name: the hand in front of the base, pointing down."""
LOWER = (-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973)
UPPER = (2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973)
"""Joint positions, rad."""
MAX_VELOCITY = (2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61)
"""rad/s."""
MAX_ACCELERATION = (15.0, 7.5, 10.0, 12.5, 15.0, 20.0, 20.0)
"""rad/s²."""
MAX_JERK = (7500.0, 3750.0, 5000.0, 6250.0, 7500.0, 10000.0, 10000.0)
"""rad/s³."""
MAX_TORQUE = (87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0)
"""N·m."""

MAX_WIDTH_M = 0.08
"""Between the open fingers."""
MAX_GRIP_N = 140.0
"""The most that the hand presses with (it may do so for long with 70 N)."""
FLANGE_M = 0.107
"""From joint 7 to the flange."""
TCP_M = 0.1034
"""From the flange to the tool centre point, between the fingertips."""
DH_CRAIG = (
    (0.0, 0.0, 0.333),
    (0.0, -math.pi / 2, 0.0),
    (0.0, math.pi / 2, 0.316),
    (0.0825, math.pi / 2, 0.0),
    (-0.0825, -math.pi / 2, 0.384),
    (0.0, math.pi / 2, 0.0),
    (0.088, math.pi / 2, 0.0),
)
"""(a [m], alpha [rad]) from the joint before, d [m] along its own axis, for joints 1…7."""

STIFFNESS = (4500.0, 4500.0, 3500.0, 3500.0, 2000.0, 2000.0, 2000.0)
"""Of the position servos, N·m/rad."""
SERVO_LAG_S = 0.05
"""Servo damping over stiffness: how far a servo trails behind without velocity feed-forward."""

_FINGER_STIFFNESS = 5000.0
_FINGER_DAMPING = 60.0
_FINGER_ROOT_M = 0.0584
_MASS_KG = (3.0, 2.5, 3.2, 3.6, 1.7, 1.6, 0.7)
_FINGER_KG = 0.03

_PAINTS = {
    "panda white": ((0.93, 0.93, 0.92, 1.0), 0.5),
    "panda dark": ((0.20, 0.21, 0.23, 1.0), 0.3),
    "panda grey": ((0.55, 0.56, 0.58, 1.0), 0.4),
}

_Capsule = tuple[Vector3, Vector3, float]
_BODIES: dict[int, tuple[_Capsule, ...]] = {
    0: (((-0.08, 0, 0.06), (0.0, 0, 0.06), 0.06), ((0, 0, 0.06), (0, 0, 0.09), 0.07)),
    1: (((0, 0, -0.18), (0, 0, -0.04), 0.06), ((0, -0.03, 0), (0, 0.03, 0), 0.06)),
    2: (((0, 0, 0), (0, -0.13, 0), 0.06),),
    3: (((0, 0, -0.13), (0, 0, -0.09), 0.06), ((0, 0, -0.07), (0.0825, 0.0, 0.0), 0.052)),
    4: (((0, 0, 0), (-0.0825, 0.07, 0), 0.05), ((-0.0825, 0.07, 0), (-0.0825, 0.1, 0), 0.058)),
    5: (((0, 0, -0.25), (0, 0, -0.2), 0.058), ((0, 0.04, -0.17), (0, 0.065, -0.02), 0.03)),
    6: (((0, 0, -0.06), (0, 0, 0.0), 0.05), ((0, 0, 0), (0.07, 0, 0), 0.045)),
    7: (((0, 0, -0.03), (0, 0, 0.06), 0.045),),
}
"""White capsules that touch, by link: both ends and radius, in the link's frame."""
_RINGS: dict[int, tuple[_Capsule, ...]] = {
    0: (((0, 0, 0.135), (0, 0, 0.155), 0.058),),
    1: (((0, -0.092, 0), (0, 0.092, 0), 0.045),),
    2: (((0, -0.195, 0), (0, -0.175, 0), 0.058),),
    4: (((0, 0, -0.062), (0, 0, 0.062), 0.042), ((-0.0825, 0.1, 0), (-0.0825, 0.165, 0), 0.052)),
    5: (((0, 0, -0.14), (0, 0, -0.06), 0.052),),
    6: (((0, 0, -0.115), (0, 0, 0.055), 0.036), ((0.088, -0.05, 0), (0.088, 0.05, 0), 0.035)),
    7: (((0, 0, 0.07), (0, 0, FLANGE_M), 0.0315),),
}
"""Dark cylinders that are only seen."""


def panda_spec() -> Any:
    """The ``mjSpec`` of the arm alone, with its physics options; add the rest of a world to it.

    Actuators: one position servo for each of `JOINTS` under the joint's name; one ``…_ramp`` for
    each, whose control in rad/s lets the servo's command move on by itself, so that commands may
    come more slowly than the physics step and motion stays smooth; and `HAND`, whose control is
    the distance between the fingers in metres. Gravity does not pull at the arm: the
    real one's controller compensates it.
    """
    mj = load_mujoco()
    spec = mj.MjSpec()
    spec.modelname = "panda"
    spec.compiler.degree = False
    spec.option.timestep = 0.002
    spec.option.integrator = mj.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mj.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 10
    for name, (rgba, shine) in _PAINTS.items():
        spec.add_material(name=name, rgba=rgba, specular=shine, shininess=shine)
    flange = _add_arm(mj, spec)
    _add_hand(mj, flange)
    _let_neighbours_touch(spec)
    _add_servos(mj, spec)
    return spec


def _add_arm(mj: Any, spec: Any) -> Any:
    """Returns the flange's body, ``panda_link8``."""
    body = spec.worldbody.add_body(name=BASE_FRAME)
    _add_shapes(mj, body, 0, 0.0)
    foot = ((-0.04, 0.0, 0.015), (0.11, 0.095, 0.015))
    _add_box(mj, body, *foot, "panda white")
    for number, (a, alpha, d) in enumerate(DH_CRAIG, start=1):
        position = (a, -d * math.sin(alpha), d * math.cos(alpha))
        turn = (math.cos(alpha / 2), math.sin(alpha / 2), 0.0, 0.0)
        body = body.add_body(name=f"panda_link{number}", pos=position, quat=turn, gravcomp=1)
        body.add_joint(
            name=JOINTS[number - 1],
            axis=(0, 0, 1),
            range=(LOWER[number - 1], UPPER[number - 1]),
            limited=True,
            damping=1.0,
            armature=0.1,
        )
        _add_shapes(mj, body, number, _MASS_KG[number - 1])
    return body.add_body(name="panda_link8", pos=(0, 0, FLANGE_M))


def _add_shapes(mj: Any, body: Any, number: int, mass_kg: float) -> None:
    capsules = _BODIES[number]
    for start, end, radius in capsules:
        body.add_geom(
            type=mj.mjtGeom.mjGEOM_CAPSULE,
            fromto=(*start, *end),
            size=(radius, 0, 0),
            mass=mass_kg / len(capsules),
            material="panda white",
            group=ROBOT_GROUP,
        )
    for start, end, radius in _RINGS.get(number, ()):
        body.add_geom(
            type=mj.mjtGeom.mjGEOM_CYLINDER,
            fromto=(*start, *end),
            size=(radius, 0, 0),
            mass=0.0,
            contype=0,
            conaffinity=0,
            material="panda dark",
            group=ROBOT_GROUP,
        )


def _add_box(
    mj: Any,
    body: Any,
    center: Vector3,
    half_size: Vector3,
    material: str,
    *,
    mass_kg: float = 0.0,
    **more: Any,
) -> None:
    body.add_geom(
        type=mj.mjtGeom.mjGEOM_BOX,
        pos=center,
        size=half_size,
        mass=mass_kg,
        material=material,
        group=ROBOT_GROUP,
        **more,
    )


def _add_hand(mj: Any, flange: Any) -> None:
    turn = (math.cos(math.pi / 8), 0, 0, -math.sin(math.pi / 8))
    hand = flange.add_body(name=HAND, quat=turn, gravcomp=1)
    _add_box(mj, hand, (0, 0, 0.031), (0.03, 0.102, 0.027), "panda grey", mass_kg=0.6)
    _add_box(mj, hand, (0, 0, 0.009), (0.032, 0.06, 0.009), "panda white", mass_kg=0.1)
    hand.add_site(name=TCP_SITE, pos=(0, 0, TCP_M), size=(0.003, 0, 0), group=5)
    for name, joint, turned in zip(
        FINGER_BODIES, FINGERS, ((1, 0, 0, 0), (0, 0, 0, 1)), strict=True
    ):
        finger = hand.add_body(name=name, pos=(0, 0, _FINGER_ROOT_M), quat=turned, gravcomp=1)
        finger.add_joint(
            name=joint,
            type=mj.mjtJoint.mjJNT_SLIDE,
            axis=(0, 1, 0),
            range=(0.0, MAX_WIDTH_M / 2),
            limited=True,
            damping=5.0,
            armature=0.1,
        )
        _add_finger_shapes(mj, finger)


def _add_finger_shapes(mj: Any, finger: Any) -> None:
    """The inner face of the fingertip is at y = 0; it ends 9 mm beyond the tool centre point."""
    _add_box(
        mj, finger, (0, 0.016, 0.017), (0.0105, 0.009, 0.017), "panda dark", mass_kg=_FINGER_KG / 2
    )
    pad = {"friction": (1.5, 0.02, 0.0005), "condim": 4, "solref": (0.005, 1.0)}
    center, half_size = (0, 0.0065, 0.044), (0.0105, 0.0065, 0.010)
    _add_box(mj, finger, center, half_size, "panda dark", mass_kg=_FINGER_KG / 2, **pad)


def _let_neighbours_touch(spec: Any) -> None:
    """Capsules of links with one link between them overlap where the real shapes are hollow;
    MuJoCo itself leaves out a link and its parent, unless that is fixed to the world."""
    spec.add_exclude(bodyname1="panda_link0", bodyname2="panda_link1")
    for first in range(6):
        spec.add_exclude(bodyname1=f"panda_link{first}", bodyname2=f"panda_link{first + 2}")
    spec.add_exclude(bodyname1=FINGER_BODIES[0], bodyname2=FINGER_BODIES[1])


def _add_servos(mj: Any, spec: Any) -> None:
    for name, stiffness, torque in zip(JOINTS, STIFFNESS, MAX_TORQUE, strict=True):
        servo = spec.add_actuator(name=name, target=name, trntype=mj.mjtTrn.mjTRN_JOINT)
        servo.set_to_position(kp=stiffness, kv=stiffness * SERVO_LAG_S)
        ramp = spec.add_actuator(name=f"{name}_ramp", target=name, trntype=mj.mjtTrn.mjTRN_JOINT)
        ramp.dyntype = mj.mjtDyn.mjDYN_INTEGRATOR
        ramp.gainprm[0] = stiffness
        joint = spec.joint(name)
        joint.actfrclimited, joint.actfrcrange = True, (-torque, torque)
    width = spec.add_tendon(name="panda_width")
    for name in FINGERS:
        width.wrap_joint(name, 1.0)
    alike = spec.add_equality(
        name="panda_fingers",
        type=mj.mjtEq.mjEQ_JOINT,
        objtype=mj.mjtObj.mjOBJ_JOINT,
        name1=FINGERS[0],
        name2=FINGERS[1],
        solref=(0.004, 1.0),
    )
    alike.data[:2] = (0.0, 1.0)
    hand = spec.add_actuator(name=HAND, target="panda_width", trntype=mj.mjtTrn.mjTRN_TENDON)
    hand.set_to_position(kp=_FINGER_STIFFNESS, kv=_FINGER_DAMPING)
    hand.forcelimited, hand.forcerange = True, (-MAX_GRIP_N, MAX_GRIP_N)
    hand.ctrllimited, hand.ctrlrange = True, (0.0, MAX_WIDTH_M)
