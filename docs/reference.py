"""The reference of the command line, from the commands themselves: `python docs/reference.py` writes it anew."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import typer

from calotte.cli import app

PAGE = Path(__file__).with_name("command-line.md")
BEGIN, END = "<!-- made by docs/reference.py: begin -->", "<!-- made by docs/reference.py: end -->"


def reference() -> str:
    """Every command: what it does, how it is called, its options with their defaults, an example."""
    group: Any = typer.main.get_command(app)
    return "\n".join(section(name, command) for name, command in sorted(group.commands.items()))


def section(name: str, command: Any) -> str:
    """One command in Markdown."""
    options = [one for one in command.params if one.param_type_name == "option"]
    places = " ".join(one.metavar or one.name.upper() for one in command.params if one not in options)
    lines = [
        f"### calotte {name}",
        "",
        f"`calotte {name}{' ' if places else ''}{places} [OPTIONS]`",
        "",
        " ".join(command.help.split()),
        "",
        f"`{command.epilog.removeprefix('Example: ')}`",
        "",
    ]
    if options:
        rows = [
            f"| `{'`, `'.join([*one.opts, *one.secondary_opts])}` | {default(one)} | {cell(one.help)} |"
            for one in options
        ]
        lines += ["| option | default | |", "|---|---|---|", *rows, ""]
    return "\n".join(lines)


def default(option: Any) -> str:
    """The default as it is typed, or nothing."""
    value = option.default
    if value is None or value is False or callable(value):
        return ""
    return "yes" if value is True else f"`{getattr(value, 'value', value)}`"


def cell(text: str | None) -> str:
    """Help as the text of a cell."""
    return re.sub(r"[|<>*]", lambda found: f"\\{found[0]}", " ".join((text or "").split()))


def put_into(page: str) -> str:
    """The page with the reference of today."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{reference()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(put_into(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
