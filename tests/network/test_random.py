"""Random networks: shapes, laws of the weights, reproducibility."""

import pytest
import torch

from calotte.errors import InvalidModel
from calotte.network.random import random_network


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_widths_and_units():
    network = random_network((5, 7, 6, 3), generator())
    assert (network.d, network.hidden_units, network.units) == (5, 13, 15)
    assert network.decision.rule == "argmax"
    single = random_network([4, 9, 1], generator())
    assert (single.decision.rule, single.units) == ("sign", 10)


def test_the_generator_decides():
    first, same, other = (random_network((4, 5, 2), generator(s)) for s in (1, 1, 2))
    assert torch.equal(first.nodes[1].op.weight, same.nodes[1].op.weight)
    assert not torch.equal(first.nodes[1].op.weight, other.nodes[1].op.weight)


def test_laws_of_the_weights():
    he = random_network((400, 500, 2), generator())
    weight, bias = he.nodes[1].op.weight, he.nodes[1].op.offset
    n = weight.numel()
    assert abs(weight.var().item() * 200 - 1) < 4 * (2 / n) ** 0.5
    assert abs(bias.var().item() * 400 - 1) < 4 * (2 / 500) ** 0.5
    uniform = random_network((400, 500, 2), generator(), init="kaiming_uniform").nodes[1].op.weight
    assert uniform.abs().max() <= 1 / 20
    assert abs(uniform.var().item() * 1200 - 1) < 4 * (0.8 / n) ** 0.5


@pytest.mark.parametrize(
    ("widths", "init", "message"),
    [((3,), "he", "at least two"), ((3, 0, 2), "he", "positive"), ((3, 2), "xavier", "expected one of he")],
)
def test_bad_arguments(widths, init, message):
    with pytest.raises(InvalidModel, match=message):
        random_network(widths, generator(), init=init)
