"""A tiny real network as a policy: sampled, continued, and asked over a socket."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra model is not installed")
pytest.importorskip("transformers", reason="the extra model is not installed")

from tiny_policies import HORIZON, observation, spec, statistics  # noqa: E402

from rynn_brain_ros.vla.checkpoint import LoadedPolicy, new_policy  # noqa: E402
from rynn_brain_ros.vla.chunks import Leftover  # noqa: E402
from rynn_brain_ros.vla.guidance import CheckpointPolicy, Chunking  # noqa: E402
from rynn_brain_ros.vla.values import Variant  # noqa: E402

SEEN = observation(0, target=(0.5, 0.0, 0.05))
DELAY = 2


@pytest.fixture(scope="module", params=list(Variant))
def loaded(request, tmp_path_factory) -> LoadedPolicy:
    from tiny_models import build  # noqa: PLC0415  # its folder is known to tiny_policies

    backbone = build("qwen3_vl", tmp_path_factory.mktemp("tiny"))
    torch.manual_seed(1)
    return new_policy(backbone, spec(request.param), statistics(), device="cpu")


def leftover(loaded: LoadedPolicy) -> Leftover:
    """What another draw of the noise gave for the same observation."""
    return Leftover(CheckpointPolicy(loaded, seed=9).infer(SEEN), DELAY)


def apart(loaded: LoadedPolicy, a: np.ndarray, b: np.ndarray) -> float:
    """How far two chunks are from each other in their frozen steps, in the network's numbers."""
    told = [loaded.statistics.chunk_in(chunk, SEEN.state)[:DELAY] for chunk in (a, b)]
    return float(np.abs(told[0] - told[1]).mean())


def test_the_same_noise_gives_the_same_chunk_in_physical_units(loaded):
    chunks = [CheckpointPolicy(loaded, seed=3).infer(SEEN) for _ in range(2)]
    np.testing.assert_array_equal(*chunks)
    assert chunks[0].shape == (HORIZON, 4)
    assert np.all(np.isfinite(chunks[0]))
    assert apart(loaded, chunks[0], CheckpointPolicy(loaded, seed=4).infer(SEEN)) > 0.1


@pytest.mark.parametrize("approximate", [False, True])
def test_a_chunk_goes_on_where_the_previous_one_left_off(loaded, approximate):
    previous = leftover(loaded)
    free = CheckpointPolicy(loaded).infer(SEEN)
    chunking = Chunking(execution_horizon=HORIZON, approximate=approximate)
    guided = CheckpointPolicy(loaded, chunking).infer(SEEN, previous)
    gap = apart(loaded, guided, previous.actions)
    assert gap < 0.25 * apart(loaded, free, previous.actions)


def test_a_leftover_is_told_from_where_the_robot_is_now(loaded):
    """The same absolute actions, seen from another state, are other numbers to the network."""
    policy = CheckpointPolicy(loaded)
    previous = leftover(loaded)
    moved = observation(1, target=(0.5, 0.0, 0.05))
    guided = policy.infer(moved, previous)
    free = CheckpointPolicy(loaded).infer(moved)
    gaps = [np.abs((c - previous.actions)[:DELAY, :3]).mean() for c in (guided, free)]
    assert gaps[0] < 0.25 * gaps[1]


def test_it_is_the_same_policy_over_a_socket(loaded):
    pytest.importorskip("websockets", reason="the extra policy is not installed")
    pytest.importorskip("msgpack", reason="the extra policy is not installed")
    from rynn_brain_ros.vla.client import PolicyClient  # noqa: PLC0415
    from rynn_brain_ros.vla.serving import PolicyServer  # noqa: PLC0415

    previous = leftover(loaded)
    with PolicyServer(CheckpointPolicy(loaded, seed=1), port=0) as server:
        client = PolicyClient(server.url, timeout_s=60.0)
        there = client.infer(SEEN, previous)
        client.close()
    here = CheckpointPolicy(loaded, seed=1).infer(SEEN, previous)
    np.testing.assert_allclose(there, here, atol=1e-5)
