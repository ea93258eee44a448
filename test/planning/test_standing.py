"""Where to stand before a thing: near it, on free ground that was seen, with nothing between."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rynn_brain_ros.geometry import DepthView, PinholeCamera, from_matrix
from rynn_brain_ros.planning.standing import StandingConfig, facing, standing_place
from rynn_brain_ros.safety import GroundMemory, Strip
from rynn_brain_ros.values import Point2, Refusal, RefusalCode

ROOM_M = 0.3
THING = np.array([[3.0, y] for y in (-0.2, 0.0, 0.2)])
HERE: Point2 = (0.0, 0.0)


def looked_down_on(width: int, *solid: tuple[float, float, float, float]) -> GroundMemory:
    """Ground from 0 to 4 m in x and ±2 m in y, but for rectangles (x0, y0, x1, y1) where something
    0.5 m high stands: as a camera 4 m above sees it."""
    f = float(width)
    camera = PinholeCamera(width, width, f, f, (width - 1) / 2, (width - 1) / 2)
    matrix = np.array([[1, 0, 0, 2], [0, -1, 0, 0], [0, 0, -1, 4.0], [0, 0, 0, 1]], np.float64)
    T_base_camera = from_matrix(matrix, "base_link", "camera")
    v, u = np.mgrid[0:width, 0:width]
    depth = np.full((width, width), 4.0, np.float32)
    for x0, y0, x1, y1 in solid:
        x, y = 2 + (u - camera.cx) / f * 3.5, -(v - camera.cy) / f * 3.5
        depth[(x0 <= x) & (x <= x1) & (y0 <= y) & (y <= y1)] = 3.5
    memory = GroundMemory()
    at_home = from_matrix(np.eye(4), "odom", "base_link")
    memory.see(DepthView(depth, camera), T_base_camera, at_home, Strip(0.6, 1.0))
    return memory


def place_in(memory: GroundMemory, **settings: float) -> Point2 | Refusal:
    return standing_place(THING, HERE, memory, ROOM_M, StandingConfig(**settings))


BOX = (3.0, -0.25, 3.4, 0.25)


def test_it_is_as_near_as_the_standoff_says():
    place = place_in(looked_down_on(400, BOX))
    assert not isinstance(place, Refusal)
    assert 0.75 <= min(math.dist(place, point) for point in THING) < 0.85


def test_the_standoff_is_a_setting():
    place = place_in(looked_down_on(400, BOX), standoff_m=1.2)
    assert not isinstance(place, Refusal)
    assert 1.2 <= min(math.dist(place, point) for point in THING) < 1.3


def test_what_stands_there_is_stood_beside():
    place = place_in(looked_down_on(400, BOX, (2.0, -0.3, 2.4, 0.3)))
    assert not isinstance(place, Refusal)
    assert abs(place[1]) >= 0.55 or place[0] > 2.7


def test_nothing_stands_between_the_place_and_the_thing():
    """A screen right before the thing: behind it would be nearest, to the side it is seen."""
    place = place_in(looked_down_on(400, BOX, (2.6, -1.2, 2.7, 1.2)))
    assert not isinstance(place, Refusal)
    assert place[0] > 2.7


def test_a_leg_is_not_longer_than_allowed():
    place = place_in(looked_down_on(400, BOX), leg_m=1.5)
    assert not isinstance(place, Refusal)
    assert 1.3 < math.hypot(*place) <= 1.5


def test_no_place_is_better_than_one_that_brings_nothing():
    nowhere = place_in(looked_down_on(400, BOX), gain_m=3.0)
    assert isinstance(nowhere, Refusal) and nowhere.code is RefusalCode.OBSTACLE
    assert "3.00 m away" in nowhere.text


def test_ground_that_was_never_seen_is_not_stood_on():
    assert isinstance(place_in(GroundMemory()), Refusal)


def test_the_base_faces_the_thing():
    pose = facing((2.0, -1.0), THING, "odom", "base_link")
    x, y, z, w = pose.rotation_xyzw
    assert (pose.parent, pose.child, x, y) == ("odom", "base_link", 0.0, 0.0)
    assert 2 * math.atan2(z, w) == pytest.approx(math.pi / 4)
