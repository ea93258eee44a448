"""The checks of what a motion rests on: the groundings, their age, and how sure they are.

Every comparison is written so that NaN fails it.
"""

from __future__ import annotations

import math

import numpy as np

from rynn_brain_ros.safety.proposal import Finding, Judgement, called, passed, refused
from rynn_brain_ros.values import (
    Flag,
    LiftedGrounding,
    LiftedPoint,
    Refusal,
    RefusalCode,
    Trajectory,
)

_MAX_AHEAD_S = 0.1
"""How far a stamp may lie in the future: the clocks of two machines are never quite one."""


# --- the chain ----------------------------------------------------------------------------------


def groundings(j: Judgement) -> Finding:
    """The chain of evidence: each target is complete, bound to a frame of the answer, and lifted
    into the fixed frame."""
    allowed = f"targets bound to a frame of the answer, with places in {j.fixed_frame!r}"
    T_base_fixed = j.situation.T_base_fixed
    if j.reaches and T_base_fixed is not None and T_base_fixed.parent != j.motion.base_frame:
        found = f"T_base_fixed is of {T_base_fixed.parent!r}, the goals of {j.motion.base_frame!r}"
        return refused("groundings", RefusalCode.NO_TRANSFORM, found, "one base")
    if j.reaches and not j.proposal.groundings:
        found = "the arm would move and nothing is pointed at"
        return refused("groundings", RefusalCode.NO_GROUNDING, found, allowed)
    for target in j.proposal.groundings:
        refusal = _grounding_refusal(target, j)
        if refusal is not None:
            found = f"{called(target)}: {refusal.text}"
            return refused("groundings", refusal.code, found, allowed, "ask again")
    return passed("groundings", f"{len(j.proposal.groundings)} complete", allowed)


def _grounding_refusal(target: LiftedGrounding, j: Judgement) -> Refusal | None:
    return _unusable(target) or _unbound(target, j) or _unlifted(target, j)


def _unusable(target: LiftedGrounding) -> Refusal | None:
    grounding = target.grounding
    if target.refusal is not None:
        return target.refusal
    if grounding.frame is None or Flag.FRAME_IMPLICIT in grounding.flags:
        return Refusal(RefusalCode.FRAME_IMPLICIT, "it does not say which frame it means")
    if Flag.OUT_OF_RANGE in grounding.flags:
        text = f"coordinates {list(grounding.points)} are not all within 0…1000"
        return Refusal(RefusalCode.OUT_OF_RANGE, text)
    if not grounding.actionable:
        flags = ", ".join(sorted(flag.value for flag in grounding.flags))
        return Refusal(RefusalCode.INCOMPLETE, f"it may not become motion: {flags}")
    return None


def _unbound(target: LiftedGrounding, j: Judgement) -> Refusal | None:
    index, frames = target.grounding.frame, j.proposal.frames
    if index is None or not 0 <= index < len(frames):
        text = f"<frame {index}> is not one of the {len(frames)} that were shown"
        return Refusal(RefusalCode.FRAME_IMPLICIT, text)
    shown, bound = frames[index], target.frame
    if bound is None or (bound.frame.key, bound.sha256) != (shown.frame.key, shown.sha256):
        text = f"it is not bound to the picture that was shown as <frame {index}>"
        return Refusal(RefusalCode.FRAME_IMPLICIT, text)
    return None


def _unlifted(target: LiftedGrounding, j: Judgement) -> Refusal | None:
    if target.target is None:
        return Refusal(RefusalCode.NO_DEPTH, "it has no place in space")
    if target.target.point_fixed_m is None:
        unknown = Refusal(RefusalCode.NO_TRANSFORM, "the camera's pose at its stamp is unknown")
        return target.pose_refusal or unknown
    if target.fixed_frame_id != j.fixed_frame:
        text = f"its place is told in {target.fixed_frame_id!r}, not in {j.fixed_frame!r}"
        return Refusal(RefusalCode.NO_TRANSFORM, text)
    return None


