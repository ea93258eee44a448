"""Places on a rendered table: truth is exact, depth is what a camera measures."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tabletop_views import CAMERA, TableView, cube, round_thing

from rynn_brain_ros.geometry import (
    Capsule,
    DepthView,
    Grasp,
    GraspLimits,
    PlaceKind,
    Placement,
    grasp_at,
    placement_at,
    to_matrix,
)
from rynn_brain_ros.sim.tabletop import Thing
from rynn_brain_ros.values import Refusal, RefusalCode, Vector3

SMALL: Vector3 = (0.04, 0.04, 0.04)


def place(
    view: TableView, *points_m: Vector3, size_m: Vector3 = SMALL, grasp: Grasp | None = None
) -> Placement | Refusal:
    pixels = [view.pixel(point) for point in points_m]
    return placement_at(pixels, view.measured(), view.T_base_camera, size_m, grasp=grasp)


def placed(answer: Placement | Refusal) -> Placement:
    assert isinstance(answer, Placement), answer
    return answer


def code(answer: Placement | Refusal) -> RefusalCode:
    assert isinstance(answer, Refusal), answer
    return answer.code


# --- surfaces


def test_a_free_spot_is_used_as_it_was_pointed_at():
    spot = placed(place(TableView([cube(0.3, 0.15)]), (0.1, -0.05, 0.0)))
    assert spot.kind is PlaceKind.SURFACE
    assert spot.position_m == pytest.approx((0.1, -0.05, 0.0), abs=0.006)
    assert 0 < spot.release_above_m < 0.02


def test_the_nearest_spot_with_room_for_the_fingers_is_found_beside_a_thing():
    neighbour = cube(0.15, 0.0, 0.05)
    spot = placed(place(TableView([neighbour]), (0.15, 0.06, 0.0)))
    held_radius_m = math.hypot(*SMALL[:2]) / 2
    gap_m = math.dist(spot.position_m[:2], neighbour.xy_m) - 0.025
    assert gap_m >= held_radius_m + 0.025
    assert math.dist(spot.position_m[:2], (0.15, 0.06)) < 0.09
    assert spot.clearance_m == pytest.approx(gap_m - held_radius_m, abs=0.012)


def test_a_stray_point_of_the_area_does_not_move_the_place():
    points = [(0.1, 0.0, 0.0), (0.11, 0.01, 0.0), (0.09, 0.0, 0.0), (0.35, 0.2, 0.0)]
    spot = placed(place(TableView([]), *points))
    assert math.dist(spot.position_m[:2], (0.1, 0.0)) < 0.02


def test_a_plate_is_a_surface_at_its_own_height():
    plate = round_thing("plate", 0.15, 0.0, 0.18, 0.012)
    spot = placed(place(TableView([plate]), (0.15, 0.0, 0.012)))
    assert spot.kind is PlaceKind.SURFACE
    assert spot.position_m == pytest.approx((0.15, 0.0, 0.012), abs=0.006)


def test_a_thing_pointed_to_a_plates_border_is_moved_onto_the_plate():
    plate = round_thing("plate", 0.15, 0.0, 0.18, 0.03)
    spot = placed(place(TableView([plate]), (0.15, 0.083, 0.03)))
    away_m = math.dist(spot.position_m[:2], plate.xy_m)
    assert away_m + math.hypot(*SMALL[:2]) / 2 < 0.093
    assert spot.position_m[2] == pytest.approx(0.03, abs=0.003)


def test_a_place_between_things_without_room_is_refused_with_numbers():
    ring = [
        cube(0.15 + 0.09 * math.cos(a), 0.09 * math.sin(a), 0.05, a, height_m=0.02)
        for a in np.arange(8) * math.tau / 8
    ]
    answer = place(TableView(ring), (0.15, 0.0, 0.0), size_m=(0.09, 0.09, 0.05))
    assert code(answer) is RefusalCode.NO_FREE_SPACE
    assert "0.064 m" in str(answer)


def test_what_no_camera_sees_is_not_free():
    """Behind a wall there may be anything."""
    wall = cube(0.05, 0.0, 0.02, width_m=0.3, height_m=0.08)
    view = TableView([wall])
    eye = np.array(view.T_base_camera.translation_m)
    shadow_x = 0.06 + 0.08 * (0.06 - eye[0]) / (eye[2] - 0.08)
    spot = placed(place(view, (shadow_x + 0.012, 0.0, 0.0)))
    assert spot.position_m[0] > shadow_x + 0.02


# --- the robot


def test_the_robot_hovering_over_the_place_is_left_out():
    hand = cube(0.22, 0.0, 0.06, height_m=0.07)
    body = [Capsule((0.22, 0.0, 0.0), (0.22, 0.0, 0.1), 0.06)]
    view = TableView([hand])
    uv = view.pixel((0.12, 0.0, 0.0))
    depth, pose = view.measured(), view.T_base_camera
    with_hand = placed(placement_at([uv], depth, pose, SMALL))
    without = placed(placement_at([uv], depth, pose, SMALL, exclude=body))
    assert without.clearance_m > with_hand.clearance_m


def test_a_place_on_the_robot_is_refused():
    view = TableView([cube(0.2, 0.0, 0.06)])
    uv = view.pixel((0.2, 0.0, 0.06))
    body = [Capsule((0.2, 0.0, 0.0), (0.2, 0.0, 0.1), 0.06)]
    answer = placement_at([uv], view.measured(), view.T_base_camera, SMALL, exclude=body)
    assert code(answer) is RefusalCode.ON_ROBOT


def test_the_hand_has_room_beside_what_is_taller_than_it():
    """The fingers alone would fit: the hand is wider than they are, and the bottle taller."""
    grasp = grasped(TableView([cube(0.1, -0.2, 0.04)]), (0.1, -0.2, 0.04))
    closing = to_matrix(grasp.T_base_tcp)[:2, 1]
    bottle = round_thing("cylinder", 0.1, 0.05, 0.06, 0.25)
    view = TableView([bottle])
    for away_m in (0.07, 0.09, 0.11):
        x, y = bottle.xy_m + away_m * closing
        near = placed(place(view, (x, y, 0.0), size_m=grasp.size_m))
        assert gap_m(near, bottle, closing) < 0
        spot = placed(place(view, (x, y, 0.0), size_m=grasp.size_m, grasp=grasp))
        assert gap_m(spot, bottle, closing) > 0
        assert math.dist(spot.position_m[:2], (x, y)) < 0.15


def test_a_tall_neighbour_of_a_stack_is_in_the_hands_way():
    grasp = grasped(TableView([cube(0.1, -0.2, 0.04)]), (0.1, -0.2, 0.04))
    closing = to_matrix(grasp.T_base_tcp)[:2, 1]
    under = cube(0.1, 0.05, 0.05)
    x, y = np.array(under.xy_m) + 0.1 * closing
    view = TableView([under, round_thing("cylinder", x, y, 0.05, 0.25)])
    on_top = (*under.xy_m, 0.05)
    assert placed(place(view, on_top, size_m=grasp.size_m)).kind is PlaceKind.STACK
    answer = place(view, on_top, size_m=grasp.size_m, grasp=grasp)
    assert code(answer) is RefusalCode.APPROACH_BLOCKED
    assert "where the hand goes" in str(answer)


def grasped(view: TableView, at_m: Vector3) -> Grasp:
    grasp = grasp_at(view.pixel(at_m), None, view.measured(), view.T_base_camera)
    assert isinstance(grasp, Grasp), grasp
    return grasp


def gap_m(spot: Placement, thing: Thing, closing: np.ndarray) -> float:
    """From the hand, its long side along ``closing``, to an upright round thing."""
    away = np.subtract(thing.xy_m, spot.position_m[:2])
    along, across = abs(away @ closing), abs(away @ (-closing[1], closing[0]))
    hand = GraspLimits()
    beyond = (max(0, along - hand.hand_length_m / 2), max(0, across - hand.hand_width_m / 2))
    return math.hypot(*beyond) - thing.size_m[0] / 2


# --- containers


@pytest.mark.parametrize("pointed", ["bottom", "rim", "wall"])
def test_a_container_is_filled_at_its_middle_wherever_it_is_pointed_at(pointed: str):
    view = TableView([])
    view.add_cup(0.15, 0.02, 0.08, 0.05, 0.006)
    points = {
        "bottom": (0.19, 0.02, 0.006),
        "rim": (0.15, 0.097, 0.05),
        "wall": (0.15 + 0.074, 0.02, 0.03),
    }
    spot = placed(place(view, points[pointed]))
    assert spot.kind is PlaceKind.CONTAINER
    assert math.dist(spot.position_m[:2], (0.15, 0.02)) < 0.006
    assert spot.radius_m == pytest.approx(0.074, abs=0.005)


def test_things_are_let_go_over_a_containers_rim():
    view = TableView([])
    view.add_cup(0.15, 0.02, 0.08, 0.05, 0.006)
    spot = placed(place(view, (0.15, 0.02, 0.006)))
    assert 0.05 < spot.position_m[2] + spot.release_above_m < 0.075
    assert spot.position_m[2] < 0.015


def test_a_container_that_holds_something_is_still_met_at_its_middle():
    view = TableView([round_thing("ball", 0.13, 0.0, 0.04, 0.04)])
    view.add_cup(0.15, 0.02, 0.08, 0.05, 0.006)
    spot = placed(place(view, (0.17, 0.04, 0.006)))
    assert spot.kind is PlaceKind.CONTAINER
    assert math.dist(spot.position_m[:2], (0.15, 0.02)) < 0.006


def test_a_thing_larger_than_the_opening_is_refused():
    view = TableView([])
    view.add_cup(0.15, 0.02, 0.04, 0.07, 0.005)
    answer = place(view, (0.15, 0.057, 0.07), size_m=(0.07, 0.06, 0.05))
    assert code(answer) is RefusalCode.NO_FREE_SPACE
    assert "opening" in str(answer)


def test_where_a_container_is_wanted_a_bare_table_is_none():
    view = TableView([])
    uv = view.pixel((0.1, 0.0, 0.0))
    answer = placement_at([uv], view.measured(), view.T_base_camera, SMALL, container=True)
    assert code(answer) is RefusalCode.NO_FREE_SPACE


# --- stacking


@pytest.mark.parametrize("yaw", [0.0, 0.5, 1.1])
def test_a_thing_is_stacked_over_the_middle_of_a_cube(yaw: float):
    below = cube(0.15, -0.03, 0.05, yaw)
    spot = placed(place(TableView([below]), (0.16, -0.02, 0.05)))
    assert spot.kind is PlaceKind.STACK
    assert spot.position_m == pytest.approx((0.15, -0.03, 0.05), abs=0.003)


def test_the_table_right_beside_a_cube_is_not_its_top():
    below = cube(0.15, 0.0, 0.05)
    spot = placed(place(TableView([below]), (0.121, 0.0, 0.0)))
    assert spot.kind is PlaceKind.SURFACE
    assert spot.position_m[2] == pytest.approx(0.0, abs=0.003)


def test_nothing_is_put_on_a_ball():
    ball = round_thing("ball", 0.15, 0.0, 0.06, 0.06)
    answer = place(TableView([ball]), (0.15, 0.0, 0.06))
    assert code(answer) is RefusalCode.NO_FREE_SPACE
    assert "round" in str(answer)


def test_a_top_too_small_to_stand_on_is_refused():
    below = cube(0.15, 0.0, 0.025, height_m=0.06)
    answer = place(TableView([below]), (0.15, 0.0, 0.06), size_m=(0.07, 0.06, 0.05))
    assert code(answer) is RefusalCode.NO_FREE_SPACE


def test_a_higher_neighbour_leaves_no_room_for_the_fingers_on_a_top():
    below, tall = cube(0.15, 0.0, 0.05), cube(0.15, 0.06, 0.05, height_m=0.1)
    answer = place(TableView([below, tall]), (0.15, -0.01, 0.05))
    assert code(answer) is RefusalCode.NO_FREE_SPACE
    assert "fingers" in str(answer)


# --- depth


def test_a_place_without_depth_is_refused():
    view = TableView([])
    nothing = DepthView(np.full_like(view.measured().depth_m, np.nan), CAMERA)
    answer = placement_at([view.pixel((0.1, 0.0, 0.0))], nothing, view.T_base_camera, SMALL)
    assert code(answer) is RefusalCode.NO_DEPTH


def test_an_area_without_points_is_refused():
    view = TableView([])
    answer = placement_at([], view.measured(), view.T_base_camera, SMALL)
    assert code(answer) is RefusalCode.INCOMPLETE
