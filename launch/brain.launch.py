"""Starts the brain and the view of what it points at and, by default, activates both; with a robot
also what moves it, which asks for much more before anything moves (see act.launch.py).

ros2 launch rynn_brain_ros brain.launch.py camera:=camera rviz:=true
ros2 launch rynn_brain_ros brain.launch.py namespace:=left camera:=front,wrist \
    robot:=franka_panda engine:=ground=http://gpu:8000/v1,plan=http://gpu:8001/v1
ros2 launch rynn_brain_ros brain.launch.py color_topic:=/image_raw/compressed view:=false

An argument that is left empty leaves the parameter to params_file.
"""

from collections.abc import Mapping
from typing import Any

from launch.actions import GroupAction, IncludeLaunchDescription, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from rynn_brain_ros.ros.launching import (
    CAMERA,
    ENGINE,
    ENGINE_PYTHON,
    camera_topics,
    declared,
    is_true,
    our_node,
    overrides,
)

SHARE = FindPackageShare("rynn_brain_ros")
ARGUMENTS = {
    "params_file": (
        PathJoinSubstitution([SHARE, "config", "brain.yaml"]),
        "YAML file with the node's parameters",
    ),
    "namespace": ("", "namespace of the nodes"),
    "use_sim_time": ("false", "follow /clock, for bags and simulators"),
    "autostart": ("true", "configure and activate the nodes"),
    "view": ("true", "start the view node: markers, annotated images, text"),
    "rviz": ("false", "open RViz (with view)"),
    "fixed_frame": ("", "frame that RViz shows everything in; empty: odom"),
    "camera": CAMERA,
    "robot": ("", "start act too, for franka_panda, franka_fr3, mobile_base or a .yaml file"),
    "dry_run": ("true", "with robot: preview its goals and send none"),
}
OVERRIDES = {
    "color_topic": "colour images",
    "depth_topic": "depth images, best aligned to colour",
    "engine": ENGINE,
    "engine_python": ENGINE_PYTHON,
}
TO_VIEW = ("namespace", "use_sim_time", "autostart", "rviz", "fixed_frame")
TO_ACT = (
    *("namespace", "use_sim_time", "autostart", "robot", "dry_run"),
    *("camera", "engine", "engine_python"),
)


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    parameters = {**camera_topics(context), **overrides(context, OVERRIDES)}
    launched: list[LaunchDescriptionEntity] = [
        our_node(
            context,
            "brain",
            [LaunchConfiguration("params_file"), parameters],
            is_true(context, "autostart"),
        )
    ]
    color, depth = parameters.get("color_topic", ""), parameters.get("depth_topic", "")
    if is_true(context, "view"):
        names = [name for name in parameters if name.endswith(".color_topic")]
        shown = ",".join(parameters[name] for name in names) or color
        given = {"color_topics": shown, "depth_topic": depth}
        launched.append(included(context, "view", TO_VIEW, given))
    if LaunchConfiguration("robot").perform(context):
        given = {"color_topic": color, "depth_topic": depth}
        given["params_file"] = PathJoinSubstitution([SHARE, "config", "act.yaml"])
        launched.append(included(context, "act", TO_ACT, given))
    return launched


def included(
    context: LaunchContext, name: str, passed_on: tuple[str, ...], given: Mapping[str, Any]
) -> GroupAction:
    """Its arguments stay its own."""
    arguments = {each: LaunchConfiguration(each).perform(context) for each in passed_on}
    file = PathJoinSubstitution([SHARE, "launch", f"{name}.launch.py"])
    every = {**arguments, **given}.items()
    return GroupAction([IncludeLaunchDescription(file, launch_arguments=every)])


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*declared(ARGUMENTS, OVERRIDES), OpaqueFunction(function=start)])
