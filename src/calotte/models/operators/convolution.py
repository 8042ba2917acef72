"""Convolutions and transposed convolutions with a constant kernel."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from calotte.models.operators.step import Step, Value, Variable, operator, plain
from calotte.models.operators.windows import numbers, windows_of
from calotte.network.convolution import Convolution, TransposedConvolution

__all__: list[str] = []


def operands(step: Step) -> tuple[Variable, Tensor, Tensor | None, int]:
    """Input (1, C, *spatial), kernel, bias, and how many roundings the kernel is off."""
    x, (kernel, terms) = step.variable(), step.coefficients(1)
    if not 3 <= len(x.shape) <= 5 or x.shape[0] != 1 or kernel.ndim != len(x.shape) or 0 in kernel.shape:
        raise step.error(
            f"input {x.shape} and kernel {tuple(kernel.shape)}: expected batch size 1, channels and 1 to 3 more axes"
        )
    return x, kernel, step.weights(2) if step.has(2) else None, terms


@operator("Conv")
def convolution(step: Step) -> Value:
    """Cross-correlation with a kernel, strides, padding, dilation, groups."""
    x, kernel, bias, terms = operands(step)
    groups = int(step.attributes.get("group", 1))
    windows = windows_of(step, x.shape[2:], tuple(kernel.shape[2:]))
    if bias is not None and bias.shape != kernel.shape[:1]:
        raise step.error(f"bias of shape {tuple(bias.shape)} does not fit kernel {tuple(kernel.shape)}")
    op = Convolution(
        kernel,
        bias,
        plain(x.shape),
        stride=windows.stride,
        padding=windows.padding,
        dilation=windows.dilation,
        groups=groups,
    )
    return step.add(step.counted(op, terms), (x,), (1, *op.output_shape))


@operator("ConvTranspose")
def transposed_convolution(step: Step) -> Value:
    """The transpose of a convolution: kernel (C, C_out / groups, *size)."""
    x, kernel, bias, terms = operands(step)
    rank, groups = len(x.shape) - 2, int(step.attributes.get("group", 1))
    settings = {
        key: numbers(step, key, default, rank)
        for key, default in (("strides", 1), ("dilations", 1), ("output_padding", 0))
    }
    pads = numbers(step, "pads", 0, 2 * rank)
    wanted = step.attributes.get("output_shape")
    auto = step.attributes.get("auto_pad", b"NOTSET").decode()
    if wanted and len(wanted) != rank:
        raise step.error(f"expected one number for each of {rank} spatial axes")
    spatial, padding = [], []
    for axis, n in enumerate(x.shape[2:]):
        stride, dilation, extra = (settings[key][axis] for key in ("strides", "dilations", "output_padding"))
        full = stride * (n - 1) + extra + dilation * (kernel.shape[2 + axis] - 1) + 1
        low, high = pads[axis], pads[rank + axis]
        if wanted or auto in ("SAME_UPPER", "SAME_LOWER"):
            cut = max(full - (int(wanted[axis]) if wanted else n * stride), 0)
            low = cut // 2 if auto == "SAME_UPPER" else cut - cut // 2
            high = cut - low
        elif auto not in ("NOTSET", "VALID"):
            raise step.error(f"auto_pad '{auto}' is not known")
        size = full - low - high
        if min(low, high, extra) < 0 or extra >= max(stride, 1) or not 0 < size <= 2**24:
            raise step.error(f"pads {pads} and output_padding {settings['output_padding']} do not fit")
        spatial.append(size)
        padding.append((low, high))
    forward = Convolution(
        kernel,
        None,
        (kernel.shape[1] * groups, *spatial),
        stride=settings["strides"],
        padding=padding,
        dilation=settings["dilations"],
        groups=groups,
    )
    if forward.output_shape != plain(x.shape):
        raise step.error(f"kernel {tuple(kernel.shape)} does not fit input {x.shape}")
    if bias is not None and bias.shape != forward.input_shapes[0][:1]:
        raise step.error(f"bias of shape {tuple(bias.shape)} does not fit kernel {tuple(kernel.shape)}")
    op = TransposedConvolution(forward, bias)
    return step.add(step.counted(op, terms), (x,), (1, *op.output_shape))


@operator("Col2Im")
def column_to_image(step: Step) -> Value:
    """Blocks added up where they overlap: a transposed convolution with kernels that are 1 at one place."""
    x = step.variable()
    image, block = step.integers(1), step.integers(2)
    rank, entries = len(image), math.prod(block)
    if not 1 <= rank <= 3 or len(block) != rank or len(x.shape) != 3 or x.shape[0] != 1 or x.shape[1] % entries:
        raise step.error(f"image {image} and blocks {block} do not fit input {x.shape}")
    channels = x.shape[1] // entries
    stride, dilation = (numbers(step, key, 1, rank) for key in ("strides", "dilations"))
    pads = numbers(step, "pads", 0, 2 * rank)
    forward = Convolution(
        torch.eye(entries, dtype=torch.float64).reshape(entries, 1, *block).repeat(channels, *(1,) * (rank + 1)),
        None,
        (channels, *image),
        stride=stride,
        padding=list(zip(pads[:rank], pads[rank:], strict=True)),
        dilation=dilation,
        groups=channels,
    )
    if math.prod(forward.output_shape) != math.prod(x.shape):
        raise step.error(f"image {image} and blocks {block} do not fit input {x.shape}")
    x = step.reshaped(x, (1, *forward.output_shape))
    return step.add(TransposedConvolution(forward, None), (x,), (1, channels, *image))
