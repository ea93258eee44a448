"""From a grasp or a place to goals: what the hand does, in order, for each skill.

Everything is in the robot's base frame, z up; the tool centre point is between the fingertips.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rynn_brain_ros.config import setting
from rynn_brain_ros.geometry import Grasp, Placement, from_matrix, to_matrix
from rynn_brain_ros.values import (
    FollowGoal,
    Goal,
    GripGoal,
    Motion,
    MotionStage,
    PostureGoal,
    ReachGoal,
    RigidTransform,
    Skill,
    Stage,
    Vector3,
)


@dataclass(frozen=True)
class MotionConfig:
    """How the hand comes, acts and goes."""

    pre_grasp_m: float = setting(
        0.12, "how far above its target the hand begins a straight approach [m]", 0.02, 0.4
    )
    lift_m: float = setting(0.18, "how far straight up after a grip or a release [m]", 0.02, 0.4)
    speed: float = setting(0.6, "share of the arm's own speed limits for free motion", 0.01, 1.0)
    approach_speed: float = setting(
        0.3, "share of the arm's own speed limits near things", 0.01, 1.0
    )
    grip_force_n: float = setting(30.0, "force of the fingers [N]", 1.0, 140.0)
    open_more_m: float = setting(
        0.025, "how much wider than the thing the hand opens to let go [m]", 0.002, 0.08
    )
    posture: str = setting("ready", "the named posture out of the camera's view")


def pick(grasp: Grasp, config: MotionConfig) -> Motion:
    """Open, come down over the thing, close, lift it, and take it out of the way.

    The closed hand is closed again after lifting and after the way out: an actuator tells the
    width that it reached, and so whether the thing is still there.
    """
    tool = grasp.T_base_tcp
    close = GripGoal(0.0, config.grip_force_n)
    stages = (
        MotionStage(Stage.OPEN_HAND, GripGoal(grasp.opening_m, config.grip_force_n)),
        MotionStage(Stage.PRE, _reach(_raised(tool, config.pre_grasp_m), config.speed)),
        MotionStage(Stage.APPROACH, _straight(tool, config.approach_speed)),
        MotionStage(Stage.GRIP, close),
        MotionStage(Stage.LIFT, _straight(_raised(tool, config.lift_m), config.approach_speed)),
        MotionStage(Stage.LIFT, close),
        MotionStage(Stage.RETREAT, PostureGoal(config.posture, config.speed)),
        MotionStage(Stage.RETREAT, close),
    )
    return Motion(
        Skill.PICK, tool.parent, tool.translation_m, stages, grasp.width_m, grasp.support_z_m
    )


def place(held: Grasp, where: Placement, config: MotionConfig) -> Motion:
    """Bring the held thing over the place, let it down, let go, and go away.

    The tool keeps the turn that it gripped with. Its height leaves the thing's bottom
    ``where.release_above_m`` over the support.
    """
    x, y, support_z_m = where.position_m
    z = support_z_m + where.release_above_m + held.bottom_below_tcp_m
    tool = replace(held.T_base_tcp, translation_m=(x, y, z))
    opening_m = min(held.opening_m, held.width_m + config.open_more_m)
    stages = (
        MotionStage(Stage.PRE, _reach(_raised(tool, config.pre_grasp_m), config.speed)),
        MotionStage(Stage.APPROACH, _straight(tool, config.approach_speed)),
        MotionStage(Stage.RELEASE, GripGoal(opening_m, config.grip_force_n)),
        MotionStage(Stage.LIFT, _straight(_raised(tool, config.lift_m), config.approach_speed)),
        MotionStage(Stage.RETREAT, PostureGoal(config.posture, config.speed)),
    )
    return Motion(
        Skill.PLACE,
        tool.parent,
        (x, y, support_z_m),
        stages,
        held.width_m,
        support_z_m,
    )


def drag(skill: Skill, grasp: Grasp, path: Sequence[Vector3], config: MotionConfig) -> Motion:
    """Grip a thing and bring it along a drawn path: a drawer pulled open, a lid slid shut.

    The path begins where the hand gripped: it is moved as a whole so that its first point is the
    tool's place, and its points in between lie where they were interpolated.
    """
    tool = grasp.T_base_tcp
    poses = _along(tool, path)
    stages = (
        MotionStage(Stage.OPEN_HAND, GripGoal(grasp.opening_m, config.grip_force_n)),
        MotionStage(Stage.PRE, _reach(_raised(tool, config.pre_grasp_m), config.speed)),
        MotionStage(Stage.APPROACH, _straight(tool, config.approach_speed)),
        MotionStage(Stage.GRIP, GripGoal(0.0, config.grip_force_n)),
        MotionStage(Stage.ACT, FollowGoal(poses, config.approach_speed)),
        MotionStage(Stage.RELEASE, GripGoal(grasp.opening_m, config.grip_force_n)),
        MotionStage(Stage.LIFT, _straight(_raised(poses[-1], config.lift_m), config.speed)),
        MotionStage(Stage.RETREAT, PostureGoal(config.posture, config.speed)),
    )
    return Motion(skill, tool.parent, tool.translation_m, stages, grasp.width_m, grasp.support_z_m)


_PUSH_HEIGHT_M = 0.02
"""Of the closed fingertips over the support: low, so that things slide and do not tip."""
_BEHIND_M = 0.03
"""Between the thing's rim and the fingertips before they touch it."""


