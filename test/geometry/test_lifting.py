"""Lifting against scenes whose truth is known exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest
from geometry_scenes import (
    VGA,
    Box,
    Plane,
    Scene,
    Sphere,
    random_scene,
    render,
    scene_depth,
    view_of,
    with_noise,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from pyquaternion import Quaternion

from rynn_brain_ros.geometry import (
    DepthView,
    LiftedArea,
    PinholeCamera,
    Segment,
    camera_or_refusal,
    lift_area,
    lift_box,
    lift_point,
    lift_points,
    lift_trajectory,
    norm_to_pixel,
    pixel_to_norm,
    register_depth,
    segment_at,
    to_fixed,
)
from rynn_brain_ros.geometry.camera import COEFFICIENTS
from rynn_brain_ros.values import (
    CameraInfo,
    LiftedPoint,
    Point2,
    Refusal,
    RefusalCode,
    RigidTransform,
)

WALL: Scene = [Plane((0, 0, 1.0), (0, 0, -1))]
TABLE: Scene = [Plane((0, 0, 0.9), (0, math.sin(0.6), -math.cos(0.6)))]
STEEP: Scene = [Plane((0, 0, 0.8), (math.sin(1.1), 0, -math.cos(1.1)))]
CUBE = Box((0.0, -0.02, 0.87), (0.03, 0.03, 0.03), Quaternion(axis=(1, 0, 0), radians=-0.6))


def truth_at(scene: Scene, uv: Point2, camera: PinholeCamera = VGA) -> np.ndarray:
    rays = camera.pixel_to_ray([uv])
    return np.asarray(rays[0] * scene_depth(scene, rays)[0])


def as_answered(uv: Point2, camera: PinholeCamera = VGA) -> Point2:
    """Through the brain's integers 0…1000."""
    ((x, y),) = pixel_to_norm([uv], camera.width, camera.height)
    return norm_to_pixel([(round(x), round(y))], camera.width, camera.height)[0]


def lifted(answer: object) -> LiftedPoint:
    assert isinstance(answer, LiftedPoint), answer
    return answer


def code(answer: object) -> RefusalCode:
    assert isinstance(answer, Refusal), answer
    return answer.code


def box_of(answer: tuple[LiftedPoint, Segment] | Refusal) -> tuple[LiftedPoint, Segment]:
    assert isinstance(answer, tuple), answer
    return answer


def two_walls(edge_u: int, near_m: float = 0.6) -> DepthView:
    depth_m = render(WALL)
    depth_m[:, :edge_u] = near_m
    return view_of(depth_m)


# --- truth


@pytest.mark.parametrize(
    ("scene", "limit_m"),
    [
        (WALL, 1e-4),
        (TABLE, 1e-4),
        (STEEP, 1e-4),
        ([*TABLE, CUBE], 0.003),
        ([*WALL, Sphere((0.02, -0.03, 0.7), 0.06)], 0.003),
    ],
    ids=["frontal", "slanted", "steep", "creased", "round"],
)
def test_planes_are_met_exactly_and_bends_closely(scene: Scene, limit_m: float) -> None:
    view = view_of(render(scene))
    for uv in ((329.3, 222.8), (312.5, 236.0), (325.0, 215.2)):
        point = lifted(lift_point(uv, view)).point_camera_m
        assert math.dist(point, truth_at(scene, uv)) < limit_m


@pytest.mark.parametrize("patch_px", [1, 2], ids=["white noise", "noise in patches"])
def test_errors_are_small_and_as_large_as_predicted(patch_px: int) -> None:
    """NEES: squared error over predicted covariance; 3 for three honest dimensions."""
    rng = np.random.default_rng(7)
    errors, nees, refused = [], [], 0
    for _ in range(40):
        scene = random_scene(rng)
        view = view_of(with_noise(render(scene), rng, patch_px=patch_px, hole_share=0.03))
        for uv in rng.uniform((8, 8), (632, 472), (40, 2)):
            truth = truth_at(scene, tuple(uv))
            answer = lift_point(as_answered(tuple(uv)), view)
            if isinstance(answer, Refusal):
                refused += 1
            elif truth[2] < 1.5:
                error = answer.point_camera_m - truth
                covariance = np.reshape(answer.covariance_camera_m2, (3, 3))
                errors.append(np.linalg.norm(error))
                nees.append(error @ np.linalg.solve(covariance, error))
    assert len(errors) > 1300
    assert refused < 40
    assert np.quantile(errors, 0.99) < 0.005
    assert max(errors) < 0.02
    assert 2 < np.mean(nees) < 4


