"""Demonstrations as a policy learns them: what was seen, and the chunk of actions that followed.

They come from LeRobot v3.0 data sets and mean what the contract in them says. All of a run's data
sets have one contract.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rynn_brain_ros.data import Contract, Dataset, Episode
from rynn_brain_ros.data.conditioning import GROUNDINGS, PLAN
from rynn_brain_ros.data.known_contracts import find_contract
from rynn_brain_ros.data.layout import OURS
from rynn_brain_ros.vla.aiming import Aim
from rynn_brain_ros.vla.network import Batch
from rynn_brain_ros.vla.normalization import Provenance, Statistics, compute, provenance_of
from rynn_brain_ros.vla.reading import Reader, resized
from rynn_brain_ros.vla.values import Floats, Observation, PolicyError

STATE = "observation.state"
SeenT = TypeVar("SeenT")


@dataclass(frozen=True, eq=False)
class Demonstration:
    """One episode of T frames. ``states`` [T, S] and ``actions`` [T, D] are as they were recorded,
    in the contract's units; ``tasks``, ``steps`` and ``targets`` are told at each frame, and
    ``ends`` is the row at which a frame's step is over."""

    dataset: Dataset
    episode: Episode
    states: Floats
    actions: Floats
    tasks: Sequence[str]
    steps: Sequence[str]
    targets: Sequence[tuple[float, ...]]
    ends: Sequence[int]

    def chunk(self, row: int, horizon: int, end: int = 0) -> Floats:
        """[H, D] from ``row`` on; past ``end``, or the episode's, the last action is repeated."""
        rows = np.minimum(np.arange(row, row + horizon), (end or len(self.actions)) - 1)
        return self.actions[rows]

    def n_real(self, row: int, horizon: int) -> int:
        """How many of a chunk's actions are no repetition."""
        return min(horizon, len(self.actions) - row)


@dataclass(frozen=True)
class Key:
    """One sample: which episode, at which row, whether step and target point are withheld, and the
    seed of the noise on the measured state, 0 for none."""

    episode: int
    row: int
    withheld: bool = False
    jitter: int = 0


@dataclass(frozen=True, eq=False)
class Sample:
    """``actions`` [H, D] are absolute; ``real`` bool [H] is false where the episode was over;
    ``jitter`` as in `Key`."""

    observation: Observation
    actions: Floats
    real: NDArray[np.bool_]
    jitter: int = 0


def without_brain(sample: Sample) -> Sample:
    """The target point withheld, and the step with it, whose words hold its coordinates."""
    return replace(sample, observation=replace(sample.observation, step="", target_point=()))


@dataclass(frozen=True, eq=False)
class Shown(Generic[SeenT]):
    """What the network is trained with: prompts and pictures of B samples (`Batch`, or an expert's
    `Seen`), the normalized state [B, S] and chunk [B, H, D], and which actions count, 1 or 0
    [B, H, 1]."""

    seen: SeenT
    state: Tensor
    chunk: Tensor
    counts: Tensor

    def to(self, device: torch.device | str) -> Shown[SeenT]:
        return Shown(*(part.to(device) for part in vars(self).values()))


