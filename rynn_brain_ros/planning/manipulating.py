"""A turn of manipulation, as RynnBrain-Plan speaks it.

The goal is said once; later turns are frames only, their numbers begin at 0 again, and earlier
answers are repeated verbatim. Nothing but pictures tells the planner how a step went. ``Done.`` is
a claim, and a separate look confirms it or the turn counts as refused.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.geometry import apply, compose
from rynn_brain_ros.planning.arm import Arm, Release, Scene, Target
from rynn_brain_ros.planning.confirming import ConfirmConfig, confirm, witness
from rynn_brain_ros.planning.episode import Decided, Move, StageTimes, TurnRecord
from rynn_brain_ros.planning.executive import Brain, Laps, Run
from rynn_brain_ros.planning.holding import Doings
from rynn_brain_ros.planning.moving import is_held
from rynn_brain_ros.planning.steps import read_step
from rynn_brain_ros.planning.targeting import make_target
from rynn_brain_ros.safety import Proposal, Situation
from rynn_brain_ros.values import (
    Cause,
    Decision,
    Frame,
    FrameSet,
    Motion,
    MotionStage,
    Outcome,
    ReachGoal,
    Refusal,
    RefusalCode,
    Response,
    RigidTransform,
    SelectedFrame,
    Skill,
    Stage,
    Step,
    Task,
    Turn,
    Vector3,
)


class Manipulation:
    """Takes turns with one arm."""

    def __init__(self, brain: Brain, arm: Arm, confirm_config: ConfirmConfig) -> None:
        self._brain, self._arm, self._confirm_config = brain, arm, confirm_config

    def turn(self, run: Run) -> TurnRecord:
        number, laps, brain = len(run.turns), Laps(), self._brain
        frames = brain.look(run, number, brain.config.frames if run.history else 1)
        record = TurnRecord(number, brain.now_ns(), FrameSet())
        if isinstance(frames, Refusal):
            return replace(record, refusal=frames)
        self._witness(run, frames[-1])
        record = replace(record, frames=frames, times=StageTimes(look_s=laps.lap()))
        response = brain.ask(run, brain.query(run, Task.PLAN, frames, number), number)
        record = replace(record, times=replace(record.times, ask_s=laps.lap()))
        if isinstance(response, Refusal):
            return replace(record, refusal=response)
        step = read_step(response)
        record = replace(record, response=response)
        if isinstance(step, Refusal):
            return replace(record, refusal=step)
        record = replace(record, step=step)
        if step.skill is Skill.DONE:
            return self._confirm(run, record)
        return self._act(run, record, step, response, laps)

    def _act(
        self, run: Run, record: TurnRecord, step: Step, response: Response, laps: Laps
    ) -> TurnRecord:
        scene = self._scene(record.frames[-1])
        if isinstance(scene, Refusal):
            return replace(record, refusal=scene)
        target = self._target(step, run, scene)
        record = replace(record, times=replace(record.times, plan_s=laps.lap()))
        if isinstance(target, Refusal):
            return replace(record, refusal=target)
        decision = self._decide(run, step, target.motion, response, scene)
        record = replace(record, times=replace(record.times, gate_s=laps.lap()))
        self._brain.tell(Decided(record.number, step, target.motion, decision))
        if decision.refusal is not None:
            moves = (Move(target.motion, decision),)
            return replace(record, moves=moves, refusal=decision.refusal)
        outcome = self._move(run, record, response, target, scene.T_base_fixed)
        record = replace(record, moves=(Move(target.motion, decision, outcome),))
        if target.release is None or outcome.cause is not Cause.DONE:
            return record
        return self._let_go(run, record, target.release, response, scene)

    def _target(self, step: Step, run: Run, scene: Scene) -> Target | Refusal:
        target = make_target(step, run.doings, scene)
        gives = isinstance(target, Target) and target.release is not None
        if gives and self._brain.approve is None:
            text = "nobody can be asked whether they hold it, and the hand opens only after a yes"
            return Refusal(RefusalCode.NOT_APPROVED, text)
        return target

    def _let_go(
        self,
        run: Run,
        record: TurnRecord,
        release: Release,
        response: Response,
        scene: Scene,
    ) -> TurnRecord:
        """The second motion of a hand-over, judged by itself, with the thing held out; the way
        there makes the answer no older."""
        run.answered_ns += self._brain.now_ns() - run.since_ns
        run.doings = run.doings.offered(release.handed)
        gave = self._decide_and_move(run, record, release.motion, response, scene)
        record = replace(record, moves=(*record.moves, gave))
        if gave.outcome is None:
            back = self._decide_and_move(run, record, release.back, response, scene)
            refusal = gave.decision.refusal
            return replace(record, moves=(*record.moves, back), refusal=refusal)
        if Stage.RELEASE in _stages_done(release.motion, gave.outcome):
            run.doings = run.doings.gave(release.handed)
        return record

    def _decide_and_move(
        self, run: Run, record: TurnRecord, motion: Motion, response: Response, scene: Scene
    ) -> Move:
        assert record.step is not None
        decision = self._decide(run, record.step, motion, response, scene)
        self._brain.tell(Decided(record.number, record.step, motion, decision))
        if decision.refusal is not None:
            return Move(motion, decision)
        outcome = self._brain.mover.run(motion, record.number, _nothing_moved, run.cancel)
        return Move(motion, decision, outcome)

    def _move(
        self,
        run: Run,
        record: TurnRecord,
        response: Response,
        target: Target,
        T_base_fixed: RigidTransform,
    ) -> Outcome:
        run.since_ns = self._brain.now_ns()
        guard = _TargetGuard(self._brain, self._arm, record.frames[-1], target.motion, T_base_fixed)
        outcome = self._brain.mover.run(target.motion, record.number, guard, run.cancel)
        run.history = (*run.history, Turn(record.frames, response.answer.text))
        run.doings = _after(run.doings, target, outcome)
        return outcome

    def _witness(self, run: Run, now: SelectedFrame) -> None:
        if run.doings.put:
            pose, opened = self._camera_pose(now), self._brain.opened
            run.doings = witness(run.doings, now, pose, self._confirm_config, opened)

    def _confirm(self, run: Run, record: TurnRecord) -> TurnRecord:
        """Looks again, at a picture that the planner has not seen."""
        refusal = self._brain.wait_for_new_frame(run)
        if refusal is not None:
            return replace(record, refusal=refusal)
        now = self._brain.newest(record.frames[-1])
        pose = self._camera_pose(now)
        look = confirm(run.doings, now, pose, self._confirm_config, self._brain.opened)
        refusal = None if look.confirmed else Refusal(RefusalCode.UNCONFIRMED, look.text)
        return replace(record, confirmation=look, refusal=refusal)

    def _scene(self, shown: SelectedFrame) -> Scene | Refusal:
        """Where the robot's base and links were when the frame was taken."""
        T_base_fixed = self._base_pose(shown.frame)
        if isinstance(T_base_fixed, Refusal):
            return T_base_fixed
        robot = _links_m(self._brain, self._arm, shown.frame.stamp_ns)
        if isinstance(robot, Refusal):
            return robot
        return Scene(self._arm, self._brain.lift, T_base_fixed, self._brain.opened, robot)

    def _base_pose(self, frame: Frame) -> RigidTransform | Refusal:
        """``T_base_fixed`` at the frame's stamp."""
        pose, base = frame.T_fixed_camera, self._arm.base_frame
        if pose is None:
            return frame.pose_refusal or Refusal(
                RefusalCode.NO_TRANSFORM, "the camera's pose is unknown: is /tf published?"
            )
        return self._brain.sight.pose(base, pose.parent, frame.stamp_ns)

    def _camera_pose(self, shown: SelectedFrame) -> RigidTransform | Refusal:
        """``T_base_camera`` at the frame's stamp."""
        T_base_fixed, pose = self._base_pose(shown.frame), shown.frame.T_fixed_camera
        if isinstance(T_base_fixed, Refusal) or pose is None:
            return T_base_fixed
        return compose(T_base_fixed, pose)

    def _decide(
        self, run: Run, step: Step, motion: Motion, response: Response, scene: Scene
    ) -> Decision:
        brain, frames = self._brain, response.query.frames
        now_ns = brain.now_ns()
        proposal = Proposal(
            motion=motion,
            targets=step.groundings,
            frames=frames,
            answered_ns=run.answered_ns,
            step=step,
            engine=run.answered_by,
        )
        situation = Situation(
            now_ns=now_ns,
            newest=brain.newest(frames[-1]),
            robot=scene.robot,
            holding=run.doings.held is not None,
            goal_in_flight=brain.mover.in_flight,
            armed=brain.mover.is_armed(now_ns),
            T_base_fixed=scene.T_base_fixed,
        )
        return brain.judge(run, proposal, situation)


