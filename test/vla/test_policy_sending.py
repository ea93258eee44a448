"""The forms in which a robot takes what a policy wants, and the node's settings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from pilot_parts import Flight
from policy_parts import HOME, HORIZON, ramp

pytest.importorskip("ruckig", reason="the extra policy is not installed")

from rynn_brain_ros.config import settings
from rynn_brain_ros.data import contract_from
from rynn_brain_ros.values import ConfigError
from rynn_brain_ros.vla.actions import IDENTITY_ROT6D
from rynn_brain_ros.vla.chunks import Joining, RuntimeSpec
from rynn_brain_ros.vla.normalization import compute, provenance_of
from rynn_brain_ros.vla.runner import RunnerConfig
from rynn_brain_ros.vla.sending import (
    FOLLOW,
    HANDS,
    TRAJECTORY,
    Translator,
    sending_of,
    servers_of,
)
from rynn_brain_ros.vla.settings import Hand, PolicyConfig

FILE = Path(__file__).resolve().parents[2] / "config" / "policy.yaml"
TOPIC = {"output": "trajectory_topic", "controller": "arm"}
GOALS = {"output": "trajectory_action", "controller": "arm"}
_PARTS = """
    - channel: {topic: TOPIC, type: std_msgs/msg/Float64MultiArray}
      align: {strategy: hold, timeline: receive}
      select: [data.0, data.1, data.2]
      units: m
    - channel: {topic: TOPIC, type: std_msgs/msg/Float64MultiArray}
      align: {strategy: hold, timeline: receive}
      select: [data.3, data.4, data.5, data.6, data.7, data.8]
      kind: rotation_6d
