"""What a GPU needs beyond torch's ordinary calls. On a CPU nothing of it does anything."""

from __future__ import annotations

import gc

import torch


def finish(device: torch.device) -> None:
    """Waits until all that was asked of ``device`` is computed: a GPU works behind its back."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def is_lost(device: torch.device) -> bool:
    """Whether ``device`` computes nothing more for this process: after some errors (an illegal
    address, a failed assertion in a kernel, a GPU that fell off its bus) everything fails."""
    try:
        finish(device)
    except Exception:  # noqa: BLE001  # which it is depends on the version of torch
        return True
    return False


def free_bytes(device: str) -> int:
    """What this process may still take of a GPU (``cuda``, ``cuda:1``). torch keeps what it has
    freed for itself, and the driver counts that as used."""
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0] + kept)


def give_back(device: torch.device) -> None:
    """Frees what nothing refers to any more, circles included, for other processes, too."""
    gc.collect()
    if device.type == "cuda" and not is_lost(device):
        torch.cuda.empty_cache()
