"""The contract: what may stand in it, and what is said of what may not."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import demonstrations
import pytest
import yaml

from rynn_brain_ros.data import contract_from, read_contract
from rynn_brain_ros.data.contract import Align, Conditioning, Episodes, Limits
from rynn_brain_ros.data.field_paths import path_problem
from rynn_brain_ros.values import ConfigError

FOLDER = Path(__file__).resolve().parents[2] / "config" / "contracts"
OURS = sorted(FOLDER.glob("*.yaml"))

ROSETTA = """
robot_type: so_101
robot_interface: ros2
fps: 30
x-qos: &qos {reliability: best_effort, history: keep_last, depth: 10}
observations:
  observation.images.top:
    channel: {topic: /top/image_raw/compressed, type: sensor_msgs/msg/CompressedImage, qos: *qos}
    align: {strategy: hold, timeline: header}
    apply: [resize: [512, 512]]
  observation.state:
    channel: {topic: /follower/joint_states, type: sensor_msgs/msg/JointState, qos: *qos}
    align: {strategy: asof, timeline: header, tolerance_ms: 50}
    select: [position.shoulder_pan, position.elbow]
    apply: [rad2deg]
actions:
  action:
    channel: {topic: /leader/joint_states, type: sensor_msgs/msg/JointState, safety: hold}
    align: {strategy: drop, timeline: header}
    select: [position.shoulder_pan, position.elbow]
    apply: [rad2deg, clamp: {min: -90, max: 90}]
tasks:
  task: {channel: {topic: /task_prompt, type: std_msgs/msg/String}}
adjunct:
  - channel: {topic: /tf, type: tf2_msgs/msg/TFMessage}
"""
"""Written as rosetta's own contracts are."""


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_every_contract_that_we_ship_can_be_read(path: Path):
    contract = read_contract(path)
    assert contract.cameras and contract.actions
    assert contract.text == path.read_text(encoding="utf-8")


def test_panda_and_fr3_have_three_cameras_at_thirty_hertz():
    for name in ("panda", "fr3"):
        contract = read_contract(FOLDER / f"{name}.yaml")
        roles = [camera.key.rpartition(".")[2] for camera in contract.cameras]
        assert roles == ["main", "side", "wrist"]
        assert {camera.sources[0].rate_hz for camera in contract.cameras} == {30.0}
        assert contract.fps == 30


def test_the_template_explains_every_key():
    text = (FOLDER / "template.yaml").read_text(encoding="utf-8")
    keys = {
        field.name for kind in (Align, Conditioning, Episodes, Limits) for field in fields(kind)
    }
    keys |= {"robot_type", "fps", "select", "apply", "kind", "units", "rate_hz", "gripper"}
    keys |= {
        "representation",
        "sparse",
        "safety",
        "dtype",
        "adjunct",
        "tasks",
        "qos",
        "topic",
        "type",
    }
    assert [key for key in keys if not re.search(rf"\b{key}\b", text)] == []
    yaml.safe_load(text)


def test_a_contract_in_rosettas_words_is_understood():
    contract = contract_from(ROSETTA)
    top, state = contract.observations
    assert top.sources[0].size == (512, 512)
    assert state.sources[0].align == Align("asof", "header", 50.0)
    assert contract.actions[0].sources[0].channel.safety == "hold"
    assert [o.name for o in contract.actions[0].sources[0].apply] == ["rad2deg", "clamp"]
    assert contract.task is not None and contract.task.topic == "/task_prompt"
    assert [channel.topic for channel in contract.adjunct] == ["/tf"]


def test_sources_of_one_feature_come_in_their_order():
    state = demonstrations.contract().observations[1]
    assert state.names == ("position.a", "position.b", "position.finger")


