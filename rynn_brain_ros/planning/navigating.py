"""A turn of driving: by arrows of 0.25 m and 15°, as RynnBrain-Nav speaks, or by pointing.

A question shows the view now, the recent views with what was really driven from them, and a few
older views. Every arrow is a motion of its own: checked by the gate with the newest image, driven,
and followed by a new image. An answer that points at something far is followed to a free place
before it, on the way that the robot's own navigation finds (Nav2, or the simulator's planner). STOP
is a claim; a separate look measures how far away the thing is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.config import setting
from rynn_brain_ros.geometry import apply, compose, invert, lift_box
from rynn_brain_ros.language import format_actions
from rynn_brain_ros.memory.selection import VISUAL_TOKENS
from rynn_brain_ros.planning import motions
from rynn_brain_ros.planning.episode import Confirmation, Decided, Move, StageTimes, TurnRecord
from rynn_brain_ros.planning.executive import Brain, Laps, Run
from rynn_brain_ros.planning.standing import StandingConfig, facing, standing_place
from rynn_brain_ros.planning.steps import cut_off, read_place
from rynn_brain_ros.planning.track import Track
from rynn_brain_ros.safety import GroundMemory, Proposal, Situation, room_m, strip_of
from rynn_brain_ros.values import (
    Box,
    Cause,
    Check,
    DriveGoal,
    FrameSet,
    LiftedGrounding,
    Motion,
    MotionStage,
    NavigateGoal,
    Refusal,
    RefusalCode,
    Response,
    RigidTransform,
    SelectedFrame,
    Skill,
    SpinGoal,
    Task,
)

Floats = NDArray[np.float64]

STOP = "STOP"
_UNKNOWN = RefusalCode.NO_TRANSFORM
_ARROWS = 4
"""As many of an answer are driven, as in training; then the model sees where they led."""
_NEAREST = 0.05
"""Share of a surface's depth that may be nearer than it is said to be: noise."""


@dataclass(frozen=True)
class NavigationConfig:
    """How a base drives by words, and to what is pointed at."""

    base_frame: str = setting("base_link", "frame of the driving base")
    map_frame: str = setting("map", "frame that places to drive to are told in")
    step_m: float = setting(0.25, "one ↑ [m]", 0.01, 2.0)
    turn_deg: float = setting(15.0, "one ← or → [°]", 1.0, 90.0)
    arrive_m: float = setting(1.0, "how near to the thing counts as arrived [m]", 0.1, 10.0)
    speed: float = setting(0.6, "share of the base's own speed limits", 0.01, 1.0)
    standing: StandingConfig = field(default_factory=StandingConfig)


