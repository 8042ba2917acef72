"""Inputs from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from calotte.errors import InvalidInput
from calotte.inputs import Inputs, parse_index, read_array, read_inputs
from calotte.network.decision import Decision
from calotte.network.graph import Network, Node, Relu
from calotte.network.random import random_network


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", [3]), ("0:4", [0, 1, 2, 3]), (":2", [0, 1]), ("7:", [7, 8, 9]), ("0:10:3", [0, 3, 6, 9]),
        ("1, 5:7", [1, 5, 6]), ("8:100", [8, 9]),
    ],
)  # fmt: skip
def test_index(text: str, expected: list[int]) -> None:
    assert parse_index(text, 10) == expected


@pytest.mark.parametrize("text", ["", "x", "1:2:0", "-1", "3,3", "5:5", "1.5", "0:3,2"])
def test_bad_index(text: str) -> None:
    with pytest.raises(InvalidInput, match="index"):
        parse_index(text, 10)


def test_selection_keeps_labels_and_numbers(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(12.0).reshape(4, 3), y=np.arange(4))
    chosen = read_inputs(tmp_path / "a.npz").select([2, 0])
    assert chosen.x.tolist() == [[6, 7, 8], [0, 1, 2]]
    assert chosen.labels is not None
    assert chosen.labels.tolist() == chosen.index == [2, 0]


def test_csv_without_header(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1,2.5\n\n-3,4e-2\n")
    read = read_inputs(tmp_path / "a.csv")
    assert read.labels is None
    assert read.x.tolist() == [[1, 2.5], [-3, 0.04]]


def test_csv_label_column_anywhere(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("p, Label ,q\n1,2,3\n4,0,6\n")
    read = read_inputs(tmp_path / "a.csv")
    assert read.x.tolist() == [[1, 3], [4, 6]]
    assert read.labels is not None
    assert read.labels.tolist() == [2, 0]


BOX = """; a comment (assert (<= X_0 7))
(declare-const X_0 Real)
(declare-const X_1 Real)
(declare-const Y_0 Real)
(declare-const Y_1 Real)
(declare-const Y_2 Real)
(assert (<= X_0 3.0))
(assert (>= X_0 1.0))
(assert ( >= X_1 -2e-1 ))
(assert (<= X_1 0.4))
"""


def test_vnnlib_centre_and_label(tmp_path: Path) -> None:
    path = tmp_path / "p.vnnlib"
    path.write_text(BOX + "(assert (or (and (>= Y_0 Y_1)) (and (>= Y_2 Y_1))))")
    read = read_inputs(path)
    assert read.x.tolist() == [[2.0, pytest.approx(0.1)]]
    assert read.labels is not None
    assert read.labels.tolist() == [1]


@pytest.mark.parametrize(
    "output",
    [
        "",
        "(assert (>= Y_0 Y_1))",
        "(assert (or (and (>= Y_0 Y_1)) (and (>= Y_1 Y_2))))",
        "(assert (or (and (>= Y_0 Y_1))))",
        "(assert (<= Y_0 3.5))",
    ],
)
def test_vnnlib_without_a_label(tmp_path: Path, output: str) -> None:
    path = tmp_path / "p.vnnlib"
    path.write_text(BOX + output)
    assert read_inputs(path).labels is None


@pytest.mark.parametrize(
    ("cut", "said"), [("(assert (<= X_0 3.0))", "X_0 has no box"), ("(declare-const X_1 Real)\n", "X_1")]
)
def test_broken_boxes(tmp_path: Path, cut: str, said: str) -> None:
    path = tmp_path / "p.vnnlib"
    path.write_text(BOX.replace(cut, ""))
    with pytest.raises(InvalidInput, match=said):
        read_inputs(path)


def test_a_maps_file(tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", np.eye(2, dtype=np.float32))
    assert read_array(tmp_path / "s.npy").dtype == np.float64
    with pytest.raises(InvalidInput, match="folder"):
        read_array(tmp_path)


def test_real_properties(data: Path) -> None:
    for path in sorted(data.rglob("*.vnnlib")):
        read = read_inputs(path)
        assert np.isfinite(read.x).all()
    mnist = read_inputs(data / "mnistfc" / "prop_0_0.03.vnnlib")
    assert mnist.labels is not None
    assert (mnist.x.shape, mnist.labels.tolist()) == ((1, 784), [8])  # "Mnist property with label: 8."


def written(folder: Path, text: str, name: str = "a.csv") -> Path:
    (folder / name).write_text(text)
    return folder / name


def three() -> Network:
    """A network that takes three numbers and knows four classes."""
    return random_network((3, 4), torch.Generator().manual_seed(0))


NUMBERED = "\n".join([",".join(map(str, range(9))), ",".join(["7"] * 9)])
WANTED = [[0.5, -2.0, 30.0], [4.0, 5.25, 6.0]]
TABLES = {
    "semicolons": ("0.5;-2;30\n4;5.25;6", "semicolons"),
    "tabs": ("0.5\t-2\t3e1\n4\t5.25\t6", "tabs"),
    "decimal commas": ("0,5;-2;3e1\n4;5,25;6", "decimal commas"),
    "decimal commas and tabs": ("a\tb\tc\n0,5\t-2\t30\n4\t5,25\t6", "decimal commas"),
    "numbers of columns": ("0,1,2\n0.5,-2,30\n4,5.25,6", "0 to 2, is taken as numbers of columns"),
    "numbers of columns from 1": ("1,2,3\n0.5,-2,30\n4,5.25,6", "1 to 3, is taken as numbers of columns"),
    "a counted table": (",a,b,c\n0,0.5,-2,30\n1,4,5.25,6", "counts the rows"),
    "a counted table of numbered columns": (",0,1,2\n0,0.5,-2,30\n1,4,5.25,6", "counts the rows"),
    "byte order mark and blank lines": ("\ufeff\n0.5,-2,30\n\n4,5.25,6\n\n", ""),
}


@pytest.mark.parametrize(("text", "notice"), TABLES.values(), ids=TABLES)
def test_tables_as_people_write_them(tmp_path: Path, text: str, notice: str) -> None:
    read = read_inputs(written(tmp_path, text))
    assert read.x.tolist() == WANTED
    assert notice in " ".join(read.notices)
    assert bool(read.notices) == bool(notice)


def test_a_line_of_column_numbers_is_no_input(tmp_path: Path) -> None:
    assert read_inputs(written(tmp_path, NUMBERED)).x.tolist() == [[7.0] * 9]
    labelled = read_inputs(written(tmp_path, "label,0,1\n3,0,1\n2,5,6"))
    assert labelled.labels is not None
    assert (labelled.x.tolist(), labelled.labels.tolist()) == ([[0, 1], [5, 6]], [3, 2])


@pytest.mark.parametrize("name", ["class", "Target", "y"])
def test_labels_by_other_names_where_there_is_a_column_too_many(tmp_path: Path, name: str) -> None:
    read = read_inputs(written(tmp_path, f"{name},a,b,c\n2,0.5,-2,30\n0,4,5.25,6")).fitted(three())
    assert read.labels is not None
    assert (read.x.tolist(), read.labels.tolist()) == (WANTED, [2, 0])
    assert "taken as labels" in read.notices[-1]
    features = read_inputs(written(tmp_path, f"a,b,{name}\n0.5,-2,30\n4,5.25,6")).fitted(three())
    assert (features.x.tolist(), features.labels) == (WANTED, None), "a coordinate named y is one where it is needed"


def test_one_hot_labels_and_a_single_label_of_an_archive(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.ones((3, 2)), y=np.eye(4)[[2, 0, 3]])
    labels = read_inputs(tmp_path / "a.npz").labels
    assert labels is not None
    assert labels.tolist() == [2, 0, 3]
    np.savez(tmp_path / "a.npz", x=np.ones(3), y=2)
    single = read_inputs(tmp_path / "a.npz").fitted(three())
    assert single.labels is not None
    assert (single.x.shape, single.labels.tolist()) == ((1, 3), [2])
    np.savez(tmp_path / "a.npz", x=np.ones((3, 2)), y=np.ones((3, 4)))
    with pytest.raises(InvalidInput, match="single 1 in each row"):
        read_inputs(tmp_path / "a.npz")


BAD_TABLES = {
    "bad cell": ("a,b,c\n1,2,3\n4,x5,6", r"row 3 of the file, column 2 \('b'\): 'x5' is no number"),
    "bad cell in the first line": ("0.1,oops,3\n1,2,3", "row 1 of the file, column 2: 'oops'"),
    "bad cell after blank lines": ("1.5,2,3\n\n\n4,5,\n", "row 4 of the file, column 3: ''"),
    "an underscore": ("1.5,2,1_0\n", "column 3: '1_0'"),
    "words as labels": ("a,b,c,label\n1,2,3,cat", "write the number of the class"),
    "fractional labels": ("a,label\n1,2\n1,0.5", "row 3 of the file: the label 0.5"),
    "two columns of labels": ("label,a,Label\n1,2,3", "two columns"),
    "mixed decimal marks": ("1,5;2.5\n3;4", "write all decimal marks as points"),
    "spaces": ("1.5 2 3\n4 5 6", "separate the numbers by commas"),
    "a short line of whole numbers": ("0,1\n1,0\n1,1", "may be an input or number the columns"),
    "only a line that counts": (",".join(map(str, range(20))), "may be an input or number the columns"),
    "ragged": ("1.5,2,3\n4,5", "row 2 of the file has 2 columns, row 1 has 3"),
    "ragged below a header": ("a,b\n4,5,6", "row 2 of the file has 3 columns, the header has 2"),
    "no rows": ("a,b,c\n", "below the header"),
}


@pytest.mark.parametrize(("text", "said"), BAD_TABLES.values(), ids=BAD_TABLES)
def test_bad_tables_are_refused_by_their_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        read_inputs(written(tmp_path, text))


WRONG_WIDTHS = {
    "labels first": ("2,0.5,1,1\n3,0.5,1,1", "first column holds whole numbers from 0 to 3.*'label'"),
    "labels last": ("0.5,1,1,2\n0.5,1,1,3", "last column holds whole numbers"),
    "one too many": ("0.5,1,1,2.5", "one column too many"),
    "one-hot": ("0.5,1,1,0,0,1,0\n0.5,1,1,1,0,0,0", "last 4 columns are labels, one-hot"),
    "decimal commas": ("2,5,3,5,4,5", "decimal commas"),
    "inputs in columns": ("0.5,1\n0.5,1\n0.5,1", "Transpose"),
    "labels under a name, of words": ("a,b,c,class\n1,2,3,0.5", "whole numbers"),
}


@pytest.mark.parametrize(("text", "said"), WRONG_WIDTHS.values(), ids=WRONG_WIDTHS)
def test_tables_of_the_wrong_width_are_recognised(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=f"(?s){said}"):
        read_inputs(written(tmp_path, text)).fitted(three())


def image_network(*shape: int) -> Network:
    """A network that takes images of that shape."""
    size = int(np.prod(shape))
    return Network((Node("x", None), Node("relu", Relu(shape), (0,))), shape, Decision("argmax", size))


def test_layouts_put_every_pixel_in_its_place() -> None:
    channels_first = np.arange(2.0 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    channels_last = channels_first.transpose(0, 2, 3, 1)
    for shape, wanted in (((3, 4, 5), channels_first), ((4, 5, 3), channels_last)):
        network = image_network(*shape)
        for layout, x in (("NCHW", channels_first), ("NHWC", channels_last)):
            for rows in (slice(None), 0):
                fitted = Inputs(x[rows], None, [0, 1]).fitted(network, layout)  # type: ignore[arg-type]
                assert (
                    network.inputs(fitted.x).reshape(-1, *shape).tolist() == wanted[rows].reshape(-1, *shape).tolist()
                )
    with pytest.raises(InvalidInput, match="--layout NHWC"):
        Inputs(channels_last, None, [0, 1]).fitted(image_network(3, 4, 5))


def test_what_a_flat_side_leaves_open_is_said() -> None:
    for rows, shape, open_order in (
        ((3, 4, 5), (60,), True), ((60,), (3, 4, 5), True), ((4, 15), (60,), False), ((60,), (1, 4, 15), False),
        ((3, 4, 5), (3, 4, 5), False),
    ):  # fmt: skip
        notices = Inputs(np.ones((2, *rows)), None, [0, 1]).fitted(image_network(*shape)).notices
        assert ["in the order of their numbers" in notice for notice in notices] == [True] * open_order


@pytest.mark.parametrize(
    ("x", "shape", "said"),
    [
        (np.ones((2, 60)), (3, 4, 5), "three axes"),
        (np.ones((2, 3, 4, 5)), (60,), "three axes"),
        (np.ones((2, 3, 3, 3)), (3, 3, 3), "cannot be told"),
        (np.ones((2, 5, 4, 3)), (3, 4, 5), "the network takes"),
    ],
)
def test_layouts_that_do_not_fit(x: np.ndarray, shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        Inputs(x, None, [0, 1]).fitted(image_network(*shape), "NHWC")


DECLARED = "(declare-const X_0 Real) (declare-const X_1 Real) (declare-const Y_0 Real) (declare-const Y_1 Real)"
SECOND = "(assert (and (<= X_1 1) (>= X_1 0)))"
BOXES = {
    "bounds intersect": ("(assert (>= X_0 0)) (assert (<= X_0 1)) (assert (<= X_0 10)) (assert (>= X_0 -3))", 0.5),
    "and": ("(assert (and (>= X_0 0) (and (<= X_0 1) (<= X_0 2))))", 0.5),
    "or of one box": ("(assert (or (and (>= X_0 0) (<= X_0 1))))", 0.5),
    "or of one box with outputs": ("(assert (or (and (>= X_0 0) (<= X_0 1) (<= Y_0 Y_1))))", 0.5),
    "numbers first": ("(assert (<= 0 X_0)) (assert (>= 1 X_0))", 0.5),
    "scientific": ("(assert (>= X_0 -1.5e-3)) (assert (<= X_0 +2.5E-3))", 5e-4),
    "terms": ("(assert (>= X_0 (- 3))) (assert (<= X_0 (/ 7 2)))", 0.25),
    "equal": ("(assert (= X_0 0.75))", 0.75),
}


@pytest.mark.parametrize(("text", "centre"), BOXES.values(), ids=BOXES)
def test_boxes_as_properties_write_them(tmp_path: Path, text: str, centre: float) -> None:
    path = written(tmp_path, f"{DECLARED}\n{text}\n{SECOND} (check-sat)", "p.vnnlib")
    assert read_inputs(path).x.tolist() == [[pytest.approx(centre, rel=1e-12), 0.5]]


LOW, HIGH = "(assert (>= X_0 0))", "(assert (<= X_0 1))"
BAD_PROPERTIES = {
    "two boxes": "(assert (or (and (>= X_0 0) (<= X_0 1)) (and (>= X_0 2) (<= X_0 3))))",
    "empty box": f"{LOW}{HIGH}(assert (>= X_0 2))",
    "--1": "(assert (>= X_0 --1))" + HIGH,
    "a word for a number": "(assert (>= X_0 low))" + HIGH,
    "a sum": LOW + HIGH + "(assert (<= (+ X_0 X_1) 1))",
    "a strict bound": "(assert (> X_0 0))" + HIGH,
    "an input against an output": LOW + HIGH + "(assert (<= X_0 Y_0))",
    "two inputs": LOW + HIGH + "(assert (<= X_0 X_1))",
    "not": LOW + HIGH + "(assert (not (>= X_0 0.5)))",
    "undeclared": LOW + HIGH + "(assert (<= X_7 1))",
    "a name of another kind": LOW + HIGH + "(assert (<= X_a 1))",
    "an unknown command": LOW + HIGH + "(define-fun f () Real 1.0)",
    "infinite": "(assert (>= X_0 -1e999))" + HIGH,
    "division by zero": "(assert (>= X_0 (/ 1 0)))" + HIGH,
    "a bracket too many": LOW + HIGH + ")",
    "a bracket too few": LOW + HIGH + "(assert (>= X_1 0)",
    "no upper bound": LOW,
    "nested without end": "(" * 5000,
}


@pytest.mark.parametrize("text", BAD_PROPERTIES.values(), ids=BAD_PROPERTIES)
def test_what_a_property_says_of_inputs_is_understood_or_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidInput, match="vnnlib"):
        read_inputs(written(tmp_path, f"{DECLARED}{SECOND}{text}", "p.vnnlib"))
