"""Both policies learn to go where the brain points, and nowhere near it when it does not say.

The pictures are frozen and say nothing, so the target point is all that tells one chunk from
another. The flow's loss alone would not show it: with little noise x_t gives the way away, so a
policy that is blind to its target reaches a low loss too.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tiny_policies import demonstrations, observation, spec, statistics  # noqa: E402

from rynn_brain_ros.vla import Variant  # noqa: E402
from rynn_brain_ros.vla.checkpoint import LoadedPolicy, new_policy  # noqa: E402
from rynn_brain_ros.vla.flow import flow_loss, sample  # noqa: E402
from rynn_brain_ros.vla.network import Prefix  # noqa: E402

N_STEPS = {Variant.SINGLE_STREAM: 350, Variant.SMALL_EXPERT: 450}


def float32(values: np.ndarray):
    return torch.from_numpy(values.astype(np.float32))


def pointed(prefix: Prefix, policy: LoadedPolicy, targets: np.ndarray) -> Prefix:
    told = np.stack([policy.statistics.target_in(tuple(target)) for target in targets])
    return replace(prefix.repeated(len(targets)), target=float32(told))


def trained(policy: LoadedPolicy, prefix: Prefix) -> LoadedPolicy:
    network, found, n_steps = policy.network, policy.statistics, N_STEPS[policy.spec.variant]
    if policy.spec.variant is Variant.SINGLE_STREAM:
        network.vlm.model.language_model.requires_grad_(True)
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=2e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=n_steps)
    for step in range(n_steps):
        states, actions, targets = demonstrations(64, seed=1000 + step)
        shown, state = pointed(prefix, policy, targets), float32(found.state.normalized(states))
        velocity = partial(network.velocity, shown, state)
        loss = flow_loss(velocity, float32(found.chunk_in(actions, states)))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
    return policy


def errors_m(policy: LoadedPolicy, prefix: Prefix, *, blind: bool = False) -> np.ndarray:
    """[256]: how far the last action is from the target, on targets never seen."""
    states, _, targets = demonstrations(256, seed=7)
    shown = pointed(prefix, policy, targets)
    if blind:
        shown = replace(shown, target=torch.zeros_like(shown.target))
    state = float32(policy.statistics.state.normalized(states))
    noise = torch.randn(256, policy.spec.horizon, 4)
    with torch.no_grad():
        chunk = sample(policy.network, shown, state, noise)
    actions = policy.statistics.chunk_out(chunk.numpy(), states)
    return np.linalg.norm(actions[:, -1, :3] - targets, axis=1)


@pytest.mark.slow
@pytest.mark.parametrize("variant", list(Variant))
def test_a_policy_learns_to_reach_the_point_that_it_is_told(tmp_path: Path, variant: Variant):
    from tiny_models import build  # noqa: PLC0415  # its folder is known to tiny_policies

    torch.manual_seed(0)
    size = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2}
    vision = {"out_hidden_size": 128}
    path = build("qwen3_vl", tmp_path, vision=vision, num_attention_heads=4, **size)
    policy = new_policy(path, spec(variant), statistics())
    with torch.no_grad():
        prefix = policy.network.prefix(policy.reader.batch([observation(1)]))
    before = np.median(errors_m(policy, prefix))
    trained(policy, prefix)
    after = errors_m(policy, prefix)
    assert before > 0.2
    assert np.median(after) < 0.04
    assert np.quantile(after, 0.95) < 0.1
    assert np.median(errors_m(policy, prefix, blind=True)) > 0.1
