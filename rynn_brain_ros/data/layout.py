"""LeRobotDataset v3.0 on disk: the names of its files, and what info.json says of a feature.

Source: huggingface/lerobot, ``src/lerobot/datasets`` (utils.py, feature_utils.py), 0.4 to 0.6::

    meta/info.json  meta/stats.json  meta/tasks.parquet
    meta/episodes/chunk-000/file-000.parquet     where each episode lies, and its statistics
    data/chunk-000/file-000.parquet              one row a frame
    videos/CAMERA/chunk-000/file-000.mp4         one frame a row

A file may hold many episodes; each of ours holds one, so that an episode that is added touches no
other. ``meta/rynn_brain/`` is ours: the contract and the reports.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rynn_brain_ros.files import remedy
from rynn_brain_ros.values import InputError, OutputError

VERSION = "v3.0"
FILES_PER_CHUNK = 1000
DATA_FILE_MB, VIDEO_FILE_MB = 100, 500
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
INFO, STATS, TASKS = "meta/info.json", "meta/stats.json", "meta/tasks.parquet"
OURS = "meta/rynn_brain"

DEFAULT_FEATURES: Mapping[str, str] = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
"""Columns that every data set has, with their types; each of shape (1,)."""


@dataclass(frozen=True)
class FeatureSpec:
    """``dtype``: ``video``, ``string`` or a number's. ``shape``: (H, W, 3) for video."""

    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...] = ()
    units: str = ""

    @property
    def is_video(self) -> bool:
        return self.dtype == "video"


@dataclass(frozen=True)
class DatasetSpec:
    """What does not change from episode to episode."""

    robot_type: str
    fps: int
    features: Mapping[str, FeatureSpec]

    @property
    def cameras(self) -> tuple[str, ...]:
        return tuple(key for key, feature in self.features.items() if feature.is_video)

    def size(self, camera: str) -> tuple[int, int]:
        """(height, width) in pixels."""
        height, width, _ = self.features[camera].shape
        return height, width

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(key for key, feature in self.features.items() if not feature.is_video)


def place(number: int) -> dict[str, int]:
    """Chunk and file of the ``number``-th file."""
    return {
        "chunk_index": number // FILES_PER_CHUNK,
        "file_index": number % FILES_PER_CHUNK,
    }


def info_record(
    spec: DatasetSpec, episodes: int, frames: int, tasks: int, codec: str
) -> dict[str, Any]:
    """The content of info.json."""
    return {
        "codebase_version": VERSION,
        "robot_type": spec.robot_type,
        "total_episodes": episodes,
        "total_frames": frames,
        "total_tasks": tasks,
        "chunks_size": FILES_PER_CHUNK,
        "data_files_size_in_mb": DATA_FILE_MB,
        "video_files_size_in_mb": VIDEO_FILE_MB,
        "fps": spec.fps,
        "splits": {"train": f"0:{episodes}"},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH if spec.cameras else None,
        "features": {
            **{key: _feature(feature, spec.fps, codec) for key, feature in spec.features.items()},
            **{
                key: {"dtype": dtype, "shape": [1], "names": None}
                for key, dtype in DEFAULT_FEATURES.items()
            },
        },
    }


def _feature(feature: FeatureSpec, fps: int, codec: str) -> dict[str, Any]:
    record: dict[str, Any] = {"dtype": feature.dtype, "shape": list(feature.shape)}
    if not feature.is_video:
        units = {"units": feature.units} if feature.units else {}
        return {**record, "names": list(feature.names) or None, **units}
    height, width, channels = feature.shape
    record["names"] = ["height", "width", "channels"]
    record["info"] = {
        "video.height": height,
        "video.width": width,
        "video.codec": codec,
        "video.pix_fmt": "yuv420p",
        "video.is_depth_map": False,
        "video.fps": fps,
        "video.channels": channels,
        "has_audio": False,
    }
    return record


def spec_of(info: Mapping[str, Any]) -> DatasetSpec:
    """From info.json as anybody wrote it. Raises `InputError`."""
    try:
        features = {
            key: FeatureSpec(
                feature["dtype"],
                tuple(int(n) for n in feature["shape"]),
                () if feature["dtype"] == "video" else _names(feature.get("names")),
                str(feature.get("units", "")),
            )
            for key, feature in info["features"].items()
            if key not in DEFAULT_FEATURES
        }
        return DatasetSpec(str(info["robot_type"]), int(info["fps"]), features)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{INFO} is not that of a {VERSION} data set: {error!r}") from error


def _names(names: Any) -> tuple[str, ...]:
    """LeRobot's lists, and the mapping of one list that older data sets have."""
    if isinstance(names, Mapping):
        names = next(iter(names.values()), None)
    return tuple(str(name) for name in names) if isinstance(names, list) else ()


def read_info(root: Path) -> dict[str, Any]:
    """info.json. Raises `InputError` where there is none, or it is of another version."""
    path = root / INFO
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{root} is no LeRobot data set: it has no {INFO}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    version = info.get("codebase_version") if isinstance(info, dict) else None
    if version != VERSION:
        raise InputError(
            f"{root} is of version {version}, not {VERSION}; convert it with LeRobot's own script"
        )
    return dict(info)


def not_written(what: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write {what}: {error.strerror or error}; {remedy(error)}")


def remove(path: Path) -> None:
    """A folder and all that is in it, or a file; nothing where there is none."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(NotADirectoryError):  # nor is there anything below a file
            path.unlink(missing_ok=True)
