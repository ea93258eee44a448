"""Which frames a question shows: a buffer's snapshot becomes a frozen `FrameSet`.

The last frame is always "now". The order is by stamp; index ``i`` is ``<frame i>``. Every image
may cost an equal share of the 10240 visual tokens that training spent on one sample
(RynnScale, ``processing_qwen3_vl.py``), and training showed 2 frames a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from operator import attrgetter

import numpy as np

from rynn_brain_ros.memory import images
from rynn_brain_ros.memory.buffer import FrameBuffer
from rynn_brain_ros.values import ConfigError, Frame, FrameSet, InputError

VISUAL_TOKENS = 10240
MAX_FRAMES = 512

_BY_STAMP = attrgetter("stamp_ns", "camera")


class SelectionKind(str, Enum):
    LATEST = "latest"
    """Back from now, ``1 / fps`` apart."""
    UNIFORM = "uniform"
    """Evenly over everything that is remembered."""
    KEYFRAMES = "keyframes"
    """The keyframes in a window whose beginning stays put, then now: see `KeyframeWindow`."""


@dataclass(frozen=True)
class SelectionPolicy:
    """How frames are chosen: at most ``n`` (1…512), ``fps`` per second where the kind uses it."""

    kind: SelectionKind = SelectionKind.LATEST
    n: int = 8
    fps: float = 2.0

    def __post_init__(self) -> None:
        if not 1 <= self.n <= MAX_FRAMES:
            raise ConfigError(f"SelectionPolicy.n is {self.n}: it must be 1…{MAX_FRAMES}")
        if not 0 < self.fps < 1e6:
            raise ConfigError(f"SelectionPolicy.fps is {self.fps}: it must be above 0")


class KeyframeWindow:
    """At most ``n - 1`` keyframes that only grow at the end, or lose a whole block at the front.

    An engine that keeps the attention cache of a prompt's beginning can reuse it as long as the
    first frames stay the same and keep their numbers. So a frame once shown stays in its place
    until the window is full; then the oldest ``n // 2`` go at once, and the engine pays for the
    whole prompt once in that many keyframes. When the oldest frame has left the buffer the same
    is done early (half of the window if that is less), so nothing is kept alive beyond the
    buffer's bounds for longer than until the next question.

    "Now" is shown after the window. Unless it is a keyframe itself it does not enter: the next
    question replaces it by its own "now", at the place where the new keyframes go. That costs
    nothing, since what comes after the common beginning is new in any case.

    Stateful: one window per conversation, used by one thread.
    """

    def __init__(self, n: int = 16) -> None:
        self._capacity = n - 1
        self._block = max(1, n // 2)
        self._held: list[Frame] = []

    def show(self, keyframes: Sequence[Frame], now: Frame) -> tuple[Frame, ...]:
        """The window brought up to date with the remembered keyframes (sorted), then ``now``."""
        remembered = {id(frame) for frame in keyframes}
        if self._held and id(self._held[-1]) not in remembered:  # another clock, or long ago
            self._held.clear()
        while self._held and id(self._held[0]) not in remembered:
            del self._held[: min(self._block, (len(self._held) + 1) // 2)]
        for frame in keyframes:
            self._append(frame)
        is_last = bool(self._held) and self._held[-1] is now
        return tuple(self._held) if is_last else (*self._held, now)

    def _append(self, frame: Frame) -> None:
        if self._held and _BY_STAMP(frame) <= _BY_STAMP(self._held[-1]):
            return  # shown already, or too late to be sorted in without moving what was shown
        if len(self._held) >= self._capacity:
            del self._held[: self._block]
        if self._capacity:
            self._held.append(frame)


def select_frames(
    source: FrameBuffer | Sequence[Frame],
    policy: SelectionPolicy,
    camera: str | None = None,
    now_ns: int | None = None,
    window: KeyframeWindow | None = None,
) -> FrameSet:
    """Choose the frames of one question, as of ``now_ns`` (default: the newest frame).

    With ``camera=None`` every camera gets an equal share of ``n``, chosen from its own frames,
    and all are merged in stamp order; keyframes of all cameras share one window instead. A plain
    sequence of frames counts as all keyframes. Kind `KEYFRAMES` needs a ``window`` that lives as
    long as the conversation (made for the same ``n``); without one, a fresh window is used.
    Its token share is that of ``n`` frames from the start: images that shrank as the window
    grew would not be the same images.

    Raises `InputError` when there is no frame up to now: there is no question without "now".
    """
    frames = _frames(source, camera, now_ns)
    if not frames:
        raise InputError(
            f"no frame of {'any camera' if camera is None else f'camera {camera!r}'}"
            f"{'' if now_ns is None else f' up to {now_ns} ns'}; "
            f"remembered cameras: {_cameras(source)}; check its topic and its stamps"
        )
    if policy.kind is SelectionKind.KEYFRAMES:
        keyframes = _keyframes(source, camera, frames)
        chosen = (window or KeyframeWindow(policy.n)).show(keyframes, frames[-1])
        share = policy.n
    else:
        chosen = _merged(frames, policy)
        share = len(chosen)
    make = source.select if isinstance(source, FrameBuffer) else images.select
    return FrameSet(tuple(make(frame) for frame in chosen), VISUAL_TOKENS // share)


def latest_k(frames: Sequence[Frame], n: int, fps: float = 2.0) -> tuple[Frame, ...]:
    """Up to ``n`` frames (of one camera, sorted, not empty), ``1 / fps`` apart, newest last.

    Time is cut into slots of one period, centred on now, one period before, and so on; each slot
    gives the frame nearest to its centre. So stamps may jitter by half a period, a slow camera
    gives all of its frames, and a gap is skipped.
    """
    period_ns = round(1e9 / fps)
    now_ns = frames[-1].stamp_ns
    best: dict[int, Frame] = {}
    distance: dict[int, int] = {}
    for frame in reversed(frames):
        age_ns = now_ns - frame.stamp_ns
        slot = (2 * age_ns + period_ns) // (2 * period_ns)
        if slot not in best and len(best) == n:
            break
        off_ns = abs(age_ns - slot * period_ns)
        if slot not in best or off_ns < distance[slot]:
            best[slot], distance[slot] = frame, off_ns
    return tuple(reversed(best.values()))


def uniform(frames: Sequence[Frame], n: int) -> tuple[Frame, ...]:
    """Up to ``n`` frames (of one camera, sorted, not empty), evenly in time, the newest last.

    Even in time and not in number, since a buffer is denser at its end. Where several moments
    have the same nearest frame it is shown once.
    """
    if n == 1 or len(frames) <= n:
        return tuple(frames[-n:])
    ages_ns = np.array([frame.stamp_ns - frames[-1].stamp_ns for frame in frames], np.int64)
    wanted_ns = np.linspace(ages_ns[0], 0, n)
    nearest = np.searchsorted((ages_ns[1:] + ages_ns[:-1]) / 2, wanted_ns)
    return tuple(frames[i] for i in np.unique(nearest))


def _merged(frames: Sequence[Frame], policy: SelectionPolicy) -> tuple[Frame, ...]:
    by_camera = sorted(frames, key=attrgetter("camera"))  # stable: each group stays sorted
    tracks = [tuple(group) for _, group in groupby(by_camera, key=attrgetter("camera"))]
    share = max(1, policy.n // len(tracks))
    chosen = [
        frame
        for track in tracks
        for frame in (
            latest_k(track, share, policy.fps)
            if policy.kind is SelectionKind.LATEST
            else uniform(track, share)
        )
    ]
    return tuple(sorted(chosen, key=_BY_STAMP)[-policy.n :])


def _frames(
    source: FrameBuffer | Sequence[Frame], camera: str | None, now_ns: int | None
) -> tuple[Frame, ...]:
    if isinstance(source, FrameBuffer):
        return source.frames(camera, now_ns)
    shown = (
        frame
        for frame in source
        if camera in (None, frame.camera) and (now_ns is None or frame.stamp_ns <= now_ns)
    )
    return tuple(sorted(shown, key=_BY_STAMP))


def _keyframes(
    source: FrameBuffer | Sequence[Frame], camera: str | None, frames: tuple[Frame, ...]
) -> tuple[Frame, ...]:
    if isinstance(source, FrameBuffer):
        return source.keyframes(camera, frames[-1].stamp_ns)
    return frames


def _cameras(source: FrameBuffer | Sequence[Frame]) -> str:
    if isinstance(source, FrameBuffer):
        names: Sequence[str] = source.cameras()
    else:
        names = sorted({frame.camera for frame in source})
    return ", ".join(names) or "none"
