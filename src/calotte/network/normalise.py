"""Normalising: the network that takes raw inputs and sees (x - mean) / std of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from calotte.checks import array
from calotte.errors import InvalidInput
from calotte.network.affine import Diagonal, Shape
from calotte.network.graph import Network, Node

__all__ = ["normalised"]


def normalised(network: Network, mean: ArrayLike, std: ArrayLike) -> Network:
    """The network x -> network((x - mean) / std): inputs, noise and distances are in raw units then.

    Args:
        network: without a clipping, which comes after this.
        mean, std: a number, one for each channel (the first axis of an image, or else the last), or one for each
            entry of the input; finite, std positive.

    Raises:
        InvalidInput: other numbers of them, or numbers that make no sense.
    """
    if network.clipping is not None:
        raise InvalidInput("normalise the network before its input is clipped: the range is one of raw inputs")
    shape = network.input_shape
    centre, scale = (fitted(name, values, shape) for name, values in (("mean", mean), ("std", std)))
    if not bool((scale > 0).all()):
        raise InvalidInput("std must be positive")
    # the quotient is rounded in its map, and not folded into weights; offsets are exact
    first = (
        network.nodes[0],
        Node("centred", Diagonal(shape, None, -centre), (0,)),
        Node("normalised", Diagonal(shape, scale, None, divide=True), (1,)),
    )
    rest = (replace(node, inputs=tuple(i + 2 for i in node.inputs)) for node in network.nodes[1:])
    original = network.original
    if original is not None:
        original = replace(original, answers=NormalisedAnswers(original.answers, centre.flatten(), scale.flatten()))
    notice = "inputs, noise and distances are in raw units: the network takes (x - mean) / std"
    return replace(network, nodes=(*first, *rest), original=original, notices=(*network.notices, notice), raw=True)


def fitted(name: str, values: ArrayLike, shape: Shape) -> Tensor:
    """Numbers spread over the entries of an input."""
    found = array(name, values)
    if not np.isfinite(found).all():
        raise InvalidInput(f"{name} must be finite")
    size = int(np.prod(shape))
    numbers = torch.from_numpy(found.copy())
    if numbers.numel() == size:
        return numbers.reshape(shape)
    if numbers.numel() == 1:
        return numbers.reshape(()).expand(shape).clone()
    if len(shape) > 1 and numbers.numel() in (shape[0], shape[-1]):
        axis = 0 if numbers.numel() == shape[0] else len(shape) - 1
        return numbers.reshape([-1 if i == axis else 1 for i in range(len(shape))]).expand(shape).clone()
    raise InvalidInput(
        f"{name}: {numbers.numel()} numbers for inputs of shape {shape}: give one, one for each channel or {size}"
    )


@dataclass(frozen=True)
class NormalisedAnswers:
    """Answers of an original model behind the same normalisation."""

    answers: Callable[[Tensor], Tensor]
    mean: Tensor
    std: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return self.answers((x - self.mean) / self.std)
