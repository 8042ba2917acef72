"""Ends of networks: what scores and decisions in a file become, against the answers of the file in onnxruntime."""

import pickle

import mpmath
import numpy as np
import pytest
import torch
from agreement import floats, node, session_outputs
from onnx import TensorProto
from torch import nn

from calotte.errors import InvalidInput, UnsupportedOperator
from calotte.models.onnx import from_onnx
from calotte.models.operators.final import probability, tangent
from calotte.models.torch import from_torch
from calotte.network.decision import Decision

CONSTANTS = {
    "one": np.float32(1.0), "half": np.float32(0.5), "third": np.float32(0.3), "large": np.float32(0.8),
    "zero": np.float32(0.0), "minus": np.float32(-2.0), "two": np.float32(2.0), "tiny": np.float32(1e-7),
    "row": np.array([1, -1]), "flat": np.array([-1]), "axis": np.array([1]), "flags": np.array([False]),
}  # fmt: skip


def chain(*steps):
    """Nodes from 'z' to 'y': operators, or (operator, arguments with '*' for the value so far, attributes)."""
    nodes, value = [], "z"
    for k, step in enumerate(steps):
        op_type, names, attributes = (step, ["*"], {}) if isinstance(step, str) else (*step, {})[:3]
        after = "y" if k == len(steps) - 1 else f"s{k}"
        nodes.append(node(op_type, [value if n == "*" else n for n in names], [after], name=f"end{k}", **attributes))
        value = after
    return nodes


def ending(make_model, nodes, outputs, opset=17):
    """A random affine map to 'z' and then these nodes; the first input, zero, gives z = 0 exactly."""
    weights = CONSTANTS | {"w": np.float32(0.5) * floats(6, outputs)}
    used = {name for one in nodes for name in one.input} | {"w"}
    nodes = [node("Gemm", ["x", "w"], ["z"]), *nodes]
    model = make_model(nodes, {k: v for k, v in weights.items() if k in used}, (1, 6), opset=opset)
    model.graph.output[0].ClearField("type")
    return model


def inputs(n=400):
    return np.concatenate([np.zeros((1, 6)), floats(n, 6)]).astype(np.float32)


def two_classes(order, *after):
    """[1 - p, p] of p = sigmoid(z), or the other way round."""
    names = ["q", "p"] if order else ["p", "q"]
    head = [node("Sigmoid", ["z"], ["p"]), node("Sub", ["one", "p"], ["q"])]
    tail = chain(*after)
    for one in tail:
        one.input[:] = ["c" if n == "z" else n for n in one.input]
    return [*head, node("Concat", names, ["c" if after else "y"], axis=1), *tail]


TO_INT = ("Cast", ["*"], {"to": TensorProto.INT64})
TO_BOOL = ("Cast", ["*"], {"to": TensorProto.BOOL})
TO_FLOAT = ("Cast", ["*"], {"to": TensorProto.FLOAT})
CLASS = ("ArgMax", ["*"], {"axis": -1})

