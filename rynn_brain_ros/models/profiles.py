"""The RynnBrain family as data: what each checkpoint is, can do and needs.

Source: reference rynnbrain.md §1.1 (checkpoints, roles), §1.2 (sizes) and §2 (tags). Byte counts
are of the weights alone, language model quantized, vision tower and embeddings in 16 bits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from rynn_brain_ros.language import default_budget
from rynn_brain_ros.models.roles import Role
from rynn_brain_ros.values import Generation, QueryBudget, Task

_GROUND_TASKS = frozenset(
    {
        *(Task.OBJECT, Task.AREA, Task.AFFORDANCE, Task.TRAJECTORY, Task.GRASP),
        *(Task.DESCRIBE, Task.COUNT),
    }
)
_ROLE_TASKS = {
    Role.GROUND: _GROUND_TASKS,
    Role.PLAN: frozenset({Task.PLAN}),
    Role.THINK: frozenset({Task.THINK, *_GROUND_TASKS}),
    Role.NAVIGATE: frozenset({Task.NAVIGATE}),
}
_GROUND = frozenset({Role.GROUND})
_GROUND_TAGS = frozenset({"object", "area", "affordance", "trajectory", "grasp pose"})
_ROLE_TAGS: dict[Role, frozenset[str]] = {
    Role.GROUND: _GROUND_TAGS,
    Role.PLAN: frozenset({"object", "area", "affordance"}),
    Role.THINK: frozenset({*_GROUND_TAGS, "answer", "counting"}),
    Role.NAVIGATE: frozenset(),
}
_TAG_3D = "3D Grounding"


@dataclass(frozen=True)
class Profile:
    """One checkpoint.

    ``roles`` are those that it was trained for; with ``generation`` they decide the prompts
    (`language.compose`). ``enable_thinking`` is the switch that its chat template takes, ``None``
    where it has none. ``weight_bytes`` is by the quantizations that the local engine can load it
    in, ``kv_bytes_per_token`` of its cache in 16 bits (0: not published). ``boxes_3d``: it was
    trained to tell boxes in metres.
    """

    name: str
    kind: str
    generation: Generation
    size_b: float
    """Billions of parameters, all of them."""
    weight_bytes: dict[str, int] = field(hash=False)
    kv_bytes_per_token: int
    hardware: str
    roles: frozenset[Role] = _GROUND
    enable_thinking: bool | None = None
    boxes_3d: bool = False
    knows: frozenset[Task] = frozenset()
    """Its tasks, where these are fewer than its roles cover."""
    most_frames: int = 0
    """How many frames it was trained to be shown; 0: as many as fit."""

    @property
    def tasks(self) -> frozenset[Task]:
        """Those that it can be asked."""
        return self.knows or frozenset(task for role in self.roles for task in _ROLE_TASKS[role])

    @property
    def tags(self) -> frozenset[str]:
        """Those that its answers may hold, as they are written between ``<`` and ``>``."""
        spoken = frozenset(tag for role in self.roles for tag in _ROLE_TAGS[role])
        return spoken | {_TAG_3D} if self.boxes_3d else spoken

    def budget(self, task: Task, thinking: bool = False) -> QueryBudget:
        """What a question may cost; a model that only thinks always gets room to think."""
        return default_budget(task, thinking or self.roles == frozenset({Role.THINK}))


def _gb(none: float, int8: float, nf4: float) -> dict[str, int]:
    return {
        **_sparse_gb(none, int8),
        "int8": round(int8 * 1e9),
        "nf4": round(nf4 * 1e9),
    }


def _sparse_gb(none: float, fp8: float) -> dict[str, int]:
    """bitsandbytes does not quantize experts that are kept in one tensor."""
    return {"none": round(none * 1e9), "fp8": round(fp8 * 1e9)}


_V1, _V11 = Generation.V1_0, Generation.V1_1
_KIB = 1024
_8B_CARDS = "24 GB bf16, 12 to 16 GB in 8 or 4 bits"
_30B_CARDS = "80 GB bf16, 48 GB fp8; 24 GB in 4 bits through vLLM"
_8B = (8.767, _gb(17.5, 10.6, 7.3), 144 * _KIB, _8B_CARDS)
_30B = (31.07, _sparse_gb(62, 32), 96 * _KIB, _30B_CARDS)
_2B_CARDS = "8 GB bf16, Orin Nano 8 GB in 4 bits"

PROFILES = (
    Profile(
        *("RynnBrain-2B", "qwen3_vl", _V1, 2.128, _gb(4.3, 2.9, 2.2), 112 * _KIB, _2B_CARDS),
    ),
    Profile(
        *("RynnBrain-4B", "qwen3_vl", _V1, 4.44, _gb(8.9, 5.2, 3.5), 144 * _KIB),
        hardware="12 GB bf16 (tight), 8 GB in 4 bits",
    ),
    Profile("RynnBrain-8B", "qwen3_vl", _V1, *_8B),
    Profile("RynnBrain-30B-A3B", "qwen3_vl_moe", _V1, *_30B),
    Profile("RynnBrain-CoP-8B", "qwen3_vl", _V1, *_8B, roles=frozenset({Role.THINK})),
    Profile("RynnBrain-Plan-8B", "qwen3_vl", _V1, *_8B, roles=frozenset({Role.PLAN})),
    Profile("RynnBrain-Plan-30B-A3B", "qwen3_vl_moe", _V1, *_30B, roles=frozenset({Role.PLAN})),
    Profile("RynnBrain-Nav-8B", "qwen3_vl", _V1, *_8B, roles=frozenset({Role.NAVIGATE})),
    Profile(
        *("RynnBrain1.1-2B", "qwen3_5", _V11, 2.213, _gb(4.4, 3.1, 2.4), 12 * _KIB, _2B_CARDS),
        enable_thinking=False,
        boxes_3d=True,
    ),
    Profile(
        *("RynnBrain1.1-9B", "qwen3_5", _V11, 9.6, _gb(19, 12, 9), 0, "24 GB bf16"),
        enable_thinking=False,
        boxes_3d=True,
    ),
    Profile(
        *("RynnBrain1.1-122B-A10B", "qwen3_5_moe", _V11, 122.0, _sparse_gb(245, 125), 0),
        hardware="4 × 80 GB bf16 through vLLM; 1 × 141 GB fp8",
        enable_thinking=False,
    ),
)

NANO = Profile(
    *("RynnBrain-nano", "qwen3_vl", _V1, 0.003, {"none": 6_000_000}, 3200, "any processor"),
    roles=frozenset({Role.GROUND, Role.PLAN}),
    knows=frozenset({Task.AFFORDANCE, Task.OBJECT, Task.PLAN}),
    most_frames=8,
)
"""Comes with the package; not one of the family, and nobody's nearest."""

