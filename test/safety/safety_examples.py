"""A pick on a rendered table that passes the gate, to be spoiled one thing at a time."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from rynn_brain_ros.geometry import DepthNoise
from rynn_brain_ros.memory import select
from rynn_brain_ros.safety import Gate, Proposal, SafetyLimits, Situation
from rynn_brain_ros.sim.tabletop import (
    FIXED_FRAME,
    OPTICAL_FRAME,
    START_NS,
    Tabletop,
    Thing,
    add_depth_noise,
)
from rynn_brain_ros.values import (
    Affordance,
    Decision,
    EncodedImage,
    Frame,
    FrameSet,
    GripGoal,
    LiftedGrounding,
    LiftedPoint,
    Motion,
    MotionStage,
    PostureGoal,
    ReachGoal,
    RigidTransform,
    SelectedFrame,
    Skill,
    Stage,
    Vector3,
)

LIMITS = SafetyLimits(dry_run=False, engine_verdict="not_required")
NOW_NS = START_NS + 2_000_000_000
TARGET = (0.4, 0.1, 0.06)
CUBE = Thing("red cube", "red", "cube", (0.4, 0.1), (0.06, 0.06, 0.06), 0.4)
SCENE = Tabletop((CUBE,), 320, 240, 262.5)
DOWN = (1.0, 0.0, 0.0, 0.0)
"""The hand's z axis points to the table."""


@lru_cache(maxsize=32)
def _rendered(scene: Tabletop, pose: RigidTransform) -> Any:
    return scene.render(pose)


def frame(
    scene: Tabletop = SCENE,
    stamp_ns: int = NOW_NS,
    seed: int = 0,
    pose: RigidTransform | None = None,
    light: float = 1.0,
) -> SelectedFrame:
    """What a noisy camera at ``pose`` sees; the camera stands still unless told otherwise."""
    pose = pose or scene.pose_at(START_NS)
    rgb, z_m = _rendered(scene, pose)
    rng = np.random.default_rng(seed)
    noisy = np.clip(rgb * light + rng.normal(0, 3, rgb.shape), 0, 255).astype(np.uint8)
    depth_mm = add_depth_noise(z_m, DepthNoise(), rng)
    height, width = z_m.shape
    return select(
        Frame(
            "camera",
            stamp_ns,
            OPTICAL_FRAME,
            EncodedImage("rgb8", noisy.tobytes(), width, height, width * 3),
            EncodedImage("16UC1", depth_mm.tobytes(), width, height, width * 2),
            scene.camera_info,
            T_fixed_camera=replace(pose, stamp_ns=stamp_ns),
        )
    )


THEN = frame(stamp_ns=START_NS)


def with_things(*things: Thing) -> Tabletop:
    return replace(SCENE, things=things)


def point_at(place: Vector3 = TARGET, sigma_m: float = 0.002) -> LiftedPoint:
    v = sigma_m**2
    covariance = (v, 0.0, 0.0, 0.0, v, 0.0, 0.0, 0.0, v)
    return LiftedPoint((160.0, 120.0), (0.0, 0.0, 0.8), covariance, place, covariance, 50)


def target_at(place: Vector3 = TARGET, shown: SelectedFrame = THEN) -> LiftedGrounding:
    grounding = Affordance(0, ((500.0, 500.0),), (0, 10), "affordance", label="red cube")
    point = point_at(place)
    return LiftedGrounding(
        grounding, shown, ((160.0, 120.0),), (point,), point, FIXED_FRAME, confidence=0.9
    )


def tcp(x: float, y: float, z: float) -> RigidTransform:
    return RigidTransform(FIXED_FRAME, "tcp", (x, y, z), DOWN)


def pick_at(place: Vector3 = TARGET) -> Motion:
    x, y, z = place
    return Motion(
        Skill.PICK,
        FIXED_FRAME,
        (x, y, z - 0.02),
        (
            MotionStage(Stage.OPEN_HAND, GripGoal(0.08)),
            MotionStage(Stage.PRE, ReachGoal(tcp(x, y, z + 0.12), speed=0.5)),
            MotionStage(Stage.APPROACH, ReachGoal(tcp(x, y, z - 0.02), True, 0.3)),
            MotionStage(Stage.GRIP, GripGoal(0.0)),
            MotionStage(Stage.LIFT, ReachGoal(tcp(x, y, z + 0.18), True, 0.3)),
            MotionStage(Stage.RETREAT, PostureGoal(speed=0.5)),
        ),
        grip_width_m=0.06,
        support_z_m=0.0,
    )


PROPOSAL = Proposal(pick_at(), (target_at(),), FrameSet((THEN,)), NOW_NS - 1_000_000_000)
SITUATION = Situation(
    NOW_NS,
    frame(seed=1),
    robot=((0.0, 0.0, 0.0), (0.0, 0.0, 0.33), (0.3, 0.0, 0.5)),
    armed=True,
)


def judge(
    proposal: Proposal = PROPOSAL,
    situation: Situation = SITUATION,
    limits: SafetyLimits = LIMITS,
) -> Decision:
    return Gate(limits).judge(proposal, situation)


def moving(**changes: Any) -> Proposal:
    """The good proposal with parts of its motion changed."""
    return replace(PROPOSAL, motion=replace(PROPOSAL.motion, **changes))


def pointing(**changes: Any) -> Proposal:
    """The good proposal with parts of its target changed."""
    return replace(PROPOSAL, targets=(replace(PROPOSAL.targets[0], **changes),))


def situated(**changes: Any) -> Situation:
    return replace(SITUATION, **changes)
