"""The first layer of the vision tower: a Conv3d that is really a product with one matrix.

Each patch is one whole kernel. In 32 bits the product is used: it is several times faster, and the
same up to rounding. In 16 bits Conv3d stays where it can: the product adds up in another order, one
in ten thousand of its results rounds to the neighbour, and behind the last layer one token in a
hundred is another than stock transformers writes.

It cannot stay in builds of torch that convolve one patch after the other: minutes instead of
milliseconds (pytorch issue 174051 with torch 2.9, transformers issue 45750 with some cuDNN); nor on
GPUs for which cuDNN has no convolution in this dtype (bfloat16 before Ampere).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from rynn_brain_ros.models.local.failures import cause
from rynn_brain_ros.models.local.gpu import finish

_SLOW_RATIO = 30.0
"""Conv3d takes 2 to 5 times as long as the product where it works, thousands where it does not."""
_TRIED_PATCHES, _TRIES = 64, 3
Seconds = Callable[[Callable[[torch.Tensor], torch.Tensor], torch.Tensor], float]


def settle(projection: Any, seconds: Seconds | None = None) -> tuple[str, ...]:
    """Decides how ``projection`` (``patch_embed.proj``) computes from now on.

    ``seconds`` measures a function on an argument. Returns what people should know about it.
    """
    weight = projection.weight
    if weight.dtype is torch.float32:
        projection.forward = _product(projection)
        return ()
    measure = seconds or _seconds
    patches = torch.zeros((_TRIED_PATCHES, *weight.shape[1:]), dtype=weight.dtype).to(weight.device)
    with torch.inference_mode():
        try:
            conv_s = measure(projection, patches)
        except RuntimeError as error:
            trouble, remedy = f"does not work here ({cause(error)})", ""
        else:
            ratio = conv_s / measure(_product(projection), patches)
            if ratio < _SLOW_RATIO:
                return ()
            trouble = f"is {ratio:.0f} times slower here than it need be"
            remedy = ". pip install -U 'torch>=2.10' for the same tokens"
    projection.forward = _product(projection)
    return (
        f"the Conv3d of torch {torch.__version__} {trouble}, so a product of matrices takes its "
        f"place: about one token in a hundred differs from stock transformers{remedy}",
    )


def _product(projection: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    def multiply(patches: torch.Tensor) -> torch.Tensor:
        weight = projection.weight.flatten(1)
        return torch.nn.functional.linear(patches.flatten(1), weight, projection.bias)

    return multiply


def _seconds(compute: Callable[[torch.Tensor], torch.Tensor], values: torch.Tensor) -> float:
    """The best of a few tries: whoever else uses the machine only ever adds."""
    return min(_once(compute, values) for _ in range(_TRIES))


def _once(compute: Callable[[torch.Tensor], torch.Tensor], values: torch.Tensor) -> float:
    finish(values.device)
    began = time.perf_counter()
    compute(values)
    finish(values.device)
    return time.perf_counter() - began
