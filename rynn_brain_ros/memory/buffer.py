"""The short memory of the cameras: bounded in seconds and in bytes, both at all times.

The newest seconds keep every frame; older ones thin out to a steady low rate, since models look
at about 2 frames a second. Frames are stored as they arrived: appending copies no pixels.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left, bisect_right
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from operator import attrgetter
from typing import NamedTuple

from rynn_brain_ros.memory import images
from rynn_brain_ros.memory.keyframes import FrameLook
from rynn_brain_ros.values import ConfigError, Frame, ImageError, SelectedFrame


@dataclass(frozen=True)
class BufferLimits:
    """What a `FrameBuffer` may hold.

    ``max_bytes`` (colour and depth together) bounds all cameras at once, ``horizon_s`` each camera
    by its own newest stamp: cameras whose clocks differ do not silence each other. The newest
    ``dense_s`` of a camera keep everything; before that, frames are left out as long as no gap
    exceeds ``1 / sparse_hz``. A stamp up to ``max_backward_skew_s`` before its camera's
    newest is sorted in; one further back means that the clock was reset. ``max_selected_bytes``
    bounds the encodings kept for frames that were selected, beside ``max_bytes``.
    """

    horizon_s: float = 60.0
    max_bytes: int = 512 << 20
    dense_s: float = 2.0
    sparse_hz: float = 2.0
    max_backward_skew_s: float = 0.1
    max_selected_bytes: int = 64 << 20

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"BufferLimits.{item.name} is {value}: it must be 0 or more")
        if not (self.sparse_hz > 0 and self.horizon_s > 0 and self.max_bytes > 0):
            raise ConfigError("BufferLimits: horizon_s, max_bytes and sparse_hz must be above 0")


class DropReason(str, Enum):
    """Why a frame is not, or no longer, in the buffer."""

    UNREADABLE = "unreadable"
    """The colour image's header contradicts its bytes, its encoding is unknown, or its pixels do
    not decode; refused, or forgotten when that was found as it was to be shown."""
    OVERSIZE = "oversize"
    """Refused: the frame alone is bigger than the byte bound."""
    DUPLICATE = "duplicate"
    """Refused: a frame of this camera and stamp is there already."""
    TOO_OLD = "too_old"
    """Refused: on arrival it was farther behind its camera's newest frame than the horizon."""
    EXPIRED = "expired"
    """It passed the horizon of its camera."""
    THINNED = "thinned"
    """A neighbour stands for it."""
    BYTES = "bytes"
    """It was farthest behind its camera's newest frame when room was needed."""
    RESET = "reset"
    """Its clock no longer exists."""


@dataclass(frozen=True)
class BufferEvent:
    """Something that a person watching the robot should hear of: a refusal or a clock reset."""

    reason: DropReason
    camera: str
    stamp_ns: int
    text: str


@dataclass(frozen=True)
class CameraStats:
    """What one camera holds now, and what became of its other frames since the start."""

    camera: str
    frames: int
    n_bytes: int
    oldest_ns: int | None
    newest_ns: int | None
    dropped: Mapping[DropReason, int]
    resets: int


@dataclass(frozen=True)
class BufferStats:
    """Memory in use: ``n_bytes`` of frames, ``selected_bytes`` of cached selections."""

    cameras: tuple[CameraStats, ...]
    n_bytes: int
    selected_bytes: int

    @property
    def frames(self) -> int:
        return sum(camera.frames for camera in self.cameras)


class _Entry(NamedTuple):
    frame: Frame
    look: FrameLook


@dataclass
class _Track:
    """One camera: entries sorted by stamp; those up to ``thinned_ns`` are thinned out.

    ``stamps_ns`` repeats the entries' stamps, since bisect is ten times faster on plain numbers.
    """

    stamps_ns: list[int] = field(default_factory=list)
    entries: list[_Entry] = field(default_factory=list)
    n_bytes: int = 0
    thinned_ns: int | None = None
    dropped: Counter[DropReason] = field(default_factory=Counter)
    resets: int = 0


