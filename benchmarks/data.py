"""The real networks and images beside the project, for the benchmarks."""

import gzip
import sys
from pathlib import Path

import numpy as np
import torch

NORMALISATION = {
    "resnet_2b": ([0.4914, 0.4822, 0.4465], [0.2471, 0.2435, 0.2616]),
    "resnet_4b": ([0.4914, 0.4822, 0.4465], [0.2471, 0.2435, 0.2616]),
    "cifar_base_kw": ([0.485, 0.456, 0.406], [0.225, 0.225, 0.225]),
}
DATA = Path(__file__).parents[2] / "shared" / "data"


def images(count: int) -> torch.Tensor:
    """The first `count` test images (count, 784) in [0, 1]; leaves where the data is absent."""
    path = DATA / "mnist" / "t10k-images-idx3-ubyte.gz"
    if not path.exists():
        print(f"{path} is absent: nothing measured")
        sys.exit(0)
    with gzip.open(path) as file:
        return torch.from_numpy(np.frombuffer(file.read()[16:], np.uint8).reshape(-1, 784)[:count] / 255.0)


def labels(count: int) -> torch.Tensor:
    """Their labels (count,) int64."""
    with gzip.open(DATA / "mnist" / "t10k-labels-idx1-ubyte.gz") as file:
        return torch.from_numpy(np.frombuffer(file.read()[8:], np.uint8)[:count].astype(np.int64))


def cifar(model: str, count: int) -> torch.Tensor:
    """CIFAR-10 images (count, 3072), channels first, normalised as a network expects them."""
    mean, deviation = NORMALISATION[model]
    x = np.load(DATA / "cifar10" / "X_sdp.npy")[:count].astype(np.float64)
    return torch.from_numpy(((x - mean) / deviation).transpose(0, 3, 1, 2).reshape(count, -1).copy())
