"""Starts what moves the robot and, by default, activates it. Nothing moves yet: dry_run is on, and
with dry_run:=false a person arms it first.

ros2 launch rynn_brain_ros act.launch.py robot:=franka_panda \
    color_topic:=/camera/color/image_raw depth_topic:=/camera/aligned_depth_to_color/image_raw
ros2 launch rynn_brain_ros act.launch.py namespace:=left camera:=front,wrist \
    engine:=local:DIR engine_python:=/path/to/venv/bin/python

An argument that is left empty leaves the parameter to params_file.
"""

from launch.actions import OpaqueFunction
from launch.substitutions import PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from rynn_brain_ros.ros.launching import (
    CAMERA,
    ENGINE,
    ENGINE_PYTHON,
    camera_topics,
    declared,
    given,
    is_true,
    our_node,
    rehearsed,
    switches,
)

ARGUMENTS = {
    "params_file": (
        PathJoinSubstitution([FindPackageShare("rynn_brain_ros"), "config", "act.yaml"]),
        "YAML file with the node's parameters",
    ),
    "namespace": ("", "namespace of the node, its topics and the robot's servers"),
    "autostart": ("true", "configure and activate the node"),
    "camera": CAMERA,
}
OVERRIDES = {
    "robot": "profile of the robot: franka_panda, franka_fr3, mobile_base, or a .yaml file",
    "color_topic": "colour images",
    "depth_topic": "depth images, best aligned to colour",
    "depth_info_topic": "camera_info of the depth images, where it is not beside them",
    "engine": ENGINE,
    "engine_python": ENGINE_PYTHON,
    "engine_verdict": "verdict.json of rynn-brain check-engine, or not_required for a simulator",
}
SWITCHES = {
    "use_sim_time": "follow /clock, for bags and simulators",
    "dry_run": "preview the goals and send none",
    "require_approval": "ask a person before each motion",
}


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    parameters = {
        **camera_topics(context),
        **given(context, OVERRIDES),
        **switches(context, SWITCHES),
    }
    return [our_node(context, "act", parameters, is_true(context, "autostart"))]


def generate_launch_description() -> LaunchDescription:
    arguments = declared(ARGUMENTS, OVERRIDES | SWITCHES)
    return LaunchDescription(rehearsed(*arguments, OpaqueFunction(function=start)))
