"""Networks that the report looks at: trained on digits, random, and the sawtooth with its many cells."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calotte.errors import InvalidInput
from calotte.models.sklearn import from_sklearn
from calotte.network.affine import Dense
from calotte.network.decision import Decision
from calotte.network.graph import Network, Node, Relu
from calotte.network.random import random_network

__all__ = [
    "Digits",
    "Subject",
    "load_digits",
    "moons_network",
    "random_subject",
    "sawtooth",
    "trained_subject",
]


@dataclass(frozen=True, eq=False)
class Digits:
    """scikit-learn's handwritten digits, pixels in [0, 1], split into a training and a test part.

    Attributes:
        side: the images have side x side pixels; 8 as they come, other sizes by averaging or repeating pixels.
        train, test: (n, d) float64 inputs; train_labels, test_labels: (n,) int64.
    """

    side: int
    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor


@dataclass(frozen=True, eq=False)
class Subject:
    """A network with inputs to look at it from.

    Attributes:
        name: kind and hidden widths; layers: number of hidden layers; trained: whether its weights were fitted.
        x: (B, d) inputs; labels: (B,) where known.
        accuracy: on the inputs, where labels are known and the network was trained for them.
    """

    name: str
    network: Network
    x: Tensor
    layers: int
    trained: bool
    labels: Tensor | None = None
    accuracy: float | None = None


def load_digits(seed: int, side: int = 8) -> Digits:
    """The digits data set (Alpaydin and Kaynak, UCI 1998), one quarter of it held out.

    Raises:
        InvalidInput: scikit-learn is not installed.
    """
    try:
        from sklearn import datasets, model_selection
    except ImportError:
        raise InvalidInput('calotte paper needs scikit-learn: pip install "calotte[sklearn]"') from None
    x, y = datasets.load_digits(return_X_y=True)
    images = np.asarray(x, dtype=np.float64).reshape(-1, 8, 8) / 16.0
    if side < 8:
        images = images.reshape(-1, side, 8 // side, side, 8 // side).mean((2, 4))
    else:
        images = images.repeat(side // 8, axis=1).repeat(side // 8, axis=2)
    parts = model_selection.train_test_split(
        images.reshape(len(images), -1), y, test_size=0.25, random_state=seed, stratify=y
    )
    train, test, train_labels, test_labels = (torch.from_numpy(np.ascontiguousarray(part)) for part in parts)
    return Digits(side, train, train_labels, test, test_labels)


def trained_subject(digits: Digits, hidden: Sequence[int], seed: int, epochs: int, inputs: int) -> Subject:
    """An MLP fitted to the digits by scikit-learn, looked at from the first `inputs` of the test part."""
    from sklearn.neural_network import MLPClassifier

    mlp: Any = MLPClassifier(
        tuple(hidden), max_iter=epochs, batch_size=64, learning_rate_init=3e-3, random_state=seed, tol=0.0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # stopped after `epochs`, as asked
        mlp.fit(digits.train.numpy(), digits.train_labels.numpy())
    network = from_sklearn(mlp)
    accuracy = (network.predict(digits.test) == digits.test_labels).to(torch.float64).mean().item()
    name = f"trained {shape_name(network)}"
    x, labels = digits.test[:inputs], digits.test_labels[:inputs]
    return Subject(name, network, x, len(hidden), True, labels, accuracy)


def random_subject(widths: Sequence[int], generator: torch.Generator, x: Tensor | int) -> Subject:
    """A network with He's random weights (d, n_1, ..., K), looked at from x, or from that many N(0, I) inputs."""
    network = random_network(widths, generator, "he")
    if isinstance(x, int):
        x = torch.randn(x, widths[0], dtype=torch.float64, generator=generator)
    return Subject(f"random {shape_name(network)}", network, x, len(widths) - 2, False)


def shape_name(network: Network) -> str:
    """The widths of a dense network: '64-128x4-10' for four hidden layers of 128."""
    widths = [network.shape(i)[0] for i in network.relus]
    runs: list[list[int]] = []
    for width in widths:
        if runs and runs[-1][0] == width:
            runs[-1][1] += 1
        else:
            runs.append([width, 1])
    hidden = [str(width) if count == 1 else f"{width}x{count}" for width, count in runs]
    return "-".join([str(network.d), *hidden, str(network.decision.outputs)])


def sawtooth(d: int, layers: int) -> Network:
    """A network of 2 units a layer that folds [0, 1] e_1 over and over: 2^layers linear pieces on that segment.

    The tent map t(z) = 2 relu(z) - 4 relu(z - 1/2) composed with itself (Telgarsky, COLT 2016, arXiv:1602.04485),
    z the first coordinate of the input; class 1 where the last value exceeds 1/2.
    """
    tent = torch.tensor([[2.0, -4.0]], dtype=torch.float64)
    first = torch.zeros(2, d, dtype=torch.float64)
    first[:, 0] = 1.0
    shift = torch.tensor([0.0, -0.5], dtype=torch.float64)
    nodes = [Node("input", None)]
    for layer in range(layers):
        weight = first if layer == 0 else tent.expand(2, 2).contiguous()
        nodes.append(Node(f"layer{layer + 1}", Dense(weight, shift), (len(nodes) - 1,)))
        nodes.append(Node(f"relu{layer + 1}", Relu((2,)), (len(nodes) - 1,)))
    nodes.append(Node("output", Dense(tent, torch.tensor([-0.5], dtype=torch.float64)), (len(nodes) - 1,)))
    return Network(tuple(nodes), (d,), Decision("sign", 1))


def moons_network(seed: int) -> Network:
    """A network of 8 + 8 units that tells two moons in the plane apart, inputs standardised: N = 17."""
    from sklearn import datasets
    from sklearn.neural_network import MLPClassifier

    x, y = datasets.make_moons(400, noise=0.1, random_state=seed)
    x = (x - x.mean(0)) / x.std(0)
    mlp: Any = MLPClassifier((8, 8), max_iter=400, learning_rate_init=0.01, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlp.fit(x, y)
    return from_sklearn(mlp)
