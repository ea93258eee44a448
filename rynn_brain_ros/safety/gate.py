"""The gate: every check in a fixed order, and one decision with the numbers of all of them."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from rynn_brain_ros.geometry import apply, invert
from rynn_brain_ros.memory import OpenFrames
from rynn_brain_ros.safety import bounds, evidence, readiness, watching
from rynn_brain_ros.safety.engine_verdict import EngineVerdict
from rynn_brain_ros.safety.limits import SafetyLimits
from rynn_brain_ros.safety.proposal import Finding, Judgement, Proposal, Situation, refused
from rynn_brain_ros.safety.scene import Own, scene_unchanged
from rynn_brain_ros.safety.seeing import SeenFrames
from rynn_brain_ros.safety.watching import touched
from rynn_brain_ros.values import (
    Decision,
    Motion,
    Refusal,
    RefusalCode,
    RigidTransform,
    SelectedFrame,
    TransformError,
)

_LOG = logging.getLogger(__name__)

_CHECKS: tuple[Callable[[Judgement], Finding], ...] = (
    bounds.goals,
    evidence.groundings,
    evidence.answer_age,
    evidence.frame_age,
    bounds.finite,
    bounds.workspace,
    bounds.reach,
    bounds.support,
    bounds.robot,
    evidence.uncertainty,
    evidence.confidence,
    bounds.grip_width,
    bounds.force,
    bounds.speed,
    readiness.order,
    readiness.busy,
    watching.scene,
    watching.drive,
    watching.corridor,
    readiness.engine,
    readiness.armed,
    readiness.dry_run,
    readiness.approval,
)


class Gate:
    """Says yes or no to motions, within ``limits``. It keeps nothing between two of them but the
    frames it ``opened``, which others may have opened before. ``verdicts`` are of the engines that
    were checked.

    What lies between poses is checked where it is a straight line (the workspace is convex); the
    ways of joints are the actuator's own business.
    """

    def __init__(
        self,
        limits: SafetyLimits,
        opened: OpenFrames | None = None,
        verdicts: tuple[EngineVerdict, ...] = (),
    ) -> None:
        self.limits = limits
        self._verdicts = verdicts
        self._opened = opened or OpenFrames()

    def judge(self, proposal: Proposal, situation: Situation) -> Decision:
        """Runs all checks; the refusal is that of the first one that failed. Never raises for
        what a proposal holds."""
        seen = SeenFrames(self._opened)
        judgement = Judgement(proposal, situation, self.limits, seen, self._verdicts)
        findings = [_run(check, judgement) for check in _CHECKS]
        refusal = next((f.refusal for f in findings if f.refusal is not None), None)
        decision = Decision(situation.now_ns, tuple(f.check for f in findings), refusal)
        _log(proposal.motion, decision)
        return decision

    def target_moved(
        self,
        motion: Motion,
        then: SelectedFrame,
        now: SelectedFrame,
        T_base_fixed: RigidTransform | None = None,
        own: Own | None = None,
    ) -> Refusal | None:
        """Whether a place acted on no longer looks as it did ``then``: to be asked once more
        before the hand comes down. What the robot itself hides, ``own``, is not held against it.

        ``T_base_fixed`` may be left out where the poses are told in the motion's base frame.
        """
        pose = then.frame.T_fixed_camera
        told_elsewhere = pose is not None and pose.parent != motion.base_frame
        if pose is not None and told_elsewhere and T_base_fixed is None:
            return Refusal(
                RefusalCode.NO_TRANSFORM,
                f"the target is told in {motion.base_frame!r}, the pose of {then.frame.camera} "
                f"in {pose.parent!r}, and nothing connects them",
            )
        seen = SeenFrames(self._opened)
        beside = [place_m for _, place_m in touched(motion, self.limits.scene_radius_m)]
        for place_m in (motion.target_m, *beside):
            x, y, z = place_m
            if told_elsewhere and T_base_fixed is not None:
                x, y, z = map(float, apply(invert(T_base_fixed), place_m)[0])
            look = scene_unchanged(then, now, (x, y, z), self.limits, seen, own=own)
            if (refusal := look.refusal()) is not None:
                return refusal
        return None


def _run(check: Callable[[Judgement], Finding], judgement: Judgement) -> Finding:
    try:
        with np.errstate(all="ignore"):  # what diverges becomes NaN, and that passes nothing
            return check(judgement)
    except TransformError as error:
        return refused(check.__name__, RefusalCode.NO_TRANSFORM, str(error))


def _log(motion: Motion, decision: Decision) -> None:
    x, y, z = motion.target_m
    what = f"{motion.skill.value} at ({x:.3f}, {y:.3f}, {z:.3f}) m in {motion.base_frame!r}"
    passed = sum(check.passed for check in decision.checks)
    counted = f"{passed} of {len(decision.checks)} checks passed"
    if decision.refusal is None:
        _LOG.info("approved: %s; %s", what, counted)
    else:
        _LOG.warning("refused: %s; %s; %s", what, counted, decision.refusal)
