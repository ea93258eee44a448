"""``Done.`` is a claim: what was done is looked for in a new picture, by colours and places."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from played_robot import BALL, CAMERA, CUBE, PLATE, PlayedTable, looking

from rynn_brain_ros.geometry import LiftLimits, Placement, grasp_at, placement_at, segment_at
from rynn_brain_ros.memory import OpenFrames
from rynn_brain_ros.planning.appearance import Appearance
from rynn_brain_ros.planning.confirming import ConfirmConfig, confirm, witness
from rynn_brain_ros.planning.episode import Confirmation
from rynn_brain_ros.planning.holding import Doings, Hand, Taken
from rynn_brain_ros.sim.tabletop import Thing
from rynn_brain_ros.values import Refusal, RefusalCode, RigidTransform, SelectedFrame

THERE = (0.55, -0.02)
BIN = Thing("green block", "green", "cube", (0.35, -0.2), (0.1, 0.1, 0.04))


class Table:
    """A table whose truth a test arranges, and what is believed about it."""

    def __init__(self, *things: Thing) -> None:
        self.played, self.opened = PlayedTable(things), OpenFrames()

    def look(self) -> SelectedFrame:
        self.played.wait(0.1)
        self.played.perception.poll(self.played.now_ns())
        self.played.perception.flush()
        return self.played.perception.show(self.played.perception.buffer.frames(CAMERA)[-1:])[0]

    @property
    def T_world_camera(self) -> RigidTransform:
        return self.played.T_fixed_camera

    def take(self, name: str) -> Taken:
        """As a pick knows it."""
        now = self.look()
        view = self.opened.depth(now)
        assert not isinstance(view, Refusal)
        x, y = self.played.pixel(self.played.top(name))
        uv = (x * 0.319, y * 0.239)
        grasp = grasp_at(uv, None, view, self.T_world_camera)
        segment = segment_at(uv, view, LiftLimits())
        assert not isinstance(grasp, Refusal) and not isinstance(segment, Refusal)
        looks = Appearance.of(self.opened.color(now), segment[1].pixels)
        gx, gy, _ = grasp.T_base_tcp.translation_m
        return Taken(grasp, looks, (gx, gy, (grasp.top_z_m + grasp.support_z_m) / 2))

    def place(self, taken: Taken, xy_m: tuple[float, float], z_m: float = 0.0) -> Placement:
        view = self.opened.depth(self.look())
        assert not isinstance(view, Refusal)
        x, y = self.played.pixel((*xy_m, z_m))
        where = placement_at(
            [(x * 0.319, y * 0.239)], view, self.T_world_camera, taken.grasp.size_m
        )
        assert isinstance(where, Placement), where
        return where

    def put(self, doings: Doings, name: str, xy_m: tuple[float, float], z_m: float = 0.0) -> Doings:
        """A pick and a place as they were planned, without anything moving."""
        doings = doings.took(self.take(name))
        assert doings.held is not None
        return doings.let_go(self.place(doings.held, xy_m, z_m))

    def confirm(self, doings: Doings, config: ConfirmConfig | None = None) -> Confirmation:
        now, pose = self.look(), self.T_world_camera
        return confirm(doings, now, pose, config or ConfirmConfig(), self.opened)


@pytest.fixture
def table() -> Table:
    return Table(CUBE, BALL, PLATE)


def failed(look: Confirmation) -> list[str]:
    return [check.name.split(" (")[0] for check in look.checks if not check.passed]


# --- things put somewhere -------------------------------------------------------------------------


def test_a_thing_seen_at_its_place_and_gone_from_where_it_stood_is_confirmed(table: Table):
    doings = table.put(Doings(), "red cube", THERE)
    table.played.move("red cube", doings.put[0].place.position_m[:2])
    look = table.confirm(doings)
    assert look.confirmed
    assert [check.passed for check in look.checks] == [True, True]


def test_a_thing_on_a_plate_is_confirmed(table: Table):
    doings = table.put(Doings(), "red cube", PLATE.xy_m, PLATE.size_m[2])
    table.played.move("red cube", PLATE.xy_m)
    assert table.confirm(doings).confirmed


def test_a_thing_that_never_moved_is_not_confirmed(table: Table):
    look = table.confirm(table.put(Doings(), "red cube", THERE))
    assert not look.confirmed
    assert failed(look) == ["thing at", "thing gone from"]
    assert "0% of its picture seen there" in look.text


def test_a_thing_that_went_elsewhere_is_not_confirmed(table: Table):
    doings = table.put(Doings(), "red cube", THERE)
    table.played.move("red cube", (0.65, 0.25))
    assert failed(table.confirm(doings)) == ["thing at"]


def test_a_thing_that_is_not_in_the_picture_any_more_is_not_confirmed(table: Table):
    doings = table.put(Doings(), "red cube", THERE)
    del table.played.things["red cube"]
    assert failed(table.confirm(doings)) == ["thing at"]


def test_another_thing_at_the_place_does_not_stand_for_it(table: Table):
    doings = table.put(Doings(), "red cube", THERE)
    table.played.move("red cube", (0.65, 0.25))
    table.played.move("blue ball", doings.put[0].place.position_m[:2])
    assert failed(table.confirm(doings)) == ["thing at"]


def test_a_like_thing_where_it_stood_is_not_confirmed(table: Table):
    doings = table.put(Doings(), "red cube", THERE)
    twin = replace(CUBE, name="twin", xy_m=doings.put[0].place.position_m[:2])
    table.played.things["twin"] = twin
    look = table.confirm(doings)
    assert failed(look) == ["thing gone from"]
    assert "still there, wanted at most" in look.text


def test_a_thing_put_back_may_be_where_it_was(table: Table):
    taken = table.take("red cube")
    del table.played.things["red cube"]
    where = table.place(taken, CUBE.xy_m)
    table.played.things["red cube"] = replace(CUBE, xy_m=where.position_m[:2])
    assert table.confirm(Doings().took(taken).let_go(where)).confirmed


def test_the_colour_at_another_height_is_not_the_thing(table: Table):
    """A red sheet on the table is no red cube on a block."""
    table = Table(CUBE, BIN)
    doings = table.put(Doings(), "red cube", BIN.xy_m, BIN.size_m[2])
    assert doings.put[0].middle_m[2] > 0.05
    del table.played.things["green block"], table.played.things["red cube"]
    sheet = Thing("sheet", "red", "plate", BIN.xy_m, (0.05, 0.05, 0.002))
    table.played.things["sheet"] = sheet
    assert failed(table.confirm(doings, ConfirmConfig(slack_m=0.0))) == ["thing at"]


def test_a_thing_that_fell_beside_its_stack_is_not_confirmed():
    """Right beside it, so that it is near the place in space, and lower."""
    block = replace(BIN, size_m=(0.07, 0.07, 0.08))
    table = Table(CUBE, block)
    doings = table.put(Doings(), "red cube", block.xy_m, block.size_m[2])
    x, y, _ = doings.put[0].middle_m
    beside = replace(CUBE, xy_m=(x + 0.07, y))
    table.played.things["red cube"] = beside
    assert failed(table.confirm(doings, ConfirmConfig(slack_m=0.1))) == ["thing at"]


def witnessed(table: Table, doings: Doings) -> Doings:
    return witness(doings, table.look(), table.T_world_camera, ConfirmConfig(), table.opened)


def test_a_thing_buried_by_another_counts_if_it_was_seen_there_before():
    table = Table(CUBE, BALL, BIN)
    doings = table.put(Doings(), "red cube", BIN.xy_m, BIN.size_m[2])
    x, y, _ = doings.put[0].place.position_m
    table.played.things["red cube"] = replace(CUBE, xy_m=(x, y), size_m=(0.05, 0.05, 0.12))
    seen = witnessed(table, doings)
    assert [put.seen for put in seen.put] == [True]
    buried = replace(seen, put=(*seen.put, replace(seen.put[0], taken=table.take("blue ball"))))
    del table.played.things["red cube"]
    assert "it was seen before" in " ".join(c.found for c in table.confirm(buried).checks)


def test_a_thing_that_was_never_seen_there_is_not_believed_to_be_buried():
    table = Table(CUBE, BALL, BIN)
    doings = table.put(Doings(), "red cube", BIN.xy_m, BIN.size_m[2])
    del table.played.things["red cube"]
    unseen = witnessed(table, doings)
    assert [put.seen for put in unseen.put] == [False]
    buried = replace(
        unseen, put=(*unseen.put, replace(unseen.put[0], taken=table.take("blue ball")))
    )
    assert not any("it was seen before" in c.found for c in table.confirm(buried).checks)


def test_every_thing_counts(table: Table):
    doings = table.put(Doings(), "red cube", THERE)
    table.played.move("red cube", doings.put[0].place.position_m[:2])
    doings = table.put(doings, "blue ball", (0.45, 0.2))
    look = table.confirm(doings)
    assert len(look.checks) == 4
    assert failed(look) == ["thing at", "thing gone from"]
    table.played.move("blue ball", doings.put[1].place.position_m[:2])
    assert table.confirm(doings).confirmed


def test_how_much_must_be_seen_is_a_setting(table: Table):
    doings = table.put(Doings(), "red cube", THERE)
    table.played.move("red cube", doings.put[0].place.position_m[:2])
    x, y = doings.put[0].place.position_m[:2]
    screen = Thing("screen", "purple", "cube", (x + 0.06, y), (0.01, 0.12, 0.06))
    table.played.things["screen"] = screen
    assert table.confirm(doings).confirmed
    assert failed(table.confirm(doings, ConfirmConfig(min_share=1.0))) == ["thing at"]


# --- things taken ---------------------------------------------------------------------------------


def test_a_thing_only_taken_must_be_gone(table: Table):
    doings = Doings().took(table.take("red cube"))
    assert failed(table.confirm(doings)) == ["thing gone from"]
    del table.played.things["red cube"]
    assert table.confirm(doings).confirmed


def test_without_deeds_there_is_nothing_to_confirm(table: Table):
    look = table.confirm(Doings())
    assert not look.confirmed
    assert "nothing was moved" in look.text


# --- looking again --------------------------------------------------------------------------------


def test_without_depth_nothing_is_confirmed(table: Table):
    doings = Doings().took(table.take("red cube"))
    del table.played.things["red cube"]
    table.played.with_depth = False
    look = table.confirm(doings)
    assert not look.confirmed
    assert "cannot look again: no_depth" in look.text


def test_without_a_pose_nothing_is_confirmed(table: Table):
    doings = Doings().took(table.take("red cube"))
    unknown = Refusal(RefusalCode.NO_TRANSFORM, "the camera's pose is unknown")
    look = confirm(doings, table.look(), unknown, ConfirmConfig(), table.opened)
    assert not look.confirmed
    assert "pose is unknown" in look.text


def test_places_are_told_in_the_base_and_not_in_the_camera(table: Table):
    doings = table.put(Doings(), "red cube", THERE)
    table.played.move("red cube", doings.put[0].place.position_m[:2])
    elsewhere = looking("world", (1.15, 0.4, 0.55), (0.5, 0.3, 0.0))
    look = confirm(doings, table.look(), elsewhere, ConfirmConfig(), table.opened)
    assert failed(look) == ["thing at"]


# --- what is remembered ---------------------------------------------------------------------------


def test_a_thing_let_go_is_no_longer_held(table: Table):
    doings = table.put(Doings(), "red cube", THERE)
    assert doings.held is None
    assert len(doings.put) == 1


def test_letting_go_of_nothing_changes_nothing(table: Table):
    where = table.place(table.take("red cube"), THERE)
    assert Doings().let_go(where) == Doings()


def test_a_thing_taken_again_is_no_longer_where_it_had_been_put(table: Table):
    doings = table.put(Doings(), "red cube", THERE)
    table.played.move("red cube", doings.put[0].place.position_m[:2])
    doings = doings.took(table.take("red cube"))
    assert doings.put == ()
    assert doings.held is not None


def test_taking_another_thing_leaves_it_where_it_had_been_put(table: Table):
    doings = table.put(Doings(), "red cube", THERE)
    assert len(doings.took(table.take("blue ball")).put) == 1


def test_taking_a_tall_thing_from_beside_leaves_what_was_put_there():
    bottle = Thing("blue bottle", "blue", "cylinder", (0.45, 0.12), (0.05, 0.05, 0.22))
    table = Table(CUBE, bottle)
    doings = table.put(Doings(), "red cube", THERE)
    assert math.dist(bottle.xy_m, THERE) < bottle.size_m[2]
    assert len(doings.took(table.take("blue bottle")).put) == 1


def test_a_dropped_thing_is_not_held_and_what_was_put_stays_put(table: Table):
    doings = table.put(Doings(), "red cube", THERE)
    ball = table.take("blue ball")
    dropped = doings.took(ball).dropped(ball)
    assert dropped.held is None
    assert dropped.put == doings.put


def test_what_was_dropped_is_missing_until_it_is_taken_again(table: Table):
    doings = table.put(Doings(), "red cube", THERE)
    table.played.move("red cube", doings.put[0].place.position_m[:2])
    ball = table.take("blue ball")
    dropped = doings.took(ball).dropped(ball)
    look = table.confirm(dropped)
    assert not look.confirmed and failed(look) == ["thing that fell"]
    table.played.move("blue ball", (0.4, -0.3))
    again = table.take("blue ball")
    assert dropped.took(again).fallen == ()
    assert dropped.took(table.take("red cube")).fallen == (ball,)


def test_what_was_in_the_hand_before_is_no_deed_of_this_task(table: Table):
    before = Hand(table.take("blue ball")).begin()
    assert before.held is not None and not table.confirm(before).confirmed
    put = before.let_go(table.place(before.held, THERE))
    table.played.move("blue ball", put.put[0].place.position_m[:2])
    assert table.confirm(put).confirmed


def test_a_thing_put_stands_on_its_place(table: Table):
    (put,) = table.put(Doings(), "red cube", PLATE.xy_m, PLATE.size_m[2]).put
    x, y, z = put.middle_m
    assert math.dist((x, y), PLATE.xy_m) < 0.02
    assert z == pytest.approx(PLATE.size_m[2] + 0.025, abs=0.006)


# --- what it looks like ---------------------------------------------------------------------------


def painted(rgb: tuple[int, int, int], size: int = 20) -> np.ndarray:
    return np.full((size, size, 3), rgb, np.uint8)


EVERY = np.array([(u, v) for u in range(20) for v in range(20)])


def test_a_colour_is_known_again_in_another_light():
    looks = Appearance.of(painted((200, 40, 40)), EVERY)
    assert looks.n_pixels == 400
    assert looks.found_in(painted((120, 24, 24))).all()


def test_another_colour_is_not_taken_for_it():
    looks = Appearance.of(painted((200, 40, 40)), EVERY)
    for other in ((40, 40, 200), (40, 200, 40), (160, 150, 145)):
        assert not looks.found_in(painted(other)).any()


def test_only_the_things_own_pixels_count():
    rgb = painted((200, 40, 40))
    rgb[:, 10:] = (40, 40, 200)
    looks = Appearance.of(rgb, EVERY[:200])
    seen = looks.found_in(rgb)
    assert seen[:, :9].all()
    assert not seen[:, 11:].any()
