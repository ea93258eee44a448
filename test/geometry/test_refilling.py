"""Another thing into a container that one was put into before, on a rendered table."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tabletop_views import TableView, cube, round_thing

from rynn_brain_ros.geometry import (
    Capsule,
    Grasp,
    GraspLimits,
    LiftLimits,
    PlaceKind,
    Placement,
    grasp_at,
    placement_again,
    placement_at,
    to_matrix,
)
from rynn_brain_ros.sim.tabletop import Thing
from rynn_brain_ros.values import Point2, Refusal, RefusalCode, Vector3

SMALL: Vector3 = (0.04, 0.04, 0.04)
BOWL = (0.15, 0.02)
RADIUS_M, HEIGHT_M, WALL_M = 0.08, 0.05, 0.006
FLOOR = (*BOWL, WALL_M)


def seen(*things: Thing, at: Point2 = BOWL, radius_m: float = RADIUS_M) -> TableView:
    view = TableView(things)
    view.add_cup(*at, radius_m, HEIGHT_M, WALL_M)
    return view


def first(view: TableView, at_m: Vector3 = FLOOR) -> Placement:
    """What went into the bowl before."""
    pixels = [view.pixel(at_m)]
    place = placement_at(pixels, view.measured(), view.T_base_camera, SMALL, container=True)
    assert isinstance(place, Placement), place
    return place


def again(
    earlier: Placement,
    view: TableView,
    at_m: Vector3 = FLOOR,
    size_m: Vector3 = SMALL,
    *,
    grasp: Grasp | None = None,
    exclude: tuple[Capsule, ...] = (),
) -> Placement | Refusal | None:
    return placement_again(
        earlier,
        [view.pixel(at_m)],
        view.measured(seed=1),
        view.T_base_camera,
        size_m,
        GraspLimits(),
        LiftLimits(),
        exclude=exclude,
        grasp=grasp,
    )


def placed(answer: Placement | Refusal | None) -> Placement:
    assert isinstance(answer, Placement), answer
    return answer


def code(answer: Placement | Refusal | None) -> RefusalCode:
    assert isinstance(answer, Refusal), answer
    return answer.code


def test_a_second_thing_goes_beside_the_first():
    ball = round_thing("ball", 0.15, 0.02, 0.04, 0.046)
    spot = placed(again(first(seen()), seen(ball), (0.15, 0.02, 0.046)))
    away_m = math.dist(spot.position_m[:2], BOWL)
    assert spot.kind is PlaceKind.CONTAINER
    assert 0.02 < away_m < RADIUS_M - WALL_M - math.hypot(*SMALL[:2]) / 2 + 0.006


def test_a_third_thing_is_measured_by_the_opening_and_not_by_where_the_second_went():
    ball = round_thing("ball", 0.15, 0.02, 0.04, 0.046)
    one = first(seen())
    two = placed(again(one, seen(ball), (0.15, 0.02, 0.046)))
    three = placed(again(two, seen(ball), (0.15, 0.02, 0.046)))
    assert two.opening == three.opening == one.opening
    assert three.position_m == pytest.approx(two.position_m)


def test_another_place_is_not_the_container():
    assert again(first(seen()), seen(), (0.15, -0.15, 0.0)) is None


def test_what_does_not_fit_is_refused_the_second_time_too():
    view = seen(radius_m=0.056)
    answer = again(first(view), view, size_m=(0.16, 0.05, 0.04))
    assert code(answer) is RefusalCode.NO_FREE_SPACE
    assert "opening" in str(answer)


def test_a_tall_neighbour_leaves_the_other_side_of_the_container():
    grasp = grasped(cube(0.1, -0.2, 0.04))
    closing = to_matrix(grasp.T_base_tcp)[:2, 1]
    x, y = BOWL + 0.115 * closing
    crowded = seen(round_thing("cylinder", x, y, 0.05, 0.25))
    near = placed(again(first(seen()), crowded, size_m=grasp.size_m))
    spot = placed(again(first(seen()), crowded, size_m=grasp.size_m, grasp=grasp))
    assert math.dist(near.position_m[:2], BOWL) < 0.006
    assert float(np.subtract(spot.position_m[:2], BOWL) @ closing) < -0.01


def test_a_tall_neighbour_of_a_bowl_as_wide_as_the_thing_is_in_the_hands_way():
    grasp = grasped(cube(0.1, -0.2, 0.04))
    closing = to_matrix(grasp.T_base_tcp)[:2, 1]
    x, y = BOWL + 0.08 * closing
    bowl = seen(radius_m=0.04)
    crowded = seen(round_thing("cylinder", x, y, 0.05, 0.25), radius_m=0.04)
    answer = again(first(bowl), crowded, (*BOWL, WALL_M), grasp.size_m, grasp=grasp)
    assert code(answer) is RefusalCode.APPROACH_BLOCKED


@pytest.mark.parametrize("by_m", [(0.06, 0.0), (-0.03, 0.0), (0.0, 0.04), (0.009, -0.009)])
def test_a_container_that_was_moved_is_filled_where_it_is_now(by_m: Point2):
    x, y = BOWL[0] + by_m[0], BOWL[1] + by_m[1]
    spot = placed(again(first(seen()), seen(at=(x, y)), (x, y, WALL_M)))
    assert spot.kind is PlaceKind.CONTAINER
    assert math.dist(spot.position_m[:2], (x, y)) < 0.006


def test_a_container_that_was_moved_under_a_heap_that_hides_its_rim_is_refused():
    heap = round_thing("cylinder", 0.21, 0.02, 0.04, 0.09)
    answer = again(first(seen()), seen(heap, at=(0.21, 0.02)), (0.21, 0.02, 0.09))
    assert code(answer) is RefusalCode.NO_FREE_SPACE


def test_a_heap_in_a_container_that_stands_where_it_was_stays_below_what_is_let_go():
    heap = round_thing("cylinder", *BOWL, 0.04, 0.09)
    spot = placed(again(first(seen()), seen(heap), (*BOWL, 0.09)))
    assert spot.position_m[2] + spot.release_above_m > 0.09
    assert math.dist(spot.position_m[:2], BOWL) > 0.02


def test_a_container_that_is_gone_is_refused():
    answer = again(first(seen()), TableView([]), (*BOWL, 0.0))
    assert code(answer) is RefusalCode.NO_FREE_SPACE
    assert "rim" in str(answer)


def test_a_robot_over_the_container_is_no_container():
    body = (Capsule((*BOWL, 0.0), (*BOWL, 0.1), 0.06),)
    assert code(again(first(seen()), seen(), exclude=body)) is RefusalCode.ON_ROBOT


def grasped(thing: Thing) -> Grasp:
    view = TableView([thing])
    uv = view.pixel((*thing.xy_m, thing.size_m[2]))
    grasp = grasp_at(uv, None, view.measured(), view.T_base_camera)
    assert isinstance(grasp, Grasp), grasp
    return grasp
