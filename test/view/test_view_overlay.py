"""Groundings appear where and how a person expects them in the picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rynn_brain_ros.values import (
    Affordance,
    Area,
    Box,
    ContactPoint,
    Flag,
    GraspRectangle,
    ImageError,
    Refusal,
    RefusalCode,
    Trajectory,
)
from rynn_brain_ros.view import PALETTE, REFUSED, draw
from rynn_brain_ros.view.shapes import place_labels, shapes_of, unit_of

NO_DEPTH = Refusal(RefusalCode.NO_DEPTH, "no valid depth near the point")
POINT = Affordance(0, ((500.0, 500.0),), (0, 1), "affordance")
EVERY_KIND = (
    POINT,
    Box(0, ((100.0, 100.0), (400.0, 300.0)), (0, 1), "object"),
    Area(0, ((600.0, 600.0), (700.0, 620.0), (650.0, 700.0)), (0, 1), "area"),
    Trajectory(0, ((100.0, 900.0), (300.0, 700.0), (300.0, 700.0), (600.0, 900.0)), (0, 1), "traj"),
    GraspRectangle(0, ((626, 520), (875, 570), (861, 640), (612, 590)), (0, 1), "grasp pose"),
    ContactPoint(0, ((800.0, 200.0),), (0, 1), "grasp pose", angle_deg=66.7),
)
OUTSIDE = Affordance(0, ((1e300, -4000.0),), (0, 1), "affordance", frozenset({Flag.OUT_OF_RANGE}))


def _picture(width=640, height=480, value=90):
    return np.full((height, width, 3), value, np.uint8)


def _has(image, color):
    return bool((image == np.array(color)).all(axis=-1).any())


def test_the_given_picture_stays_untouched(make_frame, lift):
    frame, picture = make_frame(), _picture()
    picture.flags.writeable = False
    drawn = draw(picture, [lift(g, frame) for g in EVERY_KIND], frame, caption="q-1")
    assert (picture == 90).all()
    assert drawn.shape == picture.shape
    assert drawn.dtype == np.uint8
    assert not np.shares_memory(drawn, picture)


def test_a_point_is_drawn_at_its_pixel_in_its_colour(make_frame, lift):
    frame = make_frame(width=641, height=481)
    drawn = draw(_picture(641, 481), [lift(POINT, frame)], frame)
    assert tuple(drawn[240, 320]) == PALETTE[0]


def test_points_follow_a_resized_picture(make_frame, lift):
    frame = make_frame(width=1281, height=961)
    drawn = draw(_picture(320, 240), [lift(POINT, frame)], frame)
    assert tuple(drawn[120, 160]) == PALETTE[0]


def test_colours_are_given_by_place_in_the_answer(make_frame, lift):
    frame = make_frame()
    for index, grounding in enumerate(EVERY_KIND):
        others = [lift(POINT, make_frame(stamp_ns=99))] * index
        assert _has(draw(_picture(), [*others, lift(grounding, frame)], frame), PALETTE[index])


def test_groundings_in_another_frame_are_left_out(make_frame, lift):
    frame, other = make_frame(stamp_ns=10), make_frame(stamp_ns=20)
    assert (draw(_picture(), [lift(POINT, other)], frame) == 90).all()


@pytest.mark.parametrize("grounding", EVERY_KIND, ids=lambda g: g.kind)
def test_an_unusable_grounding_is_grey_and_says_why(make_frame, lift, grounding):
    frame = make_frame()
    unusable = replace(grounding, flags=frozenset({Flag.FRAME_IMPLICIT}))
    refused = [lift(unusable, frame, refusal=NO_DEPTH)]
    drawn = draw(_picture(), refused, frame)
    assert _has(drawn, REFUSED)
    assert not _has(drawn, PALETTE[0])
    assert (drawn != draw(_picture(), [lift(grounding, frame)], frame)).any()
    assert "no_depth" in shapes_of(refused, frame, 640, 480)[0].texts[0]


def test_a_grounding_without_a_place_in_space_keeps_its_colour_and_is_dashed(make_frame, lift):
    frame = make_frame()
    refused = [lift(EVERY_KIND[1], frame, refusal=NO_DEPTH)]
    drawn = draw(_picture(), refused, frame)
    assert _has(drawn, PALETTE[0])
    whole = draw(_picture(), [lift(EVERY_KIND[1], frame)], frame)
    assert (drawn == PALETTE[0]).all(axis=2).sum() < (whole == PALETTE[0]).all(axis=2).sum()
    assert "no_depth" in shapes_of(refused, frame, 640, 480)[0].texts[0]


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (3, 200), (320, 240), (4096, 3072)])
def test_any_size_of_picture_can_be_drawn_on(make_frame, lift, size):
    frame = make_frame(width=size[0], height=size[1])
    lifted = [lift(g, frame) for g in (*EVERY_KIND, OUTSIDE)]
    drawn = draw(_picture(*size), lifted, frame, caption="a caption longer than the picture")
    assert drawn.shape == (size[1], size[0], 3)


BEYOND = (1051.0, 412.0), (1180.0, 640.0)
SIZES = [(1, 1), (7, 3), (1, 300), (64, 48), (160, 120)]


@st.composite
def answers(draw_from):
    """A grounding of any kind, its coordinates in and far out of the picture."""
    where = st.floats(-100, 1100) | st.integers(0, 1000) | st.floats()
    kind = draw_from(st.sampled_from([type(g) for g in EVERY_KIND]))
    fixed = {Affordance: 1, ContactPoint: 1, Box: 2, GraspRectangle: 4}
    n = fixed.get(kind) or draw_from(st.integers(1, 10))
    points = draw_from(st.lists(st.tuples(where, where), min_size=n, max_size=n))
    told = kind(0, tuple(points), (0, 1), kind.kind)
    return replace(told, angle_deg=draw_from(where)) if kind is ContactPoint else told


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # these are plain functions
)
@given(answers(), st.sampled_from(SIZES), st.booleans())
@example(Box(0, BEYOND, (0, 1), "object"), (640, 480), True)
@example(Box(0, ((-9.0, -80.0), (700.0, -20.0)), (0, 1), "object"), (640, 480), True)
@example(Trajectory(0, (*BEYOND, (1e300, 400.0)), (0, 1), "trajectory"), (640, 480), True)
def test_every_answer_can_be_drawn_wherever_it_points(make_frame, lift, grounding, size, refused):
    frame = make_frame(width=size[0], height=size[1])
    lifted = [lift(grounding, frame, refusal=NO_DEPTH if refused else None)]
    drawn = draw(_picture(*size), lifted, frame, caption="q-1 · where?")
    assert drawn.shape == (size[1], size[0], 3)


@pytest.mark.parametrize("size", [(640, 480), (64, 48)])
def test_a_refused_box_beyond_one_border_points_there(make_frame, lift, size):
    frame = make_frame(width=size[0], height=size[1])
    box = Box(0, BEYOND, (0, 1), "object", frozenset({Flag.OUT_OF_RANGE}))
    refusal = Refusal(RefusalCode.OUT_OF_RANGE, "outside")
    drawn = draw(_picture(*size), [lift(box, frame, refusal=refusal)], frame)
    assert (drawn[:, -8:] == REFUSED).all(axis=2).any()


def test_a_point_outside_is_shown_at_the_border_only(make_frame, lift):
    frame = make_frame()
    refusal = Refusal(RefusalCode.OUT_OF_RANGE, "outside")
    flags = frozenset({Flag.OUT_OF_RANGE})
    right = Affordance(0, ((1400.0, 500.0),), (0, 1), "affordance", flags)
    drawn = draw(_picture(), [lift(right, frame, refusal=refusal)], frame)
    assert tuple(drawn[240, 636]) == REFUSED
    assert (drawn[:, :300] == 90).all()


def test_not_finite_coordinates_draw_nothing_wrong(make_frame, lift, nan):
    frame = make_frame()
    broken = Trajectory(0, ((nan, 1.0), (float("inf"), 500.0), (100.0, 100.0)), (0, 1), "traj")
    assert draw(_picture(), [lift(broken, frame)], frame).shape == (480, 640, 3)
    nowhere = Affordance(0, ((nan, nan),), (0, 1), "affordance")
    assert (draw(_picture(), [lift(nowhere, frame)], frame) == 90).all()


def test_labels_stay_inside_and_off_the_points(make_frame, lift):
    frame = make_frame()
    corners = [(0.0, 0.0), (1000.0, 0.0), (0.0, 1000.0), (1000.0, 1000.0), (500.0, 500.0)]
    lifted = [lift(Affordance(0, (p,), (0, 1), "affordance"), frame) for p in corners]
    shapes = shapes_of(lifted, frame, 640, 480)
    labels = place_labels(shapes, 640, 480, lambda text: (7.0 * len(text), 20.0), 1.0)
    assert len(labels) == len(corners)
    for label in labels:
        left, top, right, bottom = label.rect
        assert left >= 0 and top >= 0 and right <= 640 and bottom <= 480
        for shape in shapes:
            for u, v in shape.keep_clear:
                assert not (left <= u <= right and top <= v <= bottom)


def test_a_label_says_what_how_sure_and_how_far(make_frame, lift, nan):
    frame = make_frame()
    known, unsure = lift(POINT, frame), lift(POINT, frame, confidence=nan)
    texts = [shape.texts[0] for shape in shapes_of([known, unsure], frame, 640, 480)]
    assert texts == ["1 affordance 0.87 · 1.020 m", "2 affordance · 1.020 m"]


def test_a_caption_hides_nothing_that_is_pointed_at(make_frame, lift):
    frame = make_frame(width=641, height=481)
    low = Affordance(0, ((500.0, 985.0),), (0, 1), "affordance")
    drawn = draw(_picture(641, 481), [lift(low, frame)], frame, caption="q-1 · Open the drawer")
    assert tuple(drawn[473, 320]) == PALETTE[0]


def test_letters_that_the_font_lacks_do_not_break_a_caption(make_frame):
    frame = make_frame()
    assert (draw(_picture(), [], frame, caption="打开抽屉\n\x00") != 90).any()


def test_an_array_that_is_no_rgb_picture_is_refused(make_frame):
    with pytest.raises(ImageError, match=r"\(480, 640\)"):
        draw(np.zeros((480, 640), np.uint8), [], make_frame())


def test_marks_grow_with_the_picture():
    assert unit_of(1920, 1080) == 3 * unit_of(640, 480)
