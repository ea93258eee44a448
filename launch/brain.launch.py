"""Starts the brain and, by default, configures and activates it.

ros2 launch rynn_brain_ros brain.launch.py color_topic:=/camera/color/image_raw \
    depth_topic:=/camera/aligned_depth_to_color/image_raw
"""

from launch.actions import DeclareLaunchArgument, EmitEvent, RegisterEventHandler
from launch.conditions import IfCondition
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare
from lifecycle_msgs.msg import Transition

from launch import LaunchDescription

ARGUMENTS = {
    "params_file": (
        PathJoinSubstitution([FindPackageShare("rynn_brain_ros"), "config", "brain.yaml"]),
        "YAML file with the node's parameters",
    ),
    "namespace": ("", "namespace of the node"),
    "use_sim_time": ("false", "follow /clock, for bags and simulators"),
    "autostart": ("true", "configure and activate the node"),
    "color_topic": ("/camera/color/image_raw", "colour images"),
    "depth_topic": ("", "depth images, best aligned to colour; empty: no depth"),
    "engine": (
        "color-baseline",
        "what answers: color-baseline, recorded:FILE or http://HOST:PORT/v1[#MODEL]",
    ),
}


def generate_launch_description() -> LaunchDescription:
    text = {
        name: ParameterValue(LaunchConfiguration(name), value_type=str)
        for name in ("color_topic", "depth_topic", "engine")
    }
    use_sim_time = ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)
    brain = LifecycleNode(
        package="rynn_brain_ros",
        executable="brain",
        name="brain",
        namespace=LaunchConfiguration("namespace"),
        parameters=[LaunchConfiguration("params_file"), {**text, "use_sim_time": use_sim_time}],
        output="screen",
    )

    def change(transition: int) -> EmitEvent:
        event = ChangeState(lifecycle_node_matcher=matches_action(brain), transition_id=transition)
        return EmitEvent(event=event, condition=IfCondition(LaunchConfiguration("autostart")))

    activate_when_configured = RegisterEventHandler(
        OnStateTransition(
            target_lifecycle_node=brain,
            start_state="configuring",
            goal_state="inactive",
            entities=[change(Transition.TRANSITION_ACTIVATE)],
        )
    )
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    return LaunchDescription(
        [*arguments, activate_when_configured, brain, change(Transition.TRANSITION_CONFIGURE)]
    )
