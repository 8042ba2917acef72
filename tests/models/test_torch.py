"""PyTorch modules through the one path shared with ONNX."""

import logging
import os
import threading
import time
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import prune

from calotte.errors import InvalidModel, SourceMismatch, UnsupportedOperator
from calotte.models.onnx import load
from calotte.models.quiet import quiet
from calotte.models.torch import from_torch
from calotte.network.graph import Relu


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
        (nn.Sequential(nn.Linear(4, 2), nn.Tanh(), nn.Linear(2, 2)).eval(), (4,), UnsupportedOperator, "Tanh"),
        (nn.Linear(4, 2).eval(), (5,), InvalidModel, r"cannot be run .* batch of shape \(1, 5\)"),
        (nn.Linear(4, 2).eval(), (), InvalidModel, "positive sizes"),
        (lambda x: x, (4,), InvalidModel, "expected a torch.nn.Module"),
    ],
)
def test_what_cannot_be_imported(module, shape, error, message):
    with pytest.raises(error, match=message) as caught:
        from_torch(module, shape)
    assert "\n" not in str(caught.value)


def linear(seed=0, n=4):
    torch.manual_seed(seed)
    return nn.Linear(4, n)


def pruned(layer):
    prune.l1_unstructured(layer, "weight", 0.4)
    prune.random_unstructured(layer, "bias", 0.5)
    return prune.l1_unstructured(layer, "weight", 0.2)


COMPUTED = {
    "weight_norm": nn.utils.parametrizations.weight_norm,
    "spectral_norm": nn.utils.parametrizations.spectral_norm,
    "orthogonal": nn.utils.parametrizations.orthogonal,
    "old weight_norm": nn.utils.weight_norm,
    "old spectral_norm": nn.utils.spectral_norm,
    "pruned": pruned,
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", COMPUTED)
def test_computed_weights_are_taken_as_the_module_computes_them(name):
    """The very float32 numbers, after a step of training; the module keeps computing them."""
    layer = COMPUTED[name](linear())
    module = nn.Sequential(layer, nn.ReLU(), COMPUTED[name](linear(1)))
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1)
    module(torch.ones(3, 4)).square().sum().backward()
    optimiser.step()
    module.eval()
    x = torch.randn(20, 4)
    before = module(x).detach()
    state = {key: value.clone() for key, value in module.state_dict().items()}
    network = from_torch(module, 4)
    assert torch.equal(network.nodes[1].op.weight, layer.weight.detach().double())
    assert network.hidden_units == 4
    assert torch.allclose(network.forward(x.double()), before.double(), rtol=0, atol=1e-6)
    assert torch.equal(network.original.answers(x.double()), before.argmax(1))
    assert torch.equal(module(x), before)
    assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())
    module.train()
    module(torch.ones(3, 4)).sum().backward()  # still computes its weights


class Named(nn.Module):
    """A layer that gives its scores as `pack` packs them."""

    def __init__(self, pack):
        super().__init__()
        self.layer, self.pack = linear(n=3), pack

    def forward(self, x):
        return self.pack(self.layer(x))


@pytest.mark.parametrize("pack", [lambda y: {"logits": y}, lambda y: (y,)])
def test_scores_in_a_tuple_or_mapping(pack):
    module = Named(pack).eval()
    network = from_torch(module, (4,))
    assert torch.equal(network.nodes[1].op.weight, module.layer.weight.detach().double())
    x = torch.randn(30, 4)
    assert torch.equal(network.original.answers(x.double()), module.layer(x).argmax(1))


@pytest.mark.parametrize(
    ("pack", "what"),
    [
        (lambda y: (y, y + 1), r"tuple of \[0, 1\]"),
        (lambda y: {"logits": y, "hidden": y}, r"dict of \['logits', 'hidden'\]"),
        (lambda y: None, "NoneType"),
        (lambda y: ("text",), "tuple"),
    ],
)
def test_other_results_are_refused_with_the_remedy(pack, what):
    with pytest.raises(InvalidModel, match=rf"gives a {what}.*wrap it in a module"):
        from_torch(Named(pack).eval(), (4,))


@pytest.mark.parametrize("shape", [4, torch.Size([4]), [np.int64(4)]])
def test_shapes_as_they_come(shape):
    assert from_torch(linear(n=2).eval(), shape).input_shape == (4,)


