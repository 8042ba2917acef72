"""Train a small ReLU classifier on scikit-learn's digits; leave digits.onnx and held-out digits.npz in a folder."""

import logging
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


def train(x: torch.Tensor, y: torch.Tensor) -> torch.nn.Module:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(64, 48), torch.nn.ReLU(), torch.nn.Linear(48, 24), torch.nn.ReLU(), torch.nn.Linear(24, 10)
    )
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.05)
    for _ in range(60):
        for rows in torch.randperm(len(x)).split(64):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimiser.step()
    return model.eval()


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    digits = load_digits()
    x, test_x, y, test_y = train_test_split(
        (digits.data / 16).astype(np.float32), digits.target, test_size=0.3, random_state=0
    )
    model = train(torch.from_numpy(x), torch.from_numpy(y))
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (torch.zeros(1, 64),), folder / "digits.onnx", dynamo=True, verbose=False)
    np.savez(folder / "digits.npz", x=test_x, y=test_y)
    print(f"wrote {folder / 'digits.onnx'} and {len(test_x)} held-out digits in {folder / 'digits.npz'}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
