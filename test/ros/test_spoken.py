"""What the package says to MoveIt, Nav2 and grippers is what the installed interfaces take."""

from __future__ import annotations

import importlib.util
import runpy
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs a sourced ROS 2")

from rosidl_runtime_py.utilities import get_message

pytestmark = pytest.mark.ros

TABLE = Path(__file__).parents[1] / "actuators" / "spoken.py"
SPOKEN: dict[str, dict[str, str]] = runpy.run_path(str(TABLE))["SPOKEN"]
SAME = {"byte": "octet", "float64": "double", "float32": "float", "bool": "boolean"}
"""What rosidl calls a type of a definition."""


@pytest.mark.parametrize("name", SPOKEN)
def test_each_field_is_there_with_its_type(name: str) -> None:
    if importlib.util.find_spec(name.split("/", maxsplit=1)[0]) is None:
        pytest.skip(f"{name.split('/', maxsplit=1)[0]} is not installed")
    if name.startswith("franka_msgs") and not has(name):
        pytest.skip("the franka_msgs that is installed is older than its ErrorRecovery")
    installed = class_of(name).get_fields_and_field_types()
    spoken = {field: as_rosidl(type_) for field, type_ in SPOKEN[name].items()}
    assert spoken.items() <= installed.items()


def has(name: str) -> bool:
    try:
        return bool(class_of(name))
    except AttributeError:
        return False


def class_of(name: str) -> Any:
    """``nav2_msgs/msg/Spin_Goal`` is a class inside of the action."""
    package, _, short = name.split("/")
    outer, _, part = short.rpartition("_")
    if not outer:
        return get_message(name)
    kind = "srv" if part in {"Request", "Response"} else "action"
    return getattr(getattr(importlib.import_module(f"{package}.{kind}"), outer), part)


def as_rosidl(type_: str) -> str:
    if type_.endswith("[]"):
        return f"sequence<{as_rosidl(type_[:-2])}>"
    return SAME.get(type_, type_)
