"""A turn as messages: the plan with the state of each step, and every decision with its numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import story_examples as examples

from rynn_brain_ros.bags.types import message, typestore
from rynn_brain_ros.values import Cause, Refusal, RefusalCode, Skill
from rynn_brain_ros.view.turn_messages import (
    DECISIONS,
    PLAN,
    TURN_TYPES,
    proposal,
    turn_publications,
)

NOW_NS = examples.stamp(20.0)
OK, WARN, ERROR = 0, 1, 2
OBJECT, AFFORDANCE = 1, 3  # KIND_* of Grounding.msg


def told(turns) -> dict:
    return dict(turn_publications(examples.TASK, turns, NOW_NS))


def plan_of(turns):
    return told(turns)[PLAN]


def statuses(turn) -> list[tuple[int, str]]:
    return [(status["level"], status["name"]) for status in told([turn])[DECISIONS]["status"]]


@pytest.mark.parametrize("name", examples.ALL)
def test_every_message_can_be_sent(name: str):
    store, turns = typestore(), examples.ALL[name]().turns
    for n in range(1, len(turns) + 1):
        for topic, data in turn_publications(examples.TASK, turns[:n], NOW_NS):
            typename = TURN_TYPES[topic]
            raw = store.serialize_cdr(message(typename, data, store), typename)
            back = store.deserialize_cdr(raw, typename)
            assert back.header.stamp.sec * 10**9 + back.header.stamp.nanosec == NOW_NS


def test_the_plan_grows_by_a_step_a_turn_and_keeps_the_words():
    turns = examples.success().turns
    plan = plan_of(turns[:2])
    assert [step["skill"] for step in plan["steps"]] == ["pick", "place"]
    assert [step["index"] for step in plan["steps"]] == [0, 1]
    assert plan["steps"][0]["text"] == turns[0].step.text
    assert [target["kind"] for target in plan["steps"][0]["targets"]] == [AFFORDANCE, OBJECT]
    assert (plan["task"], plan["done"]) == (examples.TASK, False)


def test_the_plan_is_done_when_the_planner_says_so():
    assert plan_of(examples.success().turns)["done"] is True


PICK = examples.pick_turn(0, 0.0)
DENIED = replace(
    examples.done_turn(1, 8.0, False), refusal=Refusal(RefusalCode.UNCONFIRMED, "it is not there")
)


def test_a_plan_whose_end_was_denied_is_not_done():
    assert plan_of([PICK, DENIED])["done"] is False


def test_a_plan_that_goes_on_after_its_end_is_done_when_the_planner_says_so_again():
    again = examples.pick_turn(2, 10.0)
    assert plan_of([PICK, DENIED, again])["done"] is False
    assert plan_of([PICK, DENIED, again, examples.done_turn(3, 16.0)])["done"] is True


def test_a_step_that_nobody_carries_out_is_a_plan_of_one_proposed_step():
    assert PICK.response is not None
    assert PICK.step is not None
    plan = proposal(PICK.response, PICK.step, NOW_NS)
    (step,) = plan["steps"]
    assert (step["skill"], step["state"], step["reason_code"]) == ("pick", 0, "")
    assert plan["query_id"] == PICK.response.query.query_id
    assert (plan["task"], plan["done"]) == (PICK.response.query.instruction, False)
    store, typename = typestore(), TURN_TYPES[PLAN]
    assert store.serialize_cdr(message(typename, plan, store), typename)


@pytest.mark.parametrize(
    ("turn", "state", "code"),
    [
        (PICK, 3, ""),
        (examples.scene_changed().turns[0], 4, "scene_changed"),
        (examples.nothing_gripped().turns[0], 5, "nothing_gripped"),
        (examples.cancelled().turns[0], 6, "cancelled"),
        (examples.done_turn(0, 0.0, True), 3, ""),
        (examples.done_turn(0, 0.0, False), 0, ""),
        (replace(PICK, moves=(replace(PICK.moves[0], outcome=None),)), 1, ""),
    ],
    ids=["done", "refused", "failed", "stopped", "confirmed", "unconfirmed", "approved"],
)
def test_a_step_has_its_state_and_its_reason(turn, state: int, code: str):
    (step,) = plan_of([turn])["steps"]
    assert (step["state"], step["reason_code"]) == (state, code)


def test_a_turn_without_a_step_leaves_the_plan_as_it_was():
    refused = replace(examples.absent().turns[0], number=1)
    query = replace(refused.response.query, query_id="q0002-another")
    refused = replace(refused, response=replace(refused.response, query=query))
    plan = plan_of([PICK, refused])
    assert [step["skill"] for step in plan["steps"]] == [Skill.PICK.value]
    assert plan["query_id"] == PICK.response.query.query_id


def test_an_approved_motion_is_two_statuses_with_their_numbers():
    gate, motion = told([PICK])[DECISIONS]["status"]
    assert (gate["level"], gate["name"], gate["message"]) == (OK, "turn 1: pick: gate", "approved")
    values = {item["key"]: item["value"] for item in gate["values"]}
    assert values["frame age"] == "0.31 s (allowed: at most 2 s)"
    assert values["armed"] == "armed, 54 s left"
    assert (motion["level"], motion["name"]) == (OK, "turn 1: pick: motion")
    numbers = {item["key"]: item["value"] for item in motion["values"]}
    assert numbers == {"stages_done": "6", "seconds": "5.700", "gripper_width_m": "0.0596"}


def test_what_the_gate_refused_is_told_once_and_names_the_check():
    turn = examples.scene_changed().turns[0]
    (gate,) = [s for s in told([turn])[DECISIONS]["status"] if s["name"].endswith("gate")]
    assert gate["level"] == ERROR
    assert gate["message"].startswith("scene_changed: 38 mm")
    values = {item["key"]: item["value"] for item in gate["values"]}
    assert values["scene unchanged"] == "NO: 38 mm (allowed: at most 10 mm)"
    assert not any(name.endswith("refused") for _, name in statuses(turn))


def test_a_refusal_before_the_gate_is_a_warning_of_its_own():
    assert statuses(examples.absent().turns[0]) == [(WARN, "turn 1: refused")]


def test_a_motion_that_failed_says_why():
    turn = examples.nothing_gripped().turns[0]
    motion = told([turn])[DECISIONS]["status"][1]
    assert motion["level"] == WARN
    assert motion["message"].startswith(f"{Cause.NOTHING_GRIPPED.value}: grip: the fingers closed")


@pytest.mark.parametrize(("confirmed", "level"), [(True, OK), (False, WARN)])
def test_a_confirmation_has_its_checks(confirmed: bool, level: int):
    turn = examples.done_turn(2, 0.0, confirmed)
    (status,) = told([turn])[DECISIONS]["status"]
    assert (status["level"], status["name"]) == (level, "turn 3: confirmation")
    assert len(status["values"]) == 2


def test_every_arrow_of_a_drive_is_told():
    turn = examples.driving().turns[0]
    assert len(statuses(turn)) == 2 * len(turn.moves)
