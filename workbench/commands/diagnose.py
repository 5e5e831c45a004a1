"""`recast diagnose`: what a training log says about its groups, and what to do."""

from __future__ import annotations

from pathlib import Path

import click

from workbench.commands.output import FORMAT, emit
from workbench.diagnose import diagnose as take_apart
from workbench.diagnose import predictions, regime_table
from workbench.logs.layout import Choice
from workbench.logs.problems import LogError
from workbench.logs.read import FORMATS, files_of, read_log
from workbench.spec import SpecError


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--log-format", type=click.Choice(list(FORMATS)), default=None, help="Whose log.")
@click.option("--reward", "rewards", multiple=True, metavar="COLUMN", help="Repeatable: added up.")
@click.option("--outcome", default="", metavar="COLUMN", help="The raw outcome.")
@click.option("--threshold", default=0.0, show_default=True, help="A hit is an outcome above it.")
@FORMAT
def diagnose(
    paths: tuple[Path, ...],
    log_format: str | None,
    rewards: tuple[str, ...],
    outcome: str,
    threshold: float,
    style: str,
) -> None:
    """Diagnose a training log: regimes, what G is worth paying for, findings and what to do."""
    try:
        log = read_log(files_of(paths), form=log_format or "", choice=Choice(rewards, outcome))
    except LogError as problem:
        raise SpecError(str(problem)) from None
    for line in log.problems.lines():
        click.echo(f"warning: {line}", err=True)
    found = take_apart(log, threshold)
    emit(regime_table(found), style, f"Regimes, G = {found.group}, {log.words}")
    if style == "table":
        emit(predictions(found), style, "What would another G give?")
