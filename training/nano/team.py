"""Several processes that learn as one: each from its own part of the pool, all the same.

After every step each has the mean of all gradients, so that all have the same weights. One core
each is much faster than one process on several: a network so small leaves them waiting for each
other.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import wait
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import distributed, nn
from torch.multiprocessing import spawn

_PATIENCE = timedelta(minutes=10)


@dataclass(frozen=True)
class Team:
    """The one with ``rank`` 0 writes and tells."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def share_gradients(self, weights: Sequence[nn.Parameter]) -> None:
        """The mean of all members' gradients in the place of one's own."""
        if self.size == 1:
            return
        own = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
        together = torch.cat([gradient.flatten() for gradient in own])
        distributed.all_reduce(together)
        together /= self.size
        parts = together.split([w.numel() for w in weights])
        for weight, part in zip(weights, parts, strict=True):
            weight.grad = part.view_as(weight)

    def share(self, count: int) -> int:
        """Of so many lessons, how many are for each member: one at least."""
        return max(1, round(count / self.size))

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            distributed.barrier()


ALONE = Team()


def in_team(size: int, work: Callable[[Team], None]) -> None:
    """``work`` in so many processes, each with one thread; in this one where it is alone. An error
    in one of them ends all, and is raised here."""
    if size == 1:
        work(ALONE)
        return
    with TemporaryDirectory() as folder:
        meeting = (Path(folder) / "meeting").as_uri()
        spawn(_join, (size, meeting, work), nprocs=size)


def _join(rank: int, size: int, meeting: str, work: Callable[[Team], None]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", meeting, rank=rank, world_size=size, timeout=_PATIENCE)
    try:
        work(Team(rank, size))
    except Exception:
        traceback.print_exc()  # the others' ends may be told before
        raise
    finally:
        distributed.destroy_process_group()


def _end_with_parent() -> None:
    """Killed, it would leave a team that goes on learning for nobody."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # this one was spawned
    wait([parent.sentinel])
    os._exit(1)
