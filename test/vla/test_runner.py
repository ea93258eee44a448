"""The control loop step by step, with a clock and a thread that only move when told to."""

from __future__ import annotations

import numpy as np
import pytest
from policy_parts import (
    CONTRACT,
    CONTRACT_TEXT,
    HOME,
    HORIZON,
    LIMITS,
    RATE_HZ,
    SPEC,
    DrivenClock,
    DrivenThread,
    ScriptedPolicy,
    ramp,
    seeing,
    spec_for,
)

pytest.importorskip("ruckig", reason="the extra policy is not installed")

from rynn_brain_ros.data import contract_from
from rynn_brain_ros.values import ConfigError, EngineError, EngineLostError
from rynn_brain_ros.vla.chunks import Joining, RuntimeSpec
from rynn_brain_ros.vla.limits import HoldCause, MotionLimits
from rynn_brain_ros.vla.runner import STATE, Command, Runner, RunnerConfig
from rynn_brain_ros.vla.values import PolicyError


class Loop:
    """A runner, and everything around it that a test may change. The robot follows exactly."""

    def __init__(self, answer=None, joining=None, **config) -> None:
        self.policy, self.clock, self.thread = ScriptedPolicy(answer), DrivenClock(), DrivenThread()
        self.runner = Runner(
            self.policy,
            CONTRACT,
            LIMITS,
            thread=self.thread,
            now_ns=self.clock.now_ns,
            config=RunnerConfig(**config),
            joining=joining,
        )
        self.state = HOME

    def tick(
        self, *, age_s: float = 0.0, work: bool = True, obeyed: bool = True, **changes
    ) -> Command:
        """One step of the loop: time passes, and unless told otherwise the policy keeps up."""
        self.clock.pass_s(1 / RATE_HZ)
        stamp_ns = self.clock.ns - round(age_s * 1e9)
        seen = seeing(**{"state": self.state, **changes})
        stamps_ns = {"wrist": stamp_ns, STATE: stamp_ns}
        command = self.runner.tick(seen, stamps_ns, obeyed=obeyed)
        if len(command.positions):
            self.state = command.positions[-1]
        if work:
            self.thread.work()
        return command

    def moving(self, n: int = 3) -> Loop:
        """After its first chunk and ``n`` of its steps."""
        assert self.tick().hold.cause is HoldCause.WAITING
        for _ in range(n):
            assert self.tick().hold is None
        return self

    def cause(self, **how) -> HoldCause | None:
        hold = self.tick(**how).hold
        return None if hold is None else hold.cause


def at_rest(loop: Loop) -> bool:
    return np.abs(np.diff(loop.tick(age_s=9.0).positions, axis=0)).max() < 1e-12


# --- moving --------------------------------------------------------------------------------------


def test_the_robot_waits_where_it_is_for_the_first_chunk():
    command = Loop().tick()
    assert command.hold.cause is HoldCause.WAITING
    np.testing.assert_array_equal(command.positions, np.tile(HOME, (7, 1)))


def test_a_chunk_is_followed_at_the_steps_of_the_policy():
    loop = Loop()
    loop.tick()
    reached = [loop.tick(work=False).positions[-1, 0] for _ in range(HORIZON)]
    np.testing.assert_allclose(reached, ramp()[:, 0], atol=1e-6)


def test_it_asks_again_after_its_steps_and_tells_what_is_left():
    loop = Loop(replan_steps=3).moving(4)
    assert len(loop.policy.asked) == 2
    seen, leftover = loop.policy.asked[1]
    np.testing.assert_allclose(seen.state, ramp()[2], atol=1e-6)
    np.testing.assert_allclose(leftover.actions, ramp()[3:])


def test_an_answer_that_took_three_steps_begins_with_its_fourth_action():
    loop = Loop(lambda seen: ramp(seen.state), replan_steps=2).moving(2)
    for _ in range(3):
        assert loop.tick(work=False).hold is None
    loop.thread.work()
    asked_at = loop.policy.asked[1][0].state
    np.testing.assert_allclose(loop.tick().positions[-1], ramp(asked_at)[3], atol=1e-3)


def test_only_one_request_is_under_way():
    loop = Loop(replan_steps=1).moving(1)
    for _ in range(4):
        loop.tick(work=False)
    assert loop.thread.n_waiting == 1


@pytest.mark.parametrize(("joining", "share"), [(None, 1.0), (Joining("linear", 4), 0.2)])
def test_a_new_chunk_takes_over_as_the_joining_says(joining, share):
    loop = Loop(joining=joining, replan_steps=3).moving(3)
    loop.policy.answer = lambda seen: np.tile(HOME + np.array((0.07, 0.0, 0.0)), (HORIZON, 1))
    loop.tick()
    leftover = loop.policy.asked[1][1].actions
    before, after = leftover[1, 0], HOME[0] + 0.07
    expected = (1 - share) * before + share * after
    assert loop.tick().positions[-1, 0] == pytest.approx(expected, abs=2e-3)


