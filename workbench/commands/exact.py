"""`recast exact`."""

from __future__ import annotations

from pathlib import Path

import click
import polars as pl

from recast.strategies import STRATEGIES
from sim.exact import exact_world
from workbench.commands.bounds import SEED, Finite
from workbench.commands.output import FORMAT, emit, progress_bar
from workbench.errors import UserError
from workbench.spec.strategy_texts import parsed
from workbench.store.files import replace
from workbench.theory.enumeration import exact_table

SUFFIXES = (".svg", ".png", ".html")
WIDEST = 512
"""Rollouts per prompt: memory grows with their square, and takes 1 GB here."""


@click.command()
@click.option("--strategy", "names", multiple=True, help="Name or composition; repeatable.")
@click.option(
    "--group",
    type=click.IntRange(1, WIDEST),
    default=4,
    show_default=True,
    help="Rollouts per prompt, G.",
)
@click.option(
    "--items", type=click.IntRange(2, 8), default=4, show_default=True, help="Of the catalogue."
)
@click.option(
    "--p",
    "rates",
    type=Finite(0, 1, min_open=True, max_open=True),
    multiple=True,
    default=(0.02, 0.1, 0.4),
    show_default=True,
    help="Hit probability of each prompt; repeatable.",
)
@click.option(
    "--seed", type=SEED, default=0, show_default=True, help="Draws the shares of the misses."
)
@click.option(
    "--chart", "target", default=None, help="Also draw the table: a .svg, .png or .html file."
)
@FORMAT
def exact(
    names: tuple[str, ...],
    group: int,
    items: int,
    rates: tuple[float, ...],
    seed: int,
    target: str | None,
    style: str,
) -> None:
    """Exact bias and variance of each signal: every group of a small world is enumerated.

    A tabular policy on a few prompts; nothing is sampled. cos_X is the cosine of the expected
    update to the gradient of X, cos_own that to the objective that the theory gives the strategy.
    """
    path = None if target is None else _picture_file(target)
    chosen = parsed(names) or dict(STRATEGIES)
    try:
        world = exact_world(rates, items, seed)
    except ValueError as problem:
        raise UserError(str(problem)) from None
    with progress_bar("strategies") as progress:
        table = exact_table(chosen, world, group, progress)
    emit(
        table.drop_nulls("norm").drop("note") if style == "table" else table,
        style,
        f"Where does each signal point? {len(rates)} prompts, {items} items, G = {group}",
    )
    if style == "table":
        click.echo("norm, bias: length of the expected update g, and of g - gradient of mean p.")
        click.echo("variance: of one prompt's update (trace); snr: norm / sqrt(variance).")
        click.echo("batch: prompts per loss. A signal that looks at the batch is enumerated at 2.")
        for text, rows in table.group_by("note", maintain_order=True):
            if text[0]:
                click.echo(f"note: {', '.join(rows['strategy'])}: {text[0]}")
    if path is not None:
        replace(_drawn(table, path.suffix.lower()), path)
        click.echo(f"chart: {path}", err=True)


def _picture_file(target: str) -> Path:
    path = Path(target)
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"--chart {target!r}: expected a file that ends in {', '.join(SUFFIXES)}")
    if path.is_dir() or not path.parent.is_dir():
        raise UserError(f"--chart {target!r}: expected a file in a folder that exists")
    return path


def _drawn(table: pl.DataFrame, suffix: str) -> bytes:
    from workbench import charts
    from workbench.charts.picture import picture

    chart = charts.exact_directions(table)
    try:
        if suffix == ".html":
            text: str = chart.to_html(inline=True)
            return text.encode()
        return picture(chart, "png" if suffix == ".png" else "svg")
    except (RuntimeError, ValueError, ImportError) as problem:
        raise UserError(f"--chart: {problem}") from None
