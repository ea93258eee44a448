"""What MoveIt is asked, field by field, in its real types."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from interfaces import filled, part
from played_wire import (
    ACCEPTED,
    DOWN,
    PLANNED,
    SUCCESS,
    Played,
    ends,
    ok,
    straight_path,
    tcp,
)

from rynn_brain_ros.actuators import GoalFailed, Reply, read_profile
from rynn_brain_ros.actuators.moveit import (
    CARTESIAN_PATH,
    cartesian_request,
    checked_path,
    code_name,
    pose_goal,
    posture_goal,
)
from rynn_brain_ros.actuators.scene import Scene, table_box
from rynn_brain_ros.geometry import from_matrix, to_matrix
from rynn_brain_ros.safety import SafetyLimits
from rynn_brain_ros.values import (
    FollowGoal,
    GoalEventKind,
    GripGoal,
    Motion,
    MotionStage,
    PostureGoal,
    ReachGoal,
    RigidTransform,
    Skill,
    Stage,
)

PROFILE = read_profile("franka_panda")
assert PROFILE.arm is not None
ARM, LIMITS = PROFILE.arm, SafetyLimits()
EMPTY = Scene()
ANY_JUMP = replace(ARM, max_joint_jump_rad=0.0)


def goal_of(goal: ReachGoal, scene: Scene = EMPTY) -> Any:
    return filled(pose_goal(goal, ARM, LIMITS, scene))


def test_a_pose_goal_is_for_the_flange_where_the_tool_is_to_be():
    sent = goal_of(ReachGoal(tcp(0.5, 0.1, 0.2)))
    (wanted,) = sent.request.goal_constraints
    (position,), (orientation,) = wanted.position_constraints, wanted.orientation_constraints
    sphere, center = position.constraint_region.primitives[0], position.constraint_region
    xyz = center.primitive_poses[0].position
    assert (xyz.x, xyz.y, xyz.z) == pytest.approx((0.5, 0.1, 0.2 + 0.1034))
    assert center.primitive_poses[0].orientation.w == 1.0
    assert (sphere.type, list(sphere.dimensions)) == (2, [ARM.position_tolerance_m])
    assert position.link_name == orientation.link_name == "panda_link8"
    assert position.header.frame_id == orientation.header.frame_id == "panda_link0"
    assert position.weight == orientation.weight == 1.0
    assert orientation.parameterization == 1
    tolerances = [getattr(orientation, f"absolute_{axis}_axis_tolerance") for axis in "xyz"]
    assert tolerances == [ARM.orientation_tolerance_rad] * 3


def test_the_flange_is_turned_by_45_degrees_against_the_tool():
    """Of moveit_resources' Panda: T_link8_tcp = RotZ(-π/4) · TransZ(0.1034)."""
    (orientation,) = goal_of(ReachGoal(tcp())).request.goal_constraints[0].orientation_constraints
    q = orientation.orientation
    link = to_matrix(RigidTransform("a", "b", (0.0, 0.0, 0.0), (q.x, q.y, q.z, q.w)))[:3, :3]
    c = math.sqrt(0.5)
    turned = np.array([[c, c, 0.0], [-c, c, 0.0], [0.0, 0.0, 1.0]])  # RotZ(-45°)
    tool = to_matrix(tcp())[:3, :3]
    assert link @ turned == pytest.approx(tool, abs=1e-9)


def test_the_request_names_group_time_workspace_and_a_difference_of_states():
    sent = goal_of(ReachGoal(tcp(), speed=0.5))
    request, options = sent.request, sent.planning_options
    assert (request.group_name, request.pipeline_id, request.planner_id) == ("panda_arm", "", "")
    assert (request.allowed_planning_time, request.num_planning_attempts) == (5.0, 3)
    assert request.max_velocity_scaling_factor == pytest.approx(0.5 * ARM.velocity_scale)
    assert request.max_acceleration_scaling_factor == pytest.approx(0.5 * ARM.acceleration_scale)
    assert request.start_state.is_diff
    low = request.workspace_parameters.min_corner
    assert (low.x, low.y, low.z) == LIMITS.workspace_min_m
    assert request.workspace_parameters.header.frame_id == "panda_link0"
    assert options.planning_scene_diff.is_diff
    assert options.planning_scene_diff.robot_state.is_diff
    assert options.plan_only, "MoveIt drops what is attached from goals that it carries out itself"


