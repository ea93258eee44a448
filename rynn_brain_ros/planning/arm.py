"""The arm, the scene in front of it as one frame shows it, and what a step becomes there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from rynn_brain_ros.geometry import (
    Bounds,
    Capsule,
    DepthView,
    GraspLimits,
    LiftLimits,
    Placement,
    apply,
    compose,
)
from rynn_brain_ros.memory import OpenFrames
from rynn_brain_ros.planning.holding import Handed, Poured, Shifted, Taken
from rynn_brain_ros.planning.motions import Frames, MotionConfig
from rynn_brain_ros.values import (
    LiftedGrounding,
    LiftedPoint,
    Motion,
    Refusal,
    RefusalCode,
    RigidTransform,
    SelectedFrame,
    Skill,
    Vector3,
)


@dataclass(frozen=True)
class Arm:
    """The robot that acts: its frames, and what its hand can do.

    ``links`` are the frames from the base to the tool, to know the robot in its own pictures.
    ``hand_over_m`` is where the tool offers a thing to a person, in the base frame.
    """

    base_frame: str = "panda_link0"
    tool_frame: str = "panda_tcp"
    links: tuple[str, ...] = ()
    link_radius_m: float = 0.135
    grasp: GraspLimits = field(default_factory=GraspLimits)
    motion: MotionConfig = field(default_factory=MotionConfig)
    hover_m: float = 0.15
    hand_over_m: Vector3 = (0.45, -0.35, 0.35)
    skills: frozenset[Skill] = frozenset(skill for skill in Skill if skill is not Skill.DONE)

    @property
    def frames(self) -> Frames:
        return Frames(self.base_frame, self.tool_frame)

    def body(self, links_m: Sequence[Vector3]) -> tuple[Capsule, ...]:
        """What the arm fills, its links' origins being at ``links_m`` in its base frame."""
        return tuple(Capsule(a, b, self.link_radius_m) for a, b in pairwise(links_m))


@dataclass(frozen=True)
class Release:
    """The second motion of a hand-over, begun only after a person's yes, and what it gives;
    ``back`` takes it away again where there is none."""

    motion: Motion
    back: Motion
    handed: Handed


@dataclass(frozen=True)
class Target:
    """A step made concrete, and what will have been done if the motion succeeds: ``taken`` is what
    a pick will hold, ``place`` where a place will put it, ``shifted`` what a push or a pull moves,
    ``poured`` what a pour empties, ``release`` how a person is given what is held out to them.
    """

    motion: Motion
    taken: Taken | None = None
    place: Placement | None = None
    shifted: Shifted | None = None
    poured: Poured | None = None
    release: Release | None = None


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

    def seen(self, frame: SelectedFrame) -> tuple[DepthView, RigidTransform] | Refusal:
        """The frame's depth and ``T_base_camera``."""
        view, camera = self.opened.depth(frame), self.camera(frame)
        if isinstance(view, Refusal):
            return view
        return camera if isinstance(camera, Refusal) else (view, camera)

    @property
    def body(self) -> tuple[Capsule, ...]:
        """The robot itself, to be left out of the depth."""
        return self.arm.body(self.robot)

    def in_base(self, point: LiftedPoint) -> Vector3:
        """NaN where the point is known in the camera only: the gate refuses that."""
        if point.point_fixed_m is None:
            return (math.nan, math.nan, math.nan)
        x, y, z = (float(v) for v in apply(self.T_base_fixed, point.point_fixed_m)[0])
        return (x, y, z)

    def on_level(self, path: LiftedGrounding, z_m: float) -> list[Vector3] | Refusal:
        """A drawn path as it goes level at ``z_m``, as what slides does: what lies below it in the
        picture says nothing about how far it goes."""
        assert path.frame is not None
        seen = self.seen(path.frame)
        if isinstance(seen, Refusal):
            return seen
        view, camera = seen
        eye = np.array(camera.translation_m)
        rays = apply(camera, view.camera.pixel_to_ray(path.points_px)) - eye
        reach = (z_m - eye[2]) / rays[:, 2]
        if not (np.isfinite(reach).all() and (reach > 0).all()):
            return Refusal(RefusalCode.NO_TRANSFORM, "the path does not lie below the camera")
        return [(float(x), float(y), z_m) for x, y, _ in eye + reach[:, None] * rays]


def bounds_of(thing: LiftedGrounding | None, frame: SelectedFrame) -> Bounds | None:
    """The thing's box in pixels, where it was drawn in the same frame."""
    if thing is None or thing.frame is None or thing.frame.frame.key != frame.frame.key:
        return None
    us, vs = zip(*thing.points_px, strict=True)
    return (min(us), min(vs), max(us), max(vs))
