"""Margins: differences of outputs taken as such, against the rows that they stand for."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from calotte.network.decision import Decision
from calotte.network.event import over_rivals
from calotte.network.margins import Case, Cases, Margins

Z = torch.randn(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("rule", ["argmax", "argmin"])
@pytest.mark.parametrize("answer", [0, 2, 4])
def test_differences_give_the_bits_of_their_rows(rule: str, answer: int) -> None:
    margins = over_rivals(Decision(rule, 5), torch.tensor([answer]), 1)
    assert margins.differences is not None
    rivals = [k for k in range(5) if k != answer]
    sign = 1.0 if rule == "argmax" else -1.0
    expected = [[sign * (z[answer] - z[k]) for k in rivals] for z in Z.tolist()]
    assert margins.of(Z).tolist() == expected
    assert torch.equal(margins.of(Z), Z @ margins.rows[0].t())
    assert torch.equal(margins.weighed(Z.abs()), Z.abs() @ margins.rows[0].abs().t())
    other_way = Margins(-margins.rows, -margins.constants, ~margins.ties, margins.cases)
    assert torch.equal(other_way.of(Z), -margins.of(Z))
    batch = over_rivals(Decision(rule, 5), torch.full((7,), answer), 1)
    assert batch.differences is None
    assert torch.equal(batch.of(Z), margins.of(Z))


@pytest.mark.parametrize(
    "rows", [[[1.0, 1.0]], [[2.0, -2.0]], [[1.0, 0.0]], [[1.0, -1.0], [0.0, 1.0]], [[0.0, 0.0]], [[-1.0, -1.0]]]
)
def test_other_forms_are_no_differences(rows: list) -> None:
    table = torch.tensor([rows], dtype=torch.float64)
    zero = torch.zeros(table.shape[:2], dtype=torch.float64)
    margins = Margins(table, zero, zero.bool(), Cases((Case(len(rows), 1),)))
    assert margins.differences is None
    assert torch.equal(margins.of(Z[:, :2]), Z[:, :2] @ table[0].t())
    assert replace(margins, constants=zero + 0.5).differences is None


def test_a_difference_with_a_constant_is_not_plain() -> None:
    margins = over_rivals(Decision("argmax", 5), torch.tensor([1]), 1)
    shifted = replace(margins, constants=margins.constants + 0.25)
    assert shifted.differences is None
    assert torch.allclose(shifted.of(Z), margins.of(Z) + 0.25, rtol=1e-15, atol=1e-15)
