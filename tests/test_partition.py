"""Proofs of `branching`: boxes that fill the space, read back bit for bit; whatever is changed, true or refused."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_soundness import Case, table
from torch import Tensor
from zoo import points, random_dense, residual

import calotte
from calotte.errors import InvalidInput
from calotte.network.graph import Network
from calotte.noise import Ball, Gaussian, Sphere
from calotte.proofs.local.boxes import Boxes
from calotte.proofs.local.tilted import BoxTilt
from calotte.proofs.local.violations import Slack
from calotte.proofs.partition import Bounded, Partition
from calotte.proofs.prove import Proof, one_input, prove
from calotte.searches.bisection import Bisection
from calotte.searches.branching import Branching
from calotte.searches.cover import Covering
from calotte.searches.worst_case import WorstCase
from calotte.settings import Settings

FEW = Settings(search=False, boxes=25)
NETWORKS = {
    "dense": random_dense((12, 14, 10, 3), 5),
    "all directions": random_dense((3, 6, 5, 3), 1),
    "residual": residual(6, 3, 6),
}
LAWS = {"sphere": Sphere(0.5), "ball": Ball(0.7), "gaussian": Gaussian(0.12)}


QUICK = Branching(
    covering=Covering(slabs=6, small=5),
    goals=(math.log(1e-3),),
    decades=0,
    below=WorstCase(),
    bisection=Bisection(most=0),
)


@functools.cache
def proposed(name: str, law: str) -> tuple[Network, Tensor, Proof]:
    net = NETWORKS[name]
    x = points(1, net.d, 7)[0]
    proof = Branching(bisection=Bisection(most=0)).propose(one_input(net, x, LAWS[law], FEW, "change"))
    assert proof is not None
    return net, x, proof


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("kind", LAWS)
def test_a_proof_read_back_gives_what_was_reported(name: str, kind: str) -> None:
    (net, x, proof), law = proposed(name, kind), LAWS[kind]
    query = one_input(net, x, law, FEW, "change")
    (reported,) = Branching(bisection=Bisection(most=0)).log_bound(query, query.sizes).tolist()
    again = Proof.from_json(proof.to_json())
    assert again == proof
    found = prove(net, x, law, again)
    assert found == prove(net, x, law, proof)
    if net.d > Bisection().most:  # no cuboids there: the rung says so through the front doors
        assert calotte.propose(net, x, law, "branching", settings=FEW) == proof
    # boxes are bounded together with others than in the search: final digits may differ
    assert found == pytest.approx(reported, rel=1e-9)


def test_slabs_have_networks_of_their_own() -> None:
    net, x, law = random_dense((40, 30, 20, 4), 2), points(1, 40, 7)[0], Sphere(1.6)
    query = one_input(net, x, law, Settings(boxes=80), "change")
    (reported,) = QUICK.log_bound(query, query.sizes).tolist()
    proof = QUICK.propose(query)
    assert isinstance(proof, Partition)
    assert proof.slabs
    assert len(proof.given_up)
    assert not proof.parts
    found = prove(net, x, law, Proof.from_json(proof.to_json()))
    assert found == prove(net, x, law, proof) == pytest.approx(reported, rel=1e-9)
    for gap in (replace(proof, slabs=proof.slabs[1:]), replace(proof, given_up=Boxes.none(1))):
        with pytest.raises(InvalidInput, match="gap"):
            prove(net, x, law, gap)


def boxes(*ends: tuple[float, float, float, float]) -> Boxes:
    return Boxes(*(torch.tensor([[e[i], e[i + 2]] for e in ends], dtype=torch.float64) for i in (0, 1)))


INF = math.inf
TILES = ((-INF, 0.0, -INF, INF), (0.0, INF, -INF, 1.0), (0.0, 2.0, 1.0, INF), (2.0, INF, 1.0, INF))


def test_boxes_fill_a_region_or_not() -> None:
    everything = Boxes.whole(2)
    assert boxes(*TILES).fill(everything)
    assert boxes(*reversed(TILES)).fill(everything)
    for i in range(len(TILES)):
        assert not boxes(*TILES[:i], *TILES[i + 1 :]).fill(everything)
    assert not boxes(*TILES[:3], (2.0, INF, 1.0000001, INF)).fill(everything)
    assert not boxes(*TILES[:3], (2.0, 1e300, 1.0, INF)).fill(everything)
    assert not boxes(*TILES[:3], (math.nan, INF, 1.0, INF)).fill(everything)
    assert boxes(*TILES[1:]).fill(boxes((0.0, INF, -INF, INF)))
    assert not Boxes.none(2).fill(everything)
    assert not Boxes.none(0).fill(Boxes.whole(0))
    assert Boxes.whole(0).fill(Boxes.whole(0))


def test_boxes_drawn_at_random_fill_what_points_say() -> None:
    generator = torch.Generator().manual_seed(1)
    agreed = 0
    for _ in range(200):
        some = torch.randint(-2, 3, (8, 2, 2), generator=generator).double().sort(2).values
        some = torch.where(some.abs() == 2, some * INF, some)
        here = Boxes(some[:, :, 0], some[:, :, 1])
        grid = torch.cartesian_prod(*[torch.tensor([-1.5, -0.5, 0.5, 1.5]).double()] * 2)
        held = ((here.low <= grid[:, None]) & (grid[:, None] <= here.high)).all(2).any(1).all()
        filled = here.fill(Boxes.whole(2))
        assert held or not filled
        agreed += filled
    assert agreed > 5


def scrambled(proof: Partition, generator: torch.Generator) -> Partition:
    """The same boxes with decisions that make no sense."""

    def drawn(like: Tensor, *values: float) -> Tensor:
        return torch.tensor(values, dtype=like.dtype)[torch.randint(len(values), like.shape, generator=generator)]

    def part(old: Bounded) -> Bounded:
        tilts = {
            k: BoxTilt(
                drawn(t.alpha, 0.0, 0.3, 0.5, 1.0, 7.0, -1.0, math.nan),
                drawn(t.which, 0, 1, 99, -5),
                drawn(t.rate, 1e-3, 0.5, 3.0, 0.0, -1.0, 1e300, math.nan),
            )
            for k, t in old.decisions.tilts.items()
        }
        choices = {k: drawn(c, *range(6)) for k, c in old.decisions.choices.items()}
        shapes = {m: drawn(t, 1.0, 2.0, 0.0, -1.0) for m, t in old.decisions.known_shapes.items()}
        slack = old.decisions.softened
        assert slack is not None
        slack = Slack(drawn(slack.margins, 0.0, 0.1, 1.0, -1.0, INF, math.nan), drawn(slack.soft, False, True))
        decisions = replace(old.decisions, choices=choices, tilts=tilts, known_shapes=shapes, softened=slack)
        return Bounded(old.boxes, drawn(old.reach, 0.0, 0.3, 1.0, INF), decisions)

    choices = {k: drawn(c, *range(6)) for k, c in proof.choices.items()}
    slabs = tuple(replace(slab, height=0.3) for slab in proof.slabs)
    return replace(proof, choices=choices, parts=tuple(map(part, proof.parts)), slabs=slabs)


@pytest.fixture(scope="module")
def written() -> list[tuple[Case, Partition]]:
    cases = [case for case in table() if not case.real and case.name.startswith(("plane", "switch d=2"))][::8]
    proofs = [QUICK.propose(one_input(c.network, c.x, c.noise, FEW, "change")) for c in cases]
    return [(case, proof) for case, proof in zip(cases, proofs, strict=True) if isinstance(proof, Partition)]


def test_whatever_is_decided_nothing_false_is_proved(written: list[tuple[Case, Partition]]) -> None:
    generator, said, refused = torch.Generator().manual_seed(4), 0, 0
    for case, proof in written:
        for _ in range(8):
            try:
                found = prove(case.network, case.x, case.noise, scrambled(proof, generator))
            except InvalidInput:  # other units are left, for which nothing is decided
                refused += 1
                continue
            assert case.log_truth - 1e-9 <= found <= 0.0, case.name
            said += found < -0.01
    assert len(written) > 5
    assert said > 3, f"{refused} refused"


def test_what_a_gap_would_prove(written: list[tuple[Case, Partition]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Boxes left out are refused, and must be: where they are not looked for, something false is proved."""
    fewer = [(case, replace(proof, parts=(), slabs=(), given_up=Boxes.none(proof.directions.shape[1])))
             for case, proof in written]  # fmt: skip
    for case, proof in fewer:
        with pytest.raises(InvalidInput, match="gap"):
            prove(case.network, case.x, case.noise, proof)
    monkeypatch.setattr(Boxes, "fill", lambda self, region: True)
    assert any(prove(c.network, c.x, c.noise, proof) < c.log_truth - 1e-9 for c, proof in fewer)


