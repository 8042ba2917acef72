"""Networks pickle with the model that they came from: the same bits, the same original answers."""

import pickle
import subprocess
import sys
import warnings

import numpy as np
import onnx
import pytest
import torch
from agreement import floats, node
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from calotte.models.onnx import from_onnx, load
from calotte.models.sklearn import from_sklearn
from calotte.models.torch import from_torch
from calotte.network.clip import clipped
from calotte.network.random import random_network


def onnx_file(make_model, tmp_path, end=()):
    nodes = [node("Gemm", ["x", "w"], ["h"]), node("Relu", ["h"], ["r"]), node("MatMul", ["r", "v"], ["z"]), *end]
    nodes.append(node("Identity", [end[-1].output[0] if end else "z"], ["y"]))
    weights = {"w": floats(6, 5), "v": floats(5, 1 if end else 3), "c": np.float32(0.1)}
    path = tmp_path / "m.onnx"
    onnx.save(make_model(nodes, weights, (1, 6)), path)
    return path


def fitted(kind, y):
    x = floats(200, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make_pipeline(StandardScaler(), kind(hidden_layer_sizes=(8,), max_iter=5, random_state=0)).fit(x, y(x))


def perceptron():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)).eval()


NETWORKS = {
    "file": lambda make, path: load(onnx_file(make, path)),
    "softmax": lambda make, path: load(onnx_file(make, path, [node("Less", ["z", "c"], ["q"])])),
    "memory": lambda make, path: from_onnx(onnx.load(onnx_file(make, path))),
    "torch": lambda make, path: from_torch(perceptron(), 6),
    "classifier": lambda make, path: from_sklearn(fitted(MLPClassifier, lambda x: x.argmax(1))),
    "regressor": lambda make, path: from_sklearn(fitted(MLPRegressor, lambda x: x[:, :3])),
    "random": lambda make, path: random_network((6, 9, 4), torch.Generator().manual_seed(0)),
    "clipped": lambda make, path: clipped(load(onnx_file(make, path)), -0.5, 0.5),
    "clipped torch": lambda make, path: clipped(from_torch(perceptron(), 6), -0.5, 0.5),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_pickle_is_the_same_network(name, make_model, tmp_path):
    network = NETWORKS[name](make_model, tmp_path)
    content = pickle.dumps(network)
    for file in tmp_path.iterdir():
        file.unlink()  # nothing is read again
    copy = pickle.loads(content)
    x = torch.from_numpy(floats(100, 6)).double()
    assert torch.equal(copy.forward(x), network.forward(x))
    for key in ("decision", "notices", "sha256", "files", "input_shape", "units"):
        assert getattr(copy, key) == getattr(network, key)
    if name == "random":
        assert copy.original is None
    else:
        assert torch.equal(copy.original.answers(x), network.original.answers(x))
        agree = (copy.original.answers(x) == network.predict(x)).double().mean()
        assert agree > 0.97, "float32 may round an answer or two"
        assert len(set(network.predict(x).tolist())) > 1
    if name.startswith("clipped"):
        assert torch.equal(copy.clipping.network.forward(x), network.clipping.network.forward(x))


def test_the_model_is_opened_when_it_is_asked(make_model, tmp_path):
    """Unpickling a network imports no runtime and opens no session."""
    path = tmp_path / "network.pickle"
    path.write_bytes(pickle.dumps(load(onnx_file(make_model, tmp_path))))
    script = (
        "import pickle, torch, onnxruntime\n"
        "opened = []\n"
        "session = onnxruntime.InferenceSession\n"
        "onnxruntime.InferenceSession = lambda *a, **k: opened.append(1) or session(*a, **k)\n"
        f"network = pickle.load(open({str(path)!r}, 'rb'))\n"
        "x = torch.zeros(1, 6, dtype=torch.float64)\n"
        "network.forward(x)\n"
        "before = len(opened)\n"
        "network.original.answers(x), network.original.answers(x)\n"
        "print(before, len(opened))\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert run.stdout.split() == ["0", "1"], run.stderr


def test_a_module_changed_afterwards_changes_nothing():
    module = perceptron()
    network = from_torch(module, 6)
    x = torch.from_numpy(floats(50, 6)).double()
    before = network.original.answers(x)
    with torch.no_grad():
        module[2].weight.neg_()
    assert torch.equal(network.original.answers(x), before)
