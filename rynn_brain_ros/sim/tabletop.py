"""A table with plain coloured things, ray-cast with exact depth: truth for tests and the demo.

The world frame ``base_link`` lies on the table, x towards the far side, z up. A camera moves on
an arc around the near side. Depth gets the noise, quantisation and holes of a structured-light
camera; the colour image gets JPEG artefacts. Everything is seeded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros import messages
from rynn_brain_ros.bags import BagWriter
from rynn_brain_ros.geometry import DepthNoise, apply, from_matrix, invert
from rynn_brain_ros.values import CameraInfo, Point2, RigidTransform, Vector3

Floats = NDArray[np.float64]

FIXED_FRAME = "base_link"
OPTICAL_FRAME = "camera_color_optical_frame"
COLOR_TOPIC = "/camera/color/image_raw/compressed"
DEPTH_TOPIC = "/camera/aligned_depth_to_color/image_raw"
INFO_TOPIC = "/camera/color/camera_info"
START_NS = 1_700_000_000_000_000_000

_PAINT: dict[str, Vector3] = {
    "red": (0.80, 0.08, 0.08),
    "green": (0.10, 0.60, 0.16),
    "blue": (0.08, 0.22, 0.80),
    "yellow": (0.90, 0.78, 0.08),
    "purple": (0.42, 0.12, 0.62),
}
_TABLE_PAINT = (0.62, 0.55, 0.48)
_FLOOR_PAINT = (0.33, 0.34, 0.36)
_LIGHT = np.array([-0.35, 0.45, 0.82]) / np.linalg.norm([-0.35, 0.45, 0.82])


@dataclass(frozen=True)
class Thing:
    """One object standing on the table at (x, y), turned by ``yaw_rad`` about z.

    ``size_m`` is (x, y, z) of a box; (diameter, diameter, height) of a cylinder or disc;
    the diameter three times for a ball.
    """

    name: str
    color: str
    shape: str
    xy_m: tuple[float, float]
    size_m: Vector3
    yaw_rad: float = 0.0

    def to_local(self) -> RigidTransform:
        """``T_thing_base``; the thing's origin is its centre."""
        c, s = np.cos(self.yaw_rad), np.sin(self.yaw_rad)
        matrix = np.eye(4)
        matrix[:2, :2] = [[c, -s], [s, c]]
        matrix[:3, 3] = [*self.xy_m, self.size_m[2] / 2]
        return invert(from_matrix(matrix, FIXED_FRAME, self.name))


@dataclass(frozen=True)
class Hits:
    """Where rays meet the scene: distance along unit rays [N] (inf: nothing), normal [N, 3],
    index of the thing [N] (−1 table, −2 floor, −3 nothing)."""

    distance_m: Floats
    normal: Floats
    index: NDArray[np.int64]


