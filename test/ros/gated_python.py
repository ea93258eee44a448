"""A Python for an engine's own process, which begins to run when the test lets it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


class GatedPython:
    """An executable at ``path`` that waits until `open` was called. Skips the test where
    RYNN_BRAIN_ENGINE_PYTHON names no Python that has rynn_brain_ros[serve]."""

    def __init__(self, folder: Path) -> None:
        python = os.environ.get("RYNN_BRAIN_ENGINE_PYTHON", "")
        if not python:
            pytest.skip("RYNN_BRAIN_ENGINE_PYTHON names no Python that has rynn_brain_ros[serve]")
        self._gate, self.path = folder / "go", folder / "python"
        wait = f'while [ ! -e "{self._gate}" ]; do sleep 0.05; done'
        self.path.write_text(f'#!/bin/sh\n{wait}\nexec "{python}" "$@"\n')
        self.path.chmod(0o755)

    def open(self) -> None:
        self._gate.touch()
