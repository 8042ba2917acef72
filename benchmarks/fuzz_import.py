"""Fuzz the importer: damaged bytes and damaged graphs, each a clear error or a network that agrees with onnxruntime.

Never a crash, a hang, a wrong network or an error of more than one line. Cases run in subprocesses, one after the
other; the parent watches. Run: python benchmarks/fuzz_import.py [--cases 10000] [--seed 0]
"""

from __future__ import annotations

import argparse
import collections
import queue
import random
import resource
import subprocess
import sys
import threading
import time

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TIME_LIMIT = 30.0
MARK = "case"
MEMORY_LIMIT = 8 * 2**30
node = helper.make_node


def model_of(nodes, weights, shape, opset=17):
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, s) for name, s in (("x", shape), ("y", None))]
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "graph", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def seeds():
    """Small models that between them use most operators."""
    numbers = np.random.default_rng(0)

    def floats(*shape):
        return numbers.standard_normal(shape).astype(np.float32)

    dense = [
        node("Sub", ["x", "m"], ["a"]),
        node("Div", ["a", "s"], ["b"]),
        node("Flatten", ["b"], ["c"]),
        node("Gemm", ["c", "w", "u"], ["d"], transB=1),
        node("Relu", ["d"], ["e"]),
        node("MatMul", ["e", "v"], ["f"]),
        node("Add", ["f", "t"], ["g"]),
        node("Softmax", ["g"], ["y"]),
    ]
    weights = {"m": np.float32(0.1), "s": np.float32(0.3), "w": floats(4, 6), "u": floats(4)}
    yield model_of(dense, weights | {"v": floats(4, 3), "t": floats(3)}, ("n", 2, 3))
    residual = [
        node("Conv", ["x", "k", "c"], ["a"], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["a", "s", "c", "c", "s"], ["b"], epsilon=1e-3),
        node("LeakyRelu", ["b"], ["d"], alpha=0.1),
        node("Conv", ["d", "l"], ["e"], pads=[1, 1, 1, 1], group=3),
        node("Add", ["e", "a"], ["f"]),
        node("MaxPool", ["f"], ["g"], kernel_shape=[2, 2], strides=[2, 2], pads=[0, 1, 0, 0]),
        node("ConvTranspose", ["g", "k"], ["h"], strides=[2, 1]),
        node("AveragePool", ["h"], ["i"], kernel_shape=[2, 2], count_include_pad=1),
        node("GlobalAveragePool", ["i"], ["j"]),
        node("Flatten", ["j"], ["y"]),
    ]
    yield model_of(
        residual,
        {"k": floats(3, 2, 3, 3), "c": floats(3), "s": np.ones(3, np.float32), "l": floats(3, 1, 3, 3)},
        (1, 2, 4, 4),
    )
    moves = [
        node("Transpose", ["x"], ["a"], perm=[0, 2, 1]),
        node("Slice", ["a", "one", "big", "two"], ["b"]),
        node("Split", ["b"], ["c", "d"], axis=1),
        node("Concat", ["d", "c", "z"], ["e"], axis=1),
        node("Gather", ["e", "two"], ["f"], axis=2),
        node("Pad", ["f", "pads"], ["g"]),
        node("Expand", ["g", "wide"], ["h"]),
        node("Unsqueeze", ["h", "one"], ["i"]),
        node("Squeeze", ["i", "one"], ["j"]),
        node("Tile", ["j", "reps"], ["k"]),
        node("Flatten", ["k"], ["y"]),
    ]
    weights = {"one": np.array([1]), "two": np.array([2]), "big": np.array([2**40]), "z": floats(1, 2, 3)}
    weights |= {"pads": np.array([0, 0, 0, 0, 1, 2]), "wide": np.array([1, 7, 3]), "reps": np.array([1, 1, 2])}
    yield model_of(moves, weights, (1, 4, 4))
    shapes = [
        node("Shape", ["x"], ["a"]),
        node("Gather", ["a", "zero"], ["b"], axis=0),
        node("Unsqueeze", ["b", "axes"], ["c"]),
        node("Concat", ["c", "rest"], ["d"], axis=0),
        node("Reshape", ["x", "d"], ["e"]),
        node("ReduceMean", ["e"], ["f"], axes=[-1], keepdims=1),
        node("Sub", ["e", "f"], ["g"]),
        node("Clip", ["g", "low", "high"], ["h"]),
        node("ReduceSum", ["h", "axes"], ["i"], keepdims=0),
        node("Max", ["i", "i2"], ["j"]),
        node("Abs", ["j"], ["k"]),
        node("PRelu", ["k", "slope"], ["l"]),
        node("Constant", [], ["m"], value=numpy_helper.from_array(floats(12))),
        node("Mul", ["l", "m"], ["n"]),
        node("Dropout", ["n"], ["o"]),
        node("ArgMax", ["o"], ["y"], axis=0),
    ]
    weights = {"zero": np.array(0), "axes": np.array([0]), "rest": np.array([-1]), "i2": floats(12)}
    weights |= {"low": np.float32(-1), "high": np.float32(1), "slope": floats(12)}
    yield model_of(shapes, weights, ("n", 3, 4))
    choices = [
        node("Resize", ["x", "", "", "sizes"], ["a"], mode="linear", axes=[2, 3]),
        node("DepthToSpace", ["a"], ["b"], blocksize=2),
        node("CumSum", ["b", "two"], ["c"], exclusive=1),
        node("Trilu", ["c", "up"], ["d"], upper=1),
        node("Where", ["mask", "d", "low"], ["e"]),
        node("HardSigmoid", ["e"], ["f"], alpha=0.3),
        node("Einsum", ["f", "m"], ["g"], equation="bchw,whk->bck"),
        node("ScatterElements", ["g", "places", "v"], ["h"], axis=2),
        node("Mean", ["h", "g"], ["i"]),
        node("ReduceL1", ["i", "first"], ["j"], keepdims=0),
        node("MatMul", ["j", "n"], ["k"]),
        node("Sigmoid", ["k"], ["p"]),
        node("Sub", ["one", "p"], ["q"]),
        node("Concat", ["q", "p"], ["r"], axis=1),
        node("ArgMax", ["r"], ["y"], axis=1),
    ]
    weights = {
        "sizes": np.array([3, 3]),
        "two": np.array(2),
        "first": np.array([1]),
        "up": np.array(-1),
        "low": np.float32(0.2),
    }
    weights |= {"mask": numbers.random((6, 6)) < 0.6, "m": floats(6, 6, 3), "places": np.array([[[2, 0]]])}
    weights |= {"v": floats(1, 1, 2), "n": floats(3, 1), "one": np.float32(1)}
    yield model_of(choices, weights, (1, 4, 2, 2), opset=18)


