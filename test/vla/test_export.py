"""Exported policies: graphs that compute what torch computes, in folders that are whole."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra model is not installed")
pytest.importorskip("transformers", reason="the extra model is not installed")
onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")

from tiny_policies import HORIZON, observation, spec, statistics  # noqa: E402

from rynn_brain_ros.cli import main  # noqa: E402
from rynn_brain_ros.values import OutputError  # noqa: E402
from rynn_brain_ros.vla import PolicyError, Variant  # noqa: E402
from rynn_brain_ros.vla.binding import IDENTITY  # noqa: E402
from rynn_brain_ros.vla.checkpoint import (  # noqa: E402
    BACKBONE,
    POLICY,
    LoadedPolicy,
    load_policy,
    new_policy,
    save_policy,
)
from rynn_brain_ros.vla.chunks import Leftover  # noqa: E402
from rynn_brain_ros.vla.export import export  # noqa: E402
from rynn_brain_ros.vla.export_checks import Check, verify  # noqa: E402
from rynn_brain_ros.vla.guidance import CheckpointPolicy, Chunking  # noqa: E402
from rynn_brain_ros.vla.onnx_policy import (  # noqa: E402
    ACTION_STEP,
    VISION,
    Graph,
    Precision,
    Provider,
    graph_file,
    open_policy,
    velocity_of,
)

SEEN = observation(0, step="Pick it up.", target=(0.5, 0.0, 0.05))
LONGER = observation(1, step="Pick up the red cube that stands beside the blue bowl.")


@dataclass(frozen=True)
class Exported:
    source: Path
    target: Path
    checks: tuple[Check, ...]


def saved(
    kind: str, variant: Variant, folder: Path, n_target: int = 3, broken: bool = False
) -> Path:
    """A policy of random weights; a broken one answers NaN."""
    from tiny_models import build  # noqa: PLC0415  # its folder is known to tiny_policies

    backbone = build(kind, folder, initializer_range=0.08)  # wider ones blow up what 8 bits lose
    torch.manual_seed(1)
    shape = spec(variant, n_target=n_target)
    policy = new_policy(backbone, shape, statistics(pointed=n_target > 0), device="cpu")
    if broken:
        policy.network.tokens.action_out.weight.data.fill_(torch.nan)
    save_policy(policy, backbone, folder / "policy")
    return folder / "policy"


@pytest.fixture(
    scope="module",
    params=[("qwen3_vl", Variant.SINGLE_STREAM, 3), ("qwen3_5", Variant.SMALL_EXPERT, 0)],
    ids=["single_stream", "small_expert"],
)
def exported(request, tmp_path_factory) -> Exported:
    """Not to be changed."""
    kind, variant, n_target = request.param
    source = saved(kind, variant, tmp_path_factory.mktemp("tiny"), n_target)
    target = source.parent / "exported"
    return Exported(source, target, export(source, target, verify_on=Provider.CPU))


@pytest.fixture(scope="module")
def policy(exported: Exported) -> LoadedPolicy:
    return load_policy(exported.source, device="cpu")


def without_points(policy: LoadedPolicy, seen):
    return seen if policy.spec.n_target else replace(seen, target_point=())


def test_graphs_in_both_precisions_were_compared_and_passed(exported: Exported):
    assert {(check.graph, check.precision) for check in exported.checks} == {
        (graph, precision) for graph in (ACTION_STEP, VISION) for precision in Precision
    }
    assert len({c.inputs for c in exported.checks if c.graph == ACTION_STEP}) == 3
    assert [check for check in exported.checks if not check.passed] == []


@pytest.mark.parametrize("seen", [SEEN, LONGER], ids=["short", "long"])
def test_an_action_step_is_torchs_behind_a_prompt_of_any_length(exported, policy, seen):
    told = [without_points(policy, seen)]
    batch, state = policy.reader.batch(told), policy.reader.states(told)
    x_t, t = torch.randn(1, HORIZON, 4, generator=torch.Generator().manual_seed(2)), 0.7
    with torch.no_grad():
        prefix = policy.network.prefix(batch)
        theirs = policy.network.velocity(prefix, state, x_t, torch.tensor([t])).numpy()
    ours = {
        precision: velocity_of(
            Graph(exported.target / graph_file(ACTION_STEP, precision)), prefix, state
        )(x_t.numpy(), t)
        for precision in Precision
    }
    np.testing.assert_allclose(ours[Precision.FP32], theirs, rtol=0, atol=1e-4)
    small = ours[Precision.INT8].ravel()
    cosine = small @ theirs.ravel() / (np.linalg.norm(small) * np.linalg.norm(theirs))
    assert 0.995 <= cosine < 1 - 1e-9  # and it is another graph


def test_an_exported_policy_gives_the_chunks_of_its_checkpoint(exported, policy):
    chunking = Chunking(execution_horizon=HORIZON, approximate=True)
    theirs = CheckpointPolicy(policy, chunking, seed=3)
    ours = open_policy(exported.target, chunking=chunking, seed=3)
    assert ours.spec == theirs.spec
    seen = without_points(policy, SEEN)
    first = theirs.infer(seen)
    np.testing.assert_allclose(ours.infer(seen), first, atol=1e-3)
    previous = Leftover(first[1:], 2)
    guided = theirs.infer(seen, previous)
    np.testing.assert_allclose(ours.infer(seen, previous), guided, atol=1e-3)


def test_an_exported_folder_is_still_the_policy_it_was_made_of(exported, policy):
    found = load_policy(exported.target, device="cpu")
    assert (found.spec, found.statistics) == (policy.spec, policy.statistics)


def test_the_published_chunking_is_refused(exported):
    with pytest.raises(PolicyError, match="needs gradients"):
        open_policy(exported.target, chunking=Chunking(approximate=False))


def test_a_provider_that_is_not_there_is_refused(exported):
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(PolicyError, match=r"not on cuda: .*onnxruntime-gpu"):
        open_policy(exported.target, provider=Provider.CUDA)


# --- the smaller variant alone: what both have in common -------------------------------------


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return saved("qwen3_vl", Variant.SMALL_EXPERT, tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def small(source: Path) -> Path:
    """In 8 bits alone."""
    target = source.parent / "small"
    assert export(source, target, [Precision.INT8]) == ()
    return target


def test_only_the_precision_that_was_asked_for_is_written(small: Path):
    assert {file.name for file in small.glob("*.onnx")} == {
        "action_step.int8.onnx",
        "vision.int8.onnx",
    }
    with pytest.raises(PolicyError, match="no graphs in fp32, only in int8"):
        open_policy(small)


def test_verifying_notices_another_graph(small: Path, tmp_path: Path, capsys):
    """8 bits that claim to be 32."""
    copy = Path(shutil.copytree(small, tmp_path / "copy"))
    for name in (ACTION_STEP, VISION):
        graph = copy / graph_file(name, Precision.INT8)
        graph.rename(copy / graph_file(name, Precision.FP32))
    record = json.loads((copy / "onnx.json").read_text())
    (copy / "onnx.json").write_text(json.dumps({**record, "precisions": ["fp32"]}))
    assert not any(check.passed for check in verify(copy))
    assert main(["export", str(copy), "--verify"]) == 1
    assert capsys.readouterr().out.count("FAIL") == 5


def test_nothing_is_kept_of_an_export_that_fails_its_comparison(tmp_path: Path, capsys):
    source = saved("qwen3_vl", Variant.SMALL_EXPERT, tmp_path / "made", broken=True)
    target = tmp_path / "there" / "exported"
    assert main(["export", str(source), str(target), "--precision", "fp32", "--verify"]) == 1
    assert "was not kept" in capsys.readouterr().err
    assert list(target.parent.iterdir()) == []


def test_actions_in_a_mixture_of_experts_are_refused(tmp_path: Path):
    source = saved("qwen3_vl_moe", Variant.SINGLE_STREAM, tmp_path / "made")
    with pytest.raises(PolicyError, match="mixture of experts cannot be exported"):
        export(source, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_graphs_beside_another_policy_are_refused(small: Path, tmp_path: Path):
    copy = Path(shutil.copytree(small, tmp_path / "copy"))
    (copy / POLICY).write_text((copy / POLICY).read_text() + "\n")
    with pytest.raises(PolicyError, match=r"not of this policy\.json"):
        open_policy(copy, precision=Precision.INT8)


@pytest.mark.parametrize("name", [ACTION_STEP, VISION])
def test_the_graph_of_another_policy_is_refused(small: Path, tmp_path: Path, name: str):
    copy = Path(shutil.copytree(small, tmp_path / "copy"))
    file = copy / graph_file(name, Precision.INT8)
    model = onnx.load(file)
    onnx.helper.set_model_props(model, {IDENTITY: "another's"})
    onnx.save(model, file)
    for open_it in (lambda: open_policy(copy, precision=Precision.INT8), lambda: verify(copy)):
        with pytest.raises(PolicyError, match=rf"{file.name} was not exported with this policy"):
            open_it()


def test_a_cut_off_graph_is_named(small: Path, tmp_path: Path):
    copy = Path(shutil.copytree(small, tmp_path / "copy"))
    graph = copy / graph_file(VISION, Precision.INT8)
    graph.write_bytes(graph.read_bytes()[:1000])
    with pytest.raises(PolicyError, match=graph.name):
        open_policy(copy, precision=Precision.INT8)


def test_a_checkpoint_without_graphs_is_not_verified(source: Path):
    with pytest.raises(PolicyError, match="no exported policy"):
        verify(source)


def test_a_policy_without_statistics_is_not_exported(source: Path, tmp_path: Path):
    copy = Path(shutil.copytree(source, tmp_path / "copy"))
    record = json.loads((copy / POLICY).read_text())
    del record["statistics"]
    (copy / POLICY).write_text(json.dumps(record))
    with pytest.raises(PolicyError, match="holds no statistics"):
        export(copy, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_a_directory_that_is_no_policy_is_named(source: Path, tmp_path: Path, capsys):
    assert main(["export", str(source / BACKBONE), str(tmp_path / "exported")]) == 3
    assert "it is no policy" in capsys.readouterr().err


def test_an_existing_folder_is_never_written_over(source: Path, small: Path):
    with pytest.raises(PolicyError, match="exists"):
        export(source, small)


def test_a_folder_that_cannot_be_made_is_a_named_error(source: Path, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        export(source, tmp_path / "file" / "exported")


def test_without_onnxruntime_the_error_says_what_to_install(tmp_path: Path):
    code = (
        "import sys, importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda n, *a: None if n == 'onnxruntime' else find(n, *a)\n"
        "from rynn_brain_ros.cli import main\n"
        "sys.exit(main(['export', 'policy', sys.argv[1]]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 3
    assert "need onnxruntime" in run.stderr
    assert "pip install 'torch>=2.6'" in run.stderr and "'onnxruntime>=1.20'" in run.stderr