class _TargetGuard:
    """Before the hand goes down it looks once more whether the target is still there, and the
    base where the motion was told from.

    The arm may by now stand between camera and target: what it hides is not held against it, and
    what anything else hides is.
    """

    def __init__(
        self,
        brain: Brain,
        arm: Arm,
        then: SelectedFrame,
        motion: Motion,
        T_base_fixed: RigidTransform,
    ) -> None:
        self._brain, self._arm, self._then, self._motion = brain, arm, then, motion
        self._T_base_fixed = T_base_fixed

    def __call__(self, stage: MotionStage) -> Refusal | None:
        if stage.stage is not Stage.APPROACH:
            return None
        now = self._brain.newest(self._then)
        moved = self._brain.base_moved(self._T_base_fixed, now)
        if moved is not None:
            return moved
        links_m = _links_m(self._brain, self._arm, now.frame.stamp_ns)
        if isinstance(links_m, Refusal):
            return links_m
        gate, body = self._brain.gate, self._arm.body(links_m)
        lowest_z_m = self._lowest_z_m(stage, now.frame.stamp_ns)

        def own(points_fixed_m: NDArray[np.float64]) -> NDArray[np.bool_]:
            points = apply(self._T_base_fixed, points_fixed_m)
            inside = [capsule.holds(points) for capsule in body]
            return np.asarray(np.any(inside, axis=0) & (points[:, 2] > lowest_z_m))

        return gate.target_moved(self._motion, self._then, now, self._T_base_fixed, own)

    def _lowest_z_m(self, stage: MotionStage, stamp_ns: int) -> float:
        """Below it there is neither the hand nor what it holds: either would be in the support
        once the hand is down."""
        arm, support_z_m = self._arm, self._motion.support_z_m
        tool = self._brain.sight.pose(arm.base_frame, arm.tool_frame, stamp_ns)
        if isinstance(tool, Refusal) or not isinstance(stage.goal, ReachGoal):
            return -math.inf
        hangs_m = stage.goal.T_base_tcp.translation_m[2] - support_z_m
        return tool.translation_m[2] - hangs_m if math.isfinite(hangs_m) else -math.inf


