"""What the brain sees: camera streams and transforms in, a buffer of whole frames out.

The same object serves the live node and a replay; only the messages come from elsewhere. It is
driven by a clock (``now_ns``), owns no thread and never sleeps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from rynn_brain_ros.geometry import (
    ClockReset,
    TransformBuffer,
    continuous_frame,
    optical_frame_refusal,
)
from rynn_brain_ros.memory import (
    AssemblyConfig,
    AssemblyStats,
    BufferEvent,
    BufferLimits,
    DropReason,
    FrameAssembler,
    FrameBuffer,
    KeyframeDetector,
    KeyframeWindow,
    SelectionKind,
    SelectionPolicy,
    select_frames,
)
from rynn_brain_ros.memory.selection import VISUAL_TOKENS
from rynn_brain_ros.values import (
    CameraInfo,
    EncodedImage,
    Frame,
    FrameSet,
    ImageError,
    InputError,
    Refusal,
    RefusalCode,
    RigidTransform,
    SelectedFrame,
)

_WORTH_TELLING = {DropReason.UNREADABLE, DropReason.OVERSIZE, DropReason.RESET}
_MAX_PROBLEMS = 20


@dataclass(frozen=True)
class PerceptionConfig:
    """Cameras to watch, how much to remember, and which fixed frame poses are kept in.

    ``fixed_frame`` is a continuous frame (odom or the robot's base); empty: chosen from the tree.
    ``keyframes`` looks at every image on arrival for whether it shows something new; who never
    selects by keyframes saves that.
    """

    cameras: tuple[AssemblyConfig, ...]
    limits: BufferLimits = field(default_factory=BufferLimits)
    fixed_frame: str = ""
    keyframes: bool = True


class _Poses:
    """Camera poses out of the transform tree, at a stamp and never later."""

    def __init__(self, transforms: TransformBuffer, fixed_frame: str) -> None:
        self._transforms = transforms
        self._fixed_frame = fixed_frame

    def fixed_frame(self, frame_id: str) -> str | None:
        """The frame that poses are kept in, as far as the tree is known by now."""
        return self._fixed_frame or continuous_frame(self._transforms, frame_id)

    def camera_pose(self, frame_id: str, stamp_ns: int) -> RigidTransform | Refusal:
        if not frame_id:
            return Refusal(
                RefusalCode.NO_TRANSFORM,
                "the images' frame_id is empty, so that nothing says where the camera is: set the "
                "name of its optical frame in the camera's driver",
            )
        fixed = self.fixed_frame(frame_id)
        if fixed is None:
            known = ", ".join(self._transforms.known_frames) or "none"
            return Refusal(
                RefusalCode.NO_TRANSFORM,
                f"no fixed frame is known for the camera's frame {frame_id!r} (known: {known}): is "
                "/tf_static there, does frame_id match the robot's description, and is a moving "
                "base's odom published (or fixed_frame set)?",
            )
        pose = self._transforms.lookup(fixed, frame_id, stamp_ns)
        if isinstance(pose, Refusal):
            return pose
        return optical_frame_refusal(self._transforms, frame_id, stamp_ns) or pose

    def relative(self, target: str, source: str, stamp_ns: int) -> RigidTransform | Refusal:
        return self._transforms.lookup(target, source, stamp_ns)


class Perception:
    """Frames of all cameras, assembled, posed and remembered."""

    def __init__(self, config: PerceptionConfig) -> None:
        if not config.cameras:
            raise InputError("no camera to watch: name at least one colour topic")
        self.transforms = TransformBuffer(history_s=config.limits.horizon_s)
        self.buffer = FrameBuffer(config.limits)
        self.problems: list[str] = []
        self._over: set[str] = set()
        self._keyframes = KeyframeDetector() if config.keyframes else None
        self._windows: dict[tuple[str, int], KeyframeWindow] = {}
        self._poses = _Poses(self.transforms, config.fixed_frame)
        self._assemblers = {c.camera: FrameAssembler(c, self._poses) for c in config.cameras}
        self._newest_color_ns: dict[str, int] = {}
        self._skew_ns = round(config.limits.max_backward_skew_s * 1e9)

    @property
    def cameras(self) -> Sequence[str]:
        return tuple(self._assemblers)

    def add_color(self, camera: str, stamp_ns: int, frame_id: str, image: EncodedImage) -> None:
        assembler = self._assemblers[camera]
        if assembler.add_color(stamp_ns, frame_id, image):
            self.transforms.clear_dynamic(after_ns=stamp_ns + self._skew_ns)
            self._tell(self.buffer.start_over(camera, stamp_ns))
        # Told last: another thread waits in the buffer for a frame of this stamp.
        self._newest_color_ns[camera] = assembler.newest_color_ns or stamp_ns

    def add_depth(self, camera: str, stamp_ns: int, frame_id: str, image: EncodedImage) -> None:
        self._assemblers[camera].add_depth(stamp_ns, frame_id, image)

    def add_color_info(self, camera: str, info: CameraInfo, stamp_ns: int) -> None:
        self._assemblers[camera].add_color_info(info, stamp_ns)

    def add_depth_info(self, camera: str, info: CameraInfo, stamp_ns: int) -> None:
        self._assemblers[camera].add_depth_info(info, stamp_ns)

    def expect_depth_info(self, camera: str, expected: bool) -> None:
        """Whether depth has to wait for a camera_info of its own, from now on."""
        self._assemblers[camera].expect_depth_info(expected)

    def add_transforms(self, transforms: Iterable[RigidTransform], static: bool) -> None:
        for problem in self.transforms.add(transforms, static=static):
            self._note(problem, is_over=isinstance(problem, ClockReset))

    def poll(self, now_ns: int) -> tuple[Frame, ...]:
        """Moves every frame that is complete, or has waited long enough, into the buffer. Those
        whose pixels do not decode are left out."""
        ready = [f for a in self._assemblers.values() for f in a.poll(now_ns)]
        return tuple(frame for frame in ready if self._remember(frame))

    def flush(self) -> None:
        """Moves everything that still waits into the buffer: nothing more will come."""
        for assembler in self._assemblers.values():
            for frame in assembler.flush():
                self._remember(frame)

    def stats(self, camera: str) -> AssemblyStats:
        return self._assemblers[camera].stats

    def _remember(self, frame: Frame) -> bool:
        """Whether it can be read. What does not decode at reduced size does not at full size
        either: nobody is shown it, and no measurement meets it."""
        try:
            look = None if self._keyframes is None else self._keyframes.look(frame)
        except ImageError as error:
            self._note(self.buffer.refuse(frame, str(error)).text)
            return False
        self._tell(self.buffer.append(frame, look))
        return True

    def _tell(self, events: Iterable[BufferEvent]) -> None:
        for event in events:
            if event.reason in _WORTH_TELLING:
                self._note(event.text, is_over=event.reason is DropReason.RESET)

    def _note(self, problem: str, is_over: bool = False) -> None:
        """Once each, and not without end: a problem of every frame is one problem."""
        same_kind = [each for each in self.problems if (each in self._over) == is_over]
        if problem not in self.problems and len(same_kind) < _MAX_PROBLEMS:
            self.problems.append(problem)
            if is_over:
                self._over.add(problem)

    @property
    def lasting_problems(self) -> tuple[str, ...]:
        """Without the jumps of a clock: what came after one is as good as ever."""
        return tuple(problem for problem in self.problems if problem not in self._over)

    def newest_stamp_ns(self, camera: str) -> int | None:
        """Stamp of the newest image received, whether or not it is complete yet; one whose stamp
        alone is back does not count."""
        return self._newest_color_ns.get(camera)

    def select(self, policy: SelectionPolicy, camera: str, until_ns: int) -> FrameSet:
        """The frames of one question, as of ``until_ns``. Raises `InputError` without any."""
        window = None
        if policy.kind is SelectionKind.KEYFRAMES:
            window = self._windows.setdefault((camera, policy.n), KeyframeWindow(policy.n))
        chosen = select_frames(self.buffer, policy, camera, until_ns, window)
        return replace(chosen, frames=tuple(self._posed(selected) for selected in chosen))

    def show(self, frames: Sequence[Frame]) -> FrameSet:
        """Exactly these frames of the buffer, in their order. Raises `InputError` without any."""
        if not frames:
            raise InputError("no frame to show: wait for the camera first")
        shown = tuple(self._posed(self.buffer.select(frame)) for frame in frames)
        return FrameSet(shown, VISUAL_TOKENS // len(shown))

    def _posed(self, selected: SelectedFrame) -> SelectedFrame:
        """The frame with its pose in today's fixed frame: a robot's base that was the root of
        the tree at first is no fixed frame any more once odom is known to move it."""
        frame = selected.frame
        if frame.T_fixed_camera is None:
            return selected
        if frame.T_fixed_camera.parent == self._poses.fixed_frame(frame.frame_id):
            return selected
        pose = self._poses.camera_pose(frame.frame_id, frame.stamp_ns)
        known, refusal = (None, pose) if isinstance(pose, Refusal) else (pose, None)
        return replace(selected, frame=replace(frame, T_fixed_camera=known, pose_refusal=refusal))
