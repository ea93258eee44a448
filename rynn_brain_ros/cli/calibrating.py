"""``rynn-brain check-calibration``: is the camera where the transforms say it is?"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from rynn_brain_ros.checking.calibration import BoardCheck, check_board
from rynn_brain_ros.checking.known_point import KnownPoint, PointCheck, check_point
from rynn_brain_ros.checking.recorded_camera import CalibrationLimits
from rynn_brain_ros.cli.common import DONE, DRIFTED, path, progress_bar, said
from rynn_brain_ros.config import configure, settings
from rynn_brain_ros.geometry.boards import BOARD_SPELLINGS, parse_board
from rynn_brain_ros.geometry.hand_eye import overall
from rynn_brain_ros.values import InputError, RigidTransform


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_check_calibration)
    parser.description = (
        "Measures how far the camera is from where the transforms say, before anything moves: "
        "with a board seen from several poses of the arm, or with one point whose place is known. "
        "The recording holds the camera's images, camera_info, /tf and /tf_static."
    )
    parser.add_argument("bag", type=path, metavar="BAG")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--board", type=said("--board"), metavar="BOARD", help=BOARD_SPELLINGS)
    what.add_argument(
        "--point", metavar="X,Y,Z", help="a point's place in metres (write --point=-0.1,0.2,0.3)"
    )
    parser.add_argument("--pixel", metavar="U,V", help="where the picture shows the --point")
    parser.add_argument("--at", type=float, metavar="S", help="in the picture S seconds in (first)")
    parser.add_argument("--camera", default="", metavar="TOPIC", help="which colour topic")
    frame = parser.add_mutually_exclusive_group()
    frame.add_argument(
        "--board-frame", default="", metavar="FRAME",
        help="what the board is fixed to: the hand where the camera stands (odom or the base)",
    )  # fmt: skip
    frame.add_argument(
        "--fixed-frame", default="", metavar="FRAME", help="where X,Y,Z are told (odom or the base)"
    )
    for item in settings(CalibrationLimits):
        parser.add_argument(
            f"--{item.name.replace('_', '-')}",
            type=float,
            default=item.default,
            metavar="N",
            help=f"{item.description} ({item.default:g})",
        )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _check_calibration(options: argparse.Namespace) -> int:
    limits = configure(
        CalibrationLimits,
        {item.name: getattr(options, item.name) for item in settings(CalibrationLimits)},
    )
    check = _board(options, limits) if options.board is not None else _point(options, limits)
    if options.json:
        record = board_record(check) if isinstance(check, BoardCheck) else point_record(check)
        print(json.dumps(record, ensure_ascii=False))
    else:
        lines = board_lines(check) if isinstance(check, BoardCheck) else point_lines(check)
        print("\n".join([*lines, *_verdict(check.problems)]))
    return DRIFTED if check.problems else DONE


def _board(options: argparse.Namespace, limits: CalibrationLimits) -> BoardCheck:
    if options.pixel or options.at is not None or options.fixed_frame:
        raise InputError("--pixel, --at and --fixed-frame belong to --point, not to --board")
    board = parse_board(options.board)
    with progress_bar() as progress:
        return check_board(
            options.bag,
            board,
            limits,
            camera=options.camera,
            board_frame=options.board_frame,
            progress=progress,
        )


def _point(options: argparse.Namespace, limits: CalibrationLimits) -> PointCheck:
    if not options.pixel or options.board_frame:
        raise InputError("--point needs --pixel U,V, where the picture shows it (no --board-frame)")
    at_s = options.at or 0.0
    if not 0 <= at_s < math.inf:
        raise InputError(f"--at {at_s:g}: say how many seconds after the first picture, 0 or more")
    x, y, z = _numbers("--point", options.point, 3)
    u, v = _numbers("--pixel", options.pixel, 2)
    return check_point(
        options.bag,
        KnownPoint((x, y, z), (u, v)),
        limits,
        at_s=at_s,
        camera=options.camera,
        fixed_frame=options.fixed_frame,
    )


def _numbers(name: str, text: str, n: int) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != n or not all(map(math.isfinite, numbers)):
        raise InputError(f"{name} {text!r}: give {n} numbers with commas between them")
    return numbers


# --- told ----------------------------------------------------------------------------------------


def board_lines(check: BoardCheck) -> Iterator[str]:
    measured = check.hand_eye
    n = len(measured.residuals)
    yield f"{check.camera}, the board fixed to {check.mount!r}, {n} poses of the arm:"
    yield "    stamp [s]             position  direction  corners    corrected"
    for before, after in zip(measured.residuals, measured.corrected, strict=True):
        yield (
            f"    {before.stamp_ns / 1e9:<20.3f}{before.position_mm:7.1f} mm"
            f"{before.angle_deg:9.2f}°{before.corners_px:8.2f} px"
            f"{after.position_mm:7.1f} mm, {after.angle_deg:.2f}°"
        )
    (mm, deg), (rest_mm, rest_deg) = overall(measured.residuals), overall(measured.corrected)
    yield f"    {'all (RMS)':<20}{mm:7.1f} mm{deg:9.2f}°{rest_mm:18.1f} mm, {rest_deg:.2f}°"
    for text in check.skipped:
        yield f"    not used: {text}"
    x, y, z = (1e3 * float(value) for value in measured.error[:3, 3])
    yield (
        f"the camera is {measured.error_mm:.1f} mm (±{measured.sigma_mm:.1f}) and "
        f"{measured.error_deg:.2f}° (±{measured.sigma_deg:.2f}) from where "
        f"{' → '.join(check.chain)} puts it:"
    )
    yield f"    {x:+.1f} mm right, {y:+.1f} mm down, {z:+.1f} mm forward, as the camera sees it"
    if check.problems:
        yield "what would be right, if it is this one transform (x y z in metres, qx qy qz qw):"
        yield from (f"    {_told(transform)}" for transform in check.remedies)


def point_lines(check: PointCheck) -> Iterator[str]:
    yield f"{check.camera} at {check.stamp_ns / 1e9:.3f} s, pixel {_list(check.point.pixel, 1)}:"
    yield f"    is at    {_list(check.point.place_m, 4)} m in {check.fixed_frame!r}"
    yield f"    seen at  {_list(check.measured_m, 4)} m"
    yield (
        f"    off by   {_list(check.off_mm, 1)} mm = {check.distance_mm:.1f} mm; "
        f"{check.angle_deg:.2f}° beside, {check.depth_mm:+.1f} mm too far"
    )


def _verdict(problems: Sequence[str]) -> Iterator[str]:
    yield from (f"problem: {problem}" for problem in problems)
    yield "verdict: do not move with this" if problems else "verdict: passed"


def _told(T_a_b: RigidTransform) -> str:
    place, turn = _list(T_a_b.translation_m, 5), _list(T_a_b.rotation_xyzw, 6)
    return f"{T_a_b.parent} → {T_a_b.child}:  {place}  {turn}"


def _list(values: Sequence[float], digits: int) -> str:
    return " ".join(f"{value:.{digits}f}" for value in values)


def board_record(check: BoardCheck) -> dict[str, Any]:
    measured = check.hand_eye
    return {
        "camera": check.camera,
        "board_frame": check.mount,
        "pictures": [
            {
                "stamp_ns": before.stamp_ns,
                "position_mm": before.position_mm,
                "angle_deg": before.angle_deg,
                "corners_px": before.corners_px,
                "corrected_mm": after.position_mm,
                "corrected_deg": after.angle_deg,
            }
            for before, after in zip(measured.residuals, measured.corrected, strict=True)
        ],
        "residual": overall(measured.residuals),
        "residual_corrected": overall(measured.corrected),
        "error_mm": measured.error_mm,
        "error_deg": measured.error_deg,
        "sigma_mm": measured.sigma_mm,
        "sigma_deg": measured.sigma_deg,
        "chain": list(check.chain),
        "remedies": [
            {"parent": T.parent, "child": T.child, "xyz": T.translation_m, "xyzw": T.rotation_xyzw}
            for T in check.remedies
        ],
        "not_used": list(check.skipped),
        "problems": list(check.problems),
        "passed": not check.problems,
    }


def point_record(check: PointCheck) -> dict[str, Any]:
    return {
        "camera": check.camera,
        "fixed_frame": check.fixed_frame,
        "stamp_ns": check.stamp_ns,
        "place_m": check.point.place_m,
        "measured_m": check.measured_m,
        "off_mm": check.off_mm,
        "distance_mm": check.distance_mm,
        "angle_deg": check.angle_deg,
        "depth_mm": check.depth_mm,
        "problems": list(check.problems),
        "passed": not check.problems,
    }
