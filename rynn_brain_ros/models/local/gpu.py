"""What a GPU needs beyond torch's ordinary calls. On a CPU nothing of it does anything."""

from __future__ import annotations

import contextlib
import gc
from typing import Any

import torch

from rynn_brain_ros.models.local.memory import SHARED, available_bytes


def finish(device: torch.device) -> None:
    """Waits until all that this thread asked of ``device`` is computed: a GPU is still at it when
    the call returns that asked, and what it fails with comes later, too."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()


def current(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Makes ``device`` this thread's GPU: where kernels that are not torch's own are started."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def is_lost(device: torch.device) -> bool:
    """Whether ``device`` computes nothing more for this process: after some errors (an illegal
    address, a failed assertion in a kernel, a GPU that fell off its bus) everything fails."""
    try:
        finish(device)
    except Exception:  # noqa: BLE001  # which it is depends on the version of torch
        return True
    return False


def room(device: str) -> tuple[int, str]:
    """(bytes that this process may still take of a GPU, what they are of); ``device`` is torch's
    spelling (``cuda``, ``cuda:1``).

    torch keeps what it has freed for itself, and the driver counts that as used; of memory that
    the GPU shares with the processor, it also counts files that were read lately.
    """
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free, where = torch.cuda.mem_get_info(device)[0], f"the memory of {device}"
    if torch.cuda.get_device_properties(device).is_integrated:
        available = available_bytes()
        free, where = free if available is None else available, SHARED
    return int(free + kept), where


def roomiest() -> str:
    """Of the GPUs that this process may use, the one with the most `room`; the processor where
    there is none."""
    if not torch.cuda.is_available():
        return "cpu"
    names = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return max(names, key=lambda name: room(name)[0]) if len(names) > 1 else "cuda"


def give_back(device: torch.device) -> None:
    """Frees what nothing refers to any more, circles included, for other processes, too."""
    gc.collect()
    if device.type == "cuda" and not is_lost(device):
        torch.cuda.empty_cache()
