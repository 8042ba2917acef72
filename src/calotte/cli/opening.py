"""What most commands begin with: the network, the inputs chosen, the noise, and what is to be said about them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calotte.cli.options import DecisionName, LayoutName
from calotte.errors import InvalidInput
from calotte.inputs import Inputs, check_file, parse_index, read_array, read_event, read_half_widths, read_inputs
from calotte.laws import CUT, make_noise
from calotte.models.onnx import load
from calotte.network.clip import clipped
from calotte.network.dependence import depends
from calotte.network.event import OutputEvent, event_of
from calotte.network.graph import Network
from calotte.network.normalise import normalised
from calotte.noise import Kind, Noise, noise_map
from calotte.settings import Settings
from calotte.terminal import say, stderr

__all__ = [
    "event_file",
    "make_settings",
    "notices",
    "open_both",
    "open_event",
    "open_noise",
    "range_warning",
    "split_names",
]

_AT_ONCE = 2**20  # numbers of one layer, over all inputs answered together


def open_both(
    model: Path,
    inputs: Path,
    decision: DecisionName | None,
    output: str | None,
    layout: LayoutName | None,
    index: str | None,
    clip: tuple[float, float] | None = None,
    mean: str | None = None,
    std: str | None = None,
) -> tuple[Network, Inputs]:
    """Load the network, normalising and clipping its input where asked, and the inputs chosen, checked."""
    check_file(inputs, "inputs")
    network = load(model, decision.value if decision else None, output)
    if mean is not None or std is not None:
        network = normalised(network, numbers_of("--mean", mean or "0"), numbers_of("--std", std or "1"))
    try:
        data = read_inputs(inputs).fitted(network, layout.value if layout else None)
    except ValueError as error:
        raise type(error)(str(error) if str(inputs) in str(error) else f"{inputs}: {error}") from None
    if index is not None:
        data = data.select(parse_index(index, len(data.x)))
    return network if clip is None else clipped(network, *clip), data


def numbers_of(option: str, text: str) -> NDArray[np.float64]:
    """The numbers of '0.5', of '0.1,0.2,0.3' or of a .npy file.

    Raises:
        InvalidInput: neither.
    """
    if text.lower().endswith(".npy"):
        return read_array(Path(text))
    try:
        return np.array([float(part) for part in text.split(",")])
    except ValueError:
        raise InvalidInput(f"{option} {text}: expected numbers separated by commas, or a .npy file") from None


def open_noise(
    kind: Kind,
    network: Network,
    eps: float | None,
    sigma: float | None,
    map: Path | None,
    cut: float | None = None,
    box: Path | None = None,
) -> Noise:
    """The noise, through the map of a file; without a size, on the box of a property.

    Raises:
        InvalidInput: no size, and no property or another noise than one on a box.
    """
    scale = None if map is None else noise_map(read_array(map))
    if eps is None and sigma is None:
        if box is None or map is not None or kind not in ("box", "truncated"):
            raise InvalidInput("give the size of the noise as either --eps or --sigma")
        widths = read_half_widths(box)
        if len(widths) != network.d:
            raise InvalidInput(f"{box}: a box of {len(widths)} inputs, the network takes {network.d}")
        standard = 1.0 / (CUT if cut is None else cut)  # its half-width is 1
        size = {"eps": 1.0} if kind == "box" else {"sigma": standard}
        return make_noise(kind, network.d, **size, map=noise_map(widths), cut=cut)
    return make_noise(kind, network.d, eps=eps, sigma=sigma, map=scale, cut=cut)


def event_file(event: str) -> Path | None:
    """The file that --event names, if it names one."""
    return Path(event) if event.lower().endswith(".vnnlib") else None


def open_event(event: str) -> OutputEvent:
    """The event of a name or of a file."""
    path = event_file(event)
    if path is None:
        return event_of(event)
    check_file(path, "event")
    return read_event(path)


def make_settings(
    samples: int, confidence: float, seed: int, time_limit: float | None, memory_limit: float
) -> Settings:
    """Settings in the units of the command line (gigabytes)."""
    return Settings(samples, confidence, seed, math.inf if time_limit is None else time_limit, memory_limit * 1e9)


def split_names(text: str) -> list[str]:
    """'a,b' as names."""
    return [name.strip() for name in text.split(",") if name.strip()]


def notices(network: Network, data: Inputs, noise: Noise | None = None) -> None:
    """Say what was loaded, the accuracy where labels are known, and what looks wrong."""
    if noise is not None and not depends(network, shaken(network, noise)):
        say(stderr, "warning: no output depends on the noise: p is 0 or 1 for every input, whatever its size")
    for notice in (*network.notices, *data.notices):
        say(stderr, f"notice: {notice}")
    layers, comparisons = len(network.relus), network.decision.comparisons
    stderr.print(
        f"N = {network.units}: {network.hidden_units} ReLUs in {layers} layers, {comparisons} comparisons of outputs",
        style="dim",
    )
    labels = None if data.labels is None else torch.from_numpy(data.labels)
    if labels is not None:
        stderr.print(f"accuracy {accuracy(network, data.x, labels):.4f} on {len(labels)} labelled inputs")
    warning = range_warning(network, data.x, labels)
    if warning is not None:
        say(stderr, f"warning: {warning}")
    if network.clipping is not None:
        low, high = network.clipping.low, network.clipping.high
        edge = outside = 0
        for _, x in blocks(network, data.x):
            edge += int(((x == low) | (x == high)).any(1).sum())
            outside += int(((x < low) | (x > high)).any(1).sum())
        if edge:
            say(
                stderr,
                f"notice: {edge} of {len(data.x)} inputs have entries at {low:g} or {high:g}, where the clipping "
                "bends: rungs theorem and cell say nothing about them, the certified radius carries over",
            )
        if outside:
            say(stderr, f"warning: {outside} of {len(data.x)} inputs lie outside of the clipping range")


def shaken(network: Network, noise: Noise) -> Tensor:
    """The features (d,), bool, that noise reaches through its map."""
    if noise.map is None:
        return torch.ones(network.d, dtype=torch.bool)
    return noise.map != 0 if noise.map.ndim == 1 else (noise.map != 0).any(1)


def range_warning(network: Network, x: NDArray[np.float64], labels: Tensor | None) -> str | None:
    """What is wrong with the range of inputs (B, ...), judged by the accuracy where labels are known.

    Numbers from 0 to 255 that are whole, or that go beyond 127, are taken for bytes. Whatever they look like, inputs
    from 0 to 255 are doubted where the network answers x / 255 better, and inputs from 0 to 1 where it answers 255 x
    better.
    """
    low, high = float(x.min()), float(x.max())
    if low < 0 or high > 255 or 1 < high <= 2:
        return None
    bytes_like = high > 127 or (high > 2 and all((some == some.round()).all() for _, some in blocks(network, x)))
    if labels is None:
        return "inputs look like bytes 0 to 255: divide by 255 if the network expects 0 to 1" if bytes_like else None
    right = accuracy(network, x, labels)
    if high <= 1:
        if accuracy(network, x, labels, 255) > right:
            return "inputs lie in 0 to 1, and 255 x is answered better: multiply them by 255?"
    else:
        divided = accuracy(network, x, labels, 1 / 255)
        if divided > right:
            return f"inputs lie in {low:g} to {high:g}, and x / 255 is answered better: divide them by 255?"
        if divided == right and bytes_like:
            return "inputs look like bytes 0 to 255, and x / 255 is answered as well: divide them by 255?"
    return None


def accuracy(network: Network, x: NDArray[np.float64], labels: Tensor, scale: float = 1.0) -> float:
    """The share of inputs (B, ...), taken `scale` times, that are answered by their labels (B,)."""
    right = (network.predict(scale * some) == labels[begin : begin + len(some)] for begin, some in blocks(network, x))
    return sum(int(answers.sum()) for answers in right) / len(x)


def blocks(network: Network, x: NDArray[np.float64]) -> Iterator[tuple[int, Tensor]]:
    """Inputs (B, ...) as the network takes them, some at a time, with the place of the first of them."""
    rows = max(_AT_ONCE // network.widest, 1)
    return ((begin, network.inputs(x[begin : begin + rows])) for begin in range(0, len(x), rows))