@dataclass(frozen=True)
class Tabletop:
    """The scene and the camera that looks at it."""

    things: tuple[Thing, ...]
    width: int = 640
    height: int = 480
    focal_px: float = 525.0
    table_m: tuple[float, float] = (1.2, 1.6)

    @property
    def camera_info(self) -> CameraInfo:
        f, cx, cy = self.focal_px, (self.width - 1) / 2, (self.height - 1) / 2
        return CameraInfo(
            self.width,
            self.height,
            (f, 0.0, cx, 0.0, f, cy, 0.0, 0.0, 1.0),
            d=(0.0,) * 5,
            p=(f, 0.0, cx, 0.0, 0.0, f, cy, 0.0, 0.0, 0.0, 1.0, 0.0),
            frame_id=OPTICAL_FRAME,
        )

    def pose_at(self, stamp_ns: int) -> RigidTransform:
        """``T_base_camera`` at a time: back and forth on an arc, 0.15 rad per second."""
        seconds = (stamp_ns - START_NS) / 1e9
        angle = np.pi + 0.45 * np.sin((seconds - 1.75) / 3)
        eye = np.array([0.15 + 0.66 * np.cos(angle), 0.66 * np.sin(angle), 0.52])
        forward = np.array([0.15, 0.0, 0.02]) - eye
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        matrix = np.eye(4)
        matrix[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
        matrix[:3, 3] = eye
        return from_matrix(matrix, FIXED_FRAME, OPTICAL_FRAME, stamp_ns)

    def render(self, T_base_camera: RigidTransform) -> tuple[NDArray[np.uint8], Floats]:
        """Exact picture: uint8 RGB [H, W, 3] and metric z along the optical axis [H, W],
        0 where nothing is hit."""
        v, u = np.mgrid[0 : self.height, 0 : self.width]
        pixels = np.stack([u.ravel(), v.ravel()], axis=1).astype(np.float64)
        hits, z = self._see(pixels, T_base_camera)
        shade = 0.35 + 0.65 * np.clip(hits.normal @ _LIGHT, 0.0, 1.0)
        paint = np.array(
            [*(_PAINT[t.color] for t in self.things), (0, 0, 0), _FLOOR_PAINT, _TABLE_PAINT]
        )
        rgb = paint[hits.index] * shade[:, None]
        picture = (np.clip(rgb, 0, 1) * 255).astype(np.uint8)
        shape = (self.height, self.width)
        return picture.reshape(*shape, 3), z.reshape(shape)

    def surface_at(self, pixel: Point2, T_base_camera: RigidTransform) -> tuple[Vector3, str]:
        """The true surface point behind a pixel in the camera's optical frame, metres, and the
        name of what is there (``table``, ``floor`` or ``nothing``)."""
        hits, z = self._see(np.array([pixel], np.float64), T_base_camera)
        ray = self._rays(np.array([pixel], np.float64))[0]
        x, y, depth = (float(value) for value in ray * z[0])
        index = int(hits.index[0])
        name = self.things[index].name if index >= 0 else ("nothing", "floor", "table")[index + 3]
        return (x, y, depth), name

    def _rays(self, pixels: Floats) -> Floats:
        """Optical-frame rays with z = 1, [N, 3]."""
        center = np.array([(self.width - 1) / 2, (self.height - 1) / 2])
        xy = (pixels - center) / self.focal_px
        return np.concatenate([xy, np.ones((len(xy), 1))], axis=1)

    def _see(self, pixels: Floats, T_base_camera: RigidTransform) -> tuple[Hits, Floats]:
        rays = self._rays(pixels)
        lengths = np.linalg.norm(rays, axis=1)
        origin = np.array(T_base_camera.translation_m)
        directions = (apply(T_base_camera, rays) - origin) / lengths[:, None]
        hits = self._cast(origin, directions)
        z = np.where(np.isfinite(hits.distance_m), hits.distance_m / lengths, 0.0)
        return hits, z

    def _cast(self, origin: Floats, directions: Floats) -> Hits:
        hits = _cast_plane(origin, directions, 0.0, self.table_m)
        floor = _cast_plane(origin, directions, -0.72, None)
        hits = _nearer(hits, Hits(floor.distance_m, floor.normal, floor.index - 1))
        for number, thing in enumerate(self.things):
            hits = _nearer(hits, _cast_thing(thing, number, origin, directions))
        return hits


def _nearer(a: Hits, b: Hits) -> Hits:
    closer = b.distance_m < a.distance_m
    return Hits(
        np.where(closer, b.distance_m, a.distance_m),
        np.where(closer[:, None], b.normal, a.normal),
        np.where(closer, b.index, a.index),
    )


def _cast_plane(
    origin: Floats, directions: Floats, z_m: float, size_m: tuple[float, float] | None
) -> Hits:
    """A horizontal plane at height ``z_m``, of limited size where one is given; index −1."""
    with np.errstate(divide="ignore", invalid="ignore"):
        t = (z_m - origin[2]) / directions[:, 2]
    point = origin + t[:, None] * directions
    hit = t > 0
    if size_m is not None:
        hit &= (np.abs(point[:, 0]) < size_m[0] / 2) & (np.abs(point[:, 1]) < size_m[1] / 2)
    return _hits(t, hit, np.broadcast_to([0.0, 0.0, 1.0], directions.shape), -1)


def _cast_thing(thing: Thing, number: int, origin: Floats, directions: Floats) -> Hits:
    T_thing_base = thing.to_local()
    start = apply(T_thing_base, origin[None])[0]
    local = apply(T_thing_base, origin + directions) - start
    half = np.array(thing.size_m) / 2
    cast = {"cube": _cast_box, "ball": _cast_ball}.get(thing.shape, _cast_cylinder)
    t, hit, normal = cast(start, local, half)
    base_normal = apply(invert(T_thing_base), normal) - np.array(invert(T_thing_base).translation_m)
    return _hits(t, hit, base_normal, number)


def _hits(t: Floats, hit: NDArray[np.bool_], normal: Floats, index: int) -> Hits:
    return Hits(
        np.where(hit, t, np.inf),
        np.asarray(normal, np.float64),
        np.where(hit, index, -3).astype(np.int64),
    )


Cast = tuple[Floats, NDArray[np.bool_], Floats]


def _cast_box(start: Floats, rays: Floats, half: Floats) -> Cast:
    with np.errstate(divide="ignore", invalid="ignore"):
        a, b = (-half - start) / rays, (half - start) / rays
    near, far = np.minimum(a, b), np.maximum(a, b)
    axis = np.argmax(near, axis=1)
    t = near[np.arange(len(rays)), axis]
    normal = np.zeros_like(rays)
    normal[np.arange(len(rays)), axis] = -np.sign(rays[np.arange(len(rays)), axis])
    return t, (t > 0) & (t <= far.min(axis=1)), normal


def _cast_ball(start: Floats, rays: Floats, half: Floats) -> Cast:
    radius = half[0]
    b = rays @ start
    discriminant = b**2 - (start @ start - radius**2)
    t = -b - np.sqrt(np.maximum(discriminant, 0.0))
    return t, (discriminant > 0) & (t > 0), (start + t[:, None] * rays) / radius


def _cast_cylinder(start: Floats, rays: Floats, half: Floats) -> Cast:
    radius, top = half[0], half[2]
    a = (rays[:, :2] ** 2).sum(axis=1)
    b = rays[:, :2] @ start[:2]
    discriminant = b**2 - a * (start[:2] @ start[:2] - radius**2)
    with np.errstate(divide="ignore", invalid="ignore"):
        side = (-b - np.sqrt(np.maximum(discriminant, 0.0))) / a
        cap = (top - start[2]) / rays[:, 2]
    side_z = start[2] + side * rays[:, 2]
    on_side = (discriminant > 0) & (side > 0) & (np.abs(side_z) <= top)
    cap_xy = start[:2] + cap[:, None] * rays[:, :2]
    on_cap = (cap > 0) & ((cap_xy**2).sum(axis=1) <= radius**2)
    use_cap = on_cap & (~on_side | (cap < side))
    t = np.where(use_cap, cap, side)
    wall = (start + side[:, None] * rays) / radius
    wall[:, 2] = 0.0
    normal = np.where(use_cap[:, None], [0.0, 0.0, 1.0], wall)
    return t, on_side | on_cap, normal


def example_scene(seed: int = 0) -> Tabletop:
    """A red cube, a blue ball, a green cylinder and a yellow plate, placed by ``seed``."""
    rng = np.random.default_rng(seed)
    corners = rng.permutation([(0.05, 0.17), (0.02, -0.16), (0.28, 0.10), (0.30, -0.14)])
    jitter = rng.uniform(-0.02, 0.02, (4, 2))
    kinds: Sequence[tuple[str, str, Vector3]] = (
        ("red", "cube", (0.06, 0.06, 0.06)),
        ("blue", "ball", (0.07, 0.07, 0.07)),
        ("green", "cylinder", (0.06, 0.06, 0.11)),
        ("yellow", "plate", (0.18, 0.18, 0.012)),
    )
    return Tabletop(
        tuple(
            Thing(f"{c} {s}", c, s, (float(p[0]), float(p[1])), size, float(rng.uniform(0, np.pi)))
            for (c, s, size), p in zip(kinds, corners + jitter, strict=True)
        )
    )


def add_depth_noise(z_m: Floats, noise: DepthNoise, rng: np.random.Generator) -> NDArray[np.uint16]:
    """What a structured-light camera makes of exact depth: Gaussian noise growing with distance,
    holes along edges and here and there, whole millimetres. 16UC1, 0 = invalid."""
    sigma = np.vectorize(noise.sigma_m)(np.linspace(0, 10, 201))
    noisy = z_m + rng.normal(size=z_m.shape) * np.interp(z_m, np.linspace(0, 10, 201), sigma)
    edges = cv2.morphologyEx(z_m.astype(np.float32), cv2.MORPH_GRADIENT, np.ones((3, 3))) > 0.02
    holes = (edges & (rng.random(z_m.shape) < 0.6)) | (rng.random(z_m.shape) < 0.004)
    depth_mm = np.where(holes | (z_m <= 0), 0, np.round(noisy * 1000))
    return np.asarray(np.clip(depth_mm, 0, 65535), np.uint16)


def write_bag(scene: Tabletop, path: Path, n_frames: int = 8, seed: int = 0) -> None:
    """Records ``n_frames`` at 2 Hz as an mcap bag: JPEG colour, aligned 16UC1 depth, camera_info
    and the camera's pose on /tf at 20 Hz, with half a period of it after the last image."""
    rng = np.random.default_rng(seed)
    noise = DepthNoise()
    with BagWriter(path, {"source": "rynn_brain_ros rendered tabletop", "seed": str(seed)}) as bag:
        for k in range(10 * (n_frames - 1) + 2):
            stamp_ns = START_NS + k * 50_000_000
            pose = scene.pose_at(stamp_ns)
            bag.write("/tf", messages.TF_MESSAGE, messages.tf_message([pose]), stamp_ns)
            if k % 10 == 0 and k // 10 < n_frames:
                _write_frame(bag, scene, pose, rng, noise)


def _write_frame(
    bag: BagWriter,
    scene: Tabletop,
    pose: RigidTransform,
    rng: np.random.Generator,
    noise: DepthNoise,
) -> None:
    rgb, z_m = scene.render(pose)
    stamp_ns = pose.stamp_ns
    grain = np.clip(rgb + rng.normal(0, 3, rgb.shape), 0, 255).astype(np.uint8)
    jpeg = cv2.imencode(".jpg", grain[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
    depth_mm = add_depth_noise(z_m, noise, rng)
    head = messages.header(stamp_ns, OPTICAL_FRAME)
    bag.write(
        INFO_TOPIC,
        messages.CAMERA_INFO,
        messages.camera_info(scene.camera_info, stamp_ns),
        stamp_ns,
    )
    bag.write(
        COLOR_TOPIC,
        messages.COMPRESSED_IMAGE,
        {"header": head, "format": "rgb8; jpeg compressed bgr8", "data": jpeg},
        stamp_ns,
    )
    bag.write(
        DEPTH_TOPIC,
        messages.IMAGE,
        {
            "header": head,
            "height": scene.height,
            "width": scene.width,
            "encoding": "16UC1",
            "is_bigendian": 0,
            "step": scene.width * 2,
            "data": depth_mm.tobytes(),
        },
        stamp_ns,
    )
