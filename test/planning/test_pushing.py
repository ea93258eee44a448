"""A push made concrete: its line, its height, what it must not meet, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from played_robot import CUBE, PLATE, Line, PlayedTable, looking, pick, tag
from test_targeting import Eyes, in_base, near, path_of, tool_at

from rynn_brain_ros.planning.holding import Doings
from rynn_brain_ros.sim.tabletop import Thing
from rynn_brain_ros.values import RefusalCode, RigidTransform, Skill, Stage, Vector3

BALL = Thing("blue ball", "blue", "ball", (0.62, -0.25), (0.06, 0.06, 0.06))
TOWER = Thing("green tower", "green", "cylinder", (0.36, -0.1), (0.04, 0.04, 0.09))
WALL = Thing("purple wall", "purple", "cube", (0.64, 0.15), (0.06, 0.06, 0.06))
FREE: Vector3 = (0.45, 0.28, 0.0)


@pytest.fixture(scope="module")
def eyes() -> Eyes:
    return Eyes(PlayedTable((CUBE, BALL, TOWER, WALL, PLATE)))


def to(eyes: Eyes, place_m: Vector3, name: str = "red cube") -> Line:
    def line(query: object) -> str:
        thing = tag("object", query, *eyes.table.box(name))
        return f"Push {thing} to {tag('area', query, eyes.table.pixel(place_m))}."

    return line


def along(eyes: Eyes, *places: Vector3) -> Line:
    def line(query: object) -> str:
        pixels = [eyes.table.pixel(place_m) for place_m in places]
        return f"Push it along {tag('trajectory', query, *pixels)}."

    return line


def test_the_fingers_touch_low_and_stop_where_the_thing_is_then_at_the_end(eyes: Eyes):
    motion = eyes.made(to(eyes, FREE)).motion
    first, last = path_of(motion)[0].translation_m, path_of(motion)[-1].translation_m
    assert 0.01 < first[2] == last[2] < CUBE.size_m[2] / 2 + 0.005
    assert math.dist(last[:2], in_base(FREE)[:2]) == pytest.approx(0.025 + 0.011, abs=0.008)
    assert tool_at(motion, Stage.APPROACH).translation_m == first


def test_what_it_will_have_moved_is_remembered(eyes: Eyes):
    shifted = eyes.made(to(eyes, FREE)).shifted
    assert shifted is not None
    assert near(shifted.from_m, in_base((*CUBE.xy_m, 0.025)), 0.012)
    assert math.dist(shifted.to_m[:2], in_base(FREE)[:2]) < 0.012
    assert shifted.seen.n_pixels > 50


def test_a_slightly_bent_path_is_pushed_straight(eyes: Eyes):
    path = along(eyes, eyes.table.top("red cube"), (0.46, 0.22, 0.0), FREE)
    assert eyes.made(path).motion.skill is Skill.PUSH


def refuses(eyes: Eyes, line: Line, code: RefusalCode, words: str) -> None:
    refusal = eyes.refused(line)
    assert refusal.code is code, refusal
    assert words in refusal.text


def test_a_path_that_bends_is_refused(eyes: Eyes):
    path = along(eyes, eyes.table.top("red cube"), (0.37, 0.2, 0.0), (0.5, 0.33, 0.0))
    refuses(eyes, path, RefusalCode.INCOMPLETE_STEP, "a push goes straight")


def test_what_would_roll_on_is_refused(eyes: Eyes):
    line = to(eyes, (0.62, -0.35, 0.0), "blue ball")
    refuses(eyes, line, RefusalCode.UNSUPPORTED_SKILL, "would roll on")


def test_what_would_fall_over_is_refused(eyes: Eyes):
    line = to(eyes, (0.36, -0.22, 0.0), "green tower")
    refuses(eyes, line, RefusalCode.UNSUPPORTED_SKILL, "push it over")


def test_something_on_the_way_is_refused(eyes: Eyes):
    refuses(eyes, to(eyes, (0.6, 0.15, 0.0)), RefusalCode.OBSTACLE, "on the way of the thing")


BOX = Thing("green box", "green", "cube", (0.45, 0.3), (0.08, 0.08, 0.08))


class Glassy(PlayedTable):
    """Depth has nothing where the box stands: it is of glass, or black and shiny."""

    glassy = BOX.name


@pytest.mark.parametrize("side_m", [0.08, 0.04])
def test_something_without_depth_on_the_way_is_refused(side_m: float):
    box = replace(BOX, size_m=(side_m, side_m, side_m))
    beyond = (0.45, 0.45, 0.0)
    code, words = RefusalCode.OBSTACLE, "not seen to be free"
    unseen = Eyes(Glassy((CUBE, box)))
    refuses(unseen, to(unseen, beyond), code, words)
    seen = Eyes(PlayedTable((CUBE, box)))
    refuses(seen, to(seen, beyond), code, "on the way of the thing")
    none = Eyes(PlayedTable((CUBE,)))
    assert none.made(to(none, beyond)).motion.skill is Skill.PUSH


def test_something_without_depth_beside_the_way_is_let_be():
    aside = replace(BOX, xy_m=(0.3, 0.3), size_m=(0.04, 0.04, 0.04))
    beside = Eyes(Glassy((CUBE, aside)))
    assert beside.made(to(beside, FREE)).motion.skill is Skill.PUSH


@pytest.mark.parametrize("end", [(0.45, 0.3), (0.32, 0.15), (0.6, 0.15), (0.45, 0.0), (0.36, 0.06)])
def test_the_shadow_of_the_thing_itself_hides_no_way(end: tuple[float, float]):
    alone = Eyes(PlayedTable((CUBE,)))
    assert alone.made(to(alone, (*end, 0.0))).motion.skill is Skill.PUSH


def test_something_without_depth_where_the_fingers_would_come_down_is_refused():
    behind = replace(BOX, xy_m=(0.45, 0.07), size_m=(0.04, 0.04, 0.04))
    near_by = Eyes(Glassy((CUBE, behind)))
    refuses(near_by, to(near_by, FREE), RefusalCode.OBSTACLE, "not seen to be free")


class Tight(PlayedTable):
    """The camera is so near that the picture ends right behind the cube."""

    @property
    def T_fixed_camera(self) -> RigidTransform:
        return looking("world", (0.85, 0.415, 0.4), (0.45, 0.415, 0.0))


def test_fingers_may_come_down_where_the_picture_ends_and_a_thing_is_not_pushed_out_of_it():
    tight = Eyes(Tight((CUBE,)))
    assert tight.made(to(tight, FREE)).motion.skill is Skill.PUSH
    out_of_it = to(tight, (0.45, 0.1, 0.0))
    refuses(tight, out_of_it, RefusalCode.OBSTACLE, "not seen to be free")


def test_something_where_the_fingers_would_come_down_is_refused():
    behind = replace(WALL, xy_m=(0.45, 0.07), size_m=(0.04, 0.04, 0.04))
    near_by = Eyes(PlayedTable((CUBE, behind)))
    code, words = RefusalCode.APPROACH_BLOCKED, "where the fingers come down"
    refuses(near_by, to(near_by, FREE), code, words)


class Narrow(PlayedTable):
    """It ends 30 cm to the left."""

    table_m = (1.2, 0.6)


def test_a_push_over_the_tables_edge_is_refused():
    edge = Eyes(Narrow((CUBE,)))
    refuses(edge, to(edge, (0.45, 0.36, 0.0)), RefusalCode.NO_FREE_SPACE, "no table is seen")


def test_pushed_again_only_the_last_end_counts(eyes: Eyes):
    first, second = (eyes.made(to(eyes, end)).shifted for end in (FREE, (0.38, 0.25, 0.0)))
    assert first is not None and second is not None
    assert Doings().shoved(first).shoved(second).shifted == (second,)


def test_a_thing_that_was_pushed_and_then_taken_is_no_longer_where_it_was_pushed_to(eyes: Eyes):
    shifted = eyes.made(to(eyes, FREE)).shifted
    assert shifted is not None
    taken = eyes.made(pick(eyes.table, "red cube")).taken
    assert taken is not None
    assert Doings().shoved(shifted).took(taken).shifted == ()
