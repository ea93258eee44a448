"""What the numbers of an action mean, and actions told relative to where the robot is.

Rotations are six numbers, *rot6d*: the first two columns of the rotation matrix, row by row,
``[r00, r01, r10, r11, r20, r21]`` (Zhou et al., arXiv 1812.07035, in RynnBrain's interleaved
order). The identity is ``[1, 0, 0, 1, 0, 0]``. Quaternions are (x, y, z, w).

A relative chunk is told from the state at its beginning, all steps from the same one: positions
and joints are differences, rotations ``R_stateᵀ · R_action``, and what a gripper does stays
absolute, 1 open and 0 closed. What was recorded as a change in each frame stays as it is: such a
policy can be trained and asked, but the runner does not drive a robot with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rynn_brain_ros.data.contract import Contract, Source
from rynn_brain_ros.vla.values import Floats, PolicyError

IDENTITY_ROT6D = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)
_TOO_SHORT = 1e-6


# --- rotations: any leading dimensions -----------------------------------------------------------


def rot6d_from_matrix(R: ArrayLike) -> Floats:
    """[..., 3, 3] → [..., 6]."""
    matrices = np.asarray(R, np.float64)
    return matrices[..., :2].reshape(*matrices.shape[:-2], 6)


def matrix_from_rot6d(rot6d: ArrayLike) -> Floats:
    """[..., 6] → [..., 3, 3], by Gram and Schmidt: any six numbers become the nearest-by rotation.

    Raises `PolicyError` where they span no plane.
    """
    columns = np.asarray(rot6d, np.float64).reshape(*np.shape(rot6d)[:-1], 3, 2)
    x = _unit(columns[..., 0])
    y = columns[..., 1] - x * np.sum(x * columns[..., 1], axis=-1, keepdims=True)
    y = _unit(y)
    return np.stack([x, y, np.cross(x, y)], axis=-1)


def matrix_from_quaternion(xyzw: ArrayLike) -> Floats:
    """[..., 4] of any length but 0 → [..., 3, 3]."""
    x, y, z, w = np.moveaxis(_unit(np.asarray(xyzw, np.float64)), -1, 0)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def quaternion_from_matrix(R: ArrayLike) -> Floats:
    """[..., 3, 3] → [..., 4] of length 1 with w ≥ 0.

    The eigenvector of the largest eigenvalue (Bar-Itzhack 2000): no angle is a special case.
    """
    m = np.moveaxis(np.asarray(R, np.float64), (-2, -1), (0, 1))
    xx, yy, zz = m[0, 0], m[1, 1], m[2, 2]
    xy, xz, yz = m[0, 1] + m[1, 0], m[0, 2] + m[2, 0], m[1, 2] + m[2, 1]
    xw, yw, zw = m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]
    rows = (
        (xx - yy - zz, xy, xz, xw),
        (xy, yy - xx - zz, yz, yw),
        (xz, yz, zz - xx - yy, zw),
        (xw, yw, zw, xx + yy + zz),
    )
    symmetric = np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
    xyzw = np.linalg.eigh(symmetric).eigenvectors[..., -1]
    return np.where(xyzw[..., 3:] < 0, -xyzw, xyzw)


def rot6d_from_quaternion(xyzw: ArrayLike) -> Floats:
    """[..., 4] → [..., 6]."""
    return rot6d_from_matrix(matrix_from_quaternion(xyzw))


def quaternion_from_rot6d(rot6d: ArrayLike) -> Floats:
    """[..., 6] → [..., 4] of length 1 with w ≥ 0."""
    return quaternion_from_matrix(matrix_from_rot6d(rot6d))


def _unit(vectors: Floats) -> Floats:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if not np.all(lengths > _TOO_SHORT):  # catches NaN too
        raise PolicyError("a rotation of no direction: its numbers are zero, parallel or NaN")
    return np.asarray(vectors / lengths, np.float64)


# --- what the numbers are ------------------------------------------------------------------------


class PartKind(str, Enum):
    """What a run of an action's numbers is, and with it what relative means."""

    JOINTS = "joints"
    POSITION = "position"
    ROT6D = "rot6d"
    GRIPPER = "gripper"
    DELTA = "delta"
    """Changes in this frame, as they were recorded."""


_SIZES = {PartKind.POSITION: 3, PartKind.ROT6D: 6}
_UNITS = {PartKind.POSITION: "m", PartKind.ROT6D: "", PartKind.GRIPPER: "1 open, 0 closed"}


@dataclass(frozen=True)
class Part:
    """A run of numbers, each with its name."""

    kind: PartKind
    names: tuple[str, ...]
    units: str

    def __post_init__(self) -> None:
        wanted = _SIZES.get(self.kind, len(self.names))
        if len(self.names) != wanted or not self.names:
            raise PolicyError(
                f"the part {self.kind.value} of an action has {len(self.names)} numbers "
                f"({', '.join(self.names)}); it needs {wanted or 'at least one'}"
            )


