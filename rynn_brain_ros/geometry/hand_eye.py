"""How far a camera is from where the transforms say it is, measured with a board.

A board that is fixed to some frame (the *mount*: the robot's base for a camera at the hand, the
hand for a camera that stands) is seen from several poses of the arm. Were every transform right,
the board would be at one place in the mount in all pictures. With

    T_camera_board[i] = E⁻¹ · T_camera_mount[i] · T_mount_board

``E`` (the camera's true pose, told in the pose that the transforms claim) and ``T_mount_board`` are
the ones that bring the board's corners to where they were seen: least squares in pixels
(Levenberg-Marquardt; Dornaika and Horaud, "Simultaneous robot-world and hand-eye calibration",
IEEE T-RA 14(4), 1998, solve the same equation).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.geometry.boards import SeenBoard
from rynn_brain_ros.geometry.camera import PinholeCamera
from rynn_brain_ros.values import InputError

Floats = NDArray[np.float64]

MIN_VIEWS = 3
_SIGMA_PX = 0.1
"""Corners are never trusted to be seen better than this."""
_STEPS = 60


@dataclass(frozen=True, eq=False)
class BoardView:
    """One picture of the board; ``T_camera_mount`` [4, 4] as the transforms claim it."""

    stamp_ns: int
    seen: SeenBoard
    T_camera_mount: Floats


@dataclass(frozen=True)
class Residual:
    """How far the board's pose in one picture is from the mean of all: its middle and its turn.
    ``corners_px`` is how well the corners fit the board alone (the lens, not the arm)."""

    stamp_ns: int
    position_mm: float
    angle_deg: float
    corners_px: float


@dataclass(frozen=True, eq=False)
class HandEye:
    """``error`` [4, 4] is E: ``T_parent_camera · error`` is where the camera really is.

    ``sigma_mm`` and ``sigma_deg`` are how well these pictures can tell it (one standard
    deviation). ``corrected`` are the residuals that remain with the error taken out.
    """

    residuals: tuple[Residual, ...]
    corrected: tuple[Residual, ...]
    error: Floats
    sigma_mm: float
    sigma_deg: float

    @property
    def error_mm(self) -> float:
        return float(np.linalg.norm(self.error[:3, 3]) * 1e3)

    @property
    def error_deg(self) -> float:
        return math.degrees(_angle(self.error))


def overall(residuals: Sequence[Residual]) -> tuple[float, float]:
    """Root mean square of all pictures' residuals, mm and degrees."""
    squares = [(r.position_mm**2, r.angle_deg**2) for r in residuals]
    position, angle = np.sqrt(np.mean(squares, axis=0))
    return float(position), float(angle)


def measure_hand_eye(camera: PinholeCamera, views: Sequence[BoardView], turns: bool) -> HandEye:
    """``turns`` says that the board can be mistaken for itself upside down.

    Raises `InputError` for fewer than `MIN_VIEWS` pictures.
    """
    if len(views) < MIN_VIEWS:
        raise InputError(
            f"the board was seen from {len(views)} pose{'s' * (len(views) != 1)} of the arm: "
            f"{MIN_VIEWS} are the least, 10 or more with different tilts are good"
        )
    if turns:
        views = _turned_alike(camera, views)
    start = _mean([_board_in_mount(camera, view) for view in views])

    def off_px(x: Floats) -> Floats:
        back, T_mount_board = np.linalg.inv(_motion(x[:6])), start @ _motion(x[6:])
        seen = [_project(camera, back @ v.T_camera_mount @ T_mount_board, v) for v in views]
        return np.concatenate(
            [(uv - v.seen.pixels).ravel() for uv, v in zip(seen, views, strict=True)]
        )

    x, covariance = _least_squares(off_px, np.zeros(12))
    error = _motion(x[:6])
    right = [BoardView(v.stamp_ns, v.seen, np.linalg.inv(error) @ v.T_camera_mount) for v in views]
    return HandEye(
        residuals=_residuals(camera, views),
        corrected=_residuals(camera, right),
        error=error,
        sigma_mm=1e3 * math.sqrt(float(np.trace(covariance[3:6, 3:6]))),
        sigma_deg=math.degrees(math.sqrt(float(np.trace(covariance[:3, :3])))),
    )


# --- poses of the board --------------------------------------------------------------------------


