"""Rows of evaluations among those of training: they say so, or come back in the same order."""

from __future__ import annotations

import polars as pl

from workbench.diagnosis.logs.column_names import EVALUATION
from workbench.diagnosis.logs.column_values import null_false

STAGED = ("eval", "evaluation", "val", "valid", "validate", "validation")
"""What a column of stages, types or kinds says of an evaluation, and hardly of anything else."""

ENOUGH = 20
"""Prompts of a log from which on those that come back may be an evaluation's."""


def says_evaluation(split: pl.Series, stage: pl.Series) -> pl.Series:
    """Which rows say that they are an evaluation's. split, stage: text of the columns `SPLITS` and
    `STAGES`, null where there is none."""
    lower = split.str.to_lowercase(), stage.str.to_lowercase()
    return null_false(lower[0].is_in(EVALUATION)) | null_false(lower[1].is_in(STAGED))


def training_rows(table: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """Without evaluation's rows, where there are others: those that say so, and steps that are
    evaluations (`_evaluations`)."""
    said = table["evaluation"]
    count = int(said.sum())
    if count and count < table.height:
        return table.filter(~said), [f"{count:,} rows of evaluations are left out"]
    steps = _evaluations(table)
    if not steps:
        return _without_returning(table)
    words = f"{len(steps):,} steps (first: {steps[0]}) hold evaluations and are left out: the same "
    words += "prompts each time, at equal distance, that no other step has"
    return table.filter(~pl.col("step").is_in(steps)), [words]


def _evaluations(table: pl.DataFrame) -> list[int]:
    """Steps that hold an evaluation's rows in the place of training's: three or more with one set
    of prompts, at equal distance, at most half of all (or two, with more or fewer prompts than
    nearly all others); no other set comes twice, and their prompts are at no other step."""
    prompts = table.select("step", "prompt").unique()
    sets = prompts.group_by("step").agg(prompts=pl.col("prompt").sort().hash().sum(), many=pl.len())
    again = sets.filter(pl.col("prompts").is_duplicated())
    steps = again["step"].sort()
    gaps = steps.diff().drop_nulls()
    if len(steps) < 2 or again["prompts"].n_unique() > 1 or gaps.n_unique() > 1:
        return []
    if len(steps) == 2:
        other = sets.filter(~pl.col("step").is_in(steps.to_list()))["many"]
        if other.len() < 5 or (other == again["many"][0]).sum() > 0.1 * other.len():
            return []
    if gaps[0] < 2 or 2 * len(steps) > sets.height:
        return []
    mine = prompts.filter(pl.col("step").is_in(steps.to_list()))
    there = prompts.filter(pl.col("prompt").is_in(mine["prompt"].unique().to_list()))
    return steps.to_list() if mine.height == there.height else []


def _without_returning(table: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """Without an evaluation that stands in a part of some steps: prompts that come back together,
    three times or more at equal distance, where no other prompt comes back."""
    visits = (
        table.select("step", "prompt")
        .unique()
        .group_by("prompt")
        .agg(steps=pl.col("step").sort(), many=pl.len())
    )
    back = visits.filter(pl.col("many") > 1)
    often = back.height == back.filter(pl.col("many") > 2).height
    if visits.height < ENOUGH or back.is_empty() or back.height > 0.5 * visits.height or not often:
        return table, []
    at = pl.Series(back["steps"][0])
    gaps = at.diff().drop_nulls()
    together = back["steps"].list.eval(pl.element().hash()).list.sum().n_unique() == 1
    if not together or gaps.n_unique() > 1 or gaps[0] < 2:
        return table, []
    words = f"{back.height:,} prompts come back at {len(at):,} steps (first: {at[0]}), at equal "
    words += "distance, which no other does: evaluations, left out"
    return table.filter(~pl.col("prompt").is_in(back["prompt"].to_list())), [words]


__all__ = ["says_evaluation", "training_rows"]
