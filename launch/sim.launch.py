"""A simulated robot with a brain: the whole graph without MoveIt, Nav2 or a robot.

ros2 launch rynn_brain_ros sim.launch.py                 # an arm at a table
ros2 launch rynn_brain_ros sim.launch.py world:=room     # a base in a room
ros2 launch rynn_brain_ros sim.launch.py namespace:=left publish_clock:=false   # and one more

All but the simulator follow its clock. An argument that is left empty leaves the parameter to the
node's params_file.
"""

from launch.actions import OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from rynn_brain_ros.ros.launching import (
    declared,
    given,
    included,
    is_true,
    our_node,
    params_file_of_act,
    rehearsed,
    switches,
    told,
)
from rynn_brain_ros.values import ConfigError

SHARE = FindPackageShare("rynn_brain_ros")
ARGUMENTS = {
    "sim_params_file": (
        PathJoinSubstitution([SHARE, "config", "sim.yaml"]),
        "YAML file with the simulator's parameters",
    ),
    "params_file": (
        PathJoinSubstitution([SHARE, "config", "brain.yaml"]),
        "YAML file with the brain's parameters and, where it has a section for it, act's",
    ),
    "act": ("false", "start the act node too, which moves the robot when it is armed"),
    "dry_run": ("false", "let the act node preview its goals and send none"),
    "namespace": ("", "namespace of the nodes"),
    "rviz": ("false", "open RViz"),
    "engine": ("", "what answers; empty: the brain's params_file's"),
    "engine_python": ("", "the Python that runs the engine; empty: the params_file's"),
    "publish_clock": (
        "",
        "publish /clock, which all follow; false: the wall clock's time. /clock is one for the "
        "whole network: only one simulator may publish it; empty: sim_params_file's",
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
NUMBERS = {
    "seed": (int, "a whole number"),
    "picture_rate": (float, "a number"),
    "realtime_factor": (float, "a number"),
}
"""Arguments are text, and these parameters are not."""
ROBOTS = {
    "table": ("franka_panda", "front", "panda_link0"),
    "room": ("mobile_base", "forward", "map"),
}
"""Profile, camera and fixed frame, by world."""


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    parameters = {**given(context, OVERRIDES), **switches(context, ["publish_clock"])}
    parameters |= {name: numeric(name, parameters[name]) for name in NUMBERS if name in parameters}
    parameters["use_sim_time"] = False  # it is the one who makes the time
    node = our_node(context, "sim", parameters, autostart=True, file_argument="sim_params_file")
    effective = {**(told(context, "sim", "sim_params_file") or {}), **parameters}
    world = str(effective.get("world", "table"))
    if world not in ROBOTS:
        raise ConfigError(f"world is {world!r}: it may be {' or '.join(ROBOTS)}")
    robot, camera, base = ROBOTS[world]
    shared = {
        "color_topic": f"{camera}/color/image_raw",
        "depth_topic": f"{camera}/aligned_depth_to_color/image_raw",
        "engine": LaunchConfiguration("engine"),
        "engine_python": LaunchConfiguration("engine_python"),
        "use_sim_time": str(effective.get("publish_clock", True)),
    }
    launched = [
        node,
        included("brain", {**shared, "rviz": LaunchConfiguration("rviz"), "fixed_frame": base}),
    ]
    if is_true(context, "act"):
        # What it moves is a simulator: no engine must have passed a check for that.
        body = {
            "robot": robot,
            "engine_verdict": "not_required",
            "dry_run": LaunchConfiguration("dry_run"),
            "params_file": params_file_of_act(context),
        }
        launched.append(included("act", {**shared, **body}))
    return launched


def numeric(name: str, text: str) -> float:
    """Raises `ConfigError`."""
    number, what = NUMBERS[name]
    try:
        return number(text)
    except ValueError as error:
        raise ConfigError(f"{name} is {text!r}: it must be {what}") from error


def generate_launch_description() -> LaunchDescription:
    arguments = declared(ARGUMENTS, OVERRIDES)
    return LaunchDescription(rehearsed(*arguments, OpaqueFunction(function=start)))