def test_a_distorted_lens_is_lifted_as_well() -> None:
    camera = PinholeCamera(640, 480, 525.0, 525.0, 319.5, 239.5, (-0.2, 0.05, 0.001, 0.0))
    view = DepthView(render(TABLE, camera), camera)
    for uv in ((30.0, 30.0), (600.3, 440.1)):
        assert (
            math.dist(lifted(lift_point(uv, view)).point_camera_m, truth_at(TABLE, uv, camera))
            < 1e-3
        )


def test_the_covariance_grows_with_distance() -> None:
    sigmas = [
        lifted(lift_point((320, 240), view_of(np.full((480, 640), z, np.float32)))).sigma_m
        for z in (0.5, 1.0, 2.0, 4.0)
    ]
    assert sigmas == sorted(sigmas) and sigmas[3] > 4 * sigmas[0]


def test_a_pixel_error_moves_the_point_along_a_steep_surface() -> None:
    answer = lifted(lift_point((320, 240), view_of(render(STEEP))))
    values, vectors = np.linalg.eigh(np.reshape(answer.covariance_camera_m2, (3, 3)))
    along = vectors[:, -1]
    assert abs(along @ (math.sin(1.1), 0, -math.cos(1.1))) < 0.15
    assert values[-1] > 4 * values[0]


# --- refusals


def test_a_missing_depth_is_refused() -> None:
    assert code(lift_point((320, 240), view_of(np.full((480, 640), np.nan, np.float32)))) is (
        RefusalCode.NO_DEPTH
    )


def test_zero_and_infinite_depth_are_unknown() -> None:
    depth_m = np.zeros((480, 640), np.float32)
    depth_m[::2] = np.inf
    assert code(lift_point((320, 240), view_of(depth_m))) is RefusalCode.NO_DEPTH


def test_a_few_specks_are_no_surface() -> None:
    depth_m = np.full((480, 640), np.nan, np.float32)
    depth_m[238:241, 319:322] = 1.0
    assert code(lift_point((320, 240), view_of(depth_m))) is RefusalCode.TOO_FEW_VALID


def test_a_point_on_an_edge_is_refused() -> None:
    refusal = lift_point((319.5, 240), two_walls(320))
    assert code(refusal) is RefusalCode.DEPTH_EDGE
    assert "0.600 m and 1.000 m" in str(refusal)


def test_points_around_edges_are_refused_or_right() -> None:
    """Within 1.5 px of a silhouette, rounded as the brain's answers are."""
    rng = np.random.default_rng(5)
    wrong, total = 0, 0
    for _ in range(20):
        scene = random_scene(rng)
        exact = render(scene)
        view = view_of(with_noise(exact, rng, patch_px=2, hole_share=0.03))
        rows, columns = np.nonzero(np.abs(np.diff(exact[20:-20, 20:-20])) > 0.05)
        for i in rng.integers(0, len(rows), 40) if len(rows) else ():
            du, dv = rng.uniform(-1.5, 1.5, 2)
            u, v = columns[i] + 20 + du, rows[i] + 20 + dv
            answer = lift_point(as_answered((u, v)), view)
            total += 1
            if isinstance(answer, LiftedPoint):
                wrong += abs(answer.point_camera_m[2] - truth_at(scene, (u, v))[2]) > 0.03
    assert total > 400
    assert wrong <= 0.01 * total


@pytest.mark.parametrize(("u", "z"), [(318.0, 0.6), (321.0, 1.0)])
def test_a_point_beside_an_edge_gets_its_own_surface(u: float, z: float) -> None:
    assert math.isclose(
        lifted(lift_point((u, 240), two_walls(320))).point_camera_m[2], z, abs_tol=1e-4
    )


