"""Real recordings of others: BridgeData V2 and a hand-guided Franka FR3."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from rynn_brain_ros.data import Dataset, importing
from rynn_brain_ros.data.importing import (
    hand_place,
    import_bridge,
    import_franka_log,
    read_franka_log,
)
from rynn_brain_ros.data.tfrecords import examples
from rynn_brain_ros.data.verifying import problems
from rynn_brain_ros.values import InputError

pytest.importorskip("pyarrow")


@pytest.fixture
def bridge_file(shared_data: Path) -> Path:
    return next((shared_data / "octo_bridge_debug").glob("*.tfrecord*"))


@pytest.fixture
def franka_file(shared_data: Path) -> Path:
    return next((shared_data / "franka_fr3_kinesthetic").glob("*.npy"))


@pytest.mark.shared
def test_bridge_episodes_come_with_pictures_numbers_and_words(bridge_file: Path, tmp_path: Path):
    assert import_bridge([bridge_file], tmp_path / "set") == 25
    dataset = Dataset(tmp_path / "set")
    assert list(problems(dataset)) == []
    assert dataset.n_frames == 250 and len(dataset.tasks) == 4
    assert dataset.frame(0)["task"] == "put cup from counter or drying rack into sink"
    assert [camera[-1] for camera in dataset.spec.cameras] == ["0", "1", "2"], "the fourth is black"
    first = next(iter(examples(bridge_file)))
    rows = dataset.columns(dataset.episodes[0])
    for name, column in (("state", "observation.state"), ("action", "action")):
        key = f"steps/observation/{name}" if name == "state" else f"steps/{name}"
        assert np.array_equal(np.asarray(rows[column]).ravel(), first[key])


@pytest.mark.shared
def test_a_tfrecord_that_was_cut_is_told(bridge_file: Path, tmp_path: Path):
    cut = tmp_path / "cut.tfrecord"
    cut.write_bytes(bridge_file.read_bytes()[:200_000])
    with pytest.raises(InputError, match="cut in the middle of a record"):
        list(examples(cut))


@pytest.mark.parametrize("payload", [b"\xff" * 20, b"\x0a\x7fabc", b"\x0b\x00"])
def test_a_record_of_something_else_is_told(tmp_path: Path, payload: bytes):
    path = tmp_path / "odd.tfrecord"
    path.write_bytes(struct.pack("<QI", len(payload), 0) + payload + bytes(4))
    with pytest.raises(InputError, match=r"no tf\.train\.Example"):
        list(examples(path))


def off_path_m(places: np.ndarray, path: np.ndarray) -> np.ndarray:
    """How far each place [n, 3] is from its path, straight between the points [n, k, 3]."""
    begin, along = path[:, :-1], np.diff(path, axis=1)
    length = np.maximum((along**2).sum(axis=2), 1e-24)
    share = np.clip(((places[:, None] - begin) * along).sum(axis=2) / length, 0.0, 1.0)
    off_m = np.linalg.norm(places[:, None] - begin - share[..., None] * along, axis=2)
    return np.asarray(off_m.min(axis=1))


def hand_around(log: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Where the hand was by the joints of the row before, this one and the next, [n, 3, 3] m."""
    near = np.clip(rows[:, None] + (-1, 0, 1), 0, len(log) - 1)
    return hand_place(log[near, 1:8])


@pytest.mark.shared
def test_the_franka_is_where_its_joints_say_in_every_row(franka_file: Path):
    """A row holds the last messages of two topics when a timer fired: joints and hand were
    subscribed to one by one, best effort, depth 1 (``data_collector_node.py`` of the recording's
    repository). 9 % of the rows repeat the joints, 15 % the hand, 2 % both. So they are up to a
    cycle apart, and the hand is compared with the way that the joints went from the row before to
    the row after: 0.30 mm at most, 0.25 mm of it at rest too. Told row by row it would be above
    0.5 mm in 75 of 10 384 rows, 0.96 mm at most, none of them at rest."""
    log = read_franka_log(franka_file)
    hand = log[:, 29:32]
    assert off_path_m(hand, hand_around(log, np.arange(len(log)))).max() < 0.0005
    still = np.abs(log[:, 8:15]).max(axis=1) < 0.01
    row_by_row_m = np.linalg.norm(hand_place(log[:, 1:8]) - hand, axis=1)
    assert still.sum() > 500 and row_by_row_m[still].max() < 0.0005
    repeated = np.diff(log, axis=0) == 0
    joints, place = repeated[:, 1:8].all(axis=1), repeated[:, 29:32].all(axis=1)
    assert (joints & ~place).sum() > 500 and (place & ~joints).sum() > 500


