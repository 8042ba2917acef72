"""Shallow Heaviside networks: distances are right and rounded down, answers are functions of the bits."""

from fractions import Fraction

import pytest
import torch

from calotte.errors import InvalidInput, InvalidModel
from calotte.shallow import LinearOutput, ShallowHeaviside


def network(n=6, d=4, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    weights, biases = (torch.randn(s, generator=generator, dtype=torch.float64) for s in ((n, d), (n,)))
    return ShallowHeaviside(weights, biases, **options)


def test_distances_enclose_the_exact_ones_from_below():
    net = network()
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    nearest, lower = net.distances(x)
    for b in range(len(x)):
        for i in range(net.units):
            w = [Fraction(v) for v in net.weights[i].tolist()]
            value = sum(a * Fraction(v) for a, v in zip(w, x[b].tolist(), strict=True))
            value += Fraction(net.biases[i].item())
            squared = value**2 / sum(a * a for a in w)
            low = Fraction(lower[b, i].item())
            assert low > 0
            assert low**2 <= squared <= (low * (1 + Fraction(1, 10**11))) ** 2
            assert nearest[b, i].item() == pytest.approx(float(squared) ** 0.5, rel=1e-12)
    assert torch.equal(net.distance(x), lower.amin(1))


def test_an_input_on_a_hyperplane_has_distance_zero():
    net = ShallowHeaviside(torch.tensor([[0.1, 0.2], [1.0, 0.0]]), torch.tensor([-0.3, 5.0]))
    on = torch.tensor([[1.0, 1.0], [-5.0, 3.0]], dtype=torch.float64)
    assert net.distance(on)[1] == 0.0
    assert net.distance(on)[0] < 1e-7


def test_answers_are_functions_of_the_bits():
    x = torch.randn(100, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    majority = network()
    assert torch.equal(majority.predict(x), (majority.bits(x).sum(1) > 3).long())
    parity = network(output=lambda bits: bits.sum(1) % 2)
    assert torch.equal(parity.predict(x), parity.bits(x).sum(1) % 2)
    coefficients = torch.tensor([1.0, -1.0, 2.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    linear = network(output=LinearOutput(coefficients, -0.5))
    assert torch.equal(linear.predict(x), (linear.bits(x).double() @ coefficients > 0.5).long())
    assert linear.predict(x[0]).shape == (1,)


def test_within_the_distance_nothing_changes():
    net = network()
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(50, 4, dtype=torch.float64, generator=generator)
    r = torch.randn(50, 4, dtype=torch.float64, generator=generator)
    moved = x + r / r.norm(dim=1, keepdim=True) * net.distance(x)[:, None] * (1 - 1e-9)
    assert torch.equal(net.bits(x), net.bits(moved))


@pytest.mark.parametrize(
    ("weights", "biases", "message"),
    [
        (torch.ones(3), torch.ones(3), r"expected \(n, d\)"),
        (torch.ones(3, 2), torch.ones(2), r"expected \(n, d\)"),
        (torch.full((1, 2), torch.nan), torch.ones(1), "NaN"),
        (torch.zeros(1, 2), torch.ones(1), "zero weights"),
    ],
)
def test_bad_weights(weights, biases, message):
    with pytest.raises(InvalidModel, match=message):
        ShallowHeaviside(weights, biases)


@pytest.mark.parametrize("x", [torch.ones(3), torch.ones(0, 4), torch.full((1, 4), torch.inf)])
def test_bad_inputs(x):
    with pytest.raises(InvalidInput):
        network().distances(x)
