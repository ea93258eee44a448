"""The policy inside LeRobot's own training, evaluation and policy server, and its folders outside
of them. On demonstrations that the project's writer wrote, around a tiny random backbone."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

for needed in ("torch", "transformers", "pyarrow", "av"):
    pytest.importorskip(needed)
for needed in ("lerobot", "lerobot_policy_rynnbrain"):
    pytest.importorskip(needed, reason=f"{needed} is not installed: training/lerobot_policy")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "models"))

import grpc  # noqa: E402
import torch  # noqa: E402
from lerobot.async_inference.configs import PolicyServerConfig  # noqa: E402
from lerobot.async_inference.helpers import RemotePolicyConfig, TimedObservation  # noqa: E402
from lerobot.configs.policies import PreTrainedConfig  # noqa: E402
from lerobot.datasets.lerobot_dataset import (  # noqa: E402
    LeRobotDataset,
    LeRobotDatasetMetadata,
)
from lerobot.policies.factory import get_policy_class, make_policy  # noqa: E402
from lerobot.scripts import lerobot_eval, lerobot_train  # noqa: E402
from lerobot.transport import services_pb2, services_pb2_grpc  # noqa: E402
from lerobot.transport.utils import send_bytes_in_chunks  # noqa: E402
from lerobot_policy_rynnbrain.__main__ import main as add_lerobot_files  # noqa: E402
from lerobot_policy_rynnbrain.observations import STEP, TARGET_POINT  # noqa: E402
from pointer_environment import N_STEPS as N_MOVES  # noqa: E402
from test_policy_training import HORIZON, LENGTH, SMALL, demonstrate, settings  # noqa: E402
from tiny_models import build  # noqa: E402
from torch.utils.data import default_collate  # noqa: E402

from rynn_brain_ros.values import EngineError  # noqa: E402
from rynn_brain_ros.vla import Observation, Variant  # noqa: E402
from rynn_brain_ros.vla.checkpoint import load_policy  # noqa: E402
from rynn_brain_ros.vla.demonstrations import Collator, Demonstrations, Key  # noqa: E402
from rynn_brain_ros.vla.flow import sample_times  # noqa: E402
from rynn_brain_ros.vla.guidance import CheckpointPolicy  # noqa: E402
from rynn_brain_ros.vla.values import PolicyError  # noqa: E402
from training.train import FlowLoss, Run  # noqa: E402

N_STEPS = 40
STATE = np.array([0.5, 0.0, 0.4, 1.0], np.float32)
PIXELS = np.random.default_rng(5).integers(0, 255, (32, 48, 3), np.uint8)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    vision = {"out_hidden_size": 64, "hidden_size": 48, "intermediate_size": 64, "depth": 2}
    folder = tmp_path_factory.mktemp("backbone")
    return build("qwen3_vl", folder, vision=vision, num_attention_heads=2, **SMALL)


@pytest.fixture(scope="module")
def demonstrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demonstrate(tmp_path_factory.mktemp("data") / "set", 4)


def command(main: Callable[[], Any], *arguments: object) -> None:
    """As its console script is called, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["lerobot", *map(str, arguments)])
        main()


def of_training(demonstrated: Path, out: Path, n_steps: int = N_STEPS) -> list[str]:
    told = {
        **{"dataset.repo_id": "pointer", "dataset.root": demonstrated, "output_dir": out},
        **{"dataset.video_backend": "pyav", "num_workers": 0, "batch_size": 8, "steps": n_steps},
        **{"save_freq": n_steps, "log_freq": N_STEPS // 4, "policy.device": "cpu"},
    }
    return [f"--{key}={value}" for key, value in told.items()]


def of_a_new_policy(backbone: Path, **changes: Any) -> list[str]:
    told = {
        **{"type": "rynnbrain", "backbone": backbone, "chunk_size": HORIZON, "n_action_steps": 4},
        **{"image_size": "[32,64]", "expert_layers": 2, "expert_width": 64, "expert_heads": 4},
        **{"target": "metres", "target_frame": "base", "optimizer_lr": 4e-3, **changes},
    }
    return [f"--policy.{key}={value}" for key, value in told.items()]


@pytest.fixture(scope="module")
def run(
    tmp_path_factory: pytest.TempPathFactory, backbone: Path, demonstrated: Path
) -> tuple[Path, str]:
    """The folder of a run of ``lerobot-train``, and what it said."""
    out = tmp_path_factory.mktemp("lerobot") / "run"
    script = Path(sys.executable).with_name("lerobot-train")
    told = subprocess.run(
        [script, *of_training(demonstrated, out), *of_a_new_policy(backbone)],
        check=True,
        capture_output=True,
        text=True,
    )
    return out, told.stdout + told.stderr


@pytest.fixture
def trained(run: tuple[Path, str]) -> Path:
    """The policy's folder."""
    return run[0] / "checkpoints/last/pretrained_model"


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory, backbone: Path, demonstrated: Path) -> Path:
    """A policy of the project's own trainer."""
    out = tmp_path_factory.mktemp("ours")
    made = Run(settings(out / "run", backbone, demonstrated, steps=2)).train()
    assert made is not None
    return made


