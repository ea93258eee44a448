"""What Nav2 is asked, and what its results mean."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from interfaces import filled
from played_wire import ACCEPTED, Played, ends, ok, place

from rynn_brain_ros.actuators import Call, GoalFailed, Reply
from rynn_brain_ros.actuators.distributions import fitted, missing
from rynn_brain_ros.actuators.moveit import CARTESIAN_PATH
from rynn_brain_ros.actuators.nav2 import (
    drive_call,
    error_of,
    follow_call,
    navigate_call,
    spin_call,
)
from rynn_brain_ros.actuators.profile import BaseProfile
from rynn_brain_ros.values import (
    ConfigError,
    DriveGoal,
    FollowGoal,
    GoalEventKind,
    NavigateGoal,
    SpinGoal,
)

BASE = BaseProfile()


def test_a_place_is_asked_in_the_map_as_it_lies_now():
    sent = filled(navigate_call(NavigateGoal(place(2.0, 1.0)), BASE))
    pose = sent.pose.pose
    assert (sent.pose.header.frame_id, sent.pose.header.stamp.sec) == ("map", 0)
    assert (pose.position.x, pose.position.y) == (2.0, 1.0)
    assert (pose.orientation.z, pose.orientation.w) == (pytest.approx(0.6), pytest.approx(0.8))
    assert sent.behavior_tree == ""


def test_a_path_on_the_floor_is_followed():
    call = follow_call(FollowGoal((place(1.0), place(2.0))), BASE)
    sent = filled(call)
    assert call.server == "follow_path"
    assert [pose.pose.position.x for pose in sent.path.poses] == [1.0, 2.0]
    assert sent.path.header.frame_id == "map"


def test_a_path_on_the_floor_may_go_around_things():
    call = follow_call(FollowGoal((place(1.0), place(2.0))), BaseProfile(follow="through_poses"))
    assert call.server == "navigate_through_poses"
    assert [pose.pose.position.x for pose in filled(call).poses] == [1.0, 2.0]


def test_kilted_gets_its_poses_nested():
    call = follow_call(FollowGoal((place(1.0),)), BaseProfile(follow="through_poses"))
    request = fitted(call, {"poses": "nav_msgs/Goals", "behavior_tree": "string"})
    assert request["poses"]["header"]["frame_id"] == "map"
    assert len(request["poses"]["goals"]) == 1


def test_a_field_that_may_be_missing_is_left_out_by_name():
    request = {"group_name": "arm", "max_velocity_scaling_factor": 0.1}
    call = Call("compute_cartesian_path", CARTESIAN_PATH, request)
    fields = {"group_name": "string"}
    assert missing(call, fields) == ("max_velocity_scaling_factor",)
    assert fitted(call, fields) == {"group_name": "arm"}


def test_any_other_missing_field_is_an_error():
    call = Call("spin", "nav2_msgs/action/Spin", {"target_yaw": 1.0})
    with pytest.raises(ConfigError, match="has no field 'target_yaw' here; it has yaw"):
        fitted(call, {"yaw": "float"})


def test_a_drive_ahead_is_checked_for_collisions_and_has_its_time():
    call = drive_call(DriveGoal(0.6, speed=0.5), BASE)
    sent = filled(call)
    assert call.server == "drive_on_heading"
    assert (sent.target.x, sent.target.y) == (0.6, 0.0)
    assert sent.speed == pytest.approx(0.15)
    assert sent.time_allowance.sec == 2 + 3 * 4


def test_a_drive_back_is_a_back_up_by_a_length():
    call = drive_call(DriveGoal(-0.3), BASE)
    sent = filled(call)
    assert (call.server, sent.target.x) == ("backup", 0.3)
    assert sent.speed == pytest.approx(0.3)


def test_a_turn_is_a_spin_counter_clockwise_positive():
    sent = filled(spin_call(SpinGoal(-0.8), BASE))
    assert sent.target_yaw == pytest.approx(-0.8)
    assert sent.time_allowance.sec == 5


BAD = st.sampled_from((math.nan, math.inf, -math.inf))


@given(bad=BAD)
def test_a_number_that_is_none_never_drives(bad: float):
    for make, goal in (
        (drive_call, DriveGoal(bad)),
        (spin_call, SpinGoal(bad)),
        (navigate_call, NavigateGoal(place(bad))),
        (follow_call, FollowGoal((place(1.0), place(1.0, bad)))),
    ):
        with pytest.raises(GoalFailed, match="not a finite number"):
            make(goal, BASE)  # type: ignore[operator]


@given(speed=st.one_of(BAD, st.floats(max_value=0.0), st.floats(min_value=1.0001)))
def test_a_speed_that_is_no_share_never_drives(speed: float):
    for make, goal in (
        (drive_call, DriveGoal(0.3, speed)),
        (spin_call, SpinGoal(0.3, speed)),
        (navigate_call, NavigateGoal(place(), speed)),
        (follow_call, FollowGoal((place(),), speed)),
    ):
        with pytest.raises(GoalFailed, match="a speed of"):
            make(goal, BASE)  # type: ignore[operator]


@given(distance=st.floats(-5.0, 5.0), speed=st.floats(0.01, 1.0))
def test_every_drive_is_as_long_as_it_was_asked_and_never_faster(distance: float, speed: float):
    sent = filled(drive_call(DriveGoal(distance, speed), BASE))
    assert sent.target.x == abs(distance)
    assert 0.0 < sent.speed <= BASE.speed_m_s * (1 + 1e-6)
    assert sent.time_allowance.sec >= abs(distance) / sent.speed


def test_a_place_in_another_frame_is_rejected():
    with pytest.raises(GoalFailed, match="the pose is in 'odom'; it must be in 'map'"):
        navigate_call(NavigateGoal(place(frame="odom")), BASE)


# --- what Nav2 answers --------------------------------------------------------------------------


def test_arriving_is_success():
    event = Played("mobile_base").carry_out(NavigateGoal(place()), ok())
    assert event.kind is GoalEventKind.SUCCEEDED


@pytest.mark.parametrize(
    ("goal", "code", "name"),
    [
        (FollowGoal((place(),)), 105, "FAILED_TO_MAKE_PROGRESS"),
        (SpinGoal(1.0), 703, "COLLISION_AHEAD"),
        (DriveGoal(0.3), 721, "TIMEOUT"),
        (DriveGoal(-0.3), 714, "COLLISION_AHEAD"),
        (NavigateGoal(place()), 9002, "TF_ERROR"),
        (NavigateGoal(place()), 206, "GOAL_OCCUPIED"),
        (NavigateGoal(place()), 208, "NO_VALID_PATH"),
        (FollowGoal((place(),)), 309, "NO_VIAPOINTS_GIVEN"),
        (NavigateGoal(place()), 503, "SMOOTHED_PATH_IN_COLLISION"),
        (NavigateGoal(place()), 505, "INVALID_PATH"),
        (NavigateGoal(place()), 31, "error 31"),
    ],
)
def test_an_abort_names_nav2s_code(goal: Any, code: int, name: str):
    end = ends(GoalEventKind.ABORTED, error_code=code, error_msg="stuck")
    event = Played("mobile_base").carry_out(goal, end)
    assert event.kind is GoalEventKind.ABORTED
    assert event.text.endswith(f"{name}: stuck")


GOALS = (NavigateGoal(place()), FollowGoal((place(),)), SpinGoal(1.0), DriveGoal(0.3))


@pytest.mark.parametrize("goal", GOALS)
def test_an_abort_without_a_reason_means_that_another_goal_has_the_base(goal: Any):
    event = Played("mobile_base").carry_out(goal, ends(GoalEventKind.ABORTED))
    assert event.kind is GoalEventKind.PREEMPTED
    assert "another goal took its place" in event.text


def test_a_reason_in_words_alone_is_a_reason():
    end = ends(GoalEventKind.ABORTED, error_msg="stuck")
    event = Played("mobile_base").carry_out(NavigateGoal(place()), end)
    assert event.kind is GoalEventKind.ABORTED
    assert event.text.endswith("aborted: stuck")


def test_humble_tells_nothing_and_that_is_told():
    told_nothing = SimpleNamespace(result=None)
    assert error_of(told_nothing) == ""
    base = Played("mobile_base")
    base.send(NavigateGoal(place()))
    base.wire.say(ACCEPTED, Reply(GoalEventKind.ABORTED, told_nothing))
    event = base.last()
    assert event.kind is GoalEventKind.PREEMPTED
    assert "Nav2 on Humble never tells a reason" in event.text


def test_standing_still_is_published_as_the_declared_stop():
    base = Played("mobile_base")
    base.actuator.stop()
    assert base.wire.published == []  # nothing has moved yet
    base.send(DriveGoal(0.3))
    base.actuator.stop()
    (stop,) = base.wire.published
    assert (stop.topic, stop.type, stop.message) == ("cmd_vel", "geometry_msgs/msg/Twist", {})
