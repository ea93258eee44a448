"""What a policy sees and what it sends, by the contract that its data set was made with."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import demonstrations
import numpy as np
import pytest
from demonstrations import (
    CAMERA,
    COMMANDS,
    JOINTS,
    Sent,
    contract,
    decoded,
    joints,
    ns,
    record,
    sent,
)

from rynn_brain_ros.bags import message
from rynn_brain_ros.data import (
    Command,
    Commander,
    Contract,
    Dataset,
    FaultKind,
    Features,
    Observer,
    Streams,
    contract_from,
    convert,
    read_contract,
    sample,
)
from rynn_brain_ros.data.commands import ActionError
from rynn_brain_ros.values import ConfigError

FOLDER = Path(__file__).resolve().parents[2] / "config" / "contracts"
OURS = sorted(FOLDER.glob("*.yaml"))
NOTHING_SEEN = Features(ns(0.0), {}, {}, {})


def names_of(kind: Contract) -> dict[str, tuple[str, ...]]:
    return {feature.key: feature.names for feature in kind.actions}


def commander(kind: Contract) -> Commander:
    return Commander(kind, names_of(kind))


def converted(
    kind: Contract, commands: Sequence[Command], others: Sequence[Sent] = ()
) -> dict[str, np.ndarray]:
    """The actions that the converter makes of the messages."""
    streams, now = Streams(kind), ns(1.0)
    for one in others:
        streams.receive(one.topic, decoded(one), one.received_ns)
    for command in commands:
        assert streams.receive(command.topic, message(command.type, command.message), now) == []
    values = sample(kind, streams, now).values
    return {feature.key: np.asarray(values[feature.key]) for feature in kind.actions}


def some_actions(kind: Contract, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        feature.key: np.concatenate(
            [
                rng.uniform(0, 1, 1) if source.gripper else rng.uniform(-3, 3, len(source.select))
                for source in feature.sources
            ]
        )
        for feature in kind.actions
    }


# --- commands ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_commands_of_our_contracts_are_read_back_as_the_action(path: Path):
    kind = read_contract(path)
    for seed in range(20):
        actions = some_actions(kind, seed)
        made = commander(kind).commands(actions, NOTHING_SEEN, ns(1.0))
        again = converted(kind, made)
        for key, values in actions.items():
            assert again[key] == pytest.approx(values, abs=1e-6)
        assert_same(commander(kind).commands(again, NOTHING_SEEN, ns(1.0)), made)


def assert_same(one: Sequence[Command], other: Sequence[Command]) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert (a.topic, a.type, list(a.message)) == (b.topic, b.type, list(b.message))
        for name, value in a.message.items():
            exact = name in ("header", "name")
            assert value == (b.message[name] if exact else pytest.approx(b.message[name], abs=1e-6))


def test_the_panda_gets_one_message_with_its_joints_in_radians_and_its_fingers_in_metres():
    kind = read_contract(FOLDER / "panda.yaml")
    action = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.5]
    (command,) = commander(kind).commands({"action": action}, NOTHING_SEEN, ns(1.0))
    assert (command.topic, command.type) == (COMMANDS, "sensor_msgs/msg/JointState")
    assert command.message == {
        "header": {"stamp": {"sec": 1_700_000_001, "nanosec": 0}, "frame_id": ""},
        "name": [*(f"panda_joint{i}" for i in range(1, 8)), "panda_finger_joint1"],
        "position": [*action[:7], pytest.approx(0.02)],
        "velocity": [],
        "effort": [],
    }


def test_the_fr3_gets_its_gripper_on_a_topic_of_its_own():
    kind = read_contract(FOLDER / "fr3.yaml")
    arm, gripper = commander(kind).commands({"action": [0.1] * 7 + [0.25]}, NOTHING_SEEN, 0)
    assert arm.message["position"] == [0.1] * 7
    assert gripper.type == "std_msgs/msg/Float32" and gripper.message == {"data": 0.25}


MIXED = """
robot_type: mixed
robot_interface: ros2
fps: 10
observations:
  observation.state:
    channel: {topic: /joint_states, type: sensor_msgs/msg/JointState}
    align: {strategy: hold, timeline: header}
    select: [position.a, position.b]
    apply: [rad2deg]
