"""A robot that drives through a furnished room and looks ahead with a colour and depth camera.

The base is a round foot with two driven wheels. It moves by kinematics, exactly; what it may not
drive through is known from the outlines in `RoomScene`. MuJoCo draws the pictures, and is loaded
when the first one is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rynn_brain_ros.geometry import DepthNoise, from_matrix
from rynn_brain_ros.sim.furnishing import random_room
from rynn_brain_ros.sim.grid import Grid
from rynn_brain_ros.sim.rendering import (
    RGB,
    Depth,
    SceneRenderer,
    as_measured,
    load_mujoco,
    pinhole_info,
    with_grain,
)
from rynn_brain_ros.sim.room_model import (
    CAMERA_PITCH_RAD,
    CAMERA_XYZ_M,
    FORWARD_CAMERA,
    HEIGHT_PX,
    TOP_CAMERA,
    TOP_SCALE,
    WIDTH_PX,
    fovy_deg,
    outer_size_m,
    room_xml,
    top_height_m,
)
from rynn_brain_ros.sim.room_scene import BASE_RADIUS_M, BasePose, RoomScene, RoomThing
from rynn_brain_ros.sim.world import START_NS, Controller, JointState, Picture
from rynn_brain_ros.values import CameraInfo, InputError, RigidTransform

__all__ = ["BasePose", "RoomScene", "RoomThing", "RoomWorld", "TopView", "random_room"]

MAP_FRAME, ODOM_FRAME, BASE_FRAME = "map", "odom", "base_link"
OPTICAL_FRAME = "forward_color_optical_frame"
WHEEL_JOINTS = ("wheel_left_joint", "wheel_right_joint")
WHEEL_RADIUS_M = 0.08
TRACK_M = 0.36
"""Between the wheels."""

_SUBSTEP_M = 0.02
"""The base never moves farther between two looks at what it touches."""
_BISECTIONS = 20


@dataclass(frozen=True, eq=False)
class TopView:
    """The room from above: ``rgb`` uint8 [H, W, 3] shows ``bounds_m`` (x_min, y_min, x_max,
    y_max) of the map's floor, x to the right and y up, from far above."""

    rgb: RGB = field(repr=False)
    bounds_m: tuple[float, float, float, float]


