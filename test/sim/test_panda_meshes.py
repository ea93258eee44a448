"""The arm with its maker's surfaces: another picture, the same robot."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mujoco")

import mujoco
from arm_world import hand_down

from rynn_brain_ros.geometry import Capsule, PinholeCamera, apply, ray_grid
from rynn_brain_ros.planning.robots import panda
from rynn_brain_ros.sim.arm import ArmActuator
from rynn_brain_ros.sim.panda import JOINTS, READY, ROBOT_GROUP, TCP_SITE
from rynn_brain_ros.sim.panda_meshes import MESHES, PLAIN, check_meshes
from rynn_brain_ros.sim.table import TableWorld
from rynn_brain_ros.sim.table_layout import random_scene
from rynn_brain_ros.sim.table_scene import TableScene
from rynn_brain_ros.values import GripGoal, InputError, PostureGoal, ReachGoal

SCENE = random_scene(3)
POSES = (READY, (0.5, 0.3, -0.3, -2.0, 0.4, 2.2, 1.2), (-0.4, 0.5, 0.2, -1.6, -0.3, 2.2, 0.3))


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[TableWorld, TableWorld]]:
    """Plain, and with meshes."""
    pytest.importorskip("rtbdata", reason="the meshes come with rtb-data, which is not installed")
    worlds = (made(SCENE, PLAIN), made(SCENE, MESHES))
    yield worlds
    for world in worlds:
        world.close()


def made(scene: TableScene, arm: str) -> TableWorld:
    return TableWorld(replace(scene, look=replace(scene.look, arm=arm)), 320, 240)


def put_in(world: TableWorld, joints: tuple[float, ...]) -> None:
    for name, angle in zip(JOINTS, joints, strict=True):
        world.data.joint(name).qpos[0] = angle
    mujoco.mj_forward(world.model, world.data)


def robot_geoms(world: TableWorld) -> np.ndarray:
    """The id of the robot's geom that each pixel of the front camera shows [H, W], else −1."""
    seen = world._drawing("front").geoms_seen(world.data, "front")
    drawn = np.append(world.model.geom_group == ROBOT_GROUP, False)
    return np.where(drawn[seen], seen, -1)


def states_of_a_grasp(arm: str) -> np.ndarray:
    """All positions after each control period of a whole grasp [N, nq]."""
    world = made(SCENE, arm)
    actuator, states = ArmActuator(world), []
    x, y, _ = world.things()["orange cylinder"].translation_m
    goals = (
        ReachGoal(hand_down(x, y, 0.15)),
        ReachGoal(hand_down(x, y, 0.02), straight=True),
        GripGoal(0.0, 30.0),
        PostureGoal(),
    )
    for number, goal in enumerate(goals):
        actuator.send(str(number), goal)
        for _ in range(150):
            world.step(0.02)
            states.append(world.data.qpos.copy())
    assert world.held_thing() == "orange cylinder"
    return np.array(states)


@pytest.mark.slow
def test_a_grasp_goes_the_same_way_bit_for_bit(both):
    assert np.array_equal(states_of_a_grasp(PLAIN), states_of_a_grasp(MESHES))


def test_masses_and_what_collides_are_the_same(both):
    plain, meshes = (world.model for world in both)
    for values in ("body_mass", "body_inertia", "body_ipos", "body_iquat", "dof_M0"):
        assert np.array_equal(getattr(plain, values), getattr(meshes, values)), values
    solid = [(m.geom_contype > 0) | (m.geom_conaffinity > 0) for m in (plain, meshes)]
    for values in ("geom_size", "geom_pos", "geom_quat", "geom_bodyid", "geom_friction"):
        one, two = getattr(plain, values)[solid[0]], getattr(meshes, values)[solid[1]]
        assert np.array_equal(one, two), values


@pytest.mark.parametrize("joints", POSES, ids=["ready", "left", "right"])
def test_only_the_meshes_are_drawn_and_they_are_where_the_arm_is(both, joints):
    for world in both:
        put_in(world, joints)
    plain, meshes = map(robot_geoms, both)
    kinds = both[1].model.geom_type[np.unique(meshes[meshes >= 0])]
    assert set(map(int, kinds)) == {mujoco.mjtGeom.mjGEOM_MESH.value}
    overlap = np.sum((plain >= 0) & (meshes >= 0)) / np.sum((plain >= 0) | (meshes >= 0))
    assert overlap > 0.7


@pytest.mark.parametrize("joints", POSES, ids=["ready", "left", "right"])
def test_the_rest_of_the_picture_is_the_same(both, joints):
    for world in both:
        put_in(world, joints)
    rest = (robot_geoms(both[0]) < 0) & (robot_geoms(both[1]) < 0)
    pictures = [world.exact_picture("front") for world in both]
    for plain, meshes in zip(*pictures, strict=True):
        assert np.array_equal(plain[rest], meshes[rest])


@pytest.mark.parametrize("which", [0, 1], ids=[PLAIN, MESHES])
@pytest.mark.parametrize("joints", POSES, ids=["ready", "left", "right"])
def test_what_is_drawn_over_the_table_is_within_reach_of_the_robots_capsules(both, which, joints):
    """The brain leaves the robot out of the depth by capsules around the line of its links. The
    foot is behind all that it may grip."""
    world, arm = both[which], panda().body
    put_in(world, joints)
    _, depth_m = world.exact_picture("front")
    rays = ray_grid(PinholeCamera.from_info(world.camera_info("front")))
    points = apply(world.scene.T_base_front, (rays * depth_m[..., None]).reshape(-1, 3))
    mine = (robot_geoms(world) >= 0).ravel() & (np.hypot(points[:, 0], points[:, 1]) > 0.25)
    line = [tuple(world.data.body(name).xpos) for name in arm.links if name != "panda_tcp"]
    line.append(tuple(world.data.site(TCP_SITE).xpos))
    far = np.ones(mine.sum(), bool)
    for a, b in pairwise(line):
        far &= ~Capsule(a, b, arm.link_radius_m).holds(points[mine])
    assert mine.sum() > 500 and not far.any()


# --- not there -----------------------------------------------------------------------------------


def test_without_the_package_the_plain_arm_is_drawn_and_the_other_one_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "rtbdata", None)
    with pytest.raises(InputError, match=r"rtb-data.* pip install 'rtb-data>=2\.0'"):
        made(SCENE, MESHES)
    made(SCENE, PLAIN).close()


def test_a_package_without_the_files_is_refused(tmp_path: Path, monkeypatch):
    (tmp_path / "rtbdata").mkdir()
    (tmp_path / "rtbdata" / "__init__.py").touch()
    monkeypatch.delitem(sys.modules, "rtbdata", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=r"link0\.stl is missing.* pip install 'rtb-data>=2\.0'"):
        check_meshes()
    monkeypatch.delitem(sys.modules, "rtbdata")
