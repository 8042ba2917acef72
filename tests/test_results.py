"""Results: written as lines, read back, put into a table; the largest noise of one input."""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo import dense

import calotte
from calotte.adversary import Witness
from calotte.assess import RUNGS
from calotte.assessment import Assessment
from calotte.bound import _SAMPLED, Bound
from calotte.errors import InvalidInput
from calotte.frame import record
from calotte.ladder import PROVED_RUNGS
from calotte.plan import Plan
from calotte.sampling.estimate import Estimate

NETWORK = calotte.random_network((12, 9, 8, 3), torch.Generator().manual_seed(5))
PLAIN = calotte.Settings(samples=100, boxes=1, search=False)
X = torch.randn(4, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(6))

numbers = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 2**40)
seconds = st.integers(0, 10**9).map(lambda n: round(n * 1e-6, 6))
logs = st.floats(max_value=0.0, allow_nan=False)
texts = st.text(max_size=20)
rung = st.sampled_from(sorted(RUNGS))


def maybe(one):
    return st.none() | one


@st.composite
def bounds(draw) -> Bound:
    name = draw(rung)
    guarantee = "confidence" if name in _SAMPLED else "proved"
    if draw(st.booleans()):
        return Bound(name, guarantee, 0.0, skipped=draw(texts))
    sampled = (draw(numbers), draw(counts), draw(counts)) if name in _SAMPLED else (None,) * 3
    decided = (
        (draw(numbers), draw(st.sampled_from(["yes", "no", "undecided"]))) if draw(st.booleans()) else (None,) * 2
    )
    return Bound(name, guarantee, draw(logs), draw(seconds), *sampled, *decided, cut_short=draw(maybe(texts)))


estimates = st.builds(
    Estimate, texts, st.just("leaving the cell"), numbers, st.tuples(logs, numbers), numbers, counts, seconds
) | st.builds(Estimate, texts, st.just("misclassification"), *[st.none()] * 3, counts, seconds, texts)
witnesses = st.builds(
    Witness, st.lists(numbers, min_size=1, max_size=5).map(lambda p: torch.tensor(p, dtype=torch.float64)), numbers,
    counts, maybe(counts),
)  # fmt: skip
shared = {
    "index": counts, "predicted": counts, "label": maybe(counts), "noise": st.sampled_from(["ball", "gaussian"]),
    "input_dimension": counts, "units": counts, "distance": maybe(numbers), "model_sha256": maybe(texts),
    "clip": maybe(st.tuples(numbers, numbers)), "map_sha256": maybe(texts), "run": maybe(texts), "version": texts,
}  # fmt: skip
assessments = st.builds(
    Assessment, **shared, eps=numbers, sigma=numbers, nearest_unit=maybe(texts), certified_radius=maybe(numbers),
    bounds=st.lists(bounds(), max_size=3).map(tuple), estimates=st.lists(estimates, max_size=2).map(tuple),
    seed=counts, adversarial_distance=maybe(numbers), distance_skipped=maybe(texts),
)  # fmt: skip
by_rung = st.dictionaries(rung, maybe(numbers), max_size=3)
plans = st.builds(
    Plan, **shared, delta=numbers, largest_eps=by_rung, largest_sigma=by_rung,
    scope=st.dictionaries(rung, st.just("all"), max_size=2), skipped=st.dictionaries(rung, texts, max_size=2),
    cut_short=st.dictionaries(rung, texts, max_size=2),
)  # fmt: skip


@given(st.one_of(assessments, plans))
@settings(max_examples=60, deadline=None)
def test_a_line_gives_back_what_wrote_it(one: Assessment | Plan) -> None:
    line = json.loads(json.dumps(one.to_dict(), allow_nan=False))
    assert type(one).from_dict(line) == one
    assert type(one).from_dict(line).to_dict() == one.to_dict()


@given(witnesses)
@settings(max_examples=50, deadline=None)
def test_a_witness_too(one: Witness) -> None:
    read = Witness.from_dict(json.loads(json.dumps(one.to_dict(), allow_nan=False)))
    assert torch.equal(read.point, one.point)
    assert (read.distance, read.answer, read.original) == (one.distance, one.answer, one.original)


def test_real_results_come_back_with_their_witnesses() -> None:
    """One that is certain, one at risk, one cut short before anything was done."""
    seen = set()
    for eps, limit in ((1e-4, math.inf), (0.8, math.inf), (0.8, 1e-9)):
        options = calotte.Settings(samples=200, boxes=2, time_limit=limit)
        for one in calotte.assess(
            NETWORK, X[:2], calotte.Sphere(eps), labels=[0, 0], rungs="all", estimates=["alore"], settings=options
        ):
            line = json.loads(json.dumps(one.to_dict(points=True), allow_nan=False))
            read = Assessment.from_dict(line)
            assert read.to_dict(points=True) == line
            assert [b.certain for b in read.bounds] == [b.certain for b in one.bounds]
            assert (read.best is None) == (one.best is None)
            assert "witness" not in one.to_dict()
            assert Assessment.from_dict(one.to_dict(), one.witness).to_dict(points=True) == line
            if one.witness is not None:
                assert torch.equal(read.witness.point, one.witness.point)
                assert NETWORK.predict(read.witness.point[None]).item() != one.predicted
            seen |= {("witness", one.witness is not None)} | {(b.skipped is None, b.certain) for b in one.bounds}
    assert len(seen) == 5
    for plan in calotte.plan(NETWORK, X, calotte.Gaussian(1.0), 1e-3, rungs=["theorem", "cell"]):
        assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