@pytest.mark.parametrize("z", [0.1, 7.0])
def test_a_depth_the_sensor_is_not_trusted_at_is_refused(z: float) -> None:
    view = view_of(np.full((480, 640), z, np.float32))
    assert code(lift_point((320, 240), view)) is RefusalCode.DEPTH_OUT_OF_RANGE


def test_depth_of_another_size_is_refused() -> None:
    view = view_of(np.ones((240, 320), np.float32))
    answers = (
        lift_point((10, 10), view),
        lift_box((10, 10, 50, 50), view),
        segment_at((10, 10), view),
    )
    for answer in answers:
        assert code(answer) is RefusalCode.DEPTH_SIZE
        assert "320×240" in str(answer) and "640×480" in str(answer)


@pytest.mark.parametrize("uv", [(640.0, 10.0), (-1.0, 10.0), (10.0, 480.0), (math.nan, 10.0)])
def test_a_pixel_outside_the_image_is_refused(uv: Point2) -> None:
    assert code(lift_point(uv, view_of(render(WALL)))) is RefusalCode.OUT_OF_RANGE


def test_the_image_corners_can_be_lifted() -> None:
    view = view_of(render(TABLE))
    for uv in norm_to_pixel([(0, 0), (1000, 0), (0, 1000), (1000, 1000)], 640, 480):
        assert math.dist(lifted(lift_point(uv, view)).point_camera_m, truth_at(TABLE, uv)) < 1e-3


def test_a_lens_without_a_ray_there_is_refused() -> None:
    camera = PinholeCamera(640, 480, 525.0, 525.0, 319.5, 239.5, (-2.0, 0.0, 0.0, 0.0))
    answer = lift_point((5, 5), DepthView(np.ones((480, 640), np.float32), camera))
    assert code(answer) is RefusalCode.NO_INTRINSICS


# --- holes and outliers


def test_a_hole_inside_a_surface_is_filled() -> None:
    depth_m = render(TABLE)
    depth_m[236:245, 316:325] = np.nan
    answer = lifted(lift_point((320, 240), view_of(depth_m)))
    assert math.dist(answer.point_camera_m, truth_at(TABLE, (320, 240))) < 1e-3
    assert answer.sigma_m > lifted(lift_point((320, 240), view_of(render(TABLE)))).sigma_m


def test_a_hole_between_two_surfaces_is_refused() -> None:
    depth_m = two_walls(320).depth_m.copy()
    depth_m[:, 316:325] = np.nan
    assert code(lift_point((320, 240), view_of(depth_m))) is RefusalCode.DEPTH_EDGE


def test_a_hole_far_beside_a_surface_is_refused() -> None:
    depth_m = render(WALL)
    depth_m[:, 313:] = np.nan
    assert code(lift_point((320, 240), view_of(depth_m))) is RefusalCode.NO_DEPTH


def test_a_hole_just_beside_a_surface_takes_it() -> None:
    depth_m = render(WALL)
    depth_m[:, 319:] = np.nan
    assert math.isclose(lifted(lift_point((320, 240), view_of(depth_m))).point_camera_m[2], 1.0)


def test_flying_pixels_do_not_bend_the_surface() -> None:
    depth_m = render(WALL)
    depth_m[236:244:3, 316:324:3] = 0.7
    answer = lifted(lift_point((320, 240), view_of(depth_m)))
    assert math.isclose(answer.point_camera_m[2], 1.0, abs_tol=1e-4)


def test_one_wrong_pixel_under_the_point_does_not_count() -> None:
    depth_m = render(WALL)
    depth_m[240, 320] = 0.4
    answer = lifted(lift_point((320, 240), view_of(depth_m)))
    assert math.isclose(answer.point_camera_m[2], 1.0, abs_tol=1e-4)


def test_a_thin_rod_is_lifted_on_itself() -> None:
    depth_m = render(WALL)
    depth_m[:, 319:322] = 0.7
    assert math.isclose(
        lifted(lift_point((320, 240), view_of(depth_m))).point_camera_m[2], 0.7, abs_tol=1e-3
    )


