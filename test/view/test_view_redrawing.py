"""What a viewer makes of an answer that it only heard of is what the brain itself would show."""

from __future__ import annotations

import math
import struct
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from rynn_brain_ros import messages
from rynn_brain_ros.bags import message
from rynn_brain_ros.messages import groundings_of
from rynn_brain_ros.values import (
    Affordance,
    Area,
    Box,
    ContactPoint,
    Count,
    EncodedImage,
    Flag,
    ImageError,
    LiftedGrounding,
    Refusal,
    RefusalCode,
    Trajectory,
)
from rynn_brain_ros.view import PALETTE, REFUSED, delete_all, draw, marker_array
from rynn_brain_ros.view.overlay import ascii_of
from rynn_brain_ros.view.panel import HEIGHT, WIDTH, Heard, Row, draw_panel, panel_rows
from rynn_brain_ros.view.redrawing import frames_of, redrawn, stamp_of
from rynn_brain_ros.view.shapes import shapes_of

POINT = Affordance(0, ((500.0, 500.0),), (0, 1), "affordance")
PATH = Trajectory(0, ((100.0, 900.0), (300.0, 700.0), (600.0, 900.0)), (0, 1), "trajectory")
AREA = Area(0, ((600.0, 600.0), (700.0, 620.0)), (0, 1), "area")
BOX = Box(0, ((100.0, 100.0), (300.0, 400.0)), (0, 1), "object")
CONTACT = ContactPoint(0, ((400.0, 300.0),), (0, 1), "contact_point", angle_deg=30.0)
REFUSAL = Refusal(RefusalCode.NO_DEPTH, "nothing was measured there")


def heard(response):
    """The answer as it comes over a topic."""
    return message(messages.GROUNDING_ARRAY, messages.grounding_array(response))


@pytest.mark.parametrize("grounding", [POINT, PATH, AREA, CONTACT])
@pytest.mark.parametrize("fixed", [True, False])
def test_markers_of_what_was_heard_are_those_of_the_answer(
    make_frame, lift, respond, grounding, fixed
):
    frame = make_frame()
    response = respond((frame,), (lift(grounding, frame, fixed=fixed),))
    told = marker_array("q-1", groundings_of(heard(response)))
    assert told == marker_array("q-1", response.lifted)


@pytest.mark.parametrize("grounding", [POINT, PATH, AREA, BOX, CONTACT])
def test_the_picture_is_the_one_that_the_brain_would_draw(make_frame, lift, respond, grounding):
    frame = make_frame()
    response = respond((frame,), (lift(grounding, frame), lift(POINT, frame, refusal=REFUSAL)))
    lifted = groundings_of(heard(response))
    (named,) = frames_of(lifted)
    pixels = np.full((480, 640, 3), 90, np.uint8)
    image = EncodedImage("rgb8", pixels.tobytes(), 640, 480, step=3 * 640)
    assert np.array_equal(redrawn(image, lifted, named), draw(pixels, response.lifted, frame))


def test_a_camera_whose_frame_has_no_name_is_drawn_into_and_places_nothing(
    make_frame, lift, respond
):
    frame = make_frame()
    frame = replace(frame, frame=replace(frame.frame, frame_id=""))
    lifted = tuple(lift(grounding, frame, fixed=False) for grounding in (POINT, PATH))
    told = groundings_of(heard(respond((frame,), lifted)))
    (named,) = frames_of(told)
    pixels = np.full((480, 640, 3), 90, np.uint8)
    image = EncodedImage("rgb8", pixels.tobytes(), 640, 480, step=3 * 640)
    assert np.array_equal(redrawn(image, told, named), draw(pixels, lifted, frame))
    assert marker_array("q-1", told) == delete_all()
    assert [messages.target_pose(item) for item in lifted] == [None, None]
    assert messages.path(lifted[1]) is None


def test_a_camera_whose_frame_has_no_name_is_told_in_the_fixed_frame(make_frame, lift):
    frame = make_frame()
    item = lift(PATH, replace(frame, frame=replace(frame.frame, frame_id="")))
    assert messages.target_pose(item)["header"]["frame_id"] == "odom"
    assert len(messages.path(item)["poses"]) == 3


def test_a_count_and_a_refusal_come_through(make_frame, lift, respond):
    frame = make_frame()
    count = Count(0, (), (0, 1), "count", count=3)
    refused = lift(POINT, frame, refusal=REFUSAL)
    counted = LiftedGrounding(count, frame)
    told = groundings_of(heard(respond((frame,), (counted, refused))))
    assert told[0].grounding.count == 3
    assert told[1].refusal == REFUSAL
    assert told[1].target is None


