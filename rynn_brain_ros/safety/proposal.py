"""What the gate is asked about, and what a check says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.geometry import apply, invert
from rynn_brain_ros.safety.engine_verdict import EngineIdentity, EngineVerdict
from rynn_brain_ros.safety.limits import SafetyLimits
from rynn_brain_ros.safety.obstacles import GroundMemory
from rynn_brain_ros.safety.seeing import SeenFrames
from rynn_brain_ros.values import (
    Check,
    DriveGoal,
    FollowGoal,
    FrameSet,
    LiftedGrounding,
    Motion,
    MotionStage,
    NavigateGoal,
    ReachGoal,
    Refusal,
    RefusalCode,
    RigidTransform,
    SelectedFrame,
    SpinGoal,
    Step,
    Vector3,
)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Proposal:
    """A motion, and the chain of evidence that it stands on.

    ``targets`` is everything that the step points at, ``frames`` what the answer was computed
    from, ``answered_ns`` from when on its age counts. ``held`` is whether the hand held something
    when the frames were taken, ``None`` where nobody knows. ``engine`` is whoever answered.
    """

    motion: Motion
    targets: tuple[LiftedGrounding, ...]
    frames: FrameSet
    answered_ns: int
    step: Step | None = None
    held: bool | None = None
    engine: EngineIdentity | None = None

    @property
    def groundings(self) -> tuple[LiftedGrounding, ...]:
        """``targets``, and what the step points at and ``targets`` left out."""
        step = () if self.step is None else self.step.groundings
        missing = (g for g in step if not any(g is target for target in self.targets))
        return (*self.targets, *missing)


@dataclass(frozen=True)
class Situation:
    """The robot and its surroundings when the gate is asked.

    ``newest`` is the newest frame of the camera. ``robot`` are the origins of the robot's links
    from base to tool in the base frame: an arm of which fewer than two are known goes nowhere.
    ``approved`` is what a person said, ``None`` while nobody has been asked. ``T_base_fixed`` is
    the robot's base, an arm's or a driving one's, where the motion is told from; whoever asks sees
    to it that it still stands there at ``newest``. It may be left out for an arm whose base is the
    fixed frame. For a place to navigate to it is of the map. ``ground`` is what a driving robot has
    seen of it on its way.
    """

    now_ns: int
    newest: SelectedFrame | None
    robot: tuple[Vector3, ...] = ()
    holding: bool = False
    goal_in_flight: bool = False
    armed: bool = False
    approved: bool | None = None
    T_base_fixed: RigidTransform | None = None
    ground: GroundMemory | None = None


@dataclass(frozen=True)
class Finding:
    """A check and, where it failed, the refusal that it means."""

    check: Check
    refusal: Refusal | None = None


def passed(name: str, found: str, allowed: str = "") -> Finding:
    return Finding(Check(name, True, found, allowed))


def refused(name: str, code: RefusalCode, found: str, allowed: str = "", todo: str = "") -> Finding:
    """``todo`` is what a person can do about it."""
    text = found + (f"; allowed is {allowed}" if allowed else "") + (f": {todo}" if todo else "")
    return Finding(Check(name, False, found, allowed), Refusal(code, text))


@dataclass(frozen=True)
class Judgement:
    """One question to the gate, with what several checks want to know of it."""

    proposal: Proposal
    situation: Situation
    limits: SafetyLimits
    seen: SeenFrames = field(default_factory=SeenFrames)
    verdicts: tuple[EngineVerdict, ...] = ()

    @property
    def motion(self) -> Motion:
        return self.proposal.motion

    @property
    def stages(self) -> tuple[MotionStage, ...]:
        return self.motion.stages

    @property
    def poses(self) -> Iterator[tuple[MotionStage, RigidTransform]]:
        """Every pose that the motion names, with its stage."""
        for stage in self.stages:
            for pose in poses_of(stage):
                yield stage, pose

    @property
    def reaches(self) -> bool:
        """Whether an arm is told where to go."""
        return any(isinstance(stage.goal, ReachGoal | FollowGoal) for stage in self.stages)

    @property
    def drives(self) -> bool:
        kinds = DriveGoal | SpinGoal | NavigateGoal
        return any(isinstance(stage.goal, kinds) for stage in self.stages)

    @property
    def acted_on(self) -> tuple[LiftedGrounding, ...]:
        """What the motion goes to: all that is pointed at but what the hand already holds."""
        step = self.proposal.step
        held = (step.grasp, step.thing) if step is not None and self.situation.holding else ()
        every = self.proposal.groundings
        return tuple(g for g in every if not any(g is thing for thing in held))

    @property
    def fixed_frame(self) -> str:
        """The frame that poses and targets must be told in."""
        T_base_fixed = self.situation.T_base_fixed
        return self.motion.base_frame if T_base_fixed is None else T_base_fixed.child

    def in_fixed(self, point_base_m: Vector3) -> Vector3:
        """In the frame that poses are told in."""
        T_base_fixed = self.situation.T_base_fixed
        if T_base_fixed is None:
            return point_base_m
        x, y, z = map(float, apply(invert(T_base_fixed), point_base_m)[0])
        return (x, y, z)

    def in_base(self, point_fixed_m: Vector3) -> Floats:
        """[3], in the robot's base frame."""
        T_base_fixed = self.situation.T_base_fixed
        if T_base_fixed is None:
            return np.array(point_fixed_m)
        return np.asarray(apply(T_base_fixed, point_fixed_m)[0], np.float64)


def poses_of(stage: MotionStage) -> tuple[RigidTransform, ...]:
    goal = stage.goal
    if isinstance(goal, ReachGoal):
        return (goal.T_base_tcp,)
    if isinstance(goal, FollowGoal):
        return goal.path
    return (goal.T_map_base,) if isinstance(goal, NavigateGoal) else ()


def called(target: LiftedGrounding) -> str:
    """What a target is called in a sentence."""
    label = f" {target.grounding.label!r}" if target.grounding.label else ""
    return f"the {target.grounding.kind}{label}"
