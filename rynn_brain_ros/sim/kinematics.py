"""Where the Panda's tool is for given joints, which joints bring it somewhere, and what it hits.

Joint vectors are float64 [7] in the order of `JOINTS`, radians. Poses are ``T_base_tcp``: parent
``panda_link0``, child ``panda_tcp``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rynn_brain_ros.geometry import from_matrix, to_matrix
from rynn_brain_ros.sim.panda import BASE_FRAME, JOINTS, LOWER, READY, TCP_FRAME, TCP_SITE, UPPER
from rynn_brain_ros.sim.rendering import load_mujoco
from rynn_brain_ros.values import Refusal, RefusalCode, RigidTransform

Floats = NDArray[np.float64]

POSITION_TOLERANCE_M = 1e-5
ROTATION_TOLERANCE_RAD = 1e-4
_MAX_ITERATIONS = 120
_DAMPING, _LEAST_DAMPING = 1e-3, 1e-9
"""Of the squared singular values, for an error of 1 m or rad, and at the goal."""
_MAX_STEP_RAD = 0.3
_PULL_ENDS = 0.02
"""Metres and radians to the goal: nearer, the pull fades, or it would fight the joints' ends."""
_MARGIN_RAD = 0.01
"""Solutions keep this far from the joints' ends."""
_OVERLAP_M = 0.002
"""Shapes that overlap by less only touch."""


