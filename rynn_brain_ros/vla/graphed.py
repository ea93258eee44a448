"""A network's velocities, recorded once as a CUDA graph and then replayed.

A step of the flow is hundreds of small kernels; on a fast GPU, launching them takes longer than
they do. A graph launches them at once (PyTorch's documentation, "CUDA semantics", CUDA graphs). It
works on memory that stays where it is, so what a step needs is copied there first, and prefixes are
padded to a few lengths, each of which has its graph.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from rynn_brain_ros.models.local.failures import cause
from rynn_brain_ros.vla.network import Batch, ChunkNetwork, Prefix
from rynn_brain_ros.vla.values import PolicyError

Capture = Callable[[Callable[[], None], torch.device], Callable[[], None]]
"""Takes work on memory of a device that stays where it is; what it returns does that work
again."""
_BLOCK = 64
"""Lengths of prefixes are multiples of it."""
_MOST_GRAPHS = 4
_WARM_UPS = 3


def cuda_graph(work: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """A `Capture`. Needs a GPU of NVIDIA's."""
    with torch.cuda.device(device):  # or streams would be the current GPU's, and record nothing
        usual = torch.cuda.current_stream()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):  # libraries choose their kernels, which a graph must not see
                work()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=stream):  # its own is of the first GPU that asked
                work()
        finally:
            torch.cuda.set_stream(usual)  # a capture that fails leaves its own
    replay: Callable[[], None] = graph.replay
    return replay


class Graphed:
    """A `flow.ChunkModel` that replays ``network``'s velocities. Of one thread.

    A graph gives no gradient: where gradients are enabled (the published real-time chunking), the
    network itself is asked. What cannot be recorded is tried once: from then on ``velocity`` raises
    `PolicyError`.
    """

    def __init__(self, network: ChunkNetwork, capture: Capture = cuda_graph) -> None:
        self.horizon, self.n_dims = network.horizon, network.n_dims
        self._network, self._capture = network, capture
        self._graphs: OrderedDict[tuple[int, int], _Graph] = OrderedDict()
        self._trouble = ""

    def prefix(self, batch: Batch) -> Prefix:
        return self._network.prefix(batch)

    def velocity(self, prefix: Prefix, state: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return self._network.velocity(prefix, state, x_t, t)
        n, length = prefix.told.shape
        key = (n, -(-length // _BLOCK) * _BLOCK)
        if key not in self._graphs:
            while len(self._graphs) >= _MOST_GRAPHS:
                self._graphs.popitem(last=False)
            own = (part.clone() for part in (state, x_t, t))
            self._graphs[key] = self._recorded(_padded(prefix, key[1]), *own)
        self._graphs.move_to_end(key)
        return self._graphs[key](prefix, state, x_t, t)

    def _recorded(self, prefix: Prefix, *inputs: Tensor) -> _Graph:
        if not self._trouble:
            try:
                return _Graph(self._network, self._capture, prefix, *inputs)
            except RuntimeError as error:
                self._trouble = cause(error)
        raise PolicyError(
            f"a CUDA graph cannot be recorded here ({self._trouble}): go on without CUDA graphs"
        )


class _Graph:
    """What a graph reads and writes; ``_shown`` is whose numbers ``_prefix`` holds."""

    def __init__(
        self, network: ChunkNetwork, capture: Capture, prefix: Prefix, *inputs: Tensor
    ) -> None:
        """``inputs``: state, x_t and t; they and ``prefix`` become this graph's own."""
        self._prefix, self._inputs, self._shown = prefix, inputs, prefix
        x_t = inputs[1]
        self._velocity = torch.empty_like(x_t)

        def work() -> None:
            self._velocity.copy_(network.velocity(prefix, *inputs))

        self._replay = capture(work, x_t.device)

    def __call__(self, prefix: Prefix, *inputs: Tensor) -> Tensor:
        if prefix is not self._shown:
            _copy(_parts(_padded(prefix, self._prefix.told.shape[1])), _parts(self._prefix))
            self._shown = prefix
        _copy(inputs, self._inputs)
        self._replay()
        return self._velocity.clone()


def _copy(told: Sequence[Tensor], own: Sequence[Tensor]) -> None:
    for source, target in zip(told, own, strict=True):
        target.copy_(source)


def _parts(prefix: Prefix) -> tuple[Tensor, ...]:
    rest = (prefix.told, prefix.next_position, prefix.target)
    return (*prefix.keys, *prefix.values, *rest)


def _padded(prefix: Prefix, length: int) -> Prefix:
    """A copy, with tokens at its end that nothing sees."""
    more = length - prefix.told.shape[1]
    return Prefix(
        tuple(functional.pad(part, (0, 0, 0, more)) for part in prefix.keys),
        tuple(functional.pad(part, (0, 0, 0, more)) for part in prefix.values),
        functional.pad(prefix.told, (0, more)),
        prefix.next_position.clone(),
        prefix.target.clone(),
    )
