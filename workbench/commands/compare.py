"""`recast compare`."""

from __future__ import annotations

import click
import polars as pl

from workbench.analysis.compare import compare as compared
from workbench.analysis.compare import parse_side
from workbench.analysis.summary import COST, QUALITY
from workbench.commands.output import FORMAT, emit, existing_store
from workbench.spec.experiment import SpecError


@click.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option(
    "--store", "store_path", default="runs", show_default=True, help="Folder of finished runs."
)
@click.option("--metric", "metrics", multiple=True, type=click.Choice(QUALITY), help="Repeatable.")
@click.option("--slice", "label", default="all", show_default=True, help="Slice of the test split.")
@FORMAT
def compare(
    first: str, second: str, store_path: str, metrics: tuple[str, ...], label: str, style: str
) -> None:
    """Paired difference A minus B per metric, and the ratio of what they spent.

    A and B are strategies, optionally with fields: `grpo@train.group=32`.
    """
    store = existing_store(store_path)
    frame = store.load()
    if frame.is_empty():
        raise SpecError(f"store {store_path!r}: holds no readable runs")
    one, two = parse_side(first), parse_side(second)
    table = compared(frame, one, two, metrics or QUALITY, label=label)
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
        "p_holm",
        "n",
        "lr_first",
        "lr_second",
    )
    emit(shown, style, f"{one.name} minus {two.name}: mean difference over seeds [95% interval]")
    ratios = table.select(*fields, *(f"ratio_{name}" for name in COST)).unique(maintain_order=True)
    emit(ratios, style, f"What {one.name} spent, divided by what {two.name} spent")
    click.echo(f"p_holm: sign-flip p-values, corrected (Holm) over the {table.height} rows.")
    click.echo("A rate that is not named was chosen per side and cell on validation prompts.")
    for text in table["label"].unique().sort():
        if text:
            click.echo(f"note: {text}")
    if (unpaired := int(table["unpaired"].max() or 0)) > 0:  # type: ignore[arg-type]
        click.echo(f"note: {unpaired} runs have no twin and were left out")