def test_a_posture_is_asked_joint_by_joint():
    sent = filled(posture_goal(PostureGoal("ready"), ARM, LIMITS, EMPTY))
    joints = sent.request.goal_constraints[0].joint_constraints
    assert [j.joint_name for j in joints] == list(ARM.joints)
    assert [j.position for j in joints] == list(dict(ARM.postures)["ready"])
    assert {(j.tolerance_above, j.tolerance_below, j.weight) for j in joints} == {
        (ARM.joint_tolerance_rad, ARM.joint_tolerance_rad, 1.0)
    }


def test_an_unknown_posture_is_rejected_with_the_known_ones():
    with pytest.raises(GoalFailed, match="no posture 'lotus'; there are: ready"):
        posture_goal(PostureGoal("lotus"), ARM, LIMITS, EMPTY)


def test_a_straight_path_is_asked_for_with_small_steps_and_without_jumps():
    call = cartesian_request(FollowGoal((tcp(z=0.2), tcp(z=0.1)), speed=0.3), ARM, EMPTY)
    sent = filled(call)
    assert [pose.position.z for pose in sent.waypoints] == pytest.approx([0.3034, 0.2034])
    assert (sent.group_name, sent.link_name) == ("panda_arm", "panda_link8")
    assert sent.max_step == 0.005
    assert (sent.jump_threshold, sent.revolute_jump_threshold) == (5.0, 0.5)
    assert sent.avoid_collisions
    assert sent.start_state.is_diff
    assert sent.max_velocity_scaling_factor == pytest.approx(0.3 * ARM.velocity_scale)


def test_where_any_jump_will_do_moveit_looks_for_none():
    sent = filled(cartesian_request(ReachGoal(tcp(), True), ANY_JUMP, EMPTY))
    assert (sent.jump_threshold, sent.revolute_jump_threshold) == (0.0, 0.0)


finite = st.floats(-2.0, 2.0)
poses = st.builds(
    lambda x, y, z, a, b: from_matrix(
        to_matrix(RigidTransform("b", "t", (x, y, z), _turn(a, b))), "panda_link0", "panda_tcp"
    ),
    *(finite, finite, finite, finite, finite),
)


def _turn(a: float, b: float) -> tuple[float, float, float, float]:
    q = np.array((math.sin(a), math.sin(b), math.cos(a), math.cos(b))) / math.sqrt(2)
    x, y, z, w = (float(v) for v in q)
    return x, y, z, w


@given(pose=poses, speed=st.floats(1e-6, 1.0))
def test_every_pose_in_the_base_frame_makes_a_goal_that_moves_the_tool_there(pose, speed):
    sent = goal_of(ReachGoal(pose, speed=speed)).request
    (wanted,) = sent.goal_constraints
    xyz = wanted.position_constraints[0].constraint_region.primitive_poses[0].position
    q = wanted.orientation_constraints[0].orientation
    link = RigidTransform("b", "l", (xyz.x, xyz.y, xyz.z), (q.x, q.y, q.z, q.w))
    tool = to_matrix(link) @ to_matrix(ARM.T_link_tcp)
    assert tool == pytest.approx(to_matrix(pose), abs=1e-6)
    assert 0.0 < sent.max_velocity_scaling_factor <= ARM.velocity_scale
    assert 0.0 < sent.max_acceleration_scaling_factor <= ARM.acceleration_scale


BAD = st.sampled_from((math.nan, math.inf, -math.inf))


@given(bad=BAD, at=st.integers(0, 6))
def test_a_number_that_is_none_never_becomes_a_goal(bad, at):
    numbers = [0.5, 0.1, 0.2, *DOWN]
    numbers[at] = bad
    pose = RigidTransform("panda_link0", "panda_tcp", tuple(numbers[:3]), tuple(numbers[3:]))
    with pytest.raises(GoalFailed, match="not a finite number"):
        pose_goal(ReachGoal(pose), ARM, LIMITS, EMPTY)
    with pytest.raises(GoalFailed, match="not a finite number"):
        cartesian_request(ReachGoal(pose, straight=True), ARM, EMPTY)


@given(speed=st.one_of(BAD, st.floats(max_value=0.0), st.floats(min_value=1.0001)))
def test_a_speed_that_is_no_share_never_becomes_a_goal(speed):
    with pytest.raises(GoalFailed, match=r"a speed of .* is not above 0 and at most 1"):
        pose_goal(ReachGoal(tcp(), speed=speed), ARM, LIMITS, EMPTY)
    with pytest.raises(GoalFailed, match="a speed of"):
        posture_goal(PostureGoal(speed=speed), ARM, LIMITS, EMPTY)


