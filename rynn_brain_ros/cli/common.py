"""What all commands share: how they end, and how they speak."""

from __future__ import annotations

import sys
from pathlib import Path

from rynn_brain_ros.values import EngineError, InputError, OutputError, RynnBrainError

DONE, DRIFTED, BAD_INPUT, ENGINE_FAILED, NOT_WRITTEN, INTERRUPTED = 0, 1, 2, 3, 4, 130


def exit_code(error: RynnBrainError) -> int:
    if isinstance(error, OutputError):
        return NOT_WRITTEN
    return ENGINE_FAILED if isinstance(error, EngineError) else BAD_INPUT


def say(text: str) -> None:
    """To people, on standard error: standard output is for results."""
    print(text, file=sys.stderr)


def path(text: str) -> Path:
    """``Path("")`` would mean the folder that one happens to be in."""
    if not text.strip():
        raise InputError("an empty path was given: name a file or a folder")
    return Path(text)
