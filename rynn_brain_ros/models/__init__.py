"""Engines: whatever answers a `Query`.

Each implements the `Engine` protocol of `rynn_brain_ros.values` and passes `check_engine`.
"""

from __future__ import annotations

from pathlib import Path

from rynn_brain_ros.models.check import check_engine
from rynn_brain_ros.models.color_baseline import ColorBaselineEngine
from rynn_brain_ros.models.http import HttpEngine
from rynn_brain_ros.models.local import open_local
from rynn_brain_ros.models.recorded import (
    RecordedAnswer,
    RecordedEngine,
    load_recorded,
    parse_recorded,
    plain_messages,
    save_recorded,
)
from rynn_brain_ros.models.recording import RecordingEngine
from rynn_brain_ros.models.roles import Engines, Role, role_of
from rynn_brain_ros.values import Engine, InputError

ENGINE_SPELLINGS = (
    "color-baseline, recorded:FILE, local:DIR[#QUANTIZATION] or http://HOST:PORT/v1[#MODEL]"
)


def open_engine(spec: str) -> Engine:
    """Opens an engine by its command-line spelling. Raises `InputError` for an unknown one and
    `EngineError` for a server that does not answer or a model that cannot be loaded."""
    name, _, argument = spec.partition(":")
    if name == "recorded" and argument:
        return RecordedEngine.open(Path(argument))
    if name == "local" and argument:
        return open_local(argument)
    if spec == "color-baseline":
        return ColorBaselineEngine()
    if name in ("http", "https"):
        url, _, model = spec.partition("#")
        return HttpEngine(url, model)
    raise InputError(f"unknown engine {spec!r}: use {ENGINE_SPELLINGS}")


__all__ = [
    "ENGINE_SPELLINGS",
    "ColorBaselineEngine",
    "Engines",
    "HttpEngine",
    "RecordedAnswer",
    "RecordedEngine",
    "RecordingEngine",
    "Role",
    "check_engine",
    "load_recorded",
    "open_engine",
    "parse_recorded",
    "plain_messages",
    "role_of",
    "save_recorded",
]