def changed(change: Callable[[dict[str, Any]], None]) -> str:
    _, _, proof = proposed("dense", "gaussian")
    written = json.loads(proof.to_json())
    change(written)
    return json.dumps(written)


def set_entry(*path: str | int, value: object) -> Callable[[dict[str, Any]], None]:
    def change(written: Any) -> None:
        for key in path[:-1]:
            written = written[key]
        written[path[-1]] = value

    return change


def number(x: float) -> str:
    return torch.tensor([x], dtype=torch.float64).numpy().astype(">f8").tobytes().hex()


WRONG = {
    "no directions": set_entry("directions", "shape", value=[0, 0]),
    "directions that are none": lambda w: w["directions"].update(
        float64=w["directions"]["float64"].replace("3f", "40")
    ),
    "NaN in a height": set_entry("height", value="nan"),
    "a height below 0": lambda w: w["parts"][0]["reach"].update(
        float64=number(-1.0) + w["parts"][0]["reach"]["float64"][16:]
    ),
    "heights of a unit less": lambda w: w["parts"][0]["reach"]["shape"].reverse(),
    "a part less": lambda w: w["parts"].pop(),
    "no choices": set_entry("choices", value={}),
    "decisions less": lambda w: w["parts"][0]["decisions"]["choices"].clear(),
    "slopes less": lambda w: w["parts"][0]["decisions"]["tilts"].clear(),
    "no slack": set_entry("parts", 0, "decisions", "slack", value=None),
    "slack of a margin less": lambda w: w["parts"][0]["decisions"]["slack"]["margins"]["shape"].reverse(),
    "no exponents": lambda w: w["parts"][0]["decisions"]["shapes"].clear(),
    "negative shape": set_entry("parts", 0, "reach", "shape", value=[-1, 2, 3]),
    "hexadecimal that is none": set_entry("directions", "float64", value="zz"),
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_refused(change: Callable[[dict[str, Any]], None]) -> None:
    net, x, _ = proposed("dense", "gaussian")
    prove(net, x, LAWS["gaussian"], Proof.from_json(changed(lambda written: None)))
    with pytest.raises(InvalidInput, match="proof"):
        prove(net, x, LAWS["gaussian"], Proof.from_json(changed(change)))


def test_another_network_or_noise_is_refused() -> None:
    net, x, proof = proposed("dense", "gaussian")
    with pytest.raises(InvalidInput, match="another network"):
        prove(random_dense((12, 14, 11, 3), 5), x, LAWS["gaussian"], proof)
    with pytest.raises(InvalidInput, match="directions"):
        prove(net, x, calotte.Box(0.3), proof)
