"""Data sets into other data sets: several into one, one into parts.

An episode is taken out as it is: a video file that holds nothing else is copied, a part of a file
is encoded again.
"""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rynn_brain_ros.data.episode_files import EpisodeFiles, EpisodeWriter
from rynn_brain_ros.data.layout import OURS, DatasetSpec, not_written, remove
from rynn_brain_ros.data.reader import Dataset, Episode
from rynn_brain_ros.data.video import CODEC, codec
from rynn_brain_ros.data.writer import DatasetWriter, differences
from rynn_brain_ros.files import refuse_a_file
from rynn_brain_ros.values import InputError

Done = Callable[[], None]


def _nothing() -> None:
    """For whoever does not listen."""


def merge(sources: Sequence[Path], out: Path, done: Done = _nothing) -> int:
    """All episodes of all ``sources`` in their order, in the new data set ``out``; returns how
    many. Raises `InputError` where their features differ."""
    datasets = [Dataset(root) for root in sources]
    first = datasets[0]
    for other in datasets[1:]:
        if other.spec != first.spec:
            told = differences(first.spec, other.spec)
            raise InputError(f"{first.root} and {other.root} differ: {told}")
    episodes = [(dataset, episode) for dataset in datasets for episode in dataset.episodes]
    return _write(first.spec, episodes, out, done)


def split(
    source: Path, parts: Mapping[str, float], out: Path, done: Done = _nothing
) -> dict[str, int]:
    """``parts`` of the episodes, by name and share of their sum, as data sets ``out/NAME``; returns
    how many each has. Every episode goes to exactly one; the same call splits the same way."""
    if not parts or not all(0 < share < math.inf for share in parts.values()):
        raise InputError("name at least one part, each with a share above 0")
    dataset, total = Dataset(source), sum(parts.values())
    if total > 1 + 1e-9:
        raise InputError(f"the shares are {total:g} in sum: give shares of 1, such as 0.9 and 0.1")
    counts: dict[str, int] = {}
    chosen: dict[str, list[tuple[Dataset, Episode]]] = {name: [] for name in parts}
    for number, episode in enumerate(dataset.episodes, start=1):
        behind = {name: share / total * number - len(chosen[name]) for name, share in parts.items()}
        chosen[max(behind, key=lambda name: behind[name])].append((dataset, episode))
    for name, episodes in chosen.items():  # before anything is written
        if not episodes:
            raise InputError(f"{len(dataset.episodes)} episodes are too few for a part {name}")
        _refuse_unless_new(out / name)
    for name, episodes in chosen.items():
        counts[name] = _write(dataset.spec, episodes, out / name, done)
    return counts


def _refuse_unless_new(out: Path) -> None:
    refuse_a_file(out)
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out} is not empty: choose another folder")


def _write(
    spec: DatasetSpec, episodes: Iterable[tuple[Dataset, Episode]], out: Path, done: Done
) -> int:
    _refuse_unless_new(out)
    writer, folder = DatasetWriter(out, spec), out / OURS / "staging"
    try:
        for dataset, episode in episodes:
            writer.add(take_out(dataset, episode, folder))
            done()
    finally:
        remove(folder)
    return writer.n_episodes


def take_out(dataset: Dataset, episode: Episode, folder: Path) -> EpisodeFiles:
    """The episode in a folder of its own, as `DatasetWriter` takes it."""
    alone = [camera for camera in dataset.spec.cameras if _is_alone(dataset, episode, camera)]
    features = {k: v for k, v in dataset.spec.features.items() if k not in alone}
    spec = DatasetSpec(dataset.spec.robot_type, dataset.spec.fps, features)
    writer = EpisodeWriter(folder, spec)
    columns = dataset.columns(episode)
    videos = {camera: dataset.images(episode, camera) for camera in spec.cameras}
    for row in range(episode.length):
        values = {name: column[row] for name, column in columns.items()}
        writer.add({**values, **{camera: next(images) for camera, images in videos.items()}})
    report = {"from": dataset.root.name, "episode": episode.index}
    files = writer.close(_task(dataset, episode), report)
    for camera in alone:
        try:
            shutil.copyfile(dataset.video_file(episode, camera)[0], files.video(camera))
        except OSError as error:
            raise not_written(folder, error) from error
    stats = {**files.stats, **{c: dataset.episode_stats(episode)[c] for c in alone}}
    return EpisodeFiles(files.folder, files.length, files.task, stats, report)


def _task(dataset: Dataset, episode: Episode) -> str:
    """The one that most of its frames have."""
    indices: Any = dataset.columns(episode, ["task_index"])["task_index"]
    return dataset.tasks[Counter(indices[:, 0].tolist()).most_common(1)[0][0]]


def _is_alone(dataset: Dataset, episode: Episode, camera: str) -> bool:
    """Whether its video holds nothing else and is encoded as ours are."""
    path, _ = dataset.video_file(episode, camera)
    others = (dataset.video_file(other, camera)[0] for other in dataset.episodes)
    known = camera in dataset.episode_stats(episode)
    return known and sum(other == path for other in others) == 1 and codec(path) == CODEC
