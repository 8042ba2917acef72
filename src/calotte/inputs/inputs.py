"""Inputs as a file holds them, and fitted to the network that is to take them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from calotte.errors import InvalidInput
from calotte.network.graph import Network

__all__ = ["LABELS", "SIZES", "Inputs", "Layout", "whole"]

Layout = Literal["NCHW", "NHWC"]
LABELS = ("class", "target", "y")
"""Columns that hold labels where the others are as many as the network takes; `label` always does."""
SIZES = ("eps", "sigma")
"""Names of the size of the noise, one for each input, in files and as columns that are too many for the network."""


@dataclass(frozen=True)
class Inputs:
    """Inputs as read from a file.

    Attributes:
        x: (B, ...) float64, one input a row.
        labels: (B,) true classes, or None.
        index: number of each row in the file.
        columns: names of the columns of x, lower case, where the file has names.
        notices: what was read in a way that the user should know of, in sentences.
        sizes: "eps" or "sigma", and (B,) of them, positive: the size of each input's noise; None where not said.
    """

    x: NDArray[np.float64]
    labels: NDArray[np.int64] | None
    index: list[int]
    columns: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    sizes: tuple[str, NDArray[np.float64]] | None = None

    def taken(self, places: list[int]) -> Inputs:
        """The rows at the given places of x."""
        return replace(
            self,
            x=self.x[places],
            labels=None if self.labels is None else self.labels[places],
            index=[self.index[place] for place in places],
            sizes=None if self.sizes is None else (self.sizes[0], self.sizes[1][places]),
        )

    def select(self, index: list[int]) -> Inputs:
        """The rows of the given numbers, of inputs that are numbered 0, 1, ...

        Raises:
            InvalidInput: a number beyond the rows that are there.
        """
        for i in index:
            if not 0 <= i < len(self.x):
                raise InvalidInput(f"index {i} is out of range: the file has inputs 0 to {len(self.x) - 1}")
        return self.taken(index)

    def fitted(self, network: Network, layout: Layout | None = None) -> Inputs:
        """The inputs as the network takes them, checked.

        An array of one input becomes a row; where there are columns too many, one named 'eps' or 'sigma' becomes
        the sizes of the noise, and the one left over labels, where it is named 'class', 'target' or 'y'; axes are
        brought from `layout` into the network's order.

        Raises:
            InvalidInput: sizes or axes do not fit (with what was seen and what to do), or numbers are not finite.
        """
        data = self
        if network.takes_one(data.x.shape):
            data = replace(data, x=data.x[None], index=[0])
        if layout is not None:
            data = replace(data, x=arranged(data.x, layout, network.input_shape))
        else:
            data = data.narrowed(network.d)
        try:
            network.rows(data.x)
        except InvalidInput as error:
            hint = _hint(data.x, network) if data.x.ndim == 2 and data.x.shape[1] != network.d else None
            raise InvalidInput(f"{error}{f'; {hint}' if hint else ''}") from None
        rows, shape = data.x.shape[1:], network.input_shape
        if (sum(size > 1 for size in rows) > 2) != (sum(size > 1 for size in shape) > 2):
            notice = f"inputs of shape {rows} are taken in the order of their numbers, the network's shape is {shape}"
            return replace(data, notices=(*data.notices, notice))
        return data

    def narrowed(self, d: int) -> Inputs:
        """Columns that are too many for inputs of d numbers taken by their names: sizes of noise, then labels.

        Raises:
            InvalidInput: they hold what is neither.
        """
        found = self._with_sizes_by_name() if self.x.ndim == 2 and self.x.shape[1] > d else self
        return found._with_labels_by_name() if found.x.ndim == 2 and found.x.shape[1] == d + 1 else found

    def _with_sizes_by_name(self) -> Inputs:
        """The column named as a size of the noise, taken as that."""
        named = [i for i, name in enumerate(self.columns) if name in SIZES]
        if not named:
            return self
        if len(named) > 1 or self.sizes is not None:
            raise InvalidInput("columns 'eps' and 'sigma': one column with the size of each input's noise is enough")
        return self._without(named[0]).sized(self.columns[named[0]], self.x[:, named[0]])

    def _without(self, column: int) -> Inputs:
        """The same with a column of x less."""
        columns = (*self.columns[:column], *self.columns[column + 1 :])
        return replace(self, x=np.delete(self.x, column, axis=1), columns=columns)

    def sized(self, name: str, values: NDArray[np.float64]) -> Inputs:
        """The same with the size of each input's noise, `name` being eps or sigma.

        Raises:
            InvalidInput: not one for each input, or one that is not positive and finite.
        """
        if values.shape != (len(self.x),):
            raise InvalidInput(f"{name} of shape {values.shape} for {len(self.x)} inputs: one for each is needed")
        wrong = ~(np.isfinite(values) & (values > 0))
        if wrong.any():
            i = int(wrong.argmax())
            raise InvalidInput(f"{name} of input {self.index[i]} must be positive and finite, came {values[i]:g}")
        notice = f"'{name}' is taken as the size of each input's noise"
        return replace(self, sizes=(name, values), notices=(*self.notices, notice))

    def _with_labels_by_name(self) -> Inputs:
        """The one column named as labels are, taken as labels."""
        named = [i for i, name in enumerate(self.columns) if name in LABELS]
        if self.labels is not None or len(named) != 1:
            return self
        column, name = self.x[:, named[0]], self.columns[named[0]]
        if not whole(column):
            raise InvalidInput(
                f"the column '{name}' is taken as labels, as there is one column too many, but does not hold whole "
                "numbers: write the number of each class"
            )
        return replace(
            self._without(named[0]),
            labels=column.astype(np.int64),
            notices=(*self.notices, f"the column '{name}' is taken as labels"),
        )


def whole(values: NDArray[np.float64]) -> bool:
    """Whether all are finite whole numbers."""
    return bool(np.isfinite(values).all() and (values == np.round(values)).all())


def arranged(x: NDArray[np.float64], layout: Layout, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Images (B, three axes) of the given layout in the order of the network's axes.

    Raises:
        InvalidInput: rows or network have no three axes, or these do not fit in either order.
    """
    if x.ndim != 4 or len(shape) != 3:
        raise InvalidInput(
            f"--layout {layout} is for images with three axes each, for a network that takes three: each input has "
            f"shape {x.shape[1:]}, the network takes {shape}; reshape the inputs, or leave --layout out"
        )
    moved = np.moveaxis(x, -1, 1) if layout == "NHWC" else np.moveaxis(x, 1, -1)
    fits, fits_moved = x.shape[1:] == shape, moved.shape[1:] == shape
    if fits and fits_moved and shape != (1, 1, 1):
        raise InvalidInput(
            f"--layout {layout}: all axes have size {shape[0]}, so the network's order cannot be told from its "
            "shape: bring the inputs into its order and leave --layout out"
        )
    if not fits and not fits_moved:
        axes = {"NHWC": "height, width, channels", "NCHW": "channels, height, width"}[layout]
        raise InvalidInput(
            f"--layout {layout}: each input has shape {x.shape[1:]} ({axes}), the network takes {shape}"
        )
    return np.ascontiguousarray(moved) if fits_moved else x


def _hint(x: NDArray[np.float64], network: Network) -> str | None:
    """What a table (B, columns) of the wrong width seems to be, and what to do."""
    width, classes = x.shape[1], network.decision.classes
    labels = "give labels as a column named 'label' of a .csv file, or as y of an .npz file"
    if width == network.d + 1:
        for place, column in (("first", x[:, 0]), ("last", x[:, -1])):
            if whole(column) and column.min() >= 0 and column.max() < classes:
                return f"its {place} column holds whole numbers from 0 to {classes - 1}, as labels do: {labels}"
        return f"there is one column too many: {labels}, and leave out numbers that only count the rows"
    if width == network.d + classes:
        for place, part in (("last", x[:, -classes:]), ("first", x[:, :classes])):
            if ((part == 0) | (part == 1)).all() and (part.sum(1) == 1).all():
                return f"its {place} {classes} columns are labels, one-hot: {labels}, one number for each input"
    if width == 2 * network.d and whole(x):
        return "decimal commas? Separate the columns by semicolons then"
    if len(x) == network.d:
        return "one input a column? Transpose the array: one input a row is needed"
    return None
