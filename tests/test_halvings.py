"""Cuboids as a Proof: the cuts give the bits that were reported; whatever is changed, true or refused."""

from __future__ import annotations

import base64
import functools
import json
import math
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from zoo import dense, points, random_dense

import calotte
from calotte.errors import InvalidInput
from calotte.noise import Noise
from calotte.proofs import halvings
from calotte.proofs.cuboids.tiling import Tiling
from calotte.proofs.halvings import Halvings
from calotte.proofs.prove import Proof, one_input, prove
from calotte.searches.bisection import Bisection
from calotte.settings import Settings

FEW = Settings(search=False, boxes=25)
LAWS: dict[str, Noise] = {
    "box": calotte.Box(0.9),
    "truncated": calotte.Truncated(0.5, cut=2.0),
    "gaussian": calotte.Gaussian(0.4),
    "scaled": calotte.Box(1.0, torch.tensor([0.3, 0.0, 1.0], dtype=torch.float64)),
}
NET = random_dense((3, 8, 5, 3), 1)
X = points(1, 3, 7)


@functools.cache
def proposed(law: str) -> Halvings:
    proof = calotte.propose(NET, X, LAWS[law], "branching", settings=FEW)
    assert isinstance(proof, Halvings)
    return proof


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("arithmetic", ["real", "float32"])
def test_a_proof_read_back_gives_the_bits_that_were_reported(law: str, arithmetic: str) -> None:
    (one,) = calotte.assess(NET, X, LAWS[law], rungs="branching", settings=FEW, arithmetic=arithmetic)
    proof = calotte.propose(NET, X, LAWS[law], "branching", settings=FEW, arithmetic=arithmetic)
    assert isinstance(proof, Halvings)
    again = Proof.from_json(proof.to_json())
    assert again == proof
    assert prove(NET, X, LAWS[law], again, arithmetic=arithmetic) == one.bounds[0].log_misclassification


def test_where_another_rung_is_better_its_proof_is_given() -> None:
    """Two coordinates, of which nothing is cut: `concentration` has said what there is."""
    net, x, law = dense(([[1.0, 0.0]], [0.9])), torch.zeros(1, 2).double(), calotte.Box(1.0)
    settings = Settings(search=False, boxes=1)
    (one,) = calotte.assess(net, x, law, rungs="branching", settings=settings)
    proof = calotte.propose(net, x, law, "branching", settings=settings)
    assert proof is not None
    assert prove(net, x, law, Proof.from_json(proof.to_json())) == one.bounds[0].log_misclassification


def test_a_cuboid_takes_less_than_a_byte() -> None:
    query = one_input(NET, X, LAWS["truncated"], Settings(search=False, boxes=250), "change")
    proof = Bisection(close=0.0).propose(query)
    assert len(proof.axes) > 9000
    assert len(proof.to_json()) < len(proof.axes)


@functools.cache
def truth(law: str) -> float:
    """log p less 4 standard errors."""
    draws = 200_000
    y = X + LAWS[law].sample(draws, 3, torch.Generator().manual_seed(5))
    share = (NET.predict(y) != NET.predict(X)).double().mean().item()
    return math.log(share - 4 * math.sqrt(share * (1 - share) / draws))


def drawn(like: Tensor, generator: torch.Generator, most: int) -> Tensor:
    return torch.randint(0, most, like.shape, generator=generator).to(like.dtype)


@pytest.mark.parametrize("law", LAWS)
def test_whatever_is_cut_whenever_nothing_false_is_proved(law: str) -> None:
    generator, proof, said = torch.Generator().manual_seed(3), proposed(law), 0
    m = int(one_input(NET, X, LAWS[law], FEW, "change").m)
    for k in range(12):
        if k % 3 == 0:  # other axes
            other = replace(proof, axes=torch.where(proof.axes > 0, 1 + drawn(proof.axes, generator, m), 0))
        elif k % 3 == 1:  # another order: other cuboids have these numbers
            other = replace(proof, waits=drawn(proof.waits, generator, 4))
        else:  # another tree, parts of which are never made
            mixed = proof.axes[torch.randperm(len(proof.axes), generator=generator)]
            mixed[0] = 1
            cut = int((mixed > 0).sum())
            waits = torch.zeros(cut, dtype=torch.int64).to(torch.uint16)
            other = Halvings(proof.span, k, mixed[: 1 + 2 * cut], waits) if len(mixed) == 1 + 2 * cut else proof
        found = prove(NET, X, LAWS[law], other)
        assert truth(law) <= found <= 0.0
        said += found < -0.01
    assert said >= 3