ANSWERS = {  # the file gives the answer itself
    "round": (chain("Sigmoid", "Round"), 1),
    "round, cast": (chain("Sigmoid", "Round", TO_INT), 1),
    "round, cast to bool": (chain("Sigmoid", "Round", TO_BOOL, ("Reshape", ["*", "flat"])), 1),
    "> 1/2": (chain("Sigmoid", ("Greater", ["*", "half"]), TO_FLOAT), 1),
    ">= 1/2": (chain("Sigmoid", ("GreaterOrEqual", ["*", "half"]), TO_INT), 1),
    "< 1/2": (chain("Sigmoid", ("Less", ["*", "half"])), 1),
    "<= 1/2": (chain("Sigmoid", ("LessOrEqual", ["*", "half"])), 1),
    "1/2 <": (chain("Sigmoid", ("Less", ["half", "*"])), 1),
    "> 0.3": (chain("Sigmoid", ("Greater", ["*", "third"])), 1),
    "<= 0.3": (chain("Sigmoid", ("LessOrEqual", ["*", "third"])), 1),
    "0.8 >=": (chain("Sigmoid", ("GreaterOrEqual", ["large", "*"])), 1),
    "1 - p > 0.3": (chain("Sigmoid", ("Sub", ["one", "*"]), ("Greater", ["*", "third"])), 1),
    "1 - p >= 1/2": (chain("Sigmoid", ("Sub", ["one", "*"]), ("GreaterOrEqual", ["*", "half"])), 1),
    "not > 1/2": (chain("Sigmoid", ("Greater", ["*", "half"]), "Not", TO_INT), 1),
    "not <= 0.3": (chain("Sigmoid", ("LessOrEqual", ["*", "third"]), "Not", "Not", "Not"), 1),
    "tanh > 0": (chain("Tanh", ("Greater", ["*", "zero"])), 1),
    "tanh > 0.3": (chain("Tanh", ("Greater", ["*", "third"])), 1),
    "tanh <= 0": (chain("Tanh", ("LessOrEqual", ["*", "zero"])), 1),
    "softsign >= 0": (chain("Softsign", ("GreaterOrEqual", ["*", "zero"])), 1),
    "erf < 0": (chain("Erf", ("Less", ["*", "zero"])), 1),
    ">": (chain(("Greater", ["*", "third"])), 1),
    ">=": (chain(("GreaterOrEqual", ["*", "zero"]), TO_INT), 1),
    "<=": (chain(("LessOrEqual", ["*", "zero"]), TO_INT), 1),
    "constant >=": (chain(("GreaterOrEqual", ["zero", "*"]), "Not"), 1),
    "argmax": (chain(CLASS), 4),
    "argmin": (chain(("ArgMin", ["*"], {"axis": 1, "keepdims": 0}), TO_FLOAT), 4),
    "argmax of softmax": (chain("Softmax", CLASS), 4),
    "argmin of softmax": (chain("Softmax", ("ArgMin", ["*"], {"axis": 1})), 4),
    "argmax, reshaped": (chain("Softmax", ("Reshape", ["*", "flat"]), ("ArgMax", ["*"], {"axis": 0}), TO_INT), 4),
    "argmax of sigmoids": (chain("Sigmoid", CLASS), 4),
    "argmax of tanh": (chain("Tanh", CLASS, ("Squeeze", ["*"])), 4),
    "argmax, temperature": (chain(("Div", ["*", "two"]), "Softmax", ("Mul", ["*", "third"]), CLASS), 4),
    "argmax, turned round": (chain("Softmax", ("Mul", ["*", "minus"]), CLASS), 4),
    "argmax, divided": (chain("LogSoftmax", ("Div", ["*", "minus"]), CLASS), 4),
    "argmax of -softmax": (chain("Softmax", "Neg", CLASS), 4),
    "argmax of 1 - softmax": (chain("Softmax", ("Sub", ["one", "*"]), CLASS), 4),
    "argmax of log": (chain("Softmax", ("Add", ["*", "tiny"]), "Log", CLASS), 4),
    "argmax of exp of log softmax": (chain("LogSoftmax", "Exp", CLASS), 4),
    "argmax of softmax of sigmoids": (chain("Sigmoid", "Softmax", CLASS), 4),
    "argmax of [1 - p, p]": (two_classes(True, CLASS), 1),
    "argmin of [1 - p, p]": (two_classes(True, ("ArgMin", ["*"], {"axis": 1})), 1),
    "argmax of [p, 1 - p]": (two_classes(False, CLASS), 1),
    "argmax of log [1 - p, p]": (two_classes(True, "Log", CLASS), 1),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_are_those_of_the_file(make_model, name):
    nodes, outputs = ANSWERS[name]
    model = ending(make_model, nodes, outputs)
    network = from_onnx(model)
    x = inputs()
    theirs = session_outputs(model, x)[:, 0]
    assert 0.03 < theirs.mean() < (0.97 if outputs == 1 else 2.9), "both answers occur"
    ours = network.predict(torch.from_numpy(x).double()).numpy()
    close = near_ties(network, x)
    assert close.mean() < 0.05
    assert (ours[~close] == theirs[~close]).all()
    assert ours[0] == theirs[0] or name in ("<= 0.3", "not <= 0.3") or outputs > 1, "the tie at x = 0"
    assert "final" in network.notices[0]
    original = network.original.answers(torch.from_numpy(x).double()).numpy()
    assert (original[~close] == theirs[~close]).all()


def near_ties(network, x):
    """Where float32 may answer otherwise: but for x = 0, which is exact."""
    z = network.forward(torch.from_numpy(x).double()).sort(1).values
    gaps = z.abs() if z.shape[1] == 1 else torch.stack([z[:, 1] - z[:, 0], z[:, -1] - z[:, -2]])
    close = (gaps < 1e-2).any(0 if z.shape[1] > 1 else 1).numpy()
    close[0] = False
    return close


SCORES = {  # the file gives scores: the answer is the largest, or whether a single one is above a level
    "softmax": (chain("Softmax"), 4, None),
    "log softmax": (chain("LogSoftmax", ("Reshape", ["*", "row"]), TO_FLOAT), 4, None),
    "log of softmax": (chain("Softmax", "Log"), 4, None),
    "sigmoids": (chain("Sigmoid"), 4, None),
    "softplus": (chain("Softplus"), 4, None),
    "exp": (chain("Exp"), 4, None),
    "elu": (chain(("Elu", ["*"], {"alpha": 0.5})), 4, None),
    "selu": (chain("Selu"), 4, None),
    "celu": (chain(("Celu", ["*"], {"alpha": 0.7})), 4, None),
    "asinh": (chain("Asinh"), 4, None),
    "atan": (chain("Atan"), 4, None),
    "sinh": (chain("Sinh"), 4, None),
    "-softmax": (chain("Softmax", "Neg"), 4, None),
    "one sigmoid": (chain("Sigmoid"), 1, 0.5),
    "one sigmoid, reshaped": (chain("Sigmoid", ("Unsqueeze", ["*", "axis"]), ("Reshape", ["*", "flat"])), 1, 0.5),
    "1 - p": (chain("Sigmoid", ("Sub", ["one", "*"])), 1, 0.5),
    "one tanh": (chain("Tanh"), 1, 0.0),
    "one softsign": (chain("Softsign"), 1, 0.0),
    "one elu": (chain("Elu"), 1, 0.0),
    "[1 - p, p]": (two_classes(True), 1, None),
    "[p, 1 - p]": (two_classes(False), 1, None),
}


@pytest.mark.parametrize("name", SCORES)
def test_scores_are_in_the_order_of_the_outputs(make_model, name):
    nodes, outputs, level = SCORES[name]
    model = ending(make_model, nodes, outputs)
    network = from_onnx(model)
    x = inputs()
    theirs = session_outputs(model, x)
    expected = theirs.argmax(1) if level is None else theirs[:, 0] > level
    close = near_ties(network, x)
    assert close.mean() < 0.05
    assert 0.2 < expected.mean() < 2.8
    ours = network.predict(torch.from_numpy(x).double()).numpy()
    assert (ours[~close] == expected[~close]).all()
    assert "was dropped" in network.notices[0]
    assert (network.original.answers(torch.from_numpy(x).double()).numpy()[~close] == expected[~close]).all()


@pytest.mark.parametrize("level", [0.3, 0.9999, 1e-30, 0.5000000001, 1 - 2.0**-30])
def test_levels_are_next_to_the_exact_ones(level):
    with mpmath.workdps(60):
        exact = mpmath.log(mpmath.mpf(level) / (1 - mpmath.mpf(level)))
        assert abs(mpmath.mpf(probability(level)) - exact) <= mpmath.mpf(2) ** -53 * abs(exact)
        exact = mpmath.atanh(mpmath.mpf(level))
        assert abs(mpmath.mpf(tangent(level)) - exact) <= mpmath.mpf(2) ** -53 * abs(exact)
    assert probability(0.0) is probability(1.0) is tangent(1.0) is tangent(-1.5) is None


def test_an_inexact_level_is_a_coefficient_and_no_offset(make_model):
    """Everything downstream takes offsets as exact, at x = 0 above all; coefficients have their roundings counted."""
    nodes = chain("Sigmoid", ("Greater", ["*", "third"]))
    *_, scale, shift = from_onnx(ending(make_model, nodes, 1)).nodes
    assert (scale.op.divide, scale.op.terms, shift.op.terms) == (True, 3, 1)
    assert shift.op.offset.abs().item() == 1.0


def test_ties_go_where_the_file_puts_them():
    z = torch.tensor([[-1.0], [0.0], [1.0]], dtype=torch.float64)
    assert Decision("sign", 1).decide(z).tolist() == [0, 0, 1]
    assert Decision("sign", 1, ties=1).decide(z).tolist() == [0, 1, 1]
    for ties in (0, 1):
        assert Decision("sign", 1, ties).keeps_ties(torch.tensor([0, 1])).tolist() == [[ties == 0], [ties == 1]]


def test_networks_that_differ_in_ties_only_have_other_names(make_model):
    w = floats(6, 1)
    hashes = set()
    for op_type in ("Greater", "GreaterOrEqual"):
        nodes = [node("Gemm", ["x", "w"], ["z"]), node(op_type, ["z", "c"], ["y"])]
        model = make_model(nodes, {"w": w, "c": np.float32(0.3)}, (1, 6))
        model.graph.output[0].ClearField("type")
        hashes.add(from_onnx(model).sha256)
    assert len(hashes) == 2


REFUSED = {
    "exp of one": (chain("Exp"), 1, "end0.*is positive everywhere"),
    "one class": (chain("Softmax", ("Gather", ["*", "axis"], {"axis": 1})), 2, "'end1'.*one class.*all scores"),
    "scores read": (chain("Softmax", "Relu"), 4, "'end1'.*reads the result of operator 'Softmax'.*middle"),
    "cut off": (chain("Sigmoid", TO_INT), 1, "'end1'.*whole numbers"),
    "cut off to bool": (chain("Softmax", TO_BOOL), 4, "'end1'.*whole numbers"),
    "index to bool": (chain(CLASS, TO_BOOL), 4, "'end1'.*loses the answer"),
    "sign to bool": (chain("Sign", TO_BOOL), 1, "'end1'.*loses the answer"),
    "several rounded": (chain("Sigmoid", "Round"), 4, "'end1'.*single Sigmoid"),
    "several compared": (chain("Sigmoid", ("Greater", ["*", "half"])), 4, "'end1'.*single score"),
    "always true": (chain("Sigmoid", ("Greater", ["*", "minus"])), 1, "'end1'.*extremes"),
    "arithmetic": (chain("Sigmoid", ("Mul", ["*", "two"])), 1, "'end1'.*moves the level"),
    "a third row": (chain("Softmax", ("Mul", ["*", "w"])), 4, "'end1'.*(differs|more scores)"),
    "log of tanh": (chain("Tanh", "Log"), 4, "'end1'.*may be negative"),
    "argmax over rows": (chain("Softmax", ("ArgMax", ["*"], {"axis": 0})), 4, "over all classes"),
    "softmax over rows": (chain(("Softmax", ["*"], {"axis": 0})), 4, "over all classes"),
    "last of equals": (chain(("ArgMax", ["*"], {"axis": 1, "select_last_index": 1})), 4, "select_last_index"),
    "answer read": (chain(CLASS, TO_FLOAT, "Relu"), 4, "'end2'.*an answer"),
    "selu of the wrong sign": (chain(("Selu", ["*"], {"alpha": -1.0})), 4, "'end0'.*order"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_other_ends_are_refused(make_model, name):
    nodes, outputs, message = REFUSED[name]
    with pytest.raises(UnsupportedOperator, match=message) as caught:
        from_onnx(ending(make_model, nodes, outputs))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        (
            [node("Sigmoid", ["z"], ["s"]), node("Mul", ["s", "z"], ["y"], name="gate")],
            "'gate'.*Sigmoid_1.*SiLU.*ReLU.*train",
        ),
        ([node("Tanh", ["z"], ["s"]), node("Mul", ["z", "s"], ["y"], name="gate")], "'gate'.*tanh"),
        (
            [node("Softmax", ["x"], ["s"]), node("Relu", ["z"], ["v"]), node("MatMul", ["s", "v"], ["y"], name="it")],
            "'it'.*attention",
        ),
        ([node("Sigmoid", ["z"], ["s"]), node("Gemm", ["s", "w"], ["y"], name="it")], "'it'.*in the middle"),
        (
            [node("Sigmoid", ["z"], ["s"]), node("Concat", ["s", "s"], ["y"], axis=1, name="it")],
            "'it'.*one Sigmoid p",
        ),
    ],
)
def test_what_is_said_in_the_middle_of_a_network(make_model, nodes, message):
    with pytest.raises(UnsupportedOperator, match=message):
        from_onnx(ending(make_model, nodes, 1))


@pytest.mark.parametrize(
    ("name", "rule", "other"),
    [("argmax", "argmax", "argmin"), ("> 1/2", "sign", "argmax"), ("argmin", "argmin", "argmax")],
)
def test_another_decision_contradicts_the_file(make_model, name, rule, other):
    model = ending(make_model, *ANSWERS[name])
    assert from_onnx(model, rule).decision.rule == rule
    with pytest.raises(InvalidInput, match="contradicts the model"):
        from_onnx(model, other)


def test_scores_take_the_decision_that_is_asked_for(make_model):
    x = torch.from_numpy(inputs()).double()
    for nodes, outputs in (SCORES["softmax"][:2], SCORES["[1 - p, p]"][:2]):
        model = ending(make_model, nodes, outputs)
        network, lowest = from_onnx(model), from_onnx(model, "argmin")
        assert torch.equal(lowest.predict(x), network.forward(x).argmin(1))


@pytest.mark.parametrize("name", ["<= 0.3", "argmax of [1 - p, p]", "not > 1/2"])
def test_originals_pickle(make_model, name):
    """Workers ask the file too, whatever ends it."""
    network = from_onnx(ending(make_model, *ANSWERS[name]))
    x = torch.from_numpy(inputs()).double()
    copy = pickle.loads(pickle.dumps(network))
    assert torch.equal(copy.original.answers(x), network.original.answers(x))
    assert torch.equal(copy.predict(x), network.predict(x))


class Two(nn.Module):
    """[1 - p, p], stacked."""

    def forward(self, z):
        p = torch.sigmoid(z[:, 0])
        return torch.stack([1 - p, p], 1)


@pytest.mark.parametrize(
    ("end", "outputs", "level"),
    [
        (nn.Sigmoid(), 1, 0.5),
        (nn.Tanh(), 1, 0.0),
        (nn.Softmax(1), 3, None),
        (nn.LogSoftmax(1), 3, None),
        (nn.ELU(), 3, None),
        (Two(), 1, None),
    ],
)
def test_modules_that_end_in_scores(end, outputs, level):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, outputs), end).eval()
    network = from_torch(module, (6,))
    x = torch.randn(200, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 3
    with torch.no_grad():
        y = module.double()(x)
    module.float()
    expected = y.argmax(1) if level is None else (y[:, 0] > level).long()
    assert torch.equal(network.predict(x), expected)
    assert (network.original.answers(x.float().double()) == expected).double().mean() > 0.99


class Decided(nn.Module):
    """An answer: whether a sigmoid is at least 0.3."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 1)

    def forward(self, x):
        return (torch.sigmoid(self.linear(x)) >= 0.3).int()


def test_a_module_that_ends_in_a_threshold():
    torch.manual_seed(0)
    module = Decided().eval()
    network = from_torch(module, (6,))
    x = 5 * torch.randn(200, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = module.double()(x)[:, 0]
    assert 0.1 < expected.double().mean() < 0.9
    assert torch.equal(network.predict(x), expected.long())