@pytest.mark.parametrize(
    ("pose", "why"),
    [
        (tcp(frame="map"), "the pose is in 'map'; it must be in 'panda_link0'"),
        (replace(tcp(), rotation_xyzw=(0.0, 0.0, 0.0, 0.0)), "has length 0"),
    ],
)
def test_a_pose_of_another_frame_or_without_a_turn_is_rejected(pose: RigidTransform, why: str):
    with pytest.raises(GoalFailed, match=why):
        pose_goal(ReachGoal(pose), ARM, LIMITS, EMPTY)


# --- the scene around ---------------------------------------------------------------------------


THING = Motion(Skill.PICK, "panda_link0", (0.5, 0.1, 0.03), (), 0.05, 0.0)
GRIP_M = ARM.tool_offset_m


def at(scene: Scene, stage: Stage, goal: Any) -> Scene:
    return scene.before(MotionStage(stage, goal), THING, GRIP_M)


def test_table_and_target_are_boxes_of_the_scene():
    scene = at(Scene(table_box((0.2, 0.8, -0.5, 0.5, 0.0))), Stage.PRE, ReachGoal(tcp()))
    diff = goal_of(ReachGoal(tcp()), scene).planning_options.planning_scene_diff
    table, target = diff.world.collision_objects
    assert (table.id, target.id) == ("rynn_brain_table", "rynn_brain_target")
    assert list(table.primitives[0].dimensions) == pytest.approx([0.6, 1.0, 0.05])
    top = table.primitive_poses[0].position.z + table.primitives[0].dimensions[2] / 2
    assert top == pytest.approx(0.0)
    assert list(target.primitives[0].dimensions) == pytest.approx([0.05, 0.05, 0.03])
    assert target.header.frame_id == "panda_link0"
    assert (table.primitives[0].type, table.operation, table.pose.orientation.w) == (1, 0, 1.0)


def test_what_is_gripped_hangs_on_the_hand_until_it_opens():
    seen = at(EMPTY, Stage.PRE, ReachGoal(tcp()))
    gone = at(seen, Stage.APPROACH, ReachGoal(tcp(), straight=True))
    held = at(at(gone, Stage.GRIP, GripGoal(0.0)), Stage.LIFT, ReachGoal(tcp(), straight=True))
    again = at(held, Stage.RETREAT, GripGoal(0.0))
    let_go = at(again, Stage.RELEASE, GripGoal(0.06))
    assert (seen.thing is None, gone.thing, held.thing) == (False, None, None)
    attached = filled(cartesian_request(ReachGoal(tcp(), True), ARM, again)).start_state
    (body,) = attached.attached_collision_objects
    assert (body.link_name, body.object.header.frame_id) == ("panda_link8", "panda_link8")
    assert "panda_leftfinger" in body.touch_links
    assert let_go.held is None


def test_a_hand_that_gripped_nothing_and_opens_holds_nothing():
    held = at(EMPTY, Stage.GRIP, GripGoal(0.0))
    opened = at(held, Stage.OPEN_HAND, GripGoal(0.08))
    assert (held.held is not None, opened.held) == (True, None)


# --- what MoveIt answers ------------------------------------------------------------------------


def test_a_free_motion_is_planned_and_then_executed():
    arm = Played()
    event = arm.carry_out(ReachGoal(tcp()), ok(**PLANNED), ok(**SUCCESS))
    assert event.kind is GoalEventKind.SUCCEEDED
    assert arm.wire.servers == ["move_action", "execute_trajectory"]
    executed = arm.wire.requests[1].trajectory.joint_trajectory.points
    assert [p.time_from_start.sec for p in executed] == [0, 1, 2]


def test_a_plan_without_points_is_not_executed():
    arm = Played()
    event = arm.carry_out(ReachGoal(tcp()), ok(**SUCCESS))
    assert (event.kind, event.text) == (
        GoalEventKind.REJECTED,
        "the planned path has no points",
    )
    assert arm.wire.servers == ["move_action"]


def test_a_straight_motion_is_planned_whole_and_then_executed():
    arm = Played()
    event = arm.carry_out(ReachGoal(tcp(), True), ok(**straight_path()), ok(**SUCCESS))
    assert event.kind is GoalEventKind.SUCCEEDED
    assert arm.wire.servers == ["compute_cartesian_path", "execute_trajectory"]
    executed = arm.wire.requests[1].trajectory.joint_trajectory.points
    assert [p.time_from_start.sec for p in executed] == [0, 1, 2]


