"""LeRobotDataset v3.0 on disk: whole or not at all, read by us and by LeRobot itself."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from rynn_brain_ros.data import Dataset, DatasetSpec, DatasetWriter, EpisodeWriter, FeatureSpec
from rynn_brain_ros.data.verifying import problems
from rynn_brain_ros.data.writer import episode_names
from rynn_brain_ros.values import InputError

pytest.importorskip("pyarrow")

CAMERA = "observation.images.main"
SPEC = DatasetSpec(
    "panda",
    30,
    {
        CAMERA: FeatureSpec("video", (48, 64, 3)),
        "observation.state": FeatureSpec("float32", (2,), ("a", "b"), "rad"),
        "action": FeatureSpec("float64", (1,), ("grip",)),
        "annotation.plan": FeatureSpec("string", (1,)),
    },
)


def grey(episode: int, row: int) -> int:
    return (30 + 50 * episode + 4 * row) % 256


def values(episode: int, row: int) -> dict[str, object]:
    return {
        CAMERA: np.full((48, 64, 3), grey(episode, row), np.uint8),
        "observation.state": np.array([row, -episode], np.float32),
        "action": np.array([row / 10]),
        "annotation.plan": f"step {row // 5}",
    }


def add(root: Path, episode: int, length: int, task: str = "pick") -> int:
    """Each with a writer of its own, as a conversion that is taken up again."""
    files = EpisodeWriter(root / "meta" / "rynn_brain" / "staging", SPEC)
    for row in range(length):
        files.add(values(episode, row))
    return DatasetWriter(root, SPEC).add(files.close(task, {"episode": f"e{episode}"}))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three episodes of 20, 21 and 22 frames. Not to be changed."""
    root = tmp_path_factory.mktemp("made") / "set"
    for episode in range(3):
        assert add(root, episode, 20 + episode, ("pick", "place")[episode % 2]) == episode
    return root


def copy_of(root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(root, tmp_path / "copy"))


def test_what_was_written_is_read(made: Path):
    dataset = Dataset(made)
    assert dataset.spec == SPEC
    assert dataset.tasks == ("pick", "place")
    assert [e.length for e in dataset.episodes] == [20, 21, 22]
    frame = dataset.frame(20 + 13)
    assert frame["task"] == "place" and frame["annotation.plan"] == "step 2"
    assert frame["observation.state"].tolist() == [13.0, -1.0]
    assert frame["action"] == pytest.approx(1.3)
    assert np.abs(frame[CAMERA].astype(int) - grey(1, 13)).max() <= 3
    assert list(problems(dataset)) == []


def test_every_frame_of_a_video_is_the_right_one(made: Path):
    dataset = Dataset(made)
    for episode in dataset.episodes:
        means = [image.mean() for image in dataset.images(episode, CAMERA)]
        wanted = [grey(episode.index, row) for row in range(episode.length)]
        assert np.abs(np.array(means) - wanted).max() < 2
        row = episode.length - 1
        assert abs(dataset.image(episode, CAMERA, row).mean() - wanted[row]) < 2


def test_the_statistics_are_those_of_all_frames(made: Path):
    stats = Dataset(made).stats()
    rows = [(e, row) for e in range(3) for row in range(20 + e)]
    state = np.array([[row, -e] for e, row in rows], np.float64)
    assert stats["observation.state"]["mean"] == pytest.approx(state.mean(axis=0))
    assert stats["observation.state"]["std"] == pytest.approx(state.std(axis=0))
    assert stats["observation.state"]["max"].tolist() == [21.0, 0.0]
    assert stats["observation.state"]["count"].tolist() == [63]
    shades = np.array([grey(e, row) for e, row in rows]) / 255
    assert stats[CAMERA]["mean"].shape == (3, 1, 1)
    assert stats[CAMERA]["mean"].reshape(-1) == pytest.approx([shades.mean()] * 3, abs=1e-9)
    assert stats[CAMERA]["std"].reshape(-1) == pytest.approx([shades.std()] * 3, abs=1e-9)
    assert stats[CAMERA]["q50"][0, 0, 0] == pytest.approx(np.median(shades), abs=0.05)
    assert "annotation.plan" not in stats


def test_other_features_are_not_mixed_in(made: Path, tmp_path: Path):
    other = DatasetSpec("panda", 15, SPEC.features)
    with pytest.raises(InputError, match="30 and 15 frames a second"):
        DatasetWriter(copy_of(made, tmp_path), other)


