"""Lifting on recordings of real sensors: hand-labelled faces, and views that must agree."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from rynn_brain_ros.geometry import (
    DepthView,
    PinholeCamera,
    apply,
    compose,
    from_matrix,
    invert,
    lift_box,
    lift_point,
    ray_grid,
    to_fixed,
)
from rynn_brain_ros.geometry.transforms import normalized
from rynn_brain_ros.values import LiftedPoint, RigidTransform

pytestmark = pytest.mark.shared

VIEWS = {
    "pcl": (
        "pcl_organized/derived/milk_cartoon_all_small_clorox_depth_mm.png",
        0.001,
        PinholeCamera(640, 480, 525.0, 525.0, 319.5, 239.5),
    ),
    "desk": (
        "slambook2_rgbd/ch7/1_depth.png",
        1 / 5000,
        PinholeCamera(640, 480, 520.9, 521.0, 325.1, 249.7),
    ),
}


def load(path: Path, unit_m: float, camera: PinholeCamera) -> DepthView:
    raw = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    depth_m = raw.astype(np.float32) * np.float32(unit_m)
    depth_m[raw == 0] = np.nan
    return DepthView(depth_m, camera)


def view_named(name: str, shared_data: Path) -> DepthView:
    path, unit_m, camera = VIEWS[name]
    return load(shared_data / path, unit_m, camera)


def face_points(view: DepthView, polygon: list[tuple[int, int]]) -> NDArray[np.float64]:
    mask = np.zeros(view.depth_m.shape, np.uint8)
    cv2.fillPoly(mask, [np.array(polygon, np.int32)], 1)
    inside = (mask > 0) & np.isfinite(view.depth_m)
    return np.asarray(ray_grid(view.camera)[inside] * view.depth_m[inside][:, None])


def ransac_plane(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A centre and a normal, independent of the package: 300 trials, then total least squares."""
    rng = np.random.default_rng(0)
    points = rng.permutation(points)[:1500]
    best = np.zeros(len(points), bool)
    for _ in range(300):
        a, b, c = points[rng.choice(len(points), 3, replace=False)]
        normal = np.cross(b - a, c - a)
        length = np.linalg.norm(normal)
        if length > 1e-9:
            near = np.abs((points - a) @ normal) / length < 0.006
            best = near if near.sum() > best.sum() else best
    center = points[best].mean(axis=0)
    return center, np.linalg.svd(points[best] - center)[2][2]


FACES = {
    "milk carton, front": ("pcl", (298, 160), [(277, 118), (321, 106), (321, 205), (279, 220)]),
    "milk carton, left": ("pcl", (254, 160), [(241, 112), (265, 122), (267, 212), (246, 196)]),
    "carpet": ("pcl", (420, 330), [(330, 290), (540, 290), (540, 390), (330, 390)]),
    "bleach bottle": ("pcl", (441, 160), [(431, 140), (451, 140), (451, 180), (431, 180)]),
    "detergent bottle": ("pcl", (137, 235), [(127, 215), (147, 215), (147, 255), (127, 255)]),
    "monitor": ("desk", (310, 160), [(250, 110), (375, 110), (372, 212), (250, 208)]),
    "book": ("desk", (550, 245), [(515, 230), (570, 230), (586, 260), (516, 260)]),
    "table": ("desk", (200, 350), [(120, 320), (360, 325), (350, 385), (120, 370)]),
    "keyboard": ("desk", (260, 280), [(225, 268), (320, 275), (315, 294), (215, 286)]),
    "can": ("desk", (65, 290), [(60, 272), (70, 272), (72, 308), (62, 308)]),
    "mug": ("desk", (460, 325), [(455, 312), (467, 312), (467, 342), (455, 342)]),
}


@pytest.mark.parametrize("face", FACES)
def test_a_point_lies_on_the_face_it_was_placed_on(face: str, shared_data: Path) -> None:
    name, uv, polygon = FACES[face]
    view = view_named(name, shared_data)
    center, normal = ransac_plane(face_points(view, polygon))
    lifted = lift_point(uv, view)
    assert isinstance(lifted, LiftedPoint), lifted
    assert abs((np.array(lifted.point_camera_m) - center) @ normal) < 0.005


