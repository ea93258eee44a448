"""What grippers are asked, and how wide they say that they are."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from interfaces import filled, part
from played_wire import ACCEPTED, Played, ends, ok

from rynn_brain_ros.actuators import GoalFailed, Reply
from rynn_brain_ros.actuators.grippers import (
    GRASP,
    GRIPPER_COMMAND,
    MOVE,
    PARALLEL_GRIPPER,
    Gripper,
    grip_call,
    why_unmoved,
)
from rynn_brain_ros.actuators.profile import GripperProfile
from rynn_brain_ros.values import GoalEvent, GoalEventKind, GripGoal

FRANKA = GripperProfile(kind="franka")
COMMAND = GripperProfile(kind="gripper_command")
PARALLEL = GripperProfile(kind="parallel_gripper")


def test_a_gripper_command_is_one_fingers_place_and_the_force():
    sent = filled(grip_call(GripGoal(0.06, 25.0), COMMAND, opens=True)).command
    assert (sent.position, sent.max_effort) == (0.03, 25.0)


def test_a_parallel_gripper_gets_its_joint_with_place_and_force():
    sent = filled(grip_call(GripGoal(0.06, 25.0), PARALLEL, opens=True)).command
    assert list(sent.name) == ["panda_finger_joint1"]
    assert (list(sent.position), list(sent.effort)) == ([0.03], [25.0])


def test_a_franka_hand_grasps_whatever_is_between_its_fingers():
    sent = filled(grip_call(GripGoal(0.0, 30.0), FRANKA, opens=False))
    assert (sent.width, sent.force, sent.speed) == (0.0, 30.0, 0.05)
    assert (sent.epsilon.inner, sent.epsilon.outer) == (0.08, 0.08)


def test_a_franka_hand_opens_by_moving():
    sent = filled(grip_call(GripGoal(0.07), FRANKA, opens=True))
    assert (sent.width, sent.speed) == (0.07, 0.05)


@given(
    width=st.one_of(
        st.sampled_from((math.nan, math.inf)), st.floats(0.0801), st.floats(max_value=-1e-9)
    ),
    kind=st.sampled_from((FRANKA, COMMAND, PARALLEL)),
)
def test_a_width_that_the_hand_has_not_is_rejected(width: float, kind: GripperProfile):
    with pytest.raises(GoalFailed, match="the width between the fingers"):
        grip_call(GripGoal(width), kind, opens=True)


@given(
    force=st.one_of(st.sampled_from((math.nan, math.inf)), st.floats(max_value=-1e-9)),
    kind=st.sampled_from((FRANKA, COMMAND, PARALLEL)),
)
def test_a_force_that_is_none_is_rejected(force: float, kind: GripperProfile):
    with pytest.raises(GoalFailed, match="the force of the fingers"):
        grip_call(GripGoal(0.05, force), kind, opens=False)


@given(width=st.floats(0.0, 0.08), force=st.floats(0.0, 140.0))
def test_every_width_of_the_hand_can_be_asked(width: float, force: float):
    sent = filled(grip_call(GripGoal(width, force), COMMAND, opens=True)).command
    assert (2 * sent.position, sent.max_effort) == (pytest.approx(width), force)


# --- what comes back ----------------------------------------------------------------------------


STOPPED = {"reached_goal": False, "stalled": True}


def width(event: Any) -> float:
    return event.value("width_m")


@pytest.mark.parametrize(
    "end",
    [
        ok(position=0.02, reached_goal=False, stalled=True),
        ends(GoalEventKind.ABORTED, position=0.02, reached_goal=False, stalled=True),
    ],
)
def test_fingers_that_stop_at_something_have_gripped_it(end: Any):
    event = Played("franka_panda").carry_out(GripGoal(0.0), end)
    assert event.kind is GoalEventKind.SUCCEEDED
    assert width(event) == pytest.approx(0.04)


def test_fingers_that_come_all_the_way_tell_so():
    event = Played("franka_panda").carry_out(GripGoal(0.0), ok(position=0.0, reached_goal=True))
    assert (event.kind, width(event)) == (GoalEventKind.SUCCEEDED, 0.0)


def test_an_abort_halfway_is_an_abort_with_the_width():
    end = ends(GoalEventKind.ABORTED, position=0.02)
    event = Played("franka_panda").carry_out(GripGoal(0.08), end)
    assert (event.kind, width(event)) == (GoalEventKind.ABORTED, pytest.approx(0.04))
    assert "aborted at 40.0 mm" in event.text


@pytest.mark.parametrize(
    "end",
    [
        ok(position=0.002, **STOPPED),
        ends(GoalEventKind.ABORTED, position=0.002, **STOPPED),
        ok(position=0.002),
    ],
)
def test_fingers_that_stop_before_they_are_open_have_not_opened(end: Any):
    event = Played("franka_panda").carry_out(GripGoal(0.074), end)
    assert (event.kind, width(event)) == (GoalEventKind.ABORTED, pytest.approx(0.004))
    assert "at 4.0 mm, not at the 74.0 mm to open to" in event.text


@pytest.mark.parametrize("kind", [GoalEventKind.SUCCEEDED, GoalEventKind.ABORTED])
def test_fingers_that_stop_wider_than_asked_have_something_between_them(kind: GoalEventKind):
    end = ends(kind, position=0.025, **STOPPED)
    event = Played("franka_panda").carry_out(GripGoal(0.03), end)
    assert (event.kind, width(event)) == (GoalEventKind.SUCCEEDED, pytest.approx(0.05))


def test_fingers_that_came_by_their_servers_tolerance_have_opened():
    """ros2_controllers end a goal 1 cm before each finger is there."""
    event = Played("franka_panda").carry_out(GripGoal(0.074), ok(position=0.028, reached_goal=True))
    assert (event.kind, width(event)) == (GoalEventKind.SUCCEEDED, pytest.approx(0.056))


def came(*fingers_m: float) -> list[Any]:
    """Goals that end by the tolerance of ros2_controllers, one after the other."""
    return [ok(position=finger_m, reached_goal=True) for finger_m in fingers_m]


def asked(hand: Played) -> list[float]:
    return [request.command.position for request in hand.wire.requests]


def test_fingers_that_were_told_to_be_closed_on_their_way_are_waited_for():
    hand = Played("franka_panda")
    event = hand.carry_out(GripGoal(0.0), *came(0.0098, 0.005, 0.001))
    assert (event.kind, width(event)) == (GoalEventKind.SUCCEEDED, pytest.approx(0.002))
    assert asked(hand) == [0.0] * 3


def test_a_thin_thing_is_held_once_the_fingers_are_still():
    hand = Played("franka_panda")
    event = hand.carry_out(GripGoal(0.0), *came(0.0098, 0.006, *[0.005] * 5))
    assert (event.kind, width(event)) == (GoalEventKind.SUCCEEDED, pytest.approx(0.01))
    assert len(asked(hand)) == 7


def test_fingers_that_have_not_begun_to_close_are_not_taken_for_still():
    event = Played("franka_panda").carry_out(GripGoal(0.0), *came(*[0.009] * 4, 0.006, 0.0))
    assert (event.kind, width(event)) == (GoalEventKind.SUCCEEDED, 0.0)


def test_fingers_that_stop_at_something_in_the_end_hold_it():
    stopped = ok(position=0.007, **STOPPED)
    event = Played("franka_panda").carry_out(GripGoal(0.0), *came(0.0098), stopped)
    assert (event.kind, width(event)) == (GoalEventKind.SUCCEEDED, pytest.approx(0.014))


def test_fingers_that_never_are_still_are_given_up_with_what_to_do():
    event = Played("franka_panda").carry_out(GripGoal(0.0), *came(*[0.009, 0.008] * 25))
    assert (event.kind, width(event)) == (GoalEventKind.ABORTED, pytest.approx(0.016))
    assert "last at 16.0 mm and not still: make the controller's goal_tolerance" in event.text


def test_fingers_that_open_are_not_asked_again():
    hand = Played("franka_panda")
    hand.carry_out(GripGoal(0.074), *came(0.028))
    assert asked(hand) == [0.037]


def test_a_grip_that_is_cancelled_on_the_way_is_not_asked_again():
    hand = Played("franka_panda")
    hand.carry_out(GripGoal(0.0), *came(0.0098))
    hand.actuator.cancel("g")
    came(0.006)[0](hand.wire)
    assert hand.last().kind is GoalEventKind.CANCELLED
    assert asked(hand) == [0.0] * 2


@given(thing_m=st.floats(0.0, 0.08), m_s=st.floats(0.01, 0.5))
def test_the_width_that_is_told_is_that_of_the_thing_however_slow_the_fingers(thing_m, m_s):
    """A controller that answers at once, looked at every 40 ms; a stall takes longer than all."""
    hand = Gripper(COMMAND)
    plan = hand.plan(GripGoal(0.0))
    call, width_m = next(plan), max(0.0199, thing_m)
    told = {} if thing_m < 0.02 else {"stalled": True, "reached_goal": False}
    with pytest.raises(StopIteration) as done:
        while True:
            fields = {"position": width_m / 2, "reached_goal": True, **told}
            plan.send(Reply(GoalEventKind.SUCCEEDED, part(call.type, "Result", fields)))
            width_m = max(thing_m, width_m - 0.04 * m_s)
    assert abs(dict(done.value.value)["width_m"] - thing_m) <= 0.003


def test_an_abort_whose_result_nobody_filled_has_not_closed_the_hand():
    event = Played("franka_panda").carry_out(GripGoal(0.0), ends(GoalEventKind.ABORTED))
    assert (event.kind, "aborted at 0.0 mm" in event.text) == (GoalEventKind.ABORTED, True)


def test_a_result_that_nobody_filled_says_that_the_fingers_did_not_move():
    """franka_gripper's, of an opening that is wider than the homed hand."""
    assert "max_width" in why_unmoved(part(GRIPPER_COMMAND, "Result"))


