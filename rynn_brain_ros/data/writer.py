"""Writing a LeRobotDataset v3.0: episodes come whole or not at all, and what is there stays.

An episode's files are prepared beside their final places and then only renamed, the table of
episodes next to last and info.json last. A process that dies in between leaves either the old or
the new data set, or one that `DatasetWriter` puts right when it is opened the next time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np

from rynn_brain_ros.data.episode_files import ROWS, EpisodeFiles, arrow_type, pyarrow
from rynn_brain_ros.data.layout import (
    DATA_PATH,
    DEFAULT_FEATURES,
    EPISODES_PATH,
    FILES_PER_CHUNK,
    INFO,
    OURS,
    STATS,
    TASKS,
    VIDEO_PATH,
    DatasetSpec,
    info_record,
    not_written,
    place,
    remove,
)
from rynn_brain_ros.data.reader import Dataset
from rynn_brain_ros.data.statistics import Stats, as_lists, number_stats, together
from rynn_brain_ros.data.video import CODEC
from rynn_brain_ros.files import refuse_a_file
from rynn_brain_ros.values import InputError

REPORTS = f"{OURS}/reports"
_EPISODES_PER_FILE = 50
_PARTIAL = ".partial"


class DatasetWriter:
    """Adds episodes to the data set at ``root``, which is made where there is none.

    Raises `InputError` where ``root`` holds something else, or a data set with other features.
    """

    def __init__(self, root: Path, spec: DatasetSpec) -> None:
        self.root, self.spec = root, spec
        self._pa, self._pq = pyarrow()
        self._tasks: list[str] = []
        self._rows: list[dict[str, Any]] = []
        self._n_episodes = self._n_frames = self._n_files = 0
        self._stats: dict[str, Stats] = {}
        if (root / INFO).exists():
            self._resume()
            return
        refuse_a_file(root)
        # What a conversion keeps aside may be there before the first episode, and what one left
        # that was interrupted in it.
        ours = {"meta", "data", "videos"} if (root / OURS).is_dir() else {"meta"}
        if root.exists() and any(path.name not in ours for path in root.iterdir()):
            raise InputError(f"{root} holds other files: choose an empty or new folder")
        self._clear(frozenset())

    @classmethod
    def existing(cls, root: Path) -> DatasetWriter | None:
        """For the data set that is at ``root`` already; ``None`` where there is none."""
        return cls(root, Dataset(root).spec) if (root / INFO).exists() else None

    @property
    def n_episodes(self) -> int:
        return self._n_episodes

    def add(self, episode: EpisodeFiles) -> int:
        """Moves a whole episode in; its folder is gone afterwards. Returns its number. Raises
        `OutputError`, and then the data set is as it was."""
        new = [] if episode.task in self._tasks else [episode.task]
        tasks, changes = [*self._tasks, *new], _Changes(self.root)
        task_index = tasks.index(episode.task)
        stats = {**episode.stats, **self._index_stats(episode, task_index)}
        total = {
            key: together([self._stats[key], part]) if key in self._stats else part
            for key, part in stats.items()
        }
        rows = [*self._rows, self._row(episode, stats)]
        try:
            (self.root / OURS).mkdir(parents=True, exist_ok=True)  # whose it is, from now on
            for camera in self.spec.cameras:
                video = VIDEO_PATH.format(video_key=camera, **place(self._n_files))
                changes.move(episode.video(camera), video)
            self._data(episode, task_index, changes.new(DATA_PATH.format(**place(self._n_files))))
            report = json.dumps(dict(episode.report), ensure_ascii=False, indent=1)
            changes.write(f"{REPORTS}/{self._n_episodes:06d}.json", report.encode())
            self._meta(changes, rows, total, tasks, episode.length)
            changes.carry_out()
        except OSError as error:
            changes.undo()
            raise not_written(self.root, error) from error
        self._rows, self._stats, self._tasks = rows, total, tasks
        self._n_episodes, self._n_files = self._n_episodes + 1, self._n_files + 1
        self._n_frames += episode.length
        if len(self._rows) >= _EPISODES_PER_FILE:
            self._rows = []
        remove(episode.folder)
        return self._n_episodes - 1

    # --- one episode -----------------------------------------------------------------------------

    def _index_stats(self, episode: EpisodeFiles, task_index: int) -> dict[str, Stats]:
        columns = self._index_columns(0, episode.length, task_index)
        return {name: number_stats(values[:, None]) for name, values in columns.items()}

    def _index_columns(self, first: int, n: int, task_index: int) -> dict[str, Any]:
        frame = np.arange(first, first + n)
        values = {
            "timestamp": frame / self.spec.fps,
            "frame_index": frame,
            "episode_index": np.full(n, self._n_episodes),
            "index": self._n_frames + frame,
            "task_index": np.full(n, task_index),
        }
        return {name: values[name].astype(dtype) for name, dtype in DEFAULT_FEATURES.items()}

    def _data(self, episode: EpisodeFiles, task_index: int, target: Path) -> None:
        """The rows with their index columns, group by group."""
        pa, pq, first = self._pa, self._pq, 0
        fields = [pa.field(key, arrow_type(self.spec.features[key])) for key in self.spec.columns]
        fields += [pa.field(k, pa.type_for_alias(dtype)) for k, dtype in DEFAULT_FEATURES.items()]
        schema = pa.schema(fields)
        with (
            pq.ParquetFile(episode.folder / ROWS) as source,
            pq.ParquetWriter(target, schema) as table,
        ):
            for batch in source.iter_batches():
                columns = self._index_columns(first, len(batch), task_index)
                arrays = [*batch.columns, *(pa.array(values) for values in columns.values())]
                table.write_table(pa.Table.from_arrays(arrays, schema=schema))
                first += len(batch)

    def _row(self, episode: EpisodeFiles, stats: Mapping[str, Stats]) -> dict[str, Any]:
        """The episode's line in the table."""
        here = place(self._n_files)
        row: dict[str, Any] = {
            "episode_index": self._n_episodes,
            "tasks": [episode.task],
            "length": episode.length,
            **{f"data/{key}": value for key, value in here.items()},
            "dataset_from_index": self._n_frames,
            "dataset_to_index": self._n_frames + episode.length,
        }
        for camera in self.spec.cameras:
            row |= {f"videos/{camera}/{key}": value for key, value in here.items()}
            row[f"videos/{camera}/from_timestamp"] = 0.0
            row[f"videos/{camera}/to_timestamp"] = episode.length / self.spec.fps
        for key, part in as_lists(stats).items():
            row |= {f"stats/{key}/{name}": values for name, values in part.items()}
        return row | {
            f"meta/episodes/{k}": v
            for k, v in place(self._n_episodes // _EPISODES_PER_FILE).items()
        }

    def _meta(
        self,
        changes: _Changes,
        rows: list[dict[str, Any]],
        stats: Mapping[str, Stats],
        tasks: list[str],
        new_frames: int,
    ) -> None:
        """Everything under meta/, info.json last."""
        write_tasks(changes.new(TASKS), tasks)
        changes.write(STATS, json.dumps(as_lists(stats), indent=4).encode())
        number = self._n_episodes // _EPISODES_PER_FILE
        table = changes.new(EPISODES_PATH.format(**place(number)))
        lines = self._pa.Table.from_pylist(rows)
        # A hundred columns of a few values each: the extras would be ten times the data.
        self._pq.write_table(lines, table, use_dictionary=False, write_statistics=False)
        n_episodes, n_frames = self._n_episodes + 1, self._n_frames + new_frames
        info = info_record(self.spec, n_episodes, n_frames, len(tasks), CODEC)
        changes.write(INFO, json.dumps(info, indent=4).encode())

    # --- taking up what is there -----------------------------------------------------------------

    def _resume(self) -> None:
        found = Dataset(self.root)
        if found.spec != self.spec:
            raise InputError(
                f"{self.root} has other features: {differences(found.spec, self.spec)}"
            )
        if not (self.root / OURS).is_dir():
            raise InputError(
                f"{self.root} was written by another program; use `rynn-brain dataset merge`"
            )
        self._tasks = list(found.tasks)
        self._n_episodes, self._n_frames = len(found.episodes), found.n_frames
        self._n_files = 0
        for episode in found.episodes:
            chunk, file = episode.row["data/chunk_index"], episode.row["data/file_index"]
            self._n_files = max(self._n_files, chunk * FILES_PER_CHUNK + file + 1)
            for key, part in found.episode_stats(episode).items():
                known = self._stats.get(key)
                self._stats[key] = part if known is None else together([known, part])
        first = self._n_episodes // _EPISODES_PER_FILE * _EPISODES_PER_FILE
        self._rows = [dict(episode.row) for episode in found.episodes[first:]]
        self._put_right(found)

    def _put_right(self, found: Dataset) -> None:
        """Removes what an interrupted `add` left, and lets info.json say what there is."""
        known = {found.data_file(episode) for episode in found.episodes}
        known |= {
            found.video_file(episode, camera)[0]
            for episode in found.episodes
            for camera in self.spec.cameras
        }
        self._clear(known)
        if found.info["total_episodes"] != self._n_episodes:
            info = info_record(self.spec, self._n_episodes, self._n_frames, len(self._tasks), CODEC)
            changes = _Changes(self.root)
            changes.write(STATS, json.dumps(as_lists(self._stats), indent=4).encode())
            changes.write(INFO, json.dumps(info, indent=4).encode())
            changes.carry_out()

    def _clear(self, known: Set[Path]) -> None:
        """Removes files of episodes that are not in the table; ``known`` are those that are."""
        for path in self.root.rglob(f"*{_PARTIAL}"):
            path.unlink()
        for folder, pattern in (("data", "*/*.parquet"), ("videos", "*/*/*.mp4")):
            for path in (self.root / folder).glob(pattern):
                if path not in known:
                    path.unlink()
        for path in (self.root / REPORTS).glob("*.json"):
            if int(path.stem) >= self._n_episodes:
                path.unlink()


def episode_names(root: Path) -> frozenset[str]:
    """What the episodes of the data set are called in their reports; none where there is no data
    set yet. A report that an interrupted `add` left is not one of an episode."""
    if not (root / INFO).exists():
        return frozenset()
    paths = (root / f"{REPORTS}/{i:06d}.json" for i in range(len(Dataset(root).episodes)))
    told = (json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists())
    return frozenset(str(report["episode"]) for report in told)


class _Changes:
    """New files beside their final places; all of them are put there at the end."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._moves: list[tuple[Path, Path]] = []
        self._own: list[Path] = []

    def new(self, name: str) -> Path:
        """Where to write what becomes the file ``name``."""
        final = self._root / name
        final.parent.mkdir(parents=True, exist_ok=True)
        partial = final.with_name(f".{final.name}{_PARTIAL}")
        self._moves.append((partial, final))
        self._own.append(partial)
        return partial

    def write(self, name: str, data: bytes) -> None:
        self.new(name).write_bytes(data)

    def move(self, source: Path, name: str) -> None:
        """``source`` becomes the file ``name``."""
        final = self._root / name
        final.parent.mkdir(parents=True, exist_ok=True)
        self._moves.append((source, final))

    def carry_out(self) -> None:
        for source, final in self._moves:
            source.replace(final)

    def undo(self) -> None:
        for path in self._own:
            path.unlink(missing_ok=True)


def write_tasks(path: Path, tasks: list[str]) -> None:
    """tasks.parquet: the texts are pandas' index, as LeRobot reads it."""
    pa, pq = pyarrow()
    index = {
        "index_columns": ["__index_level_0__"],
        "column_indexes": [],
        "columns": [
            _pandas_column("task_index", "task_index", "int64"),
            _pandas_column(None, "__index_level_0__", "unicode"),
        ],
        "pandas_version": "2.0.0",
    }
    table = pa.table(
        {
            "task_index": pa.array(range(len(tasks)), pa.int64()),
            "__index_level_0__": pa.array(tasks, pa.string()),
        }
    )
    pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(index)}), path)


def _pandas_column(name: str | None, field: str, kind: str) -> dict[str, Any]:
    plain = "object" if kind == "unicode" else kind
    return {
        "name": name,
        "field_name": field,
        "pandas_type": kind,
        "numpy_type": plain,
        "metadata": None,
    }


def differences(a: DatasetSpec, b: DatasetSpec) -> str:
    """What tells two data sets apart, in words."""
    if a.fps != b.fps:
        return f"{a.fps} and {b.fps} frames a second"
    if a.robot_type != b.robot_type:
        return f"robots {a.robot_type} and {b.robot_type}"
    for key in (*a.features, *b.features):
        one, other = a.features.get(key), b.features.get(key)
        if one != other:
            return f"{key} is {_told(one)} and {_told(other)}"
    return "the features come in another order"


def _told(feature: Any) -> str:
    return "missing" if feature is None else f"{feature.dtype} {list(feature.shape)}"