actions:
  action:
    - channel: {topic: /commands, type: sensor_msgs/msg/JointState, safety: zeros}
      align: {strategy: hold, timeline: header}
      select: [position.b, position.a]
      apply: [rad2deg, clamp: {min: -90, max: 90}]
      representation: delta
    - channel: {topic: /commands, type: sensor_msgs/msg/JointState, safety: zeros}
      align: {strategy: hold, timeline: header}
      select: [velocity.a, velocity.b]
      apply: [scale: -2]
    - channel: {topic: /grip, type: std_msgs/msg/Float64MultiArray, safety: none}
      align: {strategy: hold, timeline: receive}
      select: [data.0]
      gripper: {open: 0.0, closed: 255.0}
    - channel: {topic: /grip, type: std_msgs/msg/Float64MultiArray, safety: none}
      align: {strategy: hold, timeline: receive}
      select: [data.1]
      kind: binary
  action.hand:
    channel: {topic: /target, type: geometry_msgs/msg/PoseStamped, safety: hold}
    align: {strategy: hold, timeline: header}
    select: [pose.position.x, pose.position.y, pose.position.z]
"""
ACTIONS: Mapping[str, Sequence[float]] = {
    "action": (10.0, -5.0, 0.4, -0.6, 0.75, 1.0),
    "action.hand": (0.3, 0.4, 0.5),
}


def mixed(change: Callable[[str], str] = str) -> Contract:
    return contract_from(change(MIXED))


STATE = joints(JOINTS, 1.0, {"b": math.radians(20), "a": math.radians(40)}, late_s=0.0)


def seen_of(kind: Contract) -> Features:
    observer = Observer(kind)
    observer.receive(JOINTS, decoded(STATE), STATE.received_ns)
    return observer.at(ns(1.0)).features


def test_deltas_degrees_scales_and_inverted_grippers_go_back():
    kind = mixed()
    made = commander(kind).commands(ACTIONS, seen_of(kind), ns(1.0))
    by_topic = {command.topic: command.message for command in made}
    assert by_topic["/commands"]["name"] == ["b", "a"]
    degrees = np.degrees(by_topic["/commands"]["position"])
    assert degrees == pytest.approx([20 + 10, 40 - 5], abs=1e-5)
    assert by_topic["/commands"]["velocity"] == [0.3, -0.2]
    assert by_topic["/grip"] == {"data": [pytest.approx(255 / 4), 1.0]}
    assert by_topic["/target"]["pose"] == {"position": {"x": 0.3, "y": 0.4, "z": 0.5}}
    assert by_topic["/target"]["header"]["stamp"]["sec"] == 1_700_000_001
    for key, values in converted(kind, made, [STATE]).items():
        assert values == pytest.approx(ACTIONS[key], abs=1e-4), key


def test_what_lies_outside_of_a_clamp_is_clamped_and_a_binary_decided():
    kind = mixed()
    action = {**ACTIONS, "action": (500.0, -5.0, 0.4, -0.6, 1.1, 0.3)}
    made = commander(kind).commands(action, seen_of(kind), ns(1.0))
    assert math.degrees(made[0].message["position"][0]) == pytest.approx(90)
    assert made[1].message == {"data": [0.0, 0.0]}, "an overshooting hand is open"


def test_when_the_policy_stops_each_topic_gets_what_the_contract_says():
    kind = mixed()
    ours = commander(kind)
    made = ours.commands(ACTIONS, seen_of(kind), ns(1.0))
    zeros, hold = ours.stop(made, ns(2.0))
    assert (zeros.topic, hold.topic) == ("/commands", "/target"), "/grip: none"
    assert zeros.message["position"] == zeros.message["velocity"] == [0.0, 0.0]
    assert hold.message["pose"] == made[2].message["pose"]
    assert hold.message["header"]["stamp"]["sec"] == 1_700_000_002
    assert [command.topic for command in ours.stop((), ns(2.0))] == ["/commands"]


@pytest.mark.parametrize(
    ("action", "says"),
    [
        ({"action": (0.0,) * 5}, "action has the shape (5,), not (6,): position.b, position.a"),
        ({"action": ((0.0,) * 6,)}, "action has the shape (1, 6), not (6,)"),
        ({"action": (0, 0, math.nan, 0, 1, 0)}, "action: velocity.a is not a finite number"),
        ({"action": (0, 0, 0, math.inf, 1, 0)}, "action: velocity.b is not a finite number"),
        ({"action": (0, 0, 0, 0, 60.0, 0)}, "/grip: data.0 is 60.00; a gripper is 1 open"),
        ({"action.head": (0.0,)}, "the contract wants action, action.hand"),
    ],
)
def test_an_action_that_must_not_be_sent_is_refused(action: dict[str, Any], says: str):
    kind = mixed()
    with pytest.raises(ActionError, match=re.escape(says)):
        commander(kind).commands({**ACTIONS, **action}, seen_of(kind), 0)


def test_what_the_contract_makes_infinite_is_not_sent():
    kind = mixed(lambda text: text.replace("scale: -2", "scale: 1.0e-320"))
    says = "/commands: velocity.a, velocity.b would be [inf, -inf]: nothing is sent"
    with np.errstate(over="ignore"), pytest.raises(ActionError, match=re.escape(says)):
        commander(kind).commands(ACTIONS, seen_of(kind), 0)


def test_a_gripper_whose_ends_are_no_numbers_is_sent_nowhere():
    kind = contract()
    (feature,) = kind.actions
    arm, hand = feature.sources
    ends = (arm, replace(hand, gripper=replace(hand.gripper, open=math.nan)))
    kind = replace(kind, actions=(replace(feature, sources=ends),))
    with pytest.raises(ActionError, match=r"position.finger would be .*nan.*: nothing is sent"):
        commander(kind).commands({"action": (0.1, 0.2, 0.5)}, NOTHING_SEEN, 0)


def test_nothing_is_sent_on_stale_or_missing_observations():
    kind = mixed()
    late = Observer(kind)
    late.receive(JOINTS, decoded(STATE), STATE.received_ns)
    with pytest.raises(ActionError, match=r"stale at .* on /joint_states: the newest sample is 9"):
        commander(kind).commands(ACTIONS, late.at(ns(10.0)).features, 0)
    with pytest.raises(ActionError, match=r"no observation of position\.b, position\.a to"):
        commander(kind).commands(ACTIONS, NOTHING_SEEN, 0)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (
            ("position.a", "position.b", "position.finger"),
            "number 1 is position.a in the policy's data set and position.b in the contract",
        ),
        (("position.b", "position.a"), "action is position.b, position.a in the policy's"),
        ((), "action is nothing in the policy's"),
    ],
)
def test_a_policy_with_other_joints_or_another_order_is_refused(names: tuple[str, ...], says: str):
    text = demonstrations.YAML
    at = text.index("actions:")
    ours = text[at:].replace("[position.a, position.b]", "[position.b, position.a]")
    kind = contract_from(text[:at] + ours)
    with pytest.raises(ConfigError, match=re.escape(says)):
        Commander(kind, {"action": names})


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("/commands", "/joint_states", "/joint_states: it is observed too"),
        ("[velocity.a, velocity.b]", "[velocity.a]", "with velocity needs that of b too"),
        ("[velocity.a, velocity.b]", "[position.a]", "position.a would be set twice"),
        ("data.1", "data.2", "is a list: select its elements from 0 on"),
        ("scale: -2", "scale: 0", "scale: 0 has no way back"),
        ("JointState, safety: zeros", "JointState, safety: hold", "safety is both hold and zeros"),
    ],
)
def test_a_contract_that_can_only_be_read_is_refused(old: str, new: str, says: str):
    kind = mixed(lambda text: text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=re.escape(says)):
        commander(kind)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("data.1", "data", "'data' is both a number and a message"),
        ("pose.position.y", "pose.position.x.y", "is a field inside of a number"),
    ],
)
def test_fields_of_a_type_that_is_not_known_here_are_held_against_each_other(
    old: str, new: str, says: str
):
    def foreign(text: str) -> str:
        text = text.replace("std_msgs/msg/Float64MultiArray", "acme_msgs/msg/Numbers")
        return text.replace("geometry_msgs/msg/PoseStamped", "acme_msgs/msg/Target")

    kind = mixed(lambda text: foreign(text).replace(old, new, 1))
    with pytest.raises(ConfigError, match=re.escape(says)):
        commander(kind)


def test_a_path_cannot_be_commanded_by_its_fields():
    text = MIXED.replace("geometry_msgs/msg/PoseStamped", "trajectory_msgs/msg/JointTrajectory")
    text = text.replace("pose.position.", "points.0.positions.")
    text = text.replace("positions.x", "positions.0").replace("positions.y", "positions.1")
    text = text.replace("positions.z", "positions.2")
    with pytest.raises(ConfigError, match="a path cannot name joints"):
        commander(contract_from(text))


def test_a_contract_without_actions_has_nothing_to_command():
    with pytest.raises(ConfigError, match="has no actions"):
        commander(replace(mixed(), actions=()))


# --- what a policy sees --------------------------------------------------------------------------

WORDS = "conditioning: {plan: /rynn_brain/plan}\n"
PLAN = {"steps": [{"text": "Pick up the cube.", "state": 2}]}


def test_a_policy_sees_what_the_data_set_holds_without_any_command(tmp_path: Path):
    """Fed live with all but the commands, which it sends itself."""
    pytest.importorskip("pyarrow")
    kind = contract(lambda text: text + WORDS)
    said = Sent("/rynn_brain/plan", "rynn_brain_ros/msg/Plan", PLAN, ns(1.0))
    items = sorted([*sent(), said], key=lambda one: one.received_ns)
    bag = record(tmp_path / "demo.mcap", items, kind)
    report = convert([bag], kind, tmp_path / "set").reports[0]
    dataset = Dataset(tmp_path / "set")
    (episode,) = dataset.episodes
    columns = dataset.columns(episode)
    shown = list(dataset.images(episode, "observation.images.main"))

    observer = Observer(kind)
    assert COMMANDS not in observer.topics
    waiting = [one for one in items if one.topic in observer.topics]
    first_ns = report["start_ns"] + round(report["waited_s"] * 1e9)
    assert episode.length == 20
    for row in range(episode.length):
        now_ns = first_ns + round(row * 1e9 / kind.fps)
        while waiting and waiting[0].received_ns <= now_ns:
            one = waiting.pop(0)
            assert observer.receive(one.topic, decoded(one), one.received_ns) == []
        seen = observer.at(now_ns)
        assert seen.features.faults == ()
        assert set(seen.features.values) == {"observation.state", "observation.images.main"}
        state = seen.features.values["observation.state"]
        assert np.array_equal(state, columns["observation.state"][row])
        pixels = seen.features.values["observation.images.main"]
        assert np.abs(pixels.astype(int) - shown[row]).max() <= 4, "more than the codec loses"
        assert seen.words == {"annotation.plan": columns["annotation.plan"][row]}


def test_what_is_stale_or_missing_is_named():
    observer = Observer(contract())
    for one in sent(1.0):
        if one.topic == JOINTS:
            observer.receive(one.topic, decoded(one), one.received_ns)
    seen = observer.at(ns(1.8)).features
    assert [(fault.kind, fault.where) for fault in seen.faults] == [
        (FaultKind.NO_SAMPLE, CAMERA),
        *[(FaultKind.STALE, JOINTS)] * 2,
    ]
    assert "0.300 s are allowed" in seen.faults[1].text


def test_pictures_are_left_as_they_came_for_who_looks_at_few_of_them():
    observer = Observer(contract())
    for one in sent(0.2):
        observer.receive(one.topic, decoded(one), one.received_ns)
    seen, whole = (observer.at(ns(0.2), decoded=d).features for d in (False, True))
    assert set(seen.values) == {"observation.state"}
    key = "observation.images.main"
    assert np.array_equal(seen.images[key].rgb, whole.values[key])


def test_the_task_is_the_last_one_that_was_said():
    text = "tasks:\n  task: {channel: {topic: /task, type: std_msgs/msg/String}}\n"
    observer = Observer(contract(lambda yaml: yaml + text))
    assert observer.at(ns(0.0)).task == ""
    for words in ("put it down", "pick it up"):
        observer.receive("/task", message("std_msgs/msg/String", {"data": words}), ns(0.0))
    assert observer.at(ns(0.0)).task == "pick it up"
