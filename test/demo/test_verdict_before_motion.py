"""From the check to the gate: a robot moves for the engine that passed, and for no other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("mujoco")

from rynn_brain_ros.cli import main
from rynn_brain_ros.values import RefusalCode

NAME = "color-baseline"


@pytest.fixture(scope="module")
def episode(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first") / "episode"
    assert demo(folder) == 0
    return folder


def demo(folder: Path, *more: str) -> int:
    engine = ["--engine", "color-baseline"]
    return main(["demo", *engine, "--seed", "0", "--json", "--out", str(folder), *more])


def checked(episode: Path, folder: Path, engine: str) -> Path:
    cases = folder / "cases.jsonl"
    assert main(["record-answers", str(episode), "--out", str(cases)]) == 0
    out = folder / "check"
    main(["check-engine", engine, "--cases", str(cases), "--out", str(out), "--min-cases", "3"])
    return out / "verdict.json"


def test_with_a_passing_verdict_the_task_is_done_and_decided_again_alike(
    episode: Path, tmp_path: Path
):
    verdict = checked(episode, tmp_path, NAME)
    assert demo(tmp_path / "episode", "--engine-verdict", str(verdict)) == 0
    verdict.unlink()  # the recording holds what was read
    assert main(["replay", str(tmp_path / "episode")]) == 0


def test_with_a_verdict_of_another_engine_nothing_moves_and_the_gate_says_why(
    episode: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    verdict = checked(episode, tmp_path, f"recorded:{tmp_path / 'cases.jsonl'}")
    capsys.readouterr()
    assert demo(tmp_path / "episode", "--engine-verdict", str(verdict)) == 1
    summary = json.loads(capsys.readouterr().out)
    assert summary["cause"] == RefusalCode.ENGINE_UNCHECKED.value
    turns = [json.loads(t) for t in (tmp_path / "episode" / "turns.jsonl").read_text().splitlines()]
    assert {turn["refusal"]["code"] for turn in turns} == {RefusalCode.ENGINE_UNCHECKED.value}
    assert all(move["outcome"] is None for turn in turns for move in turn["moves"])
    assert main(["replay", str(tmp_path / "episode")]) == 0


def test_a_verdict_that_cannot_be_read_stops_before_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert demo(tmp_path / "episode", "--engine-verdict", str(tmp_path / "nowhere.json")) == 2
    assert "nowhere.json is no engine's verdict" in capsys.readouterr().err
    assert not (tmp_path / "episode").exists()
