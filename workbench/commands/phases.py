"""`recast phase-map`."""

from __future__ import annotations

from pathlib import Path

import click

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
from workbench.stats.seeds import least_p
from workbench.store.runs import Store
from workbench.studies import packaged
from workbench.studies.evidence import conditions, gather, run_and_gather
from workbench.studies.phase_map import FIELDS, METRICS, SWEEP, phase_table


@click.command("phase-map")
@click.option("--metric", "metrics", multiple=True, type=click.Choice(METRICS), help="Repeatable.")
@click.option("--seeds", type=int, default=None, help="Fewer or more paired seeds than packaged.")
@click.option("--steps", type=int, default=None, help="Another number of optimizer steps.")
@click.option("--no-run", is_flag=True, help="Map what is stored; train nothing.")
@DRY_RUN
@SAVE
@EXECUTOR
@WORKERS
@STORE
@FORMAT
def phase_map(
    metrics: tuple[str, ...],
    seeds: int | None,
    steps: int | None,
    no_run: bool,
    dry_run: bool,
    save: str | None,
    executor: str,
    workers: int | None,
    store_path: str,
    style: str,
) -> None:
    """Which strategy wins where, at equal budget: sparsity, noise, search width, policy size.

    `recast sweep phase-map --dry-run` says how long it takes; it can be stopped and resumed.
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
    table = phase_table(evidence.of(SWEEP), metrics or METRICS)
    if save is not None:
        tables = {"cells": table, "conditions": conditions(evidence)}
        packaged.save(Path(save), tables)
    if style != "table":
        emit(table, style, "")
        return
    emit(table, style, "Who wins at equal budget? Margin over the closest rival [95% interval]")
    if table.height:
        counts = table.group_by("metric", "winner", maintain_order=True).len("cells")
        emit(counts, style, "How many cells does each strategy win?")
    click.echo(
        f"A cell is one combination of {', '.join(FIELDS)}; the winner beats every rival with a "
        "p-value below .05, corrected (Holm) over all cells of its metric; none: nobody does. "
        "seen: the margin that would show in 80% of repeats."
    )
    if table.height:
        pairs = int(table["seeds"].to_numpy().max())
        cells = table.height // table["metric"].n_unique()
        least = min(1.0, cells * least_p(pairs))
        click.echo(f"{cells} cells, {pairs} pairs: no p can be below {least:.2g}.")
    for gap in evidence.gaps:
        click.echo(f"note: {gap}")
