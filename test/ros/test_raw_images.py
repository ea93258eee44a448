"""What the view node keeps of the images that it hears."""

from __future__ import annotations

import struct

import pytest

pytestmark = pytest.mark.ros
pytest.importorskip("message_filters", reason="message_filters is not installed")

from message_filters import SimpleFilter  # noqa: E402

from rynn_brain_ros.ros.raw_images import RawImages  # noqa: E402
from rynn_brain_ros.values import ImageError  # noqa: E402


class Heard:
    """Two cameras, and what was refused of them."""

    def __init__(self, max_bytes: int) -> None:
        self.refused: list[tuple[str, str]] = []
        self.images = RawImages(max_bytes, self.refuse)
        self.sources = {camera: SimpleFilter() for camera in ("front", "wrist")}
        for camera, source in self.sources.items():
            self.images.listen(camera, source)

    def refuse(self, camera: str, error: ImageError) -> None:
        self.refused.append((camera, str(error)))

    def hear(self, camera: str, raw: bytes) -> None:
        self.sources[camera].signalMessage(raw)


def image(stamp_ns: int, told: bytes = b"", size: int = 100) -> bytes:
    stamp = struct.pack("<iI", *divmod(stamp_ns, 1_000_000_000))
    return (b"\0\1\0\0" + stamp + told).ljust(size, b"\0")


def test_only_the_newest_that_fit_are_kept_however_big_they_are() -> None:
    heard = Heard(max_bytes=250)
    for stamp_ns in (1, 2, 3):
        heard.hear("front", image(stamp_ns))
    assert heard.images.find("front", 1) is None
    assert heard.images.find("front", 2) == image(2)
    heard.hear("wrist", image(4, size=200))
    assert [heard.images.find("front", stamp_ns) for stamp_ns in (2, 3)] == [None, None]
    heard.hear("wrist", image(5, size=300))
    assert heard.images.find("wrist", 4) is None
    assert heard.images.find("wrist", 5) == image(5, size=300)


def test_an_image_is_found_by_its_own_camera_and_stamp_alone() -> None:
    heard = Heard(max_bytes=1000)
    heard.hear("front", image(7, b"front"))
    heard.hear("wrist", image(7, b"wrist"))
    assert heard.images.find("front", 7) == image(7, b"front")
    assert heard.images.find("wrist", 7) == image(7, b"wrist")
    assert heard.images.find("front", 6) is None


def test_when_the_clock_goes_back_new_images_are_found() -> None:
    heard = Heard(max_bytes=1000)
    for stamp_ns in (10, 20, 30):
        heard.hear("front", image(stamp_ns, b"first"))
    heard.hear("front", image(10, b"again"))
    assert heard.images.find("front", 10) == image(10, b"again")
    assert heard.images.find("front", 20) == image(20, b"first")


def test_what_is_no_image_is_refused_and_a_stamp_before_all_time_is_only_odd() -> None:
    heard = Heard(max_bytes=1000)
    heard.hear("wrist", b"\0\1\0\0")
    heard.hear("wrist", image(-5))
    assert heard.refused == [("wrist", "an image message of 4 bytes has no header")]
    assert heard.images.find("wrist", -5) == image(-5)


def test_what_is_forgotten_makes_room() -> None:
    heard = Heard(max_bytes=200)
    for stamp_ns in (1, 2):
        heard.hear("front", image(stamp_ns))
    heard.images.clear()
    assert heard.images.find("front", 2) is None
    for stamp_ns in (3, 4):
        heard.hear("front", image(stamp_ns))
    assert heard.images.find("front", 3) == image(3)
