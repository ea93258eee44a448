"""One goal in flight on servers far away: every way that it can end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from interfaces import part
from played_wire import ACCEPTED, PLANNED, SUCCESS, Played, place, straight_path, tcp

from rynn_brain_ros.actuators import Call, Reply
from rynn_brain_ros.planning.goals import GoalTimeouts, GoalTracker
from rynn_brain_ros.values import (
    Cause,
    DriveGoal,
    FollowGoal,
    Goal,
    GoalEventKind,
    GripGoal,
    NavigateGoal,
    PostureGoal,
    ReachGoal,
    SpinGoal,
)

K = GoalEventKind
REACH, STRAIGHT = ReachGoal(tcp()), ReachGoal(tcp(), straight=True)


@pytest.fixture
def arm() -> Played:
    return Played("franka_panda")


def test_a_goal_is_accepted_reported_and_done_in_this_order(arm: Played):
    arm.send(REACH)
    assert arm.kinds() == []
    arm.wire.say(ACCEPTED)
    assert arm.kinds() == [K.ACCEPTED]
    arm.wire.end(**PLANNED)
    assert arm.kinds() == []
    arm.wire.say(ACCEPTED)
    arm.wire.end(**SUCCESS)
    assert arm.kinds() == [K.SUCCEEDED]
    assert arm.kinds() == []


def test_a_second_goal_at_the_same_time_is_rejected(arm: Played):
    arm.send(REACH, "first")
    arm.send(REACH, "second")
    (event,) = arm.poll()
    assert (event.goal_id, event.kind) == ("second", K.REJECTED)
    assert "'first' is still in flight" in event.text


def test_a_server_that_is_not_there_is_told_by_name():
    arm = Played(there=set())
    arm.send(REACH)
    (event,) = arm.poll()
    assert event.kind is K.LOST
    assert "there is no action server at move_action" in event.text
    assert arm.wire.calls == []


def test_a_server_that_dies_on_the_way_is_lost(arm: Played):
    arm.send(REACH)
    arm.wire.say(ACCEPTED)
    arm.poll()
    arm.wire.there = set()
    event = arm.last()
    assert (event.kind, "move_action is gone" in event.text) == (K.LOST, True)


def test_the_second_server_of_a_goal_may_be_missing(arm: Played):
    arm.wire.there = {"compute_cartesian_path"}
    arm.send(STRAIGHT)
    arm.wire.end(**straight_path())
    assert "no action server at execute_trajectory" in arm.last().text


def test_a_goal_whose_server_went_out_of_reach_is_cancelled_when_it_is_back(arm: Played):
    """What was only lost to the network drives on."""
    arm.send(REACH)
    arm.wire.say(ACCEPTED)
    arm.poll()
    ((call_id, _),) = arm.wire.calls
    arm.wire.there = set()
    assert arm.kinds() == [K.LOST]
    assert arm.wire.cancelled == [call_id]
    arm.poll()
    arm.wire.there = None
    arm.poll()
    arm.poll()
    assert arm.wire.cancelled == [call_id] * 2, "once more, as soon as it can be heard"
    arm.wire.there = set()
    arm.wire.inbox.append((call_id, Reply(K.CANCELLED)))
    arm.poll()
    arm.wire.there = None
    assert arm.kinds() == []
    assert len(arm.wire.cancelled) == 2, "it has ended"


@pytest.mark.parametrize("kind", [K.REJECTED, K.ABORTED, K.CANCELLED, K.LOST])
def test_every_end_keeps_its_kind_and_names_the_server(arm: Played, kind: GoalEventKind):
    arm.send(REACH)
    arm.wire.say(Reply(kind, None, "so it says"))
    event = arm.last()
    assert (event.kind, event.text) == (kind, f"move_action {kind.value}: so it says")


def test_a_cancel_goes_to_the_server_and_its_answer_ends_the_goal(arm: Played):
    arm.send(REACH)
    arm.wire.say(ACCEPTED)
    arm.poll()
    arm.actuator.cancel("g")
    assert arm.wire.cancelled == [arm.wire.calls[0][0]]
    arm.wire.end(K.CANCELLED, error_code={"val": -7})
    event = arm.last()
    assert (event.kind, "PREEMPTED" in event.text) == (K.CANCELLED, True)


def test_a_cancel_while_a_path_is_computed_ends_the_goal_and_executes_nothing(arm: Played):
    arm.send(STRAIGHT)
    arm.poll()
    arm.actuator.cancel("g")
    arm.wire.end(**straight_path())
    assert arm.kinds() == [K.CANCELLED]
    assert arm.wire.servers == ["compute_cartesian_path"]


def test_a_cancel_of_another_goal_does_nothing(arm: Played):
    arm.send(REACH)
    arm.actuator.cancel("other")
    assert arm.wire.cancelled == []


def moving(arm: Played) -> str:
    """The id of the call that moves it."""
    arm.send(REACH)
    arm.wire.say(ACCEPTED)
    arm.wire.end(**PLANNED)
    arm.poll()
    arm.wire.say(ACCEPTED)
    arm.poll()
    return arm.wire.calls[-1][0]


def stops_in(arm: Played, seconds: float) -> int:
    """How often the declared stop is published, looked at fifty times a second."""
    before = len(arm.wire.published)
    for _ in range(round(seconds * 50)):
        arm.now_ns += 20_000_000
        arm.poll()
    return len(arm.wire.published) - before


def test_an_arm_that_moves_is_told_to_stop_with_the_cancel_and_until_it_has_ended(arm: Played):
    """MoveIt takes the cancel of what it executes, and carries on."""
    call_id = moving(arm)
    assert arm.wire.published == []
    arm.actuator.cancel("g")
    assert arm.wire.cancelled == [call_id]
    assert len(arm.wire.published) == 1
    assert stops_in(arm, 1.0) >= 10
    arm.wire.end(K.ABORTED, error_code={"val": -7})
    arm.poll()
    assert stops_in(arm, 1.0) == 0


def test_an_arm_that_was_given_up_is_told_to_stop_until_it_ends_or_its_server_is_gone(arm: Played):
    moving(arm)
    arm.actuator.stop()
    assert stops_in(arm, 3.0) >= 30
    arm.wire.there = set()
    assert stops_in(arm, 1.0) == 0
    arm.wire.there = None
    assert 20 <= stops_in(arm, 2.0) <= 40, "one that was started anew tells no end"
    assert stops_in(arm, 1.0) == 0


def test_an_arm_whose_server_tells_no_end_is_told_to_stop_for_as_long_as_motions_take(arm: Played):
    moving(arm)
    arm.actuator.stop()
    assert 400 < stops_in(arm, 40.0) < 800
    assert stops_in(arm, 1.0) == 0


def test_nothing_is_sent_to_an_arm_that_may_still_move(arm: Played):
    """The stop of the motion before would meet the new one."""
    moving(arm)
    arm.actuator.stop()
    n = len(arm.wire.calls)
    arm.send(REACH, "next")
    event = arm.last()
    assert (event.goal_id, event.kind) == ("next", K.REJECTED)
    assert "a motion that was stopped may go on" in event.text
    assert len(arm.wire.calls) == n
    arm.wire.end(K.ABORTED, error_code={"val": -7})
    arm.poll()
    arm.send(REACH, "later")
    assert len(arm.wire.calls) == n + 1


def test_an_arm_that_somebody_else_stopped_is_left_to_them(arm: Played):
    """As Stop in RViz's MotionPlanning panel does."""
    moving(arm)
    arm.wire.end(K.ABORTED, error_code={"val": -7})
    event = arm.last()
    assert (event.kind, arm.wire.published) == (K.PREEMPTED, [])
    assert "the arm was stopped" in event.text


