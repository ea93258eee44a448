"""What one client may cost the server."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from rynn_brain_ros.serving.refusals import busy
from rynn_brain_ros.values import InputError

_MOST_CLIENTS = 4096


@dataclass(frozen=True)
class Limits:
    """``waiting`` questions at most are in the house beside the one being answered, and
    ``per_client`` of one client; ``rate`` is of requests per minute and address (0: any);
    ``kept_bytes`` of pictures need not be sent again."""

    waiting: int = 32
    per_client: int = 8
    rate: float = 600.0
    body_bytes: int = 64 << 20
    images: int = 64
    image_bytes: int = 16 << 20
    kept_bytes: int = 256 << 20
    new_tokens: int = 4096
    timeout_s: float = 600.0
    """Of one answer. Also the longest that a client's own budget may be."""
    body_s: float = 30.0
    """For sending a request."""

    def __post_init__(self) -> None:
        for name in (
            "waiting",
            "per_client",
            "body_bytes",
            "images",
            "image_bytes",
            "kept_bytes",
            "new_tokens",
        ):
            if getattr(self, name) < 1:
                raise InputError(f"the limit {name} is {getattr(self, name)}: allow 1 or more")
        for name in ("timeout_s", "body_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"the limit {name} is {getattr(self, name)}: a time above 0")
        if not 0 <= self.rate < math.inf:
            raise InputError(f"the limit rate is {self.rate}: 0 (none) or requests per minute")


class Rate:
    """Lets each client make ``per_minute`` requests, a tenth of them at once: a leaky bucket."""

    def __init__(self, per_minute: float, now_s: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._now_s = per_minute / 60, now_s
        self._size = max(1.0, per_minute / 10)
        self._filled: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> None:
        """Raises `RequestError` 429 that says when the next one is welcome."""
        if not self._per_s:
            return
        now_s = self._now_s()
        level, then_s = self._filled.pop(client, (0.0, now_s))
        level = max(0.0, level - (now_s - then_s) * self._per_s)
        welcome = level + 1 <= self._size
        self._filled[client] = (level + 1 if welcome else level, now_s)
        if len(self._filled) > _MOST_CLIENTS:
            self._filled.popitem(last=False)
        if not welcome:
            raise busy(
                f"more than {self._per_s * 60:g} requests a minute; ask less often",
                (level + 1 - self._size) / self._per_s,
            )
