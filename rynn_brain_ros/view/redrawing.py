"""Answers drawn into the pictures that they were found in, by somebody who only heard of them."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace

from rynn_brain_ros.memory import decode_color
from rynn_brain_ros.values import EncodedImage, ImageError, LiftedGrounding, SelectedFrame
from rynn_brain_ros.view.overlay import Image, draw

_STAMP_AT = 4
"""In a serialised message that begins with a header, behind the encapsulation."""


def stamp_of(raw: bytes) -> int:
    """The header's stamp of a serialised sensor_msgs/Image or CompressedImage, ns. Raises
    `ImageError`. (CDR: the second byte's lowest bit is set for little endian.)"""
    if len(raw) < _STAMP_AT + 8:
        raise ImageError(f"an image message of {len(raw)} bytes has no header")
    seconds, nanoseconds = struct.unpack_from("<iI" if raw[1] & 1 else ">iI", raw, _STAMP_AT)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)


def frames_of(lifted: Sequence[LiftedGrounding]) -> Iterator[SelectedFrame]:
    """Each frame that a grounding names, once."""
    named = {item.frame.frame.key: item.frame for item in lifted if item.frame is not None}
    yield from named.values()


def redrawn(
    image: EncodedImage, lifted: Sequence[LiftedGrounding], frame: SelectedFrame, caption: str = ""
) -> Image:
    """The groundings of ``frame`` drawn into its ``image``. Raises `ImageError`."""
    pixels = decode_color(image)
    height, width = pixels.shape[:2]
    shown = replace(frame, width=width, height=height)
    items = [
        replace(item, frame=shown)
        if item.frame is not None and item.frame.frame.key == frame.frame.key
        else item
        for item in lifted
    ]
    return draw(pixels, items, shown, caption=caption)
