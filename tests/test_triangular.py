"""Back-substitution through units one after the other, against exact values in rational arithmetic."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from calotte.proofs.relaxation import triangular
from calotte.proofs.relaxation.lines import relaxed_lines
from calotte.proofs.relaxation.triangular import Triangular, UnitRows

REGIONS, POINTS, GROUPS, MARGINS = 3, 20, (slice(0, 3), slice(3, 5), slice(5, 6)), 2
UNITS = GROUPS[-1].stop


def network(seed: int, apart: bool, sizes: float) -> Triangular:
    """Random units, `apart` with weights of their own in each region; sizes: decades of weights and constants."""
    generator = torch.Generator().manual_seed(seed)

    def numbers(*shape: int) -> Tensor:
        signs, size = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
        return signs.sign() * torch.pow(10.0, sizes * size)

    lead = (REGIONS,) if apart else ()
    weight = numbers(*lead, UNITS + MARGINS, UNITS)
    for group in GROUPS:
        weight[..., group, group.start :] = 0.0
    constant = numbers(*lead, UNITS + MARGINS)
    read = [[slice(0, group.start)] for group in GROUPS]
    return Triangular(GROUPS, read, weight, constant, 1e-3 * constant.abs(), torch.zeros_like(constant))


def exact(net: Triangular, region: int, x: Tensor, off: Tensor) -> list[Fraction]:
    """All z_i at x (N + C,), each off by some share of its error."""
    weight, constant, error = (
        t[region] if t.ndim > one else t for t, one in ((net.weight, 2), (net.constant, 1), (net.error, 1))
    )
    z: list[Fraction] = []
    for i in range(UNITS + MARGINS):
        terms = [Fraction(weight[i, k].item()) * max(z[k], Fraction(0)) for k in range(min(i, UNITS))]
        own = (
            Fraction(x[i].item()) + Fraction(constant[i].item()) + Fraction(error[i].item()) * Fraction(off[i].item())
        )
        z.append(own + sum(terms))
    return z


def rows_and_values(seed: int, apart: bool, sizes: float) -> tuple[UnitRows, list[list[list[Fraction]]], Tensor]:
    """Both sides of the margins; exact values at points of each region, and what is free there."""
    net, generator = network(seed, apart, sizes), torch.Generator().manual_seed(seed + 1)
    x = torch.randn(REGIONS, POINTS, UNITS + MARGINS, generator=generator, dtype=torch.float64)
    off = 2.0 * torch.rand(x.shape, generator=generator, dtype=torch.float64) - 1.0
    z = [[exact(net, r, x[r, p], off[r, p]) for p in range(POINTS)] for r in range(REGIONS)]
    seen = torch.tensor([[[float(v) for v in one] for one in each] for each in z], dtype=torch.float64)
    units = seen[:, :, :UNITS]
    low, high = units.amin(1), units.amax(1)
    slack = 1e-9 * (low.abs() + high.abs())
    lines = torch.stack(relaxed_lines(low - slack, high + slack))
    met = net.weight.abs() @ units.clamp_min(0.0).amax(1)[:, :, None] if apart else None
    sizes_ = (net.weight.abs() @ units.clamp_min(0.0).amax(1).amax(0)) if met is None else met[:, :, 0]
    net = replace(net, magnitude=4.0 * (sizes_ + net.constant.abs() + net.error + 10.0 + x.abs().amax()))
    margins = torch.arange(UNITS, UNITS + MARGINS)
    sign = torch.tensor([1.0, -1.0]).double().repeat_interleave(MARGINS)
    return net.pull_back(margins.repeat(2), sign, lines), z, x


def excess(rows: UnitRows, z: list[list[list[Fraction]]], x: Tensor) -> Fraction:
    """How far rows are above exact values at most."""
    most = Fraction(-(10**30))
    for region, points in enumerate(z):
        for row, (own, sign) in enumerate(zip(rows.own.tolist(), rows.sign.tolist(), strict=True)):
            constant = Fraction(rows.middle[region, row].item()) - Fraction(rows.doubt[region, row].item())
            linear = [Fraction(w) for w in rows.linear[region, row].tolist()]
            for p, values in enumerate(points):
                free = [Fraction(v) for v in x[region, p].tolist()]
                found = constant + sum(w * v for w, v in zip(linear, free, strict=False)) + Fraction(sign) * free[own]
                most = max(most, found - Fraction(sign) * values[own])
    return most


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("sizes", [0.3, 3.0])
@pytest.mark.parametrize("seed", range(4))
def test_rows_lie_below_exact_values(seed: int, sizes: float, apart: bool) -> None:
    assert excess(*rows_and_values(seed, apart, sizes)) <= 0


@pytest.mark.parametrize("apart", [False, True])
def test_units_that_keep_their_sign_are_exact_up_to_rounding(apart: bool) -> None:
    """One point to a region: every ReLU is linear, and rows differ from values by what is rounded."""
    nothing = torch.zeros(UNITS + MARGINS, dtype=torch.float64)
    net = network(0, apart, 0.3)
    net = replace(net, error=torch.zeros_like(net.error), magnitude=torch.zeros_like(net.magnitude))
    x = torch.randn(REGIONS, UNITS + MARGINS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    z = [exact(net, region, x[region], nothing) for region in range(REGIONS)]
    units = torch.tensor([[float(v) for v in each[:UNITS]] for each in z], dtype=torch.float64)
    lines = torch.stack(relaxed_lines(units - 1e-9, units + 1e-9))
    margins, one = torch.arange(UNITS, UNITS + MARGINS), torch.ones(MARGINS, dtype=torch.float64)
    for sign in (one, -one):
        rows = net.pull_back(margins, sign, lines)
        found = rows.middle + triangular.sums(rows.linear, x[:, :UNITS]) + sign * x[:, UNITS:]
        exactly = torch.tensor([[float(v) for v in each[UNITS:]] for each in z], dtype=torch.float64)
        torch.testing.assert_close(found, sign * exactly, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["intercepts forgotten", "errors forgotten", "slopes exchanged"])
def test_mutants_are_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right, errors = triangular.bent, name == "errors forgotten"
    if name == "intercepts forgotten":
        monkeypatch.setattr(triangular, "bent", lambda *given: (right(*given)[0], 0.0 * given[0]))
    if name == "slopes exchanged":
        monkeypatch.setattr(triangular, "bent", lambda rows, below, above: right(rows, above, below))
    caught = False
    for seed in range(4):
        rows, z, x = rows_and_values(seed, False, 0.3)
        caught |= excess(replace(rows, doubt=0.0 * rows.doubt) if errors else rows, z, x) > 0
    assert caught
