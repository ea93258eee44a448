"""The first layer of the vision tower, where Conv3d is slow and where it is not."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from rynn_brain_ros.models.local.patch_embedding import settle  # noqa: E402


class Watched(TorchDispatchMode):
    """Notes the operations that torch is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: set[str] = set()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.operations.add(str(operation))
        return operation(*args, **(kwargs or {}))


def projection(dtype):
    torch.manual_seed(0)
    return torch.nn.Conv3d(3, 32, (2, 16, 16), (2, 16, 16)).to(dtype).requires_grad_(False)


def measured(conv_s: float, product_s: float):
    """A stopwatch that has seen it before: Conv3d is asked first."""
    times = iter((conv_s, product_s))
    return lambda compute, values: next(times)


def convolves(layer) -> bool:
    with Watched() as watched:
        layer(torch.ones((4, *layer.weight.shape[1:]), dtype=layer.weight.dtype))
    return any("conv" in operation for operation in watched.operations)


def test_in_32_bits_a_product_takes_its_place_with_the_same_result():
    layer, stock = projection(torch.float32), projection(torch.float32)
    patches = torch.randn(8, 3, 2, 16, 16)
    assert settle(layer) == ()
    assert not convolves(layer)
    assert convolves(stock)
    torch.testing.assert_close(layer(patches).flatten(), stock(patches).flatten())


def test_in_16_bits_conv3d_stays_where_it_works():
    layer = projection(torch.bfloat16)
    assert settle(layer, measured(0.035, 0.01)) == ()
    assert convolves(layer)


def test_in_16_bits_a_pathological_conv3d_is_replaced_and_people_are_told():
    layer, stock = projection(torch.bfloat16), projection(torch.bfloat16)
    (note,) = settle(layer, measured(1.5, 0.001))
    assert "1500 times slower" in note
    assert "torch>=2.10" in note
    assert not convolves(layer)
    patches = torch.randn(8, 3, 2, 16, 16, dtype=torch.bfloat16)
    torch.testing.assert_close(layer(patches).flatten(), stock(patches).flatten())


def test_the_conv3d_of_this_torch_is_not_pathological():
    assert settle(projection(torch.bfloat16)) == ()


def test_where_conv3d_does_not_work_at_all_a_product_takes_its_place():
    def fail(*_):
        raise RuntimeError("GET was unable to find an engine to execute this computation")

    layer = projection(torch.bfloat16)
    (note,) = settle(layer, fail)
    assert "does not work here (GET was unable to find an engine" in note
    assert not convolves(layer)
