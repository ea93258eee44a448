"""What is asked, beyond the recorded cases."""

from __future__ import annotations

from dataclasses import replace

import cookbook_cases
import pytest

from rynn_brain_ros.language import compose, default_budget
from rynn_brain_ros.values import (
    Generation,
    ImagePart,
    InputError,
    Message,
    Query,
    Task,
    TextPart,
    Turn,
)

GROUNDING_TASKS = [task for task in Task if task.needs_grounding]
IMAGE = cookbook_cases.frame_set("a")
FRAMES = cookbook_cases.frame_set("a", "b")


def ask(task: Task, instruction: str = "Lift the mug", **changes: object) -> Query:
    return replace(Query("q", task, instruction, FRAMES), **changes)  # type: ignore[arg-type]


def texts(message: Message) -> list[str]:
    return [part.text for part in message.parts if isinstance(part, TextPart)]


def question(query: Query, generation: Generation = Generation.V1_0, **options: str) -> str:
    return texts(compose(query, generation, **options)[-1])[-1]  # type: ignore[arg-type]


def test_chain_of_point_asks_for_the_final_answer_instead_of_the_base_format() -> None:
    text = question(ask(Task.AFFORDANCE, thinking=True))

    assert text == (
        "Lift the mug\nFirst predict the key frame, then output a single affordance point as"
        " coordinates (x, y).\nOutput format: `#### <answer><affordance><frame i> (X, Y)"
        " </affordance></answer>`. Coordinates normalized to 0-1000."
    )


def test_chain_of_point_sets_the_benchmarks_system_prompt() -> None:
    system = compose(ask(Task.OBJECT, thinking=True), Generation.V1_0)[0]

    assert system == Message(
        "system",
        (
            TextPart(
                "You are an embodied agent. You are given a video to solve an object detection"
                " problem. Put your final answer in the format of `#### <answer><object><frame i>"
                " (X_min, Y_min), (X_max, Y_max) </object></answer>`."
            ),
        ),
    )


def test_the_benchmarks_missing_space_between_system_sentences_is_kept() -> None:
    system = compose(ask(Task.TRAJECTORY, thinking=True), Generation.V1_0)[0]

    assert "trajectory prediction problem.Put your final answer" in texts(system)[0]


def test_the_short_system_prompt_is_the_readmes() -> None:
    query = ask(Task.COUNT, thinking=True)

    system = compose(query, Generation.V1_0, system_prompt="short")[0]

    assert texts(system) == [
        "You are an embodied agent. You are given a video to solve a counting problem."
    ]


def test_the_system_prompt_can_be_left_out() -> None:
    messages = compose(ask(Task.AREA, thinking=True), Generation.V1_0, system_prompt="none")

    assert [message.role for message in messages] == ["user"]


def test_general_thinking_asks_for_four_hashes() -> None:
    system, user = compose(ask(Task.THINK, "Why is it wet?"), Generation.V1_0)

    assert texts(system)[0].endswith("provide your final answer after `####`.")
    assert texts(user) == ["<frame 0>: ", "<frame 1>: ", "Why is it wet?"]


def test_only_thinking_has_a_system_prompt() -> None:
    for task in set(Task) - {Task.THINK}:
        assert compose(ask(task), Generation.V1_0)[0].role == "user"


def test_one_image_has_no_name() -> None:
    message = compose(ask(Task.AREA, frames=IMAGE), Generation.V1_0)[0]

    assert [type(part) for part in message.parts] == [ImagePart, TextPart]


def test_one_image_is_named_where_the_answer_must_name_it() -> None:
    for query in (ask(Task.PLAN, frames=IMAGE), ask(Task.OBJECT, frames=IMAGE, thinking=True)):
        assert "<frame 0>: " in texts(compose(query, Generation.V1_0)[-1])


def test_a_plain_question_leaves_frames_unnamed() -> None:
    for task in (Task.DESCRIBE, Task.COUNT):
        assert texts(compose(ask(task, "How many?"), Generation.V1_0)[0]) == ["How many?"]


def test_counting_with_thinking_names_frames() -> None:
    user = compose(ask(Task.COUNT, "How many?", thinking=True), Generation.V1_0)[1]

    assert texts(user)[:2] == ["<frame 0>: ", "<frame 1>: "]


@pytest.mark.parametrize("task", GROUNDING_TASKS)
@pytest.mark.parametrize("frames", [IMAGE, FRAMES])
@pytest.mark.parametrize("generation", list(Generation))
def test_abstention_comes_last(task: Task, frames: object, generation: Generation) -> None:
    query = ask(task, frames=frames)

    plain, abstaining = (
        question(replace(query, abstain=abstain), generation) for abstain in (False, True)
    )

    assert abstaining.startswith(plain)
    assert "return exactly <no object> and do not invent" in abstaining[len(plain) :]