# --- holding: each cause by its name -------------------------------------------------------------


def test_a_camera_that_is_missing_holds_and_says_which():
    command = Loop().moving().tick(images={})
    assert command.hold.cause is HoldCause.CAMERA_MISSING
    assert "wrist" in command.hold.text


@pytest.mark.parametrize("age_s", [0.5, -0.5])
def test_a_stale_observation_holds(age_s):
    command = Loop().moving().tick(age_s=age_s)
    assert command.hold.cause is HoldCause.STALE_OBSERVATION
    assert "0.500 s old" in command.hold.text


def test_an_observation_without_a_stamp_is_stale():
    loop = Loop()
    hold = loop.runner.tick(seeing(), {"wrist": loop.clock.ns}).hold
    assert hold.cause is HoldCause.STALE_OBSERVATION
    assert hold.text.startswith("state is inf")


def test_a_state_outside_training_holds():
    assert Loop().moving().cause(state=HOME + 9.0) is HoldCause.OUT_OF_RANGE


@pytest.mark.parametrize("state", [HOME * np.nan, HOME[:2], np.append(HOME, 0.0), np.zeros(0)])
def test_a_state_that_is_no_number_or_of_another_length_holds_where_the_robot_was(state):
    loop = Loop().moving()
    command = loop.tick(state=state)
    assert command.hold.cause is HoldCause.STATE_UNUSABLE
    assert np.all(np.isfinite(command.positions))


@pytest.mark.parametrize("state", [HOME * np.nan, HOME[:2]])
def test_before_any_state_was_known_nothing_is_commanded(state):
    command = Loop().tick(state=state)
    assert command.positions.shape == (0, 3)
    assert command.hold.cause is HoldCause.STATE_UNUSABLE


def test_a_chunk_that_is_no_number_never_reaches_the_robot():
    loop = Loop(lambda seen: ramp(seen.state) * np.nan)
    loop.tick()
    command = loop.tick()
    assert command.hold.cause is HoldCause.NOT_FINITE
    np.testing.assert_array_equal(command.positions, np.tile(HOME, (7, 1)))


def test_a_chunk_far_from_training_never_reaches_the_robot():
    loop = Loop(lambda seen: seen.state + np.tile((1000.0, 0.0, 0.0), (HORIZON, 1)))
    loop.tick()
    command = loop.tick()
    assert command.hold.cause is HoldCause.POLICY_FAILED
    np.testing.assert_array_equal(command.positions, np.tile(HOME, (7, 1)))


@pytest.mark.parametrize(
    "answer",
    [[[0]], [[0], [1, 2]], np.full((HORIZON, 3), "a"), np.full((HORIZON, 3), object()), None],
)
def test_an_answer_that_is_no_chunk_is_a_failure_of_the_policy(answer):
    loop = Loop(lambda seen: answer)
    loop.tick()
    assert loop.cause() is HoldCause.POLICY_FAILED


def test_a_target_point_outside_training_is_named_before_anything_is_asked():
    loop = Loop()
    assert loop.cause(target_point=(0.5, 0.0, 0.1)) is HoldCause.TARGET_UNUSABLE
    assert loop.policy.asked == []


def test_a_robot_that_does_not_follow_its_commands_is_pushed_no_more_until_a_person_resets_it():
    loop = Loop(lambda seen: ramp(seen.state, 0.1)).moving(2)
    stuck = HOME - np.array((0.3, 0.0, 0.0))
    command = loop.tick(state=stuck)
    assert command.hold.cause is HoldCause.NOT_FOLLOWED
    assert "position.a is at -0.3 and was commanded to 0." in command.hold.text
    told = [loop.tick(state=stuck) for _ in range(9)]
    assert {each.hold.cause for each in told} == {HoldCause.NOT_FOLLOWED}
    assert np.ptp(told[-1].positions, axis=0).max() < 1e-9
    loop.runner.reset()
    np.testing.assert_array_equal(loop.tick(state=stuck).positions, np.tile(stuck, (7, 1)))
    assert loop.tick().hold is None


def test_a_hand_that_holds_something_is_no_robot_that_does_not_follow():
    loop = Loop(lambda seen: np.tile((HOME[0], HOME[1], 0.0), (HORIZON, 1))).moving(6)
    around = np.array((HOME[0], HOME[1], 0.6))
    assert loop.cause(state=around) is None
    loop.tick(state=around, images={})
    held = loop.tick(state=around).positions[-1]
    assert held[2] == pytest.approx(0.0, abs=1e-6)


