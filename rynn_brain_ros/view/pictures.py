"""The report's pictures: each one embedded once, no larger than it is shown."""

from __future__ import annotations

import base64
import hashlib

import cv2
import numpy as np

from rynn_brain_ros.values import SelectedFrame

KEY_SIDE_PX = 1280
THUMBNAIL_SIDE_PX = 320
_VERBATIM_BYTES = 400_000  # larger files are worth making smaller even at their full size
_REDUCED = {2: 17, 4: 33, 8: 65}  # cv2.IMREAD_REDUCED_COLOR_n: decoded small, much faster


class Pictures:
    """Makes each picture as small as it is shown, at once, so that frames need not be kept.

    A picture shown both large and small is embedded large.
    """

    def __init__(self) -> None:
        self._definitions: dict[str, tuple[int, str]] = {}

    def use(self, frame: SelectedFrame, side_px: int) -> str:
        """An SVG element that shows ``frame``, one unit a pixel, pixel centres at integers."""
        digest = hashlib.sha256(frame.image).hexdigest()[:16]
        name = f"i{digest}-{frame.width}-{frame.height}"
        known_side_px, _ = self._definitions.get(name, (0, ""))
        if side_px > known_side_px:
            self._definitions[name] = (side_px, _definition(name, frame, side_px))
        return f'<use href="#{name}" x="-0.5" y="-0.5"/>'

    def definitions(self) -> str:
        """The hidden SVG that holds every picture once."""
        images = "".join(definition for _, definition in self._definitions.values())
        return f'<svg class="store" aria-hidden="true"><defs>{images}</defs></svg>'


def _definition(name: str, frame: SelectedFrame, side_px: int) -> str:
    width, height = max(1, frame.width), max(1, frame.height)
    encoded = _encoded(frame, side_px)
    if encoded is None:
        return (
            f'<g id="{name}"><rect width="{width}" height="{height}" fill="#888"/>'
            f'<text x="50%" y="50%" text-anchor="middle" font-size="{width / 24:.1f}">'
            "picture cannot be decoded</text></g>"
        )
    mime, data = encoded
    return (
        f'<image id="{name}" width="{width}" height="{height}" preserveAspectRatio="none" '
        f'href="data:{mime};base64,{base64.b64encode(data).decode()}"/>'
    )


def _encoded(frame: SelectedFrame, side_px: int) -> tuple[str, bytes] | None:
    """The frame's own bytes where they are small enough, else a smaller JPEG of them."""
    long_side = max(frame.width, frame.height)
    reduction = next((n for n in (8, 4, 2) if long_side // n >= side_px), 1)
    flags = cv2.IMREAD_IGNORE_ORIENTATION | _REDUCED.get(reduction, cv2.IMREAD_COLOR)
    try:
        bgr = cv2.imdecode(np.frombuffer(frame.image, np.uint8), flags)
    except cv2.error:  # empty data
        return None
    if bgr is None:
        return None
    small = long_side <= side_px and len(frame.image) <= _VERBATIM_BYTES
    if small and frame.mime in ("image/jpeg", "image/png"):
        return frame.mime, frame.image
    scale = side_px / max(bgr.shape[:2])
    if scale < 1:
        size = (max(1, round(bgr.shape[1] * scale)), max(1, round(bgr.shape[0] * scale)))
        bgr = cv2.resize(bgr, size, interpolation=cv2.INTER_AREA)
    done, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 86])
    return ("image/jpeg", jpeg.tobytes()) if done else None
