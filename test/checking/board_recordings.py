"""Recordings of a board that a camera sees from known poses, with errors of known size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from rynn_brain_ros import messages
from rynn_brain_ros.bags import BagWriter
from rynn_brain_ros.geometry import PinholeCamera, from_matrix, ray_grid
from rynn_brain_ros.geometry.boards import Board, charuco_board
from rynn_brain_ros.values import CameraInfo, EncodedImage, RigidTransform

SIZE, FOCAL_PX = (640, 480), 600.0
LENS = PinholeCamera(*SIZE, FOCAL_PX, FOCAL_PX, 321.3, 238.6)
DEPTH = "/camera/aligned_depth_to_color/image_raw"
INFO = CameraInfo(*SIZE, tuple(LENS.matrix.ravel()), frame_id="camera_optical")
CHESSBOARD = Board(8, 6, 0.03)
CHARUCO = Board(8, 6, 0.03, 0.022, "4X4_50")
_PX_PER_SQUARE = 96


def motion(x_mm=0.0, y_mm=0.0, z_mm=0.0, turn_deg=(0.0, 0.0, 0.0)) -> np.ndarray:
    """[4, 4] of millimetres and a rotation vector in degrees."""
    matrix = np.eye(4)
    matrix[:3, :3] = cv2.Rodrigues(np.radians(np.array(turn_deg, float)))[0]
    matrix[:3, 3] = np.array([x_mm, y_mm, z_mm]) / 1e3
    return matrix


VIEWS = tuple(
    motion(x, y, z, (rx, ry, rz))
    for rx, ry, rz, x, y, z in (
        (0, 0, 0, 0, 0, 420),
        (25, 0, 5, 20, -10, 430),
        (-25, 5, 0, -20, 10, 450),
        (0, 28, -8, 10, 20, 440),
        (5, -28, 10, -10, 0, 410),
        (20, 20, 40, 0, 15, 460),
        (-18, 22, -35, 15, -15, 440),
        (15, -20, 80, -15, 5, 470),
    )
)
"""T_camera_board of each picture."""


@cache
def _texture(board: Board) -> np.ndarray:
    size = ((board.columns + 1) * _PX_PER_SQUARE, (board.rows + 1) * _PX_PER_SQUARE)
    if board.dictionary:
        code = getattr(cv2.aruco, f"DICT_{board.dictionary}")
        drawn = charuco_board(board, code).generateImage(size)
    else:
        rows, columns = np.indices((board.rows + 1, board.columns + 1))
        squares = np.where((rows + columns) % 2, 255, 0).astype(np.uint8)
        drawn = np.kron(squares, np.ones((_PX_PER_SQUARE,) * 2, np.uint8))
    return np.pad(drawn, _PX_PER_SQUARE, constant_values=255)


def picture(board: Board, T_camera_board: np.ndarray, finer: int = 4) -> np.ndarray:
    """uint8 RGB of the board on grey, drawn ``finer`` times larger and averaged."""
    texture = _texture(board)
    center = (np.array(texture.shape[::-1]) - 1) / 2
    T_board_texture = np.diag([board.square_m / _PX_PER_SQUARE] * 2 + [1.0])
    T_board_texture[:2, 2] = -center * board.square_m / _PX_PER_SQUARE
    fine = np.array([[finer, 0, (finer - 1) / 2], [0, finer, (finer - 1) / 2], [0, 0, 1.0]])
    H = fine @ LENS.matrix @ T_camera_board[:3, [0, 1, 3]] @ T_board_texture
    size = (SIZE[0] * finer, SIZE[1] * finer)
    large = cv2.warpPerspective(texture, H, size, borderMode=cv2.BORDER_CONSTANT, borderValue=120)
    gray = cv2.resize(large, SIZE, interpolation=cv2.INTER_AREA)
    return np.repeat(gray[..., None], 3, axis=2)


def _depth(T_camera_board: np.ndarray) -> bytes:
    """Metres along z to the board's plane, float32."""
    normal, rays = T_camera_board[:3, 2], ray_grid(LENS)
    return ((normal @ T_camera_board[:3, 3]) / (rays @ normal)).astype(np.float32).tobytes()


