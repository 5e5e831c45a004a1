"""Summaries of stored rows, with the column names of docs/columns.md."""

from __future__ import annotations

import numpy as np
import polars as pl

from recast import REGIMES
from recast.ledger import COST, TAUGHT
from workbench.analysis.rows import at_the_end, curve_rows, reported
from workbench.analysis.tuning import edge
from workbench.spec.metrics import METRICS
from workbench.stats.estimates import interval
from workbench.stats.samples import mean

TEMPERATURES = tuple(
    f"pass_at_1_t{hundredths:03d}" for hundredths in (10, 20, 30, 50, 70, 85, 120, 150, 200)
)
DETAIL = (
    *(f"c_at_{k}" for k in (2, 4, 8, 16, 64)),
    *TEMPERATURES,
    *(f"pass_at_{k}" for k in (2, 4, 8, 16, 64)),
    "recall_at_5",
    "recall_at_50",
    "ndcg_at_5",
    "beam_pass_at_1",
    "beam_hit_at_32",
    "coverage_at_10",
    "total_variation",
)
"""Metrics of all test prompts that come as a mean alone; null where a run did not measure them."""


BY_POPULARITY = ("popular", "rare")
"""Slices that every synthetic world has; tables show them when asked to."""


def summary(frame: pl.DataFrame, popularity: bool = False) -> pl.DataFrame:
    """One row per (strategy, slice): final means over seeds at the tuned learning rate, on all
    test prompts. popularity: the slices `popular` and `rare` as well. A column that no run has is
    left out.

    frame: the runs' rows with `tuned` marked. Each quality metric m comes as m, m_low, m_high: a
    95% bootstrap interval over seeds, null below five seeds; all three are null where a run has no
    value. `start` is the state before RL;
    *_start columns are the regime shares there.
    """
    if not popularity:
        frame = frame.filter(~pl.col("slice").is_in(BY_POPULARITY))
    rows, curve = reported(frame.filter("tuned")), curve_rows(frame)
    order = {
        name: place for place, name in enumerate(frame["strategy"].unique(maintain_order=True))
    }
    found = []
    for (strategy, label), group in rows.group_by("strategy", "slice", maintain_order=True):
        first = group.filter(pl.col("step") == 0)
        last = at_the_end(group)
        if order[strategy] == 0:
            found.append({"strategy": "start", "slice": label, "lr": None, **_means(first)})
        taught = curve.filter(pl.col("strategy") == strategy, pl.col("step") > 0)
        measured = [name for name in TAUGHT if name in taught.columns]
        shares = taught.select(pl.col(measured).mean()).row(0, named=True) if measured else {}
        free = invalid(curve.filter(pl.col("strategy") == strategy), first, last)
        found.append(
            {
                "strategy": strategy,
                "slice": label,
                "lr": last["lr"][0],
                **_means(last),
                **{f"{n}_start": first[n].mean() for n in REGIMES if n in first.columns},
                **shares,
                **free,
            }
        )
    return pl.DataFrame(found, infer_schema_length=None).sort(
        pl.col("slice") != "all", "slice", maintain_order=True
    )


def invalid(curve: pl.DataFrame, first: pl.DataFrame, last: pl.DataFrame) -> dict[str, float]:
    """Share of rollouts that are no item: at the start, on the curve over training (trapezoids over
    steps) and at the end; empty where decoding is not free."""
    if "invalid_share" not in curve.columns or curve["invalid_share"].null_count():
        return {}
    mean = curve.group_by("step").agg(pl.col("invalid_share").mean()).sort("step")
    steps, share = mean["step"].to_numpy(), mean["invalid_share"].to_numpy()
    area = float(((share[1:] + share[:-1]) / 2 * (steps[1:] - steps[:-1])).sum())
    return {
        "invalid_share_start": float(first["invalid_share"].to_numpy().mean()),
        "invalid_share_training": area / float(steps[-1] - steps[0]),
        "invalid_share": float(last["invalid_share"].to_numpy().mean()),
    }


