"""Networks for tests, and what they are in exact arithmetic: written without calotte's own algorithms."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

import mpmath
import numpy as np
import torch
from torch import Tensor

from calotte.network.affine import Affine, Dense, Diagonal, Reshape, Sum
from calotte.network.convolution import Convolution
from calotte.network.decision import Decision
from calotte.network.graph import Network, Node, Relu
from calotte.network.rearrange import Select
from calotte.noise import Gaussian, Noise, Sphere

DIGITS = 60
Layer = tuple[Any, Any]  # weights and biases (or None), anything that torch.tensor takes


def tensor(values: Any) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64)


def network(shape: tuple[int, ...], *ops: Any, rule: Any = None) -> Network:
    """A network of operations: each reads the one before it, or the nodes named beside it."""
    nodes = [Node("input", None)]
    for op in ops:
        op, inputs = op if isinstance(op, tuple) else (op, (len(nodes) - 1,))
        nodes.append(Node(f"{type(op).__name__.lower()}{len(nodes)}", op, inputs))
    outputs = math.prod(nodes[-1].op.output_shape)
    return Network(tuple(nodes), shape, Decision(rule or ("sign" if outputs == 1 else "argmax"), outputs))


def dense(*layers: Layer, rule: Any = None, first: Sequence[Affine] = (), final_relu: bool = False) -> Network:
    """Dense layers with ReLUs between them, after the maps in `first`."""
    ops: list[Affine | Relu] = list(first)
    for k, (weight, bias) in enumerate(layers):
        weight = tensor(weight)
        ops.append(Dense(weight, None if bias is None else tensor(bias)))
        if k < len(layers) - 1 or final_relu:
            ops.append(Relu((len(weight),)))
    return network(ops[0].input_shapes[0], *ops, rule=rule)


def gaussian_layers(widths: Sequence[int], seed: int, bias: float = 1.0) -> list[Layer]:
    """Layers with weights of variance 2 / n_in and biases of standard deviation `bias`."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    return [(draw(n, k) * math.sqrt(2.0 / k), draw(n) * bias) for k, n in pairwise(widths)]


def random_dense(widths: Sequence[int], seed: int, bias: float = 1.0, **options: Any) -> Network:
    return dense(*gaussian_layers(widths, seed, bias), **options)


def residual(d: int, outputs: int, seed: int) -> Network:
    """d -> d -> d with a skip around each layer, the second from the input, then outputs: no chain."""
    (w1, b1), (w2, b2), (w3, b3) = gaussian_layers((d, d, d, outputs), seed)
    relu = Relu((d,))
    first = Dense(w1, b1), relu, (Sum((d,), (1, 1)), (2, 0))
    second = Dense(w2, b2), relu, (Sum((d,), (1, -1)), (5, 0))
    return network((d,), *first, *second, relu, Dense(w3, b3))


def convolutional(seed: int = 0, channels: int = 3, side: int = 6, pad: int = 1) -> Network:
    """A padded convolution with a normalisation before it, ReLU, and a dense layer."""
    g = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=g)

    shape = (2, side, side)
    conv = Convolution(
        draw(channels, 2, 3, 3) / 4,
        draw(channels) / 4,
        shape,
        stride=(2, 1),
        padding=((pad, 0), (pad, pad)),
        dilation=(1, 1),
    )
    units = math.prod(conv.output_shape)
    head = Dense(draw(3, units) / math.sqrt(units), draw(3))
    return network(
        shape,
        Diagonal(shape, tensor(0.3), tensor(-0.1), divide=True),
        conv,
        Relu(conv.output_shape),
        Reshape(conv.output_shape, (units,)),
        head,
    )


