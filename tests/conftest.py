"""Shared fixtures: one thread, and the folder of real networks and images where it exists."""

from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture
def data() -> Path:
    """The data folder `../shared/data` from the project's root."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the data folder {folder} is absent")
    return folder
