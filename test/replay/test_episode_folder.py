"""The folder of an episode: whole under its final names, or partial and readable."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from rynn_brain_ros.bags import ENDING, PROVENANCE, BagReader
from rynn_brain_ros.models import RecordedAnswer, load_recorded
from rynn_brain_ros.planning.episode import Confirmation, Episode, Move, TurnEnded, TurnRecord
from rynn_brain_ros.replay import EpisodeFolder, EpisodeHead, is_episode, turn_record
from rynn_brain_ros.replay.episode_folder import ACTUATOR, ANSWERS, EPISODE, INPUTS, TURNS
from rynn_brain_ros.replay.turns import as_line, turn_line
from rynn_brain_ros.values import (
    Cause,
    Check,
    Decision,
    FrameSet,
    GripGoal,
    Motion,
    MotionStage,
    Outcome,
    OutputError,
    Refusal,
    RefusalCode,
    RigidTransform,
    Skill,
    Stage,
    Status,
)

NOW_NS = 1_700_000_000_000_000_000
HEAD = EpisodeHead("take it", "panda", {"limits": {"dry_run": False}}, "/c", "arm", ("GripGoal",))
ANSWER = RecordedAnswer("m", ({"role": "user", "content": ["take it"]},), "Done.")
REFUSED = TurnRecord(0, NOW_NS, FrameSet(), refusal=Refusal(RefusalCode.STALE, "no new image"))
MOTION = Motion(
    Skill.PICK,
    "base",
    (0.1, 0.2, 0.30000000000000004),
    (MotionStage(Stage.GRIP, GripGoal(0.0)),),
)
MOVED = TurnRecord(
    1,
    NOW_NS + 5,
    FrameSet(),
    moves=(
        Move(
            MOTION,
            Decision(NOW_NS, (Check("armed", True, "yes"),)),
            Outcome(Cause.DONE, "Größe", NOW_NS, NOW_NS + 9, 1),
        ),
    ),
    confirmation=Confirmation(True, "seen", (Check("there", True, "90%", "12%"),)),
)
EPISODE_OF_TWO = Episode(
    *("take it", "m", (REFUSED, MOVED), Status.SUCCEEDED, "done", "seen", True, NOW_NS, NOW_NS + 9),
)


def folder(path: Path) -> EpisodeFolder:
    return EpisodeFolder(path, HEAD, {"seed": "7"}, lambda: NOW_NS)


def fill(kept: EpisodeFolder) -> None:
    transform = RigidTransform("map", "base", stamp_ns=NOW_NS)
    data = {"transforms": [tf_of(transform)]}
    kept.receive("/tf", "tf2_msgs/msg/TFMessage", data, NOW_NS)
    kept.keep_answer(ANSWER)
    kept.keep_actuator({"said": "stop", "width_m": math.nan})
    kept.keep_input("cancel")
    for turn in EPISODE_OF_TWO.turns:
        kept.tell(TurnEnded(turn))


def tf_of(transform: RigidTransform) -> dict[str, Any]:
    zero = {"x": 0.0, "y": 0.0, "z": 0.0}
    stamp = {"sec": transform.stamp_ns // 10**9, "nanosec": transform.stamp_ns % 10**9}
    return {
        "header": {"stamp": stamp, "frame_id": transform.parent},
        "child_frame_id": transform.child,
        "transform": {"translation": zero, "rotation": {**zero, "w": 1.0}},
    }


def texts(bag: Path, topic: str) -> list[str]:
    with BagReader(bag) as reader:
        return [value.data for _, value in reader.decoded([topic])]


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    with folder(tmp_path) as kept:
        fill(kept)
        kept.close(EPISODE_OF_TWO)
    return tmp_path


def test_a_whole_episode_is_three_files_and_the_mark(whole: Path):
    names = sorted(path.name for path in whole.iterdir())
    assert names == ["answers.recorded.jsonl", "run.json", "run.mcap", "turns.jsonl"]


def test_turns_are_one_line_each_and_the_same_in_the_bag(whole: Path):
    lines = (whole / "turns.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["turn"] for line in lines] == [0, 1]
    assert texts(whole / "run.mcap", TURNS) == lines


def test_answers_are_kept_in_both(whole: Path):
    assert load_recorded(whole / "answers.recorded.jsonl") == (ANSWER,)
    assert texts(whole / "run.mcap", ANSWERS) == [ANSWER.to_json()]


def test_what_came_from_the_robot_and_from_people_is_in_the_bag(whole: Path):
    assert texts(whole / "run.mcap", ACTUATOR) == ['{"said": "stop", "width_m": null}']
    assert texts(whole / "run.mcap", INPUTS) == ["cancel"]


def test_the_bag_says_which_episode_it_is(whole: Path):
    with BagReader(whole / "run.mcap", recover=False) as bag:
        info = bag.info()
    assert is_episode(info)
    assert info.metadata[PROVENANCE]["seed"] == "7"
    assert info.metadata[EPISODE]["task"] == "take it"
    assert json.loads(info.metadata[EPISODE]["settings"]) == HEAD.settings
    assert info.metadata[ENDING]["ending"] == "complete"


def test_a_run_that_dies_leaves_only_a_readable_partial_bag(tmp_path: Path):
    with pytest.raises(RuntimeError), folder(tmp_path) as kept:
        fill(kept)
        raise RuntimeError("a bug")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.json", "run.partial.mcap"]
    with BagReader(tmp_path / "run.partial.mcap", recover=False) as bag:
        assert bag.info().metadata[ENDING]["ending"] == "interrupted"
    assert len(texts(tmp_path / "run.partial.mcap", TURNS)) == 2


def test_a_file_that_cannot_be_written_at_the_end_leaves_no_whole_run(tmp_path: Path):
    with pytest.raises(OutputError, match=r"cannot write .*turns\.jsonl"), folder(tmp_path) as kept:
        fill(kept)
        (tmp_path / "turns.jsonl").mkdir()
        kept.close(EPISODE_OF_TWO)
    assert not (tmp_path / "run.mcap").exists()
    assert len(texts(tmp_path / "run.partial.mcap", TURNS)) == 2


@pytest.mark.parametrize("place", ["out", "out/run"])
def test_a_file_in_the_folders_place_is_told(place: str, tmp_path: Path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputError, match=r"cannot write to .*out"):
        folder(tmp_path / place)
    assert (tmp_path / "out").read_text() == "mine"


def test_what_an_earlier_run_left_is_cleared_and_nothing_else(tmp_path: Path):
    with folder(tmp_path) as kept:
        kept.close(EPISODE_OF_TWO)
    (tmp_path / "overlays").mkdir()
    for name in ("episode.mp4", "episode.gif", "report.html", "notes.txt", "overlays/mine.png"):
        (tmp_path / name).write_text("old")
    with folder(tmp_path):
        left = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert left == ["notes.txt", "overlays/mine.png", "run.json", "run.partial.mcap"]


def test_a_folder_under_a_runs_file_name_is_told(tmp_path: Path):
    with folder(tmp_path) as kept:
        kept.close(EPISODE_OF_TWO)
    (tmp_path / "turns.jsonl").unlink()
    (tmp_path / "turns.jsonl").mkdir()
    with pytest.raises(OutputError, match="cannot write to"):
        folder(tmp_path)


# --- the line of a turn --------------------------------------------------------------------------


def test_the_same_turn_gives_the_same_bytes_with_every_number_as_it_was():
    assert turn_line(MOVED) == turn_line(MOVED)
    assert json.loads(turn_line(MOVED))["moves"][0]["motion"]["target_m"][2] == 0.1 + 0.2


def test_what_is_unknown_is_null():
    line = as_line({"a": math.nan, "b": [math.inf, (1.5, -math.inf)], "c": {"d": math.nan}})
    assert line == '{"a": null, "b": [null, [1.5, null]], "c": {"d": null}}\n'
    assert json.loads(turn_line(MOVED))["moves"][0]["motion"]["grip_width_m"] is None


def test_wall_times_are_not_in_a_turn():
    assert "times" not in turn_record(MOVED)


def test_a_turn_without_an_answer_says_why():
    record = turn_record(REFUSED)
    assert (record["text"], record["step"], record["moves"]) == (None, None, [])
    assert record["refusal"] == {"code": "stale", "text": "no new image"}
