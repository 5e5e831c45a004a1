"""Fields of a specification that came later, and how older runs keep their names without them.

A run's name is a hash of its configuration. A field that is added to a specification would rename
every run, so at the value under which a run is what it was before, the field stands in no
configuration; where a store holds runs with and without it, the reader fills it in.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import polars as pl
from pydantic import BaseModel

ADDED: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "world_spec": {"category": None, "heterogeneity": 0.0, "unlearnable": 0.0},
        "train_spec": {
            "decoding": "trie",
            "updates": "sampled",
            "precision": "float64",
            "iterate": "last",
            "schedule": "constant",
            "targets": "one",
        },
    }
)
"""Table of a configuration -> field -> the value at which it changes nothing."""

FORMER: Mapping[str, Mapping[str, Any]] = MappingProxyType({"train_spec": {"kernel": "torch"}})
"""The same of fields that every new configuration holds, and older ones left out at this value."""


def dumped(part: BaseModel, name: str, left_out: set[str] | None = None) -> dict[str, Any]:
    """One table of a specification as plain data, without `ADDED` fields that change nothing."""
    added = ADDED.get(name, {})
    whole = part.model_dump(mode="json", exclude=left_out)
    return {k: v for k, v in whole.items() if k not in added or v != added[k]}


def completed(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Stored runs of the simulator with the `ADDED` and `FORMER` fields that their configuration
    leaves out, where other runs beside them have these fields."""
    columns = rows.collect_schema().names()
    simulated = pl.col("world").is_in(["synthetic", "replay"])
    return rows.with_columns(
        pl.when(simulated).then(pl.col(name).fill_null(value)).otherwise(pl.col(name)).alias(name)
        for part, fields in (*ADDED.items(), *FORMER.items())
        for name, value in ((f"{part.removesuffix('_spec')}.{k}", v) for k, v in fields.items())
        if name in columns and "world" in columns
    )
