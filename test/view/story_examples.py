"""Episodes as a robot would have lived them: rendered frames, true places, frozen records."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise

import cv2
import numpy as np

from rynn_brain_ros.geometry import apply, invert
from rynn_brain_ros.planning.episode import (
    Confirmation,
    Episode,
    Move,
    StageBegan,
    StageTimes,
    TurnRecord,
)
from rynn_brain_ros.sim import Tabletop, example_scene
from rynn_brain_ros.sim.tabletop import OPTICAL_FRAME, START_NS, Thing
from rynn_brain_ros.values import (
    Affordance,
    Answer,
    Area,
    Box,
    Cause,
    Check,
    Decision,
    DriveGoal,
    EncodedImage,
    FinishReason,
    Frame,
    FrameSet,
    Goal,
    GripGoal,
    LiftedGrounding,
    LiftedPoint,
    Motion,
    MotionStage,
    NoGrounding,
    Outcome,
    PostureGoal,
    Query,
    ReachGoal,
    Reading,
    Refusal,
    RefusalCode,
    Response,
    RigidTransform,
    SelectedFrame,
    Skill,
    SpinGoal,
    Stage,
    Status,
    Step,
    Task,
    Timings,
    Vector3,
)

BASE = "panda_link0"
TASK = "Put the red cube onto the yellow plate"
SECOND = 1_000_000_000
SHIFT: Vector3 = (0.45, 0.0, 0.0)
"""Where the rendered table's origin is in the robot's base frame."""


@dataclass(frozen=True)
class Eye:
    """The rendered table, looked at by a camera of this width."""

    scene: Tabletop

    def frame(self, stamp_ns: int) -> SelectedFrame:
        return _frame(self.scene, stamp_ns)

    def thing(self, name: str) -> Thing:
        return next(thing for thing in self.scene.things if thing.name == name)

    def lift(self, grounding: type, name: str, frame: SelectedFrame, index: int, at: int = 0):
        """A grounding of a thing's top, exactly where it is; ``at`` is its place in the text."""
        pose = self.scene.pose_at(frame.frame.stamp_ns)
        thing = self.thing(name)
        half, z = thing.size_m[0] / 2, thing.size_m[2]
        offsets = {
            Affordance: [(0.0, 0.0, z)],
            Area: [(a * half / 2, b * half / 2, z) for a, b in ((1, 1), (1, -1), (-1, 0), (0, 0))],
            Box: [(-half, half, z), (half, -half, 0.0)],
        }[grounding]
        points = [self._seen(pose, (*thing.xy_m, 0.0), offset) for offset in offsets]
        written = tuple(
            (round(1000 * u / (self.scene.width - 1)), round(1000 * v / (self.scene.height - 1)))
            for (u, v), _ in points
        )
        words = f"<{grounding.kind}> <frame {index}>: " + ", ".join(
            f"({x}, {y})" for x, y in written
        )
        words += f" </{grounding.kind}>"
        item = grounding(index, written, (at, at + len(words)), grounding.kind, label=f"the {name}")
        lifted = tuple(_lifted(pixel, place, pose) for pixel, place in points)
        pixels = tuple(pixel for pixel, _ in points)
        target = lifted[0] if grounding is not Box else _middle(lifted)
        shown = (target,) if grounding is Box else lifted
        return words, LiftedGrounding(item, frame, pixels, shown, target, BASE, confidence=0.91)

    def _seen(self, pose: RigidTransform, where: Vector3, offset: Vector3):
        place = tuple(a + b for a, b in zip(where, offset, strict=True))
        x, y, z = apply(invert(pose), place)[0]
        k = self.scene.camera_info.k
        return (float(k[0] * x / z + k[2]), float(k[4] * y / z + k[5])), place


