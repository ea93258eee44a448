"""``rynn-brain check-calibration``: errors of known size are told as what they are."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from board_recordings import (
    CHARUCO,
    CHESSBOARD,
    LENS,
    T_BASE_BOARD,
    T_HAND_CAMERA,
    VIEWS,
    Scene,
    motion,
    picture,
    record,
)

from rynn_brain_ros.checking.known_point import KnownPoint, check_point
from rynn_brain_ros.checking.recorded_camera import CalibrationLimits
from rynn_brain_ros.cli import main
from rynn_brain_ros.geometry import to_matrix
from rynn_brain_ros.geometry.boards import Board, SeenBoard, find_board, parse_board
from rynn_brain_ros.geometry.hand_eye import BoardView, measure_hand_eye
from rynn_brain_ros.values import InputError, RigidTransform

BOARD = "8x6x0.03"
CHARUCO_BOARD = "charuco:9x7x0.03x0.022:4X4_50"
FIVE_MM_ONE_DEGREE = motion(3, 0, -4, (0.6, 0.8, 0))
NONE = motion()


def told(capsys: pytest.CaptureFixture[str], bag: Path, *more: str) -> tuple[int, dict[str, Any]]:
    code = main(["check-calibration", str(bag), "--json", *more])
    return code, json.loads(capsys.readouterr().out)


def complaint(capsys: pytest.CaptureFixture[str], bag: Path, *more: str) -> str:
    assert main(["check-calibration", str(bag), *more]) == 2
    return capsys.readouterr().err


def matrix_of(remedy: dict[str, Any]) -> np.ndarray:
    return to_matrix(RigidTransform("a", "b", tuple(remedy["xyz"]), tuple(remedy["xyzw"])))


@pytest.mark.parametrize("board", [CHESSBOARD, CHARUCO], ids=["chessboard", "charuco"])
def test_corners_are_found_where_they_are(board: Board):
    for T_camera_board in VIEWS:
        seen = find_board(board, picture(board, T_camera_board))
        assert seen is not None
        true = LENS.project(seen.points_m @ T_camera_board[:3, :3].T + T_camera_board[:3, 3])
        ways = [seen, seen.turned()] if board.turns else [seen]
        off = min((true - way.pixels for way in ways), key=lambda each: np.abs(each).max())
        assert np.abs(off).max() < 0.3
        assert np.abs(off.mean(axis=0)).max() < 0.05


@pytest.mark.parametrize(
    ("board", "spelling"), [(CHESSBOARD, BOARD), (CHARUCO, CHARUCO_BOARD)], ids=["chess", "charuco"]
)
def test_a_wrong_camera_at_the_hand_is_told_with_its_size(
    board: Board, spelling: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    bag = record(tmp_path / "wrong.mcap", Scene(FIVE_MM_ONE_DEGREE, board))
    code, check = told(capsys, bag, "--board", spelling, "--max-mm", "3", "--max-deg", "0.5")
    assert code == 1 and not check["passed"]
    assert check["board_frame"] == "base_link"
    assert check["error_mm"] == pytest.approx(5.0, abs=0.4)
    assert check["error_deg"] == pytest.approx(1.0, abs=0.05)
    assert check["chain"] == ["hand", "camera_link", "camera_optical"]
    assert check["residual"][0] > 3
    assert check["residual_corrected"][0] < 0.5
    assert len(check["pictures"]) == len(VIEWS)


def test_a_camera_with_a_bent_lens_that_is_far_wrong_is_measured():
    """The fit begins where some of the board is beside the picture."""
    lens, wrong = replace(LENS, distortion=(-0.3, 0.02, 0.0, 0.0)), motion(100, 0, 0, (0, 25, 0))
    columns, rows = np.meshgrid(np.arange(8) - 3.5, np.arange(6) - 2.5)
    points_m = np.stack([columns, rows, 0 * rows], axis=-1).reshape(-1, 3) * 0.03
    views = []
    for n, T_camera_board in enumerate(VIEWS):
        seen = lens.project(points_m @ T_camera_board[:3, :3].T + T_camera_board[:3, 3])
        T_camera_mount = wrong @ T_camera_board @ np.linalg.inv(T_BASE_BOARD)
        views.append(BoardView(n, SeenBoard(points_m, seen), T_camera_mount))
    assert measure_hand_eye(lens, views, turns=False).error == pytest.approx(wrong, abs=1e-6)


def test_each_remedy_puts_the_camera_where_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    bag = record(tmp_path / "wrong.mcap", Scene(FIVE_MM_ONE_DEGREE))
    _, check = told(capsys, bag, "--board", BOARD)
    wrong_link = T_HAND_CAMERA @ np.linalg.inv(FIVE_MM_ONE_DEGREE) @ motion(turn_deg=(-90, 0, 0))
    first, second = map(matrix_of, check["remedies"])
    for right in (first @ motion(turn_deg=(90, 0, 0)), wrong_link @ second):
        assert right[:3, 3] == pytest.approx(T_HAND_CAMERA[:3, 3], abs=4e-4)
        assert right[:3, :3] == pytest.approx(T_HAND_CAMERA[:3, :3], abs=1e-3)


def test_a_right_camera_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    bag = record(tmp_path / "right.mcap", Scene(NONE))
    assert main(["check-calibration", str(bag), "--board", BOARD]) == 0
    page = capsys.readouterr().out
    assert page.endswith("verdict: passed\n")
    assert "what would be right" not in page


def test_a_camera_that_stands_is_measured_with_the_board_at_the_hand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    bag = record(tmp_path / "stands.mcap", Scene(FIVE_MM_ONE_DEGREE, moves="board"))
    code, check = told(capsys, bag, "--board", BOARD, "--board-frame", "hand", "--max-mm", "3")
    assert code == 1
    assert check["chain"] == ["base_link", "camera_link", "camera_optical"]
    assert check["error_mm"] == pytest.approx(5.0, abs=0.4)
    assert check["error_deg"] == pytest.approx(1.0, abs=0.05)


def test_the_limits_decide(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    bag = record(tmp_path / "wrong.mcap", Scene(FIVE_MM_ONE_DEGREE))
    wide = ("--max-mm", "20", "--max-deg", "3")
    assert told(capsys, bag, "--board", BOARD, *wide)[0] == 0
    assert told(capsys, bag, "--board", BOARD, "--max-mm", "20", "--max-deg", "0.5")[0] == 1


def test_poses_that_only_shift_cannot_tell_the_camera(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    views = [motion(x, y, 450) for x, y in ((0, 0), (40, 0), (0, 40), (-40, 0), (0, -40))]
    bag = record(tmp_path / "shifts.mcap", Scene(NONE, views=views))
    code, check = told(capsys, bag, "--board", BOARD)
    assert code == 1
    assert any("only to ±" in problem for problem in check["problems"])


def test_a_board_that_moved_is_not_blamed_on_the_camera(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    bag = record(tmp_path / "moved.mcap", Scene(NONE, slip_mm=30))
    code, check = told(capsys, bag, "--board", BOARD)
    assert code == 1
    assert any("no pose of the camera explains" in problem for problem in check["problems"])


def test_a_picture_taken_on_the_way_is_not_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    bag = record(tmp_path / "moving.mcap", Scene(NONE, moving=True, views=VIEWS[:6]))
    code, check = told(capsys, bag, "--board", BOARD)
    assert code == 0
    assert "5 pictures: the arm was moving" in check["not_used"]


# --- a known point -------------------------------------------------------------------------------


def corner(number: int, view: int) -> tuple[str, str]:
    """A corner of the board: its place in base_link and its pixel, as one types them."""
    point = CHESSBOARD.corners_m[number]
    T = VIEWS[view]
    (pixel,) = LENS.project([T[:3, :3] @ point + T[:3, 3]])
    place = T_BASE_BOARD[:3, :3] @ point + T_BASE_BOARD[:3, 3]
    return ",".join(f"{x:.5f}" for x in place), ",".join(f"{x:.3f}" for x in pixel)


@pytest.mark.parametrize("view", [0, 3])
def test_a_known_point_is_told_with_its_error(
    view: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    error = motion(6, 0, -8)
    bag = record(tmp_path / "point.mcap", Scene(error, depth=True))
    place, pixel = corner(10, view)
    asked = (f"--point={place}", "--pixel", pixel, "--at", str(view))
    code, check = told(capsys, bag, *asked)
    assert code == 1 and check["fixed_frame"] == "base_link"
    assert check["distance_mm"] == pytest.approx(10.0, abs=0.3)
    assert np.linalg.norm(check["off_mm"]) == pytest.approx(check["distance_mm"])
    assert told(capsys, bag, *asked, "--max-mm", "11", "--max-deg", "2")[0] == 0


def test_a_known_point_that_is_seen_where_it_is_passes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    bag = record(tmp_path / "point.mcap", Scene(NONE, depth=True, views=VIEWS[:2]))
    place, pixel = corner(0, 1)
    code, check = told(capsys, bag, f"--point={place}", "--pixel", pixel, "--at", "1")
    assert (code, check["problems"]) == (0, [])
    assert check["distance_mm"] < 0.3 and check["angle_deg"] < 0.02


def test_a_place_that_cannot_be_compared_does_not_pass(tmp_path: Path):
    bag = record(tmp_path / "point.mcap", Scene(NONE, depth=True, views=VIEWS[:1]))
    pixel = tuple(float(x) for x in corner(0, 0)[1].split(","))
    check = check_point(bag, KnownPoint((math.nan, 0.0, 0.0), pixel), CalibrationLimits())
    assert check.problems


def test_what_a_point_lacks_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    bag = record(tmp_path / "point.mcap", Scene(NONE, views=VIEWS[:2]))
    point = ("--point", "0.5,0,0")
    assert "--pixel" in complaint(capsys, bag, *point)
    assert "3 numbers" in complaint(capsys, bag, "--point", "1,2", "--pixel", "1,2")
    assert "3 numbers" in complaint(capsys, bag, "--point", "nan,0,0", "--pixel", "1,2")
    assert "2 numbers" in complaint(capsys, bag, *point, "--pixel", "inf,2")
    assert "0 or more" in complaint(capsys, bag, *point, "--pixel", "1,2", "--at", "-1")
    assert "no_depth" in complaint(capsys, bag, *point, "--pixel", "320,240")
    late = (*point, "--pixel", "320,240", "--at", "9")
    assert "no picture 9 s after" in complaint(capsys, bag, *late)


# --- bad input -----------------------------------------------------------------------------------


def test_a_board_that_is_never_seen_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    bag = record(tmp_path / "empty.mcap", Scene(NONE, empty=True, views=VIEWS[:4]))
    said = complaint(capsys, bag, "--board", BOARD)
    assert "seen from 0 poses" in said and "4 pictures: the board was not seen" in said


def test_a_recording_without_transforms_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    bag = record(tmp_path / "no_tf.mcap", Scene(NONE, tf=False, views=VIEWS[:3]))
    assert "record /tf and /tf_static" in complaint(capsys, bag, "--board", BOARD)


def test_a_camera_without_intrinsics_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    bag = record(tmp_path / "no_info.mcap", Scene(NONE, info=False, views=VIEWS[:3]))
    assert "no camera_info had arrived" in complaint(capsys, bag, "--board", BOARD)


def test_a_camera_that_does_not_move_asks_for_the_boards_frame(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    bag = record(tmp_path / "stands.mcap", Scene(NONE, moves="board", views=VIEWS[:4]))
    said = complaint(capsys, bag, "--board", BOARD)
    assert "seen from 1 pose " in said and "--board-frame" in said


def test_an_unknown_board_frame_names_the_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    bag = record(tmp_path / "right.mcap", Scene(NONE, views=VIEWS[:3]))
    said = complaint(capsys, bag, "--board", BOARD, "--board-frame", "flange")
    assert "3 pictures: no_transform: frame 'flange' is unknown" in said and "hand" in said
    assert said.count("flange") == 2  # once for all pictures, and where the poses were counted


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("8x6", "not understood"),
        ("8x6x3", "0.001 … 1 metre"),
        ("6x6x0.03", "four"),
        ("8x6x0.0.3", "no length"),
        ("charuco:9x7x0.03x0.04:4X4_50", "do not fit"),
        ("charuco:9x7x0.03x0.02:9X9_50", "4X4_50"),
    ],
)
def test_a_board_that_cannot_be_is_explained(text: str, why: str):
    with pytest.raises(InputError, match=why):
        parse_board(text)
