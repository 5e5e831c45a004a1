"""`recast claims`."""

from __future__ import annotations

from dataclasses import replace

import click
import polars as pl

from workbench.commands.output import EFFICIENCY, FORMAT, emit
from workbench.commands.packaged import PackagedOptions, packaged_options
from workbench.real.efficiency import read_efficiency
from workbench.studies.claims import (
    CLAIMS,
    SWEEPS,
    check,
    claims_table,
    least_told,
    settings_table,
)
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
@EFFICIENCY
@click.option(
    "--show",
    type=click.Choice(["claims", "settings"]),
    default="claims",
    help="One row per claim, or one per claim, baseline and cell.",
)
@packaged_options
@FORMAT
def claims(
    keys: tuple[str, ...],
    packaged: PackagedOptions,
    efficiency: str | None,
    show: str,
    style: str,
) -> None:
    """Check the paper's claims C1..C12: run the packaged sweeps that are missing, then judge."""
    measured = read_efficiency(efficiency) if efficiency is not None else pl.DataFrame()
    wanted = [claim for claim in CLAIMS if not keys or claim.key in keys]
    needed = [name for name in SWEEPS if any(name in c.modes.values() for c in wanted)]
    evidence = packaged.evidence(needed)
    if evidence is None:
        return
    evidence = replace(evidence, efficiency=measured)
    checked = [check(claim, evidence) for claim in wanted]
    tables = {"claims": claims_table(checked), "settings": settings_table(checked)}
    packaged.keep(tables, evidence)
    table = tables[show]
    if style != "table":
        emit(table, style, "")
        return
    if show == "settings":
        emit(table, style, "Every claim in every setting; intervals corrected for the settings")
        for line in least_told(table):
            click.echo(line)
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
