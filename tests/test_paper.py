"""`calotte paper` in little: checks that hold, and fail when they should; measurements with known answers."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
import torch
from rich.console import Console

from calotte.cells.cell import Cell
from calotte.cells.polygon import cell_edges, cells_in_square
from calotte.errors import InvalidInput
from calotte.network.affine import Dense
from calotte.network.decision import Decision
from calotte.network.graph import Network, Node, Relu
from calotte.network.random import random_network
from calotte.paper import Effort, Report, render, run, statements
from calotte.paper.adversarial import area_under_curve
from calotte.paper.behaviour import count_cells, count_faces, exponent
from calotte.paper.networks import random_subject, sawtooth
from calotte.paper.statements import Case, judge, lower_limit, perceptron_checks, shallow_checks, subject_checks
from calotte.printing import number, probability_text
from calotte.theorems import corollary_3_2, perceptron_robustness, theorem_3_1, theorem_4_2

pytest.importorskip("sklearn", reason="calotte paper trains its networks with scikit-learn")

FIGURES = ["1-cap", "2-cut", "3-bound", "4-cells", "5-distance", "6-balls", "7-patterns"]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> tuple[Report, list[str]]:
    seen: list[str] = []
    out = tmp_path_factory.mktemp("paper") / "new" / "folder"
    return run(out, effort=Effort.quick(), done=lambda section: seen.append(section.key)), seen


# the report


def test_every_check_holds(report):
    found, seen = report
    assert found.held, found.violations
    assert seen == [s.key for s in found.sections] == ["theory", "checks", "distances", "lines", "balls", "patterns"]


def test_all_files_are_written(report):
    found, _ = report
    names = {path.name for path in found.out.iterdir()}
    assert names == {"paper.json", "paper.md"} | {f"figure-{f}.{s}" for f in FIGURES for s in ("pdf", "png")}
    assert {f"figure-{f}" for f in FIGURES} == {name for section in found.sections for name in section.figures}
    text = (found.out / "paper.md").read_text(encoding="utf-8")
    assert "Every check held" in text
    assert all(section.title in text for section in found.sections)


def test_the_numbers_are_in_the_json(report):
    found, _ = report
    content = json.loads((found.out / "paper.json").read_text(encoding="utf-8"))
    assert content["held"] is True
    network = content["sections"]["balls"]["networks"][1]
    for rho, theorem, cell, distance in zip(
        network["rho"],
        network["largest_eps_theorem"],
        network["largest_eps_cell"],
        network["adversarial_distance"],
        strict=True,
    ):
        assert rho <= theorem <= cell  # the exact caps reach farther, and p = 0 up to rho
        assert distance is None or rho <= distance
    for rho, certified, distance in zip(
        network["rho"], network["certified_radius"], network["adversarial_distance"], strict=True
    ):
        assert rho <= certified
        assert distance is None or certified <= distance
    for share, area in network["area_under_curve"].items():
        within = [d for d in network["adversarial_distance"] if d is not None and d <= area["tau"]]
        assert len(within) == pytest.approx(float(share) * len(network["rho"]), abs=1.01)
        assert 0.8 < area["output hyperplane"] <= 1
    statements_tried = {check["statement"] for check in content["sections"]["checks"]["checks"]}
    assert {"Theorem 3.1", "Corollary 3.2", "Theorem 4.1", "Theorem 4.2", "rung `cell`"} <= statements_tried


def test_the_area_under_the_curve_is_the_share_of_pairs_in_order():
    generator = np.random.default_rng(0)
    for _ in range(20):
        score, positive = generator.integers(0, 6, 30).astype(float), generator.random(30) < 0.4
        pairs = [(a > b) + 0.5 * (a == b) for a in score[positive] for b in score[~positive]]
        assert area_under_curve(score, positive) == pytest.approx(np.mean(pairs))
    assert area_under_curve(np.arange(4.0), np.array([False, False, True, True])) == 1
    assert math.isnan(area_under_curve(np.arange(4.0), np.zeros(4, dtype=bool)))


def test_a_section_renders(report):
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    for section in report[0].sections:
        console.print(render(section))
    text = console.export_text()
    assert "Theorem 4.2" in text
    assert "sawtooth" in text


def test_bad_arguments_are_refused(tmp_path):
    with pytest.raises(InvalidInput, match="seed"):
        run(tmp_path, seed=-1)
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match="cannot make the folder"):
        run(tmp_path / "file" / "below")


# the checks hold, and can fail


def weakened(function, by):
    def wrong(*args):
        bound = function(*args)
        return replace(bound, log_misclassification=bound.log_misclassification - by)

    return wrong


def test_perceptron_checks_hold():
    assert all(check.held for check in perceptron_checks((2, 30), 20_000, generator()))


@pytest.mark.parametrize(
    ("name", "function", "by"),
    [("theorem_3_1", theorem_3_1, 1.5), ("perceptron_robustness", perceptron_robustness, 0.3)],
)
def test_a_wrong_perceptron_bound_is_reported(monkeypatch, name, function, by):
    monkeypatch.setattr(statements, name, weakened(function, by))
    failed = [check for check in perceptron_checks((30,), 20_000, generator()) if not check.held]
    assert failed
    assert "misclassified" in failed[0].violations[0]


def test_too_large_an_exact_value_is_reported(monkeypatch):
    monkeypatch.setattr(statements, "perceptron_robustness", weakened(perceptron_robustness, -0.3))
    assert any(not check.held for check in perceptron_checks((30,), 20_000, generator()))


def test_a_wrong_corollary_is_reported(monkeypatch):
    assert all(check.held for check in shallow_checks([(100, 4)], 20_000, generator()))
    monkeypatch.setattr(statements, "corollary_3_2", weakened(corollary_3_2, 2.5))
    assert any(not check.held for check in shallow_checks([(100, 4)], 20_000, generator()))


@pytest.mark.parametrize("what", ["theorem_4_2", "cell rung", "rho"])
def test_wrong_bounds_of_deep_networks_are_reported(monkeypatch, what):
    widths = (2, 8, 8, 1) if what == "rho" else (100, 64, 64, 10)
    subject = random_subject(widths, generator(1), 3)
    assert all(check.held for check in subject_checks(subject, 2, 2000, generator()))
    if what == "theorem_4_2":
        monkeypatch.setattr(statements, "theorem_4_2", weakened(theorem_4_2, 8.0))
    elif what == "cell rung":
        right = statements._cell_bound
        monkeypatch.setattr(statements, "_cell_bound", lambda query, eps: right(query, eps) - 0.5)
    else:
        monkeypatch.setattr(statements, "theorem_4_2", lambda rho, *rest: theorem_4_2(1.3 * rho, *rest))
    failed = [check for check in subject_checks(subject, 2, 2000, generator()) if not check.held]
    assert [check.statement for check in failed] == ["rung `cell`" if what == "cell rung" else "Theorem 4.2"]


def test_a_wrong_cell_is_reported(monkeypatch):
    subject = random_subject((5, 16, 16, 3), generator(1), 3)
    monkeypatch.setattr(Cell, "offsets", property(lambda cell: cell.values - cell.normals @ cell.x + 0.01))
    check = subject_checks(subject, 3, 100, generator())[0]
    assert check.statement == "Theorem 4.1"
    assert not check.held


def test_a_failed_check_fails_the_report(report):
    found, _ = report
    broken = replace(found.sections[1].checks[0], violations=("eps = 1: 9 of 10 misclassified, proved p <= 0.1",))
    section = replace(found.sections[1], checks=(broken,))
    failed = replace(found, sections=(found.sections[0], section))
    assert not failed.held
    assert failed.violations == ("Theorem 3.1, perceptron, d = 2: eps = 1: 9 of 10 misclassified, proved p <= 0.1",)


def test_where_a_case_contradicts():
    assert Case(1.0, -math.inf, 1, 1000).contradicts
    assert not Case(1.0, -math.inf, 0, 1000).contradicts
    assert Case(1.0, math.log(0.1), 200, 1000).contradicts
    assert not Case(1.0, math.log(0.1), 110, 1000).contradicts  # within the confidence limit
    assert not Case(1.0, 0.0, 1000, 1000).contradicts
    assert judge("", "", [Case(1.0, math.log(0.1), 110, 10_000)]).closest == pytest.approx(0.11)
    assert 0 < lower_limit(10, 1000) < 0.01
    assert lower_limit(0, 10) == 0


# measurements with known answers


def test_the_sawtooth_has_its_cells():
    for layers in (1, 2, 5):
        network = sawtooth(3, layers)
        ends = torch.zeros(2, 3, dtype=torch.float64)
        ends[:, 0] = torch.tensor([1e-4, 1 - 1e-4])
        assert count_cells(network, *ends) == 2 ** (layers + 1)
        assert count_faces(Cell(network, ends[0])) == 2


@pytest.mark.parametrize("widths", [(3, 20, 1), (6, 10, 10, 10, 4)])
def test_cells_on_a_segment_agree_with_a_fine_walk(widths):
    network = random_network(widths, generator(2))
    for seed in range(4):
        a, b = torch.randn(2, widths[0], dtype=torch.float64, generator=generator(seed))
        points = a + torch.linspace(0, 1, 100_001, dtype=torch.float64)[:, None] * (b - a)
        codes = torch.cat([network.pattern(points).to(torch.int64), network.predict(points)[:, None]], 1)
        walked = 1 + int((codes[1:] != codes[:-1]).any(1).sum())
        assert walked <= count_cells(network, a, b) <= walked + 1


def test_faces_of_a_box():
    """Twelve units: the six sides of a cube around x, once more, and six hyperplanes beyond its corners."""
    eye = torch.eye(3, dtype=torch.float64)
    corners = torch.tensor(
        [[1, 1, 1], [1, 1, -1], [1, -1, 1], [-1, 1, 1], [-1, -1, 1], [1, -1, -1]], dtype=torch.float64
    )
    weight = torch.cat([eye, -eye, eye, -eye, corners])
    bias = -torch.cat([torch.ones(12), torch.full((6,), 4.0)]).to(torch.float64)
    out = Dense(torch.ones(1, 18, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    nodes = (
        Node("input", None),
        Node("a", Dense(weight, bias), (0,)),
        Node("relu", Relu((18,)), (1,)),
        Node("out", out, (2,)),
    )
    cell = Cell(Network(nodes, (3,), Decision("sign", 1)), torch.tensor([0.1, 0.2, -0.3]))
    assert int(cell.has_hyperplane.sum()) == 18
    assert count_faces(cell) == 6


def test_cells_fill_the_square_and_differ():
    network = random_network((2, 6, 6, 1), generator(4))
    pieces = cells_in_square(network, -2, 2)
    area = 0.0
    for piece in pieces:
        (x, y), (u, v) = piece.corners.T, np.roll(piece.corners, -1, 0).T
        area += 0.5 * float((x * v - u * y).sum())
    assert area == pytest.approx(16.0, rel=1e-9)
    middles = torch.stack([torch.from_numpy(piece.corners.mean(0)) for piece in pieces])
    codes = torch.cat([network.pattern(middles).to(torch.int64), network.predict(middles)[:, None]], 1)
    assert len(torch.unique(codes, dim=0)) == len(pieces)
    corners, edges = cell_edges(Cell(network, middles[0]), -2, 2)
    assert len(corners) == len(pieces[0].corners) >= len(edges)


def test_exponent():
    assert exponent([1, 2, 4], [3, 12, 48]) == pytest.approx(2.0)


# rounding in tables


@pytest.mark.parametrize("x", [0.1, 1 / 3, 123456.0, 0.00099999, 1e-300, 7.0])
def test_numbers_are_rounded_to_the_safe_side(x):
    assert Decimal(number(x, "down")) <= Decimal(x) <= Decimal(number(x, "up"))
    assert float(number(x, "up")) == pytest.approx(x, rel=0.011)


@pytest.mark.parametrize("log_p", [-1e-20, -1.0, -7.27, -700.0, -1e6])
def test_probabilities_are_rounded_up(log_p):
    shown = Decimal(probability_text(log_p))
    assert Decimal(log_p).exp() <= shown <= 1
    assert shown.ln() == pytest.approx(Decimal(log_p), abs=Decimal("0.011"))


def test_zero_only_where_it_is_proved():
    assert probability_text(-math.inf) == "0"
    assert probability_text(0.0) == "1"
    assert number(math.inf) == "none"