# --- boxes


def test_a_box_gives_the_object_and_not_the_table() -> None:
    rng = np.random.default_rng(3)
    view = view_of(with_noise(render([*TABLE, CUBE]), rng))
    target, segment = box_of(lift_box((295, 195, 345, 255), view))
    assert math.dist(target.point_camera_m, truth_at([*TABLE, CUBE], target.pixel)) < 0.003
    local = (segment.points_m - CUBE.center) @ CUBE.rotation.rotation_matrix
    on_cube = np.abs(np.abs(local / CUBE.half).max(axis=1) - 1) < 0.2
    assert on_cube.mean() > 0.98
    assert len(segment.points_m) > 0.8 * (render([*TABLE, CUBE]) != render(TABLE)).sum()


def test_a_tall_box_does_not_reach_the_wall_behind() -> None:
    scene: Scene = [*WALL, Box((0, 0, 0.7), (0.02, 0.12, 0.02), Quaternion())]
    target, segment = box_of(lift_box((280, 140, 360, 340), view_of(render(scene))))
    assert math.isclose(target.point_camera_m[2], 0.68, abs_tol=1e-3)
    assert segment.points_m[:, 2].max() < 0.75
    u0, v0, u1, v1 = segment.bounds_px
    assert 300 < u0 < u1 < 340 and v1 - v0 > 170


def test_a_ring_is_targeted_on_its_material() -> None:
    depth_m = render(WALL)
    v, u = np.mgrid[0:480, 0:640]
    radius = np.hypot(u - 320, v - 240)
    depth_m[(radius > 20) & (radius < 32)] = 0.9
    target, _ = box_of(lift_box((288, 208, 352, 272), view_of(depth_m)))
    assert math.isclose(target.point_camera_m[2], 0.9, abs_tol=1e-3)


def test_a_sheet_on_the_table_is_lifted_on_the_table() -> None:
    target, segment = box_of(lift_box((280, 200, 360, 280), view_of(render(TABLE))))
    assert math.dist(target.point_camera_m, truth_at(TABLE, target.pixel)) < 1e-3
    assert len(segment.points_m) == 81 * 81


def test_a_large_box_is_lifted_with_a_stride() -> None:
    scene: Scene = [*WALL, Sphere((0, 0, 0.8), 0.25)]
    target, segment = box_of(lift_box((120, 40, 520, 440), view_of(render(scene))))
    assert math.dist(target.point_camera_m, (0, 0, 0.55)) < 0.005
    assert len(segment.points_m) < 90_000


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ((600, 10, 700, 50), RefusalCode.OUT_OF_RANGE),
        ((100, 100, 100, 200), RefusalCode.INCOMPLETE),
    ],
)
def test_an_impossible_box_is_refused(
    bounds: tuple[float, float, float, float], expected: RefusalCode
) -> None:
    assert code(lift_box(bounds, view_of(render(WALL)))) is expected


@pytest.mark.parametrize(
    "bounds", [(319.2, 140, 319.7, 340), (220, 240.4, 420, 240.6), (639.2, 100, 639.4, 200)]
)
def test_a_box_thinner_than_a_pixel_is_grown_to_one(
    bounds: tuple[float, float, float, float],
) -> None:
    target, segment = box_of(lift_box(bounds, view_of(render(WALL))))
    assert math.isclose(target.point_camera_m[2], 1.0, abs_tol=1e-4)
    assert len(segment.pixels) >= 100


def test_a_box_smaller_than_a_pixel_is_too_little() -> None:
    answer = lift_box((319.2, 240.2, 319.3, 240.3), view_of(render(WALL)))
    assert code(answer) is RefusalCode.TOO_FEW_VALID


def test_a_box_without_depth_is_refused() -> None:
    depth_m = render(WALL)
    depth_m[90:210, 90:210] = np.nan
    assert code(lift_box((100, 100, 200, 200), view_of(depth_m))) is RefusalCode.NO_DEPTH
    depth_m[150, 150:153] = 1.0
    assert code(lift_box((100, 100, 200, 200), view_of(depth_m))) is RefusalCode.TOO_FEW_VALID


