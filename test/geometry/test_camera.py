"""Intrinsics, distortion and normalized coordinates."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rynn_brain_ros.geometry import (
    IntrinsicsError,
    PinholeCamera,
    camera_or_refusal,
    norm_to_pixel,
    pixel_to_norm,
    ray_grid,
)
from rynn_brain_ros.values import CameraInfo, InputError, Refusal, RefusalCode

K = (525.0, 0.0, 319.5, 0.0, 525.0, 239.5, 0.0, 0.0, 1.0)
LENSES = {
    "none": ("plumb_bob", ()),
    "four": ("plumb_bob", (0.08, -0.2, 0.001, -0.002)),
    "barrel": ("plumb_bob", (-0.25, 0.07, 0.0005, -0.0003, -0.01)),
    "rational": ("rational_polynomial", (0.6, -2.7, 0.0003, -0.0004, 1.6, 0.48, -2.5, 1.5)),
    "thin prism": ("rational_polynomial", (0.1, -0.05, 0, 0, 0, 0, 0, 0, 0.001, 0, 0.001, 0)),
    "tilted": ("rational_polynomial", (0.1, -0.05, *([0.0] * 10), 0.01, -0.01)),
    "fisheye": ("equidistant", (-0.01, 0.03, -0.02, 0.004)),
}


def camera_of(lens: str) -> PinholeCamera:
    model, d = LENSES[lens]
    return PinholeCamera.from_info(CameraInfo(640, 480, K, d, model))


@pytest.mark.parametrize("lens", LENSES)
@given(u=st.floats(0, 639), v=st.floats(0, 479), z=st.floats(0.05, 20))
@settings(max_examples=60, deadline=None)
def test_a_pixel_returns_from_space(lens: str, u: float, v: float, z: float) -> None:
    camera = camera_of(lens)
    assert np.allclose(camera.project(camera.pixel_to_ray([(u, v)]) * z), [(u, v)], atol=0.01)


def test_the_principal_point_looks_straight_ahead() -> None:
    assert np.allclose(camera_of("none").pixel_to_ray([(319.5, 239.5)]), [(0, 0, 1)])


def test_a_wide_fisheye_is_inverted_up_to_its_rim() -> None:
    info = CameraInfo(
        800, 800, (280, 0, 399.5, 0, 280, 399.5, 0, 0, 1), (0.02, 0, 0, 0), "equidistant"
    )
    camera = PinholeCamera.from_info(info)
    rim = [(399.5 + 280 * 1.4, 399.5)]
    ray = camera.pixel_to_ray(rim)
    assert 75 < math.degrees(math.atan(ray[0, 0])) < 85
    assert np.allclose(camera.project(ray), rim, atol=0.01)


def test_a_pixel_without_a_ray_is_nan() -> None:
    info = CameraInfo(640, 480, K, (-2.0, 0.0, 0.0, 0.0), "plumb_bob")
    assert np.isnan(PinholeCamera.from_info(info).pixel_to_ray([(0, 0)])[0, :2]).all()


def test_a_point_behind_the_camera_has_no_pixel() -> None:
    for lens in LENSES:
        assert np.isnan(camera_of(lens).project([(0.1, 0.1, -1.0), (0.1, 0.1, 0.0)])).all()


@pytest.mark.parametrize("lens", LENSES)
@given(turn=st.floats(0, math.tau), off_deg=st.floats(0, 89.9))
@settings(max_examples=60, deadline=None)
def test_what_has_a_pixel_in_the_picture_is_what_that_pixel_shows(
    lens: str, turn: float, off_deg: float
) -> None:
    """A lens's polynomial folds what is far off the axis back into the picture."""
    camera, off = camera_of(lens), math.tan(math.radians(off_deg))
    point = (off * math.cos(turn), off * math.sin(turn), 1.0)
    uv = camera.project([point])
    if camera.contains(*uv[0]):
        assert np.allclose(camera.pixel_to_ray(uv), [point], atol=0.01)


@pytest.mark.parametrize("d", [(-0.3, 0.02, 0.0, 0.0), (-0.373, 0.204, 0.0, 0.0, -0.072)])
def test_what_is_aside_of_a_barrel_lens_is_not_in_its_picture(d: tuple[float, ...]) -> None:
    """Of the first, the picture's corners have no rays."""
    camera = PinholeCamera(640, 480, 450.0, 450.0, 319.5, 239.5, d)
    seen_deg = math.degrees(math.atan(np.nanmax(np.hypot(*ray_grid(camera)[..., :2].T))))
    aside = np.radians(np.arange(math.ceil(seen_deg * 1.05), 90))
    points = np.column_stack([np.sin(aside), 0 * aside, np.cos(aside)])
    assert np.isnan(camera.project(points)).all()
    assert np.nanmin(camera.project_unlimited(points)[:, 0]) < camera.width


def test_a_little_beside_the_picture_there_are_pixels_still() -> None:
    camera = camera_of("barrel")
    ray = camera.pixel_to_ray([(645.0, 485.0)])
    assert np.allclose(camera.project(ray), [(645, 485)], atol=0.01)


def test_no_points_are_no_pixels() -> None:
    camera = camera_of("barrel")
    assert camera.project(np.empty((0, 3))).shape == (0, 2)
    assert camera.pixel_to_ray(np.empty((0, 2))).shape == (0, 3)


def test_zero_coefficients_are_no_distortion() -> None:
    info = CameraInfo(640, 480, K, (0.0, 0.0, 0.0, 0.0, 0.0), "some_vendor_model")
    assert PinholeCamera.from_info(info).distortion == ()


