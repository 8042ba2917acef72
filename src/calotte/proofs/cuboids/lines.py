"""Lines: linear bounds on the margins of an event over many cuboids of the noise, pulled back through the network.

With t in [-1, 1]^m the place within a cuboid, margin >= a.t + c and -margin >= a'.t + c'. Ranges of the units come
from zonotopes; on [l, u], l < 0 < u, a ReLU lies between alpha z and s z + t (`proofs.relaxation`). What is rounded
on the way is an error in a coefficient, and times a bound on the value that it multiplies it moves the constant down.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from calotte.network.affine import Affine
from calotte.network.enclosure import magnitude_pass
from calotte.network.graph import Network
from calotte.network.margins import Margins
from calotte.proofs.cuboids.zonotopes import Swept
from calotte.proofs.relaxation.backward import relaxed_lines
from calotte.rounding import VALUE_SLACK, dot_error, raised

__all__ = ["Lines", "margin_lines"]


@dataclass(frozen=True)
class Lines:
    """Functions normal . t + constant of the place t within L cuboids, below C margins and their negatives.

    Attributes:
        normal: (L, 2, C, m), exact; constant: (L, 2, C); NaN where nothing is known.
        shares: (L, C, m) what the coordinates of the noise contribute to the distance between both sides, roughly.
    """

    normal: Tensor
    constant: Tensor
    shares: Tensor


def margin_lines(network: Network, margins: Margins, swept: Swept) -> Lines:
    """Linear bounds on margins, from both sides, over the cuboids that a network was swept over."""
    rows, constants = margins.rows[0], margins.constants[0]
    count, sides, m = len(swept.start.centre), 2 * len(rows), len(swept.start.generators)
    shape = (count, sides, *network.shape(network.last))
    here = {network.last: torch.cat([rows, -rows]).reshape(1, *shape[1:]).expand(shape)}
    constant = torch.cat([constants, -constants]).expand(count, sides)
    error = torch.full_like(constant, VALUE_SLACK)
    shares = torch.zeros(count, sides, m, dtype=torch.float64)
    for i in range(network.last, 0, -1):
        if i not in here:
            continue
        rows, node, before = here.pop(i), network.nodes[i], constant
        flat = rows.flatten(2)
        met = [swept.magnitude[j] for j in node.inputs]
        if isinstance(node.op, Affine):
            if node.op.offset is not None:
                constant = constant + flat @ node.op.offset.expand(node.op.output_shape).flatten()
            parts = [p.reshape(count, sides, *p.shape[1:]) for p in node.op.adjoint(rows.flatten(0, 1))]
            shaped = (t.reshape(count, *network.shape(j)) for t, j in zip(met, node.inputs, strict=True))
            doubt = doubts(node.op, *shaped)
        else:
            bent = swept.bent[i]
            below, above, intercept = relaxed_lines(bent.low, bent.high)
            negative = flat.clamp_max(0.0)
            constant = constant + weighed(negative, intercept)
            parts = [(flat.clamp_min(0.0) * below[:, None] + negative * above[:, None]).reshape(rows.shape)]
            doubt = dot_error(intercept + met[0], flat.shape[2] + 8)
            shares = shares + (flat.abs() * intercept[:, None]) @ directions(bent.directions)
        lost = VALUE_SLACK * (1.0 + torch.cat(met, 1).sum(1))
        error = error + weighed(flat.abs(), doubt) + dot_error(before.abs() + constant.abs(), 4) + lost[:, None]
        error = raised(error, flat.shape[2] + 16)
        for j, part in zip(node.inputs, parts, strict=True):
            if j in here:
                part = here[j] + part
                error = raised(error + dot_error(weighed(part.flatten(2).abs(), swept.magnitude[j]), 4), 8)
            here[j] = part
    return at_places(here.get(0), constant, error, swept, shares)


def at_places(rows: Tensor | None, constant: Tensor, error: Tensor, swept: Swept, shares: Tensor) -> Lines:
    """From rows (L, 2 C, *shape) of the inputs to functions of the place; shares: (L, 2 C, m)."""
    count, sides = constant.shape
    centre, generators = swept.start.centre.flatten(1), swept.start.generators.flatten(2)
    flat = torch.zeros(count, sides, centre.shape[1], dtype=torch.float64) if rows is None else rows.flatten(2)
    before, constant = constant, constant + weighed(flat, centre)
    normal = flat @ generators.permute(1, 2, 0)
    met = dot_error(centre.abs() + swept.start.spread.flatten(1), centre.shape[1] + len(generators) + 8)
    lost = VALUE_SLACK * (1.0 + swept.magnitude[0].sum(1, keepdim=True))
    error = error + weighed(flat.abs(), swept.start.error.flatten(1) + met) + lost
    error = raised(error + dot_error(before.abs() + constant.abs(), 4), centre.shape[1] + 16)
    constant = constant - raised(error, 4)
    below, above = shares.reshape(count, 2, sides // 2, -1).unbind(1)
    return Lines(
        normal.reshape(count, 2, sides // 2, -1),
        torch.nextafter(constant, torch.full_like(constant, -torch.inf)).reshape(count, 2, -1),
        below + above,
    )


def doubts(op: Affine, *met: Tensor) -> Tensor:
    """(L, n) what rounding may add to rows times the values of an affine map, for each entry of the rows.

    Args:
        met: (L, *shape) bounds on the values of its arguments.
    """
    doubt = dot_error(magnitude_pass(op, VALUE_SLACK, *met).flatten(1), op.adjoint_terms + op.terms + 4)
    if op.offset is not None:
        offset = op.offset.abs().expand(op.output_shape).flatten()
        doubt = doubt + dot_error(offset, len(offset) + 8)
    return doubt


def weighed(rows: Tensor, values: Tensor) -> Tensor:
    """Products (L, R) of rows (L, R, n) with values (L, n)."""
    return (rows @ values[:, :, None])[:, :, 0]


def directions(each: Tensor) -> Tensor:
    """(L, n, m) the shares of coordinates in what moves each unit, of (m, L, n)."""
    size = each.abs().permute(1, 2, 0)
    return size / size.sum(2, keepdim=True).clamp_min(1e-300)
