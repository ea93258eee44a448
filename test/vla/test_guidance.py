"""Real-time chunking on flows that are known exactly.

For chunks from a Gaussian N(m, C) the optimal velocity is linear: with x_t = t · noise + (1 − t) ·
actions, S = t² I + (1 − t)² C and d = x_t − (1 − t) m it is t S⁻¹ d − m − (1 − t) C S⁻¹ d.
"""

from __future__ import annotations

import numpy as np
import pytest

from rynn_brain_ros.vla.guidance import (
    Chunking,
    Target,
    approximately_guided,
    guidance_weight,
    prefix_weights,
)
from rynn_brain_ros.vla.values import PolicyError

H, DELAY = 16, 4
_STEPS = np.arange(H)
COVARIANCE = np.exp(-(((_STEPS[:, None] - _STEPS) / 6.0) ** 2)) + 1e-3 * np.eye(H)
"""Smooth chunks: neighbouring steps go together."""
MEAN = np.zeros(H)


def jacobian(t: float) -> np.ndarray:
    """∂v / ∂x_t [H, H] of the Gaussian flow."""
    S = t**2 * np.eye(H) + (1 - t) ** 2 * COVARIANCE
    return (t * np.eye(H) - (1 - t) * COVARIANCE) @ np.linalg.inv(S)


def velocity(x: np.ndarray, t: float) -> np.ndarray:
    """x [H, 1]."""
    return jacobian(t) @ (x - (1 - t) * MEAN[:, None]) - MEAN[:, None]


# --- weights -------------------------------------------------------------------------------------


def test_weights_are_one_while_the_chunk_is_made_then_fall_to_zero():
    assert prefix_weights(10, 2, 6).tolist() == pytest.approx(
        [1, 1, 4 / 5, 3 / 5, 2 / 5, 1 / 5, 0, 0, 0, 0]
    )


def test_exponential_weights_are_those_of_the_paper():
    c = np.array([4, 3, 2, 1]) / 5
    falling = prefix_weights(10, 2, 6, "exponential")
    assert falling[:2].tolist() == pytest.approx([1, 1])
    assert falling[2:6] == pytest.approx(c * (np.exp(c) - 1) / (np.e - 1))
    assert not falling[6:].any()


@pytest.mark.parametrize("schedule", ["linear", "exponential"])
def test_a_delay_beyond_the_horizon_binds_all_of_it_and_no_more(schedule):
    assert prefix_weights(8, 9, 5, schedule).tolist() == pytest.approx([1] * 5 + [0] * 3)


def weights(delay_steps: int, execution_horizon: int = 10) -> list[float]:
    chunking = Chunking(execution_horizon=execution_horizon)
    return Target.of(np.ones((32, 2)), delay_steps, 32, chunking).weights[:, 0].tolist()


def test_answers_that_take_longer_than_the_horizon_are_bound_where_they_join():
    for delay_steps in (10, 15):
        bound = weights(delay_steps)
        assert bound[:delay_steps] == [1.0] * delay_steps
        assert bound[delay_steps : delay_steps + 5] == pytest.approx(np.arange(5, 0, -1) / 6)
        assert not any(bound[delay_steps + 5 :])


def test_a_horizon_that_is_long_enough_says_how_many_steps_bind():
    assert np.flatnonzero(weights(5)).tolist() == list(range(10))
    assert np.flatnonzero(weights(1, execution_horizon=1)).tolist() == [0]


def test_a_horizon_that_is_too_short_is_told_once(caplog: pytest.LogCaptureFixture):
    for delay_steps in (2, 4, 5, 3):
        weights(delay_steps, execution_horizon=3)
    (told,) = caplog.messages
    assert told.startswith("answers come as late as execution_horizon, 3 steps, or later")


def test_what_is_not_left_does_not_bind():
    target = Target.of(np.ones((3, 2)), 1, 8, Chunking(execution_horizon=6))
    assert target.actions[:3].tolist() == [[1, 1]] * 3
    assert target.weights[:, 0].tolist() == pytest.approx([1, 2 / 3, 1 / 3, 0, 0, 0, 0, 0])


