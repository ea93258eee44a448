"""Both policies around tiny random models: who sees what, who learns, and that caching is exact."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tiny_policies import (  # noqa: E402
    CAMERAS,
    EVERY,
    HORIZON,
    observation,
    spec,
    statistics,
)

from rynn_brain_ros.vla import PolicyError, Variant  # noqa: E402
from rynn_brain_ros.vla.checkpoint import LoadedPolicy, new_policy  # noqa: E402
from rynn_brain_ros.vla.flow import flow_loss, sample  # noqa: E402
from rynn_brain_ros.vla.network import Batch, sinusoids  # noqa: E402

LONG = observation(
    1, step="Pick up <object> <frame 0>: (1, 2), (30, 40) </object>", target=(0.5, 0, 0)
)
SHORT = observation(2)
STEPS = torch.tensor([0.3, 0.9])


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    from tiny_models import build  # noqa: PLC0415  # its folder is known to tiny_policies

    return {kind: build(kind, tmp_path_factory.mktemp("tiny")) for kind, _ in EVERY}


@pytest.fixture(params=EVERY, ids=lambda each: f"{each[1].value}-{each[0]}")
def policy(request: pytest.FixtureRequest, directories: dict[str, Path]) -> LoadedPolicy:
    kind, variant = request.param
    torch.manual_seed(1)
    return new_policy(directories[kind], spec(variant), statistics(), device="cpu")


@pytest.fixture
def single_stream(directories: dict[str, Path]) -> LoadedPolicy:
    torch.manual_seed(1)
    shape = spec(Variant.SINGLE_STREAM)
    return new_policy(directories["qwen3_vl"], shape, statistics(), device="cpu")


def drawn_noise(n: int = 2):
    return torch.randn(n, HORIZON, 4, generator=torch.Generator().manual_seed(0))


def velocity(policy: LoadedPolicy, *observations, noise=None):
    """Of each of them, at STEPS, each in a batch with the others."""
    batch, state = policy.reader.batch(observations), policy.reader.states(observations)
    network = policy.network
    n = len(observations)
    noise = drawn_noise()[:n] if noise is None else noise
    with torch.no_grad():
        return network.velocity(network.prefix(batch), state, noise, STEPS[:n])


def test_velocities_have_the_shape_of_the_chunk(policy: LoadedPolicy):
    assert velocity(policy, LONG, SHORT).shape == (2, HORIZON, 4)


def test_a_kept_prefix_gives_what_a_new_one_gives(policy: LoadedPolicy):
    """And is left as it was."""
    batch, state = policy.reader.batch([LONG, SHORT]), policy.reader.states([LONG, SHORT])
    network = policy.network
    with torch.no_grad():
        kept = network.prefix(batch)
        before = [part.clone() for part in (*kept.keys, *kept.values)]
        for t in (1.0, 0.5, 0.1):
            times = torch.full((2,), t)
            again = network.velocity(network.prefix(batch), state, drawn_noise(), times)
            once = network.velocity(kept, state, drawn_noise(), times)
            assert (once - again).abs().max() <= 1e-5
    after = (*kept.keys, *kept.values)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_two_calls_give_what_one_packed_sequence_gives(single_stream: LoadedPolicy):
    batch = single_stream.reader.batch([LONG, SHORT])
    state = single_stream.reader.states([LONG, SHORT])
    with torch.no_grad():
        packed = single_stream.network.velocity_at_once(batch, state, drawn_noise(), STEPS)
    two = velocity(single_stream, LONG, SHORT)
    assert (packed - two).abs().max() <= 1e-5
    assert two.abs().max() > 0.1


def test_padding_changes_nothing(policy: LoadedPolicy):
    together = velocity(policy, LONG, SHORT)
    with torch.no_grad():
        batch, state = policy.reader.batch([SHORT]), policy.reader.states([SHORT])
        prefix = policy.network.prefix(batch)
        alone = policy.network.velocity(prefix, state, drawn_noise()[1:], STEPS[1:])
    assert (alone[0] - together[1]).abs().max() <= 1e-5


@pytest.mark.parametrize(
    "change",
    [
        {"images": {**LONG.images, "wrist": SHORT.images["wrist"]}},
        {"instruction": "pick up the green ball"},
        {"step": "Place it."},
        {"target_point": (0.2, 0.1, 0.3)},
        {"state": LONG.state + 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_everything_that_is_observed_changes_the_velocity(policy: LoadedPolicy, change: dict):
    before, after = velocity(policy, LONG), velocity(policy, replace(LONG, **change))
    assert (before - after).abs().max() > 1e-3


def test_a_known_target_at_the_mean_is_not_an_unknown_one(policy: LoadedPolicy):
    mean = tuple(policy.statistics.target.mean)
    known, unknown = (policy.reader.batch([replace(LONG, target_point=p)]) for p in (mean, ()))
    assert known.target.tolist() == [[0, 0, 0, 1]]
    assert unknown.target.tolist() == [[0, 0, 0, 0]]


def test_every_action_sees_every_other(policy: LoadedPolicy):
    """The last one changes what is said of the first."""
    changed = drawn_noise()
    changed[:, -1] += 1.0
    before, after = (velocity(policy, LONG, SHORT, noise=n) for n in (drawn_noise(), changed))
    assert (before - after)[:, 0].abs().max() > 1e-4


def test_the_prefix_never_sees_the_suffix(single_stream: LoadedPolicy):
    """In one packed pass, hidden states of the prefix do not depend on the actions."""
    network = single_stream.network
    batch, state = single_stream.reader.batch([LONG]), single_stream.reader.states([LONG])
    hidden: list = []
    network._text.norm.register_forward_hook(lambda *args: hidden.append(args[2]))
    with torch.no_grad():
        for noise in (drawn_noise()[:1], drawn_noise()[:1] + 3):
            network.velocity_at_once(batch, state, noise, STEPS[:1])
    before, after = hidden
    n = HORIZON + 1
    assert torch.equal(before[:, :-n], after[:, :-n])
    assert not torch.allclose(before[:, -n:], after[:, -n:])


def test_the_suffix_goes_on_where_the_prefix_ends_on_all_axes(single_stream: LoadedPolicy):
    network = single_stream.network
    batch, state = (
        single_stream.reader.batch([LONG, SHORT]),
        single_stream.reader.states([LONG, SHORT]),
    )
    seen: list = []
    network._text.rotary_emb.register_forward_pre_hook(lambda _, args: seen.append(args[1]))
    with torch.no_grad():
        network.velocity(network.prefix(batch), state, drawn_noise(), STEPS)
    prefix, suffix = seen
    for row, length in enumerate(batch.told.sum(1).tolist()):
        first = prefix[:, row, :length].max() + 1
        expected = first + torch.arange(HORIZON + 1)
        assert torch.equal(suffix[:, row], expected.expand(3, -1))


def gradients(policy: LoadedPolicy) -> dict[str, float]:
    network = policy.network.requires_grad_(True)
    batch, state = policy.reader.batch([LONG, SHORT]), policy.reader.states([LONG, SHORT])
    velocity = partial(network.velocity, network.prefix(batch), state)
    flow_loss(velocity, drawn_noise()).backward()
    groups = network.parameter_groups()
    return {
        name: sum(float(w.grad.abs().sum()) for w in weights if w.grad is not None)
        for name, weights in groups.items()
    }


def test_the_backbone_learns_in_a_single_stream_and_not_beside_an_expert(policy: LoadedPolicy):
    found = gradients(policy)
    assert found["head"] > 0
    assert (found["backbone"] > 0) == (policy.spec.variant is Variant.SINGLE_STREAM)


def test_pictures_learn_too_in_a_single_stream(single_stream: LoadedPolicy):
    gradients(single_stream)
    tower = single_stream.network.vlm.model.visual
    assert all(float(w.grad.abs().sum()) > 0 for w in tower.blocks[0].mlp.parameters())


def test_groups_hold_every_weight_that_is_used_once(policy: LoadedPolicy):
    groups = policy.network.parameter_groups()
    ids = [id(weight) for weights in groups.values() for weight in weights]
    language_head = {id(weight) for weight in policy.network.vlm.lm_head.parameters()}
    every = {id(weight) for weight in policy.network.parameters()}
    assert len(ids) == len(set(ids))
    assert every - set(ids) <= language_head


def test_guidance_can_differentiate_through_the_whole_network(policy: LoadedPolicy):
    batch, state = policy.reader.batch([LONG]), policy.reader.states([LONG])
    with torch.no_grad():
        prefix = policy.network.prefix(batch)
    seen = []

    def guidance(x_t, v, t, velocity_fn):
        _, backward = torch.func.vjp(velocity_fn, x_t)
        seen.append(backward(torch.ones_like(v))[0])
        return v

    with torch.enable_grad():
        sample(policy.network, prefix, state, drawn_noise()[:1], 2, guidance=guidance)
    assert all(gradient.abs().sum() > 0 for gradient in seen)


def test_a_repeated_prefix_serves_several_noises(policy: LoadedPolicy):
    batch, state = policy.reader.batch([LONG, SHORT]), policy.reader.states([LONG, SHORT])
    network, noise = policy.network, drawn_noise(4)
    times = torch.tensor([0.2, 0.7, 0.4, 0.9])
    with torch.no_grad():
        prefix = network.prefix(batch)
        many = network.velocity(prefix.repeated(2), state.repeat_interleave(2, 0), noise, times)
        one = network.velocity(prefix, state, noise[1::2], times[1::2])
    assert (many[1::2] - one).abs().max() <= 1e-5


def test_gradient_checkpointing_never_drops_the_prefix_in_silence(single_stream: LoadedPolicy):
    network = single_stream.network.train().requires_grad_(True)
    network.vlm.gradient_checkpointing_enable({"use_reentrant": False})
    batch, state = single_stream.reader.batch([LONG]), single_stream.reader.states([LONG])
    noise = drawn_noise()[:1]
    with pytest.raises(PolicyError, match="train with velocity_at_once"):
        network.prefix(batch)
    at_once = network.velocity_at_once(batch, state, noise, STEPS[:1])
    network.vlm.gradient_checkpointing_disable()
    assert (
        at_once - network.velocity(network.prefix(batch), state, noise, STEPS[:1])
    ).abs().max() <= 1e-5


def test_a_backbone_in_16_bits_gives_velocities_in_32(directories: dict[str, Path]):
    for variant in Variant:
        torch.manual_seed(1)
        policy = new_policy(
            directories["qwen3_vl"], spec(variant), statistics(), device="cpu", dtype="BF16"
        )
        told = velocity(policy, LONG, SHORT)
        assert policy.network.vlm.dtype == torch.bfloat16
        assert told.dtype == torch.float32
        assert torch.isfinite(told).all()


@pytest.mark.parametrize("kind", ["qwen3_5", "qwen3_5_moe"])
def test_a_single_stream_of_linear_attention_is_refused(directories: dict[str, Path], kind: str):
    with pytest.raises(PolicyError, match=f"{kind} model.*small_expert"):
        new_policy(directories[kind], spec(Variant.SINGLE_STREAM), statistics())


def test_a_camera_that_is_missing_is_named(single_stream: LoadedPolicy):
    blind = replace(LONG, images={"front": LONG.images["front"]})
    with pytest.raises(PolicyError, match="no picture of wrist"):
        single_stream.reader.batch([blind])


def test_words_that_are_control_tokens_are_refused(single_stream: LoadedPolicy):
    with pytest.raises(PolicyError, match="control token"):
        single_stream.reader.batch([replace(LONG, instruction="go<|im_end|>")])


def test_pictures_are_shown_in_the_order_of_the_cameras(single_stream: LoadedPolicy):
    turned = replace(LONG, images=dict(reversed(list(LONG.images.items()))))
    assert list(turned.images) == list(reversed(CAMERAS))
    same: list[Batch] = [single_stream.reader.batch([each]) for each in (LONG, turned)]
    assert torch.equal(same[0].patches, same[1].patches)


def test_times_are_told_apart():
    told = sinusoids(torch.linspace(0, 1, 101), 64)
    apart = torch.cdist(told, told) + 9 * torch.eye(101)
    assert told.shape == (101, 64)
    assert apart.min() > 0.05
