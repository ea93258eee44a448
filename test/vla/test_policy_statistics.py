"""Statistics of what a policy's network sees, and that they are never used elsewhere."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_policies import PROVENANCE, SPACE, demonstrations, statistics

from rynn_brain_ros.data.known_contracts import find_contract
from rynn_brain_ros.vla import PolicyError
from rynn_brain_ros.vla.actions import end_effector_space
from rynn_brain_ros.vla.normalization import (
    CONSTANT_BELOW,
    RunningMoments,
    compute,
    load_statistics,
    provenance_of,
)


def test_moments_of_pieces_are_those_of_the_whole():
    values = np.random.default_rng(0).normal([1e6, 0.0, -3.0], [1.0, 1e-3, 50.0], (1000, 3))
    running = RunningMoments()
    for piece in np.split(values, [1, 7, 500]):
        running.add(piece)
    moments = running.moments()
    assert moments.count == 1000
    assert np.allclose(moments.mean, values.mean(axis=0), rtol=1e-12)
    assert np.allclose(moments.std, values.std(axis=0), rtol=1e-9)


def test_statistics_are_those_of_relative_chunks():
    states, actions, _ = demonstrations(300)
    found = compute(((s, a, ()) for s, a in zip(states, actions, strict=True)), PROVENANCE)
    relative = SPACE.relative(actions, SPACE.reference(states, SPACE.names)).reshape(-1, 4)
    assert np.allclose(found.chunk.mean, relative.mean(axis=0))
    assert np.allclose(found.chunk.std, relative.std(axis=0))
    assert found.target is None


def test_what_the_network_learns_has_mean_0_and_deviation_1():
    states, actions, _ = demonstrations(500, seed=1)
    seen = statistics().chunk_in(actions, states).reshape(-1, 4)
    assert np.allclose(seen.mean(axis=0), 0, atol=1e-9)
    assert np.allclose(seen.std(axis=0), 1, atol=1e-9)


def test_actions_come_back_from_what_the_network_sees():
    found = statistics()
    states, actions, _ = demonstrations(20, seed=7)
    assert np.allclose(found.chunk_out(found.chunk_in(actions, states), states), actions)


def test_a_number_that_never_changes_is_not_blown_up():
    running = RunningMoments()
    running.add(
        np.full((50, 2), [0.7, 0.0]) + np.array([[0, CONSTANT_BELOW / 10]] * 25 + [[0, 0]] * 25)
    )
    moments = running.moments()
    assert moments.scale.tolist() == [1.0, 1.0]
    assert np.abs(moments.normalized([0.7, 1e-5])).max() < 1e-4


def test_a_number_that_never_changed_is_not_moved_by_what_a_network_says_of_it():
    running = RunningMoments()
    running.add([[0.7, -1.0], [0.7, 1.0]])
    assert running.moments().restored([3.0, 3.0]) == pytest.approx([0.7, 3.0])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none_are_refused(value: float):
    with pytest.raises(PolicyError, match="NaN or infinity"):
        RunningMoments().add([[1.0, value]])


def test_an_empty_data_set_has_no_statistics():
    with pytest.raises(PolicyError, match="empty"):
        compute([], PROVENANCE)


def test_a_target_point_is_told_with_whether_it_is_known():
    found = statistics()
    assert found.target_in(()).tolist() == [0.0] * 4
    known = found.target_in(found.target.mean)
    assert np.allclose(known, [0, 0, 0, 1])
    assert statistics(pointed=False).target_in(()).shape == (0,)


def changed(path: Path, change) -> Path:
    record = statistics().record()
    change(record)
    path.write_text(json.dumps(record))
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.pop("aim"),
        lambda record: record["aim"].update(frame=""),
        lambda record: record["aim"].update(n=2),
        lambda record: record.update(target=None),
    ],
)
def test_target_points_without_what_they_are_told_in_are_refused(tmp_path: Path, change):
    with pytest.raises(PolicyError, match=r"s\.json has target points of \d numbers and does not"):
        load_statistics(changed(tmp_path / "s.json", change))


def test_older_statistics_without_target_points_are_read(tmp_path: Path):
    def older(record):
        record.pop("aim")
        record.update(target=None)

    assert load_statistics(changed(tmp_path / "s.json", older)) == statistics(pointed=False)


def test_a_data_set_whose_points_are_told_in_nothing_has_no_statistics():
    states, actions, targets = demonstrations(5)
    with pytest.raises(PolicyError, match="does not tell the frame"):
        compute(zip(states, actions, targets, strict=True), PROVENANCE)


def test_a_target_point_of_other_numbers_is_refused():
    with pytest.raises(PolicyError, match="2 numbers: this policy was trained with 3"):
        statistics().target_in((500.0, 300.0))


def test_statistics_come_back_from_their_file(tmp_path: Path):
    found = statistics()
    found.save(tmp_path / "statistics.json")
    assert load_statistics(tmp_path / "statistics.json", PROVENANCE) == found


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"contract": "fr3"}, 'contract is "toy", here it is "fr3"'),
        ({"contract_sha256": "1" * 64}, "contract_sha256 is"),
        ({"cameras": ("front",)}, r'cameras is \["front", "wrist"\], here it is \["front"\]'),
        ({"rate_hz": 10.0}, "rate_hz is 30.0, here it is 10.0"),
        ({"action_space": end_effector_space()}, "action_space is"),
        ({"state_names": ("a", "b", "c", "d")}, "state_names is"),
    ],
)
def test_foreign_statistics_are_refused_by_what_differs(tmp_path: Path, other: dict, named: str):
    statistics().save(tmp_path / "s.json")
    with pytest.raises(PolicyError, match=named):
        load_statistics(tmp_path / "s.json", replace(PROVENANCE, **other))


def test_missing_statistics_are_named(tmp_path: Path):
    with pytest.raises(PolicyError, match=r"no statistics in .*absent\.json"):
        load_statistics(tmp_path / "absent.json")


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.pop("chunk"),
        lambda record: record["chunk"].update(std=[1.0, float("nan"), 1.0, 1.0]),
        lambda record: record["chunk"].update(mean=[0.0], std=[1.0]),
        lambda record: record["provenance"].pop("rate_hz"),
        lambda record: record.update(format=99),
    ],
)
def test_statistics_that_are_not_whole_are_refused(tmp_path: Path, change):
    with pytest.raises(PolicyError, match=r"s\.json"):
        load_statistics(changed(tmp_path / "s.json", change))


def test_the_provenance_of_a_contract_names_robot_cameras_rate_and_state():
    found = provenance_of(find_contract("panda"))
    assert (found.contract, found.cameras, found.rate_hz) == (
        "panda",
        ("main", "side", "wrist"),
        30,
    )
    assert found.state_names[-1] == "position.panda_finger_joint1"
    assert found.action_space.names == found.state_names
    assert found.contract_sha256 != provenance_of(find_contract("fr3")).contract_sha256
