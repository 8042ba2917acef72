"""Plain L2 attacks that ours is measured against: PGD with bisection on its radius, DDN and FMN, in float32.

PGD: Madry et al., arXiv:1706.06083. DDN: Rony et al., arXiv:1811.09600. FMN: Pintor et al., arXiv:2102.12827.
Each starts at the input once, and `restarts` more times at a random point of a ball around it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

Attack = Callable[["Model", Tensor, Tensor, Tensor], Tensor]


class Model:
    """A float32 classifier (n, d) -> (n, K), and what attacks ask of it."""

    def __init__(self, forward: Callable[[Tensor], Tensor]) -> None:
        self.forward = forward

    def wrong(self, x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            return self.forward(x).argmax(1) != y

    def gradient(self, x: Tensor, y: Tensor, loss: str) -> tuple[Tensor, Tensor]:
        """Margins (n,) of y over the best rival, and the gradient (n, d) of the loss to be raised."""
        x = x.detach().requires_grad_()
        z = self.forward(x)
        own = z.gather(1, y[:, None])[:, 0]
        rival = z.scatter(1, y[:, None], -math.inf).amax(1)
        value = nn.functional.cross_entropy(z, y, reduction="sum") if loss == "entropy" else (rival - own).sum()
        (slope,) = torch.autograd.grad(value, x)
        return (own - rival).detach(), slope


def unit(g: Tensor) -> Tensor:
    return g / g.norm(dim=1, keepdim=True).clamp_min(1e-12)


def shrunk(delta: Tensor, radius: Tensor) -> Tensor:
    """Perturbations (n, d) projected on balls of the given radii (n,)."""
    return delta * (radius / delta.norm(dim=1).clamp_min(1e-12)).clamp_max(1.0)[:, None]


def pgd(model: Model, x: Tensor, y: Tensor, start: Tensor, loss: str = "margin") -> Tensor:
    """40 steps in a ball whose radius is bisected 12 times: the smallest successful perturbations; NaN if none."""
    best = torch.full_like(x, math.nan)
    low, high = torch.zeros(len(x)), torch.full((len(x),), math.inf)
    radius = torch.ones(len(x))
    for _ in range(12):
        delta = start * radius[:, None]
        done = torch.zeros(len(x), dtype=torch.bool)
        for _ in range(40):
            slope = model.gradient(x + delta, y, loss)[1]
            delta = shrunk(delta + 0.1 * radius[:, None] * unit(slope), radius)
            new = model.wrong(x + delta, y) & ~done
            best[new], done = delta[new], done | new
        high, low = torch.where(done, radius, high), torch.where(done, low, radius)
        radius = torch.where(high.isinf(), 2.0 * radius, (low + high) / 2)
    return best


def keep(best: Tensor, delta: Tensor, wrong: Tensor) -> Tensor:
    """The smaller one of the best perturbations and those that are wrong."""
    nearer = wrong & ~(delta.norm(dim=1) >= best.norm(dim=1))
    return torch.where(nearer[:, None], delta, best)


def ddn(model: Model, x: Tensor, y: Tensor, start: Tensor, steps: int = 100) -> Tensor:
    """Decoupled direction and norm."""
    best = torch.full_like(x, math.nan)
    delta, radius = start.clone(), torch.ones(len(x))
    for step in range(steps):
        rate = 0.01 + 0.99 * (1.0 + math.cos(math.pi * step / steps)) / 2
        margin, slope = model.gradient(x + delta, y, "entropy")
        best = keep(best, delta, margin < 0)
        radius = radius * torch.where(margin < 0, 0.95, 1.05)
        delta = radius[:, None] * unit(delta + rate * unit(slope))
    return keep(best, delta, model.wrong(x + delta, y))


def fmn(model: Model, x: Tensor, y: Tensor, start: Tensor, steps: int = 100) -> Tensor:
    """Fast minimum norm: the radius follows the distance to the boundary that the margin and its slope tell."""
    best = torch.full_like(x, math.nan)
    delta, radius, found = start.clone(), torch.full((len(x),), math.inf), torch.zeros(len(x), dtype=torch.bool)
    for step in range(steps):
        falling = (1.0 + math.cos(math.pi * step / steps)) / 2
        rate, gamma = 0.01 + 0.99 * falling, 0.001 + 0.049 * falling
        margin, slope = model.gradient(x + delta, y, "margin")
        wrong, size = margin < 0, delta.norm(dim=1)
        best, found = keep(best, delta, wrong), found | wrong
        away = size + margin.abs() / slope.norm(dim=1).clamp_min(1e-12)
        inside = torch.minimum(radius * (1 - gamma), best.norm(dim=1).nan_to_num(math.inf))
        radius = torch.where(wrong, inside, torch.where(found, radius * (1 + gamma), away))
        delta = shrunk(delta + rate * unit(slope), radius)
    return keep(best, delta, model.wrong(x + delta, y))


def restarted(attack: Attack, model: Model, x: Tensor, y: Tensor, restarts: int, seed: int) -> Tensor:
    """The smallest perturbations (n, d) of one run from the input and `restarts` from random points."""
    generator = torch.Generator().manual_seed(seed)
    best = attack(model, x, y, torch.zeros_like(x))
    for _ in range(restarts):
        start = unit(torch.randn(x.shape, generator=generator)) * torch.rand(len(x), 1, generator=generator)
        delta = attack(model, x, y, start)
        best = keep(best, delta, ~delta.norm(dim=1).isnan())
    return best


ATTACKS: dict[str, Attack] = {"PGD": pgd, "DDN": ddn, "FMN": fmn}
