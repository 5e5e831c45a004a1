"""`recast exact`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click
import polars as pl
from torch import Tensor

from recast.by_hits import by_hits, why_undefined
from recast.objective import weight
from recast.strategies import STRATEGIES, parse_strategy
from recast.strategy import Strategy
from sim.exact import (
    OBJECTIVES,
    ExactWorld,
    cosine,
    exact_update,
    exact_world,
    objective_gradient,
    why_not_enumerable,
)
from workbench.commands.output import FORMAT, emit
from workbench.files import replace
from workbench.spec import SpecError

SUFFIXES = (".svg", ".png", ".html")
NUMBERS = (
    "norm",
    "bias",
    *(f"cos_{name}" for name in OBJECTIVES),
    "cos_own",
    "variance",
    "snr",
)
SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "strategy": pl.String,
    "batch": pl.Int64,
    "rollouts": pl.Int64,
    "state": pl.String,
    **dict.fromkeys(NUMBERS, pl.Float64),
    "note": pl.String,
}


@click.command()
@click.option("--strategy", "names", multiple=True, help="Name or composition; repeatable.")
@click.option("--group", default=4, show_default=True, help="Rollouts per prompt, G.")
@click.option("--items", default=4, show_default=True, help="Items of the catalogue, 2 to 8.")
@click.option(
    "--p",
    "rates",
    type=float,
    multiple=True,
    default=(0.02, 0.1, 0.4),
    show_default=True,
    help="Hit probability of each prompt; repeatable.",
)
@click.option("--seed", default=0, show_default=True, help="Draws the shares of the misses.")
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
    if group < 1:
        raise SpecError(f"--group: expected at least 1 rollout, got {group}")
    path = None if target is None else _picture_file(target)
    try:
        chosen = {name: parse_strategy(name) for name in names} or dict(STRATEGIES)
        world = exact_world(rates, items, seed)
    except ValueError as problem:
        raise SpecError(str(problem)) from None
    table = exact_table(chosen, world, group)
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


def exact_table(chosen: dict[str, Strategy], world: ExactWorld, group: int) -> pl.DataFrame:
    """One row per strategy, columns of `SCHEMA`; null where a strategy has no such number.

    cos_own is null where hits alone do not determine the signal; note says why a row is empty, or
    what a reader must know.
    """
    rows: list[dict[str, Any]] = []
    truth = objective_gradient(world, OBJECTIVES["p"])
    for name, strategy in chosen.items():
        reason = why_not_enumerable(strategy, world, group)
        if reason is not None:
            rows.append({"strategy": name, "note": f"not enumerable: {reason}"})
            continue
        found = exact_update(strategy, world, group)
        noise = math.sqrt(found.variance)
        norm = float(found.mean.norm())
        numbers = {
            "norm": norm,
            "bias": float((found.mean - truth).norm()),
            **{
                f"cos_{objective}": cosine(found.mean, objective_gradient(world, slope))
                for objective, slope in OBJECTIVES.items()
            },
            "cos_own": _own(strategy, world, group, found.mean),
            "variance": found.variance,
            "snr": norm / noise if noise > 1e-9 else math.nan,
        }
        rows.append(
            {
                "strategy": name,
                "batch": found.batch,
                "rollouts": found.width,
                "state": found.state,
                **{key: value if math.isfinite(value) else None for key, value in numbers.items()},
                "note": _note(strategy, norm, found.batch, group),
            }
        )
    return pl.DataFrame(rows, schema=SCHEMA)


def _own(strategy: Strategy, world: ExactWorld, group: int, mean: Tensor) -> float:
    """Cosine to the gradient of the strategy's own objective f, from its w(p)."""
    if why_undefined(strategy):
        return math.nan
    pull = weight(strategy, world.p, group).total.unsqueeze(-1)
    return cosine(mean, pull * world.target_gradient)


def _note(strategy: Strategy, norm: float, batch: int, group: int) -> str:
    notes = []
    if norm < 1e-14:
        notes.append("learns nothing at this G")
    if strategy.repair == "drop_constant":
        notes.append("without the prompts that replace dropped groups")
    if strategy.gate != "none":
        notes.append("fresh gate: every prompt is rolled out")
    if "reference" in strategy.needs:
        notes.append("at the reference policy")
    if strategy.anchor_ratio.startswith("shaped") or strategy.supervised.startswith("chord"):
        notes.append("cos_own takes an item to have one code")
    if not why_undefined(strategy) and bool(by_hits(strategy, group).apart.any()):
        notes.append("picks misses by their structure, which no f(p) holds")
    if batch > 1:
        notes.append("cos_own takes the other prompt to have the same p")
    return "; ".join(notes)


def _picture_file(target: str) -> Path:
    path = Path(target)
    if path.suffix.lower() not in SUFFIXES:
        raise SpecError(f"--chart {target!r}: expected a file that ends in {', '.join(SUFFIXES)}")
    if path.is_dir() or not path.parent.is_dir():
        raise SpecError(f"--chart {target!r}: expected a file in a folder that exists")
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
        raise SpecError(f"--chart: {problem}") from None
