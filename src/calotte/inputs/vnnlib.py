"""VNN-LIB 1.0: the box of the inputs of a property, what it says of the outputs, and the label where it names one.

Understood are declarations `(declare-const X_i Real)` and asserted bounds of single inputs, alone or under `and`, or
under an `or` of one case: several bounds on one input intersect. Constraints on outputs only are not needed for the
box. Anything else about an input is refused, lest it be ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calotte.errors import InvalidInput
from calotte.inputs.inputs import Inputs

__all__ = ["Property", "Term", "number_of", "read_property", "read_vnnlib", "said", "variable_of"]

_TOKEN = re.compile(r"[()]|[^\s()]+")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_VARIABLE = re.compile(r"([XY])_(\d+)", re.ASCII)
_WITHOUT_MEANING = ("set-logic", "set-info", "set-option", "check-sat", "get-model", "exit")

_DEEPEST = 100

Term = str | list["Term"]


@dataclass(frozen=True)
class Property:
    """A property: the ends (d,) of its box of inputs, the terms asserted of its outputs, and how many there are."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    terms: list[Term]
    outputs: int


def read_vnnlib(path: Path) -> Inputs:
    """The centre of the input box of a VNN-LIB 1.0 property as one input.

    Raises:
        InvalidInput: as for `read_property`.
    """
    found = read_property(path)
    centre = found.low + (found.high - found.low) / 2
    return Inputs(centre[None], _label(found.terms, found.outputs), [0])


def read_property(path: Path) -> Property:
    """A VNN-LIB 1.0 property.

    Raises:
        InvalidInput: no such property, or one that says of its inputs what is not understood.
    """
    try:
        text = re.sub(r";[^\n]*", "", path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise InvalidInput(f"{path}: not a text file") from None
    try:
        return _property(text)
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}") from None


def _property(text: str) -> Property:
    declared: dict[str, set[int]] = {"X": set(), "Y": set()}
    asserted: list[Term] = []
    for term in _terms(text):
        match term:
            case ["declare-const", str(name), "Real"] | ["declare-fun", str(name), [], "Real"] if (
                variable := _VARIABLE.fullmatch(name)
            ):
                declared[variable[1]].add(int(variable[2]))
            case ["assert", body]:
                asserted.append(body)
            case [str(word), *_] if word in _WITHOUT_MEANING:
                pass
            case _:
                raise InvalidInput(
                    f"'{said(term)}' is not understood: expected (declare-const X_i Real) and (assert ...)"
                )
    size = len(declared["X"])
    if size == 0:
        raise InvalidInput("no '(declare-const X_i Real)': not a VNN-LIB 1.0 property")
    if declared["X"] != set(range(size)):
        raise InvalidInput(f"X_{min(set(range(size)) - declared['X'])} is not declared, though later inputs are")
    low, high = np.full(size, -np.inf), np.full(size, np.inf)
    outputs: list[Term] = []
    for body in asserted:
        for k, relation, number in _bounds(body, outputs):
            if k >= size:
                raise InvalidInput(f"X_{k} is not declared")
            if relation in ("<=", "="):
                high[k] = min(high[k], number)
            if relation in (">=", "="):
                low[k] = max(low[k], number)
    for k, (least, most) in enumerate(zip(low, high, strict=True)):
        if not np.isfinite([least, most]).all():
            raise InvalidInput(f"X_{k} has no box '(assert (<= X_{k} number))' and '(assert (>= X_{k} number))'")
        if least > most:
            raise InvalidInput(f"the box of X_{k} is empty: at least {least:g} and at most {most:g}")
    if declared["Y"] != set(range(len(declared["Y"]))):
        raise InvalidInput("its outputs Y_0, Y_1, ... are not declared one after the other")
    return Property(low, high, outputs, len(declared["Y"]))


