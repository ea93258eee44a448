"""One question, end to end: engine → reading → pixels → metres.

This is the chain that nothing may break: a grounding's ``<frame i>`` is resolved to one recorded
frame here, and everything after (depth, intrinsics, pose at the stamp) comes from that frame.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from rynn_brain_ros.geometry import (
    DepthView,
    LiftLimits,
    lift_area,
    lift_box,
    lift_point,
    lift_trajectory,
    norm_to_pixel,
    to_fixed,
)
from rynn_brain_ros.language import StreamParser, coordinate_confidence, default_budget, parse
from rynn_brain_ros.memory import OpenFrames
from rynn_brain_ros.values import (
    Answer,
    AnyGrounding,
    Area,
    Box,
    Box3D,
    Cancel,
    Count,
    Engine,
    Flag,
    Frame,
    FrameSet,
    LiftedGrounding,
    LiftedPoint,
    NoGrounding,
    Point2,
    Query,
    Reading,
    Refusal,
    RefusalCode,
    Response,
    SelectedFrame,
    Task,
    Trajectory,
)

OnGrounding = Callable[[LiftedGrounding, bool], None]
_NOTHING = {
    "abstained": "the engine says that it is not there",
    "empty_answer": "the answer is empty",
    "no_item": "the answer points at nothing",
}
"""Why an answer has no grounding, by the parser's name for it."""


@dataclass(frozen=True)
class Question:
    """What to ask, without any format prompt."""

    text: str
    task: Task = Task.DESCRIBE
    thinking: bool = False
    abstain: bool = False


def make_query(number: int, question: Question, frames: FrameSet) -> Query:
    """The question about these frames. Its id depends on nothing else, so that it is the same
    in every replay."""
    parts = [question.task.value, question.text, str(question.thinking), str(question.abstain)]
    parts += [f"{f.frame.camera} {f.frame.stamp_ns}" for f in frames]
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    return Query(
        query_id=f"q{number:04d}-{digest[:8]}",
        task=question.task,
        instruction=question.text,
        frames=frames,
        budget=default_budget(question.task, question.thinking),
        thinking=question.thinking,
        abstain=question.abstain,
    )


def ask(
    engine: Engine,
    query: Query,
    limits: LiftLimits | None = None,
    on_text: Callable[[str], None] | None = None,
    cancel: Cancel | None = None,
    *,
    opened: OpenFrames | None = None,
    on_grounding: OnGrounding | None = None,
) -> Response:
    """Asks the engine and binds everything it points at to the frames of the question.

    Raises `EngineError` when there is no answer; an answer that cannot be used is no error but a
    `Response` whose groundings carry refusals. ``opened`` keeps frames open for whoever looks next.
    ``on_grounding`` gets each grounding as its tag closes, to be shown: bound, its confidence not
    yet known, and whether it is part of the reasoning as far as the text says by then.
    """
    lifting = _Lifting(limits or LiftLimits(), opened or OpenFrames())
    if on_grounding is not None:
        on_text = _tell_groundings(query, lifting, on_grounding, on_text)
    answer = engine.ask(query, on_text, cancel)
    reading = parse(
        answer.text,
        len(query.frames),
        task=query.task,
        finish_reason=answer.finish_reason,
        thinking=query.thinking,
    )
    bound = [_bind(g, query.frames, lifting, answer) for g in reading.groundings]
    return Response(
        query=query,
        answer=answer,
        reading=reading,
        lifted=tuple(_explained(lifted, reading) for lifted in bound),
        reasoning=tuple(_bind(g, query.frames, lifting, answer) for g in reading.reasoning),
    )


@dataclass(frozen=True)
class _Lifting:
    limits: LiftLimits
    opened: OpenFrames


def _tell_groundings(
    query: Query,
    lifting: _Lifting,
    on_grounding: OnGrounding,
    on_text: Callable[[str], None] | None,
) -> Callable[[str], None]:
    parser = StreamParser(len(query.frames), query.task, thinking=query.thinking)

    def tell(piece: str) -> None:
        if on_text is not None:
            on_text(piece)
        for found in parser.feed(piece):
            on_grounding(_bind(found.grounding, query.frames, lifting), found.is_reasoning)

    return tell


def _explained(lifted: LiftedGrounding, reading: Reading) -> LiftedGrounding:
    """Nothing usable, though the answer tried: what was wrong with it says more."""
    unusable = isinstance(lifted.grounding, NoGrounding) and not lifted.grounding.abstained
    if not unusable or not reading.rejected:
        return lifted
    detail = reading.rejected[0].detail
    return replace(lifted, refusal=Refusal(RefusalCode.NO_GROUNDING, f"unusable answer: {detail}"))


