"""The learning rate of each strategy and cell: chosen on the validation split, never on test."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from workbench.spec.sweep import Run, Tune


def tried(frame: pl.DataFrame, metric: str, split: str = "validation") -> pl.DataFrame:
    """Every tried rate: cell (where known), strategy, lr, runs, value, chosen.

    value: mean of `metric` over the runs after their last step on `split`, null where every run
    lost it. chosen: the best value of its strategy and cell; ties go to the smaller rate, and so
    does a strategy whose rates all failed.
    """
    cell = [c for c in ("cell", "strategy") if c in frame.columns]
    last = frame.filter(
        (pl.col("split") == split)
        & (pl.col("slice") == "all")
        & (pl.col("step") == pl.col("step").max().over("run"))
    )
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


def mark_tuned(frame: pl.DataFrame, metric: str = "pass_at_1_matched") -> pl.DataFrame:
    """Add `tuned_lr`, the chosen rate of each row's strategy and cell, and `tuned`: is it this
    row's? A diverged run counts with the value of its frozen parameters."""
    if frame.is_empty():
        return frame
    cell = [c for c in ("cell", "strategy") if c in frame.columns]
    chosen = tried(frame, metric).filter("chosen").select(*cell, pl.col("lr").alias("tuned_lr"))
    return frame.join(chosen, on=cell, how="left", maintain_order="left").with_columns(
        tuned=pl.col("lr") == pl.col("tuned_lr")
    )


def next_rate(rates: tuple[float, ...], chosen: float) -> float | None:
    """The rate beyond the edge on which the chosen one sits, by the ratio of the last two; None
    inside the grid, for a single rate, or beyond the bounds of a rate (1e-8 .. 10)."""
    grid = sorted(rates)
    if len(grid) < 2 or chosen not in (grid[0], grid[-1]):
        return None
    beyond = grid[-1] ** 2 / grid[-2] if chosen == grid[-1] else grid[0] ** 2 / grid[1]
    beyond = float(f"{beyond:.3g}")
    return beyond if 1e-8 <= beyond <= 10 else None


def beyond_the_edge(runs: Sequence[Run], frame: pl.DataFrame, tune: Tune) -> list[Run]:
    """The runs one learning rate further, where the best rate sits on the edge of its grid.

    frame: the stored rows of `runs`.
    """
    if frame.is_empty():
        return []
    more: list[Run] = []
    chosen = tried(frame, tune.metric, tune.split).filter("chosen")
    for cell, strategy, lr in chosen.select("cell", "strategy", "lr").iter_rows():
        here = [run for run in runs if (run.config["cell"], run.strategy) == (cell, strategy)]
        further = next_rate(tuple({run.lr for run in here}), lr)
        if further is not None:
            more += [Run(r.experiment, r.strategy, further, r.seed) for r in here if r.lr == lr]
    return more
