"""`recast diagnose`: what a training log says about its groups, and what to do."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from shutil import get_terminal_size

import click
import polars as pl

from recast.strategies import parse_strategy
from workbench.commands.output import FORMAT, STORE, emit, progress_bar
from workbench.diagnosis.against import findings_apart, shares_apart
from workbench.diagnosis.answer import Answer, answer, answer_of_scalars
from workbench.diagnosis.counterfactual import DEFAULT, counterfactual
from workbench.diagnosis.diagnosis import (
    OTHER,
    Diagnosis,
    over_training,
    predictions,
    regime_table,
    summary_line,
)
from workbench.diagnosis.diagnosis import diagnose as take_apart
from workbench.diagnosis.findings.scalars import prediction_table
from workbench.diagnosis.findings.scalars import take_apart as scalar_run
from workbench.diagnosis.logs.layout import Choice
from workbench.diagnosis.logs.problems import LogError, plain_line
from workbench.diagnosis.logs.read import FORMATS, Log, files_of, read_log
from workbench.diagnosis.logs.scalars import is_scalars, read_scalars
from workbench.diagnosis.savings import again, savings
from workbench.report.log import findings_table, table_of, write_log_report
from workbench.spec.experiment import SpecError

TABLES = ("findings", "regimes", "training", "predictions", "savings", "again", "strategies")


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--log-format", type=click.Choice(list(FORMATS)), default=None, help="Whose log.")
@click.option("--reward", "rewards", multiple=True, metavar="COLUMN", help="Repeatable: added up.")
@click.option("--outcome", default="", metavar="COLUMN", help="The raw outcome, unshaped.")
@click.option("--threshold", default=0.0, show_default=True, help="A hit is an outcome above it.")
@click.option("--tolerance", default=1e-6, show_default=True, help="Rewards this near are equal.")
@click.option("--strategy", "strategies", multiple=True, help="What if it had been used; repeat.")
@click.option(
    "--learnable",
    "share",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
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
@click.option("--group", type=click.IntRange(2), default=None, help="G of a log of scalars.")
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
    log_format: str | None,
    rewards: tuple[str, ...],
    outcome: str,
    threshold: float,
    tolerance: float,
    strategies: tuple[str, ...],
    share: float,
    table: str,
    target: Path | None,
    details: bool,
    group: int | None,
    against: tuple[Path, ...],
    simulate: bool,
    store_path: str,
    style: str,
) -> None:
    """Diagnose a training log: what is wrong, which G is worth paying for, what strategies change.

    PATHS: files or folders of one log: TRL's completions (parquet), verl's rollout dumps,
    OpenRLHF's JSON lines, or the generic table of docs/diagnose.md.
    """
    names = strategies or DEFAULT
    try:
        for name in names:
            parse_strategy(name)
    except ValueError as problem:
        raise SpecError(str(problem)) from None
    if target is not None and (
        target.suffix.lower() not in (".html", ".htm")
        or target.is_dir()
        or not target.parent.is_dir()
    ):
        raise SpecError(
            f"--html {plain_line(target)}: expected a file that ends in .html in a folder that "
            "exists"
        )
    files = _files(paths)
    how = log_format or "", Choice(rewards, outcome)
    log = _read(files, *how, scalars=not rewards and not log_format)
    if log is None:
        _scalars(files, group, share, table, style)
        return
    found = take_apart(log, threshold, tolerance)
    if against:
        other = _read(_files(against), *how)
        assert other is not None
        _against(found, take_apart(other, threshold, tolerance), style)
        return
    tables: dict[str, Callable[[], pl.DataFrame]] = {
        "findings": lambda: findings_table(found),
        "regimes": lambda: regime_table(found),
        "training": lambda: over_training(found),
        "predictions": lambda: predictions(found),
        "savings": lambda: savings(found),
        "again": lambda: again(found),
        "strategies": lambda: counterfactual(found, names),
    }
    if target is not None:
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
        _details(found, tables, style)
    else:
        click.echo("\nAll tables: --details; one of them: --table NAME --format csv.")
    if simulate:
        _simulate(found, Path(store_path), style)


def _show(said: Answer) -> None:
    width = min(100, max(60, get_terminal_size().columns))
    for place, line in enumerate(said.lines()):
        if place == 0:
            click.echo(line)
            continue
        indent = line[: len(line) - len(line.lstrip())]
        click.echo(
            textwrap.fill(line, width, subsequent_indent=indent or "  ", break_long_words=False)
            if line
            else ""
        )


def _details(found: Diagnosis, tables: dict[str, Callable[[], pl.DataFrame]], style: str) -> None:
    click.echo("")
    emit(_known(tables["regimes"]()), style, "How many groups can teach anything?")
    emit(_known(_few(tables["training"]())), style, "Does that change over training?")
    other, visits = tables["predictions"](), tables["again"]()
    if not other.is_empty():
        emit(other, style, "What would another G give? (last third of the steps)")
    emit(tables["savings"](), style, "What does one learnable group cost?")
    if not visits.is_empty():
        emit(visits, style, "Is a constant group constant at its prompt's next visit?")
    emit(tables["strategies"](), style, "Had another strategy been used on these groups?")


def _scalars(files: list[Path], group: int | None, share: float, table: str, style: str) -> None:
    """Diagnose a tracker's scalars, of which only findings and predictions can be had."""
    try:
        run = scalar_run(read_scalars(files), group)
    except LogError as problem:
        raise SpecError(str(problem)) from None
    if style == "table":
        _show(answer_of_scalars(run, share))
    elif table == "predictions":
        emit(prediction_table(run, OTHER), style, "")
    elif table == "findings":
        emit(table_of(run.examined.findings), style, "")
    else:
        raise SpecError(
            f"--table {table}: needs rollouts; a log of scalars has findings and predictions"
        )