def _bind(
    grounding: AnyGrounding, frames: FrameSet, lifting: _Lifting, answer: Answer | None = None
) -> LiftedGrounding:
    """Without ``answer``, while it is being written, the confidence is not known."""
    index = grounding.frame
    selected = frames[index] if index is not None and index < len(frames) else None
    bound = LiftedGrounding(
        grounding=grounding,
        frame=selected,
        points_px=_pixels(grounding, selected),
        confidence=math.nan
        if answer is None
        else coordinate_confidence(grounding, answer.text, answer.token_probabilities),
    )
    refusal = _grounding_refusal(grounding, len(frames))
    if refusal is not None or selected is None:
        return replace(bound, refusal=refusal)
    view = lifting.opened.depth(selected)
    if isinstance(view, Refusal):
        return replace(bound, refusal=view)
    return _lift(bound, selected.frame, view, lifting.limits)


def _pixels(grounding: AnyGrounding, selected: SelectedFrame | None) -> tuple[Point2, ...]:
    if selected is None:
        return ()
    return norm_to_pixel(grounding.points, selected.width, selected.height)


def _grounding_refusal(grounding: AnyGrounding, n_frames: int) -> Refusal | None:
    """Why this grounding may not become a place in space, whatever the depth says."""
    if isinstance(grounding, NoGrounding):
        return Refusal(RefusalCode.NO_GROUNDING, _NOTHING.get(grounding.reason, grounding.reason))
    if isinstance(grounding, Count | Box3D):
        return Refusal(RefusalCode.NOT_SPATIAL, f"a {grounding.kind} names no pixels to lift")
    if grounding.frame is None:
        return Refusal(
            RefusalCode.FRAME_IMPLICIT,
            f"{n_frames} frames were shown and the answer does not say which one it means",
        )
    if Flag.OUT_OF_RANGE in grounding.flags:
        return Refusal(
            RefusalCode.OUT_OF_RANGE,
            f"coordinates {list(grounding.points)} are not all within 0…1000 of the image",
        )
    if not grounding.actionable:
        flags = ", ".join(sorted(flag.value for flag in grounding.flags))
        return Refusal(RefusalCode.INCOMPLETE, f"the {grounding.kind} cannot be used: {flags}")
    return None


def _lift(
    bound: LiftedGrounding, frame: Frame, view: DepthView, limits: LiftLimits
) -> LiftedGrounding:
    pose_refusal = frame.pose_refusal
    if pose_refusal is not None and pose_refusal.code is RefusalCode.NOT_OPTICAL:
        # Not even the camera's own frame is right then: z forward would be sent as x forward.
        return replace(bound, refusal=pose_refusal)
    points, target = _lift_points(bound, view, limits)
    if isinstance(target, Refusal):
        return replace(bound, refusal=target)
    pose = frame.T_fixed_camera
    if pose is None:
        return replace(bound, points=points, target=target, pose_refusal=pose_refusal)
    return replace(
        bound,
        points=tuple(to_fixed(point, pose) for point in points),
        target=to_fixed(target, pose),
        fixed_frame_id=pose.parent,
    )


def _lift_points(
    bound: LiftedGrounding, view: DepthView, limits: LiftLimits
) -> tuple[tuple[LiftedPoint, ...], LiftedPoint | Refusal]:
    """All lifted points and the one that stands for them, or why there is none."""
    grounding, points_px = bound.grounding, bound.points_px
    if isinstance(grounding, Box):
        (ua, va), (ub, vb) = points_px
        box = lift_box((min(ua, ub), min(va, vb), max(ua, ub), max(va, vb)), view, limits)
        return _single(box if isinstance(box, Refusal) else box[0])
    if isinstance(grounding, Area):
        area = lift_area(points_px, view, limits)
        if isinstance(area, Refusal):
            return (), area
        return tuple(p for p in area.points if isinstance(p, LiftedPoint)), area.target
    if isinstance(grounding, Trajectory):
        path = lift_trajectory(points_px, view, limits)
        return ((), path) if isinstance(path, Refusal) else (path, path[0])
    # An affordance, a contact point, or the middle of a grasp rectangle's corners.
    center = tuple(sum(axis) / len(points_px) for axis in zip(*points_px, strict=True))
    return _single(lift_point((center[0], center[1]), view, limits))


def _single(
    lifted: LiftedPoint | Refusal,
) -> tuple[tuple[LiftedPoint, ...], LiftedPoint | Refusal]:
    return ((), lifted) if isinstance(lifted, Refusal) else ((lifted,), lifted)
