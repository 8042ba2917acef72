"""Inputs from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calotte.errors import InvalidInput
from calotte.inputs import parse_index, read_array, read_inputs

DATA = Path(__file__).parents[2] / "shared" / "data"


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


@pytest.mark.skipif(not DATA.exists(), reason="the real networks' data is not beside the project")
def test_real_properties() -> None:
    for path in sorted(DATA.rglob("*.vnnlib")):
        read = read_inputs(path)
        assert np.isfinite(read.x).all()
    mnist = read_inputs(DATA / "mnistfc" / "prop_0_0.03.vnnlib")
    assert mnist.labels is not None
    assert (mnist.x.shape, mnist.labels.tolist()) == ((1, 784), [8])  # "Mnist property with label: 8."
