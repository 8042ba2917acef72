"""PyTorch modules through the one path shared with ONNX."""

import os

import numpy as np
import pytest
import torch
from torch import nn

from calotte.errors import InvalidModel, UnsupportedOperator
from calotte.network.graph import Relu
from calotte.network.torch import from_torch


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 7), nn.ReLU(), nn.Dropout(0.3), nn.Linear(7, 3)).eval()


def test_a_dense_module():
    module = mlp()
    network = from_torch(module, (3, 2, 2))
    assert network.input_shape == (3, 2, 2)
    assert network.units == 7 + 2
    x = torch.randn(50, 12)
    expected = module.double()(x.double().reshape(-1, 3, 2, 2))
    assert torch.allclose(network.forward(x.double()), expected, rtol=1e-12, atol=1e-14)


def test_weights_are_those_of_the_module_and_it_is_left_alone():
    module = mlp()
    network = from_torch(module, (12,))
    assert module[1].weight.dtype == torch.float32
    assert module[1].weight.requires_grad
    assert torch.equal(network.nodes[1].op.weight, module[1].weight.detach().double())


def test_the_saved_networks_agree(data, mnist):
    state = torch.load(data / "torch_mnist" / "mnist_fc_3layer.pth", weights_only=True)
    matrices = [value for value in state.values() if value.ndim == 2]
    biases = [value for value in state.values() if value.ndim == 1]
    layers = []
    for weight, bias in zip(matrices, biases, strict=True):
        layer = nn.Linear(weight.shape[1], weight.shape[0])
        layer.load_state_dict({"weight": weight, "bias": bias})
        layers += [layer, nn.ReLU()]
    module = nn.Sequential(*layers[:-1]).eval()
    network = from_torch(module, (784,))
    images, labels = mnist
    x = network.inputs(images)
    assert abs((network.predict(x).numpy() == labels).mean() - 0.9752) < 2e-4
    with torch.no_grad():
        theirs = module(torch.from_numpy(images[:200])).double()
    assert torch.allclose(network.forward(x[:200]), theirs, rtol=0, atol=1e-5 * theirs.abs().max().item())


def test_one_output_decides_by_sign():
    assert from_torch(nn.Linear(4, 1).eval(), (4,)).decision.rule == "sign"


@pytest.mark.parametrize(
    ("module", "shape", "error", "message"),
    [
        (nn.Linear(4, 2), (4,), InvalidModel, r"training mode: call \.eval\(\)"),
        (nn.Sequential(nn.Linear(4, 2), nn.Tanh()).eval(), (4,), UnsupportedOperator, "Tanh"),
        (nn.Linear(4, 2).eval(), (5,), InvalidModel, "torch cannot export"),
        (nn.Linear(4, 2).eval(), (), InvalidModel, "positive sizes"),
        (lambda x: x, (4,), InvalidModel, "expected a torch.nn.Module"),
    ],
)
def test_what_cannot_be_imported(module, shape, error, message):
    with pytest.raises(error, match=message) as caught:
        from_torch(module, shape)
    assert "\n" not in str(caught.value)


def test_data_dependent_control_flow_is_refused():
    class Choice(nn.Module):
        def forward(self, x):
            return x * 2.0 if x.sum() > 0 else x

    with pytest.raises(InvalidModel, match="torch cannot export"):
        from_torch(Choice().eval(), (4,))


def test_the_exporter_is_silent_and_leaves_nothing_behind(capfd, tmp_path, monkeypatch, recwarn):
    monkeypatch.chdir(tmp_path)
    from_torch(mlp(), (12,))
    out, err = capfd.readouterr()
    assert (out, err, os.listdir(tmp_path), len(recwarn)) == ("", "", [], 0)


def test_no_unit_is_lost():
    module = mlp()
    network = from_torch(module, (12,))
    (relu,) = [node.op for node in network.nodes if isinstance(node.op, Relu)]
    assert relu.output_shape == (7,)
    assert np.isfinite(network.nodes[1].op.weight.numpy()).all()
