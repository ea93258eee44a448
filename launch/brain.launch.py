"""Starts the brain and, by default, configures and activates it.

ros2 launch rynn_brain_ros brain.launch.py color_topic:=/camera/color/image_raw \
    depth_topic:=/camera/aligned_depth_to_color/image_raw

An argument that is left empty leaves the parameter to params_file.
"""

from launch.actions import DeclareLaunchArgument, EmitEvent, OpaqueFunction, RegisterEventHandler
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.substitutions import FindPackageShare
from lifecycle_msgs.msg import Transition

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity

ARGUMENTS = {
    "params_file": (
        PathJoinSubstitution([FindPackageShare("rynn_brain_ros"), "config", "brain.yaml"]),
        "YAML file with the node's parameters",
    ),
    "namespace": ("", "namespace of the node"),
    "use_sim_time": ("false", "follow /clock, for bags and simulators"),
    "autostart": ("true", "configure and activate the node"),
}
OVERRIDES = {
    "color_topic": "colour images",
    "depth_topic": "depth images, best aligned to colour",
    "engine": "what answers: color-baseline, recorded:FILE or http://HOST:PORT/v1[#MODEL]",
}


def is_true(context: LaunchContext, name: str) -> bool:
    return LaunchConfiguration(name).perform(context).lower() in ("true", "1", "yes")


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    given = {name: LaunchConfiguration(name).perform(context) for name in OVERRIDES}
    overrides = {name: value for name, value in given.items() if value}
    overrides["use_sim_time"] = is_true(context, "use_sim_time")
    brain = LifecycleNode(
        package="rynn_brain_ros",
        executable="brain",
        name="brain",
        namespace=LaunchConfiguration("namespace"),
        parameters=[LaunchConfiguration("params_file"), overrides],
        output="screen",
    )
    if not is_true(context, "autostart"):
        return [brain]

    def change(transition: int) -> EmitEvent:
        matcher = matches_action(brain)
        return EmitEvent(
            event=ChangeState(lifecycle_node_matcher=matcher, transition_id=transition)
        )

    activate_when_configured = RegisterEventHandler(
        OnStateTransition(
            target_lifecycle_node=brain,
            start_state="configuring",
            goal_state="inactive",
            entities=[change(Transition.TRANSITION_ACTIVATE)],
        )
    )
    return [activate_when_configured, brain, change(Transition.TRANSITION_CONFIGURE)]


def generate_launch_description() -> LaunchDescription:
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    declared += [
        DeclareLaunchArgument(name, default_value="", description=f"{text}; empty: params_file's")
        for name, text in OVERRIDES.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])
