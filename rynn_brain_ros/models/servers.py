"""What is known of servers that others wrote: which one it is, and where its boxes drift.

A server says its name in ``owned_by`` of its models (vLLM ``entrypoints/openai/protocol.py``,
SGLang ``srt/entrypoints/openai/protocol.py``, TensorRT-LLM ``serve/openai_protocol.py``, llama.cpp
``tools/server``), and its version on a page of its own. Source of the drifts: reference
rynnbrain.md §8, by the issues named in each note.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Version = tuple[int, ...]


@dataclass(frozen=True)
class Drift:
    """A known way of a ``server`` to shift coordinates, in versions ``first`` ≤ v ≤ ``last``."""

    server: str
    text: str
    first: Version = ()
    last: Version = (10**9,)


@dataclass(frozen=True)
class _Server:
    """``page`` tells the version, in the JSON field ``field``."""

    name: str
    page: str
    field: str


_SERVERS = {
    "vllm": _Server("vLLM", "/version", "version"),
    "sglang": _Server("SGLang", "/get_server_info", "version"),
    "tensorrt_llm": _Server("TensorRT-LLM", "/version", "version"),
    "llamacpp": _Server("llama.cpp", "/props", "build_info"),
}
"""By ``owned_by``."""

_DRIFTS = (
    Drift(
        "vLLM",
        "shifts Qwen3-VL's boxes (vllm#30918); 0.11.0 does not",
        (0, 11, 1),
        (0, 12, 0),
    ),
    Drift(
        "SGLang",
        "ignores enable_precise_embedding_interpolation, which boxes need (sglang#34013, #11896); "
        "0.5.9 honours it",
        (0, 5, 10),
        (0, 5, 17),
    ),
    Drift("SGLang", "needs enable_precise_embedding_interpolation (sglang#11896)", (), (0, 5, 9)),
    Drift("TensorRT-LLM", "places pictures wrongly without its fix #11134: see that yours has it"),
    Drift(
        "llama.cpp",
        "shifts boxes in pictures that are large or not square before #25781 (July 2026), and "
        "needs --image-min-tokens 1024 (#16842)",
    ),
)


def server_notes(owned_by: str, get: Callable[[str], Any]) -> tuple[str, ...]:
    """What to know before relying on this server's coordinates.

    ``get`` fetches a page of the server as JSON (``None`` where there is none).
    """
    server = _SERVERS.get(owned_by)
    if server is None:
        return ()
    page = get(server.page)
    said = page.get(server.field, "") if isinstance(page, dict) else ""
    return drift_notes(server.name, str(said))


def drift_notes(name: str, version: str) -> tuple[str, ...]:
    """Where the version is not known, everything that is known of any."""
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:3])
    called = f"{name} {version}".strip()
    return tuple(
        f"{called} {drift.text}; compare with answers that you trust before you rely on it"
        for drift in _DRIFTS
        if drift.server == name and (not numbers or drift.first <= numbers <= drift.last)
    )