def changed(joints: Sequence[str] = (), **last: Any) -> Any:
    """A straight path with other joints, or with another end."""
    answer = straight_path()
    trajectory = answer["solution"]["joint_trajectory"]
    trajectory["joint_names"] = list(joints)
    trajectory["points"][-1] |= last
    return answer


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (straight_path(0.6), "only 60 % of the straight path can be done"),
        (straight_path(math.nan), "only nan % of the straight path"),
        (straight_path(1.0, code=-31), "no straight path: NO_IK_SOLUTION"),
        (straight_path(positions=math.nan), "positions of the straight path is nan"),
        (changed(velocities=[math.nan] * 7), "velocities of the straight path is nan"),
        (changed(accelerations=[math.inf] * 7), "accelerations of the straight path is inf"),
        (changed(positions=[]), "0 positions for 7 joints"),
        (changed(positions=[0.1] * 3), "3 positions for 7 joints"),
        (changed(velocities=[0.1] * 3), "3 velocities for 7 joints"),
        (changed(["a", "b"]), "7 positions for 2 joints"),
        ({"fraction": 1.0, "error_code": {"val": 1}}, "the straight path has no points"),
    ],
)
def test_a_straight_path_that_is_not_whole_is_rejected_and_nothing_moves(answer: Any, why: str):
    arm = Played()
    event = arm.carry_out(ReachGoal(tcp(), True), ok(**answer))
    assert event.kind is GoalEventKind.REJECTED
    assert why in event.text
    assert arm.wire.servers == ["compute_cartesian_path"]


def test_how_much_of_a_path_can_be_done_is_told():
    event = Played().carry_out(ReachGoal(tcp(), True), ok(**straight_path(0.6)))
    assert event.value("fraction") == 0.6


def test_times_that_do_not_grow_are_rejected():
    answer = straight_path()
    answer["solution"]["joint_trajectory"]["points"][2]["time_from_start"]["sec"] = 1
    event = Played().carry_out(ReachGoal(tcp(), True), ok(**answer))
    assert "do not grow" in event.text


def turning(*angles: float) -> dict[str, Any]:
    """A straight path, spread evenly in time, whose fifth joint goes so."""
    answer = straight_path()
    answer["solution"]["joint_trajectory"]["points"] = [
        {"positions": [0.1] * 4 + [angle] + [0.1] * 2, "time_from_start": {"sec": k}}
        for k, angle in enumerate(angles)
    ]
    return answer


def test_a_straight_path_on_which_the_arm_turns_over_is_rejected_and_nothing_moves():
    arm = Played()
    turned_over = turning(*np.linspace(-1.0, 0.5 + math.pi, 40))
    event = arm.carry_out(ReachGoal(tcp(), True), ok(**turned_over))
    assert event.kind is GoalEventKind.REJECTED
    assert "panda_joint5 would turn through 4.64 rad" in event.text
    assert arm.wire.servers == ["compute_cartesian_path"]


@pytest.mark.parametrize(
    "angles", [(-1.4, 0.0, 1.4), (-1.0, 1.0, -1.0, 1.0, -1.0)], ids=["far", "there and back"]
)
def test_a_long_straight_path_is_carried_out(angles: tuple[float, ...]):
    event = Played().carry_out(ReachGoal(tcp(), True), ok(**turning(*angles)), ok(**SUCCESS))
    assert event.kind is GoalEventKind.SUCCEEDED


def test_where_any_jump_will_do_the_arm_may_turn_over():
    response = part(CARTESIAN_PATH, "Response", turning(-1.0, 0.5 + math.pi))
    assert checked_path(Reply(GoalEventKind.SUCCEEDED, response), ANY_JUMP) is response.solution


def test_a_planner_without_scaling_is_slowed_down_afterwards():
    scaling = ("max_velocity_scaling_factor", "max_acceleration_scaling_factor")
    arm = Played(absent_fields=scaling)
    answer = straight_path()
    for p in answer["solution"]["joint_trajectory"]["points"]:
        p |= {"velocities": [1.0] * 7, "accelerations": [2.0] * 7}
    arm.carry_out(ReachGoal(tcp(), True, speed=1.0), ok(**answer), ok(**SUCCESS))
    last = arm.wire.requests[1].trajectory.joint_trajectory.points[-1]
    seconds = last.time_from_start.sec + last.time_from_start.nanosec / 1e9
    assert seconds == pytest.approx(2 / ARM.velocity_scale)
    assert list(last.velocities) == pytest.approx([ARM.velocity_scale] * 7)
    assert list(last.accelerations) == pytest.approx([2 * ARM.velocity_scale**2] * 7)


@pytest.mark.parametrize(
    ("code", "name"), [(-1, "PLANNING_FAILED"), (-6, "TIMED_OUT"), (-12, "GOAL_IN_COLLISION")]
)
def test_an_abort_names_moveits_code_and_its_own_words(code: int, name: str):
    failed = {"error_code": {"val": code, "message": "because"}}
    event = Played().carry_out(ReachGoal(tcp()), ends(GoalEventKind.ABORTED, **failed))
    assert event.kind is GoalEventKind.ABORTED
    assert f"{name} (because)" in event.text


