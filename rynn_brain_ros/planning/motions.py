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
    push_speed: float = setting(
        0.2, "share of the arm's own speed limits while something is pushed or pulled", 0.01, 1.0
    )
    tilt_speed: float = setting(
        0.15, "share of the arm's own speed limits while a vessel is tilted", 0.01, 1.0
    )
    tilt_rad: float = setting(1.8, "how far a vessel is tilted to empty it [rad]", 0.5, 2.4)
    grip_force_n: float = setting(30.0, "force of the fingers [N]", 1.0, 140.0)
    open_more_m: float = setting(
        0.025, "how much wider than the thing the hand opens to let go [m]", 0.002, 0.08
    )
    back_m: float = setting(
        0.08, "how far straight up from a thing that a person has taken [m]", 0.0, 0.3
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
    return _gripping(Skill.PICK, grasp, stages)


def place(held: Grasp, where: Placement, config: MotionConfig) -> Motion:
    """Bring the held thing over the place, let it down, let go, and go away.

    The tool keeps the turn that it gripped with. Its height leaves the thing's bottom
    ``where.release_above_m`` over the support.
    """
    x, y, support_z_m = where.position_m
    dx, dy = held.middle_offset_m
    z = support_z_m + where.release_above_m + held.bottom_below_tcp_m
    tool = replace(held.T_base_tcp, translation_m=(x - dx, y - dy, z))
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
        MotionStage(Stage.ACT, FollowGoal(poses, config.push_speed)),
        MotionStage(Stage.RELEASE, GripGoal(grasp.opening_m, config.grip_force_n)),
        MotionStage(Stage.LIFT, _straight(_raised(poses[-1], config.lift_m), config.speed)),
        MotionStage(Stage.RETREAT, PostureGoal(config.posture, config.speed)),
    )
    return _gripping(skill, grasp, stages)


BEHIND_M = 0.03
"""Between the thing's rim and the fingertips before they touch it."""


@dataclass(frozen=True)
class Frames:
    """Names of the base's frame and of the tool centre point's."""

    base: str
    tool: str


@dataclass(frozen=True)
class PushLine:
    """A thing's middle goes from ``start`` to ``end``. The tool is ``before_m`` behind it where it
    would touch it first, ``after_m`` once the thing lies flat on the fingers, at height
    ``tool_z_m`` over a support at ``support_z_m``."""

    start: Vector3
    end: Vector3
    before_m: float
    after_m: float
    tool_z_m: float
    support_z_m: float


def push(line: PushLine, frames: Frames, config: MotionConfig) -> Motion:
    """Slide a thing along the table, fingers closed.

    The fingertips come down behind it, on the line of the push, and stop where its middle is then
    over the line's end.
    """
    along = np.subtract(line.end, line.start)[:2]
    unit = along / max(float(np.hypot(*along)), 1e-9)
    behind = np.asarray(line.start[:2]) - unit * (line.before_m + BEHIND_M)
    touching = np.asarray(line.end[:2]) - unit * line.after_m
    yaw = math.atan2(unit[1], unit[0])
    z = line.tool_z_m
    first, last = (_tool_down((xy[0], xy[1], z), yaw, frames) for xy in (behind, touching))
    stages = (
        MotionStage(Stage.OPEN_HAND, GripGoal(0.0, config.grip_force_n)),
        MotionStage(Stage.PRE, _reach(_raised(first, config.pre_grasp_m), config.speed)),
        MotionStage(Stage.APPROACH, _straight(first, config.approach_speed)),
        MotionStage(Stage.ACT, FollowGoal((first, last), config.push_speed)),
        MotionStage(Stage.LIFT, _straight(_raised(last, config.lift_m), config.speed)),
        MotionStage(Stage.RETREAT, PostureGoal(config.posture, config.speed)),
    )
    return Motion(Skill.PUSH, frames.base, line.start, stages, support_z_m=line.support_z_m)


@dataclass(frozen=True)
class Spout:
    """How a vessel that hangs from the hand is emptied: about its lip.

    The lip goes to ``lip_m``, and the tool's z axis is tilted from down towards ``heading_rad``,
    so that the opening turns the other way; the tool's x axis is along that heading, or
    ``against`` it. Upright, the vessel's middle is ``radius_m`` from its lip and ``aside_m`` from
    the tool across the heading (to its left), its top ``above_m`` over the tool.
    """

    lip_m: Vector3
    heading_rad: float
    against: bool
    radius_m: float
    aside_m: float
    above_m: float


_TILTS = 6


