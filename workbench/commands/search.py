"""`recast search`."""

from __future__ import annotations

import click
import polars as pl

from workbench.commands.output import FORMAT, emit
from workbench.commands.packaged import PackagedOptions, packaged_options
from workbench.stats.p_values import least_said
from workbench.studies.search import (
    FRONTS,
    MARGIN,
    MATCHED,
    SWEEP,
    chosen,
    dominance,
    front,
    points,
)


@click.command()
@click.option(
    "--show",
    type=click.Choice(["dominance", "fronts"]),
    default="dominance",
    help="The candidates against the controls, or every strategy's place on the fronts.",
)
@packaged_options
@FORMAT
def search(
    packaged: PackagedOptions,
    show: str,
    style: str,
) -> None:
    """Does any strategy dominate both supervised fine-tuning and GRPO, on worlds set aside?

    `recast sweep search --dry-run` says how long it takes; it can be stopped and resumed.
    """
    evidence = packaged.evidence([SWEEP])
    if evidence is None:
        return
    frame = evidence.of(SWEEP)
    table = search_table(frame, show)
    if packaged.save is not None:
        tables = {name: search_table(frame, name) for name in ("dominance", "fronts")}
        packaged.keep(tables, evidence)
    emit(table, style, "Who dominates? Difference on the worlds set aside [95% interval]")
    if style != "table":
        return
    if table.height and show == "dominance":
        verdicts = table.select("matched", "candidate", "outcome").unique(maintain_order=True)
        for matched, name, outcome in verdicts.iter_rows():
            click.echo(f"{MATCHED[matched]}: {name} {outcome}")
        click.echo(
            f"non_inferior: the one-sided 95% bound of the difference lies above -{MARGIN:g}; "
            + least_said(int(table["seeds"].to_numpy().max()), table.height)
        )
        for matched, words in MATCHED.items():
            here = verdicts.filter(pl.col("matched") == matched)["outcome"]
            if len(here) and not here.str.starts_with("beats").any():
                click.echo(f"{words}: no candidate dominates every control")
    for gap in evidence.gaps:
        click.echo(f"note: {gap}")


def search_table(frame: pl.DataFrame, show: str) -> pl.DataFrame:
    """Dominance or fronts at both budgets, with `matched` as the first column."""
    tables = []
    for matched in MATCHED:
        runs = points(frame, "rollouts" if matched == "rollouts" else "updated_rows")
        if runs.is_empty():
            continue
        if show == "dominance":
            parts = [dominance(runs, chosen(runs))]
        else:
            parts = [
                front(runs, x, y).with_columns(x_metric=pl.lit(x), y_metric=pl.lit(y))
                for x, y in FRONTS
            ]
        tables += [part.select(pl.lit(matched).alias("matched"), pl.all()) for part in parts]
    return pl.concat(tables) if tables else pl.DataFrame()
