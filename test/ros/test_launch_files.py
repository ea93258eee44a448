"""What launch files make of arguments and parameter files, as ROS reads it; no node is begun."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.ros
rclpy = pytest.importorskip("rclpy", reason="rclpy is not importable")

from ament_index_python.packages import (  # noqa: E402
    get_package_prefix,
    get_package_share_directory,
)
from launch.actions import ExecuteProcess, IncludeLaunchDescription  # noqa: E402
from launch.launch_description_sources.python_launch_file_utilities import (  # noqa: E402
    load_python_launch_file_as_module,
)
from launch.substitutions import TextSubstitution  # noqa: E402
from launch_ros.actions import Node, PushRosNamespace  # noqa: E402
from recordings import Item, write_items  # noqa: E402

from launch import LaunchContext  # noqa: E402
from rynn_brain_ros.ros.parameter_files import applies  # noqa: E402
from rynn_brain_ros.values import ConfigError  # noqa: E402

COLOR, DEPTH = "camera/color/image_raw", "camera/aligned_depth_to_color/image_raw"


@dataclass(frozen=True)
class Begun:
    """A node as it would be begun: its full name and what it is told."""

    name: str
    files: tuple[str, ...]
    remapped: Mapping[str, str]

    def parameters(self) -> dict[str, Any]:
        """As a real node of this name finds them."""
        return parameters_of(self.name, *self.files)


def parameters_of(name: str, *files: str) -> dict[str, Any]:
    namespace, _, node_name = name.rpartition("/")
    context = rclpy.Context()
    rclpy.init(context=context)
    told = [word for file in files for word in ("--params-file", file)]
    node = rclpy.create_node(
        node_name,
        namespace=namespace,
        context=context,
        cli_args=["--ros-args", *told],
        automatically_declare_parameters_from_overrides=True,
    )
    found = {key: value.value for key, value in node.get_parameters_by_prefix("").items()}
    node.destroy_node()
    rclpy.shutdown(context=context)
    return found


@pytest.fixture
def with_rviz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if it were installed; nothing is begun."""
    marker = tmp_path / "other/share/ament_index/resource_index/packages/rviz2"
    marker.parent.mkdir(parents=True)
    marker.touch()
    prefixes = [os.environ["AMENT_PREFIX_PATH"], str(tmp_path / "other")]
    monkeypatch.setenv("AMENT_PREFIX_PATH", os.pathsep.join(prefixes))


def launched(name: str, within: str = "", **arguments: str) -> dict[str, Begun]:
    """The nodes that a launch file would begin, by their names."""
    context = LaunchContext()
    if within:
        PushRosNamespace(within).execute(context)
    file = f"{get_package_share_directory('rynn_brain_ros')}/launch/{name}.launch.py"
    included = IncludeLaunchDescription(file, launch_arguments=arguments.items())
    nodes = [begun(node, context) for node in nodes_of([included], context)]
    return {node.name.rpartition("/")[2]: node for node in nodes}


def nodes_of(entities: Iterable[Any], context: LaunchContext) -> Iterator[Node]:
    for entity in entities:
        if isinstance(entity, Node):
            yield entity
        elif not isinstance(entity, ExecuteProcess):
            yield from nodes_of(entity.visit(context) or (), context)


def begun(node: Node, context: LaunchContext) -> Begun:
    node._perform_substitutions(context)
    words = [word[0].text if isinstance(word[0], TextSubstitution) else "" for word in node.cmd]
    name = node.node_name if "<" not in node.node_name else f"/{node.node_executable}"
    files = tuple(words[i + 1] for i, word in enumerate(words) if word == "--params-file")
    return Begun(name, files, dict(node.expanded_remapping_rules or ()))


def written(folder: Path, text: str) -> str:
    file = folder / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    return str(file)


def section(nodes: str, **parameters: Any) -> str:
    lines = [f"    {name}: {value}" for name, value in parameters.items()]
    return "\n".join([f"{nodes}:", "  ros__parameters:", *lines, ""])


