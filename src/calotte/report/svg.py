"""Figures as SVG inside a page: text stays text, colours follow the page, light or dark."""

from __future__ import annotations

import io
import re

from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.figure import Figure

from calotte.plot.style import COLOURS, FOUND, GRID, MUTED

__all__ = ["svg"]

_NAMES = {colour: f"var(--{rung})" for rung, colour in COLOURS.items()} | {
    FOUND: "var(--found)",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
}


def svg(figure: Figure, name: str, said: str) -> Markup:
    """A figure as an element of a page.

    Args:
        figure: drawn in the colours of `calotte.plot.style`.
        name: of its own in the page: identifiers begin with it.
        said: what the picture shows, for those who do not see it.
    """
    file = io.StringIO()
    metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(file, format="svg", transparent=True, metadata=metadata, dpi=144)
    text = file.getvalue()
    box = re.search(r'viewBox="[^"]*"', text)
    assert box is not None
    text = text[text.index("</defs>", text.index("<svg")) + len("</defs>") :]  # the first holds a style for all pages
    text = re.sub(r'(?<=\bid=")|(?<=href="#)|(?<=url\(#)', f"{name}-", text)
    text = re.sub(r"font-family: [^;\"]*;?", "", text)
    text = re.sub(r"#[0-9a-f]{6}\b", lambda found: _NAMES.get(found[0], found[0]), text)
    head = f'<svg {box[0]} role="img" aria-label="{escape(said)}" xmlns:xlink="http://www.w3.org/1999/xlink">'
    return Markup(head + text)
