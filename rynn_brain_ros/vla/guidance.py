"""Real-time chunking: a new chunk that goes on where the robot will be when it arrives.

As published (Black, Galliker, Levine: Real-Time Execution of Action Chunking Flow Policies, arXiv
2506.07339, equations 2 to 5; code: Physical-Intelligence/real-time-chunking-kinetix, src/model.py).
The paper's time τ runs from noise (0) to actions (1); here t = 1 − τ and the velocity is the
negative of the paper's, so that with ``x̂ = x_t − t · v`` it reads

    error = (left over − x̂) · w,   correction = (∂x̂ / ∂x_t)ᵀ error,   v ← v − g · correction,
    g = min(β, (t² + (1 − t)²) / (t · (1 − t))).

The correction is a true vector-Jacobian product through the network, which costs each step a second
evaluation and a backward pass. ``approximate`` takes the Jacobian for the identity, as LeRobot's
port does in effect: it costs nothing, is not the published method, and is the only way where a
graph gives no gradient (ONNX).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from rynn_brain_ros.config import setting
from rynn_brain_ros.vla.chunks import Chunk, Leftover, RuntimeSpec
from rynn_brain_ros.vla.normalization import Statistics
from rynn_brain_ros.vla.values import Floats, Observation, PolicyError, PolicySpec

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Chunking:
    """How closely a new chunk follows what is left of the previous one."""

    execution_horizon: int = setting(
        10,
        "steps of the previous chunk that bind the next; more than latency × rate, or as many bind "
        "as go by meanwhile, and half as many more as are set here",
        1,
        1000,
    )
    schedule: str = setting(
        "linear",
        "how the weights fall between the expected delay and execution_horizon",
        choices=("linear", "exponential"),
    )
    max_weight: float = setting(10.0, "β: the guidance's largest weight", 0.0, 1000.0)
    approximate: bool = setting(False, "take the network's Jacobian for the identity")


def prefix_weights(horizon: int, delay_steps: int, end: int, schedule: str = "linear") -> Floats:
    """[H]: 1 for the first ``delay_steps``, which will be executed whatever comes; falling until
    ``end``; 0 from there on. ``delay_steps`` is no more than ``end``. Equation 5 of the paper."""
    start = min(delay_steps, end)
    falling = np.clip((end - np.arange(horizon)) / (end - start + 1), 0.0, 1.0)
    if schedule == "exponential":
        falling *= np.expm1(falling) / (math.e - 1)
    return falling


def guidance_weight(t: float, max_weight: float) -> float:
    """``g`` at time ``t``, 1 (noise) to 0 (actions), ends excluded where it is infinite."""
    if not 0 < t < 1:
        return max_weight
    return min(max_weight, float(_unbounded(t)))


def _unbounded(t: Any) -> Any:
    """The same of a number and of a tensor."""
    return (t**2 + (1 - t) ** 2) / (t * (1 - t))


@dataclass(frozen=True, eq=False)
class Target:
    """What is left of the previous chunk, as long as a chunk and in the network's own normalized
    numbers: ``actions`` [H, D], and how much each step binds: ``weights`` [H, 1]."""

    actions: Floats
    weights: Floats

    @classmethod
    def of(cls, leftover: Floats, delay_steps: int, horizon: int, chunking: Chunking) -> Target:
        """``leftover`` [K, D] is normalized; what it does not tell does not bind. What joins the
        new chunk to it comes after the delay: where that is too long for ``chunking``, more steps
        bind than it says."""
        known = min(len(leftover), horizon)
        actions = np.zeros((horizon, leftover.shape[1]))
        actions[:known] = leftover[:known]
        wanted = chunking.execution_horizon
        if delay_steps >= wanted:
            _warn_once(wanted)
        end = min(max(wanted, delay_steps + wanted // 2), known)
        weights = prefix_weights(horizon, delay_steps, end, chunking.schedule)
        return cls(actions, weights[:, None])


@lru_cache
def _warn_once(execution_horizon: int) -> None:
    _log.warning(
        "answers come as late as execution_horizon, %d steps, or later: more steps than that bind "
        "now; set it above latency x rate (serve-policy --execution-horizon)",
        execution_horizon,
    )


def approximately_guided(
    x_t: Floats, v: Floats, t: float, target: Target, max_weight: float
) -> Floats:
    """The velocity to follow instead of ``v``, both [..., H, D], without any gradient."""
    error = (target.actions - (x_t - t * v)) * target.weights
    return v - guidance_weight(t, max_weight) * error


def torch_guidance(target: Target, chunking: Chunking) -> Callable[..., Any]:
    """What `flow.sample` takes as ``guidance``. Needs torch.

    The published method asks ``velocity_fn`` once more, recording gradients. Raises `PolicyError`
    under ``torch.inference_mode``, where none can be recorded: sample under ``torch.no_grad``.
    """
    import torch  # noqa: PLC0415

    def weight(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """`guidance_weight` where ``t`` is: to ask for its numbers would wait for a GPU."""
        inside = (t > 0) & (t < 1)
        each = torch.where(inside, _unbounded(t.double()), math.inf).clamp(max=chunking.max_weight)
        return each.to(x_t.dtype)[:, None, None]  # [B, 1, 1]

    @lru_cache(maxsize=1)
    def placed(dtype: torch.dtype, device: torch.device) -> tuple[torch.Tensor, ...]:
        parts = (target.actions, target.weights)
        return tuple(torch.as_tensor(part, dtype=dtype, device=device) for part in parts)

    def error_of(estimate: torch.Tensor) -> torch.Tensor:
        actions, weights = placed(estimate.dtype, estimate.device)
        return (actions - estimate) * weights  # [B, H, D]

    def approximate(
        x_t: torch.Tensor, v: torch.Tensor, t: torch.Tensor, _: Callable[..., Any]
    ) -> torch.Tensor:
        estimate = x_t - t[:, None, None].to(x_t.dtype) * v
        return v - weight(x_t, t) * error_of(estimate)

    def published(
        x_t: torch.Tensor, _: torch.Tensor, t: torch.Tensor, velocity_fn: Callable[..., Any]
    ) -> torch.Tensor:
        if torch.is_inference_mode_enabled():
            raise PolicyError(
                "real-time chunking needs gradients with respect to the actions: sample under "
                "torch.no_grad instead of torch.inference_mode, or choose approximate"
            )
        with torch.enable_grad():
            x = x_t.detach().requires_grad_(True)
            v = velocity_fn(x)
            estimate = x - t[:, None, None].to(x.dtype) * v
            (correction,) = torch.autograd.grad(estimate, x, error_of(estimate.detach()))
        return v.detach() - weight(x_t, t) * correction

    return approximate if chunking.approximate else published


class _Loaded(Protocol):
    """A `checkpoint.LoadedPolicy`, whose module needs torch."""

    @property
    def spec(self) -> PolicySpec: ...
    @property
    def statistics(self) -> Statistics: ...
    def sampled(
        self, observations: Sequence[Observation], noise: Any, guidance: Any = None
    ) -> Floats: ...


class CheckpointPolicy:
    """A `chunks.Policy` of a checkpoint that is loaded here, with real-time chunking where a
    previous chunk is told. Needs torch. Of one thread.

    The noise is drawn from ``seed``, so that the same observations in the same order give the same
    chunks.
    """

    def __init__(self, loaded: _Loaded, chunking: Chunking | None = None, seed: int = 0) -> None:
        import torch  # noqa: PLC0415

        self._loaded, self._chunking = loaded, chunking or Chunking()
        self._noise = torch.Generator().manual_seed(seed)
        self.spec = RuntimeSpec(loaded.spec.horizon, loaded.statistics)

    def infer(self, observation: Observation, previous: Leftover | None = None) -> Chunk:
        """Raises `PolicyError` for an observation that the policy cannot read."""
        import torch  # noqa: PLC0415

        noise = torch.randn((1, self.spec.horizon, self.spec.n_dims), generator=self._noise)
        guidance = None if previous is None else self._guidance(observation, previous)
        chunk: Chunk = self._loaded.sampled([observation], noise, guidance)[0]
        return chunk

    def _guidance(self, observation: Observation, previous: Leftover) -> Callable[..., Any]:
        """The leftover as the network would say it: relative to where the robot is now."""
        told = self.spec.statistics.chunk_in(previous.actions, observation.state)
        horizon = self.spec.horizon
        target = Target.of(told, previous.delay_steps, horizon, self._chunking)
        return torch_guidance(target, self._chunking)