@pytest.mark.shared
@pytest.mark.parametrize("wrong", ["a longer tool", "5 ms later"])
def test_the_comparison_tells_what_is_wrong(
    franka_file: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
):
    log = read_franka_log(franka_file)
    hand, rows = log[:, 29:32], np.arange(len(log))
    if wrong == "a longer tool":
        monkeypatch.setattr(importing, "HAND_M", importing.HAND_M + 0.001)
    else:
        rows = rows + 5
    assert off_path_m(hand, hand_around(log, rows)).max() > 0.0005


@pytest.mark.shared
def test_a_kilohertz_becomes_thirty_frames_a_second(franka_file: Path, tmp_path: Path):
    import_franka_log([franka_file], tmp_path / "set", "open the drawer")
    dataset = Dataset(tmp_path / "set")
    assert list(problems(dataset)) == []
    log, (episode,) = read_franka_log(franka_file), dataset.episodes
    rows = {name: np.asarray(values) for name, values in dataset.columns(episode).items()}
    assert episode.length == int((log[-1, 0] - log[0, 0]) / 1e9 * 30)
    assert np.array_equal(rows["action"][:-1], rows["observation.state"][1:])
    for row in (0, 100, episode.length - 1):
        near = np.abs(log[:, 0] - log[0, 0] - row / 30 * 1e9).argmin()
        assert rows["observation.state"][row] == pytest.approx(log[near, 1:8], abs=2e-3)
    at_ns = log[0, 0] + np.arange(episode.length) / 30 * 1e9
    near = np.abs(log[:, 0] - at_ns[:, None]).argmin(axis=1)
    place = rows["observation.ee_position"].astype(float)
    assert off_path_m(place, hand_around(log, near)).max() < 0.0005


def log_rows(n: int = 100) -> np.ndarray:
    log = np.zeros((n, 42))
    log[:, 0] = np.arange(n) * 1e6
    return log


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda log: log[:, :41], "not \\(n, 42\\)"),
        (lambda log: np.concatenate([log[:50], log[:50]]), "pass between rows 49 and 50"),
        (lambda log: np.concatenate([log[:10], log[90:]]), "0.0810 s pass between rows 9 and 10"),
        (lambda log: np.where(np.arange(100)[:, None] == 7, np.nan, log), "not finite in row 7"),
    ],
)
def test_a_log_with_holes_is_told(tmp_path: Path, harm, says: str):
    path = tmp_path / "log.npy"
    np.save(path, harm(log_rows()))
    with pytest.raises(InputError, match=says):
        read_franka_log(path)


def test_what_is_in_the_set_already_is_not_imported_again(tmp_path: Path):
    path, out = tmp_path / "log.npy", tmp_path / "set"
    np.save(path, log_rows())
    assert import_franka_log([path], out, "wave") == 1
    with pytest.raises(InputError, match=r"holds log\.npy already"):
        import_franka_log([path], out, "wave")
    assert len(Dataset(out).episodes) == 1


def test_a_log_shorter_than_a_frame_is_told(tmp_path: Path):
    path = tmp_path / "log.npy"
    np.save(path, log_rows(20))
    with pytest.raises(InputError, match=r"lasts 0\.019 s"):
        import_franka_log([path], tmp_path / "set", "wave")


def test_known_postures_of_the_arm():
    """All joints at 0: stretched up, the hand over the 88 mm of the wrist; from the drawing."""
    up_m = 0.333 + 0.316 + 0.384 - 0.2104
    assert hand_place(np.zeros(7)) == pytest.approx([0.088, 0.0, up_m], abs=1e-12)
    quarter = np.array([np.pi / 2, 0, 0, 0, 0, 0, 0])
    assert hand_place(quarter) == pytest.approx([0.0, 0.088, up_m], abs=1e-12)


def test_our_simulated_arm_agrees():
    pytest.importorskip("mujoco")
    from rynn_brain_ros.sim.kinematics import Kinematics  # noqa: PLC0415
    from rynn_brain_ros.sim.panda import LOWER, UPPER, panda_spec  # noqa: PLC0415

    kinematics, rng = Kinematics(panda_spec().compile()), np.random.default_rng(1)
    for joints in rng.uniform(LOWER, UPPER, (20, 7)):
        told = kinematics.forward(joints).translation_m
        assert hand_place(joints) == pytest.approx(told, abs=1e-6)
