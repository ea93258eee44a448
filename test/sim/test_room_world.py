"""The room: nothing is driven through, and what the camera sees is where it is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from rynn_brain_ros.geometry import PinholeCamera, TransformBuffer, apply, compose, ray_grid
from rynn_brain_ros.models.color_vision import find_blobs
from rynn_brain_ros.sim.furnishing import COLORS, KINDS
from rynn_brain_ros.sim.grid import FREE, OCCUPIED, UNKNOWN, plan_path
from rynn_brain_ros.sim.objects import PAINT
from rynn_brain_ros.sim.room import BasePose, RoomScene, RoomThing, RoomWorld, TopView, random_room
from rynn_brain_ros.sim.room_scene import BASE_RADIUS_M, Block, gap_m
from rynn_brain_ros.sim.world import START_NS
from rynn_brain_ros.values import InputError, Refusal

SEEDS = range(20)
BOX = RoomThing((2.0, 0.5), (0.8, 0.4, 0.5), 0.4, color="blue", kind="box")
TABLE = RoomThing((-1.0, 1.0), (0.9, 0.9, 0.7), is_round=True, color="red", kind="table")
SCENE = RoomScene(3, (6.0, 5.0), (BOX, TABLE))


@pytest.fixture(scope="module")
def drawn() -> Iterator[RoomWorld]:
    pytest.importorskip("mujoco")
    world = RoomWorld(random_room(1))
    yield world
    world.close()


# --- the base ---------------------------------------------------------------------------------


def test_it_drives_as_far_as_it_is_told():
    world = RoomWorld(replace(SCENE, start=BasePose(0.0, 0.0, math.pi / 2)))
    world.command_velocity(0.5, 0.0)
    world.step(1.0)
    assert world.base_pose().xy_m == pytest.approx((0.0, 0.5))
    assert world.now_ns == START_NS + 1_000_000_000


def test_a_full_circle_ends_where_it_began():
    world = RoomWorld(SCENE)
    world.command_velocity(0.2, math.pi / 4)
    world.step(8.0)
    assert world.base_pose().xy_m == pytest.approx((0.0, 0.0), abs=1e-9)
    assert world.base_pose().yaw_rad == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_bumping_never_passes_through(seed: int):
    scene, rng = random_room(seed), np.random.default_rng(seed)
    world = RoomWorld(scene)
    for _ in range(80):
        world.command_velocity(float(rng.uniform(-1, 3)), float(rng.uniform(-2, 2)))
        world.step(0.2)
        assert scene.clearance_m(world.base_pose().xy_m) >= BASE_RADIUS_M - 1e-6
    assert world.collisions() > 0


def test_not_even_at_absurd_speed():
    world = RoomWorld(replace(SCENE, start=BasePose(-1.0, -1.5)))
    world.command_velocity(100.0, 0.0)
    world.step(0.1)
    assert world.base_pose().x_m == pytest.approx(3.0 - BASE_RADIUS_M, abs=1e-3)


def test_pushing_on_counts_as_one_collision_and_stopping_short_as_none():
    world = RoomWorld(replace(SCENE, start=BasePose(2.5, -1.0)))
    world.command_velocity(0.2, 0.0)
    world.step(1.0)
    assert world.collisions() == 0
    world.step(2.0)
    assert world.collisions() == 1
    world.command_velocity(-0.2, 0.0)
    world.step(0.5)
    world.command_velocity(0.2, 0.0)
    world.step(1.0)
    assert world.collisions() == 2


def test_wheels_turn_as_the_base_drives():
    world = RoomWorld(SCENE)
    world.command_velocity(0.4, 0.0)
    world.step(1.0)
    state = world.joint_state()
    assert state.positions == pytest.approx((5.0, 5.0))
    assert state.velocities == pytest.approx((5.0, 5.0))


def test_the_tree_leads_from_the_map_to_the_camera():
    world = RoomWorld(replace(SCENE, start=BasePose(0.5, -0.5, 0.3)))
    buffer = TransformBuffer()
    assert buffer.add(world.static_transforms(), static=True) == ()
    buffer.add(world.transforms())
    frame_id = world.camera_info("forward").frame_id
    T_map_camera = buffer.lookup("map", frame_id, world.now_ns)
    assert not isinstance(T_map_camera, Refusal)
    ahead = apply(T_map_camera, [(0.0, 0.0, 1.0)])[0] - T_map_camera.translation_m
    assert math.atan2(ahead[1], ahead[0]) == pytest.approx(0.3)
    assert -ahead[2] == pytest.approx(math.sin(math.radians(30)))
    assert 1.0 <= T_map_camera.translation_m[2] <= 1.25


# --- the room ---------------------------------------------------------------------------------


def test_distances_are_to_the_outline():
    world = RoomWorld(replace(SCENE, start=BasePose(-1.0, -1.0)))
    assert world.distance_to("red table") == pytest.approx(1.55)
    outline = BOX.outline(0.002)
    nearest = float(np.linalg.norm(outline - world.base_pose().xy_m, axis=1).min())
    assert world.distance_to("blue box") == pytest.approx(nearest, abs=0.002)


@pytest.mark.parametrize("block", [BOX, TABLE])
def test_one_place_and_many_have_the_same_distance(block: Block):
    places = np.random.default_rng(0).uniform(-3, 3, (200, 2))
    one_by_one = [block.clearance_m((float(x), float(y))) for x, y in places]
    assert block.distance_m(places) == pytest.approx(one_by_one)


def test_an_unknown_thing_is_an_error_that_names_the_known():
    with pytest.raises(InputError, match="no green sofa in room 3; it holds: blue box, red table"):
        RoomWorld(SCENE).distance_to("green sofa")


def test_the_floor_plan_is_what_stands_on_the_floor():
    grid = RoomWorld(SCENE).occupancy()
    for y in np.arange(-2.4, 2.4, 0.11):
        for x in np.arange(-2.9, 2.9, 0.11):
            clearance_m = SCENE.clearance_m((float(x), float(y)))
            value = grid.data[grid.cell_of((float(x), float(y)))]
            assert value == OCCUPIED or clearance_m > 0.0
            assert value == FREE or clearance_m < 0.075


def test_beyond_the_walls_nothing_is_known():
    partly = replace(SCENE, size_m=(6.02, 5.02)).occupancy()
    assert set(np.unique(partly.data)) <= {FREE, OCCUPIED, UNKNOWN}
    assert not partly.free[0].any() and not partly.free[:, 0].any()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_room_can_be_driven_through(seed: int):
    scene = random_room(seed)
    grid = scene.occupancy().inflated(BASE_RADIUS_M + 0.06)
    free = np.argwhere(grid.free)
    for row, column in free[:: len(free) // 20]:
        goal = grid.center_of((int(row), int(column)))
        assert not isinstance(plan_path(grid, scene.start.xy_m, goal), Refusal)


@pytest.mark.parametrize("seed", SEEDS)
def test_in_a_random_room_each_thing_has_a_colour_and_a_place_of_its_own(seed: int):
    things = random_room(seed).things
    colors = [thing.color for thing in things]
    assert 4 <= len(things) < len(COLORS)
    assert len(set(colors)) == len(colors)
    assert {thing.kind for thing in things} <= set(KINDS)
    assert any(thing.kind == "door" for thing in things)
    assert min(gap_m(a, b) for a in things for b in things if a is not b) >= 0.8


def test_the_same_seed_gives_the_same_room():
    assert random_room(7) == random_room(7)
    assert random_room(7) != random_room(8)


# --- pictures ---------------------------------------------------------------------------------


def points_on_map(world: RoomWorld, depth_m: np.ndarray) -> np.ndarray:
    """Every pixel's surface point on the map, [H, W, 3]."""
    rays = ray_grid(PinholeCamera.from_info(world.camera_info("forward")))
    (T_odom_base,) = world.transforms()
    T_odom_camera = compose(T_odom_base, world.static_transforms()[1])
    points = apply(T_odom_camera, (rays * depth_m[..., None]).reshape(-1, 3))
    return points.reshape(*depth_m.shape, 3)


