"""From a typed step to a motion: the frame it names, the depth behind it, and a grasp or a place.

A step's grounding names one recorded frame; everything here comes from that frame's depth and the
camera's pose at its stamp. What cannot be made concrete is refused by name.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.geometry import (
    Bounds,
    DepthView,
    Grasp,
    PlaceKind,
    Placement,
    grasp_at,
    placement_again,
    placement_at,
)
from rynn_brain_ros.planning import motions
from rynn_brain_ros.planning.appearance import Appearance
from rynn_brain_ros.planning.arm import Scene, Target, bounds_of
from rynn_brain_ros.planning.handing import hand_over
from rynn_brain_ros.planning.holding import Doings, Taken
from rynn_brain_ros.planning.pouring import pour
from rynn_brain_ros.planning.pushing import push
from rynn_brain_ros.planning.remeasuring import Shift, remember
from rynn_brain_ros.values import (
    LiftedGrounding,
    Refusal,
    RefusalCode,
    RigidTransform,
    Skill,
    Step,
    Vector3,
)

_BESIDE = ("next to", "beside")
_WITH_EMPTY_HAND = frozenset({Skill.PUSH, Skill.OPEN, Skill.CLOSE})


def make_target(step: Step, doings: Doings, scene: Scene) -> Target | Refusal:
    """The motion of a step, or why there is none."""
    if step.skill not in scene.arm.skills:
        known = ", ".join(sorted(skill.value for skill in scene.arm.skills))
        return Refusal(
            RefusalCode.UNSUPPORTED_SKILL,
            f"this robot has no motion for {step.skill.value!r}; it can: {known}",
        )
    if doings.held is not None and step.skill in _WITH_EMPTY_HAND:
        return Refusal(
            RefusalCode.OUT_OF_ORDER, f"{step.skill.value} needs an empty hand: place it first"
        )
    if step.skill is Skill.PICK:
        return _pick(step, scene)
    if step.skill is Skill.PLACE:
        return _place(step, doings, scene)
    if step.skill is Skill.PUSH:
        return push(step, scene)
    if step.skill is Skill.POUR:
        return pour(step, doings, scene)
    if step.skill is Skill.HAND_OVER:
        return hand_over(doings, scene)
    if step.skill in (Skill.OPEN, Skill.CLOSE):
        return _drag(step, scene)
    return _hover(step, doings, scene)


def _pick(step: Step, scene: Scene) -> Target | Refusal:
    taken = _take(step, scene)
    if isinstance(taken, Refusal):
        return taken
    return Target(motions.pick(taken.grasp, scene.arm.motion), taken)


def _take(step: Step, scene: Scene) -> Taken | Refusal:
    """How the thing that a step acts on is gripped, and what it looks like."""
    where = step.grasp or step.thing
    if where is None or where.frame is None or where.target is None:
        return Refusal(RefusalCode.INCOMPLETE_STEP, f"nothing to grip is named: {step.text!r}")
    seen = scene.seen(where.frame)
    if isinstance(seen, Refusal):
        return seen
    view, camera = seen
    uv = where.target.pixel
    bounds = bounds_of(step.thing, where.frame)
    grasp = grasp_at(uv, bounds, view, camera, scene.arm.grasp, scene.lift, exclude=scene.body)
    if isinstance(grasp, Refusal):
        return grasp
    looks = Appearance.of(scene.opened.color(where.frame), _inside(grasp.pixels, bounds))
    return Taken(grasp, looks, _middle(grasp))


def _place(step: Step, doings: Doings, scene: Scene) -> Target | Refusal:
    if doings.held is None:
        return Refusal(RefusalCode.OUT_OF_ORDER, "there is nothing in the hand to be placed")
    if step.area is None or step.area.frame is None:
        return Refusal(RefusalCode.INCOMPLETE_STEP, f"no place is named: {step.text!r}")
    seen = scene.seen(step.area.frame)
    if isinstance(seen, Refusal):
        return seen
    view, camera = seen
    held = doings.held.grasp
    beside = step.preposition in _BESIDE
    again = None if beside else _refilled(step.area, doings, scene, view, camera)
    where = again or placement_at(
        step.area.points_px,
        view,
        camera,
        held.size_m,
        scene.arm.grasp,
        scene.lift,
        exclude=scene.body,
        container=False if beside else None,
        grasp=held,
    )
    if isinstance(where, Refusal):
        return where
    return Target(motions.place(held, where, scene.arm.motion), doings.held, where)


def _refilled(
    area: LiftedGrounding,
    doings: Doings,
    scene: Scene,
    view: DepthView,
    T_base_camera: RigidTransform,
) -> Placement | Refusal | None:
    """Into a container that this task has put something into before."""
    for put in reversed(doings.put):
        if put.place.kind is PlaceKind.CONTAINER and doings.held is not None:
            again = placement_again(
                put.place,
                area.points_px,
                view,
                T_base_camera,
                doings.held.grasp.size_m,
                scene.arm.grasp,
                scene.lift,
                exclude=scene.body,
                grasp=doings.held.grasp,
            )
            if again is not None:
                return again
    return None


def _drag(step: Step, scene: Scene) -> Target | Refusal:
    taken = _take(step, scene)
    if isinstance(taken, Refusal):
        return taken
    if step.path is None or len(step.path.points) < 2:
        return Refusal(
            RefusalCode.INCOMPLETE_STEP,
            f"to {step.skill.value} it the hand needs a <trajectory> to follow: {step.text!r}",
        )
    path = scene.on_level(step.path, scene.in_base(step.path.points[0])[2])
    if isinstance(path, Refusal):
        return path
    grasp, (x, y, z) = taken.grasp, taken.from_m
    dx, dy, _ = np.subtract(path[-1], path[0])
    shift = Shift(taken.from_m, (x + dx, y + dy, z), grasp.size_m, grasp.support_z_m)
    assert step.grasp is not None and step.grasp.frame is not None
    shifted = remember(shift, taken.looks, step.grasp.frame, scene)
    if isinstance(shifted, Refusal):
        return shifted
    return Target(motions.drag(step.skill, grasp, path, scene.arm.motion), shifted=shifted)


def _hover(step: Step, doings: Doings, scene: Scene) -> Target | Refusal:
    """Over a place, with as much room below the thing in the hand as below the empty hand."""
    where = next(iter(step.groundings), None)
    if step.skill is Skill.MOVE_TO:
        # "To <area> next to <object>" goes to the area: that is what `steps` requires first.
        where = step.area or step.thing or step.grasp
    if where is None or where.target is None:
        return Refusal(RefusalCode.INCOMPLETE_STEP, f"no place is named: {step.text!r}")
    arm = scene.arm
    x, y, z = scene.in_base(where.target)
    if not np.isfinite((x, y, z)).all():
        return Refusal(
            RefusalCode.NO_TRANSFORM,
            "the camera's pose at the stamp of the frame that is pointed into is unknown",
        )
    below_m = 0.0 if doings.held is None else doings.held.grasp.bottom_below_tcp_m
    over = (x, y, z + arm.hover_m + below_m)
    return Target(motions.hover(step.skill, over, arm.frames, arm.motion))


def _inside(pixels: NDArray[np.int64], bounds: Bounds | None) -> NDArray[np.int64]:
    if bounds is None:
        return pixels
    u, v = pixels[:, 0], pixels[:, 1]
    kept = (u >= bounds[0]) & (u <= bounds[2]) & (v >= bounds[1]) & (v <= bounds[3])
    return pixels[kept] if kept.any() else pixels


def _middle(grasp: Grasp) -> Vector3:
    (x, y, _), (dx, dy) = grasp.T_base_tcp.translation_m, grasp.middle_offset_m
    return (x + dx, y + dy, (grasp.top_z_m + grasp.support_z_m) / 2)
