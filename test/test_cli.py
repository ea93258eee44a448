"""The command: what it prints, for people and as JSON, and how it ends."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from recordings import CUBE, answers, record_answer, replay, without

from rynn_brain_ros import __version__
from rynn_brain_ros.cli import main
from rynn_brain_ros.sim.tabletop import COLOR_TOPIC, DEPTH_TOPIC, INFO_TOPIC, START_NS
from rynn_brain_ros.values import Task

AFFORDANCE = "The cup is at <affordance> <frame 0>: (500, 250) </affordance>"


def parse(monkeypatch: pytest.MonkeyPatch, data: bytes | str, *arguments: str) -> int:
    raw = data.encode() if isinstance(data, str) else data
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(raw)))
    return main(["parse", *arguments])


def run_command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "rynn_brain_ros.cli", *arguments]
    return subprocess.run(
        command, capture_output=True, env={**os.environ, **environment}, check=False
    )


# --- the command itself --------------------------------------------------------------------------


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"rynn-brain {__version__}\n"


def parse_into(output: int) -> tuple[int, str]:
    command = [sys.executable, "-m", "rynn_brain_ros.cli", "parse"]
    done = subprocess.run(
        command, input=AFFORDANCE.encode(), stdout=output, stderr=subprocess.PIPE, check=False
    )
    return done.returncode, done.stderr.decode()


def test_a_reader_that_went_away_is_told_by_the_exit_code_alone():
    reading, writing = os.pipe()
    os.close(reading)
    assert parse_into(writing) == (141, "")
    os.close(writing)


def test_output_that_finds_no_room_is_an_error():
    with Path("/dev/full").open("wb") as full:
        code, told = parse_into(full.fileno())
    assert code == 4
    assert told == "rynn-brain: cannot write the output: No space left on device\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["dance"],
        ["replay"],
        ["replay", "b", "--ask", "x", "--at", "soon"],
        ["demo", "--world", "moon"],
        ["demo", "--approve", "never"],
        ["demo", "--seed", "one"],
        ["evaluate", "--episodes", "many"],
    ],
)
def test_a_wrong_command_line_is_bad_input(arguments: list[str], capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "usage: rynn-brain" in capsys.readouterr().err


def test_at_and_every_exclude_each_other(small_bag: Path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["replay", str(small_bag), "--ask", CUBE, "--at", "0", "--every", "1"])
    assert "not allowed with argument" in capsys.readouterr().err


def test_a_terminal_without_arrows_is_no_error(small_bag: Path, tmp_path: Path):
    arguments = ("replay", str(small_bag), "--ask", CUBE, "--task", "affordance")
    done = run_command(*arguments, "--out", str(tmp_path), PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"affordance in frame 2" in done.stdout


# --- replay --------------------------------------------------------------------------------------


def test_replay_tells_people_where(small_bag: Path, tmp_path: Path, capsys):
    assert replay(small_bag, tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    x, y, z = answers(tmp_path)[0]["groundings"][0]["point_fixed_m"]
    assert lines[0].endswith(f"affordance: {CUBE}")
    assert lines[2].startswith("  → affordance in frame 2 (")
    assert lines[2].endswith(f"x {x:.3f}  y {y:.3f}  z {z:.3f} m in base_link")
    assert lines[-1] == f"report: {tmp_path / 'report.html'}"


def test_replay_tells_people_why_not(small_bag: Path, tmp_path: Path, capsys):
    bag = without(small_bag, tmp_path / "flat.mcap", DEPTH_TOPIC)
    assert replay(bag, tmp_path / "out") == 0
    assert "refused, no_depth: " in capsys.readouterr().out


def test_replay_prints_one_json_object(small_bag: Path, tmp_path: Path, capsys):
    assert replay(small_bag, tmp_path, "--json") == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert captured.err == ""
    assert result["complete"] is True
    assert result["answers"] == answers(tmp_path)
    assert result["drifts"] is None
    assert Path(result["report"]).exists()


def test_replay_prints_what_drifted_as_json(small_bag: Path, tmp_path: Path, capsys):
    replay(small_bag, tmp_path)
    capsys.readouterr()
    expect = str(tmp_path / "answers.jsonl")
    out = tmp_path / "out"
    assert replay(small_bag, out, "--json", "--expect", expect, ask="the blue ball") == 1
    assert len(json.loads(capsys.readouterr().out)["drifts"]) == 1


def test_every_task_but_navigation_can_be_asked(small_bag: Path, tmp_path: Path):
    for task in set(Task) - {Task.PLAN, Task.NAVIGATE}:
        assert replay(small_bag, tmp_path, task=task.value) == 0


def test_thinking_is_kept_apart_from_the_answer(small_bag: Path, tmp_path: Path):
    assert replay(small_bag, tmp_path, "--think") == 0
    (answer,) = answers(tmp_path)
    assert [grounding["kind"] for grounding in answer["reasoning"]] == ["object"]
    assert [grounding["kind"] for grounding in answer["groundings"]] == ["affordance"]


# --- inspect -------------------------------------------------------------------------------------


def test_inspect_tells_topics_and_cameras(small_bag: Path, capsys):
    assert main(["inspect", str(small_bag)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{small_bag}: mcap, 1.05 s, 31 messages\n")
    assert f"       3  {COLOR_TOPIC}  [sensor_msgs/msg/CompressedImage]\n" in out
    assert f"  camera: colour {COLOR_TOPIC}, depth {DEPTH_TOPIC}, camera_info {INFO_TOPIC}" in out


def test_inspect_prints_one_json_object(small_bag: Path, capsys):
    assert main(["inspect", str(small_bag), "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert (info["storage"], info["message_count"], info["problems"]) == ("mcap", 31, [])
    assert info["start_ns"] == START_NS
    assert info["cameras"][0]["can_lift"] is True
    assert info["metadata"]["rynn_brain_ros"]["seed"] == "3"


def test_inspect_says_what_a_camera_lacks(small_bag: Path, tmp_path: Path, capsys):
    bag = without(small_bag, tmp_path / "flat.mcap", DEPTH_TOPIC)
    assert main(["inspect", str(bag)]) == 0
    assert "no depth image: can show points, cannot lift to metres" in capsys.readouterr().out


def test_inspect_reads_what_is_left_of_a_cut_bag(small_bag: Path, tmp_path: Path, capsys):
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(small_bag.read_bytes()[:40_000])
    assert main(["inspect", str(cut)]) == 0
    assert "problem: cut.mcap was cut or never closed" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["none.mcap", "notes.txt"])
def test_inspect_of_no_bag_is_one_sentence(name: str, tmp_path: Path, capsys):
    (tmp_path / "notes.txt").write_text("hello")
    assert main(["inspect", str(tmp_path / name)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert name in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["inspect", ""], "an empty path was given"),
        (["inspect", "x" * 300], "cannot be read"),
        (["replay", "", "--ask", "x"], "an empty path was given"),
        (["replay", "b", "--ask", "x", "--out", ""], "an empty path was given"),
        (["demo", "--out", ""], "an empty path was given"),
        (["replay", "b", "--ask", ""], "--ask is empty"),
        (["replay", "b", "--ask", " "], "--ask is empty"),
        (["replay", "b", "--expect", "a.jsonl"], "--expect needs --ask"),
        (["replay", "b", "--at", "0", "--frames", "8"], "--at, --frames need --ask"),
        (["replay", "b", "--camera", "/c"], "--camera needs --ask"),
        (["replay", "b", "--fixed-frame", "map", "--think"], "--think, --fixed-frame need --ask"),
        (["replay", "b", "--task", "describe", "--abstain"], "--task, --abstain need --ask"),
        (["replay", "b", "--tol-px", "2", "--out", "o"], "--tol-px, --out need --ask"),
        (["check-calibration", "b", "--board", ""], "--board is empty"),
        (["replay", "b", "--ask", "x", "--tol-m", "1"], "--tol-m needs --expect"),
        (["record-answers", "b", "--out", "o.jsonl", "--ask", ""], "--ask is empty"),
        (["record-answers", "b", "--out", "o.jsonl", "--at", "1"], "--at needs --ask or --q"),
        (
            ["record-answers", "b", "--out", "o.jsonl", "--questions", "q", "--think"],
            "--think needs --ask",
        ),
        (["demo", ""], "the task is empty"),
        (["demo", " "], "the task is empty"),
        (["evaluate", "--ask", ""], "--ask is empty"),
        (["evaluate", "--contract", "sim_table"], "--contract needs --policy"),
        (["export", "p", "--verify", "--precision", "int8"], "--precision needs OUT"),
        (["export", "p", "out", "--provider", "cuda"], "--provider needs --verify"),
        (["demo", "--seed", "-1"], "there is no scene -1"),
        (["demo", "--approve", "step"], "--approve asks on the terminal"),
        (["evaluate", "--out", " "], "an empty path was given"),
        (["evaluate", "--episodes", "0"], "--episodes 0"),
        (["evaluate", "--jobs", "-2"], "--jobs -2"),
    ],
)
def test_an_argument_that_cannot_be_is_one_sentence(arguments: list[str], words: str, capsys):
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("rynn-brain: ") and words in line


def test_a_recorded_engine_may_lie_at_home(
    small_bag: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    record_answer(small_bag, tmp_path / "said.jsonl", "It is red.", Task.DESCRIBE)
    monkeypatch.setenv("HOME", str(tmp_path))
    out, engine = tmp_path / "out", ["--engine", "recorded:~/said.jsonl"]
    assert replay(small_bag, out, *engine, task="describe") == 0


def test_a_link_to_itself_is_one_sentence(tmp_path: Path, small_bag: Path, capsys):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    expect = ["--expect", str(loop), "--out", str(tmp_path / "out")]
    assert main(["replay", str(small_bag), "--ask", "x", *expect]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("rynn-brain: ") and "loop" in line


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_no_error(closed: str):
    command = f"{sys.executable} -m rynn_brain_ros.cli parse {closed}"
    done = subprocess.run(["sh", "-c", command], input=b"", capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_server_whose_input_is_closed_ends_as_its_parent_would():
    pytest.importorskip("uvicorn")
    serve = "rynn_brain_ros.cli serve color-baseline --port 0 --until-eof"
    command = ["sh", "-c", f"exec {sys.executable} -m {serve} <&-"]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert done.returncode in (0, -signal.SIGTERM)


def test_what_the_system_refuses_is_one_sentence_and_no_drift(tmp_path: Path):
    command = [sys.executable, "-m", "rynn_brain_ros.cli", "parse"]
    with (tmp_path / "unreadable").open("wb") as file:
        done = subprocess.run(command, stdin=file, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (2, b"rynn-brain: [Errno 9] Bad file descriptor\n")


# --- parse ---------------------------------------------------------------------------------------


def test_parse_prints_groundings(monkeypatch, capsys):
    assert parse(monkeypatch, AFFORDANCE + "\n") == 0
    record = json.loads(capsys.readouterr().out)
    (grounding,) = record["groundings"]
    assert (grounding["kind"], grounding["frame"]) == ("affordance", 0)
    assert grounding["points"] == [[500, 250]]
    assert grounding["actionable"] is True
    assert (record["reasoning"], record["rejected"]) == ([], [])


def test_parse_prints_reasoning_apart(monkeypatch, capsys):
    text = (
        "<think>I see <object> <frame 0>: (1, 2), (3, 4) </object></think>"
        f"#### <answer>{AFFORDANCE}</answer>"
    )
    assert parse(monkeypatch, text, "--json") == 0
    out = capsys.readouterr().out
    record = json.loads(out)
    assert out.count("\n") == 1
    assert [g["kind"] for g in record["reasoning"]] == ["object"]
    assert [g["kind"] for g in record["groundings"]] == ["affordance"]


def test_parse_rejects_a_frame_that_was_not_shown(monkeypatch, capsys):
    text = AFFORDANCE.replace("frame 0", "frame 3")
    parse(monkeypatch, text, "--frames", "3")
    (rejected,) = json.loads(capsys.readouterr().out)["rejected"]
    assert rejected["reason"] == "frame_out_of_range"


def test_parse_takes_the_frame_that_was_shown(monkeypatch, capsys):
    text = AFFORDANCE.replace("frame 0", "frame 3")
    parse(monkeypatch, text, "--frames", "4")
    assert json.loads(capsys.readouterr().out)["groundings"][0]["frame"] == 3


def test_parse_says_what_a_task_lacks(monkeypatch, capsys):
    parse(monkeypatch, "Sorry.", "--task", "object")
    (grounding,) = json.loads(capsys.readouterr().out)["groundings"]
    assert grounding["kind"] == "no_grounding"


def test_parse_of_a_negative_number_of_frames_is_bad_input(monkeypatch, capsys):
    assert parse(monkeypatch, "", "--frames", "-1") == 2
    assert "--frames -1" in capsys.readouterr().err


PIECES = st.sampled_from(
    [b"<affordance>", b"</affordance>", b"<frame 0>:", b"(1, 2)", b"\xff\xfe", b"<think>", b"####"]
)


@given(st.binary(max_size=80) | st.lists(PIECES, max_size=12).map(b"".join))
@example(b"\xff\xfe\x00")
@example(b"")
@example("\ud800".encode("utf-8", "surrogatepass"))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_parse_reads_any_bytes(data: bytes):
    with pytest.MonkeyPatch.context() as patch:
        printed = io.StringIO()
        patch.setattr("sys.stdout", printed)
        assert parse(patch, data, "--frames", "2") == 0
    assert set(json.loads(printed.getvalue())) >= {"groundings", "reasoning", "rejected"}


# --- demo ----------------------------------------------------------------------------------------


def test_a_refusal_is_told_once_and_not_logged_beside_the_result(tmp_path: Path):
    pytest.importorskip("mujoco")
    engine = ("--engine", "color-baseline")
    done = run_command("demo", *engine, "--dry-run", "--json", "--out", str(tmp_path))
    assert (done.returncode, done.stderr) == (1, b"")
    assert "dry_run" in json.loads(done.stdout)["refusals"]


def test_an_unknown_engine_is_one_sentence(capsys):
    pytest.importorskip("mujoco")
    assert main(["demo", "--engine", "hal"]) == 2
    said = capsys.readouterr().err
    assert "unknown engine 'hal'" in said and said.count("\n") == 1


@pytest.mark.skipif(find_spec("torch") is not None, reason="torch is installed here")
@pytest.mark.parametrize("command", ["demo", "evaluate"])
def test_without_torch_the_table_says_how_to_get_it_and_what_needs_none(
    command: str, tmp_path: Path
):
    pytest.importorskip("mujoco")
    done = run_command(command, "--out", str(tmp_path / "out"))
    assert done.returncode == 3
    assert b"'transformers>=5.10'" in done.stderr and b"--engine color-baseline" in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_demo_without_the_simulator_says_how_to_get_it(tmp_path: Path):
    hidden = tmp_path / "mujoco.py"
    hidden.write_text("raise ImportError('no mujoco here')", encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parent.parent)])
    engine = ("--engine", "color-baseline")
    done = run_command("demo", *engine, "--out", str(tmp_path / "out"), PYTHONPATH=path)
    assert done.returncode == 2
    assert b"pip install 'mujoco>=3.3'" in done.stderr
    assert b"Traceback" not in done.stderr