@pytest.mark.parametrize(
    ("shape", "message"),
    [(4.0, "whole numbers"), ("4", "whole numbers"), ((4, None), "whole numbers"), (0, "positive")],
)
def test_bad_shapes(shape, message):
    with pytest.raises(InvalidModel, match=message):
        from_torch(linear().eval(), shape)


@pytest.mark.parametrize("make", [torch.jit.script, lambda m: torch.jit.trace(m, torch.zeros(1, 4))])
def test_script_modules_are_refused_with_a_remedy_that_works(make, tmp_path):
    module = nn.Sequential(linear(), nn.ReLU(), linear(1)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = make(module)
        with pytest.raises(InvalidModel, match=r"dynamo=False\) and load that file"):
            from_torch(scripted, 4)
        torch.onnx.export(scripted, (torch.zeros(1, 4),), tmp_path / "model.onnx", dynamo=False)
    x = torch.randn(20, 4)
    network = load(tmp_path / "model.onnx")
    assert torch.allclose(network.forward(x.double()), module(x).detach().double(), rtol=0, atol=1e-6)


MIXED = {
    "mean": lambda x: x - x.mean(0),
    "cumulative": lambda x: torch.cumsum(x, 0) if len(x) > 1 else x,
    "argmax": lambda x: (x - x.mean(0)).argmax(1),
}


@pytest.mark.parametrize("name", MIXED)
def test_rows_that_mix_are_refused(name):
    with pytest.raises(SourceMismatch, match="rows mix"):
        from_torch(nn.Sequential(linear(), Call(MIXED[name])).eval(), 4)


@pytest.mark.parametrize("function", [lambda x: x.reshape(1, 4), lambda x: x.reshape(-1), lambda x: x[0]])
def test_modules_for_one_row_are_no_batch(function):
    network = from_torch(Call(function).eval(), 4)
    x = torch.randn(5, 4, dtype=torch.float64)
    assert torch.equal(network.forward(x), x)


def test_one_output_judged_by_its_sign_is_said():
    assert "the answer judged is its sign" in from_torch(linear(n=1).eval(), 4).notices[0]
    assert from_torch(linear(n=1).eval(), 4, "sign").notices == ()
    assert from_torch(linear(n=2).eval(), 4).notices == ()


def test_other_threads_are_not_muted(capfd):
    """What another thread prints, logs and warns of while a module is exported is heard."""
    heard, started, done = [], threading.Event(), threading.Event()

    class Handler(logging.Handler):
        def emit(self, record):
            heard.append(record.getMessage())

    def talk():
        started.wait(60)
        while not done.is_set():
            print("printed")
            logging.getLogger("torch.onnx").error("logged")
            warnings.warn("warned", UserWarning, stacklevel=1)
            time.sleep(0.01)

    handler = Handler()
    logging.getLogger("torch.onnx").addHandler(handler)
    thread = threading.Thread(target=talk)
    thread.start()
    filters = list(warnings.filters)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with quiet():
            started.set()
            time.sleep(0.2)
            warnings.warn("mine", UserWarning, stacklevel=1)
            logging.getLogger("torch.onnx").error("mine")
            during = len(heard), len(caught)
        from_torch(mlp(), (12,))
        done.set()
        thread.join()
    logging.getLogger("torch.onnx").removeHandler(handler)
    assert min(during) > 3
    assert set(heard) == {"logged"}
    assert {str(one.message) for one in caught} == {"warned"}
    assert "printed" in capfd.readouterr().out
    assert warnings.filters == filters


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


class Residual(nn.Module):
    """A residual block with batch norms, functional calls, a pool and a view."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.first, self.norm = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.skip, self.last = nn.Conv2d(3, 4, 1), nn.Linear(4, 3)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2.0)
        nn.init.normal_(self.norm.weight)

    def forward(self, x):
        y = functional.relu(self.norm(self.first(x))) + self.skip(x)
        y = functional.leaky_relu(functional.max_pool2d(y, 2, padding=1), 0.1)
        return self.last(functional.adaptive_avg_pool2d(y, 1).view(x.size(0), -1))


class Layers1d(nn.Module):
    """Strided, transposed and normalised 1-D layers, slices, branches, a final softmax."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.down, self.up = nn.Conv1d(3, 4, 3, stride=2), nn.ConvTranspose1d(4, 2, 3, stride=2)
        self.norm, self.slope = nn.BatchNorm1d(2), nn.PReLU()

    def forward(self, x):
        y = self.norm(self.up(functional.hardtanh(self.down(x))))
        y = torch.cat([y[:, :, ::2], y[:, :, 1::2]], 2).transpose(1, 2).flatten(1)
        a, b = y.chunk(2, 1)
        y = torch.max(a, b) + torch.min(a, b).abs() - self.slope(a).clamp(min=0.3)
        y = torch.relu(y).mean(1, keepdim=True) - y.sum(1, keepdim=True) * 3 / 7 + y[:, [0, 2, 1]]
        return torch.softmax(y, 1)


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


POOLS = nn.Sequential(
    nn.AvgPool2d(3, 2, 1, count_include_pad=False), nn.ReLU6(), nn.ZeroPad2d((1, 2, 0, 1)), nn.AdaptiveAvgPool2d(1)
)
MODULES = {
    "residual": (Residual(), (3, 8, 8)),
    "1-D": (Layers1d(), (3, 9)),
    "pools": (nn.Sequential(POOLS, nn.Flatten()), (3, 8, 8)),
    "stack": (Call(lambda x: torch.stack([x, x.relu()], 1).sum(1)), (4,)),
    "largest": (Call(lambda x: x.view(-1, 2, 2).amax(2)), (4,)),
    "views": (Call(lambda x: torch.cat(x.view(-1, 2, 2).permute(0, 2, 1).unbind(1)[::-1], 1)), (4,)),
    "products": (Call(lambda x: (torch.ones(3, 4).to(x) @ x.unsqueeze(2)).squeeze(2) / 3), (4,)),
    "padding": (Call(lambda x: functional.pad(functional.pad(x[:, None], (1, 2), "reflect")[:, 0], (1, 1))), (4,)),
}


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ordinary_modules(name, dtype):
    module, shape = MODULES[name]
    module = module.eval().to(dtype)
    network = from_torch(module, shape)
    x = torch.randn(40, network.d, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        theirs = module.double()(x.reshape(-1, *shape))
    ours = network.forward(x)
    if name == "1-D":
        assert "Softmax" in network.notices[0]
        ours = torch.softmax(ours, 1)
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-7 * theirs.abs().max().item())


def test_batch_norm_is_not_folded_into_the_convolution():
    """That would round the weights: the kernel stays as it is, the norm is a map of its own."""
    module = Residual().eval()
    network = from_torch(module, (3, 8, 8))
    assert torch.equal(network.nodes[1].op.kernel, module.first.weight.detach().double())
    assert [n.op.terms for n in network.nodes[2:4]] == [1, 6]


def test_python_numbers_rounded_by_the_exporter_are_noticed():
    assert from_torch(nn.Sequential(nn.LeakyReLU(0.1)).eval(), (4,)).notices == ()
    double = nn.Sequential(nn.Linear(4, 4), nn.LeakyReLU(0.1)).eval().double()
    assert "rounded Python numbers" in from_torch(double, (4,)).notices[0]
    exact = nn.Sequential(nn.Linear(4, 4), nn.LeakyReLU(0.25)).eval().double()
    assert from_torch(exact, (4,)).notices == ()


@pytest.mark.parametrize(
    ("function", "shape", "operator"),
    [
        (lambda x: torch.where(x > 0, x, 0.5 * x), (4,), "Greater"),
        (lambda x: x * x, (4,), "Mul"),
        (lambda x: torch.bmm(x, x), (2, 2), "MatMul"),
        (lambda x: 1 / x, (4,), "Reciprocal"),
        (functional.gelu, (4,), "Gelu"),
        (lambda x: functional.glu(x), (4,), "Mul"),
    ],
)
def test_what_is_not_piecewise_linear_is_refused_by_name(function, shape, operator):
    with pytest.raises(UnsupportedOperator, match=rf"node '.*': operator '{operator}'"):
        from_torch(Call(function).eval(), shape)


def test_decisions_of_modules():
    assert from_torch(Call(lambda x: x.argmin(1)).eval(), (4,)).decision.rule == "argmin"
    network = from_torch(Call(lambda x: x.sum(1, keepdim=True) > 0.25).eval(), (4,))
    assert network.decision.rule == "sign"
    x = torch.tensor([[0.1, 0.1, 0.1, 0.0], [0.1, 0.1, 0.0, 0.0]], dtype=torch.float64)
    assert network.predict(x).tolist() == [1, 0]
