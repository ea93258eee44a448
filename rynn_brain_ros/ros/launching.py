"""What the launch files share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchContext

CAMERA = (
    "",
    "names of cameras whose topics are NAME/color/image_raw and "
    "NAME/aligned_depth_to_color/image_raw, in the namespace; empty: color_topic",
)
"""An argument: (default, description)."""
ENGINE = (
    "what answers: color-baseline, recorded:FILE, nano and local:DIR (with engine_python) or "
    "http://HOST:PORT/v1[#MODEL]; or one for each role: ground=ENGINE,plan=ENGINE"
)
ENGINE_PYTHON = "the Python that runs the engine, in a process of its own"
_OWN_TF = (
    "true",
    "with a namespace, transforms are its own: NAMESPACE/tf and NAMESPACE/tf_static, as with Nav2; "
    "false: /tf and /tf_static, whose frames must then have names of their own",
)


def declared(
    arguments: Mapping[str, tuple[Any, str]], overrides: Mapping[str, str]
) -> Iterator[DeclareLaunchArgument]:
    """Arguments with (default, description), and ones that override a parameter where given; and
    ``own_tf``, which every launch file has."""
    for name, (default, description) in {**arguments, "own_tf": _OWN_TF}.items():
        yield DeclareLaunchArgument(name, default_value=default, description=description)
    for name, text in overrides.items():
        yield DeclareLaunchArgument(
            name, default_value="", description=f"{text}; empty: params_file's"
        )


def overrides(context: LaunchContext, names: Mapping[str, str]) -> dict[str, Any]:
    """The parameters that were given as arguments, and ``use_sim_time``."""
    return {**given(context, names), "use_sim_time": is_true(context, "use_sim_time")}


def given(context: LaunchContext, names: Iterable[str]) -> dict[str, Any]:
    """Arguments that are not left empty."""
    values = {name: LaunchConfiguration(name).perform(context) for name in names}
    return {name: value for name, value in values.items() if value}


def camera_topics(context: LaunchContext) -> dict[str, str]:
    """Parameters of the cameras that the argument ``camera`` names; the first one's stand for them
    where one is wanted."""
    names = LaunchConfiguration("camera").perform(context).replace(" ", "").split(",")
    if names == [""]:
        return {}
    found = {}
    for name in names:
        found[f"{name}.color_topic"] = f"{name}/color/image_raw"
        found[f"{name}.depth_topic"] = f"{name}/aligned_depth_to_color/image_raw"
    first = {kind: found[f"{names[0]}.{kind}"] for kind in ("color_topic", "depth_topic")}
    return {"cameras": ",".join(names), **found, **first} if len(names) > 1 else first


def tf_remappings(context: LaunchContext) -> list[tuple[str, str]]:
    """For a node in a namespace: (from, to). Without one they change nothing."""
    names = ("tf", "tf_static") if is_true(context, "own_tf") else ()
    return [(f"/{name}", name) for name in names]


def is_true(context: LaunchContext, name: str) -> bool:
    return LaunchConfiguration(name).perform(context).lower() in ("true", "1", "yes")


def our_node(context: LaunchContext, name: str, parameters: list[Any], autostart: bool) -> Node:
    """Our lifecycle node of this name, which with ``autostart`` activates itself. For launch it is
    a node as any: to lead one through its states, launch would begin a node of its own, whose
    thread now and then outlives a second Ctrl-C."""
    return Node(
        package="rynn_brain_ros",
        executable=name,
        name=name,
        namespace=LaunchConfiguration("namespace").perform(context),
        parameters=[*parameters, {"autostart": autostart}],
        remappings=tf_remappings(context),
        output="screen",
    )
