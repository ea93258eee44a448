"""Measures of drift: nothing for the same answer, bounded, and symmetric where they can be."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rynn_brain_ros.checking.drift import (
    DriftLimits,
    corner_distance,
    iou,
    measure,
    path_distance,
    set_distance,
)
from rynn_brain_ros.geometry.grasping import angle_between
from rynn_brain_ros.language import format_grounding, parse
from rynn_brain_ros.values import (
    Affordance,
    AnyGrounding,
    Area,
    Box,
    ConfigError,
    ContactPoint,
    FinishReason,
    Reading,
    Task,
    Trajectory,
)

LIMITS = DriftLimits()
DIAGONAL = math.hypot(1000, 1000)
UNITS = st.integers(0, 1000).map(float)
POINTS = st.tuples(UNITS, UNITS)
PATHS = st.lists(POINTS, min_size=1, max_size=10)
CORNERS = st.lists(POINTS, min_size=4, max_size=4)


@st.composite
def boxes(draw: st.DrawFn) -> tuple[float, float, float, float]:
    (xa, ya), (xb, yb) = draw(POINTS), draw(POINTS)
    return (min(xa, xb), min(ya, yb), max(xa, xb), max(ya, yb))


def read(text: str, n_frames: int = 1, task: Task | None = None) -> Reading:
    return parse(text, n_frames, task=task)


def failures(expected: str, got: str, n_frames: int = 1, task: Task | None = None) -> list[str]:
    drift = measure(read(expected, n_frames, task), read(got, n_frames, task), task=task)
    return list(drift.failures(LIMITS))


# --- the measures ---------------------------------------------------------------------------------


@given(boxes(), boxes())
def test_overlap_is_a_share_the_same_both_ways_and_whole_for_itself(a, b):
    assert 0.0 <= iou(a, b) <= 1.0
    assert iou(a, b) == iou(b, a)
    assert iou(a, a) == 1.0
    assert a == b or iou(a, b) < 1.0


def test_overlap_of_half_a_box_moved_by_half():
    assert iou((0, 0, 100, 100), (50, 0, 150, 100)) == pytest.approx(1 / 3)


@pytest.mark.parametrize("distance", [path_distance, set_distance])
@given(a=PATHS, b=PATHS)
def test_distances_are_bounded_the_same_both_ways_and_nothing_to_itself(distance, a, b):
    assert 0.0 <= distance(a, b) <= DIAGONAL + 1e-6
    assert distance(a, b) == pytest.approx(distance(b, a))
    assert distance(a, a) == 0.0


@given(PATHS, st.floats(-50, 50), st.floats(-50, 50))
def test_a_path_moved_as_a_whole_is_as_far_away_as_it_was_moved_at_most(path, du, dv):
    moved = [(u + du, v + dv) for u, v in path]
    assert path_distance(path, moved) <= math.hypot(du, dv) + 1e-6


def test_a_path_driven_backwards_is_another_path():
    assert path_distance([(0, 0), (300, 0)], [(300, 0), (0, 0)]) == pytest.approx(300)


def test_a_path_of_more_points_on_the_same_way_is_the_same():
    assert path_distance([(0, 0), (300, 0)], [(0, 0), (150, 0), (300, 0)]) == pytest.approx(0)


@given(CORNERS, CORNERS, st.integers(0, 3), st.booleans())
def test_corners_may_begin_anywhere_and_go_either_way_round(a, b, shift, backwards):
    turned = b[shift:] + b[:shift]
    turned = turned[::-1] if backwards else turned
    assert corner_distance(a, turned) == pytest.approx(corner_distance(a, b))
    assert corner_distance(a, b) == pytest.approx(corner_distance(b, a))
    assert corner_distance(turned, b) == 0.0


@given(st.floats(-720, 720), st.floats(-720, 720))
def test_angles_are_within_a_quarter_turn_and_a_half_turn_is_none(a, b):
    assert 0.0 <= angle_between(a, b) <= 90.0
    assert angle_between(a, b) == pytest.approx(angle_between(b, a))
    assert angle_between(a, a + 180.0) == pytest.approx(0.0, abs=1e-9)


def test_an_angle_that_one_of_them_does_not_tell_is_the_worst():
    assert angle_between(math.nan, 3.0) == 90.0
    assert angle_between(math.nan, math.nan) == 0.0


# --- whole answers --------------------------------------------------------------------------------


@st.composite
def groundings(draw: st.DrawFn) -> AnyGrounding:
    kind, frame = draw(st.sampled_from((Box, Area, Affordance, Trajectory, ContactPoint))), 1
    n = {Box: 2, Affordance: 1, ContactPoint: 1}.get(kind)
    points = tuple(draw(st.lists(POINTS, min_size=n or 1, max_size=n or 10)))
    tags = {Box: "object", ContactPoint: "grasp pose"}
    more = {"angle_deg": float(draw(st.integers(0, 179)))} if kind is ContactPoint else {}
    return kind(frame, points, (0, 0), tags.get(kind, kind.kind), **more)


@given(st.lists(groundings(), max_size=3))
def test_an_answer_has_not_drifted_from_itself(items):
    reading = read("It is " + " and ".join(map(format_grounding, items)), 2)
    drift = measure(reading, reading)
    assert list(drift.failures(LIMITS)) == []
    assert not any(drift.units) and not any(drift.angles_deg)
    assert all(value == 1.0 for value in drift.ious)
    assert drift.same_words


BOX = "<object> <frame 1>: (100, 100), (300, 300) </object>"
POINT = "<affordance> <frame 1>: (500, 500) </affordance>"


def test_a_point_may_be_fifteen_units_off_and_not_sixteen():
    near = "<affordance> <frame 1>: (509, 512) </affordance>"
    far = "<affordance> <frame 1>: (510, 513) </affordance>"
    assert failures(POINT, near, 2) == []
    assert failures(POINT, far, 2) == ["16.4 of 1000 off, allowed are 15"]


def test_another_key_frame_fails_and_its_coordinates_are_not_compared():
    other = "<affordance> <frame 0>: (0, 0) </affordance>"
    drift = measure(read(POINT, 2), read(other, 2))
    assert drift.frames == (0, 1)
    assert drift.units == ()
    assert "told in another frame" in next(iter(drift.failures(LIMITS)))


def test_a_box_that_overlaps_too_little_fails():
    (failure,) = failures(BOX, BOX.replace("300)", "270)"), 2)
    assert failure == "overlap 0.850, at least 0.9 is needed"


def test_a_grasp_turned_fails_and_one_turned_by_half_a_turn_does_not():
    grasp = "<grasp pose> (476, 428), {} </grasp pose>"
    assert failures(grasp.format(2), grasp.format(178.5)) == []
    assert failures(grasp.format(2), grasp.format(32)) == ["turned by 30.0°, allowed are 10°"]


def test_pointing_where_nothing_was_and_nothing_where_something_was_both_fail():
    for pair in ((BOX, "<no object>"), ("<no object>", BOX)):
        assert "one says that it is not there, the other does not" in failures(
            *pair, 2, Task.OBJECT
        )
    assert failures("<no object>", "<no object>", 2, Task.OBJECT) == []


def test_missing_and_unexpected_groundings_are_counted():
    (failure,) = failures(f"{BOX} {POINT}", f"{BOX} {BOX} {BOX}", 2)
    assert failure == "groundings: 1 missing, 2 not expected"


def test_an_answer_out_of_the_format_fails_only_where_the_expected_one_was_in_it():
    cut = "<object> <frame 1>: (100, 100), (30"
    assert "the answer is not in the format" in failures(BOX, cut, 2)
    assert measure(read(cut, 2), read(cut, 2)).valid is None


def test_an_answer_that_was_cut_off_is_not_in_the_format():
    drift = measure(read(BOX, 2), read(BOX, 2), got_finish=FinishReason.LENGTH)
    assert drift.valid is False


@pytest.mark.parametrize(
    ("expected", "got", "task"),
    [
        ("→→→→", "→→→", Task.NAVIGATE),
        ("<counting> 2 </counting>", "<counting> 3 </counting>", Task.COUNT),
    ],
)
def test_other_arrows_counts_or_ends_fail(expected: str, got: str, task: Task):
    assert "counts, arrows or the end differ" in failures(expected, got, 2, task)


AREA = "<area> <frame 1>: (500, 500) </area>"
PATH = "<trajectory> <frame 1>: (500, 500), (600, 500) </trajectory>"


@pytest.mark.parametrize(
    ("expected", "got", "orders"),
    [
        (f"Pick up {BOX}.", f"Push {BOX}.", ("pick", "push")),
        (f"Place it into {AREA}.", f"Place it next to {AREA}.", ("place into", "place next to")),
        (f"Push it away along {PATH}.", f"Push it towards you along {PATH}.",
         ("push away", "push closer")),
        (f"Pick up {BOX}.", f"Behold {BOX}.", ("pick", "none")),
        (f"Behold {BOX}.", f"Pick up {BOX}.", ("none", "pick")),
        (f"Pick up {BOX}.", "Done.", ("pick", "done")),
        ("Done.", BOX, ("done", "none")),
    ],
)  # fmt: skip
def test_a_plan_that_orders_another_deed_fails(expected: str, got: str, orders: tuple[str, str]):
    told = f"expected the order {orders[0]!r}, got {orders[1]!r}"
    assert told in failures(expected, got, 2, Task.PLAN)


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        (f"Pick up {BOX}.", f"Now take {BOX}."),
        (f"Place it into {AREA}.", f"Put it in {AREA}."),
        (f"Push it to the left to {AREA}.", f"Push it to {AREA}, which is to the left."),
        (f"Behold {BOX}.", f"Look! {BOX}."),
    ],
)
def test_a_plan_that_orders_the_same_in_other_words_passes(expected: str, got: str):
    assert failures(expected, got, 2, Task.PLAN) == []


def test_words_alone_may_differ_and_tell_nothing_about_motion():
    drift = measure(read("A cup."), read("It is a mug"))
    assert list(drift.failures(LIMITS)) == []
    assert (drift.same_words, drift.telling) == (False, False)


@pytest.mark.parametrize(
    ("name", "value"), [("min_iou", 1.1), ("max_units", -1.0), ("min_cases", 0)]
)
def test_limits_that_mean_nothing_are_refused_by_name(name: str, value: float):
    with pytest.raises(ConfigError, match=name):
        DriftLimits(**{name: value})
