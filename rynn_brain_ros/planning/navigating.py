"""A turn of driving by words, as RynnBrain-Nav speaks it: arrows of 0.25 m and 15°.

A question shows the view now, the recent views with the arrows that were really driven from them,
and a few older views (as in the authors' evaluation: 32 recent steps by fours, at most 8 older
frames). Every arrow is a motion of its own: checked by the gate with the newest image, driven, and
followed by a new image. STOP is a claim; a separate look measures how far away the thing is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from rynn_brain_ros.config import setting
from rynn_brain_ros.geometry import apply, compose, invert, lift_box
from rynn_brain_ros.language import format_actions
from rynn_brain_ros.memory.selection import VISUAL_TOKENS
from rynn_brain_ros.planning import motions
from rynn_brain_ros.planning.episode import Confirmation, Decided, Move, StageTimes, TurnRecord
from rynn_brain_ros.planning.executive import Brain, Laps, Run
from rynn_brain_ros.safety import ObstacleMemory, Proposal, Situation, strip_of
from rynn_brain_ros.values import (
    Cause,
    Check,
    Decision,
    DriveGoal,
    FrameSet,
    LiftedGrounding,
    Motion,
    MotionStage,
    Refusal,
    RefusalCode,
    Response,
    RigidTransform,
    SelectedFrame,
    Skill,
    SpinGoal,
    Task,
    Turn,
)

STOP = "STOP"
_UNKNOWN = RefusalCode.NO_TRANSFORM
_NEAREST = 0.05
"""Share of a surface's depth that may be nearer than it is said to be: noise."""
_RECENT_TURNS = 8
_OLDER_FRAMES = 8


@dataclass(frozen=True)
class NavigationConfig:
    """How a base drives by words."""

    base_frame: str = setting("base_link", "frame of the driving base")
    step_m: float = setting(0.25, "one ↑ [m]", 0.01, 2.0)
    turn_deg: float = setting(15.0, "one ← or → [°]", 1.0, 90.0)
    arrive_m: float = setting(1.0, "how near to the thing counts as arrived [m]", 0.1, 10.0)
    speed: float = setting(0.6, "share of the base's own speed limits", 0.01, 1.0)


@dataclass(frozen=True)
class _Chunk:
    """What was driven from one view."""

    view: SelectedFrame
    driven: tuple[str, ...]

    @property
    def turn(self) -> Turn:
        return Turn(FrameSet((self.view,), VISUAL_TOKENS), format_actions(self.driven))


