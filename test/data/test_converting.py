"""Recordings to data sets: marks, bad input by name and time, going on after an interruption."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import demonstrations
import numpy as np
import pytest
from demonstrations import (
    CAMERA,
    COMMANDS,
    JOINTS,
    TASK,
    Sent,
    camera,
    changed,
    contract,
    ns,
    record,
    refusing,
    sent,
    with_position,
)

from rynn_brain_ros.bags import BagReader, BagWriter
from rynn_brain_ros.data import Contract, Dataset, FaultyRecordingError, convert
from rynn_brain_ros.data.marks import marks_of
from rynn_brain_ros.data.verifying import problems
from rynn_brain_ros.values import InputError

pytest.importorskip("pyarrow")

Change = Callable[[Sent], Sent | None]
GOOD_THEN_BAD = ((0.0, "start", "good"), (2.05, "success", ""), (3.0, "start", "bad"))


def reports_of(folder: Path, bag: Path, kind: Contract | None = None, **more) -> list[dict]:
    return list(convert([bag], kind or contract(), folder / "set", **more).reports)


def kinds(report: dict) -> list[str]:
    return [fault["kind"] for fault in report["faults"]]


# --- episodes ------------------------------------------------------------------------------------


def test_marks_make_episodes_and_discarded_ones_are_gone(tmp_path: Path):
    marks = (
        *((0.0, "start", "one"), (1.0, "success", "")),
        *((1.2, "start", "two"), (2.2, "discard", "")),
        *((2.5, "start", "three"), (3.5, "failure", "")),
    )
    reports = reports_of(tmp_path, record(tmp_path / "demo.mcap", sent(4.0), marks=marks))
    assert [(r["task"], r["outcome"], r["kept"]) for r in reports] == [
        ("one", "success", True),
        ("three", "failure", True),
    ]
    dataset = Dataset(tmp_path / "set")
    assert dataset.tasks == ("one", "three")
    assert [e.length for e in dataset.episodes] == [10, 11]
    assert list(problems(dataset)) == []
    state = dataset.columns(dataset.episodes[1])["observation.state"]
    assert state[0, 1] == pytest.approx(-2.48, abs=1e-4)  # all there at its first frame


def test_only_successes_where_the_contract_says_so(tmp_path: Path):
    marks = ((0.0, "start", "a"), (1.0, "failure", ""), (1.1, "start", "b"), (2.1, "success", ""))
    bag = record(tmp_path / "demo.mcap", sent(2.2), marks=marks)
    kind = contract(lambda text: text + "episodes: {keep: success}\n")
    reports = reports_of(tmp_path, bag, kind)
    assert [r["kept"] for r in reports] == [False, True]
    assert "marked failure" in reports[0]["faults"][0]["text"]


def test_a_bag_without_marks_is_one_episode_and_needs_a_task(tmp_path: Path):
    bag = record(tmp_path / "demo.mcap", sent(), marks=())
    (untold,) = reports_of(tmp_path, bag)
    assert kinds(untold) == ["no_task"]
    (told,) = reports_of(tmp_path / "second", bag, task=TASK)
    assert told["kept"] and told["task"] == TASK


def test_the_report_tells_rates_ages_and_what_was_left_out(tmp_path: Path):
    """20 images a second and 10 frames: every second image is dropped, none is repeated."""
    (report,) = reports_of(tmp_path, record(tmp_path / "demo.mcap", sent()))
    assert report["cameras"]["observation.images.main"]["repeated"] == 0
    assert report["cameras"]["observation.images.main"]["dropped"] == 21
    told = report["topics"][CAMERA]
    assert told["rate_hz"] == pytest.approx(20, abs=0.1)
    assert told["latency_s"] == pytest.approx(0.015)
    assert told["oldest_sample_s"] == pytest.approx(0.05, abs=1e-3)
    assert report["topics"][JOINTS]["longest_gap_s"] == pytest.approx(0.01)
    kept = json.loads((tmp_path / "set/meta/rynn_brain/reports/000000.json").read_text())
    assert kept["topics"] == report["topics"]


def test_what_is_sent_only_when_it_changes_holds_until_then(tmp_path: Path):
    """A task and a hand's command that came long before the second episode."""
    hand = (
        "    - channel: {topic: /joint_commands, type: sensor_msgs/msg/JointState, safety: hold}\n"
        "      align: {strategy: hold, timeline: header}\n"
        "      select: [position.finger]\n"
    )
    said = hand.replace("/joint_commands, type: sensor_msgs/msg/JointState", "/hand, type: F")
    said = said.replace("type: F", "type: std_msgs/msg/Float32").replace("header", "receive")
    said = said.replace("position.finger]", "data]\n      sparse: true")
    task = "tasks: {task: {channel: {topic: /task, type: std_msgs/msg/String}}}\n"
    kind = contract(lambda text: text.replace(hand, said) + task)
    once = [
        Sent("/hand", "std_msgs/msg/Float32", {"data": 0.04}, ns(0.0)),
        Sent("/task", "std_msgs/msg/String", {"data": "tidy up"}, ns(0.0)),
    ]
    marks = ((0.1, "start", "x"), (1.0, "success", ""), (3.5, "start", "x"), (4.5, "success", ""))
    bag = record(tmp_path / "demo.mcap", [*once, *sent(5.0)], kind, marks=marks)
    reports = reports_of(tmp_path, bag, kind)
    assert [(r["kept"], r["task"], r["waited_s"]) for r in reports] == [(True, "tidy up", 0.0)] * 2
    dataset = Dataset(tmp_path / "set")
    assert dataset.columns(dataset.episodes[1])["action"][:, 2].tolist() == [1.0] * 11


