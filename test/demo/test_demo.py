"""``rynn-brain demo``: what it does, what it says, and what it leaves."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mujoco")

from episodes import NONSENSE, record

from rynn_brain_ros.bags import ENDING, PROVENANCE, BagReader
from rynn_brain_ros.cli import main
from rynn_brain_ros.demo import StageConfig, run_demo
from rynn_brain_ros.models import ColorBaselineEngine, Engines, load_recorded
from rynn_brain_ros.replay import replay_episode
from rynn_brain_ros.sim.film import Film
from rynn_brain_ros.values import Answer, Query

OURS = "rynn_brain_ros/msg/"
PARTS = ["answers.recorded.jsonl", "report.html", "run.json", "run.mcap", "turns.jsonl"]
FILMS = ("episode.mp4", "episode.gif")


@dataclass(frozen=True)
class Run:
    """How the command ended, what it printed, and the folder it left."""

    code: int
    out: str
    err: str
    folder: Path

    @property
    def summary(self) -> dict[str, Any]:
        return json.loads(self.out.splitlines()[-1])

    @property
    def turns(self) -> list[dict[str, Any]]:
        lines = (self.folder / "turns.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]


def demo(folder: Path, *arguments: str) -> Run:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["demo", "--engine", "color-baseline", "--out", str(folder), *arguments])
    return Run(code, out.getvalue(), err.getvalue(), folder)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return demo(tmp_path_factory.mktemp("first"))


@pytest.fixture(scope="module")
def again(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same, for programs."""
    return demo(tmp_path_factory.mktemp("again"), "--json")


