"""What the handler of a signal may tell the rest of a process.

A handler runs in the main thread between any two of its instructions, also where that thread holds
the lock of a `threading.Event` that it waits for: to set that event there is to wait for oneself,
for ever. So it went in one of sixty processes that were told twice to end.
"""

from __future__ import annotations

import time

_LOOK_S = 0.05


class Interrupt:
    """Set by a handler or by any thread, and never cleared; nothing here takes a lock."""

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        self._is_set = True

    def is_set(self) -> bool:
        return self._is_set

    def wait(self, seconds: float) -> bool:
        """Whether it is set by then."""
        deadline_s = time.monotonic() + seconds
        while not self._is_set and (left_s := deadline_s - time.monotonic()) > 0:
            time.sleep(min(_LOOK_S, left_s))
        return self._is_set
