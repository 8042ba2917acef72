"""Thumbnails for a page: inputs, their nearest misclassified points and the differences, in sheets of many.

A sheet has one row for each input: the input, the point, the difference (orange where the point is brighter, blue
where it is darker, each difference on a scale of its own). Browsers read a sheet when one of its inputs is shown.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["Sheets", "sheets"]

Pixels = NDArray[np.float64]
_ROWS = 50  # inputs of a sheet
_SIDE = 48  # pixels of a thumbnail, at most
_MOST = 9_000_000  # characters of all sheets together: a page of 10,000 inputs is to stay below 15 MB
_LOSSLESS = 2_000_000  # pixels of all thumbnails together up to which nothing is lost
_LESS, _MORE = np.array([0.0, 0.45, 0.70]), np.array([0.90, 0.62, 0.0])


@dataclass(frozen=True)
class Sheets:
    """Sheets of thumbnails.

    Attributes:
        width, height: of one thumbnail, in pixels; rows: inputs of a sheet.
        count: how many inputs have thumbnails, the first ones.
        images: the sheets, WebP in base64.
    """

    width: int
    height: int
    rows: int
    count: int
    images: tuple[str, ...]


def sheets(inputs: Pixels, points: Sequence[Pixels | None], room: int = _MOST) -> Sheets:
    """Thumbnails of inputs, as many as a page has room for.

    Args:
        inputs: (B, height, width, channels), one or three channels.
        points: the nearest misclassified point of each, (height, width, channels), or None.
        room: characters for all sheets.
    """
    low, high = float(inputs.min()), float(inputs.max())
    scale = 1.0 / (high - low) if high > low else 0.0
    shrunk = max(1.0, max(inputs.shape[1:3]) / _SIDE)
    height, width = (max(1, round(side / shrunk)) for side in inputs.shape[1:3])
    lossless = len(inputs) * 3 * height * width <= _LOSSLESS
    images: list[str] = []
    for begin in range(0, len(inputs), _ROWS):
        part = [
            np.concatenate([_shrunk(view, width, height) for view in _views(x, point, low, scale)], axis=1)
            for x, point in zip(inputs[begin : begin + _ROWS], points[begin : begin + _ROWS], strict=True)
        ]
        file = io.BytesIO()
        picture = Image.fromarray(np.concatenate(part))
        picture.save(file, "WEBP", **({"lossless": True} if lossless else {"quality": 70}))
        text = base64.b64encode(file.getvalue()).decode()
        room -= len(text)
        if room < 0:
            break
        images.append(text)
    return Sheets(width, height, _ROWS, min(len(inputs), _ROWS * len(images)), tuple(images))


def _views(x: Pixels, point: Pixels | None, low: float, scale: float) -> list[Pixels]:
    """The three pictures (height, width, 3) of an input, in [0, 1]."""
    shown = [np.clip((one - low) * scale, 0.0, 1.0) for one in ([x] if point is None else [x, point])]
    colours = [np.broadcast_to(one, (*one.shape[:2], 3)) for one in shown]
    if point is None:
        return [*colours, np.ones_like(colours[0]), np.ones_like(colours[0])]
    change = (point - x).mean(axis=2, keepdims=True)
    change /= np.abs(change).max(initial=0.0) or 1.0
    difference = 1.0 - np.maximum(change, 0.0) * (1.0 - _MORE) - np.maximum(-change, 0.0) * (1.0 - _LESS)
    return [*colours, difference]


def _shrunk(view: Pixels, width: int, height: int) -> NDArray[np.uint8]:
    """(height, width, 3) of bytes."""
    full = (255.0 * view).round().astype(np.uint8)
    return full if full.shape[:2] == (height, width) else np.asarray(Image.fromarray(full).resize((width, height)))
