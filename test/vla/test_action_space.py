"""What an action's numbers mean: rotations in six numbers, chunks relative to the state."""

from __future__ import annotations

import numpy as np
import pytest
from pyquaternion import Quaternion

from rynn_brain_ros.data.known_contracts import find_contract
from rynn_brain_ros.data.reading_contracts import contract_from
from rynn_brain_ros.vla import PolicyError
from rynn_brain_ros.vla.actions import (
    IDENTITY_ROT6D,
    ActionSpace,
    Part,
    PartKind,
    action_space_from,
    contract_space,
    end_effector_space,
    joint_space,
    matrix_from_quaternion,
    matrix_from_rot6d,
    quaternion_from_matrix,
    quaternion_from_rot6d,
    rot6d_from_matrix,
    rot6d_from_quaternion,
)

JOINTS = tuple(f"joint{i}" for i in range(1, 8))


def rotations(n: int = 200) -> np.ndarray:
    """Random quaternions (x, y, z, w), and half turns about every axis."""
    rng = np.random.default_rng(0)
    half_turns = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0.6, 0.8, 0], [0, 0, 0, 1]]
    random = rng.normal(size=(n, 4))
    return np.concatenate([random / np.linalg.norm(random, axis=1, keepdims=True), half_turns])


def same_turn(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.allclose(np.abs(np.sum(a * b, axis=-1)), 1, atol=1e-12))


def test_rot6d_is_the_first_two_columns_row_by_row():
    R = np.arange(9.0).reshape(3, 3)
    assert rot6d_from_matrix(R).tolist() == [0, 1, 3, 4, 6, 7]


def test_the_identity_is_the_identity():
    assert rot6d_from_matrix(np.eye(3)).tolist() == list(IDENTITY_ROT6D)
    assert np.array_equal(matrix_from_rot6d(IDENTITY_ROT6D), np.eye(3))


def test_matrices_are_those_of_pyquaternion():
    for x, y, z, w in rotations():
        expected = Quaternion(w, x, y, z).rotation_matrix
        assert np.allclose(matrix_from_quaternion([x, y, z, w]), expected, atol=1e-12)


def test_every_rotation_comes_back_from_six_numbers_and_from_a_quaternion():
    q = rotations()
    R = matrix_from_quaternion(q)
    assert np.allclose(matrix_from_rot6d(rot6d_from_matrix(R)), R, atol=1e-12)
    assert same_turn(quaternion_from_matrix(R), q)
    assert same_turn(quaternion_from_rot6d(rot6d_from_quaternion(q)), q)


def test_what_a_network_gives_becomes_a_rotation():
    noisy = np.random.default_rng(1).normal(size=(50, 6))
    R = matrix_from_rot6d(noisy)
    assert np.allclose(R @ np.swapaxes(R, -1, -2), np.eye(3), atol=1e-12)
    assert np.allclose(np.linalg.det(R), 1)


@pytest.mark.parametrize("rot6d", [[0.0] * 6, [1, 2, 1, 2, 1, 2], [np.nan, 0, 0, 1, 0, 0]], ids=str)
def test_six_numbers_without_a_direction_are_refused(rot6d: list[float]):
    with pytest.raises(PolicyError, match="no direction"):
        matrix_from_rot6d(rot6d)


def test_each_number_of_an_action_has_a_name_and_a_unit():
    joints, hand = joint_space(JOINTS), end_effector_space()
    assert joints.names == (*JOINTS, "gripper")
    assert joints.units == ("rad",) * 7 + ("1 open, 0 closed",)
    assert hand.size == 10
    assert hand.names[3:6] == ("rot6d.r00", "rot6d.r01", "rot6d.r10")
    assert [kind for kind, _ in hand.slices] == [
        PartKind.POSITION,
        PartKind.ROT6D,
        PartKind.GRIPPER,
    ]


def test_joints_are_told_from_the_state_and_the_gripper_is_not():
    space = joint_space(JOINTS)
    state = np.append(np.arange(7.0), 0.3)
    actions = np.array([np.append(np.arange(7.0) + 0.1, 1.0), np.append(np.arange(7.0), 0.0)])
    relative = space.relative(actions, state)
    assert np.allclose(relative, [[0.1] * 7 + [1.0], [0.0] * 7 + [0.0]])


def test_a_hand_that_stays_is_told_by_zeros_and_the_identity():
    space = end_effector_space()
    state = np.concatenate([[0.4, 0.1, 0.3], rot6d_from_quaternion(rotations(1)[0]), [1.0]])
    relative = space.relative(np.tile(state, (5, 1)), state)
    assert np.allclose(relative, [0, 0, 0, *IDENTITY_ROT6D, 1])