@pytest.fixture(scope="module")
def recorded(first: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same, with the first one's answers."""
    answers = first.folder / "answers.recorded.jsonl"
    return demo(tmp_path_factory.mktemp("recorded"), "--engine", f"recorded:{answers}")


# --- what it says --------------------------------------------------------------------------------


def test_the_task_is_done_and_the_world_agrees(first: Run):
    assert first.code == 0
    summary = first.summary
    assert (summary["success"], summary["confirmed"], summary["true"]) == (True, True, True)
    assert (summary["misplaced"], summary["collisions"]) == ([], 0)


def test_people_read_the_task_the_engine_every_turn_and_the_end(first: Run):
    lines = first.out.splitlines()
    assert lines[0] == "Task: put the red cube into the bowl"
    assert "a red cube" in lines[1]
    assert lines[2] == "Engine: color-baseline, a colour and shape segmenter (not RynnBrain)."
    turns = [line for line in lines if line.startswith("turn ")]
    assert turns == [f"turn {n}" for n in range(1, len(first.turns) + 1)]
    assert any(line.startswith("✓ Succeeded and confirmed: ") for line in lines)


def test_the_last_line_is_one_json_object(first: Run):
    summary = first.summary
    assert summary["turns"] == len(first.turns)
    codes = [turn["refusal"]["code"] for turn in first.turns if turn["refusal"]]
    assert summary["refusals"] == codes
    assert summary["report"] == str(first.folder / "report.html")
    assert summary["engine"] == "color-baseline"


def test_with_json_the_object_is_all_that_is_printed(again: Run):
    assert again.out.count("\n") == 1
    assert again.err == ""
    assert again.summary["success"] is True


# --- the same again ------------------------------------------------------------------------------


def test_the_same_scene_and_engine_give_the_same_bytes(first: Run, again: Run):
    one, two = ((run.folder / "turns.jsonl").read_bytes() for run in (first, again))
    assert one == two


def test_the_recorded_answers_play_the_same_episode_again(first: Run, recorded: Run):
    assert recorded.code == 0
    assert recorded.turns == first.turns
    assert recorded.summary["engine"] == "recorded"


def test_every_decision_is_reproduced_from_the_recording(first: Run):
    result = replay_episode(first.folder / "run.mcap")
    assert result.drifts == ()
    assert result.n_recorded == len(first.turns)


# --- what it leaves ------------------------------------------------------------------------------


def test_the_folder_holds_the_run_and_nothing_half_written(first: Run):
    names = sorted(path.name for path in first.folder.iterdir() if path.name not in FILMS)
    assert names == PARTS


def test_there_is_one_film_or_a_word_why_not(first: Run):
    films = [film for film in FILMS if (first.folder / film).exists()]
    possible = Film(first.folder / "any").path is not None
    assert len(films) == possible
    assert ("no film was made" in first.out) is not possible


def test_every_question_has_its_answer_in_the_file(first: Run):
    answers = load_recorded(first.folder / "answers.recorded.jsonl")
    assert [answer.text for answer in answers] == [turn["text"] for turn in first.turns]


def test_the_bag_holds_the_robots_messages_and_ours(first: Run):
    with BagReader(first.folder / "run.mcap", recover=False) as bag:
        topics = {topic.topic: topic for topic in bag.info().topics}
    assert {topic for topic in topics if not topic.startswith("/rynn_brain/")} == {
        "/tf",
        "/tf_static",
        "/joint_states",
        "/front/color/image_raw/compressed",
        "/front/color/camera_info",
        "/front/aligned_depth_to_color/image_raw/compressedDepth",
        "/wrist/color/image_raw/compressed",
        "/wrist/color/camera_info",
    }
    ours = {name.removeprefix("/rynn_brain/") for name in topics if name.startswith("/rynn")}
    assert ours >= {"answers", "turns", "actuator", "episode", "plan", "decisions", "groundings"}
    assert topics["/rynn_brain/turns"].count == len(first.turns)


def test_the_bag_holds_only_standard_types_and_ours(first: Run):
    with BagReader(first.folder / "run.mcap") as bag:
        types = {topic.typename for topic in bag.info().topics}
    packages = {name.split("/")[0] for name in types}
    assert {name for name in types if name.startswith("rynn")} <= {
        f"{OURS}GroundingArray",
        f"{OURS}Plan",
        f"{OURS}Thought",
    }
    assert packages - {"rynn_brain_ros"} <= {
        *("std_msgs", "sensor_msgs", "geometry_msgs", "nav_msgs", "tf2_msgs"),
        *("visualization_msgs", "diagnostic_msgs"),
    }


def test_inspect_finds_exactly_one_camera_that_can_lift(first: Run, capsys):
    assert main(["inspect", str(first.folder / "run.mcap"), "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    lifting = [camera["color"] for camera in info["cameras"] if camera["can_lift"]]
    assert lifting == ["/front/color/image_raw/compressed"]
    assert info["problems"] == []


def test_the_bag_can_be_asked_like_any_other(first: Run, tmp_path: Path, capsys):
    arguments = ["--ask", "the blue ball", "--task", "affordance", "--camera", "front"]
    bag = str(first.folder / "run.mcap")
    assert main(["replay", bag, *arguments, "--at", "0.5", "--out", str(tmp_path)]) == 0
    assert "m in panda_link0" in capsys.readouterr().out


def test_the_bag_and_the_report_say_who_answered(first: Run):
    with BagReader(first.folder / "run.mcap") as bag:
        provenance = bag.info().metadata[PROVENANCE]
    assert (provenance["engine"], provenance["seed"]) == ("color-baseline", "0")
    page = (first.folder / "report.html").read_text(encoding="utf-8")
    assert "not RynnBrain" in page
    assert "put the red cube into the bowl" in page


# --- nothing moves -------------------------------------------------------------------------------


def moves(run: Run) -> list[Any]:
    return [m["outcome"] for turn in run.turns for m in turn["moves"] if m["outcome"]]


def test_words_from_another_world_are_answered_honestly_and_nothing_moves(tmp_path: Path):
    run = demo(tmp_path, "write me a poem about the sea")
    assert run.code == 1
    assert (run.summary["success"], run.summary["confirmed"]) == (False, False)
    assert run.summary["refusals"]
    assert moves(run) == []
    assert "\n■ Refused: " in run.out


def test_gripping_a_thing_that_only_the_words_name_is_no_collision(tmp_path: Path):
    run = demo(tmp_path, "pick up the green cylinder")
    summary = run.summary
    assert (summary["success"], summary["true"], summary["collisions"]) == (True, None, 0)
    assert "nobody judged" in run.out


def test_a_dry_run_decides_everything_and_moves_nothing(tmp_path: Path):
    run = demo(tmp_path, "--dry-run")
    assert run.code == 1
    assert run.summary["cause"] == "dry_run"
    assert moves(run) == []
    assert replay_episode(tmp_path / "run.mcap").drifts == ()


class Terminal(io.StringIO):
    """A person at the keyboard."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("how", "asked"), [("step", 3), ("task", 1)])
def test_who_says_no_is_asked_for_each_step_or_once_and_nothing_moves(
    how: str, asked: int, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr("sys.stdin", Terminal("n\n" * 10))
    run = demo(tmp_path, "--approve", how, "--json")
    assert run.code == 1
    assert set(run.summary["refusals"]) == {"not_approved"}
    assert moves(run) == []
    assert run.err.count("[y/N]") == asked
    assert run.out.count("\n") == 1


def test_who_says_nothing_says_no(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("sys.stdin", Terminal(""))
    run = demo(tmp_path, "--approve", "step", "--json")
    assert (run.code, moves(run)) == (1, [])


@pytest.mark.parametrize(("denied", "heard"), [(0, True), (2, True), (0, False)])
def test_ctrl_c_at_the_question_is_a_no_and_ends_the_episode_whole(
    denied: int, heard: bool, tmp_path: Path
):
    keyboard, terminal = os.openpty()
    arguments = ["demo", "--engine", "color-baseline", "--approve", "step", "--out", str(tmp_path)]
    command = [sys.executable, "-m", "rynn_brain_ros.cli", *arguments]
    with subprocess.Popen(
        command, stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for asked in range(denied + 1):
            said = ""
            while not said.endswith("[y/N] "):
                said += process.stderr.read(1)
            if asked < denied:
                os.write(keyboard, b"n\n")
        if not heard:
            process.stderr.close()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    os.close(keyboard)
    os.close(terminal)
    assert process.returncode == 130
    assert err == "stopping (again to kill)\n" * heard
    assert json.loads(out.splitlines()[-1])["cause"] == "cancelled"
    assert (tmp_path / "report.html").exists()
    assert replay_episode(tmp_path / "run.mcap").drifts == ()


# --- bad input -----------------------------------------------------------------------------------


def test_an_engine_that_cannot_decide_anything_here_ends_it_before_it_begins(tmp_path: Path):
    out = tmp_path / "run"
    run = demo(out, "--engine", "ground=color-baseline")
    assert run.code == 3
    assert run.err == (
        "rynn-brain: task plan needs an engine in the role 'plan', and none is configured "
        "(configured roles: ground)\n"
    )
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seed", "-1"], "there is no scene -1: give a seed of 0 or more"),
        (["--engine", "hal"], "unknown engine 'hal': use color-baseline"),
        (["--approve", "step"], "--approve asks on the terminal, and standard input is none"),
        (["--view"], "there is no screen to show a window on"),
        (["--view", "--world", "room"], "leave --view out, and watch the film and the report"),
        (["--arm-look", "meshes"], "not installed; install it: pip install 'rtb-data>=2.0'"),
        (["--arm-look", "meshes", "--world", "room"], "there is no arm in the room"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_is_one_sentence_and_leaves_nothing(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch
):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setitem(sys.modules, "rtbdata", None)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    run = demo(tmp_path / "out", *arguments)
    assert run.code == 2
    assert run.err.startswith("rynn-brain: ") and words in run.err
    assert run.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


# --- trouble -------------------------------------------------------------------------------------


class Broken(ColorBaselineEngine):
    """Has a bug."""

    def ask(self, query: Query, on_text: Any = None, cancel: Any = None) -> Answer:
        raise ZeroDivisionError("a bug")


def test_a_bug_in_an_engine_leaves_a_readable_partial_bag_and_nothing_else(tmp_path: Path):
    with pytest.raises(ZeroDivisionError):
        run_demo(StageConfig(), Engines.one(Broken()), tmp_path, lambda line: None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.json", "run.partial.mcap"]
    with BagReader(tmp_path / "run.partial.mcap", recover=False) as bag:
        assert bag.info().metadata[ENDING]["ending"] == "interrupted"
        assert sum(1 for _ in bag.decoded(["/front/color/image_raw/compressed"])) > 0


def test_a_file_in_the_folders_place_ends_with_4(tmp_path: Path):
    (tmp_path / "out").write_text("mine")
    run = demo(tmp_path / "out")
    assert run.code == 4
    assert "out is a file, not a folder" in run.err
    assert (tmp_path / "out").read_text() == "mine"


def test_a_folder_that_no_demo_wrote_ends_with_4_and_is_left_alone(tmp_path: Path):
    (tmp_path / "run.mcap").write_text("mine")
    run = demo(tmp_path)
    assert run.code == 4
    assert "holds files that no run wrote (run.mcap): choose another --out" in run.err
    assert [path.name for path in tmp_path.iterdir()] == ["run.mcap"]
    assert (tmp_path / "run.mcap").read_text() == "mine"


@contextlib.contextmanager
def room_for(n_bytes: int) -> Iterator[None]:
    """No file may grow larger, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_ends_with_4_and_keeps_what_was_recorded(tmp_path: Path):
    with room_for(1_500_000):
        run = demo(tmp_path, "--json")
    assert run.code == 4
    assert run.err.startswith("rynn-brain: ") and "free some" in run.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.json", "run.partial.mcap"]
    with BagReader(tmp_path / "run.partial.mcap") as bag:
        assert sum(1 for _ in bag.decoded(["/front/color/image_raw/compressed"])) > 0


class Impatient(ColorBaselineEngine):
    """A person presses Ctrl-C while it thinks."""

    def ask(self, query: Query, on_text: Any = None, cancel: Any = None) -> Answer:
        signal.raise_signal(signal.SIGINT)
        return super().ask(query, on_text, cancel)


def test_ctrl_c_stops_the_robot_and_leaves_a_whole_run(tmp_path: Path, monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(
        "rynn_brain_ros.cli.acting.open_engines", lambda *_: Engines.one(Impatient())
    )
    run = demo(tmp_path)
    assert run.code == 130
    assert run.err == "stopping (again to kill)\n"
    assert run.summary["cause"] == "cancelled"
    assert (tmp_path / "report.html").exists()
    assert replay_episode(tmp_path / "run.mcap").drifts == ()
    assert signal.getsignal(signal.SIGINT) is before


_PRESSED_TWICE = """
import signal, sys
from rynn_brain_ros.cli.acting import _stop_on_interrupt

def pressed_again_after(lines):
    left = lines

    def trace(frame, event, argument):
        nonlocal left
        left -= event == "line"
        if left == 0:
            signal.raise_signal(signal.SIGINT)
        return trace

    with _stop_on_interrupt() as stop:
        try:
            sys.settrace(trace)
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
    return stop.cancel.is_set()

print(all(pressed_again_after(lines) for lines in range(1, 30)))
"""


def test_a_second_ctrl_c_at_any_line_of_the_first_ones_handler_is_heard():
    """That of a `threading.Event` would wait for the lock that the first one holds."""
    command = [sys.executable, "-c", _PRESSED_TWICE]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert told.stdout == "True\n"


def test_a_second_ctrl_c_ends_it_at_once(tmp_path: Path, monkeypatch):
    class Stubborn(ColorBaselineEngine):
        def ask(self, query: Query, on_text: Any = None, cancel: Any = None) -> Answer:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("still here")

    monkeypatch.setattr(
        "rynn_brain_ros.cli.acting.open_engines", lambda *_: Engines.one(Stubborn())
    )
    run = demo(tmp_path)
    assert run.code == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.json", "run.partial.mcap"]


# --- another run ---------------------------------------------------------------------------------


def test_a_run_replaces_all_that_an_earlier_one_left(tmp_path: Path):
    record(tmp_path, NONSENSE, NONSENSE, NONSENSE)
    (tmp_path / "run.partial.mcap").write_text("killed")
    record(tmp_path, NONSENSE, NONSENSE, NONSENSE)
    names = sorted(path.name for path in tmp_path.iterdir() if path.name not in FILMS)
    assert names == PARTS
