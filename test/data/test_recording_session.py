"""What an operator can do with the recorder, and what it watches meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from demonstrations import (
    CAMERA,
    COMMANDS,
    JOINTS,
    START_NS,
    TASK,
    Sent,
    camera,
    contract,
    decoded,
    joints,
    ns,
    sent,
)

from rynn_brain_ros.bags import BagReader, typestore
from rynn_brain_ros.config import settings
from rynn_brain_ros.data import MarkEvent, convert
from rynn_brain_ros.data.joystick import Buttons
from rynn_brain_ros.data.known_contracts import find_contract
from rynn_brain_ros.data.marks import marks_of, spans
from rynn_brain_ros.data.record_config import RecordConfig
from rynn_brain_ros.data.recording_report import line, parts
from rynn_brain_ros.data.recording_session import RecordingSession
from rynn_brain_ros.values import ConfigError, InputError, OutputError

GIB = 1 << 30
REPOSITORY = Path(__file__).resolve().parents[2]
LATCHED = "adjunct:\n  - channel: {topic: /tf_static, type: tf2_msgs/msg/TFMessage}\n"


def raw_of(one: Sent) -> bytes:
    return bytes(typestore().serialize_cdr(decoded(one), one.typename))


class Robot:
    """A session that hears a robot's messages. ``free_gib`` is what the disk has left."""

    def __init__(self, folder: Path, extra: str = "", **config: Any) -> None:
        self.free_gib = 100.0
        self.contract = contract(lambda text: text + extra)
        self.session = RecordingSession(
            self.contract,
            RecordConfig(out=str(folder), **config),
            {"by": "a test"},
            lambda _: round(self.free_gib * GIB),
        )
        self.at_s = 0.0

    def moves(self, seconds: float = 1.0, without: str = "", late_s: float | None = None) -> None:
        """``late_s``: how long images travel, if not as usual."""
        for one in sent(seconds, self.at_s):
            is_late = late_s is not None and one.topic == CAMERA
            came = replace(one, late_s=late_s) if is_late else one
            if one.topic != without:
                self.session.receive(one.topic, raw_of(one), came.received_ns)
        self.at_s += seconds

    def mark(self, event: str, task: str = "") -> str:
        return self.session.mark(MarkEvent(event), ns(self.at_s), task)

    def faults(self) -> dict[str, str]:
        return {fault.where: fault.text for fault in self.session.look(ns(self.at_s)).faults}


@pytest.fixture
def robot(tmp_path: Path) -> Iterator[Robot]:
    made = Robot(tmp_path)
    yield made
    made.session.close(ns(made.at_s))


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- episodes -------------------------------------------------------------------------------------


def test_episodes_are_files_with_contract_task_and_marks(robot: Robot, tmp_path: Path) -> None:
    robot.moves()
    robot.mark("start", TASK)
    robot.moves()
    assert "success, 1.0 s, " in robot.mark("success")
    robot.mark("start")  # the same task again
    robot.moves()
    robot.mark("failure")
    assert files(tmp_path) == ["episode-00000.mcap", "episode-00001.mcap"]
    for name, outcome in zip(files(tmp_path), ("success", "failure"), strict=True):
        with BagReader(tmp_path / name) as bag:
            info = bag.info()
        assert [mark.event.value for mark in marks_of(info.metadata)] == ["start", outcome]
        (span,) = spans(info, robot.contract)
        assert (span.task, span.outcome, span.faults) == (TASK, outcome, ())
        assert info.metadata["rynn_brain_ros.contract"]["yaml"] == robot.contract.text
        assert info.metadata["rynn_brain_ros"]["by"] == "a test"


