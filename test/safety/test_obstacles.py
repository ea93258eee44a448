"""The ground is remembered where the camera no longer sees it: what stood there, what was free."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from rynn_brain_ros.geometry import (
    DepthNoise,
    DepthView,
    PinholeCamera,
    camera_or_refusal,
    from_matrix,
    invert,
    ray_grid,
)
from rynn_brain_ros.safety import GroundMemory
from rynn_brain_ros.safety.corridor import Strip
from rynn_brain_ros.safety.obstacles import SEEN_SHARE
from rynn_brain_ros.values import CameraInfo, RigidTransform, TransformError

HEIGHT_M, TILT = 1.1, math.radians(15)
STRIP = Strip(width_m=0.6, height_m=0.6, blind_m=1.3)


def camera() -> PinholeCamera:
    f, cx, cy = 388.0, 319.5, 239.5
    found = camera_or_refusal(CameraInfo(640, 480, (f, 0, cx, 0, f, cy, 0, 0, 1)))
    assert isinstance(found, PinholeCamera)
    return found


def mounted() -> RigidTransform:
    """Looking ahead and down, as on the rover."""
    c, s = math.cos(TILT), math.sin(TILT)
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([(0, -s, c), (-1, 0, 0), (0, -c, -s)])
    matrix[:3, 3] = (0.0, 0.0, HEIGHT_M)
    return from_matrix(matrix, "base_link", "optical")


def base_at(x: float, yaw: float = 0.0) -> RigidTransform:
    """``T_odom_base``."""
    c, s = math.cos(yaw), math.sin(yaw)
    matrix = np.array([[c, -s, 0, x], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    return from_matrix(matrix, "odom", "base_link")


def seen(
    box_at_m: float | None,
    height_m: float = 0.3,
    from_m: float = 0.0,
    lens: PinholeCamera | None = None,
) -> DepthView:
    """Flat ground, and a wall of ``height_m`` across the whole way at a distance; with ``from_m``
    a beam over open ground."""
    lens = lens or camera()
    rays, T = ray_grid(lens), mounted()
    directions = np.stack(
        [
            math.cos(TILT) * rays[..., 2] - math.sin(TILT) * rays[..., 1],
            -rays[..., 0],
            -math.sin(TILT) * rays[..., 2] - math.cos(TILT) * rays[..., 1],
        ],
        axis=-1,
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = np.where(directions[..., 2] < 0, -T.translation_m[2] / directions[..., 2], np.nan)
        if box_at_m is not None:
            wall = box_at_m / directions[..., 0]
            z = T.translation_m[2] + wall * directions[..., 2]
            depth = np.where((z >= from_m) & (z <= height_m), wall, depth)
    return DepthView(depth.astype(np.float32), lens)


def over_the_edge(
    edge_m: float, until_m: float = math.inf, deep_m: float = 0.5, noise_seed: int | None = None
) -> DepthView:
    """Ground up to an edge across the whole way and, ``deep_m`` lower, what is seen behind it; at
    ``until_m`` the ground goes on."""
    flat = seen(None).depth_m.astype(np.float64)
    down = math.cos(TILT) * ((np.mgrid[0:480, 0:640][0] - 239.5) / 388.0) + math.sin(TILT)
    ahead = math.cos(TILT) - math.sin(TILT) * (np.mgrid[0:480, 0:640][0] - 239.5) / 388.0
    with np.errstate(invalid="ignore"):
        fallen = (flat * ahead > edge_m) & (flat * ahead < until_m)
        lower = np.minimum((HEIGHT_M + deep_m) / down, until_m / ahead)
        depth = np.where(fallen, lower, flat)
    if noise_seed is not None:
        rng = np.random.default_rng(noise_seed)
        depth += rng.normal(size=depth.shape) * DepthNoise().sigma_m(depth)
    return DepthView(depth.astype(np.float32), camera())


def test_an_obstacle_is_remembered_where_it_stands_in_the_fixed_frame():
    memory = GroundMemory()
    memory.see(seen(1.6), mounted(), base_at(0.0), STRIP)
    assert memory.ahead_m(invert(base_at(0.0)), 0.6) == pytest.approx(1.6, abs=0.08)
    assert memory.ahead_m(invert(base_at(1.0)), 0.6) == pytest.approx(0.6, abs=0.08)


def test_it_is_not_in_the_way_of_a_robot_that_turned_away():
    memory = GroundMemory()
    memory.see(seen(1.6), mounted(), base_at(0.0), STRIP)
    assert memory.ahead_m(invert(base_at(0.0, math.pi)), 0.6) == math.inf


@pytest.mark.parametrize("d", [(), (-0.3, 0.02, 0.0, 0.0)])
def test_it_is_still_there_when_the_robot_turns_back(d: tuple[float, ...]):
    """A bent lens does not see what is far to its side."""
    memory, lens = GroundMemory(), replace(camera(), distortion=d)
    memory.see(seen(1.6, lens=lens), mounted(), base_at(0.0), STRIP)
    for degrees in (60, 65, 70, 75, 80):
        memory.see(seen(None, lens=lens), mounted(), base_at(0.0, math.radians(degrees)), STRIP)
    assert memory.ahead_m(invert(base_at(0.0)), 0.1) == pytest.approx(1.6, abs=0.08)


def test_what_is_behind_a_robot_that_turned_away_is_still_around_it():
    memory = GroundMemory()
    memory.see(seen(1.6), mounted(), base_at(0.0), STRIP)
    for yaw in (0.0, 1.0, math.pi):
        assert memory.around_m(invert(base_at(1.0, yaw))) == pytest.approx(0.6, abs=0.08)
    assert GroundMemory().around_m(invert(base_at(0.0))) == math.inf


def test_around_a_robot_a_thing_begins_where_it_may_begin():
    """Not at the middle of the 5 cm that it was seen in: what turns would touch it before."""
    memory = GroundMemory()
    memory.see(seen(1.6), mounted(), base_at(0.0), STRIP)
    found = {memory.around_m(invert(base_at(1.4, yaw))) for yaw in (0.0, 0.7, math.pi)}
    assert max(found) == pytest.approx(min(found))
    assert 0.15 <= max(found) <= 0.2


def test_open_ground_leaves_nothing_behind():
    memory = GroundMemory()
    memory.see(seen(None), mounted(), base_at(0.0), STRIP)
    assert memory.ahead_m(invert(base_at(0.0)), 0.6) == math.inf


def test_what_is_seen_free_again_is_forgotten():
    memory = GroundMemory()
    memory.see(seen(1.6), mounted(), base_at(0.0), STRIP)
    memory.see(seen(None), mounted(), base_at(0.0), STRIP)
    assert memory.ahead_m(invert(base_at(0.0)), 0.6) == math.inf


def test_floor_that_is_seen_under_a_table_top_does_not_take_the_top_away():
    """The camera comes nearer and looks under it."""
    memory = GroundMemory()
    memory.see(seen(2.0, height_m=0.5, from_m=0.4), mounted(), base_at(0.0), STRIP)
    assert memory.ahead_m(invert(base_at(0.0)), 0.6) == pytest.approx(2.0, abs=0.08)
    for x in (0.4, 0.8, 1.0, 1.3):
        memory.see(seen(2.0 - x, 0.5, from_m=0.4), mounted(), base_at(x), STRIP)
        assert memory.ahead_m(invert(base_at(x)), 0.6) == pytest.approx(2.0 - x, abs=0.08)
    assert memory.clearance_m((2.0, 0.0)) == 0.0


def test_a_low_thing_is_gone_where_the_ground_is_seen_from_above():
    memory = GroundMemory()
    memory.see(seen(1.5, height_m=0.06), mounted(), base_at(0.0), STRIP)
    assert memory.ahead_m(invert(base_at(0.0)), 0.6) < 1.6
    memory.see(seen(None), mounted(), base_at(0.0), STRIP)
    assert memory.ahead_m(invert(base_at(0.0)), 0.6) == math.inf


def test_somebody_who_has_gone_is_forgotten_where_nothing_but_the_ground_has_depth():
    memory = GroundMemory()
    memory.see(seen(2.5, height_m=0.59), mounted(), base_at(0.0), STRIP)
    ground = seen(None)
    far = np.where(ground.depth_m < 3.0, ground.depth_m, np.nan).astype(np.float32)
    memory.see(DepthView(far, ground.camera), mounted(), base_at(0.0), STRIP)
    assert memory.ahead_m(invert(base_at(0.0)), 0.6) == math.inf


def test_what_is_higher_than_the_robot_is_no_obstacle():
    memory = GroundMemory()
    flat_robot = Strip(width_m=0.6, height_m=0.0301)
    memory.see(seen(1.6), mounted(), base_at(0.0), flat_robot)
    assert memory.ahead_m(invert(base_at(0.0)), 0.6) == math.inf


def test_free_places_have_room_around_them_on_ground_that_was_seen():
    memory = GroundMemory()
    memory.see(seen(2.5), mounted(), base_at(0.0), STRIP)
    x, y = memory.free_places(0.3).T
    assert 1.0 < x.min() < 1.5
    before = x < 2.5
    assert 2.1 < x[before].max() <= 2.5 - 0.3
    assert y[before].min() < -0.5 and y[before].max() > 0.5


def test_nothing_is_free_before_anything_was_seen():
    memory = GroundMemory()
    assert memory.free_places(0.3).shape == (0, 2)
    assert memory.seen_share((0.0, 0.0), 0.3) == 0.0
    assert memory.clearance_m((0.0, 0.0)) == math.inf


def test_a_place_that_is_free_is_so_by_its_own_numbers():
    memory = GroundMemory()
    memory.see(seen(2.5), mounted(), base_at(0.0), STRIP)
    for x, y in memory.free_places(0.3)[::50]:
        assert memory.clearance_m((x, y)) >= 0.3
        assert memory.seen_share((x, y), 0.3) >= SEEN_SHARE


def test_what_stands_between_two_places_is_known():
    memory = GroundMemory()
    memory.see(seen(2.0), mounted(), base_at(0.0), STRIP)
    assert memory.is_between((1.5, 0.0), (2.5, 0.0))
    assert not memory.is_between((1.5, 0.0), (1.8, 0.2))


def test_what_was_seen_in_another_fixed_frame_is_forgotten():
    """odom comes late: until then poses were told in the base's own frame."""
    memory = GroundMemory()
    memory.see(seen(1.6), mounted(), RigidTransform("base_link", "base_link"), STRIP)
    assert memory.seen_share((1.45, 0.0), 0.05) > 0.0
    memory.see(seen(2.5), mounted(), base_at(3.0), STRIP)
    assert memory.ahead_m(invert(base_at(3.0)), 0.6) == pytest.approx(2.5, abs=0.08)
    assert memory.seen_share((1.45, 0.0), 0.05) == 0.0
    assert memory.clearance_m((1.6, 0.0)) > 1.0


