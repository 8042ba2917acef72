"""What a forward pass holds, and convolutions that are taken block by block."""

from __future__ import annotations

import gc

import pytest
import torch
from torch.nn import functional
from zoo import dense, network, residual

from calotte.network.affine import Dense, Reshape
from calotte.network.convolution import Convolution
from calotte.network.footprint import footprint, pass_size
from calotte.network.graph import Network, Relu
from calotte.rounding import gamma


def convolution(
    shape: tuple[int, ...], outputs: int, size: int, stride: int, padding: tuple[int, int]
) -> Convolution:
    generator = torch.Generator().manual_seed(0)
    kernel = torch.randn(outputs, shape[0], size, size, dtype=torch.float64, generator=generator)
    bias = torch.randn(outputs, dtype=torch.float64, generator=generator)
    return Convolution(kernel, bias, shape, stride=(stride,) * 2, padding=(padding,) * 2, dilation=(1, 1))


@pytest.mark.parametrize("batch", [1, 2, 77])
@pytest.mark.parametrize(
    ("shape", "outputs", "size", "stride", "padding"),
    [((3, 40, 40), 5, 3, 1, (1, 1)), ((4, 9, 7), 6, 3, 2, (1, 0)),
     ((8, 30, 30), 2, 1, 1, (0, 0)), ((2, 5, 5), 3, 5, 1, (0, 0))],
)  # fmt: skip
def test_blocks_of_a_convolution(
    batch: int, shape: tuple[int, ...], outputs: int, size: int, stride: int, padding: tuple[int, int]
) -> None:
    """Within the rounding contract of PyTorch's own convolution; and the gradient passes through."""
    op = convolution(shape, outputs, size, stride, padding)
    x = torch.randn(batch, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    padded = functional.pad(x, (*padding, *padding))
    theirs = functional.conv2d(padded, op.kernel, None, stride)
    magnitude = functional.conv2d(padded.abs(), op.kernel.abs(), None, stride)
    assert op.linear(x).shape == theirs.shape
    assert ((op.linear(x) - theirs).abs() <= 2 * gamma(op.terms) * magnitude).all()
    ours, own = (torch.autograd.grad((y**2).sum(), x)[0] for y in (op.linear(x), theirs))
    assert torch.allclose(ours, own)


def held(net: Network, batch: int) -> int:
    """The most numbers in living float64 tensors of a batch during a forward pass, less those before it."""
    x = torch.zeros(batch, net.d, dtype=torch.float64)

    def living() -> int:
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in gc.get_objects()
                    if type(t) is torch.Tensor and t.device.type == "cpu"}  # fmt: skip
        return sum(storages.values()) // 8

    before = living()
    return max(living() - before for _ in net.values(x)) // batch + net.d


CONVOLUTIONAL = network(
    (3, 12, 12), convolution((3, 12, 12), 8, 3, 1, (1, 1)), Relu((8, 12, 12)), Reshape((8, 12, 12), (1152,)),
    Dense(torch.ones(2, 1152, dtype=torch.float64)),
)  # fmt: skip
NETWORKS = {
    "dense": dense((torch.ones(50, 9), None), (torch.ones(20, 50), None), (torch.ones(2, 20), None)),
    "residual": residual(12, 3, 4),
    "convolutional": CONVOLUTIONAL,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_footprint_holds_what_lives(name: str) -> None:
    """At least what is alive between two nodes, and no more than three times that with a node's own temporaries."""
    net = NETWORKS[name]
    assert held(net, 64) <= footprint(net) <= 3 * held(net, 64)


def test_passes_fit_the_memory_and_are_never_empty() -> None:
    net = NETWORKS["dense"]
    row = footprint(net) + net.d
    assert pass_size(net, 80.0 * row) == 10
    assert pass_size(net, 80.0 * row, width=4) == 20
    assert pass_size(net, 1.0) == 1
    assert pass_size(net, 1e30) == 2**23 // row
