"""A tiny run: two frames of one camera, built from the package's own values."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import cv2
import numpy as np
import pytest

from rynn_brain_ros.values import (
    Answer,
    AnyGrounding,
    EncodedImage,
    FinishReason,
    Frame,
    FrameSet,
    LiftedGrounding,
    LiftedPoint,
    Query,
    Reading,
    Refusal,
    Response,
    SelectedFrame,
    Task,
    Trajectory,
)

MakeFrame = Callable[..., SelectedFrame]
Lift = Callable[..., LiftedGrounding]
Respond = Callable[..., Response]
COVARIANCE = (4e-6, 1e-6, 0.0, 1e-6, 9e-6, 2e-6, 0.0, 2e-6, 81e-6)


def _frame(stamp_ns: int = 10, width: int = 640, height: int = 480, value: int = 90):
    ok, png = cv2.imencode(".png", np.full((height, width, 3), value, np.uint8))
    assert ok
    data = png.tobytes()
    color = EncodedImage("bgr8; png compressed", data, compressed=True)
    frame = Frame("front", stamp_ns, "front_optical_frame", color)
    return SelectedFrame(frame, data, "image/png", hashlib.sha256(data).hexdigest(), width, height)


def _lift(
    grounding: AnyGrounding,
    frame: SelectedFrame,
    *,
    refusal: Refusal | None = None,
    placed: bool | None = None,
    fixed: bool = True,
    confidence: float = 0.87,
) -> LiftedGrounding:
    px = tuple(
        (x / 1000 * (frame.width - 1), y / 1000 * (frame.height - 1)) for x, y in grounding.points
    )
    if not (refusal is None if placed is None else placed):
        return LiftedGrounding(grounding, frame, px, refusal=refusal, confidence=confidence)
    points = tuple(
        LiftedPoint(
            pixel=p,
            point_camera_m=(0.1 * i, -0.2, 1.0),
            covariance_camera_m2=COVARIANCE,
            point_fixed_m=(1.0, 0.1 * i, 0.5) if fixed else None,
            covariance_fixed_m2=COVARIANCE if fixed else None,
            n_valid=100,
            interpolated=isinstance(grounding, Trajectory) and 0 < i < len(px) - 1,
        )
        for i, p in enumerate(px)
    )
    return LiftedGrounding(
        grounding, frame, px, points, points[0], "odom" if fixed else "", None, refusal, confidence
    )


def _respond(
    frames: tuple[SelectedFrame, ...],
    lifted: tuple[LiftedGrounding, ...] = (),
    *,
    text: str = "",
    instruction: str = "Open the drawer",
    reasoning_text: str = "",
    reasoning: tuple[LiftedGrounding, ...] = (),
) -> Response:
    query = Query("q-1", Task.AFFORDANCE, instruction, FrameSet(frames))
    whole = reasoning_text + text
    answer = Answer("q-1", whole, FinishReason.STOP, "recorded", "RynnBrain-2B")
    groundings = tuple(item.grounding for item in lifted)
    start = len(reasoning_text)
    reading = Reading(whole, text, reasoning_text, groundings, answer_start=start)
    return Response(query, answer, reading, lifted, reasoning)


@pytest.fixture
def make_frame() -> MakeFrame:
    return _frame


@pytest.fixture
def lift() -> Lift:
    return _lift


@pytest.fixture
def respond() -> Respond:
    return _respond


@pytest.fixture
def nan() -> float:
    return math.nan
