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

from launch.actions import OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from rynn_brain_ros.ros.launching import (
    CAMERA,
    ENGINE,
    ENGINE_PYTHON,
    camera_topics,
    declared,
    given,
    included,
    is_named,
    is_true,
    our_node,
    params_file_of_act,
    rehearsed,
    switches,
    told,
)

SHARE = FindPackageShare("rynn_brain_ros")
ARGUMENTS = {
    "params_file": (
        PathJoinSubstitution([SHARE, "config", "brain.yaml"]),
        "YAML file with the brain's parameters and, where it has sections for them, act's and "
        "view's",
    ),
    "namespace": ("", "namespace of the nodes"),
    "autostart": ("true", "configure and activate the nodes"),
    "view": ("true", "start the view node: markers, annotated images, text"),
    "view_params_file": (
        "",
        "YAML file with the view's parameters; empty: those that params_file has in a section for "
        "it, else the defaults, and the brain's images",
    ),
    "rviz": ("false", "open RViz (with view)"),
    "fixed_frame": ("", "frame that RViz shows everything in; empty: odom"),
    "camera": CAMERA,
    "robot": ("", "start act too, for franka_panda, franka_fr3, mobile_base or a .yaml file"),
    "dry_run": ("true", "with robot: preview its goals and send none, whatever params_file says"),
    "require_approval": (
        "",
        "with robot: ask a person before each motion; empty: params_file's",
    ),
    "engine_verdict": (
        "",
        "with robot: verdict.json of rynn-brain check-engine; empty: params_file's",
    ),
}
OVERRIDES = {
    "color_topic": "colour images",
    "depth_topic": "depth images, best aligned to colour",
    "depth_info_topic": "camera_info of the depth images, where it is not beside them",
    "engine": ENGINE,
    "engine_python": ENGINE_PYTHON,
}
SWITCHES = {"use_sim_time": "follow /clock, for bags and simulators"}
TOPICS = ("color_topic", "depth_topic", "depth_info_topic")
TO_VIEW = ("namespace", "autostart", "rviz", "fixed_frame")
TO_ACT = (
    *("namespace", "autostart", "robot", "dry_run", "require_approval", "engine_verdict"),
    *("camera", "engine", "engine_python"),
)


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    parameters = {
        **camera_topics(context),
        **given(context, OVERRIDES),
        **switches(context, SWITCHES),
    }
    launched: list[LaunchDescriptionEntity] = [
        our_node(context, "brain", parameters, is_true(context, "autostart"))
    ]
    effective = {**(told(context, "brain") or {}), **parameters}
    clock = {"use_sim_time": str(effective.get("use_sim_time", ""))}
    if is_true(context, "view"):
        images = shown(context, parameters, effective)
        launched.append(included("view", {**passed_on(context, TO_VIEW), **clock, **images}))
    if LaunchConfiguration("robot").perform(context):
        topics = {name: parameters.get(name, "") for name in TOPICS}
        file = {"params_file": params_file_of_act(context)}
        body = {**passed_on(context, TO_ACT), **clock, **topics, **file}
        launched.append(included("act", body))
    return launched


def passed_on(context: LaunchContext, names: tuple[str, ...]) -> dict[str, str]:
    """Arguments as they are, empty ones too."""
    return {name: LaunchConfiguration(name).perform(context) for name in names}


def shown(
    context: LaunchContext, parameters: Mapping[str, Any], effective: Mapping[str, Any]
) -> dict[str, Any]:
    """The view's file and images: those of ``parameters``, which are arguments, else of that file,
    else the brain's ``effective``."""
    file: Any = PathJoinSubstitution([SHARE, "config", "view.yaml"])
    argument = "view_params_file" if given(context, ["view_params_file"]) else "params_file"
    if argument == "view_params_file" or is_named(context, "view", argument):
        file = LaunchConfiguration(argument)
        own = told(context, "view", argument) or {}
        effective = parameters if "color_topics" in own else effective
    names = [name.strip() for name in str(effective.get("cameras", "")).split(",") if name.strip()]
    cameras = [f"{name}." for name in names] or [""]
    colors = [effective.get(f"{camera}color_topic", "") for camera in cameras]
    return {
        "view_params_file": file,
        "color_topics": ",".join(str(color) for color in colors if color),
        "depth_topic": str(effective.get(f"{cameras[0]}depth_topic", "")),
    }


def generate_launch_description() -> LaunchDescription:
    arguments = declared(ARGUMENTS, OVERRIDES | SWITCHES)
    return LaunchDescription(rehearsed(*arguments, OpaqueFunction(function=start)))
