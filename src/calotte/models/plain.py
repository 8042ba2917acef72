"""Plain: a copy of a PyTorch module in which computed weights (normalised, pruned) are stored as they come out."""

from __future__ import annotations

import copy

import torch
from torch import Tensor
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm, remove_spectral_norm
from torch.nn.utils.weight_norm import WeightNorm, remove_weight_norm

__all__ = ["plain_copy"]


def plain_copy(module: torch.nn.Module) -> torch.nn.Module:
    """A copy on the CPU whose weights are parameters, with the very numbers that the module computes with.

    Parametrizations (`weight_norm`, `spectral_norm`, `orthogonal`, one's own), the hooks that did the same before
    them and those of pruning are removed. The module itself is left alone.
    """
    computed = {
        id(value): value.detach().clone()
        for part in module.modules()
        for value in vars(part).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    found = copy.deepcopy(module, computed)
    for part in list(found.modules()):
        if parametrize.is_parametrized(part):
            freeze(part)
        for hook in list(part._forward_pre_hooks.values()):
            if isinstance(hook, WeightNorm):
                remove_weight_norm(part, hook.name)
            elif isinstance(hook, SpectralNorm):
                remove_spectral_norm(part, hook.name)
            elif isinstance(hook, prune.BasePruningMethod):
                prune.remove(part, hook._tensor_name)  # type: ignore[no-untyped-call]
    return found.to(device="cpu").requires_grad_(False)


def freeze(part: torch.nn.Module) -> None:
    """Store parametrized weights as they come out.

    `remove_parametrizations` would take them out of the class of the module, which a copy shares with the original.
    """
    names = list(part.parametrizations)  # type: ignore[arg-type]
    values = {name: getattr(part, name).detach().clone() for name in names}
    part.__class__ = type(part).__bases__[0]
    del part.parametrizations
    for name, value in values.items():
        part.register_parameter(name, torch.nn.Parameter(value, requires_grad=False))
