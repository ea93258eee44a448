"""From separate streams to frames: the same code behind live topics and behind a bag.

Nothing here sleeps or starts threads: things are added as they arrive and `FrameAssembler.poll`
is told the time. Depth is matched to colour by the nearest stamp, exactly, and colour leads.
message_filters' ApproximateTime is not used: its choice depends on queue sizes and arrival order,
it has no notion of "no depth came", and it drops a colour image whose partner is missing.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Protocol

from rynn_brain_ros.memory.images import is_rectified
from rynn_brain_ros.values import (
    CameraInfo,
    ConfigError,
    EncodedImage,
    Frame,
    Refusal,
    RefusalCode,
    RigidTransform,
)


class PoseSource(Protocol):
    """Where cameras are. A refusal means "not known (yet)"."""

    def camera_pose(self, frame_id: str, stamp_ns: int) -> RigidTransform | Refusal:
        """``T_fixed_camera`` of the optical frame ``frame_id`` at the stamp."""
        ...

    def relative(
        self, color_frame: str, depth_frame: str, stamp_ns: int
    ) -> RigidTransform | Refusal:
        """``T_color_depth`` of two optical frames at the stamp."""
        ...


@dataclass(frozen=True)
class AssemblyConfig:
    """How one camera's streams become frames.

    Depth belongs to a colour image if its stamp is the nearest and within ``sync_tolerance_s``.
    A colour image waits ``max_wait_s`` for the rest, then goes without. ``depth_registered``
    says whether depth pixels are colour pixels; ``None`` decides by the headers: the same
    frame_id and, where both infos are known, the same lens (size, K and distortion); where
    ``named_registered`` (a topic's name claims it), only another lens says otherwise. Where depth
    has a camera_info of its own (``expects_depth_info``) that is not decided before it came; the
    name decides after the wait. When more than ``max_pending`` colour images wait, the next poll
    lets the oldest go without the rest; twice as many of a kind are never kept. A clock more than
    ``max_backward_skew_s`` back is a reset, and so are two colour images in a row whose stamps are
    that far back and go on, which both count: one alone is dropped as late.
    """

    camera: str
    expects_depth: bool = True
    expects_depth_info: bool = False
    sync_tolerance_s: float = 0.02
    max_wait_s: float = 0.3
    depth_registered: bool | None = None
    named_registered: bool = False
    max_pending: int = 30
    max_backward_skew_s: float = 0.1

    def __post_init__(self) -> None:
        if min(self.sync_tolerance_s, self.max_wait_s, self.max_backward_skew_s) < 0:
            raise ConfigError(f"camera {self.camera!r}: tolerances and waits must be 0 or more")
        if self.max_pending < 1:
            raise ConfigError(f"camera {self.camera!r}: max_pending must be 1 or more")


@dataclass(frozen=True)
class AssemblyStats:
    """Counts since the start.

    ``missing`` names what emitted frames went without: camera_info, depth, depth_info,
    depth_transform, frame_id (it is empty), pose. ``dropped`` names why colour images never became
    frames: duplicate, late (an image with a later stamp was emitted before, or came before and
    after it), overflow (nobody polled), reset.
    """

    emitted: int
    pending: int
    missing: Mapping[str, int]
    dropped: Mapping[str, int]
    resets: int


@dataclass
class _Image:
    stamp_ns: int
    frame_id: str
    image: EncodedImage
    arrived_ns: int | None = None


@dataclass(frozen=True)
class _Depth:
    """What a frame knows of depth; ``missing`` names what it lacks, ``settled`` for good."""

    image: EncodedImage | None = None
    info: CameraInfo | None = None
    T_color_depth: RigidTransform | None = None
    missing: str = ""
    refusal: Refusal | None = None
    settled: bool = True


_BY_STAMP = attrgetter("stamp_ns")


@dataclass
class _Infos:
    """The camera_infos of one stream: only changes are kept, so a constant one takes one place."""

    stamps_ns: list[int] = field(default_factory=list)
    infos: list[CameraInfo] = field(default_factory=list)
    last: CameraInfo | None = None
    """What arrived last, a change or not."""

    def add(self, stamp_ns: int, info: CameraInfo) -> None:
        self.last = info
        at = bisect_right(self.stamps_ns, stamp_ns)
        if at > 0 and self.infos[at - 1] == info:
            return
        self.stamps_ns.insert(at, stamp_ns)
        self.infos.insert(at, info)
        del self.stamps_ns[:-_MAX_INFOS], self.infos[:-_MAX_INFOS]

    def at(self, stamp_ns: int) -> CameraInfo | None:
        """The latest at or before the stamp, else the first there is."""
        if not self.infos:
            return None
        return self.infos[max(0, bisect_right(self.stamps_ns, stamp_ns) - 1)]

    def rewind(self) -> None:
        """Keep for any time the one that arrived last: a lens outlives a clock, and the new run's
        may have come before the image that told of the reset."""
        self.infos = [] if self.last is None else [self.last]
        self.stamps_ns = [_ALWAYS_NS] * len(self.infos)


_MAX_INFOS = 64
_ALWAYS_NS = -(1 << 63)


class FrameAssembler:
    """Turns the streams of one camera into `Frame`s, in the order of their stamps.

    A frame is emitted as soon as its info, depth and pose are known, or when ``max_wait_s`` has
    passed since the first `poll` after its arrival, or when too many wait behind it; frames behind
    it wait for it. Depth counts as known, be it found or not, when a depth with the same or a
    later stamp has come. Belongs to one thread.
    """

    def __init__(self, config: AssemblyConfig, poses: PoseSource) -> None:
        self._config = config
        self._expects_depth_info = config.expects_depth_info
        self._poses = poses
        self._tolerance_ns = round(config.sync_tolerance_s * 1e9)
        self._color: list[_Image] = []
        self._depth: list[_Image] = []
        self._color_infos = _Infos()
        self._depth_infos = _Infos()
        self._skew_ns = round(config.max_backward_skew_s * 1e9)
        self._newest_ns: dict[str, int] = {}
        self._odd: _Image | None = None
        """The newest image, where its stamp is back: it counts if the next one goes on from it."""
        self._was_set_back = False
        self._emitted_ns: int | None = None
        self._emitted = 0
        self._missing: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._resets = 0

    def add_color(self, stamp_ns: int, frame_id: str, image: EncodedImage) -> bool:
        """Returns whether it told that the clock was set back: what was seen before is of another
        time."""
        item, odd, self._odd = _Image(stamp_ns, frame_id, image), self._odd, None
        is_back = self._is_back("color", stamp_ns)
        # A clock that was set back goes on; a driver that lost its clock repeats one stamp.
        goes_on = is_back and odd is not None and stamp_ns > odd.stamp_ns
        if odd is not None and not goes_on:
            self._dropped["late"] += 1
        if is_back and not (goes_on or self._was_set_back):
            self._odd = item
            return False
        self._was_set_back = False
        if is_back:
            # Depth that jumped back before colour did is of the new time already.
            self._reset(keep_depth=not self._is_back("depth", stamp_ns))
        if odd is not None and goes_on:
            self._take(odd)
        self._take(item)
        return is_back

    def _take(self, item: _Image) -> None:
        self._heard("color", item.stamp_ns)
        known = any(other.stamp_ns == item.stamp_ns for other in self._color)
        if known or item.stamp_ns == self._emitted_ns:
            self._dropped["duplicate"] += 1
        elif self._emitted_ns is not None and item.stamp_ns < self._emitted_ns:
            self._dropped["late"] += 1
        else:
            self._dropped["overflow"] += self._push(self._color, item)

    def add_depth(self, stamp_ns: int, frame_id: str, image: EncodedImage) -> None:
        if self._is_back("depth", stamp_ns):
            self._depth.clear()
        self._heard("depth", stamp_ns)
        self._push(self._depth, _Image(stamp_ns, frame_id, image))

    def add_color_info(self, info: CameraInfo, stamp_ns: int) -> None:
        self._color_infos.add(stamp_ns, info)

    def add_depth_info(self, info: CameraInfo, stamp_ns: int) -> None:
        self._depth_infos.add(stamp_ns, info)

    def expect_depth_info(self, expected: bool) -> None:
        """From now on in place of what was configured: who publishes what is found out live."""
        self._expects_depth_info = expected

    def poll(self, now_ns: int) -> tuple[Frame, ...]:
        """The frames that are ready at ``now_ns``, by any clock that runs like the stamps'."""
        if self._is_back("now", now_ns):
            self._reset()
            self._was_set_back = True  # the next image that is back is no surprise
        self._heard("now", now_ns)
        for item in self._color:
            item.arrived_ns = now_ns if item.arrived_ns is None else item.arrived_ns
        return self._emit(now_ns - round(self._config.max_wait_s * 1e9))

    def flush(self) -> tuple[Frame, ...]:
        """Everything that still waits, as it is: at the end of a bag nothing more will come."""
        return self._emit(None)

    @property
    def newest_color_ns(self) -> int | None:
        """Stamp of the newest colour image that counts, whether or not it is a frame yet."""
        return self._newest_ns.get("color")

    @property
    def stats(self) -> AssemblyStats:
        return AssemblyStats(
            self._emitted,
            len(self._color) + (self._odd is not None),
            dict(+self._missing),
            dict(+self._dropped),
            self._resets,
        )

    def _is_back(self, name: str, stamp_ns: int) -> bool:
        return stamp_ns < self._newest_ns.get(name, stamp_ns) - self._skew_ns

    def _heard(self, name: str, stamp_ns: int) -> None:
        newest_ns = self._newest_ns.get(name, stamp_ns)
        is_back = self._is_back(name, stamp_ns)
        self._newest_ns[name] = stamp_ns if is_back else max(stamp_ns, newest_ns)

    def _reset(self, keep_depth: bool = False) -> None:
        self._resets += 1
        self._dropped["reset"] += len(self._color)
        self._color.clear()
        if not keep_depth:
            self._depth.clear()
        self._emitted_ns = None
        self._color_infos.rewind()
        self._depth_infos.rewind()

    def _push(self, queue: list[_Image], item: _Image) -> int:
        """Sort in; returns how many of the oldest had to go.

        Twice ``max_pending``: a colour image that waits too long must meet its depth still.
        """
        insort(queue, item, key=_BY_STAMP)
        surplus = max(0, len(queue) - 2 * self._config.max_pending)
        del queue[:surplus]
        return surplus

    def _emit(self, arrived_by_ns: int | None) -> tuple[Frame, ...]:
        frames: list[Frame] = []
        while self._color:
            head = self._color[0]
            waited = arrived_by_ns is None or (
                head.arrived_ns is not None and head.arrived_ns <= arrived_by_ns
            )
            # A fast camera fills the queue before its wait is over: late is better than never.
            crowded = len(self._color) > self._config.max_pending
            frame = self._assemble(head, waited or crowded)
            if frame is None:
                break
            frames.append(frame)
            del self._color[0]
            self._emitted += 1
            self._emitted_ns = head.stamp_ns
            # What leaves next is later: depth before this image's tolerance can match nothing.
            passed = head.stamp_ns - self._tolerance_ns
            del self._depth[: bisect_left(self._depth, passed, key=_BY_STAMP)]
        return tuple(frames)

    def _assemble(self, item: _Image, waited: bool) -> Frame | None:
        """The frame, complete or after its wait; ``None`` as long as something may still come."""
        info = self._color_infos.at(item.stamp_ns)
        depth = self._depth_of(item, info) if self._config.expects_depth else _Depth()
        pose = self._poses.camera_pose(item.frame_id, item.stamp_ns)
        refusal = pose if isinstance(pose, Refusal) else None
        lacks = {
            "camera_info": info is None,
            "frame_id": not item.frame_id,
            "pose": refusal is not None,
        }
        if not waited and (any(lacks.values()) or not depth.settled):
            return None
        self._missing.update(name for name, lacking in lacks.items() if lacking)
        self._missing.update([depth.missing] if depth.missing else [])
        return Frame(
            camera=self._config.camera,
            stamp_ns=item.stamp_ns,
            frame_id=item.frame_id,
            color=item.image,
            depth=depth.image,
            camera_info=info,
            depth_info=depth.info,
            T_color_depth=depth.T_color_depth,
            T_fixed_camera=None if isinstance(pose, Refusal) else pose,
            pose_refusal=refusal,
            depth_refusal=depth.refusal,
        )

    def _depth_of(self, color: _Image, color_info: CameraInfo | None) -> _Depth:
        at = bisect_left(self._depth, color.stamp_ns, key=_BY_STAMP)
        # Streams come in order: nothing nearer can come once a depth at or after the colour did.
        settled = at < len(self._depth)
        depth = self._nearest(self._depth[max(0, at - 1) : at + 1], color.stamp_ns)
        if depth is None:
            text = f"no depth image within {self._config.sync_tolerance_s:g} s of this image"
            refusal = Refusal(RefusalCode.NO_DEPTH, text)
            return _Depth(missing="depth", refusal=refusal, settled=settled)
        info = self._depth_infos.at(depth.stamp_ns)
        same_frame = depth.frame_id == color.frame_id
        if self._registered(same_frame, color_info, info):
            # As long as its camera_info may contradict the name, the name alone settles nothing.
            expected = not same_frame or self._expects_depth_info
            named = self._config.depth_registered is None and info is None and expected
            return _Depth(depth.image, settled=settled and not named)
        # Without these two a reader would take the depth for registered: better none.
        if info is None:
            text = (
                "depth is not known to be registered to colour, and its own camera_info has not "
                "arrived"
            )
            refusal = Refusal(RefusalCode.NO_INTRINSICS, text)
            return _Depth(missing="depth_info", refusal=refusal, settled=False)
        transform = (
            RigidTransform(color.frame_id, depth.frame_id, stamp_ns=color.stamp_ns)
            if same_frame
            else self._poses.relative(color.frame_id, depth.frame_id, color.stamp_ns)
        )
        if isinstance(transform, Refusal):
            return _Depth(missing="depth_transform", refusal=transform, settled=False)
        return _Depth(depth.image, info, transform, settled=settled)

    def _nearest(self, around: list[_Image], stamp_ns: int) -> _Image | None:
        near = [d for d in around if abs(d.stamp_ns - stamp_ns) <= self._tolerance_ns]
        return min(near, key=lambda d: abs(d.stamp_ns - stamp_ns), default=None)

    def _registered(
        self, same_frame: bool, color: CameraInfo | None, depth: CameraInfo | None
    ) -> bool:
        if self._config.depth_registered is not None:
            return self._config.depth_registered
        if depth is None and self._expects_depth_info and not self._config.named_registered:
            return False
        same_lens = color is None or depth is None or self._same_lens(color, depth)
        # Equal lenses alone prove nothing: two cameras of one make share them. Nor does the same
        # frame: a rectified picture of a camera is in that of its distorted one.
        return same_lens and (same_frame or self._config.named_registered)

    def _same_lens(self, color: CameraInfo, depth: CameraInfo) -> bool:
        lens = _intrinsics(depth)
        if _intrinsics(color) == lens:
            return True
        return is_rectified(self._config.camera) and _rectified(color) == lens


def _intrinsics(info: CameraInfo) -> tuple[object, ...]:
    """Coefficients that are all 0 bend nothing, whatever their number and their model's name."""
    bent = (info.distortion_model, info.d) if any(info.d) else ()
    return info.width, info.height, info.k, bent


def _rectified(info: CameraInfo) -> tuple[object, ...]:
    """As `_intrinsics`, of the pixels that P describes."""
    return info.width, info.height, (*info.p[0:3], *info.p[4:7], *info.p[8:11]), ()