@pytest.mark.parametrize("margin_px", [0, 4, 12])
def test_a_box_around_a_thing_without_depth_is_refused(margin_px: int) -> None:
    """A glass: what has depth in its box is the table in the corners."""
    depth_m = with_noise(render(TABLE), np.random.default_rng(2))
    v, u = np.mgrid[0:480, 0:640]
    depth_m[((u - 320) / 30) ** 2 + ((v - 240) / 50) ** 2 <= 1] = np.nan
    bounds = (290 - margin_px, 190 - margin_px, 350 + margin_px, 290 + margin_px)
    assert code(lift_box(bounds, view_of(depth_m))) is RefusalCode.NO_DEPTH


def test_a_thing_that_stands_out_is_lifted_though_most_of_it_has_no_depth() -> None:
    depth_m = render([*TABLE, CUBE])
    depth_m[195:240, 295:345] = np.nan
    target, _ = box_of(lift_box((295, 195, 345, 255), view_of(depth_m)))
    assert math.dist(target.point_camera_m, truth_at([*TABLE, CUBE], target.pixel)) < 0.003


def test_a_sheet_with_holes_in_its_depth_is_lifted() -> None:
    rng = np.random.default_rng(6)
    view = view_of(with_noise(render(TABLE), rng, hole_share=0.2))
    target, _ = box_of(lift_box((280, 200, 360, 280), view))
    assert math.dist(target.point_camera_m, truth_at(TABLE, target.pixel)) < 0.003


def test_a_point_on_a_cube_gives_the_cube() -> None:
    rng = np.random.default_rng(4)
    scene: Scene = [*TABLE, CUBE]
    point, segment = box_of(segment_at((320, 225), view_of(with_noise(render(scene), rng))))
    assert math.dist(point.point_camera_m, truth_at(scene, (320, 225))) < 0.003
    extent = np.ptp(segment.points_m @ CUBE.rotation.rotation_matrix, axis=0)
    assert (extent < 0.075).all()


def test_a_point_on_the_table_gives_the_table_within_reach() -> None:
    point, segment = box_of(segment_at((100, 400), view_of(render(TABLE)), reach_m=0.08))
    away = np.linalg.norm(segment.points_m - point.point_camera_m, axis=1)
    assert 0.07 < away.max() <= 0.08


# --- trajectories and areas


def test_a_trajectory_in_mid_air_is_a_straight_line_between_its_anchors() -> None:
    depth_m = np.full((480, 640), 2.0, np.float32)
    depth_m[200:280, 80:140] = 0.6
    depth_m[200:280, 500:560] = 1.0
    path: list[Point2] = [(110, 240), (200, 240), (350, 240), (530, 240)]
    points = lift_trajectory(path, view_of(depth_m))
    assert isinstance(points, tuple)
    assert [p.interpolated for p in points] == [False, True, True, False]
    xyz = np.array([p.point_camera_m for p in points])
    line = (xyz[-1] - xyz[0]) / np.linalg.norm(xyz[-1] - xyz[0])
    assert np.abs(np.cross(xyz - xyz[0], line)).max() < 1e-6
    assert np.allclose(VGA.project(xyz), path)
    assert points[1].sigma_m > 10 * points[0].sigma_m


def test_a_trajectory_needs_both_anchors() -> None:
    depth_m = render(WALL)
    depth_m[200:280, 400:500] = np.nan
    refusal = lift_trajectory([(100, 240), (450, 240)], view_of(depth_m))
    assert code(refusal) is RefusalCode.NO_DEPTH and "end" in str(refusal)


def test_a_trajectory_that_leaves_the_image_is_refused() -> None:
    path: list[Point2] = [(100, 240), (700, 240), (300, 240)]
    assert code(lift_trajectory(path, view_of(render(WALL)))) is RefusalCode.OUT_OF_RANGE