def test_the_way_ahead_is_not_told_in_another_fixed_frame():
    memory = GroundMemory()
    memory.see(seen(1.6), mounted(), base_at(0.0), STRIP)
    with pytest.raises(TransformError, match="remembered in 'odom'"):
        memory.ahead_m(RigidTransform("base_link", "base_link"), 0.6)


# --- where the ground falls away ------------------------------------------------------------------


@pytest.mark.parametrize("noise_seed", [None, 0, 1])
@pytest.mark.parametrize("deep_m", [0.1, 0.5, 1.5])
def test_nobody_is_sent_so_near_to_an_edge_that_the_base_hangs_over(
    deep_m: float, noise_seed: int | None
):
    memory = GroundMemory()
    memory.see(
        over_the_edge(2.0, deep_m=deep_m, noise_seed=noise_seed), mounted(), base_at(0.0), STRIP
    )
    x, _ = memory.free_places(0.2).T
    assert 1.6 < x.max() <= 1.8
    assert memory.clearance_m((1.925, -0.025)) < 0.1
    assert memory.ahead_m(invert(base_at(0.5)), 0.6) == pytest.approx(1.5, abs=0.06)


def test_the_strip_behind_an_edge_whose_bottom_is_hidden_is_no_ground():
    memory = GroundMemory()
    memory.see(over_the_edge(2.0), mounted(), base_at(0.0), STRIP)
    for x in (2.05, 2.3, 2.6):
        assert memory.clearance_m((x, 0.0)) == 0.0


