"""Starts the node that asks an action policy and, by default, activates it. Nothing moves yet:
dry_run is on, and with dry_run:=false a person arms it first.

ros2 launch rynn_brain_ros policy.launch.py contract:=panda url:=ws://127.0.0.1:8100 \
    task:="put the cube into the bowl"
ros2 launch rynn_brain_ros policy.launch.py namespace:=left output:=trajectory_action \
    controller:=panda_arm_controller gripper_action:=panda_hand_controller/gripper_cmd

An argument that is left empty leaves the parameter to params_file.
"""

from launch.actions import OpaqueFunction
from launch.substitutions import PathJoinSubstitution
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from rynn_brain_ros.ros.launching import declared, given, is_true, our_node, rehearsed, switches

ARGUMENTS = {
    "params_file": (
        PathJoinSubstitution([FindPackageShare("rynn_brain_ros"), "config", "policy.yaml"]),
        "YAML file with the node's parameters",
    ),
    "namespace": ("", "namespace of the node and of the robot's controllers"),
    "autostart": ("true", "configure and activate the node"),
}
OVERRIDES = {
    "contract": "panda, fr3, sim_table, or a .yaml file",
    "url": "where the policy is served, ws://HOST:PORT",
    "token_file": "file with the endpoint's token",
    "task": "what is to be done, in words",
    "plan_topic": "rynn_brain_ros/Plan with the brain's step",
    "groundings_topic": "rynn_brain_ros/GroundingArray with the brain's points",
    "output": "contract, trajectory_topic or trajectory_action",
    "controller": "name of the joints' controller",
    "gripper_action": "action of the hand",
    "gripper_kind": "gripper_command or parallel_gripper",
    "max_velocity": "per second, for each number of an action or one for all",
    "max_acceleration": "per second²",
    "max_jerk": "per second³",
}
SWITCHES = {
    "use_sim_time": "follow /clock, for simulators",
    "dry_run": "preview the commands and send none",
}


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    words = {
        name: ParameterValue(value, value_type=str)
        for name, value in given(context, OVERRIDES).items()
    }
    parameters = {**words, **switches(context, SWITCHES)}
    return [our_node(context, "policy", parameters, is_true(context, "autostart"))]


def generate_launch_description() -> LaunchDescription:
    arguments = declared(ARGUMENTS, OVERRIDES | SWITCHES)
    return LaunchDescription(rehearsed(*arguments, OpaqueFunction(function=start)))
