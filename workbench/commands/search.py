"""`recast search`."""

from __future__ import annotations

from pathlib import Path

import click
import polars as pl

from workbench.commands.forecast import DRY_RUN, forecast_packaged
from workbench.commands.output import (
    EXECUTOR,
    FORMAT,
    SAVE,
    STORE,
    WORKERS,
    emit,
    existing_store,
    progress_bar,
)
from workbench.stats.seeds import least_said
from workbench.store.runs import Store
from workbench.studies import packaged
from workbench.studies.evidence import conditions, gather, run_and_gather
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
@click.option("--seeds", type=int, default=None, help="Fewer or more paired seeds than packaged.")
@click.option("--steps", type=int, default=None, help="Another number of optimizer steps.")
@click.option("--no-run", is_flag=True, help="Read what is stored; train nothing.")
@click.option(
    "--show",
    type=click.Choice(["dominance", "fronts"]),
    default="dominance",
    help="The candidates against the controls, or every strategy's place on the fronts.",
)
@DRY_RUN
@SAVE
@EXECUTOR
@WORKERS
@STORE
@FORMAT
def search(
    seeds: int | None,
    steps: int | None,
    no_run: bool,
    dry_run: bool,
    show: str,
    save: str | None,
    executor: str,
    workers: int | None,
    store_path: str,
    style: str,
) -> None:
    """Does any strategy dominate both supervised fine-tuning and GRPO, on worlds set aside?

    `recast sweep search --dry-run` says how long it takes; it can be stopped and resumed.
    """
    changes = {"seeds": seeds, "train.steps": steps}
    if dry_run:
        forecast_packaged([SWEEP], changes, store_path, executor, workers)
        return
    if no_run:
        evidence = gather([SWEEP], existing_store(store_path), changes)
    else:
        store = Store(Path(store_path)).prepare()
        with progress_bar() as progress:
            evidence = run_and_gather([SWEEP], store, changes, progress, executor, workers)
    frame = evidence.of(SWEEP)
    table = search_table(frame, show)
    if save is not None:
        tables = {name: search_table(frame, name) for name in ("dominance", "fronts")}
        packaged.save(Path(save), {**tables, "conditions": conditions(evidence)})
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
