"""Arguments: what comes in through the front doors, refused in words where it makes no sense."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from calotte.checks import array, kind, whole
from calotte.errors import InvalidInput
from calotte.network.graph import Network
from calotte.noise import Noise
from calotte.settings import Settings

__all__ = ["check_answer", "check_index", "check_kinds", "check_labels"]


def check_answer(predicted: Tensor, index: int) -> None:
    """Refuse an input at which the network has no answer: `predicted` (1,) is -1.

    Raises:
        InvalidInput: outputs there overflow.
    """
    if predicted.item() < 0:
        raise InvalidInput(
            f"input {index}: the network's outputs there are not finite numbers (weights or inputs too large for "
            "float64): rescale them, or leave the input out with --index"
        )


def check_kinds(network: object, noise: object, settings: object) -> None:
    """Refuse arguments of the wrong kind in words, before they fail in the middle of something.

    Raises:
        InvalidInput: no Network, no Noise or no Settings.
    """
    if not isinstance(network, Network):
        raise InvalidInput(f"network: expected a calotte Network, came {kind(network)}")
    if not isinstance(noise, Noise):
        kinds = "calotte.Sphere(eps), Ball(eps), Gaussian(sigma), Box(half_width) or Truncated(sigma, cut=3.0)"
        raise InvalidInput(f"noise: expected {kinds}, came {kind(noise)}")
    if not isinstance(settings, Settings):
        raise InvalidInput(f"settings: expected calotte.Settings(...), came {kind(settings)}")


def check_index(index: Sequence[int] | None, rows: int) -> list[int]:
    """The number of each row: as given, or 0, 1, ...

    Raises:
        InvalidInput: another number of them than rows; what is no whole number, or negative.
    """
    if index is None:
        return list(range(rows))
    if isinstance(index, str) or not isinstance(index, Iterable):
        raise InvalidInput(f"index: expected a number for each input, came {kind(index)}")
    numbers = [whole("index", i.item() if isinstance(i, Tensor) else i) for i in index]
    if len(numbers) != rows:
        raise InvalidInput(f"index: {len(numbers)} numbers for {rows} inputs")
    if min(numbers) < 0:
        raise InvalidInput(f"index must not be negative, came {min(numbers)}")
    return numbers


def check_labels(labels: ArrayLike | None, rows: int, classes: int) -> list[int] | None:
    """Labels as a list of ints, one for each row.

    Raises:
        InvalidInput: another number of labels, labels that are no whole numbers or no classes of the network.
    """
    if labels is None:
        return None
    values = torch.from_numpy(array("labels", labels)).flatten()
    if len(values) != rows:
        raise InvalidInput(f"{len(values)} labels for {rows} inputs: one label a row is needed")
    if not bool((values == values.round()).all()):
        raise InvalidInput("labels must be whole numbers")
    outside = (values < 0) | (values >= classes)
    if outside.any():
        bad = int(outside.nonzero()[0])
        raise InvalidInput(
            f"label {values[bad].item():.0f} of input {bad} is no class: the network has 0 to {classes - 1}"
        )
    return [int(value) for value in values.tolist()]
