"""Programs that execute a network in float32, written without calotte's own bounds: any order, fused or not."""

from __future__ import annotations

import itertools

import numpy as np
from exact import matrix
from numpy.typing import NDArray
from torch import Tensor

from calotte.network.graph import Network, Relu

__all__ = ["ORDERS", "PROGRAMS", "executed"]

Single = NDArray[np.float32]
ORDERS = ("forward", "backward", "tree", "largest", "shuffled")
PROGRAMS = list(itertools.product(ORDERS, (False, True), (False, True)))  # order, fused, without subnormal numbers
TINY = np.float32(2.0**-126)


def executed(network: Network, x: Tensor, order: str, fused: bool, flush: bool, seed: int = 0) -> NDArray[np.float64]:
    """Outputs (n, K) at points x (n, d), as a program computes them that adds up in the given order."""
    rng = np.random.default_rng(seed)

    def kept(v: Single) -> Single:
        return np.where(np.abs(v) < TINY, np.float32(0), v) if flush else v

    values = {0: kept(x.numpy().astype(np.float32).reshape(len(x), -1))}
    for i, node in enumerate(network.nodes[1:], start=1):
        if isinstance(node.op, Relu):
            values[i] = np.maximum(values[node.inputs[0]], np.float32(0))
            continue
        rows = np.concatenate([matrix(node.op, k).numpy() for k in range(len(node.inputs))], axis=1)
        weights = kept(rows.astype(np.float32))
        below = np.concatenate([values[j] for j in node.inputs], axis=1)
        offset = (
            np.zeros(len(rows)) if node.op.offset is None else node.op.offset.expand(node.op.output_shape).numpy()
        )
        bias = kept(offset.astype(np.float32).ravel())
        out = np.empty((len(x), len(rows)), np.float32)
        for r, row in enumerate(weights):
            used = np.flatnonzero(row)
            out[:, r] = added(below[:, used], row[used], bias[r], order, fused, kept, rng)
        values[i] = out
    return values[network.last].astype(np.float64)


def added(x: Single, w: Single, bias: np.float32, order, fused, kept, rng) -> Single:  # type: ignore[no-untyped-def]
    """x . w + bias for each row of x (n, k), in float32."""
    start = np.full(len(x), bias, np.float32)
    products = x * w
    if order == "tree" and not fused:
        terms = [start, *(kept(p) for p in products.T)]
        while len(terms) > 1:
            terms = [kept(a + b) for a, b in itertools.zip_longest(terms[::2], terms[1::2], fillvalue=np.float32(0))]
        return terms[0]
    places = np.arange(len(w))
    if order == "backward":
        places = places[::-1]
    elif order == "largest" and len(w):  # all positive terms first: the largest sums on the way
        places = np.argsort(-products.mean(0))
    elif order == "shuffled":
        places = rng.permutation(len(w))
    total = start
    for j in places:
        if fused:
            total = kept((x[:, j].astype(np.float64) * np.float64(w[j]) + total).astype(np.float32))
        else:
            total = kept(total + kept(products[:, j]))
    return total
