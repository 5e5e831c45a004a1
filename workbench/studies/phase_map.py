"""The phase map: in which cell does which strategy win at equal budget, if any does?

All strategies of a cell see the same prompts for the same number of steps, each at its own best
learning rate, chosen by the metric of the map. The best mean wins a cell when it beats every other
strategy: the largest paired p-value against a rival, Holm-adjusted over all cells of the map (one
family per metric), is below .05. Otherwise nobody wins, which is an outcome too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from workbench.analysis.rows import last_rows
from workbench.analysis.tuning import mark_tuned
from workbench.spec.later_fields import ADDED
from workbench.spec.metrics import COMPARED
from workbench.stats.estimates import detectable, paired_difference
from workbench.stats.p_values import LEVEL, holm
from workbench.studies.evidence import pairs
from workbench.studies.measures import BASELINE, CONTROL, METHOD

SWEEP = "phase-map"
FIELDS = ("start.all_zero", "world.noise", "train.group", "world.unlearnable")
NOBODY = "none"
RIVALS = (CONTROL, BASELINE)


def phase_table(
    frame: pl.DataFrame,
    metrics: Sequence[str] = COMPARED,
    fields: Sequence[str] = FIELDS,
    tune_metric: str | None = None,
) -> pl.DataFrame:
    """One row per cell and metric: the fields, metric, winner ("none" without a significant one),
    best, runner_up, value (of the best), margin, low, high (95%, uncorrected), p, seen (the margin
    that a winner in 80% of repeats would need, corrected over the cells), seeds.

    frame: a sweep's rows with `setting`. runner_up: the rival that is hardest to tell
    from the best; margin: the paired difference from it. tune_metric: what chooses the rates, None
    = the metric of the row.
    """
    found: list[dict[str, Any]] = []
    frame = frame if frame.is_empty() else _completed(frame, fields)
    for metric in metrics:
        if metric not in frame.columns:
            continue
        last = last_rows(mark_tuned(frame, tune_metric or metric).filter("tuned"))
        rows = [row for row in _cells(last, metric, fields) if row is not None]
        adjusted = holm([row["p"] for row in rows])
        found += [
            {
                **row,
                "p": p,
                "seen": detectable(row["gaps"], LEVEL / len(rows)),
                "winner": row["best"] if p < LEVEL else NOBODY,
            }
            for row, p in zip(rows, adjusted, strict=True)
        ]
    columns = [
        *fields,
        "metric",
        "winner",
        "best",
        "runner_up",
        "value",
        "margin",
        "low",
        "high",
        "p",
        "seen",
        "seeds",
    ]
    return (
        pl.DataFrame(found, infer_schema_length=None).select(columns)
        if found
        else (pl.DataFrame(schema=dict.fromkeys(columns, pl.Null)))
    )


def duel_table(
    frame: pl.DataFrame,
    metrics: Sequence[str] = COMPARED,
    fields: Sequence[str] = FIELDS,
    first: str = METHOD,
    rivals: Sequence[str] = RIVALS,
) -> pl.DataFrame:
    """One row per metric, rival and cell: the fields, metric, rival, difference (first minus rival,
    paired by seed), low, high (95%, uncorrected), p (Holm over the cells of its metric and rival),
    seeds.

    frame: a sweep's rows with `setting`. Each side at its own best rate, chosen by the metric of
    the row.
    """
    found: list[dict[str, Any]] = []
    frame = frame if frame.is_empty() else _completed(frame, fields)
    for metric in (name for name in metrics if name in frame.columns):
        last = last_rows(mark_tuned(frame, metric).filter("tuned"))
        for rival in rivals:
            rows = []
            for setting in last["setting"].unique(maintain_order=True).to_list():
                here = last.filter((pl.col("setting") == setting) & pl.col(metric).is_finite())
                ours, theirs = pairs(here, metric, first, rival, str(setting))
                if len(ours):
                    gap = paired_difference(ours, theirs)
                    cell = {field: here[field][0] for field in fields}
                    told = {"metric": metric, "rival": rival, "difference": gap.value}
                    bounds = {"low": gap.low, "high": gap.high, "p": gap.p, "seeds": gap.n}
                    rows.append(cell | told | bounds)
            adjusted = holm([row["p"] for row in rows])
            found += [row | {"p": p} for row, p in zip(rows, adjusted, strict=True)]
    return pl.DataFrame(found, infer_schema_length=None)


def _completed(frame: pl.DataFrame, fields: Sequence[str]) -> pl.DataFrame:
    """A field that every run leaves out, as it has its usual value in all of them, filled in."""
    usual = {
        f"{part.removesuffix('_spec')}.{k}": v for part, of in ADDED.items() for k, v in of.items()
    }
    absent = [field for field in fields if field not in frame.columns and field in usual]
    return frame.with_columns(pl.lit(usual[field]).alias(field) for field in absent)


def _cells(last: pl.DataFrame, metric: str, fields: Sequence[str]) -> list[dict[str, Any] | None]:
    if last.is_empty():
        return []
    return [
        _cell(last, str(setting), metric, fields)
        for setting in last["setting"].unique(maintain_order=True)
    ]


def _cell(
    last: pl.DataFrame, setting: str, metric: str, fields: Sequence[str]
) -> dict[str, Any] | None:
    """The best strategy of a cell against its closest rival; None when there is no pair."""
    here = last.filter((pl.col("setting") == setting) & pl.col(metric).is_finite())
    means = (
        here.group_by("strategy")
        .agg(pl.col(metric).mean())
        .sort([metric, "strategy"], descending=[True, False])
    )
    if means.height < 2:
        return None
    best = str(means["strategy"][0])
    closest, rival, gaps = None, "", np.array([])
    for other in means["strategy"][1:]:
        ours, theirs = pairs(here, metric, best, other, setting)
        if not len(ours):
            return None
        difference = paired_difference(ours, theirs)
        if closest is None or difference.p > closest.p:
            closest, rival, gaps = difference, str(other), ours - theirs
    assert closest is not None
    return {
        **{field: here[field][0] for field in fields},
        "metric": metric,
        "best": best,
        "runner_up": rival,
        "value": float(means[metric][0]),
        "margin": closest.value,
        "low": closest.low,
        "high": closest.high,
        "p": closest.p,
        "gaps": gaps,
        "seeds": closest.n,
    }