def test_the_floor_is_flat_at_height_zero(drawn: RoomWorld):
    world = RoomWorld(RoomScene(0, (9.0, 9.0), (), start=BasePose(-3.0, 0.0, 0.2)))
    _, depth_m = world.exact_picture("forward")
    heights = points_on_map(world, depth_m)[300:, :, 2]
    world.close()
    assert np.abs(heights).max() < 0.01


def test_the_measured_floor_is_flat_but_for_noise(drawn: RoomWorld):
    world = RoomWorld(RoomScene(0, (9.0, 9.0), (), start=BasePose(-3.0, 0.0, 0.2)))
    depth_m = world.render("forward").depth_m[300:]
    heights = points_on_map(world, world.render("forward").depth_m)[300:, :, 2][depth_m > 0]
    world.close()
    assert abs(float(np.median(heights))) < 0.01
    assert 0.0 < float(np.std(heights)) < 0.03


def test_things_are_drawn_where_they_are(drawn: RoomWorld):
    world = RoomWorld(SCENE)
    rgb, depth_m = world.exact_picture("forward")
    (blob,) = find_blobs(rgb, "blue")
    x, y = blob.inmost()
    u, v = round(x * 639), round(y * 479)
    place = points_on_map(world, depth_m)[v, u]
    world.close()
    assert BOX.clearance_m((float(place[0]), float(place[1]))) == pytest.approx(0.0, abs=0.02)


