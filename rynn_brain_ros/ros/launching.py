"""What the launch files share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
)
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare
from launch_ros.utilities import make_namespace_absolute, prefix_namespace

from launch import LaunchContext, LaunchDescriptionEntity
from rynn_brain_ros.config import unknown
from rynn_brain_ros.ros.parameter_files import applies, parameters_for, sections
from rynn_brain_ros.values import ConfigError

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

_WORDS = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}
_SWITCHES = {
    *("act", "autostart", "dry_run", "joy", "own_tf", "publish_clock", "require_approval"),
    *("loop", "rviz", "use_sim_time", "view"),
}
"""Arguments that are true or false."""


def declared(
    arguments: Mapping[str, tuple[Any, str]], overrides: Mapping[str, str]
) -> Iterator[LaunchDescriptionEntity]:
    """Arguments with (default, description), which must be given where the default is ``None``, and
    ones that override a parameter where given; and ``own_tf``, which every launch file has. A
    misspelt true or false ends the launch, also where nobody would read it this time."""
    every = {**arguments, "own_tf": _OWN_TF}
    every |= {name: ("", f"{text}; empty: params_file's") for name, text in overrides.items()}
    for name, (default, description) in every.items():
        yield DeclareLaunchArgument(name, default_value=default, description=description)
    yield OpaqueFunction(function=_look_at, args=[[name for name in every if name in _SWITCHES]])


def _look_at(context: LaunchContext, names: Iterable[str]) -> None:
    switches(context, names)


def rehearsed(*entities: LaunchDescriptionEntity) -> list[LaunchDescriptionEntity]:
    """All of a launch file, with a first one that goes through it, and all that it includes,
    without beginning a process: what ends a launch has to end it before, since launch leaves behind
    what it has begun by then. So does an argument of the command line that nobody declares: launch
    passes over it, and an approval would only seem to be asked for."""
    return [OpaqueFunction(function=_rehearse_all, args=[entities]), *entities]


def _rehearse_all(context: LaunchContext, entities: Iterable[LaunchDescriptionEntity]) -> None:
    file = Path(context.get_locals_as_dict().get("current_launch_file_path", ""))
    known = sorted(set(_rehearse(context, entities)))
    if file.name not in {Path(word).name for word in sys.argv}:
        return  # another file was begun, whose arguments these are
    for word in context.argv:
        name, separator, _ = word.partition(":=")
        if separator and name not in known:
            told = unknown(f"argument of {file.name}", name, known)
            raise ConfigError(f"{told}; what only a parameter is for goes into params_file")


def _rehearse(context: LaunchContext, entities: Iterable[LaunchDescriptionEntity]) -> Iterator[str]:
    """The names of the arguments that are declared on the way."""
    for entity in entities:
        if isinstance(entity, DeclareLaunchArgument):
            yield entity.name
        if isinstance(entity, Node):
            _must_be_installed(entity.node_package)
        elif not isinstance(entity, ExecuteProcess):
            yield from _rehearse(context, entity.visit(context) or ())


def _must_be_installed(package: str) -> None:
    """Raises `ConfigError`."""
    try:
        get_package_prefix(package)
    except PackageNotFoundError as error:
        distro = os.environ.get("ROS_DISTRO", "$ROS_DISTRO")
        raise ConfigError(
            f"the package {package} is not installed: "
            f"sudo apt install ros-{distro}-{package.replace('_', '-')}"
        ) from error


def given(context: LaunchContext, names: Iterable[str]) -> dict[str, str]:
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


def switches(context: LaunchContext, names: Iterable[str]) -> dict[str, bool]:
    """Arguments that are true or false and are not left empty."""
    return {name: is_true(context, name) for name in given(context, names)}


def is_true(context: LaunchContext, name: str) -> bool:
    """Raises `ConfigError` for any other word than those for true and false: a misspelt one must
    not mean either."""
    return truth(name, LaunchConfiguration(name).perform(context))


def truth(name: str, word: str) -> bool:
    """What a word means. Raises `ConfigError`, with ``name``, where it means neither."""
    meant = _WORDS.get(word.lower())
    if meant is None:
        raise ConfigError(
            f"{name} is {word!r}: it may be true, 1, yes or on, or false, 0, no or off"
        )
    return meant


def full_name(context: LaunchContext, node: str) -> str:
    """Of a node in the argument ``namespace``, within that of a launch file that includes ours."""
    base = context.launch_configurations.get("ros_namespace")
    own = LaunchConfiguration("namespace").perform(context)
    name: str = prefix_namespace(make_namespace_absolute(prefix_namespace(base, own)), node)
    return name


def told(
    context: LaunchContext, node: str, file_argument: str = "params_file"
) -> dict[str, Any] | None:
    """The parameters that a file has for one of our nodes; None where no section is for it.
    Raises `ConfigError` where the file cannot be read."""
    return parameters_for(full_name(context, node), _file(context, file_argument))


def is_named(context: LaunchContext, node: str, file_argument: str) -> bool:
    """Whether a file has a section for one of our nodes that names it. ``/**`` is for it too, but
    in a file of another node it holds what that one has. Raises `ConfigError` where the file cannot
    be read."""
    name = full_name(context, node)
    told_nodes = (nodes for nodes, _ in sections(_file(context, file_argument)))
    return any(applies(nodes, name) and nodes.split("/")[-1] == node for nodes in told_nodes)


def params_file_of_act(context: LaunchContext) -> Any:
    """Where act is started beside the brain: the brain's file where that is for act, too."""
    if told(context, "act") is None:
        return PathJoinSubstitution([FindPackageShare("rynn_brain_ros"), "config", "act.yaml"])
    return LaunchConfiguration("params_file")


def _file(context: LaunchContext, argument: str) -> Path:
    """Raises `ConfigError`: for launch it is no error that there is none."""
    name = LaunchConfiguration(argument).perform(context)
    if not Path(name).is_file():
        raise ConfigError(f"{argument} is {name!r}: there is no such file")
    return Path(name)


def _must_be_for(context: LaunchContext, node: str, argument: str) -> None:
    """Raises `ConfigError` where a parameter file has nothing for the node: ROS would begin it with
    its defaults."""
    if told(context, node, argument) is None:
        file, name = _file(context, argument), full_name(context, node)
        keys = " and ".join(nodes for nodes, _ in sections(file)) or "no node"
        raise ConfigError(
            f"{argument} {file} has parameters for {keys}, and none for {name}: "
            f"write them under {name}, /**/{node} or /**"
        )


def included(name: str, arguments: Mapping[str, Any]) -> GroupAction:
    """Another of our launch files. Its arguments stay its own."""
    file = PathJoinSubstitution([FindPackageShare("rynn_brain_ros"), "launch", f"{name}.launch.py"])
    return GroupAction([IncludeLaunchDescription(file, launch_arguments=arguments.items())])


def our_node(
    context: LaunchContext,
    name: str,
    parameters: Mapping[str, Any],
    autostart: bool,
    file_argument: str = "params_file",
) -> Node:
    """Our lifecycle node of this name, with the parameters of a file and those given here, which
    with ``autostart`` activates itself. For launch it is a node as any: to lead one through its
    states, launch would begin a node of its own, whose thread now and then outlives a second
    Ctrl-C. Raises `ConfigError` where the file is not there or is not for this node."""
    _must_be_for(context, name, file_argument)
    return Node(
        package="rynn_brain_ros",
        executable=name,
        name=name,
        namespace=LaunchConfiguration("namespace").perform(context),
        parameters=[
            LaunchConfiguration(file_argument),
            {**parameters, "autostart": autostart},
        ],
        remappings=tf_remappings(context),
        output="screen",
    )