# --- true and false ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "name"),
    [
        *(("act", "dry_run"), ("act", "require_approval"), ("policy", "dry_run")),
        *(("brain", "rviz"), ("brain", "dry_run"), ("view", "own_tf"), ("record", "joy")),
        *(("sim", "publish_clock"), ("sim", "dry_run"), ("sim", "rviz"), ("replay", "loop")),
        *(("act", "use_sim_time"), ("act", "autostart")),
    ],
)
def test_a_misspelt_true_ends_the_launch(file: str, name: str) -> None:
    sentence = f"{name} is 'ture': it may be true, 1, yes or on, or false, 0, no or off"
    bag = {"bag": "/dev/null"} if file == "replay" else {}
    with pytest.raises(ConfigError, match=sentence):
        launched(file, **{name: "ture", **bag})


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        *(("true", True), ("True", True), ("1", True), ("yes", True), ("ON", True)),
        *(("false", False), ("FALSE", False), ("0", False), ("no", False), ("off", False)),
    ],
)
def test_every_word_for_true_and_false_is_taken(word: str, meant: bool) -> None:
    parameters = launched("act", dry_run=word, require_approval=word)["act"].parameters()
    assert (parameters["dry_run"], parameters["require_approval"]) == (meant, meant)


def test_what_ends_a_launch_is_told_in_a_sentence(tmp_path: Path) -> None:
    command = ["ros2", "launch", "rynn_brain_ros", "act.launch.py", "dry_run:=ture"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ended.returncode == 1
    assert "dry_run is 'ture': it may be true," in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr


@pytest.mark.parametrize("file", ["view", "brain", "sim"])
def test_rviz_that_is_not_installed_ends_the_launch(
    file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMENT_PREFIX_PATH", get_package_prefix("rynn_brain_ros"))
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    sentence = "the package rviz2 is not installed: sudo apt install ros-jazzy-rviz2"
    with pytest.raises(ConfigError, match=sentence):
        launched(file, rviz="true")


@pytest.mark.parametrize(
    "arguments",
    [
        *(["sim", "params_file:=/none.yaml"], ["sim", "view_params_file:=/none.yaml"]),
        *(["sim", "require_approval:=ture", "act:=true"], ["brain", "view_params_file:=/none"]),
    ],
)
def test_a_launch_that_is_ended_has_begun_nothing(arguments: list[str], tmp_path: Path) -> None:
    command = ["ros2", "launch", "rynn_brain_ros", f"{arguments[0]}.launch.py", *arguments[1:]]
    ended = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "ROS_LOG_DIR": str(tmp_path)},
        start_new_session=True,
    )
    told, _ = ended.communicate()
    assert ended.returncode == 1
    assert "process started with pid" not in told
    with pytest.raises(ProcessLookupError):
        os.killpg(ended.pid, 0)


@pytest.mark.parametrize(
    ("file", "argument", "sentence"),
    [
        ("act", "require_aproval:=true", "did you mean 'require_approval'?"),
        ("act", "armed_s:=20.0", "what only a parameter is for goes into params_file"),
        ("brain", "colour_topic:=/c", "unknown argument of brain.launch.py 'colour_topic'"),
        ("sim", "wrold:=room", "did you mean 'world'?"),
    ],
)
def test_an_argument_that_there_is_not_ends_the_launch(
    file: str, argument: str, sentence: str, tmp_path: Path
) -> None:
    """For launch itself it is none, and the approval would only seem to be asked for."""
    ended = subprocess.run(
        ["ros2", "launch", "rynn_brain_ros", f"{file}.launch.py", argument],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "ROS_LOG_DIR": str(tmp_path)},
        timeout=60,
    )
    assert ended.returncode == 1
    assert sentence in ended.stderr + ended.stdout
    assert "process started with pid" not in ended.stderr + ended.stdout


def test_a_launch_file_that_includes_ours_may_have_arguments_of_its_own(tmp_path: Path) -> None:
    robot = tmp_path / "robot.launch.py"
    robot.write_text(
        "from launch import LaunchDescription\n"
        "from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, Shutdown\n"
        "from launch.substitutions import LaunchConfiguration, PathJoinSubstitution\n"
        "from launch_ros.substitutions import FindPackageShare\n"
        "def generate_launch_description():\n"
        "    ours = [FindPackageShare('rynn_brain_ros'), 'launch', 'act.launch.py']\n"
        "    act = IncludeLaunchDescription(PathJoinSubstitution(ours), launch_arguments={\n"
        "        'color_topic': LaunchConfiguration('colour_topic')}.items())\n"
        "    own = DeclareLaunchArgument('colour_topic')\n"
        "    return LaunchDescription([own, act, Shutdown()])\n"
    )
    subprocess.run(
        ["ros2", "launch", str(robot), "colour_topic:=/c"],
        check=True,
        env={**os.environ, "ROS_LOG_DIR": str(tmp_path)},
        timeout=60,
    )