class RoomWorld:
    """A `World`: a room with a robot in it, which stands at ``scene.start``. Draw pictures from one
    thread, and close it. `InputError` on the first picture where MuJoCo or OpenGL is missing."""

    control_period_s = 0.02
    base_frame = MAP_FRAME
    base_radius_m = BASE_RADIUS_M
    cameras: tuple[str, ...] = (FORWARD_CAMERA,)

    def __init__(self, scene: RoomScene) -> None:
        self.scene = scene
        self._pose = scene.start
        self._periods = 0
        self._command = self._moved = (0.0, 0.0)
        self._wheels_rad = (0.0, 0.0)
        self._collisions, self._blocked = 0, False
        self._controllers: list[Controller] = []
        self._drawing: _Drawing | None = None

    @property
    def now_ns(self) -> int:
        return START_NS + self._periods * round(self.control_period_s * 1e9)

    def step(self, seconds: float) -> None:
        """As many whole control periods as ``seconds`` need."""
        for _ in range(math.ceil(seconds / self.control_period_s - 1e-6)):
            for controller in self._controllers:
                controller(self.control_period_s)
            self._move(self.control_period_s)
            self._periods += 1

    def add_controller(self, controller: Controller) -> None:
        self._controllers.append(controller)

    def command_velocity(self, linear_m_s: float, angular_rad_s: float) -> None:
        """Holds until the next command: forwards along x, counter-clockwise about z."""
        self._command = (linear_m_s, angular_rad_s)

    def base_pose(self) -> BasePose:
        """The true pose on the map."""
        return self._pose

    def collisions(self) -> int:
        """How often the base has run into something. Pushing on against it counts once."""
        return self._collisions

    def things(self) -> Mapping[str, RoomThing]:
        """True places and sizes by name."""
        return {thing.name: thing for thing in self.scene.things}

    def distance_to(self, name: str) -> float:
        """From the base's middle to the outline of a thing on the floor, metres; `InputError`
        for an unknown name."""
        return max(0.0, self.scene.thing(name).clearance_m(self._pose.xy_m))

    def occupancy(self, resolution_m: float = 0.05) -> Grid:
        """The floor plan in the map's frame, not inflated."""
        return self.scene.occupancy(resolution_m)

    def render(self, camera: str) -> Picture:
        """Colour with a camera's grain, depth with its noise and holes; the same at the same
        stamp however often it is asked."""
        rgb, depth_m = self.exact_picture(camera)
        rng = np.random.default_rng((self.scene.seed, self._periods))
        measured_m = as_measured(depth_m, DepthNoise(), rng)
        return Picture(camera, self.now_ns, with_grain(rgb, rng), measured_m)

    def exact_picture(self, camera: str) -> tuple[RGB, Depth]:
        """What a perfect sensor would give; depth 0 beyond `rendering.MAX_DEPTH_M`."""
        _check_camera(camera)
        return self._draw().forward(self._pose)

    def render_top(self) -> TopView:
        """The room without its ceiling, and the robot in it."""
        return self._draw().top(self._pose)

    def camera_info(self, camera: str) -> CameraInfo:
        _check_camera(camera)
        return pinhole_info(WIDTH_PX, HEIGHT_PX, fovy_deg(), OPTICAL_FRAME)

    def static_transforms(self) -> tuple[RigidTransform, ...]:
        """The map is where odometry began: it never drifts here."""
        return (RigidTransform(MAP_FRAME, ODOM_FRAME, stamp_ns=START_NS), _T_base_camera())

    def transforms(self) -> tuple[RigidTransform, ...]:
        place = (*self._pose.xy_m, 0.0)
        turned = self._pose.rotation_xyzw
        return (RigidTransform(ODOM_FRAME, BASE_FRAME, place, turned, self.now_ns),)

    def joint_state(self) -> JointState:
        """The two wheels'; nothing is known of their efforts."""
        left, right = _wheel_speeds(*self._moved)
        return JointState(
            self.now_ns, WHEEL_JOINTS, self._wheels_rad, (left, right), (math.nan, math.nan)
        )

    @property
    def model(self) -> Any:
        """MuJoCo's, for a window onto the room; only the base moves in it."""
        return self._draw().model

    def copy_state(self, data: Any) -> None:
        """Puts the base in ``data``, an ``mjData`` of ``model``, where it is now."""
        data.qpos[:] = _qpos(self._pose)

    def close(self) -> None:
        self._controllers.clear()  # who know the world: only the garbage collector would end it
        if self._drawing is not None:
            self._drawing.close()
            self._drawing = None

    def _draw(self) -> _Drawing:
        if self._drawing is None:
            self._drawing = _Drawing(self.scene)
        return self._drawing

    def _move(self, dt_s: float) -> None:
        linear, angular = self._command
        count = max(1, math.ceil(abs(linear) * dt_s / _SUBSTEP_M))
        travelled_m, blocked = 0.0, False
        for _ in range(count):
            part_m = self._advance(linear * dt_s / count, angular * dt_s / count)
            travelled_m += part_m
            blocked |= part_m != linear * dt_s / count
        self._collisions += blocked and not self._blocked
        self._blocked = blocked
        self._moved = (travelled_m / dt_s, angular)
        rates = _wheel_speeds(*self._moved)
        left, right = (a + r * dt_s for a, r in zip(self._wheels_rad, rates, strict=True))
        self._wheels_rad = (left, right)

    def _advance(self, distance_m: float, angle_rad: float) -> float:
        """Moves along an arc until something is touched; returns how far, metres. Turning is
        always free, since the foot is round."""
        fraction = self._free_fraction(distance_m, angle_rad)
        x, y = self._after(distance_m * fraction, angle_rad).xy_m
        yaw = math.remainder(self._pose.yaw_rad + angle_rad, 2 * math.pi)
        self._pose = BasePose(x, y, yaw)
        return distance_m * fraction

    def _free_fraction(self, distance_m: float, angle_rad: float) -> float:
        """How much of an arc can be driven, 0…1. Away from what is touched, all of it."""
        if distance_m == 0.0:
            return 1.0

        def clearance_m(fraction: float) -> float:
            place = self._after(distance_m * fraction, angle_rad).xy_m
            return self.scene.clearance_m(place) - BASE_RADIUS_M

        end_m = clearance_m(1.0)
        if end_m >= 0.0 or end_m > clearance_m(0.0):
            return 1.0
        low, high = 0.0, 1.0
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            low, high = (middle, high) if clearance_m(middle) >= 0.0 else (low, middle)
        return low

    def _after(self, distance_m: float, angle_rad: float) -> BasePose:
        """At the chord's end, which lies half the angle to the side."""
        pose, half = self._pose, angle_rad / 2
        chord_m = distance_m * (math.sin(half) / half if half else 1.0)
        heading = pose.yaw_rad + half
        x = pose.x_m + chord_m * math.cos(heading)
        y = pose.y_m + chord_m * math.sin(heading)
        return BasePose(x, y, pose.yaw_rad + angle_rad)


