"""The colour engine drives: it looks for its colour, goes to it, around what is in the way."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from rynn_brain_ros.language import parse
from rynn_brain_ros.memory import select
from rynn_brain_ros.models import ColorBaselineEngine
from rynn_brain_ros.models.color_vision import far_floor
from rynn_brain_ros.values import Box, EncodedImage, Frame, FrameSet, Query, Reading, Task, Turn

RED, BLUE = (200, 12, 12), (12, 40, 200)
WALL, FLOOR, SKIRTING = (180, 180, 180), (160, 155, 149), (80, 80, 80)
TASK = "go to the red door"
BLOCKED = "0.40 m ahead are seen free, the drive needs 0.57 m"

Patch = tuple[tuple[int, int, int], int, int, int, int]


def picture(*patches: Patch, floor_from: int = 200) -> np.ndarray:
    """A wall, a floor from a row on, and rectangles (colour, left, top, right, bottom)."""
    rgb = np.full((480, 640, 3), WALL, np.uint8)
    rgb[floor_from:] = FLOOR
    rgb[floor_from - 6 : floor_from] = SKIRTING
    for color, *corners in patches:
        cv2.rectangle(rgb, (corners[0], corners[1]), (corners[2], corners[3]), color, -1)
    return rgb


def view(*patches: Patch, floor_from: int = 200) -> FrameSet:
    png = cv2.imencode(".png", picture(*patches, floor_from=floor_from)[..., ::-1])[1].tobytes()
    image = EncodedImage("rgb8; png compressed", png, compressed=True)
    return FrameSet((select(Frame("camera", 1, "optical", image)),))


def said(now: FrameSet, *history: Turn, task: str = TASK) -> Reading:
    query = Query("q", Task.NAVIGATE, task, now, history=history)
    return parse(ColorBaselineEngine().ask(query).text, len(now), task=Task.NAVIGATE)


def driven(now: FrameSet, *history: Turn, task: str = TASK) -> tuple[str, ...]:
    return said(now, *history, task=task).actions


def refused(view: FrameSet, what: str, why: str = BLOCKED) -> Turn:
    return Turn(view, "", f"{what}: {why}")


AHEAD = view((RED, 280, 100, 360, 280))
AT_FEET = view((RED, 200, 50, 440, 479))
EMPTY = view()
POINTED = "I go there: <object> (437, 208), (562, 583) </object>"
AROUND = [Turn(EMPTY, "←←←←")] * 5


# --- what is in view ------------------------------------------------------------------------------


def test_it_points_at_the_thing_when_it_is_far():
    (box,) = said(AHEAD).groundings
    assert isinstance(box, Box)
    assert (box.frame, box.points) == (0, ((438, 209), (563, 585)))


def test_of_several_views_it_points_into_the_one_of_now():
    (box,) = said(FrameSet((*EMPTY, *AHEAD))).groundings
    assert box.frame == 1


def test_a_thing_cut_by_the_side_is_turned_to_before_it_is_pointed_at():
    assert driven(view((RED, 0, 100, 80, 280))) == ("LEFT", "LEFT")
    assert driven(view((RED, 560, 100, 639, 280))) == ("RIGHT", "RIGHT")


def test_it_drives_by_arrows_where_pointing_was_refused():
    assert driven(AHEAD, refused(AHEAD, POINTED)) == ("FORWARD",) * 4


def test_the_nearer_the_thing_is_the_shorter_are_its_drives():
    nearer = view((RED, 280, 100, 360, 350))
    assert driven(nearer, refused(nearer, POINTED)) == ("FORWARD",) * 2
    near = view((RED, 280, 100, 360, 400))
    assert driven(near, refused(near, POINTED)) == ("FORWARD",)


def test_by_arrows_it_turns_to_the_thing_first():
    left = view((RED, 20, 100, 80, 280))
    assert set(driven(left, refused(left, POINTED))) == {"LEFT"}


def test_a_place_that_was_refused_may_be_pointed_at_after_a_move():
    assert said(AHEAD, refused(AHEAD, POINTED), Turn(AHEAD, "↑↑↑↑")).groundings


def test_it_goes_around_what_stands_in_the_way():
    blocked = view((RED, 280, 100, 360, 250), (BLUE, 200, 300, 460, 470))
    actions = driven(blocked, refused(blocked, POINTED))
    assert actions[0] in ("LEFT", "RIGHT")
    assert actions[-1] == "FORWARD"


def test_a_way_that_was_refused_is_not_tried_again():
    floor_on_the_left = view((RED, 280, 100, 360, 280), (WALL, 400, 0, 639, 479))
    turns = (refused(AHEAD, POINTED), refused(AHEAD, "↑↑↑↑"))
    assert driven(floor_on_the_left, *turns) == ("LEFT", "LEFT", "LEFT", "FORWARD")


def test_it_stops_when_the_thing_is_at_its_feet():
    assert driven(AT_FEET) == ("STOP",)


def test_a_stop_that_was_not_believed_is_followed_by_a_drive():
    claim = refused(AT_FEET, "STOP", "looked again: the thing is still 1.20 m away")
    assert driven(AT_FEET, claim) == ("FORWARD",)


# --- what is not ----------------------------------------------------------------------------------


def test_it_searches_by_turning():
    assert driven(EMPTY) == ("LEFT",) * 4


def test_it_turns_back_to_where_it_saw_the_thing():
    assert driven(EMPTY, Turn(AHEAD, "←←←←")) == ("RIGHT",) * 4


def test_it_does_not_turn_back_to_where_the_thing_was_not_seen_again():
    turns = (Turn(AHEAD, "←←←←"), Turn(EMPTY, "→→→→"))
    assert driven(EMPTY, *turns) == ("LEFT",) * 4


def test_after_once_around_it_drives_where_the_floor_goes_farthest():
    far = view(floor_from=100)
    assert driven(far, *AROUND) == ("FORWARD",) * 4
    around = [*AROUND[:3], Turn(far, "←←←←"), *AROUND[:1]]
    assert driven(EMPTY, *around) == ("RIGHT",) * 4


def test_it_goes_on_for_a_while_where_the_floor_goes_on_and_looks_around_then():
    turn = Turn(EMPTY, "↑↑↑↑")
    assert driven(EMPTY, turn) == ("FORWARD",) * 4
    assert driven(EMPTY, turn, turn, turn) == ("LEFT",) * 4
    assert driven(view(floor_from=400), turn) == ("LEFT",) * 4


def test_it_does_not_go_back_to_where_it_came_from():
    """It drove here, and only behind it the floor goes on."""
    wall = view(floor_from=400)
    around = [Turn(wall, "↑↑↑↑"), Turn(wall, "←←←←"), Turn(wall, "←←←←"), Turn(wall, "←←←←")]
    around += [Turn(EMPTY, "←←←←"), Turn(wall, "←←←←")]
    assert driven(wall, *around) == ()


def test_a_direction_that_was_refused_is_left_out():
    far = view(floor_from=100)
    actions = driven(far, *AROUND, refused(far, "↑↑↑↑"))
    assert actions and set(actions) <= {"LEFT", "RIGHT"}


def test_it_gives_up_where_the_floor_goes_nowhere():
    wall = view(floor_from=400)
    reading = said(wall, *[Turn(wall, "←←←←")] * 5)
    assert reading.actions == ()
    assert "I looked all around and see no red thing" in reading.answer_text


def test_it_gives_up_after_a_few_places():
    far = view(floor_from=100)
    assert driven(FrameSet((*[EMPTY[0]] * 6, *far)), *AROUND) == ("FORWARD",) * 4
    assert driven(FrameSet((*[EMPTY[0]] * 7, *far)), *AROUND) == ()


def test_asked_again_on_the_spot_it_still_gives_up():
    wall = view(floor_from=400)
    gave_up = "I looked all around and see no red thing. <no object>"
    assert said(wall, refused(wall, gave_up, "no way was told")).answer_text == gave_up
    assert driven(AHEAD, refused(wall, gave_up, "no way was told")) == ("FORWARD",) * 4


def test_a_task_without_a_colour_is_not_guessed():
    assert driven(AHEAD, task="go to the kitchen") == ()


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("do not go to the red door", "'not'"),
        ("stay away from the red door", "'stay'"),
        ("go to the orange table, not to the red door", "'not'"),
        ("go to the table left of the red door", "'left of'"),
        ("go to the red door and the blue sofa", "one thing at a time"),
        ("pick up the red cube", "do nothing with it"),
        ("push the red door", "'push'"),
    ],
)
def test_it_goes_nowhere_for_words_that_are_only_half_understood(task: str, words: str):
    reading = said(AHEAD, task=task)
    assert not reading.actions and not reading.groundings
    assert words in reading.answer_text


@pytest.mark.parametrize("task", ["Could you please drive up to the red one?", "find the red door"])
def test_it_goes_to_what_is_asked_for_in_other_words(task: str):
    assert said(AHEAD, task=task).groundings


# --- the floor ------------------------------------------------------------------------------------


def test_the_floor_ends_where_the_wall_begins():
    x, y = far_floor(picture(floor_from=200)) or (0.0, 0.0)
    assert abs(x - 0.5) < 0.05 and abs(y - 200 / 480) < 0.03


def test_a_shade_on_the_floor_is_still_floor():
    dark = tuple(round(0.85 * v) for v in FLOOR)
    _, y = far_floor(picture((dark, 0, 300, 639, 350))) or (0.0, 0.0)
    assert abs(y - 200 / 480) < 0.03


def test_a_wall_of_the_floors_brightness_is_no_floor():
    assert far_floor(picture((FLOOR, 0, 0, 639, 479))) is None


def test_a_gap_too_narrow_to_pass_is_no_way():
    left = (WALL, 0, 0, 300, 350)
    right = (WALL, 340, 0, 639, 350)
    _, y = far_floor(picture(left, right)) or (0.0, 0.0)
    assert abs(y - 350 / 480) < 0.03