STRANGE = [-(2**63), -(2**31), -2, -1, 0, 1, 2, 3, 7, 2**20, 2**31, 2**40, 2**62]
OPERATORS = [
    "Add", "Sub", "Mul", "Div", "Gemm", "MatMul", "Conv", "ConvTranspose", "Relu", "LeakyRelu", "Clip", "Abs",
    "Max", "Min", "MaxPool", "AveragePool", "GlobalMaxPool", "Flatten", "Reshape", "Transpose", "Squeeze",
    "Unsqueeze", "Concat", "Split", "Slice", "Gather", "Pad", "Expand", "Tile", "Identity", "Dropout", "Cast",
    "Sum", "Neg", "ReduceSum", "ReduceMean", "ReduceMax", "Softmax", "Sigmoid", "Sign", "ArgMax", "Greater",
    "Shape", "Size", "ConstantOfShape", "Range", "Where", "Sqrt", "Tanh", "BatchNormalization", "PRelu", "GatherND",
    "SplitToSequence", "SequenceAt", "Loop", "If", "Einsum", "Resize", "NonZero", "Floor", "Mod", "ReduceProd",
    "CumSum", "DepthToSpace", "SpaceToDepth", "Trilu", "ScatterElements", "ScatterND", "GatherElements", "Mean",
    "ReduceL1", "LpPool", "HardSigmoid", "Shrink", "Upsample", "Compress", "CenterCropPad", "ReverseSequence",
    "Col2Im", "EyeLike", "IsNaN", "Round", "Not", "Log", "Elu", "Softsign", "GreaterOrEqual", "LessOrEqual", "TopK",
    "Pow", "DequantizeLinear", "ReduceL2", "SequenceConstruct", "ConcatFromSequence", "SequenceInsert",
]  # fmt: skip


