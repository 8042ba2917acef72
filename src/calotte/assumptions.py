"""Assumptions: what is taken on trust about floating point and special functions, and what holds it.

Everything else that a proved number rests on is derived. These constants were measured, against many digits, with
room to spare; none is a proof about a library. `tests/test_assumptions.py` and the tests named below measure again.

**Arithmetic.** +, -, *, / and square roots of float64 are rounded to nearest (IEEE 754), and a sum of products, by
whatever order, blocks or fused operations PyTorch and BLAS take, obeys the inner-product bound of `calotte.rounding`:
no product of matrices or convolution goes by Strassen's, Winograd's or Fourier transforms (`tests/network/
test_affine.py`, in rational arithmetic, `tests/test_soundness.py`).
"""

__all__ = [
    "BETA_QUANTILE_ERROR",
    "CAP_ERROR",
    "ELEMENTARY_ERROR",
    "ERFC_ERROR",
    "LARGEST_DIMENSION",
    "LOG_BETA_ERROR",
    "LOG_GAMMA_ERROR",
    "NORMAL_ERROR",
    "NORMAL_QUANTILE_ERROR",
    "UNDERFLOW",
]

ELEMENTARY_ERROR = 2.0**-52
"""Relative error of exp, expm1, log and log1p of PyTorch and Python: one unit in the last place. The largest seen is
0.7 of it, over 4,000 arguments each."""

ERFC_ERROR = 1e-14
"""Relative error of PyTorch's `erfc` up to 22, where it is 1e-212; 1.6e-16 was seen, over 9,000 arguments."""

CAP_ERROR = 2e-12
"""Relative error of `sphere`'s logarithm of the measure of a cap: ten times the largest measured against quadrature
of 50 digits on 23,000 heights, 1.9e-13 for measures 1 - 1e-250; 2e-14 is the largest for measures up to 1/2
(`tests/test_sphere.py`)."""

LARGEST_DIMENSION = 10**9
"""The largest d for which that was measured, and that is accepted."""

NORMAL_ERROR = 1e-12
"""Relative error of scipy's `log_ndtr`: three times what `tests/test_noise.py` allows, from -1e153 to 40 standard
deviations."""

NORMAL_QUANTILE_ERROR = 1e-10
"""Error of scipy's `ndtri_exp`, relative to 1 + |s|, for logarithms of probabilities from -1e200 to -1e-17."""

UNDERFLOW = 1e-300
"""Added to the errors of logarithms above, for measures so close to 1 that their logarithm underflows."""

LOG_GAMMA_ERROR = 1e-12
"""Error of a difference of two of PyTorch's `lgamma` at half a dimension n, relative to 1 + n (1 + log n); 3 % of it
were seen up to n = 1e9."""

LOG_BETA_ERROR = 1e-14
"""Error of scipy's `betaln(a, b)`, relative to the three logarithms of gammas that it is made of; 4 % of it were seen
up to a + b = 1e15."""

BETA_QUANTILE_ERROR = 1e-9
"""Relative error of scipy's `betaincinv(k + 1, n - k, .)`, so of Clopper and Pearson's bound, for up to 1e7 samples
n; for more of them n / 1e7 times that. Up to n = 1e9 a fifth of it was seen, at few errors k."""
