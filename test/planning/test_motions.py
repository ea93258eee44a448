"""From a grasp, a place or a drawn path to goals: which, in which order, and where the hand is."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from rynn_brain_ros.geometry import Grasp, PlaceKind, Placement, SolidKind, to_matrix
from rynn_brain_ros.planning import motions
from rynn_brain_ros.planning.motions import Frames, MotionConfig, PushLine, Spout
from rynn_brain_ros.values import (
    FollowGoal,
    GripGoal,
    Motion,
    PostureGoal,
    ReachGoal,
    RigidTransform,
    Skill,
    Stage,
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


LINE = PushLine(
    start=(0.4, 0.0, 0.05),
    end=(0.6, 0.2, 0.05),
    before_m=0.04,
    after_m=0.03,
    tool_z_m=0.045,
    support_z_m=0.02,
)


def push() -> Motion:
    return motions.push(LINE, FRAMES, CONFIG)


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


def test_the_gate_is_told_how_sure_a_grip_is():
    for motion in (motions.pick(GRASP, CONFIG), motions.drag(Skill.OPEN, GRASP, PATH, CONFIG)):
        assert motion.grip_sigma_m == GRASP.sigma_m
    assert push().grip_sigma_m is None


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


@pytest.mark.parametrize("motion", [motions.drag(Skill.OPEN, GRASP, PATH, CONFIG), push()])
def test_what_is_pushed_or_pulled_goes_at_its_own_speed(motion: Motion):
    follow = goal_of(motion, Stage.ACT)
    assert isinstance(follow, FollowGoal)
    assert follow.speed == CONFIG.push_speed != CONFIG.approach_speed


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
    assert from_middle @ unit < -LINE.before_m - 0.01
    assert abs(from_middle @ (-unit[1], unit[0])) < 1e-9


def test_a_push_ends_with_the_things_middle_over_the_lines_end():
    last = np.array(path_of(push())[-1].translation_m)
    unit = np.array([1, 1]) / math.sqrt(2)
    assert np.allclose(last[:2] + LINE.after_m * unit, (0.6, 0.2))


def test_a_push_stays_at_its_height():
    motion = push()
    poses = [pose_of(motion, Stage.APPROACH), *path_of(motion)]
    assert {pose.translation_m[2] for pose in poses} == {LINE.tool_z_m}
    assert motion.support_z_m == LINE.support_z_m


def test_the_hand_points_down_and_its_fingers_lie_across_the_push():
    R = to_matrix(pose_of(push(), Stage.APPROACH))[:3, :3]
    unit = np.array([1, 1, 0]) / math.sqrt(2)
    assert np.allclose(R[:, 2], (0, 0, -1))
    assert abs(R[:, 1] @ unit) < 1e-9
    assert np.linalg.det(R) == pytest.approx(1.0)


def test_nothing_is_gripped_by_a_push():
    assert math.isnan(push().grip_width_m)


# --- pour -----------------------------------------------------------------------------------------

MUG = replace(
    GRASP, size_m=(0.07, 0.07, 0.08), kind=SolidKind.RIM, width_m=0.006, middle_offset_m=(0.0, 0.03)
)
BOWL = Placement((0.5, 0.2, 0.005), 0.06, PlaceKind.CONTAINER, 0.07, 0.05)
SPOUT = Spout(
    (0.5, 0.2, 0.12), math.pi / 2, against=False, radius_m=0.035, aside_m=0.03, above_m=0.02
)


def poured(spout: Spout = SPOUT) -> Motion:
    return motions.pour(spout, MUG, BOWL, CONFIG)


def tilts(motion: Motion) -> list[tuple[RigidTransform, ...]]:
    return [s.goal.path for s in motion.stages if isinstance(s.goal, FollowGoal)]


def lip_in_tool(spout: Spout) -> np.ndarray:
    """Where the lip is in the tool's own axes, from the upright vessel's measures."""
    side = -1.0 if spout.against else 1.0
    return np.array((-side * spout.radius_m, -side * spout.aside_m, -spout.above_m))


@pytest.mark.parametrize("against", [False, True])
def test_the_lip_stays_where_it_is_while_the_vessel_is_tilted(against: bool):
    spout = replace(SPOUT, against=against)
    motion = poured(spout)
    poses = [pose_of(motion, Stage.APPROACH), *(pose for path in tilts(motion) for pose in path)]
    for pose in poses:
        matrix = to_matrix(pose)
        lip = matrix[:3, :3] @ lip_in_tool(spout) + matrix[:3, 3]
        assert np.allclose(lip, spout.lip_m, atol=1e-9)
        assert np.linalg.det(matrix[:3, :3]) == pytest.approx(1.0)


def test_a_vessel_comes_upright_is_tilted_as_far_as_configured_and_turned_back():
    motion = poured()
    there, back = tilts(motion)
    tilt = [math.acos(min(1.0, -to_matrix(pose)[2, 2])) for pose in (*there, *back)]
    assert to_matrix(pose_of(motion, Stage.PRE))[2, 2] == pytest.approx(-1.0)
    assert max(tilt) == pytest.approx(CONFIG.tilt_rad)
    assert tilt.index(max(tilt)) == len(there) - 1
    assert tilt[-1] == pytest.approx(0.0, abs=1e-6)


def test_the_tool_is_tilted_towards_the_heading_and_the_opening_turns_away():
    end = to_matrix(tilts(poured())[0][-1])[:3, :3]
    assert end[1, 2] > 0.9


def test_a_pour_is_slow_and_never_opens_the_hand():
    motion = poured()
    goals = [stage.goal for stage in motion.stages]
    assert all(goal.speed == CONFIG.tilt_speed for goal in goals if isinstance(goal, FollowGoal))
    assert all(goal.width_m == 0.0 for goal in goals if isinstance(goal, GripGoal))
    assert (motion.skill, motion.target_m) == (Skill.POUR, BOWL.position_m)


# --- hand over ------------------------------------------------------------------------------------


def test_a_thing_is_carried_to_a_person_with_the_hand_closed():
    motion = motions.hand_over((0.4, -0.3, 0.3), GRASP, CONFIG)
    pose = pose_of(motion, Stage.PRE)
    assert (pose.translation_m, pose.rotation_xyzw) == ((0.4, -0.3, 0.3), TURNED_DOWN)
    assert not any(s.stage is Stage.RELEASE for s in motion.stages)
    assert goal_of(motion, Stage.LIFT) == GripGoal(0.0, CONFIG.grip_force_n)


def test_letting_go_for_a_person_opens_first_and_then_goes_away():
    motion = motions.let_go((0.4, -0.3, 0.3), GRASP, CONFIG)
    assert stages(motion) == [Stage.RELEASE, Stage.LIFT, Stage.RETREAT]
    opened = goal_of(motion, Stage.RELEASE)
    assert isinstance(opened, GripGoal) and opened.width_m > GRASP.width_m


def test_what_nobody_took_is_taken_back_with_the_hand_closed():
    motion = motions.take_back((0.4, -0.3, 0.3), GRASP, CONFIG)
    assert {stage.stage for stage in motion.stages} == {Stage.RETREAT}
    assert motion.stages[-1].goal == GripGoal(0.0, CONFIG.grip_force_n)


# --- the others -----------------------------------------------------------------------------------


def test_a_hover_is_one_goal_above_a_place_looking_down():
    motion = motions.hover(Skill.LOOK_AT, (0.5, 0.1, 0.3), FRAMES, CONFIG)
    assert stages(motion) == [Stage.ACT]
    pose = pose_of(motion, Stage.ACT)
    assert pose.translation_m == (0.5, 0.1, 0.3)
    assert np.allclose(to_matrix(pose)[:3, 2], (0, 0, -1))
    assert (pose.parent, pose.child) == ("arm_base", "tool")