# --- bad input -----------------------------------------------------------------------------------


def only(topic: str, change: Change) -> Change:
    return lambda one: change(one) if one.topic == topic else one


def after(at_s: float, change: Change) -> Change:
    return lambda one: change(one) if one.stamp_ns >= ns(at_s) else one


def at(at_s: float, change: Change) -> Change:
    return lambda one: change(one) if one.stamp_ns == ns(at_s) else one


def gone(_: Sent) -> None:
    return None


def ten_seconds_back(one: Sent) -> Sent:
    """The sensor's clock jumps, the recorder's does not."""
    data = {**one.data, "header": demonstrations.messages.header(one.stamp_ns - 10**9, "")}
    return replace(one, data=data)


def inverted(one: Sent) -> Sent:
    return with_position(one, finger=0.04 - one.data["position"][one.data["name"].index("finger")])


def renamed(one: Sent) -> Sent:
    return replace(one, data={**one.data, "name": ["x", *one.data["name"][1:]]})


def every(n: int) -> Change:
    return lambda one: one if (one.stamp_ns - ns(0)) // 50_000_000 % n == 0 else None


BAD = {
    "no camera": (only(CAMERA, gone), "missing_topic", CAMERA, "not there"),
    "a gap": (
        only(JOINTS, lambda one: None if ns(0.8) < one.stamp_ns < ns(1.6) else one),
        *("stale at 1.", JOINTS, "0.300 s are allowed"),
    ),
    "a camera that stops": (only(CAMERA, after(1.0, gone)), "gap at 0.9", CAMERA, "silent for"),
    "a camera that changes size": (
        only(CAMERA, after(1.0, lambda one: camera(1, (one.stamp_ns - ns(0)) / 1e9, (80, 60)))),
        *("size_changed at 1.015 s", CAMERA, "from 64×48 to 80×60"),
    ),
    "a joint that is NaN": (
        only(JOINTS, at(1.0, lambda one: with_position(one, b=math.nan))),
        *("not_finite at 1.002 s", JOINTS, "position.b"),
    ),
    "a joint of another name": (
        only(JOINTS, after(1.0, renamed)),
        *("field_missing at 1.0", JOINTS, "'finger'"),
    ),
    "a hand in other units": (
        only(JOINTS, lambda one: with_position(one, finger=40.0)),
        *("gripper_range", JOINTS, "open, closed and units"),
    ),
    "a hand the other way round": (
        only(COMMANDS, inverted),
        *("gripper_inverted", "the gripper", "opens where its command closes"),
    ),
    "a clock that jumps back": (
        only(CAMERA, after(1.0, ten_seconds_back)),
        *("clock_jump at 1.015 s", CAMERA, "0.950 s back"),
    ),
    "a slow camera": (only(CAMERA, every(5)), "rate", CAMERA, "the contract says 20 Hz"),
    "images that are none": (
        only(CAMERA, at(1.0, lambda one: replace(one, data={**one.data, "data": b"no jpeg"}))),
        *("unreadable at 1.015 s", CAMERA, ""),
    ),
    "another type": (
        only(COMMANDS, lambda one: replace(one, typename="std_msgs/msg/Empty", data={})),
        *("missing_topic", COMMANDS, "it is std_msgs/msg/Empty"),
    ),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_input_is_named_with_place_and_time_and_left_out(tmp_path: Path, bad: str):
    change, fault, where, text = BAD[bad]
    bag = record(tmp_path / "demo.mcap", list(changed(sent(), change)))
    (report,) = reports_of(tmp_path, bag)
    assert not report["kept"] and report["episode"].startswith("demo.mcap-")
    told = "\n".join(found["text"] for found in report["faults"])
    assert re.search(rf"{re.escape(fault)}.*on {re.escape(where)}: .*{re.escape(text)}", told), told
    assert not (tmp_path / "set/data").exists()


@pytest.mark.parametrize("bad", BAD)
def test_a_contract_that_refuses_ends_at_the_first_fault(tmp_path: Path, bad: str):
    change, _, where, _ = BAD[bad]
    bag = record(tmp_path / "demo.mcap", list(changed(sent(), change)))
    with pytest.raises(FaultyRecordingError, match=rf"demo\.mcap-.*#0: .*{re.escape(where)}"):
        convert([bag], refusing(), tmp_path / "set")


def test_two_senders_on_one_topic_are_noticed(tmp_path: Path):
    """Each at its own rate; together they come too often."""
    second = [replace(one, late_s=one.late_s + 0.004) for one in sent() if one.topic == JOINTS]
    items = sorted([*sent(), *second], key=lambda one: one.received_ns)
    (report,) = reports_of(tmp_path, record(tmp_path / "demo.mcap", items))
    assert kinds(report) == ["rate"]
    assert "the contract says 100 Hz" in report["faults"][0]["text"]


def test_the_good_episode_of_a_bad_bag_is_kept(tmp_path: Path):
    nan = only(JOINTS, at(3.5, lambda one: with_position(one, b=math.nan)))
    marks = (*GOOD_THEN_BAD, (4.5, "success", ""))
    bag = record(tmp_path / "demo.mcap", list(changed(sent(5.0), nan)), marks=marks)
    good, bad = reports_of(tmp_path, bag)
    assert good["kept"] and kinds(bad) == ["not_finite"]
    assert "at 0.502 s" in bad["faults"][0]["text"], "told since the episode's start"
    assert list(problems(Dataset(tmp_path / "set"))) == []


def test_of_a_bag_that_was_cut_the_whole_episodes_are_kept(tmp_path: Path):
    bag = record(tmp_path / "demo.mcap", sent(4.0), marks=(*GOOD_THEN_BAD, (4.0, "success", "")))
    bag.write_bytes(bag.read_bytes()[: int(bag.stat().st_size * 0.8)])
    good, bad = reports_of(tmp_path, bag)
    assert good["kept"] and good["task"] == "good"
    assert kinds(bad)[0] == "truncated" and bad["task"] == "bad"


def test_a_file_that_is_no_bag_costs_only_itself(tmp_path: Path):
    broken = tmp_path / "broken.mcap"
    broken.write_bytes(b"not a bag at all")
    good = record(tmp_path / "good.mcap", sent())
    made = convert([broken, good], contract(), tmp_path / "set")
    assert [(r["kept"], kinds(r)) for r in made.reports] == [(False, ["unreadable"]), (True, [])]
    assert list(problems(Dataset(tmp_path / "set"))) == []


def test_a_bag_that_is_not_there_or_given_twice_is_told(tmp_path: Path):
    bag = record(tmp_path / "good.mcap", sent())
    with pytest.raises(InputError, match="no recording at"):
        convert([tmp_path / "none.mcap"], contract(), tmp_path / "set")
    with pytest.raises(InputError, match="given twice"):
        convert([bag, bag], contract(), tmp_path / "set")


# --- going on ------------------------------------------------------------------------------------


def test_converting_again_adds_only_what_is_new(tmp_path: Path):
    one = record(tmp_path / "one.mcap", sent())
    bad = record(tmp_path / "bad.mcap", [s for s in sent() if s.topic != CAMERA])
    assert convert([one, bad], contract(), tmp_path / "set").kept == 1
    two = record(tmp_path / "two.mcap", sent(3.0))
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    again = convert([Path(shutil.move(one, moved)), bad, two], contract(), tmp_path / "set")
    assert again.known == 1
    assert [(r["kept"], kinds(r)[:1]) for r in again.reports] == [
        (False, ["missing_topic"]),
        (True, []),
    ]
    assert len(Dataset(tmp_path / "set").episodes) == 2


def test_an_episode_that_lacked_a_task_is_kept_when_one_is_given(tmp_path: Path):
    bag = record(tmp_path / "demo.mcap", sent(), marks=())
    left_out = tmp_path / "set/meta/rynn_brain/left_out"
    for _ in range(2):
        (untold,) = reports_of(tmp_path, bag)
        assert kinds(untold) == ["no_task"] and len(list(left_out.iterdir())) == 1
    (told,) = reports_of(tmp_path, bag, task=TASK)
    assert told["kept"] and not list(left_out.iterdir())
    assert reports_of(tmp_path, bag) == []
    assert list(problems(Dataset(tmp_path / "set"))) == []


def test_another_contract_does_not_go_into_the_same_data_set(tmp_path: Path):
    bag = record(tmp_path / "demo.mcap", sent())
    convert([bag], contract(), tmp_path / "set")
    with pytest.raises(InputError, match="another contract"):
        convert([bag], refusing(), tmp_path / "set")


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path):
    bag = record(tmp_path / "demo.mcap", sent())
    (tmp_path / "set").mkdir()
    (tmp_path / "set/notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        convert([bag], contract(), tmp_path / "set")


def test_bags_side_by_side_make_the_same_data_set(tmp_path: Path):
    bags = [record(tmp_path / f"{i}.mcap", sent(1.0 + i / 2)) for i in range(3)]
    told: list[str] = []
    convert(bags, contract(), tmp_path / "serial")
    convert(bags, contract(), tmp_path / "side", jobs=2, done=lambda bag, _: told.append(bag.name))
    assert told == ["0.mcap", "1.mcap", "2.mcap"]
    serial, side = Dataset(tmp_path / "serial"), Dataset(tmp_path / "side")
    assert [e.length for e in serial.episodes] == [e.length for e in side.episodes]
    for name in ("data/chunk-000/file-002.parquet", "meta/stats.json", "meta/info.json"):
        assert (serial.root / name).read_bytes() == (side.root / name).read_bytes(), name


FULL = """
import resource, signal, sys
sys.path.insert(0, {here!r})
from pathlib import Path
from demonstrations import contract
from rynn_brain_ros.data import convert
from rynn_brain_ros.values import OutputError
folder = Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    convert([folder / "short.mcap", folder / "long.mcap"], contract(), folder / "set")
except OutputError as error:
    print("told:", error)
"""


def noise(one: Sent) -> Sent:
    image = np.random.default_rng(one.stamp_ns).integers(0, 255, (48, 64, 3), np.uint8)
    return replace(one, data={**one.data, "data": cv2.imencode(".jpg", image)[1].tobytes()})


def test_a_disk_that_fills_up_in_the_middle_keeps_what_was_whole(tmp_path: Path):
    """The second recording's video outgrows the limit, the first one's files do not."""
    noisy = [only(CAMERA, noise)(one) for one in sent(4.0)]
    bags = [record(tmp_path / "short.mcap", sent(1.0)), record(tmp_path / "long.mcap", noisy)]
    script = FULL.format(here=str(Path(__file__).parent))
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), "60000"],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "told: cannot write" in done.stdout, done.stderr
    assert [e.length for e in Dataset(tmp_path / "set").episodes] == [10]
    assert list(problems(Dataset(tmp_path / "set"))) == []
    again = convert(bags, contract(), tmp_path / "set")
    assert (again.known, again.kept) == (1, 1)
    assert not list((tmp_path / "set").rglob("staging*"))


