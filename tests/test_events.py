"""Events on the outputs: rungs, the search and sampling speak of the same one; truth by closed forms and draws."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from shell import run
from torch import Tensor
from zoo import dense, exact_log_tail, gaussian_layers, points, random_dense, residual, tensor

from calotte.adversary import Adversary
from calotte.assess import assess
from calotte.errors import Contradiction, InvalidInput
from calotte.inputs import read_event
from calotte.ladder import propose
from calotte.models.onnx import load
from calotte.network.decision import Decision
from calotte.network.event import CHANGE, Becomes, Event, LeavesTop, Moves, OutputEvent, event_of
from calotte.network.graph import Network
from calotte.network.margins import Case, Cases, Margins
from calotte.noise import Ball, Gaussian, Noise, Sphere
from calotte.plan import plan
from calotte.proofs.prove import prove
from calotte.settings import Settings

KINDS = (Sphere, Ball, Gaussian)
QUICK = Settings(samples=2000, confidence=1 - 1e-6, boxes=12, search=False)
PROVED = ["theorem", "cell", "relaxation", "concentration", "branching"]


def truth(event: OutputEvent, network: Network, x: Tensor) -> Callable[[Tensor], np.ndarray]:
    """The event spelled out: outputs (n, K) to bool (n,)."""
    rule, before = network.decision.rule, network.forward(x[None])[0].numpy()

    def order(z: np.ndarray) -> list[int]:
        sign = 1 if rule == "argmin" else -1
        return sorted(range(len(z)), key=lambda k: (sign * z[k], k))

    def one(z: np.ndarray) -> bool:
        if isinstance(event, Moves):
            return bool((np.abs(z - before) > event.tolerance).any())
        if isinstance(event, Event):
            return any(all(np.dot(row, z) + c <= 0 for row, c in case) for case in event.cases)
        if rule == "sign":
            now, then = int(z[0] > 0), int(before[0] > 0)
        else:
            now, then = order(z)[0], order(before)[0]
        if isinstance(event, LeavesTop):
            return then not in order(z)[: event.count]
        return now == event.label if isinstance(event, Becomes) else now != then

    return lambda z: np.array([one(row) for row in z.numpy()])


MIXED = Event([[([1.0, -1.0, 0.5, 0.0], 0.4), ([0.0, 2.0, -1.0, 0.3], -0.1)], [([0.0, 0.0, 0.0, 1.0], 0.9)]], "mixed")
EVENTS = [CHANGE, Becomes(2), Becomes(0), LeavesTop(2), LeavesTop(3), Moves(0.7), MIXED]


@pytest.mark.parametrize("event", EVENTS, ids=lambda e: e.name)
@pytest.mark.parametrize("rule", ["argmax", "argmin"])
def test_margins_say_what_the_event_is_ties_included(event: OutputEvent, rule: str) -> None:
    network = random_dense((3, 5, 4), 1, rule=rule)
    x = points(1, 3, 2)[0]
    margins = event.margins(network, x[None], network.predict(x[None]))
    grid = torch.tensor(list(itertools.product((-1.0, 0.0, 0.5, 2.0), repeat=4)), dtype=torch.float64)
    z = torch.cat([grid, network.forward(x[None]) + grid])
    expected = truth(event, network, x)(z)
    assert margins.occurs(z).tolist() == expected.tolist()
    level = margins.cases.least(margins.of(z))[0]
    assert bool((level[torch.from_numpy(expected)] <= 0).all())
    assert bool((level[~torch.from_numpy(expected)] >= 0).all())
    exactly = torch.zeros_like(z)
    certain = margins.certainly_occurs(z, exactly)
    assert bool((~certain | margins.occurs(z)).all())
    assert bool((certain == margins.occurs(z))[level.abs() > 1e-9].all())
    for bad in (math.nan, math.inf, -math.inf):
        broken = z[:1].clone()
        broken[0, 1] = bad
        assert bool(margins.occurs(broken)), "no number is never right"
        assert not margins.certainly_occurs(broken, exactly[:1])
        assert not margins.certainly_occurs(z[:1], broken.abs())


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("ties", [0, 1])
def test_a_class_of_a_sign_and_its_ties(label: int, ties: int) -> None:
    network = dense(([[1.0]], [0.0]))
    network = Network(network.nodes, network.input_shape, Decision("sign", 1, ties))
    margins = Becomes(label).margins(network, torch.ones(1, 1).double(), torch.ones(1, dtype=torch.int64))
    assert margins.occurs(tensor([[-1.0], [0.0], [1.0]])).tolist() == [label == 0, label == ties, label == 1]


def test_cases_count_what_a_bound_needs() -> None:
    """Against all subsets: the union of what is kept covers the event, whatever fails."""
    cases = Cases((Case(3, 2), Case(1, 1), Case(2, 2), Case(3, 1)))
    assert (cases.forms, cases.counted) == (9, 2 + 1 + 1 + 3)
    heights = torch.randn(9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    kept = cases.kept(heights).isfinite()
    assert int(kept.sum()) == cases.counted
    assert torch.equal(cases.kept_logs(-heights).isfinite(), kept)
    for failing in itertools.product((False, True), repeat=9):
        fails = torch.tensor(failing)
        assert not cases.occurring(fails) or bool((fails & kept).any())
        assert bool(cases.holding(torch.where(fails, -1.0, 1.0))) == (not cases.occurring(fails))
    assert not cases.holding(torch.full((9,), math.nan))


@pytest.mark.parametrize("kind", KINDS)
def test_a_linear_network_moves_by_two_caps(kind: type[Noise]) -> None:
    d, w = 7, points(1, 7, 3)[0]
    network = dense((w[None], [0.3]))
    for s in (0.4, 0.9):
        size = 1.0 / (float(w.norm()) * s * (math.sqrt(d) if kind is Gaussian else 1.0))
        height = s * (math.sqrt(d) if kind is Gaussian else 1.0)
        expected = float(exact_log_tail(kind, height, d)) + math.log(2)  # type: ignore[arg-type]
        (one,) = assess(network, points(1, d, 4), kind(size), event="moves:1.0", settings=QUICK, rungs=["all"])
        for bound in one.bounds:
            if bound.rung in ("cell", "relaxation", "concentration"):
                assert bound.log_misclassification == pytest.approx(expected, rel=1e-9)
            assert bound.skipped or bound.log_misclassification >= expected - 1e-9
        assert (one.event, one.units) == ("moves:1.0", 2)


@pytest.mark.parametrize("kind", KINDS)
def test_one_inequality_is_one_cap_and_a_conjunction_its_best_combination(kind: type[Noise]) -> None:
    """The cap of a conjunction is the smallest of those of {w . f <= 0}, here over a grid of w."""
    d, rows = 5, points(3, 5, 6)
    network = dense((rows, [0.0, 0.0, 0.0]))
    eye = torch.eye(3, dtype=torch.float64)
    x = torch.zeros(1, d, dtype=torch.float64)
    size = 0.2 if kind is Gaussian else 0.2 * math.sqrt(d)
    constants = [0.3, 0.45, 0.6]
    step = torch.linspace(0.0, 1.0, 201, dtype=torch.float64)
    grid = torch.cartesian_prod(step, step, step)[1:]

    def tail(*forms: int) -> float:
        w = torch.zeros(len(grid), 3, dtype=torch.float64)
        w[:, forms] = grid[:, : len(forms)]
        heights = (w @ torch.tensor(constants, dtype=torch.float64)) / (w @ rows).norm(dim=1)
        return float(exact_log_tail(kind, heights.nan_to_num(-1.0).max().item() / size, d))  # type: ignore[arg-type]

    tails = [tail(k) for k in range(3)]
    pairs = [(eye[k], c) for k, c in enumerate(constants)]
    for cases, expected in (
        ([pairs[:1]], tails[0]),
        ([pairs], tail(0, 1, 2)),
        ([pairs[:2], pairs[2:]], math.log(math.exp(tail(0, 1)) + math.exp(tails[2]))),
        ([pairs[:1], pairs[1:2], pairs[2:]], math.log(sum(map(math.exp, tails)))),
    ):
        (one,) = assess(network, x, kind(size), event=Event(cases), settings=QUICK, rungs=PROVED[1:4])
        for bound in one.bounds:
            exact = 1e-9 if all(len(case) == 1 for case in cases) else 1e-3
            assert bound.log_misclassification == pytest.approx(min(expected, 0.0), rel=exact)


def zoo() -> list[tuple[str, Network, Tensor]]:
    return [
        ("dense", random_dense((2, 5, 4, 4), 3), points(1, 2, 5)[0]),
        ("argmin", random_dense((6, 8, 4), 7, rule="argmin"), points(1, 6, 8)[0]),
        ("residual", residual(4, 4, 9), points(1, 4, 9)[0]),
    ]


def unsound(event: OutputEvent, kind: type[Noise], rungs: list[str]) -> list[str]:
    """What proved rungs say below what draws of numpy show, less four standard errors."""
    found, rng = [], np.random.default_rng(0)
    for name, network, x in zoo():
        for size in (0.25, 0.6):
            law = kind(size if kind is Gaussian else size * math.sqrt(network.d))
            u = rng.normal(size=(8_000, network.d))
            if kind is not Gaussian:
                u /= np.linalg.norm(u, axis=1, keepdims=True)
            if kind is Ball:
                u *= rng.random((len(u), 1)) ** (1 / network.d)
            share = truth(event, network, x)(network.forward(x + law.size * torch.from_numpy(u))).mean()
            least = share - 4 * math.sqrt(share / len(u)) if share * len(u) >= 30 else 0.0
            try:
                (one,) = assess(network, x[None], law, event=event, settings=QUICK, rungs=[*rungs, "sampling"])
            except Contradiction as error:
                found.append(str(error))
                continue
            for bound in one.bounds:
                if bound.probability < least:
                    found.append(f"{name} {law} {event.name}: {bound} < {least}")
            sampled = one.bounds[-1].misclassified or 0
            if abs(sampled / 2000 - share) > 5 * math.sqrt(max(share, 1e-3) / 2000):
                found.append(f"{name} {law} {event.name}: sampling counts {sampled} of 2000, the share is {share}")
    return found


@pytest.mark.parametrize("event", [Becomes(1), LeavesTop(2), Moves(0.5), MIXED], ids=lambda e: e.name)
def test_no_rung_is_below_what_draws_show(event: OutputEvent) -> None:
    assert unsound(event, Sphere, PROVED if event == LeavesTop(2) else PROVED[:4]) == []
    assert unsound(event, Gaussian, PROVED[:4]) == []


@pytest.mark.parametrize("mutant", ["one form more is left out", "constants are dropped", "all must fail"])
def test_mutants_are_caught(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if mutant == "one form more is left out":
        kept = Cases.kept
        monkeypatch.setattr(
            Cases, "kept", lambda self, h: kept(Cases(tuple(Case(n, min(q + 1, n)) for n, q in self.each)), h)
        )
    elif mutant == "constants are dropped":
        init = Margins.__init__
        monkeypatch.setattr(Margins, "__init__", lambda self, r, c, *rest: init(self, r, 0 * c + 2.0, *rest))
    else:
        kept = Cases.kept
        monkeypatch.setattr(Cases, "kept", lambda self, h: kept(Cases((Case(self.forms, self.forms),)), h))
    try:
        test_a_linear_network_moves_by_two_caps(Sphere)
    except (AssertionError, Contradiction):
        return
    assert unsound(MIXED, Sphere, PROVED[:4])


@pytest.mark.parametrize("event", EVENTS, ids=lambda e: e.name)
def test_a_witness_lies_in_the_event_and_beyond_the_radius(event: OutputEvent) -> None:
    for _, network, x in zoo():
        (one,) = assess(network, x[None], Ball(0.3), event=event, settings=Settings(samples=200), rungs=PROVED[:4])
        if one.witness is None:
            continue
        assert truth(event, network, x)(network.forward(one.witness.point[None])).all()
        assert one.certified_radius is not None
        assert one.certified_radius <= one.witness.distance
    assert one.witness is not None


def test_it_occurs_at_the_input_itself() -> None:
    """The witness is the input, the radius 0, every bound 1."""
    _, network, x = zoo()[0]
    here = int(network.predict(x[None]))
    (one,) = assess(network, x[None], Sphere(0.01), event=f"class:{here}", rungs=PROVED)
    assert (one.certified_radius, [bound.probability for bound in one.bounds]) == (0.0, [1.0] * 5)
    assert one.witness is not None
    assert one.witness.distance < 1e-9
    assert Adversary(network).nearest(x, here, event=Becomes(here)) is not None


def test_splitting_importance_and_isoperimetry_speak_of_the_event() -> None:
    """A conjunction in the plane, its exact probability by an arc of the circle."""
    network = dense(([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]))
    corner = Event([[([-1.0, 0.0], 0.6), ([0.0, -1.0], 0.7)]])  # u_1 >= 0.6 and u_2 >= 0.7
    p = (math.acos(0.6) - math.asin(0.7)) / (2 * math.pi)
    (one,) = assess(
        network, torch.zeros(1, 2).double(), Sphere(1.0), event=corner, rungs=["all"],
        estimates=["splitting", "importance"], settings=Settings(samples=20_000, boxes=60),
    )  # fmt: skip
    assert all(bound.probability >= p for bound in one.bounds)
    for estimate in one.estimates:
        assert estimate.log_probability is not None
        assert estimate.relative_error is not None
        assert abs(math.exp(estimate.log_probability) / p - 1) <= 4 * estimate.relative_error + 0.02
    by_samples = next(bound for bound in one.bounds if bound.rung == "sampling")
    assert by_samples.probability == pytest.approx(p, rel=0.2)


@pytest.mark.parametrize("event", ["top:2", "moves:0.5"])
def test_plan_and_proofs_carry_the_event(event: str) -> None:
    _, network, x = zoo()[1]
    (found,) = plan(network, x[None], Sphere(1.0), 1e-2, event=event, rungs=PROVED[:4])
    assert found.event == event
    for rung, eps in found.largest_eps.items():
        assert eps
        (one,) = assess(network, x[None], Sphere(eps), event=event, rungs=[rung], settings=QUICK)
        assert one.bounds[0].probability <= 1e-2 * (1 + 1e-9)
        proof = propose(network, x, Sphere(eps), rung, event=event)
        assert prove(network, x, Sphere(eps), proof, event) == one.bounds[0].log_misclassification


def test_regression_networks_need_no_decision() -> None:
    """Several outputs: p counts a move of any of them."""
    network = dense(*gaussian_layers((4, 6, 3), 2))
    x = points(1, 4, 3)
    (one,) = assess(network, x, Gaussian(0.05), event="moves:0.4", settings=QUICK)
    assert one.best is not None
    sampled = next(bound for bound in one.bounds if bound.rung == "sampling")
    assert one.best.log_misclassification < 0
    assert one.best.probability >= (sampled.misclassified or 0) / 2000 / 2


@pytest.mark.parametrize(
    ("event", "said"),
    [
        ("class:9", "classes 0 to 3"), ("class:x", "expected change"), ("top:4", "no such top"), ("top:0", "no such"),
        ("moves:0", "positive"), ("moves:nan", "positive"), ("moves:", "expected change"), ("", "expected change"),
        (Event([[([1.0], 0.0)]]), "speaks of 1 outputs"), (7, "came int"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(event: object, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        assess(zoo()[0][1], torch.zeros(1, 2), Sphere(1.0), event=event)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "cases", [[], [[]], [[([1.0, math.nan], 0.0)]], [[([1.0], math.inf)]], [[([1.0], 0.0), ([1.0, 2.0], 0.0)]], [[3]]]
)
def test_an_event_of_broken_rows_is_refused(cases: list[list[tuple[list[float], float]]]) -> None:
    with pytest.raises(InvalidInput, match="event custom"):
        Event(cases)


def saved(path: Path, last: str) -> Path:
    """A model of 2 inputs and 2 outputs that ends in an operator."""
    weights = [helper.make_tensor("w", TensorProto.FLOAT, [2, 2], [1.0, 2.0, -1.0, 0.5])]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node(last, ["h"], ["y"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_values_behind_a_softmax_are_not_spoken_of(tmp_path: Path) -> None:
    network = load(saved(tmp_path / "soft.onnx", "Softmax"))
    with pytest.raises(InvalidInput, match="Softmax is left off"):
        assess(network, torch.zeros(1, 2), Sphere(1.0), event="moves:0.1")
    order = Event([[([-3.0, 3.0], 0.0)]])  # only the order of the outputs counts
    assert assess(network, torch.ones(1, 2), Sphere(0.1), event=order, rungs=["cell"], settings=QUICK)
    plain = load(saved(tmp_path / "plain.onnx", "Relu"))
    assert assess(plain, torch.ones(1, 2), Sphere(0.1), event="moves:0.1", rungs=["cell"], settings=QUICK)


DECLARED = "(declare-const X_0 Real)(declare-const X_1 Real)(assert (<= X_0 1))(assert (>= X_0 -1))" + (
    "(assert (<= X_1 1))(assert (>= X_1 0))(declare-const Y_0 Real)(declare-const Y_1 Real)"
)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("(assert (<= Y_0 Y_1))", lambda a, b: a <= b),
        ("(assert (>= Y_0 2))(assert (<= Y_1 (- 0.5)))", lambda a, b: a >= 2 and b <= -0.5),
        ("(assert (or (and (<= Y_0 0) (>= Y_1 0)) (>= Y_1 3)))", lambda a, b: (a <= 0 and b >= 0) or b >= 3),
        (
            "(assert (<= (+ (* 2 Y_0) (* Y_1 -1.5) 1) (- Y_1 Y_0)))",
            lambda a, b: 2 * a - 1.5 * b + 1 <= b - a,
        ),
        ("(assert (or (<= Y_0 1)))(assert (or (<= Y_1 0) (>= Y_0 0)))", lambda a, b: a <= 1 and (b <= 0 or a >= 0)),
        ("(assert (= Y_0 1))", lambda a, b: a == 1),
    ],
)
def test_the_outputs_of_a_property(tmp_path: Path, text: str, holds: Callable[[float, float], bool]) -> None:
    path = tmp_path / "p.vnnlib"
    path.write_text(DECLARED + text)
    event = read_event(path)
    assert event.name == "p.vnnlib"
    network = random_dense((2, 2), 0)
    margins = event.margins(network, torch.zeros(1, 2).double(), torch.zeros(1, dtype=torch.int64))
    z = torch.tensor(list(itertools.product((-1.0, -0.5, 0.0, 1.0, 2.0, 3.5), repeat=2)), dtype=torch.float64)
    assert margins.occurs(z).tolist() == [holds(a, b) for a, b in z.tolist()]


@pytest.mark.parametrize(
    "text",
    ["", "(assert (<= Y_0 Y_7))", "(assert (<= (* Y_0 Y_1) 1))", "(assert (not (<= Y_0 1)))", "(assert (<= Y_0 x))",
     "(assert " + "(and (or (<= Y_0 1) (<= Y_1 1)) " * 15 + "(<= Y_0 1)" + ")" * 16],
)  # fmt: skip
def test_outputs_that_are_not_understood_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.vnnlib"
    path.write_text(DECLARED + text)
    with pytest.raises(InvalidInput, match=r"p\.vnnlib"):
        read_event(path)


def test_real_properties(data: Path) -> None:
    """ACAS Xu: 'the first output is the largest' at a centre where it is not; both rungs and samples agree."""
    event = read_event(data / "acasxu" / "prop_2.vnnlib")
    network = load(data / "acasxu" / "ACASXU_run2a_1_1_batch_2000.onnx", "argmin")
    margins = event.margins(network, torch.zeros(1, 5).double(), torch.zeros(1, dtype=torch.int64))
    assert margins.cases.each == (Case(4, 4),)
    z = torch.randn(50, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(margins.occurs(z), z.argmax(1) == 0)


def test_the_command_line(here: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    common = "assess net.onnx in.npz --eps 0.5 --index 0:3 --no-search --rungs cell,sampling --samples 200 --json"
    for event in ("top:2",):
        status, out, _ = run(capsys, monkeypatch, f"{common} --event {event}")
        lines = [json.loads(line) for line in out.splitlines()]
        assert (status, {line["event"] for line in lines}) == (0, {event})
    (here / "e.vnnlib").write_text(
        "".join(f"(declare-const X_{i} Real)(assert (<= X_{i} 1))(assert (>= X_{i} 0))" for i in range(6))
        + "".join(f"(declare-const Y_{i} Real)" for i in range(3))
        + "(assert (>= Y_0 0.5))"
    )
    status, out, _ = run(capsys, monkeypatch, f"{common} --event e.vnnlib --out res")
    assert (status, json.loads(out.splitlines()[0])["event"]) == (0, "e.vnnlib")
    assert json.loads((here / "res" / "run.json").read_text())["event"]["file"] == "e.vnnlib"
    status, out, err = run(
        capsys, monkeypatch, "plan net.onnx in.npz --delta 0.1 --index 0 --event top:2 --rungs cell"
    )
    assert status == 0
    for event in ("class:7", "nonsense", "missing.vnnlib", "moves:-1"):
        status, out, err = run(capsys, monkeypatch, f"{common} --event {event}")
        assert (status, out, err.count("\n")) == (2, "", 1)


def test_names_are_read_back() -> None:
    for event in EVENTS[:-1]:
        assert event_of(event.name) == event
