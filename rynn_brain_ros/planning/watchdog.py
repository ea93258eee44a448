"""Notices silence: a camera, the transforms or the engine that stopped without saying so.

What counts is when something *new* arrived, on the clock that is given with it: stamps are only
compared with each other, so a camera with a clock of its own is watched as well as any.
"""

from __future__ import annotations

from dataclasses import dataclass

from rynn_brain_ros.config import setting
from rynn_brain_ros.values import Refusal, RefusalCode


@dataclass(frozen=True)
class WatchdogLimits:
    """How long each source may be silent before motion stops."""

    max_frame_age_s: float = setting(
        1.0, "how long a camera may bring nothing new while the robot moves [s]", 0.05, 60.0
    )
    max_transform_age_s: float = setting(
        1.0, "how long the camera's pose may be unknown while the robot moves [s]", 0.05, 60.0
    )
    max_engine_silence_s: float = setting(
        15.0, "how long a running engine may say nothing [s]", 0.1, 3600.0
    )


@dataclass(frozen=True)
class _Camera:
    """``arrived_ns``: when the newest stamp came; ``repeats``: how often it has come again."""

    arrived_ns: int
    stamp_ns: int | None = None
    repeats: int = 0


class Watchdog:
    """Watches what it has been told to watch, or has seen once; nothing else is ever stale.

    It belongs to one thread: times from several would look like a clock that jumps.
    """

    def __init__(self, limits: WatchdogLimits | None = None) -> None:
        self._limits = limits or WatchdogLimits()
        self._cameras: dict[str, _Camera] = {}
        self._transform_ns: int | None = None
        self._engine_ns: int | None = None
        self._latest_ns: int | None = None
        self._jump_s = 0.0

    def watch_camera(self, camera: str, now_ns: int) -> None:
        """``camera`` has to bring something new from now on, whatever it did before."""
        self._pass(now_ns)
        self._cameras[camera] = _Camera(now_ns)

    def watch_transforms(self, now_ns: int) -> None:
        """Transforms have to come from now on."""
        self.saw_transform(now_ns)

    def saw_frame(self, camera: str, stamp_ns: int, now_ns: int) -> None:
        """An image came. The stamp of the one before, or an older one, is nothing new."""
        self._pass(now_ns)
        last = self._cameras.get(camera, _Camera(now_ns))
        if last.stamp_ns is None or stamp_ns > last.stamp_ns:
            self._cameras[camera] = _Camera(now_ns, stamp_ns)
        else:
            # An older stamp is where a restarted driver counts on from.
            self._cameras[camera] = _Camera(last.arrived_ns, stamp_ns, last.repeats + 1)

    def saw_transform(self, now_ns: int) -> None:
        """The camera's pose became known for one more image."""
        self._pass(now_ns)
        self._transform_ns = now_ns

    def engine_started(self, now_ns: int) -> None:
        """A question was sent: from now on the engine has to say something."""
        self._pass(now_ns)
        self._engine_ns = now_ns

    def engine_alive(self, now_ns: int) -> None:
        """The engine wrote something; without a question that is no reason to watch it."""
        self._pass(now_ns)
        if self._engine_ns is not None:
            self._engine_ns = now_ns

    def engine_ended(self) -> None:
        self._engine_ns = None

    def check(self, now_ns: int) -> Refusal | None:
        """STALE and what, for how long, and the limit; ``None`` where all is fresh.

        A clock that jumped back is told once; every age counts from the new time on.
        """
        self._pass(now_ns)
        if self._jump_s:
            back_s, self._jump_s = self._jump_s, 0.0
            return Refusal(
                RefusalCode.STALE,
                f"the clock jumped back by {back_s:.3g} s: nothing seen before it counts any more",
            )
        return self._stale_camera(now_ns) or self._stale_rest(now_ns)

    def _stale_camera(self, now_ns: int) -> Refusal | None:
        for name, camera in self._cameras.items():
            what = f"{name}: no new image"
            if camera.repeats:
                what = f"{name}: {camera.repeats} images and none with a newer stamp"
            limit_s = self._limits.max_frame_age_s
            stale = _too_old(what, camera.arrived_ns, now_ns, limit_s, "is the camera running?")
            if stale is not None:
                return stale
        return None

    def _stale_rest(self, now_ns: int) -> Refusal | None:
        limits = self._limits
        watched = (
            (
                "the camera's pose is not known",
                self._transform_ns,
                limits.max_transform_age_s,
                "is /tf published?",
            ),
            (
                "the engine says nothing",
                self._engine_ns,
                limits.max_engine_silence_s,
                "is its server busy or gone?",
            ),
        )
        for what, arrived_ns, limit_s, hint in watched:
            stale = _too_old(what, arrived_ns, now_ns, limit_s, hint)
            if stale is not None:
                return stale
        return None

    def _pass(self, now_ns: int) -> None:
        """Notes the time; where it runs backwards, every age begins anew."""
        latest_ns, self._latest_ns = self._latest_ns, now_ns
        if latest_ns is None or now_ns >= latest_ns:
            return
        self._jump_s = max(self._jump_s, (latest_ns - now_ns) / 1e9)
        self._cameras = {name: _Camera(now_ns) for name in self._cameras}
        self._transform_ns = None if self._transform_ns is None else now_ns
        self._engine_ns = None if self._engine_ns is None else now_ns


def _too_old(
    what: str, arrived_ns: int | None, now_ns: int, limit_s: float, hint: str
) -> Refusal | None:
    age_s = 0.0 if arrived_ns is None else (now_ns - arrived_ns) / 1e9
    if age_s <= limit_s:
        return None
    return Refusal(RefusalCode.STALE, f"{what} for {age_s:.2f} s (limit {limit_s:g} s); {hint}")