@pytest.mark.parametrize(
    "told",
    [
        {"position": 0.02},  # franka_gripper, where something keeps the fingers apart
        {"position": 0.02, **STOPPED},  # ros2_controllers
        {"stalled": True},
        {"reached_goal": True},
    ],
)
def test_fingers_that_something_stopped_did_move(told: dict[str, Any]):
    assert why_unmoved(part(GRIPPER_COMMAND, "Result", told)) == ""


@pytest.mark.parametrize("told", [{"state": {"position": [0.02]}}, {"stalled": True}])
def test_fingers_of_a_parallel_gripper_that_something_stopped_did_move(told: dict[str, Any]):
    assert why_unmoved(part(PARALLEL_GRIPPER, "Result", told)) == ""
    assert "max_width" in why_unmoved(part(PARALLEL_GRIPPER, "Result"))


def test_a_cancelled_grip_is_cancelled():
    end = ends(GoalEventKind.CANCELLED, position=0.02)
    assert Played().carry_out(GripGoal(0.0), end).kind is GoalEventKind.CANCELLED


def feel(hand: Played, width_m: float) -> None:
    type_ = hand.wire.calls[-1][1].type
    feedback = part(type_, "Feedback", {"current_width": width_m})
    hand.wire.say(Reply(GoalEventKind.FEEDBACK, feedback))


