"""The colour segmenter: finds plain coloured things, and says so when it does not."""

from __future__ import annotations

import re
import threading

import cv2
import numpy as np
import pytest
from recordings import small_scene

from rynn_brain_ros.language import parse
from rynn_brain_ros.memory import select
from rynn_brain_ros.models import (
    ENGINE_SPELLINGS,
    ColorBaselineEngine,
    Engines,
    Role,
    check_engine,
    open_engine,
    role_of,
)
from rynn_brain_ros.sim.tabletop import START_NS
from rynn_brain_ros.values import (
    AnyGrounding,
    EncodedImage,
    EngineError,
    EngineInfo,
    FinishReason,
    Frame,
    FrameSet,
    InputError,
    Query,
    SelectedFrame,
    Task,
    UnsupportedTaskError,
)

SCENE = small_scene()


def shown(rgb: np.ndarray, stamp_ns: int) -> SelectedFrame:
    png = cv2.imencode(".png", rgb[..., ::-1])[1].tobytes()
    image = EncodedImage("rgb8; png compressed", png, compressed=True)
    return select(Frame("camera", stamp_ns, "optical", image))


@pytest.fixture(scope="module")
def frames() -> FrameSet:
    stamps = (START_NS, START_NS + 500_000_000)
    return FrameSet(tuple(shown(SCENE.render(SCENE.pose_at(s))[0], s) for s in stamps))


def query(frames: FrameSet, text: str, task: Task, thinking: bool = False) -> Query:
    return Query("q1", task, text, frames, thinking=thinking)


def answer(frames: FrameSet, text: str, task: Task, thinking: bool = False) -> str:
    return ColorBaselineEngine().ask(query(frames, text, task, thinking)).text


def groundings(frames: FrameSet, text: str, task: Task) -> tuple[AnyGrounding, ...]:
    return parse(answer(frames, text, task), len(frames), task=task).groundings


def thing_at(grounding: AnyGrounding, frames: FrameSet, point: tuple[float, float]) -> str:
    """What the scene really holds at a point of the frame that the grounding names."""
    assert grounding.frame is not None
    pixel = (point[0] / 1000 * (SCENE.width - 1), point[1] / 1000 * (SCENE.height - 1))
    stamp_ns = frames[grounding.frame].frame.stamp_ns
    return SCENE.surface_at(pixel, SCENE.pose_at(stamp_ns))[1]


@pytest.mark.parametrize("thing", ["red cube", "blue ball", "green cylinder", "yellow plate"])
def test_an_affordance_lies_on_the_thing(thing: str, frames: FrameSet):
    (grounding,) = groundings(frames, f"Pick up the {thing}", Task.AFFORDANCE)
    assert (grounding.kind, grounding.frame) == ("affordance", 1)
    assert thing_at(grounding, frames, grounding.points[0]) == thing


def test_a_box_surrounds_the_thing(frames: FrameSet):
    (grounding,) = groundings(frames, "the blue ball", Task.OBJECT)
    (x0, y0), (x1, y1) = grounding.points
    assert thing_at(grounding, frames, ((x0 + x1) / 2, (y0 + y1) / 2)) == "blue ball"
    assert thing_at(grounding, frames, (x0 - 15, (y0 + y1) / 2)) != "blue ball"


def test_an_area_lies_on_the_thing(frames: FrameSet):
    (grounding,) = groundings(frames, "free space on the yellow plate", Task.AREA)
    assert len(grounding.points) == 5
    assert {thing_at(grounding, frames, p) for p in grounding.points} == {"yellow plate"}


def test_a_trajectory_goes_from_the_first_thing_to_the_last(frames: FrameSet):
    text = "Move the red cube onto the yellow plate"
    (grounding,) = groundings(frames, text, Task.TRAJECTORY)
    ends = [thing_at(grounding, frames, point) for point in grounding.points]
    assert (ends[0], ends[-1]) == ("red cube", "yellow plate")


def test_a_trajectory_needs_a_second_thing(frames: FrameSet):
    (grounding,) = groundings(frames, "Move the red cube", Task.TRAJECTORY)
    assert grounding.kind == "no_grounding"


