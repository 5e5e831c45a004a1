"""A ranking held against the runs that followed it: how many real differences it had in order."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from scipy import stats

from workbench.errors import UserError
from workbench.stats.p_values import holm
from workbench.stats.samples import Floats
from workbench.store.table_files import read_table

LARGEST = 10_000_000
"""Bytes of a file of results."""
LEVEL = 0.05


@dataclass(frozen=True)
class HeldAgainst:
    """pairs: first, second (the ranking's order), predicted, measured (differences, first minus
    second), seeds (that both have), p_holm (paired t test; None below two seeds, 1 where nothing
    varies), alike; missing: ranked strategies without a result."""

    pairs: pl.DataFrame
    missing: tuple[str, ...]

    def text(self) -> str:
        """One sentence for a reader."""
        sure = self.pairs.filter(pl.col("p_holm") < LEVEL)
        said = (
            f"Held against {self.pairs.height} pairs that were run: {sure.height} differ for sure "
            f"(p < {LEVEL:g}, paired t tests, Holm), {sure['alike'].sum()} of them in this order; "
            f"of all pairs {self.pairs['alike'].sum()}."
        )
        return said + (f" Not run: {', '.join(self.missing)}." if self.missing else "")


def read_results(file: Path, metric: str) -> pl.DataFrame:
    """strategy, seed, value of a file with these columns; the value may be named after the
    metric instead. Raises UserError, one line."""
    try:
        table = read_table(file, LARGEST)
        name = metric if metric in table.columns else "value"
        found = table.select(
            pl.col("strategy").cast(pl.String),
            pl.col("seed").cast(pl.Float64),
            pl.col(name).cast(pl.Float64).alias("value"),
        )
    except (ValueError, pl.exceptions.PolarsError) as problem:
        reason = " ".join(str(problem).split())[:120]
        raise UserError(
            f"{file}: expected CSV with columns strategy, seed and {metric} or value ({reason})"
        ) from None
    if found.height != found.drop_nulls().filter(pl.col("value").is_finite()).height:
        raise UserError(f"{file}: a strategy, seed or value is missing or not finite")
    seed = pl.col("seed")
    odd = found.filter((seed != seed.floor()) | (seed.abs() > 2**53) | seed.is_nan())["seed"]
    if len(odd):
        raise UserError(f"{file}: seed {odd[0]:g}: expected a whole number")
    found = found.with_columns(seed.cast(pl.Int64))
    twice = found.filter(pl.struct("strategy", "seed").is_duplicated())
    if twice.height:
        row = twice.row(0, named=True)
        raise UserError(f"{file}: {row['strategy']}, seed {row['seed']} has more than one row")
    return found


def held_against(ranking: pl.DataFrame, results: pl.DataFrame) -> HeldAgainst:
    """A ranking's pairs (first, second, difference) against results (strategy, seed, value).

    Pairs that the ranking ties are left out. Raises UserError where fewer than two of its
    strategies have results.
    """
    by_name = {
        str(name): dict(rows.select("seed", "value").iter_rows())
        for (name,), rows in results.group_by("strategy", maintain_order=True)
    }
    ranked = list(dict.fromkeys(itertools.chain(*ranking.select("first", "second").iter_rows())))
    missing = tuple(name for name in ranked if name not in by_name)
    found = []
    for first, second, predicted in ranking.select("first", "second", "difference").iter_rows():
        seeds = by_name.get(first, {}).keys() & by_name.get(second, {}).keys()
        if not seeds or predicted == 0:
            continue
        if predicted < 0:
            first, second, predicted = second, first, -predicted
        gaps = np.array([by_name[first][s] - by_name[second][s] for s in sorted(seeds)])
        found.append(
            {
                "first": first,
                "second": second,
                "predicted": predicted,
                "measured": float(gaps.mean()),
                "seeds": len(gaps),
                "p": _p(gaps),
                "alike": bool(gaps.mean() > 0),
            }
        )
    if not found:
        raise UserError(
            f"--followed: no two of {', '.join(ranked[:6])} share a seed with results; "
            f"it has {', '.join(list(by_name)[:6]) or 'none'}"
        )
    table = pl.DataFrame(found)
    tested = [i for i, one in enumerate(found) if one["p"] is not None]
    corrected: list[float | None] = [None] * len(found)
    for i, p in zip(tested, holm([float(found[i]["p"]) for i in tested]), strict=True):
        corrected[i] = p
    p_holm = pl.Series("p_holm", corrected, dtype=pl.Float64)
    return HeldAgainst(table.drop("p").with_columns(p_holm), missing)


def _p(gaps: Floats) -> float | None:
    """Two-sided p of a mean of zero by the t test, None for one gap."""
    if len(gaps) < 2:
        return None
    if np.ptp(gaps) == 0:
        return 1.0 if gaps[0] == 0 else 0.0
    return float(stats.ttest_1samp(gaps, 0.0).pvalue)
