"""``rynn-brain convert`` and ``rynn-brain dataset`` as a person types them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import demonstrations
import numpy as np
import pytest
from demonstrations import CAMERA, record, sent

from rynn_brain_ros.cli import main
from rynn_brain_ros.data import Dataset
from rynn_brain_ros.data.verifying import problems

pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a contract, four bags and the data set ``set`` of them."""
    folder = tmp_path_factory.mktemp("commands")
    (folder / "tiny.yaml").write_text(demonstrations.YAML)
    bags = [str(record(folder / f"{i}.mcap", sent(1.0 + i / 10))) for i in range(4)]
    assert main(["convert", *bags, *options(folder), "--jobs", "1"]) == 0
    return folder


def options(folder: Path, out: str = "set") -> list[str]:
    return ["--contract", str(folder / "tiny.yaml"), "--out", str(folder / out)]


def test_convert_tells_each_episode_and_what_was_left_out(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    bad = record(tmp_path / "bad.mcap", [one for one in sent() if one.topic != CAMERA])
    out = ["--contract", str(made / "tiny.yaml"), "--out", str(tmp_path / "set"), "--jobs", "1"]
    assert main(["convert", str(made / "0.mcap"), str(bad), *out]) == 1
    told = capsys.readouterr().out
    assert re.search(r"kept     0\.mcap-\w+#0: 10 frames, 1\.0 s recorded, 0 images rep", told)
    assert f"missing_topic on {CAMERA}: it is not there" in told
    assert told.endswith("1 of 2 episodes, 10 frames\n")
    assert main(["convert", str(made / "0.mcap"), *out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"known": 1, "episodes": []}


def test_convert_says_every_time_what_is_left_out_and_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "tiny.yaml").write_text(demonstrations.YAML)
    command = ["convert", str(record(tmp_path / "demo.mcap", sent(), marks=()))]
    command += [*options(tmp_path), "--jobs", "1"]
    for _ in range(2):
        assert main(command) == 1
        told = capsys.readouterr().out
        assert "left out demo.mcap-" in told and "give it with --task" in told
        assert told.endswith("0 of 1 episodes, 0 frames\n")
    assert main([*command, "--task", "pick up the cube"]) == 0
    assert "1 of 1 episodes" in capsys.readouterr().out


def test_a_data_set_without_any_episode_is_no_success(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "tiny.yaml").write_text(demonstrations.YAML)
    marks = ((0.0, "start", "a"), (1.0, "discard", ""))
    bag = record(tmp_path / "demo.mcap", sent(), marks=marks)
    assert main(["convert", str(bag), *options(tmp_path), "--jobs", "1"]) == 1
    assert capsys.readouterr().out.endswith("0 of 0 episodes, 0 frames\n")


def test_a_folder_of_several_recordings_is_bad_input(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "bags").mkdir()
    for i in range(2):
        shutil.copy(made / f"{i}.mcap", tmp_path / "bags")
    bags, out = str(tmp_path / "bags"), str(tmp_path / "set")
    kind = str(made / "tiny.yaml")
    for command in (["convert", bags, "--contract", kind, "--out", out], ["inspect", bags]):
        assert main(command) == 2
        told = capsys.readouterr().err
        assert "holds several recordings (0.mcap, 1.mcap): give them one by one" in told


def test_a_contract_with_a_mistake_ends_with_two(made: Path, capsys: pytest.CaptureFixture[str]):
    wrong = made / "wrong.yaml"
    wrong.write_text(demonstrations.YAML.replace("fps:", "fsp:"))
    bag = str(made / "0.mcap")
    assert main(["convert", bag, "--contract", str(wrong), "--out", str(made / "x")]) == 2
    assert "did you mean 'fps'" in capsys.readouterr().err


def test_inspect_stats_and_check(made: Path, capsys: pytest.CaptureFixture[str]):
    root = str(made / "set")
    assert main(["dataset", "inspect", root]) == 0
    assert "tiny, 4 episodes, 46 frames at 10 a second, 4.6 s" in capsys.readouterr().out
    assert main(["dataset", "stats", root]) == 0
    assert re.search(r"position\.b +min +-1\.2\d+ +mean", capsys.readouterr().out)
    assert main(["dataset", "check", root]) == 0
    assert capsys.readouterr().out == "4 episodes, no problems\n"
    assert main(["dataset", "inspect", root, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["total_episodes"] == 4


def test_split_and_merge_lose_nothing(made: Path, tmp_path: Path):
    root, parts = str(made / "set"), tmp_path / "parts"
    assert main(["dataset", "split", root, "train=0.75", "val=0.25", "--out", str(parts)]) == 0
    train, val = Dataset(parts / "train"), Dataset(parts / "val")
    assert (len(train.episodes), len(val.episodes)) == (3, 1)
    together = tmp_path / "together"
    both = [str(parts / "train"), str(parts / "val")]
    assert main(["dataset", "merge", *both, "--out", str(together)]) == 0
    merged, source = Dataset(together), Dataset(made / "set")
    assert list(problems(merged)) == []
    assert sorted(e.length for e in merged.episodes) == [e.length for e in source.episodes]
    for name, part in source.stats().items():
        for kind in ("min", "max", "mean", "std"):
            if name not in ("index", "episode_index"):
                assert merged.stats()[name][kind] == pytest.approx(part[kind], abs=1e-6), name
    lengths = [e.length for e in source.episodes]
    for episode in merged.episodes:
        one = source.episodes[lengths.index(episode.length)]
        camera = source.spec.cameras[0]
        for a, b in zip(merged.images(episode, camera), source.images(one, camera), strict=True):
            assert np.array_equal(a, b), "a video of its own is copied, not encoded again"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["split", "SET", "train", "--out", "OUT"], "'train' is not NAME=SHARE"),
        (["split", "SET", "../x=1", "--out", "OUT"], "no name for a folder"),
        (["split", "SET", "a=0", "--out", "OUT"], "a share above 0"),
        (["split", "SET", "a=0.9", "b=0.9", "--out", "OUT"], "the shares are 1.8 in sum"),
        (["split", "SET", "a=nan", "--out", "OUT"], "a share above 0"),
        (["split", "SET", "a=inf", "--out", "OUT"], "a share above 0"),
        (["split", "SET", "a=0.5", "a=0.5", "--out", "OUT"], "'a' is named twice"),
        (["split", "SET", *(f"p{i}=0.2" for i in range(5)), "--out", "OUT"], "too few for a part"),
        (["visualize", "SET", "--episode", "9"], "no episode 9; there are 4"),
        (["inspect", "OUT"], "no LeRobot data set"),
        (["merge", "SET", "--out", "SET"], "not empty"),
        (["import", "franka-log", "none.npy", "--out", "OUT"], "give --task"),
        (["import", "bridge", "none.tfrecord", "--out", "OUT"], "cannot be read"),
    ],
)
def test_what_cannot_be_done_is_told(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments, says: str
):
    places = {"SET": str(made / "set"), "OUT": str(tmp_path / "out")}
    assert main(["dataset", *(places.get(a, a) for a in arguments)]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["file", "file/below"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["dataset", "merge", "SET", "--out", "OUT"],
        ["dataset", "split", "SET", "a=1", "--out", "OUT"],
        ["convert", "BAG", "--contract", "YAML", "--out", "OUT"],
    ],
)
def test_a_file_where_a_folder_is_to_be_is_told(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments, name: str
):
    (tmp_path / "file").write_text("mine")
    places = {"SET": str(made / "set"), "BAG": str(made / "0.mcap"), "OUT": str(tmp_path / name)}
    places["YAML"] = str(made / "tiny.yaml")
    assert main([places.get(a, a) for a in arguments]) == 4
    assert f"{tmp_path / 'file'} is a file, not a folder" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.shared