def test_a_grasp_has_four_corners_around_the_thing(frames: FrameSet):
    (grounding,) = groundings(frames, "Grasp the green cylinder", Task.GRASP)
    assert (grounding.kind, len(grounding.points)) == ("grasp_rectangle", 4)
    middle = tuple(np.mean(grounding.points, axis=0))
    assert thing_at(grounding, frames, middle) == "green cylinder"


def test_things_are_counted(frames: FrameSet):
    assert answer(frames, "How many red things are there?", Task.COUNT) == "1"


def test_the_picture_is_described_by_its_colours(frames: FrameSet):
    text = answer(frames, "What do you see?", Task.DESCRIBE)
    for color in ("red", "green", "blue", "yellow"):
        assert color in text


def test_thinking_gives_evidence_and_an_answer(frames: FrameSet):
    text = answer(frames, "the red cube", Task.AFFORDANCE, thinking=True)
    reading = parse(text, len(frames), task=Task.AFFORDANCE)
    assert [g.kind for g in reading.reasoning] == ["object"]
    assert [g.kind for g in reading.groundings] == ["affordance"]


@pytest.mark.parametrize("task", [Task.OBJECT, Task.AFFORDANCE, Task.AREA, Task.GRASP])
def test_what_is_not_there_is_not_found(task: Task, frames: FrameSet):
    (grounding,) = groundings(frames, "the purple cube", task)
    assert grounding.kind == "no_grounding"
    assert grounding.abstained


def test_words_that_it_does_not_know_are_answered_honestly(frames: FrameSet):
    text = answer(frames, "Pick up the screwdriver", Task.AFFORDANCE)
    assert text.startswith("I only know colours (red, ")
    assert text.endswith("<no object>")


def colored(*patches: tuple[str, tuple[int, int], str]) -> FrameSet:
    """Things on a grey table: a ball is a disc, a cube a rectangle with a lit top."""
    paints = {"red": (200, 20, 20), "blue": (20, 40, 200)}
    rgb = np.full((480, 640, 3), 150, np.uint8)
    for color, (x, y), shape in patches:
        paint = paints[color]
        if shape == "ball":
            cv2.circle(rgb, (x, y), 24, paint, -1)
        else:
            dark = tuple(int(0.6 * value) for value in paint)
            cv2.rectangle(rgb, (x - 20, y - 22), (x + 20, y), paint, -1)
            cv2.rectangle(rgb, (x - 20, y), (x + 20, y + 22), dark, -1)
    return FrameSet((shown(rgb, START_NS),))


RED_CUBE_BLUE_BALL = colored(("red", (200, 240), "cube"), ("blue", (440, 240), "ball"))
POINTING = (Task.OBJECT, Task.AFFORDANCE, Task.AREA, Task.GRASP)


@pytest.mark.parametrize("task", POINTING)
@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("Wo ist der rote Ball?", "not 'wo', 'ist', 'der', 'rote'."),
        ("the red cat", "not 'cat'."),
        ("the big red cube", "not 'big'."),
        ("the cube left of the ball", "do not understand 'left of' here"),
        ("not the red cube", "do not understand 'not' here"),
        ("pick up the cube but not the red one", "do not understand 'but', 'not' here"),
        ("what is next to the red cube?", "do not understand 'next' here"),
        ("the red cube or the blue ball", "this names the red cube and the blue ball"),
        ("the blue cube", "I see no blue cube"),
        ("the red ball", "I see no red ball; I see a red cube."),
        ("the blue bowl", "I see no blue bowl; I see a blue ball."),
        ("the bowl", "I see no coloured bowl"),
    ],
)
def test_nothing_is_pointed_at_for_words_that_are_only_half_understood(
    text: str, named: str, task: Task
):
    said = answer(RED_CUBE_BLUE_BALL, text, task)
    (grounding,) = parse(said, 1, task=task).groundings
    assert grounding.kind == "no_grounding" and grounding.abstained
    assert named in said


@pytest.mark.parametrize(
    "text",
    [
        *("Where is the ball?", "the ball", "Find the blue one on the table", "blue"),
        *("Show me the bounding box of the blue ball.", "Could you please grasp the ball?"),
        *("Where can I see a sphere?", "put the ball onto the red cube", "go to the blue ball"),
    ],
)
def test_a_shape_alone_finds_the_thing_and_common_words_do_not_hinder(text: str):
    (box,) = groundings(RED_CUBE_BLUE_BALL, text, Task.OBJECT)
    (x0, _), (x1, _) = box.points
    assert x0 < 440 / 640 * 1000 < x1