def grip(hand: Played, goal_m: float, felt_m: float) -> GoalEvent:
    """A goal that succeeds, with one feedback."""
    hand.send(GripGoal(goal_m))
    hand.wire.say(ACCEPTED)
    feel(hand, felt_m)
    hand.wire.end(success=True)
    return hand.last()


def test_a_franka_hand_tells_its_width_in_the_feedback():
    event = grip(Played("franka_fr3"), 0.0, 0.041)
    assert (event.kind, width(event)) == (GoalEventKind.SUCCEEDED, 0.041)


def test_a_hand_that_tells_no_width_has_not_gripped():
    event = Played("franka_fr3").carry_out(GripGoal(0.0), ok(success=True))
    assert event.kind is GoalEventKind.ABORTED
    assert "does not tell how far apart" in event.text


def test_the_width_of_the_goal_before_is_not_that_of_this_one():
    """Fingers that had been open and tell nothing while they close hold nobody knows what."""
    hand = Played("franka_fr3")
    assert width(grip(hand, 0.065, 0.065)) == 0.065
    event = hand.carry_out(GripGoal(0.0), ok(success=True))
    assert event.kind is GoalEventKind.ABORTED
    assert math.isnan(width(event))
    assert "does not tell how far apart" in event.text


@pytest.mark.parametrize("width_m", [0.0, 0.065])
def test_a_franka_hand_that_is_there_already_need_not_tell_its_width_again(width_m: float):
    hand = Played("franka_fr3")
    for _ in range(2):  # the second ends before any feedback
        assert width(grip(hand, width_m, width_m)) == width_m
        assert width(hand.carry_out(GripGoal(width_m), ok(success=True))) == width_m


def test_a_franka_hand_that_opened_is_as_wide_as_it_was_told():
    hand = Played("franka_fr3")
    assert width(hand.carry_out(GripGoal(0.065), ok(success=True))) == 0.065


