"""The colour engine's plans: what is seen decides the next step, and doubt is said."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from rynn_brain_ros.language import parse
from rynn_brain_ros.memory import select
from rynn_brain_ros.models import ColorBaselineEngine
from rynn_brain_ros.values import (
    EncodedImage,
    Frame,
    FrameSet,
    Query,
    Task,
    Turn,
)

RGB = {
    "red": (204, 13, 15),
    "blue": (15, 51, 200),
    "green": (20, 140, 36),
    "yellow": (224, 194, 13),
}
Spot = tuple[str, str, int, int]
"""Colour, shape, and the middle in a picture of 640 × 480."""

CUBE: Spot = ("red", "cube", 200, 350)
BOWL: Spot = ("yellow", "bowl", 420, 330)
HELD: Spot = ("red", "cube", 300, 60)


def drawn(*spots: Spot) -> FrameSet:
    picture = np.full((480, 640, 3), 170, np.uint8)
    for color, shape, x, y in spots:
        paint = RGB[color]
        dark = tuple(int(0.6 * value) for value in paint)
        if shape == "bowl":
            cv2.ellipse(picture, (x, y), (55, 38), 0, 0, 360, dark, -1)
            cv2.ellipse(picture, (x, y - 6), (50, 26), 0, 0, 360, paint, -1)
        elif shape == "ball":
            cv2.circle(picture, (x, y), 14, paint, -1)
        else:
            cv2.rectangle(picture, (x - 14, y - 15), (x + 14, y - 4), paint, -1)
            cv2.rectangle(picture, (x - 14, y - 4), (x + 14, y + 15), dark, -1)
    png = cv2.imencode(".png", picture[..., ::-1])[1].tobytes()
    image = EncodedImage("rgb8; png compressed", png, compressed=True)
    drawn.stamp += 1  # type: ignore[attr-defined]
    return FrameSet((select(Frame("camera", drawn.stamp, "optical", image)),))  # type: ignore[attr-defined]


drawn.stamp = 0  # type: ignore[attr-defined]


def said(task: str, now: FrameSet, *history: tuple[FrameSet, str]) -> str:
    turns = tuple(Turn(frames, text) for frames, text in history)
    return ColorBaselineEngine().ask(Query("q", Task.PLAN, task, now, history=turns)).text


def chain(task: str, *pictures: FrameSet) -> list[str]:
    """What is said turn after turn."""
    history: list[tuple[FrameSet, str]] = []
    for picture in pictures:
        history.append((picture, said(task, picture, *history)))
    return [text for _, text in history]


PUT = "put the red cube into the yellow bowl"


def test_a_pick_names_the_point_and_the_box_of_the_thing_in_its_frame():
    text = said(PUT, drawn(CUBE, BOWL))
    assert text.startswith("Pick up <affordance> <frame 0>: (")
    point, box = parse(text, 1, task=Task.PLAN).groundings
    x, y = point.points[0]
    (x0, y0), (x1, y1) = box.points
    assert x0 < x < x1 and y0 < y < y1
    assert abs(x - 1000 * 200 / 639) < 10


def test_a_held_thing_is_placed_then_the_end_is_claimed():
    inside: Spot = ("red", "cube", 420, 322)
    texts = chain(PUT, drawn(CUBE, BOWL), drawn(HELD, BOWL), drawn(BOWL, inside))
    assert [text.split()[0] for text in texts] == ["Pick", "Place", "Done."]
    area = parse(texts[1], 1, task=Task.PLAN).groundings[-1]
    assert abs(area.points[0][0] - 1000 * 420 / 639) < 40


def test_a_thing_that_is_still_there_is_picked_again():
    texts = chain(PUT, drawn(CUBE, BOWL), drawn(CUBE, BOWL))
    assert [text.split()[0] for text in texts] == ["Pick", "Pick"]


def test_a_thing_that_was_moved_on_the_table_is_not_taken_for_held():
    moved: Spot = ("red", "cube", 120, 400)
    texts = chain(PUT, drawn(CUBE, BOWL), drawn(moved, BOWL))
    assert [text.split()[0] for text in texts] == ["Pick", "Pick"]


def test_a_thing_that_could_not_be_placed_is_still_held():
    texts = chain(PUT, drawn(CUBE, BOWL), drawn(HELD, BOWL), drawn(HELD, BOWL))
    assert [text.split()[0] for text in texts] == ["Pick", "Place", "Place"]


def test_picking_up_alone_is_done_when_the_thing_is_in_the_air():
    texts = chain("pick up the red cube", drawn(CUBE), drawn(HELD))
    assert [text.split()[0] for text in texts] == ["Pick", "Done."]


@pytest.mark.parametrize(
    "task", ["take the red cube off the table", "pick the cube up from the table"]
)
def test_off_the_table_is_said_of_what_is_taken(task: str):
    assert said(task, drawn(CUBE)).startswith("Pick up")


def test_things_are_taken_one_after_the_other():
    ball: Spot = ("blue", "ball", 250, 400)
    inside: Spot = ("red", "cube", 420, 322)
    task = "first put the red cube into the bowl, then put the blue ball into the bowl"
    texts = chain(task, drawn(CUBE, ball, BOWL), drawn(HELD, ball, BOWL), drawn(ball, BOWL, inside))
    assert texts[2].startswith("Pick up")
    x = parse(texts[2], 1, task=Task.PLAN).groundings[0].points[0][0]
    assert abs(x - 1000 * 250 / 639) < 12


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("put the purple cube into the bowl", "I see no purple cube"),
        ("put the cube into the bowl", "cannot tell which one is meant"),
        ("sing a song", "I do not know"),
        ("put the red banana into the bowl", "banana"),
        ("put the red cube", ""),
        ("push the red cube off the table to the right", "I do not know 'off'"),
        ("put the red cube next to the bowl, then put the green cube into it", "what 'it' means"),
        ("put it into the bowl", "what 'it' means"),
        ("put the red cube into the green box", "Nothing goes into a cube"),
        ("pour the red cube into the green one", "Nothing goes into a cube"),
        ("put the red cube onto the green cube, then put it into the bowl", "one thing with each"),
        ("put the red cube into the bowl, then push the bowl to the left", "one thing with each"),
        ("put the red cube next to the red cube", "one thing with each"),
        ("give the green ball the red cube", "I cannot make orders"),
        ("put one red cube into the bowl", "I cannot make orders"),
    ],
)
def test_what_it_cannot_tell_it_says_and_gives_no_step(task: str, words: str):
    green: Spot = ("green", "cube", 300, 400)
    text = said(task, drawn(CUBE, green, BOWL))
    assert words in text
    assert text.endswith("<no object>")
    assert not parse(text, 1, task=Task.PLAN).groundings


def test_it_is_the_thing_of_an_order_that_named_no_place():
    ball: Spot = ("green", "ball", 250, 400)
    task = "push the red cube to the right, then put the green ball next to it"
    assert said(task, drawn(CUBE, ball)).startswith("Push <object>")


def test_everything_of_a_colour_is_not_everything():
    ball, cube = ("green", "ball", 250, 400), ("blue", "cube", 300, 330)
    lifted, inside = ("green", "ball", 250, 100), ("green", "ball", 420, 322)
    pictures = (drawn(ball, cube, BOWL), drawn(lifted, cube, BOWL), drawn(inside, cube, BOWL))
    texts = chain("put everything green into the bowl", *pictures)
    assert [text.split()[0] for text in texts] == ["Pick", "Place", "Done."]
    x = parse(texts[0], 1, task=Task.PLAN).groundings[0].points[0][0]
    assert abs(x - 1000 * 250 / 639) < 12


def test_a_shape_that_is_not_there_is_not_replaced_by_another_of_its_colour():
    text = said("pick up the red mug", drawn(CUBE, BOWL))
    assert text == "I see no red mug; I see a red cube. <no object>"
    text = said("put the red cube onto the yellow plate", drawn(CUBE, BOWL))
    assert text == "I see no yellow plate; I see a yellow bowl. <no object>"


@pytest.mark.parametrize(
    "task", ["pick up the red cube", "put both red cubes into the bowl", "push the red cube away"]
)
def test_nothing_is_done_with_a_thing_whose_colour_another_one_has(task: str):
    others = [("red", "cube", 300, 400)] if "both" in task else [("red", "bowl", 300, 400)]
    text = said(task, drawn(CUBE, *others, BOWL))
    assert text == "I see 2 red things and follow a thing by its colour only. <no object>"


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("to the left", (-1, 0)),
        ("to the right", (1, 0)),
        ("right", (1, 0)),
        ("away", (0, 1)),
        ("towards the bowl", (1, 0)),
    ],
)
def test_a_push_names_the_thing_and_an_end_in_the_direction_told(words: str, wanted):
    text = said(f"push the red cube {words}", drawn(CUBE, BOWL))
    assert text.startswith("Push <object>")
    box, area = parse(text, 1, task=Task.PLAN).groundings
    x, y = area.points[0]
    way = (x * 0.639 - 200, y * 0.479 - 350)
    along = way[0] * wanted[0] + way[1] * wanted[1]
    assert along > 40
    assert np.hypot(*way) < 1.2 * along
    assert box.points[0][0] * 0.639 < 200 < box.points[1][0] * 0.639


def test_a_push_is_done_when_the_thing_is_seen_to_have_come():
    half_way: Spot = ("red", "cube", 230, 350)
    there: Spot = ("red", "cube", 275, 350)
    pictures = (drawn(CUBE), drawn(half_way), drawn(there))
    texts = chain("push the red cube to the right", *pictures)
    assert [text.split()[0] for text in texts] == ["Push", "Push", "Done."]


def test_a_push_without_room_is_said():
    edge: Spot = ("red", "cube", 50, 350)
    assert "no room" in said("push the red cube to the left", drawn(edge))


def test_a_pour_picks_tilts_once_and_is_then_left_to_the_look():
    texts = chain(
        "pour the red cube into the bowl", drawn(CUBE, BOWL), drawn(HELD, BOWL), drawn(HELD, BOWL)
    )
    assert [text.split()[0] for text in texts] == ["Pick", "Pour", "Done."]
    area = parse(texts[1], 1, task=Task.PLAN).groundings[-1]
    assert abs(area.points[0][0] - 1000 * 420 / 639) < 40


@pytest.mark.parametrize(
    "task",
    ["hand me the red cube", "give the red cube to me", "pick up the red cube and hand it over"],
)
def test_a_thing_is_picked_and_then_handed_over(task: str):
    texts = chain(task, drawn(CUBE), drawn(HELD), drawn(BOWL))
    assert [text.split()[0] for text in texts] == ["Pick", "Hand", "Done."]
    assert parse(texts[1], 1, task=Task.PLAN).groundings[0].kind == "object"


def test_with_a_poured_vessel_in_the_hand_nothing_else_is_taken():
    text = said("pour the red cube into the bowl, then pick up the bowl", drawn(CUBE, BOWL))
    assert "one thing at a time" in text


def test_a_place_beside_is_free_and_not_on_the_neighbour():
    green: Spot = ("green", "cube", 400, 350)
    texts = chain(
        "move the red cube next to the green cube", drawn(CUBE, green), drawn(HELD, green)
    )
    x, y = parse(texts[1], 1, task=Task.PLAN).groundings[-1].points[0]
    assert max(abs(x * 0.639 - 400), abs(y * 0.479 - 350)) > 20


def test_either_of_several_is_the_one_that_is_seen_best_and_then_no_other():
    small, large = ("red", "cube", 200, 350), ("blue", "bowl", 420, 330)
    picture = drawn(small, large)
    lifted = drawn(("red", "cube", 200, 350), ("blue", "bowl", 300, 60))
    steps = chain("pick up any object", picture, lifted)
    assert steps[0].startswith("Pick up <affordance> <frame 0>: (65")
    assert steps[1] == "Done."
    assert "cannot tell" in said("pick up the object", picture)
