"""Engines: whatever answers a `Query`.

Each implements the `Engine` protocol of `rynn_brain_ros.values` and passes `check_engine`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from rynn_brain_ros.models.check import check_engine
from rynn_brain_ros.models.color_baseline import ColorBaselineEngine
from rynn_brain_ros.models.http import HttpEngine
from rynn_brain_ros.models.local import check_memory, open_local
from rynn_brain_ros.models.nano import open_nano
from rynn_brain_ros.models.progress import Progress, untold
from rynn_brain_ros.models.recorded import (
    RecordedAnswer,
    RecordedEngine,
    load_recorded,
    parse_recorded,
    plain_messages,
    save_recorded,
)
from rynn_brain_ros.models.recording import RecordingEngine, recorded_answer
from rynn_brain_ros.models.roles import Engines, Role, parse_roles, role_of
from rynn_brain_ros.models.worker import WorkerEngine
from rynn_brain_ros.values import Engine, InputError

ENGINE_SPELLINGS = (
    "color-baseline, nano, recorded:FILE, local:DIR[#QUANTIZATION] or http://HOST:PORT/v1[#MODEL]"
)
ENGINES_SPELLINGS = (
    f"{ENGINE_SPELLINGS}; or one for each role: ground=ENGINE,plan=ENGINE,think=ENGINE,…"
)


def open_engines(
    spec: str, progress: Progress = untold, worker: Callable[[str], Engine] | None = None
) -> Engines:
    """Opens the engines of all roles (`parse_roles`): what is named twice is opened once.

    ``worker`` opens, in a process of its own, all that is not served elsewhere anyway.

    Whether the models of several roles fit into memory together is checked before the first is
    loaded. Raises what `open_engine` does; nothing stays open then.
    """
    by_role = parse_roles(spec)
    named: dict[str, str] = {}
    for role, engine in by_role.items():
        named[engine] = f"{named[engine]}+{role.value}" if engine in named else role.value
    models = {n: e.removeprefix("local:") for e, n in named.items() if e.startswith("local:")}
    if len(models) > 1 and worker is None:  # what a model needs is known where it is loaded
        check_memory(models)
    with contextlib.ExitStack() as opened:
        engines = {}
        for engine in named:
            if worker is None or engine.startswith(("http:", "https:")):
                engines[engine] = open_engine(engine, progress)
            else:
                engines[engine] = worker(engine)
            opened.callback(engines[engine].close)
        opened.pop_all()
    return Engines({role: engines[engine] for role, engine in by_role.items()})


def open_engine(spec: str, progress: Progress = untold) -> Engine:
    """Opens an engine by its command-line spelling. Raises `InputError` for an unknown one and
    `EngineError` for a server that does not answer or a model that cannot be loaded."""
    name, _, argument = spec.partition(":")
    if name == "recorded" and argument:
        return RecordedEngine.open(Path(argument).expanduser())
    if name == "local" and argument:
        return open_local(argument, progress)
    if spec == "color-baseline":
        return ColorBaselineEngine()
    if spec.partition("#")[0] == "nano":
        return open_nano(spec.partition("#")[2], progress)
    if name in ("http", "https"):
        url, _, model = spec.partition("#")
        return HttpEngine(url, model)
    raise InputError(f"unknown engine {spec!r}: use {ENGINE_SPELLINGS}")


def runs_here(spec: str) -> tuple[str, ...]:
    """Those of the engines of `parse_roles` that load a model into the process that opens them."""
    named = dict.fromkeys(parse_roles(spec).values())
    return tuple(e for e in named if e.startswith("local:") or e.partition("#")[0] == "nano")


__all__ = [
    "ENGINES_SPELLINGS",
    "ENGINE_SPELLINGS",
    "ColorBaselineEngine",
    "Engines",
    "HttpEngine",
    "RecordedAnswer",
    "RecordedEngine",
    "RecordingEngine",
    "Role",
    "WorkerEngine",
    "check_engine",
    "load_recorded",
    "open_engine",
    "open_engines",
    "parse_recorded",
    "parse_roles",
    "plain_messages",
    "recorded_answer",
    "role_of",
    "runs_here",
    "save_recorded",
]