def _against(found: Diagnosis, other: Diagnosis, style: str) -> None:
    """What tells two runs apart: findings, and shares with intervals."""
    if style == "table":
        click.echo(f"A: {summary_line(found)}")
        click.echo(f"B: {summary_line(other)}\n")
    emit(findings_apart(found, other), style, "Which findings does each run have?")
    if style == "table":
        emit(shares_apart(found, other), style, "What differs? (last third of the steps, B - A)")


def _files(paths: Sequence[Path]) -> list[Path]:
    try:
        return files_of(paths)
    except LogError as problem:
        raise SpecError(str(problem)) from None


def _read(files: list[Path], form: str, choice: Choice, scalars: bool = False) -> Log | None:
    """The log; None where it holds no rollouts but a tracker's scalars, if those will do."""
    try:
        log = read_log(files, form=form, choice=choice)
    except LogError as problem:
        if scalars and any(is_scalars(path) for path in files):
            return None
        raise SpecError(str(problem)) from None
    for line in log.problems.lines():
        click.echo(f"warning: {line}", err=True)
    if log.problems.summary():
        click.echo(f"warning: {log.problems.summary()}", err=True)
    return log


def _known(table: pl.DataFrame) -> pl.DataFrame:
    """Without columns of which the log says nothing."""
    return table.select(c for c in table.columns if table[c].count())


def _few(table: pl.DataFrame, rows: int = 8) -> pl.DataFrame:
    """At most so many stretches of training, evenly spaced, all tasks together."""
    whole = table.filter(pl.col("task") == "all").drop("task")
    return whole.gather_every(max(1, -(-whole.height // rows)))


def _simulate(found: Diagnosis, store: Path, style: str) -> None:
    from workbench.diagnosis.lookalike import RIVALS, WARNING, rank, wanted_of

    with progress_bar() as show:
        ranking = rank(wanted_of(found), store, show)
    if style != "table":
        emit(ranking.table, style, "")
        return
    emit(ranking.regimes, style, "How alike are the groups?")
    emit(ranking.table, style, "Which strategy learns most in a simulated world with these groups?")
    for note in ranking.notes:
        click.echo(f"note: {note}")
    click.echo(f"difference: to {RIVALS[0]}, paired by seed. {WARNING}")
