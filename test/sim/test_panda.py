"""The Panda's chain against Franka's published numbers and a real recording; its kinematics."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mujoco")

from arm_world import hand_down

from rynn_brain_ros.geometry import to_matrix
from rynn_brain_ros.sim.kinematics import Kinematics
from rynn_brain_ros.sim.panda import (
    DH_CRAIG,
    FINGERS,
    FLANGE_M,
    HAND,
    JOINTS,
    LOWER,
    MAX_TORQUE,
    READY,
    TCP_M,
    UPPER,
    panda_spec,
)
from rynn_brain_ros.values import Refusal, RefusalCode

Floats = np.ndarray[Any, np.dtype[np.float64]]


@pytest.fixture(scope="module")
def model() -> Any:
    return panda_spec().compile()


@pytest.fixture(scope="module")
def kinematics(model: Any) -> Kinematics:
    return Kinematics(model)


def craig(a: float, alpha: float, d: float, theta: float) -> Floats:
    """Transform from link i−1 to link i (Craig, Introduction to Robotics, eq. 3.6)."""
    ca, sa, ct, st = math.cos(alpha), math.sin(alpha), math.cos(theta), math.sin(theta)
    return np.array(
        [
            [ct, -st, 0, a],
            [st * ca, ct * ca, -sa, -d * sa],
            [st * sa, ct * sa, ca, d * ca],
            [0, 0, 0, 1],
        ]
    )


def flange(joints: Floats) -> Floats:
    """``T_base_flange`` written out from the published table, on its own."""
    T = np.eye(4)
    for (a, alpha, d), theta in zip(DH_CRAIG, joints, strict=True):
        T = T @ craig(a, alpha, d, theta)
    return T @ craig(0, 0, FLANGE_M, 0)


def some_joints(n: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).uniform(LOWER, UPPER, (n, 7))


def test_the_published_table_is_the_one_in_the_model():
    assert [d for _, _, d in DH_CRAIG] == [0.333, 0, 0.316, 0, 0.384, 0, 0]
    assert [a for a, _, _ in DH_CRAIG] == [0, 0, 0, 0.0825, -0.0825, 0, 0.088]


def test_the_tool_is_where_the_published_chain_puts_it(kinematics: Kinematics):
    for joints in some_joints(50):
        expected = flange(joints) @ craig(0, 0, TCP_M, -math.pi / 4)
        np.testing.assert_allclose(to_matrix(kinematics.forward(joints)), expected, atol=1e-9)


def test_ready_has_the_hand_in_front_pointing_down(kinematics: Kinematics):
    pose = to_matrix(kinematics.forward(READY))
    np.testing.assert_allclose(pose[:3, :3], np.diag([1, -1, -1]), atol=1e-9)
    np.testing.assert_allclose(pose[:3, 3], [0.3069, 0.0, 0.4869], atol=1e-3)


@pytest.mark.shared
def test_a_real_arm_of_this_kinematics_agrees(shared_data: Path):
    """A hand-guided FR3, which has the Panda's chain: flange to its tool is one fixed offset."""
    (path,) = (shared_data / "franka_fr3_kinesthetic").glob("*.npy")
    rows = np.load(path, allow_pickle=False)[::200]
    ends = np.array([np.linalg.inv(flange(row[1:8])) @ [*row[29:32], 1.0] for row in rows])
    np.testing.assert_allclose(ends[:, :3], [[0, 0, TCP_M]] * len(rows), atol=1e-3)


def test_the_names_are_those_of_the_real_arm(model: Any):
    bodies = {model.body(i).name for i in range(model.nbody)}
    links = {f"panda_link{i}" for i in range(9)}
    assert bodies >= links | {"panda_hand", "panda_leftfinger", "panda_rightfinger"}
    assert {model.joint(i).name for i in range(model.njnt)} == {*JOINTS, *FINGERS}
    assert {model.actuator(i).name for i in range(model.nu)} >= {*JOINTS, HAND}


def test_joints_end_and_push_as_published(model: Any):
    for name, low, high, torque in zip(JOINTS, LOWER, UPPER, MAX_TORQUE, strict=True):
        joint = model.joint(name).id
        np.testing.assert_allclose(model.jnt_range[joint], [low, high])
        np.testing.assert_allclose(model.jnt_actfrcrange[joint], [-torque, torque])
        assert model.jnt_actfrclimited[joint] and model.jnt_limited[joint]


def top_down_targets(n: int) -> list[Any]:
    rng = np.random.default_rng(7)
    radius, turn = rng.uniform(0.32, 0.70, n), rng.uniform(-1.2, 1.2, n)
    z, yaw = rng.uniform(0.01, 0.40, n), rng.uniform(-math.pi / 2, math.pi / 2, n)
    places = zip(radius * np.cos(turn), radius * np.sin(turn), z, yaw, strict=True)
    return [hand_down(*map(float, place)) for place in places]


def test_every_place_on_the_table_is_reached_from_above(kinematics: Kinematics):
    for pose in top_down_targets(300):
        joints = kinematics.search(pose, READY)
        assert not isinstance(joints, Refusal), joints.text
        np.testing.assert_allclose(
            to_matrix(kinematics.forward(joints)), to_matrix(pose), atol=1e-3
        )
        assert (joints >= LOWER).all() and (joints <= UPPER).all()


def test_poses_of_random_postures_are_reached(kinematics: Kinematics):
    rng = np.random.default_rng(3)
    for joints in some_joints(100, seed=3):
        pose = kinematics.forward(joints)
        near = np.clip(joints + rng.uniform(-0.2, 0.2, 7), LOWER, UPPER)
        found = kinematics.search(pose, near)
        assert not isinstance(found, Refusal), found.text
        np.testing.assert_allclose(to_matrix(kinematics.forward(found)), to_matrix(pose), atol=1e-3)


def test_the_same_question_has_the_same_answer(kinematics: Kinematics, model: Any):
    pose = hand_down(0.55, -0.2, 0.1, 0.4)
    first, again = kinematics.search(pose, READY), Kinematics(model).search(pose, READY)
    assert np.array_equal(first, again)


def test_what_is_too_far_is_refused_with_numbers(kinematics: Kinematics):
    refusal = kinematics.search(hand_down(1.2, 0.0, 0.2), READY)
    assert isinstance(refusal, Refusal)
    assert refusal.code is RefusalCode.OUT_OF_REACH
    assert "(1.200, 0.000, 0.200) m" in refusal.text and "mm and" in refusal.text


def test_ready_hits_nothing(kinematics: Kinematics):
    assert kinematics.collision(READY) == ""


def test_an_arm_folded_into_itself_is_told(kinematics: Kinematics):
    assert "panda_" in kinematics.collision((0.0, 0.0, 0.0, -3.07, 0.0, 0.0, 0.8))
