"""Which topics of a recording belong to the same camera.

Types decide what a topic is, names only which topics go together; the conventions are those of
image_transport, realsense2_camera, the Kinect and Orbbec drivers, zed and Gazebo.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from rynn_brain_ros.bags.reader import BagInfo, TopicInfo

_IMAGE = "sensor_msgs/msg/Image"
_COMPRESSED = "sensor_msgs/msg/CompressedImage"
_INFO = "sensor_msgs/msg/CameraInfo"

# A last part of the namespace that names a stream of a camera and not the camera itself, the
# preferred one first. Depth that is registered to colour needs no second calibration.
_COLOR_STREAMS = ("color", "rgb", "colour", "")
_REGISTERED_STREAMS = ("aligned_depth_to_color", "depth_registered", "depth_to_rgb")
_DEPTH_STREAMS = (*_REGISTERED_STREAMS, "depth", "stereo", "")
_STREAMS = frozenset({*_COLOR_STREAMS, *_DEPTH_STREAMS} - {""})

# CameraInfo's K and D describe the raw image; a rectified one is taken where there is no raw.
_LEAVES = ("image_raw", "image_color", "image", "image_rect_color", "image_rect", "image_rect_raw")

# ZED's wrapper has folders for what others say in the image's name: rgb/color/rect/image.
_KIND_FOLDERS = re.compile(r"(?<=/)(rgb|left|right)(/color|/gray)?/(rect|raw)$")

# What the view node and a replay draw for people, and what a ZED tells of its depth.
_NO_PICTURES = ("annotated", "panel", "confidence_map")

_TRANSPORTS = ("/compressedDepth", "/compressed")
_DEPTH_ENCODINGS = ("16UC1", "32FC1", "mono16")


@dataclass(frozen=True)
class CameraTopics:
    """One camera's topics.

    ``name`` is its namespace without slashes at the ends. ``color_topic`` is ``None`` for a
    camera of depth alone. ``depth_registered`` says that the names claim depth pixels to be
    colour pixels. ``problems`` are sentences on what this camera cannot do. ``variants`` are the
    same camera seen through its other colour topics (compressed, rectified), each to be asked for
    by its topic only.
    """

    name: str
    color_topic: str | None
    color_compressed: bool = False
    color_info_topic: str | None = None
    depth_topic: str | None = None
    depth_compressed: bool = False
    depth_info_topic: str | None = None
    depth_registered: bool = False
    problems: tuple[str, ...] = ()
    variants: tuple[CameraTopics, ...] = field(default=(), repr=False)

    @property
    def can_show(self) -> bool:
        return self.color_topic is not None

    @property
    def can_lift(self) -> bool:
        """Whether points in its pictures can be turned into metres."""
        return None not in (self.color_topic, self.color_info_topic, self.depth_topic)


@dataclass(frozen=True)
class _Candidate:
    info: TopicInfo
    base: str
    """The topic without its transport's suffix."""
    camera: str
    stream: str
    leaf: str

    @property
    def compressed(self) -> bool:
        return self.info.typename == _COMPRESSED

    @property
    def folder(self) -> str:
        return self.base.rpartition("/")[0]

    @property
    def registered(self) -> bool:
        return claims_registered(self.base)

    @property
    def is_raw_beside_rectified(self) -> bool:
        """Of ZED's two folders, each with a camera_info, depth belongs to the other one."""
        kind = _KIND_FOLDERS.search(self.folder)
        return kind is not None and kind[3] == "raw"


def claims_registered(topic: str) -> bool:
    """Whether the name of a depth topic says that its pixels are those of colour."""
    folder, _, leaf = topic.removesuffix("/compressedDepth").rpartition("/")
    registered = folder.rpartition("/")[2] in _REGISTERED_STREAMS
    return registered or "registered" in leaf.replace("unregistered", "")


def find_cameras(
    info: BagInfo, first_encoding: Callable[[str], str | None] | None = None
) -> tuple[CameraTopics, ...]:
    """The cameras of a recording, as `cameras_of` its topics."""
    return cameras_of(info.topics, first_encoding)


def cameras_of(
    topics: Iterable[TopicInfo], first_encoding: Callable[[str], str | None] | None = None
) -> tuple[CameraTopics, ...]:
    """The cameras that topics belong to, those that can do most first, then by name.

    Where an image is there raw and compressed, raw is taken: it is what the sensor gave.
    ``first_encoding`` may tell a topic's encoding (or a CompressedImage's format) from its first
    message; it is asked only where the name says neither colour nor depth for sure.
    """
    topics = tuple(topics)
    groups: dict[str, list[_Candidate]] = defaultdict(list)
    for topic in topics:
        if topic.typename in (_IMAGE, _COMPRESSED) and topic.decodable:
            candidate = _candidate(topic)
            if _is_picture(candidate):
                groups[candidate.camera].append(candidate)
    infos = {t.topic for t in topics if t.typename == _INFO and t.decodable and t.count}
    cameras = [_camera(name, group, infos, first_encoding) for name, group in groups.items()]
    return tuple(sorted(cameras, key=lambda c: (not c.can_lift, not c.can_show, c.name)))


