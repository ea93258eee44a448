"""The policy's trainer, on demonstrations that the project's own writer wrote: a hand that goes in
a straight line to the point that the brain told."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("pyarrow")
pytest.importorskip("av")
pytest.importorskip("matplotlib")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "models"))

from pointing_hands import (  # noqa: E402
    CONTRACT,
    HORIZON,
    LENGTH,
    demonstrate,
    grounding,
    settings,
    small_backbone,
)
from safetensors.torch import load_file  # noqa: E402
from transformers import AutoModelForImageTextToText  # noqa: E402

from rynn_brain_ros.data import contract_from  # noqa: E402
from rynn_brain_ros.models.local.checkpoint import inspect  # noqa: E402
from rynn_brain_ros.values import ConfigError, OutputError, RynnBrainError  # noqa: E402
from rynn_brain_ros.vla import Observation  # noqa: E402
from rynn_brain_ros.vla.actions import IDENTITY_ROT6D, PartKind, rot6d_from_matrix  # noqa: E402
from rynn_brain_ros.vla.aiming import Aim  # noqa: E402
from rynn_brain_ros.vla.checkpoint import load_policy  # noqa: E402
from rynn_brain_ros.vla.demonstrations import (  # noqa: E402
    Collator,
    Demonstrations,
    Key,
    Shown,
)
from rynn_brain_ros.vla.expert import Seen  # noqa: E402
from rynn_brain_ros.vla.flow import flow_loss  # noqa: E402
from rynn_brain_ros.vla.guidance import CheckpointPolicy  # noqa: E402
from rynn_brain_ros.vla.normalization import load_statistics, provenance_of  # noqa: E402
from rynn_brain_ros.vla.values import PolicyError  # noqa: E402
from training.keeping import KeptSeeing  # noqa: E402
from training.train import (  # noqa: E402
    Config,
    FlowLoss,
    Plan,
    Processes,
    Run,
    _moments,
    averaged,
    config_of,
    distance,
    evaluate,
    rate,
    read_config,
    save_state,
)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_backbone(tmp_path_factory.mktemp("backbone"))


@pytest.fixture(scope="module")
def demonstrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demonstrate(tmp_path_factory.mktemp("data") / "set", 6)


def kept(out: Path) -> dict[str, Any]:
    path = max(out.glob("step-*"))
    return {f"{n}/{k}": v for n in ("weights", "average") for k, v in _tensors(path, n).items()}


def _tensors(path: Path, name: str) -> dict[str, Any]:
    return load_file(path / f"{name}.safetensors")


def curve(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "curve.jsonl").read_text().splitlines()]


def without_times(line: dict[str, float]) -> dict[str, float]:
    return {k: v for k, v in line.items() if k not in ("samples_per_s", "waited_for_data")}


@pytest.mark.slow
def test_a_policy_learns_where_to_go_and_does_not_know_it_when_it_is_withheld(
    tmp_path: Path, backbone: Path
):
    many = demonstrate(tmp_path / "many", 60)
    changes = {"steps": 180, "batch": 32, "evaluate_every": 1000, "save_every": 1000}
    rates = {"optimizer__lr": 4e-3, "optimizer__ema": 0.97, "optimizer__warmup": 20}
    config = settings(
        tmp_path / "run", backbone, many, evaluate_samples=40, log_every=60, **changes, **rates
    )
    made = Run(config).train()
    ends = curve(tmp_path / "run")[-1]
    assert ends["position_m/told"] < 0.08
    assert ends["position_m/told"] < ends["position_m/withheld"] / 1.5
    assert ends["position_m/told"] < ends["position_m/still"] / 2
    assert made is not None
    policy = load_policy(made, provenance_of(contract_from(CONTRACT)))
    state, target = np.array([0.5, 0.0, 0.4, 1.0]), (0.6, 0.2, 0.05)
    images = {"front": np.zeros((32, 48, 3), np.uint8)}
    asked = Observation(images, state, "pick up the red cube", "Pick up the cube.", target)
    chunk = CheckpointPolicy(policy).infer(asked)
    assert np.dot(chunk[-1, :3] - state[:3], target - state[:3]) > 0


def test_a_run_that_was_killed_goes_on_to_the_same_numbers(
    tmp_path: Path, backbone: Path, demonstrated: Path
):
    at_once, in_two = tmp_path / "at-once", tmp_path / "in-two"
    Run(settings(at_once, backbone, demonstrated, log_every=4)).train()
    assert Run(settings(in_two, backbone, demonstrated, log_every=4)).train(until=5) is None
    assert [path.name for path in in_two.glob("step-*")] == ["step-000003"]
    resumed = Run(settings(in_two, backbone, demonstrated, log_every=4))
    assert resumed.first == 3
    assert resumed.train() == in_two / "policy-000006"
    one, other = kept(at_once), kept(in_two)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    told = [[without_times(line) for line in curve(run)] for run in (at_once, in_two)]
    assert told[0] == told[1], "steps that were taken again are told once"
    assert [line["step"] for line in told[0]] == [4, 6, 6], "the last is of held-out chunks"


def test_a_gradient_that_is_not_finite_changes_nothing_and_what_was_kept_stays(
    tmp_path: Path, backbone: Path, demonstrated: Path
):
    run = Run(settings(tmp_path, backbone, demonstrated, save_every=1))
    run.train(until=2)
    run = Run(settings(tmp_path, backbone, demonstrated, save_every=1))
    weights = {name: w.detach().clone() for name, w in run.weights.items()}
    next(iter(run.weights.values())).register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(PolicyError, match=r"the gradient of step 3 is (nan|inf): lower optimizer"):
        run.train()
    assert all(torch.equal(run.weights[name], weight) for name, weight in weights.items())
    assert [path.name for path in tmp_path.glob("step-*")] == ["step-000002"]
    assert Run(settings(tmp_path, backbone, demonstrated, save_every=1)).first == 2


def test_weights_that_are_not_finite_never_replace_those_that_were_kept(
    tmp_path: Path, backbone: Path, demonstrated: Path
):
    run = Run(settings(tmp_path, backbone, demonstrated, save_every=1))
    run.train(until=1)
    name = next(iter(run.average))
    run.average[name].fill_(torch.nan)
    with pytest.raises(PolicyError, match=f"average/{name} is not finite at step 2.*step-000001"):
        save_state(tmp_path, 2, run._state(), run.optimizer)
    assert [path.name for path in tmp_path.glob("*step-*")] == ["step-000001"]


def test_the_optimizers_state_is_read_the_same_for_a_gpu(
    tmp_path: Path, backbone: Path, demonstrated: Path
):
    Run(settings(tmp_path, backbone, demonstrated, steps=1)).train()
    path = tmp_path / "step-000001" / "optimizer.pt"
    copied, shared = (_moments(path, on_gpu=on_gpu) for on_gpu in (False, True))
    assert copied["param_groups"] == shared["param_groups"]
    for number, told in copied["state"].items():
        assert all(torch.equal(shared["state"][number][name], told[name]) for name in told)


def test_an_older_step_is_removed_only_when_the_newer_one_is_on_the_disk(
    tmp_path: Path, backbone: Path, demonstrated: Path, monkeypatch: pytest.MonkeyPatch
):
    run = Run(settings(tmp_path, backbone, demonstrated, steps=2, save_every=1))
    to_disk, flushed = os.fsync, list[tuple[str, set[str]]]()

    def noted(number: int) -> None:
        there = {path.name for path in tmp_path.glob("step-*")}
        flushed.append((Path(f"/proc/self/fd/{number}").readlink().name, there))
        to_disk(number)

    monkeypatch.setattr(os, "fsync", noted)
    run.train()
    second = flushed[len(flushed) // 2 :]
    names = [name for name, _ in second]
    assert names[-2:] == [".step-000002.partial", tmp_path.name]
    assert {"weights.safetensors", "average.safetensors", "optimizer.pt"} < set(names)
    assert second[-1][1] == {"step-000001", "step-000002"}
    assert [path.name for path in tmp_path.glob("step-*")] == ["step-000002"]


def test_a_policy_that_was_half_written_by_a_killed_process_goes(
    tmp_path: Path, backbone: Path, demonstrated: Path
):
    half = tmp_path / ".policy-000001.4711.partial" / "backbone"
    half.mkdir(parents=True)
    (half / "model.safetensors").write_bytes(b"half")
    Run(settings(tmp_path, backbone, demonstrated, steps=1)).train()
    assert [path.name for path in tmp_path.glob("*policy-*")] == ["policy-000001"]


def test_a_run_goes_on_only_as_it_was_begun(tmp_path: Path, backbone: Path, demonstrated: Path):
    with pytest.raises(RynnBrainError):  # before the first step: the folder stays free
        Run(settings(tmp_path, tmp_path / "no-backbone", demonstrated))
    Run(settings(tmp_path, backbone, demonstrated)).train(until=3)
    with pytest.raises(ConfigError, match=r"begun with optimizer.lr=0.0003, not optimizer.lr=0.01"):
        Run(settings(tmp_path, backbone, demonstrated, optimizer__lr=0.01))
    demonstrate(demonstrated.parent / "more", 1, seed=9)
    more = (str(demonstrated), str(demonstrated.parent / "more"))
    with pytest.raises(ConfigError, match="n_frames"):
        Run(settings(tmp_path, backbone, demonstrated, data__sets=more))
    assert Run(settings(tmp_path, backbone, demonstrated, steps=3)).train() is not None
    with pytest.raises(ConfigError, match=r"is at step 3, behind steps=2"):
        Run(settings(tmp_path, backbone, demonstrated, steps=2))


def test_the_policy_of_an_earlier_run_is_not_named_as_another_ones(
    tmp_path: Path, backbone: Path, demonstrated: Path
):
    Run(settings(tmp_path, backbone, demonstrated, steps=1)).train()
    shutil.rmtree(tmp_path / "step-000001")
    with pytest.raises(ConfigError, match="holds the policy of an earlier run: choose another out"):
        Run(settings(tmp_path, backbone, demonstrated, steps=1, optimizer__lr=0.01))


def test_a_run_without_a_backbone_is_refused_before_data_are_read(tmp_path: Path):
    with pytest.raises(ConfigError, match="backbone=FOLDER: name a checkpoint"):
        Run(Config(out=str(tmp_path)))


@pytest.mark.parametrize("device", ["foo", "meta", "cuda:99"])
def test_a_device_that_is_not_there_is_refused_before_data_are_read(tmp_path: Path, device: str):
    with pytest.raises(ConfigError, match=f"device={device} is not there: this torch has cpu"):
        Run(Config(backbone="any", out=str(tmp_path), device=device))


def test_a_file_in_the_folders_place_is_told(tmp_path: Path, backbone: Path, demonstrated: Path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(OutputError, match=f"out={out} cannot be made: .*; name a folder"):
            Run(settings(out, backbone, demonstrated))


def test_two_processes_learn_what_one_does(tmp_path: Path, backbone: Path, demonstrated: Path):
    pytest.importorskip("accelerate")
    alone, together = tmp_path / "alone", tmp_path / "together"
    changes = {"policy__variant": "single_stream", "backbone_learns": "language", "steps": 3}
    Run(settings(alone, backbone, demonstrated, **changes)).train()
    config = settings(together, backbone, demonstrated, accumulate=2, **changes)
    torch.multiprocessing.spawn(_one_of_two, (config,), nprocs=2)
    one, other = kept(alone), kept(together)
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(other[name], one[name], rtol=1e-3, atol=2e-5)
    assert curve(together)[0]["loss"] == pytest.approx(curve(alone)[0]["loss"], rel=1e-5)


@pytest.mark.parametrize("kind", ["FSDP", "DEEPSPEED", "MEGATRON_LM", "PARALLELISM_CONFIG"])
def test_weights_that_accelerate_would_divide_are_refused(
    monkeypatch: pytest.MonkeyPatch, kind: str
):
    pytest.importorskip("accelerate")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv(f"ACCELERATE_USE_{kind}", "true")
    with pytest.raises(
        ConfigError, match=f"configured for {kind}, .*--multi_gpu, or with torchrun"
    ):
        Processes("cpu")


def _one_of_two(rank: int, config: Config) -> None:
    torch.set_num_threads(1)
    here = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": 29517}
    here["ACCELERATE_MIXED_PRECISION"] = "bf16"  # a run's precision is its own setting
    os.environ |= {"MASTER_ADDR": "127.0.0.1", **{key: str(value) for key, value in here.items()}}
    Run(config).train()


@pytest.mark.parametrize(
    ("variant", "draws"), [("single_stream", 1), ("small_expert", 1), ("small_expert", 3)]
)
def test_the_loss_is_that_of_flow_matching(
    tmp_path: Path, backbone: Path, demonstrated: Path, variant: str, draws: int
):
    changes = {
        "policy__variant": variant,
        "draws": draws,
        "data__learn_padding": True,
        "log_every": 1,
    }
    run = Run(settings(tmp_path, backbone, demonstrated, **changes))
    network, dice = run.policy.network, torch.Generator().manual_seed(3 << 32)
    shown = next(run.batches(1))
    prefix = network.prefix(shown.seen).repeated(draws)
    state, chunk = (part.repeat_interleave(draws, 0) for part in (shown.state, shown.chunk))

    def velocity(x_t: Any, t: Any) -> Any:
        return network.velocity(prefix, state, x_t, t)

    with torch.no_grad():
        wanted = flow_loss(velocity, chunk, generator=dice)
        drawn = (values.flatten(0, 1) for values in run.plan.noise(0))
        found = FlowLoss(network)(shown, *drawn) / (4 * draws * shown.counts.sum())
    assert float(found) == pytest.approx(float(wanted), rel=1e-4)
    run.train(until=1)
    assert curve(tmp_path)[0]["loss"] == pytest.approx(float(wanted), rel=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "bf16"},
        {"policy__variant": "single_stream", "backbone_learns": "everything", "precision": "bf16"},
        {
            "policy__variant": "single_stream",
            "backbone_learns": "language",
            "gradient_checkpointing": True,
        },
    ],
)
def test_other_ways_to_train_learn_what_they_say(
    tmp_path: Path, backbone: Path, demonstrated: Path, changes: dict[str, Any]
):
    before = load_file(backbone / "model.safetensors")
    made = Run(settings(tmp_path, backbone, demonstrated, steps=2, **changes)).train()
    assert made is not None
    after = load_policy(made).network.vlm.state_dict()
    moved = {key for key, value in before.items() if not torch.equal(after[key].float(), value)}
    learns = changes.get("backbone_learns", "nothing")
    assert any("language_model" in key for key in moved) == (learns != "nothing")
    assert any("visual" in key for key in moved) == (learns == "everything")


@pytest.mark.parametrize(
    ("stored", "changes", "written"),
    [
        ("bfloat16", {}, "BF16"),
        ("float16", {}, "F16"),
        ("float32", {}, "F32"),
        ("bfloat16", {"backbone_learns": "language"}, "F32"),
        ("float32", {"backbone_learns": "language", "precision": "bf16"}, "BF16"),
    ],
)
def test_a_backbone_is_written_as_it_came_and_not_in_the_bits_that_it_learned_in(
    tmp_path: Path, demonstrated: Path, stored: str, changes: dict[str, Any], written: str
):
    came = small_backbone(tmp_path / "backbone")
    model = AutoModelForImageTextToText.from_pretrained(came, dtype=getattr(torch, stored))
    model.save_pretrained(came)
    if changes:
        changes = {"policy__variant": "single_stream", **changes}
    run = Run(settings(tmp_path / "run", came, demonstrated, steps=1, **changes))
    made = run.train()
    assert made is not None
    assert inspect(made / "backbone").dtype == written
    assert {weight.dtype for weight in run.policy.network.parameters()} == {torch.float32}
    if not changes:
        before, after = (_tensors(folder, "model") for folder in (came, made / "backbone"))
        assert all(torch.equal(after[name], weight) for name, weight in before.items())


@pytest.mark.parametrize(
    ("precision", "checkpointing"), [("fp32", False), ("bf16", True)], ids=["fp32", "bf16"]
)
def test_adapters_learn_go_on_and_become_part_of_an_ordinary_policy(
    tmp_path: Path, backbone: Path, demonstrated: Path, precision: str, checkpointing: bool
):
    pytest.importorskip("peft")
    changes = {"policy__variant": "single_stream", "backbone_learns": "lora"}
    changes |= {"precision": precision, "gradient_checkpointing": checkpointing, "steps": 4}
    rates = {"optimizer__backbone_lr": 1e-2, "optimizer__ema": 0.5}
    config = settings(tmp_path, backbone, demonstrated, **changes, **rates)
    Run(config).train(until=3)
    resumed = Run(config)
    assert resumed.first == 3
    made = resumed.train()
    assert made is not None
    policy, before = load_policy(made), load_file(backbone / "model.safetensors")
    after = policy.network.vlm.state_dict()
    assert after.keys() >= before.keys(), "an ordinary checkpoint"
    text = "model.language_model.layers.0.self_attn.q_proj.weight"
    moved = {
        key for key, value in before.items() if (after[key].float() - value).abs().max() > 0.01
    }
    assert text in moved
    assert not any("visual" in key for key in moved)

    unmerged = Run(config)
    seen = [unmerged.data[key].observation for key in unmerged.held_out[:3]]
    shape = (3, HORIZON, policy.spec.n_dims)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    unmerged.policy.network.eval()
    with averaged(unmerged.weights, unmerged.average):
        told = unmerged.policy.sampled(seen, noise)
    tolerance = 1e-4 if precision == "fp32" else 0.05
    np.testing.assert_allclose(policy.sampled(seen, noise), told, atol=tolerance)


@pytest.mark.parametrize("seen_mib", [64, 0.2])
def test_what_the_backbone_saw_is_kept_and_the_same_is_learned(
    tmp_path: Path, backbone: Path, demonstrated: Path, seen_mib: float
):
    run = Run(settings(tmp_path, backbone, demonstrated, data__withhold=0.5))
    collate = Collator(run.policy.reader, run.policy.statistics)
    keys = [key for step in range(8) for key in run.plan.keys(step)][:60]
    memory = KeptSeeing(run.policy.network, run.data, collate, seen_mib)
    first, again = memory.shown(keys), memory.shown(keys[::-1])
    assert all(torch.equal(a.flip(0), b) for a, b in zip(parts(first), parts(again), strict=True))
    assert (memory.n_kept == len(set(keys))) == (seen_mib == 64), memory.n_kept
    assert memory.n_kept
    times, noise = (drawn[:, 0] for drawn in run.plan.noise(0))
    at_once = collate([run.data[key] for key in keys[:8]])
    losses = [
        FlowLoss(run.policy.network)(shown, times, noise)
        for shown in (memory.shown(keys[:8]), at_once)
    ]
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=2e-3)


def test_states_beyond_half_precision_are_kept_finite_and_the_same_beside_others(
    tmp_path: Path, backbone: Path, demonstrated: Path
):
    run = Run(settings(tmp_path, backbone, demonstrated))
    network, row = run.policy.network, iter(range(2))

    def grow_first(_: Any, __: Any, embeds: Any) -> Any:
        return embeds * (1e7 if next(row) == 0 else 1)

    network.vlm.get_input_embeddings().register_forward_hook(grow_first)
    collate = Collator(run.policy.reader, run.policy.statistics)
    memory = KeptSeeing(network, run.data, collate, 64)
    large, small = run.learned[0], run.learned[-1]
    alone = [memory.shown([key]).seen.hidden[0] for key in (large, small)]
    assert [layer.dtype for layer in alone] == [torch.bfloat16, torch.float16]
    assert float(alone[0].abs().max()) > 65504
    together = memory.shown([large, small]).seen.hidden[0]
    assert torch.isfinite(together).all()
    for beside, layer in zip(together, alone, strict=True):
        assert torch.equal(beside[: layer.shape[1]], layer[0].float())


def parts(shown: Shown[Seen]) -> list[Any]:
    seen = shown.seen
    return [*seen.hidden, seen.told, seen.target, shown.state, shown.chunk, shown.counts]


def test_a_jittered_state_leads_back_to_the_same_actions(tmp_path: Path, backbone: Path):
    demonstrated = demonstrate(tmp_path / "set", 3)
    run = Run(
        settings(tmp_path / "run", backbone, demonstrated, data__state_noise=0.1, data__stride=2)
    )
    assert {key.row % 2 for key in run.learned} == {0}
    keys, others = run.plan.keys(0), run.plan.keys(1)
    assert all(key.jitter for key in keys)
    assert not {key.jitter for key in keys} & {key.jitter for key in others}
    statistics = run.policy.statistics
    collate = Collator(run.policy.reader, statistics, state_noise=0.1)
    state, chunk, _ = collate.numbers([run.data[key] for key in keys])
    still = [replace(key, jitter=0) for key in keys]
    measured, demonstrated_chunk, _ = collate.numbers([run.data[key] for key in still])
    spread = float((state - measured).std())
    assert 0.005 < spread < 0.1, spread
    states = statistics.state.restored(state.double().numpy())
    actions = np.stack([run.data[key].actions for key in keys])
    told = statistics.chunk_out(chunk.double().numpy(), states)
    assert told == pytest.approx(actions, abs=1e-5)
    assert not torch.allclose(chunk, demonstrated_chunk, atol=0.01)


def test_states_are_jittered_by_much_and_by_little(tmp_path: Path, backbone: Path):
    run = Run(settings(tmp_path / "run", backbone, demonstrate(tmp_path / "set", 3)))
    collate = Collator(run.policy.reader, run.policy.statistics, state_noise=0.1)
    key = run.learned[0]
    states = collate.numbers([run.data[replace(key, jitter=i)] for i in range(401)])[0]
    off = (states[1:] - states[0]).norm(dim=1) / states.shape[1] ** 0.5
    assert 0.08 < off.max() < 0.3
    assert (off < 0.01).sum() > 50


def test_a_run_that_keeps_what_was_seen_goes_on_to_the_same_numbers(
    tmp_path: Path, backbone: Path, demonstrated: Path
):
    at_once, in_two = tmp_path / "at-once", tmp_path / "in-two"
    changes = {"data__seen_mib": 64, "data__state_noise": 0.05}
    Run(settings(at_once, backbone, demonstrated, **changes)).train()
    Run(settings(in_two, backbone, demonstrated, **changes)).train(until=3)
    Run(settings(in_two, backbone, demonstrated, **changes)).train()
    now = kept(in_two)
    assert all(torch.equal(value, now[key]) for key, value in kept(at_once).items())


def test_every_sample_is_shown_once_in_an_epoch_to_whichever_process(backbone: Path):
    config = settings(Path("run"), backbone, Path("set"), batch=6, data__withhold=0.3)
    keys = [Key(0, row) for row in range(30)]
    plan = Plan(config, keys, (HORIZON, 4))
    shown = [key for step in range(20) for key in plan.keys(step)]
    assert sorted(key.row for key in shown[:30]) == list(range(30))
    assert [key.row for key in shown[:30]] != [key.row for key in shown[30:60]]
    assert 0.15 < np.mean([key.withheld for key in shown]) < 0.45
    assert shown == [key for step in range(20) for key in Plan(config, keys, (1, 1)).keys(step)]


def test_a_chunk_past_the_end_repeats_the_last_action_and_does_not_count(demonstrated: Path):
    data = Demonstrations([demonstrated], HORIZON, (32, 64))
    last = data[Key(0, LENGTH - 2)]
    assert last.real.tolist() == [True, True, False, False, False, False]
    assert np.array_equal(last.actions[2:], last.actions[[1, 1, 1, 1]])
    assert data.statistics([Key(0, LENGTH - 2)]).chunk.count == 2
    learning = Demonstrations([demonstrated], HORIZON, (32, 64), learn_padding=True)
    assert learning[Key(0, LENGTH - 2)].real.all()
    assert learning.statistics([Key(0, LENGTH - 2)]).chunk.count == HORIZON


def test_a_chunk_may_end_with_the_brains_step_and_teaches_to_stay(demonstrated: Path):
    data = Demonstrations([demonstrated], HORIZON, (32, 64), stay_after_step=True)
    before = Key(0, 0)  # the brain's first step is told at row 1
    assert np.array_equal(data[before].actions, np.repeat(data[before].actions[:1], HORIZON, 0))
    assert data[before].real.all()
    assert data.statistics([before]).chunk.count == HORIZON
    untold = data[replace(before, withheld=True)]
    within = Demonstrations([demonstrated], HORIZON, (32, 64))[before]
    assert np.array_equal(untold.actions, within.actions)
    assert data[Key(0, LENGTH - 2)].real.tolist() == [True, True, False, False, False, False]


def test_held_out_episodes_are_whole_and_follow_the_seed(demonstrated: Path):
    data = Demonstrations([demonstrated], HORIZON, (32, 64))
    learned, held_out = data.division(0.34, seed=1)
    of = {key.episode for key in held_out}
    assert len(of) == 2
    assert not of & {key.episode for key in learned}
    assert len(learned) + len(held_out) == 6 * LENGTH
    assert any({key.episode for key in data.division(0.34, seed)[1]} != of for seed in range(2, 6))


def test_held_out_episodes_can_be_chosen_by_number(demonstrated: Path):
    data = Demonstrations([demonstrated], HORIZON, (32, 64))
    learned, held_out = data.division(0.34, 1, chosen=(4, 1))
    assert [key.episode for key in held_out] == [1] * LENGTH + [4] * LENGTH
    assert {key.episode for key in learned} == {0, 2, 3, 5}
    with pytest.raises(PolicyError, match=r"held_out_episodes holds 6; episodes are 0 to 5"):
        data.division(0.34, 1, chosen=(6,))
    with pytest.raises(PolicyError, match=r"6 episodes, 6 of them held out"):
        data.division(0.0, 1, chosen=range(6))


def test_statistics_are_of_the_frames_that_are_learned(
    tmp_path: Path, backbone: Path, demonstrated: Path
):
    run = Run(settings(tmp_path, backbone, demonstrated))
    found = load_statistics(tmp_path / "statistics.json")
    states = [run.data[key].observation.state for key in run.learned]
    assert found.state.mean == pytest.approx(np.mean(states, axis=0))
    assert found.target is not None
    assert found.aim == Aim(3, frame="base")
    assert found.target.count == 4 * (LENGTH - 1)  # nothing is told in an episode's first frame


def test_what_is_withheld_is_neither_in_the_words_nor_in_the_numbers(demonstrated: Path):
    data = Demonstrations([demonstrated], HORIZON, (32, 64), target="metres", target_frame="base")
    told, withheld = (data[Key(0, 3, withheld)].observation for withheld in (False, True))
    assert (told.step, len(told.target_point)) == ("Pick up the cube.", 3)
    assert (withheld.step, withheld.target_point) == ("", ())


def test_the_target_is_where_the_hand_goes_and_not_what_it_holds():
    held = {"kind": 1, "camera": "/front/image_raw", "points": [[0, 0], [100, 200]]}
    area = {"kind": 2, "camera": "/front/image_raw", "points": [[600, 700], [620, 720]]}
    image = Aim(2, camera="/front/image_raw")
    assert image.point(json.dumps([held, area])) == (610, 710)
    assert image.point(json.dumps([held])) == (50, 100)
    assert Aim(2, camera="/wrist/image_raw").point(json.dumps([held, area])) == ()
    assert Aim(3, frame="base").point(json.dumps([area])) == ()  # could not be lifted
    with pytest.raises(PolicyError, match=r"data.target_frame=odom"):
        Aim(3, frame="base").point(grounding(np.zeros(3), frame="odom"))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"data__sets": ()}, "no data sets"),
        ({"data__held_out": 0.0, "accumulate": 3}, "batch=8 cannot be divided"),
        ({"backbone_learns": "language"}, "no gradient reaches the backbone of a small_expert"),
        ({"gradient_checkpointing": True}, "no gradient reaches the backbone of a small_expert"),
        ({"policy__variant": "single_stream", "draws": 2}, "set draws=1"),
        ({"policy__variant": "single_stream", "data__seen_mib": 1}, "set data.seen_mib=0"),
        ({"data__target_frame": "odom"}, "data.target_frame=base"),
        ({"wandb": "mine"}, "pip install wandb"),
        (
            {"backbone_learns": "lora", "policy__variant": "single_stream"},
            "pip install peft",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_by_name(
    tmp_path: Path, backbone: Path, demonstrated: Path, changes: dict[str, Any], named: str,
    *, monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    for missing in ("wandb", "peft"):
        monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(RynnBrainError, match=named):
        Run(settings(tmp_path, backbone, demonstrated, **changes)).train()


def test_data_sets_of_different_contracts_are_not_mixed(tmp_path: Path, demonstrated: Path):
    other = demonstrate(tmp_path / "other", 1, CONTRACT.replace("pointer", "prodder"))
    with pytest.raises(PolicyError, match=r"different contracts: contract is prodder and pointer"):
        Demonstrations([demonstrated, other], HORIZON, (32, 64))
    (other / "meta/rynn_brain/contract.yaml").write_text(
        CONTRACT.replace("[position.x, position.y", "[position.y, position.x")
    )
    with pytest.raises(PolicyError, match=r"other does not follow its contract: .*says position.y"):
        Demonstrations([other], HORIZON, (32, 64))
    (other / "meta/rynn_brain/contract.yaml").unlink()
    with pytest.raises(PolicyError, match=r"name the one .* with data.contract"):
        Demonstrations([other], HORIZON, (32, 64))


def test_settings_come_from_the_file_then_from_the_command(tmp_path: Path):
    path = tmp_path / "run.yaml"
    path.write_text("steps: 10\noptimizer: {lr: 1e-4, clip: 2}\n")
    config = read_config(path, ["optimizer.lr=5e-5", "data.sets=[a, b]", "precision=bf16"])
    assert (config.steps, config.optimizer.lr, config.optimizer.clip) == (10, 5e-5, 2.0)
    assert (config.data.sets, config.precision) == (("a", "b"), "bf16")
    assert read_config(path, ["data.sets=a"]).data.sets == ("a",)


@pytest.mark.parametrize(
    ("told", "named"),
    [
        ("optimizer.lrr=1", "unknown setting 'optimizer.lrr': did you mean 'optimizer.lr'"),
        ("lr=1", "unknown setting 'lr': did you mean 'optimizer.lr'"),
        ("optimizer.lr=fast", "optimizer.*'lr' is 'fast'"),
        ("precision=fp8", "must be one of fp32, bf16"),
        ("steps", "'steps' is no setting: write key=value"),
        ("policy.image_size=[32.0, 64.0]", r"'policy.image_size' is \[32.0, 64.0\].* type int"),
        ("policy.image_size=[a, b]", "'policy.image_size' is .* type int"),
        ("data.sets=[1]", "'data.sets' is .* type str"),
        ("data.held_out_episodes=[a]", "'data.held_out_episodes' is .* type int"),
    ],
)
def test_a_setting_that_is_none_is_refused_with_the_nearest(tmp_path: Path, told: str, named: str):
    (tmp_path / "run.yaml").write_text("steps: 10\n")
    with pytest.raises(ConfigError, match=named):
        read_config(tmp_path / "run.yaml", [told])


def test_the_learning_rate_warms_up_and_falls_along_a_cosine():
    config = config_of({"steps": 100, "optimizer.warmup": 10, "optimizer.last": 0.1})
    rates = [rate(step, config) for step in range(101)]
    assert rates[0] == pytest.approx(0.1, rel=1e-3)
    assert max(rates) == rates[9]
    assert rates[50] == pytest.approx(0.55)
    assert rates[100] == pytest.approx(0.1)


def test_who_is_not_told_the_step_is_not_asked_to_know_its_end(
    tmp_path: Path, backbone: Path, demonstrated: Path
):
    run = Run(settings(tmp_path, backbone, demonstrated))
    options = {"target": "metres", "target_frame": "base"}
    whole, cut = (
        Demonstrations([demonstrated], HORIZON, (32, 64), stay_after_step=stays, **options)
        for stays in (False, True)
    )
    before = [Key(episode, 0) for episode in range(6)]  # the brain's step is told at row 1
    one, other = (
        evaluate(run.policy, data, before, run.config, tmp_path / "chunks.png")
        for data in (whole, cut)
    )
    assert one["position_m/withheld"] == other["position_m/withheld"]
    assert one["position_m/still"] > other["position_m/still"]
    assert one["position_m/told"] != other["position_m/told"]


def test_errors_are_told_in_the_units_of_their_part():
    turned = rot6d_from_matrix([[[0, -1, 0], [1, 0, 0], [0, 0, 1]]])
    assert distance(PartKind.ROT6D, turned, np.array([IDENTITY_ROT6D])) == pytest.approx([90])
    one, other = np.array([[0.0, 0.0, 0.0]]), np.array([[3.0, -4.0, 0.0]])
    assert distance(PartKind.POSITION, one, other).tolist() == [5]
    assert distance(PartKind.JOINTS, one, other).tolist() == [4]


CONFIGS = Path(__file__).resolve().parents[2] / "training" / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_configurations_that_come_along_can_be_read(path: Path):
    data = read_config(path).data
    assert bool(data.target_frame) == (data.target == "metres")
