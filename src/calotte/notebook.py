"""Notebooks: results as small tables of HTML, all text escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from calotte.printing import plain

__all__ = ["html_table"]


def html_table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]], below: str = "") -> str:
    """A table as notebooks show it.

    Args:
        caption: above it; heads: of its columns.
        rows: texts, as many in each as there are heads.
        below: a line under it, or nothing.
    """

    def cells(name: str, texts: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{name}>{escape(plain(text))}</{name}>" for text in texts) + "</tr>"

    foot = f"<p><small>{escape(plain(below))}</small></p>" if below else ""
    return (
        f'<table><caption style="text-align: left">{escape(plain(caption))}</caption><thead>{cells("th", heads)}'
        f"</thead><tbody>{''.join(cells('td', row) for row in rows)}</tbody></table>{foot}"
    )