def pooled(seed: int = 0, relu_first: bool = True, stride: int = 2, deep: bool = False) -> Network:
    """A convolution, ReLU and 2 x 2 max pools, in this order or the other; then perhaps another convolution."""
    g = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=g)

    steps = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1)}
    conv = Convolution(draw(3, 1, 3, 3) / 2, draw(3) / 4 + 0.2, (1, 6, 6), **steps)
    nodes: list[Any] = [conv]

    def add(op: Any, *inputs: int) -> int:
        nodes.append((op, inputs))
        return len(nodes)

    last, shape = (add(Relu(conv.output_shape), 1) if relu_first else 1), conv.output_shape
    for axis in (1, 2):
        index = np.arange(math.prod(shape)).reshape(shape)
        ends = np.arange(0, shape[axis] - 1, stride)
        a, b = (add(Select(shape, index.take(ends + i, axis)), last) for i in (0, 1))
        shape = (*shape[:axis], len(ends), *shape[axis + 1 :])
        excess = add(Relu(shape), add(Sum(shape, (1, -1)), a, b))
        last = add(Sum(shape, (1, 1)), b, excess)
    if not relu_first:
        last = add(Relu(shape), last)
    if deep:
        second = Convolution(draw(2, 3, 2, 2) / 3, draw(2) / 3, shape, **steps)
        shape = second.output_shape
        last = add(Relu(shape), add(second, last))
    units = math.prod(shape)
    add(Dense(draw(3, units) / math.sqrt(units), draw(3) / 3), add(Reshape(shape, (units,)), last))
    return network((1, 6, 6), *nodes)


