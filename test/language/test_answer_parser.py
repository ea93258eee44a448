"""Every spelling is read; only complete, in-range, frame-resolved groundings are actionable."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rynn_brain_ros.language import parse
from rynn_brain_ros.values import (
    Affordance,
    AnyGrounding,
    Area,
    Box,
    Box3D,
    ContactPoint,
    Count,
    FinishReason,
    Flag,
    GraspRectangle,
    NoGrounding,
    Task,
    Trajectory,
)

BOX = "<object> <frame 1>: (10, 20), (30, 40) </object>"
POINT = "<affordance> <frame 1>: (10, 20) </affordance>"


def only(text: str, n_frames: int = 8, **options: object) -> AnyGrounding:
    reading = parse(text, n_frames, **options)  # type: ignore[arg-type]
    assert not reading.rejected
    (grounding,) = reading.groundings
    return grounding


def reasons(text: str, n_frames: int = 8, **options: object) -> list[str]:
    reading = parse(text, n_frames, **options)  # type: ignore[arg-type]
    assert all(isinstance(part, NoGrounding) for part in reading.groundings)
    return [part.reason for part in reading.rejected]


SPELLINGS = [
    ("<object>  <frame 7>:; (644, 0), (1000, 738) </object>.", Box, 7, ((644, 0), (1000, 738))),
    ("<object> <frame7>; (644,0),(1000,738) </object>", Box, 7, ((644, 0), (1000, 738))),
    ("<object> <frame 1>; (1,1),(200,200) </object>", Box, 1, ((1, 1), (200, 200))),
    ("<object><frame 1>: ...; (1, 2), (3, 4)</object>", Box, 1, ((1, 2), (3, 4))),
    ("<OBJECT> <FRAME 1> [1, 2], [3, 4] </Object>", Box, 1, ((1, 2), (3, 4))),
    ("<bbox> <frame 1>: (1, 2) (3, 4) </bbox>", Box, 1, ((1, 2), (3, 4))),
    ("<bbox> <frame 1>: [[1, 2], [3, 4]] </object>", Box, 1, ((1, 2), (3, 4))),
    ("<segment> <frame 1>: [(1, 2), (3, 4)] </segment>", Box, 1, ((1, 2), (3, 4))),
    ("< object > <frame_1> : (1 , 2),\n(3, 4) </ object >", Box, 1, ((1, 2), (3, 4))),
    ("<area> <frame 5>: ; (1, 2), (3, 4), .... </area>", Area, 5, ((1, 2), (3, 4))),
    ("<affordance> <frame 6>:; (235, 419) </affordance>", Affordance, 6, ((235, 419),)),
    ("<affordance> <frame 6>: (+2.5, 419.0) </affordance>", Affordance, 6, ((2.5, 419.0),)),
    ("<traj> <frame 0> (1, 2), (30, 4) </traj>", Trajectory, 0, ((1, 2), (30, 4))),
    ("<trajectory><frame 3>, (1, 2), (30, 4)</trajectory>", Trajectory, 3, ((1, 2), (30, 4))),
    (
        "<grasp_pose> <frame 2>; (626,520), (875,570), (861,640), (612,590) </grasp pose>",
        GraspRectangle,
        2,
        ((626, 520), (875, 570), (861, 640), (612, 590)),
    ),
]


@pytest.mark.parametrize(("text", "kind", "frame", "points"), SPELLINGS)
def test_spellings(text: str, kind: type, frame: int, points: tuple[object, ...]) -> None:
    grounding = only(text)

    assert (type(grounding), grounding.frame, grounding.points) == (kind, frame, points)
    assert grounding.actionable


def test_a_contact_point_has_an_angle() -> None:
    grounding = only("The pose is <grasp pose> (529, 429), 66.7 </grasp pose>.", n_frames=1)

    assert isinstance(grounding, ContactPoint)
    assert (grounding.points, grounding.angle_deg) == (((529, 429),), 66.7)


def test_an_absurd_angle_is_kept_and_flagged() -> None:
    grounding = only("<grasp pose> (529, 429), 5000 </grasp pose>", n_frames=1)

    assert Flag.OUT_OF_RANGE in grounding.flags


@pytest.mark.parametrize("text", ["<counting>3</counting>", "<count> 3 </count>"])
def test_a_count_is_a_number_without_points(text: str) -> None:
    grounding = only(text)

    assert isinstance(grounding, Count)
    assert (grounding.count, grounding.points, grounding.flags) == (3, (), frozenset())


@pytest.mark.parametrize(
    "text",
    [
        "<3D Grounding> 0.1, -0.2, 1.5, 0.3, 0.2, 0.1, 0.0, 0.5, -1.0 </3D Grounding>",
        "<3d_grounding> [0.1, -0.2, 1.5, 0.3, 0.2, 0.1, 0.0, 0.5, -1.0] </3d_grounding>",
        "<0.1,-0.2,1.5,0.3,0.2,0.1,0.0,0.5,-1.0>",
        '{"bbox_3d": [0.1, -0.2, 1.5, 0.3, 0.2, 0.1, 0.0, 0.5, -1.0], "label": "mug"}',
        '```json\n[{"box_3d": [0.1, -0.2, 1.5, 0.3, 0.2, 0.1, 0, 0.5, -1]}]\n```',
    ],
)
def test_a_3d_box_is_a_prior_in_metres_and_degrees(text: str) -> None:
    grounding = only(text, n_frames=1)

    assert isinstance(grounding, Box3D)
    assert grounding.center_m == (0.1, -0.2, 1.5)
    assert grounding.size_m == (0.3, 0.2, 0.1)
    assert grounding.pitch_yaw_roll_deg == (0.0, 90.0, -180.0)
    assert grounding.flags == {Flag.PRIOR_ONLY}
    assert not grounding.actionable


def test_eight_or_ten_bare_numbers_are_no_3d_box() -> None:
    for n in (8, 10):
        assert parse("<" + ",".join(["1"] * n) + ">", 1).groundings == ()


@pytest.mark.parametrize(
    ("text", "kind", "points"),
    [
        ('{"bbox": [1, 2, 30, 40], "frame_idx": 2}', Box, ((1, 2), (30, 40))),
        ('[{"bbox": [[1, 2], [30, 40]], "frame_idx": 2}]', Box, ((1, 2), (30, 40))),
        ('```json\n[{"frame_idx": 2, "point": [1, 2]}]\n```', Affordance, ((1, 2),)),
        ('Here:\n```\n{"frame_idx": 2, "point": [[1, 2.5]]}\n```', Affordance, ((1, 2.5),)),
        ('{"trajectory": [[1, 2], [30, 40]], "frame_idx": 2}', Trajectory, ((1, 2), (30, 40))),
    ],
)
def test_json_answers(text: str, kind: type, points: tuple[object, ...]) -> None:
    grounding = only(text)

    assert (type(grounding), grounding.frame, grounding.points) == (kind, 2, points)
    assert grounding.actionable


def test_a_json_polygon_is_an_outline_and_no_set_of_points_to_act_on() -> None:
    grounding = only('{"polygon": [[1, 2], [30, 4], [5, 60]], "frame_idx": 2}')

    assert isinstance(grounding, Area)
    assert grounding.flags == {Flag.OUTLINE}
    assert not grounding.actionable


def test_each_json_object_has_its_own_place_and_label() -> None:
    text = '[{"point": [1, 2], "frame_idx": 0, "label": "cup"}, {"point": [3, 4], "frame_idx": 1}]'

    first, second = parse(text, 2).groundings

    assert (first.label, second.label) == ("cup", "")
    assert text[slice(*second.span)] == '{"point": [3, 4], "frame_idx": 1}'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"bbox": [1, 2, 30, "a"], "frame_idx": 0}', "unreadable"),
        ('{"bbox": [1, 2, 30, NaN], "frame_idx": 0}', "unreadable"),
        ('{"bbox": [1, 2, 30, 1e999], "frame_idx": 0}', "unreadable"),
        ('{"bbox": [1, 2, 30, 40], "frame_idx": "0"}', "unreadable"),
        ('{"bbox": [1, 2, 30, 40], "frame_idx": true}', "unreadable"),
        ('{"bbox": [1, 2, 30], "frame_idx": 0}', "unreadable"),
        ('{"bbox": [1, 2, 30, 40', "unreadable"),
        ('{"bbox": [1, 2, 30, 40], "frame_idx": 8}', "frame_out_of_range"),
        ('{"bbox": [1, 2, 30, 40], "frame_idx": -1}', "frame_out_of_range"),
        ('{"point": [1, 2, 3, 4], "frame_idx": 0}', "wrong_number_of_points"),
        ('{"bbox": [1, 2, 30, ' + "9" * 5000 + '], "frame_idx": 0}', "unreadable"),
    ],
)
def test_json_that_may_not_be_used(text: str, reason: str) -> None:
    assert reasons(text) == [reason]


def test_complete_json_objects_survive_a_cut_list() -> None:
    text = '[{"point": [1, 2], "frame_idx": 0}, {"point": [3'

    reading = parse(text, 1, finish_reason=FinishReason.LENGTH)

    assert [grounding.points for grounding in reading.groundings] == [((1, 2),)]
    assert [part.reason for part in reading.rejected] == ["truncated"]


def test_other_json_is_no_grounding() -> None:
    reading = parse('{"name": "cup"}', 1)

    assert (reading.groundings, reading.rejected) == ((), ())


# --- rule 1 ---------------------------------------------------------------------------------------


def test_items_of_the_reasoning_are_kept_apart() -> None:
    text = f"<think>The mug is {BOX}, so</think>#### <answer>{POINT}</answer>"

    reading = parse(text, 2)

    assert [type(part) for part in reading.groundings] == [Affordance]
    assert [type(part) for part in reading.reasoning] == [Box]
    assert (reading.answer_text, reading.reasoning_text) == (POINT, f"The mug is {BOX}, so")


def test_spans_refer_to_the_whole_text() -> None:
    text = f"<think>The mug is {BOX}, so</think>#### <answer>{POINT}</answer>"

    reading = parse(text, 2)

    assert text[slice(*reading.groundings[0].span)] == POINT
    assert text[slice(*reading.reasoning[0].span)] == BOX


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("<think>Left.</think> ", ""),
        ("<think>so</think><answer> ", " </answer> I meant: Left."),
        ("", ""),
    ],
)
def test_an_answer_whose_words_occur_twice_begins_where_it_is_one(before: str, after: str) -> None:
    reading = parse(f"{before}Left.{after}", 1)

    assert (reading.answer_text, reading.answer_start) == ("Left.", len(before))


def test_the_last_answer_counts() -> None:
    text = f"<answer>{BOX}</answer> no: <answer>{POINT}</answer>"

    assert isinstance(only(text), Affordance)


def test_four_hashes_cut_reasoning_without_tags() -> None:
    reading = parse(f"I see {BOX}.\n#### {POINT}", 2)

    assert [type(part) for part in reading.groundings] == [Affordance]
    assert [type(part) for part in reading.reasoning] == [Box]
    assert reading.reasoning_text == f"I see {BOX}."


def test_a_thought_whose_opening_the_template_swallowed_is_reasoning() -> None:
    reading = parse(f"It is {BOX}</think>{POINT}", 2)

    assert [type(part) for part in reading.reasoning] == [Box]


def test_an_unfinished_thought_holds_no_answer() -> None:
    reading = parse(f"<think>It is {BOX} and", 2, task=Task.OBJECT)

    assert [type(part) for part in reading.groundings] == [NoGrounding]
    assert [type(part) for part in reading.reasoning] == [Box]
    assert reading.reasoning_text == f"It is {BOX} and"


def test_a_thinking_answer_cut_before_its_end_is_all_reasoning() -> None:
    options = {"thinking": True, "finish_reason": FinishReason.LENGTH}

    reading = parse(f"I see {BOX} and", 2, **options)  # type: ignore[arg-type]

    assert (reading.groundings, reading.answer_text) == ((), "")
    assert [type(part) for part in reading.reasoning] == [Box]


def test_rejections_of_the_reasoning_are_not_the_answers() -> None:
    assert parse(f"<think><object> (1) </object></think>{POINT}", 2).rejected == ()


# --- rules 2 to 5 ---------------------------------------------------------------------------------


def test_without_a_frame_one_image_is_frame_zero() -> None:
    grounding = only("<affordance> (572, 309) </affordance>", n_frames=1)

    assert (grounding.frame, grounding.actionable) == (0, True)


def test_without_a_frame_several_images_forbid_motion() -> None:
    grounding = only("<affordance> (572, 309) </affordance>", n_frames=2)

    assert (grounding.frame, grounding.flags) == (None, {Flag.FRAME_IMPLICIT})
    assert not grounding.actionable


def test_each_item_has_its_own_frame() -> None:
    text = "<affordance> <frame 0>: (1, 2) </affordance> of <object> (1, 2), (3, 4) </object>"

    assert [part.frame for part in parse(text, 2).groundings] == [0, None]


@pytest.mark.parametrize("frame", ["2", "99999999999999999999"])
def test_a_frame_that_was_not_shown_is_rejected(frame: str) -> None:
    text = f"<affordance> <frame {frame}>: (1, 2) </affordance>"

    assert reasons(text, n_frames=2) == ["frame_out_of_range"]


@pytest.mark.parametrize("point", [(-1, 5), (5, 1001), (5, 1000.5), (999999999999, 0)])
def test_a_coordinate_out_of_range_is_kept_as_written_and_flagged(
    point: tuple[float, float],
) -> None:
    grounding = only(f"<affordance> {point} </affordance>", n_frames=1)

    assert grounding.points == (point,)
    assert grounding.flags == {Flag.OUT_OF_RANGE}
    assert not grounding.actionable


@pytest.mark.parametrize(
    "text",
    [
        "<affordance> (0.5, 0.25) </affordance>",
        "<area> (0.5, 1), (0, 0) </area>",
        "<grasp pose> (0.5, 0.25), 66.7 </grasp pose>",
        '{"point": [0.5, 0.25], "frame_idx": 0}',
    ],
)
def test_fractions_are_not_rescaled_and_flagged(text: str) -> None:
    grounding = only(text, n_frames=1)

    assert 0.5 in grounding.points[0]
    assert grounding.flags == {Flag.FRACTIONS}
    assert not grounding.actionable


@pytest.mark.parametrize("points", ["(0, 1)", "(1.0, 0.0)", "(0.5, 2)", "(0.5, 0.5), (300, 1)"])
def test_a_place_at_the_corner_of_the_picture_is_no_fraction(points: str) -> None:
    assert only(f"<area> {points} </area>", n_frames=1).actionable


def test_integers_stay_integers() -> None:
    ((x, y),) = only("<affordance> (5, 6.0) </affordance>", n_frames=1).points

    assert (type(x), type(y)) == (int, float)


def test_reordered_corners_are_kept_as_written_and_flagged() -> None:
    grounding = only("<object> (30, 20), (10, 40) </object>", n_frames=1)

    assert isinstance(grounding, Box)
    assert grounding.points == ((30, 20), (10, 40))
    assert grounding.bounds == (10, 20, 30, 40)
    assert grounding.flags == {Flag.CORNERS_REORDERED}
    assert grounding.actionable


@pytest.mark.parametrize(
    "text",
    [
        "<object> (10, 20), (10, 40) </object>",
        "<object> (10, 20), (10.9, 20.9) </object>",
        "<grasp pose> (1, 1), (2, 2), (3, 3), (4, 4) </grasp pose>",
        "<3D Grounding> 0, 0, 1, 0.1, 0.0, 0.1, 0, 0, 0 </3D Grounding>",
    ],
)
def test_a_shape_without_area_is_rejected(text: str) -> None:
    assert reasons(text, n_frames=1) == ["degenerate"]


def test_a_trajectory_that_goes_nowhere_is_flagged() -> None:
    grounding = only("<trajectory> (10, 20), (13, 24), (11, 21) </trajectory>", n_frames=1)

    assert grounding.flags == {Flag.DEGENERATE}


@pytest.mark.parametrize(
    "text",
    [
        "<affordance> (1, 2), (3, 4) </affordance>",
        "<object> (1, 2), (3, 4), (5, 6) </object>",
        "<object> (1, 2) </object>",
        "<object></object>",
        "<area></area>",
        "<trajectory>" + "(1, 2), " * 11 + "</trajectory>",
        "<grasp pose> (1, 2), (30, 40) </grasp pose>",
        "<grasp pose> (1, 2) </grasp pose>",
        "<counting> 1, 200 </counting>",
        "<object> (1, 2), (30, 40), 7 </object>",
    ],
)
def test_a_wrong_number_of_points_is_rejected(text: str) -> None:
    assert reasons(text, n_frames=1) == ["wrong_number_of_points"]


@pytest.mark.parametrize(
    "payload",
    [
        "(nan, 5)",
        "(inf, 5)",
        "(1e999, 5)",
        "(1e2, 5)",
        "(.5, 5)",
        "(5, 1234567890123)",
        "(5, 6) maybe",
        "the mug",
        "(٣, ٤)",
        "(5, 6) <frame 1>",
        "<frame -1>: (5, 6)",
    ],
)
def test_a_payload_with_anything_else_is_rejected(payload: str) -> None:
    assert reasons(f"<affordance> {payload} </affordance>") == ["unreadable"]


@pytest.mark.parametrize("count", ["-1", "2.5", "two", ".5", "9" * 5000])
def test_what_is_no_count_is_rejected(count: str) -> None:
    assert reasons(f"<counting>{count}</counting>") == ["unreadable"]


# --- rule 6 ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "<object> <frame 0>: (1, 2), (30, 40)",
        "<affordance> <frame 0>: (1, 2) </aff",
        "<grasp pose> <frame 0>: (1, 2), 66",
        "<counting>1",
        "<area> <frame 0>: (1, 2",
        "<trajectory> <frame 0",
    ],
)
def test_a_cut_answer_is_rejected(text: str) -> None:
    assert reasons(text, finish_reason=FinishReason.LENGTH) == ["truncated"]


@pytest.mark.parametrize("end", ["", ", ", ", (5", ", (55, 6", " </traj", " <"])
def test_complete_points_of_a_cut_trajectory_are_kept_and_flagged(end: str) -> None:
    text = f"<trajectory> <frame 0>: (1, 2), (30, 40){end}"

    grounding = only(text, finish_reason=FinishReason.LENGTH)

    assert grounding.points == ((1, 2), (30, 40))
    assert grounding.flags == {Flag.TRUNCATED}
    assert not grounding.actionable


def test_a_cancelled_answer_is_cut_too() -> None:
    grounding = only("<area> <frame 0>: (1, 2), (30", finish_reason=FinishReason.CANCELLED)

    assert (grounding.points, grounding.flags) == (((1, 2),), {Flag.TRUNCATED})


@pytest.mark.parametrize("end", ["", " ", " <", " </", " </affordance"])
def test_a_closing_tag_stripped_as_stop_string_is_forgiven(end: str) -> None:
    grounding = only(f"<affordance> <frame 0>: (1, 2){end}")

    assert grounding.flags == {Flag.UNCLOSED}
    assert grounding.actionable


def test_the_end_of_the_answer_closes_a_tag() -> None:
    text = "#### <answer><affordance><frame 0> (1, 2)</answer>"

    assert only(text, finish_reason=FinishReason.LENGTH).flags == {Flag.UNCLOSED}


def test_an_incomplete_answer_that_claims_to_be_finished_is_rejected() -> None:
    assert reasons("<affordance> <frame 0>: (1, 2") == ["wrong_number_of_points"]
    assert reasons("<area> <frame 0>: (1, 2), (3") == ["unreadable"]
    assert reasons("<area> <frame 0>: (1, 2), ") == ["truncated"]


def test_an_opened_tag_inside_another_breaks_the_outer_one() -> None:
    reading = parse(f"<area> (1, 2) {POINT} </area>", 2)

    assert [type(part) for part in reading.groundings] == [Affordance]
    assert [part.reason for part in reading.rejected] == ["unclosed"]


def test_a_tag_closed_by_another_name_is_rejected() -> None:
    assert reasons("<object> (1, 2), (30, 40) </area>") == ["unclosed"]


def test_an_echo_of_the_prompt_is_no_answer() -> None:
    text = "Output format: <area> <frame n>: ...; (x1, y1), (x2, y2), .... </area>"

    assert reasons(text) == ["unreadable"]


# --- rule 7 and answers of other kinds ------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "abstained", "reason"),
    [
        ("<no object>", True, "abstained"),
        ("There is <no object> here.", True, "abstained"),
        ("<no area>", True, "abstained"),
        ("<object> <no object> </object>", True, "abstained"),
        ("I cannot see it.", False, "no_item"),
        ("", False, "empty_answer"),
        (" \n", False, "empty_answer"),
        ("at [0.5, 0.52, 0.88]", False, "untagged_coordinates"),
    ],
)
def test_a_grounding_task_without_grounding_says_so(
    text: str, abstained: bool, reason: str
) -> None:
    (grounding,) = parse(text, 2, task=Task.OBJECT).groundings

    assert isinstance(grounding, NoGrounding)
    assert (grounding.abstained, grounding.reason) == (abstained, reason)
    assert not grounding.actionable


def test_an_abstention_alone_needs_no_task() -> None:
    assert isinstance(only("<no object>."), NoGrounding)
    assert parse("I see <no object> here", 1).groundings == ()


def test_untagged_coordinates_are_rejected_and_not_guessed() -> None:
    text = "The robot should grasp the red cube at `right_gripper`: [[0.82, 0.55, 1.6], ...]"

    (rejected,) = parse(text, 1).rejected

    assert (rejected.reason, rejected.text) == ("untagged_coordinates", "[0.82, 0.55, 1.6]")
    assert text[slice(*rejected.span)] == rejected.text


def test_coordinates_in_prose_beside_an_item_are_prose() -> None:
    assert isinstance(only(f"At (1, 2): {POINT}"), Affordance)


def test_a_description_may_hold_numbers_in_brackets() -> None:
    assert parse("Between (1, 2) and (3, 4).", 1, task=Task.DESCRIBE).rejected == ()


@pytest.mark.parametrize("text", ["↑→←STOP", "↑ → ← STOP", "↑, →, ←, STOP."])
def test_navigation_symbols_are_named(text: str) -> None:
    assert parse(text, 1, task=Task.NAVIGATE).actions == ("FORWARD", "RIGHT", "LEFT", "STOP")


@pytest.mark.parametrize("text", ["", "Turn ← now", "↑↑STO"])
def test_navigation_prose_is_no_order(text: str) -> None:
    reading = parse(text, 1, task=Task.NAVIGATE)

    assert reading.actions == ()
    assert [part.reason for part in reading.rejected] == ["unreadable_actions"]


def test_a_navigation_answer_may_point_instead_of_telling_arrows() -> None:
    reading = parse("I go there: <object> (1, 2), (3, 4) </object>", 1, task=Task.NAVIGATE)

    assert (reading.actions, reading.rejected) == ((), ())
    assert [part.points for part in reading.groundings] == [((1, 2), (3, 4))]


def test_done_is_a_claim() -> None:
    assert parse("Done.", 2, task=Task.PLAN).done
    assert not parse("Done with the mug.", 2, task=Task.PLAN).done
    assert not parse("Done.", 2, task=Task.DESCRIBE).done
    assert not parse("Done", 2, finish_reason=FinishReason.LENGTH).done


def test_a_label_is_the_sentence_so_far() -> None:
    text = f"Look. Pick up {POINT} of {BOX}"

    assert [part.label for part in parse(text, 2).groundings] == ["Pick up", "of"]


def test_a_plan_returns_all_its_items_in_order() -> None:
    text = f"Move {BOX} by {POINT} into <area> <frame 0>: (1, 2) </area>."

    assert [part.kind for part in parse(text, 2, task=Task.PLAN).groundings] == [
        *("object", "affordance", "area")
    ]


# --- whatever the text holds ----------------------------------------------------------------------

FRAGMENTS = st.sampled_from(
    [
        *("<object>", "</object>", "<area>", "</area>", "<affordance>", "</affordance>", "<traj>"),
        *("</trajectory>", "<grasp pose>", "</grasp_pose>", "<counting>", "</counting>", "####"),
        *("<3D Grounding>", "</3D Grounding>", "<think>", "</think>", "<answer>", "</answer>"),
        *("<frame 0>", "<frame1>:", "<frame 99999999999999999999>", "<no object>", "(1, 2)", "7"),
        *("(300, 400), ", "(1,", "[[", "]", "nan", "1e999", "-", ".5", ":;", "...", "{", "}", "<"),
        *('{"bbox": ', '{"point": [1, 2]}', "```json", "↑", "STOP", "Done.", " ", "\n", "\ud800"),
    ]
)
TEXTS = st.one_of(st.text(), st.lists(FRAGMENTS, max_size=20).map("".join))


@given(
    TEXTS,
    st.integers(0, 3),
    st.none() | st.sampled_from(Task),
    st.sampled_from(FinishReason),
    st.booleans(),
)
@example("<ſegment> (1, 2) </ſegment>", 1, None, FinishReason.STOP, False)
def test_no_text_raises(
    text: str, n_frames: int, task: Task | None, finish_reason: FinishReason, thinking: bool
) -> None:
    reading = parse(text, n_frames, task=task, finish_reason=finish_reason, thinking=thinking)

    assert reading.text == text
    for part in (*reading.groundings, *reading.reasoning, *reading.rejected):
        assert 0 <= part.span[0] <= part.span[1] <= len(text)
    for grounding in (*reading.groundings, *reading.reasoning):
        if grounding.actionable:
            assert grounding.frame is not None
            assert 0 <= grounding.frame < n_frames
            assert all(0 <= value <= 1000 for point in grounding.points for value in point)


MEGABYTE = 1_000_000
HOSTILE = [
    *("<object>", "</object>", "(1,", "(1, 2)", "<think>", "</think>", "<answer>", "####", "#"),
    *("{", "[[[", "[{", '{"a":', '{"bbox":[', '{"point":[1,2]},', "<", "< ", "<1,", "[1,2]", "9"),
    *(" ", ".", "<object> (1, 2), ", "<area> (1,", "<frame 1>", "<no ", "↑", "```", '"', "1,"),
]


PREFIXES = ["<area> <frame 0>: ", '[{"bbox": ', "(1"]


@pytest.mark.parametrize(
    ("prefix", "unit", "length"),
    [("", unit, MEGABYTE) for unit in HOSTILE]
    + [(prefix, unit, MEGABYTE // 10) for prefix in PREFIXES for unit in HOSTILE],
)
def test_hostile_text_is_read_in_linear_time(prefix: str, unit: str, length: int) -> None:
    text = (prefix + unit * (length // len(unit)))[:length]
    start = time.perf_counter()

    parse(text, 1, finish_reason=FinishReason.LENGTH)

    # Quadratic work would take minutes: the bound tells the two apart, it measures nothing.
    assert time.perf_counter() - start < 5.0


@pytest.mark.parametrize("unit", ["<affordance> (1, 2) </affordance>", '{"point": [1, 2]},'])
def test_an_answer_with_thousands_of_groundings_is_rejected_whole(unit: str) -> None:
    reading = parse(unit * 6000, 1, task=Task.AFFORDANCE)
    assert [part.reason for part in reading.rejected] == ["too_many_tags"]
    assert [part.kind for part in reading.groundings] == ["no_grounding"]
