"""The table world: exact in its truth, alike for the same seed, and hard where reality is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import reduce
from itertools import combinations

import numpy as np
import pytest

from rynn_brain_ros.geometry import PinholeCamera, apply, compose, ray_grid
from rynn_brain_ros.models.color_vision import find_blobs
from rynn_brain_ros.sim.rendering import MAX_DEPTH_M, load_mujoco
from rynn_brain_ros.sim.tabletop import Thing
from rynn_brain_ros.sim.world import START_NS
from rynn_brain_ros.values import InputError, RigidTransform

pytest.importorskip("mujoco")

from rynn_brain_ros.sim.objects import PAINT, SHAPES, foot_radius_m
from rynn_brain_ros.sim.panda import READY, TCP_SITE
from rynn_brain_ros.sim.table import TableWorld
from rynn_brain_ros.sim.table_furnishing import Drawer
from rynn_brain_ros.sim.table_layout import GAP_M, MIN_VISIBLE, random_scene, visibility
from rynn_brain_ros.sim.table_scene import TableScene

THINGS = (
    Thing("red cube", "red", "cube", (0.50, -0.15), (0.04, 0.04, 0.04), 0.3),
    Thing("yellow bowl", "yellow", "bowl", (0.45, 0.15), (0.16, 0.16, 0.05)),
    Thing("blue ball", "blue", "ball", (0.62, 0.0), (0.045, 0.045, 0.045)),
)


@pytest.fixture
def world() -> Iterator[TableWorld]:
    made = TableWorld(TableScene(THINGS, seed=7), 320, 240)
    yield made
    made.close()


@pytest.fixture(scope="module")
def still() -> Iterator[TableWorld]:
    """For tests that only look."""
    made = TableWorld(TableScene(THINGS, seed=7), 320, 240)
    yield made
    made.close()


def points_m(world: TableWorld, camera: str, T_base_camera: RigidTransform) -> np.ndarray:
    """Every pixel in the base frame [H, W, 3], from the exact depth."""
    _, depth_m = world.exact_picture(camera)
    rays = ray_grid(PinholeCamera.from_info(world.camera_info(camera)))
    flat = (rays * depth_m[..., None]).reshape(-1, 3)
    return apply(T_base_camera, flat).reshape(*depth_m.shape, 3)


def pose_of(world: TableWorld, frame: str) -> RigidTransform:
    """``T_base_frame`` along the tree that the world publishes."""
    parent_of = {T.child: T for T in (*world.transforms(), *world.static_transforms())}
    chain = [parent_of[frame]]
    while chain[0].parent != world.base_frame:
        chain.insert(0, parent_of[chain[0].parent])
    return reduce(compose, chain)


def turn_joint(world: TableWorld, number: int, angle_rad: float) -> None:
    world.data.actuator(f"panda_joint{number}").ctrl[0] = angle_rad


# --- time -----------------------------------------------------------------------------------------


def test_time_passes_in_whole_control_periods(world: TableWorld):
    world.step(0.05)
    assert world.now_ns == START_NS + 60_000_000


def test_no_time_passes_without_a_step(world: TableWorld):
    world.render("front")
    world.move_thing("red cube", (0.5, 0.0, 0.1))
    assert world.now_ns == START_NS


def test_a_controller_is_called_once_in_each_period(world: TableWorld):
    periods: list[float] = []
    world.add_controller(periods.append)
    world.step(0.1)
    assert periods == [world.control_period_s] * 5


def test_nothing_moves_by_itself(world: TableWorld):
    before = world.things()
    world.step(2.0)
    for name, pose in world.things().items():
        assert pose.translation_m == pytest.approx(before[name].translation_m, abs=5e-4)


# --- pictures -------------------------------------------------------------------------------------


def played(seed: int) -> tuple[bytes, bytes]:
    world = TableWorld(TableScene(THINGS, seed=seed), 160, 120)
    turn_joint(world, 1, 0.3)
    world.step(0.3)
    picture = world.render("wrist")
    world.close()
    return picture.rgb.tobytes(), picture.depth_m.tobytes()


def test_the_same_seed_and_commands_give_the_same_picture_bit_for_bit():
    assert played(3) == played(3)


def test_another_seed_gives_other_noise():
    assert all(a != b for a, b in zip(played(3), played(4), strict=True))


def test_looking_twice_sees_the_same(still: TableWorld):
    first, second = still.render("front"), still.render("front")
    assert np.array_equal(first.depth_m, second.depth_m)
    assert np.array_equal(first.rgb, second.rgb)


def test_another_world_in_the_same_thread_does_not_get_into_the_picture(still: TableWorld):
    before = still.exact_picture("front")
    other = TableWorld(TableScene(THINGS[:1]), 160, 120)
    other.exact_picture("front")
    for alone, beside in zip(before, still.exact_picture("front"), strict=True):
        assert np.array_equal(alone, beside)
    other.close()
    for alone, after in zip(before, still.exact_picture("front"), strict=True):
        assert np.array_equal(alone, after)


def test_the_next_frame_has_other_noise(world: TableWorld):
    first = world.render("front")
    world.step(0.02)
    holes = (first.depth_m == 0) != (world.render("front").depth_m == 0)
    assert holes.sum() > 100


def test_the_table_lies_flat_at_zero_in_the_front_camera(still: TableWorld):
    points = points_m(still, "front", pose_of(still, "front_color_optical_frame"))
    heights = points[225:, 60:260, 2]
    assert np.abs(heights).max() < 2e-4


def test_the_table_lies_flat_at_zero_in_the_wrist_camera_of_a_moved_arm(world: TableWorld):
    turn_joint(world, 1, 0.4)
    turn_joint(world, 6, 1.3)
    world.step(1.0)
    points = points_m(world, "wrist", pose_of(world, "wrist_color_optical_frame"))
    bare = ~np.any([world.mask("wrist", thing.name) for thing in THINGS], axis=0)
    bare[120:] = False  # the hand
    assert bare.sum() > 10_000
    assert np.abs(points[..., 2][bare & (points[..., 0] > 0.25)]).max() < 5e-4


def test_a_thing_is_seen_where_it_truly_is(still: TableWorld):
    points = points_m(still, "front", pose_of(still, "front_color_optical_frame"))
    cube = points[still.mask("front", "red cube")] - still.things()["red cube"].translation_m
    assert len(cube) > 80
    assert np.linalg.norm(cube, axis=1).max() < 0.02 * np.sqrt(3) + 1e-3
    assert cube[:, 2].max() == pytest.approx(0.02, abs=5e-4)


def test_measured_depth_is_near_the_truth_with_holes(still: TableWorld):
    measured, (_, exact) = still.render("front").depth_m, still.exact_picture("front")
    valid = (measured > 0) & (exact > 0)
    assert 0.001 < np.mean(measured[exact > 0] == 0) < 0.2
    assert 0.0005 < np.std((measured - exact)[valid]) < 0.02


def test_what_is_far_away_has_no_depth(still: TableWorld):
    depth_m = still.render("front").depth_m
    assert depth_m.max() < MAX_DEPTH_M + 0.1
    assert depth_m.dtype == np.float32


def test_a_depth_hole_takes_the_depth_of_one_thing(world: TableWorld):
    ball = world.mask("front", "blue ball")
    world.set_depth_hole("blue ball")
    depth_m = world.render("front").depth_m
    assert not depth_m[ball].any()
    assert np.mean(depth_m[world.mask("front", "red cube")] > 0) > 0.5


def test_a_depth_hole_ends(world: TableWorld):
    before = world.render("front").depth_m
    world.set_depth_hole("blue ball")
    world.set_depth_hole(None)
    assert np.array_equal(world.render("front").depth_m, before)


def test_a_frozen_camera_keeps_its_picture_and_its_stamp(world: TableWorld):
    world.freeze_camera("front")
    old = world.render("front")
    world.step(0.2)
    assert world.render("front") is old
    assert world.render("wrist").stamp_ns == world.now_ns
    world.freeze_camera("front", False)
    assert world.render("front").stamp_ns == world.now_ns


@pytest.mark.parametrize("ask", [TableWorld.render, TableWorld.camera_info])
def test_an_unknown_camera_is_named(still: TableWorld, ask):
    with pytest.raises(InputError, match=r"'top'.*front, wrist"):
        ask(still, "top")


def test_an_unknown_thing_is_named(still: TableWorld):
    with pytest.raises(InputError, match=r"'green mug'.*red cube, yellow bowl, blue ball"):
        still.move_thing("green mug", (0.5, 0.0, 0.1))


# --- what it tells of the robot -------------------------------------------------------------------


def test_the_arm_begins_at_ready(still: TableWorld):
    state = still.joint_state()
    assert state.names[:7] == tuple(f"panda_joint{number}" for number in range(1, 8))
    assert state.positions[:7] == pytest.approx(READY, abs=0.01)
    assert state.positions[7:] == pytest.approx((0.04, 0.04), abs=1e-3)


def test_the_transforms_lead_to_the_tool_centre_point(world: TableWorld):
    turn_joint(world, 4, -2.0)
    world.step(0.4)
    tool = pose_of(world, "panda_tcp")
    assert tool.translation_m == pytest.approx(tuple(world.data.site(TCP_SITE).xpos), abs=1e-9)


def test_transforms_bear_the_stamp_of_now(world: TableWorld):
    world.step(0.1)
    assert {T.stamp_ns for T in world.transforms()} == {world.now_ns}


def close_hand_around(world: TableWorld, thing: str) -> None:
    """The thing floats between the fingers until they have it."""

    def carry(_: float) -> None:
        if world.held_thing() is None:
            x, y, z = world.data.site(TCP_SITE).xpos
            world.move_thing(thing, (x, y, z))

    world.add_controller(carry)
    world.data.actuator("panda_hand").ctrl[0] = 0.0
    world.step(0.8)


@pytest.mark.parametrize("name", ["red cube", "blue ball"])
def test_what_the_fingers_closed_on_is_held_and_carried(world: TableWorld, name: str):
    close_hand_around(world, name)
    turn_joint(world, 1, 0.5)
    world.step(1.5)
    assert world.held_thing() == name
    gap = np.subtract(world.things()[name].translation_m, world.data.site(TCP_SITE).xpos)
    assert np.linalg.norm(gap) < 0.01


def test_what_only_one_finger_touches_is_not_held(world: TableWorld):
    x, y, z = world.data.site(TCP_SITE).xpos
    world.move_thing("blue ball", (x, y + 0.04 - 0.0225 + 0.002, z))
    assert {other for _, other in world.touched()} == {"blue ball"}
    assert world.held_thing() is None


def test_an_opened_hand_holds_nothing(world: TableWorld):
    close_hand_around(world, "red cube")
    world.data.actuator("panda_hand").ctrl[0] = 0.08
    world.move_thing("red cube", (0.5, -0.15, 0.02))
    assert world.held_thing() is None


def test_holding_the_target_is_no_collision_but_holding_another_thing_is(world: TableWorld):
    close_hand_around(world, "red cube")
    assert world.collisions("red cube") == 0
    assert world.collisions("blue ball") > 10


def test_an_arm_pressed_onto_the_table_collides(world: TableWorld):
    for part in np.linspace(0.0, 1.0, 20):
        turn_joint(world, 2, READY[1] + 2.0 * float(part))
        turn_joint(world, 4, READY[3] + 0.9 * float(part))
        world.step(0.1)
    assert world.collisions(*world.things()) > 10
    assert any(other == "table" for _, other in world.touched())


def test_an_arm_pressed_onto_the_chest_collides():
    chest = TableWorld(TableScene((), drawer=Drawer(xy_m=(0.6, -0.08))))
    for part in np.linspace(0.0, 1.0, 20):
        turn_joint(chest, 2, READY[1] + 2.0 * float(part))
        turn_joint(chest, 4, READY[3] + 0.9 * float(part))
        chest.step(0.1)
    assert any(other == "chest" for _, other in chest.touched())
    assert chest.held_thing() is None
    assert chest.collisions() > 10


def test_an_arm_that_waits_collides_with_nothing(world: TableWorld):
    world.step(0.5)
    assert world.collisions() == 0


# --- things ---------------------------------------------------------------------------------------


def test_a_thing_dropped_over_the_bowl_comes_to_rest_inside(world: TableWorld):
    x, y, z = world.things()["yellow bowl"].translation_m
    world.move_thing("red cube", (x + 0.02, y, z + 0.08))
    world.step(1.5)
    cube = world.things()["red cube"].translation_m
    assert np.hypot(cube[0] - x, cube[1] - y) < 0.05
    assert 0.015 < cube[2] < 0.05


def test_a_rolling_ball_does_not_get_through_the_wall_of_the_bowl(world: TableWorld):
    x, y, _ = world.things()["yellow bowl"].translation_m
    world.move_thing("blue ball", (x, y, 0.05))
    world.step(1.0)
    world.data.joint("blue ball").qvel[0] = 0.7
    world.step(1.0)
    ball = world.things()["blue ball"].translation_m
    assert np.hypot(ball[0] - x, ball[1] - y) < 0.09


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_stands_as_large_as_it_says(shape: str):
    size = (0.068, 0.068, 0.068 if shape in ("cube", "ball") else 0.05)
    world = TableWorld(TableScene((Thing("it", "red", shape, (0.5, 0.0), size),)), 320, 240)
    points = points_m(world, "front", world.scene.T_base_front)[world.mask("front", "it")]
    world.close()
    assert points[:, 2].max() == pytest.approx(size[2], abs=0.002)
    assert np.ptp(points[:, 1]) == pytest.approx(0.068, abs=0.006)


def test_an_unknown_colour_is_named():
    scene = TableScene((Thing("it", "mauve", "cube", (0.5, 0.0), (0.04, 0.04, 0.04)),))
    with pytest.raises(InputError, match="red, green, blue"):
        TableWorld(scene)


@pytest.mark.parametrize("seed", range(3))
def test_every_colour_is_told_from_the_others_and_from_the_room(seed: int):
    """By the engine that knows colours only, under each scene's own light and noise."""
    scene = random_scene(seed)
    assert {thing.color for thing in scene.things} == set(PAINT)
    world = TableWorld(scene)
    rgb = world.render("front").rgb
    for thing in scene.things:
        mask = world.mask("front", thing.name)
        (blob,) = find_blobs(rgb, thing.color)
        assert (blob.mask & mask).sum() > 0.9 * blob.area_px, thing.name
        assert (blob.mask & mask).sum() > 0.75 * mask.sum(), thing.name
    world.close()


