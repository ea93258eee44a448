"""A floor plan in cells and the shortest way across it.

`Grid` means what nav_msgs/OccupancyGrid means. `plan_path` is A* (Hart, Nilsson and Raphael, 1968)
over the eight neighbours of each cell, never cutting a corner, with its bends pulled straight.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.values import Point2, Refusal, RefusalCode

Cell = tuple[int, int]
"""(row, column): y first, as the data lies."""

FREE, OCCUPIED, UNKNOWN = 0, 100, -1

_EPSILON_CELLS = 1e-9
_DIAGONAL = 2.0**0.5


@dataclass(frozen=True, eq=False)
class Grid:
    """``data`` int8 [rows, columns]: −1 unknown, 0 free … 100 occupied. Row 0 lies along the
    map's x axis at the bottom; ``origin_m`` is the outer corner of cell (0, 0) on the map."""

    resolution_m: float
    origin_m: Point2
    data: NDArray[np.int8] = field(repr=False)

    @property
    def free(self) -> NDArray[np.bool_]:
        """Known and free, [rows, columns]."""
        return np.asarray(self.data == FREE)

    def cell_of(self, xy_m: Point2) -> Cell:
        """The cell that a place lies in, which may be outside the grid."""
        x, y = self._in_cells(xy_m)
        return (math.floor(y), math.floor(x))

    def center_of(self, cell: Cell) -> Point2:
        row, column = cell
        x, y = self.origin_m
        return (x + (column + 0.5) * self.resolution_m, y + (row + 0.5) * self.resolution_m)

    def is_free(self, cell: Cell) -> bool:
        """False outside the grid."""
        rows, columns = self.data.shape
        row, column = cell
        return 0 <= row < rows and 0 <= column < columns and bool(self.data[cell] == FREE)

    def inflated(self, radius_m: float) -> Grid:
        """A disc of ``radius_m`` whose middle is at any free cell's centre meets nothing occupied:
        every other cell that was free is occupied."""
        reach = math.ceil(radius_m / self.resolution_m + 0.5)
        rows, columns = self.data.shape
        solid = np.pad(self.data > FREE, reach)
        near = np.zeros((rows, columns), bool)
        for dr in range(-reach, reach + 1):
            for dc in range(-reach, reach + 1):
                gap = math.hypot(max(abs(dr) - 0.5, 0.0), max(abs(dc) - 0.5, 0.0))
                if gap * self.resolution_m < radius_m:
                    near |= solid[reach + dr :, reach + dc :][:rows, :columns]
        data = np.where(near & (self.data == FREE), OCCUPIED, self.data)
        return Grid(self.resolution_m, self.origin_m, data.astype(np.int8))

    def line_is_free(self, a_m: Point2, b_m: Point2) -> bool:
        """Whether every cell that the straight line from a to b touches, even at a corner, is
        free."""
        (xa, ya), (xb, yb) = sorted((self._in_cells(a_m), self._in_cells(b_m)))
        rows, columns = self.data.shape
        left, right = math.floor(xa - _EPSILON_CELLS), math.floor(xb + _EPSILON_CELLS)
        is_steep = xb - xa < _EPSILON_CELLS
        for column in range(left, right + 1):
            x_in, x_out = max(column, xa), min(column + 1, xb)
            y_in = ya if is_steep else ya + (yb - ya) * (x_in - xa) / (xb - xa)
            y_out = yb if is_steep else ya + (yb - ya) * (x_out - xa) / (xb - xa)
            bottom = math.floor(min(y_in, y_out) - _EPSILON_CELLS)
            top = math.floor(max(y_in, y_out) + _EPSILON_CELLS)
            if bottom < 0 or top >= rows or not 0 <= column < columns:
                return False
            if (self.data[bottom : top + 1, column] != FREE).any():
                return False
        return True

    def nearest_free(self, xy_m: Point2, tolerance_m: float) -> Cell | None:
        """The free cell whose centre is nearest to a place, at most ``tolerance_m`` away; the
        place's own cell where that is free."""
        own = self.cell_of(xy_m)
        if self.is_free(own):
            return own
        cells = np.argwhere(self.free)
        centers = (cells[:, ::-1] + 0.5) * self.resolution_m + np.array(self.origin_m)
        distances = np.linalg.norm(centers - np.array(xy_m), axis=1)
        if not len(cells) or distances.min() > tolerance_m:
            return None
        row, column = cells[int(np.argmin(distances))]
        return (int(row), int(column))

    def _in_cells(self, xy_m: Point2) -> Point2:
        x, y = self.origin_m
        return ((xy_m[0] - x) / self.resolution_m, (xy_m[1] - y) / self.resolution_m)