def test_a_trajectory_through_pixels_without_a_ray_is_refused() -> None:
    camera = PinholeCamera(640, 480, 525.0, 525.0, 319.5, 239.5, (-2.0, 0.0, 0.0, 0.0))
    view = DepthView(np.ones((480, 640), np.float32), camera)
    answer = lift_trajectory([(310, 240), (5, 5), (330, 240)], view)
    assert code(answer) is RefusalCode.NO_INTRINSICS


def test_a_trajectory_of_one_point_is_that_point() -> None:
    points = lift_trajectory([(100, 240)], view_of(render(WALL)))
    assert isinstance(points, tuple) and len(points) == 1


def test_a_trajectory_of_no_points_is_refused() -> None:
    assert code(lift_trajectory([], view_of(render(WALL)))) is RefusalCode.INCOMPLETE


def test_an_area_is_targeted_where_its_points_agree() -> None:
    depth_m = render(WALL)
    depth_m[220:260, 500:560] = 0.4
    uvs: list[Point2] = [(300, 240), (320, 240), (340, 240), (530, 240), (330, 250)]
    area = lift_area(uvs, view_of(depth_m))
    assert isinstance(area, LiftedArea)
    assert area.target in area.points and len(area.points) == 5
    assert math.isclose(area.target.point_camera_m[2], 1.0, abs_tol=1e-4)


def test_an_area_keeps_its_refused_points_in_place() -> None:
    depth_m = render(WALL)
    depth_m[200:280, 400:500] = np.nan
    area = lift_area([(100, 240), (450, 240)], view_of(depth_m))
    assert isinstance(area, LiftedArea)
    assert isinstance(area.points[0], LiftedPoint) and isinstance(area.points[1], Refusal)


def test_an_area_without_any_depth_is_refused() -> None:
    view = view_of(np.full((480, 640), np.nan, np.float32))
    assert code(lift_area([(100, 240), (450, 240)], view)) is RefusalCode.NO_DEPTH
    assert code(lift_area([], view)) is RefusalCode.INCOMPLETE


def test_many_points_are_lifted_in_their_order() -> None:
    view = view_of(render(TABLE))
    points = lift_points([(100, 100), (700, 0), (200, 300)], view)
    assert [isinstance(p, LiftedPoint) for p in points] == [True, False, True]


# --- fixed frame, encodings, registration


def centred(width: int, height: int, focal_px: float) -> PinholeCamera:
    return PinholeCamera(width, height, focal_px, focal_px, (width - 1) / 2, (height - 1) / 2)


def block_beside(x_m: float, y_m: float) -> tuple[Scene, RigidTransform]:
    """A block of 8 × 8 cm whose top, 0.7 m away, faces a colour camera above (x, y); as a depth
    camera 5 cm beside it sees it."""
    block = Box((x_m - 0.05, y_m, 0.75), (0.04, 0.04, 0.05), Quaternion())
    table = Plane((0, 0, 0.85), (0, math.sin(0.3), -math.cos(0.3)))
    return [table, block], RigidTransform("color", "depth", (0.05, 0.0, 0.0))


def test_a_point_is_placed_in_the_fixed_frame() -> None:
    T_odom_optical = RigidTransform("odom", "optical", (1, 2, 3), (-0.5, 0.5, -0.5, 0.5))
    answer = to_fixed(lifted(lift_point((319.5, 239.5), view_of(render(WALL)))), T_odom_optical)
    assert answer.point_fixed_m is not None and answer.covariance_fixed_m2 is not None
    assert np.allclose(answer.point_fixed_m, (2, 2, 3), atol=1e-4)
    assert math.isclose(answer.covariance_fixed_m2[0], answer.covariance_camera_m2[8])


