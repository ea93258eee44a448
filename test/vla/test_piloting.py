"""A policy at the wheel: what reaches the robot, what only a preview, and what ends it."""

from __future__ import annotations

import numpy as np
import pytest
from pilot_parts import Flight
from policy_parts import CONTRACT, HOME, ramp

pytest.importorskip("ruckig", reason="the extra policy is not installed")

from rynn_brain_ros.data.streams import StoredImage
from rynn_brain_ros.messages import header
from rynn_brain_ros.values import EncodedImage, EngineLostError
from rynn_brain_ros.vla.aiming import Aim
from rynn_brain_ros.vla.observing import Pictures
from rynn_brain_ros.vla.runner import RunnerConfig
from rynn_brain_ros.vla.values import PolicyError

GOALS = {"output": "trajectory_action", "controller": "arm"}
IN_BASE = Aim(3, frame="base")
TASKS = "tasks: {task: {channel: {topic: /task_prompt, type: std_msgs/msg/String}}}\n"
WORDS = "conditioning: {plan: /plan, groundings: /groundings}\n"


def at(message) -> list[float]:
    """Where a JointState commands a, b and the finger."""
    found = dict(zip(message.message["name"], message.message["position"], strict=True))
    return [found["a"], found["b"], found["finger"]]


def lost(seen):
    raise EngineLostError("the policy server went away")


# --- who may move --------------------------------------------------------------------------------


def test_what_is_not_armed_is_only_previewed():
    flight = Flight().fly(4)
    assert flight.robot.sent == []
    assert at(flight.robot.previewed[-1])[0] > HOME[0]


def test_a_dry_run_that_is_armed_is_only_previewed():
    flight = Flight(dry_run=True)
    assert flight.pilot.arm() == ""
    flight.fly(4)
    assert flight.robot.sent == []
    assert flight.robot.previewed


def test_what_is_armed_moves_from_where_the_robot_is_and_not_from_the_preview():
    flight = Flight(lambda seen: ramp(seen.state, 0.05)).fly(8)
    assert at(flight.robot.previewed[-1])[0] > 0.1
    flight.pilot.arm()
    flight.fly(3)
    assert at(flight.robot.sent[0]) == pytest.approx([HOME[0], HOME[1], 0.04 * HOME[2]])
    assert at(flight.robot.sent[-1])[0] > HOME[0]


def test_nothing_of_a_preview_is_held_by_who_is_disarmed_before_the_first_step():
    flight = Flight().fly(4)
    flight.pilot.arm()
    flight.pilot.disarm("a person disarmed it")
    assert flight.robot.sent == []


def test_arming_is_refused_while_the_robots_servers_are_not_there():
    flight = Flight(**GOALS)
    flight.robot.missing = ["arm/follow_joint_trajectory"]
    assert "no server at arm/follow_joint_trajectory" in flight.pilot.arm()
    assert not flight.arming.is_armed(flight.clock.ns)


def test_arming_is_refused_while_a_controller_is_at_work_for_somebody_else():
    flight = Flight(**GOALS)
    flight.robot.busy = ["it carries out somebody else's goal"]
    assert flight.pilot.arm() == "it carries out somebody else's goal"
    assert not flight.arming.is_armed(flight.clock.ns)


def test_disarming_sends_the_contracts_safe_action_once_and_then_nothing():
    flight = Flight().moving()
    last = at(flight.robot.sent[-1])
    n = len(flight.robot.sent)
    flight.pilot.disarm("a person disarmed it")
    assert flight.robot.n_cancels == 1
    assert at(flight.robot.sent[-1]) == last
    flight.fly(3)
    assert len(flight.robot.sent) == n + 1
    assert flight.pilot.stopped_why == "a person disarmed it"


def test_an_arming_that_expires_stops_the_robot():
    flight = Flight().moving()
    flight.fly(110, ticks=1)
    assert "arming has expired after 10 s" in flight.pilot.stopped_why
    assert flight.robot.n_cancels == 1


def test_a_clock_that_jumps_back_disarms():
    flight = Flight().moving()
    flight.clock.pass_s(-2.0)
    flight.pilot.tick()
    assert "the clock jumped back by" in flight.pilot.stopped_why


def test_a_loop_that_stood_still_disarms():
    flight = Flight().moving()
    flight.clock.pass_s(0.8)
    flight.fly()
    assert "the loop stood still for 0.8" in flight.pilot.stopped_why


def test_a_robot_that_fails_disarms_and_is_named():
    flight = Flight(**GOALS).moving()
    flight.robot.failing = ["arm/follow_joint_trajectory: it gave up what it was told"]
    flight.pilot.tick()
    assert flight.pilot.stopped_why.startswith("robot_failed: arm/follow_joint_trajectory")
    assert not flight.arming.is_armed(flight.clock.ns)


