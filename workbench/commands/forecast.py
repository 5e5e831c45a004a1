"""`recast forecast`: the end of a run from its beginning, and whether going on is worth it."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import polars as pl

from workbench.commands.bounds import VALUE, Finite
from workbench.commands.output import FORMAT, emit
from workbench.errors import UserError
from workbench.stats.growth import FEWEST_POINTS, BudgetCurve, worthwhile
from workbench.store.table_files import read_table

LARGEST = 5_000_000
"""Bytes of a file."""
MOST_BUDGET, MOST_VALUE = 1e15, 1e30


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--end", type=Finite(0, MOST_BUDGET, min_open=True), help="Budget at which it ends.")
@click.option("--target", type=VALUE, default=None, help="A value that it should reach.")
@FORMAT
def forecast(file: Path | None, end: float | None, target: float | None, style: str) -> None:
    """Forecast a run's end from its first part, with a 90% interval.

    FILE: CSV with the columns budget (steps or rollouts, rising from 0) and value, one row per
    evaluation. Without a file: what the packaged forecaster was worth on runs that did not choose
    it. Columns: docs/columns.md.
    """
    from workbench.studies.prediction.curves import SHARE, forecasters, record

    if file is None:
        forms = [(f.form, f.shrinkage) for f in (forecasters().rising, forecasters().falling)]
        (up, more), (down, less) = forms
        title = (
            f"From the first {SHARE:.0%} of a run: {up} x {more:g} where it has risen, {down} "
            f"x {less:g} where not; chosen on one half of the packaged runs, judged on the other"
        )
        emit(record(), style, title)
        return
    seen = _read(file)
    if end is None:
        raise UserError("--end: at which budget the run will end")
    if len(seen.budgets) < FEWEST_POINTS:
        raise UserError(f"{file}: {len(seen.budgets)} rows; expected {FEWEST_POINTS} or more")
    if end <= seen.budgets[-1]:
        raise UserError(f"--end {end:g}: not beyond the last budget seen, {seen.budgets[-1]:g}")
    made = forecasters().of(seen)
    middle, low, high = made.end(seen, end)
    wanted = worthwhile(seen) if target is None else target
    when, earliest, latest = made.budget_to(seen, end, wanted)
    row = {
        "end": end,
        "forecast": middle,
        "low": low,
        "high": high,
        "target": wanted,
        "chance": made.chance(seen, end, wanted),
        "budget": when,
        "budget_low": earliest,
        "budget_high": latest,
    }
    emit(pl.DataFrame([row]), style, "Value at the end with its 90% interval; budget to the target")
    if style != "table":
        return
    whole = record().row(0, named=True)
    click.echo(
        f"Is it worth going on? The chance of {wanted:.4g} or more at {end:g} is "
        f"{row['chance']:.0%}."
    )
    if not 0.2 <= seen.budgets[-1] / end <= 0.6:
        click.echo(
            f"note: {seen.budgets[-1] / end:.0%} of the budget seen; the forecaster learnt from "
            f"{SHARE:.0%}"
        )
    click.echo(
        f"note: on {whole['runs']} other runs its 90% intervals held {whole['coverage']:.0%} of "
        f"the ends, median error {whole['error']:.1%} (taking the last value seen: "
        f"{whole['naive']:.1%})"
    )


def _read(file: Path) -> BudgetCurve:
    """The curve of a CSV file."""
    try:
        table = read_table(file, LARGEST)
        columns = [table[name].cast(pl.Float64).to_numpy() for name in ("budget", "value")]
    except (ValueError, pl.exceptions.PolarsError) as problem:
        reason = " ".join(str(problem).split())[:120]
        raise UserError(
            f"{file}: expected CSV with number columns budget and value ({reason})"
        ) from None
    budgets, values = columns
    if not (np.abs(budgets) <= MOST_BUDGET).all() or not (np.abs(values) <= MOST_VALUE).all():
        raise UserError(
            f"{file}: a budget or value is missing, not finite, or beyond {MOST_BUDGET:g} or "
            f"{MOST_VALUE:g}"
        )
    if len(budgets) and (budgets[0] < 0 or (np.diff(budgets) <= 0).any()):
        raise UserError(f"{file}: column budget: expected numbers that rise from 0 or more")
    return BudgetCurve(budgets, values)
