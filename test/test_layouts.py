"""The files in config/: layouts for RViz and Foxglove, and the parameters of view and sim."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from rynn_brain_ros.config import ViewConfig, settings
from rynn_brain_ros.sim.robots import SimConfig

REPOSITORY = Path(__file__).resolve().parent.parent
CONFIG = REPOSITORY / "config"
CAMERA, DEPTH = "/camera/color/image_raw", "/camera/aligned_depth_to_color/image_raw"


def rviz_window() -> dict[str, Any]:
    window: dict[str, Any] = yaml.safe_load((CONFIG / "brain.rviz").read_text(encoding="utf-8"))
    return window


def rviz() -> dict[str, Any]:
    manager: dict[str, Any] = rviz_window()["Visualization Manager"]
    return manager


def topic_of(display: dict[str, Any]) -> str:
    return str(display.get("Topic", {}).get("Value", ""))


def test_rviz_shows_camera_cloud_transforms_markers_path_annotations_and_text_at_once():
    displays = {(d["Class"].split("/")[-1], topic_of(d)) for d in rviz()["Displays"]}
    wanted = {
        ("Image", CAMERA),
        ("Image", "/view/annotated"),
        ("Image", "/view/panel"),
        ("MarkerArray", "/view/markers"),
        ("Pose", "/brain/target"),
        ("Pose", "/act/target"),
        ("Path", "/act/preview/path"),
        ("TF", ""),
        ("DepthCloud", ""),
    }
    assert wanted <= displays
    (cloud,) = (d for d in rviz()["Displays"] if d["Class"].endswith("/DepthCloud"))
    assert (cloud["Color Image Topic"], cloud["Depth Map Topic"]) == (CAMERA, DEPTH)


def test_in_a_namespace_rviz_hears_each_of_its_topics_there():
    """The camera's are remapped by their arguments."""
    file = ast.parse((REPOSITORY / "launch" / "view.launch.py").read_text(encoding="utf-8"))
    (shown,) = (
        {word.value for word in ast.walk(node.value) if isinstance(word, ast.Constant)}
        for node in file.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SHOWN"
    )
    heard = {
        display[key]["Value"]
        for display in rviz()["Displays"]
        for key in ("Topic", "Update Topic")
        if key in display
    }
    assert heard - {CAMERA} == shown


def test_the_displays_that_the_guide_tells_people_to_look_at_are_there():
    guide = (REPOSITORY / "docs" / "guide.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\*([A-Z][\w ]+)\* \(`(/[\w/]+)`\)", guide))
    assert ("Path of act", "/act/preview/path") in named
    assert named <= {(display["Name"], topic_of(display)) for display in rviz()["Displays"]}


def test_a_path_of_a_single_pose_is_seen_too():
    """The goal of a drive, or the only pose of a push: without axes there is no line to draw."""
    (path,) = (d for d in rviz()["Displays"] if d["Class"].endswith("/Path"))
    assert path["Pose Style"] == "Axes"


def test_everything_in_rviz_is_a_standard_plugin_that_is_switched_on():
    manager = rviz()
    for item in (*manager["Displays"], *manager["Tools"]):
        assert item["Class"].startswith("rviz_default_plugins/")
        assert item.get("Enabled", True)
        assert item.get("Value", True) == item.get("Enabled", True)
    names = [display["Name"] for display in manager["Displays"]]
    assert len(set(names)) == len(names)


def test_rviz_hears_images_that_are_sent_without_guarantee():
    """Cameras publish best effort; a reliable subscription would hear nothing of them."""
    (camera,) = (d for d in rviz()["Displays"] if topic_of(d) == CAMERA)
    assert camera["Topic"]["Reliability Policy"] == "Best Effort"


def test_rvizs_window_has_a_place_for_its_panel_and_each_image():
    """Without one they are piled up on the left, too small to see anything."""
    state = bytes.fromhex(rviz_window()["Window Geometry"]["QMainWindow State"])
    images = [d["Name"] for d in rviz()["Displays"] if d["Class"].endswith("/Image")]
    for name in (*(panel["Name"] for panel in rviz_window()["Panels"]), *images):
        assert name.encode("utf-16-be") in state


def panels(layout: Any) -> Iterator[str]:
    if isinstance(layout, str):
        yield layout
        return
    assert layout["direction"] in ("row", "column")
    assert 0 < layout["splitPercentage"] < 100
    yield from panels(layout["first"])
    yield from panels(layout["second"])


def foxglove() -> dict[str, Any]:
    layout: dict[str, Any] = json.loads((CONFIG / "foxglove.json").read_text(encoding="utf-8"))
    return layout


def test_foxglove_shows_in_space_what_rviz_shows():
    shown = foxglove()["configById"]["3D!scene"]["topics"]
    in_space = {
        topic_of(display)
        for display in rviz()["Displays"]
        if display["Class"].split("/")[-1] in ("MarkerArray", "Pose", "Path", "Map")
    }
    assert in_space <= {topic for topic, how in shown.items() if how["visible"]}


def test_foxglove_places_each_of_its_panels_once():
    layout = foxglove()
    placed = list(panels(layout["layout"]))
    assert sorted(placed) == sorted(layout["configById"])
    images = {
        config["imageMode"]["imageTopic"]
        for name, config in layout["configById"].items()
        if name.startswith("Image!")
    }
    assert images == {CAMERA, "/view/annotated/compressed", "/view/panel/compressed"}
    assert layout["configById"]["3D!scene"]["topics"]["/view/markers"] == {"visible": True}


@pytest.mark.parametrize(("node", "config"), [("view", ViewConfig), ("sim", SimConfig)])
def test_a_parameter_file_has_every_parameter_with_its_default(node: str, config: type):
    written = yaml.safe_load((CONFIG / f"{node}.yaml").read_text(encoding="utf-8"))
    defaults = {item.name: item.default for item in settings(config)}
    assert written[f"/**/{node}"]["ros__parameters"] == defaults
