"""What is taken on trust about special functions, measured against many digits."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import torch
from mpmath import mp, mpf

from calotte.assumptions import (
    BETA_QUANTILE_ERROR,
    ELEMENTARY_ERROR,
    ERFC_ERROR,
    LARGEST_DIMENSION,
    LOG_BETA_ERROR,
    LOG_GAMMA_ERROR,
    NORMAL_QUANTILE_ERROR,
)
from calotte.noise import Ball, Gaussian, Sphere
from calotte.proofs.moments.tails import gaussian_comparison
from calotte.sampling.monte_carlo import clopper_pearson
from calotte.sampling.sequential import log_martingale

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _digits():
    with mpmath.workdps(50):
        yield


def arguments(low: float, high: float, n: int = 500) -> list[float]:
    """Signed numbers of all sizes, and numbers near 1."""
    sizes = 10 ** RNG.uniform(-17, math.log10(high), n) * RNG.choice([-1, 1], n)
    return [float(x) for x in [*sizes, *(1 + sizes[np.abs(sizes) < 1])] if low < x < high]


@pytest.mark.parametrize(
    ("name", "low", "high"), [("exp", -700, 700), ("expm1", -700, 700), ("log", 0, 1e300), ("log1p", -1, 1e300)]
)
def test_elementary_functions(name: str, low: float, high: float) -> None:
    xs = arguments(low, high)
    together = getattr(torch, name)(torch.tensor(xs, dtype=torch.float64)).tolist()
    for x, found in zip(xs, together, strict=True):
        exact = getattr(mp, name)(mpf(x))
        for value in (found, getattr(math, name)(x)):
            assert abs(value - exact) <= ELEMENTARY_ERROR * abs(exact), x


def test_the_complementary_error_function() -> None:
    xs = arguments(-1e300, 22.0) + RNG.uniform(-7, 22, 2000).tolist()
    for x, found in zip(xs, torch.erfc(torch.tensor(xs, dtype=torch.float64)).tolist(), strict=True):
        exact = mp.erfc(mpf(x))
        assert abs(found - exact) <= ERFC_ERROR * exact / 3, x


def log_normal_tail(s: float) -> mpf:
    """log P(g >= s)."""
    t = mpf(s) / mp.sqrt(2)
    return mp.log1p(-mp.erfc(-t) / 2) if s < 0 else mp.log(mp.erfc(t) / 2)


def test_normal_quantiles() -> None:
    logs = torch.from_numpy(-(10 ** np.concatenate([RNG.uniform(-17, 2, 300), RNG.uniform(2, 200, 100)])))
    noise = Gaussian(1.0)
    nearest, high, low = (noise.standard_quantile(logs, 1, rounding=way) for way in ("nearest", "up", "down"))
    for log_p, s, above, below in zip(*(t.tolist() for t in (logs, nearest, high, low)), strict=True):
        slack = NORMAL_QUANTILE_ERROR * (1 + abs(s))
        assert log_normal_tail(s + slack / 3) <= log_p <= log_normal_tail(s - slack / 3)
        assert log_normal_tail(above) <= log_p <= log_normal_tail(below)


def test_log_gammas_of_half_dimensions() -> None:
    """In the one place that takes differences of them, with a tenth of the error that is allowed."""
    for _ in range(400):
        m, n = int(10 ** RNG.uniform(1, math.log10(LARGEST_DIMENSION))), int(RNG.integers(1, 400))
        rho = RNG.uniform(0.3, 1.0)
        for noise, d in ((Sphere(1.0), m), (Ball(1.0), m + 2)):
            at = torch.tensor([rho], dtype=torch.float64)
            sigma, log_kappa = gaussian_comparison(noise, n, torch.tensor([m]), at, at)
            if d - n < 3:
                assert math.isinf(log_kappa)
                continue
            a, w = mpf(d - n - 2) / 2, (mpf(rho) / mpf(sigma.item())) ** 2
            inside = min(2 * a / w, 1)
            log_c = mp.loggamma(mpf(d) / 2) - mp.loggamma(mpf(d - n) / 2) - mpf(n) / 2 * mp.log(w / 2)
            exact = max(log_c + a * mp.log(inside) + w * (1 - inside) / 2, 0)
            slack = LOG_GAMMA_ERROR * (1 + d * (1 + math.log(d)))
            assert exact <= log_kappa.item()
            assert abs(log_kappa.item() - slack - exact) <= slack / 10


def test_clopper_and_pearson() -> None:
    """With a slack that grows with n: at n = 4e8 the quantile is 4e-9 too low."""
    for _ in range(300):
        n = int(10 ** (RNG.uniform(0, 9) if RNG.random() < 0.5 else RNG.uniform(7, 9)))
        k = min(n - 1, int(10 ** RNG.uniform(-0.5, 2)))
        confidence = float(RNG.choice([1e-6, 0.5, 0.9, 0.999, 1 - 1e-9, 1 - 1e-12]))
        log_p = clopper_pearson(k, n, confidence)

        slack = BETA_QUANTILE_ERROR * max(1.0, n / 1e7)

        def at_most_k(log_p: float, k: int = k, n: int = n) -> mpf:
            p = min(mp.exp(mpf(log_p)), mpf(1))
            if p == 1:
                return mpf(0)
            term = total = (1 - p) ** n
            for i in range(1, k + 1):
                term *= mpf(n - i + 1) / i * p / (1 - p)
                total += term
            return total

        assert at_most_k(log_p) <= 1 - mpf(confidence) <= at_most_k(log_p - 2 * slack)


def test_log_betas_of_the_martingale() -> None:
    for _ in range(200):
        n = int(10 ** RNG.uniform(0, 10))
        k = min(n, int(10 ** RNG.uniform(-0.5, 10)))
        delta, p = float(10 ** RNG.uniform(-15, -0.01)), float(10 ** RNG.uniform(-16, -0.001))
        found, error = log_martingale(k, n, p, delta)
        b, half = mpf(0.5 * (1.0 - delta) / delta), mpf(1) / 2

        def log_beta(x: mpf, y: mpf) -> mpf:
            return mp.loggamma(x) + mp.loggamma(y) - mp.loggamma(x + y)

        exact = log_beta(half + k, b + n - k) - log_beta(half, b) - k * mp.log(mpf(p)) - (n - k) * mp.log1p(-mpf(p))
        assert abs(found - exact) <= error / 10
        assert error >= LOG_BETA_ERROR