BOXES = {
    "milk carton": ("pcl", (232, 56, 327, 231), (0.7, 0.8), 0.15, 0.26),
    "bleach bottle": ("pcl", (400, 68, 498, 260), (0.62, 0.75), 0.14, 0.26),
    "detergent bottle": ("pcl", (92, 134, 197, 300), (0.58, 0.72), 0.14, 0.24),
    "can": ("desk", (43, 257, 87, 321), (1.2, 1.36), 0.09, 0.17),
    "mug": ("desk", (443, 290, 489, 353), (1.05, 1.25), 0.12, 0.15),
    "monitor": ("desk", (236, 96, 389, 228), (1.4, 1.65), 0.5, 0.42),
    "mouse": ("desk", (378, 318, 409, 358), (1.1, 1.25), 0.08, 0.12),
}


@pytest.mark.parametrize("thing", BOXES)
def test_a_box_finds_the_thing_at_its_size(thing: str, shared_data: Path) -> None:
    """Sizes are those of such things: a carton is 9.5 cm wide (13 over the corner), a can 6.6."""
    name, bounds, (near_m, far_m), width_m, height_m = BOXES[thing]
    answer = lift_box(bounds, view_named(name, shared_data))
    assert isinstance(answer, tuple), answer
    target, segment = answer
    assert near_m < target.point_camera_m[2] < far_m
    low, high = np.quantile(segment.points_m, (0.02, 0.98), axis=0)
    assert 0.4 * width_m < high[0] - low[0] < width_m
    assert 0.4 * height_m < high[1] - low[1] < height_m
    assert segment.points_m[:, 2].min() > near_m - 0.1 and high[2] < far_m + 0.1


def disagreements(
    a: DepthView, b: DepthView, T_world_a: RigidTransform, T_world_b: RigidTransform
) -> NDArray[np.float64]:
    """Distances in the world between points lifted in ``a`` and lifted again in ``b``."""
    T_b_a = compose(invert(T_world_b), T_world_a)
    distances = []
    for v in range(20, 470, 15):
        for u in range(20, 630, 15):
            seen_a = lift_point((u, v), a)
            if not isinstance(seen_a, LiftedPoint):
                continue
            expected = apply(T_b_a, seen_a.point_camera_m)
            uv = b.camera.project(expected)[0]
            seen_b = lift_point((float(uv[0]), float(uv[1])), b)
            if not isinstance(seen_b, LiftedPoint):
                continue
            if abs(seen_b.point_camera_m[2] / expected[0, 2] - 1) > 0.1:
                continue  # hidden in one of the views
            fixed_a, fixed_b = to_fixed(seen_a, T_world_a), to_fixed(seen_b, T_world_b)
            distances.append(np.subtract(fixed_a.point_fixed_m, fixed_b.point_fixed_m))
    return np.linalg.norm(distances, axis=1)


def test_a_place_seen_twice_in_the_living_room_agrees(shared_data: Path) -> None:
    folder = shared_data / "open3d_rgbd" / "RGBD"
    rows = np.array(
        [
            line.split()
            for i, line in enumerate((folder / "trajectory.log").read_text().splitlines())
            if i % 5
        ],
        float,
    ).reshape(-1, 4, 4)
    camera = PinholeCamera(640, 480, 525.0, 525.0, 319.5, 239.5)
    views = [load(folder / "depth" / f"0000{i}.png", 0.001, camera) for i in (0, 4)]
    poses = [from_matrix(rows[i], "world", "camera") for i in (0, 4)]
    distances = disagreements(*views, *poses)
    assert len(distances) > 500
    assert np.median(distances) < 0.010


def test_a_place_seen_twice_in_the_dining_room_agrees(shared_data: Path) -> None:
    folder = shared_data / "slambook2_rgbd" / "ch5"
    rows = np.loadtxt(folder / "pose.txt")[:2]
    camera = PinholeCamera(640, 480, 518.0, 519.0, 325.5, 253.5)
    views = [load(folder / "depth" / f"{i}.pgm", 0.001, camera) for i in (1, 2)]
    poses = [
        normalized(RigidTransform("world", "camera", tuple(row[:3]), tuple(row[3:])))
        for row in rows
    ]
    distances = disagreements(*views, *poses)
    assert len(distances) > 200
    assert np.median(distances) < 0.050
