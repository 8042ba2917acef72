"""scikit-learn's classifiers: the answers are those of `predict`, by class index."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier, MLPRegressor

from calotte.errors import InvalidModel
from calotte.models.sklearn import from_sklearn


def fitted(labels, **options):
    digits = load_digits()
    chosen = np.isin(digits.target, labels)
    x, y = digits.data[chosen] / 16.0, digits.target[chosen]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"hidden_layer_sizes": (20, 10), "max_iter": 15, "random_state": 0} | options
        return MLPClassifier(**options).fit(x, y), x


@pytest.mark.parametrize("activation", ["relu", "identity"])
@pytest.mark.parametrize("labels", [(3, 8), (1, 4, 7), tuple(range(10))])
def test_answers_agree_with_predict(labels, activation):
    mlp, x = fitted(labels, activation=activation)
    network = from_sklearn(mlp)
    assert network.decision.rule == ("sign" if len(labels) == 2 else "argmax")
    assert network.hidden_units == (30 if activation == "relu" else 0)
    noise = torch.randn(2000, 64, generator=torch.Generator().manual_seed(0)).double().numpy()
    for batch in (x, noise, 1e3 * noise):
        got = network.predict(network.inputs(batch)).numpy()
        assert np.array_equal(mlp.classes_[got], mlp.predict(batch))


def test_float32_classifiers_are_exact():
    mlp, _ = fitted((3, 8))
    mlp.coefs_ = [c.astype(np.float32) for c in mlp.coefs_]
    network = from_sklearn(mlp)
    assert np.array_equal(network.nodes[1].op.weight.numpy(), mlp.coefs_[0].T.astype(np.float64))


@pytest.mark.parametrize(
    ("mlp", "message"),
    [
        (MLPClassifier(), "not fitted"),
        (MLPRegressor(), "MLPRegressor is not fitted"),
        ("model.pkl", "expected an MLPClassifier or MLPRegressor"),
        (lambda: fitted((3, 8), activation="tanh")[0], "activation 'tanh'"),
    ],
)
def test_others_are_refused(mlp, message):
    if callable(mlp):
        mlp = mlp()
    with pytest.raises(InvalidModel, match=message):
        from_sklearn(mlp)


def test_several_labels_and_damaged_weights_are_refused():
    mlp, x = fitted((3, 8))
    mlp.coefs_[0][0, 0] = np.nan
    with pytest.raises(InvalidModel, match=r"layer 1 .* NaN"):
        from_sklearn(mlp)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        several = MLPClassifier((3,), max_iter=2).fit(x, np.stack([x[:, 20] > 0.5, x[:, 30] > 0.5], 1))
    with pytest.raises(InvalidModel, match="several labels"):
        from_sklearn(several)
