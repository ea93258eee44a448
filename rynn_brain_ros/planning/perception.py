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
    frame_defects,
    select_frames,
)
from rynn_brain_ros.memory.selection import VISUAL_TOKENS
from rynn_brain_ros.planning.problems import Problem, Problems, kind_of
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
_CHECK_NS = 1_000_000_000
"""How often a camera's lens and depth are looked at for what would be refused when asked."""


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
        self._problems = Problems()
        self._refused: dict[str, str] = {}
        self._defects: dict[str, tuple[Problem, ...]] = {}
        self._checked_ns: dict[str, int] = {}
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
            is_over = isinstance(problem, ClockReset)
            # What is latched comes once, and stays.
            self._problems.note(problem, problem, is_over=is_over, stays=static and not is_over)

    def poll(self, now_ns: int) -> tuple[Frame, ...]:
        """Moves every frame that is complete, or has waited long enough, into the buffer. Those
        whose pixels were seen not to decode are left out."""
        self._problems.pass_time(now_ns)
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
        """Whether it can be read, as far as it was looked at. What does not decode at reduced size
        does not at full size either: nobody is shown it, and no measurement meets it."""
        try:
            look = None if self._keyframes is None else self._keyframes.look(frame)
        except ImageError as error:
            self._tell([self.buffer.refuse(frame, str(error))])
            return False
        events = self.buffer.append(frame, look)
        self._tell(events)
        if any(event.reason is not DropReason.RESET for event in events):
            return False
        self._refused.pop(frame.camera, None)
        self._check(frame)
        return True

    def _check(self, frame: Frame) -> None:
        """Tells what is wrong with its lens and its depth before somebody asks for metres."""
        checked_ns = self._checked_ns.get(frame.camera)
        if checked_ns is not None and abs(frame.stamp_ns - checked_ns) < _CHECK_NS:
            return
        self._checked_ns[frame.camera] = frame.stamp_ns
        known = {kind_of(problem.text): problem for problem in self._defects.get(frame.camera, ())}
        self._defects[frame.camera] = tuple(
            known.get(kind_of(text), Problem(text)) for text in frame_defects(frame)
        )

    def _tell(self, events: Iterable[BufferEvent]) -> None:
        for event in events:
            if event.reason in _WORTH_TELLING:
                self._note(event.camera, event.text, is_over=event.reason is DropReason.RESET)

    def _note(self, camera: str, text: str, is_over: bool = False) -> None:
        if not is_over:
            self._refused[camera] = text
        self._problems.note((camera, kind_of(text)), text, is_over=is_over)

    @property
    def problems(self) -> tuple[str, ...]:
        """All that were met, each kind once."""
        return tuple(problem.text for problem in self._problems.met)

    @property
    def lasting_problems(self) -> tuple[Problem, ...]:
        """Without the jumps of a clock: what came after one is as good as ever."""
        met = (problem for problem in self._problems.met if not problem.is_over)
        return (*met, *(each for found in self._defects.values() for each in found))

    def refused(self, camera: str) -> str:
        """Why the newest image was refused; empty where it was not."""
        return self._refused.get(camera, "")

    def newest_stamp_ns(self, camera: str) -> int | None:
        """Stamp of the newest image received, whether or not it is complete yet; one whose stamp
        alone is back does not count."""
        return self._newest_color_ns.get(camera)

    def select(self, policy: SelectionPolicy, camera: str, until_ns: int) -> FrameSet:
        """The frames of one question, as of ``until_ns``, without those found damaged. Raises
        `InputError` where none is left."""
        while True:
            window = None
            if policy.kind is SelectionKind.KEYFRAMES:
                window = self._windows.setdefault((camera, policy.n), KeyframeWindow(policy.n))
            try:
                chosen = select_frames(self.buffer, policy, camera, until_ns, window)
            except ImageError as error:  # the buffer has forgotten that one
                self._note(camera, str(error))
                self._windows.pop((camera, policy.n), None)
            except InputError as error:
                why = self.refused(camera)
                raise InputError(f"no image can be used: {why}" if why else str(error)) from error
            else:
                return replace(chosen, frames=tuple(self._posed(selected) for selected in chosen))

    def show(self, frames: Sequence[Frame]) -> FrameSet:
        """Exactly these frames of the buffer, in their order. Raises `InputError` without any, and
        `ImageError` for a damaged one, which the buffer forgets."""
        if not frames:
            raise InputError("no frame to show: wait for the camera first")
        shown = tuple(self._posed(self._selected(frame)) for frame in frames)
        return FrameSet(shown, VISUAL_TOKENS // len(shown))

    def _selected(self, frame: Frame) -> SelectedFrame:
        try:
            return self.buffer.select(frame)
        except ImageError as error:
            self._note(frame.camera, str(error))
            raise

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
