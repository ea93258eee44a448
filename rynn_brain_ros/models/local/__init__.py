"""The ``local`` engine: RynnBrain's own weights on this machine, through transformers.

What is defined here is light; torch and transformers are imported when a model is opened.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

from rynn_brain_ros.extras import pip_install
from rynn_brain_ros.models.local.quantization import QUANTIZATIONS, check_word
from rynn_brain_ros.models.progress import Progress, untold
from rynn_brain_ros.values import Engine, EngineError

_NEEDED = ("torch", "transformers", "safetensors", "jinja2")


def open_local(spec: str, progress: Progress = untold, dtype: str = "", device: str = "") -> Engine:
    """Opens ``DIR`` or ``DIR#QUANTIZATION``, in ``dtype`` (``BF16``, ``F16``, ``F32``) or as it is
    stored, on ``device`` (``cpu``, ``cuda:1``) or the GPU with the most room, where there is one.
    Raises `InputError` for an unknown quantization and `EngineError` for a model that cannot be
    loaded here."""
    path, quantization = _parse(spec)
    require_packages()
    from rynn_brain_ros.models.local.engine import LocalEngine  # noqa: PLC0415

    return LocalEngine.open(
        path, device=device, dtype=dtype, quantization=quantization, progress=progress
    )


def check_memory(specs: Mapping[str, str]) -> None:
    """Whether several models fit at once: spellings as for `open_local`, by what they are for.

    Raises `InputError` and `EngineError` as `open_local` does, with nothing loaded yet.
    """
    parsed = {name: _parse(spec) for name, spec in specs.items()}
    require_packages()
    from rynn_brain_ros.models.local import loading  # noqa: PLC0415

    loading.check_memory(
        {
            name: loading.make_request(path, quantization=quantization)
            for name, (path, quantization) in parsed.items()
        }
    )


def require_packages() -> None:
    """Raises `EngineError` with the command that installs what local models need."""
    missing = missing_packages()
    if missing:
        raise EngineError(
            f"local models need {', '.join(missing)}, not installed in this Python; install torch "
            "first (on a machine without a GPU from https://download.pytorch.org/whl/cpu), then "
            f"the rest: {pip_install('model')}"
        )


def missing_packages() -> tuple[str, ...]:
    """Of the packages that local models need, those that this Python does not have."""
    return tuple(name for name in _NEEDED if importlib.util.find_spec(name) is None)


def _parse(spec: str) -> tuple[Path, str]:
    """(directory, quantization; empty: as it is stored)."""
    directory, _, quantization = spec.partition("#")
    check_word(quantization or "none", f"of {directory}")
    return Path(directory).expanduser(), quantization


__all__ = ["QUANTIZATIONS", "check_memory", "missing_packages", "open_local", "require_packages"]