class Demonstrations(torch.utils.data.Dataset[Sample]):  # type: ignore[misc]
    """All episodes of the data sets ``sets``; a sample is asked for by its `Key`.

    Pictures come in ``image_size`` (height, width); up to ``cache_mib`` of them are kept in
    memory by each process that reads. Raises `PolicyError`, and `InputError` for files.
    """

    def __init__(
        self,
        sets: Sequence[Path],
        horizon: int,
        image_size: tuple[int, int],
        *,
        contract: str = "",
        target: str = "none",
        target_frame: str = "",
        learn_padding: bool = False,
        stay_after_step: bool = False,
        cache_mib: int = 0,
    ) -> None:
        if not sets:
            raise PolicyError("no data sets: give data.sets=[FOLDER]")
        given = find_contract(contract) if contract else None
        opened = [(Dataset(root), given or contract_of(root)) for root in sets]
        self.contract = opened[0][1]
        self.provenance: Provenance = provenance_of(self.contract)
        topic = self.contract.cameras[0].sources[0].channel.topic
        aims = {"none": Aim(), "image": Aim(2, camera=topic), "metres": Aim(3, target_frame)}
        self.aim = aims[target]
        self.horizon, self._size = horizon, image_size
        self._learn_padding, self._stay_after_step = learn_padding, stay_after_step
        self._left_bytes, self._kept = cache_mib << 20, dict[tuple[int, int], Any]()
        for dataset, own in opened:
            _check_same(dataset.root, provenance_of(own), sets[0], self.provenance)
            _check_fits(dataset, own)
        self.demonstrations = [
            self._read(dataset, episode) for dataset, _ in opened for episode in dataset.episodes
        ]
        if self.aim.n and not self.share_aimed:
            raise PolicyError(
                f"no frame of {', '.join(map(str, sets))} tells a target point in {target}: record "
                "with the brain running (contract: conditioning), or set data.target=none"
            )

    @property
    def share_aimed(self) -> float:
        """Of all frames, how many have a target point."""
        told = [bool(target) for each in self.demonstrations for target in each.targets]
        return sum(told) / len(told)

    def division(
        self, share: float, seed: int, chosen: Sequence[int] = ()
    ) -> tuple[list[Key], list[Key]]:
        """Frames to learn from and frames of the held-out episodes: those ``chosen`` by their
        numbers, else ``share`` of all of them."""
        n = len(self.demonstrations)
        unknown = set(chosen) - set(range(n))
        if unknown:
            told = ", ".join(map(str, unknown))
            raise PolicyError(f"data.held_out_episodes holds {told}; episodes are 0 to {n - 1}")
        n_held = max(1, round(share * n)) if share else 0
        held = set(chosen or np.random.default_rng(seed).permutation(n)[:n_held].tolist())
        if len(held) >= n:
            raise PolicyError(
                f"{n} episodes, {len(held)} of them held out: record more, or hold out fewer"
            )
        keys = [Key(e, row) for e in range(n) for row in range(len(self.demonstrations[e].states))]
        return [k for k in keys if k.episode not in held], [k for k in keys if k.episode in held]

    def n_counting(self, key: Key) -> int:
        """How many actions of this chunk are learned."""
        each = self.demonstrations[key.episode]
        if self._learn_padding or self._end(key) < len(each.actions):
            return self.horizon
        return each.n_real(key.row, self.horizon)

    def _actions(self, key: Key) -> Floats:
        return self.demonstrations[key.episode].chunk(key.row, self.horizon, self._end(key))

    def _end(self, key: Key) -> int:
        """What is not told of the step can not know its end."""
        each = self.demonstrations[key.episode]
        ends = self._stay_after_step and not key.withheld
        return each.ends[key.row] if ends else len(each.actions)

    def statistics(self, keys: Sequence[Key]) -> Statistics:
        """Of all that the network is shown of these frames, and of nothing else."""

        def told() -> Iterator[tuple[Floats, Floats, tuple[float, ...]]]:
            for key in keys:
                each = self.demonstrations[key.episode]
                actions = self._actions(key)[: self.n_counting(key)]
                yield each.states[key.row], actions, each.targets[key.row]

        return compute(told(), self.provenance, self.aim)

    def __getitem__(self, key: Key) -> Sample:
        found = self.without_pictures(key)
        images = self._images(key.episode, key.row)
        return replace(found, observation=replace(found.observation, images=images))

    def without_pictures(self, key: Key) -> Sample:
        each, row = self.demonstrations[key.episode], key.row
        observation = Observation(
            images={},
            state=each.states[row],
            instruction=each.tasks[row],
            step=each.steps[row],
            target_point=each.targets[row],
        )
        real = np.arange(self.horizon) < self.n_counting(key)
        found = Sample(observation, self._actions(key), real, key.jitter)
        return without_brain(found) if key.withheld else found

    def _images(self, number: int, row: int) -> dict[str, NDArray[np.uint8]]:
        if (number, row) in self._kept:
            kept: dict[str, NDArray[np.uint8]] = self._kept[number, row]
            return kept
        each, (height, width) = self.demonstrations[number], self._size
        images = {
            camera.key.rpartition(".")[2]: resized(
                each.dataset.image(each.episode, camera.key, row), (width, height)
            )
            for camera in self.contract.cameras
        }
        self._left_bytes -= sum(image.nbytes for image in images.values())
        if self._left_bytes >= 0:
            self._kept[number, row] = images
        return images

    def _read(self, dataset: Dataset, episode: Episode) -> Demonstration:
        texts = [name for name in (PLAN, GROUNDINGS) if name in dataset.spec.features]
        actions = [feature.key for feature in self.contract.actions]
        columns = dataset.columns(episode, [STATE, *actions, *texts, "task_index"])
        nothing = [""] * episode.length
        steps = list(columns.get(PLAN, nothing))
        points = {text: self.aim.point(text) for text in set(columns.get(GROUNDINGS, nothing))}
        return Demonstration(
            dataset,
            episode,
            np.asarray(columns[STATE], np.float64),
            np.concatenate([np.asarray(columns[key], np.float64) for key in actions], axis=1),
            [dataset.tasks[int(i)] for i in np.ravel(columns["task_index"])],
            steps,
            [points[text] for text in columns.get(GROUNDINGS, nothing)],
            _ends(steps),
        )