def test_a_frame_of_another_shape_is_named(tmp_path: Path):
    writer = EpisodeWriter(tmp_path / "episode", SPEC)
    wrong = {**values(0, 0), "action": np.zeros(2)}
    with pytest.raises(InputError, match=r"action has the shape \(2,\) in frame 0"):
        writer.add(wrong)
    writer.discard()
    assert not (tmp_path / "episode").exists()


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda root: (root / "meta/info.json").unlink(), "no LeRobot data set"),
        (lambda root: (root / "meta/info.json").write_text("{"), "cannot be read"),
        (lambda root: (root / "meta/info.json").write_text("{}"), "of version None"),
        (lambda root: (root / "meta/tasks.parquet").unlink(), "tasks.parquet cannot be read"),
    ],
)
def test_what_is_no_data_set_is_told(made: Path, tmp_path: Path, harm, says: str):
    root = copy_of(made, tmp_path)
    harm(root)
    with pytest.raises(InputError, match=says):
        Dataset(root)


def test_check_finds_what_is_wrong(made: Path, tmp_path: Path):
    root = copy_of(made, tmp_path)
    info = json.loads((root / "meta/info.json").read_text())
    (root / "meta/info.json").write_text(json.dumps({**info, "total_frames": 99}))
    video = root / f"videos/{CAMERA}/chunk-000/file-001.mp4"
    shutil.copy(root / f"videos/{CAMERA}/chunk-000/file-000.mp4", video)
    (root / f"videos/{CAMERA}/chunk-000/file-002.mp4").write_bytes(b"")
    (root / "data/chunk-000/file-002.parquet").write_bytes(b"PAR1")
    found = "\n".join(problems(Dataset(root)))
    assert "total_frames 99, and there are 63" in found
    assert "file-001.mp4 has 20 frames; its episodes need 21" in found
    assert "file-002.mp4 cannot be read" in found
    assert "episode 2: " in found and "file-002.parquet cannot be read" in found


def test_an_interrupted_add_is_put_right_the_next_time(made: Path, tmp_path: Path):
    """Died after the rows were in place and before the table of episodes: LeRobot would read
    rows of an episode that no table knows."""
    root = copy_of(made, tmp_path)
    shutil.copy(root / "data/chunk-000/file-002.parquet", root / "data/chunk-000/file-003.parquet")
    (root / "meta/.info.json.partial").write_text("{")
    assert add(root, 3, 9) == 3
    dataset = Dataset(root)
    assert [e.length for e in dataset.episodes] == [20, 21, 22, 9]
    assert list(problems(dataset)) == []
    assert not list(root.rglob("*.partial"))


def test_a_first_add_that_was_interrupted_is_begun_anew(tmp_path: Path, monkeypatch):
    root = tmp_path / "set"

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(DatasetWriter, "_meta", interrupted)
        with pytest.raises(KeyboardInterrupt):
            add(root, 0, 9)
    assert any((root / "data").rglob("*.partial")) and not (root / "meta/info.json").exists()
    assert add(root, 0, 9) == 0
    assert list(problems(Dataset(root))) == []
    assert not list(root.rglob("*.partial"))


def test_a_report_of_an_episode_that_no_table_knows_counts_for_nothing(made: Path, tmp_path: Path):
    """Died between the report and the table: taken for known, the episode would never come."""
    root = copy_of(made, tmp_path)
    report = root / "meta/rynn_brain/reports/000003.json"
    report.write_text(json.dumps({"episode": "e9"}))
    assert episode_names(root) == {"e0", "e1", "e2"}
    DatasetWriter(root, SPEC)
    assert not report.exists()


def test_an_episode_in_the_table_but_not_in_info_counts(made: Path, tmp_path: Path):
    root = copy_of(made, tmp_path)
    info = json.loads((root / "meta/info.json").read_text())
    (root / "meta/info.json").write_text(json.dumps({**info, "total_episodes": 2}))
    DatasetWriter(root, SPEC)
    assert list(problems(Dataset(root))) == []


def test_many_episodes_go_into_several_tables(tmp_path: Path):
    root = tmp_path / "set"
    spec = DatasetSpec("panda", 10, {"action": FeatureSpec("float32", (1,))})
    writer = DatasetWriter(root, spec)
    for episode in range(53):
        files = EpisodeWriter(tmp_path / "staging", spec)
        files.add({"action": np.array([episode], np.float32)})
        writer.add(files.close("wave", {}))
    dataset = Dataset(root)
    assert [float(dataset.frame(i)["action"][0]) for i in (0, 49, 50, 52)] == [0, 49, 50, 52]
    assert len(list((root / "meta/episodes/chunk-000").iterdir())) == 2
    assert list(problems(dataset)) == []
    assert DatasetWriter(root, spec).n_episodes == 53


