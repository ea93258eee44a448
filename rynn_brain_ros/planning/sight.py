"""The executive's eyes: one camera of `Perception`, and letting time pass while looking.

Everything that waits goes through `Sight.tick`, so that no frame is missed and the watchdog sees
all that arrives, whatever is waited for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from rynn_brain_ros.planning.perception import Perception
from rynn_brain_ros.planning.watchdog import Watchdog
from rynn_brain_ros.values import (
    Cancel,
    Clock,
    Frame,
    FrameSet,
    ImageError,
    Refusal,
    RefusalCode,
    RigidTransform,
    SelectedFrame,
    Vector3,
)

T = TypeVar("T")

_TF_WAIT_NS = 500_000_000


class Sight:
    """Watches ``camera`` through ``perception`` while ``clock`` moves."""

    def __init__(
        self, perception: Perception, camera: str, clock: Clock, watchdog: Watchdog
    ) -> None:
        self.perception, self.camera = perception, camera
        self.clock, self.watchdog = clock, watchdog

    def tick(self, seconds: float) -> int:
        """Lets ``seconds`` pass, takes in what arrived, and returns the time."""
        self.clock.wait(seconds)
        now_ns = self.clock.now_ns()
        for frame in self.perception.poll(now_ns):
            if frame.camera == self.camera:
                self.watchdog.saw_frame(frame.camera, frame.stamp_ns, now_ns)
                if frame.T_fixed_camera is not None:
                    self.watchdog.saw_transform(now_ns)
        return now_ns

    @property
    def newest(self) -> Frame | None:
        return self.perception.buffer.latest(self.camera)

    def wait_for_frame(
        self, after_ns: int, timeout_s: float, tick_s: float, cancel: Cancel | None = None
    ) -> Refusal | None:
        """Until a whole frame taken after ``after_ns`` is there; STALE when none comes, the clock
        jumps back or a person cancels."""
        now_ns = start_ns = self.clock.now_ns()
        while (frame := self.newest) is None or frame.stamp_ns <= after_ns:
            if cancel is not None and cancel.is_set():
                return Refusal(RefusalCode.STALE, f"{self.camera}: a person stopped the waiting")
            if (now_ns - start_ns) / 1e9 >= timeout_s:
                return Refusal(RefusalCode.STALE, self._no_frame(frame, timeout_s))
            before_ns, now_ns = now_ns, self.tick(tick_s)
            if now_ns < before_ns:
                back_s = (before_ns - now_ns) / 1e9
                text = f"the clock jumped back by {back_s:.3g} s while an image was waited for"
                return Refusal(RefusalCode.STALE, text)
        return None

    def _no_frame(self, frame: Frame | None, timeout_s: float) -> str:
        seen = "none ever came"
        if frame is not None:
            age_s = (self.clock.now_ns() - frame.stamp_ns) / 1e9
            seen = f"the newest is {age_s:.2f} s old"
        return (
            f"{self.camera}: no new image within {timeout_s:g} s ({seen}); is the camera running?"
        )

    def show(self, since_ns: int, at_most: int) -> FrameSet | Refusal:
        """Up to ``at_most`` frames taken after ``since_ns``, evenly spread in number, now last;
        STALE when there is none."""
        while recent := self._since(since_ns):
            n = min(at_most, len(recent))
            chosen = [recent[(i + 1) * len(recent) // n - 1] for i in range(n)]
            try:
                return self.perception.show(chosen)
            except ImageError:  # damaged, and forgotten now
                continue
        ahead_s = (since_ns - self.clock.now_ns()) / 1e9
        why = f": the clock jumped back by more than {ahead_s:.3g} s" if ahead_s > 0 else ""
        text = f"{self.camera}: no image since the newest motion began{why}"
        return Refusal(RefusalCode.STALE, text)

    def _since(self, stamp_ns: int) -> list[Frame]:
        frames = self.perception.buffer.frames(self.camera)
        return [frame for frame in frames if frame.stamp_ns > stamp_ns]

    def newest_or(self, shown: SelectedFrame) -> SelectedFrame:
        """The newest frame that can be shown, which may be the one ``shown``."""
        while (newest := self.newest) is not None and newest.key != shown.frame.key:
            try:
                return self.perception.show([newest])[0]
            except ImageError:  # damaged, and forgotten now
                continue
        return shown

    def robot(
        self, base_frame: str, links: tuple[str, ...], stamp_ns: int
    ) -> tuple[Vector3, ...] | Refusal:
        """Where each of the robot's links was at a stamp, in its base frame. A refusal names those
        that are not known: the line of the others would run where the robot is not."""
        places = {link: self.pose(base_frame, link, stamp_ns) for link in links}
        missing = {link: p for link, p in places.items() if isinstance(p, Refusal)}
        if missing:
            first = next(iter(missing.values()))
            text = f"where the robot itself is: no transform of its links {', '.join(missing)}"
            return Refusal(first.code, f"{text}; {first.text}")
        return tuple(p.translation_m for p in places.values() if isinstance(p, RigidTransform))

    def pose(self, parent: str, child: str, stamp_ns: int) -> RigidTransform | Refusal:
        return self.perception.transforms.lookup(parent, child, stamp_ns)

    def wait_for_pose(
        self, parent: str, child: str, stamp_ns: int, tick_s: float
    ) -> RigidTransform | Refusal:
        """`pose`, given a little time: /tf comes after what it tells of."""
        return self._patiently(lambda: self.pose(parent, child, stamp_ns), tick_s)

    def wait_for_robot(
        self, base_frame: str, links: tuple[str, ...], stamp_ns: int, tick_s: float
    ) -> tuple[Vector3, ...] | Refusal:
        """`robot`, given a little time: joints are told after the picture that shows them."""
        return self._patiently(lambda: self.robot(base_frame, links, stamp_ns), tick_s)

    def _patiently(self, look: Callable[[], T | Refusal], tick_s: float) -> T | Refusal:
        now_ns = start_ns = self.clock.now_ns()
        found = look()
        while isinstance(found, Refusal) and 0 <= now_ns - start_ns < _TF_WAIT_NS:
            now_ns = self.tick(tick_s)
            found = look()
        return found