class _Drawing:
    """The room as MuJoCo sees it."""

    def __init__(self, scene: RoomScene) -> None:
        self._mj = load_mujoco()
        self.model = self._mj.MjModel.from_xml_string(room_xml(scene))
        self._data = self._mj.MjData(self.model)
        self._renderer = SceneRenderer(self.model, WIDTH_PX, HEIGHT_PX)
        self._scene = scene

    def forward(self, pose: BasePose) -> tuple[RGB, Depth]:
        self._place(pose)
        return self._renderer.color_and_depth(self._data, FORWARD_CAMERA)

    def top(self, pose: BasePose) -> TopView:
        self._place(pose)
        renderer = SceneRenderer(self.model, TOP_SCALE * WIDTH_PX, TOP_SCALE * HEIGHT_PX)
        rgb, _ = renderer.color_and_depth(self._data, TOP_CAMERA, groups=(0,))
        renderer.close()
        return self._cropped(rgb)

    def close(self) -> None:
        self._renderer.close()

    def _cropped(self, rgb: RGB) -> TopView:
        """To the outer sides of the walls, in whole pixels."""
        height, width = rgb.shape[:2]
        pixel_m = top_height_m(self._scene) / height
        x, y = (round(side / pixel_m / 2) for side in outer_size_m(self._scene))
        middle_y, middle_x = height // 2, width // 2
        cut = rgb[middle_y - y : middle_y + y, middle_x - x : middle_x + x]
        half_x, half_y = x * pixel_m, y * pixel_m
        return TopView(np.ascontiguousarray(cut), (-half_x, -half_y, half_x, half_y))

    def _place(self, pose: BasePose) -> None:
        self._data.qpos[:] = _qpos(pose)
        self._mj.mj_forward(self.model, self._data)


def _qpos(pose: BasePose) -> tuple[float, float, float]:
    return (pose.x_m, pose.y_m, pose.yaw_rad)


def _check_camera(camera: str) -> None:
    if camera != FORWARD_CAMERA:
        raise InputError(f"the room has no camera {camera}; it has: {FORWARD_CAMERA}")


def _wheel_speeds(linear_m_s: float, angular_rad_s: float) -> tuple[float, float]:
    """Left and right, radians per second."""
    turn = angular_rad_s * TRACK_M / 2
    return ((linear_m_s - turn) / WHEEL_RADIUS_M, (linear_m_s + turn) / WHEEL_RADIUS_M)


def _T_base_camera() -> RigidTransform:  # noqa: N802
    """Of the optical frame: x to the base's right, z ahead and a little down."""
    down, ahead = math.sin(CAMERA_PITCH_RAD), math.cos(CAMERA_PITCH_RAD)
    matrix = np.eye(4)
    matrix[:3, 0] = (0.0, -1.0, 0.0)
    matrix[:3, 1] = (-down, 0.0, -ahead)
    matrix[:3, 2] = (ahead, 0.0, -down)
    matrix[:3, 3] = CAMERA_XYZ_M
    return from_matrix(matrix, BASE_FRAME, OPTICAL_FRAME, START_NS)