class Kinematics:
    """Of one model that contains the Panda. Works on its own data, never on the world's; the
    same question always has the same answer. Not for use from several threads at once."""

    def __init__(self, model: Any) -> None:
        self._mj = load_mujoco()
        self._model, self._data = model, self._mj.MjData(model)
        self._qpos = np.array([model.joint(name).qposadr[0] for name in JOINTS])
        self._dofs = np.array([model.joint(name).dofadr[0] for name in JOINTS])
        self._site = model.site(TCP_SITE).id
        self._lower = np.array(LOWER) + _MARGIN_RAD
        self._upper = np.array(UPPER) - _MARGIN_RAD

    def forward(self, joints: ArrayLike) -> RigidTransform:
        """``T_base_tcp``."""
        self._place(joints)
        matrix = np.eye(4)
        matrix[:3, :3] = self._data.site_xmat[self._site].reshape(3, 3)
        matrix[:3, 3] = self._data.site_xpos[self._site]
        return from_matrix(matrix, BASE_FRAME, TCP_FRAME)

    def inverse(
        self, T_base_tcp: RigidTransform, start: ArrayLike, pull: float = 0.1
    ) -> Floats | Refusal:
        """Joints that bring the tool there, found from ``start``.

        Damped least squares with a damping that fades with the error (Sugihara 2011). What the
        seventh joint leaves free is pulled towards READY, by the share ``pull`` in each step.
        Tolerances are `POSITION_TOLERANCE_M` and `ROTATION_TOLERANCE_RAD`. OUT_OF_REACH tells by
        how much the nearest posture misses.
        """
        goal = to_matrix(T_base_tcp)
        joints, miss = self._descend(goal, np.array(start, np.float64), pull)
        return joints if _reached(miss) else _out_of_reach(T_base_tcp, miss)

    def search(self, T_base_tcp: RigidTransform, start: ArrayLike) -> Floats | Refusal:
        """As `inverse`, and from further postures where it fails from ``start``."""
        goal = to_matrix(T_base_tcp)
        misses = []
        for posture in self._starts(goal, np.array(start, np.float64)):
            joints, miss = self._descend(goal, posture, 0.1)
            if _reached(miss):
                return joints
            misses.append(miss)
        return _out_of_reach(T_base_tcp, min(misses, key=lambda miss: float(np.hypot(*miss))))

    def collision(self, joints: ArrayLike) -> str:
        """What the arm would hit of itself or of what does not move, in words; empty if nothing.
        Things that can be moved are left out: to touch them is what the arm is for."""
        self._place(joints)
        self._mj.mj_collision(self._model, self._data)
        contact = self._data.contact
        for pair, distance in zip(contact.geom, contact.dist, strict=True):
            names = [self._name(geom) for geom in pair]
            arm, other = sorted(names, key=lambda name: not name.startswith("panda_"))
            if distance < -_OVERLAP_M and other and arm.startswith("panda_"):
                return f"{arm} would be {-distance * 1e3:.0f} mm inside {other}"
        return ""

    def _place(self, joints: ArrayLike) -> None:
        self._data.qpos[self._qpos] = joints
        self._mj.mj_kinematics(self._model, self._data)
        self._mj.mj_comPos(self._model, self._data)

    def _starts(self, goal: Floats, start: Floats) -> Iterator[Floats]:
        """The start, then READY turned towards the goal with the wrist turned by quarters."""
        yield start
        azimuth = math.atan2(goal[1, 3], goal[0, 3])
        for quarter in (0, 1, -1, -2):
            for elbow in (0.0, 0.8, -0.8):
                turn = np.array((azimuth, 0, elbow, 0, 0, 0, quarter * math.pi / 2))
                yield np.clip(np.array(READY) + turn, self._lower, self._upper)

    def _descend(
        self, goal: Floats, joints: Floats, pull: float
    ) -> tuple[Floats, tuple[float, float]]:
        """The last joints, and by how many metres and radians they miss."""
        joints = np.clip(joints, self._lower, self._upper)
        for _ in range(_MAX_ITERATIONS):
            self._place(joints)
            position, rotation = self._error(goal)
            miss = (float(np.linalg.norm(position)), float(np.linalg.norm(rotation)))
            if _reached(miss):
                break
            error = np.concatenate([_shortened(position, 0.1), _shortened(rotation, 0.5)])
            fading = pull * min(1.0, sum(miss) / _PULL_ENDS)
            step = self._step(error, fading * (np.array(READY) - joints), joints)
            joints = np.clip(joints + _shortened(step, _MAX_STEP_RAD), self._lower, self._upper)
        return joints, miss

    def _error(self, goal: Floats) -> tuple[Floats, Floats]:
        """From where the tool is to the goal: metres, and a rotation vector in the base."""
        position = goal[:3, 3] - self._data.site_xpos[self._site]
        turn = goal[:3, :3] @ self._data.site_xmat[self._site].reshape(3, 3).T
        quaternion, rotation = np.zeros(4), np.zeros(3)
        self._mj.mju_mat2Quat(quaternion, turn.ravel())
        self._mj.mju_quat2Vel(rotation, quaternion, 1.0)
        return position, rotation

    def _step(self, error: Floats, wish: Floats, joints: Floats) -> Floats:
        """A joint at its end that would have to go on is left out, and the others do its part."""
        J = self._jacobian()
        damping = (_DAMPING * float(error @ error) + _LEAST_DAMPING) * np.eye(6)
        free = np.ones(len(JOINTS))
        for _ in JOINTS:
            some, want = J * free, wish * free
            step: Floats = want + some.T @ np.linalg.solve(
                some @ some.T + damping, error - some @ want
            )
            aim = joints + step
            stuck = (aim < self._lower) & (joints <= self._lower)
            stuck |= (aim > self._upper) & (joints >= self._upper)
            if not (free * stuck).any():
                break
            free = free * ~stuck
        return step

    def _jacobian(self) -> Floats:
        """[6, 7]: the tool's velocity and angular velocity in the base for each joint's."""
        linear, angular = np.zeros((3, self._model.nv)), np.zeros((3, self._model.nv))
        self._mj.mj_jacSite(self._model, self._data, linear, angular, self._site)
        return np.concatenate([linear, angular])[:, self._dofs]

    def _name(self, geom: int) -> str:
        """Of the robot's body or of the fixed thing; empty for a thing that can be moved."""
        body = self._model.body(self._model.geom_bodyid[geom])
        if body.name.startswith("panda_"):
            return str(body.name)
        return str(self._model.geom(geom).name or "the surroundings") if not body.weldid[0] else ""


def _reached(miss: tuple[float, float]) -> bool:
    return miss[0] < POSITION_TOLERANCE_M and miss[1] < ROTATION_TOLERANCE_RAD


def _shortened(vector: Floats, length: float) -> Floats:
    return vector * min(1.0, length / max(float(np.linalg.norm(vector)), 1e-12))


def _out_of_reach(T_base_tcp: RigidTransform, miss: tuple[float, float]) -> Refusal:
    x, y, z = T_base_tcp.translation_m
    return Refusal(
        RefusalCode.OUT_OF_REACH,
        f"the tool cannot be brought to ({x:.3f}, {y:.3f}, {z:.3f}) m in {BASE_FRAME} with this "
        f"orientation: it misses by {miss[0] * 1e3:.1f} mm and {math.degrees(miss[1]):.1f}°; "
        "choose a place nearer to the middle of the workspace or another turn of the hand",
    )
