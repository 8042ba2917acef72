"""Partition: the noise cut into boxes as a Proof, each box bounded by decisions of its own.

    p <= P(not G) + sum over boxes of P(error, u in the box, G) + P(u in a box that is given up),

where the boxes fill the whole space (that is checked). A slab is a box that is cut into boxes itself, with a good
event of its own: what that may fail with is added to its boxes, and they count no more than the slab.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from calotte.errors import InvalidInput
from calotte.proofs.chooser import Recorded
from calotte.proofs.half_spaces import check_choices, check_fit, check_heights
from calotte.proofs.local.boxes import Boxes
from calotte.proofs.local.evaluate import evaluate, restricted
from calotte.proofs.local.localise import localise
from calotte.proofs.local.network import LocalNetwork
from calotte.proofs.local.tilted import BoxTilt
from calotte.proofs.local.violations import Slack
from calotte.proofs.proof import Proof, digits, floats, hexadecimal, integers
from calotte.proofs.union import log_sum_up
from calotte.query import Query

__all__ = ["Bounded", "Partition", "Slab"]

_ORTHONORMAL = 1e-6  # what directions may lack: `LocalNetwork.accuracy` bounds what that does to first order


@dataclass(frozen=True, eq=False)
class Bounded:
    """Boxes that are bounded together.

    Attributes:
        boxes: L of them.
        reach: (L, 2, N) heights of the half-spaces for lower and upper bounds of units, in units of the noise's size.
        decisions: on what is paid for, and how exponential moments are taken.
    """

    boxes: Boxes
    reach: Tensor
    decisions: Recorded

    def log_bound(self, local: LocalNetwork) -> Tensor:
        """(L,) upper bounds on log P(error, u in the box, G)."""
        check(self.reach.shape == (len(self.boxes), 2, local.units), "heights for other units")
        check(bool((self.reach >= 0).all()), "heights below 0")
        fit(self.decisions, local, self.boxes, len(local.margins))
        return evaluate(local, self.boxes, self.reach, self.decisions).log_bound


@dataclass(frozen=True, eq=False)
class Slab:
    """A box with a network of its own: what its units' linear bounds there leave unstable.

    Attributes:
        box: one box.
        height: of the half-spaces that are paid for in it, in units of the noise's size; decisions: on them.
        parts: boxes that fill it.
    """

    box: Boxes
    height: float
    decisions: Recorded
    parts: tuple[Bounded, ...]


@dataclass(frozen=True, eq=False)
class Partition(Proof, kind="partition"):
    """A good event of the whole network, directions, and boxes along them.

    Attributes:
        tail, height, choices: as of `GoodHalfSpaces`; each component of the noise along a direction is also taken to
            stay below the height.
        directions: (n, K) orthonormal, in the coordinates of `LocalNetwork.normal`.
        parts: boxes that are bounded for the whole network; slabs: boxes with networks of their own.
        given_up: boxes whose whole measure counts.
    """

    tail: float
    height: float
    choices: Mapping[int, Tensor]
    directions: Tensor
    parts: tuple[Bounded, ...]
    slabs: tuple[Slab, ...]
    given_up: Boxes

    def log_bound(self, query: Query) -> float:
        check_heights(self.tail, self.height)
        check_choices(self.choices)
        check_fit(self.choices, query.network)
        check(query.noise.isotropic, f"{query.noise.kind} noise has no boxes along directions")
        chooser = Recorded({i: choice.reshape(1, -1) for i, choice in self.choices.items()})
        found = localise(query, query.sizes, self.height, self.tail, chooser)
        if found is None:
            return 0.0
        local = self._along(found.network)
        every = [*(part.boxes for part in self.parts), *(slab.box for slab in self.slabs), self.given_up]
        check(Boxes.joined(every).fill(Boxes.whole(local.directions.shape[1])), "boxes that leave a gap")
        logs = [part.log_bound(local) for part in self.parts]
        for slab in self.slabs:
            check(len(slab.box) == 1, "one box for each slab")
            check_heights(0.0, slab.height)
            check(
                Boxes.joined([part.boxes for part in slab.parts]).fill(slab.box), "boxes that leave a gap in a slab"
            )
            fit(slab.decisions, local, slab.box, 0)
            within, _ = restricted(local, slab.box, slab.height, slab.decisions)
            missed = torch.tensor([within.log_missed], dtype=torch.float64)
            total = log_sum_up(torch.cat([*(part.log_bound(within) for part in slab.parts), missed]))
            logs.append(torch.minimum(total, slab.box.log_measure(local.noise, local.m)))
        logs.append(self.given_up.log_measure(local.noise, local.m))
        logs.append(torch.tensor([local.log_missed], dtype=torch.float64))
        return log_sum_up(torch.cat(logs)).item()

    def _along(self, local: LocalNetwork) -> LocalNetwork:
        """The network with the axes of the boxes."""
        v = self.directions
        check(v.ndim == 2 and len(v) == local.normal.shape[1] and bool(v.isfinite().all()), "directions elsewhere")
        lack = (v.t() @ v - torch.eye(v.shape[1], dtype=torch.float64)).norm()
        check(bool(lack <= _ORTHONORMAL), "directions that are not orthonormal")
        return local.along(v, self.height)

    def _written(self) -> dict[str, Any]:
        return {
            "tail": self.tail.hex(),
            "height": self.height.hex(),
            "choices": {str(i): digits(choice) for i, choice in sorted(self.choices.items())},
            "directions": hexadecimal(self.directions),
            "parts": [part_text(part) for part in self.parts],
            "slabs": [
                {
                    "box": boxes_text(slab.box),
                    "height": slab.height.hex(),
                    "decisions": decisions_text(slab.decisions),
                    "parts": [part_text(part) for part in slab.parts],
                }
                for slab in self.slabs
            ],
            "given_up": boxes_text(self.given_up),
        }

    @classmethod
    def _read(cls, written: Mapping[str, Any]) -> Self:
        tail, height = (float.fromhex(written[name]) for name in ("tail", "height"))
        slabs = (
            Slab(
                boxes_of(slab["box"]),
                float.fromhex(slab["height"]),
                decisions_of(slab["decisions"]),
                tuple(map(part_of, slab["parts"])),
            )
            for slab in written["slabs"]
        )
        return cls(
            tail,
            height,
            {int(i): integers(choice) for i, choice in written["choices"].items()},
            floats(written["directions"]),
            tuple(map(part_of, written["parts"])),
            tuple(slabs),
            boxes_of(written["given_up"]),
        )


def check(fits: bool, wrong: str) -> None:
    """Refuse decisions that make no sense for a network.

    Raises:
        InvalidInput: saying what is wrong.
    """
    if not fits:
        raise InvalidInput(f"proof: made for another network, or damaged: {wrong}")


def fit(decisions: Recorded, local: LocalNetwork, boxes: Boxes, margins: int) -> None:
    """Refuse decisions that are not one for each unit, or each form, of a network near an input.

    Args:
        margins: how many are bounded, 0 where none is.

    Raises:
        InvalidInput: they were made for another network.
    """
    count, first = len(boxes), local.groups[0].stop if local.groups else 0
    tilted = {len(local.groups): count * margins} if margins else {}
    for k, group in enumerate(local.groups):
        shape = (count, group.stop - group.start)
        choice = decisions.choices.get(k)
        check(choice is not None and choice.shape == shape, "choices for other units")
        if k:
            wanted = decisions.improved.get(k)
            check(wanted is not None and wanted.shape == shape and wanted.dtype == torch.bool, "other units")
            assert wanted is not None
            tilted[k] = 2 * int(wanted.sum())
    for k, forms in tilted.items():
        tilt = decisions.tilts.get(k)
        check(tilt is not None, "no slopes")
        assert tilt is not None
        sizes = tilt.alpha.shape == (forms, first) and tilt.rate.shape == tilt.which.shape == (forms,)
        check(sizes and tilt.which.dtype == torch.int64, "slopes for other forms")
    if margins:
        slack = decisions.softened
        check(slack is not None, "no slack")
        assert slack is not None
        sizes = slack.margins.shape == (count, margins) and slack.soft.shape == (count, 2, local.units)
        check(sizes and slack.soft.dtype == torch.bool, "slack for other margins or units")
    for mask in {tuple(row) for row in boxes.split.tolist()}:
        check(mask in decisions.known_shapes, "no exponents")


def boxes_text(boxes: Boxes) -> list[dict[str, Any]]:
    """Boxes in JSON."""
    return [hexadecimal(boxes.low), hexadecimal(boxes.high)]


def boxes_of(written: list[dict[str, Any]]) -> Boxes:
    """The boxes that were written."""
    low, high = map(floats, written)
    check(low.ndim == 2 and low.shape == high.shape, "boxes without ends")
    return Boxes(low, high)


def part_text(part: Bounded) -> dict[str, Any]:
    """Boxes and the decisions on them in JSON."""
    decisions = decisions_text(part.decisions)
    return {"boxes": boxes_text(part.boxes), "reach": hexadecimal(part.reach), "decisions": decisions}


def part_of(written: Mapping[str, Any]) -> Bounded:
    """What was written."""
    return Bounded(boxes_of(written["boxes"]), floats(written["reach"]), decisions_of(written["decisions"]))


def decisions_text(decisions: Recorded) -> dict[str, Any]:
    """Decisions in JSON."""
    slack = decisions.softened
    return {
        "choices": {str(k): digits(choice) for k, choice in decisions.choices.items()},
        "improved": {str(k): digits(wanted) for k, wanted in decisions.improved.items()},
        "shapes": {"".join("01"[s] for s in mask): hexadecimal(t) for mask, t in decisions.known_shapes.items()},
        "tilts": {
            str(k): {"slopes": hexadecimal(t.alpha), "which": t.which.tolist(), "rate": hexadecimal(t.rate)}
            for k, t in decisions.tilts.items()
        },
        "slack": slack and {"margins": hexadecimal(slack.margins), "soft": digits(slack.soft)},
    }


def decisions_of(written: Mapping[str, Any]) -> Recorded:
    """The decisions that were written."""
    slack = written["slack"]
    tilts = {
        int(k): BoxTilt(floats(t["slopes"]), torch.tensor(t["which"], dtype=torch.int64), floats(t["rate"]))
        for k, t in written["tilts"].items()
    }
    return Recorded(
        {int(k): integers(choice) for k, choice in written["choices"].items()},
        {int(k): integers(wanted).to(torch.bool) for k, wanted in written["improved"].items()},
        {tuple(c == "1" for c in mask): floats(t) for mask, t in written["shapes"].items()},
        tilts,
        slack and Slack(floats(slack["margins"]), integers(slack["soft"]).to(torch.bool)),
    )