def test_a_plan_that_was_cancelled_is_not_executed_though_moveit_made_it(arm: Played):
    arm.send(REACH)
    arm.wire.say(ACCEPTED)
    arm.poll()
    arm.actuator.cancel("g")
    arm.wire.end(**PLANNED)
    assert arm.kinds() == [K.CANCELLED]
    assert arm.wire.servers == ["move_action"]
    assert arm.wire.published == []


def test_a_base_is_told_to_stand_still_for_longer_than_nav2_repeats_a_command():
    base = Played("mobile_base")
    base.send(DriveGoal(0.3))
    base.actuator.stop()
    assert stops_in(base, 1.4) >= 20
    stops_in(base, 0.2)
    assert stops_in(base, 1.0) == 0
    assert not base.actuator.is_stopping


def test_a_stop_does_not_reach_into_the_next_goal():
    base = Played("mobile_base")
    base.send(DriveGoal(0.3))
    base.actuator.stop()
    base.send(DriveGoal(0.3), "next")
    assert stops_in(base, 1.0) == 0


def test_a_call_that_is_taken_after_it_was_given_up_is_cancelled(arm: Played):
    arm.send(REACH)
    call_id = arm.wire.calls[0][0]
    arm.actuator.stop()
    arm.wire.cancelled.clear()
    arm.wire.say(ACCEPTED)
    assert arm.kinds() == []
    assert arm.wire.cancelled == [call_id]


