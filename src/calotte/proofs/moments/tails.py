"""Exponential moments: tails of sums of ReLUs of exactly Gaussian units, without relaxing them.

Units of a first layer, z_j = a_j.u + c_j, are jointly Gaussian. With relu(z) = alpha z + e(z), e(z) = (1 - alpha) z
for z > 0 and -alpha z otherwise, a form F = a.u + c + sum_j g_j e_j(z_j) has, for every lambda > 0,

    log E exp(-lambda F)
        <= -lambda c + lambda^2 sigma^2 ||a||^2 / 2 + sum_j log E exp(-p_j lambda g_j e_j(z_j')) / p_j

for all p with diag(p_j ||a_j||^2) >= (a_i.a_j) as matrices, z_j' being z_j with its mean moved by
-lambda sigma^2 a.a_j (the linear part is a change of measure; the rest is the Gaussian Hölder inequality of Chen,
Dafnis and Paouris, "Improved Hölder and reverse Hölder inequalities for Gaussian random vectors", arXiv:1306.2410).
Independent units have p = 1; a relaxation by chords, which lets all units be at their worst, can be far above.

A sphere is no Gaussian, but what depends on few of its coordinates nearly is: the ratio of densities is bounded.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import special
from torch import Tensor

from calotte.assumptions import ERFC_ERROR, LOG_GAMMA_ERROR, NORMAL_ERROR
from calotte.noise import Bounded, Gaussian, Noise
from calotte.proofs.moments.definite import positive
from calotte.rounding import VALUE_SLACK, dot_error, raised

__all__ = [
    "at_most",
    "correlations",
    "dominating_diagonals",
    "gaussian_comparison",
    "levels",
    "log_moment",
    "log_shortfalls",
    "moment_and_share",
]

_AT_ONCE = 2**16  # numbers looked at together
_FARTHEST = 25.0  # deviations up to which exp and erfc stay far from the ends of the floats
_EACH = dot_error(8.0, 64) + 8.0 * ERFC_ERROR  # error of a logarithm there, relative to 1 + the squared distance


def correlations(gram: Tensor) -> Tensor:
    """(n, n) a Gram matrix scaled to ones on its diagonal."""
    root = gram.diagonal().clamp_min(1e-300).sqrt()
    return gram / (root[:, None] * root)


def dominating_diagonals(gram: Tensor, shapes: Tensor, doubt: float) -> Tensor:
    """Diagonals P (K, n) with diag(P_k) >= gram as matrices, for certain.

    Args:
        gram: (n, n) symmetric; doubt: bound on the error of gram in the spectral norm.
        shapes: (K, n) positive: P_kj / gram_jj is sought in the direction of `shapes[k]`.

    Returns:
        inf where none could be verified.
    """
    n, correlation = len(gram), correlations(gram)
    diagonal = gram.diagonal().clamp_min(1e-300)
    found = torch.full_like(shapes, torch.inf)
    slack = doubt + dot_error(8.0, n + 4) * n * (diagonal.sum().item() + 1.0)
    usable = (shapes > 0).all(1) & shapes.isfinite().all(1) & correlation.isfinite().all() & (n > 0)
    for k in usable.nonzero()[:, 0].tolist():
        d = shapes[k]
        try:
            eigenvalues = torch.linalg.eigvalsh(correlation / (d.sqrt()[:, None] * d.sqrt()))
        except RuntimeError:  # no convergence (LinAlgError)
            continue
        total = eigenvalues[-1] * d * diagonal * (1.0 + 1e-7) + 4.0 * slack
        if total.isfinite().all() and positive(torch.diag(total) - gram, slack):
            found[k] = total
    return found


def gaussian_comparison(
    noise: Noise, n: int, left: Tensor, smallest: Tensor, largest: Tensor
) -> tuple[Tensor, Tensor]:
    """A Gaussian that dominates n coordinates of the noise: its sigma and log kappa, P <= kappa P_gauss.

    n coordinates of a point on the sphere of radius rho in R^M have the density
    C rho^-n (1 - |x|^2 / rho^2)^((M-n-2)/2) (Diaconis and Freedman, 1987), whose ratio to a normal density is largest
    at 1 - |x|^2 / rho^2 = (M-n-2) sigma^2 / rho^2. As a supremum of convex functions of rho^2 it is convex there.

    Args:
        noise: the law; left: (L,) the dimensions it is in; smallest, largest: (L,) bounds on the radius, in units of
            the noise's size.

    Returns:
        sigma (L,) in those units and log kappa (L,), rounded up; inf where n is too large.
    """
    one = torch.ones(len(left), dtype=torch.float64)
    if isinstance(noise, Gaussian):
        return one, torch.zeros_like(one)
    assert isinstance(noise, Bounded), "of another law nothing is known"
    dimension = noise.sphere_dimension(left).to(torch.float64)
    sigma = largest / dimension.sqrt()
    free = dimension - n - 2
    known = (free >= 1) & (smallest > 0)
    a = free.clamp_min(1.0) / 2
    ratios = []
    for rho in (smallest, largest):
        w = (rho / sigma) ** 2
        log_c = torch.lgamma(dimension / 2) - torch.lgamma(dimension / 2 - n / 2) - n / 2 * (w / 2).log()
        inside = (2 * a / w).clamp_max(1.0)
        ratios.append(log_c + a * inside.log() + w * (1.0 - inside) / 2)
    log_kappa = torch.maximum(*ratios)
    slack = LOG_GAMMA_ERROR * (1.0 + dimension * (1.0 + dimension.log()))
    return sigma, torch.where(known, log_kappa.clamp_min(0.0) + slack, torch.inf)


def log_moment(theta: Tensor, alpha: Tensor, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
    """log E exp(theta e(mean + deviation g)), g standard normal, and its absolute derivative by the mean, rounded up.

    Convex in the mean for theta > 0, concave for theta < 0 (Prékopa). All arguments broadcast.
    """
    value, share, error = moment_and_share(theta, alpha, mean, deviation)
    return value + error, theta.abs() * ((share - alpha).abs() + 8.0 * error)


def moment_and_share(theta: Tensor, alpha: Tensor, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log E exp(theta e(z)), z = mean + deviation g, the share of z > 0 in it, and a bound on the error of either.

    In parts that stay in a cache: a third less time.
    """
    shape = np.broadcast_shapes(theta.shape, alpha.shape, mean.shape, deviation.shape)
    given = [t.expand(shape) for t in (theta, alpha, mean, deviation)]
    if given[0].numel() <= _AT_ONCE:
        return _moments(*given)
    rows = max(1, _AT_ONCE * len(given[0]) // given[0].numel())
    parts = [_moments(*some) for some in zip(*(torch.split(t, rows) for t in given), strict=True)]
    value, share, error = (torch.cat(each) for each in zip(*parts, strict=True))
    return value, share, error


def _moments(theta: Tensor, alpha: Tensor, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same of arguments of one shape."""
    place, moved = mean / deviation, theta * deviation
    above, below = place + moved * (1.0 - alpha), place - moved * alpha
    # E exp(t e(z)), z > 0, is exp(((place + t)^2 - place^2) / 2) P(g > -place - t), and alike for z < 0
    up = (0.5 * above * above).exp() * torch.erfc(-math.sqrt(0.5) * above)
    total = up + (0.5 * below * below).exp() * torch.erfc(math.sqrt(0.5) * below)
    share, value = up / total, (0.5 * total).log() - 0.5 * place * place
    size = place.abs() + moved.abs()
    error = size * size * _EACH + _EACH
    far = ~(size <= _FARTHEST)
    if far.any():
        given = [t[far] for t in (theta, alpha, mean, deviation)]
        for found, right in zip((value, share, error), _far_moment(*given), strict=True):
            found[far] = right
    return value, share, error


def _far_moment(theta: Tensor, alpha: Tensor, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same however small the parts are."""
    logs, sizes = [], []
    for slope, side in ((theta * (1.0 - alpha), 1.0), (-theta * alpha, -1.0)):
        shift = slope * deviation
        argument = side * (mean / deviation + shift)
        log_part = torch.from_numpy(np.asarray(special.log_ndtr(argument.numpy())))
        logs.append(slope * mean + 0.5 * shift * shift + log_part)
        sizes.append(slope.abs() * mean.abs() + shift * shift + log_part.abs() + argument * argument + 1.0)
    value = torch.logaddexp(*logs)
    weights = [(log - value).exp() for log in logs]
    pairs = zip(weights, sizes, strict=True)
    error = torch.stack([w * torch.expm1(dot_error(s, 64) + NORMAL_ERROR * s) for w, s in pairs]).sum(0)
    return value, weights[0], raised(error, 8) + dot_error(1.0 + value.abs(), 32)


def at_most(level: Tensor, moment: Tensor, rate: Tensor) -> Tensor:
    """Upper bounds on log P(F <= level) for forms of which log E exp(-rate F) is at most `moment`."""
    total = moment + rate * level
    total = total + dot_error(1.0 + moment.abs() + (rate * level).abs(), 4)
    return torch.where(total.isnan(), torch.inf, total).clamp_max(0.0)


def levels(moment: Tensor, rate: Tensor, log_each: Tensor) -> Tensor:
    """Lower bounds on such forms that fail with probability at most exp(log_each)."""
    level = (log_each - moment) / rate
    level = level - dot_error((log_each.abs() + moment.abs()) / rate, 8) - VALUE_SLACK
    known = (moment < torch.inf) & ~level.isnan()  # what makes no sense, a rate below 0 too, shows nothing
    return torch.where(known, level, -torch.inf)


def log_shortfalls(ends: Tensor, moment: Tensor, rate: Tensor) -> Tensor:
    """Upper bounds on log E (end - F)+ of such forms: x+ <= exp(rate x - 1) / rate."""
    moved = rate * ends
    total = moved + moment - 1.0 - rate.log()
    total = total + dot_error(1.0 + moved.abs() + moment.abs() + rate.log().abs(), 8)
    return torch.where(total.isnan() | (moment == torch.inf), torch.inf, total)
