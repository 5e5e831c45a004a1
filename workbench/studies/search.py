"""The search for something better: fronts at equal cost, dominance on worlds not used to choose.

Candidates are compared with plain supervised fine-tuning and with GRPO. Worlds with an even seed
choose, the others judge. Two budgets: equal rollouts (all strategies see the same prompts for the
same steps) and equal updated rows (every run is read, by linear interpolation between evaluations,
where it has sent as many rows through the actor as the cheapest strategy does in all).
"Not worse" is one-sided non-inferiority: the 95% bound of the difference lies above -`MARGIN`.
A claim that needs all of several bounds is not corrected for them (intersection-union).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import polars as pl

from workbench.analysis.rows import curve_rows, last_rows
from workbench.spec.metrics import COMPARED, SAMPLED
from workbench.spec.row_names import AVERAGED
from workbench.stats.estimates import ONE_SIDED, estimate, paired_difference
from workbench.stats.p_values import LEVEL, aligned, max_t
from workbench.stats.pairs import pair_by_seed

SWEEP = "search"
SHOWN = (*COMPARED, *SAMPLED)
MARGIN = 0.005
"""Half a point of hits: a difference smaller than this is not worth the name."""

FRONTS = (("c_at_1", "hr_at_10"), ("c_at_1", "c_at_32"), SAMPLED)
CONTROLS = ("sft", "grpo", "sft averaged", "grpo averaged")
"""What a candidate has to beat, as far as it was run: averaged weights cost nothing."""

Matched = Literal["rollouts", "updated_rows"]
MATCHED = {"rollouts": "at equal rollouts", "updated_rows": "at equal updated rows"}
_WORLD = "world.seed"


def points(frame: pl.DataFrame, matched: Matched) -> pl.DataFrame:
    """One row per run: strategy, seed, world.seed and the metrics at the matched cost.

    frame: the sweep's rows with `tuned`.
    """
    if frame.is_empty():
        return frame
    tuned = _averaged_apart(frame.filter("tuned"))
    if matched == "updated_rows":
        return _at_rows(tuned)
    return last_rows(tuned).select("strategy", "seed", _WORLD, *SHOWN)


def _averaged_apart(frame: pl.DataFrame) -> pl.DataFrame:
    """Runs whose last half of steps is averaged, as strategies of their own."""
    if "train.iterate" not in frame.columns:
        return frame
    averaged = (pl.col("train.iterate") == "mean").fill_null(False)
    name = pl.col("strategy")
    return frame.with_columns(strategy=pl.when(averaged).then(name + AVERAGED).otherwise(name))


def _at_rows(tuned: pl.DataFrame) -> pl.DataFrame:
    curves = curve_rows(tuned)
    spent = curves.group_by("strategy").agg(pl.col("updated_rows").max())
    budget = float(spent["updated_rows"].cast(pl.Float64).to_numpy().min())
    found = []
    for (strategy, seed, world, _), run in curves.sort("step").group_by(
        "strategy", "seed", _WORLD, "run", maintain_order=True
    ):
        x = run["updated_rows"].cast(pl.Float64).to_numpy()
        values = {m: float(np.interp(budget, x, run[m].to_numpy())) for m in SHOWN}
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
    here = runs.filter(pl.col(_WORLD) % 2 == 0).drop_nulls(list(COMPARED))
    means = here.group_by("strategy").agg(pl.col(m).mean() for m in COMPARED)
    known = {row["strategy"]: row for row in means.iter_rows(named=True)}
    controls = [known[c] for c in CONTROLS if c in known]
    scale = {m: float(np.std(means[m].to_numpy())) or 1.0 for m in COMPARED}
    standing = {
        name: min((row[m] - c[m]) / scale[m] for c in controls for m in COMPARED)
        for name, row in known.items()
        if name not in CONTROLS and controls
    }
    return sorted(standing, key=lambda name: (-standing[name], name))[:most]


def dominance(runs: pl.DataFrame, candidates: Sequence[str]) -> pl.DataFrame:
    """Candidates against each control on the worlds that judge: candidate, control, metric,
    difference, low, high, non_inferior (by `MARGIN`), p (max-T over the whole table), seeds,
    outcome.

    outcome, the same on every row of a candidate: "beats every control on all", "beats every
    control, worse on none" (somewhere better than each at .05 corrected, non-inferior everywhere),
    "worse on none, better than ..." (some controls or none), or "does not dominate".
    """
    here = runs.filter(pl.col(_WORLD) % 2 == 1)
    found: list[dict[str, Any]] = []
    gaps: list[dict[tuple[str, int], float]] = []
    for candidate in candidates if here.height else ():
        for control in _present(here):
            for metric in COMPARED:
                both = pair_by_seed(here.drop_nulls(metric), metric, candidate, control, _WORLD)
                d = paired_difference(both.first, both.second, strata=both.strata)
                bound = estimate(
                    both.first - both.second, strata=both.strata, confidence=ONE_SIDED
                ).low
                found.append(
                    {
                        "candidate": candidate,
                        "control": control,
                        "metric": metric,
                        "difference": d.value,
                        "low": d.low,
                        "high": d.high,
                        "non_inferior": bound is not None and bound > -MARGIN,
                        "p": d.p,
                        "seeds": d.n,
                    }
                )
                gap = (both.first - both.second).tolist()
                gaps.append(dict(zip(zip(both.strata, both.seeds, strict=True), gap, strict=True)))
    for row, p in zip(found, max_t(aligned(gaps)) if gaps else (), strict=True):
        row["p"] = p
    for row in found:
        row["outcome"] = _outcome([r for r in found if r["candidate"] == row["candidate"]])
    return pl.DataFrame(found, infer_schema_length=None)


def _outcome(rows: Sequence[dict[str, Any]]) -> str:
    better = {(r["control"], r["metric"]) for r in rows if r["p"] < LEVEL and r["difference"] > 0}
    if len(better) == len(rows):
        return "beats every control on all"
    if not all(r["non_inferior"] for r in rows):
        return "does not dominate"
    beaten = sorted({control for control, _ in better})
    if set(beaten) == {r["control"] for r in rows}:
        return "beats every control, worse on none"
    return f"worse on none, better than {', '.join(beaten) or 'none'}"


def _present(runs: pl.DataFrame) -> list[str]:
    """The controls that were run."""
    known = set(runs["strategy"])
    return [control for control in CONTROLS if control in known]
