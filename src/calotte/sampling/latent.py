"""Latent: the noise as a function of standard normals, and the margin of one input's answer there.

With g standard normal in R^M: g itself is Gaussian noise of sigma 1; g/||g|| is uniform on the sphere of R^M; the
first M - 2 coordinates of that are uniform in the ball of R^(M-2) (Archimedes' projection). One kernel for normals
therefore serves all three noises, and for all three a half-space reads v.y >= s in the same coordinates y.

The network sees k <= M of the coordinates: the m of u, or those in the span of the first layer's rows where it is a
chain of dense layers. Of the others only the norm matters: a state is z = (g_1, ..., g_k, ||(g_{k+1}, ..., g_M)||).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from calotte.deadline import OutOfTime
from calotte.independent import Independent
from calotte.noise import Gaussian
from calotte.query import Query
from calotte.sampling.draws import Noisy
from calotte.streams import Stream, generator

__all__ = ["Latent", "NotAvailable"]


class NotAvailable(Exception):
    """An estimator found that it has nothing to say; the message is the reason, in words for the user."""


class Latent:
    """One input of a query under noise u = size * y, y of shape (n, k + 1) on the noise's support.

    Attributes:
        row: of the input in its query; x: that input, (1, d).
        seen: k, the coordinates that the network sees; dimension: M.
        calls: network evaluations of one point so far.
    """

    def __init__(self, query: Query, i: int, *, reduced: bool = True) -> None:
        """With `reduced` false the coordinates are those of u also in a chain of dense layers."""
        self.network, self.noise = query.network, query.noise
        self._seed, self._index = query.settings.seed, query.index[i]
        self.row, self.x, self._margins = i, query.x[i : i + 1], query.event_margins[i : i + 1]
        self.dimension = query.m + (2 if self.noise.kind == "ball" else 0)
        self._noisy = Noisy(query, i, reduced=reduced)
        self.seen = self._noisy.seen
        self.calls, self._memory = 0, query.settings.memory_limit

    def generator(self, stream: Stream, chunk: int = 0) -> torch.Generator:
        """The generator of one chunk of a stream."""
        return generator(stream, self._seed, self._index, chunk)

    def normals(self, n: int, generator: torch.Generator) -> Tensor:
        """n independent states (n, k + 1).

        Raises:
            NotAvailable: a few times their size is more than the memory limit.
        """
        if 8 * 6 * n * (self.seen + 1) > self._memory:
            raise NotAvailable(f"{n} states of {self.seen + 1} numbers do not fit the memory limit")
        g = Gaussian(1.0).project(n, self.seen, self.seen, generator)
        return torch.cat([g, self._rest(torch.zeros(n, 1, dtype=torch.float64), 1.0, generator)], 1)

    def turned(self, z: Tensor, step: float, generator: torch.Generator) -> Tensor:
        """sqrt(1 - step^2) g + step g' for the g of states z (n, k + 1) and new g': reversible for normal states.

        Preconditioned Crank and Nicolson; seen on the sphere, a rotation by a random angle.
        """
        keep = math.sqrt((1.0 - step) * (1.0 + step))
        g = Gaussian(1.0).project(len(z), self.seen, self.seen, generator)
        return torch.cat([keep * z[:, :-1] + step * g, self._rest(keep * z[:, -1:], step, generator)], 1)

    def _rest(self, norm: Tensor, step: float, generator: torch.Generator) -> Tensor:
        """Norms (n, 1) of a + step g for vectors a in R^(M-k) of the given norms (n, 1)."""
        free = self.dimension - self.seen
        if free == 0:
            return torch.zeros_like(norm)
        along = norm + step * Gaussian(1.0).project(len(norm), 1, 1, generator)
        shape = torch.full_like(norm, 0.5 * (free - 1))
        across = 2.0 * torch._standard_gamma(shape, generator=generator) if free > 1 else torch.zeros_like(norm)
        return (along**2 + step**2 * across).sqrt()

    def on_support(self, z: Tensor) -> Tensor:
        """States (n, k + 1) as standard noise y: as they are, or scaled to the unit sphere."""
        if isinstance(self.noise, Independent):
            return torch.cat([self.noise.from_normals(z[:, :-1]), z[:, -1:]], 1)
        return z if self.noise.kind == "gaussian" else z / z.norm(dim=1, keepdim=True)

    def outputs(self, y: Tensor) -> Tensor:
        """Outputs (n, K) of the network under standard noise y (n, k + 1).

        Raises:
            NotAvailable: the time limit has passed.
        """
        self.calls += len(y)
        try:
            return self._noisy.outputs(self.noise.size * y[:, :-1])
        except OutOfTime as late:
            raise NotAvailable(str(late)) from None

    def margin(self, y: Tensor) -> Tensor:
        """The level (n,) of the event under standard noise y (n, k + 1), <= 0 exactly where it occurs, ties included.

        Raises:
            NotAvailable: an output is not finite, or the time limit has passed.
        """
        outputs = self._finite(y)
        level = self._margins.cases.least(self._margins.of(outputs))[0]
        occurs = self._margins.occurs(outputs)
        return torch.where(occurs, level.clamp_max(0.0), level.clamp_min(torch.finfo(level.dtype).tiny))

    def _finite(self, y: Tensor) -> Tensor:
        outputs = self.outputs(y)
        if not bool(outputs.isfinite().all()):
            raise NotAvailable("outputs of the network overflow under this noise")
        return outputs

    def slopes(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """The level (n,) under standard noise y (n, k + 1) and its gradients (n, k + 1) there.

        The last column is zero: the network does not see the rest.
        """
        variable = y.detach().clone().requires_grad_()
        least = self._margins.cases.least(self._margins.of(self._finite(variable)))[0]
        (gradient,) = torch.autograd.grad(least.sum(), variable)
        self.calls += len(y)
        return least.detach(), gradient