def test_a_free_grasp_request_gets_the_words_that_make_it_one() -> None:
    text = question(ask(Task.GRASP, "Pick up the pen.", frames=IMAGE), Generation.V1_1)

    assert text == "Pick up the pen. Output the grasp pose."


def test_the_first_generations_grasp_asks_for_four_corners_in_its_tag() -> None:
    assert "<grasp pose> (x1,y1), (x2,y2), (x3,y3), (x4,y4) </grasp pose>" in question(
        ask(Task.GRASP, frames=IMAGE)
    )


def test_the_json_protocol_follows_the_instruction_in_one_sentence() -> None:
    text = question(ask(Task.OBJECT, "The red mug."), Generation.V1_1, protocol="json")

    assert text == "The red mug. Predict the bounding box. Output the result in JSON format."


@pytest.mark.parametrize(
    ("query", "generation"),
    [
        (ask(Task.OBJECT), Generation.V1_0),
        (ask(Task.GRASP), Generation.V1_1),
        (ask(Task.OBJECT, thinking=True), Generation.V1_1),
    ],
)
def test_json_is_refused_where_no_model_knows_it(query: Query, generation: Generation) -> None:
    with pytest.raises(InputError, match="JSON protocol"):
        compose(query, generation, protocol="json")


def test_thinking_is_refused_where_no_model_was_trained_to() -> None:
    with pytest.raises(InputError, match="think about plan"):
        compose(ask(Task.PLAN, thinking=True), Generation.V1_0)


def test_a_grounding_query_needs_a_frame() -> None:
    with pytest.raises(InputError, match="at least one frame"):
        compose(ask(Task.OBJECT, frames=cookbook_cases.frame_set()), Generation.V1_0)


def test_an_earlier_turn_needs_a_frame() -> None:
    history = (Turn(cookbook_cases.frame_set(), "↑"),)

    with pytest.raises(InputError, match="earlier turn"):
        compose(ask(Task.NAVIGATE, history=history), Generation.V1_0)


def test_braces_in_an_instruction_are_words() -> None:
    for task in (Task.PLAN, Task.NAVIGATE):
        assert "a {mug} {" in texts(compose(ask(task, "a {mug} {"), Generation.V1_0)[0])[0]


def test_navigation_shows_old_observations_with_the_goal_and_pairs_recent_ones() -> None:
    query = ask(
        Task.NAVIGATE,
        "go on",
        frames=cookbook_cases.frame_set("old 0", "old 1", "now"),
        history=(
            Turn(cookbook_cases.frame_set("recent 0"), "↑↑↑↑"),
            Turn(cookbook_cases.frame_set("recent 1"), "←"),
        ),
    )

    messages = compose(query, Generation.V1_0)

    assert [message.role for message in messages] == [
        *("user", "user", "assistant", "user", "assistant", "user")
    ]
    shown = [
        [part.image.frame.camera for part in message.parts if isinstance(part, ImagePart)]
        for message in messages
    ]
    assert shown == [["old 0", "old 1"], ["recent 0"], [], ["recent 1"], [], ["now"]]
    assert texts(messages[0])[0].endswith("or STOP. These are your historical observations: ")
    assert [texts(messages[i])[0] for i in (2, 4)] == ["↑↑↑↑", "←"]
    assert [texts(messages[i]) for i in (1, 3, 5)] == [["you can see "]] * 3


def test_navigation_tells_before_the_next_view_what_was_not_carried_out() -> None:
    view = cookbook_cases.frame_set
    history = (
        Turn(view("first"), "↑", "↑↑: a wall"),
        Turn(view("second"), "", "STOP: too far"),
        Turn(view("third"), "←"),
    )

    messages = compose(
        ask(Task.NAVIGATE, "go", frames=view("now"), history=history), Generation.V1_0
    )

    assert [message.role for message in messages] == [
        *("user", "user", "assistant", "user", "assistant", "user")
    ]
    assert texts(messages[1]) == texts(messages[5]) == ["you can see "]
    assert texts(messages[3]) == [
        "Not carried out: ↑↑: a wall. Not carried out: STOP: too far. you can see "
    ]


@pytest.mark.parametrize("task", list(Task))
def test_every_task_has_a_budget_and_thinking_a_larger_one(task: Task) -> None:
    assert 0 < default_budget(task).max_new_tokens <= default_budget(task, True).max_new_tokens
    assert default_budget(task, True).max_new_tokens == 2048