@pytest.mark.parametrize("t", [0.1, 0.3, 0.5, 0.9])
def test_the_guidance_weight_is_the_papers_with_time_turned_round(t):
    tau = 1 - t
    r2 = (1 - tau) ** 2 / (tau**2 + (1 - tau) ** 2)
    assert guidance_weight(t, 1000.0) == pytest.approx((1 - tau) / (tau * r2))


@pytest.mark.parametrize("t", [0.0, 1e-9, 1.0])
def test_the_guidance_weight_is_capped_where_it_would_be_infinite(t):
    assert guidance_weight(t, 10.0) == 10.0


# --- without torch -------------------------------------------------------------------------------


def sampled_approximately(noise: np.ndarray, target: Target | None, n_steps: int = 20):
    x = noise
    for step in range(n_steps):
        t = 1 - step / n_steps
        v = velocity(x, t)
        if target is not None:
            v = approximately_guided(x, v, t, target, 10.0)
        x = x - v / n_steps
    return x


def previous_chunk(seed: int = 1) -> np.ndarray:
    """[H, 1] of the same Gaussian: a chunk that the policy could have made."""
    rng = np.random.default_rng(seed)
    return np.linalg.cholesky(COVARIANCE) @ rng.normal(size=(H, 1))


def frozen_error(chunk: np.ndarray, leftover: np.ndarray) -> float:
    return float(np.abs(chunk - leftover)[:DELAY].max())


def test_the_approximate_method_needs_no_gradient_and_keeps_the_frozen_steps():
    leftover, noise = previous_chunk(), np.random.default_rng(2).normal(size=(H, 1))
    target = Target.of(leftover, DELAY, H, Chunking())
    free = frozen_error(sampled_approximately(noise, None), leftover)
    guided = frozen_error(sampled_approximately(noise, target), leftover)
    assert guided < 0.1 * free


# --- with torch ----------------------------------------------------------------------------------


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="the extra model is not installed")


class GaussianModel:
    """A `flow.ChunkModel` of the flow above."""

    horizon, n_dims = H, 1

    def __init__(self, torch) -> None:
        self._torch = torch

    def velocity(self, prefix, state, x_t, t):
        J = self._torch.as_tensor(jacobian(float(t[0])), dtype=x_t.dtype)
        return J @ x_t


def sampled(torch, noise, guidance, n_steps: int = 20) -> np.ndarray:
    from rynn_brain_ros.vla.flow import sample  # noqa: PLC0415

    with torch.no_grad():
        x = torch.as_tensor(noise)[None]
        chunk = sample(GaussianModel(torch), None, None, x, n_steps=n_steps, guidance=guidance)
        return chunk[0].numpy()


def guidance_of(leftover, **settings):
    from rynn_brain_ros.vla.guidance import torch_guidance  # noqa: PLC0415

    chunking = Chunking(**settings)
    return torch_guidance(Target.of(leftover, DELAY, H, chunking), chunking)


def test_the_published_method_keeps_the_frozen_steps(torch):
    leftover, noise = previous_chunk(), np.random.default_rng(2).normal(size=(H, 1))
    free = frozen_error(sampled(torch, noise, None), leftover)
    guided = frozen_error(sampled(torch, noise, guidance_of(leftover)), leftover)
    assert guided < 0.1 * free


def test_the_published_correction_is_the_transposed_jacobian_times_the_error(torch):
    leftover, t = previous_chunk(), 0.6
    x = np.random.default_rng(3).normal(size=(H, 1))
    x_t, times = torch.as_tensor(x)[None], torch.full((1,), t, dtype=torch.float64)
    model = GaussianModel(torch)

    def velocity_fn(at):
        return model.velocity(None, None, at, times)

    v = velocity_fn(x_t)
    bent = guidance_of(leftover)(x_t, v, times, velocity_fn)[0].numpy()
    weights = prefix_weights(H, DELAY, 10)[:, None]
    error = (leftover - (x - t * velocity(x, t))) * weights
    correction = (np.eye(H) - t * jacobian(t)).T @ error
    expected = velocity(x, t) - guidance_weight(t, 10.0) * correction
    np.testing.assert_allclose(bent, expected, atol=1e-12)


