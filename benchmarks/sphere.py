"""Time of a million cap measures and of a million inverses, after a check of the answers against mpmath.

Run with `python benchmarks/sphere.py`.
"""

import math
import statistics
import time
from collections.abc import Callable

import mpmath
import numpy as np
import torch
from mpmath import mp, mpf

from calotte.sphere import cap_angle, cap_height, log_cap, log_cap_angle

THREADS = 1  # numpy's elementwise functions use one thread; torch is told to
DIMENSION = 784
EVALUATIONS = 10**6
SAMPLE = 60
REPEATS = 5
TOLERANCE = 1e-12


def log_cap_by_quadrature(s: float, d: int) -> mpf:
    """log T(s): the density of the angle, sin^(d-2), integrated from 0 to arccos |s|."""
    with mpmath.workdps(40):
        alpha = mp.acos(abs(mpf(s)))
        low = mp.asin(mp.sin(alpha) * mp.exp(-mpf(90) / (d - 2)))  # 1e-39 of the integrand's largest value
        integral = mp.quad(lambda t: (mp.sin(t) / mp.sin(alpha)) ** (d - 2), mp.linspace(low, alpha, 5))
        density = mp.gammaprod([mpf(d) / 2], [mpf(d - 1) / 2]) / mp.sqrt(mp.pi)
        measure = density * mp.sin(alpha) ** (d - 2) * integral
        return mp.log(measure) if s >= 0 else mp.log1p(-measure)


def check(s: np.ndarray) -> float:
    """Largest relative error of `log_cap` on a sample; every other function must agree with it."""
    values = log_cap(s, DIMENSION)
    error = max(
        float(abs(value / log_cap_by_quadrature(float(x), DIMENSION) - 1)) for x, value in zip(s, values, strict=True)
    )
    assert error < TOLERANCE, error
    assert np.allclose(log_cap_angle(np.arccos(s), DIMENSION), values, rtol=1e-10)
    assert np.allclose(cap_height(values, DIMENSION), s, atol=1e-12)
    assert np.allclose(np.cos(cap_angle(values, DIMENSION)), s, atol=1e-12)
    assert (cap_height(values, DIMENSION, rounding="up") >= s).all()
    return error


def seconds(function: Callable[[], object]) -> float:
    """Median over REPEATS runs, after one to warm up."""
    function()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    torch.set_num_threads(THREADS)
    generator = np.random.default_rng(0)
    mixed = generator.uniform(-0.9, 0.9, EVALUATIONS)
    error = check(np.concatenate([mixed[:SAMPLE], mixed[:SAMPLE] / math.sqrt(DIMENSION) * 5]))
    print(f"d = {DIMENSION}, {2 * SAMPLE} heights against mpmath: largest relative error of log T {error:.1e}")
    print(f"{EVALUATIONS:,} evaluations, {THREADS} thread, median of {REPEATS} runs:")
    bulk = mixed / math.sqrt(DIMENSION) * 5
    log_measures = log_cap(bulk, DIMENSION)
    angles = np.arccos(mixed)
    tensor = torch.from_numpy(mixed)
    for name, function in (
        ("log_cap, s in [-0.9, 0.9]", lambda: log_cap(mixed, DIMENSION)),
        ("log_cap, |s| < 4.5 / sqrt(d)", lambda: log_cap(bulk, DIMENSION)),
        ("log_cap, torch tensor, rounded up", lambda: log_cap(tensor, DIMENSION, rounding="up")),
        ("log_cap_angle", lambda: log_cap_angle(angles, DIMENSION)),
        ("cap_height", lambda: cap_height(log_measures, DIMENSION)),
        ("cap_height, rounded up", lambda: cap_height(log_measures, DIMENSION, rounding="up")),
        ("cap_angle", lambda: cap_angle(log_measures, DIMENSION)),
    ):
        print(f"  {name:36s} {seconds(function):6.3f} s")
    scalar = seconds(lambda: [log_cap(0.1, DIMENSION) for _ in range(1000)])
    print(f"  {'log_cap, one float at a time':36s} {scalar * 1000:6.1f} us each")


if __name__ == "__main__":
    main()
