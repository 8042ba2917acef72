"""The hash of what a network computes, and its one-line description."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from calotte.network.affine import Dense, Diagonal, Reshape, Sum
from calotte.network.convolution import Convolution
from calotte.network.decision import Decision
from calotte.network.fingerprint import fingerprint
from calotte.network.graph import Network, Node, Relu
from calotte.network.random import random_network
from calotte.network.rearrange import Select


def network(widths=(4, 6, 3), seed=0):
    return random_network(widths, torch.Generator().manual_seed(seed))


def test_it_is_the_same_in_another_process():
    script = (
        "import torch\nfrom calotte.network.random import random_network\n"
        "print(random_network((4, 6, 3), torch.Generator().manual_seed(0)).sha256)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert run.stdout.strip() == network().sha256, run.stderr


def test_what_was_computed_before_does_not_matter():
    one = network()
    _ = one.nodes[1].op.absolute, one.nodes[1].op.support
    assert fingerprint(one) == network().sha256
    assert fingerprint(replace(one, notices=("something",))) == one.sha256


def changed(op):
    one = network()
    nodes = list(one.nodes)
    nodes[1] = replace(nodes[1], op=op)
    return replace(one, nodes=tuple(nodes))


def test_every_number_counts():
    one = network()
    weight, bias = one.nodes[1].op.weight, one.nodes[1].op.offset
    nudged = weight.clone()
    nudged[2, 1] = torch.nextafter(nudged[2, 1], torch.tensor(9.0, dtype=torch.float64))
    others = [
        changed(Dense(nudged, bias)),
        changed(Dense(weight, bias + 1)),
        changed(Dense(weight, None)),
        replace(one, decision=Decision("argmin", 3)),
        network(seed=1),
    ]
    assert len({one.sha256, *(fingerprint(other) for other in others)}) == 6


def one_map(op):
    shape = op.output_shape if isinstance(op, Relu) else op.input_shapes[0]
    return fingerprint(Network((Node("input", None), Node("map", op, (0,))), shape, Decision("argmax", 4)))


def test_kinds_and_settings_count():
    t = torch.arange(1.0, 5.0, dtype=torch.float64)
    k = t.reshape(1, 1, 2, 2)
    options = {"stride": (1, 1), "dilation": (1, 1)}
    maps = [
        Diagonal((4,), t, None),
        Diagonal((4,), t, None, divide=True),
        Diagonal((4,), None, t),
        Dense(torch.diag(t)),
        Relu((4,)),
        Select((4,), torch.tensor([3, 1, 2, 0]).numpy()),
        Select((4,), torch.tensor([0, 1, 2, -1]).numpy()),
        Select((5,), torch.tensor([0, 1, 2, -1]).numpy()),
        Reshape((2, 2), (4,)),
        Convolution(k, None, (1, 3, 3), padding=((0, 0), (0, 0)), **options),
        Convolution(k, None, (1, 2, 2), padding=((1, 0), (0, 1)), **options),
        Convolution(k, None, (1, 2, 2), padding=((0, 1), (1, 0)), **options),
    ]
    assert len({one_map(op) for op in maps}) == len(maps)


def test_which_node_is_read_counts():
    def difference(order):
        nodes = (Node("input", None), Node("a", Relu((2,)), (0,)), Node("b", Sum((2,), (1, -1)), order))
        return fingerprint(Network(nodes, (2,), Decision("argmax", 2)))

    assert difference((0, 1)) != difference((1, 0))


@pytest.mark.parametrize("widths", [(4, 6, 3), (300, 200, 100, 10)])
def test_a_network_is_described_in_one_short_line(widths):
    one = network(widths)
    text = repr(one)
    assert len(text) < 160
    assert "\n" not in text
    assert text == (
        f"<Network: input ({widths[0]},), {len(widths) - 1} affine maps, {len(widths) - 2} ReLU layers, "
        f"N = {one.units}, argmax of {widths[-1]}, sha256 {one.sha256[:8]}>"
    )
    assert "sha256" not in repr(replace(one, sha256=None))
