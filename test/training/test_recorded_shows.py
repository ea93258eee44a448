"""Demonstrations in the simulator become a data set, and are not played twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("mujoco")
pytest.importorskip("pyarrow")
pytest.importorskip("av")
pytest.importorskip("ruckig")
pytest.importorskip("matplotlib")

from rynn_brain_ros.data import Dataset
from rynn_brain_ros.data.known_contracts import find_contract
from rynn_brain_ros.demo import StageConfig
from training.pick_and_place import draw_curve, shows
from training.recording import Show, recorded


@pytest.mark.slow
def test_shows_become_a_data_set_and_are_not_played_again(tmp_path: Path):
    shown = [Show(StageConfig(kind="either", seed=30000))]
    contract = find_contract("sim_table")
    assert recorded(shown, contract, tmp_path, jobs=1) == tmp_path / "set"
    bag = tmp_path / "bags" / "either-30000.mcap"
    before = bag.stat().st_mtime_ns
    recorded(shown, contract, tmp_path, jobs=1)
    assert bag.stat().st_mtime_ns == before
    dataset = Dataset(tmp_path / "set")
    assert list(dataset.tasks) == ["pick up either cube"]
    assert len(dataset.episodes) == 1


def test_both_operators_show_and_no_table_twice():
    chosen = shows(130)
    operators = [show.operator for show in chosen]
    assert operators.count("human") == 70
    assert operators.count("scripted") == 60
    assert len({show.stage.seed for show in chosen}) == 130
    assert {show.stage.kind for show in chosen} == {"one"}


def test_the_curve_of_a_run_is_drawn(tmp_path: Path):
    rows = [{"step": 10, "loss": 1.0}, {"step": 20, "loss": 0.5}]
    rows += [{"step": 20, "joints_rad/told": 0.1, "joints_rad/still": 0.3}]
    (tmp_path / "curve.jsonl").write_text("\n".join(map(json.dumps, rows)))
    draw_curve(tmp_path / "curve.png", tmp_path / "curve.jsonl")
    assert (tmp_path / "curve.png").stat().st_size > 5000