@pytest.mark.parametrize("line", ["apply:", "apply: []"])
def test_a_list_may_be_left_empty(line: str):
    contract = demonstrations.contract(
        lambda text: text.replace("units: rad", line).replace(
            "robot_type: tiny", "robot_type: tiny\nadjunct:"
        )
    )
    assert contract.adjunct == () and contract.observations[1].sources[0].apply == ()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("fps: 10", "fsp: 10", "did you mean 'fps'"),
        ("fps: 10", "fps: 0", "fps is 0"),
        ("strategy: hold", "stratgy: hold", "did you mean 'strategy'"),
        ("strategy: hold", "strategy: latest", "must be one of hold, asof"),
        ("strategy: linear", "strategy: slerp", "slerp is for kind quaternion"),
        ("topic: /joint_states", "topic: joint_states", "must begin with a slash"),
        ("sensor_msgs/msg/JointState", "sensor_msgs/JointState", "not written package/msg/Name"),
        ("gripper: {open: 0.04", "gripper: {open: 0.0", "open and closed must differ"),
        ("gripper: {open: 0.04", "gripper: {open: .nan", "open and closed must be finite numbers"),
        ("closed: 0.0}", "closed: -.inf}", "open and closed must be finite numbers"),
        (
            "robot_type: tiny",
            "robot_type: tiny\nconditioning: {plan: brain/plan}",
            "conditioning.plan: the topic 'brain/plan' must begin with a slash",
        ),
        ("select: [position.finger]", "select: [position.a, position.finger]", "one field"),
        ("select: [position.finger]", "select: []", "select names no field"),
        (
            "select: [position.finger]",
            "select: [positon.finger]",
            "observation.state.select: positon.finger: unknown column of a JointState 'positon': "
            "did you mean 'position'?",
        ),
        ("select: [position.finger]", "select: [position]", "name a joint: position.JOINT"),
        ("observation.state:", "state:", "must begin with 'observation'"),
        ("robot_interface: ros2", "robot_interface: ros1", "must be ros2"),
        ("safety: hold", "safety: stop", "none, hold, zeros"),
        ("units: rad", "apply: [rad2dge]", "did you mean 'rad2deg'"),
        ("units: rad", "apply: [resize: [10, 10]]", "resize is [height, width]"),
        ("units: rad", "apply: [clamp: {min: 1, max: 0}]", "min must be below"),
        ("units: rad", "kind: quaternion", "found by slerp, not linear"),
        ("units: rad", "kind: rotation_6d", "selects 6 fields, not 2"),
        ("units: rad", "representation: delta", "only an action can be a delta"),
        ("units: rad", "sparse: true", "the strategy must be hold"),
        ("units: rad", "sparse: 1", "must be true or false"),
        ("rate_hz: 20", "rate_hz: .nan", "must be a number, 0 or more"),
        ("robot_type: tiny", "rewards: {}", "rosetta's contracts is not known"),
        ("actions:", "limits: {max_gap: 1}\nactions:", "did you mean 'max_gap_s'"),
        ("robot_type: tiny", "[", "no YAML"),
        ("robot_type: tiny", "robot_type: tiny\nrobot_type: 2", "'robot_type' is given twice"),
        ("robot_type: tiny", "robot_type: 2026-99-99", "no YAML"),
        ("robot_type: tiny", f"robot_type: {'[' * 2000}", "nested too deeply"),
        ("units: rad", "apply: rad2deg", "apply must be a list, not 'rad2deg'"),
        ("units: rad", "apply: [{}]", "one operator a line"),
        ("robot_type: tiny", "robot_type: tiny\nadjunct: 3", "adjunct must be a list, not 3"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(old: str, new: str, says: str):
    with pytest.raises(ConfigError, match=re.escape(says)):
        demonstrations.contract(lambda text: text.replace(old, new))


POSE = "geometry_msgs/msg/PoseStamped"
COVARIANT = "geometry_msgs/msg/PoseWithCovarianceStamped"


@pytest.mark.parametrize(
    ("typename", "path", "says"),
    [
        (POSE, "pose.position.x", ""),
        (POSE, "pose.positon.x", "unknown field of geometry_msgs/msg/Pose 'positon': did you mean"),
        (POSE, "pose.position.w", "unknown field of geometry_msgs/msg/Point 'w': known are x, y,"),
        (POSE, "pose.position", "it is a whole geometry_msgs/msg/Point: go on to a number in it"),
        (POSE, "pose.position.x.y", "there is nothing in a float64 that could be named 'y'"),
        (COVARIANT, "pose.covariance.35", ""),
        (COVARIANT, "pose.covariance.36", "the list has 36 elements, 0 to 35"),
        ("std_msgs/msg/Float64MultiArray", "data.7", ""),
        ("std_msgs/msg/Float64MultiArray", "data", "it is a list: go on to the number"),
        ("std_msgs/msg/Float64MultiArray", "data.first", "are named by their number, not 'first'"),
        ("tf2_msgs/msg/TFMessage", "transforms.1.transform.rotation.w", ""),
        ("acme_msgs/msg/Gripper", "opening", ""),
    ],
)
def test_a_field_that_no_message_of_the_type_has_is_named(typename: str, path: str, says: str):
    told = path_problem(typename, path)
    assert says in told
    assert bool(told) == bool(says)


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml cannot be read"):
        read_contract(tmp_path / "nowhere.yaml")