# --- parameter files -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "argument"),
    [
        *((name, "params_file") for name in ("act", "brain", "policy", "record", "sim")),
        *(("view", "view_params_file"), ("brain", "view_params_file"), ("sim", "sim_params_file")),
        ("sim", "view_params_file"),
    ],
)
def test_a_parameter_file_that_is_not_there_ends_the_launch(file: str, argument: str) -> None:
    with pytest.raises(ConfigError, match=f"{argument} is '/none.yaml': there is no such file"):
        launched(file, **{argument: "/none.yaml"})


def test_a_parameter_file_that_is_no_yaml_ends_the_launch(tmp_path: Path) -> None:
    file = written(tmp_path, "{")
    with pytest.raises(ConfigError, match=f"{file} is no YAML"):
        launched("act", params_file=file)


@pytest.mark.parametrize(
    ("nodes", "namespace"), [("act", "robot_1"), ("/**/brain", ""), ("/robot_2/act", "/robot_1/")]
)
def test_a_parameter_file_for_other_nodes_ends_the_launch(
    nodes: str, namespace: str, tmp_path: Path
) -> None:
    file = written(tmp_path, section(nodes, require_approval="true"))
    with pytest.raises(ConfigError) as error:
        launched("act", params_file=file, namespace=namespace)
    name = f"{'/robot_1' if namespace else ''}/act"
    assert f"has parameters for {nodes}, and none for {name}: write them" in str(error.value)


def test_a_parameter_file_for_nobody_ends_the_launch(tmp_path: Path) -> None:
    file = written(tmp_path, "dry_run: false\n")
    with pytest.raises(ConfigError, match="has parameters for no node, and none for /act"):
        launched("act", params_file=file)


def test_a_parameter_file_may_be_for_several_nodes(tmp_path: Path) -> None:
    text = section("/**/brain", frames=4) + section("/**/act", require_approval="true")
    act = launched("act", params_file=written(tmp_path, text))["act"]
    assert act.parameters()["require_approval"] is True


def test_a_namespace_around_a_launch_file_counts(tmp_path: Path) -> None:
    file = written(tmp_path, section("/outer/inner/act", require_approval="true"))
    act = launched("act", within="outer", namespace="inner", params_file=file)["act"]
    assert act.name == "/outer/inner/act"
    assert act.parameters()["require_approval"] is True


GROUPS = {
    "left/act": "left:\n  act:\n    ros__parameters:\n      x: 1\n",
    "/left/act": "/:\n  left:\n    act:\n      ros__parameters:\n        x: 1\n",
}


@pytest.mark.parametrize("name", ["/act", "/left/act", "/left/arm/act", "/left/arm", "/brain"])
@pytest.mark.parametrize(
    "nodes",
    [
        *("act", "/act", "left/act", "/left/act", "/**", "/*", "**", "*", "/**/act", "**/act"),
        *("/*/act", "/left/*", "/left/**", "/left/**/act", "/*/*/act", "/**/arm/**", "/*/**/act"),
        *("/lef/act", "/left/arm/act"),
    ],
)
def test_a_section_is_for_whom_it_is_for_ros(nodes: str, name: str, tmp_path: Path) -> None:
    taken = "x" in parameters_of(name, written(tmp_path, section(f"'{nodes}'", x=1)))
    assert applies(nodes, name) == taken


@pytest.mark.parametrize("nodes", GROUPS)
def test_a_namespace_may_be_a_group(nodes: str, tmp_path: Path) -> None:
    file = written(tmp_path, GROUPS[nodes])
    assert launched("act", namespace="left", params_file=file)["act"].parameters()["x"] == 1
    with pytest.raises(ConfigError, match=f"has parameters for {nodes}, and none for /right/act"):
        launched("act", namespace="right", params_file=file)


# --- the brain and act ---------------------------------------------------------------------------


def test_act_beside_the_brain_takes_its_section_of_the_brains_file(tmp_path: Path) -> None:
    text = section("/**/brain", frames=4)
    text += section("/**/act", require_approval="true", dry_run="false", approval_s=9.0)
    nodes = launched("brain", robot="franka_fr3", params_file=written(tmp_path, text))
    assert nodes["brain"].parameters()["frames"] == 4
    parameters = nodes["act"].parameters()
    assert (parameters["require_approval"], parameters["approval_s"]) == (True, 9.0)
    assert parameters["robot"] == "franka_fr3"
    assert parameters["dry_run"] is True  # a preview, as the argument's default says