@dataclass(frozen=True)
class ActionSpace:
    """The dimensions of an action, in their order."""

    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        if not self.parts or len(set(self.names)) != self.size:
            raise PolicyError(f"an action's numbers need different names: {', '.join(self.names)}")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for part in self.parts for name in part.names)

    @property
    def units(self) -> tuple[str, ...]:
        """Of each number."""
        return tuple(part.units for part in self.parts for _ in part.names)

    @property
    def size(self) -> int:
        return len(self.names)

    @cached_property
    def slices(self) -> tuple[tuple[PartKind, slice], ...]:
        """Where each part's numbers are."""
        ends = np.cumsum([len(part.names) for part in self.parts]).tolist()
        return tuple(
            (part.kind, slice(end - len(part.names), end))
            for part, end in zip(self.parts, ends, strict=True)
        )

    def is_part(self, kind: PartKind) -> NDArray[np.bool_]:
        """bool [size]: which numbers are of this kind."""
        return np.array([part.kind == kind for part in self.parts for _ in part.names])

    def reference(self, state: ArrayLike, state_names: Sequence[str]) -> Floats:
        """[..., size]: the measured values that actions are told relative to, by name.

        0 where grippers and deltas are, which stay as they are. Raises `PolicyError` for a name
        that the state [..., S] does not have.
        """
        measured = np.asarray(state, np.float64)
        stay = (self.is_part(PartKind.GRIPPER) | self.is_part(PartKind.DELTA)).tolist()
        told = list(zip(self.names, stay, strict=True))
        missing = {name for name, stays in told if not stays} - set(state_names)
        if missing:
            raise PolicyError(
                f"relative actions need the state of {', '.join(sorted(missing))}; it has "
                f"{', '.join(state_names)}: add them to observation.state of the contract"
            )
        found = [
            np.zeros(measured.shape[:-1]) if stays else measured[..., state_names.index(name)]
            for name, stays in told
        ]
        return np.stack(found, axis=-1)

    def relative(self, actions: ArrayLike, reference: ArrayLike) -> Floats:
        """Absolute [..., H, size] → relative to ``reference`` [..., size]."""
        return self._told(actions, reference, inverse=False)

    def absolute(self, chunk: ArrayLike, reference: ArrayLike) -> Floats:
        """The inverse of `relative`; rotations come out as exact rotations."""
        return self._told(chunk, reference, inverse=True)

    def _told(self, values: ArrayLike, reference: ArrayLike, *, inverse: bool) -> Floats:
        told = np.array(values, np.float64)
        start = np.asarray(reference, np.float64)[..., None, :]
        for name, array in (("actions", told), ("a reference", start)):
            if array.shape[-1] != self.size:
                raise PolicyError(f"{name} of {array.shape[-1]} numbers; this has {self.size}")
        for kind, at in self.slices:
            if kind in (PartKind.JOINTS, PartKind.POSITION):
                told[..., at] += start[..., at] if inverse else -start[..., at]
            elif kind == PartKind.ROT6D:
                turn = matrix_from_rot6d(start[..., at])
                turn = turn if inverse else np.swapaxes(turn, -1, -2)
                told[..., at] = rot6d_from_matrix(turn @ matrix_from_rot6d(told[..., at]))
        return told

    def record(self) -> list[dict[str, Any]]:
        """For JSON."""
        return [
            {"kind": part.kind.value, "names": list(part.names), "units": part.units}
            for part in self.parts
        ]


def action_space_from(record: Sequence[Mapping[str, Any]]) -> ActionSpace:
    """Of what `ActionSpace.record` gave. Raises `PolicyError`."""
    try:
        return ActionSpace(
            tuple(
                Part(PartKind(part["kind"]), tuple(map(str, part["names"])), str(part["units"]))
                for part in record
            )
        )
    except (KeyError, TypeError, ValueError) as error:
        raise PolicyError(f"an action space cannot be read ({error!r}); save it again") from error


def joint_space(joints: Sequence[str], gripper: str = "gripper") -> ActionSpace:
    """Joint positions in rad and one gripper."""
    return ActionSpace((_part(PartKind.JOINTS, joints, "rad"), _part(PartKind.GRIPPER, [gripper])))


def end_effector_space(gripper: str = "gripper") -> ActionSpace:
    """The hand's place [m] and rotation in the robot's base, and one gripper."""
    rot6d = [f"rot6d.r{row}{column}" for row in range(3) for column in range(2)]
    return ActionSpace(
        (
            _part(PartKind.POSITION, ["x", "y", "z"]),
            _part(PartKind.ROT6D, rot6d),
            _part(PartKind.GRIPPER, [gripper]),
        )
    )


def contract_space(contract: Contract) -> ActionSpace:
    """What a data contract's actions are. Raises `PolicyError` for what has no relative form."""
    sources = [source for feature in contract.actions for source in feature.sources]
    return ActionSpace(tuple(_source_part(source) for source in sources))


def _source_part(source: Source) -> Part:
    topic, delta = source.channel.topic, source.representation == "delta"
    if source.gripper is not None:
        return _part(PartKind.GRIPPER, source.select)
    if source.kind == "rotation_6d" and not delta:
        return _part(PartKind.ROT6D, source.select)
    if source.kind != "continuous":
        raise PolicyError(
            f"the actions on {topic} are a {source.kind}: a policy takes rotation_6d, joints "
            "[rad], positions [m] and grippers"
        )
    if delta:
        return _part(PartKind.DELTA, source.select, source.units)
    if source.units == "m" and len(source.select) == 3:
        return _part(PartKind.POSITION, source.select)
    if source.units == "rad":
        return _part(PartKind.JOINTS, source.select, "rad")
    raise PolicyError(
        f"the actions {', '.join(source.select)} on {topic} have the units {source.units!r}: give "
        "them rad for joints, m for a position of three, or a gripper"
    )


def _part(kind: PartKind, names: Sequence[str], units: str | None = None) -> Part:
    return Part(kind, tuple(names), _UNITS[kind] if units is None else units)