def damaged_bytes(content, rng):
    """A few flips, cuts, insertions or repetitions."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        at, length = rng.randrange(max(len(data), 1)), rng.choice([1, 1, 2, 8, 64])
        kind = rng.randrange(6)
        if kind == 0 and data:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and data:
            data[at] = rng.randrange(256)
        elif kind == 2:
            del data[at : at + length]
        elif kind == 3:
            data[at:at] = bytes(rng.randrange(256) for _ in range(length))
        elif kind == 4:
            data[at:at] = data[at : at + length]
        else:
            del data[at + rng.randrange(len(data) - at + 1) :]
    return bytes(data)


def damaged_graph(model, rng):
    """A few changes that keep the file readable."""
    graph = model.graph
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        values = (
            [name for n in graph.node for name in n.output] + [t.name for t in graph.initializer] + ["x", "", "no"]
        )
        kind = rng.randrange(13)
        one = rng.choice(graph.node) if graph.node else None
        tensor = rng.choice(graph.initializer) if graph.initializer else None
        if one is None or tensor is None:
            return model
        if kind == 0:
            graph.node.remove(one)
        elif kind == 1:
            graph.node.insert(rng.randrange(len(graph.node)), one)
        elif kind <= 3 and one.input:
            one.input[rng.randrange(len(one.input))] = rng.choice(values)
        elif kind == 4:
            one.op_type = rng.choice(OPERATORS)
        elif kind <= 6 and one.attribute:
            attribute = rng.choice(one.attribute)
            if rng.random() < 0.2:
                one.attribute.remove(attribute)
            elif attribute.ints:
                attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(STRANGE)
            elif attribute.type == onnx.AttributeProto.INT:
                attribute.i = rng.choice(STRANGE)
            else:
                attribute.f = rng.choice([0.0, -1.0, 1e30, float("nan"), float("inf"), 1e-30])
        elif kind == 7:
            array = numpy_helper.to_array(tensor).copy()
            if array.size and array.dtype.kind == "f":
                array.flat[rng.randrange(array.size)] = rng.choice([np.nan, np.inf, 1e30, 1e-30, 0.0, -3.0])
            elif array.size:
                array.flat[rng.randrange(array.size)] = rng.choice(STRANGE)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        elif kind == 8:
            array = numpy_helper.to_array(tensor)
            shape = rng.choice([(), (1,), (0,), array.shape[::-1], (*array.shape, 1), (1, *array.shape), (-1,)])
            array = np.resize(array, shape) if -1 not in shape else array.reshape(-1)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        elif kind == 9:
            graph.initializer.remove(tensor)
        elif kind == 10:
            dims = graph.input[0].type.tensor_type.shape.dim
            if dims:
                rng.choice(dims).dim_value = rng.choice([0, 1, 2, 3, 5, 500, 2**40, -1])
        elif kind == 11:
            model.opset_import[0].version = rng.choice([1, 7, 8, 9, 10, 11, 12, 13, 15, 18, 21, 23, 99])
        else:
            one.output[rng.randrange(len(one.output))] = rng.choice(values)
    return model


def case(number, seed):
    """The bytes of one case; the same for the same numbers."""
    rng = random.Random(f"{seed} {number}")
    model = rng.choice(list(seeds()))
    if rng.random() < 0.4:
        return damaged_bytes(model.SerializeToString(), rng)
    model = damaged_graph(model, rng)
    return model.SerializeToString()


def verdict(content, folder):
    """What the importer makes of a file: refused, loaded, or what is wrong with it."""
    import onnxruntime
    import torch

    from calotte.errors import CalotteError, SourceMismatch
    from calotte.models.agreement import evaluated
    from calotte.models.importer import import_graph
    from calotte.models.onnx import load, runtime

    path = f"{folder}/case.onnx"
    with open(path, "wb") as file:
        file.write(content)
    try:
        network = load(path)
    except CalotteError as error:
        if "\n" in str(error) or not str(error):
            return f"DEFECT: an error of more than one line: {error!r}"
        return f"mismatch: {error}" if isinstance(error, SourceMismatch) else "refused"
    except Exception as error:
        return f"DEFECT: {type(error).__name__}: {str(error)[:300]!r}"
    model = onnx.load(path)
    source = runtime(import_graph(model))
    if source is None:
        return "loaded, unknown to onnxruntime"
    x = torch.randn(4, network.d, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).float().double()
    ours, theirs = network.forward(x), source.outputs(x.numpy())
    here = evaluated(network, x, source.roundoff)
    allowed = torch.maximum(here.error, 1e-5 * ours.abs().amax(1, keepdim=True))
    bad = ~((ours - theirs).abs() <= allowed) & (here.magnitude < 1e37)[:, None]
    if bad.any():
        return f"DEFECT: a wrong network: {ours[bad][:3].tolist()} for {theirs[bad][:3].tolist()}"
    assert onnxruntime.__version__
    return "loaded"


def worker(first, last, seed):
    """Print a verdict for each case."""
    import tempfile

    import torch

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(first, last):
            print(MARK, number, verdict(case(number, seed), folder).replace("\n", " "), flush=True)


def supervise(first, last, seed):
    """Run cases in subprocesses; yields (number, verdict). A case that kills or stops its process is a defect."""
    at = first
    while at < last:
        command = [sys.executable, __file__, "--worker", str(at), str(last), "--seed", str(seed)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        lines: queue.Queue[str] = queue.Queue()
        reader = threading.Thread(target=lambda p=process, q=lines: [q.put(line) for line in p.stdout], daemon=True)
        reader.start()
        limit = TIME_LIMIT + 60.0  # the first case pays for the imports
        while at < last:
            try:
                line = lines.get(timeout=min(limit, 1.0))
            except queue.Empty:
                limit -= 1.0
                if process.poll() is not None and lines.empty():
                    yield at, f"DEFECT: the process died with status {process.returncode}"
                    at += 1
                    break
                if limit <= 0:
                    process.kill()
                    yield at, f"DEFECT: no answer within {TIME_LIMIT:g} s"
                    at += 1
                    break
                continue
            mark, _, rest = line.strip().partition(" ")
            number, _, what = rest.partition(" ")
            if mark != MARK:
                yield at, f"DEFECT: it printed {line.strip()[:80]!r}"
                continue
            yield int(number), what
            at, limit = int(number) + 1, TIME_LIMIT
        process.kill()
        process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worker", type=int, nargs=2)
    options = parser.parse_args()
    if options.worker:
        worker(*options.worker, options.seed)
        return
    started, counts, defects = time.time(), collections.Counter(), []
    for number, what in supervise(options.first, options.first + options.cases, options.seed):
        kind, _, rest = what.partition(":")
        counts[kind] += 1
        if kind == "DEFECT":
            defects.append(number)
        if rest:
            print(f"case {number}: {what}", flush=True)
    print(f"{sum(counts.values())} cases in {time.time() - started:.0f} s, seed {options.seed}: {dict(counts)}")
    sys.exit(1 if defects else 0)


if __name__ == "__main__":
    main()