def test_the_correction_agrees_with_finite_differences_on_a_nonlinear_flow(torch):
    """error · (x̂(x + h u) − x̂(x − h u)) / 2h = correction · u for any direction u."""
    generator = torch.Generator().manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(H, 32), torch.nn.Tanh(), torch.nn.Linear(32, H))
    net = net.double()
    x_t = torch.randn(2, H, 1, generator=generator, dtype=torch.float64)
    times = torch.full((2,), 0.4, dtype=torch.float64)

    def velocity_fn(at):
        return net(at[..., 0])[..., None]

    leftover = previous_chunk()
    with torch.no_grad():
        v = velocity_fn(x_t)
        bent = guidance_of(leftover)(x_t, v, times, velocity_fn)
        correction = (v - bent) / guidance_weight(0.4, 10.0)
        weights = torch.as_tensor(prefix_weights(H, DELAY, 10))[:, None]
        error = (torch.as_tensor(leftover) - (x_t - 0.4 * v)) * weights
        u = torch.randn(2, H, 1, generator=generator, dtype=torch.float64)
        ahead, behind = x_t + 1e-5 * u, x_t - 1e-5 * u
        change = (ahead - 0.4 * velocity_fn(ahead)) - (behind - 0.4 * velocity_fn(behind))
    assert float((correction * u).sum()) == pytest.approx(float((error * change).sum() / 2e-5))


def test_only_the_published_method_carries_the_correction_to_the_steps_after(torch):
    """Where steps depend on each other the Jacobian is not the identity: what follows the frozen
    steps moves with them instead of breaking off."""
    leftover, precision = previous_chunk(), np.linalg.inv(COVARIANCE)
    noises = np.random.default_rng(0).normal(size=(6, H, 1))

    def unlikeliness(approximate: bool) -> float:
        guidance = guidance_of(leftover, approximate=approximate)
        chunks = [sampled(torch, noise, guidance)[:, 0] for noise in noises]
        return sum(float(chunk @ precision @ chunk) for chunk in chunks)

    assert unlikeliness(approximate=False) < 0.8 * unlikeliness(approximate=True)


def test_both_methods_agree_where_the_jacobian_is_the_identity(torch):
    x_t = torch.randn(1, H, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    times = torch.full((1,), 0.5, dtype=torch.float64)

    def velocity_fn(at):
        return torch.full_like(at, 0.3) + 0 * at

    v, leftover = velocity_fn(x_t), previous_chunk()
    results = [
        guidance_of(leftover, approximate=approximate)(x_t, v, times, velocity_fn)
        for approximate in (False, True)
    ]
    torch.testing.assert_close(*results)


def test_the_approximate_method_is_the_same_with_and_without_torch(torch):
    leftover, noise = previous_chunk(), np.random.default_rng(2).normal(size=(H, 1))
    target = Target.of(leftover, DELAY, H, Chunking())
    with_torch = sampled(torch, noise, guidance_of(leftover, approximate=True))
    np.testing.assert_allclose(with_torch, sampled_approximately(noise, target), atol=1e-6)


def test_sampling_leaves_no_gradients_behind(torch):
    net = torch.nn.Linear(1, 1).double()
    x_t, times = torch.zeros(1, H, 1, dtype=torch.float64), torch.full((1,), 0.5)
    with torch.no_grad():
        bent = guidance_of(previous_chunk())(x_t, net(x_t), times, net)
    assert not bent.requires_grad
    assert net.weight.grad is None


def test_inference_mode_is_refused_by_name(torch):
    x_t, times = torch.zeros(1, H, 1), torch.full((1,), 0.5)
    with torch.inference_mode(), pytest.raises(PolicyError, match="no_grad"):
        guidance_of(previous_chunk())(x_t, x_t, times, lambda x: x)
