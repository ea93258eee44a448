"""The floor plan in cells, and ways across it."""

from __future__ import annotations

import math
from collections import deque
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rynn_brain_ros.sim.grid import FREE, OCCUPIED, UNKNOWN, Grid, path_length_m, plan_path
from rynn_brain_ros.values import Refusal, RefusalCode

RESOLUTION_M = 0.1
ORIGIN_M = (-1.0, -2.0)


def grid_of(rows: list[str]) -> Grid:
    """From a drawing, top row first: # occupied, ? unknown, anything else free."""
    signs = {"#": OCCUPIED, "?": UNKNOWN}
    data = np.array([[signs.get(sign, FREE) for sign in row] for row in reversed(rows)], np.int8)
    return Grid(RESOLUTION_M, ORIGIN_M, data)


def place(grid: Grid, row: int, column: int) -> tuple[float, float]:
    return grid.center_of((row, column))


@st.composite
def random_grids(draw: st.DrawFn) -> Grid:
    seed = draw(st.integers(0, 2**32 - 1))
    share = draw(st.sampled_from((0.0, 0.1, 0.2, 0.35)))
    data = np.where(np.random.default_rng(seed).random((16, 20)) < share, OCCUPIED, FREE)
    data[0, 0] = data[15, 19] = FREE
    return Grid(RESOLUTION_M, ORIGIN_M, data.astype(np.int8))


def shortest_over_cells_m(grid: Grid, start: tuple[int, int]) -> dict[tuple[int, int], float]:
    """Bellman-Ford over eight neighbours without cut corners: slow and plain."""
    cost = {start: 0.0}
    changed = deque([start])
    while changed:
        row, column = changed.popleft()
        for dr, dc in ((a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if (a, b) != (0, 0)):
            touched = [(row + dr, column + dc), (row + dr, column), (row, column + dc)]
            new = cost[(row, column)] + math.hypot(dr, dc) * grid.resolution_m
            if all(map(grid.is_free, touched)) and new < cost.get(touched[0], math.inf) - 1e-9:
                cost[touched[0]] = new
                changed.append(touched[0])
    return cost


def test_a_cell_and_its_centre_agree():
    grid = grid_of(["...", "..."])
    assert grid.center_of((1, 2)) == pytest.approx((-0.75, -1.85))
    assert grid.cell_of((-0.75, -1.85)) == (1, 2)


@settings(max_examples=60, deadline=None)
@given(random_grids(), st.floats(0.01, 0.35))
def test_a_disc_on_a_free_inflated_cell_meets_nothing(grid: Grid, radius_m: float):
    solid = np.argwhere(grid.data == OCCUPIED)
    for cell in np.argwhere(grid.inflated(radius_m).free):
        gaps = np.maximum(np.abs(solid - cell) - 0.5, 0.0) * RESOLUTION_M
        assert (np.linalg.norm(gaps, axis=1) >= radius_m - 1e-9).all()


def test_inflation_takes_no_more_than_it_must():
    grown = grid_of([".......", ".......", "...#...", ".......", "......."]).inflated(0.1)
    assert int((grown.data == OCCUPIED).sum()) == 9


def test_inflation_leaves_the_unknown_unknown():
    assert (grid_of(["?#?"]).inflated(0.2).data == [[UNKNOWN, OCCUPIED, UNKNOWN]]).all()


@settings(max_examples=100, deadline=None)
@given(random_grids())
def test_a_way_never_touches_what_is_not_free(grid: Grid):
    path = plan_path(grid, place(grid, 0, 0), place(grid, 15, 19))
    if isinstance(path, Refusal):
        return
    for a, b in pairwise(path):
        for share in np.linspace(0.0, 1.0, 200):
            x, y = (a[k] + share * (b[k] - a[k]) for k in (0, 1))
            assert grid.is_free(grid.cell_of((x, y)))


@settings(max_examples=30, deadline=None)
@given(random_grids())
def test_a_way_is_no_longer_than_the_shortest_over_cells(grid: Grid):
    path = plan_path(grid, place(grid, 0, 0), place(grid, 15, 19))
    shortest_m = shortest_over_cells_m(grid, (0, 0)).get((15, 19))
    assert isinstance(path, Refusal) == (shortest_m is None)
    if not isinstance(path, Refusal):
        assert path_length_m(path) <= shortest_m + 1e-9


def test_an_open_floor_is_crossed_in_one_line():
    grid = grid_of(["." * 20] * 16)
    start, goal = (-0.93, -1.91), (0.77, -0.64)
    assert plan_path(grid, start, goal) == (start, goal)


def test_a_way_does_not_slip_between_two_corners():
    grid = grid_of(["..#", ".#.", "#.."])
    assert isinstance(plan_path(grid, place(grid, 0, 2), place(grid, 2, 0), 0.0), Refusal)


def test_a_way_goes_around_a_corner_and_not_along_its_tip():
    grid = grid_of(["..", ".#"])
    path = plan_path(grid, place(grid, 0, 0), place(grid, 1, 1))
    assert path == (place(grid, 0, 0), place(grid, 1, 0), place(grid, 1, 1))


def test_a_closed_room_is_refused_by_name():
    grid = grid_of(["..#..", "..#..", "..#.."])
    answer = plan_path(grid, place(grid, 0, 0), place(grid, 2, 4))
    assert isinstance(answer, Refusal)
    assert answer.code is RefusalCode.OBSTACLE
    assert "no gap" in answer.text


def test_what_is_unknown_is_not_driven_through():
    grid = grid_of([".?.", ".?.", ".?."])
    assert isinstance(plan_path(grid, place(grid, 0, 0), place(grid, 0, 2)), Refusal)


def test_a_goal_inside_something_becomes_the_nearest_free_place():
    grid = grid_of(["....##", "....##"])
    path = plan_path(grid, place(grid, 0, 0), place(grid, 0, 4))
    assert not isinstance(path, Refusal)
    assert path[-1] == pytest.approx(place(grid, 0, 3))


def test_a_goal_deep_inside_something_is_refused():
    grid = grid_of(["..########"])
    answer = plan_path(grid, place(grid, 0, 0), place(grid, 0, 8), tolerance_m=0.3)
    assert isinstance(answer, Refusal)
    assert "0.30 m of the goal" in answer.text


def test_a_start_that_is_not_free_is_left_by_the_nearest_free_cell():
    grid = grid_of(["#....", "....."])
    path = plan_path(grid, place(grid, 1, 0), place(grid, 1, 4))
    assert not isinstance(path, Refusal)
    assert path[0] == place(grid, 1, 0)
    assert grid.is_free(grid.cell_of(path[1]))


@pytest.mark.parametrize("goal", [(9.0, 0.0), (math.nan, 0.0), (math.inf, 0.0)])
def test_a_goal_off_the_map_is_refused(goal: tuple[float, float]):
    grid = grid_of(["...", "..."])
    assert isinstance(plan_path(grid, place(grid, 0, 0), goal), Refusal)
