"""Profiles of robots: one dataclass, one YAML file each."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import yaml

from rynn_brain_ros.actuators import read_profile
from rynn_brain_ros.actuators.profile import (
    NOT_IN_A_PROFILE,
    SECTIONS,
    RobotProfile,
    profile_names,
)
from rynn_brain_ros.config import settings
from rynn_brain_ros.planning.arm import Arm
from rynn_brain_ros.planning.navigating import NavigationConfig
from rynn_brain_ros.planning.robots import panda, rover
from rynn_brain_ros.values import ConfigError

FOLDER = Path(__file__).resolve().parents[2] / "config" / "robots"
FILES = sorted(FOLDER.glob("*.yaml"))
MINIMAL = "name: mine\nbase: {}\n"


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def arm(*settings: str, links: str = "[base, hand]") -> str:
    return f"name: mine\narm: {{{', '.join((f'links: {links}', *settings))}}}\ngripper: {{}}\n"


def name_of(path: Path) -> str:
    return path.stem


def test_three_profiles_come_with_the_package():
    assert profile_names() == ["franka_fr3", "franka_panda", "mobile_base"]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_has_every_setting_of_its_sections(path: Path):
    plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    for section in plain.keys() - {"name"}:
        known = [item.name for item in settings(SECTIONS[section])]
        wanted = [name for name in known if name not in NOT_IN_A_PROFILE]
        assert list(plain[section]) == wanted


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_setting_has_a_comment_before_it(path: Path):
    lines = path.read_text(encoding="utf-8").splitlines()
    bare = [
        line
        for before, line in itertools.pairwise(lines)
        if line.startswith("  ") and line[2].isalpha() and not before.startswith("  # ")
    ]
    assert bare == []


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_says_what_it_is_for(section: str):
    assert all(len(item.description) > 15 for item in settings(SECTIONS[section]))


def test_the_panda_is_the_simulators_robot():
    """Its limits, motions and frames; only the links differ in what a description calls them."""
    ours, theirs = read_profile("franka_panda").robot, panda()
    assert (ours.limits, ours.executive) == (theirs.limits, theirs.executive)
    assert isinstance(ours.body, Arm)
    assert isinstance(theirs.body, Arm)
    assert ours.body.motion == theirs.body.motion
    assert ours.body.frames == theirs.body.frames
    assert set(ours.body.links) < set(theirs.body.links)


def test_every_arm_grips_with_its_own_tool():
    """A grasp names the frame that a motion looks up on /tf, on any robot."""
    bodies = [read_profile(name).robot.body for name in profile_names()]
    arms = [body for body in bodies if isinstance(body, Arm)]
    assert [arm.grasp.tool_frame for arm in arms] == [arm.tool_frame for arm in arms]
    assert len({arm.tool_frame for arm in arms}) > 1


def test_the_mobile_base_is_the_simulators_rover():
    ours, theirs = read_profile("mobile_base").robot, rover()
    assert (ours.limits, ours.executive, ours.body) == (
        theirs.limits,
        theirs.executive,
        NavigationConfig(),
    )


def test_nothing_moves_unless_it_is_said_at_the_start():
    for name in profile_names():
        limits = read_profile(name).limits
        assert (limits.dry_run, limits.engine_verdict) == (True, "required")


def test_what_an_arm_leaves_out_is_the_pandas(tmp_path: Path):
    panda = read_profile("franka_panda")
    assert panda.arm is not None
    sections = f"arm: {{links: [{', '.join(panda.arm.links)}]}}\ngripper: {{}}\nmotion: {{}}\n"
    ours = read_profile(written(tmp_path, f"name: franka_panda\n{sections}limits: {{}}\n"))
    assert ours == panda


def test_what_is_left_out_has_its_default(tmp_path: Path):
    profile = read_profile(written(tmp_path, MINIMAL))
    assert profile == RobotProfile("mine", base=SECTIONS["base"]())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("name: mine\nbasis: {}\n", "unknown section 'basis': did you mean 'base'?"),
        ("base: {}\n", "the profile has no 'name'"),
        ("name: ' '\nbase: {}\n", "the profile has no 'name'"),
        ("name: mine\n", "one of the sections 'arm' and 'base'"),
        ("name: mine\narm: {links: [a, b]}\n", "'arm' and 'gripper' belong together"),
        ("name: mine\nbase: {speed: 1.0}\n", "did you mean 'speed_m_s'?"),
        ("name: mine\nbase: {speed_m_s: fast}\n", "'speed_m_s' is 'fast'"),
        ("name: mine\nbase: {speed_m_s: .nan}\n", "'speed_m_s' is nan"),
        ("name: mine\nbase: []\n", "section 'base' holds"),
        ("name: mine\nbase: {}\nlimits: {dry_run: false}\n", "limits.dry_run is said when"),
        (
            "name: mine\nbase: {}\nlimits: {max_speed: 0.1}\nlimits: {}\n",
            "line 4: the key 'limits' is given twice",
        ),
        (
            "name: mine\nbase:\n  speed_m_s: 0.1\n  speed_m_s: 5.0\n",
            "line 4: the key 'speed_m_s' is given twice",
        ),
        ("- 1\n", "it holds no settings"),
        ("a: [\n", "is no robot's profile"),
        (
            arm("tool_offset_m: [0, 0]"),
            "'tool_offset_m' is .* it must be 3 numbers",
        ),
        (
            arm("tool_offset_m: [0, 0, .nan]"),
            "'tool_offset_m' is .* it must be 3 numbers",
        ),
        (
            arm("table_m: [1, 0, 0, 1, 0]"),
            "'table_m' is .* it has no inside",
        ),
        (
            arm("postures: {ready: [0, 1]}"),
            "'postures.ready' is .* it must be 7 numbers",
        ),
        (
            arm("postures: {home: [0, 0, 0, 0, 0, 0, 0]}"),
            "motion.posture is 'ready', and arm.postures has home",
        ),
        (arm("joints: [1, 2]"), "'joints' is .* it must be names"),
        (
            arm("joints: [], postures: {ready: []}"),
            "'joints' is empty",
        ),
        (arm(links="&a [*a]"), "nested too deeply"),
        (arm("joints: [a, a]"), "each one once"),
        (
            "name: mine\narm: {}\ngripper: {}\n",
            "'links' is .*: name two and more of the arm's",
        ),
        (arm(links="[]"), "'links' is .*: name two and more"),
        (arm(links="[base]"), "'links' is .*: name two and more"),
        (arm(links="['']"), "'links' is .* it must be names"),
        (arm("touch_links: [[a]]"), "'touch_links' is"),
        (arm("postures: [1, 2]"), "'postures' is .* lists by name"),
        (arm("postures: {ready: 1}"), "'postures' is"),
        (arm("postures: [[ready, 1]]"), "'postures' is"),
        (arm("tool_offset_m: [0, 0, 103.4]"), "'tool_offset_m' holds 103.4: .* is this in mm"),
        (arm("hand_over_m: [450, 0, 0.3]"), "'hand_over_m' holds 450: .* is this in mm"),
        (arm("table_m: [0, 800, 0, 600, 0]"), "'table_m' holds 800: .* is this in mm"),
        (arm("tool_turn_deg: [0, 0, 3141]"), "'tool_turn_deg' holds 3141: .* at most 360"),
        (
            arm("postures: {ready: [0, -45, 0, -135, 0, 90, 45]}"),
            "'postures.ready' holds -45: it is told in rad, .* is this in degrees",
        ),
        (
            arm("hand_over_m: [0.9, 0, 0.3]"),
            r"arm.hand_over_m is \[0.9, .* 0.90 m .* limits.reach_max_m 0.8",
        ),
        (arm() + "motion: {speed: 0.9}\n", "motion.speed is 0.9 and limits.max_speed 0.7"),
        (
            arm() + "limits: {max_speed: 0.1}\nmotion: {speed: 0.1, approach_speed: 0.1}\n",
            "motion.push_speed is 0.2 and limits.max_speed 0.1",
        ),
        (
            arm() + "motion: {grip_force_n: 70}\n",
            "motion.grip_force_n is 70 and limits.max_force_n 40",
        ),
        (MINIMAL + "motion: {speed: 0.1}\n", "section 'motion' is an arm's; .* base.speed_m_s"),
        (arm("base_frame: ''"), "'base_frame' is ''; it must be a frame's name"),
        (arm("tool_frame: ' tcp'"), "'tool_frame' is ' tcp'"),
        (arm("link: /tool0"), "'link' is '/tool0'; .* without a slash before"),
        (arm("group: ''"), "'group' is empty"),
        (arm("move_action: ''"), "'move_action' is ''; it must be a name in ROS"),
        (arm("move_action: move action"), "'move_action' is 'move action'"),
        (arm("cartesian_service: a//b"), "'cartesian_service' is 'a//b'"),
        (arm("stop_topic: 1st"), "'stop_topic' is '1st'"),
        (arm("stop_topic: ''"), "'stop_topic' is ''; it must be a name in ROS"),
        (arm().replace("gripper: {}", "gripper: {action: ''}"), "'action' is ''"),
        (
            arm().replace("gripper: {}", "gripper: {kind: franka, grasp_action: ''}"),
            "'grasp_action' is ''",
        ),
        ("name: mine\nbase: {base_frame: map}\n", "'base_frame' and 'map_frame' are both 'map'"),
        ("name: mine\nbase: {navigate_action: ''}\n", "'navigate_action' is ''"),
        (f"name: mine\nbase: {'[' * 3000}\n", "nested too deeply"),
        (f"name: mine\nbase: {{speed_m_s: {'[' * 200}{']' * 200}}}\n", "'speed_m_s' is"),
        ("name: mine\narm: {links: [a, b]}\ngripper: {kind: magnet}\n", "it must be one of franka"),
    ],
)
def test_what_is_wrong_is_told_with_file_and_key(text: str, why: str, tmp_path: Path):
    with pytest.raises(ConfigError, match=why) as error:
        read_profile(written(tmp_path, text))
    assert "mine.yaml" in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        arm("recovery_action: ''", "move_action: /left/move_action"),
        arm("execute_action: ~/execute", "postures: {ready: [0, 0, 0, 0, 0, 0, 6.2832]}"),
        arm("base_frame: left/base", links="[left/base, left/hand]"),
        arm().replace("gripper: {}", "gripper: {kind: franka, action: ''}"),
        "name: mine\nbase: {through_poses_action: '', stop_topic: ''}\n",
        "name: mine\nbase: {follow: through_poses, follow_action: ''}\n",
    ],
)
def test_names_that_nobody_calls_may_be_empty_and_others_have_namespaces(text: str, tmp_path: Path):
    assert read_profile(written(tmp_path, text)).name == "mine"


def test_an_unknown_robot_names_the_known():
    with pytest.raises(ConfigError, match="no robot 'r2d2': known are franka_fr3, franka_panda"):
        read_profile("r2d2")