def _terms(text: str) -> Iterator[Term]:
    """The parenthesised terms of the text as nested lists."""
    open_lists: list[list[Term]] = [[]]
    for token in _TOKEN.findall(text):
        if token == "(":
            open_lists.append([])
            if len(open_lists) > _DEEPEST:
                raise InvalidInput(f"terms are nested more than {_DEEPEST} deep")
        elif token != ")":
            open_lists[-1].append(token)
        elif len(open_lists) == 1:
            raise InvalidInput("a ')' too many")
        else:
            closed = open_lists.pop()
            open_lists[-1].append(closed)
    if len(open_lists) > 1:
        raise InvalidInput("a ')' is missing at the end")
    yield from open_lists[0]


def _bounds(term: Term, outputs: list[Term]) -> Iterator[tuple[int, str, float]]:
    """Bounds (input, relation, number) that an asserted term puts on inputs; terms on outputs go to `outputs`."""
    if not _mentions(term, "X"):
        outputs.append(term)
        return
    match term:
        case ["and", *parts] | ["or", *parts] if term[0] == "and" or len(parts) == 1:
            for part in parts:
                yield from _bounds(part, outputs)
        case ["or", *parts]:
            raise InvalidInput(
                f"an 'or' of {len(parts)} cases about the inputs: one box is needed; "
                "write each case to a file of its own"
            )
        case [("<=" | ">=" | "=") as relation, str(name), number] if variable := _VARIABLE.fullmatch(name):
            yield int(variable[2]), relation, number_of(number, term)
        case [("<=" | ">=" | "=") as relation, number, str(name)] if variable := _VARIABLE.fullmatch(name):
            yield int(variable[2]), {"<=": ">=", ">=": "<=", "=": "="}[relation], number_of(number, term)
        case _:
            raise InvalidInput(
                f"'{said(term)}' is not understood: expected bounds of single inputs, "
                "(<= X_i number) or (>= X_i number)"
            )


def number_of(term: Term, where: Term) -> float:
    """A decimal number, -(a number) or a quotient of two, as the nearest float64."""
    match term:
        case str() if _NUMBER.fullmatch(term):
            number = float(term)
        case ["-", str(a)] if _NUMBER.fullmatch(a):
            number = -float(a)
        case ["/", str(a), str(b)] if _NUMBER.fullmatch(a) and _NUMBER.fullmatch(b) and Fraction(b) != 0:
            number = float(Fraction(a) / Fraction(b))
        case _:
            raise InvalidInput(f"'{said(term)}' in '{said(where)}' is no number")
    if not np.isfinite(number):
        raise InvalidInput(f"'{said(term)}' in '{said(where)}' is too large for float64")
    return number


def _label(outputs: list[Term], count: int) -> NDArray[np.int64] | None:
    """The class l of 'or over all k != l of Y_k >= Y_l': the property is violated where l is not the largest."""
    if len(outputs) != 1:
        return None
    rivals = set()
    term = outputs[0]
    for case in term[1:] if term[0] == "or" else [term]:
        match case:
            case ["and", part]:
                case = part
        match case:
            case [">=", str(rival), str(label)] | ["<=", str(label), str(rival)]:
                rivals.add((rival, label))
            case _:
                return None
    for one in range(count):
        if rivals == {(f"Y_{k}", f"Y_{one}") for k in range(count) if k != one}:
            return np.array([one])
    return None


def variable_of(term: Term, kind: str) -> int | None:
    """i where the term is the variable X_i (or Y_i) of this kind, else None."""
    found = _VARIABLE.fullmatch(term) if isinstance(term, str) else None
    return int(found[2]) if found and found[1] == kind else None


def _mentions(term: Term, kind: str) -> bool:
    """Whether a variable X_i (or Y_i), or what looks like one, is somewhere in the term."""
    if isinstance(term, str):
        return term.startswith(kind)
    return any(_mentions(part, kind) for part in term)


def said(term: Term, most: int = 80) -> str:
    """A term as text, for messages."""
    text = term if isinstance(term, str) else f"({' '.join(said(part, 10**6) for part in term)})"
    return text if len(text) <= most else f"{text[:most]} ..."