def test_what_it_records_becomes_a_data_set(robot: Robot, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    robot.moves()
    robot.mark("start", TASK)
    robot.moves(2.0)
    robot.mark("success")
    made = convert([tmp_path / "episode-00000.mcap"], robot.contract, tmp_path / "set")
    (report,) = made.reports
    assert (report["kept"], report["task"], report["faults"]) == (True, TASK, [])


def test_messages_are_kept_as_they_came(robot: Robot, tmp_path: Path) -> None:
    robot.moves()
    robot.mark("start", TASK)
    begun_s = robot.at_s
    robot.moves()
    robot.mark("stop")
    wanted = [(one.topic, one.received_ns, raw_of(one)) for one in sent(1.0, begun_s)]
    with BagReader(tmp_path / "episode-00000.mcap") as bag:
        found = [(m.topic, m.log_time_ns, bytes(m.raw)) for m in bag.messages()]
    assert sorted(found) == sorted(wanted)


def test_what_is_discarded_is_gone(robot: Robot, tmp_path: Path) -> None:
    robot.moves()
    robot.mark("start", TASK)
    robot.moves()
    robot.mark("discard")
    assert files(tmp_path) == []
    robot.mark("start")
    assert files(tmp_path) == ["episode-00000.partial.mcap"]


def test_a_later_session_overwrites_nothing(tmp_path: Path) -> None:
    for _ in range(2):
        robot = Robot(tmp_path)
        robot.moves()
        robot.mark("start", TASK)
        robot.session.close(ns(robot.at_s))
    assert files(tmp_path) == ["episode-00000.mcap", "episode-00001.mcap"]


def test_an_episode_brings_what_was_said_once_before(tmp_path: Path) -> None:
    robot = Robot(tmp_path, LATCHED)
    typename = "tf2_msgs/msg/TFMessage"
    raws = []
    for child in ("camera", "lens"):
        header = {"stamp": {"sec": 1, "nanosec": 2}, "frame_id": "base"}
        transforms = {"transforms": [{"header": header, "child_frame_id": child}]}
        raws.append(raw_of(Sent("/tf_static", typename, transforms, START_NS)))
        robot.session.receive("/tf_static", raws[-1], START_NS)
    robot.moves()
    for number in range(2):
        robot.mark("start", TASK)
        robot.moves()
        robot.mark("stop")
        with BagReader(tmp_path / f"episode-0000{number}.mcap") as bag:
            found = list(bag.messages(["/tf_static"]))
        assert [bytes(message.raw) for message in found] == raws
        assert {message.log_time_ns for message in found} == {START_NS}


@pytest.mark.parametrize(
    ("marks", "words"),
    [
        (["stop"], "no episode is being recorded"),
        (["discard"], "no episode is being recorded"),
        (["start", "start"], r"episode-00000\.mcap is being recorded: stop or discard it first"),
    ],
)
def test_a_mark_that_cannot_be_now_is_refused(robot: Robot, marks: list[str], words: str) -> None:
    robot.moves()
    for event in marks[:-1]:
        robot.mark(event, TASK)
    with pytest.raises(InputError, match=words):
        robot.mark(marks[-1], TASK)


def test_an_episode_needs_a_task(robot: Robot, tmp_path: Path) -> None:
    robot.moves()
    with pytest.raises(InputError, match="needs a task"):
        robot.mark("start", "  ")
    assert files(tmp_path) == []


def test_a_killed_recorder_loses_nothing(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from test_recording_session import Robot\n"
        "robot = Robot(Path(sys.argv[2])); robot.moves(); robot.mark('start', 'a task')\n"
        "robot.moves(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", script, str(Path(__file__).parent), str(tmp_path)]
    assert subprocess.run(command, env=os.environ, check=False).returncode == -signal.SIGKILL
    with BagReader(tmp_path / "episode-00000.partial.mcap") as bag:
        info = bag.info()
        assert len(list(bag.messages())) == len(sent(1.0, 1.0))
    (mark,) = marks_of(info.metadata)
    assert (mark.event, mark.task) == (MarkEvent.START, "a task")


# --- what it watches ------------------------------------------------------------------------------


def test_nothing_is_wrong_with_a_robot_that_is_well(robot: Robot) -> None:
    robot.moves(3.0)
    assert robot.faults() == {}
    robot.mark("start", TASK)
    robot.moves(3.0)
    assert robot.faults() == {}


def test_a_missing_camera_is_named_and_nothing_starts(robot: Robot, tmp_path: Path) -> None:
    robot.moves(without=CAMERA)
    assert robot.faults() == {CAMERA: "no message came"}
    with pytest.raises(InputError, match=f"not started: {CAMERA}: no message came"):
        robot.mark("start", TASK)
    assert files(tmp_path) == []
    robot.moves()
    assert robot.mark("start", TASK)


def test_commands_may_begin_with_the_episode(robot: Robot) -> None:
    robot.moves(without=COMMANDS)
    assert robot.faults() == {COMMANDS: "no message came"}
    assert robot.mark("start", TASK)


def test_who_wants_to_can_start_all_the_same(tmp_path: Path) -> None:
    robot = Robot(tmp_path, strict=False)
    assert robot.mark("start", TASK)
    robot.session.close(ns(1.0))


def test_a_stale_topic_is_named(robot: Robot) -> None:
    robot.moves(2.0)
    robot.at_s += 1.0
    silent = robot.faults()
    assert set(silent) == {CAMERA, JOINTS, COMMANDS}
    assert silent[JOINTS] == "silent for 0.998 s; 0.5 s are allowed"


def test_a_gap_is_forgotten_when_idle_and_kept_in_an_episode(robot: Robot) -> None:
    robot.moves(2.0)
    robot.at_s += 1.0
    robot.moves(1.0)
    assert robot.faults()
    robot.moves(2.0)
    assert robot.faults() == {}
    robot.mark("start", TASK)
    robot.moves(1.0)
    robot.at_s += 1.0
    robot.moves(4.0)
    assert set(robot.faults()) == {CAMERA, JOINTS, COMMANDS}


def test_a_slow_camera_is_named(robot: Robot) -> None:
    for one in sent(2.0):
        if one.topic != CAMERA:
            robot.session.receive(one.topic, raw_of(one), one.received_ns)
    for i in range(10):
        one = camera(i, i / 5)
        robot.session.receive(one.topic, raw_of(one), one.received_ns)
    robot.at_s = 2.0
    assert robot.faults() == {CAMERA: "5.0 Hz; the contract says 20 Hz"}


def test_a_camera_with_another_clock_than_the_joints_is_named(robot: Robot) -> None:
    robot.moves(late_s=0.252)
    (offset_s,) = robot.session.look(ns(1.0)).now.offsets_s.values()
    assert offset_s == pytest.approx(0.25, abs=1e-6)
    assert (
        "images come 0.250 s later after their stamps than /joint_states" in robot.faults()[CAMERA]
    )
    with pytest.raises(InputError, match="are the clocks one"):
        robot.mark("start", TASK)


def test_stamps_of_another_epoch_are_named(robot: Robot) -> None:
    one = joints(JOINTS, 0.0, {"a": 0.0, "b": 0.0, "finger": 0.0})
    robot.session.receive(JOINTS, raw_of(one), one.received_ns + 60_000_000_000)
    robot.at_s = 60.1
    assert "its stamps are -60.0 s from when it comes" in robot.faults()[JOINTS]


def test_a_clock_that_jumps_back_begins_anew(robot: Robot) -> None:
    robot.at_s = 100.0
    robot.moves()
    robot.at_s = 0.0
    robot.moves(2.0)
    assert robot.faults() == {}


# --- disk -----------------------------------------------------------------------------------------


def test_with_little_disk_nothing_starts(robot: Robot, tmp_path: Path) -> None:
    robot.moves()
    robot.free_gib = 4.9
    with pytest.raises(InputError, match=r"4\.9 GiB are free .* min_free_gib is 5: free some"):
        robot.mark("start", TASK)
    assert files(tmp_path) == []


def test_an_episode_ends_whole_before_the_disk_is_full(robot: Robot, tmp_path: Path) -> None:
    robot.moves()
    robot.mark("start", TASK)
    robot.moves()
    assert robot.session.tend(ns(robot.at_s)) == ""
    robot.free_gib = 4.9
    assert "4.9 GiB are free" in robot.session.tend(ns(robot.at_s))
    assert "4.9 GiB are free" in line(robot.session.look(ns(robot.at_s)))
    with BagReader(tmp_path / "episode-00000.mcap") as bag:
        (span,) = spans(bag.info(), robot.contract)
    assert (span.outcome, span.faults) == ("stop", ())


def test_a_folder_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot record into"):
        Robot(tmp_path / "file" / "folder")


# --- what people see ------------------------------------------------------------------------------


def test_the_line_says_what_an_operator_needs(robot: Robot) -> None:
    robot.moves()
    assert line(robot.session.look(ns(1.0))) == "idle, 0 kept; 100.0 GiB free; all is well"
    robot.mark("start", TASK)
    robot.moves()
    assert line(robot.session.look(ns(2.0))) == (
        f"RECORDING episode-00000.mcap, 1.0 s, {TASK}; 100.0 GiB free; all is well"
    )
    robot.moves(without=CAMERA)
    assert "silent for" in line(robot.session.look(ns(3.0)))


def test_diagnostics_have_a_part_for_each_topic(robot: Robot) -> None:
    robot.moves(2.0, without=COMMANDS)
    told = {part.name: part for part in parts(robot.session.look(ns(2.0)), ns(2.0))}
    assert list(told) == ["recording", CAMERA, JOINTS, COMMANDS]
    assert dict(told[CAMERA].values)["later than joints [s]"] == "0.013"
    assert dict(told[JOINTS].values)["rate [Hz]"] == "100.0"
    assert told[COMMANDS].problems == ("no message came",)
    assert not told[JOINTS].problems


# --- settings -------------------------------------------------------------------------------------


def test_the_yaml_file_has_every_setting_with_its_default() -> None:
    written = yaml.safe_load((REPOSITORY / "config" / "record.yaml").read_text(encoding="utf-8"))
    defaults = {item.name: item.default for item in settings(RecordConfig)}
    assert written["/**/record"]["ros__parameters"] == defaults


def test_a_contract_is_found_by_name_or_file(tmp_path: Path) -> None:
    assert find_contract("panda").robot_type == "panda"
    file = tmp_path / "mine.yaml"
    file.write_text(contract().text, encoding="utf-8")
    assert find_contract(str(file)) == contract()
    with pytest.raises(ConfigError, match=r"no contract 'pandas': known are fr3, panda, "):
        find_contract("pandas")


def test_a_type_that_nobody_could_read_is_refused(tmp_path: Path) -> None:
    odd = "adjunct:\n  - channel: {topic: /odd, type: my_msgs/msg/Odd}\n"
    with pytest.raises(ConfigError, match="/odd: the type my_msgs/msg/Odd cannot be recorded"):
        Robot(tmp_path, odd)


def test_a_button_counts_when_it_goes_down() -> None:
    buttons = Buttons(RecordConfig(joy_start=1, joy_success=0, joy_failure=2))
    states = [[0, 1, 0], [0, 0, 0], [0, 1, 0], [0, 1, 0], [1, 1, 0], [0, 0], [0, 0, 1]]
    found = [buttons.pressed(state) for state in states]
    start, success, failure = MarkEvent.START, MarkEvent.SUCCESS, MarkEvent.FAILURE
    assert found == [None, None, start, None, success, None, failure]


def test_a_button_has_one_meaning() -> None:
    Buttons(RecordConfig(joy_stop=-1, joy_discard=-1))
    with pytest.raises(ConfigError, match="joy_success and joy_start are both button 7"):
        Buttons(RecordConfig(joy_success=7))