@pytest.mark.parametrize(
    "color",
    [
        PinholeCamera(640, 480, 600.0, 600.0, 310.0, 250.0),
        PinholeCamera(1280, 720, 920.0, 920.0, 639.5, 359.5, (0.1, -0.2, 0.0, 0.0)),
    ],
    ids=["same size", "larger and distorted"],
)
def test_a_depth_camera_beside_the_colour_camera_is_registered(color: PinholeCamera) -> None:
    turn = Quaternion(axis=(0, 1, 0), degrees=2.0)
    R, offset = turn.rotation_matrix, np.array((0.025, 0.0, 0.002))
    T_color_depth = RigidTransform(
        "color", "depth", tuple(offset), (turn.x, turn.y, turn.z, turn.w)
    )
    point, normal = np.array((0, 0, 1.0)), np.array((0, math.sin(0.6), -math.cos(0.6)))
    center = np.array((0, 0, 0.7))
    in_depth: Scene = [Plane(tuple(point), tuple(normal)), Sphere(tuple(center), 0.08)]
    center = R @ center + offset
    in_color: Scene = [Plane(tuple(R @ point + offset), tuple(R @ normal)), Sphere(center, 0.08)]
    registered = register_depth(render(in_depth), VGA, color, T_color_depth)
    assert isinstance(registered, np.ndarray) and registered.shape == (color.height, color.width)
    view = DepthView(registered, color)
    u, v = color.project([center])[0]
    for uv in ((u, v), (u + 20, v - 15), (200.0, 150.0), (480.0, 330.0)):
        answer = lifted(lift_point(uv, view))
        assert math.dist(answer.point_camera_m, truth_at(in_color, uv, color)) < 0.003


def test_the_nearest_surface_hides_what_is_behind_it() -> None:
    T_color_depth = RigidTransform("color", "depth", (0.2, 0.0, 0.0))
    depth_m = np.full((480, 640), 2.0, np.float32)
    depth_m[:, 200:300] = 0.7
    registered = register_depth(depth_m, VGA, VGA, T_color_depth)
    assert isinstance(registered, np.ndarray)
    assert np.allclose(registered[240, 352:448], 0.7)


