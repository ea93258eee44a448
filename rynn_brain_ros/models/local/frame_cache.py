"""What the vision tower said about each picture, kept within a bound of bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from rynn_brain_ros.models.local.prompt import ImageKey


class Sized(Protocol):
    @property
    def n_bytes(self) -> int: ...


Features = TypeVar("Features", bound=Sized)


@dataclass(frozen=True)
class FrameCacheStats:
    hits: int
    misses: int
    frames: int
    n_bytes: int


class FrameCache(Generic[Features]):
    """The most recently used features, at most ``max_bytes`` of them.

    A frame is known by its canonical bytes and the resolution it was shown in, so that the same
    picture is recognised whenever, and from wherever, it comes again.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[ImageKey, Features] = OrderedDict()
        self._n_bytes = self._hits = self._misses = 0

    def get(self, key: ImageKey, make: Callable[[], Features]) -> Features:
        found = self._kept.get(key)
        if found is not None:
            self._hits += 1
            self._kept.move_to_end(key)
            return found
        self._misses += 1
        made = make()
        self._keep(key, made)
        return made

    @property
    def stats(self) -> FrameCacheStats:
        return FrameCacheStats(self._hits, self._misses, len(self._kept), self._n_bytes)

    def clear(self) -> None:
        self._kept.clear()
        self._n_bytes = 0

    def _keep(self, key: ImageKey, features: Features) -> None:
        self._kept[key] = features
        self._n_bytes += features.n_bytes
        while self._n_bytes > self._max_bytes and self._kept:
            self._n_bytes -= self._kept.popitem(last=False)[1].n_bytes
