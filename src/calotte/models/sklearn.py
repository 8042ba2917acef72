"""scikit-learn's multilayer perceptrons as networks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from calotte.errors import InvalidModel
from calotte.models.agreement import Source, check
from calotte.network.affine import Dense
from calotte.network.decision import Decision
from calotte.network.graph import Network, Node, Relu

__all__ = ["from_sklearn"]


def from_sklearn(mlp: Any) -> Network:
    """A fitted `sklearn.neural_network.MLPClassifier` with ReLU (or identity) units as a network.

    Answers are indices into `mlp.classes_`. A binary classifier has one logistic output p, and says class 1
    where p > 1/2, that is where its logit is positive: decision `sign`. With more classes: argmax of the logits.

    Raises:
        InvalidModel: not an MLPClassifier, not fitted, or with tanh or logistic hidden units.
        SourceMismatch: the network and the classifier disagree.
    """
    try:
        from sklearn.neural_network import MLPClassifier
    except ImportError:
        raise InvalidModel("reading an MLPClassifier needs scikit-learn: pip install scikit-learn") from None
    if not isinstance(mlp, MLPClassifier):
        raise InvalidModel(f"expected a sklearn MLPClassifier, came {type(mlp).__name__}")
    if not hasattr(mlp, "coefs_"):
        raise InvalidModel("the MLPClassifier is not fitted: call .fit(X, y) on it first")
    if mlp.activation not in ("relu", "identity"):
        raise InvalidModel(
            f"the MLPClassifier has activation '{mlp.activation}': expected 'relu' (or 'identity'), "
            "only these are piecewise linear"
        )
    if mlp.out_activation_ not in ("softmax", "logistic") or (
        mlp.out_activation_ == "logistic" and mlp.n_outputs_ > 1
    ):
        raise InvalidModel("the MLPClassifier answers several labels at once: fit it on one label per row")
    nodes = [Node("input", None)]
    layers = list(zip(mlp.coefs_, mlp.intercepts_, strict=True))
    for k, (weight, bias) in enumerate(layers, start=1):
        weight, bias = (torch.from_numpy(np.array(a, dtype=np.float64)) for a in (weight, bias))
        if not (weight.isfinite().all() and bias.isfinite().all()):
            raise InvalidModel(f"layer {k} of the MLPClassifier holds NaN or infinite weights: fit it again")
        nodes.append(Node(f"layer{k}", Dense(weight.t().contiguous(), bias), (len(nodes) - 1,)))
        if k < len(layers) and mlp.activation == "relu":
            nodes.append(Node(f"relu{k}", Relu((len(bias),)), (len(nodes) - 1,)))
    outputs = int(mlp.n_outputs_)
    decision = Decision("sign" if outputs == 1 else "argmax", outputs)
    network = Network(tuple(nodes), (int(mlp.n_features_in_),), decision)

    def logits(x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The logits, by scikit-learn's own matrices in numpy."""
        for k, (weight, bias) in enumerate(layers, start=1):
            x = x @ np.asarray(weight, dtype=np.float64) + bias
            if k < len(layers) and mlp.activation == "relu":
                x = np.maximum(x, 0.0)
        return x

    source = Source(logits, "scikit-learn")
    check(network, source)
    return replace(network, original=source.original(network.decision, torch.float64))
