"""Laws: the noises by their names, and by either of their sizes."""

from __future__ import annotations

import math
from typing import get_args

from torch import Tensor

from calotte.checks import whole
from calotte.errors import InvalidInput
from calotte.independent import Box, Truncated
from calotte.noise import Ball, Gaussian, Kind, Noise, Sphere

__all__ = ["CUT", "make_noise"]

CUT = 3.0
"""Standard deviations at which the noise `truncated` is cut off, where nothing else is said."""


def make_noise(
    kind: Kind,
    d: int,
    *,
    eps: float | None = None,
    sigma: float | None = None,
    map: Tensor | None = None,
    cut: float | None = None,
) -> Noise:
    """The noise of a name and either eps or sigma, for inputs in R^d.

    eps is the norm of u for sphere and ball, the half-width for the box; sigma the standard deviation per coordinate,
    of the normal law before it is cut off for `truncated`. They are tied by eps = sigma sqrt(m), m the dimension of
    u, and eps = sigma sqrt(3) for the box. cut: of `truncated`, CUT if not given.

    Raises:
        InvalidInput: unknown name, both sizes or none, a size that is not positive and finite, a map that does
            not fit, a cut for another noise.
    """
    if kind not in get_args(Kind):
        raise InvalidInput(f"noise '{kind}': expected one of {', '.join(get_args(Kind))}")
    if (eps is None) == (sigma is None):
        raise InvalidInput("give the size of the noise as either eps or sigma, and not both")
    if whole("d", d) < 1:
        raise InvalidInput(f"d must be positive, came {d}")
    if cut is not None and kind != "truncated":
        raise InvalidInput(f"cut is for noise 'truncated', came noise '{kind}'")
    m = Sphere(1.0, map).dimension(d)
    if eps is not None:  # either is refused by the name that it was given by
        Sphere(eps)
    if sigma is not None:
        Gaussian(sigma)
    if kind in ("gaussian", "truncated"):
        size = sigma if eps is None else eps / math.sqrt(m)
    else:
        size = eps if sigma is None else sigma * math.sqrt(3 if kind == "box" else m)
    assert size is not None
    if kind == "truncated":
        return Truncated(size, map, CUT if cut is None else cut)
    kinds: dict[Kind, type[Sphere] | type[Ball] | type[Gaussian] | type[Box]] = {
        "sphere": Sphere,
        "ball": Ball,
        "gaussian": Gaussian,
        "box": Box,
    }
    return kinds[kind](size, map)