def noise(n: int = 1) -> torch.Tensor:
    return torch.randn((n, HORIZON, 4), generator=torch.Generator().manual_seed(0))


def batch(**changes: Any) -> dict[str, Any]:
    """As LeRobot's preprocessor gives it, of one observation."""
    picture = torch.from_numpy(PIXELS).permute(2, 0, 1)[None].float() / 255
    state = torch.from_numpy(STATE)[None]
    told = {"observation.images.front": picture, "observation.state": state}
    return {**told, "task": ["pick up the red cube"], **changes}


def seen(**changes: Any) -> Observation:
    return Observation({"front": PIXELS}, STATE, "pick up the red cube", **changes)


def opened(folder: Path, **changes: Any) -> Any:
    return get_policy_class("rynnbrain").from_pretrained(folder, **changes)


def meta(root: Path) -> LeRobotDatasetMetadata:
    return LeRobotDatasetMetadata("pointer", root=root)


# --- folders -------------------------------------------------------------------------------------


def test_lerobot_trains_it_and_the_loss_falls(run: tuple[Path, str]):
    losses = [float(found) for found in re.findall(r"loss:([\d.]+)", run[1])]
    assert len(losses) == 4
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("of", ["trained", "ours"])
def test_the_same_chunk_comes_from_either_side(of: str, request: pytest.FixtureRequest):
    folder = request.getfixturevalue(of)
    wanted = CheckpointPolicy(load_policy(folder, device="cpu")).infer(seen())
    policy = opened(folder)
    chunk = policy.predict_action_chunk(batch(), noise=noise())
    np.testing.assert_allclose(chunk[0].numpy(), wanted, rtol=1e-6)
    told = seen(step="Pick up the cube.", target_point=(0.6, 0.2, 0.05))
    wanted = CheckpointPolicy(load_policy(folder, device="cpu")).infer(told)
    point = torch.tensor([told.target_point], dtype=torch.float64)
    asked = batch(**{STEP: [told.step], TARGET_POINT: point})
    chunk = policy.predict_action_chunk(asked, noise=noise())
    np.testing.assert_allclose(chunk[0].numpy(), wanted, rtol=1e-6)


def test_statistics_are_the_policys_own_and_lerobot_changes_no_number(
    trained: Path, demonstrated: Path
):
    statistics = load_policy(trained).statistics
    assert statistics.chunk.mean[:3] != pytest.approx(statistics.state.mean[:3], abs=0.05)
    processors = [json.loads(path.read_text()) for path in trained.glob("policy_p*or.json")]
    assert len(processors) == 2
    modes = [
        mode
        for processor in processors
        for step in processor["steps"]
        for mode in step["config"].get("norm_map", {}).values()
    ]
    assert set(modes) == {"IDENTITY"}


def test_rows_of_a_batch_are_read_each_for_itself(ours: Path):
    policy, point = opened(ours), torch.tensor([[0.6, 0.2, 0.05]])
    both = {
        key: value + value if isinstance(value, list) else torch.cat([value, value])
        for key, value in batch().items()
    }
    both |= {STEP: ["", "Pick up."], TARGET_POINT: torch.cat([point * torch.nan, point])}
    together = policy.predict_action_chunk(both, noise=noise(2))
    alone = policy.predict_action_chunk(batch(), noise=noise(2)[:1])
    told = batch(**{STEP: ["Pick up."], TARGET_POINT: point})
    other = policy.predict_action_chunk(told, noise=noise(2)[1:])
    torch.testing.assert_close(together, torch.cat([alone, other]), rtol=1e-4, atol=1e-5)


def test_a_chunk_is_executed_as_far_as_it_shall_be(trained: Path):
    policy = opened(trained)
    first = policy.predict_action_chunk(batch(), noise=noise())[0]
    actions = [policy.select_action(batch(), noise=noise()) for _ in range(4)]
    torch.testing.assert_close(torch.cat(actions), first[:4])
    again = policy.select_action(batch(), noise=-noise())
    assert not torch.allclose(again, first[4:5])
    policy.reset()
    torch.testing.assert_close(policy.select_action(batch(), noise=noise()), first[:1])