def test_what_only_a_newer_brain_knows_is_shown_by_its_number(make_frame, lift, respond):
    frame = make_frame()
    told = heard(respond((frame,), (lift(POINT, frame), lift(POINT, frame, refusal=REFUSAL))))
    kind, code = told.groundings
    kind.kind, code.refusal_code = 12, "too_hot"
    lifted = groundings_of(told)
    (named,) = frames_of(lifted)
    first, second = shapes_of(lifted, named, 640, 480)
    assert first.texts[0].startswith("1 unknown kind 12")
    assert second.texts[0] == "2 affordance 0.87 · unknown"
    assert first.color == REFUSED
    assert len(marker_array("q-1", lifted)["markers"]) > 1
    *_, first, second = panel_rows({}, told, None)
    assert "unknown kind 12" in first.text
    assert "unknown refusal too_hot: nothing was measured there" in second.text


def test_states_that_only_a_newer_brain_knows_are_told_by_their_number():
    steps = [SimpleNamespace(index=0, state=12, text="Fold it.", reason_text="")]
    plan = SimpleNamespace(task="tidy up", done=False, steps=steps)
    (first, *_, last) = panel_rows({"brain": Heard(status(state=12))}, None, plan)
    assert first.text.startswith("brain: unknown state 12 | armed")
    assert last.text == "  1 unknown state 12: Fold it."


def cdr_image(stamp_ns: int, size: int = 100, little: bool = True) -> bytes:
    order = "<" if little else ">"
    stamp = struct.pack(f"{order}iI", *divmod(stamp_ns, 1_000_000_000))
    return bytes((0, int(little), 0, 0)) + stamp + bytes(size - 12)


@pytest.mark.parametrize("little", [True, False])
def test_a_serialised_images_stamp_is_read_without_reading_the_image(little: bool):
    assert (
        stamp_of(cdr_image(1_700_000_000_123_456_789, little=little)) == 1_700_000_000_123_456_789
    )


def test_what_is_no_image_is_an_error():
    with pytest.raises(ImageError, match="no header"):
        stamp_of(b"\0\1\0\0")


def test_the_panel_has_a_picture_of_its_size_however_much_there_is_to_say(
    make_frame, lift, respond
):
    frame = make_frame()
    many = tuple(lift(POINT, frame, refusal=REFUSAL) for _ in range(40))
    rows = panel_rows({}, heard(respond((frame,), many)), None)
    assert any("no_depth" in row.text and "nothing was measured" in row.text for row in rows)
    picture = draw_panel(rows)
    assert picture.shape == (HEIGHT, WIDTH, 3)
    assert picture.std() > 0
    assert draw_panel(panel_rows({}, None, None)).std() > 0


def test_a_grounding_has_one_colour_in_picture_and_panel(make_frame, lift, respond):
    """One that only lacks depth keeps its own; one that must not be used is grey."""
    frame = make_frame()
    unusable = replace(POINT, flags=frozenset({Flag.TRUNCATED}))
    lifted = (lift(POINT, frame, refusal=REFUSAL), lift(unusable, frame, refusal=REFUSAL))
    *_, first, second = panel_rows({}, heard(respond((frame,), lifted)), None)
    drawn = [shape.color for shape in shapes_of(lifted, frame, 640, 480)]
    assert [first.color, second.color] == drawn == [PALETTE[0], REFUSED]


def status(**fields):
    told = {"state": 1, "armed": True, "dry_run": False, "frames": 9, "engine": "nano"}
    return SimpleNamespace(**{**told, **fields}, problems=[])


def test_a_node_that_fell_silent_is_told_so():
    silent, well = panel_rows(
        {"act": Heard(status(), 7.4), "brain": Heard(status(), 1.2)}, None, None
    )
    assert silent.text.startswith("act: silent for 7 s; it was ready | armed")
    assert well.text.startswith("brain: ready | armed")
    assert silent.color != well.color


def test_signs_of_our_own_sentences_are_spelt_out_where_the_font_lacks_them():
    text = "it moved 25 ± 3 mm, −5.0°, 3×2 → “left” … 打"
    assert ascii_of(text) == 'it moved 25 +/- 3 mm, -5.0 deg, 3x2 -> "left" ... ?'
    assert np.array_equal(draw_panel([Row("a → b …")]), draw_panel([Row("a -> b ...")]))


def test_an_angle_comes_back_as_it_was(make_frame, lift, respond):
    frame = make_frame()
    (told,) = groundings_of(heard(respond((frame,), (lift(CONTACT, frame),))))
    assert math.isclose(told.grounding.angle_deg, 30.0)
