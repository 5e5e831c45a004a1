"""`recast compare`."""

from __future__ import annotations

import click
import polars as pl

from recast.ledger import COST
from workbench.analysis.compare import compare as compared
from workbench.analysis.compare import parse_side, runs_behind
from workbench.analysis.tuning import lone_rates
from workbench.commands.output import FORMAT, emit, existing_store
from workbench.errors import UserError
from workbench.plurals import number_of
from workbench.spec.metrics import METRICS, PRIMARY
from workbench.stats.estimates import coverage_said
from workbench.stats.p_values import least_said
from workbench.store.arithmetic import apart


@click.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option(
    "--store", "store_path", default="runs", show_default=True, help="Folder of finished runs."
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    type=click.Choice(tuple(METRICS)),
    help="Repeatable. Default: the primary ones.",
)
@click.option(
    "--tune-metric",
    type=click.Choice(tuple(METRICS)),
    help="What chooses the rates that are not named. Default: the metric of each row.",
)
@click.option("--slice", "label", default="all", show_default=True, help="Slice of the test split.")
@FORMAT
def compare(
    first: str,
    second: str,
    store_path: str,
    metrics: tuple[str, ...],
    tune_metric: str | None,
    label: str,
    style: str,
) -> None:
    """Paired difference A minus B per metric, and the ratio of what they spent.

    A and B are strategies, optionally with fields: `grpo@train.group=32`.
    """
    store = existing_store(store_path)
    frame = store.load()
    if frame.is_empty():
        raise UserError(f"store {store_path!r}: holds no readable runs")
    one, two = parse_side(first), parse_side(second)
    table = compared(frame, one, two, metrics or PRIMARY, tune_metric, label)
    if style != "table":
        emit(table, style, "")
        return
    fields = table.columns[: table.columns.index("metric")]
    shown = table.select(
        *fields,
        "metric",
        "first",
        "second",
        "difference",
        pl.col("low").alias("difference_low"),
        pl.col("high").alias("difference_high"),
        "p_corrected",
        "n",
        "lr_first",
        "lr_second",
    )
    emit(shown, style, f"{one.name} minus {two.name}: mean difference over seeds [95% interval]")
    ratios = table.select(*fields, *(f"ratio_{name}" for name in COST)).unique(maintain_order=True)
    emit(ratios, style, f"What {one.name} spent, divided by what {two.name} spent")
    pairs = int(table["n"].max() or 0)  # type: ignore[arg-type]
    click.echo(least_said(pairs, table.height))
    if text := coverage_said(pairs):
        click.echo(text)
    by = "the metric of its row" + (f" ({', '.join(some)})" if (some := _others(table)) else "")
    click.echo(
        "A rate that is not named was chosen, where several were tried, per side and cell on "
        f"validation prompts, by {tune_metric or by}."
    )
    alone = lone_rates(frame.filter(pl.col("strategy").is_in([one.name, two.name])))
    for name, rate in alone.items():
        click.echo(f"note: {name} was tried at one rate only ({rate:g}): none was chosen")
    for text in table["label"].unique().sort():
        if text:
            click.echo(f"note: {text}")
    behind = runs_behind(frame, one, two, metrics or PRIMARY, label, tune_metric)
    if text := apart(store.provenances(behind)):
        click.echo(f"note: runs {text}")
    if (unpaired := int(table["unpaired"].max() or 0)) > 0:  # type: ignore[arg-type]
        click.echo(f"note: {number_of(unpaired, 'run')} without a twin left out")


def _others(table: pl.DataFrame) -> list[str]:
    """Rows whose rates something else chose, in words."""
    other = table.filter(pl.col("tuned_by") != pl.col("metric"))
    return [
        f"{metric} by {by}"
        for metric, by in other.select("metric", "tuned_by").unique().iter_rows()
    ]
