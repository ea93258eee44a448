"""Writing files whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from rynn_brain_ros.values import OutputError


def write_whole(path: Path, data: bytes) -> None:
    """Writes ``data`` to ``path`` through a temporary file beside it.

    Readers see the old file or the new one, never a part. Raises `OutputError`.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise OutputError(f"cannot write {path}: {error.strerror}; {remedy(error)}") from error


def flush(*paths: Path) -> None:
    """They are on the disk, and not only in memory, before what they replace is removed: a power
    cut leaves one or the other. A folder's names are its own content. Raises `OSError`."""
    for path in paths:
        opened = os.open(path, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def refuse_to_replace(path: Path) -> None:
    """For what a person asked to be made anew. Raises `OutputError` where something lies there."""
    if path.exists():
        raise OutputError(
            f"{path} exists already and is not replaced: choose another --out or remove it"
        )


def refuse_a_file(folder: Path) -> None:
    """Before the work whose result will lie in ``folder``, which may not exist yet. Raises
    `OutputError` where it, or what it would lie in, is a file or may not be written."""
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror}; {remedy(error)}") from error
    if not there.is_dir():
        raise OutputError(f"cannot write to {folder}: {there} is a file, not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write to {folder}: you may not write in {there}")


def remedy(error: OSError) -> str:
    """What a person can do about a file that could not be written."""
    return {
        errno.ENOSPC: "free some disk space or choose another folder with --out",
        errno.EFBIG: "the file-size limit was reached: free space or raise the limit",
        errno.EDQUOT: "the disk quota is used up",
        errno.EROFS: "the file system is read-only: choose another folder with --out",
        errno.EEXIST: "a file is in its place: choose another folder with --out",
        errno.ENOTDIR: "a part of this path is a file, not a folder",
    }.get(error.errno or 0, "check that the folder exists and that you may write there")
