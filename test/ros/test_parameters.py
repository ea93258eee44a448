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
from rclpy.parameter import Parameter  # noqa: E402

from rynn_brain_ros.ros.together import NODES  # noqa: E402

SUCCESS = TransitionCallbackReturn.SUCCESS
CAMERAS = """
    cameras: front, wrist
    front: {color_topic: /front/image}
    wrist: {color_topic: /wrist/image}
"""


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


def set_to(node: Any, name: str, value: Any) -> Any:
    return node.set_parameters([Parameter(name, value=value)])[0]


# --- unknown ones --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "wrong", "near"),
    [
        ("brain", "max_frame_age", "max_frame_age_s"),
        ("act", "require_aproval", "require_approval"),
        ("policy", "max_accel", "max_acceleration"),
        ("policy", "replan_step", "replan_steps"),
        ("view", "color_topic", "color_topics"),
        ("record", "operater", "operator"),
        ("sim", "sead", "seed"),
    ],
)
def test_an_unknown_parameter_fails_configuration_and_names_the_nearest(
    name: str, wrong: str, near: str, told: Told, capfd: pytest.CaptureFixture[str]
) -> None:
    node = told(name, f"{wrong}: 1")
    assert node.trigger_configure() is not SUCCESS
    said = f"cannot configure: unknown parameter '{wrong}': did you mean '{near}'?"
    assert said in capfd.readouterr().err


def test_every_node_refuses_what_it_does_not_know(
    told: Told, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in NODES:
        assert told(name, "zzz: 1").trigger_configure() is not SUCCESS
        said = capfd.readouterr().err
        assert "unknown parameter 'zzz': known are " in said
        assert "goes under its name, and not under /**" in said


def test_a_misspelled_camera_does_not_get_the_topics_of_another_one(
    told: Told, capfd: pytest.CaptureFixture[str]
) -> None:
    node = told("brain", CAMERAS.replace("wrist: {", "writs: {"))
    assert node.trigger_configure() is not SUCCESS
    said = "unknown parameter 'writs.color_topic': did you mean 'wrist.color_topic'?"
    assert said in capfd.readouterr().err


@pytest.mark.parametrize("section", ["/**", "/**/brain", "/robot/brain"])
def test_what_ros_tells_every_node_is_known(section: str, told: Told) -> None:
    lines = """
    use_sim_time: true
    start_type_description_service: true
    qos_overrides: {/clock: {subscription: {depth: 5}}}
    """
    assert told("brain", lines + CAMERAS, section).trigger_configure() is SUCCESS


def test_a_setting_of_another_node_is_refused_wherever_it_comes_from(
    told: Told, capfd: pytest.CaptureFixture[str]
) -> None:
    assert told("policy", "require_approval: true", "/**").trigger_configure() is not SUCCESS
    assert "unknown parameter 'require_approval'" in capfd.readouterr().err


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


@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("camera/camera", "camera_camera"),
        ("/left/camera/", "left_camera"),
        ("two words", "two_words"),
        ("2", "camera_2"),
    ],
)
def test_a_topic_in_place_of_a_cameras_name_is_told_what_to_write(
    name: str, better: str, told: Told, capfd: pytest.CaptureFixture[str]
) -> None:
    lines = f"cameras: 'front, {name}'\n    front: {{color_topic: /front/image}}"
    assert told("brain", lines).trigger_configure() is not SUCCESS
    said = capfd.readouterr().err
    assert f"cameras: '{name}' is no name of a camera" in said
    assert f"give its topics as {better}.color_topic and {better}.depth_topic" in said
    lines = f"cameras: front, {better}\n    {better}: {{color_topic: /camera/camera/image}}"
    assert told("brain", lines).trigger_configure() is SUCCESS


# --- changes -------------------------------------------------------------------------------------


def test_a_change_is_refused_while_it_would_change_nothing(told: Told) -> None:
    act = told("act", "dry_run: false")
    assert act.trigger_configure() is SUCCESS
    for state in ("inactive", "active"):
        refused = set_to(act, "dry_run", True)
        assert not refused.successful, state
        assert "clean it up first (ros2 lifecycle set /robot/act deactivate, then" in refused.reason
        assert act.get_parameter("dry_run").value is False
        if state == "inactive":
            assert act.trigger_activate() is SUCCESS


def test_the_value_that_is_there_may_be_set_at_any_time(told: Told) -> None:
    act = told("act", "armed_s: 20")
    assert act.trigger_configure() is SUCCESS
    assert set_to(act, "armed_s", 20.0).successful
    assert set_to(act, "dry_run", True).successful


def test_a_change_counts_once_it_is_cleaned_up_and_configured_anew(told: Told) -> None:
    view = told("view", "marker_lifetime_s: 5.0")
    assert view.trigger_configure() is SUCCESS
    assert view.trigger_cleanup() is SUCCESS
    assert set_to(view, "marker_lifetime_s", 7).successful
    assert view.trigger_configure() is SUCCESS
    assert view._config.marker_lifetime_s == 7.0


@pytest.mark.parametrize("value", [None, 1, "no"])
def test_no_parameter_is_set_to_what_it_cannot_be(value: Any, told: Told) -> None:
    act = told("act", "dry_run: true")
    refused = set_to(act, "dry_run", value)
    assert not refused.successful
    assert "it must be of type bool" in refused.reason
    assert act.get_parameter("dry_run").value is True


def test_what_is_ros_own_may_be_set_at_any_time(told: Told) -> None:
    view = told("view", "image_mib: 1")
    assert view.trigger_configure() is SUCCESS
    assert set_to(view, "use_sim_time", True).successful
