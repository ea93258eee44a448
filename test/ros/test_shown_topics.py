"""The layouts of RViz and Foxglove, held against what the nodes publish."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.ros
rclpy = pytest.importorskip("rclpy", reason="rclpy is not importable")

from ament_index_python.packages import get_package_share_directory  # noqa: E402
from launched import Launched  # noqa: E402
from person import Person  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.qos import (  # noqa: E402
    DurabilityPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)

from rynn_brain_ros.ros.act_node import ActNode  # noqa: E402
from rynn_brain_ros.ros.brain_node import BrainNode  # noqa: E402
from rynn_brain_ros.ros.view_node import ViewNode  # noqa: E402

PATIENCE_S = 60.0
CONFIG = Path(get_package_share_directory("rynn_brain_ros")) / "config"
OURS = ("/brain/", "/act/", "/view/")
TYPES = {
    "Image": "sensor_msgs/msg/Image",
    "MarkerArray": "visualization_msgs/msg/MarkerArray",
    "Path": "nav_msgs/msg/Path",
    "Pose": "geometry_msgs/msg/PoseStamped",
}
"""What a display of RViz hears, by its class."""


@pytest.fixture(scope="module", autouse=True)
def ros() -> Iterator[None]:
    rclpy.init()
    yield
    rclpy.try_shutdown()


@pytest.fixture(scope="module")
def nodes() -> Iterator[dict[str, Node]]:
    """Publishers are there before a node is configured."""
    made = {"brain": BrainNode(), "act": ActNode(), "view": ViewNode()}
    yield made
    for node in made.values():
        node.destroy_node()


def displays() -> Iterator[dict[str, Any]]:
    """Those of RViz that hear one of our nodes."""
    window = yaml.safe_load((CONFIG / "brain.rviz").read_text(encoding="utf-8"))
    for display in window["Visualization Manager"]["Displays"]:
        if display.get("Topic", {}).get("Value", "").startswith(OURS):
            yield display


def published(nodes: dict[str, Node], topic: str) -> Any:
    """The only publisher of a topic, on the node that it is named after."""
    (end,) = nodes[topic.split("/")[1]].get_publishers_info_by_topic(topic)
    return end


def test_rviz_hears_what_the_nodes_publish_as_they_publish_it(nodes: dict[str, Node]) -> None:
    shown = list(displays())
    assert {display["Topic"]["Value"] for display in shown} >= {"/act/preview/path", "/act/target"}
    for display in shown:
        end = published(nodes, display["Topic"]["Value"])
        assert end.topic_type == TYPES[display["Class"].split("/")[-1]], display["Name"]
        fits, why = qos_check_compatible(end.qos_profile, asked_for(display["Topic"]))
        assert fits != QoSCompatibility.ERROR, f"{display['Name']}: {why}"


def asked_for(topic: dict[str, Any]) -> QoSProfile:
    return QoSProfile(
        depth=topic["Depth"],
        durability=DurabilityPolicy[_name(topic["Durability Policy"])],
        reliability=ReliabilityPolicy[_name(topic["Reliability Policy"])],
    )


def _name(policy: str) -> str:
    return policy.upper().replace(" ", "_")


def test_foxglove_names_what_the_nodes_publish(nodes: dict[str, Node]) -> None:
    panels = json.loads((CONFIG / "foxglove.json").read_text(encoding="utf-8"))["configById"]
    named = {*panels["3D!scene"]["topics"]}
    named |= {panel["topicPath"] for panel in panels.values() if "topicPath" in panel}
    images = {panel.get("imageMode", {}).get("imageTopic", "") for panel in panels.values()}
    for topic in filter(lambda name: name.startswith(OURS), named | images):
        type_ = published(nodes, topic).topic_type
        assert (topic in images) == (type_ == "sensor_msgs/msg/CompressedImage"), topic


def test_rviz_is_told_the_names_of_a_robot_in_a_namespace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = stand_in(tmp_path / "prefix", monkeypatch)
    arguments = ("rviz:=true", "fixed_frame:=panda_link0", "namespace:=left")
    cameras = ("color_topics:=camera/color/image_raw", "depth_topic:=camera/depth/image_raw")
    with Launched(tmp_path / "log", "view.launch.py", *arguments, *cameras):
        Person(PATIENCE_S).spin_until(told.exists, "RViz")
    given = told.read_text(encoding="utf-8").splitlines()
    assert given[given.index("-f") + 1] == "panda_link0"
    assert "/camera/color/image_raw:=/left/camera/color/image_raw" in given
    for display in displays():
        topic = display["Topic"]["Value"]
        assert f"{topic}:=/left{topic}" in given


def test_a_realsense_is_watched_and_shown_by_its_two_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = stand_in(tmp_path / "prefix", monkeypatch)
    color, depth = "color/image_raw", "aligned_depth_to_color/image_raw"
    person = Person(PATIENCE_S)
    with Launched(tmp_path / "log", "brain.launch.py", "rviz:=true", "camera:=camera/camera"):
        for topic in (f"/camera/camera/{color}", f"/camera/camera/{depth}"):
            person.spin_until(lambda topic=topic: "brain" in listeners(person.node, topic), topic)
        person.spin_until(told.exists, "RViz")
    given = told.read_text(encoding="utf-8").splitlines()
    assert {f"/camera/{name}:=/camera/camera/{name}" for name in (color, depth)} <= {*given}


def listeners(node: Node, topic: str) -> set[str]:
    return {end.node_name for end in node.get_subscriptions_info_by_topic(topic)}


def stand_in(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in the place of RViz, which needs a screen. It writes its arguments into a file."""
    told = prefix / "told"
    program = prefix / "lib" / "rviz2" / "rviz2"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" > {told}.part\nmv {told}.part {told}\n")
    program.chmod(0o755)
    index = prefix / "share" / "ament_index" / "resource_index" / "packages" / "rviz2"
    index.parent.mkdir(parents=True)
    index.touch()
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{prefix}:{os.environ['AMENT_PREFIX_PATH']}")
    return told
