"""Learning curves of the study's rungs: the area on tuning users along a run, for forecasts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from workbench.stats.growth import (
    FEWEST_POINTS,
    BudgetCurve,
    Forecasters,
    ForecastRecord,
    choose,
    halves,
    judge,
    worthwhile,
)
from workbench.store.files import replace as write_whole
from workbench.store.kept_files import kept_note
from workbench.studies.prediction.protocol import Rung

PACKAGED = Path(__file__).parents[2] / "example" / "prediction-curves.parquet"
POINTS = 12
SHARE = 1 / 3
"""How much of a run is seen before its end is forecast."""


def follow(
    rung: Rung, strategies: Sequence[str], seeds: Sequence[int], steps: int, lr: float, folder: Path
) -> Iterator[str]:
    """Do the curves that are missing, one file each, and name each that was done."""
    stops = tuple(round(steps * (i + 1) / POINTS) for i in range(POINTS))
    for seed in seeds:
        for strategy in strategies:
            path = folder / "curves" / f"{strategy}-{lr:g}-{seed}.json"
            if path.exists():
                continue
            rung.start(seed)
            values = [rung.tuned()]
            values += [rung.tuned() for _ in rung.run(strategy, lr, seed, stops)]
            note = {"strategy": strategy, "seed": seed, "lr": lr, "steps": [0, *stops]}
            write_whole(json.dumps({**note, "values": values}).encode(), path)
            yield f"{strategy} {seed}"


def read(folder: Path, rung: str, data: str) -> pl.DataFrame:
    """rung, data, strategy, lr, seed, step, value of the curves below a folder; runs that diverged
    are left out."""
    found = []
    for path in sorted(folder.glob("curves/*.json")):
        found += kept_note(path, partial(_points, {"rung": rung, "data": data}))
    return pl.DataFrame(found)


def _points(run: dict[str, str], note: dict[str, Any]) -> list[dict[str, Any]]:
    """The points of one curve; none of a run that diverged."""
    if len(note["values"]) < len(note["steps"]):
        return []
    said = run | {name: note[name] for name in ("strategy", "lr", "seed")}
    pairs = zip(note["steps"], note["values"], strict=True)
    return [said | {"step": int(step), "value": float(value)} for step, value in pairs]


def curves_of(frame: pl.DataFrame) -> list[BudgetCurve]:
    """One curve per run; runs of one data set, strategy and rung are one group."""
    keys = ["rung", "data", "strategy", "lr", "seed"]
    found = []
    for key, rows in frame.sort(*keys, "step").group_by(keys, maintain_order=True):
        group = " ".join(map(str, key[:3]))
        steps, values = rows["step"].to_numpy(), rows["value"].to_numpy()
        found.append(BudgetCurve(steps.astype(np.float64), values.astype(np.float64), group))
    return found


def trial(frame: pl.DataFrame, share: float = SHARE) -> tuple[Forecasters, ForecastRecord]:
    """Forecasters that one half of the runs chose, judged on the other."""
    chosen, judged = halves(curves_of(frame))
    made = choose(chosen, share)
    return made, judge(made, judged)


@cache
def packaged() -> pl.DataFrame:
    """The packaged curves; columns as `read`."""
    return pl.read_parquet(PACKAGED)


@cache
def forecasters() -> Forecasters:
    """Those that a half of the packaged runs chose; its record is `record`."""
    return trial(packaged())[0]


@cache
def record() -> pl.DataFrame:
    """runs ("all", or a rung), judged (how many), coverage, error, naive, brier: what the packaged
    forecaster is worth on the half that did not choose it."""
    made = forecasters()
    _, judged = halves(curves_of(packaged()))
    parts = {"all": judged}
    for rung in packaged()["rung"].unique(maintain_order=True):
        parts[rung] = [run for run in judged if run.group.startswith(f"{rung} ")]
    return pl.DataFrame(
        [{"of": name, **asdict(judge(made, runs))} for name, runs in parts.items() if runs]
    )


def of_runs(rows: pl.DataFrame, metric: str, axis: str) -> pl.DataFrame:
    """strategy, seen (budget), forecast, low, high, actual, chance (that going on was worth a tenth
    of what had been gained), from the first third of finished runs, or the first four points where
    a third has fewer; a strategy's seeds are averaged first.

    rows: strategy, seed, the axis (budget) and the metric at each evaluation of the tuned runs.
    Strategies whose first third has too few points are left out.
    """
    found = []
    for (strategy,), mine in rows.group_by("strategy", maintain_order=True):
        mean = mine.group_by(axis).agg(pl.col(metric).cast(pl.Float64).mean()).sort(axis)
        budgets = mean[axis].cast(pl.Float64).to_numpy()
        if len(budgets) < 2 or budgets[-1] <= 0 or mean[metric].null_count():
            continue
        run, end = BudgetCurve(budgets, mean[metric].to_numpy()), float(budgets[-1])
        seen = run.first(max(SHARE, float(budgets[min(FEWEST_POINTS, len(budgets)) - 1] / end)))
        if len(seen.budgets) < FEWEST_POINTS or 2 * seen.budgets[-1] > end:
            continue
        made = forecasters().of(seen)
        middle, low, high = made.end(seen, end)
        found.append(
            {
                "strategy": strategy,
                "seen": float(seen.budgets[-1]),
                "end": end,
                "forecast": middle,
                "low": low,
                "high": high,
                "actual": float(run.values[-1]),
                "chance": made.chance(seen, end, worthwhile(seen)),
            }
        )
    return pl.DataFrame(found)
