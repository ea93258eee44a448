"""Whether models fit, before a byte of them is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from rynn_brain_ros.models.local.checkpoint import Checkpoint
from rynn_brain_ros.models.local.quantization import largest_layer, weight_bytes
from rynn_brain_ros.models.local.weights import DTYPE_BYTES
from rynn_brain_ros.models.profiles import fits
from rynn_brain_ros.values import EngineError

CONTEXT_TOKENS = 16384
"""A question and its answer together, at most: the longest sequence of RynnBrain's training. Room
for the keys and values of so many is kept."""
ANSWER_TOKENS = 512
"""Of these, what a question must leave for its answer."""
FRAME_CACHE_BYTES = 1 << 30
"""The most that remembered pictures may take."""
_FRAME_TOKENS = 10240
_HEADROOM_SHARE, _HEADROOM_BYTES = 0.05, 256 << 20
"""Of the weights, and beside them: fragments, and what the libraries need. Estimated."""
_REPACK_BYTES = 8
"""Per weight of a layer while bitsandbytes packs its 4 bits for a CPU, one layer at a time."""
SHARED = "main memory, which the GPU shares"
"""As on a Jetson."""
_ELSEWHERE = (
    "; CUDA_VISIBLE_DEVICES says which GPUs may be used (the one with the most room is), and with "
    "CUDA_VISIBLE_DEVICES= the processor computes, in main memory"
)
_MEMINFO = Path("/proc/meminfo")
_CGROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)


@dataclass(frozen=True)
class Need:
    """Bytes by what they are for: ``cache`` of keys and values, ``frames`` remembered, ``work``
    for what one computation holds at a time, ``headroom`` for what cannot be counted."""

    weights: int
    cache: int
    frames: int
    work: int
    headroom: int

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.frames + self.work + self.headroom

    def __str__(self) -> str:
        return (
            f"{gib(self.total)} (weights {gib(self.weights)}, keys and values of "
            f"{CONTEXT_TOKENS} tokens {gib(self.cache)}, frames {gib(self.frames)}, "
            f"work {gib(self.work + self.headroom)})"
        )


@dataclass(frozen=True)
class Request:
    """A model to be loaded: on which ``device`` (torch's spelling), in which ``quantization``, and
    in which ``dtype`` (safetensors' spelling) whatever is not quantized."""

    checkpoint: Checkpoint
    device: str
    dtype: str
    quantization: str

    @property
    def need(self) -> Need:
        model, width = self.checkpoint, DTYPE_BYTES[self.dtype]
        weights = weight_bytes(model, self.quantization, self.dtype)
        return Need(
            weights,
            cache=model.kv_bytes_per_token * CONTEXT_TOKENS * width // 2,
            frames=FRAME_CACHE_BYTES,
            work=max(_activations(model) * width, self._repacking_bytes),
            headroom=int(weights * _HEADROOM_SHARE) + _HEADROOM_BYTES,
        )

    @property
    def _repacking_bytes(self) -> int:
        packs = self.quantization == "nf4" and self.device == "cpu"
        return largest_layer(self.checkpoint.tensors) * _REPACK_BYTES if packs else 0


def available_bytes() -> int | None:
    """Main memory that this process may still take: of the machine, and of its container.

    ``None`` where the system does not tell.
    """
    rooms = [room for limit, used in _CGROUPS if (room := _room(limit, used)) is not None]
    machine = _machine_available()
    return min([*rooms, *([] if machine is None else [machine])], default=None)


def check_fits(
    request: Request, available: int | None, where: str, possible: Iterable[str] = ()
) -> None:
    """Raises `EngineError` that says what is needed, what is there and what would fit.

    ``possible`` are the quantizations that could be chosen instead.
    """
    if available is None or request.need.total <= available:
        return
    checkpoint = request.checkpoint
    raise EngineError(
        f"{checkpoint.name} ({checkpoint.n_parameters / 1e9:.2f} billion parameters, "
        f"{_kept_in(request)}) needs {request.need}; {gib(available)} of {where} are free. "
        f"{_remedy(request, available, possible)}"
    )


def check_fit_together(requests: Mapping[str, Request], available: int | None, where: str) -> None:
    """The same for several models on one device, by the names of what they are for."""
    total = sum(request.need.total for request in requests.values())
    if available is None or total <= available:
        return
    each = ", ".join(
        f"{names}: {r.checkpoint.name} ({_kept_in(r)}) {gib(r.need.total)}"
        for names, r in requests.items()
    )
    raise EngineError(
        f"the models together need {gib(total)} ({each}); {gib(available)} of {where} are free. "
        "Give several roles one model, choose nf4 (local:DIR#nf4), or serve one of them elsewhere "
        "and use http://…"
    )


def gib(n_bytes: int) -> str:
    """For people; small models in MiB."""
    return f"{n_bytes / 2**30:.1f} GiB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:.0f} MiB"


def _kept_in(request: Request) -> str:
    return request.dtype if request.quantization == "none" else request.quantization


def _remedy(request: Request, available: int, possible: Iterable[str]) -> str:
    """The least quantized version of the same model that would fit, else other models."""
    others = (replace(request, quantization=word) for word in possible)
    ordered = sorted(others, key=lambda other: -other.need.total)
    for other in ordered:
        if other.need.total <= available:
            return (
                f"{other.quantization} would need {gib(other.need.total)}: "
                f"local:{request.checkpoint.path}#{other.quantization}"
            )
    smaller = "; ".join(fits(available)[:3]) or "no checkpoint of the family"
    elsewhere = "" if request.device == "cpu" else _ELSEWHERE
    return f"What would fit: {smaller}. Free memory, or choose one of these{elsewhere}"


def _activations(model: Checkpoint) -> int:
    """Values that the widest moment of one block holds: a whole prompt in the language model, or
    one picture of the whole visual budget in the vision tower."""
    tokens = {"text_config": CONTEXT_TOKENS, "vision_config": _FRAME_TOKENS * _patches(model)}
    return max(
        n * (3 * model.number(part, "intermediate_size") + 3 * model.number(part, "hidden_size"))
        for part, n in tokens.items()
    )


def _patches(model: Checkpoint) -> int:
    """Of one visual token."""
    return model.number("vision_config", "spatial_merge_size", 2) ** 2


def _machine_available() -> int | None:
    try:
        lines = _MEMINFO.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    values = (line.split() for line in lines if line.startswith("MemAvailable:"))
    return next((int(words[1]) * 1024 for words in values), None)


def _reclaimable(group: Path) -> int:
    """Of what a control group uses, what the kernel gives back when it is asked for: files that
    were read lately, as a model's are."""
    try:
        lines = (group / "memory.stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    told = dict(line.split(maxsplit=1) for line in lines)
    return int(told.get("total_inactive_file", told.get("inactive_file", "0")))  # v1's, else v2's


def _room(limit: Path, used: Path) -> int | None:
    try:
        in_use = int(used.read_text()) - _reclaimable(used.parent)
        return max(0, int(limit.read_text()) - max(0, in_use))
    except (OSError, ValueError):  # no such control group, or "max": no limit
        return None
