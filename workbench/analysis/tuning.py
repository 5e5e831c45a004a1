"""The learning rate of each strategy and cell: chosen on the validation split, never on test."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

import polars as pl

from workbench.analysis.rows import at_the_end
from workbench.spec.metrics import UNORDERED
from workbench.spec.sweep import Run, Tune

HEADLINE = "area"
"""What rates are chosen by unless asked otherwise: the mean over k of C(k), Pass@k at the
temperature that is best for that k."""

OLDER = "pass_at_1_matched"
"""What chose the rates of runs that did not measure the headline."""


def tried(frame: pl.DataFrame, metric: str, split: str = "validation") -> pl.DataFrame:
    """Every tried rate: cell (where known), strategy, lr, runs, value, chosen.

    value: mean of `metric` over the runs after their last step on `split`, null where every run
    lost it. chosen: the best value of its strategy and cell; ties go to the smaller rate, and so
    does a strategy whose rates all failed.
    """
    cell = [c for c in ("cell", "strategy") if c in frame.columns]
    last = at_the_end(frame.filter(split=split, slice="all"))
    return (
        last.group_by([*cell, "lr"])
        .agg(
            pl.col("run").n_unique().cast(pl.Int64).alias("runs"),
            pl.col(metric).cast(pl.Float64).mean().fill_nan(None).alias("value"),
        )
        .sort(*cell, "lr")
        .with_columns(
            (
                pl.col("lr")
                == pl.col("lr")
                .sort_by(pl.col("value"), pl.col("lr"), descending=[True, False], nulls_last=True)
                .first()
                .over(cell)
            ).alias("chosen")
        )
    )


def mark_tuned(frame: pl.DataFrame, metric: str = HEADLINE) -> pl.DataFrame:
    """Add `tuned_lr`, the chosen rate of each row's strategy and cell, `tuned`: is it this row's?
    and `tuned_by`, the metric that chose it.

    A diverged run counts with the value of its frozen parameters. A metric of which more is not
    better is never tuned for: rates are those of the headline. A cell whose runs did not measure
    the metric (they are of an older generation) is tuned by `OLDER`.
    """
    if frame.is_empty():
        return frame
    frame = frame.drop("tuned", "tuned_lr", "tuned_by", strict=False)
    metric = HEADLINE if metric in UNORDERED else metric
    cell = [c for c in ("cell", "strategy") if c in frame.columns]
    whole = [c for c in cell if c != "strategy"]
    parts = []
    for name in dict.fromkeys((metric, OLDER)):
        if name not in frame.columns:
            continue
        measured = pl.col("value").is_not_null().any()
        rates = tried(frame, name).filter(measured.over(whole) if whole else measured)
        parts.append(rates.filter("chosen").with_columns(tuned_by=pl.lit(name)))
    chosen = pl.concat(parts).unique(cell, keep="first", maintain_order=True)
    chosen = chosen.select(*cell, pl.col("lr").alias("tuned_lr"), "tuned_by")
    return frame.join(chosen, on=cell, how="left", maintain_order="left").with_columns(
        tuned=(pl.col("lr") == pl.col("tuned_lr")).fill_null(False)
    )


def chosen_by(frame: pl.DataFrame) -> str:
    """What chose the rates of a marked frame: the metrics by name, separated by commas."""
    return ", ".join(frame["tuned_by"].drop_nulls().unique().sort()) if len(frame) else ""


def lone_rates(frame: pl.DataFrame) -> dict[str, float]:
    """Strategies of one cell that were tried at one rate alone, which nothing has chosen, and that
    rate."""
    rates = frame.group_by("strategy").agg(pl.col("lr").unique()).sort("strategy")
    return {name: tried[0] for name, tried in rates.iter_rows() if len(tried) == 1}


def rates_that_differ(here: pl.DataFrame, there: pl.DataFrame) -> dict[str, tuple[float, float]]:
    """Strategies whose chosen rate differs between two markings of the same runs of one cell: the
    rate in each."""
    first, second = (
        dict(frame.select("strategy", "tuned_lr").unique().drop_nulls().sort("strategy").rows())
        for frame in (here, there)
    )
    return {
        name: (rate, second[name])
        for name, rate in first.items()
        if name in second and second[name] != rate
    }


def edge(rates: Collection[float], chosen: float) -> Literal["", "lower", "upper"]:
    """At which edge of its grid a chosen rate sits; "" inside it, and where one rate was tried."""
    if len(set(rates)) < 2:
        return ""
    return "upper" if chosen == max(rates) else "lower" if chosen == min(rates) else ""


def on_edges(frame: pl.DataFrame, metric: str) -> tuple[int, int, int]:
    """Of the strategies and cells where several rates were tried: how many have the lowest one
    chosen by a metric, how many the highest, and how many there are."""
    rows = tried(frame, metric).group_by("cell", "strategy")
    table = rows.agg(rates=pl.col("lr"), chosen=pl.col("lr").filter("chosen").first())
    columns = table.select("rates", "chosen").iter_rows()
    sides = [edge(rates, chosen) for rates, chosen in columns if len(rates) > 1]
    return sides.count("lower"), sides.count("upper"), len(sides)


def next_rate(rates: tuple[float, ...], chosen: float) -> float | None:
    """The rate beyond the edge on which the chosen one sits, by the ratio of the last two; None
    inside the grid, for a single rate, or beyond the bounds of a rate (1e-8 .. 10)."""
    grid, side = sorted(rates), edge(rates, chosen)
    if not side:
        return None
    beyond = grid[-1] ** 2 / grid[-2] if side == "upper" else grid[0] ** 2 / grid[1]
    beyond = float(f"{beyond:.3g}")
    return beyond if 1e-8 <= beyond <= 10 else None


def beyond_the_edge(runs: Sequence[Run], frame: pl.DataFrame, tune: Tune) -> list[Run]:
    """The runs one learning rate further, where the best rate of a metric sits on the edge of its
    grid; and one lower, where even the best by the metric that decides does not reach the start: a
    rate of 0 would, so the best of a row that only loses lies below all that were tried.

    frame: the stored rows of `runs`.
    """
    if frame.is_empty():
        return []
    more: dict[tuple[str, str, float], list[Run]] = {}
    for metric in dict.fromkeys((tune.metric, *tune.also)):
        chosen = tried(frame, metric, tune.split).filter("chosen")
        begun = frame.filter(split=tune.split, slice="all", step=0).group_by("cell", "strategy")
        chosen = chosen.join(
            begun.agg(start=pl.col(metric).mean()), on=["cell", "strategy"], how="left"
        )
        loses = pl.lit(metric == tune.metric) & (pl.col("value") < pl.col("start"))
        columns = chosen.select("cell", "strategy", "lr", loses=loses.fill_null(False))
        for cell, strategy, lr, only_loses in columns.iter_rows():
            here = [run for run in runs if (run.config["cell"], run.strategy) == (cell, strategy)]
            rates = tuple({run.lr for run in here})
            further = next_rate(rates, min(rates) if only_loses else lr)
            if further is not None:
                more[cell, strategy, further] = [
                    Run(r.experiment, r.strategy, further, r.seed) for r in here if r.lr == lr
                ]
    return [run for runs_there in more.values() for run in runs_there]