def test_which_rungs_are_statistics_is_known_without_them() -> None:
    assert set(_SAMPLED) == set(RUNGS) - set(PROVED_RUNGS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"predicted": ...}, "no 'predicted'"),
        (
            {"bounds": [{"rung": "cell", "guarantee": "proved", "log_misclassification": 0.5}]},
            "log_misclassification",
        ),
        ({"bounds": [{"rung": "cell", "guarantee": "proved", "log_misclassification": math.nan}]}, "came nan"),
        ({"bounds": [{"rung": "cell", "guarantee": "proved"}]}, "no 'log_misclassification'"),
        ({"bounds": [3]}, "expected a dictionary"),
        ({"bounds": 3}, "bounds: expected a list"),
        ({"estimates": [{"method": "alore"}]}, "no 'event'"),
        ({"witness": {"point": "x", "distance": 1.0, "answer": 2}}, "point: expected a list of numbers"),
        ({"clip": 3}, "clip: expected"),
    ],
)
def test_a_damaged_line_is_refused(change: dict, message: str) -> None:
    (one,) = calotte.assess(NETWORK, X[:1], calotte.Sphere(0.1), rungs="cell", settings=PLAIN)
    line = {key: value for key, value in (one.to_dict() | change).items() if value is not ...}
    with pytest.raises(InvalidInput, match=message):
        Assessment.from_dict(line)


def test_results_turn_into_a_frame() -> None:
    pandas = pytest.importorskip("pandas")
    found = calotte.assess(
        NETWORK, X, calotte.Sphere(0.3), labels=[0, 1, 2, 0], rungs=["theorem", "cell", "sampling"],
        estimates=["alore"], settings=PLAIN,
    )  # fmt: skip
    frame = calotte.to_frame(found)
    assert isinstance(frame, pandas.DataFrame)
    assert frame["index"].tolist() == [0, 1, 2, 3]
    assert frame["correct"].tolist() == [one.correct for one in found]
    assert frame["cell.log_misclassification"].tolist() == [one.bounds[1].log_misclassification for one in found]
    assert frame["sampling.misclassified"].tolist() == [one.bounds[2].misclassified for one in found]
    assert np.isfinite(frame["alore.log_probability"]).all()
    plans = calotte.to_frame(calotte.plan(NETWORK, X, calotte.Sphere(1.0), 1e-3, rungs=["cell"]))
    assert (plans["cell.largest_eps"] > 0).all()
    assert calotte.to_frame([]).empty


def test_in_a_frame_null_is_the_number_that_it_stands_for() -> None:
    constant = dense((np.zeros((2, 3)).tolist(), [1.0, 0.0]))
    (one,) = calotte.assess(constant, [[0.0] * 3], calotte.Sphere(1.0), settings=calotte.Settings(samples=10))
    row = record(one)
    assert row["certified_radius"] == math.inf
    assert row["cell.log_misclassification"] == -math.inf
    (plan,) = calotte.plan(constant, [[0.0] * 3], calotte.Sphere(1.0), 0.1, rungs=["cell"])
    assert record(plan)["cell.largest_eps"] == math.inf


def test_a_frame_without_pandas_says_what_to_do(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InvalidInput, match="pip install pandas"):
        calotte.to_frame([])


@pytest.mark.parametrize("noise", [calotte.Sphere(1.0), calotte.Gaussian(1.0, map=[1.0] * 11 + [0])])
def test_the_largest_noise_is_proved_by_assess(noise) -> None:
    delta, rungs = 1e-3, ["theorem", "cell", "relaxation"]
    size = calotte.largest_noise(NETWORK, X[0], noise, delta, rungs=rungs)
    (one,) = calotte.assess(NETWORK, X[0], noise.resized(size), rungs=rungs, settings=PLAIN)
    assert one.best.log_probability <= math.log(delta)
    alone = [calotte.largest_noise(NETWORK, X[0], noise, delta, rungs=name) for name in rungs]
    assert size >= max(alone) * 0.99


def test_the_largest_noise_of_two_inputs_and_of_none() -> None:
    with pytest.raises(InvalidInput, match="x: expected one input, came 2"):
        calotte.largest_noise(NETWORK, X[:2], calotte.Sphere(1.0), 0.1)
    with pytest.raises(InvalidInput, match="rung 'theorem' says nothing: needs dimension"):
        calotte.largest_noise(dense(([[1.0]], [0.5])), [0.1], calotte.Sphere(1.0), 0.1, rungs="theorem")
    flat = dense((np.zeros((2, 3)).tolist(), [1.0, 0.0]))
    assert calotte.largest_noise(flat, [0.0] * 3, calotte.Sphere(1.0), 0.1, rungs="cell") == math.inf
