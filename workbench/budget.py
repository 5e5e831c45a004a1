"""Budget: what a run spends before it reaches a target.

Frames follow the store's contract: one row per run x evaluation x split x slice. A budget axis is
a cumulative count of the ledger (rollouts, updated_rows, optimizer_steps, labels). A target is
reached when two evaluations in a row are at or above it. Intervals are 95% percentile bootstraps
over seeds (2,000 resamples, fixed seed); fewer than 5 runs get none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]

AXES = {
    "rollouts": "Rollouts sampled",
    "updated_rows": "Rows sent through the actor's update",
    "optimizer_steps": "Optimizer steps",
    "labels": "Ground-truth labels used",
}

_RESAMPLES = 2_000
_SEED = 20_260_422
_FEWEST = 5


def tuned_test_rows(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows to compare: tuned learning rate, test split, all users. Empty stays empty."""
    if frame.is_empty():
        return frame
    return frame.filter(
        pl.col("tuned") & (pl.col("split") == "test") & (pl.col("slice") == "all")
    ).sort("strategy", "run", "step")


def first_reach(x: Sequence[float], y: Sequence[float], target: float) -> float | None:
    """Budget x at which y reaches the target for good enough, or None if it never does.

    x, y: budget and metric at each evaluation, in order of x. Reached means the first evaluation at
    or above the target whose successor is too; x is interpolated linearly from the evaluation
    before it. The last evaluation alone does not count, and neither does a NaN. A relative 1e-9 is
    forgiven, so that a mean of equal values is reached by each of them.
    """
    enough = target - 1e-9 * abs(target)
    for i in range(len(y) - 1):
        if y[i] >= enough and y[i + 1] >= enough:
            if i == 0 or math.isnan(y[i - 1]):
                return float(x[i])
            part = min(1.0, (target - y[i - 1]) / (y[i] - y[i - 1]))
            return float(x[i - 1] + part * (x[i] - x[i - 1]))
    return None


def budget_table(
    frame: pl.DataFrame,
    metric: str,
    axis: str,
    baseline: str,
    targets: Sequence[float] | None = None,
) -> pl.DataFrame:
    """Budget that each strategy needs per target.

    Columns strategy, target, n_runs, n_reached, median, low, high, ratio_to_baseline. A run that
    never reaches counts as infinite in the median, so a null median means that half of the runs or
    more never got there, and a null `high` beside a `low` that the interval is open above.
    ratio_to_baseline is median over the baseline's median. targets default to the baseline's mean
    final value. Strategies that spend nothing on the axis are left out.
    Raises ValueError when a baseline without runs is asked for the default target.
    """
    rows = on_axis(frame, metric, axis)
    if targets is None:
        targets = [final_value(frame, metric, baseline)]
    runs: dict[str, list[tuple[list[float], list[float]]]] = {}
    for (strategy, _), run in rows.group_by("strategy", "run", maintain_order=True):
        curve = (run[axis].cast(pl.Float64).to_list(), run[metric].cast(pl.Float64).to_list())
        runs.setdefault(str(strategy), []).append(curve)
    found: list[dict[str, Any]] = []
    for target in targets:
        medians: dict[str, float] = {}
        for strategy, curves in runs.items():
            reached = [first_reach(x, y, target) for x, y in curves]
            spent = np.array([math.inf if v is None else v for v in reached])
            medians[strategy] = float(np.median(spent))
            low, high = interval(spent, _medians)
            found.append(
                {
                    "strategy": strategy,
                    "target": float(target),
                    "n_runs": len(reached),
                    "n_reached": sum(v is not None for v in reached),
                    "median": _finite(medians[strategy]),
                    "low": low,
                    "high": high,
                    "ratio_to_baseline": None,
                }
            )
        for row in found[len(found) - len(runs) :]:
            row["ratio_to_baseline"] = _ratio(row["median"], _finite(medians.get(baseline)))
    return pl.DataFrame(found, schema=_SCHEMA)


def curve_table(frame: pl.DataFrame, metric: str, axis: str) -> pl.DataFrame:
    """Learning curves over seeds: strategy, step, x, mean, low, high, n_runs.

    x is the mean budget at that step. Strategies that spend nothing on the axis are left out.
    """
    found: list[dict[str, Any]] = []
    rows = on_axis(frame, metric, axis)
    for (strategy, step), cell in rows.group_by("strategy", "step", maintain_order=True):
        values = cell[metric].cast(pl.Float64).to_numpy()
        low, high = interval(values, lambda sample: sample.mean(axis=-1))
        x = float(cell[axis].cast(pl.Float64).to_numpy().mean())
        found.append(
            {
                "strategy": strategy,
                "step": step,
                "x": x,
                "mean": float(values.mean()),
                "low": low,
                "high": high,
                "n_runs": len(values),
            }
        )
    return pl.DataFrame(found, schema=_CURVE_SCHEMA).sort("strategy", "step")


def on_axis(frame: pl.DataFrame, metric: str, axis: str) -> pl.DataFrame:
    """Rows with a metric, of strategies that spend something on the axis, in order of steps."""
    return frame.filter(
        pl.col(metric).is_not_null()
        & pl.col(metric).cast(pl.Float64).is_finite()
        & (pl.col(axis).max().over("strategy") > 0)
    ).sort("strategy", "run", "step")


def final_value(frame: pl.DataFrame, metric: str, strategy: str) -> float:
    """Mean over a strategy's runs of the metric at the last evaluation."""
    rows = frame.filter((pl.col("strategy") == strategy) & pl.col(metric).is_not_null())
    last = rows.sort("step").group_by("run").agg(pl.col(metric).last())[metric]
    if last.is_empty():
        raise ValueError(f"baseline: no runs of {strategy!r} with a value of {metric}")
    return float(last.cast(pl.Float64).to_numpy().mean())


def interval(
    values: Floats, statistic: Callable[[Floats], Floats]
) -> tuple[float | None, float | None]:
    """95% bootstrap interval over the runs `[n]`; an infinite end, or n < 5, is None.

    statistic maps resamples `[m, n]` to `[m]`.
    """
    if len(values) < _FEWEST:
        return None, None
    rng = np.random.default_rng(_SEED)
    sample = values[rng.integers(0, len(values), (_RESAMPLES, len(values)))]
    ordered = np.sort(statistic(sample))
    edge = _RESAMPLES // 40
    return _finite(float(ordered[edge - 1])), _finite(float(ordered[-edge]))


def _medians(sample: Floats) -> Floats:
    result: Floats = np.median(sample, axis=-1)
    return result


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _ratio(value: float | None, baseline: float | None) -> float | None:
    return None if value is None or not baseline else value / baseline


_SCHEMA: dict[str, Any] = {
    "strategy": pl.String,
    "target": pl.Float64,
    "n_runs": pl.Int64,
    "n_reached": pl.Int64,
    "median": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "ratio_to_baseline": pl.Float64,
}
_CURVE_SCHEMA: dict[str, Any] = {
    "strategy": pl.String,
    "step": pl.Int64,
    "x": pl.Float64,
    "mean": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n_runs": pl.Int64,
}
