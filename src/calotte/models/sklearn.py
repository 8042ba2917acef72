"""scikit-learn's multilayer perceptrons as networks, alone or behind scalers in a pipeline."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calotte.errors import InvalidModel
from calotte.models.agreement import Source, check
from calotte.models.importer import SIGN_NOTICE
from calotte.models.quiet import quiet
from calotte.network.affine import Dense, Diagonal
from calotte.network.clip import clip_nodes
from calotte.network.decision import Decision, Rule
from calotte.network.fingerprint import fingerprint
from calotte.network.graph import Network, Node, Original, Relu

__all__ = ["from_sklearn"]


def from_sklearn(model: Any, decision: Rule | None = None) -> Network:
    """A fitted `MLPClassifier` or `MLPRegressor` with ReLU (or identity) units, or a `Pipeline` of scalers and one.

    Answers of a classifier are indices into its `classes_`. A binary one has one logistic output p, and says class 1
    where p > 1/2, that is where its logit is positive: decision `sign`. With more classes: argmax of the logits. The
    outputs of a regressor are judged by the decision asked for, else by sign or argmax.

    Raises:
        InvalidModel: something else, not fitted, or with tanh or logistic hidden units.
        SourceMismatch: the network and the model disagree.
    """
    try:
        from sklearn.neural_network import MLPClassifier, MLPRegressor
    except ImportError:
        raise InvalidModel("reading a model of scikit-learn needs it: pip install scikit-learn") from None
    *scalers, mlp = steps_of(model)
    kind = type(mlp).__name__
    if not isinstance(mlp, MLPClassifier | MLPRegressor):
        raise InvalidModel(
            f"expected an MLPClassifier or MLPRegressor of sklearn, or a Pipeline that ends in one, came {kind}"
        )
    if not hasattr(mlp, "coefs_"):
        raise InvalidModel(f"the {kind} is not fitted: call .fit(X, y) on it first")
    if mlp.activation not in ("relu", "identity"):
        raise InvalidModel(
            f"the {kind} has activation '{mlp.activation}': expected 'relu' (or 'identity'), "
            "only these are piecewise linear"
        )
    classifier, outputs = isinstance(mlp, MLPClassifier), int(mlp.n_outputs_)
    if classifier and mlp.out_activation_ == "logistic" and outputs > 1:
        raise InvalidModel("the MLPClassifier answers several labels at once: fit it on one label per row")
    rule: Rule = "sign" if outputs == 1 else "argmax"
    if classifier and decision not in (None, rule):
        raise InvalidModel(f"decision '{decision}' contradicts the MLPClassifier, whose own is '{rule}'")
    nodes = [Node("input", None)]
    for step in scalers:
        add_scaler(nodes, step, int(mlp.n_features_in_))
    layers = list(zip(mlp.coefs_, mlp.intercepts_, strict=True))
    for k, (weight, bias) in enumerate(layers, start=1):
        weight, bias = (numbers(a, f"layer {k} of the {kind}") for a in (weight, bias))
        nodes.append(Node(f"layer{k}", Dense(weight.t().contiguous(), bias), (len(nodes) - 1,)))
        if k < len(layers) and mlp.activation == "relu":
            nodes.append(Node(f"relu{k}", Relu((len(bias),)), (len(nodes) - 1,)))
    network = Network(
        tuple(nodes),
        (int(mlp.n_features_in_),),
        Decision(decision or rule, outputs),
        notices=(SIGN_NOTICE,) if outputs == 1 and not classifier and decision is None else (),
        left_off=f"{mlp.out_activation_} function" if classifier else None,
    )
    own = copy.deepcopy(model)
    check(network, Source(logits_of(own), "scikit-learn"))
    answers = SklearnAnswers(own, mlp.classes_ if classifier else None, network.decision)
    return replace(network, sha256=fingerprint(network), original=Original(answers, torch.float64, "scikit-learn"))


def steps_of(model: Any) -> list[Any]:
    """The steps of a pipeline, those of pipelines inside it in their place; a model alone is the only step."""
    from sklearn.pipeline import Pipeline

    if not isinstance(model, Pipeline):
        return [model]
    return [inner for _, step in model.steps if step not in (None, "passthrough") for inner in steps_of(step)]


def numbers(array: Any, what: str) -> Tensor:
    """Weights as float64; NaN and infinity are refused."""
    found = torch.from_numpy(np.array(array, dtype=np.float64))
    if not found.isfinite().all():
        raise InvalidModel(f"{what} holds NaN or infinite numbers: fit it again")
    return found


def add_scaler(nodes: list[Node], scaler: Any, d: int) -> None:
    """Append what a scaler does to d features: shifts, quotients and products of each, clipping where it clips.

    Raises:
        InvalidModel: it is not fitted, or not one of the scalers that do that.
    """
    from sklearn.preprocessing import FunctionTransformer, MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler

    kind, known = type(scaler).__name__, (MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler)
    if type(scaler) is FunctionTransformer and scaler.func is None:
        return
    if type(scaler) not in known:
        names = ", ".join(one.__name__ for one in known)
        raise InvalidModel(f"step {kind} of the Pipeline is not supported: expected {names} before the MLP")
    if not hasattr(scaler, "scale_"):
        raise InvalidModel(f"step {kind} of the Pipeline is not fitted: call .fit(X, y) on the Pipeline first")

    def add(weight: Any, offset: Any, *, divide: bool = False, terms: int = 2) -> None:
        w, b = (None if a is None else numbers(a, f"step {kind}").expand(d) for a in (weight, offset))
        op = Diagonal((d,), w, b, divide=divide, terms=terms)
        nodes.append(Node(f"{kind}{len(nodes)}", op, (len(nodes) - 1,)))

    if type(scaler) is MinMaxScaler:
        add(scaler.scale_, scaler.min_)
    else:
        center = scaler.center_ if type(scaler) is RobustScaler else getattr(scaler, "mean_", None)
        if center is not None and getattr(scaler, "with_mean", True):
            add(None, -np.asarray(center), terms=1)
        if scaler.scale_ is not None:
            add(scaler.scale_, None, divide=True)
    if getattr(scaler, "clip", False):
        low, high = getattr(scaler, "feature_range", (-1.0, 1.0))
        nodes.extend(clip_nodes((d,), float(low), float(high), len(nodes) - 1))


def logits_of(model: Any) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """The outputs of a model before its last activation: its own scalers, and its matrices in numpy."""
    *scalers, mlp = steps_of(model)
    layers = list(zip(mlp.coefs_, mlp.intercepts_, strict=True))

    def logits(x: NDArray[np.float64]) -> NDArray[np.float64]:
        with quiet():  # names of features, of which arrays have none
            for step in scalers:
                x = step.transform(x)
        for k, (weight, bias) in enumerate(layers, start=1):
            x = x @ np.asarray(weight, dtype=np.float64) + bias
            if k < len(layers) and mlp.activation == "relu":
                x = np.maximum(x, 0.0)
        return x

    return logits


@dataclass(frozen=True)
class SklearnAnswers:
    """What a model predicts at points (n, d): places in `classes`, or the decision on what a regressor gives."""

    model: Any
    classes: NDArray[Any] | None
    decision: Decision

    def __call__(self, x: Tensor) -> Tensor:
        with quiet():
            y = np.asarray(self.model.predict(x.numpy()))
        if self.classes is not None:
            return torch.from_numpy(np.searchsorted(self.classes, y).astype(np.int64))
        return self.decision.decide(torch.from_numpy(y.reshape(len(x), -1).astype(np.float64)))
