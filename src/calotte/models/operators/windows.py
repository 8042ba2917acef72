"""Windows: where convolutions and pools put their kernels on the spatial axes."""

from __future__ import annotations

from dataclasses import dataclass

from calotte.models.operators.step import Step
from calotte.network.affine import Shape

__all__ = ["Windows", "numbers", "windows_of"]

LARGEST = 2**13
"""A stride, dilation, size or padding beyond this is taken for a mistake in the file."""


@dataclass(frozen=True)
class Windows:
    """The geometry of a kernel on every spatial axis; `counts` is the number of places it takes there."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    counts: tuple[int, ...]

    def places(self, axis: int, k: int) -> range:
        """The entries of the padded axis that place k covers, counted from the first entry before padding."""
        start = k * self.stride[axis] - self.padding[axis][0]
        return range(start, start + self.size[axis] * self.dilation[axis], self.dilation[axis])


def numbers(step: Step, key: str, default: int, length: int) -> list[int]:
    """An attribute of one number per axis."""
    values = [int(v) for v in step.attributes.get(key, [default] * length)]
    if len(values) != length or min(values) < 0 or max(values) > LARGEST:
        raise step.error(f"'{key}' is {values}: expected {length} numbers from 0 to {LARGEST}")
    return values


def windows_of(step: Step, spatial: Shape, size: Shape) -> Windows:
    """The windows that the attributes of a convolution or pool describe on axes of sizes `spatial`."""
    rank = len(spatial)
    given = step.attributes.get("kernel_shape")
    if len(size) != rank or min(size) < 1 or (given is not None and tuple(given) != tuple(size)):
        raise step.error(f"kernel of size {tuple(size)} does not fit {rank} spatial axes, or the attribute {given}")
    stride, dilation = (numbers(step, key, 1, rank) for key in ("strides", "dilations"))
    if min(*stride, *dilation) < 1:
        raise step.error("strides and dilations must be positive")
    pads = numbers(step, "pads", 0, 2 * rank)
    auto = step.attributes.get("auto_pad", b"NOTSET").decode()
    ceil = bool(step.attributes.get("ceil_mode", 0))
    padding, counts = [], []
    for axis, n in enumerate(spatial):
        reach, s = dilation[axis] * (size[axis] - 1) + 1, stride[axis]
        low, high = pads[axis], pads[rank + axis]
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            missing = max((-(-n // s) - 1) * s + reach - n, 0)
            low = missing // 2 if auto == "SAME_UPPER" else missing - missing // 2
            high = missing - low
        elif auto == "VALID":
            low = high = 0
        elif auto != "NOTSET":
            raise step.error(f"auto_pad '{auto}' is not known")
        room = n + low + high - reach
        if room < 0:
            raise step.error(
                f"a kernel that reaches {reach} does not fit an axis of size {n} padded by {low}, {high}"
            )
        count = (-(-room // s) if ceil else room // s) + 1
        if ceil and (count - 1) * s >= n + low:  # the last window must begin inside
            count -= 1
        padding.append((low, high))
        counts.append(count)
    return Windows(tuple(size), tuple(stride), tuple(dilation), tuple(padding), tuple(counts))