@cache
def eye(width: int = 320) -> Eye:
    size = {"width": width, "height": width * 3 // 4, "focal_px": 0.82 * width}
    return Eye(replace(example_scene(1), **size))


@cache
def _frame(scene: Tabletop, stamp_ns: int) -> SelectedFrame:
    rgb, _ = scene.render(scene.pose_at(stamp_ns))
    jpeg = cv2.imencode(".jpg", np.ascontiguousarray(rgb[..., ::-1]))[1].tobytes()
    color = EncodedImage("rgb8; jpeg compressed bgr8", jpeg, compressed=True)
    frame = Frame("front", stamp_ns, OPTICAL_FRAME, color)
    digest = hashlib.sha256(jpeg).hexdigest()
    return SelectedFrame(frame, jpeg, "image/jpeg", digest, scene.width, scene.height)


def _lifted(pixel, place: Vector3, pose: RigidTransform) -> LiftedPoint:
    camera = tuple(float(v) for v in apply(invert(pose), place)[0])
    fixed = tuple(a + b for a, b in zip(place, SHIFT, strict=True))
    variance = (4e-6, 0.0, 0.0, 0.0, 4e-6, 0.0, 0.0, 0.0, 9e-6)
    return LiftedPoint(pixel, camera, variance, fixed, variance, 120)


def _middle(lifted: Sequence[LiftedPoint]) -> LiftedPoint:
    a, b = lifted
    pixel = ((a.pixel[0] + b.pixel[0]) / 2, (a.pixel[1] + b.pixel[1]) / 2)
    fixed = tuple((p + q) / 2 for p, q in zip(a.point_fixed_m, b.point_fixed_m, strict=True))
    return replace(a, pixel=pixel, point_fixed_m=fixed)


# --- parts of a turn -----------------------------------------------------------------------------


def stamp(seconds: float) -> int:
    return START_NS + round(seconds * SECOND)


def frames_at(seconds: float, n: int = 2) -> FrameSet:
    stamps = [max(0.0, seconds - 0.5 * k) for k in reversed(range(n))]
    return FrameSet(tuple(eye().frame(stamp(s)) for s in dict.fromkeys(stamps)))


def respond(
    frames: FrameSet, text: str, lifted: Sequence[LiftedGrounding] = (), **reading
) -> Response:
    query = Query("e1-q", Task.PLAN, TASK, frames)
    answer = Answer(
        "e1-q",
        text,
        FinishReason.STOP,
        "color-baseline",
        "color-baseline",
        timings=Timings(total_s=0.3),
    )
    groundings = tuple(item.grounding for item in lifted)
    return Response(query, answer, Reading(text, text, "", groundings, **reading), tuple(lifted))


def reach(xyz: Vector3, straight: bool = False) -> ReachGoal:
    return ReachGoal(RigidTransform(BASE, "panda_tcp", xyz, (1.0, 0.0, 0.0, 0.0)), straight, 0.3)


def above(xyz: Vector3, by_m: float) -> Vector3:
    return (xyz[0], xyz[1], xyz[2] + by_m)


def pick_motion(at: Vector3) -> Motion:
    goals: tuple[tuple[Stage, Goal], ...] = (
        (Stage.OPEN_HAND, GripGoal(0.08)),
        (Stage.PRE, reach(above(at, 0.12))),
        (Stage.APPROACH, reach(at, True)),
        (Stage.GRIP, GripGoal(0.0)),
        (Stage.LIFT, reach(above(at, 0.18), True)),
        (Stage.RETREAT, PostureGoal()),
    )
    return Motion(Skill.PICK, BASE, at, tuple(MotionStage(s, g) for s, g in goals), 0.06, 0.0)


def place_motion(at: Vector3) -> Motion:
    goals: tuple[tuple[Stage, Goal], ...] = (
        (Stage.PRE, reach(above(at, 0.15))),
        (Stage.APPROACH, reach(above(at, 0.03), True)),
        (Stage.RELEASE, GripGoal(0.08)),
        (Stage.LIFT, reach(above(at, 0.18), True)),
        (Stage.RETREAT, PostureGoal()),
    )
    return Motion(Skill.PLACE, BASE, at, tuple(MotionStage(s, g) for s, g in goals), 0.06, 0.012)


def gate(at_ns: int, refusal: Refusal | None = None) -> Decision:
    checks = (
        Check("armed", True, "armed, 54 s left"),
        Check("frame age", True, "0.31 s", "at most 2 s"),
        Check(
            "inside the workspace", True, "nearest wall 0.11 m", "0.25…0.75, −0.45…0.45, 0…0.6 m"
        ),
        Check("reach", True, "0.56 m", "0.25…0.80 m"),
        Check("certainty", True, "± 3.0 mm", "at most 15 mm"),
        Check("confidence", True, "0.91", "at least 0.5"),
        Check("scene unchanged", refusal is None, f"{38 if refusal else 1} mm", "at most 10 mm"),
        Check("speed", True, "0.30", "at most 0.60"),
    )
    return Decision(at_ns, checks, refusal)


def outcome(start_s, end_s, stages, cause=Cause.DONE, *, text="", width=math.nan) -> Outcome:
    words = text or "every stage succeeded"
    return Outcome(cause, words, stamp(start_s), stamp(end_s), stages, width)


TIMES = StageTimes(0.012, 0.312, 0.021, 0.003)


def pick_turn(number: int, at_s: float, *, cause=Cause.DONE, stages=6, text="", width=0.0596):
    frames = frames_at(at_s, 2 + number % 3)
    last = len(frames) - 1
    head = "Pick up the red cube at "
    words, grasp = eye().lift(Affordance, "red cube", frames[last], last, len(head))
    more, box = eye().lift(Box, "red cube", frames[last], last, len(head) + len(words) + 2)
    answer = respond(frames, f"{head}{words}, {more}.", (grasp, box))
    motion = pick_motion(grasp.target.point_fixed_m)
    end = outcome(at_s + 0.4, at_s + 6.1, stages, cause, text=text, width=width)
    step = Step(Skill.PICK, answer.answer.text, grasp, box)
    moves = (Move(motion, gate(stamp(at_s + 0.35)), end),)
    return TurnRecord(number, stamp(at_s), frames, answer, step, moves, times=TIMES)


def place_turn(number: int, at_s: float) -> TurnRecord:
    frames = frames_at(at_s)
    last = len(frames) - 1
    head = "Place it onto "
    words, area = eye().lift(Area, "yellow plate", frames[last], last, len(head))
    answer = respond(frames, f"{head}{words}.", (area,))
    motion = place_motion(area.target.point_fixed_m)
    step = Step(Skill.PLACE, answer.answer.text, area=area, preposition="onto")
    end = outcome(at_s + 0.4, at_s + 5.2, 5, width=0.08)
    moves = (Move(motion, gate(stamp(at_s + 0.35)), end),)
    return TurnRecord(number, stamp(at_s), frames, answer, step, moves, times=TIMES)


def done_turn(number: int, at_s: float, confirmed: bool = True) -> TurnRecord:
    frames = frames_at(at_s, 3)
    checks = (
        Check("thing at (0.72, 0.10, 0.04) m", True, "64% of its picture seen", "at least 12%"),
        Check("thing gone from (0.50, 0.17, 0.03) m", confirmed, "2% still there", "at most 30%"),
    )
    text = "looked again: everything is where it was meant to go"
    answer = respond(frames, "Done.", done=True)
    return TurnRecord(
        number,
        stamp(at_s),
        frames,
        answer,
        Step(Skill.DONE, "Done."),
        confirmation=Confirmation(confirmed, text, checks),
        times=TIMES,
    )


def episode(turns, status, cause, text, confirmed=False, *, end_s=14.0, task=TASK) -> Episode:
    return Episode(
        task, "color-baseline", tuple(turns), status, cause, text, confirmed, stamp(0), stamp(end_s)
    )


# --- whole episodes ------------------------------------------------------------------------------


def success() -> Episode:
    turns = (pick_turn(0, 0.0), place_turn(1, 6.6), done_turn(2, 12.2))
    text = "the red cube is seen on the yellow plate and no longer where it stood"
    return episode(turns, Status.SUCCEEDED, "done", text, True, end_s=12.8)


def absent() -> Episode:
    """The thing is not there, and the engine says so."""
    frames = frames_at(0.0)
    item = LiftedGrounding(
        NoGrounding(None, (), (0, 0), "", abstained=True),
        None,
        refusal=Refusal(RefusalCode.NO_GROUNDING, "the engine says that it is not in the picture"),
    )
    answer = respond(frames, "<no object>", (item,))
    refusal = Refusal(RefusalCode.NO_GROUNDING, "the answer points at nothing: <no object>")
    turn = TurnRecord(0, stamp(0), frames, answer, refusal=refusal, times=TIMES)
    task = "Put the purple cube onto the yellow plate"
    text = "the purple cube is not in the picture"
    return episode((turn,), Status.REFUSED, "no_grounding", text, end_s=0.6, task=task)


def scene_changed() -> Episode:
    """The gate sees that the thing has moved; the turn is asked again and succeeds."""
    first = pick_turn(0, 0.0)
    refusal = Refusal(
        RefusalCode.SCENE_CHANGED,
        "38 mm between the depth at the target and the answer's; allowed are 10 mm: ask again",
    )
    motion = replace(first.moves[0].motion, target_m=(0.56, 0.05, 0.05))
    refused = replace(first, moves=(Move(motion, gate(stamp(0.35), refusal)),), refusal=refusal)
    turns = (refused, pick_turn(1, 1.0), place_turn(2, 7.6), done_turn(3, 13.2))
    text = "looked again: everything is where it was meant to go"
    return episode(turns, Status.SUCCEEDED, "done", text, True, end_s=13.8)


def nothing_gripped() -> Episode:
    text = "grip: the fingers closed to 0.3 mm; the hand went back"
    turn = pick_turn(0, 0.0, cause=Cause.NOTHING_GRIPPED, stages=3, text=text, width=0.0003)
    again = pick_turn(1, 6.5, cause=Cause.NOTHING_GRIPPED, stages=3, text=text, width=0.0003)
    return episode((turn, again), Status.FAILED, "nothing_gripped", text, end_s=13.0)


def cancelled() -> Episode:
    text = "approach: a person stopped it"
    turn = pick_turn(0, 0.0, cause=Cause.CANCELLED, stages=2, text=text, width=math.nan)
    return episode((turn,), Status.CANCELLED, "cancelled", text, end_s=6.2)


def driving() -> Episode:
    """Two turns of four moves each, and an arrival."""
    plans = (("FORWARD", "FORWARD", "LEFT", "FORWARD"), ("FORWARD", "RIGHT", "FORWARD", "FORWARD"))
    turns = [_drive_turn(i, 9.0 * i, plan) for i, plan in enumerate(plans)]
    frames = frames_at(18.0)
    stop = respond(frames, "<STOP>", actions=("STOP",), done=True)
    sure = Confirmation(True, "0.61 m from the fridge, asked for again and seen", ())
    turns.append(TurnRecord(2, stamp(18.0), frames, stop, confirmation=sure, times=TIMES))
    text = "the base stands 0.61 m before the fridge"
    return episode(
        turns,
        Status.SUCCEEDED,
        "done",
        text,
        True,
        end_s=18.6,
        task="Go to the fridge in the kitchen",
    )


def _drive_turn(number: int, at_s: float, plan: Sequence[str]) -> TurnRecord:
    moves = []
    for k, action in enumerate(plan):
        goal = DriveGoal(0.25) if action == "FORWARD" else SpinGoal(math.pi / 6)
        motion = Motion(Skill.MOVE_TO, "odom", (math.nan,) * 3, (MotionStage(Stage.DRIVE, goal),))
        start_s = at_s + 0.5 + 2 * k
        decision = Decision(stamp(start_s), (Check("way free", True, "1.42 m", "at least 0.40 m"),))
        moves.append(Move(motion, decision, outcome(start_s, start_s + 1.9, 1)))
    frames = frames_at(at_s, 4)
    text = " ".join(f"<{action}>" for action in plan)
    answer = respond(frames, text, actions=tuple(plan))
    return TurnRecord(number, stamp(at_s), frames, answer, moves=tuple(moves), times=TIMES)


ALL = {f.__name__: f for f in (success, absent, scene_changed, nothing_gripped, cancelled, driving)}


# --- what was kept beside the episode ------------------------------------------------------------


def trace_of(task: Episode) -> list[tuple[int, Vector3]]:
    """A way of the tool through the poses of what moved, 20 points a second."""
    home = (0.31, 0.0, 0.49)
    knots: list[tuple[int, Vector3]] = [(task.start_ns, home)]
    for turn in task.turns:
        for move in turn.moves:
            if move.outcome is not None:
                knots += _knots(move, knots[-1][1], home)
    return [
        (
            stamp_ns,
            tuple(a + (b - a) * (stamp_ns - t0) / (t1 - t0) for a, b in zip(p, q, strict=True)),
        )
        for (t0, p), (t1, q) in pairwise(knots)
        if t1 > t0
        for stamp_ns in range(t0, t1, SECOND // 20)
    ]


def _knots(move: Move, start: Vector3, home: Vector3) -> list[tuple[int, Vector3]]:
    end = move.outcome
    step_ns = (end.end_ns - end.start_ns) // max(1, len(move.motion.stages))
    knots, place = [(end.start_ns, start)], start
    for i, stage in enumerate(move.motion.stages[: end.stages_done], 1):
        if isinstance(stage.goal, ReachGoal):
            place = stage.goal.T_base_tcp.translation_m
        elif isinstance(stage.goal, PostureGoal):
            place = home
        knots.append((end.start_ns + i * step_ns, place))
    return knots


def drive_trace(task: Episode) -> list[tuple[int, Vector3]]:
    x, y, yaw, way = 0.0, 0.0, 0.3, []
    for turn in task.turns:
        for move in turn.moves:
            goal = move.motion.stages[0].goal
            for k in range(20):
                at_ns = move.outcome.start_ns + k * SECOND // 11
                if isinstance(goal, DriveGoal):
                    x += goal.distance_m / 20 * math.cos(yaw)
                    y += goal.distance_m / 20 * math.sin(yaw)
                else:
                    yaw += goal.angle_rad / 20
                way.append((at_ns, (x, y, 0.0)))
    return way


def stages_of(task: Episode) -> tuple[StageBegan, ...]:
    """When each stage began, the time of a motion shared equally."""
    began = []
    for turn in task.turns:
        for move in turn.moves:
            if move.outcome is None:
                continue
            stages = move.motion.stages[: move.outcome.stages_done + 1]
            span = (move.outcome.end_ns - move.outcome.start_ns) // len(stages)
            began += [
                StageBegan(turn.number, move.outcome.start_ns + i * span, stage)
                for i, stage in enumerate(stages)
            ]
    return tuple(began)