@dataclass(frozen=True)
class Scene:
    """``error`` is what the published transform of the camera lacks: the camera truly is at
    ``T_parent_camera · error``. ``moves`` says what the arm carries. In every other picture the
    board lies ``slip_mm`` beside its place."""

    error: np.ndarray
    board: Board = CHESSBOARD
    moves: str = "camera"
    views: Sequence[np.ndarray] = VIEWS
    tf: bool = True
    info: bool = True
    empty: bool = False
    depth: bool = False
    moving: bool = False
    slip_mm: float = 0.0


T_HAND_CAMERA = motion(60, -10, 40, (5, -3, 90))
T_BASE_BOARD = motion(500, 50, 0, (180, 0, 20))
T_BASE_CAMERA = motion(900, 0, 600, (0, -150, 0))
T_HAND_BOARD = motion(0, 10, 80, (0, 20, 0))


def record(path: Path, scene: Scene) -> Path:
    """Each pose for 0.7 s after a swift way there, with transforms at 10 Hz and one picture at its
    end; where the scene is ``moving`` also one on the way, which shows the board anywhere."""
    with BagWriter(path) as bag:
        before = scene.views[0]
        for i, T_camera_board in enumerate(scene.views):
            _pose(bag, scene, before, i, range(1, 3))
            _pose(bag, scene, T_camera_board, i, range(3, 11))
            before = T_camera_board
            stamp_ns = (i + 1) * 10**9
            if scene.moving and i > 0:
                _write_picture(bag, picture(scene.board, VIEWS[0]), stamp_ns - 75 * 10**7)
            rgb = np.full((*SIZE[::-1], 3), 90, np.uint8)
            if not scene.empty:
                rgb = picture(scene.board, T_camera_board)
            if scene.info:
                info = messages.camera_info(INFO, stamp_ns)
                bag.write("/camera/color/camera_info", messages.CAMERA_INFO, info, stamp_ns)
            if scene.depth:
                far = EncodedImage("32FC1", _depth(T_camera_board), *SIZE, SIZE[0] * 4)
                _, aligned = messages.image(far, stamp_ns, INFO.frame_id)
                bag.write(DEPTH, messages.IMAGE, aligned, stamp_ns)
            _write_picture(bag, rgb, stamp_ns)
    return path


def _write_picture(bag: BagWriter, rgb: np.ndarray, stamp_ns: int) -> None:
    encoded = EncodedImage("rgb8", rgb.tobytes(), *SIZE, SIZE[0] * 3)
    kind, data = messages.image(encoded, stamp_ns, INFO.frame_id)
    bag.write("/camera/color/image_raw", kind, data, stamp_ns)


def _pose(bag: BagWriter, scene: Scene, T_camera_board: np.ndarray, i: int, tenths: range) -> None:
    if not scene.tf:
        return
    T_base_hand, T_parent_camera, parent = _arm(scene, T_camera_board)
    T_base_hand = motion(scene.slip_mm * (i % 2)) @ T_base_hand
    static = [
        _transform(T_parent_camera @ motion(turn_deg=(-90, 0, 0)), parent, "camera_link"),
        _transform(motion(turn_deg=(90, 0, 0)), "camera_link", INFO.frame_id),
    ]
    if i == 0 and tenths[0] == 1:
        bag.write("/tf_static", messages.TF_MESSAGE, messages.tf_message(static), 0, latched=True)
    for tenth in tenths:
        stamp_ns = i * 10**9 + tenth * 10**8
        sample = from_matrix(T_base_hand, "base_link", "hand", stamp_ns)
        bag.write("/tf", messages.TF_MESSAGE, messages.tf_message([sample]), stamp_ns)


def _arm(scene: Scene, T_camera_board: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """Where the hand is, what is published as the camera's place, and in which frame."""
    wrong = np.linalg.inv(scene.error)
    if scene.moves == "camera":
        T_base_hand = T_BASE_BOARD @ np.linalg.inv(T_HAND_CAMERA @ T_camera_board)
        return T_base_hand, T_HAND_CAMERA @ wrong, "hand"
    T_base_hand = T_BASE_CAMERA @ T_camera_board @ np.linalg.inv(T_HAND_BOARD)
    return T_base_hand, T_BASE_CAMERA @ wrong, "base_link"


def _transform(matrix: np.ndarray, parent: str, child: str) -> RigidTransform:
    return from_matrix(matrix, parent, child)
