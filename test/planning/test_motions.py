"""From a grasp, a place or a drawn path to goals: which, in which order, and where the hand is."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from rynn_brain_ros.geometry import Grasp, PlaceKind, Placement, SolidKind, to_matrix
from rynn_brain_ros.planning import motions
from rynn_brain_ros.planning.motions import Frames, MotionConfig
from rynn_brain_ros.values import (
    FollowGoal,
    GripGoal,
    Motion,
    PostureGoal,
    ReachGoal,
    RigidTransform,
    Skill,
    Stage,
    Vector3,
)

CONFIG = MotionConfig()
FRAMES = Frames("arm_base", "tool")
TURNED_DOWN = (math.cos(0.2), math.sin(0.2), 0.0, 0.0)
"""The hand points down and is turned by 0.4 rad."""
TOOL = RigidTransform("arm_base", "tool", (0.5, 0.1, 0.06), TURNED_DOWN)
GRASP = Grasp(TOOL, 0.04, 0.064, 0.08, 0.03, (0.05, 0.04, 0.05), 0.001, SolidKind.BOX)
THERE = Placement((0.4, -0.2, 0.01), 0.006, PlaceKind.SURFACE, 0.03, 0.05)


def stages(motion: Motion) -> list[Stage]:
    return [stage.stage for stage in motion.stages]


def goal_of(motion: Motion, stage: Stage) -> object:
    return next(each.goal for each in motion.stages if each.stage is stage)


def pose_of(motion: Motion, stage: Stage) -> RigidTransform:
    goal = goal_of(motion, stage)
    assert isinstance(goal, ReachGoal)
    return goal.T_base_tcp


def above(pose: RigidTransform, by_m: float) -> RigidTransform:
    x, y, z = pose.translation_m
    return replace(pose, translation_m=(x, y, z + by_m))


def path_of(motion: Motion) -> tuple[RigidTransform, ...]:
    goal = goal_of(motion, Stage.ACT)
    assert isinstance(goal, FollowGoal)
    return goal.path


def push(
    start: Vector3 = (0.4, 0.0, 0.05),
    end: Vector3 = (0.6, 0.2, 0.01),
    radius_m: float = 0.03,
    support_z_m: float = 0.02,
) -> Motion:
    return motions.push((start, end), radius_m, support_z_m, FRAMES, CONFIG)


# --- pick -----------------------------------------------------------------------------------------


def test_a_pick_opens_comes_down_closes_lifts_and_goes_out_of_the_way():
    motion = motions.pick(GRASP, CONFIG)
    assert stages(motion) == [
        Stage.OPEN_HAND,
        Stage.PRE,
        Stage.APPROACH,
        Stage.GRIP,
        Stage.LIFT,
        Stage.LIFT,
        Stage.RETREAT,
        Stage.RETREAT,
    ]
    assert motion.skill is Skill.PICK


def test_a_pick_comes_straight_down_from_above_its_grasp():
    motion = motions.pick(GRASP, CONFIG)
    assert pose_of(motion, Stage.PRE) == above(TOOL, CONFIG.pre_grasp_m)
    approach = goal_of(motion, Stage.APPROACH)
    assert isinstance(approach, ReachGoal)
    assert (approach.T_base_tcp, approach.straight) == (TOOL, True)


def test_a_pick_lifts_straight_up():
    lift = goal_of(motions.pick(GRASP, CONFIG), Stage.LIFT)
    assert isinstance(lift, ReachGoal)
    assert (lift.T_base_tcp, lift.straight) == (above(TOOL, CONFIG.lift_m), True)


def test_a_pick_opens_as_wide_as_its_grasp_says():
    opening = goal_of(motions.pick(GRASP, CONFIG), Stage.OPEN_HAND)
    assert opening == GripGoal(GRASP.opening_m, CONFIG.grip_force_n)


def test_the_closed_hand_is_felt_again_after_lifting_and_at_the_end():
    motion = motions.pick(GRASP, CONFIG)
    closing = GripGoal(0.0, CONFIG.grip_force_n)
    felt = [s.stage for s in motion.stages if s.goal == closing]
    assert felt == [Stage.GRIP, Stage.LIFT, Stage.RETREAT]
    assert motion.stages[-1].goal == closing


def test_a_pick_tells_the_gate_where_how_wide_and_on_what():
    motion = motions.pick(GRASP, CONFIG)
    assert (motion.base_frame, motion.target_m) == ("arm_base", TOOL.translation_m)
    assert (motion.grip_width_m, motion.support_z_m) == (0.04, 0.03)


def test_near_things_the_arm_is_slow_and_between_them_it_is_not():
    config = MotionConfig(speed=0.5, approach_speed=0.1)
    speeds = {
        s.stage: s.goal.speed for s in motions.pick(GRASP, config).stages[1:3]
        if isinstance(s.goal, ReachGoal)
    }  # fmt: skip
    assert speeds == {Stage.PRE: 0.5, Stage.APPROACH: 0.1}


# --- place ----------------------------------------------------------------------------------------


def test_a_place_comes_down_lets_go_and_goes_away():
    motion = motions.place(GRASP, THERE, CONFIG)
    order = [Stage.PRE, Stage.APPROACH, Stage.RELEASE, Stage.LIFT, Stage.RETREAT]
    assert stages(motion) == order
    assert goal_of(motion, Stage.RETREAT) == PostureGoal("ready", CONFIG.speed)


def test_a_place_leaves_the_things_bottom_just_over_its_support():
    motion = motions.place(GRASP, THERE, CONFIG)
    tool_z_m = pose_of(motion, Stage.APPROACH).translation_m[2]
    bottom_m = tool_z_m - (TOOL.translation_m[2] - GRASP.support_z_m)
    assert bottom_m == pytest.approx(THERE.position_m[2] + THERE.release_above_m)


def test_a_place_is_over_the_middle_of_where_it_goes():
    motion = motions.place(GRASP, THERE, CONFIG)
    assert pose_of(motion, Stage.APPROACH).translation_m[:2] == THERE.position_m[:2]
    assert motion.target_m == THERE.position_m
    assert motion.support_z_m == THERE.position_m[2]


def test_a_thing_is_put_down_turned_as_it_was_gripped():
    motion = motions.place(GRASP, THERE, CONFIG)
    turns = {pose_of(motion, s).rotation_xyzw for s in (Stage.PRE, Stage.APPROACH, Stage.LIFT)}
    assert turns == {TURNED_DOWN}


def test_a_place_comes_from_above_and_leaves_upwards():
    motion = motions.place(GRASP, THERE, CONFIG)
    down = pose_of(motion, Stage.APPROACH)
    assert pose_of(motion, Stage.PRE) == above(down, CONFIG.pre_grasp_m)
    assert pose_of(motion, Stage.LIFT) == above(down, CONFIG.lift_m)


def test_letting_go_opens_a_little_more_than_the_thing():
    release = goal_of(motions.place(GRASP, THERE, MotionConfig(open_more_m=0.01)), Stage.RELEASE)
    assert isinstance(release, GripGoal)
    assert release.width_m == pytest.approx(0.05)


def test_letting_go_opens_no_wider_than_the_hand_had_room_for():
    release = goal_of(motions.place(GRASP, THERE, MotionConfig(open_more_m=0.08)), Stage.RELEASE)
    assert isinstance(release, GripGoal)
    assert release.width_m == GRASP.opening_m


# --- along a path ---------------------------------------------------------------------------------

PATH = ((0.52, 0.13, 0.09), (0.45, 0.13, 0.10), (0.38, 0.12, 0.09))


def test_a_drag_grips_follows_its_path_lets_go_and_goes_away():
    motion = motions.drag(Skill.OPEN, GRASP, PATH, CONFIG)
    assert stages(motion) == [
        Stage.OPEN_HAND,
        Stage.PRE,
        Stage.APPROACH,
        Stage.GRIP,
        Stage.ACT,
        Stage.RELEASE,
        Stage.LIFT,
        Stage.RETREAT,
    ]
    assert motion.skill is Skill.OPEN


def test_a_drawn_path_is_moved_as_a_whole_onto_the_grip():
    drawn = np.array(PATH)
    path = np.array(
        [p.translation_m for p in path_of(motions.drag(Skill.OPEN, GRASP, PATH, CONFIG))]
    )
    assert np.allclose(path, drawn[1:] - drawn[0] + TOOL.translation_m)


def test_a_drag_keeps_the_hands_turn():
    path = path_of(motions.drag(Skill.CLOSE, GRASP, PATH, CONFIG))
    assert {pose.rotation_xyzw for pose in path} == {TURNED_DOWN}


def test_a_drag_leaves_upwards_from_the_paths_end():
    motion = motions.drag(Skill.OPEN, GRASP, PATH, CONFIG)
    assert pose_of(motion, Stage.LIFT) == above(path_of(motion)[-1], CONFIG.lift_m)


# --- push -----------------------------------------------------------------------------------------


def test_a_push_closes_the_fingers_before_it_comes_down():
    motion = push()
    down, up = [Stage.PRE, Stage.APPROACH], [Stage.LIFT, Stage.RETREAT]
    assert stages(motion) == [Stage.OPEN_HAND, *down, Stage.ACT, *up]
    assert goal_of(motion, Stage.OPEN_HAND) == GripGoal(0.0, CONFIG.grip_force_n)


def test_a_push_comes_down_behind_the_thing_without_touching_it():
    down = np.array(pose_of(push(), Stage.APPROACH).translation_m)
    unit = np.array([1, 1]) / math.sqrt(2)
    from_middle = down[:2] - (0.4, 0.0)
    assert from_middle @ unit < -0.03 - 0.01
    assert abs(from_middle @ (-unit[1], unit[0])) < 1e-9


def test_a_push_ends_with_the_things_middle_over_the_lines_end():
    last = np.array(path_of(push(radius_m=0.03))[-1].translation_m)
    unit = np.array([1, 1]) / math.sqrt(2)
    assert np.allclose(last[:2] + 0.03 * unit, (0.6, 0.2))


def test_a_push_stays_low_over_the_support():
    motion = push(support_z_m=0.02)
    poses = [pose_of(motion, Stage.APPROACH), *path_of(motion)]
    (z_m,) = {pose.translation_m[2] for pose in poses}
    assert 0.005 < z_m - 0.02 < 0.04
    assert motion.support_z_m == 0.02


def test_the_hand_points_down_and_its_fingers_lie_across_the_push():
    R = to_matrix(pose_of(push(), Stage.APPROACH))[:3, :3]
    unit = np.array([1, 1, 0]) / math.sqrt(2)
    assert np.allclose(R[:, 2], (0, 0, -1))
    assert abs(R[:, 1] @ unit) < 1e-9
    assert np.linalg.det(R) == pytest.approx(1.0)


def test_nothing_is_gripped_by_a_push():
    assert math.isnan(push().grip_width_m)


# --- the others -----------------------------------------------------------------------------------


def test_a_hover_is_one_goal_above_a_place_looking_down():
    motion = motions.hover(Skill.LOOK_AT, (0.5, 0.1, 0.3), FRAMES, CONFIG)
    assert stages(motion) == [Stage.ACT]
    pose = pose_of(motion, Stage.ACT)
    assert pose.translation_m == (0.5, 0.1, 0.3)
    assert np.allclose(to_matrix(pose)[:3, 2], (0, 0, -1))
    assert (pose.parent, pose.child) == ("arm_base", "tool")