def test_failures_in_a_row_disarm_and_arming_begins_anew():
    flight = Flight(lost, runner=RunnerConfig(max_failures=2, retry_s=0.0))
    flight.pilot.arm()
    flight.fly(6)
    assert flight.pilot.stopped_why.startswith("too_many_failures: 2 requests failed in a row")
    assert not flight.arming.is_armed(flight.clock.ns)
    flight.policy.answer = lambda seen: ramp(seen.state)
    flight.moving()


# --- what it holds for ---------------------------------------------------------------------------


def standing(flight: Flight) -> bool:
    """After half a second; the robot is told where to stay all the time."""
    n = len(flight.robot.sent)
    flight.fly(5)
    told = [at(message) for message in flight.robot.sent[-7:]]
    return len(flight.robot.sent) > n and np.ptp(told, axis=0).max() < 1e-9


def test_a_camera_that_is_missing_is_named():
    flight = Flight()
    flight.camera = False
    flight.fly()
    assert flight.cause == "camera_missing"
    assert flight.pilot.hold.text == "no picture of wrist: /wrist: nothing usable has come yet"


def test_a_camera_that_falls_silent_holds_and_motion_goes_on_when_it_is_back():
    flight = Flight().moving()
    flight.camera = False
    flight.fly(4)
    assert flight.cause == "stale_observation"
    assert standing(flight)
    flight.camera = True
    flight.fly(4)
    assert flight.cause is None


def test_joints_that_never_came_are_named_with_what_is_wrong_with_their_messages():
    flight = Flight()
    flight.joints = False
    data = {"header": header(flight.clock.ns, ""), "name": ["other"], "position": [1.0]}
    flight.fly()
    flight.hear("/joint_states", "sensor_msgs/msg/JointState", data)
    flight.pilot.tick()
    flight.fly()
    assert flight.cause == "state_unusable"
    assert "field_missing: no position of 'a'; the message has other" in flight.pilot.hold.text


def test_a_state_outside_training_holds():
    flight = Flight().moving()
    flight.state = np.array([9.0, 1.0, 0.5])
    flight.fly()
    assert flight.cause == "out_of_range"


def test_a_policy_that_goes_away_in_the_middle_of_a_chunk_holds():
    flight = Flight(runner=RunnerConfig(replan_steps=2, retry_s=60.0)).moving()
    flight.policy.answer = lost
    flight.fly(3)
    assert flight.cause == "policy_failed"
    assert standing(flight)
    assert flight.arming.is_armed(flight.clock.ns)


def test_a_picture_that_cannot_be_read_is_told_as_what_is_wrong_with_the_camera():
    flight = Flight()
    flight.pixels = EncodedImage("rgb8", b"\0" * 10, 6, 4, 18)
    flight.fly(2)
    assert flight.cause == "camera_missing"
    assert "of its last message: unreadable" in flight.pilot.hold.text


def test_pictures_are_decoded_by_who_looks_at_them():
    (camera,) = CONTRACT.cameras
    broken = StoredImage(camera.sources[0], EncodedImage("jpeg", b"none", compressed=True))
    pictures = Pictures({"wrist": broken})
    assert list(pictures) == ["wrist"]
    assert "wrist" in pictures
    assert "front" not in pictures
    with pytest.raises(PolicyError, match="the newest picture of wrist is broken"):
        pictures["wrist"]


def test_a_gripper_far_outside_is_never_sent():
    flight = Flight(lambda seen: ramp((0.0, 1.0, 1.8)))
    flight.pilot.arm()
    flight.fly(4)
    assert "finger of step 0 is 1.80; a gripper is 1 open" in flight.pilot.hold.text
    assert max(at(message)[2] for message in flight.robot.sent) == pytest.approx(0.02)


def test_a_preview_is_not_compared_with_the_robot():
    flight = Flight(lambda seen: ramp(seen.state, 0.1), runner=RunnerConfig(replan_steps=100))
    flight.fly(6)
    assert at(flight.robot.previewed[-1])[0] > 0.3
    assert flight.cause is None


def test_a_robot_that_something_holds_is_pushed_once_and_left_where_it_is():
    flight = Flight(lambda seen: ramp(seen.state, 0.1)).moving()
    flight.fly(30)  # it stays where it was
    assert flight.pilot.stopped_why.startswith("not_followed: position.a is at 0 and was commanded")
    assert not flight.arming.is_armed(flight.clock.ns)
    assert max(at(message)[0] for message in flight.robot.sent) < HOME[0] + 0.4
    assert at(flight.robot.sent[-1]) == pytest.approx([HOME[0], HOME[1], 0.04 * HOME[2]])


def test_without_a_task_nothing_is_asked():
    flight = Flight(task="").fly(2)
    assert flight.cause == "no_task"
    assert flight.policy.asked == []
    flight.pilot.task = "pick up the cup"
    flight.fly(2)
    assert flight.policy.asked[0][0].instruction == "pick up the cup"


