"""Whether a model fits, before a byte of it is loaded."""

from __future__ import annotations

from pathlib import Path

from rynn_brain_ros.models.local.checkpoint import DTYPE_BYTES, Checkpoint
from rynn_brain_ros.models.profiles import fits
from rynn_brain_ros.values import EngineError

CONTEXT_TOKENS = 12288
"""Room that is kept for keys and values: training's visual budget of 10240 tokens, and words."""
_WORK_SHARE = 0.05
"""Of the weights, for activations and what the libraries need. Estimated."""
_MEMINFO = Path("/proc/meminfo")
_CGROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)


def needed_bytes(checkpoint: Checkpoint, dtype: str) -> int:
    """Weights in ``dtype`` (safetensors' spelling), the cache for `CONTEXT_TOKENS`, and work."""
    width = DTYPE_BYTES[dtype]
    weights = checkpoint.n_parameters * width
    cache = checkpoint.kv_bytes_per_token * CONTEXT_TOKENS * width // 2
    return int(weights * (1 + _WORK_SHARE)) + cache


def available_bytes() -> int | None:
    """Main memory that this process may still take: of the machine, and of its container.

    ``None`` where the system does not tell.
    """
    rooms = [room for limit, used in _CGROUPS if (room := _room(limit, used)) is not None]
    machine = _machine_available()
    return min([*rooms, *([] if machine is None else [machine])], default=None)


def check_fits(checkpoint: Checkpoint, dtype: str, available: int | None, where: str) -> None:
    """Raises `EngineError` that says what is needed, what is there and what would fit."""
    needed = needed_bytes(checkpoint, dtype)
    if available is None or needed <= available:
        return
    smaller = "; ".join(fits(available)[:3]) or "no checkpoint of the family does"
    raise EngineError(
        f"{checkpoint.name} ({checkpoint.n_parameters / 1e9:.2f} billion parameters) needs about "
        f"{needed / 1e9:.1f} GB in {dtype} and {available / 1e9:.1f} GB of {where} are free; "
        f"what would fit: {smaller}. Free memory, or choose one of these"
    )


def _machine_available() -> int | None:
    try:
        lines = _MEMINFO.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    values = (line.split() for line in lines if line.startswith("MemAvailable:"))
    return next((int(words[1]) * 1024 for words in values), None)


def _room(limit: Path, used: Path) -> int | None:
    try:
        return max(0, int(limit.read_text()) - int(used.read_text()))
    except (OSError, ValueError):  # no such control group, or "max": no limit
        return None
