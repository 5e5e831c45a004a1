"""Budget: what a run spends before it reaches a target.

Frames follow the store's contract: one row per run x evaluation x split x slice. A budget axis is
a cumulative count of the ledger (rollouts, updated_rows, optimizer_steps, labels). A target is
reached where the isotonic curve through a run's evaluations is; a run that never reaches it is
censored at all it spent, counted, and never dropped. Intervals are those of
`workbench.stats.estimates`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from workbench.analysis.rows import tuned_test_rows
from workbench.analysis.tuning import edge
from workbench.plurals import number_of
from workbench.stats import survival
from workbench.stats.estimates import interval
from workbench.stats.samples import Floats, finite, mean

AXES = {
    "rollouts": "Rollouts sampled",
    "updated_rows": "Rows sent through the actor's update",
    "optimizer_steps": "Optimizer steps",
    "labels": "Ground-truth labels used",
}


def first_reach(x: Sequence[float], y: Sequence[float], target: float) -> float | None:
    """Budget x at which y reaches the target for good, or None if it never does.

    x, y: budget and metric at each evaluation, in order of x; NaN values are left out. Read off the
    isotonic curve through y (least squares, never falling), so that noise on a plateau below the
    target does not reach it however often one looks, and a rise that is lost again counts with what
    is left of it. x is interpolated linearly from the evaluation before. The last evaluation alone
    does not count. A relative 1e-9 is forgiven, so that a mean of equal values is reached by each
    of them.
    """
    known = [(a, b) for a, b in zip(x, y, strict=True) if not math.isnan(b)]
    fit = isotonic([b for _, b in known])
    enough = target - 1e-9 * abs(target)
    place = next((i for i, value in enumerate(fit) if value >= enough), len(fit))
    if place >= len(fit) - 1:
        return None
    at = float(known[place][0])
    if place == 0:
        return at
    before = float(known[place - 1][0])
    part = min(1.0, (target - fit[place - 1]) / (fit[place] - fit[place - 1]))
    return before + part * (at - before)


def isotonic(values: Sequence[float]) -> list[float]:
    """The never falling sequence nearest to the values in least squares (pooled violators)."""
    blocks: list[tuple[float, int]] = []
    for value in values:
        mean, size = float(value), 1
        while blocks and blocks[-1][0] > mean:
            other, count = blocks.pop()
            mean, size = (mean * size + other * count) / (size + count), size + count
        blocks.append((mean, size))
    return [mean for mean, size in blocks for _ in range(size)]


def budget_table(
    frame: pl.DataFrame,
    metric: str,
    axis: str,
    baseline: str,
    targets: Sequence[float] | None = None,
) -> pl.DataFrame:
    """Budget that each strategy needs per target, as a time to an event.

    Columns strategy, target, n_runs, n_reached, median, low, high (Kaplan-Meier), then against the
    baseline: ratio_to_baseline (of medians) with ratio_low and ratio_high (pairs by seed), and
    share_of_baseline with share_low and share_high, the median over all that the baseline spends,
    which is defined even where few of the baseline's own runs reach. A null median means that half
    of the runs or more never got there, and a null `high` beside a `low` that the interval is open
    above. targets default to the baseline's mean final value. Strategies that spend nothing on the
    axis are left out.
    Raises ValueError when a baseline without runs is asked for the default target.
    """
    if targets is None:
        targets = [final_value(frame, metric, baseline)]
    found: list[dict[str, Any]] = []
    for target in targets:
        events = _by_strategy(reach_events(frame, metric, axis, target))
        theirs = events.get(baseline)
        total = None if theirs is None else float(np.median(theirs["spent"].to_numpy()))
        for strategy, runs in events.items():
            sample = _sample(runs)
            median = finite(float(survival.median(sample)))
            low, high = interval(sample, survival.median)
            ratio = (None, None, None) if theirs is None else _ratio(runs, theirs)
            found.append(
                {
                    "strategy": strategy,
                    "target": float(target),
                    "n_runs": runs.height,
                    "n_reached": int(sample[1].sum()),
                    "median": median,
                    "low": low,
                    "high": high,
                    **dict(
                        zip(("ratio_to_baseline", "ratio_low", "ratio_high"), ratio, strict=True)
                    ),
                    "share_of_baseline": _share(median, total),
                    "share_low": _share(low, total),
                    "share_high": _share(high, total),
                }
            )
    return pl.DataFrame(found, schema=_SCHEMA)


def reach_events(frame: pl.DataFrame, metric: str, axis: str, target: float) -> pl.DataFrame:
    """One row per run: strategy, run, seed, cell, budget, reached, spent.

    budget: where the run reached the target, or all it spent; spent: all it spent, either way.
    """
    totals = dict(frame.group_by("run").agg(pl.col(axis).max().cast(pl.Float64)).iter_rows())
    found = []
    for (strategy, run), rows in on_axis(frame, metric, axis).group_by(
        "strategy", "run", maintain_order=True
    ):
        x = rows[axis].cast(pl.Float64).to_list()
        reached = first_reach(x, rows[metric].cast(pl.Float64).to_list(), target)
        found.append(
            {
                "strategy": strategy,
                "run": run,
                "seed": int(rows["seed"][0]),
                "cell": str(rows["cell"][0]) if "cell" in rows.columns else "",
                "budget": totals[run] if reached is None else reached,
                "reached": reached is not None,
                "spent": totals[run],
            }
        )
    return pl.DataFrame(found, schema=_EVENT_SCHEMA)


def survival_table(events: pl.DataFrame) -> pl.DataFrame:
    """Kaplan-Meier steps: strategy, budget, waiting (share of runs not there yet), n_runs.

    events: as `reach_events` gives. Each strategy's last row is at all that its runs spent.
    """
    found = []
    for strategy, runs in _by_strategy(events).items():
        times, waiting = survival.curve(_sample(runs))
        last = float(runs["spent"].to_numpy().max())
        if times[-1] < last:
            times, waiting = np.append(times, last), np.append(waiting, waiting[-1])
        found += [
            {"strategy": strategy, "budget": float(t), "waiting": float(w), "n_runs": runs.height}
            for t, w in zip(times, waiting, strict=True)
        ]
    return pl.DataFrame(found, schema=_SURVIVAL_SCHEMA)


@dataclass(frozen=True)
class Caution:
    """Why a comparison of budgets may mean little; text is one line for the reader."""

    strategy: str
    kind: Literal["below_start", "edge_of_grid", "single_rate", "diverged"]
    text: str


def cautions(frame: pl.DataFrame, metric: str, baseline: str) -> list[Caution]:
    """What a reader must be told before any ratio to this baseline; empty when all is well.

    frame: runs of one cell with `tuned` marked and every tried learning rate in it.
    """
    found = []
    rows = tuned_test_rows(frame).filter(pl.col(metric).is_not_null())
    own = rows.filter(pl.col("strategy") == baseline)
    if own.height:
        begin = float(own.filter(pl.col("step") == 0)[metric].cast(pl.Float64).to_numpy().mean())
        end = final_value(rows, metric, baseline)
        if end < begin:
            text = (
                f"the baseline {baseline} ends below its own start on {metric} "
                f"({end:.4f} after {begin:.4f}): a budget to reach its end means nothing"
            )
            found.append(Caution(baseline, "below_start", text))
    tried = frame.group_by("strategy", maintain_order=True).agg(
        pl.col("lr").unique().sort().alias("rates"),
        pl.col("lr").filter(pl.col("tuned")).unique().alias("chosen"),
        pl.col("run")
        .filter(pl.col("tuned") & pl.col("diverged_at").is_not_null())
        .n_unique()
        .alias("diverged"),
    )
    for row in tried.sort(pl.col("strategy") != baseline, maintain_order=True).iter_rows(
        named=True
    ):
        name = row["strategy"]
        role = f"the baseline {name}" if name == baseline else name
        rates = row["rates"]
        there = [rate for rate in row["chosen"] if edge(rates, rate)]
        if len(rates) == 1:
            text = f"{role} was tried at one learning rate only ({rates[0]:g})"
            found.append(Caution(name, "single_rate", text))
        elif there:
            lowest = there[0] == rates[0]
            what = "the lowest, so training may not help it here" if lowest else "extend the grid"
            text = (
                f"{role} is best at an edge of its learning-rate grid "
                f"({there[0]:g} of {rates[0]:g} to {rates[-1]:g}): {what}"
            )
            found.append(Caution(name, "edge_of_grid", text))
        if row["diverged"]:
            runs = number_of(row["diverged"], "run")
            text = f"{role}: {runs} diverged, which counts from where it stopped"
            found.append(Caution(name, "diverged", text))
    return found


def curve_table(frame: pl.DataFrame, metric: str, axis: str) -> pl.DataFrame:
    """Learning curves over seeds: strategy, step, x, mean, low, high, n_runs.

    x is the mean budget at that step. Strategies that spend nothing on the axis are left out.
    """
    found: list[dict[str, Any]] = []
    rows = on_axis(frame, metric, axis)
    for (strategy, step), cell in rows.group_by("strategy", "step", maintain_order=True):
        values = cell[metric].cast(pl.Float64).to_numpy()
        low, high = interval(values, mean)
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


def spends_nothing(frame: pl.DataFrame, metric: str, axis: str) -> dict[str, float]:
    """What each strategy ends at that `curve_table` leaves out because it spends nothing on the
    axis, such as supervision on the axis of rollouts."""
    paying = set(on_axis(frame, metric, axis)["strategy"])
    free = frame.filter(~pl.col("strategy").is_in(list(paying)) & pl.col(metric).is_not_null())
    return {name: final_value(free, metric, name) for name in dict.fromkeys(free["strategy"])}


def final_value(frame: pl.DataFrame, metric: str, strategy: str) -> float:
    """Mean over a strategy's runs of the metric at the last evaluation.

    Raises ValueError when the strategy has no run with a value of it.
    """
    rows = frame.filter((pl.col("strategy") == strategy) & pl.col(metric).is_not_null())
    last = rows.sort("step").group_by("run").agg(pl.col(metric).last())[metric]
    if last.is_empty():
        raise ValueError(f"baseline: no runs of {strategy!r} with a value of {metric}")
    return float(last.cast(pl.Float64).to_numpy().mean())


def _by_strategy(events: pl.DataFrame) -> dict[str, pl.DataFrame]:
    return {str(name): runs for (name,), runs in events.group_by("strategy", maintain_order=True)}


def _sample(events: pl.DataFrame) -> Floats:
    return survival.sample(events["budget"].to_numpy(), events["reached"].to_numpy())


def _ratio(
    runs: pl.DataFrame, baseline: pl.DataFrame
) -> tuple[float | None, float | None, float | None]:
    """Ratio of medians with the interval over the seeds that both have."""
    value = _over(survival.median(_sample(runs)), survival.median(_sample(baseline)))
    keys = ["cell", "seed"]
    pairs = runs.join(baseline, on=keys, suffix="_baseline").sort(keys)
    if pairs.height != runs.height or pairs.select(keys).is_duplicated().any():
        return finite(float(value)), None, None
    columns = [
        pairs[f"{c}{s}"].cast(pl.Float64).to_numpy()
        for s in ("", "_baseline")
        for c in ("budget", "reached")
    ]
    low, high = interval(
        np.stack(columns), lambda s: _over(survival.median(s[:2]), survival.median(s[2:]))
    )
    return finite(float(value)), low, high


def _share(value: float | None, total: float | None) -> float | None:
    return None if value is None or not total else value / total


def _over(value: Floats, baseline: Floats) -> Floats:
    """value / baseline; undefined (NaN) where the baseline is 0 or never gets there."""
    known = (baseline > 0) & np.isfinite(baseline)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Floats = np.where(known, value / baseline, np.nan)
    return ratio


_SCHEMA: dict[str, Any] = {
    "strategy": pl.String,
    "target": pl.Float64,
    "n_runs": pl.Int64,
    "n_reached": pl.Int64,
    "median": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "ratio_to_baseline": pl.Float64,
    "ratio_low": pl.Float64,
    "ratio_high": pl.Float64,
    "share_of_baseline": pl.Float64,
    "share_low": pl.Float64,
    "share_high": pl.Float64,
}
_EVENT_SCHEMA: dict[str, Any] = {
    "strategy": pl.String,
    "run": pl.String,
    "seed": pl.Int64,
    "cell": pl.String,
    "budget": pl.Float64,
    "reached": pl.Boolean,
    "spent": pl.Float64,
}
_SURVIVAL_SCHEMA: dict[str, Any] = {
    "strategy": pl.String,
    "budget": pl.Float64,
    "waiting": pl.Float64,
    "n_runs": pl.Int64,
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
