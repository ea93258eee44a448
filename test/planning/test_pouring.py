"""A pour made concrete, or refused; and what is believed of it afterwards."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from played_robot import BALL, CUBE, PLATE, Line, PlayedTable, tag
from test_targeting import Eyes

from rynn_brain_ros.geometry import DepthView, PinholeCamera, PlaceKind, Placement, SolidKind
from rynn_brain_ros.planning.appearance import Appearance
from rynn_brain_ros.planning.holding import Doings, Poured, Taken
from rynn_brain_ros.planning.pouring import pour_check
from rynn_brain_ros.planning.remeasuring import Shown
from rynn_brain_ros.values import RefusalCode, RigidTransform


@pytest.fixture(scope="module")
def eyes() -> Eyes:
    return Eyes(PlayedTable((CUBE, BALL, PLATE)))


def onto(eyes: Eyes, name: str) -> Line:
    return lambda query: (
        f"Pour it into {tag('area', query, eyes.table.pixel(eyes.table.top(name)))}."
    )


def holding(eyes: Eyes, kind: SolidKind) -> Doings:
    point = eyes.table.pixel(eyes.table.top("red cube"))
    taken = eyes.made(lambda query: f"Pick up {tag('affordance', query, point)}.").taken
    assert taken is not None
    return Doings(Taken(replace(taken.grasp, kind=kind), taken.looks, taken.from_m))


def test_nothing_is_poured_from_an_empty_hand(eyes: Eyes):
    refusal = eyes.refused(onto(eyes, "yellow plate"))
    assert (refusal.code, "nothing in the hand" in refusal.text) == (RefusalCode.OUT_OF_ORDER, True)


def test_nothing_is_poured_from_what_is_no_open_vessel(eyes: Eyes):
    refusal = eyes.refused(onto(eyes, "yellow plate"), holding(eyes, SolidKind.BOX))
    assert (refusal.code, "no open vessel" in refusal.text) == (RefusalCode.OUT_OF_ORDER, True)


@pytest.mark.parametrize("name", ["blue ball", "yellow plate"])
def test_nothing_is_poured_onto_what_is_no_open_vessel(name: str, eyes: Eyes):
    refusal = eyes.refused(onto(eyes, name), holding(eyes, SolidKind.RIM))
    assert refusal.code is RefusalCode.NO_FREE_SPACE
    assert "rim" in refusal.text


# --- afterwards -----------------------------------------------------------------------------------

PIXELS = 120
YELLOW, BLUE = (220, 190, 20), (20, 50, 200)
INTO = Placement((0.0, 0.0, 0.0), 0.05, PlaceKind.CONTAINER, 0.08, 0.05)
FROM_ABOVE = RigidTransform("base", "camera", (0.0, 0.0, 0.5), (1.0, 0.0, 0.0, 0.0))


def bowl_with(n_blue: int) -> Shown:
    """The inside of a yellow bowl from above, half a metre away, with so many blue pixels."""
    camera = PinholeCamera(PIXELS, PIXELS, 200.0, 200.0, PIXELS / 2, PIXELS / 2)
    rgb = np.empty((PIXELS, PIXELS, 3), np.uint8)
    rgb[:] = YELLOW
    rgb[PIXELS // 2, PIXELS // 2 - n_blue // 2 : PIXELS // 2 - n_blue // 2 + n_blue] = BLUE
    depth = np.full((PIXELS, PIXELS), 0.5, np.float32)
    return Shown(DepthView(depth, camera), rgb, FROM_ABOVE)


def poured() -> Poured:
    middle = np.argwhere(np.ones((20, 20), bool)) + PIXELS // 2 - 10
    return Poured(INTO, Appearance.of(bowl_with(0).rgb, middle), 0)


def test_new_colours_within_the_rim_confirm_a_pour():
    assert pour_check(poured(), bowl_with(40)).passed


@pytest.mark.parametrize("n_blue", [0, 8])
def test_where_nothing_new_is_seen_only_the_tilting_is_known(n_blue: int):
    check = pour_check(poured(), bowl_with(n_blue))
    assert not check.passed
    assert "all that is known is that it was tilted over it" in check.found


def test_what_was_in_the_vessel_before_is_not_new():
    before = replace(poured(), strange=40)
    assert not pour_check(before, bowl_with(40)).passed
