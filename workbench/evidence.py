"""Evidence: the rows of the packaged sweeps that claims, questions and maps are measured on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from workbench.stats import Floats, pair_by_seed

WHOLE = "the whole sweep"


@dataclass(frozen=True)
class Evidence:
    """Frames by sweep, each with `tuned` marked and a `setting` per cell; absent = not run."""

    sweeps: Mapping[str, pl.DataFrame]

    def of(self, sweep: str) -> pl.DataFrame:
        """Every row of a sweep; empty when it was not run."""
        return self.sweeps.get(sweep, pl.DataFrame())

    def settings(self, sweep: str) -> list[str]:
        """The cells of a sweep, by label, in order of appearance."""
        frame = self.of(sweep)
        return [] if frame.is_empty() else frame["setting"].unique(maintain_order=True).to_list()

    def curves(self, sweep: str) -> pl.DataFrame:
        """Test rows of all evaluations at the tuned rates, all users together."""
        frame = self.of(sweep)
        if frame.is_empty():
            return frame
        return frame.filter(
            pl.col("tuned") & (pl.col("split") == "test") & (pl.col("slice") == "all")
        ).sort("setting", "strategy", "run", "step")

    def final(self, sweep: str) -> pl.DataFrame:
        """One row per run at its last step: every test prompt, tuned rates, all users together."""
        return last_rows(self.of(sweep).filter("tuned")) if sweep in self.sweeps else pl.DataFrame()


def last_rows(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows after the last step on all test prompts (`test_all`, or `test` where it is whole)."""
    if frame.is_empty():
        return frame
    split = "test_all" if (frame["split"] == "test_all").any() else "test"
    return frame.filter(
        (pl.col("split") == split)
        & (pl.col("slice") == "all")
        & (pl.col("step") == pl.col("step").max().over("run"))
    )


def with_setting(frame: pl.DataFrame, varying: Sequence[str]) -> pl.DataFrame:
    """Add `setting`, the label of each row's cell: the fields in which cells differ, by name."""
    if frame.is_empty():
        return frame
    fields = [name for name in varying if name in frame.columns]
    if not fields:
        return frame.with_columns(setting=pl.lit(WHOLE))
    parts = [
        pl.format("{} {}", pl.lit(name.rpartition(".")[2].replace("_", " ")), pl.col(name))
        for name in fields
    ]
    return frame.with_columns(setting=pl.concat_str(parts, separator=", "))


def pairs(
    frame: pl.DataFrame, metric: str, first: str, second: str, setting: str
) -> tuple[Floats, Floats]:
    """Values of two strategies in one setting, `[n]` each, paired by seed; empty without pairs."""
    here = frame.filter(pl.col("setting") == setting)
    try:
        found = pair_by_seed(here, metric, first, second, "setting")
    except ValueError:
        return np.array([]), np.array([])
    return found.first, found.second


def per_run(
    curves: pl.DataFrame, strategy: str, setting: str, measure: Callable[[pl.DataFrame], float]
) -> dict[int, float]:
    """A number per run of a strategy in a setting, by seed. measure sees rows in order of steps."""
    here = curves.filter((pl.col("strategy") == strategy) & (pl.col("setting") == setting))
    return {
        int(rows["seed"][0]): measure(rows.sort("step"))
        for _, rows in here.group_by("run", maintain_order=True)
    }
