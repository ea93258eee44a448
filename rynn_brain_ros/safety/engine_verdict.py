"""The verdict of ``rynn-brain check-engine``, as the gate reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rynn_brain_ros.values import Answer, ConfigError

FORMAT = "rynn_brain_ros.engine_verdict/1"


@dataclass(frozen=True)
class EngineIdentity:
    """What must be the same for a verdict to hold: the kind of engine, its model, the weights'
    revision, and their quantization."""

    engine: str
    model: str
    revision: str = ""
    quantization: str = "none"

    @classmethod
    def of(cls, answer: Answer) -> EngineIdentity:
        """Of whoever gave ``answer``."""
        return cls(answer.engine, answer.model, answer.revision, answer.quantization)

    def __str__(self) -> str:
        revision = f" at {self.revision[:12]}" if self.revision else ""
        return f"{self.engine} {self.model}{revision}, quantization {self.quantization or 'none'}"


@dataclass(frozen=True)
class EngineVerdict:
    """What a check said of one engine. ``reason`` is why it failed, ``when`` the check's date and
    time (ISO 8601), ``tasks`` are those of the cases that it was asked, as `values.Task` has them,
    sorted."""

    identity: EngineIdentity
    passed: bool
    reason: str
    when: str
    cases: int
    tasks: tuple[str, ...]


def read_verdicts(path: Path) -> tuple[EngineVerdict, ...]:
    """The verdicts of a ``verdict.json``, one for each engine of the check. Raises `ConfigError`
    where there is no such file or it is something else."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] != FORMAT:
            raise ValueError(f"its format is {record['format']!r}, known is {FORMAT!r}")
        return tuple(verdict_of(entry, str(record["when"])) for entry in record["engines"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path} is no engine's verdict ({type(error).__name__}: {error}); make one with "
            "rynn-brain check-engine ENGINE --cases FILE"
        ) from error


def verdict_of(entry: Mapping[str, Any], when: str) -> EngineVerdict:
    """One engine's part of the file. Raises `KeyError`, `TypeError` or `ValueError`."""
    if type(entry["passed"]) is not bool:
        raise TypeError(f"passed is {entry['passed']!r}, not true or false")
    identity = EngineIdentity(
        *(str(entry[name]) for name in ("engine", "model", "revision", "quantization"))
    )
    reason, cases = "; ".join(map(str, entry["reasons"])), int(entry["numbers"]["cases"])
    tasks = sorted({str(case["task"]) for case in entry["cases"] if not case["skipped"]})
    return EngineVerdict(identity, entry["passed"], reason, when, cases, tuple(tasks))