def test_where_everything_goes_is_not_pointed_at_as_what_is_moved():
    (grounding,) = groundings(RED_CUBE_BLUE_BALL, "put everything onto the red cube", Task.OBJECT)
    assert grounding.kind == "no_grounding"


def test_an_area_to_put_something_is_on_what_it_is_put_onto():
    (area,) = groundings(RED_CUBE_BLUE_BALL, "put the ball onto the red cube", Task.AREA)
    assert area.points and all(x < 500 for x, _ in area.points)


def test_a_shape_that_was_seen_otherwise_is_not_counted():
    assert answer(RED_CUBE_BLUE_BALL, "How many blue cubes are there?", Task.COUNT) == "0"
    assert answer(RED_CUBE_BLUE_BALL, "How many balls do you see?", Task.COUNT) == "1"


def test_of_a_thing_cut_by_the_pictures_edge_the_shape_is_left_open():
    frames = colored(("red", (6, 240), "ball"))
    (box,) = groundings(frames, "the red ball", Task.OBJECT)
    assert box.points[0][0] == 0


def test_without_a_picture_nothing_is_found():
    assert "no picture" in answer(FrameSet(), "the red cube", Task.AFFORDANCE)


def test_a_thing_seen_only_before_is_found_where_it_was(frames: FrameSet):
    later = shown(np.full((120, 160, 3), 120, np.uint8), START_NS + 10**9)
    (grounding,) = groundings(FrameSet((*frames, later)), "the red cube", Task.AFFORDANCE)
    assert grounding.frame == 1


def test_the_same_question_has_the_same_answer(frames: FrameSet):
    texts = {answer(frames, "the red cube", Task.AREA) for _ in range(3)}
    assert len(texts) == 1


def test_a_cancelled_question_is_not_answered(frames: FrameSet):
    cancel = threading.Event()
    cancel.set()
    asked = query(frames, "the red cube", Task.OBJECT)
    said = ColorBaselineEngine().ask(asked, cancel=cancel)
    assert (said.text, said.finish_reason) == ("", FinishReason.CANCELLED)


def test_it_passes_the_check(frames: FrameSet):
    asked = query(frames, "the red cube", Task.AFFORDANCE)
    assert check_engine(ColorBaselineEngine(), asked) == ()


# --- roles ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "thinking", "role"),
    [
        (Task.OBJECT, False, Role.GROUND),
        (Task.OBJECT, True, Role.THINK),
        (Task.THINK, False, Role.THINK),
        (Task.PLAN, True, Role.PLAN),
        (Task.NAVIGATE, False, Role.NAVIGATE),
    ],
)
def test_a_question_needs_a_role(task: Task, thinking: bool, role: Role):
    assert role_of(task, thinking) is role


def test_a_missing_role_is_named():
    engines = Engines({Role.GROUND: ColorBaselineEngine()})
    with pytest.raises(EngineError, match=r"in the role 'plan'.*configured roles: ground"):
        engines.select(query(FrameSet(), "x", Task.PLAN))


def test_a_task_that_the_roles_engine_does_not_know_is_named():
    class Pointing(ColorBaselineEngine):
        info = EngineInfo("pointing", "pointing", tasks=frozenset({Task.OBJECT}))

    with pytest.raises(UnsupportedTaskError, match="pointing cannot answer task plan"):
        Engines.one(Pointing()).select(query(FrameSet(), "x", Task.PLAN))


def test_an_engine_that_serves_several_roles_is_closed_once():
    closed = []

    class Counting(ColorBaselineEngine):
        def close(self) -> None:
            closed.append(self)

    Engines.one(Counting()).close()
    assert len(closed) == 1


def test_an_engine_is_opened_by_its_spelling():
    assert open_engine("color-baseline").info.name == "color-baseline"


@pytest.mark.parametrize("spec", ["", "color-baseline:x", "recorded", "torch"])
def test_an_unknown_spelling_says_which_are_known(spec: str):
    with pytest.raises(InputError, match=re.escape(f"use {ENGINE_SPELLINGS}")):
        open_engine(spec)