def test_a_part_of_a_foreign_video_is_encoded_again(shared_data: Path, tmp_path: Path):
    """Six episodes in one AV1 file."""
    source = Dataset(shared_data / "so101_lerobot_v3")
    arguments = ["a=0.9", "b=0.1", "--out", str(tmp_path)]
    assert main(["dataset", "split", str(source.root), *arguments]) == 0
    part = Dataset(tmp_path / "b")
    assert list(problems(part)) == []
    (episode,), camera = part.episodes, source.spec.cameras[0]
    same = next(e for e in source.episodes if e.length == episode.length)
    seen, wanted = (d.image(e, camera, 50) for d, e in ((part, episode), (source, same)))
    assert np.abs(seen.astype(int) - wanted).mean() < 2


def test_the_page_names_its_videos_beside_itself_and_holds_every_value(made: Path, tmp_path: Path):
    page = tmp_path / "deep" / "episode.html"
    assert main(["dataset", "visualize", str(made / "set"), "--out", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    (source,) = re.findall(r'<video [^>]*src="([^"]+)"', text)
    assert (page.parent / source).resolve().is_file()
    numbers = re.findall(r'data-numbers="([^"]+)">(.*?)</script>', text)
    assert [name for name, _ in numbers] == ["observation.state", "action"]
    assert np.array(json.loads(numbers[0][1])).shape == (10, 3)
    assert demonstrations.TASK in text and "http" not in text