def test_a_turn_is_told_in_the_hands_own_axes():
    space = end_effector_space()
    start = Quaternion(axis=[1, 0, 0], angle=0.7)
    turn = Quaternion(axis=[0, 0, 1], angle=0.2)
    told = [
        np.concatenate([[0, 0, 0], rot6d_from_matrix(q.rotation_matrix), [1]])
        for q in (start, start * turn)
    ]
    relative = space.relative(told[1][None], told[0])
    assert np.allclose(relative[0, 3:9], rot6d_from_matrix(turn.rotation_matrix))


def test_relative_chunks_come_back():
    rng = np.random.default_rng(2)
    space = end_effector_space()
    q = rotations(7 * 9)[: 7 * 9].reshape(7, 9, 4)
    actions = np.concatenate(
        [rng.normal(size=(7, 9, 3)), rot6d_from_quaternion(q), rng.uniform(size=(7, 9, 1))], axis=-1
    )
    states = actions[:, 0]
    back = space.absolute(space.relative(actions, states), states)
    assert np.allclose(back, actions, atol=1e-12)


def test_the_reference_is_found_by_name():
    space = joint_space(("a", "b"))
    state = space.reference([1.0, 2.0, 3.0], ("b", "other", "a"))
    assert state.tolist() == [3.0, 1.0, 0.0]


def test_a_state_without_a_joint_that_moves_is_refused():
    with pytest.raises(PolicyError, match="need the state of b; it has a"):
        joint_space(("a", "b")).reference([1.0], ("a",))


def test_a_chunk_of_another_robot_is_refused():
    with pytest.raises(PolicyError, match="actions of 9 numbers; this has 8"):
        joint_space(JOINTS).relative(np.zeros((3, 9)), np.zeros(8))


def test_a_space_comes_back_from_its_record():
    for space in (joint_space(JOINTS), end_effector_space()):
        assert action_space_from(space.record()) == space


@pytest.mark.parametrize("record", [[{"kind": "wheels", "names": ["a"], "units": ""}], [{}], [3]])
def test_a_record_that_is_no_space_is_refused(record: list):
    with pytest.raises(PolicyError):
        action_space_from(record)


def test_two_numbers_of_one_name_are_refused():
    with pytest.raises(PolicyError, match="different names"):
        ActionSpace((Part(PartKind.JOINTS, ("a", "a"), "rad"),))


@pytest.mark.parametrize("name", ["panda", "fr3", "sim_table"])
def test_the_contracts_of_franka_arms_are_seven_joints_and_a_gripper(name: str):
    space = contract_space(find_contract(name))
    assert [part.kind for part in space.parts] == [PartKind.JOINTS, PartKind.GRIPPER]
    assert space.units[:7] == ("rad",) * 7


CONTRACT = """
robot_type: arm
robot_interface: ros2
fps: 30
observations:
  observation.state:
    channel: {{topic: /pose, type: geometry_msgs/msg/Pose}}
    align: {{strategy: hold, timeline: receive}}
    select: [position.x, position.y, position.z]
actions:
  action:
    channel: {{topic: /pose, type: geometry_msgs/msg/Pose}}
    align: {{strategy: hold, timeline: receive}}
    {source}
"""


def test_a_contracts_position_in_metres_is_a_position():
    source = "select: [position.x, position.y, position.z]\n    units: m"
    space = contract_space(contract_from(CONTRACT.format(source=source)))
    assert [part.kind for part in space.parts] == [PartKind.POSITION]


def test_a_contracts_deltas_stay_as_they_are_wherever_the_robot_is():
    source = "select: [position.z, position.x]\n    representation: delta\n    units: m"
    space = contract_space(contract_from(CONTRACT.format(source=source)))
    assert [part.kind for part in space.parts] == [PartKind.DELTA]
    assert space.units == ("m", "m") and action_space_from(space.record()) == space
    deltas = np.array([[0.01, -0.02], [0.0, 0.03]])
    here = space.reference([0.4, 0.5, 0.6], ["position.x", "position.y", "position.z"])
    assert np.array_equal(space.relative(deltas, here), deltas)
    assert np.array_equal(space.absolute(deltas, here), deltas)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("select: [position.x, position.y, position.z]", "have the units ''"),
        (
            "select: [orientation.x, orientation.y, orientation.z, orientation.w]\n"
            "    kind: quaternion",
            "takes rotation_6d",
        ),
        (
            "select: [position.x, position.y, position.z]\n    representation: delta\n"
            "    kind: euler_rpy",
            "takes rotation_6d",
        ),
    ],
)
def test_a_contracts_action_that_has_no_relative_form_is_refused(source: str, why: str):
    with pytest.raises(PolicyError, match=why):
        contract_space(contract_from(CONTRACT.format(source=source)))
