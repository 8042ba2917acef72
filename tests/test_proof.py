"""Propose and prove: a Proof gives the bits that were reported, and whatever it says, a true bound or a refusal."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from test_soundness import BITTEN, Case, table
from zoo import network as layers
from zoo import points, random_dense, residual

import calotte
from calotte.assess import assess
from calotte.errors import InvalidInput
from calotte.network.affine import Dense, Reshape
from calotte.network.convolution import Convolution
from calotte.network.graph import Network, Relu
from calotte.noise import Ball, Gaussian, Sphere
from calotte.proofs.price import Offer
from calotte.proofs.prove import GoodHalfSpaces, OverCell, Proof, prove
from calotte.settings import Settings

QUIET = Settings(search=False)
WRITTEN = ("theorem", "cell", "relaxation", "concentration", "moments")


def convolutional() -> Network:
    generator = torch.Generator().manual_seed(2)

    def draw(*shape: int) -> torch.Tensor:
        return 0.4 * torch.randn(*shape, dtype=torch.float64, generator=generator)

    first = Convolution(draw(4, 1, 3, 3), draw(4), (1, 6, 6), stride=(1, 1), padding=[(1, 1)] * 2, dilation=(1, 1))
    second = Convolution(draw(3, 4, 3, 3), draw(3), (4, 6, 6), stride=(2, 2), padding=[(0, 0)] * 2, dilation=(1, 1))
    shape = second.output_shape
    flat, last = Reshape(shape, (math.prod(shape),)), Dense(draw(3, math.prod(shape)), None)
    return layers((1, 6, 6), first, Relu((4, 6, 6)), second, Relu(shape), flat, last)


NETWORKS = {
    "dense": random_dense((12, 14, 10, 3), 5),
    "no hidden layer": random_dense((9, 3), 6),
    "convolutional": convolutional(),
    "residual": residual(6, 3, 6),
}
LAWS = {
    "sphere": lambda net: Sphere(0.5),
    "ball": lambda net: Ball(0.7),
    "gaussian": lambda net: Gaussian(0.12),
    "scaled": lambda net: Sphere(0.5, torch.linspace(0.0, 2.0, net.d, dtype=torch.float64)),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("law", LAWS)
def test_a_proof_read_back_gives_the_bits_that_were_reported(name: str, law: str) -> None:
    net = NETWORKS[name]
    x, noise = points(1, net.d, 7)[0], LAWS[law](net)
    (one,) = assess(net, x, noise, rungs=list(WRITTEN), settings=QUIET)
    for bound in one.bounds:
        proof = calotte.propose(net, x, noise, bound.rung)
        again = calotte.Proof.from_json(proof.to_json())
        assert again == proof
        assert calotte.prove(net, x, noise, again) == bound.log_misclassification, bound.rung
    assert min(b.log_misclassification for b in one.bounds) < -0.1


def test_equality_is_that_of_the_decisions() -> None:
    choice = {1: torch.tensor([0, 5], dtype=torch.int8)}
    one = GoodHalfSpaces(6.0, 0.1, choice)
    assert one == GoodHalfSpaces(6.0, 0.1, dict(choice))
    assert hash(one) == hash(GoodHalfSpaces(6.0, 0.1, dict(choice)))
    for other in (
        GoodHalfSpaces(6.0, math.nextafter(0.1, 1.0), choice),
        GoodHalfSpaces(6.0, 0.1),
        GoodHalfSpaces(6.0, 0.1, {1: torch.tensor([0, 4], dtype=torch.int8)}),
        OverCell(exact=True),
    ):
        assert one != other


def anything(net: Network, generator: torch.Generator) -> Proof:
    """Decisions that make no sense."""

    def drawn(*values: float) -> float:
        return values[int(torch.randint(len(values), (1,), generator=generator))]

    sizes = {i: math.prod(net.shape(i)) for i in net.relus}
    choices = {i: torch.randint(0, 6, (n,), dtype=torch.int8, generator=generator) for i, n in sizes.items()}
    return GoodHalfSpaces(drawn(0.0, 2.0, 6.0, 40.0, 1e200), drawn(0.0, 1e-300, 0.2, 0.5, 2.0, 1e300), choices)


def test_hostile_proofs_prove_nothing_false() -> None:
    generator, said = torch.Generator().manual_seed(4), 0
    cases: list[Case] = [case for case in table() if not case.real][::6]
    for case in cases:
        found = prove(case.network, case.x, case.noise, anything(case.network, generator), arithmetic=case.arithmetic)
        assert case.log_truth - 1e-9 <= found <= 0.0, case.name
        said += found < -0.1
    assert said >= len(cases) / 10


def test_a_hostile_proof_shows_what_is_not_paid(monkeypatch: pytest.MonkeyPatch) -> None:
    """As above, with half-spaces for nothing."""
    monkeypatch.setattr(Offer, "log_halves", lambda self, choice: torch.full_like(self.log_half, -torch.inf))
    generator = torch.Generator().manual_seed(4)
    cases = [case for case in table() if case.name.startswith(BITTEN) and not case.real]
    found = [prove(c.network, c.x, c.noise, anything(c.network, generator), arithmetic=c.arithmetic) for c in cases]
    assert any(log_p < c.log_truth - 1e-9 for c, log_p in zip(cases, found, strict=True))


def changed(**changes: object) -> str:
    right = GoodHalfSpaces(6.0, 0.25, {2: torch.zeros(14, dtype=torch.int8), 4: torch.zeros(10, dtype=torch.int8)})
    return json.dumps({**json.loads(right.to_json()), **changes})


WRONG = {
    "no JSON": "theorem",
    "a list": "[]",
    "null": "null",
    "another kind": changed(proof="magic"),
    "NaN": changed(height="nan"),
    "negative": changed(tail="-0x1p+1"),
    "infinite tail": changed(tail="inf"),
    "too large": changed(height="0x1p+99999"),
    "a number": changed(height=0.25),
    "no height": json.dumps({"proof": "half-spaces", "tail": "0x1p+1"}),
    "choices that are none": changed(choices={"2": "0" * 13 + "6", "4": "0" * 10}),
    "choices in words": changed(choices={"2": "free", "4": "0" * 10}),
    "choices for no nodes": changed(choices="0" * 24),
    "a unit less": changed(choices={"2": "0" * 13, "4": "0" * 10}),
    "a layer less": changed(choices={"2": "0" * 14}),
    "another layer": changed(choices={"2": "0" * 14, "3": "0" * 10}),
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_what_is_no_proof_for_the_network_is_refused(text: str) -> None:
    net, x = NETWORKS["dense"], points(1, 12, 7)[0]
    prove(net, x, Sphere(0.5), Proof.from_json(changed()))
    with pytest.raises(InvalidInput, match="proof"):
        prove(net, x, Sphere(0.5), Proof.from_json(text))


def test_what_cannot_be_proved_is_refused() -> None:
    net = NETWORKS["dense"]
    with pytest.raises(InvalidInput, match="one input, came 2"):
        prove(net, points(2, 12, 7), Sphere(0.5), OverCell(exact=True))
    with pytest.raises(InvalidInput, match="one input, came 2"):
        calotte.propose(net, points(2, 12, 7), Sphere(0.5))
    with pytest.raises(InvalidInput, match="expected a Proof, came str"):
        prove(net, points(1, 12, 7), Sphere(0.5), "p = 0")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="network: expected"):
        prove("model.onnx", points(1, 12, 7), Sphere(0.5), OverCell(exact=True))  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="noise: expected"):
        calotte.propose(net, points(1, 12, 7), 0.5)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="choose from theorem"):
        calotte.propose(net, points(1, 12, 7), Sphere(0.5), "magic")
    line = random_dense((1, 3, 2), 1)
    for attempt in (
        lambda: prove(line, points(1, 1, 7), Sphere(0.5), OverCell(exact=False)),
        lambda: calotte.propose(line, points(1, 1, 7), Sphere(0.5), "theorem"),
    ):
        with pytest.raises(InvalidInput, match="d >= 2"):
            attempt()


def test_proving_imports_no_search() -> None:
    """What is trusted knows nothing of what proposes."""
    room = Path(calotte.__file__).parent / "proofs"
    assert not [path.name for path in room.glob("*.py") if "calotte.searches" in path.read_text()]