def test_a_gaussian_pays_for_what_is_beyond_any_span() -> None:
    for span in (0.0, 0.3, 1.0, 1e-320, 1e300):
        found = prove(NET, X, LAWS["gaussian"], replace(proposed("gaussian"), span=span))
        assert truth("gaussian") <= found <= 0.0


def test_what_a_lost_half_would_prove(monkeypatch: pytest.MonkeyPatch) -> None:
    """As above, with every other cuboid of a cut lost."""
    original = Tiling._decide
    monkeypatch.setattr(Tiling, "_decide", lambda self, *given: original(self, *(part[::2] for part in given)))
    assert prove(NET, X, LAWS["box"], proposed("box")) < truth("box")


def changed(change: Callable[[dict[str, Any]], None]) -> str:
    written = json.loads(proposed("box").to_json())
    change(written)
    return json.dumps(written)


def bytes_of(numbers: list[int], dtype: str = ">u1") -> str:
    return base64.b64encode(zlib.compress(np.array(numbers, dtype).tobytes())).decode()


def put(*path: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(written: Any) -> None:
        for key in path[:-1]:
            written = written[key]
        written[path[-1]] = value

    return change


def tree(axes: list[int], waits: list[int]) -> Callable[[dict[str, Any]], None]:
    def change(written: dict[str, Any]) -> None:
        written["axes"] = {"length": len(axes), "zlib": bytes_of(axes)}
        written["waits"] = {"length": len(waits), "zlib": bytes_of(waits, ">u2")}

    return change


WRONG = {
    "NaN": put("span", value="nan"),
    "a span below 0": put("span", value="-0x1p+1"),
    "an infinite span": put("span", value="inf"),
    "a span that is no text": put("span", value=3.0),
    "kept in part": put("kept", value=1.5),
    "kept that is none": put("kept", value=True),
    "kept below 0": put("kept", value=-1),
    "no axes": lambda written: written.pop("axes"),
    "axes in words": put("axes", value="x"),
    "no base64": put("axes", "zlib", value="???"),
    "base64 of noise": put("axes", "zlib", value=base64.b64encode(b"noise").decode()),
    "cut off": lambda written: written["axes"].update(zlib=written["axes"]["zlib"][:-8]),
    "another length": lambda written: written["axes"].update(length=written["axes"]["length"] + 1),
    "no length": put("axes", "length", value=None),
    "a length below 0": put("axes", "length", value=-1),
    "a length beyond all memory": put("axes", "length", value=10**15),
    "far more bytes than are said": put("axes", value={"length": 3, "zlib": bytes_of([0] * 10**7)}),
    "nothing": tree([], []),
    "a half less": tree([1, 0], [0]),
    "a half more": tree([1, 0, 0, 0], [0]),
    "a wait less": tree([1, 0, 1, 0, 0], [0]),
    "axes that there are not": tree([4, 0, 0], [0]),
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_what_is_no_proof_is_refused(change: Callable[[dict[str, Any]], None]) -> None:
    with pytest.raises(InvalidInput, match="proof"):
        prove(NET, X, LAWS["box"], Proof.from_json(changed(change)))


def test_cuts_of_nothing_and_deep_ones() -> None:
    """One cuboid; and a tree as deep as it has cuts, down to cuboids without inner points."""
    assert prove(NET, X, LAWS["box"], Proof.from_json(changed(tree([0], [])))) == 0.0
    deep = [1, *[0, 1] * 300, 0, 0]
    found = prove(NET, X, LAWS["box"], Proof.from_json(changed(tree(deep, [0] * 301))))
    assert truth("box") <= found <= 0.0
    with pytest.raises(InvalidInput, match="proof"):
        Proof.from_json("[" * 100_000)


def test_noise_whose_coordinates_are_not_independent_is_refused() -> None:
    with pytest.raises(InvalidInput, match="independent coordinates"):
        prove(NET, X, calotte.Sphere(0.5), proposed("box"))


def test_a_small_proof_cannot_ask_for_days_of_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """A comb, cut once at a time: some hundred bytes for millions of rounds."""
    monkeypatch.setattr(halvings, "_MOST_ROUNDS", 20)
    axes = torch.zeros(101, dtype=torch.uint8)
    axes[0], axes[1:99:2] = 1, 1
    net, x = random_dense((2, 4, 2), 0), torch.zeros(2, dtype=torch.float64)
    with pytest.raises(InvalidInput, match="more than 20 rounds"):
        calotte.prove(net, x, calotte.Box(1.0), Halvings(10.0, 0, axes, torch.zeros(50, dtype=torch.uint16)))
