"""What a hit is where each task has a scale of its own: 0 and 1 here, -1 and 1 there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import polars as pl

from recast.quoting import plain_line
from workbench.diagnosis.logs.hits import BINARY, HitRule, Sure, hit_rule
from workbench.diagnosis.logs.rewards import RewardRule

SHOWN = 4
LEAST = 20
"""Rollouts of a task from which on its scale is looked at alone."""


def hits_of(
    rollouts: pl.DataFrame, reading: RewardRule, threshold: float | None, tolerance: float
) -> tuple[pl.DataFrame, HitRule]:
    """The rollouts, outcomes as 1 and 0 where the rule is no plain threshold, and the rule.

    Tasks are judged one by one where the rule for all of them together contradicts the plain scale
    (0 and 1, -1 and 1, -1 and 0) of one of them, or where there is no such rule and each task has
    one, and no task calls a miss what another calls a hit.
    """
    rule = hit_rule(rollouts, reading, threshold, tolerance)
    if rule.ranked:
        moving = pl.col("outcome").min().over("key") < -tolerance
        hit = moving & (pl.col("outcome") >= -tolerance)
        return rollouts.with_columns(outcome=hit.cast(pl.Float64)), rule
    if threshold is not None or rollouts["task"].n_unique() < 2:
        return rollouts, rule
    parts = {
        str(task[0]): part for task, part in rollouts.partition_by("task", as_dict=True).items()
    }
    own = {task: hit_rule(part, reading, None, tolerance) for task, part in parts.items()}
    if not _apart(parts, own, rule, tolerance):
        return rollouts, rule
    hit = pl.lit(False)
    for task, said in own.items():
        at = pl.lit(said.threshold) + tolerance
        hit = (
            pl.when(pl.col("task").cast(pl.String) == task)
            .then(pl.col("outcome") > at)
            .otherwise(hit)
        )
    words = "; ".join(f"{plain_line(t, 20)}: {said.how}" for t, said in list(own.items())[:SHOWN])
    more = f"; and {len(own) - SHOWN} more" if len(own) > SHOWN else ""
    sure: Sure = "known" if all(one.sure == "known" for one in own.values()) else "likely"
    by_task = replace(rule, threshold=0.5, sure=sure, how=f"judged task by task ({words}{more})",
                      rescaled=True)  # fmt: skip
    return rollouts.with_columns(outcome=hit.cast(pl.Float64)), by_task


def _apart(
    parts: Mapping[str, pl.DataFrame], own: Mapping[str, HitRule], whole: HitRule, tolerance: float
) -> bool:
    """Whether tasks must be judged one by one."""
    hits: set[float] = set()
    misses: set[float] = set()
    other = False
    for task, part in parts.items():
        rule = own[task]
        if rule.threshold is None or rule.ranked or part.height < LEAST:
            return False
        values = {float(value) for value in part["outcome"].round(6).unique()}
        mine = {value for value in values if value > rule.threshold + tolerance}
        said = whole.threshold
        differs = said is None or mine != {value for value in values if value > said + tolerance}
        plain = tuple(sorted(values)) in BINARY or len(values) == 1
        # A scale of several levels gives way to a rule that all tasks share.
        if differs and said is not None and not plain:
            return False
        other |= differs
        hits |= mine
        misses |= values - mine
    return other and not (hits & misses - {0.0})


__all__ = ["hits_of"]
