"""What an engine may write: all that the formatter writes, and nothing that cannot be read."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import cookbook_cases
import pytest
from cookbook_cases import frame_set
from hypothesis import given
from hypothesis import strategies as st

from rynn_brain_ros.language import StrictAnswer, format_grounding, parse, strict_answer
from rynn_brain_ros.language.prompts import default_budget
from rynn_brain_ros.values import (
    Affordance,
    AnyGrounding,
    Area,
    Box,
    ContactPoint,
    Flag,
    Generation,
    GraspRectangle,
    NoGrounding,
    Query,
    Task,
    Trajectory,
)

SPAN = (0, 0)
COORDINATES = st.integers(0, 1000)
POINTS = st.tuples(COORDINATES, COORDINATES)
N_FRAMES = 12
FRAMES = st.integers(0, N_FRAMES - 1)
ANGLES = st.floats(0, 180).map(lambda angle: round(angle, 1))
GRASP_KINDS = {Generation.V1_0: GraspRectangle, Generation.V1_1: ContactPoint}
KINDS = {
    Task.OBJECT: Box,
    Task.AREA: Area,
    Task.AFFORDANCE: Affordance,
    Task.TRAJECTORY: Trajectory,
}
ASKED = [*((task, Generation.V1_0) for task in KINDS), *((Task.GRASP, g) for g in Generation)]
LOCALIZING = pytest.mark.parametrize(("task", "generation"), ASKED, ids=str)


def points(least: int, most: int) -> st.SearchStrategy[tuple[tuple[int, int], ...]]:
    return st.lists(POINTS, min_size=least, max_size=most).map(tuple)


GROUNDINGS: dict[type, st.SearchStrategy[AnyGrounding]] = {
    Box: st.builds(Box, FRAMES, points(2, 2), st.just(SPAN), st.just("object")),
    Area: st.builds(Area, FRAMES, points(1, 10), st.just(SPAN), st.just("area")),
    Affordance: st.builds(Affordance, FRAMES, points(1, 1), st.just(SPAN), st.just("affordance")),
    Trajectory: st.builds(Trajectory, FRAMES, points(1, 10), st.just(SPAN), st.just("trajectory")),
    GraspRectangle: st.builds(
        GraspRectangle, FRAMES, points(4, 4), st.just(SPAN), st.just("grasp pose")
    ),
    ContactPoint: st.builds(
        ContactPoint,
        FRAMES,
        points(1, 1),
        st.just(SPAN),
        st.just("grasp pose"),
        angle_deg=ANGLES,
    ),
}


def kind_of(task: Task, generation: Generation) -> type:
    return KINDS.get(task) or GRASP_KINDS[generation]


def question(task: Task, n_frames: int = N_FRAMES, **more: object) -> Query:
    names = [f"frame{i}" for i in range(n_frames)]
    query = Query("q", task, "Point.", frame_set(*names), default_budget(task))
    return replace(query, **more)


def strict(query: Query, generation: Generation = Generation.V1_0) -> StrictAnswer:
    found = strict_answer(query, generation)
    assert found is not None
    return found


def whole(answer: StrictAnswer) -> str:
    return f"{answer.words}{answer.answer()}"


@LOCALIZING
@given(data=st.data(), with_frame=st.booleans())
def test_all_that_the_formatter_writes_may_be_written(
    task: Task, generation: Generation, data: st.DataObject, with_frame: bool
) -> None:
    """For whole numbers, which is all that the model was trained to write."""
    grounding = data.draw(GROUNDINGS[kind_of(task, generation)])
    n_frames = N_FRAMES if with_frame else 1
    answer = strict(question(task, n_frames), generation)
    assert re.fullmatch(whole(answer), format_grounding(grounding, with_frame=with_frame))


@LOCALIZING
@pytest.mark.parametrize("n_frames", [1, 3])
@given(data=st.data())
def test_all_that_may_be_written_is_read_as_what_was_asked(
    task: Task, generation: Generation, n_frames: int, data: st.DataObject
) -> None:
    """Boxes and grasps without any area excepted: the parser refuses them by name."""
    query = question(task, n_frames, abstain=True)
    pattern = re.compile(whole(strict(query, generation)), re.ASCII)
    text = data.draw(st.from_regex(pattern, fullmatch=True))

    reading = parse(text, n_frames, task=task)

    if [rejected.reason for rejected in reading.rejected] == ["degenerate"]:
        assert task in (Task.OBJECT, Task.GRASP)
        return
    (read,) = reading.groundings
    assert not reading.rejected
    if isinstance(read, NoGrounding):
        assert read.abstained
    else:
        assert isinstance(read, kind_of(task, generation))
        assert read.flags <= {Flag.CORNERS_REORDERED, Flag.DEGENERATE}


@LOCALIZING
@pytest.mark.parametrize("thinking", [False, True], ids=["", "thinking"])
@given(data=st.data())
def test_an_answer_is_never_longer_than_it_says(
    task: Task, generation: Generation, thinking: bool, data: st.DataObject
) -> None:
    answer = strict(question(task, 11, thinking=thinking, abstain=True), generation)
    text = data.draw(st.from_regex(re.compile(answer.cut + answer.answer()), fullmatch=True))
    assert len(text) <= answer.room(answer.most)


def test_the_longest_answer_is_as_long_as_it_says_or_nearly() -> None:
    answer = strict(question(Task.OBJECT, 11))
    text = "<object>  <frame 10> : ; (1000, 1000), (1000, 1000) </object>"
    assert re.fullmatch(answer.answer(), text)
    assert len(text) <= answer.room(2) <= len(text) + 4


@LOCALIZING
def test_words_and_the_shortest_answer_fit_into_the_default_budget(
    task: Task, generation: Generation
) -> None:
    answer = strict(question(task), generation)
    words = "The start trajectory is at "
    assert len(words) + answer.room(answer.least) <= default_budget(task).max_new_tokens


@pytest.mark.parametrize(
    ("task", "text"),
    [
        (Task.AFFORDANCE, "<affordance> <frame 12>: (1, 2) </affordance>"),
        (Task.AFFORDANCE, "<affordance> (1, 2) </affordance>"),
        (Task.AFFORDANCE, "<affordance> <frame 1>: (1001, 2) </affordance>"),
        (Task.AFFORDANCE, "<affordance> <frame 1>: (012, 2) </affordance>"),
        (Task.AFFORDANCE, "<affordance> <frame 1>: (-1, 2) </affordance>"),
        (Task.AFFORDANCE, "<affordance> <frame 1>: (1.5, 2) </affordance>"),
        (Task.AFFORDANCE, "<affordance> <frame 1>: (1, 2), (3, 4) </affordance>"),
        (Task.AFFORDANCE, "<object> <frame 1>: (1, 2), (3, 4) </object>"),
        (Task.OBJECT, "<object> <frame 1>: (1, 2) </object>"),
        (Task.TRAJECTORY, f"<trajectory> <frame 1>: {', '.join(['(1, 2)'] * 11)} </trajectory>"),
        (Task.AREA, "<area> <frame 1>: </area>"),
        (Task.AFFORDANCE, "<no object>"),
        (Task.AFFORDANCE, "It is at (1, 2)."),
    ],
)
def test_what_was_not_asked_may_not_be_written(task: Task, text: str) -> None:
    assert not re.fullmatch(whole(strict(question(task))), text)


@pytest.mark.parametrize("task", [*KINDS, Task.GRASP], ids=str)
def test_where_the_question_lets_it_the_model_may_say_that_it_is_not_there(task: Task) -> None:
    assert re.fullmatch(whole(strict(question(task, abstain=True))), "<no object>")


@pytest.mark.parametrize(
    "query",
    [
        question(Task.DESCRIBE),
        question(Task.COUNT, thinking=True),
        question(Task.PLAN),
        question(Task.NAVIGATE),
        question(Task.THINK),
    ],
    ids=["describe", "count", "plan", "navigate", "think"],
)
def test_other_answers_are_free_text(query: Query) -> None:
    assert strict_answer(query, Generation.V1_0) is None


def test_a_list_can_be_held_to_fewer_points_but_never_to_none() -> None:
    path = strict(question(Task.TRAJECTORY))
    three = "<trajectory> <frame 1>: (1, 2), (3, 4), (5, 6) </trajectory>"
    one = "<trajectory> <frame 1>: (1, 2) </trajectory>"
    assert re.fullmatch(path.answer(3), three)
    assert not re.fullmatch(path.answer(2), three)
    assert re.fullmatch(path.answer(0), one)


def test_the_answer_behind_a_thought_is_in_its_own_tags() -> None:
    answer = strict(question(Task.AFFORDANCE, thinking=True))
    assert answer.words is None
    written = "\n#### <answer><affordance><frame 3>, (12, 34)</affordance></answer>"
    assert re.fullmatch(answer.cut + answer.answer(), written)


LOCALIZED = [
    *("object_location_video_blue_cloth", "object_location_image_microwave"),
    *("area_location_video_nightstand", "affordance_video_pillow", "affordance_image_cabinet"),
    *("trajectory_video_chopsticks", "contact_pen", "contact_box", "contact_banana"),
    *("contact_tipped_mug", "contact_highlighter", "grasp_4corners_2b"),
]


@pytest.mark.shared
@pytest.mark.parametrize("name", LOCALIZED)
def test_every_recorded_answer_may_be_written(shared_data: Path, name: str) -> None:
    """Up to its closing tag, where an engine stops."""
    case = next(case for case in cookbook_cases.load(shared_data) if case["id"] == name)
    query = cookbook_cases.query(case)
    if not query.frames:  # one picture, which is not in the record
        query = replace(query, frames=frame_set("picture"))
    answer = strict(query, cookbook_cases.generation(case))
    text = case["output"]
    assert re.fullmatch(whole(answer), text[: text.rindex(">") + 1])


@pytest.mark.shared
def test_of_the_recorded_localizations_only_those_off_the_format_may_not_be(
    shared_data: Path,
) -> None:
    cases = cookbook_cases.load(shared_data)
    tasks = {*KINDS, Task.GRASP}
    others = {
        case["id"]
        for case in cases
        if cookbook_cases.TASKS[case["task"]] in tasks and case["id"] not in LOCALIZED
    }
    assert all(name.startswith("offformat_") for name in others)