def test_act_beside_the_brain_needs_no_section_in_the_brains_file(tmp_path: Path) -> None:
    file = written(tmp_path, section("/**/brain", frames=4))
    nodes = launched("brain", robot="franka_panda", params_file=file)
    assert nodes["act"].parameters()["require_approval"] is False


def test_act_beside_the_brain_asks_a_person_and_has_a_verdict() -> None:
    given = {"require_approval": "true", "engine_verdict": "verdict.json"}
    parameters = launched("brain", robot="franka_panda", **given)["act"].parameters()
    assert (parameters["require_approval"], parameters["engine_verdict"]) == (True, "verdict.json")


def test_act_beside_a_simulator_takes_its_section_of_the_brains_file(tmp_path: Path) -> None:
    file = written(tmp_path, section("/**/brain", frames=4) + section("/**/act", armed_s=9.0))
    nodes = launched("sim", act="true", params_file=file)
    assert nodes["brain"].parameters()["frames"] == 4
    assert nodes["act"].parameters()["armed_s"] == 9.0


# --- the simulator -------------------------------------------------------------------------------


def test_all_follow_the_world_and_the_clock_of_the_simulators_file(tmp_path: Path) -> None:
    file = written(tmp_path, section("/**/sim", world="room", publish_clock="false"))
    nodes = {name: node.parameters() for name, node in simulated(sim_params_file=file).items()}
    assert nodes["sim"]["publish_clock"] is False
    assert nodes["act"]["robot"] == "mobile_base"
    assert {nodes[name]["color_topic"] for name in ("brain", "act")} == {"forward/color/image_raw"}
    assert nodes["view"]["color_topics"] == "forward/color/image_raw"
    for name in ("sim", "brain", "view", "act"):
        assert nodes[name]["use_sim_time"] is False


def test_arguments_go_before_the_simulators_file(tmp_path: Path) -> None:
    file = written(tmp_path, section("/**/sim", world="room", publish_clock="false"))
    nodes = simulated(sim_params_file=file, world="table", publish_clock="true")
    parameters = nodes["sim"].parameters()
    assert (parameters["world"], parameters["publish_clock"]) == ("table", True)
    assert nodes["act"].parameters()["robot"] == "franka_panda"
    assert nodes["brain"].parameters()["use_sim_time"] is True


