"""From a typed step to a motion: the frame it names, the depth behind it, and a grasp or a place.

A step's grounding names one recorded frame; everything here comes from that frame's depth and the
camera's pose at its stamp. What cannot be made concrete is refused by name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.geometry import (
    Capsule,
    DepthView,
    Grasp,
    GraspLimits,
    LiftLimits,
    PlaceKind,
    Placement,
    apply,
    compose,
    grasp_at,
    placement_again,
    placement_at,
    segment_at,
)
from rynn_brain_ros.memory import OpenFrames
from rynn_brain_ros.planning import motions
from rynn_brain_ros.planning.appearance import Appearance
from rynn_brain_ros.planning.holding import Doings, Taken
from rynn_brain_ros.planning.motions import MotionConfig
from rynn_brain_ros.values import (
    LiftedGrounding,
    LiftedPoint,
    Motion,
    Refusal,
    RefusalCode,
    RigidTransform,
    SelectedFrame,
    Skill,
    Step,
    Vector3,
)

Bounds = tuple[float, float, float, float]

_WITH_EMPTY_HAND = frozenset({Skill.PUSH, Skill.OPEN, Skill.CLOSE})
_MIN_PUSH_M = 0.01


@dataclass(frozen=True)
class Arm:
    """The robot that acts: its frames, and what its hand can do.

    ``links`` are the frames from the base to the tool, to know the robot in its own pictures.
    """

    base_frame: str = "panda_link0"
    tool_frame: str = "panda_tcp"
    links: tuple[str, ...] = ()
    link_radius_m: float = 0.1
    grasp: GraspLimits = field(default_factory=GraspLimits)
    motion: MotionConfig = field(default_factory=MotionConfig)
    hover_m: float = 0.15
    skills: frozenset[Skill] = frozenset(
        {
            Skill.PICK,
            Skill.PLACE,
            Skill.PUSH,
            Skill.OPEN,
            Skill.CLOSE,
            Skill.MOVE_TO,
            Skill.LOOK_AT,
        }
    )


@dataclass(frozen=True)
class Target:
    """A step made concrete. ``taken`` is what a pick will hold, ``place`` where a place will put
    it, if the motion succeeds."""

    motion: Motion
    taken: Taken | None = None
    place: Placement | None = None


@dataclass(frozen=True)
class Scene:
    """What is known beside the step: camera poses in the base frame, and where the robot was."""

    arm: Arm
    lift: LiftLimits
    T_base_fixed: RigidTransform
    opened: OpenFrames
    robot: tuple[Vector3, ...] = ()

    def camera(self, frame: SelectedFrame) -> RigidTransform | Refusal:
        """``T_base_camera`` at the frame's stamp."""
        pose = frame.frame.T_fixed_camera
        if pose is None:
            return frame.frame.pose_refusal or Refusal(
                RefusalCode.NO_TRANSFORM, "the camera's pose at the frame's stamp is unknown"
            )
        return compose(self.T_base_fixed, pose)

    @property
    def body(self) -> tuple[Capsule, ...]:
        """The robot itself, to be left out of the depth."""
        radius_m = self.arm.link_radius_m
        pairs = zip(self.robot, self.robot[1:], strict=False)
        return tuple(Capsule(a, b, radius_m) for a, b in pairs)


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
        return _push(step, scene)
    if step.skill in (Skill.OPEN, Skill.CLOSE):
        return _drag(step, scene)
    return _hover(step, scene)


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
    view, camera = scene.opened.depth(where.frame), scene.camera(where.frame)
    if isinstance(view, Refusal):
        return view
    if isinstance(camera, Refusal):
        return camera
    uv = where.target.pixel
    bounds = _bounds(step.thing, where.frame)
    grasp = grasp_at(uv, bounds, view, camera, scene.arm.grasp, scene.lift, exclude=scene.body)
    if isinstance(grasp, Refusal):
        return grasp
    segment = segment_at(uv, view, scene.lift)
    if isinstance(segment, Refusal):
        return segment
    rgb = scene.opened.color(where.frame)
    return Taken(grasp, Appearance.of(rgb, _inside(segment[1].pixels, bounds)), _middle(grasp))


