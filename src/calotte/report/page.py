"""The page of a run: one HTML file with claim, distributions, curves and a table to sort and filter; no network."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from calotte.assessment import Assessment, by_risk
from calotte.ladder import PROVED_RUNGS
from calotte.noise import EPS
from calotte.plot import by_class, probabilities, radii, scatter, sizes
from calotte.printing import number, probability_text, span
from calotte.report.inventory import inventory
from calotte.report.kept import Kept
from calotte.report.originals import Originals
from calotte.report.standing import claim, levels, standing
from calotte.report.svg import svg
from calotte.report.words import remarks
from calotte.theorems import log_target

__all__ = ["page"]


@dataclass(frozen=True)
class Picture:
    """A picture and the words under it."""

    drawing: Markup
    title: str
    words: str


def page(runs: Sequence[Kept], delta: float, originals: Originals | None = None, notices: Sequence[str] = ()) -> str:
    """The HTML of a page about the first of the runs; others, of other sizes of the noise, add a table and curves.

    Args:
        runs: at least one.
        delta: the probability that bounds are held against.
        originals: the inputs themselves, where they are known.
        notices: what the reader should know about the page itself.
    """
    main = runs[0]
    found = by_risk(main.assessments)
    first = found[0]
    parts = files("calotte.report")
    one, together = levels(found)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((parts / "page.html").read_text(encoding="utf-8"))
    return template.render(
        style=Markup((parts / "page.css").read_text(encoding="utf-8")),
        script=Markup((parts / "page.js").read_text(encoding="utf-8")),
        claim=claim(found, delta, model_name(main)),
        command=str(main.about.get("command", "")),
        delta=repr(delta),
        standing=standing(found, delta),
        first=first,
        too_few=too_few(found, delta),
        quantiles=quantiles(found),
        pictures=[*pictures(found, delta), *(sweep(runs, delta) if len(runs) > 1 else [])],
        sizes=[(run.assessments[0], standing(run.assessments, delta)) for run in runs],
        eps=span(one.eps for one in found),
        sigma=span(one.sigma for one in found),
        eps_is=EPS[first.noise],
        own_sizes=len({one.eps for one in found}) > 1,
        largest=first.eps == max(run.assessments[0].eps for run in runs),
        remarks=remarks(found),
        failures=main.failures,
        notices=notices,
        proved=[rung for rung in PROVED_RUNGS.values() if any(b.rung == rung.name for b in first.bounds)],
        statistical=[b for b in first.bounds if b.guarantee == "confidence"],
        level=one,
        together=together,
        sampled=sum(b.guarantee == "confidence" and b.skipped is None for a in found for b in a.bounds),
        about=about(main),
        unmarked=unmarked,
        inventory=inventory(found, delta, originals),
    )


def unmarked(text: str) -> str:
    """A text without the marks of Markdown; of links what they are called."""
    return re.sub(r"\[([^]]*)\]\([^)]*\)|\*([^*]*)\*", lambda found: found[1] or found[2], text)


def model_name(run: Kept) -> str:
    """The first file of the model, or nothing that says more than that it is one."""
    return next(iter(run.about["model"].get("files") or ()), "the network")


def too_few(found: Sequence[Assessment], delta: float) -> str | None:
    """What to say where samples were too few to speak about delta, however the answers came out."""
    clean = [b for one in found for b in one.bounds if b.misclassified == 0 and b.log_misclassification < 0]
    if not clean or min(b.log_misclassification for b in clean) <= log_target(delta):
        return None
    best = min(clean, key=lambda bound: bound.log_misclassification)
    return (
        f"{best.samples} samples, none of which changed the answer, bound p by "
        f"{probability_text(best.log_misclassification)} only: it takes more --samples to speak about p ≤ {delta!r}, "
        "and inputs count as at risk until then unless it is proved."
    )


def quantiles(found: Sequence[Assessment]) -> list[tuple[str, list[str]]]:
    """Rows of a small table: the worst input, the worst tenth, the median, the best tenth; safe to quote."""
    places = [0, len(found) // 10, len(found) // 2, (9 * len(found)) // 10]

    def row(values: Sequence[float], worst_first: bool, text: Callable[[float], str]) -> list[str]:
        ordered = sorted(values, reverse=worst_first)
        return [text(ordered[k]) for k in places]

    def sampled(one: Assessment) -> float:
        return min((b.log_misclassification for b in one.bounds if b.guarantee == "confidence"), default=0.0)

    rows = [
        ("proved: p is at most", row([one.best.log_misclassification if one.best else 0.0 for one in found], True,
                                     probability_text)),
    ]  # fmt: skip
    if any(b.guarantee == "confidence" for b in found[0].bounds):
        rows.append(("sampled: p is at most", row([sampled(one) for one in found], True, probability_text)))
    known = [float("inf") if one.certified_radius is None else one.certified_radius for one in found]
    rows.append(("certified radius, at least", row(known, False, lambda r: number(r, "down").replace("none", "∞"))))
    return rows


def pictures(found: Sequence[Assessment], delta: float) -> list[Picture]:
    """The distributions, in all and by class, and distances against p."""
    drawn = [
        draw("spread", "How the bounds on p are spread", lambda axes: probabilities(found, delta, axes),
             "Each line: the share of the inputs for which that rung bounds p by the number below, or by less. "
             "Further left and higher is better; dashed lines hold at a confidence, the others are proved."),
        draw("radii", "How the distances are spread", lambda axes: radii(found, axes),
             "No input nearer than the certified radius is answered differently, and that is proved; a search found "
             "a wrong answer at the other distance. The truth lies between."),
        draw("proved", "Proved bounds by class", lambda axes: by_class(found, "proved", axes),
             "Dot: the median. Thick: the middle half. Thin: the middle nine tenths of the inputs of a class."),
    ]  # fmt: skip
    if any(b.guarantee == "confidence" and b.skipped is None for one in found for b in one.bounds):
        drawn.append(draw("sampled", "Sampled bounds by class", lambda axes: by_class(found, "sampled", axes),
                          "At the confidence stated below, for each input by itself."))  # fmt: skip
    drawn.append(draw("byradius", "Certified radii by class", lambda axes: by_class(found, "radius", axes),
                      "An average hides classes and inputs that have next to none (arXiv:2410.06895)."))  # fmt: skip
    if any(one.distance is not None for one in found):
        drawn.append(draw("distance", "Distance to the nearest hyperplane, and p",
                          lambda axes: scatter(found, "distance", axes),
                          "A dot is an input. The paper's bound knows this distance only."))  # fmt: skip
    drawn.append(draw("reach", "Certified radius, and p", lambda axes: scatter(found, "radius", axes),
                      "A dot is an input. Probability can be tiny where the radius is small."))  # fmt: skip
    return drawn


def sweep(runs: Sequence[Kept], delta: float) -> list[Picture]:
    """The ladder against the size of the noise."""
    every = [one for run in runs for one in run.assessments]
    return [
        draw("median", "The ladder against eps", lambda axes: sizes(every, None, axes),
             "Each rung's bound on p for the median input, at each size of the noise."),
        draw("share", f"Inputs with p ≤ {Decimal(repr(delta)).normalize()} against eps",
             lambda axes: sizes(every, delta, axes), "The share of the inputs for which each rung says so."),
    ]  # fmt: skip


def draw(name: str, title: str, onto: Callable[[Axes], object], words: str) -> Picture:
    """A picture of the page's size."""
    figure = Figure(figsize=(5.0, 3.4), layout="constrained")
    onto(figure.subplots())
    return Picture(svg(figure, name, f"{title}. {words}"), title, words)


def about(run: Kept) -> list[tuple[str, list[tuple[str, str]]]]:
    """All that is needed to repeat a run, in groups of (name, value)."""
    described = run.about
    hashes = {name: sha for name, sha in (described["model"].get("files") or {}).items()}
    for kind in ("inputs", "map"):
        if described.get(kind):
            hashes[described[kind]["file"]] = described[kind]["sha256"]
    hashes |= {"the model as loaded": described["model"]["sha256"], "run.json": run.run}

    def said(entries: Mapping[str, Any]) -> list[tuple[str, str]]:
        return [(name, "none" if value is None else str(value)) for name, value in entries.items()]

    machine = described.get("machine", {})
    return [
        ("Options", said({name: value for name, value in described["options"].items() if name != "command"})),
        ("SHA-256", said(hashes)),
        ("Versions", said(described["versions"])),
        ("Machine", said({"threads": described.get("threads")} | {k: v for k, v in machine.items() if v})),
    ]