def test_the_same_seed_and_commands_give_the_same_pictures(drawn: RoomWorld):
    def picture() -> tuple[bytes, bytes]:
        world = RoomWorld(random_room(5))
        world.command_velocity(0.3, 0.4)
        world.step(1.0)
        taken = world.render("forward")
        again = world.render("forward")
        world.close()
        assert (taken.rgb == again.rgb).all()
        return taken.rgb.tobytes(), taken.depth_m.tobytes()

    assert picture() == picture()


@pytest.mark.parametrize("seed", range(2))
def test_every_colour_that_is_seen_is_a_thing_and_where_it_is(drawn: RoomWorld, seed: int):
    scene = random_room(seed)
    world = RoomWorld(scene)
    by_color = {thing.color: thing for thing in scene.things}
    seen = set()
    for _ in range(8):
        rgb, depth_m = world.exact_picture("forward")
        points = points_on_map(world, depth_m)
        for blob in find_blobs(rgb):
            seen.add(blob.color)
            places = points[blob.mask & (depth_m > 0)]
            away_m = np.abs(by_color[blob.color].distance_m(places[:, :2]))
            assert not len(places) or float(np.median(away_m)) < 0.6
        world.command_velocity(0.0, math.pi / 4)
        world.step(1.0)
    world.close()
    assert len(seen) >= 2


@pytest.mark.parametrize(
    ("color", "kind"),
    [*((color, "door") for color in COLORS), *zip(COLORS, KINDS[1:], strict=True)],
)
def test_a_thing_is_found_by_its_colour_alone(drawn: RoomWorld, color: str, kind: str):
    """From the far end of the room in its weakest light, and no other colour with it."""
    size_m = (0.06, 0.95, 2.05) if kind == "door" else (0.5, 0.6, 0.7 if kind == "box" else 1.0)
    thing = RoomThing((2.8, 0.0), size_m, math.pi, color=color, kind=kind)
    dim = replace(SCENE.light, diffuse=0.40, ambient=0.45)
    scene = replace(SCENE, things=(thing,), start=BasePose(-2.6, 0.1), light=dim)
    world = RoomWorld(scene)
    rgb = world.render("forward").rgb
    world.close()
    assert {blob.color for blob in find_blobs(rgb)} == {color}


def test_from_above_things_are_where_the_bounds_say(drawn: RoomWorld):
    view = drawn.render_top()
    for thing in drawn.things().values():
        if thing.kind != "door":
            color = np.array(PAINT[thing.color])
            seen = pixel_at(view, thing.xy_m).astype(np.float64)
            assert np.dot(seen, color) / np.linalg.norm(seen) / np.linalg.norm(color) > 0.98


def pixel_at(view: TopView, xy_m: tuple[float, float]) -> np.ndarray:
    x_min, y_min, x_max, y_max = view.bounds_m
    height, width = view.rgb.shape[:2]
    column = (xy_m[0] - x_min) / (x_max - x_min) * width
    row = (y_max - xy_m[1]) / (y_max - y_min) * height
    return view.rgb[int(row), int(column)]


def test_a_camera_that_is_not_there_is_an_error(drawn: RoomWorld):
    with pytest.raises(InputError, match="no camera wrist; it has: forward"):
        drawn.render("wrist")