def test_who_said_last_what_is_to_be_done_is_followed():
    flight = Flight(more=TASKS).fly(2)
    said = [("/task_prompt", "stack the plates"), ("~/task", "put the knife down")]
    for topic, words in (*said, ("/task_prompt", "wipe the table")):
        if topic == "~/task":
            flight.pilot.task = words
        else:
            flight.hear(topic, "std_msgs/msg/String", {"data": words})
        flight.fly(8)
        assert flight.policy.asked[-1][0].instruction == words
    flight.hear("/task_prompt", "std_msgs/msg/String", {"data": " "})
    flight.fly(2)
    assert flight.cause == "no_task"
    flight.pilot.begin()
    assert flight.pilot.task == "pick up the cup"


def test_what_was_said_before_it_began_is_what_is_to_be_done():
    flight = Flight()
    flight.pilot.begin("stack the plates")
    flight.fly(2)
    assert flight.policy.asked[0][0].instruction == "stack the plates"


# --- what the brain says -------------------------------------------------------------------------


def pointed(frame: str) -> dict:
    grounding = {
        "kind": 3,
        "camera": "/wrist",
        "actionable": True,
        "points_norm": [{"x": 500.0, "y": 400.0}],
        "fixed": True,
        "fixed_frame_id": frame,
        "point_fixed": {"x": 0.5, "y": -0.1, "z": 0.02},
    }
    return {"query_id": "q1", "task": "plan", "groundings": [grounding]}


def told(
    flight: Flight,
    groundings: dict,
    text: str = "Pick up the <object> cup </object>.",
    task: str = "pick up the cup",
) -> str:
    """The brain's step of a task, and where it points."""
    plan = {"query_id": "q1", "task": task, "steps": [{"text": text}]}
    flight.hear("/plan", "rynn_brain_ros/msg/Plan", plan)
    flight.hear("/groundings", "rynn_brain_ros/msg/GroundingArray", groundings)
    return text


def test_the_policy_is_told_the_brains_step_and_point():
    flight = Flight(more=WORDS, aim=IN_BASE)
    text = told(flight, pointed("base"))
    flight.fly(2)
    (seen, _), *_ = flight.policy.asked
    assert (seen.step, seen.target_point) == (text, (0.5, -0.1, 0.02))


def asked_last(flight: Flight) -> tuple[str, str, tuple[float, ...]]:
    seen, _ = flight.policy.asked[-1]
    return seen.instruction, seen.step, seen.target_point


@pytest.mark.parametrize("says", ["~/task", "/task_prompt"])
def test_a_new_task_is_not_carried_out_with_the_step_and_point_of_the_one_before(says: str):
    flight = Flight(more=TASKS + WORDS, aim=IN_BASE)
    told(flight, pointed("base"))
    flight.moving()
    flight.pilot.disarm("a person disarmed it")
    if says == "~/task":
        flight.pilot.task = "stack the plates"
    else:
        flight.hear(says, "std_msgs/msg/String", {"data": "stack the plates"})
    flight.fly(1)
    assert flight.pilot.unaimed.startswith("no target point is told")
    flight.moving()
    assert asked_last(flight) == ("stack the plates", "", ())


def test_a_step_that_the_brain_told_of_the_task_before_the_policy_heard_it_is_carried_out():
    flight = Flight(more=WORDS, aim=IN_BASE)
    text = told(flight, pointed("base"), task="stack the plates")
    flight.pilot.task = "stack the plates"
    flight.fly(2)
    assert asked_last(flight) == ("stack the plates", text, (0.5, -0.1, 0.02))


def test_what_a_preview_was_told_is_what_moves_once_it_is_armed():
    flight = Flight(more=WORDS, aim=IN_BASE)
    text = told(flight, pointed("base"))
    flight.fly(8)
    flight.pilot.task = "pick up the cup"  # once more
    flight.moving()
    assert asked_last(flight) == ("pick up the cup", text, (0.5, -0.1, 0.02))


def test_a_policy_of_points_that_is_told_none_says_so():
    flight = Flight(more=WORDS, aim=IN_BASE).fly(2)
    assert flight.pilot.unaimed.startswith("no target point is told, and the policy was trained")
    told(flight, pointed("base"))
    flight.fly(1)
    assert flight.pilot.unaimed == ""
    assert Flight().fly(2).pilot.unaimed == ""


def test_a_point_in_another_frame_than_in_training_holds():
    flight = Flight(more=WORDS, aim=IN_BASE)
    told(flight, pointed("odom"))
    flight.fly(2)
    assert flight.cause == "target_unusable"
    assert "are told in odom, not in 'base'" in flight.pilot.hold.text


def test_a_point_far_from_those_of_training_holds():
    flight = Flight(more=WORDS, aim=IN_BASE)
    far = pointed("base")
    far["groundings"][0]["point_fixed"]["x"] = 500.0  # millimetres
    told(flight, far)
    flight.fly(2)
    assert flight.cause == "target_unusable"
    assert "x is 500 (trained" in flight.pilot.hold.text


def test_a_policy_of_points_in_another_cameras_pictures_is_refused():
    with pytest.raises(PolicyError, match=r"pictures of /front; the contract's cameras are /wrist"):
        Flight(more=WORDS, aim=Aim(2, camera="/front"))
    Flight(more=WORDS, aim=Aim(2, camera="/wrist"))