# --- what the brain said, and the recorder -------------------------------------------------------


def test_what_the_brain_said_becomes_text_of_every_frame(tmp_path: Path):
    words = "conditioning: {plan: /rynn_brain/plan, groundings: /rynn_brain/groundings}\n"
    kind = contract(lambda text: text + words)
    plan = {"query_id": "q1", "steps": [{"text": "Pick up the cube.", "state": 2}]}
    grounding = {
        "label": "cube",
        "kind": 1,
        "camera": CAMERA,
        "actionable": True,
        "points_norm": [{"x": 10.0, "y": 20.0, "z": 0.0}],
        "fixed": True,
        "fixed_frame_id": "base",
        "point_fixed": {"x": 0.5, "y": 0.0, "z": 0.1},
    }
    said = [
        Sent("/rynn_brain/plan", "rynn_brain_ros/msg/Plan", plan, ns(1.0)),
        Sent(
            *("/rynn_brain/groundings", "rynn_brain_ros/msg/GroundingArray"),
            {
                "query_id": "q1",
                "task": "plan",
                "groundings": [grounding, {**grounding, "reasoning": True, "actionable": False}],
            },
            ns(1.0),
        ),
    ]
    items = sorted([*sent(), *said], key=lambda one: one.received_ns)
    reports_of(tmp_path, record(tmp_path / "demo.mcap", items, kind), kind)
    dataset = Dataset(tmp_path / "set")
    columns = dataset.columns(dataset.episodes[0])
    assert columns["annotation.plan"][8] == "" and columns["annotation.plan"][9] != ""
    assert columns["annotation.plan"][-1] == "Pick up the cube."
    (told,) = json.loads(columns["annotation.groundings"][-1])
    assert told == {
        "label": "cube",
        "kind": 1,
        "camera": CAMERA,
        "points": [[10.0, 20.0]],
        "frame": "base",
        "point_m": [0.5, 0.0, 0.1],
    }


