"""What the launch files share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from launch.actions import DeclareLaunchArgument, EmitEvent, RegisterEventHandler
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from lifecycle_msgs.msg import Transition

from launch import LaunchContext, LaunchDescriptionEntity


def declared(
    arguments: Mapping[str, tuple[Any, str]], overrides: Mapping[str, str]
) -> Iterator[DeclareLaunchArgument]:
    """Arguments with (default, description), and ones that override a parameter where given."""
    for name, (default, description) in arguments.items():
        yield DeclareLaunchArgument(name, default_value=default, description=description)
    for name, text in overrides.items():
        yield DeclareLaunchArgument(
            name, default_value="", description=f"{text}; empty: params_file's"
        )


def overrides(context: LaunchContext, names: Mapping[str, str]) -> dict[str, Any]:
    """The parameters that were given as arguments, and ``use_sim_time``."""
    given = {name: LaunchConfiguration(name).perform(context) for name in names}
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value}
    return {**chosen, "use_sim_time": is_true(context, "use_sim_time")}


def is_true(context: LaunchContext, name: str) -> bool:
    return LaunchConfiguration(name).perform(context).lower() in ("true", "1", "yes")


def brought_up(
    context: LaunchContext, name: str, parameters: list[Any], autostart: bool
) -> list[LaunchDescriptionEntity]:
    """Our lifecycle node of this name, which is configured and then activated with
    ``autostart``."""
    node = LifecycleNode(
        package="rynn_brain_ros",
        executable=name,
        name=name,
        namespace=LaunchConfiguration("namespace").perform(context),
        parameters=parameters,
        output="screen",
    )
    if not autostart:
        return [node]

    def change(transition: int) -> EmitEvent:
        matcher = matches_action(node)
        return EmitEvent(
            event=ChangeState(lifecycle_node_matcher=matcher, transition_id=transition)
        )

    activate_when_configured = RegisterEventHandler(
        OnStateTransition(
            target_lifecycle_node=node,
            start_state="configuring",
            goal_state="inactive",
            entities=[change(Transition.TRANSITION_ACTIVATE)],
        )
    )
    return [activate_when_configured, node, change(Transition.TRANSITION_CONFIGURE)]
