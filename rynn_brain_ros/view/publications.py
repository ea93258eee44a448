"""An answer as the messages that others see: the same from the live node and in a run's bag."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2

from rynn_brain_ros import messages
from rynn_brain_ros.values import Response
from rynn_brain_ros.view.annotated import AnnotatedFrame
from rynn_brain_ros.view.markers import marker_array
from rynn_brain_ros.view.overlay import Image

GROUNDINGS, MARKERS, TARGET, PATH = "groundings", "markers", "target", "path"
ANNOTATED = "annotated/compressed"
TYPES = {
    GROUNDINGS: messages.GROUNDING_ARRAY,
    MARKERS: messages.MARKER_ARRAY,
    TARGET: messages.POSE_STAMPED,
    PATH: messages.PATH,
    ANNOTATED: messages.COMPRESSED_IMAGE,
}
"""Message type by topic name, relative to the brain."""

_JPEG_QUALITY = 90


def answers(response: Response) -> Iterator[tuple[str, messages.MessageDict]]:
    """(topic name, message) of what an answer says, in order: what others act on."""
    yield GROUNDINGS, messages.grounding_array(response)
    for lifted in response.lifted:
        pose, path = messages.target_pose(lifted), messages.path(lifted)
        if pose is not None:
            yield TARGET, pose
        if path is not None:
            yield PATH, path


def publications(
    response: Response,
    pictures: Sequence[AnnotatedFrame],
    marker_lifetime_s: float = 10.0,
    *,
    beside: int = 0,
) -> Iterator[tuple[str, messages.MessageDict]]:
    """(topic name, message) of an answer and of everything that it gives to see, as a run's bag
    has them; ``pictures`` are its `annotated_frames`, ``beside`` as in `marker_array`."""
    said = tuple(answers(response))
    yield said[0]
    lifted, query_id = response.lifted, response.query.query_id
    yield MARKERS, marker_array(query_id, lifted, lifetime_s=marker_lifetime_s, beside=beside)
    yield from said[1:]
    for _, selected, picture in pictures:
        yield ANNOTATED, jpeg_message(picture, selected.frame.stamp_ns, selected.frame.frame_id)


def jpeg_message(picture: Image, stamp_ns: int, frame_id: str) -> messages.MessageDict:
    """sensor_msgs/CompressedImage of RGB pixels, uint8 [H, W, 3]."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    jpeg = cv2.imencode(".jpg", picture[..., ::-1], quality)[1].tobytes()
    return messages.compressed_image(jpeg, "rgb8; jpeg compressed bgr8", stamp_ns, frame_id)
