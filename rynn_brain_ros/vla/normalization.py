"""Numbers as the network sees them: of mean 0 and standard deviation 1, and where that comes from.

The statistics are those of what the network sees: states, *relative* chunks (all steps together)
and target points. They belong to one contract, one set of cameras and one rate; beside another
robot they would be nonsense that looks like motion, so they are never used without being compared.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rynn_brain_ros import __version__
from rynn_brain_ros.data.contract import Contract
from rynn_brain_ros.files import write_whole
from rynn_brain_ros.vla.actions import ActionSpace, action_space_from, contract_space
from rynn_brain_ros.vla.aiming import NOT_AIMED, Aim
from rynn_brain_ros.vla.values import Floats, PolicyError

FORMAT = 1
CONSTANT_BELOW = 1e-4
"""A number that varies less (0.1 mm, 0.006°) is noise around a constant: it is not blown up, and a
policy leaves it there."""


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation of n numbers over ``count`` samples."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    count: int

    @property
    def scale(self) -> Floats:
        """What is divided by: the standard deviation, and 1 for constants."""
        std = np.asarray(self.std)
        return np.where(std < CONSTANT_BELOW, 1.0, std)

    def normalized(self, values: ArrayLike) -> Floats:
        """[..., n] → [..., n]."""
        return np.asarray((np.asarray(values) - np.asarray(self.mean)) / self.scale, np.float64)

    def restored(self, values: ArrayLike) -> Floats:
        """The inverse; what was a constant stays one. What a network says of it is its error, in
        whole metres or radians."""
        varies = np.where(np.asarray(self.std) < CONSTANT_BELOW, 0.0, self.scale)
        return np.asarray(np.asarray(values) * varies + np.asarray(self.mean), np.float64)


class RunningMoments:
    """Takes samples piece by piece; Chan's parallel update, which loses no digits."""

    def __init__(self) -> None:
        self._count = 0
        self._mean: Floats = np.zeros(0)
        self._squares: Floats = np.zeros(0)

    def add(self, values: ArrayLike) -> None:
        """``values`` [..., n]. Raises `PolicyError` for numbers that are none."""
        rows = np.asarray(values, np.float64)
        rows = rows.reshape(-1, rows.shape[-1])
        if not np.all(np.isfinite(rows)):
            raise PolicyError("the data set holds NaN or infinity: leave those episodes out")
        if self._count == 0:
            self._mean, self._squares = np.zeros((2, rows.shape[-1]))
        n = self._count + len(rows)
        mean = rows.mean(axis=0)
        apart = mean - self._mean
        self._squares = self._squares + ((rows - mean) ** 2).sum(axis=0)
        self._squares = self._squares + apart**2 * self._count * len(rows) / n
        self._mean = self._mean + apart * len(rows) / n
        self._count = n

    def moments(self) -> Moments:
        """Raises `PolicyError` where nothing was added."""
        if self._count == 0:
            raise PolicyError("no samples: statistics of an empty data set cannot be told")
        std = np.sqrt(self._squares / self._count)
        return Moments(tuple(self._mean.tolist()), tuple(std.tolist()), self._count)


@dataclass(frozen=True)
class Provenance:
    """What statistics, and a policy with them, belong to."""

    contract: str
    """The robot type it names."""
    contract_sha256: str
    cameras: tuple[str, ...]
    rate_hz: float
    action_space: ActionSpace
    state_names: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """For JSON; ``units`` stand beside each number's name."""
        return {
            "contract": self.contract,
            "contract_sha256": self.contract_sha256,
            "cameras": list(self.cameras),
            "rate_hz": self.rate_hz,
            "action_space": self.action_space.record(),
            "state_names": list(self.state_names),
        }

    def check_same(self, expected: Provenance, where: str) -> None:
        """Raises `PolicyError` that names everything that differs from ``expected``."""
        ours, theirs = expected.record(), self.record()
        differences = [
            f"{key} is {_short(theirs[key])}, here it is {_short(ours[key])}"
            for key in ours
            if theirs[key] != ours[key]
        ]
        if differences:
            raise PolicyError(
                f"{where} belongs to something else: {'; '.join(differences)}. Use the contract it "
                "was trained with, or train for this one"
            )


def provenance_of(contract: Contract, state: str = "observation.state") -> Provenance:
    """Of a contract whose feature ``state`` is the robot's. Raises `PolicyError`."""
    features = {feature.key: feature for feature in contract.observations}
    if state not in features:
        raise PolicyError(f"the contract has no {state}; it has {', '.join(features)}")
    return Provenance(
        contract.robot_type,
        hashlib.sha256(contract.text.encode()).hexdigest(),
        tuple(feature.key.rpartition(".")[2] for feature in contract.cameras),
        float(contract.fps),
        contract_space(contract),
        features[state].names,
    )