def _ends(steps: Sequence[str]) -> list[int]:
    """For each row the first behind it that has another step."""
    ends = [len(steps)] * len(steps)
    for row in range(len(steps) - 2, -1, -1):
        ends[row] = ends[row + 1] if steps[row] == steps[row + 1] else row + 1
    return ends


@dataclass(frozen=True)
class Collator:
    """Samples → what the network is shown, in whichever process reads them. ``state_noise`` is in
    standard deviations of the measured state, for samples with a jitter: their actions stay where
    they are, so that what is learned leads back to them. It is the most of it: each sample has its
    own share, often a small one, to be led back from afar and be exact when near."""

    reader: Reader
    statistics: Statistics = field(repr=False)
    state_noise: float = 0.0

    def __call__(self, samples: Sequence[Sample]) -> Shown[Batch]:
        seen = self.reader.batch([sample.observation for sample in samples])
        return Shown(seen, *self.numbers(samples))

    def numbers(self, samples: Sequence[Sample]) -> tuple[Tensor, Tensor, Tensor]:
        """``state``, ``chunk`` and ``counts`` of `Shown`."""
        observations = [self._jittered(sample) for sample in samples]
        states = np.stack([each.state for each in observations])  # [B, S]
        actions = np.stack([sample.actions for sample in samples])  # [B, H, D]
        chunk = self.statistics.chunk_in(actions, states).astype(np.float32)
        real = np.stack([sample.real for sample in samples])[..., None]  # [B, H, 1]
        counts = torch.from_numpy(real.astype(np.float32))
        return self.reader.states(observations), torch.from_numpy(chunk), counts

    def _jittered(self, sample: Sample) -> Observation:
        observation = sample.observation
        if not (sample.jitter and self.state_noise):
            return observation
        dice = np.random.default_rng(sample.jitter)
        noise = self.state_noise * dice.random() ** 2
        off = dice.standard_normal(len(observation.state)) * self.statistics.state.std
        return replace(observation, state=observation.state + noise * off)


def contract_of(root: Path) -> Contract:
    """That a data set was converted with. Raises `PolicyError` where it holds none."""
    path = root / OURS / "contract.yaml"
    if not path.is_file():
        raise PolicyError(
            f"{root} holds no contract ({path.relative_to(root)}): name the one that its numbers "
            "follow with data.contract"
        )
    return find_contract(str(path))


def _check_same(root: Path, own: Provenance, first_root: Path, first: Provenance) -> None:
    there, here = first.record(), own.record()
    different = [f"{k} is {here[k]} and {there[k]}" for k in here if here[k] != there[k]]
    if different:
        raise PolicyError(
            f"{root} and {first_root} have different contracts: {'; '.join(different)}; train a "
            "policy for each"
        )


def _check_fits(dataset: Dataset, contract: Contract) -> None:
    """That a data set holds what its contract says."""
    spec = dataset.spec
    numbers = [f for f in contract.features if not f.is_image]
    wrong = [
        f"{f.key} holds {', '.join(spec.features[f.key].names) if f.key in spec.features else '—'}"
        f", the contract says {', '.join(f.names)}"
        for f in numbers
        if f.key not in spec.features or spec.features[f.key].names != f.names
    ]
    wrong += [f"{c.key} is missing" for c in contract.cameras if c.key not in spec.cameras]
    if spec.fps != contract.fps:
        wrong.append(f"it has {spec.fps} frames a second, the contract {contract.fps}")
    if wrong:
        raise PolicyError(f"{dataset.root} does not follow its contract: {'; '.join(wrong)}")