class FrameBuffer:
    """Frames of several cameras, for one writer and any number of readers.

    Readers get tuples of immutable frames. The lock is held for bookkeeping only, never while
    pixels are decoded. Under byte pressure the dense seconds are thinned out first and the oldest
    frames go next: a long memory is worth more than a dense one. Keyframes are never thinned out.
    Age is always behind the newest frame of the same camera, never behind another one's clock.
    """

    def __init__(self, limits: BufferLimits | None = None) -> None:
        self.limits = limits or BufferLimits()
        self._lock = threading.Lock()
        self._tracks: dict[str, _Track] = {}
        self._bytes = 0
        self._horizon_ns = round(self.limits.horizon_s * 1e9)
        self._dense_ns = round(self.limits.dense_s * 1e9)
        self._gap_ns = round(1e9 / self.limits.sparse_hz)
        self._skew_ns = round(self.limits.max_backward_skew_s * 1e9)
        self._select_lock = threading.Lock()
        self._selected: OrderedDict[tuple[str, int], SelectedFrame] = OrderedDict()
        self._selected_bytes = 0

    # --- writing

    def append(self, frame: Frame, look: FrameLook | None = None) -> tuple[BufferEvent, ...]:
        """Store a frame, with what `KeyframeDetector` made of it.

        Never raises for a bad frame: it is refused, counted and reported in the result, which is
        empty when all is well. Room is made before the frame enters, so that neither bound is
        ever exceeded.
        """
        defect = _defect(frame, self.limits.max_bytes)
        with self._lock:
            track = self._tracks.setdefault(frame.camera, _Track())
            events = () if defect else self._reset_if_back(frame.camera, frame.stamp_ns)
            newest_ns = max([*track.stamps_ns[-1:], frame.stamp_ns])
            refusal = defect or self._refusal(track, frame, newest_ns)
            if refusal:
                track.dropped[refusal.reason] += 1
                return (*events, refusal)
            expired = bisect_left(track.stamps_ns, newest_ns - self._horizon_ns)
            self._remove(track, 0, expired, DropReason.EXPIRED)
            self._make_room(track, newest_ns, frame.n_bytes)
            self._insert(track, _Entry(frame, look or FrameLook()))
            self._thin(track, track.stamps_ns[-1] - self._dense_ns)
            return events

    def refuse(self, frame: Frame, why: str) -> BufferEvent:
        """Count a frame whose pixels do not decode, as whoever looked at it found."""
        with self._lock:
            self._tracks.setdefault(frame.camera, _Track()).dropped[DropReason.UNREADABLE] += 1
        return _refused(DropReason.UNREADABLE, frame, why)

    def start_over(self, camera: str, stamp_ns: int) -> tuple[BufferEvent, ...]:
        """The clock was set back to ``stamp_ns``, as whoever hears the camera knows before a frame
        of the new time is whole: until then none of the old ones may pass for what is seen now."""
        with self._lock:
            events = self._reset_if_back(camera, stamp_ns)
            track = self._tracks.setdefault(camera, _Track())
            self._remove(track, 0, len(track.entries), DropReason.RESET)
            track.thinned_ns = None
            return events

    def _reset_if_back(self, camera: str, stamp_ns: int) -> tuple[BufferEvent, ...]:
        """A looping bag or a restarted simulator: this camera starts afresh, and the others lose
        what now lies in the future."""
        track = self._tracks.setdefault(camera, _Track())
        if not track.stamps_ns or stamp_ns >= track.stamps_ns[-1] - self._skew_ns:
            return ()
        back_s = (track.stamps_ns[-1] - stamp_ns) / 1e9
        track.resets += 1
        self._remove(track, 0, len(track.entries), DropReason.RESET)
        for other in self._tracks.values():
            future = bisect_right(other.stamps_ns, stamp_ns + self._skew_ns)
            self._remove(other, future, len(other.entries), DropReason.RESET)
            other.thinned_ns = None
        text = f"the clock went back by {back_s:.3f} s; its memory of the old time is cleared"
        return (_event(DropReason.RESET, camera, stamp_ns, text),)

    def _refusal(self, track: _Track, frame: Frame, newest_ns: int) -> BufferEvent | None:
        at = bisect_left(track.stamps_ns, frame.stamp_ns)
        if track.stamps_ns[at : at + 1] == [frame.stamp_ns]:
            return _refused(DropReason.DUPLICATE, frame, "this stamp is there already; ignored")
        if frame.stamp_ns < newest_ns - self._horizon_ns:
            late_s = (newest_ns - frame.stamp_ns) / 1e9
            return _refused(
                DropReason.TOO_OLD,
                frame,
                f"it is {late_s:.3f} s behind this camera's newest image, beyond the horizon",
            )
        return None

    def _insert(self, track: _Track, entry: _Entry) -> None:
        at = bisect_left(track.stamps_ns, entry.frame.stamp_ns)
        track.entries.insert(at, entry)
        track.stamps_ns.insert(at, entry.frame.stamp_ns)
        track.n_bytes += entry.frame.n_bytes
        self._bytes += entry.frame.n_bytes

    def _remove(self, track: _Track, start: int, stop: int, reason: DropReason) -> None:
        if stop <= start:
            return
        n_bytes = sum(entry.frame.n_bytes for entry in track.entries[start:stop])
        del track.entries[start:stop], track.stamps_ns[start:stop]
        track.n_bytes -= n_bytes
        self._bytes -= n_bytes
        track.dropped[reason] += stop - start

    def _make_room(self, arriving: _Track, newest_ns: int, n_bytes: int) -> None:
        """For ``n_bytes`` of the camera ``arriving``, whose newest stamp will be ``newest_ns``."""
        if self._bytes + n_bytes <= self.limits.max_bytes:
            return
        for track in self._tracks.values():
            if track.stamps_ns:
                self._thin(track, track.stamps_ns[-1])

        def age(track: _Track) -> tuple[int, int]:
            until_ns = newest_ns if track is arriving else track.stamps_ns[-1]
            return until_ns - track.stamps_ns[0], -track.stamps_ns[0]

        while self._bytes + n_bytes > self.limits.max_bytes:
            filled = (track for track in self._tracks.values() if track.stamps_ns)
            oldest = max(filled, key=age)
            self._remove(oldest, 0, 1, DropReason.BYTES)

    def _thin(self, track: _Track, border_ns: int) -> None:
        """Walk from kept frame to kept frame up to ``border_ns``, removing those between.

        The next one to keep lies at most a gap away, so thinning never opens a gap wider than
        ``1 / sparse_hz`` and takes nothing from a source that is no faster than this.
        """
        stamps_ns = track.stamps_ns
        if track.thinned_ns is None:
            track.thinned_ns = stamps_ns[0]
        while track.thinned_ns + self._gap_ns <= border_ns:
            start = bisect_right(stamps_ns, track.thinned_ns)
            if start == len(stamps_ns):
                return
            keep = self._keep(track, start, track.thinned_ns)
            if stamps_ns[keep] > border_ns:
                return
            track.thinned_ns = stamps_ns[keep]
            self._remove(track, start, keep, DropReason.THINNED)

    def _keep(self, track: _Track, start: int, from_ns: int) -> int:
        """Of the entries from ``start`` to a gap after ``from_ns``: the first keyframe, else the
        sharpest of the later half, else the last; where there is none, the next entry."""
        stop = bisect_right(track.stamps_ns, from_ns + self._gap_ns)
        keyframe = next((i for i in range(start, stop) if track.entries[i].look.keyframe), None)
        if keyframe is not None:
            return keyframe
        late = range(bisect_right(track.stamps_ns, from_ns + self._gap_ns // 2), stop)
        if late:
            return max(late, key=lambda i: (track.entries[i].look.sharpness, i))
        return max(start, stop - 1)

    # --- reading

    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras that sent anything, sorted."""
        with self._lock:
            return tuple(sorted(self._tracks))

    def frames(self, camera: str | None = None, until_ns: int | None = None) -> tuple[Frame, ...]:
        """Snapshot of one camera, or of all in the order of (stamp, camera); stamps ≤ until."""
        return tuple(entry.frame for entry in self._snapshot(camera, until_ns))

    def keyframes(
        self, camera: str | None = None, until_ns: int | None = None
    ) -> tuple[Frame, ...]:
        """The frames of `frames` that were keyframes on arrival."""
        return tuple(e.frame for e in self._snapshot(camera, until_ns) if e.look.keyframe)

    def latest(self, camera: str | None = None) -> Frame | None:
        """The newest frame of one camera, or of all."""
        frames = self.frames(camera)
        return frames[-1] if frames else None

    def stats(self) -> BufferStats:
        with self._lock:
            cameras = tuple(_camera_stats(name, t) for name, t in sorted(self._tracks.items()))
            return BufferStats(cameras, self._bytes, self._selected_bytes)

    def select(self, frame: Frame) -> SelectedFrame:
        """`images.select`, made once per frame as long as ``max_selected_bytes`` lasts.

        A second caller waits for the first instead of encoding again; the writer waits for
        nobody. The cache compares frames by identity, since a reset clock repeats stamps. A frame
        that cannot be shown is forgotten, and counted, before the `ImageError` is raised: whoever
        chooses again meets another one.
        """
        with self._select_lock:
            selected = self._selected.pop(frame.key, None)
            if selected is not None and selected.frame is not frame:
                self._selected_bytes -= _selected_bytes(selected)
                selected = None
            if selected is None:
                try:
                    selected = images.select(frame)
                except ImageError:
                    self._forget(frame)
                    raise
                self._selected_bytes += _selected_bytes(selected)
            self._selected[frame.key] = selected
            while self._selected_bytes > self.limits.max_selected_bytes:
                _, oldest = self._selected.popitem(last=False)
                self._selected_bytes -= _selected_bytes(oldest)
            return selected

    def _forget(self, frame: Frame) -> None:
        with self._lock:
            track = self._tracks.setdefault(frame.camera, _Track())
            at = bisect_left(track.stamps_ns, frame.stamp_ns)
            if at < len(track.entries) and track.entries[at].frame is frame:
                self._remove(track, at, at + 1, DropReason.UNREADABLE)

    def _snapshot(self, camera: str | None, until_ns: int | None) -> list[_Entry]:
        with self._lock:
            found = list(self._found(camera, until_ns))
        return found if camera is not None else sorted(found, key=_BY_STAMP)

    def _found(self, camera: str | None, until_ns: int | None) -> Iterator[_Entry]:
        for name, track in self._tracks.items():
            if camera in (None, name):
                stop = len(track.entries)
                if until_ns is not None:
                    stop = bisect_right(track.stamps_ns, until_ns)
                yield from track.entries[:stop]


_BY_STAMP = attrgetter("frame.stamp_ns", "frame.camera")


def _defect(frame: Frame, max_bytes: int) -> BufferEvent | None:
    """What is wrong with the frame whatever the buffer holds. Decodes nothing."""
    if frame.n_bytes > max_bytes:
        return _refused(
            DropReason.OVERSIZE,
            frame,
            f"{frame.n_bytes} bytes exceed the whole bound of {max_bytes}; raise max_bytes",
        )
    try:
        images.image_size(frame.color)
    except ImageError as error:
        return _refused(DropReason.UNREADABLE, frame, str(error))
    return None


def _refused(reason: DropReason, frame: Frame, text: str) -> BufferEvent:
    return _event(reason, frame.camera, frame.stamp_ns, text)


def _event(reason: DropReason, camera: str, stamp_ns: int, text: str) -> BufferEvent:
    return BufferEvent(reason, camera, stamp_ns, f"camera {camera!r} at {stamp_ns} ns: {text}")


def _camera_stats(name: str, track: _Track) -> CameraStats:
    return CameraStats(
        camera=name,
        frames=len(track.entries),
        n_bytes=track.n_bytes,
        oldest_ns=track.stamps_ns[0] if track.stamps_ns else None,
        newest_ns=track.stamps_ns[-1] if track.stamps_ns else None,
        dropped=dict(track.dropped),
        resets=track.resets,
    )


def _selected_bytes(selected: SelectedFrame) -> int:
    """What the cache keeps alive: the frame (the buffer may have let it go), and its encoding
    unless that is the camera's own."""
    own = selected.image is selected.frame.color.data
    return selected.frame.n_bytes + (0 if own else len(selected.image))
