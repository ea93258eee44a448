"""What is true of a picture: where each thing is, in the model's own coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.sim.furnishing import KINDS as FURNITURE
from rynn_brain_ros.sim.objects import PAINT, SHAPES
from rynn_brain_ros.values import Point2
from training.nano.network import TOKEN_PX
from training.nano.pictures import MIN_SEEN_PX, Seen

COLORS = tuple(PAINT)
ALL_SHAPES = (*SHAPES, *FURNITURE)
"""Of things on tables and in rooms."""
_MIN_CELL_PX = 28
"""Of 256: less of a thing in a visual token does not make it that thing's."""


SIDES = ("towards the camera", "left", "right")
"""Of a thing, where a place next to it can be."""


@dataclass(frozen=True)
class SeenThing:
    """A thing that is seen: ``point`` within it and box, x and y in 0…1000 of the picture."""

    thing: Seen
    n_px: int
    point: Point2
    box: tuple[float, float, float, float]
    touches_border: bool

    @property
    def kind(self) -> tuple[str, str]:
        return self.thing.kind

    @property
    def numbers(self) -> tuple[float, ...]:
        """Point and box in one."""
        return (*self.point, *self.box)

    def mirrored(self, flipped: bool) -> tuple[float, ...]:
        """The same, as they are in the picture or in its mirror."""
        x, y, x0, y0, x1, y1 = self.numbers
        return (1000 - x, y, 1000 - x1, y0, 1000 - x0, y1) if flipped else self.numbers

    def beside(self, flipped: bool) -> Point2:
        """The free spot next to it, in the picture or in its mirror."""
        assert self.thing.beside is not None  # it was asked for
        x, y = self.thing.beside
        return (1000 - x if flipped else x), y

    def side(self, flipped: bool) -> int:
        """On which of its `SIDES` that spot is, in the picture or in its mirror."""
        (x, y), box = self.beside(flipped), self.mirrored(flipped)[2:]
        left, right, ahead = box[0] - x, x - box[2], y - box[3]
        return int(np.argmax((ahead, left, right)))


@dataclass(frozen=True)
class Truth:
    """``cells`` [rows, columns] of visual tokens: the number of the thing that each one shows."""

    seen: tuple[SeenThing, ...]
    hidden: tuple[Seen, ...]
    """In the scene but hardly to be seen, or not at all."""
    cells: NDArray[np.uint8]
    numbers: NDArray[np.uint8]
    """Which thing each pixel shows."""

    def shows(self, x: float, y: float) -> int:
        """The number of the thing at x, y in 0…1000; 0 none."""
        height, width = self.numbers.shape
        column, row = int(x / 1000 * width), int(y / 1000 * height)
        return int(self.numbers[min(row, height - 1), min(column, width - 1)])

    def number(self, number: int) -> SeenThing | None:
        """A thing, where it is seen."""
        return next((seen for seen in self.seen if seen.thing.number == number), None)

    def middle(self, number: int, flipped: bool = False) -> tuple[int, int]:
        """Row and column of the visual token that shows the middle of a thing that is seen, in the
        picture or in its mirror: of the tokens that show it the one nearest to its point."""
        seen = self.number(number)
        assert seen is not None
        rows, columns = self.cells.shape
        x, y = seen.point[0] / 1000 * columns - 0.5, seen.point[1] / 1000 * rows - 0.5
        shows = np.argwhere(self.cells == number)
        if not len(shows):  # all of it is in tokens that show more of something else
            shows = np.array([[min(int(y + 0.5), rows - 1), min(int(x + 0.5), columns - 1)]])
        row, column = shows[np.linalg.norm(shows - (y, x), axis=1).argmin()]
        return int(row), int(columns - 1 - column if flipped else column)

    def known(self, number: int) -> Seen:
        """A thing that is in the scene, seen or not."""
        things = (*(seen.thing for seen in self.seen), *self.hidden)
        return next(thing for thing in things if thing.number == number)


def truth_of(numbers: NDArray[np.uint8], things: tuple[Seen, ...]) -> Truth:
    """From the map of a picture (which thing each pixel shows) and its things."""
    seen, hidden = [], []
    for thing in things:
        mask = numbers == thing.number
        n_px = int(mask.sum())
        if n_px < MIN_SEEN_PX:
            hidden.append(thing)
        else:
            seen.append(_seen_thing(thing, mask, n_px))
    return Truth(tuple(seen), tuple(hidden), _cells(numbers, seen), numbers)


def _seen_thing(thing: Seen, mask: NDArray[np.bool_], n_px: int) -> SeenThing:
    height, width = mask.shape
    ys, xs = np.nonzero(mask)
    x0, x1, y0, y1 = xs.min(), xs.max() + 1, ys.min(), ys.max() + 1
    x, y = _inside(mask, float(xs.mean()), float(ys.mean()))
    return SeenThing(
        thing,
        n_px,
        ((x + 0.5) / width * 1000, (y + 0.5) / height * 1000),
        (x0 / width * 1000, y0 / height * 1000, x1 / width * 1000, y1 / height * 1000),
        bool(x0 == 0 or y0 == 0 or x1 == width or y1 == height),
    )


def _inside(mask: NDArray[np.bool_], x: float, y: float) -> tuple[float, float]:
    """The mean of its pixels; where that lies near an edge of it or beside it, the inmost pixel."""
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    if depth[round(y), round(x)] >= 0.5 * depth.max():
        return x, y
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return float(column), float(row)


def _cells(numbers: NDArray[np.uint8], seen: list[SeenThing]) -> NDArray[np.uint8]:
    rows, columns = numbers.shape[0] // TOKEN_PX, numbers.shape[1] // TOKEN_PX
    tiles = numbers.reshape(rows, TOKEN_PX, columns, TOKEN_PX)
    cells = np.zeros((rows, columns), np.uint8)
    most = np.full((rows, columns), _MIN_CELL_PX - 1)
    for item in seen:
        share = (tiles == item.thing.number).sum((1, 3))
        cells[share > most] = item.thing.number
        most = np.maximum(most, share)
    for item in seen:  # a thing that lies across four tokens still has the one with its middle
        if not (cells == item.thing.number).any():
            row, column = int(item.point[1] / 1000 * rows), int(item.point[0] / 1000 * columns)
            cells[min(row, rows - 1), min(column, columns - 1)] = item.thing.number
    return cells