def _means(rows: pl.DataFrame) -> dict[str, float | int | None]:
    rows = rows.sort("seed")
    values: dict[str, float | int | None] = {
        "seeds": rows.height,
        "diverged": rows["diverged_at"].count(),
    }
    for name in METRICS:
        if name not in rows.columns:
            continue
        if rows[name].null_count():
            values |= dict.fromkeys((name, f"{name}_low", f"{name}_high"))
            continue
        column = rows[name].to_numpy()
        low, high = interval(column, mean)
        values |= {name: float(column.mean()), f"{name}_low": low, f"{name}_high": high}
    for name in (*REGIMES, *COST):
        if name in rows.columns:
            values[name] = float(rows[name].to_numpy().mean())
    for name in DETAIL:
        if name in rows.columns:
            known = not rows[name].null_count()
            values[name] = float(rows[name].to_numpy().mean()) if known else None
    return values


def over_time(frame: pl.DataFrame) -> pl.DataFrame:
    """One row per (strategy, step): the regimes of a group then, and what groups taught since the
    evaluation before; means over seeds at the tuned rate, on the prompts of the curve.

    Columns strategy, step, rollouts, updated_rows, all_zero, single_hit, multi_hit, saturated,
    repaired, learnable, signal_count, and invalid_share where decoding is free. What groups taught
    is null at step 0.
    """
    rows = curve_rows(frame)
    free = ["invalid_share"] if "invalid_share" in rows.columns else []
    names = ["rollouts", "updated_rows", *REGIMES, "repaired", "learnable", "signal_count", *free]
    order = {name: i for i, name in enumerate(frame["strategy"].unique(maintain_order=True))}
    return (
        rows.group_by("strategy", "step")
        .agg(pl.col(name).cast(pl.Float64).mean() for name in names)
        .sort(pl.col("strategy").replace_strict(order), "step")
    )


def edge_warnings(frame: pl.DataFrame, grid: tuple[float, ...]) -> list[str]:
    """Strategies whose tuned learning rate sits on the edge of the grid, and of their own rates
    where more were tried."""
    if len(grid) < 2:
        return ["one learning rate only: strategies are not compared at their own best rate"]
    chosen = frame.filter(pl.col("tuned")).select("strategy", "lr").unique(maintain_order=True)
    tried = dict(frame.group_by("strategy").agg(pl.col("lr").unique()).iter_rows())
    there = [name for name, lr in chosen.iter_rows() if edge({*grid, *tried[name]}, lr)]
    return [f"tuned learning rate on the edge of the grid: {', '.join(there)}"] if there else []


def start_warnings(frame: pl.DataFrame, all_zero: float) -> list[str]:
    """Whether held-out prompts, of test and validation together, begin over a point away from the
    all-zero share that was asked for."""
    start = pl.concat([reported(frame), frame.filter(split="validation")]).filter(
        step=0, slice="all"
    )
    prompts = start["prompts"].sum() / start["run"].n_unique()
    share = np.average(start["all_zero"].to_numpy(), weights=start["prompts"].to_numpy())
    if abs(share - all_zero) <= 0.01:
        return []
    return [
        f"{share:.1%} of groups have no hit at the start on {prompts:.0f} held-out "
        f"prompts; {all_zero:.1%} were asked for, and met on training prompts (`recast calibrate` "
        "looks for a start that holds)"
    ]


def matched_warnings(table: pl.DataFrame) -> list[str]:
    """Which rows of a `summary` have no Pass@1 at matched entropy, and why."""
    if "pass_at_1_matched" not in table.columns:
        return []
    lost = table.filter(pl.col("pass_at_1_matched").is_null())["strategy"].unique().sort()
    return (
        [f"no temperature gives the start's entropy: no pass_at_1_matched for {', '.join(lost)}"]
        if len(lost)
        else []
    )
