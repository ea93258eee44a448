"""One episode on its way into a data set: rows and videos in a folder of its own.

Rows are written in groups and videos frame by frame, so that memory does not grow with the
episode. ``episode.json`` is written last: a folder that has it is whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rynn_brain_ros.data.layout import DatasetSpec, FeatureSpec, not_written, remove
from rynn_brain_ros.data.statistics import (
    ImageStats,
    Stats,
    as_arrays,
    as_lists,
    number_stats,
)
from rynn_brain_ros.data.video import VideoWriter
from rynn_brain_ros.extras import pip_install
from rynn_brain_ros.files import write_whole
from rynn_brain_ros.values import InputError

_GROUP_ROWS = 512
ROWS, RECORD = "rows.parquet", "episode.json"


def pyarrow() -> tuple[Any, Any]:
    """The modules ``pyarrow`` and ``pyarrow.parquet``. Raises `InputError` without them."""
    try:
        import pyarrow as pa  # noqa: PLC0415  (optional, in the extra "data")
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError as error:
        raise InputError(f"data sets need pyarrow and PyAV: {pip_install('data')}") from error
    return pa, pq


def arrow_type(feature: FeatureSpec) -> Any:
    """Of a column: a value where there is one, else a list of fixed length."""
    pa, _ = pyarrow()
    value = pa.string() if feature.dtype == "string" else pa.type_for_alias(feature.dtype)
    return value if feature.shape == (1,) else pa.list_(value, feature.shape[0])


@dataclass(frozen=True)
class EpisodeFiles:
    """A whole episode in ``folder``."""

    folder: Path
    length: int
    task: str
    stats: Mapping[str, Stats]
    report: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> EpisodeFiles | None:
        """``None`` for one that was never finished."""
        try:
            record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        stats = as_arrays(record["stats"])
        return cls(folder, record["length"], record["task"], stats, record["report"])

    def video(self, camera: str) -> Path:
        return self.folder / f"{camera}.mp4"


class EpisodeWriter:
    """Takes an episode frame by frame. `close` makes it whole, `discard` leaves nothing."""

    def __init__(self, folder: Path, spec: DatasetSpec) -> None:
        pa, pq = pyarrow()
        self._pa, self.folder, self._spec, self.length = pa, folder, spec, 0
        self._rows: dict[str, list[Any]] = {key: [] for key in spec.columns}
        self._images = {camera: ImageStats() for camera in spec.cameras}
        remove(folder)
        try:
            folder.mkdir(parents=True)
            fields = [pa.field(key, arrow_type(spec.features[key])) for key in spec.columns]
            self._schema = pa.schema(fields)
            self._table = pq.ParquetWriter(folder / ROWS, self._schema)
        except OSError as error:
            raise not_written(folder, error) from error
        self._videos = {
            camera: VideoWriter(folder / f"{camera}.mp4", spec.fps, spec.size(camera))
            for camera in spec.cameras
        }

    def add(self, values: Mapping[str, Any]) -> None:
        """One frame: every feature of the data set. Raises `InputError` for a value of another
        shape, `OutputError`."""
        for key, feature in self._spec.features.items():
            value = values[key]
            if feature.dtype != "string" and np.shape(value) != feature.shape:
                raise InputError(
                    f"{key} has the shape {np.shape(value)} in frame {self.length}; the data set "
                    f"has {feature.shape}"
                )
            if feature.is_video:
                self._images[key].add(value)
                self._videos[key].add(value)
            elif feature.dtype == "string":
                self._rows[key].append(str(value))
            else:
                self._rows[key].append(np.asarray(value, feature.dtype))
        self.length += 1
        if self.length % _GROUP_ROWS == 0:
            self._flush()

    def _flush(self) -> None:
        columns = []
        for field in self._schema:
            rows = self._rows[field.name]
            if field.type == self._pa.string():
                columns.append(self._pa.array(rows, field.type))
            else:
                flat = np.concatenate(rows) if rows else np.empty(0)
                columns.append(self._column(flat, field.type))
            rows.clear()
        try:
            self._table.write_table(self._pa.Table.from_arrays(columns, schema=self._schema))
        except OSError as error:
            raise not_written(self.folder / ROWS, error) from error

    def _column(self, flat: Any, kind: Any) -> Any:
        if not self._pa.types.is_fixed_size_list(kind):
            return self._pa.array(flat, kind)
        values = self._pa.array(flat, kind.value_type)
        return self._pa.FixedSizeListArray.from_arrays(values, type=kind)

    def close(self, task: str, report: Mapping[str, Any]) -> EpisodeFiles:
        """Raises `OutputError`."""
        self._flush()
        try:
            self._table.close()
        except OSError as error:
            raise not_written(self.folder / ROWS, error) from error
        for video in self._videos.values():
            video.close()
        stats = {camera: images.stats() for camera, images in self._images.items()}
        stats.update(column_stats(self.folder / ROWS, self._spec))
        record = {
            "length": self.length,
            "task": task,
            "stats": as_lists(stats),
            "report": dict(report),
        }
        write_whole(self.folder / RECORD, json.dumps(record, ensure_ascii=False).encode())
        return EpisodeFiles(self.folder, self.length, task, stats, report)

    def discard(self) -> None:
        for video in self._videos.values():
            video.discard()
        try:
            self._table.close()
        except OSError:
            pass  # what is left goes anyway
        finally:
            remove(self.folder)


def column_stats(rows: Path, spec: DatasetSpec) -> dict[str, Stats]:
    """Of every column of numbers, read back one by one."""
    _, pq = pyarrow()
    found = {}
    for key in spec.columns:
        if spec.features[key].dtype != "string":
            column = pq.read_table(rows, columns=[key]).column(key).combine_chunks()
            found[key] = number_stats(as_matrix(column, spec.features[key]))
    return found


def as_matrix(column: Any, feature: FeatureSpec) -> Any:
    """An arrow column of numbers as [rows, n]."""
    flat = column if feature.shape == (1,) else column.flatten()
    return flat.to_numpy(zero_copy_only=False).reshape(len(column), *feature.shape)
