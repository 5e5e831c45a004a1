"""`recast claims`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
import polars as pl

from workbench.commands.forecast import DRY_RUN, forecast_packaged
from workbench.commands.output import (
    EFFICIENCY,
    EXECUTOR,
    FORMAT,
    SAVE,
    STORE,
    WORKERS,
    emit,
    existing_store,
    progress_bar,
)
from workbench.real.efficiency import read_efficiency
from workbench.store.runs import Store
from workbench.studies import packaged
from workbench.studies.claims import CLAIMS, SWEEPS, check, claims_table, settings_table
from workbench.studies.evidence import conditions, gather, run_and_gather
from workbench.studies.measures import BASELINE, METRIC

_LINES = ("says", "paper", "measured", "beside", "statistic", "threshold", "analogue")


@click.command()
@click.option(
    "--claim",
    "keys",
    multiple=True,
    type=click.Choice([c.key for c in CLAIMS]),
    help="Only this claim and the sweeps it needs; repeatable.",
)
@click.option("--seeds", type=int, default=None, help="Fewer or more paired seeds than packaged.")
@click.option("--steps", type=int, default=None, help="Another number of optimizer steps.")
@click.option("--no-run", is_flag=True, help="Judge by what is stored; train nothing.")
@DRY_RUN
@EFFICIENCY
@click.option(
    "--show",
    type=click.Choice(["claims", "settings"]),
    default="claims",
    help="One row per claim, or one per claim, baseline and cell.",
)
@SAVE
@EXECUTOR
@WORKERS
@STORE
@FORMAT
def claims(
    keys: tuple[str, ...],
    seeds: int | None,
    steps: int | None,
    no_run: bool,
    dry_run: bool,
    efficiency: str | None,
    show: str,
    save: str | None,
    executor: str,
    workers: int | None,
    store_path: str,
    style: str,
) -> None:
    """Check the paper's claims C1..C12: run the packaged sweeps that are missing, then judge."""
    measured = read_efficiency(efficiency) if efficiency is not None else pl.DataFrame()
    wanted = [claim for claim in CLAIMS if not keys or claim.key in keys]
    needed = [name for name in SWEEPS if any(name in c.modes.values() for c in wanted)]
    changes = {"seeds": seeds, "train.steps": steps}
    if dry_run:
        forecast_packaged(needed, changes, store_path, executor, workers)
        return
    if no_run:
        evidence = gather(needed, existing_store(store_path), changes)
    else:
        store = Store(Path(store_path)).prepare()
        with progress_bar() as progress:
            evidence = run_and_gather(needed, store, changes, progress, executor, workers)
    evidence = replace(evidence, efficiency=measured)
    checked = [check(claim, evidence) for claim in wanted]
    tables = {"claims": claims_table(checked), "settings": settings_table(checked)}
    if save is not None:
        packaged.save(Path(save), {**tables, "conditions": conditions(evidence)})
    table = tables[show]
    if style != "table":
        emit(table, style, "")
        return
    if show == "settings":
        emit(table, style, "Every claim in every setting; intervals corrected for the settings")
    else:
        for row in table.iter_rows(named=True):
            where = f" {row['where']}" if row["where"] else ""
            click.echo(f"{row['claim']:>3}  {row['verdict']}{where}")
            for name in _LINES:
                if row[name]:
                    click.echo(f"     {name}: {row[name]}")
    for gap in evidence.gaps:
        click.echo(f"note: {gap}")
    for text in evidence.warnings(METRIC, BASELINE):
        click.echo(f"note: {text}")