def test_the_declared_stop_is_published_and_the_goal_given_up(arm: Played):
    arm.send(REACH)
    arm.actuator.stop()
    (stop,) = arm.wire.published
    assert (stop.topic, stop.message) == ("trajectory_execution_event", {"data": "stop"})
    assert len(arm.wire.cancelled) == 1
    arm.send(REACH, "next")
    assert arm.kinds() == []  # it was taken


def test_a_quiet_server_that_is_there_counts_as_working(arm: Played):
    arm.send(REACH)
    arm.wire.say(ACCEPTED)
    arm.poll()
    arm.now_ns += 600_000_000
    assert arm.kinds() == [K.FEEDBACK]


def test_a_server_that_talks_is_not_excused_for_silence():
    base = Played("mobile_base")
    base.send(NavigateGoal(place()))
    base.wire.say(ACCEPTED)
    base.poll()
    base.now_ns += 10_000_000_000
    assert base.kinds() == []


def test_feedback_brings_nav2s_numbers():
    base = Played("mobile_base")
    base.send(NavigateGoal(place()))
    numbers = {"distance_remaining": 1.5}
    feedback = part("nav2_msgs/action/NavigateToPose", "Feedback", numbers)
    base.wire.say(ACCEPTED, Reply(K.FEEDBACK, feedback))
    assert base.last().value("distance_remaining") == 1.5


def test_what_lyrical_tells_of_a_path_is_heard_too():
    base = Played("mobile_base")
    base.send(FollowGoal((place(),)))
    nested = SimpleNamespace(tracking_feedback=SimpleNamespace(distance_to_goal=0.7))
    base.wire.say(ACCEPTED, Reply(K.FEEDBACK, nested))
    assert base.last().value("distance_to_goal") == 0.7


def test_a_goal_of_another_kind_of_robot_is_rejected(arm: Played):
    arm.send(DriveGoal(0.3))
    assert "an arm cannot do a DriveGoal" in arm.last().text


# --- with the state machine over it -------------------------------------------------------------


def tracked(played: Played) -> GoalTracker:
    return GoalTracker(played.actuator, GoalTimeouts(arm_s=20.0))


def pass_time(played: Played, tracker: GoalTracker, seconds: float) -> None:
    """Tenth by tenth, until the goal ends."""
    for _ in range(round(seconds * 10)):
        played.now_ns += 100_000_000
        end = tracker.update(played.now_ns)
        if end is not None:
            played.end = end  # type: ignore[attr-defined]
            return


