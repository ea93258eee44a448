"""The ``local`` engine: RynnBrain's own weights on this machine, through transformers.

``open_local`` is light; torch and transformers are imported when a model is opened.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from rynn_brain_ros.values import Engine, EngineError, InputError

QUANTIZATIONS = ("none",)
_NEEDED = ("torch", "transformers", "safetensors", "jinja2")


def open_local(spec: str) -> Engine:
    """Opens ``DIR`` or ``DIR#QUANTIZATION``. Raises `InputError` for an unknown quantization and
    `EngineError` for a model that cannot be loaded here."""
    directory, _, quantization = spec.partition("#")
    if (quantization or "none") not in QUANTIZATIONS:
        raise InputError(
            f"unknown quantization {quantization!r} of {directory}: "
            f"use {' or '.join(QUANTIZATIONS)}"
        )
    missing = missing_packages()
    if missing:
        raise EngineError(
            f"local models need {', '.join(missing)}, not installed in this Python; install torch "
            "first (on a machine without a GPU from https://download.pytorch.org/whl/cpu), then "
            "the rest: pip install torch && pip install 'rynn_brain_ros[model]'"
        )
    from rynn_brain_ros.models.local.engine import LocalEngine  # noqa: PLC0415

    return LocalEngine.open(Path(directory).expanduser())


def missing_packages() -> tuple[str, ...]:
    """Of the packages that local models need, those that this Python does not have."""
    return tuple(name for name in _NEEDED if importlib.util.find_spec(name) is None)


__all__ = ["QUANTIZATIONS", "missing_packages", "open_local"]
