"""Starts the recorder of demonstrations and, by default, activates it.

ros2 launch rynn_brain_ros record.launch.py contract:=panda out:=recordings \
    task:="put the cube into the bowl"

An argument that is left empty leaves the parameter to params_file. With joy:=true a joystick's
driver (joy_node of the package joy) is started too.
"""

from launch.actions import OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from rynn_brain_ros.ros.launching import declared, given, is_true, our_node, rehearsed, switches

ARGUMENTS = {
    "params_file": (
        PathJoinSubstitution([FindPackageShare("rynn_brain_ros"), "config", "record.yaml"]),
        "YAML file with the node's parameters",
    ),
    "namespace": ("", "namespace of the node"),
    "autostart": ("true", "configure and activate the node"),
    "joy": ("false", "start the joystick's driver"),
}
SWITCHES = {"use_sim_time": "follow /clock, for simulators"}
OVERRIDES = {
    "contract": "panda, fr3, sim_table, or a .yaml file",
    "out": "folder of the recordings",
    "task": "what is demonstrated, in words",
    "operator": "who teleoperates",
}


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    parameters = {**given(context, OVERRIDES), **switches(context, SWITCHES)}
    node = our_node(context, "record", parameters, is_true(context, "autostart"))
    namespace = LaunchConfiguration("namespace").perform(context)
    joystick = Node(package="joy", executable="joy_node", namespace=namespace, output="screen")
    return [node, joystick] if is_true(context, "joy") else [node]


def generate_launch_description() -> LaunchDescription:
    arguments = declared(ARGUMENTS, OVERRIDES | SWITCHES)
    return LaunchDescription(rehearsed(*arguments, OpaqueFunction(function=start)))
