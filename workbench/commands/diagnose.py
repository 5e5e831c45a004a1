"""`recast diagnose`: what a training log says about its groups, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
import polars as pl

from recast.strategies import parse_strategy
from workbench.commands.output import FORMAT, STORE, emit, progress_bar
from workbench.diagnosis.counterfactual import DEFAULT, counterfactual
from workbench.diagnosis.diagnosis import (
    Diagnosis,
    over_training,
    predictions,
    regime_table,
    summary_line,
    trend,
)
from workbench.diagnosis.diagnosis import diagnose as take_apart
from workbench.diagnosis.findings import examine
from workbench.diagnosis.logs.layout import Choice
from workbench.diagnosis.logs.problems import LogError, plain_line
from workbench.diagnosis.logs.read import FORMATS, Log, files_of
from workbench.diagnosis.savings import again, best_group, savings
from workbench.jobs.reading import read_guarded
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
    log = _read(paths, log_format or "", Choice(rewards, outcome))
    found = take_apart(log, threshold, tolerance)
    tables: dict[str, Callable[[], pl.DataFrame]] = {
        "findings": lambda: _findings(found),
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
    click.echo(summary_line(found))
    click.echo(trend(found))
    _say_findings(found)
    emit(_known(tables["regimes"]()), style, "How many groups can teach anything?")
    emit(_known(_few(tables["training"]())), style, "Does that change over training?")
    other, visits = tables["predictions"](), tables["again"]()
    if not other.is_empty():
        emit(other, style, "What would another G give? (last third of the steps)")
    click.echo(best_group(found, share))
    emit(tables["savings"](), style, "What does one learnable group cost?")
    if not visits.is_empty():
        emit(visits, style, "Is a constant group constant at its prompt's next visit?")
    emit(tables["strategies"](), style, "Had another strategy been used on these groups?")
    if simulate:
        _simulate(found, Path(store_path), style)


def _findings(found: Diagnosis) -> pl.DataFrame:
    from workbench.report.log import findings_table

    return findings_table(found)


def _say_findings(found: Diagnosis) -> None:
    for one in (said := examine(found)):
        click.echo(f"\n{one.level}: {one.name}\n  {one.says}\n  Do: {one.do}")
    if not said:
        click.echo("\nno findings: nothing that this command knows is wrong with this log")
    click.echo("")


def _read(paths: tuple[Path, ...], form: str, choice: Choice) -> Log:
    try:
        log = read_guarded(files_of(paths), form=form, choice=choice)
    except LogError as problem:
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