def test_a_server_that_never_takes_the_goal_times_out(arm: Played):
    tracker = tracked(arm)
    tracker.start(PostureGoal(), arm.now_ns)
    pass_time(arm, tracker, 10)
    assert arm.end.cause is Cause.LOST_SERVER  # type: ignore[attr-defined]
    assert "did not take the goal" in arm.end.text  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("robot", "goal", "taken"),
    [
        ("franka_panda", GripGoal(0.08, 20.0), "move_action"),
        ("franka_panda", GripGoal(0.08, 20.0), "panda_hand_controller/gripper_cmd"),
        ("franka_panda", GripGoal(0.08, 20.0), "execute_trajectory"),
        ("mobile_base", NavigateGoal(place()), "navigate_to_pose"),
        ("mobile_base", SpinGoal(0.5), "navigate_to_pose"),
        ("mobile_base", DriveGoal(0.3), "navigate_through_poses"),
        ("mobile_base", DriveGoal(-0.3), "backup"),
    ],
)
def test_a_robot_that_carries_out_somebody_elses_goal_is_left_to_it(
    robot: str, goal: Goal, taken: str
):
    played = Played(robot, taken=(taken,))
    tracker = tracked(played)
    tracker.start(goal, played.now_ns)
    pass_time(played, tracker, 1)
    assert played.end.cause is Cause.PREEMPTED  # type: ignore[attr-defined]
    told = f"{taken} carries out somebody else's goal: wait for its end, or stop it"
    assert told in played.end.text  # type: ignore[attr-defined]
    assert played.wire.calls == []


@pytest.mark.parametrize(("goal", "planned"), [(REACH, PLANNED), (STRAIGHT, straight_path())])
@pytest.mark.parametrize(
    "taken", ["move_action", "execute_trajectory", "panda_hand_controller/gripper_cmd"]
)
def test_a_way_may_be_planned_while_somebody_else_moves_the_arm_and_does_not_begin(
    arm: Played, goal: Goal, planned: Any, taken: str
):
    arm.wire.taken = (taken,)
    arm.send(goal)
    arm.wire.say(ACCEPTED)
    arm.wire.end(**planned)
    assert arm.last().kind is K.PREEMPTED
    assert len(arm.wire.calls) == 1


@pytest.mark.parametrize("robot", ["franka_panda", "mobile_base"])
def test_every_server_that_is_looked_at_is_known(robot: str):
    played = Played(robot)
    known = {**played.body.servers, **played.body.watched}
    for name, type_ in played.body.servers.items():
        assert set(played.body.rivals(Call(name, type_, {}))) <= set(known)


def test_a_base_that_another_goal_took_is_preempted_and_left_to_it():
    base = Played("mobile_base")
    tracker = tracked(base)
    tracker.start(NavigateGoal(place()), base.now_ns)
    base.wire.say(ACCEPTED)
    base.wire.end(K.ABORTED)
    pass_time(base, tracker, 1)
    assert base.end.cause is Cause.PREEMPTED  # type: ignore[attr-defined]
    assert (base.wire.cancelled, base.wire.published) == ([], [])


def test_a_base_that_was_to_stop_anyway_keeps_its_reason():
    base = Played("mobile_base")
    tracker = tracked(base)
    tracker.start(NavigateGoal(place()), base.now_ns)
    base.wire.say(ACCEPTED)
    pass_time(base, tracker, 0.1)
    tracker.cancel(Cause.STALE, base.now_ns)
    base.wire.end(K.ABORTED)
    pass_time(base, tracker, 1)
    assert base.end.cause is Cause.STALE  # type: ignore[attr-defined]


def test_a_server_that_hangs_times_out_and_is_stopped(arm: Played):
    tracker = tracked(arm)
    tracker.start(PostureGoal(), arm.now_ns)
    arm.wire.say(ACCEPTED)
    pass_time(arm, tracker, 30)
    assert arm.end.cause is Cause.LOST_SERVER  # type: ignore[attr-defined]
    assert "not done within 20 s" in arm.end.text  # type: ignore[attr-defined]
    assert {stop.topic for stop in arm.wire.published} == {"trajectory_execution_event"}


def test_a_talking_server_that_falls_silent_is_lost_and_stopped():
    base = Played("mobile_base")
    tracker = tracked(base)
    tracker.start(NavigateGoal(place()), base.now_ns)
    base.wire.say(ACCEPTED)
    pass_time(base, tracker, 30)
    assert base.end.cause is Cause.LOST_SERVER  # type: ignore[attr-defined]
    assert {stop.topic for stop in base.wire.published} == {"cmd_vel"}
