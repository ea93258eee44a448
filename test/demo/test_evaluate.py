"""``rynn-brain evaluate``: many episodes, each compared with the truth of its world."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mujoco")

from rynn_brain_ros.cli import main
from rynn_brain_ros.demo import (
    Evaluation,
    StageConfig,
    evaluate,
    make_stage,
    play_and_score,
    tell_evaluation,
    write_evaluation,
)
from rynn_brain_ros.demo.demonstrating import UNJUDGED
from rynn_brain_ros.demo.running import play
from rynn_brain_ros.models import ColorBaselineEngine, Engines, RecordedAnswer, save_recorded
from rynn_brain_ros.planning.episode import Episode, Move, TurnRecord
from rynn_brain_ros.values import (
    Answer,
    Cause,
    Decision,
    EngineLostError,
    FrameSet,
    InputError,
    Motion,
    Outcome,
    OutputError,
    Query,
    Skill,
    Status,
)
from rynn_brain_ros.view.evaluation import EpisodeScore

ABSENT = StageConfig(kind="absent", seed=3)


# --- side by side --------------------------------------------------------------------------------


def test_two_episodes_on_two_processes_are_a_table_and_an_object(tmp_path: Path, capsys):
    arguments = ["--episodes", "2", "--jobs", "2", "--kind", "absent", "--seed", "3"]
    engine = ["--engine", "color-baseline"]
    assert main(["evaluate", *arguments, *engine, "--out", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 episodes of table, absent, by color-baseline"
    summary = json.loads(lines[-1])
    assert summary["success_rate"] == 1.0
    assert (summary["seed"], summary["kind"], summary["engine"]) == (3, "absent", "color-baseline")
    assert Path(summary["report"]) == tmp_path / "evaluation.html"
    assert "color-baseline" in (tmp_path / "evaluation.html").read_text(encoding="utf-8")


def test_scores_come_in_the_order_of_their_seeds_and_each_is_told_once():
    told = []
    config = Evaluation(ABSENT, 2, "color-baseline", jobs=2)
    scores = evaluate(config, lambda score: told.append(score.seed))
    assert [score.seed for score in scores] == [3, 4]
    assert sorted(told) == [3, 4]
    alone = play_and_score(Evaluation(replace(ABSENT, seed=4), 1, "color-baseline"))
    assert timeless(scores[1]) == timeless(alone)


def timeless(score):
    return replace(score, wall_s=0.0, stage_s={})


# --- one episode ---------------------------------------------------------------------------------


def test_a_thing_that_is_not_there_is_a_success_when_nothing_is_claimed_or_moved():
    score = play_and_score(Evaluation(ABSENT, 1, "color-baseline"))
    assert (score.success, score.claimed) == (True, False)
    assert score.refusals
    assert (score.wrong_moves, score.collisions, score.limit_violations) == ((), 0, 0)
    assert score.wall_s > 0 and set(score.stage_s) >= {"look", "ask"}


def test_a_thing_in_the_room_is_found_and_driven_to_as_is_seen():
    score = play_and_score(
        Evaluation(StageConfig(world="room", kind="one", seed=1025), 1, "color-baseline")
    )
    assert (score.success, score.claimed, score.cause) == (True, True, "done")
    assert (score.collisions, score.limit_violations) == (0, 0)


def test_what_is_handed_over_is_taken():
    score = play_and_score(Evaluation(StageConfig(kind="hand_over"), 1, "color-baseline"))
    assert (score.success, score.claimed, score.refusals) == (True, True, ())


def test_looking_around_for_what_is_not_in_the_room_is_not_wrong():
    stage = make_stage(StageConfig(world="room", kind="absent"))
    try:
        measured = stage.measure()
        assert stage.judge(ended(moved=True, confirmed=False), measured)
        assert not stage.judge(ended(moved=True, confirmed=True), measured)
        assert not stage.judge(ended(True, False, cause="engine_lost"), measured)
    finally:
        stage.close()


def test_the_score_tells_the_instruction_that_was_given():
    score = play_and_score(
        Evaluation(replace(ABSENT, task="take the pink elephant"), 1, "color-baseline")
    )
    assert score.instruction == "take the pink elephant"
    assert (score.success, score.judged) == (False, False)


def test_of_other_words_than_the_tasks_nobody_knows_the_truth(tmp_path: Path):
    """The kind says that there is nothing to be done, and that is not said of these words."""
    config = Evaluation(replace(ABSENT, task="pick up any object"), 1, "color-baseline")
    score = play_and_score(config)
    assert (score.success, score.judged, score.claimed) == (False, False, True)
    lines, told = tell_evaluation(config, [score], tmp_path)
    write_evaluation(config, [score], tmp_path)
    assert (told["successes"], told["unjudged"], told["success_rate"]) == (0, 1, None)
    assert UNJUDGED in lines


@pytest.mark.parametrize(
    ("kind", "moved", "confirmed", "done", "success"),
    [
        ("one", True, True, True, True),
        ("one", True, True, False, False),
        ("one", True, False, True, False),
        ("one", True, True, None, None),
        ("absent", False, False, None, True),
        ("absent", True, False, None, False),
        ("absent", False, True, None, False),
        ("ambiguous", False, False, None, True),
    ],
)
def test_what_is_right_depends_on_what_could_be_done(
    kind: str, moved: bool, confirmed: bool, done: bool | None, success: bool | None
):
    stage = make_stage(StageConfig(kind=kind))
    try:
        measured = replace(stage.measure(), done=done)
        assert stage.judge(ended(moved, confirmed), measured) is success
    finally:
        stage.close()


class Mute(ColorBaselineEngine):
    """Whatever it is asked, its server is gone, or nothing comes of it."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    def ask(self, query: Query, on_text: Any = None, cancel: Any = None) -> Answer:
        if self._error is not None:
            raise self._error
        return replace(super().ask(query, on_text, cancel), text="")


