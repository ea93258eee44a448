"""What nodes are told as parameters: what they take, what they refuse, and in which words."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.ros
rclpy = pytest.importorskip("rclpy", reason="rclpy is not importable")

from rclpy.lifecycle import TransitionCallbackReturn  # noqa: E402

from rynn_brain_ros.ros.together import NODES  # noqa: E402

SUCCESS = TransitionCallbackReturn.SUCCESS


@pytest.fixture(scope="module", autouse=True)
def ros() -> Iterator[None]:
    rclpy.init()
    yield
    rclpy.try_shutdown()


Told = Callable[..., Any]


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    """Makes the node of this name, which is told lines of a parameter file."""
    with ExitStack() as stack:

        def make(name: str, lines: str, section: str = "") -> Any:
            path = tmp_path / "parameters.yaml"
            text = f"{section or '/**/' + name}:\n  ros__parameters:\n    {lines.strip()}\n"
            path.write_text(text, encoding="utf-8")
            module = importlib.import_module(f"rynn_brain_ros.ros.{name}_node")
            arguments = ["--ros-args", "-r", "__ns:=/robot", "--params-file", str(path)]
            node = getattr(module, NODES[name])(cli_args=arguments)
            stack.callback(node.destroy_node)
            stack.callback(node.release)
            return node

        yield make


# --- values --------------------------------------------------------------------------------------


def test_a_whole_number_serves_as_a_float(told: Told) -> None:
    act = told("act", "armed_s: 20")
    assert act.trigger_configure() is SUCCESS
    assert repr(act._config.armed_s) == "20.0"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("armed_s: soon", "setting 'armed_s' is 'soon', of type str; it must be of type float"),
        ("armed_s: 0.5", "setting 'armed_s' is 0.5; it must be within 1 to 36000"),
        ("armed_s: .nan", "setting 'armed_s' is nan; it must be within 1 to 36000"),
        ("armed_s: 0", "setting 'armed_s' is 0.0; it must be within 1 to 36000"),
        ("buffer_mib: 0", "setting 'buffer_mib' is 0; it must be within 1 to 65536"),
        (
            "buffer_mib: 512.0",
            "setting 'buffer_mib' is 512.0, of type float; it must be of type int",
        ),
        ("dry_run: 'no'", "setting 'dry_run' is 'no', of type str; it must be of type bool"),
        ("robot: 7", "setting 'robot' is 7, of type int; it must be of type str"),
        (
            "{cameras: front, front: {color_topic: 7}}",
            "front: setting 'color_topic' is 7, of type int; it must be of type str",
        ),
    ],
)
def test_a_value_that_is_none_fails_configuration_in_a_sentence(
    line: str, words: str, told: Told, capfd: pytest.CaptureFixture[str]
) -> None:
    assert told("act", line).trigger_configure() is not SUCCESS
    assert f"cannot configure: {words}" in capfd.readouterr().err


def test_limits_are_told_to_who_asks(told: Told) -> None:
    (limits,) = told("act", "armed_s: 20.0").describe_parameter("armed_s").floating_point_range
    assert (limits.from_value, limits.to_value) == (1.0, 36000.0)
