"""What commands share: how a table is printed, how progress is shown."""

from __future__ import annotations

import sys
from typing import Any

import click
import polars as pl

from workbench.tables import as_text

FORMAT = click.option(
    "--format",
    "style",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    help="How to print the table.",
)


def emit(table: pl.DataFrame, style: str, title: str) -> None:
    """Print a table on stdout as text, JSON or CSV."""
    if style == "json":
        click.echo(table.write_json())
    elif style == "csv":
        click.echo(table.write_csv(), nl=False)
    else:
        click.echo(as_text(table, title))


def progress_line() -> Any:
    """A live line on a terminal, a plain line every tenth elsewhere; on stderr."""
    live, last = sys.stderr.isatty(), -1

    def show(done: int, total: int, text: str) -> None:
        nonlocal last
        tenth = 10 * done // max(total, 1)
        if live:
            bar = "#" * (3 * tenth) + "." * (30 - 3 * tenth)
            end = "\n" if done >= total else ""
            click.echo(
                f"\r[{bar}] {done / max(total, 1):4.0%} {text:<50.50}{end}", nl=False, err=True
            )
        elif tenth != last:
            click.echo(f"{done / max(total, 1):4.0%} {text}", err=True)
        last = tenth

    return show