class Navigation:
    """Takes turns with one driving base. One object per task: it remembers the way."""

    def __init__(self, brain: Brain, config: NavigationConfig) -> None:
        self._brain, self._config = brain, config
        self._chunks: list[_Chunk] = []
        self._older: list[SelectedFrame] = []
        self._obstacles = ObstacleMemory()

    def turn(self, run: Run) -> TurnRecord:
        number, laps, brain = len(run.turns), Laps(), self._brain
        seen = brain.look(run, number, 1)
        record = TurnRecord(number, brain.now_ns(), FrameSet())
        if isinstance(seen, Refusal):
            return replace(record, refusal=seen)
        frames = self._frames(seen[-1])
        record = replace(record, frames=frames, times=StageTimes(look_s=laps.lap()))
        run.history = tuple(chunk.turn for chunk in self._chunks[-_RECENT_TURNS:])
        response = brain.ask(run, brain.query(run, Task.NAVIGATE, frames, number), number)
        record = replace(record, times=replace(record.times, ask_s=laps.lap()))
        if isinstance(response, Refusal):
            return replace(record, refusal=response)
        record = replace(record, response=response)
        return self._follow(run, record, response)

    def _frames(self, current: SelectedFrame) -> FrameSet:
        """A few old views, oldest first, and the one now."""
        every = max(1, math.ceil(len(self._older) / _OLDER_FRAMES))
        shown = (*self._older[::every], current)
        return FrameSet(shown, VISUAL_TOKENS // len(shown))

    def _follow(self, run: Run, record: TurnRecord, response: Response) -> TurnRecord:
        actions = response.reading.actions
        if not actions:
            said = response.answer.text.strip()[:120]
            refusal = Refusal(RefusalCode.NO_GROUNDING, f"no way was told: {said!r}")
            return replace(record, refusal=refusal)
        record = self._drive(run, record, response)
        stopped = STOP in actions and record.refusal is None and not run.cancelled
        failed = any(m.outcome and m.outcome.cause is not Cause.DONE for m in record.moves)
        return self._confirm(run, record) if stopped and not failed else record

    def _drive(self, run: Run, record: TurnRecord, response: Response) -> TurnRecord:
        """Arrow by arrow, until one is refused or fails, or STOP."""
        driven: list[str] = []
        moves: list[Move] = []
        refusal: Refusal | None = None
        for action in response.reading.actions:
            if action == STOP:
                break
            move = self._one(run, record, action)
            if isinstance(move, Refusal):
                refusal = move
                break
            moves.append(move)
            refusal = move.decision.refusal
            if refusal is not None or move.outcome is None or move.outcome.cause is not Cause.DONE:
                break
            driven.append(action)
            refusal = self._brain.wait_for_new_frame()
            if refusal is not None:
                break
        self._remember(record.frames[-1], tuple(driven))
        return replace(record, moves=tuple(moves), refusal=refusal)

    def _remember(self, view: SelectedFrame, driven: tuple[str, ...]) -> None:
        """Pairs of view and arrows stay exact, also where fewer than four were driven."""
        if not driven:
            return
        self._chunks.append(_Chunk(view, driven))
        if len(self._chunks) > _RECENT_TURNS:
            self._older.append(self._chunks[-_RECENT_TURNS - 1].view)

    def _one(self, run: Run, record: TurnRecord, action: str) -> Move | Refusal:
        brain = self._brain
        now = brain.newest(record.frames[-1])
        pose = self._base_pose(now)
        if isinstance(pose, Refusal):
            return pose
        motion = self._motion(action)
        self._watch_ground(now, pose)
        decision = self._decide(run, motion, now, pose)
        brain.tell(Decided(record.number, None, motion, decision))
        if not decision.approved:
            return Move(motion, decision)
        run.since_ns = brain.now_ns()
        outcome = brain.mover.run(motion, record.number, _always, run.cancel)
        return Move(motion, decision, outcome)

    def _motion(self, action: str) -> Motion:
        config = self._config
        if action == "FORWARD":
            goal = DriveGoal(config.step_m, config.speed)
            return motions.single(Skill.MOVE_TO, goal, (config.step_m, 0.0, 0.0), config.base_frame)
        sign = 1.0 if action == "LEFT" else -1.0
        spin = SpinGoal(sign * math.radians(config.turn_deg), config.speed)
        return motions.single(Skill.MOVE_TO, spin, (0.0, 0.0, 0.0), config.base_frame)

    def _base_pose(self, shown: SelectedFrame) -> RigidTransform | Refusal:
        """``T_base_fixed`` when the frame was taken."""
        frame = shown.frame
        if frame.T_fixed_camera is None:
            return frame.pose_refusal or Refusal(
                RefusalCode.NO_TRANSFORM, "the camera's pose is unknown: is odom published?"
            )
        fixed = frame.T_fixed_camera.parent
        return self._brain.sight.pose(self._config.base_frame, fixed, frame.stamp_ns)

    def _decide(
        self, run: Run, motion: Motion, now: SelectedFrame, T_base_fixed: RigidTransform
    ) -> Decision:
        brain, now_ns = self._brain, self._brain.now_ns()
        proposal = Proposal(
            motion=motion,
            targets=(),
            frames=FrameSet((now,), VISUAL_TOKENS),
            answered_ns=run.answered_ns,
            step=None,
        )
        situation = Situation(
            now_ns=now_ns,
            newest=now,
            robot=(),
            holding=False,
            goal_in_flight=brain.mover.in_flight,
            armed=brain.mover.is_armed(now_ns),
            T_base_fixed=T_base_fixed,
            obstacles=self._obstacles,
        )
        return brain.judge(proposal, situation)

    def _watch_ground(self, now: SelectedFrame, T_base_fixed: RigidTransform) -> None:
        view, pose = self._brain.opened.depth(now), now.frame.T_fixed_camera
        if not isinstance(view, Refusal) and pose is not None:
            T_base_camera = compose(T_base_fixed, pose)
            strip = strip_of(self._brain.gate.limits)
            self._obstacles.see(view, T_base_camera, invert(T_base_fixed), strip)

    # --- arrived? --------------------------------------------------------------------------------

    def _confirm(self, run: Run, record: TurnRecord) -> TurnRecord:
        """Looks again and measures the distance to what the task names."""
        brain = self._brain
        missing = brain.wait_for_new_frame()
        if missing is not None:
            return replace(record, refusal=missing)
        frames = brain.sight.show(run.since_ns, 1)
        query = replace(brain.query(run, Task.OBJECT, frames, record.number), history=())
        response = brain.ask(run, query, record.number)
        if isinstance(response, Refusal):
            return replace(record, refusal=response)
        look = self._arrived(response)
        refusal = None if look.confirmed else Refusal(RefusalCode.UNCONFIRMED, look.text)
        return replace(record, confirmation=look, refusal=refusal)

    def _arrived(self, response: Response) -> Confirmation:
        lifted = next(iter(response.lifted), None)
        if lifted is None or lifted.target is None or lifted.frame is None:
            why = lifted.refusal if lifted is not None and lifted.refusal else "nothing was found"
            return Confirmation(False, f"looked again and cannot tell how far it is: {why}")
        distance_m = self._distance_m(lifted, lifted.frame)
        if isinstance(distance_m, Refusal):
            return Confirmation(False, f"cannot tell how far it is: {distance_m}")
        allowed = self._config.arrive_m
        check = Check(
            "distance to the thing", distance_m <= allowed, f"{distance_m:.2f} m", f"{allowed:g} m"
        )
        verb = "is" if check.passed else "is still"
        text = f"looked again: the thing {verb} {distance_m:.2f} m away"
        return Confirmation(check.passed, text, (check,))

    def _distance_m(self, lifted: LiftedGrounding, frame: SelectedFrame) -> float | Refusal:
        """Over the floor, from the base's middle to the nearest of the surface in the box."""
        pose, camera = self._base_pose(frame), frame.frame.T_fixed_camera
        view = self._brain.opened.depth(frame)
        if isinstance(pose, Refusal):
            return pose
        if isinstance(view, Refusal) or camera is None:
            return view if isinstance(view, Refusal) else Refusal(_UNKNOWN, "its pose is unknown")
        us, vs = zip(*lifted.points_px, strict=True)
        box = lift_box((min(us), min(vs), max(us), max(vs)), view, self._brain.lift)
        if isinstance(box, Refusal):
            return box
        points = apply(compose(pose, camera), box[1].points_m)
        return float(np.quantile(np.hypot(points[:, 0], points[:, 1]), _NEAREST))


def _always(_: MotionStage) -> Refusal | None:
    """An arrow is so short that the look before it is the look during it."""
    return None
