"""What tells the cells of a store apart, in words."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from workbench.analysis.rows import at_the_end
from workbench.spec.metrics import METRICS

_NOT_SETTINGS = ("engine",)


def varying_fields(frame: pl.DataFrame) -> list[str]:
    """The dotted configuration fields in which the runs of a frame differ."""
    fields = [name for name in frame.columns if "." in name and name not in _NOT_SETTINGS]
    return [name for name in fields if frame[name].n_unique() > 1]


def cell_labels(frame: pl.DataFrame, words: Callable[[str], str] = str) -> dict[str, str]:
    """Cell -> what sets it apart from the other cells of the frame, in order of appearance.

    A frame of one cell says its world and group width. words: what a field is called.
    """
    if frame.is_empty():
        return {}
    fields = varying_fields(frame)
    labels = {}
    for row in frame.unique("cell", maintain_order=True).iter_rows(named=True):
        parts = [f"{words(name)} = {row[name]}" for name in fields]
        if "engine" in frame.columns and frame["engine"].n_unique() > 1:
            parts.append(f"generation {row['engine']}")
        if not parts:
            parts = [f"{row['world']} world", f"G = {row['group']}"]
        labels[str(row["cell"])] = ", ".join(parts)
    if len(set(labels.values())) < len(labels):
        return {cell: f"{label} ({cell})" for cell, label in labels.items()}
    return labels


def run_table(frame: pl.DataFrame) -> pl.DataFrame:
    """One row per run after its last step on the test split, all users.

    Columns: strategy, lr, seed, tuned (null where one rate alone was tried), the fields that vary,
    each metric that has values, step, rollouts, diverged_at, cell, run.
    """
    if frame.is_empty():
        return frame
    last = at_the_end(frame.filter(split="test", slice="all"))
    known = [
        name
        for name in (
            *("strategy", "lr", "seed", "tuned"),
            *varying_fields(frame),
            *(name for name in METRICS if name in frame.columns and last[name].count()),
            *("step", "rollouts", "diverged_at", "cell", "run"),
        )
        if name in last.columns
    ]
    rates = pl.col("lr").n_unique().over("cell", "strategy")
    return (
        last.with_columns(tuned=pl.when(rates > 1).then("tuned"))
        .select(known)
        .sort("cell", "strategy", "lr", "seed")
    )
