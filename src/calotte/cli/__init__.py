"""The command line: parse, call, print; no mathematics.

With --json standard output holds one object for each input and line; tables, progress and notices go to standard
error. Exit status: 0 done, 2 the user's mistake or the user's disk, 130 interrupted, 1 a defect of calotte,
contradictions included (3 is kept for a requirement that does not hold).

Only typer is imported before a command runs: help waits for nothing else.
"""

from calotte.cli.app import app, main

__all__ = ["app", "main"]