DYING = """
import os, sys
sys.path.insert(0, {here!r})
from pathlib import Path
from demonstrations import contract, decoded, ns, sent
from rynn_brain_ros.data import MarkEvent, Recorder
recorder = Recorder(Path(sys.argv[1]), contract(), {{}})
recorder.start("first", ns(0.0))
for one in sent(1.0):
    recorder.receive(one.topic, one.typename, decoded(one), one.received_ns)
recorder.end(MarkEvent.SUCCESS, ns(1.1))
recorder.start("second", ns(1.2))
os._exit(9)
"""


def test_a_recorder_that_dies_loses_nothing_it_had_received(tmp_path: Path):
    script = DYING.format(here=str(Path(__file__).parent))
    bag = tmp_path / "demo.mcap"
    assert subprocess.run([sys.executable, "-c", script, str(bag)], check=False).returncode == 9
    left = tmp_path / "demo.partial.mcap"
    with BagReader(left) as reader:
        count = sum(1 for _ in reader.messages())
        marks = marks_of(reader.info().metadata)
    assert count == len(sent(1.0))
    assert [(mark.event.value, mark.task) for mark in marks] == [
        ("start", "first"),
        ("success", "first"),
        ("start", "second"),
    ]
    first, second = reports_of(tmp_path, left)
    assert first["kept"] and not second["kept"]


