"""Every network under ../shared/data: 200 real inputs each, flat, zero and extreme ones, against onnxruntime."""

import csv

import numpy as np
import pytest
import torch
from agreement import assert_agrees, floats
from torch import nn

from calotte.models.onnx import load
from calotte.models.torch import from_torch
from calotte.network.affine import Affine, Dense
from calotte.network.enclosure import evaluate


@pytest.fixture(scope="module")
def cifar(data):
    """200 CIFAR-10 images (200, 3, 32, 32) in [0, 1], labels."""
    images = np.load(data / "cifar10" / "X_sdp.npy").transpose(0, 3, 1, 2)
    return images, np.load(data / "cifar10" / "y_sdp.npy").astype(np.int64).reshape(-1)


def normalised(images, mean, scale):
    mean, scale = (np.asarray(v, np.float32).reshape(1, -1, 1, 1) for v in (mean, scale))
    return (images - mean) / scale


def agreeing(network, path, images):
    x = images.reshape(len(images), -1).astype(np.float32)
    d = network.d
    special = [np.zeros((1, d)), np.ones((1, d)), np.full((1, d), -0.5), 1e6 * x[:2], 1e4 * floats(2, d)]
    return assert_agrees(network, path, np.concatenate([x, *special]).astype(np.float32))[: len(x)]


CIFAR = [
    ("cifar10_resnet/resnet_2b.onnx", [0.4914, 0.4822, 0.4465], [0.2471, 0.2435, 0.2616], 0.740, 6244),
    ("cifar10_resnet/resnet_4b.onnx", [0.4914, 0.4822, 0.4465], [0.2471, 0.2435, 0.2616], 0.845, 14436),
    ("oval21_cifar_conv/cifar_base_kw.onnx", [0.485, 0.456, 0.406], [0.225], 0.58, 3172),
]


@pytest.mark.parametrize(("file", "mean", "scale", "accuracy", "units"), CIFAR)
def test_convolutional_and_residual_networks(data, cifar, file, mean, scale, accuracy, units):
    images, labels = cifar
    network = load(data / file)
    assert (network.input_shape, network.hidden_units) == ((3, 32, 32), units)
    theirs = agreeing(network, data / file, normalised(images, mean, scale))
    assert (theirs.argmax(1) == labels).mean() == pytest.approx(accuracy, abs=1e-6)


@pytest.mark.parametrize(("kind", "accuracy", "pool"), [("avgpool", 0.9795, 0), ("maxpool", 0.9792, 15 * 32 * 6 * 6)])
def test_pooling_networks(data, mnist, kind, accuracy, pool):
    path = data / "verivital_mnist_conv" / f"Convnet_{kind}.onnx"
    network = load(path)
    images, labels = mnist
    assert network.hidden_units == 32 * 27 * 27 + pool
    agreeing(network, path, images[:200])
    got = torch.cat([network.predict(network.inputs(part)) for part in np.array_split(images[:2000], 8)]).numpy()
    assert (got == labels[:2000]).mean() == pytest.approx(accuracy, abs=0.012)


def test_the_first_images_of_eran(data, mnist):
    with open(data / "mnist" / "eran_mnist_test_100.csv") as file:
        rows = np.array(list(csv.reader(file)), dtype=np.float32)
    network = load(data / "eran_mnist" / "mnist_relu_9_200.onnx")
    assert np.array_equal(rows[:, 0].astype(int), mnist[1][:100])
    agreeing(network, data / "eran_mnist" / "mnist_relu_9_200.onnx", rows[:, 1:] / np.float32(255))


@pytest.mark.parametrize("file", ["mnist_fc_3layer.pth", "mnist_cnn_small.pth"])
def test_saved_torch_networks(data, mnist, file):
    state = torch.load(data / "torch_mnist" / file, weights_only=True, map_location="cpu")
    module, pending = nn.Sequential(), list(state.values())
    while pending:
        weight, bias = pending.pop(0), pending.pop(0)
        if weight.ndim == 4:
            layer = nn.Conv2d(*weight.shape[1::-1], weight.shape[2:], stride=2, padding=1)
        else:
            if not any(isinstance(m, nn.Flatten) for m in module):
                module.append(nn.Flatten())
            layer = nn.Linear(weight.shape[1], weight.shape[0])
        layer.load_state_dict({"weight": weight, "bias": bias})
        module.extend([layer, nn.ReLU()] if pending else [layer])
    module.eval()
    network = from_torch(module, (1, 28, 28))
    images, labels = mnist
    x = network.inputs(images[:1000])
    with torch.no_grad():
        theirs = module(torch.from_numpy(images[:1000]).reshape(-1, 1, 28, 28)).double()
    assert torch.allclose(network.forward(x), theirs, rtol=0, atol=1e-5 * theirs.abs().max().item())
    assert (network.predict(x).numpy() == labels[:1000]).mean() > 0.95


@pytest.mark.parametrize("file", [row[0] for row in CIFAR] + ["verivital_mnist_conv/Convnet_maxpool.onnx"])
def test_adjoints_and_enclosures_on_real_networks(data, file):
    """Adjoints of every map to 1e-12; the enclosure in float64 holds what float128-like summation gives."""
    network = load(data / file)
    generator = torch.Generator().manual_seed(0)
    for node in network.nodes[1:]:
        op = node.op
        if not isinstance(op, Affine):
            continue
        xs = [torch.randn(2, *s, generator=generator, dtype=torch.float64) for s in op.input_shapes]
        y = torch.randn(2, *op.output_shape, generator=generator, dtype=torch.float64)
        left = (op.linear(*xs) * y).sum()
        right = sum((x * a).sum() for x, a in zip(xs, op.adjoint(y), strict=True))
        scale = (op.absolute.linear(*(x.abs() for x in xs)) * y.abs()).sum()
        assert abs(left - right) <= 1e-12 * scale
    x = torch.rand(2, network.d, generator=generator, dtype=torch.float64)
    out = evaluate(network, x)[-1]
    assert (out.error <= 1e-8 * out.value.abs().amax()).all()
    assert isinstance(network.nodes[-1].op, Dense)
