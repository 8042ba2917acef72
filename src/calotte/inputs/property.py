"""The event of a VNN-LIB 1.0 property: what it asserts of the outputs, as cases of linear inequalities."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calotte.errors import InvalidInput
from calotte.inputs.vnnlib import Term, number_of, read_property, said, variable_of
from calotte.network.event import Event

__all__ = ["read_event", "read_half_widths"]

_MOST_CASES = 10_000

Form = dict[int, Fraction]  # output -> coefficient; the constant under -1
Conjunction = tuple[Form, ...]


def read_event(path: Path) -> Event:
    """The event that a property calls unsafe: all that it asserts of the outputs holds.

    Read are <=, >= and = between sums, differences and multiples of outputs and numbers, under any nesting of `and`
    and `or`; coefficients are rounded to the nearest float64.

    Raises:
        InvalidInput: no such property, or its outputs are not understood or not there.
    """
    found = read_property(path)
    try:
        cases: list[Conjunction] = [()]
        for term in found.terms:
            cases = joined(cases, cases_of(term))
        if cases == [()]:
            raise InvalidInput("it says nothing of the outputs, so that there is no event")
        return Event([[row_of(form, found.outputs) for form in case] for case in cases], path.name)
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}") from None


def read_half_widths(path: Path) -> NDArray[np.float64]:
    """Half of the widths (d,) of the box of a property's inputs.

    Raises:
        InvalidInput: no such property.
    """
    found = read_property(path)
    return (found.high - found.low) / 2


def cases_of(term: Term) -> list[Conjunction]:
    """A term as a disjunction of conjunctions of forms <= 0."""
    match term:
        case ["and", *parts] if parts:
            cases: list[Conjunction] = [()]
            for part in parts:
                cases = joined(cases, cases_of(part))
            return cases
        case ["or", *parts] if parts:
            return [case for part in parts for case in cases_of(part)]
        case [("<=" | "<"), a, b]:
            return [(difference(a, b),)]
        case [(">=" | ">"), a, b]:
            return [(difference(b, a),)]
        case ["=", a, b]:
            return [(difference(a, b), difference(b, a))]
        case _:
            raise InvalidInput(f"'{said(term)}' is not understood: expected inequalities under 'and' and 'or'")


def joined(some: list[Conjunction], others: list[Conjunction]) -> list[Conjunction]:
    """The conjunction of two disjunctions."""
    if len(some) * len(others) > _MOST_CASES:
        raise InvalidInput(f"its outputs have more than {_MOST_CASES} cases")
    return [a + b for a, b in product(some, others)]


def difference(a: Term, b: Term) -> Form:
    """a - b as a linear form."""
    return added(linear(a), linear(b), Fraction(-1))


def linear(term: Term) -> Form:
    """A term as a linear form of the outputs."""
    output = variable_of(term, "Y")
    if output is not None:
        return {output: Fraction(1)}
    match term:
        case ["+", *parts] if parts:
            total: Form = {}
            for part in parts:
                total = added(total, linear(part))
            return total
        case ["-", a]:
            return added({}, linear(a), Fraction(-1))
        case ["-", a, b]:
            return difference(a, b)
        case ["*", a, b]:
            forms = linear(a), linear(b)
            for number, form in (forms, forms[::-1]):
                if number.keys() <= {-1}:
                    return added({}, form, number.get(-1, Fraction(0)))
            raise InvalidInput(f"'{said(term)}' is not linear")
        case _:
            return {-1: Fraction(number_of(term, term))}


def added(form: Form, other: Form, factor: Fraction = Fraction(1)) -> Form:
    """form + factor * other."""
    return {k: form.get(k, Fraction(0)) + factor * other.get(k, Fraction(0)) for k in {**form, **other}}


def row_of(form: Form, outputs: int) -> tuple[list[float], float]:
    """A form as a row of coefficients and a constant."""
    if max(form) >= outputs:
        raise InvalidInput(f"Y_{max(form)} is not declared")
    return [float(form.get(k, 0)) for k in range(outputs)], float(form.get(-1, 0))
