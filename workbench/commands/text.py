"""A table as plain text for a terminal."""

from __future__ import annotations

import shutil
import sys

import polars as pl
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from recast.ledger import COST
from recast.quoting import plain_line


def as_text(table: pl.DataFrame, title: str) -> str:
    """A plain table; a metric with an interval is printed as `mean [low, high]`.

    As wide as the terminal; as wide as it likes where the output is no terminal.
    """
    shown = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    names = [c for c in table.columns if not c.endswith(("_low", "_high"))]
    for name in names:
        text = table.schema[name] == pl.String
        shown.add_column(plain_line(name), justify="left" if text else "right", overflow="fold")
    for row in table.iter_rows(named=True):
        shown.add_row(*(_cell(row, name) for name in names))
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 40 + 24 * len(names)
    console = Console(width=width, no_color=True, markup=False, emoji=False)
    with console.capture() as capture:
        console.print(shown)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def _cell(row: dict[str, object], name: str) -> str:
    value, low, high = row[name], row.get(f"{name}_low"), row.get(f"{name}_high")
    if value is None:
        return "-"
    if not isinstance(value, float):
        return "\n".join(plain_line(line, 10_000) for line in str(value).split("\n"))
    text = f"{value:.0f}" if name in COST else f"{value:.3g}" if name == "lr" else _four(value)
    if low is None or not isinstance(low, float) or not isinstance(high, float):
        return text
    return f"{text} [{_short(low)}, {_short(high)}]"


def _short(value: float) -> str:
    return _four(value).removeprefix("0")


def _four(value: float) -> str:
    """Four decimals; one where the number is large."""
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.1f}"
