"""A case's picture: what was expected beside what came, in the frames that they name."""

from __future__ import annotations

import cv2
import numpy as np

from rynn_brain_ros.checking.check import CaseResult
from rynn_brain_ros.geometry import norm_to_pixel
from rynn_brain_ros.memory import decode_color
from rynn_brain_ros.values import FrameSet, LiftedGrounding, Reading
from rynn_brain_ros.view.overlay import Image, draw

_SIDE_PX = 720


def compared(result: CaseResult) -> bytes | None:
    """One PNG with a row for each frame that either answer points into, else for the newest; the
    expected answer is on the left. ``None`` where no frame was shown."""
    frames = result.case.query.frames
    sides = (_drawn(result.expected, frames), _drawn(result.got, frames))
    named = sorted(
        {i for side in sides for item in side if (i := item.grounding.frame) is not None}
    )
    if not named and not len(frames):
        return None
    told = (_told(result.expected), _told(result.got))
    rows = [_row(frames, index, sides, told) for index in named or [len(frames) - 1]]
    width = max(row.shape[1] for row in rows)
    padded = [cv2.copyMakeBorder(r, 0, 6, 0, width - r.shape[1], cv2.BORDER_CONSTANT) for r in rows]
    return cv2.imencode(".png", np.vstack(padded)[..., ::-1])[1].tobytes()


def _drawn(reading: Reading | None, frames: FrameSet) -> list[LiftedGrounding]:
    """What an answer points at, bound to its frame and not lifted."""
    bound = []
    for grounding in () if reading is None else reading.groundings:
        index = grounding.frame
        if index is not None and index < len(frames) and grounding.points:
            frame = frames[index]
            pixels = norm_to_pixel(grounding.points, frame.width, frame.height)
            bound.append(LiftedGrounding(grounding, frame, pixels))
    return bound


def _told(reading: Reading | None) -> str:
    """The answer in one line: arrows by their names, since the picture's font has none."""
    if reading is None:
        return "no answer"
    return " ".join(reading.actions) or " ".join(reading.answer_text.split())


def _row(
    frames: FrameSet,
    index: int,
    sides: tuple[list[LiftedGrounding], list[LiftedGrounding]],
    told: tuple[str, str],
) -> Image:
    frame = frames[index]
    rgb = decode_color(frame.frame.color)
    scale = _SIDE_PX / max(rgb.shape[:2])
    size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
    shown = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
    captions = (f"expected · frame {index} · {told[0]}", f"got · frame {index} · {told[1]}")
    panels = [
        draw(shown, side, frame, caption=caption)
        for side, caption in zip(sides, captions, strict=True)
    ]
    gap = np.zeros((size[1], 6, 3), np.uint8)
    return np.hstack([panels[0], gap, panels[1]])
