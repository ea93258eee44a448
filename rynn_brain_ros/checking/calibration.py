"""The hand-eye error out of a recording of a board."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.checking.recorded_camera import CalibrationLimits, Recorded
from rynn_brain_ros.geometry import (
    PinholeCamera,
    TransformBuffer,
    from_matrix,
    optical_frame_refusal,
    to_matrix,
)
from rynn_brain_ros.geometry.boards import Board, find_board
from rynn_brain_ros.geometry.hand_eye import (
    MIN_VIEWS,
    BoardView,
    HandEye,
    measure_hand_eye,
    overall,
)
from rynn_brain_ros.memory import decode_color
from rynn_brain_ros.memory.opening import color_camera
from rynn_brain_ros.models.progress import Progress, untold
from rynn_brain_ros.values import Frame, ImageError, InputError, Refusal, RigidTransform

Floats = NDArray[np.float64]

_LOOK_EVERY_S = 0.2
_STILL_S = 0.1
_STILL = (0.001, math.radians(0.1))
"""An arm that moves less than this (m, rad) while a picture is taken stands still."""
_ANOTHER_POSE = (0.01, math.radians(2.0))


@dataclass(frozen=True, eq=False)
class BoardCheck:
    """``chain`` are the transforms between the arm (or the base) and the camera, any of which may
    be the wrong one; ``remedies`` says for each what it would have to be."""

    camera: str
    mount: str
    hand_eye: HandEye
    chain: tuple[str, ...]
    remedies: tuple[RigidTransform, ...]
    skipped: tuple[str, ...]
    problems: tuple[str, ...]


def check_board(
    bag: Path,
    board: Board,
    limits: CalibrationLimits,
    *,
    camera: str = "",
    board_frame: str = "",
    progress: Progress = untold,
) -> BoardCheck:
    """``board_frame`` is what the board is fixed to: empty for the world (the camera is at the
    hand), else the hand's frame (the camera stands still).

    Raises `InputError` where the recording does not show enough.
    """
    with Recorded(bag, camera) as recorded:
        looking = _Looking(recorded, board, board_frame)
        for frame in recorded.frames():
            looking.take(frame)
            first_ns = looking.first_ns or frame.stamp_ns
            done_s = (frame.stamp_ns - first_ns) / 1e9
            progress("looking for the board", round(done_s), round(recorded.duration_s))
        lens, views = looking.lens, looking.views
        if lens is None or len(views) < MIN_VIEWS:
            raise InputError(f"{bag}: {looking.too_few()}")
        hand_eye = measure_hand_eye(lens, views, board.turns)
        chain = _static_chain(recorded.transforms, looking.frame_id)
        remedies = _remedies(recorded.transforms, chain, hand_eye.error, views[0].stamp_ns)
        return BoardCheck(
            recorded.topic,
            looking.mount,
            hand_eye,
            chain,
            remedies,
            looking.skipped(),
            tuple(_board_problems(hand_eye, limits, chain)),
        )


class _Looking:
    """Goes through the pictures: one of each pose at which the arm stands still."""

    def __init__(self, recorded: Recorded, board: Board, mount: str) -> None:
        self._recorded, self._board = recorded, board
        self.mount, self.frame_id = mount, ""
        self.lens: PinholeCamera | None = None
        self.views: list[BoardView] = []
        self.first_ns: int | None = None
        self._looked_ns = -(10**18)
        self._why_not: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def take(self, frame: Frame) -> None:
        self.first_ns = frame.stamp_ns if self.first_ns is None else self.first_ns
        if frame.stamp_ns - self._looked_ns < _LOOK_EVERY_S * 1e9:
            return
        self._looked_ns = frame.stamp_ns
        why_not = self._look(frame)
        if why_not:  # refusals differ in their numbers: the first one is told for all of its name
            kind = why_not.partition(":")[0]
            self._first.setdefault(kind, why_not)
            self._why_not[kind] += 1

    def _look(self, frame: Frame) -> str:
        """Why this picture was not used; empty where it was."""
        self.frame_id = self.frame_id or frame.frame_id
        self.mount = self.mount or self._recorded.fixed_frame(frame.frame_id)
        transforms = self._recorded.transforms
        refusal = optical_frame_refusal(transforms, frame.frame_id, frame.stamp_ns)
        if refusal is not None:
            raise InputError(str(refusal))
        now = transforms.lookup(frame.frame_id, self.mount, frame.stamp_ns)
        if isinstance(now, Refusal):
            return str(now)
        lens = color_camera(frame)
        if isinstance(lens, Refusal):
            return str(lens)
        before = transforms.lookup(
            frame.frame_id, self.mount, frame.stamp_ns - round(_STILL_S * 1e9)
        )
        matrix = to_matrix(now)
        if isinstance(before, RigidTransform) and _apart(matrix, to_matrix(before), _STILL):
            return "the arm was moving"
        if not all(_apart(matrix, view.T_camera_mount, _ANOTHER_POSE) for view in self.views):
            return "the arm stood where it was seen before"
        return self._find(frame, lens, matrix)

    def _find(self, frame: Frame, lens: PinholeCamera, T_camera_mount: Floats) -> str:
        try:
            rgb = decode_color(frame.color)
        except ImageError as error:
            return str(error)
        if rgb.shape[:2] != (lens.height, lens.width):
            raise InputError(
                f"camera_info of {frame.camera} is for {lens.width}×{lens.height} pixels, its "
                f"images have {rgb.shape[1]}×{rgb.shape[0]}: is it of another stream?"
            )
        seen = find_board(self._board, rgb)
        if seen is None:
            return "the board was not seen (whole, if it is a chessboard)"
        self.lens = lens
        self.views.append(BoardView(frame.stamp_ns, seen, T_camera_mount))
        return ""

    def skipped(self) -> tuple[str, ...]:
        return tuple(
            f"{n} picture{'s' * (n != 1)}: {self._first[kind]}"
            for kind, n in self._why_not.most_common()
        )

    def too_few(self) -> str:
        n = len(self.views)
        said = "; ".join(self.skipped()[:4]) or "no picture at all"
        return (
            f"the board was seen from {n} pose{'s' * (n != 1)} of the arm in {self.mount!r}, "
            f"{MIN_VIEWS} are the least, 10 or more with different tilts are good. Not used: "
            f"{said}. If the board is at the hand and the camera stands, name the hand's frame "
            "with --board-frame"
        )


def _apart(a: Floats, b: Floats, least: tuple[float, float]) -> bool:
    between = np.linalg.inv(a) @ b
    cosine = (np.trace(between[:3, :3]) - 1) / 2
    angle = math.acos(max(-1.0, min(1.0, float(cosine))))
    return bool(np.linalg.norm(between[:3, 3]) > least[0] or angle > least[1])


def _static_chain(transforms: TransformBuffer, frame_id: str) -> tuple[str, ...]:
    """From what moves (or the root) down to the camera."""
    chain = [frame_id]
    for ancestor in transforms.ancestors(frame_id):
        if not transforms.is_static(chain[-1]) and len(chain) > 1:
            break
        chain.append(ancestor)
    return tuple(reversed(chain))


def _remedies(
    transforms: TransformBuffer, chain: tuple[str, ...], error: Floats, stamp_ns: int
) -> tuple[RigidTransform, ...]:
    """What each transform would have to be, were it the only wrong one."""
    found = []
    for parent, child in pairwise(chain):
        above = transforms.lookup(parent, chain[-1], stamp_ns)
        below = transforms.lookup(child, chain[-1], stamp_ns)
        if isinstance(above, RigidTransform) and isinstance(below, RigidTransform):
            right = to_matrix(above) @ error @ np.linalg.inv(to_matrix(below))
            found.append(from_matrix(right, parent, child))
    return tuple(found)


def _board_problems(
    measured: HandEye, limits: CalibrationLimits, chain: tuple[str, ...]
) -> Iterator[str]:
    off_px = max(r.corners_px for r in measured.residuals)
    if off_px > limits.max_px:
        yield (
            f"the corners are up to {off_px:.2f} px off (allowed: {limits.max_px:g}): calibrate "
            "the lens (camera_calibration) or correct --board; what follows is no better than that"
        )
    if measured.sigma_mm > limits.max_mm / 2 or measured.sigma_deg > limits.max_deg / 2:
        yield (
            f"these pictures tell the camera's pose only to ±{measured.sigma_mm:.1f} mm and "
            f"±{measured.sigma_deg:.2f}°: record more poses, the hand tilted by 20° and more about "
            "different axes, the board near and filling the picture"
        )
    elif measured.error_mm > limits.max_mm or measured.error_deg > limits.max_deg:
        yield (
            f"the transform {chain[0]!r} → {chain[-1]!r} is off by {measured.error_mm:.1f} mm and "
            f"{measured.error_deg:.2f}° (allowed: {limits.max_mm:g} mm, {limits.max_deg:g}°): "
            "correct it as told below and record again"
        )
    apart_mm, apart_deg = overall(measured.residuals)
    if apart_mm > limits.max_mm or apart_deg > limits.max_deg:
        yield (
            f"places seen from different poses disagree by {apart_mm:.1f} mm and {apart_deg:.2f}° "
            f"(allowed: {limits.max_mm:g} mm, {limits.max_deg:g}°)"
        )
    rest_mm, rest_deg = overall(measured.corrected)
    if rest_mm > limits.max_mm or rest_deg > limits.max_deg:
        yield (
            f"no pose of the camera explains {rest_mm:.1f} mm and {rest_deg:.2f}° of that: look "
            "at the arm's joint offsets, the stamps of camera and joints, and whether the board "
            "or the camera moved"
        )
