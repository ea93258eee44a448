"""Calibration boards: what they look like, and their corners in a picture. OpenCV detects them."""

from __future__ import annotations

import re
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from rynn_brain_ros.values import InputError

Floats = NDArray[np.float64]

BOARD_SPELLINGS = (
    "COLSxROWSxSIZE_M (a chessboard: inner corners, side of a square in metres) or "
    "charuco:COLSxROWSxSIZE_MxMARKER_M:DICTIONARY (squares, sides of a square and a marker)"
)
_CHESSBOARD = re.compile(r"(\d+)x(\d+)x([\d.]+)")
_CHARUCO = re.compile(r"charuco:(\d+)x(\d+)x([\d.]+)x([\d.]+):(?:DICT_)?(\w+)", re.IGNORECASE)
_MIN_CORNERS = 6
_WINDOW = (3, 3)
_UNTIL = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 40, 1e-3)


@dataclass(frozen=True)
class Board:
    """A chessboard, or a ChArUco board where ``dictionary`` names its markers.

    ``columns`` and ``rows`` count inner corners. The board's frame has its origin in the middle
    of the corners, x along the columns' order, y along the rows', z into the board.
    """

    columns: int
    rows: int
    square_m: float
    marker_m: float = 0.0
    dictionary: str = ""

    def __post_init__(self) -> None:
        if min(self.columns, self.rows) < 2 or self.columns * self.rows < _MIN_CORNERS:
            raise InputError(f"a board of {self.columns}×{self.rows} corners is too small")
        if not 0.001 <= self.square_m <= 1.0:
            raise InputError(f"squares of {self.square_m:g} m: give 0.001 … 1 metre")
        if not self.dictionary and self.columns == self.rows:
            raise InputError(
                f"a chessboard of {self.columns}×{self.rows} corners looks the same from four "
                "sides: use one with more columns than rows, or a ChArUco board"
            )
        if self.dictionary and not 0 < self.marker_m < self.square_m:
            raise InputError(
                f"markers of {self.marker_m:g} m do not fit into squares of {self.square_m:g} m"
            )

    @property
    def turns(self) -> bool:
        """Whether it can be mistaken for itself upside down: a chessboard has no mark."""
        return not self.dictionary

    @property
    def corners_m(self) -> Floats:
        """[rows · columns, 3], row by row."""
        y, x = np.mgrid[0 : self.rows, 0 : self.columns] * self.square_m
        corners = np.column_stack([x.ravel(), y.ravel(), np.zeros(x.size)])
        return np.asarray(corners - corners.mean(axis=0), np.float64)


@dataclass(frozen=True, eq=False)
class SeenBoard:
    """Corners in a picture: ``points_m`` [N, 3] of the board, ``pixels`` [N, 2]."""

    points_m: Floats
    pixels: Floats

    def turned(self) -> SeenBoard:
        """The same pixels, were the board upside down."""
        return SeenBoard(self.points_m, self.pixels[::-1])


def parse_board(text: str) -> Board:
    """From one of `BOARD_SPELLINGS`. Raises `InputError`."""
    if match := _CHESSBOARD.fullmatch(text):
        return Board(int(match[1]), int(match[2]), _metres(match[3]))
    if match := _CHARUCO.fullmatch(text):
        columns, rows = int(match[1]) - 1, int(match[2]) - 1
        board = Board(columns, rows, _metres(match[3]), _metres(match[4]), match[5].upper())
        _charuco_detector(board)  # the dictionary must exist
        return board
    raise InputError(f"board {text!r} is not understood: give {BOARD_SPELLINGS}")


def find_board(board: Board, rgb: NDArray[np.uint8]) -> SeenBoard | None:
    """The board's corners in a picture uint8 [H, W, 3], to a fraction of a pixel; a chessboard
    must be seen whole, of a ChArUco board six corners."""
    gray = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)
    if board.dictionary:
        return _find_charuco(board, gray)
    flags = cv2.CALIB_CB_ACCURACY | cv2.CALIB_CB_NORMALIZE_IMAGE
    found, pixels = cv2.findChessboardCornersSB(gray, (board.columns, board.rows), flags=flags)
    return SeenBoard(board.corners_m, _pixels(pixels)) if found else None


def _find_charuco(board: Board, gray: NDArray[np.uint8]) -> SeenBoard | None:
    pixels, ids, _, _ = _charuco_detector(board).detectBoard(gray)
    if ids is None or len(ids) < _MIN_CORNERS:
        return None
    # OpenCV 4 tells these half a pixel too far right and down (5.0 does not): ask the image.
    refined = cv2.cornerSubPix(gray, np.asarray(pixels, np.float32), _WINDOW, (-1, -1), _UNTIL)
    return SeenBoard(board.corners_m[ids.ravel()], _pixels(refined))


def _charuco_detector(board: Board) -> cv2.aruco.CharucoDetector:
    if not hasattr(cv2, "aruco") or not hasattr(cv2.aruco, "CharucoDetector"):
        raise InputError(
            f"OpenCV {cv2.__version__} detects no ChArUco boards: 4.7 or later does, or use a "
            "chessboard"
        )
    code = getattr(cv2.aruco, f"DICT_{board.dictionary}", None)
    if code is None:
        known = ", ".join(sorted(n[5:] for n in dir(cv2.aruco) if n.startswith("DICT_")))
        raise InputError(f"there is no dictionary {board.dictionary!r}; OpenCV has: {known}")
    return cv2.aruco.CharucoDetector(charuco_board(board, code))


def charuco_board(board: Board, code: int) -> cv2.aruco.CharucoBoard:
    """OpenCV's own description, which counts squares; it can draw the board, too."""
    size = (board.columns + 1, board.rows + 1)
    dictionary = cv2.aruco.getPredefinedDictionary(code)
    return cv2.aruco.CharucoBoard(size, board.square_m, board.marker_m, dictionary)


def _pixels(found: ArrayLike) -> Floats:
    return np.asarray(found, np.float64).reshape(-1, 2)


def _metres(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InputError(f"{text!r} is no length in metres") from error
