"""A policy's directory: whole or not there, and never with statistics that are not its own."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from safetensors.torch import save_file  # noqa: E402
from tiny_policies import HORIZON, PROVENANCE, observation, spec, statistics  # noqa: E402

from rynn_brain_ros.values import EngineError, OutputError  # noqa: E402
from rynn_brain_ros.vla import PolicyError, Variant  # noqa: E402
from rynn_brain_ros.vla.checkpoint import (  # noqa: E402
    BACKBONE,
    HEAD,
    POLICY,
    LoadedPolicy,
    load_policy,
    new_policy,
    save_policy,
)

SEEN = observation(1, step="Pick it up.", target=(0.5, 0.0, 0.1))


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny_models import build  # noqa: PLC0415  # its folder is known to tiny_policies

    return build("qwen3_vl", tmp_path_factory.mktemp("tiny"))


def untrained(backbone: Path, variant: Variant = Variant.SMALL_EXPERT) -> LoadedPolicy:
    torch.manual_seed(1)
    return new_policy(backbone, spec(variant), statistics())


@pytest.fixture(scope="module")
def kept(backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved policy. Not to be changed."""
    path = tmp_path_factory.mktemp("kept") / "policy"
    save_policy(untrained(backbone), backbone, path)
    return path


@pytest.fixture
def saved(kept: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(kept, tmp_path / "policy"))


def velocity(policy: LoadedPolicy):
    batch, state = policy.reader.batch([SEEN]), policy.reader.states([SEEN])
    noise = torch.ones(1, HORIZON, 4)
    with torch.no_grad():
        prefix = policy.network.prefix(batch)
        return policy.network.velocity(prefix, state, noise, torch.tensor([0.5]))


@pytest.mark.parametrize("variant", list(Variant))
def test_a_policy_comes_back_as_it_was_saved(backbone: Path, tmp_path: Path, variant: Variant):
    policy = untrained(backbone, variant)
    with torch.no_grad():  # as training would, the backbone too
        for weight in policy.network.parameters():
            weight.mul_(1.01)
    save_policy(policy, backbone, tmp_path / "policy")
    found = load_policy(tmp_path / "policy", PROVENANCE)
    assert (found.spec, found.statistics) == (policy.spec, policy.statistics)
    assert torch.equal(velocity(found), velocity(policy))


def test_the_backbone_is_an_ordinary_checkpoint(kept: Path):
    from rynn_brain_ros.models.local.loading import load  # noqa: PLC0415

    assert load(kept / BACKBONE).checkpoint.kind == "qwen3_vl"


def test_an_existing_folder_is_never_written_over(backbone: Path, saved: Path):
    with pytest.raises(PolicyError, match="exists"):
        save_policy(untrained(backbone), backbone, saved)


def test_a_folder_that_cannot_be_made_is_a_named_error(backbone: Path, tmp_path: Path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        save_policy(untrained(backbone), backbone, blocked / "policy")


def test_nothing_is_left_of_a_policy_that_failed_half_way(backbone: Path, tmp_path: Path):
    policy = untrained(backbone)
    policy.network.tokens.to("meta")  # a head without numbers: the backbone is written before it
    with pytest.raises(NotImplementedError):
        save_policy(policy, backbone, tmp_path / "policy")
    assert list(tmp_path.iterdir()) == []


def rewritten(path: Path, change: Callable[[dict], object]) -> None:
    record = json.loads((path / POLICY).read_text())
    change(record)
    (path / POLICY).write_text(json.dumps(record))


def test_missing_statistics_are_named(saved: Path):
    rewritten(saved, lambda record: record.pop("statistics"))
    with pytest.raises(PolicyError, match="holds no statistics"):
        load_policy(saved)


def test_statistics_of_another_robot_are_named(saved: Path):
    with pytest.raises(PolicyError, match='contract is "toy", here it is "panda"'):
        load_policy(saved, replace(PROVENANCE, contract="panda"))


def test_a_head_beside_other_statistics_is_refused(saved: Path):
    rewritten(saved, lambda record: record["statistics"]["chunk"].update(std=[9.0] * 4))
    with pytest.raises(PolicyError, match="statistics are foreign"):
        load_policy(saved)


def test_the_backbone_of_another_run_is_refused(backbone: Path, saved: Path, tmp_path: Path):
    save_policy(untrained(backbone), backbone, tmp_path / "other")  # alike in every number
    shutil.rmtree(saved / BACKBONE)
    shutil.copytree(tmp_path / "other" / BACKBONE, saved / BACKBONE)
    with pytest.raises(PolicyError, match=r"model.safetensors was not saved with this policy.json"):
        load_policy(saved)


def test_the_head_of_another_run_is_refused(backbone: Path, saved: Path, tmp_path: Path):
    save_policy(untrained(backbone), backbone, tmp_path / "other")
    shutil.copyfile(tmp_path / "other" / HEAD, saved / HEAD)
    with pytest.raises(PolicyError, match=r"was not saved with this policy\.json"):
        load_policy(saved)


def test_a_backbones_file_that_is_broken_is_named(saved: Path):
    (saved / BACKBONE / "model.safetensors").write_bytes(b"{")
    with pytest.raises(PolicyError, match=r"model\.safetensors cannot be read"):
        load_policy(saved)


def test_statistics_of_other_cameras_than_the_networks_are_refused(backbone: Path):
    foreign = replace(statistics(), provenance=replace(PROVENANCE, cameras=("front",)))
    with pytest.raises(PolicyError, match="cameras"):
        new_policy(backbone, spec(Variant.SMALL_EXPERT), foreign)


def test_statistics_without_target_points_are_refused_where_they_are_told(backbone: Path):
    with pytest.raises(PolicyError, match="numbers of the target point 0, the network has 3"):
        new_policy(backbone, spec(Variant.SMALL_EXPERT), statistics(pointed=False))


@pytest.mark.parametrize("name", [POLICY, HEAD])
def test_a_missing_or_broken_file_is_named(saved: Path, name: str):
    (saved / name).write_bytes(b"{")
    with pytest.raises(PolicyError, match=name):
        load_policy(saved)
    (saved / name).unlink()
    with pytest.raises(PolicyError, match=name):
        load_policy(saved)


def test_a_missing_backbone_is_named(saved: Path):
    shutil.rmtree(saved / BACKBONE)
    with pytest.raises(EngineError, match="backbone"):
        load_policy(saved)


def test_a_head_of_another_size_is_refused(saved: Path):
    bound = hashlib.sha256((saved / POLICY).read_bytes()).hexdigest()
    save_file({"place": torch.zeros(2, 2)}, saved / HEAD, metadata={"policy_sha256": bound})
    with pytest.raises(PolicyError, match="does not fit the network"):
        load_policy(saved)


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.update(format=7),
        lambda record: record["spec"].update(variant="diffusion"),
        lambda record: record["spec"].pop("horizon"),
        lambda record: record["spec"].update(horizon=0),
        lambda record: record["spec"].update(unknown=1),
    ],
)
def test_a_specification_that_tells_no_network_is_refused(saved: Path, change):
    rewritten(saved, change)
    with pytest.raises(PolicyError):
        load_policy(saved)
