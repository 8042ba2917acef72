"""Fixtures for networks: the folder of real models and images, and ONNX models written on the spot."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from agreement import reseed
from onnx import TensorProto, helper, numpy_helper

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"


@pytest.fixture(autouse=True)
def seeded(request: pytest.FixtureRequest) -> None:
    reseed(request.node.nodeid)


@pytest.fixture(scope="session")
def data() -> Path:
    if not DATA.is_dir():
        pytest.skip("the folder ../shared/data with real models and images is absent")
    return DATA


@pytest.fixture(scope="session")
def mnist(data: Path) -> tuple[np.ndarray, np.ndarray]:
    """The MNIST test set: (10000, 784) float32 in [0, 1], labels (10000,)."""
    with gzip.open(data / "mnist" / "t10k-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read()[16:], dtype=np.uint8).reshape(-1, 784)
    with gzip.open(data / "mnist" / "t10k-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read()[8:], dtype=np.uint8)
    return (images / np.float32(255)).astype(np.float32), labels.astype(np.int64)


@pytest.fixture(scope="session")
def make_model() -> Callable[..., onnx.ModelProto]:
    """Write a model: nodes, weights by name, shape of the input 'x'; the output is 'y'."""

    def make(
        nodes: list[onnx.NodeProto],
        weights: dict[str, np.ndarray],
        shape: tuple[int | str, ...],
        *,
        opset: int = 17,
        dtype: int = TensorProto.FLOAT,
    ) -> onnx.ModelProto:
        graph = helper.make_graph(
            nodes,
            "graph",
            [helper.make_tensor_value_info("x", dtype, shape)],
            [helper.make_tensor_value_info("y", dtype, None)],
            [numpy_helper.from_array(array, name) for name, array in weights.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)

    return make
