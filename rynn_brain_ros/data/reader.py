"""Reading a LeRobotDataset v3.0, whoever wrote it, with pyarrow and PyAV alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.data.episode_files import as_matrix, pyarrow
from rynn_brain_ros.data.layout import (
    DATA_PATH,
    DEFAULT_FEATURES,
    STATS,
    TASKS,
    VIDEO_PATH,
    DatasetSpec,
    FeatureSpec,
    read_info,
    spec_of,
)
from rynn_brain_ros.data.statistics import Stats, as_arrays
from rynn_brain_ros.data.video import RGB, frames
from rynn_brain_ros.values import InputError

Column = NDArray[Any] | list[str]


@dataclass(frozen=True)
class Episode:
    """``first_index``: of its first frame among all. ``row``: its line of the episodes' table."""

    index: int
    length: int
    tasks: tuple[str, ...]
    first_index: int
    row: Mapping[str, Any]


class Dataset:
    """A data set at ``root``. Raises `InputError` for what is none, or cannot be read."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.info = read_info(root)
        self.spec: DatasetSpec = spec_of(self.info)
        rows = sorted(self._episode_rows(), key=lambda row: int(row["episode_index"]))
        self.episodes = tuple(_episode(row) for row in rows)
        self.tasks = self._read_tasks()

    @property
    def n_frames(self) -> int:
        return sum(episode.length for episode in self.episodes)

    def stats(self) -> dict[str, Stats]:
        path = self.root / STATS
        try:
            return as_arrays(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read: {error}") from error

    def episode_stats(self, episode: Episode) -> dict[str, Stats]:
        """As they are in the episodes' table."""
        found: dict[str, Stats] = {}
        for name, value in episode.row.items():
            if name.startswith("stats/") and value is not None:
                feature, _, kind = name.removeprefix("stats/").rpartition("/")
                found.setdefault(feature, {})[kind] = np.asarray(value)
        return found

    def columns(self, episode: Episode, names: Sequence[str] | None = None) -> dict[str, Column]:
        """Numbers as [frames, n], text as a list; by default the features that are no video."""
        _, pq = pyarrow()
        path = self.data_file(episode)
        wanted = list(self.spec.columns if names is None else names)
        try:
            only = [("episode_index", "==", episode.index)]
            table = pq.read_table(path, columns=wanted, filters=only)
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read: {error}") from error
        return {name: _column(table.column(name), self._feature(name)) for name in wanted}

    def images(self, episode: Episode, camera: str) -> Iterator[RGB]:
        """Every frame of one camera, RGB uint8 [H, W, 3]."""
        path, from_s = self.video_file(episode, camera)
        return frames(path, from_s, episode.length, self.spec.fps)

    def frame(self, index: int) -> dict[str, Any]:
        """All features of one frame, by its number among all."""
        episode = self.episode_at(index)
        row = index - episode.first_index
        columns = self.columns(episode, [*self.spec.columns, "task_index"])
        found: dict[str, Any] = {name: values[row] for name, values in columns.items()}
        for camera in self.spec.cameras:
            found[camera] = self.image(episode, camera, row)
        found["task"] = self.tasks[int(found.pop("task_index").item())]
        return found

    def image(self, episode: Episode, camera: str, row: int) -> RGB:
        """One frame of one camera, RGB uint8 [H, W, 3]."""
        path, from_s = self.video_file(episode, camera)
        return next(frames(path, from_s + row / self.spec.fps, 1, self.spec.fps))

    def episode_at(self, index: int) -> Episode:
        """That holds a frame."""
        for episode in self.episodes:
            if episode.first_index <= index < episode.first_index + episode.length:
                return episode
        raise InputError(f"there is no frame {index}; {self.root} has {self.n_frames}")

    # --- files -----------------------------------------------------------------------------------

    def data_file(self, episode: Episode) -> Path:
        template = str(self.info.get("data_path") or DATA_PATH)
        return self.root / template.format(**_place(episode, "data"))

    def video_file(self, episode: Episode, camera: str) -> tuple[Path, float]:
        """The file, and where in it the episode begins, in seconds."""
        template, prefix = str(self.info.get("video_path") or VIDEO_PATH), f"videos/{camera}"
        path = self.root / template.format(video_key=camera, **_place(episode, prefix))
        return path, float(episode.row[f"{prefix}/from_timestamp"])

    def _episode_rows(self) -> Iterator[dict[str, Any]]:
        _, pq = pyarrow()
        for path in sorted((self.root / "meta" / "episodes").glob("*/*.parquet")):
            try:
                yield from pq.read_table(path).to_pylist()
            except (OSError, ValueError) as error:
                raise InputError(f"{path} cannot be read: {error}") from error

    def _read_tasks(self) -> tuple[str, ...]:
        _, pq = pyarrow()
        path = self.root / TASKS
        try:
            table = pq.read_table(path)
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read: {error}") from error
        text = next(name for name in table.column_names if name != "task_index")
        by_index = dict(zip(table["task_index"].to_pylist(), table[text].to_pylist(), strict=True))
        return tuple(str(by_index[i]) for i in sorted(by_index))

    def _feature(self, name: str) -> FeatureSpec:
        if name in DEFAULT_FEATURES:
            return FeatureSpec(DEFAULT_FEATURES[name], (1,))
        return self.spec.features[name]


def _episode(row: Mapping[str, Any]) -> Episode:
    try:
        return Episode(
            index=int(row["episode_index"]),
            length=int(row["length"]),
            tasks=tuple(row["tasks"]),
            first_index=int(row["dataset_from_index"]),
            row=row,
        )
    except (KeyError, TypeError) as error:
        raise InputError(f"the table of episodes lacks {error}") from error


def _place(episode: Episode, prefix: str) -> dict[str, int]:
    try:
        return {key: int(episode.row[f"{prefix}/{key}"]) for key in ("chunk_index", "file_index")}
    except (KeyError, TypeError) as error:
        raise InputError(f"episode {episode.index}: nobody says where its {prefix} is") from error


def _column(column: Any, feature: FeatureSpec) -> Column:
    if feature.dtype == "string":
        return [str(text) for text in column.to_pylist()]
    matrix: NDArray[Any] = as_matrix(column.combine_chunks(), feature)
    return matrix
