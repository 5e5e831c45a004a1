"""The packaged results of the study, and what they say of an answer's worth."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import polars as pl

from workbench.spec.rungs import ORDER
from workbench.studies.prediction.accuracy import (
    ELSEWHERE,
    GOAL,
    UNINFORMED,
    accuracy_table,
    compared,
    elsewhere,
    reliability,
    slope,
)

EXAMPLE = Path(__file__).parents[2] / "example"
PAIRS, COSTS, VALUES = (
    EXAMPLE / f"prediction-{name}.parquet" for name in ("pairs", "costs", "values")
)


@cache
def pairs() -> pl.DataFrame:
    """Pairs of every rung and data set; see `accuracy.pairs_of`."""
    return pl.read_parquet(PAIRS)


@cache
def costs() -> pl.DataFrame:
    """rung, data, seeds, runs, seconds of one core."""
    return pl.read_parquet(COSTS)


@cache
def run_costs() -> pl.DataFrame:
    """rung, seconds of one core that one of its runs took on the mean; trained rungs only."""
    whole = costs().filter(pl.col("runs") > 0).group_by("rung", maintain_order=True)
    return whole.agg(seconds=pl.col("seconds").sum() / pl.col("runs").sum())


@cache
def values() -> pl.DataFrame:
    """rung, data, strategy, metric, value."""
    return pl.read_parquet(VALUES)


@cache
def dearest() -> str:
    """The dearest rung of the packaged study."""
    known = set(pairs()["rung"])
    return next(rung for rung in reversed(ORDER) if rung in known)


@cache
def accuracies() -> pl.DataFrame:
    """`accuracy.accuracy_table` of the packaged study, with seconds and seconds_dear: mean cost of
    either rung on one data set."""
    table = accuracy_table(pairs())
    mean = costs().group_by("rung").agg(pl.col("seconds").mean())
    dear = mean.rename({"rung": "dear", "seconds": "seconds_dear"})
    return table.join(mean.rename({"rung": "cheap"}), on="cheap", how="left").join(
        dear, on="dear", how="left"
    )


@cache
def elsewhere_accuracies() -> pl.DataFrame:
    """`accuracy.accuracy_table` of the control `accuracy.elsewhere`, of metrics with enough pairs;
    "all" first."""
    both = elsewhere(pairs(), dearest())
    table = accuracy_table(both, (ELSEWHERE, dearest()))
    return table.filter(pl.col("accuracy").is_not_null())


@cache
def reliabilities(metric: str) -> pl.DataFrame:
    """`accuracy.reliability` of each rung against the dearest, with `rung`; metric: or "all"."""
    rungs = [rung for rung in ORDER if rung in set(pairs()["rung"]) and rung != dearest()]
    one = None if metric == "all" else metric
    tables = [
        table.with_columns(rung=pl.lit(rung))
        for rung in rungs
        if (table := reliability(pairs(), rung, dearest(), one)).height
    ]
    return pl.concat(tables) if tables else pl.DataFrame()


@cache
def slope_of(rung: str, metric: str) -> float:
    """The slope of a rung's stated probabilities on a metric, from all packaged data sets."""
    return slope(compared(pairs(), rung, dearest()).filter(metric=metric))


def worth(rung: str, metric: str) -> tuple[bool, str]:
    """Whether a rung may speak of language models on a metric, and its record in words.

    It may where its decision accuracy against the dearest rung is at least `accuracy.GOAL` on two
    data sets or more (one does not tell how it does on another), and where the probabilities that
    it would have stated, learnt on the other data sets, are better than always saying a half.
    """
    rows = accuracies().filter(cheap=rung, dear=dearest(), metric=metric)
    if rows.is_empty():
        return False, "has not been measured"
    row = rows.row(0, named=True)
    if row["accuracy"] is None:
        return False, f"has {row['pairs']} pairs that differ for sure on {dearest()}: too few"
    sets = f"{row['data_sets']} data set{'s' if row['data_sets'] > 1 else ''}"
    said = (
        f"ordered {row['accuracy']:.0%} [{row['low']:.0%}, {row['high']:.0%}] of {row['pairs']} "
        f"pairs that differ for sure like {dearest()}, on {sets}"
    )
    good = row["accuracy"] >= GOAL and row["data_sets"] > 1
    if good and row["brier"] >= UNINFORMED:
        return False, (
            f"{said}; over all pairs its probabilities were no better than a half each (Brier "
            f"{row['brier']:.3f})"
        )
    return good, said
