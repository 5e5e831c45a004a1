"""The search for something better: fronts at equal cost, dominance on worlds not used to choose.

Candidates are compared with plain supervised fine-tuning and with GRPO. Worlds with an even seed
choose, the others judge. Two budgets: equal rollouts (all strategies see the same prompts for the
same steps) and equal updated rows (every run is read, by linear interpolation between evaluations,
where it has sent as many rows through the actor as the cheapest strategy does in all).
Tempered supervised fine-tuning is a control: the same policy, sampled at another temperature. Its
ranked list, its first item and its Pass@1 at matched entropy do not change by that.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import polars as pl

from workbench.stats.seeds import LEVEL, estimate, holm, pair_by_seed, paired_difference
from workbench.studies.evidence import last_rows

SWEEP = "search"
METRICS = ("pass_at_1", "pass_at_1_matched", "greedy", "recall_at_10", "pass_at_32")
FRONTS = tuple(
    (x, y)
    for x in ("pass_at_1", "pass_at_1_matched", "greedy")
    for y in ("recall_at_10", "pass_at_32")
)
CONTROLS = ("sft", "grpo")
Matched = Literal["rollouts", "updated_rows"]
MATCHED = {"rollouts": "at equal rollouts", "updated_rows": "at equal updated rows"}
_WORLD = "world.seed"


def points(frame: pl.DataFrame, matched: Matched) -> pl.DataFrame:
    """One row per run: strategy, seed, world.seed and the metrics at the matched cost.

    frame: the sweep's rows with `tuned`. Tempered rows are strategies named `sft at T = 0.7`, at
    equal rollouts only, with Pass@32, which is sampled at T = 1, left null.
    """
    if frame.is_empty():
        return frame
    tuned = frame.filter("tuned")
    if matched == "updated_rows":
        return _at_rows(tuned)
    last = last_rows(tuned)
    rows = last.select("strategy", "seed", _WORLD, *METRICS)
    tempered = [
        last.filter(pl.col("strategy") == "sft").select(
            pl.lit(f"sft at T = {int(name[-3:]) / 100:g}").alias("strategy"),
            "seed",
            _WORLD,
            *(
                pl.col(name).alias(metric)
                if metric == "pass_at_1"
                else pl.lit(None, pl.Float64).alias(metric)
                if metric == "pass_at_32"
                else pl.col(metric)
                for metric in METRICS
            ),
        )
        for name in last.columns
        if re.fullmatch(r"pass_at_1_t0\d\d", name)
    ]
    return pl.concat([rows, *tempered])


def _at_rows(tuned: pl.DataFrame) -> pl.DataFrame:
    curves = tuned.filter((pl.col("split") == "test") & (pl.col("slice") == "all"))
    spent = curves.group_by("strategy").agg(pl.col("updated_rows").max())
    budget = float(spent["updated_rows"].cast(pl.Float64).to_numpy().min())
    found = []
    for (strategy, seed, world, _), run in curves.sort("step").group_by(
        "strategy", "seed", _WORLD, "run", maintain_order=True
    ):
        x = run["updated_rows"].cast(pl.Float64).to_numpy()
        values = {m: float(np.interp(budget, x, run[m].to_numpy())) for m in METRICS}
        found.append({"strategy": strategy, "seed": seed, _WORLD: world, **values})
    return pl.DataFrame(found, infer_schema_length=None)


def front(runs: pl.DataFrame, x: str, y: str) -> pl.DataFrame:
    """strategy, x, x_low, x_high, y, y_low, y_high, on_front: means over runs, stratified by world.

    on_front: no other strategy has a mean at least as high on both and higher on one.
    """
    found: list[dict[str, Any]] = []
    usable = runs.drop_nulls([x, y])
    for (strategy,), rows in usable.group_by("strategy", maintain_order=True):
        strata = rows[_WORLD].to_list()
        first, second = (estimate(rows[m].to_numpy(), strata=strata) for m in (x, y))
        found.append(
            {
                "strategy": str(strategy),
                "x": first.value,
                "x_low": first.low,
                "x_high": first.high,
                "y": second.value,
                "y_low": second.low,
                "y_high": second.high,
            }
        )
    for row in found:
        row["on_front"] = not any(
            other["x"] >= row["x"]
            and other["y"] >= row["y"]
            and (other["x"] > row["x"] or other["y"] > row["y"])
            for other in found
        )
    return pl.DataFrame(found, infer_schema_length=None)


def chosen(runs: pl.DataFrame, most: int = 3) -> list[str]:
    """Candidates picked on the worlds that choose: those whose worst standing against the controls
    is best. Standing: the smallest mean difference over controls and metrics, each in units of the
    spread between all strategies on that metric; no test is made here."""
    here = runs.filter(pl.col(_WORLD) % 2 == 0).drop_nulls(list(METRICS))
    means = here.group_by("strategy").agg(pl.col(m).mean() for m in METRICS)
    known = {row["strategy"]: row for row in means.iter_rows(named=True)}
    controls = [known[c] for c in CONTROLS if c in known]
    scale = {m: float(np.std(means[m].to_numpy())) or 1.0 for m in METRICS}
    standing = {
        name: min((row[m] - c[m]) / scale[m] for c in controls for m in METRICS)
        for name, row in known.items()
        if name not in CONTROLS and controls
    }
    return sorted(standing, key=lambda name: (-standing[name], name))[:most]


def dominance(runs: pl.DataFrame, candidates: Sequence[str]) -> pl.DataFrame:
    """Candidates against each control on the worlds that judge: candidate, control, metric,
    difference, low, high, p (Holm over the whole table), seeds, outcome.

    outcome, the same on every row of a candidate: "beats both on all", "beats both, worse on none"
    (somewhere better than each control, nowhere worse, at .05 corrected), or "does not dominate".
    """
    here = runs.filter(pl.col(_WORLD) % 2 == 1)
    found: list[dict[str, Any]] = []
    for candidate in candidates if here.height else ():
        for control in CONTROLS:
            for metric in METRICS:
                both = pair_by_seed(here.drop_nulls(metric), metric, candidate, control, _WORLD)
                d = paired_difference(both.first, both.second, strata=both.strata)
                found.append(
                    {
                        "candidate": candidate,
                        "control": control,
                        "metric": metric,
                        "difference": d.value,
                        "low": d.low,
                        "high": d.high,
                        "p": d.p,
                        "seeds": d.n,
                    }
                )
    for row, p in zip(found, holm([row["p"] for row in found]), strict=True):
        row["p"] = p
    for row in found:
        row["outcome"] = _outcome([r for r in found if r["candidate"] == row["candidate"]])
    return pl.DataFrame(found, infer_schema_length=None)


def _outcome(rows: Sequence[dict[str, Any]]) -> str:
    better = {(r["control"], r["metric"]) for r in rows if r["p"] < LEVEL and r["difference"] > 0}
    worse = any(r["p"] < LEVEL and r["difference"] < 0 for r in rows)
    if len(better) == len(rows):
        return "beats both on all"
    if not worse and {control for control, _ in better} == set(CONTROLS):
        return "beats both, worse on none"
    return "does not dominate"
