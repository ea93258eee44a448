"""Which of the topics that are there now a brain would be started on."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rynn_brain_ros.bags import CameraTopics, TopicInfo, cameras_of

_IMAGE = "sensor_msgs/msg/Image"
_INFRARED = re.compile(r"(^|[/_])(ir|infra|infrared)\d*([/_]|$)")


def best_camera(topics: Iterable[tuple[str, str]]) -> CameraTopics | None:
    """Of (topic, type): the camera with a colour image that can do most, best one whose depth is
    registered to it. ``None`` where there is none of colour."""
    topics = tuple(topics)
    raw = {topic for topic, typename in topics if typename == _IMAGE}
    cameras = cameras_of(
        TopicInfo(topic, typename, count=1)
        for topic, typename in topics
        if not _INFRARED.search(topic) and not _is_copy(topic, raw)
    )
    shown = [camera for camera in cameras if camera.can_show]
    return min(shown, key=lambda camera: not camera.depth_registered, default=None)


def _is_copy(topic: str, raw: set[str]) -> bool:
    """What image_transport offers beside each image: packed by every means, a colour image as
    compressedDepth too."""
    base, _, transport = topic.rpartition("/")
    return transport in ("compressed", "compressedDepth") and base in raw