def test_commands_that_nobody_obeys_are_not_compared_with_the_robot():
    loop = Loop(lambda seen: ramp(seen.state, 0.1)).moving(2)
    assert loop.cause(state=HOME - np.array((0.3, 0.0, 0.0)), obeyed=False) is None


def test_after_a_hold_motion_begins_where_the_robot_is_then():
    loop = Loop().moving()
    loop.tick(images={})
    for _ in range(5):
        loop.tick(images={})
    pushed = HOME + np.array((1.5, 0.0, 0.0))
    first = loop.tick(state=pushed).positions
    np.testing.assert_array_equal(first, np.tile(pushed, (7, 1)))
    assert np.abs(loop.tick().positions - pushed).max() < 0.1


def test_after_a_hold_a_robot_that_sags_a_little_is_not_let_down():
    loop = Loop().moving()
    for _ in range(5):
        loop.tick(images={})
    stood = loop.state
    sagging = stood - np.array((0.03, 0.0, 0.0))
    np.testing.assert_allclose(loop.tick(state=sagging).positions[-1], stood, atol=1e-9)


def test_a_server_that_stops_answering_in_the_middle_of_a_chunk_holds_after_its_budget():
    loop = Loop(replan_steps=1, answer_budget_s=0.35).moving(1)
    causes = [loop.cause(work=False) for _ in range(6)]
    assert causes[:4] == [None] * 4
    assert causes[4:] == [HoldCause.POLICY_SILENT] * 2
    assert at_rest(loop)


def test_an_answer_after_its_budget_is_not_used_but_a_new_one_is():
    loop = Loop(replan_steps=1, answer_budget_s=0.15, retry_s=0.0).moving(1)
    while loop.cause(work=False) is not HoldCause.POLICY_SILENT:
        pass
    n_asked = len(loop.policy.asked)
    loop.thread.work()
    assert loop.cause() is HoldCause.WAITING
    assert loop.cause() is None
    assert len(loop.policy.asked) == n_asked + 2


def test_a_server_that_goes_away_holds_with_the_name_of_the_error():
    loop = Loop(replan_steps=1)

    def lost(seen):
        raise EngineLostError("the policy server at ws://here went away before its answer")

    loop.moving(1)
    loop.policy.answer = lost
    loop.tick()
    command = loop.tick()
    assert command.hold.cause is HoldCause.POLICY_FAILED
    assert "ws://here went away" in command.hold.text


def test_a_chunk_that_is_played_to_its_end_holds_until_the_next():
    loop = Loop(replan_steps=HORIZON - 1, answer_budget_s=9.0).moving(HORIZON - 1)
    loop.tick(work=False)
    assert loop.cause(work=False) is HoldCause.OUT_OF_ACTIONS


def test_while_holding_the_robot_comes_to_rest_within_its_limits():
    loop = Loop(lambda seen: ramp(seen.state, step_rad=0.15)).moving(4)
    path = [loop.tick(images={}).positions for _ in range(8)]
    speed = np.abs(np.diff(np.concatenate(path)[:, 0])) * RATE_HZ * 7
    assert 1.0 < speed[0] <= LIMITS.velocity[0]
    assert speed[-1] < 1e-9
    assert np.abs(np.diff(speed)).max() * RATE_HZ * 7 <= LIMITS.acceleration[0] * 1.001


def test_when_the_cause_is_gone_it_begins_anew_with_what_it_sees_then():
    loop = Loop().moving()
    loop.tick(images={})
    n_asked = len(loop.policy.asked)
    assert loop.cause() is HoldCause.WAITING
    assert loop.cause() is None
    assert loop.policy.asked[n_asked][1] is None


def test_a_chunk_that_was_asked_for_before_a_hold_is_not_played_after_it():
    loop = Loop(replan_steps=1).moving(1)
    loop.tick(work=False)
    loop.tick(work=False, images={})
    loop.thread.work()
    assert loop.cause() is HoldCause.WAITING


# --- too many failures ---------------------------------------------------------------------------


def failing(seen):
    raise EngineError("no policy answers at ws://here")


def until_stopped(loop: Loop) -> int:
    """How many ticks it took."""
    for n in range(200):
        if loop.cause() is HoldCause.TOO_MANY_FAILURES:
            return n
    raise AssertionError("it never stopped")


def test_after_too_many_failures_it_stays_stopped_until_a_person_resets_it():
    loop = Loop(failing, max_failures=3)
    until_stopped(loop)
    loop.policy.answer = lambda seen: ramp(seen.state)
    assert [loop.cause() for _ in range(20)] == [HoldCause.TOO_MANY_FAILURES] * 20
    assert len(loop.policy.asked) == 3
    loop.runner.reset()
    assert loop.cause() is HoldCause.WAITING
    assert loop.cause() is None


