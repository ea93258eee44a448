"""Images as they came over the wire, kept undecoded and found by their stamps."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from message_filters import Cache, SimpleFilter

from rynn_brain_ros.values import ImageError
from rynn_brain_ros.view.redrawing import stamp_of


class _Stamp(int):
    """Nanoseconds, where message_filters expect an rclpy Time: that refuses negative ones, which a
    broken message may have."""

    @property
    def nanoseconds(self) -> int:
        return int(self)


@dataclass(frozen=True)
class _Header:
    stamp: _Stamp


@dataclass(frozen=True)
class _RawImage:
    """What message_filters take for a message with a header."""

    header: _Header
    camera: str
    raw: bytes


class RawImages(Cache):
    """Serialised images of all cameras: the newest that fit into ``max_bytes``. A plain cache would
    count them, and so many raw images as compressed ones are gigabytes. ``refuse`` is told which
    camera sent something that is no image."""

    def __init__(self, max_bytes: int, refuse: Callable[[str, ImageError], None]) -> None:
        super().__init__(SimpleFilter(), sys.maxsize)
        self._max_bytes, self._n_bytes, self._refuse = max_bytes, 0, refuse

    def listen(self, camera: str, source: SimpleFilter) -> None:
        """``source`` is a `Subscriber` with ``raw=True``."""
        source.registerCallback(self.add, camera)

    def add(self, raw: bytes, camera: str) -> None:
        try:
            header = _Header(_Stamp(stamp_of(raw)))
        except ImageError as error:
            self._refuse(camera, error)
            return
        self._n_bytes += len(raw)
        while self._n_bytes > self._max_bytes and self.cache_msgs:
            self._n_bytes -= len(self.cache_msgs.pop(0).raw)
            del self.cache_times[0]
        super().add(_RawImage(header, camera, raw))

    def find(self, camera: str, stamp_ns: int) -> bytes | None:
        """The last of exactly this stamp: a bag that is played again brings them again."""
        found = [item.raw for item in self.getInterval(stamp_ns, stamp_ns) if item.camera == camera]
        return found[-1] if found else None

    def clear(self) -> None:
        """Gives the memory back now: a `Subscriber` holds on to itself, and so to us, until Python
        looks for such rings."""
        self.cache_msgs.clear()
        self.cache_times.clear()
        self._n_bytes = 0
