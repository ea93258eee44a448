"""MoveIt's planning scene for the simulated arm: what others say stands in the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rynn_brain_ros.geometry import compose
from rynn_brain_ros.geometry.transforms import normalized
from rynn_brain_ros.sim.moveit import FrameOf
from rynn_brain_ros.sim.panda import BASE_FRAME
from rynn_brain_ros.sim.rendering import load_mujoco
from rynn_brain_ros.values import InputError, RigidTransform, TransformError

_ADD, _REMOVE, _APPEND = 0, 1, 2  # CollisionObject.operation; MOVE is 3
_BOX, _SPHERE, _CYLINDER = 1, 2, 3  # SolidPrimitive.type


@dataclass(frozen=True)
class Obstacle:
    """``sizes_m`` as shape_msgs/SolidPrimitive has them."""

    id: str
    kind: int
    sizes_m: tuple[float, ...]
    T_base_shape: RigidTransform


class PlanningScene:
    """What has been added and not removed. ``spec`` makes a fresh ``mjSpec`` of the world."""

    def __init__(self, spec: Callable[[], Any], frame_of: FrameOf) -> None:
        self._spec, self._frame_of = spec, frame_of
        self._obstacles: list[Obstacle] = []

    @property
    def obstacles(self) -> tuple[Obstacle, ...]:
        return tuple(self._obstacles)

    def apply(self, scene: Any) -> None:
        """A moveit_msgs/PlanningScene. What is attached to the hand is no obstacle any more, and
        is not looked after either. Raises `InputError`, and changes nothing then."""
        kept = list(self._obstacles) if scene.is_diff else []
        for object_ in scene.world.collision_objects:
            kept = self._with(kept, object_)
        for attached in scene.robot_state.attached_collision_objects:
            kept = [obstacle for obstacle in kept if obstacle.id != attached.object.id]
        self._obstacles = kept

    def copy(self) -> PlanningScene:
        """The same obstacles, to be changed apart from these."""
        copied = PlanningScene(self._spec, self._frame_of)
        copied._obstacles = list(self._obstacles)
        return copied

    def model(self) -> Any:
        """The world's model with the obstacles in it, for `Kinematics`."""
        mj = load_mujoco()
        spec = self._spec()
        for number, obstacle in enumerate(self._obstacles):
            x, y, z, w = obstacle.T_base_shape.rotation_xyzw
            spec.worldbody.add_geom(
                name=f"{obstacle.id} ({number})",
                type=_geom(mj, obstacle.kind),
                size=_half_sizes(obstacle),
                pos=obstacle.T_base_shape.translation_m,
                quat=(w, x, y, z),
            )
        return spec.compile()

    def _with(self, kept: list[Obstacle], object_: Any) -> list[Obstacle]:
        operation = (
            int.from_bytes(object_.operation, "little")
            if isinstance(object_.operation, bytes)
            else int(object_.operation)
        )
        others = [obstacle for obstacle in kept if obstacle.id != object_.id]
        if operation == _REMOVE:
            return others if object_.id else []
        if operation not in (_ADD, _APPEND):
            raise InputError(f"'{object_.id}': objects can be added and removed, but not moved")
        if object_.meshes or object_.planes:
            raise InputError(f"'{object_.id}': only boxes, spheres and cylinders can be looked at")
        new = [
            self._obstacle(object_, primitive, pose)
            for primitive, pose in zip(object_.primitives, object_.primitive_poses, strict=True)
        ]
        return [*(kept if operation == _APPEND else others), *new]

    def _obstacle(self, object_: Any, primitive: Any, pose: Any) -> Obstacle:
        if int(primitive.type) not in (_BOX, _SPHERE, _CYLINDER):
            raise InputError(f"'{object_.id}': only boxes, spheres and cylinders can be looked at")
        T_base_frame = self._frame_of(object_.header.frame_id or BASE_FRAME)
        if T_base_frame is None:
            raise InputError(f"'{object_.id}': unknown frame '{object_.header.frame_id}'")
        T_frame_object, T_object_shape = _transform(object_.pose), _transform(pose)
        T_base_shape = compose(compose(_named(T_base_frame), T_frame_object), T_object_shape)
        sizes_m = tuple(float(size) for size in primitive.dimensions)
        obstacle = Obstacle(str(object_.id), int(primitive.type), sizes_m, T_base_shape)
        _half_sizes(obstacle)
        return obstacle


def _named(pose: RigidTransform) -> RigidTransform:
    return RigidTransform(BASE_FRAME, BASE_FRAME, pose.translation_m, pose.rotation_xyzw)


def _transform(pose: Any) -> RigidTransform:
    """A geometry_msgs/Pose; a quaternion of zeros is that of a fresh message and turns nothing."""
    p, q = pose.position, pose.orientation
    xyzw = (float(q.x), float(q.y), float(q.z), float(q.w))
    xyzw = xyzw if any(xyzw) else (0.0, 0.0, 0.0, 1.0)
    try:
        return normalized(
            RigidTransform(BASE_FRAME, BASE_FRAME, (float(p.x), float(p.y), float(p.z)), xyzw)
        )
    except TransformError as error:
        raise InputError(str(error)) from error


def _geom(mj: Any, kind: int) -> Any:
    geoms = {
        _BOX: mj.mjtGeom.mjGEOM_BOX,
        _SPHERE: mj.mjtGeom.mjGEOM_SPHERE,
        _CYLINDER: mj.mjtGeom.mjGEOM_CYLINDER,
    }
    return geoms[kind]


def _half_sizes(obstacle: Obstacle) -> tuple[float, float, float]:
    """MuJoCo's: half a box's sides; a sphere's radius; a cylinder's radius and half its height."""
    sizes = obstacle.sizes_m
    if obstacle.kind == _BOX and len(sizes) == 3:
        return (sizes[0] / 2, sizes[1] / 2, sizes[2] / 2)
    if obstacle.kind == _SPHERE and len(sizes) == 1:
        return (sizes[0], 0.0, 0.0)
    if obstacle.kind == _CYLINDER and len(sizes) == 2:
        height, radius = sizes
        return (radius, height / 2, 0.0)
    raise InputError(f"'{obstacle.id}': {len(sizes)} sizes are not those of its shape")