def _links_m(brain: Brain, arm: Arm, stamp_ns: int) -> tuple[Vector3, ...] | Refusal:
    """Where the arm's links were at a stamp, in its base frame."""
    return brain.sight.wait_for_robot(arm.base_frame, arm.links, stamp_ns, brain.config.tick_s)


def _stages_done(motion: Motion, outcome: Outcome) -> frozenset[Stage]:
    return frozenset(stage.stage for stage in motion.stages[: outcome.stages_done])


def _nothing_moved(stage: MotionStage) -> Refusal | None:
    """The hand stays where it is."""
    return None


def _after(doings: Doings, target: Target, outcome: Outcome) -> Doings:
    """What is held and what lies where, as far as the motion tells."""
    if target.motion.skill is Skill.PICK and target.taken is not None:
        held = is_held(target.motion, outcome.stages_done, outcome.cause)
        if held:
            return doings.took(target.taken)
        return doings.dropped(target.taken) if outcome.cause is Cause.DROPPED else doings
    done = _stages_done(target.motion, outcome)
    if target.shifted is not None and Stage.APPROACH in done:  # it may have moved half the way
        return doings.shoved(target.shifted)
    if target.poured is not None and Stage.APPROACH in done:
        doings = doings.tilted(target.poured)
    if outcome.cause is Cause.DROPPED and doings.held is not None:
        return doings.dropped(doings.held)
    if target.motion.skill is Skill.PLACE and target.place is not None and Stage.RELEASE in done:
        return doings.let_go(target.place)
    return doings
