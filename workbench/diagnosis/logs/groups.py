"""From rollouts to groups: hits, regime, variance, distinct predictions; beam sets; repeats."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from recast import REGIMES
from workbench.diagnosis.logs.read import Log

TEACHES = pl.col("regime").is_in(REGIMES[1:3])
"""Groups with hits and misses both."""

PART = 200_000
"""Rows that are aggregated at once."""

TOLERANCE = 1e-6
"""Rewards that differ by less are equal, and an outcome must lie this far above the threshold."""


def group_table(
    rollouts: pl.DataFrame, threshold: float | None = 0.0, tolerance: float = TOLERANCE
) -> pl.DataFrame:
    """One row per group, in the order of the log.

    rollouts: as in a `Log`; threshold: None where nobody knows what a hit is. Columns: key, part,
    step, prompt, task, size, usual (the size of the groups of its step or task, where it varies by
    design), hits, regime (of `REGIMES`; both null without a threshold), spread (largest less
    smallest reward), constant (spread within the tolerance), reward, entropy, logp (means),
    distinct (predictions that differ; null where none is logged), targets (ground truths that
    differ), idle (rollouts without a logged advantage; null where none is logged).
    """
    hit = pl.col("outcome") > (threshold if threshold is not None else 0.0) + tolerance
    grouped = aggregated(
        rollouts,
        ("key", "part"),
        first=pl.col("order").first(),
        step=pl.col("step").first(),
        prompt=pl.col("prompt").first(),
        task=pl.col("task").first().cast(pl.String),
        size=pl.len().cast(pl.Int64),
        hits=hit.sum().cast(pl.Int64),
        spread=pl.col("reward").max() - pl.col("reward").min(),
        reward=pl.col("reward").mean(),
        distinct=pl.when(pl.col("prediction").count() == pl.len()).then(
            pl.col("prediction").n_unique().cast(pl.Int64)
        ),
        entropy=pl.col("entropy").mean().cast(pl.Float64),
        logp=pl.col("logp").mean().cast(pl.Float64),
        targets=pl.col("target").drop_nulls().n_unique().cast(pl.Int64),
        idle=pl.when(pl.col("advantage").count() == pl.len()).then(
            (pl.col("advantage").abs() <= tolerance).sum().cast(pl.Int64)
        ),
    )
    regime = (
        pl.when(pl.col("hits") == 0)
        .then(pl.lit(REGIMES[0]))
        .when(pl.col("hits") == pl.col("size"))
        .then(pl.lit(REGIMES[3]))
        .when(pl.col("hits") == 1)
        .then(pl.lit(REGIMES[1]))
        .otherwise(pl.lit(REGIMES[2]))
    )
    table = with_usual_size(grouped.sort("first").drop("first")).with_columns(
        constant=pl.col("spread") <= tolerance, regime=regime
    )
    if threshold is None:
        table = table.with_columns(hits=pl.lit(None, pl.Int64), regime=pl.lit(None, pl.String))
    return table


def aggregated(rows: pl.DataFrame, by: Sequence[str], **columns: pl.Expr) -> pl.DataFrame:
    """`rows.group_by(by).agg(columns)` in no order, of many rows a part of the groups at a time: on
    the way each column takes as much memory as all rows."""
    many = 1 + rows.height // PART
    place = pl.col(by[0]).hash() % many
    parts = [
        (rows.lazy().filter(place == one) if many > 1 else rows.lazy())
        .group_by(by)
        .agg(**columns)
        .collect()
        for one in range(many)
    ]
    return pl.concat(parts)


def with_usual_size(groups: pl.DataFrame) -> pl.DataFrame:
    """The table with `usual`: the size that a group's step has in nine of its ten groups, else that
    its task has, else the most frequent size of the log."""
    usual = groups["size"].mode().max()
    columns = [pl.lit(usual, pl.Int64)]
    for within in ("task", "step"):
        sizes = groups.group_by(within).agg(
            most=pl.col("size").mode().max(),
            share=(pl.col("size") == pl.col("size").mode().max()).mean(),
            count=pl.len(),
        )
        even = sizes.filter((pl.col("share") >= 0.9) & (pl.col("count") > 1))
        groups = groups.join(
            even.select(within, pl.col("most").alias(f"_{within}")),
            on=within,
            how="left",
            maintain_order="left",
        )
        columns.insert(0, pl.col(f"_{within}"))
    return groups.with_columns(usual=pl.coalesce(columns)).drop("_task", "_step")


def is_beam(rollouts: pl.DataFrame, groups: pl.DataFrame) -> bool:
    """Whether groups are beam sets rather than independent draws.

    They are where beam ranks are logged, and where predictions never repeat inside a group though
    independent draws from the log's own mixture would have repeated at least ten times. (A prompt's
    own distribution is at least as concentrated as the mixture, on average.)
    """
    if rollouts["beam_rank"].count() == rollouts.height:
        return True
    known = groups.filter(pl.col("distinct").is_not_null())
    if known.is_empty() or (known["distinct"] < known["size"]).any():
        return False
    total = rollouts["prediction"].count()
    counts = rollouts["prediction"].drop_nulls().value_counts()["count"].cast(pl.Float64)
    if total < 2:
        return False
    again = float((counts * (counts - 1)).sum()) / (total * (total - 1))
    size = known["size"].cast(pl.Float64)
    return again * float((size * (size - 1)).sum()) / 2 >= 10


def without_repeats(log: Log) -> tuple[pl.DataFrame, list[int]]:
    """The rollouts without batches that were logged again, and the steps that were left out.

    A step is a repeat when all its rollouts, two groups or more, equal those of the step logged
    before it: prompt, prediction and reward, one by one. A log of a sample of groups is left alone.
    """
    rollouts = log.rollouts
    if log.kept < 1 or rollouts["prediction"].null_count():
        return rollouts, []
    said = ("prompt", "prediction", "reward")
    steps = (
        rollouts.group_by("step")
        .agg(pl.len(), *(pl.col(name).first() for name in said), groups=pl.col("key").n_unique())
        .sort("step")
    )
    # What whole steps hold is compared only where they begin alike.
    alike = pl.all_horizontal(pl.col(name) == pl.col(name).shift(1) for name in ("len", *said))
    steps = steps.select("step", again=alike.fill_null(value=False) & (pl.col("groups") > 1))
    near = steps.filter(pl.col("again") | pl.col("again").shift(-1))["step"]
    again = set(steps.filter("again")["step"])
    repeats, before = [], None
    for (step,), part in (
        rollouts.filter(pl.col("step").is_in(near.implode()))
        .select("step", content=pl.struct(said).hash())
        .sort("step", maintain_order=True)
        .group_by("step", maintain_order=True)
    ):
        content = part["content"]
        if before is not None and step in again and content.equals(before):
            repeats.append(step)
        before = content
    return rollouts.filter(~pl.col("step").is_in(repeats)) if repeats else rollouts, repeats


__all__ = ["TEACHES", "TOLERANCE", "aggregated", "group_table", "is_beam", "without_repeats"]