def test_the_stop_names_the_last_failure():
    loop = Loop(failing, max_failures=2)
    until_stopped(loop)
    assert "policy_failed: no policy answers at ws://here" in loop.tick().hold.text


def test_failures_are_retried_at_a_bounded_pace():
    assert until_stopped(Loop(failing, max_failures=3, retry_s=1.0)) >= 2 * RATE_HZ


def test_one_good_chunk_forgives_the_failures_before_it():
    answers = iter([failing, failing, ramp, failing, failing, ramp] * 4)

    def changing(seen):
        answer = next(answers)
        return ramp(seen.state) if answer is ramp else answer(seen)

    loop = Loop(changing, max_failures=3, retry_s=0.0, replan_steps=1)
    assert HoldCause.TOO_MANY_FAILURES not in [loop.cause() for _ in range(30)]


def test_after_a_reset_motion_begins_at_the_state_measured_then():
    loop = Loop().moving()
    loop.runner.reset()
    moved = HOME + np.array((0.3, 0.0, 0.0))
    np.testing.assert_array_equal(loop.tick(state=moved).positions, np.tile(moved, (7, 1)))


def test_a_policy_that_never_answers_is_told_as_silent_after_a_reset_too():
    loop = Loop(answer_budget_s=0.35)
    for _ in range(6):
        loop.tick(work=False)
    assert loop.cause(work=False) is HoldCause.POLICY_SILENT
    loop.runner.reset()
    assert [loop.cause(work=False) for _ in range(5)] == [HoldCause.POLICY_SILENT] * 5


def test_an_answer_that_is_late_and_an_error_as_well_is_one_failure():
    loop = Loop(failing, max_failures=2, answer_budget_s=0.15, retry_s=9.0)
    while loop.cause(work=False) is not HoldCause.POLICY_SILENT:
        pass
    loop.thread.work()
    assert loop.cause() is HoldCause.POLICY_SILENT


# --- what cannot begin ---------------------------------------------------------------------------


def runner_of(contract=CONTRACT, limits=LIMITS) -> Runner:
    return Runner(
        ScriptedPolicy(), contract, limits, thread=DrivenThread(), now_ns=DrivenClock().now_ns
    )


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("fps: 10", "fps: 30", "rate_hz is 10.0, here it is 30.0"),
        ("images.wrist", "images.main", r'cameras is \["wrist"\], here it is \["main"\]'),
        ("[position.a, position.b]", "[position.b, position.a]", "action_space"),
        ("two_joints", "other_robot", 'contract is "two_joints", here it is "other_robot"'),
    ],
)
def test_a_policy_of_another_contract_is_refused_with_the_difference(old, new, named):
    contract = contract_from(CONTRACT_TEXT.replace(old, new))
    with pytest.raises(PolicyError, match=named):
        runner_of(contract)


def test_a_policy_of_deltas_is_refused_because_limits_and_guards_are_of_absolute_actions():
    head, actions = CONTRACT_TEXT.split("actions:")
    deltas = actions.replace("units: rad", "units: rad\n      representation: delta")
    contract, policy = contract_from(f"{head}actions:{deltas}"), ScriptedPolicy()
    policy.spec = spec_for(contract)
    with pytest.raises(PolicyError, match=r"two_joints's actions are deltas: .*absolute"):
        Runner(policy, contract, LIMITS, thread=DrivenThread(), now_ns=DrivenClock().now_ns)


def test_limits_for_another_number_of_dimensions_are_refused():
    with pytest.raises(ConfigError, match="2 dimensions for a policy of 3"):
        runner_of(limits=MotionLimits((1.0, 1.0), (1.0, 1.0), (1.0, 1.0)))


def test_what_is_commanded_must_be_measured():
    text = CONTRACT_TEXT.replace("select: [position.finger]", "select: [position.other]", 1)
    contract = contract_from(text)
    policy = ScriptedPolicy()
    from rynn_brain_ros.vla.normalization import compute, provenance_of  # noqa: PLC0415

    states = (HOME, HOME + 0.1)
    statistics = compute(
        ((state, np.tile(state, (HORIZON, 1)), ()) for state in states), provenance_of(contract)
    )
    policy.spec = RuntimeSpec(HORIZON, statistics)
    with pytest.raises(ConfigError, match=r"position\.finger would be commanded and is not"):
        Runner(policy, contract, LIMITS, thread=DrivenThread(), now_ns=DrivenClock().now_ns)


def test_the_policy_of_these_tests_is_of_this_contract():
    assert runner_of() is not None
    assert SPEC.rate_hz == RATE_HZ