def test_a_ditch_ends_where_the_ground_goes_on():
    memory = GroundMemory()
    memory.see(over_the_edge(1.8, until_m=2.2), mounted(), base_at(0.0), STRIP)
    assert memory.clearance_m((2.0, 0.0)) == 0.0
    assert memory.clearance_m((2.6, 0.0)) > 0.3


def test_a_drop_is_gone_where_ground_is_seen_again():
    memory = GroundMemory()
    memory.see(over_the_edge(2.0), mounted(), base_at(0.0), STRIP)
    memory.see(seen(None), mounted(), base_at(0.0), STRIP)
    assert memory.clearance_m((2.0, 0.0)) > 1.0


def test_a_drop_is_remembered_by_a_robot_that_no_longer_sees_it():
    memory = GroundMemory()
    memory.see(over_the_edge(2.0), mounted(), base_at(0.0), STRIP)
    memory.see(seen(None), mounted(), base_at(1.9, math.pi), STRIP)
    assert memory.clearance_m((2.0, 0.0)) < 0.05


def test_a_drop_hides_nothing_that_is_behind_it():
    memory = GroundMemory()
    memory.see(over_the_edge(1.8, until_m=2.2), mounted(), base_at(0.0), STRIP)
    assert not memory.is_between((1.5, 0.0), (2.6, 0.0))


@pytest.mark.parametrize("noise_seed", range(5))
def test_noise_on_flat_ground_is_no_drop(noise_seed: int):
    memory = GroundMemory()
    flat = over_the_edge(math.inf, noise_seed=noise_seed)
    memory.see(flat, mounted(), base_at(0.0), STRIP)
    assert memory.ahead_m(invert(base_at(0.0)), 3.0) == math.inf
