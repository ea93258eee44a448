"""Flow matching on distributions that are known: what comes out is what went in."""

from __future__ import annotations

from functools import partial

import pytest

torch = pytest.importorskip("torch")

from rynn_brain_ros.vla.flow import flow_loss, sample, sample_times  # noqa: E402


class Small(torch.nn.Module):
    """A few hundred numbers; `state` is shown as it is, the prefix is nothing."""

    def __init__(self, horizon: int = 1, n_dims: int = 1, n_state: int = 1) -> None:
        super().__init__()
        self.horizon, self.n_dims = horizon, n_dims
        size = horizon * n_dims
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(size + n_state + 1, 64),
            torch.nn.SiLU(),
            torch.nn.Linear(64, 64),
            torch.nn.SiLU(),
            torch.nn.Linear(64, size),
        )

    def prefix(self, batch: None) -> None:
        return batch

    def velocity(self, prefix, state, x_t, t):
        shown = torch.cat([x_t.flatten(1), state, t[:, None]], dim=1)
        return self.layers(shown).view(x_t.shape)


class Constant:
    """A velocity that is the same everywhere, and what it was asked."""

    horizon, n_dims = 2, 3

    def __init__(self, value: float = 0.5) -> None:
        self.value, self.asked = value, []

    def prefix(self, batch: None) -> None:
        return batch

    def velocity(self, prefix, state, x_t, t):
        self.asked.append((x_t.clone(), t.clone()))
        return torch.full_like(x_t, self.value)


def learn(model: Small, actions, n_steps: int = 600, **options) -> Small:
    """From ``actions`` () → [256, H, D]."""
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    for _ in range(n_steps):
        loss = flow_loss(partial(model.velocity, None, torch.zeros(256, 1)), actions(), **options)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model


def drawn(model: Small, n: int = 2000, n_steps: int = 20):
    with torch.no_grad():
        noise = torch.randn(n, model.horizon, model.n_dims)
        return sample(model, None, torch.zeros(n, 1), noise, n_steps)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_times_are_distributed_as_beta_towards_the_noise():
    times = sample_times(200_000)
    assert times.min() >= 0.001 and times.max() <= 1.0
    raw = (times - 0.001) / 0.999
    assert raw.mean().item() == pytest.approx(1.5 / 2.5, abs=3e-3)  # of Beta(1.5, 1)
    assert (raw < 0.5).float().mean().item() == pytest.approx(0.5**1.5, abs=3e-3)


def test_a_shifted_gaussian_is_learned():
    got = drawn(learn(Small(), lambda: 3.0 + 0.5 * torch.randn(256, 1, 1)))
    assert got.mean().item() == pytest.approx(3.0, abs=0.1)
    assert got.std().item() == pytest.approx(0.5, abs=0.12)


def test_both_modes_of_a_mixture_are_learned_and_not_their_mean():
    def mixture():
        side = (torch.rand(256, 1, 1) < 0.3).float() * 2 - 1
        return 2.0 * side + 0.2 * torch.randn(256, 1, 1)

    got = drawn(learn(Small(), mixture, 1200)).flatten()
    right = got > 0
    assert right.float().mean().item() == pytest.approx(0.3, abs=0.08)
    assert got[right].median().item() == pytest.approx(2.0, abs=0.2)
    assert got[~right].median().item() == pytest.approx(-2.0, abs=0.2)
    assert (got.abs() < 1.0).float().mean().item() < 0.08


def test_euler_goes_from_one_to_zero_in_equal_steps():
    model, noise = Constant(0.5), torch.randn(4, 2, 3)
    got = sample(model, None, torch.zeros(4, 1), noise, 10)
    assert torch.allclose(got, noise - 0.5, atol=1e-6)
    times = torch.stack([t[0] for _, t in model.asked])
    assert torch.allclose(times, torch.linspace(1.0, 0.1, 10))


def test_inactive_dimensions_are_shown_and_returned_as_zero():
    model = Constant(0.5)
    active = torch.tensor([True, False, True])
    got = sample(model, None, torch.zeros(4, 1), torch.randn(4, 2, 3), 5, active=active)
    assert all((x_t[..., 1] == 0).all() for x_t, _ in model.asked)
    assert (got[..., 1] == 0).all() and (got[..., 0] != 0).all()


def test_inactive_dimensions_are_no_part_of_the_loss():
    model, actions = Constant(), torch.randn(8, 2, 3)
    active = torch.tensor([True, False, True])
    losses = []
    for value in (0.0, 1e6):
        actions[..., 1] = value
        generator = torch.Generator().manual_seed(1)
        velocity = partial(model.velocity, None, torch.zeros(8, 1))
        loss = flow_loss(velocity, actions, active=active, generator=generator)
        losses.append(loss.item())
    assert losses[0] == losses[1]
    assert all((x_t[..., 1] == 0).all() for x_t, _ in model.asked)


def test_the_loss_is_the_mean_square_of_noise_less_actions():
    actions = torch.full((5000, 2, 3), 2.0)
    loss = flow_loss(lambda x_t, t: torch.zeros_like(x_t), actions)
    assert loss.item() == pytest.approx(1 + 2.0**2, rel=0.03)


def test_guidance_gets_the_velocity_and_decides_what_is_followed():
    seen = []

    def stop(x_t, v, t, velocity_fn):
        seen.append((t[0].item(), torch.equal(velocity_fn(x_t), v)))
        return torch.zeros_like(v)

    noise = torch.randn(4, 2, 3)
    got = sample(Constant(), None, torch.zeros(4, 1), noise, 4, guidance=stop)
    assert torch.equal(got, noise)
    assert seen == [(1.0, True), (0.75, True), (0.5, True), (0.25, True)]


def test_guidance_may_differentiate_through_the_velocity_where_nothing_else_does():
    model = Small(2, 3)
    gradients = []

    def pull(x_t, v, t, velocity_fn):
        with torch.enable_grad():
            _, backward = torch.func.vjp(velocity_fn, x_t)
        gradients.append(backward(torch.ones_like(v))[0])
        return v + gradients[-1]

    with torch.no_grad():
        sample(model, None, torch.zeros(4, 1), torch.randn(4, 2, 3), 3, guidance=pull)
    assert len(gradients) == 3
    assert all(gradient.abs().sum() > 0 for gradient in gradients)
