"""Real episodes of BridgeData V2: imported, learned from, predicted and judged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("pyarrow")
pytest.importorskip("av")
pytest.importorskip("matplotlib")

from rynn_brain_ros.data.importing import import_bridge
from rynn_brain_ros.vla.values import PolicyError
from training.bridge import (
    BY_HEART,
    CONFIG,
    by_heart,
    folds,
    judged,
    learned,
    main,
    report,
    table,
    trained_policy,
)
from training.train import Config, read_config

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def episodes(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bridge") / "set"
    import_bridge(sorted((shared_data / "octo_bridge_debug").glob("*.tfrecord*")), root)
    return root


def config(*settings: str) -> Config:
    here = read_config(CONFIG, settings)
    names = [here.backbone, here.data.contract]
    backbone, contract = (str(REPOSITORY / name) for name in names)
    return read_config(CONFIG, [*settings, f"backbone={backbone}", f"data.contract={contract}"])


@pytest.mark.shared
def test_two_episodes_are_being_learned_by_heart(episodes: Path, tmp_path: Path):
    errors = by_heart(config(*BY_HEART, "steps=100"), episodes, tmp_path / "run")
    assert errors["mean"] > 0.6
    assert errors["policy"] < errors["mean"] / 2


@pytest.mark.shared
def test_an_episode_is_judged_by_a_policy_that_has_not_seen_it(episodes: Path, tmp_path: Path):
    held_out = folds(25)[3]
    run = learned(config("steps=2"), episodes, tmp_path / "run", held_out)
    assert {key.episode for key in run.learned} == set(range(25)) - set(held_out)
    found = list(judged(run, fold=3))
    assert [each.episode for each in found] == held_out
    n_counted = 7 * 4 + 3 + 2 + 1  # of ten frames, chunks of four
    assert {errors.shape for each in found for errors in each.errors.values()} == {(n_counted, 7)}
    chunk = trained_policy(run).statistics.chunk
    actions = run.data.demonstrations[held_out[0]].actions
    assert found[0].errors["mean"][:4] == pytest.approx(
        np.abs(actions[:4] - chunk.mean) / chunk.std, rel=1e-3
    )
    told = json.loads(json.dumps(report(run.data, found)))
    assert (told["episodes"], told["frames"], len(told["instructions"])) == (25, 250, 4)
    assert "250 frames, 50 s" in table(told)


def test_every_episode_is_held_out_once():
    made = folds(12)
    assert sorted(episode for fold in made for episode in fold) == list(range(12))
    assert max(map(len, made)) - min(map(len, made)) <= 1
    with pytest.raises(PolicyError, match="9 episodes: 10 are the least"):
        folds(9)


def test_settings_may_stand_behind_the_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """As the manual writes it. The file is read first, and there is none."""
    file, out = tmp_path / "none.tfrecord", tmp_path / "out"
    with pytest.raises(SystemExit, match=r"error: .*none\.tfrecord"):
        main([str(file), "--out", str(out), "seed=1"])
    assert not capsys.readouterr().err
