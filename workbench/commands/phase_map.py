"""`recast phase-map`."""

from __future__ import annotations

import click

from workbench.commands.output import FORMAT, emit
from workbench.commands.packaged import PackagedOptions, packaged_options
from workbench.spec.metrics import COMPARED
from workbench.stats.p_values import least_after_holm
from workbench.studies.evidence import edges
from workbench.studies.measures import METHOD
from workbench.studies.phase_map import FIELDS, SWEEP, duel_table, phase_table


@click.command("phase-map")
@click.option("--metric", "metrics", multiple=True, type=click.Choice(COMPARED), help="Repeatable.")
@packaged_options
@FORMAT
def phase_map(
    metrics: tuple[str, ...],
    packaged: PackagedOptions,
    style: str,
) -> None:
    """Which strategy wins where, at equal budget: sparsity, noise, search width, policy size.

    `recast sweep phase-map --dry-run` says how long it takes; it can be stopped and resumed.
    """
    evidence = packaged.evidence([SWEEP])
    if evidence is None:
        return
    table = phase_table(evidence.of(SWEEP), metrics or COMPARED)
    duels = duel_table(evidence.of(SWEEP), metrics or COMPARED)
    packaged.keep({"cells": table, "duels": duels}, evidence)
    if style != "table":
        emit(table, style, "")
        return
    emit(table, style, "Who wins at equal budget? Margin over the closest rival [95% interval]")
    if table.height:
        counts = table.group_by("metric", "winner", maintain_order=True).len("cells")
        emit(counts, style, "How many cells does each strategy win?")
    if duels.height:
        emit(duels, style, f"{METHOD} minus each rival, cell by cell [95% interval]")
    click.echo(
        f"A cell is one combination of {', '.join(FIELDS)}; the winner beats every rival with a "
        "p-value below .05, corrected (Holm) over all cells of its metric; none: nobody does. "
        "seen: the margin that would show in 80% of repeats."
    )
    if table.height:
        pairs = int(table["seeds"].to_numpy().max())
        cells = table.height // table["metric"].n_unique()
        least = least_after_holm(pairs, cells)
        click.echo(f"{cells} cells, {pairs} pairs: no p can be below {least:.2g}.")
    if not (frame := evidence.of(SWEEP)).is_empty():
        click.echo(f"Chosen rates on an edge of those that were tried: {edges(frame)}.")
    for gap in evidence.gaps:
        click.echo(f"note: {gap}")
