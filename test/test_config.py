"""Settings: one source for YAML, ROS parameters and documentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from rynn_brain_ros.config import BrainConfig, configure, read_yaml, settings
from rynn_brain_ros.models import open_engine
from rynn_brain_ros.values import ConfigError

REPOSITORY = Path(__file__).resolve().parent.parent


def test_without_values_the_defaults_hold():
    assert configure(BrainConfig, {}) == BrainConfig()


def test_a_value_is_taken():
    assert configure(BrainConfig, {"frames": 4}).frames == 4


def test_a_whole_number_serves_as_a_float():
    fps = configure(BrainConfig, {"fps": 5}).fps
    assert (fps, type(fps)) == (5.0, float)


def test_what_a_merge_brings_may_be_given_anew():
    text = "a: &a {x: 1, y: 2}\nb: &b {<<: *a, y: 3}\nc: {<<: *b, x: 4}\n"
    assert read_yaml(text)["c"] == {"x": 4, "y": 3}


@pytest.mark.parametrize(
    ("name", "hint"),
    [("frame", "did you mean 'frames'?"), ("colour_topic", "did you mean 'color_topic'?")],
)
def test_an_unknown_name_names_the_nearest(name: str, hint: str):
    with pytest.raises(ConfigError, match=f"unknown setting '{name}'") as error:
        configure(BrainConfig, {name: 1})
    assert hint in str(error.value)


def test_a_name_like_no_other_names_them_all():
    with pytest.raises(ConfigError, match=r"known are color_topic, .*max_frame_age_s"):
        configure(BrainConfig, {"zzz": 1})


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("frames", "8", "int"),
        ("frames", 8.0, "int"),
        ("frames", True, "int"),
        ("fps", "fast", "float"),
        ("fps", True, "float"),
        ("engine", None, "str"),
        ("engine", 3, "str"),
    ],
)
def test_a_wrong_type_is_named(name: str, value: Any, wanted: str):
    with pytest.raises(ConfigError, match=f"setting '{name}' is .* must be of type {wanted}"):
        configure(BrainConfig, {name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("frames", 0), ("frames", 513), ("fps", 0.0), ("horizon_s", -1.0)),
        *(("buffer_mib", 0), ("max_wait_s", 5.1), ("fps", float("inf")), ("fps", float("nan"))),
    ],
)
def test_a_value_out_of_its_limits_tells_them(name: str, value: float):
    with pytest.raises(ConfigError, match=f"setting '{name}' is .* must be within .* to "):
        configure(BrainConfig, {name: value})


@pytest.mark.parametrize("item", list(settings(BrainConfig)), ids=lambda item: item.name)
def test_a_setting_says_what_it_is_for(item):
    assert len(item.description) > 20
    assert configure(BrainConfig, {item.name: item.default}) == BrainConfig()


@pytest.mark.parametrize("item", list(settings(BrainConfig)), ids=lambda item: item.name)
def test_a_number_has_limits_and_a_unit_where_it_has_one(item):
    if isinstance(item.default, (int, float)):
        assert item.minimum is not None and item.maximum is not None
    if item.name.endswith("_s"):
        assert "[s]" in item.description


def test_the_yaml_file_has_every_setting_with_its_default():
    text = (REPOSITORY / "config" / "brain.yaml").read_text(encoding="utf-8")
    parameters = yaml.safe_load(text)["/**/brain"]["ros__parameters"]
    assert parameters == {item.name: item.default for item in settings(BrainConfig)}
    assert list(parameters) == [item.name for item in settings(BrainConfig)]


def test_the_default_engine_can_be_opened():
    assert open_engine(BrainConfig().engine).info.name == "color-baseline"


@pytest.mark.parametrize(
    ("color", "info"),
    [
        ("/camera/color/image_raw", "/camera/color/camera_info"),
        ("/camera/color/image_raw/compressed", "/camera/color/camera_info"),
        ("image", "camera_info"),
    ],
)
def test_camera_info_is_beside_the_image(color: str, info: str):
    assert BrainConfig(color_topic=color).color_info == info


def test_camera_info_may_be_named():
    assert BrainConfig(color_info_topic="/elsewhere").color_info == "/elsewhere"
