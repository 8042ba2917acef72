"""Random graphs of all operators, end to end: agreement with onnxruntime, adjoints, enclosures."""

from dataclasses import dataclass, field

import numpy as np
import torch
from agreement import assert_agrees, node
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from calotte.cells.products import pull_back
from calotte.models.onnx import from_onnx
from calotte.network.enclosure import evaluate

integers, sampled = st.integers, st.sampled_from


@dataclass
class Writer:
    """A model under construction: the values so far with their shapes, and the randomness of its weights."""

    shape: tuple[int, ...]
    seed: int
    nodes: list = field(default_factory=list)
    weights: dict = field(default_factory=dict)

    def __post_init__(self):
        self.random = np.random.default_rng(self.seed)
        self.values = [("x", self.shape)]

    def floats(self, *shape):
        name = f"w{len(self.weights)}"
        self.weights[name] = self.random.standard_normal(shape).astype(np.float32)
        return name

    def ints(self, *numbers):
        name = f"w{len(self.weights)}"
        self.weights[name] = np.array(numbers, dtype=np.int64)
        return name

    def add(self, op_type, inputs, shape, **attributes):
        name = f"v{len(self.nodes)}"
        self.nodes.append(node(op_type, inputs, [name], name=f"n{len(self.nodes)}", **attributes))
        self.values.append((name, tuple(shape)))
        return name, tuple(shape)

    def model(self):
        name, shape = self.values[-1]
        flat, _ = self.add("Flatten", [name], (1, int(np.prod(shape))))
        self.nodes.append(node("MatMul", [flat, self.floats(int(np.prod(shape)), 3)], ["y"], name="last"))
        tensors = [numpy_helper.from_array(array, name) for name, array in self.weights.items()]
        ends = [
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
            for name, shape in (("x", self.shape), ("y", (1, 3)))
        ]
        graph = helper.make_graph(self.nodes, "graph", *ends, tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def convolve(w, draw, value, shape):
    _, c, h, width = shape
    k = min(draw(integers(1, 3)), h, width)
    out, pad, stride = draw(integers(1, 4)), draw(integers(0, 1)), draw(integers(1, 2))
    after = [(n + 2 * pad - k) // stride + 1 for n in (h, width)]
    inputs = [value, w.floats(out, c, k, k), w.floats(out)]
    w.add("Conv", inputs, (1, out, *after), pads=[pad] * 4, strides=[stride] * 2)


def deconvolve(w, draw, value, shape):
    _, c, h, width = shape
    k, stride = draw(integers(1, 2)), draw(integers(1, 2))
    after = [stride * (n - 1) + k for n in (h, width)]
    w.add("ConvTranspose", [value, w.floats(c, 2, k, k)], (1, 2, *after), strides=[stride] * 2)


def pool(op_type):
    def write(w, draw, value, shape):
        _, c, h, width = shape
        k = min(draw(integers(1, 3)), h, width)
        stride, pad = draw(integers(1, 3)), draw(integers(0, (k - 1) // 2))
        after = [(n + 2 * pad - k) // stride + 1 for n in (h, width)]
        w.add(op_type, [value], (1, c, *after), kernel_shape=[k, k], strides=[stride] * 2, pads=[pad] * 4)

    return write


def unary(op_type, **attributes):
    return lambda w, draw, value, shape: w.add(op_type, [value], shape, **attributes)


def normalise(w, draw, value, shape):
    names = [w.floats(shape[1]) for _ in range(3)]
    variance = w.floats(shape[1])
    w.weights[variance] = w.weights[variance] ** 2 + np.float32(0.5)
    w.add("BatchNormalization", [value, *names, variance], shape)


def constant(op_type):
    def write(w, draw, value, shape):
        form = draw(sampled([(1,), (shape[1], 1, 1), shape[2:], shape]))
        name = w.floats(*form)
        if op_type == "Div":
            w.weights[name] = np.sign(w.weights[name]) * (np.abs(w.weights[name]) + np.float32(0.5))
        w.add(op_type, [value, name], shape)

    return write


def branches(op_type):
    def write(w, draw, value, shape):
        other = draw(sampled([v for v, s in w.values if s == shape]))
        w.add(op_type, [value, other], shape)

    return write


def concatenate(w, draw, value, shape):
    other, form = draw(sampled([(v, s) for v, s in w.values if s[2:] == shape[2:]]))
    w.add("Concat", [value, other], (1, shape[1] + form[1], *shape[2:]), axis=1)


def transpose(w, draw, value, shape):
    perm = [0, *draw(st.permutations([1, 2, 3]))]
    w.add("Transpose", [value], [shape[p] for p in perm], perm=perm)


def cut(w, draw, value, shape):
    axis = draw(integers(1, 3))
    begin = draw(integers(0, shape[axis] - 1))
    after = list(shape)
    after[axis] = shape[axis] - begin
    w.add("Slice", [value, w.ints(begin), w.ints(2**40), w.ints(axis)], after)


def gather(w, draw, value, shape):
    axis = draw(integers(1, 3))
    places = draw(st.lists(integers(-shape[axis], shape[axis] - 1), min_size=1, max_size=4))
    after = list(shape)
    after[axis] = len(places)
    w.add("Gather", [value, w.ints(*places)], after, axis=axis)


def pad(w, draw, value, shape):
    mode = draw(sampled(["constant", "edge"]))
    low, high = draw(integers(0, 1)), draw(integers(0, 2))
    pads = w.ints(0, 0, low, 0, 0, 0, high, 1)
    w.add("Pad", [value, pads], (1, shape[1], shape[2] + low + high, shape[3] + 1), mode=mode)


def reduce(op_type):
    def write(w, draw, value, shape):
        axis = draw(integers(1, 3))
        after = [1 if k == axis else n for k, n in enumerate(shape)]
        if op_type == "ReduceSum":
            w.add(op_type, [value, w.ints(axis)], after)
        else:
            w.add(op_type, [value], after, axes=[axis])

    return write


def clip(w, draw, value, shape):
    low, high = w.floats(), w.floats()
    w.weights[low], w.weights[high] = np.float32(-0.5), np.float32(0.75)
    w.add("Clip", draw(sampled([[value, low, high], [value, low], [value, "", high]])), shape)


def matrix(w, draw, value, shape):
    out = draw(integers(1, 4))
    if draw(st.booleans()):
        w.add("MatMul", [value, w.floats(shape[3], out)], (*shape[:3], out))
    else:
        w.add("MatMul", [w.floats(out, shape[2]), value], (*shape[:2], out, shape[3]))


def reshape(w, draw, value, shape):
    after = draw(st.permutations(shape[1:]))
    w.add("Reshape", [value, w.ints(-1, *after)], (1, *after))


def resize(w, draw, value, shape):
    mode = draw(sampled(["nearest", "linear", "cubic"]))
    scale = draw(sampled([0.5, 1.5, 2.0]))
    after = [max(int(n * scale), 1) for n in shape[2:]]
    w.add("Resize", [value, "", "", w.ints(*shape[:2], *after)], (*shape[:2], *after), mode=mode)


def running_sum(w, draw, value, shape):
    w.add(
        "CumSum",
        [value, w.ints(draw(integers(1, 3)))],
        shape,
        exclusive=draw(integers(0, 1)),
        reverse=draw(integers(0, 1)),
    )


def choose(w, draw, value, shape):
    other = draw(sampled([v for v, s in w.values if s == shape]))
    name = f"w{len(w.weights)}"
    w.weights[name] = w.random.random(shape[1:]) < 0.5
    w.add("Where", [name, value, draw(sampled([other, w.floats(1)]))], shape)


def contract(w, draw, value, shape):
    out = draw(integers(1, 3))
    equation, form, after = draw(
        sampled(
            [
                ("bchw,hwk->bck", (*shape[2:], out), (1, 1, shape[1], out)),
                ("bchw,cwk->bkhc", (shape[1], shape[3], out), (1, out, shape[2], shape[1])),
            ]
        )
    )
    name, _ = w.add("Einsum", [value, w.floats(*form)], after, equation=equation)
    if equation.endswith("bck"):
        w.values.pop()
        w.add("Reshape", [name, w.ints(*after)], after)


WRITERS = [
    *(resize, running_sum, choose, contract, unary("HardSigmoid", alpha=0.3), unary("Shrink", lambd=0.4, bias=0.4)),
    unary("Trilu", upper=0),
    *(convolve, convolve, deconvolve, normalise, concatenate, transpose, cut, gather, pad, clip, matrix, reshape),
    *(pool(op_type) for op_type in ("MaxPool", "AveragePool")),
    *(unary(op_type) for op_type in ("Relu", "Relu", "Abs", "Neg")),
    unary("LeakyRelu", alpha=0.2),
    *(constant(op_type) for op_type in ("Add", "Sub", "Mul", "Div")),
    *(branches(op_type) for op_type in ("Add", "Sub", "Max", "Min", "Sum")),
    *(reduce(op_type) for op_type in ("ReduceSum", "ReduceMean", "ReduceMax")),
]


@st.composite
def models(draw):
    shape = (1, draw(integers(1, 3)), draw(integers(1, 5)), draw(integers(1, 5)))
    writer = Writer(shape, draw(integers(0, 2**16)))
    for _ in range(draw(integers(1, 8))):
        value, current = draw(sampled(writer.values[-3:]))
        if np.prod(current) < 600:
            draw(sampled(WRITERS))(writer, draw, value, current)
    return writer.model()


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(models(), integers(0, 2**16))
def test_random_graphs(model, seed):
    network = from_onnx(model)
    random = np.random.default_rng(seed)
    x = random.standard_normal((8, network.d)).astype(np.float32)
    assert_agrees(network, model, x)
    assert_one_affine_map(network, torch.from_numpy(x[:1]).double(), random)


def assert_one_affine_map(network, x, random):
    """With the pattern of x fixed the network is one affine map: <A v, c> = <v, A' c>, and its enclosure holds it."""
    masks = network.masks(network.pattern(x))
    v = torch.from_numpy(random.standard_normal(x.shape))
    moved, there = evaluate(network, x + v, masks)[-1], evaluate(network, x, masks)[-1]
    rows = pull_back(
        network,
        masks,
        len(network.nodes) - 1,
        torch.eye(3, dtype=torch.float64).reshape(3, *network.nodes[-1].op.output_shape),
    )
    predicted = there.value[0] + rows @ v[0]
    slack = 2.0 * (moved.error[0] + there.error[0]) + 1e-12 * (rows.abs() @ v[0].abs())
    assert ((moved.value[0] - predicted).abs() <= slack).all()