def _place(step: Step, doings: Doings, scene: Scene) -> Target | Refusal:
    if doings.held is None:
        return Refusal(RefusalCode.OUT_OF_ORDER, "there is nothing in the hand to be placed")
    if step.area is None or step.area.frame is None:
        return Refusal(RefusalCode.INCOMPLETE_STEP, f"no place is named: {step.text!r}")
    view, camera = scene.opened.depth(step.area.frame), scene.camera(step.area.frame)
    if isinstance(view, Refusal):
        return view
    if isinstance(camera, Refusal):
        return camera
    held = doings.held.grasp
    where = _refilled(step.area, doings, scene, view, camera) or placement_at(
        step.area.points_px,
        view,
        camera,
        held.size_m,
        scene.arm.grasp,
        scene.lift,
        exclude=scene.body,
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
) -> Placement | None:
    """Into a container that this task has put something into before."""
    for put in reversed(doings.put):
        if put.place.kind is PlaceKind.CONTAINER and doings.held is not None:
            again = placement_again(
                put.place,
                area.points_px,
                view,
                T_base_camera,
                doings.held.grasp.size_m,
                lift=scene.lift,
                exclude=scene.body,
            )
            if again is not None:
                return again
    return None


def _push(step: Step, scene: Scene) -> Target | Refusal:
    taken = _take(step if step.path is None else _with_start(step), scene)
    if isinstance(taken, Refusal):
        return taken
    end = _end_of(step)
    if isinstance(end, Refusal):
        return end
    grasp, arm = taken.grasp, scene.arm
    line = (_middle(grasp), _in_base(end, scene))
    if math.dist(line[0][:2], line[1][:2]) < _MIN_PUSH_M:
        return Refusal(RefusalCode.INCOMPLETE_STEP, f"it is already there: {step.text!r}")
    motion = motions.push(
        line,
        max(grasp.size_m[:2]) / 2,
        grasp.support_z_m,
        motions.Frames(arm.base_frame, arm.tool_frame),
        arm.motion,
    )
    return Target(motion)


def _drag(step: Step, scene: Scene) -> Target | Refusal:
    taken = _take(step, scene)
    if isinstance(taken, Refusal):
        return taken
    if step.path is None or len(step.path.points) < 2:
        return Refusal(
            RefusalCode.INCOMPLETE_STEP,
            f"to {step.skill.value} it the hand needs a <trajectory> to follow: {step.text!r}",
        )
    path = [_in_base(point, scene) for point in step.path.points]
    return Target(motions.drag(step.skill, taken.grasp, path, scene.arm.motion))


def _hover(step: Step, scene: Scene) -> Target | Refusal:
    where = next(iter(step.groundings), None)
    if where is None or where.target is None:
        return Refusal(RefusalCode.INCOMPLETE_STEP, f"no place is named: {step.text!r}")
    arm = scene.arm
    place = _in_base(where.target, scene)
    x, y, z = place
    frames = motions.Frames(arm.base_frame, arm.tool_frame)
    motion = motions.hover(step.skill, (x, y, z + arm.hover_m), frames, arm.motion)
    return Target(motion)


def _with_start(step: Step) -> Step:
    """A push along a path without a thing named acts on what its path begins on."""
    return step if step.thing or step.grasp else replace(step, grasp=step.path)


def _end_of(step: Step) -> LiftedPoint | Refusal:
    if step.path is not None and step.path.points:
        return step.path.points[-1]
    if step.area is not None and step.area.target is not None:
        return step.area.target
    return Refusal(RefusalCode.INCOMPLETE_STEP, f"no end of the push is named: {step.text!r}")


def _in_base(point: LiftedPoint, scene: Scene) -> Vector3:
    """NaN where the point is known in the camera only: the gate refuses that."""
    if point.point_fixed_m is None:
        return (math.nan, math.nan, math.nan)
    x, y, z = (float(v) for v in apply(scene.T_base_fixed, point.point_fixed_m)[0])
    return (x, y, z)


def _bounds(thing: LiftedGrounding | None, frame: SelectedFrame) -> Bounds | None:
    """The thing's box in pixels, where it was drawn in the same frame."""
    if thing is None or thing.frame is None or thing.frame.frame.key != frame.frame.key:
        return None
    us, vs = zip(*thing.points_px, strict=True)
    return (min(us), min(vs), max(us), max(vs))


def _inside(pixels: NDArray[np.int64], bounds: Bounds | None) -> NDArray[np.int64]:
    if bounds is None:
        return pixels
    u, v = pixels[:, 0], pixels[:, 1]
    kept = (u >= bounds[0]) & (u <= bounds[2]) & (v >= bounds[1]) & (v <= bounds[3])
    return pixels[kept] if kept.any() else pixels


def _middle(grasp: Grasp) -> Vector3:
    x, y, _ = grasp.T_base_tcp.translation_m
    return (x, y, (grasp.top_z_m + grasp.support_z_m) / 2)