"""
POSES = contract_from(
    "robot_type: hand\nrobot_interface: ros2\nfps: 10\nobservations:\n  observation.state:"
    + _PARTS.replace("TOPIC", "/measured")
    + "actions:\n  action:"
    + _PARTS.replace("TOPIC", "/wanted")
)
"""Of a hand that is told where to be."""


def posing() -> RuntimeSpec:
    state = np.array((0.5, 0.0, 0.2, *IDENTITY_ROT6D))
    return RuntimeSpec(1, compute([(state, state[None], ())] * 2, provenance_of(POSES)))


def points(message) -> list[dict]:
    told = message.message
    return told.get("trajectory", told)["points"]


# --- the contract's own messages ------------------------------------------------------------------


class Streaming:
    """An arm that stands where it was told last, and when it was told what of joint a."""

    def __init__(self, step_rad: float) -> None:
        self.flight = Flight(lambda seen: ramp(seen.state, step_rad))
        self.told: list[tuple[float, float]] = []
        assert self.flight.pilot.arm() == ""

    def tick(self) -> None:
        robot, n = self.flight.robot, len(self.flight.robot.sent)
        self.flight.pilot.tick()
        self.told += [(self.flight.clock.ns / 1e9, a_of(message)) for message in robot.sent[n:]]
        if self.told:
            self.flight.state = np.array([self.told[-1][1], *HOME[1:]])

    def fly(self, steps: int) -> None:
        for _ in range(steps):
            self.flight.see()
            for _ in range(7):
                self.tick()
                self.flight.clock.pass_s(0.1 / 7)
            self.flight.thread.work()


def a_of(message) -> float:
    return dict(zip(message.message["name"], message.message["position"], strict=True))["a"]


@pytest.mark.parametrize("gap_s", [0.03, 0.1, 0.2, 0.45])
def test_a_stream_that_was_late_goes_on_where_it_was_within_its_limits(gap_s: float):
    streaming = Streaming(step_rad=0.15)
    streaming.fly(4)
    n = len(streaming.told)
    streaming.flight.clock.pass_s(gap_s)
    streaming.fly(3)
    times_s, places = np.transpose(streaming.told[n - 1 :])
    limit = 2.0  # of FAST, rad/s
    assert np.all(np.abs(np.diff(places)) <= limit * np.diff(times_s) + 1e-6)
    assert abs(places[1] - places[0]) <= limit * 2 * 0.1 / 7 + 1e-6
    assert places[-1] > places[0] + 0.2
    assert streaming.flight.pilot.stopped_why == ""


ROW_S = 0.1 / 7


def on_a_grid(streaming: Streaming, n: int, jitter_s: float, gap_rows: float = 0.0) -> list[int]:
    """How many messages each of ``n`` ticks sent, of a timer whose ticks come late by up to
    ``jitter_s``, the tenth by ``gap_rows``, which leaves those out that it lasts."""
    flight, random = streaming.flight, np.random.default_rng(0)
    start_ns, sent = flight.clock.ns, []
    for i in range(n):
        if 9 < i < 9 + gap_rows:
            continue
        late_s = gap_rows * ROW_S if i == 9 else random.uniform(0.0, jitter_s)
        flight.clock.ns = start_ns + round(i * 0.1e9 / 7 + late_s * 1e9)
        flight.see()
        before = len(streaming.told)
        streaming.tick()
        flight.thread.work()
        sent.append(len(streaming.told) - before)
    return sent


@pytest.mark.parametrize("jitter_s", [0.0, 0.0003, 0.002])
def test_every_tick_of_the_loop_sends_one_message(jitter_s: float):
    sent = on_a_grid(Streaming(step_rad=0.05), 140, jitter_s)
    assert sent[8:] == [1] * 132


@pytest.mark.parametrize("gap_rows", [1.5, 2.5, 6.5])
def test_a_stream_that_was_late_does_not_stutter_from_then_on(gap_rows: float):
    streaming = Streaming(step_rad=0.05)
    sent = on_a_grid(streaming, 140, 0.001, gap_rows)
    assert sent[8:] == [1] * len(sent[8:])
    places = np.array([place for _, place in streaming.told])
    assert np.abs(np.diff(places)).max() < 2 * 2.0 * ROW_S


# --- trajectories --------------------------------------------------------------------------------


def test_a_new_chunk_is_one_trajectory_that_ends_at_rest():
    flight = Flight(runner=RunnerConfig(replan_steps=100), **TOPIC)
    flight.pilot.arm()
    flight.fly(2 + HORIZON)
    told = [message for message in flight.robot.sent if message.type == TRAJECTORY]
    assert len(told) == 1
    assert told[0].topic == "arm/joint_trajectory"
    assert told[0].message["joint_names"] == ["a", "b", "finger"]
    last = points(told[0])[-1]
    assert last["positions"] == pytest.approx([ramp()[-1][0], 1.0, 0.02], abs=1e-6)
    assert last["velocities"] == [0.0, 0.0, 0.0]


def test_the_points_of_a_trajectory_are_those_of_the_steps_at_their_time():
    flight = Flight(runner=RunnerConfig(replan_steps=100), **TOPIC)
    flight.pilot.arm()
    flight.fly(1)
    begun_ns = flight.clock.ns
    flight.fly(1)
    (told,) = flight.robot.sent
    stamp = told.message["header"]["stamp"]
    assert abs(stamp["sec"] * 10**9 + stamp["nanosec"] - begun_ns) < 100
    by_time = {
        p["time_from_start"]["sec"] * 10**9 + p["time_from_start"]["nanosec"]: p["positions"][0]
        for p in points(told)
    }
    steps_s = np.arange(1, HORIZON + 1) * 0.1
    found = np.interp(steps_s, np.array(list(by_time)) / 1e9, list(by_time.values()))
    np.testing.assert_allclose(found, ramp()[:, 0], atol=1e-3)


def test_a_hold_replaces_the_plan_by_coming_to_rest_where_it_is():
    flight = Flight(lambda seen: ramp(seen.state, 0.1), **TOPIC).moving()
    planned = points(flight.robot.sent[-1])[-1]["positions"][0]
    flight.state = np.array([9.0, 1.0, 0.5])
    flight.fly()
    rest = points(flight.robot.sent[-1])
    assert rest[-1]["positions"][0] < planned - 0.1
    assert rest[-1]["velocities"] == [0.0, 0.0, 0.0]
    assert flight.cause == "out_of_range"


def test_a_controllers_topic_is_stopped_where_the_robot_is_measured():
    flight = Flight(**TOPIC).moving()
    flight.state = HOME + 0.03
    flight.fly()
    flight.pilot.disarm("a person disarmed it")
    (point,) = points(flight.robot.sent[-1])
    a, b, _ = HOME + 0.03
    assert point["positions"] == pytest.approx([a, b, 0.04 * HOME[2]], abs=1e-6)


def test_a_controller_whose_clock_is_ahead_does_not_drop_the_stop():
    """ros2_control drops what has ended by its own clock, and begins a stamp of 0 at once."""
    flight = Flight(**TOPIC).moving()
    assert flight.robot.sent[-1].message["header"]["stamp"]["sec"] > 0
    flight.pilot.disarm("a person disarmed it")
    assert flight.robot.sent[-1].message["header"]["stamp"] == {"sec": 0, "nanosec": 0}


def test_a_loop_that_stood_still_stops_the_robot_where_it_is_now():
    flight = Flight(**TOPIC).moving()
    flight.clock.pass_s(0.8)
    flight.state = HOME + 0.3
    flight.fly(ticks=1)
    (point,) = points(flight.robot.sent[-1])
    assert point["positions"][0] == pytest.approx(HOME[0] + 0.3)


def test_where_the_joints_are_silent_a_controllers_topic_is_stopped_where_it_came_to_rest():
    flight = Flight(**TOPIC).moving()
    flight.joints = False
    flight.fly(4)
    rest = points(flight.robot.sent[-1])
    assert flight.cause == "stale_observation"
    flight.pilot.disarm("a person disarmed it")
    assert stopped_at(flight) == pytest.approx(rest[-1]["positions"])


def stopped_at(flight: Flight) -> list[float]:
    (point,) = points(flight.robot.sent[-1])
    return point["positions"]


def far_ahead(**changes: str) -> Flight:
    """On its way along joint a, half a radian a second, by a plan that lasts."""
    settings = {"runner": RunnerConfig(replan_steps=100, answer_budget_s=60.0), **TOPIC, **changes}
    return Flight(lambda seen: ramp(seen.state, 0.05), **settings).moving()


def planned_at(flight: Flight, now_ns: int) -> float:
    """Where the newest trajectory has joint a."""
    told = flight.robot.sent[-1].message
    stamps = [told["header"]["stamp"], *(p["time_from_start"] for p in told["points"])]
    start_ns, *after_ns = [stamp["sec"] * 10**9 + stamp["nanosec"] for stamp in stamps]
    places = [point["positions"][0] for point in told["points"]]
    return float(np.interp((now_ns - start_ns) / 1e9, np.array(after_ns) / 1e9, places))


def test_a_loop_that_stood_still_and_sees_nothing_new_stops_the_robot_where_its_plan_is_now():
    flight = far_ahead()
    flight.clock.pass_s(0.6)
    planned = planned_at(flight, flight.clock.ns)
    flight.pilot.tick()
    assert "the loop stood still" in flight.pilot.stopped_why
    assert stopped_at(flight)[0] == pytest.approx(planned, abs=0.5 * 0.02)


@pytest.mark.parametrize("back_s", [0.02, 0.3, 8.0])
def test_a_clock_that_is_set_back_stops_the_robot_where_it_was_told_to_be_last(back_s: float):
    flight = far_ahead()
    flight.fly(1, ticks=7)
    step_ends_ns = flight.clock.ns
    begins_ns = step_ends_ns - 10**8
    told = planned_at(flight, begins_ns), planned_at(flight, step_ends_ns)
    flight.clock.pass_s(-back_s)
    flight.pilot.tick()
    assert "the clock jumped back" in flight.pilot.stopped_why
    assert told[0] < stopped_at(flight)[0] <= told[1] + 0.5 * 0.02


@pytest.mark.parametrize("forward_s", [0.51, 2.0, 30.0])
def test_a_clock_that_is_set_forward_does_not_hurry_the_robot_to_where_its_plan_is_then(
    forward_s: float,
):
    flight = far_ahead(max_velocity="0.5")
    there = planned_at(flight, flight.clock.ns)
    flight.clock.pass_s(forward_s)
    flight.pilot.tick()
    assert flight.pilot.stopped_why
    (point,) = points(flight.robot.sent[-1])
    takes = point["time_from_start"]
    mean = (point["positions"][0] - there) / (takes["sec"] + takes["nanosec"] / 1e9)
    assert 0.1 < 1.5 * mean <= 0.5  # as much faster between as a cubic from rest to rest is


def test_a_controllers_goal_is_stopped_by_its_cancel_alone():
    flight = Flight(**GOALS).moving()
    n = len(flight.robot.sent)
    assert {message.type for message in flight.robot.sent} == {FOLLOW}
    flight.pilot.disarm("a person disarmed it")
    assert (flight.robot.n_cancels, len(flight.robot.sent)) == (1, n)


@pytest.mark.parametrize("kind", Hand)
def test_the_hand_is_told_when_it_is_to_open_or_to_close_and_not_between(kind: Hand):
    opening, hand = [0.5], {"gripper_action": "hand", "gripper_kind": kind.value}
    flight = Flight(lambda seen: np.tile([0.0, 1.0, opening[0]], (HORIZON, 1)), **hand, **GOALS)
    flight.pilot.arm()
    told = []
    for wanted in (0.5, 1.0, 0.5, 0.0, 0.5):
        opening[0] = wanted
        flight.fly(8)
        told.append(hand_goals(flight))
    assert told == [[], [0.04], [0.04], [0.04, 0.0], [0.04, 0.0]]
    arm = next(m for m in flight.robot.sent if m.type == FOLLOW)
    assert arm.message["trajectory"]["joint_names"] == ["a", "b"]


# --- what the hand holds -------------------------------------------------------------------------


def carrying(**settings) -> Flight:
    """An arm whose hand was told to close, on something 65 % of its opening wide."""
    flight = Flight(lambda seen: np.tile([0.0, 1.0, 0.0], (HORIZON, 1)), **settings)
    flight.state = np.array([0.0, 1.0, 0.9])
    assert flight.pilot.arm() == ""
    flight.fly(5)
    flight.state = np.array([0.0, 1.0, 0.65])
    return flight.fly(3)


def hand_goals(flight: Flight) -> list[float]:
    """The positions that its one joint was told."""
    commands = [m.message["command"] for m in flight.robot.sent if m.type in HANDS.values()]
    for parallel in (command for command in commands if "name" in command):
        assert (parallel["name"], len(parallel["effort"])) == (["finger"], 1)
    return [np.atleast_1d(command["position"])[0] for command in commands]


def rearmed(flight: Flight) -> Flight:
    flight.pilot.disarm("a person disarmed it")
    flight.fly(3)
    assert flight.pilot.arm() == ""
    return flight.fly(5)


def test_a_hand_that_holds_something_is_not_opened_by_arming_anew():
    flight = rearmed(carrying(gripper_action="hand", **GOALS))
    assert hand_goals(flight) == [0.0, 0.0]


def test_a_hand_that_holds_something_is_not_opened_by_arming_for_the_first_time():
    flight = Flight(
        lambda seen: np.tile([0.0, 1.0, 0.0], (HORIZON, 1)), gripper_action="hand", **GOALS
    )
    flight.state = np.array([0.0, 1.0, 0.65])
    assert flight.pilot.arm() == ""
    flight.fly(8)
    assert hand_goals(flight) == [0.0]


def test_the_safe_action_goes_on_with_what_the_hand_was_told():
    flight = carrying(**TOPIC)
    flight.pilot.disarm("a person disarmed it")
    (point,) = points(flight.robot.sent[-1])
    assert point["positions"] == pytest.approx([0.0, 1.0, 0.0], abs=1e-6)


def test_fingers_that_hold_something_are_pressed_on_behind_arming_anew():
    flight = carrying()
    flight.pilot.disarm("a person disarmed it")
    n = len(flight.robot.sent)
    rearmed(flight)
    assert {finger(message) for message in flight.robot.sent[n:]} == {0.0}


def test_a_hand_that_was_opened_meanwhile_is_not_snapped_shut():
    flight = carrying()
    flight.pilot.disarm("a person disarmed it")
    n = len(flight.robot.sent)
    flight.state = np.array([0.0, 1.0, 1.0])
    assert flight.pilot.arm() == ""
    flight.fly(1)
    assert finger(flight.robot.sent[n]) == pytest.approx(0.04, abs=1e-6)


def finger(message) -> float:
    return dict(zip(message.message["name"], message.message["position"], strict=True))["finger"]


def test_only_goals_need_servers():
    hand = {"gripper_action": "hand"}
    assert servers_of(PolicyConfig(**hand)) == {}
    assert servers_of(PolicyConfig(**TOPIC)) == {}
    assert servers_of(PolicyConfig(**GOALS, **hand)) == {
        "arm/follow_joint_trajectory": FOLLOW,
        "hand": HANDS[Hand.GRIPPER_COMMAND],
    }
    parallel = PolicyConfig(**GOALS, **hand, gripper_kind="parallel_gripper")
    assert servers_of(parallel)["hand"] == HANDS[Hand.PARALLEL]


# --- settings ------------------------------------------------------------------------------------


def test_the_yaml_file_has_every_setting_with_its_default():
    parameters = yaml.safe_load(FILE.read_text(encoding="utf-8"))["/**/policy"]["ros__parameters"]
    every = [item for kind in (PolicyConfig, RunnerConfig, Joining) for item in settings(kind)]
    assert list(parameters.items()) == [(item.name, item.default) for item in every]


def test_limits_are_for_all_numbers_or_for_each():
    names = ("a", "b", "finger")
    limits = PolicyConfig(max_velocity="1, 2, 3").limits(names)
    assert (limits.velocity, limits.jerk) == ((1.0, 2.0, 3.0), (20.0,) * 3)
    with pytest.raises(ConfigError, match=r"max_jerk has 2 numbers; give one, or 3, for a, b, fin"):
        PolicyConfig(max_jerk="1,2").limits(names)
    with pytest.raises(ConfigError, match="max_velocity is 'fast'"):
        PolicyConfig(max_velocity="fast").limits(names)


def test_a_path_of_the_hand_is_no_trajectory_of_joints():
    with pytest.raises(ConfigError, match=r"positions of joints; .* set output to contract"):
        sending_of(PolicyConfig(**TOPIC), POSES, posing())


def test_what_was_shaped_number_by_number_is_sent_as_a_rotation():
    action = np.array((0.1, 0.2, 0.3, 0.9, 0.1, 0.0, 1.2, 0.0, 0.0))
    (sent,) = Translator(POSES, posing()).messages(action, 0)
    told = sent.message["data"]
    assert told[:3] == [0.1, 0.2, 0.3]
    columns = np.reshape(told[3:], (3, 2))
    np.testing.assert_allclose(columns.T @ columns, np.eye(2), atol=1e-12)
