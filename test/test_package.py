"""The package as a whole: one version, every interface listed, commented and filled."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from recordings import ScriptedEngine, ask_bag
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from rynn_brain_ros import __version__, messages
from rynn_brain_ros.bags import BagReader, interface_definitions, message, typestore
from rynn_brain_ros.extras import EXTRAS, pip_install
from rynn_brain_ros.values import Task

REPOSITORY = Path(__file__).resolve().parent.parent
INTERFACES = sorted(
    path for kind in ("msg", "srv", "action") for path in REPOSITORY.glob(f"{kind}/*.{kind}")
)
MESSAGES = [path for path in INTERFACES if path.suffix == ".msg"]


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def name_of(path: Path) -> str:
    return path.name


def test_the_version_is_the_same_everywhere():
    manifest = ElementTree.parse(REPOSITORY / "package.xml").getroot().findtext("version")
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    (declared,) = re.findall(r'^version = "(.+)"$', project, re.MULTILINE)
    assert manifest == declared == __version__


def test_what_messages_tell_people_to_install_is_what_the_extras_are_made_of():
    tomllib = pytest.importorskip("tomllib", reason="Python reads TOML from 3.11 on")
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extra, packages in EXTRAS.items():
        assert list(packages) == project["optional-dependencies"][extra]


def test_what_is_to_be_installed_is_named_for_a_shell_that_knows_no_extras():
    assert pip_install("sim", "data") == "pip install 'mujoco>=3.3' 'av>=12' 'pyarrow>=15'"
    with_extras = re.compile(r"pip install '?rynn_brain_ros")
    for path in (REPOSITORY / "rynn_brain_ros").rglob("*.py"):
        assert not with_extras.search(path.read_text(encoding="utf-8")), path.name


def test_rosdep_is_told_of_everything_that_the_nodes_import():
    manifest = (REPOSITORY / "package.xml").read_text(encoding="utf-8")
    told = set(re.findall(r"depend>([\w-]+)<", manifest))
    names = {"tf2_ros": "tf2_ros_py", "yaml": "python3-yaml"}
    for path in (*REPOSITORY.glob("rynn_brain_ros/ros/*.py"), *REPOSITORY.glob("launch/*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        modules = [n.module or "" for n in nodes if isinstance(n, ast.ImportFrom)]
        modules += [each.name for n in nodes if isinstance(n, ast.Import) for each in n.names]
        roots = {module.split(".")[0] for module in modules}
        wanted = roots - {"rynn_brain_ros", *sys.stdlib_module_names}
        assert {names.get(root, root) for root in wanted} <= told, path.name


def test_rosdep_is_told_of_what_launch_files_run_and_people_of_what_they_may_want():
    manifest = (REPOSITORY / "package.xml").read_text(encoding="utf-8")
    told = {"rynn_brain_ros", *re.findall(r"depend>([\w-]+)<", manifest)}
    docs = "".join(path.read_text(encoding="utf-8") for path in REPOSITORY.glob("docs/*.md"))
    optional = set(re.findall(r"\bros-\$ROS_DISTRO-([\w-]+)", docs))
    run = set(programs())
    assert run >= {"ros2bag", "ros2topic", "rviz2", "joy"}
    assert run <= told | optional
    assert "rosbag2_storage_mcap" in told  # of what this project records


def programs() -> Iterator[str]:
    """Packages of the nodes and of the `ros2` commands that launch files start."""
    for path in REPOSITORY.glob("launch/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.List):
                words = [word.value for word in node.elts if isinstance(word, ast.Constant)]
                if words[:1] == ["ros2"]:
                    yield f"ros2{words[1]}"
            elif isinstance(node, ast.keyword) and node.arg == "package":
                yield ast.literal_eval(node.value)


def test_every_interface_is_built():
    cmake = (REPOSITORY / "CMakeLists.txt").read_text(encoding="utf-8")
    built = re.findall(r'^  "((?:msg|srv|action)/.+)"$', cmake, re.MULTILINE)
    assert sorted(built) == sorted(str(path.relative_to(REPOSITORY)) for path in INTERFACES)


@pytest.mark.parametrize("path", MESSAGES, ids=name_of)
def test_every_field_has_a_comment(path: Path):
    bare = []
    for line, before in zip(lines_of(path), ["", *lines_of(path)], strict=False):
        is_field = re.match(r"[a-z]", line) is not None and " = " not in line
        if is_field and "#" not in line and not before.startswith("#"):
            bare.append(line)
    assert bare == []


@pytest.mark.parametrize("path", INTERFACES, ids=name_of)
def test_every_interface_says_what_it_is(path: Path):
    assert lines_of(path)[0].startswith("# ")


@pytest.mark.parametrize("path", MESSAGES, ids=name_of)
def test_a_definition_is_one_that_rosbags_reads(path: Path):
    name = f"rynn_brain_ros/msg/{path.stem}"
    parsed = get_types_from_msg(path.read_text(encoding="utf-8"), name)
    assert list(parsed) == [name]


@pytest.mark.parametrize("path", MESSAGES, ids=name_of)
def test_every_message_can_be_made_and_read_back(path: Path):
    name = f"rynn_brain_ros/msg/{path.stem}"
    raw = typestore().serialize_cdr(message(name, {}), name)
    again = typestore().deserialize_cdr(raw, name)
    assert typestore().serialize_cdr(again, name) == raw


def test_no_definition_shadows_one_of_ros():
    assert not set(interface_definitions()) & set(get_typestore(Stores.ROS2_JAZZY).fielddefs)


@pytest.mark.parametrize("kind", messages._KINDS)
def test_the_kinds_are_those_of_the_message(kind: str):
    text = (REPOSITORY / "msg" / "Grounding.msg").read_text(encoding="utf-8")
    constants = dict(re.findall(r"^uint8 KIND_(\w+) = (\d+)", text, re.MULTILINE))
    name = "NONE" if kind == "no_grounding" else kind.upper()
    assert int(constants[name]) == messages._KINDS[kind]


@pytest.mark.parametrize(
    ("task", "text"),
    [
        (Task.AFFORDANCE, "<affordance> <frame 2>: (500, 500) </affordance>"),
        (Task.OBJECT, "<object> <frame 0>: (10, 20), (300, 400) </object>"),
        (Task.AREA, "<area> <frame 1>: (10, 20), (300, 400), (500, 1200) </area>"),
        (Task.COUNT, "3"),
        (Task.GRASP, "Nowhere."),
        (Task.DESCRIBE, "A table."),
    ],
)
def test_every_answer_fills_the_message(task: Task, text: str, small_bag: Path, tmp_path: Path):
    ask_bag(small_bag, tmp_path, ScriptedEngine(text), task)
    with BagReader(tmp_path / "run.mcap") as bag:
        ((_, array),) = bag.decoded(["/rynn_brain/groundings"])
    assert (array.task, array.answer) == (task.value, text)
    assert all(grounding.query_id == array.query_id for grounding in array.groundings)


def test_every_field_of_a_grounding_is_filled():
    fields = {name for name, _ in typestore().fielddefs["rynn_brain_ros/msg/Grounding"][1]}
    source = (REPOSITORY / "rynn_brain_ros" / "messages.py").read_text(encoding="utf-8")
    body = source[source.index("def grounding(") : source.index("def _planar")]
    assert fields <= set(re.findall(r'"(\w+)":', body))


@pytest.mark.slow
def test_a_built_package_brings_its_files_anywhere(tmp_path: Path):
    """Its definitions, profiles and contracts, wherever pip puts it."""
    pytest.importorskip("setuptools", minversion="77")
    for name in ("msg", "srv", "action", "config", "rynn_brain_ros"):
        shutil.copytree(REPOSITORY / name, tmp_path / "source" / name)
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "package.xml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, tmp_path / "source")
    build = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(tmp_path / "lib")]
    subprocess.run(build, cwd=tmp_path / "source", check=True, capture_output=True)
    script = (
        "import rynn_brain_ros.bags as bags; print(bags.__file__, *bags.interface_definitions());"
        "from rynn_brain_ros.actuators.profile import *; print(*profile_names());"
        "from rynn_brain_ros.config import bundled; print(*bundled('contracts'))"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "lib"), "AMENT_PREFIX_PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    told, robots, contracts = done.stdout.splitlines()
    file, *names = told.split()
    assert file.startswith(str(tmp_path / "lib"))
    assert names == [f"rynn_brain_ros/msg/{path.stem}" for path in MESSAGES]
    for kind, found in (("robots", robots), ("contracts", contracts)):
        files = (REPOSITORY / "config" / kind).glob("*.yaml")
        assert found.split() == sorted(path.stem for path in files), kind


def test_no_two_test_modules_have_one_name():
    """pytest takes the second for the first, and only where both are collected."""
    names = [
        path.name for path in (REPOSITORY / "test").rglob("*.py") if path.name != "conftest.py"
    ]
    assert sorted(names) == sorted(set(names))
