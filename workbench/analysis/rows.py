"""Which stored rows are compared: those of tuned rates, along a run or at its end.

Frames follow the store's contract: one row per run x evaluation x split x slice.
"""

from __future__ import annotations

import polars as pl


def reported(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows that a run reports: on all test prompts (`test_all`), or on `test` where that is
    all of them. Learning curves come from `test`, which may be a sample."""
    whole = (pl.col("split") == "test_all").any().over("run")
    return frame.filter(
        pl.col("split") == pl.when(whole).then(pl.lit("test_all")).otherwise(pl.lit("test"))
    )


def curve_rows(frame: pl.DataFrame) -> pl.DataFrame:
    """Learning curves at the tuned rates: test split, all users. Empty stays empty."""
    if frame.is_empty():
        return frame
    return frame.filter("tuned", split="test", slice="all")


def tuned_test_rows(frame: pl.DataFrame) -> pl.DataFrame:
    """`curve_rows` in order of strategy, run and step."""
    rows = curve_rows(frame)
    return rows if rows.is_empty() else rows.sort("strategy", "run", "step")


def at_the_end(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows after each run's last step."""
    return frame.filter(pl.col("step") == pl.col("step").max().over("run"))


def last_rows(frame: pl.DataFrame, label: str = "all") -> pl.DataFrame:
    """What each run reports of one slice after its last step. Empty stays empty."""
    if frame.is_empty():
        return frame
    return at_the_end(reported(frame).filter(slice=label))
