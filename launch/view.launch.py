"""Starts the view node: markers, annotated images and a panel of text; with rviz:=true RViz too.

ros2 launch rynn_brain_ros view.launch.py color_topics:=/camera/color/image_raw rviz:=true

An argument that is left empty leaves the parameter to params_file.
"""

from collections.abc import Mapping
from typing import Any

from launch.actions import OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from rynn_brain_ros.ros.launching import (
    declared,
    given,
    is_true,
    our_node,
    rehearsed,
    switches,
    tf_remappings,
    told,
)

SHARE = FindPackageShare("rynn_brain_ros")
ARGUMENTS = {
    "view_params_file": (
        PathJoinSubstitution([SHARE, "config", "view.yaml"]),
        "YAML file with the node's parameters",
    ),
    "namespace": ("", "namespace of the node"),
    "autostart": ("true", "configure and activate the node"),
    "rviz": ("false", "open RViz"),
    "rviz_config": (PathJoinSubstitution([SHARE, "config", "brain.rviz"]), "what RViz shows"),
    "depth_topic": ("", "depth images that RViz shows; empty: those of its file, in the namespace"),
    "fixed_frame": ("", "frame that RViz shows everything in; empty: odom"),
}
COLOR, DEPTH = "/camera/color/image_raw", "/camera/aligned_depth_to_color/image_raw"
SHOWN = (
    *("/view/markers", "/view/annotated", "/view/panel", "/brain/target"),
    *("/act/target", "/act/preview/path", "/map", "/map_updates"),
)
"""Topics in RViz's file beside the camera's."""
SWITCHES = {"use_sim_time": "follow /clock, for bags and simulators"}
OVERRIDES = {
    "sources": "nodes whose groundings, plan and status are shown",
    "color_topics": "colour images to draw into, several with commas between",
}


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    parameters = {**given(context, OVERRIDES), **switches(context, SWITCHES)}
    autostart = is_true(context, "autostart")
    node = our_node(context, "view", parameters, autostart, "view_params_file")
    effective = {**(told(context, "view", "view_params_file") or {}), **parameters}
    return [node, rviz(context, effective)] if is_true(context, "rviz") else [node]


def rviz(context: LaunchContext, view: Mapping[str, Any]) -> Node:
    """With the names of this robot's camera and nodes in place of those in its file. ``view`` are
    the view's parameters."""

    def of(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    namespace = of("namespace").strip("/")
    prefix = f"/{namespace}" if namespace else ""

    def full(topic: str) -> str:
        return topic if topic.startswith("/") else f"{prefix}/{topic}"

    color = str(view.get("color_topics", "")).split(",")[0].strip().removesuffix("/compressed")
    renamed = {COLOR: full(color or COLOR[1:]), DEPTH: full(of("depth_topic") or DEPTH[1:])}
    renamed |= {_info(old): _info(new) for old, new in renamed.items()}
    renamed |= {name: f"{prefix}{name}" for name in SHOWN}
    renamed |= {old: f"{prefix}/{new}" for old, new in tf_remappings(context)}
    fixed_frame = ["-f", of("fixed_frame")] if of("fixed_frame") else []
    return Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", of("rviz_config"), *fixed_frame],
        parameters=[{"use_sim_time": view.get("use_sim_time", False)}],
        remappings=[(old, new) for old, new in renamed.items() if new != old],
        output="screen",
    )


def _info(image_topic: str) -> str:
    return f"{image_topic.rpartition('/')[0]}/camera_info"


def generate_launch_description() -> LaunchDescription:
    arguments = declared(ARGUMENTS, OVERRIDES | SWITCHES)
    return LaunchDescription(rehearsed(*arguments, OpaqueFunction(function=start)))