# --- how old it is ------------------------------------------------------------------------------


def answer_age(j: Judgement) -> Finding:
    return _age(j, "answer_age", "the answer", j.proposal.answered_ns, j.limits.max_answer_age_s)


def frame_age(j: Judgement) -> Finding:
    newest, limit_s = j.situation.newest, j.limits.max_frame_age_s
    if newest is None:
        return refused("frame_age", RefusalCode.STALE, "there is no image of now", f"{limit_s:g} s")
    what = f"the newest image of {newest.frame.camera!r}"
    return _age(j, "frame_age", what, newest.frame.stamp_ns, limit_s)


def _age(j: Judgement, name: str, what: str, stamp_ns: int, limit_s: float) -> Finding:
    age_s = (j.situation.now_ns - stamp_ns) / 1e9
    allowed = f"at most {limit_s:g} s"
    if age_s < -_MAX_AHEAD_S:
        found = f"{what} is {-age_s:.3f} s in the future"
        return refused(name, RefusalCode.STALE, found, allowed, "do the clocks agree?")
    found = f"{what} is {age_s:.3f} s old"
    if age_s > limit_s:
        return refused(name, RefusalCode.STALE, found, allowed, "look and ask again")
    return passed(name, found, allowed)


# --- how sure it is -----------------------------------------------------------------------------


def uncertainty(j: Judgement) -> Finding:
    """The standard deviation of every measured point that is gone to, and of what is gripped."""
    limit_m, largest_m = j.limits.max_sigma_m, 0.0
    allowed = f"at most {limit_m:.4f} m"
    for target in j.proposal.groundings:
        for point in target.points if target.target is None else (target.target, *target.points):
            sigma_m = _sigma_m(point)
            if math.isnan(sigma_m) or (_is_gone_to(point, target) and sigma_m > limit_m):
                found = f"{called(target)} is known to ±{sigma_m:.4f} m"
                return refused("uncertainty", RefusalCode.UNCERTAIN, found, allowed, "go nearer")
            if _is_gone_to(point, target):
                largest_m = max(largest_m, sigma_m)
    grip_m = j.motion.grip_sigma_m
    if grip_m is not None and not grip_m <= limit_m:
        found = f"the middle of what is gripped is known to ±{grip_m:.4f} m"
        return refused("uncertainty", RefusalCode.UNCERTAIN, found, allowed, "go nearer")
    # A grip that is sure enough is not in the text: recorded decisions stay comparable.
    return passed("uncertainty", f"±{largest_m:.4f} m at most", allowed)


def _is_gone_to(point: LiftedPoint, target: LiftedGrounding) -> bool:
    """The point that stands for a target, and both ends of a drawn path: the rest is on the way
    or only says where there is room."""
    ends = isinstance(target.grounding, Trajectory) and not point.interpolated
    return point is target.target or ends


def _sigma_m(point: LiftedPoint) -> float:
    matrices = (point.covariance_camera_m2, point.covariance_fixed_m2 or ())
    if not all(np.isfinite(matrix).all() for matrix in matrices):
        return math.nan
    return point.sigma_m


def confidence(j: Judgement) -> Finding:
    """How sure the engine was of its coordinates; NaN is its silence."""
    limit, unknown = j.limits.min_confidence, j.limits.unknown_confidence
    allowed = f"at least {limit:g}, unknown: {unknown}"
    for target in j.proposal.groundings:
        value = target.confidence
        if math.isnan(value) and unknown == "allow":
            continue
        if not value >= limit:
            found = f"{called(target)} has the confidence {value:.3f}"
            return refused("confidence", RefusalCode.LOW_CONFIDENCE, found, allowed, "ask again")
    told = ", ".join(f"{target.confidence:.2f}" for target in j.proposal.groundings)
    return passed("confidence", f"confidences {told or 'of nothing'}", allowed)
