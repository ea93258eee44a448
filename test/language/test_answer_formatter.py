"""What is written is what is read."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rynn_brain_ros.language import (
    format_actions,
    format_grounding,
    format_reference,
    parse,
)
from rynn_brain_ros.values import (
    Affordance,
    AnyGrounding,
    Area,
    Box,
    Box3D,
    ContactPoint,
    Count,
    GraspRectangle,
    InputError,
    NoGrounding,
    Task,
    Trajectory,
)

N_FRAMES = 9
SPAN = (0, 0)
VALUES = st.integers(0, 1000) | st.floats(0, 1000).map(lambda value: round(value, 3))
POINTS = st.tuples(VALUES, VALUES)
FRAMES = st.integers(0, N_FRAMES - 1)
METRES = st.floats(0.001, 50).map(lambda value: round(value, 3))


def points(least: int, most: int) -> st.SearchStrategy[tuple[tuple[float, float], ...]]:
    return st.lists(POINTS, min_size=least, max_size=most).map(tuple)


GROUNDINGS: st.SearchStrategy[AnyGrounding] = st.one_of(
    st.builds(Box, FRAMES, points(2, 2), st.just(SPAN), st.just("object")),
    st.builds(Area, FRAMES, points(1, 12), st.just(SPAN), st.just("area")),
    st.builds(Affordance, FRAMES, points(1, 1), st.just(SPAN), st.just("affordance")),
    st.builds(Trajectory, FRAMES, points(1, 10), st.just(SPAN), st.just("trajectory")),
    st.builds(GraspRectangle, FRAMES, points(4, 4), st.just(SPAN), st.just("grasp pose")),
    st.builds(
        ContactPoint,
        FRAMES,
        points(1, 1),
        st.just(SPAN),
        st.just("grasp pose"),
        angle_deg=st.floats(0, 180).map(lambda angle: round(angle, 1)),
    ),
)


@given(GROUNDINGS, st.booleans())
def test_round_trip(grounding: AnyGrounding, with_frame: bool) -> None:
    text = format_grounding(grounding, with_frame=with_frame)

    reading = parse(text, N_FRAMES if with_frame else 1)

    assume([part.reason for part in reading.rejected] != ["degenerate"])
    (read,) = reading.groundings
    frame = grounding.frame if with_frame else 0
    assert replace(read, flags=frozenset()) == replace(
        grounding, frame=frame, span=(0, len(text)), tag=read.tag
    )


@given(
    st.tuples(METRES, METRES, METRES),
    st.tuples(METRES, METRES, METRES),
    st.tuples(*[st.integers(-180, 180)] * 3),
)
def test_round_trip_of_a_3d_box(
    center: tuple[float, float, float],
    size: tuple[float, float, float],
    angles: tuple[float, float, float],
) -> None:
    box = Box3D(0, (), SPAN, "3D Grounding", frozenset(), "", center, size, angles)

    (read,) = parse(format_grounding(box), 1).groundings

    assert isinstance(read, Box3D)
    assert (read.center_m, read.size_m) == (center, size)
    assert read.pitch_yaw_roll_deg == pytest.approx(angles)


@given(st.integers(0, 10**9))
def test_round_trip_of_a_count(count: int) -> None:
    (read,) = parse(format_grounding(Count(None, (), SPAN, "counting", count=count)), 2).groundings

    assert isinstance(read, Count)
    assert read.count == count


def test_the_canonical_spelling() -> None:
    point = Affordance(3, ((12, 34),), SPAN, "affordance")

    assert format_grounding(point) == "<affordance> <frame 3>: (12, 34) </affordance>"
    assert format_grounding(point, with_frame=False) == "<affordance> (12, 34) </affordance>"


def test_an_abstention_is_written_as_the_model_is_asked_to() -> None:
    text = format_grounding(NoGrounding(None, (), SPAN, "", abstained=True))

    (read,) = parse(text, 1, task=Task.OBJECT).groundings
    assert isinstance(read, NoGrounding)
    assert read.abstained


def test_an_unusable_answer_cannot_be_written() -> None:
    with pytest.raises(InputError, match="no_item"):
        format_grounding(NoGrounding(None, (), SPAN, "", reason="no_item"))


def test_what_is_not_finite_cannot_be_written() -> None:
    with pytest.raises(InputError, match="finite"):
        format_grounding(Affordance(0, ((math.nan, 1),), SPAN, "affordance"))


def test_a_reference_is_spelled_as_in_the_questions() -> None:
    box = Box(3, ((146, 556), (328, 834)), SPAN, "object")

    assert format_reference(box) == "<object> <frame3>; (146, 556), (328, 834) </object>"


def test_actions_are_symbols() -> None:
    assert format_actions(("FORWARD", "LEFT", "RIGHT", "STOP")) == "↑←→STOP"


def test_an_unknown_action_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"'JUMP'.*FORWARD"):
        format_actions(("JUMP",))
