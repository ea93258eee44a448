"""A hand-over: the thing is carried to where people are offered things, and let go after a yes."""

from __future__ import annotations

from rynn_brain_ros.planning import motions
from rynn_brain_ros.planning.arm import Release, Scene, Target
from rynn_brain_ros.planning.holding import Doings, Handed
from rynn_brain_ros.values import Refusal, RefusalCode


def hand_over(doings: Doings, scene: Scene) -> Target | Refusal:
    """Two motions: the second, which opens the hand, needs a person's yes. OUT_OF_ORDER where
    nothing is held."""
    if doings.held is None:
        return Refusal(RefusalCode.OUT_OF_ORDER, "there is nothing in the hand to hand over")
    arm, held = scene.arm, doings.held
    carry = motions.hand_over(arm.hand_over_m, held.grasp, arm.motion)
    let_go = motions.let_go(arm.hand_over_m, held.grasp, arm.motion)
    back = motions.take_back(arm.hand_over_m, held.grasp, arm.motion)
    return Target(carry, release=Release(let_go, back, Handed(held, arm.hand_over_m)))