@pytest.mark.parametrize(
    ("width", "height", "focal_px", "depth_px"),
    [
        (1280, 720, 915.0, (1280, 720, 890.0)),
        (640, 480, 640.0, (640, 480, 600.0)),
        (640, 480, 600.0, (640, 480, 600.0)),
        (1280, 960, 1260.0, (640, 480, 600.0)),
    ],
    ids=["1.03", "1.07", "1", "2.1"],
)
def test_registered_depth_has_no_gaps_and_shows_nothing_through_them(
    width: int, height: int, focal_px: float, depth_px: tuple[int, int, float]
) -> None:
    """A block on a slanted table, whatever the focal lengths are to each other."""
    color, beside = centred(width, height, focal_px), centred(*depth_px)
    rng = np.random.default_rng(5)
    for x, y in rng.uniform(-0.04, 0.04, (3, 2)):
        in_depth, T_color_depth = block_beside(x, y)
        noisy = with_noise(render(in_depth, beside), rng)
        registered = register_depth(noisy, beside, color, T_color_depth)
        assert isinstance(registered, np.ndarray)
        (u0, v0), (u1, v1) = color.project([(x - 0.04, y - 0.04, 0.7), (x + 0.04, y + 0.04, 0.7)])
        top = registered[int(v0) + 4 : int(v1) - 2, int(u0) + 4 : int(u1) - 2]
        assert (np.abs(top - 0.7) < 0.01).all()
        table = registered[height // 10 : height // 4, width // 4 : width * 3 // 4]
        assert np.isfinite(table).mean() > 0.9995
        target, segment = box_of(lift_box((u0, v0, u1, v1), DepthView(registered, color)))
        assert math.dist(target.point_camera_m, (x, y, 0.7)) < 0.004
        assert (np.ptp(segment.points_m[:, :2], axis=0) > 0.07).all()


def test_registered_depth_is_no_nearer_than_the_surface() -> None:
    """Where depth pixels overlap, the nearest of them is nearer than what they all show."""
    color, beside = centred(640, 480, 618.0), centred(640, 480, 600.0)
    noisy = with_noise(render(WALL, beside), np.random.default_rng(3))
    T_color_depth = RigidTransform("color", "depth", (0.05, 0.0, 0.0))
    registered = register_depth(noisy, beside, color, T_color_depth)
    assert isinstance(registered, np.ndarray)
    assert math.isclose(float(np.nanmean(registered)), 1.0, abs_tol=2e-4)
    view = DepthView(registered, color)
    for uv in ((200.0, 150.0), (320.0, 240.0), (480.0, 330.0)):
        answer = lifted(lift_point(uv, view))
        sigma_z_m = math.sqrt(answer.covariance_camera_m2[8])
        assert abs(answer.point_camera_m[2] - 1.0) < 3 * sigma_z_m


def test_what_stands_aside_of_the_colour_lens_is_not_drawn_into_its_picture() -> None:
    """The depth camera sees farther to the side than the bent lens beside it."""
    color = PinholeCamera(640, 480, 400.0, 400.0, 319.5, 239.5, (-0.3, 0.02, 0.0, 0.0))
    wide = PinholeCamera(640, 480, 190.0, 190.0, 319.5, 239.5)
    depth_m = np.full((480, 640), 3.0, np.float32)
    depth_m[:, :70] = 0.6
    registered = register_depth(depth_m, wide, color, RigidTransform("color", "depth"))
    assert isinstance(registered, np.ndarray)
    assert np.nanmin(registered) == np.float32(3.0)


def test_depth_of_the_wrong_size_is_not_registered() -> None:
    answer = register_depth(np.ones((10, 10), np.float32), VGA, VGA, RigidTransform("c", "d"))
    assert code(answer) is RefusalCode.DEPTH_SIZE


# --- any camera_info

_ANY = st.one_of(st.floats(), st.sampled_from((0.0, 1e-300, 1e9, 1e300)))
_FOCALS = st.one_of(
    *(st.tuples(each, each) for each in (st.floats(2, 60), st.floats(2, 900), _ANY))
)
_CENTERS = st.one_of(*(st.tuples(each, each) for each in (st.floats(0, 9), st.floats(-9, 9), _ANY)))
_COEFFICIENT = st.one_of(st.floats(-1, 1), st.floats(-999, 999))
_LENSES = st.sampled_from(
    [(name, n) for name, counts in COEFFICIENTS.items() for n in {0, 8, *counts}]
).flatmap(
    lambda lens: st.tuples(
        st.just(lens[0]),
        st.one_of(*(st.lists(d, min_size=lens[1], max_size=lens[1]) for d in (_COEFFICIENT, _ANY))),
    )
)
_INFOS = st.builds(
    lambda width, height, f, c, lens: CameraInfo(
        width, height, (f[0], 0.0, c[0], 0.0, f[1], c[1], 0.0, 0.0, 1.0), tuple(lens[1]), lens[0]
    ),
    st.integers(0, 40),
    st.integers(0, 30),
    _FOCALS,
    _CENTERS,
    _LENSES,
)


@given(_INFOS, _INFOS, st.floats(0.1, 8.0), st.tuples(st.floats(0, 1), st.floats(0, 1)))
@settings(max_examples=300, deadline=None)
def test_no_camera_info_breaks_lifting(
    info: CameraInfo, depth_info: CameraInfo, z: float, at: Point2
) -> None:
    camera = camera_or_refusal(info)
    if isinstance(camera, Refusal):
        return
    view = DepthView(np.full((camera.height, camera.width), z, np.float32), camera)
    uv = (at[0] * (camera.width - 1), at[1] * (camera.height - 1))
    middle = ((camera.width - 1) / 2, (camera.height - 1) / 2)
    (left, right), (top, bottom) = sorted((uv[0], middle[0])), sorted((uv[1], middle[1]))
    boxed = lift_box((left, top, right, bottom), view)
    path = lift_trajectory([uv, middle, uv], view)
    points = [lift_point(uv, view), boxed[0] if isinstance(boxed, tuple) else boxed]
    points += path if isinstance(path, tuple) else []
    for point in points:
        if isinstance(point, LiftedPoint):
            assert np.isfinite((*point.point_camera_m, *point.covariance_camera_m2)).all()
    segment_at(uv, view)
    depth_camera = camera_or_refusal(depth_info)
    if isinstance(depth_camera, PinholeCamera):
        depth_m = np.full((depth_camera.height, depth_camera.width), z, np.float32)
        register_depth(depth_m, depth_camera, camera, RigidTransform("color", "depth"))