@pytest.mark.parametrize(
    ("model", "d", "lens"),
    [
        ("plumb_bob", LENSES["rational"][1], "rational"),
        ("plumb_bob", (*LENSES["barrel"][1], 0, 0, 0), "barrel"),
        ("equidistant", (-0.01, 0.03, 0, 0, -0.02, 0.004, 0, 0), "fisheye"),
    ],
)
def test_eight_coefficients_are_read_in_the_order_of_orbbecs_driver(
    model: str, d: tuple[float, ...], lens: str
) -> None:
    camera = PinholeCamera.from_info(CameraInfo(640, 480, K, d, model))
    pixels = [(5.0, 5.0), (600.0, 300.0), (639.0, 479.0)]
    assert np.allclose(camera.pixel_to_ray(pixels), camera_of(lens).pixel_to_ray(pixels), atol=1e-6)


@pytest.mark.parametrize(
    ("info", "word"),
    [
        (CameraInfo(640, 480, (0.0,) * 9), "not calibrated"),
        (CameraInfo(640, 480, (math.nan, *K[1:])), "NaN"),
        (CameraInfo(640, 480, (-525.0, *K[1:])), "not positive"),
        (CameraInfo(0, 480, K), "0×480"),
        (CameraInfo(640, 0, K), "640×0"),
        (CameraInfo(640, 480, K, (0.1, 0.2, 0.3)), "4 or 5"),
        (CameraInfo(640, 480, K, (0.1,) * 5, "rational_polynomial"), "8 or 12 or 14"),
        (CameraInfo(640, 480, K, (0.1,) * 5, "equidistant"), "has 4"),
        (CameraInfo(640, 480, K, (0.1,) * 8, "equidistant"), "has 4"),
        (CameraInfo(640, 480, K, (0.1, 0, 0, 0, 0.1, 0, 1e-9, 0), "equidistant"), "has 4"),
        (CameraInfo(640, 480, K, (0.1,) * 12), "4 or 5"),
        (CameraInfo(640, 480, K, (0.1, 0.0, 0.0, math.inf)), "infinity"),
        (CameraInfo(640, 480, K, (0.1,) * 4, "mystery"), "unknown distortion model"),
        (CameraInfo(640, 480, (525.0, 3.0, *K[2:])), "skew"),
        (CameraInfo(640, 480, K[:8]), "9 values"),
        (CameraInfo(640, 480, (1e-9, *K[1:])), "fx=1e-09 is impossible.*32 … 640000"),
        (CameraInfo(640, 480, (*K[:4], 1e300, *K[5:])), "fy=1e\\+300 is impossible"),
        (CameraInfo(640, 480, (*K[:2], 1e9, *K[3:])), "cx=1e\\+09 is impossible.*-640 … 1280"),
        (CameraInfo(640, 480, (*K[:5], -481.0, *K[6:])), "cy=-481 is impossible"),
        (CameraInfo(640, 480, K, (0.1, -1e3, 0.0, 0.0)), "coefficient -1000 is impossible"),
    ],
)
def test_a_bad_camera_info_is_refused_by_name(info: CameraInfo, word: str) -> None:
    with pytest.raises(IntrinsicsError, match=word):
        PinholeCamera.from_info(info)
    refusal = camera_or_refusal(info)
    assert isinstance(refusal, Refusal) and refusal.code is RefusalCode.NO_INTRINSICS


def test_a_missing_camera_info_is_refused() -> None:
    refusal = camera_or_refusal(None)
    assert isinstance(refusal, Refusal) and refusal.code is RefusalCode.NO_INTRINSICS


def test_the_intrinsics_error_is_an_input_error() -> None:
    assert issubclass(IntrinsicsError, InputError)


def test_a_rectified_image_uses_the_projection_matrix() -> None:
    p = (500.0, 0, 310.0, 0, 0, 501.0, 230.0, 0, 0, 0, 1, 0)
    info = CameraInfo(640, 480, K, (-0.25, 0.07, 0, 0), p=p)
    camera = PinholeCamera.from_info(info, rectified=True)
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (500.0, 501.0, 310.0, 230.0)
    assert camera.distortion == ()


def test_a_rectified_image_without_projection_matrix_is_refused() -> None:
    with pytest.raises(IntrinsicsError, match="P does not have 12"):
        PinholeCamera.from_info(CameraInfo(640, 480, K), rectified=True)


def test_normalized_corners_are_the_outer_pixel_centres() -> None:
    assert norm_to_pixel([(0, 0), (1000, 1000)], 640, 480) == ((0, 0), (639, 479))


def test_a_coordinate_out_of_range_is_not_clamped() -> None:
    assert np.allclose(norm_to_pixel([(1100, -100)], 101, 101), [(110, -10)])


@given(
    x=st.integers(0, 1000), y=st.integers(0, 1000), w=st.integers(2, 8000), h=st.integers(2, 8000)
)
def test_normalized_coordinates_round_trip(x: int, y: int, w: int, h: int) -> None:
    assert np.allclose(pixel_to_norm(norm_to_pixel([(x, y)], w, h), w, h), [(x, y)], atol=1e-9)


def test_the_ray_grid_is_made_once_and_cannot_be_changed() -> None:
    grid = ray_grid(camera_of("barrel"))
    assert grid is ray_grid(camera_of("barrel"))
    assert not grid.flags.writeable
    assert np.allclose(grid[100, 200], camera_of("barrel").pixel_to_ray([(200, 100)])[0])