def _residuals(camera: PinholeCamera, views: Sequence[BoardView]) -> tuple[Residual, ...]:
    poses = [_board_in_mount(camera, view) for view in views]
    mean = _mean(poses)
    return tuple(
        Residual(
            view.stamp_ns,
            float(np.linalg.norm(pose[:3, 3] - mean[:3, 3]) * 1e3),
            math.degrees(_angle(mean.T @ pose)),
            _corners_px(camera, view),
        )
        for view, pose in zip(views, poses, strict=True)
    )


def _turned_alike(camera: PinholeCamera, views: Sequence[BoardView]) -> tuple[BoardView, ...]:
    """All boards the way up of the first: nobody turns it between two pictures."""
    first = _board_in_mount(camera, views[0])

    def nearer(view: BoardView) -> BoardView:
        other = BoardView(view.stamp_ns, view.seen.turned(), view.T_camera_mount)
        angles = [_angle(first.T @ _board_in_mount(camera, each)) for each in (view, other)]
        return view if angles[0] <= angles[1] else other

    return tuple(map(nearer, views))


def _board_in_mount(camera: PinholeCamera, view: BoardView) -> Floats:
    return np.asarray(np.linalg.inv(view.T_camera_mount) @ _board_in_camera(camera, view.seen))


def _board_in_camera(camera: PinholeCamera, seen: SeenBoard) -> Floats:
    """``T_camera_board`` [4, 4]. Corners become rays first, so every lens model is alike."""
    rays = camera.pixel_to_ray(seen.pixels)[:, :2]
    ok, turn, shift = cv2.solvePnP(
        seen.points_m, rays[:, None], np.eye(3), None, flags=cv2.SOLVEPNP_IPPE
    )
    if not ok or not np.isfinite([turn, shift]).all():
        raise InputError("a board's corners lie where the lens model has no rays")
    turn, shift = cv2.solvePnPRefineLM(seen.points_m, rays[:, None], np.eye(3), None, turn, shift)
    return _motion(np.concatenate([turn, shift]).ravel())


def _corners_px(camera: PinholeCamera, view: BoardView) -> float:
    off = _project(camera, _board_in_camera(camera, view.seen), view) - view.seen.pixels
    return float(np.sqrt(np.mean(np.sum(off**2, axis=1))))


def _project(camera: PinholeCamera, T_camera_board: Floats, view: BoardView) -> Floats:
    corners = view.seen.points_m @ T_camera_board[:3, :3].T + T_camera_board[:3, 3]
    return camera.project_unlimited(corners)


def _mean(poses: Sequence[Floats]) -> Floats:
    """The mean place, and the rotation nearest to all (chordal: SVD of the sum)."""
    mean = np.eye(4)
    total = np.sum([pose[:3, :3] for pose in poses], axis=0)
    left, _, right = np.linalg.svd(total)
    mean[:3, :3] = left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right
    mean[:3, 3] = np.mean([pose[:3, 3] for pose in poses], axis=0)
    return mean


def _motion(x: Floats) -> Floats:
    """[4, 4] of a rotation vector (radians) and a translation (metres), [6]."""
    motion = np.eye(4)
    motion[:3, :3] = cv2.Rodrigues(np.asarray(x[:3], np.float64))[0]
    motion[:3, 3] = x[3:]
    return motion


def _angle(motion: Floats) -> float:
    """Of the rotation, radians; exact for small ones, too."""
    return float(np.linalg.norm(cv2.Rodrigues(np.ascontiguousarray(motion[:3, :3]))[0]))


# --- least squares -------------------------------------------------------------------------------


def _least_squares(off: Callable[[Floats], Floats], x: Floats) -> tuple[Floats, Floats]:
    """The ``x`` of the smallest ``off``, and its covariance; huge where nothing tells it."""
    damping, now = 1e-3, off(x)
    for _ in range(_STEPS):
        J = _jacobian(off, x)
        H, gradient = J.T @ J, J.T @ now
        step = np.linalg.solve(H + damping * np.diag(np.diag(H) + 1e-9), -gradient)
        there = off(x + step)
        if not there @ there < now @ now:
            damping *= 10
            if damping > 1e9:
                break
            continue
        x, now, damping = x + step, there, max(damping / 10, 1e-12)
        if np.abs(step).max() < 1e-9:
            break
    J = _jacobian(off, x)
    variance = max(_SIGMA_PX**2, float(now @ now) / max(1, len(now) - len(x)))
    return x, variance * np.linalg.inv(J.T @ J + 1e-6 * np.eye(len(x)))


def _jacobian(off: Callable[[Floats], Floats], x: Floats, h: float = 1e-6) -> Floats:
    steps = h * np.eye(len(x))
    return np.column_stack([(off(x + step) - off(x - step)) / (2 * h) for step in steps])