def simulated(**arguments: str) -> dict[str, Begun]:
    return launched("sim", act="true", **arguments)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("world", "tabel", "world is 'tabel': it may be table or room"),
        ("seed", "abc", "seed is 'abc': it must be a whole number"),
        ("picture_rate", "fast", "picture_rate is 'fast': it must be a number"),
    ],
)
def test_what_no_world_is_made_of_ends_the_launch(name: str, value: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        launched("sim", **{name: value})


# --- time ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["act", "brain", "policy", "record", "view"])
def test_a_parameter_file_may_say_whose_time_counts(name: str, tmp_path: Path) -> None:
    argument = "view_params_file" if name == "view" else "params_file"
    file = {argument: written(tmp_path, section(f"/**/{name}", use_sim_time="true"))}
    assert launched(name, **file)[name].parameters()["use_sim_time"] is True
    assert launched(name, use_sim_time="false", **file)[name].parameters()["use_sim_time"] is False


@pytest.mark.usefixtures("with_rviz")
def test_who_is_beside_the_brain_follows_its_time(tmp_path: Path) -> None:
    file = written(tmp_path, section("/**/brain", use_sim_time="true"))
    nodes = launched("brain", robot="franka_panda", rviz="true", params_file=file)
    for name in ("view", "act", "rviz2"):
        assert nodes[name].parameters()["use_sim_time"] is True


def test_a_replay_is_in_the_bags_time() -> None:
    nodes = launched("replay", bag="/dev/null")
    for name in ("brain", "view"):
        assert nodes[name].parameters()["use_sim_time"] is True


# --- a bag ----------------------------------------------------------------------------------------


def test_a_bag_that_is_not_there_ends_the_launch() -> None:
    with pytest.raises(ConfigError, match=r"no recording at none\.mcap: check bag:="):
        launched("replay", bag="none.mcap")


def test_humble_is_told_topic_by_topic_what_to_play(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = f"{get_package_share_directory('rynn_brain_ros')}/launch/replay.launch.py"
    replay = load_python_launch_file_as_module(file)
    topics = ("/clock", "/brain/status", "/brain/question", "/left/brain/status", "/camera/note")
    said = [Item(topic, "std_msgs/msg/String", {"data": "x"}, 1) for topic in topics]
    bag = write_items(tmp_path / "bag.mcap", said)
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    assert replay.selection(bag, "") == ["-x", "/(brain|act|view)/[^q].*"]
    monkeypatch.setenv("ROS_DISTRO", "humble")
    heard = ["/brain/question", "/camera/note", "/left/brain/status"]
    assert replay.selection(bag, "") == ["--topics", *heard]
    heard = ["/brain/question", "/brain/status", "/camera/note"]
    assert replay.selection(bag, "/left") == ["--topics", *heard]


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("with_rviz")
@pytest.mark.parametrize("namespace", ["", "/", "robot", "/robot/"])
def test_what_rviz_is_told_can_be_read(namespace: str) -> None:
    rviz = launched("view", rviz="true", namespace=namespace)["rviz2"]
    rules = [word for old, new in rviz.remapped.items() for word in ("-r", f"{old}:={new}")]
    rclpy.init(context=(context := rclpy.Context()), args=["--ros-args", *rules])
    rclpy.shutdown(context=context)


@pytest.mark.usefixtures("with_rviz")
@pytest.mark.parametrize("namespace", ["", "robot"])
def test_brain_view_rviz_and_act_look_at_one_camera(namespace: str) -> None:
    nodes = launched("brain", robot="franka_panda", rviz="true", namespace=namespace)
    brain, act, view = (nodes[name].parameters() for name in ("brain", "act", "view"))
    assert brain["color_topic"] == act["color_topic"] == view["color_topics"] == COLOR
    shown = nodes["rviz2"].remapped
    prefix = f"/{namespace}" if namespace else ""
    assert [shown.get(f"/{name}", f"/{name}") for name in (COLOR, DEPTH)] == [
        f"{prefix}/{COLOR}",
        f"{prefix}/{DEPTH}",
    ]


CAMERAS = """    cameras: front, wrist
    front: {color_topic: /front/image, depth_topic: /front/depth}
    wrist: {color_topic: wrist/image/compressed}
"""


@pytest.mark.usefixtures("with_rviz")
def test_the_view_shows_the_cameras_of_the_brains_file(tmp_path: Path) -> None:
    file = written(tmp_path, section("/**/brain") + CAMERAS)
    nodes = launched("brain", params_file=file, rviz="true", namespace="robot")
    shown = nodes["view"].parameters()["color_topics"]
    assert shown == "/front/image,wrist/image/compressed"
    remapped = nodes["rviz2"].remapped
    assert (remapped[f"/{COLOR}"], remapped[f"/{DEPTH}"]) == ("/front/image", "/front/depth")


def test_a_file_of_the_views_own_goes_before_the_brains(tmp_path: Path) -> None:
    brain, view = tmp_path / "brain", tmp_path / "view"
    for folder in (brain, view):
        folder.mkdir()
    files = {
        "params_file": written(brain, section("/**/brain", color_topic="/front/image")),
        "view_params_file": written(view, section("/**/view", color_topics="/top/image")),
    }
    assert launched("brain", **files)["view"].parameters()["color_topics"] == "/top/image"
    nodes = launched("brain", color_topic="/given", **files)
    assert nodes["view"].parameters()["color_topics"] == "/given"


@pytest.mark.parametrize("nodes", ["/**/view", "view", "/*/view", "/robot/view"])
def test_the_view_takes_its_section_of_the_brains_file(nodes: str, tmp_path: Path) -> None:
    namespace = "" if nodes == "view" else "robot"
    text = section("/**/brain", frames=4) + section(f"'{nodes}'", marker_lifetime_s=3.5)
    told = {"params_file": written(tmp_path, text), "namespace": namespace}
    view = launched("brain", **told, color_topic="/given")["view"].parameters()
    assert (view["marker_lifetime_s"], view["color_topics"]) == (3.5, "/given")


def test_what_a_file_says_for_all_nodes_is_not_the_views_own(tmp_path: Path) -> None:
    file = written(tmp_path, section("/**", frames=4))
    assert "frames" not in launched("brain", params_file=file)["view"].parameters()


def test_a_camera_whose_depth_is_not_aligned_is_named_in_arguments() -> None:
    topics = {"depth_topic": "/depth/image", "depth_info_topic": "/depth/camera_info"}
    nodes = launched("brain", robot="franka_panda", **topics)
    for name in ("brain", "act"):
        parameters = nodes[name].parameters()
        assert {topic: parameters[topic] for topic in topics} == topics
