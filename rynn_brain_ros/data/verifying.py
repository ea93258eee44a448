"""Whether a data set keeps what its tables promise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from rynn_brain_ros.data.layout import DEFAULT_FEATURES
from rynn_brain_ros.data.reader import Dataset, Episode
from rynn_brain_ros.data.video import n_frames
from rynn_brain_ros.values import InputError

_TOLERANCE_S = 1e-4
"""As LeRobot's: timestamps may be off the grid of the frames by so much."""


def problems(dataset: Dataset) -> Iterator[str]:
    """Sentences; none for a data set that is as it should be. Videos are counted, not decoded."""
    info = dataset.info
    for name, found in (
        ("total_episodes", len(dataset.episodes)),
        ("total_frames", dataset.n_frames),
        ("total_tasks", len(dataset.tasks)),
    ):
        if info.get(name) != found:
            yield f"info.json says {name} {info.get(name)}, and there are {found}"
    first = 0
    for number, episode in enumerate(dataset.episodes):
        if episode.index != number:
            yield f"episode {episode.index} comes at place {number}"
        if episode.first_index != first:
            yield f"episode {number} begins at frame {episode.first_index}, not {first}"
        first += episode.length
        try:
            yield from (f"episode {number}: {text}" for text in _of_episode(dataset, episode))
        except InputError as error:
            yield f"episode {number}: {error}"
    yield from _videos(dataset)
    try:
        missing = set(dataset.spec.features) - set(dataset.stats())
    except InputError as error:
        yield str(error)
        return
    for key in sorted(missing):
        if dataset.spec.features[key].dtype != "string":
            yield f"stats.json has nothing of {key}"


def _of_episode(dataset: Dataset, episode: Episode) -> Iterator[str]:
    columns: dict[str, Any] = dataset.columns(episode, [*dataset.spec.columns, *DEFAULT_FEATURES])
    n = len(columns["frame_index"])
    if n != episode.length:
        yield f"{n} rows, and the table says {episode.length}"
        return
    frames = np.arange(n)
    if not np.array_equal(columns["frame_index"][:, 0], frames):
        yield "frame_index does not count from 0"
    if not np.array_equal(columns["index"][:, 0], frames + episode.first_index):
        yield "index does not go on from the episode before"
    off_s = np.abs(columns["timestamp"][:, 0] - frames / dataset.spec.fps)
    if n and off_s.max() > _TOLERANCE_S:
        yield f"timestamps are off by up to {off_s.max():.4f} s at frame {off_s.argmax()}"
    known = columns["task_index"][:, 0]
    if n and not (known.min() >= 0 and known.max() < len(dataset.tasks)):
        yield "a task_index has no task"
    for key, feature in dataset.spec.features.items():
        if feature.dtype.startswith("float"):
            bad = ~np.isfinite(columns[key]).all(axis=1)
            if bad.any():
                yield f"{key} is not finite from frame {bad.argmax()} on, {bad.sum()} times"


def _videos(dataset: Dataset) -> Iterator[str]:
    """Each file has a frame for each row that lies in it."""
    for camera in dataset.spec.cameras:
        wanted: dict[Any, int] = {}
        for episode in dataset.episodes:
            try:
                path, from_s = dataset.video_file(episode, camera)
            except InputError as error:
                yield str(error)
                continue
            end = round(from_s * dataset.spec.fps) + episode.length
            wanted[path] = max(wanted.get(path, 0), end)
        for path, n in wanted.items():
            name = path.relative_to(dataset.root)
            try:
                found = n_frames(path)
            except InputError:
                yield f"{name} cannot be read"
                continue
            if found < n:
                yield f"{name} has {found} frames; its episodes need {n}"
