"""Pictures that were sent before, so that a rolling window need not be sent again with each
question: a client of ours names them by their digest."""

from __future__ import annotations

import threading
from collections import OrderedDict

from rynn_brain_ros.values import SelectedFrame


class KeptFrames:
    """The most recently shown frames, at most ``max_bytes`` of encoded pixels. Of any thread."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._n_bytes = max_bytes, 0
        self._kept: OrderedDict[str, SelectedFrame] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, sha256: str) -> SelectedFrame | None:
        with self._lock:
            if sha256 in self._kept:
                self._kept.move_to_end(sha256)
            return self._kept.get(sha256)

    def keep(self, frame: SelectedFrame) -> None:
        with self._lock:
            if frame.sha256 not in self._kept:
                self._n_bytes += len(frame.image)
            self._kept[frame.sha256] = frame
            self._kept.move_to_end(frame.sha256)
            while self._n_bytes > self._max_bytes:
                self._n_bytes -= len(self._kept.popitem(last=False)[1].image)