def plan_path(
    grid: Grid, start_m: Point2, goal_m: Point2, tolerance_m: float = 0.3
) -> tuple[Point2, ...] | Refusal:
    """The corners of a short way on the map, from ``start_m`` to ``goal_m``, both included.

    ``grid`` is inflated by the robot's radius already. Where start or goal is not free, the
    nearest free cell within ``tolerance_m`` takes its place: the way then ends at that cell's
    centre, or leads there from the start first. Every other part of it crosses free cells only.
    OBSTACLE where there is no way, or nothing free near enough.
    """
    if not all(map(math.isfinite, (*start_m, *goal_m))):
        return _refuse(start_m, goal_m, "a coordinate is not a number")
    start, goal = (grid.nearest_free(place, tolerance_m) for place in (start_m, goal_m))
    if start is None or goal is None:
        what = "start" if start is None else "goal"
        return _refuse(start_m, goal_m, f"nothing is free within {tolerance_m:.2f} m of the {what}")
    cells = _search(grid.free, start, goal)
    if cells is None:
        return _refuse(start_m, goal_m, "what stands between them leaves no gap")
    places = [grid.center_of(cell) for cell in cells]
    last = goal_m if grid.is_free(grid.cell_of(goal_m)) else places[-1]
    if grid.is_free(grid.cell_of(start_m)):
        return _straightened(grid, [start_m, *places[1:-1], last])
    return (start_m, *_straightened(grid, [places[0], *places[1:-1], last]))


def path_length_m(path: tuple[Point2, ...]) -> float:
    return sum(math.dist(a, b) for a, b in pairwise(path))


def _refuse(start_m: Point2, goal_m: Point2, why: str) -> Refusal:
    ends = "({:.2f}, {:.2f}) to ({:.2f}, {:.2f})".format(*start_m, *goal_m)
    return Refusal(RefusalCode.OBSTACLE, f"no way from {ends} m on the map: {why}")


def _search(free: NDArray[np.bool_], start: Cell, goal: Cell) -> list[Cell] | None:
    """A*; among equally good ways always the same one."""
    rows = np.pad(free, 1).tolist()
    queue: list[tuple[float, float, Cell]] = [(_octile(start, goal), 0.0, start)]
    cost, parent = {start: 0.0}, {start: start}
    closed: set[Cell] = set()
    while queue:
        _, _, cell = heapq.heappop(queue)
        if cell == goal:
            return _walk_back(parent, goal)
        if cell in closed:
            continue
        closed.add(cell)
        for neighbour, length in _neighbours(rows, cell):
            new = cost[cell] + length
            if new < cost.get(neighbour, math.inf):
                cost[neighbour], parent[neighbour] = new, cell
                heapq.heappush(queue, (new + _octile(neighbour, goal), -new, neighbour))
    return None


def _neighbours(rows: list[list[bool]], cell: Cell) -> Iterator[tuple[Cell, float]]:
    """Free neighbours and how far they are, in cells; ``rows`` has a border of one cell."""
    row, column = cell
    up, own, down = rows[row + 2], rows[row + 1], rows[row]
    here = column + 1
    for line, dr in ((up, 1), (down, -1)):
        if line[here]:
            yield (row + dr, column), 1.0
    for dc in (-1, 1):
        if not own[here + dc]:
            continue
        yield (row, column + dc), 1.0
        for line, dr in ((up, 1), (down, -1)):
            if line[here] and line[here + dc]:
                yield (row + dr, column + dc), _DIAGONAL


def _octile(a: Cell, b: Cell) -> float:
    """The length of the shortest way over eight neighbours when nothing stands in it."""
    dr, dc = abs(a[0] - b[0]), abs(a[1] - b[1])
    return max(dr, dc) + (_DIAGONAL - 1.0) * min(dr, dc)


def _walk_back(parent: dict[Cell, Cell], goal: Cell) -> list[Cell]:
    cells = [goal]
    while parent[cells[-1]] != cells[-1]:
        cells.append(parent[cells[-1]])
    return cells[::-1]


def _straightened(grid: Grid, path: list[Point2]) -> tuple[Point2, ...]:
    """Without the corners that can be passed by in a straight, free line."""
    kept = [path[0]]
    for previous, place in pairwise(path):
        if previous != kept[-1] and not grid.line_is_free(kept[-1], place):
            kept.append(previous)
    kept.append(path[-1])
    return tuple(kept)
