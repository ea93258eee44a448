"""Flow matching: how a network learns to turn noise into chunks of actions, and how it does.

Conventions of π0 (arXiv 2410.24164) and RynnBrain-VLA: time runs from 1 (noise) to 0 (actions),
``x_t = t · noise + (1 − t) · actions`` and the network predicts ``noise − actions``. Everything
here is normalized; shapes are [B, H, D]: batch, steps of the chunk, dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

PrefixT = TypeVar("PrefixT")
BatchT_contra = TypeVar("BatchT_contra", contravariant=True)

VelocityFn = Callable[[Tensor], Tensor]
"""x_t [B, H, D] → velocity [B, H, D] at the time of the step in hand; differentiable."""
Guidance = Callable[[Tensor, Tensor, Tensor, VelocityFn], Tensor]
"""(x_t, v, t [B], velocity_fn) → the velocity that is followed instead of v."""

N_STEPS = 10
"""Of Euler's method, as π0 and RynnBrain-VLA do it."""
_TIME_ALPHA, _TIME_SCALE, _TIME_SHIFT = 1.5, 0.999, 0.001


class ChunkModel(Protocol, Generic[BatchT_contra, PrefixT]):
    """A policy's network. What it sees is read once; velocities are asked many times.

    ``prefix`` is not changed by ``velocity``, which may be differentiated with respect to x_t.
    A prefix made under ``torch.inference_mode`` may not: use ``torch.no_grad``.
    """

    horizon: int
    n_dims: int

    def prefix(self, batch: BatchT_contra) -> PrefixT: ...

    def velocity(self, prefix: PrefixT, state: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """``state`` [B, S], ``x_t`` [B, H, D], ``t`` [B] → [B, H, D]."""
        ...


def sample_times(
    n: int, device: torch.device | str = "cpu", generator: torch.Generator | None = None
) -> Tensor:
    """[n] of Beta(1.5, 1) · 0.999 + 0.001: more often near the noise, where little is known yet.

    Beta(a, 1) has the distribution function ``t ** a``.
    """
    uniform = torch.rand(n, device=device, generator=generator)
    return uniform ** (1 / _TIME_ALPHA) * _TIME_SCALE + _TIME_SHIFT


def flow_loss(
    velocity: Callable[[Tensor, Tensor], Tensor],
    actions: Tensor,
    *,
    active: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Mean squared error of the velocity, at one random time and noise for each chunk.

    ``velocity`` maps (x_t, t) to [B, H, D]: ``partial(model.velocity, prefix, state)``.
    ``actions`` [B, H, D] is normalized; only dimensions where ``active`` (bool, [D] or anything
    that broadcasts to [B, H, D]) is true count, and only they are shown.

    A low loss does not show that a policy knows where to go: with little noise x_t itself tells.
    Judge by where sampled chunks end.
    """
    t = sample_times(len(actions), actions.device, generator)
    noise = torch.randn(
        actions.shape, device=actions.device, dtype=actions.dtype, generator=generator
    )
    mask = _mask(actions, active)
    error = squared_errors(lambda x_t, t: velocity(x_t * mask, t), actions, t, noise)
    return (error * mask).sum() / mask.sum()


def squared_errors(
    velocity: Callable[[Tensor, Tensor], Tensor], actions: Tensor, t: Tensor, noise: Tensor
) -> Tensor:
    """[B, H, D]: of what ``velocity`` says at the times ``t`` [B] on the straight line from
    ``actions`` [B, H, D] to ``noise`` of that shape."""
    at = t[:, None, None].to(actions.dtype)
    x_t = at * noise + (1 - at) * actions
    error: Tensor = velocity(x_t, t).to(actions.dtype) - (noise - actions)
    return error**2


def sample(
    model: ChunkModel[Any, PrefixT],
    prefix: PrefixT,
    state: Tensor,
    noise: Tensor,
    n_steps: int = N_STEPS,
    *,
    guidance: Guidance | None = None,
    active: Tensor | None = None,
) -> Tensor:
    """A normalized chunk [B, H, D] from ``noise`` of that shape, in ``n_steps`` of Euler's method.

    ``guidance`` may bend each velocity. Gradients are recorded as the caller has set them: wrap
    the call in ``torch.no_grad`` where none are needed, and guidance that needs some enables them
    around its own use of ``velocity_fn``.
    """
    mask = _mask(noise, active)
    x_t = noise * mask
    for step in range(n_steps):
        t = torch.full((len(noise),), 1 - step / n_steps, device=noise.device)

        def velocity_fn(x: Tensor, t: Tensor = t) -> Tensor:
            return model.velocity(prefix, state, x, t) * mask

        v = velocity_fn(x_t)
        if guidance is not None:
            v = guidance(x_t, v, t, velocity_fn)
        x_t = (x_t - v / n_steps) * mask
    return x_t


def _mask(like: Tensor, active: Tensor | None) -> Tensor:
    """[B, H, D] of ones and zeros."""
    if active is None:
        return torch.ones_like(like)
    return active.to(like.device, like.dtype).expand_as(like)
