"""One question while it is answered: its clock, its budget, and who still waits for it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from rynn_brain_ros.values import Cancel, Query, Timings


class GivenUpError(Exception):
    """The question was cancelled, or its time is over."""


@dataclass
class Run:
    """One question while it is answered."""

    query: Query
    cancel: Cancel | None
    started: float = field(default_factory=time.monotonic)
    prompt_tokens: int = -1
    queue_s: float = math.nan
    encode_s: float = math.nan
    prefill_s: float = math.nan

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.started

    @property
    def left_s(self) -> float:
        return self.query.budget.timeout_s - self.elapsed_s

    @property
    def cancelled(self) -> bool:
        return self.cancel is not None and self.cancel.is_set()

    def look(self) -> None:
        """Raises `GivenUpError` when nobody waits for the answer any more."""
        if self.cancelled or self.left_s <= 0:
            raise GivenUpError

    def timings(self) -> Timings:
        total_s = self.elapsed_s
        decode_s = total_s - self.queue_s - self.encode_s - self.prefill_s
        return Timings(self.queue_s, self.encode_s, self.prefill_s, decode_s, total_s)
