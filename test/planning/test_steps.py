"""From a planner's sentence to one typed step, or a named refusal."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rynn_brain_ros.language import parse
from rynn_brain_ros.planning.steps import read_step, told_order
from rynn_brain_ros.values import (
    Answer,
    AnyGrounding,
    FinishReason,
    FrameSet,
    LiftedGrounding,
    LiftedPoint,
    NoGrounding,
    Query,
    Refusal,
    RefusalCode,
    Response,
    Skill,
    Step,
    Task,
)

GRASP = "<affordance> <frame 1>: (577, 371) </affordance>"
THING = "<object> <frame 1>: (541, 248), (680, 414) </object>"
OTHER = "<object> <frame 0>: (41, 48), (80, 114) </object>"
AREA = "<area> <frame 1>: (667, 579) </area>"
PATH = "<trajectory> <frame 1>: (100, 200), (300, 400) </trajectory>"
PLACE = LiftedPoint((320.0, 240.0), (0.0, 0.0, 1.0), (1e-6, 0, 0, 0, 1e-6, 0, 0, 0, 1e-6))
ON_AN_EDGE = Refusal(RefusalCode.DEPTH_EDGE, "two surfaces are equally likely")


def lift(grounding: AnyGrounding, refused: tuple[str, ...]) -> LiftedGrounding:
    """Bound as `ask` does it; groundings of the kinds ``refused`` lie on a depth edge."""
    bound = LiftedGrounding(grounding, None)
    if isinstance(grounding, NoGrounding):
        return replace(bound, refusal=Refusal(RefusalCode.NO_GROUNDING, "it points at nothing"))
    if not grounding.actionable:
        return replace(bound, refusal=Refusal(RefusalCode.OUT_OF_RANGE, "out of range"))
    if grounding.kind in refused:
        return replace(bound, refusal=ON_AN_EDGE)
    return replace(bound, points=(PLACE,), target=PLACE)


def respond(
    text: str,
    *refused: str,
    reason: FinishReason = FinishReason.STOP,
    task: Task = Task.PLAN,
    n_frames: int = 2,
) -> Response:
    reading = parse(text, n_frames, task=task, finish_reason=reason)
    lifted = tuple(lift(grounding, refused) for grounding in reading.groundings)
    query = Query("q0001", task, "Put the fork on the plate", FrameSet())
    return Response(query, Answer("q0001", text, reason, "test", "test"), reading, lifted)


def step_of(text: str, *refused: str) -> Step:
    step = read_step(respond(text, *refused))
    assert isinstance(step, Step), step
    return step


def refusal_of(text: str, *refused: str, reason: FinishReason = FinishReason.STOP) -> Refusal:
    refusal = read_step(respond(text, *refused, reason=reason))
    assert isinstance(refusal, Refusal), refusal
    return refusal


# --- one step ------------------------------------------------------------------------------------


def test_a_pick_as_the_planner_writes_it():
    step = step_of(f"Pick up {GRASP} of {THING}.")
    assert step.skill is Skill.PICK
    assert step.grasp.grounding.points == ((577, 371),)
    assert step.thing.grounding.bounds == (541, 248, 680, 414)
    assert (step.area, step.path, step.preposition) == (None, None, "")


def test_a_place_as_the_planner_writes_it():
    step = step_of(f"Place {THING} into {AREA}.")
    assert step.skill is Skill.PLACE
    assert step.area.grounding.points == ((667, 579),)
    assert step.thing is not None
    assert step.preposition == "into"


@pytest.mark.shared
@pytest.mark.parametrize(
    ("case", "skill"), [("plan_fork_turn1", Skill.PICK), ("plan_fork_turn2", Skill.PLACE)]
)
def test_the_recorded_answers_are_steps(case: str, skill: Skill, shared_data: Path):
    cases = json.loads((shared_data / "cookbook" / "cases.json").read_text(encoding="utf-8"))
    (recorded,) = (c for c in cases["cases"] if c["id"] == case)
    assert step_of(recorded["output"]).skill is skill


def test_done_is_a_step_that_points_at_nothing():
    step = step_of("Done.")
    assert (step.skill, step.groundings) == (Skill.DONE, ())


def test_done_among_other_words_is_no_claim_to_be_done():
    assert refusal_of("It is not done.").code is RefusalCode.UNKNOWN_SKILL


@pytest.mark.parametrize(
    ("sentence", "skill"),
    [
        (f"Grasp {THING}", Skill.PICK),
        (f"grab {GRASP}", Skill.PICK),
        (f"Take {GRASP} of {THING} with the left arm.", Skill.PICK),
        (f"Lift {THING}.", Skill.PICK),
        (f"Put {THING} down on {AREA}.", Skill.PLACE),
        (f"DROP it in {AREA}!", Skill.PLACE),
        (f"Insert {THING} into {AREA}.", Skill.PLACE),
        (f"Stack {THING} onto {AREA}.", Skill.PLACE),
        (f"Set it at {AREA}.", Skill.PLACE),
        (f"Push {THING} along {PATH}.", Skill.PUSH),
        (f"Slide {THING} to {AREA}.", Skill.PUSH),
        (f"Move {THING} along {PATH}.", Skill.PUSH),
        (f"Open the drawer at {GRASP}.", Skill.OPEN),
        (f"Pull {GRASP} to open {THING}.", Skill.OPEN),
        (f"Close {GRASP} along {PATH}.", Skill.CLOSE),
        (f"Shut the door by {GRASP}.", Skill.CLOSE),
        (f"Pour the water into {AREA}.", Skill.POUR),
        (f"Hand over {THING}.", Skill.HAND_OVER),
        (f"Give it to the person at {AREA}.", Skill.HAND_OVER),
        (f"Move to {AREA}.", Skill.MOVE_TO),
        (f"**Move** to {THING}.", Skill.MOVE_TO),
        (f"Move the left gripper to {GRASP}.", Skill.MOVE_TO),
        (f"Go back to {AREA}.", Skill.MOVE_TO),
        (f"Navigate to {AREA}.", Skill.MOVE_TO),
        (f"Look at {THING}.", Skill.LOOK_AT),
        (f"Take a closer look at {AREA}.", Skill.LOOK_AT),
    ],
)
def test_verbs_are_known_by_their_synonyms(sentence: str, skill: Skill):
    assert step_of(sentence).skill is skill


@pytest.mark.parametrize(
    "lead",
    [
        *("First, ", "1. ", "2) ", "Next, ", "Then ", "Step 1: ", "**", "- ", "* ", "\n\n", '"'),
        *("The next step is to ", "Action: ", "The robot should ", "Now, carefully ", "Step 1. "),
        *("The fork lies beside the plate. ", "With the left arm, ", "Use the left arm to "),
    ],
)
def test_what_leads_to_the_verb_is_passed_over(lead: str):
    assert step_of(f"{lead}pick up {GRASP} of {THING}.").skill is Skill.PICK


def test_the_sentence_is_kept_verbatim():
    text = f"The fork is here. Place **{THING}** into {AREA}. That is all."
    assert step_of(text).text == f"Place **{THING}** into {AREA}."


@pytest.mark.parametrize(
    ("words", "preposition"),
    [
        ("into", "into"),
        ("onto the plate on the left", "onto"),
        ("next to the cup", "next to"),
        ("In Front Of", "in front of"),
        ("", ""),
    ],
)
def test_the_preposition_is_the_word_before_the_area(words: str, preposition: str):
    assert step_of(f"Place the one on the table {THING} {words} {AREA}.").preposition == preposition


def test_reasoning_is_no_part_of_the_step():
    text = f"<think>Open {GRASP}. Place {OTHER}.</think><answer>Pick up {THING}.</answer>"
    step = step_of(text)
    assert step.skill is Skill.PICK
    assert step.thing.grounding.frame == 1
    assert step.text == f"Pick up {THING}."


def test_an_answer_that_repeats_its_reasoning_is_read_where_it_stands():
    answer = f"Wipe {THING}. Pick up."
    refusal = refusal_of(f"<think>{answer}</think>{answer}")
    assert "'Wipe' is no known skill" in refusal.text


def test_an_answer_after_reasoning_may_end_without_its_closing_tag():
    step = step_of("<think>Open it.</think> Place it on <area> <frame 1>: (667, 579)  \n\n")
    assert (step.skill, step.preposition) == (Skill.PLACE, "on")


# --- one step at a time ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        f"Pick up {GRASP} of {THING}. Place {OTHER} into {AREA}.",
        f"1. Pick up {THING}\n2. Place it into {AREA}",
        f"Pick up {THING} and place it into {AREA}.",
        f"Pick up {THING}, then put it into {AREA}.",
        f"Pick and place {THING} into {AREA}.",
        f"Pick up {THING}.Place it into {AREA}.",
        f"Pick up {GRASP} to open {THING}.",
        f"Pick up {GRASP} and pick up {THING}.",
        f"I see {OTHER}. Pick up {THING}.",
    ],
)
def test_of_two_steps_none_is_taken(text: str):
    refusal = refusal_of(text)
    assert refusal.code is RefusalCode.INCOMPLETE_STEP
    assert "one step at a time" in refusal.text


def test_the_same_order_again_is_no_second_step():
    assert step_of(f"Pick up {THING} and lift it.").skill is Skill.PICK


def test_a_hyphen_begins_no_second_step():
    assert step_of(f"Pick up the left-hand cup {THING}.").skill is Skill.PICK


def test_two_things_for_one_part_are_ambiguous():
    refusal = refusal_of(f"Pick up {THING} or {OTHER}.")
    assert refusal.code is RefusalCode.AMBIGUOUS
    assert "box (<object>) is given twice" in refusal.text


# --- the closed skill set -------------------------------------------------------------------------


def test_an_unknown_verb_is_named_with_the_known_skills():
    refusal = refusal_of(f"Carefully wipe {AREA}.")
    assert refusal.code is RefusalCode.UNKNOWN_SKILL
    assert "'wipe' is no known skill" in refusal.text
    assert all(skill.value in refusal.text for skill in Skill)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"Take your hand off the red cup {THING}.", "'Take your hand' is no pick of a thing"),
        (f"Lift the gripper above the cup {THING}.", "'Lift the gripper' is no pick"),
        (f"Lift your robot's arm away from {THING}.", "is no pick of a thing"),
        (f"Take a picture of the cup {THING}.", "'Take a picture' is no pick"),
        (f"Take a step back from {THING}.", "'Take a step' is no pick"),
        (f"Move the gripper above {THING} along {PATH}.", "'Move the gripper' is no push"),
        (f"Place the end effector over {AREA}.", "is no place of a thing"),
        (f"Place it not in {AREA}.", "'not' says what is not to be done"),
    ],
)
def test_an_order_about_the_robot_itself_or_against_something_moves_no_thing(text: str, said: str):
    refusal = refusal_of(text)
    assert refusal.code is RefusalCode.UNKNOWN_SKILL
    assert said in refusal.text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"Push {THING} away from {AREA}.", "'away from'"),
        (f"Push {THING} off {AREA}.", "'off'"),
        (f"Push {THING} from {AREA}.", "'from'"),
        (f"Push {THING} away from the plate on the table {AREA}.", "'away from'"),
        (f"Place the red cube far from {AREA}.", "'far from'"),
        (f"Place it outside of {AREA}.", "'outside'"),
        (f"Place it on the table, clear of {AREA}.", "'clear of'"),
        (f"Pour the water out of {AREA}.", "'out of'"),
        (f"Go to the door away from {AREA}.", "'away from'"),
        (f"Look away from {AREA}.", "'away from'"),
    ],
)
def test_nothing_goes_where_it_is_to_come_or_stay_away_from(text: str, said: str):
    refusal = refusal_of(text)
    assert refusal.code is RefusalCode.UNKNOWN_SKILL
    assert f"{said} says what is not to be done" in refusal.text


@pytest.mark.parametrize(
    "text",
    [
        f"Pick up anything except the red cube {THING}.",
        f"Pick up the ball without touching {THING}.",
        f"Pick up the ball instead of {THING}.",
        f"Pick up {GRASP} while avoiding {THING}.",
        f"Put the red cube anywhere but {AREA}.",
        f"Place it on the table except {AREA}.",
    ],
)
def test_what_is_pointed_at_as_the_exception_is_not_acted_on(text: str):
    refusal = refusal_of(text)
    assert refusal.code is RefusalCode.UNKNOWN_SKILL
    assert "says what is not to be done" in refusal.text


def test_an_order_away_from_a_place_is_no_order_to_it():
    assert told_order(parse(f"Push {THING} away from {AREA}.", 2, task=Task.PLAN)) is None


@pytest.mark.parametrize(
    ("text", "skill"),
    [
        (f"Pick up {THING} from {AREA}.", Skill.PICK),
        (f"Take {GRASP} of {THING} off {AREA}.", Skill.PICK),
        (f"Place the cup from the shelf on {AREA}.", Skill.PLACE),
        (f"Place the cup off the tray next to {AREA}.", Skill.PLACE),
        (f"Drop it off at {AREA}.", Skill.PLACE),
        (f"Put it on the off-white plate {AREA}.", Skill.PLACE),
        (f"Place it on {AREA} away from the edge.", Skill.PLACE),
        (f"Place {THING} into {AREA} without spilling.", Skill.PLACE),
        (f"Push {THING} away from the edge to {AREA}.", Skill.PUSH),
        (f"Push {THING} along {PATH} away from {AREA}.", Skill.PUSH),
        (f"Pour the water out of the cup into {AREA}.", Skill.POUR),
    ],
)
def test_where_a_thing_comes_from_may_be_told(text: str, skill: Skill):
    assert step_of(text).skill is skill


def test_the_preposition_is_that_of_where_it_goes():
    step = step_of(f"Place the cup from the shelf next to {AREA}.")
    assert step.preposition == "next to"


@pytest.mark.parametrize(
    ("words", "skill"),
    [
        (f"Pick up the hand towel {THING}.", Skill.PICK),
        (f"Take the camera strap {THING}.", Skill.PICK),
        (f"Push the step stool {THING} along {PATH}.", Skill.PUSH),
        (f"Pick up the cup without a lid {THING}.", Skill.PICK),
    ],
)
def test_a_thing_whose_name_begins_like_a_part_of_the_robot_is_a_thing(words: str, skill: Skill):
    assert step_of(words).skill is skill


@pytest.mark.parametrize(
    "text",
    [
        f"Do not pick up {THING}.",
        f"Never open {GRASP}.",
        f"The sign says: open {GRASP}.",
        f'"Pick up" is written on {THING}.',
        f"The label 'open' is at {GRASP}.",
        f"{THING} is to be picked up.",
        f"Picking {THING}.",
        f"Openly {GRASP}.",
    ],
)
def test_a_sentence_that_does_not_begin_with_its_verb_is_no_order(text: str):
    assert refusal_of(text).code is RefusalCode.UNKNOWN_SKILL


@pytest.mark.parametrize(
    "label", ["'and open the drawer'", '"then push it"', "“, pour it out”", "labelled push and run"]
)
def test_words_on_a_thing_are_data(label: str):
    assert step_of(f"Pick up the box {label} {THING}.").skill is Skill.PICK


def test_a_verb_inside_of_a_tag_is_no_verb():
    refusal = refusal_of("The <object> pick up (1, 2) </object>.")
    assert refusal.code is RefusalCode.UNKNOWN_SKILL


def test_bare_text_is_quoted_from_its_start():
    refusal = refusal_of("I am sorry, " + "this is difficult. " * 20)
    assert refusal.code is RefusalCode.UNKNOWN_SKILL
    assert "'I am sorry, this is difficult." in refusal.text
    assert len(refusal.text) < 300


def test_an_empty_answer_is_told_as_such():
    assert "the answer is empty" in refusal_of("  ").text


# --- missing and unusable parts -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("Pick up the fork.", "'Pick' needs a grasp point (<affordance>) or the thing's box"),
        (f"Place {THING}.", "a destination (<area>)"),
        (f"Push {THING}.", "a drawn path (<trajectory>) or the thing's box (<object>) with a"),
        (f"Move {THING} into {AREA}.", "'Move' needs a drawn path (<trajectory>):"),
        (f"Open {THING}.", "a grasp point (<affordance>):"),
        (f"Close {PATH}.", "a grasp point (<affordance>):"),
        (f"Pour {GRASP}.", "'Pour' needs a destination (<area>):"),
        (f"Pour {THING}.", "'Pour' needs a destination (<area>):"),
        ("Hand over.", "a destination (<area>) or the thing's box"),
        ("Go to the kitchen.", "a destination (<area>) or the thing's box"),
        ("Look around.", "the thing's box (<object>) or a destination"),
    ],
)
def test_what_is_missing_is_named(text: str, missing: str):
    refusal = refusal_of(text)
    assert refusal.code is RefusalCode.INCOMPLETE_STEP
    assert missing in refusal.text


def test_an_unreadable_part_is_missing_and_says_why():
    refusal = refusal_of("Place it into <area> <frame 7>: (1, 2) </area>.")
    assert refusal.code is RefusalCode.INCOMPLETE_STEP
    assert "It names frame 7; 2 were shown." in refusal.text


def test_an_unreadable_second_sentence_is_still_a_second_step():
    text = f"Pick up {THING}. Place it into <area> <frame 7>: (1, 2) </area>."
    assert refusal_of(text).code is RefusalCode.INCOMPLETE_STEP


def test_coordinates_without_a_tag_are_no_part():
    refusal = refusal_of("Pick up the fork at (577, 371).")
    assert refusal.code is RefusalCode.INCOMPLETE_STEP
    assert "outside of any tag" in refusal.text


def test_a_needed_part_that_was_refused_keeps_its_refusal():
    refusal = refusal_of(f"Place {THING} into {AREA}.", "area")
    assert refusal.code is RefusalCode.DEPTH_EDGE
    assert refusal.text == f"a destination (<area>) to Place: {ON_AN_EDGE.text}"


def test_a_coordinate_out_of_range_is_refused_as_such():
    text = f"Place it into {AREA}.".replace("667", "1067")
    assert refusal_of(text).code is RefusalCode.OUT_OF_RANGE


def test_an_extra_part_that_was_refused_is_left_out():
    step = step_of(f"Place {THING} into {AREA}.", "object")
    assert step.thing is None
    assert step.area is not None


def test_a_box_stands_in_for_a_grasp_point_that_was_refused():
    step = step_of(f"Pick up {GRASP} of {THING}.", "affordance")
    assert step.grasp is None
    assert step.thing is not None


def test_without_any_usable_part_a_pick_is_refused():
    refusal = refusal_of(f"Pick up {GRASP} of {THING}.", "affordance", "object")
    assert refusal.code is RefusalCode.DEPTH_EDGE


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        (f"Move to {AREA} near {THING}.", "area"),
        (f"Push {THING} along {PATH} to {AREA}.", "trajectory"),
        (f"Push {THING} to {AREA}.", "area"),
    ],
)
def test_nothing_stands_in_for_a_place_that_was_refused(text: str, refused: str):
    assert refusal_of(text, refused).code is RefusalCode.DEPTH_EDGE


def test_a_part_without_a_place_in_space_is_refused():
    response = respond(f"Place it into {AREA}.")
    nowhere = replace(response.lifted[0], target=None)
    refusal = read_step(replace(response, lifted=(nowhere,)))
    assert refusal.code is RefusalCode.INCOMPLETE


# --- no answer ------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["<no object>", "Pick up <no object>.", "There is <no target>"])
def test_an_abstention_is_no_grounding_in_the_planners_words(text: str):
    refusal = refusal_of(text)
    assert refusal.code is RefusalCode.NO_GROUNDING
    assert text in refusal.text


def test_an_answer_of_another_task_without_grounding_keeps_its_reason():
    refusal = read_step(respond("Nowhere.", task=Task.OBJECT))
    assert refusal.code is RefusalCode.NO_GROUNDING
    assert "it points at nothing" in refusal.text


@pytest.mark.parametrize("reason", [FinishReason.LENGTH, FinishReason.CANCELLED])
@pytest.mark.parametrize("text", [f"Pick up {GRASP} of {THING}.", "Done."])
def test_an_answer_that_was_cut_off_is_no_step(text: str, reason: FinishReason):
    refusal = refusal_of(text, reason=reason)
    assert refusal.code is RefusalCode.INCOMPLETE_STEP
    assert reason.value in refusal.text


# --- any text -------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        *(
            GRASP,
            THING,
            OTHER,
            AREA,
            PATH,
            "<area> (5, 6)",
            "</object>",
            "<no area>",
            "\ufffc",
            "'",
        ),
        *(
            "Pick up ",
            "place ",
            "Move to ",
            "open",
            "Done.",
            " and ",
            ", ",
            ". ",
            "\n",
            "1. ",
            "to ",
        ),
        *("<think>", "</think>", "<answer>", "####", '"', "**", "not ", "(1, 2)", "↑", "İ"),
    ]
)
NEEDED = {
    Skill.PICK: ("grasp", "thing"),
    Skill.PLACE: ("area",),
    Skill.PUSH: ("path", "area"),
    Skill.OPEN: ("grasp",),
    Skill.CLOSE: ("grasp",),
}


@given(
    st.one_of(st.text(), st.lists(PIECES, max_size=12).map("".join)),
    st.sets(st.sampled_from(["object", "area", "affordance", "trajectory"])),
    st.sampled_from([Task.PLAN, Task.OBJECT, Task.NAVIGATE]),
    st.integers(1, 3),
)
@example(f"Pick up {GRASP} of {THING}.", {"affordance"}, Task.PLAN, 2)
@example(f"<think>{AREA}</think>\ufffcplace {AREA}", set(), Task.PLAN, 2)
def test_whatever_is_written_a_step_has_all_it_needs(
    text: str, refused: set[str], task: Task, n_frames: int
):
    step = read_step(respond(text, *refused, task=task, n_frames=n_frames))
    if isinstance(step, Refusal):
        assert step.text
        return
    assert step.text in text
    parts = step.groundings
    assert all(part.refusal is None and part.target is not None for part in parts)
    assert all(part.grounding.actionable for part in parts)
    needed = NEEDED.get(step.skill, ("grasp", "thing", "area", "path"))
    given_parts = [slot for slot in needed if getattr(step, slot) is not None]
    assert given_parts or step.skill is Skill.DONE


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (f"Pick up {THING}. " * 2000, RefusalCode.INCOMPLETE_STEP),
        ("and then move to " * 20000, RefusalCode.INCOMPLETE_STEP),
        (f"Pick up {THING}. " * 3000, RefusalCode.UNKNOWN_SKILL),
        ("and " * 50000, RefusalCode.UNKNOWN_SKILL),
        ("'" * 50000 + '"' * 50000, RefusalCode.UNKNOWN_SKILL),
        ("Pick up " + "move " * 50000, RefusalCode.INCOMPLETE_STEP),
        ("Pick up " + "\n" * 50000, RefusalCode.INCOMPLETE_STEP),
    ],
    ids=["sentences", "orders", "tags", "leads", "quotes", "verbs", "lines"],
)
def test_a_flood_of_words_is_refused_like_a_few(text: str, code: RefusalCode):
    refusal = refusal_of(text)
    assert refusal.code is code
    assert len(refusal.text) < 400
