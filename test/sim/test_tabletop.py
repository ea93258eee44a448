"""The rendered table: its truth is exact, its camera is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from recordings import items, small_scene

from rynn_brain_ros.geometry import DepthNoise, apply, invert
from rynn_brain_ros.memory import decode_color
from rynn_brain_ros.messages import compressed_image_of, stamp_ns_of
from rynn_brain_ros.sim import Tabletop, example_scene, write_bag
from rynn_brain_ros.sim.tabletop import (
    COLOR_TOPIC,
    DEPTH_TOPIC,
    START_NS,
    Thing,
    add_depth_noise,
)

POSE_NS = START_NS + 1_000_000_000


@pytest.fixture(scope="module")
def scene() -> Tabletop:
    return small_scene()


@pytest.mark.parametrize("pixel", [(80.0, 60.0), (12.0, 100.0), (140.0, 30.0)])
def test_the_depth_image_is_the_surface(scene: Tabletop, pixel: tuple[float, float]):
    pose = scene.pose_at(POSE_NS)
    _, z_m = scene.render(pose)
    (_, _, z), _ = scene.surface_at(pixel, pose)
    assert z_m[int(pixel[1]), int(pixel[0])] == z


def test_a_surface_point_projects_onto_its_pixel(scene: Tabletop):
    (x, y, z), _ = scene.surface_at((100.0, 70.0), scene.pose_at(POSE_NS))
    k = scene.camera_info.k
    assert (k[0] * x / z + k[2], k[4] * y / z + k[5]) == pytest.approx((100.0, 70.0))


def test_the_table_is_the_plane_z_0(scene: Tabletop):
    pose = scene.pose_at(POSE_NS)
    bare = replace(scene, things=())
    point, name = bare.surface_at((80.0, 60.0), pose)
    assert name == "table"
    assert apply(pose, [point])[0][2] == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("index", range(4))
def test_each_thing_is_seen_where_it_stands(scene: Tabletop, index: int):
    thing, pose = scene.things[index], scene.pose_at(POSE_NS)
    top = (*thing.xy_m, thing.size_m[2])
    x, y, z = apply(invert(pose), [top])[0]
    k = scene.camera_info.k
    point, name = scene.surface_at((k[0] * x / z + k[2], k[4] * y / z + k[5]), pose)
    assert name == thing.name
    assert point == pytest.approx((x, y, z), abs=1e-9)


@pytest.mark.parametrize("shape", ["cube", "ball", "cylinder"])
def test_a_thing_has_its_shape(shape: str):
    size = (0.1, 0.1, 0.1)
    scene = Tabletop((Thing("it", "red", shape, (0.1, 0.0), size),), 160, 120, 131.25)
    pose = scene.pose_at(POSE_NS)
    hits = [
        apply(pose, [point])[0] - np.array([0.1, 0.0, 0.05])
        for u in range(0, 160, 4)
        for v in range(0, 120, 4)
        for point, name in [scene.surface_at((u, v), pose)]
        if name == "it"
    ]
    assert len(hits) > 5
    for x, y, z in hits:
        far = {
            "cube": max(abs(x), abs(y), abs(z)),
            "ball": float(np.hypot(np.hypot(x, y), z)),
            "cylinder": max(float(np.hypot(x, y)), abs(z)),
        }[shape]
        assert far == pytest.approx(0.05, abs=1e-9)


def test_beside_the_table_is_the_floor(scene: Tabletop):
    names = {
        scene.surface_at((u, v), scene.pose_at(POSE_NS))[1] for u in (0, 159) for v in (0, 119)
    }
    assert names <= {"floor", "table", "nothing"}


def test_a_seed_gives_the_same_scene():
    assert example_scene(5) == example_scene(5)
    assert example_scene(5) != example_scene(6)


def test_a_seed_gives_the_same_bag(small_bag: Path, scene: Tabletop, tmp_path: Path):
    write_bag(scene, tmp_path / "again.mcap", n_frames=3, seed=3)
    assert (tmp_path / "again.mcap").read_bytes() == small_bag.read_bytes()


def test_depth_noise_has_holes_and_whole_millimetres():
    z_m = np.full((40, 40), 1.0)
    z_m[:, 20:] = 1.5
    depth = add_depth_noise(z_m, DepthNoise(), np.random.default_rng(0))
    assert depth.dtype == np.uint16
    assert 0.3 < np.mean(depth[:, 19:21] == 0) < 0.9
    assert abs(float(np.median(depth[:, :18])) - 1000) < 2


def test_nothing_hit_is_no_depth():
    depth = add_depth_noise(np.zeros((8, 8)), DepthNoise(), np.random.default_rng(0))
    assert not depth.any()


def test_a_bag_has_its_frames_half_a_second_apart(small_bag: Path):
    recorded = items(small_bag)
    for topic in (COLOR_TOPIC, DEPTH_TOPIC):
        stamps = [stamp_ns_of(i.value.header.stamp) for i in recorded if i.topic == topic]
        assert stamps == [START_NS + i * 500_000_000 for i in range(3)]


def test_tf_goes_on_after_the_last_image(small_bag: Path):
    last = items(small_bag)[-1]
    assert (last.topic, last.log_ns) == ("/tf", START_NS + 1_050_000_000)


def test_the_recorded_picture_is_what_was_rendered(small_bag: Path, scene: Tabletop):
    first = next(item for item in items(small_bag) if item.topic == COLOR_TOPIC)
    recorded = decode_color(compressed_image_of(first.value)).astype(int)
    rendered, _ = scene.render(scene.pose_at(START_NS))
    assert recorded.shape == rendered.shape
    assert np.abs(recorded - rendered).mean() < 8
