"""A camera of a recording with the whole transform tree, for measuring where it really is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from rynn_brain_ros import messages
from rynn_brain_ros.bags import BagReader, CameraTopics, find_cameras
from rynn_brain_ros.config import checked, setting, settings
from rynn_brain_ros.geometry import TransformBuffer, continuous_frame
from rynn_brain_ros.memory import FrameAssembler
from rynn_brain_ros.replay.inputs import assembly_of, choose_camera, transform_topics
from rynn_brain_ros.values import Frame, InputError, Refusal, RigidTransform


@dataclass(frozen=True)
class CalibrationLimits:
    """What a camera's pose may be off before anything moves. Raises `ConfigError`."""

    max_mm: float = setting(5.0, "largest error of position [mm]", 0.01, 1000.0)
    max_deg: float = setting(1.0, "largest error of direction [deg]", 0.001, 90.0)
    max_px: float = setting(1.0, "largest misfit of the corners, the lens [px]", 0.01, 100.0)

    def __post_init__(self) -> None:
        for item in settings(type(self)):
            checked(item, getattr(self, item.name))


class Recorded:
    """One camera of a recording, and the whole of its transform tree; a context manager.

    Raises `InputError` for a recording without a camera or without transforms.
    """

    def __init__(self, bag: Path, camera: str = "") -> None:
        self._bag, self._wanted = bag, camera
        self._reader = BagReader(bag)
        self.transforms = TransformBuffer(history_s=1e6)

    def __enter__(self) -> Recorded:
        self._reader.__enter__()
        try:
            info = self._reader.info()
            found = find_cameras(info, self._reader.first_encoding)
            self._camera = choose_camera(info, found, self._wanted)
            self._assembly = assembly_of(self._camera)
            topics, _ = transform_topics(info, self._assembly.camera)
            if not topics:
                raise InputError(
                    f"{self._bag} holds no transforms: record /tf and /tf_static with the camera"
                )
            for message, value in self._reader.decoded(topics):
                static = message.topic.endswith("tf_static")
                self.transforms.add(messages.transforms_of(value), static)
        except BaseException:
            self._reader.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._reader.close()

    @property
    def topic(self) -> str:
        return self._assembly.camera

    @property
    def duration_s(self) -> float:
        return self._reader.info().duration_s

    def fixed_frame(self, frame_id: str) -> str:
        """Where the robot stands; raises `InputError` where the tree does not tell."""
        fixed = continuous_frame(self.transforms, frame_id)
        if fixed is None:
            known = ", ".join(self.transforms.known_frames) or "none"
            raise InputError(
                f"no fixed frame is known for the camera's frame {frame_id!r} (known: {known}): "
                "name one with --board-frame or --fixed-frame"
            )
        return fixed

    def frames(self) -> Iterator[Frame]:
        """Of the camera, in order; their poses are not filled in: `transforms` knows them."""
        assembler = FrameAssembler(self._assembly, _Unposed(self.transforms))
        infos = {self._camera.color_info_topic, self._camera.depth_info_topic} - {None}
        images = {self.topic, self._camera.depth_topic} - {None}
        for message, value in self._reader.decoded([*map(str, images | infos)]):
            _add(assembler, self._camera, message.topic, value)
            yield from assembler.poll(message.log_time_ns)
        yield from assembler.flush()


class _Unposed:
    """Frames without poses: what is fixed to what differs between the checks."""

    def __init__(self, transforms: TransformBuffer) -> None:
        self._transforms = transforms

    def camera_pose(self, frame_id: str, stamp_ns: int) -> RigidTransform | Refusal:
        return RigidTransform(frame_id, frame_id, stamp_ns=stamp_ns)

    def relative(self, target: str, source: str, stamp_ns: int) -> RigidTransform | Refusal:
        return self._transforms.lookup(target, source, stamp_ns)


def _add(assembler: FrameAssembler, camera: CameraTopics, topic: str, value: Any) -> None:
    stamp_ns = messages.stamp_ns_of(value.header.stamp)
    if topic in (camera.color_topic, camera.depth_topic):
        depth = topic == camera.depth_topic
        compressed = camera.depth_compressed if depth else camera.color_compressed
        read = messages.compressed_image_of if compressed else messages.image_of
        add = assembler.add_depth if depth else assembler.add_color
        add(stamp_ns, str(value.header.frame_id).lstrip("/"), read(value))
    if topic == camera.color_info_topic:
        assembler.add_color_info(messages.camera_info_of(value), stamp_ns)
    if topic == camera.depth_info_topic:
        assembler.add_depth_info(messages.camera_info_of(value), stamp_ns)
