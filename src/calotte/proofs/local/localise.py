"""Localise: from a network and one input to the small network of the units that noise may switch there."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from calotte.proofs.chooser import Chooser
from calotte.proofs.event import Budget, margin_rows, relaxed_units
from calotte.proofs.local.network import LocalNetwork, consecutive
from calotte.proofs.support import Support
from calotte.proofs.union import log_sum_up
from calotte.query import Query
from calotte.rounding import VALUE_SLACK, gamma, raised

__all__ = ["Localised", "localise"]


@dataclass(frozen=True)
class Localised:
    """The network near one input; choices: ReLU node -> (1, units) what its good event pays for."""

    network: LocalNetwork
    choices: dict[int, Tensor]


def localise(
    query: Query, size: Tensor, height: float, t: float, chooser: Chooser, most: float = math.inf
) -> Localised | None:
    """The network near one input, on the event that the units' linear bounds hold up to a height.

    Args:
        query: of one input; size: (1,) eps or sigma.
        height: in units of the size; t: of the Gaussian's support; chooser: says what is paid for.
        most: unstable units that it may have.

    Returns:
        None where too many units are left, or the bounds overflow.
    """
    network, scale = query.network, size.item()
    around = Support.of(query, size, t)
    event = relaxed_units(query, around, Budget.within(around, height, chooser))
    relaxation, price = event.relaxation, event.log_price
    missed = log_sum_up(torch.stack([price, torch.full_like(price, around.log_missed)], 1)).item()
    unstable = {i: (low < 0) & (high > 0) for i, (low, high) in relaxation.intervals.items()}
    kept = {i: mask[0] for i, mask in unstable.items() if mask.any()}
    counts = [int(mask.sum()) for mask in kept.values()]
    total = sum(counts)
    if total > most:
        return None
    groups = consecutive(counts)
    place = dict(zip(kept, groups, strict=True))
    forms = []
    for i, mask in kept.items():
        feeder = network.feeders[i]
        rows = torch.zeros(int(mask.sum()), mask.numel(), dtype=torch.float64)
        rows[torch.arange(len(rows)), mask.flatten().nonzero()[:, 0]] = 1.0
        forms.append(relaxation.forms(feeder, rows.reshape(1, -1, *network.shape(feeder)), kept))
    last, rows, constants = margin_rows(query, event.errors)
    forms.append(relaxation.forms(last, rows, kept, constants))
    weight = torch.zeros(total + forms[-1].constant.shape[1], total, dtype=torch.float64)
    for form, position in zip(forms, [*groups, slice(total, len(weight))], strict=True):
        for i, coefficients in form.activations.items():
            weight[position, place[i]] = coefficients[0]
    normal = torch.cat([form.normal[0] for form in forms])
    constant, error, normal_error = (
        torch.cat([getattr(form, name)[0] for form in forms]) for name in ("constant", "error", "normal_error")
    )
    accuracy = max(form.accuracy for form in forms) + gamma(4)  # normals are scaled too
    length = raised(normal.norm(dim=1), normal.shape[1] + 4)
    radius = raised(around.farthest.item() / scale, 4)
    ends = [torch.zeros(0, dtype=torch.float64)] * 2
    if kept:
        ends = [torch.cat([relaxation.intervals[i][k][0][mask] for i, mask in kept.items()]) for k in (0, 1)]
    local = LocalNetwork(
        noise=query.noise.resized(1.0),
        m=query.m,
        scale=scale,
        groups=groups,
        normal=normal * scale,
        constant=constant,
        error=raised(error + (normal_error + accuracy * length) * scale * radius, 8) + VALUE_SLACK,
        weight=weight,
        low=ends[0],
        high=ends[1],
        radius=radius,
        log_missed=missed,
        directions=torch.zeros(normal.shape[1], 0, dtype=torch.float64),
        span=0.0,
        cases=query.margins.cases,
    )
    known = all(t.isfinite().all() for t in (local.magnitude, local.gram, local.length))
    return Localised(local, event.choices) if known else None