@pytest.mark.parametrize(
    "error", [None, EngineLostError("the server is gone")], ids=["mute", "lost"]
)
@pytest.mark.parametrize(
    ("world", "kind"), [("table", "absent"), ("table", "ambiguous"), ("room", "absent")]
)
def test_an_engine_that_says_nothing_has_not_declined(world: str, kind: str, error):
    stage = make_stage(StageConfig(world=world, kind=kind))
    try:
        episode = play(stage, Engines.one(Mute(error))).episode
        assert not stage.judge(episode, stage.measure())
    finally:
        stage.close()


def ended(moved: bool, confirmed: bool, cause: str = "no_grounding") -> Episode:
    outcome = Outcome(Cause.DONE, "", 0, 1) if moved else None
    motion = Motion(Skill.PICK, "base", (0.0, 0.0, 0.0), ())
    turn = TurnRecord(0, 0, FrameSet(), moves=(Move(motion, Decision(0, ()), outcome),))
    status = Status.SUCCEEDED if confirmed else Status.REFUSED
    return Episode("do", "e", (turn,), status, cause * (not confirmed), "", confirmed, 0, 1)


@pytest.mark.parametrize("world", ["table", "room"])
def test_nobody_knows_whether_other_words_were_carried_out(world: str):
    stage = make_stage(StageConfig(world=world, task="dance"))
    try:
        assert stage.measure().done is None
    finally:
        stage.close()


# --- what cannot be ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--episodes", "0"], "--episodes 0: play at least one"),
        (["--jobs", "-1"], "--jobs -1: 1 or more"),
        (
            ["--kind", "easy", "--engine", "color-baseline", "--episodes", "1"],
            "no tasks of kind 'easy': use demo, one, many",
        ),
        (["--engine", "hal", "--episodes", "1"], "unknown engine 'hal'"),
        (["--seed", "-5", "--episodes", "1"], "there is no scene -5"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_is_one_sentence(arguments: list[str], words: str, tmp_path: Path, capsys):
    assert main(["evaluate", "--out", str(tmp_path), *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("rynn-brain: ") and words in line


def test_an_unknown_world_is_told_with_those_that_are_known():
    with pytest.raises(InputError, match="unknown world 'moon': use table or room"):
        make_stage(StageConfig(world="moon"))


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_played(tmp_path: Path, capsys):
    (tmp_path / "out").write_text("mine")
    arguments = ["evaluate", "--engine", "color-baseline", "--episodes", "100000"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert "a file is in its place" in line or "a part of this path is a file" in line


def test_what_was_played_is_told_where_the_page_cannot_be_written(tmp_path: Path, capsys):
    (tmp_path / "evaluation.html").mkdir()
    arguments = ["--engine", "color-baseline", "--kind", "absent", "--seed", "3", "--episodes", "1"]
    assert main(["evaluate", *arguments, "--out", str(tmp_path)]) == 4
    printed = capsys.readouterr()
    assert json.loads(printed.out.splitlines()[-1])["successes"] == 1
    assert "cannot write" in printed.err


def test_an_engine_that_is_gone_in_the_middle_leaves_what_was_played(tmp_path: Path):
    answers, told = tmp_path / "answers.jsonl", []
    save_recorded(answers, [RecordedAnswer("RynnBrain-8B", (), "Done.")])

    def played(score: EpisodeScore) -> None:
        told.append(score.seed)
        answers.unlink(missing_ok=True)

    with pytest.raises(InputError, match=r"answers\.jsonl"):
        evaluate(Evaluation(ABSENT, 8, f"recorded:{answers}", jobs=1), played)
    assert told[0] == 3 and len(told) < 8


def test_a_picture_that_cannot_be_written_is_an_error(tmp_path: Path):
    (tmp_path / "out").write_text("mine")
    score = play_and_score(Evaluation(ABSENT, 1, "color-baseline"))
    config = Evaluation(ABSENT, 1, "color-baseline")
    with pytest.raises(OutputError, match=r"evaluation\.html"):
        write_evaluation(config, [score], tmp_path / "out")
