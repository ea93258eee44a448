"""Grasps on a rendered table: truth is exact, depth is what a camera measures."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from tabletop_views import CAMERA, TableView, camera_at, cube, round_thing

from rynn_brain_ros.geometry import (
    Capsule,
    DepthView,
    Grasp,
    GraspLimits,
    LiftLimits,
    SolidKind,
    compose,
    grasp_at,
    to_matrix,
)
from rynn_brain_ros.sim.tabletop import Thing
from rynn_brain_ros.values import Refusal, RefusalCode, RigidTransform


def grasp_of(view: TableView, thing: Thing, seed: int = 0, boxed: bool = True) -> Grasp | Refusal:
    uv = view.pixel((*thing.xy_m, thing.size_m[2]))
    bounds = view.box(thing) if boxed else None
    return grasp_at(uv, bounds, view.measured(seed), view.T_base_camera)


def gripped(answer: Grasp | Refusal) -> Grasp:
    assert isinstance(answer, Grasp), answer
    return answer


def code(answer: Grasp | Refusal) -> RefusalCode:
    assert isinstance(answer, Refusal), answer
    return answer.code


def closing_rad(grasp: Grasp) -> float:
    x, y, _ = to_matrix(grasp.T_base_tcp)[:3, 1]
    return math.atan2(y, x)


def off_m(grasp: Grasp, thing: Thing) -> float:
    return math.dist(grasp.T_base_tcp.translation_m[:2], thing.xy_m)


def turned_by(a: float, b: float, period: float) -> float:
    return abs((a - b + period / 2) % period - period / 2)


# --- truth


@pytest.fixture(scope="module")
def cubes() -> list[tuple[Thing, Grasp]]:
    """A hundred of them, four at a time, seen from anywhere, pointed at with some carelessness."""
    rng = np.random.default_rng(11)
    found = []
    for seed in range(25):
        things = []
        for corner in ((0.0, -0.12), (0.0, 0.12), (0.22, -0.12), (0.22, 0.12)):
            side, wider, height = rng.uniform((0.03, 0.0, 0.03), (0.055, 0.012, 0.06))
            x, y = corner + rng.uniform(-0.03, 0.03, 2)
            yaw = rng.uniform(0, math.pi)
            things.append(cube(x, y, side + wider, yaw, width_m=side, height_m=height))
        view = TableView(things, seconds=rng.uniform(0, 8))
        depth = view.measured(seed)
        for thing in things:
            u, v = view.pixel((*thing.xy_m, thing.size_m[2]))
            uv = (u + rng.uniform(-3, 3), v + rng.uniform(-2, 5))
            found.append((thing, gripped(grasp_at(uv, None, depth, view.T_base_camera))))
    return found


def test_cubes_are_gripped_at_their_middle(cubes: list[tuple[Thing, Grasp]]):
    assert np.percentile([off_m(grasp, thing) for thing, grasp in cubes], 95) < 0.003


def test_the_fingers_close_square_to_a_cubes_sides(cubes: list[tuple[Thing, Grasp]]):
    off = [turned_by(closing_rad(g), thing.yaw_rad, math.pi / 2) for thing, g in cubes]
    assert math.degrees(np.percentile(off, 95)) < 3.0


def test_a_cubes_width_is_measured_between_the_fingers(cubes: list[tuple[Thing, Grasp]]):
    errors = []
    for thing, grasp in cubes:
        along_x = turned_by(closing_rad(grasp), thing.yaw_rad, math.pi) < math.pi / 4
        errors.append(abs(grasp.width_m - thing.size_m[0 if along_x else 1]))
    assert np.percentile(errors, 95) < 0.003


def test_the_predicted_error_covers_the_real_one(cubes: list[tuple[Thing, Grasp]]):
    ratios = [off_m(grasp, thing) / (math.sqrt(2) * grasp.sigma_m) for thing, grasp in cubes]
    assert 0.2 < math.sqrt(np.mean(np.square(ratios))) < 1.5


def test_a_things_height_is_known_for_putting_it_down(cubes: list[tuple[Thing, Grasp]]):
    for thing, grasp in cubes:
        z = grasp.T_base_tcp.translation_m[2]
        assert grasp.bottom_below_tcp_m == pytest.approx(z, abs=0.003)
        assert grasp.size_m[2] == pytest.approx(thing.size_m[2], abs=0.003)


@pytest.mark.parametrize(
    ("shape", "height_m", "kind"),
    [("ball", 0.045, SolidKind.BALL), ("cylinder", 0.09, SolidKind.CYLINDER)],
)
def test_round_things_are_gripped_at_their_middle(shape: str, height_m: float, kind: SolidKind):
    rng = np.random.default_rng(5)
    errors = []
    for seed in range(8):
        spots = np.array([(0.05, 0.17), (0.1, -0.15), (0.3, 0.0)]) + rng.uniform(
            -0.03, 0.03, (3, 2)
        )
        things = [round_thing(shape, x, y, 0.045, height_m) for x, y in spots]
        view = TableView(things, seconds=rng.uniform(0, 8))
        for thing in things:
            grasp = gripped(grasp_of(view, thing, seed))
            assert grasp.kind is kind
            assert grasp.width_m == pytest.approx(0.045, abs=0.004)
            errors.append(off_m(grasp, thing))
    assert np.percentile(errors, 95) < 0.005


@pytest.mark.parametrize("yaw", [0.0, 0.6, 1.4, 2.5])
def test_a_lying_cylinder_is_gripped_across(yaw: float):
    view = TableView([])
    view.add_roll(0.12, 0.03, 0.045, 0.12, yaw)
    uv = view.pixel((0.12, 0.03, 0.045))
    grasp = gripped(grasp_at(uv, None, view.measured(), view.T_base_camera))
    assert grasp.kind is SolidKind.ROLL
    assert math.degrees(turned_by(closing_rad(grasp), yaw + math.pi / 2, math.pi)) < 5
    assert math.dist(grasp.T_base_tcp.translation_m[:2], (0.12, 0.03)) < 0.006
    assert grasp.width_m == pytest.approx(0.045, abs=0.005)


def test_a_cup_is_gripped_at_its_wall_nearest_to_the_point():
    view = TableView([])
    view.add_cup(0.15, 0.0, 0.05, 0.08, 0.006)
    uv = view.pixel((0.15, 0.048, 0.08))
    grasp = gripped(grasp_at(uv, None, view.measured(), view.T_base_camera))
    assert grasp.kind is SolidKind.RIM
    assert math.dist(grasp.T_base_tcp.translation_m[:2], (0.15, 0.047)) < 0.006
    assert turned_by(closing_rad(grasp), math.pi / 2, math.pi) < 0.2
    assert grasp.width_m < 0.015


@pytest.mark.parametrize("boxed", [True, False])
@pytest.mark.parametrize("plate_m", [0.012, 0.02])
def test_a_thing_on_a_plate_is_gripped_without_the_plate(plate_m: float, boxed: bool):
    thing = cube(0.13, 0.01, 0.045, 0.4, height_m=0.045 + plate_m)
    view = TableView([round_thing("plate", 0.15, 0.0, 0.18, plate_m), thing])
    grasp = gripped(grasp_of(view, thing, boxed=boxed))
    assert off_m(grasp, thing) < 0.004
    assert grasp.support_z_m == pytest.approx(plate_m, abs=0.006)


@pytest.mark.parametrize("aside_m", [(0.04, 0.0), (0.08, 0.03), (0.1, 0.1)])
@pytest.mark.parametrize("on_m", [0.0, 0.012])
def test_what_a_tall_thing_stands_on_is_told_from_above(on_m: float, aside_m: tuple[float, float]):
    """The camera sees its top, and parts of its walls."""
    thing = cube(0.15, 0.0, 0.05, 0.3, height_m=0.16 + on_m)
    x, y = np.add(thing.xy_m, aside_m)
    plates = [round_thing("plate", 0.15, 0.0, 0.18, on_m)] if on_m else []
    view = TableView([*plates, thing], T_base_camera=camera_at((x, y, 0.7)))
    grasp = gripped(grasp_of(view, thing, boxed=False))
    assert grasp.support_z_m == pytest.approx(on_m, abs=0.006)


# --- the hand


def test_the_short_side_is_between_the_fingers():
    thing = cube(0.1, 0.0, 0.075, 0.5, width_m=0.03, height_m=0.04)
    grasp = gripped(grasp_of(TableView([thing]), thing))
    assert turned_by(closing_rad(grasp), thing.yaw_rad + math.pi / 2, math.pi) < 0.06
    assert grasp.size_m == pytest.approx((0.075, 0.03, 0.04), abs=0.004)


@pytest.mark.parametrize("natural_rad", [0.0, 1.2, -2.5])
def test_of_two_turns_the_hand_takes_the_one_nearer_to_its_natural_one(natural_rad: float):
    thing = cube(0.1, 0.0, 0.06, 0.9, width_m=0.03)
    view = TableView([thing])
    limits = GraspLimits(natural_yaw_rad=natural_rad)
    uv = view.pixel((0.1, 0.0, 0.06))
    grasp = gripped(grasp_at(uv, None, view.measured(), view.T_base_camera, limits))
    x_axis = to_matrix(grasp.T_base_tcp)[:3, 0]
    assert math.cos(math.atan2(x_axis[1], x_axis[0]) - natural_rad) > -1e-9


def test_the_tool_points_down_in_the_camera_poses_parent():
    thing = cube(0.1, 0.0)
    grasp = gripped(grasp_of(TableView([thing]), thing))
    T = grasp.T_base_tcp
    assert (T.parent, T.child) == ("base_link", "panda_tcp")
    assert to_matrix(T)[:3, 2] == pytest.approx((0, 0, -1))


@pytest.mark.parametrize("height_m", [0.013, 0.03, 0.12])
def test_fingertips_stay_above_the_support_and_reach_no_deeper_than_allowed(height_m: float):
    thing, limits = cube(0.1, 0.0, 0.05, height_m=height_m), GraspLimits()
    grasp = gripped(grasp_of(TableView([thing]), thing))
    tip_m = grasp.bottom_below_tcp_m - limits.tip_below_tcp_m
    assert tip_m >= limits.table_clearance_m - 1e-9
    assert grasp.depth_m <= limits.finger_depth_m + 1e-9


# --- neighbours


def test_a_touching_neighbour_turns_the_hand():
    """Square things that touch: the fingers go where the neighbour is not."""
    thing, other = cube(0.1, 0.0, 0.045), cube(0.1, 0.045, 0.045)
    grasp = gripped(grasp_of(TableView([thing, other]), thing))
    assert turned_by(closing_rad(grasp), 0.0, math.pi) < 0.1
    assert off_m(grasp, thing) < 0.005


def test_neighbours_on_all_sides_block_the_way():
    thing = cube(0.15, 0.0, 0.045)
    others = [cube(0.15, 0.06, 0.045), cube(0.21, 0.0, 0.045)]
    answer = grasp_of(TableView([thing, *others]), thing)
    assert code(answer) is RefusalCode.APPROACH_BLOCKED
    assert "finger" in str(answer)


def test_a_tall_thing_beside_turns_the_hand():
    """It is clear of the fingers, but the palm is wider than the fingers."""
    thing = cube(0.1, 0.0, 0.06, width_m=0.03, height_m=0.03)
    low, tall = cube(0.1, 0.085, 0.03), cube(0.1, 0.085, 0.03, height_m=0.14)
    free = gripped(grasp_of(TableView([thing, low]), thing))
    assert turned_by(closing_rad(free), math.pi / 2, math.pi) < 0.1
    turned = gripped(grasp_of(TableView([thing, tall]), thing))
    assert turned_by(closing_rad(turned), 0.0, math.pi) < 0.1


@pytest.mark.parametrize(("gap_m", "turns"), [(0.002, True), (0.015, False)])
def test_the_palm_keeps_clear_of_a_tall_thing(gap_m: float, turns: bool):
    thing = cube(0.1, 0.0, 0.06, width_m=0.03, height_m=0.03)
    y_m = GraspLimits().hand_length_m / 2 + gap_m + 0.03 / 2
    tall = cube(0.1, y_m, 0.03, height_m=0.1)
    grasp = gripped(grasp_of(TableView([thing, tall]), thing))
    square = 0.0 if turns else math.pi / 2
    assert turned_by(closing_rad(grasp), square, math.pi) < 0.1


def test_the_robot_in_the_picture_is_not_in_its_own_way():
    thing, arm = cube(0.15, 0.0, 0.045), cube(0.15, 0.06, 0.045)
    view = TableView([thing, arm, cube(0.21, 0.0, 0.045)])
    body = [Capsule((0.15, 0.07, 0.0), (0.15, 0.07, 0.06), 0.045)]
    uv = view.pixel((0.15, 0.0, 0.045))
    depth, pose = view.measured(), view.T_base_camera
    assert isinstance(grasp_at(uv, view.box(thing), depth, pose, exclude=body), Grasp)


def test_the_robot_itself_is_not_gripped():
    thing = cube(0.15, 0.0)
    view = TableView([thing])
    body = [Capsule((0.15, 0.0, 0.0), (0.15, 0.0, 0.2), 0.08)]
    uv = view.pixel((0.15, 0.0, 0.05))
    answer = grasp_at(uv, None, view.measured(), view.T_base_camera, exclude=body)
    assert code(answer) is RefusalCode.ON_ROBOT


# --- refusals


def test_a_point_outside_its_things_box_is_ambiguous():
    thing, other = cube(0.1, 0.0), cube(0.1, 0.15)
    view = TableView([thing, other])
    uv = view.pixel((0.1, 0.15, 0.05))
    answer = grasp_at(uv, view.box(thing), view.measured(), view.T_base_camera)
    assert code(answer) is RefusalCode.AMBIGUOUS


def test_a_wide_thing_is_refused_by_name():
    thing = cube(0.1, 0.0, 0.1, width_m=0.09)
    answer = grasp_of(TableView([thing]), thing)
    assert code(answer) is RefusalCode.TOO_WIDE
    assert "opens to 0.080 m" in str(answer)


def test_the_bare_table_is_no_thing():
    view = TableView([cube(0.2, 0.1)])
    uv = view.pixel((0.05, -0.1, 0.0))
    answer = grasp_at(uv, None, view.measured(), view.T_base_camera)
    assert code(answer) is RefusalCode.NO_GRASP


def test_a_sheet_is_too_flat_to_be_gripped():
    thing = Thing("sheet", "red", "cube", (0.1, 0.0), (0.06, 0.06, 0.009), 0.0)
    assert code(grasp_of(TableView([thing]), thing)) is RefusalCode.NO_GRASP


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("degrees", [8, 12, 17])
@pytest.mark.parametrize(
    "thing", [cube(0.15, 0.0, 0.05, 0.3), round_thing("can", 0.15, 0.0, 0.06, 0.1)]
)
def test_a_thing_is_not_gripped_by_a_width_that_is_seen_too_flatly(
    thing: Thing, degrees: int, seed: int
):
    up = math.radians(degrees)
    eye = (0.15 + 0.6 * math.cos(up), 0.0, thing.size_m[2] + 0.6 * math.sin(up))
    view = TableView([thing], T_base_camera=camera_at(eye, degrees))
    uv = view.pixel((*thing.xy_m, thing.size_m[2] - 0.003))
    answer = grasp_at(uv, None, view.measured(seed), view.T_base_camera)
    if degrees < 15:
        assert code(answer) is RefusalCode.NO_GRASP
        assert f"too flatly, from {degrees}°" in str(answer)
    else:
        assert off_m(gripped(answer), thing) < 0.01
        assert gripped(answer).width_m == pytest.approx(thing.size_m[0], abs=0.006)


def test_a_thing_without_depth_is_refused():
    """As glass: the table around it is measured, the thing is not."""
    thing = cube(0.1, 0.0)
    view = TableView([thing])
    depth_m = view.measured().depth_m.copy()
    depth_m[view.z_m < TableView([]).z_m - 1e-6] = np.nan
    uv = view.pixel((0.1, 0.0, 0.03))
    answer = grasp_at(uv, view.box(thing), DepthView(depth_m, CAMERA), view.T_base_camera)
    assert code(answer) in (RefusalCode.NO_DEPTH, RefusalCode.TOO_FEW_VALID)


def test_a_thing_that_leaves_the_picture_is_refused():
    thing = cube(-0.12, 0.18, 0.06)
    view = TableView([thing])
    u, v = view.pixel((-0.12, 0.18, 0.06))
    shift = round(u) - 6  # what is left of the thing's middle is cut off
    depth_m = np.full_like(view.measured().depth_m, np.nan)
    depth_m[:, : depth_m.shape[1] - shift] = view.measured().depth_m[:, shift:]
    camera = replace(CAMERA, cx=CAMERA.cx - shift)
    answer = grasp_at((u - shift, v + 3), None, DepthView(depth_m, camera), view.T_base_camera)
    assert code(answer) is RefusalCode.NO_GRASP
    assert "out of the picture" in str(answer)


def test_a_camera_that_believes_itself_tilted_finds_no_level_support():
    thing = cube(0.1, 0.0)
    view = TableView([thing])
    s = math.sin(math.radians(25) / 2)
    turn = (s, 0.0, 0.0, math.cos(math.radians(25) / 2))
    tilted = compose(RigidTransform("base_link", "base_link", (0, 0, 0), turn), view.T_base_camera)
    answer = grasp_at(view.pixel((0.1, 0.0, 0.05)), None, view.measured(), tilted)
    assert code(answer) is RefusalCode.NO_GRASP
    assert "level" in str(answer)


def test_depth_beyond_the_sensors_range_is_refused():
    thing = cube(0.1, 0.0)
    view = TableView([thing])
    uv = view.pixel((0.1, 0.0, 0.05))
    near_only = LiftLimits(max_range_m=0.3)
    answer = grasp_at(uv, None, view.measured(), view.T_base_camera, lift=near_only)
    assert code(answer) is RefusalCode.DEPTH_OUT_OF_RANGE
