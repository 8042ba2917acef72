"""Files: a model as it lies on the disk, with the weights that it keeps in other files, and their hashes."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx.external_data_helper import uses_external_data

from calotte.errors import InvalidModel

__all__ = ["Stored", "first_line", "read"]

LARGEST = 2**31
"""Bytes of an ONNX message at most, as protobuf has it; weights in other files do not count."""

TORCH = (
    "a PyTorch file: build its module in Python, load the weights into it and pass it to calotte.from_torch, or "
    "export it with torch.onnx.export"
)
PICKLE = "a Python object: load it in Python and pass it to calotte.from_sklearn or calotte.from_torch"
KERAS = "a TensorFlow or Keras file: convert it with 'python -m tf2onnx.convert'"
INPUTS = "a file of inputs: the model comes first, the inputs second"
NNET = "an NNet file: convert it to ONNX with the NNet repository's nnet2onnx.py"
OTHERS = {
    **dict.fromkeys((".pt", ".pth", ".ckpt", ".safetensors"), TORCH),
    **dict.fromkeys((".pkl", ".pickle", ".joblib"), PICKLE),
    **dict.fromkeys((".h5", ".hdf5", ".keras", ".pb"), KERAS),
    ".tflite": KERAS + " --tflite",
    ".nnet": NNET,
    **dict.fromkeys((".npy", ".npz", ".csv", ".vnnlib"), INPUTS),
}
"""What a file with another ending is, and what to do with it."""


@dataclass(frozen=True)
class Stored:
    """A model read from the disk.

    Attributes:
        model: with all its weights.
        sha256: of the file, followed by the files of its weights in the order of their names.
        files: name and sha256 of each file, the model first.
    """

    model: onnx.ModelProto
    sha256: str
    files: tuple[tuple[str, str], ...]


def first_line(error: BaseException) -> str:
    """What an exception of another library says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


def read(path: Path) -> Stored:
    """Read an `.onnx` file, gzipped or not, and the files of weights beside it.

    Raises:
        InvalidModel: it cannot be read, or is something else; the message says what.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidModel(f"cannot read the model '{path}': {error.strerror or error}") from None
    if not content:
        raise InvalidModel(f"the model '{path}' is an empty file: expected an ONNX model")
    if content.startswith(b"version https://git-lfs"):
        raise InvalidModel(
            f"'{path}' is a Git LFS pointer, not the model itself: run 'git lfs pull' in its repository"
        )
    model = parsed(path, unpacked(path, content) if content[:2] == b"\x1f\x8b" else content)
    total, files = hashlib.sha256(content), [(path.name, hashlib.sha256(content).hexdigest())]
    for name in external_files(model):
        files.append((name, add_file(path, name, total)))
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except Exception as error:
        raise InvalidModel(f"the weights of the model '{path}' cannot be read: {first_line(error)}") from None
    return Stored(model, total.hexdigest(), tuple(files))


def unpacked(path: Path, content: bytes) -> bytes:
    """The content of a gzipped file."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        found = unpacker.decompress(content, LARGEST)
    except zlib.error as error:
        raise InvalidModel(f"the model '{path}' is a damaged gzip file ({error}): fetch it again") from None
    if not unpacker.eof:
        raise InvalidModel(f"the model '{path}' is a gzip file that is cut off or too large: fetch it again")
    return found


def parsed(path: Path, content: bytes) -> onnx.ModelProto:
    """The message in a file; what other formats hold is named."""
    try:
        model = onnx.load_model_from_string(content)
        cause = "" if model.graph.node else "it has no nodes"
    except Exception as error:
        cause = first_line(error)
    if not cause:
        return model
    known = OTHERS.get(path.suffix.lower())
    if known:
        raise InvalidModel(f"'{path}' is {known}")
    raise InvalidModel(
        f"the model '{path}' is not an ONNX file, or it is damaged ({cause}): expected an ONNX graph, export it again"
    )


def add_file(path: Path, name: str, total: hashlib._Hash) -> str:
    """The sha256 of a file of weights, which goes into `total` too."""
    place = path.parent / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise InvalidModel(f"the model '{path}' keeps weights in '{name}', outside of its folder: export it again")
    try:
        if not place.is_file():
            raise FileNotFoundError(2, "No such file")
        own = hashlib.sha256()
        with place.open("rb") as file:
            while block := file.read(2**24):
                own.update(block)
                total.update(block)
    except OSError as error:
        raise InvalidModel(
            f"the model '{path}' keeps weights in '{name}', which cannot be read ({error.strerror}): "
            "put it beside the model"
        ) from None
    return own.hexdigest()


def external_files(model: onnx.ModelProto) -> list[str]:
    """The files in which a model keeps weights, relative to its own folder, each once and in order."""
    found = [
        entry.value
        for tensor in tensors(model)
        if uses_external_data(tensor)
        for entry in tensor.external_data
        if entry.key == "location"
    ]
    return sorted(set(found))


def tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """The tensors of a model: weights, and attributes of its nodes."""
    yield from model.graph.initializer
    nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
