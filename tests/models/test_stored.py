"""Models as they lie on a disk: gzipped, with weights in other files, and files that are something else."""

import gzip
import hashlib
import pickle

import numpy as np
import onnx
import pytest
import torch
from agreement import floats, node

from calotte.errors import InvalidModel
from calotte.models.onnx import load


@pytest.fixture
def model(make_model):
    nodes = [
        node("Constant", [], ["c"], value=onnx.numpy_helper.from_array(floats(5), "constant")),
        node("Gemm", ["x", "w", "c"], ["h"]),
        node("Relu", ["h"], ["r"]),
        node("MatMul", ["r", "v"], ["y"]),
    ]
    return make_model(nodes, {"w": floats(6, 5), "v": floats(5, 3)}, (1, 6))


def digest(content):
    return hashlib.sha256(content).hexdigest()


def test_a_gzipped_model(model, tmp_path):
    plain, packed = tmp_path / "m.onnx", tmp_path / "m.onnx.gz"
    onnx.save(model, plain)
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    network, other = load(packed), load(plain)
    x = torch.from_numpy(floats(10, 6)).double()
    assert torch.equal(network.forward(x), other.forward(x))
    assert network.files == (("m.onnx.gz", digest(packed.read_bytes())),)
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(InvalidModel, match="cut off"):
        load(packed)
    packed.write_bytes(packed.read_bytes()[:30] + b"rubbish" + packed.read_bytes()[37:])
    with pytest.raises(InvalidModel, match="gzip"):
        load(packed)


def test_every_file_has_its_hash(model, tmp_path):
    """Weights in two files, one of them only read by an attribute of a node."""
    path = tmp_path / "m.onnx"
    onnx.save(
        model,
        path,
        save_as_external_data=True,
        all_tensors_to_one_file=False,
        size_threshold=0,
        convert_attribute=True,
    )
    names = sorted(file.name for file in tmp_path.iterdir() if file != path)
    assert len(names) == 3
    network = load(path)
    assert network.files == tuple((n, digest((tmp_path / n).read_bytes())) for n in ["m.onnx", *names])
    assert network.sha256 == digest(b"".join((tmp_path / n).read_bytes() for n in ["m.onnx", *names]))
    changed = tmp_path / names[1]
    changed.write_bytes(bytes(len(changed.read_bytes())))
    assert [a == b for a, b in zip(load(path).files, network.files, strict=True)] == [True, True, False, True]


@pytest.mark.parametrize("place", ["../secret.bin", "/dev/zero", "missing.bin", "."])
def test_weights_elsewhere_are_not_read(model, tmp_path, place):
    (tmp_path / "secret.bin").write_bytes(bytes(1000))
    path = tmp_path / "folder" / "m.onnx"
    path.parent.mkdir()
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    stored = onnx.load(path, load_external_data=False)
    for tensor in stored.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = place
    path.write_bytes(stored.SerializeToString())
    with pytest.raises(InvalidModel, match=r"outside of its folder|cannot be read") as caught:
        load(path)
    assert "\n" not in str(caught.value)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 1\n"
OTHERS = {
    "pointer.onnx": (POINTER, "git lfs pull"),
    "net.pth": (b"PK\x03\x04" + bytes(50), "calotte.from_torch"),
    "net.pt": (pickle.dumps({"weight": 1}), "calotte.from_torch"),
    "net.ckpt": (b"PK\x03\x04" + bytes(50), "calotte.from_torch"),
    "net.pkl": (pickle.dumps([1.0, 2.0]), "calotte.from_sklearn"),
    "net.joblib": (pickle.dumps([1.0, 2.0]), "calotte.from_sklearn"),
    "net.h5": (b"\x89HDF\r\n\x1a\n" + bytes(30), "tf2onnx"),
    "net.keras": (b"PK\x03\x04" + bytes(50), "tf2onnx"),
    "net.tflite": (b"\x1c\x00\x00\x00TFL3" + bytes(30), "tf2onnx.*--tflite"),
    "net.nnet": (b"// Neural Network File Format by Kyle Julian, Stanford 2016\n1,2,3,\n", "nnet2onnx"),
    "x.npy": (b"\x93NUMPY\x01\x00v\x00{'descr'", "the model comes first"),
    "x.csv": (b"0.1,0.2,0.3\n", "the model comes first"),
    "x.VNNLIB": (b"(declare-const X_0 Real)\n", "the model comes first"),
    "net.bin": (b"no model at all", "not an ONNX file"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_something_else_is_named_with_what_to_do(name, tmp_path):
    content, advice = OTHERS[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InvalidModel, match=advice) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_content_decides_and_not_the_name(model, tmp_path):
    path = tmp_path / "net.pth"
    path.write_bytes(model.SerializeToString())
    assert load(path).decision.outputs == 3


def test_state_dicts_are_named(tmp_path):
    path = tmp_path / "net.pt"
    torch.save({"weight": torch.from_numpy(np.zeros(3))}, path)
    with pytest.raises(InvalidModel, match=r"is a PyTorch file.*calotte\.from_torch"):
        load(path)
