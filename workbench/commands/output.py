"""What commands share: how a table is printed, how progress is shown, how a store is read."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
import polars as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from recast.progress import Progress
from recast.quoting import plain_line
from workbench.analysis.export import csv_text
from workbench.commands.text import as_text
from workbench.errors import UserError
from workbench.execution.executor_names import NAMES

if TYPE_CHECKING:
    from workbench.store.runs import Store

FORMAT = click.option(
    "--format",
    "style",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    help="How to print the table.",
)
SET = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Any other field of the experiment, such as policy.width=S; repeatable. `recast fields` "
    "lists them.",
)
STORE = click.option(
    "--store", "store_path", default="runs", show_default=True, help="Where runs go."
)
EXECUTOR = click.option(
    "--executor",
    type=click.Choice(NAMES),
    default="process",
    show_default=True,
    help="Who trains: this machine's cores, this process alone, or a Ray cluster. Same results.",
)
EFFICIENCY = click.option(
    "--efficiency",
    default=None,
    metavar="FILE",
    help="What `recast lm efficiency --format json` printed: real measurements beside C4-C8.",
)
SAVE = click.option(
    "--save",
    default=None,
    metavar="FILE",
    help="Also write the tables to a JSON file, with date, generation and command.",
)
WORKERS = click.option(
    "--workers",
    type=click.IntRange(1, 4096),
    default=None,
    help="Batches of runs in flight at once. Default: one per core.",
)


def emit(table: pl.DataFrame, style: str, title: str) -> None:
    """Print a table on stdout as text, JSON or CSV."""
    if style == "json":
        click.echo(table.write_json())
    elif style == "csv":
        click.echo(csv_text(table), nl=False)
    else:
        click.echo(as_text(table, title))


def existing_store(path: str) -> Store:
    """A store to read. Raises UserError when there is no such folder."""
    from workbench.store.runs import Store

    try:
        there = Path(path).is_dir()
    except ValueError:
        there = False
    if not there:
        raise UserError(f"store {path!r}: no such folder; expected the --store of a run or sweep")
    return Store(Path(path))


@contextmanager
def progress_bar(unit: str = "run-steps") -> Iterator[Progress]:
    """A bar that moves with every step on a terminal, a plain line every tenth elsewhere; stderr.

    Yields what to call with units done, units in all, and what is going on. Raises
    click.Abort for an interruption inside.
    """
    try:
        with _shown(unit) as show:
            yield show
    except KeyboardInterrupt:
        raise click.Abort from None


@contextmanager
def _shown(unit: str) -> Iterator[Progress]:
    if not sys.stderr.isatty():
        yield _plain_lines(unit)
        return
    bar = Bars(
        BarColumn(30),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.description}", markup=False),
        console=Console(stderr=True),
    )
    with bar:
        line = bar.add_task("starting", total=None)
        yield lambda done, total, text: bar.update(
            line, completed=done, total=total, description=text
        )


def _plain_lines(unit: str) -> Progress:
    # Whoever shows progress trains something; tables alone are printed without what that loads.
    from workbench.execution.forecast import duration

    began, first, counted, last = time.monotonic(), 0, (0, 0), -1

    def show(done: int, total: int, text: str) -> None:
        nonlocal began, first, counted, last
        if done < counted[0] or total != counted[1]:  # another count: the clock starts with it
            began, first, last = time.monotonic(), done, -1
        counted = (done, total)
        tenth = 10 * done // max(total, 1)
        if tenth != last:
            last = tenth
            new, seconds = done - first, time.monotonic() - began
            left = f", about {duration(seconds * (total - done) / new)} left" if new else ""
            click.echo(f"{done / max(total, 1):4.0%} of {total} {unit}{left}: {text}", err=True)

    return show


def html_target(target: Path) -> None:
    """Raises UserError, one line, where no report can be written."""
    known = target.suffix.lower() in (".html", ".htm")
    if not known or target.is_dir() or not target.parent.is_dir():
        raise UserError(
            f"--html {plain_line(target)}: expected a file that ends in .html in a folder that "
            "exists"
        )
