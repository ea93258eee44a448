"""A run writes where nothing lies, or over an earlier run of its kind, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest
from recordings import final_names, replay

from rynn_brain_ros.replay import EpisodeFolder, EpisodeHead

HEAD = EpisodeHead("take it", "panda", {}, "/c", "arm", ())


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("name", ["run.mcap", "report.html", "overlays/mine.png", "notes.txt"])
def test_a_persons_own_files_are_left_alone(name: str, small_bag: Path, tmp_path: Path, capsys):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    before = contents(tmp_path)
    assert replay(small_bag, tmp_path) == 4
    first = name.split("/", maxsplit=1)[0]
    told = f"{tmp_path} holds files that no run wrote ({first}): choose another --out"
    assert told in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_of_many_files_some_are_named(small_bag: Path, tmp_path: Path, capsys):
    for name in "dacb":
        (tmp_path / name).touch()
    assert replay(small_bag, tmp_path) == 4
    assert "(a, b, c, …)" in capsys.readouterr().err


def test_a_mark_that_no_run_wrote_is_a_persons_file(small_bag: Path, tmp_path: Path, capsys):
    (tmp_path / "run.json").write_text('{"kind": "replay"}')
    assert replay(small_bag, tmp_path) == 4
    assert "no run wrote (run.json)" in capsys.readouterr().err


def test_a_folder_is_refused_before_the_engine_opens(small_bag: Path, tmp_path: Path, capsys):
    (tmp_path / "notes.txt").touch()
    assert replay(small_bag, tmp_path, "--engine", f"recorded:{tmp_path}/none") == 4
    assert "cannot read recorded answers" not in capsys.readouterr().err


def test_a_run_replaces_an_earlier_one_and_its_pictures_only(small_bag: Path, tmp_path: Path):
    assert replay(small_bag, tmp_path) == 0
    old = set((tmp_path / "overlays").iterdir())
    (tmp_path / "overlays" / "mine.png").write_text("mine")
    assert replay(small_bag, tmp_path, ask="Pick up the blue ball") == 0
    assert (tmp_path / "overlays" / "mine.png").read_text() == "mine"
    assert not old & set((tmp_path / "overlays").iterdir())


def test_a_run_whose_bag_was_taken_away_is_still_one(small_bag: Path, tmp_path: Path):
    assert replay(small_bag, tmp_path) == 0
    (tmp_path / "run.mcap").unlink()
    assert replay(small_bag, tmp_path) == 0
    assert final_names(tmp_path) == ["answers.jsonl", "report.html", "run.mcap"]


def test_a_replay_does_not_replace_an_episode(small_bag: Path, tmp_path: Path, capsys):
    with EpisodeFolder(tmp_path, HEAD, {}, lambda: 0):
        pass
    assert replay(small_bag, tmp_path) == 4
    assert "holds the run of an episode, which a replay does not replace" in capsys.readouterr().err