# --- tables at random -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(2))
def test_a_random_table_leaves_room_and_hides_nothing(seed: int):
    scene = random_scene(seed)
    for a, b in combinations(scene.things, 2):
        gap = np.hypot(*np.subtract(a.xy_m, b.xy_m)) - foot_radius_m(a) - foot_radius_m(b)
        assert gap >= GAP_M
    for view in visibility(scene).values():
        assert view.inside
        assert view.fraction >= MIN_VISIBLE


def test_a_thing_behind_another_is_not_fully_visible():
    mug = Thing("red mug", "red", "mug", (0.60, -0.06), (0.068, 0.068, 0.08))
    ball = Thing("blue ball", "blue", "ball", (0.53, -0.03), (0.04, 0.04, 0.04))
    seen = visibility(TableScene((mug, ball)))
    assert seen["blue ball"].fraction < MIN_VISIBLE < seen["red mug"].fraction


def test_a_random_table_is_the_same_for_the_same_seed():
    one = (("red", "ball"),)
    assert random_scene(11, one, 0) == random_scene(11, one, 0)
    assert random_scene(11, one, 0) != random_scene(12, one, 0)


def test_wanted_things_come_first_and_namesakes_are_numbered():
    scene = random_scene(1, (("red", "cube"), ("red", "cube")), n_clutter=1)
    assert [thing.name for thing in scene.things[:2]] == ["red cube", "red cube 2"]
    assert scene.things[2].color != "red"


def test_a_table_that_is_too_full_is_refused():
    with pytest.raises(InputError, match="no room for 8 things"):
        random_scene(0, [(color, "bowl") for color in (*PAINT, "red", "blue")], n_clutter=0)


# --- without what it needs ------------------------------------------------------------------------


def test_missing_opengl_says_what_to_install(world: TableWorld, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MUJOCO_GL", "nothing_of_this_name")
    with pytest.raises(InputError, match="apt install libegl1"):
        world.render("front")


def test_missing_mujoco_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(InputError, match=r"pip install 'mujoco>=3\.3'"):
        load_mujoco.__wrapped__()


def test_importing_the_simulator_does_not_import_mujoco():
    code = "import sys, rynn_brain_ros.sim.table_tasks; sys.exit('mujoco' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
