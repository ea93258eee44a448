"""A piece of the floor or of a table seen from above, and what is drawn under everything else."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.values import ImageError, Point2
from rynn_brain_ros.view.svg import element, words

Bounds = tuple[float, float, float, float]
"""Smallest and largest x, smallest and largest y, metres in the base frame."""

WIDTH = 480.0
_LEFT, _RIGHT, _TOP, _BELOW, _TALLEST = 46.0, 12.0, 12.0, 74.0, 460.0
_STEPS_M = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)


@dataclass(frozen=True, eq=False)
class Background:
    """A picture of the surroundings from straight above: uint8 RGB [H, W, 3], its upper left
    corner at (largest x, largest y) of ``bounds_m``: x goes up and y to the left."""

    rgb: NDArray[np.uint8] = field(repr=False)
    bounds_m: Bounds


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What is drawn under a task: the box that targets may lie in, and a picture."""

    workspace_m: Bounds | None = None
    background: Background | None = None


BARE = Surroundings()


@dataclass(frozen=True)
class Plane:
    """Metres seen from above to pixels of the drawing."""

    bounds_m: Bounds
    scale: float

    @property
    def left(self) -> float:
        """The map is centred where it is narrower than the drawing."""
        room = WIDTH - _LEFT - _RIGHT
        return _LEFT + (room - (self.bounds_m[3] - self.bounds_m[2]) * self.scale) / 2

    @property
    def height(self) -> float:
        return _TOP + (self.bounds_m[1] - self.bounds_m[0]) * self.scale + _BELOW

    def at(self, x_m: float, y_m: float) -> Point2:
        _, x1, _, y1 = self.bounds_m
        return (self.left + (y1 - y_m) * self.scale, _TOP + (x1 - x_m) * self.scale)

    def box(self, bounds_m: Bounds) -> tuple[float, float, float, float]:
        """Left, top, width and height in pixels."""
        left, top = self.at(bounds_m[1], bounds_m[3])
        right, bottom = self.at(bounds_m[0], bounds_m[2])
        return (left, top, right - left, bottom - top)

    @property
    def frame(self) -> tuple[float, float, float, float]:
        return self.box(self.bounds_m)


def plane_over(points_m: Sequence[Point2], boxes_m: Sequence[Bounds]) -> Plane:
    """All of them with some air around, and at least half a metre wide and high."""
    xy = [*points_m, *((b[0], b[2]) for b in boxes_m), *((b[1], b[3]) for b in boxes_m)]
    (x0, y0), (x1, y1) = np.min(xy, axis=0).tolist(), np.max(xy, axis=0).tolist()
    air = 0.05 * max(x1 - x0, y1 - y0, 0.5)
    grow_x, grow_y = (air + max(0.0, 0.5 - span) / 2 for span in (x1 - x0, y1 - y0))
    bounds_m = (x0 - grow_x, x1 + grow_x, y0 - grow_y, y1 + grow_y)
    room = WIDTH - _LEFT - _RIGHT
    tallest = _TALLEST / (x1 - x0 + 2 * grow_x)
    return Plane(bounds_m, min(room / (y1 - y0 + 2 * grow_y), tallest))


def background(picture: Background | None, plane: Plane) -> str:
    if picture is None:
        return ""
    rgb = picture.rgb
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise ImageError(
            f"a background of shape {rgb.shape} and type {rgb.dtype} is no picture; "
            "give RGB pixels as uint8 [H, W, 3]"
        )
    bgr = np.ascontiguousarray(rgb[..., ::-1])
    jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 82])[1].tobytes()
    left, top, width, height = plane.box(picture.bounds_m)
    return element(
        "image",
        x=left,
        y=top,
        width=width,
        height=height,
        opacity=0.75,
        preserveAspectRatio="none",
        href=f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}",
    )


def grid(plane: Plane) -> str:
    """Lines at round metres, with the numbers of x at the left and of y below."""
    x0, x1, y0, y1 = plane.bounds_m
    step_m = _round_length(max(x1 - x0, y1 - y0) / 8)
    left, top, width, height = plane.frame
    parts = [_rectangle(plane.frame, stroke_opacity=0.25)]
    for x in _multiples(x0, x1, step_m):
        v = plane.at(x, 0.0)[1]
        parts.append(_grid_line(left, v, left + width, v))
        parts.append(soft(left - 6, v + 4, _metres(x, step_m), text_anchor="end"))
    for y in _multiples(y0, y1, step_m):
        u = plane.at(0.0, y)[0]
        parts.append(_grid_line(u, top, u, top + height))
        parts.append(soft(u, top + height + 15, _metres(y, step_m), text_anchor="middle"))
    parts.append(soft(left, top + height + 32, "← y (left), m"))
    parts.append(_upright(12, top + height / 2, "x (forward), m →"))
    return "".join(parts)


def _grid_line(u0: float, v0: float, u1: float, v1: float) -> str:
    return element("line", x1=u0, y1=v0, x2=u1, y2=v1, stroke="currentColor", stroke_opacity=0.11)


def _upright(u: float, v: float, text: str) -> str:
    turn = f"rotate(-90 {u:.1f} {v:.1f})"
    return soft(u, v, text, text_anchor="middle", transform=turn)


def workspace(bounds_m: Bounds | None, plane: Plane) -> str:
    if bounds_m is None:
        return ""
    left, top, width, _ = plane.box(bounds_m)
    box = _rectangle(plane.box(bounds_m), stroke_opacity=0.55, stroke_dasharray="6 5")
    return box + soft(left + width - 7, top + 16, "workspace", text_anchor="end")


def _rectangle(box: tuple[float, float, float, float], **attributes: str | float) -> str:
    left, top, width, height = box
    return element(
        "rect",
        x=left,
        y=top,
        width=width,
        height=height,
        fill="none",
        stroke="currentColor",
        **attributes,
    )


def scale_bar(plane: Plane) -> str:
    x0, x1, y0, y1 = plane.bounds_m
    length_m = _round_length(max(x1 - x0, y1 - y0) / 6)
    left, top, width, height = plane.frame
    u1, v = left + width, top + height + 28
    u0 = u1 - length_m * plane.scale
    way = f"M{u0:.1f} {v - 4:.1f}v8M{u0:.1f} {v:.1f}H{u1:.1f}m0 -4v8"
    label = f"{length_m:g} m" if length_m >= 1 else f"{100 * length_m:g} cm"
    bar = element("path", d=way, fill="none", stroke="currentColor", stroke_width=1.6)
    return bar + soft(u0 - 7, v + 4, label, text_anchor="end")


def soft(u: float, v: float, text: str, **attributes: str | float) -> str:
    return words(u, v, text, fill_opacity=0.68, **attributes)


def _round_length(about_m: float) -> float:
    return next((step for step in _STEPS_M if step >= about_m), _STEPS_M[-1])


def _multiples(low: float, high: float, step: float) -> list[float]:
    return [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _metres(value: float, step: float) -> str:
    digits = max(0, -math.floor(math.log10(step)))
    return f"{value:.{digits}f}".replace("-", "−")
