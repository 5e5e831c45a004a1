"""One run of a store, or a few beside one another: what each was told to do, did and spent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from recast.ledger import CostLedger

SPENT = tuple(CostLedger.__dataclass_fields__)
TOLD = ("strategy", "lr", "seed", "engine")
"""Settings without a dot in their name."""


def labelled(frame: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """Test rows of some runs in the order of keys, all users together, with a label per run:
    strategy, rate and seed."""
    rows = frame.filter(
        pl.col("run").is_in(list(keys)) & (pl.col("split") == "test") & (pl.col("slice") == "all")
    )
    place = {key: at for at, key in enumerate(keys)}
    return (
        rows.with_columns(
            label=pl.format("{}, rate {}, seed {}", "strategy", "lr", "seed"),
            _place=pl.col("run").replace_strict(place, default=len(place)),
        )
        .sort("_place", "step")
        .drop("_place")
    )


def settings(frame: pl.DataFrame, keys: Sequence[str], *, differing: bool) -> pl.DataFrame:
    """One row per setting, one column per run, values as text. differing: only settings in which
    the runs are not all alike."""
    first = frame.filter(pl.col("run").is_in(list(keys))).unique("run", keep="first")
    by_run = {row["run"]: row for row in first.iter_rows(named=True)}
    names = [name for name in frame.columns if name in TOLD or "." in name]
    rows: list[dict[str, Any]] = []
    for name in names:
        values = {key: _text(by_run[key][name]) for key in keys if key in by_run}
        if not differing or len(set(values.values())) > 1:
            rows.append({"setting": name, **values})
    schema = {"setting": pl.String, **{key: pl.String for key in keys if key in by_run}}
    return pl.DataFrame(rows, schema=schema)


def ledger(frame: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """What each run has spent at its end: one row per run, by label."""
    rows = labelled(frame, keys)
    if rows.is_empty():
        return rows
    last = rows.group_by("run", maintain_order=True).last()
    known = [name for name in SPENT if name in last.columns]
    return last.select("label", "step", *known, "run")


def _text(value: Any) -> str:
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