FULL_DISK = """
import resource, signal, sys
sys.path.insert(0, {here!r})
from pathlib import Path
import test_dataset_files as made
from rynn_brain_ros.values import OutputError
root = Path(sys.argv[1])
made.add(root, 0, 10)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    made.add(root, 1, 200)
except OutputError as error:
    print("told:", error)
"""


@pytest.mark.parametrize("limit", [0, 600, 2_000, 6_000, 12_000])
def test_a_disk_that_fills_up_leaves_the_data_set_as_it_was(tmp_path: Path, limit: int):
    """No file may grow beyond ``limit`` bytes: rows, video, table or info cannot be written."""
    root = tmp_path / "set"
    script = FULL_DISK.format(here=str(Path(__file__).parent))
    done = subprocess.run(
        [sys.executable, "-c", script, str(root), str(limit)],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "told: cannot write" in done.stdout, done.stderr
    dataset = Dataset(root)
    assert [e.length for e in dataset.episodes] == [10]
    assert list(problems(dataset)) == []
    assert add(root, 1, 30) == 1


@pytest.mark.shared
def test_a_data_set_that_others_wrote_is_read(shared_data: Path):
    dataset = Dataset(shared_data / "so101_lerobot_v3")
    assert (len(dataset.episodes), dataset.n_frames, dataset.tasks) == (
        6,
        1782,
        ("pick and place",),
    )
    assert dataset.spec.features["action"].names == ("j0", "j1", "j2", "j3", "j4", "j5")
    assert list(problems(dataset)) == []
    (camera,) = dataset.spec.cameras
    third = dataset.episodes[3]
    images = list(dataset.images(third, camera))
    assert len(images) == third.length == 382 and images[0].shape == (360, 640, 3)
    assert np.array_equal(dataset.image(third, camera, 100), images[100])
    rows = dataset.columns(third)["observation.state"]
    told = dataset.episode_stats(third)["observation.state"]
    assert np.asarray(rows).mean(axis=0) == pytest.approx(told["mean"], abs=1e-4)


LEROBOT = """
import sys
from lerobot.datasets.lerobot_dataset import LeRobotDataset
data = LeRobotDataset("ours/set", root=sys.argv[1], video_backend="pyav")
assert (len(data), data.meta.total_episodes, data.fps) == (63, 3, 30)
assert list(data.meta.tasks.index) == ["pick", "place"]
item = data[20 + 13]
assert item["task"] == "place" and item["annotation.plan"] == "step 2"
assert item["observation.state"].tolist() == [13.0, -1.0]
assert abs(float(item["timestamp"]) - 13 / 30) < 1e-6
image = item["observation.images.main"]
assert tuple(image.shape) == (3, 48, 64) and abs(float(image.mean()) * 255 - {grey}) < 3
assert data.meta.stats["observation.state"]["max"].tolist() == [21.0, 0.0]
chunks = LeRobotDataset("ours/set", root=sys.argv[1], video_backend="pyav",
                        delta_timestamps={{"action": [0, 1 / 30, 2 / 30]}})
assert [round(v, 6) for v in chunks[0]["action"].flatten().tolist()] == [0.0, 0.1, 0.2]
print("read by lerobot")
"""


LEROBOT_WRITES = """
import sys
import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset
features = {
    "observation.images.front": {
        "dtype": "video", "shape": (96, 128, 3), "names": ["height", "width", "channels"]},
    "action": {"dtype": "float32", "shape": (2,), "names": ["a", "b"]},
}
data = LeRobotDataset.create("theirs/set", 30, features, root=sys.argv[1], robot_type="panda")
for episode in range(2):
    for row in range(12):
        image = np.full((96, 128, 3), 40 + 60 * episode + 5 * row, np.uint8)
        action = np.array([row, episode], np.float32)
        data.add_frame({"observation.images.front": image, "action": action, "task": "pick"})
    data.save_episode()
data.finalize()
"""


def with_lerobot(script: str, root: Path) -> str:
    """What a script prints in an interpreter of its own; skips where LeRobot is not installed."""
    pytest.importorskip("lerobot")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(root)],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_lerobot_itself_reads_it(made: Path):
    assert "read by lerobot" in with_lerobot(LEROBOT.format(grey=grey(1, 13)), made)


def test_we_read_what_lerobot_wrote(tmp_path: Path):
    with_lerobot(LEROBOT_WRITES, tmp_path / "theirs")
    dataset = Dataset(tmp_path / "theirs")
    assert [episode.length for episode in dataset.episodes] == [12, 12]
    assert list(problems(dataset)) == []
    frame = dataset.frame(12 + 7)
    assert frame["action"].tolist() == [7.0, 1.0] and frame["task"] == "pick"
    assert abs(frame["observation.images.front"].mean() - 135) < 3
