"""An answer as the messages that others see: the same from the live node and in a run's bag."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2

from rynn_brain_ros import messages
from rynn_brain_ros.values import Response
from rynn_brain_ros.view.annotated import AnnotatedFrame
from rynn_brain_ros.view.markers import marker_array

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


def publications(
    response: Response, pictures: Sequence[AnnotatedFrame], marker_lifetime_s: float = 10.0
) -> Iterator[tuple[str, messages.MessageDict]]:
    """(topic name, message) of everything that an answer gives to see, in order; ``pictures``
    are its `annotated_frames`."""
    yield GROUNDINGS, messages.grounding_array(response)
    yield MARKERS, marker_array(response, lifetime_s=marker_lifetime_s)
    for lifted in response.lifted:
        pose, path = messages.target_pose(lifted), messages.path(lifted)
        if pose is not None:
            yield TARGET, pose
        if path is not None:
            yield PATH, path
    for _, selected, picture in pictures:
        quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
        jpeg = cv2.imencode(".jpg", picture[..., ::-1], quality)[1].tobytes()
        frame = selected.frame
        yield (
            ANNOTATED,
            messages.compressed_image(
                jpeg, "rgb8; jpeg compressed bgr8", frame.stamp_ns, frame.frame_id
            ),
        )
