"""Whether the robot may move at all: disarmed until a person arms it, and only for a while."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rynn_brain_ros.values import ConfigError, InputError, Refusal, RefusalCode


@dataclass(frozen=True)
class _Window:
    start_ns: int
    end_ns: int


class Arming:
    """Armed for at most ``expires_s`` at a time; whoever arms may ask for less, never for more.

    `disarm` may be called from any thread and wins over everything that happens at the same time;
    `check` and `is_armed` belong to the one thread that moves the robot. Who asks for arming in
    another thread takes a `ticket` with it, which is void once anybody has disarmed.
    Raises `ConfigError` where ``expires_s`` is not a positive number.
    """

    def __init__(self, expires_s: float = 300.0) -> None:
        if not (math.isfinite(expires_s) and expires_s > 0):
            raise ConfigError(f"arming expires after {expires_s} s; give a positive number")
        self._expires_s = expires_s
        self._window: _Window | None = None
        self._latest_ns = 0
        self._why = "it has not been armed"
        self._disarmed = 0

    @property
    def expires_s(self) -> float:
        return self._expires_s

    def ticket(self) -> int:
        """To arm with later, unless it is disarmed until then."""
        return self._disarmed

    def arm(self, now_ns: int, for_s: float = math.inf, ticket: int | None = None) -> bool:
        """Armed from now on, for ``for_s`` or the configured time, whichever is shorter; false
        where it was disarmed since the ``ticket``, and stays so.

        Raises `InputError` where ``for_s`` is zero, negative or not a number.
        """
        if not for_s > 0:
            raise InputError(f"cannot arm for {for_s} s; give a positive number of seconds")
        self._latest_ns = now_ns
        self._window = _Window(now_ns, now_ns + round(min(for_s, self._expires_s) * 1e9))
        if ticket is not None and ticket != self._disarmed:  # looked at last: disarming wins
            self._window = None
        return self._window is not None

    def disarm(self, why: str = "it was disarmed") -> None:
        self._disarmed += 1
        self._window, self._why = None, why

    def is_armed(self, now_ns: int) -> bool:
        return self.check(now_ns) is None

    def check(self, now_ns: int) -> Refusal | None:
        """NOT_ARMED and why, or ``None``. Time that has run out, or that runs backwards, disarms
        for good."""
        window = self._window
        if window is not None and now_ns < self._latest_ns:
            back_s = (self._latest_ns - now_ns) / 1e9
            self.disarm(f"the clock jumped back by {back_s:.3g} s, which disarms")
        elif window is not None and now_ns >= window.end_ns:
            armed_s = (window.end_ns - window.start_ns) / 1e9
            self.disarm(f"arming has expired after {armed_s:.3g} s")
        self._latest_ns = now_ns
        if self._window is not None:
            return None
        return Refusal(RefusalCode.NOT_ARMED, f"motion is off: {self._why}; arm it to let it move")

    def remaining_s(self, now_ns: int) -> float:
        """Seconds until arming expires, 0 where it is not armed. Changes nothing."""
        window = self._window
        if window is None or now_ns < window.start_ns:
            return 0.0
        return max(0.0, (window.end_ns - now_ns) / 1e9)