def _is_picture(candidate: _Candidate) -> bool:
    """Neither drawn for people nor the grey copy of a coloured one."""
    kind = _KIND_FOLDERS.search(candidate.folder)
    return candidate.leaf not in _NO_PICTURES and (kind is None or kind[2] != "/gray")


def _candidate(topic: TopicInfo) -> _Candidate:
    base = topic.topic
    for suffix in _TRANSPORTS:
        if topic.typename == _COMPRESSED and base.endswith(suffix):
            base = base.removesuffix(suffix)
            break
    folder, _, leaf = base.rpartition("/")
    folder = _KIND_FOLDERS.sub(r"\1", folder)
    camera, _, stream = folder.rpartition("/")
    if stream not in _STREAMS:
        camera, stream = folder, ""
    return _Candidate(topic, base, camera, stream, leaf)


def _camera(
    name: str,
    group: list[_Candidate],
    infos: set[str],
    first_encoding: Callable[[str], str | None] | None,
) -> CameraTopics:
    depths = [c for c in group if _is_depth(c, first_encoding)]
    colors = [c for c in group if c not in depths]
    color, depth = _best(colors, _COLOR_STREAMS), _best(depths, _DEPTH_STREAMS)
    others = sorted((c for c in colors if c is not color), key=lambda c: c.info.topic)
    return replace(
        _seen(name, color, depth, infos),
        variants=tuple(_seen(name, other, depth, infos) for other in others),
    )


def _seen(
    name: str, color: _Candidate | None, depth: _Candidate | None, infos: set[str]
) -> CameraTopics:
    color_info = _info_topic(color, infos, _COLOR_STREAMS) if color else None
    depth_info = _info_topic(depth, infos, ()) if depth else None
    return CameraTopics(
        name=name.strip("/") or "camera",
        color_topic=color.info.topic if color else None,
        color_compressed=color is not None and color.compressed,
        color_info_topic=color_info,
        depth_topic=depth.info.topic if depth else None,
        depth_compressed=depth is not None and depth.compressed,
        depth_info_topic=depth_info,
        depth_registered=depth is not None and depth.registered,
        problems=tuple(_problems(color, color_info, depth, depth_info)),
    )


def _is_depth(candidate: _Candidate, first_encoding: Callable[[str], str | None] | None) -> bool:
    topic = candidate.info.topic
    if topic.endswith("/compressedDepth") or "depth" in f"{candidate.stream}/{candidate.leaf}":
        return True
    if candidate.stream in ("color", "rgb", "colour"):
        return False
    encoding = first_encoding(topic) if first_encoding else None
    if not encoding:  # so an OAK-D calls its depth, and others both eyes' pictures side by side
        return candidate.stream == "stereo"
    return "compressedDepth" in encoding or encoding.partition(";")[0] in _DEPTH_ENCODINGS


def _best(candidates: Iterable[_Candidate], streams: tuple[str, ...]) -> _Candidate | None:
    return min(
        candidates,
        key=lambda c: (
            c.info.count == 0,
            _rank(c.stream, streams),
            not c.registered,
            c.is_raw_beside_rectified,
            c.compressed,
            _rank(c.leaf, _LEAVES),
            c.info.topic,
        ),
        default=None,
    )


def _rank(word: str, order: tuple[str, ...]) -> int:
    return order.index(word) if word in order else len(order)


def _info_topic(candidate: _Candidate, infos: set[str], streams: tuple[str, ...]) -> str | None:
    """The camera_info beside the image, else of the camera, else of its colour streams."""
    places = [candidate.folder]
    if streams:
        places += [candidate.camera, *(f"{candidate.camera}/{s}" for s in streams if s)]
    return next((f"{p}/camera_info" for p in places if f"{p}/camera_info" in infos), None)


def _problems(
    color: _Candidate | None,
    color_info: str | None,
    depth: _Candidate | None,
    depth_info: str | None,
) -> list[str]:
    problems = []
    if color is None:
        problems.append("no colour image: nothing to show to the model")
    elif color_info is None:
        problems.append(
            f"no camera_info for {color.info.topic}: can show points, cannot lift to metres"
        )
    if depth is None:
        problems.append("no depth image: can show points, cannot lift to metres")
    elif depth_info is None and not depth.registered:
        problems.append(
            f"no camera_info for {depth.info.topic}: its depth is usable only if it is registered "
            "to colour"
        )
    for chosen in (color, depth):
        if chosen is not None and chosen.info.count == 0:
            problems.append(f"{chosen.info.topic} has no messages")
    return problems
