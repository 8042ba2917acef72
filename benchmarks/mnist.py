"""The MNIST test images beside the project, for the benchmarks."""

import gzip
import sys
from pathlib import Path

import numpy as np
import torch

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
