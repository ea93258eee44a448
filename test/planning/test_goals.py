"""One goal at a time: from sending it to exactly one end, whatever the actuator does."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rynn_brain_ros.planning.goals import (
    CancelRequest,
    GoalAction,
    GoalEnd,
    GoalRun,
    GoalState,
    GoalTimeouts,
    GoalTracker,
    transition,
)
from rynn_brain_ros.values import (
    Cause,
    DriveGoal,
    FollowGoal,
    Goal,
    GoalEvent,
    GoalEventKind,
    GripGoal,
    NavigateGoal,
    OutputError,
    PostureGoal,
    ReachGoal,
    Refusal,
    RefusalCode,
    RigidTransform,
    SpinGoal,
    Status,
)

S = 1_000_000_000
START = 5_000 * S
ACCEPTED, FEEDBACK = GoalEventKind.ACCEPTED, GoalEventKind.FEEDBACK
SUCCEEDED, ABORTED = GoalEventKind.SUCCEEDED, GoalEventKind.ABORTED
REJECTED, CANCELLED, LOST = GoalEventKind.REJECTED, GoalEventKind.CANCELLED, GoalEventKind.LOST
PREEMPTED = GoalEventKind.PREEMPTED
TIMEOUTS = GoalTimeouts(accept_s=2.0, silence_s=5.0, cancel_s=3.0, arm_s=30.0, grip_s=10.0)
HOME, GRIP = PostureGoal(), GripGoal(0.08)


@dataclass
class ScriptedActuator:
    """Reports what a test tells it to, and keeps what it was asked for."""

    name: str = "arm"
    goals: frozenset[type[Goal]] = frozenset({PostureGoal, GripGoal})
    asked: list[tuple[str, str]] = field(default_factory=list)
    events: list[GoalEvent] = field(default_factory=list)

    def send(self, goal_id: str, goal: Goal) -> None:
        self.asked.append(("send", goal_id))

    def cancel(self, goal_id: str) -> None:
        self.asked.append(("cancel", goal_id))

    def stop(self) -> None:
        self.asked.append(("stop", ""))

    def poll(self) -> tuple[GoalEvent, ...]:
        events, self.events = tuple(self.events), []
        return events

    def report(self, goal_id: str, *kinds: GoalEventKind, text: str = "", **values: float) -> None:
        numbers = tuple(values.items())
        self.events += [GoalEvent(goal_id, k, START, text=text, values=numbers) for k in kinds]

    @property
    def verbs(self) -> list[str]:
        return [verb for verb, _ in self.asked]


@pytest.fixture
def arm() -> ScriptedActuator:
    return ScriptedActuator()


@pytest.fixture
def tracker(arm: ScriptedActuator) -> GoalTracker:
    return GoalTracker(arm, TIMEOUTS)


def start(tracker: GoalTracker, goal: Goal = HOME, now_ns: int = START, **how: bool) -> str:
    goal_id = tracker.start(goal, now_ns, **how)
    assert isinstance(goal_id, str), goal_id
    return goal_id


def run_to_active(tracker: GoalTracker, arm: ScriptedActuator, goal: Goal = HOME) -> str:
    goal_id = start(tracker, goal)
    arm.report(goal_id, ACCEPTED)
    assert tracker.update(START) is None
    assert tracker.state is GoalState.ACTIVE
    return goal_id


def end_of(tracker: GoalTracker, now_ns: int) -> GoalEnd:
    end = tracker.update(now_ns)
    assert end is not None
    return end


# --- the plain way --------------------------------------------------------------------------------


def test_a_goal_goes_from_sent_to_active_to_its_end(tracker: GoalTracker, arm: ScriptedActuator):
    assert tracker.state is GoalState.IDLE
    goal_id = start(tracker)
    assert (tracker.state, arm.asked) == (GoalState.SENT, [("send", goal_id)])
    arm.report(goal_id, ACCEPTED, FEEDBACK)
    assert tracker.update(START + S) is None
    assert tracker.state is GoalState.ACTIVE
    arm.report(goal_id, SUCCEEDED, text="there")
    assert tracker.update(START + 2 * S) == GoalEnd(
        goal_id, Cause.DONE, "there", START, START + 2 * S
    )
    assert tracker.state is GoalState.ENDED
    assert not tracker.in_flight
    assert arm.verbs == ["send"]


def test_an_end_is_told_once(tracker: GoalTracker, arm: ScriptedActuator):
    goal_id = run_to_active(tracker, arm)
    arm.report(goal_id, SUCCEEDED, ABORTED, SUCCEEDED)
    assert end_of(tracker, START + S).cause is Cause.DONE
    arm.report(goal_id, ABORTED)
    assert tracker.update(START + 2 * S) is None


def test_the_numbers_of_the_result_come_along(tracker: GoalTracker, arm: ScriptedActuator):
    goal_id = run_to_active(tracker, arm, GRIP)
    arm.report(goal_id, SUCCEEDED, width_m=0.034)
    end = end_of(tracker, START + S)
    assert end.value("width_m") == 0.034
    assert math.isnan(end.value("force_n"))


def test_a_result_before_the_acceptance_counts(tracker: GoalTracker, arm: ScriptedActuator):
    arm.report(start(tracker), SUCCEEDED, ACCEPTED)
    assert end_of(tracker, START).cause is Cause.DONE


def test_feedback_before_the_acceptance_means_accepted(tracker: GoalTracker, arm: ScriptedActuator):
    arm.report(start(tracker), FEEDBACK)
    tracker.update(START)
    assert tracker.state is GoalState.ACTIVE


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        (REJECTED, Cause.REJECTED),
        (ABORTED, Cause.ABORTED),
        (CANCELLED, Cause.CANCELLED),
        (LOST, Cause.LOST_SERVER),
        (PREEMPTED, Cause.PREEMPTED),
    ],
)
def test_what_went_wrong_is_told_by_its_cause(
    kind: GoalEventKind, cause: Cause, tracker: GoalTracker, arm: ScriptedActuator
):
    arm.report(start(tracker), kind)
    end = end_of(tracker, START + S)
    assert end.cause is cause
    assert end.text
    assert not tracker.in_flight


def test_a_lost_server_is_stopped(tracker: GoalTracker, arm: ScriptedActuator):
    arm.report(run_to_active(tracker, arm), LOST)
    tracker.update(START + S)
    assert arm.verbs == ["send", "cancel", "stop"]


def test_events_of_unknown_goals_are_nothing(tracker: GoalTracker, arm: ScriptedActuator):
    run_to_active(tracker, arm)
    arm.report("someone else's", ABORTED, ACCEPTED)
    assert tracker.update(START + S) is None
    assert arm.verbs == ["send"]


def test_ids_differ_from_those_of_another_tracker(arm: ScriptedActuator):
    first = start(GoalTracker(arm), now_ns=START)
    assert start(GoalTracker(arm), now_ns=START + S) != first


# --- refusals -------------------------------------------------------------------------------------


def test_a_second_goal_is_refused_while_one_is_in_flight(
    tracker: GoalTracker, arm: ScriptedActuator
):
    goal_id = run_to_active(tracker, arm)
    refusal = tracker.start(GRIP, START + S)
    assert isinstance(refusal, Refusal)
    assert refusal.code is RefusalCode.BUSY
    assert f"{goal_id} is still active on arm" in refusal.text
    assert arm.verbs == ["send"]


def test_a_kind_of_goal_that_the_actuator_has_no_motion_for_is_refused(
    tracker: GoalTracker, arm: ScriptedActuator
):
    refusal = tracker.start(SpinGoal(1.0), START)
    assert isinstance(refusal, Refusal)
    assert refusal.code is RefusalCode.UNSUPPORTED_SKILL
    assert "SpinGoal; it can do GripGoal, PostureGoal" in refusal.text
    assert not arm.asked


def test_after_an_end_the_next_goal_may_start(tracker: GoalTracker, arm: ScriptedActuator):
    arm.report(start(tracker), SUCCEEDED)
    end_of(tracker, START)
    second = start(tracker, now_ns=START + S)
    arm.report(second, SUCCEEDED)
    assert end_of(tracker, START + S).goal_id == second


# --- cancelling -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cause", [Cause.CANCELLED, Cause.STALE, Cause.DISARMED, Cause.SCENE_CHANGED]
)
def test_a_cancelled_goal_ends_for_the_reason_given(
    cause: Cause, tracker: GoalTracker, arm: ScriptedActuator
):
    goal_id = run_to_active(tracker, arm)
    tracker.cancel(cause, START + S, "because")
    assert tracker.state is GoalState.CANCELLING
    assert arm.asked[-1] == ("cancel", goal_id)
    assert tracker.update(START + 2 * S) is None
    arm.report(goal_id, CANCELLED)
    end = end_of(tracker, START + 3 * S)
    assert end.cause is cause
    assert end.text.startswith("because (")
    assert "stop" not in arm.verbs


def test_the_first_reason_stays(tracker: GoalTracker, arm: ScriptedActuator):
    goal_id = run_to_active(tracker, arm)
    tracker.cancel(Cause.STALE, START + S)
    tracker.cancel(Cause.CANCELLED, START + 2 * S)
    assert arm.verbs.count("cancel") == 1
    arm.report(goal_id, CANCELLED)
    assert end_of(tracker, START + 2 * S).cause is Cause.STALE


def test_a_goal_that_succeeded_while_it_was_cancelled_is_no_success(
    tracker: GoalTracker, arm: ScriptedActuator
):
    goal_id = run_to_active(tracker, arm)
    tracker.cancel(Cause.CANCELLED, START + S)
    arm.report(goal_id, SUCCEEDED, width_m=0.02)
    end = end_of(tracker, START + S)
    assert end.cause.status is Status.CANCELLED
    assert end.text == "cancelled (the actuator reports: succeeded)"
    assert end.value("width_m") == 0.02


def test_a_cancel_that_is_not_answered_ends_in_a_stop(tracker: GoalTracker, arm: ScriptedActuator):
    run_to_active(tracker, arm)
    tracker.cancel(Cause.DISARMED, START + S, "motion is no longer armed")
    arm_answers_late = START + 4 * S
    assert tracker.update(arm_answers_late) is None
    end = end_of(tracker, arm_answers_late + 1)
    assert end.cause is Cause.DISARMED
    assert "not answered within 3 s; stopped" in end.text
    assert arm.verbs == ["send", "cancel", "cancel", "stop"]


def test_a_goal_that_is_accepted_after_its_cancel_is_cancelled_again(
    tracker: GoalTracker, arm: ScriptedActuator
):
    goal_id = start(tracker)
    tracker.cancel(Cause.CANCELLED, START)
    arm.report(goal_id, ACCEPTED, FEEDBACK)
    assert tracker.update(START + S) is None
    assert tracker.state is GoalState.CANCELLING
    assert arm.verbs == ["send", "cancel", "cancel"]


def test_a_goal_that_goes_on_after_its_end_is_cancelled_again(
    tracker: GoalTracker, arm: ScriptedActuator
):
    old = start(tracker)
    tracker.cancel(Cause.CANCELLED, START)
    end_of(tracker, START + 4 * S)
    new = start(tracker, now_ns=START + 5 * S)
    arm.asked.clear()
    arm.report(old, ACCEPTED)
    arm.report(old, SUCCEEDED)
    arm.report(new, ACCEPTED)
    assert tracker.update(START + 6 * S) is None
    assert arm.asked == [("cancel", old)]
    assert tracker.state is GoalState.ACTIVE


def test_with_nothing_in_flight_a_cancel_does_nothing(tracker: GoalTracker, arm: ScriptedActuator):
    tracker.cancel(Cause.CANCELLED, START)
    arm.report(start(tracker), SUCCEEDED)
    end_of(tracker, START)
    tracker.cancel(Cause.CANCELLED, START)
    assert tracker.update(START + 60 * S) is None
    assert arm.verbs == ["send"]


# --- time -----------------------------------------------------------------------------------------


def test_a_goal_that_nobody_takes_times_out(tracker: GoalTracker, arm: ScriptedActuator):
    start(tracker)
    assert tracker.update(START + 2 * S) is None
    assert tracker.state is GoalState.SENT
    assert tracker.update(START + 2 * S + 1) is None
    assert tracker.state is GoalState.CANCELLING
    end = end_of(tracker, START + 6 * S)
    assert end.cause is Cause.LOST_SERVER
    assert "did not take the goal within 2 s" in end.text
    assert arm.verbs == ["send", "cancel", "cancel", "stop"]


def test_a_silent_server_is_lost_and_stopped(tracker: GoalTracker, arm: ScriptedActuator):
    run_to_active(tracker, arm)
    assert tracker.update(START + 5 * S) is None
    end = end_of(tracker, START + 5 * S + 1)
    assert end.cause is Cause.LOST_SERVER
    assert "nothing was heard for 5.00 s (limit 5 s)" in end.text
    assert arm.verbs == ["send", "cancel", "stop"]


def test_a_cancel_that_fails_keeps_no_stop_from_the_actuator():
    class Deaf(ScriptedActuator):
        def cancel(self, goal_id: str) -> None:
            raise OutputError("the disk is full")

    arm = Deaf()
    tracker = GoalTracker(arm, TIMEOUTS)
    run_to_active(tracker, arm)
    with pytest.raises(OutputError):
        tracker.update(START + 6 * S)
    assert arm.verbs == ["send", "stop"]


def test_feedback_keeps_a_server_from_being_lost(tracker: GoalTracker, arm: ScriptedActuator):
    goal_id = run_to_active(tracker, arm)
    for second in range(0, 28, 4):
        arm.report(goal_id, FEEDBACK)
        assert tracker.update(START + second * S) is None
    assert tracker.state is GoalState.ACTIVE


def test_a_goal_that_takes_too_long_is_cancelled(tracker: GoalTracker, arm: ScriptedActuator):
    goal_id = run_to_active(tracker, arm)
    arm.events.append(GoalEvent(goal_id, FEEDBACK, START, fraction=0.4))
    tracker.update(START + 30 * S)
    arm.report(goal_id, FEEDBACK)
    tracker.update(START + 30 * S + 1)
    assert tracker.state is GoalState.CANCELLING
    arm.report(goal_id, CANCELLED)
    end = end_of(tracker, START + 31 * S)
    assert end.cause is Cause.TIMEOUT
    assert end.text.startswith("not done within 30 s, 40 % of it by then")


def test_a_clock_that_jumps_back_cancels(tracker: GoalTracker, arm: ScriptedActuator):
    goal_id = run_to_active(tracker, arm)
    tracker.update(START - 100 * S)
    assert tracker.state is GoalState.CANCELLING
    arm.report(goal_id, CANCELLED)
    end = end_of(tracker, START - 99 * S)
    assert end.cause is Cause.STALE
    assert "jumped back by 100 s" in end.text
    assert end.start_ns <= end.end_ns


def test_a_clock_that_jumps_back_ends_the_wait_for_a_cancel(
    tracker: GoalTracker, arm: ScriptedActuator
):
    run_to_active(tracker, arm)
    tracker.cancel(Cause.CANCELLED, START + S)
    tracker.update(START + 2 * S)
    assert end_of(tracker, START - S).cause is Cause.CANCELLED
    assert arm.verbs[-1] == "stop"


@pytest.mark.parametrize(
    ("goal", "limit_s"),
    [
        (HOME, 30.0),
        (ReachGoal(RigidTransform("base", "tcp")), 30.0),
        (FollowGoal(()), 30.0),
        (GRIP, 10.0),
        (DriveGoal(0.25), 30.0),
        (SpinGoal(0.26), 30.0),
        (NavigateGoal(RigidTransform("map", "base")), 300.0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_kind_of_goal_has_its_time(goal: Goal, limit_s: float):
    assert TIMEOUTS.goal_s(goal) == limit_s


# --- one goal instead of another ------------------------------------------------------------------


def test_a_new_goal_waits_for_the_one_it_preempts(tracker: GoalTracker, arm: ScriptedActuator):
    old = run_to_active(tracker, arm)
    new = start(tracker, GRIP, START + S, preempt=True)
    assert arm.asked == [("send", old), ("cancel", old)]
    assert tracker.update(START + S) is None
    arm.report(old, CANCELLED)
    end = end_of(tracker, START + 2 * S)
    assert (end.goal_id, end.cause) == (old, Cause.PREEMPTED)
    assert arm.asked[-1] == ("send", new)
    assert tracker.state is GoalState.SENT
    arm.report(new, SUCCEEDED)
    assert end_of(tracker, START + 3 * S) == GoalEnd(
        new, Cause.DONE, "the actuator reports: succeeded", START + 2 * S, START + 3 * S
    )


def test_with_nothing_to_preempt_a_goal_is_sent_at_once(
    tracker: GoalTracker, arm: ScriptedActuator
):
    start(tracker, preempt=True)
    assert arm.verbs == ["send"]


def test_of_two_goals_that_wait_the_newer_is_sent(tracker: GoalTracker, arm: ScriptedActuator):
    old = run_to_active(tracker, arm)
    middle = start(tracker, now_ns=START + S, preempt=True)
    new = start(tracker, now_ns=START + S, preempt=True)
    arm.report(old, CANCELLED)
    ends = [end_of(tracker, START + 2 * S), end_of(tracker, START + 2 * S)]
    assert {(end.goal_id, end.cause) for end in ends} == {
        (old, Cause.PREEMPTED),
        (middle, Cause.PREEMPTED),
    }
    assert [goal_id for verb, goal_id in arm.asked if verb == "send"] == [old, new]


def test_a_cancel_reaches_the_goal_that_waits(tracker: GoalTracker, arm: ScriptedActuator):
    old = run_to_active(tracker, arm)
    new = start(tracker, now_ns=START + S, preempt=True)
    tracker.cancel(Cause.CANCELLED, START + S, "a person stopped it")
    end = end_of(tracker, START + S)
    assert (end.goal_id, end.cause, end.text) == (new, Cause.CANCELLED, "a person stopped it")
    arm.report(old, CANCELLED)
    assert end_of(tracker, START + 2 * S).goal_id == old
    assert arm.verbs.count("send") == 1


def test_nothing_is_sent_after_a_goal_that_had_to_be_stopped(
    tracker: GoalTracker, arm: ScriptedActuator
):
    old = run_to_active(tracker, arm)
    new = start(tracker, now_ns=START + S, preempt=True)
    first, second = end_of(tracker, START + 5 * S), end_of(tracker, START + 5 * S)
    assert (first.goal_id, first.cause) == (old, Cause.PREEMPTED)
    assert (second.goal_id, second.cause) == (new, Cause.REJECTED)
    assert second.text.startswith("not sent: ")
    assert arm.verbs.count("send") == 1
    assert not tracker.in_flight


# --- the pure machine -----------------------------------------------------------------------------

KINDS = st.sampled_from(list(GoalEventKind))
REQUEST = CancelRequest(Cause.CANCELLED, "a person stopped it")


@given(st.lists(st.one_of(KINDS, st.just("cancel"), st.integers(-20, 20))))
def test_an_ended_run_stays_as_it_is(happenings: list[GoalEventKind | str | int]):
    run = GoalRun("arm-1", GoalState.SENT, START, 30.0, START, START)
    now_ns, ends = START, []
    for what in happenings:
        happened: GoalEvent | CancelRequest | None = None
        if isinstance(what, int):
            now_ns += what * S
        elif isinstance(what, GoalEventKind):
            happened = GoalEvent("arm-1", what, now_ns)
        else:
            happened = REQUEST
        was, (run, action) = run, transition(run, happened, now_ns, TIMEOUTS)
        assert (run.end is not None) is (run.state is GoalState.ENDED)
        if was.end is not None:
            assert run == was
            assert action in (GoalAction.NONE, GoalAction.CANCEL)
        elif run.end is not None:
            ends.append(run.end)
    assert len(ends) <= 1


ACTS = st.one_of(
    st.tuples(st.just("start"), st.booleans()),
    st.tuples(st.just("cancel"), st.sampled_from([Cause.CANCELLED, Cause.STALE])),
    st.tuples(st.just("report"), st.tuples(st.integers(0, 5), KINDS)),
    st.tuples(st.just("wait"), st.integers(-10, 40)),
)


@settings(max_examples=300)
@given(st.lists(ACTS, max_size=40))
def test_whatever_happens_each_goal_has_exactly_one_end(acts: list[tuple[str, object]]):
    arm = ScriptedActuator()
    tracker, now_ns = GoalTracker(arm, TIMEOUTS), START
    started: list[str] = []
    ends: list[GoalEnd | None] = []
    for act, how in acts:
        if act == "start":
            goal_id = tracker.start(HOME, now_ns, preempt=bool(how))
            started += [goal_id] if isinstance(goal_id, str) else []
        elif act == "cancel":
            tracker.cancel(how, now_ns)
        elif act == "report":
            index, kind = how
            arm.report(started[index] if index < len(started) else "unknown", kind)
        else:
            now_ns += how * S
            ends.append(tracker.update(now_ns))
    while tracker.in_flight or ends[-1:] != [None]:
        now_ns += 31 * S
        ends.append(tracker.update(now_ns))
    told = [end.goal_id for end in ends if end is not None]
    assert sorted(told) == sorted(started)
    assert all(end.start_ns <= end.end_ns for end in ends if end is not None)
    sent = [goal_id for verb, goal_id in arm.asked if verb == "send"]
    assert len(sent) == len(set(sent))