class Navigation:
    """Takes turns with one driving base. One object per task: it remembers the way."""

    def __init__(self, brain: Brain, config: NavigationConfig) -> None:
        self._brain, self._config = brain, config
        self._track = Track()
        self._ground = GroundMemory()
        self._watched: tuple[tuple[str, int], str] | None = None
        self._asked_at: RigidTransform | Refusal = Refusal(_UNKNOWN, "nothing was asked yet")

    def turn(self, run: Run) -> TurnRecord:
        number, laps, brain = len(run.turns), Laps(), self._brain
        seen = brain.look(run, number, 1)
        record = TurnRecord(number, brain.now_ns(), FrameSet())
        if isinstance(seen, Refusal):
            return replace(record, refusal=seen)
        frames = self._track.frames(seen[-1])
        record = replace(record, frames=frames, times=StageTimes(look_s=laps.lap()))
        run.history = self._track.history
        self._asked_at = self._base_pose(seen[-1])
        response = brain.ask(run, brain.query(run, Task.NAVIGATE, frames, number), number)
        record = replace(record, times=replace(record.times, ask_s=laps.lap()))
        if isinstance(response, Refusal):
            return replace(record, refusal=response)
        record, driven = self._follow(run, replace(record, response=response), response)
        why = _failure(record) if record.refusal is None else record.refusal.text
        self._track.add(record.frames[-1], _said(response), driven, why)
        return record

    def _follow(self, run: Run, record: TurnRecord, response: Response) -> tuple[TurnRecord, str]:
        """The turn, and how much of the answer was driven."""
        actions, cut = response.reading.actions, cut_off(response)
        if cut is not None:
            return replace(record, refusal=cut), ""
        if not actions and response.lifted:
            place = read_place(response)
            if isinstance(place, Refusal):
                return replace(record, refusal=place), ""
            record = self._go(run, record, place)
            return record, _said(response) if _arrived(record) else ""
        if not actions:
            text = f"no way was told: {_said(response)[:120]!r}"
            # Who says nothing declines nothing.
            code = RefusalCode.NO_GROUNDING if _said(response) else RefusalCode.UNKNOWN_SKILL
            return replace(record, refusal=Refusal(code, text)), ""
        record, driven = self._drive(run, record, response)
        if actions[len(driven) :][:1] == (STOP,) and record.refusal is None and not run.cancelled:
            record = self._confirm(run, record)
        return record, format_actions(driven)

    # --- by arrows -------------------------------------------------------------------------------

    def _drive(
        self, run: Run, record: TurnRecord, response: Response
    ) -> tuple[TurnRecord, tuple[str, ...]]:
        """Arrow by arrow, until one is refused or fails, or STOP, or a new look is due; and those
        that were driven."""
        driven: list[str] = []
        moves: list[Move] = []
        refusal: Refusal | None = None
        for action in response.reading.actions[:_ARROWS]:
            if action == STOP:
                break
            moved = None if driven else self._base_moved(record)
            move = moved or self._one(run, record, action)
            if isinstance(move, Refusal):
                refusal = move
                break
            moves.append(move)
            refusal = move.decision.refusal
            if refusal is not None or move.outcome is None or move.outcome.cause is not Cause.DONE:
                break
            driven.append(action)
            refusal = self._brain.wait_for_new_frame(run)
            if refusal is not None:
                break
        return replace(record, moves=tuple(moves), refusal=refusal), tuple(driven)

    def _base_moved(self, record: TurnRecord) -> Refusal | None:
        """While the engine thought: arrows are told from where the base stood in its picture."""
        if isinstance(self._asked_at, Refusal):
            return self._asked_at
        return self._brain.base_moved(self._asked_at, self._brain.newest(record.frames[-1]))

    def _one(self, run: Run, record: TurnRecord, action: str) -> Move | Refusal:
        now = self._brain.newest(record.frames[-1])
        pose = self._base_pose(now)
        if isinstance(pose, Refusal):
            return pose
        self._watch_ground(now, pose)
        return self._move(run, record, self._motion(action), now=now, T_base_fixed=pose)

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
        if fixed == self._config.base_frame:
            return Refusal(
                RefusalCode.NO_TRANSFORM,
                f"poses are told in {fixed!r}, which drives itself: is odom published?",
            )
        return self._brain.sight.pose(self._config.base_frame, fixed, frame.stamp_ns)

    def _move(
        self,
        run: Run,
        record: TurnRecord,
        motion: Motion,
        *,
        now: SelectedFrame,
        T_base_fixed: RigidTransform,
        targets: tuple[LiftedGrounding, ...] = (),
    ) -> Move:
        """Asks the gate, and moves where it says yes. ``T_base_fixed`` is of the frame that the
        motion is told in."""
        brain, now_ns = self._brain, self._brain.now_ns()
        proposal = Proposal(
            motion=motion,
            targets=targets,
            frames=record.frames if targets else FrameSet((now,), VISUAL_TOKENS),
            answered_ns=run.answered_ns,
            engine=run.answered_by,
        )
        situation = Situation(
            now_ns=now_ns,
            newest=now,
            goal_in_flight=brain.mover.in_flight,
            armed=brain.mover.is_armed(now_ns),
            T_base_fixed=T_base_fixed,
            ground=self._ground,
        )
        decision = brain.judge(run, proposal, situation)
        brain.tell(Decided(record.number, None, motion, decision))
        if not decision.approved:
            return Move(motion, decision)
        run.since_ns = brain.now_ns()
        return Move(motion, decision, brain.mover.run(motion, record.number, _always, run.cancel))

    def _watch_ground(self, now: SelectedFrame, T_base_fixed: RigidTransform) -> None:
        watched = (now.frame.key, T_base_fixed.child)
        if watched == self._watched:
            return
        self._watched = watched
        view, pose = self._brain.opened.depth(now), now.frame.T_fixed_camera
        if not isinstance(view, Refusal) and pose is not None:
            T_base_camera = compose(T_base_fixed, pose)
            strip = strip_of(self._brain.gate.limits)
            self._ground.see(view, T_base_camera, invert(T_base_fixed), strip)

    # --- to what is pointed at -------------------------------------------------------------------

    def _go(self, run: Run, record: TurnRecord, lifted: LiftedGrounding) -> TurnRecord:
        """To a free place before it, by whoever knows the way: the robot's navigation."""
        now = self._brain.newest(record.frames[-1])
        pose = self._base_pose(now)
        if isinstance(pose, Refusal):
            return replace(record, refusal=pose)
        self._watch_ground(now, pose)
        T_map_fixed = self._brain.sight.pose(self._config.map_frame, pose.child, now.frame.stamp_ns)
        if isinstance(T_map_fixed, Refusal):
            return replace(record, refusal=T_map_fixed)
        goal = self._place_before(lifted, invert(pose))
        if isinstance(goal, Refusal):
            return replace(record, refusal=goal)
        T_map_base = compose(T_map_fixed, goal)
        motion = motions.single(
            Skill.MOVE_TO,
            NavigateGoal(T_map_base, self._config.speed),
            T_map_base.translation_m,
            self._config.map_frame,
        )
        move = self._move(run, record, motion, now=now, T_base_fixed=T_map_fixed, targets=(lifted,))
        refusal = move.decision.refusal
        if refusal is None and move.outcome is not None and move.outcome.cause is Cause.DONE:
            refusal = self._brain.wait_for_new_frame(run)
        return replace(record, moves=(move,), refusal=refusal)

    def _place_before(
        self, lifted: LiftedGrounding, T_fixed_base: RigidTransform
    ) -> RigidTransform | Refusal:
        """``T_fixed_base`` where the base is to stand."""
        surface_m = self._surface(lifted)
        if isinstance(surface_m, Refusal):
            return surface_m
        footprint_m = np.unique(np.round(surface_m[:, :2], 1), axis=0)
        x, y, _ = T_fixed_base.translation_m
        room = room_m(self._brain.gate.limits)
        place = standing_place(footprint_m, (x, y), self._ground, room, self._config.standing)
        if isinstance(place, Refusal):
            return place
        return facing(place, footprint_m, T_fixed_base.parent, self._config.base_frame)

    def _surface(self, lifted: LiftedGrounding) -> Floats | Refusal:
        """What is seen of the thing in a box, or else the one place that is pointed at: [N, 3] in
        the fixed frame."""
        target, frame = lifted.target, lifted.frame
        if lifted.refusal is not None:
            return lifted.refusal
        if target is None or target.point_fixed_m is None or frame is None:
            return lifted.pose_refusal or Refusal(_UNKNOWN, "it has no place in space")
        view, pose = self._brain.opened.depth(frame), frame.frame.T_fixed_camera
        if not isinstance(lifted.grounding, Box) or isinstance(view, Refusal) or pose is None:
            return np.array([target.point_fixed_m])
        us, vs = zip(*lifted.points_px, strict=True)
        box = lift_box((min(us), min(vs), max(us), max(vs)), view, self._brain.lift)
        return box if isinstance(box, Refusal) else apply(pose, box[1].points_m)

    # --- arrived? --------------------------------------------------------------------------------

    def _confirm(self, run: Run, record: TurnRecord) -> TurnRecord:
        """Looks again and measures the distance to what the task names."""
        brain = self._brain
        missing = brain.wait_for_new_frame(run)
        if missing is not None:
            return replace(record, refusal=missing)
        frames = brain.sight.show(run.since_ns, 1)
        if isinstance(frames, Refusal):
            return replace(record, refusal=frames)
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
        """Over the floor, from the base's middle to the nearest of what is seen of the thing."""
        pose, surface_m = self._base_pose(frame), self._surface(lifted)
        if isinstance(pose, Refusal):
            return pose
        if isinstance(surface_m, Refusal):
            return surface_m
        points = apply(pose, surface_m)
        return float(np.quantile(np.hypot(points[:, 0], points[:, 1]), _NEAREST))


def _always(_: MotionStage) -> Refusal | None:
    """An arrow is so short that the look before it is the look during it; on a longer way the
    robot's navigation looks."""
    return None


def _said(response: Response) -> str:
    return format_actions(response.reading.actions) or response.answer.text.strip()


def _arrived(record: TurnRecord) -> bool:
    return any(move.outcome and move.outcome.cause is Cause.DONE for move in record.moves)


def _failure(record: TurnRecord) -> str:
    """Why the last motion did not end well."""
    ends = [move.outcome for move in record.moves if move.outcome is not None]
    return ends[-1].text if ends and ends[-1].cause is not Cause.DONE else ""
