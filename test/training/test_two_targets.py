"""Either of two targets will do: a policy that samples goes to one, the mean of both to neither."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("pyarrow")
pytest.importorskip("av")
pytest.importorskip("mujoco")
pytest.importorskip("ruckig")
pytest.importorskip("matplotlib")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "models"))

from pointing_hands import HORIZON, LENGTH, Way, demonstrate, settings, small_backbone  # noqa: E402

from rynn_brain_ros.values import InputError  # noqa: E402
from rynn_brain_ros.vla import Observation  # noqa: E402
from rynn_brain_ros.vla.checkpoint import load_policy  # noqa: E402
from rynn_brain_ros.vla.guidance import CheckpointPolicy  # noqa: E402
from training import pick_and_place  # noqa: E402
from training.recording import recorded  # noqa: E402
from training.train import Run, open_data, read_config  # noqa: E402
from training.two_targets import (  # noqa: E402
    CONFIG,
    CONTRACT,
    Averaging,
    Mean,
    Try,
    balanced,
    draw,
    main,
    shown,
    sides,
)

START, ASIDE_M = np.array([0.5, 0.0, 0.4]), 0.25
END_M = ASIDE_M * HORIZON / LENGTH
"""How far aside the first chunk ends."""


def to_either_side(dice: np.random.Generator) -> Way:
    return START, np.array([0.5, dice.choice([-ASIDE_M, ASIDE_M]), 0.05])


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_backbone(tmp_path_factory.mktemp("backbone"))


@pytest.fixture(scope="module")
def demonstrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demonstrate(tmp_path_factory.mktemp("data") / "set", 72, way_of=to_either_side)


def ends_m(kind: type[Run], out: Path, backbone: Path, demonstrated: Path) -> np.ndarray:
    """Where 24 first chunks end, y."""
    changes = {"steps": 240, "batch": 32, "save_every": 1000, "log_every": 120, "draws": 2}
    rates = {"optimizer__lr": 4e-3, "optimizer__ema": 0.97, "optimizer__warmup": 20}
    untold = {"data__target": "none", "policy__told_step": False, "data__withhold": 0.0}
    data = {"data__held_out": 0.0, "data__seen_mib": 64}
    config = settings(out, backbone, demonstrated, **changes, **rates, **untold, **data)
    made = kind(config).train()
    assert made is not None
    loaded = load_policy(made)
    images = {"front": np.zeros((32, 48, 3), np.uint8)}
    asked = Observation(images, np.append(START, 1.0), "pick up the red cube")
    policy = CheckpointPolicy(Mean(loaded) if kind is Averaging else loaded)
    return np.array([policy.infer(asked)[-1, 1] for _ in range(24)])


def test_flow_matching_chooses_where_the_least_squared_error_goes_between(
    tmp_path: Path, backbone: Path, demonstrated: Path
):
    chosen = ends_m(Run, tmp_path / "flow", backbone, demonstrated)
    arrived = np.abs(np.abs(chosen) - END_M) < 0.06
    assert arrived.mean() > 0.8, chosen
    assert {-1, 1} == set(np.sign(chosen[arrived]))
    between = ends_m(Averaging, tmp_path / "mean", backbone, demonstrated)
    assert np.abs(between).max() < 0.06, between
    assert len(set(between)) == 1  # nothing is drawn at random


def to_one_side(dice: np.random.Generator) -> Way:
    """The first number of a state is the one that tells the side."""
    return START, np.array([dice.choice([-0.9, 0.9, 0.9]), 0.0, 0.05])


def test_as_many_demonstrations_of_each_side_are_learned_from(tmp_path: Path, backbone: Path):
    root = demonstrate(tmp_path / "set", 12, way_of=to_one_side)
    config, n_each = balanced(settings(tmp_path / "run", backbone, root))
    run = Run(config)
    learned = {key.episode for key in run.learned}
    left, right = (set(numbers) for numbers in sides(run.data).values())
    assert len(left & learned) == len(right & learned) == n_each == min(len(left), len(right)) > 0
    assert len(left) != len(right)


def test_demonstrations_of_one_side_are_refused(tmp_path: Path, backbone: Path):
    to_the_left = START, np.array([0.9, 0.0, 0.05])
    root = demonstrate(tmp_path / "set", 3, way_of=lambda _: to_the_left)
    with pytest.raises(InputError, match="3 demonstrations took the cube on one side and 0 on the"):
        balanced(settings(tmp_path / "run", backbone, root))


def test_a_table_is_shown_for_each_side_and_says_the_same(tmp_path: Path):
    root = recorded(shown(30000), CONTRACT, tmp_path, jobs=1)
    config = read_config(CONFIG, [f"data.sets=[{root}]"])
    data = open_data(config)
    assert sides(data) == {"left": [0], "right": [1]}
    told = {task for each in data.demonstrations for task in each.tasks}
    assert told == {"pick up either cube"}


def test_the_paths_are_drawn(tmp_path: Path):
    path, cubes = np.array([[0.3, 0.0], [0.48, 0.17]]), ((0.48, 0.17), (0.48, -0.17))
    tries = [Try(1, True, "done", path, cubes), Try(2, False, "timeout", path * [1, -1], cubes)]
    draw(tmp_path / "paths.png", {"flow matching": tries, "squared error": tries[1:]})
    assert (tmp_path / "paths.png").stat().st_size > 5000


def test_the_configuration_tells_neither_step_nor_point():
    config = read_config(CONFIG)
    assert (config.data.target, config.policy.told_step) == ("none", False)


@pytest.mark.parametrize("command", [main, pick_and_place.main])
def test_a_misspelt_setting_behind_the_options_is_told_before_anything_is_made(
    tmp_path: Path, command: Callable[[list[str]], None]
):
    out = tmp_path / "out"
    with pytest.raises(SystemExit, match=r"did you mean 'optimizer.lr'"):
        command(["seed=1", "--out", str(out), "optimiser.lr=1e-4"])
    assert not out.exists()