_SIZE = re.compile(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)b(?![a-z0-9])")
_WORDS = ((Role.PLAN, "plan"), (Role.THINK, "cop"), (Role.NAVIGATE, "nav"))


def profile_for(name: str, kind: str = "", size_b: float = 0.0) -> Profile:
    """The profile of a checkpoint by its name; for an unknown name the nearest right one.

    Right means: the generation, then the role that the name says (Plan, CoP, Nav, none), then the
    nearest size. A fine-tuned model whose name says a role that its generation was not published
    in gets that role. ``kind`` (the configuration's ``model_type``) and ``size_b`` (billions of
    parameters) are measured on the checkpoint; where given they outweigh the name's words.
    """
    words = _words(name)
    for profile in (*PROFILES, NANO):
        if profile.name.lower() == words:
            return profile
    generation = _generation(words, kind)
    candidates = [p for p in PROFILES if p.generation is generation]
    role = next((role for role, word in _WORDS if word in re.split(r"[-.\s]", words)), Role.GROUND)
    trained = [p for p in candidates if role in p.roles]
    nearest = _nearest(trained or candidates, size_b or _size_in(words))
    return nearest if trained else replace(nearest, roles=frozenset({role}))


def fits(available_bytes: int, profiles: Iterable[Profile] = PROFILES) -> tuple[str, ...]:
    """Which checkpoints, in which quantization, have weights smaller than this: the best first.

    A tenth of the memory is left for the cache and for work. What needs a certain GPU (fp8) is not
    named.
    """
    room = available_bytes * 0.9
    found = [
        (profile.size_b, profile.name, quantization, n_bytes)
        for profile in profiles
        for quantization, n_bytes in profile.weight_bytes.items()
        if n_bytes < room and quantization != "fp8"
    ]
    best: dict[str, str] = {}
    for _, name, quantization, n_bytes in sorted(found, key=lambda f: (-f[0], f[1], -f[3])):
        best.setdefault(name, f"{name} {quantization} ({n_bytes / 1e9:.1f} GB)")
    return tuple(best.values())


def tells_generation(name: str) -> bool:
    """Whether a checkpoint's name, or its path, says which generation it is of; for another one
    `profile_for` supposes the first."""
    words = _words(name)
    names = (profile.name.lower() for profile in (*PROFILES, NANO))
    known = any(words == name or words.startswith(f"{name}-") for name in names)
    return known or "qwen3-vl" in words or _generation(words, "") is not _V1


def _words(name: str) -> str:
    """Of a name, a path, or a place in the Hugging Face cache, where the last part is a digest."""
    cached = re.search(r"models--(?:[^/]*--)?([^/]+)/snapshots/", name)
    return (cached[1] if cached else name.rpartition("/")[2]).lower().replace("_", "-")


def _generation(words: str, kind: str) -> Generation:
    if kind:
        return _V11 if kind.startswith("qwen3_5") else _V1
    return _V11 if re.search(r"(?<!\d)1[.-]1(?!\d)|qwen3[.-]5", words) else _V1


def _size_in(words: str) -> float:
    found = _SIZE.findall(words)
    return float(found[0]) if found else 0.0


def _nearest(candidates: list[Profile], size_b: float) -> Profile:
    """By the ratio of sizes; the smallest where the size is unknown."""
    if not size_b:
        return min(candidates, key=lambda p: p.size_b)
    return min(candidates, key=lambda p: max(p.size_b / size_b, size_b / p.size_b))
