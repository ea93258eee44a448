"""A turn of manipulation, as RynnBrain-Plan speaks it.

The goal is said once; later turns are frames only, their numbers begin at 0 again, and earlier
answers are repeated verbatim. Nothing but pictures tells the planner how a step went. ``Done.`` is
a claim, and a separate look confirms it or the turn counts as refused.
"""

from __future__ import annotations

from dataclasses import replace

from rynn_brain_ros.planning.confirming import ConfirmConfig, confirm, witness
from rynn_brain_ros.planning.episode import Decided, Move, StageTimes, TurnRecord
from rynn_brain_ros.planning.executive import Brain, Laps, Run
from rynn_brain_ros.planning.holding import Doings
from rynn_brain_ros.planning.moving import is_held
from rynn_brain_ros.planning.steps import read_step
from rynn_brain_ros.planning.targeting import Arm, Scene, Target, make_target
from rynn_brain_ros.safety import Proposal, Situation
from rynn_brain_ros.values import (
    Decision,
    FrameSet,
    Motion,
    MotionStage,
    Outcome,
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
        target = make_target(step, run.doings, scene)
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
        return replace(record, moves=(Move(target.motion, decision, outcome),))

    def _move(
        self,
        run: Run,
        record: TurnRecord,
        response: Response,
        target: Target,
        T_base_fixed: RigidTransform,
    ) -> Outcome:
        run.since_ns = self._brain.now_ns()
        guard = _TargetGuard(self._brain, record.frames[-1], target.motion, T_base_fixed)
        outcome = self._brain.mover.run(target.motion, record.number, guard, run.cancel)
        run.history = (*run.history, Turn(record.frames, response.answer.text))
        run.doings = _after(run.doings, target, outcome)
        return outcome

    def _witness(self, run: Run, now: SelectedFrame) -> None:
        if run.doings.put:
            scene = self._scene(now)
            pose = scene if isinstance(scene, Refusal) else scene.camera(now)
            opened = self._brain.opened
            run.doings = witness(run.doings, now, pose, self._confirm_config, opened)

    def _confirm(self, run: Run, record: TurnRecord) -> TurnRecord:
        """Looks again, at a picture that the planner has not seen."""
        refusal = self._brain.wait_for_new_frame()
        if refusal is not None:
            return replace(record, refusal=refusal)
        now = self._brain.newest(record.frames[-1])
        scene = self._scene(now)
        pose = scene if isinstance(scene, Refusal) else scene.camera(now)
        look = confirm(run.doings, now, pose, self._confirm_config, self._brain.opened)
        refusal = None if look.confirmed else Refusal(RefusalCode.UNCONFIRMED, look.text)
        return replace(record, confirmation=look, refusal=refusal)

    def _scene(self, shown: SelectedFrame) -> Scene | Refusal:
        """Where the robot's base and links were when the frame was taken."""
        frame, sight = shown.frame, self._brain.sight
        if frame.T_fixed_camera is None:
            return frame.pose_refusal or Refusal(
                RefusalCode.NO_TRANSFORM, "the camera's pose is unknown: is /tf published?"
            )
        base = self._arm.base_frame
        T_base_fixed = sight.pose(base, frame.T_fixed_camera.parent, frame.stamp_ns)
        if isinstance(T_base_fixed, Refusal):
            return T_base_fixed
        robot = sight.robot(base, self._arm.links, frame.stamp_ns)
        return Scene(self._arm, self._brain.lift, T_base_fixed, self._brain.opened, robot)

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
        return brain.judge(proposal, situation)


class _TargetGuard:
    """Before the hand goes down it looks once more whether the target is still there.

    The arm may by now stand between camera and target: what it hides is not held against it.
    """

    def __init__(
        self, brain: Brain, then: SelectedFrame, motion: Motion, T_base_fixed: RigidTransform
    ) -> None:
        self._brain, self._then, self._motion = brain, then, motion
        self._T_base_fixed = T_base_fixed

    def __call__(self, stage: MotionStage) -> Refusal | None:
        if stage.stage is not Stage.APPROACH:
            return None
        now = self._brain.newest(self._then)
        return self._brain.gate.target_moved(self._motion, self._then, now, self._T_base_fixed)


def _after(doings: Doings, target: Target, outcome: Outcome) -> Doings:
    """What is held and what lies where, as far as the motion tells."""
    if target.motion.skill is Skill.PICK and target.taken is not None:
        held = is_held(target.motion, outcome.stages_done, outcome.cause)
        return doings.took(target.taken) if held else doings.lost()
    if target.motion.skill is not Skill.PLACE or target.place is None:
        return doings
    done = target.motion.stages[: outcome.stages_done]
    released = any(stage.stage is Stage.RELEASE for stage in done)
    return doings.let_go(target.place) if released else doings