def points(n: int, d: int, seed: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def affine_forms(net: Network, x: Sequence[float], pattern: Tensor | None, number: Callable[[float], Any]) -> Any:
    """The affine functions of the N - comparisons hidden units and of the outputs, on the cell of a pattern.

    `number` makes the arithmetic: Fraction for exact results, float for quick ones.

    Args:
        pattern: which hidden units are active; None: those whose value at x is positive.

    Returns:
        values at x and normals of the hidden units in order, then of the outputs: two object arrays (n,), (n, d).
    """
    d = net.d
    values = np.array([number(v) for v in np.asarray(x).tolist()], dtype=object)
    kept: list[Any] = [(values, None)]  # None: the identity, made where it is needed
    found, left = [], None if pattern is None else pattern.tolist()

    def scaled(weight: Tensor, divide: bool, shape: tuple[int, ...]) -> Any:
        factors = [number(w) for w in weight.expand(shape).flatten().tolist()]
        return np.array([1 / w if divide else w for w in factors], dtype=object)

    for node in net.nodes[1:]:
        op, below = node.op, [kept[j] for j in node.inputs]
        if any(n is None for _, n in below) and not isinstance(op, Dense):
            unit = np.array([[number(float(i == j)) for j in range(d)] for i in range(d)], dtype=object)
            below = [(v, unit if n is None else n) for v, n in below]
        value, normal = below[0]
        if isinstance(op, Relu):
            found.append((value, normal))
            if left is None:
                active = [v > 0 for v in value]
            else:
                active, left = left[: len(value)], left[len(value) :]
            zero, one = number(0.0), number(1.0)
            mask = np.array([one if a else zero for a in active], dtype=object)
            value, normal = value * mask, normal * mask[:, None]
        elif isinstance(op, Dense):
            weight = np.array([[number(w) for w in row] for row in op.weight.tolist()], dtype=object)
            value, normal = weight.dot(value), weight if normal is None else weight.dot(normal)
        elif isinstance(op, Diagonal):
            if op.weight is not None:
                factor = scaled(op.weight, op.divide, op.output_shape)
                value, normal = value * factor, normal * factor[:, None]
        elif isinstance(op, Sum):
            value = sum(s * v for s, (v, _) in zip(op.signs, below, strict=True))
            normal = sum(s * n for s, (_, n) in zip(op.signs, below, strict=True))
        else:
            assert isinstance(op, Reshape)
        if isinstance(op, Affine) and op.offset is not None:
            value = value + scaled(op.offset, False, op.output_shape)
        kept.append((value, normal))
    found.append(kept[-1])
    return np.concatenate([v for v, _ in found]), np.concatenate([n for _, n in found])


def answer(net: Network, outputs: Sequence[Any]) -> int:
    """The decision, spelled out."""
    if net.decision.rule == "sign":
        return int(outputs[0] > 0)
    best = max(outputs) if net.decision.rule == "argmax" else min(outputs)
    return next(k for k, z in enumerate(outputs) if z == best)


def signed_planes(net: Network, x: Sequence[float], pattern: Tensor | None, predicted: int, number: Any) -> Any:
    """The N half-spaces value + normal.r >= 0 that hold the cell of a pattern and an answer, around x.

    Returns:
        values (N,) and normals (N, d), object arrays, those of inactive units turned round.
    """
    values, normals = affine_forms(net, x, pattern, number)
    k, n = net.decision.outputs, len(values) - net.decision.outputs
    active = [v > 0 for v in values[:n]] if pattern is None else pattern.tolist()
    signs = [1 if a else -1 for a in active]
    rows = [(s * v, s * a) for s, v, a in zip(signs, values[:n], normals[:n], strict=True)]
    z, a = values[n:], normals[n:]
    if net.decision.rule == "sign":
        side = 1 if predicted == 1 else -1
        rows.append((side * z[0], side * a[0]))
    else:
        side = 1 if net.decision.rule == "argmax" else -1
        rows += [(side * (z[predicted] - z[j]), side * (a[predicted] - a[j])) for j in range(k) if j != predicted]
    return np.array([v for v, _ in rows], dtype=object), np.array([r for _, r in rows], dtype=object)


def exact_planes(net: Network, x: Tensor, pattern: Tensor, predicted: int, noise_map: Tensor | None = None) -> Any:
    """As `signed_planes` in rational arithmetic, with the squared norms of the normals in place of these.

    With a noise map S the normals are S' n.
    """
    values, normals = signed_planes(net, x.tolist(), pattern, predicted, Fraction)
    if noise_map is not None:
        rows = noise_map if noise_map.ndim == 2 else torch.diag(noise_map)
        normals = normals.dot(np.array([[Fraction(s) for s in row] for row in rows.tolist()], dtype=object))
    return values, [sum(a * a for a in row) for row in normals]


def is_at_most(lower: float, value: Fraction, squared_norm: Fraction) -> bool:
    """Whether lower <= value / norm, decided without a rounding; for a zero norm inf says: always value >= 0."""
    if lower == -math.inf:
        return True
    if squared_norm == 0:
        return value >= 0
    if lower == math.inf or math.isnan(lower):
        return False
    square = Fraction(lower) ** 2 * squared_norm
    if lower >= 0:
        return value >= 0 and square <= value * value
    return value >= 0 or square >= value * value


def mp(value: float | Fraction) -> mpmath.mpf:
    exact = Fraction(value)
    return mpmath.mpf(exact.numerator) / exact.denominator


def log_normal_tail(s: mpmath.mpf) -> mpmath.mpf:
    """log P(g >= s), by the error function or, far out, by its asymptotic series."""
    if s < -200:
        return -mpmath.exp(-s * s / 2) / (-s * mpmath.sqrt(2 * mpmath.pi)) * (1 - 1 / s**2)
    if s < 0:
        return mpmath.log1p(-mpmath.erfc(-s / mpmath.sqrt(2)) / 2)
    if s > 10**6:
        series = 1 - 1 / s**2 + 3 / s**4 - 15 / s**6 + 105 / s**8
        return -s * s / 2 - mpmath.log(s * mpmath.sqrt(2 * mpmath.pi)) + mpmath.log(series)
    return mpmath.log(mpmath.erfc(s / mpmath.sqrt(2)) / 2)


def exact_log_tail(kind: type[Noise], s: Fraction, m: int) -> mpmath.mpf:
    """log P(u.e >= s) for u of size 1 in R^m. The first coordinate of a uniform point of the sphere has density
    (1 - x^2)^((m-3)/2) up to a factor, of the ball (1 - x^2)^((m-1)/2)."""
    with mpmath.workdps(DIGITS):
        if kind is Gaussian:
            return log_normal_tail(mp(s))
        if kind is Sphere and m == 1:
            return mpmath.mpf(0) if s <= -1 else mpmath.log(0.5) if s <= 1 else mpmath.mpf("-inf")
        if abs(s) >= 1:
            return mpmath.mpf(0) if s < 0 else mpmath.mpf("-inf")
        power = mpmath.mpf(m - 1 if kind is Sphere else m + 1) / 2
        x = mp(abs(s))
        tail = mpmath.betainc(power, 0.5, 0, (1 - x) * (1 + x), regularized=True) / 2
        return mpmath.log(tail) if s >= 0 else mpmath.log1p(-tail)