def test_a_recorder_says_what_is_wrong_while_it_records(tmp_path: Path):
    from rynn_brain_ros.data import MarkEvent, Recorder  # noqa: PLC0415

    with Recorder(tmp_path / "demo.mcap", contract(), {}) as recorder:
        with pytest.raises(InputError, match="needs a task"):
            recorder.start(" ", ns(0.0))
        recorder.start(TASK, ns(0.0))
        with pytest.raises(InputError, match="stop or discard it first"):
            recorder.start(TASK, ns(0.1))
        for one in sent(1.0):
            if one.topic != COMMANDS:
                value = demonstrations.decoded(one)
                recorder.receive(one.topic, one.typename, value, one.received_ns)
        told = {(fault.kind.value, fault.where) for fault in recorder.problems(ns(1.02))}
        assert told == {("no_sample", COMMANDS)}
        late = {(fault.kind.value, fault.where) for fault in recorder.problems(ns(2.0))}
        assert late == {("no_sample", COMMANDS), ("gap", JOINTS), ("gap", CAMERA)}
        recorder.end(MarkEvent.STOP, ns(2.0))
        with pytest.raises(InputError, match="start one first"):
            recorder.end(MarkEvent.STOP, ns(2.0))


def test_the_recording_carries_its_contract(tmp_path: Path):
    with BagReader(record(tmp_path / "demo.mcap", sent(1.0))) as reader:
        metadata = reader.info().metadata
    assert metadata["rynn_brain_ros.contract"]["yaml"] == demonstrations.YAML


def test_a_mark_that_is_none_is_told(tmp_path: Path):
    bag = tmp_path / "demo.mcap"
    with BagWriter(bag, {}) as writer:
        writer.add_metadata("rynn_brain_ros.mark.000000", {"event": "begin", "t_ns": "1"})
        one = sent(0.1)[0]
        writer.write(one.topic, one.typename, one.data, one.received_ns)
    (report,) = reports_of(tmp_path, bag)
    assert "rynn_brain_ros.mark.000000 is no operator's mark" in report["faults"][0]["text"]
