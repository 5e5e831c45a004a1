"""`recast prove`."""

from __future__ import annotations

from pathlib import Path

import click
import polars as pl

from workbench.commands.dry_run import DRY_RUN, forecast, slots
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
from workbench.errors import UserError
from workbench.stats.p_values import least_p
from workbench.store.runs import Store
from workbench.studies import packaged
from workbench.studies.proof import (
    GRPO,
    MARGIN,
    SEEDS,
    START,
    SUPERVISED,
    TEST_PROMPTS,
    gaps_table,
    means_table,
    rows,
    tests_table,
    tuning_plan,
    verdicts,
)
from workbench.studies.proof import prove as run_proof

_TITLES = {
    "tests": "Difference from each control, paired by world and seed [95% interval]",
    "means": "Means over worlds and seeds [95% interval]",
    "gaps": "Difference from averaged supervision, paired by world and seed [95% interval]",
}


@click.command()
@click.option("--seeds", type=click.IntRange(1, 1000), default=SEEDS, show_default=True)
@click.option("--worlds", type=click.IntRange(1, 100), default=None, help="The first so many.")
@click.option("--no-run", is_flag=True, help="Judge by what is stored; train nothing.")
@click.option(
    "--show",
    type=click.Choice(["tests", "means", "gaps"]),
    default="tests",
    show_default=True,
    help="The tests that were written down before, every row's means, or every row minus averaged "
    "supervision.",
)
@click.option("--chart", default=None, metavar="FILE", help="Also draw the gaps: a .svg or .png.")
@DRY_RUN
@SAVE
@EXECUTOR
@WORKERS
@STORE
@FORMAT
def prove(
    seeds: int,
    worlds: int | None,
    no_run: bool,
    show: str,
    chart: str | None,
    dry_run: bool,
    save: str | None,
    executor: str,
    workers: int | None,
    store_path: str,
    style: str,
) -> None:
    """Does supervision that trusts unlikely targets less hold against its controls?

    Rates are chosen on seeds of their own, then all rows train on further seeds. It can be stopped
    and resumed; `--dry-run` says how long the first part takes, the second takes about as long.
    """
    if chart is not None and Path(chart).suffix not in (".svg", ".png"):
        raise UserError(f"--chart {chart!r}: expected a file that ends in .svg or .png")
    plan = tuning_plan(worlds)
    if dry_run:
        forecast(plan, Store(Path(store_path)), slots(executor, workers))
        return
    if no_run:
        judged = rows(plan, existing_store(store_path), seeds)
    else:
        store = Store(Path(store_path)).prepare()
        with progress_bar() as progress:
            judged = run_proof(store, progress, executor, workers, seeds, worlds)
    tests, means = tests_table(judged), means_table(judged)
    tables = {"tests": tests, "means": means, "gaps": gaps_table(judged)}
    if save is not None:
        packaged.save(Path(save), tables)
    if chart is not None:
        _draw(tables["gaps"], Path(chart))
    if style != "table":
        emit(tables[show], style, "")
        return
    emit(tables[show], style, _TITLES[show])
    for line in verdicts(tests):
        click.echo(line)
    for row in means.filter(means["idle"] > 0).iter_rows(named=True):
        click.echo(
            f"note: {row['row']}, {row['unlearnable']:g} unlearnable: no rate beats the start on "
            f"validation users in {row['idle']} world(s) ({row['rates']}): its best is not to train"
        )
    edges = means.filter(~means["inside"])
    for row in edges.iter_rows(named=True):
        click.echo(
            f"note: {row['row']}, {row['unlearnable']:g} unlearnable: a best rate sits on an edge "
            f"of its grid ({row['rates']})"
        )
    pairs = int(tests["pairs"].to_numpy().max()) if tests.height else 0
    click.echo(
        f"{TEST_PROMPTS:,} test users per world; margin of HR@10 {MARGIN:g}; p: sign flips of "
        f"{pairs} pairs, none can be below {least_p(pairs):.2g}. The pairs vary the seed within "
        "worlds: intervals say nothing of other kinds of worlds."
    )


def _draw(gaps: pl.DataFrame, target: Path) -> None:
    """Draw every row minus averaged supervision; GRPO and the start lie far below it."""
    from workbench import charts
    from workbench.charts.picture import picture

    names = {"hr_at_10": "HR@10", "area": "area"}
    near = gaps.filter(~pl.col("row").is_in((*GRPO, START)))
    rows_ = near.sort("metric", descending=True, maintain_order=True).select(
        label=pl.format("{}: {}", pl.col("metric").replace(names), "row"),
        setting=pl.format("{}% unlearnable", (100 * pl.col("unlearnable")).round().cast(pl.Int64)),
        value="difference",
        low="low",
        high="high",
        p="p",
    )
    title = f"What does each row gain over {SUPERVISED[-1]}?"
    drawn = picture(charts.differences(rows_, title), "png" if target.suffix == ".png" else "svg")
    target.write_bytes(drawn)
