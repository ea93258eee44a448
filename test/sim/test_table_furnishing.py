"""Beads in a mug, a drawer in a chest, and a person who takes what the hand holds."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

pytest.importorskip("mujoco")

from rynn_brain_ros.sim.table import TableWorld
from rynn_brain_ros.sim.table_furnishing import DRAWER, TRAVEL_M, Drawer, Filling
from rynn_brain_ros.sim.table_scene import TableScene
from rynn_brain_ros.sim.tabletop import Thing

MUG = Thing("red mug", "red", "mug", (0.5, -0.1), (0.068, 0.068, 0.075))
BOWL = Thing("blue bowl", "blue", "bowl", (0.5, 0.15), (0.16, 0.16, 0.05))
FULL = TableScene((MUG, BOWL), fillings=(Filling("red mug", "yellow", count=10),))


def test_beads_lie_in_their_vessel_and_nowhere_else():
    world = TableWorld(FULL)
    world.step(0.5)
    assert (world.filled("red mug"), world.filled("blue bowl")) == (10, 0)


def test_a_table_without_beads_has_none():
    assert TableWorld(replace(FULL, fillings=())).filled("red mug") == 0


@pytest.mark.parametrize("out_m", [0.0, 0.07])
def test_a_drawer_stays_where_it_is_left(out_m: float):
    world = TableWorld(TableScene((), drawer=Drawer(out_m=out_m)))
    world.step(0.5)
    assert world.drawer_out_m() == pytest.approx(out_m, abs=1e-3)


def test_a_drawer_ends_at_its_stop():
    world = TableWorld(TableScene((), drawer=Drawer()))
    for _ in range(40):
        world.data.joint(DRAWER).qfrc_applied[:] = 8.0
        world.step(0.05)
    assert world.drawer_out_m() == pytest.approx(TRAVEL_M, abs=5e-3)


def test_a_table_without_a_drawer_says_so():
    assert math.isnan(TableWorld(TableScene((MUG,))).drawer_out_m())


def test_a_person_takes_nothing_from_an_empty_hand():
    world = TableWorld(FULL)
    before = world.things()["red mug"]
    world.take_from_hand()
    assert world.given == frozenset()
    assert world.things()["red mug"].translation_m == before.translation_m