@dataclass(frozen=True)
class Frames:
    """Names of the base's frame and of the tool centre point's."""

    base: str
    tool: str


def push(
    line: tuple[Vector3, Vector3],
    radius_m: float,
    support_z_m: float,
    frames: Frames,
    config: MotionConfig,
) -> Motion:
    """Slide a thing of ``radius_m`` along the table over ``line``, fingers closed.

    The fingertips come down behind it, on the line of the push, and stop where its middle is then
    over the line's end.
    """
    start, end = line
    along = np.subtract(end, start)[:2]
    length_m = float(np.hypot(*along))
    unit = along / max(length_m, 1e-9)
    z = support_z_m + _PUSH_HEIGHT_M
    behind = np.asarray(start[:2]) - unit * (radius_m + _BEHIND_M)
    touching = np.asarray(end[:2]) - unit * radius_m
    yaw = math.atan2(unit[1], unit[0])
    first, last = (_tool_down((xy[0], xy[1], z), yaw, frames) for xy in (behind, touching))
    stages = (
        MotionStage(Stage.OPEN_HAND, GripGoal(0.0, config.grip_force_n)),
        MotionStage(Stage.PRE, _reach(_raised(first, config.pre_grasp_m), config.speed)),
        MotionStage(Stage.APPROACH, _straight(first, config.approach_speed)),
        MotionStage(Stage.ACT, FollowGoal((first, last), config.approach_speed)),
        MotionStage(Stage.LIFT, _straight(_raised(last, config.lift_m), config.speed)),
        MotionStage(Stage.RETREAT, PostureGoal(config.posture, config.speed)),
    )
    return Motion(Skill.PUSH, frames.base, start, stages, support_z_m=support_z_m)


def hover(skill: Skill, target: Vector3, frames: Frames, config: MotionConfig) -> Motion:
    """Bring the hand to a place and stay there, looking down."""
    pose = _tool_down(target, 0.0, frames)
    stages = (MotionStage(Stage.ACT, _reach(pose, config.speed)),)
    return Motion(skill, frames.base, target, stages)


def single(skill: Skill, goal: Goal, target: Vector3, base: str) -> Motion:
    """A motion of one goal: a drive, a turn."""
    return Motion(skill, base, target, (MotionStage(Stage.DRIVE, goal),))


def _along(tool: RigidTransform, path: Sequence[Vector3]) -> tuple[RigidTransform, ...]:
    shift = np.subtract(tool.translation_m, path[0])
    places = [np.add(point, shift) for point in path]
    return tuple(
        replace(tool, translation_m=(float(x), float(y), float(z))) for x, y, z in places[1:]
    )


def _raised(pose: RigidTransform, by_m: float) -> RigidTransform:
    x, y, z = pose.translation_m
    return replace(pose, translation_m=(x, y, z + by_m))


def _tool_down(xyz: Vector3, yaw: float, frames: Frames) -> RigidTransform:
    """The tool's z axis down, its y axis (the fingers' direction) across ``yaw``."""
    matrix = to_matrix(RigidTransform(frames.base, frames.tool))
    c, s = math.cos(yaw), math.sin(yaw)
    matrix[:3, :3] = [[c, s, 0.0], [s, -c, 0.0], [0.0, 0.0, -1.0]]
    matrix[:3, 3] = xyz
    return from_matrix(matrix, frames.base, frames.tool)


def _reach(pose: RigidTransform, speed: float) -> ReachGoal:
    return ReachGoal(pose, straight=False, speed=speed)


def _straight(pose: RigidTransform, speed: float) -> ReachGoal:
    return ReachGoal(pose, straight=True, speed=speed)
