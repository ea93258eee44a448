"""A simulated robot with a brain: the whole graph without MoveIt, Nav2 or a robot.

ros2 launch rynn_brain_ros sim.launch.py                 # an arm at a table
ros2 launch rynn_brain_ros sim.launch.py world:=room     # a base in a room
ros2 launch rynn_brain_ros sim.launch.py namespace:=left publish_clock:=false   # and one more

All but the simulator follow its clock. An argument that is left empty leaves the parameter to the
node's params_file.
"""

from collections.abc import Mapping
from typing import Any

from launch.actions import GroupAction, IncludeLaunchDescription, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from rynn_brain_ros.ros.launching import declared, given, is_true, our_node

SHARE = FindPackageShare("rynn_brain_ros")
ARGUMENTS = {
    "sim_params_file": (
        PathJoinSubstitution([SHARE, "config", "sim.yaml"]),
        "YAML file with the simulator's parameters",
    ),
    "act": ("false", "start the act node too, which moves the robot when it is armed"),
    "dry_run": ("false", "let the act node preview its goals and send none"),
    "namespace": ("", "namespace of the nodes"),
    "rviz": ("false", "open RViz"),
    "engine": ("", "what answers; empty: the brain's params_file's"),
    "engine_python": ("", "the Python that runs the engine; empty: the params_file's"),
    "publish_clock": (
        "true",
        "publish /clock, which all follow; false: the wall clock's time. /clock is one for the "
        "whole network: only one simulator may publish it",
    ),
}
OVERRIDES = {
    "world": "table or room",
    "scene": "what stands there: demo, one, many, absent or ambiguous",
    "objects": "things on the table instead, as in 'red cube, yellow bowl'",
    "seed": "which of the scenes of this kind",
    "picture_rate": "pictures of each camera per second [Hz]",
    "realtime_factor": "how much faster than the wall clock the world goes",
}
NUMBERS = {"seed": int, "picture_rate": float, "realtime_factor": float}
"""Arguments are text, and these parameters are not."""
ROBOTS = {
    "table": ("franka_panda", "front", "panda_link0"),
    "room": ("mobile_base", "forward", "map"),
}
"""Profile, camera and fixed frame, by world."""


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    parameters = given(context, OVERRIDES)
    parameters["use_sim_time"] = False  # it is the one who makes the time
    parameters["publish_clock"] = is_true(context, "publish_clock")
    for name, number in NUMBERS.items():
        if name in parameters:
            parameters[name] = number(parameters[name])
    files = [LaunchConfiguration("sim_params_file"), parameters]
    robot, camera, base = ROBOTS[parameters.get("world", "table")]
    shared = {
        "color_topic": f"{camera}/color/image_raw",
        "depth_topic": f"{camera}/aligned_depth_to_color/image_raw",
        "engine": LaunchConfiguration("engine"),
        "engine_python": LaunchConfiguration("engine_python"),
        "use_sim_time": LaunchConfiguration("publish_clock"),
    }
    launched = [
        our_node(context, "sim", files, autostart=True),
        included("brain", {**shared, "rviz": LaunchConfiguration("rviz"), "fixed_frame": base}),
    ]
    if is_true(context, "act"):
        # What it moves is a simulator: no engine must have passed a check for that.
        body = {
            "robot": robot,
            "engine_verdict": "not_required",
            "dry_run": LaunchConfiguration("dry_run"),
        }
        launched.append(included("act", {**shared, **body}))
    return launched


def included(name: str, arguments: Mapping[str, Any]) -> GroupAction:
    """Its arguments stay its own."""
    launched = IncludeLaunchDescription(
        PathJoinSubstitution([SHARE, "launch", f"{name}.launch.py"]),
        launch_arguments=arguments.items(),
    )
    return GroupAction([launched])


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*declared(ARGUMENTS, OVERRIDES), OpaqueFunction(function=start)])
