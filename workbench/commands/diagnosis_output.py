"""What `recast diagnose` prints of a log that was read and taken apart."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from shutil import get_terminal_size

import click
import polars as pl

from workbench.commands.output import emit, progress_bar
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
from workbench.diagnosis.savings import again, savings
from workbench.errors import UserError


@dataclass(frozen=True)
class DiagnosisRequest:
    """What a user wants to see. strategies: () for the usual ones; share: of learnable groups that
    G should reach; table, style: one table as JSON or CSV, or the answer as text; target: of an
    HTML file as well; store: of the runs that simulate the log's regimes, None to simulate
    nothing."""

    strategies: tuple[str, ...]
    share: float
    table: str
    style: str
    target: Path | None
    details: bool
    store: Path | None


def show(found: Diagnosis | ScalarRun, asked: DiagnosisRequest) -> None:
    """Print the answer to one log, or the table of it that was asked for."""
    if isinstance(found, ScalarRun):
        _scalars(found, asked)
        return
    names = asked.strategies or DEFAULT
    tables: Mapping[str, Callable[[], pl.DataFrame]] = {
        "findings": lambda: findings_table(found),
        "regimes": lambda: regime_table(found),
        "training": lambda: over_training(found),
        "predictions": lambda: predictions(found),
        "savings": lambda: savings(found),
        "again": lambda: again(found),
        "strategies": lambda: counterfactual(found, names),
    }
    if asked.target is not None:
        from workbench.report.log import write_log_report

        write_log_report(found, names, asked.share, asked.target)
        click.echo(f"report: {asked.target}", err=True)
    if asked.style != "table":
        if asked.store is not None:
            _simulate(found, asked.store, asked.style)
        else:
            emit(tables[asked.table](), asked.style, "")
        return
    _show(answer(found, names, asked.share))
    if asked.details:
        _details(tables)
    else:
        click.echo("\nAll tables: --details; one of them: --table NAME --format csv.")
    if asked.store is not None:
        _simulate(found, asked.store, asked.style)


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


def _scalars(run: ScalarRun, asked: DiagnosisRequest) -> None:
    """Show a tracker's scalars, of which only findings and predictions can be had."""
    alone = asked.style != "table" and asked.store is None
    if alone and asked.table not in ("findings", "predictions"):
        raise UserError(
            f"this log has scalars and no rollouts: --table {asked.table} needs rollouts; findings "
            "and predictions can be had"
        )
    if asked.target is not None:
        from workbench.report.log import write_scalar_report

        write_scalar_report(run, asked.share, asked.target)
        click.echo(f"report: {asked.target}", err=True)
    if asked.style == "table":
        _show(answer_of_scalars(run, asked.share))
    elif asked.store is None:
        emit(prediction_table(run, OTHER) if asked.table == "predictions" else
             table_of(run.examined.findings), asked.style, "")  # fmt: skip
    if asked.store is not None:
        _simulate(run, asked.store, asked.style)


def _line(run: Diagnosis | ScalarRun) -> str:
    return run.scalars.words if isinstance(run, ScalarRun) else summary_line(run)


def show_apart(
    found: Diagnosis | ScalarRun, other: Diagnosis | ScalarRun, table: str, style: str
) -> None:
    """Print what tells two runs apart: findings, and shares with intervals."""
    if style != "table":
        made = shares_apart if table == "regimes" else findings_apart
        emit(made(found, other), style, "")
        return
    click.echo(f"A: {_line(found)}")
    click.echo(f"B: {_line(other)}\n")
    apart = findings_apart(found, other)
    if apart.is_empty():
        click.echo("Nothing that is looked for is wrong with either run.")
    else:
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