def test_a_saved_policy_is_saved_again_with_everything_it_needs(tmp_path: Path, trained: Path):
    opened(trained).save_pretrained(tmp_path / "again")
    shutil.copytree(trained / "backbone", tmp_path / "was")
    for path in trained.glob("backbone/*"):
        assert (tmp_path / "again/backbone" / path.name).read_bytes() == path.read_bytes()
    with pytest.raises(PolicyError, match="is not empty"):
        opened(trained).save_pretrained(tmp_path / "was")
    config = PreTrainedConfig.from_pretrained(tmp_path / "again")
    assert (config.type, config.chunk_size, config.n_action_steps) == ("rynnbrain", HORIZON, 4)


# --- learning ------------------------------------------------------------------------------------


def new_config(backbone: Path, /, **changes: Any) -> Any:
    kind = PreTrainedConfig.get_choice_class("rynnbrain")
    small = {"image_size": (32, 64), "target": "metres", "target_frame": "base"}
    expert = {"expert_layers": 2, "expert_width": 64, "expert_heads": 4, "chunk_size": HORIZON}
    return kind(**{"backbone": str(backbone), "device": "cpu", **small, **expert, **changes})


@pytest.mark.parametrize("variant", list(Variant))
def test_it_learns_what_our_own_trainer_learns(
    backbone: Path, demonstrated: Path, variant: Variant
):
    learns = "language" if variant == Variant.SINGLE_STREAM else "nothing"
    config = new_config(backbone, variant=variant.value, backbone_learns=learns, withhold=0.0)
    policy = make_policy(config, ds_meta=meta(demonstrated))
    steps_s = {"action": [i / 10 for i in range(HORIZON)]}
    dataset = LeRobotDataset(
        "pointer", root=demonstrated, delta_timestamps=steps_s, video_backend="pyav"
    )
    rows = (0, 5, LENGTH + LENGTH - 1)  # the last shows one action and repeats it
    torch.manual_seed(3)
    loss, _ = policy.forward(default_collate([dataset[row] for row in rows]))
    data = Demonstrations([demonstrated], HORIZON, (32, 64), target="metres", target_frame="base")
    keys = [Key(*divmod(row, LENGTH)) for row in rows]
    shown = Collator(policy.loaded.reader, policy.loaded.statistics)([data[key] for key in keys])
    torch.manual_seed(3)
    torch.rand(len(rows))  # which are withheld
    t, noise = sample_times(len(rows)), torch.randn(shown.chunk.shape)
    wanted = FlowLoss(policy.network)(shown, t, noise) / (4 * shown.counts.sum())
    torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=1e-6)
    loss.backward()
    moved = {name for name, w in policy.named_parameters() if w.grad is not None and w.grad.any()}
    assert any("tokens.action_in" in name for name in moved)
    assert any("language_model" in name for name in moved) == (learns == "language")
    assert not any("visual" in name for name in moved)
    rates = {group["lr"] for group in policy.get_optim_params()}
    assert rates == ({3e-4, 2e-5} if learns == "language" else {3e-4})


# --- learning on, and what does not fit ----------------------------------------------------------


def test_a_policy_of_ours_learns_on_in_lerobot(tmp_path: Path, ours: Path, demonstrated: Path):
    folder = shutil.copytree(ours, tmp_path / "policy")
    with pytest.raises(SystemExit, match="is no policy"):
        add_lerobot_files([str(tmp_path)])
    add_lerobot_files([str(folder)])
    out = tmp_path / "run"
    command(
        lerobot_train.main,
        *of_training(demonstrated, out, n_steps=2),
        f"--policy.path={folder}",
        "--policy.target_frame=base",
    )
    before, after = (
        load_policy(path) for path in (ours, out / "checkpoints/last/pretrained_model")
    )
    assert after.statistics == before.statistics
    heads = [policy.network.head()["tokens.action_out.weight"] for policy in (before, after)]
    assert not torch.equal(*heads)


def test_a_policy_learns_only_from_demonstrations_of_its_own_contract(
    tmp_path: Path, trained: Path, demonstrated: Path
):
    other = shutil.copytree(demonstrated, tmp_path / "other")
    contract = other / "meta/rynn_brain/contract.yaml"
    contract.write_text(contract.read_text().replace("robot_type: pointer", "robot_type: other"))
    with pytest.raises(PolicyError, match='contract is "pointer", here it is "other"'):
        opened(trained, dataset_meta=meta(other))
    contract.unlink()
    with pytest.raises(PolicyError, match="holds no contract"):
        opened(trained, dataset_meta=meta(other))
    with pytest.raises(PolicyError, match="learns with its data set"):
        opened(trained).forward(batch(action=torch.zeros(1, HORIZON, 4)))