@dataclass(frozen=True)
class Statistics:
    """``target`` is there where target points are told, with as many numbers, in what ``aim``
    says."""

    provenance: Provenance
    state: Moments
    chunk: Moments
    target: Moments | None = None
    aim: Aim = NOT_AIMED
    code_version: str = __version__
    """Of what computed them: for people, it is not compared."""

    def chunk_in(self, actions: ArrayLike, state: ArrayLike) -> Floats:
        """Absolute actions [..., H, D] and the state [..., S] at their beginning → what is
        learned."""
        space, names = self.provenance.action_space, self.provenance.state_names
        return self.chunk.normalized(space.relative(actions, space.reference(state, names)))

    def chunk_out(self, chunk: ArrayLike, state: ArrayLike) -> Floats:
        """What the network gave, [..., H, D], and the state it was given → absolute actions."""
        space, names = self.provenance.action_space, self.provenance.state_names
        return space.absolute(self.chunk.restored(chunk), space.reference(state, names))

    def target_in(self, point: Sequence[float]) -> Floats:
        """[n + 1]: the normalized point and 1, or zeros where none is known; [0] where target
        points are not told at all. Raises `PolicyError` for a point of other numbers."""
        n = len(self.target.mean) if self.target is not None else 0
        if len(point) not in (0, n):
            raise PolicyError(
                f"a target point of {len(point)} numbers: this policy was trained with {n}"
            )
        if self.target is None:
            return np.zeros(0)
        return np.append(self.target.normalized(point), 1.0) if len(point) else np.zeros(n + 1)

    def record(self) -> dict[str, Any]:
        """For JSON."""
        parts = {"state": self.state, "chunk": self.chunk, "target": self.target}
        return {
            "format": FORMAT,
            "code_version": self.code_version,
            "provenance": self.provenance.record(),
            "aim": dict(vars(self.aim)),
            **{name: None if m is None else dict(vars(m)) for name, m in parts.items()},
        }

    def save(self, path: Path) -> None:
        """Writes JSON, whole or not at all. Raises `OutputError`."""
        write_whole(path, (json.dumps(self.record(), indent=1) + "\n").encode())


def compute(
    samples: Iterable[tuple[ArrayLike, ArrayLike, Sequence[float]]],
    provenance: Provenance,
    aim: Aim = NOT_AIMED,
) -> Statistics:
    """Of (state [S], absolute actions [H, D], target point or nothing), one after the other; the
    points are told as ``aim`` says.

    Raises `PolicyError` for an empty or broken data set.
    """
    space, names = provenance.action_space, provenance.state_names
    states, chunks, targets = RunningMoments(), RunningMoments(), RunningMoments()
    pointed = False
    for state, actions, point in samples:
        states.add(state)
        chunks.add(space.relative(actions, space.reference(state, names)))
        if len(point):
            targets.add(np.asarray(point))
            pointed = True
    target = targets.moments() if pointed else None
    found = Statistics(provenance, states.moments(), chunks.moments(), target, aim)
    _check_aim(found, "the data set")
    return found


def statistics_from(record: object, where: str, expected: Provenance | None = None) -> Statistics:
    """Of what `Statistics.record` gave, compared with ``expected`` where that is known.

    Raises `PolicyError` that names ``where`` and what is missing or different.
    """
    if not isinstance(record, Mapping) or record.get("format") != FORMAT:
        raise PolicyError(f"{where} holds no statistics of format {FORMAT}: compute them again")
    try:
        told = record["provenance"]
        provenance = Provenance(
            str(told["contract"]),
            str(told["contract_sha256"]),
            tuple(map(str, told["cameras"])),
            float(told["rate_hz"]),
            action_space_from(told["action_space"]),
            tuple(map(str, told["state_names"])),
        )
        target = None if record["target"] is None else _moments(record["target"])
        aim = record.get("aim", {"n": 0, "frame": "", "camera": ""})  # older ones have none
        found = Statistics(
            provenance,
            _moments(record["state"]),
            _moments(record["chunk"]),
            target,
            Aim(int(aim["n"]), str(aim["frame"]), str(aim["camera"])),
            str(record["code_version"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise PolicyError(
            f"the statistics in {where} are not complete ({error!r}): compute them again"
        ) from error
    _check_sizes(found, where)
    _check_aim(found, where)
    if expected is not None:
        found.provenance.check_same(expected, where)
    return found


def load_statistics(path: Path, expected: Provenance | None = None) -> Statistics:
    """Of a file that `Statistics.save` wrote. Raises `PolicyError`."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PolicyError(f"no statistics in {path} ({error}): compute them first") from error
    return statistics_from(record, str(path), expected)


def _moments(record: Mapping[str, Any]) -> Moments:
    found = Moments(
        tuple(map(float, record["mean"])), tuple(map(float, record["std"])), int(record["count"])
    )
    if len(found.mean) != len(found.std) or not np.all(np.isfinite((*found.mean, *found.std))):
        raise ValueError("numbers are missing or NaN")
    return found


def _check_sizes(found: Statistics, where: str) -> None:
    told = found.provenance
    wanted = {"state": len(told.state_names), "chunk": told.action_space.size}
    for name, size in wanted.items():
        n = len(getattr(found, name).mean)
        if n != size:
            raise PolicyError(f"{where} has statistics of {n} {name} numbers and names of {size}")


def _check_aim(found: Statistics, where: str) -> None:
    n = 0 if found.target is None else len(found.target.mean)
    if n != found.aim.n or not found.aim.place:
        raise PolicyError(
            f"{where} has target points of {n} numbers and does not tell the frame of the metres "
            f"(3) or the camera of the picture (2) that they are told in (it says {found.aim}): "
            "compute the statistics and train again with it"
        )


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 90 else f"{text[:87]}…"
