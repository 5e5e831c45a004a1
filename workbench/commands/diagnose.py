"""`recast diagnose`: what a training log says about its groups, and what to do."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from shutil import get_terminal_size

import click
import polars as pl

from workbench.commands.bounds import Finite
from workbench.commands.log_options import LogOptions, reading_options
from workbench.commands.output import FORMAT, STORE, emit, html_target, progress_bar
from workbench.diagnosis.against import findings_apart, shares_apart
from workbench.diagnosis.answer import DiagnosisSummary, answer, answer_of_scalars
from workbench.diagnosis.counterfactual import DEFAULT, counterfactual
from workbench.diagnosis.diagnosis import (
    OTHER,
    Diagnosis,
    over_training,
    predictions,
    regime_table,
    summary_line,
)
from workbench.diagnosis.findings.scalars import ScalarRun, prediction_table
from workbench.diagnosis.findings.table import findings_table, table_of
from workbench.diagnosis.logs.read import files_of
from workbench.diagnosis.savings import again, savings
from workbench.errors import UserError
from workbench.spec.strategy_texts import parsed

TABLES = ("findings", "regimes", "training", "predictions", "savings", "again", "strategies")


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@reading_options
@click.option("--strategy", "strategies", multiple=True, help="What if it had been used; repeat.")
@click.option(
    "--learnable",
    "share",
    type=Finite(0, 1, min_open=True, max_open=True),
    default=0.5,
    show_default=True,
    help="Share of learnable groups that G should reach.",
)
@click.option("--table", type=click.Choice(TABLES), default="findings", help="What json/csv hold.")
@click.option(
    "--html",
    "target",
    type=click.Path(path_type=Path),
    default=None,
    metavar="FILE",
    help="Write one self-contained HTML file as well.",
)
@click.option("--details", is_flag=True, help="All tables below the answer.")
@click.option(
    "--against",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Another run's log: what differs, with intervals; repeat for its files.",
)
@click.option("--simulate", is_flag=True, help="Rank strategies in a world with these regimes.")
@STORE
@FORMAT
def diagnose(
    paths: tuple[Path, ...],
    reading: LogOptions,
    strategies: tuple[str, ...],
    share: float,
    table: str,
    target: Path | None,
    details: bool,
    against: tuple[Path, ...],
    simulate: bool,
    store_path: str,
    style: str,
) -> None:
    """Diagnose a training log: what is wrong, which G is worth paying for, what strategies change.

    PATHS: files or folders of one log, of any trainer in docs/diagnose.md, as its generic table, or
    a tracker's scalars; folders are walked.
    """
    names = strategies or DEFAULT
    parsed(names)
    if target is not None:
        html_target(target)
    found = reading.any(files_of(paths))
    other = reading.any(files_of(against)) if against else None
    if other is not None:
        _against(found, other, table, style)
        return
    if isinstance(found, ScalarRun):
        _scalars(found, share, table, style, target, Path(store_path) if simulate else None)
        return
    tables: Mapping[str, Callable[[], pl.DataFrame]] = {
        "findings": lambda: findings_table(found),
        "regimes": lambda: regime_table(found),
        "training": lambda: over_training(found),
        "predictions": lambda: predictions(found),
        "savings": lambda: savings(found),
        "again": lambda: again(found),
        "strategies": lambda: counterfactual(found, names),
    }
    if target is not None:
        from workbench.report.log import write_log_report

        write_log_report(found, names, share, target)
        click.echo(f"report: {target}", err=True)
    if style != "table":
        if simulate:
            _simulate(found, Path(store_path), style)
        else:
            emit(tables[table](), style, "")
        return
    _show(answer(found, names, share))
    if details:
        _details(tables)
    else:
        click.echo("\nAll tables: --details; one of them: --table NAME --format csv.")
    if simulate:
        _simulate(found, Path(store_path), style)


def _show(said: DiagnosisSummary) -> None:
    """Print an answer; the first line, what was read, is left whole."""
    first, *rest = said.lines()
    click.echo(first)
    width = min(100, max(60, get_terminal_size().columns))
    for line in rest:
        indent = line[: len(line) - len(line.lstrip())] or "  "
        click.echo(textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False))


def _details(tables: Mapping[str, Callable[[], pl.DataFrame]]) -> None:
    titles = {
        "regimes": "How many groups can teach anything?",
        "training": "Does that change over training?",
        "predictions": "What would another G give? (last third of the steps)",
        "savings": "What does one learnable group cost?",
        "again": "Is a constant group constant at its prompt's next visit?",
        "strategies": "Had another strategy been used on these groups?",
    }
    click.echo("")
    for name, title in titles.items():
        table = tables[name]()
        if not table.is_empty():
            emit(_known(_few(table) if name == "training" else table), "table", title)


def _scalars(
    run: ScalarRun, share: float, table: str, style: str, target: Path | None, store: Path | None
) -> None:
    """Show a tracker's scalars, of which only findings and predictions can be had; store: of the
    runs that simulate its regimes, None to simulate nothing."""
    if style != "table" and store is None and table not in ("findings", "predictions"):
        raise UserError(
            f"this log has scalars and no rollouts: --table {table} needs rollouts; findings and "
            "predictions can be had"
        )
    if target is not None:
        from workbench.report.log import write_scalar_report

        write_scalar_report(run, share, target)
        click.echo(f"report: {target}", err=True)
    if style == "table":
        _show(answer_of_scalars(run, share))
    elif store is None:
        emit(prediction_table(run, OTHER) if table == "predictions" else
             table_of(run.examined.findings), style, "")  # fmt: skip
    if store is not None:
        _simulate(run, store, style)


def _line(run: Diagnosis | ScalarRun) -> str:
    return run.scalars.words if isinstance(run, ScalarRun) else summary_line(run)


def _against(
    found: Diagnosis | ScalarRun, other: Diagnosis | ScalarRun, table: str, style: str
) -> None:
    """What tells two runs apart: findings, and shares with intervals."""
    if style != "table":
        made = shares_apart if table == "regimes" else findings_apart
        emit(made(found, other), style, "")
        return
    click.echo(f"A: {_line(found)}")
    click.echo(f"B: {_line(other)}\n")
    apart = findings_apart(found, other)
    emit(apart.select("finding", "a", "b"), style, "Which findings does each run have?")
    for row in apart.iter_rows(named=True):
        for letter in "ab":
            if row[f"{letter}_says"]:
                click.echo(f"{row['finding']}, {letter.upper()}: {row[f'{letter}_says']}")
    click.echo("")
    emit(shares_apart(found, other), style, "What differs? (last third of the steps, B - A)")


def _known(table: pl.DataFrame) -> pl.DataFrame:
    """Without columns of which the log says nothing."""
    return table.select(c for c in table.columns if table[c].count())


def _few(table: pl.DataFrame, rows: int = 8) -> pl.DataFrame:
    """At most so many stretches of training, evenly spaced, all tasks together."""
    whole = table.filter(pl.col("task") == "all").drop("task")
    return whole.gather_every(max(1, -(-whole.height // rows)))


def _simulate(found: Diagnosis | ScalarRun, store: Path, style: str) -> None:
    from workbench.diagnosis.lookalike import RIVALS, WARNING, rank, wanted_of, wanted_of_scalars

    wanted = wanted_of_scalars(found) if isinstance(found, ScalarRun) else wanted_of(found)
    with progress_bar() as show:
        ranking = rank(wanted, store, show)
    if style != "table":
        emit(ranking.table, style, "")
        return
    emit(ranking.regimes, style, "How alike are the groups?")
    emit(ranking.table, style, "Which strategy learns most in a simulated world with these groups?")
    for note in ranking.notes:
        click.echo(f"note: {note}")
    click.echo(f"difference: to {RIVALS[0]}, paired by seed. {WARNING}")
