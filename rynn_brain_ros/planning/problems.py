"""What goes wrong while the brain looks: each kind once, how often, and for how long it is news."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Hashable
from dataclasses import dataclass, replace

_MAX_KINDS = 20
LASTS_S = 10.0
"""How long a problem is told after it was met last."""


@dataclass(frozen=True)
class Problem:
    """A sentence, how often it was met and when last, by the node's clock. ``last_ns`` is ``None``
    for what stays until somebody mends it; ``is_over`` is for what was over when it was told."""

    text: str
    count: int = 1
    last_ns: int | None = None
    is_over: bool = False

    def is_news(self, now_ns: int) -> bool:
        return self.last_ns is None or 0 <= now_ns - self.last_ns < LASTS_S * 1e9

    def told(self, now_ns: int) -> str:
        if self.count == 1 or self.last_ns is None:
            return self.text
        ago_s = math.floor((now_ns - self.last_ns) / 1e9)
        return f"{self.text} ({self.count} times, the last {ago_s} s ago)"


def kind_of(text: str) -> str:
    """The same for each image that has the same defect, whatever its stamp and its size."""
    return re.sub(r"\d+", "#", text)


class Problems:
    """Bounded; safe from any thread: who answers meets damaged images, too."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._met: dict[Hashable, Problem] = {}
        self._undated: set[Hashable] = set()
        self._now_ns: int | None = None

    def note(
        self, kind: Hashable, text: str, *, is_over: bool = False, stays: bool = False
    ) -> None:
        """``kind`` is what is the same each time, unlike a stamp in the text."""
        with self._lock:
            known = self._met.pop(kind, None)
            if known is None and not self._has_room(is_over):
                return
            last_ns = None if stays else self._now_ns
            if last_ns is None and not stays:
                self._undated.add(kind)
            count = known.count + 1 if known else 1
            self._met[kind] = Problem(known.text if known else text, count, last_ns, is_over)

    def _has_room(self, is_over: bool) -> bool:
        """Made where there is none, of what is no news any more."""
        same = [kind for kind, each in self._met.items() if each.is_over == is_over]
        if len(same) < _MAX_KINDS:
            return True
        now_ns = self._now_ns
        past = (k for k in same if now_ns is not None and not self._met[k].is_news(now_ns))
        forgotten = next(past, None)
        if forgotten is not None:
            del self._met[forgotten]
        return forgotten is not None

    def pass_time(self, now_ns: int) -> None:
        with self._lock:
            self._now_ns = now_ns
            for kind in self._undated & self._met.keys():
                self._met[kind] = replace(self._met[kind], last_ns=now_ns)
            self._undated.clear()

    @property
    def met(self) -> tuple[Problem, ...]:
        with self._lock:
            return tuple(self._met.values())