def test_a_franka_hand_that_did_not_succeed_says_why():
    event = Played("franka_fr3").carry_out(GripGoal(0.0), ok(success=False, error="no homing"))
    assert (event.kind, "no homing" in event.text) == (GoalEventKind.ABORTED, True)


def test_a_franka_hand_closes_with_force_and_opens_without():
    hand = Played("franka_fr3")
    for width_m, wanted in ((0.08, MOVE), (0.0, GRASP), (0.03, GRASP), (0.06, MOVE)):
        hand.send(GripGoal(width_m))
        assert hand.wire.calls[-1][1].type == wanted
        hand.wire.say(ACCEPTED)
        feel(hand, max(width_m, 0.04))
        hand.wire.end(success=True)
        hand.poll()


def test_a_franka_hand_that_closes_past_the_width_is_opened_to_it():
    """A Grasp presses on whatever is there, and goes on where nothing is."""
    hand = Played("franka_fr3")
    grip(hand, 0.08, 0.08)
    assert grip(hand, 0.055, 0.0).kind is GoalEventKind.FEEDBACK  # it goes on
    assert [call.type for _, call in hand.wire.calls[1:]] == [GRASP, MOVE]
    assert hand.wire.requests[-1].width == 0.055
    hand.wire.say(ACCEPTED)
    hand.wire.end(success=True)
    event = hand.last()
    assert (event.kind, width(event)) == (GoalEventKind.SUCCEEDED, 0.055)


def test_a_franka_hand_that_stays_narrower_than_it_was_to_open_has_not_opened():
    hand = Played("franka_fr3")
    grip(hand, 0.074, 0.004)
    hand.wire.say(ACCEPTED)
    feel(hand, 0.004)
    hand.wire.end(success=True)
    event = hand.last()
    assert (event.kind, width(event)) == (GoalEventKind.ABORTED, 0.004)
    assert "franka_gripper/move succeeded at 4.0 mm, not at the 74.0 mm" in event.text


def test_homing_comes_once_before_the_first_grip_where_it_is_wanted():
    hand = Gripper(replace(FRANKA, home_first=True))
    types = []
    for _ in range(2):
        plan = hand.plan(GripGoal(0.0))
        call = next(plan)
        types.append(call.type)
        if call.type.endswith("Homing"):
            result = part(call.type, "Result", {"success": True})
            types.append(plan.send(Reply(GoalEventKind.SUCCEEDED, result)).type)
    assert [type_.split("/")[-1] for type_ in types] == ["Homing", "Grasp", "Grasp"]


def parallel(**state: Any) -> tuple[GoalEventKind, float]:
    """How a parallel gripper that closed on something ends where its result has this joint state,
    and the width."""
    hand = Gripper(PARALLEL)
    plan = hand.plan(GripGoal(0.0))
    call = next(plan)
    result = part(call.type, "Result", {"state": state, "stalled": True})
    try:
        plan.send(Reply(GoalEventKind.SUCCEEDED, result))
    except StopIteration as done:
        return GoalEventKind.SUCCEEDED, dict(done.value)["width_m"]
    except GoalFailed as failed:
        return failed.kind, math.nan
    raise AssertionError("it calls once more")


@pytest.mark.parametrize(
    "state",
    [
        {"name": ["panda_finger_joint1"], "position": [0.015]},
        {"name": ["other_joint", "panda_finger_joint1"], "position": [0.0, 0.015]},
        {"position": [0.015]},  # as ros2_controllers have it
    ],
)
def test_a_parallel_gripper_tells_its_width_by_its_joint(state: dict[str, Any]):
    assert parallel(**state) == (GoalEventKind.SUCCEEDED, 0.03)


@pytest.mark.parametrize(
    "state",
    [
        {"name": ["other_joint"], "position": [0.015]},
        {"name": ["other_joint", "panda_finger_joint1"], "position": [0.015]},
        {},
    ],
)
def test_a_parallel_gripper_that_leaves_out_its_joint_tells_no_width(state: dict[str, Any]):
    assert parallel(**state)[0] is GoalEventKind.ABORTED


def test_a_parallel_gripper_that_was_told_to_be_closed_on_its_way_is_waited_for():
    hand = Gripper(PARALLEL)
    plan = hand.plan(GripGoal(0.0))
    call = next(plan)
    for finger_m in (0.009, 0.004):
        fields = {"state": {"position": [finger_m]}, "reached_goal": True}
        result = part(call.type, "Result", fields)
        assert plan.send(Reply(GoalEventKind.SUCCEEDED, result)) == call