def test_a_policy_learns_only_from_points_in_its_own_frame(tmp_path: Path, trained: Path):
    config = PreTrainedConfig.from_pretrained(trained)
    config.target_frame = "odom"
    other = meta(demonstrate(tmp_path / "other", 1, frame="odom"))
    with pytest.raises(PolicyError, match=r"3 numbers in base, here they are 3 in odom"):
        opened(trained, config=config, dataset_meta=other)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"backbone": ""}, "policy.backbone=FOLDER"),
        ({"target_frame": "world"}, "told in base, not in 'world'"),
        ({"image_size": (30, 64)}, "whole visual tokens"),
    ],
)
def test_a_new_policy_that_cannot_be_is_refused(
    backbone: Path, demonstrated: Path, change: dict[str, Any], told: str
):
    with pytest.raises(EngineError, match=re.escape(told)):
        make_policy(new_config(backbone, **change), ds_meta=meta(demonstrated))


def test_settings_that_a_policy_cannot_follow_are_refused(trained: Path):
    kind = PreTrainedConfig.get_choice_class("rynnbrain")
    wrong = [
        ({"push_to_hub": True}, "hf upload"),
        ({"n_action_steps": 40}, "a chunk has 32"),
        ({"target": "point"}, "none, image, metres"),
        ({"backbone_learns": "language"}, "policy.variant=single_stream"),
    ]
    for change, told in wrong:
        with pytest.raises(PolicyError, match=told):
            kind(device="cpu", **change)
    config = PreTrainedConfig.from_pretrained(trained, cli_overrides=["--chunk_size=5"])
    with pytest.raises(PolicyError, match="chunk_size is 5, the policy's is 6"):
        opened(trained, config=config)
    with pytest.raises(PolicyError, match="hf download"):
        opened(Path("somebody/policy"))


# --- evaluation and serving ----------------------------------------------------------------------


def test_lerobot_evaluates_it_in_an_environment(tmp_path: Path, trained: Path):
    command(
        lerobot_eval.main,
        f"--policy.path={trained}",
        "--policy.device=cpu",
        "--env.type=pointer",
        "--eval.n_episodes=2",
        "--eval.batch_size=2",
        f"--output_dir={tmp_path / 'out'}",
    )
    found = json.loads((tmp_path / "out/eval_info.json").read_text())["overall"]
    assert found["n_episodes"] == 2
    assert -3 * N_MOVES < found["avg_sum_reward"] < 0


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.chdir(tmp_path)  # it makes logs/ where it is imported
    from lerobot.async_inference.policy_server import PolicyServer  # noqa: PLC0415
    from lerobot_policy_rynnbrain.policy_server import allow  # noqa: PLC0415

    allow()
    made = grpc.server(ThreadPoolExecutor(2))
    service = PolicyServer(PolicyServerConfig(host="127.0.0.1", port=1, fps=10))
    services_pb2_grpc.add_AsyncInferenceServicer_to_server(service, made)
    port = made.add_insecure_port("127.0.0.1:0")
    made.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield services_pb2_grpc.AsyncInferenceStub(channel)
    made.stop(0)


def test_lerobots_policy_server_serves_it(trained: Path, server: Any):
    names = ["x", "y", "z", "hand"]
    features = {
        "observation.state": {"dtype": "float32", "shape": (4,), "names": names},
        "observation.images.front": {"dtype": "image", "shape": (32, 48, 3), "names": None},
    }
    server.Ready(services_pb2.Empty())
    asked = RemotePolicyConfig("rynnbrain", str(trained), features, 5)
    server.SendPolicyInstructions(services_pb2.PolicySetup(data=pickle.dumps(asked)))
    raw = {**dict(zip(names, STATE.tolist(), strict=True)), "front": PIXELS}
    timed = TimedObservation(10.0, 3, {**raw, "task": "pick up the red cube"}, must_go=True)
    server.SendObservations(
        send_bytes_in_chunks(pickle.dumps(timed), services_pb2.Observation, silent=True)
    )
    policy = opened(trained)
    torch.manual_seed(7)
    actions = pickle.loads(server.GetActions(services_pb2.Empty()).data)
    assert [(round(a.timestamp, 3), a.timestep) for a in actions][:2] == [(10.0, 3), (10.1, 4)]
    torch.manual_seed(7)
    wanted = policy.predict_action_chunk(batch())[0, :5]
    torch.testing.assert_close(torch.stack([each.action for each in actions]), wanted)
