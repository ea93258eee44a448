"""Velocities that are replayed from memory that stays where it is. What a GPU records is a plain
call here, on the same memory; where there is a GPU, it records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tiny_policies import EVERY, HORIZON, observation, spec, statistics  # noqa: E402

from rynn_brain_ros.vla import Observation, PolicyError, Variant  # noqa: E402
from rynn_brain_ros.vla.checkpoint import LoadedPolicy, new_policy, with_cuda_graphs  # noqa: E402
from rynn_brain_ros.vla.chunks import Leftover  # noqa: E402
from rynn_brain_ros.vla.graphed import Graphed  # noqa: E402
from rynn_brain_ros.vla.guidance import CheckpointPolicy, Chunking  # noqa: E402

EXPERTS = ("qwen3_vl_moe", Variant.SINGLE_STREAM)
SEEN = [observation(n, step="Pick it up.", target=(0.5, 0.1 * n, 0.0)) for n in range(2)]


class Recorder:
    """Counts what was recorded."""

    def __init__(self) -> None:
        self.n = 0

    def __call__(self, work: Callable[[], None], device: Any) -> Callable[[], None]:
        assert device.type == "cpu"  # where what is replayed lies
        self.n += 1
        work()
        return work


def make(folder: Path, kind: str, variant: Variant, device: str = "cpu") -> LoadedPolicy:
    from tiny_models import build  # noqa: PLC0415  # its folder is known to tiny_policies

    torch.manual_seed(1)
    return new_policy(build(kind, folder), spec(variant), statistics(), device=device)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> LoadedPolicy:
    return make(tmp_path_factory.mktemp("tiny"), "qwen3_vl", Variant.SINGLE_STREAM)


def noise(n: int = 1):
    return torch.randn(n, HORIZON, 4, generator=torch.Generator().manual_seed(0))


def longer(seen: Observation, n_words: int) -> Observation:
    return replace(seen, step="and again " * n_words)


@pytest.mark.parametrize(("kind", "variant"), EVERY)
def test_replayed_chunks_are_the_networks(tmp_path: Path, kind: str, variant: Variant):
    plain = make(tmp_path, kind, variant)
    recorder = Recorder()
    graphed = replace(plain, graphed=Graphed(plain.network, recorder))
    for seen in ([SEEN[0]], [SEEN[1]], [SEEN[0]], SEEN, [longer(SEEN[0], 40)]):
        told = plain.sampled(seen, noise(len(seen)))
        np.testing.assert_allclose(graphed.sampled(seen, noise(len(seen))), told, atol=1e-5)
    assert recorder.n == 3, "one observation, two at a time, a longer prompt"


def test_a_prefix_is_not_changed(policy: LoadedPolicy):
    network = policy.network
    with torch.no_grad():
        prefix = network.prefix(policy.reader.batch([SEEN[0]]))
        kept = [part.clone() for part in (*prefix.keys, *prefix.values, prefix.told)]
        graphed, state = Graphed(network, Recorder()), policy.reader.states([SEEN[0]])
        for t in (1.0, 0.5):
            graphed.velocity(prefix, state, noise(), torch.tensor([t]))
    now = (*prefix.keys, *prefix.values, prefix.told)
    assert all(torch.equal(a, b) for a, b in zip(kept, now, strict=True))


def test_the_lengths_asked_for_last_are_kept(policy: LoadedPolicy):
    recorder = Recorder()
    graphed = replace(policy, graphed=Graphed(policy.network, recorder))

    def ask(*lengths: int) -> int:
        before = recorder.n
        for length in lengths:
            graphed.sampled([longer(SEEN[0], length)], noise())
        return recorder.n - before

    assert ask(0, 60, 120, 180) == 4
    assert ask(0, 60, 120, 180, 0) == 0
    assert ask(240) == 1, "in the place of the one that was asked for longest ago"
    assert ask(0, 120, 180) == 0
    assert ask(60) == 1


@pytest.mark.parametrize("approximate", [True, False])
def test_a_chunk_that_follows_another_is_the_same_with_and_without(
    policy: LoadedPolicy, approximate: bool
):
    chunking, left = Chunking(approximate=approximate), Leftover(np.full((5, 4), 0.3), 1)
    graphed = replace(policy, graphed=Graphed(policy.network, Recorder()))
    told, replayed = (
        CheckpointPolicy(each, chunking).infer(SEEN[0], left) for each in (policy, graphed)
    )
    np.testing.assert_allclose(replayed, told, atol=1e-5)


def test_without_a_gpu_it_is_refused(policy: LoadedPolicy):
    with pytest.raises(PolicyError, match="need an NVIDIA GPU; the policy is on cpu"):
        with_cuda_graphs(policy)


def test_experts_are_refused(tmp_path: Path):
    with pytest.raises(PolicyError, match="mixture of experts cannot be recorded"):
        with_cuda_graphs(make(tmp_path, *EXPERTS))


def test_what_cannot_be_recorded_is_tried_once(policy: LoadedPolicy):
    tried = []

    def fail(work: Callable[[], None], device: Any) -> Callable[[], None]:
        tried.append(device)
        raise RuntimeError("\noperation not permitted when stream is capturing.")

    graphed = replace(policy, graphed=Graphed(policy.network, fail))
    sentence = r"cannot be recorded here \(operation not permitted when stream is capturing\)"
    for _ in range(2):
        with pytest.raises(PolicyError, match=sentence):
            graphed.sampled([SEEN[0]], noise())
    assert len(tried) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize(("kind", "variant"), [each for each in EVERY if each != EXPERTS])
def test_a_gpu_replays_what_it_computes(tmp_path: Path, kind: str, variant: Variant):
    plain = make(tmp_path, kind, variant, "cuda")
    graphed = with_cuda_graphs(plain)
    for seen in ([SEEN[0]], [SEEN[1]], SEEN):
        told = plain.sampled(seen, noise(len(seen)))
        np.testing.assert_allclose(graphed.sampled(seen, noise(len(seen))), told, atol=1e-3)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="no second GPU")
def test_a_gpu_that_is_not_the_current_one_replays_what_it_computes(tmp_path: Path):
    plain = make(tmp_path, "qwen3_vl", Variant.SMALL_EXPERT, "cuda:1")
    graphed, told = with_cuda_graphs(plain), plain.sampled(SEEN, noise(2))
    np.testing.assert_allclose(graphed.sampled(SEEN, noise(2)), told, atol=1e-3)
