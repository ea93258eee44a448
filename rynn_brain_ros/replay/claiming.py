"""Whose folder it is: a run writes where nothing lies, or over an earlier run of its kind."""

from __future__ import annotations

import json
from collections.abc import Iterable
from enum import Enum
from pathlib import Path

from rynn_brain_ros.files import refuse_a_file, remedy, write_whole
from rynn_brain_ros.values import OutputError

MARK = "run.json"
"""Written before anything else, so that a run that died left its folder marked too."""
FORMAT = "rynn_brain_ros.run/1"
_NAMED = 3


class RunKind(str, Enum):
    """What a folder keeps."""

    REPLAY = "replay"
    EPISODE = "episode"
    CHECK = "check"


def check_run_folder(path: Path, kind: RunKind) -> None:
    """Nothing is changed. Raises `OutputError` where a run of ``kind`` would replace what no
    earlier run of this kind wrote, or could not write at all."""
    refuse_a_file(path)
    try:
        names = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
    except OSError as error:
        raise cannot_write(path, error) from error
    if not names:
        return
    found = _kind_of(path)
    if found is None:
        told = ", ".join((*names[:_NAMED], *(("…",) if len(names) > _NAMED else ())))
        raise OutputError(f"{path} holds files that no run wrote ({told}): choose another --out")
    if found is not kind:
        raise OutputError(
            f"{path} holds the run of {_ONE[found]}, which {_ONE[kind]} does not replace: choose "
            "another --out"
        )


_ONE = {
    RunKind.REPLAY: "a replay",
    RunKind.EPISODE: "an episode",
    RunKind.CHECK: "a check of engines",
}


def claim_run_folder(path: Path, kind: RunKind, old: Iterable[str]) -> None:
    """Makes and marks the folder of a run, without the files of an earlier one: ``old``, as glob
    patterns. Raises `OutputError`."""
    check_run_folder(path, kind)
    try:
        path.mkdir(parents=True, exist_ok=True)
        write_whole(path / MARK, _mark(kind))
        for pattern in old:
            for file in path.glob(pattern):
                file.unlink()
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write to {path}: {error.strerror}; {remedy(error)}")


def _mark(kind: RunKind) -> bytes:
    return json.dumps({"format": FORMAT, "kind": kind.value}).encode() + b"\n"


def _kind_of(path: Path) -> RunKind | None:
    """The kind of the run that marked the folder; ``None`` where none did."""
    try:
        data = (path / MARK).read_bytes()
    except OSError:
        return None
    return next((kind for kind in RunKind if data == _mark(kind)), None)
