"""What is said at the start: parameters, their file, and what they make of a profile."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from rynn_brain_ros.actuators import read_profile
from rynn_brain_ros.actuators.settings import NOT_REQUIRED, ActConfig
from rynn_brain_ros.config import SeeingConfig, settings
from rynn_brain_ros.values import ConfigError

FILE = Path(__file__).resolve().parents[2] / "config" / "act.yaml"
PROFILE = read_profile("franka_panda")


def test_the_yaml_file_has_every_setting_with_its_default():
    parameters = yaml.safe_load(FILE.read_text(encoding="utf-8"))["/**/act"]["ros__parameters"]
    assert parameters == {item.name: item.default for item in settings(ActConfig)}
    assert list(parameters) == [item.name for item in settings(ActConfig)]


def test_nothing_moves_by_default():
    limits = ActConfig().robot_of(PROFILE).limits
    assert (limits.dry_run, limits.engine_verdict) == (True, "required")


def test_a_robot_is_what_its_profile_and_the_start_say():
    robot = ActConfig(dry_run=False, require_approval=True, armed_s=20.0).robot_of(PROFILE)
    assert (robot.limits.dry_run, robot.limits.require_approval) == (False, True)
    assert robot.armed_s == 20.0
    assert robot.body == PROFILE.robot.body


def test_a_simulator_needs_no_verdict():
    limits = ActConfig(engine_verdict=NOT_REQUIRED).robot_of(PROFILE).limits
    assert limits.engine_verdict == NOT_REQUIRED


def test_a_verdict_that_is_none_is_an_error():
    with pytest.raises(ConfigError, match="no engine's verdict"):
        ActConfig(engine_verdict="/nowhere/verdict.json").robot_of(PROFILE)


def test_what_it_sees_and_answers_with_is_set_as_the_brains_is():
    names = {item.name for item in settings(SeeingConfig)}
    assert names <= {item.name for item in settings(ActConfig)}
    assert {"cameras", "engine_python"} <= names