def test_a_goal_that_ended_well_and_says_otherwise_is_aborted():
    event = Played().carry_out(ReachGoal(tcp()), ok(error_code={"val": -4}))
    assert (event.kind, "CONTROL_FAILED" in event.text) == (GoalEventKind.ABORTED, True)


def test_an_unknown_code_is_told_as_its_number():
    assert code_name(-4711) == "error -4711"


RECOVERY = "action_server/error_recovery"
MOTION = ("move_action", "execute_trajectory")
BROKEN_OFF = ends(GoalEventKind.ABORTED, error_code={"val": -4})


def test_after_a_failed_motion_the_robot_recovers_first_where_that_is_configured():
    arm = Played("franka_fr3")
    pose = ReachGoal(tcp(frame="fr3_link0"))
    arm.carry_out(pose, ok(**PLANNED), BROKEN_OFF)
    event = arm.carry_out(pose, ok(), ok(**PLANNED), ok(**SUCCESS))
    assert event.kind is GoalEventKind.SUCCEEDED
    assert arm.wire.servers == [*MOTION, RECOVERY, *MOTION]
    arm.carry_out(pose, ok(**PLANNED), ok(**SUCCESS))
    assert arm.wire.servers.count(RECOVERY) == 1


def test_after_a_stop_there_is_nothing_to_recover_from():
    arm, pose = Played("franka_fr3"), ReachGoal(tcp(frame="fr3_link0"))
    arm.carry_out(pose, ok(**PLANNED), ends(GoalEventKind.ABORTED, error_code={"val": -7}))
    arm.carry_out(pose, ok(**PLANNED), ok(**SUCCESS))
    assert arm.wire.servers == [*MOTION, *MOTION]


def broken_off() -> tuple[Played, ReachGoal]:
    """An arm whose last motion the robot broke off, and a goal for it."""
    arm, goal = Played("franka_fr3"), ReachGoal(tcp(frame="fr3_link0"))
    arm.carry_out(goal, ok(**PLANNED), BROKEN_OFF)
    return arm, goal


@pytest.mark.parametrize("kind", [GoalEventKind.ABORTED, GoalEventKind.REJECTED])
def test_where_the_robot_does_not_recover_nothing_moves(kind: GoalEventKind):
    arm, goal = broken_off()
    event = arm.carry_out(goal, ends(kind))
    assert (event.kind, f"{RECOVERY} {kind.value}" in event.text) == (kind, True)
    assert arm.wire.servers == [*MOTION, RECOVERY]


def test_a_robot_that_refused_to_recover_is_tried_and_recovers_if_it_breaks_off_again():
    """It may have had nothing to recover from, and must not be refused for good."""
    arm, goal = broken_off()
    arm.carry_out(goal, ends(GoalEventKind.ABORTED))
    arm.carry_out(goal, ok(**PLANNED), BROKEN_OFF)
    arm.carry_out(goal, ok(), ok(**PLANNED), ok(**SUCCESS))
    assert arm.wire.servers[3:] == [*MOTION, RECOVERY, *MOTION]


def test_a_recovery_that_was_cancelled_is_done_before_the_next_motion():
    arm, goal = broken_off()
    arm.send(goal)
    arm.wire.say(ACCEPTED)
    arm.poll()
    arm.actuator.cancel("g")
    arm.wire.end(GoalEventKind.CANCELLED)
    assert arm.last().kind is GoalEventKind.CANCELLED
    arm.send(goal)
    assert arm.wire.servers == [*MOTION, RECOVERY, RECOVERY]


def test_where_no_plan_was_found_there_is_nothing_to_recover_from():
    arm, goal = Played("franka_fr3"), ReachGoal(tcp(frame="fr3_link0"))
    arm.carry_out(goal, ends(GoalEventKind.ABORTED, error_code={"val": -1}))
    arm.carry_out(goal, ok(**PLANNED), ok(**SUCCESS))
    assert arm.wire.servers == ["move_action", *MOTION]


def test_feedback_is_passed_on_with_moveits_state():
    arm = Played()
    arm.send(ReachGoal(tcp()))
    feedback = part("moveit_msgs/action/MoveGroup", "Feedback", {"state": "MONITOR"})
    arm.wire.say(ACCEPTED, Reply(GoalEventKind.FEEDBACK, feedback))
    assert [(e.kind.value, e.text) for e in arm.poll()] == [
        ("accepted", ""),
        ("feedback", "MONITOR"),
    ]
