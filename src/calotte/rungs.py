"""The rungs of the ladder and the rare-event methods by their names, and those that are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from calotte.bound import Rung
from calotte.checks import names_of
from calotte.errors import InvalidInput
from calotte.ladder import PROVED_RUNGS
from calotte.sampling.alore import ALORE
from calotte.sampling.estimate import Estimator
from calotte.sampling.importance import IMPORTANCE
from calotte.sampling.isoperimetry import ISOPERIMETRY
from calotte.sampling.monte_carlo import SAMPLING
from calotte.sampling.splitting import SPLITTING

__all__ = ["ESTIMATORS", "RUNGS", "select_estimators", "select_rungs"]

RUNGS: dict[str, Rung] = {**PROVED_RUNGS, ISOPERIMETRY.name: ISOPERIMETRY, SAMPLING.name: SAMPLING}
ESTIMATORS: dict[str, Estimator] = {one.method: one for one in (SPLITTING, IMPORTANCE, ALORE)}
R = TypeVar("R", bound=Rung)
_OPT_IN = ("isoperimetry",)  # rungs that are taken where they are named, or all of them, only


def select_rungs(names: Sequence[str] | None, known: Mapping[str, R]) -> list[R]:
    """Rungs by name in the ladder's order; "all" for all of them, None or "default" for all but those to opt in to.

    Raises:
        InvalidInput: a name that is none of them, or no name.
    """
    names = names_of("rungs", "default" if names is None else names)
    if names == ["default"]:
        return [rung for name, rung in known.items() if name not in _OPT_IN]
    if names == ["all"]:
        return list(known.values())
    for name in names:
        if name not in known:
            why = "no rung" if name not in RUNGS else "not available here"
            raise InvalidInput(f"rung '{name}': {why}; choose from {', '.join(known)}, or all")
    if not names:
        raise InvalidInput(f"no rungs asked for; choose from {', '.join(known)}, or all")
    return [rung for name, rung in known.items() if name in names]


def select_estimators(names: Sequence[str]) -> list[Estimator]:
    """Rare-event methods by name; "all" for all of them, nothing or "none" for none.

    Raises:
        InvalidInput: a name that is none of them.
    """
    names = names_of("estimates", names)
    if names in ([], ["none"]):
        return []
    if names == ["all"]:
        return list(ESTIMATORS.values())
    for name in names:
        if name not in ESTIMATORS:
            raise InvalidInput(f"estimate '{name}': choose from {', '.join(ESTIMATORS)}, all or none")
    return [estimator for name, estimator in ESTIMATORS.items() if name in names]
