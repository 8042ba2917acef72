"""Networks to measure with, random weights: a ResNet-18 as torchvision builds it, its ONNX file, and one like VGG.

python benchmarks/models.py resnet18.onnx [--size 224]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn

__all__ = ["resnet18", "vgg", "write_onnx"]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norms, added to a shortcut (He et al., arXiv:1512.03385)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.shortcut = nn.Sequential()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


def resnet18(classes: int = 1000, seed: int = 0) -> nn.Module:
    """A ResNet-18 in evaluation mode: 11.7 million weights; batch norms as after training on something.

    At (3, 224, 224) it has 2.3 million ReLUs, 3.5 million units with those of the max pool.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = [
            nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        ]
        before = 64
        for after, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
            layers += [BasicBlock(before, after, stride), BasicBlock(after, after, 1)]
            before = after
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, classes)]
        module = nn.Sequential(*layers).eval()
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                assert part.running_mean is not None
                assert part.running_var is not None
                part.running_mean.normal_(std=0.1)
                part.running_var.uniform_(0.5, 2.0)
                nn.init.normal_(part.bias, std=0.1)
    return module


def vgg(classes: int = 10, seed: int = 0) -> nn.Module:
    """Six convolutions and average pools (after Simonyan and Zisserman, arXiv:1409.1556); 221,184 ReLUs on 32x32."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        before = 3
        for widths in ((64, 64), (128, 128), (256,), (512,)):
            for width in widths:
                layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
                nn.init.kaiming_normal_(layers[-2].weight)  # type: ignore[arg-type]
                before = width
            layers.append(nn.AvgPool2d(2))
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * before, classes)).eval()


def write_onnx(module: nn.Module, shape: tuple[int, ...], path: Path) -> Path:
    """The module as an ONNX file with batch size 1, weights inside; batch norms stay nodes of their own."""
    torch.onnx.export(
        module,
        (torch.zeros(1, *shape),),
        str(path),
        dynamo=True,
        optimize=False,
        external_data=False,
        verbose=False,
    )
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path, help="the ONNX file to write")
    parser.add_argument("--size", type=int, default=224, help="height and width of the images")
    options = parser.parse_args()
    write_onnx(resnet18(), (3, options.size, options.size), options.path)


if __name__ == "__main__":
    main()
