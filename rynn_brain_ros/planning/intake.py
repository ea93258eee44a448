"""What to do with each message that arrives: the same for a live topic and one in a bag.

Messages are any objects with the fields of their ``.msg``; pixels are not decoded here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rynn_brain_ros import messages
from rynn_brain_ros.planning.perception import Perception
from rynn_brain_ros.values import CameraInfo, EncodedImage

Input = Callable[[Any], None]


def image_input(
    add: Callable[[str, int, str, EncodedImage], None], camera: str, compressed: bool
) -> Input:
    """Takes sensor_msgs/Image or, ``compressed``, sensor_msgs/CompressedImage."""
    read = messages.compressed_image_of if compressed else messages.image_of

    def take(message: Any) -> None:
        stamp_ns = messages.stamp_ns_of(message.header.stamp)
        add(camera, stamp_ns, str(message.header.frame_id).lstrip("/"), read(message))

    return take


def info_input(add: Callable[[str, CameraInfo, int], None], camera: str) -> Input:
    """Takes sensor_msgs/CameraInfo."""

    def take(message: Any) -> None:
        add(camera, messages.camera_info_of(message), messages.stamp_ns_of(message.header.stamp))

    return take


def transforms_input(perception: Perception, static: bool) -> Input:
    """Takes tf2_msgs/TFMessage."""

    def take(message: Any) -> None:
        perception.add_transforms(messages.transforms_of(message), static)

    return take
