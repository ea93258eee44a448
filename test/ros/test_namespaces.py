"""Two simulated robots on one network: the same frames, each in a namespace of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.ros
rclpy = pytest.importorskip("rclpy", reason="rclpy is not importable")
pytest.importorskip("mujoco", reason="the simulator needs MuJoCo: pip install mujoco")
pytest.importorskip("moveit_msgs", reason="moveit_msgs is not installed")
pytest.importorskip("nav2_msgs", reason="nav2_msgs is not installed")

from launched import Launched  # noqa: E402
from person import Person  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rynn_brain_ros.srv import Ground  # noqa: E402

from rynn_brain_ros.sim.robots import SimConfig, table_scene  # noqa: E402

PATIENCE_S = 180.0
NAMES = {"left": 1, "right": 2}
"""Each with its scene's seed: the cube lies elsewhere."""
LISTENERS = {"brain", "act"}


@pytest.fixture(scope="module", autouse=True)
def ros() -> Iterator[None]:
    rclpy.init()
    yield
    rclpy.try_shutdown()


def launched(folder: Path, name: str) -> Launched:
    return Launched(
        folder,
        *("sim.launch.py", f"namespace:={name}", "objects:=red cube", f"seed:={NAMES[name]}"),
        *("act:=true", "view:=false", "publish_clock:=false", "picture_rate:=2"),
    )


def test_each_of_two_robots_answers_with_its_own_frames(tmp_path: Path) -> None:
    with launched(tmp_path / "left", "left"), launched(tmp_path / "right", "right"):
        person = Person(PATIENCE_S)
        request = Ground.Request(target="the red cube")
        for name, seed in NAMES.items():
            answer = person.ask_until(
                Ground, f"/{name}/brain/ground", request, lambda got: got.success
            )
            assert answer.target.header.frame_id == "panda_link0"
            place = answer.target.point
            scene = table_scene(SimConfig(objects="red cube", seed=seed))
            truth = scene.thing("red cube").xy_m
            assert math.dist((place.x, place.y), truth) < 0.03
        for name in NAMES:
            for topic in ("tf", "tf_static"):
                assert publishers(person.node, f"/{name}/{topic}") == [f"/{name}/sim"]
                heard = person.node.get_subscriptions_info_by_topic(f"/{name}/{topic}")
                assert {f"{e.node_namespace}/{e.node_name}" for e in heard} == {
                    f"/{name}/{node}" for node in LISTENERS
                }
        for topic in ("/tf", "/tf_static", "/clock"):
            assert publishers(person.node, topic) == []


def publishers(node: Node, topic: str) -> list[str]:
    ends = node.get_publishers_info_by_topic(topic)
    return [f"{end.node_namespace}/{end.node_name}" for end in ends]