def pour(spout: Spout, held: Grasp, where: Placement, config: MotionConfig) -> Motion:
    """Bring the held vessel over the place without tilting it, tilt it about its lip, turn it
    back, and take it away; the hand is closed again in between, which tells if it still holds it.
    """
    tool, close = held.T_base_tcp, GripGoal(0.0, config.grip_force_n)
    frames = Frames(tool.parent, tool.child)
    tilts = [_tilted(spout, config.tilt_rad * k / _TILTS, frames) for k in range(_TILTS + 1)]
    over = _raised(tilts[0], config.pre_grasp_m)
    stages = (
        MotionStage(Stage.PRE, _straight(over, config.speed)),
        MotionStage(Stage.APPROACH, _straight(tilts[0], config.approach_speed)),
        MotionStage(Stage.ACT, FollowGoal(tuple(tilts[1:]), config.tilt_speed)),
        MotionStage(Stage.ACT, close),
        MotionStage(Stage.ACT, FollowGoal(tuple(tilts[-2::-1]), config.tilt_speed)),
        MotionStage(Stage.LIFT, _straight(over, config.approach_speed)),
        MotionStage(Stage.LIFT, close),
        MotionStage(Stage.RETREAT, PostureGoal(config.posture, config.speed)),
        MotionStage(Stage.RETREAT, close),
    )
    return Motion(
        Skill.POUR, tool.parent, where.position_m, stages, held.width_m, where.position_m[2]
    )


def _tilted(spout: Spout, angle_rad: float, frames: Frames) -> RigidTransform:
    """Turned by ``angle_rad`` about the lip."""
    heading = np.array((math.cos(spout.heading_rad), math.sin(spout.heading_rad), 0.0))
    left, up = np.array((-heading[1], heading[0], 0.0)), np.array((0.0, 0.0, 1.0))
    c, s = math.cos(angle_rad), math.sin(angle_rad)
    turn = np.column_stack([heading, left, up]) @ [[c, 0, -s], [0, 1, 0], [s, 0, c]]
    upright = np.array((spout.radius_m, -spout.aside_m, -spout.above_m))
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ np.diag((-1.0, 1.0, -1.0) if spout.against else (1.0, -1.0, -1.0))
    matrix[:3, 3] = np.add(spout.lip_m, turn @ upright)
    return from_matrix(matrix, frames.base, frames.tool)


def hand_over(at_m: Vector3, held: Grasp, config: MotionConfig) -> Motion:
    """Bring the held thing to where a person can take it, and keep hold of it."""
    tool = replace(held.T_base_tcp, translation_m=at_m)
    close = GripGoal(0.0, config.grip_force_n)
    stages = (
        MotionStage(Stage.PRE, _reach(tool, config.speed)),
        MotionStage(Stage.LIFT, close),
    )
    return Motion(Skill.HAND_OVER, tool.parent, at_m, stages, held.width_m)


def let_go(at_m: Vector3, held: Grasp, config: MotionConfig) -> Motion:
    """Open the hand where it is, and take it away upwards."""
    tool = replace(held.T_base_tcp, translation_m=at_m)
    opening_m = min(held.opening_m, held.width_m + config.open_more_m)
    stages = (
        MotionStage(Stage.RELEASE, GripGoal(opening_m, config.grip_force_n)),
        MotionStage(Stage.LIFT, _straight(_raised(tool, config.back_m), config.approach_speed)),
        MotionStage(Stage.RETREAT, PostureGoal(config.posture, config.speed)),
    )
    return Motion(Skill.HAND_OVER, tool.parent, at_m, stages, held.width_m)


def take_back(at_m: Vector3, held: Grasp, config: MotionConfig) -> Motion:
    """Out of the way again, with the hand closed."""
    stages = (
        MotionStage(Stage.RETREAT, PostureGoal(config.posture, config.speed)),
        MotionStage(Stage.RETREAT, GripGoal(0.0, config.grip_force_n)),
    )
    return Motion(Skill.HAND_OVER, held.T_base_tcp.parent, at_m, stages, held.width_m)


def hover(skill: Skill, target: Vector3, frames: Frames, config: MotionConfig) -> Motion:
    """Bring the hand to a place and stay there, looking down."""
    pose = _tool_down(target, 0.0, frames)
    stages = (MotionStage(Stage.ACT, _reach(pose, config.speed)),)
    return Motion(skill, frames.base, target, stages)


def single(skill: Skill, goal: Goal, target: Vector3, base: str) -> Motion:
    """A motion of one goal: a drive, a turn."""
    return Motion(skill, base, target, (MotionStage(Stage.DRIVE, goal),))


def _gripping(skill: Skill, grasp: Grasp, stages: tuple[MotionStage, ...]) -> Motion:
    tool = grasp.T_base_tcp
    return Motion(
        skill,
        tool.parent,
        tool.translation_m,
        stages,
        grasp.width_m,
        grasp.support_z_m,
        grasp.sigma_m,
    )


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
