"""The colour engine drives: towards its colour, around what stands in the way, until near."""

from __future__ import annotations

import cv2
import numpy as np

from rynn_brain_ros.language import parse
from rynn_brain_ros.memory import select
from rynn_brain_ros.models import ColorBaselineEngine
from rynn_brain_ros.values import EncodedImage, Frame, FrameSet, Query, Task, Turn

RED, BLUE = (200, 12, 12), (12, 40, 200)
TASK = "go to the red door"


def view(*patches: tuple[tuple[int, int, int], int, int, int, int]) -> FrameSet:
    """Rectangles (colour, left, top, right, bottom) in a grey picture of 640 × 480."""
    picture = np.full((480, 640, 3), 150, np.uint8)
    for color, *corners in patches:
        cv2.rectangle(picture, (corners[0], corners[1]), (corners[2], corners[3]), color, -1)
    png = cv2.imencode(".png", picture[..., ::-1])[1].tobytes()
    image = EncodedImage("rgb8; png compressed", png, compressed=True)
    return FrameSet((select(Frame("camera", 1, "optical", image)),))


def driven(now: FrameSet, *history: tuple[FrameSet, str], task: str = TASK) -> tuple[str, ...]:
    turns = tuple(Turn(frames, text) for frames, text in history)
    text = ColorBaselineEngine().ask(Query("q", Task.NAVIGATE, task, now, history=turns)).text
    return parse(text, 1, task=Task.NAVIGATE).actions


AHEAD = view((RED, 280, 100, 360, 280))
AT_FEET = view((RED, 200, 50, 440, 479))
EMPTY = view()


def test_it_drives_on_when_the_thing_is_ahead_and_far():
    assert driven(AHEAD) == ("FORWARD",) * 4


def test_it_turns_to_the_side_where_the_thing_is():
    assert driven(view((RED, 20, 100, 80, 280)))[0] == "LEFT"
    assert driven(view((RED, 560, 100, 620, 280)))[0] == "RIGHT"


def test_it_does_not_turn_back_and_forth_for_ever():
    slightly_left = view((RED, 190, 100, 250, 280))
    assert driven(slightly_left) == ("LEFT",)
    assert driven(slightly_left, (AHEAD, "→")) == ("FORWARD",) * 4


def test_it_searches_by_turning_and_gives_up_after_once_around():
    assert driven(EMPTY) == ("LEFT",) * 4
    around = [(EMPTY, "←←←←")] * 6
    assert driven(EMPTY, *around) == ()


def test_it_goes_around_what_stands_in_the_way():
    blocked = view((RED, 280, 100, 360, 250), (BLUE, 200, 300, 460, 470))
    actions = driven(blocked)
    assert actions[0] in ("LEFT", "RIGHT")
    assert actions[-1] == "FORWARD"


def test_it_stops_one_step_after_the_foot_has_left_the_picture():
    assert driven(AT_FEET) == ("FORWARD",)
    assert driven(AT_FEET, (AT_FEET, "↑")) == ("STOP",)


def test_a_task_without_a_colour_is_not_guessed():
    assert driven(AHEAD, task="go to the kitchen") == ()
