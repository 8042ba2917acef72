"""scikit-learn's classifiers: the answers are those of `predict`, by class index."""

import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    RobustScaler,
    StandardScaler,
)

from calotte.errors import InvalidInput, InvalidModel
from calotte.models.sklearn import from_sklearn
from calotte.network.enclosure import evaluate


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


SCALERS = {
    "standard": lambda: [StandardScaler()],
    "no mean": lambda: [StandardScaler(with_mean=False)],
    "no deviation": lambda: [StandardScaler(with_std=False)],
    "range": lambda: [MinMaxScaler((-1, 2))],
    "clipped range": lambda: [MinMaxScaler((-1, 2), clip=True)],
    "largest": lambda: [MaxAbsScaler()],
    "robust": lambda: [RobustScaler()],
    "robust, centred only": lambda: [RobustScaler(with_scaling=False)],
    "robust, scaled only": lambda: [RobustScaler(with_centering=False)],
    "several": lambda: [MaxAbsScaler(), "passthrough", make_pipeline(StandardScaler(), FunctionTransformer())],
}


@pytest.mark.parametrize("name", SCALERS)
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_pipelines_agree_with_predict(name, kind):
    digits = load_digits()
    x, y = digits.data[:300], digits.target[:300]
    target = y if kind is MLPClassifier else np.eye(10)[y]
    mlp = kind(hidden_layer_sizes=(12,), max_iter=15, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline = make_pipeline(*SCALERS[name](), mlp).fit(x, target)
    network = from_sklearn(pipeline)
    assert network.hidden_units == 12 + 2 * 64 * (name == "clipped range")
    shaken = x + 40 * np.random.default_rng(0).standard_normal(x.shape)
    for batch in (x, shaken):
        given, inputs = pipeline.predict(batch), network.inputs(batch)
        if kind is MLPRegressor:
            assert np.allclose(network.forward(inputs).numpy(), given, rtol=1e-10, atol=1e-10)
            given = given.argmax(1)
        assert np.array_equal(network.predict(inputs).numpy(), given)
        assert np.array_equal(network.original.answers(inputs).numpy(), given)
    assert len(set(given)) > 3


def test_scalers_are_enclosed():
    """(x - mean) / scale of the scaler's own numbers, in rational arithmetic."""
    digits = load_digits()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlp = MLPRegressor(hidden_layer_sizes=(), max_iter=2, random_state=0)
        pipeline = make_pipeline(StandardScaler(), mlp).fit(digits.data, digits.target)
    network, scaler = from_sklearn(pipeline), pipeline[0]
    x = digits.data[:1] + 0.1
    outputs = evaluate(network, network.inputs(x))[-1]
    exact = Fraction(mlp.intercepts_[0][0])
    for k, value in enumerate(x[0]):
        scaled = (Fraction(value) - Fraction(scaler.mean_[k])) / Fraction(scaler.scale_[k])
        exact += scaled * Fraction(mlp.coefs_[0][k, 0])
    assert abs(Fraction(outputs.value.item()) - exact) <= Fraction(outputs.error.item())
    assert outputs.error.item() < 1e-9


def test_string_labels_are_answered_by_their_places():
    digits = load_digits()
    names = np.array(["nought", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlp = MLPClassifier((12,), max_iter=15, random_state=0).fit(digits.data, names[digits.target])
    network = from_sklearn(mlp)
    inputs = network.inputs(digits.data[:200])
    assert np.array_equal(mlp.classes_[network.predict(inputs).numpy()], mlp.predict(digits.data[:200]))
    assert torch.equal(network.original.answers(inputs), network.predict(inputs))


def test_regressors_are_judged_by_sign_and_say_so():
    digits = load_digits()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one = MLPRegressor(hidden_layer_sizes=(5,), max_iter=2, random_state=0).fit(digits.data, digits.target)
    network = from_sklearn(one)
    assert network.decision.rule == "sign"
    assert "the answer judged is its sign" in network.notices[0]
    assert from_sklearn(one, "sign").notices == ()
    assert from_sklearn(fitted((3, 8))[0]).notices == ()
    with pytest.raises(InvalidModel, match="contradicts the MLPClassifier"):
        from_sklearn(fitted((1, 4, 7))[0], "argmin")
    with pytest.raises(InvalidInput, match="needs at least two outputs"):
        from_sklearn(one, "argmax")


REFUSED = {
    "Normalizer": lambda x, y: make_pipeline(Normalizer(), MLPClassifier((3,), max_iter=2)).fit(x, y),
    "FunctionTransformer": lambda x, y: make_pipeline(FunctionTransformer(np.sqrt), MLPClassifier((3,))).fit(x, y),
    "came LogisticRegression": lambda x, y: make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y),
    "StandardScaler of the Pipeline is not fitted": lambda x, y: make_pipeline(
        StandardScaler(), MLPClassifier((3,), max_iter=2).fit(x, y)
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_other_steps_are_refused_by_name(what):
    x, y = load_digits(return_X_y=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = REFUSED[what](x[:100], y[:100])
    with pytest.raises(InvalidModel, match=what):
        from_sklearn(model)


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
