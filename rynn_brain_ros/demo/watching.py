"""What the brain points at and means to do, shown in the window in which one watches."""

from __future__ import annotations

from rynn_brain_ros.planning.episode import Answered, Decided, EpisodeEvent, Tell
from rynn_brain_ros.sim.viewing import ALLOWED, REFUSED, Window
from rynn_brain_ros.values import (
    FollowGoal,
    Goal,
    Motion,
    NavigateGoal,
    ReachGoal,
    RigidTransform,
    Vector3,
)


def watched(tell: Tell, window: Window | None) -> Tell:
    """``tell``, and what it is told is shown in the window, where there is one."""

    def told(event: EpisodeEvent) -> None:
        tell(event)
        if window is not None:
            _show(event, window)

    return told


def _show(event: EpisodeEvent, window: Window) -> None:
    """Where an answer points to, then the way that the gate allowed or refused, until the next
    answer. Answers are bound to the fixed frame, ways to the arm's base or to the map: in a
    simulated world all of them are where its model begins."""
    if isinstance(event, Answered):
        lifted = (bound.target for bound in event.response.lifted)
        places = (target.point_fixed_m for target in lifted if target is not None)
        window.mark([place for place in places if place is not None])
    elif isinstance(event, Decided):
        color = ALLOWED if event.decision.approved else REFUSED
        way = _way(event.motion)
        window.mark([event.motion.target_m] if way else [], way, color)


def _way(motion: Motion) -> list[Vector3]:
    """Through all poses that the motion names; empty where it names none."""
    return [pose.translation_m for stage in motion.stages for pose in _poses(stage.goal)]


def _poses(goal: Goal) -> tuple[RigidTransform, ...]:
    if isinstance(goal, ReachGoal):
        return (goal.T_base_tcp,)
    if isinstance(goal, FollowGoal):
        return goal.path
    return (goal.T_map_base,) if isinstance(goal, NavigateGoal) else ()
